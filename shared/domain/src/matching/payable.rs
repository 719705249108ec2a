//! Whether QAD is to pay an invoice at all, and to whom. Decided before it is posted, and for invoices alone: a credit note
//! lowers what is owed whoever pays.

use super::{Exception, ExceptionCode, MatchInput, of_document, text};
use crate::documents::{Invoice, InvoiceTerms, RemitTo};
use crate::ids::{DocumentKind, fold};
use crate::policy::{NotPayable, OnNotPayable, OnUnknownRemitTo, Payee};

/// What the flags of an invoice come to.
#[derive(Debug, Default)]
pub(super) struct Payable {
    /// Reasons for a person.
    pub(super) exceptions: Vec<Exception>,
    /// True when it is posted so that no payment run takes it.
    pub(super) locked: bool,
}

/// Decides about everything that says that QAD does not pay it. All that apply are told.
pub(super) fn check(input: &MatchInput<'_>) -> Payable {
    let mut payable = Payable::default();
    if input.invoice.kind == DocumentKind::CreditNote {
        return payable;
    }
    let policy = &input.policy.not_payable;
    for (code, on, actual) in flags(input.invoice, policy) {
        match on {
            OnNotPayable::Post => {}
            OnNotPayable::PostLocked => payable.locked = true,
            OnNotPayable::Park => {
                payable
                    .exceptions
                    .push(of_document(code, "an invoice that QAD is to pay", actual));
            }
        }
    }
    payable
}

fn flags(invoice: &Invoice, policy: &NotPayable) -> Vec<(ExceptionCode, OnNotPayable, String)> {
    let InvoiceTerms {
        canceled,
        paid,
        payment_channel,
        advance_received,
        agreement_notes,
        ..
    } = &invoice.terms;
    let mut found = Vec::new();
    if *canceled {
        let actual = "canceled in Coupa: no payment is needed".to_owned();
        found.push((ExceptionCode::CanceledInCoupa, policy.when_canceled, actual));
    }
    if *paid {
        let actual = "marked as paid in Coupa".to_owned();
        found.push((ExceptionCode::PaidElsewhere, policy.when_paid, actual));
    }
    let other_channel = payment_channel
        .as_ref()
        .filter(|word| !policy.own_channels.iter().any(|own| fold(own) == fold(word)));
    if let Some(word) = other_channel {
        let actual = format!("payment channel {word}");
        found.push((ExceptionCode::PaidElsewhere, policy.when_other_channel, actual));
    }
    if let Some(amount) = advance_received {
        let actual = format!("{} paid in advance", text::money(*amount, invoice.currency));
        found.push((ExceptionCode::Prepaid, policy.when_prepaid, actual));
    }
    if let Some(notes) = agreement_notes
        .as_ref()
        .filter(|notes| says_paid(notes, &policy.prepaid_words))
    {
        let actual = format!("payment agreement {notes:?}");
        found.push((ExceptionCode::Prepaid, policy.when_prepaid, actual));
    }
    found
}

/// Whether a text says that the invoice is paid: one of the words stands in it as a whole word, and neither "not", "un" nor
/// "to be" stands before it.
fn says_paid(text: &str, words: &[String]) -> bool {
    let split = |text: &str| -> Vec<String> {
        text.split(|letter: char| !letter.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect()
    };
    let tokens = split(text);
    let denied = |before: &[String]| match before {
        [.., first, second] if first == "to" && second == "be" => true,
        [.., last] => last == "not" || last == "un",
        [] => false,
    };
    words.iter().any(|phrase| {
        let phrase = split(phrase);
        !phrase.is_empty()
            && (0..tokens.len()).any(|at| {
                let (before, from) = tokens.split_at(at);
                from.starts_with(&phrase) && !denied(before)
            })
    })
}

/// Whom QAD pays, where the invoice says so; `Err` when its address leads to nobody that is configured.
pub(super) fn payee(input: &MatchInput<'_>) -> Result<Option<Payee>, Exception> {
    let Some(RemitTo { code, reference }) = &input.invoice.terms.remit_to else {
        return Ok(None);
    };
    let policy = &input.policy.remit_to;
    let Some(reference) = reference else {
        // Without a reference only a code that is listed says something.
        return Ok(code
            .as_deref()
            .and_then(|code| super::lines::find_folded(&policy.codes, code))
            .cloned());
    };
    let supplier = &input.invoice.supplier;
    let mut own = supplier.number.iter().chain(&supplier.also);
    if own.any(|own| crate::reference::fold(own) == crate::reference::fold(reference)) {
        return Ok(None);
    }
    match super::lines::find_folded(&policy.codes, reference) {
        Some(payee) => Ok(Some(payee.clone())),
        None if policy.unknown == OnUnknownRemitTo::Ignore => Ok(None),
        None => Err(of_document(
            ExceptionCode::RemitToNotMapped,
            "an address of the supplier itself, or one that is in invoices.remit_to.codes",
            format!("remit-to reference {reference:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_paid_only_as_a_whole_word_that_nobody_denies() {
        let words = ["paid".to_owned()];
        for note in [
            "Paid by card",
            "PAID",
            "already paid, see order",
            "Prepayment: paid.",
            "not sure, but paid",
        ] {
            assert!(says_paid(note, &words), "{note}");
        }
        for note in [
            "unpaid",
            "un-paid",
            "not paid",
            "to be paid on 1 May",
            "TO BE PAID",
            "prepaid card number",
            "payable",
            "",
        ] {
            assert!(!says_paid(note, &words), "{note}");
        }
        assert!(!says_paid("paid", &[]));
        assert!(says_paid("settled in cash", &["settled in".to_owned()]));
    }
}
