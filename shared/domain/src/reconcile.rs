//! Both sides against each other: what Coupa approved, what the register says, what QAD holds, what was paid. Every
//! difference is named, and said to be explained or not: explained is what the product itself says why, and who or what ends it.

use crate::documents::{CoupaStatus, QadDocument};
use crate::explain;
use crate::ids::{EntityCode, InvoiceId, QadInvoiceIdentity};
use crate::instruction::Instruction;
use crate::lifecycle::{Event, InvoiceRecord, ParkReason, State};
use crate::matching::ExceptionCode;
use crate::money::Currency;
use crate::payments::{Allocation, BillPayments, PAID_TWICE};
use crate::problem::Problem;
use crate::time::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long a new invoice in Coupa may be unknown to the register before that is strange, in milliseconds: longer than the
/// poll's interval.
pub const UNKNOWN_MILLIS_MAX: i64 = 3_600_000;

/// What kind of difference: a stable word, in JSON, in logs and in the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Several documents of one identity.
    TwoInQad,
    /// Posted, and QAD has nothing of it.
    MissingInQad,
    /// Posted under another number than QAD shows.
    VoucherDiffers,
    /// Another total or currency.
    AmountDiffers,
    /// In QAD, and Coupa lists it as not exported.
    ExportedFlagMissing,
    /// QAD has a document of an invoice that was not posted here.
    InQadNotByUs,
    /// Coupa lists it, and the register does not know it.
    OnlyInCoupa,
    /// Being worked on.
    OnItsWay,
    /// Waits for QAD.
    WaitsForQad,
    /// Waits for a person.
    WaitsForAPerson,
    /// A person, or a rule, took it out.
    TakenOut,
    /// Its entity is none of the connection's any more.
    EntityNotConfigured,
    /// QAD has paid more than Coupa shows.
    PaidInQadNotInCoupa,
    /// QAD pays what Coupa pays.
    PaidTwice,
    /// Its payments wait for a person.
    PaymentWaitsForAPerson,
    /// Its payments are none of ours.
    PaymentLeftAlone,
    /// Being written to Coupa.
    PaymentOnItsWay,
    /// It could not be looked up, however often it was tried: that is not "nothing there".
    NotLookedUp,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::TwoInQad,
        Self::MissingInQad,
        Self::VoucherDiffers,
        Self::AmountDiffers,
        Self::ExportedFlagMissing,
        Self::InQadNotByUs,
        Self::OnlyInCoupa,
        Self::OnItsWay,
        Self::WaitsForQad,
        Self::WaitsForAPerson,
        Self::TakenOut,
        Self::EntityNotConfigured,
        Self::PaidInQadNotInCoupa,
        Self::PaidTwice,
        Self::PaymentWaitsForAPerson,
        Self::PaymentLeftAlone,
        Self::PaymentOnItsWay,
        Self::NotLookedUp,
    ];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::TwoInQad => "two-in-qad",
            Self::MissingInQad => "missing-in-qad",
            Self::VoucherDiffers => "voucher-differs",
            Self::AmountDiffers => "amount-differs",
            Self::ExportedFlagMissing => "exported-flag-missing",
            Self::InQadNotByUs => "in-qad-not-by-us",
            Self::OnlyInCoupa => "only-in-coupa",
            Self::OnItsWay => "on-its-way",
            Self::WaitsForQad => "waits-for-qad",
            Self::WaitsForAPerson => "waits-for-a-person",
            Self::TakenOut => "taken-out",
            Self::EntityNotConfigured => "entity-not-configured",
            Self::PaidInQadNotInCoupa => "paid-in-qad-not-in-coupa",
            Self::PaidTwice => "paid-twice",
            Self::PaymentWaitsForAPerson => "payment-waits-for-a-person",
            Self::PaymentLeftAlone => "payment-left-alone",
            Self::PaymentOnItsWay => "payment-on-its-way",
            Self::NotLookedUp => "not-looked-up",
        }
    }
}

/// One difference between the two sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What kind.
    pub kind: Kind,
    /// Whether the product itself says why, and who or what ends it.
    pub explained: bool,
    /// Coupa's id.
    pub invoice: InvoiceId,
    /// The supplier's number of it; empty of an invoice that nobody has read yet, as what follows.
    pub reference: String,
    /// Its currency.
    pub currency: String,
    /// Its amount.
    pub amount: String,
    /// Whose books; empty where the connection has only one entity's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub entity: String,
    /// The month of the invoice's date, as `2026-11`; empty of an invoice that nobody has read yet.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub month: String,
    /// In words.
    pub what: String,
}

impl Difference {
    /// A difference of an invoice over what the invoice is over.
    fn of(record: &InvoiceRecord, kind: Kind, explained: bool, what: String) -> Self {
        let summary = record.summary.as_ref();
        Self {
            kind,
            explained,
            invoice: record.id,
            reference: summary.map_or_else(String::new, |s| s.reference.to_string()),
            currency: summary.map_or_else(String::new, |s| s.currency.to_string()),
            amount: summary.map_or_else(String::new, |s| s.total.normalize().to_string()),
            entity: record
                .entity
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            month: summary.map_or_else(String::new, |s| s.invoice_date.strftime("%Y-%m").to_string()),
            what,
        }
    }

    /// A difference of an invoice that nobody has read.
    fn unknown(invoice: InvoiceId, kind: Kind, explained: bool, what: String) -> Self {
        Self {
            kind,
            explained,
            invoice,
            reference: String::new(),
            currency: String::new(),
            amount: String::new(),
            entity: String::new(),
            month: String::new(),
            what,
        }
    }

    /// Its amount; `None` of a document that nobody has read yet.
    pub fn money(&self) -> Option<(Decimal, Currency)> {
        Some((self.amount.parse().ok()?, self.currency.parse().ok()?))
    }
}

/// The identity in QAD of an invoice, in the books of this entity; `None` as long as its supplier has no number there, and then
/// there can be nothing of it.
pub fn identity_of(entity: &EntityCode, record: &InvoiceRecord) -> Option<QadInvoiceIdentity> {
    let summary = record.summary.as_ref()?;
    Some(QadInvoiceIdentity {
        entity: entity.clone(),
        supplier: summary.supplier_number.as_deref()?.trim().parse().ok()?,
        reference: summary.reference.clone(),
        kind: summary.kind,
    })
}

/// The documents in words.
fn numbers(documents: &[QadDocument]) -> String {
    let name = |document: &QadDocument| {
        let number = document.voucher.as_ref();
        let number = number.map_or_else(|| "without number".to_owned(), ToString::to_string);
        format!(
            "{number} over {} {}",
            document.total.normalize(),
            document.currency
        )
    };
    documents.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What one invoice differs in, between what the register says and what QAD shows; `listed` is how Coupa lists it among those
/// that are not exported.
pub fn judge(
    record: &InvoiceRecord,
    documents: &[QadDocument],
    listed: Option<&CoupaStatus>,
) -> Vec<Difference> {
    let difference = |kind, explained, what: String| Difference::of(record, kind, explained, what);
    let mut found = Vec::new();
    if documents.len() > 1 {
        found.push(difference(Kind::TwoInQad, false, numbers(documents)));
    }
    match &record.state {
        State::Posted { .. } | State::Exported { .. } => {
            found.extend(judge_posted(record, documents));
            if matches!(record.state, State::Posted { .. }) {
                let what = "being marked exported in Coupa".to_owned();
                found.push(difference(Kind::OnItsWay, true, what));
            } else {
                found.extend(judge_listing(record, listed));
            }
        }
        State::Parked {
            reason: ParkReason::InQad { problem, .. },
        } => found.push(difference(Kind::WaitsForAPerson, true, problem.to_string())),
        State::Approved => found.push(difference(Kind::OnItsWay, true, explain::sentence(record))),
        State::Voided { .. } if documents.is_empty() => {}
        State::Received { .. }
        | State::Held { .. }
        | State::Parked { .. }
        | State::Rejected { .. }
        | State::Voided { .. } => found.push(judge_unposted(record, documents)),
    }
    found
}

/// What was posted, against what QAD has of it.
fn judge_posted(record: &InvoiceRecord, documents: &[QadDocument]) -> Option<Difference> {
    let voucher = record.state.voucher()?;
    let summary = record.summary.as_ref();
    let is_it = |document: &QadDocument| document.voucher.as_ref() == Some(voucher);
    let (kind, explained, what) = match documents {
        [] => (
            Kind::MissingInQad,
            false,
            format!("posted as {voucher}; QAD finds no document of this supplier, reference and type"),
        ),
        documents if !documents.iter().any(is_it) => (
            Kind::VoucherDiffers,
            false,
            format!("posted as {voucher}; QAD has {}", numbers(documents)),
        ),
        [document]
            if summary.is_some_and(|s| s.total != document.total || s.currency != document.currency) =>
        {
            // What QAD rounded otherwise was accepted with the very total that it has.
            let explained = record.posted_total == Some(document.total)
                && summary.is_some_and(|s| s.currency == document.currency);
            (
                Kind::AmountDiffers,
                explained,
                format!("QAD has {}", numbers(documents)),
            )
        }
        _ => return None,
    };
    Some(Difference::of(record, kind, explained, what))
}

/// What was exported, against how Coupa lists it among those that are not.
pub fn judge_listing(record: &InvoiceRecord, listed: Option<&CoupaStatus>) -> Option<Difference> {
    let is_exported = matches!(record.state, State::Exported { .. });
    (is_exported && listed == Some(&CoupaStatus::Approved)).then(|| {
        let what = "in QAD, and Coupa lists it as not exported".to_owned();
        Difference::of(record, Kind::ExportedFlagMissing, false, what)
    })
}

/// The codes that say that something stands in QAD, or in the register, under the invoice's own identity. One that only may be the
/// same bill, under another number, says nothing of it.
const FOUND_IN_QAD: [&str; 7] = [
    ExceptionCode::DuplicateReference.as_str(),
    ExceptionCode::DuplicateReferenceOtherYear.as_str(),
    "QAD_DUPLICATE_DOCUMENTS",
    "QAD_DOCUMENT_DIFFERS",
    "QAD_DOCUMENT_FOREIGN",
    "QAD_DOCUMENT_LATE",
    "QAD_DOCUMENT_WITHOUT_NUMBER",
];

/// What was not posted here, against what QAD has of it all the same.
fn judge_unposted(record: &InvoiceRecord, documents: &[QadDocument]) -> Difference {
    let codes = record.state.codes();
    let is_found = codes.iter().any(|code| FOUND_IN_QAD.contains(&code.as_str()));
    let codes = codes.join(", ");
    let (kind, explained) = match (&record.state, documents.is_empty()) {
        // A document that the product itself found and parked the invoice for is explained by that.
        (State::Parked { .. }, false) if is_found => (Kind::WaitsForAPerson, true),
        (_, false) => (Kind::InQadNotByUs, false),
        (State::Held { .. }, true) => (Kind::WaitsForQad, true),
        (State::Parked { .. }, true) => (Kind::WaitsForAPerson, true),
        (State::Rejected { .. }, true) => (Kind::TakenOut, true),
        _ => (Kind::OnItsWay, true),
    };
    let what = if documents.is_empty() {
        codes
    } else {
        let state = record.state.word();
        format!("{state} {codes}; QAD has {}", numbers(documents))
    };
    Difference::of(record, kind, explained, what)
}

/// As [`judge`] found it; another total that a person has accepted, as the events of the invoice tell, is explained by that.
pub fn with_people<'e>(
    mut found: Vec<Difference>,
    documents: &[QadDocument],
    events: impl IntoIterator<Item = &'e Event>,
) -> Vec<Difference> {
    let differs = found
        .iter_mut()
        .find(|difference| difference.kind == Kind::AmountDiffers);
    if let ([document], Some(difference)) = (documents, differs)
        && let Some(Instruction { by, reason }) = accepted(events, document)
    {
        difference.explained = true;
        difference.what = format!("{}; accepted by {by}: {reason}", difference.what);
    }
    found
}

/// Who took this document, with the very total that it has now, for the invoice's although the totals differ.
fn accepted<'e>(
    events: impl IntoIterator<Item = &'e Event>,
    document: &QadDocument,
) -> Option<&'e Instruction> {
    let total = format!("{} {} in QAD", document.total.normalize(), document.currency);
    events.into_iter().find_map(|event| match event {
        Event::Adopted {
            voucher,
            instruction,
            difference,
        } if document.voucher.as_ref() == Some(voucher) && difference.starts_with(&total) => {
            Some(instruction)
        }
        _ => None,
    })
}

/// What allocations of an invoice come to with their discounts, each in the currency in which QAD shows it: the invoice's own
/// where it has a column for that.
pub fn paid_sums(record: &InvoiceRecord, paid: &[Allocation]) -> BTreeMap<Currency, Decimal> {
    let own = record.summary.as_ref().map(|summary| summary.currency);
    let mut sums = BTreeMap::new();
    for one in paid {
        let amount = match (one.in_invoice_currency, own) {
            (Some(amount), Some(own)) => (own, amount),
            _ => (one.currency, one.allocated),
        };
        for (currency, amount) in [amount, (one.currency, one.discount)] {
            if !amount.is_zero() {
                let sum: &mut Decimal = sums.entry(currency).or_default();
                *sum = sum.saturating_add(amount);
            }
        }
    }
    sums
}

/// What was paid in QAD and is not shown in Coupa, by what is known of the bill. A bill on its way is explained.
pub fn judge_payment(
    record: &InvoiceRecord,
    bill: Option<&BillPayments>,
    paid: &[Allocation],
) -> Option<Difference> {
    let difference = |kind: Kind, what: String| {
        let explained = !matches!(kind, Kind::PaidInQadNotInCoupa | Kind::PaidTwice);
        let mut difference = Difference::of(record, kind, explained, what);
        let sums = paid_sums(record, paid);
        let own = record
            .summary
            .as_ref()
            .and_then(|s| sums.get_key_value(&s.currency));
        if let Some((currency, amount)) = own.or_else(|| sums.first_key_value()) {
            difference.currency = currency.to_string();
            difference.amount = amount.normalize().to_string();
        }
        Some(difference)
    };
    let Some(bill) = bill else {
        let what = "no payment of it is known here; run poll-payments".to_owned();
        return difference(Kind::PaidInQadNotInCoupa, what);
    };
    // In the bill's ledger there may be more, from before the days that are read.
    let missing = paid.iter().find(|paid| !bill.shows(paid));
    match (missing, &bill.parked, &bill.left_alone, bill.word()) {
        (_, Some(problem), ..) if problem.code == PAID_TWICE => {
            difference(Kind::PaidTwice, problem.to_string())
        }
        (None, ..) => None,
        (Some(_), Some(problem), ..) => difference(Kind::PaymentWaitsForAPerson, problem.to_string()),
        (Some(_), None, Some(problem), _) => difference(Kind::PaymentLeftAlone, problem.to_string()),
        (Some(_), None, None, "paying") => {
            difference(Kind::PaymentOnItsWay, "being written to Coupa".to_owned())
        }
        (Some(missing), None, None, _) => {
            let settled = bill.settled_amount().unwrap_or_default().normalize();
            difference(
                Kind::PaidInQadNotInCoupa,
                format!(
                    "{settled} {} shown in Coupa, and not {}",
                    bill.currency, missing.key
                ),
            )
        }
    }
}

/// An invoice whose books were not asked.
pub fn out_of_reach(record: &InvoiceRecord) -> Difference {
    let entity = record.entity.as_ref().map_or("", EntityCode::as_str);
    let what = format!("entity {entity} is none of this connection's any more: its books were not asked");
    Difference::of(record, Kind::EntityNotConfigured, false, what)
}

/// An invoice that could not be looked up.
pub fn not_looked_up(record: &InvoiceRecord, problem: &Problem) -> Difference {
    Difference::of(record, Kind::NotLookedUp, false, problem.to_string())
}

/// An invoice whose record cannot be read.
pub fn unread(id: InvoiceId, problem: &Problem) -> Difference {
    Difference::unknown(id, Kind::NotLookedUp, false, problem.to_string())
}

/// An invoice that Coupa lists and the register does not know.
pub fn only_in_coupa(
    id: InvoiceId,
    status: &CoupaStatus,
    updated_at: Timestamp,
    now: Timestamp,
) -> Difference {
    let explained = now.millis_since(updated_at) < UNKNOWN_MILLIS_MAX;
    let since = explain::instant(updated_at);
    let what = format!("{status:?} in Coupa since {since}, not known here yet");
    Difference::unknown(id, Kind::OnlyInCoupa, explained, what)
}

#[cfg(test)]
mod tests;
