//! Lines that no receiver takes: without an order, negative, with an order that only Coupa has, without a receipt.

use super::*;
use crate::documents::{CodedShare, Share};
use crate::policy::{CodedField, Coding, OnLine, OnOrderOnlyInCoupa};

fn account(segment_2: &str, segment_3: &str) -> BTreeMap<String, String> {
    [
        ("code".to_owned(), format!("10USA-{segment_2}-{segment_3}")),
        ("segment-1".to_owned(), "10USA".to_owned()),
        ("segment-2".to_owned(), segment_2.to_owned()),
        ("segment-3".to_owned(), segment_3.to_owned()),
    ]
    .into()
}

fn coded(segment_2: &str, segment_3: &str) -> Vec<CodedShare> {
    vec![CodedShare {
        account: account(segment_2, segment_3),
        share: Share::Whole,
    }]
}

fn field(name: &str) -> CodedField {
    CodedField {
        field: name.to_owned(),
        map: BTreeMap::new(),
    }
}

/// A line that bills an amount and names no order.
fn free_line(number: u32, total: &str, coding: Vec<CodedShare>) -> InvoiceLine {
    InvoiceLine {
        order_line: None,
        coupa_order: None,
        description: "Cleaning".to_owned(),
        coding,
        ..amount_line(number, total, "PO1", 1)
    }
}

fn with_coding(mut case: Case) -> Case {
    case.policy.coding = Some(Coding {
        gl_account: field("segment-2"),
        sub_account: None,
        cost_center: Some(field("segment-3")),
        project: None,
    });
    case
}

/// (account, cost center, amount) of every cost.
fn costs(case: &Case) -> Vec<String> {
    let shown = |cost: &AdditionalCost| format!("{} {} {}", cost.gl_account, cost.cost_center, cost.amount);
    case.draft().costs.iter().map(shown).collect()
}

#[test]
fn freight_without_an_order_beside_goods_goes_to_its_account() {
    let mut case = with_coding(Case::invoice());
    case.bill(vec![
        line(1, "100", "10", "PO1", 1),
        free_line(2, "50.00", coded("6150", "300")),
    ]);
    assert_eq!(case.verdict(), "park LINE_WITHOUT_ORDER");
    case.policy.lines.without_order = OnLine::Gl;
    assert_eq!(costs(&case), ["6150 300 50"]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 100 at 10 finished"]);
    assert_eq!(case.draft().invoice_status, "AP-RMALLOC");
    assert_eq!(case.draft().total, d("1050"));
}

#[test]
fn an_invoice_without_any_order_has_the_status_of_the_general_ledger() {
    let mut case = with_coding(Case::invoice());
    case.policy.lines.without_order = OnLine::Gl;
    case.bill(vec![free_line(1, "1800.00", coded("6150", "300"))]);
    let draft = case.draft();
    assert_eq!(draft.invoice_status, "AP-GLALLOC");
    assert!(draft.matches.is_empty() && draft.orders.is_empty());
    assert_eq!(costs(&case), ["6150 300 1800"]);
    assert!(case.decide().report.lines[0].to_ledger);
}

#[test]
fn a_discount_line_lowers_the_bill_where_the_connection_lets_it() {
    let mut case = with_coding(Case::invoice());
    case.bill(vec![
        line(1, "100", "10", "PO1", 1),
        free_line(2, "-50.00", coded("6150", "300")),
    ]);
    assert_eq!(case.verdict(), "park LINE_NEGATIVE");
    case.policy.lines.negative = OnLine::Gl;
    assert_eq!(costs(&case), ["6150 300 -50"]);
    assert_eq!(case.draft().total, d("950"));
    // On a credit note a line of the other sign still contradicts it.
    let mut credit = with_coding(Case::credit_note());
    credit.policy.lines.negative = OnLine::Gl;
    credit.bill(vec![line(1, "-10", "10", "PO1", 1), line(2, "1", "5", "PO1", 1)]);
    assert!(
        credit.verdict().contains("SIGN_CONTRADICTS"),
        "{}",
        credit.verdict()
    );
}

#[test]
fn what_the_coding_does_not_lead_to_is_told_with_what_is_missing() {
    let mut case = with_coding(Case::invoice());
    case.policy.lines.without_order = OnLine::Gl;
    case.bill(vec![free_line(1, "10", vec![])]);
    assert_eq!(case.verdict(), "park ACCOUNT_NOT_MAPPED");
    case.bill(vec![free_line(1, "10", coded("", "300"))]);
    assert!(
        case.figures(ExceptionCode::AccountNotMapped)
            .1
            .contains("segment-2")
    );
    case.bill(vec![free_line(1, "10", coded("6150", "300"))]);
    let coding = case.policy.coding.as_mut().unwrap();
    coding.cost_center = Some(CodedField {
        field: "segment-3".to_owned(),
        map: [("200".to_owned(), "CC-200".to_owned())].into(),
    });
    assert!(
        case.figures(ExceptionCode::AccountNotMapped)
            .1
            .contains("\"300\"")
    );
    case.bill(vec![free_line(1, "10", coded("6150", "200"))]);
    assert_eq!(costs(&case), ["6150 CC-200 10"]);
    case.policy.coding = None;
    assert_eq!(case.verdict(), "park ACCOUNT_NOT_MAPPED");
}

#[test]
fn shares_make_up_the_whole_and_rounding_goes_to_the_largest() {
    let share = |segment: &str, share: Share| CodedShare {
        account: account(segment, "300"),
        share,
    };
    let billed = |total: &str, shares: Vec<CodedShare>| {
        let mut case = with_coding(Case::invoice());
        case.policy.lines.without_order = OnLine::Gl;
        case.bill(vec![free_line(1, total, shares)]);
        case
    };
    let thirds = || {
        vec![
            share("6150", Share::Percent(d("33.33"))),
            share("6160", Share::Percent(d("33.34"))),
            share("6170", Share::Percent(d("33.33"))),
        ]
    };
    assert_eq!(
        costs(&billed("100.01", thirds())),
        ["6150 300 33.33", "6160 300 33.35", "6170 300 33.33"]
    );
    let amounts = vec![
        share("6150", Share::Amount(d("60"))),
        share("6160", Share::Amount(d("40"))),
    ];
    assert_eq!(
        costs(&billed("100", amounts.clone())),
        ["6150 300 60", "6160 300 40"]
    );
    assert_eq!(billed("120", amounts).verdict(), "park ACCOUNT_NOT_MAPPED");
}

#[test]
fn a_charge_is_coded_by_the_document_then_by_its_kind() {
    let charge = |kind, coding| Charge {
        kind,
        amount: d("20"),
        coding,
    };
    let with = |charge: Charge| {
        let mut case = with_coding(Case::invoice());
        case.invoice.charges = vec![charge];
        case.invoice.total = d("1020");
        case
    };
    assert_eq!(
        costs(&with(charge(ChargeKind::Misc, coded("6150", "300")))),
        ["6150 300 20"]
    );
    assert_eq!(
        costs(&with(charge(ChargeKind::Shipping, vec![]))),
        ["6100 CC1 20"]
    );
    assert_eq!(
        costs(&with(charge(ChargeKind::Shipping, coded("", "")))),
        ["6100 CC1 20"]
    );
    assert_eq!(
        with(charge(ChargeKind::Misc, coded("", ""))).verdict(),
        "park ACCOUNT_NOT_MAPPED"
    );
    assert_eq!(
        with(charge(ChargeKind::Misc, vec![])).verdict(),
        "park CHARGE_NOT_MAPPED"
    );
}

/// A coding of which the second share of a split leads nowhere.
fn half_mapped(mut case: Case, half: &str) -> (Case, Vec<CodedShare>) {
    let coding = case.policy.coding.as_mut().unwrap();
    coding.gl_account.map = [("6150".to_owned(), "7150".to_owned())].into();
    let share = |segment: &str| CodedShare {
        account: account(segment, "300"),
        share: Share::Percent(d("50")),
    };
    (case, vec![share("6150"), share(half)])
}

#[test]
fn what_the_account_says_and_the_map_lacks_is_never_put_on_another_account() {
    for half in ["6999", ""] {
        let (mut case, shares) = half_mapped(with_coding(Case::invoice()), half);
        case.invoice.charges = vec![Charge {
            kind: ChargeKind::Shipping,
            amount: d("20"),
            coding: shares,
        }];
        case.invoice.total = d("1020");
        assert_eq!(case.verdict(), "park ACCOUNT_NOT_MAPPED", "{half:?}");
        case.invoice.charges[0].coding = coded("6999", "300");
        assert_eq!(case.verdict(), "park ACCOUNT_NOT_MAPPED");
        let told = case.figures(ExceptionCode::AccountNotMapped).1;
        assert!(
            told.contains("\"6999\" is not in coding.gl_account.map"),
            "{told}"
        );
        case.invoice.charges[0].coding = coded("", "300");
        assert_eq!(costs(&case), ["6100 CC1 20"], "it says nothing");

        let (mut credit, shares) = half_mapped(with_coding(Case::credit_note()), half);
        credit.policy.credits.other_account =
            credit.policy.charge_accounts.get(&ChargeKind::Shipping).cloned();
        credit.bill(vec![free_line(1, "-50", shares)]);
        assert_eq!(credit.verdict(), "park CREDIT_NOT_MAPPED", "{half:?}");
        credit.bill(vec![free_line(1, "-50", coded("", ""))]);
        assert_eq!(costs(&credit), ["6100 CC1 -50"]);
    }
}

#[test]
fn an_amount_line_of_a_credit_note_without_an_order_credits_something_other_than_goods() {
    let mut case = with_coding(Case::credit_note());
    case.bill(vec![free_line(1, "-50.00", vec![])]);
    assert_eq!(case.verdict(), "park CREDIT_NOT_MAPPED");
    case.policy.credits.other_account = case.policy.charge_accounts.get(&ChargeKind::Shipping).cloned();
    assert_eq!(costs(&case), ["6100 CC1 -50"]);
    case.bill(vec![free_line(1, "-50.00", coded("6150", "300"))]);
    assert_eq!(costs(&case), ["6150 300 -50"]);
    // Goods that are credited without an order are a person's, as those that are billed.
    let goods = InvoiceLine {
        order_line: None,
        ..line(1, "-5", "10", "PO1", 1)
    };
    case.bill(vec![goods]);
    assert_eq!(case.verdict(), "park LINE_WITHOUT_ORDER");
}

#[test]
fn a_charge_alone_is_something_to_post() {
    let mut case = Case::invoice();
    case.bill(vec![line(1, "0", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "park NOTHING_TO_POST");
    case.invoice.charges = vec![Charge {
        kind: ChargeKind::Shipping,
        amount: d("50"),
        coding: vec![],
    }];
    case.invoice.total = d("50");
    assert_eq!(costs(&case), ["6100 CC1 50"]);
    assert_eq!(case.draft().invoice_status, "AP-GLALLOC");
}

/// An order that only Coupa has, received there in this quantity.
fn only_in_coupa(received: Option<&str>, required: Option<bool>) -> Case {
    let mut case = with_coding(Case::invoice());
    case.orders = [("PO1".parse().unwrap(), None)].into();
    case.receipts.clear();
    case.policy.lines.order_only_in_coupa = OnOrderOnlyInCoupa::Gl;
    case.invoice.lines[0].coding = coded("6150", "300");
    let order = case.in_coupa(CoupaOrderStanding::Open);
    order.lines[0].received = received.map(d);
    order.lines[0].receipt_required = required;
    case
}

#[test]
fn an_order_that_only_coupa_has_goes_to_the_ledger_once_coupa_has_matched_it() {
    let matched = only_in_coupa(Some("100"), Some(true));
    assert_eq!(costs(&matched), ["6150 300 1000"]);
    assert_eq!(costs(&only_in_coupa(None, Some(false))), ["6150 300 1000"]);
    for held in [
        only_in_coupa(Some("99"), Some(true)),
        only_in_coupa(None, Some(true)),
        only_in_coupa(Some("100"), None),
    ] {
        assert_eq!(held.verdict(), "hold ORDER_NOT_FOUND");
    }
    let mut failed = only_in_coupa(Some("100"), Some(true));
    failed.invoice.lines[0].failed_tolerances = true;
    assert_eq!(failed.verdict(), "hold ORDER_NOT_FOUND");
    let mut by_default = only_in_coupa(Some("100"), Some(true));
    by_default.policy.lines.order_only_in_coupa = OnOrderOnlyInCoupa::Hold;
    assert_eq!(by_default.verdict(), "hold ORDER_NOT_FOUND");
}

#[test]
fn what_coupa_has_received_is_billed_once_on_whatever_lines_and_invoices() {
    let of_order = |lines: &[(&str, &str)]| -> QuantitiesInCoupa {
        let lines = lines
            .iter()
            .map(|(line, quantity)| ((*line).to_owned(), d(quantity)));
        [("PO1".to_owned(), lines.collect())].into()
    };
    let two_lines = |received: &str| {
        let mut case = only_in_coupa(Some(received), Some(true));
        let mut half = case.invoice.lines[0].clone();
        half.number = 2;
        case.bill(vec![case.invoice.lines[0].clone(), half]);
        case
    };
    assert_eq!(two_lines("199").verdict(), "hold ORDER_NOT_FOUND ORDER_NOT_FOUND");
    let both = two_lines("200");
    assert_eq!(costs(&both), ["6150 300 1000", "6150 300 1000"]);
    assert_eq!(both.draft().billed_in_coupa, of_order(&[("9001", "200")]));
    assert_eq!(received_in_coupa(&both.input()), of_order(&[("9001", "200")]));

    let mut second = only_in_coupa(Some("160"), Some(true));
    assert_eq!(second.verdict(), "approve");
    second.billed_in_coupa = of_order(&[("9001", "60"), ("9002", "999")]);
    assert_eq!(costs(&second), ["6150 300 1000"]);
    second.billed_in_coupa = of_order(&[("9001", "60.5")]);
    assert_eq!(second.verdict(), "hold ORDER_NOT_FOUND");
    // By its number where Coupa gives its lines no id, and by nothing where it gives neither.
    let mut case = only_in_coupa(Some("100"), Some(true));
    let order = case.coupa_orders.get_mut("PO1").unwrap().as_mut().unwrap();
    order.lines[0].id = None;
    assert_eq!(case.draft().billed_in_coupa, of_order(&[("line 1", "100")]));
    // What wants no receipt, and what QAD has, is counted elsewhere.
    assert!(received_in_coupa(&only_in_coupa(None, Some(false)).input()).is_empty());
    assert!(Case::invoice().draft().billed_in_coupa.is_empty());
}

#[test]
fn of_more_orders_than_one_approval_can_note_nothing_is_posted_on_coupas_word() {
    let of_orders = |count: u32| {
        let mut case = only_in_coupa(Some("100"), Some(true));
        case.bill(Vec::new());
        for number in 1..=count {
            let name = format!("PO{number}");
            case.orders.insert(name.parse().unwrap(), None);
            let mut order = coupa_order(&name, CoupaOrderStanding::Open);
            order.lines[0].received = Some(d("100"));
            order.lines[0].receipt_required = Some(true);
            case.coupa_orders.insert(fold(&name), Some(order));
            let mut billed = line(number, "1", "10", &name, 1);
            billed.coding = coded("6150", "300");
            case.invoice.total += billed.total;
            case.invoice.lines.push(billed);
        }
        case
    };
    assert_eq!(of_orders(10).verdict(), "approve");
    assert!(of_orders(11).verdict().starts_with("hold ORDER_NOT_FOUND"));
}

#[test]
fn a_line_that_wants_no_receipt_goes_to_the_ledger_where_the_connection_lets_it() {
    let two_way = |on: OnLine| {
        let mut case = with_coding(Case::invoice());
        case.receipts.clear();
        case.policy.lines.without_receipt = on;
        case.invoice.lines[0].coding = coded("6150", "300");
        case.in_coupa(CoupaOrderStanding::Open).lines[0].receipt_required = Some(false);
        case
    };
    assert_eq!(costs(&two_way(OnLine::Gl)), ["6150 300 1000"]);
    assert!(two_way(OnLine::Park).verdict().starts_with("hold "));
    let mut failed = two_way(OnLine::Gl);
    failed.invoice.lines[0].failed_tolerances = true;
    assert!(failed.verdict().starts_with("hold "));
}

#[test]
fn a_payment_term_that_fits_no_code_is_never_dropped() {
    let mut case = Case::invoice();
    case.invoice.payment_term = Some("2% 10 Days Net 30 End Of Month".to_owned());
    assert_eq!(case.verdict(), "park CREDIT_TERMS_NOT_MAPPED");
    case.policy.credit_terms = [(
        "2% 10 days net 30 end of month".to_owned(),
        "N30".parse().unwrap(),
    )]
    .into();
    assert_eq!(case.draft().credit_terms.unwrap().as_str(), "N30");
    case.invoice.payment_term = None;
    assert_eq!(case.draft().credit_terms, None);
}

/// What an invoice that waits is accrued on: each share as it would be posted, and what leads nowhere with its amount all the same.
#[test]
fn an_invoice_that_waits_is_accrued_as_it_would_be_posted() {
    let mut case = with_coding(Case::invoice());
    let half = |segment: &str| CodedShare {
        account: account(segment, "300"),
        share: Share::Percent(d("50")),
    };
    case.bill(vec![
        free_line(1, "10.01", vec![half("6150"), half("6160")]),
        free_line(2, "7", vec![half("6150")]),
        free_line(3, "0", coded("6150", "300")),
        free_line(4, "5", vec![]),
    ]);
    case.invoice.charges = [coded("6170", "310"), coded("", ""), vec![]]
        .map(|coding| Charge {
            kind: ChargeKind::Shipping,
            amount: d("20"),
            coding,
        })
        .to_vec();
    let shown = |case: &Case| -> Vec<String> {
        let coding = coding_of(&case.invoice, &case.policy);
        let text = |one: &LineCoding| {
            let account = one.account.as_ref();
            let account = account.map(|to| format!("{} {}", to.gl_account, to.cost_center));
            format!(
                "{:?} {} {} {}",
                one.line,
                one.amount,
                account.unwrap_or_default(),
                one.coupa
            )
        };
        coding.iter().map(text).collect()
    };
    assert_eq!(
        shown(&case),
        [
            "Some(1) 5 6150 300 10USA-6150-300",
            "Some(1) 5.01 6160 300 10USA-6160-300",
            "Some(2) 7  10USA-6150-300",
            "Some(4) 5  ",
            "None 20 6170 310 10USA-6170-310",
            "None 20 6100 CC1 10USA--",
            "None 20 6100 CC1 ",
        ]
    );
    // Without a coding of the connection it is told as Coupa shows it.
    case.policy.coding = None;
    assert_eq!(shown(&case)[0], "Some(1) 5  10USA-6150-300");
    let many = (1..=CODING_KEPT_MAX as u32 + 9).map(|number| free_line(number, "1", vec![]));
    case.bill(many.collect());
    case.invoice.charges.clear();
    let coding = coding_of(&case.invoice, &case.policy);
    assert_eq!(coding.len(), CODING_KEPT_MAX + 1);
    assert_eq!(coding[CODING_KEPT_MAX].amount, d("9"));
}
