//! A credit note that cancels an invoice of ours as a whole: every line and the total are its negatives. It takes back what
//! that invoice was matched to, whether or not goods are returned, and whether or not it is paid.

use super::lines::{self, MatchedLine};
use super::{
    AdditionalCost, BilledLine, Exception, ExceptionCode, MatchInput, ReceiverMatch, SupplierInvoiceDraft,
    exact, text,
};
use crate::documents::{Adjustment, Billed, InvoiceLine};
use crate::ids::{DocumentKind, Holder, InvoiceId, OrderLineKey, ReceiptKey};
use crate::money::negative;
use crate::time::Date;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};

/// The invoice that a credit note names as the one it corrects, where it is one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    /// It was posted.
    Posted {
        /// As this document.
        draft: Box<SupplierInvoiceDraft>,
        /// Another credit note that cancels it already: approved, in QAD, or perhaps there.
        cancelled_by: Option<InvoiceId>,
    },
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
    /// The invoice that is cancelled; `None` while it is in the way that it cannot be.
    pub(super) original: Option<InvoiceId>,
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
        Original::Posted { draft, cancelled_by } => {
            let is_whole = is_negative_of(input, draft)? && draft.currency == invoice.currency;
            is_whole.then(|| match cancelled_by {
                Some(other) => cancelled_before(input, *other),
                None => posted(input, draft),
            })
        }
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
    refused(
        input,
        code,
        format!("invoice {number} posted in QAD"),
        format!("Coupa invoice {original} is {state}"),
    )
}

/// An invoice is cancelled once, whatever becomes of its receivers afterwards.
fn cancelled_before(input: &MatchInput<'_>, other: InvoiceId) -> Cancelled {
    let number = input.invoice.original_reference.as_deref().unwrap_or_default();
    refused(
        input,
        ExceptionCode::OriginalAlreadyCancelled,
        format!("invoice {number} cancelled by no other credit note"),
        format!("Coupa credit note {other} cancels it already"),
    )
}

fn refused(input: &MatchInput<'_>, code: ExceptionCode, expected: String, actual: String) -> Cancelled {
    // The order line is one on which something happens when the original is posted.
    let order_line = input
        .invoice
        .lines
        .iter()
        .find_map(|line| line.order_line.clone());
    Cancelled {
        original: None,
        matches: Vec::new(),
        costs: Vec::new(),
        exceptions: vec![Exception {
            order_line,
            ..super::of_document(code, expected, actual)
        }],
    }
}

fn posted(input: &MatchInput<'_>, draft: &SupplierInvoiceDraft) -> Cancelled {
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
    Cancelled {
        original: Some(draft.coupa_id),
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
        exceptions: taken
            .iter()
            .filter_map(|(key, quantity)| not_there(input, key, *quantity))
            .collect(),
    }
}

/// What is in the way of taking so much back from a receiver: QAD shows less of it invoiced, or other credit notes that are
/// being posted take some of it.
fn not_there(input: &MatchInput<'_>, key: &ReceiptKey, quantity: Decimal) -> Option<Exception> {
    let invoiced = input
        .receipts
        .iter()
        .filter(|receipt| receipt.key == *key && !receipt.is_return())
        .map(|receipt| receipt.vouchered)
        .min()
        .unwrap_or_default();
    let others = input.reservations.iter().filter(|reservation| {
        reservation.holder() != Holder::own(input.invoice.id)
            && reservation.receipt == *key
            && reservation.quantity.is_sign_negative()
    });
    let holders: BTreeSet<Holder> = others.clone().map(|reservation| reservation.holder()).collect();
    let left = exact::sum(others.map(|reservation| reservation.quantity).chain([invoiced]));
    let (code, actual) = if invoiced < quantity {
        (
            ExceptionCode::OriginalNotInQad,
            format!("{} is", text::plain(invoiced)),
        )
    } else if left.is_none_or(|left| left < quantity) {
        (
            ExceptionCode::AnotherInvoiceInFlight,
            format!(
                "{} is, some of it being taken back by Coupa invoice {}",
                text::plain(invoiced),
                text::some_invoices(&holders)
            ),
        )
    } else {
        return None;
    };
    Some(Exception {
        order_line: Some(key.order_line.clone()),
        ..super::of_document(
            code,
            format!(
                "{} of receiver {} invoiced in QAD",
                text::plain(quantity),
                key.receiver
            ),
            actual,
        )
    })
}

/// What the lines and charges of an invoice bill, kept with what is posted for it; nothing of a credit note.
pub(super) fn billed(input: &MatchInput<'_>) -> Vec<BilledLine> {
    if input.invoice.kind == DocumentKind::CreditNote {
        return Vec::new();
    }
    let of_lines = input
        .invoice
        .lines
        .iter()
        .filter(|line| !lines::has_nothing_to_post(line))
        .map(|line| BilledLine {
            order_line: line.order_line.clone(),
            quantity: quantity_of(input, line),
            amount: line.total,
        });
    let of_charges = input.invoice.charges.iter().map(|charge| BilledLine {
        order_line: None,
        quantity: None,
        amount: charge.amount,
    });
    of_lines.chain(of_charges).collect()
}

/// The quantity that a line bills in the unit of its order line in QAD; `None` where it bills an amount, or that cannot be told.
fn quantity_of(input: &MatchInput<'_>, line: &InvoiceLine) -> Option<Decimal> {
    match (&line.order_line, &line.billed) {
        (Some(key), Billed::Quantity { quantity, unit, .. }) => {
            lines::in_unit_of(input, key, *quantity, unit.as_ref())
        }
        _ => None,
    }
}

/// What the lines of a posted invoice bill. Of one that an earlier version has posted only what it was matched to is known.
fn billed_by(draft: &SupplierInvoiceDraft) -> Option<Vec<BilledLine>> {
    if !draft.billed.is_empty() {
        return Some(draft.billed.clone());
    }
    let of_matches = draft.matches.iter().map(|found| {
        Some(BilledLine {
            order_line: Some(found.order_line.clone()),
            quantity: Some(found.quantity),
            amount: exact::multiply(found.quantity, found.unit_price)?,
        })
    });
    let of_costs = draft.costs.iter().map(|cost| {
        Some(BilledLine {
            order_line: None,
            quantity: None,
            amount: cost.amount,
        })
    });
    of_matches.chain(of_costs).collect()
}

/// Whether total, tax, each order line in amount and quantity, and everything else are the negatives of what was billed.
/// Amounts may differ by what rounding makes: a smallest unit for each line.
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
    // An amount says no quantity; that of its order line is not compared.
    let mut by_amount: BTreeSet<&OrderLineKey> = BTreeSet::new();
    let billed = billed_by(draft)?;
    for line in &billed {
        let key = line.order_line.as_ref();
        add(amounts.entry(key).or_default(), line.amount)?;
        match (key, line.quantity) {
            (Some(key), Some(quantity)) => add(quantities.entry(key).or_default(), quantity)?,
            (Some(key), None) => {
                by_amount.insert(key);
            }
            (None, _) => {}
        }
    }
    for charge in &invoice.charges {
        add(amounts.entry(None).or_default(), charge.amount)?;
    }
    for line in invoice
        .lines
        .iter()
        .filter(|line| !lines::has_nothing_to_post(line))
    {
        let key = line
            .order_line
            .as_ref()
            .filter(|key| amounts.contains_key(&Some(*key)));
        add(amounts.entry(key).or_default(), line.total)?;
        let Some(key) = key.filter(|key| !by_amount.contains(key)) else {
            continue;
        };
        match &line.billed {
            Billed::Quantity { .. } => add(quantities.entry(key).or_default(), quantity_of(input, line)?)?,
            Billed::Amount => {
                by_amount.insert(key);
            }
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
