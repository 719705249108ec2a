//! The same stories in the tenant's other company: its orders, its receivers and its suppliers' bills have the very same
//! numbers. Only its bills are a year older.

use super::{Scenario, Step};
use crate::world::coupa::CoupaInvoice;
use crate::world::qad::{ENTITIES, OTHER_DOMAIN, OTHER_ENTITY, QadOrder, QadReceipt, SupplierInvoiceRecord};
use jiff::ToSpan;
use serde_json::{Value, json};

/// Where Coupa shows whose an invoice is: the chart of accounts.
pub const CHART_FIELD: &str = "account-type.name";
/// The charts of the tenant's entities.
pub const CHARTS: [&str; 2] = ["QAD 10USA", "QAD 20GER"];
/// The chart of a company whose ERP is another one.
pub const STRANGERS_CHART: &str = "SAP Europe";
/// How far apart a stranger's bills are from the first company's in Coupa's ids.
const STRANGERS_BILLS: u64 = 700_000;
/// How far apart the same bills of the two companies are in Coupa's ids.
const OTHER_BILLS: u64 = 500_000;
/// By how many weeks the other company's bills are older. Bills of the same supplier, number and amount of less than half a year
/// would be taken for one bill, whichever entity they are in.
const OLDER_WEEKS: i64 = 52;

/// What Coupa shows of an invoice at [`CHART_FIELD`].
pub fn chart_of(invoice: &CoupaInvoice) -> Option<&str> {
    let chart = invoice.overrides.get("account-type")?;
    chart.get("name").and_then(Value::as_str)
}

/// Whose an invoice is, whatever the product makes of it: its entity and its domain. The first company's are not marked where
/// it is the only one.
pub fn company_of(invoice: &CoupaInvoice) -> (&'static str, &'static str) {
    let [first, other] = ENTITIES;
    let [_, other_chart] = CHARTS;
    if chart_of(invoice) == Some(other_chart) {
        other
    } else {
        first
    }
}

fn coded(invoice: &CoupaInvoice, chart: &str) -> CoupaInvoice {
    let mut invoice = invoice.clone();
    invoice
        .overrides
        .insert("account-type".to_owned(), json!({ "name": chart }));
    invoice
}

fn order_there(order: &QadOrder) -> QadOrder {
    QadOrder {
        domain: OTHER_DOMAIN.to_owned(),
        ..order.clone()
    }
}

fn receipt_there(receipt: &QadReceipt) -> QadReceipt {
    QadReceipt {
        domain: OTHER_DOMAIN.to_owned(),
        ..receipt.clone()
    }
}

fn document_there(record: &SupplierInvoiceRecord) -> SupplierInvoiceRecord {
    let mut record = record.clone();
    record.entity_code = OTHER_ENTITY.to_owned();
    record.domain_code = OTHER_DOMAIN.to_owned();
    for order in &mut record.purchase_orders {
        order.purchase_order_domain = OTHER_DOMAIN.to_owned();
    }
    record
}

/// The step in the other company; `None` for one about what the two share: a system's faults and tokens, suppliers, Coupa's own
/// orders, payments.
fn step_there(step: &Step) -> Option<Step> {
    let there = |invoice: &u64| invoice.saturating_add(OTHER_BILLS);
    Some(match step {
        Step::SendEvent {
            invoice,
            delivery,
            status,
        } => Step::SendEvent {
            invoice: there(invoice),
            delivery: *delivery,
            status: *status,
        },
        Step::WaitForState { invoice, state } => Step::WaitForState {
            invoice: there(invoice),
            state,
        },
        Step::PostReceipt(receipt) => Step::PostReceipt(receipt_there(receipt)),
        Step::AddOrder(order) => Step::AddOrder(order_there(order)),
        Step::Approve(invoice) => Step::Approve(there(invoice)),
        Step::Void(invoice) => Step::Void(there(invoice)),
        Step::ArmFault(_)
        | Step::ExpireTokens(_)
        | Step::ChangeSupplier(_)
        | Step::ChangeCoupaOrder(_)
        | Step::SendOrderEvent(_)
        | Step::SavePayment(_)
        | Step::WaitForPayments { .. }
        | Step::WaitForSupplier(_) => return None,
    })
}

fn in_other_company(story: &Scenario) -> Option<Scenario> {
    if !story.coupa_orders.is_empty() {
        return None;
    }
    let mut other = story.clone();
    other.steps = story.steps.iter().map(step_there).collect::<Option<_>>()?;
    other.orders = story.orders.iter().map(order_there).collect();
    other.receipts = story.receipts.iter().map(receipt_there).collect();
    other.qad_invoices = story.qad_invoices.iter().map(document_there).collect();
    let [_, chart] = CHARTS;
    for invoice in &mut other.invoices {
        *invoice = coded(invoice, chart);
        invoice.id = invoice.id.saturating_add(OTHER_BILLS);
        invoice.invoice_date = invoice.invoice_date.saturating_sub(OLDER_WEEKS.weeks());
    }
    for expected in &mut other.expected {
        expected.invoice = expected.invoice.saturating_add(OTHER_BILLS);
    }
    Some(other)
}

/// Bills of a stranger on the same Coupa instance, of the same suppliers and orders and with the same numbers, some of them
/// voided in the end: whatever becomes of them, it is none of this product's business.
pub fn of_a_stranger(day: &[Scenario]) -> Vec<Scenario> {
    let strangers = |story: &Scenario| {
        let there = |invoice: &u64| invoice.saturating_add(STRANGERS_BILLS);
        let mut other = story.clone();
        other.steps = story
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::SendEvent {
                    invoice,
                    delivery,
                    status,
                } => Some(Step::SendEvent {
                    invoice: there(invoice),
                    delivery: *delivery,
                    status: *status,
                }),
                Step::Approve(invoice) => Some(Step::Approve(there(invoice))),
                Step::Void(invoice) => Some(Step::Void(there(invoice))),
                _ => None,
            })
            .collect();
        other.orders.clear();
        other.receipts.clear();
        other.qad_invoices.clear();
        other.coupa_orders.clear();
        other.expected.clear();
        for invoice in &mut other.invoices {
            *invoice = coded(invoice, STRANGERS_CHART);
            invoice.id = there(&invoice.id);
        }
        other
    };
    let voids = |story: &&Scenario| story.steps.iter().any(|step| matches!(step, Step::Void(_)));
    let first = day.iter().take(3);
    first
        .chain(day.iter().skip(3).filter(voids))
        .map(strangers)
        .collect()
}

/// Each story in both companies, one after the other, as far as it can be told in both.
pub fn of_two_companies(day: &[Scenario]) -> Vec<Scenario> {
    let [chart, _] = CHARTS;
    let mut both = Vec::new();
    for story in day {
        let mut own = story.clone();
        for invoice in &mut own.invoices {
            *invoice = coded(invoice, chart);
        }
        both.push(own);
        both.extend(in_other_company(story));
    }
    both
}
