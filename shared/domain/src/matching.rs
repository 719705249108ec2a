//! The three-way match: invoice against purchase order against goods receipts.
//!
//! [`decide`] is pure and total. Its answer is the one value that is stored, audited, shown to the clerk, written to
//! Coupa and compared by the tests.

use crate::documents::{Invoice, Order, Receipt, Reservation};
use crate::ids::{
    CreditTermsCode, DaybookCode, DomainCode, GlAccountCode, InvoiceId, OrderLineKey, PurchaseOrderNumber,
    QadInvoiceIdentity, ReceiverNumber, UnitCode,
};
use crate::money::Currency;
use crate::policy::MatchPolicy;
use crate::time::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything a decision is made from.
#[derive(Debug, Clone)]
pub struct MatchInput<'a> {
    /// The invoice.
    pub invoice: &'a Invoice,
    /// Every order the invoice names, with `None` for one that QAD does not have (a complete, successful look-up).
    pub orders: &'a BTreeMap<PurchaseOrderNumber, Option<Order>>,
    /// All receipts and returns of those orders.
    pub receipts: &'a [Receipt],
    /// What other invoices of ours are about to match on those orders.
    pub reservations: &'a [Reservation],
    /// Limits and defaults.
    pub policy: &'a MatchPolicy,
    /// Today (UTC), for [`crate::policy::PostingDate::MatchingDate`].
    pub today: Date,
}

/// What to do with an invoice, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Post, hold or park.
    pub verdict: Verdict,
    /// Line by line, what the verdict rests on. Present for every verdict.
    pub report: MatchReport,
}

/// Post, hold or park.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// Everything agrees: create this supplier invoice in QAD.
    Approve {
        /// The document to create.
        draft: Box<SupplierInvoiceDraft>,
    },
    /// Waits for the other system and heals by itself.
    Hold {
        /// Why; never empty.
        exceptions: Vec<Exception>,
        /// The order lines whose receipts (or appearance) it waits for; never empty, sorted, no repeats.
        awaits: Vec<OrderLineKey>,
    },
    /// Waits for a person.
    Park {
        /// Why; never empty. Contains holding exceptions too when there are some.
        exceptions: Vec<Exception>,
    },
}

/// Who can make an exception go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// The other system will: a receipt posts, an order appears, another invoice settles. The invoice is held.
    TheOtherSystem,
    /// A person must act. The invoice is parked.
    APerson,
}

macro_rules! exception_codes {
    ($($(#[$doc:meta])* $variant:ident => $code:literal, $remedy:ident, $fix:literal;)*) => {
        /// Every reason an invoice is not posted. The code is stable and documented in `docs/operate.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ExceptionCode {
            $($(#[$doc])* #[serde(rename = $code)] $variant,)*
        }

        impl ExceptionCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable text of the code.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Who can make it go away.
            pub fn remedy(self) -> Remedy {
                match self { $(Self::$variant => Remedy::$remedy,)* }
            }

            /// What to do, in one sentence.
            pub fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)* }
            }
        }
    };
}

exception_codes! {
    /// No receipt for the order line yet.
    ReceiptMissing => "RECEIPT_MISSING", TheOtherSystem, "Nothing to do: it posts by itself when the goods receipt is posted in QAD.";
    /// Received and not yet invoiced is less than billed.
    ReceiptShort => "RECEIPT_SHORT", TheOtherSystem, "Nothing to do: it posts by itself when the rest is received in QAD.";
    /// A credit note finds no return, or too small a one.
    ReturnMissing => "RETURN_MISSING", TheOtherSystem, "Nothing to do: it posts by itself when the return is posted in QAD.";
    /// QAD has no such order.
    OrderNotFound => "ORDER_NOT_FOUND", TheOtherSystem, "It is looked for again; if the number is wrong, correct the order on the Coupa line.";
    /// The order has no such line.
    OrderLineNotFound => "ORDER_LINE_NOT_FOUND", TheOtherSystem, "It is looked for again; if the line is wrong, correct it on the Coupa line.";
    /// What is open is spoken for by another invoice that is being posted right now.
    AnotherInvoiceInFlight => "ANOTHER_INVOICE_IN_FLIGHT", TheOtherSystem, "Nothing to do: it is looked at again when the other invoice has settled.";
    /// The Coupa supplier has no QAD number.
    SupplierNotLinked => "SUPPLIER_NOT_LINKED", APerson, "Give the supplier its QAD number in Coupa, then recheck.";
    /// The Coupa supplier's number is no QAD supplier code.
    SupplierCodeInvalid => "SUPPLIER_CODE_INVALID", APerson, "Correct the supplier's number in Coupa (QAD codes have at most 8 characters), then recheck.";
    /// The order belongs to another supplier.
    SupplierDiffers => "SUPPLIER_DIFFERS", APerson, "Correct the supplier on the invoice or the order, then recheck.";
    /// The currency of invoice, order or receipt differs.
    CurrencyDiffers => "CURRENCY_DIFFERS", APerson, "Have the invoice reissued in the order's currency, or change the order.";
    /// The units differ and no conversion is configured.
    UnitDiffers => "UNIT_DIFFERS", APerson, "Correct the unit on the invoice, or configure the conversion, then recheck.";
    /// The unit price is over the order's by more than allowed.
    PriceOverTolerance => "PRICE_OVER_TOLERANCE", APerson, "Have the buyer change the order's price, or dispute the invoice, then recheck.";
    /// More is billed than was ordered.
    BilledOverOrdered => "BILLED_OVER_ORDERED", APerson, "Have the buyer change the order, or dispute the invoice, then recheck.";
    /// Lines, charges and tax do not add up to the total.
    TotalsDisagree => "TOTALS_DISAGREE", APerson, "Correct the invoice in Coupa so that lines, charges and tax add up to its total.";
    /// A line names no order.
    LineWithoutOrder => "LINE_WITHOUT_ORDER", APerson, "Name the order on the line in Coupa, or enter the invoice in QAD by hand.";
    /// The order line is closed and nothing, or too little, is open to match.
    OrderLineClosed => "ORDER_LINE_CLOSED", APerson, "Reopen the order line in QAD, or dispute the invoice, then recheck.";
    /// The order line is cancelled.
    OrderLineCancelled => "ORDER_LINE_CANCELLED", APerson, "Dispute the invoice, or have the order reinstated, then recheck.";
    /// QAD gives the order line a status that the profile does not know.
    OrderStatusUnknown => "ORDER_STATUS_UNKNOWN", APerson, "Add the status to the connection's profile, then recheck.";
    /// QAD invoices this order by itself (evaluated receipts).
    OrderIsEvaluatedReceipts => "ORDER_IS_ERS", APerson, "QAD creates this invoice itself; void the one in Coupa.";
    /// A charge has no GL account in the connection.
    ChargeNotMapped => "CHARGE_NOT_MAPPED", APerson, "Give the charge a GL account in the connection's settings, then recheck.";
    /// An amount line is no exact quantity at the order's price within what is open.
    AmountLineUnresolved => "AMOUNT_LINE_UNRESOLVED", APerson, "Bill it as a quantity line, or enter the invoice in QAD by hand.";
    /// A line's sign contradicts the kind of document.
    SignContradicts => "SIGN_CONTRADICTS", APerson, "Enter credits as a credit note of their own in Coupa.";
    /// A line has a total but no quantity, or other figures that contradict each other.
    LineContradictsItself => "LINE_CONTRADICTS_ITSELF", APerson, "Correct the line in Coupa, then recheck.";
    /// Nothing on the invoice has a value.
    NothingToPost => "NOTHING_TO_POST", APerson, "Void the invoice in Coupa if it is empty on purpose.";
    /// The invoice has too many lines or orders.
    TooLarge => "TOO_LARGE", APerson, "Split the invoice, or enter it in QAD by hand.";
    /// A figure leaves the range in which decimals are exact.
    OutOfRange => "OUT_OF_RANGE", APerson, "Correct the figure in Coupa.";
}

/// One reason an invoice is not posted, with the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Which reason.
    pub code: ExceptionCode,
    /// The invoice line concerned; `None` for the whole document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The order line concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_line: Option<OrderLineKey>,
    /// What would have been right, with its unit: `10.00 USD per EA`, `100 EA`.
    pub expected: String,
    /// What is.
    pub actual: String,
    /// The limit that was applied, with its unit; empty when the rule knows no limit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub limit: String,
}

/// Line by line, what the decision rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchReport {
    /// Which tolerances were applied.
    pub tolerance_version: String,
    /// One row per invoice line, in the invoice's order.
    pub lines: Vec<LineReport>,
}

/// One row of the line matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineReport {
    /// Invoice line number.
    pub line: u32,
    /// The order line, when it names one.
    pub order_line: Option<OrderLineKey>,
    /// The order's unit; `None` when the order is not known.
    pub unit: Option<UnitCode>,
    /// Ordered quantity.
    pub ordered: Option<Decimal>,
    /// Received less returned.
    pub received: Option<Decimal>,
    /// Already invoiced in QAD.
    pub already_invoiced: Option<Decimal>,
    /// Spoken for by other invoices that are being posted.
    pub reserved: Option<Decimal>,
    /// Open to match for this line.
    pub open: Option<Decimal>,
    /// Quantity this line bills, in the order's unit; `None` when it cannot be told.
    pub this_invoice: Option<Decimal>,
    /// The order's unit price.
    pub order_price: Option<Decimal>,
    /// The invoice's unit price in the order's unit.
    pub invoice_price: Option<Decimal>,
    /// The highest unit price the tolerance allows.
    pub price_limit: Option<Decimal>,
    /// Empty when the line matches, or has nothing to post.
    pub exceptions: Vec<ExceptionCode>,
    /// True for a line without value: nothing is posted for it.
    pub nothing_to_post: bool,
}

/// One receiver line that the supplier invoice is matched to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverMatch {
    /// The order line.
    pub order_line: OrderLineKey,
    /// The receiver.
    pub receiver: ReceiverNumber,
    /// Quantity, in the order's unit; negative throughout on a credit note.
    pub quantity: Decimal,
    /// The invoice's unit price in the order's unit.
    pub unit_price: Decimal,
    /// True exactly when nothing of that receiver line stays open.
    pub finished: bool,
}

/// A cost that is on no receiver: freight, handling, misc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdditionalCost {
    /// The account.
    pub gl_account: GlAccountCode,
    /// May be blank.
    pub cost_center: String,
    /// May be blank.
    pub project: String,
    /// Net amount, signed.
    pub amount: Decimal,
    /// For people.
    pub description: String,
}

/// The QAD supplier invoice to create: complete, exact, and all that is ever sent for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplierInvoiceDraft {
    /// Its identity in QAD.
    pub identity: QadInvoiceIdentity,
    /// Coupa's id; goes into QAD's description as `Coupa <id>`, the mark by which we know our own.
    pub coupa_id: InvoiceId,
    /// QAD domain.
    pub domain: DomainCode,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Invoice date.
    pub invoice_date: Date,
    /// Posting date.
    pub posting_date: Date,
    /// Daybook.
    pub daybook: DaybookCode,
    /// Daybook of the matching.
    pub matching_daybook: DaybookCode,
    /// QAD invoice status code.
    pub invoice_status: String,
    /// Credit terms; `None` lets QAD take the supplier's.
    pub credit_terms: Option<CreditTermsCode>,
    /// Total with taxes, signed.
    pub total: Decimal,
    /// Taxes, signed.
    pub tax: Decimal,
    /// The orders.
    pub orders: Vec<PurchaseOrderNumber>,
    /// The receivers.
    pub matches: Vec<ReceiverMatch>,
    /// The charges.
    pub costs: Vec<AdditionalCost>,
}

impl SupplierInvoiceDraft {
    /// How QAD shows that a document is ours.
    pub fn description(&self) -> String {
        our_mark(self.coupa_id)
    }
}

/// The mark in QAD's description by which we know the document of one Coupa invoice.
pub fn our_mark(id: InvoiceId) -> String {
    format!("Coupa {id}")
}
