//! Coupa: invoices with their payments, suppliers, lookups, integration history, and its rules.

use super::qad::{QadOrder, Supplier};
use domain::documents::ChargeKind;
use domain::ids::{DocumentKind, fold};
use domain::money::{Currency, parse_decimal};
use domain::time::{Date, Timestamp};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The company's time zone: Coupa writes instants and midnights in it.
const COMPANY_OFFSET_HOURS: i8 = 2;
/// Longest invoice number, in characters (confirmed).
const INVOICE_NUMBER_CHARACTERS_MAX: usize = 40;
/// Longest `notes` of a payment, in characters (confirmed).
const PAYMENT_NOTES_CHARACTERS_MAX: usize = 255;

/// An error answer of Coupa.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupaError {
    /// HTTP status.
    pub status: u16,
    /// Object or field.
    pub key: String,
    /// Text.
    pub message: String,
}

impl CoupaError {
    /// An error with its HTTP status.
    pub fn new(status: u16, key: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            key: key.to_owned(),
            message: message.into(),
        }
    }

    fn not_found() -> Self {
        Self::new(404, "base", "The resource you requested could not be found")
    }

    fn invalid(key: &str, message: &str) -> Self {
        Self::new(400, key, message)
    }
}

/// A payment entry of an invoice. Entries are appended and never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CoupaPayment {
    /// Coupa's id.
    #[serde(default)]
    pub id: u64,
    /// Amount; negative for a reversal.
    pub amount_paid: Decimal,
    /// Date as written.
    #[serde(default)]
    pub payment_date: Option<String>,
    /// Reference: QAD's payment key.
    #[serde(default)]
    pub notes: Option<String>,
}

/// A line of a Coupa invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CoupaLine {
    /// `line-num`.
    pub number: u32,
    /// Description.
    #[serde(default)]
    pub description: String,
    /// Quantity; absent on an amount line.
    #[serde(default)]
    pub quantity: Option<Decimal>,
    /// Price per unit, or the amount of an amount line.
    pub price: Decimal,
    /// Unit of measure.
    #[serde(default)]
    pub unit: Option<String>,
    /// Net total; quantity times price when left out.
    #[serde(default)]
    pub total: Option<Decimal>,
    /// `po-number`.
    #[serde(default)]
    pub order: Option<String>,
    /// `order-line-num`.
    #[serde(default)]
    pub order_line: Option<u32>,
    /// Tax of the line; counts when the invoice is taxed by line.
    #[serde(default)]
    pub tax: Decimal,
    /// Fields that replace, or join, what Coupa would write.
    #[serde(default)]
    pub overrides: Map<String, Value>,
}

impl CoupaLine {
    /// The net total in a currency.
    pub fn net(&self, currency: &str) -> Decimal {
        let exact = match (self.total, self.quantity) {
            (Some(total), _) => return total,
            (None, Some(quantity)) => quantity.saturating_mul(self.price),
            (None, None) => self.price,
        };
        currency
            .parse::<Currency>()
            .map_or(exact, |currency| currency.round(exact))
    }
}

/// A charge of a Coupa invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoupaCharge {
    /// Which.
    pub kind: ChargeKind,
    /// Net amount.
    pub amount: Decimal,
}

/// An invoice or credit note in Coupa, with its figures as Coupa writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CoupaInvoice {
    /// Coupa's id; 0 lets Coupa assign one.
    #[serde(default)]
    pub id: u64,
    /// `invoice-number`.
    pub number: String,
    /// Invoice or credit note.
    #[serde(default = "kind_default")]
    pub kind: DocumentKind,
    /// `original-invoice-number`.
    #[serde(default)]
    pub original_number: Option<String>,
    /// `status`.
    #[serde(default = "status_default")]
    pub status: String,
    /// The exported flag.
    #[serde(default)]
    pub exported: bool,
    /// True once it was exported, even when the flag was taken back since.
    #[serde(default)]
    pub was_exported: bool,
    /// Paid in full, as the last write said.
    #[serde(default)]
    pub paid: bool,
    /// `payment-date` as written.
    #[serde(default)]
    pub payment_date: Option<String>,
    /// `payment-notes`.
    #[serde(default)]
    pub payment_notes: Option<String>,
    /// Payments in the order they were appended.
    #[serde(default)]
    pub payments: Vec<CoupaPayment>,
    /// Invoice date.
    pub invoice_date: Date,
    /// When it was created.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When it was last written, by anyone.
    #[serde(default)]
    pub updated_at: Timestamp,
    /// Coupa's id of the supplier.
    pub supplier: u64,
    /// Currency.
    pub currency: String,
    /// `payment-term.code`.
    #[serde(default)]
    pub payment_term: Option<String>,
    /// `total-with-taxes`; the sum of lines, charges and tax when left out.
    #[serde(default)]
    pub total: Option<Decimal>,
    /// True when the lines carry the tax.
    #[serde(default)]
    pub line_level_taxation: bool,
    /// Header tax; counts when the lines do not carry it.
    #[serde(default)]
    pub tax: Decimal,
    /// Charges.
    #[serde(default)]
    pub charges: Vec<CoupaCharge>,
    /// Lines.
    pub lines: Vec<CoupaLine>,
    /// Custom fields.
    #[serde(default)]
    pub custom_fields: Map<String, Value>,
    /// Top-level fields that replace what Coupa would write: how an unreadable invoice is made.
    #[serde(default)]
    pub overrides: Map<String, Value>,
}

fn kind_default() -> DocumentKind {
    DocumentKind::Invoice
}

fn status_default() -> String {
    "approved".to_owned()
}

impl CoupaInvoice {
    /// All tax.
    pub fn tax_total(&self) -> Decimal {
        if self.line_level_taxation {
            self.lines
                .iter()
                .fold(Decimal::ZERO, |sum, line| sum.saturating_add(line.tax))
        } else {
            self.tax
        }
    }

    /// Total with tax.
    pub fn total_with_taxes(&self) -> Decimal {
        self.total.unwrap_or_else(|| {
            let lines = self.lines.iter().map(|line| line.net(&self.currency));
            let charges = self.charges.iter().map(|charge| charge.amount);
            lines
                .chain(charges)
                .fold(self.tax_total(), Decimal::saturating_add)
        })
    }

    fn charge(&self, kind: ChargeKind) -> Decimal {
        self.charges
            .iter()
            .filter(|charge| charge.kind == kind)
            .fold(Decimal::ZERO, |sum, charge| sum.saturating_add(charge.amount))
    }

    fn line_json(&self, line: &CoupaLine) -> Value {
        let by_quantity = line.quantity.is_some();
        let mut record = json!({
            "id": self.id.saturating_mul(100).saturating_add(u64::from(line.number)),
            "line-num": line.number,
            "type": if by_quantity { "InvoiceQuantityLine" } else { "InvoiceAmountLine" },
            "description": line.description,
            "quantity": line.quantity.map(decimal),
            "price": decimal(line.price),
            "uom": line.unit.as_ref().map(|code| json!({"code": code, "discount-rate": "2.0"})),
            "total": decimal(line.net(&self.currency)),
            "order-header-num": line.order,
            "po-number": line.order,
            "order-line-num": line.order_line.map(|number| number.to_string()),
            "tax-amount": decimal(line.tax),
            "tax-lines": [],
            "account": Value::Null,
            "account-allocations": [],
        });
        if let Value::Object(fields) = &mut record {
            fields.extend(line.overrides.clone());
        }
        record
    }

    /// The invoice as Coupa writes it.
    pub fn to_json(&self, supplier: Option<&Map<String, Value>>) -> Value {
        let credit = self.kind == DocumentKind::CreditNote;
        let total = decimal(self.total_with_taxes());
        let charges: Vec<Value> = self.charges.iter().enumerate().map(charge_json).collect();
        let mut record = json!({
            "id": self.id,
            "created-at": coupa_instant(self.created_at),
            "updated-at": coupa_instant(self.updated_at),
            "invoice-number": self.number,
            "invoice-date": coupa_date(self.invoice_date),
            "document-type": if credit { "Credit Note" } else { "Invoice" },
            "is-credit-note": credit,
            "original-invoice-number": self.original_number,
            "status": self.status,
            "exported": self.exported,
            "paid": self.paid,
            "payment-date": self.payment_date,
            "payment-notes": self.payment_notes,
            "payment-channel": "ERP",
            "line-level-taxation": self.line_level_taxation,
            "total-with-taxes": total,
            "gross-total": total,
            "tax-amount": decimal(self.tax_total()),
            "shipping-amount": decimal(self.charge(ChargeKind::Shipping)),
            "handling-amount": decimal(self.charge(ChargeKind::Handling)),
            "misc-amount": decimal(self.charge(ChargeKind::Misc)),
            "line-count": self.lines.len(),
            "currency": {"code": self.currency},
            "payment-term": self.payment_term.as_ref().map(|code| json!({"code": code})),
            "invoice-charges": charges,
            "tax-lines": [],
            "custom-fields": self.custom_fields,
        });
        if let Value::Object(fields) = &mut record {
            fields.insert("supplier".to_owned(), supplier_reference(self.supplier, supplier));
            let payments = self
                .payments
                .iter()
                .map(|payment| self.payment_json(payment))
                .collect();
            fields.insert("payments".to_owned(), Value::Array(payments));
            let lines = self.lines.iter().map(|line| self.line_json(line)).collect();
            fields.insert("invoice-lines".to_owned(), Value::Array(lines));
            fields.extend(self.overrides.clone());
        }
        record
    }

    fn payment_json(&self, payment: &CoupaPayment) -> Value {
        json!({
            "id": payment.id,
            "payable-type": "InvoiceHeader",
            "payable-id": self.id,
            "amount-paid": decimal(payment.amount_paid),
            "payment-date": payment.payment_date,
            "notes": payment.notes,
        })
    }
}

fn charge_json((index, charge): (usize, &CoupaCharge)) -> Value {
    json!({
        "type": match charge.kind {
            ChargeKind::Shipping => "InvoiceShippingCharge",
            ChargeKind::Handling => "InvoiceHandlingCharge",
            ChargeKind::Misc => "InvoiceMiscCharge",
        },
        "line-num": index.saturating_add(1),
        "total": decimal(charge.amount),
        "tax-lines": [],
    })
}

fn supplier_reference(id: u64, supplier: Option<&Map<String, Value>>) -> Value {
    let field = |key: &str| {
        supplier
            .and_then(|supplier| supplier.get(key))
            .cloned()
            .unwrap_or(Value::Null)
    };
    json!({
        "id": id,
        "name": field("name"),
        "display-name": field("display-name"),
        "number": field("number"),
    })
}

/// A decimal as Coupa writes it: a string.
pub fn decimal(value: Decimal) -> String {
    value.to_string()
}

/// An instant as Coupa writes it: whole seconds, in the company's zone.
pub fn coupa_instant(at: Timestamp) -> String {
    let offset = jiff::tz::Offset::constant(COMPANY_OFFSET_HOURS);
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(instant) => offset
            .to_datetime(instant)
            .strftime("%Y-%m-%dT%H:%M:%S+02:00")
            .to_string(),
        Err(_) => String::new(),
    }
}

/// A date as Coupa writes it: midnight in the company's zone.
pub fn coupa_date(date: Date) -> String {
    format!("{date}T00:00:00+02:00")
}

/// An instant cut to the whole seconds that Coupa writes.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp(at.0.div_euclid(1000).saturating_mul(1000))
}

/// What one `PUT` changes on an invoice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InvoiceChange {
    /// Sets `paid`.
    pub paid: Option<bool>,
    /// Sets `payment-date`.
    pub payment_date: Option<String>,
    /// Sets `payment-notes`.
    pub payment_notes: Option<String>,
    /// Appends these payments.
    pub payments: Vec<CoupaPayment>,
    /// Sets these custom fields.
    pub custom_fields: Map<String, Value>,
}

/// A limit on requests: a bucket that holds `burst` and refills with `per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Size of the bucket, in requests.
    pub burst: u32,
    /// Refill, in requests per second.
    pub per_second: u32,
}

impl Default for RateLimit {
    /// Coupa's documented limit.
    fn default() -> Self {
        Self {
            burst: 20,
            per_second: 25,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Thousandths of a request.
    level: i64,
    filled_at: Option<Timestamp>,
}

/// Everything in Coupa.
#[derive(Debug, Clone, Default)]
pub struct CoupaWorld {
    /// Invoices by id.
    pub invoices: BTreeMap<u64, CoupaInvoice>,
    /// Suppliers by id, as Coupa writes them.
    pub suppliers: BTreeMap<u64, Map<String, Value>>,
    /// Names of the lookups that exist.
    pub lookups: BTreeSet<String>,
    /// Lookup values by id, as Coupa writes them.
    pub lookup_values: BTreeMap<u64, Map<String, Value>>,
    /// Integration history records by id, as Coupa writes them.
    pub history: BTreeMap<u64, Map<String, Value>>,
    /// Purchase orders by number, as Coupa writes them.
    pub orders: BTreeMap<String, Map<String, Value>>,
    /// Integration codes that are set up in the tenant.
    pub integrations: BTreeSet<String>,
    /// Takes a name or a number that another supplier or value has, as the real Coupa does not: whoever writes must not
    /// need it to refuse.
    pub takes_twice: bool,
    bucket: Bucket,
    next_id: u64,
}

/// First id that Coupa assigns by itself.
const ASSIGNED_IDS_START: u64 = 700_000;

impl CoupaWorld {
    fn assign_id(&mut self) -> u64 {
        self.next_id = self.next_id.max(ASSIGNED_IDS_START).saturating_add(1);
        self.next_id
    }

    /// The lookups and integrations every day starts with.
    pub fn seed_lookups(&mut self) {
        for name in [
            "QAD Cost Centers",
            "QAD Projects",
            "QAD GL Accounts",
            "QAD Integration Owner",
        ] {
            self.lookups.insert(name.to_owned());
        }
        self.integrations.insert("QAD_INVOICES".to_owned());
    }

    /// Adds a supplier as seeded.
    pub fn add_supplier(&mut self, supplier: &Supplier, now: Timestamp) {
        let record = json!({
            "id": supplier.coupa_id,
            "name": supplier.name,
            "display-name": supplier.name,
            "number": supplier.coupa_number,
            "status": "active",
            "created-at": coupa_instant(now),
            "updated-at": coupa_instant(now),
        });
        if let Value::Object(record) = record {
            self.suppliers.insert(supplier.coupa_id, record);
        }
    }

    /// Adds the purchase order that QAD has under the same number.
    pub fn add_order(&mut self, order: &QadOrder, now: Timestamp) {
        let lines: Vec<Value> = order
            .lines
            .iter()
            .map(|line| {
                json!({
                    "line-num": line.number.to_string(),
                    "type": "OrderQuantityLine",
                    "description": line.description,
                    "quantity": decimal(line.ordered.0),
                    "price": decimal(line.unit_price.0),
                    "uom": {"code": line.unit},
                    "status": "created",
                    "match-type": "3-way",
                    "receipt-required": true,
                })
            })
            .collect();
        let record = json!({
            "id": self.assign_id(),
            "po-number": order.number,
            "status": "issued",
            "currency": {"code": order.currency},
            "supplier": {"number": order.supplier},
            "updated-at": coupa_instant(now),
            "order-lines": lines,
        });
        if let Value::Object(record) = record {
            self.orders.insert(order.number.clone(), record);
        }
    }

    /// Adds an invoice; with id 0 one is assigned. The id is the answer.
    pub fn add_invoice(&mut self, mut invoice: CoupaInvoice, now: Timestamp) -> u64 {
        if invoice.id == 0 {
            invoice.id = self.assign_id();
        }
        invoice.number = invoice
            .number
            .chars()
            .take(INVOICE_NUMBER_CHARACTERS_MAX)
            .collect();
        invoice.created_at = now;
        invoice.updated_at = now;
        let id = invoice.id;
        self.invoices.insert(id, invoice);
        id
    }

    /// The invoice as Coupa writes it.
    pub fn invoice_json(&self, id: u64) -> Option<Value> {
        let invoice = self.invoices.get(&id)?;
        Some(invoice.to_json(self.suppliers.get(&invoice.supplier)))
    }

    fn invoice_mut(&mut self, id: u64) -> Result<&mut CoupaInvoice, CoupaError> {
        self.invoices.get_mut(&id).ok_or_else(CoupaError::not_found)
    }

    /// Takes one request from the bucket. `None` when there is one, else the milliseconds until there is.
    pub fn take_request(&mut self, limit: RateLimit, now: Timestamp) -> Option<i64> {
        const THOUSAND: i64 = 1000;
        let full = i64::from(limit.burst).saturating_mul(THOUSAND);
        let rate = i64::from(limit.per_second).max(1);
        let level = match self.bucket.filled_at {
            None => full,
            Some(before) => {
                let elapsed = now.millis_since(before).max(0);
                self.bucket
                    .level
                    .saturating_add(elapsed.saturating_mul(rate))
                    .min(full)
            }
        };
        self.bucket.filled_at = Some(now);
        if level >= THOUSAND {
            self.bucket.level = level.saturating_sub(THOUSAND);
            None
        } else {
            self.bucket.level = level;
            let missing = THOUSAND.saturating_sub(level);
            Some(
                missing
                    .saturating_add(rate)
                    .saturating_sub(1)
                    .checked_div(rate)
                    .unwrap_or(THOUSAND),
            )
        }
    }

    /// Sets the exported flag.
    pub fn mark_exported(&mut self, id: u64, now: Timestamp) -> Result<Value, CoupaError> {
        let invoice = self.invoice_mut(id)?;
        invoice.exported = true;
        invoice.was_exported = true;
        invoice.updated_at = now;
        self.invoice_json(id).ok_or_else(CoupaError::not_found)
    }

    /// Applies a change. Payments are appended whatever is there already.
    pub fn change_invoice(
        &mut self,
        id: u64,
        change: InvoiceChange,
        now: Timestamp,
    ) -> Result<Value, CoupaError> {
        for payment in &change.payments {
            if payment.amount_paid.is_zero() {
                return Err(CoupaError::invalid("payments", "Amount paid can't be zero"));
            }
            let notes = payment.notes.as_deref().unwrap_or_default();
            if notes.chars().count() > PAYMENT_NOTES_CHARACTERS_MAX {
                return Err(CoupaError::invalid(
                    "payments",
                    "Notes is too long (maximum is 255 characters)",
                ));
            }
        }
        self.invoice_mut(id)?;
        let ids: Vec<u64> = change.payments.iter().map(|_| self.assign_id()).collect();
        let invoice = self.invoice_mut(id)?;
        if invoice.status != "approved" && !change.payments.is_empty() {
            return Err(CoupaError::invalid(
                "invoice",
                "Payments need an approved invoice",
            ));
        }
        invoice.paid = change.paid.unwrap_or(invoice.paid);
        invoice.payment_date = change.payment_date.or(invoice.payment_date.take());
        invoice.payment_notes = change.payment_notes.or(invoice.payment_notes.take());
        for (mut payment, payment_id) in change.payments.into_iter().zip(ids) {
            payment.id = payment_id;
            invoice.payments.push(payment);
        }
        invoice.custom_fields.extend(change.custom_fields);
        invoice.updated_at = now;
        self.invoice_json(id).ok_or_else(CoupaError::not_found)
    }

    /// A purchase order by its id, as Coupa writes it.
    pub fn order_json(&self, id: u64) -> Option<Value> {
        let order = self
            .orders
            .values()
            .find(|order| order.get("id") == Some(&Value::from(id)));
        order.cloned().map(Value::Object)
    }

    /// Approves an invoice.
    pub fn approve(&mut self, id: u64, now: Timestamp) -> Result<(), CoupaError> {
        let invoice = self.invoice_mut(id)?;
        invoice.status = "approved".to_owned();
        invoice.updated_at = now;
        Ok(())
    }

    /// Voids an invoice: it re-appears as not exported.
    pub fn void(&mut self, id: u64, now: Timestamp) -> Result<(), CoupaError> {
        let invoice = self.invoice_mut(id)?;
        invoice.status = "voided".to_owned();
        invoice.exported = false;
        invoice.updated_at = now;
        Ok(())
    }

    /// Writes an integration history record.
    pub fn record_history(
        &mut self,
        mut body: Map<String, Value>,
        alert: bool,
        now: Timestamp,
    ) -> Result<Value, CoupaError> {
        for field in ["document-type", "document-id", "contact-alert-type"] {
            if body.get(field).is_none_or(Value::is_null) {
                return Err(CoupaError::invalid(field, "can't be blank"));
            }
        }
        let code = body
            .get("integration")
            .and_then(|integration| integration.get("code"))
            .and_then(Value::as_str);
        if let Some(code) = code
            && !self.integrations.contains(code)
        {
            return Err(CoupaError::invalid("integration", "does not exist"));
        }
        let id = self.assign_id();
        body.insert("id".to_owned(), Value::from(id));
        body.insert("resolved".to_owned(), Value::Bool(false));
        body.insert("alerted".to_owned(), Value::Bool(alert));
        body.insert("created-at".to_owned(), Value::from(coupa_instant(now)));
        self.history.insert(id, body.clone());
        Ok(Value::Object(body))
    }

    /// Marks a history record as resolved.
    pub fn resolve_history(&mut self, id: u64, now: Timestamp) -> Result<Value, CoupaError> {
        let record = self.history.get_mut(&id).ok_or_else(CoupaError::not_found)?;
        record.insert("resolved".to_owned(), Value::Bool(true));
        record.insert("updated-at".to_owned(), Value::from(coupa_instant(now)));
        Ok(Value::Object(record.clone()))
    }

    /// Creates a supplier: name and number are unique.
    pub fn create_supplier(
        &mut self,
        mut body: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Value, CoupaError> {
        for field in ["name", "primary-contact", "primary-address"] {
            if body.get(field).is_none_or(Value::is_null) {
                return Err(CoupaError::invalid(field, "can't be blank"));
            }
        }
        for field in ["name", "number"] {
            self.refuse_taken_supplier(field, &body, None)?;
        }
        let id = self.assign_id();
        body.entry("status").or_insert_with(|| Value::from("draft"));
        body.insert("id".to_owned(), Value::from(id));
        body.insert("created-at".to_owned(), Value::from(coupa_instant(now)));
        body.insert("updated-at".to_owned(), Value::from(coupa_instant(now)));
        self.suppliers.insert(id, body.clone());
        Ok(Value::Object(body))
    }

    fn refuse_taken_supplier(
        &self,
        field: &str,
        body: &Map<String, Value>,
        except: Option<u64>,
    ) -> Result<(), CoupaError> {
        let Some(value) = body.get(field).and_then(Value::as_str) else {
            return Ok(());
        };
        let taken = self.suppliers.iter().any(|(id, supplier)| {
            Some(*id) != except
                && supplier
                    .get(field)
                    .and_then(Value::as_str)
                    .is_some_and(|other| fold(other) == fold(value))
        });
        if taken && !self.takes_twice {
            return Err(CoupaError::invalid(field, "has already been taken"));
        }
        Ok(())
    }

    /// Changes the fields of a supplier that the body names.
    pub fn update_supplier(
        &mut self,
        id: u64,
        body: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Value, CoupaError> {
        for field in ["name", "number"] {
            self.refuse_taken_supplier(field, &body, Some(id))?;
        }
        let supplier = self.suppliers.get_mut(&id).ok_or_else(CoupaError::not_found)?;
        supplier.extend(body);
        supplier.insert("id".to_owned(), Value::from(id));
        supplier.insert("updated-at".to_owned(), Value::from(coupa_instant(now)));
        Ok(Value::Object(supplier.clone()))
    }

    /// Creates a lookup value: name and external reference are unique within lookup and parent.
    pub fn create_lookup_value(
        &mut self,
        mut body: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Value, CoupaError> {
        let lookup = lookup_of(&body);
        if !lookup.as_ref().is_some_and(|name| self.lookups.contains(name)) {
            return Err(CoupaError::invalid("lookup", "must exist"));
        }
        if body.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(CoupaError::invalid("name", "can't be blank"));
        }
        let number = body
            .get("external-ref-num")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let code = match self.parent_value(&body)? {
            Some((id, code)) => {
                body.insert("parent".to_owned(), json!({"id": id, "external-ref-code": code}));
                format!("{code}-{number}")
            }
            None => {
                body.remove("parent");
                number
            }
        };
        for field in ["name", "external-ref-num"] {
            self.refuse_taken_value(field, &body, None)?;
        }
        let id = self.assign_id();
        body.entry("active").or_insert(Value::Bool(true));
        body.insert("external-ref-code".to_owned(), Value::from(code));
        body.insert("id".to_owned(), Value::from(id));
        body.insert("created-at".to_owned(), Value::from(coupa_instant(now)));
        body.insert("updated-at".to_owned(), Value::from(coupa_instant(now)));
        self.lookup_values.insert(id, body.clone());
        Ok(Value::Object(body))
    }

    /// Id and path of the value above, which must be there: named by its path of reference numbers.
    fn parent_value(&self, body: &Map<String, Value>) -> Result<Option<(u64, String)>, CoupaError> {
        let Some(parent) = body.get("parent").filter(|parent| !parent.is_null()) else {
            return Ok(None);
        };
        let code = parent.get("external-ref-code").and_then(Value::as_str);
        self.lookup_values
            .iter()
            .filter(|(_, value)| lookup_of(value) == lookup_of(body))
            .find(|(_, value)| value.get("external-ref-code").and_then(Value::as_str) == code)
            .zip(code)
            .map(|((id, _), code)| Some((*id, code.to_owned())))
            .ok_or_else(|| CoupaError::invalid("parent", "must exist"))
    }

    fn refuse_taken_value(
        &self,
        field: &str,
        body: &Map<String, Value>,
        except: Option<u64>,
    ) -> Result<(), CoupaError> {
        let Some(value) = body.get(field).and_then(Value::as_str) else {
            return Ok(());
        };
        let taken = self.lookup_values.iter().any(|(id, other)| {
            Some(*id) != except
                && lookup_of(other) == lookup_of(body)
                && other.get("parent") == body.get("parent")
                && other
                    .get(field)
                    .and_then(Value::as_str)
                    .is_some_and(|other| fold(other) == fold(value))
        });
        if taken && !self.takes_twice {
            return Err(CoupaError::invalid(field, "has already been taken"));
        }
        Ok(())
    }

    /// Changes the fields of a lookup value that the body names.
    pub fn update_lookup_value(
        &mut self,
        id: u64,
        body: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Value, CoupaError> {
        let mut merged = self
            .lookup_values
            .get(&id)
            .cloned()
            .ok_or_else(CoupaError::not_found)?;
        merged.extend(body);
        for field in ["name", "external-ref-num"] {
            self.refuse_taken_value(field, &merged, Some(id))?;
        }
        merged.insert("id".to_owned(), Value::from(id));
        merged.insert("updated-at".to_owned(), Value::from(coupa_instant(now)));
        self.lookup_values.insert(id, merged.clone());
        Ok(Value::Object(merged))
    }
}

fn lookup_of(value: &Map<String, Value>) -> Option<String> {
    value.get("lookup")?.get("name")?.as_str().map(str::to_owned)
}

/// Reads the body of a `PUT` on an invoice as the wire contract has it. The three forms of `payments` that Coupa
/// documents are read.
pub fn read_change(body: &Map<String, Value>) -> Result<InvoiceChange, CoupaError> {
    let mut change = InvoiceChange::default();
    for (key, value) in body {
        match (key.as_str(), value) {
            ("paid", Value::Bool(paid)) => change.paid = Some(*paid),
            ("paid", Value::String(paid)) if paid == "true" || paid == "false" => {
                change.paid = Some(paid == "true");
            }
            ("payment-date", Value::String(date)) => change.payment_date = Some(date.clone()),
            ("payment-notes", Value::String(notes)) => change.payment_notes = Some(notes.clone()),
            ("custom-fields", Value::Object(fields)) => change.custom_fields = fields.clone(),
            ("payments", payments) => change.payments = read_payments(payments)?,
            (key, _) => return Err(CoupaError::invalid(key, "is not a field this change may have")),
        }
    }
    Ok(change)
}

fn read_payments(payments: &Value) -> Result<Vec<CoupaPayment>, CoupaError> {
    let entries = payments.get("payment").unwrap_or(payments);
    let entries = match entries {
        Value::Array(entries) => entries.clone(),
        Value::Object(_) => vec![entries.clone()],
        _ => return Err(CoupaError::invalid("payments", "must be payments")),
    };
    entries.iter().map(read_payment).collect()
}

fn read_payment(entry: &Value) -> Result<CoupaPayment, CoupaError> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let amount =
        text("amount-paid").ok_or_else(|| CoupaError::invalid("payments", "Amount paid can't be blank"))?;
    Ok(CoupaPayment {
        id: 0,
        amount_paid: parse_decimal(&amount)
            .map_err(|_| CoupaError::invalid("payments", "Amount paid is not a number"))?,
        payment_date: text("payment-date"),
        notes: text("notes"),
    })
}
