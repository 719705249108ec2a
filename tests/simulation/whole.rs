//! Whole lives: invoices, payments, suppliers and lookup values at once, under the full load of faults.

use sandbox::scenario::{Scenario, day, supplier_stories};
use tests::life::{Life, WHOLE_MARKS, live, live_all};

/// Lives in an ordinary test run; `simulate --whole` lives as many as one likes.
const LIVES: u64 = if cfg!(debug_assertions) { 4 } else { 24 };

/// What happens to invoices in the life of a seed.
fn stories(seed: u64) -> Vec<Scenario> {
    tests::seeds::whole_day(seed)
}

#[test]
fn everything_at_once_ends_where_its_data_say() {
    assert!(stories(1).len() > day(1).len() || supplier_stories().is_empty());
    live_all(
        (1..=LIVES).map(|seed| (Life::whole(seed), stories(seed))),
        &WHOLE_MARKS,
    );
}

#[test]
fn the_same_whole_life_is_the_same_story_to_the_letter() {
    let mut life = Life::whole(5);
    life.traced = true;
    let day: Vec<Scenario> = stories(5).into_iter().step_by(4).collect();
    let [one, two] = [live(&life, &day), live(&life, &day)];
    assert!(one.trace.len() > 100_000, "{}", one.trace.len());
    assert!(one.trace == two.trace, "two runs of one seed differ");
}
