//! A month that a controller has signed off: who, when, with which words, and with which figures in sight.

use crate::ports::{CommitError, RecordKey, Register, StoredRecord};
use crate::store::{Change, Context, Document, FlowError, Loaded, parse, save};
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Who, and the note.
    pub instruction: Instruction,
    /// When.
    pub at: Timestamp,
    /// The figures that were in sight, in words.
    pub figures: String,
}

/// One step, for the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
enum Event {
    SignedOff { signature: Signature },
}

/// A month with its signatures; the last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthEnd {
    /// `2026-11`.
    pub month: String,
    /// All of them, oldest first.
    #[serde(default)]
    pub signatures: Vec<Signature>,
    #[serde(default)]
    chain: ChainEnd,
}

/// Most signatures that are kept in the record; older ones are in the audit trail.
const SIGNATURES_MAX: usize = 20;

/// Begins the key of a month.
const KEY_PREFIX: &str = "month-";

/// Where the signatures of a month are kept.
pub fn key(month: &str) -> RecordKey {
    RecordKey::Watermark(format!("{KEY_PREFIX}{month}"))
}

/// Whether the signatures of a month are kept there.
pub(crate) fn is_key(at: &RecordKey) -> bool {
    matches!(at, RecordKey::Watermark(name) if name.starts_with(KEY_PREFIX))
}

/// The name of a month in the audit trail.
pub fn audit_name(month: &str) -> String {
    format!("month/{month}")
}

impl Document for MonthEnd {
    fn key(&self) -> RecordKey {
        key(&self.month)
    }
    fn audit_name(&self) -> String {
        audit_name(&self.month)
    }
    fn state_word(&self) -> &'static str {
        if self.signatures.is_empty() {
            "open"
        } else {
            "signed"
        }
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

/// A month as it is signed, and its revision; unsigned when nobody has.
///
/// # Errors
/// No answer from the register, or a record this version cannot read.
pub async fn of(register: &dyn Register, month: &str) -> Result<Loaded<MonthEnd>, FlowError> {
    let found = register.read(&[key(month)]).await?;
    at(found.first().and_then(Option::as_ref), month)
}

/// The same, from what lies at [`key`].
///
/// # Errors
/// A record this version cannot read.
pub fn at(stored: Option<&StoredRecord>, month: &str) -> Result<Loaded<MonthEnd>, FlowError> {
    let new = || MonthEnd {
        month: month.to_owned(),
        signatures: Vec::new(),
        chain: ChainEnd::default(),
    };
    Ok(Loaded {
        document: stored.map(parse).transpose()?.unwrap_or_else(new),
        revision: stored.map_or(0, |stored| stored.revision),
    })
}

/// Signs a month off, if it is still as it was looked at.
///
/// # Errors
/// Somebody signed it meanwhile ([`FlowError::Contended`]), or no answer from the register.
pub async fn sign(
    context: &Context<'_>,
    month: &str,
    seen: u64,
    instruction: Instruction,
    figures: String,
) -> Result<MonthEnd, FlowError> {
    let Loaded {
        mut document,
        revision,
    } = of(context.register, month).await?;
    if revision != seen {
        return Err(FlowError::Contended);
    }
    let signature = Signature {
        instruction,
        at: context.clock.now(),
        figures,
    };
    document.signatures.push(signature.clone());
    let extra = document.signatures.len().saturating_sub(SIGNATURES_MAX);
    document.signatures.drain(..extra);
    let change = Change {
        document,
        events: vec![Event::SignedOff { signature }],
        writes: vec![],
    };
    match save(context, revision, change).await {
        Ok(saved) => Ok(saved.document),
        Err(CommitError::Conflict) => Err(FlowError::Contended),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}
