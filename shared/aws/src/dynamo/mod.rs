//! The register over DynamoDB: one table for records, one for the audit trail.

mod call;
mod item;
pub mod keys;
mod questions;
pub mod register;

pub(crate) use call::Tries;
pub(crate) use item::{Item, number, number_value, text, text_value};
pub use register::{DynamoRegister, RegisterTables};
