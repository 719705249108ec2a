//! QAD: orders, receipts with what is invoiced, supplier invoices, suppliers, payments, reference data, and its rules.

use domain::ids::fold;
use domain::money::{Currency, parse_decimal};
use domain::time::{Date, Timestamp, date_as_written};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The view of supplier invoices.
pub const SUPPLIER_INVOICE_VIEW: &str =
    "urn:be:com.qad.financials.purchaseledger.supplierinvoice.ISupplierInvoice";
/// The view of suppliers.
pub const SUPPLIER_VIEW: &str = "urn:be:com.qad.base.supplier.ISupplierV2";
/// The first domain of the simulated tenant: where everything is that names no other.
pub const DOMAIN: &str = "10USA";
/// The first domain's entity.
pub const ENTITY: &str = "10USACO";
/// The tenant's second domain: its orders and receivers are numbered as if there were no other.
pub const OTHER_DOMAIN: &str = "20GER";
/// The second domain's entity.
pub const OTHER_ENTITY: &str = "20GERCO";
/// The tenant's entities, each with its domain; the first of a domain has the domain's orders unless they say otherwise.
pub const ENTITIES: [(&str, &str); 2] = [(ENTITY, DOMAIN), (OTHER_ENTITY, OTHER_DOMAIN)];
/// Shared set of the suppliers of the simulated tenant.
pub const SHARED_SET: &str = "QADALL";
/// What a new supplier must have besides what every save must have.
const CREATE_MANDATORY: [&str; 5] = [
    "businessRelationName",
    "invoiceControlGLProfileCode",
    "creditNoteControlGLProfileCode",
    "prePaymentControlGLProfileCode",
    "purchaseAccountGLProfileCode",
];
/// Longest supplier code, in characters (confirmed).
const SUPPLIER_CODE_CHARACTERS_MAX: usize = 8;

/// A decimal that travels as a JSON number with exactly its digits; read from a number or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Exact(pub Decimal);

impl Serialize for Exact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get().trim_matches('"');
        // QAD's own figures may have more places than anybody sends: what a float once was, a price of a thousand.
        parse_decimal(text)
            .or_else(|error| Decimal::from_str_exact(text).map_err(|_| error))
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// A purchase order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QadOrder {
    /// Domain; another one may have an order of the same number.
    #[serde(default = "domain_default")]
    pub domain: String,
    /// `po_nbr`.
    pub number: String,
    /// `po_vend`.
    pub supplier: String,
    /// `po_curr`.
    pub currency: String,
    /// `po_stat`: blank, `c`, `x` or a tenant's own.
    #[serde(default)]
    pub status: String,
    /// `po_ers_opt` is 2.
    #[serde(default)]
    pub evaluated_receipts: bool,
    /// `po_entity`, when it is another than the tenant's one.
    #[serde(default)]
    pub other_entity: Option<String>,
    /// The lines.
    pub lines: Vec<QadOrderLine>,
}

impl QadOrder {
    /// `po_entity`.
    pub fn entity(&self) -> &str {
        let of_domain = |(_, domain): &&(&str, &str)| *domain == fold(&self.domain);
        let first = ENTITIES
            .iter()
            .find(of_domain)
            .map_or(ENTITY, |(entity, _)| *entity);
        self.other_entity.as_deref().unwrap_or(first)
    }

    /// Whether QAD invoices what this matching matches by itself: a line's own word counts before its header's.
    fn evaluates(&self, matching: &ReceiverMatching) -> bool {
        if fold(&matching.purchase_order_number) != fold(&self.number) {
            return false;
        }
        let line = self
            .lines
            .iter()
            .find(|line| line.number == matching.purchase_order_line);
        match line.map(|line| line.terms.evaluated_receipts.trim()) {
            None | Some("") => self.evaluated_receipts,
            Some(word) => matches!(word, "2" | "3"),
        }
    }
}

/// A line of a purchase order. What was received is counted from the receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QadOrderLine {
    /// `pod_line`.
    pub number: u32,
    /// `pod_part`.
    pub part: String,
    /// `pod_desc`.
    pub description: String,
    /// `pod_um`.
    pub unit: String,
    /// `pod_qty_ord`.
    pub ordered: Exact,
    /// `pod_pur_cost`.
    pub unit_price: Exact,
    /// What else QAD knows of the line.
    #[serde(default)]
    pub terms: QadLineTerms,
    /// `pod_status`: blank, `c`, `x` or a tenant's own.
    #[serde(default)]
    pub status: String,
}

impl QadOrderLine {
    /// `pod_pur_cost` less the discount.
    pub fn net_price(&self) -> Exact {
        let percent = Decimal::ONE_HUNDRED.saturating_sub(self.terms.discount_percent.0);
        Exact(
            self.unit_price
                .0
                .saturating_mul(percent)
                .saturating_mul(Decimal::new(1, 2))
                .normalize(),
        )
    }
}

/// What not every line has: a discount, a schedule, consigned stock, a word of its own about evaluated receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct QadLineTerms {
    /// `pod_disc_pct`.
    #[serde(default)]
    pub discount_percent: Exact,
    /// `pod_sched`.
    #[serde(default)]
    pub scheduled: bool,
    /// `pod_consignment`.
    #[serde(default)]
    pub consignment: bool,
    /// `pod_ers_opt`: 1 disallowed, 2 initial, 3 confirmed; blank: the header's.
    #[serde(default)]
    pub evaluated_receipts: String,
}

/// One receipt or return line with its pending voucher (`prh_hist` with `pvo_mstr`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QadReceipt {
    /// Domain of the order.
    #[serde(default = "domain_default")]
    pub domain: String,
    /// `prh_receiver`.
    pub receiver: String,
    /// `prh_nbr`.
    pub order: String,
    /// `prh_line`.
    pub line: u32,
    /// `prh_rcvd`; a return is negative, or positive with [`QadReceipt::is_return`].
    pub quantity: Exact,
    /// `prh_rcp_type` is `R`.
    #[serde(default)]
    pub is_return: bool,
    /// `prh_rcp_date`.
    pub date: Date,
    /// `prh_ps_nbr`.
    #[serde(default)]
    pub packing_slip: String,
    /// `pvo_vouchered_qty`, signed as the quantity.
    #[serde(default)]
    pub vouchered: Exact,
    /// `pvo_lc_charge`: blank for goods.
    #[serde(default)]
    pub logistics_charge: String,
    /// True when a matching with `isFinished` closed it: `pvo_last_voucher` has a voucher.
    #[serde(default)]
    pub finished: bool,
    /// `prh_curr_amt`: cost per unit when it was received; `None`: the order line's net price.
    #[serde(default)]
    pub unit_cost: Option<Exact>,
    /// On consignment and not used: there is no pending voucher.
    #[serde(default)]
    pub consigned: bool,
}

impl QadReceipt {
    /// The quantity with the sign of its meaning: negative for every return.
    pub fn signed_quantity(&self) -> Decimal {
        if self.is_return {
            negative(self.quantity.0)
        } else {
            self.quantity.0
        }
    }

    /// The vouchered quantity with the sign of its meaning.
    pub fn signed_vouchered(&self) -> Decimal {
        if self.is_return {
            negative(self.vouchered.0)
        } else {
            self.vouchered.0
        }
    }

    /// What can still be matched, signed; zero once finished.
    pub fn open(&self) -> Decimal {
        if self.finished || self.consigned {
            Decimal::ZERO
        } else {
            self.signed_quantity().saturating_sub(self.signed_vouchered())
        }
    }
}

fn negative(quantity: Decimal) -> Decimal {
    Decimal::ZERO.saturating_sub(quantity.abs())
}

/// The order named in a supplier invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PurchaseOrderLink {
    /// Domain.
    pub purchase_order_domain: String,
    /// Number.
    pub purchase_order_number: String,
}

/// One matched receiver line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReceiverMatching {
    /// Order.
    pub purchase_order_number: String,
    /// Order line.
    pub purchase_order_line: u32,
    /// Receiver.
    pub receiver_number: String,
    /// Quantity in the order's unit, negative on a credit note.
    pub match_quantity: Exact,
    /// Invoiced price per unit.
    pub match_unit_price: Exact,
    /// Closes the receiver line.
    pub is_finished: bool,
}

/// A cost that is on no receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdditionalCost {
    /// Account.
    pub gl_account_code: String,
    /// May be blank.
    #[serde(default)]
    pub cost_center_code: String,
    /// May be blank.
    #[serde(default)]
    pub project_code: String,
    /// Net amount.
    pub amount: Exact,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// A supplier invoice as it is sent (the built-in profile) and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SupplierInvoiceRecord {
    /// Entity.
    pub entity_code: String,
    /// Domain.
    pub domain_code: String,
    /// Supplier.
    pub supplier_code: String,
    /// The supplier's own number.
    pub supplier_invoice_reference: String,
    /// `INVOICE` or `CREDITNOTE`.
    pub invoice_type: String,
    /// Daybook.
    pub daybook_code: String,
    /// Daybook of the matching.
    pub matching_daybook_code: String,
    /// Currency.
    pub currency_code: String,
    /// Invoice date.
    pub invoice_date: String,
    /// Posting date.
    pub posting_date: String,
    /// Credit terms; blank or absent takes the supplier's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credit_terms_code: Option<String>,
    /// Status code.
    pub invoice_status_code: String,
    /// Total with tax.
    pub total_amount: Exact,
    /// Tax.
    pub tax_amount: Exact,
    /// Description.
    pub description: String,
    /// Orders.
    pub purchase_orders: Vec<PurchaseOrderLink>,
    /// Receivers.
    pub receiver_matchings: Vec<ReceiverMatching>,
    /// Other costs.
    #[serde(default)]
    pub additional_costs: Vec<AdditionalCost>,
    /// A user field of the tenant's: where the document leads back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_link: Option<String>,
    /// `C`.
    #[serde(default)]
    pub data_operation: String,
    /// Blank on create.
    #[serde(default)]
    pub concurrency_hash: String,
}

impl SupplierInvoiceRecord {
    /// QAD's identity of the document, folded as QAD compares.
    pub fn identity(&self) -> (String, String, String, String) {
        (
            fold(&self.entity_code),
            fold(&self.supplier_code),
            fold(&self.supplier_invoice_reference),
            fold(&self.invoice_type),
        )
    }

    fn is_credit_note(&self) -> bool {
        fold(&self.invoice_type) == "CREDITNOTE"
    }
}

/// A supplier invoice in QAD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SupplierInvoice {
    /// What was sent.
    #[serde(flatten)]
    pub record: SupplierInvoiceRecord,
    /// Year of the posting date.
    pub posting_year: u32,
    /// Voucher number within year and daybook.
    pub voucher: u64,
    /// What is not paid yet.
    pub balance: Exact,
    /// False once fully paid.
    pub is_open: bool,
    /// What was settled without a payment (written off, adjusted, prepaid), signed.
    #[serde(skip)]
    pub adjusted: Exact,
    /// Day of the last change: of itself or of what settles it.
    #[serde(skip)]
    pub last_modified: Date,
    /// When it appeared.
    #[serde(skip)]
    pub created_at: Timestamp,
}

/// One allocation of a supplier payment: a row of the payment browse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentAllocation {
    /// Payment year.
    pub year: u32,
    /// Payment instrument.
    pub instrument: String,
    /// Payment number.
    pub number: u64,
    /// Allocation within the payment.
    pub allocation: u32,
    /// Payment reference.
    #[serde(default)]
    pub reference: String,
    /// Supplier.
    pub supplier: String,
    /// `Initial`, `For Collection`, `Paid`, `Paid Conditionally`, `Void`, `Bounced` or a tenant's own.
    pub status: String,
    /// Currency.
    pub currency: String,
    /// Payment date.
    pub payment_date: Date,
    /// Last change.
    pub last_modified: Date,
    /// The invoice paid.
    pub invoice_reference: String,
    /// `INVOICE` or `CREDITNOTE`.
    #[serde(default = "invoice_type_default")]
    pub invoice_type: String,
    /// Allocated amount.
    pub allocated: Exact,
    /// Discount taken.
    #[serde(default)]
    pub discount: Exact,
    /// Whose invoice it is; the first entity's without it.
    #[serde(default)]
    pub invoice_entity: Option<String>,
    /// The entity that pays, when it is not the invoice's own (a central payer).
    #[serde(default)]
    pub entity: Option<String>,
    /// Allocated amount in the invoice's currency, where the tenant shows it.
    #[serde(default)]
    pub invoice_allocated: Option<Exact>,
    /// What it settles in the invoice's currency although no column shows it: paid in another currency.
    #[serde(default)]
    pub settles: Option<Exact>,
    /// Tax withheld at payment, in the invoice's currency: settles the invoice and is not paid.
    #[serde(default)]
    pub withheld: Exact,
    /// Posting year and voucher of the invoice, where the tenant shows them.
    #[serde(default)]
    pub invoice_voucher: Option<(u32, u64)>,
}

impl PaymentAllocation {
    /// What is common: an invoice of the first entity, paid by itself in dollars on a day.
    pub fn of(number: u64, supplier: &str, invoice: impl Into<String>, allocated: Decimal, on: Date) -> Self {
        Self {
            year: 2026,
            instrument: "ACH".to_owned(),
            number,
            allocation: 1,
            reference: format!("ACH-{number}"),
            supplier: supplier.to_owned(),
            status: "Paid".to_owned(),
            currency: "USD".to_owned(),
            payment_date: on,
            last_modified: on,
            invoice_reference: invoice.into(),
            invoice_type: invoice_type_default(),
            allocated: Exact(allocated),
            discount: Exact::default(),
            invoice_entity: None,
            entity: None,
            invoice_allocated: None,
            settles: None,
            withheld: Exact::default(),
            invoice_voucher: None,
        }
    }

    /// Whose invoice it pays.
    pub fn owner(&self) -> &str {
        self.invoice_entity.as_deref().unwrap_or(ENTITY)
    }

    /// Who pays.
    pub fn payer(&self) -> &str {
        self.entity.as_deref().unwrap_or_else(|| self.owner())
    }

    /// What it pays of the invoice, in the invoice's currency and signed as the invoice is: a credit note's comes with either
    /// sign.
    pub fn paid(&self) -> Decimal {
        let paid = self.settles.or(self.invoice_allocated).unwrap_or(self.allocated);
        self.signed(paid.0)
    }

    /// What it settles of the invoice: what it pays, the discount and the tax withheld.
    fn settled(&self) -> Decimal {
        self.paid()
            .saturating_add(self.signed(self.discount.0))
            .saturating_add(self.signed(self.withheld.0))
    }

    fn signed(&self, amount: Decimal) -> Decimal {
        if self.invoice_type.eq_ignore_ascii_case("CREDITNOTE") {
            Decimal::ZERO.saturating_sub(amount.abs())
        } else {
            amount
        }
    }

    /// True when it pays this document.
    pub fn pays(&self, invoice: &SupplierInvoice) -> bool {
        let (entity, supplier, reference, kind) = invoice.record.identity();
        fold(self.owner()) == entity
            && fold(&self.supplier) == supplier
            && fold(&self.invoice_reference) == reference
            && fold(&self.invoice_type) == kind
    }
}

fn domain_default() -> String {
    DOMAIN.to_owned()
}

fn invoice_type_default() -> String {
    "INVOICE".to_owned()
}

/// Code, description and whether it is active: cost centers, projects, accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodedValue {
    /// Code.
    pub code: String,
    /// Description, may be blank.
    pub description: String,
    /// Active.
    pub active: bool,
}

/// A supplier as both systems are seeded with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supplier {
    /// Coupa's id.
    pub coupa_id: u64,
    /// Name.
    pub name: String,
    /// Number as Coupa holds it; absent when it is not linked.
    pub coupa_number: Option<String>,
    /// QAD's code; absent when QAD does not have it.
    pub qad_code: Option<String>,
    /// QAD currency.
    pub currency: String,
}

/// One entry of QAD's `errors[]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QadRefusal {
    /// Field.
    pub field_name: String,
    /// Text.
    pub message: String,
    /// Code.
    pub code: String,
    /// 1 is an error, 2 a warning.
    pub severity: u8,
}

impl QadRefusal {
    /// An error.
    pub fn new(code: &str, field: &str, message: impl Into<String>) -> Self {
        Self {
            field_name: field.to_owned(),
            message: message.into(),
            code: code.to_owned(),
            severity: 1,
        }
    }
}

/// Everything in QAD.
#[derive(Debug, Clone, Default)]
pub struct QadWorld {
    /// Orders by folded domain and number.
    pub orders: BTreeMap<(String, String), QadOrder>,
    /// Receipts and returns, in the order of posting.
    pub receipts: Vec<QadReceipt>,
    /// Months of the purchase ledger that are closed, as `YYYY-MM`.
    pub closed_periods: BTreeSet<String>,
    /// Whether the tenant shows the list of its periods.
    pub lists_periods: bool,
    /// Supplier invoices, in the order of creation.
    pub invoices: Vec<SupplierInvoice>,
    /// Suppliers (`supplierV2` records) by folded code.
    pub suppliers: BTreeMap<String, Map<String, Value>>,
    /// Payment allocations.
    pub payments: Vec<PaymentAllocation>,
    /// Cost centers.
    pub cost_centers: Vec<CodedValue>,
    /// Projects.
    pub projects: Vec<CodedValue>,
    /// GL accounts.
    pub gl_accounts: Vec<CodedValue>,
    /// Sub-accounts, each with the code of the one above it (blank at the root).
    pub sub_accounts: Vec<(CodedValue, String)>,
    /// Daybooks of invoices, of credit notes, of matchings.
    pub daybooks: Daybooks,
    /// Known credit terms.
    pub credit_terms: BTreeSet<String>,
    /// Known invoice status codes.
    pub invoice_statuses: BTreeSet<String>,
    /// Known currencies.
    pub currencies: BTreeSet<String>,
    /// Digits after the point of currencies that this tenant keeps otherwise than ISO 4217.
    pub currency_digits: BTreeMap<String, u32>,
    /// What came over the business document family, by component.
    pub business_documents: BTreeMap<String, Vec<Value>>,
    /// By entity, year and daybook.
    vouchers: BTreeMap<(String, u32, String), u64>,
    receivers: u64,
    revision: u64,
}

/// A row of the list of periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// First day.
    pub start: Date,
    /// Last day.
    pub end: Date,
    /// Closed for the purchase ledger.
    pub locked: bool,
}

/// Which daybooks exist for what.
#[derive(Debug, Clone, Default)]
pub struct Daybooks {
    /// For invoices.
    pub invoices: BTreeSet<String>,
    /// For credit notes.
    pub credit_notes: BTreeSet<String>,
    /// For matchings.
    pub matchings: BTreeSet<String>,
}

impl Daybooks {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.invoices
            .iter()
            .chain(&self.credit_notes)
            .chain(&self.matchings)
    }
}

/// First and last year that has periods.
const PERIOD_YEARS: (i16, i16) = (2020, 2039);

impl QadWorld {
    /// The reference data every day starts with.
    pub fn seed_master_data(&mut self) {
        let set = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect();
        let coded = |rows: &[(&str, &str, bool)]| {
            rows.iter()
                .map(|(code, description, active)| CodedValue {
                    code: (*code).to_owned(),
                    description: (*description).to_owned(),
                    active: *active,
                })
                .collect()
        };
        self.daybooks = Daybooks {
            invoices: set(&["SI"]),
            credit_notes: set(&["SC"]),
            matchings: set(&["RM"]),
        };
        self.credit_terms = set(&["N30", "N60"]);
        self.invoice_statuses = set(&[
            "AP-INITIAL",
            "AP-NOALLOC",
            "AP-RMALLOC",
            "AP-GLALLOC",
            "AP-LOCKED",
        ]);
        self.currencies = set(&["USD", "EUR", "GBP", "HUF", "JPY", "CHF", "MXN"]);
        self.lists_periods = true;
        self.currency_digits = BTreeMap::from([("HUF".to_owned(), 0)]);
        self.cost_centers = coded(&[
            ("100", "Assembly", true),
            ("200", "Sales", true),
            ("300", "", true),
            ("900", "Closed plant", false),
        ]);
        self.projects = coded(&[("P-100", "New hall", true), ("P-200", "Umbau Süd", true)]);
        self.gl_accounts = coded(&[
            ("5000", "Materials", true),
            ("6100", "Freight in", true),
            ("6200", "Handling", true),
            ("9999", "Retired", false),
        ]);
    }

    /// The purchase ledger's periods, one a month.
    pub fn periods(&self) -> impl Iterator<Item = Period> {
        let (first, last) = PERIOD_YEARS;
        let months =
            (first..=last).flat_map(|year| (1..=12).filter_map(move |month| Date::new(year, month, 1).ok()));
        months.map(|start| {
            let month = start.to_string();
            Period {
                start,
                end: start.last_of_month(),
                locked: self.closed_periods.contains(month.get(..7).unwrap_or_default()),
            }
        })
    }

    /// Adds a supplier to QAD when it has a QAD code.
    pub fn add_supplier(&mut self, supplier: &Supplier, now: Timestamp) {
        let Some(code) = &supplier.qad_code else { return };
        let mut record = Map::new();
        for (key, value) in [
            ("sharedSetCode", SHARED_SET),
            ("supplierCode", code.as_str()),
            ("businessRelationCode", code.as_str()),
            ("businessRelationName", supplier.name.as_str()),
            ("currencyCode", supplier.currency.as_str()),
            ("creditTermsCode", "N30"),
            ("taxIDFederal", ""),
            ("street1", "1 Example Street"),
            ("city", "Exampletown"),
            ("zipCode", "00000"),
            ("stateCode", ""),
            ("countryCode", "US"),
            ("EMail", "accounts@supplier.example"),
            ("invoiceStatusCode", "AP-RMALLOC"),
            ("invoiceControlGLProfileCode", "CTRL-INV"),
            ("creditNoteControlGLProfileCode", "CTRL-CN"),
            ("prePaymentControlGLProfileCode", "CTRL-PP"),
            ("purchaseAccountGLProfileCode", "PURCH"),
            // What nobody who aligns suppliers knows about, and nobody may lose.
            ("customShort0", "kept by hand"),
        ] {
            record.insert(key.to_owned(), Value::from(value));
        }
        record.insert("isActive".to_owned(), Value::Bool(true));
        record.insert(
            "bankNumberRefV2s".to_owned(),
            serde_json::json!([{"bankNumber": "0000", "isDefault": true}]),
        );
        self.store_supplier(record, now);
    }

    /// Somebody changes one field of a supplier. One that is not there is left so.
    pub fn change_supplier(&mut self, code: &str, field: &str, value: &Value, now: Timestamp) {
        if let Some(mut record) = self.suppliers.get(&fold(code)).cloned() {
            record.insert(field.to_owned(), value.clone());
            self.store_supplier(record, now);
        }
    }

    fn store_supplier(&mut self, mut record: Map<String, Value>, now: Timestamp) -> Map<String, Value> {
        self.revision = self.revision.saturating_add(1);
        let code = text_of(&record, "supplierCode");
        record.insert(
            "lastModifiedDate".to_owned(),
            Value::from(qad_date(now.date_utc())),
        );
        record.insert(
            "concurrencyHash".to_owned(),
            Value::from(format!("hash-{}", self.revision)),
        );
        record.insert(
            "uri".to_owned(),
            Value::from(format!(
                "{SUPPLIER_VIEW}:{}.{code}",
                text_of(&record, "sharedSetCode")
            )),
        );
        record.remove("dataOperation");
        self.suppliers.insert(fold(&code), record.clone());
        record
    }

    /// Creates or updates a supplier: a create with a known code is refused, an update needs the current hash.
    pub fn save_supplier(
        &mut self,
        record: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Map<String, Value>, QadRefusal> {
        let code = text_of(&record, "supplierCode");
        if code.is_empty() || code.chars().count() > SUPPLIER_CODE_CHARACTERS_MAX {
            return Err(QadRefusal::new(
                "SUPPLIER-CODE",
                "supplierCode",
                "Supplier code must have 1 to 8 characters",
            ));
        }
        for field in [
            "sharedSetCode",
            "currencyCode",
            "creditTermsCode",
            "invoiceStatusCode",
        ] {
            if text_of(&record, field).is_empty() {
                return Err(QadRefusal::new(
                    "MANDATORY",
                    field,
                    format!("{field} is mandatory"),
                ));
            }
        }
        let creates = text_of(&record, "dataOperation") == "C";
        let mandatory = CREATE_MANDATORY
            .iter()
            .find(|field| creates && text_of(&record, field).is_empty());
        if let Some(field) = mandatory {
            let message = format!("{field} is mandatory");
            return Err(QadRefusal::new("MANDATORY", field, message));
        }
        let makes_relation = record.get("isCreateBusinessRelationRequired") == Some(&Value::Bool(true));
        if creates && !makes_relation && text_of(&record, "businessRelationCode").is_empty() {
            return Err(QadRefusal::new(
                "MANDATORY",
                "businessRelationCode",
                "A business relation is mandatory",
            ));
        }
        if creates && !matches!(record.get("isActive"), Some(Value::Bool(_))) {
            return Err(QadRefusal::new("MANDATORY", "isActive", "isActive is mandatory"));
        }
        let known = self.suppliers.get(&fold(&code));
        match (text_of(&record, "dataOperation").as_str(), known) {
            ("C", None) => Ok(self.store_supplier(record, now)),
            ("C", Some(_)) => Err(QadRefusal::new(
                "EXISTS",
                "supplierCode",
                "Supplier already exists",
            )),
            ("U", None) => Err(QadRefusal::new(
                "NOT-FOUND",
                "supplierCode",
                "Supplier does not exist",
            )),
            ("U", Some(current))
                if text_of(current, "concurrencyHash") != text_of(&record, "concurrencyHash") =>
            {
                Err(QadRefusal::new(
                    "CONCURRENCY",
                    "concurrencyHash",
                    "Record has been modified by another user",
                ))
            }
            ("U", Some(_)) => Ok(self.store_supplier(record, now)),
            _ => Err(QadRefusal::new(
                "OPERATION",
                "dataOperation",
                "dataOperation must be C or U",
            )),
        }
    }

    /// The list of periods; empty when the tenant does not show it.
    pub fn listed_periods(&self) -> Vec<Period> {
        if self.lists_periods {
            self.periods().collect()
        } else {
            Vec::new()
        }
    }

    /// Adds or replaces an order.
    pub fn add_order(&mut self, order: QadOrder) {
        self.orders
            .insert((fold(&order.domain), fold(&order.number)), order);
    }

    /// The domain's order of that number.
    pub fn order(&self, domain: &str, number: &str) -> Option<&QadOrder> {
        self.orders.get(&(fold(domain), fold(number)))
    }

    /// What an order line has received, less returns.
    pub fn received(&self, domain: &str, order: &str, line: u32) -> Decimal {
        self.receipts_of(domain, order, line)
            .fold(Decimal::ZERO, |sum, receipt| {
                sum.saturating_add(receipt.signed_quantity())
            })
    }

    fn receipts_of<'a>(
        &'a self,
        domain: &str,
        order: &str,
        line: u32,
    ) -> impl Iterator<Item = &'a QadReceipt> {
        let (domain, order) = (fold(domain), fold(order));
        self.receipts
            .iter()
            .filter(move |receipt| receipt.line == line && fold(&receipt.order) == order)
            .filter(move |receipt| fold(&receipt.domain) == domain)
            .filter(|receipt| receipt.logistics_charge.is_empty())
    }

    /// Posts a receipt or a return. A blank receiver number is assigned. The order line must exist.
    pub fn post_receipt(&mut self, mut receipt: QadReceipt) -> Result<QadReceipt, QadRefusal> {
        let order = self
            .order(&receipt.domain, &receipt.order)
            .ok_or_else(|| QadRefusal::new("PO-NOT-FOUND", "order", "Purchase order does not exist"))?;
        if !order.lines.iter().any(|line| line.number == receipt.line) {
            return Err(QadRefusal::new(
                "POD-NOT-FOUND",
                "line",
                "Purchase order line does not exist",
            ));
        }
        if receipt.receiver.trim().is_empty() {
            self.receivers = self.receivers.saturating_add(1);
            receipt.receiver = format!("RC9{:05}", self.receivers);
        }
        let repeated = self
            .receipts_of(&receipt.domain, &receipt.order, receipt.line)
            .any(|other| fold(&other.receiver) == fold(&receipt.receiver));
        if repeated {
            return Err(QadRefusal::new(
                "RECEIVER-EXISTS",
                "receiver",
                "Receiver already exists for this line",
            ));
        }
        // What it costs is fixed when it is received, whatever becomes of the order's price.
        if receipt.unit_cost.is_none() {
            receipt.unit_cost = self
                .order(&receipt.domain, &receipt.order)
                .and_then(|order| order.lines.iter().find(|line| line.number == receipt.line))
                .map(QadOrderLine::net_price);
        }
        self.receipts.push(receipt.clone());
        Ok(receipt)
    }

    /// A document that a clerk keyed: vouchered quantities follow, nothing else is checked.
    pub fn keyed_by_hand(&mut self, record: SupplierInvoiceRecord, now: Timestamp) -> SupplierInvoice {
        self.record_invoice(record, now)
    }

    /// Adds an allocation of a payment, or replaces the one with the same key: a change of status. The invoice's
    /// balance follows what counts as paid.
    pub fn save_payment(&mut self, payment: PaymentAllocation) {
        let key = |one: &PaymentAllocation| {
            let payer = fold(one.payer());
            (payer, one.year, fold(&one.instrument), one.number, one.allocation)
        };
        match self.payments.iter_mut().find(|other| key(other) == key(&payment)) {
            Some(other) => *other = payment.clone(),
            None => self.payments.push(payment.clone()),
        }
        let identity = (
            fold(payment.owner()),
            fold(&payment.supplier),
            fold(&payment.invoice_reference),
            fold(&payment.invoice_type),
        );
        self.balance_again(&identity, payment.last_modified);
    }

    /// Settles some of an invoice without a payment (a write-off, an adjustment, a prepayment), or takes that back with a
    /// negative amount. False when there is no such invoice.
    pub fn adjust_invoice(&mut self, entity: &str, reference: &str, amount: Decimal, today: Date) -> bool {
        let folded = (fold(entity), fold(reference));
        let Some(invoice) = self.invoices.iter_mut().find(|invoice| {
            let (entity, _, reference, _) = invoice.record.identity();
            (entity, reference) == folded
        }) else {
            return false;
        };
        invoice.adjusted = Exact(invoice.adjusted.0.saturating_add(amount));
        let identity = invoice.record.identity();
        self.balance_again(&identity, today);
        true
    }

    /// What is owed of an invoice: its total less what counts as paid and what was settled otherwise.
    pub fn owed(&self, invoice: &SupplierInvoice) -> Decimal {
        let settled = self
            .payments
            .iter()
            .filter(|one| one.status == "Paid" && one.pays(invoice))
            .fold(invoice.adjusted.0, |sum, one| sum.saturating_add(one.settled()));
        invoice.record.total_amount.0.saturating_sub(settled)
    }

    /// The day of an invoice's last change: of itself, or of a payment of it.
    pub fn changed_on(&self, invoice: &SupplierInvoice) -> Date {
        let (entity, supplier, reference, _) = invoice.record.identity();
        self.payments
            .iter()
            .filter(|one| fold(one.owner()) == entity)
            .filter(|one| fold(&one.supplier) == supplier && fold(&one.invoice_reference) == reference)
            .map(|one| one.last_modified)
            .chain([invoice.last_modified])
            .max()
            .unwrap_or(invoice.last_modified)
    }

    fn balance_again(&mut self, identity: &(String, String, String, String), today: Date) {
        let is_it = |invoice: &SupplierInvoice| invoice.record.identity() == *identity;
        let owed: Vec<Option<Decimal>> = self
            .invoices
            .iter()
            .map(|invoice| is_it(invoice).then(|| self.owed(invoice)))
            .collect();
        for (invoice, owed) in self.invoices.iter_mut().zip(owed) {
            if let Some(owed) = owed {
                invoice.balance = Exact(owed);
                invoice.is_open = !owed.is_zero();
                invoice.last_modified = today;
            }
        }
    }

    /// Supplier invoices of one identity, whatever their type.
    pub fn find_invoices<'a>(
        &'a self,
        entity: &str,
        supplier: &str,
        reference: &str,
    ) -> impl Iterator<Item = &'a SupplierInvoice> {
        let key = (fold(entity), fold(supplier), fold(reference));
        self.invoices.iter().filter(move |invoice| {
            let (entity, supplier, reference, _) = invoice.record.identity();
            (entity, supplier, reference) == key
        })
    }

    /// Documents beyond the first of each identity and posting year, by which QAD tells them apart: what a product must never
    /// cause.
    pub fn duplicates(&self) -> usize {
        let identities: BTreeSet<_> = self
            .invoices
            .iter()
            .map(|invoice| (invoice.record.identity(), invoice.posting_year))
            .collect();
        self.invoices.len().saturating_sub(identities.len())
    }

    /// Creates a supplier invoice with its receiver matching. A repeated reference is created again, as in QAD.
    pub fn create_supplier_invoice(
        &mut self,
        record: SupplierInvoiceRecord,
        now: Timestamp,
    ) -> Result<SupplierInvoice, Vec<QadRefusal>> {
        let mut refusals = self.header_refusals(&record);
        refusals.extend(self.order_refusals(&record));
        refusals.extend(self.matching_refusals(&record));
        refusals.extend(self.cost_refusals(&record));
        refusals.extend(self.total_refusal(&record));
        if refusals.is_empty() {
            Ok(self.record_invoice(record, now))
        } else {
            Err(refusals)
        }
    }

    fn record_invoice(&mut self, record: SupplierInvoiceRecord, now: Timestamp) -> SupplierInvoice {
        let domain = fold(&record.domain_code);
        for matching in &record.receiver_matchings {
            let order = fold(&matching.purchase_order_number);
            let receiver = fold(&matching.receiver_number);
            for receipt in self.receipts.iter_mut().filter(|receipt| {
                receipt.line == matching.purchase_order_line
                    && fold(&receipt.domain) == domain
                    && receipt.logistics_charge.is_empty()
                    && fold(&receipt.order) == order
                    && fold(&receipt.receiver) == receiver
            }) {
                let signed = receipt
                    .signed_vouchered()
                    .saturating_add(matching.match_quantity.0);
                receipt.vouchered = Exact(if receipt.is_return && receipt.quantity.0.is_sign_positive() {
                    signed.abs()
                } else {
                    signed
                });
                let reopens = matching.match_quantity.0.is_sign_negative()
                    && receipt.signed_quantity().is_sign_positive();
                receipt.finished = (receipt.finished && !reopens) || matching.is_finished;
            }
        }
        let year = date_as_written(&record.posting_date)
            .and_then(|date| u32::try_from(date.year()).ok())
            .unwrap_or_default();
        let voucher = self
            .vouchers
            .entry((fold(&record.entity_code), year, fold(&record.daybook_code)))
            .or_insert(100_000);
        *voucher = voucher.saturating_add(1);
        let invoice = SupplierInvoice {
            posting_year: year,
            voucher: *voucher,
            balance: record.total_amount,
            is_open: true,
            adjusted: Exact::default(),
            last_modified: now.date_utc(),
            created_at: now,
            record,
        };
        self.invoices.push(invoice.clone());
        invoice
    }

    fn header_refusals(&self, record: &SupplierInvoiceRecord) -> Vec<QadRefusal> {
        let mut refusals = Vec::new();
        let mut check = |good: bool, code: &str, field: &str, message: &str| {
            if !good {
                refusals.push(QadRefusal::new(code, field, message));
            }
        };
        let credit = record.is_credit_note();
        let daybooks = if credit {
            &self.daybooks.credit_notes
        } else {
            &self.daybooks.invoices
        };
        let supplier = self.suppliers.get(&fold(&record.supplier_code));
        check(
            record.data_operation == "C",
            "OPERATION",
            "dataOperation",
            "dataOperation must be C",
        );
        let (entity, domain) = (fold(&record.entity_code), fold(&record.domain_code));
        let its_domain = ENTITIES.iter().find(|(code, _)| *code == entity);
        check(
            its_domain.is_some(),
            "ENTITY",
            "entityCode",
            "Entity does not exist",
        );
        let is_domain = is_domain(&domain);
        check(is_domain, "DOMAIN", "domainCode", "Domain does not exist");
        check(
            !is_domain || its_domain.is_none_or(|(_, its)| *its == domain),
            "ENTITY-DOMAIN",
            "domainCode",
            "The entity is not of this domain",
        );
        check(
            supplier.is_some(),
            "SUPPLIER",
            "supplierCode",
            "Supplier does not exist",
        );
        check(
            supplier.is_none_or(|supplier| supplier.get("isActive") == Some(&Value::Bool(true))),
            "SUPPLIER-INACTIVE",
            "supplierCode",
            "Supplier is not active",
        );
        check(
            !record.supplier_invoice_reference.trim().is_empty(),
            "REFERENCE",
            "supplierInvoiceReference",
            "Reference is mandatory",
        );
        check(
            credit || fold(&record.invoice_type) == "INVOICE",
            "TYPE",
            "invoiceType",
            "Type must be INVOICE or CREDITNOTE",
        );
        check(
            daybooks.contains(&fold(&record.daybook_code)),
            "DAYBOOK",
            "daybookCode",
            "Daybook does not exist or has another type",
        );
        check(
            self.daybooks
                .matchings
                .contains(&fold(&record.matching_daybook_code)),
            "DAYBOOK",
            "matchingDaybookCode",
            "Matching daybook does not exist",
        );
        check(
            self.invoice_statuses.contains(&fold(&record.invoice_status_code)),
            "STATUS",
            "invoiceStatusCode",
            "Invoice status code does not exist",
        );
        check(
            record
                .credit_terms_code
                .as_deref()
                .is_none_or(|code| code.trim().is_empty() || self.credit_terms.contains(&fold(code))),
            "TERMS",
            "creditTermsCode",
            "Credit terms do not exist",
        );
        check(
            date_as_written(&record.invoice_date).is_some(),
            "DATE",
            "invoiceDate",
            "Invoice date is not a date",
        );
        check(
            date_as_written(&record.posting_date).is_some(),
            "DATE",
            "postingDate",
            "Posting date is not a date",
        );
        let period = date_as_written(&record.posting_date).and_then(|day| {
            self.periods()
                .find(|period| (period.start..=period.end).contains(&day))
        });
        check(
            period.is_some(),
            "PERIOD",
            "postingDate",
            "There is no accounting period for this date",
        );
        check(
            period.is_none_or(|period| !period.locked),
            "PERIOD",
            "postingDate",
            "The accounting period is closed for the purchase ledger",
        );
        check(
            self.currencies.contains(&fold(&record.currency_code)),
            "CURRENCY",
            "currencyCode",
            "Currency does not exist",
        );
        check(
            !credit || (record.total_amount.0 <= Decimal::ZERO && record.tax_amount.0 <= Decimal::ZERO),
            "SIGN",
            "totalAmount",
            "A credit note is negative throughout",
        );
        check(
            credit || record.total_amount.0 >= Decimal::ZERO,
            "SIGN",
            "totalAmount",
            "An invoice is positive",
        );
        refusals
    }

    fn order_refusals(&self, record: &SupplierInvoiceRecord) -> Vec<QadRefusal> {
        let mut refusals = Vec::new();
        for link in &record.purchase_orders {
            let number = &link.purchase_order_number;
            let domain = fold(&link.purchase_order_domain);
            match self.order(&domain, number) {
                _ if !is_domain(&domain) => refusals.push(QadRefusal::new(
                    "DOMAIN",
                    "purchaseOrderDomain",
                    "Domain does not exist",
                )),
                // Assumed: matching goes no further than the domain of the invoice.
                _ if domain != fold(&record.domain_code) => refusals.push(QadRefusal::new(
                    "PO-DOMAIN",
                    "purchaseOrderDomain",
                    format!("Purchase order {number} is in domain {domain}"),
                )),
                None => refusals.push(QadRefusal::new(
                    "PO-NOT-FOUND",
                    "purchaseOrderNumber",
                    format!("Purchase order {number} does not exist"),
                )),
                Some(order) if fold(&order.supplier) != fold(&record.supplier_code) => {
                    refusals.push(QadRefusal::new(
                        "PO-SUPPLIER",
                        "purchaseOrderNumber",
                        format!("Purchase order {number} belongs to supplier {}", order.supplier),
                    ));
                }
                Some(order) if fold(order.entity()) != fold(&record.entity_code) => {
                    refusals.push(QadRefusal::new(
                        "PO-ENTITY",
                        "purchaseOrderNumber",
                        format!("Purchase order {number} belongs to entity {}", order.entity()),
                    ));
                }
                Some(order) if fold(&order.currency) != fold(&record.currency_code) => {
                    refusals.push(QadRefusal::new(
                        "PO-CURRENCY",
                        "currencyCode",
                        format!("Purchase order {number} is in {}", order.currency),
                    ));
                }
                Some(order)
                    if record
                        .receiver_matchings
                        .iter()
                        .any(|matching| order.evaluates(matching)) =>
                {
                    refusals.push(QadRefusal::new(
                        "PO-ERS",
                        "purchaseOrderNumber",
                        format!("Purchase order {number} is invoiced by evaluated receipts"),
                    ));
                }
                Some(_) => {}
            }
        }
        refusals
    }

    fn matching_refusals(&self, record: &SupplierInvoiceRecord) -> Vec<QadRefusal> {
        let credit = record.is_credit_note();
        let mut wanted: BTreeMap<(String, u32, String), Decimal> = BTreeMap::new();
        let mut refusals = Vec::new();
        for matching in &record.receiver_matchings {
            let order = fold(&matching.purchase_order_number);
            let linked = record
                .purchase_orders
                .iter()
                .any(|link| fold(&link.purchase_order_number) == order);
            if !linked {
                refusals.push(QadRefusal::new(
                    "PO-NOT-LINKED",
                    "purchaseOrderNumber",
                    format!("Purchase order {order} is not among purchaseOrders"),
                ));
            }
            let quantity = matching.match_quantity.0;
            if quantity.is_zero() || quantity.is_sign_negative() != credit {
                refusals.push(QadRefusal::new(
                    "MATCH-QTY",
                    "matchQuantity",
                    "The match quantity must not be zero and must have the sign of the document",
                ));
            }
            if matching.match_unit_price.0.is_sign_negative() && !matching.match_unit_price.0.is_zero() {
                refusals.push(QadRefusal::new(
                    "MATCH-PRICE",
                    "matchUnitPrice",
                    "The price must not be negative",
                ));
            }
            let key = (
                order,
                matching.purchase_order_line,
                fold(&matching.receiver_number),
            );
            let sum = wanted.entry(key).or_default();
            *sum = sum.saturating_add(quantity);
        }
        for ((order, line, receiver), quantity) in wanted {
            let found = self
                .receipts_of(&record.domain_code, &order, line)
                .find(|receipt| fold(&receipt.receiver) == receiver);
            match found {
                None => refusals.push(QadRefusal::new(
                    "RECEIVER",
                    "receiverNumber",
                    format!("Receiver {receiver} does not exist for order {order} line {line}"),
                )),
                // A credit note takes back what was invoiced of a receipt, and opens it again (assumed).
                Some(receipt)
                    if quantity.is_sign_negative()
                        && receipt.signed_quantity().is_sign_positive()
                        && quantity.abs() <= receipt.signed_vouchered() => {}
                Some(receipt) if !covers(receipt.open(), quantity) => refusals.push(QadRefusal::new(
                    "MATCH-QTY",
                    "matchQuantity",
                    format!(
                        "Receiver {receiver} has {} open, {quantity} was to be matched",
                        receipt.open()
                    ),
                )),
                Some(_) => {}
            }
        }
        refusals
    }

    fn cost_refusals(&self, record: &SupplierInvoiceRecord) -> Vec<QadRefusal> {
        let known = |values: &[CodedValue], code: &str| {
            values
                .iter()
                .any(|value| value.active && fold(&value.code) == fold(code))
        };
        let blank_or_known =
            |values: &[CodedValue], code: &str| code.trim().is_empty() || known(values, code);
        let mut refusals = Vec::new();
        for cost in &record.additional_costs {
            for (good, field) in [
                (known(&self.gl_accounts, &cost.gl_account_code), "glAccountCode"),
                (
                    blank_or_known(&self.cost_centers, &cost.cost_center_code),
                    "costCenterCode",
                ),
                (blank_or_known(&self.projects, &cost.project_code), "projectCode"),
            ] {
                if !good {
                    refusals.push(QadRefusal::new("CODE", field, format!("{field} does not exist")));
                }
            }
        }
        refusals
    }

    /// Lines, costs and tax must make the total within one minor unit of the currency per line.
    fn total_refusal(&self, record: &SupplierInvoiceRecord) -> Option<QadRefusal> {
        let currency = record.currency_code.parse::<Currency>().ok()?;
        let mut sum = record.tax_amount.0;
        for matching in &record.receiver_matchings {
            let amount = matching
                .match_quantity
                .0
                .saturating_mul(matching.match_unit_price.0);
            sum = sum.saturating_add(amount);
        }
        for cost in &record.additional_costs {
            sum = sum.saturating_add(cost.amount.0);
        }
        let rows = record
            .receiver_matchings
            .len()
            .saturating_add(record.additional_costs.len())
            .max(1);
        let digits = self.currency_digits.get(&fold(&record.currency_code));
        let unit = digits.map_or_else(|| currency.minor_unit(), |digits| Decimal::new(1, *digits));
        let allowed = unit.saturating_mul(Decimal::from(rows));
        let difference = sum.saturating_sub(record.total_amount.0).abs();
        (difference > allowed).then(|| {
            QadRefusal::new(
                "TOTAL",
                "totalAmount",
                format!(
                    "Lines, costs and tax make {sum}, the total is {}",
                    record.total_amount.0
                ),
            )
        })
    }
}

fn is_domain(folded: &str) -> bool {
    ENTITIES.iter().any(|(_, domain)| *domain == folded)
}

/// True when `quantity` is no more than `open`, both with the same sign.
fn covers(open: Decimal, quantity: Decimal) -> bool {
    if quantity.is_sign_negative() {
        quantity >= open
    } else {
        quantity <= open
    }
}

/// A calendar date as QAD writes it.
pub fn qad_date(date: Date) -> String {
    format!("{date}T00:00:00.000Z")
}

/// A text field of a record; blank when it is absent or no text.
pub(crate) fn text_of(record: &Map<String, Value>, key: &str) -> String {
    record
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
