//! The ledgers of payments: where they are kept, and how a reading from QAD gets into them.
//!
//! A bill's ledger belongs to the Coupa invoice that owns the QAD identity. Payments of an identity that nobody owns are
//! kept beside it; the transaction that claims the identity makes them due, and neither can miss the other, because each
//! checks in its own transaction that the other has not happened.

use crate::match_invoice::{IdentityClaim, identity_key};
use crate::ports::{Collection, CommitError, RecordKey, RecordWrite, StoredRecord};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, parse, save};
use domain::guards::{Guard, stands};
use domain::ids::{InvoiceId, QadInvoiceIdentity};
use domain::lifecycle::{ChainEnd, InvoiceRecord};
use domain::payments::{Allocation, BillPayments, PaymentEvent, UnmatchedPayments};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;

/// Most allocations of one bill; a record must stay far below the item limit.
pub const ALLOCATIONS_PER_BILL_MAX: usize = 400;
/// How often a reading is written again because somebody else changed the record in between.
const TRIES_MAX: u32 = 5;

/// Where a bill's payments are kept.
pub fn bill_key(invoice: InvoiceId) -> RecordKey {
    RecordKey::Entry {
        collection: Collection::Bill,
        id: invoice.to_string(),
    }
}

/// Where the payments of an identity are kept while nobody owns it.
pub fn unmatched_key(identity: &QadInvoiceIdentity) -> RecordKey {
    let id = match identity_key(identity) {
        RecordKey::Effect(text) => text,
        other => format!("{other:?}"),
    };
    RecordKey::Entry {
        collection: Collection::UnmatchedPayment,
        id,
    }
}

impl Document for BillPayments {
    fn key(&self) -> RecordKey {
        bill_key(self.invoice)
    }
    fn audit_name(&self) -> String {
        format!("payments/{}", self.invoice)
    }
    fn state_word(&self) -> &'static str {
        self.word()
    }
    fn due(&self, timing: &Timing) -> Option<Timestamp> {
        BillPayments::due(self, timing)
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

impl Document for UnmatchedPayments {
    fn key(&self) -> RecordKey {
        unmatched_key(&self.invoice)
    }
    fn audit_name(&self) -> String {
        format!("unmatched-payments/{}", self.invoice)
    }
    fn state_word(&self) -> &'static str {
        "unmatched"
    }
    /// Nothing to do for it until an invoice claims the identity; that transaction makes it due.
    fn due(&self, _: &Timing) -> Option<Timestamp> {
        None
    }
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

/// What a reading did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// The ledger of this invoice has changed.
    InBill(InvoiceId),
    /// It is kept until somebody owns the identity.
    Unmatched,
    /// It was known.
    Nothing,
    /// A later run has taken over; what this one read may be older.
    Overtaken,
}

/// A poller's right to record: its watermark at the revision that its own claim has made. What a poller read before a
/// later one claimed may be older than what that one records, so every recording checks it.
#[derive(Debug, Clone)]
pub struct Right {
    /// The watermark.
    pub key: RecordKey,
    /// Its revision.
    pub revision: u64,
}

impl Right {
    /// Empty only in a test that takes the guard away.
    fn check(&self) -> Vec<RecordWrite> {
        let check = RecordWrite::Check {
            key: self.key.clone(),
            seen: self.revision,
        };
        if stands(Guard::PollersRight) {
            vec![check]
        } else {
            Vec::new()
        }
    }
}

/// Records what QAD shows of one identity, with whoever owns it.
pub async fn record(
    context: &Context<'_>,
    right: &Right,
    identity: &QadInvoiceIdentity,
    readings: &[Allocation],
) -> Result<Recorded, FlowError> {
    let claim_key = identity_key(identity);
    for attempt in 0..TRIES_MAX {
        let found = context
            .register
            .read(&[claim_key.clone(), right.key.clone()])
            .await?;
        let mut found = found.into_iter();
        let claim = found.next().flatten();
        let watermark = found.next().flatten();
        if watermark.map_or(0, |stored| stored.revision) != right.revision && stands(Guard::PollersRight) {
            return Ok(Recorded::Overtaken);
        }
        let tried = match claim {
            Some(stored) => {
                let owner = parse::<IdentityClaim>(&stored)?.owner;
                into_bill(context, right, owner, readings).await
            }
            None => into_unmatched(context, right, &claim_key, identity, readings).await,
        };
        match tried {
            Ok(recorded) => return Ok(recorded),
            Err(Tried::Failed(error)) => return Err(error),
            Err(Tried::Conflict) => context.pause(attempt).await,
        }
    }
    Err(FlowError::Contended)
}

enum Tried {
    Conflict,
    Failed(FlowError),
}

impl From<FlowError> for Tried {
    fn from(error: FlowError) -> Self {
        Self::Failed(error)
    }
}

impl From<CommitError> for Tried {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Conflict,
            CommitError::Store(error) => Self::Failed(FlowError::Store(error)),
        }
    }
}

async fn into_bill(
    context: &Context<'_>,
    right: &Right,
    owner: InvoiceId,
    readings: &[Allocation],
) -> Result<Recorded, Tried> {
    let loaded = bill_of(context, owner).await?;
    let Some(change) = with_readings(&loaded.document, readings, context.clock.now())? else {
        return Ok(Recorded::Nothing);
    };
    let writes = right.check();
    save(context, loaded.revision, Change { writes, ..change }).await?;
    Ok(Recorded::InBill(owner))
}

async fn into_unmatched(
    context: &Context<'_>,
    right: &Right,
    claim_key: &RecordKey,
    identity: &QadInvoiceIdentity,
    readings: &[Allocation],
) -> Result<Recorded, Tried> {
    let loaded = load::<UnmatchedPayments>(context.register, unmatched_key(identity))
        .await?
        .unwrap_or_else(|| Loaded {
            document: UnmatchedPayments::new(identity.clone()),
            revision: 0,
        });
    let mut document = loaded.document;
    let mut events = Vec::new();
    for reading in readings {
        if let Some(next) = document.reading(reading.clone()) {
            document = next;
            events.push(PaymentEvent::Read {
                allocation: reading.clone(),
            });
        }
    }
    if events.is_empty() {
        return Ok(Recorded::Nothing);
    }
    bounded(document.allocations.len(), &identity.to_string())?;
    let unowned = RecordWrite::Check {
        key: claim_key.clone(),
        seen: 0,
    };
    let mut change = Change {
        document,
        events,
        writes: right.check(),
    };
    change.writes.push(unowned);
    save(context, loaded.revision, change).await?;
    Ok(Recorded::Unmatched)
}

/// The bill's ledger, or a new one with the total and currency that the invoice was matched with.
async fn bill_of(context: &Context<'_>, invoice: InvoiceId) -> Result<Loaded<BillPayments>, FlowError> {
    if let Some(loaded) = load::<BillPayments>(context.register, bill_key(invoice)).await? {
        return Ok(loaded);
    }
    let record = load::<InvoiceRecord>(context.register, RecordKey::Invoice(invoice)).await?;
    let summary = record.and_then(|loaded| loaded.document.summary);
    let Some(summary) = summary else {
        return Err(FlowError::Broken(
            Problem::new(
                "BILL_WITHOUT_INVOICE",
                "Read the invoice anew: qad-coupa recheck.",
            )
            .field(format!("Coupa invoice {invoice}"))
            .expected("a record with total and currency, as it owns a QAD identity"),
        ));
    };
    Ok(Loaded {
        document: BillPayments::new(invoice, summary.total, summary.currency),
        revision: 0,
    })
}

/// The bill with these readings, due now; `None` when all of them are known.
fn with_readings(
    bill: &BillPayments,
    readings: &[Allocation],
    now: Timestamp,
) -> Result<Option<Change<BillPayments, PaymentEvent>>, FlowError> {
    let mut document = bill.clone();
    let mut events = Vec::new();
    for reading in readings {
        if let Some(next) = document.reading(reading.clone()) {
            document = next;
            events.push(PaymentEvent::Read {
                allocation: reading.clone(),
            });
        }
    }
    if events.is_empty() {
        return Ok(None);
    }
    bounded(
        document.allocations.len(),
        &format!("Coupa invoice {}", bill.invoice),
    )?;
    document.parked = None;
    document.setbacks = 0;
    document.look_again = Some(now);
    Ok(Some(Change {
        document,
        events,
        writes: vec![],
    }))
}

fn bounded(allocations: usize, whose: &str) -> Result<(), FlowError> {
    if allocations <= ALLOCATIONS_PER_BILL_MAX {
        return Ok(());
    }
    let problem = Problem::new(
        "TOO_MANY_PAYMENTS",
        "Enter this bill's payments in Coupa by hand.",
    )
    .field(whose)
    .expected(format!("at most {ALLOCATIONS_PER_BILL_MAX} allocations"))
    .actual(allocations.to_string());
    Err(FlowError::Broken(problem))
}

/// Moves payments that waited without an owner to the bill of the invoice that has claimed their identity since. The
/// answer is that invoice; `None` when there is nothing to move or still no owner.
///
/// Once an identity is claimed nobody writes its unmatched payments any more, so deleting them loses nothing; and a
/// reading that went straight to the bill is newer than the one that waited.
pub async fn link(context: &Context<'_>, key: &RecordKey) -> Result<Option<InvoiceId>, FlowError> {
    for attempt in 0..TRIES_MAX {
        let Some(unmatched) = load::<UnmatchedPayments>(context.register, key.clone()).await? else {
            return Ok(None);
        };
        let unmatched = unmatched.document;
        let claim = context
            .register
            .read(&[identity_key(&unmatched.invoice)])
            .await?
            .into_iter()
            .next()
            .flatten();
        let Some(claim) = claim else { return Ok(None) };
        let owner = parse::<IdentityClaim>(&claim)?.owner;
        let loaded = bill_of(context, owner).await?;
        let waited: Vec<Allocation> = unmatched
            .allocations
            .into_iter()
            .filter(|(key, _)| !loaded.document.allocations.contains_key(key))
            .map(|(_, allocation)| allocation)
            .collect();
        let mut change =
            with_readings(&loaded.document, &waited, context.clock.now())?.unwrap_or_else(|| Change {
                document: loaded.document.clone(),
                events: vec![],
                writes: vec![],
            });
        change.events.push(PaymentEvent::Linked { invoice: owner });
        change.writes.push(RecordWrite::Delete { key: key.clone() });
        match save(context, loaded.revision, change).await {
            Ok(_) => return Ok(Some(owner)),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FlowError::Contended)
}

/// What the transaction that claims an identity writes about the payments that wait for it: they become due, or it is
/// made sure that there are none.
pub fn claimed(identity: &QadInvoiceIdentity, waiting: Option<&StoredRecord>, now: Timestamp) -> RecordWrite {
    let key = unmatched_key(identity);
    match waiting {
        Some(stored) => RecordWrite::Put {
            key,
            seen: stored.revision,
            body: stored.body.clone(),
            state: "unmatched".to_owned(),
            due: Some(now),
        },
        None => RecordWrite::Check { key, seen: 0 },
    }
}
