//! What a supplier who asks after its invoice can be told: one sentence for every state.
//!
//! It is read outside the house. It names the supplier's own number and amount and what is true of both, and nothing
//! else: no code, no person, no name of a system, no other company's figures.

use super::money;
use crate::ids::DocumentKind;
use crate::lifecycle::{InvoiceRecord, PaidState, ParkReason, State, Summary};
use crate::matching::{Exception, ExceptionCode, Remedy};

/// Where the invoice stands, in words for the supplier. Total: every state has its sentence, and one that is not known to
/// be good news is never told as such.
pub fn to_supplier(record: &InvoiceRecord) -> String {
    let what = what(record.summary.as_ref());
    match &record.state {
        State::Received { coupa_status: None } => {
            format!("We have received {what} and are checking it; nothing is needed from you.")
        }
        State::Received {
            coupa_status: Some(_),
        } => format!("We have received {what}; it is not approved on our side yet."),
        State::Held { exceptions, .. } => format!(
            "We have received {what}. {} Nothing is needed from you.",
            waits_for(exceptions)
        ),
        State::Approved => {
            format!("We have checked and approved {what}; it is being entered for payment.")
        }
        State::Posted { .. } | State::Exported { .. } => entered(&what, record.paid.as_ref()),
        State::Parked {
            reason: ParkReason::Match { exceptions },
        } => format!("We have received {what}. {}", in_question(exceptions)),
        State::Parked {
            reason: ParkReason::Problem { .. },
        } => format!("We have received {what}; our accounts payable department is looking at it."),
        State::Parked {
            reason: ParkReason::InQad { .. },
        } => match &record.paid {
            Some(paid @ (PaidState::Fully { .. } | PaidState::Partly { .. } | PaidState::Closed { .. })) => {
                entered(&what, Some(paid))
            }
            _ => format!("We have received {what}; our accounts payable department is looking at it."),
        },
        State::Rejected { .. } => {
            format!("Our accounts payable department handles {what} by hand; please ask there.")
        }
        State::Voided { .. } => format!(
            "On our side {what} is void and is not paid; please ask our accounts payable department if you did not expect that."
        ),
    }
}

/// `your invoice INV-55812 of 795.00 USD`; without a reading of it, `your invoice`.
fn what(summary: Option<&Summary>) -> String {
    let Some(summary) = summary else {
        return "your invoice".to_owned();
    };
    let kind = match summary.kind {
        DocumentKind::Invoice => "invoice",
        DocumentKind::CreditNote => "credit note",
    };
    format!(
        "your {kind} {} of {}",
        summary.reference,
        money(summary.total, summary.currency)
    )
}

fn entered(what: &str, paid: Option<&PaidState>) -> String {
    match paid {
        None => format!("We have approved {what} and entered it for payment when it is due."),
        Some(PaidState::Fully { on, .. }) => format!("We have paid {what} in full, at last on {on}."),
        // Why nothing more is paid is for the two of them to say.
        Some(PaidState::Closed {
            on,
            settled,
            currency,
            ..
        }) => format!(
            "We have closed {what} on {on} with {} paid; our accounts payable department can tell you about the rest.",
            money(*settled, *currency)
        ),
        Some(PaidState::Partly {
            settled,
            total,
            currency,
        }) => format!(
            "Of {what}, {} of {} is paid; the rest is entered for payment.",
            money(*settled, *currency),
            money(*total, *currency)
        ),
        Some(PaidState::TakenBack { .. }) => format!(
            "A payment of {what} did not go through or was taken back; it is open on our side and entered for payment."
        ),
        // What is paid is not certain, or recorded elsewhere: no promise either way.
        Some(PaidState::Parked { .. } | PaidState::LeftAlone { .. }) => format!(
            "We have approved and entered {what}; our accounts payable department can tell you about its payment."
        ),
    }
}

/// What a held invoice waits for, by the first reason that says it.
fn waits_for(exceptions: &[Exception]) -> &'static str {
    let has = |wanted: &[ExceptionCode]| exceptions.iter().any(|one| wanted.contains(&one.code));
    if has(&[ExceptionCode::ReceiptMissing, ExceptionCode::ReceiptShort]) {
        "It goes on when the delivery is recorded as received in full on our side."
    } else if has(&[ExceptionCode::ReturnMissing]) {
        "It goes on when the return is recorded on our side."
    } else if has(&[
        ExceptionCode::OrderNotFound,
        ExceptionCode::OrderLineNotFound,
        ExceptionCode::CoupaOrderNotIssued,
    ]) {
        "It goes on when the purchase order it names is ready on our side."
    } else {
        "We are checking it, and it goes on when that is done."
    }
}

/// What is in question, by the first reason that needs a person.
fn in_question(exceptions: &[Exception]) -> &'static str {
    let first = exceptions
        .iter()
        .find(|exception| exception.code.remedy() == Remedy::APerson);
    match first.map(|exception| exception.code) {
        Some(ExceptionCode::PriceOverTolerance | ExceptionCode::PriceUnderTolerance) => {
            "Its price differs from our purchase order's; our buyer is clearing that up."
        }
        Some(ExceptionCode::BilledOverOrdered) => {
            "It bills more than our purchase order asks for; our buyer is clearing that up."
        }
        Some(ExceptionCode::TotalsDisagree | ExceptionCode::LineContradictsItself) => {
            "Its figures do not add up for us; our accounts payable department may ask you for a corrected one."
        }
        Some(ExceptionCode::CurrencyDiffers | ExceptionCode::UnitDiffers) => {
            "Its currency or unit differs from our purchase order's; our accounts payable department may ask you for a corrected one."
        }
        Some(ExceptionCode::LineWithoutOrder) => {
            "It names no purchase order for a line; our accounts payable department is finding out which it is."
        }
        Some(
            ExceptionCode::OrderLineClosed
            | ExceptionCode::NothingLeftToBill
            | ExceptionCode::OrderLineCancelled
            | ExceptionCode::CoupaOrderCancelled
            | ExceptionCode::CoupaOrderClosed,
        ) => "The purchase order it names is closed or cancelled; our buyer is clearing that up.",
        _ => "Our accounts payable department is looking at it.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InvoiceId;
    use crate::lifecycle::{PostedHow, Voucher};
    use crate::problem::Problem;
    use crate::time::Timestamp;
    use rust_decimal::Decimal;

    fn record(state: State) -> InvoiceRecord {
        let mut record = InvoiceRecord::new(InvoiceId(7), Timestamp(0));
        record.state = state;
        record.summary = Some(Summary {
            reference: "INV-55812".parse().unwrap(),
            kind: DocumentKind::Invoice,
            supplier_name: "Example Castings".into(),
            supplier_number: Some("10S1001".into()),
            invoice_date: "2026-03-05".parse().unwrap(),
            total: Decimal::from(795),
            currency: "USD".parse().unwrap(),
            orders: vec![],
            particulars: crate::documents::InvoiceParticulars::default(),
        });
        record
    }

    fn exception(code: ExceptionCode) -> Exception {
        Exception {
            code,
            line: Some(1),
            order_line: None,
            expected: "10.00 USD per EA".into(),
            actual: "10.80 USD per EA".into(),
            limit: String::new(),
        }
    }

    fn problem() -> Problem {
        Problem::new("SECRET_CODE", "Run a command.").actual("arn:aws:sts::1:assumed-role/Clerk/alice")
    }

    fn states() -> Vec<State> {
        let voucher = Voucher {
            year: 2026,
            daybook: "SI".into(),
            number: 7,
        };
        let how = PostedHow::Created;
        let mut states = vec![
            State::Received { coupa_status: None },
            State::Received {
                coupa_status: Some("pending_approval".into()),
            },
            State::Approved,
            State::Posted {
                voucher: voucher.clone(),
                how,
            },
            State::Exported {
                voucher: voucher.clone(),
                how,
            },
            State::Parked {
                reason: ParkReason::Problem { problem: problem() },
            },
            State::Parked {
                reason: ParkReason::InQad {
                    problem: problem(),
                    voucher: Some(voucher),
                },
            },
            State::Rejected { problem: problem() },
            State::Voided { exported: false },
            State::Voided { exported: true },
        ];
        for code in ExceptionCode::ALL {
            let exceptions = vec![exception(*code)];
            states.push(match code.remedy() {
                Remedy::APerson => State::Parked {
                    reason: ParkReason::Match { exceptions },
                },
                _ => State::Held {
                    exceptions,
                    awaits: vec![],
                },
            });
        }
        states
    }

    #[test]
    fn every_state_has_a_sentence_that_names_the_invoice_and_nothing_of_the_house() {
        for state in states() {
            let told = to_supplier(&record(state.clone()));
            assert!(told.contains("INV-55812 of 795.00 USD"), "{told}");
            assert!(told.ends_with('.'), "{told}");
            for word in [
                "QAD",
                "Coupa",
                "SECRET",
                "arn:",
                "qad-coupa",
                "2026/SI/7",
                "10.80",
            ] {
                assert!(!told.contains(word), "{word}: {told}");
            }
            for code in ExceptionCode::ALL {
                assert!(!told.contains(code.as_str()), "{told}");
            }
            let mut unread = record(state);
            unread.summary = None;
            assert!(to_supplier(&unread).contains("your invoice"));
        }
    }

    #[test]
    fn nothing_but_a_bill_that_is_paid_is_told_as_paid() {
        let paid = PaidState::Fully {
            on: "2026-04-03".parse().unwrap(),
            payment: "QAD 10USACO 2026/ACH/1#1".into(),
        };
        for state in states() {
            let mut record = record(state.clone());
            assert!(!to_supplier(&record).contains("in full, at last"), "{state:?}");
            record.paid = Some(paid.clone());
            let is_entered = matches!(
                state,
                State::Posted { .. }
                    | State::Exported { .. }
                    | State::Parked {
                        reason: ParkReason::InQad { .. }
                    }
            );
            let told = to_supplier(&record);
            assert_eq!(
                told.contains("in full, at last on 2026-04-03"),
                is_entered,
                "{told}"
            );
            assert!(!told.contains("10USACO"), "{told}");
        }
    }

    #[test]
    fn a_price_in_question_is_told_without_the_figures_and_a_receipt_that_is_awaited_asks_nothing() {
        let price = record(State::Parked {
            reason: ParkReason::Match {
                exceptions: vec![exception(ExceptionCode::PriceOverTolerance)],
            },
        });
        assert_eq!(
            to_supplier(&price),
            "We have received your invoice INV-55812 of 795.00 USD. Its price differs from our purchase order's; our buyer is clearing that up."
        );
        let receipt = record(State::Held {
            exceptions: vec![exception(ExceptionCode::ReceiptMissing)],
            awaits: vec![],
        });
        assert_eq!(
            to_supplier(&receipt),
            "We have received your invoice INV-55812 of 795.00 USD. It goes on when the delivery is recorded as received in full on our side. Nothing is needed from you."
        );
    }
}
