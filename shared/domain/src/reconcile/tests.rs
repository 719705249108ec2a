use super::*;
use crate::documents::InvoiceParticulars;
use crate::ids::DocumentKind;
use crate::lifecycle::{PostedHow, Summary, Voucher};
use crate::payments::{PaymentKey, PaymentStatus, Written};

fn voucher(number: u64) -> Voucher {
    Voucher {
        year: 2026,
        daybook: "SI".into(),
        number,
    }
}

fn document(number: u64, total: i64) -> QadDocument {
    QadDocument {
        voucher: Some(voucher(number)),
        identity: QadInvoiceIdentity {
            entity: "10USACO".parse().unwrap(),
            supplier: "10S1001".parse().unwrap(),
            reference: "A".parse().unwrap(),
            kind: DocumentKind::Invoice,
        },
        currency: "USD".parse().unwrap(),
        total: Decimal::from(total),
        description: "Coupa 7".into(),
    }
}

/// Invoice 7 over 100, posted as 7 and exported.
fn exported() -> InvoiceRecord {
    let approved = Event::Approved {
        identity: String::new(),
        request_sha256: String::new(),
        tolerance_version: String::new(),
        coupa_orders: vec![],
    };
    let posted = Event::Posted {
        voucher: voucher(7),
        how: PostedHow::Created,
    };
    let mut record = InvoiceRecord::new(InvoiceId(7), Timestamp(0));
    record.summary = Some(Summary {
        reference: "A".parse().unwrap(),
        kind: DocumentKind::Invoice,
        supplier_name: "Example Castings".into(),
        supplier_number: Some("10S1001".into()),
        invoice_date: "2026-03-05".parse().unwrap(),
        total: Decimal::from(100),
        currency: "USD".parse().unwrap(),
        orders: vec![],
        particulars: InvoiceParticulars::default(),
    });
    for event in [approved, posted, Event::Exported] {
        record = record.after(&event, Timestamp(0)).unwrap();
    }
    record
}

fn kinds(record: &InvoiceRecord, documents: &[QadDocument]) -> Vec<(&'static str, bool)> {
    let found = judge(record, documents, None);
    let found = found.iter();
    found.map(|found| (found.kind.word(), found.explained)).collect()
}

#[test]
fn every_difference_has_its_name() {
    let posted = exported();
    assert_eq!(kinds(&posted, &[document(7, 100)]), []);
    assert_eq!(kinds(&posted, &[]), [("missing-in-qad", false)]);
    assert_eq!(kinds(&posted, &[document(7, 101)]), [("amount-differs", false)]);
    let mut rounded_by_qad = posted.clone();
    rounded_by_qad.posted_total = Some(Decimal::from(101));
    for (total, explained) in [(101, true), (102, false)] {
        assert_eq!(
            kinds(&rounded_by_qad, &[document(7, total)]),
            [("amount-differs", explained)]
        );
    }
    // The very same figure in another currency is no rounding.
    let in_pesos = QadDocument {
        currency: "MXN".parse().unwrap(),
        ..document(7, 101)
    };
    assert_eq!(kinds(&rounded_by_qad, &[in_pesos]), [("amount-differs", false)]);
    assert_eq!(kinds(&posted, &[document(8, 100)]), [("voucher-differs", false)]);
    assert_eq!(
        kinds(&posted, &[document(7, 100), document(8, 100)]),
        [("two-in-qad", false)]
    );
    let held = Event::Held {
        exceptions: vec![],
        awaits: vec![],
        tolerance_version: String::new(),
    };
    let held = InvoiceRecord::new(InvoiceId(8), Timestamp(0))
        .after(&held, Timestamp(0))
        .unwrap();
    assert_eq!(kinds(&held, &[]), [("waits-for-qad", true)]);
    assert_eq!(kinds(&held, &[document(1, 1)]), [("in-qad-not-by-us", false)]);
}

#[test]
fn a_document_is_explained_by_a_code_about_its_own_identity_alone() {
    let parked = |problem: &str| {
        let reason = ParkReason::Problem {
            problem: Problem::new(problem, ""),
        };
        InvoiceRecord::new(InvoiceId(8), Timestamp(0))
            .after(&Event::Parked { reason }, Timestamp(0))
            .unwrap()
    };
    for code in FOUND_IN_QAD {
        assert_eq!(
            kinds(&parked(code), &[document(1, 1)]),
            [("waits-for-a-person", true)],
            "{code}"
        );
    }
    for code in ["NEAR_DUPLICATE", "PRICE_OVER_TOLERANCE"] {
        assert_eq!(
            kinds(&parked(code), &[document(1, 1)]),
            [("in-qad-not-by-us", false)],
            "{code}"
        );
        assert_eq!(
            kinds(&parked(code), &[]),
            [("waits-for-a-person", true)],
            "{code}"
        );
    }
}

#[test]
fn another_total_is_explained_by_who_accepted_it_and_by_no_later_one() {
    let adopted = [Event::Adopted {
        voucher: voucher(7),
        instruction: Instruction::new("kim", "freight was keyed on top").unwrap(),
        difference: "101 USD in QAD, 100 USD in Coupa".to_owned(),
    }];
    let by = |document| accepted(&adopted, &document).map(|instruction| instruction.by.as_str());
    assert_eq!(by(document(7, 101)), Some("kim"));
    assert_eq!(by(document(7, 102)), None);
    assert_eq!(by(document(8, 101)), None);
    let documents = [document(7, 101)];
    let found = with_people(judge(&exported(), &documents, None), &documents, &adopted);
    assert!(
        found[0].explained
            && found[0]
                .what
                .ends_with("accepted by kim: freight was keyed on top")
    );
}

#[test]
fn a_flag_that_was_reset_shows() {
    let found = judge(&exported(), &[document(7, 100)], Some(&CoupaStatus::Approved));
    assert_eq!(
        found.first().map(|found| found.kind),
        Some(Kind::ExportedFlagMissing)
    );
    assert_eq!(judge_listing(&exported(), Some(&CoupaStatus::Voided)), None);
    assert_eq!(judge_listing(&exported(), None), None);
}

#[test]
fn what_coupa_lists_and_nobody_knows_is_strange_after_an_hour() {
    let at = |millis| {
        let now = Timestamp(millis);
        only_in_coupa(InvoiceId(7), &CoupaStatus::Approved, Timestamp(0), now).explained
    };
    assert!(at(UNKNOWN_MILLIS_MAX - 1));
    assert!(!at(UNKNOWN_MILLIS_MAX));
}

#[test]
fn a_payment_that_nobody_has_taken_in_is_unexplained() {
    let found = judge_payment(&exported(), None, &[paid(1, 60, "USD")]).unwrap();
    assert_eq!((found.kind, found.explained), (Kind::PaidInQadNotInCoupa, false));
    assert_eq!(found.amount, "60", "what was paid, not what is owed");
}

fn paid(number: u32, amount: i64, currency: &str) -> Allocation {
    let entity = "10USACO".parse().unwrap();
    Allocation {
        key: PaymentKey::new(&entity, 2026, "ACH", &number.to_string(), "1").unwrap(),
        invoice: document(7, 100).identity,
        status: PaymentStatus::Paid,
        currency: currency.parse().unwrap(),
        payment_date: "2026-04-03".parse().unwrap(),
        last_modified: "2026-04-03".parse().unwrap(),
        reference: String::new(),
        allocated: Decimal::from(amount),
        discount: Decimal::ZERO,
        in_invoice_currency: None,
        voucher: None,
    }
}

/// The bill over 1000, of which Coupa shows this of each allocation.
fn bill(currency: &str, shown: &[(&Allocation, i64)]) -> BillPayments {
    let mut bill = BillPayments::new(InvoiceId(7), Decimal::from(1000), currency.parse().unwrap());
    for (allocation, amount) in shown {
        bill = bill.reading((*allocation).clone()).unwrap();
        let state = bill.allocations.get_mut(&allocation.key).unwrap();
        state.by_balance = Some(Decimal::from(*amount));
        (state.written, state.written_amount) = (Written::Paid, Decimal::from(*amount));
    }
    bill
}

#[test]
fn a_payment_is_compared_in_the_currency_of_the_bill() {
    let mut in_euro = exported();
    in_euro.summary.as_mut().unwrap().currency = "EUR".parse().unwrap();
    let mut dollars = paid(1, 1085, "USD");
    // Taken in dollars: what it was in euros only the balance tells.
    dollars.discount = Decimal::TEN;
    let shown = bill("EUR", &[(&dollars, 1000)]);
    assert_eq!(judge_payment(&in_euro, Some(&shown), &[dollars.clone()]), None);
    let nothing = bill("EUR", &[]);
    let found = judge_payment(&in_euro, Some(&nothing), &[dollars.clone()]).unwrap();
    assert_eq!((found.kind, found.explained), (Kind::PaidInQadNotInCoupa, false));
    assert_eq!((found.amount.as_str(), found.currency.as_str()), ("1095", "USD"));
    // Where QAD has a column for it, that is what it is.
    dollars.in_invoice_currency = Some(Decimal::from(990));
    let found = judge_payment(&in_euro, Some(&shown), &[dollars]).unwrap();
    assert_eq!((found.amount.as_str(), found.currency.as_str()), ("990", "EUR"));
}

#[test]
fn each_payment_is_looked_for_and_no_other_one_stands_for_it() {
    let (first, second) = (paid(1, 500, "USD"), paid(2, 60, "USD"));
    let shown = bill("USD", &[(&first, 500)]);
    let judged = |paid: &[Allocation]| judge_payment(&exported(), Some(&shown), paid);
    assert_eq!(judged(std::slice::from_ref(&first)), None);
    let found = judged(std::slice::from_ref(&second)).unwrap();
    assert_eq!(found.kind, Kind::PaidInQadNotInCoupa);
    assert_eq!(
        found.what,
        format!("500 USD shown in Coupa, and not {}", second.key)
    );
    let discounted = Allocation {
        discount: Decimal::ONE,
        ..first
    };
    assert!(judged(&[discounted]).is_some());
}

#[test]
fn every_kind_is_stored_and_told_under_one_word() {
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
    }
}
