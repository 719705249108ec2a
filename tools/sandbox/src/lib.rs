//! Coupa and QAD as simulators with their real wire and rules and faults on demand, and the local AWS.

pub mod bench;
pub mod control;
pub mod coupa;
pub mod faults;
pub mod http;
pub mod journal;
#[cfg(feature = "local")]
pub mod local;
pub mod ports;
pub mod qad;
pub mod scenario;
pub mod world;
