//! A plan of many changes, and the person who lets it through: how large a change may be, and where a plan stands.
//!
//! What would change more than its share waits. A person allows exactly the plan that was shown, by its hash; another plan
//! waits anew. Suppliers and lookups share all of it.

use crate::lifecycle::ChainEnd;
use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The layout of [`PlanRecord`] that this version writes.
pub const RECORD_SCHEMA: u32 = 1;

/// How large a change may be before a person must allow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeShare {
    /// Percent of what is kept that may change at once.
    pub change_percent_max: u32,
    /// Changes that are always let through, however little is kept.
    pub change_count_min: u32,
}

impl Default for ChangeShare {
    /// 20 percent, at least 10.
    fn default() -> Self {
        Self {
            change_percent_max: 20,
            change_count_min: 10,
        }
    }
}

impl ChangeShare {
    /// Most changes at once where so many are kept.
    pub fn most(&self, kept: usize) -> usize {
        let least = usize::try_from(self.change_count_min).unwrap_or(usize::MAX);
        let percent = usize::try_from(self.change_percent_max).unwrap_or(usize::MAX);
        let share = kept.saturating_mul(percent).checked_div(100).unwrap_or(0);
        least.max(share)
    }

    /// The rule in words: `at most 10 changes (20 % of 3 active values, at least 10)`.
    pub fn words(&self, kept: usize, what: &str) -> String {
        format!(
            "at most {} changes ({} % of {kept} {what}, at least {})",
            self.most(kept),
            self.change_percent_max,
            self.change_count_min
        )
    }
}

/// Where a plan stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum PlanState {
    /// Nothing was planned that is not done.
    Settled,
    /// A plan is being carried out.
    Applying,
    /// Waits for a person.
    Parked {
        /// Why.
        problem: Problem,
        /// Hash of the plan; an approval names it. Blank when there is nothing to allow.
        plan_sha256: String,
        /// The first changes, in words.
        changes: Vec<String>,
    },
}

/// The plan of one lookup, or of the suppliers, and what a person allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// Layout, see [`RECORD_SCHEMA`].
    pub schema: u32,
    /// The lookup; none: it is the suppliers'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup: Option<String>,
    /// Where it stands.
    pub state: PlanState,
    /// True while a write of one of a lookup's values may not be finished.
    #[serde(default)]
    pub unsettled: bool,
    /// True while the first fill of a lookup is under way: creates are let through whatever their number.
    #[serde(default)]
    pub filling: bool,
    /// Digests of the changes that a person allowed and that may not be carried out yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed: BTreeSet<String>,
    /// Hash of a parked plan that a person allowed and that is taken up with the next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_plan: Option<String>,
    /// Where its audit chain ends.
    pub chain: ChainEnd,
}

impl PlanRecord {
    /// A record of what was never looked at: a lookup, or the suppliers.
    pub fn new(lookup: Option<&str>) -> Self {
        Self {
            schema: RECORD_SCHEMA,
            lookup: lookup.map(str::to_owned),
            state: PlanState::Settled,
            unsettled: false,
            filling: false,
            allowed: BTreeSet::new(),
            allowed_plan: None,
            chain: ChainEnd::default(),
        }
    }

    /// What it is a plan of, for people.
    pub fn name(&self) -> &str {
        self.lookup.as_deref().unwrap_or("suppliers")
    }

    /// True when it is parked and no person has allowed it yet.
    pub fn waits_for_a_person(&self) -> bool {
        matches!(self.state, PlanState::Parked { .. }) && self.allowed_plan.is_none()
    }
}

/// One step in the life of a plan: what the audit trail holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum PlanEvent {
    /// It is being carried out.
    Applying {
        /// Hash of the plan.
        plan_sha256: String,
        /// How many changes of each kind.
        summary: String,
    },
    /// A person must look.
    Parked {
        /// Why.
        problem: Problem,
        /// Hash of the plan.
        plan_sha256: String,
    },
    /// A person allowed a parked plan.
    Allowed {
        /// Hash of the plan.
        plan_sha256: String,
        /// Who, as they call themselves.
        by: String,
        /// Why.
        reason: String,
    },
    /// Both sides agree.
    Settled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_may_change_at_once_and_ten_always() {
        let share = ChangeShare::default();
        for (kept, most) in [
            (0, 10),
            (1, 10),
            (54, 10),
            (55, 11),
            (3_000, 600),
            (usize::MAX, usize::MAX / 100),
        ] {
            assert_eq!(share.most(kept), most, "{kept}");
        }
        let words = share.words(55, "linked suppliers");
        assert_eq!(
            words,
            "at most 11 changes (20 % of 55 linked suppliers, at least 10)"
        );
    }

    /// Records that earlier versions wrote are a lookup's.
    #[test]
    fn a_record_names_its_lookup_or_is_the_suppliers() {
        let lookup = PlanRecord::new(Some("QAD Projects"));
        let stored = serde_json::to_value(&lookup).unwrap();
        assert_eq!(stored["lookup"], "QAD Projects");
        assert_eq!(serde_json::from_value::<PlanRecord>(stored).unwrap(), lookup);
        assert_eq!(
            (lookup.name(), PlanRecord::new(None).name()),
            ("QAD Projects", "suppliers")
        );
    }
}
