//! What people do in Coupa in the middle of it: void, take back, change, export by other means.

use flows::ports::HintReason;
use tests::harness::{Harness, Job, Setup, every_order};
use tests::small::{INVOICE, straight_through};

/// Voided in Coupa at any moment, with the event delivered at any moment after: either nothing is in QAD and Coupa shows
/// it exported, or it is in QAD and a person is told.
#[test]
fn a_void_at_any_moment_is_never_ignored() {
    let schedules = every_order(
        2,
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("voided", |world, now| world.coupa.void(INVOICE.0, now).unwrap());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            let (state, codes) = run.standing(INVOICE);
            match run.documents(INVOICE) {
                0 => assert_eq!(state, "voided", "{}", run.story()),
                documents => {
                    assert_eq!(documents, 1);
                    assert_eq!(
                        (state.as_str(), codes),
                        ("parked", vec!["VOIDED_AFTER_POSTING".to_owned()]),
                        "{}",
                        run.story()
                    );
                }
            }
        },
    );
    assert!(schedules > 500, "{schedules}");
}

/// The approval taken back at any moment: nothing of it is posted after that was seen.
#[test]
fn an_approval_taken_back_at_any_moment_leaves_nothing_half_done() {
    every_order(
        2,
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("taken back", |world, now| {
                let invoice = world.coupa.invoices.get_mut(&INVOICE.0).unwrap();
                invoice.status = "pending_approval".to_owned();
                invoice.updated_at = now.plus_seconds(1);
            });
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            let state = run.standing(INVOICE).0;
            match run.documents(INVOICE) {
                0 => assert!(
                    state == "received" || state == "unknown",
                    "{state}\n{}",
                    run.story()
                ),
                _ => run.assert_stands(INVOICE, "exported", 1),
            }
        },
    );
}

/// Somebody else exports the invoice before this product has seen it: it is never created, however often it is hinted.
#[test]
fn what_others_have_exported_is_not_posted_however_often_it_is_hinted() {
    let mut world = straight_through();
    world.coupa.invoices.get_mut(&INVOICE.0).unwrap().exported = true;
    let mut run = Harness::new(world, &Setup::default());
    for reason in [
        HintReason::Webhook,
        HintReason::Webhook,
        HintReason::Operator,
        HintReason::Sweep,
    ] {
        run.run(Job::Match(INVOICE, reason));
        run.assert_stands(INVOICE, "rejected", 0);
    }
}

/// A flag reset in Coupa after the posting is set again.
#[test]
fn a_reset_flag_is_set_again() {
    let mut run = Harness::new(straight_through(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.sim
        .world()
        .coupa
        .invoices
        .get_mut(&INVOICE.0)
        .unwrap()
        .exported = false;
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert!(run.exported(INVOICE));
}
