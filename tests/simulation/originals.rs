//! The invoice behind another one: what a credit note cancels, and what has the same number.

use crate::instructions::Desk;
use crate::preemptions;
use domain::ids::{DocumentKind, InvoiceId};
use domain::instruction::{Instruction, SecondPerson};
use domain::policy::{Limit, PostingDate};
use flows::operator;
use flows::ports::HintReason;
use rust_decimal::Decimal;
use sandbox::faults::{Fault, FaultRule, System};
use sandbox::world::World;
use sandbox::world::coupa::{CoupaCharge, CoupaInvoice};
use sandbox::world::qad::QadReceipt;
use tests::gate::ready;
use tests::harness::{Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, receipt, world};

/// A third document.
const THIRD: InvoiceId = InvoiceId(7_003);
/// A fourth.
const FOURTH: InvoiceId = InvoiceId(7_004);

/// A credit note that is the negative of a bill.
fn cancels(id: InvoiceId, bill: &CoupaInvoice) -> CoupaInvoice {
    CoupaInvoice {
        id: id.0,
        number: format!("CN-{id}"),
        kind: DocumentKind::CreditNote,
        original_number: Some(bill.number.clone()),
        paid: false,
        status: "approved".to_owned(),
        ..bill.clone()
    }
}

fn look(run: &mut Harness, id: InvoiceId) {
    run.run(Job::Match(id, HintReason::Webhook));
}

/// The next look before a creation gets no answer: approved, and nothing is sent.
fn leave_the_next_look_unanswered(run: &Harness) {
    let lost = FaultRule::next(System::Qad, "supplier-invoices.find", None, Fault::LostBefore);
    run.sim.ports.faults.lock().unwrap().arm(lost);
}

fn codes(run: &Harness, id: InvoiceId) -> Vec<String> {
    run.standing(id).1
}

/// What QAD shows as matched to receivers in all.
fn matched(run: &Harness) -> Decimal {
    let world = run.sim.world();
    let matchings = world
        .qad
        .invoices
        .iter()
        .flat_map(|one| &one.record.receiver_matchings);
    matchings.map(|one| one.match_quantity.0).sum()
}

/// What QAD shows as owed in all.
fn owed(run: &Harness) -> Decimal {
    let world = run.sim.world();
    world
        .qad
        .invoices
        .iter()
        .map(|one| one.record.total_amount.0)
        .sum()
}

fn ten(more: Vec<CoupaInvoice>) -> World {
    let mut all = vec![invoice(INVOICE, ORDER, 10)];
    all.extend(more);
    world(vec![order(ORDER, 10)], vec![receipt(ORDER, "RC1", 10)], all)
}

/// Freight of 50.00 alone: nothing of it is on a receiver.
fn freight() -> CoupaInvoice {
    let mut bill = invoice(INVOICE, ORDER, 0);
    bill.charges = vec![CoupaCharge {
        kind: domain::documents::ChargeKind::Shipping,
        amount: Decimal::from(50),
    }];
    bill
}

#[test]
fn of_two_credit_notes_that_cancel_one_invoice_one_posts_in_whatever_order() {
    for bill in [invoice(INVOICE, ORDER, 10), freight()] {
        let schedules = every_order(
            preemptions(2),
            || {
                let documents = vec![bill.clone(), cancels(OTHER, &bill), cancels(THIRD, &bill)];
                let receipts = vec![receipt(ORDER, "RC1", 10)];
                let mut run = Harness::new(
                    world(vec![order(ORDER, 10)], receipts, documents),
                    &Setup::default(),
                );
                look(&mut run, INVOICE);
                run.assert_stands(INVOICE, "exported", 1);
                run.spawn(Job::Match(OTHER, HintReason::Webhook));
                run.spawn(Job::Match(THIRD, HintReason::Webhook));
                run
            },
            |mut run| {
                run.heal();
                run.recheck();
                let mut standing = [run.standing(OTHER), run.standing(THIRD)];
                standing.sort();
                assert_eq!(standing[0].0, "exported", "{}", run.story());
                assert_eq!(
                    standing[1],
                    ("parked".to_owned(), vec!["ORIGINAL_ALREADY_CANCELLED".to_owned()])
                );
                assert_eq!((owed(&run), matched(&run)), (Decimal::ZERO, Decimal::ZERO));
            },
        );
        assert!(schedules > 20, "{schedules}");
    }
}

/// Ten billed and posted, of which so many went back, with these credit notes.
fn billed(setup: &Setup, returned: i64, credits: Vec<CoupaInvoice>) -> Harness {
    let mut run = Harness::new(ten(credits), setup);
    look(&mut run, INVOICE);
    run.assert_stands(INVOICE, "exported", 1);
    run.sim.world().qad.receipts.push(back(returned));
    run
}

/// Four of ten went back; a credit note for these, and one that cancels the whole bill.
fn in_part_and_as_a_whole() -> Harness {
    let bill = invoice(INVOICE, ORDER, 10);
    let credits = vec![part(OTHER, &bill, 4), cancels(THIRD, &bill)];
    billed(&Setup::default(), 4, credits)
}

/// So many pieces that went back.
fn back(pieces: i64) -> QadReceipt {
    let mut back = receipt(ORDER, "RT1", 0);
    back.quantity.0 = Decimal::from(-pieces);
    back
}

/// A credit note for so many pieces of a bill.
fn part(id: InvoiceId, bill: &CoupaInvoice, pieces: i64) -> CoupaInvoice {
    let mut credit = cancels(id, bill);
    credit.lines[0].quantity = Some(Decimal::from(pieces));
    credit
}

/// Both credit notes come at once, in whatever order.
pub(crate) fn credited_in_part_and_as_a_whole() -> Option<String> {
    crate::guards::first_schedule(
        preemptions(2),
        || {
            let mut run = in_part_and_as_a_whole();
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run.spawn(Job::Match(THIRD, HintReason::Webhook));
            run
        },
        |run| {
            let mut standing = [run.standing(OTHER), run.standing(THIRD)];
            standing.sort();
            let [posted, parked] = &standing;
            let is_right =
                posted.0 == "exported" && parked.0 == "parked" && parked.1 == ["CREDITED_OVER_BILLED"];
            (!is_right).then(|| format!("one of two is posted: {standing:?}"))
        },
    )
}

#[test]
fn of_a_partial_credit_and_a_cancellation_one_posts_in_whatever_order() {
    assert_eq!(credited_in_part_and_as_a_whole(), None);
}

#[test]
fn partial_credits_post_until_all_that_was_billed_is_credited() {
    let bill = invoice(INVOICE, ORDER, 10);
    let credits = vec![
        part(OTHER, &bill, 4),
        part(THIRD, &bill, 6),
        part(FOURTH, &bill, 1),
    ];
    let mut run = billed(&Setup::default(), 12, credits);
    for id in [OTHER, THIRD] {
        look(&mut run, id);
        run.assert_stands(id, "exported", 1);
    }
    look(&mut run, FOURTH);
    assert_eq!(codes(&run, FOURTH), ["CREDITED_OVER_BILLED"]);
    run.recheck();
    assert_eq!(codes(&run, FOURTH), ["CREDITED_OVER_BILLED"]);
    assert_eq!(owed(&run), Decimal::ZERO);
}

#[test]
fn a_partial_credit_that_came_to_nothing_leaves_its_share_to_others() {
    let mut run = in_part_and_as_a_whole();
    leave_the_next_look_unanswered(&run);
    look(&mut run, OTHER);
    assert_eq!(run.standing(OTHER).0, "approved");
    look(&mut run, THIRD);
    assert_eq!(codes(&run, THIRD), ["CREDITED_OVER_BILLED"]);
    let now = run.sim.now();
    run.sim.world().coupa.void(OTHER.0, now).unwrap();
    look(&mut run, OTHER);
    run.heal();
    run.recheck();
    run.assert_stands(THIRD, "exported", 1);
}

/// A credit note that somebody keyed in QAD is ours once it is taken over: it counts like those that we have sent, whichever
/// way it was taken over, and whichever comes first.
#[test]
fn a_credit_note_that_was_keyed_by_hand_counts_too() {
    let bill = invoice(INVOICE, ORDER, 10);
    let keyed = |run: &mut Harness| {
        let mut record = crate::people::keyed_document();
        record.supplier_invoice_reference = format!("CN-{OTHER}");
        record.invoice_type = "CREDITNOTE".to_owned();
        record.total_amount.0 = Decimal::from(-40);
        let now = run.sim.now();
        run.sim.world().qad.keyed_by_hand(record, now);
    };
    // Not matched, because its return is not in QAD: it is looked for there.
    let mut run = Harness::new(
        ten(vec![part(OTHER, &bill, 4), cancels(THIRD, &bill)]),
        &Setup::default(),
    );
    look(&mut run, INVOICE);
    keyed(&mut run);
    look(&mut run, OTHER);
    run.heal();
    run.assert_stands(OTHER, "exported", 1);
    assert_eq!(run.record(OTHER).unwrap().creation, None);
    look(&mut run, THIRD);
    assert_eq!(codes(&run, THIRD), ["CREDITED_OVER_BILLED"]);

    // Marked exported by somebody before we had seen it.
    let mut exported = part(OTHER, &bill, 4);
    exported.exported = true;
    let mut run = Harness::new(ten(vec![exported, cancels(THIRD, &bill)]), &Setup::default());
    look(&mut run, INVOICE);
    keyed(&mut run);
    look(&mut run, OTHER);
    assert_eq!(run.standing(OTHER).0, "exported");
    look(&mut run, THIRD);
    assert_eq!(codes(&run, THIRD), ["CREDITED_OVER_BILLED"]);

    // Named by a person, with another total than Coupa's.
    let mut setup = Setup::default();
    setup.settings.adopt_equal_documents = false;
    let mut run = Harness::new(ten(vec![part(OTHER, &bill, 4), part(THIRD, &bill, 7)]), &setup);
    run.sim.world().qad.receipts.push(back(12));
    look(&mut run, INVOICE);
    keyed(&mut run);
    look(&mut run, OTHER);
    assert_eq!(codes(&run, OTHER), ["QAD_DOCUMENT_FOREIGN"]);
    let of_it = run
        .sim
        .world()
        .qad
        .invoices
        .last()
        .map(|one| domain::lifecycle::Voucher {
            year: one.posting_year,
            daybook: one.record.daybook_code.clone(),
            number: one.voucher,
        });
    let desk = Desk::of(&run);
    let adopted = desk.adopt_as(&setup, OTHER, &of_it.unwrap(), None);
    assert!(adopted.is_ok(), "{adopted:?}");
    look(&mut run, THIRD);
    assert_eq!(codes(&run, THIRD), ["CREDITED_OVER_BILLED"]);
}

/// An invoice that somebody keyed, and that was taken over, is credited to its total and no further.
#[test]
fn of_an_invoice_that_was_keyed_by_hand_no_more_is_credited_than_it_bills() {
    let bill = invoice(INVOICE, ORDER, 10);
    let mut run = Harness::new(
        ten(vec![part(OTHER, &bill, 4), part(THIRD, &bill, 7)]),
        &Setup::default(),
    );
    let mut record = crate::people::keyed_document();
    record.supplier_invoice_reference = bill.number.clone();
    {
        let now = run.sim.now();
        let mut world = run.sim.world();
        world.qad.keyed_by_hand(record, now);
        world.qad.receipts[0].vouchered.0 = Decimal::TEN;
        world.qad.receipts.push(back(12));
    }
    look(&mut run, INVOICE);
    run.assert_stands(INVOICE, "exported", 1);
    look(&mut run, OTHER);
    run.assert_stands(OTHER, "exported", 1);
    look(&mut run, THIRD);
    assert_eq!(codes(&run, THIRD), ["CREDITED_OVER_BILLED"]);
}

/// Half a dollar of the price of ten is credited while ten of a return are open.
pub(crate) fn price_credited_beside_a_return() -> Option<String> {
    crate::guards::first_schedule(
        1,
        || {
            let bill = invoice(INVOICE, ORDER, 10);
            let mut credit = cancels(OTHER, &bill);
            credit.lines[0].price = Decimal::new(5, 1);
            let purpose = serde_json::json!("Price");
            credit.lines[0]
                .overrides
                .insert("adjustment-type".to_owned(), purpose);
            let mut setup = Setup::default();
            // Whatever the price is: what it takes is asked here.
            setup.settings.policy.tolerance.limits.price.over = Limit::percent(Decimal::ONE_HUNDRED);
            setup.settings.policy.tolerance.limits.price.under = Limit::percent(Decimal::ONE_HUNDRED);
            let mut run = billed(&setup, 10, vec![credit]);
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |run| {
            let codes = codes(run, OTHER);
            (codes != ["CREDIT_NOT_MAPPED"]).then(|| format!("a credit of a price: {codes:?}"))
        },
    )
}

#[test]
fn a_credit_of_a_price_leaves_the_return_to_the_credit_of_the_goods() {
    assert_eq!(price_credited_beside_a_return(), None);
}

#[test]
fn a_credit_note_takes_nothing_from_the_bill_that_replaced_what_was_cancelled() {
    let bill = invoice(INVOICE, ORDER, 10);
    let again = invoice(FOURTH, ORDER, 10);
    let mut run = Harness::new(
        ten(vec![cancels(OTHER, &bill), cancels(THIRD, &bill), again]),
        &Setup::default(),
    );
    for id in [INVOICE, OTHER, FOURTH, THIRD] {
        look(&mut run, id);
    }
    for id in [INVOICE, OTHER, FOURTH] {
        run.assert_stands(id, "exported", 1);
    }
    assert_eq!(codes(&run, THIRD), ["ORIGINAL_ALREADY_CANCELLED"]);
    assert_eq!(matched(&run), Decimal::TEN);
    // The first one is never undone; the second one's own word counts for nothing.
    run.recheck();
    assert_eq!(codes(&run, THIRD), ["ORIGINAL_ALREADY_CANCELLED"]);
}

#[test]
fn a_credit_note_that_was_voided_before_it_posted_leaves_the_invoice_to_another() {
    let bill = invoice(INVOICE, ORDER, 10);
    let mut run = Harness::new(
        ten(vec![cancels(OTHER, &bill), cancels(THIRD, &bill)]),
        &Setup::default(),
    );
    look(&mut run, INVOICE);
    leave_the_next_look_unanswered(&run);
    look(&mut run, OTHER);
    assert_eq!(run.standing(OTHER).0, "approved");
    look(&mut run, THIRD);
    assert_eq!(codes(&run, THIRD), ["ORIGINAL_ALREADY_CANCELLED"]);
    let now = run.sim.now();
    run.sim.world().coupa.void(OTHER.0, now).unwrap();
    look(&mut run, OTHER);
    run.heal();
    assert_eq!(run.standing(OTHER).0, "voided");
    run.recheck();
    run.assert_stands(THIRD, "exported", 1);
    assert_eq!(matched(&run), Decimal::ZERO);
}

/// An original that stands somewhere else than under the order lines of its credit note is known all the same.
#[test]
fn an_original_is_known_in_whatever_state_it_is() {
    let bill = invoice(INVOICE, ORDER, 10);
    let others = || {
        // Another bill's goods, half of which went back: what is not ours to take.
        let mut back = receipt(ORDER, "RT1", 10);
        back.quantity = sandbox::world::qad::Exact(Decimal::from(-10));
        vec![receipt(ORDER, "RC1", 10), back]
    };
    let run_of = |change: fn(&mut CoupaInvoice)| {
        let mut original = bill.clone();
        change(&mut original);
        let documents = vec![original.clone(), cancels(OTHER, &bill)];
        let mut begin = world(vec![order(ORDER, 20)], others(), documents);
        begin.qad.receipts[0].vouchered = sandbox::world::qad::Exact(Decimal::TEN);
        Harness::new(begin, &Setup::default())
    };

    // Coupa says that it is paid: a reason of the whole document.
    let mut run = run_of(|bill| bill.paid = true);
    look(&mut run, INVOICE);
    assert!(
        codes(&run, INVOICE).contains(&"PAID_ELSEWHERE".to_owned()),
        "{:?}",
        codes(&run, INVOICE)
    );
    look(&mut run, OTHER);
    assert_eq!(codes(&run, OTHER), ["ORIGINAL_NOT_POSTED"]);

    // Its approval was taken back.
    let mut run = run_of(|_| ());
    look(&mut run, INVOICE);
    assert_eq!(run.standing(INVOICE).0, "held");
    run.sim.world().coupa.invoices.get_mut(&INVOICE.0).unwrap().status = "pending_approval".to_owned();
    look(&mut run, INVOICE);
    assert_eq!(run.standing(INVOICE).0, "received");
    look(&mut run, OTHER);
    assert_eq!(codes(&run, OTHER), ["ORIGINAL_NOT_POSTED"]);

    // It was voided before anything was posted.
    let mut run = run_of(|bill| bill.status = "voided".to_owned());
    look(&mut run, INVOICE);
    assert_eq!(run.standing(INVOICE).0, "voided");
    look(&mut run, OTHER);
    assert_eq!(codes(&run, OTHER), ["ORIGINAL_NOT_IN_QAD"]);

    // It cannot be read any more.
    let mut run = run_of(|_| ());
    look(&mut run, INVOICE);
    let unreadable = serde_json::json!({ "code": 7 });
    let overrides = [("currency".to_owned(), unreadable)];
    run.sim
        .world()
        .coupa
        .invoices
        .get_mut(&INVOICE.0)
        .unwrap()
        .overrides = overrides.into_iter().collect();
    look(&mut run, INVOICE);
    assert_eq!(run.standing(INVOICE).0, "parked");
    look(&mut run, OTHER);
    assert_eq!(codes(&run, OTHER), ["ORIGINAL_NOT_POSTED"]);

    // Another supplier's bill of this number is none of it.
    let mut run = run_of(|bill| {
        bill.paid = true;
        bill.number = "INV-7001-A".to_owned();
    });
    look(&mut run, INVOICE);
    look(&mut run, OTHER);
    run.assert_stands(OTHER, "exported", 1);
}

#[test]
fn a_bill_that_was_entered_again_is_told_at_once_and_not_waited_for() {
    let mut again = invoice(OTHER, ORDER, 10);
    again.number = format!("INV-{INVOICE}");
    let begin = world(
        vec![order(ORDER, 20)],
        vec![receipt(ORDER, "RC1", 10)],
        vec![invoice(INVOICE, ORDER, 10), again],
    );
    let mut run = Harness::new(begin, &Setup::default());
    look(&mut run, INVOICE);
    look(&mut run, OTHER);
    // The one document of this number.
    run.assert_stands(OTHER, "parked", 1);
    assert_eq!(codes(&run, OTHER), ["DUPLICATE_REFERENCE", "RECEIPT_SHORT"]);
}

#[test]
fn numbers_that_begin_anew_each_year_are_a_persons_to_release_once() {
    let numbered = |id: InvoiceId, day: &str| {
        let mut bill = invoice(id, ORDER, 10);
        bill.number = "1001".to_owned();
        bill.invoice_date = day.parse().unwrap();
        bill
    };
    let begin = world(
        vec![order(ORDER, 30)],
        vec![
            receipt(ORDER, "RC1", 10),
            receipt(ORDER, "RC2", 10),
            receipt(ORDER, "RC3", 10),
        ],
        vec![
            numbered(INVOICE, "2025-01-10"),
            numbered(OTHER, "2026-01-12"),
            numbered(THIRD, "2026-01-12"),
        ],
    );
    let mut setup = Setup::default();
    setup.settings.policy.posting_date = PostingDate::InvoiceDate;
    let mut run = Harness::new(begin, &setup);
    let release = |run: &mut Harness, id: InvoiceId| {
        let desk = Desk::of(run);
        let why = Instruction::new("kim", "their numbers begin anew").unwrap();
        ready(operator::release(
            &desk.context(),
            id,
            why,
            &SecondPerson::default(),
            false,
        ))
        .unwrap();
        run.heal();
    };
    look(&mut run, INVOICE);
    look(&mut run, OTHER);
    assert_eq!(codes(&run, OTHER), ["DUPLICATE_REFERENCE_OTHER_YEAR"]);
    run.recheck();
    // Documents are counted by their number.
    run.assert_stands(OTHER, "parked", 1);
    release(&mut run, OTHER);
    run.assert_stands(OTHER, "exported", 2);
    look(&mut run, THIRD);
    release(&mut run, THIRD);
    run.assert_stands(THIRD, "parked", 2);
    assert_eq!(codes(&run, THIRD), ["DUPLICATE_REFERENCE"]);
}
