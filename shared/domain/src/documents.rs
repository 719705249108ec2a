//! Invoice, purchase order and goods receipt as this product holds them true, whatever anyone's JSON says.
//!
//! Sign rule: everything in a credit note is negative, everything in a goods return is negative. The connectors
//! establish it when they translate; nothing after them asks again.

use crate::coupa_orders::{CoupaOrder, CoupaOrderReference};
use crate::entities::FieldValues;
use crate::ids::{
    ConnectionId, DocumentKind, EntityCode, Holder, InvoiceId, InvoiceReference, OrderLineKey,
    PurchaseOrderNumber, QadInvoiceIdentity, ReceiptKey, UnitCode,
};
use crate::lifecycle::Voucher;
use crate::matching::exact;
use crate::money::Currency;
use crate::time::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most lines an invoice may have; more are parked, not cut.
pub const INVOICE_LINES_MAX: usize = 500;
/// Most different purchase orders one invoice may name.
pub const ORDERS_PER_INVOICE_MAX: usize = 25;

/// Where Coupa says the invoice stands. Only `Approved` and `Voided` make us act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoupaStatus {
    /// Approved for payment: the invoice may go to the ledger.
    Approved,
    /// Taken back in Coupa.
    Voided,
    /// Any other status, in Coupa's own word; never a reason to post.
    Other(String),
}

/// Which reading of the Coupa invoice this is: a later `updated_at`, or the same with other content, is news.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceVersion {
    /// Coupa's `updated-at` as an instant in milliseconds, so that offsets compare.
    pub updated_at: crate::time::Timestamp,
    /// Hex SHA-256 over what matching depends on. Our own writes (payments, exported) do not change it.
    pub content_sha256: String,
}

/// The supplier as the Coupa invoice names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceSupplier {
    /// Coupa's id, when given.
    pub coupa_id: Option<u64>,
    /// The ERP's number of the supplier as Coupa holds it; may be absent, may be no valid QAD code.
    pub number: Option<String>,
    /// What else Coupa calls it: its number there before it was mapped to QAD's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Name, for people.
    pub name: String,
}

/// A freight or other charge of an invoice, at the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChargeKind {
    /// Freight.
    Shipping,
    /// Handling.
    Handling,
    /// Anything else.
    Misc,
}

/// How much of a line or charge is coded to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// All of it.
    Whole,
    /// So many percent.
    Percent(Decimal),
    /// So much, without a sign.
    Amount(Decimal),
}

/// One account that a line or charge is coded to, with its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodedShare {
    /// The account's fields that are not blank, by Coupa's names: `code`, `name`, `segment-1` to `segment-20`.
    pub account: BTreeMap<String, String>,
    /// Its share.
    pub share: Share,
}

/// A charge and its amount (signed by the document kind). Header amounts and `invoice-charges` are the same money and
/// were reconciled when translated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Which charge.
    pub kind: ChargeKind,
    /// Net amount, in the invoice's currency.
    pub amount: Decimal,
    /// What it is coded to, where Coupa shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coding: Vec<CodedShare>,
}

/// What a line bills: a quantity at a price, or an amount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Billed {
    /// `InvoiceQuantityLine`.
    Quantity {
        /// Signed by the document kind.
        quantity: Decimal,
        /// Per unit, never negative on a valid line.
        unit_price: Decimal,
        /// The invoice's unit; absent when Coupa gives none (then the order's unit is taken).
        unit: Option<UnitCode>,
    },
    /// `InvoiceAmountLine`: no quantity; the line's [`InvoiceLine::total`] is all there is.
    Amount,
}

/// What a line corrects, in Coupa's words (confirmed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adjustment {
    /// A price that was too high: goods stay where they are.
    Price,
    /// A quantity: goods went back.
    Quantity,
    /// Anything else.
    Other,
}

/// One line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// Line number in Coupa.
    pub number: u32,
    /// Description, for people.
    pub description: String,
    /// Quantity or amount.
    pub billed: Billed,
    /// Net line total in the invoice's currency, signed by the document kind.
    pub total: Decimal,
    /// What the line corrects, where Coupa says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjustment: Option<Adjustment>,
    /// The order line it bills; `None` on a line without order.
    pub order_line: Option<OrderLineKey>,
    /// What the line names as its order line and leads to none, when it names an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_line_unmapped: Option<String>,
    /// What it is coded to, where Coupa shows it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coding: Vec<CodedShare>,
    /// True when Coupa says that the line is outside of a tolerance of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed_tolerances: bool,
    /// The same order line in Coupa's terms; no content of its own, so it is not hashed with the invoice.
    #[serde(skip)]
    pub coupa_order: Option<CoupaOrderReference>,
}

impl InvoiceLine {
    /// What a line of a credit note corrects: what Coupa says, else goods on a quantity line and anything else on an amount
    /// line.
    pub fn purpose(&self) -> Adjustment {
        self.adjustment.unwrap_or(match self.billed {
            Billed::Quantity { .. } => Adjustment::Quantity,
            Billed::Amount => Adjustment::Other,
        })
    }
}

/// Coupa's own figures of an invoice of which not all is owed to the supplier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatedTotal {
    /// Coupa's total with taxes, signed.
    pub total: Decimal,
    /// All taxes, signed.
    pub tax: Decimal,
}

/// Which address the supplier wants to be paid at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RemitTo {
    /// Coupa's code of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The ERP's reference of it (`external-src-ref`); it decides where it is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl RemitTo {
    /// True when neither says anything.
    pub fn is_empty(&self) -> bool {
        self.code.is_none() && self.reference.is_none()
    }
}

/// What an invoice says beside its lines: in which smallest unit it counts, what of it is not owed, whether anybody pays it,
/// who and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct InvoiceTerms {
    /// Digits after the point of the smallest unit, where Coupa counts otherwise than ISO 4217.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor_digits: Option<u32>,
    /// Coupa's own figures, where the invoice's total and tax leave out tax that the customer accounts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated: Option<StatedTotal>,
    /// What is withheld when it is paid, without a sign; part of what is owed.
    #[serde(default, skip_serializing_if = "Decimal::is_zero")]
    pub withheld: Decimal,
    /// Coupa says that no payment is needed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canceled: bool,
    /// Coupa's paid flag. Our own payments set it, so it is no content.
    #[serde(skip)]
    pub paid: bool,
    /// Who pays it, in Coupa's word.
    #[serde(default, skip_serializing_if = "is_usual_channel")]
    pub payment_channel: Option<String>,
    /// What was paid in advance; more than zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advance_received: Option<Decimal>,
    /// What was agreed about the payment, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement_notes: Option<String>,
    /// Which address it is to be paid at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remit_to: Option<RemitTo>,
    /// Rows of tax: so often QAD may round otherwise. What they say is in the tax; their number is no content.
    #[serde(skip)]
    pub tax_rows: u32,
}

/// The usual channel is no content: invoices read before channels were, keep the hash of their content.
fn is_usual_channel(channel: &Option<String>) -> bool {
    channel
        .as_deref()
        .is_none_or(|word| word.eq_ignore_ascii_case("erp"))
}

impl InvoiceTerms {
    /// True when nothing in here is content.
    fn is_plain(&self) -> bool {
        let usual = Self {
            paid: self.paid,
            tax_rows: self.tax_rows,
            payment_channel: self.payment_channel.clone(),
            ..Self::default()
        };
        is_usual_channel(&self.payment_channel) && *self == usual
    }
}

/// What people ask of an invoice and nothing is decided by: when it is due, by when a discount is earned, who asked for the goods
/// and for which plant, where it stands in Coupa. None of it is content, so none of it is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct InvoiceParticulars {
    /// Net due date, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Date>,
    /// Last day of the discount, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount_until: Option<Date>,
    /// The discount, in percent; more than zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discount_percent: Option<Decimal>,
    /// Payment term, in Coupa's words for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_term: Option<String>,
    /// Who asked for what was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    /// The plant it was delivered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plant: Option<String>,
    /// Of a credit note: the number of the invoice that it corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<String>,
    /// Its own page in Coupa.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
}

impl InvoiceParticulars {
    /// True when nothing is known of them, as in records from before they were kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The discount, as far as Coupa tells it: `2 % until 2026-10-14`. `None` without a rate or a day: half of it helps nobody.
    pub fn discount(&self) -> Option<(Decimal, Date)> {
        Some((self.discount_percent?, self.discount_until?))
    }
}

/// An invoice or credit note, read from Coupa.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Coupa's id.
    pub id: InvoiceId,
    /// Which reading this is.
    pub source: SourceVersion,
    /// Where Coupa says it stands.
    pub status: CoupaStatus,
    /// Whether Coupa says it was exported (a flag other integrations and CSV exports flip too).
    pub exported: bool,
    /// Invoice or credit note; decides the signs.
    pub kind: DocumentKind,
    /// The supplier's own number.
    pub reference: InvoiceReference,
    /// For a credit note: the invoice it corrects, when Coupa names it.
    pub original_reference: Option<String>,
    /// Invoice date as written.
    pub invoice_date: Date,
    /// The supplier.
    pub supplier: InvoiceSupplier,
    /// Currency of every amount in here.
    pub currency: Currency,
    /// Coupa's payment term code, when given.
    pub payment_term: Option<String>,
    /// What is owed to the supplier, taxes included, signed: Coupa's total less tax that the customer accounts for itself.
    pub total: Decimal,
    /// The taxes in it, signed.
    pub tax: Decimal,
    /// Charges that are not zero, those of one kind and coding together.
    pub charges: Vec<Charge>,
    /// The lines, in Coupa's order.
    pub lines: Vec<InvoiceLine>,
    /// What it says beside its lines.
    #[serde(default, skip_serializing_if = "InvoiceTerms::is_plain")]
    pub terms: InvoiceTerms,
    /// What stands at the fields that say whose it is; empty where the connection has no conditions.
    #[serde(default, skip_serializing_if = "FieldValues::is_empty")]
    pub entity_fields: FieldValues,
    /// Coupa's orders that had to be read to understand the invoice: they need not be read again.
    #[serde(skip)]
    pub coupa_orders: Vec<CoupaOrder>,
    /// What people ask of it beside; no content.
    #[serde(skip)]
    pub particulars: InvoiceParticulars,
}

impl Invoice {
    /// Whether a credit note credits goods, and not prices or anything else alone.
    pub fn credits_goods(&self) -> bool {
        self.lines
            .iter()
            .any(|line| line.purpose() == Adjustment::Quantity)
    }

    /// The smallest unit of its amounts: by Coupa's count of digits, else by ISO 4217.
    pub fn minor_unit(&self) -> Decimal {
        Decimal::new(1, self.minor_digits())
    }

    /// An amount as it is sent: to the smallest unit, halves away from zero.
    pub fn rounded(&self, amount: Decimal) -> Decimal {
        crate::money::round_to(amount, self.minor_digits())
    }

    fn minor_digits(&self) -> u32 {
        self.terms
            .minor_digits
            .unwrap_or_else(|| self.currency.minor_digits())
    }

    /// The different purchase orders the lines name, in order.
    pub fn orders(&self) -> Vec<PurchaseOrderNumber> {
        let orders: std::collections::BTreeSet<_> = self
            .lines
            .iter()
            .filter_map(|line| line.order_line.as_ref().map(|key| key.order.clone()))
            .collect();
        orders.into_iter().collect()
    }
}

/// Where an order, or one of its lines, stands in QAD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderStatus {
    /// Open.
    Open,
    /// Closed: nothing more will be received.
    Closed,
    /// Cancelled.
    Cancelled,
    /// A status this connection's profile does not know, in QAD's own word; never taken for open.
    Unknown(String),
}

/// One line of a purchase order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// QAD line number.
    pub number: u32,
    /// Item.
    pub part: String,
    /// Description, for people.
    pub description: String,
    /// Unit of measure of quantities and price.
    pub unit: UnitCode,
    /// Quantity ordered.
    pub ordered: Decimal,
    /// Quantity received as the order itself counts it (for people; matching counts receipts).
    pub received: Decimal,
    /// Price per unit in the order's currency, before the discount.
    pub unit_price: Decimal,
    /// The line's discount in percent (`pod_disc_pct`); zero when the tenant does not show one.
    #[serde(default)]
    pub discount_percent: Decimal,
    /// A scheduled order's line (`pod_sched`): its receipts are the limit, not the quantity ordered.
    #[serde(default)]
    pub scheduled: bool,
    /// Received on consignment (`pod_consignment`): nothing is owed until it is used.
    #[serde(default)]
    pub consignment: bool,
    /// Evaluated receipts by the line's own word; `None` when that says nothing, and then the header's counts.
    #[serde(default)]
    pub evaluated_receipts: Option<bool>,
    /// Quantities with more places than are kept, and how they were read.
    #[serde(default)]
    pub rounded: Vec<String>,
    /// Status of the line; a closed or cancelled order closes or cancels its lines.
    pub status: OrderStatus,
}

impl OrderLine {
    /// Price per unit less the discount; `None` when it leaves the exact range.
    pub fn net_price(&self) -> Option<Decimal> {
        if self.discount_percent.is_zero() {
            return Some(self.unit_price);
        }
        exact::raised_by_percent(
            self.unit_price,
            exact::subtract(Decimal::ZERO, self.discount_percent)?,
        )
    }
}

/// A purchase order, read from QAD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub number: PurchaseOrderNumber,
    /// QAD's supplier code (`po_vend`), as written.
    pub supplier: String,
    /// Its currency.
    pub currency: Currency,
    /// Evaluated receipts by the header's word: QAD invoices itself, so nothing of ours may be posted on lines that do not
    /// say otherwise.
    pub evaluated_receipts: bool,
    /// QAD's entity that it belongs to; `None` where the tenant does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<EntityCode>,
    /// The lines.
    pub lines: Vec<OrderLine>,
}

/// What QAD's pending voucher says about a receipt: how much is there to be invoiced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Pending {
    /// The tenant does not show it: the quantity received is taken.
    #[default]
    NotShown,
    /// There is none, while other receipts have one: goods on consignment that nobody has used.
    Missing,
    /// So much (`pvo_trans_qty`), signed as the quantity received.
    Quantity(Decimal),
}

/// One goods receipt line, or one return (all its quantities negative). Logistics charges were dropped when read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// (domain, receiver, order, line).
    pub key: ReceiptKey,
    /// Received (positive) or returned (negative), in the order's unit.
    pub received: Decimal,
    /// Already invoiced in QAD (`pvo_vouchered_qty`), signed as `received`.
    pub vouchered: Decimal,
    /// Unit as QAD gives it.
    pub unit: UnitCode,
    /// Receipt date; receivers are consumed first in, first out.
    pub date: Date,
    /// Packing slip, for people.
    pub packing_slip: String,
    /// Currency of its cost, when QAD gives one.
    pub currency: Option<Currency>,
    /// The pending voucher.
    #[serde(default)]
    pub pending: Pending,
    /// An invoice was said to be the last of it (`pvo_last_voucher`): nothing is open, whatever is left.
    #[serde(default)]
    pub closed: bool,
    /// Cost per unit in the order's currency at the time of the receipt (`prh_curr_amt`); `None` when it is not shown or zero.
    #[serde(default)]
    pub unit_cost: Option<Decimal>,
    /// Quantities with more places than are kept, and how they were read.
    #[serde(default)]
    pub rounded: Vec<String>,
}

impl Receipt {
    /// True for a return.
    pub fn is_return(&self) -> bool {
        self.received.is_sign_negative()
    }
}

/// What another of our invoices has been approved to match and QAD may not show as invoiced yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The invoice that holds it.
    pub invoice: InvoiceId,
    /// Its connection; `None` for the one that asks, and where what is stored names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// Receipt line.
    pub receipt: ReceiptKey,
    /// Quantity, signed as the receipt's.
    pub quantity: Decimal,
}

impl Reservation {
    /// Who holds it.
    pub fn holder(&self) -> Holder {
        Holder {
            connection: self.connection.clone(),
            invoice: self.invoice,
        }
    }
}

/// A supplier invoice as QAD holds it: what the echo of a create, or a look-up, tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QadDocument {
    /// Its number; `None` when QAD's answer leaves it out (then it is looked up before anything rests on it).
    pub voucher: Option<Voucher>,
    /// Its identity.
    pub identity: QadInvoiceIdentity,
    /// Its currency.
    pub currency: Currency,
    /// Its total, signed as we sign (negative for a credit note, however QAD spells it).
    pub total: Decimal,
    /// Its description; begins with our mark when it is ours.
    pub description: String,
}
