//! Finds new goods receipts in QAD and wakes the invoices that wait for them.
//!
//! QAD's only cursor is the receipt date, by day, and receipts may be back-dated: a window of days is read again each
//! time and known rows are recognised by their digest. An idle cycle costs one read of the register and the pages of
//! QAD, whatever waits.

use crate::poll_coupa::PollError;
use crate::ports::{
    Chance, Clock, Commit, CommitError, Hint, HintReason, Qad, Queue, RecordGroup, RecordKey, RecordWrite,
    Register, Subject,
};
use crate::store::{FlowError, render};
use crate::watermark::{self, DIGESTS_MAX, Scope, count, days_before};
use domain::documents::Receipt;
use domain::guards::{Guard, stands};
use domain::ids::{ConnectionId, InvoiceId, OrderLineKey};
use domain::problem::Problem;
use domain::time::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Days that are read again, because receipts may be back-dated.
pub const OVERLAP_DAYS: i64 = 7;
/// Receipts mirrored in one transaction.
const RECEIPTS_PER_COMMIT: usize = 50;
/// The watermark's name.
const WATERMARK: &str = "receipts";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Whose receipts.
    pub connection: &'a ConnectionId,
    /// QAD: read receipts, of one domain.
    pub qad: &'a dyn Qad,
    /// Which domain's, where the connection has several.
    pub scope: &'a Scope,
    /// Register: receipt mirror, waiting index, watermark.
    pub register: &'a dyn Register,
    /// The queue of hints.
    pub queue: &'a dyn Queue,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// Tokens of commits.
    pub chance: &'a dyn Chance,
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

/// How far the poller has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Latest receipt date seen, never in the future.
    cursor: Date,
    /// Digests of the rows in the window that are safely mirrored, sorted.
    digests: BTreeSet<String>,
}

impl Watermark {
    /// Latest receipt date seen, never in the future.
    pub fn cursor(&self) -> Date {
        self.cursor
    }

    /// True when this row is safely mirrored already.
    pub fn knows(&self, receipt: &Receipt) -> bool {
        self.digests.contains(&digest(receipt))
    }
}

/// What a run saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Polled {
    /// Rows in the window.
    pub read: u64,
    /// Rows that were new.
    pub new: u64,
    /// Invoices woken.
    pub woken: u64,
    /// Rows that could not be read; each is named in the log and raises an alarm, and the rest goes on.
    pub unreadable: Vec<Problem>,
    /// Latest receipt date known afterwards.
    pub cursor: Option<Date>,
}

/// Reads the window once.
pub async fn run(deps: &Deps<'_>) -> Result<Polled, PollError> {
    let stored = watermark::load_within::<Watermark>(deps.register, WATERMARK, deps.scope).await?;
    let before = stored.watermark;
    let today = deps.clock.now().date_utc();
    let since = days_before(
        before
            .as_ref()
            .map_or(today, |watermark| watermark.cursor.min(today)),
        OVERLAP_DAYS,
    );
    let scan = deps.qad.receipts_since(since).await?;
    let known = before
        .as_ref()
        .map(|watermark| watermark.digests.clone())
        .unwrap_or_default();
    let mut polled = Polled {
        read: count(scan.receipts.len()),
        unreadable: scan.unreadable,
        ..Polled::default()
    };
    let new: Vec<&Receipt> = scan
        .receipts
        .iter()
        .filter(|receipt| !known.contains(&digest(receipt)))
        .collect();
    polled.new = count(new.len());
    let after = watermark_after(before.as_ref(), &scan.receipts, today);
    polled.cursor = Some(after.cursor);
    if !stands(Guard::WatermarkLast) && before.as_ref() != Some(&after) {
        watermark::advance(deps.register, deps.chance, &stored.key, stored.revision, &after).await?;
    }
    if !new.is_empty() {
        if !stands(Guard::RecordBeforeWake) {
            polled.woken = wake(deps, &new).await?;
        }
        mirror(deps, &new).await?;
        if stands(Guard::RecordBeforeWake) {
            polled.woken = wake(deps, &new).await?;
        }
    }
    if before.as_ref() != Some(&after) {
        // After everything before it is safely in. An overlapping run that was faster has seen the same window or a later
        // one; ours is then read again in the next cycle, which loses nothing.
        watermark::advance(deps.register, deps.chance, &stored.key, stored.revision, &after).await?;
    }
    Ok(polled)
}

/// What makes a row the same row: its key, quantity and date. What QAD has invoiced of it is left out, for our own
/// postings change that.
fn digest(receipt: &Receipt) -> String {
    let key = &receipt.key;
    watermark::digest(&[
        key.domain.folded(),
        key.receiver.folded(),
        key.order_line.order.folded(),
        key.order_line.line.to_string(),
        receipt.received.normalize().to_string(),
        receipt.date.to_string(),
    ])
}

/// The watermark after a whole window was mirrored: never behind the one before. Pure.
pub fn watermark_after(before: Option<&Watermark>, receipts: &[Receipt], today: Date) -> Watermark {
    let latest = receipts
        .iter()
        .map(|receipt| receipt.date)
        .filter(|date| *date <= today)
        .max();
    let cursor = before
        .map(|watermark| watermark.cursor)
        .into_iter()
        .chain(latest)
        .max()
        .unwrap_or(today)
        .min(today);
    let since = days_before(cursor, OVERLAP_DAYS);
    let mut inside: Vec<&Receipt> = receipts.iter().filter(|receipt| receipt.date >= since).collect();
    inside.sort_by_key(|receipt| std::cmp::Reverse(receipt.date));
    Watermark {
        cursor,
        digests: inside.into_iter().take(DIGESTS_MAX).map(digest).collect(),
    }
}

/// First the receipts are recorded, then the waiting invoices are looked for: whichever of an invoice and its receipt
/// comes second sees the first.
async fn mirror(deps: &Deps<'_>, new: &[&Receipt]) -> Result<(), FlowError> {
    for chunk in new.chunks(RECEIPTS_PER_COMMIT) {
        let keys: BTreeSet<RecordKey> = chunk
            .iter()
            .map(|receipt| RecordKey::Receipt(receipt.key.clone()))
            .collect();
        let keys: Vec<RecordKey> = keys.into_iter().collect();
        /// Overlapping runs of this poller may write the same rows; they agree, so a few tries are enough.
        const TRIES_MAX: u32 = 4;
        let mut stored = false;
        for _ in 0..TRIES_MAX {
            let found = deps.register.read(&keys).await?;
            let mut writes = Vec::new();
            for (key, known) in keys.iter().zip(found) {
                let Some(receipt) = chunk
                    .iter()
                    .rev()
                    .find(|receipt| RecordKey::Receipt(receipt.key.clone()) == *key)
                else {
                    continue;
                };
                let body = render(&SeenReceipt {
                    received: receipt.received.normalize(),
                    date: receipt.date,
                })?;
                if known.as_ref().is_some_and(|known| known.body == body) {
                    continue;
                }
                let seen = known.map_or(0, |known| known.revision);
                writes.push(RecordWrite::Put {
                    key: key.clone(),
                    seen,
                    body,
                    state: String::new(),
                    due: None,
                });
            }
            if writes.is_empty() {
                stored = true;
                break;
            }
            match deps
                .register
                .commit(Commit {
                    token: deps.chance.token(),
                    writes,
                    audit: vec![],
                })
                .await
            {
                Ok(()) => {
                    stored = true;
                    break;
                }
                Err(CommitError::Conflict) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        if !stored {
            return Err(FlowError::Contended);
        }
    }
    Ok(())
}

async fn wake(deps: &Deps<'_>, new: &[&Receipt]) -> Result<u64, FlowError> {
    let lines: BTreeSet<OrderLineKey> = new.iter().map(|receipt| receipt.key.order_line.clone()).collect();
    let mut waiting: BTreeSet<InvoiceId> = BTreeSet::new();
    for line in lines {
        let found = deps.register.list(&RecordGroup::WaitingFor(line)).await?;
        waiting.extend(found.into_iter().filter_map(|stored| match stored.key {
            RecordKey::Waiting(_, invoice) => Some(invoice),
            _ => None,
        }));
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
