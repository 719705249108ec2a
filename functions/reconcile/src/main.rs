//! Schedule -> reconcile: once a day both sides against each other, for what nobody looked for.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED, Reconcile, Wiring};

fn main() -> ExitCode {
    start("reconcile", NEEDED, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |asked: Reconcile, invocation: Invocation| wiring.reconcile(&asked, &invocation).await)
    })
}
