//! A document that a person has named on the page is looked up, and taken or not, before anything is decided.

use super::*;
use crate::ports::Register;
use domain::lifecycle::AdoptionRequest;
use domain::ownership::{MARK_UNKNOWN, OwnerEvent, OwnerState, Ownership};

impl Shop {
    /// What a clerk has keyed in QAD for an invoice, over this amount.
    fn keyed(&self, id: InvoiceId, total: i64) -> Voucher {
        let voucher = Voucher {
            year: 2026,
            daybook: "SI".to_owned(),
            number: 77,
        };
        let identity = QadInvoiceIdentity {
            entity: "10USACO".parse().unwrap(),
            supplier: "10S1001".parse().unwrap(),
            reference: format!("INV-{id}").parse().unwrap(),
            kind: DocumentKind::Invoice,
        };
        self.held().keyed.push(QadDocument {
            voucher: Some(voucher.clone()),
            identity,
            currency: "USD".parse().unwrap(),
            total: total.into(),
            description: "keyed by hand".to_owned(),
        });
        voucher
    }

    fn name(&self, id: InvoiceId, voucher: &Voucher, accepted_total: Option<i64>) {
        let timing = Timing::default();
        let request = AdoptionRequest {
            voucher: voucher.clone(),
            accepted_total: accepted_total.map(Decimal::from),
            instruction: Instruction::new("dana", "keyed before the switch-on").unwrap(),
        };
        let (context, seen) = (self.context(&timing), Some(self.record(id).revision));
        let named = operator::request_adoption_as_seen(&context, id, request, seen);
        assert!(ready(named).unwrap().changed);
    }

    fn trail(&self, id: InvoiceId) -> String {
        let entries = ready(self.register.audit(&crate::store::invoice_audit_name(id))).unwrap();
        entries.iter().map(|entry| entry.events.clone()).collect()
    }
}

#[test]
fn what_is_named_is_taken_when_it_is_proven_and_told_when_it_is_not() {
    let shop = Shop::with(10, vec![], vec![bill(BILL, 10, 10)]);
    assert_eq!(shop.look(BILL), "held RECEIPT_MISSING");
    let voucher = shop.keyed(BILL, 99);
    shop.name(BILL, &voucher, None);
    assert_eq!(shop.look(BILL), "held RECEIPT_MISSING");
    let trail = shop.trail(BILL);
    assert!(
        trail.contains("adoption-refused") && trail.contains("99 USD"),
        "{trail}"
    );
    assert_eq!(shop.record(BILL).document.adoption, None, "told once");
    // With that total accepted it is the invoice's, and Coupa is told.
    shop.name(BILL, &voucher, Some(99));
    assert_eq!(shop.look(BILL), "exported");
    let record = shop.record(BILL).document;
    assert_eq!((record.state.voucher(), record.adoption), (Some(&voucher), None));
    assert!(shop.trail(BILL).contains("dana"));
    assert!(shop.held().documents.is_empty(), "nothing was created beside it");
}

/// Without QAD's answer nobody knows whether it is there already: nothing is decided, and so nothing posted beside it, until
/// there is one.
#[test]
fn nothing_is_decided_before_what_is_named_was_looked_up() {
    let shop = Shop::with(10, vec![], vec![bill(BILL, 10, 10)]);
    assert_eq!(shop.look(BILL), "held RECEIPT_MISSING");
    let voucher = shop.keyed(BILL, 100);
    shop.name(BILL, &voucher, None);
    shop.held().receipts.push(receipt("RC1", 10));
    shop.held().is_silent = true;
    assert_eq!(shop.look(BILL), "held RECEIPT_MISSING");
    let record = shop.record(BILL).document;
    assert!(record.adoption.is_some() && record.delay.is_some());
    shop.held().is_silent = false;
    assert_eq!(shop.look(BILL), "exported");
    assert_eq!(shop.record(BILL).document.state.voucher(), Some(&voucher));
    assert!(shop.held().documents.is_empty());
}

/// While another installation may be at work nothing is begun, and the mark in Coupa that would follow is a beginning.
#[test]
fn nothing_that_is_named_is_taken_while_another_installation_may_be_at_work() {
    let shop = Shop::with(10, vec![], vec![bill(BILL, 10, 10)]);
    assert_eq!(shop.look(BILL), "held RECEIPT_MISSING");
    let voucher = shop.keyed(BILL, 100);
    shop.name(BILL, &voucher, None);
    let timing = Timing::default();
    let own = |state, revision| {
        let change = Change::<_, OwnerEvent> {
            document: Ownership {
                state,
                ..Ownership::new("here".to_owned())
            },
            events: vec![],
            writes: vec![],
        };
        ready(save(&shop.context(&timing), revision, change)).unwrap();
    };
    let problem = Problem::new(MARK_UNKNOWN, "Wait.");
    own(OwnerState::Unknown { problem }, 0);
    assert_eq!(shop.look(BILL), "held RECEIPT_MISSING");
    assert!(shop.record(BILL).document.adoption.is_some());
    own(OwnerState::Unguarded, 1);
    assert_eq!(shop.look(BILL), "exported");
}

/// Also of an invoice that is never decided again by itself, because something of it may be in QAD.
#[test]
fn what_is_named_for_one_that_may_be_in_qad_is_looked_up_too() {
    let shop = Shop::with(10, vec![receipt("RC1", 10)], vec![bill(BILL, 10, 10)]);
    assert_eq!(shop.look(BILL), "exported");
    let Loaded { document, revision } = shop.record(BILL);
    let voucher = document.state.voucher().cloned().unwrap();
    let reason = ParkReason::InQad {
        problem: Problem::new("QAD_DUPLICATE_DOCUMENTS", "Reverse one."),
        voucher: None,
    };
    let change = change_at(
        shop.clock.now(),
        &shop.settings,
        &document,
        Event::Parked { reason },
    )
    .unwrap();
    let timing = Timing::default();
    ready(save(&shop.context(&timing), revision, change)).unwrap();
    let other = Voucher {
        number: 999,
        ..voucher.clone()
    };
    shop.name(BILL, &other, None);
    assert_eq!(shop.look(BILL), "parked QAD_DUPLICATE_DOCUMENTS");
    assert!(shop.trail(BILL).contains("QAD_DOCUMENT_NOT_FOUND"));
    assert_eq!(shop.record(BILL).document.look_again, None, "it rests");
    shop.name(BILL, &voucher, None);
    assert_eq!(shop.look(BILL), "exported");
}
