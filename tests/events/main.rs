//! Every file under `events/` of the functions that are driven by a queue or a schedule is parsed as the function parses
//! it, and run. (The webhook's have a test of their own beside the receiver.)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::zombie_processes,
    reason = "a failing test may say so by panicking"
)]

use aws::clock::SystemClock;
use aws::sqs::{BatchTimes, serve};
use aws_lambda_events::event::sqs::SqsEvent;
use domain::ids::InvoiceId;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{Hint, Subject};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn files(function: &str) -> Vec<(PathBuf, Value, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../events")
        .join(function);
    let read = |path: &Path| serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.to_string_lossy().ends_with(".expected.json"))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let expected = read(&path.with_extension("expected.json"));
            (path.clone(), read(&path), expected)
        })
        .collect();
    found.sort_by(|one, two| one.0.cmp(&two.0));
    assert!(!found.is_empty(), "{}", folder.display());
    found
}

#[tokio::test]
async fn every_batch_fails_exactly_the_records_it_should() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    for (path, event, expected) in files("match-invoice").into_iter().chain(files("write-payment")) {
        let event: SqsEvent = serde_json::from_value(event).unwrap();
        let times = BatchTimes::new(Timestamp(i64::MAX / 2), 1_000);
        let work = async |hint: Hint| {
            let Hint::V1 { subject, .. } = hint;
            match subject {
                Subject::Invoice(InvoiceId(666)) => Err(Problem::new("FAILS", "")),
                Subject::Invoice(InvoiceId(667)) => panic!("in one record"),
                Subject::Entry { id, .. } if id == "666" => Err(Problem::new("FAILS", "")),
                Subject::Entry { id, .. } if id == "667" => panic!("in one record"),
                _ => Ok(()),
            }
        };
        let answer = serve(event, times, &SystemClock, work).await.unwrap();
        let failed: Vec<String> = answer
            .batch_item_failures
            .into_iter()
            .map(|failure| failure.item_identifier)
            .collect();
        assert_eq!(
            serde_json::json!(failed),
            expected["failures"],
            "{}",
            path.display()
        );
    }
    std::panic::set_hook(previous);
}

#[test]
fn every_schedule_names_a_connection_or_is_refused() {
    for function in [
        "poll-coupa",
        "poll-payments",
        "poll-receipts",
        "sync-lookups",
        "sweep",
    ] {
        for (path, event, expected) in files(function) {
            let accepted = serde_json::from_value::<wiring::Scheduled>(event).is_ok();
            assert_eq!(Value::Bool(accepted), expected["accepted"], "{}", path.display());
        }
    }
}

#[test]
fn every_reconciliation_names_a_connection_or_is_refused() {
    for (path, event, expected) in files("reconcile") {
        let accepted = serde_json::from_value::<wiring::Reconcile>(event).is_ok();
        assert_eq!(Value::Bool(accepted), expected["accepted"], "{}", path.display());
    }
}

#[test]
fn every_run_over_the_suppliers_names_a_connection_or_is_refused() {
    for (path, event, expected) in files("sync-suppliers") {
        let accepted = serde_json::from_value::<wiring::SupplierRun>(event).is_ok();
        assert_eq!(Value::Bool(accepted), expected["accepted"], "{}", path.display());
    }
}
