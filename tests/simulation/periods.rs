//! Books that are closed when an invoice comes: it waits, and is sent again when something has changed there, never before.

use domain::ids::EntityCode;
use domain::instruction::Instruction;
use domain::time::Date;
use flows::opening;
use flows::ports::HintReason;
use sandbox::world::World;
use tests::gate::ready;
use tests::harness::{Harness, Job, Setup};
use tests::small::{INVOICE, straight_through};

use crate::instructions::Desk;

/// March, in which the invoice is posted, is closed.
fn march_is_closed() -> World {
    let mut world = straight_through();
    world.qad.lists_periods = false;
    world.qad.closed_periods.insert("2026-03".to_owned());
    world
}

fn begun() -> Harness {
    let mut setup = Setup::default();
    setup.settings.outcomes = flows::ports::Outcomes::History;
    let mut run = Harness::new(march_is_closed(), &setup);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run
}

fn creates(run: &Harness) -> usize {
    let trail = run.trail(INVOICE);
    trail.iter().filter(|step| *step == "creating intended").count()
}

fn open_from(run: &Harness, day: &str) {
    let desk = Desk::of(run);
    let entity: EntityCode = sandbox::world::qad::ENTITY.parse().unwrap();
    let day: Date = day.parse().unwrap();
    let why = Instruction::new("ann", "the month is closed").unwrap();
    ready(opening::say(&desk.context(), &entity, day, why)).unwrap();
}

#[test]
fn an_invoice_that_meets_closed_books_is_held_told_once_and_not_sent_daily() {
    let mut run = begun();
    assert_eq!(
        run.standing(INVOICE),
        ("held".to_owned(), vec!["PERIOD_CLOSED".to_owned()])
    );
    let told = domain::explain::sentence(&run.record(INVOICE).unwrap());
    assert!(
        told.contains("open books of 10USACO on 2026-03-20")
            && told.contains("from when on the books are open"),
        "{told}"
    );
    let trail = run.trail(INVOICE);
    let notes = run.sim.world().coupa.history.len();
    for _ in 0..3 {
        run.recheck();
    }
    // Coupa says something, too.
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.trail(INVOICE), trail);
    assert_eq!(run.sim.world().coupa.history.len(), notes);
    assert_eq!(creates(&run), 1);
    run.assert_stands(INVOICE, "held", 0);
}

#[test]
fn a_later_first_open_day_posts_it_on_that_day() {
    let mut run = begun();
    open_from(&run, "2026-04-01");
    run.recheck();
    run.assert_stands(INVOICE, "exported", 1);
    let posted = run.sim.world().qad.invoices[0].record.posting_date.clone();
    assert!(posted.starts_with("2026-04-01"), "{posted}");
}

#[test]
fn a_period_that_was_opened_once_more_is_tried_again_when_somebody_says_so() {
    let mut run = begun();
    run.sim.world().qad.closed_periods.clear();
    run.recheck();
    run.assert_stands(INVOICE, "held", 0);
    open_from(&run, "2026-03-01");
    run.recheck();
    run.assert_stands(INVOICE, "exported", 1);
    let posted = run.sim.world().qad.invoices[0].record.posting_date.clone();
    assert!(posted.starts_with("2026-03-20"), "{posted}");
}

#[test]
fn a_person_who_rechecks_sends_it_again_and_a_second_refusal_holds_it_again() {
    let mut run = begun();
    run.run(Job::Match(INVOICE, HintReason::Operator));
    run.assert_stands(INVOICE, "held", 0);
    assert_eq!(creates(&run), 2);
    run.recheck();
    assert_eq!(creates(&run), 2);
    run.sim.world().qad.closed_periods.clear();
    run.run(Job::Match(INVOICE, HintReason::Operator));
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn a_list_of_periods_that_shows_the_month_open_sends_it_again_once() {
    let mut run = begun();
    run.sim.world().qad.lists_periods = true;
    run.recheck();
    run.assert_stands(INVOICE, "held", 0);
    assert_eq!(creates(&run), 1);
    run.sim.world().qad.closed_periods.clear();
    run.recheck();
    run.assert_stands(INVOICE, "exported", 1);
}

#[test]
fn a_word_about_another_entity_changes_nothing() {
    let mut run = begun();
    let desk = Desk::of(&run);
    let other: EntityCode = "20GERCO".parse().unwrap();
    let why = Instruction::new("ann", "the month is closed").unwrap();
    let day: Date = "2026-04-01".parse().unwrap();
    ready(opening::say(&desk.context(), &other, day, why)).unwrap();
    run.recheck();
    run.assert_stands(INVOICE, "held", 0);
    assert_eq!(creates(&run), 1);
}

#[test]
fn every_single_fault_around_closed_books_ends_with_one_document_or_none() {
    crate::every_single_fault(
        || {
            let mut run = Harness::new(march_is_closed(), &Setup::default());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |run| {
            let held = run.standing(INVOICE).0 == "held" && run.documents(INVOICE) == 0;
            assert!(held, "{:?}", run.standing(INVOICE));
        },
    );
}
