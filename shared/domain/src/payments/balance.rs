//! What QAD says of a supplier invoice itself: whether it is open, and how much of it. It is the authority on whether a bill
//! is paid, for it knows what no payment shows: a write-off, tax withheld at payment, a discount, an adjustment, a
//! prepayment.

use super::{AllocationState, BillPayments, PaymentKey, PaymentPolicy, StatusMeaning};
use crate::ids::QadInvoiceIdentity;
use crate::money::Currency;
use crate::time::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::fmt;

/// QAD's number of a supplier invoice as far as a payment shows it: without the daybook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QadVoucher {
    /// Posting year.
    pub year: u32,
    /// Voucher number.
    pub number: u64,
}

impl fmt::Display for QadVoucher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.year, self.number)
    }
}

/// A supplier invoice as QAD shows it when asked whether it is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceBalance {
    /// Which one.
    pub invoice: QadInvoiceIdentity,
    /// Its number, where QAD shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher: Option<QadVoucher>,
    /// Currency of the balance.
    pub currency: Currency,
    /// Whether QAD has it open, where QAD shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_open: Option<bool>,
    /// What is still owed, signed as the invoice is, where QAD shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Decimal>,
    /// The day of the reading: QAD's last change of it, or the day it was asked for.
    pub on: Date,
}

impl InvoiceBalance {
    /// Whether QAD has closed it; `None` where QAD shows neither flag nor balance.
    pub fn is_closed(&self) -> Option<bool> {
        match (self.is_open, self.balance) {
            (Some(false), _) => Some(true),
            (_, Some(balance)) => Some(balance.is_zero()),
            (Some(true), None) => Some(false),
            (None, None) => None,
        }
    }

    /// True when it says the same, whenever it was read.
    fn says_the_same_as(&self, other: &Self) -> bool {
        Self {
            on: other.on,
            ..self.clone()
        } == *other
    }

    /// What an entry that only moves the paid flag is known by.
    pub(super) fn key(&self) -> PaymentKey {
        let reference: String = self
            .invoice
            .reference
            .as_str()
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let text = format!("QAD {} invoice {reference}", self.invoice.entity.folded());
        PaymentKey(text.chars().take(PaymentKey::CHARACTERS_MAX).collect())
    }
}

impl BillPayments {
    /// The bill after QAD was asked for the supplier invoice itself; `None` when it says nothing new. It comes after the
    /// allocations that were read before it: when exactly one of them is new since the last balance, the difference of the
    /// balances is what it paid in the invoice's currency.
    pub fn balance_reading(&self, balance: &InvoiceBalance, policy: &PaymentPolicy) -> Option<Self> {
        let counts = |state: &AllocationState| state.meaning(policy) == StatusMeaning::Counts;
        let known = self.qad.as_ref();
        if !self.is_balance_outdated(policy) && known.is_some_and(|known| known.says_the_same_as(balance)) {
            return None;
        }
        // A bill that nobody ever said anything of, and of which all is owed, has nothing to remember.
        if known.is_none() && self.allocations.is_empty() && balance.balance == Some(self.total) {
            return None;
        }
        let mut next = self.clone();
        let before = known.map_or(Some(self.total), |known| known.balance);
        if let Some(paid) = self.paid_between(before, balance, counts) {
            let new = next
                .allocations
                .values_mut()
                .find(|state| counts(state) && !state.in_balance);
            if let Some(state) = new {
                state.by_balance = Some(paid);
            }
        }
        for state in next.allocations.values_mut() {
            state.in_balance = state.meaning(policy) == StatusMeaning::Counts;
        }
        next.qad = Some(balance.clone());
        Some(next)
    }

    /// True when a payment came, went back or was moved since the balance was read: what it says is no longer so.
    fn is_balance_outdated(&self, policy: &PaymentPolicy) -> bool {
        self.allocations
            .values()
            .any(|state| (state.meaning(policy) == StatusMeaning::Counts) != state.in_balance)
    }

    /// Whether QAD has closed the supplier invoice with the payments that are known here; `None` where QAD does not show
    /// it, or has not been asked since the last of them.
    pub(super) fn is_closed_now(&self, policy: &PaymentPolicy) -> Option<bool> {
        if self.is_balance_outdated(policy) {
            return None;
        }
        self.is_closed()
    }

    /// What the one payment that is new has settled; `None` when there is not exactly one, it took a discount of its own, or
    /// the balances tell nothing.
    fn paid_between(
        &self,
        before: Option<Decimal>,
        balance: &InvoiceBalance,
        counts: impl Fn(&AllocationState) -> bool,
    ) -> Option<Decimal> {
        let states = || self.allocations.values();
        let new: Vec<&AllocationState> = states()
            .filter(|state| counts(state) && !state.in_balance)
            .collect();
        let gone = states().any(|state| state.in_balance && !counts(state));
        let [one] = new.as_slice() else { return None };
        if gone || !one.latest.discount.is_zero() || balance.currency != self.currency {
            return None;
        }
        let paid = before?.checked_sub(balance.balance?)?;
        let is_a_payment = !paid.is_zero() && paid.is_sign_negative() == self.total.is_sign_negative();
        is_a_payment.then_some(paid)
    }
}
