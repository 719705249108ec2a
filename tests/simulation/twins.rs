//! Two Coupa instances on one QAD, each served by a connection of its own. What one connection has claimed or reserved the
//! other heeds as if it were its own, and whoever waits for the other is woken.

use crate::preemptions;
use domain::ids::InvoiceId;
use domain::lifecycle::{ParkReason, State};
use domain::time::Timestamp;
use flows::ports::{Commit, HintReason, RecordKey, RecordWrite};
use sandbox::faults::{Fault, FaultRule, System};
use tests::gate::{TWIN_FROM, ready};
use tests::harness::{Harness, Job, Setup, every_order, tenant};
use tests::small::{INVOICE, ORDER, invoice, order, receipt, world};

/// The other instance's invoice.
const TWIN: InvoiceId = InvoiceId(TWIN_FROM + 1);

/// Both bill so much of ten that are received, of twenty that are ordered.
fn billed(ours: u32, theirs: u32) -> Harness {
    let both = vec![invoice(INVOICE, ORDER, ours), invoice(TWIN, ORDER, theirs)];
    let ten_of_twenty = world(vec![order(ORDER, 20)], vec![receipt(ORDER, "RC1", 10)], both);
    Harness::new(ten_of_twenty, &Setup::default())
}

/// Both bill what is received, under one number of the supplier.
fn one_number() -> Harness {
    let first = invoice(INVOICE, ORDER, 10);
    let mut second = invoice(TWIN, ORDER, 10);
    second.number = first.number.to_lowercase();
    let receipts = vec![receipt(ORDER, "RC1", 10), receipt(ORDER, "RC2", 10)];
    Harness::new(
        world(vec![order(ORDER, 20)], receipts, vec![first, second]),
        &Setup::default(),
    )
}

fn both_at_once(mut run: Harness) -> Harness {
    run.spawn(Job::Match(INVOICE, HintReason::Webhook));
    run.spawn(Job::Match(TWIN, HintReason::Webhook));
    run
}

fn lose_the_next_create(run: &Harness) {
    let rule = FaultRule::next(System::Qad, "supplier-invoices.create", None, Fault::LostBefore);
    run.sim.ports.faults.lock().unwrap().arm(rule);
}

#[test]
fn one_receipt_billed_by_both_in_every_order_is_one_posted_and_one_held() {
    let schedules = every_order(
        preemptions(2),
        || both_at_once(billed(10, 10)),
        |mut run| {
            run.heal();
            let mut standing = [run.standing(INVOICE).0, run.standing(TWIN).0];
            standing.sort();
            assert_eq!(standing, ["exported", "held"], "{}", run.story());
            assert_eq!(run.documents(INVOICE) + run.documents(TWIN), 1);
            let refused = run.sim.shared().coverage.get("create refused").copied();
            assert_eq!(refused, None, "QAD was never asked for more than it had received");
        },
    );
    assert!(schedules > 30, "{schedules}");
}

#[test]
fn one_supplier_number_in_both_in_every_order_is_one_document() {
    let schedules = every_order(
        2,
        || both_at_once(one_number()),
        |mut run| {
            run.heal();
            run.recheck();
            let mut standing = [run.standing(INVOICE), run.standing(TWIN)];
            standing.sort();
            assert_eq!(standing[0].0, "exported", "{}", run.story());
            assert_eq!(
                standing[1],
                ("parked".to_owned(), vec!["DUPLICATE_REFERENCE".to_owned()])
            );
            assert_eq!(run.documents(INVOICE) + run.documents(TWIN), 1);
        },
    );
    assert!(schedules > 100, "{schedules}");
}

/// In every order of seven and three of ten: whoever comes second is woken by the other connection's settling.
#[test]
fn whoever_waits_for_the_other_connections_invoice_is_woken_whenever_that_one_settles() {
    let schedules = every_order(
        1,
        || {
            let mut run = billed(7, 3);
            let first = run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            while run.standing(INVOICE).0 != "approved" {
                run.step(first);
            }
            run.spawn(Job::Match(TWIN, HintReason::Webhook));
            run
        },
        |mut run| {
            let start = run.sim.now();
            run.run(Job::Sweep);
            run.deliver_all();
            assert_eq!(run.standing(INVOICE).0, "exported", "{}", run.story());
            assert_eq!(run.standing(TWIN).0, "exported", "{}", run.story());
            assert!(run.sim.now().millis_since(start) < 60_000, "{}", run.story());
        },
    );
    assert!(schedules > 20, "{schedules}");
}

#[test]
fn an_invoice_in_flight_is_named_with_its_connection() {
    let mut run = billed(10, 10);
    lose_the_next_create(&run);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "approved");
    run.run(Job::Match(TWIN, HintReason::Webhook));
    assert_eq!(run.standing(TWIN).1, ["ANOTHER_INVOICE_IN_FLIGHT"]);
    let State::Held { exceptions, .. } = run.record(TWIN).unwrap().state else {
        panic!("not held")
    };
    let named = &exceptions[0].actual;
    assert!(
        named.ends_with("Coupa invoice 7001 of connection example"),
        "{named}"
    );
}

/// What an earlier version has claimed, for its own connection alone, counts for the other one all the same.
#[test]
fn a_claim_of_an_earlier_version_counts_for_the_other_connection() {
    let mut run = one_number();
    lose_the_next_create(&run);
    run.run(Job::Match(TWIN, HintReason::Webhook));
    assert_eq!(run.standing(TWIN).0, "approved");
    let identity = run.record(TWIN).unwrap().creation.unwrap().key;
    let shared = RecordKey::Shared {
        tenant: tenant(),
        name: identity,
    };
    let known = ready(run.sim.register.read(std::slice::from_ref(&shared))).unwrap();
    assert!(known[0].is_some(), "it is claimed for all");
    let forget = Commit {
        token: "as-it-was".to_owned(),
        writes: vec![RecordWrite::Delete { key: shared }],
        audit: vec![],
    };
    ready(run.sim.register.commit(forget)).unwrap();
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    let State::Parked {
        reason: ParkReason::Problem { problem },
    } = run.record(INVOICE).unwrap().state
    else {
        panic!("{:?}", run.standing(INVOICE))
    };
    assert_eq!(problem.code, "DUPLICATE_REFERENCE");
    let named = problem.actual;
    assert!(named.contains("1000001 of connection twin"), "{named}");
}

/// The other one is voided before anything of it was sent: its claim is free again, for both.
#[test]
fn a_claim_that_the_other_connection_has_given_up_is_free() {
    let mut run = one_number();
    let refusal = Fault::BusinessRefusal {
        code: "closed".to_owned(),
        field: String::new(),
        message: "The supplier is blocked.".to_owned(),
    };
    let rule = FaultRule::next(System::Qad, "supplier-invoices.create", None, refusal);
    run.sim.ports.faults.lock().unwrap().arm(rule);
    run.run(Job::Match(TWIN, HintReason::Webhook));
    run.assert_stands(TWIN, "parked", 0);
    let void = |world: &mut sandbox::world::World, now: Timestamp| world.coupa.void(TWIN.0, now).unwrap();
    run.spawn_step("voided", void);
    run.run_all();
    run.run(Job::Match(TWIN, HintReason::Webhook));
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(TWIN, "voided", 0);
}
