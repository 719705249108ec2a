//! Keeps Coupa's lookups equal to QAD's tracking categories: cost centers, projects, accounts, any list by configuration.
//!
//! Both sides are read completely, the difference is a plan ([`domain::lookups::plan`]), and the plan is carried out
//! value by value through the effect engine. There is no cursor that could lose something: a run that dies is made up for
//! by the next one, which plans from what both sides show then. A plan that is too large waits for a person.

use crate::engine::{Driven, Finding, Proof, Target, drive};
use crate::invoice_effects::new_effect;
use crate::poll_coupa::PollError;
use crate::ports::{
    Collection, CommitError, CoupaLookups, QadSources, ReadError, RecordGroup, RecordKey, WriteError,
};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, parse, save, sha256_hex};
use async_trait::async_trait;
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition};
use domain::lifecycle::{ChainEnd, IllegalStep};
use domain::lookups::{
    Action, ActionKind, CoupaValue, DEPTH_MAX, Guard, LookupCode, LookupPlan, LookupPlanEvent,
    LookupPlanRecord, LookupPolicy, LookupValueEvent, LookupValueRecord, PlanState, empty_source, guard,
    plan,
};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use serde::{Deserialize, Serialize};

/// Refusals in a row after which a lookup is left for the next run: the reason is the same for all (no such lookup, no
/// right), and a person must act.
const REFUSALS_MAX: u32 = 5;
/// How long a refused change is not sent again while it stays the same, in milliseconds (23 hours).
pub const REFUSED_RETRY_MILLIS: i64 = 23 * 3_600_000;
/// Changes of a parked plan that are kept in words.
const CHANGES_TOLD_MAX: usize = 50;
/// Changes whose permission is remembered one by one; a larger plan is allowed in parts.
const ALLOWED_MAX: usize = 10_000;
/// Tries to write a lookup's own record against overlapping runs.
const RECORD_TRIES_MAX: u32 = 4;

/// One QAD list and the Coupa lookup that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupSync {
    /// The lookup's name in Coupa.
    pub lookup: String,
    /// The source's name in the connection.
    pub source: String,
    /// How large a change may be.
    pub policy: LookupPolicy,
}

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (read, write), clock, chance, timing, deadline.
    pub context: Context<'a>,
    /// Coupa: read, create and update lookup values.
    pub coupa: &'a dyn CoupaLookups,
    /// QAD: read the sources.
    pub qad: &'a dyn QadSources,
    /// What is shown where.
    pub lookups: &'a [LookupSync],
    /// Only says what would change; writes nothing anywhere.
    pub plan_only: bool,
}

/// What a run did for one lookup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LookupRun {
    /// The lookup.
    pub lookup: String,
    /// Values QAD lists.
    pub in_qad: u64,
    /// Values Coupa holds.
    pub in_coupa: u64,
    /// Changes planned.
    pub planned: u64,
    /// The changes in words, when only asked for the plan or when it is parked.
    pub changes: Vec<String>,
    /// Hash of the plan, to allow it by; blank when there is nothing to do.
    pub plan_sha256: String,
    /// Changes made.
    pub written: u64,
    /// Changes whose outcome is not known yet, or that somebody else is making; the next run goes on.
    pub open: u64,
    /// Why the lookup, or one of its values, waits for a person.
    pub needs_a_person: Vec<Problem>,
    /// Rows and values that could not be read; the rest goes on.
    pub unreadable: Vec<Problem>,
    /// Why the lookup could not be looked at in this run.
    pub unanswered: Option<Problem>,
    /// True when there was no time to finish.
    pub incomplete: bool,
}

/// Looks at every lookup once. One that gives no answer does not stop the others; it is told in its own entry.
pub async fn run(deps: &Deps<'_>) -> Result<Vec<LookupRun>, PollError> {
    let mut runs = Vec::new();
    for sync in deps.lookups {
        let mut done = LookupRun {
            lookup: sync.lookup.clone(),
            ..LookupRun::default()
        };
        match align(deps, sync, &mut done).await {
            Ok(()) => {}
            Err(PollError::Flow(FlowError::OutOfTime)) => done.incomplete = true,
            Err(PollError::Read(error)) => done.unanswered = Some(error.problem().clone()),
            Err(PollError::Flow(FlowError::Broken(problem))) => done.needs_a_person.push(problem),
            Err(error) => return Err(error),
        }
        runs.push(done);
    }
    Ok(runs)
}

/// Allows the parked plan with this hash; the next run carries it out as long as it is still the same plan. A plan that has
/// changed meanwhile is parked anew.
pub async fn allow(
    context: &Context<'_>,
    lookup: &str,
    plan_sha256: &str,
    by: &str,
    reason: &str,
) -> Result<LookupPlanRecord, FlowError> {
    for attempt in 0..RECORD_TRIES_MAX {
        let loaded = load_plan(context, lookup).await?;
        let parked = matches!(&loaded.document.state, PlanState::Parked { plan_sha256: hash, .. } if hash == plan_sha256);
        if !parked || plan_sha256.is_empty() {
            let fix = "Read the plan again and allow the hash it shows.";
            return Err(FlowError::Broken(
                Problem::new("LOOKUP_PLAN_NOT_PARKED", fix)
                    .field(lookup)
                    .expected("the hash of the parked plan")
                    .actual(plan_sha256),
            ));
        }
        let mut document = loaded.document;
        document.allowed_plan = Some(plan_sha256.to_owned());
        let event = LookupPlanEvent::Allowed {
            plan_sha256: plan_sha256.to_owned(),
            by: domain::problem::clean(by),
            reason: domain::problem::clean(reason),
        };
        match save(
            context,
            loaded.revision,
            Change {
                document,
                events: vec![event],
                writes: vec![],
            },
        )
        .await
        {
            Ok(saved) => return Ok(saved.document),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FlowError::Contended)
}

// ---------------------------------------------------------------------------------------------------------------
// One lookup
// ---------------------------------------------------------------------------------------------------------------

struct View {
    values: Vec<CoupaValue>,
    plan: LookupPlan,
}

async fn align(deps: &Deps<'_>, sync: &LookupSync, done: &mut LookupRun) -> Result<(), PollError> {
    let context = &deps.context;
    let mut record = load_plan(context, &sync.lookup).await?;
    if record.document.unsettled && !deps.plan_only {
        done.open = finish_open(deps, sync).await?;
    }
    let started = context.clock.now();
    let scan = deps.qad.source_values(&sync.source).await?;
    done.in_qad = count(scan.values.len());
    done.unreadable
        .extend(scan.unreadable.iter().map(|(_, problem)| problem.clone()));
    if scan.values.is_empty() {
        let problem = empty_source(&sync.lookup, &sync.source);
        done.needs_a_person.push(problem.clone());
        return park(deps, record, problem, String::new(), Vec::new())
            .await
            .map_err(PollError::from);
    }
    let held = deps.coupa.lookup_values(&sync.lookup).await?;
    done.in_coupa = count(held.values.len());
    done.unreadable
        .extend(held.unreadable.iter().map(|(_, problem)| problem.clone()));
    // A value of Coupa that cannot be read is left alone; one without a code cannot be meant by any row of QAD.
    let mut protected: Vec<Option<LookupCode>> =
        scan.unreadable.iter().map(|(code, _)| code.clone()).collect();
    protected.extend(
        held.unreadable
            .iter()
            .filter(|(code, _)| code.is_some())
            .map(|(code, _)| code.clone()),
    );

    let first = plan(&scan.values, &held.values, &protected);
    done.planned = count(first.change_count());
    done.needs_a_person.extend(first.blocked.iter().cloned());
    if first.is_empty() {
        return settled(deps, record, done.open > 0)
            .await
            .map_err(PollError::from);
    }
    let hash = sha256_hex(&first.identity());
    done.plan_sha256.clone_from(&hash);
    if let Some(problem) = refused_by_guard(&first, sync, &record.document, &hash) {
        done.needs_a_person.push(problem.clone());
        done.changes = told(&first);
        return park(deps, record, problem, hash, told(&first))
            .await
            .map_err(PollError::from);
    }
    if deps.plan_only {
        done.changes = first.changes().map(Action::sentence).collect();
        return Ok(());
    }
    record = applying(deps, record, &first, &hash).await?;
    let mut view = View {
        values: held.values,
        plan: first,
    };
    let mut rejected = 0u32;
    for _ in 0..=DEPTH_MAX {
        let created = carry_out(deps, sync, &mut view, started, &mut rejected, done).await?;
        if rejected >= REFUSALS_MAX || view.plan.after_parents.is_empty() || !created {
            break;
        }
        view.plan = plan(&scan.values, &view.values, &protected);
        // Only what waited for its parents: everything else was tried in the first round.
        view.plan
            .actions
            .retain(|action| action.kind == ActionKind::Create && action.path.len() > 1);
    }
    let unfinished = done.open > 0 || done.incomplete;
    let all_done = done.written >= done.planned && !unfinished;
    after_run(deps, record, unfinished, all_done)
        .await
        .map_err(PollError::from)
}

fn told(plan: &LookupPlan) -> Vec<String> {
    plan.changes()
        .take(CHANGES_TOLD_MAX)
        .map(Action::sentence)
        .collect()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn digest(action: &Action) -> String {
    sha256_hex(&action.identity()).chars().take(16).collect()
}

/// Why this plan must not be carried out now: too large, and neither allowed, nor the rest of what was allowed, nor the
/// rest of a first fill.
fn refused_by_guard(
    plan: &LookupPlan,
    sync: &LookupSync,
    record: &LookupPlanRecord,
    hash: &str,
) -> Option<Problem> {
    let Guard::TooLarge(problem) = guard(&sync.lookup, plan, &sync.policy) else {
        return None;
    };
    if record.allowed_plan.as_deref() == Some(hash) {
        return None;
    }
    let fits = plan.changes().all(|action| {
        (record.filling && action.kind == ActionKind::Create) || record.allowed.contains(&digest(action))
    });
    if fits { None } else { Some(problem) }
}

/// Carries out the plan's actions; true when at least one value was created or found.
async fn carry_out(
    deps: &Deps<'_>,
    sync: &LookupSync,
    view: &mut View,
    started: Timestamp,
    rejected: &mut u32,
    done: &mut LookupRun,
) -> Result<bool, FlowError> {
    /// Values whose records are read in one go.
    const RECORDS_PER_READ: usize = 50;
    let mut created = false;
    let actions = view.plan.actions.clone();
    for chunk in actions.chunks(RECORDS_PER_READ) {
        let keys: Vec<RecordKey> = chunk
            .iter()
            .map(|action| value_key(&sync.lookup, &action.path))
            .collect();
        let found = deps.context.register.read(&keys).await?;
        for (action, stored) in chunk.iter().zip(found) {
            if !deps.context.has_time_for_a_call() {
                done.incomplete = true;
                return Ok(created);
            }
            if *rejected >= REFUSALS_MAX {
                return Ok(created);
            }
            let loaded = match stored {
                Some(stored) => Loaded {
                    document: parse(&stored)?,
                    revision: stored.revision,
                },
                None => Loaded {
                    document: LookupValueRecord::new(&sync.lookup, action.path.clone()),
                    revision: 0,
                },
            };
            match change(deps, action, loaded, started).await? {
                Changed::Written(value) => {
                    done.written = done.written.saturating_add(1);
                    *rejected = 0;
                    created |= action.kind == ActionKind::Create;
                    view.values.retain(|held| held.id != value.id);
                    view.values.push(value);
                }
                Changed::Open => done.open = done.open.saturating_add(1),
                Changed::Overtaken => {}
                Changed::Refused(problem) => {
                    *rejected = rejected.saturating_add(1);
                    done.needs_a_person.push(problem);
                }
            }
        }
    }
    Ok(created)
}

enum Changed {
    /// It is in Coupa now, as this.
    Written(CoupaValue),
    /// Nobody knows yet, or somebody else is on it.
    Open,
    /// Somebody wrote this value after this run had read both sides: the next run looks again.
    Overtaken,
    /// Coupa said no.
    Refused(Problem),
}

async fn change(
    deps: &Deps<'_>,
    action: &Action,
    loaded: Loaded<LookupValueRecord>,
    started: Timestamp,
) -> Result<Changed, FlowError> {
    let record = &loaded.document;
    let mut loaded = loaded.clone();
    if let Some(effect) = record.effect.as_ref().filter(|effect| effect.is_finished()) {
        let refused = matches!(effect.status, EffectStatus::Rejected | EffectStatus::Parked);
        let again_at = record.written_at.plus_millis(REFUSED_RETRY_MILLIS);
        let same = action_of(effect).is_ok_and(|before| before.identity() == action.identity());
        if refused && same && deps.context.clock.now() < again_at {
            return Ok(Changed::Refused(
                effect.problem.clone().unwrap_or_else(|| unexplained(action)),
            ));
        }
        if !refused && record.written_at >= started {
            return Ok(Changed::Overtaken);
        }
    }
    if !record.is_open() {
        loaded.document.effect = Some(effect_for(action, record, deps.context.clock.now())?);
    }
    let answer = std::sync::Mutex::new(None);
    let target = ValueWrite {
        coupa: deps.coupa,
        answer: &answer,
    };
    let driven = drive(&deps.context, loaded, &target).await?;
    let answer = answer
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    match driven {
        Driven::Finished(stored) => {
            let effect = stored.document.effect.as_ref();
            match (effect.map(|effect| effect.status), answer) {
                (Some(EffectStatus::Done), Some(value)) => Ok(Changed::Written(value)),
                (Some(EffectStatus::Rejected | EffectStatus::Parked), _) => {
                    let problem = effect.and_then(|effect| effect.problem.clone());
                    Ok(Changed::Refused(problem.unwrap_or_else(|| unexplained(action))))
                }
                _ => Ok(Changed::Overtaken),
            }
        }
        Driven::Later(_) | Driven::Busy => Ok(Changed::Open),
        Driven::OutOfTime => Err(FlowError::OutOfTime),
    }
}

fn unexplained(action: &Action) -> Problem {
    Problem::new("LOOKUP_VALUE_REFUSED", "Look at the value's audit trail.").actual(action.sentence())
}

fn effect_for(action: &Action, record: &LookupValueRecord, now: Timestamp) -> Result<Effect, FlowError> {
    let request = crate::store::render(action)?;
    let repetition = if action.kind == ActionKind::Create {
        Repetition::OnlyAfterLookUp
    } else {
        Repetition::Harmless
    };
    let key = format!(
        "lookup-value/{}",
        LookupValueRecord::record_id(&record.lookup, &record.path)
    );
    Ok(new_effect(key, repetition, request, now).succeeding(record.effect.as_ref()))
}

fn action_of(effect: &Effect) -> Result<Action, Problem> {
    let altered = sha256_hex(&effect.request) != effect.request_sha256;
    match serde_json::from_str(&effect.request) {
        Ok(action) if !altered => Ok(action),
        _ => Err(Problem::new(
            "REQUEST_ALTERED",
            "Nothing was sent. Compare the record with its audit trail.",
        )
        .field("request")
        .expected(effect.request_sha256.clone())
        .actual(sha256_hex(&effect.request))),
    }
}

/// Drives the writes that an earlier run left open; how many still are.
async fn finish_open(deps: &Deps<'_>, sync: &LookupSync) -> Result<u64, FlowError> {
    let stored = deps
        .context
        .register
        .list(&RecordGroup::Collection(Collection::LookupValue))
        .await?;
    let mut open = 0u64;
    for one in stored {
        let document: LookupValueRecord = parse(&one)?;
        if document.lookup != sync.lookup || !document.is_open() {
            continue;
        }
        if !deps.context.has_time_for_a_call() {
            return Err(FlowError::OutOfTime);
        }
        let answer = std::sync::Mutex::new(None);
        let target = ValueWrite {
            coupa: deps.coupa,
            answer: &answer,
        };
        match drive(
            &deps.context,
            Loaded {
                document,
                revision: one.revision,
            },
            &target,
        )
        .await?
        {
            Driven::Finished(_) => {}
            Driven::Later(_) | Driven::Busy => open = open.saturating_add(1),
            Driven::OutOfTime => return Err(FlowError::OutOfTime),
        }
    }
    Ok(open)
}

// ---------------------------------------------------------------------------------------------------------------
// The lookup's own record
// ---------------------------------------------------------------------------------------------------------------

/// Where the record of a lookup lies.
pub fn plan_key(lookup: &str) -> RecordKey {
    RecordKey::Entry {
        collection: Collection::LookupPlan,
        id: lookup.to_owned(),
    }
}

/// Where the record of a value lies.
pub fn value_key(lookup: &str, path: &[LookupCode]) -> RecordKey {
    RecordKey::Entry {
        collection: Collection::LookupValue,
        id: LookupValueRecord::record_id(lookup, path),
    }
}

async fn load_plan(context: &Context<'_>, lookup: &str) -> Result<Loaded<LookupPlanRecord>, FlowError> {
    let loaded = load(context.register, plan_key(lookup)).await?;
    Ok(loaded.unwrap_or_else(|| Loaded {
        document: LookupPlanRecord::new(lookup),
        revision: 0,
    }))
}

/// Writes the lookup's record when that changes it. An overlapping run that was faster has told its own view of the same
/// lookup; the next run corrects whichever was wrong.
async fn tell(
    deps: &Deps<'_>,
    before: Loaded<LookupPlanRecord>,
    document: LookupPlanRecord,
    events: Vec<LookupPlanEvent>,
) -> Result<Loaded<LookupPlanRecord>, FlowError> {
    if deps.plan_only || document == before.document {
        return Ok(before);
    }
    match save(
        &deps.context,
        before.revision,
        Change {
            document,
            events,
            writes: vec![],
        },
    )
    .await
    {
        Ok(saved) => Ok(saved),
        Err(CommitError::Conflict) => load_plan(&deps.context, &before.document.lookup).await,
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

async fn park(
    deps: &Deps<'_>,
    record: Loaded<LookupPlanRecord>,
    problem: Problem,
    plan_sha256: String,
    changes: Vec<String>,
) -> Result<(), FlowError> {
    let known = matches!(&record.document.state, PlanState::Parked { problem: old, plan_sha256: hash, .. }
        if old.code == problem.code && *hash == plan_sha256);
    if known {
        return Ok(());
    }
    let mut document = record.document.clone();
    // What a person allowed was another plan.
    document.allowed.clear();
    document.allowed_plan = None;
    document.filling = false;
    document.state = PlanState::Parked {
        problem: problem.clone(),
        plan_sha256: plan_sha256.clone(),
        changes,
    };
    tell(
        deps,
        record,
        document,
        vec![LookupPlanEvent::Parked { problem, plan_sha256 }],
    )
    .await
    .map(drop)
}

/// Said before the first write: a run that dies leaves a mark, and the rest of what was allowed stays allowed.
async fn applying(
    deps: &Deps<'_>,
    record: Loaded<LookupPlanRecord>,
    plan: &LookupPlan,
    hash: &str,
) -> Result<Loaded<LookupPlanRecord>, FlowError> {
    let mut document = record.document.clone();
    document.unsettled = true;
    document.filling |= plan.first_fill;
    if document.allowed_plan.as_deref() == Some(hash) {
        document.allowed = plan.changes().take(ALLOWED_MAX).map(digest).collect();
        document.allowed_plan = None;
    }
    let was_parked = matches!(document.state, PlanState::Parked { .. });
    let news = was_parked || document.state == PlanState::Settled;
    document.state = PlanState::Applying;
    let event = LookupPlanEvent::Applying {
        plan_sha256: hash.to_owned(),
        summary: plan.summary(),
    };
    tell(deps, record, document, if news { vec![event] } else { vec![] }).await
}

async fn after_run(
    deps: &Deps<'_>,
    record: Loaded<LookupPlanRecord>,
    unfinished: bool,
    all_done: bool,
) -> Result<(), FlowError> {
    if all_done {
        return settled(deps, record, false).await;
    }
    let mut document = record.document.clone();
    document.unsettled = unfinished;
    tell(deps, record, document, vec![]).await.map(drop)
}

async fn settled(deps: &Deps<'_>, record: Loaded<LookupPlanRecord>, open: bool) -> Result<(), FlowError> {
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
    tell(
        deps,
        record,
        document,
        if news {
            vec![LookupPlanEvent::Settled]
        } else {
            vec![]
        },
    )
    .await
    .map(drop)
}

impl Document for LookupPlanRecord {
    fn key(&self) -> RecordKey {
        plan_key(&self.lookup)
    }
    fn audit_name(&self) -> String {
        format!("lookup/{}", self.lookup)
    }
    fn state_word(&self) -> &'static str {
        match self.state {
            PlanState::Settled => "settled",
            PlanState::Applying => "applying",
            PlanState::Parked { .. } => "parked",
        }
    }
    /// The schedule looks at every lookup anyway.
    fn due(&self, _: &Timing) -> Option<Timestamp> {
        None
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

impl Document for LookupValueRecord {
    fn key(&self) -> RecordKey {
        value_key(&self.lookup, &self.path)
    }
    fn audit_name(&self) -> String {
        format!("lookup-value/{}", Self::record_id(&self.lookup, &self.path))
    }
    fn state_word(&self) -> &'static str {
        match self.effect.as_ref().map(|effect| effect.status) {
            None | Some(EffectStatus::Ready | EffectStatus::Withdrawn) => "ready",
            Some(EffectStatus::Intent) => "sending",
            Some(EffectStatus::Unknown) => "unknown",
            Some(EffectStatus::Done) => "done",
            Some(EffectStatus::Rejected) => "rejected",
            Some(EffectStatus::Parked) => "parked",
        }
    }
    /// The next run finds it through the mark on its lookup.
    fn due(&self, _: &Timing) -> Option<Timestamp> {
        None
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The write
// ---------------------------------------------------------------------------------------------------------------

/// Creating or changing one value in Coupa.
struct ValueWrite<'a> {
    coupa: &'a dyn CoupaLookups,
    /// What Coupa shows of it in the end.
    answer: &'a std::sync::Mutex<Option<CoupaValue>>,
}

impl ValueWrite<'_> {
    fn advance(
        context: &Context<'_>,
        record: &LookupValueRecord,
        event: EffectEvent,
    ) -> Result<Change<LookupValueRecord, LookupValueEvent>, IllegalStep> {
        let effect = record.effect.as_ref().ok_or(IllegalStep::NoEffect)?;
        let action = action_of(effect).map_err(|_| IllegalStep::NoEffect)?;
        let (document, told) = record.advance(&action, event, context.clock.now(), context.timing)?;
        Ok(Change {
            document,
            events: vec![told],
            writes: vec![],
        })
    }
}

#[async_trait]
impl Target<LookupValueRecord> for ValueWrite<'_> {
    type Answer = CoupaValue;
    type Event = LookupValueEvent;

    fn effect<'d>(&self, record: &'d LookupValueRecord) -> Option<&'d Effect> {
        record.effect.as_ref()
    }

    async fn send(&self, record: &LookupValueRecord, effect: &Effect) -> Result<CoupaValue, WriteError> {
        let action = action_of(effect).map_err(WriteError::Refused)?;
        let key = &effect.idempotency_key;
        match action.id {
            Some(id) => {
                self.coupa
                    .update_lookup_value(&record.lookup, id, &action, key)
                    .await
            }
            None => self.coupa.create_lookup_value(&record.lookup, &action, key).await,
        }
    }

    /// By code, and below the same parent.
    async fn look_up(
        &self,
        record: &LookupValueRecord,
        effect: &Effect,
    ) -> Result<Vec<CoupaValue>, ReadError> {
        let action = action_of(effect).map_err(ReadError::Refused)?;
        let Some(code) = action.code() else {
            return Ok(Vec::new());
        };
        let found = self.coupa.find_lookup_values(&record.lookup, code).await?;
        Ok(found
            .into_iter()
            .filter(|value| is_meant(&action, value))
            .collect())
    }

    fn judge(
        &self,
        _: &LookupValueRecord,
        effect: &Effect,
        mut values: Vec<CoupaValue>,
    ) -> Finding<CoupaValue> {
        let action = match action_of(effect) {
            Ok(action) => action,
            Err(problem) => return Finding::Unclear(problem),
        };
        let Some(value) = values.pop() else {
            return Finding::Nothing;
        };
        if let Some(other) = values.first() {
            let fix = "Take the reference number off the value in Coupa that is not used.";
            let problem = Problem::new("LOOKUP_REFERENCE_TWICE", fix)
                .field(action.path_key())
                .expected("one value in Coupa with this external-ref-num")
                .actual(format!("ids {} and {}", other.id, value.id));
            return Finding::Park {
                problem,
                answer: None,
            };
        }
        let same_id = action.id.is_none_or(|id| id == value.id);
        if !same_id || !is_meant(&action, &value) {
            let fix = "Nothing to do: both sides are compared again with the next run.";
            return Finding::Unclear(
                Problem::new("LOOKUP_ANSWER_ABOUT_ANOTHER", fix)
                    .field(action.path_key())
                    .expected(action.sentence())
                    .actual(format!("id {}", value.id)),
            );
        }
        // A name that Coupa keeps otherwise is planned anew with the next run, and shows there.
        Finding::There {
            answer: value,
            adopted: false,
        }
    }

    fn absent(
        &self,
        _: &Context<'_>,
        _: &LookupValueRecord,
    ) -> Result<Option<Change<LookupValueRecord, LookupValueEvent>>, IllegalStep> {
        Ok(None)
    }

    fn step(
        &self,
        context: &Context<'_>,
        record: &LookupValueRecord,
        event: EffectEvent,
    ) -> Result<Change<LookupValueRecord, LookupValueEvent>, IllegalStep> {
        Self::advance(context, record, event)
    }

    fn there(
        &self,
        context: &Context<'_>,
        record: &LookupValueRecord,
        value: &CoupaValue,
        _: Proof,
    ) -> Result<Change<LookupValueRecord, LookupValueEvent>, IllegalStep> {
        let mut change = Self::advance(context, record, EffectEvent::Confirmed)?;
        change.document.id = Some(value.id);
        *self
            .answer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(value.clone());
        Ok(change)
    }

    fn refused(
        &self,
        context: &Context<'_>,
        record: &LookupValueRecord,
        problem: Problem,
    ) -> Result<Change<LookupValueRecord, LookupValueEvent>, IllegalStep> {
        Self::advance(context, record, EffectEvent::Refused { problem })
    }

    fn parked(
        &self,
        context: &Context<'_>,
        record: &LookupValueRecord,
        problem: Problem,
        _: Option<&CoupaValue>,
    ) -> Result<Change<LookupValueRecord, LookupValueEvent>, IllegalStep> {
        Self::advance(context, record, EffectEvent::Parked { problem })
    }
}

/// Whether a value of Coupa is the one an action is about: its code, and for a new one its parent.
fn is_meant(action: &Action, value: &CoupaValue) -> bool {
    let code = value
        .code
        .as_deref()
        .and_then(|code| code.parse::<LookupCode>().ok());
    let same_code = code.as_ref() == action.code();
    let parent = value
        .parent
        .as_ref()
        .and_then(|parent| parent.external_ref_code.as_deref());
    let same_parent = action.id.is_some() || parent == action.parent_ref_code.as_deref();
    same_code && same_parent
}

#[cfg(test)]
mod tests;
