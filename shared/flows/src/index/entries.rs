//! The lists of suppliers and bills: who waits for a person, and who may be whom. Kept as those of the invoices are, in the
//! transaction of the record they tell of.
//!
//! | list | its rows |
//! |---|---|
//! | `supplier/parked` | suppliers that wait for a person, by their id |
//! | `supplier/proposed` | of those, the ones that may be one on the other side |
//! | `supplier/quarantined` | suppliers that cannot be read |
//! | `bill/parked` | bills whose payments wait for a person, by their invoice |
//!
//! The sheet [`ENTRIES`] counts each list but the quarantine, which has no record that could say whether it is counted already.

use super::{Placed, Sums, awaited_sheet, page_of, row_hash};
use crate::ports::{Index, IndexWrite, ROWS_MAX, RecordWrite, RowsAsked, StoreError, TALLY_PARTS, Tally};
use crate::store::{FlowError, render};
use domain::index::{INDEX_VERSION, Listed};
use domain::payments::BillPayments;
use domain::suppliers::{SupplierId, SupplierRecord, SupplierState};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The sheet of how many stand in each list.
pub const ENTRIES: &str = "entries";
/// Suppliers that wait for a person.
pub const PARKED_SUPPLIERS: &str = "supplier/parked";
/// Suppliers that may be one on the other side.
pub const PROPOSED_SUPPLIERS: &str = "supplier/proposed";
/// Suppliers that cannot be read.
pub const QUARANTINED_LIST: &str = "supplier/quarantined";
/// Bills whose payments wait for a person.
pub const PARKED_BILLS: &str = "bill/parked";
/// Most that a row tells of who a supplier may be.
const CANDIDATES_MAX: usize = 5;

/// What a list shows of a supplier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplierRow {
    /// Whose.
    pub id: SupplierId,
    /// The supplier, in words.
    pub words: String,
    /// Who it may be on the other side: the first of them, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub perhaps: Vec<(SupplierId, String)>,
    /// Why it waits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl SupplierRow {
    fn of(record: &SupplierRecord) -> Self {
        let perhaps = record.candidates().iter().take(CANDIDATES_MAX);
        Self {
            id: record.id.clone(),
            words: record.words(),
            perhaps: perhaps.map(|one| (one.id.clone(), one.to_string())).collect(),
            why: match &record.state {
                SupplierState::Parked { problem, .. } => problem.code.clone(),
                _ => String::new(),
            },
        }
    }
}

impl Placed for SupplierRow {
    fn unread(_: &str, place: &str) -> Option<Self> {
        let id = match place.split_once('/')? {
            ("qad", code) => SupplierId::Qad(code.parse().ok()?),
            ("coupa", id) => SupplierId::Coupa(id.parse().ok()?),
            _ => return None,
        };
        Some(Self {
            id,
            words: place.to_owned(),
            perhaps: Vec::new(),
            why: super::INDEX_UNREADABLE.to_owned(),
        })
    }
}

/// What keeps the index as a supplier now stands; the record remembers it.
pub(crate) fn follow_supplier(record: &mut SupplierRecord) -> Result<Vec<RecordWrite>, FlowError> {
    let mut lists = BTreeSet::new();
    if matches!(record.state, SupplierState::Parked { .. }) {
        lists.insert(PARKED_SUPPLIERS.to_owned());
    }
    if !record.candidates().is_empty() {
        lists.insert(PROPOSED_SUPPLIERS.to_owned());
    }
    let body = if lists.is_empty() {
        String::new()
    } else {
        render(&SupplierRow::of(record))?
    };
    Ok(follow(&record.id.to_string(), &mut record.listed, lists, &body))
}

/// What keeps the index as a bill now stands; the record remembers it.
pub(crate) fn follow_bill(bill: &mut BillPayments) -> Vec<RecordWrite> {
    let is_parked = bill.word() == "parked";
    let lists = is_parked.then(|| PARKED_BILLS.to_owned()).into_iter().collect();
    // Whoever lists bills reads them.
    follow(&format!("{:020}", bill.invoice.0), &mut bill.listed, lists, "{}")
}

fn follow(id: &str, listed: &mut Option<Listed>, lists: BTreeSet<String>, body: &str) -> Vec<RecordWrite> {
    let new = (!lists.is_empty()).then(|| Listed {
        version: INDEX_VERSION,
        row: row_hash(body),
        lists,
    });
    if *listed == new {
        return Vec::new();
    }
    let old = std::mem::replace(listed, new.clone());
    let of = |listed: &Option<Listed>| listed.as_ref().map(|one| one.lists.clone()).unwrap_or_default();
    let (before, after) = (of(&old), of(&new));
    // Under another layout every row is written anew, also one that shows the same.
    let shown = |listed: Option<Listed>| listed.map(|one| (one.version, one.row));
    let shows_another = shown(old) != shown(new);
    let gone = before.difference(&after).map(|list| IndexWrite::Remove {
        list: list.clone(),
        id: id.to_owned(),
    });
    let put = after
        .iter()
        .filter(|list| shows_another || !before.contains(*list))
        .map(|list| IndexWrite::Put {
            list: list.clone(),
            id: id.to_owned(),
            body: body.to_owned(),
        });
    let counted = |count: i64| Tally {
        count,
        ..Tally::default()
    };
    let fewer = before.difference(&after).map(|list| (list.clone(), counted(-1)));
    let more = after.difference(&before).map(|list| (list.clone(), counted(1)));
    let changes: BTreeMap<String, Tally> = fewer.chain(more).collect();
    let count = (!changes.is_empty()).then(|| IndexWrite::Count {
        sheet: ENTRIES.to_owned(),
        part: part_of(id),
        changes,
    });
    gone.chain(put).chain(count).map(RecordWrite::Index).collect()
}

fn part_of(id: &str) -> u8 {
    let sum = id.bytes().fold(0u8, u8::wrapping_add);
    sum.checked_rem(TALLY_PARTS).unwrap_or(0)
}

/// A transaction names each item once: what several records of one commit add to the same part of a sheet is added together.
pub(crate) fn added_together(writes: Vec<RecordWrite>) -> Vec<RecordWrite> {
    let mut sheets: BTreeMap<(String, u8), BTreeMap<String, Tally>> = BTreeMap::new();
    let mut others = Vec::new();
    for write in writes {
        let RecordWrite::Index(IndexWrite::Count { sheet, part, changes }) = write else {
            others.push(write);
            continue;
        };
        let sums = sheets.entry((sheet, part)).or_default();
        for (name, change) in changes {
            let sum = sums.entry(name).or_default();
            sum.count = sum.count.saturating_add(change.count);
            sum.amount = sum.amount.saturating_add(change.amount);
        }
    }
    let counts = sheets.into_iter().filter_map(|((sheet, part), mut changes)| {
        changes.retain(|_, tally| *tally != Tally::default());
        (!changes.is_empty()).then_some(RecordWrite::Index(IndexWrite::Count { sheet, part, changes }))
    });
    others.extend(counts);
    others
}

/// How many stand in each list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Suppliers that wait for a person, without those that cannot be read.
    pub parked_suppliers: u64,
    /// Of those, the ones that may be one on the other side.
    pub proposed_suppliers: u64,
    /// Bills whose payments wait for a person.
    pub parked_bills: u64,
}

/// Most suppliers of one question of [`counted`].
pub const AWAITED_MAX: usize = 16;

/// Counts suppliers and bills that wait for a person, and the invoices that wait for each of these suppliers of Coupa (at most
/// [`AWAITED_MAX`]), with their sums: one read.
///
/// # Errors
/// No answer from the register; more suppliers than one question may name.
pub async fn counted(
    index: &dyn Index,
    suppliers: &BTreeSet<u64>,
) -> Result<(Counted, BTreeMap<u64, Sums>), StoreError> {
    let names: Vec<String> = suppliers.iter().map(|id| awaited_sheet(*id)).collect();
    let sheets: Vec<&str> = std::iter::once(ENTRIES)
        .chain(names.iter().map(String::as_str))
        .collect();
    let mut read = index.tallies(&sheets).await?.into_iter();
    let lists = read.next().unwrap_or_default();
    let of = |list: &str| {
        let count = lists.get(list).map_or(0, |tally| tally.count);
        u64::try_from(count).unwrap_or(0)
    };
    let counted = Counted {
        parked_suppliers: of(PARKED_SUPPLIERS),
        proposed_suppliers: of(PROPOSED_SUPPLIERS),
        parked_bills: of(PARKED_BILLS),
    };
    let awaited = read.map(|tallies| {
        let mut sums = Sums::default();
        for (currency, tally) in tallies {
            sums.add(&currency, tally);
        }
        sums
    });
    Ok((counted, suppliers.iter().copied().zip(awaited).collect()))
}

/// A page of the suppliers that may be one on the other side, QAD's first, and the place after which the next page begins.
///
/// # Errors
/// No answer from the register.
pub async fn proposed(
    index: &dyn Index,
    beyond: Option<&str>,
    limit: usize,
) -> Result<(Vec<SupplierRow>, Option<String>), FlowError> {
    let asked = RowsAsked {
        beyond,
        // `qad/…` stands behind `coupa/…`.
        newest_first: true,
        limit,
    };
    page_of(index, PROPOSED_SUPPLIERS, &asked).await
}

/// The ids in a list that is worked off by people, all of them.
///
/// # Errors
/// No answer from the register.
pub async fn ids(index: &dyn Index, list: &str) -> Result<Vec<String>, StoreError> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let asked = RowsAsked {
            beyond: ids.last().map(String::as_str),
            newest_first: false,
            limit: ROWS_MAX,
        };
        let rows = index.rows(list, &asked).await?;
        let is_last = rows.len() < ROWS_MAX;
        ids.extend(rows.into_iter().map(|row| row.id));
        if is_last {
            return Ok(ids);
        }
    }
}
