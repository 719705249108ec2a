//! All credit notes of an invoice together credit no more than it has billed.

use super::*;

/// A credit note of 100.00 for 10 EA that were returned, which names an invoice of so much, of which others credit so much.
fn of(billed: &str, by_others: &str) -> Case {
    let mut case = Case::credit_note();
    case.invoice.original_reference = Some("INV-1".to_owned());
    case.credited = Some(Credited {
        billed: d(billed),
        currency: case.invoice.currency,
        by_others: d(by_others),
    });
    case
}

#[test]
fn credits_of_an_invoice_are_at_most_what_it_has_billed() {
    for (billed, by_others, verdict) in [
        ("1000", "0", "approve"),
        ("1000", "900", "approve"),
        ("1000", "900.01", "park CREDITED_OVER_BILLED"),
        ("99.99", "0", "park CREDITED_OVER_BILLED"),
        ("100", "0", "approve"),
        ("100", "100", "park CREDITED_OVER_BILLED"),
    ] {
        assert_eq!(
            of(billed, by_others).verdict(),
            verdict,
            "{by_others} of {billed}"
        );
    }
    assert_eq!(
        of("1000", "900.01").figures(ExceptionCode::CreditedOverBilled),
        texts(
            "at most the 1,000.00 USD of invoice INV-1",
            "with it 1,000.01 USD would be credited, 900.01 USD of them by other credit notes",
            ""
        )
    );
    let mut unknown = of("1", "1");
    unknown.credited = None;
    assert_eq!(unknown.verdict(), "approve", "nothing is known of the invoice");
    let mut range = of("1000", "79228162514264337593543950335");
    assert_eq!(range.verdict(), "park OUT_OF_RANGE");
    range.invoice.kind = DocumentKind::Invoice;
    assert!(!range.verdict().contains("OUT_OF_RANGE"));
}

#[test]
fn a_credit_in_another_currency_cannot_be_counted() {
    let mut case = of("1000", "0");
    if let Some(credited) = &mut case.credited {
        credited.currency = "EUR".parse().unwrap();
    }
    assert_eq!(case.verdict(), "park CREDITED_OVER_BILLED");
    assert_eq!(
        case.figures(ExceptionCode::CreditedOverBilled),
        texts(
            "a credit in EUR, as invoice INV-1 was billed",
            "it credits USD",
            ""
        )
    );
}

#[test]
fn nobody_can_release_it_and_it_is_asked_once_the_return_is_there() {
    assert!(!ExceptionCode::CreditedOverBilled.is_releasable());
    let mut case = of("1000", "950");
    assert_eq!(case.verdict(), "park CREDITED_OVER_BILLED");
    case.receipts.pop();
    assert_eq!(case.verdict(), "hold RETURN_MISSING");
}

#[test]
fn what_is_credited_of_a_price_takes_nothing_of_the_goods() {
    let mut case = of("1000", "950");
    for purpose in [Adjustment::Price, Adjustment::Other] {
        case.invoice.lines[0].adjustment = Some(purpose);
        assert!(
            !case.verdict().contains("CREDITED_OVER_BILLED"),
            "{}",
            case.verdict()
        );
    }
    case.invoice.lines[0].adjustment = Some(Adjustment::Quantity);
    assert_eq!(case.verdict(), "park CREDITED_OVER_BILLED");
}
