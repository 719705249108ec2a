//! Invoices that somebody else pays, or nobody; whom QAD pays; the smallest unit that Coupa counts in.

use super::*;
use crate::documents::RemitTo;
use crate::policy::{OnNotPayable, OnUnknownRemitTo, Payee};

/// Everything at once that says that QAD does not pay it.
fn paid_by_everybody() -> Case {
    let mut case = Case::invoice();
    let terms = &mut case.invoice.terms;
    terms.canceled = true;
    terms.paid = true;
    terms.payment_channel = Some("Coupa Pay Virtual Card".to_owned());
    terms.advance_received = Some(d("50"));
    terms.agreement_notes = Some("Paid by card".to_owned());
    case
}

#[test]
fn what_says_that_qad_does_not_pay_is_a_persons_by_default_and_all_of_it_is_told() {
    assert_eq!(
        paid_by_everybody().verdict(),
        "park CANCELED_IN_COUPA PAID_ELSEWHERE PAID_ELSEWHERE PREPAID PREPAID"
    );
    type Mark = fn(&mut Case);
    let single: [(&str, Mark); 5] = [
        ("CANCELED_IN_COUPA", |case| case.invoice.terms.canceled = true),
        ("PAID_ELSEWHERE", |case| case.invoice.terms.paid = true),
        ("PAID_ELSEWHERE", |case| {
            case.invoice.terms.payment_channel = Some("Coupa Pay Invoice Payment".to_owned());
        }),
        ("PREPAID", |case| {
            case.invoice.terms.advance_received = Some(d("0.01"))
        }),
        ("PREPAID", |case| {
            case.invoice.terms.agreement_notes = Some("already paid".to_owned());
        }),
    ];
    for (code, mark) in single {
        let mut case = Case::invoice();
        mark(&mut case);
        assert_eq!(case.verdict(), format!("park {code}"));
    }
}

#[test]
fn what_says_nothing_about_the_payment_is_in_nobodys_way() {
    let mut case = Case::invoice();
    case.invoice.terms.payment_channel = Some(" erp".to_owned());
    case.invoice.terms.agreement_notes = Some("to be paid net 30, not paid yet".to_owned());
    assert_eq!(case.verdict(), "approve");
}

#[test]
fn each_of_them_has_a_setting_of_its_own() {
    let mut case = paid_by_everybody();
    case.policy.not_payable.locked_status = "AP-LOCKED".to_owned();
    case.policy.not_payable.when_canceled = OnNotPayable::Post;
    case.policy.not_payable.when_paid = OnNotPayable::Post;
    case.policy.not_payable.when_other_channel = OnNotPayable::PostLocked;
    assert_eq!(case.verdict(), "park PREPAID PREPAID");
    case.policy.not_payable.when_prepaid = OnNotPayable::Post;
    assert_eq!(case.draft().invoice_status, "AP-LOCKED");
    assert!(case.draft().locked);
    case.policy.not_payable.when_other_channel = OnNotPayable::Post;
    assert_eq!(case.draft().invoice_status, "AP-RMALLOC");
    case.policy.not_payable.own_channels = vec!["coupa pay virtual card".to_owned()];
    case.policy.not_payable.when_other_channel = OnNotPayable::Park;
    assert_eq!(case.verdict(), "approve");
}

#[test]
fn a_credit_note_posts_whoever_pays() {
    let mut case = Case::credit_note();
    case.invoice.terms = paid_by_everybody().invoice.terms;
    assert_eq!(case.verdict(), "approve");
}

#[test]
fn a_person_may_have_qad_pay_it_all_the_same() {
    let case = paid_by_everybody();
    let told = verdict_exceptions(&case.decide().verdict).to_vec();
    assert!(matches!(
        decide_accepting(&case.input(), &told).verdict,
        Verdict::Approve { .. }
    ));
}

fn remit(code: &str, reference: &str) -> Case {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut case = Case::invoice();
    case.invoice.terms.remit_to = Some(RemitTo {
        code: filled(code),
        reference: filled(reference),
    });
    case.policy.remit_to.codes = [
        (
            "FACTOR-1".to_owned(),
            Payee::PayingSupplier("10S9001".parse().unwrap()),
        ),
        ("BANK-2".to_owned(), Payee::BankNumber("2".to_owned())),
    ]
    .into();
    case
}

#[test]
fn the_address_it_is_to_be_paid_at_leads_to_the_supplier_to_somebody_known_or_to_a_person() {
    let factor = Some(Payee::PayingSupplier("10S9001".parse().unwrap()));
    let bank = Some(Payee::BankNumber("2".to_owned()));
    for (code, reference, payee) in [
        ("", "", None),
        ("BANK-2", "10s1001 ", None),
        ("", "factor-1", factor.clone()),
        ("BANK-2", "FACTOR-1", factor),
        ("BANK-2", "", bank),
        ("HEAD-OFFICE", "", None),
    ] {
        assert_eq!(
            remit(code, reference).draft().payee,
            payee,
            "{code:?} {reference:?}"
        );
    }
    // The supplier's number in Coupa, which a map turns into QAD's.
    let mut mapped = remit("BANK-2", "v-100");
    mapped.invoice.supplier.also = vec!["V-100".to_owned()];
    assert_eq!(mapped.draft().payee, None);
    let mut unknown = remit("BANK-2", "S00999");
    assert_eq!(unknown.verdict(), "park REMIT_TO_NOT_MAPPED");
    unknown.policy.remit_to.unknown = OnUnknownRemitTo::Ignore;
    assert_eq!(unknown.draft().payee, None);
}

#[test]
fn coupas_own_count_of_digits_decides_what_a_difference_is() {
    let mut case = Case::invoice();
    case.order_line().unit_price = d("33.50");
    case.bill(vec![line(1, "3", "33.50", "PO1", 1)]);
    case.invoice.currency = "HUF".parse().unwrap();
    case.order().currency = "HUF".parse().unwrap();
    case.invoice.lines[0].total = d("101");
    case.invoice.total = d("101");
    assert_eq!(case.verdict(), "park TOTALS_DISAGREE LINE_CONTRADICTS_ITSELF");
    case.invoice.terms.minor_digits = Some(0);
    assert_eq!(case.draft().total, d("101"));
    // The connection's own count comes before Coupa's, and before ISO's where Coupa says nothing.
    let huf = case.invoice.currency;
    case.policy.minor_units = [(huf, 2)].into();
    assert_eq!(case.verdict(), "park TOTALS_DISAGREE LINE_CONTRADICTS_ITSELF");
    case.invoice.terms.minor_digits = None;
    case.policy.minor_units = [(huf, 0), ("EUR".parse().unwrap(), 4)].into();
    assert_eq!(case.draft().total, d("101"));
}

#[test]
fn amounts_are_rounded_only_where_they_are_sent() {
    let mut case = Case::invoice();
    case.order_line().unit_price = d("0.333333333333");
    case.bill(vec![line(1, "3", "0.333333333333", "PO1", 1)]);
    case.invoice.lines[0].total = d("0.999999999999");
    case.invoice.total = d("1.00");
    let draft = case.draft();
    assert_eq!(
        (draft.total, draft.matches[0].unit_price),
        (d("1"), d("0.333333333333"))
    );
}
