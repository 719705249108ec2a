//! Several documents in one request, each read as the single document is.
//!
//! Coupa's lists hold whole documents where no `fields` are asked for. What such an answer does not hold, or holds in a way that
//! cannot be read, is left out: whoever needs it asks for it alone, and hears of it what there is to hear.

use super::orders::{OrderContext, needed};
use super::{CoupaClient, not_found, payments, wire};
use crate::http::{Call, READ_ATTEMPT_SECONDS_MAX};
use crate::json::{Json, Misread, Node};
use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::Invoice;
use domain::ids::{InvoiceId, fold};
use flows::ports::{CoupaBill, CoupaTogether, ReadError, TOGETHER_MAX};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Longest whole request for several documents: what it leaves of the time is for asking for each.
const TOGETHER_TIME: Duration = Duration::from_secs(READ_ATTEMPT_SECONDS_MAX);
/// Stands between the values of the operator `in`; a value that holds it cannot be asked for so.
const SEPARATOR: char = ',';

impl CoupaClient {
    async fn list_together(&self, operation: &'static str, url: String) -> Result<Vec<Json>, ReadError> {
        let call = Call::get(operation, url);
        let Some(json) = self.peer.read_within(&call, TOGETHER_TIME).await? else {
            return Err(ReadError::Refused(not_found("a list")));
        };
        let fix = "Nothing to do: each is asked for alone.";
        let unreadable =
            |misread: Misread| ReadError::Unreadable(misread.problem("COUPA_ANSWER_UNREADABLE", fix));
        let items = Node::root(&json).required_items().map_err(unreadable)?;
        Ok(items.iter().map(Node::to_json).collect())
    }

    /// Invoices as Coupa writes them, those alone that were asked for.
    async fn invoices_json(&self, ids: &[InvoiceId]) -> Result<BTreeMap<InvoiceId, Json>, ReadError> {
        let url = wire::invoices_together(&self.base, ids);
        let listed = self.list_together("read_invoices", url).await?;
        let mut shown = BTreeMap::new();
        for json in listed {
            let id = Node::root(&json).get("id").whole().ok().flatten().map(InvoiceId);
            if let Some(id) = id.filter(|id| ids.contains(id)) {
                shown.entry(id).or_insert(json);
            }
        }
        Ok(shown)
    }

    /// Orders as Coupa writes them, those alone that were asked for, by their folded number.
    async fn orders_json(&self, numbers: &[String]) -> Result<BTreeMap<String, Json>, ReadError> {
        let numbers: Vec<String> = numbers
            .iter()
            .filter(|number| !number.contains(SEPARATOR))
            .cloned()
            .collect();
        if numbers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked: BTreeSet<String> = numbers.iter().map(|number| fold(number)).collect();
        let url = wire::orders_together(&self.base, &numbers);
        let listed = self.list_together("find_orders", url).await?;
        let mut shown = BTreeMap::new();
        for json in listed {
            let number = Node::root(&json).get("po-number").text().ok().flatten();
            let folded = number.map(|number| fold(&number));
            if let Some(folded) = folded.filter(|folded| asked.contains(folded)) {
                // As the single look-up takes the first.
                shown.entry(folded).or_insert(json);
            }
        }
        Ok(shown)
    }

    /// Which orders an invoice needs to be understood.
    fn needed_by(&self, invoice: &Json) -> Result<BTreeSet<String>, Misread> {
        if self.is_out_of_scope(invoice) {
            return Ok(BTreeSet::new());
        }
        needed(invoice, &self.numbers)
    }
}

#[async_trait]
impl CoupaTogether for CoupaClient {
    async fn invoices(&self, ids: &[InvoiceId]) -> Result<Vec<Invoice>, ReadError> {
        let listed = self.invoices_json(ids).await?;
        let needs: BTreeMap<InvoiceId, BTreeSet<String>> = listed
            .iter()
            .filter_map(|(id, json)| self.needed_by(json).ok().map(|needed| (*id, needed)))
            .collect();
        let numbers: BTreeSet<&String> = needs.values().flatten().collect();
        let numbers: Vec<String> = numbers.into_iter().cloned().collect();
        let mut orders = BTreeMap::new();
        for numbers in numbers.chunks(TOGETHER_MAX) {
            match self.orders_json(numbers).await {
                Ok(found) => orders.extend(found),
                // Nobody is kept waiting by one request after another that is not answered.
                Err(error @ ReadError::Unavailable { .. }) => return Err(error),
                // Whoever needs one of these asks by itself.
                Err(_) => break,
            }
        }
        let read = |(id, json): (&InvoiceId, &Json)| {
            let context = OrderContext::among(&orders, needs.get(id)?)?;
            self.read_invoice(json, *id, &context).ok()
        };
        Ok(listed.iter().filter_map(read).collect())
    }

    async fn coupa_orders(&self, numbers: &[String]) -> Result<Vec<CoupaOrder>, ReadError> {
        let listed = self.orders_json(numbers).await?;
        Ok(listed
            .values()
            .filter_map(|json| self.read_order(json).ok())
            .collect())
    }

    async fn bills(&self, ids: &[InvoiceId]) -> Result<Vec<CoupaBill>, ReadError> {
        let listed = self.invoices_json(ids).await?;
        Ok(listed
            .iter()
            .filter_map(|(id, json)| payments::bill(json, *id).ok())
            .collect())
    }
}
