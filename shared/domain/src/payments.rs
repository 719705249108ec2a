//! Payments: what QAD's allocations demand of a Coupa invoice, in which order, and when the invoice is paid.
//!
//! Coupa appends payments and cannot take one back (confirmed), so each entry is an effect of its own, and a void is
//! one negative entry, once. QAD's status is a ladder and not a yes or no; which steps count is policy.

use crate::effect::{Effect, EffectEvent};
use crate::guards::{Guard, stands};
use crate::ids::{
    DocumentKind, EntityCode, InvoiceId, InvoiceReference, QadInvoiceIdentity, SupplierCode, fold,
};
use crate::index::Listed;
use crate::lifecycle::{ChainEnd, PaidState};
use crate::money::Currency;
use crate::problem::Problem;
use crate::time::{Date, Timestamp};
use crate::timing::Timing;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod balance;

pub use balance::{InvoiceBalance, QadVoucher};

/// One allocation of one QAD payment: `QAD <entity> <year>/<instrument>/<number>#<allocation>`. It stands at the start of
/// the Coupa entry's notes and is how we know our own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PaymentKey(String);

impl PaymentKey {
    /// Longest key, in characters; Coupa's notes hold 255.
    pub const CHARACTERS_MAX: usize = 120;

    /// Builds the key from QAD's parts. `None` when a part is empty, too long, or holds a control character.
    pub fn new(
        entity: &EntityCode,
        year: u32,
        instrument: &str,
        number: &str,
        allocation: &str,
    ) -> Option<Self> {
        let parts = [instrument.trim(), number.trim(), allocation.trim()];
        if parts
            .iter()
            .any(|part| part.is_empty() || part.chars().any(|c| c.is_control() || c == '#'))
        {
            return None;
        }
        let [instrument, number, allocation] = parts;
        let text = format!(
            "QAD {} {year}/{instrument}/{number}#{allocation}",
            entity.folded()
        );
        text.try_into().ok()
    }

    /// The key as it stands in Coupa's notes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True when the notes of a Coupa entry begin with this key, and not with a longer one.
    pub fn begins(&self, notes: &str) -> bool {
        notes
            .trim_start()
            .strip_prefix(self.as_str())
            .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
    }
}

impl TryFrom<String> for PaymentKey {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let fits = text.starts_with("QAD ")
            && text.chars().count() <= Self::CHARACTERS_MAX
            && !text.chars().any(char::is_control);
        if fits {
            Ok(Self(text))
        } else {
            Err("a payment key: QAD <entity> <year>/<instrument>/<number>#<allocation>".to_owned())
        }
    }
}

impl From<PaymentKey> for String {
    fn from(key: PaymentKey) -> Self {
        key.0
    }
}

impl fmt::Display for PaymentKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// QAD's status of a payment (confirmed ladder; user-defined per instrument, so others occur).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum PaymentStatus {
    /// `Initial`
    Initial,
    /// `For Collection`
    ForCollection,
    /// `Paid`
    Paid,
    /// `Paid Conditionally`
    PaidConditionally,
    /// `Void`
    Void,
    /// `Bounced`
    Bounced,
    /// A word this version does not know; never counts as paid.
    Unknown(String),
}

impl From<String> for PaymentStatus {
    fn from(word: String) -> Self {
        match word.trim().to_lowercase().as_str() {
            "initial" => Self::Initial,
            "for collection" => Self::ForCollection,
            "paid" => Self::Paid,
            "paid conditionally" => Self::PaidConditionally,
            "void" => Self::Void,
            "bounced" => Self::Bounced,
            _ => Self::Unknown(crate::problem::clean(word.trim())),
        }
    }
}

impl From<PaymentStatus> for String {
    fn from(status: PaymentStatus) -> Self {
        status.to_string()
    }
}

impl fmt::Display for PaymentStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Initial => "Initial",
            Self::ForCollection => "For Collection",
            Self::Paid => "Paid",
            Self::PaidConditionally => "Paid Conditionally",
            Self::Void => "Void",
            Self::Bounced => "Bounced",
            Self::Unknown(word) => word,
        })
    }
}

/// One allocation as QAD holds it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Which payment, which allocation of it.
    pub key: PaymentKey,
    /// The supplier invoice it pays.
    pub invoice: QadInvoiceIdentity,
    /// Where the payment stands.
    pub status: PaymentStatus,
    /// Currency of the amounts.
    pub currency: Currency,
    /// Payment date.
    pub payment_date: Date,
    /// QAD's last change of it, by day.
    pub last_modified: Date,
    /// QAD's payment reference (cheque number, transfer), for people.
    pub reference: String,
    /// What was paid, signed as the invoice is (negative for a credit note).
    pub allocated: Decimal,
    /// Discount taken, signed likewise.
    pub discount: Decimal,
    /// What was paid in the invoice's own currency, where QAD shows it; signed likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_invoice_currency: Option<Decimal>,
    /// QAD's number of the supplier invoice that it pays, where QAD shows it: what tells two bills of one number apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher: Option<QadVoucher>,
}

impl Allocation {
    /// The supplier invoice's identity, from QAD's codes. `None` when one is no valid code.
    pub fn identity(
        entity: &str,
        supplier: &str,
        reference: &str,
        kind: DocumentKind,
    ) -> Option<QadInvoiceIdentity> {
        Some(QadInvoiceIdentity {
            entity: entity.parse::<EntityCode>().ok()?,
            supplier: supplier.parse::<SupplierCode>().ok()?,
            reference: reference.parse::<InvoiceReference>().ok()?,
            kind,
        })
    }
}

/// What a status means for the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StatusMeaning {
    /// The bill is paid by that much.
    Counts,
    /// What was written is taken back.
    TakesBack,
    /// Not paid yet.
    NotYet,
}

/// Which status means what: policy as data. Every status that is not listed, and every unknown one, counts as not paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentPolicy {
    /// QAD's status word to its meaning; compared without case.
    pub meaning: BTreeMap<String, StatusMeaning>,
    /// Amount by which payments may exceed the invoice's total before a person must look.
    pub over_total: Decimal,
    /// Amount by which payments may fall short of the invoice's total and still settle it; asked only where QAD itself
    /// does not say whether the invoice is open.
    #[serde(default = "tolerance_default")]
    pub under_total: Decimal,
}

/// 0.05 of whatever currency.
fn tolerance_default() -> Decimal {
    Decimal::new(5, 2)
}

impl Default for PaymentPolicy {
    /// `Paid` counts; `Void` and `Bounced` take back; 0.05 over or under the total is let through.
    fn default() -> Self {
        let meaning = [
            ("paid", StatusMeaning::Counts),
            ("void", StatusMeaning::TakesBack),
            ("bounced", StatusMeaning::TakesBack),
        ];
        Self {
            meaning: meaning
                .into_iter()
                .map(|(word, meaning)| (word.to_owned(), meaning))
                .collect(),
            over_total: tolerance_default(),
            under_total: tolerance_default(),
        }
    }
}

impl PaymentPolicy {
    /// What a status means under this policy.
    pub fn meaning_of(&self, status: &PaymentStatus) -> StatusMeaning {
        self.meaning
            .get(&status.to_string().to_lowercase())
            .copied()
            .unwrap_or(StatusMeaning::NotYet)
    }
}

/// What has been written to Coupa for one allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Written {
    /// Nothing.
    Nothing,
    /// Its payment.
    Paid,
    /// Its payment and the negative entry that takes it back: nothing is ever written for it again.
    TakenBack,
}

/// One allocation of a bill: what QAD says and what Coupa has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationState {
    /// The latest reading from QAD.
    pub latest: Allocation,
    /// What Coupa has.
    pub written: Written,
    /// The amount that was written; kept because QAD's may change afterwards.
    pub written_amount: Decimal,
    /// Counts the allocations of this bill in the order they were first seen: later ones are written later.
    pub order: u64,
    /// The supplier invoice that QAD has moved it to since: it pays this bill no more, and what was written is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<QadInvoiceIdentity>,
    /// What it settled in the invoice's currency by the difference of two readings of QAD's balance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_balance: Option<Decimal>,
    /// Whether it counted when QAD's balance was last read.
    #[serde(default)]
    pub in_balance: bool,
}

impl AllocationState {
    fn new(latest: Allocation, order: u64) -> Self {
        Self {
            latest,
            written: Written::Nothing,
            written_amount: Decimal::ZERO,
            order,
            moved_to: None,
            by_balance: None,
            in_balance: false,
        }
    }

    /// What was paid in the invoice's currency: as QAD shows it there, else as it was paid when that is the same currency,
    /// else by the difference of two balances. `None` when QAD shows none of them.
    pub fn amount(&self, currency: Currency) -> Option<Decimal> {
        if !stands(Guard::InvoiceCurrency) {
            return Some(self.latest.allocated);
        }
        let paid = (self.latest.currency == currency).then_some(self.latest.allocated);
        self.latest.in_invoice_currency.or(paid).or(self.by_balance)
    }

    /// The discount in the invoice's currency; none when it was taken in another one, where QAD's balance alone tells it.
    fn discount(&self, currency: Currency) -> Decimal {
        if self.latest.currency == currency {
            self.latest.discount
        } else {
            Decimal::ZERO
        }
    }

    /// True when somebody keyed this very payment into Coupa: QAD's payment reference as the notes, the amount, the day.
    fn is_keyed_as(&self, entry: &CoupaPaymentEntry, currency: Currency) -> bool {
        !self.latest.reference.trim().is_empty()
            && fold(&entry.notes) == fold(&self.latest.reference)
            && Some(entry.amount) == self.amount(currency)
            && entry.date == Some(self.latest.payment_date)
    }

    /// What it means for this bill.
    fn meaning(&self, policy: &PaymentPolicy) -> StatusMeaning {
        match self.moved_to {
            Some(_) => StatusMeaning::TakesBack,
            None => policy.meaning_of(&self.latest.status),
        }
    }
}

/// What a write to Coupa does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Appends a payment.
    Payment,
    /// Appends the negative entry that takes a payment back.
    TakingBack,
    /// Appends nothing: sets the paid flag alone, because QAD has closed or opened the invoice without a payment, or a
    /// discount has changed what is settled.
    Flag,
}

/// Most digits after the point that Coupa keeps of an amount paid (confirmed).
pub const AMOUNT_PLACES_MAX: u32 = 4;

/// One entry to append to a Coupa invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentEntry {
    /// The invoice.
    pub invoice: InvoiceId,
    /// The allocation.
    pub key: PaymentKey,
    /// What it does.
    pub kind: EntryKind,
    /// Amount, signed; zero when there is nothing to append (a flag, or an allocation that is all discount).
    pub amount: Decimal,
    /// Its currency (Coupa takes the invoice's).
    pub currency: Currency,
    /// Payment date.
    pub date: Date,
    /// What the invoice's paid flag is after this entry.
    pub paid: bool,
    /// The notes: the key, then words for people.
    pub notes: String,
}

impl PaymentEntry {
    /// True when only the paid flag is set and no entry is appended.
    pub fn is_flag_only(&self) -> bool {
        self.amount.is_zero()
    }

    /// The amount as it is sent: exact, with at least the digits of the currency's smallest unit (`500.00`).
    pub fn amount_text(&self) -> String {
        let mut amount = self.amount.normalize();
        if amount.scale() < self.currency.minor_digits() {
            amount.rescale(self.currency.minor_digits());
        }
        amount.to_string()
    }
}

/// A payment entry as Coupa shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoupaPaymentEntry {
    /// Amount.
    pub amount: Decimal,
    /// Date as written, when given.
    pub date: Option<Date>,
    /// Notes.
    pub notes: String,
}

/// All payments of one bill: the ledger of what QAD paid and what Coupa shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BillPayments {
    /// Layout of this record.
    pub schema: u32,
    /// The Coupa invoice.
    pub invoice: InvoiceId,
    /// Its total, signed.
    pub total: Decimal,
    /// Its currency.
    pub currency: Currency,
    /// Its allocations.
    pub allocations: BTreeMap<PaymentKey, AllocationState>,
    /// What QAD says of the supplier invoice itself, as last read: whether it is open, and how much of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qad: Option<InvoiceBalance>,
    /// True once Coupa's own entries have been read: what is there already is not written again.
    pub coupa_read: bool,
    /// Coupa's paid flag as our last write left it, or as it stood beside entries of ours when they were first read;
    /// `None` while nothing of ours is there.
    #[serde(default)]
    pub paid_flag: Option<bool>,
    /// The entry being written, or the last one that was.
    pub entry: Option<Effect>,
    /// Why a person must look; nothing is written while it stands. A new reading from QAD, or a person, lifts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Problem>,
    /// Why its payments are none of ours (Coupa pays it itself); nothing is ever written then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_alone: Option<Problem>,
    /// What is in the way at the moment: Coupa could not be read, or the invoice is not in QAD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Problem>,
    /// When it is looked at again although nobody asks: something is left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub look_again: Option<Timestamp>,
    /// When a parked bill is decided anew although nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recheck: Option<Timestamp>,
    /// Setbacks in a row.
    #[serde(default)]
    pub setbacks: u32,
    /// Where it stands in the index of questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listed: Option<Listed>,
    /// Where its audit chain ends.
    pub chain: ChainEnd,
}

/// What to do next for a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextEntry {
    /// Coupa has everything QAD demands.
    Settled,
    /// Append this.
    Append(PaymentEntry),
    /// A person must look first.
    Park(Problem),
}

/// Longest notes Coupa takes, in characters (confirmed).
pub const NOTES_CHARACTERS_MAX: usize = 255;

fn notes_of(words: &str) -> String {
    crate::problem::clean(words.trim())
        .chars()
        .take(NOTES_CHARACTERS_MAX)
        .collect()
}

impl BillPayments {
    /// A bill without payments.
    pub fn new(invoice: InvoiceId, total: Decimal, currency: Currency) -> Self {
        Self {
            schema: 1,
            invoice,
            total,
            currency,
            allocations: BTreeMap::new(),
            qad: None,
            coupa_read: false,
            paid_flag: None,
            entry: None,
            parked: None,
            left_alone: None,
            delay: None,
            look_again: None,
            recheck: None,
            setbacks: 0,
            listed: None,
            chain: ChainEnd::default(),
        }
    }

    /// The bill after a reading of one allocation; `None` when it says nothing new.
    pub fn reading(&self, allocation: Allocation) -> Option<Self> {
        let known = self.allocations.get(&allocation.key);
        if known.is_some_and(|known| known.latest == allocation && known.moved_to.is_none()) {
            return None;
        }
        let mut next = self.clone();
        let state = match known {
            Some(known) => AllocationState {
                latest: allocation.clone(),
                moved_to: None,
                ..known.clone()
            },
            None => AllocationState::new(allocation.clone(), self.next_order()),
        };
        next.allocations.insert(allocation.key, state);
        Some(next)
    }

    fn next_order(&self) -> u64 {
        u64::try_from(self.allocations.len()).unwrap_or(u64::MAX)
    }

    /// The bill after QAD has moved an allocation from it to another supplier invoice; `None` when it says nothing new.
    /// `moved` is the allocation as QAD shows it now. One that is not here yet is remembered as moved, so that a late
    /// arrival of the older reading finds it so.
    pub fn without(&self, moved: &Allocation, from: &QadInvoiceIdentity) -> Option<Self> {
        let mut next = self.clone();
        match next.allocations.get_mut(&moved.key) {
            Some(state) if state.moved_to.as_ref() == Some(&moved.invoice) => return None,
            Some(state) => state.moved_to = Some(moved.invoice.clone()),
            None => {
                let here = Allocation {
                    invoice: from.clone(),
                    ..moved.clone()
                };
                let state = AllocationState {
                    moved_to: Some(moved.invoice.clone()),
                    ..AllocationState::new(here, self.next_order())
                };
                next.allocations.insert(moved.key.clone(), state);
            }
        }
        Some(next)
    }

    /// The bill after Coupa's own entries were read for the first time: what was written by an earlier life of this
    /// product (our key) or keyed by a person (QAD's payment reference alone, the same amount and day) is not written
    /// again. An allocation that is there twice is a person's to clear up.
    pub fn reconciled(&self, entries: &[CoupaPaymentEntry], paid: bool) -> Result<Self, Problem> {
        let currency = self.currency;
        let mut next = self.clone();
        next.coupa_read = true;
        let mut ours = false;
        let mut keyed = BTreeSet::new();
        for (key, state) in &mut next.allocations {
            let is_paying = |entry: &&CoupaPaymentEntry| {
                entry.amount.is_sign_negative() == state.latest.allocated.is_sign_negative()
            };
            let carrying = || entries.iter().filter(|entry| key.begins(&entry.notes));
            let paying: Vec<&CoupaPaymentEntry> = carrying().filter(is_paying).collect();
            let back = carrying().filter(|entry| !is_paying(entry)).count();
            if paying.len() > 1 || back > 1 {
                return Err(paid_twice(self.invoice, key, carrying().count()));
            }
            // One entry of a person is one allocation's.
            let mut by_hand = || {
                let mut entries = entries.iter().enumerate();
                entries.find(|(place, entry)| state.is_keyed_as(entry, currency) && keyed.insert(*place))
            };
            let Some(found) = paying
                .first()
                .copied()
                .or_else(|| by_hand().map(|(_, entry)| entry))
            else {
                continue;
            };
            ours = true;
            state.written = if back > 0 {
                Written::TakenBack
            } else {
                Written::Paid
            };
            state.written_amount = found.amount;
        }
        next.paid_flag = ours.then_some(paid);
        Ok(next)
    }

    /// True when a person has keyed this very payment into Coupa, and no other allocation of the bill is what they keyed.
    pub fn is_keyed_by_hand(&self, key: &PaymentKey, entries: &[CoupaPaymentEntry]) -> bool {
        let keyed = |state: &AllocationState| {
            entries
                .iter()
                .filter(|entry| state.is_keyed_as(entry, self.currency))
                .count()
        };
        let carries_none = |key: &PaymentKey| !entries.iter().any(|entry| key.begins(&entry.notes));
        let others = self.allocations.iter().filter(|(other, state)| {
            *other != key && state.written == Written::Paid && keyed(state) > 0 && carries_none(other)
        });
        let taken = others.count();
        self.allocations
            .get(key)
            .is_some_and(|state| keyed(state) > taken)
    }

    /// What stands in Coupa for this bill, with the discounts that QAD shows for it, in exact decimals. `None` when out
    /// of range.
    pub fn settled_amount(&self) -> Option<Decimal> {
        self.allocations
            .values()
            .filter(|state| state.written == Written::Paid)
            .try_fold(Decimal::ZERO, |sum, state| {
                sum.checked_add(state.written_amount)?
                    .checked_add(state.discount(self.currency))
            })
    }

    /// The discounts in [`BillPayments::settled_amount`], which no entry in Coupa shows.
    pub fn settled_discounts(&self) -> Option<Decimal> {
        self.allocations
            .values()
            .filter(|state| state.written == Written::Paid)
            .try_fold(Decimal::ZERO, |sum, state| {
                sum.checked_add(state.discount(self.currency))
            })
    }

    /// True when that much settles the bill by the sum alone, within what may be missing; a credit note is settled
    /// downwards, and nothing at all never settles anything.
    pub fn is_settled_by(&self, amount: Decimal, policy: &PaymentPolicy) -> bool {
        let missing = if self.total.is_sign_negative() {
            amount.checked_sub(self.total)
        } else {
            self.total.checked_sub(amount)
        };
        let nothing = amount.is_zero() && !self.total.is_zero();
        !nothing && missing.is_some_and(|missing| missing <= policy.under_total)
    }

    /// Whether the bill is paid: QAD says so, and only where QAD does not, the sum does. `None` when nothing says
    /// anything.
    fn is_paid(&self, settled: Decimal, anything_written: bool, policy: &PaymentPolicy) -> Option<bool> {
        let by_sum = anything_written.then(|| self.is_settled_by(settled, policy));
        if !stands(Guard::QadSaysPaid) {
            return by_sum;
        }
        self.is_closed_now(policy).or(by_sum)
    }

    /// Whether QAD has paid any of it, and not taken it back.
    pub fn is_being_paid(&self, policy: &PaymentPolicy) -> bool {
        self.allocations
            .values()
            .any(|state| state.meaning(policy) == StatusMeaning::Counts)
    }

    /// A payment that is about to be entered and pays another supplier invoice of the same number: it was read before ours
    /// had a number in QAD.
    pub fn of_another(&self, ours: QadVoucher, policy: &PaymentPolicy) -> Option<Problem> {
        let is_foreign = |state: &&AllocationState| {
            state.written == Written::Nothing
                && state.meaning(policy) == StatusMeaning::Counts
                && state.latest.voucher.is_some_and(|shown| shown != ours)
        };
        let foreign = self.allocations.values().find(is_foreign)?;
        Some(payment_ambiguous(self.invoice, &foreign.latest, Some(ours)))
    }

    /// Whether QAD has closed the supplier invoice, as last read; `None` where QAD does not show it.
    pub fn is_closed(&self) -> Option<bool> {
        self.qad.as_ref().and_then(InvoiceBalance::is_closed)
    }

    /// True when that much is more than the bill and the allowance.
    pub fn is_overpaid_by(&self, amount: Decimal, policy: &PaymentPolicy) -> bool {
        let over = if self.total.is_sign_negative() {
            self.total.checked_sub(amount)
        } else {
            amount.checked_sub(self.total)
        };
        over.is_none_or(|over| over > policy.over_total)
    }

    /// What Coupa must be told next: takings-back before payments, payments by their date and in the order they were
    /// seen, and at last the paid flag when a discount has changed it. Pure and total.
    pub fn next_entry(&self, policy: &PaymentPolicy) -> NextEntry {
        let mut ordered: Vec<(&PaymentKey, &AllocationState)> = self.allocations.iter().collect();
        ordered.sort_by_key(|(_, state)| (state.latest.payment_date, state.order));
        for (key, state) in &ordered {
            let takes_back = state.meaning(policy) == StatusMeaning::TakesBack;
            if takes_back && state.written == Written::Paid {
                return self.entry_for(key, state, EntryKind::TakingBack, policy);
            }
        }
        for (key, state) in &ordered {
            match state.meaning(policy) {
                StatusMeaning::Counts => {}
                StatusMeaning::NotYet if state.written == Written::Paid => {
                    return NextEntry::Park(self.problem(
                        "PAYMENT_WENT_BACK",
                        "QAD shows a payment as not paid any more, and not as void; find out which, and correct it in QAD or Coupa.",
                        key,
                        state.written_amount,
                        Decimal::ZERO,
                    ));
                }
                StatusMeaning::NotYet | StatusMeaning::TakesBack => continue,
            }
            match state.written {
                Written::Nothing => return self.entry_for(key, state, EntryKind::Payment, policy),
                Written::Paid if self.has_changed(state) => {
                    return NextEntry::Park(self.problem(
                        "PAYMENT_CHANGED",
                        "Correct the payment entry in Coupa by hand; it cannot be changed by integration.",
                        key,
                        state.written_amount,
                        state.amount(self.currency).unwrap_or(state.latest.allocated),
                    ));
                }
                Written::TakenBack => {
                    return NextEntry::Park(self.problem(
                        "PAYMENT_REVIVED",
                        "QAD shows a payment as paid that was taken back before; enter it in Coupa by hand.",
                        key,
                        Decimal::ZERO,
                        state.latest.allocated,
                    ));
                }
                Written::Paid => {}
            }
        }
        self.next_flag(&ordered, policy)
    }

    /// All entries are there; what is left is the paid flag alone.
    fn next_flag(&self, ordered: &[(&PaymentKey, &AllocationState)], policy: &PaymentPolicy) -> NextEntry {
        // What was written last stands last in the order that is told.
        let last = ordered
            .iter()
            .rev()
            .find(|(_, state)| state.written != Written::Nothing);
        let Some(settled) = self.settled_amount() else {
            return last.map_or(NextEntry::Settled, |(key, _)| self.out_of_range(key, self.total));
        };
        if let Some((key, _)) = last
            && self.is_overpaid_by(settled, policy)
        {
            return self.overpaid(key, settled);
        }
        match self.is_paid(settled, last.is_some(), policy) {
            Some(paid) if paid != self.paid_flag.unwrap_or(false) => {}
            _ => return NextEntry::Settled,
        }
        match (last, &self.qad) {
            (Some((key, state)), _) => self.entry_for(key, state, EntryKind::Flag, policy),
            (None, Some(balance)) => self.flag_without_payment(balance, settled),
            (None, None) => NextEntry::Settled,
        }
    }

    /// QAD has closed the invoice, or opened it again, without any payment.
    fn flag_without_payment(&self, balance: &InvoiceBalance, settled: Decimal) -> NextEntry {
        let paid = balance.is_closed() == Some(true);
        let key = balance.key();
        let words = if paid {
            self.closing_words(settled)
        } else {
            Some("open again in QAD".to_owned())
        };
        let notes = format!("{key} {}", words.unwrap_or_default());
        NextEntry::Append(PaymentEntry {
            invoice: self.invoice,
            key,
            kind: EntryKind::Flag,
            amount: Decimal::ZERO,
            currency: self.currency,
            date: balance.on,
            paid,
            notes: notes_of(&notes),
        })
    }

    /// What closed the invoice besides what is settled; `None` when that is all, or QAD has not closed it.
    fn closing_words(&self, settled: Decimal) -> Option<String> {
        let rest = self.total.checked_sub(settled)?;
        if self.is_closed() != Some(true) || rest.is_zero() {
            return None;
        }
        let mut rest = rest.normalize();
        rest.rescale(rest.scale().max(self.currency.minor_digits()));
        Some(format!(
            "closed in QAD, {rest} {} of it without a payment (write-off, withholding, discount, adjustment or prepayment)",
            self.currency
        ))
    }

    /// Whether Coupa shows an allocation that counts as QAD has it now, in the bill's own currency.
    pub fn shows(&self, paid: &Allocation) -> bool {
        self.allocations.get(&paid.key).is_some_and(|state| {
            let now = AllocationState {
                latest: paid.clone(),
                ..state.clone()
            };
            state.written == Written::Paid
                && !self.has_changed(&now)
                && state.discount(self.currency) == now.discount(self.currency)
        })
    }

    fn has_changed(&self, state: &AllocationState) -> bool {
        state
            .amount(self.currency)
            .is_some_and(|amount| amount != state.written_amount)
    }

    /// Whether anything but this allocation is still to be written or taken back.
    fn is_more_to_come(&self, key: &PaymentKey, policy: &PaymentPolicy) -> bool {
        self.allocations.iter().any(|(other, state)| {
            let open = match state.meaning(policy) {
                StatusMeaning::Counts => state.written == Written::Nothing,
                StatusMeaning::TakesBack => state.written == Written::Paid,
                StatusMeaning::NotYet => false,
            };
            other != key && open
        })
    }

    fn problem(
        &self,
        code: &str,
        fix: &str,
        key: &PaymentKey,
        expected: Decimal,
        actual: Decimal,
    ) -> Problem {
        Problem::new(code, fix)
            .field(format!("Coupa invoice {}, {key}", self.invoice))
            .expected(format!("{} {}", expected.normalize(), self.currency))
            .actual(format!("{} {}", actual.normalize(), self.currency))
    }

    fn out_of_range(&self, key: &PaymentKey, actual: Decimal) -> NextEntry {
        let fix = "Enter the payment in Coupa by hand.";
        NextEntry::Park(self.problem("OUT_OF_RANGE", fix, key, self.total, actual))
    }

    fn overpaid(&self, key: &PaymentKey, actual: Decimal) -> NextEntry {
        NextEntry::Park(self.problem(OVERPAID, OVERPAID_FIX, key, self.total, actual))
    }

    /// Why an entry that would bring what Coupa shows, with the discounts, to `actual` must not be written.
    pub fn overpaid_in_coupa(&self, key: &PaymentKey, actual: Decimal) -> Problem {
        self.problem(OVERPAID, OVERPAID_FIX, key, self.total, actual)
    }

    fn entry_for(
        &self,
        key: &PaymentKey,
        state: &AllocationState,
        kind: EntryKind,
        policy: &PaymentPolicy,
    ) -> NextEntry {
        let paid = state.amount(self.currency);
        if kind == EntryKind::Payment && paid.is_none() {
            let problem = Problem::new("PAYMENT_CURRENCY_DIFFERS", "Enter the payment in Coupa by hand.")
                .field(format!("Coupa invoice {}, {key}", self.invoice))
                .expected(format!("what was paid in {}", self.currency))
                .actual(format!(
                    "{} {}",
                    state.latest.allocated.normalize(),
                    state.latest.currency
                ));
            return NextEntry::Park(problem);
        }
        let discount = state.discount(self.currency);
        let (amount, discount) = match kind {
            EntryKind::Payment => (paid, Some(discount)),
            EntryKind::TakingBack => (
                Decimal::ZERO.checked_sub(state.written_amount),
                Decimal::ZERO.checked_sub(discount),
            ),
            EntryKind::Flag => (Some(Decimal::ZERO), Some(Decimal::ZERO)),
        };
        let after = self
            .settled_amount()
            .and_then(|sum| sum.checked_add(amount?))
            .and_then(|sum| sum.checked_add(discount?));
        let (Some(amount), Some(after)) = (amount, after) else {
            return self.out_of_range(key, state.latest.allocated);
        };
        if amount.normalize().scale() > AMOUNT_PLACES_MAX {
            let problem = Problem::new("PAYMENT_NOT_EXACT", "Enter the payment in Coupa by hand.")
                .field(format!("Coupa invoice {}, {key}", self.invoice))
                .expected(format!("at most {AMOUNT_PLACES_MAX} digits after the point"))
                .actual(amount.normalize().to_string());
            return NextEntry::Park(problem);
        }
        if kind == EntryKind::Payment && self.is_overpaid_by(after, policy) {
            return self.overpaid(key, after);
        }
        let is_last = !self.is_more_to_come(key, policy);
        let paid = is_last && self.is_paid(after, true, policy) == Some(true);
        let mut words = match kind {
            EntryKind::TakingBack => match &state.moved_to {
                Some(to) => format!("{key} taken back (now pays {})", to.reference),
                None => format!("{key} taken back ({})", state.latest.status),
            },
            _ if state.latest.discount.is_zero() => format!("{key} {}", state.latest.reference),
            _ => format!(
                "{key} {} discount {}",
                state.latest.reference,
                state.latest.discount.normalize()
            ),
        };
        if let Some(closing) = self.closing_words(after).filter(|_| paid) {
            words = format!("{} {closing}", words.trim_end());
        }
        NextEntry::Append(PaymentEntry {
            invoice: self.invoice,
            key: key.clone(),
            kind,
            amount,
            currency: self.currency,
            date: state.latest.payment_date,
            paid,
            notes: notes_of(&words),
        })
    }

    /// The bill after an entry is proven to be in Coupa.
    #[must_use]
    pub fn with_written(&self, entry: &PaymentEntry) -> Self {
        let mut next = self.clone();
        next.paid_flag = Some(entry.paid);
        if let Some(state) = next.allocations.get_mut(&entry.key) {
            match entry.kind {
                EntryKind::TakingBack => state.written = Written::TakenBack,
                EntryKind::Payment => {
                    state.written = Written::Paid;
                    state.written_amount = entry.amount;
                }
                EntryKind::Flag => {}
            }
        }
        next
    }

    /// What stands in Coupa for this bill, in words that the invoice's own record keeps. `None` while nothing does.
    pub fn paid_state(&self) -> Option<PaidState> {
        if let Some(problem) = self.left_alone.as_ref() {
            return Some(PaidState::LeftAlone {
                problem: problem.clone(),
            });
        }
        if let Some(problem) = self.parked.as_ref() {
            return Some(PaidState::Parked {
                problem: problem.clone(),
            });
        }
        let (total, currency) = (self.total, self.currency);
        let written = |what: Written| {
            self.allocations
                .values()
                .filter(move |state| state.written == what)
        };
        let last = written(Written::Paid).max_by_key(|state| (state.latest.payment_date, state.order));
        let settled = self.settled_amount()?;
        if self.paid_flag == Some(true) {
            let in_full = total.checked_sub(settled).is_some_and(|rest| rest.is_zero());
            return match (last, &self.qad) {
                (last, Some(balance)) if self.is_closed() == Some(true) && !in_full => {
                    Some(PaidState::Closed {
                        on: last.map_or(balance.on, |last| balance.on.max(last.latest.payment_date)),
                        settled,
                        total,
                        currency,
                    })
                }
                (Some(last), _) => Some(PaidState::Fully {
                    on: last.latest.payment_date,
                    payment: last.latest.key.to_string(),
                }),
                (None, _) => None,
            };
        }
        if last.is_some() {
            return Some(PaidState::Partly {
                settled,
                total,
                currency,
            });
        }
        let anything = written(Written::TakenBack).next().is_some() || self.paid_flag == Some(false);
        anything.then_some(PaidState::TakenBack { total, currency })
    }

    /// The state's word: `settled` (Coupa has everything QAD demands), `paying`, `waiting`, `parked`, `left-alone`.
    pub fn word(&self) -> &'static str {
        let paying = self.entry.as_ref().is_some_and(|entry| !entry.is_finished());
        match (&self.left_alone, &self.parked) {
            (Some(_), _) => "left-alone",
            (None, Some(_)) => "parked",
            (None, None) if paying => "paying",
            (None, None) if self.delay.is_some() => "waiting",
            (None, None) if self.look_again.is_some() => "paying",
            (None, None) => "settled",
        }
    }

    /// When the sweep must look at it.
    pub fn due(&self, timing: &Timing) -> Option<Timestamp> {
        let entry = self.entry.as_ref().and_then(|entry| entry.due(timing));
        entry.or(self.look_again).or(self.recheck)
    }
}

/// One step in the life of a bill's payments, or of payments nobody could be found for: what their audit trail holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum PaymentEvent {
    /// QAD shows an allocation for the first time, or changed.
    Read {
        /// As QAD shows it.
        allocation: Allocation,
    },
    /// QAD says something new of the supplier invoice itself.
    Balance {
        /// What.
        balance: InvoiceBalance,
    },
    /// Coupa's own entries were read for the first time.
    CoupaRead {
        /// How many there were.
        entries: u64,
    },
    /// An entry is to be appended.
    Ready {
        /// The entry.
        entry: PaymentEntry,
        /// Hash of the request.
        request_sha256: String,
    },
    /// Something happened to the entry.
    Writing {
        /// What.
        step: EffectEvent,
        /// The claim under which it happened.
        fence: u64,
    },
    /// The entry is proven to be in Coupa.
    Written {
        /// The allocation.
        key: PaymentKey,
        /// What it did.
        kind: EntryKind,
        /// Amount, signed.
        amount: Decimal,
        /// What the invoice's paid flag is now.
        paid: bool,
    },
    /// A person must look.
    Parked {
        /// Why.
        problem: Problem,
    },
    /// Looked at anew because a person asked.
    Reconsidered,
    /// Its payments are none of ours.
    LeftAlone {
        /// Why.
        problem: Problem,
    },
    /// Payments that were never written belong to nobody again, because the invoice was voided.
    GivenBack {
        /// Which.
        keys: Vec<PaymentKey>,
    },
    /// QAD has moved an allocation to another supplier invoice.
    Moved {
        /// Which.
        key: PaymentKey,
        /// What it pays now.
        to: QadInvoiceIdentity,
    },
    /// Payments that waited without an owner belong to this bill.
    Linked {
        /// The Coupa invoice.
        invoice: InvoiceId,
    },
}

/// QAD's payments of one supplier invoice that none of our invoices owns: recorded and shown, never guessed. They move
/// to the bill in the moment an invoice of ours claims the identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmatchedPayments {
    /// Layout of this record.
    pub schema: u32,
    /// QAD's supplier invoice.
    pub invoice: QadInvoiceIdentity,
    /// Its allocations as last read.
    pub allocations: BTreeMap<PaymentKey, Allocation>,
    /// What QAD says of the supplier invoice itself, as last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qad: Option<InvoiceBalance>,
    /// Where its audit chain ends.
    pub chain: ChainEnd,
}

impl UnmatchedPayments {
    /// No payment yet.
    pub fn new(invoice: QadInvoiceIdentity) -> Self {
        Self {
            schema: 1,
            invoice,
            allocations: BTreeMap::new(),
            qad: None,
            chain: ChainEnd::default(),
        }
    }

    /// The record after a reading; `None` when it says nothing new.
    pub fn reading(&self, allocation: Allocation) -> Option<Self> {
        if self.allocations.get(&allocation.key) == Some(&allocation) {
            return None;
        }
        let mut next = self.clone();
        next.allocations.insert(allocation.key.clone(), allocation);
        Some(next)
    }
}

/// True when a Coupa entry is this one: our key, the sign and the amount, and the same day when Coupa shows one. A day
/// more or less is the same day, for Coupa may show it in another time zone than it was sent in.
pub fn is_entry(shown: &CoupaPaymentEntry, entry: &PaymentEntry) -> bool {
    let a_day_apart = |date: Date| {
        date.until(entry.date)
            .is_ok_and(|span| span.get_days().abs() <= 1)
    };
    entry.key.begins(&shown.notes) && shown.amount == entry.amount && shown.date.is_none_or(a_day_apart)
}

/// Why an allocation that stands in Coupa more than once is parked.
pub fn paid_twice(invoice: InvoiceId, key: &PaymentKey, entries: usize) -> Problem {
    Problem::new(
        "COUPA_PAYMENT_TWICE",
        "Remove the entry that is too many, or balance it, in Coupa by hand.",
    )
    .field(format!("Coupa invoice {invoice}, {key}"))
    .expected("one entry with this key")
    .actual(entries.to_string())
}

/// Why a payment is not entered: QAD has more than one supplier invoice of this number, and it pays another one than ours,
/// or nobody can tell.
pub fn payment_ambiguous(invoice: InvoiceId, payment: &Allocation, ours: Option<QadVoucher>) -> Problem {
    let number =
        |voucher: Option<QadVoucher>| voucher.map_or_else(|| "none".to_owned(), |one| one.to_string());
    Problem::new(
        "PAYMENT_AMBIGUOUS",
        "Enter the payment in Coupa by hand, on the invoice that it pays: QAD has more than one supplier invoice of this number.",
    )
    .field(format!("{}, Coupa invoice {invoice}", payment.key))
    .expected(format!("a payment of voucher {}", number(ours)))
    .actual(format!("voucher {}", number(payment.voucher)))
}

/// The code of a bill that QAD pays although Coupa pays it.
pub const PAID_TWICE: &str = "PAID_TWICE";
const OVERPAID: &str = "PAID_OVER_TOTAL";
const OVERPAID_FIX: &str =
    "Find out why more was paid than the invoice; nothing more is written to Coupa for it.";

#[cfg(test)]
mod tests;
