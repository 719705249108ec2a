//! A credit note that cancels an invoice of ours as a whole: every line and the total are its negatives. It takes back what
//! that invoice was matched to, whether or not goods are returned, and whether or not it is paid.

use super::lines::{self, MatchedLine};
use super::{
    AdditionalCost, Exception, ExceptionCode, MatchInput, ReceiverMatch, SupplierInvoiceDraft, exact, text,
};
use crate::documents::{Adjustment, Billed, InvoiceLine};
use crate::ids::{DocumentKind, InvoiceId, OrderLineKey, ReceiptKey};
use crate::money::negative;
use crate::time::Date;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};

/// The invoice that a credit note names as the one it corrects, where it is one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    /// It was posted, as this document.
    Posted(Box<SupplierInvoiceDraft>),
    /// It is not posted, and can still be.
    NotPosted {
        /// The invoice.
        invoice: InvoiceId,
        /// Its total, signed.
        total: Decimal,
        /// Where it stands, in a word.
        state: &'static str,
    },
    /// It was voided or taken out before it was posted.
    Gone {
        /// The invoice.
        invoice: InvoiceId,
        /// Its total, signed.
        total: Decimal,
        /// Where it stands, in a word.
        state: &'static str,
    },
}

/// What a credit note does that cancels an invoice.
pub(super) struct Cancelled {
    /// The receivers of the original, negative.
    pub(super) matches: Vec<ReceiverMatch>,
    /// Its costs, negative, on their accounts.
    pub(super) costs: Vec<AdditionalCost>,
    /// Why it cannot, or not yet.
    pub(super) exceptions: Vec<Exception>,
}

/// Whether the document cancels an invoice of ours; `None` for every other, and for one whose figures cannot be told.
pub(super) fn of(input: &MatchInput<'_>) -> Option<Cancelled> {
    let invoice = input.invoice;
    if invoice.kind != DocumentKind::CreditNote || invoice.lines.iter().any(corrects_something_else) {
        return None;
    }
    let total = |amount: Decimal| exact::add(amount, invoice.total);
    match input.original? {
        Original::Posted(draft) => (is_negative_of(input, draft)? && draft.currency == invoice.currency)
            .then(|| posted(input, draft)),
        Original::NotPosted {
            invoice: original,
            total: owed,
            state,
        } => total(*owed)?
            .is_zero()
            .then(|| stopped(input, ExceptionCode::OriginalNotPosted, *original, state)),
        Original::Gone {
            invoice: original,
            total: owed,
            state,
        } => total(*owed)?
            .is_zero()
            .then(|| stopped(input, ExceptionCode::OriginalNotInQad, *original, state)),
    }
}

/// A line that says that it corrects a price, or anything but goods, cancels nothing.
fn corrects_something_else(line: &InvoiceLine) -> bool {
    line.adjustment
        .is_some_and(|purpose| purpose != Adjustment::Quantity)
}

fn stopped(input: &MatchInput<'_>, code: ExceptionCode, original: InvoiceId, state: &str) -> Cancelled {
    let number = input.invoice.original_reference.as_deref().unwrap_or_default();
    // The order line is one on which something happens when the original is posted.
    let order_line = input
        .invoice
        .lines
        .iter()
        .find_map(|line| line.order_line.clone());
    Cancelled {
        matches: Vec::new(),
        costs: Vec::new(),
        exceptions: vec![Exception {
            order_line,
            ..super::of_document(
                code,
                format!("invoice {number} posted in QAD"),
                format!("Coupa invoice {original} is {state}"),
            )
        }],
    }
}

fn posted(input: &MatchInput<'_>, draft: &SupplierInvoiceDraft) -> Cancelled {
    let invoiced: BTreeMap<&ReceiptKey, Decimal> = input
        .receipts
        .iter()
        .map(|receipt| (&receipt.key, receipt.vouchered))
        .collect();
    let mut taken: BTreeMap<ReceiptKey, Decimal> = BTreeMap::new();
    for found in &draft.matches {
        let key = ReceiptKey {
            domain: draft.domain.clone(),
            receiver: found.receiver.clone(),
            order_line: found.order_line.clone(),
        };
        let sum = taken.entry(key).or_default();
        *sum = exact::add(*sum, found.quantity).unwrap_or(Decimal::MAX);
    }
    let exceptions = taken
        .iter()
        .filter_map(|(key, quantity)| {
            let now = invoiced.get(key).copied().unwrap_or_default();
            (now < *quantity).then(|| Exception {
                order_line: Some(key.order_line.clone()),
                ..super::of_document(
                    ExceptionCode::OriginalNotInQad,
                    format!(
                        "{} of receiver {} invoiced in QAD",
                        text::plain(*quantity),
                        key.receiver
                    ),
                    format!("{} is", text::plain(now)),
                )
            })
        })
        .collect();
    Cancelled {
        matches: draft
            .matches
            .iter()
            .map(|found| ReceiverMatch {
                quantity: negative(found.quantity),
                // It is open again afterwards.
                finished: false,
                ..found.clone()
            })
            .collect(),
        costs: draft
            .costs
            .iter()
            .map(|cost| AdditionalCost {
                amount: exact::subtract(Decimal::ZERO, cost.amount).unwrap_or_default(),
                ..cost.clone()
            })
            .collect(),
        exceptions,
    }
}

/// Whether total, tax, each order line in amount and quantity, and everything that is on no receiver are the negatives of what
/// was posted. Amounts may differ by what rounding makes: a smallest unit for each line.
fn is_negative_of(input: &MatchInput<'_>, draft: &SupplierInvoiceDraft) -> Option<bool> {
    let invoice = input.invoice;
    let cancel_out = |one: Decimal, other: Decimal| Some(exact::add(one, other)?.is_zero());
    if !cancel_out(draft.total, invoice.rounded(invoice.total))?
        || !cancel_out(draft.tax, invoice.rounded(invoice.tax))?
    {
        return Some(false);
    }
    let add = |sum: &mut Decimal, more: Decimal| {
        *sum = exact::add(*sum, more)?;
        Some(())
    };
    let mut amounts: BTreeMap<Option<&OrderLineKey>, Decimal> = BTreeMap::new();
    let mut quantities: BTreeMap<&OrderLineKey, Decimal> = BTreeMap::new();
    for found in &draft.matches {
        let worth = exact::multiply(found.quantity, found.unit_price)?;
        add(amounts.entry(Some(&found.order_line)).or_default(), worth)?;
        add(quantities.entry(&found.order_line).or_default(), found.quantity)?;
    }
    for cost in &draft.costs {
        add(amounts.entry(None).or_default(), cost.amount)?;
    }
    for charge in &invoice.charges {
        add(amounts.entry(None).or_default(), charge.amount)?;
    }
    // An amount says no quantity; that of its order line is not compared.
    let mut by_amount: BTreeSet<&OrderLineKey> = BTreeSet::new();
    for line in invoice
        .lines
        .iter()
        .filter(|line| !lines::has_nothing_to_post(line))
    {
        let matched = line
            .order_line
            .as_ref()
            .filter(|key| quantities.contains_key(key));
        add(amounts.entry(matched).or_default(), line.total)?;
        match (matched, &line.billed) {
            (Some(key), Billed::Quantity { quantity, unit, .. }) => {
                let converted = lines::in_unit_of(input, key, *quantity, unit.as_ref())?;
                add(quantities.entry(key).or_default(), converted)?;
            }
            (Some(key), Billed::Amount) => {
                by_amount.insert(key);
            }
            (None, _) => {}
        }
    }
    let rows = invoice.lines.len().saturating_add(invoice.charges.len()).max(1);
    let allowed = exact::multiply(invoice.minor_unit(), Decimal::from(rows))?;
    let is_whole = quantities
        .iter()
        .all(|(key, left)| left.is_zero() || by_amount.contains(key));
    Some(is_whole && amounts.values().all(|left| left.abs() <= allowed))
}

/// The date of the latest of these receivers.
pub(super) fn latest_receipt(input: &MatchInput<'_>, matches: &[ReceiverMatch]) -> Option<Date> {
    let is_among = |key: &ReceiptKey| {
        matches
            .iter()
            .any(|found| found.receiver == key.receiver && found.order_line == key.order_line)
    };
    input
        .receipts
        .iter()
        .filter(|receipt| is_among(&receipt.key))
        .map(|receipt| receipt.date)
        .max()
}

/// A line of it as it is shown: there is nothing to be matched.
pub(super) fn line<'a>(line: &'a InvoiceLine) -> MatchedLine<'a> {
    let mut report = lines::bare_report(line);
    if let Billed::Quantity { quantity, .. } = &line.billed {
        report.this_invoice = Some(*quantity);
    }
    MatchedLine {
        report,
        exceptions: Vec::new(),
        parts: Vec::new(),
        costs: Vec::new(),
        value: Some(line.total),
    }
}
