//! What a person tells this product to do with a record: who, why, and exactly what they saw.

use crate::matching::{Exception, ExceptionCode};
use crate::problem::{Problem, TEXT_CHARACTERS_MAX, clean};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Shortest reason that says anything, in characters.
pub const REASON_CHARACTERS_MIN: usize = 8;

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
    /// `REASON_MISSING` when the reason is shorter than [`REASON_CHARACTERS_MIN`].
    pub fn new(by: &str, reason: &str) -> Result<Self, Problem> {
        let reason = clean(reason.trim());
        let length = reason.chars().count();
        if length < REASON_CHARACTERS_MIN {
            return Err(
                Problem::new("REASON_MISSING", "Say why, for the one who audits it.")
                    .field("reason")
                    .expected(format!(
                        "{REASON_CHARACTERS_MIN} to {TEXT_CHARACTERS_MAX} characters"
                    ))
                    .actual(format!("{length} characters")),
            );
        }
        Ok(Self {
            by: clean(by.trim()),
            reason,
        })
    }

    /// The reason a skipped invoice carries.
    pub fn skipped(&self) -> Problem {
        Problem::new(SKIPPED, "`qad-coupa recheck` takes it up again.")
            .actual(format!("{}: {}", self.by, self.reason))
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
}

impl ExceptionCode {
    /// Whether a person may accept it and have the invoice posted as it is: the money is then a decision, and the document
    /// that is posted is complete and adds up; a closed or cancelled order in Coupa is in the way of nothing in QAD. Never true of what would post ahead of a receipt, to another supplier or in
    /// another currency, or of what QAD could not book.
    pub fn is_releasable(self) -> bool {
        matches!(
            self,
            Self::PriceOverTolerance
                | Self::BilledOverOrdered
                | Self::CoupaOrderClosed
                | Self::CoupaOrderCancelled
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::Remedy;

    #[test]
    fn a_reason_must_say_something() {
        assert_eq!(
            Instruction::new("a", "  ok  ").unwrap_err().code,
            "REASON_MISSING"
        );
        assert_eq!(
            Instruction::new("a", " agreed with the buyer ").unwrap().reason,
            "agreed with the buyer"
        );
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
