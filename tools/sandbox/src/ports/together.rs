//! Several of Coupa's documents in one request, as ports: what its lists show of those that were asked for.

use super::payments::bill_of;
use super::{WorldPorts, coupa_order_of, invoice_of};
use crate::faults::System;
use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::Invoice;
use domain::ids::InvoiceId;
use flows::ports::{CoupaBill, CoupaTogether, ReadError};

fn keys(ids: &[InvoiceId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[async_trait]
impl CoupaTogether for WorldPorts {
    async fn invoices(&self, ids: &[InvoiceId]) -> Result<Vec<Invoice>, ReadError> {
        self.read(System::Coupa, "invoices.list", &keys(ids), |world| {
            let there = ids.iter().filter_map(|id| world.coupa.invoices.get(&id.0));
            Ok(there
                .filter_map(|invoice| invoice_of(world, invoice).ok())
                .collect())
        })
    }

    async fn coupa_orders(&self, numbers: &[String]) -> Result<Vec<CoupaOrder>, ReadError> {
        self.read(System::Coupa, "orders.list", numbers, |world| {
            let there = numbers.iter().filter_map(|number| world.coupa.orders.get(number));
            Ok(there.map(coupa_order_of).collect())
        })
    }

    async fn bills(&self, ids: &[InvoiceId]) -> Result<Vec<CoupaBill>, ReadError> {
        self.read(System::Coupa, "invoices.list", &keys(ids), |world| {
            let there = ids.iter().filter_map(|id| world.coupa.invoices.get(&id.0));
            Ok(there.filter_map(|invoice| bill_of(invoice).ok()).collect())
        })
    }
}
