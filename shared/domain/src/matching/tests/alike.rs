//! The same bill under another number.

use super::*;
use crate::matching::alike::{BillAlike, near_texts};

/// Numbered `3856/GST23-24` in entity 10USACO, dated 2026-03-05; another one of ours is `03856/GST23-24`.
fn near() -> (Case, BillAlike) {
    let mut case = Case::invoice();
    case.invoice.reference = "3856/GST23-24".parse().unwrap();
    case.invoice.invoice_date = "2026-03-05".parse().unwrap();
    let other = BillAlike {
        invoice: InvoiceId(case.invoice.id.0 + 1),
        entity: case.policy.entity.clone(),
        reference: "03856/GST23-24".parse().unwrap(),
        invoice_date: "2026-03-05".parse().unwrap(),
    };
    (case, other)
}

fn verdict(mut case: Case, other: BillAlike) -> String {
    case.alike = vec![other];
    case.verdict()
}

#[test]
fn a_number_that_only_looks_different_is_for_a_person() {
    let (case, other) = near();
    assert_eq!(verdict(case.clone(), other.clone()), "park NEAR_DUPLICATE");
    // Held is no excuse: it is told at once.
    let mut held = case.clone();
    held.receipts.clear();
    assert_eq!(
        verdict(held, other.clone()),
        "park NEAR_DUPLICATE RECEIPT_MISSING"
    );
    // Any entity, also with the very number: the claim on the identity is of one entity.
    let mut elsewhere = other.clone();
    elsewhere.entity = "20GERCO".parse().unwrap();
    assert_eq!(verdict(case.clone(), elsewhere.clone()), "park NEAR_DUPLICATE");
    elsewhere.reference = case.invoice.reference.clone();
    assert_eq!(verdict(case, elsewhere), "park NEAR_DUPLICATE");
}

#[test]
fn what_is_not_near_is_in_nobodys_way() {
    let (case, other) = near();
    let changed = |change: fn(&mut BillAlike)| {
        let mut other = other.clone();
        change(&mut other);
        verdict(case.clone(), other)
    };
    assert_eq!(
        changed(|other| other.reference = "3857/GST23-24".parse().unwrap()),
        "approve"
    );
    assert_eq!(
        changed(|other| other.invoice = InvoiceId(other.invoice.0 - 1)),
        "approve",
        "itself"
    );
    assert_eq!(
        changed(|other| other.reference = "3856/gst23-24".parse().unwrap()),
        "approve",
        "an equal number is the claim's to find"
    );
    let mut nothing = case.clone();
    nothing.invoice.reference = "---".parse().unwrap();
    let mut bare = other.clone();
    bare.reference = "--".parse().unwrap();
    assert_eq!(verdict(nothing, bare), "approve");
}

#[test]
fn near_bills_are_at_most_180_days_apart_either_way() {
    let (case, other) = near();
    for (date, expected) in [
        ("2026-09-01", "park NEAR_DUPLICATE"),
        ("2026-09-02", "approve"),
        ("2025-09-06", "park NEAR_DUPLICATE"),
        ("2025-09-05", "approve"),
    ] {
        let mut other = other.clone();
        other.invoice_date = date.parse().unwrap();
        assert_eq!(verdict(case.clone(), other), expected, "{date}");
    }
}

#[test]
fn a_person_may_say_that_it_is_another_bill() {
    let (mut case, other) = near();
    case.alike = vec![other];
    let told = verdict_exceptions(&case.decide().verdict).to_vec();
    let accepting = |case: &Case| decide_accepting(&case.input(), &told).verdict;
    assert!(matches!(accepting(&case), Verdict::Approve { .. }));
    case.alike[0].invoice = InvoiceId(1);
    assert!(
        matches!(accepting(&case), Verdict::Park { .. }),
        "a third bill is another question"
    );
}

#[test]
fn bills_are_found_by_supplier_kind_currency_total_and_number() {
    let (case, _) = near();
    let supplier: SupplierCode = "10S1001".parse().unwrap();
    let texts = |change: fn(&mut Invoice)| {
        let mut invoice = case.invoice.clone();
        invoice.supplier.coupa_id = Some(7);
        change(&mut invoice);
        near_texts(&invoice, &supplier)
    };
    let own = texts(|_| {});
    assert_eq!(own.len(), 2, "by Coupa's supplier and by QAD's");
    assert_eq!(
        texts(|invoice| invoice.reference = "03856GST2324".parse().unwrap()),
        own
    );
    assert_eq!(texts(|invoice| invoice.total.rescale(6)), own);
    let others: [fn(&mut Invoice); 4] = [
        |invoice| invoice.reference = "3856/GST24-25".parse().unwrap(),
        |invoice| invoice.total = d("1000.01"),
        |invoice| invoice.currency = "EUR".parse().unwrap(),
        |invoice| invoice.kind = DocumentKind::CreditNote,
    ];
    for other in others {
        assert!(texts(other).iter().all(|text| !own.contains(text)));
    }
    assert_eq!(texts(|invoice| invoice.supplier.coupa_id = None), own[1..]);
    assert!(texts(|invoice| invoice.reference = "--".parse().unwrap()).is_empty());
}

#[test]
fn a_number_that_another_invoice_has_is_a_persons_at_once_whatever_was_received() {
    let with = |change: fn(&mut Case), posted_in: Option<u32>| {
        let mut case = Case::invoice();
        change(&mut case);
        case.same_number = Some(SameNumber {
            invoice: crate::ids::Holder::own(InvoiceId(7)),
            posted_in,
        });
        case
    };
    let all: fn(&mut Case) = |_| ();
    let nothing: fn(&mut Case) = |case| case.receipts.clear();
    for posted_in in [None, Some(2026)] {
        assert_eq!(with(all, posted_in).verdict(), "park DUPLICATE_REFERENCE");
        assert_eq!(
            with(nothing, posted_in).verdict(),
            "park DUPLICATE_REFERENCE RECEIPT_MISSING"
        );
    }
    let code = ExceptionCode::DuplicateReferenceOtherYear;
    assert_eq!(with(all, Some(2025)).verdict(), format!("park {}", code.as_str()));
    // It is posted this year when its books are no longer open.
    let january: fn(&mut Case) = |case| case.invoice.invoice_date = "2025-12-30".parse().unwrap();
    assert_eq!(with(january, Some(2025)).verdict(), "park DUPLICATE_REFERENCE");
    let closed: fn(&mut Case) = |case| {
        case.invoice.invoice_date = "2025-12-30".parse().unwrap();
        case.policy.first_open_day = Some("2026-01-01".parse().unwrap());
    };
    let late = with(closed, Some(2025));
    assert_eq!(late.verdict(), format!("park {}", code.as_str()));
    // Only last year's is a person's to release.
    let Verdict::Park { exceptions } = late.decide().verdict else {
        panic!()
    };
    let Verdict::Approve { draft } = decide_accepting(&late.input(), &exceptions).verdict else {
        panic!()
    };
    assert!(draft.is_twin);
    assert!(!ExceptionCode::DuplicateReference.is_releasable());
    assert!(!Case::invoice().draft().is_twin);
}
