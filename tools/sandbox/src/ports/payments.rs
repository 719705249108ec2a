//! Payments and purchase orders as ports.

use super::{WorldPorts, code, unreadable};
use crate::faults::System;
use crate::world::coupa::{CoupaInvoice, CoupaPayment, InvoiceChange};
use crate::world::qad::{PaymentAllocation, QadWorld, SupplierInvoice};
use crate::world::{Write, Written};
use async_trait::async_trait;
use domain::ids::{DocumentKind, EntityCode, InvoiceId, PurchaseOrderNumber, QadInvoiceIdentity, fold};
use domain::payments::{
    Allocation, CoupaPaymentEntry, InvoiceBalance, PaymentEntry, PaymentKey, PaymentStatus, QadVoucher,
};
use domain::problem::Problem;
use domain::time::{Date, date_as_written};
use flows::ports::{
    BalanceScan, CoupaBill, CoupaOrders, CoupaPayments, PaymentScan, QadPayments, ReadError, WriteError,
};
use rust_decimal::Decimal;
use serde_json::Value;

pub(super) fn bill_of(invoice: &CoupaInvoice) -> Result<CoupaBill, ReadError> {
    let channel = invoice.overrides.get("payment-channel").and_then(Value::as_str);
    Ok(CoupaBill {
        id: InvoiceId(invoice.id),
        currency: code("currency/code", &invoice.currency)?,
        paid: invoice.paid,
        payment_channel: Some(channel.unwrap_or("ERP").to_owned()),
        entries: invoice
            .payments
            .iter()
            .map(|payment| CoupaPaymentEntry {
                amount: payment.amount_paid,
                date: payment.payment_date.as_deref().and_then(date_as_written),
                notes: payment.notes.clone().unwrap_or_default(),
            })
            .collect(),
    })
}

#[async_trait]
impl CoupaPayments for WorldPorts {
    async fn bill(&self, id: InvoiceId) -> Result<Option<CoupaBill>, ReadError> {
        self.read(System::Coupa, "invoices.get", &[id.to_string()], |world| {
            world.coupa.invoices.get(&id.0).map(bill_of).transpose()
        })
    }

    async fn append_payment(
        &self,
        entry: &PaymentEntry,
        idempotency_key: &str,
    ) -> Result<CoupaBill, WriteError> {
        let change = InvoiceChange {
            paid: Some(entry.paid),
            payment_date: Some(entry.date.to_string()),
            payment_notes: Some(entry.notes.clone()),
            ..InvoiceChange::default()
        };
        let appended = CoupaPayment {
            id: 0,
            amount_paid: entry.amount,
            payment_date: Some(entry.date.to_string()),
            notes: Some(entry.notes.clone()),
        };
        let change = InvoiceChange {
            payments: if entry.is_flag_only() {
                vec![]
            } else {
                vec![appended]
            },
            ..change
        };
        let keys = [entry.invoice.to_string()];
        let write = Write::ChangeInvoice(entry.invoice.0, change);
        let written = self.write(System::Coupa, "invoices.pay", &keys, idempotency_key, write)?;
        let unknown = |problem: Problem| WriteError::Unknown(problem);
        if !matches!(written, Written::Coupa(_)) {
            return Err(unknown(Problem::new("SIMULATED_UNKNOWN", "Armed by the test.")));
        }
        let world = super::lock(&self.world);
        match world.coupa.invoices.get(&entry.invoice.0).map(bill_of) {
            Some(Ok(bill)) => Ok(bill),
            Some(Err(error)) => Err(unknown(error.problem().clone())),
            None => Err(unknown(Problem::new("SIMULATED_UNKNOWN", "Armed by the test."))),
        }
    }
}

/// What is owed of a supplier invoice, as QAD shows it.
fn balance_of(qad: &QadWorld, invoice: &SupplierInvoice, on: Date) -> Result<InvoiceBalance, ReadError> {
    let (entity, supplier, reference, kind) = invoice.record.identity();
    let kind = if kind == "CREDITNOTE" {
        DocumentKind::CreditNote
    } else {
        DocumentKind::Invoice
    };
    let balance = match kind {
        DocumentKind::Invoice => qad.owed(invoice),
        DocumentKind::CreditNote => Decimal::ZERO.saturating_sub(qad.owed(invoice).abs()),
    };
    Ok(InvoiceBalance {
        invoice: Allocation::identity(&entity, &supplier, &reference, kind)
            .ok_or_else(|| unreadable("supplierInvoiceReference", "a reference", &reference))?,
        voucher: Some(QadVoucher {
            year: invoice.posting_year,
            number: invoice.voucher,
        }),
        currency: code("currencyCode", &invoice.record.currency_code)?,
        is_open: Some(!balance.is_zero()),
        balance: Some(balance),
        on,
    })
}

fn allocation_of(payment: &PaymentAllocation) -> Result<Allocation, ReadError> {
    let entity: EntityCode = code("entityCode", payment.payer())?;
    let number = payment.number.to_string();
    let kind = if payment.invoice_type.eq_ignore_ascii_case("CREDITNOTE") {
        DocumentKind::CreditNote
    } else {
        DocumentKind::Invoice
    };
    let signed = |amount: Decimal| match kind {
        DocumentKind::Invoice => amount,
        DocumentKind::CreditNote => Decimal::ZERO.saturating_sub(amount.abs()),
    };
    let allocation = payment.allocation.to_string();
    Ok(Allocation {
        key: PaymentKey::new(&entity, payment.year, &payment.instrument, &number, &allocation)
            .ok_or_else(|| unreadable("paymentNumber", "a payment number", &number))?,
        invoice: Allocation::identity(
            payment.owner(),
            &payment.supplier,
            &payment.invoice_reference,
            kind,
        )
        .ok_or_else(|| {
            unreadable(
                "supplierInvoiceReference",
                "a reference",
                &payment.invoice_reference,
            )
        })?,
        status: PaymentStatus::from(payment.status.clone()),
        currency: code("currencyCode", &payment.currency)?,
        payment_date: payment.payment_date,
        last_modified: payment.last_modified,
        reference: payment.reference.clone(),
        allocated: signed(payment.allocated.0),
        discount: signed(payment.discount.0),
        in_invoice_currency: payment.invoice_allocated.map(|amount| signed(amount.0)),
        voucher: payment
            .invoice_voucher
            .map(|(year, number)| QadVoucher { year, number }),
    })
}

#[async_trait]
impl QadPayments for WorldPorts {
    async fn balances_since(&self, since: Date) -> Result<BalanceScan, ReadError> {
        self.read(System::Qad, "browse.changed-invoices", &[], |world| {
            let on = |one: &SupplierInvoice| world.qad.changed_on(one);
            let own = |one: &&SupplierInvoice| fold(&one.record.entity_code) == self.entity;
            let changed = world
                .qad
                .invoices
                .iter()
                .filter(own)
                .filter(|one| on(one) >= since);
            Ok(BalanceScan {
                balances: changed
                    .map(|one| balance_of(&world.qad, one, on(one)))
                    .collect::<Result<_, _>>()?,
                unreadable: Vec::new(),
            })
        })
    }

    async fn balances_of(
        &self,
        invoice: &QadInvoiceIdentity,
        on: Date,
    ) -> Result<Vec<InvoiceBalance>, ReadError> {
        let keys = [invoice.supplier.to_string(), invoice.reference.to_string()];
        self.read(System::Qad, "supplier-invoices.find", &keys, |world| {
            world
                .qad
                .find_invoices(
                    invoice.entity.as_str(),
                    invoice.supplier.as_str(),
                    invoice.reference.as_str(),
                )
                .map(|found| balance_of(&world.qad, found, on))
                .filter(|found| found.as_ref().map_or(true, |found| found.invoice == *invoice))
                .collect()
        })
    }

    async fn payments_since(&self, since: Date) -> Result<PaymentScan, ReadError> {
        self.read(System::Qad, "browse.payments", &[], |world| {
            let mut scan = PaymentScan::default();
            let own = |one: &&PaymentAllocation| {
                fold(one.owner()) == self.entity || fold(one.payer()) == self.entity
            };
            let payments = world.qad.payments.iter().filter(own);
            for payment in payments.filter(|one| one.last_modified >= since) {
                match allocation_of(payment) {
                    Ok(allocation) => scan.allocations.push(allocation),
                    Err(error) => {
                        scan.unreadable.push(error.problem().clone());
                        let day = payment.last_modified;
                        scan.unread_since = Some(scan.unread_since.map_or(day, |oldest| oldest.min(day)));
                    }
                }
            }
            Ok(scan)
        })
    }
}

#[async_trait]
impl CoupaOrders for WorldPorts {
    async fn order_numbers(&self, id: u64) -> Result<Option<Vec<PurchaseOrderNumber>>, ReadError> {
        self.read(System::Coupa, "orders.get", &[id.to_string()], |world| {
            let is_it = |order: &&serde_json::Map<String, Value>| order.get("id") == Some(&Value::from(id));
            let Some(order) = world.coupa.orders.values().find(is_it) else {
                return Ok(None);
            };
            let number = order.get("po-number").and_then(Value::as_str).unwrap_or_default();
            Ok(Some(vec![code("po-number", number)?]))
        })
    }
}
