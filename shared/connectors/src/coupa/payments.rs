//! Payments of an invoice: read them all, append one.
//!
//! Coupa appends what a `PUT` brings and answers with all payments (confirmed); nothing takes an entry back.

use super::{CoupaClient, not_found};
use crate::http::Call;
use crate::http::address::BaseUrl;
use crate::http::transport::Method;
use crate::json::{self, Json, Misread, Node};
use async_trait::async_trait;
use domain::ids::InvoiceId;
use domain::money::Currency;
use domain::payments::{CoupaPaymentEntry, PaymentEntry};
use domain::problem::Problem;
use flows::ports::{CoupaBill, CoupaPayments, ReadError, WriteError};
use serde::Serialize;

const UNREADABLE: &str = "COUPA_PAYMENTS_UNREADABLE";
const UNREADABLE_FIX: &str =
    "Compare the invoice's payments in Coupa with what its interface shows; they are read again.";

fn invoice_url(base: &BaseUrl, id: InvoiceId) -> String {
    base.at(&format!("/api/invoices/{id}"), &[])
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct PayBody<'a> {
    paid: bool,
    payment_date: String,
    payment_notes: &'a str,
    /// Left out when only the flag is set: what is sent here is appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    payments: Option<Payments<'a>>,
}

#[derive(Serialize)]
struct Payments<'a> {
    payment: [Payment<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Payment<'a> {
    payable_type: &'static str,
    payable_id: String,
    amount_paid: String,
    payment_date: String,
    notes: &'a str,
}

fn pay_body(entry: &PaymentEntry) -> Result<Vec<u8>, serde_json::Error> {
    let date = entry.date.to_string();
    let appended = Payments {
        payment: [Payment {
            payable_type: "InvoiceHeader",
            payable_id: entry.invoice.to_string(),
            amount_paid: entry.amount_text(),
            payment_date: date.clone(),
            notes: &entry.notes,
        }],
    };
    serde_json::to_vec(&PayBody {
        paid: entry.paid,
        payment_date: date,
        payment_notes: &entry.notes,
        payments: (!entry.is_flag_only()).then_some(appended),
    })
}

/// Reads an invoice's payments. They have to be there, as a list: what is missing is not "none".
pub(super) fn bill(json: &Json, asked: InvoiceId) -> Result<CoupaBill, Misread> {
    let root = Node::root(json);
    let id = root.get("id");
    if id.whole()? != Some(asked.0) {
        return Err(id.misread(format!("the id that was asked for ({asked})")));
    }
    let payments = root.present("payments")?;
    // Older answers wrap the list, as the request does (seen).
    let list = if payments.is_object() {
        payments.get("payment")
    } else {
        payments
    };
    Ok(CoupaBill {
        id: asked,
        currency: root
            .get("currency")
            .get("code")
            .required::<Currency>("a currency")?,
        paid: root.get("paid").flag()?.unwrap_or(false),
        payment_channel: root.get("payment-channel").text()?,
        entries: list.items()?.iter().map(entry).collect::<Result<_, _>>()?,
    })
}

fn entry(node: &Node<'_>) -> Result<CoupaPaymentEntry, Misread> {
    let date = node.get("payment-date");
    Ok(CoupaPaymentEntry {
        amount: node.get("amount-paid").required_decimal()?,
        date: if date.is_null() {
            None
        } else {
            Some(date.required_date()?)
        },
        notes: node.get("notes").text()?.unwrap_or_default(),
    })
}

#[async_trait]
impl CoupaPayments for CoupaClient {
    async fn bill(&self, id: InvoiceId) -> Result<Option<CoupaBill>, ReadError> {
        let call = Call::get("read_payments", invoice_url(&self.base, id));
        match self.peer.read(&call).await? {
            None => Ok(None),
            Some(json) => bill(&json, id)
                .map(Some)
                .map_err(|misread| ReadError::Unreadable(misread.problem(UNREADABLE, UNREADABLE_FIX))),
        }
    }

    async fn append_payment(
        &self,
        entry: &PaymentEntry,
        idempotency_key: &str,
    ) -> Result<CoupaBill, WriteError> {
        let body = pay_body(entry).map_err(|error| {
            let fix = "Report this: the payment could not be written as JSON.";
            WriteError::Refused(Problem::new("COUPA_PAYMENT_UNWRITABLE", fix).actual(error.to_string()))
        })?;
        let call = Call {
            operation: "append_payment",
            method: Method::Put,
            url: invoice_url(&self.base, entry.invoice),
            body: Some(body),
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        let response = self.accepted(self.peer.write(&call).await?)?;
        let fix = "Nothing to do: the payments are looked up.";
        let unknown = |detail: String| WriteError::Unknown(Problem::new(UNREADABLE, fix).actual(detail));
        let json = json::parse(&response.body).map_err(unknown)?;
        bill(&json, entry.invoice).map_err(|misread| WriteError::Unknown(misread.problem(UNREADABLE, fix)))
    }
}

/// A purchase order's QAD numbers: Coupa's own number, or what the connection's mapping names on its lines.
fn order_numbers(
    json: &Json,
    orders: &crate::connection::NumberMap,
) -> Result<Vec<domain::ids::PurchaseOrderNumber>, Misread> {
    let root = Node::root(json);
    // The mapping is about invoice lines; what it names on an order stands on the order or on its lines.
    let field = orders.field.strip_prefix("order-line-").unwrap_or(&orders.field);
    let mut places = vec![root.walk(&orders.field), root.walk(field)];
    for line in root.get("order-lines").items()? {
        places.push(line.walk(&orders.field));
        places.push(line.walk(field));
    }
    let mut numbers: Vec<domain::ids::PurchaseOrderNumber> = Vec::new();
    for place in places {
        let Some(text) = place.text()? else { continue };
        let text = orders.apply(&text);
        let number = text
            .parse()
            .map_err(|error: domain::ids::IdError| place.misread(error.expected))?;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

#[async_trait]
impl flows::ports::CoupaOrders for CoupaClient {
    async fn order_numbers(
        &self,
        id: u64,
    ) -> Result<Option<Vec<domain::ids::PurchaseOrderNumber>>, ReadError> {
        let unreadable = |misread: Misread| {
            ReadError::Unreadable(misread.problem("COUPA_ORDER_UNREADABLE", UNREADABLE_FIX))
        };
        let is_order = |order: &Node<'_>| order.get("id").whole() == Ok(Some(id));
        let one = self.base.at(&format!("/api/purchase_orders/{id}"), &[]);
        let json = match self.peer.read(&Call::get("read_order", one)).await? {
            Some(json) => json,
            // Not every release reads an order by its path; the list does.
            None => {
                let query = [("id", id.to_string()), ("limit", "1".to_owned())];
                let list = self.base.at("/api/purchase_orders", &query);
                match self.peer.read(&Call::get("find_order", list)).await {
                    Ok(Some(json)) => match Node::root(&json).required_items().map_err(unreadable)?.first() {
                        Some(order) if is_order(order) => order.to_json(),
                        None => return Ok(None),
                        // The list does not know this filter: as below.
                        Some(_) => {
                            tracing::warn!(
                                order = id,
                                "no order of this id can be read in Coupa: its list shows another one"
                            );
                            return Ok(None);
                        }
                    },
                    Ok(None) => return Err(ReadError::Refused(not_found("purchase_orders"))),
                    // Coupa has no order at this path and no list by id: whoever waits has its own slow recheck.
                    Err(ReadError::Refused(problem)) if problem.code == "COUPA_REQUEST_REFUSED" => {
                        tracing::warn!(order = id, code = %problem.code, %problem, "no order of this id can be read in Coupa");
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let shown = Node::root(&json).get("id");
        if shown.whole().map_err(unreadable)? != Some(id) {
            return Err(unreadable(
                shown.misread(format!("the id that was asked for ({id})")),
            ));
        }
        order_numbers(&json, &self.numbers.order)
            .map(Some)
            .map_err(unreadable)
    }
}
