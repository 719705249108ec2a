//! The Coupa poll and the sweep: what the webhooks missed is found, what is due is driven on, and nothing depends on the
//! queue.

use crate::{every_single_fault, preemptions};
use domain::effect::Step;
use domain::timing::Timing;
use flows::ports::HintReason;
use tests::fates::{Fault, Script};
use tests::gate::Method;
use tests::harness::{Ended, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, receipt, straight_through, world};

/// Two approved invoices and one that is not.
fn three_invoices() -> Harness {
    let mut pending = invoice(domain::ids::InvoiceId(7_003), ORDER, 10);
    pending.status = "pending_approval".to_owned();
    let invoices = vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 10), pending];
    let receipts = vec![receipt(ORDER, "RC1", 20)];
    Harness::new(
        world(vec![order(ORDER, 30)], receipts, invoices),
        &Setup::default(),
    )
}

fn both_posted(run: &Harness) {
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(OTHER, "exported", 1);
    assert!(
        run.record(domain::ids::InvoiceId(7_003)).is_none(),
        "what Coupa has not approved is not kept"
    );
}

#[test]
fn the_coupa_poll_finds_what_the_webhooks_missed() {
    let mut run = three_invoices();
    assert_eq!(run.run(Job::PollCoupa), Some(Ended::Polled(Ok(2))));
    run.deliver_all();
    both_posted(&run);
    assert_eq!(
        run.run(Job::PollCoupa),
        Some(Ended::Polled(Ok(0))),
        "a second poll has no news"
    );
}

#[test]
fn the_coupa_poll_repeated_and_doubled_changes_nothing() {
    let mut run = three_invoices();
    run.sim.shared().doubled = true;
    run.run(Job::PollCoupa);
    run.run(Job::PollCoupa);
    run.deliver_all();
    both_posted(&run);
    run.heal();
    both_posted(&run);
}

#[test]
fn every_fault_at_every_call_of_the_coupa_poll_loses_nothing() {
    let runs = every_single_fault(
        || {
            let mut run = three_invoices();
            run.spawn(Job::PollCoupa);
            run
        },
        both_posted,
    );
    assert!(runs >= 12, "{runs}");
}

#[test]
fn two_coupa_polls_and_a_delivery_in_every_order_are_one_document_each() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.spawn(Job::PollCoupa);
            run.spawn(Job::PollCoupa);
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            run.deliver_all();
            run.heal();
            run.assert_stands(INVOICE, "exported", 1);
        },
    );
    assert!(schedules > 20, "{schedules}");
}

/// An invoice whose worker died at its create, at the first moment at which the sweep looks after it.
fn abandoned(dies: Fault) -> Harness {
    abandoned_in(&Setup::default(), dies)
}

fn abandoned_in(setup: &Setup, dies: Fault) -> Harness {
    let mut run = Harness::new(straight_through(), setup);
    let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    run.fate(Script {
        called: calls.clone(),
        ..Script::default()
    });
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    let create = calls
        .lock()
        .unwrap()
        .iter()
        .position(|method| *method == Method::CreateInvoice)
        .unwrap();
    let mut run = Harness::new(straight_through(), setup);
    run.fate(Script {
        faults: vec![(u64::try_from(create).unwrap() + 1, dies)],
        ..Script::default()
    });
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.fate(tests::gate::Calm);
    run.assert_stands(INVOICE, "approved", usize::from(dies == Fault::CrashAfter));
    let due = run.record(INVOICE).unwrap().due(&run.sim.timing).unwrap();
    run.sim.advance_to(due.0);
    run
}

/// The same when nothing has left, at the moment from which a look-up proves it.
fn settled() -> Harness {
    let run = abandoned(Fault::CrashBefore);
    let record = run.record(INVOICE).unwrap();
    let Step::LookEarly { settled } = record.creation.unwrap().step(run.sim.now(), &run.sim.timing) else {
        panic!("nobody looks early");
    };
    run.sim.advance_to(settled.0);
    run
}

#[test]
fn what_has_left_before_its_worker_died_is_found_as_soon_as_the_lease_is_over() {
    let mut run = abandoned(Fault::CrashAfter);
    let began = run.sim.now().0;
    assert_eq!(run.run(Job::Sweep), Some(Ended::Polled(Ok(1))));
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
    assert!(run.sim.now().0 - began < 1_000);
}

#[test]
fn an_early_look_that_finds_nothing_sends_nothing_and_comes_again_later() {
    // With the product's own times: half an hour.
    let setup = Setup {
        timing: Timing::default(),
        ..Setup::default()
    };
    let mut run = abandoned_in(&setup, Fault::CrashBefore);
    let settle = run.sim.timing.settle_millis();
    let began = run.sim.now().0;
    let mut looks = 0;
    while run.standing(INVOICE).0 == "approved" {
        run.assert_stands(INVOICE, "approved", 0);
        run.run(Job::Sweep);
        run.deliver_all();
        looks += 1;
        let due = run.record(INVOICE).unwrap().due(&run.sim.timing);
        run.sim.advance_to(due.map_or(0, |due| due.0));
    }
    run.assert_stands(INVOICE, "exported", 1);
    assert!(
        run.sim.now().0 - began >= settle,
        "sent again before a look-up proves anything"
    );
    assert!((5..=15).contains(&looks), "{looks} looks, rarer each time");
}

#[test]
fn the_sweep_drives_on_what_a_dead_worker_left() {
    let mut run = settled();
    assert_eq!(run.run(Job::Sweep), Some(Ended::Polled(Ok(1))));
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(
        run.run(Job::Sweep),
        Some(Ended::Polled(Ok(0))),
        "what rests is not swept"
    );
}

/// A backlog that nobody gets to is on the queue once; a message that was lost is made up for when its time is over.
#[test]
fn what_is_on_its_way_already_is_not_swept_at_every_tick() {
    let mut run = abandoned_in(
        &Setup {
            warm: true,
            ..Setup::default()
        },
        Fault::CrashBefore,
    );
    let swept = |run: &mut Harness| run.run(Job::Sweep);
    assert_eq!(swept(&mut run), Some(Ended::Polled(Ok(1))));
    for _ in 0..5 {
        assert_eq!(swept(&mut run), Some(Ended::Polled(Ok(0))));
    }
    run.sim.shared().queue.clear();
    let lease = run.sim.timing.lease_millis;
    run.sim.advance_to(run.sim.now().0 + lease);
    assert_eq!(
        swept(&mut run),
        Some(Ended::Polled(Ok(1))),
        "its message was lost"
    );
}

#[test]
fn the_sweep_repeated_and_doubled_changes_nothing() {
    let mut run = settled();
    run.sim.shared().doubled = true;
    run.run(Job::Sweep);
    run.run(Job::Sweep);
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn every_fault_at_every_call_of_the_sweep_and_what_follows_ends_with_one_document() {
    let runs = every_single_fault(
        || {
            let mut run = settled();
            run.spawn(Job::Sweep);
            run.spawn(Job::Match(INVOICE, HintReason::Sweep));
            run
        },
        |run| run.assert_stands(INVOICE, "exported", 1),
    );
    assert!(runs > 40, "{runs}");
}

#[test]
fn two_sweeps_and_their_hints_in_every_order_are_one_document() {
    let begins: [fn() -> Harness; 3] = [
        || abandoned(Fault::CrashAfter),
        || abandoned(Fault::CrashBefore),
        settled,
    ];
    for begin in begins {
        let schedules = every_order(
            preemptions(2),
            || {
                let mut run = begin();
                run.spawn(Job::Sweep);
                run.spawn(Job::Match(INVOICE, HintReason::Sweep));
                run.spawn(Job::Match(INVOICE, HintReason::Sweep));
                run
            },
            |mut run| {
                run.heal();
                run.assert_stands(INVOICE, "exported", 1);
            },
        );
        assert!(schedules > 20, "{schedules}");
    }
}

#[test]
fn every_message_lost_at_any_moment_is_healed_by_the_sweep_and_the_poll() {
    let mut run = three_invoices();
    run.run(Job::PollCoupa);
    run.sim.shared().queue.clear();
    run.heal();
    both_posted(&run);
}

/// One 404 among good answers: a right that was taken away for a while, or a copy of Coupa's that lagged behind.
#[test]
fn an_invoice_that_coupa_did_not_show_once_is_taken_up_again_when_its_list_shows_it() {
    let mut run = Harness::new(straight_through(), &Setup::default());
    let receipts = std::mem::take(&mut run.sim.world().qad.receipts);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "held", 0);
    let hidden = run.sim.world().coupa.invoices.remove(&INVOICE.0).unwrap();
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "rejected", 0);
    run.sim.world().coupa.invoices.insert(INVOICE.0, hidden);
    run.sim.world().qad.receipts = receipts;
    run.run(Job::PollCoupa);
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
}
