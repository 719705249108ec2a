//! What a person tells this product to do with a record: who, why, and exactly what they saw.

use crate::matching::{Exception, ExceptionCode};
use crate::money::Currency;
use crate::problem::{Problem, TEXT_CHARACTERS_MAX, clean};
use crate::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Shortest reason that says anything, in characters.
pub const REASON_CHARACTERS_MIN: usize = 5;

/// Code of an invoice that a person has taken out.
pub const SKIPPED: &str = "SKIPPED_BY_PERSON";

/// Who, and why. Goes into the audit trail with what it caused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// Who: in AWS the caller's own identity, as AWS tells it.
    pub by: String,
    /// Why, in the person's words.
    pub reason: String,
}

impl Instruction {
    /// Checks that both say something.
    ///
    /// # Errors
    /// `REASON_MISSING` when there is none, `REASON_TOO_SHORT` when it is shorter than [`REASON_CHARACTERS_MIN`].
    pub fn new(by: &str, reason: &str) -> Result<Self, Problem> {
        let reason = clean(reason.trim());
        let length = reason.chars().count();
        if length < REASON_CHARACTERS_MIN {
            let code = if length == 0 {
                "REASON_MISSING"
            } else {
                "REASON_TOO_SHORT"
            };
            return Err(Problem::new(code, "Say why, for the one who audits it.")
                .field("reason")
                .expected(format!(
                    "{REASON_CHARACTERS_MIN} to {TEXT_CHARACTERS_MAX} characters"
                ))
                .actual(format!("{length} characters")));
        }
        Ok(Self {
            by: clean(by.trim()),
            reason,
        })
    }

    /// Whether both were given by the same person. AWS names a person by the way taken, `…:assumed-role/<role>/<person>` or
    /// `…:user/<person>`: whoever has two roles is still one person.
    pub fn is_by_the_same_as(&self, other: &Self) -> bool {
        let person = |by: &str| {
            by.rsplit(['/', ':'])
                .next()
                .unwrap_or_default()
                .trim()
                .to_lowercase()
        };
        person(&self.by) == person(&other.by)
    }

    /// The reason a skipped invoice carries.
    pub fn skipped(&self) -> Problem {
        Problem::new(SKIPPED, "It stays out until a person takes it up again.")
            .actual(format!("{}: {}", self.by, self.reason))
    }
}

/// Above which amounts a second, different person must confirm what one person accepts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecondPerson {
    /// The limit of each currency, with taxes; an amount at its limit needs one person. With any limit given, every amount of
    /// a currency without one needs two.
    pub above: BTreeMap<Currency, Decimal>,
    /// How long a request waits for the second person, in milliseconds.
    pub valid_millis: i64,
}

impl SecondPerson {
    /// Whether this amount needs two.
    pub fn is_needed(&self, total: Decimal, currency: Currency) -> bool {
        !self.above.is_empty() && self.above.get(&currency).is_none_or(|limit| total.abs() > *limit)
    }
}

/// A person's word that an invoice may be posted although the match found something: bound to one content of the invoice
/// and to the very figures that were found, so that neither another bill nor another difference slips through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Who, and why.
    pub instruction: Instruction,
    /// When.
    pub at: Timestamp,
    /// The content of the Coupa invoice that was seen.
    pub content_sha256: String,
    /// What was seen and is accepted, figure by figure.
    pub accepted: Vec<Exception>,
    /// Who asked for it before, and why, where two people were needed: `instruction` is then the second one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<Instruction>,
}

impl Release {
    /// What this release accepts of an invoice with this content.
    pub fn accepted_of(&self, content_sha256: &str) -> &[Exception] {
        if self.content_sha256 == content_sha256 {
            &self.accepted
        } else {
            &[]
        }
    }

    /// Whether enough people have given their word for this amount.
    pub fn suffices(&self, rule: &SecondPerson, total: Decimal, currency: Currency) -> bool {
        let two = self
            .requested
            .as_ref()
            .is_some_and(|first| !first.is_by_the_same_as(&self.instruction));
        two || !rule.is_needed(total, currency)
    }

    /// Whether this request, of the same content and figures, still waits for its second person.
    pub fn awaits_second(&self, wanted: &Self, rule: &SecondPerson) -> bool {
        self.content_sha256 == wanted.content_sha256
            && self.accepted == wanted.accepted
            && wanted.at < self.at.plus_millis(rule.valid_millis)
    }
}

impl ExceptionCode {
    /// Whether a person may accept it and have the invoice posted as it is: the money is then a decision, and the document
    /// that is posted is complete and adds up; a closed or cancelled order in Coupa is in the way of nothing in QAD. Never
    /// true of what would post ahead of a receipt, to another supplier or in another currency, or of what QAD could not book.
    pub fn is_releasable(self) -> bool {
        matches!(
            self,
            Self::PriceOverTolerance
                | Self::PriceUnderTolerance
                | Self::OrderIsEvaluatedReceipts
                | Self::BilledOverOrdered
                | Self::CoupaOrderClosed
                | Self::CoupaOrderCancelled
                | Self::CanceledInCoupa
                | Self::PaidElsewhere
                | Self::Prepaid
                | Self::NearDuplicate
                | Self::DuplicateReferenceOtherYear
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Remedy;

    #[test]
    fn a_reason_must_say_something() {
        assert_eq!(Instruction::new("a", "  ").unwrap_err().code, "REASON_MISSING");
        assert!(Instruction::new("a", "typing").is_ok());
        assert_eq!(
            Instruction::new("a", "  ok  ").unwrap_err().code,
            "REASON_TOO_SHORT"
        );
        assert_eq!(
            Instruction::new("a", " agreed with the buyer ").unwrap().reason,
            "agreed with the buyer"
        );
    }

    #[test]
    fn above_the_limit_and_in_a_currency_without_one_two_are_needed() {
        let usd: Currency = "USD".parse().unwrap();
        let eur: Currency = "EUR".parse().unwrap();
        let rule = SecondPerson {
            above: BTreeMap::from([(usd, Decimal::from(100))]),
            valid_millis: 1,
        };
        let cent = Decimal::new(1, 2);
        assert!(!rule.is_needed(Decimal::from(100), usd), "at the limit");
        assert!(rule.is_needed(Decimal::from(100) + cent, usd));
        assert!(rule.is_needed(Decimal::from(-100) - cent, usd), "a credit note");
        assert!(rule.is_needed(cent, eur));
        assert!(!SecondPerson::default().is_needed(Decimal::from(1_000_000), usd));
    }

    #[test]
    fn a_person_is_one_whichever_way_is_taken() {
        let by = |by: &str| Instruction::new(by, "agreed with the buyer").unwrap();
        let alice = by("arn:aws:sts::111122223333:assumed-role/Clerk/alice@example.com");
        for same in [
            "arn:aws:sts::111122223333:assumed-role/Lead/Alice@example.com",
            "arn:aws:iam::111122223333:user/alice@example.com",
            "local:alice@example.com",
        ] {
            assert!(alice.is_by_the_same_as(&by(same)), "{same}");
        }
        assert!(!alice.is_by_the_same_as(&by(
            "arn:aws:sts::111122223333:assumed-role/Clerk/bob@example.com"
        )));
    }

    #[test]
    fn nothing_that_waits_for_the_other_system_can_be_released() {
        for code in ExceptionCode::ALL {
            assert!(
                !code.is_releasable() || code.remedy() == Remedy::APerson,
                "{}",
                code.as_str()
            );
        }
    }
}
