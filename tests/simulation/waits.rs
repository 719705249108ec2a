//! What waits, and what a match has parked, is decided again when what its verdict rests on moves; what waits too long is a
//! person's, and still goes on by itself.

use domain::ids::InvoiceId;
use domain::policy::MatchPolicy;
use flows::ports::HintReason;
use rust_decimal::Decimal;
use sandbox::faults::{Fault, FaultRule, System, When};
use sandbox::world::World;
use sandbox::world::qad::{Exact, QadReceipt};
use tests::harness::{Harness, Job, RECHECK_MILLIS, Setup, every_order};
use tests::small::{
    INVOICE, ORDER, OTHER, invoice, order, receipt, straight_through, without_receipt, world,
};

const DAY_MILLIS: i64 = 86_400_000;

fn setup(change: impl FnOnce(&mut MatchPolicy)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.settings.policy);
    setup
}

fn codes(run: &Harness, id: InvoiceId) -> Vec<String> {
    run.standing(id).1
}

fn arrives(run: &Harness, receipt: QadReceipt) {
    run.sim.world().qad.post_receipt(receipt).unwrap();
}

#[test]
fn what_waits_too_long_is_parked_once_and_posts_when_the_receipt_comes_all_the_same() {
    let setup = setup(|policy| policy.patience.hold_millis = 2 * RECHECK_MILLIS + RECHECK_MILLIS / 2);
    let mut run = Harness::new(without_receipt(), &setup);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.recheck();
    run.recheck();
    assert_eq!(run.standing(INVOICE).0, "held");
    run.recheck();
    assert_eq!(codes(&run, INVOICE), ["HELD_TOO_LONG", "RECEIPT_MISSING"]);
    let trail = run.trail(INVOICE);
    run.recheck();
    assert_eq!(run.trail(INVOICE), trail, "told once");
    arrives(&run, receipt(ORDER, "RC1", 10));
    run.run(Job::PollReceipts);
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn a_return_that_does_not_come_in_time_parks_its_credit_note_and_posts_it_when_it_comes() {
    let mut credited = invoice(OTHER, ORDER, 4);
    credited.kind = domain::ids::DocumentKind::CreditNote;
    let begin = world(
        vec![order(ORDER, 10)],
        vec![receipt(ORDER, "RC1", 10)],
        vec![invoice(INVOICE, ORDER, 10), credited],
    );
    let setup = setup(|policy| policy.patience.return_millis = RECHECK_MILLIS / 2);
    let mut run = Harness::new(begin, &setup);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.run(Job::Match(OTHER, HintReason::Webhook));
    assert_eq!(codes(&run, OTHER), ["RETURN_MISSING"]);
    run.recheck();
    assert_eq!(codes(&run, OTHER), ["RETURN_NOT_COMING", "RETURN_MISSING"]);
    let mut back = receipt(ORDER, "RT1", 4);
    back.quantity = Exact(Decimal::from(-4));
    arrives(&run, back);
    run.run(Job::PollReceipts);
    run.heal();
    run.assert_stands(OTHER, "exported", 1);
}

/// Ten ordered and received at 10.00 and billed at 11.00; ten more come at 11.00.
fn too_dear() -> World {
    let mut dear = invoice(INVOICE, ORDER, 10);
    dear.lines[0].price = Decimal::from(11);
    world(vec![order(ORDER, 20)], Vec::new(), vec![dear])
}

#[test]
fn a_parked_invoice_is_decided_again_when_a_receipt_of_its_line_comes() {
    let mut run = Harness::new(too_dear(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "parked");
    let mut at_eleven = receipt(ORDER, "RC1", 10);
    at_eleven.unit_cost = Some(Exact(Decimal::from(11)));
    arrives(&run, at_eleven);
    run.run(Job::PollReceipts);
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
}

/// The credit note of what went back.
const CREDIT: InvoiceId = InvoiceId(7_003);

/// Four of ten went back and were replaced; the replacement is billed, and waits for the credit note, which nobody has looked
/// at.
fn replaced() -> Harness {
    let mut credited = invoice(CREDIT, ORDER, 4);
    credited.kind = domain::ids::DocumentKind::CreditNote;
    let mut back = receipt(ORDER, "RT1", 4);
    back.quantity = Exact(Decimal::from(-4));
    let begin = world(
        vec![order(ORDER, 10)],
        vec![receipt(ORDER, "RC1", 10), back, receipt(ORDER, "RC2", 4)],
        vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 4), credited],
    );
    let mut run = Harness::new(begin, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run
}

#[test]
fn a_replacement_goes_on_when_the_credit_note_has_posted_without_waiting_for_the_recheck() {
    let mut run = replaced();
    assert_eq!(codes(&run, OTHER), ["CREDIT_NOTE_MISSING"]);
    let began = run.sim.now();
    run.run(Job::Match(CREDIT, HintReason::Webhook));
    run.heal();
    run.assert_stands(OTHER, "exported", 1);
    assert!(run.sim.now().millis_since(began) < RECHECK_MILLIS);
}

/// The replacement is being decided, on what QAD shows before the credit note is there, when the credit note posts.
#[test]
fn a_replacement_that_is_decided_in_the_moment_its_credit_note_posts_is_not_forgotten() {
    let schedules = every_order(
        crate::preemptions(2),
        || {
            let mut run = replaced();
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run.spawn(Job::Match(CREDIT, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            run.assert_stands(OTHER, "exported", 1);
        },
    );
    assert!(schedules > 20, "{schedules}");
}

#[test]
fn a_credit_note_that_cancels_an_invoice_waits_for_it_and_takes_it_back_when_it_has_posted() {
    let cancels = |id: InvoiceId, of: InvoiceId| {
        let mut credit = invoice(id, ORDER, 10);
        credit.kind = domain::ids::DocumentKind::CreditNote;
        credit.original_number = Some(format!("INV-{of}"));
        credit
    };
    let another = InvoiceId(7_003);
    let begin = world(
        vec![order(ORDER, 10)],
        Vec::new(),
        vec![
            invoice(INVOICE, ORDER, 10),
            cancels(OTHER, INVOICE),
            cancels(another, InvoiceId(1)),
        ],
    );
    let mut run = Harness::new(begin, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run.run(Job::Match(another, HintReason::Webhook));
    assert_eq!(codes(&run, OTHER), ["ORIGINAL_NOT_POSTED"]);
    assert_eq!(
        codes(&run, another),
        ["RETURN_MISSING"],
        "of an invoice that nobody knows"
    );
    arrives(&run, receipt(ORDER, "RC1", 10));
    run.run(Job::PollReceipts);
    run.heal();
    run.recheck();
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(OTHER, "exported", 1);
    let world = run.sim.world();
    let taken_back = world
        .qad
        .invoices
        .iter()
        .flat_map(|document| &document.record.receiver_matchings)
        .map(|one| one.match_quantity.0)
        .sum::<Decimal>();
    assert_eq!(taken_back, Decimal::ZERO);
}

/// A right that the connection lacks for so many readings, from now.
fn refuses(run: &Harness, system: System, operation: &str, times: u32) {
    run.sim.ports.faults.lock().unwrap().arm(FaultRule {
        system,
        operation: operation.to_owned(),
        key: None,
        when: When::Next(times),
        fault: Fault::Status {
            status: 403,
            retry_after: Default::default(),
            after_commit: false,
        },
    });
}

const READINGS: [(System, &str); 4] = [
    (System::Coupa, "invoices.get"),
    (System::Coupa, "orders.list"),
    (System::Qad, "browse.orders"),
    (System::Qad, "browse.receipts"),
];

#[test]
fn a_refused_connection_parks_nothing_and_all_goes_on_when_it_is_over() {
    for (system, operation) in READINGS {
        let mut run = Harness::new(straight_through(), &Setup::default());
        refuses(&run, system, operation, u32::MAX);
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        run.heal_under_fate();
        assert_eq!(run.standing(INVOICE).0, "received", "{operation}");
        assert_eq!(run.trail(INVOICE), ["delayed"], "{operation}: told once");
        run.heal();
        run.assert_stands(INVOICE, "exported", 1);
    }
}

#[test]
fn what_is_refused_for_longer_than_a_day_may_be_about_this_one_and_is_a_persons() {
    let mut run = Harness::new(straight_through(), &Setup::default());
    refuses(&run, System::Coupa, "invoices.get", u32::MAX);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    let began = run.sim.now();
    while run.standing(INVOICE).0 == "received" {
        run.sim.advance_to(run.sim.now().0 + 5 * 60_000);
        run.run(Job::Sweep);
        run.deliver_all();
        assert!(run.sim.now().millis_since(began) < 2 * DAY_MILLIS);
    }
    assert!(run.sim.now().millis_since(began) > DAY_MILLIS * 9 / 10);
    assert_eq!(run.standing(INVOICE).0, "parked");
    assert_eq!(codes(&run, INVOICE), ["SIMULATED_PERMISSION_DENIED"]);
}
