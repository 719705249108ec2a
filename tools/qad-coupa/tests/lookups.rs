//! Lookup values end to end: the deployable function on the local AWS keeps Coupa's lookups as QAD's lists are, and a person
//! allows a plan that waits. Run with the workspace (`cargo test --workspace`), which builds the functions too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::zombie_processes,
    reason = "a failing test may say so by panicking"
)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qad-coupa");
/// How often something that is waited for is looked at, and how long in between.
const LOOKS_MAX: u32 = 1_200;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A demo that keeps running, ended with the test.
struct Demo {
    child: Child,
    folder: PathBuf,
}

impl Demo {
    fn start() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("lookups-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let mut child = Command::new(PROGRAM)
            .args([
                "--run-dir",
                folder.to_str().unwrap(),
                "demo",
                "--keep",
                "--seed",
                "5",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            said.push(line.unwrap());
            if said.last().unwrap().contains("Ctrl-C ends it.") {
                return Self { child, folder };
            }
        }
        panic!("the demo ended: {said:#?}");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(["--run-dir", self.folder.to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn state_of(&self, lookup: &str) -> Value {
        let all = self.json(&["lookups", "--json"]);
        let of = all.as_array().unwrap().iter().find(|one| one["lookup"] == lookup);
        of.unwrap_or_else(|| panic!("{lookup} in {all}")).clone()
    }

    /// Planned changes by lookup.
    fn planned(&self) -> Vec<(String, u64)> {
        let plan = self.json(&["lookups", "--plan", "--json"]);
        let runs = plan.as_array().unwrap().iter();
        runs.map(|run| {
            (
                run["lookup"].as_str().unwrap().to_owned(),
                run["planned"].as_u64().unwrap(),
            )
        })
        .collect()
    }

    /// The numbers of a lookup's active values in the simulated Coupa, in order.
    fn active(&self, lookup: &str) -> Vec<String> {
        let state = self.json(&["sandbox", "state"]);
        let values = state["lookup-values"].as_array().unwrap().iter();
        let mut numbers: Vec<String> = values
            .filter(|value| value["lookup"]["name"] == lookup && value["active"] == true)
            .filter_map(|value| value["external-ref-num"].as_str().map(str::to_owned))
            .collect();
        numbers.sort();
        numbers
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_plan_that_waits_is_shown_and_carried_out_once_somebody_allows_it() {
    let demo = Demo::start();
    assert_eq!(demo.state_of("QAD Cost Centers")["state"], "settled");
    let parked = demo.state_of("QAD Projects");
    assert_eq!(parked["state"], "parked");
    assert_eq!(parked["problem"]["code"], "LOOKUP_CHANGE_TOO_LARGE");
    assert_eq!(parked["changes"].as_array().unwrap().len(), 12);
    assert_eq!(demo.active("QAD Projects"), ["P-100", "P-200"]);
    let planned = demo.planned();
    for (lookup, changes) in &planned {
        let expected = if lookup == "QAD Projects" { 12 } else { 0 };
        assert_eq!(*changes, expected, "{planned:?}");
    }

    let wrong = demo.run(&["lookups", "allow", "Nothing", "--reason", "x"]);
    assert_eq!(wrong.status.code(), Some(3), "{}", said(&wrong));
    let settled = demo.run(&["lookups", "allow", "QAD Cost Centers", "--reason", "x"]);
    assert_eq!(settled.status.code(), Some(1), "{}", said(&settled));
    assert!(said(&settled).contains("LOOKUP_PLAN_NOT_PARKED"));
    let reason = ["lookups", "allow", "qad projects", "--reason", "the new site"];
    let allowed = demo.run(&reason);
    assert!(allowed.status.success(), "{}", said(&allowed));
    for _ in 0..LOOKS_MAX {
        if demo.state_of("QAD Projects")["state"] == "settled" {
            break;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    assert_eq!(demo.state_of("QAD Projects")["state"], "settled");
    let shown = demo.active("QAD Projects");
    assert_eq!(shown.len(), 14);
    assert_eq!(shown.last().map(String::as_str), Some("P-312"));
    assert!(demo.planned().iter().all(|(_, changes)| *changes == 0));
}
