//! What people and programs are shown of a record: rows, sentences, JSON with stable names.

use comfy_table::{ContentArrangement, Table};
pub(crate) use domain::csv::csv;
use domain::documents::InvoiceParticulars;
use domain::explain;
use domain::ids::OrderLineKey;
use domain::instruction::{Instruction, Release};
use domain::lifecycle::{Event, InvoiceRecord, State};
use flows::ports::AuditEntry;
use serde::Serialize;
use serde_json::{Value, json};

/// One order line, as JSON shows it.
#[derive(Serialize)]
struct AwaitedLine<'a> {
    order: &'a str,
    line: u32,
}

fn awaited(lines: &[OrderLineKey]) -> Vec<AwaitedLine<'_>> {
    lines
        .iter()
        .map(|key| AwaitedLine {
            order: key.order.as_str(),
            line: key.line,
        })
        .collect()
}

/// The sentence of an invoice as a person at a terminal is told it: with the command that lets it go on.
pub(crate) fn in_words(record: &InvoiceRecord) -> String {
    let sentence = explain::sentence(record);
    let is_paused = record
        .delay
        .as_ref()
        .is_some_and(|delay| delay.code == explain::PAUSED);
    if record.state.is_skipped() {
        format!("{sentence} (`qad-coupa recheck {} --reason \"…\"`)", record.id)
    } else if is_paused {
        format!("{sentence} (`qad-coupa resume --reason \"…\"`)")
    } else {
        sentence
    }
}

/// One invoice in `invoice list --json`, and the head of `explain --json`. Names are stable.
pub(crate) fn invoice_json(record: &InvoiceRecord) -> Value {
    let summary = record.summary.as_ref();
    json!({
        "invoice": record.id,
        "reference": summary.map(|s| s.reference.as_str()),
        "kind": summary.map(|s| s.kind),
        "supplier": summary.map(|s| json!({ "number": s.supplier_number, "name": s.supplier_name })),
        "orders": summary.map(|s| s.orders.iter().map(|order| order.as_str()).collect::<Vec<_>>()).unwrap_or_default(),
        "total": summary.map(|s| s.total.normalize().to_string()),
        "currency": summary.map(|s| s.currency),
        "particulars": summary.map(|s| &s.particulars),
        "state": record.state.word(),
        "codes": record.state.codes(),
        "awaits": awaited(record.awaits()),
        "voucher": record.state.voucher().map(ToString::to_string),
        "adopted": adopted(record),
        "delayed_by": record.delay.as_ref().map(|problem| problem.code.clone()),
        "since": record.since.to_string(),
        "sentence": explain::sentence(record),
    })
}

/// `explain --json`: the invoice, its exceptions with figures, and the line matrix.
pub(crate) fn explain_json(record: &InvoiceRecord, entries: &[AuditEntry]) -> Value {
    let mut value = invoice_json(record);
    if let Value::Object(fields) = &mut value {
        fields.insert("reasons".to_owned(), json!(record.state));
        fields.insert(
            "lines".to_owned(),
            json!(record.report.as_ref().map(|report| &report.lines)),
        );
        let tolerance = record
            .report
            .as_ref()
            .map(|report| report.tolerance_version.as_str());
        fields.insert("tolerance_version".to_owned(), json!(tolerance));
        fields.insert(
            "history".to_owned(),
            Value::Array(entries.iter().map(entry_json).collect()),
        );
    }
    value
}

pub(crate) fn entry_json(entry: &AuditEntry) -> Value {
    let events = serde_json::from_str::<Value>(&entry.events).unwrap_or(Value::Null);
    json!({ "at": entry.at.to_string(), "sequence": entry.sequence, "events": events })
}

/// An object with one more field.
pub(crate) fn with(mut value: Value, name: &str, field: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert(name.to_owned(), field);
    }
    value
}

/// A table of texts.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table
}

/// Everything that is known of one invoice, as names and values.
pub(crate) fn facts(record: &InvoiceRecord) -> Table {
    let summary = record.summary.as_ref();
    let mut rows: Vec<(&str, String)> = vec![("Coupa id", record.id.to_string())];
    if let Some(summary) = summary {
        let orders: Vec<&str> = summary.orders.iter().map(|order| order.as_str()).collect();
        rows.extend([
            ("Invoice number", summary.reference.to_string()),
            ("Kind", summary.kind.to_string()),
            (
                "Supplier",
                format!(
                    "{} ({})",
                    summary.supplier_name,
                    summary.supplier_number.as_deref().unwrap_or("no QAD number")
                ),
            ),
            ("Invoice date", summary.invoice_date.to_string()),
            (
                "Total",
                format!("{} {}", summary.total.normalize(), summary.currency),
            ),
            ("Orders", orders.join(", ")),
        ]);
        rows.extend(particulars(&summary.particulars));
    }
    rows.push(("State", format!("{} since {}", record.state.word(), record.since)));
    rows.push(("Reasons", record.state.codes().join(", ")));
    if let Some(voucher) = record.state.voucher() {
        rows.push(("QAD voucher", voucher.to_string()));
    }
    rows.push(("First seen", record.first_seen.to_string()));
    if let Some(source) = &record.source {
        rows.push(("Read from Coupa as of", source.updated_at.to_string()));
    }
    for (name, effect) in [
        ("Creation in QAD", &record.creation),
        ("Exported flag in Coupa", &record.export),
        ("Note in Coupa", &record.note),
    ] {
        if let Some(effect) = effect {
            let times = if effect.attempts == 1 {
                "attempt"
            } else {
                "attempts"
            };
            rows.push((
                name,
                format!("{:?}, {} {times}", effect.status, effect.attempts).to_lowercase(),
            ));
        }
    }
    if let Some(paid) = &record.paid {
        rows.push(("Paid", explain::paid_words(paid)));
    }
    if let Some(at) = record.look_again {
        rows.push(("Looked at again", at.to_string()));
    }
    rows.push(("Audit entries", record.chain.sequence.to_string()));
    let rows = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    table(&["What", "Value"], rows)
}

/// What Coupa tells of it beside, as far as it is known.
fn particulars(known: &InvoiceParticulars) -> Vec<(&'static str, String)> {
    let discount = known.discount();
    let rows = [
        ("Corrects", known.original.clone()),
        ("Due", known.due.map(|date| date.to_string())),
        (
            "Discount",
            discount.map(|(percent, until)| format!("{percent} % until {until}")),
        ),
        ("Payment term", known.payment_term.clone()),
        ("Asked for by", known.requester.clone()),
        ("Delivered to", known.plant.clone()),
        ("In Coupa", known.page.clone()),
    ];
    rows.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The list as a table for people.
pub(crate) fn invoice_table(records: &[InvoiceRecord]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header([
        "Invoice",
        "Reference",
        "Supplier",
        "Total",
        "State",
        "What it is about",
    ]);
    for record in records {
        let summary = record.summary.as_ref();
        table.add_row([
            record.id.to_string(),
            summary.map_or_else(String::new, |s| s.reference.to_string()),
            summary.map_or_else(String::new, |s| s.supplier_name.clone()),
            summary.map_or_else(String::new, |s| format!("{} {}", s.total.normalize(), s.currency)),
            record.state.word().to_owned(),
            about(record),
        ]);
    }
    table
}

/// The shortest useful word about a record: its number in QAD, or its codes.
pub(crate) fn about(record: &InvoiceRecord) -> String {
    let codes = record.state.codes().join(", ");
    match record.state.voucher() {
        Some(voucher) if codes.is_empty() => format!("QAD {voucher}"),
        Some(voucher) => format!("{codes} (QAD {voucher})"),
        None => codes,
    }
}

/// The audit trail, one line per event, for people.
pub(crate) fn timeline(entries: &[AuditEntry]) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in entries {
        match serde_json::from_str::<Vec<Event>>(&entry.events) {
            Ok(events) => lines.extend(
                events
                    .iter()
                    .map(|event| format!("{}  {}", entry.at, told(event))),
            ),
            Err(error) => lines.push(format!(
                "{}  entry {} cannot be read: {error}",
                entry.at, entry.sequence
            )),
        }
    }
    lines
}

/// What one person accepts, in words.
fn accepted(release: &Release) -> String {
    let codes: Vec<&str> = release
        .accepted
        .iter()
        .map(|exception| exception.code.as_str())
        .collect();
    let Instruction { by, reason } = &release.instruction;
    format!("{} accepted by {by}: {reason}", codes.join(", "))
}

fn told(event: &Event) -> String {
    match event {
        Event::Received { coupa_status: None } => "received".to_owned(),
        Event::Received {
            coupa_status: Some(status),
        } => format!("received; Coupa says {status}"),
        Event::Delayed { problem } => format!("could not be looked at: {problem}"),
        Event::Held { exceptions, .. } => {
            let codes: Vec<&str> = exceptions
                .iter()
                .map(|exception| exception.code.as_str())
                .collect();
            format!("held: {}", codes.join(", "))
        }
        Event::Approved { identity, .. } => format!("matched: {identity}"),
        Event::Parked { reason } => format!("parked for a person: {}", reason.code()),
        Event::Creating { step, fence } => format!("creation in QAD {} (claim {fence})", step.name()),
        Event::Posted { voucher, how } => format!("in QAD as {voucher} ({})", how_word(*how)),
        Event::Exporting { step, fence } => format!("exported flag in Coupa {} (claim {fence})", step.name()),
        Event::Noting { step, fence } => {
            format!("note on the Coupa document {} (claim {fence})", step.name())
        }
        Event::Exported => "marked exported in Coupa".to_owned(),
        Event::Paid { paid } => explain::paid_words(paid),
        Event::Voided => "voided in Coupa before it was posted".to_owned(),
        Event::Rejected { problem } => format!("rejected: {problem}"),
        Event::ReleaseRequested { release } => {
            format!("{}; a second person must confirm it", accepted(release))
        }
        Event::Released { release } => match &release.requested {
            None => accepted(release),
            Some(first) => format!(
                "{}; asked for by {}: {}",
                accepted(release),
                first.by,
                first.reason
            ),
        },
        Event::Skipped { instruction } => format!("skipped by {}: {}", instruction.by, instruction.reason),
        Event::TakenIn { instruction } => format!("taken in by {}: {}", instruction.by, instruction.reason),
        Event::Reopened { instruction } => {
            format!("taken up again by {}: {}", instruction.by, instruction.reason)
        }
        Event::Adopted {
            voucher,
            instruction,
            difference,
        } => {
            let but = if difference.is_empty() {
                String::new()
            } else {
                format!(" ({difference})")
            };
            format!(
                "{voucher} taken as its document by {}{but}: {}",
                instruction.by, instruction.reason
            )
        }
    }
}

/// How it was known that a document in QAD which was not just created is this invoice's.
fn adopted(record: &InvoiceRecord) -> Value {
    match &record.state {
        State::Posted { how, .. } | State::Exported { how, .. } => {
            how.adopted().map_or(Value::Null, |how| json!({ "how": how }))
        }
        _ => Value::Null,
    }
}

fn how_word(how: domain::lifecycle::PostedHow) -> &'static str {
    match how {
        domain::lifecycle::PostedHow::Created => "created",
        domain::lifecycle::PostedHow::Recovered => "its answer was lost; found by look-up",
        domain::lifecycle::PostedHow::Adopted => "keyed by hand; adopted",
        domain::lifecycle::PostedHow::Restored => "carries our mark; this register has never sent it",
    }
}
