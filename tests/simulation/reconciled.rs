//! What happens in QAD behind our back after an invoice is done with: nobody looks for it, and the daily run finds it, tells it
//! once, and keeps it until it is gone.

use crate::every_fault;
use domain::ids::InvoiceId;
use domain::reconcile::Kind;
use flows::ports::HintReason;
use flows::reconcile::{Reconciliation, Report};
use rust_decimal::Decimal;
use sandbox::faults::{Fault as WorldFault, FaultRule, System};
use sandbox::world::qad::PaymentAllocation;
use tests::fates::{Fault, Script};
use tests::gate::{After, Before, Call, Calm, Fate, Method, ready};
use tests::harness::{Ended, Harness, Job, Setup};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, posted, receipt, world};

const DAY_MILLIS: i64 = 86_400_000;
const THIRD: InvoiceId = InvoiceId(7_003);

/// Three invoices that are in QAD and exported for three days; nobody has any reason to look at them.
fn lived() -> Harness {
    let ids = [INVOICE, OTHER, THIRD];
    let orders = ids.map(|id| format!("{ORDER}{}", id.0 % 10));
    let small = world(
        orders.iter().map(|number| order(number, 10)).collect(),
        orders
            .iter()
            .map(|number| receipt(number, &format!("R{number}"), 10))
            .collect(),
        ids.iter()
            .zip(&orders)
            .map(|(id, number)| invoice(*id, number, 10))
            .collect(),
    );
    // What the world does to itself is no fault of the product's.
    let mut run = Harness::new(small, &Setup::default()).collecting();
    for id in ids {
        run.run(Job::Match(id, HintReason::Webhook));
        run.assert_stands(id, "exported", 1);
    }
    run.heal();
    pass_days(&run, 3);
    run
}

/// The same, with a second document of the first and none any more of the second.
fn tampered() -> Harness {
    let run = lived();
    {
        let now = run.sim.now();
        let mut world = run.sim.world();
        let mut second = posted(INVOICE);
        second.description = "keyed from paper".to_owned();
        second.receiver_matchings.clear();
        world.qad.keyed_by_hand(second, now);
        let gone = format!("INV-{OTHER}");
        world
            .qad
            .invoices
            .retain(|one| one.record.supplier_invoice_reference != gone);
    }
    run
}

fn pass_days(run: &Harness, days: i64) {
    run.sim.advance_to(run.sim.now().0 + days * DAY_MILLIS);
}

fn known(run: &Harness) -> Reconciliation {
    ready(flows::reconcile::known(run.sim.register.as_ref())).unwrap()
}

/// Calls until today's run is complete; what came of it.
fn reconcile(run: &mut Harness) -> Report {
    let today = run.sim.now().date_utc();
    for _ in 0..30 {
        run.run(Job::Reconcile);
        let known = known(run);
        if let (Some(last), None) = (known.last, known.running)
            && last.started.date_utc() == today
        {
            return last;
        }
    }
    panic!("it is never complete\n{}", run.story());
}

fn unexplained(report: &Report) -> Vec<(InvoiceId, Kind)> {
    let standing = report.unexplained.iter().map(|one| &one.difference);
    standing.map(|one| (one.invoice, one.kind)).collect()
}

fn seen(run: &Harness, what: &str) -> u64 {
    run.sim.shared().coverage.get(what).copied().unwrap_or(0)
}

const FOUND: [(InvoiceId, Kind); 2] = [(INVOICE, Kind::TwoInQad), (OTHER, Kind::MissingInQad)];

#[test]
fn nothing_else_in_a_week_finds_them() {
    let mut run = tampered();
    for _ in 0..7 {
        pass_days(&run, 1);
        run.heal();
    }
    run.assert_stands(INVOICE, "exported", 2);
    run.assert_stands(OTHER, "exported", 0);
}

#[test]
fn a_second_document_and_one_that_is_gone_are_found_told_once_and_kept_until_they_are_right() {
    let mut run = tampered();
    let first = reconcile(&mut run);
    assert_eq!(
        (unexplained(&first).as_slice(), first.new, first.looked_at),
        (&FOUND[..], 2, 3)
    );
    assert_eq!(
        run.standing(INVOICE).1,
        ["QAD_DUPLICATE_DOCUMENTS"],
        "it is given to a person"
    );
    assert!(
        run.record(INVOICE).unwrap().state.voucher().is_some(),
        "its own number is kept"
    );
    run.assert_stands(OTHER, "exported", 0);
    run.assert_stands(THIRD, "exported", 1);
    assert_eq!(run.run(Job::Reconcile), Some(Ended::Polled(Ok(0))), "once a day");

    let told = |run: &Harness| {
        (
            seen(run, "reconcile told a difference"),
            seen(run, "reconcile told a duplicate"),
        )
    };
    assert_eq!(told(&run), (2, 1));
    let trail = run.trail(INVOICE);
    // Far beyond the days that are looked at: what is wrong stays in sight.
    for days in [1, 1, 60] {
        pass_days(&run, days);
        let again = reconcile(&mut run);
        assert_eq!(
            (unexplained(&again).as_slice(), again.new),
            (&FOUND[..], 0),
            "nothing new"
        );
        assert!(again.unexplained.iter().all(|one| one.since == first.started));
    }
    assert_eq!((told(&run), run.trail(INVOICE)), ((2, 1), trail));

    // The clerk takes the paper's document out; what is missing comes back.
    run.sim
        .world()
        .qad
        .invoices
        .retain(|one| one.record.description != "keyed from paper");
    pass_days(&run, 1);
    assert_eq!(unexplained(&reconcile(&mut run)), [(OTHER, Kind::MissingInQad)]);
}

#[test]
fn all_in_order_is_zero_every_day() {
    let mut run = lived();
    for _ in 0..3 {
        let report = reconcile(&mut run);
        assert_eq!(
            (report.unexplained_count(), report.new, report.looked_at),
            (0, 0, 3)
        );
        pass_days(&run, 1);
    }
    assert_eq!(seen(&run, "reconcile told a difference"), 0);
    // Beyond the window nothing is looked up any more.
    pass_days(&run, 31);
    assert_eq!(reconcile(&mut run).looked_at, 0);
}

#[test]
fn every_fault_at_every_call_ends_with_the_same_result() {
    let runs = every_fault(
        Fault::of,
        || {
            let mut run = tampered();
            run.spawn(Job::Reconcile);
            run
        },
        |run| {
            let report = reconcile(run);
            assert_eq!(unexplained(&report), FOUND, "{}", run.story());
            assert_eq!((report.new, report.looked_at), (2, 3), "{}", run.story());
            run.assert_stands(INVOICE, "parked", 2);
            let parked = run.trail(INVOICE).iter().filter(|told| *told == "parked").count();
            assert_eq!(parked, 1, "{}", run.story());
            // Told at least once, and twice only by a run that died between telling and keeping.
            let told = seen(run, "reconcile told a difference");
            assert!(told == 2 || told == 4, "{told}\n{}", run.story());
            assert!(seen(run, "reconcile told a duplicate") >= 1, "{}", run.story());
        },
    );
    assert!(runs > 40, "{runs}");
}

/// Each call dies as soon as it has noted its place.
struct DiesWithEveryNote;

impl Fate for DiesWithEveryNote {
    fn before(&mut self, _: &Call) -> Before {
        Before::Proceed
    }
    fn after(&mut self, call: &Call) -> After {
        if call.method == Method::Commit {
            After::Crash
        } else {
            After::Proceed
        }
    }
}

#[test]
fn a_run_that_is_cut_off_after_every_note_comes_to_its_end() {
    let mut run = tampered();
    run.fate(DiesWithEveryNote);
    let report = reconcile(&mut run);
    assert_eq!(
        (unexplained(&report).as_slice(), report.looked_at),
        (&FOUND[..], 3)
    );
    assert_eq!(
        seen(&run, "reconcile complete"),
        0,
        "no call ever came to its end"
    );
}

#[test]
fn what_cannot_be_looked_up_is_told_and_keeps_nobody_else_waiting() {
    let mut run = lived();
    for _ in 0..3 {
        for _ in 0..3 {
            let lost = FaultRule::next(
                System::Qad,
                "supplier-invoices.find",
                None,
                WorldFault::LostBefore,
            );
            run.sim.ports.faults.lock().unwrap().arm(lost);
        }
        run.run(Job::Reconcile);
    }
    let report = reconcile(&mut run);
    let not_seen = [INVOICE, OTHER, THIRD].map(|id| (id, Kind::NotLookedUp));
    assert_eq!(unexplained(&report), not_seen);
    pass_days(&run, 1);
    assert_eq!(unexplained(&reconcile(&mut run)), [], "it was no difference");
}

#[test]
fn coupas_list_is_compared_when_the_poll_has_had_its_hour() {
    let mut run = lived();
    let stranger = InvoiceId(7_004);
    let now = run.sim.now();
    {
        let mut world = run.sim.world();
        let mut new = invoice(stranger, ORDER, 1);
        new.updated_at = now;
        world.coupa.invoices.insert(stranger.0, new);
        let reset = world.coupa.invoices.get_mut(&THIRD.0).unwrap();
        (reset.exported, reset.updated_at) = (false, now);
    }
    let first = reconcile(&mut run);
    assert_eq!(unexplained(&first), [], "the poll still has time");
    assert_eq!(first.counts.get(&Kind::OnlyInCoupa), Some(&1));
    pass_days(&run, 1);
    assert_eq!(
        unexplained(&reconcile(&mut run)),
        [(THIRD, Kind::ExportedFlagMissing), (stranger, Kind::OnlyInCoupa)]
    );
    // The polls take both up, and then it is over.
    run.heal();
    pass_days(&run, 1);
    assert_eq!(unexplained(&reconcile(&mut run)), []);
}

#[test]
fn a_call_that_runs_out_of_time_keeps_its_place_and_says_so() {
    let mut run = tampered();
    // Each of its first three calls takes a minute, and more a function does not have.
    let done = run.sim.shared().calls;
    run.fate(Script {
        faults: (1..=3).map(|number| (done + number, Fault::Slow)).collect(),
        ..Script::default()
    });
    let task = run.spawn(Job::Reconcile);
    run.run_all();
    assert_eq!(run.tasks[task].ended, Some(Ended::Polled(Ok(0))));
    let known = known(&run);
    assert!(known.last.is_none() && known.running.is_some());
    run.fate(Calm);
    assert_eq!(unexplained(&reconcile(&mut run)), FOUND);
}

fn allocation(amount: u32, on: domain::time::Date) -> PaymentAllocation {
    PaymentAllocation::of(1, "S1001", format!("INV-{THIRD}"), Decimal::from(amount), on)
}

#[test]
fn a_payment_that_no_poll_has_seen_is_told_when_polls_have_had_their_time() {
    let mut run = lived();
    let paid_on = run.sim.now().date_utc();
    run.sim.world().qad.payments.push(allocation(100, paid_on));
    assert_eq!(unexplained(&reconcile(&mut run)), [], "the polls still have time");
    pass_days(&run, 2);
    assert_eq!(
        unexplained(&reconcile(&mut run)),
        [(THIRD, Kind::PaidInQadNotInCoupa)]
    );
    run.run(Job::PollPayments);
    run.deliver_all();
    pass_days(&run, 1);
    assert_eq!(unexplained(&reconcile(&mut run)), []);
}
