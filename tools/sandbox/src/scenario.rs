//! The seeded day: about fifty invoices as data, covering every state an invoice can come to, and the script that
//! brings them there. The same seed gives the same day.
//!
//! A scenario is data: what Coupa and QAD hold at the start, the steps somebody plays, and where each invoice must
//! stand at the end. [`play`] does what a step does to the world; sending events and waiting for states is up to the
//! caller, who runs the product. All names are fictional.

mod companies;
mod coupa_orders;
pub mod lookups;
pub mod payable;
pub mod payments;
mod suppliers;

pub use companies::{
    CHART_FIELD, CHARTS, STRANGERS_CHART, chart_of, company_of, of_a_stranger, of_two_companies,
};
pub use coupa_orders::{CoupaOrderChange, Place};
pub use suppliers::{
    ExpectedSupplier, SupplierChange, before_the_day, expected_suppliers, is_in_coupa, supplier_stories,
};

use crate::faults::{Fault, FaultRule, Faults, RetryAfter, System, scramble};
use crate::world::coupa::{CoupaCharge, CoupaInvoice, CoupaLine};
use crate::world::qad::{
    DOMAIN, ENTITY, Exact, PaymentAllocation, PurchaseOrderLink, QadOrder, QadOrderLine, QadReceipt,
    QadRefusal, Supplier, SupplierInvoiceRecord, qad_date,
};
use crate::world::{World, WriteRefusal};
use domain::coupa_orders::CoupaOrderPolicy;
use domain::documents::ChargeKind;
use domain::ids::{DocumentKind, IdError};
use domain::policy::{
    ChargeAccount, CodedField, Coding, LinePolicy, MatchPolicy, OnLine, PostingDate, Tolerance,
    UnitConversion,
};
use domain::time::{Date, Timestamp};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One story of the day.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub about: &'static str,
    /// Suppliers it needs; the same one may stand in several scenarios.
    pub suppliers: Vec<Supplier>,
    /// Orders in QAD at the start.
    pub orders: Vec<QadOrder>,
    /// Receipts and returns in QAD at the start.
    pub receipts: Vec<QadReceipt>,
    /// Supplier invoices that somebody keyed into QAD by hand.
    pub qad_invoices: Vec<SupplierInvoiceRecord>,
    /// Invoices in Coupa at the start.
    pub invoices: Vec<CoupaInvoice>,
    /// How orders stand in Coupa at the start, where not simply issued.
    pub coupa_orders: Vec<CoupaOrderChange>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Where each of its invoices stands at the end.
    pub expected: Vec<Expected>,
}

/// What happens.
#[derive(Debug, Clone)]
pub enum Step {
    /// Coupa sends an event about an invoice; the receiver must answer with `status`. For the caller.
    SendEvent {
        /// About which invoice.
        invoice: u64,
        /// How it is sent.
        delivery: Delivery,
        /// HTTP status that must be answered.
        status: u16,
    },
    /// The script goes on when the product shows the invoice in this state. For the caller.
    WaitForState {
        /// Which invoice.
        invoice: u64,
        /// The state's word.
        state: &'static str,
    },
    /// Somebody posts a receipt or a return in QAD, today.
    PostReceipt(QadReceipt),
    /// An order appears in QAD.
    AddOrder(QadOrder),
    /// QAD's payments change: a new allocation, or another status of a known one, today.
    SavePayment(PaymentAllocation),
    /// The script goes on when Coupa shows so many payments of the invoice. For the caller.
    WaitForPayments {
        /// Which invoice.
        invoice: u64,
        /// How many entries.
        entries: usize,
    },
    /// An order changes in Coupa.
    ChangeCoupaOrder(CoupaOrderChange),
    /// Coupa has the order too, and sends an event about it. For the caller.
    SendOrderEvent(QadOrder),
    /// Somebody approves the invoice in Coupa.
    Approve(u64),
    /// Somebody voids the invoice in Coupa.
    Void(u64),
    /// The next requests go wrong.
    ArmFault(FaultRule),
    /// All tokens of a system stop being good.
    ExpireTokens(System),
    /// Somebody keys or changes a supplier.
    ChangeSupplier(SupplierChange),
    /// The script goes on when Coupa has a supplier of this number. For the caller.
    WaitForSupplier(&'static str),
}

/// How an event is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Signed, once.
    Genuine,
    /// Signed, so many times with the same delivery id.
    Repeated(u8),
    /// Signed with a secret that is not ours.
    Forged,
    /// Signed, but the body is no event.
    Garbage,
}

/// Where an invoice stands at the end of the day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Which.
    pub invoice: u64,
    /// The state's word.
    pub state: &'static str,
    /// The reason codes, in any order; `None` when the scenario does not fix them.
    pub codes: Option<Vec<&'static str>>,
    /// Supplier invoices in QAD with its identity.
    pub qad_documents: usize,
    /// Coupa's exported flag.
    pub exported: bool,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played {
    /// It is done.
    Done,
    /// It is the caller's: an event to send, a state to wait for.
    Callers,
}

/// Does what a step does to the world.
pub fn play(
    step: &Step,
    world: &mut World,
    faults: &mut Faults,
    now: Timestamp,
) -> Result<Played, WriteRefusal> {
    let qad = |refusal: QadRefusal| WriteRefusal::Qad(vec![refusal]);
    match step {
        Step::SendEvent { .. }
        | Step::WaitForState { .. }
        | Step::WaitForPayments { .. }
        | Step::WaitForSupplier(_)
        | Step::SendOrderEvent(_) => return Ok(Played::Callers),
        Step::SavePayment(payment) => payments::save(world, payment, now),
        Step::PostReceipt(receipt) => {
            let mut receipt = receipt.clone();
            receipt.date = now.date_utc();
            world.qad.post_receipt(receipt).map_err(qad)?;
        }
        Step::AddOrder(order) => world.qad.add_order(order.clone()),
        Step::Approve(id) => world.coupa.approve(*id, now).map_err(WriteRefusal::Coupa)?,
        Step::Void(id) => world.coupa.void(*id, now).map_err(WriteRefusal::Coupa)?,
        Step::ArmFault(rule) => faults.arm(rule.clone()),
        Step::ExpireTokens(system) => world.expire_tokens(*system),
        Step::ChangeSupplier(change) => change.apply(world, now),
        Step::ChangeCoupaOrder(change) => change.apply(world, now),
    }
    Ok(Played::Done)
}

/// The settings of the connection under which the day ends as [`Scenario::expected`] says.
pub fn policy() -> Result<MatchPolicy, IdError> {
    let unit = |code: &str, factor: Decimal| {
        Ok((
            code.to_owned(),
            UnitConversion {
                to: "EA".parse()?,
                factor,
                items: BTreeMap::new(),
            },
        ))
    };
    let account = |gl: &str| {
        Ok(ChargeAccount {
            gl_account: gl.parse()?,
            sub_account: String::new(),
            cost_center: String::new(),
            project: String::new(),
        })
    };
    let segment = |field: &str| CodedField {
        field: field.to_owned(),
        map: BTreeMap::new(),
    };
    Ok(MatchPolicy {
        tolerance: Tolerance::default(),
        domain: DOMAIN.parse()?,
        entity: ENTITY.parse()?,
        invoice_daybook: "SI".parse()?,
        credit_note_daybook: "SC".parse()?,
        matching_daybook: "RM".parse()?,
        invoice_status: "AP-RMALLOC".to_owned(),
        posting_date: PostingDate::Latest,
        first_open_day: None,
        credit_terms: BTreeMap::from([("NET30".to_owned(), "N30".parse()?)]),
        charge_accounts: BTreeMap::from([
            (ChargeKind::Shipping, account("6100")?),
            (ChargeKind::Handling, account("6200")?),
        ]),
        units: BTreeMap::from([unit("PCE", Decimal::ONE)?, unit("BX", Decimal::from(12))?]),
        coupa_instance: String::new(),
        coupa_orders: CoupaOrderPolicy::default(),
        gl_status: "AP-GLALLOC".to_owned(),
        lines: LinePolicy {
            without_order: OnLine::Gl,
            ..LinePolicy::default()
        },
        credits: Default::default(),
        coding: Some(Coding {
            gl_account: segment("segment-2"),
            sub_account: None,
            cost_center: Some(segment("segment-3")),
            project: None,
        }),
        not_payable: Default::default(),
        remit_to: Default::default(),
        patience: Default::default(),
        minor_units: Default::default(),
    })
}

/// The day of a seed.
pub fn day(seed: u64) -> Vec<Scenario> {
    let mut day = Day::new(seed);
    straight_through(&mut day);
    receipts(&mut day);
    differences(&mut day);
    identities(&mut day);
    money(&mut day);
    credit_notes(&mut day);
    order_states(&mut day);
    spellings(&mut day);
    voids(&mut day);
    faulty_answers(&mut day);
    events(&mut day);
    coupa_orders::coupa_orders(&mut day);
    payable::payable(&mut day);
    day.scenarios
}

// ---------------------------------------------------------------------------------------------------------------
// Building blocks
// ---------------------------------------------------------------------------------------------------------------

const INVOICE_DATE: Date = jiff::civil::date(2026, 3, 5);
const RECEIPT_DATE: Date = jiff::civil::date(2026, 3, 2);
/// Delay of the late commit, well inside any settle window.
const LATE_COMMIT_MS: u32 = 1_500;

/// A decimal from its digits and the number of those after the point.
fn dec(digits: i64, places: u32) -> Decimal {
    Decimal::new(digits, places)
}

/// An amount from its whole units and its hundredths.
fn amount(units: u32, hundredths: u32) -> Decimal {
    whole(units).saturating_add(Decimal::new(i64::from(hundredths), 2))
}

fn whole(number: u32) -> Decimal {
    Decimal::from(number)
}

/// The suppliers of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seller {
    Fasteners,
    Castings,
    Tooling,
    Duebel,
    Unlinked,
    Coatings,
}

impl Seller {
    fn supplier(self) -> Supplier {
        let (coupa_id, name, number, currency) = match self {
            Self::Fasteners => (5001, "Example Fasteners", Some("S1001"), "USD"),
            Self::Castings => (5002, "Example Castings", Some("S1002"), "USD"),
            Self::Tooling => (5003, "Example Tooling KK", Some("S1003"), "JPY"),
            Self::Duebel => (5004, "Beispiel Dübel GmbH", Some("00104"), "EUR"),
            Self::Unlinked => (5005, "Example Paint", None, "USD"),
            Self::Coatings => (5006, "Example Coatings", None, "USD"),
        };
        Supplier {
            coupa_id,
            name: name.to_owned(),
            coupa_number: number.map(str::to_owned),
            qad_code: number.map(str::to_owned),
            currency: currency.to_owned(),
        }
    }
}

/// Numbers its documents and varies quantities from the seed.
struct Day {
    scenarios: Vec<Scenario>,
    seed: u64,
    draws: u64,
    next_invoice: u64,
    next_order: u32,
    next_receiver: u32,
}

impl Day {
    fn new(seed: u64) -> Self {
        Self {
            scenarios: Vec::new(),
            seed,
            draws: 0,
            next_invoice: 92_001,
            next_order: 4_500_101,
            next_receiver: 801,
        }
    }

    /// A quantity from `least` to `least` + 49.
    fn some(&mut self, least: u32) -> Decimal {
        self.draws = self.draws.saturating_add(1);
        let drawn = scramble(self.seed.wrapping_add(self.draws)).wrapping_rem(50);
        Decimal::from(drawn).saturating_add(whole(least))
    }

    fn case(
        &mut self,
        name: &'static str,
        about: &'static str,
        seller: Seller,
        tell: impl FnOnce(&mut Case<'_>),
    ) {
        let supplier = seller.supplier();
        let scenario = Scenario {
            name,
            about,
            suppliers: vec![supplier.clone()],
            orders: Vec::new(),
            receipts: Vec::new(),
            qad_invoices: Vec::new(),
            invoices: Vec::new(),
            coupa_orders: Vec::new(),
            steps: Vec::new(),
            expected: Vec::new(),
        };
        let mut case = Case {
            day: self,
            supplier,
            scenario,
        };
        tell(&mut case);
        let scenario = case.scenario;
        self.scenarios.push(scenario);
    }
}

struct Case<'a> {
    day: &'a mut Day,
    supplier: Supplier,
    scenario: Scenario,
}

/// A line to bill of an order.
#[derive(Debug, Clone)]
struct Bill {
    order: String,
    line: u32,
    quantity: Decimal,
    price: Decimal,
}

impl Bill {
    fn of(&self, quantity: Decimal) -> Self {
        Self {
            quantity,
            ..self.clone()
        }
    }

    fn at(&self, price: Decimal) -> Self {
        Self {
            price,
            ..self.clone()
        }
    }
}

impl Case<'_> {
    /// An order with one line, in QAD from the start.
    fn order(&mut self, quantity: Decimal, price: Decimal) -> Bill {
        self.order_with(quantity, price, |_| {})
    }

    fn order_with(&mut self, quantity: Decimal, price: Decimal, edit: impl FnOnce(&mut QadOrder)) -> Bill {
        let (mut order, bill) = self.later_order(quantity, price);
        edit(&mut order);
        self.scenario.orders.push(order);
        bill
    }

    /// An order that is not in QAD yet.
    fn later_order(&mut self, quantity: Decimal, price: Decimal) -> (QadOrder, Bill) {
        let number = format!("PO{}", self.day.next_order);
        self.day.next_order = self.day.next_order.saturating_add(1);
        let bill = Bill {
            order: number.clone(),
            line: 1,
            quantity,
            price,
        };
        let order = QadOrder {
            number,
            supplier: self
                .supplier
                .qad_code
                .clone()
                .unwrap_or_else(|| "S1001".to_owned()),
            currency: self.supplier.currency.clone(),
            status: String::new(),
            evaluated_receipts: false,
            domain: DOMAIN.to_owned(),
            other_entity: None,
            lines: vec![order_line(&bill)],
        };
        (order, bill)
    }

    /// One more line on the order made last.
    fn another_line(&mut self, quantity: Decimal, price: Decimal) -> Bill {
        let mut bill = Bill {
            order: String::new(),
            line: 1,
            quantity,
            price,
        };
        if let Some(order) = self.scenario.orders.last_mut() {
            bill.order.clone_from(&order.number);
            bill.line = order
                .lines
                .iter()
                .map(|line| line.number)
                .max()
                .unwrap_or(0)
                .saturating_add(1);
            order.lines.push(order_line(&bill));
        }
        bill
    }

    fn receipt(&mut self, bill: &Bill, quantity: Decimal) -> QadReceipt {
        let receiver = format!("RC{:06}", self.day.next_receiver);
        self.day.next_receiver = self.day.next_receiver.saturating_add(1);
        QadReceipt {
            packing_slip: format!("PS-{receiver}"),
            receiver,
            order: bill.order.clone(),
            line: bill.line,
            quantity: Exact(quantity),
            is_return: false,
            date: RECEIPT_DATE,
            vouchered: Exact::default(),
            logistics_charge: String::new(),
            finished: false,
            unit_cost: None,
            domain: DOMAIN.to_owned(),
            consigned: false,
        }
    }

    /// Received before the day begins.
    fn received(&mut self, bill: &Bill, quantity: Decimal) {
        self.received_with(bill, quantity, |_| {});
    }

    fn received_with(&mut self, bill: &Bill, quantity: Decimal, edit: impl FnOnce(&mut QadReceipt)) {
        let mut receipt = self.receipt(bill, quantity);
        edit(&mut receipt);
        self.scenario.receipts.push(receipt);
    }

    /// An order of one line, received in full.
    fn received_order(&mut self, quantity: Decimal, price: Decimal) -> Bill {
        let bill = self.order(quantity, price);
        self.received(&bill, quantity);
        bill
    }

    /// An approved invoice that bills these lines.
    fn invoice(&mut self, bills: &[Bill]) -> u64 {
        self.invoice_with(bills, |_| {})
    }

    fn invoice_with(&mut self, bills: &[Bill], edit: impl FnOnce(&mut CoupaInvoice)) -> u64 {
        let id = self.day.next_invoice;
        self.day.next_invoice = id.saturating_add(1);
        let mut invoice = CoupaInvoice {
            id,
            number: format!("INV-{id}"),
            kind: DocumentKind::Invoice,
            original_number: None,
            status: "approved".to_owned(),
            exported: false,
            was_exported: false,
            paid: false,
            payment_date: None,
            payment_notes: None,
            payments: Vec::new(),
            invoice_date: INVOICE_DATE,
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            supplier: self.supplier.coupa_id,
            currency: self.supplier.currency.clone(),
            payment_term: Some("NET30".to_owned()),
            total: None,
            line_level_taxation: false,
            tax: Decimal::ZERO,
            charges: Vec::new(),
            lines: (1..).zip(bills).map(invoice_line).collect(),
            custom_fields: Map::new(),
            overrides: beside(),
        };
        edit(&mut invoice);
        self.scenario.invoices.push(invoice);
        id
    }

    /// How an order stands in Coupa from the start.
    fn in_coupa(&mut self, change: CoupaOrderChange) {
        self.scenario.coupa_orders.push(change);
    }

    fn step(&mut self, step: Step) {
        self.scenario.steps.push(step);
    }

    fn send(&mut self, invoice: u64) {
        self.step(Step::SendEvent {
            invoice,
            delivery: Delivery::Genuine,
            status: 202,
        });
    }

    fn fault(&mut self, system: System, operation: &str, key: &str, fault: Fault) {
        self.step(Step::ArmFault(FaultRule::next(
            system,
            operation,
            Some(key),
            fault,
        )));
    }

    fn expect(
        &mut self,
        invoice: u64,
        state: &'static str,
        codes: &[&'static str],
        documents: usize,
        exported: bool,
    ) {
        self.scenario.expected.push(Expected {
            invoice,
            state,
            codes: Some(codes.to_vec()),
            qad_documents: documents,
            exported,
        });
    }

    fn posted(&mut self, invoice: u64) {
        self.expect(invoice, "exported", &[], 1, true);
    }

    fn held(&mut self, invoice: u64, code: &'static str) {
        self.expect(invoice, "held", &[code], 0, false);
    }

    fn parked(&mut self, invoice: u64, code: &'static str) {
        self.expect(invoice, "parked", &[code], 0, false);
    }

    /// What a clerk keyed into QAD: no receivers, another description.
    fn keyed_by_hand(&mut self, invoice: u64, total: Decimal) {
        self.scenario.qad_invoices.push(SupplierInvoiceRecord {
            entity_code: ENTITY.to_owned(),
            domain_code: DOMAIN.to_owned(),
            supplier_code: self.supplier.qad_code.clone().unwrap_or_default(),
            supplier_invoice_reference: format!("INV-{invoice}"),
            invoice_type: "INVOICE".to_owned(),
            daybook_code: "SI".to_owned(),
            matching_daybook_code: "RM".to_owned(),
            currency_code: self.supplier.currency.clone(),
            invoice_date: qad_date(INVOICE_DATE),
            posting_date: qad_date(INVOICE_DATE),
            credit_terms_code: None,
            invoice_status_code: "AP-INITIAL".to_owned(),
            total_amount: Exact(total),
            tax_amount: Exact::default(),
            description: "Keyed from paper".to_owned(),
            purchase_orders: Vec::<PurchaseOrderLink>::new(),
            receiver_matchings: Vec::new(),
            additional_costs: Vec::new(),
            invoice_link: None,
            data_operation: "C".to_owned(),
            concurrency_hash: String::new(),
        });
    }
}

fn order_line(bill: &Bill) -> QadOrderLine {
    QadOrderLine {
        number: bill.line,
        part: format!("02-{:04}", bill.line),
        description: "Example bracket".to_owned(),
        unit: "EA".to_owned(),
        ordered: Exact(bill.quantity),
        unit_price: Exact(bill.price),
        terms: Default::default(),
        status: String::new(),
    }
}

fn invoice_line((number, bill): (u32, &Bill)) -> CoupaLine {
    CoupaLine {
        number,
        description: "Example bracket".to_owned(),
        quantity: Some(bill.quantity),
        price: bill.price,
        unit: Some("EA".to_owned()),
        total: None,
        order: Some(bill.order.clone()),
        order_line: Some(bill.line),
        tax: Decimal::ZERO,
        overrides: Map::new(),
    }
}

fn edit_first_line(invoice: &mut CoupaInvoice, edit: impl FnOnce(&mut CoupaLine)) {
    if let Some(line) = invoice.lines.first_mut() {
        edit(line);
    }
}

fn edit_order_line(order: &mut QadOrder, edit: impl FnOnce(&mut QadOrderLine)) {
    if let Some(line) = order.lines.first_mut() {
        edit(line);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The stories
// ---------------------------------------------------------------------------------------------------------------

fn straight_through(day: &mut Day) {
    day.case(
        "single line",
        "One line, one receipt.",
        Seller::Fasteners,
        |case| {
            let quantity = case.day.some(50);
            let bill = case.received_order(quantity, amount(12, 50));
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.posted(invoice);
        },
    );
    day.case(
        "several lines",
        "Three lines of one order.",
        Seller::Fasteners,
        |case| {
            let quantity = case.day.some(10);
            let first = case.received_order(quantity, amount(3, 10));
            let second = case.another_line(whole(25), dec(48, 1));
            let third = case.another_line(whole(4), amount(199, 99));
            case.received(&second, whole(25));
            case.received(&third, whole(4));
            let invoice = case.invoice(&[first, second, third]);
            case.send(invoice);
            case.posted(invoice);
        },
    );
    day.case(
        "several orders",
        "One invoice for two orders.",
        Seller::Castings,
        |case| {
            let first = case.received_order(whole(8), amount(75, 0));
            let second = case.received_order(whole(12), amount(20, 25));
            let invoice = case.invoice(&[first, second]);
            case.posted(invoice);
        },
    );
    day.case(
        "price within tolerance",
        "1.5 percent over the order.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(100, 0));
            let invoice = case.invoice(&[bill.at(amount(101, 50))]);
            case.posted(invoice);
        },
    );
    day.case(
        "zero line",
        "A line without value beside a good one.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(6), amount(5, 0));
            let note = case.another_line(whole(1), amount(1, 0)).of(Decimal::ZERO);
            let invoice = case.invoice(&[bill, note]);
            case.posted(invoice);
        },
    );
}

fn receipts(day: &mut Day) {
    day.case(
        "first in, first out",
        "Three receivers; the oldest are used first.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(100), amount(2, 0));
            case.received(&bill, whole(30));
            case.received_with(&bill, whole(30), |receipt| {
                receipt.date = jiff::civil::date(2026, 3, 1)
            });
            case.received(&bill, whole(40));
            let invoice = case.invoice(&[bill.of(whole(70))]);
            case.posted(invoice);
        },
    );
    day.case(
        "partly invoiced before",
        "60 of 100 are invoiced already.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(100), amount(2, 0));
            case.received_with(&bill, whole(100), |receipt| receipt.vouchered = Exact(whole(60)));
            let invoice = case.invoice(&[bill.of(whole(40))]);
            case.posted(invoice);
        },
    );
    day.case(
        "freight row beside the goods",
        "A logistics row of the receiver is not goods.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(4, 0));
            case.received_with(&bill, whole(10), |receipt| {
                receipt.logistics_charge = "FREIGHT".to_owned()
            });
            let invoice = case.invoice(&[bill]);
            case.posted(invoice);
        },
    );
    day.case(
        "held for receipt",
        "Nothing received by the end of the day.",
        Seller::Castings,
        |case| {
            let bill = case.order(whole(60), amount(11, 0));
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.held(invoice, "RECEIPT_MISSING");
        },
    );
    day.case(
        "released by a receipt",
        "Held, then the warehouse posts the receipt.",
        Seller::Castings,
        |case| {
            let quantity = case.day.some(20);
            let bill = case.order(quantity, amount(11, 0));
            let receipt = case.receipt(&bill, quantity);
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "held",
            });
            case.step(Step::PostReceipt(receipt));
            case.posted(invoice);
        },
    );
    day.case(
        "partial, then the rest",
        "40 of 100 received, later the other 60.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(100), amount(7, 25));
            case.received(&bill, whole(40));
            let rest = case.receipt(&bill, whole(60));
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "held",
            });
            case.step(Step::PostReceipt(rest));
            case.posted(invoice);
        },
    );
    day.case(
        "order appears later",
        "QAD gets the order after the invoice.",
        Seller::Fasteners,
        |case| {
            let (order, bill) = case.later_order(whole(15), amount(9, 0));
            let receipt = case.receipt(&bill, whole(15));
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "held",
            });
            case.step(Step::AddOrder(order));
            case.step(Step::PostReceipt(receipt));
            case.posted(invoice);
        },
    );
    day.case(
        "order never appears",
        "QAD does not have the order.",
        Seller::Fasteners,
        |case| {
            let (_, bill) = case.later_order(whole(5), amount(9, 0));
            let invoice = case.invoice(&[bill]);
            case.held(invoice, "ORDER_NOT_FOUND");
        },
    );
}

fn differences(day: &mut Day) {
    day.case(
        "price over tolerance",
        "8 percent over the order.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(120), amount(10, 0));
            let invoice = case.invoice(&[bill.at(amount(10, 80))]);
            case.parked(invoice, "PRICE_OVER_TOLERANCE");
        },
    );
    day.case(
        "received over ordered",
        "110 billed, 100 ordered, 110 received: what QAD accepted is the authority.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(100), amount(10, 0));
            case.received(&bill, whole(110));
            let invoice = case.invoice(&[bill.of(whole(110))]);
            case.posted(invoice);
        },
    );
    day.case(
        "price far too low",
        "1.00 billed, 100.00 ordered: somebody asks before it comes back.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(100, 0));
            let invoice = case.invoice(&[bill.at(amount(1, 0))]);
            case.parked(invoice, "PRICE_UNDER_TOLERANCE");
        },
    );
    day.case(
        "currency differs",
        "The order is in dollars, the invoice in euros.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| invoice.currency = "EUR".to_owned());
            case.parked(invoice, "CURRENCY_DIFFERS");
        },
    );
    day.case(
        "unit differs",
        "Billed in kilograms, ordered in pieces.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                edit_first_line(invoice, |line| line.unit = Some("KG".to_owned()));
            });
            case.parked(invoice, "UNIT_DIFFERS");
        },
    );
    day.case(
        "unit converted",
        "Billed in boxes of twelve, ordered in pieces.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(24), amount(12, 50));
            let invoice = case.invoice_with(&[bill.of(whole(2)).at(amount(150, 0))], |invoice| {
                edit_first_line(invoice, |line| line.unit = Some("BX".to_owned()));
            });
            case.posted(invoice);
        },
    );
    day.case(
        "supplier not linked",
        "The Coupa supplier has no number.",
        Seller::Unlinked,
        |case| {
            case.scenario.suppliers.push(Seller::Fasteners.supplier());
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "SUPPLIER_NOT_LINKED");
        },
    );
    day.case(
        "supplier differs",
        "The order belongs to somebody else.",
        Seller::Castings,
        |case| {
            case.scenario.suppliers.push(Seller::Fasteners.supplier());
            let bill = case.order_with(whole(10), amount(10, 0), |order| {
                order.supplier = "S1001".to_owned()
            });
            case.received(&bill, whole(10));
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "SUPPLIER_DIFFERS");
        },
    );
    day.case(
        "cleaning without an order",
        "1,800.00 of no order, coded to an account.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                amount_line(invoice, amount(1_800, 0));
                edit_first_line(invoice, |line| {
                    line.order = None;
                    line.order_line = None;
                    let account = serde_json::json!({"segment-1": "10USA", "segment-2": "6200"});
                    line.overrides.insert("account".to_owned(), account);
                });
            });
            case.posted(invoice);
        },
    );
    day.case(
        "line without order",
        "A line names no order, and no account.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                edit_first_line(invoice, |line| {
                    line.order = None;
                    line.order_line = None;
                });
            });
            case.parked(invoice, "ACCOUNT_NOT_MAPPED");
        },
    );
}

fn identities(day: &mut Day) {
    day.case(
        "repeated reference",
        "Two Coupa invoices with one supplier's number.",
        Seller::Castings,
        |case| {
            let first_bill = case.received_order(whole(10), amount(10, 0));
            let second_bill = case.received_order(whole(10), amount(10, 0));
            let first = case.invoice(&[first_bill]);
            let second = case.invoice_with(&[second_bill], |invoice| {
                invoice.number = format!("inv-{first}");
                invoice.status = "pending_approval".to_owned();
            });
            case.send(first);
            case.step(Step::WaitForState {
                invoice: first,
                state: "exported",
            });
            case.step(Step::Approve(second));
            case.send(second);
            case.posted(first);
            case.expect(second, "parked", &["DUPLICATE_REFERENCE"], 1, false);
        },
    );
    day.case(
        "keyed by hand, equal",
        "A clerk keyed it with the same total: adopted.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(25, 0));
            let invoice = case.invoice(&[bill]);
            case.keyed_by_hand(invoice, amount(250, 0));
            case.posted(invoice);
        },
    );
    day.case(
        "keyed by hand, different",
        "A clerk keyed it with another total.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(25, 0));
            let invoice = case.invoice(&[bill]);
            case.keyed_by_hand(invoice, amount(249, 0));
            case.expect(invoice, "parked", &["QAD_DOCUMENT_FOREIGN"], 1, false);
        },
    );
}

fn money(day: &mut Day) {
    day.case(
        "totals disagree",
        "The supplier's total is 3.00 too high.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| invoice.total = Some(amount(103, 0)));
            case.parked(invoice, "TOTALS_DISAGREE");
        },
    );
    day.case(
        "tax at the header",
        "6 percent tax on the document.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(60), amount(12, 50));
            let invoice = case.invoice_with(&[bill], |invoice| invoice.tax = amount(45, 0));
            case.posted(invoice);
        },
    );
    day.case(
        "tax by line",
        "Each line carries its tax.",
        Seller::Castings,
        |case| {
            let first = case.received_order(whole(10), amount(100, 0));
            let second = case.received_order(whole(3), amount(33, 33));
            let invoice = case.invoice_with(&[first, second], |invoice| {
                invoice.line_level_taxation = true;
                for (line, tax) in invoice.lines.iter_mut().zip([amount(210, 0), amount(21, 0)]) {
                    line.tax = tax;
                }
            });
            case.posted(invoice);
        },
    );
    day.case(
        "freight mapped",
        "Freight goes to its account.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.charges.push(CoupaCharge {
                    kind: ChargeKind::Shipping,
                    amount: amount(50, 0),
                });
            });
            case.posted(invoice);
        },
    );
    day.case(
        "charge not mapped",
        "A miscellaneous charge has no account.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.charges.push(CoupaCharge {
                    kind: ChargeKind::Misc,
                    amount: amount(7, 50),
                });
            });
            case.parked(invoice, "CHARGE_NOT_MAPPED");
        },
    );
    day.case(
        "amount line, exact",
        "250.00 at 12.50 is exactly 20 pieces.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(20), amount(12, 50));
            let invoice = case.invoice_with(&[bill], |invoice| amount_line(invoice, amount(250, 0)));
            case.posted(invoice);
        },
    );
    day.case(
        "amount line, inexact",
        "100.00 at 30.00 is 3.33333333 pieces.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(20), amount(30, 0));
            let invoice = case.invoice_with(&[bill], |invoice| amount_line(invoice, amount(100, 0)));
            case.posted(invoice);
        },
    );
    day.case("yen", "A currency without decimals.", Seller::Tooling, |case| {
        let bill = case.received_order(whole(10), whole(1_500));
        let invoice = case.invoice_with(&[bill], |invoice| invoice.tax = whole(1_500));
        case.posted(invoice);
    });
    day.case(
        "four-decimal prices",
        "1000 pieces at 0.1234.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(1_000), dec(1_234, 4));
            let invoice = case.invoice(&[bill]);
            case.posted(invoice);
        },
    );
}

fn amount_line(invoice: &mut CoupaInvoice, amount: Decimal) {
    edit_first_line(invoice, |line| {
        line.quantity = None;
        line.unit = None;
        line.price = amount;
        line.total = Some(amount);
    });
}

fn credit_notes(day: &mut Day) {
    let credit = |invoice: &mut CoupaInvoice| {
        invoice.kind = DocumentKind::CreditNote;
        invoice.original_number = Some("INV-90001".to_owned());
    };
    day.case(
        "credit note for a return",
        "Four pieces went back.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(10), amount(30, 0));
            case.received_with(&bill, whole(10), |receipt| {
                receipt.vouchered = Exact(whole(10));
                receipt.finished = true;
            });
            case.received_with(&bill, dec(-4, 0), |receipt| receipt.is_return = true);
            let invoice = case.invoice_with(&[bill.of(dec(-4, 0))], credit);
            case.posted(invoice);
        },
    );
    day.case(
        "credit note in positive figures",
        "The other way Coupa writes credit notes.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(10), amount(30, 0));
            case.received_with(&bill, whole(10), |receipt| {
                receipt.vouchered = Exact(whole(10));
                receipt.finished = true;
            });
            case.received_with(&bill, whole(2), |receipt| receipt.is_return = true);
            let invoice = case.invoice_with(&[bill.of(whole(2))], credit);
            case.posted(invoice);
        },
    );
    day.case(
        "credit note without a return",
        "Held until the return posts.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(10), amount(30, 0));
            case.received_with(&bill, whole(10), |receipt| {
                receipt.vouchered = Exact(whole(10));
                receipt.finished = true;
            });
            let invoice = case.invoice_with(&[bill.of(dec(-4, 0))], credit);
            case.held(invoice, "RETURN_MISSING");
        },
    );
}

fn order_states(day: &mut Day) {
    let line_status = |status: &'static str| {
        move |order: &mut QadOrder| edit_order_line(order, |line| line.status = status.to_owned())
    };
    day.case(
        "closed line with an open receipt",
        "Received before it was closed.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), line_status("c"));
            case.received(&bill, whole(10));
            let invoice = case.invoice(&[bill]);
            case.posted(invoice);
        },
    );
    day.case(
        "closed line without a receipt",
        "Nothing more will be received.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), line_status("c"));
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "NOTHING_LEFT_TO_BILL");
        },
    );
    day.case(
        "cancelled line",
        "The order line was cancelled.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), line_status("x"));
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "ORDER_LINE_CANCELLED");
        },
    );
    day.case(
        "unknown line status",
        "A status the profile does not know.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), line_status("q"));
            case.received(&bill, whole(10));
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "ORDER_STATUS_UNKNOWN");
        },
    );
    day.case(
        "evaluated receipts",
        "QAD invoices this order by itself.",
        Seller::Castings,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), |order| order.evaluated_receipts = true);
            case.received(&bill, whole(10));
            let invoice = case.invoice(&[bill]);
            case.parked(invoice, "ORDER_IS_ERS");
        },
    );
}

fn spellings(day: &mut Day) {
    day.case(
        "letters of the world",
        "Umlauts in names, texts and the reference.",
        Seller::Duebel,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice.number = "RE-2026/ÄÖ-07".to_owned();
                edit_first_line(invoice, |line| {
                    line.description = "Dübel 8 mm – „Größe“ 東京".to_owned()
                });
            });
            case.posted(invoice);
        },
    );
    day.case(
        "leading zeros",
        "Zeros at the front of every number mean something.",
        Seller::Duebel,
        |case| {
            let bill = case.order_with(whole(10), amount(10, 0), |order| {
                order.number = "000042".to_owned()
            });
            let bill = Bill {
                order: "000042".to_owned(),
                ..bill
            };
            case.received(&bill, whole(10));
            let invoice = case.invoice_with(&[bill], |invoice| invoice.number = "000815".to_owned());
            case.posted(invoice);
        },
    );
}

fn voids(day: &mut Day) {
    day.case(
        "voided before posting",
        "Held, then voided in Coupa.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "held",
            });
            case.step(Step::Void(invoice));
            case.send(invoice);
            case.expect(invoice, "voided", &[], 0, true);
        },
    );
    day.case(
        "voided after posting",
        "In QAD already, then voided in Coupa.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "exported",
            });
            case.step(Step::Void(invoice));
            case.send(invoice);
            case.scenario.expected.push(Expected {
                invoice,
                state: "parked",
                codes: Some(vec!["VOIDED_AFTER_POSTING"]),
                qad_documents: 1,
                exported: false,
            });
        },
    );
}

fn faulty_answers(day: &mut Day) {
    let create = "supplier-invoices.create";
    let status = |status: u16| Fault::Status {
        status,
        retry_after: RetryAfter::Absent,
        after_commit: false,
    };
    let stories: [(&'static str, &'static str, Fault); 6] = [
        (
            "answer lost after the commit",
            "QAD created it, the answer never came: exactly one.",
            Fault::LostAfter,
        ),
        (
            "lost before the commit",
            "QAD never saw it: created after the look-up.",
            Fault::LostBefore,
        ),
        (
            "commit after the answer was lost",
            "It appears a moment later: exactly one.",
            Fault::LateCommit {
                delay_ms: LATE_COMMIT_MS,
            },
        ),
        (
            "server error on create",
            "503 before anything happened.",
            status(503),
        ),
        (
            "server error after create",
            "500 although the document was created: exactly one.",
            Fault::Status {
                status: 500,
                retry_after: RetryAfter::Absent,
                after_commit: true,
            },
        ),
        (
            "answer cut short",
            "Created, and the answer breaks off: exactly one.",
            Fault::TruncatedBody,
        ),
    ];
    for (name, about, fault) in stories {
        day.case(name, about, Seller::Fasteners, |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            case.fault(System::Qad, create, &format!("INV-{invoice}"), fault);
            case.send(invoice);
            case.posted(invoice);
        });
    }
    day.case(
        "slow down",
        "Coupa says 429 with Retry-After.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            let fault = Fault::Status {
                status: 429,
                retry_after: RetryAfter::Seconds(1),
                after_commit: false,
            };
            case.fault(System::Coupa, "invoices.get", &invoice.to_string(), fault);
            case.send(invoice);
            case.posted(invoice);
        },
    );
    day.case(
        "expired tokens",
        "Both systems stop accepting their tokens.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            case.step(Step::ExpireTokens(System::Coupa));
            case.step(Step::ExpireTokens(System::Qad));
            case.send(invoice);
            case.posted(invoice);
        },
    );
    day.case(
        "login page instead of an answer",
        "The look-up in QAD answers HTML.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            let reference = format!("INV-{invoice}");
            case.fault(System::Qad, "supplier-invoices.find", &reference, Fault::HtmlPage);
            case.send(invoice);
            case.posted(invoice);
        },
    );
    day.case(
        "unreadable invoice",
        "Coupa sends a total that is no number.",
        Seller::Fasteners,
        |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice_with(&[bill], |invoice| {
                invoice
                    .overrides
                    .insert("total-with-taxes".to_owned(), Value::from("about a hundred"));
            });
            case.send(invoice);
            case.scenario.expected.push(Expected {
                invoice,
                state: "parked",
                codes: None,
                qad_documents: 0,
                exported: false,
            });
        },
    );
}

fn events(day: &mut Day) {
    let stories = [
        (
            "event three times",
            "The same event is delivered three times.",
            Delivery::Repeated(3),
            202,
        ),
        (
            "forged event",
            "Refused; the genuine one is taken.",
            Delivery::Forged,
            401,
        ),
        (
            "garbage event",
            "Signed, but no event: refused with the reason.",
            Delivery::Garbage,
            400,
        ),
    ];
    for (name, about, delivery, status) in stories {
        day.case(name, about, Seller::Castings, |case| {
            let bill = case.received_order(whole(10), amount(10, 0));
            let invoice = case.invoice(&[bill]);
            case.step(Step::SendEvent {
                invoice,
                delivery,
                status,
            });
            if status != 202 {
                case.send(invoice);
            }
            case.posted(invoice);
        });
    }
}

/// What Coupa tells of an invoice that people ask and nothing is decided by.
fn beside() -> Map<String, Value> {
    let date = |date: Date| Value::from(crate::world::coupa::coupa_date(date));
    Map::from_iter([
        ("net-due-date".to_owned(), date(jiff::civil::date(2026, 4, 4))),
        (
            "discount-due-date".to_owned(),
            date(jiff::civil::date(2026, 3, 15)),
        ),
        (
            "requested-by".to_owned(),
            json!({"id": 31, "login": "robin", "fullname": "Robin Sample"}),
        ),
        (
            "ship-to-address".to_owned(),
            json!({"id": 12, "name": "Plant 10USA, Dock 2"}),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::WorldPorts;
    use domain::ids::InvoiceId;
    use domain::matching::{ExceptionCode, MatchInput, Verdict, decide};
    use flows::ports::{Coupa, Qad};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    const NOW: Timestamp = Timestamp(1_774_000_000_000);

    #[test]
    fn the_same_seed_gives_the_same_day_and_another_seed_another() {
        let text = |seed| format!("{:?}", day(seed));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn names_and_numbers_are_unique_and_everything_expected_exists() {
        let day = day(1);
        assert!(day.len() >= 40, "{}", day.len());
        let names: BTreeSet<_> = day.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), day.len());
        let ids: Vec<u64> = day
            .iter()
            .flat_map(|scenario| scenario.invoices.iter().map(|one| one.id))
            .collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        let expected: Vec<u64> = day
            .iter()
            .flat_map(|scenario| scenario.expected.iter().map(|one| one.invoice))
            .collect();
        assert_eq!(ids, expected, "every invoice has an expected end");
        let orders: Vec<_> = day
            .iter()
            .flat_map(|scenario| &scenario.orders)
            .map(|order| &order.number)
            .collect();
        assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), orders.len());
    }

    #[test]
    fn every_state_of_the_day_is_reached_by_somebody() {
        let states: BTreeSet<_> = day(1)
            .iter()
            .flat_map(|one| &one.expected)
            .map(|one| one.state)
            .collect();
        assert_eq!(states, BTreeSet::from(["exported", "held", "parked", "voided"]));
    }

    #[tokio::test]
    async fn the_match_decides_each_invoice_as_its_scenario_expects() {
        for scenario in day(3) {
            let mut world = World::seed(std::slice::from_ref(&scenario), NOW);
            let mut faults = Faults::none();
            for step in &scenario.steps {
                if !matches!(step, Step::Void(_) | Step::ArmFault(_)) {
                    play(step, &mut world, &mut faults, NOW).unwrap();
                }
            }
            let ports = WorldPorts::new(world, Arc::new(|| NOW));
            for expected in &scenario.expected {
                check(&ports, &scenario, expected).await;
            }
        }
    }

    async fn check(ports: &WorldPorts, scenario: &Scenario, expected: &Expected) {
        let name = scenario.name;
        if expected.state == "voided" {
            return;
        }
        let Ok(invoice) = ports.invoice(InvoiceId(expected.invoice)).await else {
            assert_eq!(name, "unreadable invoice");
            return;
        };
        let invoice = invoice.unwrap();
        let mut orders = BTreeMap::new();
        let mut receipts = Vec::new();
        for number in invoice.orders() {
            orders.insert(number.clone(), ports.order(&number).await.unwrap());
            receipts.extend(ports.receipts_of_order(&number).await.unwrap());
        }
        let mut coupa_orders = BTreeMap::new();
        for reference in invoice.lines.iter().filter_map(|line| line.coupa_order.as_ref()) {
            let found = ports.coupa_order(&reference.order).await.unwrap();
            coupa_orders.insert(domain::ids::fold(&reference.order), found);
        }
        let decision = decide(&MatchInput {
            invoice: &invoice,
            orders: &orders,
            receipts: &receipts,
            reservations: &[],
            coupa_orders: &coupa_orders,
            alike: &[],
            original: None,
            credited: None,
            same_number: None,
            billed_in_coupa: &Default::default(),
            policy: &policy().unwrap(),
            today: NOW.date_utc(),
        });
        let (state, codes) = match &decision.verdict {
            Verdict::Approve { draft } => {
                if expected.qad_documents == 1 && scenario.qad_invoices.is_empty() {
                    let created = ports.create_invoice(draft, "test").await.unwrap();
                    assert_eq!(
                        created.description,
                        format!("Coupa {}", expected.invoice),
                        "{name}"
                    );
                }
                ("approved", BTreeSet::new())
            }
            Verdict::Hold { exceptions, .. } => ("held", codes_of(exceptions)),
            Verdict::Park { exceptions } => ("parked", codes_of(exceptions)),
        };
        // What the register knows of other bills is not asked here.
        let by_register = ["NEAR_DUPLICATE", "DUPLICATE_REFERENCE"];
        let by_match = |code: &&str| {
            !by_register.contains(code) && ExceptionCode::ALL.iter().any(|known| known.as_str() == *code)
        };
        let wanted: BTreeSet<_> = expected
            .codes
            .iter()
            .flatten()
            .copied()
            .filter(by_match)
            .collect();
        assert_eq!(codes, wanted, "{name}: {:?}", decision.verdict);
        let wanted = if wanted.is_empty() {
            "approved"
        } else {
            expected.state
        };
        assert_eq!(state, wanted, "{name}");
    }

    fn codes_of(exceptions: &[domain::matching::Exception]) -> BTreeSet<&'static str> {
        exceptions
            .iter()
            .map(|exception| exception.code.as_str())
            .collect()
    }
}
