//! The simulated world that the tests share.

pub mod fates;
pub mod gate;
pub mod harness;
pub mod invariants;
pub mod local_dynamo;
pub mod memory_register;
pub mod register_contract;
pub mod small;
