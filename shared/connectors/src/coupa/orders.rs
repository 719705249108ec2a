//! Coupa purchase orders as context of an invoice: read only when an invoice line does not say by itself which QAD order
//! line it bills.
//!
//! An invoice line names Coupa's order number and usually the order line's own number. Where a tenant's lines carry only
//! the id of the order line, or the connection keeps QAD's number in a field of the order, the order has to be asked.

use super::CoupaClient;
use crate::connection::OrderNumber;
use crate::http::Call;
use crate::json::{Json, Misread, Node};
use domain::documents::ORDERS_PER_INVOICE_MAX;
use domain::ids::fold;
use flows::ports::ReadError;
use std::collections::{BTreeMap, BTreeSet};

const UNREADABLE: &str = "COUPA_ORDER_UNREADABLE";
const UNREADABLE_FIX: &str = "Compare the order in Coupa with what its interface shows; it is read again.";

/// The Coupa orders of an invoice that had to be asked for, by their number.
#[derive(Debug, Default)]
pub(crate) struct OrderContext(BTreeMap<String, Json>);

/// Coupa's own number of the order that a line bills.
fn coupa_number(line: &Node<'_>) -> Result<Option<String>, Misread> {
    match line.get("po-number").text()? {
        Some(number) => Ok(Some(number)),
        None => line.get("order-header-num").text(),
    }
}

/// The numbers of the orders that some line needs to be understood; empty for almost every invoice.
pub(crate) fn needed(json: &Json, orders: &OrderNumber) -> Result<BTreeSet<String>, Misread> {
    let is_mapped = orders.field != OrderNumber::FIELD_DEFAULT;
    let mut numbers = BTreeSet::new();
    for line in Node::root(json).get("invoice-lines").items()? {
        let Some(number) = coupa_number(&line)? else {
            continue;
        };
        let unmapped = is_mapped && line.walk(&orders.field).is_null();
        if unmapped || line.get("order-line-num").is_null() {
            numbers.insert(number);
        }
    }
    Ok(numbers)
}

impl OrderContext {
    /// The order line in Coupa that an invoice line bills, with its order.
    fn of<'a>(&'a self, line: &Node<'_>) -> Result<Option<(Node<'a>, Option<Node<'a>>)>, Misread> {
        let number = coupa_number(line)?;
        let Some(order) = number.and_then(|number| self.0.get(&fold(&number))) else {
            return Ok(None);
        };
        let order = Node::root(order);
        let (id, line_number) = (
            line.get("order-line-id").whole()?,
            line.get("order-line-num").text()?,
        );
        let mut its = None;
        for one in order.get("order-lines").items()? {
            let same_id = id.is_some() && one.get("id").whole()? == id;
            let same_number =
                id.is_none() && line_number.is_some() && one.get("line-num").text()? == line_number;
            if same_id || same_number {
                its = Some(one);
                break;
            }
        }
        Ok(Some((order, its)))
    }

    /// QAD's number of the order, where the connection keeps it on the order or on its line.
    pub(crate) fn mapped_number(
        &self,
        line: &Node<'_>,
        orders: &OrderNumber,
    ) -> Result<Option<String>, Misread> {
        let Some((order, order_line)) = self.of(line)? else {
            return Ok(None);
        };
        // The mapping is about invoice lines; what it names on an order stands on the order or on its lines.
        let field = orders.field.strip_prefix("order-line-").unwrap_or(&orders.field);
        for place in order_line.iter().chain([&order]) {
            for name in [orders.field.as_str(), field] {
                if let Some(text) = place.walk(name).text()? {
                    return Ok(Some(text));
                }
            }
        }
        Ok(None)
    }

    /// The order line's own number.
    pub(crate) fn line_number(&self, line: &Node<'_>) -> Result<Option<u32>, Misread> {
        match self.of(line)? {
            Some((_, Some(order_line))) => order_line.get("line-num").required_u32().map(Some),
            _ => Ok(None),
        }
    }
}

impl CoupaClient {
    /// Reads the orders that the lines of an invoice need to be understood: none for almost every invoice.
    pub(super) async fn order_context(&self, invoice: &Json) -> Result<OrderContext, ReadError> {
        let unreadable =
            |misread: Misread| ReadError::Unreadable(misread.problem(UNREADABLE, UNREADABLE_FIX));
        let mut context = OrderContext::default();
        let needed = needed(invoice, &self.orders).map_err(unreadable)?;
        for number in needed.into_iter().take(ORDERS_PER_INVOICE_MAX) {
            let query = [("po-number", number.clone()), ("limit", "1".to_owned())];
            let url = self.base.at("/api/purchase_orders", &query);
            let Some(json) = self.peer.read(&Call::get("find_order", url)).await? else {
                return Err(ReadError::Refused(super::not_found("purchase_orders")));
            };
            // Without the order the line says what it says, and the invoice is told unreadable where that is too little.
            for order in Node::root(&json).required_items().map_err(unreadable)? {
                let shown = order.get("po-number").text().map_err(unreadable)?;
                if shown.is_some_and(|shown| fold(&shown) == fold(&number)) {
                    context.0.insert(fold(&number), order.to_json());
                }
            }
        }
        Ok(context)
    }
}
