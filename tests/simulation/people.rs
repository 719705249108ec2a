//! What people do in Coupa in the middle of it: void, take back, change, export by other means.

use crate::preemptions;
use domain::effect::EffectStatus;
use flows::ports::HintReason;
use rust_decimal::Decimal;
use sandbox::faults::{Fault, FaultRule, System};
use sandbox::world::World;
use sandbox::world::qad::{DOMAIN, ENTITY, Exact, SupplierInvoiceRecord};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tests::fates::Script;
use tests::gate::Method;
use tests::harness::{BEGINNING, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, straight_through};

/// Voided in Coupa at any moment, with the event delivered at any moment after: either nothing is in QAD and Coupa shows
/// it exported, or it is in QAD and a person is told.
#[test]
fn a_void_at_any_moment_is_never_ignored() {
    for mute in [false, true] {
        a_void_at_any_moment(mute);
    }
}

/// Coupa's answer to the flag may say nothing about the invoice.
fn a_void_at_any_moment(mute: bool) {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.sim.shared().mute = mute;
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("voided", |world, now| world.coupa.void(INVOICE.0, now).unwrap());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            let (state, codes) = run.standing(INVOICE);
            match run.documents(INVOICE) {
                0 => assert_eq!(state, "voided", "{}", run.story()),
                documents => {
                    assert_eq!(documents, 1);
                    assert_eq!(
                        (state.as_str(), codes),
                        ("parked", vec!["VOIDED_AFTER_POSTING".to_owned()]),
                        "{}",
                        run.story()
                    );
                }
            }
        },
    );
    assert!(schedules > 50, "{schedules}");
}

/// The answer to the create gets lost and nothing was committed. Until that is proven, the world goes on without an event:
/// what was matched is not sent again, the invoice is decided anew.
#[test]
fn what_changed_while_a_create_was_unknown_is_decided_anew() {
    type Change = fn(&mut World);
    let changes: [(Change, &str, usize); 3] = [
        (|_| {}, "exported", 1),
        (
            |world| world.coupa.void(INVOICE.0, BEGINNING.plus_seconds(60)).unwrap(),
            "voided",
            0,
        ),
        (|world| world.qad.receipts.clear(), "held", 0),
    ];
    for (change, state, documents) in changes {
        let mut run = Harness::new(straight_through(), &Setup::default());
        let lost = FaultRule::next(System::Qad, "supplier-invoices.create", None, Fault::LostBefore);
        run.sim.ports.faults.lock().unwrap().arm(lost);
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        let creation = run.record(INVOICE).unwrap().creation.unwrap();
        assert_eq!(creation.status, EffectStatus::Unknown);
        change(&mut run.sim.world());
        run.heal();
        run.assert_stands(INVOICE, state, documents);
    }
}

/// Changed in Coupa at any moment, and the event is lost: QAD has what Coupa shows, or a person is told. What changes after
/// the flag is set is Coupa's to tell, so nothing is said of that.
#[test]
fn a_change_before_the_flag_is_noticed_although_its_event_is_lost() {
    every_order(
        preemptions(2),
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("changed", |world, now| {
                let invoice = world.coupa.invoices.get_mut(&INVOICE.0).unwrap();
                if !invoice.exported {
                    invoice.number = "INV-CHANGED".to_owned();
                    invoice.updated_at = now.plus_seconds(1);
                }
            });
            run
        },
        |mut run| {
            run.heal();
            let shown = run.sim.world().coupa.invoices[&INVOICE.0].number.clone();
            let in_qad: Vec<String> = {
                let world = run.sim.world();
                let records = world.qad.invoices.iter();
                records
                    .map(|one| one.record.supplier_invoice_reference.clone())
                    .collect()
            };
            assert_eq!(in_qad.len(), 1, "{}", run.story());
            let (state, codes) = run.standing(INVOICE);
            if in_qad == [shown] {
                assert_eq!(state, "exported", "{}", run.story());
            } else {
                assert_eq!(
                    (state.as_str(), codes),
                    ("parked", vec!["CHANGED_AFTER_POSTING".to_owned()]),
                    "{}",
                    run.story()
                );
                TOLD.fetch_add(1, Ordering::Relaxed);
            }
        },
    );
    let told = TOLD.load(Ordering::Relaxed);
    assert!(told > 0, "no order has the change between reading and the flag");
}

/// How often the change came between reading and the flag.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// The approval taken back at any moment: nothing of it is posted after that was seen.
#[test]
fn an_approval_taken_back_at_any_moment_leaves_nothing_half_done() {
    every_order(
        preemptions(2),
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("taken back", |world, now| {
                let invoice = world.coupa.invoices.get_mut(&INVOICE.0).unwrap();
                invoice.status = "pending_approval".to_owned();
                invoice.updated_at = now.plus_seconds(1);
            });
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            let state = run.standing(INVOICE).0;
            match run.documents(INVOICE) {
                0 => assert!(
                    state == "received" || state == "unknown",
                    "{state}\n{}",
                    run.story()
                ),
                _ => run.assert_stands(INVOICE, "exported", 1),
            }
        },
    );
}

/// Somebody else exports the invoice before this product has seen it: it is never created, however often it is hinted.
#[test]
fn what_others_have_exported_is_not_posted_however_often_it_is_hinted() {
    let mut world = straight_through();
    world.coupa.invoices.get_mut(&INVOICE.0).unwrap().exported = true;
    let mut run = Harness::new(world, &Setup::default());
    for reason in [
        HintReason::Webhook,
        HintReason::Webhook,
        HintReason::Operator,
        HintReason::Sweep,
    ] {
        run.run(Job::Match(INVOICE, reason));
        run.assert_stands(INVOICE, "rejected", 0);
    }
}

/// Exported by others and in QAD, from before this product came: taken over as it stands when QAD proves it, so that its
/// payments find it; nothing is sent, and a document that is not equal proves nothing.
#[test]
fn what_others_have_exported_is_taken_over_when_qad_proves_it() {
    for (total, state) in [(100, "exported"), (99, "rejected")] {
        let mut world = straight_through();
        world.coupa.invoices.get_mut(&INVOICE.0).unwrap().exported = true;
        let mut keyed = keyed_document();
        keyed.supplier_invoice_reference = format!("INV-{INVOICE}");
        keyed.total_amount = Exact(Decimal::from(total));
        world.qad.keyed_by_hand(keyed, BEGINNING);
        let mut run = Harness::new(world, &Setup::default());
        for reason in [HintReason::Webhook, HintReason::Operator, HintReason::Sweep] {
            run.run(Job::Match(INVOICE, reason));
            run.assert_stands(INVOICE, state, 1);
        }
    }
}

/// A flag reset in Coupa after the posting is set again.
#[test]
fn a_reset_flag_is_set_again() {
    let mut run = Harness::new(straight_through(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.sim
        .world()
        .coupa
        .invoices
        .get_mut(&INVOICE.0)
        .unwrap()
        .exported = false;
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert!(run.exported(INVOICE));
}

/// What a worker has learned about an invoice's first content is never taken for its second: the reference is corrected
/// while a look-up for the old one is on its way, and a stranger's document has the old one.
#[test]
fn what_was_found_for_the_old_reference_is_not_taken_for_the_new_one() {
    let schedules = every_order(
        2,
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            let mut foreign = keyed_document();
            foreign.supplier_invoice_reference = format!("INV-{INVOICE}");
            run.sim.world().qad.keyed_by_hand(foreign, BEGINNING);
            // The first worker has found the stranger's document and is about to write it down.
            let called = Arc::new(Mutex::new(Vec::new()));
            run.fate(Script {
                called: called.clone(),
                ..Script::default()
            });
            let first = run.spawn(Job::Match(INVOICE, HintReason::Sweep));
            while !called
                .lock()
                .unwrap()
                .ends_with(&[Method::FindInvoices, Method::Commit])
            {
                run.step(first);
            }
            {
                let mut world = run.sim.world();
                let invoice = world.coupa.invoices.get_mut(&INVOICE.0).unwrap();
                invoice.number = "INV-CORRECTED".to_owned();
            }
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            let trail = run.trail(INVOICE);
            let Some(record) = run.record(INVOICE) else {
                panic!("no record\n{}", run.story())
            };
            let Some(voucher) = record.state.voucher().cloned() else {
                return;
            };
            let reference = record
                .summary
                .map(|summary| summary.reference.to_string())
                .unwrap_or_default();
            let world = run.sim.world();
            let document = world
                .qad
                .invoices
                .iter()
                .find(|one| one.voucher == voucher.number)
                .unwrap();
            let booked = document.record.supplier_invoice_reference.clone();
            drop(world);
            let told = run.standing(INVOICE).1 == ["CHANGED_AFTER_POSTING"];
            assert!(
                booked == reference || told,
                "the record says {reference} and QAD {booked}: {trail:?}\n{}",
                run.story()
            );
        },
    );
    assert!(schedules > 20, "{schedules}");
}

/// What a clerk keyed for 100.00, without receipts.
pub(crate) fn keyed_document() -> SupplierInvoiceRecord {
    SupplierInvoiceRecord {
        entity_code: ENTITY.to_owned(),
        domain_code: DOMAIN.to_owned(),
        supplier_code: "S1001".to_owned(),
        supplier_invoice_reference: String::new(),
        invoice_type: "INVOICE".to_owned(),
        daybook_code: "SI".to_owned(),
        matching_daybook_code: "RM".to_owned(),
        currency_code: "USD".to_owned(),
        invoice_date: "2026-03-05T00:00:00.000Z".to_owned(),
        posting_date: "2026-03-05T00:00:00.000Z".to_owned(),
        credit_terms_code: None,
        invoice_status_code: "AP-INITIAL".to_owned(),
        total_amount: Exact(Decimal::ONE_HUNDRED),
        tax_amount: Exact::default(),
        description: "Keyed from paper".to_owned(),
        purchase_orders: Vec::new(),
        receiver_matchings: Vec::new(),
        additional_costs: Vec::new(),
        invoice_link: None,
        data_operation: "C".to_owned(),
        concurrency_hash: String::new(),
    }
}

/// Voided while it was held and approved again: nothing was ever sent, so it is decided anew under the same identity, once,
/// however often and however late Coupa's events arrive.
#[test]
fn a_bill_voided_while_held_and_approved_again_is_decided_anew() {
    let mut waiting = straight_through();
    let receipts = std::mem::take(&mut waiting.qad.receipts);
    let mut run = Harness::new(waiting, &Setup::default());
    let event = || Job::Match(INVOICE, HintReason::Webhook);
    run.run(event());
    run.assert_stands(INVOICE, "held", 0);
    run.spawn_step("voided", |world, now| world.coupa.void(INVOICE.0, now).unwrap());
    run.run_all();
    run.run(event());
    run.assert_stands(INVOICE, "voided", 0);
    run.run(event());
    run.assert_stands(INVOICE, "voided", 0);
    run.spawn_step("approved again", |world, now| {
        world.coupa.approve(INVOICE.0, now).unwrap();
    });
    run.run_all();
    // The event twice; the void's own, late, is read as what Coupa says now.
    for _ in 0..3 {
        run.run(event());
        run.assert_stands(INVOICE, "held", 0);
    }
    run.sim.world().qad.receipts = receipts;
    run.run(event());
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert!(run.exported(INVOICE));
    assert_eq!(run.sim.shared().watch.creates(), 1);
}

/// Without any event: the list of what is not exported shows it.
#[test]
fn a_bill_approved_again_is_found_by_the_poll_when_its_event_is_lost() {
    let mut waiting = straight_through();
    waiting.qad.receipts.clear();
    let mut run = Harness::new(waiting, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.spawn_step("voided", |world, now| world.coupa.void(INVOICE.0, now).unwrap());
    run.run_all();
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "voided", 0);
    run.sim.advance_to(run.sim.now().0 + 5_000);
    run.spawn_step("approved again", |world, now| {
        world.coupa.approve(INVOICE.0, now).unwrap();
        world.coupa.invoices.get_mut(&INVOICE.0).unwrap().exported = false;
    });
    run.run_all();
    run.run(Job::PollCoupa);
    run.deliver_all();
    run.assert_stands(INVOICE, "held", 0);
}

/// Approved again at any moment of the void's own handling: the bill is in QAD once, or a person is told.
#[test]
fn an_approval_at_any_moment_of_a_void_is_never_ignored() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut world = straight_through();
            world.coupa.void(INVOICE.0, BEGINNING).unwrap();
            let mut run = Harness::new(world, &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("approved again", |world, now| {
                world.coupa.approve(INVOICE.0, now).unwrap();
            });
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |mut run| {
            // The approval's own event comes after it.
            run.run(Job::Match(INVOICE, HintReason::Webhook));
            run.heal();
            run.assert_stands(INVOICE, "exported", 1);
            assert!(run.exported(INVOICE));
        },
    );
    assert!(schedules > 10, "{schedules}");
}
