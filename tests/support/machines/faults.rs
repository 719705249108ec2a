//! What goes wrong: by chance, or exactly what a list says.

use crate::gate::Rng;
use crate::machines::marks::Mark;
use std::collections::BTreeMap;

/// What kind of step it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A read of the register.
    Register,
    /// A write of the register.
    Commit,
    /// A read of Coupa or QAD.
    Read,
    /// A write to Coupa or QAD.
    Write,
    /// A hint on its way into the queue.
    Hint,
    /// No call: nothing comes in between.
    AtOnce,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It is not done, and nobody can know that.
    Lost,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is not done, and the other side says so.
    Declined,
    /// It is not answered, and lands so many milliseconds after the last byte.
    Late(i64),
    /// The worker dies before it.
    DiesBefore,
    /// The worker dies after it.
    DiesAfter,
    /// The worker stops for so many milliseconds after it, and nobody ends it on time.
    Stalls(i64),
    /// It happens twice.
    Twice,
}

impl Fault {
    /// The mark it leaves.
    pub fn mark(self) -> Mark {
        match self {
            Self::None | Self::Lost => Mark::Lost,
            Self::AnswerLost => Mark::AnswerLost,
            Self::Declined => Mark::Declined,
            Self::Late(_) => Mark::Late,
            Self::DiesBefore | Self::DiesAfter => Mark::Died,
            Self::Stalls(_) => Mark::Stalled,
            Self::Twice => Mark::HintTwice,
        }
    }
}

/// A fault at the step of a worker.
pub type Listed = ((u32, u32), Fault);

/// Where faults come from.
#[derive(Debug, Clone)]
pub enum Faults {
    /// By chance.
    ByChance(Odds),
    /// These and no others.
    Listed(BTreeMap<(u32, u32), Fault>),
}

/// How often what goes wrong, of a thousand steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Odds {
    /// A write is lost on its way.
    pub write_lost: u64,
    /// The answer to a write is lost.
    pub answer_lost: u64,
    /// A write lands late.
    pub late: u64,
    /// A write is declined (401, 429, record in use).
    pub declined: u64,
    /// A read of Coupa or QAD gives no answer.
    pub read_lost: u64,
    /// The register gives no answer to a read.
    pub register_lost: u64,
    /// The register gives no answer to a write, before or after doing it.
    pub commit_lost: u64,
    /// The worker dies.
    pub dies: u64,
    /// The worker stops for minutes and is not ended on time.
    pub stalls: u64,
    /// Longest stop, in milliseconds.
    pub stall_millis: i64,
    /// A hint is lost.
    pub hint_lost: u64,
    /// A hint arrives twice.
    pub hint_twice: u64,
}

impl Odds {
    /// Everything at once.
    pub fn heavy() -> Self {
        Self {
            write_lost: 80,
            answer_lost: 100,
            late: 150,
            declined: 60,
            read_lost: 80,
            register_lost: 10,
            commit_lost: 40,
            dies: 16,
            stalls: 16,
            stall_millis: 600_000,
            hint_lost: 50,
            hint_twice: 100,
        }
    }

    /// A random part of everything: faults hide each other when all are there.
    pub fn swarm(rng: &mut Rng) -> Self {
        let full = Self::heavy();
        let mut some = |chance: u64| if rng.per_mille(600) { chance } else { 0 };
        Self {
            write_lost: some(full.write_lost),
            answer_lost: some(full.answer_lost),
            late: some(full.late),
            declined: some(full.declined),
            read_lost: some(full.read_lost),
            register_lost: some(full.register_lost),
            commit_lost: some(full.commit_lost),
            dies: some(full.dies),
            stalls: some(full.stalls),
            hint_lost: some(full.hint_lost),
            hint_twice: some(full.hint_twice),
            ..full
        }
    }

    /// No faults at all.
    pub fn none() -> Self {
        Self {
            write_lost: 0,
            answer_lost: 0,
            late: 0,
            declined: 0,
            read_lost: 0,
            register_lost: 0,
            commit_lost: 0,
            dies: 0,
            stalls: 0,
            stall_millis: 0,
            hint_lost: 0,
            hint_twice: 0,
        }
    }

    /// What happens to one step.
    pub fn draw(&self, rng: &mut Rng, place: Place, late_millis: i64) -> Fault {
        let lost = match place {
            Place::Register => [(self.register_lost, Fault::Lost), (0, Fault::None)],
            Place::Commit => [
                (self.commit_lost / 2, Fault::Lost),
                (self.commit_lost / 2, Fault::AnswerLost),
            ],
            Place::Read => [(self.read_lost, Fault::Lost), (0, Fault::None)],
            Place::Write => [
                (self.write_lost, Fault::Lost),
                (self.answer_lost, Fault::AnswerLost),
            ],
            Place::Hint => [(self.hint_lost, Fault::Lost), (self.hint_twice, Fault::Twice)],
            Place::AtOnce => return Fault::None,
        };
        for (chance, fault) in lost {
            if rng.per_mille(chance) {
                return fault;
            }
        }
        if place == Place::Hint {
            return Fault::None;
        }
        if place == Place::Write {
            if rng.per_mille(self.late) {
                // As late as it may be, often: that is where a window that is too short shows.
                let latest = rng.per_mille(300);
                return Fault::Late(if latest {
                    late_millis
                } else {
                    rng.millis(late_millis)
                });
            }
            if rng.per_mille(self.declined) {
                return Fault::Declined;
            }
        }
        if rng.per_mille(self.dies) {
            return if rng.per_mille(500) {
                Fault::DiesBefore
            } else {
                Fault::DiesAfter
            };
        }
        if rng.per_mille(self.stalls) {
            return Fault::Stalls(rng.millis(self.stall_millis));
        }
        Fault::None
    }
}
