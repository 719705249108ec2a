//! Days of fifty invoices under the full load of faults.

use sandbox::scenario::day;
use tests::life::{DAY_MARKS, Life, live, live_all};

/// Days in an ordinary test run; `simulate` lives as many as one likes.
const DAYS: u64 = 12;

#[test]
fn every_invoice_of_a_chaotic_day_ends_where_its_data_say() {
    live_all((1..=DAYS).map(|seed| (Life::of(seed), day(seed))), &DAY_MARKS);
}

#[test]
fn a_day_replayed_from_its_list_of_faults_is_the_same_day() {
    let mut life = Life::of(3);
    life.traced = true;
    let lived = live(&life, &day(3));
    assert!(lived.faults.len() > 20, "{}", lived.faults.len());
    life.listed = Some(lived.faults.clone());
    assert!(
        live(&life, &day(3)).trace == lived.trace,
        "the list is not the whole of it"
    );
}

#[test]
fn the_same_seed_is_the_same_story_to_the_letter() {
    let mut life = Life::of(7);
    life.traced = true;
    let [one, two] = [live(&life, &day(7)), live(&life, &day(7))];
    assert!(one.trace.len() > 100_000, "{}", one.trace.len());
    assert!(one.trace == two.trace, "two runs of one seed differ");
    life.seed = 8;
    assert!(
        live(&life, &day(7)).trace != one.trace,
        "another seed is another story"
    );
}
