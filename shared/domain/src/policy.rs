//! Tolerances and posting defaults of a connection: versioned data, not code.

use crate::coupa_orders::CoupaOrderPolicy;
use crate::documents::ChargeKind;
use crate::ids::{
    CreditTermsCode, DaybookCode, DomainCode, EntityCode, GlAccountCode, SupplierCode, UnitCode,
};
use crate::money::Currency;
use crate::patience::Patience;
use crate::time::Date;
pub use crate::tolerance::{Band, Limit, LimitChanges, Limits, Tolerance};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many of the order's units are in one of the invoice's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitConversion {
    /// The order's (QAD's) unit.
    pub to: UnitCode,
    /// Order units per invoice unit; more than zero. 1 when the codes merely differ in spelling.
    pub factor: Decimal,
    /// The factor of an item that is packed otherwise, by QAD's item; before `factor`.
    #[serde(default)]
    pub items: BTreeMap<String, Decimal>,
}

/// Where a charge goes in the general ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChargeAccount {
    /// The account.
    pub gl_account: GlAccountCode,
    /// Sub-account, may be blank.
    #[serde(default)]
    pub sub_account: String,
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
    /// The later of the invoice's date and the latest matched receipt's: goods are never expensed before they came.
    #[default]
    Latest,
    /// The invoice's own date: QAD's default (confirmed).
    InvoiceDate,
    /// The day, in the entity's time zone, on which the invoice was matched.
    MatchingDate,
}

/// What is done with an invoice that QAD is not to pay, as far as Coupa says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnNotPayable {
    /// A person decides.
    #[default]
    Park,
    /// Posted with the status that no payment run takes.
    PostLocked,
    /// Posted like any other.
    Post,
}

/// Invoices that somebody else pays, or nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotPayable {
    /// Canceled in Coupa: no payment is needed (confirmed).
    pub when_canceled: OnNotPayable,
    /// Marked as paid in Coupa.
    pub when_paid: OnNotPayable,
    /// Paid through a channel that is not QAD's.
    pub when_other_channel: OnNotPayable,
    /// Paid in advance.
    pub when_prepaid: OnNotPayable,
    /// Words of the payment agreement that mean paid.
    pub prepaid_words: Vec<String>,
    /// Coupa's payment channels that QAD pays.
    pub own_channels: Vec<String>,
    /// QAD invoice status code that no payment run takes; blank when none is configured.
    pub locked_status: String,
}

impl Default for NotPayable {
    fn default() -> Self {
        Self {
            when_canceled: OnNotPayable::Park,
            when_paid: OnNotPayable::Park,
            when_other_channel: OnNotPayable::Park,
            when_prepaid: OnNotPayable::Park,
            prepaid_words: vec!["paid".to_owned()],
            own_channels: vec!["ERP".to_owned()],
            locked_status: String::new(),
        }
    }
}

/// Whom QAD pays instead of the supplier's own account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payee {
    /// A bank account of the supplier, by QAD's number of it (assumed).
    BankNumber(String),
    /// Another supplier (assumed).
    PayingSupplier(SupplierCode),
}

/// What happens to a remit-to reference that leads to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnknownRemitTo {
    /// A person decides: nobody pays an account that was not agreed.
    #[default]
    Park,
    /// It says nothing, for those who use the field otherwise.
    Ignore,
}

/// Which of Coupa's remit-to addresses lead to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RemitToPolicy {
    /// By the address's reference, or its code where it has none.
    pub codes: BTreeMap<String, Payee>,
    /// What an unknown reference does.
    pub unknown: OnUnknownRemitTo,
}

/// What happens to a line that no receiver takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnLine {
    /// A person decides.
    #[default]
    Park,
    /// It goes to the general ledger, as the document codes it.
    Gl,
}

/// What happens to a line whose order only Coupa has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnOrderOnlyInCoupa {
    /// It waits for the order to appear in QAD.
    #[default]
    Hold,
    /// It goes to the general ledger once Coupa itself has matched it.
    Gl,
}

/// What happens to lines that no receiver takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LinePolicy {
    /// A line without an order.
    pub without_order: OnLine,
    /// A negative line of an invoice: a discount, a returned pallet, a deposit.
    pub negative: OnLine,
    /// A line of an invoice that corrects a price, or anything but goods.
    pub price_adjustment: OnLine,
    /// A line that wants no receipt in Coupa (two-way, services).
    pub without_receipt: OnLine,
    /// A line whose order only Coupa has.
    pub order_only_in_coupa: OnOrderOnlyInCoupa,
}

/// Where the lines of a credit note go that credit a price, or anything but goods, when the line itself is not coded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct CreditPolicy {
    /// Account of price credits.
    pub price_account: Option<ChargeAccount>,
    /// Account of all others.
    pub other_account: Option<ChargeAccount>,
}

/// One field of QAD's coding, from a field of Coupa's account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodedField {
    /// Coupa's field of the account, for example `segment-2`.
    pub field: String,
    /// Coupa's value = QAD's; empty: as it is.
    pub map: BTreeMap<String, String>,
}

/// How Coupa's accounts become QAD's coding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coding {
    /// The account.
    pub gl_account: CodedField,
    /// Sub-account.
    pub sub_account: Option<CodedField>,
    /// Cost center.
    pub cost_center: Option<CodedField>,
    /// Project.
    pub project: Option<CodedField>,
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
    /// The first day on which the entity's books are open; nothing is posted before it, whatever the date policy says.
    #[serde(default)]
    pub first_open_day: Option<Date>,
    /// Coupa payment term code to QAD credit terms; identity when a code is not in here.
    pub credit_terms: BTreeMap<String, CreditTermsCode>,
    /// GL accounts of charges; a charge without one is parked.
    pub charge_accounts: BTreeMap<ChargeKind, ChargeAccount>,
    /// Coupa unit code to QAD unit; identity when a code is not in here.
    pub units: BTreeMap<String, UnitConversion>,
    /// The Coupa instance that QAD's description names; blank where an installation serves only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub coupa_instance: String,
    /// How Coupa's own orders count.
    #[serde(default)]
    pub coupa_orders: CoupaOrderPolicy,
    /// Status code of an invoice that goes to the general ledger alone.
    #[serde(default)]
    pub gl_status: String,
    /// What happens to lines that no receiver takes.
    #[serde(default)]
    pub lines: LinePolicy,
    /// Where credits go that no return is behind.
    #[serde(default)]
    pub credits: CreditPolicy,
    /// How Coupa's accounts become QAD's coding; `None`: they do not.
    #[serde(default)]
    pub coding: Option<Coding>,
    /// What is done with an invoice that QAD is not to pay.
    #[serde(default)]
    pub not_payable: NotPayable,
    /// Whom QAD pays, by Coupa's remit-to address.
    #[serde(default)]
    pub remit_to: RemitToPolicy,
    /// How long anything is waited for.
    #[serde(default)]
    pub patience: Patience,
    /// Digits after the point of a currency's smallest unit, where neither Coupa's count nor ISO's is to hold.
    #[serde(default)]
    pub minor_units: BTreeMap<Currency, u32>,
}
