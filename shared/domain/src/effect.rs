//! The state machine of one write to another system: how it happens once although answers get lost.
//!
//! ```text
//!             claim + intent (1 write)           confirmed
//!   Ready ─────────────────────────► Intent ─────────────────► Done
//!     ▲  ▲                             │  └── refused ───────► Rejected
//!     │  └── provably not applied ─────┤
//!     │                                │ anything else, or the worker died
//!     │ settled and looked up: none    ▼
//!     └──── (Intent, or anew) ───── Unknown ── found: ours ──► Done
//!                                      ├────── a stranger's ─► Done (adopted) | Parked
//!                                      └────── two ──────────► Parked
//! ```
//!
//! The effect lives inside the record of the document it belongs to, and every change of it is one conditional write
//! of that record together with its audit entry. [`Effect::fence`] rises with each claim: whoever holds an old fence
//! can change nothing.

use crate::guards::{Guard, stands};
use crate::problem::Problem;
use crate::time::Timestamp;
use crate::timing::Timing;
use serde::{Deserialize, Serialize};

/// What may be done when nobody knows whether a write happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repetition {
    /// A second one would do harm: settle, look up, and only then perhaps send again. Also looked up before the very
    /// first send, because a person may have keyed it by hand.
    OnlyAfterLookUp,
    /// Doing it twice is the same as once (setting a flag): just send again.
    Harmless,
}

/// Where an effect stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectStatus {
    /// Nothing was sent, or what was sent is proven not to have been applied.
    Ready,
    /// Somebody holds the claim and may be sending at this moment.
    Intent,
    /// It may have happened.
    Unknown,
    /// It happened.
    Done,
    /// The other system said no, and nothing was written there.
    Rejected,
    /// A person must look.
    Parked,
    /// Given up: nothing was sent, or what was sent is proven not to be there.
    Withdrawn,
}

/// One write to another system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What must happen at most once, in the words of the other system's identity. Same text, same effect.
    pub key: String,
    /// Whether it may simply be repeated.
    pub repetition: Repetition,
    /// Where it stands.
    pub status: EffectStatus,
    /// Rises with each claim.
    pub fence: u64,
    /// Who holds the claim; empty when nobody does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub holder: String,
    /// Until then nobody else may claim it.
    #[serde(default)]
    pub lease_until: Timestamp,
    /// Until then a look-up proves nothing, because a late commit may still land.
    #[serde(default)]
    pub settle_until: Timestamp,
    /// Not to be tried before.
    #[serde(default)]
    pub not_before: Timestamp,
    /// How often it was sent, or was about to be.
    pub attempts: u32,
    /// How often in a row a try ended without progress; drives the backoff.
    #[serde(default)]
    pub setbacks: u32,
    /// How often it was looked for since the last claim, before that could prove that nothing is there; makes it rarer.
    #[serde(default)]
    pub early_looks: u32,
    /// What was given up because a look-up proved that nothing of it is there, and is looked for again: a commit that is later
    /// than it may be would be a second document.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<Doubt>,
    /// What is sent, as canonical JSON text. Fixed once and for all: a retry sends the same.
    pub request: String,
    /// Hex SHA-256 of [`Effect::request`].
    pub request_sha256: String,
    /// Sent with every attempt; computed once.
    pub idempotency_key: String,
    /// Why it is not further, or why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// An attempt that was proven to have left nothing, as far as the settle window proves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The key it was sent under.
    pub key: String,
    /// What was sent, when what the effect sends now is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// When it is looked for again, in order; never empty.
    pub due: Vec<Timestamp>,
}

/// How long after a look-up found nothing it is looked for again, in milliseconds: an hour and a day.
pub const VERIFIED_AFTER_MILLIS: [i64; 2] = [3_600_000, 86_400_000];

/// What happens to an effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "effect")]
pub enum EffectEvent {
    /// Claimed, and about to be sent: written before the first byte leaves.
    Intended {
        /// Who.
        holder: String,
    },
    /// Claimed in order to look it up after an attempt whose outcome nobody knows.
    LookUpClaimed {
        /// Who.
        holder: String,
    },
    /// The settle window has passed and a complete look-up found nothing: about to be sent again.
    IntendedAgain,
    /// The same, but the same is not sent again: what it rested on may have changed meanwhile, so it is given up and
    /// decided anew.
    ProvenAbsent,
    /// It is proven to be in the other system.
    Confirmed,
    /// Provably not applied; may be tried again.
    NotApplied {
        /// Not before.
        not_before: Timestamp,
        /// Why.
        problem: Problem,
    },
    /// It may have happened.
    MayHaveHappened {
        /// Why nobody knows.
        problem: Problem,
    },
    /// The look-up itself gave no answer; still nobody knows.
    LookUpFailed {
        /// Not before.
        not_before: Timestamp,
        /// Why.
        problem: Problem,
    },
    /// Somebody looks for it before the settle window is over. Written first, so that of many who come one asks; nothing
    /// seen proves nothing, and nothing follows from it.
    LookedEarly {
        /// Not looked for again before.
        not_before: Timestamp,
    },
    /// The other system said no; nothing was written.
    Refused {
        /// Its reasons.
        problem: Problem,
    },
    /// A person must look.
    Parked {
        /// Why.
        problem: Problem,
    },
    /// Given up before anything was sent.
    Withdrawn,
    /// What was given up was looked for again, and nothing of it has come after all.
    Verified {
        /// The key of what was given up.
        key: String,
    },
    /// Looking for it again gave no answer.
    VerificationFailed {
        /// The key of what was given up.
        key: String,
        /// Not before.
        not_before: Timestamp,
        /// Why.
        problem: Problem,
    },
    /// What was given up is there after all. A person is told; there is nothing more to look for.
    FoundLate {
        /// The key of what was given up.
        key: String,
    },
}

/// What to do with an effect now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Look it up, and send it if there is nothing (first send of what must not be repeated).
    LookUpThenSend,
    /// Claim and send.
    Send,
    /// Look whether an earlier attempt is there already. Only that it is there counts: nothing found proves nothing before the
    /// settle window ends.
    LookEarly {
        /// When a look-up that finds nothing proves that nothing is there.
        settled: Timestamp,
    },
    /// Claim, and look up what became of an earlier attempt.
    LookUp,
    /// Nothing before this instant.
    Wait(Timestamp),
    /// Nothing ever again.
    Finished,
}

/// An event that cannot happen to an effect in this status, or under this fence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to an effect that is {status:?}")]
pub struct IllegalEffect {
    /// Where the effect stands.
    pub status: EffectStatus,
    /// The event's name.
    pub event: &'static str,
}

impl EffectEvent {
    /// The event's stable name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Intended { .. } => "intended",
            Self::LookUpClaimed { .. } => "look-up-claimed",
            Self::IntendedAgain => "intended-again",
            Self::ProvenAbsent => "proven-absent",
            Self::Confirmed => "confirmed",
            Self::NotApplied { .. } => "not-applied",
            Self::MayHaveHappened { .. } => "may-have-happened",
            Self::LookUpFailed { .. } => "look-up-failed",
            Self::LookedEarly { .. } => "looked-early",
            Self::Refused { .. } => "refused",
            Self::Parked { .. } => "parked",
            Self::Withdrawn => "withdrawn",
            Self::Verified { .. } => "verified",
            Self::VerificationFailed { .. } => "verification-failed",
            Self::FoundLate { .. } => "found-late",
        }
    }

    /// The key of what was given up, when the event is about that and not about what the effect does now.
    pub fn verifies(&self) -> Option<&str> {
        match self {
            Self::Verified { key } | Self::VerificationFailed { key, .. } | Self::FoundLate { key } => {
                Some(key)
            }
            _ => None,
        }
    }
}

impl Effect {
    /// A new effect, ready to be sent.
    pub fn ready(
        key: String,
        repetition: Repetition,
        request: String,
        request_sha256: String,
        idempotency_key: String,
        now: Timestamp,
    ) -> Self {
        Self {
            key,
            repetition,
            status: EffectStatus::Ready,
            fence: 0,
            holder: String::new(),
            lease_until: Timestamp::default(),
            settle_until: Timestamp::default(),
            not_before: now,
            attempts: 0,
            setbacks: 0,
            early_looks: 0,
            doubts: Vec::new(),
            request,
            request_sha256,
            idempotency_key,
            problem: None,
        }
    }

    /// This effect as the successor of `earlier`: the fence goes on rising, so nothing that was learned or claimed under
    /// the old effect fits the new one.
    #[must_use]
    pub fn succeeding(mut self, earlier: Option<&Self>) -> Self {
        self.fence = earlier.map_or(0, |earlier| earlier.fence.saturating_add(1));
        // What was given up did not get better by being decided anew: it goes on as slowly.
        self.setbacks = earlier
            .filter(|earlier| earlier.status == EffectStatus::Withdrawn)
            .map_or(0, |earlier| earlier.setbacks);
        self.doubts = earlier.map_or_else(Vec::new, |earlier| {
            let theirs = |mut doubt: Doubt| {
                if doubt.key != self.key && doubt.request.is_none() {
                    doubt.request = Some(earlier.request.clone());
                }
                doubt
            };
            earlier.doubts.iter().cloned().map(theirs).collect()
        });
        self
    }

    /// True when nothing will ever be sent for it again.
    pub fn is_finished(&self) -> bool {
        matches!(
            self.status,
            EffectStatus::Done | EffectStatus::Rejected | EffectStatus::Parked | EffectStatus::Withdrawn
        )
    }

    /// True when it is certain that nothing of it is, or can still arrive, in the other system.
    pub fn is_certainly_not_applied(&self) -> bool {
        self.attempts == 0
            || matches!(
                self.status,
                EffectStatus::Ready | EffectStatus::Rejected | EffectStatus::Withdrawn
            )
    }

    /// True while something of it may be in the other system, or still arrive there, and nobody knows.
    pub fn may_have_left(&self) -> bool {
        matches!(self.status, EffectStatus::Intent | EffectStatus::Unknown)
    }

    /// What to do now.
    pub fn step(&self, now: Timestamp, timing: &Timing) -> Step {
        let skew = if stands(Guard::ClockSkew) {
            timing.clock_skew_millis
        } else {
            0
        };
        let free_at = |until: Timestamp| until.plus_millis(skew).plus_millis(1);
        let wait_or = |instant: Timestamp, step: Step| if instant > now { Step::Wait(instant) } else { step };
        match self.status {
            EffectStatus::Ready => {
                let first = match self.repetition {
                    Repetition::OnlyAfterLookUp => Step::LookUpThenSend,
                    Repetition::Harmless => Step::Send,
                };
                wait_or(self.not_before, first)
            }
            EffectStatus::Intent | EffectStatus::Unknown => match self.repetition {
                Repetition::Harmless => wait_or(free_at(self.lease_until).max(self.not_before), Step::Send),
                Repetition::OnlyAfterLookUp => {
                    let settled = if stands(Guard::SettleWindow) {
                        free_at(self.lease_until.max(self.settle_until))
                    } else {
                        free_at(self.lease_until)
                    };
                    let early = free_at(self.lease_until).max(self.not_before);
                    if settled.max(self.not_before) <= now {
                        Step::LookUp
                    } else if early < settled {
                        wait_or(early, Step::LookEarly { settled })
                    } else {
                        Step::Wait(settled.max(self.not_before))
                    }
                }
            },
            EffectStatus::Done | EffectStatus::Rejected | EffectStatus::Parked | EffectStatus::Withdrawn => {
                Step::Finished
            }
        }
    }

    /// When the sweep must look again if nobody else does; `None` when finished.
    pub fn due(&self, timing: &Timing) -> Option<Timestamp> {
        match self.step(Timestamp(i64::MIN), timing) {
            Step::Wait(instant) => Some(instant),
            Step::LookUpThenSend | Step::Send | Step::LookUp | Step::LookEarly { .. } => {
                Some(self.not_before)
            }
            Step::Finished => None,
        }
    }

    /// When what was given up must be looked for again. Not while the effect is open: its own look-ups come first.
    pub fn verification_due(&self) -> Option<Timestamp> {
        let due = self.doubts.iter().filter_map(|doubt| doubt.due.first().copied());
        due.min().filter(|_| self.is_finished())
    }

    /// What was given up and must be looked for again now.
    pub fn doubt(&self, now: Timestamp) -> Option<&Doubt> {
        let is_due = |doubt: &&Doubt| doubt.due.first().is_some_and(|due| *due <= now);
        self.doubts.iter().find(is_due).filter(|_| self.is_finished())
    }

    /// The effect after what was given up was looked for again.
    fn verified(&self, event: &EffectEvent, now: Timestamp) -> Option<Self> {
        let key = event
            .verifies()
            .filter(|key| self.doubt(now).is_some_and(|doubt| doubt.key == **key))?;
        let mut next = self.clone();
        for doubt in next.doubts.iter_mut().filter(|doubt| doubt.key == key) {
            match event {
                EffectEvent::VerificationFailed { not_before, .. } => {
                    doubt.due.retain(|due| *due > now);
                    doubt.due.insert(0, *not_before);
                }
                EffectEvent::FoundLate { .. } => doubt.due.clear(),
                _ => doubt.due.retain(|due| *due > now),
            }
        }
        next.doubts.retain(|doubt| !doubt.due.is_empty());
        next.setbacks = match event {
            EffectEvent::VerificationFailed { .. } => self.setbacks.saturating_add(1),
            _ => 0,
        };
        Some(next)
    }

    /// The effect after `event`. The one function that moves it.
    pub fn after(&self, event: &EffectEvent, now: Timestamp, timing: &Timing) -> Result<Self, IllegalEffect> {
        use EffectStatus::{Done, Intent, Parked, Ready, Rejected, Unknown, Withdrawn};
        let illegal = || IllegalEffect {
            status: self.status,
            event: event.name(),
        };
        let mut next = self.clone();
        match (event, self.status) {
            (EffectEvent::Intended { holder }, Ready | Intent | Unknown) => {
                let step = self.step(now, timing);
                if !matches!(step, Step::Send | Step::LookUpThenSend) {
                    return Err(illegal());
                }
                next.claim(holder, now, timing);
                next.intend(now, timing);
            }
            (EffectEvent::LookUpClaimed { holder }, Intent | Unknown) => {
                if self.step(now, timing) != Step::LookUp {
                    return Err(illegal());
                }
                next.status = Unknown;
                next.claim(holder, now, timing);
            }
            (EffectEvent::IntendedAgain, Unknown) if !self.holder.is_empty() => next.intend(now, timing),
            (EffectEvent::ProvenAbsent, Unknown) if !self.holder.is_empty() => {
                next.finish(Withdrawn, None);
                next.doubts.retain(|doubt| doubt.key != self.key);
                next.doubts.push(Doubt {
                    key: self.key.clone(),
                    request: None,
                    due: VERIFIED_AFTER_MILLIS.map(|wait| now.plus_millis(wait)).to_vec(),
                });
            }
            (EffectEvent::Confirmed, Ready | Intent | Unknown) => {
                next.finish(Done, None);
                next.setbacks = 0;
            }
            (EffectEvent::NotApplied { not_before, problem }, Ready | Intent) => {
                next.release();
                next.status = Ready;
                next.settle_until = Timestamp::default();
                next.not_before = *not_before;
                next.setbacks = problem.setbacks(self.problem.as_ref(), self.setbacks);
                next.problem = Some(problem.clone());
            }
            (EffectEvent::MayHaveHappened { problem }, Intent) => {
                next.release();
                next.status = Unknown;
                next.settle_until = now.plus_millis(timing.settle_millis());
                next.not_before = now.plus_millis(backoff_millis(self.setbacks));
                next.setbacks = self.setbacks.saturating_add(1);
                next.problem = Some(problem.clone());
            }
            (EffectEvent::LookUpFailed { not_before, problem }, Unknown) => {
                next.release();
                next.not_before = *not_before;
                next.setbacks = self.setbacks.saturating_add(1);
                next.problem = Some(problem.clone());
            }
            (EffectEvent::LookedEarly { not_before }, Intent | Unknown) => {
                if !matches!(self.step(now, timing), Step::LookEarly { .. }) {
                    return Err(illegal());
                }
                next.not_before = *not_before;
                next.early_looks = self.early_looks.saturating_add(1);
            }
            (EffectEvent::Refused { problem }, Intent) => next.finish(Rejected, Some(problem.clone())),
            (EffectEvent::Parked { problem }, Ready | Intent | Unknown) => {
                next.finish(Parked, Some(problem.clone()));
            }
            (EffectEvent::Withdrawn, Ready) => next.finish(Withdrawn, None),
            (event, _) if event.verifies().is_some() => {
                next = self.verified(event, now).ok_or_else(illegal)?;
            }
            _ => return Err(illegal()),
        }
        Ok(next)
    }

    fn claim(&mut self, holder: &str, now: Timestamp, timing: &Timing) {
        self.fence = self.fence.saturating_add(1);
        self.early_looks = 0;
        self.holder = holder.to_owned();
        self.lease_until = now.plus_millis(timing.lease_millis);
    }

    fn intend(&mut self, now: Timestamp, timing: &Timing) {
        self.status = EffectStatus::Intent;
        self.attempts = self.attempts.saturating_add(1);
        self.problem = None;
        // The latest send start is the end of the lease less one exchange; the exchange and the settle window follow.
        self.settle_until = self.lease_until.max(now).plus_millis(timing.settle_millis());
    }

    fn release(&mut self) {
        self.holder = String::new();
        self.lease_until = Timestamp::default();
    }

    fn finish(&mut self, status: EffectStatus, problem: Option<Problem>) {
        self.release();
        self.status = status;
        self.settle_until = Timestamp::default();
        self.problem = problem;
    }

    /// The instant after which the holder must not begin to send: a whole exchange must fit into the lease.
    pub fn send_deadline(&self, timing: &Timing) -> Timestamp {
        self.lease_until.plus_millis(timing.http_millis.saturating_neg())
    }
}

/// How long to wait after the n-th setback in a row, in milliseconds: doubling from a second to five minutes.
pub fn backoff_millis(setbacks: u32) -> i64 {
    /// First wait, in milliseconds.
    const FIRST_MILLIS: i64 = 1_000;
    /// Longest wait, in milliseconds.
    const LONGEST_MILLIS: i64 = 300_000;
    FIRST_MILLIS
        .checked_shl(setbacks.min(20))
        .unwrap_or(LONGEST_MILLIS)
        .min(LONGEST_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn timing() -> Timing {
        Timing::default()
    }

    fn effect(repetition: Repetition) -> Effect {
        Effect::ready("k".into(), repetition, "{}".into(), "h".into(), "i".into(), NOW)
    }

    fn problem() -> Problem {
        Problem::new("X", "")
    }

    fn intended(repetition: Repetition) -> Effect {
        effect(repetition)
            .after(&EffectEvent::Intended { holder: "a".into() }, NOW, &timing())
            .unwrap()
    }

    #[test]
    fn the_first_send_of_what_must_not_be_repeated_is_looked_up() {
        assert_eq!(
            effect(Repetition::OnlyAfterLookUp).step(NOW, &timing()),
            Step::LookUpThenSend
        );
        assert_eq!(effect(Repetition::Harmless).step(NOW, &timing()), Step::Send);
    }

    #[test]
    fn a_claim_keeps_everybody_from_sending_until_lease_and_settle_are_over() {
        let held = intended(Repetition::OnlyAfterLookUp);
        let settled = NOW.plus_millis(190_000 + 1_802_000 + 2_000 + 1);
        let lease_over = NOW.plus_millis(190_000 + 2_000 + 1);
        assert_eq!(held.step(NOW, &timing()), Step::Wait(lease_over));
        for early in [lease_over, settled.plus_millis(-1)] {
            assert_eq!(held.step(early, &timing()), Step::LookEarly { settled });
            let claim = EffectEvent::LookUpClaimed { holder: "b".into() };
            assert!(
                held.after(&claim, early, &timing()).is_err(),
                "nothing is claimed early"
            );
        }
        assert_eq!(held.step(settled, &timing()), Step::LookUp);
        assert!(
            held.after(&EffectEvent::Intended { holder: "b".into() }, settled, &timing())
                .is_err()
        );
        let claimed = held
            .after(
                &EffectEvent::LookUpClaimed { holder: "b".into() },
                settled,
                &timing(),
            )
            .unwrap();
        assert_eq!((claimed.fence, claimed.status), (2, EffectStatus::Unknown));
    }

    #[test]
    fn an_unknown_answer_settles_before_a_look_up_and_never_becomes_ready_by_itself() {
        let unknown = intended(Repetition::OnlyAfterLookUp)
            .after(
                &EffectEvent::MayHaveHappened { problem: problem() },
                NOW,
                &timing(),
            )
            .unwrap();
        let settled = NOW.plus_millis(1_802_000 + 2_000 + 1);
        assert_eq!(unknown.step(NOW, &timing()), Step::Wait(NOW.plus_millis(1_000)));
        let early = NOW.plus_millis(1_000);
        assert_eq!(unknown.step(early, &timing()), Step::LookEarly { settled });
        let looked = EffectEvent::LookedEarly {
            not_before: early.plus_millis(4_000),
        };
        let not_seen = unknown.after(&looked, early, &timing()).unwrap();
        assert_eq!((not_seen.status, not_seen.fence), (EffectStatus::Unknown, 1));
        assert_eq!(
            not_seen.step(early, &timing()),
            Step::Wait(early.plus_millis(4_000))
        );
        assert!(
            not_seen.after(&looked, early, &timing()).is_err(),
            "of two who come at once one looks"
        );
        for event in [
            EffectEvent::IntendedAgain,
            EffectEvent::ProvenAbsent,
            EffectEvent::LookUpClaimed { holder: "b".into() },
            EffectEvent::Intended { holder: "b".into() },
        ] {
            assert!(
                not_seen.after(&event, early, &timing()).is_err(),
                "{}",
                event.name()
            );
        }
        for event in [
            EffectEvent::Withdrawn,
            EffectEvent::NotApplied {
                not_before: NOW,
                problem: problem(),
            },
            EffectEvent::Refused { problem: problem() },
        ] {
            assert!(unknown.after(&event, NOW, &timing()).is_err(), "{}", event.name());
        }
        assert!(
            unknown
                .after(&EffectEvent::IntendedAgain, NOW, &timing())
                .is_err(),
            "nobody has claimed the look-up"
        );
    }

    #[test]
    fn a_harmless_effect_is_sent_again_as_soon_as_the_lease_is_over() {
        let held = intended(Repetition::Harmless);
        assert_eq!(
            held.step(NOW, &timing()),
            Step::Wait(NOW.plus_millis(190_000 + 2_000 + 1))
        );
        let unknown = held
            .after(
                &EffectEvent::MayHaveHappened { problem: problem() },
                NOW,
                &timing(),
            )
            .unwrap();
        assert!(matches!(unknown.step(NOW, &timing()), Step::Send | Step::Wait(_)));
        assert_eq!(unknown.step(NOW.plus_millis(2_001), &timing()), Step::Send);
    }

    #[test]
    fn the_end_is_the_end() {
        let done = intended(Repetition::OnlyAfterLookUp)
            .after(&EffectEvent::Confirmed, NOW, &timing())
            .unwrap();
        assert_eq!(done.step(Timestamp(i64::MAX), &timing()), Step::Finished);
        assert_eq!(done.due(&timing()), None);
        for event in [
            EffectEvent::Intended { holder: "b".into() },
            EffectEvent::Confirmed,
            EffectEvent::Parked { problem: problem() },
        ] {
            assert!(done.after(&event, NOW, &timing()).is_err());
        }
    }

    #[test]
    fn the_send_deadline_leaves_room_for_one_exchange_inside_the_lease() {
        assert_eq!(
            intended(Repetition::Harmless).send_deadline(&timing()),
            NOW.plus_millis(70_000)
        );
    }

    #[test]
    fn backoff_doubles_and_stays_bounded() {
        assert_eq!(backoff_millis(0), 1_000);
        assert_eq!(backoff_millis(3), 8_000);
        assert_eq!(backoff_millis(u32::MAX), 300_000);
    }

    /// An attempt whose answer was lost, and of which a look-up after the settle window found nothing; and when.
    fn given_up() -> (Effect, Timestamp) {
        let sent = intended(Repetition::OnlyAfterLookUp);
        let Step::Wait(lease_over) = sent.step(NOW, &timing()) else {
            panic!("nobody holds it")
        };
        let Step::LookEarly { settled } = sent.step(lease_over, &timing()) else {
            panic!("nobody looks early")
        };
        let claim = EffectEvent::LookUpClaimed { holder: "b".into() };
        let claimed = sent.after(&claim, settled, &timing()).unwrap();
        let gone = claimed.after(&EffectEvent::ProvenAbsent, settled, &timing());
        (gone.unwrap(), settled)
    }

    #[test]
    fn what_was_given_up_is_looked_for_an_hour_and_a_day_later() {
        let (gone, at) = given_up();
        let (hour, day) = (at.plus_millis(3_600_000), at.plus_millis(86_400_000));
        assert_eq!(gone.verification_due(), Some(hour));
        let verified = EffectEvent::Verified { key: "k".into() };
        assert!(gone.after(&verified, hour.plus_millis(-1), &timing()).is_err());
        let once = gone.after(&verified, hour, &timing()).unwrap();
        assert_eq!(once.verification_due(), Some(day));
        let later = day.plus_millis(300_000);
        let failed = EffectEvent::VerificationFailed {
            key: "k".into(),
            not_before: later,
            problem: problem(),
        };
        let failed = once.after(&failed, day, &timing()).unwrap();
        assert_eq!((failed.verification_due(), failed.setbacks), (Some(later), 1));
        let done = failed.after(&verified, later, &timing()).unwrap();
        assert_eq!((done.verification_due(), done.doubts.len()), (None, 0));
        let slept = gone.after(&verified, day, &timing()).unwrap();
        assert_eq!(slept.verification_due(), None, "one look is enough for both");
        let found = EffectEvent::FoundLate { key: "k".into() };
        let told = gone.after(&found, hour, &timing()).unwrap();
        assert_eq!(told.verification_due(), None, "told once");
        let stranger = EffectEvent::Verified { key: "x".into() };
        assert!(gone.after(&stranger, hour, &timing()).is_err());
    }

    #[test]
    fn what_succeeds_it_carries_the_doubt_and_what_was_sent_when_it_sends_something_else() {
        let (gone, at) = given_up();
        let hour = at.plus_millis(3_600_000);
        let same = effect(Repetition::OnlyAfterLookUp).succeeding(Some(&gone));
        assert_eq!(same.verification_due(), None, "its own look-ups come first");
        let mut other = effect(Repetition::OnlyAfterLookUp);
        (other.key, other.request) = ("other".into(), "[]".into());
        let other = other.succeeding(Some(&gone));
        for (next, request) in [(same, None), (other, Some("{}".to_owned()))] {
            assert_eq!(next.doubts[0].request, request);
            let done = next.after(&EffectEvent::Confirmed, at, &timing()).unwrap();
            assert_eq!(done.verification_due(), Some(hour));
            assert_eq!(done.doubt(hour).unwrap().key, "k");
        }
        let (again, _) = given_up();
        assert_eq!(again.doubts.len(), 1);
    }
}
