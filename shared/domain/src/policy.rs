//! Tolerances and posting defaults of a connection: versioned data, not code.

use crate::coupa_orders::CoupaOrderPolicy;
use crate::documents::ChargeKind;
use crate::ids::{CreditTermsCode, DaybookCode, DomainCode, EntityCode, GlAccountCode, UnitCode};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How far an invoice may differ from its order before a person must look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Name of this set of limits; written into every decision made with it.
    pub version: String,
    /// Percent by which the invoice's unit price may exceed the order's. Cheaper is always fine.
    pub unit_price_percent_over: Decimal,
    /// Percent by which the quantity billed may exceed the quantity ordered. Never lets a bill run ahead of receipts.
    pub quantity_percent_over: Decimal,
    /// Amount in the invoice's currency by which lines, charges and tax may differ from the total.
    pub total_amount: Decimal,
}

impl Default for Tolerance {
    /// Two percent on the price, nothing on the quantity, 0.05 on the total.
    fn default() -> Self {
        Self {
            version: "default-1".to_owned(),
            unit_price_percent_over: Decimal::TWO,
            quantity_percent_over: Decimal::ZERO,
            total_amount: Decimal::new(5, 2),
        }
    }
}

/// How many of the order's units are in one of the invoice's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitConversion {
    /// The order's (QAD's) unit.
    pub to: UnitCode,
    /// Order units per invoice unit; more than zero. 1 when the codes merely differ in spelling.
    pub factor: Decimal,
}

/// Where a charge goes in the general ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeAccount {
    /// The account.
    pub gl_account: GlAccountCode,
    /// Cost center, may be blank.
    #[serde(default)]
    pub cost_center: String,
    /// Project, may be blank.
    #[serde(default)]
    pub project: String,
}

/// Which date a supplier invoice is posted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum PostingDate {
    /// The invoice's own date: QAD's default (confirmed).
    #[default]
    InvoiceDate,
    /// The day (UTC) on which the invoice was matched.
    MatchingDate,
}

/// Everything a match decision depends on besides the documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchPolicy {
    /// The limits.
    pub tolerance: Tolerance,
    /// QAD domain of orders and receipts.
    pub domain: DomainCode,
    /// QAD entity that records the invoice.
    pub entity: EntityCode,
    /// Daybook of invoices.
    pub invoice_daybook: DaybookCode,
    /// Daybook of credit notes.
    pub credit_note_daybook: DaybookCode,
    /// Daybook of the matching.
    pub matching_daybook: DaybookCode,
    /// QAD invoice status code, for example `AP-RMALLOC` (free per customer).
    pub invoice_status: String,
    /// Date policy.
    pub posting_date: PostingDate,
    /// Coupa payment term code to QAD credit terms; identity when a code is not in here.
    pub credit_terms: BTreeMap<String, CreditTermsCode>,
    /// GL accounts of charges; a charge without one is parked.
    pub charge_accounts: BTreeMap<ChargeKind, ChargeAccount>,
    /// Coupa unit code to QAD unit; identity when a code is not in here.
    pub units: BTreeMap<String, UnitConversion>,
    /// How Coupa's own orders count.
    #[serde(default)]
    pub coupa_orders: CoupaOrderPolicy,
}
