//! What was asked of the two systems: every request with its operation, ids, status and fault; never a credential or a
//! body.

use crate::faults::System;
use domain::time::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Most entries that are kept; the counters keep counting.
const ENTRIES_MAX: usize = 20_000;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalEntry {
    /// Its place, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// Which system.
    pub system: System,
    /// Which operation, for example `invoices.get`.
    pub operation: String,
    /// The ids and references it was about.
    pub keys: Vec<String>,
    /// The idempotency key it carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The HTTP status answered; nothing when the connection was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The fault that was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// How the request broke the wire contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract_violation: Option<String>,
}

/// The requests so far.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    entries: VecDeque<JournalEntry>,
    counters: BTreeMap<String, u64>,
    violations: u64,
    next: u64,
}

impl Journal {
    /// Appends an entry; its place is assigned here. The oldest goes when there are too many.
    pub fn record(&mut self, mut entry: JournalEntry) {
        self.next = self.next.saturating_add(1);
        entry.sequence = self.next;
        let counter = format!("{}.{}", entry.system.as_str(), entry.operation);
        let count = self.counters.entry(counter).or_default();
        *count = count.saturating_add(1);
        if entry.contract_violation.is_some() {
            self.violations = self.violations.saturating_add(1);
        }
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &JournalEntry> {
        self.entries.iter()
    }

    /// Requests per `<system>.<operation>`.
    pub fn counters(&self) -> &BTreeMap<String, u64> {
        &self.counters
    }

    /// How many requests broke the wire contract.
    pub fn violations(&self) -> u64 {
        self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(operation: &str, violation: Option<&str>) -> JournalEntry {
        JournalEntry {
            sequence: 0,
            at: Timestamp(0),
            system: System::Coupa,
            operation: operation.to_owned(),
            keys: Vec::new(),
            idempotency_key: None,
            status: Some(200),
            fault: None,
            contract_violation: violation.map(str::to_owned),
        }
    }

    #[test]
    fn counts_go_on_when_entries_are_dropped() {
        let mut journal = Journal::default();
        for _ in 0..=ENTRIES_MAX {
            journal.record(entry("invoices.get", None));
        }
        journal.record(entry("invoices.exported", Some("no Idempotency-Key")));
        assert_eq!(journal.entries().count(), ENTRIES_MAX);
        assert_eq!(journal.counters().get("coupa.invoices.get"), Some(&20_001));
        assert_eq!(journal.violations(), 1);
        assert_eq!(
            journal.entries().next_back().map(|last| last.sequence),
            Some(20_002)
        );
    }
}
