//! Which installation works with a pair of systems: a mark in Coupa, taken once per epoch and renewed by its owner alone.
//!
//! Each epoch is a value of its own in one of Coupa's lookups, and Coupa takes a number once: of several that claim an epoch at
//! the same moment one gets it. Whoever holds the highest epoch owns. It renews its mark with ever new beats, which its register
//! knows before they leave; a mark whose beat a register does not know is not that register's, also when it is of a copy of it.
//!
//! ```text
//! last renewal     + [`HELD_MILLIS`]                       + [`taken_over_after`]
//! ├── its owner plans ──┤  nobody plans: what the owner sent  ├── a person may give it to another one
//!                       │  may still come                     │
//! ```

use crate::ids::{ConnectionId, fold};
use crate::instruction::Instruction;
use crate::lifecycle::ChainEnd;
use crate::lookups::{CoupaValue, LookupCode};
use crate::problem::Problem;
use crate::time::Timestamp;
use crate::timing::Timing;
use serde::{Deserialize, Serialize};

/// How old a mark gets before its owner renews it, in milliseconds (ten minutes).
pub const RENEWED_AFTER_MILLIS: i64 = 600_000;
/// How soon a mark that could not be read, or is another's, is looked at again, in milliseconds (a minute).
pub const LOOKED_AGAIN_AFTER_MILLIS: i64 = 60_000;
/// How long after its last renewal an owner begins anything new, in milliseconds (an hour).
pub const HELD_MILLIS: i64 = 3_600_000;
/// Shortest time between the last thing an owner begins and the first thing the next one does, in milliseconds (an hour).
pub const MARGIN_MILLIS_MIN: i64 = 3_600_000;
/// Beats a register remembers, with the one that stands in Coupa: a late write may bring an earlier one back.
pub const BEATS_KEPT: usize = 16;
/// Begins the number of a mark, which ends with its epoch.
const NUMBER_PREFIX: &str = "owner-";
/// Longest installation, or beat, in characters.
const TOKEN_CHARACTERS_MAX: usize = 36;

/// The mark is another installation's.
pub const OWNED_BY_ANOTHER: &str = "OWNED_BY_ANOTHER_INSTALLATION";
/// It was never seen whose the mark is.
pub const MARK_UNKNOWN: &str = "OWNER_MARK_UNKNOWN";
/// The mark was ours, and has not been renewed for too long.
pub const MARK_NOT_RENEWED: &str = "OWNER_MARK_NOT_RENEWED";
/// A person asked for a mark that is too young to be given to another.
pub const MARK_TOO_YOUNG: &str = "OWNER_MARK_TOO_YOUNG";

/// Whether a code says that somebody else may be at work here.
pub fn is_stop(code: &str) -> bool {
    [OWNED_BY_ANOTHER, MARK_UNKNOWN, MARK_NOT_RENEWED].contains(&code)
}

/// How long after its last renewal a mark may be given to another installation, in milliseconds: its owner has stopped, and
/// whatever it sent has come.
pub fn taken_over_after(timing: &Timing) -> i64 {
    let on_its_way = timing
        .function_millis
        .saturating_add(timing.lease_millis)
        .saturating_add(timing.commit_lateness_millis)
        .saturating_add(timing.clock_skew_millis.saturating_mul(2));
    HELD_MILLIS.saturating_add(on_its_way.max(MARGIN_MILLIS_MIN))
}

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Made up once per register.
    pub installation: String,
    /// Whose connection has renewed it.
    pub connection: ConnectionId,
    /// When.
    pub renewed: Timestamp,
    /// Never used twice; the register knew it before it left.
    pub beat: String,
}

/// The parts of a mark's text, in their order.
const PARTS: [&str; 4] = ["installation ", "connection ", "renewed ", "beat "];

impl Mark {
    /// As it stands in Coupa.
    pub fn text(&self) -> String {
        let [installation, connection, renewed, beat] = PARTS;
        format!(
            "{installation}{}, {connection}{}, {renewed}{}, {beat}{}",
            self.installation, self.connection, self.renewed, self.beat
        )
    }

    /// Reads one; `None` for a text that this product does not write.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(", ");
        let mut part = |word: &str| parts.next()?.strip_prefix(word);
        let [installation, connection, renewed, beat] = PARTS;
        let token = |text: &str| {
            let is_one = (1..=TOKEN_CHARACTERS_MAX).contains(&text.len())
                && text
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '-');
            is_one.then(|| text.to_owned())
        };
        let mark = Self {
            installation: token(part(installation)?)?,
            connection: part(connection)?.parse().ok()?,
            renewed: Timestamp(part(renewed)?.parse::<jiff::Timestamp>().ok()?.as_millisecond()),
            beat: token(part(beat)?)?,
        };
        parts.next().is_none().then_some(mark)
    }
}

/// The number of an epoch's value.
pub fn number_of(epoch: u64) -> String {
    format!("{NUMBER_PREFIX}{epoch}")
}

/// The epoch of a value's number; `None` for a value that is no mark.
pub fn epoch_of(number: &LookupCode) -> Option<u64> {
    let digits = number.folded();
    let digits = digits.strip_prefix(&fold(NUMBER_PREFIX))?;
    let epoch = digits.parse().ok()?;
    (number_of(epoch) == format!("{NUMBER_PREFIX}{digits}")).then_some(epoch)
}

/// A mark as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Coupa's id of the value.
    pub id: u64,
    /// Its epoch.
    pub epoch: u64,
    /// What it says; `None` when it was written over.
    pub mark: Option<Mark>,
}

/// The marks of the highest epoch among a lookup's values; none when nobody has claimed any.
pub fn highest(values: &[CoupaValue]) -> Vec<Found> {
    let mut found: Vec<Found> = values
        .iter()
        .filter_map(|value| {
            let number: LookupCode = value.code.as_deref()?.parse().ok()?;
            Some(Found {
                id: value.id,
                epoch: epoch_of(&number)?,
                mark: Mark::read(&value.name),
            })
        })
        .collect();
    let top = found.iter().map(|found| found.epoch).max();
    found.retain(|found| Some(found.epoch) == top);
    found
}

/// Whose the highest epoch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has ever claimed it, or every mark is gone.
    Nobody,
    /// This register's.
    Ours {
        /// Coupa's id of the value.
        id: u64,
        /// Which epoch.
        epoch: u64,
        /// When it was last renewed.
        renewed: Timestamp,
        /// With which beat.
        beat: String,
    },
    /// Not this register's: another's, a copy's, unreadable, or there twice.
    Another {
        /// Which epoch.
        epoch: u64,
        /// What its marks say; none where none can be read.
        marks: Vec<Mark>,
    },
}

/// Whose the highest epoch is, for a register that knows these beats.
pub fn standing(highest: &[Found], is_known: impl Fn(&str) -> bool) -> Standing {
    match highest {
        [] => Standing::Nobody,
        [
            Found {
                id,
                epoch,
                mark: Some(mark),
            },
        ] if is_known(&mark.beat) => Standing::Ours {
            id: *id,
            epoch: *epoch,
            renewed: mark.renewed,
            beat: mark.beat.clone(),
        },
        [first, ..] => Standing::Another {
            epoch: first.epoch,
            marks: highest.iter().filter_map(|found| found.mark.clone()).collect(),
        },
    }
}

/// What a register knows of the mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "owner")]
pub enum OwnerState {
    /// The connection names no lookup for it: two installations do not notice each other.
    Unguarded,
    /// It has never been seen whose it is.
    Unknown {
        /// Why.
        problem: Problem,
    },
    /// This register's.
    Ours {
        /// Since this epoch.
        epoch: u64,
        /// When it was last renewed, as Coupa shows it.
        renewed: Timestamp,
        /// The beat that was last seen there; empty in a record that an earlier version wrote.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        beat: String,
    },
    /// Not this register's.
    Another {
        /// Which epoch.
        epoch: u64,
        /// Whose.
        problem: Problem,
        /// Since when that is known.
        since: Timestamp,
    },
}

/// One step, for the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum OwnerEvent {
    /// About to claim an epoch.
    Claiming {
        /// Which.
        epoch: u64,
        /// Who gave it to this installation, and why; nobody where it was nobody's.
        #[serde(skip_serializing_if = "Option::is_none")]
        instruction: Option<Instruction>,
    },
    /// The mark is this register's.
    Owned {
        /// Since this epoch.
        epoch: u64,
    },
    /// The mark is not this register's.
    NotOwned {
        /// Whose it is.
        problem: Problem,
    },
    /// Nobody knows whose it is.
    Unknown {
        /// Why.
        problem: Problem,
    },
    /// No lookup is named any more.
    Unguarded,
}

/// The record of it, with its audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ownership {
    /// Made up once per register.
    pub installation: String,
    /// What is known.
    pub state: OwnerState,
    /// The latest beats that were given to a mark, the newest last.
    #[serde(default)]
    pub beats: Vec<String>,
    /// Where its audit chain ends.
    #[serde(default)]
    pub chain: ChainEnd,
}

impl Ownership {
    /// A register's first one.
    pub fn new(installation: String) -> Self {
        let problem = Problem::new(MARK_UNKNOWN, "Nothing to do: it is looked at now.");
        Self {
            installation,
            state: OwnerState::Unknown { problem },
            beats: Vec::new(),
            chain: ChainEnd::default(),
        }
    }

    /// The epoch this register has owned last; 0 for none.
    pub fn epoch(&self) -> u64 {
        match self.state {
            OwnerState::Ours { epoch, .. } => epoch,
            _ => 0,
        }
    }

    /// Why nothing new may be begun; `None` when it may.
    pub fn stop(&self, now: Timestamp) -> Option<Problem> {
        match &self.state {
            OwnerState::Unguarded => None,
            OwnerState::Unknown { problem } | OwnerState::Another { problem, .. } => Some(problem.clone()),
            OwnerState::Ours { renewed, .. } if now < renewed.plus_millis(HELD_MILLIS) => None,
            OwnerState::Ours { epoch, renewed, .. } => Some(
                Problem::new(
                    MARK_NOT_RENEWED,
                    "Nothing is lost: it goes on when the mark can be renewed. Whoever runs this product sees what is in the way.",
                )
                .field(format!("owner mark, epoch {epoch}"))
                .expected("a renewal within the hour")
                .actual(format!("renewed {}", crate::explain::instant(*renewed))),
            ),
        }
    }

    /// When the mark must be looked at again.
    pub fn look_again(&self, looked: Timestamp) -> Timestamp {
        match self.state {
            OwnerState::Ours { renewed, .. } => renewed.plus_millis(RENEWED_AFTER_MILLIS),
            _ => looked.plus_millis(LOOKED_AGAIN_AFTER_MILLIS),
        }
    }

    /// With a beat that is about to leave. The one that was last seen standing is kept: however many renewals are lost, it is
    /// what Coupa shows.
    #[must_use]
    pub fn with_beat(mut self, beat: String) -> Self {
        self.beats.push(beat);
        let standing = match &self.state {
            OwnerState::Ours { beat, .. } => Some(beat),
            _ => None,
        };
        let mut surplus = self.beats.len().saturating_sub(BEATS_KEPT);
        self.beats.retain(|known| {
            let goes = surplus > 0 && Some(known) != standing;
            surplus = surplus.saturating_sub(usize::from(goes));
            !goes
        });
        self
    }

    /// After a complete look, and what is new about it. Nobody's is for whoever looked to claim.
    #[must_use]
    pub fn after_look(&self, standing: &Standing, lookup: &str, now: Timestamp) -> (Self, Vec<OwnerEvent>) {
        let (state, events) = match standing {
            Standing::Nobody => return (self.clone(), vec![]),
            Standing::Ours {
                epoch, renewed, beat, ..
            } => {
                let state = OwnerState::Ours {
                    epoch: *epoch,
                    renewed: *renewed,
                    beat: beat.clone(),
                };
                let is_known = matches!(self.state, OwnerState::Ours { epoch: known, .. } if known == *epoch);
                let news = (!is_known).then_some(OwnerEvent::Owned { epoch: *epoch });
                (state, news)
            }
            Standing::Another { epoch, .. } if matches!(&self.state, OwnerState::Another { epoch: known, .. } if known == epoch) =>
            {
                return (self.clone(), vec![]);
            }
            Standing::Another { epoch, marks } => {
                let problem = self.another(*epoch, marks, lookup);
                let state = OwnerState::Another {
                    epoch: *epoch,
                    problem: problem.clone(),
                    since: now,
                };
                (state, Some(OwnerEvent::NotOwned { problem }))
            }
        };
        let after = Self {
            state,
            ..self.clone()
        };
        (after, events.into_iter().collect())
    }

    /// After a look that gave no answer: that is never "nobody's". What was known stays known, for as long as it holds.
    #[must_use]
    pub fn after_failure(&self, problem: &Problem) -> (Self, Vec<OwnerEvent>) {
        let problem = Problem::new(
            MARK_UNKNOWN,
            "Nothing is lost: it goes on when the mark can be read. Whoever runs this product sees what is in the way.",
        )
        .field("owner mark in Coupa")
        .expected("whose it is")
        .actual(problem.to_string());
        match &self.state {
            OwnerState::Ours { .. } | OwnerState::Another { .. } => (self.clone(), vec![]),
            OwnerState::Unknown { problem: known } if *known == problem => (self.clone(), vec![]),
            OwnerState::Unguarded | OwnerState::Unknown { .. } => {
                let after = Self {
                    state: OwnerState::Unknown {
                        problem: problem.clone(),
                    },
                    ..self.clone()
                };
                (after, vec![OwnerEvent::Unknown { problem }])
            }
        }
    }

    fn another(&self, epoch: u64, marks: &[Mark], lookup: &str) -> Problem {
        let told = match marks {
            [] => "a mark that cannot be read".to_owned(),
            [mark] if mark.installation == self.installation => format!(
                "renewed {} by another copy of this register",
                crate::explain::instant(mark.renewed)
            ),
            [mark] => format!(
                "of installation {}, connection {}, renewed {}",
                mark.installation,
                mark.connection,
                crate::explain::instant(mark.renewed)
            ),
            several => format!("claimed {} times", several.len()),
        };
        Problem::new(
            OWNED_BY_ANOTHER,
            "Switch one of the two installations off. If the other one is gone for good, the mark is given to this one.",
        )
        .field(format!("Coupa lookup {lookup}"))
        .expected(format!("a mark of this register, installation {}", self.installation))
        .actual(format!("epoch {epoch} is {told}"))
    }

    /// Why a person may not give the mark to this register now; `None` when that is safe: its owner has stopped.
    pub fn too_young(
        &self,
        marks: &[Mark],
        lookup: &str,
        timing: &Timing,
        now: Timestamp,
    ) -> Option<Problem> {
        let wait = taken_over_after(timing);
        let renewed = marks.iter().map(|mark| mark.renewed).max();
        // One that cannot be read stops its owner too, once it looks.
        let seen = match self.state {
            OwnerState::Another { since, .. } => since,
            _ => now,
        };
        let from = renewed.unwrap_or(seen).plus_millis(wait);
        (now < from).then(|| {
            Problem::new(
                MARK_TOO_YOUNG,
                "Switch the other installation off and wait until then: what it has sent may still come.",
            )
            .field(format!("Coupa lookup {lookup}"))
            .expected(format!("no renewal before {}", crate::explain::instant(from)))
            .actual(format!(
                "last renewed {}",
                crate::explain::instant(renewed.unwrap_or(seen))
            ))
        })
    }
}

#[cfg(test)]
mod tests;
