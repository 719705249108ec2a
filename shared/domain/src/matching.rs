//! The three-way match: invoice against purchase order against goods receipts.
//!
//! [`decide`] is pure and total. Its answer is the one value that is stored, audited, shown to the clerk, written to
//! Coupa and compared by the tests.

pub mod alike;
mod cancel;
mod coding;
mod credited;
mod destination;
pub(crate) mod exact;
mod ledger;
mod lines;
mod payable;
mod price;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow in a test fails it")]
pub(crate) mod tests;
pub(crate) mod text;

use self::alike::{BillAlike, SameNumber};
pub use self::cancel::Original;
pub use self::coding::{CODING_KEPT_MAX, LineCoding, coding_of};
pub use self::credited::Credited;
pub use self::destination::received_in_coupa;
use crate::coupa_orders::{CoupaOrder, CoupaOrderFacts};
use crate::documents::{
    ChargeKind, INVOICE_LINES_MAX, Invoice, ORDERS_PER_INVOICE_MAX, Order, Receipt, Reservation,
};
use crate::guards::{Guard, stands};
use crate::ids::{
    CreditTermsCode, DaybookCode, DocumentKind, DomainCode, GlAccountCode, InvoiceId, OrderLineKey,
    PurchaseOrderNumber, QadInvoiceIdentity, ReceiptKey, ReceiverNumber, SupplierCode, UnitCode, fold,
};
use crate::money::Currency;
use crate::policy::{MatchPolicy, Payee, PostingDate};
use crate::time::Date;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// Coupa's orders behind the lines by their folded number, with `None` for one that Coupa does not have (a complete,
    /// successful look-up); one that was not asked for is not in here, and says nothing.
    pub coupa_orders: &'a CoupaOrders,
    /// Bills of ours that are kept under one of this invoice's [`alike::near_texts`] and stand.
    pub alike: &'a [BillAlike],
    /// The invoice that a credit note names as the one it corrects, where it is one of ours.
    pub original: Option<&'a Original>,
    /// What that invoice bills and what others credit of it, where it is known.
    pub credited: Option<&'a Credited>,
    /// Another invoice of ours that has this one's identity in QAD.
    pub same_number: Option<&'a SameNumber>,
    /// What other invoices of ours have billed of what is received in Coupa alone.
    pub billed_in_coupa: &'a QuantitiesInCoupa,
    /// Limits and defaults.
    pub policy: &'a MatchPolicy,
    /// Today in the entity's time zone, for [`crate::policy::PostingDate::MatchingDate`].
    pub today: Date,
}

/// Quantities by Coupa's folded number of the order and a text for its line that is the same for every invoice.
pub type QuantitiesInCoupa = BTreeMap<String, BTreeMap<String, Decimal>>;

/// Coupa's orders by their folded number.
pub type CoupaOrders = BTreeMap<String, Option<CoupaOrder>>;

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
            pub const fn as_str(self) -> &'static str {
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
    /// It has waited for one reason longer than is waited.
    HeldTooLong => "HELD_TOO_LONG", APerson, "Find out why it does not come; it still posts by itself when it does.";
    /// The return that a credit note credits has not come in the time that is waited for it.
    ReturnNotComing => "RETURN_NOT_COMING", APerson, "Have the return posted in QAD, or dispute the credit note; it still posts by itself when the return is there.";
    /// A credit note cancels an invoice that is not posted yet.
    OriginalNotPosted => "ORIGINAL_NOT_POSTED", TheOtherSystem, "Nothing to do: it posts by itself when the invoice it cancels has posted.";
    /// A credit note cancels an invoice that was never posted and will not be, or was reversed in QAD.
    OriginalNotInQad => "ORIGINAL_NOT_IN_QAD", APerson, "Void the credit note in Coupa too, or enter it in QAD by hand if something is left to credit.";
    /// Another credit note has cancelled the invoice that this one cancels.
    OriginalAlreadyCancelled => "ORIGINAL_ALREADY_CANCELLED", APerson, "Void this credit note in Coupa if it is the same credit; if it credits another invoice, have its original invoice number corrected.";
    /// With this credit note more would be credited of an invoice than it has billed.
    CreditedOverBilled => "CREDITED_OVER_BILLED", APerson, "Dispute the credit note, or have its original invoice number corrected; if it is right, enter it in QAD by hand and adopt it.";
    /// Goods went back and the credit note for them has not come: what replaced them cannot be billed before it.
    CreditNoteMissing => "CREDIT_NOTE_MISSING", TheOtherSystem, "Nothing to do: it posts by itself when the credit note for the return has posted.";
    /// Received on consignment, and not used.
    ConsignedNotUsed => "CONSIGNED_NOT_USED", TheOtherSystem, "Nothing to do: it posts by itself when the consigned goods are used in QAD.";
    /// Nothing is open, and nothing more can come.
    NothingLeftToBill => "NOTHING_LEFT_TO_BILL", APerson, "Everything received is invoiced already: dispute the invoice, or reopen the order line in QAD, then recheck.";
    /// QAD has no such order.
    OrderNotFound => "ORDER_NOT_FOUND", TheOtherSystem, "It is looked for again; if the number is wrong, correct the order on the Coupa line.";
    /// The order has no such line.
    OrderLineNotFound => "ORDER_LINE_NOT_FOUND", TheOtherSystem, "It is looked for again; if the line is wrong, correct it on the Coupa line.";
    /// What is open is spoken for by another invoice that is being posted right now.
    AnotherInvoiceInFlight => "ANOTHER_INVOICE_IN_FLIGHT", TheOtherSystem, "Nothing to do: it is looked at again when the other invoice has settled.";
    /// It takes the rest of a receiver line of which another invoice is being posted right now: which of them finishes it is
    /// not known yet.
    ReceiverLineInFlight => "RECEIVER_LINE_IN_FLIGHT", TheOtherSystem, "Nothing to do: it goes on by itself when the other invoice has settled.";
    /// QAD's books are closed on the posting date.
    PeriodClosed => "PERIOD_CLOSED", TheOtherSystem, "Have the period opened in QAD and recheck it, or have somebody say from when on the books are open.";
    /// The Coupa supplier has no QAD number.
    SupplierNotLinked => "SUPPLIER_NOT_LINKED", APerson, "Give the supplier its QAD number in Coupa, then recheck.";
    /// The Coupa supplier's number is no QAD supplier code.
    SupplierCodeInvalid => "SUPPLIER_CODE_INVALID", APerson, "Correct the supplier's number in Coupa (QAD codes have at most 8 characters), then recheck.";
    /// The order belongs to another supplier.
    SupplierDiffers => "SUPPLIER_DIFFERS", APerson, "Correct the supplier on the invoice or the order, then recheck.";
    /// The order is in the entity's domain and belongs to another entity of it.
    OrderOfAnotherEntity => "ORDER_OF_ANOTHER_ENTITY", APerson, "Have the invoice coded to the company that ordered, or the order moved in QAD, then recheck.";
    /// The currency of invoice, order or receipt differs.
    CurrencyDiffers => "CURRENCY_DIFFERS", APerson, "Have the invoice reissued in the order's currency, or change the order.";
    /// The units differ and no conversion is configured.
    UnitDiffers => "UNIT_DIFFERS", APerson, "Correct the unit on the invoice, or configure the conversion, then recheck.";
    /// The unit price is over the order's by more than allowed.
    PriceOverTolerance => "PRICE_OVER_TOLERANCE", APerson, "Have the buyer change the order's price, or dispute the invoice, then recheck.";
    /// The unit price is below what was agreed by more than allowed: on an invoice a mistake that comes back, on a credit
    /// note our loss.
    PriceUnderTolerance => "PRICE_UNDER_TOLERANCE", APerson, "Ask the supplier whether the price is meant, then have it corrected, or release it.";
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
    /// The order, or its line, is cancelled in Coupa.
    CoupaOrderCancelled => "COUPA_ORDER_CANCELLED", APerson, "Dispute the invoice, have the order reinstated in Coupa, or release the invoice.";
    /// The order, or its line, is closed in Coupa.
    CoupaOrderClosed => "COUPA_ORDER_CLOSED", APerson, "Have the order opened again in Coupa, dispute the invoice, or release it.";
    /// Coupa gives the order a status that the connection does not know.
    CoupaOrderStatusUnknown => "COUPA_ORDER_STATUS_UNKNOWN", APerson, "Add the status to coupa.orders.statuses of the connection, then recheck.";
    /// The order is not issued in Coupa, or was taken back there for a change or a check.
    CoupaOrderNotIssued => "COUPA_ORDER_NOT_ISSUED", TheOtherSystem, "Nothing to do: it goes on by itself when the order is issued in Coupa.";
    /// Coupa asks no receipt for the line (two-way), and QAD has too little of one: nothing is posted ahead of its receipt.
    TwoWayLine => "TWO_WAY_LINE", TheOtherSystem, "Have what is billed received in QAD, or enter the invoice in QAD by hand.";
    /// QAD invoices this order by itself (evaluated receipts).
    OrderIsEvaluatedReceipts => "ORDER_IS_ERS", APerson, "QAD invoices it; compare, then void in Coupa or release.";
    /// A line of a credit note credits no goods, and leads to no account.
    CreditNotMapped => "CREDIT_NOT_MAPPED", APerson, "Code the line in Coupa, or give credits.price_account or credits.other_account of the connection an account, then recheck.";
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
    /// Coupa says that no payment is needed.
    CanceledInCoupa => "CANCELED_IN_COUPA", APerson, "Void the invoice in Coupa, or release it if QAD shall pay it all the same.";
    /// Coupa says that it is paid, or is paid through another channel.
    PaidElsewhere => "PAID_ELSEWHERE", APerson, "Take the invoice out if somebody else pays it, or release it if QAD shall pay it all the same.";
    /// Coupa says that it was paid in advance.
    Prepaid => "PREPAID", APerson, "Settle it against the advance payment in QAD, or release it if QAD shall pay it all the same.";
    /// A line of an invoice corrects a price, or anything but goods.
    PriceAdjustment => "PRICE_ADJUSTMENT", APerson, "Have it approved by the buyer and entered in QAD by hand, or let such lines go to the general ledger (lines.price_adjustment).";
    /// A line of an invoice is negative.
    LineNegative => "LINE_NEGATIVE", APerson, "Have a credit note of its own entered, or let such lines go to the general ledger (lines.negative).";
    /// A line names an order, and its order line leads to none of QAD's.
    OrderLineNotMapped => "ORDER_LINE_NOT_MAPPED", APerson, "Correct the order line on the invoice, or map it in coupa.order_line, then recheck.";
    /// What a line or charge is coded to leads to no account of QAD's.
    AccountNotMapped => "ACCOUNT_NOT_MAPPED", APerson, "Correct the account in Coupa, or map it in [coding], then recheck.";
    /// The payment term fits no credit terms of QAD's.
    CreditTermsNotMapped => "CREDIT_TERMS_NOT_MAPPED", APerson, "Give the payment term its QAD code in invoices.credit_terms, then recheck.";
    /// It is to be paid at an address that leads to nobody.
    RemitToNotMapped => "REMIT_TO_NOT_MAPPED", APerson, "Have the address checked with the supplier, then list its reference in invoices.remit_to.codes.";
    /// Another invoice of the supplier has this number.
    DuplicateReference => "DUPLICATE_REFERENCE", APerson, "Void this invoice in Coupa if it is the same bill; if it is another, have the supplier's number corrected.";
    /// Another invoice of the supplier has this number, posted in another year.
    DuplicateReferenceOtherYear => "DUPLICATE_REFERENCE_OTHER_YEAR", APerson, "Void this invoice in Coupa if it is the same bill, or release it if the supplier has begun its numbers anew.";
    /// Another bill of the supplier and amount has a number of the same letters and digits.
    NearDuplicate => "NEAR_DUPLICATE", APerson, "Void the invoice in Coupa if it is the same bill, or release it if it is another.";
    /// A figure leaves the range in which decimals are exact.
    OutOfRange => "OUT_OF_RANGE", APerson, "Correct the figure in Coupa.";
}

impl ExceptionCode {
    /// True for what only the order in Coupa says.
    pub fn is_about_a_coupa_order(self) -> bool {
        matches!(
            self,
            Self::CoupaOrderCancelled
                | Self::CoupaOrderClosed
                | Self::CoupaOrderStatusUnknown
                | Self::CoupaOrderNotIssued
        )
    }
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

impl MatchReport {
    /// What Coupa's orders said, each once, as `PO1 issued`.
    pub fn coupa_orders(&self) -> Vec<String> {
        let told: BTreeSet<String> = self
            .lines
            .iter()
            .filter_map(|line| line.coupa_order.as_ref())
            .map(|facts| match facts.word.as_str() {
                "" => format!("{} without a status", facts.order),
                word => format!("{} {word}", facts.order),
            })
            .collect();
        told.into_iter().collect()
    }
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
    /// What the price was compared with; `None` when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceFinding>,
    /// Quantities of QAD with more places than are kept, and how they were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounded: Vec<String>,
    /// Empty when the line matches, or has nothing to post.
    pub exceptions: Vec<ExceptionCode>,
    /// True for a line without value: nothing is posted for it.
    pub nothing_to_post: bool,
    /// True for a line that goes to the general ledger, not to receivers.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub to_ledger: bool,
    /// What Coupa's order said about it; `None` when Coupa was not asked, has no such order, or the line names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupa_order: Option<CoupaOrderFacts>,
}

/// Whose price the invoice's was compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriceReference {
    /// The order's, less its discount.
    Order,
    /// What each matched receiver has cost.
    Receiver,
    /// The receivers' where they say it, else the order's.
    ReceiverAndOrder,
}

/// What the comparison of prices found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceFinding {
    /// What was compared with.
    pub reference: PriceReference,
    /// Effect on the line in the order's currency; more than agreed is positive.
    pub difference: Decimal,
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

/// A cost that is on no receiver: a charge, or a line that goes to the general ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdditionalCost {
    /// The account.
    pub gl_account: GlAccountCode,
    /// May be blank.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub_account: String,
    /// May be blank.
    pub cost_center: String,
    /// May be blank.
    pub project: String,
    /// Net amount, signed.
    pub amount: Decimal,
    /// For people.
    pub description: String,
}

/// What a line or charge of an invoice bills, whatever it is matched to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BilledLine {
    /// The order line it names; `None` on a charge too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_line: Option<OrderLineKey>,
    /// Quantity, in the order's unit; `None` where it bills an amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<Decimal>,
    /// Net amount.
    pub amount: Decimal,
}

/// The QAD supplier invoice to create: complete, exact, and all that is ever sent for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplierInvoiceDraft {
    /// Its identity in QAD.
    pub identity: QadInvoiceIdentity,
    /// Coupa's id; goes into QAD's description as [`crate::mark`], by which we know our own.
    pub coupa_id: InvoiceId,
    /// The Coupa instance that the mark names; blank where there is only one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub coupa_instance: String,
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
    /// Whom QAD pays, where it is not the supplier at its usual account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payee: Option<Payee>,
    /// By how much QAD's total may differ from what is sent, because QAD computes the tax itself.
    #[serde(default, skip_serializing_if = "Decimal::is_zero")]
    pub echo: Decimal,
    /// True when it is posted so that no payment run takes it, because Coupa says that QAD does not pay it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// What the lines and charges of an invoice bill, as a credit note that cancels it must negate them. Nothing of it is sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub billed: Vec<BilledLine>,
    /// The invoice of ours that this credit note cancels as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancels: Option<InvoiceId>,
    /// A person has released it beside a document of the same number in another posting year: QAD tells the two apart by that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_twin: bool,
    /// What it bills of what is received in Coupa alone.
    #[serde(default, skip_serializing_if = "QuantitiesInCoupa::is_empty")]
    pub billed_in_coupa: QuantitiesInCoupa,
}

impl SupplierInvoiceDraft {
    /// How QAD shows that a document is ours.
    pub fn description(&self) -> String {
        crate::mark::of(&self.coupa_instance, self.coupa_id)
    }
}

/// Decides what happens to an invoice: post it, hold it or park it.
///
/// Total: every input gets a decision. All exceptions of all lines are collected, so that a person sees them at
/// once. One that needs a person parks the invoice; else one that the other system mends holds it; else it is
/// approved with the complete document to create. An invoice that is too large is parked for that alone, and its
/// report has the first [`INVOICE_LINES_MAX`] lines without figures of the order.
pub fn decide(input: &MatchInput<'_>) -> Decision {
    decide_accepting(input, &[])
}

/// As [`decide`], but what a person has accepted, figure by figure, is in the way no more
/// ([`ExceptionCode::is_releasable`] says what can be accepted at all). The report shows it all the same.
pub fn decide_accepting(input: &MatchInput<'_>, accepted: &[Exception]) -> Decision {
    let Some(digits) = input.policy.minor_units.get(&input.invoice.currency) else {
        return decide_in_units(input, accepted);
    };
    let mut invoice = input.invoice.clone();
    invoice.terms.minor_digits = Some(*digits);
    let input = MatchInput {
        invoice: &invoice,
        ..input.clone()
    };
    decide_in_units(&input, accepted)
}

/// As [`decide_accepting`], with the invoice's own smallest unit.
fn decide_in_units(input: &MatchInput<'_>, accepted: &[Exception]) -> Decision {
    let invoice = input.invoice;
    if let Some(exception) = too_large(invoice) {
        let lines = invoice
            .lines
            .iter()
            .take(INVOICE_LINES_MAX)
            .map(lines::bare_report)
            .collect();
        return Decision {
            verdict: not_posted(vec![exception]),
            report: report(input, lines),
        };
    }
    let mut ledgers = ledger::ledgers(input);
    let cancelled = cancel::of(input);
    let matched: Vec<_> = invoice
        .lines
        .iter()
        .map(|line| match cancelled {
            Some(_) => cancel::line(line),
            None => lines::match_line(input, line, &mut ledgers),
        })
        .collect();

    let mut exceptions = Vec::new();
    let supplier = supplier_code(invoice)
        .map_err(|exception| exceptions.push(exception))
        .ok();
    let orders = billed_orders(input);
    for order in &orders {
        check_order(invoice, supplier.as_ref(), order, &mut exceptions);
        exceptions.extend(of_another_entity(input.policy, order));
        check_evaluated_receipts(invoice, order, &mut exceptions);
    }
    check_document_signs(invoice, &mut exceptions);
    let payable::Payable {
        exceptions: not_payable,
        locked,
    } = payable::check(input);
    exceptions.extend(not_payable);
    exceptions.extend(alike::check(input));
    let payee = payable::payee(input)
        .map_err(|exception| exceptions.push(exception))
        .ok()
        .flatten();
    let mut costs = match cancelled {
        Some(_) => Vec::new(),
        None => additional_costs(input, &mut exceptions),
    };
    let credit_terms = credit_terms(invoice, input.policy)
        .map_err(|exception| exceptions.push(exception))
        .ok()
        .flatten();
    check_total(input, &matched, &mut exceptions);

    let mut rows = Vec::with_capacity(matched.len());
    let mut parts = Vec::new();
    for line in matched {
        exceptions.extend(line.exceptions);
        rows.push(line.report);
        parts.extend(line.parts);
        costs.extend(line.costs);
    }
    for ledger in ledgers.values().flatten() {
        check_shared_rests(ledger, &mut rows, &mut exceptions);
    }
    let mut received = parts.iter().map(|priced| priced.part.receipt.date).max();
    let used_up = ledgers
        .values()
        .flatten()
        .flat_map(ledger::Ledger::used_up)
        .collect();
    let mut matches = receiver_matches(&parts, &used_up, &mut exceptions);
    let mut cancels = None;
    // While its return is not there, nothing is credited; how much others have by then is asked then.
    let waits_for_return = exceptions
        .iter()
        .any(|exception| exception.code == ExceptionCode::ReturnMissing);
    if !waits_for_return
        && cancelled
            .as_ref()
            .is_none_or(|cancelled| cancelled.original.is_some())
    {
        exceptions.extend(credited::check(input));
    }
    if let Some(cancelled) = cancelled {
        cancels = cancelled.original;
        received = cancel::latest_receipt(input, &cancelled.matches);
        exceptions.extend(cancelled.exceptions);
        matches = cancelled.matches;
        costs = cancelled.costs;
    }
    let posting_date = posting_date(input, received);
    // The first to be told: what else is in the way of a bill that was entered before matters little.
    exceptions.splice(0..0, alike::check_number(input, posting_date));
    exceptions.retain(|exception| !(exception.code.is_releasable() && accepted.contains(exception)));
    let verdict = match supplier {
        Some(supplier) if exceptions.is_empty() => Verdict::Approve {
            draft: Box::new(SupplierInvoiceDraft {
                invoice_status: status_code(input.policy, locked, matches.is_empty()),
                payee,
                locked,
                posting_date,
                credit_terms,
                cancels,
                is_twin: input.same_number.is_some(),
                ..draft(input, supplier, &orders, matches, costs)
            }),
        },
        _ => not_posted(exceptions),
    };
    Decision {
        verdict,
        report: report(input, rows),
    }
}

/// What other invoices in flight leave of a receiver line is taken only when they have settled: then it is known whether
/// anything of the line stays open. Those others wait for nobody, for what waits reserves nothing.
fn check_shared_rests(ledger: &ledger::Ledger<'_>, rows: &mut [LineReport], exceptions: &mut Vec<Exception>) {
    for rest in ledger.shared_rests() {
        let key = &rest.receipt.key;
        let code = ExceptionCode::ReceiverLineInFlight;
        for row in rows
            .iter_mut()
            .filter(|row| row.order_line.as_ref() == Some(&key.order_line))
        {
            row.exceptions.push(code);
            row.exceptions.sort();
            row.exceptions.dedup();
        }
        exceptions.push(Exception {
            order_line: Some(key.order_line.clone()),
            ..of_document(
                code,
                format!("nothing else of receiver {} in flight", key.receiver),
                format!(
                    "{} of receiver {} with Coupa invoice {}",
                    text::quantity(rest.reserved, &rest.receipt.unit),
                    key.receiver,
                    text::some_invoices(rest.reserved_by)
                ),
            )
        });
    }
}

fn report(input: &MatchInput<'_>, lines: Vec<LineReport>) -> MatchReport {
    MatchReport {
        tolerance_version: input.policy.tolerance.version.clone(),
        lines,
    }
}

/// Park when any exception needs a person, else hold.
fn not_posted(exceptions: Vec<Exception>) -> Verdict {
    if exceptions
        .iter()
        .any(|exception| exception.code.remedy() == Remedy::APerson)
    {
        return Verdict::Park { exceptions };
    }
    let awaits: BTreeSet<_> = exceptions
        .iter()
        .filter_map(|exception| exception.order_line.clone())
        .collect();
    Verdict::Hold {
        exceptions,
        awaits: awaits.into_iter().collect(),
    }
}

/// An exception of the whole document, without a limit.
fn of_document(code: ExceptionCode, expected: impl Into<String>, actual: impl Into<String>) -> Exception {
    Exception {
        code,
        line: None,
        order_line: None,
        expected: expected.into(),
        actual: crate::problem::clean(&actual.into()),
        limit: String::new(),
    }
}

fn too_large(invoice: &Invoice) -> Option<Exception> {
    let lines = invoice.lines.len();
    if lines > INVOICE_LINES_MAX {
        let expected = format!("at most {INVOICE_LINES_MAX} lines");
        return Some(of_document(
            ExceptionCode::TooLarge,
            expected,
            format!("{lines} lines"),
        ));
    }
    let orders = invoice.orders().len();
    (orders > ORDERS_PER_INVOICE_MAX).then(|| {
        let expected = format!("at most {ORDERS_PER_INVOICE_MAX} orders");
        of_document(ExceptionCode::TooLarge, expected, format!("{orders} orders"))
    })
}

fn supplier_code(invoice: &Invoice) -> Result<SupplierCode, Exception> {
    let name = &invoice.supplier.name;
    let number = invoice
        .supplier
        .number
        .as_deref()
        .map(str::trim)
        .filter(|number| !number.is_empty());
    let Some(number) = number else {
        return Err(of_document(
            ExceptionCode::SupplierNotLinked,
            "a QAD supplier number",
            format!("supplier {name} without a QAD number"),
        ));
    };
    number.parse().map_err(|_| {
        of_document(
            ExceptionCode::SupplierCodeInvalid,
            format!(
                "a supplier code of at most {} characters",
                SupplierCode::CHARACTERS_MAX
            ),
            format!("{number} on supplier {name}"),
        )
    })
}

/// The known orders of the lines that have something to post, in the order of their numbers.
fn billed_orders<'a>(input: &MatchInput<'a>) -> Vec<&'a Order> {
    let numbers: BTreeSet<_> = input
        .invoice
        .lines
        .iter()
        .filter(|line| !lines::has_nothing_to_post(line))
        .filter_map(|line| line.order_line.as_ref().map(|key| &key.order))
        .collect();
    numbers
        .into_iter()
        .filter_map(|number| input.orders.get(number)?.as_ref())
        .collect()
}

fn check_order(
    invoice: &Invoice,
    supplier: Option<&SupplierCode>,
    order: &Order,
    exceptions: &mut Vec<Exception>,
) {
    if let Some(supplier) = supplier.filter(|supplier| supplier.folded() != fold(&order.supplier)) {
        exceptions.push(of_document(
            ExceptionCode::SupplierDiffers,
            format!("supplier {}, as order {}", order.supplier, order.number),
            format!("supplier {supplier}"),
        ));
    }
    if order.currency != invoice.currency {
        exceptions.push(of_document(
            ExceptionCode::CurrencyDiffers,
            format!("{}, as order {}", order.currency, order.number),
            invoice.currency.to_string(),
        ));
    }
}

/// One domain may hold several entities, and an order is billed to the one that ordered.
fn of_another_entity(policy: &MatchPolicy, order: &Order) -> Option<Exception> {
    let other = order.entity.as_ref().filter(|entity| **entity != policy.entity)?;
    Some(of_document(
        ExceptionCode::OrderOfAnotherEntity,
        format!("an order of entity {}", policy.entity),
        format!("order {} of entity {other}", order.number),
    ))
}

/// A line's own word counts before its header's.
fn check_evaluated_receipts(invoice: &Invoice, order: &Order, exceptions: &mut Vec<Exception>) {
    let is_evaluated = |line: &crate::documents::InvoiceLine| {
        let Some(key) = line.order_line.as_ref().filter(|key| key.order == order.number) else {
            return false;
        };
        order
            .lines
            .iter()
            .find(|line| line.number == key.line)
            .and_then(|line| line.evaluated_receipts)
            .unwrap_or(order.evaluated_receipts)
    };
    if invoice
        .lines
        .iter()
        .any(|line| !lines::has_nothing_to_post(line) && is_evaluated(line))
    {
        exceptions.push(of_document(
            ExceptionCode::OrderIsEvaluatedReceipts,
            "an order that QAD does not invoice by itself",
            format!("order {} with evaluated receipts", order.number),
        ));
    }
}

fn sign_contradicts(kind: DocumentKind, amount: Decimal) -> bool {
    match kind {
        DocumentKind::Invoice => amount < Decimal::ZERO,
        DocumentKind::CreditNote => amount > Decimal::ZERO,
    }
}

fn check_document_signs(invoice: &Invoice, exceptions: &mut Vec<Exception>) {
    let charges = invoice
        .charges
        .iter()
        .map(|charge| (charge_name(charge.kind), charge.amount));
    let amounts = [("Total", invoice.total), ("Tax", invoice.tax)]
        .into_iter()
        .chain(charges);
    for (name, amount) in amounts.filter(|(_, amount)| sign_contradicts(invoice.kind, *amount)) {
        let sign = match invoice.kind {
            DocumentKind::Invoice => "nothing negative on an invoice",
            DocumentKind::CreditNote => "nothing positive on a credit note",
        };
        let actual = format!("{name} of {}", text::money(amount, invoice.currency));
        exceptions.push(of_document(ExceptionCode::SignContradicts, sign, actual));
    }
}

fn charge_name(kind: ChargeKind) -> &'static str {
    match kind {
        ChargeKind::Shipping => "Freight",
        ChargeKind::Handling => "Handling",
        ChargeKind::Misc => "Miscellaneous",
    }
}

fn additional_costs(input: &MatchInput<'_>, exceptions: &mut Vec<Exception>) -> Vec<AdditionalCost> {
    let mut costs = Vec::new();
    for charge in input
        .invoice
        .charges
        .iter()
        .filter(|charge| !charge.amount.is_zero())
    {
        match destination::costs_of_charge(input, charge, charge_name(charge.kind)) {
            Ok(coded) => costs.extend(coded),
            Err(exception) => exceptions.push(exception),
        }
    }
    costs
}

/// Lines, charges and tax against the invoice's total; also that there is a line to post at all.
fn check_total(input: &MatchInput<'_>, matched: &[lines::MatchedLine<'_>], exceptions: &mut Vec<Exception>) {
    let invoice = input.invoice;
    let valued: Vec<_> = matched
        .iter()
        .filter(|line| !line.report.nothing_to_post)
        .collect();
    // A charge alone is something to post too.
    if valued.is_empty() && invoice.charges.iter().all(|charge| charge.amount.is_zero()) {
        let actual = format!("{} lines without one", invoice.lines.len());
        exceptions.push(of_document(
            ExceptionCode::NothingToPost,
            "a line with a quantity or an amount",
            actual,
        ));
    }
    // A line whose value cannot be told is parked as out of range already.
    let Some(values) = valued.iter().map(|line| line.value).collect::<Option<Vec<_>>>() else {
        return;
    };
    let charges = invoice.charges.iter().map(|charge| charge.amount);
    let compared = exact::sum(values.into_iter().chain(charges).chain([invoice.tax])).and_then(|sum| {
        let difference = exact::subtract(sum, invoice.total)?.abs();
        Some((sum, difference, total_limit(input, valued.len())?))
    });
    let shown = |amount| text::money(amount, invoice.currency);
    match compared {
        Some((_, difference, limit)) if difference <= limit => {}
        Some((sum, _, limit)) => exceptions.push(Exception {
            limit: in_words(input, shown(limit)),
            ..of_document(
                ExceptionCode::TotalsDisagree,
                format!("{} from lines, charges and tax", shown(sum)),
                format!("{} as total", shown(invoice.total)),
            )
        }),
        None => exceptions.push(out_of_range(format!("total {}", shown(invoice.total)))),
    }
}

/// The limit of a total, and why it is no larger where its sum of money is given in another currency.
fn in_words(input: &MatchInput<'_>, limit: String) -> String {
    let invoice = input.invoice;
    let supplier = invoice.supplier.number.as_deref().map(str::trim);
    match input
        .policy
        .tolerance
        .total_is_given_in(invoice.currency, supplier)
    {
        Some(given) => format!("{limit}, the amounts of the limit being in {given}"),
        None => limit,
    }
}

/// What the tolerance allows (where it allows anything, a smallest unit of a currency with larger ones), and never less than
/// half a smallest unit for each line with something to post: so much is rounding, and no difference.
fn total_limit(input: &MatchInput<'_>, valued_lines: usize) -> Option<Decimal> {
    let invoice = input.invoice;
    let unit = invoice.minor_unit();
    let half = exact::multiply(unit, Decimal::new(5, 1))?;
    let by_lines = exact::multiply(half, Decimal::from(valued_lines.max(1)))?;
    let supplier = invoice.supplier.number.as_deref().map(str::trim);
    let limits = input.policy.tolerance.of(invoice.currency, supplier);
    let given = limits.total.furthest(invoice.total.abs(), Decimal::ONE)?;
    let allowed = if given.is_zero() { given } else { given.max(unit) };
    Some(by_lines.max(allowed))
}

/// By how much QAD's total may differ: a smallest unit for each row of tax, at least what the tolerance says.
fn echo_limit(input: &MatchInput<'_>) -> Decimal {
    let invoice = input.invoice;
    let supplier = invoice.supplier.number.as_deref().map(str::trim);
    let limit = input.policy.tolerance.of(invoice.currency, supplier).echo;
    let rows = Decimal::from(invoice.terms.tax_rows);
    let by_rows = exact::multiply(invoice.minor_unit(), rows).unwrap_or_default();
    let given = limit
        .furthest(invoice.total.abs(), Decimal::ONE)
        .unwrap_or_default();
    by_rows.max(given)
}

fn out_of_range(actual: String) -> Exception {
    of_document(
        ExceptionCode::OutOfRange,
        "figures whose sums and products are exact in 28 digits",
        actual,
    )
}

/// One match per receiver and price, in the order in which the lines claimed them. Of several matches of one
/// receiver only the last can finish it.
fn receiver_matches(
    parts: &[lines::PricedPart<'_>],
    used_up: &BTreeSet<&ReceiptKey>,
    exceptions: &mut Vec<Exception>,
) -> Vec<ReceiverMatch> {
    let mut places: BTreeMap<(&ReceiptKey, Decimal), usize> = BTreeMap::new();
    let mut matches: Vec<(&ReceiptKey, ReceiverMatch)> = Vec::new();
    for lines::PricedPart { part, unit_price } in parts {
        let key = &part.receipt.key;
        let place = *places.entry((key, *unit_price)).or_insert(matches.len());
        if let Some((_, earlier)) = matches.get_mut(place) {
            match exact::add(earlier.quantity, part.quantity) {
                Some(quantity) => earlier.quantity = quantity,
                None => exceptions.push(out_of_range(format!("quantities of receiver {}", key.receiver))),
            }
            continue;
        }
        let found = ReceiverMatch {
            order_line: key.order_line.clone(),
            receiver: key.receiver.clone(),
            quantity: part.quantity,
            unit_price: *unit_price,
            finished: false,
        };
        matches.push((key, found));
    }
    let mut seen = BTreeSet::new();
    for (key, found) in matches.iter_mut().rev() {
        found.finished = seen.insert(*key) && used_up.contains(key);
    }
    matches.into_iter().map(|(_, found)| found).collect()
}

fn draft(
    input: &MatchInput<'_>,
    supplier: SupplierCode,
    orders: &[&Order],
    matches: Vec<ReceiverMatch>,
    costs: Vec<AdditionalCost>,
) -> SupplierInvoiceDraft {
    let MatchInput { invoice, policy, .. } = input;
    SupplierInvoiceDraft {
        identity: QadInvoiceIdentity {
            entity: policy.entity.clone(),
            supplier,
            reference: invoice.reference.clone(),
            kind: invoice.kind,
        },
        coupa_id: invoice.id,
        coupa_instance: policy.coupa_instance.clone(),
        domain: policy.domain.clone(),
        currency: invoice.currency,
        invoice_date: invoice.invoice_date,
        posting_date: posting_date(input, None),
        daybook: match invoice.kind {
            DocumentKind::Invoice => policy.invoice_daybook.clone(),
            DocumentKind::CreditNote => policy.credit_note_daybook.clone(),
        },
        matching_daybook: policy.matching_daybook.clone(),
        invoice_status: policy.invoice_status.clone(),
        payee: None,
        locked: false,
        billed: cancel::billed(input),
        cancels: None,
        is_twin: false,
        billed_in_coupa: received_in_coupa(input),
        credit_terms: None,
        echo: echo_limit(input),
        total: invoice.rounded(invoice.total),
        tax: invoice.rounded(invoice.tax),
        orders: orders
            .iter()
            .map(|order| order.number.clone())
            .filter(|number| matches.iter().any(|found| found.order_line.order == *number))
            .collect(),
        matches,
        costs,
    }
}

/// When it is posted, given the date of the latest receipt it is matched to; never before the books are open.
fn posting_date(input: &MatchInput<'_>, received: Option<Date>) -> Date {
    let invoice_date = input.invoice.invoice_date;
    let wanted = match input.policy.posting_date {
        PostingDate::Latest => received
            .filter(|_| stands(Guard::NotBeforeReceipt))
            .map_or(invoice_date, |received| received.max(invoice_date)),
        PostingDate::InvoiceDate => invoice_date,
        PostingDate::MatchingDate => input.today,
    };
    input
        .policy
        .first_open_day
        .map_or(wanted, |first_open| first_open.max(wanted))
}

/// A bill that QAD is not to pay has the status that no payment run takes; one that goes to the general ledger alone has one
/// of its own.
fn status_code(policy: &MatchPolicy, locked: bool, to_ledger_alone: bool) -> String {
    match (locked, to_ledger_alone) {
        (true, _) => policy.not_payable.locked_status.clone(),
        (false, true) if !policy.gl_status.is_empty() => policy.gl_status.clone(),
        (false, _) => policy.invoice_status.clone(),
    }
}

/// The mapped code, else Coupa's own when it can be one of QAD's. `Ok(None)`, when Coupa names none, lets QAD take the
/// supplier's terms; a term that can be none of QAD's is never dropped.
fn credit_terms(invoice: &Invoice, policy: &MatchPolicy) -> Result<Option<CreditTermsCode>, Exception> {
    let Some(code) = invoice
        .payment_term
        .as_deref()
        .map(str::trim)
        .filter(|code| !code.is_empty())
    else {
        return Ok(None);
    };
    match lines::find_folded(&policy.credit_terms, code) {
        Some(mapped) => Ok(Some(mapped.clone())),
        None => code.parse().map(Some).map_err(|_| {
            of_document(
                ExceptionCode::CreditTermsNotMapped,
                "credit terms of QAD's",
                format!("payment term {code:?}"),
            )
        }),
    }
}
