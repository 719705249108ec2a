//! Finds new and changed payments in QAD and puts them into the ledgers of the bills they pay.
//!
//! The cursor is QAD's last change, by day, so two days are read again each time and known rows are recognised by their
//! digest. As long as a payment is not final, or a row cannot be read, the window reaches back to it, at most
//! [`PaymentSettings::lookback_days`]: not every QAD moves the day of the last change with the status. An idle cycle
//! costs one read of the register and the pages of QAD.

mod balances;

use crate::bills::{Recorded, Recording, Right, Shown, bill_key, left_by, record, unmatched_key};
use crate::poll_coupa::PollError;
use crate::ports::{Hint, HintReason, PaymentScan, QadPayments, Queue, ReadError, RecordKey, Subject};
use crate::store::{Context, FlowError};
use crate::watermark::{self, DIGESTS_MAX, Scope, count, days_before};
use crate::write_payment::PaymentSettings;
use domain::ids::{ConnectionId, InvoiceId, QadInvoiceIdentity};
use domain::payments::{Allocation, InvoiceBalance, PaymentPolicy, PaymentStatus, StatusMeaning};
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
    /// What the last run could not read or record and has told, at most [`TROUBLES_MAX`].
    #[serde(default)]
    troubles: Vec<Problem>,
}

/// Most rows that could not be read and are kept for people; all of them are in the log.
pub const TROUBLES_MAX: usize = 50;

/// Where people find the troubles of all entities of a connection, by their scope.
const TROUBLES: &str = "payments-unreadable";
/// Tries to tell of troubles against the polls of other entities.
const TELL_TRIES_MAX: u32 = 5;

type Troubles = BTreeMap<String, Vec<Problem>>;

/// The rows of QAD's payments that the last poll could not read or record, of all entities, for people.
///
/// # Errors
/// No answer from the register, or a record that this version cannot read.
pub async fn troubles(register: &dyn crate::ports::Register) -> Result<Vec<Problem>, FlowError> {
    let stored = watermark::load::<Troubles>(register, TROUBLES).await?;
    let troubles = stored.watermark.unwrap_or_default();
    Ok(troubles.into_values().flatten().collect())
}

/// Puts the troubles of this scope where people find them; false when others kept changing the record.
async fn tell_troubles(deps: &Deps<'_>, troubles: &[Problem]) -> Result<bool, FlowError> {
    let context = &deps.context;
    for attempt in 0..TELL_TRIES_MAX {
        let stored = watermark::load::<Troubles>(context.register, TROUBLES).await?;
        let mut all = stored.watermark.clone().unwrap_or_default();
        if troubles.is_empty() {
            all.remove(deps.scope.word());
        } else {
            all.insert(deps.scope.word().to_owned(), troubles.to_vec());
        }
        if stored.watermark.unwrap_or_default() == all {
            return Ok(true);
        }
        let key = &stored.key;
        if watermark::advance(context.register, context.chance, key, stored.revision, &all).await? {
            return Ok(true);
        }
        context.pause(attempt).await;
    }
    Ok(false)
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
    /// Why QAD did not show which supplier invoices have changed, when it did not: what closes without a payment is not
    /// seen then.
    pub balances_unseen: Option<Problem>,
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
    // Read after the payments: what is owed is never older than they are.
    let changed = balances::read(deps, today, horizon).await?;
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
        quarantined: scan
            .unreadable
            .iter()
            .chain(&changed.unreadable)
            .cloned()
            .collect(),
        balances_unseen: changed.unseen.clone(),
        ..Polled::default()
    };
    let mut seen = stored.revision;
    let mut missing = Missing::default();
    let is_news = !new.is_empty() || !changed.fresh.is_empty();
    if is_news {
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
            troubles: before
                .as_ref()
                .map(|watermark| watermark.troubles.clone())
                .unwrap_or_default(),
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
        missing = record_all(deps, &right, &new, &changed, &mut polled).await?;
        if polled.overtaken {
            return Ok(polled);
        }
    }
    balances::remember(deps, changed, &missing.balances).await?;
    let mut after = watermark_after(cursor, &scan, &missing, today, &deps.settings.policy);
    let told = before.as_ref().map(|before| before.troubles.clone());
    after.troubles = polled.quarantined.iter().take(TROUBLES_MAX).cloned().collect();
    if told.as_deref().unwrap_or_default() != after.troubles && !tell_troubles(deps, &after.troubles).await? {
        // The next run tells it.
        after.troubles = told.unwrap_or_default();
    }
    polled.cursor = Some(after.cursor);
    let unchanged = before.as_ref().is_some_and(|before| {
        before.cursor == after.cursor
            && before.open_since == after.open_since
            && before.digests == after.digests
            && before.troubles == after.troubles
    });
    if is_news || !unchanged {
        let run = if is_news {
            context.chance.token()
        } else {
            String::new()
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
    /// Supplier invoices whose balance is not recorded yet.
    balances: BTreeSet<RecordKey>,
}

impl Missing<'_> {
    fn contains(&self, row: &Allocation) -> bool {
        self.for_now
            .iter()
            .chain(&self.broken)
            .any(|one| one.key == row.key)
    }
}

/// What is new of one supplier invoice.
struct News<'r> {
    identity: QadInvoiceIdentity,
    rows: Vec<&'r Allocation>,
    balances: Vec<InvoiceBalance>,
}

/// The news by supplier invoice, the oldest payment first: when the time is over, the cursor has moved past what is recorded.
fn by_invoice<'r>(new: &[&'r Allocation], changed: &balances::Changed) -> Vec<(RecordKey, News<'r>)> {
    let mut of_invoice: BTreeMap<RecordKey, News<'r>> = BTreeMap::new();
    let empty = |identity: &QadInvoiceIdentity| News {
        identity: identity.clone(),
        rows: Vec::new(),
        balances: Vec::new(),
    };
    for row in new {
        let news = of_invoice
            .entry(unmatched_key(&row.invoice))
            .or_insert_with(|| empty(&row.invoice));
        news.rows.push(row);
    }
    for (key, balances) in &changed.of_invoice {
        let Some(first) = balances.first() else { continue };
        let is_news = of_invoice.contains_key(key) || changed.fresh.contains(key);
        if is_news {
            let news = of_invoice
                .entry(key.clone())
                .or_insert_with(|| empty(&first.invoice));
            news.balances.clone_from(balances);
        }
    }
    let mut groups: Vec<(RecordKey, News<'r>)> = of_invoice.into_iter().collect();
    for (_, news) in &mut groups {
        news.rows
            .sort_by(|one, two| (one.payment_date, &one.key).cmp(&(two.payment_date, &two.key)));
    }
    groups.sort_by_key(|(_, news)| {
        let oldest = news.rows.iter().map(|row| row.last_modified).min();
        (oldest.is_none(), oldest)
    });
    groups
}

/// Records the news, identity by identity; the answer is what could not be recorded now and is read again.
async fn record_all<'r>(
    deps: &Deps<'_>,
    right: &Right,
    new: &[&'r Allocation],
    changed: &balances::Changed,
    polled: &mut Polled,
) -> Result<Missing<'r>, PollError> {
    let mut missing = Missing::default();
    for (key, news) in by_invoice(new, changed) {
        if deps.context.clock.now() > deps.context.deadline {
            polled.left_over = polled.left_over.saturating_add(count(news.rows.len()));
            missing.for_now.extend(news.rows);
            missing.balances.insert(key);
            continue;
        }
        let recorded = match record_one(deps, right, &news, changed).await {
            Ok(recording) => {
                for invoice in recording.left {
                    polled.bills = polled.bills.saturating_add(1);
                    deps.queue.send(&[hint(deps, invoice)]).await?;
                }
                for (key, problem) in recording.ambiguous {
                    polled.quarantined.push(problem);
                    missing
                        .broken
                        .extend(news.rows.iter().copied().filter(|row| row.key == key));
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
            Err(
                PollError::Flow(FlowError::Broken(problem)) | PollError::Read(ReadError::Unreadable(problem)),
            ) => {
                polled.quarantined.push(problem);
                missing.broken.extend(news.rows);
                missing.balances.insert(key);
            }
            // Somebody keeps changing the ledger, or QAD does not say now what is owed: the next run reads both again.
            Err(PollError::Flow(FlowError::Contended))
            | Err(PollError::Read(ReadError::Unavailable { .. })) => {
                polled.left_over = polled.left_over.saturating_add(count(news.rows.len()));
                missing.for_now.extend(news.rows);
                missing.balances.insert(key);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// A supplier invoice that something was paid of is asked for what is still owed, unless the list of changed ones has shown
/// it: so the balance is never older than the payment. So is one that a payment has left.
async fn record_one(
    deps: &Deps<'_>,
    right: &Right,
    news: &News<'_>,
    changed: &balances::Changed,
) -> Result<Recording, PollError> {
    let readings: Vec<Allocation> = news.rows.iter().map(|row| (*row).clone()).collect();
    let asked = if news.balances.is_empty() {
        owed_of(deps, &news.identity).await?
    } else {
        news.balances.clone()
    };
    let mut left = Vec::new();
    for from in left_by(&deps.context, &news.identity, &readings).await? {
        match changed.of_invoice.get(&unmatched_key(&from)) {
            Some(balances) => left.extend(balances.iter().cloned()),
            None => left.extend(owed_of(deps, &from).await?),
        }
    }
    let shown = Shown {
        identity: &news.identity,
        readings: &readings,
        balances: &asked,
        left: &left,
        policy: &deps.settings.policy,
    };
    Ok(record(&deps.context, right, &shown).await?)
}

/// What QAD says is owed of a supplier invoice; nothing where it shows no balances: the sum of the payments decides there.
async fn owed_of(deps: &Deps<'_>, invoice: &QadInvoiceIdentity) -> Result<Vec<InvoiceBalance>, ReadError> {
    let today = deps.context.clock.now().date_utc();
    match deps.qad.balances_of(invoice, today).await {
        Err(ReadError::Refused(problem)) if !problem.is_credential_refused() => Ok(Vec::new()),
        answer => answer,
    }
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
        row.in_invoice_currency
            .map(|amount| amount.normalize().to_string())
            .unwrap_or_default(),
        row.voucher.map(|voucher| voucher.to_string()).unwrap_or_default(),
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
        troubles: Vec::new(),
    }
}
