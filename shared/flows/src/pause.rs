//! Stops and resumes a flow of one connection: a record in the register that the flow reads before it begins anything new.
//!
//! What is under way comes to its end (an answer that was lost is still looked up); what is not begun waits, known to the
//! register, and goes on after the pause by itself. It works the same on every place the register is on.

use crate::ports::{CommitError, RecordKey, Register, StoreError};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, save};
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use serde::{Deserialize, Serialize};

/// Code of an invoice that waits for the end of a pause.
pub const PAUSED: &str = "PAUSED";
/// The flow that creates supplier invoices in QAD, as it is named in the register and the audit trail.
const INVOICES: &str = "pause-invoices";

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who, and why.
    pub instruction: Instruction,
    /// Since when.
    pub since: Timestamp,
}

impl Pause {
    /// What an invoice that waits for its end says.
    pub fn problem(&self) -> Problem {
        Problem::new(PAUSED, "It goes on after `qad-coupa resume`.")
            .actual(format!("{}: {}", self.instruction.by, self.instruction.reason))
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
    pause: Option<Pause>,
    #[serde(default)]
    chain: ChainEnd,
}

impl Document for Switch {
    fn key(&self) -> RecordKey {
        key_of_invoices()
    }
    fn audit_name(&self) -> String {
        audit_name()
    }
    fn state_word(&self) -> &'static str {
        if self.pause.is_some() { "paused" } else { "running" }
    }
    fn due(&self, _: &Timing) -> Option<Timestamp> {
        None
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

/// Where it is kept whether the posting of invoices is paused.
pub fn key_of_invoices() -> RecordKey {
    RecordKey::Watermark(INVOICES.to_owned())
}

/// The audit name of the switch.
pub fn audit_name() -> String {
    format!("flow/{INVOICES}")
}

async fn switch(register: &dyn Register) -> Result<Loaded<Switch>, FlowError> {
    let stored = load::<Switch>(register, key_of_invoices()).await?;
    Ok(stored.unwrap_or_else(|| Loaded {
        document: Switch::default(),
        revision: 0,
    }))
}

/// The pause of the posting of invoices, if there is one.
pub async fn of_invoices(register: &dyn Register) -> Result<Option<Pause>, FlowError> {
    Ok(switch(register).await?.document.pause)
}

/// Pauses (`true`) or resumes the posting of invoices. False when it stood so already; nothing is written then.
///
/// # Errors
/// No answer from the register, or somebody else switched in this moment.
pub async fn set_invoices(
    context: &Context<'_>,
    paused: bool,
    instruction: Instruction,
) -> Result<bool, FlowError> {
    let Loaded { document, revision } = switch(context.register).await?;
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
