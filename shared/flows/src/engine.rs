//! The effect engine: the only code that writes to another system.
//!
//! What to do next is decided by [`domain::drive`]; this is its shell: it looks up, sends, stores and reads again as it is
//! asked to, and tells what came of it. What a particular write looks like is a [`Target`].

use crate::ports::{CommitError, ReadError, RecordWrite, WriteError};
use crate::store::{Change, Context, Document, FlowError, Loaded, impossible, load, save};
use async_trait::async_trait;
use domain::drive::{Ask, Drive, End, Heard, JITTER_MAX, Manner, Moment, Move, Over, after_wait};
use domain::effect::{Effect, EffectEvent};
use domain::lifecycle::IllegalStep;
use domain::problem::Problem;
use domain::time::Timestamp;
use serde::Serialize;
use std::time::Duration;

pub use domain::drive::{Finding, Proof};

/// A document after a step, or why the step is impossible.
pub type Stepped<D, E> = Result<Change<D, E>, IllegalStep>;

/// One kind of write to another system, on one kind of document.
#[async_trait]
pub trait Target<D: Document>: Send + Sync {
    /// What the other system shows of it.
    type Answer: Clone + Send + Sync;
    /// What the document's audit trail holds.
    type Event: Serialize + Send + Sync;

    /// What it wants otherwise than most.
    fn manner(&self) -> Manner {
        Manner::default()
    }

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

    /// The document after an attempt is proven to have left nothing, when that is to be decided anew
    /// ([`Manner::anew_when_absent`]); unless a target says otherwise, only the effect tells of it.
    fn absent(&self, context: &Context<'_>, document: &D) -> Stepped<D, Self::Event> {
        self.step(context, document, EffectEvent::ProvenAbsent)
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
    document: Loaded<D>,
    target: &T,
) -> Result<Driven<D>, FlowError> {
    let drive = Drive::new(target.manner(), context.chance.token(), jitter(context));
    stored(turns(context, document, None, drive, target).await)
}

/// Drives one effect that is not stored yet: `change` is what it follows from, decided on the record as it was at `revision`. The
/// look before the first send comes first, and then one transaction stores the change together with the claim: one write less
/// than storing each by itself, and still nothing leaves before both are durable. `None` when somebody else changed the record, or
/// what the decision rests on, meanwhile: nothing is stored of it, and nothing was sent.
pub async fn open<D: Document, T: Target<D>>(
    context: &Context<'_>,
    revision: u64,
    change: Change<D, T::Event>,
    target: &T,
) -> Result<Option<Driven<D>>, FlowError> {
    let Change {
        document,
        events,
        writes,
    } = change;
    let opening = Some(Opening { events, writes });
    let drive = Drive::new(target.manner(), context.chance.token(), jitter(context));
    turns(context, Loaded { document, revision }, opening, drive, target).await
}

/// Drives one effect that was stored as claimed by `holder` ([`Drive::handed`]).
pub async fn drive_handed<D: Document, T: Target<D>>(
    context: &Context<'_>,
    document: Loaded<D>,
    holder: String,
    target: &T,
) -> Result<Driven<D>, FlowError> {
    let drive = Drive::handed(target.manner(), holder, jitter(context));
    stored(turns(context, document, None, drive, target).await)
}

/// Of a document that was stored from the beginning.
fn stored<D>(driven: Result<Option<Driven<D>>, FlowError>) -> Result<Driven<D>, FlowError> {
    driven?.ok_or(FlowError::Contended)
}

/// Why a document that is not stored yet is as it is, and what is stored together with it.
struct Opening<E> {
    events: Vec<E>,
    writes: Vec<RecordWrite>,
}

/// The step in one transaction with the beginning that is not stored yet, if there is one.
fn joined<D, E>(opening: Option<Opening<E>>, step: Change<D, E>) -> Change<D, E> {
    let Some(Opening {
        mut events,
        mut writes,
    }) = opening
    else {
        return step;
    };
    events.extend(step.events);
    writes.extend(step.writes);
    Change {
        document: step.document,
        events,
        writes,
    }
}

async fn turns<D: Document, T: Target<D>>(
    context: &Context<'_>,
    mut document: Loaded<D>,
    mut opening: Option<Opening<T::Event>>,
    mut drive: Drive<T::Answer>,
    target: &T,
) -> Result<Option<Driven<D>>, FlowError> {
    let mut heard = Heard::Begun;
    loop {
        let at = Moment {
            now: context.clock.now(),
            deadline: context.deadline,
            timing: context.timing,
        };
        let effect = target.effect(&document.document);
        let ask = drive.next(heard, effect, &at);
        // What ends an effect, or a drive before anything of it is stored, changes more than the claim does: it finds the
        // beginning stored.
        if let (Ask::Store(Move::End(_)) | Ask::Over(_), true) = (&ask, opening.is_some()) {
            let nothing_more = Change {
                document: document.document,
                events: Vec::new(),
                writes: Vec::new(),
            };
            match save(context, document.revision, joined(opening.take(), nothing_more)).await {
                Ok(stored) => document = stored,
                Err(CommitError::Conflict) => return Ok(None),
                Err(CommitError::Store(error)) => return Err(FlowError::Store(error)),
            }
        }
        let effect = target.effect(&document.document);
        heard = match (ask, effect) {
            (Ask::LookUp, Some(effect)) => {
                let answers = target.look_up(&document.document, effect).await;
                Heard::LookedUp(answers.map(|answers| target.judge(&document.document, effect, answers)))
            }
            (Ask::Send, Some(effect)) => {
                let answer = target.send(&document.document, effect).await;
                Heard::Sent(answer.map(|answer| target.judge(&document.document, effect, vec![answer])))
            }
            (Ask::Store(step), _) => {
                let change = changed(context, target, &document.document, step).map_err(impossible)?;
                let begins = opening.is_some();
                match save(context, document.revision, joined(opening.take(), change)).await {
                    Ok(stored) => {
                        document = stored;
                        Heard::Stored
                    }
                    Err(CommitError::Conflict) if begins => return Ok(None),
                    Err(CommitError::Conflict) => Heard::Overtaken,
                    Err(CommitError::Store(error)) => return Err(FlowError::Store(error)),
                }
            }
            (Ask::Read(attempt), _) => {
                context.pause(attempt).await;
                match load::<D>(context.register, document.document.key()).await? {
                    Some(stored) => document = stored,
                    None => return Ok(Some(Driven::Busy)),
                }
                Heard::Read
            }
            (Ask::LookUp | Ask::Send, None) => return Err(impossible(IllegalStep::NoEffect)),
            (Ask::Over(over), _) => return ended(over, document).map(Some),
        };
    }
}

/// The change that stores a step, and at the end of the effect what the document is told.
fn changed<D: Document, T: Target<D>>(
    context: &Context<'_>,
    target: &T,
    document: &D,
    step: Move<T::Answer>,
) -> Stepped<D, T::Event> {
    match step {
        Move::Step(event) => target.step(context, document, event),
        Move::End(End::There { answer, proof }) => target.there(context, document, &answer, proof),
        Move::End(End::Refused(problem)) => target.refused(context, document, problem),
        Move::End(End::Parked { problem, answer }) => {
            target.parked(context, document, problem, answer.as_ref())
        }
        Move::End(End::Absent) => target.absent(context, document),
    }
}

fn ended<D>(over: Over, document: Loaded<D>) -> Result<Driven<D>, FlowError> {
    match over {
        Over::Finished => Ok(Driven::Finished(document)),
        Over::Later => Ok(Driven::Later(document)),
        Over::Busy => Ok(Driven::Busy),
        Over::OutOfTime => Ok(Driven::OutOfTime),
        Over::Contended => Err(FlowError::Contended),
        Over::Impossible(illegal) => Err(impossible(illegal)),
    }
}

fn jitter(context: &Context<'_>) -> u16 {
    u16::try_from(context.chance.up_to(JITTER_MAX.into())).unwrap_or(JITTER_MAX)
}

/// When to try an effect again that made no progress.
pub(crate) fn not_before(context: &Context<'_>, effect: &Effect, retry_after: Option<Duration>) -> Timestamp {
    after_wait(context.clock.now(), effect.setbacks, retry_after, jitter(context))
}
