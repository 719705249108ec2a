//! Schedule -> sweep: whatever is due and quiet is queued again.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED, Scheduled, Wiring};

fn main() -> ExitCode {
    start("sweep", NEEDED, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |scheduled: Scheduled, invocation: Invocation| {
            wiring.sweep(&scheduled, &invocation).await
        })
    })
}
