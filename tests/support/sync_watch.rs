//! What must hold while suppliers and lookup values are aligned: the checker behind the gate, for those two flows.
//!
//! S1 no supplier and no value twice, no code given twice; S2 intent first; S3 no blind re-send; S5 inside the lease; S6
//! content binding; S7 a number only when QAD has it; S11 nothing newer is written over by something older; S12 cursors
//! only forward; and: nothing is deleted, a change that is too large waits, bank data is never moved.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that overflows, or misses what it put there, must fail loudly"
)]

use crate::gate::{Method, Sim, lateness, ready};
use domain::effect::{Effect, EffectStatus};
use domain::ids::{SupplierCode, fold};
use domain::lookups::{Action, ActionKind, LookupValueRecord};
use domain::plans::{PlanRecord, PlanState};
use domain::suppliers::{SupplierId, SupplierRecord, SupplierState, SupplierWrite, name_key};
use domain::time::Timestamp;
use flows::ports::{Collection, Commit, RecordGroup, RecordKey, RecordWrite, WriteError};
use flows::store::{parse, verify_chain};
use flows::sync_lookups::value_key;
use flows::sync_suppliers::QUARANTINE;
use sandbox::faults::System;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A write that left for either system.
#[derive(Debug, Clone)]
struct Sent {
    left_at: Timestamp,
    not_applied: bool,
}

/// What is remembered of both flows.
#[derive(Debug, Clone, Default)]
pub struct Syncs {
    /// True once one of the two flows has begun in this run: only then is anything looked at.
    pub active: bool,
    /// Changes of a lookup that nobody has allowed: by lookup, the codes, and whether they must not appear (else: not go).
    pub forbidden: BTreeMap<String, (BTreeSet<String>, bool)>,
    looked_up_at: BTreeMap<String, Timestamp>,
    sent: BTreeMap<String, Vec<Sent>>,
    leaving: BTreeMap<(usize, String), usize>,
    readings: BTreeMap<usize, u64>,
    written: BTreeMap<(String, String), (usize, u64)>,
    given: BTreeMap<String, u64>,
    cursors: (Option<String>, Option<i64>),
    banks: BTreeMap<String, Value>,
    counts: (usize, usize, usize),
    writes: u64,
    commits: u64,
    seen: (u64, usize),
}

impl Syncs {
    /// A complete look-up was made; of a supplier: it found nothing.
    pub fn looked_up(&mut self, key: String, asked_at: Timestamp) {
        let at = self.looked_up_at.entry(key).or_default();
        *at = asked_at.max(*at);
    }

    /// A task has read a list of QAD; its reading began at the call of this number.
    pub fn reading(&mut self, task: usize, began: u64) {
        self.readings.insert(task, began);
    }

    /// A task was told that its write of a value is done, after so many calls.
    pub fn value_written(&mut self, lookup: &str, action: &Action, task: usize, calls: u64) {
        let path = (lookup.to_owned(), action.path_key());
        self.written.insert(path, (task, calls));
    }

    /// Writes of both flows that left for either system.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Counts the writes from here on.
    pub fn forget_writes(&mut self) {
        self.writes = 0;
    }

    /// Commits that went through.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Something is about to leave: the places of earlier ones that may have happened and were not looked up since.
    fn leave(
        &mut self,
        task: usize,
        key: &str,
        now: Timestamp,
        lateness: i64,
        looks: bool,
    ) -> Option<String> {
        let looked_up = self.looked_up_at.get(key).copied();
        self.writes += 1;
        let sent = self.sent.entry(key.to_owned()).or_default();
        let blind = sent.iter().filter(|one| !one.not_applied).find_map(|earlier| {
            let settled = earlier.left_at.plus_millis(lateness);
            let proven = if looks {
                looked_up.is_some_and(|at| at >= settled)
            } else {
                now >= settled
            };
            (!proven).then(|| {
                format!(
                    "S3 {key} is sent again at {} after an attempt at {} that may have happened; looked up at {looked_up:?}",
                    now.0, earlier.left_at.0
                )
            })
        });
        sent.push(Sent {
            left_at: now,
            not_applied: false,
        });
        self.leaving.insert((task, key.to_owned()), sent.len() - 1);
        blind
    }
}

fn key_of(write: &SupplierWrite) -> String {
    write.key()
}

/// The record of a supplier of QAD, behind the gate.
pub fn supplier_record(sim: &Sim, id: &SupplierId) -> Option<SupplierRecord> {
    let key = RecordKey::Entry {
        collection: Collection::Supplier,
        id: id.to_string(),
    };
    let stored = ready(sim.register.read(&[key])).unwrap();
    stored
        .into_iter()
        .next()
        .flatten()
        .map(|stored| parse(&stored).unwrap())
}

/// Every record of a supplier, behind the gate.
pub fn supplier_records(sim: &Sim) -> Vec<SupplierRecord> {
    let all = ready(sim.register.list(&RecordGroup::Collection(Collection::Supplier))).unwrap();
    let is_one = |stored: &&flows::ports::StoredRecord| !matches!(&stored.key, RecordKey::Entry { id, .. } if id.starts_with(QUARANTINE));
    all.iter()
        .filter(is_one)
        .map(|stored| parse(stored).unwrap())
        .collect()
}

/// Every record of a lookup value, behind the gate.
pub fn value_records(sim: &Sim) -> Vec<LookupValueRecord> {
    let group = RecordGroup::Collection(Collection::LookupValue);
    let all = ready(sim.register.list(&group)).unwrap();
    all.iter().map(|stored| parse(stored).unwrap()).collect()
}

/// The plan that waits for a person: of a lookup, or of the suppliers.
pub fn waiting_plan(sim: &Sim, lookup: Option<&str>) -> Option<String> {
    match plan_record(sim, lookup)?.state {
        PlanState::Parked { plan_sha256, .. } => Some(plan_sha256),
        _ => None,
    }
}

/// The record of the plan of a lookup, or of the suppliers, behind the gate.
pub fn plan_record(sim: &Sim, lookup: Option<&str>) -> Option<PlanRecord> {
    let stored = ready(sim.register.read(&[flows::plans::key(lookup)])).unwrap();
    stored
        .into_iter()
        .next()
        .flatten()
        .map(|stored| parse(&stored).unwrap())
}

/// S2 and S5, for whatever is sent.
fn claim_is_ours(sim: &Sim, task: usize, clock: Timestamp, what: &str, effect: Option<&Effect>) {
    let Some(effect) = effect else {
        sim.violate(|| format!("S2 {what} is sent without an intent"));
        return;
    };
    if effect.status != EffectStatus::Intent || !effect.holder.ends_with(&format!("-{task}")) {
        sim.violate(|| {
            format!(
                "S2 {what} is sent by task {task} while its effect is {:?} of {:?}",
                effect.status, effect.holder
            )
        });
    }
    if clock > effect.send_deadline(&sim.timing) {
        sim.violate(|| format!("S5 {what} is sent too late in its lease"));
    }
}

fn code_of(write: &SupplierWrite) -> &SupplierCode {
    match write {
        SupplierWrite::CreateInCoupa { code, .. }
        | SupplierWrite::UpdateInCoupa { code, .. }
        | SupplierWrite::CreateInQad { code, .. }
        | SupplierWrite::UpdateInQad { code, .. } => code,
    }
}

/// S2, S5, S6: a write of a supplier is about to leave.
pub fn supplier_write_is_allowed(sim: &Sim, task: usize, clock: Timestamp, write: &SupplierWrite) {
    let what = key_of(write);
    let record = supplier_record(sim, &SupplierId::Qad(code_of(write).clone()));
    let effect = record.as_ref().and_then(|record| record.effect.as_ref());
    claim_is_ours(sim, task, clock, &what, effect);
    let Some(effect) = effect else { return };
    let meant: Option<SupplierWrite> = serde_json::from_str(&effect.request).ok();
    let same = meant.as_ref().is_some_and(|meant| match (meant, write) {
        (
            SupplierWrite::CreateInQad { code, data, .. },
            SupplierWrite::CreateInQad {
                code: sent,
                data: fields,
                ..
            },
        ) => code == sent && data == fields,
        (meant, write) => meant == write,
    });
    if !same {
        sim.violate(|| format!("S6 {what} is sent with another content"));
    }
    if let Some(SupplierWrite::CreateInQad { code, id, .. }) = meant {
        code_is_given_once(sim, &code, id);
    }
    if write.is_to_coupa() && !sim.world().qad.suppliers.contains_key(&code_of(write).folded()) {
        sim.violate(|| format!("S7 {what}: a number goes to Coupa that QAD does not have"));
    }
}

/// S1: one code for one supplier of Coupa, one supplier of Coupa for one code, and the register says so on both sides.
fn code_is_given_once(sim: &Sim, code: &SupplierCode, id: u64) {
    let earlier = sim.shared().watch.syncs.given.insert(code.folded(), id);
    if let Some(other) = earlier.filter(|other| *other != id) {
        sim.violate(|| format!("S1 code {code} is given to Coupa {other} and to {id}"));
    }
    let others: Vec<String> = {
        let shared = sim.shared();
        let given = shared.watch.syncs.given.iter();
        given
            .filter(|(other, to)| **to == id && **other != code.folded())
            .map(|(other, _)| other.clone())
            .collect()
    };
    let doubled = {
        let world = sim.world();
        let text = |record: Option<&Map<String, Value>>, field: &str| {
            let value = record.and_then(|record| record.get(field));
            name_key(value.and_then(Value::as_str).unwrap_or_default())
        };
        let name = text(world.coupa.suppliers.get(&id), "name");
        others
            .iter()
            .any(|other| text(world.qad.suppliers.get(other), "businessRelationName") == name)
    };
    if doubled {
        sim.violate(|| format!("S1 Coupa {id} becomes {code} in QAD and is {others:?} there"));
    }
    let pointer = supplier_record(sim, &SupplierId::Coupa(id)).map(|record| record.state);
    let points = matches!(&pointer, Some(SupplierState::Linked { code: Some(to), .. }) if to == code);
    if !points {
        sim.violate(|| format!("S1 {code} is created from Coupa {id}, which is {pointer:?}"));
    }
}

/// S3: the bytes of a write of a supplier leave now.
pub fn supplier_write_leaves(sim: &Sim, task: usize, write: &SupplierWrite) {
    let system = if write.is_to_coupa() {
        System::Coupa
    } else {
        System::Qad
    };
    let (now, lateness) = (sim.now(), lateness(&sim.timing, system));
    let blind = {
        let mut shared = sim.shared();
        let syncs = &mut shared.watch.syncs;
        syncs.leave(task, &key_of(write), now, lateness, write.creates())
    };
    if let Some(blind) = blind {
        sim.violate(|| blind);
    }
}

fn value_name(lookup: &str, action: &Action) -> String {
    let code = action.code().map(|code| code.folded()).unwrap_or_default();
    format!("lookup-value/{lookup}/{code}")
}

/// S2, S5, S6, S11: a write of a lookup value is about to leave.
pub fn lookup_write_is_allowed(sim: &Sim, task: usize, clock: Timestamp, lookup: &str, action: &Action) {
    let what = value_name(lookup, action);
    let stored = ready(sim.register.read(&[value_key(lookup, &action.path)])).unwrap();
    let record: Option<LookupValueRecord> = stored
        .into_iter()
        .next()
        .flatten()
        .map(|one| parse(&one).unwrap());
    let effect = record.as_ref().and_then(|record| record.effect.as_ref());
    claim_is_ours(sim, task, clock, &what, effect);
    let meant: Option<Action> = effect.and_then(|effect| serde_json::from_str(&effect.request).ok());
    if meant.as_ref() != Some(action) {
        sim.violate(|| format!("S6 {what} is sent with another content"));
    }
    let (began, written) = {
        let shared = sim.shared();
        let syncs = &shared.watch.syncs;
        let path = (lookup.to_owned(), action.path_key());
        (
            syncs.readings.get(&task).copied(),
            syncs.written.get(&path).copied(),
        )
    };
    if let (Some(began), Some((other, written))) = (began, written)
        && began < written
        && other != task
    {
        sim.violate(|| {
            format!(
                "S11 {what} is written by task {task} from a reading that began before task {other} wrote it"
            )
        });
    }
}

/// S3: the bytes of a write of a lookup value leave now. A change may be repeated at any time.
pub fn lookup_write_leaves(sim: &Sim, task: usize, lookup: &str, action: &Action) {
    let (now, lateness) = (sim.now(), sim.timing.coupa_commit_lateness_millis);
    let blind = {
        let mut shared = sim.shared();
        let syncs = &mut shared.watch.syncs;
        let blind = syncs.leave(task, &value_name(lookup, action), now, lateness, true);
        blind.filter(|_| action.kind == ActionKind::Create)
    };
    if let Some(blind) = blind {
        sim.violate(|| blind);
    }
}

/// The caller of a write got its answer.
pub fn answered(sim: &Sim, task: usize, method: Method, key: &str, error: Option<&WriteError>) {
    let mut shared = sim.shared();
    let syncs = &mut shared.watch.syncs;
    if let Some(place) = syncs.leaving.remove(&(task, key.to_owned())) {
        let not_applied = matches!(
            error,
            Some(WriteError::NotApplied { .. } | WriteError::Refused(_))
        );
        let sent = syncs.sent.get_mut(key).unwrap();
        sent[place].not_applied = not_applied;
        // A change that is confirmed is over, and so is what was sent before it.
        if error.is_none() && matches!(method, Method::UpdateCoupaSupplier | Method::UpdateQadSupplier) {
            sent.iter_mut().for_each(|one| one.not_applied = true);
        }
    }
    let what = match (method, error) {
        (Method::CreateCoupaSupplier, None) => "supplier made in Coupa",
        (Method::CreateQadSupplier, None) => "supplier made in QAD",
        (Method::UpdateCoupaSupplier, None) => "supplier changed in Coupa",
        (Method::UpdateQadSupplier, None) => "supplier changed in QAD",
        (Method::CreateLookupValue, None) => "lookup value made",
        (Method::UpdateLookupValue, None) => "lookup value changed",
        (Method::CreateCoupaSupplier | Method::CreateQadSupplier, Some(WriteError::Unknown(_))) => {
            "create of a supplier unknown"
        }
        (Method::CreateLookupValue, Some(WriteError::Unknown(_))) => "create of a lookup value unknown",
        (_, Some(WriteError::Unknown(_))) => "change of a supplier or value unknown",
        (_, Some(WriteError::NotApplied { .. })) => "supplier or value not applied",
        (_, Some(WriteError::Refused(_))) => "supplier or value refused",
        (_, None) => "supplier or value confirmed",
    };
    *shared.coverage.entry(what).or_default() += 1;
}

/// The key of a supplier's write, for [`answered`].
pub fn supplier_key(write: &SupplierWrite) -> String {
    key_of(write)
}

/// The key of a value's write, for [`answered`].
pub fn lookup_key(lookup: &str, action: &Action) -> String {
    value_name(lookup, action)
}

/// S12: after each commit that went through.
pub fn after_commit(sim: &Sim, commit: &Commit) {
    sim.shared().watch.syncs.commits += 1;
    for write in &commit.writes {
        let RecordWrite::Put { key, body, .. } = write else {
            continue;
        };
        if !matches!(key, RecordKey::Watermark(name) if name == "suppliers") {
            continue;
        }
        let mark: Value = serde_json::from_str(body).unwrap();
        let now = (
            mark.get("qad").and_then(Value::as_str).map(str::to_owned),
            mark.get("coupa").and_then(Value::as_i64),
        );
        let before = std::mem::replace(&mut sim.shared().watch.syncs.cursors, now.clone());
        if now.0 < before.0 || now.1 < before.1 {
            sim.violate(|| format!("S12 the cursors of the suppliers went back from {before:?} to {now:?}"));
        }
    }
}

fn text<'r>(record: &'r Map<String, Value>, field: &str) -> &'r str {
    record.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Everything that both worlds must show after every step.
pub fn check_world(sim: &Sim) {
    let (active, seen, writes) = {
        let shared = sim.shared();
        let syncs = &shared.watch.syncs;
        (syncs.active, syncs.seen, syncs.writes)
    };
    if !active {
        return;
    }
    let late = sim.world().late_writes();
    if seen == (writes, late) {
        return;
    }
    let mut broken = Vec::new();
    let mut syncs = std::mem::take(&mut sim.shared().watch.syncs);
    {
        let world = sim.world();
        let counts = (
            world.coupa.suppliers.len(),
            world.qad.suppliers.len(),
            world.coupa.lookup_values.len(),
        );
        if counts.0 < syncs.counts.0 || counts.1 < syncs.counts.1 || counts.2 < syncs.counts.2 {
            broken.push(format!(
                "something was deleted: {:?} and now {counts:?}",
                syncs.counts
            ));
        }
        syncs.counts = counts;
        let mut taken = BTreeSet::new();
        for supplier in world.coupa.suppliers.values() {
            for field in ["number", "name"] {
                let value = fold(text(supplier, field));
                if !value.is_empty() && !taken.insert((field, value.clone())) {
                    broken.push(format!("S1 Coupa has two suppliers with the {field} {value}"));
                }
            }
            if supplier
                .keys()
                .any(|key| key.contains("bank") || key.contains("remit"))
            {
                broken.push(format!("bank data reached Coupa: {:?}", supplier.keys()));
            }
        }
        for (code, supplier) in &world.qad.suppliers {
            let bank = supplier.get("bankNumberRefV2s").cloned().unwrap_or_default();
            let before = syncs.banks.entry(code.clone()).or_insert_with(|| bank.clone());
            if *before != bank {
                broken.push(format!("the bank data of {code} moved in QAD"));
            }
        }
        let mut values = BTreeSet::new();
        for value in world.coupa.lookup_values.values() {
            let lookup = value
                .get("lookup")
                .and_then(|one| one.get("name"))
                .and_then(Value::as_str);
            let (lookup, code) = (lookup.unwrap_or_default(), text(value, "external-ref-num"));
            let parent = value.get("parent").map(ToString::to_string);
            if !code.is_empty() && !values.insert((lookup.to_owned(), parent, fold(code))) {
                broken.push(format!("S1 {lookup} shows {code} twice"));
            }
            let Some((codes, appear)) = syncs.forbidden.get(lookup) else {
                continue;
            };
            let active = value.get("active") == Some(&Value::Bool(true));
            if codes.contains(code) && active == *appear {
                broken.push(format!(
                    "a change of {lookup} that nobody allowed is made: {code}, active {active}"
                ));
            }
        }
    }
    syncs.seen = (syncs.writes, late);
    sim.shared().watch.syncs = syncs;
    for what in broken {
        sim.violate(|| what);
    }
}

/// What must hold when nothing moves any more: S14, and nothing is open.
pub fn check_at_rest(sim: &Sim) {
    if !sim.shared().watch.syncs.active {
        return;
    }
    let mut broken = Vec::new();
    let mut chain = |document: String, end: &domain::lifecycle::ChainEnd| {
        let trail = ready(sim.register.audit(&document)).unwrap();
        match verify_chain(&trail) {
            Ok(found) if found == *end => {}
            Ok(_) => broken.push(format!(
                "S14 the chain of {document} ends elsewhere than its record says"
            )),
            Err(problem) => broken.push(format!("S14 {problem}")),
        }
    };
    let suppliers = supplier_records(sim);
    let values = value_records(sim);
    for record in &suppliers {
        chain(format!("supplier/{}", record.id), &record.chain);
    }
    for record in &values {
        let id = LookupValueRecord::record_id(&record.lookup, &record.path);
        chain(format!("lookup-value/{id}"), &record.chain);
    }
    broken.extend(suppliers.iter().filter(|record| record.is_open()).map(|record| {
        format!(
            "L1 a write of supplier {} is open: {:?}",
            record.id, record.effect
        )
    }));
    broken.extend(values.iter().filter(|record| record.is_open()).map(|record| {
        format!(
            "L1 a write of value {:?} is open: {:?}",
            record.path, record.effect
        )
    }));
    for what in broken {
        sim.violate(|| what);
    }
}

/// Where the two lists of suppliers do not agree, by the contract alone; who waits for a person is left out.
pub fn supplier_differences(sim: &Sim) -> Vec<String> {
    let parked: BTreeSet<String> = supplier_records(sim)
        .into_iter()
        .filter(|record| matches!(record.state, SupplierState::Parked { .. }))
        .map(|record| record.id.to_string())
        .collect();
    let world = sim.world();
    let mut differences = Vec::new();
    for (code, ours) in &world.qad.suppliers {
        if parked.contains(&format!("qad/{code}")) {
            continue;
        }
        let numbered: Vec<_> = world
            .coupa
            .suppliers
            .values()
            .filter(|one| fold(text(one, "number")) == *code)
            .collect();
        let active = ours.get("isActive") == Some(&Value::Bool(true));
        let [theirs] = numbered.as_slice() else {
            if active || numbered.len() > 1 {
                differences.push(format!("{code} is in Coupa {} times", numbered.len()));
            }
            continue;
        };
        let address = theirs.get("primary-address").and_then(Value::as_object);
        let city = address.map_or("", |address| text(address, "city"));
        let pairs = [
            ("name", text(ours, "businessRelationName"), text(theirs, "name")),
            ("city", text(ours, "city"), city),
            (
                "status",
                if active { "active" } else { "inactive" },
                text(theirs, "status"),
            ),
        ];
        for (field, qad, coupa) in pairs {
            if qad != coupa {
                differences.push(format!("{field} of {code}: QAD {qad:?}, Coupa {coupa:?}"));
            }
        }
    }
    for (id, theirs) in &world.coupa.suppliers {
        let alone = text(theirs, "number").is_empty() && text(theirs, "status") == "active";
        if alone && !parked.contains(&format!("coupa/{id}")) {
            differences.push(format!("Coupa {id} {:?} has no number", text(theirs, "name")));
        }
    }
    differences
}

/// Where a lookup of Coupa does not show what a list of QAD says, by the contract alone. Each row of the list is a code, a
/// description, whether it is active, and the code above it (blank at the root).
pub fn lookup_differences(sim: &Sim, lookup: &str, list: &[(String, String, bool, String)]) -> Vec<String> {
    let world = sim.world();
    let mut shown: BTreeMap<String, Vec<(String, bool, String)>> = BTreeMap::new();
    for value in world.coupa.lookup_values.values() {
        let of = value
            .get("lookup")
            .and_then(|one| one.get("name"))
            .and_then(Value::as_str);
        let code = text(value, "external-ref-num");
        if of != Some(lookup) || code.is_empty() {
            continue;
        }
        let above = value
            .get("parent")
            .and_then(|parent| parent.get("id"))
            .and_then(Value::as_u64);
        let above = above.and_then(|id| world.coupa.lookup_values.get(&id));
        let above = above.map_or("", |above| text(above, "external-ref-num"));
        let active = value.get("active") == Some(&Value::Bool(true));
        let entry = (text(value, "name").to_owned(), active, above.to_owned());
        shown.entry(code.to_owned()).or_default().push(entry);
    }
    let mut differences = Vec::new();
    for (code, description, active, parent) in list {
        let name = format!("{code} {description}");
        match shown.remove(code).as_deref() {
            None if !active => {}
            Some([(shown, is_active, above)])
                if *shown == name.trim_end() && is_active == active && above == parent => {}
            other => differences.push(format!(
                "{lookup}: {name:?}, active {active}: Coupa shows {other:?}"
            )),
        }
    }
    for (code, values) in shown {
        if values.iter().any(|(_, active, _)| *active) {
            differences.push(format!("{lookup}: {code} is not in QAD: Coupa shows {values:?}"));
        }
    }
    differences
}

/// The rows of one of QAD's lists, for [`lookup_differences`].
pub fn rows_of(sim: &Sim, source: &str) -> Vec<(String, String, bool, String)> {
    let world = sim.world();
    let flat = |values: &[sandbox::world::qad::CodedValue]| {
        let row = |one: &sandbox::world::qad::CodedValue| {
            (
                one.code.clone(),
                one.description.clone(),
                one.active,
                String::new(),
            )
        };
        values.iter().map(row).collect::<Vec<_>>()
    };
    match source {
        "cost-centers" => flat(&world.qad.cost_centers),
        "projects" => flat(&world.qad.projects),
        "gl-accounts" => flat(&world.qad.gl_accounts),
        _ => {
            let values = world.qad.sub_accounts.iter();
            values
                .map(|(one, above)| {
                    (
                        one.code.clone(),
                        one.description.clone(),
                        one.active,
                        above.clone(),
                    )
                })
                .collect()
        }
    }
}
