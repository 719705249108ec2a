//! Goods are never credited for more than what was billed: all credit notes of goods that name an invoice, in whatever order
//! they come. What is credited of a price, or for another reason, takes nothing of them.

use super::{Exception, ExceptionCode, MatchInput, exact, of_document, out_of_range, text};
use crate::guards::{Guard, stands};
use crate::ids::DocumentKind;
use crate::money::Currency;
use rust_decimal::Decimal;

/// The invoice that a credit note names, and what other credit notes that name it have credited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credited {
    /// What the invoice bills, with taxes.
    pub billed: Decimal,
    /// Its currency.
    pub currency: Currency,
    /// What others credit of it: those in QAD, on their way, or perhaps there. Not negative.
    pub by_others: Decimal,
}

/// What is in the way of a credit note with which more would be credited of an invoice than it has billed.
pub(super) fn check(input: &MatchInput<'_>) -> Option<Exception> {
    let (invoice, credited) = (input.invoice, input.credited?);
    if invoice.kind != DocumentKind::CreditNote
        || !invoice.credits_goods()
        || !stands(Guard::CreditsWithinBilled)
    {
        return None;
    }
    let number = invoice.original_reference.as_deref().unwrap_or_default();
    let shown = |amount| text::money(amount, credited.currency);
    let over = |expected, actual| Some(of_document(ExceptionCode::CreditedOverBilled, expected, actual));
    if credited.currency != invoice.currency {
        return over(
            format!(
                "a credit in {}, as invoice {number} was billed",
                credited.currency
            ),
            format!("it credits {}", invoice.currency),
        );
    }
    let Some(all) = exact::subtract(credited.by_others, invoice.rounded(invoice.total)) else {
        return Some(out_of_range(format!("credits of invoice {number}")));
    };
    if all <= credited.billed {
        return None;
    }
    over(
        format!("at most the {} of invoice {number}", shown(credited.billed)),
        format!(
            "with it {} would be credited, {} of them by other credit notes",
            shown(all),
            shown(credited.by_others)
        ),
    )
}
