//! Two invoices of one delivery: Coupa is asked for both at once, and neither comes to anything else than it would alone, whatever
//! the common request brings, whoever dies, and whatever changes in between.

use crate::coupa_orders::asked;
use crate::{every_single_fault, preemptions};
use sandbox::faults::{Fault, FaultRule, System};
use sandbox::scenario::CoupaOrderChange;
use sandbox::world::World;
use serde_json::Value;
use tests::harness::{BEGINNING, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, receipt, supplier, world};

/// The order of the second invoice.
const SECOND: &str = "PO8";

fn two() -> World {
    world(
        vec![order(ORDER, 10), order(SECOND, 20)],
        vec![receipt(ORDER, "RC1", 10), receipt(SECOND, "RC2", 20)],
        vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, SECOND, 20)],
    )
}

fn begun(world: World) -> Harness {
    let mut run = Harness::new(world, &Setup::default());
    run.spawn(Job::MatchBoth(INVOICE, OTHER));
    run
}

fn both_are_posted(run: &Harness) {
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(OTHER, "exported", 1);
}

#[test]
fn invoices_and_orders_of_a_delivery_are_one_request_each() {
    let mut run = begun(two());
    run.run_all();
    both_are_posted(&run);
    let requests = ["invoices.list", "invoices.get", "orders.list"].map(|what| asked(&run, what));
    assert_eq!(requests, [1, 0, 1]);
}

#[test]
fn a_common_request_that_brings_nothing_is_made_up_for_by_one_for_each() {
    let refusal = Fault::BusinessRefusal {
        code: "base".to_owned(),
        field: "id[in]".to_owned(),
        message: "is not a filter".to_owned(),
    };
    let answers = [Fault::LostBefore, Fault::LostAfter, Fault::MalformedJson, refusal];
    for answer in answers {
        for (operation, alone, more) in [
            ("invoices.list", "invoices.get", 0),
            ("orders.list", "orders.list", 1),
        ] {
            let mut run = begun(two());
            let rule = FaultRule::next(System::Coupa, operation, None, answer.clone());
            run.sim.ports.faults.lock().unwrap().arm(rule);
            run.run_all();
            both_are_posted(&run);
            assert_eq!(asked(&run, alone), 2 + more, "{operation}");
        }
    }
}

#[test]
fn every_fault_at_every_call_of_a_delivery_posts_both_once() {
    let runs = every_single_fault(|| begun(two()), both_are_posted);
    assert!(runs > 20, "{runs}");
}

/// What the common request has shown is never the look that makes sure of no wake-up being lost.
#[test]
fn an_order_opened_again_at_any_moment_of_a_delivery_is_noticed() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut world = two();
            CoupaOrderChange::status(ORDER, "cancelled").apply(&mut world, BEGINNING);
            let mut run = begun(world);
            run.spawn(Job::SetOrder(ORDER, "issued"));
            run
        },
        |mut run| {
            run.deliver_all();
            both_are_posted(&run);
        },
    );
    assert!(schedules > 10, "{schedules}");
}

#[test]
fn a_supplier_numbered_at_any_moment_of_a_delivery_is_noticed() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut world = two();
            let supplier = world.coupa.suppliers.get_mut(&supplier().coupa_id).unwrap();
            supplier.insert("number".to_owned(), Value::Null);
            let mut run = begun(world);
            run.spawn(Job::NumberSupplier(self::supplier().coupa_id, "S1001"));
            run
        },
        |mut run| {
            run.deliver_all();
            both_are_posted(&run);
        },
    );
    assert!(schedules > 10, "{schedules}");
}
