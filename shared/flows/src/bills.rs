//! The ledgers of payments: where they are kept, and how a reading from QAD gets into them.
//!
//! A bill's ledger belongs to the Coupa invoice that owns the QAD identity. Payments of an identity that nobody owns are
//! kept beside it; the transaction that claims the identity makes them due, and neither can miss the other, because each
//! checks in its own transaction that the other has not happened.

use crate::claims::{ClaimPlace, IdentityClaim, claim_keys, identity_key};
use crate::index::entries;
use crate::invoice_effects::draft_of;
use crate::ports::{Collection, CommitError, RecordKey, RecordWrite, StoredRecord};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, parse, render, save};
use domain::guards::{Guard, stands};
use domain::ids::{InvoiceId, QadInvoiceIdentity, fold};
use domain::lifecycle::{ChainEnd, InvoiceRecord, State};
use domain::money::Currency;
use domain::payments::{
    Allocation, BillPayments, InvoiceBalance, PaymentEvent, PaymentKey, PaymentPolicy, QadVoucher,
    UnmatchedPayments, Written, payment_ambiguous,
};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most allocations of one bill; a record must stay far below the item limit.
pub const ALLOCATIONS_PER_BILL_MAX: usize = 400;
/// Most readings that are recorded in one transaction, each with where it belongs; a transaction takes 100 records.
const READINGS_PER_TRANSACTION_MAX: usize = 80;
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
    fn follow(&mut self, _: Timestamp) -> Result<Vec<RecordWrite>, FlowError> {
        Ok(entries::follow_bill(self))
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
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
}

/// Which supplier invoice an allocation pays, as last recorded: QAD may move it to another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    invoice: QadInvoiceIdentity,
}

/// Where it is kept which supplier invoice an allocation pays.
fn place_key(key: &PaymentKey) -> RecordKey {
    RecordKey::Effect(format!("payment-place/{key}"))
}

/// What QAD shows of one supplier invoice in one poll.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Its identity.
    pub identity: &'a QadInvoiceIdentity,
    /// Allocations of payments.
    pub readings: &'a [Allocation],
    /// What is owed of it, as read after the allocations: of each document of this identity.
    pub balances: &'a [InvoiceBalance],
    /// What is owed of the supplier invoices that these allocations have left, as read after them.
    pub left: &'a [InvoiceBalance],
    /// Which status means what.
    pub policy: &'a PaymentPolicy,
}

/// What a recording did: with the readings, and to the bills that an allocation has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Allocations that pay another document of the same identity than our invoice: recorded nowhere, a person's.
    pub ambiguous: Vec<(PaymentKey, Problem)>,
    /// With the readings.
    pub recorded: Recorded,
    /// The Coupa invoices whose bills an allocation has left.
    pub left: BTreeSet<InvoiceId>,
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

/// Records what QAD shows of one identity, with whoever owns it. An allocation that paid another supplier invoice before
/// leaves that one's bill first: dying in between leaves it unrecorded, and it is read again.
pub async fn record(context: &Context<'_>, right: &Right, shown: &Shown<'_>) -> Result<Recording, FlowError> {
    let mut recording = Recording {
        recorded: Recorded::Nothing,
        left: BTreeSet::new(),
        ambiguous: Vec::new(),
    };
    let mut chunks: Vec<&[Allocation]> = shown.readings.chunks(READINGS_PER_TRANSACTION_MAX).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let last = chunks.len().saturating_sub(1);
    for (index, readings) in chunks.into_iter().enumerate() {
        // A balance is told after all of the allocations that were read before it.
        let balances = if index == last { shown.balances } else { &[] };
        let some = Shown {
            readings,
            balances,
            ..*shown
        };
        match record_some(context, right, &some, &mut recording).await? {
            Recorded::Nothing => {}
            Recorded::Overtaken => {
                recording.recorded = Recorded::Overtaken;
                break;
            }
            recorded => recording.recorded = recorded,
        }
    }
    Ok(recording)
}

async fn record_some(
    context: &Context<'_>,
    right: &Right,
    shown: &Shown<'_>,
    recording: &mut Recording,
) -> Result<Recorded, FlowError> {
    let (identity, readings) = (shown.identity, shown.readings);
    let mut keys = claim_keys(identity);
    keys.push(right.key.clone());
    keys.extend(readings.iter().map(|reading| place_key(&reading.key)));
    for attempt in 0..TRIES_MAX {
        let found = context.register.read(&keys).await?;
        let mut found = found.into_iter();
        let (place, claim) = ClaimPlace::among(identity, &mut found);
        let watermark = found.next().flatten();
        if watermark.map_or(0, |stored| stored.revision) != right.revision && stands(Guard::PollersRight) {
            return Ok(Recorded::Overtaken);
        }
        let (places, moved) = places(identity, readings, found)?;
        let unowned = place.check();
        let tried = async {
            for (from, reading) in moved {
                recording
                    .left
                    .extend(leave(context, right, &from, reading, shown).await?);
            }
            match owner_by(context, claim.as_ref(), identity).await? {
                Some(owner) => {
                    let (ours, others) = of_document(shown, owner.voucher);
                    for other in others {
                        let told = (
                            other.key.clone(),
                            payment_ambiguous(owner.invoice, other, owner.voucher),
                        );
                        if !recording.ambiguous.contains(&told) {
                            recording.ambiguous.push(told);
                        }
                    }
                    into_bill(context, right, &owner, shown, &ours, places).await
                }
                None => into_unmatched(context, right, unowned, shown, places).await,
            }
        };
        match tried.await {
            Ok(recorded) => return Ok(recorded),
            Err(Tried::Failed(error)) => return Err(error),
            Err(Tried::Conflict) => context.pause(attempt).await,
        }
    }
    Err(FlowError::Contended)
}

/// The places to be written with these readings, and what has moved here from which other supplier invoice.
#[expect(clippy::type_complexity, reason = "two lists that are made in one pass")]
fn places<'r>(
    identity: &QadInvoiceIdentity,
    readings: &'r [Allocation],
    found: impl Iterator<Item = Option<StoredRecord>>,
) -> Result<(Vec<RecordWrite>, Vec<(QadInvoiceIdentity, &'r Allocation)>), FlowError> {
    let mut places = Vec::new();
    let mut moved = Vec::new();
    for (reading, stored) in readings.iter().zip(found) {
        let seen = stored.as_ref().map_or(0, |stored| stored.revision);
        let known = stored.as_ref().map(parse::<Place>).transpose()?;
        match known {
            Some(place) if identity_key(&place.invoice) == identity_key(identity) => continue,
            Some(place) => moved.push((place.invoice, reading)),
            None => {}
        }
        places.push(RecordWrite::Put {
            key: place_key(&reading.key),
            seen,
            body: render(&Place {
                invoice: identity.clone(),
            })?,
            state: String::new(),
            due: None,
        });
    }
    Ok((places, moved))
}

/// The supplier invoices that some of these allocations have paid before and now pay no more.
pub async fn left_by(
    context: &Context<'_>,
    identity: &QadInvoiceIdentity,
    readings: &[Allocation],
) -> Result<Vec<QadInvoiceIdentity>, FlowError> {
    let mut left: BTreeMap<RecordKey, QadInvoiceIdentity> = BTreeMap::new();
    for some in readings.chunks(READINGS_PER_TRANSACTION_MAX) {
        let keys: Vec<RecordKey> = some.iter().map(|reading| place_key(&reading.key)).collect();
        let found = context.register.read(&keys).await?;
        let (_, moved) = places(identity, some, found.into_iter())?;
        left.extend(moved.into_iter().map(|(from, _)| (identity_key(&from), from)));
    }
    Ok(left.into_values().collect())
}

/// Takes an allocation out of the supplier invoice that it paid before, wherever it is kept: in the bill of the invoice
/// that has claimed the identity, and among what waits for an owner. The answer is that invoice.
async fn leave(
    context: &Context<'_>,
    right: &Right,
    from: &QadInvoiceIdentity,
    moved: &Allocation,
    shown: &Shown<'_>,
) -> Result<Option<InvoiceId>, Tried> {
    let owed: Vec<InvoiceBalance> = shown
        .left
        .iter()
        .filter(|one| identity_key(&one.invoice) == identity_key(from))
        .cloned()
        .collect();
    let found = context.register.read(&claim_keys(from)).await;
    let (place, claim) = ClaimPlace::among(from, &mut found.map_err(FlowError::from)?.into_iter());
    let event = || PaymentEvent::Moved {
        key: moved.key.clone(),
        to: moved.invoice.clone(),
    };
    let mut left = None;
    let owner = owner_by(context, claim.as_ref(), from).await?;
    if let Some(claim) = &claim {
        let claimant = parse::<IdentityClaim>(claim)?.owner;
        let bill = load::<BillPayments>(context.register, bill_key(claimant)).await?;
        // Of a voided invoice only what is in its bill already; an owner may get it later, from what waits for one.
        let bill = match (bill, &owner) {
            (Some(bill), Some(_)) => Some(bill),
            (Some(bill), None) if bill.document.allocations.contains_key(&moved.key) => Some(bill),
            (None, Some(owner)) => Some(bill_of(context, owner).await?),
            (_, None) => None,
        };
        if let Some(bill) = bill
            && let Some(mut document) = bill.document.without(moved, from)
        {
            let mut events = vec![event()];
            // What was owed before the allocation left is not what is owed now.
            if let Some(balance) = balance_of(&owed, owner.as_ref().and_then(|owner| owner.voucher))
                && let Some(next) = document.balance_reading(balance, shown.policy)
            {
                document = next;
                events.push(PaymentEvent::Balance {
                    balance: balance.clone(),
                });
            }
            document.parked = None;
            document.coupa_read &= document.left_alone.take().is_none();
            document.setbacks = 0;
            document.look_again = Some(context.clock.now());
            let change = Change {
                document,
                events,
                writes: right.check(),
            };
            save(context, bill.revision, change).await?;
            left = Some(claimant);
        }
    }
    let waiting = load::<UnmatchedPayments>(context.register, unmatched_key(from)).await?;
    if owner.is_none()
        && let Some(mut waiting) = waiting
        && waiting.document.allocations.remove(&moved.key).is_some()
    {
        waiting.document.qad = balance_of(&owed, None).cloned();
        let mut writes = right.check();
        writes.push(place.check());
        let change = Change {
            document: waiting.document,
            events: vec![event()],
            writes,
        };
        save(context, waiting.revision, change).await?;
    }
    Ok(left)
}

/// The invoice that owns an identity.
struct Owner {
    invoice: InvoiceId,
    /// The revision of its record.
    revision: u64,
    /// Its number in QAD, once it is there.
    voucher: Option<QadVoucher>,
    /// What is owed of it, and in which currency.
    owed: Option<(Decimal, Currency)>,
}

/// The invoice that owns an identity. One that has claimed it and was voided since, or now bears another reference, owns
/// nothing any more: its claim only waits for the next one.
async fn owner_by(
    context: &Context<'_>,
    claim: Option<&StoredRecord>,
    identity: &QadInvoiceIdentity,
) -> Result<Option<Owner>, FlowError> {
    let Some(claim) = claim else { return Ok(None) };
    let owner = parse::<IdentityClaim>(claim)?.owner;
    let record = load::<InvoiceRecord>(context.register, RecordKey::Invoice(owner)).await?;
    Ok(record
        .filter(|loaded| owns(&loaded.document, identity))
        .map(|loaded| Owner {
            invoice: owner,
            revision: loaded.revision,
            voucher: number_of(&loaded.document),
            owed: owed_of(&loaded.document),
        }))
}

/// What is owed of an invoice: what its document in QAD is over, once there is one; until then what Coupa says. A record of an
/// earlier version does not have QAD's figure: what was sent is nearer to it than what Coupa says, for it is rounded.
pub fn owed_of(record: &InvoiceRecord) -> Option<(Decimal, Currency)> {
    let summary = record.summary.as_ref()?;
    let sent = || {
        let creation = record.creation.as_ref()?;
        draft_of(creation).ok().map(|draft| draft.total)
    };
    let in_qad = record
        .state
        .voucher()
        .and_then(|_| record.posted_total.or_else(sent));
    Some((in_qad.unwrap_or(summary.total), summary.currency))
}

/// QAD's number of an invoice, once it is there.
pub fn number_of(record: &InvoiceRecord) -> Option<QadVoucher> {
    record.state.voucher().map(|voucher| QadVoucher {
        year: voucher.year,
        number: voucher.number,
    })
}

/// Whether what QAD numbers so can be the document that has this number; what is not numbered on one side can.
fn is_of(shown: Option<QadVoucher>, ours: Option<QadVoucher>) -> bool {
    shown.zip(ours).is_none_or(|(shown, ours)| shown == ours)
}

/// The readings that pay our document, and those that may pay another one of the same identity: QAD tells two bills of one
/// number apart by posting year and voucher. A payment that shows neither is ours only while QAD shows no second bill.
fn of_document<'a>(shown: &Shown<'a>, ours: Option<QadVoucher>) -> (Vec<Allocation>, Vec<&'a Allocation>) {
    let is_alone = shown.balances.iter().all(|one| is_of(one.voucher, ours)) && !are_several(shown.balances);
    let (ours, others): (Vec<&Allocation>, Vec<&Allocation>) =
        shown
            .readings
            .iter()
            .partition(|reading| match (reading.voucher, ours) {
                (Some(shown), Some(ours)) => shown == ours,
                // Not posted yet: the flow that writes asks again once it has a number.
                (Some(_), None) => true,
                (None, _) => is_alone,
            });
    (ours.into_iter().cloned().collect(), others)
}

/// True when QAD shows more than one document of an identity.
fn are_several(balances: &[InvoiceBalance]) -> bool {
    balances.len() > 1
}

/// The one balance that is our document's, where QAD says anything of it. None when there are several and QAD does not
/// number them as it numbered ours.
fn balance_of(balances: &[InvoiceBalance], ours: Option<QadVoucher>) -> Option<&InvoiceBalance> {
    let is_it = |one: &&InvoiceBalance| match (are_several(balances), ours) {
        (true, None) => false,
        (true, Some(ours)) => one.voucher == Some(ours),
        (false, ours) => is_of(one.voucher, ours),
    };
    balances
        .iter()
        .find(is_it)
        .filter(|one| one.is_closed().is_some())
}

fn owns(record: &InvoiceRecord, identity: &QadInvoiceIdentity) -> bool {
    let bears = record.summary.as_ref().is_some_and(|summary| {
        summary.kind == identity.kind
            && summary.reference.folded() == identity.reference.folded()
            && summary
                .supplier_number
                .as_deref()
                .is_some_and(|number| fold(number) == identity.supplier.folded())
    });
    bears && !matches!(record.state, State::Voided { .. })
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
    owner: &Owner,
    shown: &Shown<'_>,
    ours: &[Allocation],
    places: Vec<RecordWrite>,
) -> Result<Recorded, Tried> {
    if ours.is_empty() && shown.balances.is_empty() {
        return Ok(Recorded::Nothing);
    }
    let loaded = bill_of(context, owner).await?;
    let balance = balance_of(shown.balances, owner.voucher);
    let read = with_readings(&loaded.document, ours, balance, shown.policy, context.clock.now())?;
    let Some(change) = read else {
        return Ok(Recorded::Nothing);
    };
    let mut writes = right.check();
    let is_ours = |place: &RecordWrite| {
        ours.iter()
            .any(|reading| matches!(place, RecordWrite::Put { key, .. } if *key == place_key(&reading.key)))
    };
    writes.extend(places.into_iter().filter(is_ours));
    save(context, loaded.revision, Change { writes, ..change }).await?;
    Ok(Recorded::InBill(owner.invoice))
}

async fn into_unmatched(
    context: &Context<'_>,
    right: &Right,
    unowned: RecordWrite,
    shown: &Shown<'_>,
    places: Vec<RecordWrite>,
) -> Result<Recorded, Tried> {
    let (identity, readings) = (shown.identity, shown.readings);
    let known = load::<UnmatchedPayments>(context.register, unmatched_key(identity)).await?;
    // Of supplier invoices that are none of ours only those are kept that something was paid of.
    if known.is_none() && readings.is_empty() {
        return Ok(Recorded::Nothing);
    }
    let loaded = known.unwrap_or_else(|| Loaded {
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
    let balance = balance_of(shown.balances, None);
    if !events.is_empty() && balance.is_none() {
        // Older than the payments.
        document.qad = None;
    }
    if let Some(balance) = balance
        && document.qad.as_ref() != Some(balance)
    {
        document.qad = Some(balance.clone());
        events.push(PaymentEvent::Balance {
            balance: balance.clone(),
        });
    }
    if events.is_empty() {
        return Ok(Recorded::Nothing);
    }
    bounded(document.allocations.len(), &identity.to_string())?;
    let mut change = Change {
        document,
        events,
        writes: right.check(),
    };
    change.writes.push(unowned);
    change.writes.extend(places);
    save(context, loaded.revision, change).await?;
    Ok(Recorded::Unmatched)
}

/// The bill's ledger, or a new one, over what is owed.
async fn bill_of(context: &Context<'_>, owner: &Owner) -> Result<Loaded<BillPayments>, FlowError> {
    let invoice = owner.invoice;
    let known = load::<BillPayments>(context.register, bill_key(invoice)).await?;
    let Some((total, currency)) = owner.owed else {
        return known.ok_or_else(|| {
            FlowError::Broken(
                Problem::new("BILL_WITHOUT_INVOICE", "Have the invoice read anew.")
                    .field(format!("Coupa invoice {invoice}"))
                    .expected("a record with total and currency, as it owns a QAD identity"),
            )
        });
    };
    Ok(match known {
        // It may have been made before the invoice was in QAD.
        Some(mut loaded) => {
            loaded.document.total = total;
            loaded
        }
        None => Loaded {
            document: BillPayments::new(invoice, total, currency),
            revision: 0,
        },
    })
}

/// The bill with these readings and what is owed after them, due now; `None` when all of them are known.
fn with_readings(
    bill: &BillPayments,
    readings: &[Allocation],
    balance: Option<&InvoiceBalance>,
    policy: &PaymentPolicy,
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
    if let Some(balance) = balance
        && let Some(next) = document.balance_reading(balance, policy)
    {
        document = next;
        events.push(PaymentEvent::Balance {
            balance: balance.clone(),
        });
    }
    if events.is_empty() {
        return Ok(None);
    }
    bounded(
        document.allocations.len(),
        &format!("Coupa invoice {}", bill.invoice),
    )?;
    document.parked = None;
    // Whose payments they are may have changed with them: that is asked again.
    document.coupa_read &= document.left_alone.take().is_none();
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
/// As long as its owner stands as it was read, nobody writes an identity's unmatched payments any more, so deleting them
/// loses nothing; and a reading that went straight to the bill is newer than the one that waited.
pub async fn link(
    context: &Context<'_>,
    key: &RecordKey,
    policy: &PaymentPolicy,
) -> Result<Option<InvoiceId>, FlowError> {
    for attempt in 0..TRIES_MAX {
        let Some(loaded) = load::<UnmatchedPayments>(context.register, key.clone()).await? else {
            return Ok(None);
        };
        let unmatched = loaded.document;
        let found = context.register.read(&claim_keys(&unmatched.invoice)).await?;
        let (place, claim) = ClaimPlace::among(&unmatched.invoice, &mut found.into_iter());
        let owner = owner_by(context, claim.as_ref(), &unmatched.invoice).await?;
        let Some(owner) = owner else {
            // Still nobody's: not due any more, until the next claim makes it so.
            let unowned = place.check();
            let change = Change::<_, PaymentEvent> {
                document: unmatched,
                events: vec![],
                writes: vec![unowned],
            };
            match save(context, loaded.revision, change).await {
                Ok(_) => return Ok(None),
                Err(CommitError::Conflict) => {
                    context.pause(attempt).await;
                    continue;
                }
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        };
        let loaded = bill_of(context, &owner).await?;
        let (owner, owner_revision) = (owner.invoice, owner.revision);
        let waited: Vec<Allocation> = unmatched
            .allocations
            .into_iter()
            .filter(|(key, _)| !loaded.document.allocations.contains_key(key))
            .map(|(_, allocation)| allocation)
            .collect();
        // What went straight to the bill is newer than what waited.
        let balance = loaded.document.qad.clone().or(unmatched.qad);
        let mut change = with_readings(
            &loaded.document,
            &waited,
            balance.as_ref(),
            policy,
            context.clock.now(),
        )?
        .unwrap_or_else(|| Change {
            document: loaded.document.clone(),
            events: vec![],
            writes: vec![],
        });
        change.events.push(PaymentEvent::Linked { invoice: owner });
        change.writes.push(RecordWrite::Delete { key: key.clone() });
        change.writes.push(RecordWrite::Check {
            key: RecordKey::Invoice(owner),
            seen: owner_revision,
        });
        match save(context, loaded.revision, change).await {
            Ok(_) => return Ok(Some(owner)),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FlowError::Contended)
}

/// Gives back the payments of a bill that were never written, because its invoice was voided before it came into QAD: they
/// belong to nobody again, and wait for the next invoice that claims their identity.
pub async fn give_back(
    context: &Context<'_>,
    loaded: Loaded<BillPayments>,
) -> Result<Result<Loaded<BillPayments>, CommitError>, FlowError> {
    let mut document = loaded.document;
    let (kept, given): (BTreeMap<_, _>, BTreeMap<_, _>) = document
        .allocations
        .into_iter()
        .partition(|(_, state)| state.written != Written::Nothing);
    document.allocations = kept;
    document.look_again = None;
    let mut of_identity: BTreeMap<RecordKey, (QadInvoiceIdentity, Vec<Allocation>)> = BTreeMap::new();
    // What QAD has moved to another supplier invoice belongs there.
    for state in given.into_values().filter(|state| state.moved_to.is_none()) {
        let allocation = state.latest;
        of_identity
            .entry(unmatched_key(&allocation.invoice))
            .or_insert_with(|| (allocation.invoice.clone(), Vec::new()))
            .1
            .push(allocation);
    }
    let mut writes = Vec::new();
    let mut events = Vec::new();
    for (key, (identity, allocations)) in of_identity {
        let known = load::<UnmatchedPayments>(context.register, key.clone()).await?;
        let (mut unmatched, revision) = known.map_or_else(
            || (UnmatchedPayments::new(identity.clone()), 0),
            |known| (known.document, known.revision),
        );
        let keys: Vec<PaymentKey> = allocations.iter().map(|one| one.key.clone()).collect();
        for allocation in allocations {
            // What was read after the void is newer.
            unmatched
                .allocations
                .entry(allocation.key.clone())
                .or_insert(allocation);
        }
        let balance = document.qad.clone().filter(|balance| balance.invoice == identity);
        unmatched.qad = unmatched.qad.or(balance);
        bounded(unmatched.allocations.len(), &identity.to_string())?;
        // Due at once: another invoice may have claimed the identity already.
        writes.push(RecordWrite::Put {
            key,
            seen: revision,
            body: render(&unmatched)?,
            state: "unmatched".to_owned(),
            due: Some(context.clock.now()),
        });
        events.push(PaymentEvent::GivenBack { keys });
    }
    let change = Change {
        document,
        events,
        writes,
    };
    Ok(save(context, loaded.revision, change).await)
}

/// Why a bill waits whose invoice is not in QAD yet.
pub(crate) const WAITS_FOR_INVOICE: &str = "BILL_WAITS_FOR_INVOICE";

/// Makes the bill of an invoice that is in QAD now due, if it waited for that. A bill that is decided in this moment looks once
/// more by itself.
pub(crate) async fn wake(context: &Context<'_>, invoice: InvoiceId) -> Result<(), FlowError> {
    let now = context.clock.now();
    for attempt in 0..TRIES_MAX {
        let Loaded {
            mut document,
            revision,
        } = match load::<BillPayments>(context.register, bill_key(invoice)).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Ok(()),
            // The invoice goes on without it; whoever looks at the bill tells what is wrong.
            Err(FlowError::Broken(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let delay = document.delay.as_ref();
        let waits = delay.is_some_and(|delay| delay.code == WAITS_FOR_INVOICE)
            && document.look_again.is_some_and(|at| at > now);
        if !waits {
            return Ok(());
        }
        document.look_again = Some(now);
        let change = Change::<_, PaymentEvent> {
            document,
            events: vec![],
            writes: vec![],
        };
        match save(context, revision, change).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    // Nothing is lost: its own recheck looks at it again.
    tracing::warn!(%invoice, "its bill could not be woken, somebody else writes it each time");
    Ok(())
}

/// What the transaction that claims an identity writes about the payments that wait for it: they become due, or it is
/// made sure that there are none.
///
/// # Errors
/// Those that wait cannot be taken apart: they must not be forgotten, and so have to be mended first.
pub fn claimed(
    identity: &QadInvoiceIdentity,
    waiting: Option<&StoredRecord>,
    now: Timestamp,
) -> Result<RecordWrite, FlowError> {
    let key = unmatched_key(identity);
    Ok(match waiting {
        Some(stored) => RecordWrite::Put {
            key,
            seen: stored.revision,
            body: stored.body.clone().map_err(FlowError::Broken)?,
            state: "unmatched".to_owned(),
            due: Some(now),
        },
        None => RecordWrite::Check { key, seen: 0 },
    })
}
