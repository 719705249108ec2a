//! Keeps Coupa's lookups equal to QAD's tracking categories: cost centers, projects, accounts, any list by configuration.
//!
//! Both sides are read completely, the difference is a plan ([`domain::lookups::plan`]), and the plan is carried out
//! value by value through the effect engine. There is no cursor that could lose something: a run that dies is made up for
//! by the next one, which plans from what both sides show then. A plan that is too large waits for a person.

use crate::engine::{Driven, Finding, Proof, Stepped, Target, drive};
use crate::invoice_effects::new_effect;
use crate::pause::{self, Stop};
use crate::plans::{self, ALLOWED_MAX, CHANGES_TOLD_MAX, Mark, Parking};
use crate::poll_coupa::PollError;
use crate::ports::{
    Collection, CommitError, CoupaLookups, QadSources, ReadError, RecordGroup, RecordKey, StoredRecord,
    WriteError,
};
use crate::store::{Change, Context, Document, FlowError, Loaded, impossible, parse, save, sha256_hex};
use async_trait::async_trait;
use domain::drive::Manner;
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition};
use domain::guards::{self, stands};
use domain::lifecycle::{ChainEnd, IllegalStep};
use domain::lookups::{
    Action, ActionKind, CoupaValue, DEPTH_MAX, Guard, LOOKUP_MISSING, LookupCode, LookupPlan,
    LookupValueEvent, LookupValueRecord, VALUE_TAKEN, empty_source, guard, plan,
};
use domain::plans::{ChangeShare, PlanRecord, PlanState};
use domain::problem::Problem;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// New refusals in a row after which a lookup is left for the next run, which passes over them and tries the others.
const REFUSALS_MAX: u32 = 10;
/// Values that are written at the same time.
const AT_ONCE: usize = 8;
/// How long a refused change is not sent again while it stays the same, in milliseconds (23 hours).
pub const REFUSED_RETRY_MILLIS: i64 = 23 * 3_600_000;

/// One QAD list and the Coupa lookup that shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupSync {
    /// The lookup's name in Coupa.
    pub lookup: String,
    /// The source's name in the connection.
    pub source: String,
    /// How large a change may be.
    pub policy: ChangeShare,
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
    /// Of these, how many because an answer was lost.
    pub lost_answers: u64,
    /// True when the whole lookup waits for a person: nothing of the plan was carried out.
    pub parked: bool,
    /// Why the lookup, or one of its values, waits for a person.
    pub needs_a_person: Vec<Problem>,
    /// Rows and values that could not be read; the rest goes on.
    pub unreadable: Vec<Problem>,
    /// Why the lookup could not be looked at in this run.
    pub unanswered: Option<Problem>,
    /// True when there was no time to finish, or nothing more was tried.
    pub incomplete: bool,
    /// The flow is paused, or another installation's: only what was under way was brought to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Stop>,
}

impl LookupRun {
    /// True when the next run has something to go on with.
    fn is_unfinished(&self) -> bool {
        self.open > 0 || self.incomplete
    }
}

/// Looks at every lookup once. One that gives no answer does not stop the others; it is told in its own entry.
pub async fn run(deps: &Deps<'_>) -> Result<Vec<LookupRun>, PollError> {
    let mut runs = Vec::new();
    let paused = if deps.plan_only || deps.lookups.is_empty() {
        None
    } else {
        pause::stop(&deps.context, pause::Flow::Lookups).await?
    };
    for sync in deps.lookups {
        let mut done = LookupRun {
            lookup: sync.lookup.clone(),
            paused: paused.clone(),
            ..LookupRun::default()
        };
        match align(deps, sync, &mut done).await {
            Ok(()) => {}
            Err(PollError::Flow(FlowError::OutOfTime)) => done.incomplete = true,
            Err(PollError::Read(error)) => done.unanswered = Some(error.problem().clone()),
            Err(PollError::Flow(FlowError::Contended)) => done.open = done.open.saturating_add(1),
            Err(PollError::Flow(FlowError::Broken(problem) | FlowError::Unanswered(problem))) => {
                done.unanswered = Some(problem);
            }
            // Without the register nothing can be done for the others either.
            Err(error @ PollError::Flow(FlowError::Store(_))) => return Err(error),
        }
        runs.push(done);
    }
    Ok(runs)
}

// ---------------------------------------------------------------------------------------------------------------
// One lookup
// ---------------------------------------------------------------------------------------------------------------

async fn align(deps: &Deps<'_>, sync: &LookupSync, done: &mut LookupRun) -> Result<(), PollError> {
    let record = plans::load(&deps.context, Some(&sync.lookup)).await?;
    let mut begun = Vec::new();
    if record.document.unsettled && !deps.plan_only && stands(guards::Guard::OpenFirst) {
        begun = finish_open(deps, sync, done).await?;
    }
    if done.paused.is_some() {
        return Ok(());
    }
    let started = deps.context.clock.now();
    let scan = deps.qad.source_values(&sync.source).await?;
    done.in_qad = count(scan.values.len());
    done.unreadable
        .extend(scan.unreadable.iter().map(|(_, problem)| problem.clone()));
    if scan.values.is_empty() && stands(guards::Guard::EmptyIsNotGone) {
        let problem = empty_source(&sync.lookup, &sync.source);
        done.needs_a_person.push(problem.clone());
        done.parked = true;
        let open = done.is_unfinished();
        let parked = Parking {
            problem,
            plan_sha256: String::new(),
            changes: Vec::new(),
            // A list that came empty says nothing about what was allowed.
            allowed: None,
        };
        park(deps, record, open, parked).await?;
        return Ok(());
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

    let mut planned = plan(&scan.values, &held.values, &protected);
    done.planned = count(planned.change_count());
    done.needs_a_person.extend(planned.blocked.iter().cloned());
    withdraw_unwanted(deps, begun, &planned, done).await?;
    if planned.is_empty() {
        let open = done.is_unfinished();
        rest(deps, record, open, &done.needs_a_person, BTreeSet::new()).await?;
        return Ok(());
    }
    let hash = sha256_hex(&planned.identity());
    done.plan_sha256.clone_from(&hash);
    let too_large = refused_by_guard(&planned, sync, &record.document, &hash);
    if deps.plan_only {
        done.changes = planned.changes().map(Action::sentence).collect();
        done.parked = too_large.is_some();
        done.needs_a_person.extend(too_large);
        return Ok(());
    }
    if let Some(problem) = too_large {
        done.needs_a_person.push(problem.clone());
        done.changes = told(&planned);
        done.parked = true;
        let open = done.is_unfinished();
        let parked = Parking {
            problem,
            plan_sha256: hash,
            changes: told(&planned),
            // What a person allowed was another plan.
            allowed: Some(BTreeSet::new()),
        };
        park(deps, record, open, parked).await?;
        return Ok(());
    }
    if let Some(problem) = still_missing(deps, sync, &record.document, held.values.is_empty()).await? {
        done.needs_a_person.push(problem);
        return Ok(());
    }
    let mut work = Work {
        deps,
        sync,
        started,
        record,
        mark: Some(Mark {
            hash,
            first_fill: planned.first_fill,
            digests: planned.changes().take(ALLOWED_MAX).map(digest).collect(),
            summary: planned.summary(),
        }),
        values: held.values,
        refused_in_a_row: 0,
        failed: Vec::new(),
        refused: BTreeSet::new(),
        stopped: false,
    };
    for _ in 0..=DEPTH_MAX {
        let created = work.carry_out(&planned.actions, done).await?;
        if planned.after_parents.is_empty() {
            break;
        }
        if work.stopped || !created {
            done.incomplete |= work.stopped;
            break;
        }
        planned = plan(&scan.values, &work.values, &protected);
        // Only what waited for its parents: everything else was tried in the first round.
        planned
            .actions
            .retain(|action| action.kind == ActionKind::Create && action.path.len() > 1);
    }
    let open = done.is_unfinished();
    let all_done = done.written >= done.planned && !open;
    let problems = if all_done {
        &[]
    } else {
        done.needs_a_person.as_slice()
    };
    let missing = done
        .needs_a_person
        .iter()
        .find(|problem| problem.code == LOOKUP_MISSING);
    if let (true, Some(problem)) = (work.stopped, missing) {
        // The plan is as it was, and so is what was allowed of it.
        let parked = Parking {
            problem: problem.clone(),
            plan_sha256: String::new(),
            changes: vec![problem.to_string()],
            allowed: None,
        };
        park(deps, work.record, done.open > 0, parked).await?;
    } else if open {
        work.unfinished().await?;
    } else {
        rest(deps, work.record, false, problems, work.refused).await?;
    }
    Ok(())
}

/// That Coupa lacks a lookup is found out by a refused write, once. From then on it is asked, and nothing is written until it
/// is there; where Coupa does not tell, one write a run does.
async fn still_missing(
    deps: &Deps<'_>,
    sync: &LookupSync,
    record: &PlanRecord,
    shows_no_values: bool,
) -> Result<Option<Problem>, PollError> {
    let PlanState::Parked { problem, .. } = &record.state else {
        return Ok(None);
    };
    if problem.code != LOOKUP_MISSING || !shows_no_values {
        return Ok(None);
    }
    let is_missing = deps.coupa.has_lookup(&sync.lookup).await? == Some(false);
    Ok(is_missing.then(|| problem.clone()))
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
    record: &PlanRecord,
    hash: &str,
) -> Option<Problem> {
    if record.allowed_plan.as_deref() == Some(hash) || !stands(guards::Guard::ChangeShare) {
        return None;
    }
    let excused = |action: &Action| {
        (record.filling && action.kind == ActionKind::Create) || record.allowed.contains(&digest(action))
    };
    match guard(&sync.lookup, plan, &sync.policy, excused) {
        Guard::Open => None,
        Guard::TooLarge(problem) => Some(problem),
    }
}

/// True for a refusal that meets every value of the lookup alike: the others are not tried, and the next run asks again.
fn concerns_all(problem: &Problem) -> bool {
    problem.code == LOOKUP_MISSING
        || ["_PERMISSION_DENIED", "_CREDENTIAL_REFUSED", "_REDIRECT"]
            .iter()
            .any(|end| problem.code.ends_with(end))
}

/// Carrying out the plan of one lookup.
struct Work<'a, 'd> {
    deps: &'a Deps<'d>,
    sync: &'a LookupSync,
    started: Timestamp,
    record: Loaded<PlanRecord>,
    mark: Option<Mark>,
    /// What Coupa holds, as far as this run knows.
    values: Vec<CoupaValue>,
    refused_in_a_row: u32,
    /// Paths whose change did not go through: what must come after them waits.
    failed: Vec<Vec<LookupCode>>,
    /// Digests of what was let through and refused: it need not be allowed again.
    refused: BTreeSet<String>,
    /// True when nothing more is tried in this run.
    stopped: bool,
}

impl Work<'_, '_> {
    /// Carries out actions in their order, those that do not depend on each other together; true when at least one value
    /// was created or found.
    async fn carry_out(&mut self, actions: &[Action], done: &mut LookupRun) -> Result<bool, FlowError> {
        let mut created = false;
        let mut rest = actions;
        while let Some(first) = rest.first() {
            // The very first one goes alone: what refuses it may refuse them all.
            let most = if self.mark.is_some() { 1 } else { AT_ONCE };
            let same_wave = rest
                .iter()
                .take(most)
                .take_while(|action| wave(action) == wave(first))
                .count();
            let (chunk, after) = rest.split_at(same_wave.max(1).min(rest.len()));
            rest = after;
            if self.stopped || !self.deps.context.has_time_for_a_call() {
                done.incomplete = true;
                return Ok(created);
            }
            created |= self.together(chunk, done).await?;
        }
        Ok(created)
    }

    async fn together(&mut self, chunk: &[Action], done: &mut LookupRun) -> Result<bool, FlowError> {
        let keys: Vec<RecordKey> = chunk
            .iter()
            .map(|action| value_key(&self.sync.lookup, &action.path))
            .collect();
        let found = self.deps.context.register.read(&keys).await?;
        let mut ready = Vec::new();
        for (action, stored) in chunk.iter().zip(found) {
            match self.before(action, stored)? {
                Before::Drive(loaded) => ready.push((action, *loaded)),
                Before::Not(changed) => {
                    self.after(action, changed, false, done);
                }
            }
        }
        if ready.is_empty() {
            return Ok(false);
        }
        self.announce().await?;
        let (deps, values) = (self.deps, self.values.as_slice());
        let driven = ready
            .into_iter()
            .map(async |(action, loaded)| (action, change(deps, action, loaded, values).await));
        let ended = futures_util::future::join_all(driven).await;
        let mut created = false;
        let mut broken = None;
        for (action, ended) in ended {
            match ended {
                Ok(changed) => created |= self.after(action, changed, true, done),
                Err(FlowError::OutOfTime) => done.incomplete = true,
                Err(FlowError::Contended) => {
                    self.after(action, Changed::Open, true, done);
                }
                Err(FlowError::Broken(problem)) => {
                    self.after(action, Changed::Refused(problem), true, done);
                }
                Err(error) => broken = Some(error),
            }
        }
        match broken {
            Some(error) => Err(error),
            None => Ok(created),
        }
    }

    /// Whether the change may be tried at all.
    fn before(&self, action: &Action, stored: Option<StoredRecord>) -> Result<Before, FlowError> {
        let waits = self.failed.iter().any(|failed| match action.kind {
            ActionKind::Create | ActionKind::Reactivate => is_above(failed, &action.path),
            ActionKind::Deactivate => is_above(&action.path, failed),
            ActionKind::Rename => false,
        });
        if waits {
            return Ok(Before::Not(Changed::Open));
        }
        let loaded = match stored {
            Some(stored) => match parse::<LookupValueRecord>(&stored) {
                Ok(document) => Loaded {
                    document,
                    revision: stored.revision,
                },
                // One record that cannot be read stops its own value only.
                Err(FlowError::Broken(problem)) => return Ok(Before::Not(Changed::Refused(problem))),
                Err(error) => return Err(error),
            },
            None => Loaded {
                document: LookupValueRecord::new(&self.sync.lookup, action.path.clone()),
                revision: 0,
            },
        };
        let record = &loaded.document;
        if let Some(effect) = record.effect.as_ref().filter(|effect| effect.is_finished()) {
            let refused = matches!(effect.status, EffectStatus::Rejected | EffectStatus::Parked);
            let again_at = record.written_at.plus_millis(REFUSED_RETRY_MILLIS);
            let same = action_of(effect).is_ok_and(|before| before.identity() == action.identity());
            let problem = effect.problem.clone().unwrap_or_else(|| unexplained(action));
            if refused && same && !concerns_all(&problem) && self.deps.context.clock.now() < again_at {
                return Ok(Before::Not(Changed::Refused(problem)));
            }
            // By clocks that may differ: what was written then may be newer than what this run has read.
            let skew = self.deps.context.timing.clock_skew_millis;
            let newer = record.written_at.plus_millis(skew) >= self.started;
            if !refused && newer && stands(guards::Guard::OlderReadingSaysNothing) {
                return Ok(Before::Not(Changed::Overtaken));
            }
        }
        Ok(Before::Drive(Box::new(loaded)))
    }

    /// What became of one change; true when it made or found a new value. `fresh` says that it was asked of Coupa now.
    fn after(&mut self, action: &Action, changed: Changed, fresh: bool, done: &mut LookupRun) -> bool {
        match changed {
            Changed::Written(value) => {
                done.written = done.written.saturating_add(1);
                self.refused_in_a_row = 0;
                self.values.retain(|held| held.id != value.id);
                self.values.push(value);
                return action.kind == ActionKind::Create;
            }
            // The next run looks again.
            Changed::Overtaken => {
                done.open = done.open.saturating_add(1);
                self.failed.push(action.path.clone());
            }
            Changed::Open => {
                done.open = done.open.saturating_add(1);
                self.failed.push(action.path.clone());
            }
            Changed::Lost => {
                done.open = done.open.saturating_add(1);
                done.lost_answers = done.lost_answers.saturating_add(1);
                self.failed.push(action.path.clone());
            }
            Changed::Refused(problem) => {
                self.failed.push(action.path.clone());
                self.refused.insert(digest(action));
                if fresh {
                    self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
                    self.stopped |= concerns_all(&problem) || self.refused_in_a_row >= REFUSALS_MAX;
                }
                done.needs_a_person.push(problem);
            }
        }
        false
    }

    /// Said before the first write of a run: one that dies leaves a mark, and the rest of what was allowed stays allowed.
    async fn announce(&mut self) -> Result<(), FlowError> {
        let Some(mark) = self.mark.take() else {
            return Ok(());
        };
        self.record = plans::begin(&self.deps.context, self.record.clone(), mark).await?;
        Ok(())
    }

    /// The next run goes on, also with what an interrupted one left.
    async fn unfinished(self) -> Result<(), FlowError> {
        let mut document = self.record.document.clone();
        document.unsettled = true;
        plans::tell(&self.deps.context, self.record, document, vec![])
            .await
            .map(drop)
    }
}

/// Actions of one wave do not depend on each other.
fn wave(action: &Action) -> (bool, bool, usize) {
    let adds = matches!(action.kind, ActionKind::Create | ActionKind::Reactivate);
    let takes_away = action.kind == ActionKind::Deactivate;
    (adds, takes_away, action.path.len())
}

/// Whether `path` lies above `other`.
fn is_above(path: &[LookupCode], other: &[LookupCode]) -> bool {
    path.len() < other.len() && other.starts_with(path)
}

enum Before {
    /// Its effect is driven now.
    Drive(Box<Loaded<LookupValueRecord>>),
    /// It is not, and this is why.
    Not(Changed),
}

enum Changed {
    /// It is in Coupa now, as this.
    Written(CoupaValue),
    /// Somebody else is on it, or it waits for another value, or for a moment.
    Open,
    /// The answer was lost: it is looked up before anything is sent again.
    Lost,
    /// Somebody wrote this value after this run had read both sides: the next run looks again.
    Overtaken,
    /// Coupa said no.
    Refused(Problem),
}

async fn change(
    deps: &Deps<'_>,
    action: &Action,
    mut loaded: Loaded<LookupValueRecord>,
    seen: &[CoupaValue],
) -> Result<Changed, FlowError> {
    // What was planned but never left is planned anew; what may have left is driven to its end first.
    let may_have_left = loaded.document.effect.as_ref().is_some_and(Effect::may_have_left);
    let same_and_waiting = loaded.document.effect.as_ref().is_some_and(|effect| {
        effect.status == EffectStatus::Ready
            && action_of(effect).is_ok_and(|before| before.identity() == action.identity())
    });
    if !may_have_left && !same_and_waiting {
        let effect = effect_for(action, &loaded.document, deps.context.clock.now())?;
        loaded.document.effect = Some(effect);
    }
    let answer = std::sync::Mutex::new(None);
    let target = ValueWrite {
        coupa: deps.coupa,
        seen: Some(seen),
        sends_again: true,
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
        Driven::Later(stored) if is_unknown(&stored.document) => Ok(Changed::Lost),
        Driven::Later(_) | Driven::Busy => Ok(Changed::Open),
        Driven::OutOfTime => Err(FlowError::OutOfTime),
    }
}

fn is_unknown(record: &LookupValueRecord) -> bool {
    record
        .effect
        .as_ref()
        .is_some_and(|effect| effect.status == EffectStatus::Unknown)
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
    Ok(new_effect(key, repetition, request, now, record.effect.as_ref()))
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

/// Drives the writes that an earlier run left open and that may have left: what became of them is found out before
/// anything is planned.
///
/// The answer is what was planned and is certain not to have left: the plan of this run says whether it is still wanted.
async fn finish_open(
    deps: &Deps<'_>,
    sync: &LookupSync,
    done: &mut LookupRun,
) -> Result<Vec<Loaded<LookupValueRecord>>, FlowError> {
    let mut begun = Vec::new();
    let sends_again = Stop::sends_again(done.paused.as_ref());
    let stored = deps
        .context
        .register
        .list(&RecordGroup::Collection(Collection::LookupValue))
        .await?;
    let prefix = LookupValueRecord::record_id(&sync.lookup, &[]) + "/";
    for one in stored {
        let ours = matches!(&one.key, RecordKey::Entry { id, .. } if id.starts_with(&prefix));
        if !ours {
            continue;
        }
        let document: LookupValueRecord = match parse(&one) {
            Ok(document) => document,
            Err(FlowError::Broken(problem)) => {
                done.unreadable.push(problem);
                continue;
            }
            Err(error) => return Err(error),
        };
        if !document.effect.as_ref().is_some_and(Effect::may_have_left) {
            if document.is_open() {
                begun.push(Loaded {
                    document,
                    revision: one.revision,
                });
            }
            continue;
        }
        // Only sending it again would settle it.
        let is_repeated = |effect: &Effect| effect.repetition == Repetition::Harmless;
        if !sends_again && document.effect.as_ref().is_some_and(is_repeated) {
            done.open = done.open.saturating_add(1);
            done.lost_answers = done.lost_answers.saturating_add(u64::from(is_unknown(&document)));
            continue;
        }
        if !deps.context.has_time_for_a_call() {
            return Err(FlowError::OutOfTime);
        }
        let answer = std::sync::Mutex::new(None);
        let target = ValueWrite {
            coupa: deps.coupa,
            seen: None,
            sends_again,
            answer: &answer,
        };
        let loaded = Loaded {
            document,
            revision: one.revision,
        };
        match drive(&deps.context, loaded, &target).await {
            Ok(Driven::Finished(_)) => {}
            Ok(Driven::Later(stored)) => {
                done.open = done.open.saturating_add(1);
                if is_unknown(&stored.document) {
                    done.lost_answers = done.lost_answers.saturating_add(1);
                }
            }
            Ok(Driven::Busy) | Err(FlowError::Contended) => done.open = done.open.saturating_add(1),
            Ok(Driven::OutOfTime) => return Err(FlowError::OutOfTime),
            Err(FlowError::Broken(problem)) => done.needs_a_person.push(problem),
            Err(error) => return Err(error),
        }
    }
    Ok(begun)
}

/// What an earlier run has planned and not sent is withdrawn when both sides have come to agree without it: QAD has taken the
/// value off its list since, or somebody was faster.
async fn withdraw_unwanted(
    deps: &Deps<'_>,
    begun: Vec<Loaded<LookupValueRecord>>,
    planned: &LookupPlan,
    done: &mut LookupRun,
) -> Result<(), FlowError> {
    for Loaded { document, revision } in begun {
        let wanted = planned.changes().any(|action| action.path == document.path);
        if wanted {
            continue;
        }
        let change =
            ValueWrite::advance(&deps.context, &document, EffectEvent::Withdrawn).map_err(impossible)?;
        match save(&deps.context, revision, change).await {
            Ok(_) => {}
            // Somebody is at it: the next run looks again.
            Err(CommitError::Conflict) => done.open = done.open.saturating_add(1),
            Err(CommitError::Store(error)) => return Err(FlowError::Store(error)),
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------
// The lookup's own record
// ---------------------------------------------------------------------------------------------------------------

/// Where the record of a value lies.
pub fn value_key(lookup: &str, path: &[LookupCode]) -> RecordKey {
    RecordKey::Entry {
        collection: Collection::LookupValue,
        id: LookupValueRecord::record_id(lookup, path),
    }
}

/// Parks the lookup, unless only the plan was asked for.
async fn park(
    deps: &Deps<'_>,
    record: Loaded<PlanRecord>,
    open: bool,
    parking: Parking,
) -> Result<(), FlowError> {
    if deps.plan_only {
        return Ok(());
    }
    plans::park(&deps.context, record, open, parking).await
}

/// Rests: everything that can be done is done. What is left waits for a person, value by value.
async fn rest(
    deps: &Deps<'_>,
    record: Loaded<PlanRecord>,
    open: bool,
    problems: &[Problem],
    refused: BTreeSet<String>,
) -> Result<(), FlowError> {
    if deps.plan_only {
        return Ok(());
    }
    if let Some(first) = problems.first() {
        let told = problems.iter().take(CHANGES_TOLD_MAX).map(ToString::to_string);
        let parking = Parking {
            problem: first.clone(),
            plan_sha256: String::new(),
            changes: told.collect(),
            allowed: Some(refused.into_iter().take(ALLOWED_MAX).collect()),
        };
        return park(deps, record, open, parking).await;
    }
    plans::settle(&deps.context, record, open).await
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
    /// What a complete listing of this very run showed: before a first send it is the look-up.
    seen: Option<&'a [CoupaValue]>,
    /// Whether what is proven absent is sent again at once; while another installation may be at work it is planned anew.
    sends_again: bool,
    /// What Coupa shows of it in the end.
    answer: &'a std::sync::Mutex<Option<CoupaValue>>,
}

/// A value as Coupa shows it.
#[derive(Clone)]
struct Shown {
    value: CoupaValue,
    /// True when this is the answer to what was just sent.
    echoed: bool,
}

impl ValueWrite<'_> {
    /// Coupa refused a new value because its number or its name is taken: with its number it is there already, else the
    /// name is somebody else's.
    async fn already_there(
        &self,
        record: &LookupValueRecord,
        action: &Action,
        refusal: Problem,
    ) -> Result<Shown, WriteError> {
        let Some(code) = action.code() else {
            return Err(WriteError::Refused(refusal));
        };
        let found = match self.coupa.find_lookup_values(&record.lookup, code).await {
            Ok(found) => found,
            // Refused, so nothing was applied; who has it is found out with the next try.
            Err(ReadError::Unavailable { retry_after, problem }) => {
                return Err(WriteError::NotApplied { retry_after, problem });
            }
            Err(ReadError::Refused(problem) | ReadError::Unreadable(problem)) => {
                return Err(WriteError::Refused(problem));
            }
        };
        let mut ours = found.into_iter().filter(|value| action.is_about(value));
        match (ours.next(), ours.next()) {
            (Some(value), None) => Ok(Shown { value, echoed: false }),
            (Some(one), Some(other)) => Err(WriteError::Refused(reference_twice(action, one.id, other.id))),
            (None, _) => {
                let fix = "Change one of the two descriptions, or give the value in Coupa this number; it is left alone.";
                Err(WriteError::Refused(
                    Problem::new("LOOKUP_NAME_TAKEN", fix)
                        .field(code.as_str())
                        .expected(format!("no other value named \"{}\"", action.name))
                        .actual(refusal.actual),
                ))
            }
        }
    }

    fn advance(
        context: &Context<'_>,
        record: &LookupValueRecord,
        event: EffectEvent,
    ) -> Stepped<LookupValueRecord, LookupValueEvent> {
        let effect = record.effect.as_ref().ok_or(IllegalStep::NoEffect)?;
        let action = action_of(effect).map_err(|_| IllegalStep::NoEffect)?;
        let timing = context.timing.toward_coupa();
        let (document, told) = record.advance(&action, event, context.clock.now(), &timing)?;
        Ok(Change {
            document,
            events: vec![told],
            writes: vec![],
        })
    }
}

#[async_trait]
impl Target<LookupValueRecord> for ValueWrite<'_> {
    type Answer = Shown;
    type Event = LookupValueEvent;

    fn manner(&self) -> Manner {
        Manner {
            anew_when_absent: !self.sends_again,
            ..Manner::default()
        }
    }

    fn absent(
        &self,
        context: &Context<'_>,
        record: &LookupValueRecord,
    ) -> Stepped<LookupValueRecord, LookupValueEvent> {
        let mut change = Self::advance(context, record, EffectEvent::ProvenAbsent)?;
        // Coupa's values are listed before anything of it is sent again: a late one of these is not missed there.
        if let Some(effect) = &mut change.document.effect {
            effect.doubts.clear();
        }
        Ok(change)
    }

    fn effect<'d>(&self, record: &'d LookupValueRecord) -> Option<&'d Effect> {
        record.effect.as_ref()
    }

    async fn send(&self, record: &LookupValueRecord, effect: &Effect) -> Result<Shown, WriteError> {
        let action = action_of(effect).map_err(WriteError::Refused)?;
        let key = &effect.idempotency_key;
        let sent = match action.id {
            Some(id) => {
                self.coupa
                    .update_lookup_value(&record.lookup, id, &action, key)
                    .await
            }
            None => self.coupa.create_lookup_value(&record.lookup, &action, key).await,
        };
        match sent {
            Ok(value) => Ok(Shown { value, echoed: true }),
            Err(WriteError::Refused(problem)) if action.id.is_none() && problem.code == VALUE_TAKEN => {
                self.already_there(record, &action, problem).await
            }
            Err(error) => Err(error),
        }
    }

    /// By code, and below the same parent.
    async fn look_up(&self, record: &LookupValueRecord, effect: &Effect) -> Result<Vec<Shown>, ReadError> {
        let action = action_of(effect).map_err(ReadError::Refused)?;
        let Some(code) = action.code() else {
            return Ok(Vec::new());
        };
        let found = match self.seen.filter(|_| effect.status == EffectStatus::Ready) {
            Some(seen) => seen.to_vec(),
            None => self.coupa.find_lookup_values(&record.lookup, code).await?,
        };
        Ok(found
            .into_iter()
            .filter(|value| action.is_about(value))
            .map(|value| Shown { value, echoed: false })
            .collect())
    }

    fn judge(&self, _: &LookupValueRecord, effect: &Effect, answers: Vec<Shown>) -> Finding<Shown> {
        let action = match action_of(effect) {
            Ok(action) => action,
            Err(problem) => return Finding::Unclear(problem),
        };
        let mut answers = answers.into_iter();
        let Some(shown) = answers.next() else {
            return Finding::Nothing;
        };
        if let Some(other) = answers.next() {
            return Finding::Park {
                problem: reference_twice(&action, shown.value.id, other.value.id),
                answer: None,
            };
        }
        if !action.is_about(&shown.value) {
            let fix = "Nothing to do: both sides are compared again with the next run.";
            return Finding::Unclear(
                Problem::new("LOOKUP_ANSWER_ABOUT_ANOTHER", fix)
                    .field(path_text(&action))
                    .expected(action.sentence())
                    .actual(format!("id {} \"{}\"", shown.value.id, shown.value.name)),
            );
        }
        if shown.echoed && !action.is_shown_by(&shown.value) {
            let fix = "Coupa keeps this value otherwise than it was asked to: shorten or correct its description in QAD.";
            let problem = Problem::new("LOOKUP_VALUE_NOT_KEPT", fix)
                .field(path_text(&action))
                .expected(format!("\"{}\", active {}", action.name, action.active))
                .actual(format!("\"{}\", active {}", shown.value.name, shown.value.active));
            return Finding::Park {
                problem,
                answer: Some(shown),
            };
        }
        // A value that was found may have another name: it is renamed with the next run.
        Finding::There {
            answer: shown,
            adopted: false,
        }
    }

    fn step(
        &self,
        context: &Context<'_>,
        record: &LookupValueRecord,
        event: EffectEvent,
    ) -> Stepped<LookupValueRecord, LookupValueEvent> {
        Self::advance(context, record, event)
    }

    fn there(
        &self,
        context: &Context<'_>,
        record: &LookupValueRecord,
        shown: &Shown,
        _: Proof,
    ) -> Stepped<LookupValueRecord, LookupValueEvent> {
        let mut change = Self::advance(context, record, EffectEvent::Confirmed)?;
        change.document.id = Some(shown.value.id);
        *self
            .answer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(shown.value.clone());
        Ok(change)
    }
}

/// The path of a value for people.
fn path_text(action: &Action) -> String {
    let codes: Vec<&str> = action.path.iter().map(LookupCode::as_str).collect();
    codes.join(" > ")
}

fn reference_twice(action: &Action, one: u64, other: u64) -> Problem {
    let fix = "Take the reference number off the value in Coupa that is not used.";
    Problem::new("LOOKUP_REFERENCE_TWICE", fix)
        .field(path_text(action))
        .expected("one value in Coupa with this external-ref-num")
        .actual(format!("ids {one} and {other}"))
}

#[cfg(test)]
mod tests;
