//! Who has changed what of a connection's documents, and why: kept beside the connection, with the version that each document
//! had before. Names of settings alone: a document's values never leave the secret store.

use crate::ports::{CommitError, RecordKey, Register};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, save};
use domain::instruction::Instruction;
use domain::lifecycle::ChainEnd;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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

/// The store's name of the version that each document has now, by the document.
pub type Versions = BTreeMap<String, String>;

impl DocumentChange {
    /// A change that did not happen is recognised by its document, which still has the version before.
    fn is_carried_out(&self, now: &Versions) -> bool {
        now.get(&self.document)
            .is_some_and(|version| *version != self.before)
    }
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
    /// The one before it, which is the last one while nothing of that was carried out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    standing: Vec<DocumentChange>,
    #[serde(default)]
    chain: ChainEnd,
}

impl ConnectionSettings {
    /// What was carried out last, and can be taken back therefore.
    pub fn carried_out(&self, now: &Versions) -> Vec<DocumentChange> {
        let carried_out = |changes: &[DocumentChange]| -> Vec<DocumentChange> {
            let changes = changes.iter().filter(|change| change.is_carried_out(now));
            changes.cloned().collect()
        };
        let last = carried_out(&self.last);
        if last.is_empty() {
            carried_out(&self.standing)
        } else {
            last
        }
    }

    /// Another change follows. It takes nothing away before it is carried out itself, and it is one with the last change when it
    /// ends what that one has left half done.
    fn follow(&mut self, now: &Versions, documents: Vec<DocumentChange>) {
        let is_named = |change: &DocumentChange| documents.iter().any(|one| one.document == change.document);
        let (done, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.last)
            .into_iter()
            .partition(|change| change.is_carried_out(now));
        let mut last: Vec<DocumentChange> = Vec::new();
        if open.iter().any(is_named) {
            last.extend(done.iter().filter(|change| !is_named(change)).cloned());
        }
        if last.is_empty() && !done.is_empty() {
            self.standing = done;
        }
        last.extend(documents);
        self.last = last;
    }
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

/// What is known of the changes so far. Read before the documents are: a change that somebody else makes meanwhile is noticed.
///
/// # Errors
/// No answer from the register, or a record that this version cannot read.
pub async fn known(register: &dyn Register) -> Result<Loaded<ConnectionSettings>, FlowError> {
    let known = load::<ConnectionSettings>(register, key()).await?;
    Ok(known.unwrap_or_else(|| Loaded {
        document: ConnectionSettings::default(),
        revision: 0,
    }))
}

/// Writes down what is about to be changed; first, so that no change is ever without its reason and its way back. `known` and
/// `now` are what the change was planned on.
///
/// # Errors
/// No answer from the register, or somebody else has changed the connection since: nothing may be changed then.
pub async fn say(
    context: &Context<'_>,
    (known, now): (Loaded<ConnectionSettings>, &Versions),
    way: Way,
    documents: Vec<DocumentChange>,
    instruction: Instruction,
) -> Result<(), FlowError> {
    let Loaded {
        mut document,
        revision,
    } = known;
    document.follow(now, documents.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::tests::ready;
    use crate::memory_register::MemoryRegister;
    use crate::poll_coupa::tests::Shop;
    use crate::ports::Chance;
    use domain::time::Timestamp;
    use domain::timing::Timing;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Two people's tokens are never the same.
    struct Tokens(AtomicU64);

    impl Chance for Tokens {
        fn token(&self) -> String {
            self.0.fetch_add(1, Ordering::Relaxed).to_string()
        }
        fn up_to(&self, _: u64) -> u64 {
            0
        }
    }

    fn to(document: &str, before: &str) -> DocumentChange {
        DocumentChange {
            document: document.to_owned(),
            before: before.to_owned(),
            settings: BTreeSet::from(["/hold_recheck_seconds".to_owned()]),
        }
    }

    fn at(connection: &str, webhook: &str) -> Versions {
        let of = |document: &str, version: &str| (document.to_owned(), version.to_owned());
        Versions::from([of("connection", connection), of("webhook", webhook)])
    }

    #[test]
    fn a_change_that_was_not_carried_out_leaves_the_way_back_of_the_one_before() {
        let mut known = ConnectionSettings::default();
        known.follow(&at("c1", "w1"), vec![to("connection", "c1")]);
        assert_eq!(
            known.carried_out(&at("c1", "w1")),
            [],
            "it is not carried out yet"
        );
        let now = at("c2", "w1");
        // Said twice, and stored neither time.
        known.follow(&now, vec![to("connection", "c2")]);
        known.follow(&now, vec![to("connection", "c2"), to("webhook", "w1")]);
        assert_eq!(known.carried_out(&now), [to("connection", "c1")]);
        assert_eq!(known.carried_out(&at("c3", "w1")), [to("connection", "c2")]);
    }

    #[test]
    fn a_change_that_is_ended_with_a_second_try_is_taken_back_whole() {
        let mut known = ConnectionSettings::default();
        known.follow(&at("c1", "w1"), vec![to("connection", "c1"), to("webhook", "w1")]);
        // The second document was not stored: the same put finds it alone to be changed.
        known.follow(&at("c2", "w1"), vec![to("webhook", "w1")]);
        assert_eq!(known.carried_out(&at("c2", "w1")), [to("connection", "c1")]);
        let both = [to("connection", "c1"), to("webhook", "w1")];
        assert_eq!(known.carried_out(&at("c2", "w2")), both);
        // Another change is another one: the older one is not taken back with it.
        known.follow(&at("c2", "w2"), vec![to("webhook", "w2")]);
        assert_eq!(known.carried_out(&at("c2", "w3")), [to("webhook", "w2")]);
        assert_eq!(
            known.carried_out(&at("c2", "w2")),
            both,
            "until it is carried out"
        );
    }

    #[test]
    fn of_two_changes_that_are_planned_on_the_same_state_one_is_refused() {
        let (register, shop, timing) = (MemoryRegister::new(), Shop::new(0), Timing::default());
        let context = Context {
            register: &register,
            clock: &shop.model,
            chance: &Tokens(AtomicU64::new(0)),
            timing: &timing,
            deadline: Timestamp(i64::MAX),
        };
        let why = || Instruction::new("a person", "a reason").unwrap();
        let now = at("c1", "w1");
        let planned = [(); 2].map(|()| ready(known(&register)).unwrap());
        let ended = planned.map(|known| {
            let documents = vec![to("connection", "c1")];
            ready(say(&context, (known, &now), Way::Forward, documents, why()))
                .map_err(|error| error.problem().code)
        });
        assert_eq!(ended, [Ok(()), Err("REGISTER_CONTENDED".to_owned())]);
    }
}
