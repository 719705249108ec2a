//! Each guard of the protocol is taken away, outside the product: at the ports, in the times the workers believe, in their
//! clocks. The simulation must then see a second document. A guard whose absence nobody notices would be decoration, or
//! the simulation would be blind.

use sandbox::scenario::{Delivery, Scenario, Step};
use tests::fates::Odds;
use tests::gate::Removed;
use tests::harness::Setup;
use tests::life::{Life, live};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, receipt, supplier};

/// Seeds tried before a guard's absence counts as unnoticed.
const SEEDS_MAX: u64 = 4_000;

/// Two invoices that post, one told of three times.
fn small_day() -> Vec<Scenario> {
    let send = |id: domain::ids::InvoiceId, times| Step::SendEvent {
        invoice: id.0,
        delivery: Delivery::Repeated(times),
        status: 202,
    };
    vec![Scenario {
        name: "two that post",
        about: "Two invoices that post.",
        suppliers: vec![supplier()],
        orders: vec![order(ORDER, 30)],
        receipts: vec![receipt(ORDER, "RC1", 20)],
        qad_invoices: Vec::new(),
        invoices: vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 10)],
        steps: vec![send(INVOICE, 3), send(OTHER, 2)],
        expected: Vec::new(),
    }]
}

/// The faults that put a guard to the test: answers lost and late, workers that stop for minutes.
fn odds() -> Odds {
    let late_millis = Setup::default().timing.commit_lateness_millis;
    Odds {
        stall: 40,
        crash: 20,
        late: 300,
        read_lost: 150,
        hint_millis: 0,
        ..Odds::heavy(late_millis)
    }
}

fn life(seed: u64) -> Life {
    Life {
        odds: odds(),
        chaos_millis: 3_000_000,
        ..Life::of(seed)
    }
}

/// The first seed whose life ends with a second document.
fn first_duplicate(weaken: impl Fn(&mut Life)) -> Option<u64> {
    let day = small_day();
    (1..=SEEDS_MAX).find(|seed| {
        let mut life = life(*seed);
        weaken(&mut life);
        live(&life, &day)
            .violations
            .iter()
            .any(|what| what.starts_with("S1 "))
    })
}

fn noticed(guard: &str, weaken: impl Fn(&mut Life)) {
    let seed = first_duplicate(weaken);
    println!("without {guard}: a second document at seed {seed:?}");
    assert!(
        seed.is_some(),
        "without {guard} nothing went wrong in {SEEDS_MAX} seeds"
    );
}

#[test]
fn with_every_guard_there_is_no_second_document() {
    for seed in 1..=60 {
        let lived = live(&life(seed), &small_day());
        assert!(
            lived.violations.is_empty(),
            "seed {seed}: {:#?}",
            lived.violations
        );
    }
}

#[test]
fn without_the_settle_window_there_is_a_second_document() {
    noticed("the settle window", |life| {
        life.setup.timing.commit_lateness_millis = 5_000
    });
}

#[test]
fn without_the_intent_before_the_send_there_is_a_second_document() {
    noticed("the intent", |life| {
        life.removed = Some(Removed::IntentBeforeSend)
    });
}

#[test]
fn when_an_unknown_outcome_counts_as_not_applied_there_is_a_second_document() {
    noticed("the unknown outcome", |life| {
        life.removed = Some(Removed::UnknownIsUnknown)
    });
}

#[test]
fn when_a_failed_look_up_counts_as_empty_there_is_a_second_document() {
    noticed("the answer of the look-up", |life| {
        life.removed = Some(Removed::FailedLookUpIsNoAnswer);
    });
}

#[test]
fn without_the_revision_condition_there_is_a_second_document() {
    noticed("the revision condition", |life| {
        life.removed = Some(Removed::RevisionCondition)
    });
}

#[test]
fn with_clocks_wrong_by_minutes_there_is_a_second_document() {
    noticed("clocks that agree", |life| life.skew_millis = 240_000);
}

/// A worker may send whenever it wakes up: the deadline of the send, and of the invocation, lie hours after the lease.
#[test]
fn without_the_send_deadline_there_is_a_second_document() {
    noticed("the send inside the lease", |life| {
        life.setup.timing.http_millis = -36_000_000;
    });
}
