//! The effect engine: the only code that writes to another system.
//!
//! It walks the state machine of [`domain::effect`]: claim and intent in one write before the first byte, send only
//! inside the lease, and after a lost answer settle, look up, and only then perhaps send again. What a particular
//! write looks like is a [`Target`].

use crate::ports::{CommitError, ReadError, WriteError};
use crate::store::{Change, Context, Document, FlowError, Loaded, impossible, load, save};
use async_trait::async_trait;
use domain::effect::{Effect, EffectEvent, Step, backoff_millis};
use domain::guards::{Guard, stands};
use domain::lifecycle::IllegalStep;
use domain::problem::Problem;
use domain::time::Timestamp;
use serde::Serialize;
use std::time::Duration;

/// Most steps one drive takes: look up, claim, send, settle, with room for a second round.
const STEPS_MAX: u32 = 6;
/// How often an outcome is written again because somebody else changed the record in between.
const SETTLE_TRIES_MAX: u32 = 5;
/// Longest wait that the other side's `Retry-After` can impose, in milliseconds (an hour).
const RETRY_AFTER_MILLIS_MAX: i64 = 3_600_000;

/// What an answer, or a look-up, proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding<A> {
    /// A complete look-up found nothing.
    Nothing,
    /// It is there; this is it, and whether it is a stranger's that we take as ours.
    There {
        /// What the other system holds.
        answer: A,
        /// True when somebody else made it and it is taken as ours.
        adopted: bool,
    },
    /// Something is there that a person must look at.
    Park {
        /// What.
        problem: Problem,
        /// What the other system holds, when there is one thing to name.
        answer: Option<A>,
    },
    /// It proves nothing.
    Unclear(Problem),
}

/// How the engine came to know that a write is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The other system confirmed what was just sent.
    Confirmed,
    /// A look-up found it.
    Found,
    /// A look-up found a stranger's, taken as ours.
    Adopted,
}

/// A document after a step, or why the step is impossible.
pub type Stepped<D, E> = Result<Change<D, E>, IllegalStep>;

/// One kind of write to another system, on one kind of document.
#[async_trait]
pub trait Target<D: Document>: Send + Sync {
    /// What the other system shows of it.
    type Answer: Send + Sync;
    /// What the document's audit trail holds.
    type Event: Serialize + Send + Sync;

    /// The effect in the document.
    fn effect<'d>(&self, document: &'d D) -> Option<&'d Effect>;

    /// Sends it, once.
    async fn send(&self, document: &D, effect: &Effect) -> Result<Self::Answer, WriteError>;

    /// Looks for it: complete, or an error.
    async fn look_up(&self, document: &D, effect: &Effect) -> Result<Vec<Self::Answer>, ReadError>;

    /// What the answers prove.
    fn judge(&self, document: &D, effect: &Effect, answers: Vec<Self::Answer>) -> Finding<Self::Answer>;

    /// The document after a step that does not end the effect.
    fn step(&self, context: &Context<'_>, document: &D, event: EffectEvent) -> Stepped<D, Self::Event>;

    /// The document after an attempt is proven to have left nothing, when it must be decided anew before anything is sent;
    /// `None`, unless a target says otherwise: the same is simply sent again.
    fn absent(
        &self,
        _context: &Context<'_>,
        _document: &D,
    ) -> Result<Option<Change<D, Self::Event>>, IllegalStep> {
        Ok(None)
    }

    /// The document after the write is proven to be there.
    fn there(
        &self,
        context: &Context<'_>,
        document: &D,
        answer: &Self::Answer,
        proof: Proof,
    ) -> Stepped<D, Self::Event>;

    /// The document after the other system refused it; unless a target says otherwise, only the effect tells of it.
    fn refused(&self, context: &Context<'_>, document: &D, problem: Problem) -> Stepped<D, Self::Event> {
        self.step(context, document, EffectEvent::Refused { problem })
    }

    /// The document after it turned out that a person must look; unless a target says otherwise, only the effect tells of it.
    fn parked(
        &self,
        context: &Context<'_>,
        document: &D,
        problem: Problem,
        _answer: Option<&Self::Answer>,
    ) -> Stepped<D, Self::Event> {
        self.step(context, document, EffectEvent::Parked { problem })
    }
}

/// Where a drive ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driven<D> {
    /// The effect has ended, or there is none; this is the document as stored.
    Finished(Loaded<D>),
    /// Nothing to do before its due time; this is the document as stored.
    Later(Loaded<D>),
    /// Somebody else has it.
    Busy,
    /// There was no time to begin; nothing was sent.
    OutOfTime,
}

/// Drives one effect as far as it goes now.
pub async fn drive<D: Document, T: Target<D>>(
    context: &Context<'_>,
    mut document: Loaded<D>,
    target: &T,
) -> Result<Driven<D>, FlowError> {
    for _ in 0..STEPS_MAX {
        let Some(effect) = target.effect(&document.document) else {
            return Ok(Driven::Finished(document));
        };
        let next = match effect.step(context.clock.now(), context.timing) {
            Step::Finished => return Ok(Driven::Finished(document)),
            Step::Wait(_) => return Ok(Driven::Later(document)),
            _ if !context.has_time_for_a_call() => return Ok(Driven::OutOfTime),
            Step::LookUpThenSend if !stands(Guard::LookUpBeforeFirstSend) => {
                claim_and_send(context, document, target).await?
            }
            Step::LookUpThenSend => first_send(context, document, target).await?,
            Step::Send => claim_and_send(context, document, target).await?,
            Step::LookEarly { settled } => look_early(context, document, target, settled).await?,
            Step::LookUp => look_up(context, document, target).await?,
        };
        match next {
            Some(after) => document = after,
            None => return Ok(Driven::Busy),
        }
    }
    Err(FlowError::Contended)
}

/// What a finding leaves to do, once what it proves is stored.
enum Concluded<D> {
    /// Stored; `None` when the claim is not ours any more.
    Stored(Option<Loaded<D>>),
    /// It proves that nothing is there.
    Absent(Loaded<D>),
    /// It proves nothing.
    Open(Loaded<D>, Problem),
}

/// Stores what a finding proves.
async fn conclude<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
    finding: Finding<T::Answer>,
    proof_of_ours: Proof,
) -> Result<Concluded<D>, FlowError> {
    let stored = match finding {
        Finding::Nothing => return Ok(Concluded::Absent(document)),
        Finding::Unclear(problem) => return Ok(Concluded::Open(document, problem)),
        Finding::There { answer, adopted } => {
            // What was just sent is ours, however it is echoed.
            let proof = match proof_of_ours {
                Proof::Found if adopted => Proof::Adopted,
                proof => proof,
            };
            settle(context, document, target, |d| {
                target.there(context, d, &answer, proof)
            })
            .await?
        }
        Finding::Park { problem, answer } => {
            settle(context, document, target, |d| {
                target.parked(context, d, problem.clone(), answer.as_ref())
            })
            .await?
        }
    };
    Ok(Concluded::Stored(stored))
}

/// Stores a step that does not end the effect.
async fn take<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
    event: EffectEvent,
) -> Result<Option<Loaded<D>>, FlowError> {
    settle(context, document, target, |d| {
        target.step(context, d, event.clone())
    })
    .await
}

/// Before the very first send: somebody may have keyed it by hand.
async fn first_send<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
) -> Result<Option<Loaded<D>>, FlowError> {
    let effect = effect_of(target, &document)?;
    let finding = match target.look_up(&document.document, effect).await {
        Ok(answers) => target.judge(&document.document, effect, answers),
        Err(_) if !stands(Guard::FailedLookUpIsNoAnswer) => Finding::Nothing,
        Err(ReadError::Refused(problem)) => Finding::Park {
            problem,
            answer: None,
        },
        Err(ReadError::Unavailable { retry_after, problem }) => {
            let event = not_applied(context, effect, retry_after, problem);
            return take(context, document, target, event).await;
        }
        Err(ReadError::Unreadable(problem)) => Finding::Unclear(problem),
    };
    match conclude(context, document, target, finding, Proof::Found).await? {
        Concluded::Stored(stored) => Ok(stored),
        Concluded::Absent(document) => claim_and_send(context, document, target).await,
        Concluded::Open(document, problem) => {
            let event = not_applied(context, effect_of(target, &document)?, None, problem);
            take(context, document, target, event).await
        }
    }
}

/// Claim and intent are one write, before the first byte.
async fn claim_and_send<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
) -> Result<Option<Loaded<D>>, FlowError> {
    let event = EffectEvent::Intended {
        holder: context.chance.token(),
    };
    match claim(context, document, target, event).await? {
        Some(claimed) => send(context, claimed, target).await,
        None => Ok(None),
    }
}

/// Soon after a lost answer: is ours there already? That alone counts. Nothing found, a stranger's document or no answer prove
/// nothing before the settle window ends, for a late commit may still land: then the claimed look-up decides. Nothing is sent
/// after it, so nobody needs to be kept away; when to look next is stored first, so that nobody else asks the same meanwhile.
async fn look_early<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
    settled: Timestamp,
) -> Result<Option<Loaded<D>>, FlowError> {
    let looks = effect_of(target, &document)?.early_looks;
    let event = EffectEvent::LookedEarly {
        not_before: after_wait(context, looks, None).min(settled),
    };
    let Some(document) = claim(context, document, target, event).await? else {
        return Ok(None);
    };
    let effect = effect_of(target, &document)?;
    let Ok(answers) = target.look_up(&document.document, effect).await else {
        return Ok(Some(document));
    };
    match target.judge(&document.document, effect, answers) {
        found @ Finding::There { adopted: false, .. } => {
            match conclude(context, document, target, found, Proof::Found).await? {
                Concluded::Stored(stored) => Ok(stored),
                Concluded::Absent(document) | Concluded::Open(document, _) => Ok(Some(document)),
            }
        }
        Finding::There { .. } | Finding::Nothing | Finding::Park { .. } | Finding::Unclear(_) => {
            Ok(Some(document))
        }
    }
}

/// After a lost answer: claim, look up, and send again only if a complete look-up found nothing.
async fn look_up<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
) -> Result<Option<Loaded<D>>, FlowError> {
    let event = EffectEvent::LookUpClaimed {
        holder: context.chance.token(),
    };
    let Some(document) = claim(context, document, target, event).await? else {
        return Ok(None);
    };
    let effect = effect_of(target, &document)?;
    let failed =
        |effect: &Effect, retry_after: Option<Duration>, problem: Problem| EffectEvent::LookUpFailed {
            not_before: not_before(context, effect, retry_after),
            problem,
        };
    let finding = match target.look_up(&document.document, effect).await {
        Ok(answers) => target.judge(&document.document, effect, answers),
        Err(_) if !stands(Guard::FailedLookUpIsNoAnswer) => Finding::Nothing,
        // A look-up that gives no answer is never "none", whatever the reason: the effect stays unknown.
        Err(error) => {
            let retry_after = match &error {
                ReadError::Unavailable { retry_after, .. } => *retry_after,
                ReadError::Refused(_) | ReadError::Unreadable(_) => None,
            };
            let event = failed(effect, retry_after, error.problem().clone());
            return take(context, document, target, event).await;
        }
    };
    match conclude(context, document, target, finding, Proof::Found).await? {
        Concluded::Stored(stored) => Ok(stored),
        Concluded::Absent(document) => {
            let given_up = target.absent(context, &document.document).map_err(impossible)?;
            if given_up.is_some() {
                return settle(context, document, target, |d| {
                    target.absent(context, d)?.ok_or(IllegalStep::NoEffect)
                })
                .await;
            }
            match claim(context, document, target, EffectEvent::IntendedAgain).await? {
                Some(claimed) => send(context, claimed, target).await,
                None => Ok(None),
            }
        }
        Concluded::Open(document, problem) => {
            let event = failed(effect_of(target, &document)?, None, problem);
            take(context, document, target, event).await
        }
    }
}

async fn send<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
) -> Result<Option<Loaded<D>>, FlowError> {
    let effect = effect_of(target, &document)?;
    // Checked last, right before the bytes leave: a whole exchange must end inside the lease and the invocation.
    let too_late =
        context.clock.now() > effect.send_deadline(context.timing) || !context.has_time_for_a_call();
    if too_late && stands(Guard::SendInsideLease) {
        let event = EffectEvent::NotApplied {
            not_before: context.clock.now(),
            problem: Problem::new("OUT_OF_TIME", "Nothing to do: it is tried again."),
        };
        return take(context, document, target, event).await;
    }
    let event = match target.send(&document.document, effect).await {
        Ok(answer) => {
            let finding = target.judge(&document.document, effect, vec![answer]);
            match conclude(context, document, target, finding, Proof::Confirmed).await? {
                Concluded::Stored(stored) => return Ok(stored),
                Concluded::Open(document, problem) => {
                    return take(
                        context,
                        document,
                        target,
                        EffectEvent::MayHaveHappened { problem },
                    )
                    .await;
                }
                Concluded::Absent(document) => {
                    let problem = Problem::new("ANSWER_PROVES_NOTHING", "Nothing to do: it is looked up.");
                    return take(
                        context,
                        document,
                        target,
                        EffectEvent::MayHaveHappened { problem },
                    )
                    .await;
                }
            }
        }
        Err(WriteError::NotApplied { retry_after, problem }) => {
            not_applied(context, effect, retry_after, problem)
        }
        // Who we are was refused, not what we sent: nothing was applied, and it goes on once the secret is corrected.
        Err(WriteError::Refused(problem)) if problem.is_credential_refused() => {
            not_applied(context, effect, None, problem)
        }
        Err(WriteError::Refused(problem)) => {
            return settle(context, document, target, |d| {
                target.refused(context, d, problem.clone())
            })
            .await;
        }
        Err(WriteError::Unknown(problem)) if !stands(Guard::UnknownIsUnknown) => {
            not_applied(context, effect, None, problem)
        }
        Err(WriteError::Unknown(problem)) => EffectEvent::MayHaveHappened { problem },
    };
    take(context, document, target, event).await
}

fn effect_of<'d, D: Document, T: Target<D>>(
    target: &T,
    document: &'d Loaded<D>,
) -> Result<&'d Effect, FlowError> {
    target
        .effect(&document.document)
        .ok_or_else(|| impossible(IllegalStep::NoEffect))
}

pub(crate) fn not_before(context: &Context<'_>, effect: &Effect, retry_after: Option<Duration>) -> Timestamp {
    after_wait(context, effect.setbacks, retry_after)
}

/// When to try again after so many tries in a row.
fn after_wait(context: &Context<'_>, tries: u32, retry_after: Option<Duration>) -> Timestamp {
    let asked = retry_after.map_or(0, |wait| {
        i64::try_from(wait.as_millis()).unwrap_or(RETRY_AFTER_MILLIS_MAX)
    });
    let wait = backoff_millis(tries).max(asked.min(RETRY_AFTER_MILLIS_MAX));
    let jitter = context.chance.up_to(u64::try_from(wait / 4).unwrap_or(0));
    context
        .clock
        .now()
        .plus_millis(wait)
        .plus_millis(i64::try_from(jitter).unwrap_or(0))
}

fn not_applied(
    context: &Context<'_>,
    effect: &Effect,
    retry_after: Option<Duration>,
    problem: Problem,
) -> EffectEvent {
    EffectEvent::NotApplied {
        not_before: not_before(context, effect, retry_after),
        problem,
    }
}

/// Writes a claim. `None` says that somebody else was faster; nothing may be sent then. When the register does not
/// answer, nothing may be sent either: whoever comes next finds the claim, or not, and acts on what it finds.
async fn claim<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    target: &T,
    event: EffectEvent,
) -> Result<Option<Loaded<D>>, FlowError> {
    let change = target
        .step(context, &document.document, event)
        .map_err(impossible)?;
    if !stands(Guard::IntentFirst) {
        return Ok(Some(Loaded {
            document: change.document,
            revision: document.revision,
        }));
    }
    match save(context, document.revision, change).await {
        Ok(claimed) => Ok(Some(claimed)),
        Err(CommitError::Conflict) => Ok(None),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

/// Writes an outcome. If the record changed meanwhile, it is read again and the outcome applied to it, as long as the
/// claim is still ours. `None` says that the claim is not ours any more: then nothing is written, and the new owner's
/// look-up finds what we did.
async fn settle<D: Document, T: Target<D>>(
    context: &Context<'_>,
    mut document: Loaded<D>,
    target: &T,
    outcome: impl Fn(&D) -> Result<Change<D, T::Event>, IllegalStep>,
) -> Result<Option<Loaded<D>>, FlowError> {
    let fence = effect_of(target, &document)?.fence;
    for attempt in 0..SETTLE_TRIES_MAX {
        let change = outcome(&document.document).map_err(impossible)?;
        match save(context, document.revision, change).await {
            Ok(settled) => return Ok(Some(settled)),
            Err(CommitError::Store(error)) => return Err(FlowError::Store(error)),
            Err(CommitError::Conflict) => {
                context.pause(attempt).await;
                let key = document.document.key();
                let Some(now_stored) = load::<D>(context.register, key).await? else {
                    return Ok(None);
                };
                document = now_stored;
                let ours = target
                    .effect(&document.document)
                    .is_some_and(|e| (e.fence == fence || !stands(Guard::Fence)) && !e.is_finished());
                if !ours {
                    return Ok(None);
                }
            }
        }
    }
    Err(FlowError::Contended)
}
