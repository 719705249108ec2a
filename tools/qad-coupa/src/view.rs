//! What people and programs are shown of a record: rows, sentences, JSON with stable names.

use crate::output::{Cell, Column, Listing, Output, Row};
use domain::documents::InvoiceParticulars;
use domain::explain;
use domain::ids::OrderLineKey;
use domain::instruction::{Instruction, Release};
use domain::lifecycle::{Event, InvoiceRecord, State};
use domain::matching::{ExceptionCode, MatchReport};
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
    } else if record
        .state
        .codes()
        .iter()
        .any(|code| code == ExceptionCode::PeriodClosed.as_str())
    {
        format!("{sentence} (`qad-coupa entity open-from CODE DAY --reason \"…\"`)")
    } else if let Some(command) = record.delay.as_ref().and_then(crate::owner::command_of) {
        format!("{sentence} ({command})")
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

/// Everything that is known of one invoice, as names and values.
pub(crate) fn facts(record: &InvoiceRecord) -> Vec<Vec<Cell>> {
    let summary = record.summary.as_ref();
    let mut rows: Vec<(&str, Cell)> = vec![("Coupa id", record.id.to_string().into())];
    if let Some(summary) = summary {
        let orders: Vec<&str> = summary.orders.iter().map(|order| order.as_str()).collect();
        let number = summary.supplier_number.as_deref().unwrap_or("no QAD number");
        rows.extend([
            ("Invoice number", summary.reference.to_string().into()),
            ("Kind", summary.kind.to_string().into()),
            ("Supplier", format!("{} ({number})", summary.supplier_name).into()),
            ("Invoice date", Cell::Day(Some(summary.invoice_date))),
            ("Total", Cell::Money(Some((summary.total, summary.currency)))),
            ("Orders", orders.join(", ").into()),
        ]);
        rows.extend(particulars(&summary.particulars));
    }
    rows.extend([
        ("State", record.state.word().into()),
        ("Since", Cell::Instant(Some(record.since))),
        ("Reasons", record.state.codes().join(", ").into()),
    ]);
    if let Some(voucher) = record.state.voucher() {
        rows.push(("QAD voucher", voucher.to_string().into()));
    }
    rows.push(("First seen", Cell::Instant(Some(record.first_seen))));
    if let Some(source) = &record.source {
        rows.push(("Read from Coupa as of", Cell::Instant(Some(source.updated_at))));
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
            let told = format!("{:?}, {} {times}", effect.status, effect.attempts).to_lowercase();
            rows.push((name, told.into()));
        }
    }
    if let Some(paid) = &record.paid {
        rows.push(("Paid", explain::paid_words(paid).into()));
    }
    if let Some(at) = record.look_again {
        rows.push(("Looked at again", Cell::Instant(Some(at))));
    }
    rows.push(("Audit entries", Cell::Count(record.chain.sequence)));
    rows.into_iter()
        .map(|(name, value)| vec![name.into(), value])
        .collect()
}

/// What Coupa tells of it beside, as far as it is known.
fn particulars(known: &InvoiceParticulars) -> Vec<(&'static str, Cell)> {
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
        .filter_map(|(name, value)| Some((name, value?.into())))
        .collect()
}

/// The lines of an invoice beside what QAD has of them.
pub(crate) fn matrix(out: &Output, report: &MatchReport) {
    let columns: Vec<Column> = explain::MATRIX_HEADINGS
        .iter()
        .enumerate()
        .map(|(place, name)| match place {
            0..3 => Column::word(name),
            _ if place == explain::MATRIX_COLUMNS.saturating_sub(1) => Column::sentence(name),
            _ => Column::figure(name),
        })
        .collect();
    let rows = explain::matrix(report)
        .into_iter()
        .map(|row| row.into_iter().map(Cell::from).collect())
        .collect();
    out.texts(&columns, rows);
}

/// What names an invoice in every list: its Coupa id, its number, its supplier, its total.
pub(crate) fn named(record: &InvoiceRecord) -> [Cell; 4] {
    let summary = record.summary.as_ref();
    let text = |text: Option<String>| Cell::Text(text.unwrap_or_default());
    [
        record.id.to_string().into(),
        text(summary.map(|s| s.reference.to_string())),
        text(summary.map(|s| s.supplier_name.clone())),
        Cell::Money(summary.map(|s| (s.total, s.currency))),
    ]
}

/// The list of invoices.
pub(crate) fn invoice_list(records: &[InvoiceRecord]) -> Listing {
    let columns = [
        Column::word("Invoice"),
        Column::word("Reference"),
        Column::sentence("Supplier").spare(),
        Column::figure("Total"),
        Column::word("State"),
        Column::word("Since").spare(),
        Column::sentence("What it is about"),
    ];
    let row = |record: &InvoiceRecord| {
        let [invoice, reference, supplier, total] = named(record);
        Row::new(
            invoice_json(record),
            vec![
                invoice,
                reference,
                supplier,
                total,
                record.state.word().into(),
                Cell::Instant(Some(record.since)),
                about(record).into(),
            ],
        )
    };
    Listing::new(&columns, records.iter().map(row).collect())
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
                    .map(|event| format!("{}  {}", explain::instant(entry.at), told(event))),
            ),
            Err(error) => lines.push(format!(
                "{}  entry {} cannot be read: {error}",
                explain::instant(entry.at),
                entry.sequence
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
        Event::Restored { state, instruction } => format!(
            "goes on as {} after a restore, by {}: {}",
            state.word(),
            instruction.by,
            instruction.reason
        ),
        Event::Skipped { instruction } => format!("skipped by {}: {}", instruction.by, instruction.reason),
        Event::TakenIn { instruction } => format!("taken in by {}: {}", instruction.by, instruction.reason),
        Event::Reopened { instruction } => {
            format!("taken up again by {}: {}", instruction.by, instruction.reason)
        }
        Event::AdoptionRequested { request } => format!(
            "{} named as its document by {}: {}",
            request.voucher, request.instruction.by, request.instruction.reason
        ),
        Event::AdoptionRefused { voucher, problem } => {
            format!("{voucher} not taken as its document: {problem}")
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
