//! Coupa's orders for the decisions of one delivery: each is asked for at most once however many invoices of the delivery
//! bill it, and only when a decision needs it.
//!
//! Nothing is kept beyond the delivery: an event about an order wakes its invoices in another delivery, which must see
//! what the event was about.

use crate::ports::{Coupa, ReadError};
use domain::coupa_orders::CoupaOrder;
use domain::documents::Invoice;
use domain::ids::{ConnectionId, fold};
use domain::matching::CoupaOrders;
use futures_util::future::try_join_all;
use futures_util::lock::Mutex as AsyncMutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Most orders that are kept for a delivery; those beyond are asked for again.
const KEPT_ORDERS_MAX: usize = 250;

/// An order that was asked for, while somebody asks and after.
type Slot = Arc<AsyncMutex<Option<Option<CoupaOrder>>>>;

/// The orders of one delivery, apart for each connection: two of them may know orders of one number. Kept until the next
/// delivery begins.
#[derive(Debug, Default)]
pub struct DeliveryReads(Mutex<(String, BTreeMap<ConnectionId, Arc<OrderReads>>)>);

impl DeliveryReads {
    /// What a connection's Coupa has said during the delivery of this id.
    pub fn of(&self, delivery: &str, connection: &ConnectionId) -> Arc<OrderReads> {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.0 != delivery {
            *reads = (delivery.to_owned(), BTreeMap::new());
        }
        Arc::clone(reads.1.entry(connection.clone()).or_default())
    }
}

/// What Coupa has said about orders during one delivery.
#[derive(Debug, Default)]
pub struct OrderReads(Mutex<BTreeMap<String, Slot>>);

impl OrderReads {
    fn slot(&self, folded: &str) -> Slot {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = known.get(folded) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        if known.len() < KEPT_ORDERS_MAX {
            known.insert(folded.to_owned(), Arc::clone(&slot));
        }
        slot
    }

    /// Nothing that was said counts any more.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn order(&self, coupa: &dyn Coupa, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        let slot = self.slot(&fold(number));
        // Whoever comes second waits for the first one's answer. A failure is nobody's answer: the next one asks again.
        let mut known = slot.lock().await;
        if let Some(order) = &*known {
            return Ok(order.clone());
        }
        let order = coupa.coupa_order(number).await?;
        *known = Some(order.clone());
        Ok(order)
    }

    /// The orders behind the lines of an invoice. What the reading of the invoice brought along is not asked for again.
    pub(crate) async fn of(&self, coupa: &dyn Coupa, invoice: &Invoice) -> Result<CoupaOrders, ReadError> {
        let mut orders: CoupaOrders = invoice
            .coupa_orders
            .iter()
            .map(|order| (fold(&order.number), Some(order.clone())))
            .collect();
        let missing = numbers(invoice)
            .into_iter()
            .filter(|(folded, _)| !orders.contains_key(folded));
        let asked = missing
            .map(|(folded, number)| async move { Ok((folded, self.order(coupa, &number).await?)) })
            .collect::<Vec<_>>();
        orders.extend(try_join_all(asked).await?);
        Ok(orders)
    }
}

/// The orders of a decision as they are now, whatever was known.
pub(crate) async fn anew(coupa: &dyn Coupa, known: &CoupaOrders) -> Result<CoupaOrders, ReadError> {
    let asked = known.iter().map(|(folded, order)| async move {
        let number = order.as_ref().map_or(folded.as_str(), |order| &order.number);
        Ok((folded.clone(), coupa.coupa_order(number).await?))
    });
    Ok(try_join_all(asked.collect::<Vec<_>>())
        .await?
        .into_iter()
        .collect())
}

/// The different orders of the lines: folded, and as written.
fn numbers(invoice: &Invoice) -> BTreeSet<(String, String)> {
    let mut seen = BTreeMap::new();
    for reference in invoice.lines.iter().filter_map(|line| line.coupa_order.as_ref()) {
        seen.entry(fold(&reference.order))
            .or_insert_with(|| reference.order.clone());
    }
    seen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_a_delivery_is_shared_by_one_connection_and_by_it_alone() {
        let (acme, plant): (ConnectionId, ConnectionId) = ("acme".parse().unwrap(), "plant".parse().unwrap());
        let reads = DeliveryReads::default();
        let first = reads.of("delivery-1", &acme);
        assert!(Arc::ptr_eq(&first, &reads.of("delivery-1", &acme)));
        assert!(!Arc::ptr_eq(&first, &reads.of("delivery-1", &plant)));
        assert!(Arc::ptr_eq(&first, &reads.of("delivery-1", &acme)));
        assert!(!Arc::ptr_eq(&first, &reads.of("delivery-2", &acme)));
    }
}
