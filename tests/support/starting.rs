//! What every deployable binary does without its environment. Each function's own test calls it: only there cargo tells where
//! the binary is.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failing test may say so by panicking"
)]

use std::process::Command;

/// Starts a binary without any environment: it says everything that is missing, these variables among it, and does not run.
pub(crate) fn says_what_is_missing_and_ends(binary: &str, variables: &[&str]) {
    let output = Command::new(binary).env_clear().output().unwrap();
    assert!(!output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    for variable in variables {
        let told = lines
            .lines()
            .any(|line| line.contains("CONFIG_MISSING") && line.contains(variable));
        assert!(told, "{variable} in {lines}");
    }
}
