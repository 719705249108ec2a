//! The same world as ports: [`flows::ports::Coupa`] and [`flows::ports::Qad`] without HTTP, for tests of the flows.
//!
//! The faults are the same; what a connector would make of them is decided here as the wire contract says: what is
//! lost, cut short or an error of the server on a write is unknown, a 401, a 429 or a record in use is not applied.

#![allow(
    clippy::result_large_err,
    reason = "the ports' own errors, once per call to another system"
)]

mod lookups;
mod payments;
mod suppliers;
mod together;

use crate::faults::{Fault, Faults, RetryAfter, System};
use crate::journal::{Journal, JournalEntry};
use crate::scenario::{CHART_FIELD, CHARTS, chart_of};
use crate::world::coupa::{CoupaInvoice, whole_seconds};
use crate::world::qad::{
    AdditionalCost, DOMAIN, ENTITY, Exact, PurchaseOrderLink, QadOrder, QadReceipt, ReceiverMatching,
    SupplierInvoice, SupplierInvoiceRecord, qad_date,
};
use crate::world::{World, Write, WriteRefusal, Written};
use async_trait::async_trait;
use domain::coupa_orders::{CoupaOrder, CoupaOrderLine, CoupaOrderStanding, CoupaOrderStatus};
use domain::documents::{CoupaStatus, Invoice, Order, OrderLine, OrderStatus, Pending, Receipt};
use domain::explain::Standing;
use domain::ids::{
    DocumentKind, DomainCode, EntityCode, InvoiceId, OrderLineKey, PurchaseOrderNumber, QadInvoiceIdentity,
    ReceiptKey, fold,
};
use domain::matching::SupplierInvoiceDraft;
use domain::problem::{PERIOD_CLOSED, Problem};
use domain::time::{Date, Timestamp};
use flows::ports::{
    Coupa, DocumentOutcome, Flagged, InvoiceHead, InvoicePage, Qad, QadDocument, ReadError, ReceiptScan,
    Voucher, WriteError,
};
use serde_json::{Map, Value, json};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Tells the time. The simulators have no clock of their own.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Invoices on one page of the list, as in Coupa.
const PAGE_INVOICES_MAX: usize = 50;
/// Receipts on a page.
const RECEIPTS_PER_PAGE: usize = 50;

/// Locks; a panic of another holder does not spoil plain data.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The world as ports. Cheap to clone: all clones see the same world.
#[derive(Clone)]
pub struct WorldPorts {
    /// Both systems.
    pub world: Arc<Mutex<World>>,
    /// What goes wrong.
    pub faults: Arc<Mutex<Faults>>,
    /// What was asked.
    pub journal: Arc<Mutex<Journal>>,
    /// The domain and the entity whose view of QAD this is.
    domain: String,
    entity: String,
    now: Now,
}

impl WorldPorts {
    /// Ports on a world of their own.
    pub fn new(world: World, now: Now) -> Self {
        Self {
            world: Arc::new(Mutex::new(world)),
            faults: Arc::default(),
            journal: Arc::default(),
            domain: DOMAIN.to_owned(),
            entity: ENTITY.to_owned(),
            now,
        }
    }

    /// The same world, and QAD as another entity sees it.
    pub fn within(&self, entity: &EntityCode, domain: &DomainCode) -> Self {
        Self {
            domain: domain.folded(),
            entity: entity.folded(),
            ..self.clone()
        }
    }

    /// Ports on a world that others use too.
    pub fn shared(
        world: Arc<Mutex<World>>,
        faults: Arc<Mutex<Faults>>,
        journal: Arc<Mutex<Journal>>,
        now: Now,
    ) -> Self {
        Self {
            world,
            faults,
            journal,
            domain: DOMAIN.to_owned(),
            entity: ENTITY.to_owned(),
            now,
        }
    }

    fn fault(
        &self,
        system: System,
        operation: &str,
        keys: &[String],
        idempotency_key: Option<&str>,
    ) -> Option<Fault> {
        let at = (self.now)();
        let fault = lock(&self.faults).hit(system, operation, keys);
        lock(&self.journal).record(JournalEntry {
            sequence: 0,
            at,
            system,
            operation: operation.to_owned(),
            keys: keys.to_vec(),
            idempotency_key: idempotency_key.map(str::to_owned),
            status: fault.is_none().then_some(200),
            fault: fault.as_ref().map(Fault::word),
            contract_violation: None,
        });
        fault
    }

    fn read<T>(
        &self,
        system: System,
        operation: &str,
        keys: &[String],
        look: impl FnOnce(&World) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let fault = self.fault(system, operation, keys, None);
        let mut world = lock(&self.world);
        world.advance((self.now)());
        match fault {
            None | Some(Fault::Drip { .. }) => look(&world),
            Some(fault) => Err(failed_read(&fault)),
        }
    }

    fn write(
        &self,
        system: System,
        operation: &str,
        keys: &[String],
        idempotency_key: &str,
        write: Write,
    ) -> Result<Written, WriteError> {
        let fault = self.fault(system, operation, keys, Some(idempotency_key));
        let now = (self.now)();
        let mut world = lock(&self.world);
        world.advance(now);
        let Some(fault) = fault else {
            return world
                .submit_keyed(idempotency_key, write, now, None)
                .map_err(|refusal| refused(&refusal));
        };
        let late = fault.late(now);
        if fault.is_handled() || late.is_some() {
            let answer = world.submit_keyed(idempotency_key, write, now, late);
            if matches!(fault, Fault::Drip { .. }) {
                return answer.map_err(|refusal| refused(&refusal));
            }
        }
        Err(failed_write(&fault))
    }
}

fn problem(code: &str, fault: &Fault) -> Problem {
    Problem::new(code, "Armed by the test.").actual(fault.word())
}

fn retry_after(fault: &Fault) -> Option<Duration> {
    match fault {
        Fault::Status {
            retry_after: RetryAfter::Seconds(seconds) | RetryAfter::DateInSeconds(seconds),
            ..
        } => Some(Duration::from_secs(u64::from(*seconds))),
        _ => None,
    }
}

fn failed_read(fault: &Fault) -> ReadError {
    match fault {
        Fault::Status { status: 403, .. } => {
            ReadError::Refused(problem("SIMULATED_PERMISSION_DENIED", fault))
        }
        Fault::MalformedJson => ReadError::Unreadable(problem("SIMULATED_ANSWER_MALFORMED", fault)),
        Fault::BusinessRefusal { .. } => ReadError::Refused(problem("SIMULATED_REFUSAL", fault)),
        other => ReadError::Unavailable {
            retry_after: retry_after(other),
            problem: problem("SIMULATED_UNAVAILABLE", other),
        },
    }
}

fn failed_write(fault: &Fault) -> WriteError {
    match fault {
        Fault::Status {
            status: 401 | 429, ..
        }
        | Fault::RecordInUse => WriteError::NotApplied {
            retry_after: retry_after(fault),
            problem: problem("SIMULATED_NOT_APPLIED", fault),
        },
        Fault::Status { status: 403, .. } | Fault::BusinessRefusal { .. } | Fault::WarningOnly => {
            WriteError::Refused(problem("SIMULATED_REFUSAL", fault))
        }
        other => WriteError::Unknown(problem("SIMULATED_UNKNOWN", other)),
    }
}

fn refused(refusal: &WriteRefusal) -> WriteError {
    WriteError::Refused(match refusal {
        WriteRefusal::Coupa(error) => Problem::new("COUPA_REFUSED", "Correct what Coupa names.")
            .field(&error.key)
            .actual(&error.message),
        WriteRefusal::Qad(errors) => {
            let texts: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            let fields: Vec<&str> = errors.iter().map(|error| error.field_name.as_str()).collect();
            let closed = errors.iter().all(|error| error.code == "PERIOD");
            let code = if closed { PERIOD_CLOSED } else { "QAD_REFUSED" };
            Problem::new(code, "Correct what QAD names.")
                .field(fields.join(", "))
                .actual(texts.join("; "))
        }
    })
}

fn unreadable(field: &str, expected: &str, actual: &str) -> ReadError {
    ReadError::Unreadable(
        Problem::new("SIMULATED_UNREADABLE", "Correct the record.")
            .field(field)
            .expected(expected)
            .actual(actual),
    )
}

fn code<T: FromStr>(field: &str, text: &str) -> Result<T, ReadError> {
    text.parse().map_err(|_| unreadable(field, "a valid code", text))
}

// ---------------------------------------------------------------------------------------------------------------
// Coupa
// ---------------------------------------------------------------------------------------------------------------

#[async_trait]
impl Coupa for WorldPorts {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        self.read(System::Coupa, "invoices.get", &[id.to_string()], |world| {
            world
                .coupa
                .invoices
                .get(&id.0)
                .map(|invoice| invoice_of(world, invoice))
                .transpose()
        })
    }

    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        self.read(System::Coupa, "orders.list", &[number.to_owned()], |world| {
            Ok(world.coupa.orders.get(number).map(coupa_order_of))
        })
    }

    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        self.read(System::Coupa, "invoices.list", &[], |world| {
            let start = after.map_or(0, |id| id.0.saturating_add(1));
            let heads: Vec<InvoiceHead> = world
                .coupa
                .invoices
                .range(start..)
                .map(|(_, invoice)| invoice)
                .filter(|invoice| {
                    !invoice.exported && matches!(invoice.status.as_str(), "approved" | "voided")
                })
                .take(PAGE_INVOICES_MAX)
                .map(|invoice| InvoiceHead {
                    id: InvoiceId(invoice.id),
                    status: status_of(&invoice.status),
                    updated_at: whole_seconds(invoice.updated_at),
                    // As a connection shows it that names both companies.
                    out_of_scope: chart_of(invoice).is_some_and(|chart| !CHARTS.contains(&chart)),
                })
                .collect();
            Ok(InvoicePage {
                last: heads.last().map(|head| head.id),
                more: heads.len() == PAGE_INVOICES_MAX,
                unreadable: Vec::new(),
                heads,
            })
        })
    }

    async fn mark_exported(&self, id: InvoiceId, idempotency_key: &str) -> Result<Flagged, WriteError> {
        let keys = [id.to_string()];
        self.write(
            System::Coupa,
            "invoices.exported",
            &keys,
            idempotency_key,
            Write::MarkExported(id.0),
        )?;
        let world = lock(&self.world);
        let invoice = world.coupa.invoices.get(&id.0);
        // An invoice that cannot be read is answered all the same; its answer then shows nothing.
        let shown = invoice.and_then(|invoice| invoice_of(&world, invoice).ok());
        Ok(shown.map_or_else(Flagged::default, |invoice| Flagged {
            status: Some(invoice.status),
            bill: Some((invoice.reference, invoice.total, invoice.currency)),
        }))
    }

    async fn record_outcome(
        &self,
        id: InvoiceId,
        outcome: &DocumentOutcome,
        idempotency_key: &str,
    ) -> Result<(), WriteError> {
        let keys = [id.to_string()];
        let open: Vec<u64> = {
            let world = lock(&self.world);
            let is_open = |record: &serde_json::Map<String, Value>| {
                record.get("document-id") == Some(&Value::from(id.0))
                    && record.get("resolved") == Some(&Value::Bool(false))
            };
            world
                .coupa
                .history
                .iter()
                .filter(|(_, record)| is_open(record))
                .map(|(id, _)| *id)
                .collect()
        };
        for record in open {
            let write = Write::ResolveHistory(record);
            self.write(System::Coupa, "history.resolve", &keys, idempotency_key, write)?;
        }
        if outcome.standing == Standing::Withdrawn {
            return Ok(());
        }
        let body = json!({
            "document-type": "InvoiceHeader",
            "document-id": id.0,
            "contact-alert-type": "Functional",
            "status": match outcome.standing {
                Standing::ForAccountsPayable | Standing::ForTheEngineer => "Error",
                Standing::Waiting => "Pending",
                Standing::Finished | Standing::Withdrawn => "Success",
            },
            "integration": {"code": "QAD_INVOICES"},
            "external-id": outcome.external_id,
            "responses": [{"response-code": outcome.code, "response-message": outcome.message}],
        });
        let Value::Object(body) = body else {
            return Err(WriteError::Refused(Problem::new("SIMULATED_REFUSAL", "")));
        };
        let alerts = outcome.standing.alerts();
        let operation = if alerts { "history.alert" } else { "history.create" };
        let write = Write::RecordHistory(body, alerts);
        let made = self.write(System::Coupa, operation, &keys, idempotency_key, write)?;
        if outcome.standing.stays_open() {
            return Ok(());
        }
        let Written::Coupa(made) = made else {
            return Err(WriteError::Unknown(Problem::new("COUPA_ANSWER_UNREADABLE", "")));
        };
        let Some(made) = made.get("id").and_then(Value::as_u64) else {
            return Err(WriteError::Unknown(Problem::new("COUPA_ANSWER_UNREADABLE", "")));
        };
        self.write(
            System::Coupa,
            "history.resolve",
            &keys,
            idempotency_key,
            Write::ResolveHistory(made),
        )
        .map(drop)
    }
}

fn status_of(status: &str) -> CoupaStatus {
    match status {
        "approved" => CoupaStatus::Approved,
        "voided" => CoupaStatus::Voided,
        other => CoupaStatus::Other(other.to_owned()),
    }
}

/// The invoice as the product reads what Coupa writes: there is one translation.
fn invoice_of(world: &World, invoice: &CoupaInvoice) -> Result<Invoice, ReadError> {
    let json = invoice.to_json(world.coupa.suppliers.get(&invoice.supplier));
    let mut read =
        connectors::coupa::read_invoice(&json, InvoiceId(invoice.id)).map_err(ReadError::Unreadable)?;
    if let Some(chart) = chart_of(invoice) {
        let charts = [Some(chart.to_owned())].into();
        read.entity_fields.insert(CHART_FIELD.to_owned(), charts);
    }
    Ok(read)
}

fn coupa_order_of(record: &Map<String, Value>) -> CoupaOrder {
    let text = |record: &Map<String, Value>, key: &str| {
        record
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let status = |record: &Map<String, Value>, unknown: CoupaOrderStanding| {
        let word = text(record, "status");
        let standing = match word.as_str() {
            "" => CoupaOrderStanding::NotTold,
            "issued" => CoupaOrderStanding::Open,
            "buyer_hold" => CoupaOrderStanding::NotIssued,
            "soft_closed" => CoupaOrderStanding::SoftClosed,
            "closed" => CoupaOrderStanding::Closed,
            "cancelled" => CoupaOrderStanding::Cancelled,
            _ => unknown,
        };
        CoupaOrderStatus { standing, word }
    };
    let lines = record.get("order-lines").and_then(Value::as_array);
    CoupaOrder {
        number: text(record, "po-number"),
        status: status(record, CoupaOrderStanding::Unknown),
        lines: lines
            .into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .map(|line| CoupaOrderLine {
                id: None,
                number: Some(text(line, "line-num")),
                status: status(line, CoupaOrderStanding::NotTold),
                receipt_required: line.get("receipt-required").and_then(Value::as_bool),
                received: line
                    .get("received")
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse().ok()),
            })
            .collect(),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// QAD
// ---------------------------------------------------------------------------------------------------------------

#[async_trait]
impl Qad for WorldPorts {
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
        self.read(System::Qad, "browse.orders", &[number.to_string()], |world| {
            world
                .qad
                .order(&self.domain, number.as_str())
                .map(|order| order_of(world, order))
                .transpose()
        })
    }

    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
        self.read(System::Qad, "browse.receipts", &[number.to_string()], |world| {
            self.goods(world)
                .filter(|receipt| fold(&receipt.order) == number.folded())
                .map(|receipt| receipt_of(world, receipt))
                .collect()
        })
    }

    async fn receipts_since(&self, since: Date, page: u32) -> Result<ReceiptScan, ReadError> {
        let skipped = usize::try_from(page.saturating_sub(1))
            .unwrap_or(usize::MAX)
            .saturating_mul(RECEIPTS_PER_PAGE);
        self.read(System::Qad, "browse.receipts", &[], |world| {
            let since = |receipt: &&QadReceipt| receipt.date >= since;
            let mut shown = self.goods(world).filter(since).skip(skipped);
            let receipts = shown
                .by_ref()
                .take(RECEIPTS_PER_PAGE)
                .map(|receipt| receipt_of(world, receipt))
                .collect::<Result<_, _>>()?;
            Ok(ReceiptScan {
                receipts,
                unreadable: Vec::new(),
                more: shown.next().is_some(),
            })
        })
    }

    async fn books_are_open(&self, day: Date) -> Result<Option<bool>, ReadError> {
        self.read(System::Qad, "browse.periods", &[day.to_string()], |world| {
            let mut shown = world.qad.listed_periods().into_iter();
            let of_day = shown.find(|period| period.start <= day && day <= period.end);
            Ok(of_day.map(|period| !period.locked))
        })
    }

    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
        let keys = [identity.supplier.to_string(), identity.reference.to_string()];
        self.read(System::Qad, "supplier-invoices.find", &keys, |world| {
            world
                .qad
                .find_invoices(
                    identity.entity.as_str(),
                    identity.supplier.as_str(),
                    identity.reference.as_str(),
                )
                .map(document_of)
                .filter(|document| {
                    document
                        .as_ref()
                        .map_or(true, |found| found.identity.kind == identity.kind)
                })
                .collect()
        })
    }

    async fn create_invoice(
        &self,
        draft: &SupplierInvoiceDraft,
        idempotency_key: &str,
    ) -> Result<QadDocument, WriteError> {
        let keys = [
            draft.identity.supplier.to_string(),
            draft.identity.reference.to_string(),
        ];
        let write = Write::CreateSupplierInvoice(Box::new(record_of(draft)));
        let written = self.write(
            System::Qad,
            "supplier-invoices.create",
            &keys,
            idempotency_key,
            write,
        )?;
        let Written::SupplierInvoice(created) = written else {
            return Err(WriteError::Unknown(Problem::new(
                "SIMULATED_UNKNOWN",
                "The answer is no supplier invoice.",
            )));
        };
        document_of(&created).map_err(|error| WriteError::Unknown(error.problem().clone()))
    }
}

impl WorldPorts {
    /// The domain's receipts.
    fn goods<'w>(&self, world: &'w World) -> impl Iterator<Item = &'w QadReceipt> {
        let receipts = world.qad.receipts.iter();
        receipts.filter(move |receipt| {
            receipt.logistics_charge.is_empty() && fold(&receipt.domain) == self.domain
        })
    }
}

fn order_status(status: &str) -> OrderStatus {
    match fold(status).as_str() {
        "" | "O" => OrderStatus::Open,
        "C" => OrderStatus::Closed,
        "X" => OrderStatus::Cancelled,
        _ => OrderStatus::Unknown(status.to_owned()),
    }
}

fn order_of(world: &World, order: &QadOrder) -> Result<Order, ReadError> {
    let header = order_status(&order.status);
    let line_of = |line: &crate::world::qad::QadOrderLine| {
        Ok(OrderLine {
            number: line.number,
            part: line.part.clone(),
            description: line.description.clone(),
            unit: code("pod_um", &line.unit)?,
            ordered: line.ordered.0,
            received: world.qad.received(&order.domain, &order.number, line.number),
            unit_price: line.unit_price.0,
            discount_percent: line.terms.discount_percent.0,
            scheduled: line.terms.scheduled,
            consignment: line.terms.consignment,
            evaluated_receipts: match line.terms.evaluated_receipts.trim() {
                "" => None,
                word => Some(matches!(word, "2" | "3")),
            },
            rounded: Vec::new(),
            status: match (&header, order_status(&line.status)) {
                (OrderStatus::Open, status) => status,
                (header, OrderStatus::Open) => header.clone(),
                (_, status) => status,
            },
        })
    };
    Ok(Order {
        number: code("pod_nbr", &order.number)?,
        supplier: order.supplier.clone(),
        currency: code("po_curr", &order.currency)?,
        evaluated_receipts: order.evaluated_receipts,
        entity: Some(code("po_entity", order.entity())?),
        lines: order
            .lines
            .iter()
            .map(line_of)
            .collect::<Result<_, ReadError>>()?,
    })
}

fn receipt_of(world: &World, receipt: &QadReceipt) -> Result<Receipt, ReadError> {
    let order = world.qad.order(&receipt.domain, &receipt.order);
    let line = order.and_then(|order| order.lines.iter().find(|line| line.number == receipt.line));
    let unit = line.map_or("EA", |line| line.unit.as_str());
    Ok(Receipt {
        key: ReceiptKey {
            domain: code("prh_domain", &receipt.domain)?,
            receiver: code("prh_receiver", &receipt.receiver)?,
            order_line: OrderLineKey {
                order: code("prh_nbr", &receipt.order)?,
                line: receipt.line,
            },
        },
        received: receipt.signed_quantity(),
        vouchered: receipt.signed_vouchered(),
        unit: code("prh_um", unit)?,
        date: receipt.date,
        packing_slip: receipt.packing_slip.clone(),
        currency: order.map(|order| code("prh_curr", &order.currency)).transpose()?,
        pending: if receipt.consigned {
            Pending::Missing
        } else {
            Pending::Quantity(receipt.signed_quantity())
        },
        closed: receipt.finished,
        unit_cost: receipt
            .unit_cost
            .or_else(|| line.map(|line| line.net_price()))
            .map(|cost| cost.0)
            .filter(|cost| !cost.is_zero()),
        rounded: Vec::new(),
    })
}

fn document_of(invoice: &SupplierInvoice) -> Result<QadDocument, ReadError> {
    let record = &invoice.record;
    let kind = if fold(&record.invoice_type) == "CREDITNOTE" {
        DocumentKind::CreditNote
    } else {
        DocumentKind::Invoice
    };
    Ok(QadDocument {
        voucher: Some(Voucher {
            year: invoice.posting_year,
            daybook: record.daybook_code.clone(),
            number: invoice.voucher,
        }),
        identity: QadInvoiceIdentity {
            entity: code("entityCode", &record.entity_code)?,
            supplier: code("supplierCode", &record.supplier_code)?,
            reference: code("supplierInvoiceReference", &record.supplier_invoice_reference)?,
            kind,
        },
        currency: code("currencyCode", &record.currency_code)?,
        total: record.total_amount.0,
        description: record.description.clone(),
    })
}

/// The record of a draft, in the shape of the built-in profile.
pub fn record_of(draft: &SupplierInvoiceDraft) -> SupplierInvoiceRecord {
    SupplierInvoiceRecord {
        entity_code: draft.identity.entity.to_string(),
        domain_code: draft.domain.to_string(),
        supplier_code: draft.identity.supplier.to_string(),
        supplier_invoice_reference: draft.identity.reference.to_string(),
        invoice_type: match draft.identity.kind {
            DocumentKind::Invoice => "INVOICE".to_owned(),
            DocumentKind::CreditNote => "CREDITNOTE".to_owned(),
        },
        daybook_code: draft.daybook.to_string(),
        matching_daybook_code: draft.matching_daybook.to_string(),
        currency_code: draft.currency.to_string(),
        invoice_date: qad_date(draft.invoice_date),
        posting_date: qad_date(draft.posting_date),
        credit_terms_code: draft.credit_terms.as_ref().map(ToString::to_string),
        invoice_status_code: draft.invoice_status.clone(),
        total_amount: Exact(draft.total),
        tax_amount: Exact(draft.tax),
        description: draft.description(),
        purchase_orders: draft
            .orders
            .iter()
            .map(|order| PurchaseOrderLink {
                purchase_order_domain: draft.domain.to_string(),
                purchase_order_number: order.to_string(),
            })
            .collect(),
        receiver_matchings: draft
            .matches
            .iter()
            .map(|matched| ReceiverMatching {
                purchase_order_number: matched.order_line.order.to_string(),
                purchase_order_line: matched.order_line.line,
                receiver_number: matched.receiver.to_string(),
                match_quantity: Exact(matched.quantity),
                match_unit_price: Exact(matched.unit_price),
                is_finished: matched.finished,
            })
            .collect(),
        additional_costs: draft
            .costs
            .iter()
            .map(|cost| AdditionalCost {
                gl_account_code: cost.gl_account.to_string(),
                cost_center_code: cost.cost_center.clone(),
                project_code: cost.project.clone(),
                amount: Exact(cost.amount),
                description: cost.description.clone(),
            })
            .collect(),
        invoice_link: None,
        data_operation: "C".to_owned(),
        concurrency_hash: String::new(),
    }
}

#[cfg(test)]
mod tests;
