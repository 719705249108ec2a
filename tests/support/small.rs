//! Small worlds for tests that are about one thing.

#![allow(
    clippy::unwrap_used,
    reason = "a test that misses what it put there must fail loudly"
)]

use crate::harness::BEGINNING;
use crate::invariants::CANARY;
use domain::ids::{DocumentKind, InvoiceId};
use domain::time::Date;
use rust_decimal::Decimal;
use sandbox::scenario::Scenario;
use sandbox::world::World;
use sandbox::world::coupa::{CoupaInvoice, CoupaLine};
use sandbox::world::qad::{
    DOMAIN, ENTITY, Exact, PurchaseOrderLink, QadOrder, QadOrderLine, QadReceipt, ReceiverMatching, Supplier,
    SupplierInvoiceRecord, qad_date,
};

/// The invoice most tests are about.
pub const INVOICE: InvoiceId = InvoiceId(7_001);
/// A second one.
pub const OTHER: InvoiceId = InvoiceId(7_002);
/// The order both bill.
pub const ORDER: &str = "PO7";

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

/// The supplier.
pub fn supplier() -> Supplier {
    Supplier {
        coupa_id: 5_001,
        name: "Example Fasteners".to_owned(),
        coupa_number: Some("S1001".to_owned()),
        qad_code: Some("S1001".to_owned()),
        currency: "USD".to_owned(),
    }
}

/// An order with one line of so many pieces at 10.00.
pub fn order(number: &str, ordered: u32) -> QadOrder {
    QadOrder {
        number: number.to_owned(),
        supplier: "S1001".to_owned(),
        currency: "USD".to_owned(),
        status: String::new(),
        evaluated_receipts: false,
        domain: DOMAIN.to_owned(),
        other_entity: None,
        lines: vec![QadOrderLine {
            number: 1,
            part: "02-0001".to_owned(),
            description: "Example bracket".to_owned(),
            unit: "EA".to_owned(),
            ordered: Exact(Decimal::from(ordered)),
            unit_price: Exact(Decimal::TEN),
            terms: Default::default(),
            status: String::new(),
        }],
    }
}

/// A receipt of so many pieces on line 1 of an order, on the day the runs begin.
pub fn receipt(order: &str, receiver: &str, quantity: u32) -> QadReceipt {
    QadReceipt {
        receiver: receiver.to_owned(),
        order: order.to_owned(),
        line: 1,
        quantity: Exact(Decimal::from(quantity)),
        is_return: false,
        date: BEGINNING.date_utc(),
        packing_slip: String::new(),
        vouchered: Exact::default(),
        logistics_charge: String::new(),
        finished: false,
        unit_cost: None,
        domain: DOMAIN.to_owned(),
        consigned: false,
    }
}

/// An approved invoice for so many pieces of line 1 of an order.
pub fn invoice(id: InvoiceId, order: &str, quantity: u32) -> CoupaInvoice {
    CoupaInvoice {
        id: id.0,
        number: format!("INV-{id}"),
        kind: DocumentKind::Invoice,
        original_number: None,
        status: "approved".to_owned(),
        exported: false,
        was_exported: false,
        paid: false,
        payment_date: None,
        payment_notes: None,
        payments: Vec::new(),
        invoice_date: date("2026-03-05"),
        created_at: BEGINNING,
        updated_at: BEGINNING,
        supplier: 5_001,
        currency: "USD".to_owned(),
        payment_term: Some("NET30".to_owned()),
        total: None,
        line_level_taxation: false,
        tax: Decimal::ZERO,
        charges: Vec::new(),
        lines: vec![CoupaLine {
            number: 1,
            description: CANARY.to_owned(),
            quantity: Some(Decimal::from(quantity)),
            price: Decimal::TEN,
            unit: Some("EA".to_owned()),
            total: None,
            order: Some(order.to_owned()),
            order_line: Some(1),
            tax: Decimal::ZERO,
            overrides: serde_json::Map::new(),
        }],
        custom_fields: serde_json::Map::new(),
        overrides: serde_json::Map::new(),
    }
}

/// A world with these documents.
pub fn world(orders: Vec<QadOrder>, receipts: Vec<QadReceipt>, invoices: Vec<CoupaInvoice>) -> World {
    let scenario = Scenario {
        name: "small",
        about: "A small world.",
        suppliers: vec![supplier()],
        orders,
        receipts,
        qad_invoices: Vec::new(),
        invoices,
        coupa_orders: Vec::new(),
        steps: Vec::new(),
        expected: Vec::new(),
    };
    World::seed(&[scenario], BEGINNING)
}

/// One invoice of ten pieces that are ordered and received.
pub fn straight_through() -> World {
    world(
        vec![order(ORDER, 10)],
        vec![receipt(ORDER, "RC1", 10)],
        vec![invoice(INVOICE, ORDER, 10)],
    )
}

/// One invoice of ten pieces that are ordered and not received.
pub fn without_receipt() -> World {
    world(
        vec![order(ORDER, 10)],
        Vec::new(),
        vec![invoice(INVOICE, ORDER, 10)],
    )
}

/// QAD's document of that invoice, as this product would have posted it.
pub fn posted(id: InvoiceId) -> SupplierInvoiceRecord {
    let ten = Exact(Decimal::TEN);
    SupplierInvoiceRecord {
        entity_code: ENTITY.to_owned(),
        domain_code: DOMAIN.to_owned(),
        supplier_code: "S1001".to_owned(),
        supplier_invoice_reference: format!("INV-{id}"),
        invoice_type: "INVOICE".to_owned(),
        daybook_code: "SI".to_owned(),
        matching_daybook_code: "RM".to_owned(),
        currency_code: "USD".to_owned(),
        invoice_date: qad_date(date("2026-03-05")),
        posting_date: qad_date(BEGINNING.date_utc()),
        credit_terms_code: None,
        invoice_status_code: "AP-RMALLOC".to_owned(),
        total_amount: Exact(Decimal::ONE_HUNDRED),
        tax_amount: Exact::default(),
        description: domain::mark::of("", id),
        purchase_orders: vec![PurchaseOrderLink {
            purchase_order_domain: DOMAIN.to_owned(),
            purchase_order_number: ORDER.to_owned(),
        }],
        receiver_matchings: vec![ReceiverMatching {
            purchase_order_number: ORDER.to_owned(),
            purchase_order_line: 1,
            receiver_number: "RC1".to_owned(),
            match_quantity: ten,
            match_unit_price: ten,
            is_finished: true,
        }],
        additional_costs: Vec::new(),
        invoice_link: None,
        data_operation: "C".to_owned(),
        concurrency_hash: String::new(),
    }
}
