//! Schedule -> sync-suppliers: suppliers of QAD and Coupa are linked, created on the side that lacks them, and kept equal.

use aws::lambda::{Invocation, start};
use std::process::ExitCode;
use wiring::{NEEDED, SupplierRun, Wiring};

fn main() -> ExitCode {
    start("sync-suppliers", NEEDED, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |run: SupplierRun, invocation: Invocation| {
            wiring.sync_suppliers(&run, &invocation).await
        })
    })
}
