//! Records with their revision and their audit chain: how a flow reads the truth and changes it.
//!
//! A change is the new record, the events that led to it and whatever else must be true at the same moment; it is
//! written in one transaction or not at all. There is no way to change a record without saying why.

use crate::index::entries::added_together;
use crate::ports::{
    AuditEntry, Chance, Clock, Commit, CommitError, RecordKey, RecordWrite, Register, StoreError,
    StoredRecord,
};
use domain::ids::InvoiceId;
use domain::lifecycle::{ChainEnd, InvoiceRecord};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Why a flow could not finish with a record. The record itself is safe: it is as it was, and due again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// The register or the queue gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others kept changing the record while we looked at it.
    #[error("other writers were faster, several times in a row")]
    Contended,
    /// Something that must not be: a record that cannot be read, a step that cannot be taken.
    #[error("{0}")]
    Broken(Problem),
    /// The other system gave no answer to a question that had no record to wait in.
    #[error("{0}")]
    Unanswered(Problem),
    /// There is not enough time left to begin.
    #[error("no time left in this invocation")]
    OutOfTime,
}

impl FlowError {
    /// The error in the shape every error has.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Store(StoreError(problem)) | Self::Broken(problem) | Self::Unanswered(problem) => {
                problem.clone()
            }
            Self::Contended => Problem::new("REGISTER_CONTENDED", "Nothing to do: it is tried again."),
            Self::OutOfTime => Problem::new("OUT_OF_TIME", "Nothing to do: it is tried again."),
        }
    }
}

/// What every flow that changes records needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The truth.
    pub register: &'a dyn Register,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// Tokens and jitter.
    pub chance: &'a dyn Chance,
    /// The chain of times.
    pub timing: &'a Timing,
    /// No call to another system is begun unless it can end before this instant (the function's end less its margin).
    pub deadline: Timestamp,
}

impl Context<'_> {
    /// True when a whole exchange still fits before the deadline.
    pub fn has_time_for_a_call(&self) -> bool {
        self.clock.now().plus_millis(self.timing.http_millis) <= self.deadline
    }

    /// Waits a little, at random, so that contenders part. Bounded by [`PAUSE_MILLIS_MAX`].
    pub async fn pause(&self, attempt: u32) {
        let longest = PAUSE_MILLIS_FIRST
            .checked_shl(attempt.min(16))
            .unwrap_or(PAUSE_MILLIS_MAX)
            .min(PAUSE_MILLIS_MAX);
        self.clock
            .sleep(Duration::from_millis(self.chance.up_to(longest)))
            .await;
    }
}

/// First and longest pause between two tries at the register, in milliseconds.
const PAUSE_MILLIS_FIRST: u64 = 20;
/// See [`PAUSE_MILLIS_FIRST`].
const PAUSE_MILLIS_MAX: u64 = 1_000;
/// How often one transaction is sent again while the register gives no answer.
pub const COMMIT_TRIES_MAX: u32 = 4;

/// A kind of record that has an audit chain.
pub trait Document: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// Where it is stored.
    fn key(&self) -> RecordKey;
    /// Its name in the audit trail.
    fn audit_name(&self) -> String;
    /// Its state's word, stored beside it for people; blank for what has no states.
    fn state_word(&self) -> &'static str {
        ""
    }
    /// When the sweep must look at it; never at what only people and other flows read and write.
    fn due(&self, _: &Timing) -> Option<Timestamp> {
        None
    }
    /// Where its chain ends.
    fn chain(&mut self) -> &mut ChainEnd;
    /// What keeps the index of questions as the record now stands, for the kinds of records that have lists in it.
    fn follow(&mut self, _now: Timestamp) -> Result<Vec<RecordWrite>, FlowError> {
        Ok(Vec::new())
    }
}

/// The audit name of an invoice.
pub fn invoice_audit_name(id: InvoiceId) -> String {
    format!("invoice/{id}")
}

impl Document for InvoiceRecord {
    fn key(&self) -> RecordKey {
        RecordKey::Invoice(self.id)
    }
    fn audit_name(&self) -> String {
        invoice_audit_name(self.id)
    }
    fn state_word(&self) -> &'static str {
        self.state.word()
    }
    fn due(&self, timing: &Timing) -> Option<Timestamp> {
        InvoiceRecord::due(self, timing)
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
    fn follow(&mut self, now: Timestamp) -> Result<Vec<RecordWrite>, FlowError> {
        crate::index::follow(self, now)
    }
}

/// A record and the revision it was read at (0: not stored yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<D> {
    /// The record.
    pub document: D,
    /// Its revision.
    pub revision: u64,
}

/// A change to make: the record after it, why, and what else must be written at the same moment.
#[derive(Debug, Clone)]
pub struct Change<D, E> {
    /// The record after the change.
    pub document: D,
    /// What happened, for the audit trail; empty when only a time was moved.
    pub events: Vec<E>,
    /// Other writes of the same transaction.
    pub writes: Vec<RecordWrite>,
}

/// A step that the record's state does not know: a defect, never somebody's mistake. Nothing is written.
pub(crate) fn impossible(error: impl std::fmt::Display) -> FlowError {
    FlowError::Broken(
        Problem::new("STEP_IMPOSSIBLE", "This is a defect; the record is unchanged.")
            .actual(error.to_string()),
    )
}

/// Reads a stored body.
pub fn parse<T: DeserializeOwned>(record: &StoredRecord) -> Result<T, FlowError> {
    let body = record.body.as_ref();
    let body = body.map_err(|problem| FlowError::Broken(problem.clone()))?;
    let mut reader = serde_json::Deserializer::from_str(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        FlowError::Broken(
            Problem::new(
                "REGISTER_RECORD_UNREADABLE",
                "Compare the record's schema with this version; nothing was changed.",
            )
            .field(format!("{:?} {}", record.key, error.path()))
            .expected("a record this version can read")
            .actual(error.inner().to_string()),
        )
    })
}

/// Reads a stored body of which others do not depend. One that cannot be read is told, with its key, and hides none of them.
pub(crate) fn readable<T: DeserializeOwned>(record: &StoredRecord) -> Option<T> {
    told(parse(record))
}

/// What was read; what cannot be is told.
pub(crate) fn told<T>(read: Result<T, FlowError>) -> Option<T> {
    read.inspect_err(|error| {
        let problem = error.problem();
        tracing::error!(code = %problem.code, %problem, metric = "record_unreadable", value = 1u64, "left out");
    })
    .ok()
}

/// Writes a body.
pub fn render<T: Serialize>(value: &T) -> Result<String, FlowError> {
    serde_json::to_string(value).map_err(|error| {
        FlowError::Broken(
            Problem::new("RECORD_UNWRITABLE", "This is a defect; report it.").actual(error.to_string()),
        )
    })
}

/// Hex SHA-256 of a text.
pub fn sha256_hex(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Reads one document, strongly consistent.
pub async fn load<D: Document>(
    register: &dyn Register,
    key: RecordKey,
) -> Result<Option<Loaded<D>>, FlowError> {
    let found = register.read(&[key]).await?.into_iter().next().flatten();
    found
        .map(|stored| {
            Ok(Loaded {
                document: parse(&stored)?,
                revision: stored.revision,
            })
        })
        .transpose()
}

/// Makes one change: record, audit entry and the rest in one transaction.
///
/// `Conflict` says that nothing was written. While the register gives no answer, the very same transaction is sent
/// again (repeating it is harmless by contract), at most [`COMMIT_TRIES_MAX`] times.
pub fn save<'a, D: Document + 'a, E: Serialize + Sync>(
    context: &'a Context<'a>,
    revision: u64,
    change: Change<D, E>,
) -> BoxFuture<'a, Result<Loaded<D>, CommitError>> {
    let built = build(context, revision, change);
    // On the heap: whoever changes a record in several places would otherwise hold all of them at once.
    Box::pin(async move {
        let broken = |error: FlowError| CommitError::Store(StoreError(error.problem()));
        let (mut commit, mut saved) = built.map_err(broken)?;
        let mut attempt = 0u32;
        let mut may_be_continued = revision == 0;
        loop {
            match context.register.commit(commit.clone()).await {
                Ok(()) => return Ok(saved),
                // Once: a new record may have a trail already, in a register that was restored.
                Err(CommitError::Conflict) if std::mem::take(&mut may_be_continued) => {
                    let continued = crate::restore::continued(context, &commit, &saved.document).await;
                    let Some((anew, document)) = continued.map_err(broken)? else {
                        return Err(CommitError::Conflict);
                    };
                    (commit, saved.document) = (anew, document);
                }
                Err(CommitError::Conflict) => return Err(CommitError::Conflict),
                Err(CommitError::Store(error)) => {
                    attempt = attempt.saturating_add(1);
                    if attempt >= COMMIT_TRIES_MAX || context.clock.now() > context.deadline {
                        return Err(CommitError::Store(error));
                    }
                    context.pause(attempt).await;
                }
            }
        }
    })
}

fn build<D: Document, E: Serialize>(
    context: &Context<'_>,
    revision: u64,
    change: Change<D, E>,
) -> Result<(Commit, Loaded<D>), FlowError> {
    let Change {
        mut document,
        events,
        mut writes,
    } = change;
    let mut audit = Vec::new();
    if !events.is_empty() {
        let entry = next_entry(
            &document.audit_name(),
            document.chain(),
            context.clock.now(),
            render(&events)?,
        );
        *document.chain() = entry.end();
        audit.push(entry);
    }
    writes.extend(document.follow(context.clock.now())?);
    let mut writes = added_together(writes);
    let put = RecordWrite::Put {
        key: document.key(),
        seen: revision,
        body: render(&document)?,
        state: document.state_word().to_owned(),
        due: document.due(context.timing),
    };
    writes.insert(0, put);
    let commit = Commit {
        token: context.chance.token(),
        writes,
        audit,
    };
    Ok((
        commit,
        Loaded {
            document,
            revision: revision.saturating_add(1),
        },
    ))
}

/// The audit entry that follows `end`.
pub fn next_entry(document: &str, end: &ChainEnd, at: Timestamp, events: String) -> AuditEntry {
    let sequence = end.sequence.saturating_add(1);
    let hash = entry_hash(document, sequence, at, &events, &end.hash);
    AuditEntry {
        document: document.to_owned(),
        sequence,
        at,
        events,
        previous_hash: end.hash.clone(),
        hash,
    }
}

/// The hash that chains an entry to the one before: SHA-256 over its parts, each preceded by its length.
fn entry_hash(document: &str, sequence: u64, at: Timestamp, events: &str, previous: &str) -> String {
    let mut digest = Sha256::new();
    for part in [
        document,
        &sequence.to_string(),
        &at.0.to_string(),
        events,
        previous,
    ] {
        digest.update(part.len().to_string().as_bytes());
        digest.update(b":");
        digest.update(part.as_bytes());
    }
    hex::encode(digest.finalize())
}

/// Verifies a document's audit chain; the error names the first entry that does not fit.
pub fn verify_chain(entries: &[AuditEntry]) -> Result<ChainEnd, Problem> {
    let mut end = ChainEnd::default();
    for entry in entries {
        let expected = next_entry(&entry.document, &end, entry.at, entry.events.clone());
        if expected != *entry {
            return Err(Problem::new(
                "AUDIT_CHAIN_BROKEN",
                "Keep the table as it is and find out who wrote to it.",
            )
            .field(format!("{} entry {}", entry.document, entry.sequence))
            .expected(format!("entry {} with hash {}", expected.sequence, expected.hash))
            .actual(entry.hash.clone()));
        }
        end = entry.end();
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<AuditEntry> {
        let mut end = ChainEnd::default();
        (0..3)
            .map(|number| {
                let entry = next_entry("invoice/7", &end, Timestamp(number), format!("[{number}]"));
                end = entry.end();
                entry
            })
            .collect()
    }

    #[test]
    fn an_untouched_chain_verifies() {
        assert_eq!(verify_chain(&chain()).unwrap().sequence, 3);
    }

    #[test]
    fn a_changed_removed_or_swapped_entry_is_found() {
        let mut changed = chain();
        changed[1].events = "[9]".into();
        assert!(verify_chain(&changed).is_err());
        let mut removed = chain();
        removed.remove(1);
        assert!(verify_chain(&removed).is_err());
        let mut swapped = chain();
        swapped.swap(0, 1);
        assert!(verify_chain(&swapped).is_err());
    }
}
