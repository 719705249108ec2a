//! A register of then beside an audit trail of now: what a restore of one table alone leaves behind. A record that has changed
//! since stands still there, because its next entry exists already.
//!
//! Anchoring takes nothing from the trail and invents no state: a record stays what the register says, and its chain goes on
//! where the trail ends. What it has done meanwhile is found again as after a restore of both tables: by the polls, and by the
//! look-ups before anything is sent.

use crate::connection_settings::{self, ConnectionSettings};
use crate::month_end::{self, MonthEnd};
use crate::opening::{self, Openings};
use crate::owner;
use crate::pause::{self, Flow};
use crate::ports::{AuditEntry, Collection, Commit, CommitError, RecordKey, RecordWrite};
use crate::store::{
    Change, Context, Document, FlowError, Loaded, impossible, invoice_audit_name, load, next_entry, parse,
    render, save, verify_chain,
};
use domain::ids::InvoiceId;
use domain::instruction::Instruction;
use domain::lifecycle::{ChainEnd, Event, InvoiceRecord};
use domain::lookups::LookupValueRecord;
use domain::ownership::Ownership;
use domain::payments::{BillPayments, UnmatchedPayments};
use domain::plans::PlanRecord;
use domain::problem::Problem;
use domain::suppliers::SupplierRecord;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The audit name of restores.
pub const AUDIT_NAME: &str = "flow/restored";
/// How long after a restore a record that is made anew goes on with a trail that is there already, in milliseconds (90 days).
const CONTINUED_MILLIS: i64 = 90 * 86_400_000;

/// How a record's chain stands to its trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// It ends where the trail ends.
    Whole,
    /// The trail goes on behind it, to here: the record is older.
    Behind(ChainEnd),
    /// The trail is another one, is broken, or ends before the record does: nothing can be anchored to it.
    Unfit(Problem),
}

/// Compares where a record says that its chain ends with its trail. Pure.
pub fn compare(document: &str, known: &ChainEnd, entries: &[AuditEntry]) -> Chain {
    let end = match verify_chain(entries) {
        Ok(end) => end,
        Err(problem) => return Chain::Unfit(problem),
    };
    if end == *known {
        return Chain::Whole;
    }
    let passed = known.sequence == 0
        || entries
            .iter()
            .any(|entry| entry.sequence == known.sequence && entry.hash == known.hash);
    if passed && end.sequence > known.sequence {
        return Chain::Behind(end);
    }
    Chain::Unfit(
        Problem::new(
            "AUDIT_TRAIL_BEHIND",
            "Restore both tables to one second: what is missing in the trail cannot be made up.",
        )
        .field(document)
        .expected(format!("entry {} with hash {}", known.sequence, known.hash))
        .actual(format!("{} entries ending with {}", end.sequence, end.hash)),
    )
}

/// That a person has anchored this register to its trail, with its own chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Restored {
    /// When last.
    at: Timestamp,
    #[serde(default)]
    chain: ChainEnd,
}

/// One step, for the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
enum Step {
    Anchoring {
        documents: u64,
        instruction: Instruction,
    },
}

/// Where it is kept.
pub fn key() -> RecordKey {
    RecordKey::Watermark("restored".to_owned())
}

impl Document for Restored {
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

fn stored(saved: Result<(), CommitError>) -> Result<(), FlowError> {
    match saved {
        Ok(()) => Ok(()),
        Err(CommitError::Conflict) => Err(FlowError::Contended),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

/// Writes down who has so many documents anchored, and why; first, so that what follows is never without its reason. From here
/// on a record that is made anew goes on with the trail it finds.
///
/// # Errors
/// No answer from the register, or somebody else began the same in this moment.
pub async fn begin(
    context: &Context<'_>,
    documents: u64,
    instruction: &Instruction,
) -> Result<(), FlowError> {
    let known = load::<Restored>(context.register, key()).await?;
    let Loaded {
        mut document,
        revision,
    } = known.unwrap_or_else(|| Loaded {
        document: Restored::default(),
        revision: 0,
    });
    // This record, too, is as old as the register.
    let trail = context.register.audit(AUDIT_NAME).await?;
    if let Chain::Behind(end) = compare(AUDIT_NAME, &document.chain, &trail) {
        document.chain = end;
    }
    document.at = context.clock.now();
    let change = Change {
        document,
        events: vec![Step::Anchoring {
            documents,
            instruction: instruction.clone(),
        }],
        writes: vec![],
    };
    stored(save(context, revision, change).await.map(|_| ()))
}

/// Lets an invoice go on where its trail ends. It is decided again as it stands.
///
/// # Errors
/// No answer from the register, or somebody else wrote the record in this moment: look again.
pub async fn anchor_invoice(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: &Instruction,
) -> Result<bool, FlowError> {
    let known = load::<InvoiceRecord>(context.register, RecordKey::Invoice(id)).await?;
    let now = context.clock.now();
    let Loaded { document, revision } = known.unwrap_or_else(|| Loaded {
        document: InvoiceRecord::new(id, now),
        revision: 0,
    });
    let name = invoice_audit_name(id);
    let entries = context.register.audit(&name).await?;
    let Chain::Behind(end) = compare(&name, &document.chain, &entries) else {
        return Ok(false);
    };
    let event = Event::Restored {
        state: Box::new(document.state.clone()),
        instruction: instruction.clone(),
    };
    let mut after = document.after(&event, now).map_err(impossible)?;
    after.chain = end;
    let change = Change {
        document: after,
        events: vec![event],
        writes: vec![],
    };
    stored(save(context, revision, change).await.map(|_| ()))?;
    Ok(true)
}

/// Lets any other document go on where its trail ends.
///
/// # Errors
/// See [`anchor_invoice`].
pub async fn anchor<D: Document>(context: &Context<'_>, key: RecordKey) -> Result<bool, FlowError> {
    let Some(loaded) = load::<D>(context.register, key).await? else {
        return Ok(false);
    };
    let mut document = loaded.document;
    let name = document.audit_name();
    let entries = context.register.audit(&name).await?;
    let Chain::Behind(end) = compare(&name, document.chain(), &entries) else {
        return Ok(false);
    };
    *document.chain() = end;
    let change = Change::<D, Step> {
        document,
        events: vec![],
        writes: vec![],
    };
    stored(save(context, loaded.revision, change).await.map(|_| ()))?;
    Ok(true)
}

/// Lets the document of this key, which is no invoice, go on where its trail ends.
///
/// # Errors
/// A key that no document with a trail has; see [`anchor_invoice`].
pub async fn anchor_other(context: &Context<'_>, at: &RecordKey) -> Result<bool, FlowError> {
    let own = at.clone();
    let collection = match at {
        // Whoever has begun to anchor has let it go on already.
        _ if *at == key() => return Ok(true),
        _ if *at == owner::key() => return anchor::<Ownership>(context, own).await,
        _ if *at == opening::key() => return anchor::<Openings>(context, own).await,
        _ if *at == connection_settings::key() => return anchor::<ConnectionSettings>(context, own).await,
        _ if month_end::is_key(at) => return anchor::<MonthEnd>(context, own).await,
        RecordKey::Entry { collection, .. } => collection,
        _ => {
            let flow = Flow::ALL.into_iter().find(|flow| flow.key() == *at);
            return match flow {
                Some(flow) => pause::anchor(context, flow).await,
                None => Err(without_trail(at)),
            };
        }
    };
    match collection {
        Collection::Bill => anchor::<BillPayments>(context, own).await,
        Collection::UnmatchedPayment => anchor::<UnmatchedPayments>(context, own).await,
        Collection::Supplier => anchor::<SupplierRecord>(context, own).await,
        Collection::LookupValue => anchor::<LookupValueRecord>(context, own).await,
        Collection::LookupPlan | Collection::SupplierPlan => anchor::<PlanRecord>(context, own).await,
        Collection::AwaitedSupplier => Err(without_trail(at)),
    }
}

fn without_trail(at: &RecordKey) -> FlowError {
    let fix = "Report it: it has a trail, and this version cannot let it go on.";
    FlowError::Broken(Problem::new("RESTORE_IMPOSSIBLE", fix).field(format!("{at:?}")))
}

/// A record that is made anew although it has a trail: in a register that a person has anchored it goes on with that. `None`
/// when that is not why nothing was written.
pub(crate) async fn continued<D: Document>(
    context: &Context<'_>,
    commit: &Commit,
    document: &D,
) -> Result<Option<(Commit, D)>, FlowError> {
    let found = context.register.read(&[key(), document.key()]).await?;
    let [Some(restored), None] = found.as_slice() else {
        return Ok(None);
    };
    let until = parse::<Restored>(restored)?.at.plus_millis(CONTINUED_MILLIS);
    let ([entry], true) = (commit.audit.as_slice(), context.clock.now() < until) else {
        return Ok(None);
    };
    let entries = context.register.audit(&entry.document).await?;
    let Chain::Behind(end) = compare(&entry.document, &ChainEnd::default(), &entries) else {
        return Ok(None);
    };
    let mut document = document.clone();
    let entry = next_entry(&entry.document, &end, entry.at, entry.events.clone());
    *document.chain() = entry.end();
    let mut writes = commit.writes.clone();
    for write in &mut writes {
        if let RecordWrite::Put { key, body, .. } = write
            && *key == document.key()
        {
            *body = render(&document)?;
        }
    }
    let commit = Commit {
        token: context.chance.token(),
        writes,
        audit: vec![entry],
    };
    Ok(Some((commit, document)))
}

#[cfg(test)]
mod tests;
