//! Looks whose the mark in Coupa is, claims one that is nobody's, renews the own one: [`domain::ownership`] at work.
//!
//! It is looked at by whatever works on a connection, when it is time, and by nothing for the sake of one invoice. What was
//! seen is kept in the register, and read there together with the pauses before anything new is begun ([`crate::pause`]).
//! A claim and a renewal are safe to lose: the beat is known to the register before it leaves, a number is taken once, and
//! only its owner writes a mark over.

use crate::operator::OperatorError;
use crate::ports::{CommitError, CoupaLookups, ReadError, RecordKey, Register, StoredRecord, WriteError};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, parse, save};
use domain::ids::ConnectionId;
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::lookups::{Action, ActionKind, LookupCode};
use domain::ownership::{
    Found, Mark, OwnerEvent, OwnerState, Ownership, Standing, epoch_of, highest, number_of, standing,
};
use domain::problem::Problem;
use domain::time::Timestamp;
use std::collections::BTreeSet;

/// The audit name of it.
pub const AUDIT_NAME: &str = "flow/owner";
/// Tries to keep what was seen while others look too.
const TRIES_MAX: u32 = 5;

/// What looking at the mark needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register, clock, chance, timing, deadline.
    pub context: Context<'a>,
    /// Whose register.
    pub connection: &'a ConnectionId,
    /// Coupa: read, create and rename lookup values.
    pub coupa: &'a dyn CoupaLookups,
    /// The lookup that holds the mark; none where none is named.
    pub lookup: Option<&'a str>,
}

/// What looking at it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// What is known now.
    pub ownership: Ownership,
    /// Why Coupa could not be asked, or did not take a write.
    pub trouble: Option<Problem>,
    /// When to look again.
    pub look_again: Timestamp,
}

/// Where it is kept.
pub fn key() -> RecordKey {
    RecordKey::Watermark("owner".to_owned())
}

impl Document for Ownership {
    fn key(&self) -> RecordKey {
        key()
    }
    fn audit_name(&self) -> String {
        AUDIT_NAME.to_owned()
    }
    fn state_word(&self) -> &'static str {
        match self.state {
            OwnerState::Unguarded => "unguarded",
            OwnerState::Unknown { .. } => "unknown",
            OwnerState::Ours { .. } => "ours",
            OwnerState::Another { .. } => "another",
        }
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

/// What the register knows of the mark; `None` when nobody has looked yet.
///
/// # Errors
/// No answer from the register.
pub async fn known(register: &dyn Register) -> Result<Option<Ownership>, FlowError> {
    Ok(load::<Ownership>(register, key())
        .await?
        .map(|loaded| loaded.document))
}

/// Why nothing new may be begun, from a record that was read together with others.
pub(crate) fn stop(stored: &StoredRecord, now: Timestamp) -> Result<Option<Problem>, FlowError> {
    Ok(parse::<Ownership>(stored)?.stop(now))
}

/// Looks whose the mark is when it is time, and claims or renews it. What was never looked at is known afterwards, and be it
/// that nobody knows: [`Ownership::stop`] says what that means.
///
/// # Errors
/// No answer from the register, or others kept writing it; nothing is known then that was not known before.
pub async fn watch(deps: &Deps<'_>) -> Result<Watched, FlowError> {
    for attempt in 0..TRIES_MAX {
        if let Some(watched) = watch_once(deps).await? {
            return Ok(watched);
        }
        deps.context.pause(attempt).await;
    }
    Err(FlowError::Contended)
}

/// `None` when somebody else wrote the record in between.
async fn watch_once(deps: &Deps<'_>) -> Result<Option<Watched>, FlowError> {
    let context = &deps.context;
    let now = context.clock.now();
    let loaded = loaded(context).await?;
    let Some(lookup) = deps.lookup else {
        return unguarded(context, loaded).await;
    };
    let is_fresh =
        matches!(loaded.document.state, OwnerState::Ours { .. }) && loaded.document.look_again(now) > now;
    if is_fresh {
        return Ok(Some(watched(context, loaded, None)));
    }
    let (seen, _) = match look(deps, &loaded.document, lookup).await {
        Ok(seen) => seen,
        Err(error) => return failed(context, loaded, &unanswered(error)?).await,
    };
    match seen {
        // What was another's is given by a person alone, also when its mark has gone.
        Standing::Nobody if !matches!(loaded.document.state, OwnerState::Another { .. }) => {
            let epoch = loaded.document.epoch().saturating_add(1);
            claim(deps, loaded, lookup, epoch, None).await
        }
        Standing::Ours {
            id, epoch, renewed, ..
        } if renewed.plus_millis(domain::ownership::RENEWED_AFTER_MILLIS) <= now => {
            renew(deps, loaded, lookup, id, epoch, &seen).await
        }
        _ => settle(context, loaded, &seen, lookup, None).await,
    }
}

async fn loaded(context: &Context<'_>) -> Result<Loaded<Ownership>, FlowError> {
    let known = load::<Ownership>(context.register, key()).await?;
    Ok(known.unwrap_or_else(|| Loaded {
        document: Ownership::new(context.chance.token()),
        revision: 0,
    }))
}

fn watched(context: &Context<'_>, loaded: Loaded<Ownership>, trouble: Option<Problem>) -> Watched {
    let now = context.clock.now();
    // What is in trouble is tried again soon, also while it is ours.
    let soon = now.plus_millis(domain::ownership::LOOKED_AGAIN_AFTER_MILLIS);
    let look_again = match &trouble {
        Some(_) => soon,
        None => loaded.document.look_again(now).max(soon),
    };
    Watched {
        ownership: loaded.document,
        trouble,
        look_again,
    }
}

/// Keeps what is new, in one write; nothing is written when nothing is.
async fn keep(
    context: &Context<'_>,
    loaded: Loaded<Ownership>,
    after: Ownership,
    events: Vec<OwnerEvent>,
) -> Result<Option<Loaded<Ownership>>, FlowError> {
    if after == loaded.document && loaded.revision > 0 {
        return Ok(Some(loaded));
    }
    let change = Change {
        document: after,
        events,
        writes: vec![],
    };
    match save(context, loaded.revision, change).await {
        Ok(saved) => Ok(Some(saved)),
        Err(CommitError::Conflict) => Ok(None),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

/// No lookup is named. What was never guarded needs no record of it.
async fn unguarded(context: &Context<'_>, loaded: Loaded<Ownership>) -> Result<Option<Watched>, FlowError> {
    let after = Ownership {
        state: OwnerState::Unguarded,
        ..loaded.document.clone()
    };
    if loaded.revision == 0 {
        let loaded = Loaded {
            document: after,
            ..loaded
        };
        return Ok(Some(watched(context, loaded, None)));
    }
    let events = match loaded.document.state {
        OwnerState::Unguarded => vec![],
        _ => vec![OwnerEvent::Unguarded],
    };
    let kept = keep(context, loaded, after, events).await?;
    Ok(kept.map(|kept| watched(context, kept, None)))
}

/// Why a look gave no answer: Coupa's reason. Without the register nothing is known at all.
fn unanswered(error: OperatorError) -> Result<Problem, FlowError> {
    match error {
        OperatorError::Flow(error) => Err(error),
        OperatorError::Read(error) => Ok(error.problem().clone()),
        OperatorError::Refused(problem) | OperatorError::NotFound(problem) => Ok(problem),
    }
}

/// Reads all marks, complete or not at all, and says whose the highest is. The beats of another connection of this register
/// are this register's too.
async fn look(
    deps: &Deps<'_>,
    own: &Ownership,
    lookup: &str,
) -> Result<(Standing, Vec<Mark>), OperatorError> {
    let context = &deps.context;
    if !context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime.into());
    }
    let scan = deps.coupa.lookup_values(lookup).await?;
    let may_be_a_mark =
        |number: &Option<LookupCode>| number.as_ref().is_none_or(|number| epoch_of(number).is_some());
    if let Some((_, problem)) = scan
        .unreadable
        .into_iter()
        .find(|(number, _)| may_be_a_mark(number))
    {
        return Err(ReadError::Unreadable(problem).into());
    }
    let top = highest(&scan.values);
    let mut beats: BTreeSet<String> = own.beats.iter().cloned().collect();
    for other in neighbours(&top, deps.connection) {
        let theirs = known(context.register.neighbour(other).as_ref()).await?;
        beats.extend(theirs.into_iter().flat_map(|theirs| theirs.beats));
    }
    let marks = top.iter().filter_map(|found| found.mark.clone()).collect();
    Ok((standing(&top, |beat| beats.contains(beat)), marks))
}

fn neighbours<'a>(top: &'a [Found], own: &'a ConnectionId) -> impl Iterator<Item = &'a ConnectionId> {
    let named = top.iter().filter_map(|found| found.mark.as_ref());
    named
        .map(|mark| &mark.connection)
        .filter(move |connection| *connection != own)
}

async fn settle(
    context: &Context<'_>,
    loaded: Loaded<Ownership>,
    seen: &Standing,
    lookup: &str,
    trouble: Option<Problem>,
) -> Result<Option<Watched>, FlowError> {
    let (after, events) = loaded.document.after_look(seen, lookup, context.clock.now());
    let kept = keep(context, loaded, after, events).await?;
    Ok(kept.map(|kept| watched(context, kept, trouble)))
}

async fn failed(
    context: &Context<'_>,
    loaded: Loaded<Ownership>,
    problem: &Problem,
) -> Result<Option<Watched>, FlowError> {
    let (after, events) = loaded.document.after_failure(problem);
    let kept = keep(context, loaded, after, events).await?;
    Ok(kept.map(|kept| watched(context, kept, Some(problem.clone()))))
}

/// The mark that is about to leave, with a beat that the register knows first; `known` is what is known by then.
async fn with_beat(
    deps: &Deps<'_>,
    loaded: Loaded<Ownership>,
    known: Ownership,
    events: Vec<OwnerEvent>,
) -> Result<Option<(Loaded<Ownership>, Mark)>, FlowError> {
    let context = &deps.context;
    let beat = context.chance.token();
    let mark = Mark {
        installation: known.installation.clone(),
        connection: deps.connection.clone(),
        renewed: context.clock.now(),
        beat: beat.clone(),
    };
    let kept = keep(context, loaded, known.with_beat(beat), events).await?;
    Ok(kept.map(|kept| (kept, mark)))
}

/// What is written of a mark. `None` for a number that Coupa would not take, which no epoch has.
fn action(kind: ActionKind, epoch: u64, id: Option<u64>, mark: &Mark) -> Option<Action> {
    Some(Action {
        kind,
        path: vec![number_of(epoch).parse().ok()?],
        id,
        parent_ref_code: None,
        parent_id: None,
        name_before: String::new(),
        name: mark.text(),
        active: true,
    })
}

/// Claims an epoch. Whatever the answer, a look says whose it is: the number is taken once.
async fn claim(
    deps: &Deps<'_>,
    loaded: Loaded<Ownership>,
    lookup: &str,
    epoch: u64,
    instruction: Option<Instruction>,
) -> Result<Option<Watched>, FlowError> {
    let context = &deps.context;
    let events = vec![OwnerEvent::Claiming { epoch, instruction }];
    let known = loaded.document.clone();
    let Some((loaded, mark)) = with_beat(deps, loaded, known, events).await? else {
        return Ok(None);
    };
    let trouble = match action(ActionKind::Create, epoch, None, &mark) {
        _ if !context.has_time_for_a_call() => Some(FlowError::OutOfTime.problem()),
        Some(action) => {
            let key = format!("owner/{epoch}/{}", mark.beat);
            let created = deps.coupa.create_lookup_value(lookup, &action, &key).await;
            created.err().map(|error| error.problem().clone())
        }
        None => Some(not_shown(epoch)),
    };
    let seen = match look(deps, &loaded.document, lookup).await {
        Ok((seen, _)) => seen,
        Err(error) => return failed(context, loaded, &unanswered(error)?).await,
    };
    if seen == Standing::Nobody {
        return failed(context, loaded, &trouble.unwrap_or_else(|| not_shown(epoch))).await;
    }
    settle(context, loaded, &seen, lookup, None).await
}

fn not_shown(epoch: u64) -> Problem {
    Problem::new("OWNER_MARK_NOT_SHOWN", "Nothing to do: it is looked for again.").actual(number_of(epoch))
}

/// Renews the own mark. Lost, it is as old as it was; landed late, its beat is known.
async fn renew(
    deps: &Deps<'_>,
    loaded: Loaded<Ownership>,
    lookup: &str,
    id: u64,
    epoch: u64,
    seen: &Standing,
) -> Result<Option<Watched>, FlowError> {
    let context = &deps.context;
    // Which beat stands is known before another one leaves.
    let (known, events) = loaded.document.after_look(seen, lookup, context.clock.now());
    let Some((loaded, mark)) = with_beat(deps, loaded, known, events).await? else {
        return Ok(None);
    };
    let written = match action(ActionKind::Rename, epoch, Some(id), &mark) {
        Some(action) if context.has_time_for_a_call() => {
            let key = format!("owner/{epoch}/{}", mark.beat);
            deps.coupa.update_lookup_value(lookup, id, &action, &key).await
        }
        _ => Err(WriteError::NotApplied {
            retry_after: None,
            problem: FlowError::OutOfTime.problem(),
        }),
    };
    match written {
        Ok(shown) if shown.name == mark.text() => {
            let renewed = Standing::Ours {
                id,
                epoch,
                renewed: mark.renewed,
                beat: mark.beat,
            };
            settle(context, loaded, &renewed, lookup, None).await
        }
        Ok(_) => settle(context, loaded, seen, lookup, Some(not_shown(epoch))).await,
        Err(error) => settle(context, loaded, seen, lookup, Some(error.problem().clone())).await,
    }
}

/// What a person sees before deciding: whose the mark is as Coupa shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What the register knows.
    pub known: Option<Ownership>,
    /// What Coupa shows.
    pub standing: Standing,
    /// The marks of the highest epoch.
    pub marks: Vec<Mark>,
}

/// Looks, and writes nothing anywhere.
///
/// # Errors
/// No answer from the register or from Coupa.
pub async fn show(deps: &Deps<'_>, lookup: &str) -> Result<Shown, OperatorError> {
    let known = known(deps.context.register).await?;
    let own = known.clone().unwrap_or_else(|| Ownership::new(String::new()));
    let (standing, marks) = look(deps, &own, lookup).await?;
    Ok(Shown {
        known,
        standing,
        marks,
    })
}

/// Gives the mark to this register: the next epoch, once the owner of this one has provably stopped. `None` when it is this
/// register's already.
///
/// # Errors
/// Refused while the mark is too young, or when somebody else was given it in this moment. See [`OperatorError`].
pub async fn take(
    deps: &Deps<'_>,
    lookup: &str,
    instruction: &Instruction,
    dry_run: bool,
) -> Result<Option<u64>, OperatorError> {
    let context = &deps.context;
    let loaded = loaded(context).await?;
    let (seen, marks) = look(deps, &loaded.document, lookup).await?;
    let epoch = match &seen {
        Standing::Ours { .. } => return Ok(None),
        Standing::Nobody => loaded.document.epoch().saturating_add(1),
        Standing::Another { epoch, .. } => epoch.saturating_add(1),
    };
    if let Standing::Another { .. } = seen
        && let Some(problem) = loaded
            .document
            .too_young(&marks, lookup, context.timing, context.clock.now())
    {
        return Err(OperatorError::Refused(problem));
    }
    if dry_run {
        return Ok(Some(epoch));
    }
    let Some(watched) = claim(deps, loaded, lookup, epoch, Some(instruction.clone())).await? else {
        return Err(FlowError::Contended.into());
    };
    match (watched.ownership.state, watched.trouble) {
        (OwnerState::Ours { epoch, .. }, _) => Ok(Some(epoch)),
        (OwnerState::Another { problem, .. }, None) => Err(OperatorError::Refused(problem)),
        (_, Some(problem)) | (OwnerState::Unknown { problem }, None) => {
            Err(ReadError::Unreadable(problem).into())
        }
        (OwnerState::Unguarded, None) => Err(FlowError::Contended.into()),
    }
}

#[cfg(test)]
mod tests;
