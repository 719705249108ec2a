//! The control service: how a person with `curl`, a demo or a test makes things happen in the simulated systems.
//! Its requests are listed at [`crate::http`].

use crate::faults::{FaultRule, Faults, System};
use crate::http::{WireRequest, WireResponse};
use crate::journal::Journal;
use crate::ports::lock;
use crate::world::World;
use crate::world::coupa::CoupaInvoice;
use crate::world::qad::{DOMAIN, ENTITY, Exact, PaymentAllocation, QadOrder, QadReceipt};
use domain::time::{Date, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Mutex;

/// Most journal entries in one answer.
const JOURNAL_ENTRIES_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(FaultRule),
    Many(Vec<FaultRule>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewReceipt {
    domain: Option<String>,
    order: String,
    line: u32,
    quantity: Exact,
    #[serde(default)]
    receiver: String,
    date: Option<Date>,
    #[serde(default)]
    is_return: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum InvoiceAction {
    Add(Box<CoupaInvoice>),
    Approve(u64),
    Void(u64),
}

#[derive(Deserialize)]
struct TokensOf {
    system: System,
}

type Done = Result<Value, String>;

/// Answers one control request.
pub fn handle(
    world: &mut World,
    faults: &Mutex<Faults>,
    journal: &Mutex<Journal>,
    request: &WireRequest,
    now: Timestamp,
) -> WireResponse {
    let done = match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/_control/faults") => arm(faults, request),
        ("GET", "/_control/faults") => Ok(json!(lock(faults).armed())),
        ("DELETE", "/_control/faults") => {
            lock(faults).clear();
            Ok(json!({}))
        }
        ("POST", "/_control/receipts") => post_receipt(world, request, now),
        ("POST", "/_control/orders") => read(request).map(|order: QadOrder| {
            world.coupa.add_order(&order, now);
            world.qad.add_order(order);
            json!({})
        }),
        ("POST", "/_control/invoices") => change_invoice(world, request, now),
        ("POST", "/_control/payments") => read(request).map(|payment: PaymentAllocation| {
            world.qad.save_payment(payment);
            json!({})
        }),
        ("POST", "/_control/adjustments") => read(request).and_then(|one: Adjustment| {
            if world
                .qad
                .adjust_invoice(ENTITY, &one.reference, one.amount.0, now.date_utc())
            {
                Ok(json!({}))
            } else {
                Err(format!("no supplier invoice {}", one.reference))
            }
        }),
        ("POST", "/_control/tokens/expire") => read(request).map(|of: TokensOf| {
            world.expire_tokens(of.system);
            json!({})
        }),
        ("GET", "/_control/state") => Ok(state(world)),
        ("GET", "/_control/journal") => Ok(journal_since(&lock(journal), request)),
        _ => return WireResponse::json(404, json!({"error": "no such control request"}).to_string()),
    };
    match done {
        Ok(body) => WireResponse::json(200, body.to_string()),
        Err(message) => WireResponse::json(400, json!({"error": message}).to_string()),
    }
}

/// What settles a supplier invoice without a payment.
#[derive(serde::Deserialize)]
struct Adjustment {
    reference: String,
    amount: Exact,
}

fn read<T: DeserializeOwned>(request: &WireRequest) -> Result<T, String> {
    serde_json::from_slice(&request.body).map_err(|error| error.to_string())
}

fn arm(faults: &Mutex<Faults>, request: &WireRequest) -> Done {
    let rules = match read(request)? {
        OneOrMany::One(rule) => vec![rule],
        OneOrMany::Many(rules) => rules,
    };
    let mut faults = lock(faults);
    for rule in rules {
        faults.arm(rule);
    }
    Ok(json!({"armed": faults.armed().len()}))
}

fn post_receipt(world: &mut World, request: &WireRequest, now: Timestamp) -> Done {
    let new: NewReceipt = read(request)?;
    let receipt = QadReceipt {
        domain: new.domain.unwrap_or_else(|| DOMAIN.to_owned()),
        receiver: new.receiver,
        order: new.order,
        line: new.line,
        quantity: new.quantity,
        is_return: new.is_return,
        date: new.date.unwrap_or_else(|| now.date_utc()),
        packing_slip: String::new(),
        vouchered: Exact::default(),
        logistics_charge: String::new(),
        finished: false,
        unit_cost: None,
        consigned: false,
    };
    let posted = world
        .qad
        .post_receipt(receipt)
        .map_err(|refusal| refusal.message)?;
    Ok(json!({"receiver": posted.receiver}))
}

fn change_invoice(world: &mut World, request: &WireRequest, now: Timestamp) -> Done {
    let changed = match read(request)? {
        InvoiceAction::Add(invoice) => Ok(world.coupa.add_invoice(*invoice, now)),
        InvoiceAction::Approve(id) => world.coupa.approve(id, now).map(|()| id),
        InvoiceAction::Void(id) => world.coupa.void(id, now).map(|()| id),
    };
    changed.map(|id| json!({"id": id})).map_err(|error| error.message)
}

fn state(world: &World) -> Value {
    let invoices: Vec<Value> = world
        .coupa
        .invoices
        .values()
        .map(|invoice| {
            json!({
                "id": invoice.id,
                "number": invoice.number,
                "status": invoice.status,
                "exported": invoice.exported,
                "paid": invoice.paid,
                "payments": invoice.payments.len(),
                "payment-entries": invoice.payments,
            })
        })
        .collect();
    let documents: Vec<Value> = world
        .qad
        .invoices
        .iter()
        .map(|document| {
            json!({
                "voucher": format!("{}/{}/{}", document.posting_year, document.record.daybook_code, document.voucher),
                "entity": document.record.entity_code,
                "supplier": document.record.supplier_code,
                "reference": document.record.supplier_invoice_reference,
                "type": document.record.invoice_type,
                "total": document.record.total_amount.0.to_string(),
                "currency": document.record.currency_code,
                "description": document.record.description,
                "balance": document.balance.0.to_string(),
            })
        })
        .collect();
    json!({
        "invoices": invoices,
        "qad-documents": documents,
        "qad-payments": world.qad.payments,
        "duplicates": world.qad.duplicates(),
        "late-writes": world.late_writes(),
        "late-refusals": world.late_refusals(),
        "history-records": world.coupa.history.len(),
        "lookup-values": world.coupa.lookup_values.values().collect::<Vec<_>>(),
    })
}

fn journal_since(journal: &Journal, request: &WireRequest) -> Value {
    let after = request
        .parameter("after")
        .and_then(|text| text.parse::<u64>().ok())
        .unwrap_or(0);
    let entries: Vec<_> = journal
        .entries()
        .filter(|entry| entry.sequence > after)
        .take(JOURNAL_ENTRIES_MAX)
        .collect();
    json!({"entries": entries, "counters": journal.counters(), "contract-violations": journal.violations()})
}
