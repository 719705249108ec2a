//! Settings about invoices that QAD is not to pay, and about whom it pays.

use super::invalid;
use domain::ids::SupplierCode;
use domain::policy::{NotPayable, OnNotPayable, OnUnknownRemitTo, Payee, RemitToPolicy};
use domain::problem::Problem;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most words that mean paid.
const PREPAID_WORDS_MAX: usize = 50;

/// The part of the section `invoices` that says what is done with an invoice that somebody else pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotPayableDocument {
    pub(super) when_canceled: OnNotPayable,
    pub(super) when_paid: OnNotPayable,
    pub(super) when_other_channel: OnNotPayable,
    pub(super) when_prepaid: OnNotPayable,
    pub(super) prepaid_words: Vec<String>,
    pub(super) locked_status_code: String,
}

impl NotPayableDocument {
    /// The settings. What is posted locked needs the status that locks it.
    pub(super) fn settings(self, problems: &mut Vec<Problem>) -> NotPayable {
        for (name, on) in [
            ("when_canceled", self.when_canceled),
            ("when_paid", self.when_paid),
            ("when_other_channel", self.when_other_channel),
            ("when_prepaid", self.when_prepaid),
        ] {
            if on == OnNotPayable::PostLocked && self.locked_status_code.trim().is_empty() {
                problems.push(invalid(
                    "invoices.locked_status_code",
                    format!("the QAD status code that no payment run takes, because invoices.{name} is \"post-locked\""),
                    "nothing",
                ));
            }
        }
        if self
            .prepaid_words
            .iter()
            .any(|word| !word.chars().any(char::is_alphanumeric))
        {
            problems.push(invalid("invoices.prepaid_words", "words", "one without a letter"));
        }
        if self.prepaid_words.len() > PREPAID_WORDS_MAX {
            let actual = self.prepaid_words.len().to_string();
            problems.push(invalid(
                "invoices.prepaid_words",
                format!("at most {PREPAID_WORDS_MAX} words"),
                actual,
            ));
        }
        NotPayable {
            when_canceled: self.when_canceled,
            when_paid: self.when_paid,
            when_other_channel: self.when_other_channel,
            when_prepaid: self.when_prepaid,
            prepaid_words: self.prepaid_words,
            own_channels: NotPayable::default().own_channels,
            locked_status: self.locked_status_code.trim().to_owned(),
        }
    }
}

/// The section `invoices.remit_to`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RemitToDocument {
    codes: BTreeMap<String, PayeeDocument>,
    unknown: OnUnknownRemitTo,
}

/// Whom QAD pays: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct PayeeDocument {
    bank_number: Option<String>,
    paying_supplier_code: Option<SupplierCode>,
}

impl RemitToDocument {
    /// The settings.
    pub(super) fn settings(self, problems: &mut Vec<Problem>) -> RemitToPolicy {
        let mut codes = BTreeMap::new();
        for (code, payee) in self.codes {
            let field = format!("invoices.remit_to.codes.{code}");
            let bank = payee.bank_number.filter(|number| !number.trim().is_empty());
            match (bank, payee.paying_supplier_code) {
                (Some(number), None) => {
                    codes.insert(code, Payee::BankNumber(number.trim().to_owned()));
                }
                (None, Some(supplier)) => {
                    codes.insert(code, Payee::PayingSupplier(supplier));
                }
                (Some(_), Some(_)) => problems.push(invalid(
                    &field,
                    "bank_number or paying_supplier_code",
                    "both bank_number and paying_supplier_code",
                )),
                (None, None) => {
                    problems.push(invalid(&field, "bank_number or paying_supplier_code", "neither"));
                }
            }
        }
        RemitToPolicy {
            codes,
            unknown: self.unknown,
        }
    }
}
