//! The outbox: whatever is due and quiet is queued again.
//!
//! This, and not the queue, is what finishes work. Every queue message may be lost at any moment; the sweep finds what
//! is due in the register and says "look at it" again. A record that is already being worked on is not harmed.

use crate::poll_coupa::PollError;
use crate::ports::{Clock, Hint, HintReason, Queue, Register, Subject};
use domain::ids::ConnectionId;

/// Most invoices one sweep queues; the next one, a minute later, goes on with the oldest again.
pub const SWEEP_MAX: usize = 1_000;

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Whose invoices.
    pub connection: &'a ConnectionId,
    /// Register: read what is due.
    pub register: &'a dyn Register,
    /// The queue of hints.
    pub queue: &'a dyn Queue,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Invoices queued again.
    pub queued: u64,
    /// How long the oldest of them has been due, in milliseconds.
    pub oldest_due_millis: i64,
    /// True when there may be more than one sweep can queue.
    pub more: bool,
}

/// Queues what is due.
pub async fn run(deps: &Deps<'_>) -> Result<Swept, PollError> {
    let now = deps.clock.now();
    let due = deps.register.due(now, SWEEP_MAX).await?;
    let hints: Vec<Hint> = due
        .iter()
        .map(|record| Hint::V1 {
            connection: deps.connection.clone(),
            subject: Subject::Invoice(record.invoice),
            reason: HintReason::Sweep,
            trace: deps.trace.to_owned(),
        })
        .collect();
    if !hints.is_empty() {
        deps.queue.send(&hints).await?;
    }
    Ok(Swept {
        queued: u64::try_from(hints.len()).unwrap_or(u64::MAX),
        oldest_due_millis: due.first().map_or(0, |record| now.millis_since(record.due)),
        more: due.len() >= SWEEP_MAX,
    })
}
