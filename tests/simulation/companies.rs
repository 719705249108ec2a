//! Days of two companies on one connection, in two domains of one QAD tenant: every order, every receiver and every bill of the
//! one has a namesake in the other's books. S21 is checked on QAD's side after every step of every life.

use sandbox::scenario::{company_of, day, of_two_companies};
use sandbox::world::qad::{ENTITIES, ENTITY, OTHER_ENTITY};
use std::collections::BTreeSet;
use tests::harness::{Harness, Setup};
use tests::life::{Life, live_all};

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
    live_all(
        (1..=DAYS).map(|seed| (Life::of_two_companies(seed), of_two_companies(&day(seed)))),
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
