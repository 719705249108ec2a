//! An invoice whose supplier has no QAD number: it is woken when the number is there, and no wake-up is lost.

use crate::preemptions;
use flows::ports::{Collection, HintReason, RecordGroup, StoredRecord};
use sandbox::world::World;
use serde_json::Value;
use tests::gate::ready;
use tests::harness::{Ended, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, straight_through, supplier};

/// The supplier of the small world, without its number.
fn unnumbered() -> World {
    let mut world = straight_through();
    let supplier = world.coupa.suppliers.get_mut(&supplier().coupa_id).unwrap();
    supplier.insert("number".to_owned(), Value::Null);
    world
}

fn numbered() -> Job {
    Job::NumberSupplier(supplier().coupa_id, "S1001")
}

fn waiting(run: &Harness) -> Vec<StoredRecord> {
    let group = RecordGroup::Collection(Collection::AwaitedSupplier);
    ready(run.sim.register.list(&group)).unwrap()
}

#[test]
fn an_event_about_the_supplier_wakes_what_waits_for_it_and_nothing_else() {
    let mut run = Harness::new(unnumbered(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "parked", 0);
    assert_eq!(run.standing(INVOICE).1, ["SUPPLIER_NOT_LINKED"]);
    assert_eq!(waiting(&run).len(), 1);
    assert_eq!(
        run.run(Job::SupplierEvent(4_711)),
        Some(Ended::Polled(Ok(0))),
        "another supplier"
    );
    // Looked at again and still without a number: it goes on waiting, under the same entry.
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(waiting(&run).len(), 1);
    assert_eq!(run.run(numbered()), Some(Ended::Polled(Ok(1))));
    run.deliver_all();
    run.assert_stands(INVOICE, "exported", 1);
    assert!(waiting(&run).is_empty(), "it waits no longer");
    assert_eq!(run.run(numbered()), Some(Ended::Polled(Ok(0))));
}

/// The number given, and the event heard, at any moment of the decision that parks the invoice: it posts without anybody
/// else's help, long before the slow recheck.
#[test]
fn a_number_given_at_any_moment_is_noticed() {
    let schedules = every_order(
        preemptions(3),
        || {
            let mut run = Harness::new(unnumbered(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(numbered());
            run
        },
        |mut run| {
            run.deliver_all();
            run.assert_stands(INVOICE, "exported", 1);
            assert!(waiting(&run).is_empty(), "{}", run.story());
        },
    );
    assert!(schedules > 10, "{schedules}");
}

#[test]
fn a_voided_invoice_waits_for_no_supplier() {
    let mut run = Harness::new(unnumbered(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.spawn_step("voided", |world, now| world.coupa.void(INVOICE.0, now).unwrap());
    run.run_all();
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "voided", 0);
    assert!(waiting(&run).is_empty());
}
