//! Who waits for an order line, and how they are woken.

use crate::ports::{CommitError, RecordGroup, RecordKey, RecordWrite, Register, StoreError};
use crate::store::{Change, Context, FlowError, Loaded, save};
use domain::ids::{InvoiceId, OrderLineKey};
use domain::lifecycle::{Event, InvoiceRecord};
use domain::time::Timestamp;
use futures_util::future::try_join_all;
use std::collections::BTreeSet;

/// Most order lines an invoice is registered as waiting for. It cannot post before all of them are there, so waiting
/// for some of them loses nothing.
pub(crate) const AWAITED_LINES_MAX: usize = 30;
/// Order lines asked for, and invoices made due, at the same time.
pub(crate) const AT_ONCE: usize = 16;

/// The invoices that wait for one of these order lines.
pub(crate) async fn invoices(
    register: &dyn Register,
    lines: impl IntoIterator<Item = OrderLineKey>,
) -> Result<BTreeSet<InvoiceId>, StoreError> {
    let lines: Vec<OrderLineKey> = lines.into_iter().collect();
    let mut waiting = BTreeSet::new();
    for some in lines.chunks(AT_ONCE) {
        let lists = some.iter().map(|line| async move {
            let group = RecordGroup::WaitingFor(line.clone());
            register.list(&group).await
        });
        let found = try_join_all(lists).await?;
        waiting.extend(found.iter().flatten().filter_map(|stored| match stored.key {
            RecordKey::Waiting(_, invoice) => Some(invoice),
            _ => None,
        }));
    }
    Ok(waiting)
}

/// Makes an invoice that waits due at an instant, so that a hint that gets lost is made up for by the sweep. False when
/// somebody decides it in this moment: as a rule that one looks by itself at what it waits for.
pub(crate) async fn make_due(
    context: &Context<'_>,
    waiting: Loaded<InvoiceRecord>,
    at: Timestamp,
) -> Result<bool, FlowError> {
    let document = InvoiceRecord {
        look_again: Some(at),
        ..waiting.document
    };
    let change = Change::<_, Event> {
        document,
        events: vec![],
        writes: vec![],
    };
    match save(context, waiting.revision, change).await {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict) => Ok(false),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

/// The changes of the waiting index that go with a change of state.
pub(crate) fn writes(before: &InvoiceRecord, after: &InvoiceRecord) -> Vec<RecordWrite> {
    let lines = |record: &InvoiceRecord| -> BTreeSet<OrderLineKey> {
        record.rests_on().into_iter().take(AWAITED_LINES_MAX).collect()
    };
    let (old, new) = (lines(before), lines(after));
    let gone = old.difference(&new).map(|line| RecordWrite::Delete {
        key: RecordKey::Waiting(line.clone(), before.id),
    });
    let added = new.difference(&old).map(|line| RecordWrite::Put {
        key: RecordKey::Waiting(line.clone(), after.id),
        seen: 0,
        body: "{}".to_owned(),
        state: String::new(),
        due: None,
    });
    gone.chain(added).collect()
}
