//! The straight-through invoice: it posts, twice over, with every single fault and with every pair of faults.

use crate::every_single_fault;
use flows::ports::{HintReason, Outcomes};
use std::sync::{Arc, Mutex};
use tests::fates::{Fault, Script};
use tests::gate::Method;
use tests::harness::{Harness, Job, Setup, with_story};
use tests::small::{INVOICE, straight_through};

fn with_notes() -> Setup {
    let mut setup = Setup::default();
    setup.settings.outcomes = Outcomes::History;
    setup
}

#[test]
fn an_invoice_posts_and_is_marked_exported_in_one_run() {
    let mut run = Harness::new(straight_through(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "exported", 1);
    assert!(run.exported(INVOICE));
    assert_eq!(
        run.trail(INVOICE),
        [
            "approved",
            "creating intended",
            "creating confirmed",
            "posted",
            "exporting intended",
            "exporting confirmed",
            "exported"
        ]
    );
}

#[test]
fn the_whole_run_repeated_changes_nothing_in_either_system() {
    let mut run = Harness::new(straight_through(), &with_notes());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    let documents = run.sim.world().qad.invoices.clone();
    let trail = run.trail(INVOICE);
    for reason in [
        HintReason::Webhook,
        HintReason::Sweep,
        HintReason::Receipt,
        HintReason::Operator,
    ] {
        run.run(Job::Match(INVOICE, reason));
    }
    assert_eq!(run.sim.world().qad.invoices, documents);
    assert_eq!(run.trail(INVOICE), trail);
    assert_eq!(run.sim.world().coupa.history.len(), 1);
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn every_call_made_twice_is_one_document() {
    let mut run = Harness::new(straight_through(), &with_notes());
    run.sim.shared().doubled = true;
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "exported", 1);
    run.heal();
    run.recheck();
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn every_fault_at_every_call_ends_with_one_document() {
    for setup in [Setup::default(), with_notes()] {
        let runs = every_single_fault(
            || {
                let mut run = Harness::new(straight_through(), &setup);
                run.spawn(Job::Match(INVOICE, HintReason::Webhook));
                run
            },
            |run| {
                run.assert_stands(INVOICE, "exported", 1);
                assert!(run.exported(INVOICE));
            },
        );
        assert!(runs > 60, "{runs}");
    }
}

#[test]
fn every_pair_of_faults_ends_with_one_document() {
    let begin = || {
        let mut run = Harness::new(straight_through(), &Setup::default());
        run.spawn(Job::Match(INVOICE, HintReason::Webhook));
        run
    };
    let lateness_millis = begin().sim.timing.commit_lateness_millis;
    let mut pairs = 0u64;
    let calls = methods_with(&begin, &[], lateness_millis);
    for (first, method) in (1..).zip(calls) {
        for fault in Fault::distinct(method) {
            let faults = [(first, fault)];
            // What the second fault can hit is what is called after the first one, the healing included.
            let calls = methods_with(&begin, &faults, lateness_millis);
            for (second, method) in (1..).zip(calls).skip(usize::try_from(first).unwrap()) {
                for other in Fault::distinct(method) {
                    let faults = vec![(first, fault), (second, other)];
                    with_story(|tells| {
                        let mut run = begin().telling(tells);
                        run.fate(Script {
                            faults: faults.clone(),
                            lateness_millis,
                            ..Script::default()
                        });
                        run.run_all();
                        run.heal_under_fate();
                        run.heal();
                        let standing = run.standing(INVOICE).0;
                        assert!(
                            standing == "exported" && run.documents(INVOICE) == 1,
                            "{faults:?}: {standing}\n{}",
                            run.story()
                        );
                    });
                    pairs += 1;
                }
            }
        }
    }
    assert!(pairs > 1_000, "{pairs}");
}

/// The methods called in a run with these faults, until the invoice has come to rest.
fn methods_with(begin: &impl Fn() -> Harness, faults: &[(u64, Fault)], lateness_millis: i64) -> Vec<Method> {
    let called = Arc::new(Mutex::new(Vec::new()));
    let mut run = begin();
    run.fate(Script {
        faults: faults.to_vec(),
        lateness_millis,
        called: called.clone(),
    });
    run.run_all();
    run.heal_under_fate();
    drop(run);
    Arc::into_inner(called).unwrap().into_inner().unwrap()
}
