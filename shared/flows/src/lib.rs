//! What the system does, in the order an invoice meets it. One file per flow: why it exists, `struct Deps` (which is
//! the list of its permissions), `run`. No AWS and no HTTP in here: those are ports.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::result_large_err,
        reason = "tests count small numbers; an overflow there is a failing test"
    )
)]

#[cfg(test)]
extern crate self as flows;

pub mod bills;
pub mod claims;
pub mod connection_settings;
pub mod coupa_orders;
mod credits;
pub mod daily_mail;
pub mod delivery;
pub mod engine;
pub mod feed;
pub mod hinted;
pub mod index;
pub mod invoice_effects;
pub mod match_invoice;
// The model of the register that the simulations run over.
#[cfg(test)]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is a part of another crate, and the tests in here need less of it"
)]
#[path = "../../../tests/support/memory_register.rs"]
mod memory_register;
pub mod month_end;
pub mod neighbours;
pub mod opening;
pub mod operator;
pub mod order_event;
mod originals;
pub mod owner;
pub mod pace;
pub mod pause;
pub mod plans;
pub mod poll_coupa;
pub mod poll_orders;
pub mod poll_payments;
pub mod poll_receipts;
pub mod ports;
pub mod published;
pub mod receive_webhook;
pub mod reconcile;
pub mod restore;
pub mod store;
pub mod supplier_event;
pub mod sweep;
pub mod sync_lookups;
#[cfg(test)]
mod sync_model;
pub mod sync_suppliers;
#[cfg(test)]
mod testing;
mod verify;
mod waiting;
pub mod watermark;
pub mod webhook;
pub mod write_payment;

#[cfg(test)]
mod secret_types {
    //! What holds a secret has no way to be printed or written.
    use serde::Serialize;
    use static_assertions::assert_not_impl_any;
    use std::fmt::{Debug, Display};

    assert_not_impl_any!(crate::ports::CachedToken: Debug, Display, Serialize);
    assert_not_impl_any!(crate::ports::TokenState: Debug, Display, Serialize);
    assert_not_impl_any!(crate::receive_webhook::Answer: Debug, Display, Serialize);
    assert_not_impl_any!(crate::receive_webhook::GatewayRequest: Debug, Display, Serialize);
    assert_not_impl_any!(crate::webhook::Headers: Debug, Display, Serialize);
    assert_not_impl_any!(crate::webhook::Unverified<'static>: Debug, Display, Serialize);
    assert_not_impl_any!(crate::webhook::call_out::IssuedToken: Debug, Display, Serialize, Clone);
    assert_not_impl_any!(crate::webhook::settings::WebhookSettings: Display, Serialize);
    assert_not_impl_any!(crate::webhook::signature::SigningSecret: Display, Serialize);
}
