//! An event about a Coupa purchase order: the invoices that wait for it deserve a look.
//!
//! The event names Coupa's id; invoices wait under the number QAD knows the order by, so Coupa is asked for it. Nothing is
//! decided here: a hint that is lost is made up for by the receipts and the slow recheck.

use crate::poll_coupa::PollError;
use crate::ports::{CoupaOrders, Hint, HintReason, Queue, RecordGroup, RecordKey, Register, Subject};
use domain::ids::{ConnectionId, InvoiceId};
use std::collections::BTreeSet;

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Whose order.
    pub connection: &'a ConnectionId,
    /// Coupa: read purchase orders.
    pub coupa: &'a dyn CoupaOrders,
    /// Register: the index of what waits for an order.
    pub register: &'a dyn Register,
    /// The queue of hints about invoices.
    pub queue: &'a dyn Queue,
    /// Follows this event through all logs.
    pub trace: &'a str,
}

/// What came of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// So many invoices waited for it and were queued.
    Woken(u64),
    /// Coupa has no such order (any more).
    NotInCoupa,
    /// The connection's mapping finds no QAD order number on it.
    NoNumber,
}

/// Queues the invoices that wait for the order.
pub async fn run(deps: &Deps<'_>, order: u64) -> Result<Heard, PollError> {
    let Some(numbers) = deps.coupa.order_numbers(order).await? else {
        return Ok(Heard::NotInCoupa);
    };
    if numbers.is_empty() {
        return Ok(Heard::NoNumber);
    }
    let mut waiting: BTreeSet<InvoiceId> = BTreeSet::new();
    for number in numbers {
        let found = deps.register.list(&RecordGroup::WaitingForOrder(number)).await?;
        waiting.extend(found.into_iter().filter_map(|stored| match stored.key {
            RecordKey::WaitingForOrder(_, invoice) => Some(invoice),
            _ => None,
        }));
    }
    let hints: Vec<Hint> = waiting
        .into_iter()
        .map(|invoice| Hint::V1 {
            connection: deps.connection.clone(),
            subject: Subject::Invoice(invoice),
            reason: HintReason::Order,
            trace: deps.trace.to_owned(),
        })
        .collect();
    if !hints.is_empty() {
        deps.queue.send(&hints).await?;
    }
    Ok(Heard::Woken(u64::try_from(hints.len()).unwrap_or(u64::MAX)))
}
