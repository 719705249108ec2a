//! How long anything is waited for. What the other system has not mended by then is a person's; it still goes on by itself when
//! that comes to pass.

use crate::matching::{Exception, ExceptionCode, Remedy, Verdict};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const DAY_MILLIS: i64 = 86_400_000;
/// Since when each reason has stood without a break.
pub type Since = BTreeMap<ExceptionCode, Timestamp>;

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// For any one reason, in milliseconds.
    pub hold_millis: i64,
    /// For a return after its credit note was first seen, in milliseconds.
    pub return_millis: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            hold_millis: DAY_MILLIS.saturating_mul(45),
            return_millis: DAY_MILLIS.saturating_mul(14),
        }
    }
}

/// The reasons that stand now, each with the moment since when it has stood.
pub fn since(known: &Since, exceptions: &[Exception], now: Timestamp) -> Since {
    exceptions
        .iter()
        .filter(|exception| exception.code.remedy() == Remedy::TheOtherSystem)
        .map(|exception| {
            let at = known.get(&exception.code).copied().unwrap_or(now);
            (exception.code, at)
        })
        .collect()
}

/// The verdict once patience is over: what was waited for too long is parked, and named with what it waits for.
pub fn applied(
    verdict: Verdict,
    since: &Since,
    first_seen: Timestamp,
    now: Timestamp,
    patience: &Patience,
) -> Verdict {
    let Verdict::Hold { exceptions, awaits } = verdict else {
        return verdict;
    };
    let mut over = Vec::new();
    for exception in &exceptions {
        let is_return = exception.code == ExceptionCode::ReturnMissing;
        let stood = since.get(&exception.code).copied().unwrap_or(now);
        let (code, from, most) = if is_return {
            (ExceptionCode::ReturnNotComing, first_seen, patience.return_millis)
        } else {
            (ExceptionCode::HeldTooLong, stood, patience.hold_millis)
        };
        let is_told = |one: &Exception| one.code == code && one.order_line == exception.order_line;
        if now.millis_since(from) >= most && !over.iter().any(is_told) {
            over.push(Exception {
                code,
                line: exception.line,
                order_line: exception.order_line.clone(),
                expected: exception.code.as_str().to_owned(),
                actual: crate::explain::instant(from),
                limit: days(most),
            });
        }
    }
    if over.is_empty() {
        return Verdict::Hold { exceptions, awaits };
    }
    over.extend(exceptions);
    Verdict::Park { exceptions: over }
}

/// `45 days`; with a fraction where there is one.
fn days(millis: i64) -> String {
    let days = rust_decimal::Decimal::from(millis)
        .checked_div(rust_decimal::Decimal::from(DAY_MILLIS))
        .unwrap_or_default();
    format!("{} days", days.round_dp(3).normalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp(1_772_701_920_000);

    fn exception(code: ExceptionCode) -> Exception {
        Exception {
            code,
            line: Some(1),
            order_line: Some(crate::matching::tests::key("PO1", 1)),
            expected: "100 EA".to_owned(),
            actual: "0 of 100 EA".to_owned(),
            limit: String::new(),
        }
    }

    /// The codes of what becomes of an invoice held for these reasons, seen at `START`, so many days later.
    fn after(codes: &[ExceptionCode], days: &str, patience: &Patience) -> String {
        let millis = crate::money::parse_decimal(days).unwrap() * rust_decimal::Decimal::from(DAY_MILLIS);
        let now = START.plus_millis(millis.try_into().unwrap());
        let exceptions: Vec<_> = codes.iter().map(|code| exception(*code)).collect();
        let stood = since(&since(&Since::new(), &exceptions, START), &exceptions, now);
        let held = Verdict::Hold {
            exceptions,
            awaits: vec![],
        };
        let (word, exceptions) = match applied(held, &stood, START, now, patience) {
            Verdict::Hold { exceptions, .. } => ("hold", exceptions),
            Verdict::Park { exceptions } => ("park", exceptions),
            Verdict::Approve { .. } => ("approve", vec![]),
        };
        let codes: Vec<_> = exceptions.iter().map(|one| one.code.as_str()).collect();
        format!("{word} {}", codes.join(" "))
    }

    #[test]
    fn what_is_waited_for_longer_than_patience_lasts_is_a_persons_and_names_what_it_waits_for() {
        let patience = Patience::default();
        let receipt = [ExceptionCode::ReceiptMissing];
        assert_eq!(after(&receipt, "44.999", &patience), "hold RECEIPT_MISSING");
        assert_eq!(
            after(&receipt, "45", &patience),
            "park HELD_TOO_LONG RECEIPT_MISSING"
        );
    }

    #[test]
    fn a_return_is_waited_for_as_long_as_is_set_for_it() {
        let patience = Patience::default();
        let missing = [ExceptionCode::ReturnMissing];
        assert_eq!(after(&missing, "13.999", &patience), "hold RETURN_MISSING");
        assert_eq!(
            after(&missing, "14", &patience),
            "park RETURN_NOT_COMING RETURN_MISSING"
        );
        let half_a_day = Patience {
            return_millis: DAY_MILLIS / 2,
            ..patience
        };
        assert_eq!(after(&missing, "0.4", &half_a_day), "hold RETURN_MISSING");
        assert_eq!(
            after(&missing, "0.5", &half_a_day),
            "park RETURN_NOT_COMING RETURN_MISSING"
        );
    }

    #[test]
    fn each_reason_has_its_own_time() {
        let first = [exception(ExceptionCode::OrderNotFound)];
        let second = [exception(ExceptionCode::ReceiptMissing)];
        let later = START.plus_millis(DAY_MILLIS * 40);
        let stood = since(&since(&Since::new(), &first, START), &second, later);
        assert_eq!(stood, Since::from([(ExceptionCode::ReceiptMissing, later)]));
        let held = Verdict::Hold {
            exceptions: second.to_vec(),
            awaits: vec![],
        };
        let now = START.plus_millis(DAY_MILLIS * 50);
        assert!(matches!(
            applied(held, &stood, START, now, &Patience::default()),
            Verdict::Hold { .. }
        ));
    }

    #[test]
    fn what_a_person_has_to_look_at_anyway_is_left_as_it_is() {
        let exceptions = vec![
            exception(ExceptionCode::PriceOverTolerance),
            exception(ExceptionCode::ReceiptMissing),
        ];
        let stood = since(&Since::new(), &exceptions, START);
        let parked = Verdict::Park { exceptions };
        let now = START.plus_millis(DAY_MILLIS * 400);
        assert_eq!(
            applied(parked.clone(), &stood, START, now, &Patience::default()),
            parked
        );
    }
}
