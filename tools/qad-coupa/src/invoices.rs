//! What the register knows of invoices: lists, one in full, why it stands where it stands, what waits and for whom.

use crate::place::{Place, PlaceArguments};
use crate::records::{self, Filter, Totals};
use crate::{Failure, terminal, view};
use aws::clock::SystemClock;
use clap::{Args, Subcommand};
use domain::explain;
use domain::lifecycle::{InvoiceRecord, State};
use domain::matching::ExceptionCode;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::Clock;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Milliseconds of a day.
const DAY_MILLIS: i64 = 86_400_000;

#[derive(Debug, Subcommand)]
pub(crate) enum InvoiceVerb {
    /// All invoices, or those a filter keeps.
    #[command(
        after_help = "Example: qad-coupa invoice list --state parked --code PRICE_OVER_TOLERANCE --json"
    )]
    List {
        #[command(flatten)]
        filter: Filter,
    },
    /// Everything that is known of one invoice.
    Show(Key),
    /// All invoices that have this text as one of their keys.
    #[command(
        after_help = "Example: qad-coupa invoice find PO4500110\n         qad-coupa invoice find 1,296.00"
    )]
    Find(Key),
}

/// The name of an invoice.
#[derive(Debug, Args)]
pub(crate) struct Key {
    /// Coupa id, invoice number, QAD voucher, purchase order, amount or supplier; case, blanks and leading zeros are forgiven.
    pub(crate) key: String,
}

/// What waits for a receipt.
#[derive(Debug, Args)]
pub(crate) struct HoldsOptions {
    #[command(flatten)]
    filter: Filter,
    /// As CSV, for the month-end accrual.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

/// `invoice …`.
pub(crate) async fn run(place: &PlaceArguments, verb: InvoiceVerb, json: bool) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    match verb {
        InvoiceVerb::List { filter } => {
            let found = records::kept(&register, &filter, SystemClock.now()).await?;
            show_list(&found, json);
            Ok(())
        }
        InvoiceVerb::Show(Key { key }) => {
            let record = records::one(&register, &key).await?;
            if json {
                terminal::say(&json!(record).to_string());
            } else {
                terminal::say(&explain::title(&record));
                terminal::say(&view::in_words(&record));
                terminal::say(&view::facts(&record).to_string());
            }
            Ok(())
        }
        InvoiceVerb::Find(Key { key }) => {
            let found = records::found(&register, &key).await?;
            if found.is_empty() {
                return Err(Failure::NotFound(
                    Problem::new("INVOICE_NOT_FOUND", "Look it up in `qad-coupa invoice list`.")
                        .field("invoice")
                        .actual(key),
                ));
            }
            if json {
                let rows: Vec<Value> = found
                    .iter()
                    .map(|(record, by)| view::with(view::invoice_json(record), "found_by", json!(by)))
                    .collect();
                terminal::say(&Value::Array(rows).to_string());
            } else {
                for (record, by) in &found {
                    terminal::say(&format!("by {by}: {}", explain::title(record)));
                    terminal::say(&format!("  {}", view::in_words(record)));
                }
            }
            Ok(())
        }
    }
}

fn show_list(found: &[InvoiceRecord], json: bool) {
    if json {
        let rows: Vec<Value> = found.iter().map(view::invoice_json).collect();
        terminal::say(&Value::Array(rows).to_string());
    } else {
        terminal::say(&view::invoice_table(found).to_string());
        terminal::say(&summed(found));
    }
}

/// `59 invoices, 1200.00 MXN + 80.00 USD`.
pub(crate) fn summed(records: &[InvoiceRecord]) -> String {
    let totals = Totals::of(records).to_string();
    let noun = if records.len() == 1 { "invoice" } else { "invoices" };
    if totals.is_empty() {
        format!("{} {noun}", records.len())
    } else {
        format!("{} {noun}, {totals}", records.len())
    }
}

/// `explain`.
pub(crate) async fn explain(place: &PlaceArguments, key: &str, json: bool) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let record = records::one(&register, key).await?;
    if json {
        let entries = records::trail(&register, record.id).await?;
        terminal::say(&view::explain_json(&record, &entries).to_string());
        return Ok(());
    }
    terminal::say(&explain::title(&record));
    terminal::say(&view::in_words(&record));
    if let Some(report) = &record.report {
        terminal::say("");
        if matches!(record.state, State::Posted { .. } | State::Exported { .. }) {
            terminal::say("As matched before posting:");
        }
        terminal::say(&explain::matrix_text(report));
    }
    Ok(())
}

/// `timeline`.
pub(crate) async fn timeline(place: &PlaceArguments, key: &str, json: bool) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let record = records::one(&register, key).await?;
    let entries = records::trail(&register, record.id).await?;
    if json {
        terminal::say(&Value::Array(entries.iter().map(view::entry_json).collect()).to_string());
    } else {
        terminal::say(&explain::title(&record));
        for line in view::timeline(&entries) {
            terminal::say(&line);
        }
    }
    match flows::store::verify_chain(&entries) {
        Ok(end) if end == record.chain => Ok(()),
        Ok(end) => Err(Failure::Differs(
            Problem::new(
                "AUDIT_CHAIN_CUT",
                "Keep the table as it is and find out who wrote to it.",
            )
            .field(format!("invoice/{}", record.id))
            .expected(format!("{} entries", record.chain.sequence))
            .actual(format!("{} entries", end.sequence))
            .to_string(),
        )),
        Err(problem) => Err(Failure::Differs(problem.to_string())),
    }
}

/// One order line that an invoice waits for, or the invoice itself when it names none.
struct Hold<'a> {
    record: &'a InvoiceRecord,
    days: i64,
}

fn days(record: &InvoiceRecord, now: Timestamp) -> i64 {
    now.millis_since(record.since)
        .max(0)
        .checked_div(DAY_MILLIS)
        .unwrap_or(0)
}

/// `holds`.
pub(crate) async fn holds(place: &PlaceArguments, options: HoldsOptions, json: bool) -> Result<(), Failure> {
    let filter = options.filter.only("held")?;
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let now = SystemClock.now();
    let records = records::kept(&register, &filter, now).await?;
    let mut held: Vec<Hold<'_>> = records
        .iter()
        .map(|record| Hold {
            record,
            days: days(record, now),
        })
        .collect();
    held.sort_by_key(|hold| (hold.record.since, hold.record.id));
    if json {
        let rows: Vec<Value> = held
            .iter()
            .map(|hold| view::with(view::invoice_json(hold.record), "days", json!(hold.days)))
            .collect();
        terminal::say(&Value::Array(rows).to_string());
        return Ok(());
    }
    let header = [
        "Days",
        "Invoice",
        "Reference",
        "Supplier",
        "Orders",
        "Total",
        "Currency",
        "Waits for",
        "Why",
    ];
    let rows: Vec<Vec<String>> = held.iter().map(hold_row).collect();
    if options.csv {
        terminal::say(&view::csv(&header, &rows));
        return Ok(());
    }
    terminal::say(&view::table(&header, rows).to_string());
    for (title, text) in [
        (
            "by supplier",
            subtotals(&records, |record| {
                record
                    .summary
                    .as_ref()
                    .map(|s| vec![s.supplier_name.clone()])
                    .unwrap_or_default()
            }),
        ),
        (
            "by order",
            subtotals(&records, |record| {
                record
                    .summary
                    .as_ref()
                    .map(|s| s.orders.iter().map(ToString::to_string).collect())
                    .unwrap_or_default()
            }),
        ),
    ] {
        if !text.is_empty() {
            terminal::say(&format!("{title}: {}", text.join("; ")));
        }
    }
    terminal::say(&summed(&records));
    Ok(())
}

fn hold_row(hold: &Hold<'_>) -> Vec<String> {
    let record = hold.record;
    let summary = record.summary.as_ref();
    let awaits: Vec<String> = record.awaits().iter().map(ToString::to_string).collect();
    vec![
        hold.days.to_string(),
        record.id.to_string(),
        summary.map_or_else(String::new, |s| s.reference.to_string()),
        summary.map_or_else(String::new, |s| s.supplier_name.clone()),
        summary.map_or_else(String::new, |s| {
            s.orders
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        }),
        summary.map_or_else(String::new, |s| s.total.normalize().to_string()),
        summary.map_or_else(String::new, |s| s.currency.to_string()),
        awaits.join(" "),
        record.state.codes().join(" "),
    ]
}

/// `PO1: 2 invoices, 30.00 USD`, the largest first.
fn subtotals(records: &[InvoiceRecord], keys: impl Fn(&InvoiceRecord) -> Vec<String>) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<InvoiceRecord>> = BTreeMap::new();
    for record in records {
        for key in keys(record) {
            groups.entry(key).or_default().push(record.clone());
        }
    }
    let mut groups: Vec<(String, Vec<InvoiceRecord>)> = groups.into_iter().collect();
    groups.sort_by(|one, two| two.1.len().cmp(&one.1.len()).then_with(|| one.0.cmp(&two.0)));
    groups
        .iter()
        .take(GROUPS_SHOWN_MAX)
        .map(|(key, records)| format!("{key}: {}", summed(records)))
        .collect()
}

/// Most groups told below the table; `--json` has them all.
const GROUPS_SHOWN_MAX: usize = 8;

/// What to do about a reason.
fn fix(record: &InvoiceRecord, code: &str) -> String {
    if let Some(known) = ExceptionCode::ALL.iter().find(|known| known.as_str() == code) {
        return known.fix().to_owned();
    }
    match &record.state {
        State::Parked {
            reason:
                domain::lifecycle::ParkReason::Problem { problem }
                | domain::lifecycle::ParkReason::InQad { problem, .. },
        } => problem.fix.clone(),
        _ => String::new(),
    }
}

/// `parked`: grouped by cause, so that one fix helps many.
pub(crate) async fn parked(place: &PlaceArguments, filter: Filter, json: bool) -> Result<(), Failure> {
    let filter = filter.only("parked")?;
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let now = SystemClock.now();
    let records = records::kept(&register, &filter, now).await?;
    let mut causes: BTreeMap<String, Vec<InvoiceRecord>> = BTreeMap::new();
    for record in &records {
        let code = record.state.codes().into_iter().next().unwrap_or_default();
        causes.entry(code).or_default().push(record.clone());
    }
    let mut causes: Vec<(String, Vec<InvoiceRecord>)> = causes.into_iter().collect();
    causes.sort_by(|one, two| two.1.len().cmp(&one.1.len()).then_with(|| one.0.cmp(&two.0)));
    let of_cause = |code: &str, records: &[InvoiceRecord]| {
        records.first().map_or_else(String::new, |first| fix(first, code))
    };
    if json {
        let rows: Vec<Value> = causes
            .iter()
            .map(|(code, records)| {
                json!({
                    "code": code,
                    "count": records.len(),
                    "totals": Totals::of(records).json(),
                    "fix": of_cause(code, records),
                    "invoices": records.iter().map(view::invoice_json).collect::<Vec<_>>(),
                })
            })
            .collect();
        terminal::say(&Value::Array(rows).to_string());
        return Ok(());
    }
    for (code, records) in &causes {
        terminal::say(&format!("{code}: {}", summed(records)));
        terminal::say(&format!("  {}", of_cause(code, records)));
        for record in records {
            terminal::say(&format!("  {} d  {}", days(record, now), explain::title(record)));
        }
    }
    terminal::say(&format!("{} parked for a person", summed(&records)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::ids::InvoiceId;
    use domain::instruction::Instruction;
    use domain::matching::MatchReport;
    use flows::pause::Pause;

    #[test]
    fn a_pause_is_told_as_one_and_not_as_a_failure() {
        let pause = Pause {
            instruction: Instruction::new("kim", "closing of the period").unwrap(),
            since: Timestamp(0),
        };
        let mut record = InvoiceRecord::new(InvoiceId(7), Timestamp(0));
        record.delay = Some(pause.problem());
        record.look_again = Some(Timestamp(1));
        let told = view::in_words(&record);
        assert!(told.contains("Posting is paused (by kim"), "{told}");
        assert!(
            told.contains("closing of the period); it is looked at again when posting is resumed. (`qad-coupa resume --reason \"…\"`)"),
            "{told}"
        );
        assert!(!told.contains("failed"), "{told}");
        record.report = Some(MatchReport {
            lines: vec![],
            tolerance_version: String::new(),
        });
        let told = view::in_words(&record);
        assert!(
            told.contains("when posting is resumed; the figures are those of the last look."),
            "{told}"
        );
    }
}
