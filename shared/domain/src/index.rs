//! Where an invoice stands in the lists that people ask, and under what it is found there.
//!
//! What is in the index is kept in the record itself, so that a change knows what it has to take out again.

use crate::effect::EffectStatus;
use crate::lifecycle::{InvoiceRecord, PaidState, ParkReason, State, Summary};
use crate::matching::ExceptionCode;
use crate::money::parse_decimal;
use crate::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The layout of the index that this version keeps. A record indexed under another one is indexed anew.
pub const INDEX_VERSION: u32 = 2;
/// Most orders by which one invoice is found.
const FOUND_BY_ORDERS_MAX: usize = 8;
/// Longest text that anything is found by, in characters; of a longer one the beginning counts.
pub const FIND_CHARACTERS_MAX: usize = 80;

/// The five lists of the page: every invoice stands in exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// A person must act.
    NeedsYou,
    /// Waits for the other system and goes on by itself.
    Waits,
    /// Being read, matched or created; nobody needs to act.
    Working,
    /// In QAD.
    Posted,
    /// Nothing more is done with it.
    Closed,
}

impl View {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [
        Self::NeedsYou,
        Self::Waits,
        Self::Working,
        Self::Posted,
        Self::Closed,
    ];

    /// Its one name in keys and addresses. Never changed.
    pub fn word(self) -> &'static str {
        match self {
            Self::NeedsYou => "needs-you",
            Self::Waits => "waits",
            Self::Working => "working",
            Self::Posted => "posted",
            Self::Closed => "closed",
        }
    }

    /// The list of this name.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|view| view.word() == word)
    }

    /// The list an invoice stands in.
    pub fn of(record: &InvoiceRecord) -> Self {
        if matches!(record.paid, Some(PaidState::Parked { .. })) {
            return Self::NeedsYou;
        }
        match &record.state {
            State::Parked { .. } => Self::NeedsYou,
            State::Held { .. }
            | State::Received {
                coupa_status: Some(_),
            } => Self::Waits,
            State::Received { coupa_status: None } | State::Approved => Self::Working,
            State::Posted { .. } | State::Exported { .. } => Self::Posted,
            State::Rejected { .. } | State::Voided { .. } => Self::Closed,
        }
    }
}

/// Where an invoice stands in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indexed {
    /// See [`INDEX_VERSION`].
    pub version: u32,
    /// Its list.
    pub view: View,
    /// Its state's word.
    pub state: String,
    /// The answer to a write of it was lost and has not been found again yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// It could not be looked at, and is again by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delayed: bool,
    /// Since when it stands there.
    pub since: Timestamp,
    /// Why it is not further: the first code; empty when nothing is in the way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Its currency; empty until it could be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub currency: String,
    /// Its total with taxes, signed.
    #[serde(default)]
    pub amount: Decimal,
    /// The supplier of Coupa that it waits for; 0 when nobody knows which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaited: Option<u64>,
    /// What it is found by, folded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found_by: Vec<String>,
    /// The beginning of the hash of its row, to see whether it changed.
    #[serde(default)]
    pub row: String,
}

impl Indexed {
    /// Where a record belongs in the index as it now stands; `row` is the hash of what its row shows.
    pub fn of(record: &InvoiceRecord, row: String) -> Self {
        let view = View::of(record);
        let summary = record.summary.as_ref();
        Self {
            version: INDEX_VERSION,
            view,
            state: record.state.word().to_owned(),
            unknown: is_unknown(record),
            delayed: record.delay.is_some(),
            since: record.since,
            code: first_code(record, view),
            currency: summary
                .map(|summary| summary.currency.to_string())
                .unwrap_or_default(),
            amount: summary.map(|summary| summary.total).unwrap_or_default(),
            awaited: awaited(record),
            found_by: found_by(record),
            row,
        }
    }
}

/// The supplier of Coupa that an invoice waits for, for whatever reason that is the supplier's; 0 when nobody knows which.
fn awaited(record: &InvoiceRecord) -> Option<u64> {
    let State::Parked {
        reason: ParkReason::Match { exceptions },
    } = &record.state
    else {
        return None;
    };
    let of_supplier = exceptions.iter().any(|exception| {
        matches!(
            exception.code,
            ExceptionCode::SupplierNotLinked
                | ExceptionCode::SupplierCodeInvalid
                | ExceptionCode::SupplierDiffers
        )
    });
    of_supplier.then(|| record.coupa_supplier.unwrap_or(0))
}

/// Where a member of a collection (a supplier, a bill) stands in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// See [`INDEX_VERSION`].
    pub version: u32,
    /// The lists that it has a row in.
    pub lists: BTreeSet<String>,
    /// The beginning of the hash of its row, to see whether it changed.
    #[serde(default)]
    pub row: String,
}

/// The first reason why an invoice that waits is not further.
pub fn first_code(record: &InvoiceRecord, view: View) -> String {
    if !matches!(view, View::NeedsYou | View::Waits) {
        return String::new();
    }
    let of_state = record.state.codes().into_iter().next();
    let of_payments = match &record.paid {
        Some(PaidState::Parked { problem }) => Some(problem.code.clone()),
        _ => None,
    };
    let of_delay = record.delay.as_ref().map(|problem| problem.code.clone());
    let code = of_state.or(of_payments).or(of_delay).unwrap_or_default();
    // It becomes part of a key.
    code.chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        .take(FIND_CHARACTERS_MAX)
        .collect()
}

/// True when the answer to a write of this invoice was lost and has not been found again yet.
pub fn is_unknown(record: &InvoiceRecord) -> bool {
    [&record.creation, &record.export, &record.note]
        .into_iter()
        .flatten()
        .any(|effect| effect.status == EffectStatus::Unknown)
}

fn found_by(record: &InvoiceRecord) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut add = |text: String| {
        if !text.is_empty() && !all.contains(&text) {
            all.push(text);
        }
    };
    if let Some(summary) = &record.summary {
        of_summary(summary).for_each(&mut add);
    }
    if let Some(voucher) = record.state.voucher() {
        add(folded(&voucher.to_string()));
        add(folded(&voucher.number.to_string()));
    }
    all
}

fn of_summary(summary: &Summary) -> impl Iterator<Item = String> {
    let orders = summary
        .orders
        .iter()
        .take(FOUND_BY_ORDERS_MAX)
        .map(|order| folded(order.as_str()));
    let number = summary.supplier_number.as_deref().map(folded);
    let name = folded(&summary.supplier_name);
    let first_word = summary.supplier_name.split_whitespace().next().map(folded);
    std::iter::once(folded(summary.reference.as_str()))
        .chain(orders)
        .chain(number)
        .chain([name])
        .chain(first_word)
        .chain([amount(summary.total)])
}

/// A text as people compare numbers of documents: letters and digits alone, without case, without zeros in front of the
/// digits it begins with. `inv 92014` and `INV-92014` are the same.
pub fn folded(text: &str) -> String {
    let plain: String = text
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .flat_map(char::to_uppercase)
        .take(FIND_CHARACTERS_MAX)
        .collect();
    let stripped = plain.trim_start_matches('0');
    if stripped.is_empty() {
        plain
    } else {
        stripped.to_owned()
    }
}

/// An amount as it is found by: without sign and trailing zeros, marked so that it is no document's number.
fn amount(total: Decimal) -> String {
    format!("={}", total.abs().normalize())
}

/// What a person's text is looked up as: a number of a document or a name, and an amount when it can be read as one.
pub fn wanted(text: &str) -> Vec<String> {
    let mut all = vec![folded(text)];
    let plain: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace() && *letter != ',')
        .take(FIND_CHARACTERS_MAX)
        .collect();
    all.extend(parse_decimal(&plain).ok().map(amount));
    all.retain(|text| !text.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InvoiceId;
    use crate::problem::Problem;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_found_whatever_its_blanks_case_zeros_and_punctuation() {
        for text in ["INV-92014", " inv 92014", "inv92014", "Inv.92014", "INV/92014"] {
            assert_eq!(folded(text), "INV92014", "{text}");
        }
        assert_eq!(folded("0042"), folded("42"));
        assert_eq!(folded("000"), "000");
        assert_eq!(folded("-- "), "");
    }

    #[test]
    fn an_amount_is_found_as_people_write_it() {
        let stored = amount("-1296.00".parse().unwrap());
        for text in ["1,296.00", "1296", " 1 296.0 ", "-1296"] {
            assert!(wanted(text).contains(&stored), "{text}");
        }
        assert!(!wanted("INV-1296").contains(&stored));
        assert!(wanted("").is_empty());
    }

    #[test]
    fn every_state_stands_in_the_list_of_those_who_act() {
        let mut record = InvoiceRecord::new(InvoiceId(1), Timestamp(0));
        let is = |record: &InvoiceRecord| View::of(record);
        assert_eq!(is(&record), View::Working);
        record.state = State::Received {
            coupa_status: Some("pending_approval".into()),
        };
        assert_eq!(is(&record), View::Waits);
        record.state = State::Rejected {
            problem: Problem::new("X", ""),
        };
        assert_eq!(is(&record), View::Closed);
        record.paid = Some(PaidState::Parked {
            problem: Problem::new("PAYMENT", ""),
        });
        assert_eq!(is(&record), View::NeedsYou, "its payments wait for a person");
        assert_eq!(first_code(&record, View::NeedsYou), "X");
    }

    proptest! {
        #[test]
        fn folding_is_total_bounded_and_done_once(text in "\\PC{0,200}") {
            let once = folded(&text);
            prop_assert!(once.chars().count() <= FIND_CHARACTERS_MAX);
            prop_assert!(wanted(&text).len() <= 2);
        }
    }
}
