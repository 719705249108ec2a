//! The parallel run: what would have been posted, against what was keyed in QAD meanwhile.
//!
//! Nothing is forgiven: an amount that differs by a cent differs. What QAD does not show is named as not compared, never taken
//! for equal.

use crate::documents::Receipt;
use crate::ids::{InvoiceId, OrderLineKey, QadInvoiceIdentity, ReceiverNumber, fold};
use crate::lifecycle::Voucher;
use crate::mark::Mark;
use crate::matching::{AdditionalCost, ReceiverMatch, SupplierInvoiceDraft};
use crate::money::Currency;
use crate::time::Date;
use rust_decimal::Decimal;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A supplier invoice in QAD with all that QAD shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedInvoice {
    /// Its number, once it has one.
    pub voucher: Option<Voucher>,
    /// Its identity.
    pub identity: QadInvoiceIdentity,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Total with taxes, signed.
    pub total: Decimal,
    /// Its description; begins with our mark when it is ours.
    pub description: String,
    /// Invoice date.
    pub invoice_date: Option<Date>,
    /// Posting date.
    pub posting_date: Option<Date>,
    /// Taxes, signed.
    pub tax: Option<Decimal>,
    /// Credit terms; empty where the document has none.
    pub credit_terms: Option<String>,
    /// The receivers, with quantities signed as we sign.
    pub matches: Option<Vec<ReceiverMatch>>,
    /// What is on no receiver.
    pub costs: Option<Vec<AdditionalCost>>,
}

impl KeyedInvoice {
    /// Its number, for people.
    pub fn number(&self) -> String {
        let number = self.voucher.as_ref().map(ToString::to_string);
        number.unwrap_or_else(|| "without number".to_owned())
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// How many documents QAD has of the one bill.
    Documents,
    /// Whose it is.
    Entity,
    /// The supplier.
    Supplier,
    /// The supplier's own number.
    Reference,
    /// Invoice date.
    InvoiceDate,
    /// Posting date.
    PostingDate,
    /// Currency.
    Currency,
    /// Total with taxes.
    Total,
    /// Taxes.
    Tax,
    /// Credit terms.
    CreditTerms,
    /// One receiver line.
    Receiver,
    /// One account.
    AdditionalCost,
}

impl Field {
    /// Its name, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Documents => "documents",
            Self::Entity => "entity",
            Self::Supplier => "supplier",
            Self::Reference => "reference",
            Self::InvoiceDate => "invoice date",
            Self::PostingDate => "posting date",
            Self::Currency => "currency",
            Self::Total => "total",
            Self::Tax => "tax",
            Self::CreditTerms => "credit terms",
            Self::Receiver => "receiver",
            Self::AdditionalCost => "additional cost",
        }
    }
}

/// One field in which the two differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which.
    pub field: Field,
    /// Which receiver line, or which account; empty of what a document has once.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub of: String,
    /// What would have been posted; empty for nothing.
    pub ours: String,
    /// What was keyed; empty for nothing.
    pub theirs: String,
}

/// Two documents, field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// In what they differ.
    pub differences: Vec<Difference>,
    /// What could not be compared, because one of the two does not say it.
    pub not_compared: BTreeSet<Field>,
}

impl Comparison {
    fn note(&mut self, field: Field, ours: impl ToString, theirs: impl ToString) {
        self.differences.push(Difference {
            field,
            of: String::new(),
            ours: ours.to_string(),
            theirs: theirs.to_string(),
        });
    }

    fn field<T: PartialEq + ToString>(&mut self, field: Field, ours: &T, theirs: &T) {
        if ours != theirs {
            self.note(field, ours.to_string(), theirs.to_string());
        }
    }

    /// A field that one of the two may not say.
    fn shown<T: PartialEq + ToString>(&mut self, field: Field, ours: Option<&T>, theirs: Option<&T>) {
        match (ours, theirs) {
            (Some(ours), Some(theirs)) => self.field(field, ours, theirs),
            _ => {
                self.not_compared.insert(field);
            }
        }
    }

    fn amount(&mut self, field: Field, ours: Decimal, theirs: Decimal) {
        if ours != theirs {
            self.note(field, ours.normalize(), theirs.normalize());
        }
    }

    /// What each side has under each key: both, or one alone.
    fn parts<K: Ord, V: PartialEq>(
        &mut self,
        field: Field,
        (ours, theirs): (&BTreeMap<K, V>, &BTreeMap<K, V>),
        name: impl Fn(&K) -> String,
        show: impl Fn(&V) -> String,
    ) {
        let keys: BTreeSet<&K> = ours.keys().chain(theirs.keys()).collect();
        for key in keys {
            let (ours, theirs) = (ours.get(key), theirs.get(key));
            if ours != theirs {
                self.differences.push(Difference {
                    field,
                    of: name(key),
                    ours: ours.map(&show).unwrap_or_default(),
                    theirs: theirs.map(&show).unwrap_or_default(),
                });
            }
        }
    }
}

/// Compares what would have been posted with what was keyed. `posted_today` says that the connection takes the day of the
/// matching for the posting date: then it is today's here, and says nothing about the day it would have been.
pub fn compare(ours: &SupplierInvoiceDraft, theirs: &KeyedInvoice, posted_today: bool) -> Comparison {
    let mut found = Comparison::default();
    found.field(Field::Entity, &ours.identity.entity, &theirs.identity.entity);
    found.field(
        Field::Supplier,
        &ours.identity.supplier,
        &theirs.identity.supplier,
    );
    found.field(
        Field::Reference,
        &ours.identity.reference,
        &theirs.identity.reference,
    );
    found.shown(
        Field::InvoiceDate,
        Some(&ours.invoice_date),
        theirs.invoice_date.as_ref(),
    );
    let posting_date = Some(&ours.posting_date).filter(|_| !posted_today);
    found.shown(Field::PostingDate, posting_date, theirs.posting_date.as_ref());
    found.field(Field::Currency, &ours.currency, &theirs.currency);
    found.amount(Field::Total, ours.total, theirs.total);
    match theirs.tax {
        Some(tax) => found.amount(Field::Tax, ours.tax, tax),
        None => {
            found.not_compared.insert(Field::Tax);
        }
    }
    // Without terms of ours QAD takes the supplier's: whatever it has then is what it would have had.
    match (&ours.credit_terms, &theirs.credit_terms) {
        (Some(ours), Some(theirs)) if fold(ours.as_str()) == fold(theirs) => {}
        (Some(ours), Some(theirs)) => found.note(Field::CreditTerms, ours, theirs),
        _ => {
            found.not_compared.insert(Field::CreditTerms);
        }
    }
    match &theirs.matches {
        Some(theirs) => found.parts(
            Field::Receiver,
            (&receivers(&ours.matches), &receivers(theirs)),
            |(order_line, receiver)| format!("{receiver} of {order_line}"),
            |at_prices| {
                let parts: Vec<String> = at_prices
                    .iter()
                    .map(|(price, quantity)| format!("{} at {}", quantity.normalize(), price.normalize()))
                    .collect();
                parts.join(", ")
            },
        ),
        None => {
            found.not_compared.insert(Field::Receiver);
        }
    }
    match &theirs.costs {
        Some(theirs) => found.parts(
            Field::AdditionalCost,
            (&accounts(&ours.costs), &accounts(theirs)),
            Account::words,
            |amount| amount.normalize().to_string(),
        ),
        None => {
            found.not_compared.insert(Field::AdditionalCost);
        }
    }
    found
}

/// How much of each receiver line at which price; one line of a document or several make no difference.
fn receivers(
    matches: &[ReceiverMatch],
) -> BTreeMap<(&OrderLineKey, &ReceiverNumber), BTreeMap<Decimal, Decimal>> {
    let mut found: BTreeMap<_, BTreeMap<Decimal, Decimal>> = BTreeMap::new();
    for part in matches.iter().filter(|part| !part.quantity.is_zero()) {
        let at_prices = found.entry((&part.order_line, &part.receiver)).or_default();
        let quantity = at_prices.entry(part.unit_price).or_default();
        *quantity = quantity.saturating_add(part.quantity);
    }
    found
}

/// Where a cost goes to, as QAD compares codes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Account {
    gl_account: String,
    sub_account: String,
    cost_center: String,
    project: String,
}

impl Account {
    fn words(&self) -> String {
        let parts = [
            ("account", &self.gl_account),
            ("sub-account", &self.sub_account),
            ("cost center", &self.cost_center),
            ("project", &self.project),
        ];
        let told: Vec<String> = parts
            .iter()
            .filter(|(_, code)| !code.is_empty())
            .map(|(name, code)| format!("{name} {code}"))
            .collect();
        told.join(", ")
    }
}

/// How much goes to each account; nothing is no cost.
fn accounts(costs: &[AdditionalCost]) -> BTreeMap<Account, Decimal> {
    let mut found: BTreeMap<Account, Decimal> = BTreeMap::new();
    for cost in costs {
        let account = Account {
            gl_account: cost.gl_account.folded(),
            sub_account: fold(&cost.sub_account),
            cost_center: fold(&cost.cost_center),
            project: fold(&cost.project),
        };
        let amount = found.entry(account).or_default();
        *amount = amount.saturating_add(cost.amount);
    }
    found.retain(|_, amount| !amount.is_zero());
    found
}

/// What comes of one approved invoice in a parallel run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// What was keyed is what would have been posted.
    Same {
        /// As far as it could be compared.
        comparison: Comparison,
    },
    /// It is not.
    Differs {
        /// In what.
        comparison: Comparison,
    },
    /// It would have been posted, and nobody keyed it.
    NotKeyed,
    /// It was keyed, and would not have been posted.
    WouldNotPost,
    /// It was not keyed, and would not have been posted: both wait.
    Neither,
    /// It was posted by this product: there is nothing to compare.
    PostedByUs,
}

impl Outcome {
    /// As a stable word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Same { .. } => "same",
            Self::Differs { .. } => "differs",
            Self::NotKeyed => "not-keyed",
            Self::WouldNotPost => "would-not-post",
            Self::Neither => "neither",
            Self::PostedByUs => "posted-by-us",
        }
    }

    /// Whether the two sides disagree.
    pub fn is_difference(&self) -> bool {
        match self {
            Self::Differs { .. } | Self::NotKeyed | Self::WouldNotPost => true,
            Self::Same { .. } | Self::Neither | Self::PostedByUs => false,
        }
    }

    /// Field by field, where there were two to compare.
    pub fn comparison(&self) -> Option<&Comparison> {
        match self {
            Self::Same { comparison } | Self::Differs { comparison } => Some(comparison),
            Self::NotKeyed | Self::WouldNotPost | Self::Neither | Self::PostedByUs => None,
        }
    }
}

/// Whether one of these documents is this invoice's, posted by this product.
pub fn is_posted_by_us(keyed: &[KeyedInvoice], instance: &str, id: InvoiceId) -> bool {
    keyed
        .iter()
        .filter_map(|document| Mark::read(&document.description))
        .any(|mark| mark.is_of(instance, id))
}

/// What comes of an invoice that this product has not posted: what would have been posted of it, if anything, and all that QAD has under its identity.
pub fn judge(ours: Option<&SupplierInvoiceDraft>, keyed: &[KeyedInvoice], posted_today: bool) -> Outcome {
    let comparison = match (ours, keyed) {
        (None, []) => return Outcome::Neither,
        (None, _) => return Outcome::WouldNotPost,
        (Some(_), []) => return Outcome::NotKeyed,
        (Some(ours), [theirs]) => compare(ours, theirs, posted_today),
        (Some(_), several) => {
            let numbers: Vec<String> = several.iter().map(KeyedInvoice::number).collect();
            let mut found = Comparison::default();
            found.note(Field::Documents, "one", numbers.join(", "));
            found
        }
    };
    if comparison.differences.is_empty() {
        Outcome::Same { comparison }
    } else {
        Outcome::Differs { comparison }
    }
}

/// The receipts as if these documents had never been keyed: what they have invoiced is open again.
pub fn without(receipts: Vec<Receipt>, keyed: &[KeyedInvoice]) -> Vec<Receipt> {
    let taken: Vec<&ReceiverMatch> = keyed
        .iter()
        .flat_map(|document| document.matches.iter().flatten())
        .collect();
    receipts
        .into_iter()
        .map(|mut receipt| {
            let of_it = taken.iter().filter(|part| {
                part.receiver == receipt.key.receiver && part.order_line == receipt.key.order_line
            });
            for part in of_it {
                let left = receipt.vouchered.saturating_sub(part.quantity);
                receipt.vouchered = if receipt.is_return() {
                    left.min(Decimal::ZERO)
                } else {
                    left.max(Decimal::ZERO)
                };
                // Nothing is invoiced of a closed one: whoever closed it, it was open when this document took its part.
                receipt.closed = false;
            }
            receipt
        })
        .collect()
}

/// The receipts as if these documents had been posted: what they would have taken is invoiced.
pub fn with(receipts: Vec<Receipt>, posted: &[SupplierInvoiceDraft]) -> Vec<Receipt> {
    receipts
        .into_iter()
        .map(|mut receipt| {
            let in_domain = posted.iter().filter(|draft| draft.domain == receipt.key.domain);
            for part in in_domain.flat_map(|draft| &draft.matches) {
                if part.receiver == receipt.key.receiver && part.order_line == receipt.key.order_line {
                    receipt.vouchered = receipt.vouchered.saturating_add(part.quantity);
                    receipt.closed |= part.finished;
                }
            }
            receipt
        })
        .collect()
}

#[cfg(test)]
mod tests;
