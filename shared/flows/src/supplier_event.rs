//! An invoice that waits for its supplier's QAD number: where that is noted, and how such invoices are woken.
//!
//! They are woken when `sync-suppliers` finds their supplier linked, and when Coupa sends an event about it. Nothing is
//! decided here: a hint that is lost is made up for by the slow recheck.

use crate::poll_coupa::PollError;
use crate::ports::{
    Collection, Hint, HintReason, Queue, RecordGroup, RecordKey, Register, StoreError, Subject,
};
use domain::ids::{ConnectionId, InvoiceId};

/// Stands for the supplier of an invoice that does not tell its supplier's id: any supplier may be it.
const ANY_SUPPLIER: &str = "any";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Whose supplier.
    pub connection: &'a ConnectionId,
    /// Register: the index of what waits for a supplier.
    pub register: &'a dyn Register,
    /// The queue of hints about invoices.
    pub queue: &'a dyn Queue,
    /// Follows this event through all logs.
    pub trace: &'a str,
}

/// The id of the entry that notes that an invoice waits for a supplier of Coupa.
pub fn awaited_supplier_id(supplier: Option<u64>, invoice: InvoiceId) -> String {
    supplier.map_or_else(
        || format!("{ANY_SUPPLIER}/{invoice}"),
        |supplier| format!("{supplier}/{invoice}"),
    )
}

/// Where such an entry is stored.
pub fn awaited_supplier_key(id: String) -> RecordKey {
    RecordKey::Entry {
        collection: Collection::AwaitedSupplier,
        id,
    }
}

/// An event about a supplier: queues the invoices that wait for it; the answer is how many. The supplier itself is read by
/// the next run of `sync-suppliers`, which finds it by its last change.
pub async fn run(deps: &Deps<'_>, supplier: u64) -> Result<u64, PollError> {
    Ok(wake(deps, |awaited| awaited == supplier).await?)
}

/// Queues the invoices that wait for a supplier for which `has_come` holds, and those of which nobody knows for which
/// supplier they wait; the answer is how many.
pub(crate) async fn wake(deps: &Deps<'_>, has_come: impl Fn(u64) -> bool) -> Result<u64, StoreError> {
    let group = RecordGroup::Collection(Collection::AwaitedSupplier);
    let waiting = deps.register.list(&group).await?;
    let hints: Vec<Hint> = waiting
        .iter()
        .filter_map(|stored| match &stored.key {
            RecordKey::Entry { id, .. } => id.split_once('/'),
            _ => None,
        })
        .filter(|(supplier, _)| *supplier == ANY_SUPPLIER || supplier.parse().is_ok_and(&has_come))
        .filter_map(|(_, invoice)| invoice.parse::<InvoiceId>().ok())
        .map(|invoice| Hint::V1 {
            connection: deps.connection.clone(),
            subject: Subject::Invoice(invoice),
            reason: HintReason::Supplier,
            trace: deps.trace.to_owned(),
        })
        .collect();
    if !hints.is_empty() {
        deps.queue.send(&hints).await?;
    }
    Ok(u64::try_from(hints.len()).unwrap_or(u64::MAX))
}
