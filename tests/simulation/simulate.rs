//! Lives as many seeded days as one likes: `cargo run -p tests --release --bin simulate -- --seeds 1000 [--from 1]`.
//!
//! Each seed is a day of about fifty invoices under faults. The first seed that breaks something is told with its whole
//! story, and the run fails.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people at a terminal"
)]

use sandbox::scenario::day;
use std::collections::BTreeMap;
use std::process::ExitCode;
use tests::life::{Life, live};

/// How many seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 100;

#[expect(
    clippy::disallowed_methods,
    reason = "the speed of the simulator itself is measured"
)]
fn seconds() -> std::time::Instant {
    std::time::Instant::now()
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

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (seeds, from) = match (
        number(&arguments, "--seeds", 200),
        number(&arguments, "--from", 1),
    ) {
        (Ok(seeds), Ok(from)) => (seeds, from),
        (Err(what), _) | (_, Err(what)) => {
            eprintln!("{what}");
            return ExitCode::FAILURE;
        }
    };
    let began = seconds();
    let mut coverage: BTreeMap<&'static str, u64> = BTreeMap::new();
    let (mut calls, mut longest) = (0u64, 0i64);
    for (lived_seeds, seed) in (1u64..).zip(from..from.saturating_add(seeds)) {
        let life = Life::of(seed);
        let lived = live(&life, &day(seed));
        if !lived.violations.is_empty() {
            let traced = live(
                &Life {
                    traced: true,
                    ..life.clone()
                },
                &day(seed),
            );
            println!("{}", traced.trace);
            eprintln!("seed {seed} with {:?} broke:\n{:#?}", life.odds, lived.violations);
            return ExitCode::FAILURE;
        }
        calls = calls.saturating_add(lived.calls);
        longest = longest.max(lived.rest_millis);
        for (what, often) in lived.coverage {
            let sum = coverage.entry(what).or_default();
            *sum = sum.saturating_add(often);
        }
        if lived_seeds.is_multiple_of(PROGRESS_SEEDS) || lived_seeds == seeds {
            let millis = began.elapsed().as_millis().max(1);
            let per_second = u128::from(lived_seeds).saturating_mul(1000).checked_div(millis);
            println!(
                "{lived_seeds} days, {calls} port calls, {} days per second, longest rest {} s, {coverage:?}",
                per_second.unwrap_or(0),
                longest.checked_div(1000).unwrap_or(0)
            );
        }
    }
    ExitCode::SUCCESS
}
