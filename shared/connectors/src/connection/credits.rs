//! Settings about credit notes that credit a price, or anything but goods.

use super::{ChargeAccountDocument, Exact, days};
use domain::policy::CreditPolicy;
use domain::problem::Problem;
use rust_decimal::Decimal;
use serde::Deserialize;

/// The section `credits`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CreditDocument {
    price_account: Option<ChargeAccountDocument>,
    other_account: Option<ChargeAccountDocument>,
    return_wait_days: Exact,
}

impl Default for CreditDocument {
    fn default() -> Self {
        Self {
            price_account: None,
            other_account: None,
            return_wait_days: Exact(Decimal::from(14)),
        }
    }
}

impl CreditDocument {
    /// How long a return is waited for, in milliseconds.
    pub(super) fn return_millis(&self, problems: &mut Vec<Problem>) -> i64 {
        days("credits.return_wait_days", self.return_wait_days, problems)
    }

    /// The settings.
    pub(super) fn settings(self) -> CreditPolicy {
        CreditPolicy {
            price_account: self.price_account.map(ChargeAccountDocument::account),
            other_account: self.other_account.map(ChargeAccountDocument::account),
        }
    }
}
