//! What people do to suppliers and lists in a whole life, and where both sides must stand when it is over.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that overflows, or misses what it put there, must fail loudly"
)]

use crate::gate::Rng;
use crate::harness::{BEGINNING, Ended, Harness, Job};
use crate::sync_watch::{
    lookup_differences, plan_record, rows_of, supplier_differences, supplier_records, waiting_plan,
};
use domain::plans::{ChangeShare, PlanState};
use domain::suppliers::{Master, Numbering, SupplierField, SupplierPolicy, SupplierState};
use domain::time::Timestamp;
use flows::sync_lookups::LookupSync;
use sandbox::scenario::before_the_day;
use sandbox::world::World;
use sandbox::world::qad::{CodedValue, Supplier};
use serde_json::{Map, Value, json};

/// The first of Coupa's ids of the suppliers that people make there.
const FIRST_MADE: u64 = 60_001;
/// Most suppliers that people make on either side.
const MADE_MAX: u64 = 12;
/// Values of the list that changes by more than its share.
const PROJECTS: usize = 30;
/// How many of them change at once.
const PROJECTS_CHANGED: usize = 12;
/// The lookup that shows it.
const LARGE: &str = "QAD Projects";

/// Most plans of suppliers in a row that a person is asked to allow when all is calm.
const PLANS_MAX: u32 = 5;

/// How suppliers are aligned in a life: half of the lives count their codes up.
pub fn supplier_policy(seed: u64) -> SupplierPolicy {
    SupplierPolicy {
        masters: [
            (SupplierField::Active, Master::Either),
            (SupplierField::City, Master::Either),
        ]
        .into(),
        create_in_qad: true,
        // The day bills a supplier under the code it gets by Coupa's id.
        numbering: if seed % 4 < 2 {
            Numbering::default()
        } else {
            Numbering::Counter {
                prefix: "C".to_owned(),
                digits: 4,
            }
        },
        ..SupplierPolicy::default()
    }
}

/// What is shown where.
pub fn lookups() -> Vec<LookupSync> {
    let show = |lookup: &str, source: &str| LookupSync {
        lookup: lookup.to_owned(),
        source: source.to_owned(),
        policy: ChangeShare::default(),
    };
    vec![
        show("QAD Cost Centers", "cost-centers"),
        show(LARGE, "projects"),
        show("QAD Sub Accounts", "sub-accounts"),
    ]
}

fn coded(code: &str, description: &str, active: bool) -> CodedValue {
    CodedValue {
        code: code.to_owned(),
        description: description.to_owned(),
        active,
    }
}

/// What the systems hold before the life begins, besides the day's own. Every other Coupa takes a name twice, and in half of the
/// lives both systems honour idempotency keys.
pub fn before_the_life(world: &mut World, seed: u64) {
    before_the_day(world, BEGINNING);
    world.coupa.takes_twice = seed.is_multiple_of(2);
    world.honours_keys = seed % 4 > 1;
    world.coupa.lookups.insert("QAD Sub Accounts".to_owned());
    world
        .qad
        .projects
        .extend((0..PROJECTS).map(|number| coded(&format!("P-5{number:02}"), "Site", true)));
    world.qad.sub_accounts = vec![
        (coded("10", "Energy", true), String::new()),
        (coded("11", "Gas", true), "10".to_owned()),
    ];
}

/// Whose records differ, for the story.
fn changed_suppliers(before: &World, after: &World) -> Vec<String> {
    let coupa = after.coupa.suppliers.iter();
    let coupa = coupa
        .filter(|(id, one)| before.coupa.suppliers.get(id) != Some(one))
        .map(|(id, _)| format!("Coupa {id}"));
    let qad = after.qad.suppliers.iter();
    let qad = qad
        .filter(|(code, one)| before.qad.suppliers.get(*code) != Some(one))
        .map(|(code, _)| format!("QAD {code}"));
    coupa.chain(qad).collect()
}

/// Everybody who changes suppliers and lists.
#[derive(Debug, Clone)]
pub struct People {
    rng: Rng,
    keyed: Vec<String>,
    made: Vec<u64>,
    values: u64,
    large: bool,
}

impl People {
    /// The people of a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x9E0_97E),
            keyed: Vec::new(),
            made: Vec::new(),
            values: 0,
            large: false,
        }
    }

    /// Two or three things that people do.
    pub fn act(&mut self, run: &mut Harness) {
        self.change_much(run);
        allow_suppliers(run);
        for _ in 0..=1 + self.rng.below(2) {
            let now = run.sim.now();
            let (before, what) = (run.sim.world().clone(), self.rng.below(10));
            let mut world = run.sim.world();
            match what {
                0 | 1 => self.key_in_qad(&mut world, now),
                2 | 3 => self.make_in_coupa(&mut world, now),
                4 => self.move_in_qad(&mut world, now),
                5 => self.move_in_coupa(&mut world, now),
                6 => self.switch(&mut world, now),
                7 => self.rename(&mut world, now),
                _ => self.change_lists(&mut world),
            }
            let changed = changed_suppliers(&before, &world);
            drop(world);
            run.sim.tell(|| format!("people do {what}: {changed:?}"));
        }
    }

    fn one_of(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.rng.below(count as u64) as usize)
    }

    fn key_in_qad(&mut self, world: &mut World, now: Timestamp) {
        let number = self.keyed.len() as u64;
        if number < MADE_MAX {
            let code = format!("S30{number:02}");
            let supplier = Supplier {
                coupa_id: 0,
                name: format!("Example Seller {number}"),
                coupa_number: None,
                qad_code: Some(code.clone()),
                currency: "USD".to_owned(),
            };
            world.qad.add_supplier(&supplier, now);
            self.keyed.push(code);
        }
    }

    fn make_in_coupa(&mut self, world: &mut World, now: Timestamp) {
        let number = self.made.len() as u64;
        if number < MADE_MAX {
            let id = FIRST_MADE + number;
            let supplier = Supplier {
                coupa_id: id,
                name: format!("Example Maker {number}"),
                coupa_number: None,
                qad_code: None,
                currency: "USD".to_owned(),
            };
            world.coupa.add_supplier(&supplier, now);
            self.made.push(id);
        }
    }

    fn move_in_qad(&mut self, world: &mut World, now: Timestamp) {
        if let Some(place) = self.one_of(self.keyed.len()) {
            let city = format!("Town {}", self.rng.below(5));
            world
                .qad
                .change_supplier(&self.keyed[place].clone(), "city", &json!(city), now);
        }
    }

    fn move_in_coupa(&mut self, world: &mut World, now: Timestamp) {
        let known: Vec<u64> = world
            .coupa
            .suppliers
            .iter()
            .filter(|(_, one)| {
                self.keyed
                    .iter()
                    .any(|code| one.get("number") == Some(&json!(code)))
            })
            .map(|(id, _)| *id)
            .chain(self.made.iter().copied())
            .collect();
        if let Some(place) = self.one_of(known.len()) {
            let city = format!("Town {}", self.rng.below(5));
            let mut address = world.coupa.suppliers[&known[place]]
                .get("primary-address")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            address.insert("city".to_owned(), json!(city));
            let change = Map::from_iter([("primary-address".to_owned(), Value::Object(address))]);
            world.coupa.update_supplier(known[place], change, now).unwrap();
        }
    }

    fn switch(&mut self, world: &mut World, now: Timestamp) {
        let on = self.rng.per_mille(500);
        if self.rng.per_mille(500) {
            if let Some(place) = self.one_of(self.keyed.len()) {
                let code = self.keyed[place].clone();
                world.qad.change_supplier(&code, "isActive", &json!(on), now);
            }
        } else if let Some(place) = self.one_of(self.made.len()) {
            let status = if on { "active" } else { "inactive" };
            let change = Map::from_iter([("status".to_owned(), json!(status))]);
            world
                .coupa
                .update_supplier(self.made[place], change, now)
                .unwrap();
        }
    }

    fn rename(&mut self, world: &mut World, now: Timestamp) {
        if let Some(place) = self.one_of(self.keyed.len()) {
            let name = format!("Example Seller {place} of {}", self.rng.below(1_000));
            let code = self.keyed[place].clone();
            world
                .qad
                .change_supplier(&code, "businessRelationName", &json!(name), now);
        }
    }

    fn change_lists(&mut self, world: &mut World) {
        self.values += 1;
        let number = self.values;
        match self.rng.below(6) {
            0 => world
                .qad
                .cost_centers
                .push(coded(&format!("6{number:02}"), "Plant", true)),
            1 => {
                let parent = format!("2{number:02}");
                let child = format!("8{number:02}");
                let accounts = &mut world.qad.sub_accounts;
                accounts.push((coded(&parent, "Water", true), String::new()));
                accounts.push((coded(&child, "Rain", true), parent));
            }
            2 => {
                let active = self.rng.per_mille(500);
                for (value, _) in &mut world.qad.sub_accounts {
                    // With their parents, as a person would.
                    value.active = active;
                }
            }
            3 if world.qad.cost_centers.len() > 3 => {
                world.qad.cost_centers.pop();
            }
            4 => {
                let place = self.one_of(world.qad.cost_centers.len()).unwrap();
                let center = &mut world.qad.cost_centers[place];
                center.active = !center.active;
            }
            _ => {
                let place = self.one_of(world.qad.cost_centers.len()).unwrap();
                world.qad.cost_centers[place].description = format!("Hall {number}");
            }
        }
    }

    /// Once the large list is settled, more of it changes at once than a run may carry out by itself: so many come, or go.
    /// In a life whose faults never let it settle, that happens when they are over.
    fn change_much(&mut self, run: &mut Harness) {
        let settled = plan_record(&run.sim, Some(LARGE))
            .is_some_and(|record| record.state == PlanState::Settled && !record.filling && !record.unsettled);
        if self.large || !settled {
            return;
        }
        self.large = true;
        let come = self.rng.per_mille(500);
        let mut codes = Vec::new();
        {
            let mut world = run.sim.world();
            let projects = &mut world.qad.projects;
            if come {
                let new = (0..PROJECTS_CHANGED).map(|number| format!("P-9{number:02}"));
                codes.extend(new);
                projects.extend(codes.iter().map(|code| coded(code, "New site", true)));
            } else {
                let rest = projects.len() - PROJECTS_CHANGED;
                codes.extend(projects.drain(rest..).map(|value| value.code));
            }
        }
        let mut shared = run.sim.shared();
        let forbidden = &mut shared.watch.syncs.forbidden;
        forbidden.insert(LARGE.to_owned(), (codes.into_iter().collect(), come));
        drop(shared);
        run.sim.saw("more changes at once than a run may carry out");
    }

    /// Whoever is asked makes equal what both sides changed differently. The answer is how long it took until everybody
    /// knew what to ask, in milliseconds.
    pub fn make_up(&mut self, run: &mut Harness) -> i64 {
        // The last runs may still find such a supplier: it is found now.
        let rest_millis = run.heal().max(allow_what_waits(run));
        self.change_much(run);
        let now = run.sim.now();
        for record in supplier_records(&run.sim) {
            let (SupplierState::Parked { problem, .. }, Some(code)) = (&record.state, record.code()) else {
                continue;
            };
            if problem.code != "SUPPLIER_CHANGED_ON_BOTH_SIDES" {
                continue;
            }
            let mut world = run.sim.world();
            let Some(id) = record.linked_coupa() else { continue };
            let ours = world.qad.suppliers[&code.folded()].clone();
            let mut address = world.coupa.suppliers[&id]
                .get("primary-address")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            address.insert("city".to_owned(), ours["city"].clone());
            let change = Map::from_iter([("primary-address".to_owned(), Value::Object(address))]);
            world.coupa.update_supplier(id, change, now).unwrap();
        }
        rest_millis
    }

    /// Where the two sides do not agree although nothing moves any more; the plan that waits is read and allowed.
    pub fn at_rest(&mut self, run: &mut Harness) -> Vec<String> {
        let mut wrong = Vec::new();
        allow_what_waits(run);
        if self.large {
            match waiting_plan(&run.sim, Some(LARGE)) {
                Some(plan_sha256) => {
                    run.sim.shared().watch.syncs.forbidden.remove(LARGE);
                    let allowed = run.run(Job::AllowPlan(Some(LARGE.to_owned()), plan_sha256));
                    if allowed != Some(Ended::Polled(Ok(1))) {
                        wrong.push(format!("the plan cannot be allowed: {allowed:?}"));
                    }
                    run.heal();
                }
                None => wrong.push(format!("{LARGE} does not wait for a person")),
            }
        }
        wrong.extend(supplier_differences(&run.sim));
        for sync in lookups() {
            wrong.extend(lookup_differences(
                &run.sim,
                &sync.lookup,
                &rows_of(&run.sim, &sync.source),
            ));
        }
        let waiting = supplier_records(&run.sim)
            .into_iter()
            .filter_map(|record| match record.state {
                SupplierState::Parked { problem, .. } => Some(problem),
                _ => None,
            });
        let unexpected = waiting.filter(|problem| problem.code != "SUPPLIER_PROPOSED");
        wrong.extend(unexpected.map(|problem| format!("a supplier waits for a person: {problem}")));
        // What is done is not done again.
        run.align_all();
        if !run.align_all() {
            wrong.push("L7 a further run writes although both sides agree".to_owned());
        }
        wrong
    }
}

/// A person reads the plan of suppliers that is too large to be carried out by itself, and allows it; false when none waits.
fn allow_suppliers(run: &mut Harness) -> bool {
    let Some(plan_sha256) = waiting_plan(&run.sim, None) else {
        return false;
    };
    // A plan that moved meanwhile is refused, and the one that replaced it is read the next time.
    run.run(Job::AllowPlan(None, plan_sha256));
    run.sim.saw("a person allowed a plan of suppliers");
    true
}

/// Allows plan after plan of suppliers until none waits; how long the longest took to be carried out, in milliseconds.
fn allow_what_waits(run: &mut Harness) -> i64 {
    let mut longest = 0;
    for _ in 0..PLANS_MAX {
        if !allow_suppliers(run) {
            return longest;
        }
        longest = longest.max(run.heal());
    }
    run.sim
        .violate(|| "L8 there is always one more plan of suppliers to allow".to_owned());
    longest
}
