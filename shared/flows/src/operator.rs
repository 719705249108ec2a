//! What a person does with one invoice: accept what the match found, take it out, take it up again, name the document in
//! QAD that is this invoice's.
//!
//! Each is one event of the invoice's own life, written with its audit entry under the revision that was seen. Repeating it
//! changes nothing. Whatever could be refused is refused before anything is written; none of it sends anything to QAD:
//! the flow that posts does, from the register, as always.

use crate::bills::unmatched_key;
use crate::claims::{ClaimPlace, FreeIdentity, IdentityClaim, Near, claim_keys, claim_writes};
use crate::credits::Credits;
use crate::invoice_effects::export_effect;
use crate::match_invoice::{EXPORTED_BY_OTHERS, Entity, InvoiceSettings, index_orders, index_supplier};
use crate::neighbours::{self, Elsewhere, Home};
use crate::ports::{
    CommitError, Coupa, Hint, HintReason, Qad, QadDocument, Queue, ReadError, RecordKey, RecordWrite,
    StoreError, Subject, Voucher,
};
use crate::store::{Change, Context, FlowError, Loaded, load, parse, save};
use crate::waiting;
use crate::{originals, plans};
use domain::documents::{CoupaStatus, Invoice};
use domain::entities::{self, Whose};
use domain::ids::{ConnectionId, Holder, InvoiceId, QadInvoiceIdentity};
use domain::instruction::{Instruction, Release, SecondPerson};
use domain::lifecycle::{AdoptionRequest, Event, InvoiceEffect, InvoiceRecord, ParkReason, State};
use domain::mark::{self, Mark};
use domain::matching::ExceptionCode;
use domain::plans::PlanRecord;
use domain::problem::Problem;
use rust_decimal::Decimal;

/// Why it was not done. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// It could be done, and must not be.
    #[error("{0}")]
    Refused(Problem),
    /// There is no such invoice in the register, or no such document in QAD.
    #[error("{0}")]
    NotFound(Problem),
    /// The register did not take it.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// Coupa or QAD gave no answer.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The record before.
    pub before: InvoiceRecord,
    /// The record after; not stored in a dry run.
    pub after: InvoiceRecord,
    /// False when it was so already, and nothing was written.
    pub changed: bool,
}

impl Done {
    fn already(record: InvoiceRecord) -> Self {
        Self {
            before: record.clone(),
            after: record,
            changed: false,
        }
    }
}

/// The revision of the record that a person had in sight; `None` when nobody is asked, as on the command line, where the
/// record is read and changed in one breath.
pub type Seen = Option<u64>;

async fn read_as_seen(
    context: &Context<'_>,
    id: InvoiceId,
    seen: Seen,
) -> Result<Loaded<InvoiceRecord>, OperatorError> {
    let loaded = read(context, id).await?;
    match seen {
        Some(revision) if revision != loaded.revision => Err(refuse(
            "SEEN_IS_STALE",
            &loaded.document,
            &format!("revision {revision}, which was looked at"),
            "It has changed since it was looked at. Nothing was done: look at it again, then decide.",
        )),
        _ => Ok(loaded),
    }
}

async fn read(context: &Context<'_>, id: InvoiceId) -> Result<Loaded<InvoiceRecord>, OperatorError> {
    load::<InvoiceRecord>(context.register, RecordKey::Invoice(id))
        .await?
        .ok_or_else(|| {
            OperatorError::NotFound(
                Problem::new("INVOICE_NOT_FOUND", "Look it up in the list of invoices.")
                    .field("invoice")
                    .actual(id.to_string()),
            )
        })
}

fn refuse(code: &str, record: &InvoiceRecord, expected: &str, fix: &str) -> OperatorError {
    let codes = record.state.codes().join(", ");
    let actual = if codes.is_empty() {
        record.state.word().to_owned()
    } else {
        format!("{}: {codes}", record.state.word())
    };
    OperatorError::Refused(
        Problem::new(code, fix)
            .field(format!("invoice {}", record.id))
            .expected(expected)
            .actual(actual),
    )
}

/// Writes one event under the revision that was seen.
async fn tell(
    context: &Context<'_>,
    loaded: Loaded<InvoiceRecord>,
    event: Event,
    more: Vec<RecordWrite>,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    let before = loaded.document;
    let now = context.clock.now();
    let mut after = before.after(&event, now).map_err(|illegal| {
        refuse(
            "STATE_FORBIDS",
            &before,
            "a state in which this can happen",
            &format!("Nothing was written: {illegal}."),
        )
    })?;
    if let State::Posted { .. } = after.state {
        after = InvoiceEffect::Export.put(&after, export_effect(&after, now));
    }
    let mut writes = waiting::writes(&before, &after);
    writes.extend(index_orders(&mut after));
    writes.extend(index_supplier(&mut after));
    writes.extend(more);
    if dry_run {
        return Ok(Done {
            before,
            after,
            changed: true,
        });
    }
    let change = Change {
        document: after,
        events: vec![event],
        writes,
    };
    match save(context, loaded.revision, change).await {
        Ok(saved) => Ok(Done {
            before,
            after: saved.document,
            changed: true,
        }),
        // What the person saw is not what is there any more: nothing is done on the strength of it.
        Err(CommitError::Conflict) => Err(OperatorError::Flow(FlowError::Contended)),
        Err(CommitError::Store(error)) => Err(OperatorError::Flow(FlowError::Store(error))),
    }
}

/// How often an act is decided anew because somebody else wrote the record in between.
const ACT_TRIES_MAX: u32 = 5;

/// An act that reads and changes in one breath is decided anew, on what is there then, when the record was written in
/// between: a note on its way to Coupa is no reason to send a person away.
async fn insist(
    context: &Context<'_>,
    act: impl AsyncFn() -> Result<Done, OperatorError>,
) -> Result<Done, OperatorError> {
    for attempt in 1..ACT_TRIES_MAX {
        match act().await {
            Err(OperatorError::Flow(FlowError::Contended)) => context.pause(attempt).await,
            ended => return ended,
        }
    }
    act().await
}

/// Accepts exactly what the match found, so that the invoice is decided again and, if nothing else is in the way, posted.
///
/// Refused unless every reason it is parked for can be accepted: never ahead of a receipt, never to another supplier, never a
/// document that does not add up. Above the limit of `rule` the first person's word is recorded and nothing else happens; a
/// second, different person's word about the same content and figures, in time, releases it.
///
/// # Errors
/// See [`OperatorError`].
pub async fn release(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: Instruction,
    rule: &SecondPerson,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    insist(context, async || {
        release_as_seen(context, id, instruction.clone(), rule, None, dry_run).await
    })
    .await
}

/// As [`release`], and refused with `SEEN_IS_STALE` when the record is not the one that was looked at.
///
/// # Errors
/// See [`OperatorError`].
pub async fn release_as_seen(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: Instruction,
    rule: &SecondPerson,
    seen: Seen,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    let loaded = read_as_seen(context, id, seen).await?;
    let record = &loaded.document;
    let content = record.source.as_ref().map(|source| source.content_sha256.clone());
    let exceptions = match &record.state {
        State::Parked {
            reason: ParkReason::Match { exceptions },
        } => exceptions,
        _ if record
            .release
            .as_ref()
            .is_some_and(|release| Some(&release.content_sha256) == content.as_ref())
            && !matches!(record.state, State::Parked { .. }) =>
        {
            return Ok(Done::already(loaded.document));
        }
        State::Held { .. } => {
            return Err(refuse(
                "RELEASE_REFUSED",
                record,
                "an invoice parked for its price, its quantity or its order in Coupa",
                "Nothing is posted ahead of its receipt: have the goods receipt posted in QAD; it then posts by itself.",
            ));
        }
        _ => {
            return Err(refuse(
                "RELEASE_REFUSED",
                record,
                "an invoice parked for its price, its quantity or its order in Coupa",
                "Clear up what its explanation says, then have it looked at again.",
            ));
        }
    };
    if let Some(other) = exceptions
        .iter()
        .find(|exception| !exception.code.is_releasable())
    {
        let releasable: Vec<&str> = ExceptionCode::ALL
            .iter()
            .filter(|code| code.is_releasable())
            .map(|code| code.as_str())
            .collect();
        return Err(refuse(
            "RELEASE_REFUSED",
            record,
            &format!("only reasons that a person may accept: {}", releasable.join(", ")),
            &format!("{}: {}", other.code.as_str(), other.code.fix()),
        ));
    }
    let (Some(content_sha256), Some(summary)) = (content, &record.summary) else {
        return Err(refuse(
            "RELEASE_REFUSED",
            record,
            "an invoice that was read from Coupa",
            "Recheck it first.",
        ));
    };
    let mut release = Release {
        instruction,
        at: context.clock.now(),
        content_sha256,
        accepted: exceptions.clone(),
        requested: None,
    };
    if rule.is_needed(summary.total, summary.currency) {
        let request = record.release_request.as_ref();
        let Some(request) = request.filter(|request| request.awaits_second(&release, rule)) else {
            return tell(
                context,
                loaded,
                Event::ReleaseRequested { release },
                vec![],
                dry_run,
            )
            .await;
        };
        if request.instruction.is_by_the_same_as(&release.instruction) {
            let fix = "Have another person release it too, with a reason of their own.";
            return Err(OperatorError::Refused(
                Problem::new("SECOND_PERSON_NEEDED", fix)
                    .field(format!("invoice {id}"))
                    .expected(format!(
                        "another person than {}, before {}",
                        request.instruction.by,
                        request.at.plus_millis(rule.valid_millis)
                    ))
                    .actual(release.instruction.by),
            ));
        }
        release.requested = Some(request.instruction.clone());
    }
    tell(context, loaded, Event::Released { release }, vec![], dry_run).await
}

/// Takes an invoice out: nothing is done with it, whatever happens in Coupa, until [`reopen`].
///
/// # Errors
/// Refused when something of it is, or may be, in QAD. See [`OperatorError`].
pub async fn skip(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: Instruction,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    insist(context, async || {
        skip_as_seen(context, id, instruction.clone(), None, dry_run).await
    })
    .await
}

/// As [`skip`], and refused with `SEEN_IS_STALE` when the record is not the one that was looked at.
///
/// # Errors
/// See [`OperatorError`].
pub async fn skip_as_seen(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: Instruction,
    seen: Seen,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    let loaded = read_as_seen(context, id, seen).await?;
    let record = &loaded.document;
    if record.state.is_skipped() {
        return Ok(Done::already(loaded.document));
    }
    if !record.may_be_decided() {
        return Err(refuse(
            "SKIP_REFUSED",
            record,
            "an invoice of which nothing is on its way to QAD",
            "Void it in Coupa, and reverse what is in QAD.",
        ));
    }
    tell(context, loaded, Event::Skipped { instruction }, vec![], dry_run).await
}

/// Takes a skipped invoice up again; any other is left as it is.
///
/// # Errors
/// See [`OperatorError`].
pub async fn reopen(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: Instruction,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    insist(context, async || {
        reopen_as_seen(context, id, instruction.clone(), None, dry_run).await
    })
    .await
}

/// As [`reopen`], and refused with `SEEN_IS_STALE` when the record is not the one that was looked at.
///
/// # Errors
/// See [`OperatorError`].
pub async fn reopen_as_seen(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: Instruction,
    seen: Seen,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    let loaded = read_as_seen(context, id, seen).await?;
    if !loaded.document.state.is_skipped() {
        return Ok(Done::already(loaded.document));
    }
    tell(context, loaded, Event::Reopened { instruction }, vec![], dry_run).await
}

/// Takes an invoice in that this product does not know, or left to others because Coupa showed it exported: it is decided
/// like any other, and what QAD has of it already is adopted, not created. One that is known otherwise is left as it is.
///
/// # Errors
/// See [`OperatorError`].
pub async fn take_in(
    context: &Context<'_>,
    id: InvoiceId,
    instruction: Instruction,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    let known = load::<InvoiceRecord>(context.register, RecordKey::Invoice(id)).await?;
    let loaded = known.unwrap_or_else(|| Loaded {
        document: InvoiceRecord::new(id, context.clock.now()),
        revision: 0,
    });
    if !may_be_taken_in(&loaded) {
        return Ok(Done::already(loaded.document));
    }
    tell(context, loaded, Event::TakenIn { instruction }, vec![], dry_run).await
}

/// Allows the plan of a lookup, or of the suppliers, that waits under this hash: the one that was looked at. The next run carries
/// it out as long as it is still the same plan.
///
/// # Errors
/// Refused when no plan waits under this hash. See [`OperatorError`].
pub async fn allow_plan(
    context: &Context<'_>,
    lookup: Option<&str>,
    plan_sha256: &str,
    instruction: &Instruction,
) -> Result<PlanRecord, OperatorError> {
    let Instruction { by, reason } = instruction;
    match plans::allow(context, lookup, plan_sha256, by, reason).await {
        Err(FlowError::Broken(problem)) if problem.code == plans::not_parked(lookup) => {
            Err(OperatorError::Refused(problem))
        }
        answer => Ok(answer?),
    }
}

/// Hints that are sent at a time.
pub const HINTS_AT_ONCE: usize = 100;

/// Has invoices looked at again: a hint each, which may be repeated at any time. `sent` is told how many are on their way.
///
/// # Errors
/// A hint may not be in the queue: whatever is due is found by the sweep all the same.
pub async fn look_again(
    queue: &dyn Queue,
    connection: &ConnectionId,
    ids: &[InvoiceId],
    trace: &str,
    mut sent: impl FnMut(usize),
) -> Result<(), StoreError> {
    let mut told = 0usize;
    for part in ids.chunks(HINTS_AT_ONCE) {
        let hint = |id: &InvoiceId| Hint::V1 {
            connection: connection.clone(),
            subject: Subject::Invoice(*id),
            reason: HintReason::Operator,
            trace: trace.to_owned(),
        };
        queue.send(&part.iter().map(hint).collect::<Vec<_>>()).await?;
        told = told.saturating_add(part.len());
        sent(told);
    }
    Ok(())
}

/// Unknown, or left to others.
fn may_be_taken_in(loaded: &Loaded<InvoiceRecord>) -> bool {
    loaded.revision == 0
        || matches!(&loaded.document.state, State::Rejected { problem } if problem.code == EXPORTED_BY_OTHERS)
}

/// What [`adopt`] needs: its permissions. Reads only; the register is all it writes.
#[derive(Clone, Copy)]
pub struct AdoptDeps<'a> {
    /// Register (read, write), clock, chance, timing, deadline.
    pub context: Context<'a>,
    /// Whose invoice, and which QAD.
    pub home: &'a Home,
    /// Coupa: read the invoice.
    pub coupa: &'a dyn Coupa,
    /// QAD: find supplier invoices.
    pub qad: &'a dyn Qad,
    /// The connection's settings.
    pub settings: &'a InvoiceSettings,
    /// The connection's entities; none where everything is the one entity's.
    pub entities: &'a [Entity<'a>],
}

impl<'a> AdoptDeps<'a> {
    /// These permissions in the entity that the invoice belongs to.
    fn within(&self, invoice: &Invoice) -> Result<Self, Problem> {
        if self.entities.is_empty() {
            return Ok(*self);
        }
        let rules = self.entities.iter().map(|entity| entity.rule);
        let code = match entities::whose(rules, &invoice.entity_fields) {
            Whose::Mine(code) => code,
            Whose::OutOfScope => {
                return Err(entities::out_of_scope(&invoice.entity_fields));
            }
            Whose::Ambiguous(codes) => {
                return Err(entities::ambiguous(&codes, &invoice.entity_fields));
            }
        };
        let entity = self.entities.iter().find(|entity| entity.rule.code == code);
        Ok(entity.map_or(*self, |entity| Self {
            qad: entity.qad,
            settings: entity.settings,
            ..*self
        }))
    }
}

/// Which document in QAD, and what may differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// Its number there.
    pub voucher: Voucher,
    /// Its total there, when it differs from Coupa's and that is accepted.
    pub accepted_total: Option<Decimal>,
    /// Who, and why.
    pub instruction: Instruction,
}

/// Takes a document that a person keyed in QAD as this invoice's, and has it marked exported in Coupa. The document is
/// looked up by the invoice's identity (entity, supplier, reference, type): what is not found under it is not this invoice's.
///
/// # Errors
/// See [`OperatorError`].
pub async fn adopt(
    deps: &AdoptDeps<'_>,
    id: InvoiceId,
    adoption: Adoption,
    dry_run: bool,
) -> Result<Done, OperatorError> {
    let context = &deps.context;
    let loaded = read(context, id).await?;
    let record = &loaded.document;
    if matches!(record.state, State::Posted { .. } | State::Exported { .. })
        && record.state.voucher() == Some(&adoption.voucher)
    {
        return Ok(Done::already(loaded.document));
    }
    if !matches!(
        record.state,
        State::Received { .. } | State::Held { .. } | State::Parked { .. }
    ) {
        return Err(refuse(
            "ADOPT_REFUSED",
            record,
            "an invoice that waits for QAD or for a person",
            "Wait until it rests; one that was taken out is taken up again first.",
        ));
    }
    let invoice = deps.coupa.invoice(id).await?.ok_or_else(|| {
        OperatorError::NotFound(
            Problem::new("COUPA_INVOICE_NOT_FOUND", "Check the id.")
                .field("invoice")
                .actual(id.to_string()),
        )
    })?;
    if invoice.status != CoupaStatus::Approved {
        return Err(OperatorError::Refused(
            Problem::new(
                "ADOPT_REFUSED",
                "Reinstate the invoice in Coupa, or reverse the document in QAD.",
            )
            .field(format!("invoice {id}"))
            .expected("approved in Coupa")
            .actual(format!("{:?}", invoice.status)),
        ));
    }
    let deps = &deps.within(&invoice).map_err(OperatorError::Refused)?;
    let supplier = invoice
        .supplier
        .number
        .as_deref()
        .unwrap_or_default()
        .trim()
        .parse();
    let Ok(supplier) = supplier else {
        return Err(OperatorError::Refused(
            Problem::new(
                "ADOPT_REFUSED",
                "Give the supplier its QAD number in Coupa first.",
            )
            .field(format!("invoice {id}"))
            .expected("a supplier with a QAD number")
            .actual(invoice.supplier.name.clone()),
        ));
    };
    let identity = QadInvoiceIdentity {
        entity: deps.settings.policy.entity.clone(),
        supplier,
        reference: invoice.reference.clone(),
        kind: invoice.kind,
    };
    let documents = deps.qad.find_invoices(&identity).await?;
    let document = the_one(documents, &identity, &adoption.voucher)?;
    let difference = proven(
        &document,
        &invoice,
        &adoption,
        &deps.settings.policy.coupa_instance,
    )?;
    let mut claim = claim_of(deps, &identity, &invoice).await?;
    let mut loaded = loaded;
    let record = &mut loaded.document;
    claim.extend(credit_of(deps, &identity, &invoice, record, document.total).await?);
    loaded.document.posted_total = Some(document.total);
    let event = Event::Adopted {
        voucher: adoption.voucher,
        instruction: adoption.instruction,
        difference,
    };
    tell(context, loaded, event, claim, dry_run).await
}

/// Notes the document in QAD that a person names as this invoice's, where nobody can look it up: the flow that can does so
/// before anything else is done with the invoice, as [`adopt`] does it. Refused with `SEEN_IS_STALE` when the record is not the
/// one that was looked at.
///
/// # Errors
/// See [`OperatorError`].
pub async fn request_adoption_as_seen(
    context: &Context<'_>,
    id: InvoiceId,
    request: AdoptionRequest,
    seen: Seen,
) -> Result<Done, OperatorError> {
    let loaded = read_as_seen(context, id, seen).await?;
    if !loaded.document.may_be_adopted() {
        return Err(refuse(
            "ADOPT_REFUSED",
            &loaded.document,
            "an invoice that waits for QAD or for a person",
            "Wait until it rests; one that was taken out is taken up again first.",
        ));
    }
    tell(
        context,
        loaded,
        Event::AdoptionRequested { request },
        vec![],
        false,
    )
    .await
}

/// The document of this number among those of the identity; nobody else may be there.
#[expect(
    clippy::result_large_err,
    reason = "one per command of a person, and each says everything"
)]
fn the_one(
    mut documents: Vec<QadDocument>,
    identity: &QadInvoiceIdentity,
    voucher: &Voucher,
) -> Result<QadDocument, OperatorError> {
    let names: Vec<String> = documents
        .iter()
        .map(|document| {
            document
                .voucher
                .as_ref()
                .map_or_else(|| "without number".to_owned(), ToString::to_string)
        })
        .collect();
    let problem = |code: &str, fix: &str| {
        Problem::new(code, fix)
            .field(identity.to_string())
            .expected(voucher.to_string())
            .actual(if names.is_empty() {
                "no document".to_owned()
            } else {
                names.join(", ")
            })
    };
    if documents.len() > 1 {
        let fix = "Find out which one is right, reverse the others in QAD, then adopt it.";
        return Err(OperatorError::Refused(problem("QAD_DUPLICATE_DOCUMENTS", fix)));
    }
    documents
        .pop()
        .filter(|document| document.voucher.as_ref() == Some(voucher))
        .ok_or_else(|| {
            let fix = "Check the number, and that the document has this supplier, reference and type in QAD.";
            OperatorError::NotFound(problem("QAD_DOCUMENT_NOT_FOUND", fix))
        })
}

/// Whether the document can be this invoice's; what differs and was accepted, in words.
#[expect(
    clippy::result_large_err,
    reason = "one per command of a person, and each says everything"
)]
fn proven(
    document: &QadDocument,
    invoice: &domain::documents::Invoice,
    adoption: &Adoption,
    instance: &str,
) -> Result<String, OperatorError> {
    let refused = |expected: String, actual: String, fix: &str| {
        OperatorError::Refused(
            Problem::new("ADOPT_REFUSED", fix)
                .field(format!("QAD supplier invoice {}", adoption.voucher))
                .expected(expected)
                .actual(actual),
        )
    };
    let shown = document.description.trim();
    if Mark::read(shown).is_some_and(|mark| !mark.is_of(instance, invoice.id)) {
        return Err(refused(
            format!(
                "no mark of another invoice than {}",
                mark::of(instance, invoice.id)
            ),
            shown.to_owned(),
            "It belongs to another Coupa invoice.",
        ));
    }
    if document.currency != invoice.currency {
        return Err(refused(
            invoice.currency.to_string(),
            document.currency.to_string(),
            "A document in another currency is not this invoice's.",
        ));
    }
    if document.total == invoice.total {
        return Ok(String::new());
    }
    if adoption.accepted_total == Some(document.total) {
        return Ok(format!(
            "{} {} in QAD, {} {} in Coupa",
            document.total.normalize(),
            document.currency,
            invoice.total.normalize(),
            invoice.currency
        ));
    }
    Err(refused(
        format!("{} {}", invoice.total.normalize(), invoice.currency),
        format!("{} {}", document.total.normalize(), document.currency),
        "Correct the wrong one, or accept QAD's total by naming it.",
    ))
}

/// The write that keeps how much a credit note credits of the invoice that it names.
async fn credit_of(
    deps: &AdoptDeps<'_>,
    identity: &QadInvoiceIdentity,
    invoice: &Invoice,
    record: &mut InvoiceRecord,
    total: Decimal,
) -> Result<Option<RecordWrite>, OperatorError> {
    let Some(corrected) = originals::corrected(invoice, identity).filter(|_| invoice.credits_goods()) else {
        record.credits = None;
        return Ok(None);
    };
    let (register, home) = (deps.context.register, deps.home);
    let keys = [home.credits_key(&corrected)];
    let kept = register.read(&keys).await.map_err(FlowError::Store)?;
    let kept = kept.into_iter().next().flatten();
    let credits = Credits::of(register, home, &corrected, kept.as_ref(), invoice.id).await?;
    if credits.has_settled(record) {
        return Ok(None);
    }
    Ok(Some(credits.write(home, record, invoice.currency, total)?))
}

/// The claim on the identity, unless another invoice has it.
async fn claim_of(
    deps: &AdoptDeps<'_>,
    identity: &QadInvoiceIdentity,
    invoice: &domain::documents::Invoice,
) -> Result<Vec<RecordWrite>, OperatorError> {
    let id = invoice.id;
    let near_keys = Near::keys(invoice, &identity.supplier);
    let mut keys = claim_keys(identity);
    keys.extend([
        unmatched_key(identity),
        deps.home.connections_key(),
        deps.home.claim_key(identity),
    ]);
    keys.extend(near_keys.iter().cloned());
    let mut found = deps
        .context
        .register
        .read(&keys)
        .await
        .map_err(FlowError::Store)?
        .into_iter();
    let (place, claimed) = ClaimPlace::among(identity, &mut found);
    let payments = found.next().flatten();
    let others = neighbours::known_others(deps.home, found.next().flatten().as_ref())?;
    let shared = found.next().flatten();
    let elsewhere = Elsewhere::of(
        deps.context.register,
        deps.home,
        identity,
        shared.as_ref(),
        &others,
    )
    .await?;
    let near = Near::among(near_keys, &mut found)?;
    let owner = claimed
        .as_ref()
        .map(parse::<IdentityClaim>)
        .transpose()?
        .map(|claim| Holder::own(claim.owner));
    let mut owners = owner.iter().chain(&elsewhere.holders);
    if let Some(other) = owners.find(|owner| **owner != Holder::own(id)) {
        return Err(OperatorError::Refused(
            Problem::new(
                "DUPLICATE_REFERENCE",
                "Void one of the two in Coupa, or skip the other one first.",
            )
            .field(identity.to_string())
            .expected("no other invoice with this reference")
            .actual(format!("Coupa invoice {other} has it")),
        ));
    }
    let free = FreeIdentity {
        identity: identity.clone(),
        place,
        elsewhere,
        payments,
    };
    let mut writes = claim_writes(deps.context.clock.now(), deps.home, id, &free)?;
    writes.extend(near.writes(invoice, &identity.entity)?);
    Ok(writes)
}
