//! The guards of suppliers and lookup values taken away: what breaks then. With every guard the same runs break nothing.

use crate::aligned::{
    APPROVED, apart, counting, differences_of, forbid, key_in_coupa, key_in_qad, only_lookups, only_suppliers,
};
use crate::guards::first_schedule;
use domain::plans::PlanState;
use serde_json::{Map, json};
use tests::fates::{Fault, Script};
use tests::gate::{Calm, Method};
use tests::harness::{Harness, Job};
use tests::sync_watch::plan_record;

/// What the run broke, or what its judge says.
fn broken(run: &Harness, by: &str, judge: impl FnOnce(&Harness) -> Option<String>) -> Option<String> {
    let first = run.violations().first().cloned().or_else(|| judge(run));
    first.map(|what| format!("{by}: {}", what.lines().next().unwrap_or_default()))
}

fn disagree(run: &Harness) -> Option<String> {
    differences_of(run).first().map(|what| format!("L1 {what}"))
}

/// One of Coupa's suppliers is being created in QAD, and nobody knows whether it is there, when the next one is approved.
pub(crate) fn next_while_open() -> Option<String> {
    let mut run = Harness::new(apart(true), &counting()).collecting();
    run.fate(crate::aligned::NoAnswer(Method::CreateQadSupplier));
    run.run(Job::SyncSuppliers);
    run.fate(Calm);
    key_in_coupa(&mut run.sim.world(), 5_007, "Example Lacquers", "active");
    run.run(Job::SyncSuppliers);
    run.heal();
    broken(&run, "flows, creates in QAD unanswered", disagree)
}

/// A supplier of Coupa gets its number by hand while a run is about to create it in QAD.
pub(crate) fn numbered_by_hand() -> Option<String> {
    first_schedule(
        1,
        || {
            let mut run = Harness::new(apart(true), &only_suppliers()).telling(false);
            run.spawn(Job::SyncSuppliers);
            run.spawn_step("the number is given by hand", |world, now| {
                key_in_qad(world, "S5555", "Example Coatings");
                let number = Map::from_iter([("number".to_owned(), json!("S5555"))]);
                world.coupa.update_supplier(APPROVED, number, now).unwrap();
            });
            run.spawn(Job::SyncSuppliers);
            run
        },
        |_| None,
    )
}

/// The code a supplier is about to get is keyed for somebody else.
pub(crate) fn code_keyed_for_another() -> Option<String> {
    first_schedule(
        1,
        || {
            let mut run = Harness::new(apart(true), &only_suppliers()).telling(false);
            run.spawn(Job::SyncSuppliers);
            run.spawn_step("the code is keyed", |world, _| {
                if !world.qad.suppliers.contains_key("C5006") {
                    key_in_qad(world, "C5006", "Example Stranger");
                }
            });
            run
        },
        |run| {
            let name = run.sim.world().coupa.suppliers[&APPROVED]["name"].clone();
            (name != json!("Example Coatings"))
                .then(|| format!("S1 Coupa's \"Example Coatings\" became {name} of QAD"))
        },
    )
}

/// A run has read one side before, and the other side after, another run carried a change across.
pub(crate) fn read_before_another_wrote() -> Option<String> {
    first_schedule(
        1,
        || {
            let mut run = Harness::new(apart(true), &only_suppliers()).telling(false);
            run.heal();
            run.sim.shared().watch.syncs.forget_writes();
            run.spawn(Job::SyncSuppliers);
            run.spawn_step("it moves", |world, now| {
                world
                    .qad
                    .change_supplier("S2001", "city", &json!("Exampleville"), now);
            });
            run.spawn(Job::SyncSuppliers);
            run
        },
        |run| {
            let writes = run.sim.shared().watch.syncs.writes();
            (writes > 1).then(|| {
                format!(
                    "S11 one change is carried across by {writes} writes: the older value went over the newer"
                )
            })
        },
    )
}

/// The same of a list.
pub(crate) fn listed_before_another_wrote() -> Option<String> {
    first_schedule(
        1,
        || {
            let mut run = Harness::new(apart(true), &only_lookups()).telling(false);
            run.heal();
            "Hall 1".clone_into(&mut run.sim.world().qad.cost_centers[0].description);
            run.spawn(Job::SyncLookups);
            run.spawn_step("renamed again", |world, _| {
                "Hall 2".clone_into(&mut world.qad.cost_centers[0].description);
            });
            run.spawn(Job::SyncLookups);
            run
        },
        |_| None,
    )
}

/// QAD knows no city, and Coupa demands one: it is given the connection's own.
pub(crate) fn filled_in_for_coupa() -> Option<String> {
    let mut world = apart(true);
    let now = tests::harness::BEGINNING;
    world.qad.change_supplier("S2001", "city", &json!(""), now);
    let mut run = Harness::new(world, &only_suppliers()).collecting();
    run.heal();
    let city = run.sim.world().qad.suppliers["S2001"]["city"].clone();
    broken(&run, "flows, no fault", |_| {
        (city != "").then(|| format!("S8 QAD's blank city became {city}, which we had made up for Coupa"))
    })
}

/// Two runs, of which the one that read less far ends last.
pub(crate) fn slower_run_ends_last() -> Option<String> {
    first_schedule(
        1,
        || {
            let mut run = Harness::new(apart(true), &only_suppliers()).telling(false);
            run.sim.advance_to(run.sim.now().0 + 60_000);
            run.spawn(Job::SyncSuppliers);
            run.spawn_step("somebody changes", |world, now| {
                let email = Map::from_iter([("tax-id".to_owned(), json!("1"))]);
                world.coupa.update_supplier(5_001, email, now).unwrap();
            });
            run.spawn(Job::SyncSuppliers);
            run
        },
        |_| None,
    )
}

/// The first run ever dies after each of its calls.
pub(crate) fn dies_after_each_call() -> Option<String> {
    const CALLS: u64 = 12;
    (1..=CALLS).find_map(|call| {
        let mut run = Harness::new(apart(true), &only_suppliers())
            .collecting()
            .telling(false);
        run.fate(Script {
            faults: vec![(call, Fault::CrashAfter)],
            ..Script::default()
        });
        run.run(Job::SyncSuppliers);
        run.heal();
        broken(&run, &format!("flows, death after call {call}"), disagree)
    })
}

fn settled_lists() -> Harness {
    let mut run = Harness::new(apart(true), &only_lookups())
        .collecting()
        .telling(false);
    run.heal();
    run
}

/// More values come at once than the share lets through.
pub(crate) fn many_at_once() -> Option<String> {
    let mut run = settled_lists();
    let codes: Vec<String> = (0..12).map(|number| format!("7{number:02}")).collect();
    for code in &codes {
        let new = sandbox::world::qad::CodedValue {
            code: code.clone(),
            description: "New plant".to_owned(),
            active: true,
        };
        run.sim.world().qad.cost_centers.push(new);
    }
    forbid(&run, "QAD Cost Centers", codes, true);
    run.run(Job::SyncLookups);
    broken(&run, "flows, no fault", |_| None)
}

/// QAD's list comes empty.
pub(crate) fn empty_list() -> Option<String> {
    let mut run = settled_lists();
    run.sim.world().qad.cost_centers.clear();
    let codes = ["100", "200", "300"].map(str::to_owned).to_vec();
    forbid(&run, "QAD Cost Centers", codes, false);
    run.run(Job::SyncLookups);
    broken(&run, "flows, no fault", |run| {
        let record = plan_record(&run.sim, Some("QAD Cost Centers"))?;
        (record.state == PlanState::Settled)
            .then(|| "L5 QAD's list came empty, and nobody is told".to_owned())
    })
}

/// Nobody knows whether a value was created, and then QAD has it no more.
pub(crate) fn gone_while_open() -> Option<String> {
    let mut run = settled_lists();
    let new = sandbox::world::qad::CodedValue {
        code: "400".to_owned(),
        description: "Short-lived".to_owned(),
        active: true,
    };
    run.sim.world().qad.cost_centers.push(new);
    run.fate(crate::aligned::NoAnswer(Method::CreateLookupValue));
    run.run(Job::SyncLookups);
    run.fate(Calm);
    run.sim.world().qad.cost_centers.pop();
    run.heal();
    broken(&run, "flows, create unanswered", disagree)
}

#[test]
fn with_every_guard_the_same_runs_break_nothing() {
    for (name, run) in [
        ("next while open", next_while_open as fn() -> Option<String>),
        ("numbered by hand", numbered_by_hand),
        ("code keyed for another", code_keyed_for_another),
        ("read before another wrote", read_before_another_wrote),
        ("listed before another wrote", listed_before_another_wrote),
        ("filled in for Coupa", filled_in_for_coupa),
        ("slower run ends last", slower_run_ends_last),
        ("dies after each call", dies_after_each_call),
        ("many at once", many_at_once),
        ("empty list", empty_list),
        ("gone while open", gone_while_open),
    ] {
        assert_eq!(run(), None, "{name}");
    }
}
