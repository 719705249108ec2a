//! What tests of several flows begin with.

use domain::ids::{DocumentKind, InvoiceId, QadInvoiceIdentity};
use domain::matching::SupplierInvoiceDraft;
use rust_decimal::Decimal;

/// A bill of 100.00 dollars of Coupa invoice 12, matched to nothing yet.
pub(crate) fn draft() -> SupplierInvoiceDraft {
    SupplierInvoiceDraft {
        identity: QadInvoiceIdentity {
            entity: "10USACO".parse().unwrap(),
            supplier: "10S1001".parse().unwrap(),
            reference: "INV-1".parse().unwrap(),
            kind: DocumentKind::Invoice,
        },
        coupa_id: InvoiceId(12),
        coupa_instance: String::new(),
        domain: "10USA".parse().unwrap(),
        currency: "USD".parse().unwrap(),
        invoice_date: "2026-03-05".parse().unwrap(),
        posting_date: "2026-03-05".parse().unwrap(),
        daybook: "SI".parse().unwrap(),
        matching_daybook: "RM".parse().unwrap(),
        invoice_status: "AP-RMALLOC".into(),
        credit_terms: None,
        total: Decimal::from(100),
        tax: Decimal::ZERO,
        orders: vec![],
        matches: vec![],
        costs: vec![],
        payee: None,
        echo: Decimal::new(2, 2),
        locked: false,
        billed: vec![],
        cancels: None,
        is_twin: false,
        billed_in_coupa: Default::default(),
    }
}
