//! What is wrong, always in the same shape: a stable code, the field, what was expected, what came, and the fix.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text kept in any part of a problem, in characters. What the other side says is cut to it.
pub const TEXT_CHARACTERS_MAX: usize = 600;

/// How the code of a problem ends that says: the other system refuses who we are. The system's name stands before it.
const CREDENTIAL_REFUSED: &str = "_CREDENTIAL_REFUSED";
/// How the codes end of refusals that are about the whole connection: who we are, what we may, where we ask. They say nothing
/// of the document that was asked for.
const ENDINGS_OF_THE_CONNECTION: &[&str] = &[
    CREDENTIAL_REFUSED,
    "_PERMISSION_DENIED",
    "_ADDRESS_FORBIDDEN",
    "_HTML_PAGE",
    "_BOT_CHALLENGE",
    "_REDIRECT",
];
/// The same of paths: a document that is not there has a code of its own.
const PATHS_NOT_FOUND: [&str; 2] = ["COUPA_NOT_FOUND", "QAD_NOT_FOUND"];
/// How the other codes end whose cause is the connection and not the bill: settings, answers that nobody can read, defects.
const ENDINGS_OF_THE_ENGINEER: &[&str] = &[
    "_ANOTHER_INSTALLATION",
    "OWNER_MARK_UNKNOWN",
    "OWNER_MARK_NOT_RENEWED",
    // Not COUPA_INVOICE_UNREADABLE: what cannot be read there is a field of the bill.
    "_ANSWER_UNREADABLE",
    "_UNWRITABLE",
    "_READ_REFUSED",
    "_LISTING_BROKEN",
    "_PAGE_BROKEN",
    "_ALTERED",
    "_IMPOSSIBLE",
];
/// How often in a row something is asked in vain, because its connection is refused, before it waits for a person: about a day,
/// at [`crate::effect::backoff_millis`].
const CONNECTION_SETBACKS_MAX: u32 = 290;
/// How soon a record is looked at again that only waits for its connection's credentials, in milliseconds: the records
/// are all right, and they go on by themselves once the secret is.
pub const CREDENTIAL_RECHECK_MILLIS: i64 = 300_000;

/// Code of a refusal that says: the books are closed on the posting date. It is all right then, and waits.
pub const PERIOD_CLOSED: &str = "PERIOD_CLOSED";

/// Who can do something about a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoActs {
    /// Accounts payable or the buyer: the cause is the bill, its order or its receipt.
    AccountsPayable,
    /// Whoever keeps the connection: settings, rights, addresses, defects.
    Engineer,
}

/// One thing that is wrong with a document, a message, an answer or a configuration.
///
/// Never holds a secret, a token, a request body or a bank account: it is logged, stored, shown and written into Coupa.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable, upper snake case, for example `QAD_PERMISSION_DENIED`. Documented in `docs/operate.md`.
    pub code: String,
    /// The field, header, JSON path or setting concerned; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What would have been right.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
    /// What came.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub actual: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Problem {
    /// A problem with its code and its fix; the other parts are added with the methods below.
    pub fn new(code: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            field: String::new(),
            expected: String::new(),
            actual: String::new(),
            fix: fix.into(),
        }
    }

    /// Whether it says that the other system refuses our credentials: nothing was applied, and the record is all right.
    pub fn is_credential_refused(&self) -> bool {
        self.code.ends_with(CREDENTIAL_REFUSED)
    }

    /// Whether a refused reading says something about the connection alone, and nothing about the document that was read.
    pub fn is_of_the_connection(&self) -> bool {
        let ends = |ending: &&str| self.code.ends_with(*ending);
        ENDINGS_OF_THE_CONNECTION.iter().any(ends) || PATHS_NOT_FOUND.contains(&self.code.as_str())
    }

    /// How many setbacks in a row there are with this one, after so many of which `before` was the last. What is refused because
    /// of the connection is counted from its first refusal on, for how long it lasts decides who acts; what an outage cost
    /// before says nothing about that.
    pub fn setbacks(&self, before: Option<&Self>, so_far: u32) -> u32 {
        let goes_on = !self.is_of_the_connection() || before.is_some_and(Self::is_of_the_connection);
        if goes_on { so_far.saturating_add(1) } else { 1 }
    }

    /// Whether what was asked waits for its connection by itself, after so many setbacks of which `before` was the last.
    pub fn waits_for_the_connection(&self, before: Option<&Self>, so_far: u32) -> bool {
        self.is_of_the_connection() && self.setbacks(before, so_far) <= CONNECTION_SETBACKS_MAX
    }

    /// Who can do something about it.
    pub fn who_acts(&self) -> WhoActs {
        let ends = |ending: &&str| self.code.ends_with(*ending);
        if self.is_of_the_connection() || ENDINGS_OF_THE_ENGINEER.iter().any(ends) {
            WhoActs::Engineer
        } else {
            WhoActs::AccountsPayable
        }
    }

    /// Names the field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = clean(&field.into());
        self
    }

    /// Says what would have been right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = clean(&expected.into());
        self
    }

    /// Says what came. Control characters are escaped and long texts cut.
    #[must_use]
    pub fn actual(mut self, actual: impl Into<String>) -> Self {
        self.actual = clean(&actual.into());
        self
    }
}

/// Makes a foreign text fit to be logged and shown: control characters become blanks, the length is bounded.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(TEXT_CHARACTERS_MAX)
        .collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.code)?;
        if !self.field.is_empty() {
            write!(formatter, " at {}", self.field)?;
        }
        if !self.expected.is_empty() {
            write!(formatter, ": expected {}", self.expected)?;
        }
        if !self.actual.is_empty() {
            write!(formatter, ", got {}", self.actual)?;
        }
        if !self.fix.is_empty() {
            write!(formatter, ". {}", self.fix)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_one_line_whatever_came() {
        let problem = Problem::new("X", "Do this.")
            .field("a/b")
            .expected("1")
            .actual("2\r\n\u{1b}[31mERROR");
        assert_eq!(
            problem.to_string(),
            "X at a/b: expected 1, got 2   [31mERROR. Do this."
        );
        assert_eq!(
            Problem::new("X", "")
                .actual("y".repeat(9_999))
                .actual
                .chars()
                .count(),
            TEXT_CHARACTERS_MAX
        );
    }
}
