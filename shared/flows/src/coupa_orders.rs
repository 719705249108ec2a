//! Coupa's orders for the decisions of one delivery: each is asked for at most once however many invoices of the delivery
//! bill it, only when a decision needs one, and then those of all invoices that are being decided in one request.
//!
//! Nothing is kept beyond the delivery: an event about an order wakes its invoices in another delivery, which must see
//! what the event was about.

use crate::delivery::locked;
use crate::ports::{Coupa, CoupaTogether, ReadError, TOGETHER_MAX};
use crate::store::Context;
use domain::coupa_orders::CoupaOrder;
use domain::documents::Invoice;
use domain::ids::fold;
use domain::matching::CoupaOrders;
use futures_util::future::try_join_all;
use futures_util::lock::Mutex as AsyncMutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Most orders that are kept for a delivery; those beyond are asked for again.
const KEPT_ORDERS_MAX: usize = 250;

/// An order that was asked for, while somebody asks and after.
type Slot = Arc<AsyncMutex<Option<Option<CoupaOrder>>>>;

/// Order numbers: folded, and as written.
type Numbers = BTreeMap<String, String>;

/// What Coupa has said about orders during one delivery.
#[derive(Default)]
pub struct KnownOrders {
    slots: Mutex<BTreeMap<String, Slot>>,
    /// Those that invoices bill which are being decided, not asked for yet.
    billed: Mutex<Numbers>,
    /// Held while orders are asked for together; why that failed, after which each is asked for alone.
    together: AsyncMutex<Option<ReadError>>,
}

impl KnownOrders {
    fn slot(&self, folded: &str) -> Slot {
        let mut known = locked(&self.slots);
        if let Some(slot) = known.get(folded) {
            return Arc::clone(slot);
        }
        let slot = Slot::default();
        if known.len() < KEPT_ORDERS_MAX {
            known.insert(folded.to_owned(), Arc::clone(&slot));
        }
        slot
    }

    /// Those of these, and of all that are billed, which nobody has asked for; whoever asks for one now is not overtaken.
    fn unasked(&self, own: &Numbers) -> Vec<String> {
        let mut numbers = std::mem::take(&mut *locked(&self.billed));
        numbers.extend(own.clone());
        let is_unasked = |folded: &str| self.slot(folded).try_lock().is_some_and(|known| known.is_none());
        numbers.retain(|folded, _| is_unasked(folded));
        numbers.into_values().collect()
    }
}

/// Where a run has its orders from; by default it is alone.
#[derive(Default)]
pub struct OrderReads<'a> {
    known: Arc<KnownOrders>,
    coupa: Option<&'a dyn CoupaTogether>,
}

impl<'a> OrderReads<'a> {
    /// With those who know the same, and asked for together where there is somebody to ask so.
    pub fn of(known: &Arc<KnownOrders>, coupa: Option<&'a dyn CoupaTogether>) -> Self {
        Self {
            known: Arc::clone(known),
            coupa,
        }
    }

    /// Nothing that was said counts any more.
    pub(crate) fn forget(&self) {
        locked(&self.known.slots).clear();
    }

    /// This invoice is being decided, and its orders may be needed: whoever needs one first asks for these too.
    pub(crate) fn may_be_needed(&self, invoice: &Invoice) {
        let mut billed = locked(&self.known.billed);
        if self.coupa.is_some() && billed.len() < KEPT_ORDERS_MAX {
            billed.extend(missing(invoice));
        }
    }

    async fn order(&self, coupa: &dyn Coupa, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        let slot = self.known.slot(&fold(number));
        // Whoever comes second waits for the first one's answer. A failure is nobody's answer: the next one asks again.
        let mut known = slot.lock().await;
        if let Some(order) = &*known {
            return Ok(order.clone());
        }
        let order = coupa.coupa_order(number).await?;
        *known = Some(order.clone());
        Ok(order)
    }

    /// Asks for these and for all that are billed, where that is more than one. What the answer does not hold stays unasked.
    /// Returns why the delivery's orders cannot be asked for together, once that was tried.
    async fn ask_together(&self, own: &Numbers) -> Option<ReadError> {
        let coupa = self.coupa?;
        let mut failure = self.known.together.lock().await;
        if failure.is_some() {
            return failure.clone();
        }
        let unasked = self.known.unasked(own);
        if unasked.len() < 2 {
            return None;
        }
        for numbers in unasked.chunks(TOGETHER_MAX) {
            // Those of before the request: what is forgotten meanwhile stays forgotten.
            let slots: BTreeMap<String, _> = numbers
                .iter()
                .map(|number| (fold(number), self.known.slot(&fold(number))))
                .collect();
            match coupa.coupa_orders(numbers).await {
                Ok(orders) => {
                    for order in orders {
                        if let Some(slot) = slots.get(&fold(&order.number)) {
                            slot.lock().await.get_or_insert(Some(order));
                        }
                    }
                }
                Err(error) => {
                    let problem = error.problem();
                    tracing::info!(code = %problem.code, %problem, count = numbers.len(),
                        "orders not read together; each is asked for alone");
                    *failure = Some(error);
                    break;
                }
            }
        }
        failure.clone()
    }

    /// The orders behind the lines of an invoice. What the reading of the invoice brought along is not asked for again.
    pub(crate) async fn of_invoice(
        &self,
        context: &Context<'_>,
        coupa: &dyn Coupa,
        invoice: &Invoice,
    ) -> Result<CoupaOrders, ReadError> {
        let mut orders = brought_along(invoice);
        let missing = missing(invoice);
        if let Some(error @ ReadError::Unavailable { .. }) = self.ask_together(&missing).await
            && !context.has_time_for_a_call()
        {
            return Err(error);
        }
        let asked = missing
            .into_iter()
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

/// The orders that came with the invoice.
fn brought_along(invoice: &Invoice) -> CoupaOrders {
    let orders = invoice.coupa_orders.iter();
    orders
        .map(|order| (fold(&order.number), Some(order.clone())))
        .collect()
}

/// The different orders of the lines that did not come with the invoice.
fn missing(invoice: &Invoice) -> Numbers {
    let brought = brought_along(invoice);
    let mut seen = Numbers::new();
    for reference in invoice.lines.iter().filter_map(|line| line.coupa_order.as_ref()) {
        seen.entry(fold(&reference.order))
            .or_insert_with(|| reference.order.clone());
    }
    seen.retain(|folded, _| !brought.contains_key(folded));
    seen
}

#[cfg(test)]
mod tests;
