//! The simulated world that the tests share.

#![allow(
    clippy::result_large_err,
    reason = "the ports' own errors, once per call to another system"
)]

pub mod fates;
pub mod gate;
pub mod harness;
pub mod invariants;
pub mod life;
pub mod machines;
pub mod memory_register;
pub mod people;
pub mod seeds;
pub mod small;
pub mod sync_watch;
