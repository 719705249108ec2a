//! Coupa, QAD and the register, as far as the machines can see them.

use crate::gate::Rng;
use crate::harness::BEGINNING;
use domain::documents::Receipt;
use domain::ids::{DocumentKind, InvoiceId, OrderLineKey, QadInvoiceIdentity, ReceiptKey};
use domain::lifecycle::{Event, InvoiceRecord, State, Voucher};
use domain::payments::{
    Allocation, BillPayments, CoupaPaymentEntry, PaymentEntry, PaymentKey, PaymentStatus,
};
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::feed::Watermark;
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The one invoice.
pub const INVOICE: InvoiceId = InvoiceId(7_001);
/// What it bills, in pieces, and in the currency of the bill.
pub const BILLED: u32 = 100;

/// Keys of the writes that set the paid flag alone.
const FLAG_SET: &str = "paid flag set";
/// See [`FLAG_SET`].
const FLAG_CLEARED: &str = "paid flag cleared";

/// Which write to another system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The supplier invoice in QAD.
    Create,
    /// The exported flag in Coupa.
    Export,
    /// A payment entry in Coupa.
    Pay,
}

/// A hint in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Look at the invoice.
    Invoice,
    /// Look at the bill.
    Bill,
}

/// A record and the revision it was stored with.
#[derive(Debug, Clone)]
pub struct Stored<D> {
    /// Counts its writes; 0 when it is not there.
    pub revision: u64,
    /// The record.
    pub document: D,
}

/// A write that has not landed yet.
#[derive(Debug, Clone)]
pub struct Late {
    /// When it lands.
    pub at: i64,
    /// Who sent it.
    pub worker: u32,
    /// What.
    pub write: Write,
}

/// A write to another system.
#[derive(Debug, Clone)]
pub enum Write {
    /// The supplier invoice.
    Document,
    /// The exported flag.
    Exported,
    /// A payment entry.
    Entry(Box<PaymentEntry>),
}

/// A goods receipt, posted or not yet.
#[derive(Debug, Clone)]
pub struct Goods {
    /// Whether QAD shows it.
    pub posted: bool,
    /// What it says.
    pub receipt: Receipt,
}

/// One change of the register, all or nothing.
#[derive(Debug, Clone)]
pub enum Change {
    /// The invoice's record, with its events, and whether it is in the waiting index afterwards.
    Record {
        /// The revision it rests on.
        seen: u64,
        /// The record after it.
        document: Rc<InvoiceRecord>,
        /// Why.
        events: Vec<Event>,
    },
    /// The bill's ledger, and the revision of the poller's watermark that it rests on, if it does.
    Bill {
        /// The revision it rests on.
        seen: u64,
        /// The ledger after it.
        document: Rc<BillPayments>,
        /// The poller's right to record.
        right: Option<u64>,
    },
    /// Receipts as the poller saw them.
    Mirror(Vec<usize>),
    /// How far the receipts are read.
    ReceiptsRead {
        /// The revision it rests on.
        seen: u64,
        /// The watermark after it.
        watermark: Watermark,
    },
    /// How far the payments are read, or a claim to record.
    PaymentsRead {
        /// The revision it rests on.
        seen: u64,
        /// The rows that are safely in.
        known: BTreeSet<(usize, String)>,
    },
}

/// All of it.
pub struct Systems {
    /// True time.
    pub now: i64,
    /// The invoice's record.
    pub record: Stored<Rc<InvoiceRecord>>,
    /// The bill's ledger.
    pub bill: Stored<Rc<BillPayments>>,
    /// Whether the invoice is in the waiting index.
    pub waiting: bool,
    /// The receipts the poller has recorded.
    pub mirror: BTreeSet<usize>,
    /// How far the receipts are read.
    pub receipts_read: Stored<Option<Watermark>>,
    /// Which payments are safely in.
    pub payments_read: Stored<BTreeSet<(usize, String)>>,
    /// The queue: from when, what.
    pub queue: Vec<(i64, Hint)>,
    /// QAD's documents of the identity; true for one of ours.
    pub documents: Vec<bool>,
    /// Coupa's exported flag.
    pub exported: bool,
    /// Coupa's payment entries.
    pub entries: Vec<CoupaPaymentEntry>,
    /// Coupa's paid flag.
    pub paid: bool,
    /// The goods receipts.
    pub receipts: Vec<Goods>,
    /// QAD's payments.
    pub payments: Vec<Allocation>,
    /// Writes that have not landed.
    pub late: Vec<Late>,
    /// Changes of the trail that cannot be.
    pub torn: Vec<String>,
}

impl Systems {
    /// The beginning of a life.
    pub fn new(rng: &mut Rng) -> Self {
        let start = BEGINNING;
        let deliveries: &[u32] = if rng.per_mille(500) { &[BILLED] } else { &[60, 40] };
        let receipts = deliveries.iter().enumerate();
        let paid: &[u32] = match rng.below(4) {
            0 => &[BILLED],
            1 | 2 => &[60, 40],
            _ => &[60, 60],
        };
        let payments = paid.iter().enumerate();
        Self {
            now: start.0,
            record: Stored {
                revision: 0,
                document: Rc::new(InvoiceRecord::new(INVOICE, start)),
            },
            bill: Stored {
                revision: 0,
                document: Rc::new(BillPayments::new(
                    INVOICE,
                    Decimal::from(BILLED),
                    "USD".parse().unwrap(),
                )),
            },
            waiting: false,
            mirror: BTreeSet::new(),
            receipts_read: Stored {
                revision: 0,
                document: None,
            },
            payments_read: Stored {
                revision: 0,
                document: BTreeSet::new(),
            },
            queue: Vec::new(),
            documents: if rng.per_mille(100) {
                vec![false]
            } else {
                Vec::new()
            },
            exported: false,
            entries: Vec::new(),
            paid: false,
            receipts: receipts.map(|(number, pieces)| goods(number, *pieces)).collect(),
            payments: payments
                .map(|(number, amount)| payment(number, *amount))
                .collect(),
            late: Vec::new(),
            torn: Vec::new(),
        }
    }

    /// What QAD shows as received.
    pub fn received(&self) -> Vec<usize> {
        let posted = |(number, goods): (usize, &Goods)| goods.posted.then_some(number);
        self.receipts.iter().enumerate().filter_map(posted).collect()
    }

    /// A payment's status changes in QAD.
    pub fn payment_changes(&mut self, payment: usize, status: PaymentStatus) {
        self.payments[payment].status = status;
    }

    /// Makes a write there now.
    pub fn make(&mut self, write: &Write) {
        match write {
            Write::Document => self.documents.push(true),
            Write::Exported => self.exported = true,
            Write::Entry(entry) => {
                self.paid = entry.paid;
                if !entry.is_flag_only() {
                    self.entries.push(CoupaPaymentEntry {
                        amount: entry.amount,
                        date: Some(entry.date),
                        notes: entry.notes.clone(),
                    });
                }
            }
        }
    }

    /// Lets the late writes land whose time has come.
    pub fn land(&mut self) -> usize {
        let now = self.now;
        let (due, later): (Vec<Late>, Vec<Late>) = self.late.drain(..).partition(|late| late.at <= now);
        self.late = later;
        for late in &due {
            self.make(&late.write);
        }
        due.len()
    }

    /// How many there are of what a write would make.
    pub fn shown(&self, kind: Kind, key: &str) -> usize {
        match kind {
            Kind::Create => self.documents.len(),
            Kind::Export => usize::from(self.exported),
            Kind::Pay if key == FLAG_SET || key == FLAG_CLEARED => {
                usize::from(self.paid == (key == FLAG_SET))
            }
            Kind::Pay => self.entries.iter().filter(|entry| sign_key(entry) == key).count(),
        }
    }

    /// When the sweep must look, if at all.
    pub fn due(&self, timing: &Timing) -> Option<i64> {
        let record = (self.record.revision > 0)
            .then(|| self.record.document.due(timing))
            .flatten();
        let bill = (self.bill.revision > 0)
            .then(|| self.bill.document.due(timing))
            .flatten();
        [record, bill].into_iter().flatten().min().map(|due| due.0)
    }

    /// One transaction. False when another one was faster.
    pub fn commit(&mut self, change: &Change) -> bool {
        let stale = |seen: u64, there: u64| seen != there;
        match change {
            Change::Record {
                seen,
                document,
                events,
            } => {
                if stale(*seen, self.record.revision) {
                    return false;
                }
                let mut state = self.record.document.state.clone();
                for event in events {
                    match state.after(event) {
                        Ok(next) => state = next,
                        Err(illegal) => self
                            .torn
                            .push(format!("S14 the trail cannot be replayed: {illegal}")),
                    }
                }
                if state != document.state {
                    self.torn.push(format!(
                        "S14 the record is {} and its trail says {}",
                        document.state.word(),
                        state.word()
                    ));
                }
                self.waiting = matches!(document.state, State::Held { .. });
                self.record.revision += 1;
                self.record.document = Rc::clone(document);
            }
            Change::Bill {
                seen,
                document,
                right,
            } => {
                let overtaken = right.is_some_and(|right| stale(right, self.payments_read.revision));
                if overtaken || stale(*seen, self.bill.revision) {
                    return false;
                }
                self.bill.revision += 1;
                self.bill.document = Rc::clone(document);
            }
            Change::Mirror(receipts) => self.mirror.extend(receipts),
            Change::ReceiptsRead { seen, watermark } => {
                if stale(*seen, self.receipts_read.revision) {
                    return false;
                }
                self.receipts_read.revision += 1;
                self.receipts_read.document = Some(watermark.clone());
            }
            Change::PaymentsRead { seen, known } => {
                if stale(*seen, self.payments_read.revision) {
                    return false;
                }
                self.payments_read.revision += 1;
                self.payments_read.document = known.clone();
            }
        }
        true
    }
}

/// Key and sign of an entry: what there may be one of.
pub fn sign_key(entry: &CoupaPaymentEntry) -> String {
    let key = entry.notes.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("{key}{}", if entry.amount.is_sign_negative() { "-" } else { "+" })
}

/// The same of an entry that is to be written.
pub fn wanted_key(entry: &PaymentEntry) -> String {
    if entry.is_flag_only() {
        return if entry.paid { FLAG_SET } else { FLAG_CLEARED }.to_owned();
    }
    format!(
        "{}{}",
        entry.key,
        if entry.amount.is_sign_negative() { "-" } else { "+" }
    )
}

/// The line the invoice bills.
pub fn order_line() -> OrderLineKey {
    OrderLineKey {
        order: "PO7".parse().unwrap(),
        line: 1,
    }
}

/// The number QAD gives the document.
pub fn voucher() -> Voucher {
    Voucher {
        year: 2026,
        daybook: "SI".to_owned(),
        number: 7,
    }
}

fn goods(number: usize, pieces: u32) -> Goods {
    Goods {
        posted: false,
        receipt: Receipt {
            key: ReceiptKey {
                domain: "10USA".parse().unwrap(),
                receiver: format!("RC{number}").parse().unwrap(),
                order_line: order_line(),
            },
            received: Decimal::from(pieces),
            vouchered: Decimal::ZERO,
            unit: "EA".parse().unwrap(),
            date: BEGINNING.date_utc(),
            packing_slip: String::new(),
            currency: None,
            pending: Default::default(),
            closed: false,
            unit_cost: None,
            rounded: Vec::new(),
        },
    }
}

fn payment(number: usize, amount: u32) -> Allocation {
    let entity = "10USACO".parse().unwrap();
    let date = Timestamp(BEGINNING.0).date_utc();
    Allocation {
        key: PaymentKey::new(&entity, 2026, "ACH", &(700 + number).to_string(), "1").unwrap(),
        invoice: QadInvoiceIdentity {
            entity,
            supplier: "S1001".parse().unwrap(),
            reference: "INV-7001".parse().unwrap(),
            kind: DocumentKind::Invoice,
        },
        status: PaymentStatus::Initial,
        currency: "USD".parse().unwrap(),
        payment_date: date,
        last_modified: date,
        reference: "CHK".to_owned(),
        allocated: Decimal::from(amount),
        discount: Decimal::ZERO,
        in_invoice_currency: None,
        voucher: None,
    }
}
