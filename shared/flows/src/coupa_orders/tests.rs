//! Orders of several invoices of one delivery, against a Coupa that counts what it is asked.

use super::*;
use crate::delivery::tests::Hands;
use crate::feed::tests::ready;
use crate::match_invoice::tests::bill;
use crate::memory_register::MemoryRegister;
use crate::ports::{CoupaBill, DocumentOutcome, Flagged, InvoicePage, WriteError};
use async_trait::async_trait;
use domain::coupa_orders::{CoupaOrderStanding, CoupaOrderStatus};
use domain::ids::InvoiceId;
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;

#[derive(Default)]
struct Orders {
    asked: Mutex<Vec<String>>,
    word: Mutex<String>,
    unlisted: Vec<&'static str>,
    refused: bool,
}

impl Orders {
    fn order(&self, number: &str) -> CoupaOrder {
        CoupaOrder {
            number: number.to_owned(),
            status: CoupaOrderStatus {
                standing: CoupaOrderStanding::Open,
                word: locked(&self.word).clone(),
            },
            lines: Vec::new(),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.asked))
    }

    /// What an invoice that bills these orders is decided with: each order's number and status.
    fn decide(&self, known: &Arc<KnownOrders>, numbers: &[&str]) -> Vec<(String, String)> {
        let (hands, register, timing) = (Hands::default(), MemoryRegister::default(), Timing::default());
        let context = Context {
            register: &register,
            clock: &hands,
            chance: &hands,
            timing: &timing,
            deadline: Timestamp(timing.http_millis),
        };
        let reads = OrderReads::of(known, Some(self));
        let invoice = billing(numbers);
        reads.may_be_needed(&invoice);
        let orders = ready(reads.of_invoice(&context, self, &invoice)).unwrap();
        orders
            .into_iter()
            .map(|(folded, order)| (folded, order.map_or_else(String::new, |order| order.status.word)))
            .collect()
    }
}

#[async_trait]
impl CoupaTogether for Orders {
    async fn invoices(&self, _: &[InvoiceId]) -> Result<Vec<Invoice>, ReadError> {
        panic!("orders are asked for")
    }
    async fn coupa_orders(&self, numbers: &[String]) -> Result<Vec<CoupaOrder>, ReadError> {
        locked(&self.asked).push(format!("together {}", numbers.join(",")));
        if self.refused {
            return Err(ReadError::Refused(Problem::new(
                "COUPA_REQUEST_REFUSED",
                "No such filter.",
            )));
        }
        let listed = numbers
            .iter()
            .filter(|number| !self.unlisted.contains(&number.as_str()));
        Ok(listed.map(|number| self.order(number)).collect())
    }
    async fn bills(&self, _: &[InvoiceId]) -> Result<Vec<CoupaBill>, ReadError> {
        panic!("orders are asked for")
    }
}

#[async_trait]
impl Coupa for Orders {
    async fn invoice(&self, _: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        panic!("orders are asked for")
    }
    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        locked(&self.asked).push(format!("alone {number}"));
        Ok(Some(self.order(number)))
    }
    async fn exportable_invoices(&self, _: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        panic!("orders are asked for")
    }
    async fn mark_exported(&self, _: InvoiceId, _: &str) -> Result<Flagged, WriteError> {
        panic!("orders are asked for")
    }
    async fn record_outcome(&self, _: InvoiceId, _: &DocumentOutcome, _: &str) -> Result<(), WriteError> {
        panic!("orders are asked for")
    }
}

/// An invoice with a line for each of these orders.
fn billing(numbers: &[&str]) -> Invoice {
    let mut invoice = bill(InvoiceId(1), 10, 10);
    let line = invoice.lines.first().unwrap().clone();
    invoice.lines = numbers
        .iter()
        .map(|number| {
            let mut line = line.clone();
            line.coupa_order.as_mut().unwrap().order = (*number).to_owned();
            line
        })
        .collect();
    invoice
}

/// Two more invoices of the delivery that are being decided.
fn others(coupa: &Orders, known: &Arc<KnownOrders>) {
    for number in ["PO2", "PO3"] {
        OrderReads::of(known, Some(coupa)).may_be_needed(&billing(&[number]));
    }
}

#[test]
fn whoever_needs_an_order_first_asks_for_those_of_all_that_are_being_decided() {
    let (coupa, known) = (Orders::default(), Arc::default());
    others(&coupa, &known);
    assert_eq!(coupa.decide(&known, &["PO1"]).len(), 1);
    assert_eq!(coupa.asked(), ["together PO1,PO2,PO3"]);
    coupa.decide(&known, &["po2"]);
    coupa.decide(&known, &["PO3"]);
    assert_eq!(coupa.asked(), [""; 0], "each was asked for once");
}

#[test]
fn one_order_alone_is_looked_up_as_ever() {
    let (coupa, known) = (Orders::default(), Arc::default());
    coupa.decide(&known, &["PO1"]);
    assert_eq!(coupa.asked(), ["alone PO1"]);
    coupa.decide(&known, &["PO4", "PO5"]);
    assert_eq!(coupa.asked(), ["together PO4,PO5"]);
}

#[test]
fn an_order_that_the_list_does_not_show_is_looked_up_before_it_counts_as_absent() {
    let coupa = Orders {
        unlisted: vec!["PO1"],
        ..Orders::default()
    };
    let known = Arc::default();
    others(&coupa, &known);
    locked(&coupa.word).push_str("issued");
    assert_eq!(
        coupa.decide(&known, &["PO1"]),
        [("PO1".to_owned(), "issued".to_owned())]
    );
    assert_eq!(coupa.asked(), ["together PO1,PO2,PO3", "alone PO1"]);
}

#[test]
fn a_request_that_fails_is_tried_once_in_a_delivery_and_is_nobodys_answer() {
    let coupa = Orders {
        refused: true,
        ..Orders::default()
    };
    let known = Arc::default();
    others(&coupa, &known);
    assert_eq!(coupa.decide(&known, &["PO1"]).len(), 1);
    assert_eq!(coupa.decide(&known, &["PO2", "PO3"]).len(), 2);
    assert_eq!(
        coupa.asked(),
        ["together PO1,PO2,PO3", "alone PO1", "alone PO2", "alone PO3"]
    );
}

#[test]
fn orders_are_looked_at_anew_whatever_was_asked_for_together() {
    let (coupa, known) = (Orders::default(), Arc::<KnownOrders>::default());
    others(&coupa, &known);
    coupa.decide(&known, &["PO1"]);
    coupa.asked();
    locked(&coupa.word).push_str("cancelled");
    let seen = [("PO2".to_owned(), None)].into();
    let now = ready(anew(&coupa, &seen)).unwrap();
    assert_eq!(now["PO2"].as_ref().unwrap().status.word, "cancelled");
    assert_eq!(coupa.asked(), ["alone PO2"]);
    OrderReads::of(&known, Some(&coupa)).forget();
    assert_eq!(
        coupa.decide(&known, &["PO3"]),
        [("PO3".to_owned(), "cancelled".to_owned())]
    );
}
