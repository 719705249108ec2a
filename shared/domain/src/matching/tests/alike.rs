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
