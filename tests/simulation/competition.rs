//! Workers that meet: on one invoice, on one receipt, on one supplier's number.

use crate::preemptions;
use flows::ports::HintReason;
use sandbox::faults::{Fault, FaultRule, System};
use tests::harness::{Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, receipt, straight_through, world};

#[test]
fn two_deliveries_of_one_hint_in_every_order_are_one_document() {
    let schedules = every_order(
        preemptions(3),
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            assert!(run.tasks.iter().all(|task| task.ended.is_some()));
            run.heal();
            run.assert_stands(INVOICE, "exported", 1);
            assert_eq!(run.sim.shared().watch.creates(), 1);
        },
    );
    assert!(schedules > 100, "{schedules}");
}

#[test]
fn two_invoices_for_one_receipt_in_every_order_are_one_posted_and_one_held() {
    let schedules = every_order(
        preemptions(3),
        || {
            let both = vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 10)];
            let ten_of_twenty = world(vec![order(ORDER, 20)], vec![receipt(ORDER, "RC1", 10)], both);
            let mut run = Harness::new(ten_of_twenty, &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            let mut standing = [run.standing(INVOICE).0, run.standing(OTHER).0];
            standing.sort();
            assert_eq!(standing, ["exported", "held"], "{}", run.story());
            assert_eq!(run.documents(INVOICE) + run.documents(OTHER), 1);
            let refused = run.sim.shared().coverage.get("create refused").copied();
            assert_eq!(refused, None, "QAD was never asked for more than it had received");
        },
    );
    assert!(schedules > 300, "{schedules}");
}

#[test]
fn two_invoices_with_one_supplier_number_in_every_order_are_one_document() {
    let schedules = every_order(
        2,
        || {
            let first = invoice(INVOICE, ORDER, 10);
            let mut second = invoice(OTHER, ORDER, 10);
            // The same for the eye.
            second.number = format!("{}\u{200b}", first.number.to_lowercase());
            let receipts = vec![receipt(ORDER, "RC1", 10), receipt(ORDER, "RC2", 10)];
            let run_world = world(vec![order(ORDER, 20)], receipts, vec![first, second]);
            let mut run = Harness::new(run_world, &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            run.recheck();
            let mut standing = [run.standing(INVOICE), run.standing(OTHER)];
            standing.sort();
            assert_eq!(standing[0].0, "exported", "{}", run.story());
            assert_eq!(
                standing[1],
                ("parked".to_owned(), vec!["DUPLICATE_REFERENCE".to_owned()])
            );
            assert_eq!(run.documents(INVOICE), 1);
        },
    );
    assert!(schedules > 100, "{schedules}");
}

/// One bill that was entered twice, once with a leading zero; what it bills is received twice over.
pub(crate) fn the_same_bill_with_a_zero_in_front() -> Harness {
    let mut first = invoice(INVOICE, ORDER, 10);
    first.number = "3856/GST23-24".to_owned();
    let mut second = invoice(OTHER, ORDER, 10);
    second.number = "03856/GST23-24".to_owned();
    let receipts = vec![receipt(ORDER, "RC1", 10), receipt(ORDER, "RC2", 10)];
    Harness::new(
        world(vec![order(ORDER, 20)], receipts, vec![first, second]),
        &Setup::default(),
    )
}

#[test]
fn a_bill_that_was_entered_twice_in_every_order_is_one_document() {
    let schedules = every_order(
        2,
        || {
            let mut run = the_same_bill_with_a_zero_in_front();
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            run.recheck();
            let mut standing = [run.standing(INVOICE), run.standing(OTHER)];
            standing.sort();
            assert_eq!(standing[0].0, "exported", "{}", run.story());
            assert_eq!(
                standing[1],
                ("parked".to_owned(), vec!["NEAR_DUPLICATE".to_owned()]),
                "{}",
                run.story()
            );
            assert_eq!(run.documents(INVOICE) + run.documents(OTHER), 1);
        },
    );
    assert!(schedules > 100, "{schedules}");
}

/// Approved, refused by QAD and voided: nothing of it can be in QAD, so the one that was entered correctly is posted.
#[test]
fn a_bill_that_was_voided_before_it_was_in_qad_is_near_to_nothing() {
    let mut run = the_same_bill_with_a_zero_in_front();
    let refusal = FaultRule::next(
        System::Qad,
        "supplier-invoices.create",
        None,
        Fault::BusinessRefusal {
            code: "closed".to_owned(),
            field: String::new(),
            message: "The period is closed.".to_owned(),
        },
    );
    run.sim.ports.faults.lock().unwrap().arm(refusal);
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run.assert_stands(OTHER, "parked", 0);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(
        run.standing(INVOICE),
        ("parked".to_owned(), vec!["NEAR_DUPLICATE".to_owned()]),
        "it may yet be posted"
    );
    run.spawn_step("voided", |world, now| world.coupa.void(OTHER.0, now).unwrap());
    run.run_all();
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(OTHER, "voided", 0);
}

/// Two invoices over seven and three of ten on one receiver line: together they use it up.
fn seven_and_three() -> Harness {
    let both = vec![invoice(INVOICE, ORDER, 7), invoice(OTHER, ORDER, 3)];
    let ten = world(vec![order(ORDER, 10)], vec![receipt(ORDER, "RC1", 10)], both);
    Harness::new(ten, &Setup::default())
}

/// Both are posted after one sweep: neither waits for the slow recheck.
fn assert_both_posted_at_once(run: &mut Harness) {
    let start = run.sim.now();
    run.run(Job::Sweep);
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(OTHER, "exported", 1);
    assert!(run.sim.now().millis_since(start) < 60_000, "{}", run.story());
}

/// Seven and three of ten on one receiver line: together they use it up. In every order, with the second decided while the
/// first one's create is on its way, QAD is told by exactly one of them that nothing of the line stays open; neither waits
/// for the slow recheck, and they never wait for each other.
#[test]
fn two_invoices_that_use_up_a_receiver_line_in_every_order_finish_it_once() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut run = seven_and_three();
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |mut run| {
            assert_both_posted_at_once(&mut run);
            let world = run.sim.world();
            let finishing = world
                .qad
                .invoices
                .iter()
                .flat_map(|invoice| &invoice.record.receiver_matchings)
                .filter(|matching| matching.is_finished);
            assert_eq!(finishing.count(), 1, "{}", run.story());
            assert!(world.qad.receipts[0].finished);
        },
    );
    assert!(schedules > 30, "{schedules}");
}

/// The second is decided while the first one's create is on its way, and is stored as waiting for it at any moment of what
/// the first still does: it is never forgotten until the slow recheck.
#[test]
fn whoever_waits_for_another_invoice_in_flight_is_woken_whenever_that_one_settles() {
    let schedules = every_order(
        1,
        || {
            let mut run = seven_and_three();
            let first = run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            while run.standing(INVOICE).0 != "approved" {
                run.step(first);
            }
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |mut run| {
            assert_both_posted_at_once(&mut run);
        },
    );
    assert!(schedules > 12, "{schedules}");
}

/// The first one's answer is lost: the second waits until that is settled, and then posts by itself.
#[test]
fn the_rest_of_a_receiver_line_waits_for_a_lost_answer_and_then_posts_by_itself() {
    for (fault, code) in [
        (sandbox::faults::Fault::LostBefore, "RECEIVER_LINE_IN_FLIGHT"),
        // QAD shows as invoiced what is still spoken for: counted twice until the answer is known, and never too little.
        (sandbox::faults::Fault::LostAfter, "ANOTHER_INVOICE_IN_FLIGHT"),
    ] {
        let mut run = seven_and_three();
        let rule = sandbox::faults::FaultRule::next(
            sandbox::faults::System::Qad,
            "supplier-invoices.create",
            None,
            fault,
        );
        run.sim.ports.faults.lock().unwrap().arm(rule);
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        assert_eq!(run.standing(INVOICE).0, "approved");
        run.run(Job::Match(OTHER, HintReason::Webhook));
        assert_eq!(run.standing(OTHER).1, [code]);
        let asked = run.sim.ports.journal.lock().unwrap().entries().count();
        run.run(Job::Sweep);
        run.deliver_all();
        let now = run.sim.ports.journal.lock().unwrap().entries().count();
        assert_eq!(asked, now, "waiting costs nothing");
        run.heal();
        run.run(Job::Sweep);
        run.deliver_all();
        run.assert_stands(INVOICE, "exported", 1);
        run.assert_stands(OTHER, "exported", 1);
        assert!(run.sim.world().qad.receipts[0].finished);
    }
}
