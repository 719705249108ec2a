//! What the buyer, or whoever asked for the goods, is asked about an invoice that they can set going.
//!
//! Accounts payable sends it in its own name, to whom it knows. It names the order's and the invoice's figures and what to do
//! in Coupa or QAD, and no code and no other invoice.

use super::{REASONS_TOLD_MAX, reason, title};
use crate::lifecycle::{InvoiceRecord, ParkReason, State};
use crate::matching::{Exception, ExceptionCode};

/// A question that is ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What it is about.
    pub subject: String,
    /// Its paragraphs.
    pub paragraphs: Vec<String>,
}

/// What the buyer is asked; `None` when nothing that is in the way is the buyer's to settle.
pub fn to_buyer(record: &InvoiceRecord) -> Option<Question> {
    let exceptions: &[Exception] = match &record.state {
        State::Held { exceptions, .. }
        | State::Parked {
            reason: ParkReason::Match { exceptions },
        } => exceptions,
        State::Received { .. }
        | State::Approved
        | State::Posted { .. }
        | State::Exported { .. }
        | State::Rejected { .. }
        | State::Voided { .. }
        | State::Parked {
            reason: ParkReason::Problem { .. } | ParkReason::InQad { .. },
        } => &[],
    };
    let asked: Vec<String> = exceptions
        .iter()
        .filter_map(|exception| {
            Some(format!(
                "{}. {}",
                capital(&reason(exception)),
                asked(exception.code)?
            ))
        })
        .take(REASONS_TOLD_MAX)
        .collect();
    if asked.is_empty() {
        return None;
    }
    let what = title(record);
    let mut paragraphs = vec![format!("{what} cannot be posted yet:")];
    paragraphs.extend(asked);
    paragraphs
        .push("It goes on by itself when that is done; if the invoice is wrong, please say so.".to_owned());
    Some(Question {
        subject: format!("Please look at: {what}"),
        paragraphs,
    })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect());
    first.unwrap_or_default()
}

/// What a buyer can do about it; `None` where another has to.
fn asked(code: ExceptionCode) -> Option<&'static str> {
    use ExceptionCode as Code;
    match code {
        Code::ReceiptMissing | Code::ReceiptShort | Code::TwoWayLine | Code::HeldTooLong => Some(
            "If it has arrived, please have the goods receipt posted in QAD; if not, please say when it comes.",
        ),
        Code::ConsignedNotUsed => Some("If the goods are used, please have that posted in QAD."),
        Code::ReturnMissing | Code::ReturnNotComing => {
            Some("If the goods went back, please have the return posted in QAD.")
        }
        Code::PriceOverTolerance | Code::PriceUnderTolerance | Code::PriceAdjustment => Some(
            "If this price was agreed, please change the order; if not, please say so, and the invoice is disputed.",
        ),
        Code::BilledOverOrdered => Some(
            "If that much was wanted, please change the order; if not, please say so, and the invoice is disputed.",
        ),
        Code::OrderNotFound | Code::OrderLineNotFound | Code::OrderLineNotMapped | Code::LineWithoutOrder => {
            Some("Please say which order and line it belongs to, or have them sent to QAD.")
        }
        Code::CoupaOrderNotIssued => Some("Please issue the order in Coupa, or say why it waits."),
        Code::OrderLineClosed
        | Code::NothingLeftToBill
        | Code::OrderLineCancelled
        | Code::CoupaOrderCancelled
        | Code::CoupaOrderClosed => {
            Some("If it is owed all the same, please have the order opened again; if not, please say so.")
        }
        Code::SupplierDiffers | Code::CurrencyDiffers | Code::UnitDiffers | Code::OrderOfAnotherEntity => {
            Some("Please say which of the two is right, and have the order changed if it is the invoice.")
        }
        Code::AmountLineUnresolved => Some("Please say which quantity it is for."),
        Code::OriginalNotPosted
        | Code::OriginalNotInQad
        | Code::OriginalAlreadyCancelled
        | Code::CreditedOverBilled
        | Code::CreditNoteMissing
        | Code::AnotherInvoiceInFlight
        | Code::ReceiverLineInFlight
        | Code::PeriodClosed
        | Code::SupplierNotLinked
        | Code::SupplierCodeInvalid
        | Code::TotalsDisagree
        | Code::OrderStatusUnknown
        | Code::CoupaOrderStatusUnknown
        | Code::OrderIsEvaluatedReceipts
        | Code::CreditNotMapped
        | Code::ChargeNotMapped
        | Code::SignContradicts
        | Code::LineContradictsItself
        | Code::NothingToPost
        | Code::TooLarge
        | Code::CanceledInCoupa
        | Code::PaidElsewhere
        | Code::Prepaid
        | Code::LineNegative
        | Code::AccountNotMapped
        | Code::CreditTermsNotMapped
        | Code::RemitToNotMapped
        | Code::DuplicateReference
        | Code::DuplicateReferenceOtherYear
        | Code::NearDuplicate
        | Code::OutOfRange => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InvoiceId;
    use crate::matching::Remedy;
    use crate::problem::Problem;
    use crate::time::Timestamp;

    fn waiting(codes: &[ExceptionCode]) -> InvoiceRecord {
        let exceptions: Vec<Exception> = codes
            .iter()
            .map(|code| Exception {
                code: *code,
                line: Some(1),
                order_line: None,
                expected: "10.00 USD per EA".to_owned(),
                actual: "10.80 USD per EA".to_owned(),
                limit: "10.20 USD per EA".to_owned(),
            })
            .collect();
        let mut record = InvoiceRecord::new(InvoiceId(7), Timestamp(0));
        record.state = if codes.iter().any(|code| code.remedy() == Remedy::APerson) {
            State::Parked {
                reason: ParkReason::Match { exceptions },
            }
        } else {
            State::Held {
                exceptions,
                awaits: vec![],
            }
        };
        record
    }

    #[test]
    fn a_buyer_is_asked_with_the_figures_and_what_to_do() {
        let question = to_buyer(&waiting(&[ExceptionCode::PriceOverTolerance])).unwrap();
        assert_eq!(question.subject, "Please look at: Coupa invoice 7");
        assert_eq!(
            question.paragraphs,
            [
                "Coupa invoice 7 cannot be posted yet:",
                "Unit price 10.80 USD per EA on invoice line 1 is over the order's 10.00 USD per EA (limit 10.20 USD per EA). If \
                 this price was agreed, please change the order; if not, please say so, and the invoice is disputed.",
                "It goes on by itself when that is done; if the invoice is wrong, please say so.",
            ]
        );
    }

    /// What is accounts payable's, the engineer's or nobody's to settle is asked of no buyer, and nothing else of it goes along.
    #[test]
    fn a_buyer_is_asked_what_is_the_buyers_and_nothing_else() {
        for code in ExceptionCode::ALL {
            let question = to_buyer(&waiting(&[*code]));
            let text = question
                .map(|question| question.paragraphs.join(" "))
                .unwrap_or_default();
            assert_eq!(text.is_empty(), asked(*code).is_none(), "{code:?}");
            for code in ExceptionCode::ALL {
                assert!(!text.contains(code.as_str()), "{text}");
            }
        }
        let both = to_buyer(&waiting(&[
            ExceptionCode::NearDuplicate,
            ExceptionCode::ReceiptMissing,
        ]))
        .unwrap();
        assert_eq!(both.paragraphs.len(), 3, "{both:?}");
        let many = to_buyer(&waiting(&[ExceptionCode::BilledOverOrdered; 9])).unwrap();
        assert_eq!(many.paragraphs.len(), REASONS_TOLD_MAX + 2);
        let problem = Problem::new("QAD_REFUSED", "Look.");
        for state in [
            State::Approved,
            State::Parked {
                reason: ParkReason::Problem {
                    problem: problem.clone(),
                },
            },
            State::Rejected { problem },
            State::Voided { exported: true },
        ] {
            let mut record = waiting(&[ExceptionCode::PriceOverTolerance]);
            record.state = state;
            assert_eq!(to_buyer(&record), None);
        }
    }
}
