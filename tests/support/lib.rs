//! The simulated world that the tests share.

#![allow(
    clippy::result_large_err,
    reason = "the ports' own errors, once per call to another system"
)]

use domain::timing::Timing;

/// The chain of times of the simulated lives: QAD is less late than it may be by default, so that many
/// settle windows fit into a life. What holds does not depend on how long the window is.
pub fn timing() -> Timing {
    Timing {
        commit_lateness_millis: 150_000,
        ..Timing::default()
    }
}

pub mod fates;
pub mod gate;
pub mod harness;
pub mod invariants;
pub mod large_register;
pub mod life;
pub mod machines;
pub mod memory_register;
pub mod people;
pub mod seeds;
pub mod small;
pub mod sync_watch;
