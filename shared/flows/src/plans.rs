//! The record of a plan, see [`domain::plans`]: parked, allowed by a person, taken up, settled.

use crate::ports::{Collection, CommitError, RecordKey};
use crate::store::{Change, Context, Document, FlowError, Loaded, load as load_record, save};
use domain::lifecycle::ChainEnd;
use domain::plans::{PlanEvent, PlanRecord, PlanState};
use domain::problem::{Problem, clean};
use std::collections::BTreeSet;

/// Changes of a parked plan that are kept in words.
pub(crate) const CHANGES_TOLD_MAX: usize = 50;
/// Changes whose permission is remembered one by one; a larger plan is allowed in parts.
pub(crate) const ALLOWED_MAX: usize = 10_000;
/// Tries to write a plan's record against overlapping runs.
const RECORD_TRIES_MAX: u32 = 4;

/// Where the record of a lookup's plan lies, or of the suppliers'.
pub fn key(lookup: Option<&str>) -> RecordKey {
    match lookup {
        Some(lookup) => RecordKey::Entry {
            collection: Collection::LookupPlan,
            id: lookup.to_owned(),
        },
        None => RecordKey::Entry {
            collection: Collection::SupplierPlan,
            id: "all".to_owned(),
        },
    }
}

/// The record of a plan; a new one when there is none.
pub async fn load(context: &Context<'_>, lookup: Option<&str>) -> Result<Loaded<PlanRecord>, FlowError> {
    let loaded = load_record(context.register, key(lookup)).await?;
    Ok(loaded.unwrap_or_else(|| Loaded {
        document: PlanRecord::new(lookup),
        revision: 0,
    }))
}

/// The code of a plan that is to be allowed and does not wait for it.
pub fn not_parked(lookup: Option<&str>) -> &'static str {
    match lookup {
        Some(_) => "LOOKUP_PLAN_NOT_PARKED",
        None => "SUPPLIER_PLAN_NOT_PARKED",
    }
}

/// Allows the parked plan with this hash; the next run carries it out as long as it is still the same plan. A plan that has
/// changed meanwhile is parked anew.
pub async fn allow(
    context: &Context<'_>,
    lookup: Option<&str>,
    plan_sha256: &str,
    by: &str,
    reason: &str,
) -> Result<PlanRecord, FlowError> {
    for attempt in 0..RECORD_TRIES_MAX {
        let loaded = load(context, lookup).await?;
        let parked = matches!(&loaded.document.state, PlanState::Parked { plan_sha256: hash, .. } if hash == plan_sha256);
        if !parked || plan_sha256.is_empty() {
            let fix = "Read the plan again and allow the hash it shows.";
            return Err(FlowError::Broken(
                Problem::new(not_parked(lookup), fix)
                    .field(loaded.document.name())
                    .expected("the hash of the parked plan")
                    .actual(plan_sha256),
            ));
        }
        let mut document = loaded.document;
        if document.allowed_plan.as_deref() == Some(plan_sha256) {
            return Ok(document);
        }
        document.allowed_plan = Some(plan_sha256.to_owned());
        let event = PlanEvent::Allowed {
            plan_sha256: plan_sha256.to_owned(),
            by: clean(by),
            reason: clean(reason),
        };
        let change = Change {
            document,
            events: vec![event],
            writes: vec![],
        };
        match save(context, loaded.revision, change).await {
            Ok(saved) => return Ok(saved.document),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FlowError::Contended)
}

/// Writes a plan's record when that changes it. An overlapping run that was faster has told its own view of the same plan;
/// the next run corrects whichever was wrong.
pub(crate) async fn tell(
    context: &Context<'_>,
    before: Loaded<PlanRecord>,
    document: PlanRecord,
    events: Vec<PlanEvent>,
) -> Result<Loaded<PlanRecord>, FlowError> {
    if document == before.document {
        return Ok(before);
    }
    let change = Change {
        document,
        events,
        writes: vec![],
    };
    match save(context, before.revision, change).await {
        Ok(saved) => Ok(saved),
        Err(CommitError::Conflict) => load(context, before.document.lookup.as_deref()).await,
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

/// What a plan waits for a person with.
pub(crate) struct Parking {
    pub(crate) problem: Problem,
    /// Blank when there is nothing to allow.
    pub(crate) plan_sha256: String,
    pub(crate) changes: Vec<String>,
    /// What stays allowed; `None` leaves that as it is.
    pub(crate) allowed: Option<BTreeSet<String>>,
}

/// Rests until a person has looked. `open` says that writes of an earlier run may not be finished.
pub(crate) async fn park(
    context: &Context<'_>,
    record: Loaded<PlanRecord>,
    open: bool,
    parking: Parking,
) -> Result<(), FlowError> {
    let mut document = record.document.clone();
    document.unsettled = open;
    if let Some(allowed) = parking.allowed {
        document.allowed = allowed;
        document.allowed_plan = None;
        document.filling = false;
    }
    let Parking {
        problem,
        plan_sha256,
        changes,
        ..
    } = parking;
    let known = matches!(&document.state, PlanState::Parked { problem: old, plan_sha256: hash, .. }
        if old.code == problem.code && *hash == plan_sha256);
    let mut events = Vec::new();
    if !known {
        document.state = PlanState::Parked {
            problem: problem.clone(),
            plan_sha256: plan_sha256.clone(),
            changes,
        };
        events.push(PlanEvent::Parked { problem, plan_sha256 });
    }
    tell(context, record, document, events).await.map(drop)
}

/// What is written on a plan's record before the first byte of a run leaves.
pub(crate) struct Mark {
    pub(crate) hash: String,
    pub(crate) first_fill: bool,
    pub(crate) digests: BTreeSet<String>,
    pub(crate) summary: String,
}

/// Said before the first write of a run: one that dies leaves a mark, and the rest of what was allowed stays allowed.
pub(crate) async fn begin(
    context: &Context<'_>,
    record: Loaded<PlanRecord>,
    mark: Mark,
) -> Result<Loaded<PlanRecord>, FlowError> {
    let mut document = record.document.clone();
    document.unsettled = true;
    document.filling |= mark.first_fill;
    if document.allowed_plan.as_deref() == Some(mark.hash.as_str()) {
        document.allowed = mark.digests;
        document.allowed_plan = None;
    }
    let news = document.state != PlanState::Applying;
    document.state = PlanState::Applying;
    let event = PlanEvent::Applying {
        plan_sha256: mark.hash,
        summary: mark.summary,
    };
    let events = if news { vec![event] } else { vec![] };
    tell(context, record, document, events).await
}

/// Rests with nothing left to do: what was allowed is done.
pub(crate) async fn settle(
    context: &Context<'_>,
    record: Loaded<PlanRecord>,
    open: bool,
) -> Result<(), FlowError> {
    if record.revision == 0 {
        return Ok(());
    }
    let mut document = record.document.clone();
    document.unsettled = open;
    document.filling = false;
    document.allowed.clear();
    document.allowed_plan = None;
    let news = document.state != PlanState::Settled;
    document.state = PlanState::Settled;
    let events = if news { vec![PlanEvent::Settled] } else { vec![] };
    tell(context, record, document, events).await.map(drop)
}

impl Document for PlanRecord {
    fn key(&self) -> RecordKey {
        key(self.lookup.as_deref())
    }
    fn audit_name(&self) -> String {
        match &self.lookup {
            Some(lookup) => format!("lookup/{lookup}"),
            None => "suppliers/plan".to_owned(),
        }
    }
    fn state_word(&self) -> &'static str {
        match self.state {
            PlanState::Settled => "settled",
            PlanState::Applying => "applying",
            PlanState::Parked { .. } => "parked",
        }
    }
    /// The schedule looks at it anyway.
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}
