//! Schedule -> poll-payments: new and changed payments in QAD get into the ledgers of the bills they pay.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED_WITH_PAYMENTS, Scheduled, Wiring};

fn main() -> ExitCode {
    start("poll-payments", NEEDED_WITH_PAYMENTS, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |scheduled: Scheduled, invocation: Invocation| {
            wiring.poll_payments(&scheduled, &invocation).await
        })
    })
}
