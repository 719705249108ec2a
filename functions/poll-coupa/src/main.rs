//! Schedule -> poll-coupa: finds approved and voided invoices that the webhooks missed.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED, Scheduled, Wiring};

fn main() -> ExitCode {
    start("poll-coupa", NEEDED, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |scheduled: Scheduled, invocation: Invocation| {
            wiring.poll_coupa(&scheduled, &invocation).await
        })
    })
}
