//! The deployable binaries on the local AWS, seen by somebody who wants to break in, read secrets, or change them while
//! work is under way. Run with the workspace (`cargo test --workspace`), which builds the functions too.
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
    reason = "a failing test may say so by panicking"
)]

mod canary;
mod door;
mod rotation;
mod world;
