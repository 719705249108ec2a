//! Counts and sums of groups as the page words them; figures, instants and codes as everywhere.

pub use domain::words::PlantClock;
pub(crate) use domain::words::{code, date, figure, money, price};
use flows::index::Sums;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Sums of several currencies, each by itself: `100.00 EUR · 4,076.50 USD`.
pub(crate) fn amounts(amounts: &BTreeMap<String, Decimal>) -> String {
    let parts: Vec<String> = amounts
        .iter()
        .map(|(currency, sum)| money(*sum, currency))
        .collect();
    if parts.is_empty() {
        "no amount".to_owned()
    } else {
        parts.join(" · ")
    }
}

/// `3 invoices`, `1 invoice`.
pub(crate) fn invoices(count: i64) -> String {
    if count == 1 {
        "1 invoice".to_owned()
    } else {
        format!("{count} invoices")
    }
}

/// Count and amounts of a group.
pub(crate) fn sums(sums: &Sums) -> String {
    format!("{}, {}", invoices(sums.count), amounts(&sums.amounts))
}

/// Begins and ends what a sentence adds for those at a terminal.
const VERB: (&str, &str) = (" (`qad-coupa", "`)");

/// A sentence without what it adds for those at a terminal.
pub(crate) fn without_verbs(text: &str) -> String {
    let mut left = text.to_owned();
    while let Some((before, rest)) = left.split_once(VERB.0) {
        let Some((_, after)) = rest.split_once(VERB.1) else {
            break;
        };
        left = format!("{before}{after}");
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_names_no_verb_of_a_terminal() {
        let text = "rechecks it or says so (`qad-coupa entity open-from`). It waits (`qad-coupa x`).";
        assert_eq!(without_verbs(text), "rechecks it or says so. It waits.");
        for kept in ["", "plain (as it is)", "open (`qad-coupa x"] {
            assert_eq!(without_verbs(kept), kept);
        }
    }
}
