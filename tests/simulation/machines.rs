//! The pure machines in thousands of lives.

use crate::preemptions;
use tests::machines::marks::Marks;
use tests::machines::{Life, REST_MILLIS_MAX, live};
use tests::seeds;

/// Lives in an ordinary test run; `simulate` lives as many as one likes.
fn lives() -> u64 {
    if preemptions(2) == 2 { 60_000 } else { 3_000 }
}

#[test]
fn no_life_of_the_machines_breaks_anything_and_every_path_is_taken() {
    let (mut marks, mut steps, mut longest) = (Marks::default(), 0, 0);
    for seed in 1..=lives() {
        let lived = live(&Life::of(seed));
        assert!(lived.violations.is_empty(), "{}", seeds::story_of_machines(seed));
        marks.merge(&lived.marks);
        steps += lived.steps;
        longest = longest.max(lived.rest_millis);
    }
    println!("{} lives, {steps} steps, longest rest {longest} ms", lives());
    for (name, times) in marks.named() {
        println!("{times:>9} {name}");
    }
    assert!(longest <= REST_MILLIS_MAX, "{longest}");
    assert_eq!(
        marks.never(),
        Vec::<&str>::new(),
        "paths never taken prove nothing"
    );
}

#[test]
fn the_same_seed_is_the_same_life_to_the_letter() {
    let told = |seed| {
        let mut life = Life::of(seed);
        life.told = true;
        live(&life).story.join("\n")
    };
    for seed in 1..=50 {
        assert_eq!(told(seed), told(seed), "seed {seed}");
    }
    assert_ne!(told(1), told(2));
}

#[test]
fn a_life_replayed_from_its_list_of_faults_is_the_same_life() {
    for seed in 1..=50 {
        let mut life = Life::of(seed);
        life.told = true;
        let lived = live(&life);
        let again = live(&life.listed(lived.faults.clone()));
        assert_eq!(lived.story, again.story, "seed {seed}");
    }
}

#[test]
fn every_kept_seed_holds_today() {
    let kept = seeds::kept();
    assert!(!kept.is_empty());
    for (kind, seed) in kept {
        let violations = seeds::violations(&kind, seed);
        assert!(violations.is_empty(), "{kind} {seed}: {violations:#?}");
    }
}
