//! The register of a running local world, or of a stack in AWS, and what is read from it.

use crate::view;
use crate::{Failure, terminal};
use aws::clients::{AwsSettings, Clients};
use aws::clock::{SystemChance, SystemClock};
use aws::dynamo::{DynamoRegister, RegisterTables};
use domain::explain;
use domain::ids::{ConnectionId, InvoiceId};
use domain::lifecycle::InvoiceRecord;
use domain::problem::Problem;
use flows::ports::{RecordKey, Register};
use flows::store::{FlowError, invoice_audit_name, load, parse};
use sandbox::local::RunFile;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Invoices asked for at a time.
const PAGE_RECORDS: usize = 200;
/// Most invoices that are listed or searched.
const RECORDS_MAX: usize = 100_000;

/// Opens the register of the local world that runs in `run_dir`.
pub(crate) fn open(run_dir: &Path, connection: Option<&ConnectionId>) -> Result<DynamoRegister, Failure> {
    let run = running(run_dir)?;
    let connection = chosen(&run, connection)?;
    of_local(&run, connection)
}

/// The connection that is named, or the only one there is.
pub(crate) fn chosen(run: &RunFile, connection: Option<&ConnectionId>) -> Result<ConnectionId, Failure> {
    match connection {
        Some(connection) => Ok(connection.clone()),
        None => the_only(run),
    }
}

/// The local world that runs in `run_dir`.
pub(crate) fn running(run_dir: &Path) -> Result<RunFile, Failure> {
    RunFile::read(run_dir)?.ok_or_else(|| {
        Failure::Unreachable(
            Problem::new(
                "LOCAL_NOT_RUNNING",
                "Start it with `cargo demo --keep`, or with `cargo qad-coupa local`.",
            )
            .field(run_dir.display().to_string())
            .expected("a running local world")
            .actual("none"),
        )
    })
}

fn the_only(run: &RunFile) -> Result<ConnectionId, Failure> {
    let mut names = run.webhook_urls.keys();
    match (names.next(), names.next()) {
        (Some(only), None) => only.parse().map_err(|error: domain::ids::IdError| {
            Failure::from(Problem::new("CONNECTION_INVALID", "").actual(error.to_string()))
        }),
        _ => {
            let known: Vec<&str> = run.webhook_urls.keys().map(String::as_str).collect();
            Err(
                Problem::new("CONNECTION_NOT_NAMED", "Name it with --connection-id.")
                    .expected(known.join(", "))
                    .into(),
            )
        }
    }
}

/// The register of one connection of a local world.
pub(crate) fn of_local(run: &RunFile, connection: ConnectionId) -> Result<DynamoRegister, Failure> {
    let clients = Clients::new(settings(&run.environment));
    let table = |name: &str| {
        run.tables.get(name).cloned().ok_or_else(|| {
            Failure::from(Problem::new("LOCAL_TABLE_MISSING", "Start the local world anew.").field(name))
        })
    };
    let tables = RegisterTables {
        register: table("RegisterTable")?,
        audit: table("AuditTable")?,
    };
    Ok(DynamoRegister::new(
        clients.dynamodb(),
        tables,
        connection,
        Arc::new(SystemClock),
        Arc::new(SystemChance),
    ))
}

/// How the AWS of a local world is talked to.
pub(crate) fn settings(environment: &BTreeMap<String, String>) -> AwsSettings {
    let text = |name: &str| environment.get(name).cloned();
    let endpoint = |name: &str| text(name).or_else(|| text("AWS_ENDPOINT_URL"));
    AwsSettings {
        region: text("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned()),
        access_key_id: text("AWS_ACCESS_KEY_ID").unwrap_or_default(),
        secret_access_key: SecretString::from(text("AWS_SECRET_ACCESS_KEY").unwrap_or_default()),
        session_token: text("AWS_SESSION_TOKEN").map(SecretString::from),
        dynamodb_url: endpoint("AWS_ENDPOINT_URL_DYNAMODB"),
        sqs_url: endpoint("AWS_ENDPOINT_URL_SQS"),
        secrets_manager_url: endpoint("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
    }
}

pub(crate) fn flow(error: FlowError) -> Failure {
    match error {
        FlowError::Store(error) => Failure::Unreachable(error.0),
        other => Failure::from(other.problem()),
    }
}

/// All invoices, in the order of their ids.
pub(crate) async fn all(register: &DynamoRegister) -> Result<Vec<InvoiceRecord>, Failure> {
    let mut records: Vec<InvoiceRecord> = Vec::new();
    while records.len() < RECORDS_MAX {
        let after = records.last().map(|record| record.id);
        let page = register
            .invoices(after, PAGE_RECORDS)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        let full = page.len() >= PAGE_RECORDS;
        for stored in &page {
            records.push(parse(stored).map_err(flow)?);
        }
        if !full {
            break;
        }
    }
    Ok(records)
}

/// `invoice list`.
pub(crate) async fn list(register: &DynamoRegister, state: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut records = all(register).await?;
    records.retain(|record| state.is_none_or(|state| record.state.word() == state));
    if json {
        let rows: Vec<serde_json::Value> = records.iter().map(view::invoice_json).collect();
        terminal::say(&serde_json::Value::Array(rows).to_string());
    } else {
        terminal::say(&view::invoice_table(&records).to_string());
        terminal::say(&format!("{} invoices", records.len()));
    }
    Ok(())
}

/// Finds an invoice by Coupa's id or by the supplier's number, forgiving case, blanks and leading zeros.
pub(crate) async fn find(register: &DynamoRegister, text: &str) -> Result<InvoiceRecord, Failure> {
    if let Ok(id) = text.parse::<InvoiceId>()
        && let Some(loaded) = load::<InvoiceRecord>(register, RecordKey::Invoice(id))
            .await
            .map_err(flow)?
    {
        return Ok(loaded.document);
    }
    let wanted = forgiving(text);
    let mut matches: Vec<InvoiceRecord> = all(register).await?;
    matches.retain(|record| {
        record
            .summary
            .as_ref()
            .is_some_and(|s| forgiving(s.reference.as_str()) == wanted)
    });
    match matches.len() {
        1 => Ok(matches.remove(0)),
        0 => Err(Failure::NotFound(
            Problem::new("INVOICE_NOT_FOUND", "Look it up in `qad-coupa invoice list`.")
                .field("invoice")
                .actual(text),
        )),
        _ => {
            let ids: Vec<String> = matches.iter().map(|record| record.id.to_string()).collect();
            Err(Problem::new("INVOICE_AMBIGUOUS", "Name it by Coupa's id.")
                .field("invoice")
                .expected(format!("one of {}", ids.join(", ")))
                .actual(text)
                .into())
        }
    }
}

fn forgiving(text: &str) -> String {
    let folded: String = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect::<String>()
        .to_uppercase();
    folded.trim_start_matches('0').to_owned()
}

/// `explain`.
pub(crate) async fn explain(register: &DynamoRegister, text: &str, json: bool) -> Result<(), Failure> {
    let record = find(register, text).await?;
    if json {
        let document = invoice_audit_name(record.id);
        let entries = register
            .audit(&document)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
        terminal::say(&view::explain_json(&record, &entries).to_string());
        return Ok(());
    }
    terminal::say(&explain::title(&record));
    terminal::say(&explain::sentence(&record));
    if let Some(report) = &record.report {
        terminal::say("");
        terminal::say(&explain::matrix_text(report));
    }
    Ok(())
}

/// `timeline`.
pub(crate) async fn timeline(register: &DynamoRegister, text: &str) -> Result<(), Failure> {
    let record = find(register, text).await?;
    let document = invoice_audit_name(record.id);
    let entries = register
        .audit(&document)
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    terminal::say(&explain::title(&record));
    for line in view::timeline(&entries) {
        terminal::say(&line);
    }
    match flows::store::verify_chain(&entries) {
        Ok(_) => Ok(()),
        Err(problem) => Err(Failure::Differs(problem.to_string())),
    }
}
