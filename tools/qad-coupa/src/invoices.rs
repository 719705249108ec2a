//! What the register knows of invoices: lists, one in full, why it stands where it stands, what waits and for whom.

use crate::output::{Cell, Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments};
use crate::records::{self, Filter, Totals};
use crate::{Failure, view};
use aws::clock::SystemClock;
use clap::{Args, Subcommand};
use domain::explain;
use domain::lifecycle::{InvoiceRecord, State};
use domain::matching::ExceptionCode;
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::words;
use flows::ports::Clock;
use serde_json::json;
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
        #[command(flatten)]
        list: ListOptions,
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
    #[command(flatten)]
    list: ListOptions,
}

/// `invoice …`.
pub(crate) async fn run(place: &PlaceArguments, verb: InvoiceVerb, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    match verb {
        InvoiceVerb::List { filter, list } => {
            let found = records::kept(&register, &filter, SystemClock.now()).await?;
            out.list(view::invoice_list(&found).below([summed(&found)]), &list)
        }
        InvoiceVerb::Show(Key { key }) => {
            let record = records::one(&register, &key).await?;
            out.value(
                || json!(record),
                |out| {
                    out.line(&explain::title(&record));
                    out.line(&view::in_words(&record));
                    out.gap();
                    out.texts(
                        &[Column::word("What"), Column::sentence("Value")],
                        view::facts(&record),
                    );
                },
            );
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
            let of = |(record, by): &(InvoiceRecord, _)| {
                view::with(view::invoice_json(record), "found_by", json!(by))
            };
            out.value(
                || found.iter().map(of).collect(),
                |out| {
                    for (record, by) in &found {
                        out.line(&format!("by {by}: {}", explain::title(record)));
                        out.line(&format!("  {}", view::in_words(record)));
                    }
                },
            );
            Ok(())
        }
    }
}

/// `59 invoices, 1200.00 MXN + 80.00 USD`.
pub(crate) fn summed(records: &[InvoiceRecord]) -> String {
    let totals = Totals::of(records).to_string();
    let count = words::count(records.len(), "invoice");
    if totals.is_empty() {
        count
    } else {
        format!("{count}, {totals}")
    }
}

/// `explain`.
pub(crate) async fn explain(place: &PlaceArguments, key: &str, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let record = records::one(&register, key).await?;
    let entries = records::trail(&register, record.id).await?;
    out.value(
        || view::explain_json(&record, &entries),
        |out| {
            out.line(&explain::title(&record));
            out.line(&view::in_words(&record));
            let Some(report) = &record.report else { return };
            out.gap();
            if matches!(record.state, State::Posted { .. } | State::Exported { .. }) {
                out.line("As matched before posting:");
            }
            view::matrix(out, report);
        },
    );
    Ok(())
}

/// `timeline`.
pub(crate) async fn timeline(place: &PlaceArguments, key: &str, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let register = place.register(&place.connection().await?)?;
    let record = records::one(&register, key).await?;
    let entries = records::trail(&register, record.id).await?;
    out.value(
        || entries.iter().map(view::entry_json).collect(),
        |out| {
            out.line(&explain::title(&record));
            for line in view::timeline(&entries) {
                out.line(&line);
            }
        },
    );
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
pub(crate) async fn holds(
    place: &PlaceArguments,
    options: HoldsOptions,
    out: &Output,
) -> Result<(), Failure> {
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
    let of_supplier = |record: &InvoiceRecord| -> Vec<String> {
        let summary = record.summary.as_ref();
        summary.map(|s| s.supplier_name.clone()).into_iter().collect()
    };
    let of_orders = |record: &InvoiceRecord| -> Vec<String> {
        let summary = record.summary.as_ref();
        summary.map_or_else(Vec::new, |s| s.orders.iter().map(ToString::to_string).collect())
    };
    let below = [
        ("by supplier", subtotals(&records, of_supplier)),
        ("by order", subtotals(&records, of_orders)),
    ]
    .into_iter()
    .filter(|(_, groups)| !groups.is_empty())
    .map(|(title, groups)| format!("{title}: {}", groups.join("; ")))
    .chain([summed(&records)]);
    let listing = Listing::new(&HOLD_COLUMNS, held.iter().map(hold_row).collect()).below(below);
    out.list(listing, &options.list)
}

/// The columns of `holds`.
const HOLD_COLUMNS: [Column; 8] = [
    Column::figure("Days"),
    Column::word("Invoice"),
    Column::word("Reference"),
    Column::sentence("Supplier").spare(),
    Column::sentence("Orders").spare(),
    Column::figure("Total"),
    Column::sentence("Waits for"),
    Column::sentence("Why"),
];

fn hold_row(hold: &Hold<'_>) -> Row {
    let record = hold.record;
    let [invoice, reference, supplier, total] = view::named(record);
    let summary = record.summary.as_ref();
    let awaits: Vec<String> = record.awaits().iter().map(ToString::to_string).collect();
    let orders = summary.map_or_else(Vec::new, |s| s.orders.iter().map(ToString::to_string).collect());
    Row::new(
        view::with(view::invoice_json(record), "days", json!(hold.days)),
        vec![
            Cell::Count(u64::try_from(hold.days).unwrap_or(0)),
            invoice,
            reference,
            supplier,
            orders.join(" ").into(),
            total,
            awaits.join(" ").into(),
            record.state.codes().join(" ").into(),
        ],
    )
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
pub(crate) async fn parked(place: &PlaceArguments, filter: Filter, out: &Output) -> Result<(), Failure> {
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
    let cause = |(code, records): &(String, Vec<InvoiceRecord>)| {
        json!({
            "code": code,
            "count": records.len(),
            "totals": Totals::of(records).json(),
            "fix": of_cause(code, records),
            "invoices": records.iter().map(view::invoice_json).collect::<Vec<_>>(),
        })
    };
    out.value(
        || causes.iter().map(cause).collect(),
        |out| {
            for (code, records) in &causes {
                out.line(&format!("{code}: {}", summed(records)));
                out.line(&format!("  {}", of_cause(code, records)));
                for record in records {
                    out.line(&format!("  {} d  {}", days(record, now), explain::title(record)));
                }
            }
            out.line(&format!("{} parked for a person", summed(&records)));
        },
    );
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
