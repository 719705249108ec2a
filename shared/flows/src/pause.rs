//! Stops and resumes a flow of one connection: a record in the register that the flow reads before it begins anything new.
//!
//! The same is read for a second reason: while another installation owns both systems, nothing is begun either ([`crate::owner`]).
//!
//! What is under way comes to its end (an answer that was lost is still looked up); what is not begun waits, known to the
//! register, and goes on after the pause by itself. It works the same on every place the register is on.
//!
//! | flow | while it is paused | after it |
//! |---|---|---|
//! | invoices | known, not decided; nothing new is created in QAD | each is decided when it is due, or asked for |
//! | payments | QAD is polled into the ledgers; no new entry is begun in Coupa | each bill goes on when it is due, or asked for |
//! | suppliers, lookups | a run settles what is open and reads nothing else; no cursor moves | the next run sees everything that came meanwhile |

use crate::owner;
use crate::ports::{CommitError, RecordKey, Register, StoreError, StoredRecord};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, parse, save};
use domain::guards::{Guard, stands};
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::problem::Problem;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use domain::explain::PAUSED;

/// A flow that a connection can pause by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// Creates supplier invoices in QAD.
    #[default]
    Invoices,
    /// Writes QAD's payments into Coupa.
    Payments,
    /// Aligns suppliers.
    Suppliers,
    /// Makes Coupa's lookups follow QAD.
    Lookups,
}

impl Flow {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Invoices, Self::Payments, Self::Suppliers, Self::Lookups];

    /// Its name, for people and in the register.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invoices => "invoices",
            Self::Payments => "payments",
            Self::Suppliers => "suppliers",
            Self::Lookups => "lookups",
        }
    }

    /// Where it is kept whether it is paused.
    pub fn key(self) -> RecordKey {
        RecordKey::Watermark(format!("pause-{}", self.word()))
    }

    /// The audit name of its switch.
    pub fn audit_name(self) -> String {
        format!("flow/pause-{}", self.word())
    }
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who, and why.
    pub instruction: Instruction,
    /// Since when.
    pub since: Timestamp,
}

impl Pause {
    /// How long it has lasted, in seconds.
    pub fn seconds(&self, now: Timestamp) -> u64 {
        let millis = now.millis_since(self.since).max(0);
        u64::try_from(millis.checked_div(1_000).unwrap_or(0)).unwrap_or(0)
    }

    /// What a record that waits for its end says.
    pub fn problem(&self) -> Problem {
        Problem::new(PAUSED, "It goes on when the pause ends.").actual(format!(
            "{}, since {}: {}",
            self.instruction.by,
            domain::explain::instant(self.since),
            self.instruction.reason
        ))
    }
}

/// One step, for the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
enum Event {
    Paused { instruction: Instruction },
    Resumed { instruction: Instruction },
}

/// Whether a flow is paused, with its audit chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
struct Switch {
    #[serde(default)]
    flow: Flow,
    #[serde(default)]
    pause: Option<Pause>,
    #[serde(default)]
    chain: ChainEnd,
}

impl Document for Switch {
    fn key(&self) -> RecordKey {
        self.flow.key()
    }
    fn audit_name(&self) -> String {
        self.flow.audit_name()
    }
    fn state_word(&self) -> &'static str {
        if self.pause.is_some() { "paused" } else { "running" }
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

async fn switch(register: &dyn Register, flow: Flow) -> Result<Loaded<Switch>, FlowError> {
    let stored = load::<Switch>(register, flow.key()).await?;
    Ok(stored.unwrap_or_else(|| Loaded {
        document: Switch {
            flow,
            ..Switch::default()
        },
        revision: 0,
    }))
}

/// The pause of a flow, if there is one.
///
/// # Errors
/// No answer from the register.
pub async fn of(register: &dyn Register, flow: Flow) -> Result<Option<Pause>, FlowError> {
    Ok(switch(register, flow).await?.document.pause)
}

/// Lets a switch that is older than its audit trail go on with it, after a restore. See [`crate::restore`].
///
/// # Errors
/// No answer from the register, or somebody else switched in this moment.
pub(crate) async fn anchor(context: &Context<'_>, flow: Flow) -> Result<bool, FlowError> {
    crate::restore::anchor::<Switch>(context, flow.key()).await
}

/// Everything that keeps the flows of a connection from beginning anything, for those who look at it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stops {
    /// The flows that a person has paused.
    pub paused: Vec<(Flow, Pause)>,
    /// Why another installation may be at work on the same systems.
    pub not_owner: Option<Problem>,
    /// The flows of which it cannot be read whether they are paused: they begin nothing either.
    pub unread: Vec<(Flow, Problem)>,
    /// Why it cannot be read whether another installation may be at work: nothing is begun then.
    pub owner_unread: Option<Problem>,
}

impl Stops {
    /// Whether a flow begins nothing, for whatever reason.
    pub fn stop(&self, flow: Flow) -> bool {
        self.not_owner.is_some()
            || self.owner_unread.is_some()
            || self.paused.iter().any(|(paused, _)| *paused == flow)
            || self.unread.iter().any(|(unread, _)| *unread == flow)
    }
}

/// What is read to know all of it.
pub fn stops_keys() -> Vec<RecordKey> {
    Flow::ALL
        .into_iter()
        .map(Flow::key)
        .chain([owner::key()])
        .collect()
}

/// All of it, from what [`stops_keys`] names. A record that this version cannot read hides none of the others.
pub fn stops_in(found: &[Option<StoredRecord>], now: Timestamp) -> Stops {
    let mut stops = Stops::default();
    for stored in found.iter().flatten() {
        if stored.key == owner::key() {
            match owner::stop(stored, now) {
                Ok(not_owner) => stops.not_owner = not_owner,
                Err(error) => stops.owner_unread = Some(error.problem()),
            }
        } else if let Some(flow) = Flow::ALL.into_iter().find(|flow| flow.key() == stored.key) {
            match parse::<Switch>(stored) {
                Ok(switch) => stops.paused.extend(switch.pause.map(|pause| (flow, pause))),
                Err(error) => stops.unread.push((flow, error.problem())),
            }
        }
    }
    stops
}

/// Why a flow begins nothing new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Stop {
    /// A person has paused it.
    Paused(Pause),
    /// Another installation may be at work on the same systems: nothing is sent again either.
    NotOwner(Problem),
}

impl Stop {
    /// What a record that waits for its end says.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Paused(pause) => pause.problem(),
            Self::NotOwner(problem) => problem.clone(),
        }
    }

    /// Whether what is proven absent is sent again while it lasts. What is open is brought to its end in either case.
    pub(crate) fn sends_again(stop: Option<&Self>) -> bool {
        !matches!(stop, Some(Self::NotOwner(_)))
    }

    /// Its word, for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            Self::NotOwner(_) => "not-owner",
        }
    }

    /// The pause, when it is one.
    pub fn pause(&self) -> Option<&Pause> {
        match self {
            Self::Paused(pause) => Some(pause),
            Self::NotOwner(_) => None,
        }
    }
}

/// What is read to know why a flow begins nothing new.
pub(crate) fn stop_keys(flow: Flow) -> [RecordKey; 2] {
    [flow.key(), owner::key()]
}

/// Why a flow begins nothing new, from what [`stop_keys`] names.
pub(crate) fn read_stop(
    pause: Option<&StoredRecord>,
    owner: Option<&StoredRecord>,
    now: Timestamp,
) -> Result<Option<Stop>, FlowError> {
    if stands(Guard::OwnerMark)
        && let Some(stored) = owner
        && let Some(problem) = owner::stop(stored, now)?
    {
        return Ok(Some(Stop::NotOwner(problem)));
    }
    let pause = pause.map(parse::<Switch>).transpose()?;
    Ok(pause.and_then(|switch| switch.pause).map(Stop::Paused))
}

/// Why a flow begins nothing new, if there is a reason; one read.
///
/// # Errors
/// No answer from the register, or a record that this version cannot read.
pub async fn stop(context: &Context<'_>, flow: Flow) -> Result<Option<Stop>, FlowError> {
    let found = context.register.read(&stop_keys(flow)).await?;
    let mut found = found.into_iter();
    let (pause, owner) = (found.next().flatten(), found.next().flatten());
    read_stop(pause.as_ref(), owner.as_ref(), context.clock.now())
}

/// Pauses (`true`) or resumes a flow. False when it stood so already; nothing is written then.
///
/// # Errors
/// No answer from the register, or somebody else switched in this moment.
pub async fn set(
    context: &Context<'_>,
    flow: Flow,
    paused: bool,
    instruction: Instruction,
) -> Result<bool, FlowError> {
    let Loaded { document, revision } = switch(context.register, flow).await?;
    if document.pause.is_some() == paused {
        return Ok(false);
    }
    let (pause, event) = if paused {
        let pause = Pause {
            instruction: instruction.clone(),
            since: context.clock.now(),
        };
        (Some(pause), Event::Paused { instruction })
    } else {
        (None, Event::Resumed { instruction })
    };
    let change = Change {
        document: Switch { pause, ..document },
        events: vec![event],
        writes: vec![],
    };
    match save(context, revision, change).await {
        Ok(_) => Ok(true),
        Err(CommitError::Conflict) => Err(FlowError::Contended),
        Err(CommitError::Store(StoreError(problem))) => Err(FlowError::Store(StoreError(problem))),
    }
}
