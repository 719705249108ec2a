//! The audit trail as evidence: shown, verified, exported.

use crate::place::{Place, PlaceArguments, unfinished};
use crate::records::{self, Filter};
use crate::{Failure, terminal, view};
use aws::clock::SystemClock;
use aws::dynamo::DynamoRegister;
use clap::{Args, Subcommand};
use domain::explain;
use domain::lifecycle::{ChainEnd, Event, InvoiceRecord, State};
use domain::problem::Problem;
use flows::bills::bill_key;
use flows::ports::{AuditEntry, Clock, RecordKey, Register};
use flows::store::{invoice_audit_name, load, verify_chain};
use serde_json::json;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Every entry of one invoice: when, what, and the hash that chains it.
    Show(crate::invoices::Key),
    /// Verifies every chain, and that replaying it gives the state the register holds. Ends with 4 when one does not.
    Verify {
        /// One invoice only: any of its keys.
        key: Option<String>,
    },
    /// All entries as NDJSON, one object per line.
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
pub(crate) async fn run(place: &PlaceArguments, verb: AuditVerb, json: bool) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    match verb {
        AuditVerb::Show(key) => {
            let record = records::one(&register, &key.key).await?;
            let entries = records::trail(&register, record.id).await?;
            if json {
                for entry in &entries {
                    terminal::say(&json!(entry).to_string());
                }
            } else {
                terminal::say(&explain::title(&record));
                for entry in &entries {
                    for line in view::timeline(std::slice::from_ref(entry)) {
                        terminal::say(&format!("{:>4}  {line}", entry.sequence));
                    }
                    terminal::say(&format!("      hash {}", entry.hash));
                }
            }
            check(&record, &entries).map_err(|problem| Failure::Differs(problem.to_string()))
        }
        AuditVerb::Verify { key } => verify(&register, key.as_deref(), json).await,
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

async fn payments_of(register: &DynamoRegister, record: &InvoiceRecord) -> Result<Vec<Problem>, Failure> {
    let RecordKey::Entry { .. } = bill_key(record.id) else {
        return Ok(Vec::new());
    };
    let Some(bill) = load::<domain::payments::BillPayments>(register, bill_key(record.id))
        .await
        .map_err(unfinished)?
    else {
        return Ok(Vec::new());
    };
    let document = flows::store::Document::audit_name(&bill.document);
    let entries = register
        .audit(&document)
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    Ok(ends_at(&document, &entries, &bill.document.chain)
        .err()
        .into_iter()
        .collect())
}

async fn verify(register: &DynamoRegister, key: Option<&str>, json: bool) -> Result<(), Failure> {
    let records = match key {
        Some(key) => vec![records::one(register, key).await?],
        None => records::all(register).await?,
    };
    let mut entries_seen = 0usize;
    let mut problems = Vec::new();
    for record in &records {
        let mut entries = records::trail(register, record.id).await?;
        let mut found = check(record, &entries).err();
        if found.is_some() {
            // It may have moved on between the two reads; only what stays wrong is wrong.
            let again = records::one(register, &record.id.to_string()).await?;
            entries = records::trail(register, record.id).await?;
            found = check(&again, &entries).err();
        }
        entries_seen = entries_seen.saturating_add(entries.len());
        problems.extend(found);
        problems.extend(payments_of(register, record).await?);
    }
    if json {
        terminal::say(
            &json!({ "invoices": records.len(), "entries": entries_seen, "broken": problems }).to_string(),
        );
    } else {
        terminal::say(&format!(
            "{} invoices with {entries_seen} entries, {} broken",
            records.len(),
            problems.len()
        ));
    }
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
    let mut count = 0usize;
    for record in &records {
        let bill = load::<domain::payments::BillPayments>(register, bill_key(record.id))
            .await
            .map_err(unfinished)?;
        let mut entries = records::trail(register, record.id).await?;
        if let Some(bill) = bill {
            let document = flows::store::Document::audit_name(&bill.document);
            entries.extend(
                register
                    .audit(&document)
                    .await
                    .map_err(|error| Failure::Unreachable(error.0))?,
            );
        }
        for entry in &entries {
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
            "{count} entries of {} invoices in {}",
            records.len(),
            path.display()
        ));
    }
    Ok(())
}
