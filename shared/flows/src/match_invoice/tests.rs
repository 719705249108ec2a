//! What a run claims, asks and remembers, against a small model of both systems.

mod named;

use super::*;
use crate::delivery::{FirstLook, Seat};
use crate::feed::tests::{Model, START, ready};
use crate::memory_register::MemoryRegister;
use crate::operator;
use crate::ports::{
    Chance, Clock, CoupaBill, CoupaTogether, DocumentOutcome, Flagged, InvoicePage, ReceiptScan, Register,
    Voucher, WriteError,
};
use async_trait::async_trait;
use domain::coupa_orders::{
    CoupaOrder, CoupaOrderLine, CoupaOrderPolicy, CoupaOrderReference, CoupaOrderStanding, CoupaOrderStatus,
};
use domain::documents::{
    Billed, Charge, ChargeKind, CodedShare, InvoiceLine, InvoiceSupplier, OrderLine, OrderStatus, Pending,
    Share, SourceVersion,
};
use domain::ids::ReceiptKey;
use domain::instruction::Instruction;
use domain::policy::{ChargeAccount, CodedField, Coding, PostingDate};
use domain::time::Date;
use domain::timing::Timing;
use futures_util::FutureExt;
use std::sync::{Arc, Mutex, MutexGuard};

const BILL: InvoiceId = InvoiceId(1);
const CREDIT: InvoiceId = InvoiceId(2);
const OTHER: InvoiceId = InvoiceId(3);

/// What both systems hold.
#[derive(Default)]
struct Held {
    invoices: BTreeMap<InvoiceId, Invoice>,
    coupa_orders: BTreeMap<String, CoupaOrder>,
    /// How often Coupa was asked for an order.
    asked: u32,
    orders: BTreeMap<PurchaseOrderNumber, Order>,
    receipts: Vec<Receipt>,
    documents: Vec<(QadDocument, SupplierInvoiceDraft)>,
    /// What people have entered in QAD.
    keyed: Vec<QadDocument>,
    /// QAD says nothing about its documents.
    is_silent: bool,
    /// QAD takes nothing.
    is_down: bool,
    /// Somebody else writes this invoice's record while QAD is looked at for the first time.
    rival_of: Option<InvoiceId>,
    /// How often QAD was looked at before a creation.
    looked_up: u32,
}

/// Coupa, QAD and the register, with a clock that stands.
struct Shop {
    held: Mutex<Held>,
    register: MemoryRegister,
    clock: Model,
    tokens: std::sync::atomic::AtomicU64,
    settings: InvoiceSettings,
}

impl Chance for Shop {
    fn token(&self) -> String {
        let number = self.tokens.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("token-{number}")
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

#[async_trait]
impl Coupa for Shop {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        Ok(self.held().invoices.get(&id).cloned())
    }
    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        let mut held = self.held();
        held.asked += 1;
        Ok(held.coupa_orders.get(number).cloned())
    }
    async fn exportable_invoices(&self, _: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        panic!("a run reads one invoice")
    }
    async fn mark_exported(&self, id: InvoiceId, _: &str) -> Result<Flagged, WriteError> {
        if let Some(invoice) = self.held().invoices.get_mut(&id) {
            invoice.exported = true;
        }
        Ok(Flagged::default())
    }
    async fn record_outcome(&self, _: InvoiceId, _: &DocumentOutcome, _: &str) -> Result<(), WriteError> {
        Ok(())
    }
}

#[async_trait]
impl Qad for Shop {
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
        Ok(self.held().orders.get(number).cloned())
    }
    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
        let held = self.held();
        let of_order = held
            .receipts
            .iter()
            .filter(|one| one.key.order_line.order == *number);
        Ok(of_order.cloned().collect())
    }
    async fn receipts_since(&self, _: Date, _: u32) -> Result<ReceiptScan, ReadError> {
        panic!("a run reads the receipts of its orders")
    }
    async fn books_are_open(&self, _: Date) -> Result<Option<bool>, ReadError> {
        Ok(None)
    }
    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
        let rival_of = self.held().rival_of.take();
        if let Some(id) = rival_of {
            let change = Change::<_, Event> {
                document: InvoiceRecord::new(id, self.clock.now()),
                events: vec![],
                writes: vec![],
            };
            save(&self.context(&Timing::default()), 0, change).await.unwrap();
        }
        let mut held = self.held();
        held.looked_up += 1;
        if held.is_silent {
            let problem = Problem::new("SILENT", "Nothing to do.");
            return Err(ReadError::Unavailable {
                retry_after: None,
                problem,
            });
        }
        let created = held.documents.iter().map(|(document, _)| document);
        let of_identity = created.chain(&held.keyed).filter(|one| one.identity == *identity);
        Ok(of_identity.cloned().collect())
    }
    async fn create_invoice(&self, draft: &SupplierInvoiceDraft, _: &str) -> Result<QadDocument, WriteError> {
        let mut held = self.held();
        if held.is_down {
            let problem = Problem::new("DOWN", "Nothing to do.");
            return Err(WriteError::NotApplied {
                retry_after: None,
                problem,
            });
        }
        for found in &draft.matches {
            for receipt in held.receipts.iter_mut().filter(|receipt| {
                receipt.key.receiver == found.receiver && receipt.key.order_line == found.order_line
            }) {
                receipt.vouchered += found.quantity;
            }
        }
        let document = QadDocument {
            voucher: Some(Voucher {
                year: draft.posting_date.year().try_into().unwrap(),
                daybook: draft.daybook.to_string(),
                number: held.documents.len() as u64 + 1,
            }),
            identity: draft.identity.clone(),
            currency: draft.currency,
            total: draft.total,
            description: draft.description(),
        };
        held.documents.push((document.clone(), draft.clone()));
        Ok(document)
    }
}

fn account(code: &str) -> ChargeAccount {
    ChargeAccount {
        gl_account: code.parse().unwrap(),
        sub_account: String::new(),
        cost_center: String::new(),
        project: String::new(),
    }
}

pub(crate) fn settings() -> InvoiceSettings {
    let policy = MatchPolicy {
        tolerance: Default::default(),
        domain: "10USA".parse().unwrap(),
        entity: "10USACO".parse().unwrap(),
        invoice_daybook: "SI".parse().unwrap(),
        credit_note_daybook: "SC".parse().unwrap(),
        matching_daybook: "RM".parse().unwrap(),
        invoice_status: "AP-RMALLOC".to_owned(),
        posting_date: PostingDate::InvoiceDate,
        first_open_day: None,
        credit_terms: BTreeMap::new(),
        charge_accounts: [(ChargeKind::Shipping, account("6100"))].into(),
        units: BTreeMap::new(),
        coupa_orders: CoupaOrderPolicy::default(),
        gl_status: "AP-GLALLOC".to_owned(),
        lines: Default::default(),
        credits: Default::default(),
        coding: Some(Coding {
            gl_account: CodedField {
                field: "code".to_owned(),
                map: BTreeMap::new(),
            },
            sub_account: None,
            cost_center: None,
            project: None,
        }),
        not_payable: Default::default(),
        remit_to: Default::default(),
        patience: Default::default(),
        minor_units: BTreeMap::new(),
        coupa_instance: String::new(),
    };
    InvoiceSettings {
        policy,
        recheck_millis: 3_600_000,
        outcomes: Outcomes::Nothing,
        adopt_equal_documents: true,
        second_person: SecondPerson::default(),
        zone: Zone::default(),
    }
}

fn key() -> OrderLineKey {
    OrderLineKey {
        order: "PO1".parse().unwrap(),
        line: 1,
    }
}

/// Line 1 of order PO1, for so many at such a price.
fn billed(number: u32, quantity: i64, price: i64) -> InvoiceLine {
    InvoiceLine {
        number,
        description: "Bolt".to_owned(),
        billed: Billed::Quantity {
            quantity: quantity.into(),
            unit_price: price.into(),
            unit: None,
        },
        total: (quantity * price).into(),
        adjustment: None,
        order_line: Some(key()),
        order_line_unmapped: None,
        coding: vec![CodedShare {
            account: [("code".to_owned(), "6150".to_owned())].into(),
            share: Share::Whole,
        }],
        failed_tolerances: false,
        coupa_order: Some(CoupaOrderReference {
            order: "PO1".to_owned(),
            line_id: None,
            line: Some("1".to_owned()),
        }),
    }
}

pub(crate) fn bill(id: InvoiceId, quantity: i64, price: i64) -> Invoice {
    Invoice {
        id,
        source: SourceVersion {
            updated_at: Timestamp(START),
            content_sha256: format!("content of {id}"),
        },
        status: CoupaStatus::Approved,
        exported: false,
        kind: DocumentKind::Invoice,
        reference: format!("INV-{id}").parse().unwrap(),
        original_reference: None,
        particulars: Default::default(),
        invoice_date: "2026-03-05".parse().unwrap(),
        supplier: InvoiceSupplier {
            coupa_id: Some(1),
            number: Some("10S1001".to_owned()),
            also: Vec::new(),
            name: "Example Castings".to_owned(),
        },
        currency: "USD".parse().unwrap(),
        payment_term: None,
        total: (quantity * price).into(),
        tax: Decimal::ZERO,
        charges: Vec::new(),
        lines: vec![billed(1, quantity, price)],
        terms: Default::default(),
        entity_fields: Default::default(),
        coupa_orders: Vec::new(),
    }
}

/// Freight of 50.00 alone.
fn freight() -> Invoice {
    let mut bill = bill(BILL, 0, 10);
    bill.total = Decimal::from(50);
    bill.charges = vec![Charge {
        kind: ChargeKind::Shipping,
        amount: Decimal::from(50),
        coding: Vec::new(),
    }];
    bill
}

/// A credit note that is the negative of a bill.
fn cancels(id: InvoiceId, bill: &Invoice) -> Invoice {
    let mut credit = Invoice {
        id,
        kind: DocumentKind::CreditNote,
        reference: format!("CN-{id}").parse().unwrap(),
        original_reference: Some(bill.reference.to_string()),
        total: -bill.total,
        ..bill.clone()
    };
    for charge in &mut credit.charges {
        charge.amount = -charge.amount;
    }
    for line in &mut credit.lines {
        line.total = -line.total;
        if let Billed::Quantity { quantity, .. } = &mut line.billed {
            *quantity = -*quantity;
        }
    }
    credit
}

fn receipt(receiver: &str, received: i64) -> Receipt {
    Receipt {
        key: ReceiptKey {
            domain: "10USA".parse().unwrap(),
            receiver: receiver.parse().unwrap(),
            order_line: key(),
        },
        received: received.into(),
        vouchered: Decimal::ZERO,
        unit: "EA".parse().unwrap(),
        date: "2026-03-01".parse().unwrap(),
        packing_slip: String::new(),
        currency: None,
        pending: Pending::NotShown,
        closed: false,
        unit_cost: None,
        rounded: Vec::new(),
    }
}

fn order(ordered: i64, price: i64) -> Order {
    Order {
        number: "PO1".parse().unwrap(),
        supplier: "10S1001".to_owned(),
        currency: "USD".parse().unwrap(),
        evaluated_receipts: false,
        entity: None,
        lines: vec![OrderLine {
            number: 1,
            part: "01010".to_owned(),
            description: "Bolt".to_owned(),
            unit: "EA".parse().unwrap(),
            ordered: ordered.into(),
            received: Decimal::ZERO,
            unit_price: price.into(),
            discount_percent: Decimal::ZERO,
            scheduled: false,
            consignment: false,
            evaluated_receipts: None,
            rounded: Vec::new(),
            status: OrderStatus::Open,
        }],
    }
}

fn home() -> Home {
    Home {
        connection: "acme".parse().unwrap(),
        tenant: domain::ids::QadTenant::at("https://qad.example.com"),
    }
}

impl Shop {
    /// PO1 line 1: so many at 10.00, and these documents.
    fn with(ordered: i64, receipts: Vec<Receipt>, invoices: Vec<Invoice>) -> Self {
        let order = order(ordered, 10);
        let held = Held {
            invoices: invoices.into_iter().map(|one| (one.id, one)).collect(),
            orders: [(order.number.clone(), order)].into(),
            receipts,
            ..Held::default()
        };
        Self {
            held: Mutex::new(held),
            register: MemoryRegister::new(),
            clock: Model::new(0, 1),
            tokens: Default::default(),
            settings: settings(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    fn context<'a>(&'a self, timing: &'a Timing) -> Context<'a> {
        Context {
            register: &self.register,
            clock: &self.clock,
            chance: self,
            timing,
            deadline: Timestamp(START + 600_000),
        }
    }

    /// Looks at an invoice: the state it rests in, and its codes.
    fn look(&self, id: InvoiceId) -> String {
        self.look_with(&Reads::default(), id)
    }

    /// The same, with others in the delivery.
    fn look_with(&self, reads: &Reads<'_>, id: InvoiceId) -> String {
        let timing = Timing::default();
        let deps = Deps {
            context: self.context(&timing),
            home: &home(),
            coupa: self,
            qad: self,
            reads,
            index: &self.register,
            settings: &self.settings,
            entities: &[],
        };
        match ready(run(&deps, id, HintReason::Webhook)).unwrap() {
            Rest::In { record, .. } => {
                let words = std::iter::once(record.state.word().to_owned()).chain(record.state.codes());
                words.collect::<Vec<_>>().join(" ")
            }
            other => other.word().to_owned(),
        }
    }

    fn record(&self, id: InvoiceId) -> Loaded<InvoiceRecord> {
        ready(load(&self.register, RecordKey::Invoice(id)))
            .unwrap()
            .unwrap()
    }

    /// A person looks at an invoice that is in QAD, and then names the document that it has anyway.
    fn park_and_adopt(&self, id: InvoiceId) {
        let timing = Timing::default();
        let context = self.context(&timing);
        let Loaded { document, revision } = self.record(id);
        let voucher = document.state.voucher().cloned();
        let reason = ParkReason::InQad {
            problem: Problem::new("QAD_DUPLICATE_DOCUMENTS", "Reverse one."),
            voucher: voucher.clone(),
        };
        let now = self.clock.now();
        let change = change_at(now, &self.settings, &document, Event::Parked { reason }).unwrap();
        ready(save(&context, revision, change)).unwrap();
        let deps = operator::AdoptDeps {
            context,
            home: &home(),
            coupa: self,
            qad: self,
            settings: &self.settings,
            entities: &[],
        };
        let adoption = operator::Adoption {
            voucher: voucher.unwrap(),
            accepted_total: None,
            instruction: Instruction::new("kim", "the other one was reversed").unwrap(),
        };
        assert!(
            ready(operator::adopt(&deps, id, adoption, false))
                .unwrap()
                .changed
        );
    }

    /// What QAD has in all, and what of it is on receivers.
    fn in_qad(&self) -> (Decimal, Decimal) {
        let held = self.held();
        let totals = held.documents.iter().map(|(document, _)| document.total);
        let matches = held.documents.iter().flat_map(|(_, draft)| &draft.matches);
        (totals.sum(), matches.map(|found| found.quantity).sum())
    }

    fn coupa_order(&self, receipt_required: bool, received: i64) {
        let not_told = CoupaOrderStatus::not_told;
        let order = CoupaOrder {
            number: "PO1".to_owned(),
            status: CoupaOrderStatus {
                standing: CoupaOrderStanding::Open,
                word: "issued".to_owned(),
            },
            lines: vec![CoupaOrderLine {
                id: Some(9001),
                number: Some("1".to_owned()),
                status: not_told(),
                receipt_required: Some(receipt_required),
                received: Some(received.into()),
            }],
        };
        self.held().coupa_orders.insert("PO1".to_owned(), order);
    }
}

/// No list shows anything.
struct Blank;

#[async_trait]
impl CoupaTogether for Blank {
    async fn invoices(&self, _: &[InvoiceId]) -> Result<Vec<Invoice>, ReadError> {
        Ok(Vec::new())
    }
    async fn coupa_orders(&self, _: &[String]) -> Result<Vec<CoupaOrder>, ReadError> {
        Ok(Vec::new())
    }
    async fn bills(&self, _: &[InvoiceId]) -> Result<Vec<CoupaBill>, ReadError> {
        Ok(Vec::new())
    }
}

/// What is written takes its time, and so does what is looked for again in QAD.
#[test]
fn the_first_looks_of_a_delivery_do_not_wait_for_an_invoice_that_is_under_way() {
    let shop = Shop::with(10, vec![receipt("RC1", 10)], vec![bill(BILL, 10, 10)]);
    shop.held().is_down = true;
    assert_eq!(shop.look(BILL), "approved");
    shop.clock.world().elapsed += 300_000;
    let gathering = Arc::default();
    let [under_way, other] = [Seat::at(&gathering), Seat::at(&gathering)];
    let timing = Timing::default();
    let context = shop.context(&timing);
    let first_look = FirstLook::of(&other, Some(&Blank));
    let mut looks = Box::pin(first_look.of_document(&context, OTHER, async { Ok(None) }));
    assert!((&mut looks).now_or_never().is_none(), "the first may still look");
    let reads = Reads {
        first_look: FirstLook::of(&under_way, Some(&Blank)),
        ..Reads::default()
    };
    assert_eq!(shop.look_with(&reads, BILL), "approved");
    assert!(looks.now_or_never().is_some());
}

#[test]
fn an_invoice_is_cancelled_once_also_while_the_first_credit_note_is_on_its_way() {
    for original in [bill(BILL, 10, 10), freight()] {
        let invoices = vec![
            original.clone(),
            cancels(CREDIT, &original),
            cancels(OTHER, &original),
        ];
        let shop = Shop::with(10, vec![receipt("RC1", 10)], invoices);
        assert_eq!(shop.look(BILL), "exported");
        shop.held().is_down = true;
        assert_eq!(shop.look(CREDIT), "approved");
        assert_eq!(shop.look(OTHER), "parked ORIGINAL_ALREADY_CANCELLED");
        shop.held().is_down = false;
        shop.clock.world().elapsed += 300_000;
        assert_eq!(shop.look(CREDIT), "exported");
        assert_eq!(shop.look(OTHER), "parked ORIGINAL_ALREADY_CANCELLED");
        assert_eq!(shop.in_qad(), (Decimal::ZERO, Decimal::ZERO));
    }
}

/// Lines that say an amount and nothing else are no goods, and what they cancel is cancelled all the same, and once.
#[test]
fn what_is_billed_as_an_amount_is_cancelled_once_and_without_a_return() {
    let by_amount = |mut invoice: Invoice| {
        invoice.lines[0].billed = Billed::Amount;
        invoice
    };
    for original in [bill(BILL, 10, 10), by_amount(bill(BILL, 10, 10))] {
        let invoices = vec![
            original.clone(),
            by_amount(cancels(CREDIT, &original)),
            by_amount(cancels(OTHER, &original)),
        ];
        let shop = Shop::with(10, vec![], invoices);
        assert!(shop.look(BILL).starts_with("held "));
        assert_eq!(shop.look(CREDIT), "held ORIGINAL_NOT_POSTED");
        shop.held().receipts.push(receipt("RC1", 10));
        for id in [BILL, CREDIT] {
            assert_eq!(shop.look(id), "exported");
        }
        assert_eq!(shop.look(OTHER), "parked ORIGINAL_ALREADY_CANCELLED");
        assert_eq!(shop.in_qad(), (Decimal::ZERO, Decimal::ZERO));
    }
}

#[test]
fn a_credit_note_that_is_named_anew_by_a_person_is_counted_once() {
    let original = bill(BILL, 10, 10);
    let part = |id, pieces| {
        let mut credit = cancels(InvoiceId(id), &bill(BILL, pieces, 10));
        credit.reference = format!("CN-{id}").parse().unwrap();
        credit
    };
    let invoices = vec![original, part(2, 4), part(3, 1), part(4, 5), part(5, 1)];
    let shop = Shop::with(10, vec![receipt("RC1", 10)], invoices);
    assert_eq!(shop.look(BILL), "exported");
    shop.held().receipts.push(receipt("RT1", -20));
    assert_eq!(shop.look(CREDIT), "exported");
    // While nobody else has been counted since, and afterwards.
    shop.park_and_adopt(CREDIT);
    assert_eq!(shop.look(CREDIT), "exported");
    assert_eq!(shop.look(OTHER), "exported");
    shop.park_and_adopt(CREDIT);
    assert_eq!(shop.look(CREDIT), "exported");
    assert_eq!(shop.look(InvoiceId(4)), "exported");
    assert_eq!(shop.look(InvoiceId(5)), "parked CREDITED_OVER_BILLED");
}

/// A clock at which somebody else writes the invoice between reading and writing, until there were so many pauses.
struct Rival<'a> {
    shop: &'a Shop,
    until: u32,
    pauses: Mutex<u32>,
}

#[async_trait]
impl Clock for Rival<'_> {
    fn now(&self) -> Timestamp {
        if *self.pauses.lock().unwrap() < self.until {
            let Loaded { document, revision } = self.shop.record(BILL);
            let change = Change::<_, Event> {
                document,
                events: vec![],
                writes: vec![],
            };
            ready(save(&self.shop.context(&Timing::default()), revision, change)).unwrap();
        }
        self.shop.clock.now()
    }
    async fn sleep(&self, _: Duration) {
        *self.pauses.lock().unwrap() += 1;
    }
}

#[test]
fn whoever_wakes_another_pauses_between_tries_and_says_when_they_run_out() {
    for (until, is_woken) in [(WAKE_TRIES_MAX - 1, true), (WAKE_TRIES_MAX, false)] {
        let shop = Shop::with(10, vec![], vec![bill(BILL, 10, 10)]);
        assert!(shop.look(BILL).starts_with("held "));
        let rival = Rival {
            shop: &shop,
            until,
            pauses: Mutex::default(),
        };
        let timing = Timing::default();
        let context = Context {
            clock: &rival,
            ..shop.context(&timing)
        };
        assert_eq!(ready(wake(&context, BILL, true)).unwrap(), is_woken);
        assert_eq!(*rival.pauses.lock().unwrap(), until);
        let record = shop.record(BILL).document;
        let is_due = record.look_again == Some(shop.clock.now());
        assert_eq!(is_due, is_woken, "what could not be woken keeps its own recheck");
        assert!(record.look_again.is_some());
    }
}

#[test]
fn a_decision_that_somebody_overtakes_is_stored_nowhere_and_made_again() {
    let shop = Shop::with(10, vec![receipt("RC1", 10)], vec![bill(BILL, 10, 10)]);
    shop.held().rival_of = Some(BILL);
    assert_eq!(shop.look(BILL), "exported");
    assert_eq!(
        shop.held().looked_up,
        2,
        "each decision looks before it is stored"
    );
    assert_eq!(shop.in_qad(), (Decimal::from(100), Decimal::from(10)));
    let trail = ready(shop.register.audit(&crate::store::invoice_audit_name(BILL))).unwrap();
    let told: String = trail.iter().map(|entry| entry.events.as_str()).collect();
    assert_eq!(told.matches("\"event\":\"approved\"").count(), 1, "{told}");
    assert_eq!(
        trail.len(),
        3,
        "approved and claimed; posted and claimed; exported"
    );
}

#[test]
fn what_qad_turns_out_to_hold_before_the_first_send_ends_a_decision_that_is_stored() {
    let shop = Shop::with(10, vec![receipt("RC1", 10)], vec![bill(BILL, 10, 10)]);
    assert_eq!(shop.look(BILL), "exported");
    // The register is lost, and with it everything but what QAD holds.
    let again = Shop::with(10, vec![receipt("RC1", 10)], vec![bill(BILL, 10, 10)]);
    again.held().documents = shop.held().documents.clone();
    assert_eq!(again.look(BILL), "exported");
    assert_eq!(again.in_qad().0, Decimal::from(100), "nothing is sent");
    let trail = ready(again.register.audit(&crate::store::invoice_audit_name(BILL))).unwrap();
    let first = trail.first().unwrap();
    assert!(
        first.events.contains("approved") && !first.events.contains("posted"),
        "{}",
        first.events
    );
}

#[test]
fn what_replaced_a_cancelled_invoice_is_not_taken_back_for_it() {
    let original = bill(BILL, 10, 10);
    let again = bill(InvoiceId(4), 10, 10);
    let invoices = vec![
        original.clone(),
        cancels(CREDIT, &original),
        cancels(OTHER, &original),
        again,
    ];
    let shop = Shop::with(10, vec![receipt("RC1", 10)], invoices);
    for id in [BILL, CREDIT, InvoiceId(4)] {
        assert_eq!(shop.look(id), "exported");
    }
    assert_eq!(shop.look(OTHER), "parked ORIGINAL_ALREADY_CANCELLED");
    assert_eq!(shop.in_qad(), (Decimal::from(100), Decimal::from(10)));
}

#[test]
fn a_credit_note_that_came_to_nothing_leaves_the_invoice_to_another() {
    let original = bill(BILL, 10, 10);
    let invoices = vec![
        original.clone(),
        cancels(CREDIT, &original),
        cancels(OTHER, &original),
    ];
    let shop = Shop::with(10, vec![receipt("RC1", 10)], invoices);
    shop.look(BILL);
    shop.held().is_down = true;
    assert_eq!(shop.look(CREDIT), "approved");
    shop.held().is_down = false;
    if let Some(credit) = shop.held().invoices.get_mut(&CREDIT) {
        credit.status = CoupaStatus::Voided;
        credit.source.content_sha256 = "voided".to_owned();
    }
    assert_eq!(shop.look(CREDIT), "voided");
    assert_eq!(shop.look(OTHER), "exported");
    assert_eq!(shop.in_qad(), (Decimal::ZERO, Decimal::ZERO));
}

#[test]
fn the_original_is_known_in_whatever_state_it_is() {
    // Another bill's goods went back: no return of ours.
    let shop_of = |change: fn(&mut Invoice)| {
        let mut original = bill(BILL, 10, 10);
        let credit = cancels(CREDIT, &original);
        change(&mut original);
        let mut received = receipt("RC1", 10);
        received.vouchered = Decimal::TEN;
        Shop::with(20, vec![received, receipt("RT1", -10)], vec![original, credit])
    };
    let paid = shop_of(|bill| bill.terms.paid = true);
    assert!(paid.look(BILL).starts_with("parked "), "{}", paid.look(BILL));
    assert_eq!(paid.look(CREDIT), "held ORIGINAL_NOT_POSTED");

    let taken_back = shop_of(|_| ());
    assert!(taken_back.look(BILL).starts_with("held "));
    if let Some(bill) = taken_back.held().invoices.get_mut(&BILL) {
        bill.status = CoupaStatus::Other("pending_approval".to_owned());
    }
    assert_eq!(taken_back.look(BILL), "received");
    assert_eq!(taken_back.look(CREDIT), "held ORIGINAL_NOT_POSTED");

    let voided = shop_of(|bill| bill.status = CoupaStatus::Voided);
    assert_eq!(voided.look(BILL), "voided");
    assert_eq!(voided.look(CREDIT), "parked ORIGINAL_NOT_IN_QAD");
    // Entered again under the same number: that one is waited for.
    let mut again = bill(InvoiceId(4), 10, 10);
    again.reference = "inv-1".parse().unwrap();
    voided.held().invoices.insert(again.id, again);
    assert!(voided.look(InvoiceId(4)).starts_with("held "));
    assert_eq!(voided.look(CREDIT), "held ORIGINAL_NOT_POSTED");

    // Exported by another system before this product knew it, another supplier's, another number: none of it.
    for change in [
        |bill: &mut Invoice| bill.exported = true,
        |bill: &mut Invoice| {
            bill.terms.paid = true;
            bill.supplier = InvoiceSupplier {
                coupa_id: Some(2),
                number: Some("10S1002".to_owned()),
                also: Vec::new(),
                name: "Another".to_owned(),
            };
        },
        |bill: &mut Invoice| {
            bill.terms.paid = true;
            bill.reference = "INV-11".parse().unwrap();
        },
    ] {
        let shop = shop_of(change);
        shop.look(BILL);
        assert_eq!(shop.look(CREDIT), "exported");
    }
}

#[test]
fn a_two_way_line_goes_to_the_ledger_where_its_match_would_park_it_and_nobody_else_pays_for_the_question() {
    let service = |on: OnLine| {
        let mut shop = Shop::with(1, Vec::new(), vec![bill(BILL, 40, 50)]);
        shop.settings.policy.lines.without_receipt = on;
        shop.held()
            .orders
            .insert("PO1".parse().unwrap(), order(1, 10_000));
        shop.coupa_order(false, 0);
        shop
    };
    let by_coupa = service(OnLine::Gl);
    assert_eq!(by_coupa.look(BILL), "exported");
    assert_eq!(by_coupa.in_qad(), (Decimal::from(2_000), Decimal::ZERO));
    assert_eq!(by_coupa.held().asked, 1);
    let by_receipts = service(OnLine::Park);
    assert!(by_receipts.look(BILL).starts_with("parked "));
    assert_eq!(by_receipts.held().asked, 0);
}

#[test]
fn what_coupa_alone_has_received_is_posted_once() {
    let received = |bills: Vec<Invoice>| {
        let mut shop = Shop::with(1, Vec::new(), bills);
        shop.settings.policy.lines.order_only_in_coupa = OnOrderOnlyInCoupa::Gl;
        shop.held().orders.clear();
        shop.coupa_order(true, 60);
        shop
    };
    let shop = received(vec![bill(BILL, 60, 10), bill(OTHER, 60, 10)]);
    shop.held().is_down = true;
    assert_eq!(shop.look(BILL), "approved");
    assert_eq!(
        shop.look(OTHER),
        "held ORDER_NOT_FOUND",
        "while the first is on its way"
    );
    shop.held().is_down = false;
    shop.clock.world().elapsed += 300_000;
    assert_eq!(shop.look(BILL), "exported");
    assert_eq!(shop.look(OTHER), "held ORDER_NOT_FOUND", "and when it is there");
    shop.coupa_order(true, 120);
    assert_eq!(shop.look(OTHER), "exported");
    let mut third = bill(InvoiceId(4), 1, 10);
    third.reference = "INV-4".parse().unwrap();
    shop.held().invoices.insert(third.id, third);
    assert_eq!(shop.look(InvoiceId(4)), "held ORDER_NOT_FOUND");

    let shop = received(vec![bill(BILL, 60, 10), bill(OTHER, 60, 10)]);
    shop.held().is_down = true;
    assert_eq!(shop.look(BILL), "approved");
    shop.held().is_down = false;
    if let Some(bill) = shop.held().invoices.get_mut(&BILL) {
        bill.status = CoupaStatus::Voided;
        bill.source.content_sha256 = "voided".to_owned();
    }
    assert_eq!(shop.look(BILL), "voided");
    assert_eq!(shop.look(OTHER), "exported", "the first came to nothing");
}

#[test]
fn a_bill_that_was_entered_again_is_told_at_once_whatever_was_received() {
    let mut again = bill(OTHER, 10, 10);
    again.reference = "inv-1".parse().unwrap();
    let shop = Shop::with(20, vec![receipt("RC1", 10)], vec![bill(BILL, 10, 10), again]);
    assert_eq!(shop.look(BILL), "exported");
    assert_eq!(shop.look(OTHER), "parked DUPLICATE_REFERENCE RECEIPT_SHORT");
}

#[test]
fn a_number_that_begins_anew_is_released_once_in_its_year() {
    let dated = |id: InvoiceId, day: &str| {
        let mut bill = bill(id, 10, 10);
        bill.reference = "1001".parse().unwrap();
        bill.invoice_date = day.parse().unwrap();
        bill
    };
    let receipts = ["RC1", "RC2", "RC3"]
        .map(|receiver| receipt(receiver, 10))
        .to_vec();
    let bills = vec![
        dated(BILL, "2025-01-10"),
        dated(OTHER, "2026-01-12"),
        dated(InvoiceId(4), "2026-01-13"),
    ];
    let shop = Shop::with(30, receipts, bills);
    assert_eq!(shop.look(BILL), "exported");
    assert_eq!(shop.look(OTHER), "parked DUPLICATE_REFERENCE_OTHER_YEAR");
    let release = |id| {
        let timing = Timing::default();
        let why = Instruction::new("kim", "their numbers begin anew").unwrap();
        ready(operator::release(
            &shop.context(&timing),
            id,
            why,
            &SecondPerson::default(),
            false,
        ))
        .unwrap();
        shop.look(id)
    };
    shop.held().is_down = true;
    assert_eq!(release(OTHER), "approved");
    assert_eq!(shop.look(InvoiceId(4)), "parked DUPLICATE_REFERENCE_OTHER_YEAR");
    assert_eq!(release(InvoiceId(4)), "parked DUPLICATE_REFERENCE");
    shop.held().is_down = false;
    shop.clock.world().elapsed += 300_000;
    assert_eq!(shop.look(OTHER), "exported");
    assert_eq!(shop.look(InvoiceId(4)), "parked DUPLICATE_REFERENCE");
    assert_eq!(shop.in_qad(), (Decimal::from(200), Decimal::from(20)));
}
