//! Finds new and changed payments in QAD and puts them into the ledgers of the bills they pay.
//!
//! The cursor is QAD's last change, by day, so two days are read again each time and known rows are recognised by their
//! digest. A payment that is not final needs no list of its own: whatever happens to it changes it, and brings it back
//! into view. An idle cycle costs one read of the register and the pages of QAD.

use crate::bills::{Recorded, Right, bill_key, record};
use crate::poll_coupa::PollError;
use crate::ports::{
    Commit, CommitError, Hint, HintReason, QadPayments, Queue, RecordKey, RecordWrite, Subject,
};
use crate::store::{Context, FlowError, parse, render};
use domain::ids::{ConnectionId, InvoiceId, QadInvoiceIdentity};
use domain::payments::{Allocation, PaymentPolicy, PaymentStatus};
use domain::problem::Problem;
use domain::time::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// Days that are read again: QAD's day may differ from ours by one, and a day is not over when it is read.
pub const OVERLAP_DAYS: i64 = 2;
/// Most digests that are remembered (16 characters each, so that the watermark stays far below the item limit); rows
/// beyond it are compared with their ledger again each cycle, which is harmless.
const DIGESTS_MAX: usize = 15_000;
/// The watermark's name.
const WATERMARK: &str = "payments";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (bills, unmatched payments, watermark), clock, chance, deadline.
    pub context: Context<'a>,
    /// Whose payments.
    pub connection: &'a ConnectionId,
    /// QAD: read payments.
    pub qad: &'a dyn QadPayments,
    /// The queue of hints about payments.
    pub queue: &'a dyn Queue,
    /// Which status means what: only asked for words that nobody knows.
    pub policy: &'a PaymentPolicy,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// How far the poller has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Watermark {
    /// Latest change seen, never in the future.
    cursor: Date,
    /// Digests of the rows in the window that are safely recorded, sorted.
    digests: BTreeSet<String>,
    /// The run that records at the moment, or did last.
    #[serde(default)]
    run: String,
}

/// What a run saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Polled {
    /// Rows in the window.
    pub read: u64,
    /// Rows that were new or changed.
    pub new: u64,
    /// Bills whose ledger has changed.
    pub bills: u64,
    /// Supplier invoices nobody owns whose payments were recorded as unmatched.
    pub unmatched: u64,
    /// Rows that pay no supplier invoice.
    pub others: u64,
    /// New rows with a status that neither this version nor the connection knows; they count as not paid.
    pub unknown_statuses: Vec<Problem>,
    /// Rows that could not be read or recorded; each is named in the log and raises an alarm, and the rest goes on.
    pub quarantined: Vec<Problem>,
    /// True when a later run took over; it has read the same or later.
    pub overtaken: bool,
    /// Day of the latest change known afterwards; nothing when a later run took over.
    pub cursor: Option<Date>,
}

/// Reads the window once.
pub async fn run(deps: &Deps<'_>) -> Result<Polled, PollError> {
    let context = &deps.context;
    let key = RecordKey::Watermark(WATERMARK.to_owned());
    let stored = context
        .register
        .read(std::slice::from_ref(&key))
        .await?
        .into_iter()
        .next()
        .flatten();
    let seen = stored.as_ref().map_or(0, |stored| stored.revision);
    let before: Option<Watermark> = stored.as_ref().map(parse).transpose()?;
    let today = context.clock.now().date_utc();
    let cursor = before
        .as_ref()
        .map_or(today, |watermark| watermark.cursor.min(today));
    let scan = deps.qad.payments_since(days_before(cursor, OVERLAP_DAYS)).await?;
    let known = before
        .as_ref()
        .map(|watermark| watermark.digests.clone())
        .unwrap_or_default();
    let new: Vec<&Allocation> = scan
        .allocations
        .iter()
        .filter(|allocation| !known.contains(&digest(allocation)))
        .collect();
    let mut polled = Polled {
        read: count(scan.allocations.len()),
        new: count(new.len()),
        others: scan.others,
        unknown_statuses: new
            .iter()
            .filter_map(|row| unknown_status(row, deps.policy))
            .collect(),
        quarantined: scan.unreadable,
        ..Polled::default()
    };
    let mut seen = seen;
    let mut failed: Vec<&Allocation> = Vec::new();
    if !new.is_empty() {
        let claim = Watermark {
            cursor,
            digests: known,
            run: context.chance.token(),
        };
        if !advance(context, &key, seen, &claim).await? {
            polled.overtaken = true;
            return Ok(polled);
        }
        seen = seen.saturating_add(1);
        let right = Right {
            key: key.clone(),
            revision: seen,
        };
        failed = record_all(deps, &right, &new, &mut polled).await?;
        if polled.overtaken {
            return Ok(polled);
        }
    }
    let after = watermark_after(before.as_ref(), &scan.allocations, &failed, today);
    polled.cursor = Some(after.cursor);
    let unchanged = before
        .as_ref()
        .is_some_and(|before| before.cursor == after.cursor && before.digests == after.digests);
    if !new.is_empty() || !unchanged {
        let run = if new.is_empty() {
            String::new()
        } else {
            context.chance.token()
        };
        polled.overtaken = !advance(context, &key, seen, &Watermark { run, ..after }).await?;
    }
    Ok(polled)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn days_before(date: Date, days: i64) -> Date {
    date.checked_sub(jiff::Span::new().days(days))
        .unwrap_or(Date::MIN)
}

/// A word that neither this version nor the connection's policy knows.
fn unknown_status(row: &Allocation, policy: &PaymentPolicy) -> Option<Problem> {
    let PaymentStatus::Unknown(word) = &row.status else {
        return None;
    };
    if policy.meaning.contains_key(&word.to_lowercase()) {
        return None;
    }
    Some(
        Problem::new(
            "PAYMENT_STATUS_UNKNOWN",
            "Say in the connection's payments.statuses what it means; until then it counts as not paid.",
        )
        .field(row.key.to_string())
        .expected("a status of QAD's ladder, or one the connection names")
        .actual(word.clone()),
    )
}

/// Records the new rows, identity by identity; the answer is those that could not be recorded now and are read again.
async fn record_all<'r>(
    deps: &Deps<'_>,
    right: &Right,
    new: &[&'r Allocation],
    polled: &mut Polled,
) -> Result<Vec<&'r Allocation>, PollError> {
    let mut of_invoice: BTreeMap<RecordKey, Vec<&'r Allocation>> = BTreeMap::new();
    for row in new {
        of_invoice
            .entry(crate::bills::unmatched_key(&row.invoice))
            .or_default()
            .push(row);
    }
    let mut failed = Vec::new();
    for mut rows in of_invoice.into_values() {
        rows.sort_by(|one, two| (one.payment_date, &one.key).cmp(&(two.payment_date, &two.key)));
        let Some(identity) = rows.first().map(|row| row.invoice.clone()) else {
            continue;
        };
        match record_one(deps, right, &identity, &rows).await {
            Ok(Recorded::InBill(invoice)) => {
                polled.bills = polled.bills.saturating_add(1);
                deps.queue.send(&[hint(deps, invoice)]).await?;
            }
            Ok(Recorded::Unmatched) => polled.unmatched = polled.unmatched.saturating_add(1),
            Ok(Recorded::Nothing) => {}
            Ok(Recorded::Overtaken) => {
                polled.overtaken = true;
                return Ok(failed);
            }
            Err(FlowError::Broken(problem)) => {
                polled.quarantined.push(problem);
                failed.extend(rows);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(failed)
}

async fn record_one(
    deps: &Deps<'_>,
    right: &Right,
    identity: &QadInvoiceIdentity,
    rows: &[&Allocation],
) -> Result<Recorded, FlowError> {
    let readings: Vec<Allocation> = rows.iter().map(|row| (*row).clone()).collect();
    record(&deps.context, right, identity, &readings).await
}

fn hint(deps: &Deps<'_>, invoice: InvoiceId) -> Hint {
    let subject = match bill_key(invoice) {
        RecordKey::Entry { collection, id } => Subject::Entry { collection, id },
        _ => Subject::Invoice(invoice),
    };
    Hint::V1 {
        connection: deps.connection.clone(),
        subject,
        reason: HintReason::Payment,
        trace: deps.trace.to_owned(),
    }
}

/// What makes a row the same row: all of it.
fn digest(row: &Allocation) -> String {
    let text = [
        row.key.to_string(),
        row.invoice.entity.folded(),
        row.invoice.supplier.folded(),
        row.invoice.reference.folded(),
        row.invoice.kind.to_string(),
        row.status.to_string(),
        row.currency.to_string(),
        row.payment_date.to_string(),
        row.last_modified.to_string(),
        row.reference.clone(),
        row.allocated.normalize().to_string(),
        row.discount.normalize().to_string(),
    ]
    .join("\u{1f}");
    hex::encode(
        Sha256::digest(text.as_bytes())
            .iter()
            .take(8)
            .copied()
            .collect::<Vec<u8>>(),
    )
}

/// The watermark after everything is recorded but `failed`: it stays where those can be read again.
fn watermark_after(
    before: Option<&Watermark>,
    rows: &[Allocation],
    failed: &[&Allocation],
    today: Date,
) -> Watermark {
    let latest = rows
        .iter()
        .map(|row| row.last_modified)
        .filter(|date| *date <= today)
        .max();
    let cursor = before
        .map(|watermark| watermark.cursor)
        .into_iter()
        .chain(latest)
        .max()
        .unwrap_or(today)
        .min(today);
    let cursor = failed
        .iter()
        .map(|row| row.last_modified)
        .chain([cursor])
        .min()
        .unwrap_or(cursor);
    let since = days_before(cursor, OVERLAP_DAYS);
    let mut inside: Vec<&Allocation> = rows
        .iter()
        .filter(|row| row.last_modified >= since && !failed.iter().any(|one| one.key == row.key))
        .collect();
    inside.sort_by_key(|row| std::cmp::Reverse(row.last_modified));
    Watermark {
        cursor,
        digests: inside.into_iter().take(DIGESTS_MAX).map(digest).collect(),
        run: String::new(),
    }
}

/// Moves the watermark by compare-and-set; false when another run was faster.
async fn advance(
    context: &Context<'_>,
    key: &RecordKey,
    seen: u64,
    after: &Watermark,
) -> Result<bool, FlowError> {
    let put = RecordWrite::Put {
        key: key.clone(),
        seen,
        body: render(after)?,
        state: String::new(),
        due: None,
    };
    let commit = Commit {
        token: context.chance.token(),
        writes: vec![put],
        audit: vec![],
    };
    match context.register.commit(commit).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict) => Ok(false),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}
