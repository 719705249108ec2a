//! The order in Coupa behind an invoice: closed or cancelled there, nothing is posted although everything matches in QAD;
//! an event about it wakes what it holds up; and it is asked for no more often than needed.

use crate::{every_single_fault, preemptions};
use domain::coupa_orders::OnCoupaOrder;
use flows::ports::HintReason;
use sandbox::faults::{Fault, FaultRule, System};
use sandbox::scenario::CoupaOrderChange;
use sandbox::world::World;
use tests::harness::{BEGINNING, Ended, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, receipt, straight_through, world};

fn standing(word: &str) -> World {
    let mut world = straight_through();
    CoupaOrderChange::status(ORDER, word).apply(&mut world, BEGINNING);
    world
}

/// A connection that has a person look at closed orders too.
fn strict() -> Setup {
    let mut setup = Setup::default();
    setup.settings.policy.coupa_orders.closed = OnCoupaOrder::Park;
    setup.settings.policy.coupa_orders.soft_closed = OnCoupaOrder::Park;
    setup
}

/// An order's status, and then Coupa's event about it.
fn set_and_tell(run: &mut Harness, word: &'static str) {
    assert_eq!(run.run(Job::SetOrder(ORDER, word)), Some(Ended::Polled(Ok(1))));
    run.deliver_all();
}

pub(crate) fn asked(run: &Harness, operation: &str) -> usize {
    let journal = run.sim.ports.journal.lock().unwrap();
    journal
        .entries()
        .filter(|entry| entry.operation == operation)
        .count()
}

#[test]
fn an_order_in_the_way_in_coupa_posts_nothing_until_its_event_says_otherwise() {
    for (word, state, code) in [
        ("closed", "parked", "COUPA_ORDER_CLOSED"),
        ("soft_closed", "parked", "COUPA_ORDER_CLOSED"),
        ("cancelled", "parked", "COUPA_ORDER_CANCELLED"),
        ("frozen", "parked", "COUPA_ORDER_STATUS_UNKNOWN"),
        ("buyer_hold", "held", "COUPA_ORDER_NOT_ISSUED"),
    ] {
        let mut run = Harness::new(standing(word), &strict());
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        run.assert_stands(INVOICE, state, 0);
        assert_eq!(run.standing(INVOICE).1, [code], "{word}");
        run.recheck();
        run.assert_stands(INVOICE, state, 0);
        set_and_tell(&mut run, "issued");
        run.assert_stands(INVOICE, "exported", 1);
    }
}

/// Coupa closes an order by itself once it is billed in full: by the very invoice that waits for its receipt.
#[test]
fn an_order_that_coupa_has_closed_by_itself_waits_for_its_receipt_and_posts() {
    for word in ["closed", "soft_closed"] {
        let mut waiting = standing(word);
        let receipts = std::mem::take(&mut waiting.qad.receipts);
        let mut run = Harness::new(waiting, &Setup::default());
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        run.assert_stands(INVOICE, "held", 0);
        assert_eq!(run.standing(INVOICE).1, ["RECEIPT_MISSING"]);
        run.sim.ports.world.lock().unwrap().qad.receipts = receipts;
        run.recheck();
        run.assert_stands(INVOICE, "exported", 1);
    }
}

#[test]
fn an_order_cancelled_while_its_invoice_waits_for_the_receipt_is_told_of() {
    let mut waiting = straight_through();
    waiting.qad.receipts.clear();
    let mut run = Harness::new(waiting, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).1, ["RECEIPT_MISSING"]);
    set_and_tell(&mut run, "cancelled");
    run.assert_stands(INVOICE, "parked", 0);
    let codes = run.standing(INVOICE).1;
    assert!(codes.contains(&"COUPA_ORDER_CANCELLED".to_owned()), "{codes:?}");
}

/// Opened again, and told of, at any moment of the decision that parks the invoice: it posts without anybody's help, long
/// before the slow recheck.
#[test]
fn an_order_opened_again_at_any_moment_is_noticed() {
    let schedules = every_order(
        preemptions(3),
        || {
            let mut run = Harness::new(standing("closed"), &strict());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::SetOrder(ORDER, "issued"));
            run
        },
        |mut run| {
            run.deliver_all();
            run.assert_stands(INVOICE, "exported", 1);
        },
    );
    assert!(schedules > 10, "{schedules}");
}

/// A look-up that fails is no answer, and never "no such order": nothing is posted on the strength of it.
#[test]
fn a_failed_read_of_the_order_is_not_no_order() {
    let mut run = Harness::new(standing("cancelled"), &Setup::default());
    for fault in [
        Fault::Status {
            status: 503,
            retry_after: Default::default(),
            after_commit: false,
        },
        Fault::MalformedJson,
    ] {
        let rule = FaultRule::next(System::Coupa, "orders.list", None, fault);
        run.sim.ports.faults.lock().unwrap().arm(rule);
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        assert_ne!(run.standing(INVOICE).0, "exported");
        assert_eq!(run.documents(INVOICE), 0);
    }
    run.heal();
    run.recheck();
    run.assert_stands(INVOICE, "parked", 0);
    assert_eq!(run.standing(INVOICE).1, ["COUPA_ORDER_CANCELLED"]);
}

#[test]
fn every_fault_at_every_call_leaves_a_cancelled_order_unposted() {
    let runs = every_single_fault(
        || {
            let mut run = Harness::new(standing("cancelled"), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |run| run.assert_stands(INVOICE, "parked", 0),
    );
    assert!(runs > 10, "{runs}");
}

/// What a person must look at anyway costs no question about the order; neither does anything where the connection does
/// not want to know.
#[test]
fn the_order_is_asked_for_only_when_a_decision_needs_it() {
    let mut without_number = straight_through();
    let supplier = without_number.coupa.suppliers.values_mut().next().unwrap();
    supplier.insert("number".to_owned(), serde_json::Value::Null);
    let mut run = Harness::new(without_number, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "parked");
    assert_eq!(asked(&run, "orders.list"), 0);

    let mut setup = Setup::default();
    setup.settings.policy.coupa_orders.read = false;
    let mut run = Harness::new(standing("cancelled"), &setup);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(asked(&run, "orders.list"), 0);

    let mut run = Harness::new(straight_through(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(asked(&run, "orders.list"), 1);
}

/// Two bills of one order in one delivery: Coupa is asked once.
#[test]
fn a_delivery_asks_for_an_order_once() {
    let both = vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 10)];
    let twenty = world(vec![order(ORDER, 20)], vec![receipt(ORDER, "RC1", 20)], both);
    let mut run = Harness::new(twenty, &Setup::default());
    run.spawn(Job::MatchBoth(INVOICE, OTHER));
    run.run_all();
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(OTHER, "exported", 1);
    assert_eq!(asked(&run, "orders.list"), 1);
}
