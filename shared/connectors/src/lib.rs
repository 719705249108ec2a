//! How we speak to Coupa and QAD: the only crate that knows HTTP.
//!
//! Their words stop at the two `translate` modules. What goes over the wire is data: a built-in profile that each
//! connection may override.
//!
//! | module | what it holds |
//! |---|---|
//! | [`connection`] | the settings of a connection, and the clients made from them |
//! | [`coupa`] | [`flows::ports::Coupa`] over HTTP |
//! | [`qad`] | [`flows::ports::Qad`] over HTTP |
//! | [`http`] | one exchange, credentials, retries of reads, pace |

#![allow(
    clippy::result_large_err,
    reason = "a problem is five texts; errors are rare here, and a box would only hide them"
)]

pub mod connection;
pub mod coupa;
pub mod http;
mod json;
pub mod qad;

#[cfg(test)]
mod tests;
