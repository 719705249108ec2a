//! The audit trail as evidence: shown, verified, exported.

use crate::output::Output;
use crate::place::{Place, PlaceArguments, unfinished};
use crate::records::{self, Filter};
use crate::{Failure, terminal, view};
use aws::clock::SystemClock;
use aws::dynamo::DynamoRegister;
use clap::{Args, Subcommand};
use domain::explain;
use domain::lifecycle::{ChainEnd, Event, InvoiceRecord, State};
use domain::lookups::LookupValueRecord;
use domain::payments::{BillPayments, UnmatchedPayments};
use domain::plans::PlanRecord;
use domain::problem::Problem;
use domain::suppliers::SupplierRecord;
use domain::time::Date;
use domain::words;
use flows::bills::bill_key;
use flows::connection_settings;
use flows::month_end;
use flows::opening;
use flows::owner;
use flows::pause::Flow;
use flows::ports::{AuditEntry, Clock, Collection, RecordKey, Register, StoredRecord};
use flows::restore;
use flows::store::{Document, invoice_audit_name, load, parse, verify_chain};
use flows::sync_suppliers::QUARANTINE;
use serde::Deserialize;
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

/// How many months back signatures are verified.
const MONTHS_BACK: usize = 60;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Every entry of one invoice: when, what, and the hash that chains it.
    Show(crate::invoices::Key),
    /// Verifies every chain, of invoices, payments, suppliers, lookups, pauses and signed months, and that replaying an invoice's gives
    /// the state the register holds. Ends with 4 when one does not.
    Verify {
        /// One invoice only: any of its keys.
        key: Option<String>,
    },
    /// All entries as NDJSON, one object per line: of invoices and their payments, and without a filter those of suppliers,
    /// lookups, payments of no invoice and pauses too.
    #[command(after_help = "Example: qad-coupa audit export --out audit.ndjson")]
    Export(ExportOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ExportOptions {
    /// Into this file, which must not exist; left out, to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
}

/// `audit …`.
pub(crate) async fn run(place: &PlaceArguments, verb: AuditVerb, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    match verb {
        AuditVerb::Show(key) => {
            let record = records::one(&register, &key.key).await?;
            let entries = records::trail(&register, record.id).await?;
            if out.is_json() {
                for entry in &entries {
                    terminal::say(&json!(entry).to_string());
                }
            } else {
                out.line(&explain::title(&record));
                for entry in &entries {
                    for line in view::timeline(std::slice::from_ref(entry)) {
                        out.line(&format!("{:>4}  {line}", entry.sequence));
                    }
                    out.line(&format!("      hash {}", entry.hash));
                }
            }
            check(&record, &entries).map_err(|problem| Failure::Differs(problem.to_string()))
        }
        AuditVerb::Verify { key } => verify(&register, key.as_deref(), out).await,
        AuditVerb::Export(options) => export(&register, &options).await,
    }
}

/// Whether the trail is whole, ends where the record says, and tells the state the record is in.
fn check(record: &InvoiceRecord, entries: &[AuditEntry]) -> Result<(), Problem> {
    ends_at(&invoice_audit_name(record.id), entries, &record.chain)?;
    let mut events: Vec<Event> = Vec::new();
    for entry in entries {
        let told: Vec<Event> = serde_json::from_str(&entry.events).map_err(|error| {
            Problem::new(
                "AUDIT_ENTRY_UNREADABLE",
                "Read it with the version that wrote it.",
            )
            .field(format!("{} entry {}", entry.document, entry.sequence))
            .actual(error.to_string())
        })?;
        events.extend(told);
    }
    let problem = |actual: String| {
        Problem::new(
            "AUDIT_STATE_DIFFERS",
            "Keep both tables as they are and find out who wrote to them.",
        )
        .field(invoice_audit_name(record.id))
        .expected(record.state.word())
        .actual(actual)
    };
    let replayed = State::replay(&events).map_err(|illegal| problem(illegal.to_string()))?;
    if replayed == record.state {
        Ok(())
    } else {
        Err(problem(replayed.word().to_owned()))
    }
}

fn ends_at(document: &str, entries: &[AuditEntry], expected: &ChainEnd) -> Result<(), Problem> {
    let end = verify_chain(entries)?;
    if end == *expected {
        return Ok(());
    }
    Err(Problem::new(
        "AUDIT_CHAIN_CUT",
        "Keep the table as it is and find out who wrote to it.",
    )
    .field(document)
    .expected(format!(
        "{} entries ending with {}",
        expected.sequence, expected.hash
    ))
    .actual(format!("{} entries ending with {}", end.sequence, end.hash)))
}

/// A document with an audit chain that is no invoice.
pub(crate) struct Other {
    /// Where its record is.
    pub(crate) key: RecordKey,
    /// Its name in the audit trail.
    pub(crate) name: String,
    /// Where its record says that its chain ends.
    pub(crate) end: ChainEnd,
}

/// What every record with a chain holds of it.
#[derive(Deserialize)]
struct Tail {
    chain: ChainEnd,
}

fn other<D: Document>(stored: &StoredRecord) -> Result<Other, Problem> {
    let mut document: D = parse(stored).map_err(|error| error.problem())?;
    Ok(Other {
        key: stored.key.clone(),
        name: document.audit_name(),
        end: document.chain().clone(),
    })
}

/// A member of a collection as a document with a chain; `None` for what has none of its own: a mark that an invoice waits,
/// or why a supplier cannot be read.
fn member(collection: Collection, stored: &StoredRecord) -> Option<Result<Other, Problem>> {
    match collection {
        Collection::Bill => Some(other::<BillPayments>(stored)),
        Collection::UnmatchedPayment => Some(other::<UnmatchedPayments>(stored)),
        Collection::Supplier => match &stored.key {
            RecordKey::Entry { id, .. } if id.starts_with(QUARANTINE) => None,
            _ => Some(other::<SupplierRecord>(stored)),
        },
        Collection::AwaitedSupplier => None,
        Collection::LookupValue => Some(other::<LookupValueRecord>(stored)),
        Collection::LookupPlan | Collection::SupplierPlan => Some(other::<PlanRecord>(stored)),
    }
}

/// Every document with a chain that is no invoice, and what is wrong with those that cannot be read.
pub(crate) async fn others(register: &DynamoRegister) -> Result<(Vec<Other>, Vec<Problem>), Failure> {
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for collection in Collection::ALL {
        let members = records::members(register, collection).await?;
        for read in members.iter().filter_map(|stored| member(collection, stored)) {
            match read {
                Ok(other) => found.push(other),
                Err(problem) => unreadable.push(problem),
            }
        }
    }
    let alone = Flow::ALL
        .iter()
        .map(|flow| (flow.key(), flow.audit_name()))
        .chain([
            (opening::key(), opening::AUDIT_NAME.to_owned()),
            (
                connection_settings::key(),
                connection_settings::AUDIT_NAME.to_owned(),
            ),
            (owner::key(), owner::AUDIT_NAME.to_owned()),
            (restore::key(), restore::AUDIT_NAME.to_owned()),
        ])
        .chain(months(SystemClock.now().date_utc()));
    for (key, name) in alone {
        if let Some(Some(end)) = told_apart(tail(register, key.clone()).await, &mut unreadable)? {
            found.push(Other { key, name, end });
        }
    }
    Ok((found, unreadable))
}

/// The months that may have been signed off: this one and those of the years before that are looked back on.
fn months(today: Date) -> Vec<(RecordKey, String)> {
    let before = |first: &Date| first.yesterday().ok().map(|last| last.first_of_month());
    let back = std::iter::successors(Some(today.first_of_month()), before).take(MONTHS_BACK);
    let names = back.map(|first| first.strftime("%Y-%m").to_string());
    names
        .map(|month| (month_end::key(&month), month_end::audit_name(&month)))
        .collect()
}

/// Where the register says that a chain ends now; `None` when the record is gone.
async fn tail(register: &DynamoRegister, key: RecordKey) -> Result<Option<ChainEnd>, Failure> {
    let read = register
        .read(&[key])
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    match read.into_iter().flatten().next() {
        Some(stored) => Ok(Some(
            parse::<Tail>(&stored).map_err(|error| error.problem())?.chain,
        )),
        None => Ok(None),
    }
}

async fn entries_of(register: &DynamoRegister, name: &str) -> Result<Vec<AuditEntry>, Failure> {
    register.audit(name).await.map_err(records::unanswered)
}

/// What was read; what this version cannot read is put beside the others that it cannot, and they go on.
pub(crate) fn told_apart<T>(
    read: Result<T, Failure>,
    unreadable: &mut Vec<Problem>,
) -> Result<Option<T>, Failure> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(Failure::Failed(problems)) => {
            unreadable.extend(problems);
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// How many entries an invoice has, and what is wrong with its chain or its state.
async fn check_invoice(
    register: &DynamoRegister,
    record: &InvoiceRecord,
) -> Result<(usize, Option<Problem>), Failure> {
    let entries = records::trail(register, record.id).await?;
    if check(record, &entries).is_ok() {
        return Ok((entries.len(), None));
    }
    // It may have moved on between the two reads; only what stays wrong is wrong.
    let again = records::one(register, &record.id.to_string()).await?;
    let entries = records::trail(register, record.id).await?;
    Ok((entries.len(), check(&again, &entries).err()))
}

/// How many entries a document has, and what is wrong with its chain.
async fn check_other(register: &DynamoRegister, other: &Other) -> Result<(usize, Option<Problem>), Failure> {
    let entries = entries_of(register, &other.name).await?;
    let found = ends_at(&other.name, &entries, &other.end).err();
    if found.is_none() {
        return Ok((entries.len(), None));
    }
    // It may have moved on between the two reads; only what stays wrong is wrong.
    let end = tail(register, other.key.clone()).await?;
    let entries = entries_of(register, &other.name).await?;
    let found = match end {
        Some(end) => ends_at(&other.name, &entries, &end).err(),
        None => verify_chain(&entries).err(),
    };
    Ok((entries.len(), found))
}

/// The payments of one invoice, if QAD has shown any.
async fn bill_of(register: &DynamoRegister, record: &InvoiceRecord) -> Result<Option<Other>, Failure> {
    let bill = load::<BillPayments>(register, bill_key(record.id))
        .await
        .map_err(unfinished)?;
    Ok(bill.map(|mut bill| Other {
        key: bill_key(record.id),
        name: bill.document.audit_name(),
        end: bill.document.chain().clone(),
    }))
}

async fn verify(register: &DynamoRegister, key: Option<&str>, out: &Output) -> Result<(), Failure> {
    let (records, others, mut problems) = match key {
        Some(key) => {
            let record = records::one(register, key).await?;
            let bill = bill_of(register, &record).await?;
            (vec![record], bill.into_iter().collect(), Vec::new())
        }
        None => {
            let (others, mut unreadable) = others(register).await?;
            let (records, broken) = records::everything(register).await?;
            unreadable.extend(broken);
            (records, others, unreadable)
        }
    };
    let mut entries_seen = 0usize;
    for record in &records {
        let checked = check_invoice(register, record).await;
        if let Some((entries, found)) = told_apart(checked, &mut problems)? {
            entries_seen = entries_seen.saturating_add(entries);
            problems.extend(found);
        }
    }
    for other in &others {
        let checked = check_other(register, other).await;
        if let Some((entries, found)) = told_apart(checked, &mut problems)? {
            entries_seen = entries_seen.saturating_add(entries);
            problems.extend(found);
        }
    }
    out.value(
        || {
            json!({ "invoices": records.len(), "others": others.len(), "entries": entries_seen, "broken": problems })
        },
        |out| {
            out.line(&format!(
                "{} invoices and {} other documents with {entries_seen} entries, {} broken",
                records.len(),
                others.len(),
                problems.len()
            ));
        },
    );
    if problems.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Err(Failure::Differs(told.join("\n")))
}

async fn export(register: &DynamoRegister, options: &ExportOptions) -> Result<(), Failure> {
    let records = records::kept(register, &options.filter, SystemClock.now()).await?;
    let failed = |path: &PathBuf, error: std::io::Error| {
        Failure::from(
            Problem::new(
                "FILE_NOT_WRITTEN",
                "Name a file that does not exist, in a folder that does.",
            )
            .field(path.display().to_string())
            .actual(error.to_string()),
        )
    };
    let mut file = match &options.out {
        Some(path) => Some((
            path,
            std::fs::File::create_new(path).map_err(|error| failed(path, error))?,
        )),
        None => None,
    };
    // Of all that there is when nothing was asked for; a filter is about invoices, and their payments follow them.
    let (others, mut unreadable) = if options.filter.is_empty() {
        others(register).await?
    } else {
        let (mut bills, mut unreadable) = (Vec::new(), Vec::new());
        for record in &records {
            bills.extend(told_apart(bill_of(register, record).await, &mut unreadable)?.flatten());
        }
        (bills, unreadable)
    };
    let names = records
        .iter()
        .map(|record| invoice_audit_name(record.id))
        .chain(others.iter().map(|other| other.name.clone()));
    let mut count = 0usize;
    for name in names {
        let entries = told_apart(entries_of(register, &name).await, &mut unreadable)?;
        for entry in entries.iter().flatten() {
            let line = json!(entry).to_string();
            match &mut file {
                Some((path, file)) => writeln!(file, "{line}").map_err(|error| failed(path, error))?,
                None => terminal::say(&line),
            }
            count = count.saturating_add(1);
        }
    }
    if let Some((path, _)) = &file {
        terminal::say(&format!(
            "{count} entries of {} and {} in {}",
            words::count(records.len(), "invoice"),
            words::count(others.len(), "other document"),
            path.display()
        ));
    }
    if unreadable.is_empty() {
        return Ok(());
    }
    // What could be read is written; what could not is named, and the export is not whole.
    Err(Failure::Failed(unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(collection: Collection, id: &str, body: &str) -> StoredRecord {
        StoredRecord {
            key: RecordKey::Entry {
                collection,
                id: id.to_owned(),
            },
            revision: 1,
            body: Ok(body.to_owned()),
        }
    }

    /// A kind of record whose chain nobody reads would be missing from the evidence without a word.
    #[test]
    fn every_collection_is_read_for_its_chain_but_what_has_none() {
        for collection in Collection::ALL {
            let read = member(collection, &stored(collection, "x", "{}"));
            let has_chain = collection != Collection::AwaitedSupplier;
            assert_eq!(read.is_some(), has_chain, "{collection:?}");
            assert!(
                read.is_none_or(|read| read.is_err()),
                "what cannot be read is told"
            );
        }
        let why = stored(Collection::Supplier, &format!("{QUARANTINE}7"), "{}");
        assert!(member(Collection::Supplier, &why).is_none());
    }

    #[test]
    fn a_switch_tells_where_its_chain_ends() {
        let hash = "a".repeat(64);
        let body = json!({ "flow": "invoices", "pause": null, "chain": { "sequence": 2, "hash": hash } });
        let record = StoredRecord {
            key: Flow::Invoices.key(),
            revision: 1,
            body: Ok(body.to_string()),
        };
        let tail: Tail = parse(&record).unwrap();
        assert_eq!((tail.chain.sequence, tail.chain.hash), (2, hash));
    }
}
