//! Settings about credit notes that credit a price, or anything but goods.

use super::ChargeAccountDocument;
use domain::policy::CreditPolicy;
use serde::Deserialize;

/// The section `credits`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CreditDocument {
    price_account: Option<ChargeAccountDocument>,
    other_account: Option<ChargeAccountDocument>,
}

impl CreditDocument {
    /// The settings.
    pub(super) fn settings(self) -> CreditPolicy {
        CreditPolicy {
            price_account: self.price_account.map(ChargeAccountDocument::account),
            other_account: self.other_account.map(ChargeAccountDocument::account),
        }
    }
}
