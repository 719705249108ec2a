//! Coupa purchase orders as context of an invoice: where they stand, and which QAD order line an invoice line bills when
//! it does not say so by itself.
//!
//! An invoice line names Coupa's order number and usually the order line's own number. Where a tenant's lines carry only
//! the id of the order line, or the connection keeps QAD's number in a field of the order, the order has to be asked.

use super::CoupaClient;
use crate::connection::{CoupaOrders, NumberMap, NumberMaps, ORDER_FIELD};
use crate::http::Call;
use crate::json::{Json, Misread, Node};
use domain::coupa_orders::{
    CoupaOrder, CoupaOrderLine, CoupaOrderReference, CoupaOrderStanding, CoupaOrderStatus,
};
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

/// The order line in Coupa that a line bills.
pub(crate) fn reference(line: &Node<'_>) -> Result<Option<CoupaOrderReference>, Misread> {
    let Some(order) = coupa_number(line)? else {
        return Ok(None);
    };
    Ok(Some(CoupaOrderReference {
        order,
        line_id: line.get("order-line-id").whole()?,
        line: line.get("order-line-num").text()?,
    }))
}

/// The numbers of the orders that some line needs to be understood; empty for almost every invoice.
pub(crate) fn needed(json: &Json, maps: &NumberMaps) -> Result<BTreeSet<String>, Misread> {
    let orders = &maps.order;
    let is_mapped = orders.field != ORDER_FIELD;
    let mut numbers = BTreeSet::new();
    for line in Node::root(json).get("invoice-lines").items()? {
        let Some(number) = coupa_number(&line)? else {
            continue;
        };
        let unmapped = is_mapped && line.walk(&orders.field).is_null();
        if unmapped || line.walk(&maps.line.field).is_null() {
            numbers.insert(number);
        }
    }
    Ok(numbers)
}

impl OrderContext {
    /// The orders of these numbers; `None` when one of them is not among those that were read.
    pub(crate) fn among(read: &BTreeMap<String, Json>, needed: &BTreeSet<String>) -> Option<Self> {
        let orders = needed.iter().take(ORDERS_PER_INVOICE_MAX).map(|number| {
            let folded = fold(number);
            read.get(&folded).map(|order| (folded, order.clone()))
        });
        orders.collect::<Option<_>>().map(Self)
    }

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
        orders: &NumberMap,
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

    /// Where the orders stand that were read anyway.
    pub(crate) fn read(&self, words: &CoupaOrders) -> Result<Vec<CoupaOrder>, ReadError> {
        self.0
            .values()
            .map(|json| order(&Node::root(json), words).map_err(unreadable))
            .collect()
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
    /// An order as Coupa writes it.
    pub(super) fn read_order(&self, json: &Json) -> Result<CoupaOrder, ReadError> {
        order(&Node::root(json), &self.order_words).map_err(unreadable)
    }

    /// Reads the orders that the lines of an invoice need to be understood: none for almost every invoice.
    pub(super) async fn order_context(&self, invoice: &Json) -> Result<OrderContext, ReadError> {
        let mut context = OrderContext::default();
        let needed = needed(invoice, &self.numbers).map_err(unreadable)?;
        for number in needed.into_iter().take(ORDERS_PER_INVOICE_MAX) {
            // Without the order the line says what it says, and the invoice is told unreadable where that is too little.
            if let Some(order) = self.order_json(&number).await? {
                context.0.insert(fold(&number), order);
            }
        }
        Ok(context)
    }

    /// The order of a number as Coupa writes it; `None` only after a complete list without it.
    async fn order_json(&self, number: &str) -> Result<Option<Json>, ReadError> {
        let query = [("po-number", number.to_owned()), ("limit", "1".to_owned())];
        let url = self.base.at("/api/purchase_orders", &query);
        let Some(json) = self.peer.read(&Call::get("find_order", url)).await? else {
            return Err(ReadError::Refused(super::not_found("purchase_orders")));
        };
        for order in Node::root(&json).required_items().map_err(unreadable)? {
            let shown = order.get("po-number").text().map_err(unreadable)?;
            if shown.is_some_and(|shown| fold(&shown) == fold(number)) {
                return Ok(Some(order.to_json()));
            }
        }
        Ok(None)
    }

    /// Where the order of a number stands. A connection whose scopes leave orders out has said that they are none of its
    /// business: refused, they say nothing. Everywhere else a refusal is no answer.
    pub(super) async fn find_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        let json = match self.order_json(number).await {
            Err(ReadError::Refused(problem))
                if self.orders_left_out && problem.code == "COUPA_PERMISSION_DENIED" =>
            {
                return Ok(None);
            }
            other => other?,
        };
        json.map(|json| self.read_order(&json)).transpose()
    }
}

fn unreadable(misread: Misread) -> ReadError {
    ReadError::Unreadable(misread.problem(UNREADABLE, UNREADABLE_FIX))
}

/// What a status word of Coupa's means. Both spellings of two of them are seen in Coupa's own documents.
fn standing(word: &str, words: &CoupaOrders) -> CoupaOrderStanding {
    if let Some(standing) = words.statuses.get(word) {
        return *standing;
    }
    match word.replace('-', "_").as_str() {
        "issued" | "exported" | "expensed" => CoupaOrderStanding::Open,
        "soft_closed" => CoupaOrderStanding::SoftClosed,
        "closed" => CoupaOrderStanding::Closed,
        "cancelled" | "canceled" => CoupaOrderStanding::Cancelled,
        "draft" | "error" | "buyer_hold" | "currency_hold" | "supplier_hold" | "supplier_window_hold" => {
            CoupaOrderStanding::NotIssued
        }
        _ => CoupaOrderStanding::Unknown,
    }
}

fn status(node: &Node<'_>, words: &CoupaOrders) -> Result<CoupaOrderStatus, Misread> {
    Ok(match node.get("status").text()? {
        Some(word) => CoupaOrderStatus {
            standing: standing(&word, words),
            word,
        },
        None => CoupaOrderStatus::not_told(),
    })
}

fn order(root: &Node<'_>, words: &CoupaOrders) -> Result<CoupaOrder, Misread> {
    let lines = root
        .get("order-lines")
        .items()?
        .iter()
        .map(|line| order_line(line, words))
        .collect::<Result<_, _>>()?;
    Ok(CoupaOrder {
        number: root.get("po-number").required("an order number")?,
        status: status(root, words)?,
        lines,
    })
}

fn order_line(line: &Node<'_>, words: &CoupaOrders) -> Result<CoupaOrderLine, Misread> {
    let mut own = status(line, words)?;
    // How far a line is received or billed has more words than are documented, and QAD knows it better.
    if own.standing == CoupaOrderStanding::Unknown {
        own.standing = CoupaOrderStanding::NotTold;
    }
    let flag = line.walk(&words.receipt_required_field).flag()?;
    let word = line.walk(&words.match_type_field).text()?;
    let by_word = word.map(|word| {
        !words
            .match_types_without_receipt
            .iter()
            .any(|without| fold(without) == fold(&word))
    });
    Ok(CoupaOrderLine {
        id: line.get("id").whole()?,
        number: line.get("line-num").text()?,
        status: own,
        receipt_required: flag.or(by_word),
        received: line.get("received").decimal()?,
    })
}
