//! A register with as many invoices, suppliers and bills as a test wants, laid down without the flows that would have written
//! them: what a question costs does not depend on how they came there.

use crate::memory_register::MemoryRegister;
use domain::ids::{DocumentKind, InvoiceId};
use domain::index::View;
use domain::lifecycle::{Event, InvoiceRecord, ParkReason, PostedHow, Summary, Voucher};
use domain::matching::{Exception, ExceptionCode};
use domain::payments::BillPayments;
use domain::problem::Problem;
use domain::suppliers::{SupplierId, SupplierRecord, SupplierState};
use domain::time::Timestamp;
use flows::bills::bill_key;
use flows::index::entries::{ENTRIES, PARKED_BILLS, PARKED_SUPPLIERS, PROPOSED_SUPPLIERS, SupplierRow};
use flows::index::{AWAITED_LIST, HELD_LIST, NOW, Row, list_of};
use flows::ports::{Commit, IndexWrite, RecordKey, RecordWrite, Tally};
use flows::sync_suppliers::key_of;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Since when all of it stands where it stands.
const SINCE: Timestamp = Timestamp(1_764_000_000_000);
/// The id that the templates have, and what stands for it in their text.
const TEMPLATE: u64 = 7_777_777;

fn put(key: RecordKey, body: String) -> RecordWrite {
    RecordWrite::Put {
        key,
        seen: 0,
        body,
        state: String::new(),
        due: None,
    }
}

fn row(list: &str, id: String, body: &str) -> RecordWrite {
    RecordWrite::Index(IndexWrite::Put {
        list: list.to_owned(),
        id,
        body: body.to_owned(),
    })
}

fn count(sheet: &str, names: &[&str], count: u64) -> RecordWrite {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let tally = Tally {
        count,
        amount: Decimal::from(count),
    };
    RecordWrite::Index(IndexWrite::Count {
        sheet: sheet.to_owned(),
        part: 0,
        changes: names
            .iter()
            .map(|name| ((*name).to_owned(), tally))
            .collect::<BTreeMap<_, _>>(),
    })
}

fn template(event: &Event) -> Option<InvoiceRecord> {
    let mut record = InvoiceRecord::new(InvoiceId(TEMPLATE), SINCE)
        .after(event, SINCE)
        .ok()?;
    record.coupa_supplier = Some(TEMPLATE);
    record.summary = Some(Summary {
        reference: format!("INV-{TEMPLATE}").parse().ok()?,
        kind: DocumentKind::Invoice,
        supplier_name: "Example Castings".into(),
        supplier_number: None,
        invoice_date: "2026-03-05".parse().ok()?,
        total: Decimal::ONE,
        currency: "USD".parse().ok()?,
        orders: vec![format!("PO{TEMPLATE}").parse().ok()?],
        particulars: domain::documents::InvoiceParticulars::default(),
    });
    Some(record)
}

fn exception(code: ExceptionCode) -> Exception {
    Exception {
        code,
        line: None,
        order_line: None,
        expected: String::new(),
        actual: String::new(),
        limit: String::new(),
    }
}

/// What is laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Half of the invoices parked because their supplier is not known, half held for a receipt; a tenth as many suppliers that
    /// are proposed and bills that are parked.
    Waiting,
    /// All posted; a tenth as many suppliers that need nobody and bills that are settled.
    Done,
}

/// Lays down what stands between two sizes: so many invoices, and what belongs to them. `None` is a fault of the templates.
pub fn fill(register: &MemoryRegister, of: Of, from: u64, to: u64) -> Option<()> {
    each(of, from, to, &mut |commit| register.lay_down(&commit))
}

/// What would be laid down, piece by piece, without a token.
pub fn each(of: Of, from: u64, to: u64, lay: &mut dyn FnMut(Commit)) -> Option<()> {
    let parked = template(&Event::Parked {
        reason: ParkReason::Match {
            exceptions: vec![exception(ExceptionCode::SupplierNotLinked)],
        },
    })?;
    let held = template(&Event::Held {
        exceptions: vec![exception(ExceptionCode::ReceiptMissing)],
        awaits: vec![],
        tolerance_version: String::new(),
    })?;
    let posted = template(&Event::Approved {
        identity: String::new(),
        request_sha256: String::new(),
        tolerance_version: String::new(),
        coupa_orders: vec![],
    })?;
    let posted = posted.after(
        &Event::Posted {
            voucher: Voucher {
                year: 2026,
                daybook: "SI".into(),
                number: TEMPLATE,
            },
            how: PostedHow::Created,
        },
        SINCE,
    );
    let texts = [&parked, &held, &posted.ok()?].map(|record| {
        (
            serde_json::to_string(record).unwrap_or_default(),
            serde_json::to_string(&Row::of(record)).unwrap_or_default(),
        )
    });
    for id in from.saturating_add(1)..=to {
        let is_held = id.checked_rem(2) == Some(0);
        let (body, shown) = match of {
            Of::Waiting => texts.get(usize::from(is_held))?,
            Of::Done => texts.last()?,
        };
        let named = |text: &str| text.replace(&TEMPLATE.to_string(), &id.to_string());
        let (body, shown) = (named(body), named(shown));
        let place = format!("{:020}-{id:020}", SINCE.0);
        let mut writes = vec![put(RecordKey::Invoice(InvoiceId(id)), body)];
        let (view, code) = match of {
            Of::Done => (View::Posted, None),
            Of::Waiting if is_held => {
                writes.push(row(HELD_LIST, place.clone(), &shown));
                (View::Waits, Some("RECEIPT_MISSING"))
            }
            Of::Waiting => {
                writes.push(row(AWAITED_LIST, format!("{id:020}-{id:020}"), &shown));
                writes.push(count(&format!("awaited/{id}"), &["USD"], 1));
                (View::NeedsYou, Some("SUPPLIER_NOT_LINKED"))
            }
        };
        writes.push(row(&list_of(view, None), place.clone(), &shown));
        if code.is_some() {
            writes.push(row(&list_of(view, code), place, &shown));
        }
        for found in [
            format!("INV{id}"),
            format!("PO{id}"),
            "=1".to_owned(),
            "EXAMPLECASTINGS".to_owned(),
        ] {
            writes.push(row(&format!("find/{found}"), format!("{id:020}"), "{}"));
        }
        if id.checked_rem(10) == Some(0) {
            writes.extend(supplier(id, of)?);
            writes.extend(bill(id, of)?);
        }
        let commit = Commit {
            writes,
            ..Commit::default()
        };
        lay(commit);
    }
    if of == Of::Done {
        let names = ["view/posted/USD", "state/posted/USD"];
        lay(Commit {
            writes: vec![count(NOW, &names, to.saturating_sub(from))],
            ..Commit::default()
        });
        return Some(());
    }
    let half = to.saturating_sub(from).checked_div(2)?;
    let needs = [
        "view/needs-you/USD",
        "code/needs-you/SUPPLIER_NOT_LINKED/USD",
        "state/parked/USD",
    ];
    let waits = [
        "view/waits/USD",
        "code/waits/RECEIPT_MISSING/USD",
        "state/held/USD",
    ];
    for names in [needs, waits] {
        lay(Commit {
            writes: vec![count(NOW, &names, half)],
            ..Commit::default()
        });
    }
    Some(())
}

fn supplier(id: u64, of: Of) -> Option<Vec<RecordWrite>> {
    let mut record = SupplierRecord::new(SupplierId::Coupa(id), SINCE);
    if of == Of::Done {
        let body = serde_json::to_string(&record).ok()?;
        return Some(vec![put(key_of(&record.id), body)]);
    }
    record.state = SupplierState::Parked {
        problem: Problem::new("SUPPLIER_AMBIGUOUS", ""),
        coupa: None,
        by: None,
        candidates: vec![],
    };
    let shown = SupplierRow {
        id: record.id.clone(),
        words: format!("Coupa {id} \"Example\""),
        perhaps: vec![(
            SupplierId::Qad(format!("S{id}").parse().ok()?),
            format!("QAD S{id}"),
        )],
        why: "SUPPLIER_AMBIGUOUS".to_owned(),
    };
    let shown = serde_json::to_string(&shown).ok()?;
    let name = record.id.to_string();
    Some(vec![
        put(key_of(&record.id), serde_json::to_string(&record).ok()?),
        row(PARKED_SUPPLIERS, name.clone(), &shown),
        row(PROPOSED_SUPPLIERS, name, &shown),
        count(ENTRIES, &[PARKED_SUPPLIERS, PROPOSED_SUPPLIERS, PARKED_BILLS], 1),
    ])
}

fn bill(id: u64, of: Of) -> Option<Vec<RecordWrite>> {
    let mut bill = BillPayments::new(InvoiceId(id), Decimal::ONE, "USD".parse().ok()?);
    if of == Of::Done {
        let body = serde_json::to_string(&bill).ok()?;
        return Some(vec![put(bill_key(bill.invoice), body)]);
    }
    bill.parked = Some(Problem::new("PAYMENT_AMBIGUOUS", ""));
    Some(vec![
        put(bill_key(bill.invoice), serde_json::to_string(&bill).ok()?),
        row(PARKED_BILLS, format!("{id:020}"), "{}"),
    ])
}
