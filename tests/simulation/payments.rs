//! Payments into Coupa: every entry once, in every order, with every fault at every call.

use crate::{every_single_fault, preemptions};
use flows::ports::{Collection, HintReason};
use rust_decimal::Decimal;
use sandbox::world::qad::{Exact, PaymentAllocation};
use tests::harness::{BEGINNING, Ended, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, straight_through};

fn allocation(number: u64, amount: u32, status: &str) -> PaymentAllocation {
    PaymentAllocation {
        year: 2026,
        instrument: "ACH".to_owned(),
        number,
        allocation: 1,
        reference: format!("CHK-{number}"),
        supplier: "S1001".to_owned(),
        status: status.to_owned(),
        currency: "USD".to_owned(),
        payment_date: BEGINNING.date_utc(),
        last_modified: BEGINNING.date_utc(),
        invoice_reference: format!("INV-{INVOICE}"),
        invoice_type: "INVOICE".to_owned(),
        allocated: Exact(Decimal::from(amount)),
        discount: Exact::default(),
    }
}

/// An invoice over 100.00 that is in QAD, and what QAD has paid of it.
fn posted(payments: Vec<PaymentAllocation>) -> Harness {
    let mut run = Harness::new(straight_through(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.sim.world().qad.payments.extend(payments);
    run
}

fn pay() -> Job {
    Job::Pay(Collection::Bill, INVOICE.to_string())
}

/// What Coupa shows as paid, entry by entry, and its flag.
fn shown(run: &Harness) -> (Vec<Decimal>, bool) {
    let world = run.sim.world();
    let invoice = &world.coupa.invoices[&INVOICE.0];
    let entries = invoice.payments.iter().map(|payment| payment.amount_paid);
    (entries.collect(), invoice.paid)
}

fn assert_paid(run: &Harness, amounts: &[i64], paid: bool) {
    let wanted: Vec<Decimal> = amounts.iter().copied().map(Decimal::from).collect();
    assert_eq!(shown(run), (wanted, paid), "{}", run.story());
}

#[test]
fn what_qad_has_paid_is_in_coupa_once_however_often_it_is_asked() {
    let mut run = posted(vec![allocation(1, 60, "Paid"), allocation(2, 40, "Paid")]);
    assert_eq!(run.run(Job::PollPayments), Some(Ended::Polled(Ok(1))));
    run.deliver_all();
    assert_paid(&run, &[60, 40], true);
    for _ in 0..2 {
        run.run(Job::PollPayments);
        run.run(pay());
        run.heal();
    }
    assert_paid(&run, &[60, 40], true);
    assert_eq!(run.sim.shared().watch.payments(), 2);
}

#[test]
fn every_fault_at_every_call_ends_with_every_entry_once() {
    let runs = every_single_fault(
        || {
            let mut run = posted(vec![allocation(1, 60, "Paid"), allocation(2, 40, "Paid")]);
            run.spawn(Job::PollPayments);
            run.spawn(pay());
            run
        },
        |run| assert_paid(run, &[60, 40], true),
    );
    assert!(runs > 30, "{runs}");
}

#[test]
fn a_payment_taken_back_is_taken_back_once_with_every_fault_at_every_call() {
    let runs = every_single_fault(
        || {
            let mut run = posted(vec![allocation(1, 100, "Paid")]);
            run.run(Job::PollPayments);
            run.deliver_all();
            run.sim.world().qad.payments[0].status = "Void".to_owned();
            run.spawn(Job::PollPayments);
            run.spawn(pay());
            run
        },
        |run| assert_paid(run, &[100, -100], false),
    );
    assert!(runs > 30, "{runs}");
}

#[test]
fn two_deliveries_of_one_bill_in_every_order_are_one_entry() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut run = posted(vec![allocation(1, 100, "Paid")]);
            run.run(Job::PollPayments);
            run.spawn(pay());
            run.spawn(pay());
            run
        },
        |mut run| {
            run.heal();
            assert_paid(&run, &[100], true);
            assert_eq!(run.sim.shared().watch.payments(), 1);
        },
    );
    assert!(schedules > 10, "{schedules}");
}

#[test]
fn two_polls_and_a_void_between_them_in_every_order_never_hide_the_void() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut run = posted(vec![allocation(1, 100, "Paid")]);
            run.spawn(Job::PollPayments);
            run.spawn_step("taken back", |world, now| {
                world.qad.payments[0].status = "Void".to_owned();
                world.qad.payments[0].last_modified = now.date_utc();
            });
            run.spawn(Job::PollPayments);
            run
        },
        |mut run| {
            run.heal();
            let (entries, paid) = shown(&run);
            let sum: Decimal = entries.iter().sum();
            assert!(sum.is_zero() && !paid, "{entries:?} {paid}\n{}", run.story());
        },
    );
    assert!(schedules > 10, "{schedules}");
}

/// QAD pays a bill whose invoice is being posted in this very moment: neither misses the other.
#[test]
fn a_payment_and_its_invoice_in_every_order_find_each_other() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.sim.world().qad.payments.push(allocation(1, 100, "Paid"));
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::PollPayments);
            run
        },
        |mut run| {
            run.heal();
            assert_paid(&run, &[100], true);
        },
    );
    assert!(schedules > 10, "{schedules}");
}
