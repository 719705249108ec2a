//! Who has changed what of a connection's documents, and why: kept beside the connection, with the version that each document
//! had before. Names of settings alone: a document's values never leave the secret store.

use crate::ports::{CommitError, RecordKey};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, save};
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The audit name of these changes.
pub const AUDIT_NAME: &str = "connection/settings";

/// What is changed of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentChange {
    /// Which document, in the words of the command line: `connection` or `webhook`.
    pub document: String,
    /// The store's name of the version before.
    pub before: String,
    /// The settings that differ, as JSON pointers.
    pub settings: BTreeSet<String>,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Another document.
    Forward,
    /// The one before the last change.
    Back,
}

/// What was changed last, with the audit chain of all changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ConnectionSettings {
    /// The last change, document by document.
    #[serde(default)]
    pub last: Vec<DocumentChange>,
    #[serde(default)]
    chain: ChainEnd,
}

/// One step, for the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The documents are being changed.
    Changing {
        /// What of them.
        documents: Vec<DocumentChange>,
        /// Who, and why.
        instruction: Instruction,
    },
    /// The last change is being taken back.
    TakingBack {
        /// What of them.
        documents: Vec<DocumentChange>,
        /// Who, and why.
        instruction: Instruction,
    },
}

/// Where it is kept.
pub fn key() -> RecordKey {
    RecordKey::Watermark("connection-settings".to_owned())
}

impl Document for ConnectionSettings {
    fn key(&self) -> RecordKey {
        key()
    }
    fn audit_name(&self) -> String {
        AUDIT_NAME.to_owned()
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

/// Writes down what is about to be changed; first, so that no change is ever without its reason and its way back. A change that
/// then does not happen is recognised by its document, which still has the version before.
///
/// # Errors
/// No answer from the register, or somebody else changes the connection in this moment: nothing may be changed then.
pub async fn say(
    context: &Context<'_>,
    way: Way,
    documents: Vec<DocumentChange>,
    instruction: Instruction,
) -> Result<(), FlowError> {
    let known = load::<ConnectionSettings>(context.register, key()).await?;
    let Loaded {
        mut document,
        revision,
    } = known.unwrap_or_else(|| Loaded {
        document: ConnectionSettings::default(),
        revision: 0,
    });
    document.last.clone_from(&documents);
    let event = match way {
        Way::Forward => Event::Changing {
            documents,
            instruction,
        },
        Way::Back => Event::TakingBack {
            documents,
            instruction,
        },
    };
    let change = Change {
        document,
        events: vec![event],
        writes: vec![],
    };
    match save(context, revision, change).await {
        Ok(_) => Ok(()),
        Err(CommitError::Conflict) => Err(FlowError::Contended),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}
