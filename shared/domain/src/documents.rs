//! Invoice, purchase order and goods receipt as this product holds them true, whatever anyone's JSON says.
//!
//! Sign rule: everything in a credit note is negative, everything in a goods return is negative. The connectors
//! establish it when they translate; nothing after them asks again.

use crate::coupa_orders::{CoupaOrder, CoupaOrderReference};
use crate::ids::{
    DocumentKind, InvoiceId, InvoiceReference, OrderLineKey, PurchaseOrderNumber, ReceiptKey, UnitCode,
};
use crate::money::Currency;
use crate::time::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

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

/// A charge and its amount (signed by the document kind). Header amounts and `invoice-charges` are the same money and
/// were reconciled when translated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Which charge.
    pub kind: ChargeKind,
    /// Net amount, in the invoice's currency.
    pub amount: Decimal,
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
    /// The order line it bills; `None` on a line without order.
    pub order_line: Option<OrderLineKey>,
    /// The same order line in Coupa's terms; no content of its own, so it is not hashed with the invoice.
    #[serde(skip)]
    pub coupa_order: Option<CoupaOrderReference>,
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
    /// Total with taxes, signed.
    pub total: Decimal,
    /// All taxes (lines and charges when taxed by line, else the header's), signed.
    pub tax: Decimal,
    /// Charges that are not zero, at most one of each kind.
    pub charges: Vec<Charge>,
    /// The lines, in Coupa's order.
    pub lines: Vec<InvoiceLine>,
    /// Coupa's orders that had to be read to understand the invoice: they need not be read again.
    #[serde(skip)]
    pub coupa_orders: Vec<CoupaOrder>,
}

impl Invoice {
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
    /// Price per unit in the order's currency.
    pub unit_price: Decimal,
    /// Status of the line; a closed or cancelled order closes or cancels its lines.
    pub status: OrderStatus,
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
    /// Evaluated receipts: QAD invoices itself, so nothing of ours may be posted on it.
    pub evaluated_receipts: bool,
    /// The lines.
    pub lines: Vec<OrderLine>,
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
    /// Receipt line.
    pub receipt: ReceiptKey,
    /// Quantity, signed as the receipt's.
    pub quantity: Decimal,
}
