//! The ports: what a flow may ask of the world. Each is implemented once for real (`connectors`, `aws`) and once as a
//! stateful model that passes the same contract.
//!
//! No method has a default body: a port that is not implemented must not succeed.

use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::{CoupaStatus, Invoice, Order, Receipt};
use domain::explain::Standing;
use domain::ids::{
    ConnectionId, InvoiceId, InvoiceReference, OrderLineKey, PurchaseOrderNumber, QadInvoiceIdentity,
    QadTenant, ReceiptKey, SupplierCode,
};
use domain::lookups::{Action, CoupaValue, LookupCode, QadValue};
use domain::matching::SupplierInvoiceDraft;
use domain::money::Currency;
use domain::payments::{Allocation, CoupaPaymentEntry, InvoiceBalance, PaymentEntry};
use domain::problem::Problem;
use domain::suppliers::{CoupaSupplier, QadSupplier, SupplierData};
use domain::time::{Date, Timestamp};
use rust_decimal::Decimal;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

// ---------------------------------------------------------------------------------------------------------------
// What can go wrong when we ask another system
// ---------------------------------------------------------------------------------------------------------------

pub use domain::drive::{ReadError, WriteError};

// ---------------------------------------------------------------------------------------------------------------
// Coupa
// ---------------------------------------------------------------------------------------------------------------

/// What a list of invoices tells about one of them: enough to know whether it is news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceHead {
    /// Coupa's id.
    pub id: InvoiceId,
    /// Where it stands.
    pub status: CoupaStatus,
    /// Coupa's `updated-at` as an instant.
    pub updated_at: Timestamp,
    /// The list shows that it belongs to none of the connection's entities.
    pub out_of_scope: bool,
}

/// One page of a keyset listing. A record that cannot be read does not spoil the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoicePage {
    /// What could be read.
    pub heads: Vec<InvoiceHead>,
    /// What could not: its id when even that could be told, and why.
    pub unreadable: Vec<(Option<InvoiceId>, Problem)>,
    /// The largest id on the page, to continue after; `None` when the page was empty.
    pub last: Option<InvoiceId>,
    /// True when the page was full, so that another may follow.
    pub more: bool,
}

/// What a person in Coupa shall see about an invoice: an integration history record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentOutcome {
    /// How it stands, and whom it alerts. An outcome that an earlier version stored said `success` alone.
    #[serde(alias = "success", deserialize_with = "standing")]
    pub standing: Standing,
    /// Stable code: `POSTED`, or the first reason's.
    pub code: String,
    /// One plain sentence; empty when what was told before is withdrawn.
    pub message: String,
    /// QAD's number of the document when there is one (`<year>/<daybook>/<voucher>`).
    pub external_id: Option<String>,
}

fn standing<'de, D: Deserializer<'de>>(source: D) -> Result<Standing, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Standing(Standing),
        Success(bool),
    }
    Ok(match Stored::deserialize(source)? {
        Stored::Standing(standing) => standing,
        Stored::Success(true) => Standing::Finished,
        Stored::Success(false) => Standing::ForAccountsPayable,
    })
}

/// How much of what becomes of an invoice is shown in Coupa.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcomes {
    /// Nothing but the exported flag.
    Nothing,
    /// QAD's number of the document, once it has one.
    Voucher,
    /// The integration history of every state, and the number where a field is named for it.
    History,
}

/// What Coupa's answer to the exported flag shows of the invoice; some tenants answer nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flagged {
    /// Where it stands.
    pub status: Option<CoupaStatus>,
    /// The supplier's number, the total as we sign it, and the currency.
    pub bill: Option<(InvoiceReference, Decimal, Currency)>,
}

/// What we ask of Coupa.
#[async_trait]
pub trait Coupa: Send + Sync {
    /// Reads one invoice. `None` means Coupa said 404. An invoice whose fields cannot be read is
    /// [`ReadError::Unreadable`].
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError>;

    /// Reads one purchase order by Coupa's number of it. `None` only after a complete, successful look-up without it.
    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError>;

    /// Reads one page of invoices that are approved or voided and not exported, by id, after `after`.
    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError>;

    /// Sets the invoice's exported flag: a request of its own. Idempotent on Coupa's side. Tells what the answer shows of
    /// the invoice: a void or a change that came in between must not vanish behind the flag.
    async fn mark_exported(&self, id: InvoiceId, idempotency_key: &str) -> Result<Flagged, WriteError>;

    /// Writes an outcome onto the Coupa document as an integration history record, after resolving the open one.
    async fn record_outcome(
        &self,
        id: InvoiceId,
        outcome: &DocumentOutcome,
        idempotency_key: &str,
    ) -> Result<(), WriteError>;
}

/// What a back-fill asks of Coupa.
#[async_trait]
pub trait CoupaHistory: Send + Sync {
    /// Reads one page of approved invoices dated `from` or later (and `until` or earlier), exported or not, by id, after
    /// `after`.
    async fn approved_invoices(
        &self,
        from: Date,
        until: Option<Date>,
        after: Option<InvoiceId>,
    ) -> Result<InvoicePage, ReadError>;
}

// ---------------------------------------------------------------------------------------------------------------
// QAD
// ---------------------------------------------------------------------------------------------------------------

pub use domain::documents::QadDocument;
pub use domain::lifecycle::{ChainEnd, Voucher};

/// One page of a receipt poll. A row that cannot be read does not stop the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptScan {
    /// What could be read.
    pub receipts: Vec<Receipt>,
    /// What could not, and why.
    pub unreadable: Vec<Problem>,
    /// True when another page follows.
    pub more: bool,
}

/// What we ask of QAD.
#[async_trait]
pub trait Qad: Send + Sync {
    /// Reads one purchase order with all its lines. `None` only after a complete, successful look-up without rows.
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError>;

    /// Reads all receipts and returns of one order, complete or not at all. Logistics rows are dropped.
    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError>;

    /// Reads one page (from 1) of the receipts and returns dated `since` or later, in an order that stays the same from one
    /// call to the next (assumed of QAD's browses, whose order is that of the receiver).
    async fn receipts_since(&self, since: Date, page: u32) -> Result<ReceiptScan, ReadError>;

    /// Whether the list of the entity's periods shows the books open on this day; `None` when the tenant shows no period of it.
    async fn books_are_open(&self, day: Date) -> Result<Option<bool>, ReadError>;

    /// Looks for supplier invoices of exactly this identity, complete or not at all.
    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError>;

    /// Creates a supplier invoice with its receiver matching. Sends once; the answer is QAD's echo.
    async fn create_invoice(
        &self,
        draft: &SupplierInvoiceDraft,
        idempotency_key: &str,
    ) -> Result<QadDocument, WriteError>;
}

// ---------------------------------------------------------------------------------------------------------------
// Payments and purchase orders
// ---------------------------------------------------------------------------------------------------------------

/// A Coupa invoice as far as its payments are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupaBill {
    /// The invoice.
    pub id: InvoiceId,
    /// Its currency.
    pub currency: Currency,
    /// Its paid flag.
    pub paid: bool,
    /// Who pays it, in Coupa's words; `None` when Coupa does not say.
    pub payment_channel: Option<String>,
    /// All its payment entries.
    pub entries: Vec<CoupaPaymentEntry>,
}

/// What we ask of Coupa about payments.
#[async_trait]
pub trait CoupaPayments: Send + Sync {
    /// Reads the payments of an invoice, all of them or none. `None` means Coupa said 404.
    async fn bill(&self, id: InvoiceId) -> Result<Option<CoupaBill>, ReadError>;

    /// Appends one entry and sets the paid flag, in one request that is sent once and can never be undone. The answer is
    /// the invoice with all its payments.
    async fn append_payment(
        &self,
        entry: &PaymentEntry,
        idempotency_key: &str,
    ) -> Result<CoupaBill, WriteError>;
}

/// What a payment poll brings. A row that cannot be read does not stop the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PaymentScan {
    /// What could be read, each allocation once.
    pub allocations: Vec<Allocation>,
    /// What could not, and why.
    pub unreadable: Vec<Problem>,
    /// Rows that pay no supplier invoice or credit note (payments on account, prepayments): none of our business.
    pub others: u64,
    /// Day of the oldest change among what could not be read; the day asked for when even that cannot be told.
    pub unread_since: Option<Date>,
}

/// What a poll of changed supplier invoices brings. A row that cannot be read does not stop the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BalanceScan {
    /// What could be read.
    pub balances: Vec<InvoiceBalance>,
    /// What could not, and why.
    pub unreadable: Vec<Problem>,
}

/// What we ask of QAD about payments.
#[async_trait]
pub trait QadPayments: Send + Sync {
    /// Reads what is owed of all supplier invoices last changed on `since` or later, complete or not at all. A tenant need
    /// not show such a list: then this is [`ReadError::Refused`].
    async fn balances_since(&self, since: Date) -> Result<BalanceScan, ReadError>;

    /// Reads what is owed of the supplier invoices of exactly this identity, complete or not at all. Empty when there is none;
    /// one that shows neither flag nor balance says nothing. `on` is today: the day of the reading.
    async fn balances_of(
        &self,
        invoice: &QadInvoiceIdentity,
        on: Date,
    ) -> Result<Vec<InvoiceBalance>, ReadError>;

    /// Reads all payment allocations last changed on `since` or later, complete or not at all.
    async fn payments_since(&self, since: Date) -> Result<PaymentScan, ReadError>;
}

/// Most documents that are asked for in one request: a page of Coupa's holds 50 (confirmed), and each may be large.
pub const TOGETHER_MAX: usize = 25;

/// What we ask of Coupa about several documents in one request. An answer holds what could be read of those that were asked for
/// (at most [`TOGETHER_MAX`]). One that it does not hold was not looked up: whether it is not there, cannot be read or is not
/// shown in lists is told by asking for it alone.
#[async_trait]
pub trait CoupaTogether: Send + Sync {
    /// Reads invoices as [`Coupa::invoice`] does.
    async fn invoices(&self, ids: &[InvoiceId]) -> Result<Vec<Invoice>, ReadError>;

    /// Reads purchase orders as [`Coupa::coupa_order`] does.
    async fn coupa_orders(&self, numbers: &[String]) -> Result<Vec<CoupaOrder>, ReadError>;

    /// Reads payments of invoices as [`CoupaPayments::bill`] does.
    async fn bills(&self, ids: &[InvoiceId]) -> Result<Vec<CoupaBill>, ReadError>;
}

/// What we ask of Coupa about purchase orders.
#[async_trait]
pub trait CoupaOrders: Send + Sync {
    /// The numbers under which QAD knows a Coupa purchase order, by the connection's mapping. `None` means that Coupa has
    /// no such order; empty, that the mapping finds no number on it.
    async fn order_numbers(&self, id: u64) -> Result<Option<Vec<PurchaseOrderNumber>>, ReadError>;
}

// ---------------------------------------------------------------------------------------------------------------
// The register
// ---------------------------------------------------------------------------------------------------------------

/// Every kind of item in the register: the whole key space, in one place. A register instance belongs to one
/// connection, whose id begins every stored key but those that are shared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// One Coupa invoice: its state, its last decision, where its audit chain ends.
    Invoice(InvoiceId),
    /// One effect, by the identity of what it must make unique (already normalised text).
    Effect(String),
    /// One purchase order: what our invoices have reserved on it.
    Order(PurchaseOrderNumber),
    /// This invoice waits for this order line.
    Waiting(OrderLineKey, InvoiceId),
    /// This invoice is held or parked, and an event about this order is a reason to look at it again.
    WaitingForOrder(PurchaseOrderNumber, InvoiceId),
    /// One receipt line as the poller saw it.
    Receipt(ReceiptKey),
    /// How far a poller has come, by the poller's name.
    Watermark(String),
    /// One member of a collection, by its id (already normalised text).
    Entry {
        /// Which collection.
        collection: Collection,
        /// Its id inside the collection.
        id: String,
    },
    /// The one kind of record that no connection owns: all connections to a QAD tenant read and write the same one.
    Shared {
        /// The tenant.
        tenant: QadTenant,
        /// Its name there (already normalised text).
        name: String,
    },
}

/// A collection of records that can be listed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collection {
    /// All payments of one bill.
    Bill,
    /// A QAD payment for an invoice this product does not know.
    UnmatchedPayment,
    /// Suppliers of both sides and their links.
    Supplier,
    /// Invoices that wait until their supplier has a QAD number.
    AwaitedSupplier,
    /// Lookup values that were written to Coupa.
    LookupValue,
    /// One per lookup: its plan and whether a person allowed it.
    LookupPlan,
    /// The plan of the suppliers and whether a person allowed it.
    SupplierPlan,
}

impl Collection {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Bill,
        Self::UnmatchedPayment,
        Self::Supplier,
        Self::AwaitedSupplier,
        Self::LookupValue,
        Self::LookupPlan,
        Self::SupplierPlan,
    ];

    /// The collection's one name, in keys and logs. Never changed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bill => "bill",
            Self::UnmatchedPayment => "unmatched-payment",
            Self::Supplier => "supplier",
            Self::AwaitedSupplier => "awaited-supplier",
            Self::LookupValue => "lookup-value",
            Self::LookupPlan => "lookup-plan",
            Self::SupplierPlan => "supplier-plan",
        }
    }
}

/// A group of records that can be listed together, strongly consistent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordGroup {
    /// All [`RecordKey::Waiting`] of one order line.
    WaitingFor(OrderLineKey),
    /// All [`RecordKey::WaitingForOrder`] of one order.
    WaitingForOrder(PurchaseOrderNumber),
    /// All [`RecordKey::Receipt`] of one order line.
    ReceiptsOf(OrderLineKey),
    /// All [`RecordKey::Entry`] of one collection.
    Collection(Collection),
}

/// The code of an item that is there and cannot be taken apart: others can.
pub const ITEM_UNREADABLE: &str = "REGISTER_ITEM_UNREADABLE";

/// A record as stored. The body is JSON text that only the flow which owns the kind of record reads.
///
/// An item that is there and cannot be taken apart is a record too, so that it hides no other one and is never taken for one
/// that is not there. Its revision is 0: no write that names what it has seen goes over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its key.
    pub key: RecordKey,
    /// Counts its writes, from 1. A write names the revision it saw, so nothing is ever overwritten unseen.
    pub revision: u64,
    /// JSON text, or why the item cannot be taken apart.
    pub body: Result<String, Problem>,
}

/// One write inside a commit. All are conditional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordWrite {
    /// Writes the record if its revision is still `seen` (0: if it does not exist). The new revision is `seen + 1`.
    Put {
        /// Which record.
        key: RecordKey,
        /// The revision this change is based on; 0 when there was none.
        seen: u64,
        /// JSON text.
        body: String,
        /// A short state word, kept beside the body for people and filters; empty for none.
        state: String,
        /// When the sweep must look at it; `None` when nothing is due. Only invoices and members of a collection can
        /// be due.
        due: Option<Timestamp>,
    },
    /// Deletes the record, whether or not it exists.
    Delete {
        /// Which record.
        key: RecordKey,
    },
    /// Requires the record to still have revision `seen` (0: not to exist), and leaves it alone.
    Check {
        /// Which record.
        key: RecordKey,
        /// The revision.
        seen: u64,
    },
    /// Follows a record of the same commit in the index of questions; never in the way of anything.
    Index(IndexWrite),
}

/// One step of keeping the index of questions. It needs no condition of its own: a row belongs to one invoice, and the
/// commit names the revision of that invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexWrite {
    /// Writes a row, whatever is there.
    Put {
        /// Which list.
        list: String,
        /// Its place in the list: lists are read in the order of these texts.
        id: String,
        /// JSON text.
        body: String,
    },
    /// Removes a row, whether or not it is there.
    Remove {
        /// Which list.
        list: String,
        /// Its place in the list.
        id: String,
    },
    /// Adds to a sheet of tallies.
    Count {
        /// Which sheet.
        sheet: String,
        /// Which of its parts, below [`TALLY_PARTS`]: writers at the same time seldom meet.
        part: u8,
        /// What to add, by the tally's name; the same name once.
        changes: std::collections::BTreeMap<String, Tally>,
    },
}

/// Parts of a sheet of tallies. Never made smaller: what was counted in a part stays there.
pub const TALLY_PARTS: u8 = 4;

/// A number of invoices and the sum of their totals, in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// How many.
    pub count: i64,
    /// Of how much.
    pub amount: Decimal,
}

/// A row of the index of questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// Its place in the list.
    pub id: String,
    /// JSON text.
    pub body: String,
}

/// Which rows of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsAsked<'a> {
    /// Only those beyond this place, in the direction of reading.
    pub beyond: Option<&'a str>,
    /// The last first.
    pub newest_first: bool,
    /// At most so many.
    pub limit: usize,
}

/// Most rows of one answer.
pub const ROWS_MAX: usize = 500;

/// Answers the questions of people from what was kept for them; each answer is one read. May lag by a moment.
#[async_trait]
pub trait Index: Send + Sync {
    /// Rows of a list, in the order of their places.
    async fn rows(&self, list: &str, asked: &RowsAsked<'_>) -> Result<Vec<IndexRow>, StoreError>;

    /// Sheets of tallies, each summed over its parts, in the order of `sheets`; one read for all of them.
    async fn tallies(
        &self,
        sheets: &[&str],
    ) -> Result<Vec<std::collections::BTreeMap<String, Tally>>, StoreError>;

    /// Reads records as [`Register::read`] does, at half its price: what was written a moment ago may not be in the answer yet.
    async fn glance(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError>;

    /// Members of a collection in the order of their ids, page by page (`beyond` is the last id of the page before), strongly
    /// consistent.
    async fn members(
        &self,
        collection: Collection,
        beyond: Option<&str>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError>;
}

/// A register that answers questions too.
pub trait Books: Register + Index {}
impl<T: Register + Index> Books for T {}

/// One entry of the audit trail, appended in the same transaction as what it tells. Append only: the store refuses a
/// second entry with the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The document the entry belongs to, for example `invoice/92010`.
    pub document: String,
    /// Its place in the document's chain, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// JSON text of what happened; never holds a body, a credential or a bank account.
    pub events: String,
    /// Hash of the entry before; 64 zeros for the first.
    pub previous_hash: String,
    /// Hex SHA-256 over document, sequence, at, events and previous hash.
    pub hash: String,
}

impl AuditEntry {
    /// Where a chain ends of which this is the last entry.
    pub fn end(&self) -> ChainEnd {
        ChainEnd {
            sequence: self.sequence,
            hash: self.hash.clone(),
        }
    }
}

/// Most writes one commit may hold (DynamoDB takes 100 in a transaction, audit entries included).
pub const COMMIT_WRITES_MAX: usize = 100;

/// One transaction: everything or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// Makes a repeat of this very commit recognisable (a `ClientRequestToken`): 1 to 36 characters, fresh per attempt.
    pub token: String,
    /// The conditional writes, no key twice.
    pub writes: Vec<RecordWrite>,
    /// The audit entries.
    pub audit: Vec<AuditEntry>,
}

/// The store gave no answer, or a broken one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub Problem);

/// A commit that did not go through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else wrote first. Nothing was written; read again and decide again.
    #[error("another writer was faster")]
    Conflict,
    /// No answer: it may or may not have been written. Stop; whoever comes next reads the truth.
    #[error("{0}")]
    Store(StoreError),
}

/// A record that the sweep must queue again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRecord {
    /// Which: an invoice or a member of a collection.
    pub key: RecordKey,
    /// Since when it is due.
    pub due: Timestamp,
}

/// The invoice register: the truth. Bound to one connection.
#[async_trait]
pub trait Register: Send + Sync {
    /// Reads records, strongly consistent; the answer has one element per key, in their order, `None` for "not there".
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError>;

    /// Lists a whole group, strongly consistent.
    async fn list(&self, group: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError>;

    /// Applies one transaction, all or nothing. Repeating a commit that went through is a success and changes nothing.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError>;

    /// Records due at or before `now`, oldest first, at most `limit`. May lag by a moment; used by the sweep only.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueRecord>, StoreError>;

    /// The audit trail of a document, oldest first.
    async fn audit(&self, document: &str) -> Result<Vec<AuditEntry>, StoreError>;

    /// The register of another connection of this installation.
    fn neighbour(&self, connection: &ConnectionId) -> Box<dyn Register>;

    /// All invoices, page by page (`after` is the last id of the page before): for people and the command line only.
    async fn invoices(&self, after: Option<InvoiceId>, limit: usize)
    -> Result<Vec<StoredRecord>, StoreError>;
}

// ---------------------------------------------------------------------------------------------------------------
// Queue, tokens, clock, chance
// ---------------------------------------------------------------------------------------------------------------

/// Why somebody thinks a record deserves a look. Told in logs; never decides anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HintReason {
    /// A signed event from Coupa.
    Webhook,
    /// The poll of Coupa found it.
    Poll,
    /// A receipt arrived for an order line it waits for.
    Receipt,
    /// An event about an order it waits for.
    Order,
    /// The supplier it waits for was linked, or an event about it came.
    Supplier,
    /// QAD shows a new or changed payment of it.
    Payment,
    /// It was due.
    Sweep,
    /// A person asked.
    Operator,
}

/// A queue message: ids only. Versioned; an unknown version goes to the dead-letter queue with its cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "v")]
pub enum Hint {
    /// "Look at this."
    #[serde(rename = "1")]
    V1 {
        /// Whose record it is.
        connection: ConnectionId,
        /// What to look at.
        subject: Subject,
        /// Why.
        reason: HintReason,
        /// Follows one hint through all logs.
        trace: String,
    },
}

/// What a hint points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A Coupa invoice.
    Invoice(InvoiceId),
    /// A Coupa purchase order, by Coupa's id: the invoices waiting for it deserve a look.
    PurchaseOrder(u64),
    /// A Coupa supplier, by Coupa's id.
    Supplier(u64),
    /// A Coupa payment, by Coupa's id.
    Payment(u64),
    /// A member of one of our collections, by its id: what is due of it is done.
    Entry {
        /// Which collection.
        collection: Collection,
        /// Its id inside the collection.
        id: String,
    },
}

/// The queue of hints. Losing one is healed by the sweep and the polls.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends hints; an error means that at least one may not be in the queue.
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError>;
}

/// The one who knows what time it is.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Now, by the wall.
    fn now(&self) -> Timestamp;
    /// Waits.
    async fn sleep(&self, duration: Duration);
}

/// Chance: attempt tokens and jitter.
pub trait Chance: Send + Sync {
    /// A fresh token of 1 to 36 letters, digits and hyphens.
    fn token(&self) -> String;
    /// A number from 0 to `max` inclusive.
    fn up_to(&self, max: u64) -> u64;
}

/// Which bearer token: one per (connection, system, client id).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenSlot {
    /// The connection.
    pub connection: ConnectionId,
    /// `coupa` or `qad`.
    pub system: &'static str,
    /// Hex SHA-256 over base URL, client id and scopes, so that a changed client never meets an old token.
    pub client: String,
}

/// A token as kept in the shared cache.
#[derive(Clone)]
pub struct CachedToken {
    /// Counts the tokens of this slot, from 1.
    pub generation: u64,
    /// The token.
    pub token: SecretString,
    /// From then on it must not be used.
    pub expires_at: Timestamp,
    /// From then on somebody should fetch a new one while it is still good.
    pub refresh_after: Timestamp,
}

/// What the shared cache knows of a slot.
#[derive(Clone, Default)]
pub struct TokenState {
    /// The latest token, if there ever was one (it may have expired or been dropped).
    pub token: Option<CachedToken>,
    /// The generation of the latest token, dropped or not; 0 when there was none.
    pub generation: u64,
    /// Until then somebody else is fetching the next one.
    pub leased_until: Option<Timestamp>,
}

/// The shared token cache: one token request per generation, however many instances start at once.
#[async_trait]
pub trait TokenStore: Send + Sync {
    /// Reads the slot, strongly consistent.
    async fn load(&self, slot: &TokenSlot) -> Result<TokenState, StoreError>;
    /// Takes the right to fetch generation `generation + 1` until `until`. False when somebody else has it or has
    /// already fetched it.
    async fn lease(
        &self,
        slot: &TokenSlot,
        generation: u64,
        now: Timestamp,
        until: Timestamp,
        holder: &str,
    ) -> Result<bool, StoreError>;
    /// Stores the fetched token as generation `token.generation` if `holder` still has the lease. False when not.
    async fn store(&self, slot: &TokenSlot, token: &CachedToken, holder: &str) -> Result<bool, StoreError>;
    /// Marks the token of `generation` as refused by the other system, so that nobody uses it again.
    async fn drop_token(&self, slot: &TokenSlot, generation: u64) -> Result<(), StoreError>;
    /// Gives a lease back whose fetch was refused, so that whoever has better credentials need not wait for its end.
    async fn release(&self, slot: &TokenSlot, generation: u64, holder: &str) -> Result<(), StoreError>;
}

// ---------------------------------------------------------------------------------------------------------------
// Suppliers and lookup values
// ---------------------------------------------------------------------------------------------------------------

/// One page of Coupa's suppliers. A record that cannot be read does not spoil the page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CoupaSupplierPage {
    /// What could be read.
    pub suppliers: Vec<CoupaSupplier>,
    /// What could not: its id when even that could be told, and why.
    pub unreadable: Vec<(Option<u64>, Problem)>,
    /// The largest id on the page, to continue after; `None` when the page was empty.
    pub last: Option<u64>,
    /// True when the page was full, so that another may follow.
    pub more: bool,
}

/// What we ask of Coupa about suppliers.
#[async_trait]
pub trait CoupaSuppliers: Send + Sync {
    /// Reads one page of suppliers changed after `since` (all when `None`), by id, after `after`.
    async fn suppliers(
        &self,
        since: Option<Timestamp>,
        after: Option<u64>,
    ) -> Result<CoupaSupplierPage, ReadError>;

    /// Looks for suppliers with exactly this number, complete or not at all.
    async fn suppliers_numbered(&self, number: &SupplierCode) -> Result<Vec<CoupaSupplier>, ReadError>;

    /// Creates a supplier (fields in Coupa's vocabulary; what is required and missing comes from the connection's
    /// defaults). Sends once; the answer is Coupa's echo.
    async fn create_supplier(
        &self,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError>;

    /// Sets fields of a supplier, and its number. Fields that are not named stay as they are.
    async fn update_supplier(
        &self,
        id: u64,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError>;
}

/// What a listing of QAD's suppliers brings. A row that cannot be read does not stop the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QadSupplierScan {
    /// What could be read.
    pub suppliers: Vec<QadSupplier>,
    /// What could not: its code when even that could be told, and why.
    pub unreadable: Vec<(Option<SupplierCode>, Problem)>,
}

/// What we ask of QAD about suppliers.
#[async_trait]
pub trait QadSuppliers: Send + Sync {
    /// Reads all suppliers changed on `since` or later, complete or not at all.
    async fn suppliers_since(&self, since: Date) -> Result<QadSupplierScan, ReadError>;

    /// Reads one supplier. `None` only after a complete, successful look-up without a record.
    async fn supplier(&self, code: &SupplierCode) -> Result<Option<QadSupplier>, ReadError>;

    /// Creates a supplier with the connection's defaults. Sends once; the answer is QAD's echo.
    async fn create_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError>;

    /// Sets fields of a supplier: reads the whole record, changes these fields, writes it back under the hash it was read
    /// with, so that nobody's change is lost.
    async fn update_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError>;
}

/// All values of a Coupa lookup, read completely.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LookupScan {
    /// What could be read.
    pub values: Vec<CoupaValue>,
    /// What could not: its code when even that could be told, and why.
    pub unreadable: Vec<(Option<LookupCode>, Problem)>,
}

/// What we ask of Coupa about lookup values.
#[async_trait]
pub trait CoupaLookups: Send + Sync {
    /// Reads all values of a lookup, complete or not at all.
    async fn lookup_values(&self, lookup: &str) -> Result<LookupScan, ReadError>;

    /// Whether Coupa has a lookup of this name; `None` when this instance does not tell by reading.
    async fn has_lookup(&self, lookup: &str) -> Result<Option<bool>, ReadError>;

    /// Looks for the values of a lookup with this code, below whatever parent, complete or not at all.
    async fn find_lookup_values(&self, lookup: &str, code: &LookupCode)
    -> Result<Vec<CoupaValue>, ReadError>;

    /// Creates a value. Sends once; the answer is Coupa's echo.
    async fn create_lookup_value(
        &self,
        lookup: &str,
        value: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError>;

    /// Sets a value's name and whether it is active.
    async fn update_lookup_value(
        &self,
        lookup: &str,
        id: u64,
        value: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError>;
}

/// All values of a QAD list, read completely. A row that cannot be read does not stop the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceScan {
    /// What could be read.
    pub values: Vec<QadValue>,
    /// What could not: its code when even that could be told, and why.
    pub unreadable: Vec<(Option<LookupCode>, Problem)>,
}

/// What we ask of QAD about tracking categories.
#[async_trait]
pub trait QadSources: Send + Sync {
    /// Reads all values of a source by its name in the connection, complete or not at all.
    async fn source_values(&self, source: &str) -> Result<SourceScan, ReadError>;
}
