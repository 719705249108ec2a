//! From when on the books of an entity are open: a word of a person, kept in the register beside the connection, so that the
//! next decision counts it without a deployment. Said again, it takes the place of what was said before; the setting
//! `first_open_day` counts where it is later.

use crate::ports::{CommitError, RecordKey};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, save};
use domain::ids::EntityCode;
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use domain::policy::MatchPolicy;
use domain::time::{Date, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The audit name of what is said about the books.
pub const AUDIT_NAME: &str = "entity/open-from";

/// What somebody has said of one entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFrom {
    /// The first open day.
    pub day: Date,
    /// Who, and why.
    pub instruction: Instruction,
    /// When it was said.
    pub since: Timestamp,
}

/// What is known of the books of a connection's entities, with the audit chain of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Openings {
    #[serde(default)]
    said: BTreeMap<EntityCode, OpenFrom>,
    #[serde(default)]
    chain: ChainEnd,
}

/// One step, for the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
enum Event {
    OpenFrom {
        entity: EntityCode,
        day: Date,
        instruction: Instruction,
    },
}

/// Where it is kept.
pub fn key() -> RecordKey {
    RecordKey::Watermark("open-from".to_owned())
}

impl Openings {
    /// What was said last of an entity.
    pub fn of(&self, entity: &EntityCode) -> Option<&OpenFrom> {
        self.said.get(entity)
    }

    /// An entity's policy with the later of both days.
    pub fn applied_to(&self, policy: &MatchPolicy) -> MatchPolicy {
        let said = self.of(&policy.entity).map(|said| said.day);
        MatchPolicy {
            first_open_day: policy.first_open_day.max(said),
            ..policy.clone()
        }
    }
}

impl Document for Openings {
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

/// Says from when on the books of an entity are open. What was said before is answered.
///
/// # Errors
/// No answer from the register, or somebody else said something in this moment.
pub async fn say(
    context: &Context<'_>,
    entity: &EntityCode,
    day: Date,
    instruction: Instruction,
) -> Result<Option<OpenFrom>, FlowError> {
    let known = load::<Openings>(context.register, key()).await?;
    let Loaded {
        mut document,
        revision,
    } = known.unwrap_or_else(|| Loaded {
        document: Openings::default(),
        revision: 0,
    });
    let said = OpenFrom {
        day,
        instruction: instruction.clone(),
        since: context.clock.now(),
    };
    let before = document.said.insert(entity.clone(), said);
    let change = Change {
        document,
        events: vec![Event::OpenFrom {
            entity: entity.clone(),
            day,
            instruction,
        }],
        writes: vec![],
    };
    match save(context, revision, change).await {
        Ok(_) => Ok(before),
        Err(CommitError::Conflict) => Err(FlowError::Contended),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}
