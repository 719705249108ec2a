//! The deployable binary: without its environment it says everything that is missing, and does not run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::zombie_processes,
    reason = "a failing test may say so by panicking"
)]

use std::process::Command;

#[test]
fn without_its_environment_it_says_what_is_missing_and_ends() {
    let output = Command::new(env!("CARGO_BIN_EXE_reconcile"))
        .env_clear()
        .output()
        .unwrap();
    assert!(!output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    for variable in ["INVOICES_QUEUE_URL", "AWS_REGION"] {
        let told = lines
            .lines()
            .any(|line| line.contains("CONFIG_MISSING") && line.contains(variable));
        assert!(told, "{variable} in {lines}");
    }
}
