//! Each guard is taken away, in the product's own code, and something must break: the seed, or the schedule, that catches
//! it stands in `docs/reliability.md`, and this test fails when that table is not what it found. A guard whose absence
//! nobody notices would be decoration, or the simulation would be blind.

use crate::effect_machine::{Given, explore, is_fault};
use crate::{aligned_guards, companies, originals, owners, payments, preemptions};
use domain::guards::{Guard, without};
use domain::lifecycle::State;
use flows::ports::HintReason;
use rust_decimal::Decimal;
use sandbox::scenario::{Delivery, Scenario, Step};
use sandbox::world::qad::Exact;
use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use tests::fates::{Fault, Odds, Script};
use tests::gate::{Calm, Method};
use tests::harness::{Harness, Job, Setup, every_order};
use tests::life::{Life, live};
use tests::small::{
    INVOICE, ORDER, OTHER, invoice, order, receipt, straight_through, supplier, without_receipt, world,
};

/// Where the table stands.
const DOCUMENT: &str = "../docs/reliability.md";
/// What stands before and after it.
const MARKERS: (&str, &str) = ("<!-- guards: begin -->", "<!-- guards: end -->");

/// How a guard is taken away.
#[derive(Debug, Clone, Copy)]
enum Removed {
    /// By its switch in the product.
    Switch(Guard),
    /// The register heeds no condition any more.
    Conditions,
}

/// One row of the table.
struct Row {
    guard: &'static str,
    place: &'static str,
    removed: Removed,
    caught: Caught,
}

/// What catches its absence: the kind of run, and what breaks.
enum Caught {
    /// Every history of the write protocol, as it is shipped, in such a world.
    Protocol(Given),
    /// The flows, in a run of its own.
    Flows(fn() -> Option<String>),
}

fn rows() -> Vec<Row> {
    use Caught::{Flows, Protocol};
    use Guard::{
        ChangeShare, ClockSkew, CodeIsOurs, CodeReserved, CreditsWithinBilled, CursorsForward,
        EchoComparison, EmptyIsNotGone, FailedLookUpIsNoAnswer, Fence, IdentityClaim, IntentFirst,
        InvoiceCurrency, LeftAlone, LinkedOnce, LookAfterwards, LookUpBeforeFirstSend, NotBeforeReceipt,
        NotWhileInFlight, OlderReadingSaysNothing, OpenFirst, OwnBooks, OwnEcho, OwnerMark, PaidAfterPosted,
        PollersRight, PriceTakesNoReturn, QadSaysPaid, RecheckAfterRegister, RecordBeforeWake, Reservation,
        SendInsideLease, SettleWindow, UnknownIsUnknown, WatermarkLast,
    };
    let row = |guard, place, removed, caught| Row {
        guard,
        place,
        removed,
        caught,
    };
    let switch = Removed::Switch;
    let keyed = Given {
        keyed_by_hand: true,
        ..Given::usual()
    };
    vec![
        row(
            "settle window",
            "`domain::effect`",
            switch(SettleWindow),
            Protocol(Given::usual()),
        ),
        row(
            "intent before the first byte",
            "`domain::drive`",
            switch(IntentFirst),
            Protocol(Given::usual()),
        ),
        row(
            "fence on every outcome",
            "`domain::drive`",
            switch(Fence),
            Protocol(Given::usual()),
        ),
        row(
            "send inside the lease",
            "`domain::drive`",
            switch(SendInsideLease),
            Protocol(Given::usual()),
        ),
        row(
            "unknown is unknown (timeouts, 5xx)",
            "`domain::drive`",
            switch(UnknownIsUnknown),
            Protocol(Given::usual()),
        ),
        row(
            "a failed look-up is not empty",
            "`domain::drive`",
            switch(FailedLookUpIsNoAnswer),
            Protocol(Given::usual()),
        ),
        row(
            "look-up before the first send",
            "`domain::drive`",
            switch(LookUpBeforeFirstSend),
            Protocol(keyed),
        ),
        row(
            "allowance for clock skew",
            "`domain::effect`, `domain::timing`",
            switch(ClockSkew),
            Protocol(Given::usual()),
        ),
        row(
            "condition on every write",
            "the register",
            Removed::Conditions,
            Protocol(Given::usual()),
        ),
        row(
            "register, then look once more (hold)",
            "`flows::match_invoice`",
            switch(RecheckAfterRegister),
            Flows(held_while_polled),
        ),
        row(
            "record, then look who waits (poll)",
            "`flows::poll_receipts`",
            switch(RecordBeforeWake),
            Flows(held_while_polled),
        ),
        row(
            "watermark moves last",
            "`flows::feed`",
            switch(WatermarkLast),
            Flows(poll_dies_after_each_call),
        ),
        row(
            "only the latest poll records payments",
            "`flows::bills`",
            switch(PollersRight),
            Flows(payments::taken_back_between_two_polls),
        ),
        row(
            "paid only after posted",
            "`flows::write_payment`",
            switch(PaidAfterPosted),
            Flows(payments::paid_before_it_is_posted),
        ),
        row(
            "QAD says when a bill is paid",
            "`domain::payments`",
            switch(QadSaysPaid),
            Flows(payments::closed_by_a_write_off),
        ),
        row(
            "paid is shown in the invoice's currency",
            "`domain::payments`",
            switch(InvoiceCurrency),
            Flows(payments::paid_in_another_currency),
        ),
        row(
            "one owner per QAD identity",
            "`flows::match_invoice`",
            switch(IdentityClaim),
            Flows(two_with_one_number),
        ),
        row(
            "receipts are spoken for",
            "`flows::match_invoice`",
            switch(Reservation),
            Flows(two_for_one_receipt),
        ),
        row(
            "credits of an invoice are at most what it has billed",
            "`domain::matching`",
            switch(CreditsWithinBilled),
            Flows(originals::credited_in_part_and_as_a_whole),
        ),
        row(
            "a credit of a price takes no return",
            "`domain::matching`",
            switch(PriceTakesNoReturn),
            Flows(originals::price_credited_beside_a_return),
        ),
        row(
            "nothing is dated before its receipt",
            "`domain::matching`",
            switch(NotBeforeReceipt),
            Flows(received_after_the_bill),
        ),
        row(
            "an invoice is in its own entity's books",
            "`flows::match_invoice`",
            switch(OwnBooks),
            Flows(companies::of_the_other_company),
        ),
        row(
            "another ERP's invoice is left alone",
            "`flows::match_invoice`",
            switch(LeftAlone),
            Flows(companies::of_no_entity),
        ),
        row(
            "not voided while in flight",
            "`domain::lifecycle`",
            switch(NotWhileInFlight),
            Flows(voided_in_flight),
        ),
        row(
            "Coupa is asked afterwards",
            "`flows::match_invoice`",
            switch(LookAfterwards),
            Flows(voided_at_any_moment),
        ),
        row(
            "what is found is compared with what was asked",
            "`flows::invoice_effects`",
            switch(EchoComparison),
            Flows(found_different),
        ),
        row(
            "a reserved code is given to nobody else",
            "`flows::sync_suppliers`",
            switch(CodeReserved),
            Flows(aligned_guards::next_while_open),
        ),
        row(
            "a supplier is linked once, on both sides at once",
            "`flows::sync_suppliers`",
            switch(LinkedOnce),
            Flows(aligned_guards::numbered_by_hand),
        ),
        row(
            "what has the code is the supplier that was meant",
            "`flows::sync_suppliers`",
            switch(CodeIsOurs),
            Flows(aligned_guards::code_keyed_for_another),
        ),
        row(
            "an older reading says nothing (suppliers)",
            "`flows::sync_suppliers`",
            switch(OlderReadingSaysNothing),
            Flows(aligned_guards::read_before_another_wrote),
        ),
        row(
            "an older reading says nothing (lookups)",
            "`flows::sync_lookups`",
            switch(OlderReadingSaysNothing),
            Flows(aligned_guards::listed_before_another_wrote),
        ),
        row(
            "our own echo is no news",
            "`flows::sync_suppliers`",
            switch(OwnEcho),
            Flows(aligned_guards::filled_in_for_coupa),
        ),
        row(
            "cursors only forward",
            "`flows::sync_suppliers`",
            switch(CursorsForward),
            Flows(aligned_guards::slower_run_ends_last),
        ),
        row(
            "cursors move last",
            "`flows::sync_suppliers`",
            switch(WatermarkLast),
            Flows(aligned_guards::dies_after_each_call),
        ),
        row(
            "a change beyond its share waits",
            "`flows::sync_lookups`",
            switch(ChangeShare),
            Flows(aligned_guards::many_at_once),
        ),
        row(
            "an empty list changes nothing, and is told",
            "`flows::sync_lookups`",
            switch(EmptyIsNotGone),
            Flows(aligned_guards::empty_list),
        ),
        row(
            "what is open is finished first",
            "`flows::sync_lookups`",
            switch(OpenFirst),
            Flows(aligned_guards::gone_while_open),
        ),
        row(
            "one installation works with a pair of systems",
            "`flows::pause`",
            switch(OwnerMark),
            Flows(owners::without_the_mark),
        ),
    ]
}

#[test]
fn every_guard_has_a_row() {
    for guard in Guard::ALL {
        let found = rows()
            .iter()
            .any(|row| matches!(row.removed, Removed::Switch(one) if one == guard));
        assert!(found, "{guard:?} has no row: nobody would notice its absence");
    }
}

/// The switch is in no build but that of the tests.
#[test]
fn nobody_but_the_tests_can_take_a_guard_away() {
    let mut asked = 0;
    for place in ["functions", "shared", "tools"] {
        for entry in std::fs::read_dir(format!("../{place}")).unwrap() {
            let manifest = entry.unwrap().path().join("Cargo.toml");
            let Ok(text) = std::fs::read_to_string(&manifest) else {
                continue;
            };
            let uses = text
                .lines()
                .any(|line| line.contains("removable-guards") && !line.contains("= []"));
            assert!(!uses, "{} switches it on", manifest.display());
            asked += 1;
        }
    }
    assert!(asked > 10, "{asked}");
}

#[test]
fn every_guard_taken_away_is_noticed_and_the_document_says_how() {
    let mut table = String::from(
        "| guard | stands in | taken away, it is caught by | what breaks |\n|---|---|---|---|\n",
    );
    let mut unnoticed = Vec::new();
    for row in rows() {
        let caught = match &row.caught {
            Caught::Protocol(given) => second_document(row.removed, *given),
            Caught::Flows(run) => taken_away(row.removed, *run).map(|what| {
                let (by, what) = what.split_once(": ").unwrap_or(("", &what));
                (by.to_owned(), what.to_owned())
            }),
        };
        let Some((by, what)) = caught else {
            unnoticed.push(row.guard);
            continue;
        };
        println!("without {}: {by}: {what}", row.guard);
        let _ = writeln!(table, "| {} | {} | {by} | {what} |", row.guard, row.place);
    }
    assert_eq!(
        unnoticed,
        Vec::<&str>::new(),
        "nobody notices that these are gone"
    );
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (_, rest) = document.split_once(MARKERS.0).unwrap();
    let (there, _) = rest.split_once(MARKERS.1).unwrap();
    assert_eq!(
        there.trim(),
        table.trim(),
        "docs/reliability.md does not say what was found; put this between its markers:\n{table}"
    );
}

/// With the guard, nothing of the kind.
#[test]
fn with_every_guard_the_runs_of_polls_and_payments_break_nothing() {
    for run in [poll_dies_after_each_call, payments::paid_before_it_is_posted] {
        assert_eq!(run(), None);
    }
}

fn taken_away<T>(removed: Removed, run: impl FnOnce() -> T) -> T {
    match removed {
        Removed::Switch(guard) => without(guard, run),
        Removed::Conditions => run(),
    }
}

/// The shortest history of the write protocol to a second document without the guard, and what went wrong in it.
fn second_document(removed: Removed, given: Given) -> Option<(String, String)> {
    let given = Given {
        conditions: !matches!(removed, Removed::Conditions),
        ..given
    };
    let history = taken_away(removed, || explore(given)).two_documents?;
    println!("{history:#?}");
    let faults = history.iter().filter(|what| is_fault(what));
    let faults: Vec<&str> = faults.map(String::as_str).collect();
    let faults = match faults.as_slice() {
        [] => "nothing else goes wrong".to_owned(),
        some => some.join(", "),
    };
    Some((
        format!("the protocol, {} steps", history.len()),
        format!("S1 QAD has a second document: {faults}"),
    ))
}

// ---------------------------------------------------------------------------------------------------------------
// The flows
// ---------------------------------------------------------------------------------------------------------------

/// The first schedule that breaks something, and what.
pub(crate) fn first_schedule(
    switches: usize,
    begin: impl Fn() -> Harness,
    judge: impl Fn(&mut Harness) -> Option<String>,
) -> Option<String> {
    let number = Cell::new(0u64);
    let found = RefCell::new(None);
    every_order(
        switches,
        || {
            if found.borrow().is_some() {
                // A run without tasks has no other schedule: the search is over.
                return Harness::new(world(Vec::new(), Vec::new(), Vec::new()), &Setup::default())
                    .collecting();
            }
            begin().collecting()
        },
        |mut run| {
            number.set(number.get() + 1);
            if found.borrow().is_some() {
                return;
            }
            run.heal();
            let broken = run.violations().first().cloned().or_else(|| judge(&mut run));
            let first_line = |what: String| what.lines().next().unwrap_or_default().to_owned();
            *found.borrow_mut() =
                broken.map(|what| format!("flows, schedule {}: {}", number.get(), first_line(what)));
        },
    );
    found.into_inner()
}

fn two_with_one_number() -> Option<String> {
    first_schedule(
        1,
        || {
            let first = invoice(INVOICE, ORDER, 10);
            let mut second = invoice(OTHER, ORDER, 10);
            second.number = first.number.to_lowercase();
            let receipts = vec![receipt(ORDER, "RC1", 10), receipt(ORDER, "RC2", 10)];
            let run_world = world(vec![order(ORDER, 20)], receipts, vec![first, second]);
            let mut run = Harness::new(run_world, &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |_| None,
    )
}

/// The goods of a bill come a while after its date.
fn received_after_the_bill() -> Option<String> {
    first_schedule(1, straight, |_| None)
}

fn two_for_one_receipt() -> Option<String> {
    first_schedule(
        1,
        || {
            let both = vec![invoice(INVOICE, ORDER, 10), invoice(OTHER, ORDER, 10)];
            let ten_of_twenty = world(vec![order(ORDER, 20)], vec![receipt(ORDER, "RC1", 10)], both);
            let mut run = Harness::new(ten_of_twenty, &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |run| {
            let refused = run.sim.shared().coverage.contains_key("create refused");
            refused.then(|| "S7 QAD was asked for more than it had received".to_owned())
        },
    )
}

/// The invoice is being held, its receipt is posted, and the poll comes: all at once.
fn held_while_polled() -> Option<String> {
    first_schedule(
        preemptions(3),
        || {
            let mut run = Harness::new(without_receipt(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("the receipt is posted", |world, _| {
                world.qad.post_receipt(receipt(ORDER, "RC1", 10)).unwrap();
            });
            run.spawn(Job::PollReceipts);
            run
        },
        |run| {
            let held = run.standing(INVOICE).0 == "held";
            held.then(|| "S13 the receipt is there, and the invoice is still held".to_owned())
        },
    )
}

fn voided_at_any_moment() -> Option<String> {
    first_schedule(
        preemptions(2),
        || {
            let mut run = Harness::new(straight_through(), &Setup::default());
            run.sim.shared().mute = true;
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn_step("voided", |world, now| world.coupa.void(INVOICE.0, now).unwrap());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |run| {
            let standing = run.standing(INVOICE).0;
            let ignored = run.documents(INVOICE) == 1 && standing == "exported";
            ignored.then(|| "voided in Coupa after it was posted, and nobody is told".to_owned())
        },
    )
}

/// A receipt is posted, and the poll that is to record it dies after one of its calls.
fn poll_dies_after_each_call() -> Option<String> {
    const CALLS: u64 = 12;
    (1..=CALLS).find_map(|call| {
        let mut run = Harness::new(without_receipt(), &Setup::default()).collecting();
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        let new = receipt(ORDER, "RC1", 10);
        run.sim.world().qad.post_receipt(new).unwrap();
        let done = run.sim.shared().calls;
        run.fate(Script {
            faults: vec![(done + call, Fault::CrashAfter)],
            ..Script::default()
        });
        run.run(Job::PollReceipts);
        run.heal();
        let held = run.standing(INVOICE).0 == "held";
        let held =
            held.then(|| "S12 the watermark is past a receipt that still holds its invoice".to_owned());
        let broken = run.violations().first().cloned().or(held);
        broken.map(|what| format!("flows, death after call {call} of the poll: {what}"))
    })
}

/// The place of a method among the calls of a run.
pub(crate) fn call_of(begin: impl Fn() -> Harness, method: Method) -> u64 {
    let called = Arc::new(Mutex::new(Vec::new()));
    let mut run = begin();
    run.fate(Script {
        called: called.clone(),
        ..Script::default()
    });
    run.run_all();
    let place = called.lock().unwrap().iter().position(|one| *one == method);
    u64::try_from(place.unwrap()).unwrap() + 1
}

pub(crate) fn straight() -> Harness {
    let mut run = Harness::new(straight_through(), &Setup::default());
    run.spawn(Job::Match(INVOICE, HintReason::Webhook));
    run
}

/// The answer to the create is lost, and the invoice is voided before anybody can know.
fn voided_in_flight() -> Option<String> {
    let create = call_of(straight, Method::CreateInvoice);
    let mut run = straight().collecting();
    run.fate(Script {
        faults: vec![(create, Fault::LostAfter)],
        ..Script::default()
    });
    run.run_all();
    run.fate(Calm);
    let now = run.sim.now();
    run.sim.world().coupa.void(INVOICE.0, now).unwrap();
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.heal();
    let voided = matches!(run.record(INVOICE)?.state, State::Voided { .. });
    (voided && run.documents(INVOICE) == 1)
        .then(|| format!("flows, answer of call {create} lost: voided, and its document stands in QAD"))
}

/// The answer to the create is lost, and what stands in QAD by the time of the look-up is another amount.
fn found_different() -> Option<String> {
    let create = call_of(straight, Method::CreateInvoice);
    let mut run = straight().collecting();
    run.fate(Script {
        faults: vec![(create, Fault::LostAfter)],
        ..Script::default()
    });
    run.run_all();
    run.fate(Calm);
    for document in &mut run.sim.world().qad.invoices {
        document.record.total_amount = Exact(Decimal::ONE);
    }
    run.heal();
    (run.standing(INVOICE).0 == "exported")
        .then(|| format!("flows, answer of call {create} lost: exported, and QAD has another amount"))
}

// ---------------------------------------------------------------------------------------------------------------
// The clocks, which no code can guard
// ---------------------------------------------------------------------------------------------------------------

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
        coupa_orders: Vec::new(),
        steps: vec![send(INVOICE, 3), send(OTHER, 2)],
        expected: Vec::new(),
    }]
}

/// Answers lost and late, workers that stop for minutes.
fn small_life(seed: u64) -> Life {
    let late_millis = Setup::default().timing.commit_lateness_millis;
    Life {
        odds: Odds {
            stall: 40,
            crash: 20,
            late: 300,
            read_lost: 150,
            hint_millis: 0,
            ..Odds::heavy(late_millis)
        },
        chaos_millis: 3_000_000,
        ..Life::of(seed)
    }
}

#[test]
fn the_flows_under_the_same_faults_make_no_second_document() {
    for seed in 1..=60 {
        let lived = live(&small_life(seed), &small_day());
        assert!(
            lived.violations.is_empty(),
            "seed {seed}: {:#?}",
            lived.violations
        );
    }
}

/// The assumption about the clocks is one: when it does not hold there is a second document, and it is detected.
#[test]
fn with_clocks_wrong_by_minutes_there_is_a_second_document() {
    let day = small_day();
    let seed = (1..=4_000).find(|seed| {
        let mut life = small_life(*seed);
        life.skew_millis = 240_000;
        live(&life, &day)
            .violations
            .iter()
            .any(|what| what.starts_with("S1 "))
    });
    println!("clocks wrong by minutes: a second document at seed {seed:?}");
    assert!(seed.is_some());
}

/// The flows go through the same lines: what the protocol does without a guard, they do.
#[test]
fn the_flows_without_a_guard_of_the_protocol_break_too() {
    let day = small_day();
    for guard in [
        Guard::SettleWindow,
        Guard::IntentFirst,
        Guard::Fence,
        Guard::SendInsideLease,
        Guard::UnknownIsUnknown,
        Guard::FailedLookUpIsNoAnswer,
    ] {
        let seed = without(guard, || {
            (1..=4_000).find(|seed| !live(&small_life(*seed), &day).violations.is_empty())
        });
        println!("the flows without {guard:?}: broken at seed {seed:?}");
        assert!(seed.is_some(), "without {guard:?} nothing went wrong");
    }
}
