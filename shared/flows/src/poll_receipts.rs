//! Finds new goods receipts in QAD and wakes the invoices that wait for them.
//!
//! QAD's only cursor is the receipt date, by day, and receipts may be back-dated: a window of days is followed as a
//! [`feed`](crate::feed). An idle cycle costs one read of the register and the pages of QAD, whatever waits.

use crate::feed::{self, Followed, Marks, Page, Source, Taken, Watermark};
use crate::poll_coupa::PollError;
use crate::ports::{
    Commit, CommitError, Hint, HintReason, Qad, Queue, ReadError, RecordKey, RecordWrite, Subject,
};
use crate::store::{Context, FlowError, load, render, told};
use crate::waiting::{self, AT_ONCE};
use crate::watermark::{self, count};
use async_trait::async_trait;
use domain::documents::Receipt;
use domain::guards::{Guard, stands};
use domain::ids::{ConnectionId, InvoiceId, OrderLineKey};
use domain::lifecycle::InvoiceRecord;
use domain::time::Date;
use futures_util::future::try_join_all;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Days that are read again, because receipts may be back-dated.
pub const OVERLAP_DAYS: i64 = 7;
/// Receipts mirrored in one transaction.
const RECEIPTS_PER_COMMIT: usize = 50;
/// How long a woken invoice is left to its hint before the sweep looks at it too, in milliseconds.
const HINT_MILLIS: i64 = 120_000;
/// The watermark's name; a part of the receipts has a scope behind it.
const WATERMARK: &str = "receipts";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (receipt mirror, waiting index, invoices, watermark), clock, chance, deadline.
    pub context: Context<'a>,
    /// Whose receipts.
    pub connection: &'a ConnectionId,
    /// Which part of them `qad` shows, when it does not show all: the watermark is kept by part. Empty for all.
    pub scope: &'a str,
    /// QAD: read receipts.
    pub qad: &'a dyn Qad,
    /// The queue of hints.
    pub queue: &'a dyn Queue,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// A receipt as the poller saw it, kept so that a decision being made at the same moment can notice it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenReceipt {
    /// Quantity, negative for a return.
    pub received: Decimal,
    /// Receipt date.
    pub date: Date,
}

/// Reads the window, or as much of it as there is time for.
///
/// # Errors
/// QAD, the register or the queue gave no answer. What was recorded before stays recorded, and the next run goes on.
pub async fn run(deps: &Deps<'_>) -> Result<Followed, PollError> {
    let name = match deps.scope {
        "" => WATERMARK.to_owned(),
        scope => format!("{WATERMARK}/{scope}"),
    };
    let feed = feed::Deps {
        register: deps.context.register,
        clock: deps.context.clock,
        chance: deps.context.chance,
        deadline: deps.context.deadline,
        name: &name,
        overlap_days: OVERLAP_DAYS,
    };
    feed::run(&feed, &Receipts(deps)).await
}

struct Receipts<'a>(&'a Deps<'a>);

#[async_trait]
impl Source for Receipts<'_> {
    type Row = Receipt;

    fn mark(&self, row: &Receipt) -> u64 {
        mark(row)
    }

    fn day(&self, row: &Receipt) -> Date {
        row.date
    }

    async fn page(&self, since: Date, page: u32) -> Result<Page<Receipt>, ReadError> {
        let scan = self.0.qad.receipts_since(since, page).await?;
        Ok(Page {
            rows: scan.receipts,
            unreadable: scan.unreadable,
            more: scan.more,
        })
    }

    /// First the receipts are recorded, then the waiting invoices are looked for: whichever of an invoice and its receipt
    /// comes second sees the first.
    async fn take(&self, rows: &[Receipt]) -> Result<Taken, FlowError> {
        if stands(Guard::RecordBeforeWake) {
            let new = mirror(self.0, rows).await?;
            let woken = wake(self.0, rows).await?;
            Ok(Taken { new, woken })
        } else {
            let woken = wake(self.0, rows).await?;
            let new = mirror(self.0, rows).await?;
            Ok(Taken { new, woken })
        }
    }
}

/// What makes a row the same row: its key, quantity and date. What QAD has invoiced of it is left out, for our own
/// postings change that.
fn mark(receipt: &Receipt) -> u64 {
    let key = &receipt.key;
    watermark::mark(&[
        key.domain.folded(),
        key.receiver.folded(),
        key.order_line.order.folded(),
        key.order_line.line.to_string(),
        receipt.received.normalize().to_string(),
        receipt.date.to_string(),
    ])
}

/// True when this receipt is safely recorded, as far as this watermark tells rows apart.
pub fn knows(watermark: &Watermark, receipt: &Receipt) -> bool {
    watermark.knows(mark(receipt))
}

/// The watermark after a whole window was recorded: never behind the one before. Pure.
pub fn watermark_after(before: Option<&Watermark>, receipts: &[Receipt], today: Date) -> Watermark {
    let latest = receipts
        .iter()
        .map(|receipt| receipt.date)
        .filter(|date| *date <= today)
        .max();
    let mut marks = Marks::default();
    for receipt in receipts {
        marks.push(mark(receipt), u32::MAX);
    }
    Watermark::after(before, latest, &marks, today)
}

/// Records receipts; the answer is how many were new or different.
async fn mirror(deps: &Deps<'_>, rows: &[Receipt]) -> Result<u64, FlowError> {
    let latest: BTreeMap<RecordKey, &Receipt> = rows
        .iter()
        .map(|receipt| (RecordKey::Receipt(receipt.key.clone()), receipt))
        .collect();
    let latest: Vec<(RecordKey, &Receipt)> = latest.into_iter().collect();
    let mut new = 0_u64;
    for chunk in latest.chunks(RECEIPTS_PER_COMMIT) {
        new = new.saturating_add(mirror_chunk(deps, chunk).await?);
    }
    Ok(new)
}

async fn mirror_chunk(deps: &Deps<'_>, chunk: &[(RecordKey, &Receipt)]) -> Result<u64, FlowError> {
    /// Overlapping runs of this poller may write the same rows; they agree, so a few tries are enough.
    const TRIES_MAX: u32 = 4;
    let register = deps.context.register;
    let keys: Vec<RecordKey> = chunk.iter().map(|(key, _)| key.clone()).collect();
    for _ in 0..TRIES_MAX {
        let found = register.read(&keys).await?;
        let mut writes = Vec::new();
        for ((key, receipt), known) in chunk.iter().zip(found) {
            let known = match known {
                None => None,
                // What this version cannot take apart it does not write over; the other receipts are recorded.
                Some(known) => match told(known.body.map_err(FlowError::Broken)) {
                    None => continue,
                    Some(body) => Some((known.revision, body)),
                },
            };
            let body = render(&SeenReceipt {
                received: receipt.received.normalize(),
                date: receipt.date,
            })?;
            if known.as_ref().is_some_and(|(_, known)| *known == body) {
                continue;
            }
            writes.push(RecordWrite::Put {
                key: key.clone(),
                seen: known.map_or(0, |(revision, _)| revision),
                body,
                state: String::new(),
                due: None,
            });
        }
        let new = count(writes.len());
        if writes.is_empty() {
            return Ok(0);
        }
        let commit = Commit {
            token: deps.context.chance.token(),
            writes,
            audit: vec![],
        };
        match register.commit(commit).await {
            Ok(()) => return Ok(new),
            Err(CommitError::Conflict) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FlowError::Contended)
}

/// Wakes whoever waits for these receipts; the answer is how many.
async fn wake(deps: &Deps<'_>, rows: &[Receipt]) -> Result<u64, FlowError> {
    let lines: BTreeSet<OrderLineKey> = rows
        .iter()
        .map(|receipt| receipt.key.order_line.clone())
        .collect();
    let waiting = waiting::invoices(deps.context.register, lines).await?;
    let waiting: Vec<InvoiceId> = waiting.into_iter().collect();
    for some in waiting.chunks(AT_ONCE) {
        try_join_all(some.iter().map(|id| remember(deps, *id))).await?;
    }
    let hints: Vec<Hint> = waiting
        .iter()
        .map(|invoice| Hint::V1 {
            connection: deps.connection.clone(),
            subject: Subject::Invoice(*invoice),
            reason: HintReason::Receipt,
            trace: deps.trace.to_owned(),
        })
        .collect();
    if !hints.is_empty() {
        deps.queue.send(&hints).await?;
    }
    Ok(count(hints.len()))
}

/// Makes the invoice due soon, so that a hint that gets lost is made up for by the sweep.
async fn remember(deps: &Deps<'_>, id: InvoiceId) -> Result<(), FlowError> {
    let loaded = match load::<InvoiceRecord>(deps.context.register, RecordKey::Invoice(id)).await {
        Ok(Some(loaded)) => loaded,
        Ok(None) => return Ok(()),
        // Its hint tells of it; nobody else waits for that.
        Err(FlowError::Broken(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let soon = deps.context.clock.now().plus_millis(HINT_MILLIS);
    let waits = !loaded.document.rests_on().is_empty();
    if !waits || loaded.document.look_again.is_some_and(|at| at <= soon) {
        // Whoever does not wait is under way, and one that is due by then is looked at anyway.
        return Ok(());
    }
    waiting::make_due(&deps.context, loaded, soon).await.map(drop)
}
