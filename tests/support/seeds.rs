//! Seeds that once broke something: kept as files beside the tests, replayed by every test run, told in plain words.
//!
//! A file is lines of text: `#` begins a comment, every other line is a kind of life and a seed (`machines 4711`,
//! `day 19`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that misses what it put there must fail loudly"
)]

use crate::fates::Happened;
use crate::life::{self, Life};
use crate::machines::{self, faults::Listed, shrink};
use sandbox::scenario::{Scenario, day, supplier_stories};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Most lines of a day that are told.
const LINES_MAX: usize = 120;
/// Most lives that are lived again to find a shorter list of faults.
const MACHINE_RUNS_MAX: u32 = 2_000;
/// Most days that are lived again for that.
const DAY_RUNS_MAX: u32 = 150;

/// Where the files are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("simulation/seeds")
}

/// Every kind and seed that is kept.
pub fn kept() -> Vec<(String, u64)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seed"))
        .collect();
    files.sort();
    let mut kept = Vec::new();
    for file in files {
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line
                .split_once(' ')
                .and_then(|(kind, seed)| Some((kind.to_owned(), seed.parse().ok()?)));
            match parsed {
                Some(entry) => kept.push(entry),
                None => panic!("{}: {line:?} is no kind and seed", file.display()),
            }
        }
    }
    kept
}

/// Keeps a seed for ever; the answer says where, or why not.
pub fn keep(kind: &str, seed: u64, why: &str) -> String {
    let file = directory().join(format!("{kind}-{seed}.seed"));
    let why: String = why
        .chars()
        .take(200)
        .map(|c| if c == '\n' { ' ' } else { c })
        .collect();
    match std::fs::write(&file, format!("# {why}\n{kind} {seed}\n")) {
        Ok(()) => format!("kept as {}", file.display()),
        Err(error) => format!("not kept: {error}"),
    }
}

/// What a kept seed breaks today; empty when nothing.
pub fn violations(kind: &str, seed: u64) -> Vec<String> {
    match kind {
        "machines" => machines::live(&machines::Life::of(seed)).violations,
        "day" => life::live(&Life::of(seed), &day(seed)).violations,
        "whole" => life::live(&Life::whole(seed), &whole_day(seed)).violations,
        other => vec![format!("no such kind of life: {other}")],
    }
}

/// A life of the machines that breaks something: the seed, the shortest list of faults found, the story with only those.
pub fn story_of_machines(seed: u64) -> String {
    story_of_life(&machines::Life::of(seed))
}

/// The same for any life.
pub fn story_of_life(life: &machines::Life) -> String {
    let lived = machines::live(life);
    let kind = |violations: &[String]| {
        violations
            .first()
            .map(|what| what.chars().take(3).collect::<String>())
    };
    let broken = kind(&lived.violations);
    let breaks =
        |faults: &[Listed]| kind(&machines::live(&life.listed(faults.to_vec())).violations) == broken;
    let shortest = if broken.is_some() && breaks(&lived.faults) {
        shrink::shortest(&lived.faults, MACHINE_RUNS_MAX, breaks)
    } else {
        lived.faults.clone()
    };
    let told = machines::live(&life.listed(shortest.clone()));
    let mut text = format!("seed {} breaks: {}\n", life.seed, lived.violations.join("; "));
    let _ = writeln!(
        text,
        "{} of its {} faults are enough:",
        shortest.len(),
        lived.faults.len()
    );
    for ((worker, step), fault) in &shortest {
        let _ = writeln!(text, "  worker {worker}, step {step}: {fault:?}");
    }
    let _ = writeln!(text, "what happens with those:");
    for line in &told.story {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// What happens to invoices in a whole life. The supplier of one of them is only approved during the day; where codes count
/// up its order cannot know the code, so that story is told where they do not.
pub fn whole_day(seed: u64) -> Vec<Scenario> {
    let by_id = matches!(
        crate::people::supplier_policy(seed).numbering,
        domain::suppliers::Numbering::CoupaId { .. }
    );
    let mut scenarios = day(seed);
    let is_told = |scenario: &Scenario| by_id || scenario.invoices.is_empty();
    scenarios.extend(supplier_stories().into_iter().filter(is_told));
    scenarios
}

/// A day of the flows that breaks something: the shortest list of faults found, and the end of the story with those.
pub fn story_of_day(seed: u64) -> String {
    story_of(seed, &Life::of(seed), &day(seed))
}

/// The same for a whole life.
pub fn story_of_whole(seed: u64) -> String {
    story_of(seed, &Life::whole(seed), &whole_day(seed))
}

fn story_of(seed: u64, life: &Life, scenarios: &[Scenario]) -> String {
    let listed = |faults: &[Happened]| Life {
        listed: Some(faults.to_vec()),
        ..life.clone()
    };
    let breaks = |faults: &[Happened]| !life::live(&listed(faults), scenarios).violations.is_empty();
    let whole = life::live(life, scenarios);
    let shortest = shrink::shortest(&whole.faults, DAY_RUNS_MAX, breaks);
    let life = Life {
        traced: true,
        ..listed(&shortest)
    };
    let lived = life::live(&life, scenarios);
    let lines: Vec<&str> = lived.trace.lines().collect();
    let first_broken = lines
        .iter()
        .position(|line| line.contains("!!!"))
        .unwrap_or(lines.len());
    let from = first_broken.saturating_sub(LINES_MAX);
    let told = lines
        .get(from..=first_broken.min(lines.len().saturating_sub(1)))
        .unwrap_or_default();
    format!(
        "day {seed} with {:?} breaks: {:#?}\n{} of its {} faults are enough:\n{shortest:#?}\n{:#?}\n{}",
        life.odds,
        whole.violations,
        shortest.len(),
        whole.faults.len(),
        lived.violations,
        told.join("\n")
    )
}
