//! The three writes an invoice can cause: its creation in QAD, its exported flag in Coupa, and a note about its
//! outcome on the Coupa document. What to send, what an answer proves, and what the record looks like afterwards.

use crate::engine::{Finding, Proof, Stepped, Target};
use crate::ports::{
    Coupa, DocumentOutcome, Flagged, Outcomes, Qad, QadDocument, ReadError, RecordWrite, WriteError,
};
use crate::store::{Change, Context, sha256_hex};
use async_trait::async_trait;
use domain::documents::CoupaStatus;
use domain::drive::Manner;
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition};
use domain::explain::{self, Shown, Standing};
use domain::guards::{Guard, stands};
use domain::ids::{InvoiceId, QadInvoiceIdentity};
use domain::lifecycle::{
    ClosedPeriod, Event, IllegalStep, InvoiceEffect, InvoiceRecord, ParkReason, PostedHow, State,
};
use domain::mark::Mark;
use domain::matching::SupplierInvoiceDraft;
use domain::money::Currency;
use domain::problem::{PERIOD_CLOSED, Problem};
use domain::time::Timestamp;
use rust_decimal::Decimal;

/// A new effect, the successor of `earlier`, with everything that stays the same over all its attempts.
///
/// Its idempotency key is computed here and sent with every attempt. A system that honours such keys answers a known one
/// with what it answered before, so the same request gets a new key once the earlier one has come to its end: a value that is
/// switched off, on and off again is three writes. What was given up without an answer keeps its key, because the earlier
/// attempt may still arrive.
pub fn new_effect(
    key: String,
    repetition: Repetition,
    request: String,
    now: Timestamp,
    earlier: Option<&Effect>,
) -> Effect {
    let request_sha256 = sha256_hex(&request);
    let given_up = earlier.filter(|earlier| {
        earlier.status == EffectStatus::Withdrawn
            && earlier.key == key
            && earlier.request_sha256 == request_sha256
    });
    let idempotency_key = given_up.map(|earlier| earlier.idempotency_key.clone());
    let mut effect =
        Effect::ready(key, repetition, request, request_sha256, String::new(), now).succeeding(earlier);
    effect.idempotency_key = idempotency_key.unwrap_or_else(|| {
        sha256_hex(&format!(
            "{}\n{}\n{}",
            effect.key, effect.request_sha256, effect.fence
        ))
    });
    effect
}

/// The effect that marks an invoice exported in Coupa.
pub fn export_effect(record: &InvoiceRecord, now: Timestamp) -> Effect {
    new_effect(
        format!("coupa-exported/{}", record.id),
        Repetition::Harmless,
        "exported=true".to_owned(),
        now,
        record.export.as_ref(),
    )
}

fn change(step: (InvoiceRecord, Event)) -> Change<InvoiceRecord, Event> {
    Change {
        document: step.0,
        events: vec![step.1],
        writes: Vec::<RecordWrite>::new(),
    }
}

fn then(
    mut change: Change<InvoiceRecord, Event>,
    event: Event,
    now: Timestamp,
) -> Stepped<InvoiceRecord, Event> {
    change.document = change.document.after(&event, now)?;
    change.events.push(event);
    Ok(change)
}

fn advance(
    which: InvoiceEffect,
    context: &Context<'_>,
    record: &InvoiceRecord,
    event: EffectEvent,
) -> Stepped<InvoiceRecord, Event> {
    which
        .advance(record, event, context.clock.now(), context.timing)
        .map(change)
}

// ---------------------------------------------------------------------------------------------------------------

/// Creating the supplier invoice in QAD: the one write that must never happen twice.
pub struct Creation<'a> {
    /// QAD.
    pub qad: &'a dyn Qad,
    /// Whether a document that somebody keyed by hand, with equal amount and currency, is taken as ours.
    pub adopt_equal_documents: bool,
    /// How long to wait before an invoice that a person must clear up is looked at again, in milliseconds.
    pub recheck_millis: i64,
    /// Whether a note about the outcome is scheduled together with it.
    pub outcomes: Outcomes,
    /// Token under which whoever drives this goes on with the exported flag: it is claimed in the write that stores the document,
    /// which is one write less.
    pub goes_on_as: String,
}

pub(crate) fn draft_of(effect: &Effect) -> Result<SupplierInvoiceDraft, Problem> {
    let altered = sha256_hex(&effect.request) != effect.request_sha256;
    match draft_in(&effect.request) {
        Ok(draft) if !altered => Ok(draft),
        _ => Err(Problem::new(
            "REQUEST_ALTERED",
            "Nothing was sent. Compare the record with its audit trail.",
        )
        .field("request")
        .expected(effect.request_sha256.clone())
        .actual(sha256_hex(&effect.request))),
    }
}

/// The invoice that a stored request creates.
pub(crate) fn draft_in(request: &str) -> Result<SupplierInvoiceDraft, Problem> {
    serde_json::from_str(request).map_err(|error| {
        Problem::new(
            "REQUEST_ALTERED",
            "Nothing was sent. Compare the record with its audit trail.",
        )
        .field("request")
        .actual(error.to_string())
    })
}

/// Code of a document in QAD that carries our mark and says something else than what was sent.
const DOCUMENT_DIFFERS: &str = "QAD_DOCUMENT_DIFFERS";

/// True when the creation has ended with somebody else's document, or none that is known to be ours. One that carries our mark
/// is ours, however it differs.
pub fn is_of_nobody_known(creation: &Effect) -> bool {
    match creation.status {
        EffectStatus::Rejected => true,
        EffectStatus::Parked => creation
            .problem
            .as_ref()
            .is_none_or(|problem| problem.code != DOCUMENT_DIFFERS),
        _ => false,
    }
}

/// What a document in QAD must be to be this invoice's.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Its QAD identity.
    pub identity: &'a QadInvoiceIdentity,
    /// The Coupa instance that its mark names; blank for none.
    pub coupa_instance: &'a str,
    /// Coupa's id.
    pub coupa_id: InvoiceId,
    /// Its total, signed.
    pub total: Decimal,
    /// Its currency.
    pub currency: Currency,
    /// By how much the total may differ.
    pub echo: Decimal,
    /// The only posting year it can be in, where a document of the same identity stands in another one.
    pub year: Option<u32>,
}

impl<'a> Wanted<'a> {
    /// What the create of this draft must have made.
    pub fn by(draft: &'a SupplierInvoiceDraft) -> Self {
        Self {
            identity: &draft.identity,
            coupa_instance: &draft.coupa_instance,
            coupa_id: draft.coupa_id,
            total: draft.total,
            currency: draft.currency,
            echo: draft.echo,
            year: draft
                .is_twin
                .then(|| u32::try_from(draft.posting_date.year()).unwrap_or_default()),
        }
    }
}

impl Wanted<'_> {
    /// Whether the document carries this invoice's mark.
    fn is_marked(&self, document: &QadDocument) -> bool {
        Mark::read(&document.description).is_some_and(|mark| mark.is_of(self.coupa_instance, self.coupa_id))
    }
}

fn differences(draft: &Wanted<'_>, document: &QadDocument) -> Option<(String, String)> {
    let mut expected = Vec::new();
    let mut actual = Vec::new();
    let mut compare = |name: &str, ours: String, theirs: String| {
        if ours != theirs {
            expected.push(format!("{name} {ours}"));
            actual.push(format!("{name} {theirs}"));
        }
    };
    // QAD computes the tax itself, and may round it otherwise. In somebody else's document it is not ours that was rounded.
    let is_echo = draft.is_marked(document)
        && document
            .total
            .checked_sub(draft.total)
            .is_some_and(|difference| difference.abs() <= draft.echo);
    if !is_echo {
        compare(
            "total",
            draft.total.normalize().to_string(),
            document.total.normalize().to_string(),
        );
    }
    compare(
        "currency",
        draft.currency.to_string(),
        document.currency.to_string(),
    );
    compare(
        "entity",
        draft.identity.entity.folded(),
        document.identity.entity.folded(),
    );
    compare(
        "supplier",
        draft.identity.supplier.folded(),
        document.identity.supplier.folded(),
    );
    compare(
        "reference",
        draft.identity.reference.folded(),
        document.identity.reference.folded(),
    );
    compare(
        "type",
        draft.identity.kind.to_string(),
        document.identity.kind.to_string(),
    );
    if expected.is_empty() || !stands(Guard::EchoComparison) {
        None
    } else {
        Some((expected.join(", "), actual.join(", ")))
    }
}

pub(crate) fn name(document: &QadDocument) -> String {
    let number = document
        .voucher
        .as_ref()
        .map_or_else(|| "without number".to_owned(), ToString::to_string);
    format!("{number} ({} {})", document.total.normalize(), document.currency)
}

/// What the documents of one QAD identity prove about ours. Pure.
pub fn judge_documents(
    draft: &Wanted<'_>,
    mut documents: Vec<QadDocument>,
    adopt_equal_documents: bool,
) -> Finding<QadDocument> {
    // What has no number yet may be in any year.
    documents.retain(|document| match (draft.year, &document.voucher) {
        (Some(year), Some(voucher)) => voucher.year == year,
        _ => true,
    });
    let Some(document) = documents.pop() else {
        return Finding::Nothing;
    };
    if !documents.is_empty() {
        let names: Vec<String> = documents.iter().chain([&document]).map(name).collect();
        return Finding::Park {
            problem: Problem::new(
                "QAD_DUPLICATE_DOCUMENTS",
                "Find out which one is right and reverse the others in QAD.",
            )
            .field(draft.identity.to_string())
            .expected("at most one document")
            .actual(names.join(", ")),
            answer: None,
        };
    }
    let ours = match Mark::read(&document.description) {
        Some(_) if draft.is_marked(&document) => true,
        Some(other) => {
            return Finding::Park {
                problem: Problem::new(
                    "DUPLICATE_REFERENCE",
                    "Void this invoice in Coupa if it is the same bill; if it is another, have the supplier's number corrected.",
                )
                .field(draft.identity.to_string())
                .expected("no other invoice with this reference")
                .actual(format!("Coupa invoice {other} is already in QAD as {}", name(&document))),
                answer: Some(document),
            };
        }
        None => false,
    };
    if document.voucher.is_none() {
        return Finding::Unclear(
            Problem::new(
                "QAD_DOCUMENT_WITHOUT_NUMBER",
                "Nothing to do: it is looked up again.",
            )
            .field(draft.identity.to_string())
            .expected("posting year, daybook and voucher number")
            .actual("none"),
        );
    }
    match differences(draft, &document) {
        None if ours || adopt_equal_documents => Finding::There {
            answer: document,
            adopted: !ours,
        },
        None => Finding::Park {
            problem: Problem::new(
                "QAD_DOCUMENT_FOREIGN",
                "If it is the same bill, void this invoice in Coupa.",
            )
            .field(draft.identity.to_string())
            .expected("no document with this reference")
            .actual(name(&document)),
            answer: Some(document),
        },
        Some((expected, actual)) => Finding::Park {
            problem: Problem::new(
                if ours {
                    DOCUMENT_DIFFERS
                } else {
                    "QAD_DOCUMENT_FOREIGN"
                },
                "Compare the document in QAD with the invoice in Coupa and correct the wrong one.",
            )
            .field(name(&document))
            .expected(expected)
            .actual(actual),
            answer: Some(document),
        },
    }
}

#[async_trait]
impl Target<InvoiceRecord> for Creation<'_> {
    type Answer = QadDocument;
    type Event = Event;

    fn effect<'d>(&self, record: &'d InvoiceRecord) -> Option<&'d Effect> {
        record.creation.as_ref()
    }

    async fn send(&self, _: &InvoiceRecord, effect: &Effect) -> Result<QadDocument, WriteError> {
        let draft = draft_of(effect).map_err(WriteError::Refused)?;
        self.qad.create_invoice(&draft, &effect.idempotency_key).await
    }

    async fn look_up(&self, _: &InvoiceRecord, effect: &Effect) -> Result<Vec<QadDocument>, ReadError> {
        let draft = draft_of(effect).map_err(ReadError::Refused)?;
        self.qad.find_invoices(&draft.identity).await
    }

    fn judge(&self, _: &InvoiceRecord, effect: &Effect, documents: Vec<QadDocument>) -> Finding<QadDocument> {
        match draft_of(effect) {
            Ok(draft) => judge_documents(&Wanted::by(&draft), documents, self.adopt_equal_documents),
            Err(problem) => Finding::Unclear(problem),
        }
    }

    /// While nobody knew, the invoice may have been voided or changed and what was received may have gone back.
    fn manner(&self) -> Manner {
        Manner {
            anew_when_absent: true,
            ..Manner::default()
        }
    }

    fn absent(&self, context: &Context<'_>, record: &InvoiceRecord) -> Stepped<InvoiceRecord, Event> {
        let gone = advance(
            InvoiceEffect::Creation,
            context,
            record,
            EffectEvent::ProvenAbsent,
        )?;
        let event = Event::Received { coupa_status: None };
        let mut anew = then(gone, event, context.clock.now())?;
        anew.document.look_again = Some(context.clock.now());
        Ok(anew)
    }

    fn step(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        event: EffectEvent,
    ) -> Stepped<InvoiceRecord, Event> {
        advance(InvoiceEffect::Creation, context, record, event)
    }

    fn there(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        document: &QadDocument,
        proof: Proof,
    ) -> Stepped<InvoiceRecord, Event> {
        let now = context.clock.now();
        let how = match proof {
            Proof::Confirmed => PostedHow::Created,
            Proof::Found if is_of_a_lost_register(record) => PostedHow::Restored,
            Proof::Found => PostedHow::Recovered,
            Proof::Adopted => PostedHow::Adopted,
        };
        let confirmed = advance(InvoiceEffect::Creation, context, record, EffectEvent::Confirmed)?;
        // `judge` lets no document without number through, so a missing one is an impossible step, not a default.
        let voucher = document.voucher.clone().ok_or(IllegalStep::NoEffect)?;
        let mut posted = then(confirmed, Event::Posted { voucher, how }, now)?;
        posted.document.posted_total = Some(document.total);
        let export = export_effect(&posted.document, now);
        let document = InvoiceEffect::Export.put(&posted.document, export);
        let intended = EffectEvent::Intended {
            holder: self.goes_on_as.clone(),
        };
        let claimed = advance(InvoiceEffect::Export, context, &document, intended)?;
        posted.document = claimed.document;
        posted.events.extend(claimed.events);
        Ok(posted)
    }

    fn refused(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        problem: Problem,
    ) -> Stepped<InvoiceRecord, Event> {
        let refused = EffectEvent::Refused {
            problem: problem.clone(),
        };
        let now = context.clock.now();
        let change = advance(InvoiceEffect::Creation, context, record, refused)?;
        let draft = record.creation.as_ref().map(draft_of);
        if let (true, Some(Ok(draft))) = (problem.code == PERIOD_CLOSED, draft) {
            let entity = &draft.identity.entity;
            let mut closed = ClosedPeriod::new(draft.posting_date, now, entity, &problem.actual);
            closed.list_was_trusted = record
                .closed_period
                .as_ref()
                .is_some_and(|before| before.list_was_trusted);
            let held = Event::Held {
                exceptions: vec![closed.exception.clone()],
                awaits: vec![],
                tolerance_version: record
                    .report
                    .as_ref()
                    .map_or_else(String::new, |report| report.tolerance_version.clone()),
            };
            let mut held = then(change, held, now)?;
            held.document.closed_period = Some(closed);
            held.document.look_again = Some(now.plus_millis(self.recheck_millis));
            return Ok(noted(held, self.outcomes, now));
        }
        let reason = ParkReason::Problem { problem };
        let mut parked = then(change, Event::Parked { reason }, now)?;
        parked.document.look_again = Some(now.plus_millis(self.recheck_millis));
        Ok(noted(parked, self.outcomes, now))
    }

    fn parked(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        problem: Problem,
        document: Option<&QadDocument>,
    ) -> Stepped<InvoiceRecord, Event> {
        // Before the first send nothing of ours can be in QAD: once a person has cleared it up, it may be decided anew.
        let nothing_sent = record
            .creation
            .as_ref()
            .is_some_and(|effect| effect.attempts == 0);
        let reason = if nothing_sent {
            ParkReason::Problem {
                problem: problem.clone(),
            }
        } else {
            ParkReason::InQad {
                problem: problem.clone(),
                voucher: document.and_then(|d| d.voucher.clone()),
            }
        };
        let change = advance(
            InvoiceEffect::Creation,
            context,
            record,
            EffectEvent::Parked { problem },
        )?;
        let now = context.clock.now();
        let mut parked = then(change, Event::Parked { reason }, now)?;
        parked.document.look_again = nothing_sent.then(|| now.plus_millis(self.recheck_millis));
        Ok(noted(parked, self.outcomes, now))
    }
}

/// What carries our mark although nothing of the invoice was ever sent as far as this register knows: another one has sent it.
fn is_of_a_lost_register(record: &InvoiceRecord) -> bool {
    record
        .creation
        .as_ref()
        .is_none_or(|effect| effect.attempts == 0 && effect.fence == 0)
}

// ---------------------------------------------------------------------------------------------------------------

/// Marking an invoice exported in Coupa, after it exists in QAD or after it was voided. Harmless to repeat.
pub struct Export<'a> {
    /// Coupa.
    pub coupa: &'a dyn Coupa,
    /// How long to wait after a refusal before asking again, in milliseconds.
    pub retry_refused_millis: i64,
    /// Whether a note about the outcome is scheduled together with it.
    pub outcomes: Outcomes,
}

#[async_trait]
impl Target<InvoiceRecord> for Export<'_> {
    type Answer = Flagged;
    type Event = Event;

    /// The document is in QAD and stays there; the flag is asked for again later, and the reason is shown meanwhile.
    fn manner(&self) -> Manner {
        Manner {
            asks_again_after_millis: Some(self.retry_refused_millis),
            ..Manner::default()
        }
    }

    fn effect<'d>(&self, record: &'d InvoiceRecord) -> Option<&'d Effect> {
        record.export.as_ref()
    }

    async fn send(&self, record: &InvoiceRecord, effect: &Effect) -> Result<Flagged, WriteError> {
        self.coupa.mark_exported(record.id, &effect.idempotency_key).await
    }

    async fn look_up(&self, _: &InvoiceRecord, _: &Effect) -> Result<Vec<Flagged>, ReadError> {
        Ok(Vec::new())
    }

    fn judge(&self, _: &InvoiceRecord, _: &Effect, mut answers: Vec<Flagged>) -> Finding<Flagged> {
        answers.pop().map_or(Finding::Nothing, |answer| Finding::There {
            answer,
            adopted: false,
        })
    }

    fn step(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        event: EffectEvent,
    ) -> Stepped<InvoiceRecord, Event> {
        advance(InvoiceEffect::Export, context, record, event)
    }

    fn there(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        shown: &Flagged,
        _: Proof,
    ) -> Stepped<InvoiceRecord, Event> {
        let confirmed = advance(InvoiceEffect::Export, context, record, EffectEvent::Confirmed)?;
        let mut exported = then(confirmed, Event::Exported, context.clock.now())?;
        let changed_its_mind = shown
            .status
            .as_ref()
            .is_some_and(|status| *status != CoupaStatus::Approved)
            || shown.bill.as_ref().is_some_and(|(reference, total, currency)| {
                record.summary.as_ref().is_some_and(|summary| {
                    summary.reference != *reference
                        || summary.total != *total
                        || summary.currency != *currency
                })
            });
        let approved_again = shown.status == Some(CoupaStatus::Approved);
        let looks = match exported.document.state {
            State::Exported { .. } => changed_its_mind,
            State::Voided { .. } => approved_again,
            _ => false,
        };
        exported.document.look_pending |= looks;
        Ok(noted(exported, self.outcomes, context.clock.now()))
    }
}

// ---------------------------------------------------------------------------------------------------------------

/// Writing an invoice's outcome onto the Coupa document, when the connection asks for it. Harmless to repeat: the open
/// record is resolved first.
pub struct Note<'a> {
    /// Coupa.
    pub coupa: &'a dyn Coupa,
    /// How much is shown there.
    pub outcomes: Outcomes,
}

/// The note that the record's state deserves, if it has not been written or scheduled yet.
///
/// A note that may be on its way at this moment is not replaced, or it could arrive after its successor: the next one is
/// scheduled when it has ended.
pub fn due_note(record: &InvoiceRecord, outcome: &DocumentOutcome, now: Timestamp) -> Option<Effect> {
    if record.note.as_ref().is_some_and(Effect::may_have_left) {
        return None;
    }
    if outcome.standing == Standing::Withdrawn && !something_stands_open(record) {
        return None;
    }
    let request = serde_json::to_string(outcome).ok()?;
    let note = new_effect(
        format!("coupa-history/{}", record.id),
        Repetition::Harmless,
        request,
        now,
        record.note.as_ref(),
    );
    let known = record
        .note
        .as_ref()
        .is_some_and(|known| known.request_sha256 == note.request_sha256);
    if known { None } else { Some(note) }
}

/// Whether the last note leaves a record open in Coupa, so that a state with nothing to tell must close it. What cannot be
/// read is taken for open: closing is harmless.
fn something_stands_open(record: &InvoiceRecord) -> bool {
    record.note.as_ref().is_some_and(|note| {
        serde_json::from_str::<DocumentOutcome>(&note.request).map_or(true, |told| told.standing.stays_open())
    })
}

/// The record with the note that its state deserves, to be stored together with that state.
pub fn with_note(record: InvoiceRecord, outcomes: Outcomes, now: Timestamp) -> InvoiceRecord {
    let Some(outcome) = outcome_of(&record) else {
        return record;
    };
    let wanted = match outcomes {
        Outcomes::Nothing => false,
        Outcomes::Voucher => outcome.external_id.is_some(),
        Outcomes::History => true,
    };
    if !wanted {
        return record;
    }
    match due_note(&record, &outcome, now) {
        Some(note) => InvoiceEffect::Note.put(&record, note),
        None => record,
    }
}

fn noted(
    mut change: Change<InvoiceRecord, Event>,
    outcomes: Outcomes,
    now: Timestamp,
) -> Change<InvoiceRecord, Event> {
    change.document = with_note(change.document, outcomes, now);
    change
}

/// What a person in Coupa shall see of a state; `None` while it passes.
pub fn outcome_of(record: &InvoiceRecord) -> Option<DocumentOutcome> {
    let Shown {
        standing,
        code,
        message,
    } = explain::shown_in_coupa(record)?;
    Some(DocumentOutcome {
        standing,
        code,
        message,
        external_id: record.state.voucher().map(ToString::to_string),
    })
}

#[async_trait]
impl Target<InvoiceRecord> for Note<'_> {
    type Answer = ();
    type Event = Event;

    fn effect<'d>(&self, record: &'d InvoiceRecord) -> Option<&'d Effect> {
        record.note.as_ref()
    }

    async fn send(&self, record: &InvoiceRecord, effect: &Effect) -> Result<(), WriteError> {
        let outcome: DocumentOutcome = serde_json::from_str(&effect.request).map_err(|error| {
            WriteError::Refused(
                Problem::new("REQUEST_ALTERED", "Nothing was sent.").actual(error.to_string()),
            )
        })?;
        self.coupa
            .record_outcome(record.id, &outcome, &effect.idempotency_key)
            .await
    }

    async fn look_up(&self, _: &InvoiceRecord, _: &Effect) -> Result<Vec<()>, ReadError> {
        Ok(Vec::new())
    }

    fn judge(&self, _: &InvoiceRecord, _: &Effect, mut answers: Vec<()>) -> Finding<()> {
        answers.pop().map_or(Finding::Nothing, |answer| Finding::There {
            answer,
            adopted: false,
        })
    }

    fn step(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        event: EffectEvent,
    ) -> Stepped<InvoiceRecord, Event> {
        advance(InvoiceEffect::Note, context, record, event)
    }

    fn there(
        &self,
        context: &Context<'_>,
        record: &InvoiceRecord,
        (): &(),
        _: Proof,
    ) -> Stepped<InvoiceRecord, Event> {
        let confirmed = advance(InvoiceEffect::Note, context, record, EffectEvent::Confirmed)?;
        // The invoice may have moved on while this note was on its way.
        Ok(noted(confirmed, self.outcomes, context.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::draft;
    use domain::lifecycle::Voucher;

    fn document(description: &str, total: i64) -> QadDocument {
        QadDocument {
            voucher: Some(Voucher {
                year: 2026,
                daybook: "SI".into(),
                number: 4,
            }),
            identity: draft().identity,
            currency: "USD".parse().unwrap(),
            total: Decimal::from(total),
            description: description.into(),
        }
    }

    fn code(finding: Finding<QadDocument>) -> String {
        match finding {
            Finding::Nothing => "nothing".into(),
            Finding::There { adopted: false, .. } => "ours".into(),
            Finding::There { adopted: true, .. } => "adopted".into(),
            Finding::Park { problem, .. } => problem.code,
            Finding::Unclear(problem) => format!("unclear {}", problem.code),
        }
    }

    #[test]
    fn what_qad_shows_is_judged_by_mark_amount_and_number() {
        let judge = |documents| code(judge_documents(&Wanted::by(&draft()), documents, true));
        assert_eq!(judge(vec![]), "nothing");
        assert_eq!(judge(vec![document("Coupa 12", 100)]), "ours");
        assert_eq!(judge(vec![document(" Coupa 12 / keyed", 100)]), "ours");
        assert_eq!(judge(vec![document("Coupa 12", 101)]), "QAD_DOCUMENT_DIFFERS");
        assert_eq!(judge(vec![document("Coupa 123", 100)]), "DUPLICATE_REFERENCE");
        // Another instance's invoice of the same number.
        assert_eq!(
            judge(vec![document("Coupa other/12", 100)]),
            "DUPLICATE_REFERENCE"
        );
        assert_eq!(judge(vec![document("March bill", 100)]), "adopted");
        assert_eq!(judge(vec![document("March bill", 99)]), "QAD_DOCUMENT_FOREIGN");
        assert_eq!(
            judge(vec![document("Coupa 12", 100), document("x", 100)]),
            "QAD_DUPLICATE_DOCUMENTS"
        );
        let unnumbered = QadDocument {
            voucher: None,
            ..document("Coupa 12", 100)
        };
        assert_eq!(judge(vec![unnumbered]), "unclear QAD_DOCUMENT_WITHOUT_NUMBER");
        assert_eq!(
            code(judge_documents(
                &Wanted::by(&draft()),
                vec![document("x", 100)],
                false
            )),
            "QAD_DOCUMENT_FOREIGN"
        );
    }

    #[test]
    fn what_qad_rounds_otherwise_is_ours_all_the_same_and_a_cent_more_is_not() {
        let judge = |description: &str, total: &str| {
            let document = QadDocument {
                total: total.parse().unwrap(),
                ..document(description, 100)
            };
            code(judge_documents(&Wanted::by(&draft()), vec![document], true))
        };
        for total in ["100.02", "99.98"] {
            assert_eq!(judge("Coupa 12", total), "ours", "{total}");
            assert_eq!(judge("March bill", total), "QAD_DOCUMENT_FOREIGN", "{total}");
        }
        for total in ["100.03", "99.97"] {
            assert_eq!(judge("Coupa 12", total), "QAD_DOCUMENT_DIFFERS", "{total}");
        }
    }

    #[test]
    fn a_bill_released_beside_last_years_is_not_taken_for_it() {
        let mut twin = draft();
        twin.is_twin = true;
        let judge = |documents| code(judge_documents(&Wanted::by(&twin), documents, true));
        let of_last_year = |description: &str| {
            let mut document = document(description, 100);
            document.voucher.as_mut().unwrap().year = 2025;
            document
        };
        assert_eq!(judge(vec![of_last_year("Coupa 11")]), "nothing");
        assert_eq!(
            judge(vec![of_last_year("keyed"), document("Coupa 12", 100)]),
            "ours"
        );
        assert_eq!(judge(vec![document("Coupa 11", 100)]), "DUPLICATE_REFERENCE");
        let unnumbered = QadDocument {
            voucher: None,
            ..document("keyed", 100)
        };
        assert_eq!(judge(vec![unnumbered]), "unclear QAD_DOCUMENT_WITHOUT_NUMBER");
        let of_last_year = judge_documents(&Wanted::by(&draft()), vec![of_last_year("Coupa 11")], true);
        assert_eq!(
            code(of_last_year),
            "DUPLICATE_REFERENCE",
            "nobody has released it"
        );
    }

    #[test]
    fn a_request_that_was_altered_is_never_sent() {
        let request = serde_json::to_string(&draft()).unwrap();
        let mut effect = new_effect(
            "k".into(),
            Repetition::OnlyAfterLookUp,
            request.clone(),
            Timestamp(0),
            None,
        );
        assert_eq!(draft_of(&effect).unwrap(), draft());
        effect.request = request.replace("100", "900");
        assert_eq!(draft_of(&effect).unwrap_err().code, "REQUEST_ALTERED");
    }

    #[test]
    fn a_request_has_a_new_idempotency_key_once_the_same_one_has_ended_and_its_old_one_after_a_lost_answer() {
        let next = |request: &str, earlier: &Effect| {
            new_effect(
                "k".into(),
                Repetition::Harmless,
                request.into(),
                Timestamp(1),
                Some(earlier),
            )
        };
        let mut first = new_effect("k".into(), Repetition::Harmless, "off".into(), Timestamp(0), None);
        for ended in [EffectStatus::Done, EffectStatus::Rejected, EffectStatus::Parked] {
            first.status = ended;
            let mut on = next("on", &first);
            on.status = EffectStatus::Done;
            let off = next("off", &on);
            let keys = [&first, &on, &off].map(|effect| effect.idempotency_key.as_str());
            assert!(
                keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2],
                "{keys:?}"
            );
            assert_ne!(
                next("off", &first).idempotency_key,
                first.idempotency_key,
                "{ended:?}"
            );
        }
        first.status = EffectStatus::Withdrawn;
        assert_eq!(next("off", &first).idempotency_key, first.idempotency_key);
        assert_ne!(next("on", &first).idempotency_key, first.idempotency_key);
    }
}
