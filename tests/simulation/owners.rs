//! Two installations, each with a register of its own, on the same Coupa and QAD: the mark in Coupa lets one of them work. They
//! know nothing else of each other.

use crate::payments::allocation;
use crate::preemptions;
use domain::guards::{Guard, without};
use domain::ownership::OWNED_BY_ANOTHER;
use flows::ports::{Collection, HintReason};
use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use tests::fates::{Fault, Script};
use tests::gate::{After, Before, Call, Fate, Method, OWNER_LOOKUP};
use tests::harness::{Harness, Job, Setup, next_path};
use tests::small::{INVOICE, ORDER, invoice, order, receipt, world};

/// How late a write lands, in milliseconds: not within a call, and before Coupa's settle window is over.
const LATE_MILLIS: i64 = 140_000;

/// Two of them over one invoice that QAD would take twice: four times as much is received.
struct Two {
    one: Harness,
    other: Harness,
}

fn two() -> Two {
    let setup = |seed| Setup {
        seed,
        owner_lookup: Some(OWNER_LOOKUP.to_owned()),
        ..Setup::default()
    };
    let worlds = world(
        vec![order(ORDER, 40)],
        vec![receipt(ORDER, "RC1", 40)],
        vec![invoice(INVOICE, ORDER, 10)],
    );
    let one = Harness::new(worlds, &setup(1)).collecting();
    let other = one.beside(&setup(2));
    Two { one, other }
}

impl Two {
    fn of(&mut self, which: usize) -> &mut Harness {
        if which == 0 {
            &mut self.one
        } else {
            &mut self.other
        }
    }

    /// Does one job in each, in the order of `path`, and beyond it without a preemption; the answer is how many could go on at
    /// each place.
    fn interleave(&mut self, job: &Job, path: &[usize], preemptions: usize) -> Vec<usize> {
        self.one.spawn(job.clone());
        self.other.spawn(job.clone());
        let (mut options, mut current, mut left) = (Vec::new(), None, preemptions);
        loop {
            let can: Vec<usize> = (0..2)
                .filter(|which| !self.of(*which).runnable().is_empty())
                .collect();
            if can.is_empty() {
                let wakes = [self.one.next_wake(), self.other.next_wake()];
                match wakes.into_iter().flatten().min() {
                    Some(wake) => self.one.sim.advance_to(wake),
                    None => return options,
                }
                continue;
            }
            let goes_on = current.filter(|which| can.contains(which));
            let mut order: Vec<usize> = goes_on.into_iter().collect();
            if goes_on.is_none() || left > 0 {
                order.extend(can.iter().filter(|which| Some(**which) != goes_on));
            }
            let chosen = order[path.get(options.len()).copied().unwrap_or(0)];
            options.push(order.len());
            left -= usize::from(goes_on.is_some_and(|which| which != chosen));
            current = Some(chosen);
            let run = self.of(chosen);
            let task = run.runnable()[0];
            run.step(task);
        }
    }

    /// Hours pass, with polls and sweeps in both.
    fn heal(&mut self) {
        for _ in 0..12 {
            for run in [&mut self.one, &mut self.other] {
                run.run(Job::PollCoupa);
                run.run(Job::Sweep);
                run.deliver_all();
                run.run(Job::PollPayments);
                run.deliver_all();
            }
            let now = self.one.sim.now().0;
            self.one.sim.advance_to(now + 600_000);
        }
    }

    fn documents(&self) -> usize {
        self.one.sim.world().qad.invoices.len()
    }

    fn payments(&self) -> usize {
        self.one.sim.world().coupa.invoices[&INVOICE.0].payments.len()
    }

    /// The document is paid in QAD.
    fn pay(&mut self) {
        self.one.spawn_step("QAD pays", |world, _| {
            world.qad.save_payment(allocation(1, 100, "Paid"));
        });
        self.one.run_all();
    }

    /// At rest one of them has it, and the other says who has it.
    fn assert_one_has_it(&self) {
        let stand = |run: &Harness| {
            let record = run.record(INVOICE);
            let delay = record.as_ref().and_then(|record| record.delay.clone());
            (
                record.map(|record| record.state.word()).unwrap_or_default(),
                delay.map(|delay| delay.code).unwrap_or_default(),
            )
        };
        let mut standing = [stand(&self.one), stand(&self.other)];
        standing.sort();
        let posted = ("exported", String::new());
        let waits = ("received", OWNED_BY_ANOTHER.to_owned());
        // Whoever comes after it was exported is not asked for it by Coupa's list.
        let never_heard = ("", String::new());
        assert_eq!(
            standing[if standing[0] == posted { 0 } else { 1 }],
            posted,
            "{standing:?}"
        );
        assert!(
            standing.contains(&waits) || standing.contains(&never_heard),
            "{standing:?}"
        );
    }
}

/// Runs what `begin` has prepared in every order of one job in each with so many preemptions; the answer is how many orders
/// there are.
fn every_order(begin: impl Fn() -> Two, preemptions: usize, job: &Job, mut end: impl FnMut(Two)) -> usize {
    let (mut path, mut orders) = (Vec::new(), 0);
    loop {
        let mut both = begin();
        let options = both.interleave(job, &path, preemptions);
        end(both);
        orders += 1;
        if !next_path(&mut path, &options) {
            return orders;
        }
    }
}

#[test]
fn in_every_order_of_their_first_steps_one_document_and_one_payment_come_of_two_installations() {
    let orders = every_order(
        two,
        preemptions(2),
        &Job::Match(INVOICE, HintReason::Webhook),
        |mut both| {
            assert!(both.documents() <= 1);
            both.heal();
            assert_eq!(both.documents(), 1);
            both.assert_one_has_it();
            both.pay();
            both.heal();
            assert_eq!((both.documents(), both.payments()), (1, 1));
        },
    );
    assert!(orders > 30, "{orders}");
}

/// Both have the invoice, and know of its payment: the other one had it posted before there was a mark.
fn both_posted() -> Two {
    let mut both = two();
    for run in [&mut both.one, &mut both.other] {
        without(Guard::OwnerMark, || {
            run.run(Job::Match(INVOICE, HintReason::Webhook))
        });
    }
    both.pay();
    for run in [&mut both.one, &mut both.other] {
        run.run(Job::PollPayments);
    }
    both
}

fn pay() -> Job {
    Job::Pay(Collection::Bill, INVOICE.to_string())
}

#[test]
fn in_every_order_of_two_who_know_the_invoice_its_payment_is_written_once() {
    let orders = every_order(both_posted, 1, &pay(), |mut both| {
        both.heal();
        assert_eq!((both.documents(), both.payments()), (1, 1));
    });
    assert!(orders > 10, "{orders}");
}

/// One of them dies, stops, loses an answer or has its write land late at any of its calls, and the other one comes in its
/// place: at once, and again and again.
#[test]
fn whatever_goes_wrong_with_one_of_two_installations_there_is_one_document_and_one_payment() {
    let begin = |script: Script| {
        let mut both = two();
        both.one.fate(script);
        both.interleave(&Job::Match(INVOICE, HintReason::Webhook), &[], 0);
        both
    };
    let called = Arc::new(Mutex::new(Vec::new()));
    begin(Script {
        called: Arc::clone(&called),
        ..Script::default()
    });
    let methods = called.lock().unwrap().clone();
    for method in [
        Method::LookupValues,
        Method::CreateLookupValue,
        Method::Commit,
        Method::CreateInvoice,
        Method::MarkExported,
    ] {
        assert!(methods.contains(&method), "{method:?} of {methods:?}");
    }
    for (number, method) in (1..).zip(methods) {
        for fault in Fault::of(method).into_iter().chain([Fault::StallBefore]) {
            let reached = Arc::new(Mutex::new(Vec::new()));
            let mut both = begin(Script {
                faults: vec![(number, fault)],
                lateness_millis: LATE_MILLIS,
                called: Arc::clone(&reached),
            });
            let at = usize::try_from(number).unwrap() - 1;
            assert_eq!(
                reached.lock().unwrap().get(at),
                Some(&method),
                "{fault:?} at {number}"
            );
            both.heal();
            both.pay();
            both.heal();
            let found = (both.documents(), both.payments());
            assert_eq!(found, (1, 1), "{fault:?} at {number}\n{}", both.one.story());
            both.assert_one_has_it();
        }
    }
}

/// A claim and a renewal that get no answer at any call: nobody's mark is ever taken for free.
#[test]
fn a_mark_that_gives_no_answer_lets_nobody_begin() {
    struct Silent;
    impl Fate for Silent {
        fn before(&mut self, call: &Call) -> Before {
            match call.method {
                Method::LookupValues => Before::Lost,
                _ => Before::Proceed,
            }
        }
        fn after(&mut self, _: &Call) -> After {
            After::Proceed
        }
    }
    let mut both = two();
    both.one.fate(Silent);
    both.other.fate(Silent);
    both.heal();
    assert_eq!(both.documents(), 0);
    both.one.fate(tests::gate::Calm);
    both.other.fate(tests::gate::Calm);
    both.heal();
    assert_eq!(both.documents(), 1);
}

/// What breaks without the mark, and in which order.
#[cfg(debug_assertions)]
pub(crate) fn without_the_mark() -> Option<String> {
    let found = RefCell::new(None);
    let mut orders = 0;
    every_order(two, 1, &Job::Match(INVOICE, HintReason::Webhook), |both| {
        orders += 1;
        if both.documents() > 1 && found.borrow().is_none() {
            let what = format!("S1 QAD has {} documents of INV-7001", both.documents());
            *found.borrow_mut() = Some(format!("flows, schedule {orders}: {what}"));
        }
    });
    found.into_inner()
}

#[test]
fn without_the_mark_two_installations_post_and_pay_twice() {
    assert!(without(Guard::OwnerMark, without_the_mark).is_some());
    let paid_twice = RefCell::new(false);
    without(Guard::OwnerMark, || {
        every_order(both_posted, 1, &pay(), |both| {
            if both.payments() > 1 {
                *paid_twice.borrow_mut() = true;
            }
        })
    });
    assert!(*paid_twice.borrow());
}
