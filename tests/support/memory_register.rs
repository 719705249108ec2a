//! A model of the register in memory: the meaning of the port in as few lines as it takes. It passes the same contract as
//! the real one.

use async_trait::async_trait;
use domain::ids::{ConnectionId, InvoiceId, QadTenant};
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{
    AuditEntry, COMMIT_WRITES_MAX, Collection, Commit, CommitError, DueRecord, Index, IndexRow, IndexWrite,
    ROWS_MAX, RecordGroup, RecordKey, RecordWrite, Register, RowsAsked, StoreError, StoredRecord, Tally,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everything of all connections.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    records: BTreeMap<(String, RecordKey), Record>,
    audit: BTreeMap<(String, String), BTreeMap<u64, AuditEntry>>,
    done: BTreeMap<(String, String), Commit>,
    rows: BTreeMap<(String, String), BTreeMap<String, String>>,
    tallies: BTreeMap<(String, String), BTreeMap<String, Tally>>,
    reads: u64,
    items: u64,
}

#[derive(Clone)]
struct Record {
    revision: u64,
    body: String,
    due: Option<Timestamp>,
}

impl MemoryStore {
    /// One connection's view of the store.
    pub fn register(&self, connection: &ConnectionId) -> MemoryRegister {
        MemoryRegister {
            store: self.clone(),
            connection: connection.to_string(),
        }
    }
}

/// A store as text, to be kept beside the version that wrote it. Keys are tagged lists, for the ids in them know no JSON of their own.
impl MemoryStore {
    /// Every record's key.
    pub fn keys(&self) -> Vec<RecordKey> {
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        content.records.keys().map(|(_, key)| key.clone()).collect()
    }

    /// Every document's audit trail.
    pub fn trails(&self) -> Vec<Vec<AuditEntry>> {
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trails = content.audit.values();
        trails.map(|trail| trail.values().cloned().collect()).collect()
    }

    /// All that is stored.
    pub fn to_json(&self) -> Value {
        let content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let records = content.records.iter().map(|((of, key), record)| {
            json!({ "of": of, "key": key_json(key), "revision": record.revision, "due": record.due, "body": record.body })
        });
        let audit = content.audit.iter().flat_map(|((of, _), trail)| {
            trail
                .values()
                .map(move |entry| json!({ "of": of, "entry": entry }))
        });
        let rows = content.rows.iter().flat_map(|((of, list), rows)| {
            let row = move |(id, body)| json!({ "of": of, "list": list, "id": id, "body": body });
            rows.iter().map(row)
        });
        let tallies = content.tallies.iter().flat_map(|((of, sheet), tallies)| {
            tallies.iter().map(move |(name, tally)| {
                json!({ "of": of, "sheet": sheet, "name": name, "count": tally.count, "amount": tally.amount })
            })
        });
        json!({
            "records": records.collect::<Vec<_>>(),
            "audit": audit.collect::<Vec<_>>(),
            "rows": rows.collect::<Vec<_>>(),
            "tallies": tallies.collect::<Vec<_>>(),
        })
    }

    /// A store with what [`MemoryStore::to_json`] has written down.
    ///
    /// # Errors
    /// Something else.
    pub fn from_json(stored: &Value) -> Result<Self, String> {
        let store = Self::default();
        let mut content = store.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = |name: &str| part::<Vec<Value>>(stored, name);
        let text = |one: &Value, name: &str| part::<String>(one, name);
        for one in all("records")? {
            let record = Record {
                revision: part(&one, "revision")?,
                body: text(&one, "body")?,
                due: part(&one, "due")?,
            };
            content
                .records
                .insert((text(&one, "of")?, key_of(&part(&one, "key")?)?), record);
        }
        for one in all("audit")? {
            let entry: AuditEntry = part(&one, "entry")?;
            let place = (text(&one, "of")?, entry.document.clone());
            content
                .audit
                .entry(place)
                .or_default()
                .insert(entry.sequence, entry);
        }
        for one in all("rows")? {
            let place = (text(&one, "of")?, text(&one, "list")?);
            let rows = content.rows.entry(place).or_default();
            rows.insert(text(&one, "id")?, text(&one, "body")?);
        }
        for one in all("tallies")? {
            let tally = Tally {
                count: part(&one, "count")?,
                amount: part(&one, "amount")?,
            };
            let place = (text(&one, "of")?, text(&one, "sheet")?);
            content
                .tallies
                .entry(place)
                .or_default()
                .insert(text(&one, "name")?, tally);
        }
        drop(content);
        Ok(store)
    }
}

fn part<T: serde::de::DeserializeOwned>(of: &Value, at: impl serde_json::value::Index) -> Result<T, String> {
    let part = of.get(at).cloned().unwrap_or_default();
    serde_json::from_value(part).map_err(|error| error.to_string())
}

fn key_json(key: &RecordKey) -> Value {
    match key {
        RecordKey::Invoice(id) => json!(["invoice", id]),
        RecordKey::Effect(identity) => json!(["effect", identity]),
        RecordKey::Order(number) => json!(["order", number]),
        RecordKey::Waiting(line, id) => json!(["waiting", line, id]),
        RecordKey::WaitingForOrder(number, id) => json!(["waiting-for-order", number, id]),
        RecordKey::Receipt(receipt) => json!(["receipt", receipt]),
        RecordKey::Watermark(name) => json!(["watermark", name]),
        RecordKey::Entry { collection, id } => json!(["entry", collection, id]),
        RecordKey::Shared { tenant, name } => json!(["shared", tenant.as_str(), name]),
    }
}

fn key_of(key: &Value) -> Result<RecordKey, String> {
    Ok(match part::<String>(key, 0)?.as_str() {
        "invoice" => RecordKey::Invoice(part(key, 1)?),
        "effect" => RecordKey::Effect(part(key, 1)?),
        "order" => RecordKey::Order(part(key, 1)?),
        "waiting" => RecordKey::Waiting(part(key, 1)?, part(key, 2)?),
        "waiting-for-order" => RecordKey::WaitingForOrder(part(key, 1)?, part(key, 2)?),
        "receipt" => RecordKey::Receipt(part(key, 1)?),
        "watermark" => RecordKey::Watermark(part(key, 1)?),
        "entry" => RecordKey::Entry {
            collection: part(key, 1)?,
            id: part(key, 2)?,
        },
        "shared" => RecordKey::Shared {
            tenant: QadTenant::at(&part::<String>(key, 1)?),
            name: part(key, 2)?,
        },
        other => return Err(format!("a key of an unknown kind: {other}")),
    })
}

/// The register of one connection.
#[derive(Clone, Default)]
pub struct MemoryRegister {
    store: MemoryStore,
    connection: String,
}

impl MemoryRegister {
    /// A register in a store of its own, for a world with one connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests that read something, since the store was made.
    pub fn reads(&self) -> u64 {
        self.content().reads
    }

    /// Records, rows, sheets and audit entries that were read, since the store was made.
    pub fn items(&self) -> u64 {
        self.content().items
    }

    /// Lays down what somebody wrote earlier, whatever is there. Nothing is kept to recognise a repeat by.
    pub fn lay_down(&self, commit: &Commit) {
        self.apply(&mut self.content(), commit);
    }

    fn count_read(&self, items: usize) {
        let mut content = self.content();
        content.reads = content.reads.saturating_add(1);
        let items = u64::try_from(items).unwrap_or(u64::MAX);
        content.items = content.items.saturating_add(items);
    }

    fn keep_index(&self, content: &mut Content, write: &IndexWrite) {
        let place = |name: &String| (self.connection.clone(), name.clone());
        match write {
            IndexWrite::Put { list, id, body } => {
                let rows = content.rows.entry(place(list)).or_default();
                rows.insert(id.clone(), body.clone());
            }
            IndexWrite::Remove { list, id } => {
                content.rows.entry(place(list)).or_default().remove(id);
            }
            IndexWrite::Count { sheet, changes, .. } => {
                let tallies = content.tallies.entry(place(sheet)).or_default();
                for (name, change) in changes {
                    let tally = tallies.entry(name.clone()).or_default();
                    tally.count = tally.count.saturating_add(change.count);
                    tally.amount = tally.amount.saturating_add(change.amount);
                }
            }
        }
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.store.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, key: &RecordKey) -> (String, RecordKey) {
        let owner = match key {
            RecordKey::Shared { .. } => String::new(),
            _ => self.connection.clone(),
        };
        (owner, key.clone())
    }

    fn records(&self, wanted: impl Fn(&RecordKey) -> bool) -> Vec<(RecordKey, Record)> {
        let content = self.content();
        let mine = content
            .records
            .iter()
            .filter(|((connection, key), _)| *connection == self.connection && wanted(key));
        mine.map(|((_, key), record)| (key.clone(), record.clone()))
            .collect()
    }

    /// True when the commit may go through as far as the stored revisions and audit entries say.
    fn holds(&self, content: &Content, commit: &Commit) -> bool {
        let revision = |key: &RecordKey| {
            content
                .records
                .get(&self.place(key))
                .map_or(0, |record| record.revision)
        };
        let writes = commit.writes.iter().all(|write| match write {
            RecordWrite::Put { key, seen, .. } | RecordWrite::Check { key, seen } => revision(key) == *seen,
            RecordWrite::Delete { .. } | RecordWrite::Index(_) => true,
        });
        let trail = |entry: &AuditEntry| {
            content
                .audit
                .get(&(self.connection.clone(), entry.document.clone()))
        };
        writes
            && commit
                .audit
                .iter()
                .all(|entry| trail(entry).is_none_or(|trail| !trail.contains_key(&entry.sequence)))
    }

    fn apply(&self, content: &mut Content, commit: &Commit) {
        for write in &commit.writes {
            match write {
                RecordWrite::Put {
                    key, seen, body, due, ..
                } => {
                    let record = Record {
                        revision: seen.saturating_add(1),
                        body: body.clone(),
                        due: *due,
                    };
                    content.records.insert(self.place(key), record);
                }
                RecordWrite::Delete { key } => {
                    content.records.remove(&self.place(key));
                }
                RecordWrite::Check { .. } => {}
                RecordWrite::Index(index) => self.keep_index(content, index),
            }
        }
        for entry in &commit.audit {
            let trail = content
                .audit
                .entry((self.connection.clone(), entry.document.clone()))
                .or_default();
            trail.insert(entry.sequence, entry.clone());
        }
    }
}

#[async_trait]
impl Register for MemoryRegister {
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let read = |key: &RecordKey| {
            let content = self.content();
            let found = content.records.get(&self.place(key));
            found.map(|record| stored(key.clone(), record))
        };
        let found: Vec<Option<StoredRecord>> = keys.iter().map(read).collect();
        self.count_read(found.iter().flatten().count());
        Ok(found)
    }

    async fn list(&self, group: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
        let records = self.records(|key| match (group, key) {
            (RecordGroup::WaitingFor(wanted), RecordKey::Waiting(line, _)) => wanted == line,
            (RecordGroup::WaitingForOrder(wanted), RecordKey::WaitingForOrder(number, _)) => wanted == number,
            (RecordGroup::ReceiptsOf(wanted), RecordKey::Receipt(receipt)) => *wanted == receipt.order_line,
            (RecordGroup::Collection(wanted), RecordKey::Entry { collection, .. }) => wanted == collection,
            _ => false,
        });
        self.count_read(records.len());
        Ok(records
            .into_iter()
            .map(|(key, record)| stored(key, &record))
            .collect())
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        check(&commit)?;
        let mut content = self.content();
        let attempt = (self.connection.clone(), commit.token.clone());
        match content.done.get(&attempt) {
            Some(done) if *done == commit => return Ok(()),
            Some(_) => return Err(invalid("token", "used for one commit only")),
            None => {}
        }
        if !self.holds(&content, &commit) {
            return Err(CommitError::Conflict);
        }
        self.apply(&mut content, &commit);
        content.done.insert(attempt, commit);
        Ok(())
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueRecord>, StoreError> {
        let records = self.records(may_be_due).into_iter();
        let mut due: Vec<DueRecord> = records
            .filter_map(|(key, record)| match (key, record.due) {
                (key, Some(due)) if due <= now => Some(DueRecord { key, due }),
                _ => None,
            })
            .collect();
        due.sort_by(|one, two| (one.due, &one.key).cmp(&(two.due, &two.key)));
        due.truncate(limit);
        Ok(due)
    }

    async fn audit(&self, document: &str) -> Result<Vec<AuditEntry>, StoreError> {
        let trail: Vec<AuditEntry> = {
            let content = self.content();
            let trail = content.audit.get(&(self.connection.clone(), document.to_owned()));
            trail
                .map(|trail| trail.values().cloned().collect())
                .unwrap_or_default()
        };
        self.count_read(trail.len());
        Ok(trail)
    }

    fn neighbour(&self, connection: &ConnectionId) -> Box<dyn Register> {
        Box::new(self.store.register(connection))
    }

    async fn invoices(
        &self,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let found: Vec<StoredRecord> = {
            let content = self.content();
            let place = |id| self.place(&RecordKey::Invoice(id));
            let first = after.map_or(Included(place(InvoiceId(0))), |after| Excluded(place(after)));
            let range = content.records.range((first, Unbounded));
            let mine = range.take_while(|((connection, key), _)| {
                *connection == self.connection && matches!(key, RecordKey::Invoice(_))
            });
            mine.take(limit)
                .map(|((_, key), record)| stored(key.clone(), record))
                .collect()
        };
        self.count_read(found.len());
        Ok(found)
    }
}

#[async_trait]
impl Index for MemoryRegister {
    async fn rows(&self, list: &str, asked: &RowsAsked<'_>) -> Result<Vec<IndexRow>, StoreError> {
        let found: Vec<IndexRow> = {
            let content = self.content();
            let rows = content.rows.get(&(self.connection.clone(), list.to_owned()));
            let beyond = |(id, _): &(&String, &String)| match asked.beyond {
                None => true,
                Some(end) if asked.newest_first => id.as_str() < end,
                Some(end) => id.as_str() > end,
            };
            let row = |(id, body): (&String, &String)| IndexRow {
                id: id.clone(),
                body: body.clone(),
            };
            let rows = rows.into_iter().flatten();
            let limit = asked.limit.min(ROWS_MAX);
            if asked.newest_first {
                rows.rev().filter(beyond).take(limit).map(row).collect()
            } else {
                rows.filter(beyond).take(limit).map(row).collect()
            }
        };
        self.count_read(found.len());
        Ok(found)
    }

    async fn tallies(&self, sheets: &[&str]) -> Result<Vec<BTreeMap<String, Tally>>, StoreError> {
        let sheet = |name: &&str| {
            let place = (self.connection.clone(), (*name).to_owned());
            self.content().tallies.get(&place).cloned().unwrap_or_default()
        };
        let found: Vec<BTreeMap<String, Tally>> = sheets.iter().map(sheet).collect();
        self.count_read(sheets.len());
        Ok(found)
    }

    async fn glance(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        self.read(keys).await
    }

    async fn members(
        &self,
        collection: Collection,
        beyond: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let found = self.records(|key| {
            matches!(key, RecordKey::Entry { collection: of, id }
                if *of == collection && beyond.is_none_or(|beyond| id.as_str() > beyond))
        });
        let limit = limit.min(ROWS_MAX);
        let found: Vec<StoredRecord> = found
            .into_iter()
            .take(limit)
            .map(|(key, record)| stored(key, &record))
            .collect();
        self.count_read(found.len());
        Ok(found)
    }
}

fn stored(key: RecordKey, record: &Record) -> StoredRecord {
    StoredRecord {
        key,
        revision: record.revision,
        body: Ok(record.body.clone()),
    }
}

fn may_be_due(key: &RecordKey) -> bool {
    matches!(key, RecordKey::Invoice(_) | RecordKey::Entry { .. })
}

/// Refuses what the port does not allow, whatever is stored.
fn check(commit: &Commit) -> Result<(), CommitError> {
    if !(1..=36).contains(&commit.token.chars().count()) {
        return Err(invalid("token", "1 to 36 characters"));
    }
    let count = commit.writes.len().saturating_add(commit.audit.len());
    if !(1..=COMMIT_WRITES_MAX).contains(&count) {
        return Err(invalid("writes", "1 to 100 writes and audit entries"));
    }
    let mut keys = BTreeSet::new();
    for write in &commit.writes {
        let (RecordWrite::Put { key, .. } | RecordWrite::Delete { key } | RecordWrite::Check { key, .. }) =
            write
        else {
            continue;
        };
        if !keys.insert(key) {
            return Err(invalid("writes", "no key twice"));
        }
        if matches!(write, RecordWrite::Put { key, due: Some(_), .. } if !may_be_due(key)) {
            return Err(invalid(
                "due",
                "only invoices and members of a collection can be due",
            ));
        }
    }
    let mut entries = BTreeSet::new();
    if commit
        .audit
        .iter()
        .any(|entry| entry.sequence == 0 || !entries.insert((&entry.document, entry.sequence)))
    {
        return Err(invalid("audit", "sequences from 1, none twice"));
    }
    Ok(())
}

fn invalid(field: &str, expected: &str) -> CommitError {
    let fix = "Nothing was written. This is a fault in the program.";
    CommitError::Store(StoreError(
        Problem::new("REGISTER_COMMIT_INVALID", fix)
            .field(field)
            .expected(expected),
    ))
}
