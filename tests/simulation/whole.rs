//! Whole lives: invoices, payments, suppliers and lookup values at once, under the full load of faults.

use sandbox::scenario::{Scenario, day, supplier_stories};
use std::collections::BTreeMap;
use tests::life::{Life, live};

/// Lives in an ordinary test run; `simulate --whole` lives as many as one likes.
const LIVES: u64 = if cfg!(debug_assertions) { 4 } else { 24 };

/// What happens to invoices in the life of a seed.
fn stories(seed: u64) -> Vec<Scenario> {
    tests::seeds::whole_day(seed)
}

#[test]
fn everything_at_once_ends_where_its_data_say() {
    assert!(stories(1).len() > day(1).len() || supplier_stories().is_empty());
    let mut coverage: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 1..=LIVES {
        let life = Life::whole(seed);
        let lived = live(&life, &stories(seed));
        assert!(
            lived.violations.is_empty(),
            "seed {seed} with {:?}: {:#?}",
            life.odds,
            lived.violations
        );
        println!("seed {seed} {} calls rest {}", lived.calls, lived.rest_millis);
        for (what, often) in lived.coverage {
            *coverage.entry(what).or_default() += often;
        }
    }
    println!("{coverage:?}");
    let never: Vec<&str> = tests::life::WHOLE_MARKS
        .into_iter()
        .filter(|what| !coverage.contains_key(what))
        .collect();
    assert!(never.is_empty(), "paths never taken: {never:?}");
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
