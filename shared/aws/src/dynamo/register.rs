//! [`Register`] over DynamoDB.
//!
//! A commit is one `TransactWriteItems` whose `ClientRequestToken` is the commit's token, so that DynamoDB itself
//! recognises a repeat for ten minutes; after that, and for the cheaper single `PutItem`, the `writer` attribute does. A
//! read is strongly consistent, always; only [`Register::due`] reads an index, because an index cannot be.

use super::item::{self, Item, NewRecord, StoredBody, number_value, text_value};
use super::keys::{DUE_SHARDS, INVOICE_SHARDS, ItemKey, Keys, sortable};
use crate::clients::failure::{Failure, judge};
use crate::dynamo::Tries;
use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{BuildError, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    CancellationReason, ConditionCheck, Delete, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem,
};
use domain::ids::{ConnectionId, InvoiceId};
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{
    AuditEntry, COMMIT_WRITES_MAX, Chance, Clock, Commit, CommitError, DueRecord, RecordGroup, RecordKey,
    RecordWrite, Register, StoreError, StoredRecord,
};
use futures_util::future::try_join_all;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The index of what is due.
pub const DUE_INDEX: &str = "due";
/// Most keys of one `BatchGetItem` (DynamoDB's limit).
const BATCH_GET_KEYS_MAX: usize = 100;
/// Most keys of one [`Register::read`].
const READ_KEYS_MAX: usize = 5_000;
/// Most pages (of up to 1 MB) of one listing; a longer list is an error, never cut short.
const LIST_PAGES_MAX: u32 = 100;
/// Most pages (of up to 1 MB) of reading a whole table.
const SCAN_PAGES_MAX: u32 = 20_000;
/// Most due records of one call.
const DUE_LIMIT_MAX: usize = 5_000;
/// How many invoices more than its even share a shard is asked for at once.
const SHARE_SLACK: usize = 4;
/// Most invoices of one page.
const INVOICES_LIMIT_MAX: usize = 200;
/// Longest commit token, in characters (DynamoDB's limit).
const TOKEN_CHARACTERS_MAX: usize = 36;

/// The tables' names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterTables {
    /// Records.
    pub register: String,
    /// The audit trail.
    pub audit: String,
}

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// As of now.
    Strong,
    /// It may lag by a moment, and costs half.
    Eventual,
}

/// The register of one connection.
#[derive(Clone)]
pub struct DynamoRegister {
    pub(super) client: Client,
    pub(super) tables: RegisterTables,
    pub(super) keys: Keys,
    pub(super) tries: Tries,
}

impl DynamoRegister {
    /// The register of `connection` in these tables. Sends nothing yet.
    pub fn new(
        client: Client,
        tables: RegisterTables,
        connection: ConnectionId,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Self {
        Self {
            client,
            tables,
            keys: Keys::new(connection),
            tries: Tries::new(clock, chance),
        }
    }

    async fn get(&self, place: &ItemKey, how: Freshness) -> Result<Option<Item>, StoreError> {
        let request = || async {
            let sent = self
                .client
                .get_item()
                .table_name(&self.tables.register)
                .set_key(Some(item::keyed(place.clone())))
                .consistent_read(how == Freshness::Strong)
                .send()
                .await;
            sent.map(|answer| answer.item)
                .map_err(|error| judge("DYNAMODB", "GetItem", &error))
        };
        self.tries.repeat(request).await.map_err(StoreError)
    }

    /// Reads up to [`BATCH_GET_KEYS_MAX`] different places into `found`.
    async fn batch_get(
        &self,
        places: &[&ItemKey],
        how: Freshness,
        found: &mut BTreeMap<ItemKey, Item>,
    ) -> Result<(), StoreError> {
        let mut open: Vec<Item> = places.iter().map(|place| item::keyed((*place).clone())).collect();
        let mut attempt = 0u32;
        loop {
            attempt = attempt.saturating_add(1);
            let (items, left) = self
                .tries
                .repeat(|| self.batch_get_once(open.clone(), how))
                .await
                .map_err(StoreError)?;
            for item in items {
                found.insert(item::place(&item).map_err(StoreError)?, item);
            }
            if left.is_empty() {
                return Ok(());
            }
            open = left;
            if !self.tries.again(attempt).await {
                let fix = "Nothing to do: it is tried again. Look at the table's throttles if it lasts.";
                let problem = Problem::new("DYNAMODB_THROTTLED", fix)
                    .field("BatchGetItem")
                    .actual(format!("{} keys left", open.len()));
                return Err(StoreError(problem));
            }
        }
    }

    async fn batch_get_once(
        &self,
        keys: Vec<Item>,
        how: Freshness,
    ) -> Result<(Vec<Item>, Vec<Item>), Failure> {
        let wanted = KeysAndAttributes::builder()
            .set_keys(Some(keys))
            .consistent_read(how == Freshness::Strong)
            .build()
            .map_err(unbuildable)?;
        let answer = self
            .client
            .batch_get_item()
            .request_items(&self.tables.register, wanted)
            .send()
            .await
            .map_err(|error| judge("DYNAMODB", "BatchGetItem", &error))?;
        let items = answer
            .responses
            .and_then(|mut tables| tables.remove(&self.tables.register))
            .unwrap_or_default();
        let left = answer
            .unprocessed_keys
            .and_then(|mut tables| tables.remove(&self.tables.register));
        Ok((items, left.map(|left| left.keys).unwrap_or_default()))
    }

    /// Reads records, as fresh as is asked.
    pub(super) async fn read_records(
        &self,
        keys: &[RecordKey],
        how: Freshness,
    ) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        if keys.len() > READ_KEYS_MAX {
            let problem = Problem::new(
                "REGISTER_READ_TOO_LARGE",
                "This is a fault in the program: report it with this line.",
            );
            return Err(StoreError(
                problem
                    .expected(format!("at most {READ_KEYS_MAX} keys"))
                    .actual(keys.len().to_string()),
            ));
        }
        let places: Vec<ItemKey> = keys.iter().map(|key| self.keys.place(key)).collect();
        let different: Vec<&ItemKey> = places.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut found = BTreeMap::new();
        if let [only] = different.as_slice() {
            if let Some(item) = self.get(only, how).await? {
                found.insert((*only).clone(), item);
            }
        } else {
            for chunk in different.chunks(BATCH_GET_KEYS_MAX) {
                self.batch_get(chunk, how, &mut found).await?;
            }
        }
        let read = |(key, place): (&RecordKey, &ItemKey)| {
            found.get(place).map(|item| item::to_record(item, key.clone()))
        };
        Ok(keys.iter().zip(&places).map(read).collect())
    }

    /// Reads a partition, strongly consistent unless it is the index's, until it ends or `limit` items are there.
    pub(super) async fn query(&self, query: PartitionQuery<'_>) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        let mut start: Option<Item> = None;
        for _ in 0..LIST_PAGES_MAX {
            let request = || self.query_once(&query, start.clone());
            let (page, next) = self.tries.repeat(request).await.map_err(StoreError)?;
            items.extend(page);
            if query.limit.is_some_and(|limit| items.len() >= limit) || next.is_none() {
                return Ok(items);
            }
            start = next;
        }
        let fix =
            "Find out why so many records belong together; nothing was cut off, the whole list was refused.";
        let problem = Problem::new("REGISTER_LIST_TOO_LONG", fix)
            .field(query.pk)
            .expected(format!("at most {LIST_PAGES_MAX} pages"));
        Err(StoreError(problem))
    }

    async fn query_once(
        &self,
        query: &PartitionQuery<'_>,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), Failure> {
        let mut request = self
            .client
            .query()
            .table_name(query.table)
            .set_exclusive_start_key(start)
            .set_limit(query.limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX)))
            .expression_attribute_values(":pk", text_value(&query.pk));
        request = match &query.range {
            Range::All => request.key_condition_expression("pk = :pk").consistent_read(true),
            Range::After(sk) => request
                .key_condition_expression("pk = :pk AND sk > :sk")
                .expression_attribute_values(":sk", text_value(sk))
                .consistent_read(true),
            Range::DueUntil(now) => request
                .index_name(DUE_INDEX)
                .key_condition_expression("due_pk = :pk AND due_at <= :now")
                .expression_attribute_values(":now", number_value(now.0)),
        };
        let answer = request
            .send()
            .await
            .map_err(|error| judge("DYNAMODB", "Query", &error))?;
        Ok((
            answer.items.unwrap_or_default(),
            answer.last_evaluated_key.filter(|key| !key.is_empty()),
        ))
    }

    /// The names of all documents that have a trail, by reading the whole table: for a person after a restore, and nobody else.
    ///
    /// # Errors
    /// No answer, or more pages than [`SCAN_PAGES_MAX`]: nothing is cut off.
    pub async fn audit_names(&self) -> Result<Vec<String>, StoreError> {
        let prefix = self.keys.audit("");
        let mut names = Vec::new();
        let mut start: Option<Item> = None;
        for _ in 0..SCAN_PAGES_MAX {
            let request = || self.scan_first_entries(&prefix, start.clone());
            let (items, next) = self.tries.repeat(request).await.map_err(StoreError)?;
            for item in &items {
                let place = item::place(item).map_err(StoreError)?;
                names.extend(place.pk.strip_prefix(&prefix).map(str::to_owned));
            }
            if next.is_none() {
                return Ok(names);
            }
            start = next;
        }
        let fix =
            "Compare the exports of both tables instead; nothing was cut off, the whole list was refused.";
        let problem = Problem::new("REGISTER_LIST_TOO_LONG", fix)
            .field(&self.tables.audit)
            .expected(format!("at most {SCAN_PAGES_MAX} pages"));
        Err(StoreError(problem))
    }

    /// The first entry of each trail on one page of the table.
    async fn scan_first_entries(
        &self,
        prefix: &str,
        start: Option<Item>,
    ) -> Result<(Vec<Item>, Option<Item>), Failure> {
        let sent = self
            .client
            .scan()
            .table_name(&self.tables.audit)
            .consistent_read(true)
            .set_exclusive_start_key(start)
            .projection_expression("pk, sk")
            .filter_expression("sk = :first AND begins_with(pk, :connection)")
            .expression_attribute_values(":first", text_value(sortable(1)))
            .expression_attribute_values(":connection", text_value(prefix))
            .send()
            .await;
        let answer = sent.map_err(|error| judge("DYNAMODB", "Scan", &error))?;
        Ok((
            answer.items.unwrap_or_default(),
            answer.last_evaluated_key.filter(|key| !key.is_empty()),
        ))
    }

    fn put(&self, write: &RecordWrite, token: &str) -> Result<Option<(Item, Condition)>, Problem> {
        let RecordWrite::Put {
            key,
            seen,
            body,
            state,
            due,
        } = write
        else {
            return Ok(None);
        };
        let due = match due {
            None => None,
            Some(due) => {
                let expected = "only invoices and members of a collection can be due";
                let shard = self.keys.due_of(key);
                let shard = shard.ok_or_else(|| invalid_commit("due", expected, format!("{key:?}")))?;
                Some((shard, *due))
            }
        };
        let body = StoredBody::of(body).map_err(|error| {
            let of = if error.deflated {
                " once it is deflated"
            } else {
                ""
            };
            let expected = format!("at most {} bytes{of}", error.most);
            invalid_commit("body", &expected, format!("{} bytes", error.bytes))
        })?;
        let revision = seen
            .checked_add(1)
            .ok_or_else(|| invalid_commit("seen", "a revision", seen.to_string()))?;
        let place = self.keys.place(key);
        let record = NewRecord {
            place,
            revision,
            body,
            state,
            writer: token,
            due,
        };
        Ok(Some((item::from_record(record), Condition::revision(*seen))))
    }

    fn action(&self, write: &RecordWrite, token: &str) -> Result<Action, Problem> {
        if let Some((item, condition)) = self.put(write, token)? {
            return transact_put(&self.tables.register, item, condition);
        }
        let action = match write {
            RecordWrite::Index(index) => {
                return super::questions::action(&self.tables.register, &self.keys, index);
            }
            RecordWrite::Delete { key } => {
                let delete = Delete::builder()
                    .table_name(&self.tables.register)
                    .set_key(Some(item::keyed(self.keys.place(key))))
                    .build()
                    .map_err(|error| unbuildable(error).into_problem())?;
                TransactWriteItem::builder().delete(delete).build()
            }
            RecordWrite::Check { key, seen } | RecordWrite::Put { key, seen, .. } => {
                let condition = Condition::revision(*seen);
                let check = ConditionCheck::builder()
                    .table_name(&self.tables.register)
                    .set_key(Some(item::keyed(self.keys.place(key))))
                    .condition_expression(condition.expression)
                    .set_expression_attribute_values(condition.values)
                    .build()
                    .map_err(|error| unbuildable(error).into_problem())?;
                TransactWriteItem::builder().condition_check(check).build()
            }
        };
        Ok(Action {
            action,
            signed: false,
        })
    }

    fn actions(&self, commit: &Commit) -> Result<Vec<Action>, Problem> {
        let mut actions = Vec::new();
        for write in &commit.writes {
            actions.push(self.action(write, &commit.token)?);
        }
        for entry in &commit.audit {
            let place = ItemKey {
                pk: self.keys.audit(&entry.document),
                sk: sortable(entry.sequence),
            };
            let item = item::from_audit(entry, place, &commit.token);
            actions.push(transact_put(&self.tables.audit, item, Condition::revision(0))?);
        }
        Ok(actions)
    }

    /// One record and nothing else: a conditional `PutItem`, at half the price of a transaction. Its repeat is recognised
    /// while nobody else has written the record since; after that it is a conflict, and the caller reads again.
    async fn put_alone(&self, item: Item, condition: Condition, token: &str) -> Result<(), CommitError> {
        let mut attempt = 0u32;
        let mut lost = None;
        loop {
            attempt = attempt.saturating_add(1);
            let sent = self
                .client
                .put_item()
                .table_name(&self.tables.register)
                .set_item(Some(item.clone()))
                .condition_expression(condition.expression)
                .set_expression_attribute_values(condition.values.clone())
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
                .await;
            let failure = match sent {
                Ok(_) => return Ok(()),
                Err(error) => judge_put(&error, token),
            };
            match failure {
                PutFailure::OurOwn => return Ok(()),
                // After a lost answer nobody can say whether ours was written and then overwritten.
                PutFailure::Faster => return Err(lost.map_or(CommitError::Conflict, ambiguous)),
                PutFailure::Other(Failure::Refused(problem)) => return Err(ambiguous(problem)),
                PutFailure::Other(Failure::Throttled(problem)) => {
                    if !self.tries.again(attempt).await {
                        return Err(ambiguous(problem));
                    }
                }
                PutFailure::Other(Failure::Unknown(problem)) => {
                    lost = Some(problem.clone());
                    if !self.tries.again(attempt).await {
                        return Err(ambiguous(problem));
                    }
                }
            }
        }
    }

    async fn transact(&self, actions: Vec<Action>, token: &str) -> Result<(), CommitError> {
        let signed: Vec<bool> = actions.iter().map(|action| action.signed).collect();
        let items: Vec<TransactWriteItem> = actions.into_iter().map(|action| action.action).collect();
        let mut attempt = 0u32;
        loop {
            attempt = attempt.saturating_add(1);
            let sent = self
                .client
                .transact_write_items()
                .set_transact_items(Some(items.clone()))
                .client_request_token(token)
                .send()
                .await;
            let failure = match sent {
                Ok(_) => return Ok(()),
                Err(error) => judge_transaction(&error, &signed, token),
            };
            let last = match failure {
                TransactionFailure::OurOwn => return Ok(()),
                TransactionFailure::Faster => return Err(CommitError::Conflict),
                TransactionFailure::Contended => CommitError::Conflict,
                TransactionFailure::Other(Failure::Refused(problem)) => return Err(ambiguous(problem)),
                TransactionFailure::Other(Failure::Throttled(problem) | Failure::Unknown(problem)) => {
                    ambiguous(problem)
                }
            };
            if !self.tries.again(attempt).await {
                return Err(last);
            }
        }
    }

    /// Refuses what could never be written, before anything is sent.
    fn check(&self, commit: &Commit) -> Result<(), Problem> {
        let length = commit.token.chars().count();
        if length == 0 || length > TOKEN_CHARACTERS_MAX {
            return Err(invalid_commit(
                "token",
                "1 to 36 characters",
                format!("{length} characters"),
            ));
        }
        let count = commit.writes.len().saturating_add(commit.audit.len());
        if count == 0 || count > COMMIT_WRITES_MAX {
            let expected = format!("1 to {COMMIT_WRITES_MAX} writes and audit entries");
            return Err(invalid_commit("writes", &expected, count.to_string()));
        }
        let mut places = BTreeSet::new();
        for write in &commit.writes {
            let place = match write {
                RecordWrite::Index(index) => super::questions::place(&self.keys, index)?,
                RecordWrite::Put { key, .. }
                | RecordWrite::Delete { key }
                | RecordWrite::Check { key, .. } => {
                    let place = self.keys.place(key);
                    // What could not be read back must not be written.
                    self.keys.record(&place)?;
                    place
                }
            };
            if !places.insert(place) {
                return Err(invalid_commit("writes", "no key twice", format!("{write:?}")));
            }
        }
        let mut entries = BTreeSet::new();
        for entry in &commit.audit {
            if entry.sequence == 0 || !entries.insert((&entry.document, entry.sequence)) {
                let actual = format!("{} entry {}", entry.document, entry.sequence);
                return Err(invalid_commit("audit", "sequences from 1, none twice", actual));
            }
        }
        Ok(())
    }

    /// So many invoices of one shard beyond an id, in the order of their ids.
    async fn invoices_of(
        &self,
        shard: u64,
        beyond: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<(InvoiceId, StoredRecord)>, StoreError> {
        let query = PartitionQuery {
            table: &self.tables.register,
            pk: self.keys.invoices(shard),
            range: beyond.map_or(Range::All, |id| Range::After(sortable(id.0))),
            limit: Some(limit),
        };
        let mut records = Vec::new();
        for record in self.records(&self.query(query).await?)? {
            if let RecordKey::Invoice(id) = record.key {
                records.push((id, record));
            }
        }
        Ok(records)
    }

    pub(super) fn records(&self, items: &[Item]) -> Result<Vec<StoredRecord>, StoreError> {
        let read = |item: &Item| Ok(item::to_record(item, self.keys.record(&item::place(item)?)?));
        items
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map_err(StoreError)
    }
}

#[async_trait]
impl Register for DynamoRegister {
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        self.read_records(keys, Freshness::Strong).await
    }

    async fn list(&self, group: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
        let query = PartitionQuery {
            table: &self.tables.register,
            pk: self.keys.group(group),
            range: Range::All,
            limit: None,
        };
        self.records(&self.query(query).await?)
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        self.check(&commit).map_err(ambiguous)?;
        if let ([write], []) = (commit.writes.as_slice(), commit.audit.as_slice())
            && let Some((item, condition)) = self.put(write, &commit.token).map_err(ambiguous)?
        {
            return self.put_alone(item, condition, &commit.token).await;
        }
        let actions = self.actions(&commit).map_err(ambiguous)?;
        self.transact(actions, &commit.token).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueRecord>, StoreError> {
        let limit = limit.min(DUE_LIMIT_MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let shards = (0..DUE_SHARDS).map(|shard| {
            self.query(PartitionQuery {
                table: &self.tables.register,
                pk: self.keys.due(shard),
                range: Range::DueUntil(now),
                limit: Some(limit),
            })
        });
        let mut due = Vec::new();
        for item in try_join_all(shards).await?.iter().flatten() {
            match item::to_due(item, &self.keys) {
                Ok(record) => due.push(record),
                // One record of a version that is not ours must not stop the recovery of all others: it stays due, and
                // is told at every sweep until somebody has looked at it.
                Err(problem) => {
                    tracing::error!(code = %problem.code, %problem, metric = "record_unreadable", value = 1,
                    "what is due")
                }
            }
        }
        due.sort_by(|one, two| (one.due, &one.key).cmp(&(two.due, &two.key)));
        due.truncate(limit);
        Ok(due)
    }

    async fn audit(&self, document: &str) -> Result<Vec<AuditEntry>, StoreError> {
        let query = PartitionQuery {
            table: &self.tables.audit,
            pk: self.keys.audit(document),
            range: Range::All,
            limit: None,
        };
        let items = self.query(query).await?;
        items
            .iter()
            .map(|item| item::to_audit(item, document))
            .collect::<Result<_, _>>()
            .map_err(StoreError)
    }

    fn neighbour(&self, connection: &ConnectionId) -> Box<dyn Register> {
        Box::new(Self {
            keys: Keys::new(connection.clone()),
            ..self.clone()
        })
    }

    async fn invoices(
        &self,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let limit = limit.min(INVOICES_LIMIT_MAX);
        if limit == 0 {
            return Ok(Vec::new());
        }
        // Ids are spread evenly over the shards, so that each has its share of the page. One that has more of it than its
        // share is asked again; nothing that was read is thrown away but the few beyond the page.
        let share = limit
            .div_ceil(usize::try_from(INVOICE_SHARDS).unwrap_or(1))
            .saturating_add(SHARE_SLACK);
        let mut found: BTreeMap<InvoiceId, StoredRecord> = BTreeMap::new();
        let mut open: BTreeMap<u64, Option<InvoiceId>> =
            (0..INVOICE_SHARDS).map(|shard| (shard, after)).collect();
        while !open.is_empty() {
            let asked = open
                .iter()
                .map(|(shard, beyond)| self.invoices_of(*shard, *beyond, share));
            let pages = try_join_all(asked).await?;
            let shards: Vec<u64> = open.keys().copied().collect();
            for (shard, page) in shards.into_iter().zip(pages) {
                let last = page.iter().map(|(id, _)| *id).max();
                let more = page.len() >= share;
                found.extend(page);
                let before = open.get(&shard).copied().flatten();
                match last {
                    // A store that shows again what was asked to be left behind would be asked for ever.
                    Some(last) if more && before.is_some_and(|before| last <= before) => {
                        let fix =
                            "Report it with this line: the table shows records that were not asked for.";
                        let problem = Problem::new("REGISTER_KEY_UNREADABLE", fix)
                            .expected("invoices after the one that was named")
                            .actual(last.to_string());
                        return Err(StoreError(problem));
                    }
                    Some(last) if more => open.insert(shard, Some(last)),
                    _ => open.remove(&shard),
                };
            }
            // What a shard has not shown yet comes after what it has shown last.
            let end = found.keys().nth(limit.saturating_sub(1)).copied();
            open.retain(|_, last| end.is_none_or(|end| last.is_none_or(|last| last < end)));
        }
        Ok(found.into_values().take(limit).collect())
    }
}

pub(super) struct PartitionQuery<'a> {
    pub(super) table: &'a str,
    pub(super) pk: String,
    pub(super) range: Range,
    pub(super) limit: Option<usize>,
}

pub(super) enum Range {
    All,
    After(String),
    DueUntil(Timestamp),
}

/// A condition on the revision an item has.
struct Condition {
    expression: &'static str,
    values: Option<Item>,
}

impl Condition {
    fn revision(seen: u64) -> Self {
        if seen == 0 {
            Self {
                expression: "attribute_not_exists(pk)",
                values: None,
            }
        } else {
            Self {
                expression: "rev = :seen",
                values: Some(HashMap::from([(":seen".to_owned(), number_value(seen))])),
            }
        }
    }
}

/// One action of a transaction.
pub(super) struct Action {
    pub(super) action: TransactWriteItem,
    /// True when the item it writes carries the commit's token.
    pub(super) signed: bool,
}

fn transact_put(table: &str, item: Item, condition: Condition) -> Result<Action, Problem> {
    let put = Put::builder()
        .table_name(table)
        .set_item(Some(item))
        .condition_expression(condition.expression)
        .set_expression_attribute_values(condition.values)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
        .map_err(|error| unbuildable(error).into_problem())?;
    Ok(Action {
        action: TransactWriteItem::builder().put(put).build(),
        signed: true,
    })
}

enum PutFailure {
    /// What lies there was written by this very commit: an answer was lost, not the write.
    OurOwn,
    Faster,
    Other(Failure),
}

fn judge_put(error: &SdkError<PutItemError>, token: &str) -> PutFailure {
    match error.as_service_error() {
        Some(PutItemError::ConditionalCheckFailedException(failed)) => {
            if failed.item().is_some_and(|old| item::writer(old) == Some(token)) {
                PutFailure::OurOwn
            } else {
                PutFailure::Faster
            }
        }
        Some(PutItemError::TransactionConflictException(_)) => {
            let fix = "Nothing to do: it is tried again.";
            PutFailure::Other(Failure::Throttled(
                Problem::new("DYNAMODB_CONTENDED", fix).field("PutItem"),
            ))
        }
        _ => PutFailure::Other(judge("DYNAMODB", "PutItem", error)),
    }
}

enum TransactionFailure {
    /// Every item lies there as this very commit wrote it.
    OurOwn,
    Faster,
    /// Another transaction is busy with one of the items.
    Contended,
    Other(Failure),
}

fn judge_transaction(
    error: &SdkError<TransactWriteItemsError>,
    signed: &[bool],
    token: &str,
) -> TransactionFailure {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
            judge_cancellation(cancelled.cancellation_reasons(), signed, token)
        }
        Some(TransactWriteItemsError::IdempotentParameterMismatchException(_)) => {
            let fix = "A commit token was used for two different commits: a fault in the program, report it with this line.";
            let problem = Problem::new("REGISTER_TOKEN_REUSED", fix).field("TransactWriteItems");
            TransactionFailure::Other(Failure::Refused(problem))
        }
        _ => TransactionFailure::Other(judge("DYNAMODB", "TransactWriteItems", error)),
    }
}

fn judge_cancellation(reasons: &[CancellationReason], signed: &[bool], token: &str) -> TransactionFailure {
    let code = |reason: &CancellationReason| reason.code().unwrap_or("None").to_owned();
    let ours = |reason: &CancellationReason| {
        code(reason) == "ConditionalCheckFailed"
            && reason.item().is_some_and(|old| item::writer(old) == Some(token))
    };
    let mut of_signed = reasons
        .iter()
        .zip(signed)
        .filter(|(_, signed)| **signed)
        .map(|(reason, _)| reason)
        .peekable();
    if of_signed.peek().is_some() && of_signed.all(ours) {
        return TransactionFailure::OurOwn;
    }
    let codes: Vec<String> = reasons.iter().map(code).filter(|code| code != "None").collect();
    let known = |wanted: &[&str]| codes.iter().any(|code| wanted.contains(&code.as_str()));
    if known(&["ConditionalCheckFailed"]) {
        TransactionFailure::Faster
    } else if known(&["TransactionConflict"]) {
        TransactionFailure::Contended
    } else {
        let actual = codes.join(", ");
        if known(&["ThrottlingError", "ProvisionedThroughputExceeded"]) {
            let fix = "Nothing to do: it is tried again. Look at the table's throttles if it lasts.";
            let problem = Problem::new("DYNAMODB_THROTTLED", fix)
                .field("TransactWriteItems")
                .actual(actual);
            TransactionFailure::Other(Failure::Throttled(problem))
        } else {
            let fix = "The transaction can never go through: report it with this line.";
            let problem = Problem::new("DYNAMODB_REFUSED", fix)
                .field("TransactWriteItems")
                .actual(actual);
            TransactionFailure::Other(Failure::Refused(problem))
        }
    }
}

fn ambiguous(problem: Problem) -> CommitError {
    CommitError::Store(StoreError(problem))
}

pub(super) fn unbuildable(error: BuildError) -> Failure {
    let fix = "This is a fault in the program: report it with this line.";
    Failure::Refused(Problem::new("DYNAMODB_REQUEST_INVALID", fix).actual(error.to_string()))
}

pub(super) fn invalid_commit(field: &str, expected: &str, actual: String) -> Problem {
    Problem::new(
        "REGISTER_COMMIT_INVALID",
        "Nothing was written. This is a fault in the program: report it with this line.",
    )
    .field(field)
    .expected(expected)
    .actual(actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: &str, writer: Option<&str>) -> CancellationReason {
        let item = writer.map(|writer| HashMap::from([("writer".to_owned(), text_value(writer))]));
        CancellationReason::builder().code(code).set_item(item).build()
    }

    #[test]
    fn a_cancellation_is_ours_only_when_every_signed_item_is() {
        let ours = reason("ConditionalCheckFailed", Some("t1"));
        let theirs = reason("ConditionalCheckFailed", Some("t2"));
        let none = reason("None", None);
        let judge =
            |reasons: &[CancellationReason], signed: &[bool]| judge_cancellation(reasons, signed, "t1");
        assert!(matches!(
            judge(&[ours.clone(), none.clone()], &[true, false]),
            TransactionFailure::OurOwn
        ));
        assert!(matches!(
            judge(&[ours.clone(), theirs], &[true, true]),
            TransactionFailure::Faster
        ));
        assert!(matches!(
            judge(&[ours, none.clone()], &[true, true]),
            TransactionFailure::Faster
        ));
        let unsigned = reason("ConditionalCheckFailed", None);
        assert!(matches!(judge(&[unsigned], &[false]), TransactionFailure::Faster));
        let busy = reason("TransactionConflict", None);
        assert!(matches!(
            judge(&[busy, none], &[true, true]),
            TransactionFailure::Contended
        ));
    }

    #[test]
    fn throttles_may_be_repeated_and_everything_unknown_may_not() {
        let judge = |code| judge_cancellation(&[reason(code, None)], &[true], "t1");
        assert!(matches!(
            judge("ThrottlingError"),
            TransactionFailure::Other(Failure::Throttled(_))
        ));
        assert!(matches!(
            judge("ValidationError"),
            TransactionFailure::Other(Failure::Refused(_))
        ));
        assert!(matches!(
            judge("SomethingNew"),
            TransactionFailure::Other(Failure::Refused(_))
        ));
    }
}
