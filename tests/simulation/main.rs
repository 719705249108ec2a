//! The flows under every fault, in every order, against a world with the rules of both systems.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that overflows, or misses what it put there, must fail loudly, and says what it found"
)]

mod aligned;
#[cfg(debug_assertions)]
mod aligned_guards;
mod companies;
mod competition;
mod coupa_orders;
mod deliveries;
mod effect_machine;
mod entities;
mod exhaustive;
#[cfg(debug_assertions)]
mod guards;
mod instructions;
mod late;
mod ledger;
mod life;
mod machines;
mod order_moves;
mod originals;
mod owners;
mod payments;
mod people;
mod periods;
mod polls;
mod receipts;
mod reconciled;
mod straight;
mod suppliers;
mod tokens;
mod twins;
mod upgrade;
mod waits;
mod whole;

use std::sync::{Arc, Mutex};
use tests::fates::{Fault, Script};
use tests::gate::Method;
use tests::harness::{Harness, with_story};

/// Runs what `begin` has prepared with every fault at every call, heals, and asks `end` for its opinion. The answer is
/// how many runs there were.
fn every_single_fault(begin: impl Fn() -> Harness, end: impl Fn(&Harness)) -> usize {
    every_fault(Fault::of, begin, |run| end(run))
}

/// The same with the kinds of fault that a method shall have.
fn every_fault(
    kinds: impl Fn(Method) -> Vec<Fault>,
    begin: impl Fn() -> Harness,
    end: impl Fn(&mut Harness),
) -> usize {
    let called = Arc::new(Mutex::new(Vec::new()));
    let mut calm = begin();
    let lateness_millis = calm.sim.timing.commit_lateness_millis;
    // What `begin` has done already is not under test.
    let done = calm.sim.shared().calls;
    calm.fate(Script {
        called: called.clone(),
        ..Script::default()
    });
    calm.run_all();
    let methods = called.lock().unwrap().clone();
    let mut runs = 0;
    for (number, method) in (done + 1..).zip(methods) {
        for fault in kinds(method) {
            with_story(|tells| {
                let mut run = begin().telling(tells);
                run.fate(Script {
                    faults: vec![(number, fault)],
                    lateness_millis,
                    ..Script::default()
                });
                run.run_all();
                run.heal();
                end(&mut run);
            });
            runs += 1;
        }
    }
    runs
}

/// How often a schedule may take the processor away: one time less in a debug build, which keeps the whole suite under a
/// minute.
fn preemptions(in_release: usize) -> usize {
    if cfg!(debug_assertions) {
        in_release - 1
    } else {
        in_release
    }
}
