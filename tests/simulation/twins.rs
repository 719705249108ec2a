//! Two Coupa instances on one QAD, each served by a connection of its own. What one connection has claimed or reserved the
//! other heeds as if it were its own, and whoever waits for the other is woken.

use crate::instructions::Desk;
use crate::preemptions;
use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::Invoice;
use domain::guards::{Guard, without};
use domain::ids::InvoiceId;
use domain::lifecycle::{InvoiceRecord, ParkReason, State};
use domain::time::Timestamp;
use flows::delivery::Reads;
use flows::match_invoice::{self, Rest};
use flows::neighbours::Home;
use flows::ports::{
    Commit, Coupa, DocumentOutcome, Flagged, HintReason, InvoicePage, ReadError, RecordKey, RecordWrite,
    WriteError,
};
use flows::store::Context;
use sandbox::faults::{Fault, FaultRule, System};
use std::cell::Cell;
use tests::gate::{TWIN_FROM, ready, twin};
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
    assert!(schedules > 20, "{schedules}");
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
            assert_eq!(run.sim.world().qad.invoices.len(), 1);
        },
    );
    assert!(schedules > 100, "{schedules}");
}

/// True when in one order or another this is found although a guard was taken away.
fn is_noticed(guard: Guard, begin: fn() -> Harness, broken: fn(&Harness) -> bool) -> bool {
    let noticed = Cell::new(false);
    without(guard, || {
        every_order(
            1,
            || both_at_once(begin().collecting()),
            |run| noticed.set(noticed.get() || broken(&run)),
        )
    });
    noticed.get()
}

#[test]
fn without_what_is_claimed_and_reserved_for_all_two_connections_harm_each_other() {
    assert!(is_noticed(Guard::IdentityClaim, one_number, |run| {
        run.sim.world().qad.invoices.len() > 1
    }));
    assert!(is_noticed(
        Guard::Reservation,
        || billed(10, 10),
        |run| { run.sim.shared().coverage.contains_key("create refused") }
    ));
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
    assert!(schedules > 12, "{schedules}");
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
        reason: ParkReason::Match { exceptions },
    } = run.record(INVOICE).unwrap().state
    else {
        panic!("{:?}", run.standing(INVOICE))
    };
    assert_eq!(run.standing(INVOICE).1, ["DUPLICATE_REFERENCE"]);
    let named = &exceptions[0].actual;
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
    assert_eq!(run.standing(TWIN).0, "parked");
    let void = |world: &mut sandbox::world::World, now: Timestamp| world.coupa.void(TWIN.0, now).unwrap();
    run.spawn_step("voided", void);
    run.run_all();
    run.run(Job::Match(TWIN, HintReason::Webhook));
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(run.standing(TWIN).0, "voided");
    assert_eq!(run.sim.world().qad.invoices.len(), 1);
}

/// The other Coupa instance, which gives the number of our invoice to its own one.
struct Renumbered<'a>(&'a dyn Coupa);

#[async_trait]
impl Coupa for Renumbered<'_> {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        assert_eq!(id, INVOICE);
        let theirs = self.0.invoice(TWIN).await?;
        Ok(theirs.map(|invoice| Invoice { id, ..invoice }))
    }
    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        self.0.coupa_order(number).await
    }
    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        self.0.exportable_invoices(after).await
    }
    async fn mark_exported(&self, _: InvoiceId, key: &str) -> Result<Flagged, WriteError> {
        self.0.mark_exported(TWIN, key).await
    }
    async fn record_outcome(
        &self,
        _: InvoiceId,
        told: &DocumentOutcome,
        key: &str,
    ) -> Result<(), WriteError> {
        self.0.record_outcome(TWIN, told, key).await
    }
}

/// The other instance's invoice of the very id, decided by its own connection.
fn decide_theirs(run: &Harness) -> InvoiceRecord {
    let mut settings = Setup::default().settings;
    settings.policy.coupa_instance = "beta".to_owned();
    let desk = Desk::of(run);
    let register = run.sim.register.neighbour(&twin());
    let deps = match_invoice::Deps {
        context: Context {
            register: register.as_ref(),
            ..desk.context()
        },
        home: &Home {
            connection: twin(),
            tenant: tenant(),
        },
        coupa: &Renumbered(&run.sim.ports),
        qad: &run.sim.ports,
        index: run.sim.index.as_ref(),
        reads: &Reads::default(),
        settings: &settings,
        entities: &[],
    };
    match ready(match_invoice::run(&deps, INVOICE, HintReason::Webhook)).unwrap() {
        Rest::In { record, .. } => *record,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_invoice_with_the_very_id_of_the_other_instance_is_not_taken_for_it() {
    for (mut run, codes) in [
        (billed(10, 10), ["ANOTHER_INVOICE_IN_FLIGHT"]),
        (one_number(), ["DUPLICATE_REFERENCE"]),
    ] {
        lose_the_next_create(&run);
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        assert_eq!(run.standing(INVOICE).0, "approved");
        assert_eq!(decide_theirs(&run).state.codes(), codes);
        assert_eq!(run.sim.world().qad.invoices.len(), 0);
    }
}

/// Posted by the other instance under the very id, and every claim lost with the register: QAD's description says whose it is.
#[test]
fn a_document_of_the_other_instance_with_the_very_id_is_not_adopted() {
    let run = one_number();
    let theirs = decide_theirs(&run);
    assert_eq!(theirs.state.word(), "exported");
    let marks: Vec<String> = run
        .sim
        .world()
        .qad
        .invoices
        .iter()
        .map(|invoice| invoice.record.description.clone())
        .collect();
    assert_eq!(marks, ["Coupa beta/7001"]);
    let shared = RecordKey::Shared {
        tenant: tenant(),
        name: theirs.creation.unwrap().key,
    };
    let connections = RecordKey::Shared {
        tenant: tenant(),
        name: "connections".to_owned(),
    };
    let forget = Commit {
        token: "lost".to_owned(),
        writes: [shared, connections]
            .map(|key| RecordWrite::Delete { key })
            .into(),
        audit: vec![],
    };
    ready(run.sim.register.commit(forget)).unwrap();
    let mut run = run;
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(
        run.standing(INVOICE),
        ("parked".to_owned(), vec!["DUPLICATE_REFERENCE".to_owned()])
    );
    assert_eq!(run.sim.world().qad.invoices.len(), 1);
}
