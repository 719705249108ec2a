//! Finds new and changed payments in QAD and puts them into the ledgers of the bills they pay.
//!
//! The cursor is QAD's last change, by day, so two days are read again each time and known rows are recognised by their
//! digest. As long as a payment is not final, or a row cannot be read, the window reaches back to it, at most
//! [`PaymentSettings::lookback_days`]: not every QAD moves the day of the last change with the status. An idle cycle
//! costs one read of the register and the pages of QAD.

use crate::bills::{Recorded, Recording, Right, bill_key, record};
use crate::poll_coupa::PollError;
use crate::ports::{Hint, HintReason, PaymentScan, QadPayments, Queue, RecordKey, Subject};
use crate::store::{Context, FlowError};
use crate::watermark::{self, DIGESTS_MAX, Scope, count, days_before};
use crate::write_payment::PaymentSettings;
use domain::ids::{ConnectionId, InvoiceId, QadInvoiceIdentity};
use domain::payments::{Allocation, PaymentPolicy, PaymentStatus, StatusMeaning};
use domain::problem::Problem;
use domain::time::Date;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Days that are read again: QAD's day may differ from ours by one, and a day is not over when it is read.
pub const OVERLAP_DAYS: i64 = 2;
/// The watermark's name.
pub const WATERMARK: &str = "payments";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (bills, unmatched payments, watermark), clock, chance, deadline.
    pub context: Context<'a>,
    /// Whose payments.
    pub connection: &'a ConnectionId,
    /// QAD: read payments, of one entity.
    pub qad: &'a dyn QadPayments,
    /// Which entity's, where the connection has several.
    pub scope: &'a Scope,
    /// The queue of hints about payments.
    pub queue: &'a dyn Queue,
    /// Which status means what, and how far back is looked.
    pub settings: &'a PaymentSettings,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// How far the poller has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Watermark {
    /// Latest change that QAD has shown, never in the future.
    cursor: Date,
    /// Day of the oldest change that must be read again although the cursor has passed it: of a payment that is not
    /// final, or of a row that could not be read.
    #[serde(default)]
    open_since: Option<Date>,
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
    /// Rows for which no time was left, or whose ledger others kept changing; the next run reads them again.
    pub left_over: u64,
}

/// Reads the window once.
pub async fn run(deps: &Deps<'_>) -> Result<Polled, PollError> {
    let context = &deps.context;
    let stored = watermark::load_within::<Watermark>(context.register, WATERMARK, deps.scope).await?;
    let (key, before) = (stored.key, stored.watermark);
    let today = context.clock.now().date_utc();
    let horizon = days_before(today, deps.settings.lookback_days);
    let cursor = before
        .as_ref()
        .map_or(horizon, |watermark| watermark.cursor.min(today));
    let since = window_start(before.as_ref(), today, horizon);
    let scan = deps.qad.payments_since(since).await?;
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
            .filter_map(|row| unknown_status(row, &deps.settings.policy))
            .collect(),
        quarantined: scan.unreadable.clone(),
        ..Polled::default()
    };
    let mut seen = stored.revision;
    let mut missing = Missing::default();
    if !new.is_empty() {
        let claim = Watermark {
            cursor,
            open_since: before.as_ref().and_then(|watermark| watermark.open_since),
            // A row that has changed is not known any more, even if this run dies before it is recorded and the row
            // changes back within its day.
            digests: scan
                .allocations
                .iter()
                .map(digest)
                .filter(|digest| known.contains(digest))
                .collect(),
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
        missing = record_all(deps, &right, &new, &mut polled).await?;
        if polled.overtaken {
            return Ok(polled);
        }
    }
    let after = watermark_after(cursor, &scan, &missing, today, &deps.settings.policy);
    polled.cursor = Some(after.cursor);
    let unchanged = before.as_ref().is_some_and(|before| {
        before.cursor == after.cursor
            && before.open_since == after.open_since
            && before.digests == after.digests
    });
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

async fn advance(
    context: &Context<'_>,
    key: &RecordKey,
    seen: u64,
    after: &Watermark,
) -> Result<bool, FlowError> {
    watermark::advance(context.register, context.chance, key, seen, after).await
}

/// From which day on is read: the overlap before the cursor, or what is still open when that is older.
fn window_start(before: Option<&Watermark>, today: Date, horizon: Date) -> Date {
    let Some(before) = before else { return horizon };
    let overlap = days_before(before.cursor.min(today), OVERLAP_DAYS);
    before
        .open_since
        .map_or(overlap, |open| overlap.min(open.max(horizon)))
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

/// Rows that are not recorded yet.
#[derive(Debug, Default)]
struct Missing<'r> {
    /// For lack of time, or because others were faster: the cursor waits for them.
    for_now: Vec<&'r Allocation>,
    /// Because something is wrong that a person must look at: they are read again like what is not final.
    broken: Vec<&'r Allocation>,
}

impl Missing<'_> {
    fn contains(&self, row: &Allocation) -> bool {
        self.for_now
            .iter()
            .chain(&self.broken)
            .any(|one| one.key == row.key)
    }
}

/// Records the new rows, identity by identity; the answer is those that could not be recorded now and are read again.
async fn record_all<'r>(
    deps: &Deps<'_>,
    right: &Right,
    new: &[&'r Allocation],
    polled: &mut Polled,
) -> Result<Missing<'r>, PollError> {
    let mut of_invoice: BTreeMap<RecordKey, Vec<&'r Allocation>> = BTreeMap::new();
    for row in new {
        of_invoice
            .entry(crate::bills::unmatched_key(&row.invoice))
            .or_default()
            .push(row);
    }
    // The oldest first: when the time is over, the cursor has moved past what is recorded.
    let mut groups: Vec<Vec<&'r Allocation>> = of_invoice.into_values().collect();
    groups.sort_by_key(|rows| rows.iter().map(|row| row.last_modified).min());
    let mut missing = Missing::default();
    for mut rows in groups {
        if deps.context.clock.now() > deps.context.deadline {
            polled.left_over = polled.left_over.saturating_add(count(rows.len()));
            missing.for_now.extend(rows);
            continue;
        }
        rows.sort_by(|one, two| (one.payment_date, &one.key).cmp(&(two.payment_date, &two.key)));
        let Some(identity) = rows.first().map(|row| row.invoice.clone()) else {
            continue;
        };
        let recorded = match record_one(deps, right, &identity, &rows).await {
            Ok(recording) => {
                for invoice in recording.left {
                    polled.bills = polled.bills.saturating_add(1);
                    deps.queue.send(&[hint(deps, invoice)]).await?;
                }
                Ok(recording.recorded)
            }
            Err(error) => Err(error),
        };
        match recorded {
            Ok(Recorded::InBill(invoice)) => {
                polled.bills = polled.bills.saturating_add(1);
                deps.queue.send(&[hint(deps, invoice)]).await?;
            }
            Ok(Recorded::Unmatched) => polled.unmatched = polled.unmatched.saturating_add(1),
            Ok(Recorded::Nothing) => {}
            Ok(Recorded::Overtaken) => {
                polled.overtaken = true;
                return Ok(missing);
            }
            Err(FlowError::Broken(problem)) => {
                polled.quarantined.push(problem);
                missing.broken.extend(rows);
            }
            Err(FlowError::Contended) => {
                polled.left_over = polled.left_over.saturating_add(count(rows.len()));
                missing.for_now.extend(rows);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(missing)
}

async fn record_one(
    deps: &Deps<'_>,
    right: &Right,
    identity: &QadInvoiceIdentity,
    rows: &[&Allocation],
) -> Result<Recording, FlowError> {
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
    watermark::digest(&[
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
    ])
}

/// The watermark after everything is recorded but `missing`: it stays where that can be read again. It moves with what
/// QAD has shown and never by our own calendar.
fn watermark_after(
    cursor: Date,
    scan: &PaymentScan,
    missing: &Missing<'_>,
    today: Date,
    policy: &PaymentPolicy,
) -> Watermark {
    let rows = &scan.allocations;
    let latest = rows
        .iter()
        .map(|row| row.last_modified)
        .filter(|date| *date <= today);
    let reached = latest.chain([cursor]).max().unwrap_or(cursor);
    let cursor = missing
        .for_now
        .iter()
        .map(|row| row.last_modified)
        .chain([reached])
        .min()
        .unwrap_or(reached);
    let is_open = |row: &&Allocation| policy.meaning_of(&row.status) == StatusMeaning::NotYet;
    let open_since = rows
        .iter()
        .filter(is_open)
        .chain(missing.broken.iter().copied())
        .map(|row| row.last_modified)
        .chain(scan.unread_since)
        .min();
    let overlap = days_before(cursor, OVERLAP_DAYS);
    let since = open_since.map_or(overlap, |open| open.min(overlap));
    let mut inside: Vec<&Allocation> = rows
        .iter()
        .filter(|row| row.last_modified >= since && !missing.contains(row))
        .collect();
    inside.sort_by_key(|row| std::cmp::Reverse(row.last_modified));
    Watermark {
        cursor,
        open_since,
        digests: inside.into_iter().take(DIGESTS_MAX).map(digest).collect(),
        run: String::new(),
    }
}
