//! Both sides against each other: what Coupa approved, what the register says, what QAD holds, what was paid. Every
//! difference is named and classified; one that nothing explains ends with exit code 4.
//!
//! Reads only. Costs one look-up in QAD per invoice, and the list of what Coupa has not exported.

use crate::Failure;
use crate::output::{Cell, Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, Systems, unfinished, unread};
use crate::records::{self, Filter, Totals};
use aws::clock::SystemClock;
use aws::dynamo::DynamoRegister;
use clap::Args;
use domain::documents::CoupaStatus;
use domain::explain;
use domain::ids::{EntityCode, InvoiceId, QadInvoiceIdentity};
use domain::instruction::Instruction;
use domain::lifecycle::{Event, InvoiceRecord, ParkReason, State};
use domain::money::Currency;
use domain::payments::{BillPayments, StatusMeaning};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::words;
use flows::bills::bill_key;
use flows::ports::{AuditEntry, Clock, Coupa, InvoiceHead, Qad, QadDocument, QadPayments, RecordKey};
use flows::store::load;
use futures_util::{StreamExt, TryStreamExt, stream};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Look-ups in QAD at the same time; the connection's pace holds them back further.
const LOOK_UPS_AT_ONCE: usize = 6;
/// How long a new invoice in Coupa may be unknown to the register before that is strange, in milliseconds: longer than the
/// poll's interval.
const UNKNOWN_MILLIS_MAX: i64 = 3_600_000;
/// How many days of QAD's payments are read.
const PAYMENT_DAYS: i64 = 31;
const DAY_MILLIS: i64 = 86_400_000;
/// The kind of a document whose total is not the invoice's.
const AMOUNT_DIFFERS: &str = "amount-differs";
/// The kind of a payment that nothing explains.
const NOT_SHOWN: &str = "paid-in-qad-not-in-coupa";
/// QAD pays what Coupa pays: nothing explains that away.
const PAID_TWICE: &str = "paid-twice";

#[derive(Debug, Args)]
pub(crate) struct ReconcileOptions {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    list: ListOptions,
}

/// One difference between the two sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Difference {
    /// What kind, as a stable word.
    kind: &'static str,
    /// Whether the product itself says why, and who or what ends it.
    explained: bool,
    invoice: u64,
    reference: String,
    currency: String,
    amount: String,
    /// In words.
    what: String,
}

impl Difference {
    /// Its amount; `None` of a document that nobody has read yet.
    fn money(&self) -> Option<(Decimal, Currency)> {
        Some((self.amount.parse().ok()?, self.currency.parse().ok()?))
    }
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

fn identity_of(entity: &EntityCode, record: &InvoiceRecord) -> Option<QadInvoiceIdentity> {
    let summary = record.summary.as_ref()?;
    Some(QadInvoiceIdentity {
        entity: entity.clone(),
        supplier: summary.supplier_number.as_deref()?.trim().parse().ok()?,
        reference: summary.reference.clone(),
        kind: summary.kind,
    })
}

fn difference(record: &InvoiceRecord, kind: &'static str, explained: bool, what: String) -> Difference {
    let summary = record.summary.as_ref();
    Difference {
        kind,
        explained,
        invoice: record.id.0,
        reference: summary.map_or_else(String::new, |s| s.reference.to_string()),
        currency: summary.map_or_else(String::new, |s| s.currency.to_string()),
        amount: summary.map_or_else(String::new, |s| s.total.normalize().to_string()),
        what,
    }
}

/// What one invoice differs in, between what the register says and what QAD shows. Pure.
fn judge(record: &InvoiceRecord, documents: &[QadDocument], listed: Option<&InvoiceHead>) -> Vec<Difference> {
    let summary = record.summary.as_ref();
    let difference = |kind, explained, what: String| difference(record, kind, explained, what);
    let numbers = || {
        documents
            .iter()
            .map(|document| {
                let number = document
                    .voucher
                    .as_ref()
                    .map_or_else(|| "without number".to_owned(), ToString::to_string);
                format!(
                    "{number} over {} {}",
                    document.total.normalize(),
                    document.currency
                )
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut found = Vec::new();
    if documents.len() > 1 {
        found.push(difference("two-in-qad", false, numbers()));
    }
    match &record.state {
        State::Posted { voucher, .. } | State::Exported { voucher, .. } => {
            match documents {
                [] => found.push(difference(
                    "missing-in-qad",
                    false,
                    format!(
                        "posted as {voucher}; QAD finds no document of this supplier, reference and type"
                    ),
                )),
                documents
                    if !documents
                        .iter()
                        .any(|document| document.voucher.as_ref() == Some(voucher)) =>
                {
                    found.push(difference(
                        "voucher-differs",
                        false,
                        format!("posted as {voucher}; QAD has {}", numbers()),
                    ));
                }
                [document]
                    if summary
                        .is_some_and(|s| s.total != document.total || s.currency != document.currency) =>
                {
                    // What QAD rounded otherwise was accepted with the very total that it has.
                    found.push(difference(
                        AMOUNT_DIFFERS,
                        record.posted_total == Some(document.total),
                        format!("QAD has {}", numbers()),
                    ));
                }
                _ => {}
            }
            if matches!(record.state, State::Posted { .. }) {
                found.push(difference(
                    "on-its-way",
                    true,
                    "being marked exported in Coupa".to_owned(),
                ));
            } else if listed.is_some_and(|head| head.status == CoupaStatus::Approved) {
                found.push(difference(
                    "exported-flag-missing",
                    false,
                    "in QAD, and Coupa lists it as not exported".to_owned(),
                ));
            }
        }
        State::Parked {
            reason: ParkReason::InQad { problem, .. },
        } => found.push(difference("waits-for-a-person", true, problem.to_string())),
        State::Approved => found.push(difference("on-its-way", true, explain::sentence(record))),
        State::Voided { .. } if documents.is_empty() => {}
        State::Received { .. }
        | State::Held { .. }
        | State::Parked { .. }
        | State::Rejected { .. }
        | State::Voided { .. } => {
            let codes = record.state.codes().join(", ");
            let (kind, explained) = match (&record.state, documents.is_empty()) {
                // A document that the product itself found and parked the invoice for is explained by that.
                (State::Parked { .. }, false)
                    if codes.contains("QAD_DOCUMENT") || codes.contains("DUPLICATE") =>
                {
                    ("waits-for-a-person", true)
                }
                (_, false) => ("in-qad-not-by-us", false),
                (State::Held { .. }, true) => ("waits-for-qad", true),
                (State::Parked { .. }, true) => ("waits-for-a-person", true),
                (State::Rejected { .. }, true) => ("taken-out", true),
                _ => ("on-its-way", true),
            };
            let what = if documents.is_empty() {
                codes
            } else {
                format!("{} {codes}; QAD has {}", record.state.word(), numbers())
            };
            found.push(difference(kind, explained, what));
        }
    }
    found
}

/// As [`judge`]; another total that a person has accepted is explained by that.
async fn judge_with_people(
    register: &DynamoRegister,
    record: &InvoiceRecord,
    documents: &[QadDocument],
    listed: Option<&InvoiceHead>,
) -> Result<Vec<Difference>, Failure> {
    let mut found = judge(record, documents, listed);
    if let ([document], Some(difference)) = (
        documents,
        found
            .iter_mut()
            .find(|difference| difference.kind == AMOUNT_DIFFERS),
    ) && let Some(Instruction { by, reason }) =
        accepted(&records::trail(register, record.id).await?, document)
    {
        difference.explained = true;
        difference.what = format!("{}; accepted by {by}: {reason}", difference.what);
    }
    Ok(found)
}

/// Who took this document, with the very total that it has now, for the invoice's although the totals differ.
fn accepted(entries: &[AuditEntry], document: &QadDocument) -> Option<Instruction> {
    let total = format!("{} {} in QAD", document.total.normalize(), document.currency);
    entries
        .iter()
        .filter_map(|entry| serde_json::from_str::<Vec<Event>>(&entry.events).ok())
        .flatten()
        .find_map(|event| match event {
            Event::Adopted {
                voucher,
                instruction,
                difference,
            } if document.voucher.as_ref() == Some(&voucher) && difference.starts_with(&total) => {
                Some(instruction)
            }
            _ => None,
        })
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

/// What QAD holds under the identity of an invoice.
pub(crate) async fn documents_of(
    systems: &Systems,
    record: &InvoiceRecord,
) -> Result<Vec<QadDocument>, Failure> {
    let Some((entity, qad)) = systems.books_of(record) else {
        return Err(Failure::NotFound(
            Problem::new(
                "ENTITY_NOT_CONFIGURED",
                "The invoice's entity is none of this connection's any more.",
            )
            .field("entity")
            .actual(record.entity.as_ref().map_or("", EntityCode::as_str)),
        ));
    };
    match identity_of(entity, record) {
        Some(identity) => qad.find_invoices(&identity).await.map_err(unread),
        // Without a supplier in QAD there can be nothing of it there.
        None => Ok(Vec::new()),
    }
}

/// What makes an invoice one in QAD, however its codes are written.
type Folded = (String, String, String, String);

fn folded(identity: &QadInvoiceIdentity) -> Folded {
    (
        identity.entity.folded(),
        identity.supplier.folded(),
        identity.reference.folded(),
        identity.kind.to_string(),
    )
}

/// What QAD has paid of our invoices in the last weeks, by identity.
async fn paid_in_qad(
    systems: &Systems,
    now: Timestamp,
) -> Result<BTreeMap<Folded, (Currency, Decimal)>, Failure> {
    let since = now
        .plus_millis(PAYMENT_DAYS.saturating_mul(DAY_MILLIS).saturating_neg())
        .date_utc();
    let mut paid: BTreeMap<_, (Currency, Decimal)> = BTreeMap::new();
    // One entity may pay for another: both may show the payment.
    let mut seen = BTreeSet::new();
    for (_, qad) in systems.books() {
        let scan = qad.payments_since(since).await.map_err(unread)?;
        for allocation in scan.allocations {
            let counts =
                systems.document.payments.policy.meaning_of(&allocation.status) == StatusMeaning::Counts;
            if !counts || !seen.insert(allocation.key) {
                continue;
            }
            // What is shown in the invoice's currency is compared with what Coupa shows in it.
            let amount = allocation.in_invoice_currency.unwrap_or(allocation.allocated);
            let sum = paid
                .entry(folded(&allocation.invoice))
                .or_insert((allocation.currency, Decimal::ZERO));
            sum.1 = sum.1.saturating_add(amount).saturating_add(allocation.discount);
        }
    }
    Ok(paid)
}

/// What was paid in QAD and is not shown in Coupa. A bill on its way is explained.
async fn judge_payment(
    register: &DynamoRegister,
    record: &InvoiceRecord,
    paid: (Currency, Decimal),
) -> Result<Option<Difference>, Failure> {
    let bill = load::<BillPayments>(register, bill_key(record.id))
        .await
        .map_err(unfinished)?;
    let difference = |kind: &'static str, what: String| {
        Some(Difference {
            kind,
            explained: kind != NOT_SHOWN && kind != PAID_TWICE,
            invoice: record.id.0,
            reference: record
                .summary
                .as_ref()
                .map_or_else(String::new, |s| s.reference.to_string()),
            currency: paid.0.to_string(),
            amount: paid.1.normalize().to_string(),
            what,
        })
    };
    let Some(bill) = bill else {
        return Ok(difference(
            NOT_SHOWN,
            "no payment of it is known here; run poll-payments".to_owned(),
        ));
    };
    let bill = bill.document;
    // In the bill's ledger from before the days that are read there may be more; less is a difference.
    let settled = bill.settled_amount().unwrap_or_default();
    let behind = if paid.1.is_sign_negative() {
        settled > paid.1
    } else {
        settled < paid.1
    };
    Ok(match (behind, &bill.parked, &bill.left_alone, bill.word()) {
        (_, Some(problem), ..) if problem.code == domain::payments::PAID_TWICE => {
            difference(PAID_TWICE, problem.to_string())
        }
        (false, ..) => None,
        (true, Some(problem), ..) => difference("payment-waits-for-a-person", problem.to_string()),
        (true, None, Some(problem), _) => difference("payment-left-alone", problem.to_string()),
        (true, None, None, "paying") => difference("payment-on-its-way", "being written to Coupa".to_owned()),
        _ => difference(NOT_SHOWN, format!("{} shown in Coupa", settled.normalize())),
    })
}

/// An invoice whose books were not asked.
fn out_of_reach(record: &InvoiceRecord) -> Difference {
    let entity = record.entity.as_ref().map_or("", EntityCode::as_str);
    let what = format!("entity {entity} is none of this connection's any more: its books were not asked");
    difference(record, "entity-not-configured", false, what)
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
    let systems = place.systems(&connection).await?;
    let now = SystemClock.now();
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

    let mut sides: BTreeMap<&'static str, Side> = BTreeMap::new();
    let mut differences = Vec::new();
    for record in strangers {
        count(&mut sides, record);
        differences.push(out_of_reach(record));
    }
    for (record, documents) in kept.iter().copied().zip(&looked_up) {
        let mut found = judge_with_people(&register, record, documents, listed.get(&record.id)).await?;
        if found.iter().any(|difference| !difference.explained) {
            // It may have moved on between the two readings: only what stays is told.
            let again = load::<InvoiceRecord>(&register, RecordKey::Invoice(record.id))
                .await
                .map_err(unfinished)?;
            if let Some(again) = again {
                let documents = documents_of(&systems, &again.document).await?;
                let listed = listed.get(&record.id).filter(|_| again.document == *record);
                found = judge_with_people(&register, &again.document, &documents, listed).await?;
            }
        }
        differences.extend(found);
        count(&mut sides, record);
        for document in documents {
            sides
                .entry("in QAD")
                .or_default()
                .add(document.currency, document.total);
        }
        let books = systems.books_of(record);
        let identity = books.and_then(|(entity, _)| identity_of(entity, record));
        let paid = identity.and_then(|identity| paid.get(&folded(&identity)));
        if let Some((currency, amount)) = paid {
            sides.entry("paid in QAD").or_default().add(*currency, *amount);
            differences.extend(judge_payment(&register, record, (*currency, *amount)).await?);
        }
    }
    if options.filter.is_empty() {
        for head in listed
            .values()
            .filter(|head| !known.iter().any(|record| record.id == head.id))
        {
            let explained = now.millis_since(head.updated_at) < UNKNOWN_MILLIS_MAX;
            differences.push(Difference {
                kind: "only-in-coupa",
                explained,
                invoice: head.id.0,
                reference: String::new(),
                currency: String::new(),
                amount: String::new(),
                what: format!(
                    "{:?} in Coupa since {}, not known here yet",
                    head.status,
                    explain::instant(head.updated_at)
                ),
            });
        }
    }
    tell(&sides, &differences, &options.list, out)?;
    let unexplained = differences
        .iter()
        .filter(|difference| !difference.explained)
        .count();
    if unexplained == 0 {
        Ok(())
    } else {
        Err(Failure::Differs(format!(
            "UNEXPLAINED_DIFFERENCES: {unexplained}"
        )))
    }
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
                one.kind.into(),
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
    use domain::lifecycle::Voucher;
    use sandbox::world::qad::ENTITIES;

    fn document(number: u64, total: i64) -> QadDocument {
        QadDocument {
            voucher: Some(Voucher {
                year: 2026,
                daybook: "SI".into(),
                number,
            }),
            identity: QadInvoiceIdentity {
                entity: "10USACO".parse().unwrap(),
                supplier: "10S1001".parse().unwrap(),
                reference: "A".parse().unwrap(),
                kind: domain::ids::DocumentKind::Invoice,
            },
            currency: "USD".parse().unwrap(),
            total: Decimal::from(total),
            description: "Coupa 7".into(),
        }
    }

    fn kinds(record: &InvoiceRecord, documents: &[QadDocument]) -> Vec<(&'static str, bool)> {
        judge(record, documents, None)
            .iter()
            .map(|found| (found.kind, found.explained))
            .collect()
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
        assert_eq!(out_of_reach(&stranger).kind, "entity-not-configured");
        // With one entity everything is that one's.
        assert_eq!(documents_of(&bench.plain(), &of(None)).await.unwrap().len(), 1);
    }

    #[test]
    fn every_difference_has_its_name() {
        let posted = record(7, "A", 100).after(&Event::Exported, Timestamp(0)).unwrap();
        assert_eq!(kinds(&posted, &[document(100_007, 100)]), []);
        assert_eq!(kinds(&posted, &[]), [("missing-in-qad", false)]);
        assert_eq!(
            kinds(&posted, &[document(100_007, 101)]),
            [("amount-differs", false)]
        );
        let mut rounded_by_qad = posted.clone();
        rounded_by_qad.posted_total = Some(Decimal::from(101));
        for (total, explained) in [(101, true), (102, false)] {
            assert_eq!(
                kinds(&rounded_by_qad, &[document(100_007, total)]),
                [("amount-differs", explained)]
            );
        }
        assert_eq!(
            kinds(&posted, &[document(100_008, 100)]),
            [("voucher-differs", false)]
        );
        assert_eq!(
            kinds(&posted, &[document(100_007, 100), document(100_008, 100)]),
            [("two-in-qad", false)]
        );
        let held = Event::Held {
            exceptions: vec![],
            awaits: vec![],
            tolerance_version: String::new(),
        };
        let held = InvoiceRecord::new(InvoiceId(8), Timestamp(0))
            .after(&held, Timestamp(0))
            .unwrap();
        assert_eq!(kinds(&held, &[]), [("waits-for-qad", true)]);
        assert_eq!(kinds(&held, &[document(1, 1)]), [("in-qad-not-by-us", false)]);
    }

    #[test]
    fn another_total_is_explained_by_who_accepted_it_and_by_no_later_one() {
        let adopted = Event::Adopted {
            voucher: document(100_007, 101).voucher.unwrap(),
            instruction: Instruction::new("kim", "freight was keyed on top").unwrap(),
            difference: "101 USD in QAD, 100 USD in Coupa".to_owned(),
        };
        let entries = [AuditEntry {
            document: "invoice/7".to_owned(),
            sequence: 1,
            at: Timestamp(0),
            events: serde_json::to_string(&[adopted]).unwrap(),
            previous_hash: String::new(),
            hash: String::new(),
        }];
        let by = |document| accepted(&entries, &document).map(|instruction| instruction.by);
        assert_eq!(by(document(100_007, 101)).as_deref(), Some("kim"));
        assert_eq!(by(document(100_007, 102)), None);
        assert_eq!(by(document(100_008, 101)), None);
    }

    #[test]
    fn a_flag_that_was_reset_shows() {
        let posted = record(7, "A", 100).after(&Event::Exported, Timestamp(0)).unwrap();
        let head = InvoiceHead {
            id: posted.id,
            status: CoupaStatus::Approved,
            updated_at: Timestamp(0),
            out_of_scope: false,
        };
        let found = judge(&posted, &[document(100_007, 100)], Some(&head));
        assert_eq!(
            found.first().map(|found| found.kind),
            Some("exported-flag-missing")
        );
    }
}
