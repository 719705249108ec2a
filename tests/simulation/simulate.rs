//! Lives as many seeds as one likes: `cargo run -p tests --release --bin simulate -- --seeds 1000000 [--from 1]`.
//!
//! | argument | what it does |
//! |---|---|
//! | `--seeds <n>` | that many lives of the pure machines (default 200000; 0 for none) |
//! | `--days <n>` | that many days of about sixty invoices through the real flows (default 0) |
//! | `--whole <n>` | that many of the same days with payments, suppliers and lookup values in each (default 0) |
//! | `--from <seed>` | the first seed (default 1) |
//! | `--tell <seed>` | tells the story of one life of the machines |
//!
//! The first seed that breaks something is told with the shortest list of faults that was found and with its story, and
//! is kept as a file that every test run replays; the run fails. It also fails when an interesting path was never taken.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people at a terminal"
)]

use sandbox::scenario::day;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::Instant;
use tests::life::{self, Life, Lived};
use tests::machines::{self, marks::Marks};
use tests::seeds;

/// How many seeds between two looks at the clock.
const PROGRESS_SEEDS: u64 = 2_000;
/// Width of the progress bar, in characters.
const BAR_CHARACTERS: u64 = 30;
/// Fewer seeds than this need not take every path.
const MARKS_SEEDS_MIN: u64 = 20_000;
/// Fewer days than this need not either.
const MARKS_DAYS_MIN: u64 = 20;

#[expect(
    clippy::disallowed_methods,
    reason = "the speed of the simulator itself is measured"
)]
fn now() -> Instant {
    Instant::now()
}

fn number(arguments: &[String], name: &str, otherwise: u64) -> Result<u64, String> {
    let Some(place) = arguments.iter().position(|argument| argument == name) else {
        return Ok(otherwise);
    };
    arguments
        .get(place.saturating_add(1))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("{name} needs a whole number"))
}

/// One line that is drawn over again, or a line now and then where nobody watches.
struct Progress {
    what: &'static str,
    all: u64,
    began: Instant,
    told: u64,
}

impl Progress {
    fn new(what: &'static str, all: u64) -> Self {
        Self {
            what,
            all,
            began: now(),
            told: 0,
        }
    }

    fn per_second(&self, done: u64) -> u64 {
        let millis = self.began.elapsed().as_millis().max(1);
        let rate = u128::from(done).saturating_mul(1000).checked_div(millis);
        u64::try_from(rate.unwrap_or(0)).unwrap_or(u64::MAX)
    }

    fn show(&mut self, done: u64) {
        let parts = |whole: u64| {
            let part = done.saturating_mul(whole);
            part.checked_div(self.all.max(1)).unwrap_or(0)
        };
        let (filled, percent) = (parts(BAR_CHARACTERS), parts(100));
        let bar: String = (0..BAR_CHARACTERS)
            .map(|place| if place < filled { '#' } else { '.' })
            .collect();
        let line = format!(
            "[{bar}] {percent:>3} %  {done} of {} {}, {} a second",
            self.all,
            self.what,
            self.per_second(done)
        );
        if std::io::stderr().is_terminal() {
            eprint!("\r{line}\x1b[K");
            let _ = std::io::stderr().flush();
            if done >= self.all {
                eprintln!();
            }
        } else if percent >= self.told.saturating_add(10) || done >= self.all {
            self.told = percent;
            eprintln!("{line}");
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = (
        number(&arguments, "--seeds", 200_000),
        number(&arguments, "--days", 0),
        number(&arguments, "--from", 1),
        number(&arguments, "--tell", 0),
        number(&arguments, "--whole", 0),
    );
    let (Ok(seeds), Ok(days), Ok(from), Ok(tell), Ok(whole)) = asked else {
        for problem in [asked.0, asked.1, asked.2, asked.3, asked.4] {
            if let Err(what) = problem {
                eprintln!("{what}");
            }
        }
        return ExitCode::FAILURE;
    };
    if tell > 0 {
        let mut life = machines::Life::of(tell);
        life.told = true;
        let lived = machines::live(&life);
        for line in lived.story {
            println!("{line}");
        }
        println!("{:#?}", lived.violations);
        return ExitCode::SUCCESS;
    }
    let lived = live_machines(seeds, from)
        .and_then(|()| live_days(&DAYS, days, from))
        .and_then(|()| live_days(&WHOLE, whole, from));
    match lived {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::FAILURE
        }
    }
}

fn live_machines(seeds: u64, from: u64) -> Result<(), String> {
    let mut progress = Progress::new("lives of the machines", seeds);
    let (mut marks, mut steps, mut longest) = (Marks::default(), 0u64, 0i64);
    for (done, seed) in (1u64..).zip(from..from.saturating_add(seeds)) {
        let lived = machines::live(&machines::Life::of(seed));
        if !lived.violations.is_empty() {
            let kept = seeds::keep("machines", seed, &lived.violations.join("; "));
            return Err(format!("{}\n{kept}", seeds::story_of_machines(seed)));
        }
        marks.merge(&lived.marks);
        steps = steps.saturating_add(lived.steps);
        longest = longest.max(lived.rest_millis);
        if done.is_multiple_of(PROGRESS_SEEDS) || done == seeds {
            progress.show(done);
        }
    }
    if seeds == 0 {
        return Ok(());
    }
    println!(
        "{seeds} seeds from {from}: nothing broken, {steps} steps, {} seeds a second on one core, longest rest {} s",
        progress.per_second(seeds),
        longest.checked_div(1000).unwrap_or(0)
    );
    for (name, times) in marks.named() {
        println!("  {times:>12}  {name}");
    }
    let never = marks.never();
    if seeds >= MARKS_SEEDS_MIN && !never.is_empty() {
        return Err(format!("paths never taken: {never:?}"));
    }
    Ok(())
}

/// A kind of day.
struct Kind {
    word: &'static str,
    what: &'static str,
    live: fn(u64) -> Lived,
    story: fn(u64) -> String,
    marks: &'static [&'static str],
}

const DAYS: Kind = Kind {
    word: "day",
    what: "days of the flows",
    live: |seed| life::live(&Life::of(seed), &day(seed)),
    story: seeds::story_of_day,
    marks: &[],
};

const WHOLE: Kind = Kind {
    word: "whole",
    what: "whole days",
    live: |seed| life::live(&Life::whole(seed), &seeds::whole_day(seed)),
    story: seeds::story_of_whole,
    marks: &life::WHOLE_MARKS,
};

fn live_days(kind: &Kind, days: u64, from: u64) -> Result<(), String> {
    let mut progress = Progress::new(kind.what, days);
    let mut coverage: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut calls, mut longest) = (0u64, 0i64);
    for (done, seed) in (1u64..).zip(from..from.saturating_add(days)) {
        let lived = (kind.live)(seed);
        if !lived.violations.is_empty() {
            let kept = seeds::keep(kind.word, seed, &lived.violations.join("; "));
            return Err(format!("{}\n{kept}", (kind.story)(seed)));
        }
        calls = calls.saturating_add(lived.calls);
        longest = longest.max(lived.rest_millis);
        for (what, often) in lived.coverage {
            let sum = coverage.entry(what).or_default();
            *sum = sum.saturating_add(often);
        }
        progress.show(done);
    }
    if days == 0 {
        return Ok(());
    }
    println!(
        "{days} {} from {from}: nothing broken, {calls} port calls, {} a second on one core, longest rest {} s",
        kind.what,
        progress.per_second(days),
        longest.checked_div(1000).unwrap_or(0)
    );
    for (name, times) in &coverage {
        println!("  {times:>12}  {name}");
    }
    let never: Vec<&&str> = kind
        .marks
        .iter()
        .filter(|mark| !coverage.contains_key(**mark))
        .collect();
    if days >= MARKS_DAYS_MIN && !never.is_empty() {
        return Err(format!("paths never taken: {never:?}"));
    }
    Ok(())
}
