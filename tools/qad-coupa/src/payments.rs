//! `payments`: what QAD paid of each bill, and what Coupa shows of it.

use crate::output::{Cell, Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, records, view};
use clap::{Args, Subcommand};
use domain::explain;
use domain::ids::InvoiceId;
use domain::lifecycle::InvoiceRecord;
use domain::payments::{
    Allocation, AllocationState, BillPayments, EntryKind, PaymentEvent, UnmatchedPayments, Written,
};
use domain::problem::Problem;
use domain::words;
use flows::bills::bill_key;
use flows::index::entries;
use flows::ports::{AuditEntry, Books, Collection, RecordKey};
use flows::store::{Document, load, verify_chain};
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The words of a bill's state.
const STATES: [&str; 5] = ["settled", "paying", "waiting", "parked", "left-alone"];

/// What is asked about payments.
#[derive(Debug, Args)]
#[command(after_help = "Example: qad-coupa payments show INV-55812")]
pub(crate) struct PaymentsOptions {
    /// The payments of supplier invoices that none of our invoices owns.
    #[arg(long)]
    unmatched: bool,
    /// The rows of QAD's payments that the last poll could not read or record.
    #[arg(long, conflicts_with = "unmatched")]
    unreadable: bool,
    /// Only bills in this state.
    #[arg(long, value_parser = STATES)]
    state: Option<String>,
    #[command(flatten)]
    list: ListOptions,
    #[command(subcommand)]
    verb: Option<PaymentsVerb>,
}

#[derive(Debug, Subcommand)]
enum PaymentsVerb {
    /// One bill: its QAD payments, Coupa's entries, and everything that happened.
    Show {
        /// Coupa's id, or the supplier's invoice number.
        invoice: String,
    },
}

/// `payments`.
pub(crate) async fn run(
    place: &PlaceArguments,
    options: &PaymentsOptions,
    out: &Output,
) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = &place.register(&place.connection().await?)?;
    match &options.verb {
        Some(PaymentsVerb::Show { invoice }) => show(register, invoice, out).await,
        None if options.unreadable => list_unreadable(register, out).await,
        None if options.unmatched => list_unmatched(register, &options.list, out).await,
        None => list(register, options, out).await,
    }
}

async fn collection<D: DeserializeOwned>(register: &dyn Books, which: Collection) -> Result<Vec<D>, Failure> {
    Ok(records::readable(&records::members(register, which).await?))
}

/// The bills that have payments, or those of them in one state, in the order of their invoices.
pub(crate) async fn bills(register: &dyn Books, state: Option<&str>) -> Result<Vec<BillPayments>, Failure> {
    let mut bills: Vec<BillPayments> = if state == Some("parked") && records::is_whole(register).await? {
        let ids = entries::ids(register, entries::PARKED_BILLS)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        let invoices = ids.iter().filter_map(|id| id.parse().ok()).map(InvoiceId);
        let keys: Vec<RecordKey> = invoices.map(bill_key).collect();
        let found = records::of_keys(register, &keys).await?;
        records::readable(&found)
    } else {
        collection(register, Collection::Bill).await?
    };
    bills.retain(|bill| state.is_none_or(|state| bill.word() == state));
    bills.sort_by_key(|bill| bill.invoice);
    Ok(bills)
}

/// All payments that nobody owns.
pub(crate) async fn unmatched(register: &dyn Books) -> Result<Vec<UnmatchedPayments>, Failure> {
    let mut unmatched: Vec<UnmatchedPayments> = collection(register, Collection::UnmatchedPayment).await?;
    // All of it may have moved to another invoice.
    unmatched.retain(|one| !one.allocations.is_empty());
    Ok(unmatched)
}

async fn list(register: &dyn Books, options: &PaymentsOptions, out: &Output) -> Result<(), Failure> {
    let bills = bills(register, options.state.as_deref()).await?;
    let keys: Vec<RecordKey> = bills
        .iter()
        .map(|bill| RecordKey::Invoice(bill.invoice))
        .collect();
    let mut references: BTreeMap<InvoiceId, String> = BTreeMap::new();
    for record in records::readable::<InvoiceRecord>(&records::of_keys(register, &keys).await?) {
        references.extend(
            record
                .summary
                .map(|summary| (record.id, summary.reference.to_string())),
        );
    }
    let row = |bill: &BillPayments| {
        let reference = references.get(&bill.invoice);
        Row::new(
            bill_json(bill, reference),
            vec![
                bill.invoice.to_string().into(),
                reference.cloned().unwrap_or_default().into(),
                money(bill, bill.total),
                statuses(bill).into(),
                in_coupa(bill).into(),
                bill.word().into(),
                problem_of(bill)
                    .map_or("", |problem| problem.code.as_str())
                    .into(),
            ],
        )
    };
    let waiting = unmatched(register).await?.len();
    let unreadable = unreadable(register).await?;
    let troubles = unreadable
        .iter()
        .map(|problem| format!("Could not be read or recorded: {problem}"));
    let sum = format!(
        "{}; unmatched payments of {} (--unmatched shows them)",
        words::count(bills.len(), "bill"),
        words::count(waiting, "supplier invoice")
    );
    let columns = [
        Column::word("Invoice"),
        Column::word("Reference"),
        Column::figure("Total"),
        Column::sentence("QAD's payments"),
        Column::sentence("Coupa shows"),
        Column::word("State"),
        Column::sentence("Why"),
    ];
    let listing = Listing::new(&columns, bills.iter().map(row).collect());
    out.list(listing.below(troubles.chain([sum])), &options.list)
}

/// The rows of QAD's payments that the last poll could not read or record.
pub(crate) async fn unreadable(register: &dyn Books) -> Result<Vec<Problem>, Failure> {
    flows::poll_payments::troubles(register).await.map_err(unfinished)
}

async fn list_unreadable(register: &dyn Books, out: &Output) -> Result<(), Failure> {
    let problems = unreadable(register).await?;
    out.value(
        || json!(problems),
        |out| {
            for problem in &problems {
                out.line(&problem.to_string());
            }
            out.line(&format!(
                "{} of QAD's payments could not be read or recorded by the last poll; each is read again",
                words::count(problems.len(), "row")
            ));
        },
    );
    Ok(())
}

/// One row per payment; programs get one object per supplier invoice.
async fn list_unmatched(register: &dyn Books, options: &ListOptions, out: &Output) -> Result<(), Failure> {
    let unmatched = unmatched(register).await?;
    if out.is_json() {
        out.json(&unmatched.iter().map(unmatched_json).collect());
        return Ok(());
    }
    let row = |one: &UnmatchedPayments, paid: &Allocation| {
        Row::new(
            Value::Null,
            vec![
                one.invoice.supplier.to_string().into(),
                one.invoice.reference.to_string().into(),
                one.invoice.kind.to_string().into(),
                paid.key.to_string().into(),
                paid.status.to_string().into(),
                Cell::Day(Some(paid.payment_date)),
                Cell::Money(Some((paid.allocated, paid.currency))),
            ],
        )
    };
    let rows = unmatched
        .iter()
        .flat_map(|one| one.allocations.values().map(move |paid| row(one, paid)))
        .collect();
    let columns = [
        Column::word("Supplier"),
        Column::word("Reference"),
        Column::word("Type"),
        Column::word("Payment"),
        Column::word("Status"),
        Column::word("Date"),
        Column::figure("Amount"),
    ];
    let sum = format!(
        "{} in QAD whose payments belong to no invoice of ours",
        words::count(unmatched.len(), "supplier invoice")
    );
    out.list(Listing::new(&columns, rows).below([sum]), options)
}

async fn show(register: &dyn Books, text: &str, out: &Output) -> Result<(), Failure> {
    let record = records::one(register, text).await?;
    let loaded = load::<BillPayments>(register, bill_key(record.id))
        .await
        .map_err(unfinished)?;
    let Some(bill) = loaded.map(|loaded| loaded.document) else {
        return Err(Failure::NotFound(
            Problem::new(
                "BILL_NOT_FOUND",
                "Nothing to do: QAD has shown no payment of it yet.",
            )
            .field(format!("Coupa invoice {}", record.id))
            .expected("a payment in QAD")
            .actual("none"),
        ));
    };
    let entries = register
        .audit(&bill.audit_name())
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    out.value(
        || {
            let summary = record.summary.as_ref();
            let reference = summary.map(|summary| summary.reference.to_string());
            let history = entries.iter().map(view::entry_json).collect();
            view::with(bill_json(&bill, reference.as_ref()), "history", history)
        },
        |out| tell(out, &record, &bill, &entries),
    );
    match verify_chain(&entries) {
        Ok(_) => Ok(()),
        Err(problem) => Err(Failure::Differs(problem.to_string())),
    }
}

fn tell(out: &Output, record: &InvoiceRecord, bill: &BillPayments, entries: &[AuditEntry]) {
    out.line(&explain::title(record));
    let words = bill.paid_state().as_ref().map(explain::paid_words);
    out.line(&words.unwrap_or_else(|| "Nothing is paid yet.".to_owned()));
    if let Some(problem) = problem_of(bill) {
        out.line(&problem.to_string());
    }
    out.gap();
    let row = |state: &AllocationState| {
        let latest = &state.latest;
        vec![
            latest.key.to_string().into(),
            latest.status.to_string().into(),
            Cell::Day(Some(latest.payment_date)),
            money(bill, latest.allocated),
            money(bill, latest.discount),
            match state.written {
                Written::Nothing => "nothing".to_owned(),
                Written::Paid => amount(bill, state.written_amount),
                Written::TakenBack => format!("{} and taken back", amount(bill, state.written_amount)),
            }
            .into(),
        ]
    };
    let columns = [
        Column::word("QAD's payment"),
        Column::word("Status"),
        Column::word("Date"),
        Column::figure("Allocated"),
        Column::figure("Discount"),
        Column::sentence("In Coupa"),
    ];
    out.texts(&columns, in_order(bill).into_iter().map(row).collect());
    out.line(&in_coupa(bill));
    out.gap();
    for entry in entries {
        let at = explain::instant(entry.at);
        match serde_json::from_str::<Vec<PaymentEvent>>(&entry.events) {
            Ok(events) => {
                for event in &events {
                    out.line(&format!("{at}  {}", told(event)));
                }
            }
            Err(error) => out.line(&format!("{at}  entry {} cannot be read: {error}", entry.sequence)),
        }
    }
}

fn told(event: &PaymentEvent) -> String {
    match event {
        PaymentEvent::Read { allocation } => format!(
            "QAD shows {}: {} {}, discount {}",
            allocation.key,
            allocation.status,
            words::money(allocation.allocated, allocation.currency.as_str()),
            words::figure(allocation.discount)
        ),
        PaymentEvent::Balance { balance } => {
            let open = match balance.is_closed() {
                Some(true) => "closed",
                Some(false) => "open",
                None => "not said to be open or closed",
            };
            match balance.balance {
                Some(owed) => format!(
                    "QAD has the invoice {open}, {} owed",
                    words::money(owed, balance.currency.as_str())
                ),
                None => format!("QAD has the invoice {open}"),
            }
        }
        PaymentEvent::CoupaRead { entries } => format!("Coupa's own {entries} entries were read"),
        PaymentEvent::Ready { entry, .. } => {
            format!("to be written: {}, {}", entry.amount_text(), entry.notes)
        }
        PaymentEvent::Writing { step, fence } => format!("entry in Coupa {} (claim {fence})", step.name()),
        PaymentEvent::Written {
            key,
            kind,
            amount,
            paid,
        } => {
            let what = match kind {
                EntryKind::Payment => "payment",
                EntryKind::TakingBack => "negative entry",
                EntryKind::Flag => "paid flag",
            };
            format!(
                "in Coupa: {what} {} of {key}, paid {paid}",
                words::figure(*amount)
            )
        }
        PaymentEvent::Parked { problem } => format!("parked for a person: {problem}"),
        PaymentEvent::Reconsidered => "looked at anew, because a person asked".to_owned(),
        PaymentEvent::LeftAlone { problem } => format!("left alone: {problem}"),
        PaymentEvent::GivenBack { keys } => format!(
            "given back, because the invoice was voided before it came into QAD: {} payments",
            keys.len()
        ),
        PaymentEvent::Moved { key, to } => format!("QAD has moved {key} to supplier invoice {to}"),
        PaymentEvent::Linked { invoice } => {
            format!("payments that waited without an owner belong to Coupa invoice {invoice}")
        }
    }
}

fn money(bill: &BillPayments, amount: Decimal) -> Cell {
    Cell::Money(Some((amount, bill.currency)))
}

fn amount(bill: &BillPayments, amount: Decimal) -> String {
    words::money(amount, bill.currency.as_str())
}

fn in_order(bill: &BillPayments) -> Vec<&AllocationState> {
    let mut states: Vec<&AllocationState> = bill.allocations.values().collect();
    states.sort_by_key(|state| (state.latest.payment_date, state.order));
    states
}

/// `2 Paid, 1 Void`.
fn statuses(bill: &BillPayments) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for state in bill.allocations.values() {
        let count = counts.entry(state.latest.status.to_string()).or_default();
        *count = count.saturating_add(1);
    }
    let words: Vec<String> = counts
        .iter()
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    words.join(", ")
}

/// The sum of the entries that are proven to be in Coupa.
fn written(bill: &BillPayments) -> Decimal {
    bill.allocations
        .values()
        .filter(|state| state.written == Written::Paid)
        .fold(Decimal::ZERO, |sum, state| {
            sum.saturating_add(state.written_amount)
        })
}

fn in_coupa(bill: &BillPayments) -> String {
    let flag = if bill.paid_flag == Some(true) {
        "paid"
    } else {
        "not paid"
    };
    format!("{}, {flag}", amount(bill, written(bill)))
}

/// Why it is parked, left alone or delayed.
fn problem_of(bill: &BillPayments) -> Option<&Problem> {
    let of_entry = || {
        let entry = bill.entry.as_ref().filter(|entry| !entry.is_finished());
        entry.and_then(|entry| entry.problem.as_ref())
    };
    bill.left_alone
        .as_ref()
        .or(bill.parked.as_ref())
        .or(bill.delay.as_ref())
        .or_else(of_entry)
}

/// One bill in `payments --json`. Names are stable.
fn bill_json(bill: &BillPayments, reference: Option<&String>) -> Value {
    let allocations: Vec<Value> = in_order(bill)
        .into_iter()
        .map(|state| {
            let latest = &state.latest;
            json!({
                "key": latest.key,
                "status": latest.status,
                "payment_date": latest.payment_date,
                "last_modified": latest.last_modified,
                "reference": latest.reference,
                "allocated": latest.allocated.normalize().to_string(),
                "discount": latest.discount.normalize().to_string(),
                "currency": latest.currency,
                "written": state.written,
                "written_amount": state.written_amount.normalize().to_string(),
            })
        })
        .collect();
    json!({
        "invoice": bill.invoice,
        "reference": reference,
        "total": bill.total.normalize().to_string(),
        "currency": bill.currency,
        "state": bill.word(),
        "code": problem_of(bill).map(|problem| problem.code.clone()),
        "problem": problem_of(bill),
        "settled": bill.settled_amount().map(|settled| settled.normalize().to_string()),
        "in_coupa": written(bill).normalize().to_string(),
        "paid": bill.paid_flag,
        "closed_in_qad": bill.is_closed(),
        "balance_in_qad": bill.qad.as_ref().and_then(|qad| qad.balance).map(|owed| owed.normalize().to_string()),
        "allocations": allocations,
    })
}

fn unmatched_json(one: &UnmatchedPayments) -> Value {
    let allocations: Vec<Value> = one
        .allocations
        .values()
        .map(|paid| {
            json!({
                "key": paid.key,
                "status": paid.status,
                "payment_date": paid.payment_date,
                "reference": paid.reference,
                "allocated": paid.allocated.normalize().to_string(),
                "discount": paid.discount.normalize().to_string(),
                "currency": paid.currency,
            })
        })
        .collect();
    json!({
        "entity": one.invoice.entity,
        "supplier": one.invoice.supplier,
        "reference": one.invoice.reference,
        "type": one.invoice.kind.to_string(),
        "allocations": allocations,
    })
}
