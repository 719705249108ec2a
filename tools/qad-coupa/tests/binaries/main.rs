//! The deployable binaries on the local AWS, wired as the templates say. Run with the workspace (`cargo test --workspace`),
//! which builds the functions too.
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "tests say what they test by their names"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::zombie_processes,
    reason = "a failing test may say so by panicking"
)]

mod commands;
mod days;
mod lookups;
mod payments;
mod security;
mod support;
