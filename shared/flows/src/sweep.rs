//! The outbox: whatever is due and quiet is queued again.
//!
//! This, and not the queue, is what finishes work. Every queue message may be lost at any moment; the sweep finds what
//! is due in the register and says "look at it" again. A record that is already being worked on is not harmed.

use crate::hinted::Hinted;
use crate::index;
use crate::poll_coupa::PollError;
use crate::ports::{
    Clock, Collection, DueRecord, Hint, HintReason, Index, Queue, RecordKey, Register, RowsAsked, Subject,
};
use crate::store::FlowError;
use domain::ids::ConnectionId;
use domain::index::View;
use domain::timing::Timing;

/// Most records one sweep queues; the next one, a minute later, goes on with those that came after them.
pub const SWEEP_MAX: usize = 1_000;
/// Most due records that one sweep looks at: those whose messages are on their way hide nobody behind them.
const LOOKED_AT_MAX: usize = 5_000;

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Whose records.
    pub connection: &'a ConnectionId,
    /// Register: read what is due.
    pub register: &'a dyn Register,
    /// The queue of hints about invoices and whatever has no queue of its own.
    pub queue: &'a dyn Queue,
    /// The queue of hints about payments.
    pub payments: &'a dyn Queue,
    /// What this instance has queued lately.
    pub hinted: &'a Hinted,
    /// The times a message has.
    pub timing: &'a Timing,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Records queued again.
    pub queued: u64,
    /// How long the oldest of them has been due, in milliseconds.
    pub oldest_due_millis: i64,
    /// True when there may be more than one sweep can queue.
    pub more: bool,
}

/// Queues what is due.
pub async fn run(deps: &Deps<'_>) -> Result<Swept, PollError> {
    let now = deps.clock.now();
    let due = deps.register.due(now, LOOKED_AT_MAX).await?;
    let fresh: Vec<&DueRecord> = due
        .iter()
        .filter(|record| {
            let due = record.due.0;
            deps.hinted
                .take(deps.connection, &record.key, due, now, deps.timing)
        })
        .take(SWEEP_MAX)
        .collect();
    let mut queued = 0usize;
    for (queue, subjects) in [
        (deps.queue, subjects(&fresh, false)),
        (deps.payments, subjects(&fresh, true)),
    ] {
        let hints: Vec<Hint> = subjects
            .into_iter()
            .map(|subject| Hint::V1 {
                connection: deps.connection.clone(),
                subject,
                reason: HintReason::Sweep,
                trace: deps.trace.to_owned(),
            })
            .collect();
        if !hints.is_empty()
            && let Err(error) = queue.send(&hints).await
        {
            deps.hinted.forget(deps.connection);
            return Err(error.into());
        }
        queued = queued.saturating_add(hints.len());
    }
    Ok(Swept {
        queued: u64::try_from(queued).unwrap_or(u64::MAX),
        oldest_due_millis: due.first().map_or(0, |record| now.millis_since(record.due)),
        more: fresh.len() >= SWEEP_MAX || due.len() >= LOOKED_AT_MAX,
    })
}

/// How long the invoice has needed a person that has needed one the longest, in milliseconds; `None` when none does. One read,
/// whatever the register holds.
///
/// # Errors
/// No answer from the register, or a row this version cannot read.
pub async fn needs_person_millis(index: &dyn Index, clock: &dyn Clock) -> Result<Option<i64>, FlowError> {
    let oldest = RowsAsked {
        beyond: None,
        newest_first: false,
        limit: 1,
    };
    let (rows, _) = index::page(index, &index::list_of(View::NeedsYou, None), &oldest).await?;
    Ok(rows.first().map(|row| clock.now().millis_since(row.since).max(0)))
}

/// What is due, as subjects of hints: those about payments, or all others. Only invoices and members of collections can
/// be due, which the register sees to.
fn subjects(due: &[&DueRecord], payments: bool) -> Vec<Subject> {
    due.iter()
        .filter_map(|record| match &record.key {
            RecordKey::Invoice(id) if !payments => Some(Subject::Invoice(*id)),
            RecordKey::Entry { collection, id } if is_payment(*collection) == payments => {
                Some(Subject::Entry {
                    collection: *collection,
                    id: id.clone(),
                })
            }
            _ => None,
        })
        .collect()
}

fn is_payment(collection: Collection) -> bool {
    matches!(collection, Collection::Bill | Collection::UnmatchedPayment)
}
