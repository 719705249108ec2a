//! A credit note that cancels an invoice as a whole.

use super::*;
use crate::documents::{Charge, ChargeKind};
use crate::policy::OnLine;

/// Freight.
fn freight(amount: &str) -> Vec<Charge> {
    vec![Charge {
        kind: ChargeKind::Shipping,
        amount: d(amount),
        coding: Vec::new(),
    }]
}

/// Order PO1 line 1: 100 EA at 10.00, received on two receivers and billed with 50.00 freight and 210.00 tax; a credit note that
/// cancels that invoice.
fn cancelling() -> Case {
    let mut case = Case::invoice();
    case.receipts = vec![
        receipt("RC1", "PO1", 1, "60", "2026-03-01"),
        receipt("RC2", "PO1", 1, "40", "2026-03-02"),
    ];
    case.invoice.charges = freight("50");
    case.invoice.tax = d("210");
    case.invoice.total = d("1260");
    let posted = case.draft();
    case.receipts[0].vouchered = d("60");
    case.receipts[1].vouchered = d("40");
    case.original = Some(Original::Posted {
        draft: Box::new(posted),
        cancelled_by: None,
    });
    case.invoice.id = InvoiceId(92011);
    case.invoice.kind = DocumentKind::CreditNote;
    case.invoice.reference = "CN-1".parse().unwrap();
    case.invoice.original_reference = Some("INV-1".to_owned());
    case.invoice.lines = vec![line(1, "-100", "10", "PO1", 1)];
    case.invoice.charges = freight("-50");
    case.invoice.tax = d("-210");
    case.invoice.total = d("-1260");
    case
}

#[test]
fn it_takes_back_the_very_receivers_and_costs_without_any_return() {
    let case = cancelling();
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 -60 at 10", "PO1 line 1 RC2 -40 at 10"]
    );
    let draft = case.draft();
    assert_eq!((draft.total, draft.tax), (d("-1260"), d("-210")));
    let costs: Vec<_> = draft
        .costs
        .iter()
        .map(|cost| (cost.gl_account.as_str(), cost.amount))
        .collect();
    assert_eq!(costs, [("6100", d("-50"))]);
    assert_eq!(draft.orders, ["PO1".parse().unwrap()]);
}

#[test]
fn what_is_not_its_negative_throughout_is_an_ordinary_credit_note() {
    type Change = fn(&mut Case);
    let changes: [(&str, Change); 7] = [
        ("a part of the quantity", |case| {
            case.invoice.lines = vec![line(1, "-99", "10", "PO1", 1)];
            case.invoice.total = d("-1250");
        }),
        ("half of the quantity at twice the price", |case| {
            case.invoice.lines = vec![line(1, "-50", "20", "PO1", 1)];
        }),
        ("another total", |case| case.invoice.total = d("-1259.99")),
        ("another tax", |case| {
            case.invoice.tax = d("-200");
            case.invoice.total = d("-1250");
        }),
        ("without the freight", |case| {
            case.invoice.charges = Vec::new();
            case.invoice.total = d("-1210");
        }),
        ("a price that is corrected", |case| {
            case.invoice.lines[0].adjustment = Some(Adjustment::Price);
        }),
        ("an invoice that is none of ours", |case| case.original = None),
    ];
    for (what, change) in changes {
        let mut case = cancelling();
        change(&mut case);
        let verdict = case.verdict();
        assert!(
            verdict.contains("RETURN_MISSING") || verdict.contains("CREDIT_NOT_MAPPED"),
            "{what}: {verdict}"
        );
    }
}

#[test]
fn it_waits_for_an_original_that_is_on_its_way_and_leaves_one_that_is_gone_to_a_person() {
    let mut case = cancelling();
    let (invoice, total) = (InvoiceId(92010), d("1260"));
    case.original = Some(Original::NotPosted {
        invoice,
        total,
        state: "approved",
    });
    assert_eq!(case.verdict(), "hold ORIGINAL_NOT_POSTED");
    // A part of it is credited by its returns, whatever has become of the invoice.
    case.original = Some(Original::NotPosted {
        invoice,
        total: d("2000"),
        state: "approved",
    });
    assert_eq!(case.verdict(), "hold RETURN_MISSING");
    for (total, verdict) in [
        (d("1260"), "park ORIGINAL_NOT_IN_QAD"),
        (d("2000"), "hold RETURN_MISSING"),
    ] {
        case.original = Some(Original::Gone {
            invoice,
            total,
            state: "voided",
        });
        assert_eq!(case.verdict(), verdict);
    }
}

#[test]
fn what_somebody_has_taken_back_already_is_not_taken_back_again() {
    let mut case = cancelling();
    case.receipts[1].vouchered = d("39");
    assert_eq!(case.verdict(), "park ORIGINAL_NOT_IN_QAD");
    assert_eq!(
        case.figures(ExceptionCode::OriginalNotInQad),
        texts("40 of receiver RC2 invoiced in QAD", "39 is", "")
    );
}

#[test]
fn the_invoices_own_unit_is_the_orders_by_its_factor() {
    let mut case = cancelling();
    case.invoice.lines = vec![in_unit(line(1, "-5", "200", "PO1", 1), "BX20")];
    assert!(case.verdict().contains("UNIT_DIFFERS"), "{}", case.verdict());
    let twenty = crate::policy::UnitConversion {
        to: "EA".parse().unwrap(),
        factor: d("20"),
        items: Default::default(),
    };
    case.policy.units.insert("BX20".to_owned(), twenty);
    assert_eq!(case.verdict(), "approve");
}

#[test]
fn a_return_is_credited_whatever_has_become_of_the_order() {
    for status in [
        OrderStatus::Closed,
        OrderStatus::Cancelled,
        OrderStatus::Unknown("q".to_owned()),
    ] {
        let mut case = Case::credit_note();
        case.order_line().status = status.clone();
        assert_eq!(case.verdict(), "approve", "{status:?}");
        case.receipts.truncate(1);
        assert_eq!(case.verdict(), "hold RETURN_MISSING", "{status:?}");
    }
}

#[test]
fn a_price_that_an_invoice_corrects_touches_no_receipt() {
    let mut case = Case::invoice();
    case.invoice.lines[0].adjustment = Some(Adjustment::Quantity);
    assert_eq!(case.verdict(), "approve");
    for adjustment in [Adjustment::Price, Adjustment::Other] {
        case.invoice.lines[0].adjustment = Some(adjustment);
        case.policy.lines.price_adjustment = OnLine::Park;
        assert_eq!(case.verdict(), "park PRICE_ADJUSTMENT", "{adjustment:?}");
        case.policy.lines.price_adjustment = OnLine::Gl;
        assert_eq!(case.verdict(), "park ACCOUNT_NOT_MAPPED", "{adjustment:?}");
    }
}

#[test]
fn an_invoice_is_cancelled_once_and_the_second_credit_note_names_the_first() {
    let cancelled_by = |case: &mut Case, by: Option<InvoiceId>| {
        if let Some(Original::Posted { cancelled_by, .. }) = &mut case.original {
            *cancelled_by = by;
        }
    };
    let mut case = cancelling();
    assert_eq!(case.draft().cancels, Some(InvoiceId(92010)));
    cancelled_by(&mut case, Some(InvoiceId(92012)));
    assert_eq!(case.verdict(), "park ORIGINAL_ALREADY_CANCELLED");
    assert_eq!(
        case.figures(ExceptionCode::OriginalAlreadyCancelled),
        texts(
            "invoice INV-1 cancelled by no other credit note",
            "Coupa credit note 92012 cancels it already",
            ""
        )
    );
    // A part of it is credited by its returns, or to the general ledger, as ever.
    case.invoice.lines = vec![line(1, "-99", "10", "PO1", 1)];
    case.invoice.total = d("-1250");
    assert_eq!(case.verdict(), "hold RETURN_MISSING");
}

#[test]
fn what_another_credit_note_takes_back_in_this_moment_is_waited_for() {
    let mut case = cancelling();
    case.reserve("RC2", "-0.5");
    assert_eq!(case.verdict(), "hold ANOTHER_INVOICE_IN_FLIGHT");
    // QAD shows enough of it for both.
    case.receipts[1].vouchered = d("40.5");
    assert_eq!(case.verdict(), "approve");
    // Another invoice that is being matched to it takes nothing back.
    case.reservations.clear();
    case.receipts[1].vouchered = d("40");
    case.reserve("RC2", "7");
    assert_eq!(case.verdict(), "approve");
}

/// As [`cancelling`], of an invoice for another quantity than it was matched to.
fn cancelling_of(received: &str, billed: &str, ordered: &str, policy: fn(&mut MatchPolicy)) -> Case {
    let mut case = Case::invoice();
    policy(&mut case.policy);
    case.order_line().ordered = d(ordered);
    case.receipts = vec![receipt("RC1", "PO1", 1, received, "2026-03-01")];
    case.bill(vec![line(1, billed, "10", "PO1", 1)]);
    let posted = case.draft();
    assert_eq!(posted.matches[0].quantity, d(received));
    case.receipts[0].vouchered = d(received);
    case.original = Some(Original::Posted {
        draft: Box::new(posted),
        cancelled_by: None,
    });
    case.invoice.id = InvoiceId(92011);
    case.invoice.kind = DocumentKind::CreditNote;
    case.invoice.reference = "CN-1".parse().unwrap();
    case.invoice.original_reference = Some("INV-1".to_owned());
    case.bill(vec![line(1, &format!("-{billed}"), "10", "PO1", 1)]);
    case
}

#[test]
fn it_negates_what_was_billed_whatever_that_was_matched_to() {
    // Twenty kilos short, within the tolerance.
    let short = cancelling_of("9980", "10000", "10000", |policy| {
        policy.tolerance.limits.received_over.percent = Some(d("0.5"));
    });
    assert_eq!(short.matches(), ["PO1 line 1 RC1 -9980 at 10.0200400802"]);
    // What would have stayed open was next to nothing.
    let mut crumb = cancelling_of("10000.009", "10000", "10000", |_| ());
    assert_eq!(crumb.matches(), ["PO1 line 1 RC1 -10000.009 at 10"]);
    // Of what an earlier version has posted only the matches are known.
    if let Some(Original::Posted { draft, .. }) = &mut crumb.original {
        draft.billed.clear();
    }
    assert_eq!(crumb.verdict(), "hold RETURN_MISSING");
}
