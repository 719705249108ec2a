//! Takes into the index what an older version has written.

use super::entries;
use crate::ports::{
    Collection, Commit, CommitError, Index, IndexWrite, RecordKey, RecordWrite, Register, StoredRecord,
};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, parse, render, save};
use crate::sync_suppliers::QUARANTINE;
use domain::ids::InvoiceId;
use domain::lifecycle::InvoiceRecord;
use domain::payments::BillPayments;
use domain::problem::Problem;
use domain::suppliers::SupplierRecord;
use serde::{Deserialize, Serialize};

/// Records that a rebuilding run looks at between two notes of how far it is.
pub const REBUILD_STEP: usize = 200;
/// The collections with lists of their own, in the order in which they are taken in after the invoices.
const COLLECTIONS: [Collection; 2] = [Collection::Supplier, Collection::Bill];

/// Most records that are named because they could not be taken in; the others are counted.
const LEFT_OUT_MAX: usize = 50;

/// How far a rebuilding of the index has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Every invoice up to this one is in it.
    #[serde(default)]
    pub through: Option<InvoiceId>,
    /// All invoices are; and of which collection every member up to which one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<(Collection, String)>,
    /// All are: what is not found in the index is not there.
    #[serde(default)]
    pub complete: bool,
    /// See [`domain::index::INDEX_VERSION`].
    #[serde(default)]
    pub version: u32,
    /// Records that cannot be read and are not in it therefore; at most [`LEFT_OUT_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Problem>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out_others: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Rebuilt {
    /// One record that cannot be read keeps nobody else out of the index.
    fn or_left_out<T>(&mut self, read: Result<T, FlowError>) -> Result<Option<T>, FlowError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(FlowError::Broken(problem)) => {
                if self.left_out.len() < LEFT_OUT_MAX {
                    self.left_out.push(problem);
                } else {
                    self.left_out_others = self.left_out_others.saturating_add(1);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Where it is noted how far the index is.
pub fn progress_key() -> RecordKey {
    RecordKey::Watermark("index".to_owned())
}

/// How far the index of this register is.
///
/// # Errors
/// No answer from the register.
pub async fn progress(register: &dyn Register) -> Result<Rebuilt, FlowError> {
    Ok(progress_of(register).await?.0)
}

async fn progress_of(register: &dyn Register) -> Result<(Rebuilt, u64), FlowError> {
    let found = register.read(&[progress_key()]).await?;
    let stored = found.into_iter().next().flatten();
    let revision = stored.as_ref().map_or(0, |stored| stored.revision);
    Ok((progress_in(stored.as_ref())?, revision))
}

/// The same, of what lies at [`progress_key`].
///
/// # Errors
/// A record that this version cannot read.
pub fn progress_in(stored: Option<&StoredRecord>) -> Result<Rebuilt, FlowError> {
    let rebuilt: Rebuilt = stored.map(parse).transpose()?.unwrap_or_default();
    Ok(if rebuilt.version == domain::index::INDEX_VERSION {
        rebuilt
    } else {
        Rebuilt::default()
    })
}

/// Takes the next records into the index that an older version wrote, and notes how far it came. Repeated until
/// [`Rebuilt::complete`]; what is in the index already costs a read. Others may work meanwhile. A rebuilding that had to leave
/// records out is begun anew: they may have been mended.
///
/// # Errors
/// No answer from the register, or somebody else rebuilds at the same time.
pub async fn rebuild_step(context: &Context<'_>, index: &dyn Index) -> Result<Rebuilt, FlowError> {
    let (before, revision) = progress_of(context.register).await?;
    if before.complete && before.left_out.is_empty() {
        return Ok(before);
    }
    let mut after = Rebuilt {
        version: domain::index::INDEX_VERSION,
        ..if before.complete {
            Rebuilt::default()
        } else {
            before
        }
    };
    let mut left = REBUILD_STEP;
    while left > 0 && !after.complete {
        let looked_at = match after.entries.clone() {
            None => invoices(context, &mut after, left).await?,
            Some((collection, through)) => {
                members(context, index, &mut after, (collection, &through), left).await?
            }
        };
        left = left.saturating_sub(looked_at);
    }
    let commit = Commit {
        token: context.chance.token(),
        writes: vec![RecordWrite::Put {
            key: progress_key(),
            seen: revision,
            body: render(&after)?,
            state: String::new(),
            due: None,
        }],
        audit: vec![],
    };
    written(context.register.commit(commit).await)?;
    Ok(after)
}

fn written(answer: Result<(), CommitError>) -> Result<(), FlowError> {
    answer.map_err(|error| match error {
        CommitError::Conflict => FlowError::Contended,
        CommitError::Store(error) => FlowError::Store(error),
    })
}

async fn invoices(context: &Context<'_>, so_far: &mut Rebuilt, most: usize) -> Result<usize, FlowError> {
    let stored = context.register.invoices(so_far.through, most).await?;
    for one in &stored {
        let RecordKey::Invoice(id) = one.key else {
            continue;
        };
        so_far.through = Some(id);
        so_far.or_left_out(take_in::<InvoiceRecord>(context, one).await)?;
    }
    if stored.len() < most {
        so_far.entries = COLLECTIONS.first().map(|first| (*first, String::new()));
    }
    Ok(stored.len())
}

async fn members(
    context: &Context<'_>,
    index: &dyn Index,
    so_far: &mut Rebuilt,
    (collection, through): (Collection, &str),
    most: usize,
) -> Result<usize, FlowError> {
    let beyond = (!through.is_empty()).then_some(through);
    let stored = index.members(collection, beyond, most).await?;
    for one in &stored {
        let RecordKey::Entry { id, .. } = &one.key else {
            continue;
        };
        let taken_in = match collection {
            Collection::Supplier if id.starts_with(QUARANTINE) => take_aside_in(context, id, one).await,
            Collection::Supplier => take_in::<SupplierRecord>(context, one).await,
            _ => take_in::<BillPayments>(context, one).await,
        };
        so_far.or_left_out(taken_in)?;
        so_far.entries = Some((collection, id.clone()));
    }
    if stored.len() < most {
        let next = COLLECTIONS
            .iter()
            .skip_while(|known| **known != collection)
            .nth(1);
        so_far.complete = next.is_none();
        so_far.entries = next.map(|next| (*next, String::new()));
    }
    Ok(stored.len())
}

/// A supplier that cannot be read has a row and no record that could remember it: the row is written as it was when it was put
/// aside.
async fn take_aside_in(context: &Context<'_>, id: &str, stored: &StoredRecord) -> Result<(), FlowError> {
    let body = stored.body.clone().map_err(FlowError::Broken)?;
    let commit = Commit {
        token: context.chance.token(),
        writes: vec![
            RecordWrite::Check {
                key: stored.key.clone(),
                seen: stored.revision,
            },
            RecordWrite::Index(IndexWrite::Put {
                list: entries::QUARANTINED_LIST.to_owned(),
                id: id.to_owned(),
                body,
            }),
        ],
        audit: vec![],
    };
    match context.register.commit(commit).await {
        // It is put aside no longer, or anew: whoever did that has seen to the row.
        Err(CommitError::Conflict) => Ok(()),
        answer => written(answer),
    }
}

/// Tries of one record that others keep changing: whoever changes it takes it into the index too.
const TAKE_IN_TRIES_MAX: u32 = 3;

async fn take_in<D: Document>(context: &Context<'_>, found: &StoredRecord) -> Result<(), FlowError> {
    let mut probe: D = parse(found)?;
    if probe.follow(context.clock.now())?.is_empty() {
        return Ok(());
    }
    for _ in 0..TAKE_IN_TRIES_MAX {
        let Some(Loaded { document, revision }) = load::<D>(context.register, found.key.clone()).await?
        else {
            return Ok(());
        };
        let mut probe = document.clone();
        if probe.follow(context.clock.now())?.is_empty() {
            return Ok(());
        }
        let change = Change::<D, ()> {
            document,
            events: vec![],
            writes: vec![],
        };
        match save(context, revision, change).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict) => {}
            Err(CommitError::Store(error)) => return Err(FlowError::Store(error)),
        }
    }
    Err(FlowError::Contended)
}
