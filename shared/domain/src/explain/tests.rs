//! The exact words for every state and every exception that [`decide`](crate::matching::decide) can find.

use super::*;
use crate::documents::{Charge, ChargeKind, INVOICE_LINES_MAX, OrderStatus};
use crate::effect::Repetition;
use crate::ids::InvoiceId;
use crate::lifecycle::{Summary, Voucher};
use crate::matching::Verdict;
use crate::matching::tests::{Case, amount_line, d, in_unit, line, receipt};
use std::collections::BTreeSet;

/// 2026-03-05 09:12 UTC.
const SINCE: Timestamp = Timestamp(1_772_701_920_000);

fn record(state: State) -> InvoiceRecord {
    let mut record = InvoiceRecord::new(InvoiceId(92010), SINCE);
    record.state = state;
    record
}

/// The record of an invoice that was decided and not approved.
fn decided(case: &Case) -> InvoiceRecord {
    let decision = case.decide();
    let state = match decision.verdict {
        Verdict::Approve { .. } => State::Approved,
        Verdict::Hold { exceptions, awaits } => State::Held { exceptions, awaits },
        Verdict::Park { exceptions } => State::Parked {
            reason: ParkReason::Match { exceptions },
        },
    };
    InvoiceRecord {
        report: Some(decision.report),
        ..record(state)
    }
}

fn voucher() -> Voucher {
    Voucher {
        year: 2026,
        daybook: "SI".to_owned(),
        number: 1207,
    }
}

fn problem() -> Problem {
    Problem::new("QAD_PERMISSION_DENIED", "Give the user the role.")
        .field("entity")
        .expected("a role")
        .actual("none")
}

fn effect(status: EffectStatus, attempts: u32) -> Effect {
    let mut effect = Effect::ready(
        "key".to_owned(),
        Repetition::OnlyAfterLookUp,
        "{}".to_owned(),
        "00".to_owned(),
        "key".to_owned(),
        SINCE,
    );
    effect.status = status;
    effect.attempts = attempts;
    effect.settle_until = SINCE.plus_seconds(600);
    effect
}

#[test]
fn every_exception_has_its_exact_sentence() {
    type Spoil = fn(&mut Case);
    let table: &[(ExceptionCode, Spoil, &str)] = &[
        (
            ExceptionCode::ReceiptMissing,
            |case| case.receipts.clear(),
            "Held since 2026-03-05 09:12 UTC: nothing of 100 EA received on PO PO1 line 1; it posts by itself when \
             they are received.",
        ),
        (
            ExceptionCode::ReceiptShort,
            |case| case.receipts[0].received = d("40"),
            "Held since 2026-03-05 09:12 UTC: 40 of 100 EA received and not yet invoiced on PO PO1 line 1; it posts \
             by itself when 60 more are received.",
        ),
        (
            ExceptionCode::ReturnMissing,
            |case| {
                *case = Case::credit_note();
                case.receipts[1].received = d("-6");
            },
            "Held since 2026-03-05 09:12 UTC: 6 of 10 EA returned and not yet credited on PO PO1 line 1; it posts by \
             itself when 4 more are returned.",
        ),
        (
            ExceptionCode::OrderNotFound,
            |case| case.orders.values_mut().for_each(|order| *order = None),
            "Held since 2026-03-05 09:12 UTC: order PO1 in QAD is missing; it posts by itself when QAD has it; if the number is wrong, correct it on the Coupa line.",
        ),
        (
            ExceptionCode::OrderLineNotFound,
            |case| case.order().lines.clear(),
            "Held since 2026-03-05 09:12 UTC: line 1 on order PO1 in QAD is missing; it posts by itself when QAD has it; if the number is wrong, correct it on the Coupa line.",
        ),
        (
            ExceptionCode::AnotherInvoiceInFlight,
            |case| case.reserve("RC1", "60"),
            "Held since 2026-03-05 09:12 UTC: PO PO1 line 1 has 40 of 100 EA, 60 EA reserved by Coupa invoice 7; it \
             is decided again by itself when that has settled.",
        ),
        (
            ExceptionCode::ReceiverLineInFlight,
            |case| {
                case.reserve("RC1", "40");
                case.bill(vec![line(1, "60", "10", "PO1", 1)]);
            },
            "Held since 2026-03-05 09:12 UTC: it takes the rest of a receiver line of PO PO1 line 1 that is being posted with another invoice (40 EA of receiver RC1 with Coupa invoice 7); it is decided again by itself when that has settled.",
        ),
        (
            ExceptionCode::CoupaOrderCancelled,
            |case| {
                case.in_coupa(CoupaOrderStanding::Cancelled);
            },
            "Parked for a person since 2026-03-05 09:12 UTC: order PO1 is \"cancelled\" in Coupa (PO PO1 line 1). Dispute the invoice, have the order reinstated in Coupa, or release the invoice.",
        ),
        (
            ExceptionCode::CoupaOrderClosed,
            |case| {
                case.in_coupa(CoupaOrderStanding::SoftClosed);
            },
            "Parked for a person since 2026-03-05 09:12 UTC: order PO1 is \"soft_closed\" in Coupa (PO PO1 line 1). Have the order opened again in Coupa, dispute the invoice, or release it.",
        ),
        (
            ExceptionCode::CoupaOrderStatusUnknown,
            |case| {
                case.in_coupa(CoupaOrderStanding::Unknown);
            },
            "Parked for a person since 2026-03-05 09:12 UTC: order PO1 is \"frozen\" in Coupa (PO PO1 line 1), which is no status that is known. Add the status to coupa.orders.statuses of the connection, then recheck.",
        ),
        (
            ExceptionCode::CoupaOrderNotIssued,
            |case| {
                case.in_coupa(CoupaOrderStanding::NotIssued);
            },
            "Held since 2026-03-05 09:12 UTC: order PO1 is \"buyer_hold\" in Coupa (PO PO1 line 1); it goes on by itself when the order is issued in Coupa.",
        ),
        (
            ExceptionCode::TwoWayLine,
            |case| {
                case.in_coupa(CoupaOrderStanding::Open).lines[0].receipt_required = Some(false);
                case.receipts.clear();
            },
            "Held since 2026-03-05 09:12 UTC: nothing of 100 EA received on PO PO1 line 1; Coupa asks no receipt for PO PO1 line 1 (two-way), but nothing is posted ahead of its receipt in QAD; it posts by itself when they are received.",
        ),
        (
            ExceptionCode::SupplierNotLinked,
            |case| case.invoice.supplier.number = None,
            "Parked for a person since 2026-03-05 09:12 UTC: supplier Example Castings without a QAD number. \
             Give the supplier its QAD number in Coupa, then recheck.",
        ),
        (
            ExceptionCode::SupplierCodeInvalid,
            |case| case.invoice.supplier.number = Some("123456789".to_owned()),
            "Parked for a person since 2026-03-05 09:12 UTC: supplier number 123456789 on supplier Example Castings \
             is not a supplier code of at most 8 characters. Correct the supplier's number in Coupa (QAD codes have \
             at most 8 characters), then recheck.",
        ),
        (
            ExceptionCode::SupplierDiffers,
            |case| case.order().supplier = "10S2".to_owned(),
            "Parked for a person since 2026-03-05 09:12 UTC: supplier 10S1001 on the invoice, expected supplier \
             10S2, as order PO1. Correct the supplier on the invoice or the order, then recheck.",
        ),
        (
            ExceptionCode::OrderOfAnotherEntity,
            |case| case.order().entity = Some("10USATOO".parse().unwrap()),
            "Parked for a person since 2026-03-05 09:12 UTC: order PO1 of entity 10USATOO, expected an order of entity \
             10USACO. Have the invoice coded to the company that ordered, or the order moved in QAD, then recheck.",
        ),
        (
            ExceptionCode::CurrencyDiffers,
            |case| case.order().currency = "EUR".parse().unwrap(),
            "Parked for a person since 2026-03-05 09:12 UTC: currency USD, expected EUR, as order PO1. Have the \
             invoice reissued in the order's currency, or change the order.",
        ),
        (
            ExceptionCode::UnitDiffers,
            |case| case.bill(vec![in_unit(line(1, "1", "1", "PO1", 1), "KG")]),
            "Parked for a person since 2026-03-05 09:12 UTC: unit KG on invoice line 1, expected EA, as order PO1 \
             line 1. Correct the unit on the invoice, or configure the conversion, then recheck.",
        ),
        (
            ExceptionCode::PriceOverTolerance,
            |case| case.bill(vec![line(1, "100", "10.8", "PO1", 1)]),
            "Parked for a person since 2026-03-05 09:12 UTC: unit price 10.80 USD per EA on PO PO1 line 1 is over \
             the order's 10.00 USD per EA (limit 10.20 USD per EA). Have the buyer change the order's price, or \
             dispute the invoice, then recheck.",
        ),
        (
            ExceptionCode::PriceUnderTolerance,
            |case| case.bill(vec![line(1, "100", "1", "PO1", 1)]),
            "Parked for a person since 2026-03-05 09:12 UTC: unit price 1.00 USD per EA on PO PO1 line 1 is below the \
             order's 10.00 USD per EA (limit 7.50 USD per EA). Ask the supplier whether the price is meant, then have \
             it corrected, or release it.",
        ),
        (
            ExceptionCode::OriginalNotPosted,
            |case| {
                *case = Case::credit_note();
                case.invoice.original_reference = Some("INV-1".to_owned());
                case.original = Some(crate::matching::Original::NotPosted {
                    invoice: InvoiceId(7),
                    total: d("100"),
                    state: "approved",
                });
            },
            "Held since 2026-03-05 09:12 UTC: it cancels an invoice, and Coupa invoice 7 is approved, expected invoice \
             INV-1 posted in QAD; it posts by itself when the invoice it cancels has posted.",
        ),
        (
            ExceptionCode::OriginalNotInQad,
            |case| {
                *case = Case::credit_note();
                case.invoice.original_reference = Some("INV-1".to_owned());
                case.original = Some(crate::matching::Original::Gone {
                    invoice: InvoiceId(7),
                    total: d("100"),
                    state: "voided",
                });
            },
            "Parked for a person since 2026-03-05 09:12 UTC: it cancels an invoice, and Coupa invoice 7 is voided, \
             expected invoice INV-1 posted in QAD. Void the credit note in Coupa too, or enter it in QAD by hand if \
             something is left to credit.",
        ),
        (
            ExceptionCode::OriginalAlreadyCancelled,
            |case| {
                let posted = Case::invoice().decide().verdict;
                let crate::matching::Verdict::Approve { draft } = posted else {
                    panic!("{posted:?}");
                };
                *case = Case::credit_note();
                case.bill(vec![line(1, "-100", "10", "PO1", 1)]);
                case.invoice.original_reference = Some("INV-1".to_owned());
                case.original = Some(crate::matching::Original::Posted {
                    draft,
                    cancelled_by: Some(InvoiceId(8)),
                });
            },
            "Parked for a person since 2026-03-05 09:12 UTC: it cancels an invoice, and Coupa credit note 8 cancels it \
             already, expected invoice INV-1 cancelled by no other credit note. Void this credit note in Coupa if it is \
             the same credit; if it credits another invoice, have its original invoice number corrected.",
        ),
        (
            ExceptionCode::CreditedOverBilled,
            |case| {
                *case = Case::credit_note();
                case.invoice.original_reference = Some("INV-1".to_owned());
                case.credited = Some(crate::matching::Credited {
                    billed: d("1000"),
                    currency: case.invoice.currency,
                    by_others: d("950"),
                });
            },
            "Parked for a person since 2026-03-05 09:12 UTC: with it 1,050.00 USD would be credited, 950.00 USD of them by \
             other credit notes, expected at most the 1,000.00 USD of invoice INV-1. Dispute the credit note, or have its \
             original invoice number corrected; if it is right, enter it in QAD by hand and adopt it.",
        ),
        (
            ExceptionCode::DuplicateReference,
            |case| {
                case.same_number = Some(crate::matching::alike::SameNumber {
                    invoice: crate::ids::Holder::own(InvoiceId(7)),
                    posted_in: None,
                });
            },
            "Parked for a person since 2026-03-05 09:12 UTC: its number is taken: Coupa invoice 7 has it, expected no \
             other invoice with this reference. Void this invoice in Coupa if it is the same bill; if it is another, \
             have the supplier's number corrected.",
        ),
        (
            ExceptionCode::DuplicateReferenceOtherYear,
            |case| {
                case.same_number = Some(crate::matching::alike::SameNumber {
                    invoice: crate::ids::Holder::own(InvoiceId(7)),
                    posted_in: Some(2025),
                });
            },
            "Parked for a person since 2026-03-05 09:12 UTC: its number is taken: Coupa invoice 7 has it, posted in \
             2025, expected no other invoice with this reference; this one is of 2026. Void this invoice in Coupa if it \
             is the same bill, or release it if the supplier has begun its numbers anew.",
        ),
        (
            ExceptionCode::PriceAdjustment,
            |case| case.invoice.lines[0].adjustment = Some(crate::documents::Adjustment::Price),
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 1 corrects a price (quantity 100 at 10.00 USD, \
             total 1,000.00 USD), expected goods that were ordered and received. Have it approved by the buyer and \
             entered in QAD by hand, or let such lines go to the general ledger (lines.price_adjustment).",
        ),
        (
            ExceptionCode::CreditNoteMissing,
            |case| case.receipts.push(receipt("RT1", "PO1", 1, "-10", "2026-03-02")),
            "Held since 2026-03-05 09:12 UTC: 90 of 100 EA, 10 EA returned and not yet credited on PO PO1 line 1, so \
             the credit note for the return is awaited; it posts by itself when the credit note for the return has \
             posted.",
        ),
        (
            ExceptionCode::ConsignedNotUsed,
            |case| case.order_line().consignment = true,
            "Held since 2026-03-05 09:12 UTC: 0 of 100 EA used of the consigned goods on PO PO1 line 1; it posts by \
             itself when they are used in QAD.",
        ),
        (
            ExceptionCode::NothingLeftToBill,
            |case| {
                case.order_line().status = OrderStatus::Closed;
                case.order_line().ordered = d("200");
                case.receipts[0].vouchered = d("100");
            },
            "Parked for a person since 2026-03-05 09:12 UTC: nothing more is left to bill on PO PO1 line 1 (0 of 100 EA \
             open). Everything received is invoiced already: dispute the invoice, or reopen the order line in QAD, \
             then recheck.",
        ),
        (
            ExceptionCode::BilledOverOrdered,
            |case| {
                case.order_line().ordered = d("90");
                case.policy.tolerance.limits.ordered_over = Some(Default::default());
            },
            "Parked for a person since 2026-03-05 09:12 UTC: 100 EA billed in all on PO PO1 line 1, 90 EA ordered \
             (limit 90 EA). Have the buyer change the order, or dispute the invoice, then recheck.",
        ),
        (
            ExceptionCode::TotalsDisagree,
            |case| case.invoice.total = d("900"),
            "Parked for a person since 2026-03-05 09:12 UTC: 1,000.00 USD from lines, charges and tax against 900.00 \
             USD as total (limit 0.05 USD). Correct the invoice in Coupa so that lines, charges and tax add up to \
             its total.",
        ),
        (
            ExceptionCode::LineWithoutOrder,
            |case| case.invoice.lines[0].order_line = None,
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 1 names no order (quantity 100 at 10.00 \
             USD, total 1,000.00 USD). Name the order on the line in Coupa, or enter the invoice in QAD by hand.",
        ),
        (
            ExceptionCode::OrderLineClosed,
            |case| {
                case.order_line().status = OrderStatus::Closed;
                case.receipts[0].received = d("40");
            },
            "Parked for a person since 2026-03-05 09:12 UTC: PO PO1 line 1 is closed with 40 of 100 EA open to \
             match. Reopen the order line in QAD, or dispute the invoice, then recheck.",
        ),
        (
            ExceptionCode::OrderLineCancelled,
            |case| case.order_line().status = OrderStatus::Cancelled,
            "Parked for a person since 2026-03-05 09:12 UTC: PO PO1 line 1 is cancelled. Dispute the invoice, or \
             have the order reinstated, then recheck.",
        ),
        (
            ExceptionCode::OrderStatusUnknown,
            |case| case.order_line().status = OrderStatus::Unknown("q".to_owned()),
            "Parked for a person since 2026-03-05 09:12 UTC: PO PO1 line 1 has status \"q\", expected a status the \
             connection's profile knows. Add the status to the connection's profile, then recheck.",
        ),
        (
            ExceptionCode::OrderIsEvaluatedReceipts,
            |case| case.order().evaluated_receipts = true,
            "Parked for a person since 2026-03-05 09:12 UTC: order PO1 with evaluated receipts is invoiced by QAD \
             itself. QAD invoices it; compare, then void in Coupa or release.",
        ),
        (
            ExceptionCode::CreditNotMapped,
            |case| {
                *case = Case::credit_note();
                case.invoice.lines[0].adjustment = Some(crate::documents::Adjustment::Price);
            },
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 1 credits no goods and has no account on the \
             line (-100.00 USD), expected an account on the line, or credits.price_account. Code the line in Coupa, or give credits.price_account or credits.other_account of the connection an account, then recheck.",
        ),
        (
            ExceptionCode::ChargeNotMapped,
            |case| {
                case.invoice.charges = vec![Charge {
                    kind: ChargeKind::Misc,
                    amount: d("5"),
                    coding: Vec::new(),
                }];
                case.invoice.total = d("1005");
            },
            "Parked for a person since 2026-03-05 09:12 UTC: Miscellaneous of 5.00 USD has no GL account. Give the \
             charge a GL account in the connection's settings, then recheck.",
        ),
        (
            ExceptionCode::AmountLineUnresolved,
            |case| {
                case.bill(vec![
                    amount_line(1, "10.01", "PO1", 1),
                    amount_line(2, "1095", "PO1", 1),
                ])
            },
            "Parked for a person since 2026-03-05 09:12 UTC: 110.501 EA billed in all on PO PO1 line 1, 100 EA \
             ordered (limit 100 EA); invoice line 2 bills 1,095.00 USD, that is 109.5 EA, expected a quantity at 10.00 \
             USD per EA within 98.999 EA open on PO PO1 line 1. Have the buyer change the order, or dispute the \
             invoice, then recheck. Bill it as a quantity line, or enter the invoice in QAD by hand.",
        ),
        (
            ExceptionCode::SignContradicts,
            |case| case.invoice.tax = d("-0.01"),
            "Parked for a person since 2026-03-05 09:12 UTC: the invoice has Tax of -0.01 USD, expected nothing \
             negative on an invoice. Enter credits as a credit note of their own in Coupa.",
        ),
        (
            ExceptionCode::LineContradictsItself,
            |case| {
                case.bill(vec![line(1, "0", "10", "PO1", 1)]);
                case.invoice.lines[0].total = d("50");
                case.invoice.total = d("50");
            },
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 1 has quantity 0 at 10.00 USD, total 50.00 \
             USD, expected a quantity with the total. Correct the line in Coupa, then recheck.",
        ),
        (
            ExceptionCode::NothingToPost,
            |case| case.bill(vec![]),
            "Parked for a person since 2026-03-05 09:12 UTC: no line bills a quantity or an amount. Void the \
             invoice in Coupa if it is empty on purpose.",
        ),
        (
            ExceptionCode::TooLarge,
            |case| case.bill(vec![line(1, "1", "1", "PO1", 1); INVOICE_LINES_MAX + 1]),
            "Parked for a person since 2026-03-05 09:12 UTC: it has 501 lines, at most 500 lines are possible. Split \
             the invoice, or enter it in QAD by hand.",
        ),
        (
            ExceptionCode::CanceledInCoupa,
            |case| case.invoice.terms.canceled = true,
            "Parked for a person since 2026-03-05 09:12 UTC: it is canceled in Coupa: no payment is needed. Void the \
             invoice in Coupa, or release it if QAD shall pay it all the same.",
        ),
        (
            ExceptionCode::PaidElsewhere,
            |case| case.invoice.terms.paid = true,
            "Parked for a person since 2026-03-05 09:12 UTC: Coupa says it is not for QAD to pay: marked as paid in \
             Coupa. Take the invoice out if somebody else pays it, or release it if QAD shall pay it all the same.",
        ),
        (
            ExceptionCode::Prepaid,
            |case| case.invoice.terms.advance_received = Some(rust_decimal::Decimal::TEN),
            "Parked for a person since 2026-03-05 09:12 UTC: Coupa says it is not for QAD to pay: 10.00 USD paid in \
             advance. Settle it against the advance payment in QAD, or release it if QAD shall pay it all the same.",
        ),
        (
            ExceptionCode::LineNegative,
            |case| {
                case.bill(vec![
                    line(1, "100", "10", "PO1", 1),
                    line(2, "-1", "50", "PO1", 1),
                ])
            },
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 2 is negative (quantity -1 at 50.00 USD, \
             total -50.00 USD). Have a credit note of its own entered, or let such lines go to the general ledger \
             (lines.negative).",
        ),
        (
            ExceptionCode::OrderLineNotMapped,
            |case| {
                case.invoice.lines[0].order_line = None;
                case.invoice.lines[0].order_line_unmapped = Some("line 1.1 of order PO1".to_owned());
            },
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 1 names line 1.1 of order PO1 as its order \
             line, expected the number of an order line of QAD's. Correct the order line on the invoice, or map it in \
             coupa.order_line, then recheck.",
        ),
        (
            ExceptionCode::AccountNotMapped,
            |case| {
                case.policy.lines.negative = crate::policy::OnLine::Gl;
                case.bill(vec![
                    line(1, "100", "10", "PO1", 1),
                    line(2, "-1", "50", "PO1", 1),
                ]);
            },
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 2 has no account of QAD's: no account on the \
             line (-50.00 USD). Correct the account in Coupa, or map it in [coding], then recheck.",
        ),
        (
            ExceptionCode::CreditTermsNotMapped,
            |case| case.invoice.payment_term = Some("2% 10 Days Net 30 End Of Month".to_owned()),
            "Parked for a person since 2026-03-05 09:12 UTC: payment term \"2% 10 Days Net 30 End Of Month\" fits no \
             credit terms of QAD's. Give the payment term its QAD code in invoices.credit_terms, then recheck.",
        ),
        (
            ExceptionCode::RemitToNotMapped,
            |case| {
                case.invoice.terms.remit_to = Some(crate::documents::RemitTo {
                    code: None,
                    reference: Some("S00999".to_owned()),
                });
            },
            "Parked for a person since 2026-03-05 09:12 UTC: it is to be paid at remit-to reference \"S00999\", which \
             leads to nobody known. Have the address checked with the supplier, then list its reference in \
             invoices.remit_to.codes.",
        ),
        (
            ExceptionCode::NearDuplicate,
            |case| {
                case.alike = vec![crate::matching::alike::BillAlike {
                    invoice: crate::ids::InvoiceId(7),
                    entity: "20GERCO".parse().unwrap(),
                    reference: case.invoice.reference.clone(),
                    invoice_date: case.invoice.invoice_date,
                }];
            },
            "Parked for a person since 2026-03-05 09:12 UTC: it may be the bill that was entered as Coupa invoice 7 with \
             number INV-1 of 2026-03-05 in entity 20GERCO. Void the invoice in Coupa if it is the same bill, or \
             release it if it is another.",
        ),
        (
            ExceptionCode::OutOfRange,
            |case| case.order_line().unit_price = rust_decimal::Decimal::MAX,
            "Parked for a person since 2026-03-05 09:12 UTC: invoice line 1 has quantity 100 at 10.00 USD, total \
             1,000.00 USD, expected figures whose sums and products are exact in 28 digits. Correct the figure in \
             Coupa.",
        ),
    ];
    for (code, spoil, expected) in table {
        let mut case = Case::invoice();
        spoil(&mut case);
        let record = decided(&case);
        assert_eq!(sentence(&record), *expected, "{}", code.as_str());
        assert!(
            record.state.codes().contains(&code.as_str().to_owned()),
            "{}",
            code.as_str()
        );
    }
    let mut covered: BTreeSet<_> = table.iter().map(|(code, ..)| *code).collect();
    covered.extend(found_later().iter().map(|(found, _)| found.code));
    assert_eq!(covered, ExceptionCode::ALL.iter().copied().collect());
}

/// What no match finds: what comes out when it is posted, or while it waits.
fn found_later() -> Vec<(Exception, &'static str)> {
    let march = "2026-03-05".parse().unwrap();
    let entity = "10USACO".parse().unwrap();
    let closed =
        crate::lifecycle::ClosedPeriod::new(march, SINCE, &entity, "The accounting period is closed");
    let late = |code, waits_for: &str, days: &str| Exception {
        code,
        line: Some(1),
        order_line: Some(crate::matching::tests::key("PO1", 1)),
        expected: waits_for.to_owned(),
        actual: instant(SINCE),
        limit: days.to_owned(),
    };
    vec![
        (
            late(ExceptionCode::HeldTooLong, "RECEIPT_MISSING", "45 days"),
            "Parked for a person since 2026-03-05 09:12 UTC: it has waited since 2026-03-05 09:12 UTC (RECEIPT_MISSING), \
         longer than 45 days. Find out why it does not come; it still posts by itself when it does.",
        ),
        (
            late(ExceptionCode::ReturnNotComing, "RETURN_MISSING", "14 days"),
            "Parked for a person since 2026-03-05 09:12 UTC: it has waited since 2026-03-05 09:12 UTC (RETURN_MISSING), \
         longer than 14 days. Have the return posted in QAD, or dispute the credit note; it still posts by itself \
         when the return is there.",
        ),
        (
            closed.exception,
            "Held since 2026-03-05 09:12 UTC: QAD does not take it without open books of 10USACO on 2026-03-05 (\"The \
         accounting period is closed\"); it is sent again when somebody rechecks it or says from when on the books \
         are open.",
        ),
    ]
}

#[test]
fn what_is_found_later_has_its_exact_sentence_too() {
    for (exception, expected) in found_later() {
        let exceptions = vec![exception];
        let state = match exceptions[0].code.remedy() {
            Remedy::TheOtherSystem => State::Held {
                exceptions,
                awaits: vec![],
            },
            Remedy::APerson => State::Parked {
                reason: ParkReason::Match { exceptions },
            },
        };
        assert_eq!(sentence(&record(state)), expected);
    }
}

#[test]
fn every_state_has_its_exact_sentence() {
    let posted = |how| State::Posted {
        voucher: voucher(),
        how,
    };
    for (state, expected) in [
        (
            State::Received { coupa_status: None },
            "Received 2026-03-05 09:12 UTC and not decided yet; nobody needs to act.",
        ),
        (
            State::Received {
                coupa_status: Some("pending_approval".to_owned()),
            },
            "Waiting since 2026-03-05 09:12 UTC: Coupa says \"pending_approval\"; it goes on by itself when it is \
             approved in Coupa.",
        ),
        (
            State::Approved,
            "Approved since 2026-03-05 09:12 UTC: it is about to be created in QAD; nobody needs to act.",
        ),
        (
            posted(PostedHow::Created),
            "Posted 2026-03-05 09:12 UTC as QAD voucher 2026/SI/1207, created by this connection; it is being marked \
             exported in Coupa.",
        ),
        (
            posted(PostedHow::Restored),
            "Posted 2026-03-05 09:12 UTC as QAD voucher 2026/SI/1207, found there with our mark although this register \
             has never sent it; it is being marked exported in Coupa.",
        ),
        (
            posted(PostedHow::Recovered),
            "Posted 2026-03-05 09:12 UTC as QAD voucher 2026/SI/1207, found there after the answer to its creation \
             was lost; it is being marked exported in Coupa.",
        ),
        (
            State::Exported {
                voucher: voucher(),
                how: PostedHow::Adopted,
            },
            "In QAD as voucher 2026/SI/1207, keyed there by hand and taken over, and marked exported in Coupa since \
             2026-03-05 09:12 UTC; nothing is left to do.",
        ),
        (
            State::Parked {
                reason: ParkReason::Problem { problem: problem() },
            },
            "Parked for a person since 2026-03-05 09:12 UTC: QAD_PERMISSION_DENIED at entity: expected a role, got \
             none. Give the user the role.",
        ),
        (
            State::Parked {
                reason: ParkReason::InQad {
                    problem: problem(),
                    voucher: Some(voucher()),
                },
            },
            "Parked for a person since 2026-03-05 09:12 UTC, with voucher 2026/SI/1207 in QAD: QAD_PERMISSION_DENIED \
             at entity: expected a role, got none. Give the user the role.",
        ),
        (
            State::Parked {
                reason: ParkReason::InQad {
                    problem: Problem::new("TWO", ""),
                    voucher: None,
                },
            },
            "Parked for a person since 2026-03-05 09:12 UTC, and a document may be in QAD: TWO.",
        ),
        (
            State::Rejected { problem: problem() },
            "Rejected 2026-03-05 09:12 UTC: QAD_PERMISSION_DENIED at entity: expected a role, got none. Give the \
             user the role. Nothing more is done with it.",
        ),
        (
            State::Voided { exported: false },
            "Voided in Coupa before anything was posted (2026-03-05 09:12 UTC): nothing was sent to QAD, and it is \
             being marked exported in Coupa.",
        ),
        (
            State::Voided { exported: true },
            "Voided in Coupa before anything was posted (2026-03-05 09:12 UTC): nothing was sent to QAD, and nothing \
             is left to do.",
        ),
    ] {
        assert_eq!(sentence(&record(state)), expected);
    }
}

#[test]
fn an_approved_invoice_tells_how_its_creation_stands() {
    for (effect, expected) in [
        (
            effect(EffectStatus::Ready, 0),
            "it is about to be created in QAD; nobody needs to act.",
        ),
        (
            effect(EffectStatus::Ready, 1),
            "QAD has not taken it yet; it is sent again by itself after 2026-03-05 09:12 UTC.",
        ),
        (
            effect(EffectStatus::Intent, 1),
            "it is being created in QAD; nobody needs to act.",
        ),
        (
            effect(EffectStatus::Unknown, 1),
            "nobody knows whether QAD created it; it is looked for there by itself from now on, and never sent again \
             before 2026-03-05 09:22 UTC.",
        ),
        (
            effect(EffectStatus::Done, 1),
            "QAD has it; its voucher is being recorded.",
        ),
        (
            effect(EffectStatus::Rejected, 1),
            "QAD did not take it; it is about to be parked for a person.",
        ),
        (
            effect(EffectStatus::Withdrawn, 0),
            "its creation was withdrawn before anything was sent; it is decided again by itself.",
        ),
    ] {
        let mut record = record(State::Approved);
        record.creation = Some(effect);
        assert_eq!(
            sentence(&record),
            format!("Approved since 2026-03-05 09:12 UTC: {expected}")
        );
    }
    let mut record = record(State::Approved);
    record.creation = Some(Effect {
        problem: Some(Problem::new("QAD_BUSY", "").actual("429")),
        ..effect(EffectStatus::Ready, 1)
    });
    assert_eq!(
        sentence(&record),
        "Approved since 2026-03-05 09:12 UTC: QAD has not taken it yet; it is sent again by itself after 2026-03-05 \
         09:12 UTC. Last answer: QAD_BUSY, got 429."
    );
}

#[test]
fn what_could_not_be_looked_at_says_so_and_when_it_is_looked_at_again() {
    let mut record = record(State::Received { coupa_status: None });
    record.delay = Some(problem());
    record.look_again = Some(SINCE.plus_seconds(60));
    assert_eq!(
        sentence(&record),
        "Received 2026-03-05 09:12 UTC and not decided yet; nobody needs to act. The last look at it failed and is \
         repeated by itself at 2026-03-05 09:13 UTC: QAD_PERMISSION_DENIED at entity: expected a role, got none. \
         Give the user the role."
    );
}

#[test]
fn many_reasons_are_counted_and_those_for_a_person_come_first() {
    let mut case = Case::invoice();
    case.receipts.clear();
    case.bill((1..=6).map(|number| line(number, "1", "10", "PO1", 1)).collect());
    assert_eq!(
        sentence(&decided(&case)),
        "Held since 2026-03-05 09:12 UTC: nothing of 1 EA received on PO PO1 line 1; nothing of 1 EA received on PO \
         PO1 line 1; nothing of 1 EA received on PO PO1 line 1; nothing of 1 EA received on PO PO1 line 1; and 2 \
         more reasons; it posts by itself when all of that is settled."
    );
    case.bill(vec![line(1, "1", "10", "PO1", 1), line(2, "1", "12", "PO1", 1)]);
    let told = sentence(&decided(&case));
    assert!(
        told.contains("UTC: unit price 12.00 USD per EA on PO PO1 line 1"),
        "{told}"
    );
    assert!(told.ends_with("dispute the invoice, then recheck."), "{told}");
}

#[test]
fn the_rest_is_named_even_when_the_report_is_gone() {
    let mut case = Case::invoice();
    case.receipts[0].received = d("40");
    let mut record = decided(&case);
    record.report = None;
    assert!(sentence(&record).ends_with("it posts by itself when the rest is received."));
}

#[test]
fn the_title_is_what_people_recognise_it_by() {
    let mut record = record(State::Approved);
    assert_eq!(title(&record), "Coupa invoice 92010");
    record.summary = Some(Summary {
        reference: "INV-55812".parse().unwrap(),
        kind: crate::ids::DocumentKind::CreditNote,
        supplier_name: "Example Castings".to_owned(),
        supplier_number: None,
        invoice_date: "2026-03-05".parse().unwrap(),
        total: d("-795"),
        currency: "USD".parse().unwrap(),
        orders: vec![],
        particulars: crate::documents::InvoiceParticulars::default(),
    });
    assert_eq!(
        title(&record),
        "Credit note INV-55812 of Example Castings, -795.00 USD (Coupa 92010)"
    );
}

#[test]
fn the_matrix_shows_every_line_with_its_figures_and_result() {
    let mut case = Case::invoice();
    case.receipts[0].received = d("40");
    case.bill(vec![
        line(1, "30", "10.1", "PO1", 1),
        line(2, "60", "11", "PO1", 1),
        line(3, "0", "0", "PO1", 1),
        line(4, "1", "1", "GONE", 9),
    ]);
    let report = case.decide().report;
    assert_eq!(matrix(&report).len(), 4);
    let told: Vec<String> = matrix(&report).iter().map(|row| row.join(" ")).collect();
    assert_eq!(
        told,
        [
            "1 PO1/1 EA 100 40 0 0 40 30 10 10.1 10.2 matches",
            "2 PO1/1 EA 100 40 0 0 10 60 10 11 10.2 RECEIPT_SHORT PRICE_OVER_TOLERANCE",
            "3 PO1/1 EA 100 40 0 0 0 - 10 - - nothing to post",
            "4 GONE/9 - - - - - - - - - - ORDER_NOT_FOUND",
        ]
    );
}

/// What each state shows in Coupa: its standing, its code, and whether anything is told.
fn shown(state: State) -> Option<(Standing, String, bool)> {
    let shown = shown_in_coupa(&record(state))?;
    Some((shown.standing, shown.code, !shown.message.is_empty()))
}

#[test]
fn coupa_shows_every_state_and_alerts_only_when_a_person_must_act() {
    let parked = |code: &str| State::Parked {
        reason: ParkReason::Problem {
            problem: Problem::new(code, "Mend it."),
        },
    };
    let how = PostedHow::Created;
    let is = |standing, code: &str, told| Some((standing, code.to_owned(), told));
    for (state, expected) in [
        (State::Received { coupa_status: None }, None),
        (
            State::Held {
                exceptions: vec![],
                awaits: vec![],
            },
            is(Standing::Waiting, "HELD", true),
        ),
        (State::Approved, None),
        (
            State::Posted {
                voucher: voucher(),
                how,
            },
            None,
        ),
        (
            State::Exported {
                voucher: voucher(),
                how,
            },
            is(Standing::Finished, "POSTED", true),
        ),
        (
            parked("QAD_REQUEST_REFUSED"),
            is(Standing::ForAccountsPayable, "QAD_REQUEST_REFUSED", true),
        ),
        (
            parked("COUPA_INVOICE_UNREADABLE"),
            is(Standing::ForAccountsPayable, "COUPA_INVOICE_UNREADABLE", true),
        ),
        (
            parked("QAD_ANSWER_UNREADABLE"),
            is(Standing::ForTheEngineer, "QAD_ANSWER_UNREADABLE", true),
        ),
        (
            parked("QAD_PERMISSION_DENIED"),
            is(Standing::ForTheEngineer, "QAD_PERMISSION_DENIED", true),
        ),
        (
            State::Rejected { problem: problem() },
            is(Standing::Withdrawn, "QAD_PERMISSION_DENIED", false),
        ),
        (
            State::Voided { exported: false },
            is(Standing::Withdrawn, "VOIDED", false),
        ),
    ] {
        assert_eq!(shown(state.clone()), expected, "{state:?}");
    }
}

#[test]
fn coupa_reads_no_operator_and_learns_that_an_invoice_was_taken_out() {
    let instruction = crate::instruction::Instruction::new("kim@example.com", "keyed by hand").unwrap();
    let taken_out = record(State::Rejected {
        problem: instruction.skipped(),
    });
    let told = shown_in_coupa(&taken_out).unwrap();
    assert_eq!(told.standing, Standing::Finished);
    assert!(
        told.message.starts_with("Accounts payable has taken it out"),
        "{}",
        told.message
    );
    assert!(!told.message.contains("kim"), "{}", told.message);
    let mut later = record(State::Voided { exported: true });
    later.state = State::Exported {
        voucher: voucher(),
        how: PostedHow::Created,
    };
    let first = shown_in_coupa(&later);
    later.since = later.since.plus_millis(86_400_000);
    assert_eq!(
        shown_in_coupa(&later),
        first,
        "what is found again is not told again"
    );
    assert!(
        sentence(&taken_out).contains("by kim@example.com: keyed by hand"),
        "the clerk reads who"
    );

    let mut paused = record(State::Held {
        exceptions: vec![],
        awaits: vec![],
    });
    paused.delay = Some(Problem::new(PAUSED, "").actual("kim@example.com, since noon: closing"));
    assert!(!shown_in_coupa(&paused).unwrap().message.contains("kim"));
}

#[test]
fn what_another_installation_keeps_from_beginning_is_told_with_the_other_ones_name() {
    let mut waits = record(State::Received { coupa_status: None });
    for (code, why) in [
        (
            crate::ownership::OWNED_BY_ANOTHER,
            "another installation works with this Coupa and QAD",
        ),
        (crate::ownership::MARK_UNKNOWN, "nobody knows yet"),
        (crate::ownership::MARK_NOT_RENEWED, "nobody knows any more"),
    ] {
        waits.delay = Some(Problem::new(code, "Switch one off.").actual("epoch 3 is of installation 4f0c"));
        let told = sentence(&waits);
        assert!(told.contains(why) && told.contains("installation 4f0c"), "{told}");
        assert!(told.ends_with("Switch one off."), "{told}");
        assert_eq!(
            waits.delay.as_ref().unwrap().who_acts(),
            crate::problem::WhoActs::Engineer
        );
    }
}

#[test]
fn coupa_is_told_of_no_command() {
    for code in ExceptionCode::ALL {
        let exceptions = vec![Exception {
            code: *code,
            line: Some(1),
            order_line: Some(crate::matching::tests::key("PO1", 1)),
            expected: "this".to_owned(),
            actual: "that".to_owned(),
            limit: String::new(),
        }];
        let awaits = vec![];
        let reason = ParkReason::Match {
            exceptions: exceptions.clone(),
        };
        for state in [State::Held { exceptions, awaits }, State::Parked { reason }] {
            let told = shown_in_coupa(&record(state)).unwrap().message;
            assert!(!told.contains("qad-coupa") && !told.contains('`'), "{told}");
        }
    }
}

#[test]
fn payments_that_need_a_person_are_shown_on_the_posted_invoice() {
    let mut posted = record(State::Exported {
        voucher: voucher(),
        how: PostedHow::Created,
    });
    posted.paid = Some(PaidState::Parked {
        problem: Problem::new("PAID_TWICE", "Compare."),
    });
    let told = shown_in_coupa(&posted).unwrap();
    assert_eq!(
        (told.standing, told.code.as_str()),
        (Standing::ForAccountsPayable, "PAID_TWICE")
    );
}
