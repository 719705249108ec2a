//! The deployable binary: without its environment it says everything that is missing, and does not run.
#![allow(clippy::unwrap_used, reason = "a failing test may say so by panicking")]

#[path = "../../../tests/support/starting.rs"]
mod starting;

use std::process::Command;

#[test]
fn without_its_environment_it_says_what_is_missing_and_ends() {
    starting::says_what_is_missing_and_ends(
        env!("CARGO_BIN_EXE_console"),
        &["INVOICES_QUEUE_URL", "AWS_REGION"],
    );
}

#[test]
fn a_login_at_a_provider_is_told_all_that_is_missing_or_wrong_at_once() {
    let start = |set: &[(&str, &str)]| {
        let always = [
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
            ("REGISTER_TABLE", "register"),
            ("AUDIT_TABLE", "audit"),
            ("INVOICES_QUEUE_URL", "https://sqs.example.com/queue"),
            ("CONSOLE_CONNECTIONS", "acme"),
        ];
        let output = Command::new(env!("CARGO_BIN_EXE_console"))
            .env_clear()
            .envs(always)
            .envs(set.iter().copied())
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = start(&[("CONSOLE_LOGIN", "oidc"), ("CONSOLE_ROLES", "boss=AP")]);
    for variable in [
        "CONSOLE_ISSUER",
        "CONSOLE_CLIENT_ID",
        "CONSOLE_SECRET",
        "CONSOLE_ROLES",
    ] {
        assert!(
            lines.lines().any(|line| line.contains(variable)),
            "{variable} in {lines}"
        );
    }
    // A person is chosen on a machine of one's own alone, and nothing else is a login.
    for login in ["local", "none"] {
        let lines = start(&[("CONSOLE_LOGIN", login)]);
        assert!(
            lines.contains("CONFIG_INVALID") && lines.contains("CONSOLE_LOGIN"),
            "{lines}"
        );
    }
}
