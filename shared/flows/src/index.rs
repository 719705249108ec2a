//! The index of questions: lists, numbers that are looked up and sums, kept in the same transaction as the change they
//! tell of, so that an answer costs what was asked and not what the register holds.
//!
//! | list or sheet | its rows or tallies |
//! |---|---|
//! | `view/<view>` | one row per invoice of the view, by how long it has stood there |
//! | `code/<view>/<code>` | the same of those that wait, by their first reason |
//! | `flag/unknown` | the same of those whose write lost its answer |
//! | `state/held` | the same of those that are held, whatever else they wait for |
//! | `supplier/awaited` | those that wait for a supplier, by Coupa's id of it |
//! | `find/<text>` | one row per invoice found by a number, name or amount |
//! | sheet `now` | what stands in each view and state, per currency; of those that wait, per code too; lost answers, delays |
//! | sheet `<year>-<month>` | what entered a view on which day (UTC), per currency |
//! | sheet `since/<year>-<month>` | of those that wait, for whatever: since which day (UTC) they do, per view and currency |
//! | sheet `awaited/<Coupa's id>` | how many invoices wait for a supplier, per currency |
//!
//! Suppliers and bills have lists of their own, see [`entries`].
//!
//! Amounts of different currencies are never added.

pub mod entries;
mod rebuild;

pub use rebuild::{REBUILD_STEP, Rebuilt, progress, progress_in, progress_key, rebuild_step};

use crate::ports::{
    Index, IndexRow, IndexWrite, ROWS_MAX, RecordKey, RecordWrite, Register, RowsAsked, StoreError,
    TALLY_PARTS, Tally,
};
use crate::store::{FlowError, parse, render, sha256_hex};
use domain::ids::InvoiceId;
use domain::index::{Indexed, View, first_code, folded, wanted};
use domain::lifecycle::InvoiceRecord;
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The sheet of what stands where.
pub const NOW: &str = "now";
/// What stands for the currency of an invoice that could not be read yet.
pub const NO_CURRENCY: &str = "-";
/// Letters of a row's hash that are kept in the record: enough to see a change.
const ROW_HASH_LETTERS: usize = 16;
/// The first version of the index that lists what is held and counts since when it waits: what an earlier one has written is not
/// in them yet.
const AGES_VERSION: u32 = 2;
/// The word of a held invoice's state.
const HELD: &str = "held";
/// Most invoices that one search answers with.
pub const FOUND_MAX: usize = 50;

/// What a list shows of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Coupa's id.
    pub id: InvoiceId,
    /// Since when it stands there.
    pub since: Timestamp,
    /// The state's word.
    pub state: String,
    /// The first reason it is not further; empty when nothing is in the way.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The supplier's number of it; empty until it could be read, as what follows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// The supplier's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub supplier: String,
    /// QAD's number of the supplier.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub supplier_number: String,
    /// The entity it is decided for; empty where the connection has only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entity: String,
    /// The first order it names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub order: String,
    /// The invoice's date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Date>,
    /// Total with taxes, signed.
    #[serde(default)]
    pub total: Decimal,
    /// Its currency.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub currency: String,
    /// QAD's number of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub voucher: String,
    /// When it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Date>,
    /// The plant it was delivered to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plant: String,
    /// Who asked for what was delivered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub requester: String,
}

impl Row {
    /// True of a row that cannot be read: it says whose it is, and nothing else of it.
    pub fn is_unread(&self) -> bool {
        self.state == UNREADABLE_STATE
    }

    /// The row of an invoice.
    pub fn of(record: &InvoiceRecord) -> Self {
        let summary = record.summary.as_ref();
        let particulars = summary.map(|summary| &summary.particulars);
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            id: record.id,
            since: record.since,
            state: record.state.word().to_owned(),
            code: first_code(record, View::of(record)),
            reference: text(summary.map(|summary| summary.reference.as_str())),
            supplier: text(summary.map(|summary| summary.supplier_name.as_str())),
            supplier_number: text(summary.and_then(|summary| summary.supplier_number.as_deref())),
            entity: text(record.entity.as_ref().map(|entity| entity.as_str())),
            order: text(summary.and_then(|summary| summary.orders.first().map(|order| order.as_str()))),
            date: summary.map(|summary| summary.invoice_date),
            total: summary.map(|summary| summary.total).unwrap_or_default(),
            currency: summary
                .map(|summary| summary.currency.to_string())
                .unwrap_or_default(),
            voucher: record
                .state
                .voucher()
                .map(ToString::to_string)
                .unwrap_or_default(),
            due: particulars.and_then(|known| known.due),
            plant: text(particulars.and_then(|known| known.plant.as_deref())),
            requester: text(particulars.and_then(|known| known.requester.as_deref())),
        }
    }
}

/// The list of a view, or of one reason in it.
pub fn list_of(view: View, code: Option<&str>) -> String {
    match code {
        Some(code) => format!("code/{}/{code}", view.word()),
        None => format!("view/{}", view.word()),
    }
}

/// The list of those that are held.
pub const HELD_LIST: &str = "state/held";
/// The list of those that wait for their supplier.
pub const AWAITED_LIST: &str = "supplier/awaited";
/// The list of those whose write lost its answer.
pub const UNKNOWN_LIST: &str = "flag/unknown";

/// The place of an invoice in a list of those that stand somewhere.
pub(crate) fn place(since: Timestamp, id: InvoiceId) -> String {
    format!("{:020}-{:020}", since.0.max(0), id.0)
}

fn found_list(text: &str) -> String {
    format!("find/{text}")
}

fn found_place(id: InvoiceId) -> String {
    format!("{:020}", id.0)
}

/// What keeps the index as the record now stands; the record remembers it.
pub(crate) fn follow(record: &mut InvoiceRecord, now: Timestamp) -> Result<Vec<RecordWrite>, FlowError> {
    let body = render(&Row::of(record))?;
    let new = Indexed::of(record, row_hash(&body));
    if record.indexed.as_ref() == Some(&new) {
        return Ok(Vec::new());
    }
    let old = record.indexed.replace(new.clone());
    let mut writes = rows_of_change(record.id, old.as_ref(), &new, &body);
    writes.extend(counts_of_change(record.id, old.as_ref(), &new, now));
    Ok(writes.into_iter().map(RecordWrite::Index).collect())
}

fn row_hash(body: &str) -> String {
    sha256_hex(body).chars().take(ROW_HASH_LETTERS).collect()
}

/// Every row an invoice has: list and place.
fn rows_of(id: InvoiceId, indexed: &Indexed) -> BTreeSet<(String, String)> {
    let mut rows = BTreeSet::from([(list_of(indexed.view, None), place(indexed.since, id))]);
    if !indexed.code.is_empty() {
        rows.insert((
            list_of(indexed.view, Some(&indexed.code)),
            place(indexed.since, id),
        ));
    }
    if indexed.unknown {
        rows.insert((UNKNOWN_LIST.to_owned(), place(indexed.since, id)));
    }
    if indexed.state == HELD && indexed.version >= AGES_VERSION {
        rows.insert((HELD_LIST.to_owned(), place(indexed.since, id)));
    }
    if let Some(supplier) = indexed.awaited {
        rows.insert((
            AWAITED_LIST.to_owned(),
            format!("{supplier:020}-{}", found_place(id)),
        ));
    }
    rows.extend(
        indexed
            .found_by
            .iter()
            .map(|text| (found_list(text), found_place(id))),
    );
    rows
}

fn rows_of_change(id: InvoiceId, old: Option<&Indexed>, new: &Indexed, body: &str) -> Vec<IndexWrite> {
    let before = old.map(|old| rows_of(id, old)).unwrap_or_default();
    let after = rows_of(id, new);
    let gone = before.difference(&after).map(|(list, id)| IndexWrite::Remove {
        list: list.clone(),
        id: id.clone(),
    });
    let shows_another = old.is_none_or(|old| old.row != new.row);
    let is_found = |list: &str| list.starts_with("find/");
    let put = after
        .iter()
        .filter(|row| !before.contains(row) || (shows_another && !is_found(&row.0)))
        .map(|(list, id)| IndexWrite::Put {
            list: list.clone(),
            id: id.clone(),
            // What is found is read itself: its row need not change with it.
            body: if is_found(list) {
                "{}".to_owned()
            } else {
                body.to_owned()
            },
        });
    gone.chain(put).collect()
}

fn currency_of(indexed: &Indexed) -> &str {
    if indexed.currency.is_empty() {
        NO_CURRENCY
    } else {
        &indexed.currency
    }
}

/// The tallies of the sheet [`NOW`] in which an invoice is counted.
fn tallies_of(indexed: &Indexed) -> Vec<String> {
    let (view, currency) = (indexed.view.word(), currency_of(indexed));
    let mut names = vec![
        format!("view/{view}/{currency}"),
        format!("state/{}/{currency}", indexed.state),
    ];
    let flags = [(indexed.unknown, "unknown"), (indexed.delayed, "delayed")];
    for (_, flag) in flags.into_iter().filter(|(is_set, _)| *is_set) {
        names.push(format!("flag/{flag}/{currency}"));
    }
    if !indexed.code.is_empty() {
        names.push(format!("code/{view}/{}/{currency}", indexed.code));
    }
    names
}

fn counts_of_change(id: InvoiceId, old: Option<&Indexed>, new: &Indexed, now: Timestamp) -> Vec<IndexWrite> {
    let mut changes: BTreeMap<String, Tally> = BTreeMap::new();
    let mut add = |indexed: &Indexed, sign: i64| {
        for name in tallies_of(indexed) {
            put_in(&mut changes, name, indexed, sign);
        }
    };
    if let Some(old) = old {
        add(old, -1);
    }
    add(new, 1);
    changes.retain(|_, tally| *tally != Tally::default());
    let part = u8::try_from(id.0.checked_rem(u64::from(TALLY_PARTS)).unwrap_or(0)).unwrap_or(0);
    let mut counts = Vec::new();
    if !changes.is_empty() {
        counts.push(IndexWrite::Count {
            sheet: NOW.to_owned(),
            part,
            changes,
        });
    }
    counts.extend(awaited_counts(part, old, new));
    counts.extend(since_counts(part, old, new));
    if old.is_none_or(|old| old.view != new.view) {
        let entered = if old.is_some() { now } else { new.since };
        let day = entered.date_utc().to_string();
        let (month, day) = day.split_at_checked(7).unwrap_or((&day, ""));
        let name = format!(
            "{}/{}/{}",
            day.trim_start_matches('-'),
            new.view.word(),
            currency_of(new)
        );
        counts.push(IndexWrite::Count {
            sheet: month.to_owned(),
            part,
            changes: BTreeMap::from([(
                name,
                Tally {
                    count: 1,
                    amount: new.amount,
                },
            )]),
        });
    }
    counts
}

fn awaited_sheet(supplier: u64) -> String {
    format!("awaited/{supplier}")
}

/// Adds an invoice to a tally, or takes it off.
fn put_in(tallies: &mut BTreeMap<String, Tally>, name: String, indexed: &Indexed, sign: i64) {
    let tally = tallies.entry(name).or_default();
    tally.count = tally.count.saturating_add(sign);
    tally.amount = if sign < 0 {
        tally.amount.saturating_sub(indexed.amount)
    } else {
        tally.amount.saturating_add(indexed.amount)
    };
}

/// The counts of what was added up, sheet by sheet.
fn counts_of(sheets: BTreeMap<String, BTreeMap<String, Tally>>, part: u8) -> Vec<IndexWrite> {
    let counts = sheets.into_iter().filter_map(|(sheet, mut changes)| {
        changes.retain(|_, tally| *tally != Tally::default());
        (!changes.is_empty()).then_some(IndexWrite::Count { sheet, part, changes })
    });
    counts.collect()
}

/// A sheet of its own beside the month's, which the version before this one reads too.
fn since_sheet(month: &str) -> String {
    format!("since/{month}")
}

/// What changes of since when those wait that do, so that their ages are known without reading them.
fn since_counts(part: u8, old: Option<&Indexed>, new: &Indexed) -> Vec<IndexWrite> {
    let mut sheets: BTreeMap<String, BTreeMap<String, Tally>> = BTreeMap::new();
    let mut add = |indexed: &Indexed, sign: i64| {
        if !matches!(indexed.view, View::NeedsYou | View::Waits) || indexed.version < AGES_VERSION {
            return;
        }
        let since = indexed.since.date_utc();
        let sheet = since_sheet(&since.strftime("%Y-%m").to_string());
        let day = since.strftime("%d").to_string();
        let name = format!("{day}/{}/{}", indexed.view.word(), currency_of(indexed));
        put_in(sheets.entry(sheet).or_default(), name, indexed, sign);
    };
    if let Some(old) = old {
        add(old, -1);
    }
    add(new, 1);
    counts_of(sheets, part)
}

/// What changes of how many invoices wait for a supplier; those of which nobody knows for which one are none of them.
fn awaited_counts(part: u8, old: Option<&Indexed>, new: &Indexed) -> Vec<IndexWrite> {
    let mut sheets: BTreeMap<String, BTreeMap<String, Tally>> = BTreeMap::new();
    let mut add = |indexed: &Indexed, sign: i64| {
        if let Some(supplier) = indexed.awaited.filter(|supplier| *supplier != 0) {
            let tallies = sheets.entry(awaited_sheet(supplier)).or_default();
            put_in(tallies, currency_of(indexed).to_owned(), indexed, sign);
        }
    };
    if let Some(old) = old {
        add(old, -1);
    }
    add(new, 1);
    counts_of(sheets, part)
}

/// Count and sums of one group, per currency.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// How many, all currencies together.
    pub count: i64,
    /// The sum of each currency; what could not be read yet has none.
    pub amounts: BTreeMap<String, Decimal>,
}

impl Sums {
    /// Adds one invoice.
    pub fn add_row(&mut self, row: &Row) {
        let currency = if row.currency.is_empty() {
            NO_CURRENCY
        } else {
            &row.currency
        };
        let tally = Tally {
            count: 1,
            amount: row.total,
        };
        self.add(currency, tally);
    }

    /// Adds a tally of one currency.
    pub fn add(&mut self, currency: &str, tally: Tally) {
        self.count = self.count.saturating_add(tally.count);
        if currency != NO_CURRENCY && tally.count != 0 {
            let sum = self.amounts.entry(currency.to_owned()).or_default();
            *sum = sum.saturating_add(tally.amount);
        }
    }
}

/// What stands where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Per view.
    pub views: BTreeMap<View, Sums>,
    /// Per view and code, of those that wait.
    pub codes: BTreeMap<(View, String), Sums>,
    /// Per state, by its word.
    pub states: BTreeMap<String, Sums>,
    /// Those whose write lost its answer.
    pub unknown: Sums,
    /// Those that could not be looked at and are again by themselves.
    pub delayed: Sums,
}

/// What entered which view on a day.
pub type Entered = BTreeMap<(Date, View), Sums>;

/// Reads the figures of now and of these months (`2026-11`), in one read.
///
/// # Errors
/// No answer from the register.
pub async fn figures(index: &dyn Index, months: &[String]) -> Result<(Standing, Entered), StoreError> {
    let (standing, entered, _) = figures_since(index, months, &[]).await?;
    Ok((standing, entered))
}

/// The same, and since which days of some other months those wait that do; still in one read.
///
/// # Errors
/// No answer from the register.
pub async fn figures_since(
    index: &dyn Index,
    months: &[String],
    since: &[String],
) -> Result<(Standing, Entered, Entered), StoreError> {
    let since_sheets: Vec<String> = since.iter().map(|month| since_sheet(month)).collect();
    let sheets: Vec<&str> = std::iter::once(NOW)
        .chain(months.iter().map(String::as_str))
        .chain(since_sheets.iter().map(String::as_str))
        .collect();
    let mut read = index.tallies(&sheets).await?.into_iter();
    let mut standing = Standing::default();
    for (name, tally) in read.next().unwrap_or_default() {
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            ["view", view, currency] => {
                if let Some(view) = View::of_word(view) {
                    standing.views.entry(view).or_default().add(currency, tally);
                }
            }
            ["code", view, code, currency] => {
                if let Some(view) = View::of_word(view) {
                    let sums = standing.codes.entry((view, (*code).to_owned())).or_default();
                    sums.add(currency, tally);
                }
            }
            ["state", state, currency] => {
                standing
                    .states
                    .entry((*state).to_owned())
                    .or_default()
                    .add(currency, tally);
            }
            ["flag", "unknown", currency] => standing.unknown.add(currency, tally),
            ["flag", "delayed", currency] => standing.delayed.add(currency, tally),
            _ => return Err(unreadable(&name)),
        }
    }
    standing.codes.retain(|_, sums| sums.count != 0);
    let entered = by_day(months, read.by_ref().take(months.len()))?;
    let began = by_day(since, read)?;
    Ok((standing, entered, began))
}

/// Sheets of months, whose tallies are named by day, view and currency.
fn by_day(
    months: &[String],
    sheets: impl Iterator<Item = BTreeMap<String, Tally>>,
) -> Result<Entered, StoreError> {
    let mut days = Entered::new();
    for (month, sheet) in months.iter().zip(sheets) {
        for (name, tally) in sheet {
            let parts: Vec<&str> = name.split('/').collect();
            let [day, view, currency] = parts.as_slice() else {
                return Err(unreadable(&name));
            };
            let date: Date = format!("{month}-{day}").parse().map_err(|_| unreadable(&name))?;
            let view = View::of_word(view).ok_or_else(|| unreadable(&name))?;
            days.entry((date, view)).or_default().add(currency, tally);
        }
    }
    Ok(days)
}

fn unreadable(name: &str) -> StoreError {
    StoreError(Problem::new(INDEX_UNREADABLE, "Deploy the version that wrote it.").field(name))
}

/// A page of a list: its rows, and the place after which the next page begins.
///
/// # Errors
/// No answer from the register.
pub async fn page(
    index: &dyn Index,
    list: &str,
    asked: &RowsAsked<'_>,
) -> Result<(Vec<Row>, Option<String>), FlowError> {
    page_of(index, list, asked).await
}

/// A page of those that wait for their supplier, each with Coupa's id of it; 0 of which nobody knows for which one.
///
/// # Errors
/// No answer from the register.
pub async fn awaited(
    index: &dyn Index,
    asked: &RowsAsked<'_>,
) -> Result<(Vec<(u64, Row)>, Option<String>), FlowError> {
    let (rows, next) = rows_of_page(index, AWAITED_LIST, asked).await?;
    let with_supplier = |found: &IndexRow| {
        let supplier = found.id.split('-').next().and_then(|digits| digits.parse().ok());
        Ok::<_, FlowError>((
            supplier.ok_or_else(|| unreadable(&found.id))?,
            row(AWAITED_LIST, found)?,
        ))
    };
    Ok((rows.iter().map(with_supplier).collect::<Result<_, _>>()?, next))
}

/// The place in [`AWAITED_LIST`] after which those of a supplier begin.
pub fn awaited_before(supplier: u64) -> String {
    format!("{supplier:020}")
}

async fn page_of<R: Placed>(
    index: &dyn Index,
    list: &str,
    asked: &RowsAsked<'_>,
) -> Result<(Vec<R>, Option<String>), FlowError> {
    let (rows, next) = rows_of_page(index, list, asked).await?;
    Ok((
        rows.iter().map(|one| row(list, one)).collect::<Result<_, _>>()?,
        next,
    ))
}

/// The rows of a page, and the place after which the next one begins.
async fn rows_of_page(
    index: &dyn Index,
    list: &str,
    asked: &RowsAsked<'_>,
) -> Result<(Vec<IndexRow>, Option<String>), FlowError> {
    let limit = asked.limit.min(ROWS_MAX.saturating_sub(1));
    let one_more = RowsAsked {
        limit: limit.saturating_add(1),
        ..*asked
    };
    let mut found = index.rows(list, &one_more).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|row| row.id.clone());
    Ok((found, next))
}

/// A row of a list.
trait Placed: DeserializeOwned {
    /// What a row shows that cannot be read: its place says whose it is, so that it hides neither itself nor another one.
    fn unread(list: &str, place: &str) -> Option<Self>;
}

impl Placed for Row {
    fn unread(list: &str, place: &str) -> Option<Self> {
        let (since, id) = place.split_once('-')?;
        // In that list the supplier stands before the invoice.
        let since = if list == AWAITED_LIST {
            0
        } else {
            since.parse().ok()?
        };
        Some(Self {
            id: InvoiceId(id.parse().ok()?),
            since: Timestamp(since),
            state: UNREADABLE_STATE.to_owned(),
            code: INDEX_UNREADABLE.to_owned(),
            reference: String::new(),
            supplier: String::new(),
            supplier_number: String::new(),
            entity: String::new(),
            order: String::new(),
            date: None,
            total: Decimal::ZERO,
            currency: String::new(),
            voucher: String::new(),
            due: None,
            plant: String::new(),
            requester: String::new(),
        })
    }
}

/// The state's word of a row that cannot be read.
const UNREADABLE_STATE: &str = "unreadable";
/// The code of what the index holds and this version cannot read.
const INDEX_UNREADABLE: &str = "INDEX_UNREADABLE";

fn row<R: Placed>(list: &str, row: &IndexRow) -> Result<R, FlowError> {
    serde_json::from_str(&row.body).or_else(|error| {
        let StoreError(problem) = unreadable(&row.id);
        let problem = problem.actual(error.to_string());
        R::unread(list, &row.id)
            .inspect(|_| {
                tracing::error!(code = %problem.code, %problem, list, metric = "record_unreadable", value = 1u64, "row of a list");
            })
            .ok_or(FlowError::Broken(problem))
    })
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The invoices, newest first.
    pub records: Vec<InvoiceRecord>,
    /// There are more than [`FOUND_MAX`].
    pub more: bool,
    /// Those that were found and cannot be read.
    pub unreadable: Vec<Problem>,
}

/// Finds invoices by a number, an order, a voucher, a supplier, an amount or Coupa's id: at most four reads.
///
/// # Errors
/// No answer from the register.
pub async fn find<B: Register + Index + ?Sized>(books: &B, text: &str) -> Result<Found, FlowError> {
    let mut ids: BTreeSet<InvoiceId> = text.trim().parse::<InvoiceId>().into_iter().collect();
    let asked = RowsAsked {
        beyond: None,
        newest_first: true,
        limit: FOUND_MAX.saturating_add(1),
    };
    for wanted in wanted(text) {
        for row in books.rows(&found_list(&wanted), &asked).await? {
            ids.insert(id_of(&row)?);
        }
    }
    let more = ids.len() > FOUND_MAX;
    let keys: Vec<RecordKey> = ids
        .into_iter()
        .rev()
        .take(FOUND_MAX)
        .map(RecordKey::Invoice)
        .collect();
    if keys.is_empty() {
        return Ok(Found::default());
    }
    let stored = books.read(&keys).await?;
    let mut found = Found {
        more,
        ..Found::default()
    };
    for stored in stored.iter().flatten() {
        match parse(stored) {
            Ok(record) => found.records.push(record),
            Err(error) => found.unreadable.push(error.problem()),
        }
    }
    Ok(found)
}

/// The invoices that are known by a supplier's number, of whatever supplier: the newest `limit`. May lag by a moment, and
/// an invoice that only an older version has written is not in it before the index is rebuilt.
///
/// # Errors
/// No answer from the register.
pub async fn numbered(
    index: &dyn Index,
    number: &str,
    limit: usize,
) -> Result<BTreeSet<InvoiceId>, StoreError> {
    let asked = RowsAsked {
        beyond: None,
        newest_first: true,
        limit,
    };
    let text = folded(number);
    if text.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = index.rows(&found_list(&text), &asked).await?;
    rows.iter().map(id_of).collect()
}

fn id_of(row: &IndexRow) -> Result<InvoiceId, StoreError> {
    row.id
        .parse::<u64>()
        .map(InvoiceId)
        .map_err(|_| unreadable(&row.id))
}

#[cfg(test)]
mod tests;
