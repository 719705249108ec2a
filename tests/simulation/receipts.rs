//! An invoice that waits for its receipt: it posts when the receipt is there, no sooner, and no wake-up is lost.

use crate::{every_single_fault, preemptions};
use flows::ports::{HintReason, Outcomes};
use std::sync::{Arc, Mutex};
use tests::fates::Script;
use tests::gate::Method;
use tests::harness::{Ended, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, receipt, without_receipt};

fn with_notes() -> Setup {
    let mut setup = Setup::default();
    setup.settings.outcomes = Outcomes::History;
    setup
}

/// The warehouse posts the receipt.
fn post_receipt(run: &mut Harness) {
    run.spawn_step("the receipt is posted", |world, _| {
        world.qad.post_receipt(receipt(ORDER, "RC1", 10)).unwrap();
    });
}

#[test]
fn an_invoice_waits_for_its_receipt_and_posts_when_the_poll_sees_it() {
    let mut run = Harness::new(without_receipt(), &with_notes());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "held", 0);
    assert_eq!(run.standing(INVOICE).1, ["RECEIPT_MISSING"]);
    assert!(!run.exported(INVOICE));
    assert_eq!(
        run.run(Job::PollReceipts),
        Some(Ended::Polled(Ok(0))),
        "nothing new, nobody is woken"
    );
    post_receipt(&mut run);
    run.run_all();
    assert_eq!(run.run(Job::PollReceipts), Some(Ended::Polled(Ok(1))));
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
    assert!(run.exported(INVOICE));
}

#[test]
fn a_poll_repeated_wakes_nobody_twice() {
    let mut run = Harness::new(without_receipt(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    post_receipt(&mut run);
    run.run_all();
    assert_eq!(run.run(Job::PollReceipts), Some(Ended::Polled(Ok(1))));
    let calls = run.sim.shared().calls;
    assert_eq!(run.run(Job::PollReceipts), Some(Ended::Polled(Ok(0))));
    assert_eq!(
        run.sim.shared().calls - calls,
        2,
        "an idle cycle reads the watermark and QAD, and writes nothing"
    );
}

#[test]
fn a_hint_of_the_poll_that_gets_lost_is_made_up_for_by_the_sweep() {
    let mut run = Harness::new(without_receipt(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    post_receipt(&mut run);
    run.run_all();
    assert_eq!(run.run(Job::PollReceipts), Some(Ended::Polled(Ok(1))));
    run.sim.shared().queue.clear();
    assert_eq!(
        run.run(Job::Sweep),
        Some(Ended::Polled(Ok(0))),
        "the hint has some time first"
    );
    let due = run.record(INVOICE).unwrap().due(&run.sim.timing).unwrap();
    run.sim.advance_to(due.0);
    run.run(Job::Sweep);
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn a_hint_of_the_sweep_about_what_is_not_due_asks_nobody_outside_and_writes_nothing() {
    let mut run = Harness::new(without_receipt(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    let called = Arc::new(Mutex::new(Vec::new()));
    run.fate(Script {
        called: called.clone(),
        ..Script::default()
    });
    for _ in 0..3 {
        run.run(Job::Match(INVOICE, HintReason::Sweep));
    }
    assert_eq!(*called.lock().unwrap(), [Method::Read; 3]);
    run.assert_stands(INVOICE, "held", 0);
}

#[test]
fn every_call_made_twice_is_one_document() {
    let mut run = Harness::new(without_receipt(), &with_notes());
    run.sim.shared().doubled = true;
    for _ in 0..2 {
        run.run(Job::Match(INVOICE, HintReason::Webhook));
    }
    post_receipt(&mut run);
    run.run_all();
    for _ in 0..2 {
        run.run(Job::PollReceipts);
        run.deliver_all();
    }
    run.assert_stands(INVOICE, "exported", 1);
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn every_fault_at_every_call_of_hold_and_poll_and_release_ends_with_one_document() {
    let runs = every_single_fault(
        || {
            let mut run = Harness::new(without_receipt(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            post_receipt(&mut run);
            run.spawn(Job::PollReceipts);
            run.spawn(Job::Match(INVOICE, HintReason::Receipt));
            run
        },
        |run| run.assert_stands(INVOICE, "exported", 1),
    );
    assert!(runs > 80, "{runs}");
}

#[test]
fn hold_receipt_and_poll_in_every_order_lose_no_wake_up() {
    let schedules = every_order(
        preemptions(3),
        || {
            let mut run = Harness::new(without_receipt(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            post_receipt(&mut run);
            run.spawn(Job::PollReceipts);
            run
        },
        |mut run| {
            // The next poll finds what was posted after this one; it finds nothing that this one has taken in.
            run.run(Job::PollReceipts);
            // Only what the polls have queued: neither the sweep nor the recheck may be needed.
            run.deliver_all();
            run.assert_stands(INVOICE, "exported", 1);
        },
    );
    assert!(schedules > 100, "{schedules}");
}

#[test]
fn two_receipt_polls_at_once_in_every_order_lose_no_wake_up() {
    let schedules = every_order(
        preemptions(3),
        || {
            let mut run = Harness::new(without_receipt(), &Setup::default());
            run.run(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::PollReceipts);
            post_receipt(&mut run);
            run.spawn(Job::PollReceipts);
            run
        },
        |mut run| {
            run.run(Job::PollReceipts);
            run.deliver_all();
            run.assert_stands(INVOICE, "exported", 1);
        },
    );
    assert!(schedules > 50, "{schedules}");
}

#[test]
fn a_stale_note_never_hides_how_it_ended() {
    every_order(
        preemptions(2),
        || {
            let mut run = Harness::new(without_receipt(), &with_notes());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            post_receipt(&mut run);
            run.spawn(Job::Match(INVOICE, HintReason::Receipt));
            run
        },
        |mut run| {
            run.heal();
            run.recheck();
            run.assert_stands(INVOICE, "exported", 1);
            let world = run.sim.world();
            let Some(newest) = world.coupa.history.values().next_back() else {
                drop(world);
                panic!("no note at all\n{}", run.story());
            };
            assert_eq!(
                newest["responses"][0]["response-code"],
                "POSTED",
                "{:#?}\n{}",
                world.coupa.history,
                run.story()
            );
        },
    );
}
