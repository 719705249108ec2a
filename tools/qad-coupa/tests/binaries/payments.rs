//! Payments end to end, against simulated systems whose answers get lost, with a restart in the middle.

use crate::support::{Folder, NOT_FOUND, OK, Running, run, wait_until_same};
use aws::clock::SystemClock;
use domain::time::Timestamp;
use flows::ports::Clock;
use rust_decimal::Decimal;
use sandbox::faults::{Fault, FaultRule, System, When};
use sandbox::http::{Options, Simulators};
use sandbox::scenario::payments::{PaymentDay, differs_in_coupa, payments};
use sandbox::scenario::{Scenario, Step, play};
use sandbox::world::World;
use serde_json::Value;
use std::sync::Arc;

/// Stories whose steps need a webhook.
const NEEDS_EVENTS: &str = "order corrected in Coupa";

fn now() -> Timestamp {
    SystemClock.now()
}

/// A local run with the connection of the folder.
fn start(folder: &Folder) -> Running {
    let at = ["run", "connection.toml", "data"].map(|name| folder.at(name));
    Running::start(&[
        "--run-dir",
        &at[0],
        "local",
        "--connection",
        &at[1],
        "--data",
        &at[2],
    ])
}

fn command(folder: &Folder, arguments: &[&str]) -> (String, Option<i32>) {
    let output = run(&[&["--run-dir", &folder.at("run")], arguments].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    (said, output.status.code())
}

fn json(folder: &Folder, arguments: &[&str]) -> Vec<Value> {
    let (said, _) = command(folder, arguments);
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{arguments:?}: {said}"))
}

/// Plays what can be played of each story now; the answer is how many steps are left.
fn play_on(simulators: &Simulators, scripts: &mut [(Scenario, usize)]) -> usize {
    let mut left = 0;
    for (scenario, next) in scripts.iter_mut() {
        while let Some(step) = scenario.steps.get(*next) {
            let mut world = simulators.world.lock().unwrap();
            let ready = match step {
                Step::SendEvent { .. } => true,
                Step::WaitForState { invoice, .. } => world.coupa.invoices[invoice].exported,
                Step::WaitForPayments { invoice, entries } => {
                    world.coupa.invoices[invoice].payments.len() >= *entries
                }
                other => {
                    let mut faults = simulators.faults.lock().unwrap();
                    play(other, &mut world, &mut faults, now()).unwrap();
                    true
                }
            };
            if !ready {
                break;
            }
            *next += 1;
        }
        left += scenario.steps.len() - *next;
    }
    left
}

fn differences(simulators: &Simulators, day: &PaymentDay) -> Option<String> {
    let world = simulators.world.lock().unwrap();
    let found: Vec<String> = day
        .bills
        .iter()
        .filter_map(|bill| differs_in_coupa(&world, bill))
        .collect();
    (!found.is_empty()).then(|| found.join("\n"))
}

/// How many payments were written, lost ones too.
fn paid(simulators: &Simulators) -> u64 {
    calls(simulators, "coupa.invoices.pay")
}

fn calls(simulators: &Simulators, operation: &str) -> u64 {
    let journal = simulators.journal.lock().unwrap();
    journal.counters().get(operation).copied().unwrap_or(0)
}

#[test]
fn coupa_shows_each_allocation_of_qad_once_whatever_gets_lost() {
    let folder = Folder::new("payments");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut day = payments(3);
    day.scenarios.retain(|story| story.name != NEEDS_EVENTS);
    let world = World::seed(&day.scenarios, now());
    let simulators = runtime
        .block_on(Simulators::start(world, Arc::new(now), Options::default()))
        .unwrap();
    let file = include_str!("../../src/demo-connection.toml")
        .replace("{coupa}", &simulators.coupa_url)
        .replace("{qad}", &simulators.qad_url);
    std::fs::write(folder.at("connection.toml"), file).unwrap();
    {
        let mut faults = simulators.faults.lock().unwrap();
        for fault in [Fault::LostAfter, Fault::LostBefore, Fault::LostAfter] {
            faults.arm(FaultRule {
                system: System::Coupa,
                operation: "invoices.pay".to_owned(),
                key: None,
                when: When::Next(2),
                fault,
            });
        }
        faults.arm(FaultRule::next(
            System::Qad,
            "browse.payments",
            None,
            Fault::HtmlPage,
        ));
    }
    let mut scripts: Vec<(Scenario, usize)> = day.scenarios.iter().cloned().map(|story| (story, 0)).collect();
    let steps: usize = day.scenarios.iter().map(|story| story.steps.len()).sum();

    let running = start(&folder);
    wait_until_same("half of the steps are played", || {
        let left = play_on(&simulators, &mut scripts);
        (left > steps / 4).then(|| format!("{left} steps are left"))
    });
    drop(running);
    let running = start(&folder);
    wait_until_same("all steps are played", || {
        let left = play_on(&simulators, &mut scripts);
        (left > 0).then(|| format!("{left} steps are left"))
    });
    wait_until_same("Coupa shows what QAD paid", || differences(&simulators, &day));
    let settled = || {
        let bills = json(&folder, &["payments", "--json"]);
        day.bills.iter().find_map(|expected| {
            let bill = bills.iter().find(|bill| bill["invoice"] == expected.invoice);
            let same = bill.is_some_and(|bill| {
                bill["state"] == expected.word && bill["code"].as_str().unwrap_or("") == expected.code
            });
            (!same).then(|| format!("{}: {bill:?}", expected.story))
        })
    };
    wait_until_same("every bill is at rest", settled);

    // The command line says what Coupa shows.
    for bill in json(&folder, &["payments", "--json"]) {
        let world = simulators.world.lock().unwrap();
        let invoice = &world.coupa.invoices[&bill["invoice"].as_u64().unwrap()];
        let sum: Decimal = invoice.payments.iter().map(|entry| entry.amount_paid).sum();
        assert_eq!(bill["in_coupa"], sum.normalize().to_string(), "{bill}");
    }
    let unmatched = json(&folder, &["payments", "--unmatched", "--json"]);
    let references: Vec<&str> = unmatched
        .iter()
        .filter_map(|one| one["reference"].as_str())
        .collect();
    assert_eq!(references, day.unmatched);
    let voided = day
        .bills
        .iter()
        .find(|bill| bill.story == "void after paid")
        .unwrap();
    let (said, code) = command(&folder, &["payments", "show", &voided.invoice.to_string()]);
    assert_eq!(code, Some(OK));
    assert!(said.contains("taken back"), "{said}");
    assert_eq!(
        command(&folder, &["payments", "show", "no-such-invoice"]).1,
        Some(NOT_FOUND)
    );

    // Another restart, and some more polls of the same payments: nothing is written.
    drop(running);
    let (written, polls) = (paid(&simulators), calls(&simulators, "qad.browse.payments"));
    let _running = start(&folder);
    wait_until_same("QAD is asked a few times more", || {
        let asked = calls(&simulators, "qad.browse.payments");
        (asked < polls + 3).then(|| format!("{asked} times"))
    });
    assert_eq!(paid(&simulators), written);
    assert_eq!(differences(&simulators, &day), None);
    assert_eq!(simulators.journal.lock().unwrap().violations(), 0);
}
