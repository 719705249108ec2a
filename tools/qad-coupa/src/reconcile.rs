//! Both sides against each other: what Coupa approved, what the register says, what QAD holds, what was paid. Every
//! difference is named and classified; one that nothing explains ends with exit code 4.
//!
//! Reads only. Costs one look-up in QAD per invoice, and the list of what Coupa has not exported.

use crate::Failure;
use crate::output::{Cell, Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, Systems, unfinished, unread};
use crate::records::{self, Filter, Totals};
use aws::clock::SystemClock;
use clap::Args;
use domain::explain;
use domain::ids::{EntityCode, InvoiceId};
use domain::lifecycle::{InvoiceRecord, State};
use domain::money::Currency;
use domain::problem::Problem;
use domain::reconcile::{Difference, not_looked_up, only_in_coupa, out_of_reach, paid_sums};
use domain::time::{Date, Timestamp};
use domain::words;
use flows::poll_coupa::PollError;
use flows::ports::{Clock, Coupa, InvoiceHead, QadDocument, QadPayments, Register};
use flows::reconcile::{self, Books, Paid, Reconciliation, Report};
use futures_util::{StreamExt, TryStreamExt, stream};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Look-ups in QAD at the same time; the connection's pace holds them back further.
const LOOK_UPS_AT_ONCE: usize = 6;
/// How many days of QAD's payments are read.
const PAYMENT_DAYS: i64 = 31;
const DAY_MILLIS: i64 = 86_400_000;

#[derive(Debug, Args)]
pub(crate) struct ReconcileOptions {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    list: ListOptions,
    /// What the last complete daily run has found, without asking anybody anew.
    #[arg(long, conflicts_with = "Filter")]
    last: bool,
}

/// The sums of one currency.
#[derive(Debug, Clone, Default)]
struct Side {
    count: usize,
    totals: Totals,
}

impl Side {
    fn add(&mut self, currency: Currency, amount: Decimal) {
        self.count = self.count.saturating_add(1);
        self.totals.add(currency, amount);
    }

    fn json(&self) -> Value {
        json!({ "count": self.count, "totals": self.totals.json() })
    }
}

async fn listed(coupa: &dyn Coupa) -> Result<BTreeMap<InvoiceId, InvoiceHead>, Failure> {
    let mut heads = BTreeMap::new();
    let mut after = None;
    loop {
        let page = coupa.exportable_invoices(after).await.map_err(unread)?;
        heads.extend(page.heads.into_iter().map(|head| (head.id, head)));
        match page.last {
            Some(last) if page.more && after.is_none_or(|before| last > before) => after = Some(last),
            _ => return Ok(heads),
        }
    }
}

/// The connection's books.
fn books(systems: &Systems) -> Vec<Books<'_>> {
    systems.books().into_iter().map(Books::of).collect()
}

/// What QAD holds under the identity of an invoice.
pub(crate) async fn documents_of(
    systems: &Systems,
    record: &InvoiceRecord,
) -> Result<Vec<QadDocument>, Failure> {
    let found = reconcile::documents_of(&books(systems), record).await;
    found.map_err(unread)?.ok_or_else(|| {
        Failure::NotFound(
            Problem::new(
                "ENTITY_NOT_CONFIGURED",
                "The invoice's entity is none of this connection's any more.",
            )
            .field("entity")
            .actual(record.entity.as_ref().map_or("", EntityCode::as_str)),
        )
    })
}

/// What QAD has paid of our invoices in the last weeks.
async fn paid_in_qad(systems: &Systems, now: Timestamp) -> Result<Paid, Failure> {
    let days = PAYMENT_DAYS.saturating_mul(DAY_MILLIS);
    let since: Date = now.plus_millis(days.saturating_neg()).date_utc();
    let books: Vec<&dyn QadPayments> = books(systems).iter().map(|books| books.payments).collect();
    let paid = reconcile::paid_between(&books, &systems.document.payments.policy, since, None).await;
    paid.map_err(unread)
}

/// What one invoice differs in. A bill or an audit entry of it that cannot be read is a difference of its own, and hides no other
/// invoice.
fn compared(
    record: &InvoiceRecord,
    found: Result<Vec<Difference>, PollError>,
) -> Result<Vec<Difference>, Failure> {
    found.or_else(|error| {
        if let Some(problem) = reconcile::unreadable(&error) {
            return Ok(vec![not_looked_up(record, problem)]);
        }
        Err(match error {
            PollError::Read(error) => unread(error),
            PollError::Flow(error) => unfinished(error),
        })
    })
}

/// What the register alone says of an invoice.
fn count(sides: &mut BTreeMap<&'static str, Side>, record: &InvoiceRecord) {
    if let Some(summary) = &record.summary {
        let approved = !matches!(record.state, State::Voided { .. } | State::Rejected { .. });
        if approved {
            sides
                .entry("approved in Coupa")
                .or_default()
                .add(summary.currency, summary.total);
        }
        if matches!(record.state, State::Posted { .. } | State::Exported { .. }) {
            sides
                .entry("posted by the register")
                .or_default()
                .add(summary.currency, summary.total);
        } else if approved {
            sides
                .entry("waiting")
                .or_default()
                .add(summary.currency, summary.total);
        }
    }
}

/// `reconcile`.
pub(crate) async fn run(
    place: &PlaceArguments,
    options: &ReconcileOptions,
    out: &Output,
) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let now = SystemClock.now();
    if options.last {
        return tell_last(&register, now, options, out).await;
    }
    let systems = place.systems(&connection).await?;
    let known = records::all(&register).await?;
    let listed = listed(&systems.coupa).await?;
    let (kept, strangers): (Vec<&InvoiceRecord>, Vec<_>) = known
        .iter()
        .filter(|record| options.filter.keeps(record, now))
        .partition(|record| systems.books_of(record).is_some());

    let looked_up: Vec<Vec<QadDocument>> = stream::iter(&kept)
        .map(|record| documents_of(&systems, record))
        .buffered(LOOK_UPS_AT_ONCE)
        .try_collect()
        .await?;
    let paid = paid_in_qad(&systems, now).await?;
    let books = books(&systems);

    let mut sides: BTreeMap<&'static str, Side> = BTreeMap::new();
    let mut differences = Vec::new();
    for record in strangers {
        count(&mut sides, record);
        differences.push(out_of_reach(record));
    }
    for (record, documents) in kept.iter().copied().zip(&looked_up) {
        let listed = listed.get(&record.id).map(|head| &head.status);
        let found = reconcile::judge_invoice(&register, &books, record, documents, listed).await;
        differences.extend(compared(record, found)?);
        count(&mut sides, record);
        for document in documents {
            sides
                .entry("in QAD")
                .or_default()
                .add(document.currency, document.total);
        }
        if let Some(paid) = paid.of(&books, record) {
            let side = sides.entry("paid in QAD").or_default();
            side.count = side.count.saturating_add(1);
            for (currency, amount) in paid_sums(record, paid) {
                side.totals.add(currency, amount);
            }
            let found = reconcile::judge_payment(&register, record, paid).await;
            let found = found.map(Vec::from_iter).map_err(PollError::from);
            differences.extend(compared(record, found)?);
        }
    }
    if options.filter.is_empty() {
        for head in listed
            .values()
            .filter(|head| !known.iter().any(|record| record.id == head.id))
        {
            differences.push(only_in_coupa(head.id, &head.status, head.updated_at, now));
        }
    }
    tell(&sides, &differences, &options.list, out)?;
    let unexplained = differences
        .iter()
        .filter(|difference| !difference.explained)
        .count();
    ended(u64::try_from(unexplained).unwrap_or(u64::MAX))
}

/// Ends with 4 when something is unexplained.
fn ended(unexplained: u64) -> Result<(), Failure> {
    if unexplained == 0 {
        Ok(())
    } else {
        Err(Failure::Differs(format!(
            "UNEXPLAINED_DIFFERENCES: {unexplained}"
        )))
    }
}

/// The daily run in one line, for whoever asks how the connection is.
pub(crate) fn daily(known: &Reconciliation, now: Timestamp) -> String {
    let running = known.running.as_ref().map_or_else(String::new, |run| {
        let since = explain::instant(run.started);
        format!("; under way since {since}, {} looked at so far", run.looked_at)
    });
    let Some(last) = &known.last else {
        return format!("never complete{running}");
    };
    let late = if known.is_late(now) { ", LATE" } else { "" };
    let unexplained = last.unexplained_count();
    format!(
        "{}{late}: {} invoices looked at, {unexplained} unexplained, {} of them new{running}",
        explain::instant(last.ended),
        last.looked_at,
        last.new
    )
}

/// What the last complete daily run has found.
async fn tell_last(
    register: &dyn Register,
    now: Timestamp,
    options: &ReconcileOptions,
    out: &Output,
) -> Result<(), Failure> {
    let known = reconcile::known(register).await.map_err(unfinished)?;
    let Some(last) = &known.last else {
        return Err(Failure::NotFound(
            Problem::new(
                "RECONCILE_NEVER_COMPLETE",
                "Let the schedule reconcile run, or run it now: `qad-coupa run reconcile`.",
            )
            .field("reconcile --last"),
        ));
    };
    let row = |one: &reconcile::Standing| {
        let difference = &one.difference;
        Row::new(
            json!(one),
            vec![
                Cell::Text(explain::instant(one.since)),
                difference.kind.word().into(),
                Cell::Text(difference.invoice.to_string()),
                difference.reference.as_str().into(),
                Cell::Money(difference.money()),
                difference.what.as_str().into(),
            ],
        )
    };
    let columns = [
        Column::word("Since"),
        Column::word("Kind"),
        Column::word("Invoice"),
        Column::word("Reference"),
        Column::figure("Amount"),
        Column::sentence("What"),
    ];
    let Report {
        started,
        ended: complete,
        from,
        looked_at,
        counts,
        new,
        ..
    } = last;
    let unexplained = last.unexplained_count();
    let whole = json!({ "started": started, "ended": complete, "from": from, "looked_at": looked_at, "counts": counts,
        "new": new, "unexplained": unexplained, "late": known.is_late(now) });
    let whole = move |differences| {
        let mut whole = whole;
        if let Some(fields) = whole.as_object_mut() {
            fields.insert("differences".to_owned(), Value::Array(differences));
        }
        whole
    };
    let listing = Listing::new(&columns, last.unexplained.iter().map(row).collect())
        .within(whole)
        .below([daily(&known, now)]);
    out.list(listing, &options.list)?;
    ended(unexplained)
}

fn tell(
    sides: &BTreeMap<&'static str, Side>,
    differences: &[Difference],
    options: &ListOptions,
    out: &Output,
) -> Result<(), Failure> {
    let unexplained = differences
        .iter()
        .filter(|difference| !difference.explained)
        .count();
    let order = [
        "approved in Coupa",
        "posted by the register",
        "in QAD",
        "waiting",
        "paid in QAD",
    ];
    let sums: Vec<String> = order
        .iter()
        .filter_map(|name| sides.get(name).map(|side| (*name, side)))
        .map(|(name, side)| {
            format!(
                "{name}: {}, {}",
                words::count(side.count, "document"),
                side.totals
            )
        })
        .collect();
    let row = |one: &Difference| {
        Row::new(
            json!(one),
            vec![
                if one.explained { "yes" } else { "NO" }.into(),
                one.kind.word().into(),
                Cell::Text(one.invoice.to_string()),
                one.reference.as_str().into(),
                Cell::Money(one.money()),
                one.what.as_str().into(),
            ],
        )
    };
    let columns = [
        Column::word("Explained"),
        Column::word("Kind"),
        Column::word("Invoice"),
        Column::word("Reference"),
        Column::figure("Amount"),
        Column::sentence("What"),
    ];
    let sides: BTreeMap<String, Value> = sides
        .iter()
        .map(|(name, side)| ((*name).to_owned(), side.json()))
        .collect();
    let whole = move |differences| json!({ "sides": sides, "differences": Value::Array(differences), "unexplained": unexplained });
    let count = format!(
        "{}, {unexplained} of them unexplained",
        words::count(differences.len(), "difference")
    );
    let listing = Listing::new(&columns, differences.iter().map(row).collect())
        .within(whole)
        .below(sums.into_iter().chain([count]));
    out.list(listing, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::Bench;
    use crate::records::tests::record;
    use domain::reconcile::Kind;
    use flows::ports::{ITEM_UNREADABLE, StoreError};
    use flows::store::FlowError;
    use sandbox::world::qad::ENTITIES;

    #[test]
    fn what_cannot_be_read_of_one_invoice_is_its_own_difference_and_a_silent_register_ends_the_run() {
        let record = record(7, "A", 100);
        let broken = Problem::new("REGISTER_RECORD_UNREADABLE", "");
        let item = StoreError(Problem::new(ITEM_UNREADABLE, ""));
        for error in [FlowError::Broken(broken).into(), PollError::from(item)] {
            let found = compared(&record, Err(error)).unwrap();
            let kinds: Vec<Kind> = found.iter().map(|one| one.kind).collect();
            assert_eq!(kinds, [Kind::NotLookedUp]);
            assert!(!found[0].explained);
        }
        let silent = StoreError(Problem::new("DYNAMODB_UNAVAILABLE", ""));
        let ended = compared(&record, Err(silent.into()));
        assert!(matches!(ended, Err(Failure::Unreachable(_))));
    }

    #[tokio::test]
    async fn each_invoice_is_looked_for_in_its_own_entitys_books() {
        let bench = Bench::full().await;
        {
            let mut world = bench.simulators.world.lock().unwrap();
            let mut keyed = world.qad.invoices[0].record.clone();
            keyed.supplier_invoice_reference = "A".to_owned();
            for ((entity, domain), total) in ENTITIES.into_iter().zip([100, 70]) {
                keyed.entity_code = entity.to_owned();
                keyed.domain_code = domain.to_owned();
                keyed.total_amount.0 = Decimal::from(total);
                world.qad.keyed_by_hand(keyed.clone(), SystemClock.now());
            }
        }
        let supplier = bench.simulators.world.lock().unwrap().qad.invoices[0]
            .record
            .supplier_code
            .clone();
        let of = |entity: Option<&str>| {
            let mut record = record(7, "A", 100);
            record.entity = entity.map(|code| code.parse().unwrap());
            if let Some(summary) = &mut record.summary {
                summary.supplier_number = Some(supplier.as_str().into());
            }
            record
        };
        let systems = bench.of_two_entities();
        let totals = async |entity: Option<&str>| {
            let found = documents_of(&systems, &of(entity)).await.unwrap();
            let found = found.into_iter();
            found
                .map(|one| (one.identity.entity.to_string(), one.total.to_string()))
                .collect::<Vec<_>>()
        };
        let first = [("10USACO".to_owned(), "100".to_owned())];
        assert_eq!(totals(Some("10USACO")).await, first);
        assert_eq!(
            totals(Some("20GERCO")).await,
            [("20GERCO".to_owned(), "70".to_owned())]
        );
        // Decided before there were several entities.
        assert_eq!(totals(None).await, first);
        // Of an entity whose books cannot be asked: that is not "nothing there".
        let stranger = of(Some("30FRCO"));
        assert!(documents_of(&systems, &stranger).await.is_err());
        assert_eq!(out_of_reach(&stranger).kind.word(), "entity-not-configured");
        // With one entity everything is that one's.
        assert_eq!(documents_of(&bench.plain(), &of(None)).await.unwrap().len(), 1);
    }
}
