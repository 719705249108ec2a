//! Schedule -> sweep: whatever is due and quiet is queued again.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED_WITH_PAYMENTS, Scheduled, Wiring};

fn main() -> ExitCode {
    start("sweep", NEEDED_WITH_PAYMENTS, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |scheduled: Scheduled, invocation: Invocation| {
            wiring.sweep(&scheduled, &invocation).await
        })
    })
}
