//! The stories of the day about lookup values: what happens to QAD's lists, and where Coupa's lookups must stand afterwards.

use crate::faults::{Fault, FaultRule, Faults, System};
use crate::world::World;
use crate::world::qad::CodedValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Coupa's id of a value that a person adds; far from those that Coupa assigns.
const BY_HAND_ID: u64 = 990_001;

/// One story about one lookup.
#[derive(Debug, Clone)]
pub struct LookupStory {
    /// What it shows, in one sentence.
    pub about: &'static str,
    /// The lookup in Coupa.
    pub lookup: &'static str,
    /// The list in QAD.
    pub list: List,
    /// What happens, in order; each act waits for the one before to come to rest.
    pub acts: Vec<Act>,
}

/// A list of QAD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Cost centers.
    CostCenters,
    /// Projects.
    Projects,
    /// GL accounts.
    GlAccounts,
}

/// What happens, and where it must lead.
#[derive(Debug, Clone)]
pub struct Act {
    /// All at once.
    pub changes: Vec<Change>,
    /// Where the lookup comes to rest.
    pub rests: Rests,
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Change {
    /// Somebody adds a value in QAD: its code and its description.
    Add(String, &'static str),
    /// Somebody changes a description in QAD.
    Describe(&'static str, &'static str),
    /// Somebody switches a value in QAD on or off.
    Switch(&'static str, bool),
    /// A person adds a value in Coupa by hand, without a number.
    ByHand(&'static str),
    /// The next request goes wrong.
    ArmFault(FaultRule),
}

/// Where a lookup comes to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rests {
    /// Coupa shows exactly what QAD lists.
    Equal,
    /// Nothing was changed; a person must look, and this code says why.
    Parked(&'static str),
}

/// The stories of the day.
pub fn stories() -> Vec<LookupStory> {
    let fill = || Act {
        changes: Vec::new(),
        rests: Rests::Equal,
    };
    let added = |code: &str, description| Change::Add(code.to_owned(), description);
    vec![
        LookupStory {
            about: "Cost centers added, renamed, deactivated, reactivated; a person's own value is left alone.",
            lookup: "QAD Cost Centers",
            list: List::CostCenters,
            acts: vec![
                fill(),
                Act {
                    changes: vec![
                        Change::ByHand("Ask the controller"),
                        added("400", "Maintenance, hall 2"),
                        added("450", ""),
                        Change::Describe("200", "Sales & Service"),
                        Change::Switch("300", false),
                        Change::Switch("900", true),
                    ],
                    rests: Rests::Equal,
                },
                Act {
                    changes: vec![Change::Switch("300", true), Change::Switch("100", false)],
                    rests: Rests::Equal,
                },
            ],
        },
        LookupStory {
            about: "The answer to a create gets lost: the account is there once.",
            lookup: "QAD GL Accounts",
            list: List::GlAccounts,
            acts: vec![
                fill(),
                Act {
                    changes: vec![
                        Change::ArmFault(FaultRule::next(
                            System::Coupa,
                            "lookup-values.create",
                            None,
                            Fault::LostAfter,
                        )),
                        added("6300", "Packaging"),
                    ],
                    rests: Rests::Equal,
                },
            ],
        },
        LookupStory {
            about: "Twelve projects at once are too many: the plan waits until somebody allows it.",
            lookup: "QAD Projects",
            list: List::Projects,
            acts: vec![
                fill(),
                Act {
                    changes: (301..=312)
                        .map(|number| added(&format!("P-{number}"), "New site"))
                        .collect(),
                    rests: Rests::Parked("LOOKUP_CHANGE_TOO_LARGE"),
                },
            ],
        },
    ]
}

impl List {
    fn values(self, world: &mut World) -> &mut Vec<CodedValue> {
        match self {
            Self::CostCenters => &mut world.qad.cost_centers,
            Self::Projects => &mut world.qad.projects,
            Self::GlAccounts => &mut world.qad.gl_accounts,
        }
    }

    fn read(self, world: &World) -> &[CodedValue] {
        match self {
            Self::CostCenters => &world.qad.cost_centers,
            Self::Projects => &world.qad.projects,
            Self::GlAccounts => &world.qad.gl_accounts,
        }
    }
}

/// Does what a change does to the world.
pub fn play(story: &LookupStory, change: &Change, world: &mut World, faults: &mut Faults) {
    let is = |code: &str| {
        let code = code.to_owned();
        move |value: &&mut CodedValue| value.code == code
    };
    match change {
        Change::Add(code, description) => story.list.values(world).push(CodedValue {
            code: code.clone(),
            description: (*description).to_owned(),
            active: true,
        }),
        Change::Describe(code, description) => {
            if let Some(value) = story.list.values(world).iter_mut().find(is(code)) {
                (*description).clone_into(&mut value.description);
            }
        }
        Change::Switch(code, active) => {
            if let Some(value) = story.list.values(world).iter_mut().find(is(code)) {
                value.active = *active;
            }
        }
        Change::ByHand(name) => {
            let value = [
                ("id", Value::from(BY_HAND_ID)),
                ("name", Value::from(*name)),
                ("active", Value::Bool(true)),
                ("lookup", serde_json::json!({"name": story.lookup})),
            ];
            let value: Map<String, Value> = value
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect();
            world.coupa.lookup_values.insert(BY_HAND_ID, value);
        }
        Change::ArmFault(rule) => faults.arm(rule.clone()),
    }
}

/// Where Coupa's lookup is not what QAD's list says; empty when both agree. Says it by the contract alone.
pub fn differences(story: &LookupStory, world: &World) -> Vec<String> {
    let mut shown: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for value in world.coupa.lookup_values.values() {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let of = value.get("lookup").and_then(|lookup| lookup.get("name"));
        if let (true, Some(number)) = (of == Some(&Value::from(story.lookup)), text("external-ref-num")) {
            let active = value.get("active") == Some(&Value::Bool(true));
            shown
                .entry(number)
                .or_default()
                .push((text("name").unwrap_or_default(), active));
        }
    }
    let mut differences = Vec::new();
    for value in story.list.read(world) {
        let name = if value.description.is_empty() {
            value.code.clone()
        } else {
            format!("{} {}", value.code, value.description)
        };
        match shown.remove(value.code.as_str()).as_deref() {
            None if !value.active => {}
            Some([(shown, active)]) if *shown == name && *active == value.active => {}
            other => differences.push(format!(
                "{name:?}, active {}: Coupa shows {other:?}",
                value.active
            )),
        }
    }
    for (number, values) in shown {
        if values.iter().any(|(_, active)| *active) {
            differences.push(format!("{number} is not in QAD: Coupa shows {values:?}"));
        }
    }
    differences
}
