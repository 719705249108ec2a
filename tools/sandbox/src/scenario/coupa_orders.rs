//! What the day shows of orders that stand differently in Coupa than in QAD: everything matches in QAD, and Coupa's order
//! is in the way, or would pay without a receipt.

use super::{Day, Seller, Step, amount, whole};
use crate::world::World;
use crate::world::coupa::coupa_instant;
use domain::time::Timestamp;
use serde_json::Value;

/// How an order, or all its lines, comes to stand in Coupa.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoupaOrderChange {
    /// The order's number.
    pub order: String,
    /// Field, as Coupa writes it, of the order or of its lines.
    pub place: Place,
    /// Its new value.
    pub value: Value,
}

/// Where a field stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the order.
    Order(&'static str),
    /// On every line.
    Lines(&'static str),
}

impl CoupaOrderChange {
    /// The order gets this status.
    pub fn status(order: &str, word: &str) -> Self {
        Self {
            order: order.to_owned(),
            place: Place::Order("status"),
            value: word.into(),
        }
    }

    /// Its lines want no receipt in Coupa.
    pub fn two_way(order: &str) -> Self {
        Self {
            order: order.to_owned(),
            place: Place::Lines("receipt-required"),
            value: false.into(),
        }
    }

    /// Does it.
    pub fn apply(&self, world: &mut World, now: Timestamp) {
        let Some(order) = world.coupa.orders.get_mut(&self.order) else {
            return;
        };
        order.insert("updated-at".to_owned(), coupa_instant(now).into());
        match self.place {
            Place::Order(field) => {
                order.insert(field.to_owned(), self.value.clone());
            }
            Place::Lines(field) => {
                let lines = order.get_mut("order-lines").and_then(Value::as_array_mut);
                for line in lines.into_iter().flatten().filter_map(Value::as_object_mut) {
                    line.insert(field.to_owned(), self.value.clone());
                }
            }
        }
    }
}

pub(super) fn coupa_orders(day: &mut Day) {
    day.case(
        "order closed in Coupa",
        "Received in QAD; Coupa has closed the order, as it does once it is billed in full.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(12, 0));
            let invoice = case.invoice(std::slice::from_ref(&bill));
            case.in_coupa(CoupaOrderChange::status(&bill.order, "closed"));
            case.posted(invoice);
        },
    );
    day.case(
        "order cancelled in Coupa",
        "Received in QAD; in Coupa the order is cancelled.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(12, 0));
            let invoice = case.invoice(std::slice::from_ref(&bill));
            case.in_coupa(CoupaOrderChange::status(&bill.order, "cancelled"));
            case.parked(invoice, "COUPA_ORDER_CANCELLED");
        },
    );
    day.case(
        "order on hold in Coupa and issued again",
        "Taken back to the buyer: the invoice waits, and the order's event after it was issued again wakes it.",
        Seller::Castings,
        |case| {
            let bill = case.received_order(whole(10), amount(12, 0));
            let invoice = case.invoice(std::slice::from_ref(&bill));
            case.in_coupa(CoupaOrderChange::status(&bill.order, "buyer_hold"));
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "held",
            });
            case.step(Step::ChangeCoupaOrder(CoupaOrderChange::status(
                &bill.order,
                "issued",
            )));
            let order = case.scenario.orders.last().cloned();
            case.scenario.steps.extend(order.map(Step::SendOrderEvent));
            case.posted(invoice);
        },
    );
    day.case(
        "two-way line in Coupa",
        "Coupa asks no receipt; nothing is posted ahead of the one in QAD all the same.",
        Seller::Castings,
        |case| {
            let bill = case.order(whole(10), amount(12, 0));
            let invoice = case.invoice(std::slice::from_ref(&bill));
            case.in_coupa(CoupaOrderChange::two_way(&bill.order));
            case.expect(invoice, "held", &["RECEIPT_MISSING", "TWO_WAY_LINE"], 0, false);
        },
    );
}
