//! Looking once more for what was given up.
//!
//! A creation whose answer was lost is given up when a look-up after the settle window finds nothing of it. That rests on an
//! assumption about QAD, how late it commits, and nobody would notice if it were wrong: the invoice is created anew, and what
//! is exported is never looked up again (seen). So the register keeps what was given up, and it is looked for an hour and a
//! day later. What has come after all is told to a person.

use crate::engine::not_before;
use crate::invoice_effects::{draft_in, name};
use crate::match_invoice::{Deps, change_to, not_configured};
use crate::ports::{CommitError, QadDocument, ReadError};
use crate::store::{Change, FlowError, Loaded, impossible, save};
use domain::effect::EffectEvent;
use domain::ids::QadInvoiceIdentity;
use domain::lifecycle::{Event, InvoiceEffect, InvoiceRecord, ParkReason, Voucher};
use domain::mark::Mark;
use domain::matching::SupplierInvoiceDraft;
use domain::problem::Problem;

/// Looks for what was given up, if that is due. `None` when something was stored, or somebody else was faster: then the record
/// is to be read again.
pub(crate) async fn run(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
) -> Result<Option<Loaded<InvoiceRecord>>, FlowError> {
    let context = &deps.context;
    let record = &loaded.document;
    let is_due = record
        .verification_due()
        .is_some_and(|due| due <= context.clock.now());
    let Some(effect) = record.creation.as_ref().filter(|_| is_due) else {
        return Ok(Some(loaded));
    };
    let Some(doubt) = effect.doubt(context.clock.now()) else {
        return Ok(Some(loaded));
    };
    if !context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    // The others' first look at Coupa does not wait for this one at QAD.
    deps.reads.first_look.leave();
    let key = doubt.key.clone();
    let sent = doubt.request.as_ref().unwrap_or(&effect.request);
    let draft = draft_in(sent).map_err(FlowError::Broken)?;
    let found = match deps.within(&draft.identity.entity) {
        Some(within) => within.qad.find_invoices(&draft.identity).await,
        None => Err(ReadError::Refused(not_configured(&draft.identity.entity))),
    };
    let known = record.state.voucher().filter(|_| doubt.request.is_none());
    let change = match found.map(|documents| come_late(&draft, known, documents)) {
        Err(error) => {
            let event = EffectEvent::VerificationFailed {
                key,
                not_before: not_before(context, effect, error.retry_after()),
                problem: error.problem().clone(),
            };
            looked(deps, record, event)?
        }
        Ok(None) => looked(deps, record, EffectEvent::Verified { key })?,
        Ok(Some(late)) => {
            let looked = looked(deps, record, EffectEvent::FoundLate { key })?;
            let reason = ParkReason::InQad {
                problem: late.problem,
                voucher: record.state.voucher().cloned().or(late.voucher),
            };
            let mut parked = change_to(deps, &looked.document, Event::Parked { reason })?;
            parked.events.splice(0..0, looked.events);
            // A person who has it already is told anew.
            parked.document.since = context.clock.now();
            parked
        }
    };
    match save(context, loaded.revision, change).await {
        Ok(_) => Ok(None),
        Err(CommitError::Conflict) => {
            context.pause(1).await;
            Ok(None)
        }
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

fn looked(
    deps: &Deps<'_>,
    record: &InvoiceRecord,
    event: EffectEvent,
) -> Result<Change<InvoiceRecord, Event>, FlowError> {
    let (now, timing) = (deps.context.clock.now(), deps.context.timing);
    let (document, told) = InvoiceEffect::Creation
        .advance(record, event, now, timing)
        .map_err(impossible)?;
    Ok(Change {
        document,
        events: vec![told],
        writes: vec![],
    })
}

/// What has come of an attempt that was given up.
struct Late {
    problem: Problem,
    voucher: Option<Voucher>,
}

/// Whether QAD's documents of an identity show that something has come of an attempt that was given up. `known` is the number
/// of the invoice's own document under this identity, when it has one.
fn come_late(
    draft: &SupplierInvoiceDraft,
    known: Option<&Voucher>,
    documents: Vec<QadDocument>,
) -> Option<Late> {
    let is_ours = |document: &&QadDocument| {
        let mark = Mark::read(&document.description);
        mark.is_some_and(|mark| mark.is_of(&draft.coupa_instance, draft.coupa_id))
    };
    let late = documents
        .iter()
        .filter(is_ours)
        .find(|document| known.is_none() || document.voucher.as_ref() != known);
    let problem = duplicates(&draft.identity, known, &documents).or_else(|| {
        late.map(|_| {
            let fix = "Reverse it in QAD, unless it shall stand in place of what became of the invoice; raise \
                       CommitLatenessSeconds.";
            told("QAD_DOCUMENT_LATE", fix, &draft.identity, known, &documents)
        })
    })?;
    Some(Late {
        problem,
        voucher: late.and_then(|document| document.voucher.clone()),
    })
}

/// What a person is told when QAD holds several documents of one identity; `known` is the number of the invoice's own.
pub(crate) fn duplicates(
    identity: &QadInvoiceIdentity,
    known: Option<&Voucher>,
    documents: &[QadDocument],
) -> Option<Problem> {
    let fix = "Find out which one is right and reverse the others in QAD.";
    (documents.len() > 1).then(|| told("QAD_DUPLICATE_DOCUMENTS", fix, identity, known, documents))
}

fn told(
    code: &str,
    fix: &str,
    identity: &QadInvoiceIdentity,
    known: Option<&Voucher>,
    documents: &[QadDocument],
) -> Problem {
    let names: Vec<String> = documents.iter().map(name).collect();
    let expected = known.map_or_else(|| "no document".to_owned(), |known| format!("{known} alone"));
    Problem::new(code, fix)
        .field(identity.to_string())
        .expected(expected)
        .actual(names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::draft;
    use rust_decimal::Decimal;

    fn voucher(number: u64) -> Voucher {
        Voucher {
            year: 2026,
            daybook: "SI".into(),
            number,
        }
    }

    fn document(number: u64, description: &str) -> QadDocument {
        QadDocument {
            voucher: Some(voucher(number)),
            identity: draft().identity,
            currency: "USD".parse().unwrap(),
            total: Decimal::ONE_HUNDRED,
            description: description.into(),
        }
    }

    fn found(known: Option<u64>, documents: Vec<QadDocument>) -> Option<(String, Option<u64>)> {
        let known = known.map(voucher);
        come_late(&draft(), known.as_ref(), documents)
            .map(|late| (late.problem.code, late.voucher.map(|voucher| voucher.number)))
    }

    #[test]
    fn a_document_beside_the_invoices_own_and_one_that_nobody_expects_are_told() {
        let ours = |number| document(number, "Coupa 12");
        assert_eq!(found(Some(4), vec![ours(4)]), None, "its own");
        assert_eq!(found(Some(4), vec![]), None, "a person has reversed it");
        assert_eq!(found(None, vec![]), None);
        assert_eq!(found(None, vec![document(4, "March bill")]), None, "a clerk's");
        assert_eq!(
            found(Some(4), vec![document(4, "March bill")]),
            None,
            "a clerk's, adopted"
        );
        let twice = Some(("QAD_DUPLICATE_DOCUMENTS".to_owned(), Some(5)));
        assert_eq!(found(Some(4), vec![ours(4), ours(5)]), twice);
        assert_eq!(found(Some(4), vec![document(4, "March bill"), ours(5)]), twice);
        let late = Some(("QAD_DOCUMENT_LATE".to_owned(), Some(5)));
        assert_eq!(
            found(Some(4), vec![ours(5)]),
            late,
            "its own is gone, and the late one is there"
        );
        assert_eq!(
            found(None, vec![ours(5)]),
            late,
            "nothing was made of it after all"
        );
    }
}
