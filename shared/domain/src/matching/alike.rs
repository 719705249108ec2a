//! The same bill under a number that only looks like another one: a person decides.

use super::{Exception, ExceptionCode, MatchInput, of_document};
use crate::documents::Invoice;
use crate::ids::{EntityCode, Holder, InvoiceId, InvoiceReference, SupplierCode};
use crate::reference::near;
use crate::time::Date;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Longest time between the dates of two bills that may be one: 180 days.
pub const NEAR_MAX: SignedDuration = SignedDuration::from_hours(180 * 24);

/// Another bill of ours, of the same supplier, total and currency, whose number has the same letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillAlike {
    /// Whose it is.
    pub invoice: InvoiceId,
    /// The entity that records it.
    pub entity: EntityCode,
    /// Its number.
    pub reference: InvoiceReference,
    /// Its date.
    pub invoice_date: Date,
}

impl BillAlike {
    /// True when it may be the same bill as this invoice of this entity. An equal number in the same entity is more than near:
    /// the claim on the identity is asked about that.
    pub fn is_near(&self, invoice: &Invoice, entity: &EntityCode) -> bool {
        let apart = self.invoice_date.duration_since(invoice.invoice_date).abs();
        let is_equal = self.reference == invoice.reference && self.entity == *entity;
        let number = near(self.reference.as_str());
        self.invoice != invoice.id
            && !is_equal
            && apart <= NEAR_MAX
            && number.is_some()
            && number == near(invoice.reference.as_str())
    }
}

/// Another invoice of ours that has the identity of this one in QAD: the same entity, supplier, kind and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameNumber {
    /// Whose it is.
    pub invoice: Holder,
    /// The year that it is posted in; `None` as long as QAD has given it no number.
    pub posted_in: Option<u32>,
}

/// Two invoices of a supplier with one number: the same bill, unless QAD, which counts by year, has the other one in another
/// year than `posting_date`'s; then a person says which it is.
pub(super) fn check_number(input: &MatchInput<'_>, posting_date: Date) -> Option<Exception> {
    let other = input.same_number?;
    let year = u32::try_from(posting_date.year()).ok();
    let has_it = format!("Coupa invoice {} has it", other.invoice);
    Some(match other.posted_in {
        Some(posted_in) if year != Some(posted_in) => of_document(
            ExceptionCode::DuplicateReferenceOtherYear,
            format!(
                "no other invoice with this reference; this one is of {}",
                posting_date.year()
            ),
            format!("{has_it}, posted in {posted_in}"),
        ),
        _ => of_document(
            ExceptionCode::DuplicateReference,
            "no other invoice with this reference",
            has_it,
        ),
    })
}

/// Under which texts a bill is found by those that may be the same: by supplier (Coupa's, which has a code of its own in each
/// shared set, and QAD's code), kind, currency, total and what is compared of the number. None for a number that is near to
/// nothing.
pub fn near_texts(invoice: &Invoice, supplier: &SupplierCode) -> Vec<String> {
    let Some(number) = near(invoice.reference.as_str()) else {
        return Vec::new();
    };
    let of_coupa = invoice.supplier.coupa_id.map(|id| format!("coupa:{id}"));
    let of_qad = format!("qad:{}", supplier.folded());
    let total = invoice.total.normalize();
    of_coupa
        .into_iter()
        .chain([of_qad])
        .map(|whose| {
            // A length in front of what may hold any letter: no two can spell the same text.
            let length = whose.chars().count();
            format!(
                "{length}:{whose}/{}/{}/{total}/{number}",
                invoice.kind, invoice.currency
            )
        })
        .collect()
}

/// One exception for each bill that may be the same.
pub(super) fn check(input: &MatchInput<'_>) -> impl Iterator<Item = Exception> {
    let found = input
        .alike
        .iter()
        .filter(|other| other.is_near(input.invoice, &input.policy.entity));
    found.map(|other| {
        of_document(
            ExceptionCode::NearDuplicate,
            "no other bill of this supplier and amount whose number has the same letters and digits",
            format!(
                "Coupa invoice {} with number {} of {} in entity {}",
                other.invoice, other.reference, other.invoice_date, other.entity
            ),
        )
    })
}
