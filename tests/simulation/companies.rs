//! Days of two companies on one connection, in two domains of one QAD tenant: every order, every receiver and every bill of the
//! one has a namesake in the other's books. S21 is checked on QAD's side after every step of every life.

use domain::time::Timestamp;
use flows::ports::HintReason;
use sandbox::scenario::{CHARTS, STRANGERS_CHART, Step};
use sandbox::scenario::{company_of, day, of_a_stranger, of_two_companies};
use sandbox::world::World;
use sandbox::world::coupa::CoupaInvoice;
use sandbox::world::qad::{ENTITIES, ENTITY, OTHER_ENTITY};
use std::collections::BTreeSet;
use tests::harness::{Harness, Job, Setup};
use tests::life::{Life, live_all};
use tests::small::INVOICE;

/// Days in an ordinary test run; each has almost twice the invoices of a day.
const DAYS: u64 = 4;

/// What must have happened in them.
const MARKS: [&str; 4] = [
    "create confirmed",
    "create unknown",
    "payment confirmed",
    "worker died",
];

#[test]
fn two_companies_whose_numbers_are_the_same_never_meet() {
    let stories = |seed| {
        let mut stories = of_two_companies(&day(seed));
        stories.extend(of_a_stranger(&day(seed)));
        stories
    };
    live_all(
        (1..=DAYS).map(|seed| (Life::of_two_companies(seed), stories(seed))),
        &MARKS,
    );
}

/// The lives above prove something only where the numbers are the same in both.
#[test]
fn the_two_companies_share_every_number() {
    let stories = of_two_companies(&day(1));
    let in_domain = |wanted: &str| -> BTreeSet<String> {
        let orders = stories.iter().flat_map(|story| &story.orders);
        let named = orders.filter(|order| order.domain == wanted);
        named.map(|order| order.number.clone()).collect()
    };
    let [first, other] = ENTITIES.map(|(_, domain)| in_domain(domain));
    assert!(other.len() > 40, "{}", other.len());
    assert!(other.is_subset(&first));
    let of_other = stories
        .iter()
        .flat_map(|story| &story.invoices)
        .filter(|invoice| company_of(invoice).0 == OTHER_ENTITY);
    let bills: BTreeSet<&str> = stories
        .iter()
        .flat_map(|story| &story.invoices)
        .filter(|invoice| company_of(invoice).0 != OTHER_ENTITY)
        .map(|invoice| invoice.number.as_str())
        .collect();
    for invoice in of_other {
        assert!(bills.contains(invoice.number.as_str()), "{}", invoice.number);
    }
}

/// Some of a stranger's bills are approved, and some end up voided: both would be marked exported.
#[test]
fn a_strangers_bills_are_like_ours() {
    let strangers = of_a_stranger(&day(1));
    let steps = || strangers.iter().flat_map(|story| &story.steps);
    assert!(steps().any(|step| matches!(step, Step::Void(_))));
    assert!(steps().any(|step| matches!(step, Step::SendEvent { .. })));
    let approved = |invoice: &&CoupaInvoice| invoice.status == "approved" && !invoice.exported;
    let invoices = strangers.iter().flat_map(|story| &story.invoices);
    assert!(invoices.filter(approved).count() > 2);
}

/// The flag, a payment, and a document in QAD: each is seen at the next step.
#[test]
fn whatever_is_written_of_a_strangers_bill_is_seen() {
    type Write = fn(&mut World, Timestamp);
    let writes: [(&str, Write); 4] = [
        ("nothing", |_, _| ()),
        ("the flag", |world, _| stranger(world).exported = true),
        ("paid", |world, _| stranger(world).paid = true),
        ("a document", |world, now| {
            world.qad.keyed_by_hand(tests::small::posted(INVOICE), now);
        }),
    ];
    for (what, write) in writes {
        let setup = Setup::default().with_entities();
        let run = Harness::new(of_stranger(), &setup).collecting();
        let now = run.sim.now();
        write(&mut run.sim.world(), now);
        tests::invariants::check_world(&run.sim);
        let found = run.violations();
        let expected = usize::from(what != "nothing");
        assert!(
            found.len() == expected && found.iter().all(|one| one.starts_with("S21")),
            "{what}: {found:?}"
        );
    }
}

fn stranger(world: &mut World) -> &mut CoupaInvoice {
    world.coupa.invoices.get_mut(&INVOICE.0).unwrap()
}

/// A bill of ours in every respect, but for its chart of accounts.
fn of_stranger() -> World {
    let mut begin = tests::small::straight_through();
    let chart = serde_json::json!({ "name": STRANGERS_CHART });
    stranger(&mut begin)
        .overrides
        .insert("account-type".to_owned(), chart);
    begin
}

/// A stranger's bill is heard of.
pub(crate) fn of_no_entity() -> Option<String> {
    heard_of(of_stranger())
}

/// A bill of the second company is heard of, the order of which is in the first one's books too.
pub(crate) fn of_the_other_company() -> Option<String> {
    let mut begin = tests::small::straight_through();
    let chart = serde_json::json!({ "name": CHARTS[1] });
    stranger(&mut begin)
        .overrides
        .insert("account-type".to_owned(), chart);
    heard_of(begin)
}

fn heard_of(begin: World) -> Option<String> {
    crate::guards::first_schedule(
        1,
        || {
            let mut run = Harness::new(begin.clone(), &Setup::default().with_entities());
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run
        },
        |_| None,
    )
}

#[test]
fn a_strangers_bill_and_another_companys_are_where_they_belong() {
    assert_eq!((of_no_entity(), of_the_other_company()), (None, None));
}

/// A document that is put into the other company's books is seen at the next step.
#[test]
fn a_bill_in_the_other_companys_books_is_seen() {
    let found_with = |entity: &str| {
        let setup = Setup::default().with_entities();
        let run = Harness::new(tests::small::straight_through(), &setup).collecting();
        let mut record = tests::small::posted(tests::small::INVOICE);
        record.entity_code = entity.to_owned();
        let now = run.sim.now();
        run.sim.world().qad.keyed_by_hand(record, now);
        tests::invariants::check_world(&run.sim);
        run.violations()
    };
    assert_eq!(found_with(ENTITY), Vec::<String>::new());
    let found = found_with(OTHER_ENTITY);
    assert!(found.len() == 1 && found[0].starts_with("S21"), "{found:?}");
}
