//! Lookup values: what must be done in Coupa so that one of its lookups shows what a QAD list shows.
//!
//! The plan is a pure function of both sides. It only ever creates, renames, activates and deactivates: nothing is
//! deleted, what a person made in Coupa (a value without `external-ref-num`) is never touched, and a list that came
//! empty is never taken for "deactivate everything". Carrying a plan out leaves an empty one.

use crate::effect::{Effect, EffectEvent};
use crate::ids::{IdError, fold};
use crate::lifecycle::{ChainEnd, IllegalStep};
use crate::plans::ChangeShare;
use crate::problem::{Problem, clean};
use crate::time::Timestamp;
use crate::timing::Timing;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Longest name of a lookup value, in characters (assumed from Coupa's text fields; longer descriptions are cut).
pub const NAME_CHARACTERS_MAX: usize = 255;
/// Deepest level of values below values.
pub const DEPTH_MAX: usize = 10;
/// Most values of one list; Coupa and QAD are read completely or not at all.
pub const VALUES_MAX: usize = 20_000;
/// Code of Coupa's refusal of a value whose name or number another one has: not applied, and worth a look-up.
pub const VALUE_TAKEN: &str = "COUPA_LOOKUP_VALUE_TAKEN";
/// Code of Coupa's refusal of a value whose lookup does not exist: it is the same for all values.
pub const LOOKUP_MISSING: &str = "COUPA_LOOKUP_MISSING";
/// Separates the codes of a path, from the root, in texts and keys.
const PATH_SEPARATOR: &str = "\u{1f}";

/// The code of a value in QAD: Coupa's `external-ref-num`. Compared without case and surrounding blanks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LookupCode(String);

impl LookupCode {
    /// Longest code, in characters (assumed; QAD's own codes are far shorter).
    pub const CHARACTERS_MAX: usize = 100;

    /// The code as it was written, without surrounding blanks.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which codes are compared.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }
}

impl FromStr for LookupCode {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let trimmed = text.trim();
        let length = trimmed.chars().count();
        if length == 0 || length > Self::CHARACTERS_MAX || trimmed.chars().any(char::is_control) {
            return Err(IdError {
                kind: "lookup code",
                expected: format!(
                    "1 to {} characters without control characters",
                    Self::CHARACTERS_MAX
                ),
                actual: text.chars().take(60).collect(),
            });
        }
        Ok(Self(trimmed.to_owned()))
    }
}

impl TryFrom<String> for LookupCode {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<LookupCode> for String {
    fn from(code: LookupCode) -> Self {
        code.0
    }
}

impl fmt::Display for LookupCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl PartialEq for LookupCode {
    fn eq(&self, other: &Self) -> bool {
        self.folded() == other.folded()
    }
}
impl Eq for LookupCode {}
impl PartialOrd for LookupCode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for LookupCode {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

/// One value as QAD lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QadValue {
    /// Its code.
    pub code: LookupCode,
    /// Its description; may be blank.
    pub description: String,
    /// Whether it may be used.
    pub active: bool,
    /// The code of the value above it in the same list, when the list has levels.
    pub parent: Option<LookupCode>,
}

/// What Coupa says of the value above another one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ParentReference {
    /// Coupa's id of it, when given.
    pub id: Option<u64>,
    /// Its path of reference numbers (`external-ref-code`), when given.
    pub external_ref_code: Option<String>,
}

/// One value as Coupa holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoupaValue {
    /// Coupa's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it can be chosen.
    pub active: bool,
    /// `external-ref-num`: the QAD code. `None` says that a person made it.
    pub code: Option<String>,
    /// `external-ref-code`, given by Coupa: the path of reference numbers from the root.
    pub external_ref_code: Option<String>,
    /// The value above it.
    pub parent: Option<ParentReference>,
}

/// What is done to one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// QAD has it, Coupa does not.
    Create,
    /// Its description changed.
    Rename,
    /// QAD has it active again.
    Reactivate,
    /// QAD has it inactive, or not any more.
    Deactivate,
}

impl ActionKind {
    /// The one word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Rename => "rename",
            Self::Reactivate => "reactivate",
            Self::Deactivate => "deactivate",
        }
    }
}

/// One change in Coupa: the whole state that the value shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What is done.
    pub kind: ActionKind,
    /// Codes from the root to the value; the last one is its own.
    pub path: Vec<LookupCode>,
    /// Coupa's id; `None` for what is created.
    pub id: Option<u64>,
    /// `external-ref-code` of the value above, for what is created below another.
    pub parent_ref_code: Option<String>,
    /// Coupa's id of the value above, for what is created below another: answers name either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<u64>,
    /// The name it has in Coupa; blank for what is created.
    pub name_before: String,
    /// The name it shall have.
    pub name: String,
    /// Whether it shall be active.
    pub active: bool,
}

impl Action {
    /// The value's own code.
    pub fn code(&self) -> Option<&LookupCode> {
        self.path.last()
    }

    /// What the register knows the value by inside its lookup.
    pub fn path_key(&self) -> String {
        path_key(&self.path)
    }

    /// The text two equal changes have in common: what an approval names.
    pub fn identity(&self) -> String {
        [
            self.kind.word(),
            &self.path_key(),
            &self.name,
            if self.active { "1" } else { "0" },
        ]
        .join("\u{1e}")
    }

    /// Whether a value of Coupa is the one this change is about: its id when there is one, its code, and for a new one
    /// the value above it, by whatever of it Coupa shows.
    pub fn is_about(&self, value: &CoupaValue) -> bool {
        let code = value
            .code
            .as_deref()
            .and_then(|code| code.parse::<LookupCode>().ok());
        if code.as_ref() != self.code() || self.id.is_some_and(|id| id != value.id) {
            return false;
        }
        self.id.is_some() || self.is_below_the_same(value)
    }

    fn is_below_the_same(&self, value: &CoupaValue) -> bool {
        let shown = value.parent.clone().unwrap_or_default();
        let Some(wanted) = &self.parent_ref_code else {
            return shown == ParentReference::default();
        };
        if shown.external_ref_code.as_ref() == Some(wanted) {
            return true;
        }
        if shown.id.is_some() && shown.id == self.parent_id {
            return true;
        }
        // An answer that leaves the parent out still shows the path.
        let path = value.external_ref_code.as_deref().unwrap_or_default();
        let own = self.code().map(LookupCode::as_str).unwrap_or_default();
        let between = path
            .strip_prefix(wanted.as_str())
            .and_then(|rest| rest.strip_suffix(own));
        shown == ParentReference::default() && between.is_some_and(|between| !between.is_empty())
    }

    /// Whether a value of Coupa shows what this change asks for.
    pub fn is_shown_by(&self, value: &CoupaValue) -> bool {
        value.name == self.name && value.active == self.active
    }

    /// In words, for people.
    pub fn sentence(&self) -> String {
        match self.kind {
            ActionKind::Create => format!("create \"{}\"", self.name),
            ActionKind::Rename => format!("rename \"{}\" to \"{}\"", self.name_before, self.name),
            ActionKind::Reactivate => format!("reactivate \"{}\"", self.name),
            ActionKind::Deactivate => format!("deactivate \"{}\"", self.name_before),
        }
    }
}

/// The key of a path inside its lookup: its folded codes.
pub fn path_key(path: &[LookupCode]) -> String {
    path.iter()
        .map(LookupCode::folded)
        .collect::<Vec<_>>()
        .join(PATH_SEPARATOR)
}

/// What must be done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LookupPlan {
    /// The changes that can be made now, in their order: creates and activations from the root down, then renames, then
    /// deactivations from the leaves up.
    pub actions: Vec<Action>,
    /// Values whose parent must be created first; they are planned again when it is there. They count as changes.
    pub after_parents: Vec<Action>,
    /// Values that are left as they are until a person has corrected something, and why.
    pub blocked: Vec<Problem>,
    /// Active values in Coupa that carry a code: what the size of a change is measured against.
    pub ours_active: usize,
    /// True when no value in Coupa carries a code yet.
    pub first_fill: bool,
    /// Values in Coupa that a person made; never touched.
    pub by_people: usize,
}

impl LookupPlan {
    /// All changes, also those that wait for their parents.
    pub fn changes(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter().chain(&self.after_parents)
    }

    /// How many.
    pub fn change_count(&self) -> usize {
        self.actions.len().saturating_add(self.after_parents.len())
    }

    /// True when both sides agree.
    pub fn is_empty(&self) -> bool {
        self.change_count() == 0
    }

    /// How many of one kind.
    pub fn count(&self, kind: ActionKind) -> usize {
        self.changes().filter(|action| action.kind == kind).count()
    }

    /// The text whose hash an approval names: every change, in a fixed order.
    pub fn identity(&self) -> String {
        let all: BTreeSet<String> = self.changes().map(Action::identity).collect();
        all.into_iter().collect::<Vec<_>>().join("\u{1d}")
    }

    /// For people: how many of each kind.
    pub fn summary(&self) -> String {
        use ActionKind::{Create, Deactivate, Reactivate, Rename};
        [Create, Rename, Reactivate, Deactivate]
            .into_iter()
            .filter(|kind| self.count(*kind) > 0)
            .map(|kind| format!("{} {}", kind.word(), self.count(kind)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Why a plan is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// It may be carried out.
    Open,
    /// It is larger than the policy lets through; a person may allow exactly this plan.
    TooLarge(Problem),
}

/// Whether the plan is small enough. Changes that are `excused` (allowed already, or the rest of a first fill) do not
/// count. The first fill of a lookup in which no value is ours is let through whatever its size: it can destroy nothing.
pub fn guard(
    lookup: &str,
    plan: &LookupPlan,
    policy: &ChangeShare,
    excused: impl Fn(&Action) -> bool,
) -> Guard {
    let most = policy.most(plan.ours_active);
    let counted = plan.changes().filter(|action| !excused(action)).count();
    if plan.first_fill || counted <= most {
        return Guard::Open;
    }
    let fix = "Read the plan. If it is right, allow it; else correct the list in QAD or the source in the connection.";
    Guard::TooLarge(
        Problem::new("LOOKUP_CHANGE_TOO_LARGE", fix)
            .field(lookup)
            .expected(policy.words(plan.ours_active, "active values"))
            .actual(plan.summary()),
    )
}

/// A list that came empty. QAD answers an unknown browse with success and no rows (seen), so this is never "all gone".
pub fn empty_source(lookup: &str, source: &str) -> Problem {
    let fix =
        "Check the source's browse, its filters and the user's rights in QAD; nothing was changed in Coupa.";
    Problem::new("LOOKUP_SOURCE_EMPTY", fix)
        .field(lookup)
        .expected(format!("at least one value in {source}"))
        .actual("none")
}

/// The name of a value in Coupa: code and description, or the code alone. Control characters become blanks, the length
/// is bounded.
pub fn value_name(code: &LookupCode, description: &str) -> String {
    let description = clean(description);
    let full = match description.trim() {
        "" => code.as_str().to_owned(),
        words => format!("{code} {words}"),
    };
    full.chars()
        .take(NAME_CHARACTERS_MAX)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

/// What the list of QAD says, value by value.
struct Wanted {
    path: Vec<LookupCode>,
    name: String,
    active: bool,
}

/// What must be done so that Coupa shows what QAD shows. `unreadable` names the codes of rows that could not be read:
/// their values in Coupa are left alone. A row without a readable code (`None`) could be any value, so then nothing is
/// deactivated for being absent.
pub fn plan(qad: &[QadValue], coupa: &[CoupaValue], unreadable: &[Option<LookupCode>]) -> LookupPlan {
    let mut blocked = Vec::new();
    let mut untouchable: BTreeSet<String> = unreadable.iter().flatten().map(LookupCode::folded).collect();
    // An empty list is never "all gone" (see `empty_source`).
    let nothing_is_absent = qad.is_empty() || unreadable.iter().any(Option::is_none);
    let wanted = wanted(qad, &mut untouchable, &mut blocked);
    let ours = ours(coupa, &mut untouchable, &mut blocked);
    let is_free = |path: &[LookupCode]| !path.iter().any(|code| untouchable.contains(&code.folded()));

    let mut actions = Vec::new();
    let mut after_parents = Vec::new();
    for (key, wish) in wanted.iter().filter(|(_, wish)| is_free(&wish.path)) {
        match ours.get(key) {
            Some(value) => actions.extend(change_of(wish, value)),
            None if wish.active => match parent_of(&wish.path, &ours) {
                Parent::None => actions.push(creation(wish, None)),
                Parent::There(code, id) => actions.push(creation(wish, Some((code, id)))),
                Parent::Missing => after_parents.push(creation(wish, None)),
            },
            // Inactive in QAD and never in Coupa: both agree that nobody can choose it.
            None => {}
        }
    }
    if !nothing_is_absent {
        let gone = ours
            .iter()
            .filter(|(key, value)| !wanted.contains_key(*key) && value.value.active && is_free(&value.path));
        actions.extend(gone.map(|(_, value)| deactivation(value)));
    }
    let (mut actions, taken) = without_taken_names(actions, coupa);
    let (after_parents, doubled) = without_orphans(after_parents, &wanted, &actions);
    blocked.extend(taken);
    blocked.extend(doubled);
    actions.sort_by_key(order_of);
    LookupPlan {
        actions,
        after_parents,
        blocked,
        ours_active: ours.values().filter(|value| value.value.active).count(),
        first_fill: !coupa.iter().any(|value| value.code.is_some()),
        by_people: coupa.iter().filter(|value| value.code.is_none()).count(),
    }
}

/// First what adds (from the root down), then renames, last what takes away (from the leaves up).
fn order_of(action: &Action) -> (u8, usize, String) {
    let depth = action.path.len();
    match action.kind {
        ActionKind::Create | ActionKind::Reactivate => (0, depth, action.path_key()),
        ActionKind::Rename => (1, depth, action.path_key()),
        ActionKind::Deactivate => (2, usize::MAX.saturating_sub(depth), action.path_key()),
    }
}

fn creation(wish: &Wanted, parent: Option<(String, u64)>) -> Action {
    let (parent_ref_code, parent_id) = parent.unzip();
    Action {
        kind: ActionKind::Create,
        path: wish.path.clone(),
        id: None,
        parent_ref_code,
        parent_id,
        name_before: String::new(),
        name: wish.name.clone(),
        active: true,
    }
}

fn deactivation(ours: &Ours<'_>) -> Action {
    Action {
        kind: ActionKind::Deactivate,
        path: ours.path.clone(),
        id: Some(ours.value.id),
        parent_ref_code: None,
        parent_id: None,
        name_before: ours.value.name.clone(),
        name: ours.value.name.clone(),
        active: false,
    }
}

fn change_of(wish: &Wanted, ours: &Ours<'_>) -> Option<Action> {
    let value = ours.value;
    let kind = match (wish.active, value.active) {
        (true, false) => ActionKind::Reactivate,
        (false, true) => ActionKind::Deactivate,
        _ if wish.name != value.name => ActionKind::Rename,
        _ => return None,
    };
    Some(Action {
        kind,
        path: wish.path.clone(),
        id: Some(value.id),
        parent_ref_code: None,
        parent_id: None,
        name_before: value.name.clone(),
        name: wish.name.clone(),
        active: wish.active,
    })
}

enum Parent {
    None,
    There(String, u64),
    Missing,
}

fn parent_of(path: &[LookupCode], ours: &BTreeMap<String, Ours<'_>>) -> Parent {
    let Some((_, above)) = path.split_last() else {
        return Parent::None;
    };
    if above.is_empty() {
        return Parent::None;
    }
    let parent = ours.get(&path_key(above)).map(|parent| parent.value);
    parent
        .and_then(|parent| Some((reference_path(parent)?, parent.id)))
        .map_or(Parent::Missing, |(code, id)| Parent::There(code, id))
}

/// What a value is referred to by: `external-ref-code`, which at the root is its own number.
fn reference_path(value: &CoupaValue) -> Option<String> {
    let at_the_root = || value.code.clone().filter(|_| value.parent.is_none());
    value.external_ref_code.clone().or_else(at_the_root)
}

/// Paths and names of what QAD lists. A code that comes twice with different content, and a parent that is not there,
/// block the values concerned.
fn wanted(
    qad: &[QadValue],
    untouchable: &mut BTreeSet<String>,
    blocked: &mut Vec<Problem>,
) -> BTreeMap<String, Wanted> {
    let mut by_code: BTreeMap<String, &QadValue> = BTreeMap::new();
    for value in qad {
        match by_code.insert(value.code.folded(), value) {
            Some(other) if other != value => {
                untouchable.insert(value.code.folded());
                let fix = "Narrow the source's filters (domain, shared set) so that each code comes once.";
                blocked.push(
                    Problem::new("LOOKUP_CODE_TWICE", fix)
                        .field(value.code.as_str())
                        .expected("one row per code")
                        .actual(format!("\"{}\" and \"{}\"", other.description, value.description)),
                );
            }
            _ => {}
        }
    }
    let mut wanted: BTreeMap<String, Wanted> = BTreeMap::new();
    let mut names: BTreeMap<(String, String), String> = BTreeMap::new();
    for value in by_code.values() {
        let Some(path) = path_of(value, &by_code) else {
            untouchable.insert(value.code.folded());
            let fix = "Correct the parent of this value in QAD; a parent must be in the same list.";
            blocked.push(
                Problem::new("LOOKUP_PARENT_UNKNOWN", fix)
                    .field(value.code.as_str())
                    .expected(format!("a parent in the list, at most {DEPTH_MAX} levels"))
                    .actual(value.parent.as_ref().map_or("", LookupCode::as_str)),
            );
            continue;
        };
        let name = value_name(&value.code, &value.description);
        let above = path
            .split_last()
            .map(|(_, above)| path_key(above))
            .unwrap_or_default();
        if let Some(first) = names.insert((above.clone(), fold(&name)), value.code.to_string()) {
            untouchable.insert(value.code.folded());
            blocked.push(name_taken(
                &value.code,
                &name,
                &format!("the value of code {first} in QAD"),
            ));
            names.insert((above, fold(&name)), first);
            continue;
        }
        wanted.insert(
            path_key(&path),
            Wanted {
                path,
                name,
                active: value.active,
            },
        );
    }
    wanted
}

fn name_taken(code: &LookupCode, name: &str, by: &str) -> Problem {
    let fix = "Change one of the two descriptions; names are unique in a lookup of Coupa.";
    Problem::new("LOOKUP_NAME_TAKEN", fix)
        .field(code.as_str())
        .expected(format!("no other value named \"{name}\""))
        .actual(by)
}

fn path_of(value: &QadValue, all: &BTreeMap<String, &QadValue>) -> Option<Vec<LookupCode>> {
    let mut path = vec![value.code.clone()];
    let mut here = value;
    while let Some(parent) = &here.parent {
        if path.len() >= DEPTH_MAX {
            return None;
        }
        here = all.get(&parent.folded())?;
        path.push(here.code.clone());
    }
    path.reverse();
    Some(path)
}

/// A value in Coupa that carries a code, and its path.
struct Ours<'a> {
    path: Vec<LookupCode>,
    value: &'a CoupaValue,
}

/// The values with a code below values with a code, by path. Everything else is a person's.
fn ours<'a>(
    coupa: &'a [CoupaValue],
    untouchable: &mut BTreeSet<String>,
    blocked: &mut Vec<Problem>,
) -> BTreeMap<String, Ours<'a>> {
    let by_id: BTreeMap<u64, &CoupaValue> = coupa.iter().map(|value| (value.id, value)).collect();
    let by_ref: BTreeMap<String, &CoupaValue> = coupa
        .iter()
        .filter_map(|value| reference_path(value).map(|code| (code, value)))
        .collect();
    let mut ours: BTreeMap<String, Ours<'a>> = BTreeMap::new();
    for value in coupa {
        let Some(path) = coupa_path(value, &by_id, &by_ref) else {
            continue;
        };
        let Some(code) = path.last().cloned() else {
            continue;
        };
        if let Some(other) = ours.insert(path_key(&path), Ours { path, value }) {
            untouchable.insert(code.folded());
            let fix = "Take the reference number off the value in Coupa that is not used.";
            blocked.push(
                Problem::new("LOOKUP_REFERENCE_TWICE", fix)
                    .field(code.as_str())
                    .expected("one value in Coupa with this external-ref-num")
                    .actual(format!("ids {} and {}", other.value.id, value.id)),
            );
        }
    }
    ours
}

fn coupa_path(
    value: &CoupaValue,
    by_id: &BTreeMap<u64, &CoupaValue>,
    by_ref: &BTreeMap<String, &CoupaValue>,
) -> Option<Vec<LookupCode>> {
    let mut path: Vec<LookupCode> = vec![value.code.as_ref()?.parse().ok()?];
    let mut here = value;
    while let Some(parent) = &here.parent {
        if path.len() >= DEPTH_MAX {
            return None;
        }
        let by_reference = || {
            parent
                .external_ref_code
                .as_deref()
                .and_then(|code| by_ref.get(code))
        };
        here = parent.id.and_then(|id| by_id.get(&id)).or_else(by_reference)?;
        path.push(here.code.as_ref()?.parse().ok()?);
    }
    path.reverse();
    Some(path)
}

/// Takes out what Coupa would refuse because another value below the same parent has the name.
fn without_taken_names(actions: Vec<Action>, coupa: &[CoupaValue]) -> (Vec<Action>, Vec<Problem>) {
    let by_id: BTreeMap<u64, &CoupaValue> = coupa.iter().map(|value| (value.id, value)).collect();
    let mut holders: BTreeMap<String, Vec<&CoupaValue>> = BTreeMap::new();
    for value in coupa {
        holders.entry(fold(&value.name)).or_default().push(value);
    }
    let parent_of = |value: &CoupaValue| -> Option<String> {
        let parent = value.parent.as_ref()?;
        let by_id = parent
            .id
            .and_then(|id| by_id.get(&id))
            .and_then(|parent| reference_path(parent));
        parent
            .external_ref_code
            .clone()
            .or(by_id)
            .or_else(|| parent.id.map(|id| format!("id {id}")))
    };
    let mut taken = Vec::new();
    let kept = actions
        .into_iter()
        .filter(|action| {
            let above = match action.id.and_then(|id| by_id.get(&id)) {
                Some(value) => parent_of(value),
                None => action.parent_ref_code.clone(),
            };
            let holder = holders.get(&fold(&action.name)).and_then(|values| {
                values
                    .iter()
                    .find(|value| Some(value.id) != action.id && parent_of(value) == above)
            });
            let (Some(holder), Some(code)) = (holder, action.code()) else {
                return true;
            };
            // Deactivating sends no new name that was not there before.
            if action.name == action.name_before {
                return true;
            }
            taken.push(name_taken(
                code,
                &action.name,
                &format!("the value with id {} in Coupa", holder.id),
            ));
            false
        })
        .collect();
    (kept, taken)
}

/// Keeps the values whose parents will be there after this plan; the others have a parent that never comes.
fn without_orphans(
    waiting: Vec<Action>,
    wanted: &BTreeMap<String, Wanted>,
    actions: &[Action],
) -> (Vec<Action>, Vec<Problem>) {
    let mut coming: BTreeSet<String> = actions
        .iter()
        .filter(|action| action.kind == ActionKind::Create)
        .map(Action::path_key)
        .collect();
    let mut sorted = waiting;
    sorted.sort_by_key(|action| (action.path.len(), action.path_key()));
    let mut kept = Vec::new();
    let mut problems = Vec::new();
    for action in sorted {
        let above = action
            .path
            .split_last()
            .map(|(_, above)| above.to_vec())
            .unwrap_or_default();
        let key = path_key(&above);
        if coming.contains(&key) {
            coming.insert(action.path_key());
            kept.push(action);
            continue;
        }
        let parent_is_inactive = wanted.get(&key).is_some_and(|parent| !parent.active);
        let fix = "Activate the parent in QAD, or give the value another parent.";
        if let (Some(code), Some(parent)) = (action.code(), above.last()) {
            let why = if parent_is_inactive {
                "inactive in QAD and not in Coupa"
            } else {
                "blocked itself, or without a reference code in Coupa"
            };
            problems.push(
                Problem::new("LOOKUP_PARENT_MISSING", fix)
                    .field(code.as_str())
                    .expected(format!("its parent {parent} in Coupa"))
                    .actual(why),
            );
        }
    }
    (kept, problems)
}

// ---------------------------------------------------------------------------------------------------------------
// Records
// ---------------------------------------------------------------------------------------------------------------

/// The layout of the records that this version writes.
pub const RECORD_SCHEMA: u32 = 1;

/// What was written to Coupa for one value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupValueRecord {
    /// Layout, see [`RECORD_SCHEMA`].
    pub schema: u32,
    /// The lookup.
    pub lookup: String,
    /// Codes from the root to the value.
    pub path: Vec<LookupCode>,
    /// Coupa's id, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The write under way, or the last one; its request is an [`Action`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// When the last write ended.
    #[serde(default)]
    pub written_at: Timestamp,
    /// Where its audit chain ends.
    pub chain: ChainEnd,
}

/// Something happened to a write of a value: what its audit trail holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupValueEvent {
    /// What is done.
    pub action: ActionKind,
    /// The name it shall have.
    pub name: String,
    /// What happened.
    pub step: EffectEvent,
    /// The claim under which it happened.
    pub fence: u64,
}

impl LookupValueRecord {
    /// A record of a value nothing was written for.
    pub fn new(lookup: &str, path: Vec<LookupCode>) -> Self {
        Self {
            schema: RECORD_SCHEMA,
            lookup: lookup.to_owned(),
            path,
            id: None,
            effect: None,
            written_at: Timestamp::default(),
            chain: ChainEnd::default(),
        }
    }

    /// Its id in the register: lookup and path.
    pub fn record_id(lookup: &str, path: &[LookupCode]) -> String {
        let part = |text: &str| text.replace('%', "%25").replace('/', "%2F");
        let codes = path.iter().map(|code| part(&code.folded()));
        std::iter::once(part(lookup))
            .chain(codes)
            .collect::<Vec<_>>()
            .join("/")
    }

    /// True while a write of it is not finished.
    pub fn is_open(&self) -> bool {
        self.effect.as_ref().is_some_and(|effect| !effect.is_finished())
    }

    /// Moves the effect and tells it: the record after, and the event for the audit trail.
    pub fn advance(
        &self,
        action: &Action,
        event: EffectEvent,
        now: Timestamp,
        timing: &Timing,
    ) -> Result<(Self, LookupValueEvent), IllegalStep> {
        let effect = self.effect.as_ref().ok_or(IllegalStep::NoEffect)?;
        let moved = effect.after(&event, now, timing)?;
        let told = LookupValueEvent {
            action: action.kind,
            name: action.name.clone(),
            step: event,
            fence: moved.fence,
        };
        let mut next = self.clone();
        if moved.is_finished() {
            next.written_at = now;
        }
        next.effect = Some(moved);
        Ok((next, told))
    }
}

#[cfg(test)]
mod tests;
