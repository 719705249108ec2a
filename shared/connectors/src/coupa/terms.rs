//! What a Coupa invoice says about its payment: whether anybody pays it, who, and to whom.

use crate::json::{Misread, Node};
use domain::documents::{InvoiceTerms, RemitTo};
use domain::money::{Currency, MINOR_DIGITS_MAX};
use rust_decimal::Decimal;

/// Reads the terms; what Coupa leaves out says nothing.
pub(super) fn terms(root: &Node<'_>, currency: Currency) -> Result<InvoiceTerms, Misread> {
    let address = root.get("remit-to-address");
    let remit_to = RemitTo {
        code: address.get("remit-to-code").text()?,
        reference: address.get("external-src-ref").text()?,
    };
    Ok(InvoiceTerms {
        minor_digits: minor_digits(&root.get("currency").get("decimals"), currency)?,
        stated: None,
        withheld: super::amounts::withheld(root)?,
        canceled: root.get("canceled").flag()?.unwrap_or(false),
        paid: root.get("paid").flag()?.unwrap_or(false),
        payment_channel: root.get("payment-channel").text()?,
        advance_received: root
            .get("advance-payment-received-amount")
            .amount()?
            .filter(|amount| *amount > Decimal::ZERO),
        agreement_notes: root.get("payment-agreement-notes").text()?,
        remit_to: (!remit_to.is_empty()).then_some(remit_to),
        tax_rows: super::amounts::tax_rows(root)?,
    })
}

/// Coupa's own count of digits, when it is another than ISO's.
fn minor_digits(field: &Node<'_>, currency: Currency) -> Result<Option<u32>, Misread> {
    let Some(digits) = field.whole()? else {
        return Ok(None);
    };
    let digits = u32::try_from(digits)
        .ok()
        .filter(|digits| *digits <= MINOR_DIGITS_MAX);
    let digits = digits.ok_or_else(|| field.misread(format!("at most {MINOR_DIGITS_MAX} digits")))?;
    Ok((digits != currency.minor_digits()).then_some(digits))
}
