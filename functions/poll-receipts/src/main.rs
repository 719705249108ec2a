//! Schedule -> poll-receipts: new goods receipts in QAD wake the invoices that wait for them.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED, Scheduled, Wiring};

fn main() -> ExitCode {
    start("poll-receipts", NEEDED, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |scheduled: Scheduled, invocation: Invocation| {
            wiring.poll_receipts(&scheduled, &invocation).await
        })
    })
}
