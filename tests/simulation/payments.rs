//! Payments into Coupa: every entry once, in every order, with every fault at every call.

#[cfg(debug_assertions)]
use crate::guards::{call_of, first_schedule, straight};
use crate::{every_single_fault, preemptions};
use flows::ports::{Collection, HintReason};
use rust_decimal::Decimal;
use sandbox::world::qad::{Exact, PaymentAllocation};
#[cfg(debug_assertions)]
use tests::fates::{Fault, Script};
#[cfg(debug_assertions)]
use tests::gate::{Calm, Method};
use tests::harness::{BEGINNING, Ended, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, receipt, straight_through, world};

pub(crate) fn allocation(number: u64, amount: u32, status: &str) -> PaymentAllocation {
    PaymentAllocation {
        status: status.to_owned(),
        ..PaymentAllocation::of(
            number,
            "S1001",
            format!("INV-{INVOICE}"),
            Decimal::from(amount),
            BEGINNING.date_utc(),
        )
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

fn two_polls_and_a_void() -> Harness {
    let mut run = posted(vec![allocation(1, 100, "Paid")]);
    run.spawn(Job::PollPayments);
    run.spawn_step("taken back", |world, now| {
        world.qad.payments[0].status = "Void".to_owned();
        world.qad.payments[0].last_modified = now.date_utc();
    });
    run.spawn(Job::PollPayments);
    run
}

#[test]
fn two_polls_and_a_void_between_them_in_every_order_never_hide_the_void() {
    let schedules = every_order(preemptions(2), two_polls_and_a_void, |mut run| {
        run.heal();
        let (entries, paid) = shown(&run);
        let sum: Decimal = entries.iter().sum();
        assert!(sum.is_zero() && !paid, "{entries:?} {paid}\n{}", run.story());
    });
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

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// An invoice over so many pieces at 10.00 in this currency that is in QAD, and what QAD has paid of it.
fn posted_over(pieces: u32, currency: &str, payments: Vec<PaymentAllocation>) -> Harness {
    let mut ordered = order(ORDER, pieces);
    ordered.currency = currency.to_owned();
    let mut billed = invoice(INVOICE, ORDER, pieces);
    billed.currency = currency.to_owned();
    let world = world(vec![ordered], vec![receipt(ORDER, "RC1", pieces)], vec![billed]);
    let mut run = Harness::new(world, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.documents(INVOICE), 1, "{}", run.story());
    run.sim.world().qad.payments.extend(payments);
    run
}

fn paying(amount: &str) -> PaymentAllocation {
    PaymentAllocation {
        allocated: Exact(dec(amount)),
        ..allocation(1, 0, "Paid")
    }
}

/// Settles some of the invoice in QAD without a payment.
fn adjust(run: &Harness, amount: &str) {
    let today = run.sim.now().date_utc();
    let mut world = run.sim.world();
    assert!(world.qad.adjust_invoice(
        sandbox::world::qad::ENTITY,
        &format!("INV-{INVOICE}"),
        dec(amount),
        today
    ));
}

fn settle(run: &mut Harness) {
    run.run(Job::PollPayments);
    run.deliver_all();
    run.heal();
}

fn assert_shown(run: &Harness, amounts: &[&str], paid: bool) {
    let wanted: Vec<Decimal> = amounts.iter().map(|amount| dec(amount)).collect();
    assert_eq!(shown(run), (wanted, paid), "{}", run.story());
}

#[test]
fn two_cents_that_qad_writes_off_close_the_bill_and_open_it_again_when_that_is_reversed() {
    let mut run = posted_over(75, "USD", vec![paying("749.98")]);
    settle(&mut run);
    assert_shown(&run, &["749.98"], false);
    adjust(&run, "0.02");
    settle(&mut run);
    assert_shown(&run, &["749.98"], true);
    adjust(&run, "-0.02");
    settle(&mut run);
    assert_shown(&run, &["749.98"], false);
}

#[test]
fn tax_withheld_at_payment_settles_the_bill_and_is_not_paid() {
    let mut run = posted_over(
        122,
        "USD",
        vec![PaymentAllocation {
            withheld: Exact(dec("200")),
            ..paying("1020")
        }],
    );
    settle(&mut run);
    assert_shown(&run, &["1020"], true);
}

#[test]
fn what_is_paid_in_another_currency_is_shown_in_the_invoices_own() {
    let in_dollars = |column: Option<&str>| PaymentAllocation {
        invoice_allocated: column.map(|amount| Exact(dec(amount))),
        settles: Some(Exact(dec("1000.00"))),
        ..paying("1085.00")
    };
    for column in [Some("1000.00"), None] {
        let mut run = posted_over(100, "EUR", vec![in_dollars(column)]);
        settle(&mut run);
        assert_shown(&run, &["1000.00"], true);
    }
}

#[test]
fn what_a_central_payer_pays_of_our_bill_is_shown_under_its_own_key() {
    let central = PaymentAllocation {
        entity: Some("30FRCO".to_owned()),
        ..paying("100")
    };
    let mut run = posted_over(10, "USD", vec![central]);
    settle(&mut run);
    assert_shown(&run, &["100"], true);
    let notes = run.sim.world().coupa.invoices[&INVOICE.0].payments[0]
        .notes
        .clone();
    assert!(notes.unwrap().starts_with("QAD 30FRCO 2026/ACH/1#1 "));
}

#[test]
fn a_document_that_a_person_looks_at_still_gets_its_entries_and_reversals() {
    let mut run = posted(vec![]);
    let now = run.sim.now().plus_millis(60_000);
    {
        let mut world = run.sim.world();
        let invoice = world.coupa.invoices.get_mut(&INVOICE.0).unwrap();
        invoice.lines[0].quantity = Some(Decimal::from(11));
        invoice.updated_at = now;
    }
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "parked", "{}", run.story());
    run.sim.world().qad.payments.push(allocation(1, 100, "Paid"));
    settle(&mut run);
    assert_paid(&run, &[100], true);
    run.sim.world().qad.payments[0].status = "Void".to_owned();
    settle(&mut run);
    assert_paid(&run, &[100, -100], false);
}

#[test]
fn a_closing_without_a_payment_with_every_fault_at_every_call_is_in_coupa_once() {
    let runs = every_single_fault(
        || {
            let mut run = posted(vec![allocation(1, 60, "Paid")]);
            run.run(Job::PollPayments);
            run.deliver_all();
            adjust(&run, "40");
            run.spawn(Job::PollPayments);
            run.spawn(pay());
            run
        },
        |run| assert_paid(run, &[60], true),
    );
    assert!(runs > 30, "{runs}");
}

/// Two invoices over 100.00 that are in QAD, and one payment of the first.
fn two_posted() -> Harness {
    let both = vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 10)];
    let world = world(vec![order(ORDER, 20)], vec![receipt(ORDER, "RC1", 20)], both);
    let mut run = Harness::new(world, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run.sim.world().qad.payments.push(allocation(1, 100, "Paid"));
    run
}

/// QAD moves the payment to another supplier invoice under the same number.
fn move_to(run: &Harness, reference: &str) {
    run.sim.world().qad.payments[0].invoice_reference = reference.to_owned();
}

fn shown_of(run: &Harness, id: domain::ids::InvoiceId) -> (Vec<i64>, bool) {
    let world = run.sim.world();
    let invoice = &world.coupa.invoices[&id.0];
    let entries = invoice
        .payments
        .iter()
        .map(|payment| i64::try_from(payment.amount_paid).unwrap());
    (entries.collect(), invoice.paid)
}

fn other() -> String {
    format!("INV-{OTHER}")
}

#[test]
fn an_allocation_that_qad_moves_is_taken_back_here_and_paid_there_once_each() {
    let mut run = two_posted();
    run.run(Job::PollPayments);
    run.deliver_all();
    assert_eq!(shown_of(&run, INVOICE), (vec![100], true));
    move_to(&run, &other());
    for _ in 0..3 {
        run.run(Job::PollPayments);
        run.deliver_all();
        run.heal();
        assert_eq!(
            shown_of(&run, INVOICE),
            (vec![100, -100], false),
            "{}",
            run.story()
        );
        assert_eq!(shown_of(&run, OTHER), (vec![100], true), "{}", run.story());
    }
    // And back again: what was taken back is a person's to enter.
    move_to(&run, &format!("INV-{INVOICE}"));
    run.run(Job::PollPayments);
    run.deliver_all();
    run.heal();
    assert_eq!(shown_of(&run, INVOICE), (vec![100, -100], false));
    assert_eq!(shown_of(&run, OTHER), (vec![100, -100], false));
    let sentence = domain::explain::sentence(&run.record(INVOICE).unwrap());
    assert!(sentence.contains("PAYMENT_REVIVED"), "{sentence}");
}

#[test]
fn an_allocation_that_moves_with_every_fault_at_every_call_is_in_each_bill_as_qad_says() {
    let runs = every_single_fault(
        || {
            let mut run = two_posted();
            run.run(Job::PollPayments);
            run.deliver_all();
            move_to(&run, &other());
            run.spawn(Job::PollPayments);
            run.spawn(pay());
            run.spawn(Job::Pay(Collection::Bill, OTHER.to_string()));
            run
        },
        |run| {
            assert_eq!(
                shown_of(run, INVOICE),
                (vec![100, -100], false),
                "{}",
                run.story()
            );
            assert_eq!(shown_of(run, OTHER), (vec![100], true), "{}", run.story());
        },
    );
    assert!(runs > 30, "{runs}");
}

/// Moved while its first entry is on its way, in every order with two polls: neither bill keeps what is not its own.
#[test]
fn an_allocation_that_moves_at_any_moment_ends_where_qad_has_it() {
    let schedules = every_order(
        preemptions(1),
        || {
            let mut run = two_posted();
            run.spawn(Job::PollPayments);
            run.spawn_step("moved", |world, _| {
                world.qad.payments[0].invoice_reference = other();
            });
            run.spawn(Job::PollPayments);
            run.spawn(pay());
            run
        },
        |mut run| {
            run.heal();
            let (entries, paid) = shown_of(&run, INVOICE);
            assert!(
                (entries.is_empty() || entries == [100, -100]) && !paid,
                "{entries:?} {}",
                run.story()
            );
            assert_eq!(shown_of(&run, OTHER), (vec![100], true), "{}", run.story());
        },
    );
    assert!(schedules > 10, "{schedules}");
}

#[test]
fn an_allocation_moves_to_an_invoice_nobody_owns_and_back_before_anything_was_written() {
    let mut run = two_posted();
    move_to(&run, "INV-elsewhere");
    run.run(Job::PollPayments);
    run.deliver_all();
    move_to(&run, &other());
    run.run(Job::PollPayments);
    run.deliver_all();
    run.heal();
    assert_eq!(shown_of(&run, INVOICE), (vec![], false));
    assert_eq!(shown_of(&run, OTHER), (vec![100], true));
    move_to(&run, "INV-elsewhere");
    run.run(Job::PollPayments);
    run.deliver_all();
    run.heal();
    assert_eq!(shown_of(&run, OTHER), (vec![100, -100], false));
}

/// It waited for an invoice that is not in QAD yet, and is moved to one that is: the first gets nothing of it when it comes.
#[test]
fn an_allocation_that_waited_for_its_invoice_and_was_moved_is_not_given_to_it_later() {
    let both = vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 10)];
    let world = world(vec![order(ORDER, 20)], vec![receipt(ORDER, "RC1", 20)], both);
    let mut run = Harness::new(world, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.sim.world().qad.payments.push(allocation(1, 100, "Paid"));
    move_to(&run, &other());
    run.run(Job::PollPayments);
    run.deliver_all();
    assert_eq!(shown_of(&run, INVOICE), (vec![], false));
    move_to(&run, &format!("INV-{INVOICE}"));
    run.run(Job::PollPayments);
    run.deliver_all();
    assert_eq!(shown_of(&run, INVOICE), (vec![100], true));
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run.run(Job::PollPayments);
    run.deliver_all();
    run.heal();
    assert_eq!(run.documents(OTHER), 1);
    assert_eq!(shown_of(&run, OTHER), (vec![], false), "{}", run.story());
    assert_eq!(shown_of(&run, INVOICE), (vec![100], true), "{}", run.story());
}

/// The answer to the create is lost with its worker, QAD pays the document, and the bill asks ever more rarely. As soon as the
/// document is known, the next sweep pays the bill.
#[cfg(debug_assertions)]
#[test]
fn a_bill_that_waited_for_hours_is_paid_with_the_sweep_after_its_invoice_is_found() {
    let create = call_of(straight, Method::CreateInvoice);
    let mut run = straight();
    run.fate(Script {
        faults: vec![(create, Fault::CrashAfter)],
        ..Script::default()
    });
    run.run_all();
    run.fate(Calm);
    run.sim.world().qad.payments.push(allocation(1, 100, "Paid"));
    run.run(Job::PollPayments);
    run.deliver_all();
    for asked in 0..10 {
        let at = run.sim.now().0 + flows::write_payment::wait_for_invoice_millis(asked);
        run.sim.advance_to(at);
        run.run(pay());
    }
    assert_paid(&run, &[], false);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "exported", 1);
    run.run(Job::Sweep);
    run.deliver_all();
    assert_paid(&run, &[100], true);
}

// ---------------------------------------------------------------------------------------------------------------
// What breaks without a guard
// ---------------------------------------------------------------------------------------------------------------

/// What broke, as the table of the guards tells it.
fn broken(mut run: Harness) -> Option<String> {
    settle(&mut run);
    let first = run.violations().first()?.lines().next()?.to_owned();
    Some(format!("flows, no fault: {first}"))
}

/// 749.98 of 750.00 is paid, and QAD keeps the two cents open.
pub(crate) fn closed_by_a_write_off() -> Option<String> {
    broken(posted_over(75, "USD", vec![paying("749.98")]).collecting())
}

/// 1000.00 EUR are paid as 1085.00 USD.
pub(crate) fn paid_in_another_currency() -> Option<String> {
    let in_dollars = PaymentAllocation {
        invoice_allocated: Some(Exact(dec("900.00"))),
        ..paying("976.50")
    };
    broken(posted_over(100, "EUR", vec![in_dollars]).collecting())
}

/// QAD pays a bill whose invoice is on its way: whoever was to create it has died just before.
#[cfg(debug_assertions)]
pub(crate) fn paid_before_it_is_posted() -> Option<String> {
    let create = call_of(straight, Method::CreateInvoice);
    let mut run = straight().collecting();
    run.fate(Script {
        faults: vec![(create, Fault::CrashBefore)],
        ..Script::default()
    });
    run.run_all();
    run.fate(Calm);
    run.sim.world().qad.payments.push(allocation(1, 100, "Paid"));
    run.run(Job::PollPayments);
    run.run(pay());
    let first = run.violations().first()?.lines().next()?.to_owned();
    Some(format!("flows, death before call {create}: {first}"))
}

/// A payment is taken back between the readings of two polls that run at once.
#[cfg(debug_assertions)]
pub(crate) fn taken_back_between_two_polls() -> Option<String> {
    first_schedule(preemptions(3), two_polls_and_a_void, |run| {
        let (entries, paid) = shown(run);
        let sum: Decimal = entries.iter().sum();
        (!sum.is_zero() || paid).then(|| "S8 QAD has taken the payment back, and Coupa shows it".to_owned())
    })
}
