//! Stand-in.
#![allow(missing_docs, clippy::all, clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "temporary")]
use async_trait::async_trait;
use domain::ids::InvoiceId;
use domain::time::Timestamp;
use flows::ports::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

#[derive(Default)]
struct State {
    records: BTreeMap<RecordKey, (u64, String, Option<Timestamp>)>,
    audit: BTreeMap<(String, u64), AuditEntry>,
    tokens: BTreeSet<String>,
}
#[derive(Default)]
pub struct MemoryRegister(Mutex<State>);
impl MemoryRegister {
    pub fn new() -> Self {
        Self::default()
    }
}
#[async_trait]
impl Register for MemoryRegister {
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let s = self.0.lock().unwrap();
        Ok(keys.iter().map(|k| s.records.get(k).map(|r| StoredRecord { key: k.clone(), revision: r.0, body: r.1.clone() })).collect())
    }
    async fn list(&self, group: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
        let s = self.0.lock().unwrap();
        Ok(s.records.iter().filter(|(k, _)| match (group, k) {
            (RecordGroup::WaitingFor(l), RecordKey::Waiting(m, _)) => l == m,
            (RecordGroup::ReceiptsOf(l), RecordKey::Receipt(r)) => &r.order_line == l,
            (RecordGroup::Collection(wanted), RecordKey::Entry { collection, .. }) => wanted == collection,
            _ => false,
        }).map(|(k, r)| StoredRecord { key: k.clone(), revision: r.0, body: r.1.clone() }).collect())
    }
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let mut s = self.0.lock().unwrap();
        if s.tokens.contains(&commit.token) { return Ok(()); }
        for w in &commit.writes {
            let (k, seen) = match w { RecordWrite::Put { key, seen, .. } | RecordWrite::Check { key, seen } => (key, *seen), _ => continue };
            if s.records.get(k).map_or(0, |r| r.0) != seen { return Err(CommitError::Conflict); }
        }
        for a in &commit.audit {
            if s.audit.contains_key(&(a.document.clone(), a.sequence)) { return Err(CommitError::Conflict); }
        }
        s.tokens.insert(commit.token);
        for w in commit.writes {
            match w {
                RecordWrite::Put { key, seen, body, due, .. } => { s.records.insert(key, (seen + 1, body, due)); }
                RecordWrite::Delete { key } => { s.records.remove(&key); }
                RecordWrite::Check { .. } => {}
            }
        }
        for a in commit.audit { s.audit.insert((a.document.clone(), a.sequence), a); }
        Ok(())
    }
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueRecord>, StoreError> {
        let s = self.0.lock().unwrap();
        let mut v: Vec<DueRecord> = s.records.iter().filter_map(|(k, r)| match (k, r.2) {
            (RecordKey::Invoice(id), Some(due)) if due <= now => Some(DueRecord { invoice: *id, due }),
            _ => None,
        }).collect();
        v.sort_by_key(|d| d.due);
        v.truncate(limit);
        Ok(v)
    }
    async fn audit(&self, document: &str) -> Result<Vec<AuditEntry>, StoreError> {
        let s = self.0.lock().unwrap();
        Ok(s.audit.range((document.to_owned(), 0)..=(document.to_owned(), u64::MAX)).map(|(_, a)| a.clone()).collect())
    }
    async fn invoices(&self, after: Option<InvoiceId>, limit: usize) -> Result<Vec<StoredRecord>, StoreError> {
        let s = self.0.lock().unwrap();
        Ok(s.records.iter().filter(|(k, _)| matches!(k, RecordKey::Invoice(id) if after.is_none_or(|a| *id > a))).take(limit)
            .map(|(k, r)| StoredRecord { key: k.clone(), revision: r.0, body: r.1.clone() }).collect())
    }
}
