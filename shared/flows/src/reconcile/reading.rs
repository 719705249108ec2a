//! What is read of QAD to compare it, and the comparison of one invoice: the same for the daily run and for a person's.

use crate::bills::bill_key;
use crate::poll_coupa::PollError;
use crate::poll_payments;
use crate::ports::{Qad, QadDocument, QadPayments, ReadError, RecordKey, Register};
use crate::store::{FlowError, invoice_audit_name, load};
use crate::watermark::{self, Scope};
use domain::documents::CoupaStatus;
use domain::ids::{EntityCode, QadInvoiceIdentity};
use domain::lifecycle::{Event, InvoiceRecord};
use domain::payments::{Allocation, BillPayments, PaymentPolicy, StatusMeaning};
use domain::reconcile::{Difference, Kind, identity_of, judge, with_people};
use domain::time::Date;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The books of one entity.
#[derive(Clone, Copy)]
pub struct Books<'a> {
    /// Whose.
    pub entity: &'a EntityCode,
    /// QAD, as this entity sees it: find supplier invoices.
    pub qad: &'a dyn Qad,
    /// The same: read payments.
    pub payments: &'a dyn QadPayments,
}

impl<'a> Books<'a> {
    /// An entity's, and QAD as it sees it.
    pub fn of<Q: Qad + QadPayments>((entity, qad): (&'a EntityCode, &'a Q)) -> Self {
        Self {
            entity,
            qad,
            payments: qad,
        }
    }
}

/// The books in which the documents of an invoice are: its own entity's, or the first one's where it was decided before there
/// were several. `None` where its entity is none of the connection's any more.
pub fn books_of<'b, 'a>(books: &'b [Books<'a>], record: &InvoiceRecord) -> Option<&'b Books<'a>> {
    match &record.entity {
        Some(own) => books.iter().find(|books| books.entity == own),
        None => books.first(),
    }
}

/// What QAD holds under the identity of an invoice; `None` where its books cannot be asked.
///
/// # Errors
/// QAD gave no answer.
pub async fn documents_of(
    books: &[Books<'_>],
    record: &InvoiceRecord,
) -> Result<Option<Vec<QadDocument>>, ReadError> {
    let Some(books) = books_of(books, record) else {
        return Ok(None);
    };
    match identity_of(books.entity, record) {
        Some(identity) => books.qad.find_invoices(&identity).await.map(Some),
        // Without a supplier in QAD there can be nothing of it there.
        None => Ok(Some(Vec::new())),
    }
}

/// What one invoice differs in. What nothing explains is looked up once more, for it may have moved on between the two
/// readings: only what stays is told.
///
/// # Errors
/// QAD or the register gave no answer.
pub async fn judge_invoice(
    register: &dyn Register,
    books: &[Books<'_>],
    record: &InvoiceRecord,
    documents: &[QadDocument],
    listed: Option<&CoupaStatus>,
) -> Result<Vec<Difference>, PollError> {
    let found = judge_with_people(register, record, documents, listed).await?;
    if found.iter().all(|difference| difference.explained) {
        return Ok(found);
    }
    let Some(again) = load::<InvoiceRecord>(register, RecordKey::Invoice(record.id)).await? else {
        return Ok(found);
    };
    let Some(documents) = documents_of(books, &again.document).await? else {
        return Ok(found);
    };
    let listed = listed.filter(|_| again.document == *record);
    Ok(judge_with_people(register, &again.document, &documents, listed).await?)
}

async fn judge_with_people(
    register: &dyn Register,
    record: &InvoiceRecord,
    documents: &[QadDocument],
    listed: Option<&CoupaStatus>,
) -> Result<Vec<Difference>, FlowError> {
    let found = judge(record, documents, listed);
    let differs = |found: &Difference| found.kind == Kind::AmountDiffers;
    if !found.iter().any(differs) {
        return Ok(found);
    }
    let entries = register.audit(&invoice_audit_name(record.id)).await?;
    let events: Vec<Event> = entries
        .iter()
        .filter_map(|entry| serde_json::from_str::<Vec<Event>>(&entry.events).ok())
        .flatten()
        .collect();
    Ok(with_people(found, documents, &events))
}

/// What of an invoice's payments Coupa does not show.
///
/// # Errors
/// The register gave no answer.
pub async fn judge_payment(
    register: &dyn Register,
    record: &InvoiceRecord,
    paid: &[Allocation],
) -> Result<Option<Difference>, FlowError> {
    let bill = load::<BillPayments>(register, bill_key(record.id)).await?;
    let bill = bill.as_ref().map(|bill| &bill.document);
    Ok(domain::reconcile::judge_payment(record, bill, paid))
}

/// What makes an invoice one in QAD, however its codes are written.
type Folded = (String, String, String, String);

fn folded(identity: &QadInvoiceIdentity) -> Folded {
    (
        identity.entity.folded(),
        identity.supplier.folded(),
        identity.reference.folded(),
        identity.kind.to_string(),
    )
}

/// What QAD has paid, by invoice.
#[derive(Debug, Default)]
pub struct Paid(BTreeMap<Folded, Vec<Allocation>>);

impl Paid {
    /// What was paid of an invoice; `None` for nothing.
    pub fn of(&self, books: &[Books<'_>], record: &InvoiceRecord) -> Option<&[Allocation]> {
        let identity = identity_of(books_of(books, record)?.entity, record)?;
        self.0.get(&folded(&identity)).map(Vec::as_slice)
    }
}

/// What QAD has paid of our invoices, by the days on which the payments last changed.
///
/// # Errors
/// QAD gave no answer.
pub async fn paid_between(
    books: &[&dyn QadPayments],
    policy: &PaymentPolicy,
    since: Date,
    until: Option<Date>,
) -> Result<Paid, ReadError> {
    let mut paid = Paid::default();
    // One entity may pay for another: both may show the payment.
    let mut seen = BTreeSet::new();
    for qad in books {
        for allocation in qad.payments_since(since).await?.allocations {
            let counts = policy.meaning_of(&allocation.status) == StatusMeaning::Counts
                && until.is_none_or(|until| allocation.last_modified <= until);
            if counts && seen.insert(allocation.key.clone()) {
                let of_invoice = paid.0.entry(folded(&allocation.invoice)).or_default();
                of_invoice.push(allocation);
            }
        }
    }
    Ok(paid)
}

/// Whether the payments of these books have ever been polled: who does not want them in Coupa is not told that they are missing.
pub(super) async fn is_followed(
    register: &dyn Register,
    all: &[Books<'_>],
    books: &Books<'_>,
) -> Result<bool, FlowError> {
    let scope = if all.len() < 2 {
        Scope::Whole
    } else {
        Scope::Part {
            code: books.entity.folded(),
            first: all.first().is_some_and(|first| first.entity == books.entity),
        }
    };
    let stored = watermark::load_within::<Value>(register, poll_payments::WATERMARK, &scope).await?;
    Ok(stored.watermark.is_some())
}
