//! Suppliers and lookup values under every fault and in every order: nothing twice, nothing lost, nothing newer written
//! over; and once the faults stop both sides agree and a further run writes nothing.
//!
//! Coupa refuses a name or a number that is taken. Half of the runs live in a Coupa that does not: no protocol may need it.

use crate::{every_fault, preemptions};
use domain::plans::ChangeShare;
use domain::suppliers::{Master, Numbering, SupplierField, SupplierPolicy};
use flows::sync_lookups::LookupSync;
use sandbox::world::World;
use sandbox::world::qad::{CodedValue, Supplier};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex};
use tests::fates::{Fault, Script};
use tests::gate::{After, Before, Call, Calm, Fate, Method};
use tests::harness::{BEGINNING, Ended, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, invoice, order, receipt, world};
use tests::sync_watch::{lookup_differences, plan_record, rows_of, supplier_differences};

/// Coupa's id of the supplier that was approved there and that QAD does not have.
pub(crate) const APPROVED: u64 = 5_006;

pub(crate) fn setup() -> Setup {
    let show = |lookup: &str, source: &str| LookupSync {
        lookup: lookup.to_owned(),
        source: source.to_owned(),
        policy: ChangeShare::default(),
    };
    Setup {
        suppliers: Some(SupplierPolicy {
            masters: [
                (SupplierField::Active, Master::Either),
                (SupplierField::City, Master::Either),
            ]
            .into(),
            create_in_qad: true,
            ..SupplierPolicy::default()
        }),
        lookups: vec![
            show("QAD Cost Centers", "cost-centers"),
            show("QAD Sub Accounts", "sub-accounts"),
        ],
        ..Setup::default()
    }
}

/// Only one of the two flows, for stories about it.
pub(crate) fn only_suppliers() -> Setup {
    Setup {
        lookups: Vec::new(),
        ..setup()
    }
}

pub(crate) fn only_lookups() -> Setup {
    Setup {
        suppliers: None,
        ..setup()
    }
}

/// By codes that count up, so that two suppliers can want the same one.
pub(crate) fn counting() -> Setup {
    let mut setup = only_suppliers();
    if let Some(policy) = &mut setup.suppliers {
        policy.numbering = Numbering::Counter {
            prefix: "V".to_owned(),
            digits: 4,
        };
    }
    setup
}

pub(crate) fn key_in_qad(world: &mut World, code: &str, name: &str) {
    let supplier = Supplier {
        coupa_id: 0,
        name: name.to_owned(),
        coupa_number: None,
        qad_code: Some(code.to_owned()),
        currency: "USD".to_owned(),
    };
    world.qad.add_supplier(&supplier, BEGINNING);
}

/// A supplier that people made in Coupa.
pub(crate) fn key_in_coupa(world: &mut World, id: u64, name: &str, status: &str) {
    let supplier = Supplier {
        coupa_id: id,
        name: name.to_owned(),
        coupa_number: None,
        qad_code: None,
        currency: "USD".to_owned(),
    };
    world.coupa.add_supplier(&supplier, BEGINNING);
    let status = Map::from_iter([("status".to_owned(), Value::from(status))]);
    world.coupa.update_supplier(id, status, BEGINNING).unwrap();
}

fn coded(code: &str, description: &str, active: bool) -> CodedValue {
    CodedValue {
        code: code.to_owned(),
        description: description.to_owned(),
        active,
    }
}

/// One supplier on both sides, one that only QAD has, one that only Coupa has; two lists.
pub(crate) fn apart(takes_twice: bool) -> World {
    let mut world = world(Vec::new(), Vec::new(), Vec::new());
    world.coupa.takes_twice = takes_twice;
    world.coupa.lookups.insert("QAD Sub Accounts".to_owned());
    world.qad.sub_accounts = vec![
        (coded("10", "Energy", true), String::new()),
        (coded("11", "Gas", true), "10".to_owned()),
    ];
    key_in_qad(&mut world, "S2001", "Example Bearings");
    key_in_coupa(&mut world, APPROVED, "Example Coatings", "active");
    world
}

/// What must hold at the end of every story: both sides agree, and a further run writes nothing at all.
pub(crate) fn agree(run: &mut Harness) {
    let differences = differences_of(run);
    assert!(differences.is_empty(), "{differences:#?}\n{}", run.story());
    // The first one may still move a cursor.
    run.align_all();
    let called = Arc::new(Mutex::new(Vec::new()));
    run.fate(Script {
        called: called.clone(),
        ..Script::default()
    });
    assert!(run.align_all(), "a further run writes\n{}", run.story());
    let wrote = |method: &&Method| method.writes_elsewhere() || **method == Method::Commit;
    let writes: Vec<Method> = called.lock().unwrap().iter().filter(wrote).copied().collect();
    assert!(
        writes.is_empty(),
        "an idle run writes {writes:?}\n{}",
        run.story()
    );
    run.fate(Calm);
}

pub(crate) fn differences_of(run: &Harness) -> Vec<String> {
    let mut differences = Vec::new();
    if run.setup().suppliers.is_some() {
        differences.extend(supplier_differences(&run.sim));
    }
    for sync in &run.setup().lookups {
        differences.extend(lookup_differences(
            &run.sim,
            &sync.lookup,
            &rows_of(&run.sim, &sync.source),
        ));
    }
    differences
}

type Story = fn(bool) -> Harness;

fn with(setup: &Setup, takes_twice: bool) -> Harness {
    Harness::new(apart(takes_twice), setup).telling(false)
}

/// The first run ever: one is linked, one goes to Coupa, one goes to QAD and gets its number back.
fn first_alignment(takes_twice: bool) -> Harness {
    with(&only_suppliers(), takes_twice)
}

/// Everybody is known; then QAD moves one, Coupa switches one off, and QAD renames one.
fn changed_on_both_sides(takes_twice: bool) -> Harness {
    let mut run = with(&only_suppliers(), takes_twice);
    run.heal();
    let now = run.sim.now();
    let mut world = run.sim.world();
    world
        .qad
        .change_supplier("S2001", "city", &json!("Exampleville"), now);
    world.qad.change_supplier(
        "S1001",
        "businessRelationName",
        &json!("Example Fasteners Inc"),
        now,
    );
    let off = Map::from_iter([("status".to_owned(), json!("inactive"))]);
    world.coupa.update_supplier(APPROVED, off, now).unwrap();
    drop(world);
    run
}

/// The first run ever: both lookups are filled, the second with a value below another.
fn first_fill(takes_twice: bool) -> Harness {
    with(&only_lookups(), takes_twice)
}

/// Everything is known; then one is renamed, one switched off, one switched on again, one added with one below it, and a
/// parent goes with what is below it.
fn lists_changed(takes_twice: bool) -> Harness {
    let mut run = with(&only_lookups(), takes_twice);
    run.sim.world().qad.cost_centers[3].active = true;
    run.heal();
    run.sim.world().qad.cost_centers[3].active = false;
    run.heal();
    let mut world = run.sim.world();
    "Sales & Service".clone_into(&mut world.qad.cost_centers[1].description);
    world.qad.cost_centers[2].active = false;
    world.qad.cost_centers[3].active = true;
    for (value, _) in &mut world.qad.sub_accounts {
        value.active = false;
    }
    let more = [("20", "Water", ""), ("21", "Drinking water", "20")];
    let more = more.map(|(code, description, above)| (coded(code, description, true), above.to_owned()));
    world.qad.sub_accounts.extend(more);
    drop(world);
    run
}

const STORIES: [(&str, Story, Job); 4] = [
    ("first alignment", first_alignment, Job::SyncSuppliers),
    ("changed on both sides", changed_on_both_sides, Job::SyncSuppliers),
    ("first fill", first_fill, Job::SyncLookups),
    ("lists changed", lists_changed, Job::SyncLookups),
];

#[test]
fn every_single_fault_at_every_call_ends_in_agreement() {
    for (name, story, job) in STORIES {
        let mut runs = 0;
        // A debug build, which keeps the whole suite under a minute, leaves out what differs least.
        let coupas: &[bool] = if cfg!(debug_assertions) {
            &[true]
        } else {
            &[true, false]
        };
        for takes_twice in coupas.iter().copied() {
            let begin = || {
                let mut run = story(takes_twice);
                run.spawn(job.clone());
                run
            };
            let kinds = if cfg!(debug_assertions) {
                Fault::distinct
            } else {
                Fault::of
            };
            runs += every_fault(kinds, begin, agree);
        }
        println!("{name}: {runs} single faults");
        assert!(runs > 30, "{name}: {runs}");
    }
}

/// A worker that is slow, or stops in the middle and goes on past its end, while another one does the same work.
#[test]
fn every_pause_at_every_call_while_another_run_does_the_same() {
    for (name, story, job) in STORIES {
        let begin = || {
            let mut run = story(true);
            run.spawn(job.clone());
            run.spawn(job.clone());
            run
        };
        let kinds = |method: Method| match method {
            // In a debug build only where a pause lets somebody else in: at a write.
            Method::Commit => Fault::PAUSES.to_vec(),
            method if method.writes_elsewhere() => Fault::PAUSES.to_vec(),
            _ if cfg!(debug_assertions) => Vec::new(),
            _ => Fault::PAUSES.to_vec(),
        };
        let runs = every_fault(kinds, begin, agree);
        println!("{name}: {runs} pauses");
        assert!(runs > 20, "{name}: {runs}");
    }
}

#[test]
fn two_runs_at_once_in_every_order_end_in_agreement() {
    for (name, story, job) in STORIES {
        let schedules = every_order(
            preemptions(2),
            || {
                let mut run = story(true);
                run.spawn(job.clone());
                run.spawn(job.clone());
                run.telling(false)
            },
            |mut run| {
                run.heal();
                agree(&mut run);
            },
        );
        println!("{name}: {schedules} schedules");
        assert!(schedules > 20, "{name}: {schedules}");
    }
}

/// While nobody knows whether QAD has made the first one, another supplier is approved: it gets the next code.
#[test]
fn a_code_whose_create_is_open_is_not_given_to_the_next_supplier() {
    let mut run = Harness::new(apart(true), &counting());
    run.spawn(Job::SyncSuppliers);
    run.fate(NoAnswer(Method::CreateQadSupplier));
    run.run_all();
    run.fate(Calm);
    key_in_coupa(&mut run.sim.world(), 5_007, "Example Lacquers", "active");
    run.run(Job::SyncSuppliers);
    run.heal();
    agree(&mut run);
    let world = run.sim.world();
    let numbers = [APPROVED, 5_007].map(|id| world.coupa.suppliers[&id]["number"].clone());
    assert_eq!(numbers, ["V0001", "V0002"]);
}

/// A write that was open is sent as it was meant; what its sender's side has become meanwhile is carried across afterwards.
#[test]
fn what_changes_while_a_write_is_open_is_carried_across_afterwards() {
    // A create in QAD, and the supplier is switched off in Coupa.
    let mut run = with(&only_suppliers(), true);
    run.fate(NoAnswer(Method::CreateQadSupplier));
    run.run(Job::SyncSuppliers);
    run.fate(Calm);
    let now = run.sim.now();
    let off = Map::from_iter([("status".to_owned(), json!("inactive"))]);
    run.sim.world().coupa.update_supplier(APPROVED, off, now).unwrap();
    run.heal();
    agree(&mut run);
    let active = run.sim.world().qad.suppliers["C5006"]["isActive"].clone();
    assert_eq!(active, json!(false));
    // A create in Coupa, and a change there; and the supplier is changed in QAD.
    for open in [Method::CreateCoupaSupplier, Method::UpdateCoupaSupplier] {
        let mut run = with(&only_suppliers(), true);
        if open == Method::UpdateCoupaSupplier {
            run.heal();
        }
        let now = run.sim.now();
        let change = |field: &str, value: &str| {
            let mut world = run.sim.world();
            world.qad.change_supplier("S2001", field, &json!(value), now);
        };
        change("city", "Northtown");
        run.fate(NoAnswer(open));
        run.spawn(Job::SyncSuppliers);
        run.run_all();
        run.fate(Calm);
        let now = run.sim.now();
        let mut world = run.sim.world();
        world
            .qad
            .change_supplier("S2001", "city", &json!("Southtown"), now);
        world
            .qad
            .change_supplier("S2001", "businessRelationName", &json!("Example Rollers"), now);
        drop(world);
        run.heal();
        agree(&mut run);
    }
}

/// No call of a method is answered; none of them happens.
pub(crate) struct NoAnswer(pub(crate) Method);

impl Fate for NoAnswer {
    fn before(&mut self, call: &Call) -> Before {
        if call.method == self.0 {
            Before::Lost
        } else {
            Before::Proceed
        }
    }
    fn after(&mut self, _: &Call) -> After {
        After::Proceed
    }
}

/// Two suppliers approved at once, by codes that count up, in two runs at once: each gets its own code, once.
#[test]
fn no_code_is_given_twice_in_any_order() {
    let schedules = every_order(
        preemptions(2),
        || {
            let mut world = apart(true);
            key_in_coupa(&mut world, 5_007, "Example Lacquers", "active");
            let mut run = Harness::new(world, &counting());
            run.spawn(Job::SyncSuppliers);
            run.spawn_step("a code is keyed by hand", |world, _| {
                if !world.qad.suppliers.contains_key("V0001") {
                    key_in_qad(world, "V0001", "Example Stranger");
                }
            });
            run.spawn(Job::SyncSuppliers);
            run.telling(false)
        },
        |mut run| {
            run.heal();
            agree(&mut run);
        },
    );
    assert!(schedules > 20, "{schedules}");
}

/// What both sides changed differently waits for a person, and goes on when the person has made them equal.
#[test]
fn what_both_sides_changed_waits_and_goes_on() {
    let mut run = with(&only_suppliers(), false);
    run.heal();
    let now = run.sim.now();
    let city = |name: &str| Map::from_iter([("primary-address".to_owned(), json!({"city": name}))]);
    run.sim
        .world()
        .qad
        .change_supplier("S1001", "city", &json!("Northtown"), now);
    run.sim
        .world()
        .coupa
        .update_supplier(5_001, city("Southtown"), now)
        .unwrap();
    run.heal();
    let parked = run
        .sim
        .shared()
        .coverage
        .get("supplier changed on both sides")
        .copied();
    assert_eq!(parked, Some(1), "{}", run.story());
    let now = run.sim.now();
    run.sim
        .world()
        .coupa
        .update_supplier(5_001, city("Northtown"), now)
        .unwrap();
    run.heal();
    agree(&mut run);
}

/// The bill of a supplier that QAD does not know is parked, and goes on by itself once the supplier is created there.
#[test]
fn a_bill_goes_on_when_its_supplier_is_created_under_any_fault() {
    let begin = || {
        let mut world = apart(true);
        let status = Map::from_iter([("status".to_owned(), json!("draft"))]);
        world.coupa.update_supplier(APPROVED, status, BEGINNING).unwrap();
        let mut bill = invoice(INVOICE, ORDER, 10);
        bill.supplier = APPROVED;
        world.coupa.add_invoice(bill, BEGINNING);
        let mut order = order(ORDER, 10);
        order.supplier = format!("C{APPROVED}");
        world.qad.add_order(order);
        world.qad.receipts.push(receipt(ORDER, "RC1", 10));
        let mut run = Harness::new(world, &only_suppliers()).telling(false);
        run.heal();
        run.assert_stands(INVOICE, "parked", 0);
        let active = Map::from_iter([("status".to_owned(), json!("active"))]);
        let now = run.sim.now();
        run.sim
            .world()
            .coupa
            .update_supplier(APPROVED, active, now)
            .unwrap();
        run.spawn(Job::SyncSuppliers);
        run
    };
    let runs = every_fault(Fault::distinct, begin, |run| {
        run.assert_stands(INVOICE, "exported", 1);
        agree(run);
    });
    assert!(runs > 30, "{runs}");
}

/// A change larger than the share waits under any fault, and is carried out once somebody has allowed exactly it.
#[test]
fn a_large_change_waits_under_any_fault_until_it_is_allowed() {
    let lookup = "QAD Cost Centers";
    let begin = || {
        let mut run = with(&only_lookups(), true);
        run.heal();
        let codes: Vec<String> = (0..12).map(|number| format!("7{number:02}")).collect();
        for code in &codes {
            let new = coded(code, "New plant", true);
            run.sim.world().qad.cost_centers.push(new);
        }
        forbid(&run, lookup, codes, true);
        run.spawn(Job::SyncLookups);
        run
    };
    let runs = every_fault(Fault::distinct, begin, |run| {
        assert_eq!(plan_word(run, lookup), "parked", "{}", run.story());
        permit(run, lookup);
        run.heal();
        agree(run);
    });
    assert!(runs > 10, "{runs}");
}

pub(crate) fn forbid(run: &Harness, lookup: &str, codes: Vec<String>, appear: bool) {
    let codes = codes.into_iter().collect();
    let mut shared = run.sim.shared();
    shared
        .watch
        .syncs
        .forbidden
        .insert(lookup.to_owned(), (codes, appear));
}

fn plan_word(run: &Harness, lookup: &str) -> &'static str {
    use domain::plans::PlanState;
    match plan_record(&run.sim, Some(lookup)).map(|record| record.state) {
        Some(PlanState::Parked { .. }) => "parked",
        Some(PlanState::Applying) => "applying",
        Some(PlanState::Settled) => "settled",
        None => "unknown",
    }
}

/// A person reads the parked plan and allows it.
pub(crate) fn permit(run: &mut Harness, lookup: &str) {
    use domain::plans::PlanState;
    let record = plan_record(&run.sim, Some(lookup)).unwrap();
    let PlanState::Parked { plan_sha256, .. } = record.state else {
        panic!("{lookup} is not parked");
    };
    run.sim.shared().watch.syncs.forbidden.remove(lookup);
    let allowed = run.run(Job::AllowPlan(Some(lookup.to_owned()), plan_sha256));
    assert_eq!(allowed, Some(Ended::Polled(Ok(1))), "{}", run.story());
}

/// The two jobs are what the tests think they are.
#[test]
fn a_run_says_what_it_wrote() {
    let mut run = with(&setup(), false);
    let Some(Ended::Polled(Ok(suppliers))) = run.run(Job::SyncSuppliers) else {
        panic!("{}", run.story());
    };
    let Some(Ended::Polled(Ok(values))) = run.run(Job::SyncLookups) else {
        panic!("{}", run.story());
    };
    assert!(suppliers >= 4 && values >= 5, "{suppliers} {values}");
    run.heal();
    agree(&mut run);
}

/// The same change again is another write: systems that honour idempotency keys take each of them.
#[test]
fn what_is_switched_off_on_and_off_again_is_so_where_idempotency_keys_are_honoured() {
    let mut run = with(&setup(), true);
    run.sim.world().honours_keys = true;
    run.heal();
    for active in [false, true, false, true] {
        let now = run.sim.now();
        run.sim.world().qad.cost_centers[1].active = active;
        run.sim
            .world()
            .qad
            .change_supplier("S1001", "isActive", &json!(active), now);
        run.heal();
        agree(&mut run);
    }
}
