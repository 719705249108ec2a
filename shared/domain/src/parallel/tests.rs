//! Every field differs once, and once looks different and is the same.

use super::*;
use crate::matching::tests::{Case, d, receipt};
use crate::matching::{AdditionalCost, Verdict};

const ID: InvoiceId = InvoiceId(92_010);

/// 60 of receiver RC1 at 12.50, freight of 5.00 to 6100 in cost center 300, terms N30.
fn draft() -> SupplierInvoiceDraft {
    let mut draft = match Case::invoice().decide().verdict {
        Verdict::Approve { draft } => *draft,
        other => panic!("{other:?}"),
    };
    draft.coupa_id = ID;
    draft.credit_terms = Some("N30".parse().unwrap());
    draft.matches = vec![part("RC1", 1, "60", "12.50")];
    draft.costs = vec![cost("6100", "300", "5.00")];
    draft
}

fn part(receiver: &str, line: u32, quantity: &str, price: &str) -> ReceiverMatch {
    ReceiverMatch {
        order_line: OrderLineKey {
            order: "PO1".parse().unwrap(),
            line,
        },
        receiver: receiver.parse().unwrap(),
        quantity: d(quantity),
        unit_price: d(price),
        finished: false,
    }
}

fn cost(account: &str, cost_center: &str, amount: &str) -> AdditionalCost {
    AdditionalCost {
        gl_account: account.parse().unwrap(),
        sub_account: String::new(),
        cost_center: cost_center.to_owned(),
        project: String::new(),
        amount: d(amount),
        description: "Freight".to_owned(),
    }
}

/// The same, keyed by a clerk.
fn keyed() -> KeyedInvoice {
    let draft = draft();
    KeyedInvoice {
        voucher: None,
        identity: draft.identity,
        currency: draft.currency,
        total: draft.total,
        description: "from paper".to_owned(),
        invoice_date: Some(draft.invoice_date),
        posting_date: Some(draft.posting_date),
        tax: Some(draft.tax),
        credit_terms: Some("N30".to_owned()),
        matches: Some(draft.matches),
        costs: Some(draft.costs),
    }
}

fn compared(change: impl Fn(&mut KeyedInvoice)) -> Comparison {
    let mut theirs = keyed();
    change(&mut theirs);
    compare(&draft(), &theirs, false)
}

/// The one field, whatever it is of, ours and theirs.
fn difference(change: impl Fn(&mut KeyedInvoice)) -> (Field, String, String, String) {
    let found = compared(change);
    assert_eq!(found.not_compared, BTreeSet::new());
    let [one] = found.differences.as_slice() else {
        panic!("one difference, not {:?}", found.differences);
    };
    let one = one.clone();
    (one.field, one.of, one.ours, one.theirs)
}

fn told(field: Field, of: &str, ours: &str, theirs: &str) -> (Field, String, String, String) {
    (field, of.to_owned(), ours.to_owned(), theirs.to_owned())
}

#[track_caller]
fn same(change: impl Fn(&mut KeyedInvoice)) {
    assert_eq!(compared(change), Comparison::default());
}

#[test]
fn what_is_the_same_shows_no_difference_and_leaves_nothing_out() {
    same(|_| {});
}

#[test]
fn a_document_has_each_of_its_codes_once() {
    assert_eq!(
        difference(|theirs| theirs.identity.entity = "20EUCO".parse().unwrap()),
        told(Field::Entity, "", "10USACO", "20EUCO")
    );
    same(|theirs| theirs.identity.entity = " 10usaco ".parse().unwrap());
    let supplier = draft().identity.supplier.to_string();
    assert_eq!(
        difference(|theirs| theirs.identity.supplier = "OTHER".parse().unwrap()),
        told(Field::Supplier, "", &supplier, "OTHER")
    );
    same(|theirs| theirs.identity.supplier = supplier.to_lowercase().parse().unwrap());
    let reference = draft().identity.reference.to_string();
    let other = format!("{reference}-2");
    assert_eq!(
        difference(|theirs| theirs.identity.reference = other.parse().unwrap()),
        told(Field::Reference, "", &reference, &other)
    );
    same(|theirs| theirs.identity.reference = reference.to_lowercase().parse().unwrap());
    assert_eq!(
        difference(|theirs| theirs.currency = "EUR".parse().unwrap()),
        told(Field::Currency, "", "USD", "EUR")
    );
    assert_eq!(
        difference(|theirs| theirs.credit_terms = Some("N60".to_owned())),
        told(Field::CreditTerms, "", "N30", "N60")
    );
    assert_eq!(
        difference(|theirs| theirs.credit_terms = Some(String::new())),
        told(Field::CreditTerms, "", "N30", "")
    );
    same(|theirs| theirs.credit_terms = Some(" n30".to_owned()));
}

#[test]
fn a_day_and_a_cent_are_a_difference() {
    let day = draft().invoice_date.to_string();
    assert_eq!(
        difference(|theirs| theirs.invoice_date = Some("2025-12-31".parse().unwrap())),
        told(Field::InvoiceDate, "", &day, "2025-12-31")
    );
    let day = draft().posting_date.to_string();
    assert_eq!(
        difference(|theirs| theirs.posting_date = Some("2025-12-31".parse().unwrap())),
        told(Field::PostingDate, "", &day, "2025-12-31")
    );
    let (total, tax) = (draft().total, draft().tax);
    let cent = d("0.01");
    assert_eq!(
        difference(|theirs| theirs.total = total + cent),
        told(
            Field::Total,
            "",
            &total.normalize().to_string(),
            &(total + cent).normalize().to_string()
        )
    );
    same(|theirs| theirs.total = total + d("0.000"));
    assert_eq!(
        difference(|theirs| theirs.tax = Some(tax + cent)),
        told(
            Field::Tax,
            "",
            &tax.normalize().to_string(),
            &(tax + cent).normalize().to_string()
        )
    );
    same(|theirs| theirs.tax = Some(tax + d("0.000")));
}

#[test]
fn receivers_are_compared_by_line_quantity_and_price() {
    let of = "RC1 of PO1 line 1";
    let with =
        |parts: Vec<ReceiverMatch>| move |theirs: &mut KeyedInvoice| theirs.matches = Some(parts.clone());
    assert_eq!(
        difference(with(vec![part("RC1", 1, "59", "12.50")])),
        told(Field::Receiver, of, "60 at 12.5", "59 at 12.5")
    );
    assert_eq!(
        difference(with(vec![part("RC1", 1, "60", "12.51")])),
        told(Field::Receiver, of, "60 at 12.5", "60 at 12.51")
    );
    assert_eq!(
        difference(with(vec![])),
        told(Field::Receiver, of, "60 at 12.5", "")
    );
    assert_eq!(
        difference(with(vec![
            part("RC1", 1, "60", "12.50"),
            part("RC2", 1, "1", "12.50")
        ])),
        told(Field::Receiver, "RC2 of PO1 line 1", "", "1 at 12.5")
    );
    // Another line of the order is another receiver line: one side lacks it, the other has it.
    assert_eq!(
        compared(with(vec![part("RC1", 2, "60", "12.50")]))
            .differences
            .len(),
        2
    );
    // In two parts it is the same, however they are written.
    same(with(vec![
        part("rc1", 1, "20", "12.5"),
        part("RC1", 1, "40.00", "12.500"),
        part("RC9", 1, "0", "1"),
    ]));
}

#[test]
fn costs_are_compared_by_account_and_amount() {
    let with =
        |costs: Vec<AdditionalCost>| move |theirs: &mut KeyedInvoice| theirs.costs = Some(costs.clone());
    let of = "account 6100, cost center 300";
    assert_eq!(
        difference(with(vec![cost("6100", "300", "5.01")])),
        told(Field::AdditionalCost, of, "5", "5.01")
    );
    assert_eq!(difference(with(vec![])), told(Field::AdditionalCost, of, "5", ""));
    for other in [cost("6200", "300", "5.00"), cost("6100", "400", "5.00")] {
        assert_eq!(compared(with(vec![other])).differences.len(), 2);
    }
    let project = AdditionalCost {
        project: "P1".to_owned(),
        ..cost("6100", "300", "5.00")
    };
    let sub_account = AdditionalCost {
        sub_account: "01".to_owned(),
        ..cost("6100", "300", "5.00")
    };
    for other in [project, sub_account] {
        assert_eq!(compared(with(vec![other])).differences.len(), 2);
    }
    // What it is called is for people; nothing is no cost; two parts are one.
    same(with(vec![
        AdditionalCost {
            description: "carriage".to_owned(),
            ..cost("6100", "300", "2.00")
        },
        cost("6100", "300", "3.000"),
        cost("7000", "", "0.00"),
    ]));
}

#[test]
fn what_one_of_the_two_does_not_say_is_named_and_not_taken_for_equal() {
    let found = compared(|theirs| {
        theirs.invoice_date = None;
        theirs.posting_date = None;
        theirs.tax = None;
        theirs.credit_terms = None;
        theirs.matches = None;
        theirs.costs = None;
    });
    assert_eq!(found.differences, []);
    let all = [
        Field::InvoiceDate,
        Field::PostingDate,
        Field::Tax,
        Field::CreditTerms,
        Field::Receiver,
        Field::AdditionalCost,
    ];
    assert_eq!(found.not_compared, BTreeSet::from(all));
    // The supplier's own terms, and the day it is matched: neither is ours to say.
    let mut ours = draft();
    ours.credit_terms = None;
    ours.posting_date = "2026-12-31".parse().unwrap();
    let found = compare(&ours, &keyed(), true);
    assert_eq!(found.differences, []);
    assert_eq!(
        found.not_compared,
        BTreeSet::from([Field::PostingDate, Field::CreditTerms])
    );
}

#[test]
fn every_outcome_has_its_word() {
    let word = |ours: Option<&SupplierInvoiceDraft>, keyed: &[KeyedInvoice]| {
        let outcome = judge(ours, keyed, false);
        (outcome.word(), outcome.is_difference())
    };
    let ours = draft();
    let other = KeyedInvoice {
        total: d("1"),
        ..keyed()
    };
    assert_eq!(word(Some(&ours), &[keyed()]), ("same", false));
    assert_eq!(word(Some(&ours), &[other]), ("differs", true));
    assert_eq!(word(Some(&ours), &[]), ("not-keyed", true));
    assert_eq!(word(None, &[keyed()]), ("would-not-post", true));
    assert_eq!(word(None, &[]), ("neither", false));
    let of_us = |id: &str| KeyedInvoice {
        description: format!("Coupa {id}"),
        total: d("1"),
        ..keyed()
    };
    assert!(is_posted_by_us(&[of_us("92010")], "acme", ID));
    assert!(is_posted_by_us(&[of_us("acme/92010")], "acme", ID));
    for other in ["92011", "other/92010"] {
        assert!(!is_posted_by_us(&[of_us(other)], "acme", ID), "{other}");
    }
    assert_eq!(word(Some(&ours), &[of_us("92011")]), ("differs", true));
    // The same bill twice is a difference, also when each of the two is as it should be.
    let twice = judge(Some(&ours), &[keyed(), keyed()], false);
    let found = twice.comparison().unwrap();
    assert_eq!(found.differences[0].field, Field::Documents);
    assert_eq!(found.differences[0].theirs, "without number, without number");
}

#[test]
fn what_was_keyed_is_open_again_and_what_others_keyed_is_not() {
    let shown = |received: &str, vouchered: &str, closed: bool, parts: Vec<ReceiverMatch>| {
        let mut one = receipt("RC1", "PO1", 1, received, "2026-03-01");
        one.vouchered = d(vouchered);
        one.closed = closed;
        let document = KeyedInvoice {
            matches: Some(parts),
            ..keyed()
        };
        let found = without(vec![one], &[document]);
        (found[0].vouchered.normalize().to_string(), found[0].closed)
    };
    let last = |quantity: &str| ReceiverMatch {
        finished: true,
        ..part("rc1", 1, quantity, "12.50")
    };
    let open = |text: &str, closed: bool| (text.to_owned(), closed);
    assert_eq!(shown("100", "100", true, vec![last("60")]), open("40", false));
    // Another document closed it after this one had taken its part; or this one took another line.
    assert_eq!(
        shown("100", "100", true, vec![part("RC1", 1, "60", "12.50")]),
        open("40", false)
    );
    assert_eq!(
        shown("100", "60", true, vec![part("RC1", 2, "60", "12.50")]),
        open("60", true)
    );
    assert_eq!(
        shown("100", "60", false, vec![part("RC2", 1, "60", "12.50")]),
        open("60", false)
    );
    // A return, credited; and a receipt of which a credit note took something back.
    assert_eq!(shown("-40", "-40", false, vec![last("-40")]), open("0", false));
    assert_eq!(
        shown("100", "0", false, vec![part("RC1", 1, "-60", "12.50")]),
        open("60", false)
    );
    // QAD shows less than was keyed: no more is open than was received.
    assert_eq!(shown("100", "50", false, vec![last("60")]), open("0", false));
    let unknown = KeyedInvoice {
        matches: None,
        ..keyed()
    };
    let one = receipt("RC1", "PO1", 1, "100", "2026-03-01");
    assert_eq!(without(vec![one.clone()], &[unknown]), [one]);
}

#[test]
fn what_would_have_been_posted_is_taken_in_its_own_domain() {
    let shown = |change: &dyn Fn(&mut SupplierInvoiceDraft)| {
        let mut posted = draft();
        change(&mut posted);
        let one = receipt("RC1", "PO1", 1, "100", "2026-03-01");
        let found = with(vec![one], &[posted]);
        (found[0].vouchered.normalize().to_string(), found[0].closed)
    };
    let taken = |text: &str, closed: bool| (text.to_owned(), closed);
    assert_eq!(shown(&|_| {}), taken("60", false));
    assert_eq!(
        shown(&|draft| draft.matches[0].finished = true),
        taken("60", true)
    );
    assert_eq!(
        shown(&|draft| draft.domain = "20GER".parse().unwrap()),
        taken("0", false)
    );
    assert_eq!(
        shown(&|draft| draft.matches = vec![part("RC1", 2, "60", "12.50")]),
        taken("0", false)
    );
}
