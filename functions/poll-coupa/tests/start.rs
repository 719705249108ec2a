//! The deployable binary: without its environment it says everything that is missing, and does not run.

#[path = "../../../tests/support/starting.rs"]
mod starting;

#[test]
fn without_its_environment_it_says_what_is_missing_and_ends() {
    starting::says_what_is_missing_and_ends(
        env!("CARGO_BIN_EXE_poll-coupa"),
        &["INVOICES_QUEUE_URL", "AWS_REGION"],
    );
}
