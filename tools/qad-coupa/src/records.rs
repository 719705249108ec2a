//! The invoices of the register: all of them, those a filter keeps, and the one a person means.

use crate::Failure;
use crate::place::unfinished;
use clap::Args;
use domain::ids::InvoiceId;
use domain::index::View;
use domain::lifecycle::InvoiceRecord;
use domain::money::{Currency, parse_decimal};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use domain::words;
use flows::index;
use flows::ports::{
    AuditEntry, Books, Collection, ITEM_UNREADABLE, ROWS_MAX, RecordKey, RowsAsked, StoreError, StoredRecord,
};
use flows::store::{invoice_audit_name, load, parse};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Invoices asked for at a time.
const PAGE_RECORDS: usize = 200;
/// Most ids that an ambiguous name is answered with.
const IDS_SHOWN_MAX: usize = 10;
/// Milliseconds of a day and of an hour.
const DAY_MILLIS: i64 = 86_400_000;
const HOUR_MILLIS: i64 = 3_600_000;

/// Which invoices; what is left out keeps all.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Filter {
    /// Only those in this state: received, held, approved, posted, exported, parked, rejected, voided.
    #[arg(long, value_parser = state_word)]
    pub(crate) state: Option<String>,
    /// Only those with this reason code, for example PRICE_OVER_TOLERANCE.
    #[arg(long, value_parser = crate::codes::known)]
    pub(crate) code: Option<String>,
    /// Only those in this currency.
    #[arg(long, value_parser = currency)]
    pub(crate) currency: Option<Currency>,
    /// Only those of this supplier: its QAD number, or part of its name.
    #[arg(long)]
    pub(crate) supplier: Option<String>,
    /// Only those that name this purchase order.
    #[arg(long)]
    pub(crate) order: Option<String>,
    /// Only those that have stood where they stand since this day (UTC) or later.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(crate) since: Option<Date>,
    /// Only those that have stood where they stand for at least this long: 3d, 12h.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) older_than: Option<i64>,
}

/// The states, in the order of an invoice's life.
pub(crate) const STATES: [&str; 8] = [
    "received", "held", "approved", "posted", "exported", "parked", "rejected", "voided",
];

fn state_word(text: &str) -> Result<String, String> {
    let word = text.trim().to_lowercase();
    if STATES.contains(&word.as_str()) {
        Ok(word)
    } else {
        Err(format!("one of {}", STATES.join(", ")))
    }
}

fn currency(text: &str) -> Result<Currency, String> {
    text.trim()
        .to_uppercase()
        .parse()
        .map_err(|_| "three letters, as USD".to_owned())
}

/// An age in milliseconds, from `3d` or `12h`.
fn age(text: &str) -> Result<i64, String> {
    let text = text.trim().to_lowercase();
    let (number, unit) = match (text.strip_suffix('d'), text.strip_suffix('h')) {
        (Some(days), _) => (days, DAY_MILLIS),
        (None, Some(hours)) => (hours, HOUR_MILLIS),
        (None, None) => return Err("a number of days or hours, as 3d or 12h".to_owned()),
    };
    number
        .parse::<u32>()
        .map(|number| i64::from(number).saturating_mul(unit))
        .map_err(|_| "a number of days or hours, as 3d or 12h".to_owned())
}

impl Filter {
    /// Whether an invoice is one of them.
    pub(crate) fn keeps(&self, record: &InvoiceRecord, now: Timestamp) -> bool {
        let summary = record.summary.as_ref();
        let state = self
            .state
            .as_ref()
            .is_none_or(|state| record.state.word() == state);
        let code = self.code.as_ref().is_none_or(|code| {
            let delay = record.delay.as_ref().map(|problem| problem.code.clone());
            record
                .state
                .codes()
                .into_iter()
                .chain(delay)
                .any(|known| known.eq_ignore_ascii_case(code.trim()))
        });
        let currency = self
            .currency
            .is_none_or(|currency| summary.is_some_and(|s| s.currency == currency));
        let supplier = self
            .supplier
            .as_ref()
            .is_none_or(|text| is_of_supplier(record, text));
        let order = self.order.as_ref().is_none_or(|text| names_order(record, text));
        let since = self.since.is_none_or(|date| record.since.date_utc() >= date);
        let old = self
            .older_than
            .is_none_or(|age| now.millis_since(record.since) >= age);
        state && code && currency && supplier && order && since && old
    }

    /// The same, of invoices in this state alone; refused when another state was asked for.
    pub(crate) fn only(self, state: &str) -> Result<Self, Failure> {
        if let Some(other) = self.state.as_deref().filter(|other| *other != state) {
            let fix = format!("Leave --state out, or use `qad-coupa invoice list --state {other}`.");
            return Err(Failure::Refused(
                Problem::new("FILTER_CONTRADICTS", fix)
                    .field("--state")
                    .expected(state)
                    .actual(other),
            ));
        }
        Ok(Self {
            state: Some(state.to_owned()),
            ..self
        })
    }

    /// True when nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            state,
            code,
            currency,
            supplier,
            order,
            since,
            older_than,
        } = self;
        state.is_none()
            && code.is_none()
            && currency.is_none()
            && supplier.is_none()
            && order.is_none()
            && since.is_none()
            && older_than.is_none()
    }
}

/// A text as people compare it: see [`domain::index::folded`].
fn forgiving(text: &str) -> String {
    domain::index::folded(text)
}

fn is_of_supplier(record: &InvoiceRecord, text: &str) -> bool {
    let wanted = forgiving(text);
    !wanted.is_empty()
        && record.summary.as_ref().is_some_and(|summary| {
            summary
                .supplier_number
                .as_deref()
                .is_some_and(|number| forgiving(number) == wanted)
                || summary
                    .supplier_name
                    .to_uppercase()
                    .contains(text.trim().to_uppercase().as_str())
        })
}

fn names_order(record: &InvoiceRecord, text: &str) -> bool {
    let wanted = forgiving(text);
    record.summary.as_ref().is_some_and(|summary| {
        summary
            .orders
            .iter()
            .any(|order| forgiving(order.as_str()) == wanted)
    })
}

/// All invoices, in the order of their ids. One that cannot be read is told and left out: it hides nobody else.
pub(crate) async fn all(register: &dyn Books) -> Result<Vec<InvoiceRecord>, Failure> {
    all_that(register, |_| true).await
}

/// The same, with what cannot be read, for whoever has to account for all of it.
pub(crate) async fn everything(register: &dyn Books) -> Result<(Vec<InvoiceRecord>, Vec<Problem>), Failure> {
    of_all(register, |_| true).await
}

/// All invoices of which this holds, in the order of their ids.
async fn all_that(
    register: &dyn Books,
    keeps: impl Fn(&InvoiceRecord) -> bool,
) -> Result<Vec<InvoiceRecord>, Failure> {
    let (records, unreadable) = of_all(register, keeps).await?;
    left_out(&unreadable);
    Ok(records)
}

/// They are read page by page, and what is not kept is let go.
async fn of_all(
    register: &dyn Books,
    keeps: impl Fn(&InvoiceRecord) -> bool,
) -> Result<(Vec<InvoiceRecord>, Vec<Problem>), Failure> {
    let mut records: Vec<InvoiceRecord> = Vec::new();
    let mut unreadable = Vec::new();
    let mut last: Option<RecordKey> = None;
    loop {
        let after = match last {
            Some(RecordKey::Invoice(id)) => Some(id),
            _ => None,
        };
        let page = register
            .invoices(after, PAGE_RECORDS)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        let is_last = page.len() < PAGE_RECORDS;
        last = page.last().map(|stored| stored.key.clone());
        let (read, broken) = apart::<InvoiceRecord>(&page);
        records.extend(read.into_iter().filter(|record| keeps(record)));
        unreadable.extend(broken);
        if is_last {
            return Ok((records, unreadable));
        }
    }
}

/// What can be read, and what cannot: it is of another version, or was written over.
fn apart<T: DeserializeOwned>(stored: &[StoredRecord]) -> (Vec<T>, Vec<Problem>) {
    let (mut read, mut unreadable) = (Vec::new(), Vec::new());
    for one in stored {
        match parse(one) {
            Ok(record) => read.push(record),
            Err(error) => unreadable.push(error.problem()),
        }
    }
    (read, unreadable)
}

/// What could not be read so far, each once: the command names it at its end.
static LEFT_OUT: Mutex<BTreeMap<String, Problem>> = Mutex::new(BTreeMap::new());

fn left_out(unreadable: &[Problem]) {
    let mut all = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    all.extend(
        unreadable
            .iter()
            .map(|problem| (problem.to_string(), problem.clone())),
    );
}

/// What every list of this command had to leave out.
pub(crate) fn all_left_out() -> Vec<Problem> {
    let all = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    all.values().cloned().collect()
}

/// Why the register has not answered; one item that cannot be taken apart is a problem of its own.
pub(crate) fn unanswered(error: StoreError) -> Failure {
    if error.0.code == ITEM_UNREADABLE {
        error.0.into()
    } else {
        Failure::Unreachable(error.0)
    }
}

/// What can be read; the rest is told and left out.
pub(crate) fn readable<T: DeserializeOwned>(stored: &[StoredRecord]) -> Vec<T> {
    let (read, unreadable) = apart(stored);
    left_out(&unreadable);
    read
}

/// Whether the register has a record of this invoice, readable or not.
pub(crate) async fn is_there(register: &dyn Books, id: InvoiceId) -> Result<bool, Failure> {
    let read = register.read(&[RecordKey::Invoice(id)]).await;
    let read = read.map_err(|error| Failure::Unreachable(error.0))?;
    Ok(read.iter().any(Option::is_some))
}

/// All members of a collection, in the order of their ids.
pub(crate) async fn members(
    register: &dyn Books,
    collection: Collection,
) -> Result<Vec<StoredRecord>, Failure> {
    let mut found: Vec<StoredRecord> = Vec::new();
    loop {
        let beyond = found.last().and_then(|stored| match &stored.key {
            RecordKey::Entry { id, .. } => Some(id.clone()),
            _ => None,
        });
        let page = register
            .members(collection, beyond.as_deref(), ROWS_MAX)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        let is_last = page.len() < ROWS_MAX;
        found.extend(page);
        if is_last {
            return Ok(found);
        }
    }
}

/// Records by their keys, as many at a time as the register takes; what is not there any more is left out.
pub(crate) async fn of_keys(register: &dyn Books, keys: &[RecordKey]) -> Result<Vec<StoredRecord>, Failure> {
    let mut found = Vec::new();
    for part in keys.chunks(ROWS_MAX) {
        let stored = register
            .read(part)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        found.extend(stored.into_iter().flatten());
    }
    Ok(found)
}

/// Everything that is held or waits for a person, by the lists of the index: what is not listed there is not read. `None`
/// while the index does not hold all.
async fn listed(register: &dyn Books, state: Option<&str>) -> Result<Option<Vec<InvoiceRecord>>, Failure> {
    let list = match state {
        Some("held") => index::HELD_LIST.to_owned(),
        Some("parked") => index::list_of(View::NeedsYou, None),
        _ => return Ok(None),
    };
    if !is_whole(register).await? {
        return Ok(None);
    }
    let mut records = of_list(register, &list).await?;
    records.sort_by_key(|record: &InvoiceRecord| record.id);
    Ok(Some(records))
}

/// Whether the index holds everything.
pub(crate) async fn is_whole(register: &dyn Books) -> Result<bool, Failure> {
    Ok(index::progress(register).await.map_err(unfinished)?.complete)
}

/// The invoice that has stood longest in a list of the index.
pub(crate) async fn oldest_of(register: &dyn Books, list: &str) -> Result<Option<InvoiceRecord>, Failure> {
    let asked = RowsAsked {
        beyond: None,
        newest_first: false,
        limit: 1,
    };
    let (rows, _) = index::page(register, list, &asked).await.map_err(unfinished)?;
    let keys: Vec<RecordKey> = rows.iter().map(|row| RecordKey::Invoice(row.id)).collect();
    let found = of_keys(register, &keys).await?;
    Ok(readable(&found).pop())
}

/// All invoices of one list of the index.
pub(crate) async fn of_list(register: &dyn Books, list: &str) -> Result<Vec<InvoiceRecord>, Failure> {
    let mut records = Vec::new();
    let mut beyond: Option<String> = None;
    loop {
        let asked = RowsAsked {
            beyond: beyond.as_deref(),
            newest_first: false,
            limit: PAGE_RECORDS,
        };
        let (rows, next) = index::page(register, list, &asked).await.map_err(unfinished)?;
        let keys: Vec<RecordKey> = rows.iter().map(|row| RecordKey::Invoice(row.id)).collect();
        records.extend(readable::<InvoiceRecord>(&of_keys(register, &keys).await?));
        let Some(next) = next else {
            return Ok(records);
        };
        beyond = Some(next);
    }
}

/// The invoices a filter keeps.
pub(crate) async fn kept(
    register: &dyn Books,
    filter: &Filter,
    now: Timestamp,
) -> Result<Vec<InvoiceRecord>, Failure> {
    let keeps = |record: &InvoiceRecord| filter.keeps(record, now);
    match listed(register, filter.state.as_deref()).await? {
        Some(mut listed) => {
            listed.retain(keeps);
            Ok(listed)
        }
        None => all_that(register, keeps).await,
    }
}

/// By what an invoice was found, in the order in which keys are believed.
const KEYS: [&str; 6] = ["coupa id", "reference", "voucher", "order", "amount", "supplier"];

fn has_key(record: &InvoiceRecord, key: &str, text: &str) -> bool {
    let summary = record.summary.as_ref();
    let wanted = forgiving(text);
    match key {
        "coupa id" => text.trim().parse::<InvoiceId>().is_ok_and(|id| id == record.id),
        "reference" => summary.is_some_and(|s| forgiving(s.reference.as_str()) == wanted),
        "voucher" => record.state.voucher().is_some_and(|voucher| {
            forgiving(&voucher.to_string()) == wanted || voucher.number.to_string() == wanted
        }),
        "order" => names_order(record, text),
        "amount" => amount(text).is_some_and(|amount| summary.is_some_and(|s| s.total.abs() == amount.abs())),
        "supplier" => is_of_supplier(record, text),
        _ => false,
    }
}

/// An amount as people write it: `1,296.00` is `1296`.
fn amount(text: &str) -> Option<Decimal> {
    let plain: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace() && *letter != ',')
        .collect();
    parse_decimal(&plain).ok()
}

type Matches = Vec<(InvoiceRecord, &'static str)>;

/// Everything that has this text as one of its keys, and as which: by the index, and by looking at all of them only while
/// the index does not hold all.
///
/// What cannot be read may be what is meant: when nothing else is found, that is told, and not that there is none.
pub(crate) async fn found(register: &dyn Books, text: &str) -> Result<Matches, Failure> {
    let found = index::find(register, text).await.map_err(unfinished)?;
    left_out(&found.unreadable);
    if found.more {
        let fix = "Name it by another of its keys, or use `qad-coupa invoice list` with a filter.";
        return Err(Problem::new("TOO_MANY_FOUND", fix)
            .field("invoice")
            .expected(format!("at most {} invoices", index::FOUND_MAX))
            .actual(text)
            .into());
    }
    let mut unreadable = found.unreadable;
    let mut by_key = matches(&found.records, text);
    if by_key.is_empty() && !is_whole(register).await? {
        let has_any = |record: &InvoiceRecord| KEYS.into_iter().any(|key| has_key(record, key, text));
        // Of all: those that the index has named are among them.
        let (records, broken) = of_all(register, has_any).await?;
        left_out(&broken);
        by_key = matches(&records, text);
        unreadable = broken;
    }
    if by_key.is_empty() && !unreadable.is_empty() {
        return Err(Failure::Incomplete(unreadable));
    }
    Ok(by_key)
}

/// Everything that has this text as one of its business keys, and as which.
fn matches(records: &[InvoiceRecord], text: &str) -> Matches {
    records
        .iter()
        .filter_map(|record| {
            let key = KEYS.into_iter().find(|key| has_key(record, key, text))?;
            Some((record.clone(), key))
        })
        .collect()
}

/// The one invoice a person means: by the first kind of key that finds any.
pub(crate) async fn one(register: &dyn Books, text: &str) -> Result<InvoiceRecord, Failure> {
    if let Ok(id) = text.trim().parse::<InvoiceId>()
        && let Some(loaded) = load::<InvoiceRecord>(register, RecordKey::Invoice(id))
            .await
            .map_err(unfinished)?
    {
        return Ok(loaded.document);
    }
    let found = found(register, text).await?;
    let mut by_key: BTreeMap<usize, Vec<InvoiceRecord>> = BTreeMap::new();
    for (record, key) in found {
        let rank = KEYS.iter().position(|known| *known == key).unwrap_or(KEYS.len());
        by_key.entry(rank).or_default().push(record);
    }
    let Some((_, mut best)) = by_key.pop_first() else {
        return Err(Failure::NotFound(
            Problem::new("INVOICE_NOT_FOUND", "Look it up in `qad-coupa invoice list`.")
                .field("invoice")
                .expected("a Coupa id, invoice number, QAD voucher, purchase order, amount or supplier")
                .actual(text),
        ));
    };
    if best.len() == 1
        && let Some(only) = best.pop()
    {
        return Ok(only);
    }
    let ids: Vec<String> = best
        .iter()
        .take(IDS_SHOWN_MAX)
        .map(|record| record.id.to_string())
        .collect();
    Err(Problem::new(
        "INVOICE_AMBIGUOUS",
        "Name it by Coupa's id; `qad-coupa invoice find` shows them.",
    )
    .field("invoice")
    .expected(format!("one of {} invoices, as {}", best.len(), ids.join(", ")))
    .actual(text)
    .into())
}

/// The audit trail of an invoice.
pub(crate) async fn trail(register: &dyn Books, id: InvoiceId) -> Result<Vec<AuditEntry>, Failure> {
    register.audit(&invoice_audit_name(id)).await.map_err(unanswered)
}

/// Totals per currency; never added across currencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals(pub(crate) BTreeMap<String, Decimal>);

impl Totals {
    /// The totals of these invoices.
    pub(crate) fn of<'a>(records: impl IntoIterator<Item = &'a InvoiceRecord>) -> Self {
        let mut totals = Self::default();
        for summary in records.into_iter().filter_map(|record| record.summary.as_ref()) {
            totals.add(summary.currency, summary.total);
        }
        totals
    }

    /// Adds an amount. A sum that leaves the exact range stays at its end rather than wrap.
    pub(crate) fn add(&mut self, currency: Currency, amount: Decimal) {
        let total = self.0.entry(currency.to_string()).or_default();
        *total = total.saturating_add(amount);
    }

    /// As JSON: currency to exact text.
    pub(crate) fn json(&self) -> serde_json::Value {
        let texts: BTreeMap<&String, String> = self
            .0
            .iter()
            .map(|(currency, total)| (currency, total.normalize().to_string()))
            .collect();
        serde_json::json!(texts)
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = self
            .0
            .iter()
            .map(|(currency, total)| words::money(*total, currency))
            .collect();
        formatter.write_str(&parts.join(" + "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ::tests::memory_register::MemoryStore;
    use domain::ids::DocumentKind;
    use domain::lifecycle::{Event, PostedHow, Summary, Voucher};
    use flows::ports::{Commit, RecordWrite, Register};

    #[test]
    fn one_that_cannot_be_read_hides_nobody_else() {
        let stored = |id: u64, body: String| StoredRecord {
            key: RecordKey::Invoice(InvoiceId(id)),
            revision: 1,
            body: Ok(body),
        };
        let good = |id| stored(id, serde_json::to_string(&record(id, "INV-1", 100)).unwrap());
        let page = [good(1), stored(2, "{\"layout\":9}".to_owned()), good(3)];
        let (read, unreadable) = apart::<InvoiceRecord>(&page);
        assert_eq!(read.iter().map(|record| record.id.0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(unreadable.len(), 1);
        assert_eq!(unreadable[0].code, "REGISTER_RECORD_UNREADABLE");
        assert!(
            unreadable[0].field.contains('2'),
            "it is named: {}",
            unreadable[0]
        );
    }

    #[tokio::test]
    async fn an_invoice_that_cannot_be_read_is_not_one_that_is_not_there() {
        let register = MemoryStore::default().register(&"acme".parse().unwrap());
        assert!(matches!(one(&register, "INV-9").await, Err(Failure::NotFound(_))));
        let put = |id: u64, body: String| RecordWrite::Put {
            key: RecordKey::Invoice(InvoiceId(id)),
            seen: 0,
            body,
            state: String::new(),
            due: None,
        };
        let good = serde_json::to_string(&record(1, "INV-1", 100)).unwrap();
        let commit = Commit {
            token: "token".to_owned(),
            writes: vec![put(1, good), put(2, "{\"layout\":9}".to_owned())],
            audit: vec![],
        };
        register.commit(commit).await.unwrap();
        let Err(Failure::Incomplete(problems)) = one(&register, "INV-9").await else {
            panic!("it may be invoice 2");
        };
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].code, "REGISTER_RECORD_UNREADABLE");
        assert!(problems[0].field.contains('2'), "it is named: {}", problems[0]);
        assert_eq!(one(&register, "INV-1").await.ok().unwrap().id, InvoiceId(1));
    }

    /// An exported invoice.
    pub(crate) fn record(id: u64, reference: &str, total: i64) -> InvoiceRecord {
        let approved = Event::Approved {
            identity: String::new(),
            request_sha256: String::new(),
            tolerance_version: String::new(),
            coupa_orders: vec![],
        };
        let posted = Event::Posted {
            voucher: Voucher {
                year: 2026,
                daybook: "SI".into(),
                number: id.saturating_add(100_000),
            },
            how: PostedHow::Created,
        };
        let mut record = InvoiceRecord::new(InvoiceId(id), Timestamp(0))
            .after(&approved, Timestamp(0))
            .and_then(|record| record.after(&posted, Timestamp(0)))
            .unwrap();
        record.summary = Some(Summary {
            reference: reference.parse().unwrap(),
            kind: DocumentKind::Invoice,
            supplier_name: "Example Castings".into(),
            supplier_number: Some("10S1001".into()),
            invoice_date: "2026-03-05".parse().unwrap(),
            total: Decimal::from(total),
            currency: "USD".parse().unwrap(),
            orders: vec!["PO0042".parse().unwrap()],
            particulars: domain::documents::InvoiceParticulars::default(),
        });
        record
    }

    #[test]
    fn any_business_key_finds_an_invoice_whatever_its_blanks_case_and_zeros() {
        let records = [record(7, "INV-0055", 1296)];
        for (text, key) in [
            ("7", "coupa id"),
            (" inv-0055 ", "reference"),
            ("00INV-0055", "reference"),
            ("2026/si/100007", "voucher"),
            ("100007", "voucher"),
            ("po0042", "order"),
            ("1,296.00", "amount"),
            ("castings", "supplier"),
            ("10s1001", "supplier"),
        ] {
            let found = matches(&records, text);
            assert_eq!(found.first().map(|(_, key)| *key), Some(key), "{text}");
        }
        assert!(matches(&records, "1297").is_empty());
        assert!(matches(&records, "").is_empty());
    }

    #[test]
    fn a_filter_keeps_what_all_its_parts_keep() {
        let record = record(7, "INV-0055", 1296);
        let now = Timestamp(2 * DAY_MILLIS);
        let filter = Filter {
            currency: Some("USD".parse().unwrap()),
            supplier: Some("castings".into()),
            older_than: Some(age("2d").unwrap()),
            ..Filter::default()
        };
        assert!(filter.keeps(&record, now));
        assert!(!filter.keeps(&record, Timestamp(0)));
        let other = Filter {
            state: Some("held".into()),
            ..filter
        };
        assert!(!other.keeps(&record, now));
        assert!(age("3w").is_err() && age("-1d").is_err() && age("48h") == age("2d"));
    }

    #[test]
    fn a_filter_for_one_state_takes_no_other() {
        let of = |state: Option<&str>| Filter {
            state: state.map(str::to_owned),
            ..Filter::default()
        };
        for state in [None, Some("held")] {
            assert_eq!(of(state).only("held").unwrap().state.as_deref(), Some("held"));
        }
        let Err(Failure::Refused(problem)) = of(Some("parked")).only("held") else {
            panic!("it was taken");
        };
        assert_eq!(problem.code, "FILTER_CONTRADICTS");
        assert_eq!(problem.actual, "parked");
    }

    #[test]
    fn totals_are_never_added_across_currencies() {
        let mut other = record(8, "B", 5);
        other.summary.as_mut().unwrap().currency = "MXN".parse().unwrap();
        let totals = Totals::of([&record(7, "A", 10), &record(9, "C", 1), &other]);
        assert_eq!(totals.to_string(), "5.00 MXN + 11.00 USD");
    }
}
