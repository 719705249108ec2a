//! What QAD says about an order line, and how far a bill may differ from it: each rule with its figures and its neighbour.

use super::*;
use crate::policy::Band;

/// Order PO1 line 1 of so many at a price, received on RC1 as given, billed as given.
fn case(ordered: &str, price: &str, received: &str, billed: &str, at: &str) -> Case {
    let mut case = Case::invoice();
    case.order_line().ordered = d(ordered);
    case.order_line().unit_price = d(price);
    case.receipts[0].received = d(received);
    case.bill(vec![line(1, billed, at, "PO1", 1)]);
    case
}

// ---- section 4 -------------------------------------------------------------------------------------------------

#[test]
fn a_receiver_that_was_finished_has_nothing_open_whatever_is_left() {
    let mut case = case("200", "10", "100", "100", "10");
    case.receipts[0].vouchered = d("98");
    case.receipts.push(receipt("RC2", "PO1", 1, "100", "2026-03-02"));
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 2 at 10 finished", "PO1 line 1 RC2 98 at 10"],
        "not finished: its two are still open"
    );
    case.receipts[0].closed = true;
    assert_eq!(case.matches(), ["PO1 line 1 RC2 100 at 10 finished"]);
}

#[test]
fn the_pending_voucher_says_what_is_open_and_a_smaller_one_is_not_finished() {
    let mut case = case("200", "10", "100", "60", "10");
    case.receipts[0].pending = Pending::Quantity(d("60"));
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 60 at 10"],
        "forty may still follow"
    );
    case.receipts[0].pending = Pending::Quantity(d("100"));
    case.receipts[0].vouchered = d("40");
    assert_eq!(case.matches(), ["PO1 line 1 RC1 60 at 10 finished"]);
    case.receipts[0].vouchered = d("41");
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT");
}

#[test]
fn goods_on_consignment_wait_for_their_use() {
    let mut case = Case::invoice();
    case.order_line().consignment = true;
    assert_eq!(case.verdict(), "hold CONSIGNED_NOT_USED");
    case.receipts[0].pending = Pending::Quantity(d("100"));
    assert_eq!(case.verdict(), "approve", "used: there is a pending voucher");
    let mut without_flag = Case::invoice();
    without_flag.receipts[0].pending = Pending::Missing;
    assert_eq!(without_flag.verdict(), "hold CONSIGNED_NOT_USED");
    without_flag.receipts[0].pending = Pending::NotShown;
    assert_eq!(without_flag.verdict(), "approve", "a tenant that shows none");
}

#[test]
fn a_scheduled_line_has_its_receipts_as_limit() {
    let mut case = case("0", "10", "500", "500", "10");
    case.order_line().scheduled = true;
    case.policy.tolerance.limits.ordered_over = Some(Limit::default());
    assert_eq!(case.matches(), ["PO1 line 1 RC1 500 at 10 finished"]);
    case.order_line().scheduled = false;
    assert_eq!(case.verdict(), "park BILLED_OVER_ORDERED", "an ordinary line");
    case.order_line().scheduled = true;
    case.receipts[0].received = d("499");
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT");
}

#[test]
fn the_orders_price_is_net_of_its_discount() {
    let mut full = case("100", "100", "100", "100", "100");
    assert_eq!(full.verdict(), "approve", "without a discount");
    full.order_line().discount_percent = d("10");
    assert_eq!(full.verdict(), "park PRICE_OVER_TOLERANCE");
    let mut net = case("100", "100", "100", "100", "90");
    net.order_line().discount_percent = d("10");
    assert_eq!(net.matches(), ["PO1 line 1 RC1 100 at 90 finished"]);
    let row = &net.decide().report.lines[0];
    assert_eq!(row.order_price, Some(d("90")));
    assert_eq!(row.price.unwrap().reference, PriceReference::Order);
}

#[test]
fn each_matched_part_is_compared_with_what_its_own_receiver_has_cost() {
    let mut case = case("100", "12", "100", "100", "12");
    case.receipts[0].unit_cost = Some(d("10"));
    assert_eq!(
        case.verdict(),
        "park PRICE_OVER_TOLERANCE",
        "raised after the receipt"
    );
    assert_eq!(
        case.figures(ExceptionCode::PriceOverTolerance),
        texts(
            "10.00 USD per EA on receiver RC1",
            "12.00 USD per EA",
            "10.20 USD per EA"
        )
    );
    assert_eq!(
        case.decide().report.lines[0].price,
        Some(PriceFinding {
            reference: PriceReference::Receiver,
            difference: d("200")
        })
    );
    case.receipts[0].unit_cost = Some(Decimal::ZERO);
    assert_eq!(case.verdict(), "approve", "a cost of zero says nothing");
    // One receiver at the old price and one at the new: an average is not what was agreed.
    case.receipts[0].received = d("50");
    case.receipts[0].unit_cost = Some(d("10"));
    case.receipts.push(receipt("RC2", "PO1", 1, "50", "2026-03-02"));
    case.bill(vec![line(1, "100", "11", "PO1", 1)]);
    assert_eq!(case.verdict(), "park PRICE_OVER_TOLERANCE");
    assert_eq!(
        case.decide().report.lines[0].price.unwrap().reference,
        PriceReference::ReceiverAndOrder
    );
}

#[test]
fn a_lines_own_word_about_evaluated_receipts_counts_before_its_headers() {
    for (header, line, evaluated) in [
        (false, None, false),
        (true, None, true),
        (true, Some(false), false),
        (false, Some(true), true),
    ] {
        let mut case = Case::invoice();
        case.order().evaluated_receipts = header;
        case.order_line().evaluated_receipts = line;
        let expected = if evaluated { "park ORDER_IS_ERS" } else { "approve" };
        assert_eq!(case.verdict(), expected, "{header} {line:?}");
    }
}

#[test]
fn an_items_own_factor_counts_before_the_units_and_a_wrong_one_is_told() {
    let mut case = Case::invoice();
    case.bill(vec![in_unit(line(1, "5", "120", "PO1", 1), "BX")]);
    let conversion = UnitConversion {
        to: "EA".parse().unwrap(),
        factor: d("10"),
        items: BTreeMap::new(),
    };
    case.policy.units = [("BX".to_owned(), conversion)].into();
    assert_eq!(case.verdict(), "park PRICE_OVER_TOLERANCE");
    assert_eq!(
        case.figures(ExceptionCode::PriceOverTolerance).1,
        "12.00 USD per EA (120.00 USD per BX of 10 EA each)"
    );
    case.policy.units.get_mut("BX").unwrap().items = [("01010".to_owned(), d("12"))].into();
    assert_eq!(case.matches(), ["PO1 line 1 RC1 60 at 10"]);
}

#[test]
fn quantities_that_were_rounded_are_told() {
    let mut case = Case::invoice();
    case.receipts[0].rounded = vec!["100.00000000000001 read as 100".to_owned()];
    assert_eq!(
        case.decide().report.lines[0].rounded,
        ["receiver RC1: 100.00000000000001 read as 100"]
    );
}

#[test]
fn what_is_next_to_nothing_is_finished_with_the_last() {
    let mut case = case("1", "12000", "1", "1", "12000");
    case.bill(vec![amount_line(1, "1000", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 0.08333333 at 12000"]);
    // Eleven months are billed; four hundred-millionths would stay open.
    case.receipts[0].vouchered = d("0.91666663");
    assert_eq!(case.matches(), ["PO1 line 1 RC1 0.08333337 at 12000 finished"]);
    case.receipts[0].vouchered = d("0.91");
    assert_eq!(
        case.matches(),
        ["PO1 line 1 RC1 0.08333333 at 12000"],
        "something is left"
    );
}

#[test]
fn a_third_of_a_service_order_is_billed_by_amount() {
    let mut case = case("1", "3000", "1", "1", "3000");
    case.bill(vec![amount_line(1, "1000.00", "PO1", 1)]);
    assert_eq!(case.matches(), ["PO1 line 1 RC1 0.33333333 at 3000"]);
    case.receipts[0].vouchered = d("0.66666667");
    assert_eq!(case.matches(), ["PO1 line 1 RC1 0.33333333 at 3000 finished"]);
    case.receipts[0].vouchered = d("0.8");
    assert!(
        case.verdict().starts_with("park"),
        "a fifth is left: {}",
        case.verdict()
    );
}

// ---- section 5 -------------------------------------------------------------------------------------------------

#[test]
fn a_price_is_within_every_limit_that_is_given_or_free() {
    for (quantity, ordered_at, billed_at, verdict) in [
        ("100000", "10.00", "10.19", "park PRICE_OVER_TOLERANCE"),
        ("500", "10.00", "10.19", "approve"),
        ("1000", "0.0100", "0.0103", "approve"),
        ("10000", "0.0100", "0.0103", "park PRICE_OVER_TOLERANCE"),
        ("100", "100.00", "1.00", "park PRICE_UNDER_TOLERANCE"),
        ("100", "100.00", "75.00", "approve"),
    ] {
        let case = case(quantity, ordered_at, quantity, quantity, billed_at);
        assert_eq!(case.verdict(), verdict, "{quantity} at {billed_at}");
    }
}

#[test]
fn a_little_more_than_received_takes_all_of_it_at_a_price_that_keeps_the_total() {
    let mut case = case("10000", "10.00", "9980", "10000", "10.00");
    assert_eq!(
        case.verdict(),
        "hold RECEIPT_SHORT",
        "nothing is allowed unless it is given"
    );
    case.policy.tolerance.limits.received_over = Limit::percent(d("0.5"));
    assert_eq!(case.matches(), ["PO1 line 1 RC1 9980 at 10.0200400802 finished"]);
    assert_eq!(
        case.decide().report.lines[0].price.unwrap().difference,
        Decimal::ZERO
    );
    case.receipts[0].received = d("9900");
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT", "one percent is missing");
    case.receipts.clear();
    case.policy.tolerance.limits.received_over = Limit::free(d("20000"));
    assert_eq!(
        case.verdict(),
        "hold RECEIPT_MISSING",
        "never ahead of its receipt"
    );
}

#[test]
fn on_a_credit_note_less_is_our_loss() {
    for (price, verdict) in [
        ("5.00", "park PRICE_UNDER_TOLERANCE"),
        ("12.20", "park PRICE_UNDER_TOLERANCE"),
        ("12.45", "approve"),
        ("12.90", "approve"),
        ("16.00", "park PRICE_OVER_TOLERANCE"),
    ] {
        let mut case = Case::credit_note();
        case.order_line().unit_price = d("12.50");
        case.bill(vec![line(1, "-10", price, "PO1", 1)]);
        assert_eq!(case.verdict(), verdict, "{price}");
    }
}

#[test]
fn a_supplier_and_a_currency_have_limits_of_their_own() {
    let mut case = case("100", "10", "100", "100", "10.50");
    assert_eq!(case.verdict(), "park PRICE_OVER_TOLERANCE");
    let wider = crate::policy::LimitChanges {
        price_over: Some(Limit::percent(d("5"))),
        ..Default::default()
    };
    case.policy.tolerance.by_supplier = [("10s1001".to_owned(), wider)].into();
    assert_eq!(case.verdict(), "approve");
    case.policy.tolerance.limits.price = Band {
        over: Limit::default(),
        under: Limit::default(),
    };
    assert_eq!(case.verdict(), "approve", "the supplier's counts last");
}

// ---- sections 6 and 8 --------------------------------------------------------------------------------------------

#[test]
fn it_is_posted_when_the_goods_came_and_never_before_the_books_are_open() {
    let mut case = Case::invoice();
    case.invoice.invoice_date = "2026-10-28".parse().unwrap();
    case.receipts[0].date = "2026-11-20".parse().unwrap();
    case.policy.posting_date = PostingDate::Latest;
    assert_eq!(case.draft().posting_date.to_string(), "2026-11-20");
    case.receipts[0].date = "2026-10-20".parse().unwrap();
    assert_eq!(
        case.draft().posting_date.to_string(),
        "2026-10-28",
        "the invoice is later"
    );
    case.policy.first_open_day = Some("2026-11-01".parse().unwrap());
    for policy in [
        PostingDate::Latest,
        PostingDate::InvoiceDate,
        PostingDate::MatchingDate,
    ] {
        case.policy.posting_date = policy;
        assert_eq!(case.draft().posting_date.to_string(), "2026-11-01", "{policy:?}");
    }
}

#[test]
fn a_bill_for_which_nothing_is_left_is_a_persons_at_once() {
    let mut case = Case::invoice();
    case.receipts[0].vouchered = d("100");
    case.bill(vec![line(1, "10", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "park BILLED_OVER_ORDERED NOTHING_LEFT_TO_BILL");
    case.order_line().ordered = d("200");
    assert_eq!(case.verdict(), "hold RECEIPT_SHORT", "more can come");
    case.order_line().status = OrderStatus::Closed;
    assert_eq!(case.verdict(), "park NOTHING_LEFT_TO_BILL");
}

#[test]
fn what_was_finished_with_less_is_not_waited_for() {
    let mut case = Case::invoice();
    case.receipts[0].vouchered = d("98");
    case.receipts[0].closed = true;
    case.bill(vec![line(1, "2", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "park NOTHING_LEFT_TO_BILL");
    // Too little of it is left, and no more can come.
    case.receipts[0].received = d("60");
    case.receipts[0].vouchered = d("58");
    case.receipts.push(receipt("RC2", "PO1", 1, "40", "2026-03-02"));
    case.bill(vec![line(1, "42", "10", "PO1", 1)]);
    assert_eq!(case.verdict(), "park NOTHING_LEFT_TO_BILL");
    assert_eq!(case.figures(ExceptionCode::NothingLeftToBill).1, "40 of 42 EA");
    // It can still come: another receipt, the use of consigned goods, a replacement of what went back.
    let with = |change: fn(&mut Case)| {
        let mut case = case.clone();
        change(&mut case);
        case.verdict()
    };
    assert_eq!(
        with(|case| case.order_line().ordered = d("101")),
        "hold RECEIPT_SHORT"
    );
    assert_eq!(
        with(|case| case.order_line().scheduled = true),
        "hold RECEIPT_SHORT"
    );
    assert_eq!(
        with(|case| {
            for receipt in &mut case.receipts {
                receipt.pending = Pending::Quantity(receipt.received);
            }
            case.receipts[1].pending = Pending::Missing;
        }),
        "hold CONSIGNED_NOT_USED"
    );
    assert_eq!(
        with(|case| {
            let mut back = receipt("RT1", "PO1", 1, "-5", "2026-03-08");
            back.vouchered = d("-5");
            case.receipts.push(back);
        }),
        "hold RECEIPT_SHORT"
    );
}

proptest::proptest! {
    /// Any third, seventh or thirteenth of an order, billed by amount until all is billed, uses up exactly what was received.
    #[test]
    fn shares_of_an_order_use_it_up_exactly(shares in 1u32..40, price in 1_000i64..1_000_000) {
        let price = Decimal::new(price, 2);
        let mut case = case("1", "1", "1", "1", "1");
        case.order_line().unit_price = price;
        let mut billed = Decimal::ZERO;
        for share in 1..=shares {
            let until = (price * Decimal::from(share) / Decimal::from(shares)).round_dp(2);
            case.bill(vec![amount_line(1, &(until - billed).to_string(), "PO1", 1)]);
            if (until - billed).is_zero() {
                continue;
            }
            billed = until;
            let draft = case.draft();
            case.receipts[0].vouchered += draft.matches[0].quantity;
            proptest::prop_assert!(case.receipts[0].vouchered <= Decimal::ONE);
            proptest::prop_assert_eq!(draft.matches[0].finished, share == shares, "{} of {}", share, shares);
        }
    }
}
