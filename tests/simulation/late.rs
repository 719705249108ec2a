//! QAD commits later than it may: what the settle window rests on does not hold. The second document cannot be prevented, and
//! it is found by the look-ups that come later, and told.

use flows::ports::HintReason;
use sandbox::faults::{Fault, FaultRule, System};
use tests::gate::ready;
use tests::harness::{Harness, Job, Setup};
use tests::small::{INVOICE, ORDER, invoice, order, receipt, world};

const MINUTE_MILLIS: i64 = 60_000;
const HOUR_MILLIS: i64 = 3_600_000;
const DAY_MILLIS: i64 = 86_400_000;

/// An invoice whose creation commits so late; it is received often enough for two documents.
fn late_by(millis: i64) -> Harness {
    let setup = Setup::default();
    assert!(
        millis > setup.timing.settle_millis(),
        "that is no later than it may be"
    );
    let small = world(
        vec![order(ORDER, 30)],
        vec![receipt(ORDER, "RC1", 30)],
        vec![invoice(INVOICE, ORDER, 10)],
    );
    let mut run = Harness::new(small, &setup).collecting();
    let fault = Fault::LateCommit {
        delay_ms: u32::try_from(millis).unwrap(),
    };
    let create = FaultRule::next(System::Qad, "supplier-invoices.create", None, fault);
    run.sim.ports.faults.lock().unwrap().arm(create);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "approved", 0);
    run
}

/// The next sweep that has something to do; when, or nothing when there never is one again.
fn sweep(run: &mut Harness) -> Option<i64> {
    let due = run.record(INVOICE).unwrap().due(&run.sim.timing)?;
    run.sim.advance_to(due.0);
    run.run(Job::Sweep);
    run.deliver_all();
    Some(run.sim.now().0)
}

/// Sweeps until the invoice has left this state.
fn sweep_while(run: &mut Harness, state: &str) {
    for _ in 0..30 {
        if run.standing(INVOICE).0 != state {
            return;
        }
        sweep(run);
    }
    panic!("still {state}\n{}", run.story());
}

#[test]
fn a_second_document_that_comes_too_late_is_found_within_the_hour_and_told() {
    let mut run = late_by(30 * MINUTE_MILLIS);
    sweep_while(&mut run, "approved");
    let sent_again = run.sim.now().0;
    run.assert_stands(INVOICE, "exported", 1);
    sweep(&mut run);
    run.assert_stands(INVOICE, "parked", 2);
    assert_eq!(run.standing(INVOICE).1, ["QAD_DUPLICATE_DOCUMENTS"]);
    let told = run.sim.now().0 - sent_again;
    assert!(
        (HOUR_MILLIS - MINUTE_MILLIS..=HOUR_MILLIS + MINUTE_MILLIS).contains(&told),
        "{told}"
    );
    assert!(run.trail(INVOICE).contains(&"creating found-late".to_owned()));
    assert!(
        run.record(INVOICE).unwrap().state.voucher().is_some(),
        "its own number is kept"
    );
    assert_eq!(run.record(INVOICE).unwrap().verification_due(), None, "told once");
}

#[test]
fn one_that_comes_after_the_hour_is_found_within_the_day() {
    let mut run = late_by(2 * HOUR_MILLIS);
    sweep_while(&mut run, "approved");
    let sent_again = run.sim.now().0;
    sweep(&mut run);
    run.assert_stands(INVOICE, "exported", 1);
    sweep(&mut run);
    run.assert_stands(INVOICE, "parked", 2);
    assert_eq!(run.standing(INVOICE).1, ["QAD_DUPLICATE_DOCUMENTS"]);
    let told = run.sim.now().0 - sent_again;
    assert!(
        (DAY_MILLIS - MINUTE_MILLIS..=DAY_MILLIS + MINUTE_MILLIS).contains(&told),
        "{told}"
    );
}

#[test]
fn a_document_of_an_invoice_that_was_voided_meanwhile_is_found_and_told() {
    let mut run = late_by(30 * MINUTE_MILLIS);
    let voided = |run: &Harness| {
        let mut world = run.sim.world();
        world.coupa.invoices.get_mut(&INVOICE.0).unwrap().status = "voided".to_owned();
    };
    voided(&run);
    sweep_while(&mut run, "approved");
    run.assert_stands(INVOICE, "voided", 0);
    sweep(&mut run);
    run.assert_stands(INVOICE, "parked", 1);
    assert_eq!(run.standing(INVOICE).1, ["QAD_DOCUMENT_LATE"]);
}

#[test]
fn what_never_comes_is_looked_for_twice_and_then_no_more() {
    // Later than everything that this test waits for.
    let mut run = late_by(40 * DAY_MILLIS);
    sweep_while(&mut run, "approved");
    let audit = flows::store::invoice_audit_name(INVOICE);
    let entries = |run: &Harness| ready(run.sim.register.audit(&audit)).unwrap().len();
    let before = entries(&run);
    assert!(sweep(&mut run).is_some() && sweep(&mut run).is_some());
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(sweep(&mut run), None);
    let looks = run.trail(INVOICE);
    let verified = looks.iter().filter(|told| *told == "creating verified").count();
    assert_eq!((verified, entries(&run) - before), (2, 2));
}

#[test]
fn a_look_that_gives_no_answer_proves_nothing_and_comes_again() {
    let mut run = late_by(30 * MINUTE_MILLIS);
    sweep_while(&mut run, "approved");
    let lost = FaultRule::next(System::Qad, "supplier-invoices.find", None, Fault::LostBefore);
    run.sim.ports.faults.lock().unwrap().arm(lost);
    sweep(&mut run);
    run.assert_stands(INVOICE, "exported", 2);
    assert!(
        run.trail(INVOICE)
            .contains(&"creating verification-failed".to_owned())
    );
    let failed = run.sim.now().0;
    sweep(&mut run);
    run.assert_stands(INVOICE, "parked", 2);
    assert!(run.sim.now().0 - failed < 10 * MINUTE_MILLIS);
}
