//! One test per rule; the names are the rules. [`properties`] compares with an independent model.

mod alike;
mod cancel;
mod credited;
mod destination;
mod order_lines;
mod payable;
mod properties;

use super::*;
use crate::coupa_orders::{
    CoupaOrderLine, CoupaOrderPolicy, CoupaOrderReference, CoupaOrderStanding, CoupaOrderStatus, OnCoupaOrder,
};
use crate::documents::{
    Adjustment, Billed, Charge, CoupaStatus, InvoiceLine, InvoiceSupplier, OrderLine, OrderStatus, Pending,
    SourceVersion,
};
use crate::policy::{ChargeAccount, Limit, Tolerance, UnitConversion};
use crate::time::Timestamp;

/// A case: everything [`decide`] sees, owned. It starts as one that is approved.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) invoice: Invoice,
    pub(crate) orders: BTreeMap<PurchaseOrderNumber, Option<Order>>,
    pub(crate) receipts: Vec<Receipt>,
    pub(crate) reservations: Vec<Reservation>,
    pub(crate) coupa_orders: CoupaOrders,
    pub(crate) alike: Vec<BillAlike>,
    pub(crate) original: Option<Original>,
    pub(crate) credited: Option<Credited>,
    pub(crate) same_number: Option<SameNumber>,
    pub(crate) billed_in_coupa: QuantitiesInCoupa,
    pub(crate) policy: MatchPolicy,
}

impl Case {
    /// Order PO1 line 1: 100 EA at 10 USD, all received on RC1; an invoice of 100 at 10 without tax.
    pub(crate) fn invoice() -> Self {
        Self {
            invoice: invoice(vec![line(1, "100", "10", "PO1", 1)]),
            orders: [order("PO1", vec![order_line(1, "100", "10")])].into(),
            receipts: vec![receipt("RC1", "PO1", 1, "100", "2026-03-01")],
            reservations: Vec::new(),
            coupa_orders: BTreeMap::new(),
            alike: Vec::new(),
            original: None,
            same_number: None,
            credited: None,
            billed_in_coupa: BTreeMap::new(),
            policy: policy(),
        }
    }

    /// The same order, 10 EA of it returned on RT1; a credit note for them.
    pub(crate) fn credit_note() -> Self {
        let mut case = Self::invoice();
        case.receipts[0].vouchered = d("100");
        case.receipts.push(receipt("RT1", "PO1", 1, "-10", "2026-03-08"));
        case.bill(vec![line(1, "-10", "10", "PO1", 1)]);
        case.invoice.kind = DocumentKind::CreditNote;
        case
    }

    pub(crate) fn decide(&self) -> Decision {
        decide(&self.input())
    }

    /// All of it, on 2026-03-20.
    pub(crate) fn input(&self) -> MatchInput<'_> {
        MatchInput {
            invoice: &self.invoice,
            orders: &self.orders,
            receipts: &self.receipts,
            reservations: &self.reservations,
            coupa_orders: &self.coupa_orders,
            alike: &self.alike,
            original: self.original.as_ref(),
            credited: self.credited.as_ref(),
            same_number: self.same_number.as_ref(),
            billed_in_coupa: &self.billed_in_coupa,
            policy: &self.policy,
            today: "2026-03-20".parse().unwrap(),
        }
    }

    /// Replaces the lines and makes the total agree.
    pub(crate) fn bill(&mut self, lines: Vec<InvoiceLine>) {
        self.invoice.total = lines.iter().map(|line| line.total).sum();
        self.invoice.lines = lines;
    }

    /// Coupa has order PO1, standing like this.
    pub(crate) fn in_coupa(&mut self, standing: CoupaOrderStanding) -> &mut CoupaOrder {
        let order = coupa_order("PO1", standing);
        self.coupa_orders
            .entry(fold("PO1"))
            .insert_entry(Some(order))
            .into_mut()
            .as_mut()
            .unwrap()
    }

    pub(crate) fn order_line(&mut self) -> &mut OrderLine {
        &mut self.order().lines[0]
    }

    pub(crate) fn order(&mut self) -> &mut Order {
        self.orders
            .get_mut(&"PO1".parse().unwrap())
            .unwrap()
            .as_mut()
            .unwrap()
    }

    pub(crate) fn reserve(&mut self, receiver: &str, quantity: &str) {
        self.reservations.push(Reservation {
            invoice: InvoiceId(7),
            connection: None,
            receipt: receipt(receiver, "PO1", 1, "1", "2026-03-01").key,
            quantity: d(quantity),
        });
    }

    fn draft(&self) -> SupplierInvoiceDraft {
        match self.decide().verdict {
            Verdict::Approve { draft } => *draft,
            other => panic!("expected an approval, got {other:#?}"),
        }
    }

    /// (order line, receiver, quantity, price, finished) of every match.
    fn matches(&self) -> Vec<String> {
        let shown = |found: &ReceiverMatch| {
            let finished = if found.finished { " finished" } else { "" };
            format!(
                "{} {} {} at {}{finished}",
                found.order_line,
                found.receiver,
                found.quantity.normalize(),
                found.unit_price
            )
        };
        self.draft().matches.iter().map(shown).collect()
    }

    /// `park A B`, `hold A` or `approve`.
    fn verdict(&self) -> String {
        let verdict = self.decide().verdict;
        let words = |word: &str| {
            let codes = verdict_exceptions(&verdict)
                .iter()
                .map(|exception| exception.code.as_str());
            std::iter::once(word).chain(codes).collect::<Vec<_>>().join(" ")
        };
        match &verdict {
            Verdict::Approve { .. } => words("approve"),
            Verdict::Hold { .. } => words("hold"),
            Verdict::Park { .. } => words("park"),
        }
    }

    /// (expected, actual, limit) of the first exception of the code.
    fn figures(&self, code: ExceptionCode) -> (String, String, String) {
        let verdict = self.decide().verdict;
        let found = verdict_exceptions(&verdict)
            .iter()
            .find(|exception| exception.code == code);
        let found = found.unwrap_or_else(|| panic!("{} is not in {verdict:#?}", code.as_str()));
        (found.expected.clone(), found.actual.clone(), found.limit.clone())
    }
}

fn verdict_exceptions(verdict: &Verdict) -> &[Exception] {
    match verdict {
        Verdict::Approve { .. } => &[],
        Verdict::Hold { exceptions, .. } | Verdict::Park { exceptions } => exceptions,
    }
}

fn texts(expected: &str, actual: &str, limit: &str) -> (String, String, String) {
    (expected.to_owned(), actual.to_owned(), limit.to_owned())
}

pub(crate) fn d(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub(crate) fn key(order: &str, line: u32) -> OrderLineKey {
    OrderLineKey {
        order: order.parse().unwrap(),
        line,
    }
}

fn invoice(lines: Vec<InvoiceLine>) -> Invoice {
    Invoice {
        id: InvoiceId(92010),
        source: SourceVersion {
            updated_at: Timestamp(0),
            content_sha256: "00".to_owned(),
        },
        status: CoupaStatus::Approved,
        exported: false,
        kind: DocumentKind::Invoice,
        reference: "INV-1".parse().unwrap(),
        original_reference: None,
        particulars: crate::documents::InvoiceParticulars::default(),
        invoice_date: "2026-03-05".parse().unwrap(),
        supplier: InvoiceSupplier {
            coupa_id: Some(1),
            number: Some("10S1001".to_owned()),
            also: Vec::new(),
            name: "Example Castings".to_owned(),
        },
        currency: "USD".parse().unwrap(),
        payment_term: None,
        total: lines.iter().map(|line| line.total).sum(),
        tax: Decimal::ZERO,
        charges: Vec::new(),
        lines,
        terms: Default::default(),
        entity_fields: Default::default(),
        coupa_orders: Vec::new(),
    }
}

pub(crate) fn line(
    number: u32,
    quantity: &str,
    unit_price: &str,
    order: &str,
    order_line: u32,
) -> InvoiceLine {
    InvoiceLine {
        number,
        description: "Bolt".to_owned(),
        billed: Billed::Quantity {
            quantity: d(quantity),
            unit_price: d(unit_price),
            unit: None,
        },
        total: d(quantity) * d(unit_price),
        adjustment: None,
        order_line: Some(key(order, order_line)),
        order_line_unmapped: None,
        coding: Vec::new(),
        failed_tolerances: false,
        coupa_order: Some(coupa_reference(order, order_line)),
    }
}

fn coupa_reference(order: &str, line: u32) -> CoupaOrderReference {
    CoupaOrderReference {
        order: order.to_owned(),
        line_id: None,
        line: Some(line.to_string()),
    }
}

fn coupa_status(standing: CoupaOrderStanding) -> CoupaOrderStatus {
    let word = match standing {
        CoupaOrderStanding::NotTold => "",
        CoupaOrderStanding::Open => "issued",
        CoupaOrderStanding::SoftClosed => "soft_closed",
        CoupaOrderStanding::Closed => "closed",
        CoupaOrderStanding::NotIssued => "buyer_hold",
        CoupaOrderStanding::Unknown => "frozen",
        CoupaOrderStanding::Cancelled => "cancelled",
    };
    CoupaOrderStatus {
        standing,
        word: word.to_owned(),
    }
}

/// An order with line 1, of which Coupa says nothing of its own.
pub(crate) fn coupa_order(number: &str, standing: CoupaOrderStanding) -> CoupaOrder {
    CoupaOrder {
        number: number.to_owned(),
        status: coupa_status(standing),
        lines: vec![CoupaOrderLine {
            id: Some(9001),
            number: Some("1".to_owned()),
            status: CoupaOrderStatus::not_told(),
            receipt_required: None,
            received: None,
        }],
    }
}

pub(crate) fn amount_line(number: u32, total: &str, order: &str, order_line: u32) -> InvoiceLine {
    InvoiceLine {
        billed: Billed::Amount,
        total: d(total),
        ..line(number, "0", "0", order, order_line)
    }
}

pub(crate) fn in_unit(mut line: InvoiceLine, code: &str) -> InvoiceLine {
    if let Billed::Quantity { unit, .. } = &mut line.billed {
        *unit = Some(code.parse().unwrap());
    }
    line
}

fn order(number: &str, lines: Vec<OrderLine>) -> (PurchaseOrderNumber, Option<Order>) {
    let number: PurchaseOrderNumber = number.parse().unwrap();
    let order = Order {
        number: number.clone(),
        supplier: "10S1001".to_owned(),
        currency: "USD".parse().unwrap(),
        evaluated_receipts: false,
        entity: None,
        lines,
    };
    (number, Some(order))
}

fn order_line(number: u32, ordered: &str, unit_price: &str) -> OrderLine {
    OrderLine {
        number,
        part: "01010".to_owned(),
        description: "Bolt".to_owned(),
        unit: "EA".parse().unwrap(),
        ordered: d(ordered),
        received: Decimal::ZERO,
        unit_price: d(unit_price),
        discount_percent: Decimal::ZERO,
        scheduled: false,
        consignment: false,
        evaluated_receipts: None,
        rounded: Vec::new(),
        status: OrderStatus::Open,
    }
}

pub(crate) fn receipt(receiver: &str, order: &str, line: u32, received: &str, date: &str) -> Receipt {
    Receipt {
        key: ReceiptKey {
            domain: "10USA".parse().unwrap(),
            receiver: receiver.parse().unwrap(),
            order_line: key(order, line),
        },
        received: d(received),
        vouchered: Decimal::ZERO,
        unit: "EA".parse().unwrap(),
        date: date.parse().unwrap(),
        packing_slip: String::new(),
        currency: None,
        pending: Pending::NotShown,
        closed: false,
        unit_cost: None,
        rounded: Vec::new(),
    }
}

fn policy() -> MatchPolicy {
    MatchPolicy {
        tolerance: Tolerance::default(),
        domain: "10USA".parse().unwrap(),
        entity: "10USACO".parse().unwrap(),
        invoice_daybook: "SI".parse().unwrap(),
        credit_note_daybook: "SC".parse().unwrap(),
        matching_daybook: "RM".parse().unwrap(),
        invoice_status: "AP-RMALLOC".to_owned(),
        posting_date: PostingDate::InvoiceDate,
        first_open_day: None,
        credit_terms: BTreeMap::new(),
        charge_accounts: [(
            ChargeKind::Shipping,
            ChargeAccount {
                gl_account: "6100".parse().unwrap(),
                sub_account: String::new(),
                cost_center: "CC1".to_owned(),
                project: String::new(),
            },
        )]
        .into(),
        units: BTreeMap::new(),
        coupa_instance: String::new(),
        coupa_orders: CoupaOrderPolicy {
            closed: OnCoupaOrder::Park,
            soft_closed: OnCoupaOrder::Park,
            ..CoupaOrderPolicy::default()
        },
        gl_status: "AP-GLALLOC".to_owned(),
        lines: Default::default(),
        credits: Default::default(),
        coding: None,
        not_payable: Default::default(),
        remit_to: Default::default(),
        patience: Default::default(),
        minor_units: Default::default(),
    }
}

// ---- approvals -------------------------------------------------------------------------------------------------

#[test]
fn an_invoice_that_agrees_is_approved_with_the_complete_document() {
    let mut case = Case::invoice();
    case.invoice.tax = d("45.00");
    case.invoice.charges = vec![Charge {
        kind: ChargeKind::Shipping,
        amount: d("12.50"),
        coding: Vec::new(),
    }];
    case.invoice.total = d("1057.50");
    case.invoice.payment_term = Some(" Net 30 ".to_owned());
    case.policy.credit_terms = [("net 30".to_owned(), "N30".parse().unwrap())].into();
    let expected = SupplierInvoiceDraft {
        identity: QadInvoiceIdentity {
            entity: "10USACO".parse().unwrap(),
            supplier: "10S1001".parse().unwrap(),
            reference: "INV-1".parse().unwrap(),
            kind: DocumentKind::Invoice,
        },
        coupa_id: InvoiceId(92010),
        coupa_instance: String::new(),
        domain: "10USA".parse().unwrap(),
        currency: "USD".parse().unwrap(),
        invoice_date: "2026-03-05".parse().unwrap(),
        posting_date: "2026-03-05".parse().unwrap(),
        daybook: "SI".parse().unwrap(),
        matching_daybook: "RM".parse().unwrap(),
        invoice_status: "AP-RMALLOC".to_owned(),
        credit_terms: Some("N30".parse().unwrap()),
        total: d("1057.50"),
        tax: d("45.00"),
        orders: vec!["PO1".parse().unwrap()],
        matches: vec![ReceiverMatch {
            order_line: key("PO1", 1),
            receiver: "RC1".parse().unwrap(),
            quantity: d("100"),
            unit_price: d("10"),
            finished: true,
        }],
        costs: vec![AdditionalCost {
            gl_account: "6100".parse().unwrap(),
            sub_account: String::new(),
            cost_center: "CC1".to_owned(),
            project: String::new(),
            amount: d("12.50"),
            description: "Freight".to_owned(),
        }],
        payee: None,
        echo: d("0.02"),
        locked: false,
        billed: vec![
            BilledLine {
                order_line: Some(key("PO1", 1)),
                quantity: Some(d("100")),
                amount: d("1000"),
            },
            BilledLine {
                order_line: None,
                quantity: None,
                amount: d("12.50"),
            },
        ],
        cancels: None,
        is_twin: false,
        billed_in_coupa: Default::default(),
    };
    assert_eq!(case.draft(), expected);
    assert_eq!(case.draft().description(), "Coupa 92010");
}

#[test]
fn the_report_of_an_approval_has_every_figure() {
    let mut case = Case::invoice();
    case.receipts[0].received = d("100");
    case.receipts[0].vouchered = d("30");
    case.reserve("RC1", "20");
    case.bill(vec![line(4, "45", "10.1", "PO1", 1)]);
    let decision = case.decide();
    assert_eq!(case.verdict(), "approve");
    assert_eq!(decision.report.tolerance_version, "default-3");
    let expected = LineReport {
        line: 4,
        order_line: Some(key("PO1", 1)),
        unit: Some("EA".parse().unwrap()),
        ordered: Some(d("100")),
        received: Some(d("100")),
        already_invoiced: Some(d("30")),
        reserved: Some(d("20")),
        open: Some(d("50")),
        this_invoice: Some(d("45")),
        order_price: Some(d("10")),
        invoice_price: Some(d("10.1")),
        price_limit: Some(d("10.2")),
        price: Some(PriceFinding {
            reference: PriceReference::Order,
            difference: d("4.5"),
        }),
        rounded: vec![],
        exceptions: vec![],
        nothing_to_post: false,
        to_ledger: false,
        coupa_order: None,
    };
    assert_eq!(decision.report.lines, [expected]);
}

#[test]
fn a_part_of_the_receipt_is_billed_and_the_receiver_stays_unfinished() {
    let mut case = Case::invoice();
    case.bill(vec![line(1, "60", "10", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 60 at 10"]);
}

#[test]
fn receivers_are_used_up_by_date_then_number_and_never_over_their_open_quantity() {
    let mut case = Case::invoice();
    case.receipts = vec![
        receipt("RC9", "PO1", 1, "30", "2026-03-02"),
        receipt("RC3", "PO1", 1, "30", "2026-03-03"),
        receipt("RC2", "PO1", 1, "30", "2026-03-02"),
        receipt("RC1", "PO1", 1, "10", "2026-03-02"),
    ];
    case.receipts[3].vouchered = d("4");
    case.bill(vec![line(1, "70", "10", "PO1", 1)]);
    assert_eq!(
        case.matches(),
        [
            "PO1 line 1 RC1 6 at 10 finished",
            "PO1 line 1 RC2 30 at 10 finished",
            "PO1 line 1 RC9 30 at 10 finished",
            "PO1 line 1 RC3 4 at 10"
        ]
    );
}

#[test]
fn lines_that_bill_the_same_order_line_share_what_is_open() {
    let mut case = Case::invoice();
    case.bill(vec![
        line(1, "60", "10", "PO1", 1),
        line(2, "40", "9.5", "PO1", 1),
    ]);
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 60 at 10", "PO1 line 1 RC1 40 at 9.5 finished"],
        "only the last match of a receiver finishes it"
    );
    case.bill(vec![line(1, "60", "10", "PO1", 1), line(2, "40", "10", "PO1", 1)]);
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 100 at 10 finished"],
        "same price: one match"
    );
    case.receipts[0].received = d("90");
    case.order_line().ordered = d("120");
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT");
    assert_eq!(
        case.figures(ExceptionCode::ReceiptShort),
        texts("40 EA", "30 of 40 EA", "")
    );
    assert_eq!(case.decide().report.lines[0].exceptions, []);
}

#[test]
fn several_orders_are_matched_in_one_invoice() {
    let mut case = Case::invoice();
    case.orders
        .extend([order("0042", vec![order_line(7, "5", "2.5")])]);
    case.receipts.push(receipt("RC2", "0042", 7, "5", "2026-03-01"));
    case.bill(vec![
        line(1, "100", "10", "PO1", 1),
        line(2, "5", "2.5", "0042", 7),
    ]);
    let draft = case.draft();
    let orders: Vec<_> = draft.orders.iter().map(|order| order.as_str()).collect();
    assert_eq!(orders, ["0042", "PO1"], "leading zeros stay");
    assert_eq!(
        case.matches(),
        [
            "PO1 line 1 RC1 100 at 10 finished",
            "0042 line 7 RC2 5 at 2.5 finished"
        ]
    );
}

#[test]
fn codes_compare_as_qad_does_and_go_out_as_qad_wrote_them() {
    let mut case = Case::invoice();
    case.bill(vec![in_unit(line(1, "100", "10", "po1", 1), "ea")]);
    case.invoice.supplier.number = Some(" 10s1001 ".to_owned());
    let draft = case.draft();
    assert_eq!(draft.orders[0].as_str(), "PO1");
    assert_eq!(draft.matches[0].order_line.order.as_str(), "PO1");
}

#[test]
fn unicode_references_and_leading_zeros_stay_as_written() {
    let mut case = Case::invoice();
    for reference in ["Rechnung-ÄÖ №5/東京", "000123"] {
        case.invoice.reference = reference.parse().unwrap();
        assert_eq!(case.draft().identity.reference.as_str(), reference);
    }
}

#[test]
fn a_price_of_four_decimals_is_exact() {
    let mut case = Case::invoice();
    case.order_line().unit_price = d("0.1234");
    let mut billed = line(1, "100", "0.1234", "PO1", 1);
    billed.total = d("12.34");
    case.bill(vec![billed]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 100 at 0.1234 finished"]);
}

#[test]
fn yen_have_no_decimals_and_their_tolerance_is_one_yen() {
    let mut case = Case::invoice();
    case.invoice.currency = "JPY".parse().unwrap();
    case.order().currency = "JPY".parse().unwrap();
    case.invoice.total = d("1001");
    assert_eq!(case.verdict(), "approve", "one yen is within");
    case.invoice.total = d("1002");
    assert_eq!(
        case.figures(ExceptionCode::TotalsDisagree),
        texts(
            "1,000 JPY from lines, charges and tax",
            "1,002 JPY as total",
            "1 JPY"
        )
    );
}

#[test]
fn far_cheaper_than_ordered_is_a_question_and_a_little_cheaper_is_fine() {
    let mut case = Case::invoice();
    case.bill(vec![line(1, "100", "7.5", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 100 at 7.5 finished"]);
    for price in ["7.49", "0.01", "0"] {
        case.bill(vec![line(1, "100", price, "PO1", 1)]);
        assert_eq!(case.verdict(), "park PRICE_UNDER_TOLERANCE", "{price}");
    }
}

#[test]
fn a_line_without_value_is_not_posted_even_without_an_order() {
    let mut case = Case::invoice();
    let mut without_order = amount_line(2, "0", "PO1", 1);
    without_order.order_line = None;
    case.bill(vec![
        line(1, "100", "10", "PO1", 1),
        without_order,
        line(3, "0", "5", "PO2", 1),
    ]);
    let (number, foreign) = order("PO2", vec![order_line(1, "1", "5")]);
    let foreign = foreign.map(|order| Order {
        evaluated_receipts: true,
        supplier: "10S2".to_owned(),
        ..order
    });
    case.orders.insert(number, foreign);
    assert_eq!(
        case.matches().len(),
        1,
        "what is wrong with the order of such a line does not matter"
    );
    let report = case.decide().report;
    let nothing: Vec<_> = report.lines.iter().map(|row| row.nothing_to_post).collect();
    assert_eq!(nothing, [false, true, true]);
    assert_eq!(report.lines[2].order_price, Some(d("5")), "what is known is told");
    assert_eq!(
        case.draft().orders.len(),
        1,
        "an order with nothing to post is not named"
    );
}

#[test]
fn the_posting_date_follows_the_policy() {
    let mut case = Case::invoice();
    case.policy.posting_date = PostingDate::MatchingDate;
    assert_eq!(case.draft().posting_date.to_string(), "2026-03-20");
    assert_eq!(case.draft().invoice_date.to_string(), "2026-03-05");
}

#[test]
fn credit_terms_are_mapped_else_taken_over_else_left_to_qad() {
    let mut case = Case::invoice();
    case.policy.credit_terms = [("Net 30".to_owned(), "N30".parse().unwrap())].into();
    for (term, expected) in [
        (Some("Net 30"), Some("N30")),
        (Some("2/10"), Some("2/10")),
        (Some("  "), None),
        (None, None),
    ] {
        case.invoice.payment_term = term.map(str::to_owned);
        let terms = case.draft().credit_terms;
        assert_eq!(terms.as_ref().map(CreditTermsCode::as_str), expected, "{term:?}");
    }
}

// ---- the document ----------------------------------------------------------------------------------------------

#[test]
fn a_supplier_without_a_number_is_parked() {
    for number in [None, Some(""), Some("   ")] {
        let mut case = Case::invoice();
        case.invoice.supplier.number = number.map(str::to_owned);
        assert_eq!(case.verdict(), "park SUPPLIER_NOT_LINKED", "{number:?}");
    }
}

#[test]
fn a_supplier_number_that_is_no_code_is_parked() {
    let mut case = Case::invoice();
    case.invoice.supplier.number = Some("123456789".to_owned());
    assert_eq!(case.verdict(), "park SUPPLIER_CODE_INVALID");
    assert_eq!(
        case.figures(ExceptionCode::SupplierCodeInvalid),
        texts(
            "a supplier code of at most 8 characters",
            "123456789 on supplier Example Castings",
            ""
        )
    );
}

#[test]
fn an_order_of_another_supplier_is_parked() {
    let mut case = Case::invoice();
    case.order().supplier = "10S2".to_owned();
    assert_eq!(case.verdict(), "park SUPPLIER_DIFFERS");
    assert_eq!(
        case.figures(ExceptionCode::SupplierDiffers),
        texts("supplier 10S2, as order PO1", "supplier 10S1001", "")
    );
}

#[test]
fn an_order_of_another_entity_in_the_same_domain_is_parked() {
    let mut case = Case::invoice();
    case.order().entity = Some("10USATOO".parse().unwrap());
    assert_eq!(case.verdict(), "park ORDER_OF_ANOTHER_ENTITY");
    assert_eq!(
        case.figures(ExceptionCode::OrderOfAnotherEntity),
        texts("an order of entity 10USACO", "order PO1 of entity 10USATOO", "")
    );
    case.order().entity = Some(" 10usaco ".parse().unwrap());
    assert_eq!(case.verdict(), "approve");
}

#[test]
fn another_currency_on_order_or_receipt_is_parked() {
    let mut case = Case::invoice();
    case.order().currency = "EUR".parse().unwrap();
    assert_eq!(case.verdict(), "park CURRENCY_DIFFERS");
    assert_eq!(
        case.figures(ExceptionCode::CurrencyDiffers),
        texts("EUR, as order PO1", "USD", "")
    );

    let mut case = Case::invoice();
    case.receipts[0].currency = Some("USD".parse().unwrap());
    assert_eq!(case.verdict(), "approve");
    case.receipts[0].currency = Some("EUR".parse().unwrap());
    assert_eq!(case.verdict(), "park CURRENCY_DIFFERS");
    assert_eq!(
        case.figures(ExceptionCode::CurrencyDiffers),
        texts("USD, as order PO1", "EUR on receiver RC1", "")
    );
}

#[test]
fn prices_of_different_currencies_are_not_compared() {
    let mut case = Case::invoice();
    case.order().currency = "JPY".parse().unwrap();
    case.order_line().unit_price = d("1");
    assert_eq!(case.verdict(), "park CURRENCY_DIFFERS");
    case.bill(vec![amount_line(1, "1000", "PO1", 1)]);
    assert_eq!(case.verdict(), "park CURRENCY_DIFFERS");
}

#[test]
fn an_order_with_evaluated_receipts_is_parked() {
    let mut case = Case::invoice();
    case.order().evaluated_receipts = true;
    assert_eq!(case.verdict(), "park ORDER_IS_ERS");
}

#[test]
fn too_many_lines_or_orders_are_parked_and_not_cut() {
    let mut case = Case::invoice();
    let lines = |count: usize| {
        (1..=count)
            .map(|n| line(n.try_into().unwrap(), "0.2", "10", "PO1", 1))
            .collect()
    };
    case.bill(lines(INVOICE_LINES_MAX));
    assert_eq!(case.verdict(), "approve");
    case.bill(lines(INVOICE_LINES_MAX + 1));
    assert_eq!(case.verdict(), "park TOO_LARGE");
    assert_eq!(
        case.figures(ExceptionCode::TooLarge),
        texts("at most 500 lines", "501 lines", "")
    );
    assert_eq!(case.decide().report.lines.len(), INVOICE_LINES_MAX);

    let mut case = Case::invoice();
    let orders = |count: usize| {
        (0..count)
            .map(|n| line(1, "1", "10", &format!("N{n}"), 1))
            .collect()
    };
    case.bill(orders(ORDERS_PER_INVOICE_MAX));
    assert!(case.verdict().starts_with("hold ORDER_NOT_FOUND"));
    case.bill(orders(ORDERS_PER_INVOICE_MAX + 1));
    assert_eq!(case.verdict(), "park TOO_LARGE");
    assert_eq!(case.decide().report.lines.len(), ORDERS_PER_INVOICE_MAX + 1);
}

#[test]
fn an_invoice_with_nothing_to_post_is_parked() {
    for lines in [
        vec![],
        vec![amount_line(1, "0", "PO1", 1)],
        vec![line(1, "0", "3", "PO1", 1)],
    ] {
        let mut case = Case::invoice();
        case.bill(lines);
        assert_eq!(case.verdict(), "park NOTHING_TO_POST");
    }
}

#[test]
fn a_charge_without_account_is_parked_and_a_zero_charge_is_nothing() {
    let mut case = Case::invoice();
    case.invoice.charges = vec![Charge {
        kind: ChargeKind::Misc,
        amount: Decimal::ZERO,
        coding: Vec::new(),
    }];
    assert_eq!(case.draft().costs, []);
    case.invoice.charges = vec![Charge {
        kind: ChargeKind::Misc,
        amount: d("5"),
        coding: Vec::new(),
    }];
    case.invoice.total = d("1005");
    assert_eq!(case.verdict(), "park CHARGE_NOT_MAPPED");
    assert_eq!(
        case.figures(ExceptionCode::ChargeNotMapped),
        texts("a GL account for it", "Miscellaneous of 5.00 USD", "")
    );
}

#[test]
fn totals_may_differ_by_the_tolerance_and_by_half_a_minor_unit_per_line() {
    // (lines with a value, tolerance, difference) -> approved
    for (lines, tolerance, difference, fine) in [
        (1, "0.05", "0.03", true),
        (1, "0.05", "0.05", true),
        (1, "0.05", "0.06", false),
        (1, "0", "0.005", true),
        (1, "0", "0.01", false),
        (4, "0.05", "-0.05", true),
        (4, "0.05", "-0.06", false),
        (4, "0", "0.02", true),
        (4, "0", "0.03", false),
        (20, "0.05", "0.10", true),
        (20, "0.05", "0.11", false),
    ] {
        let mut case = Case::invoice();
        case.policy.tolerance.limits.total = Limit::free(d(tolerance));
        let mut billed: Vec<_> = (1..=lines)
            .map(|number| line(number, "1", "10", "PO1", 1))
            .collect();
        billed.push(amount_line(99, "0", "PO1", 1));
        case.bill(billed);
        case.invoice.total += d(difference);
        let expected = if fine { "approve" } else { "park TOTALS_DISAGREE" };
        assert_eq!(
            case.verdict(),
            expected,
            "{lines} lines, {tolerance}, {difference}"
        );
    }
}

#[test]
fn a_total_may_differ_by_what_is_given_in_percent_and_amount() {
    // One line of 1000.00: percent, amount, difference -> approved
    for (percent, amount, difference, fine) in [
        (Some("1"), None, "10.00", true),
        (Some("1"), None, "-9.90", true),
        (Some("1"), None, "10.20", false),
        (None, Some("3"), "3.00", true),
        (None, Some("3"), "3.01", false),
        (Some("1"), Some("3"), "3.01", false),
        (Some("0"), Some("3"), "0.05", true),
        (Some("0"), Some("3"), "0.06", false),
    ] {
        let mut case = Case::invoice();
        case.order_line().unit_price = d("1000");
        case.bill(vec![line(1, "1", "1000", "PO1", 1)]);
        case.policy.tolerance.limits.total = Limit {
            percent: percent.map(d),
            amount: amount.map(d),
            free: d("0.05"),
        };
        case.invoice.total += d(difference);
        let expected = if fine { "approve" } else { "park TOTALS_DISAGREE" };
        assert_eq!(case.verdict(), expected, "{percent:?} {amount:?} {difference}");
    }
}

/// The entity keeps its books in USD, and lets a total differ by 50.00 of them, or by five hundred within one percent.
#[test]
fn a_total_in_another_currency_may_not_differ_by_a_sum_of_the_entitys_own() {
    // Currency, percent, difference -> verdict, and the limit where it is parked
    let usd = Some("50.00 USD");
    let eur = Some("1.00 EUR, the amounts of the limit being in USD");
    let percent = Some("10.1011 EUR, the amounts of the limit being in USD");
    for (currency, by_percent, difference, limit) in [
        ("USD", None, "50.00", None),
        ("USD", None, "50.01", usd),
        ("EUR", None, "1.00", None),
        ("EUR", None, "1.01", eur),
        ("EUR", None, "50.00", eur),
        ("EUR", Some("1"), "10.10", None),
        ("EUR", Some("1"), "10.11", percent),
    ] {
        let mut case = Case::invoice();
        case.order_line().unit_price = d("1000");
        case.bill(vec![line(1, "1", "1000", "PO1", 1)]);
        case.invoice.currency = currency.parse().unwrap();
        for order in case.orders.values_mut().flatten() {
            order.currency = case.invoice.currency;
        }
        for receipt in &mut case.receipts {
            receipt.currency = receipt.currency.map(|_| case.invoice.currency);
        }
        case.policy.tolerance.currency = Some("USD".parse().unwrap());
        case.policy.tolerance.limits.total = Limit {
            percent: by_percent.map(d),
            amount: Some(d("500")).filter(|_| by_percent.is_some()),
            free: d("50"),
        };
        case.invoice.total += d(difference);
        let Some(limit) = limit else {
            assert_eq!(case.verdict(), "approve", "{currency} {difference}");
            continue;
        };
        assert_eq!(case.verdict(), "park TOTALS_DISAGREE", "{currency} {difference}");
        assert_eq!(case.figures(ExceptionCode::TotalsDisagree).2, limit);
    }
}

#[test]
fn totals_are_checked_with_the_invoices_own_figures_when_nothing_else_is_known() {
    let mut case = Case::invoice();
    case.bill(vec![line(1, "100", "10", "GONE", 1)]);
    case.orders = [("GONE".parse().unwrap(), None)].into();
    assert_eq!(case.verdict(), "hold ORDER_NOT_FOUND");
    case.invoice.total = d("900");
    assert_eq!(case.verdict(), "park TOTALS_DISAGREE ORDER_NOT_FOUND");
    assert_eq!(
        case.figures(ExceptionCode::TotalsDisagree),
        texts(
            "1,000.00 USD from lines, charges and tax",
            "900.00 USD as total",
            "0.05 USD"
        )
    );
}

#[test]
fn every_sign_must_be_that_of_the_document() {
    type Spoil = fn(&mut Case);
    let on_invoices: [Spoil; 6] = [
        |case| case.invoice.total = d("-1000"),
        |case| case.bill(vec![line(1, "-100", "10", "PO1", 1)]),
        |case| case.bill(vec![line(1, "100", "-10", "PO1", 1)]),
        |case| case.bill(vec![amount_line(1, "-10", "PO1", 1)]),
        |case| case.invoice.tax = d("-0.01"),
        |case| {
            case.invoice.charges = vec![Charge {
                kind: ChargeKind::Shipping,
                amount: d("-1"),
                coding: Vec::new(),
            }]
        },
    ];
    let on_credit_notes: [Spoil; 6] = [
        |case| case.invoice.total = d("100"),
        |case| case.bill(vec![line(1, "10", "10", "PO1", 1)]),
        |case| case.bill(vec![line(1, "-10", "-10", "PO1", 1)]),
        |case| case.bill(vec![amount_line(1, "10", "PO1", 1)]),
        |case| case.invoice.tax = d("0.01"),
        |case| {
            case.invoice.charges = vec![Charge {
                kind: ChargeKind::Shipping,
                amount: d("1"),
                coding: Vec::new(),
            }]
        },
    ];
    for (number, spoil) in on_invoices.iter().enumerate() {
        let mut case = Case::invoice();
        spoil(&mut case);
        assert!(
            case.verdict().contains("park SIGN_CONTRADICTS"),
            "invoice {number}: {}",
            case.verdict()
        );
    }
    for (number, spoil) in on_credit_notes.iter().enumerate() {
        let mut case = Case::credit_note();
        spoil(&mut case);
        assert!(
            case.verdict().contains("park SIGN_CONTRADICTS"),
            "credit note {number}: {}",
            case.verdict()
        );
    }
}

#[test]
fn a_discount_line_on_an_invoice_is_parked_with_its_figures() {
    let mut case = Case::invoice();
    case.bill(vec![
        line(1, "100", "10", "PO1", 1),
        line(2, "-5", "10", "PO1", 1),
    ]);
    assert_eq!(case.verdict(), "park LINE_NEGATIVE");
    assert_eq!(
        case.figures(ExceptionCode::LineNegative),
        texts(
            "nothing negative on an invoice",
            "quantity -5 at 10.00 USD, total -50.00 USD",
            ""
        )
    );
}

// ---- the line --------------------------------------------------------------------------------------------------

#[test]
fn a_line_that_contradicts_itself_is_parked() {
    let mut case = Case::invoice();
    let mut without_quantity = line(1, "0", "10", "PO1", 1);
    without_quantity.total = d("50");
    case.bill(vec![without_quantity]);
    assert_eq!(case.verdict(), "park LINE_CONTRADICTS_ITSELF");

    let mut with_wrong_total = line(1, "100", "10", "PO1", 1);
    with_wrong_total.total = d("900");
    case.bill(vec![with_wrong_total]);
    assert_eq!(case.verdict(), "park TOTALS_DISAGREE LINE_CONTRADICTS_ITSELF");
    assert_eq!(
        case.figures(ExceptionCode::LineContradictsItself),
        texts(
            "a total of 1,000.00 USD",
            "quantity 100 at 10.00 USD, total 900.00 USD",
            "0.01 USD"
        )
    );
}

#[test]
fn a_line_total_may_differ_by_one_minor_unit() {
    for (total, verdict) in [
        ("9.9999", "approve"),
        ("10.0099", "approve"),
        ("9.9899", "approve"),
        ("9.9898", "park LINE_CONTRADICTS_ITSELF"),
    ] {
        let mut case = Case::invoice();
        case.order_line().unit_price = d("3.3333");
        let mut rounded = line(1, "3", "3.3333", "PO1", 1);
        rounded.total = d(total);
        case.bill(vec![rounded]);
        assert_eq!(case.verdict(), verdict, "{total}");
    }
}

#[test]
fn a_line_with_value_and_no_order_is_parked() {
    let mut case = Case::invoice();
    case.invoice.lines[0].order_line = None;
    assert_eq!(case.verdict(), "park LINE_WITHOUT_ORDER");
    assert_eq!(
        case.decide().report.lines[0].exceptions,
        [ExceptionCode::LineWithoutOrder]
    );
}

#[test]
fn an_order_or_line_that_is_not_there_is_held_for() {
    let mut case = Case::invoice();
    case.bill(vec![line(1, "100", "10", "PO1", 2), line(2, "1", "1", "PO2", 1)]);
    case.orders.insert("PO2".parse().unwrap(), None);
    assert_eq!(case.verdict(), "hold ORDER_LINE_NOT_FOUND ORDER_NOT_FOUND");
    let Verdict::Hold { awaits, .. } = case.decide().verdict else {
        panic!()
    };
    assert_eq!(awaits, [key("PO1", 2), key("PO2", 1)]);
    assert_eq!(
        case.figures(ExceptionCode::OrderLineNotFound),
        texts("line 2 on order PO1 in QAD", "an order of 1 lines without it", "")
    );
}

#[test]
fn a_cancelled_line_is_always_parked() {
    let mut case = Case::invoice();
    case.order_line().status = OrderStatus::Cancelled;
    assert_eq!(case.verdict(), "park ORDER_LINE_CANCELLED");
    case.receipts.clear();
    assert_eq!(case.verdict(), "park ORDER_LINE_CANCELLED");
}

#[test]
fn an_unknown_status_is_never_taken_for_open() {
    let mut case = Case::invoice();
    case.order_line().status = OrderStatus::Unknown("q".to_owned());
    assert_eq!(case.verdict(), "park ORDER_STATUS_UNKNOWN");
    assert_eq!(
        case.figures(ExceptionCode::OrderStatusUnknown),
        texts("a status the connection's profile knows", "status \"q\"", "")
    );
}

#[test]
fn a_closed_line_is_fine_exactly_when_enough_is_open() {
    let mut case = Case::invoice();
    case.order_line().status = OrderStatus::Closed;
    assert_eq!(case.verdict(), "approve");
    case.receipts[0].received = d("99");
    assert_eq!(case.verdict(), "park ORDER_LINE_CLOSED");
    assert_eq!(
        case.figures(ExceptionCode::OrderLineClosed),
        texts("100 EA", "99 of 100 EA", "")
    );
}

#[test]
fn units_are_the_orders_or_mapped_or_parked() {
    let mut case = Case::invoice();
    case.bill(vec![in_unit(line(1, "5", "120", "PO1", 1), "DZ")]);
    assert_eq!(case.verdict(), "park UNIT_DIFFERS");
    assert_eq!(
        case.figures(ExceptionCode::UnitDiffers),
        texts("EA, as order PO1 line 1", "DZ", "")
    );

    let to_each = |factor: &str| UnitConversion {
        to: "ea".parse().unwrap(),
        factor: d(factor),
        items: BTreeMap::new(),
    };
    case.policy.units = [("dz".to_owned(), to_each("12"))].into();
    assert_eq!(case.matches(), ["PO1 line 1 RC1 60 at 10"]);

    for factor in ["0", "-12"] {
        case.policy.units = [("DZ".to_owned(), to_each(factor))].into();
        assert_eq!(case.verdict(), "park UNIT_DIFFERS", "factor {factor}");
    }
    case.policy.units = [(
        "DZ".to_owned(),
        UnitConversion {
            to: "KG".parse().unwrap(),
            factor: d("1"),
            items: BTreeMap::new(),
        },
    )]
    .into();
    assert_eq!(
        case.verdict(),
        "park UNIT_DIFFERS",
        "mapped to a unit that is not the order's"
    );
}

#[test]
fn a_converted_price_is_rounded_to_ten_places_and_the_totals_still_agree() {
    let mut case = Case::invoice();
    case.order_line().unit_price = d("0.83");
    case.bill(vec![in_unit(line(1, "1", "10", "PO1", 1), "DZ")]);
    case.policy.units = [(
        "DZ".to_owned(),
        UnitConversion {
            to: "EA".parse().unwrap(),
            factor: d("12"),
            items: BTreeMap::new(),
        },
    )]
    .into();
    assert_eq!(case.matches(), ["PO1 line 1 RC1 12 at 0.8333333333"]);
}

#[test]
fn a_receipt_in_another_unit_is_parked() {
    let mut case = Case::invoice();
    case.receipts[0].unit = "BX".parse().unwrap();
    assert_eq!(case.verdict(), "park UNIT_DIFFERS");
    assert_eq!(
        case.figures(ExceptionCode::UnitDiffers),
        texts("EA, as the order line", "BX on receiver RC1", "")
    );
}

#[test]
fn a_price_over_the_limit_is_parked_and_at_the_limit_is_fine() {
    for (price, verdict) in [("10.2", "approve"), ("10.2001", "park PRICE_OVER_TOLERANCE")] {
        let mut case = Case::invoice();
        case.bill(vec![line(1, "100", price, "PO1", 1)]);
        assert_eq!(case.verdict(), verdict);
    }
    let mut case = Case::invoice();
    case.bill(vec![line(1, "100", "10.8", "PO1", 1)]);
    assert_eq!(
        case.figures(ExceptionCode::PriceOverTolerance),
        texts("10.00 USD per EA", "10.80 USD per EA", "10.20 USD per EA")
    );
    let mut case = Case::credit_note();
    case.bill(vec![line(1, "-10", "12.6", "PO1", 1)]);
    assert_eq!(case.verdict(), "park PRICE_OVER_TOLERANCE", "credit notes too");
}

#[test]
fn an_amount_line_is_a_quantity_at_the_orders_price_within_what_is_open_or_parked() {
    let mut case = Case::invoice();
    case.bill(vec![amount_line(1, "255", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 25.5 at 10"]);
    case.bill(vec![amount_line(1, "1000.10", "PO1", 1)]);
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 100 at 10.001 finished"],
        "the difference is within the price tolerance"
    );
    case.bill(vec![amount_line(1, "1100", "PO1", 1)]);
    assert_eq!(case.verdict(), "park BILLED_OVER_ORDERED AMOUNT_LINE_UNRESOLVED");
    assert_eq!(
        case.figures(ExceptionCode::AmountLineUnresolved),
        texts(
            "a quantity at 10.00 USD per EA within 100 EA open",
            "1,100.00 USD, that is 110 EA",
            ""
        )
    );
    case.order_line().unit_price = Decimal::ZERO;
    assert_eq!(
        case.verdict(),
        "park AMOUNT_LINE_UNRESOLVED",
        "no price to divide by"
    );
}

// ---- receipts --------------------------------------------------------------------------------------------------

#[test]
fn without_a_receipt_it_is_held_for_that_order_line() {
    let mut case = Case::invoice();
    case.receipts.clear();
    assert_eq!(case.verdict(), "hold RECEIPT_MISSING");
    assert_eq!(
        case.figures(ExceptionCode::ReceiptMissing),
        texts("100 EA", "0 of 100 EA", "")
    );
    let Verdict::Hold { awaits, .. } = case.decide().verdict else {
        panic!()
    };
    assert_eq!(awaits, [key("PO1", 1)]);
}

#[test]
fn with_too_small_a_receipt_it_is_held_for_the_rest() {
    let mut case = Case::invoice();
    case.receipts[0].received = d("40");
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT");
    assert_eq!(
        case.figures(ExceptionCode::ReceiptShort),
        texts("100 EA", "40 of 100 EA", "")
    );
    assert_eq!(case.decide().report.lines[0].open, Some(d("40")));
}

#[test]
fn receipts_of_other_lines_orders_and_domains_do_not_count() {
    let mut case = Case::invoice();
    let mut other_domain = receipt("RC1", "PO1", 1, "100", "2026-03-01");
    other_domain.key.domain = "20CAN".parse().unwrap();
    case.receipts = vec![
        receipt("RC1", "PO1", 2, "100", "2026-03-01"),
        receipt("RC1", "PO2", 1, "100", "2026-03-01"),
        other_domain,
    ];
    assert_eq!(case.verdict(), "hold RECEIPT_MISSING");
}

#[test]
fn a_receipt_read_twice_counts_once() {
    let mut case = Case::invoice();
    case.receipts[0].received = d("60");
    case.receipts.push(case.receipts[0].clone());
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT");
    case.bill(vec![line(1, "60", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "approve");
    case.receipts[0].vouchered = d("10");
    assert_eq!(
        case.verdict(),
        "hold RECEIPT_SHORT",
        "the reading with less open counts"
    );
    case.receipts.reverse();
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT");
}

#[test]
fn a_receiver_invoiced_beyond_its_quantity_is_not_open_and_takes_nothing_from_others() {
    let mut case = Case::invoice();
    case.order_line().ordered = d("200");
    case.receipts[0].vouchered = d("120");
    case.receipts.push(receipt("RC2", "PO1", 1, "50", "2026-03-02"));
    case.bill(vec![line(1, "50", "10", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RC2 50 at 10 finished"]);
}

#[test]
fn returns_not_yet_credited_lower_what_may_be_matched() {
    let mut case = Case::invoice();
    case.receipts.push(receipt("RT1", "PO1", 1, "-10", "2026-03-02"));
    assert_eq!(case.verdict(), "hold CREDIT_NOTE_MISSING");
    assert_eq!(
        case.figures(ExceptionCode::CreditNoteMissing),
        texts("100 EA", "90 of 100 EA, 10 EA returned and not yet credited", "")
    );
    case.bill(vec![line(1, "90", "10", "PO1", 1)]);
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 90 at 10"],
        "ten stay open on the receiver"
    );
    case.receipts[1].vouchered = d("-4");
    case.bill(vec![line(1, "94", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "approve", "four of them are credited");
}

#[test]
fn what_qad_accepted_is_the_authority_unless_over_receipts_have_a_limit() {
    let mut case = Case::invoice();
    case.receipts[0].received = d("130");
    case.receipts[0].vouchered = d("20");
    case.bill(vec![line(1, "81", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "approve", "received and accepted");
    case.policy.tolerance.limits.ordered_over = Some(Limit::default());
    assert_eq!(case.verdict(), "park BILLED_OVER_ORDERED");
    assert_eq!(
        case.figures(ExceptionCode::BilledOverOrdered),
        texts("100 EA ordered", "101 EA billed in all", "100 EA")
    );
    case.policy.tolerance.limits.ordered_over = Some(Limit::percent(d("1")));
    assert_eq!(case.verdict(), "approve", "within the limit");
    case.bill(vec![line(1, "80", "10", "PO1", 1), line(2, "2", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "park BILLED_OVER_ORDERED", "lines count together");
}

#[test]
fn what_was_credited_may_be_billed_again_and_not_before() {
    let mut case = Case::invoice();
    case.receipts[0].vouchered = d("100");
    case.receipts.push(receipt("RT1", "PO1", 1, "-10", "2026-03-02"));
    case.receipts.push(receipt("RC2", "PO1", 1, "10", "2026-03-03"));
    case.bill(vec![line(1, "10", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "hold CREDIT_NOTE_MISSING");
    assert_eq!(
        case.figures(ExceptionCode::CreditNoteMissing),
        texts("10 EA", "0 of 10 EA, 10 EA returned and not yet credited", "")
    );
    case.receipts[1].vouchered = d("-10");
    assert_eq!(case.matches(), ["PO1 line 1 RC2 10 at 10 finished"]);
}

// ---- other invoices in flight ----------------------------------------------------------------------------------

#[test]
fn a_shortage_that_only_another_invoice_makes_is_held_for_it() {
    let mut case = Case::invoice();
    case.reserve("RC1", "60");
    assert_eq!(case.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");
    assert_eq!(
        case.figures(ExceptionCode::AnotherInvoiceInFlight),
        texts("100 EA", "40 of 100 EA, 60 EA reserved by Coupa invoice 7", "")
    );
    let Verdict::Hold { awaits, .. } = case.decide().verdict else {
        panic!()
    };
    assert_eq!(awaits, [key("PO1", 1)]);
    case.receipts[0].received = d("99");
    assert_eq!(
        case.verdict(),
        "hold RECEIPT_SHORT",
        "it would be short without them, too"
    );
}

#[test]
fn closed_over_ordered_and_amount_results_of_reservations_alone_are_held() {
    let mut closed = Case::invoice();
    closed.order_line().status = OrderStatus::Closed;
    closed.reserve("RC1", "1");
    assert_eq!(closed.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");

    let mut amount = Case::invoice();
    amount.bill(vec![amount_line(1, "1000", "PO1", 1)]);
    amount.reserve("RC1", "1");
    assert_eq!(amount.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");

    let mut over = Case::invoice();
    over.receipts[0].received = d("150");
    over.policy.tolerance.limits.ordered_over = Some(Limit::default());
    over.reserve("RC1", "20");
    assert_eq!(over.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");
    assert_eq!(
        over.figures(ExceptionCode::AnotherInvoiceInFlight),
        texts(
            "100 EA ordered",
            "120 EA billed in all, 20 EA reserved by Coupa invoice 7",
            ""
        )
    );
}

#[test]
fn a_reservation_takes_from_its_own_receiver() {
    let mut case = Case::invoice();
    case.receipts = vec![
        receipt("RC1", "PO1", 1, "50", "2026-03-01"),
        receipt("RC2", "PO1", 1, "50", "2026-03-02"),
    ];
    case.reserve("RC1", "40");
    case.receipts[0].received = d("55");
    case.receipts[1].received = d("60");
    case.bill(vec![line(1, "15", "10", "PO1", 1)]);
    assert_eq!(
        case.verdict(),
        "hold RECEIVER_LINE_IN_FLIGHT",
        "fifteen are left of the first one"
    );
    case.bill(vec![line(1, "14", "10", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 14 at 10"]);
}

#[test]
fn own_reservations_and_those_of_credit_notes_do_not_stand_in_the_way() {
    let mut case = Case::invoice();
    case.reserve("RC1", "100");
    case.reservations[0].invoice = case.invoice.id;
    assert_eq!(case.verdict(), "approve");
    // Another Coupa instance numbers its invoices alike.
    case.reservations[0].connection = Some("beta".parse().unwrap());
    assert_eq!(case.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");
    let decision = case.decide();
    let named = &verdict_exceptions(&decision.verdict)[0].actual;
    assert!(named.ends_with("92010 of connection beta"), "{named}");
    case.reservations[0].connection = None;
    case.reserve("RT1", "-100");
    assert_eq!(case.verdict(), "approve");
}

#[test]
fn a_reservation_on_a_receiver_that_is_not_shown_lowers_the_total() {
    let mut case = Case::invoice();
    case.reserve("RC8", "1");
    assert_eq!(case.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");
}

// ---- credit notes ----------------------------------------------------------------------------------------------

#[test]
fn a_credit_note_is_matched_to_returns_and_negative_throughout() {
    let mut case = Case::credit_note();
    case.invoice.tax = d("-5");
    case.invoice.charges = vec![Charge {
        kind: ChargeKind::Shipping,
        amount: d("-2"),
        coding: Vec::new(),
    }];
    case.invoice.total = d("-107");
    let draft = case.draft();
    assert_eq!(draft.identity.kind, DocumentKind::CreditNote);
    assert_eq!(draft.daybook.as_str(), "SC");
    assert_eq!(
        (draft.total, draft.tax, draft.costs[0].amount),
        (d("-107"), d("-5"), d("-2"))
    );
    assert_eq!(case.matches(), ["PO1 line 1 RT1 -10 at 10 finished"]);
    let row = &case.decide().report.lines[0];
    assert_eq!((row.open, row.this_invoice), (Some(d("-10")), Some(d("-10"))));
    assert_eq!(
        (row.received, row.already_invoiced),
        (Some(d("90")), Some(d("100")))
    );
}

#[test]
fn a_credit_note_without_a_large_enough_return_is_held() {
    let mut case = Case::credit_note();
    case.receipts[1].vouchered = d("-4");
    assert_eq!(case.verdict(), "hold RETURN_MISSING");
    assert_eq!(
        case.figures(ExceptionCode::ReturnMissing),
        texts("10 EA", "6 of 10 EA", "")
    );
    case.receipts.pop();
    assert_eq!(case.verdict(), "hold RETURN_MISSING");
    case.order_line().status = OrderStatus::Closed;
    assert_eq!(
        case.verdict(),
        "hold RETURN_MISSING",
        "goods come back after the order was closed"
    );
}

#[test]
fn returns_are_credited_first_in_first_out() {
    let mut case = Case::credit_note();
    case.receipts.push(receipt("RT0", "PO1", 1, "-5", "2026-03-07"));
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RT0 -5 at 10 finished", "PO1 line 1 RT1 -5 at 10"]
    );
}

#[test]
fn qad_may_round_each_row_of_tax_and_two_cents_in_all() {
    let mut case = Case::invoice();
    for (rows, expected) in [(0, "0.02"), (2, "0.02"), (3, "0.03")] {
        case.invoice.terms.tax_rows = rows;
        assert_eq!(case.draft().echo, d(expected), "{rows}");
    }
    case.policy.tolerance.limits.echo = Limit::free(d("0.10"));
    assert_eq!(case.draft().echo, d("0.10"));
    case.invoice.terms.minor_digits = Some(0);
    assert_eq!(case.draft().echo, d("3"));
}

#[test]
fn a_credit_note_in_flight_holds_the_other_for_the_same_return() {
    let mut case = Case::credit_note();
    case.reserve("RT1", "-4");
    assert_eq!(case.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");
    case.bill(vec![line(1, "-5", "10", "PO1", 1)]);
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RT1 -5 at 10"],
        "the other's four stay open until they are posted"
    );
    case.bill(vec![line(1, "-6", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "hold RECEIVER_LINE_IN_FLIGHT");
}

#[test]
fn an_amount_line_of_a_credit_note_that_takes_goods_back_is_resolved_within_the_returns() {
    let mut case = Case::credit_note();
    let returned = |total: &str| InvoiceLine {
        adjustment: Some(Adjustment::Quantity),
        ..amount_line(1, total, "PO1", 1)
    };
    case.bill(vec![returned("-75")]);
    assert_eq!(case.matches(), ["PO1 line 1 RT1 -7.5 at 10"]);
    case.bill(vec![returned("-150")]);
    assert_eq!(case.verdict(), "hold RETURN_MISSING", "more may come back");
    case.receipts.pop();
    assert_eq!(case.verdict(), "hold RETURN_MISSING");
    case.order_line().unit_price = Decimal::ZERO;
    assert!(
        case.verdict().contains("AMOUNT_LINE_UNRESOLVED"),
        "an amount at no price is no quantity, whatever comes back: {}",
        case.verdict()
    );
}

#[test]
fn a_credit_of_a_price_never_touches_a_return_and_the_real_one_posts() {
    let mut case = Case::invoice();
    case.order_line().unit_price = d("12.50");
    case.receipts[0].vouchered = d("100");
    case.receipts.push(receipt("RT1", "PO1", 1, "-100", "2026-03-08"));
    case.invoice.kind = DocumentKind::CreditNote;
    for adjustment in [Adjustment::Price, Adjustment::Other] {
        case.policy.credits = Default::default();
        let mut credit = line(1, "-100", "0.50", "PO1", 1);
        credit.adjustment = Some(adjustment);
        case.bill(vec![credit]);
        assert_eq!(case.verdict(), "park CREDIT_NOT_MAPPED", "{adjustment:?}");
        let account = ChargeAccount {
            gl_account: "5100".parse().unwrap(),
            sub_account: String::new(),
            cost_center: String::new(),
            project: String::new(),
        };
        match adjustment {
            Adjustment::Price => case.policy.credits.price_account = Some(account),
            _ => case.policy.credits.other_account = Some(account),
        }
        let draft = case.draft();
        assert_eq!(draft.matches, []);
        assert_eq!(
            (draft.costs[0].gl_account.as_str(), draft.costs[0].amount),
            ("5100", d("-50"))
        );
    }
    // The same figures without a word are goods, and the real credit takes the return.
    case.bill(vec![line(1, "-100", "12.50", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RT1 -100 at 12.5 finished"]);
    // An amount that names no purpose credits no goods.
    case.policy.credits = Default::default();
    case.bill(vec![amount_line(1, "-50", "PO1", 1)]);
    assert_eq!(case.verdict(), "park CREDIT_NOT_MAPPED");
}

// ---- all together ----------------------------------------------------------------------------------------------

#[test]
fn figures_beyond_exactness_are_parked() {
    type Spoil = fn(&mut Case);
    let spoils: [Spoil; 6] = [
        |case| case.order_line().unit_price = Decimal::MAX,
        |case| {
            case.order_line().ordered = Decimal::MAX;
            case.policy.tolerance.limits.ordered_over = Some(Limit::percent(Decimal::ONE));
        },
        |case| case.receipts[0].vouchered = Decimal::MIN,
        |case| case.reserve("RC1", "79228162514264337593543950335"),
        |case| case.invoice.total = Decimal::MIN,
        |case| {
            case.invoice.lines[0].billed = Billed::Quantity {
                quantity: d("1234567890.123456789"),
                unit_price: d("1234567890.123456789"),
                unit: None,
            }
        },
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        let mut case = Case::invoice();
        case.reserve("RC1", "1");
        spoil(&mut case);
        let verdict = case.verdict();
        assert!(
            verdict.starts_with("park") && verdict.contains("OUT_OF_RANGE"),
            "{number}: {verdict}"
        );
    }
}

#[test]
fn all_exceptions_of_all_lines_are_told_at_once_and_parking_wins() {
    let mut case = Case::invoice();
    case.order_line().ordered = d("50");
    case.bill(vec![
        in_unit(line(1, "5", "1", "PO1", 1), "KG"),
        line(2, "101", "11", "PO1", 1),
        line(3, "1", "1", "GONE", 1),
    ]);
    case.invoice.supplier.number = None;
    case.invoice.total += d("1");
    assert_eq!(
        case.verdict(),
        "park SUPPLIER_NOT_LINKED TOTALS_DISAGREE UNIT_DIFFERS PRICE_OVER_TOLERANCE BILLED_OVER_ORDERED \
         RECEIPT_SHORT ORDER_NOT_FOUND"
    );
    let report = case.decide().report;
    let codes: Vec<_> = report.lines.iter().map(|row| row.exceptions.len()).collect();
    assert_eq!(codes, [1, 3, 1]);
}

#[test]
fn awaited_order_lines_are_sorted_without_repeats() {
    let mut case = Case::invoice();
    case.receipts.clear();
    case.orders.extend([order("AA", vec![order_line(1, "9", "1")])]);
    case.bill(vec![
        line(1, "1", "10", "PO1", 1),
        line(2, "1", "1", "AA", 1),
        line(3, "1", "10", "po1", 1),
    ]);
    let Verdict::Hold { awaits, exceptions } = case.decide().verdict else {
        panic!()
    };
    assert_eq!(awaits, [key("AA", 1), key("PO1", 1)]);
    assert_eq!(exceptions.len(), 3);
}

// ---- the order in Coupa ----------------------------------------------------------------------------------------

#[test]
fn an_order_that_is_cancelled_or_closed_in_coupa_is_parked_although_everything_matches_in_qad() {
    use CoupaOrderStanding::{Cancelled, Closed, NotIssued, NotTold, Open, SoftClosed, Unknown};
    for (standing, verdict) in [
        (NotTold, "approve"),
        (Open, "approve"),
        (SoftClosed, "park COUPA_ORDER_CLOSED"),
        (Closed, "park COUPA_ORDER_CLOSED"),
        (NotIssued, "hold COUPA_ORDER_NOT_ISSUED"),
        (Unknown, "park COUPA_ORDER_STATUS_UNKNOWN"),
        (Cancelled, "park COUPA_ORDER_CANCELLED"),
    ] {
        let mut case = Case::invoice();
        case.in_coupa(standing);
        assert_eq!(case.verdict(), verdict, "{standing:?}, order");
        let told = case.decide().report.lines[0].coupa_order.clone().unwrap();
        assert_eq!((told.order.as_str(), told.standing), ("PO1", standing));
        let mut case = Case::invoice();
        case.in_coupa(Open).lines[0].status = coupa_status(standing);
        assert_eq!(case.verdict(), verdict, "{standing:?}, line");
    }
}

#[test]
fn unless_the_connection_says_otherwise_a_closed_order_is_told_and_a_cancelled_one_parked() {
    use CoupaOrderStanding::{Cancelled, Closed, SoftClosed};
    for (standing, verdict) in [
        (SoftClosed, "approve"),
        (Closed, "approve"),
        (Cancelled, "park COUPA_ORDER_CANCELLED"),
    ] {
        let mut case = Case::invoice();
        case.policy.coupa_orders = CoupaOrderPolicy::default();
        case.in_coupa(standing);
        assert_eq!(case.verdict(), verdict, "{standing:?}");
    }
}

#[test]
fn of_an_order_and_its_line_the_worse_counts_and_another_line_does_not() {
    let mut case = Case::invoice();
    case.in_coupa(CoupaOrderStanding::Closed).lines[0].status = coupa_status(CoupaOrderStanding::Cancelled);
    assert_eq!(case.verdict(), "park COUPA_ORDER_CANCELLED");
    let order = case.in_coupa(CoupaOrderStanding::Open);
    order.lines[0].number = Some("2".to_owned());
    order.lines[0].status = coupa_status(CoupaOrderStanding::Cancelled);
    assert_eq!(case.verdict(), "approve");
    // Coupa's id of the line is surer than its number.
    case.invoice.lines[0].coupa_order.as_mut().unwrap().line_id = Some(9001);
    assert_eq!(case.verdict(), "park COUPA_ORDER_CANCELLED");
}

#[test]
fn what_the_connection_leaves_to_qad_is_told_and_in_the_way_of_nothing() {
    let mut case = Case::invoice();
    case.in_coupa(CoupaOrderStanding::SoftClosed);
    case.policy.coupa_orders.soft_closed = OnCoupaOrder::LetQadDecide;
    assert_eq!(case.verdict(), "approve");
    let told = case.decide().report.lines[0].coupa_order.clone().unwrap();
    assert_eq!(told.word, "soft_closed");
    case.in_coupa(CoupaOrderStanding::Closed);
    assert_eq!(
        case.verdict(),
        "park COUPA_ORDER_CLOSED",
        "each has its own setting"
    );
    case.policy.coupa_orders.closed = OnCoupaOrder::LetQadDecide;
    assert_eq!(case.verdict(), "approve");
    case.receipts.clear();
    assert_eq!(
        case.verdict(),
        "hold RECEIPT_MISSING",
        "never ahead of the receipt"
    );
}

#[test]
fn a_person_may_accept_a_closed_order_and_nothing_ahead_of_the_receipt() {
    let mut case = Case::invoice();
    case.in_coupa(CoupaOrderStanding::Closed);
    let Verdict::Park { exceptions } = case.decide().verdict else {
        panic!()
    };
    let accepted = |case: &Case| decide_accepting(&case.input(), &exceptions).verdict;
    assert!(matches!(accepted(&case), Verdict::Approve { .. }));
    let mut without = case.clone();
    without.receipts.clear();
    assert!(matches!(accepted(&without), Verdict::Hold { .. }));
    case.in_coupa(CoupaOrderStanding::Cancelled);
    assert!(
        matches!(accepted(&case), Verdict::Park { .. }),
        "another thing than was accepted"
    );
}

#[test]
fn a_two_way_line_needs_its_receipt_all_the_same_and_says_so() {
    let mut case = Case::invoice();
    case.in_coupa(CoupaOrderStanding::Open).lines[0].receipt_required = Some(false);
    assert_eq!(case.verdict(), "approve", "received in QAD");
    case.receipts[0].received = d("40");
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT TWO_WAY_LINE");
    case.receipts.clear();
    assert_eq!(case.verdict(), "hold RECEIPT_MISSING TWO_WAY_LINE");
    case.in_coupa(CoupaOrderStanding::Open).lines[0].receipt_required = Some(true);
    assert_eq!(case.verdict(), "hold RECEIPT_MISSING");
}

#[test]
fn what_was_returned_is_credited_whatever_has_become_of_the_order_in_coupa() {
    for standing in [
        CoupaOrderStanding::Closed,
        CoupaOrderStanding::SoftClosed,
        CoupaOrderStanding::Cancelled,
        CoupaOrderStanding::NotIssued,
        CoupaOrderStanding::Unknown,
    ] {
        let mut case = Case::credit_note();
        case.policy.coupa_orders.closed = OnCoupaOrder::Park;
        case.in_coupa(standing);
        assert_eq!(case.verdict(), "approve", "{standing:?}");
        case.receipts.truncate(1);
        assert_eq!(case.verdict(), "hold RETURN_MISSING", "{standing:?}");
    }
}

#[test]
fn an_order_that_coupa_does_not_have_says_nothing() {
    let mut case = Case::invoice();
    case.coupa_orders.insert(fold("PO1"), None);
    assert_eq!(case.verdict(), "approve");
    assert_eq!(case.decide().report.lines[0].coupa_order, None);
}

// ---- a receiver line shared with an invoice in flight -----------------------------------------------------------

#[test]
fn the_rest_of_a_receiver_line_waits_for_the_invoice_that_takes_the_other_part() {
    let mut case = Case::invoice();
    case.reserve("RC1", "60");
    case.bill(vec![line(1, "40", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "hold RECEIVER_LINE_IN_FLIGHT");
    assert_eq!(
        case.decide().report.lines[0].exceptions,
        [ExceptionCode::ReceiverLineInFlight]
    );
    let Verdict::Hold { awaits, .. } = case.decide().verdict else {
        panic!()
    };
    assert_eq!(awaits, [key("PO1", 1)]);
    // The other one is posted: nothing of the line stays open.
    case.reservations.clear();
    case.receipts[0].vouchered = d("60");
    assert_eq!(case.matches(), ["PO1 line 1 RC1 40 at 10 finished"]);
    // The other one came to nothing: the rest stays open.
    case.receipts[0].vouchered = Decimal::ZERO;
    assert_eq!(case.matches(), ["PO1 line 1 RC1 40 at 10"]);
}

#[test]
fn only_the_rest_waits_and_only_for_the_line_that_is_in_flight() {
    let mut case = Case::invoice();
    case.reserve("RC1", "60");
    case.bill(vec![line(1, "39", "10", "PO1", 1)]);
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 39 at 10"],
        "something stays open"
    );
    let mut case = Case::invoice();
    case.receipts[0].received = d("60");
    case.receipts.push(receipt("RC2", "PO1", 1, "40", "2026-03-02"));
    case.reserve("RC1", "60");
    case.bill(vec![line(1, "40", "10", "PO1", 1)]);
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC2 40 at 10 finished"],
        "another receiver line"
    );
}
