//! Schedule -> sync-lookups: QAD's tracking categories become the values of Coupa's lookups.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED, Scheduled, Wiring};

fn main() -> ExitCode {
    start("sync-lookups", NEEDED, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |scheduled: Scheduled, invocation: Invocation| {
            wiring.sync_lookups(&scheduled, &invocation).await
        })
    })
}
