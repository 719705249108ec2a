//! The local AWS and the local runner, seen from outside: through the AWS SDK, HTTP and a function's process.
#![cfg(feature = "local")]
#![allow(
    missing_docs,
    unreachable_pub,
    reason = "tests say what they test by their names"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets what it does not expect shall fail"
)]

mod run;
mod services;
mod support;
mod templates;
