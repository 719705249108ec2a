//! Lookup values end to end: Coupa's lookups are kept as QAD's lists are, and a person allows a plan that waits.

use crate::support::{Demo, NOT_FOUND, OK, REFUSED};
use serde_json::Value;

fn state_of(demo: &Demo, lookup: &str) -> Value {
    let all = demo.json(OK, &["lookups"]);
    let of = all.as_array().unwrap().iter().find(|one| one["lookup"] == lookup);
    of.unwrap_or_else(|| panic!("{lookup} in {all}")).clone()
}

/// Planned changes by lookup.
fn planned_changes(demo: &Demo) -> Vec<(String, u64)> {
    let plan = demo.json(OK, &["lookups", "--plan"]);
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
fn active(demo: &Demo, lookup: &str) -> Vec<String> {
    let state = demo.json(OK, &["sandbox", "state"]);
    let values = state["lookup-values"].as_array().unwrap().iter();
    let mut numbers: Vec<String> = values
        .filter(|value| value["lookup"]["name"] == lookup && value["active"] == true)
        .filter_map(|value| value["external-ref-num"].as_str().map(str::to_owned))
        .collect();
    numbers.sort();
    numbers
}

#[test]
fn a_plan_that_waits_is_shown_and_carried_out_once_somebody_allows_it() {
    let demo = Demo::start("lookups");
    assert_eq!(state_of(&demo, "QAD Cost Centers")["state"], "settled");
    let parked = state_of(&demo, "QAD Projects");
    assert_eq!(parked["state"], "parked");
    assert_eq!(parked["problem"]["code"], "LOOKUP_CHANGE_TOO_LARGE");
    assert_eq!(parked["changes"].as_array().unwrap().len(), 12);
    assert_eq!(active(&demo, "QAD Projects"), ["P-100", "P-200"]);
    let planned = planned_changes(&demo);
    for (lookup, changes) in &planned {
        let expected = if lookup == "QAD Projects" { 12 } else { 0 };
        assert_eq!(*changes, expected, "{planned:?}");
    }

    let why = "the new site";
    let short = demo.says(REFUSED, &["lookups", "allow", "QAD Projects", "--reason", "x"]);
    assert!(short.contains("REASON_TOO_SHORT"), "{short}");
    demo.says(NOT_FOUND, &["lookups", "allow", "Nothing", "--reason", why]);
    let settled = demo.says(
        REFUSED,
        &["lookups", "allow", "QAD Cost Centers", "--reason", why],
    );
    assert!(settled.contains("LOOKUP_PLAN_NOT_PARKED"), "{settled}");
    demo.says(OK, &["lookups", "allow", "qad projects", "--reason", why]);
    demo.wait_until("the plan is carried out", || {
        state_of(&demo, "QAD Projects")["state"] == "settled"
    });
    let shown = active(&demo, "QAD Projects");
    assert_eq!(shown.len(), 14);
    assert_eq!(shown.last().map(String::as_str), Some("P-312"));
    assert!(planned_changes(&demo).iter().all(|(_, changes)| *changes == 0));
}
