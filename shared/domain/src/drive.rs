//! The write protocol: what to do next with a write to another system, given what happened. An idempotent write with a
//! write-ahead intent and a fencing token, as a state machine without an await, a clock or a register.
//!
//! [`Drive::next`] asks for one thing at a time (look it up, send it, store this) and is told what came of it. Whoever
//! carries that out is its shell: the product's is `flows::engine`; the tests have shells that crash, stall and lie
//! between any two steps. What must hold is decided here, once, so that all of them rest on the same lines: the claim is
//! stored before the first byte leaves, a send is begun only inside the lease, what is not proven is unknown, a look-up
//! without an answer is never "none", and an outcome is stored only under its own claim. Which look-up may prove that
//! nothing is there is decided by the effect itself, [`Effect::step`].

use crate::effect::{Effect, EffectEvent, EffectStatus, IllegalEffect, Repetition, Step, backoff_millis};
use crate::guards::{Guard, stands};
use crate::problem::Problem;
use crate::time::Timestamp;
use crate::timing::Timing;
use std::time::Duration;

/// Most turns one drive takes from the effect as it is stored: look up, claim, send, settle, with room for a second round.
const TURNS_MAX: u32 = 6;
/// How often an outcome is written again because somebody else changed the record in between.
const STORE_TRIES_MAX: u32 = 5;
/// Longest wait that the other side's `Retry-After` can impose, in milliseconds (an hour).
const RETRY_AFTER_MILLIS_MAX: i64 = 3_600_000;
/// The jitter of a drive is a number up to this.
pub const JITTER_MAX: u16 = 1_000;

// ---------------------------------------------------------------------------------------------------------------
// What can go wrong when another system is asked
// ---------------------------------------------------------------------------------------------------------------

/// A read that gave no answer. It is never to be taken for "there is none".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Try again later: network, 5xx, 429, an answer cut short.
    #[error("{problem}")]
    Unavailable {
        /// Not before this long, when the other side said so.
        retry_after: Option<Duration>,
        /// What happened.
        problem: Problem,
    },
    /// Trying again cannot help until a person changes something: permission, wrong path, wrong credential.
    #[error("{0}")]
    Refused(Problem),
    /// The answer came and is not what it must be; the problem names the JSON path.
    #[error("{0}")]
    Unreadable(Problem),
}

impl ReadError {
    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Unavailable { problem, .. } => problem,
            Self::Refused(problem) | Self::Unreadable(problem) => problem,
        }
    }

    /// Not before this long, when the other side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            Self::Refused(_) | Self::Unreadable(_) => None,
        }
    }
}

/// A write that was not confirmed. The three variants are what the caller must know, and nothing else decides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// Provably not applied: no byte was sent, or the other side said 401 or 429, or the record is in use. Safe to repeat.
    #[error("not applied: {problem}")]
    NotApplied {
        /// Not before this long, when the other side said so.
        retry_after: Option<Duration>,
        /// What happened.
        problem: Problem,
    },
    /// Provably not applied, and repeating it cannot help until a person changes something.
    #[error("refused: {0}")]
    Refused(Problem),
    /// It may have happened. A timeout after the bytes left, a reset, any 5xx, an answer that cannot be read.
    #[error("unknown: {0}")]
    Unknown(Problem),
}

impl WriteError {
    /// What is wrong.
    pub fn problem(&self) -> &Problem {
        match self {
            Self::NotApplied { problem, .. } => problem,
            Self::Refused(problem) | Self::Unknown(problem) => problem,
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// What an answer proves, and what is stored of it
// ---------------------------------------------------------------------------------------------------------------

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

/// How it became known that a write is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The other system confirmed what was just sent.
    Confirmed,
    /// A look-up found it.
    Found,
    /// A look-up found a stranger's, taken as ours.
    Adopted,
}

/// How a write ended: what its document is told in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End<A> {
    /// It is proven to be there.
    There {
        /// What the other system holds.
        answer: A,
        /// How that is known.
        proof: Proof,
    },
    /// The other system refused it.
    Refused(Problem),
    /// A person must look.
    Parked {
        /// Why.
        problem: Problem,
        /// What the other system holds, when there is one thing to name.
        answer: Option<A>,
    },
    /// Proven not to be there, and to be decided anew before anything is sent.
    Absent,
}

/// One step to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move<A> {
    /// A step that does not end the effect.
    Step(EffectEvent),
    /// Its end.
    End(End<A>),
}

impl<A> Move<A> {
    /// What happens to the effect.
    pub fn event(&self) -> EffectEvent {
        match self {
            Self::Step(event) => event.clone(),
            Self::End(End::There { .. }) => EffectEvent::Confirmed,
            Self::End(End::Absent) => EffectEvent::ProvenAbsent,
            Self::End(End::Refused(problem)) => EffectEvent::Refused {
                problem: problem.clone(),
            },
            Self::End(End::Parked { problem, .. }) => EffectEvent::Parked {
                problem: problem.clone(),
            },
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The conversation with the shell
// ---------------------------------------------------------------------------------------------------------------

/// What the shell does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask<A> {
    /// Look it up, completely, and tell [`Heard::LookedUp`].
    LookUp,
    /// Send it, once: the first byte leaves now. Tell [`Heard::Sent`].
    Send,
    /// Store this on the condition that the record is as it was; tell [`Heard::Stored`] or [`Heard::Overtaken`]. When the
    /// register gives no answer the drive is over: whoever comes next finds it stored, or not, and acts on what it finds.
    Store(Move<A>),
    /// Wait a little at random, so that contenders part, read the record again, and tell [`Heard::Read`]. The number counts
    /// how often that was asked before.
    Read(u32),
    /// It is over for now.
    Over(Over),
}

/// How a drive ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Over {
    /// The effect has ended, or there is none.
    Finished,
    /// Nothing to do before its due time.
    Later,
    /// Somebody else has it. What we know is not lost: whoever has it looks it up.
    Busy,
    /// There was no time to begin; nothing was sent.
    OutOfTime,
    /// Others kept changing the record.
    Contended,
    /// A step that the effect does not know: a defect, and nothing is written.
    Impossible(IllegalEffect),
}

/// What came of what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<A> {
    /// Nothing was asked yet.
    Begun,
    /// What the look-up proves, or why it gave no answer.
    LookedUp(Result<Finding<A>, ReadError>),
    /// What the answer to the send proves, or why there is none.
    Sent(Result<Finding<A>, WriteError>),
    /// The step is stored.
    Stored,
    /// The step is not stored, because somebody else changed the record in between.
    Overtaken,
    /// The record was read again.
    Read,
}

/// When something happens, as a worker knows it.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// What time it is.
    pub now: Timestamp,
    /// No exchange is begun that could end later.
    pub deadline: Timestamp,
    /// The chain of times.
    pub timing: &'a Timing,
}

impl Moment<'_> {
    /// True when a whole exchange still fits before the deadline.
    pub fn has_time_for_a_call(&self) -> bool {
        self.now.plus_millis(self.timing.http_millis) <= self.deadline
    }
}

/// What one kind of write wants otherwise than most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    /// What is proven absent is not simply sent again, but decided anew.
    pub anew_when_absent: bool,
    /// A refusal does not end it: it is asked again after so many milliseconds.
    pub asks_again_after_millis: Option<i64>,
}

// ---------------------------------------------------------------------------------------------------------------
// The protocol
// ---------------------------------------------------------------------------------------------------------------

/// One worker's way through one effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive<A> {
    manner: Manner,
    holder: String,
    jitter: u16,
    turns: u32,
    stage: Stage<A>,
}

/// What was asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage<A> {
    /// Nothing: the effect decides.
    Begin,
    /// Nothing: the effect was stored as claimed by this worker, in one write with what it follows from.
    Handed,
    /// The look-up before the first send.
    FirstLook,
    /// A look-up after a lost answer, before "nothing there" may be believed.
    EarlyLook,
    /// A look-up after a lost answer and the settle window.
    Look,
    /// To store a claim, or that it is looked for.
    Claim { then: Then, claim: Claim },
    /// To send under this claim.
    Send(Claim),
    /// To store an outcome.
    Outcome(Outcome<A>),
    /// To read the record again, because an outcome could not be stored.
    Again(Outcome<A>),
    /// Nothing any more.
    Over,
}

/// What a claim is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    EarlyLook,
    Look,
    Send,
}

/// What a worker knows of the effect it acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    fence: u64,
    setbacks: u32,
    /// The latest instant at which to begin to send.
    send_by: Timestamp,
}

impl Claim {
    fn of(effect: &Effect, at: &Moment<'_>) -> Self {
        Self {
            fence: effect.fence,
            setbacks: effect.setbacks,
            send_by: effect.send_deadline(at.timing),
        }
    }
}

/// What is stored as long as nobody else has claimed the effect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome<A> {
    fence: u64,
    tries: u32,
    told: Move<A>,
}

impl<A: Clone> Drive<A> {
    /// A new way. `holder` names the worker; `jitter` is drawn at random up to [`JITTER_MAX`], so that those who try again do
    /// not do it together.
    pub fn new(manner: Manner, holder: String, jitter: u16) -> Self {
        Self {
            manner,
            holder,
            jitter: jitter.min(JITTER_MAX),
            turns: 0,
            stage: Stage::Begin,
        }
    }

    /// A way that goes on under a claim of `holder` which is stored already, in the same write as what the effect follows from.
    /// `holder` is a token that was drawn for this one way; whoever takes it up has sent nothing under it yet. Only what is
    /// harmless to repeat is claimed so: nobody has looked whether it is there.
    pub fn handed(manner: Manner, holder: String, jitter: u16) -> Self {
        Self {
            stage: Stage::Handed,
            ..Self::new(manner, holder, jitter)
        }
    }

    /// What to do next, given what came of what was asked, and the effect as the shell holds it: as it was stored or read
    /// last.
    pub fn next(&mut self, heard: Heard<A>, effect: Option<&Effect>, at: &Moment<'_>) -> Ask<A> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Some(effect) = effect else {
            return Ask::Over(match stage {
                Stage::Again(_) => Over::Busy,
                _ => Over::Finished,
            });
        };
        match (stage, heard) {
            (Stage::Handed, Heard::Begun) if self.holds(effect) => self.send(Claim::of(effect, at), at),
            (Stage::Begin | Stage::Handed, Heard::Begun) | (Stage::Outcome(_), Heard::Stored) => {
                self.begin(effect, at)
            }
            (Stage::FirstLook, Heard::LookedUp(found)) => self.looked_first(effect, heeded(found), at),
            (Stage::EarlyLook, Heard::LookedUp(found)) => self.looked_early(effect, found, at),
            (Stage::Look, Heard::LookedUp(found)) => self.looked(effect, heeded(found), at),
            // Somebody else was faster, and nothing happens under a claim that is not durable.
            (Stage::Claim { .. }, Heard::Overtaken) if stands(Guard::IntentFirst) => Ask::Over(Over::Busy),
            (Stage::Claim { then, claim }, Heard::Stored | Heard::Overtaken) => match then {
                Then::EarlyLook => self.ask(Stage::EarlyLook, Ask::LookUp),
                Then::Look => self.ask(Stage::Look, Ask::LookUp),
                Then::Send => self.send(claim, at),
            },
            (Stage::Send(claim), Heard::Sent(answer)) => self.sent(claim, answer, at),
            (Stage::Outcome(outcome), Heard::Overtaken) => {
                let tries = outcome.tries;
                self.ask(Stage::Again(outcome), Ask::Read(tries))
            }
            (Stage::Again(outcome), Heard::Read) => self.store_again(effect, outcome),
            _ => Ask::Over(Over::Impossible(IllegalEffect {
                status: effect.status,
                event: "an answer to what was not asked",
            })),
        }
    }

    fn ask(&mut self, stage: Stage<A>, ask: Ask<A>) -> Ask<A> {
        self.stage = stage;
        ask
    }

    /// Whether the claim is still this worker's, and may be sent under without a look.
    fn holds(&self, effect: &Effect) -> bool {
        effect.status == EffectStatus::Intent
            && effect.repetition == Repetition::Harmless
            && effect.holder == self.holder
    }

    /// What the effect, as it is stored, asks for.
    fn begin(&mut self, effect: &Effect, at: &Moment<'_>) -> Ask<A> {
        self.turns = self.turns.saturating_add(1);
        if self.turns > TURNS_MAX {
            return Ask::Over(Over::Contended);
        }
        match effect.step(at.now, at.timing) {
            Step::Finished => Ask::Over(Over::Finished),
            Step::Wait(_) => Ask::Over(Over::Later),
            _ if !at.has_time_for_a_call() => Ask::Over(Over::OutOfTime),
            // Somebody may have keyed it by hand.
            Step::LookUpThenSend if stands(Guard::LookUpBeforeFirstSend) => {
                self.ask(Stage::FirstLook, Ask::LookUp)
            }
            Step::LookUpThenSend | Step::Send => self.claim_to_send(effect, at),
            // Nothing is sent after it, so nobody needs to be kept away; when to look next is stored first, so that nobody
            // else asks the same meanwhile.
            Step::LookEarly { settled } => {
                let not_before = after_wait(at.now, effect.early_looks, None, self.jitter).min(settled);
                let event = EffectEvent::LookedEarly { not_before };
                self.claim(effect, event, Then::EarlyLook, at)
            }
            Step::LookUp => {
                let holder = self.holder.clone();
                self.claim(effect, EffectEvent::LookUpClaimed { holder }, Then::Look, at)
            }
        }
    }

    /// Claim and intent are one write, before the first byte.
    fn claim_to_send(&mut self, effect: &Effect, at: &Moment<'_>) -> Ask<A> {
        let holder = self.holder.clone();
        self.claim(effect, EffectEvent::Intended { holder }, Then::Send, at)
    }

    fn claim(&mut self, effect: &Effect, event: EffectEvent, then: Then, at: &Moment<'_>) -> Ask<A> {
        match effect.after(&event, at.now, at.timing) {
            Ok(claimed) => {
                let claim = Claim::of(&claimed, at);
                self.ask(Stage::Claim { then, claim }, Ask::Store(Move::Step(event)))
            }
            Err(illegal) => Ask::Over(Over::Impossible(illegal)),
        }
    }

    /// Checked last, right before the bytes leave: a whole exchange must end inside the lease and the invocation.
    fn send(&mut self, claim: Claim, at: &Moment<'_>) -> Ask<A> {
        let too_late = at.now > claim.send_by || !at.has_time_for_a_call();
        if too_late && stands(Guard::SendInsideLease) {
            let event = EffectEvent::NotApplied {
                not_before: at.now,
                problem: Problem::new("OUT_OF_TIME", "Nothing to do: it is tried again."),
            };
            return self.store(claim.fence, Move::Step(event));
        }
        self.ask(Stage::Send(claim), Ask::Send)
    }

    /// Before the very first send.
    fn looked_first(
        &mut self,
        effect: &Effect,
        found: Result<Finding<A>, ReadError>,
        at: &Moment<'_>,
    ) -> Ask<A> {
        let claim = Claim::of(effect, at);
        let told = match found {
            Ok(Finding::Nothing) => return self.claim_to_send(effect, at),
            Ok(Finding::There { answer, adopted }) => there(answer, found_as(adopted)),
            Ok(Finding::Park { problem, answer }) => Move::End(End::Parked { problem, answer }),
            // The connection was refused, not what we asked for; what lasts may be about this one after all.
            Err(ReadError::Refused(problem))
                if problem.waits_for_the_connection(effect.problem.as_ref(), effect.setbacks) =>
            {
                self.not_applied(claim, None, problem, at)
            }
            Err(ReadError::Refused(problem)) => Move::End(End::Parked {
                problem,
                answer: None,
            }),
            Ok(Finding::Unclear(problem)) | Err(ReadError::Unreadable(problem)) => {
                self.not_applied(claim, None, problem, at)
            }
            Err(ReadError::Unavailable { retry_after, problem }) => {
                self.not_applied(claim, retry_after, problem, at)
            }
        };
        self.store(claim.fence, told)
    }

    /// Soon after a lost answer: is ours there already? That alone counts. Nothing found, a stranger's document or no answer
    /// prove nothing before the settle window ends, for a late commit may still land: then the claimed look-up decides.
    fn looked_early(
        &mut self,
        effect: &Effect,
        found: Result<Finding<A>, ReadError>,
        at: &Moment<'_>,
    ) -> Ask<A> {
        match found {
            Ok(Finding::There {
                answer,
                adopted: false,
            }) => self.store(effect.fence, there(answer, Proof::Found)),
            Ok(Finding::There { .. } | Finding::Nothing | Finding::Park { .. } | Finding::Unclear(_))
            | Err(_) => self.begin(effect, at),
        }
    }

    /// After a lost answer and the settle window: sent again only if a complete look-up found nothing.
    fn looked(&mut self, effect: &Effect, found: Result<Finding<A>, ReadError>, at: &Moment<'_>) -> Ask<A> {
        let claim = Claim::of(effect, at);
        let told = match found {
            Ok(Finding::There { answer, adopted }) => there(answer, found_as(adopted)),
            Ok(Finding::Park { problem, answer }) => Move::End(End::Parked { problem, answer }),
            Ok(Finding::Nothing) if self.manner.anew_when_absent => Move::End(End::Absent),
            Ok(Finding::Nothing) => {
                return self.claim(effect, EffectEvent::IntendedAgain, Then::Send, at);
            }
            Ok(Finding::Unclear(problem)) => self.look_up_failed(claim, None, problem, at),
            // A look-up that gives no answer is never "none", whatever the reason: the effect stays unknown.
            Err(error) => self.look_up_failed(claim, error.retry_after(), error.problem().clone(), at),
        };
        self.store(claim.fence, told)
    }

    fn sent(&mut self, claim: Claim, answer: Result<Finding<A>, WriteError>, at: &Moment<'_>) -> Ask<A> {
        let unknown = |problem| Move::Step(EffectEvent::MayHaveHappened { problem });
        let told = match answer {
            // What was just sent is ours, however it is echoed.
            Ok(Finding::There { answer, .. }) => there(answer, Proof::Confirmed),
            Ok(Finding::Park { problem, answer }) => Move::End(End::Parked { problem, answer }),
            Ok(Finding::Unclear(problem)) => unknown(problem),
            Ok(Finding::Nothing) => unknown(Problem::new(
                "ANSWER_PROVES_NOTHING",
                "Nothing to do: it is looked up.",
            )),
            Err(WriteError::NotApplied { retry_after, problem }) => {
                self.not_applied(claim, retry_after, problem, at)
            }
            // Who we are was refused, not what we sent: nothing was applied, and it goes on once the secret is corrected.
            Err(WriteError::Refused(problem)) if problem.is_credential_refused() => {
                self.not_applied(claim, None, problem, at)
            }
            Err(WriteError::Refused(problem)) => match self.manner.asks_again_after_millis {
                None => Move::End(End::Refused(problem)),
                Some(millis) => Move::Step(EffectEvent::NotApplied {
                    not_before: at.now.plus_millis(millis),
                    problem,
                }),
            },
            Err(WriteError::Unknown(problem)) if stands(Guard::UnknownIsUnknown) => unknown(problem),
            Err(WriteError::Unknown(problem)) => self.not_applied(claim, None, problem, at),
        };
        self.store(claim.fence, told)
    }

    /// Asks for an outcome to be stored, under this claim.
    fn store(&mut self, fence: u64, told: Move<A>) -> Ask<A> {
        let outcome = Outcome {
            fence,
            tries: 0,
            told: told.clone(),
        };
        self.ask(Stage::Outcome(outcome), Ask::Store(told))
    }

    /// The record has changed in between: the outcome is applied to it as it is now, as long as the claim is still ours.
    /// Whoever has a newer claim finds with its look-up what we did.
    fn store_again(&mut self, effect: &Effect, mut outcome: Outcome<A>) -> Ask<A> {
        let ours = effect.fence == outcome.fence || !stands(Guard::Fence);
        if effect.is_finished() || !ours {
            return Ask::Over(Over::Busy);
        }
        outcome.tries = outcome.tries.saturating_add(1);
        if outcome.tries >= STORE_TRIES_MAX {
            return Ask::Over(Over::Contended);
        }
        let told = outcome.told.clone();
        self.ask(Stage::Outcome(outcome), Ask::Store(told))
    }

    fn not_applied(
        &self,
        claim: Claim,
        retry_after: Option<Duration>,
        problem: Problem,
        at: &Moment<'_>,
    ) -> Move<A> {
        Move::Step(EffectEvent::NotApplied {
            not_before: after_wait(at.now, claim.setbacks, retry_after, self.jitter),
            problem,
        })
    }

    fn look_up_failed(
        &self,
        claim: Claim,
        retry_after: Option<Duration>,
        problem: Problem,
        at: &Moment<'_>,
    ) -> Move<A> {
        Move::Step(EffectEvent::LookUpFailed {
            not_before: after_wait(at.now, claim.setbacks, retry_after, self.jitter),
            problem,
        })
    }
}

/// A look-up that fails or is cut short is no answer, and never "none".
#[expect(
    clippy::result_large_err,
    reason = "a problem is told whole, and this passes it on"
)]
fn heeded<A>(found: Result<Finding<A>, ReadError>) -> Result<Finding<A>, ReadError> {
    match found {
        Err(_) if !stands(Guard::FailedLookUpIsNoAnswer) => Ok(Finding::Nothing),
        found => found,
    }
}

fn found_as(adopted: bool) -> Proof {
    if adopted { Proof::Adopted } else { Proof::Found }
}

fn there<A>(answer: A, proof: Proof) -> Move<A> {
    Move::End(End::There { answer, proof })
}

/// When to try again after so many tries in a row: as long as the other side asks for, in reason, and never all at once.
pub fn after_wait(now: Timestamp, tries: u32, retry_after: Option<Duration>, jitter: u16) -> Timestamp {
    let asked = retry_after.map_or(0, |wait| {
        i64::try_from(wait.as_millis()).unwrap_or(RETRY_AFTER_MILLIS_MAX)
    });
    let wait = backoff_millis(tries).max(asked.min(RETRY_AFTER_MILLIS_MAX));
    // Up to a quarter more.
    let more = wait
        .checked_div(4)
        .and_then(|quarter| quarter.checked_mul(i64::from(jitter.min(JITTER_MAX))))
        .and_then(|more| more.checked_div(i64::from(JITTER_MAX)));
    now.plus_millis(wait).plus_millis(more.unwrap_or(0))
}

#[cfg(test)]
mod tests;
