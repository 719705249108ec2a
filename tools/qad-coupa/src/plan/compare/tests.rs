//! A simulated day of which clerks keyed what would have been posted, and then something else.

use super::*;
use crate::doctor::tests::Bench;
use crate::plan::tests::Untouchable;
use domain::parallel::Field;
use flows::ports::Qad;
use rust_decimal::Decimal;
use sandbox::world::qad::{Exact, SupplierInvoice};

struct Day {
    bench: Bench,
    systems: Systems,
    register: Untouchable,
    timing: Timing,
}

impl Day {
    async fn new() -> Self {
        let bench = Bench::full().await;
        let systems = bench.plain();
        Self {
            bench,
            systems,
            register: Untouchable(Vec::new()),
            timing: Timing::default(),
        }
    }

    async fn found(&self) -> Found {
        self.comparing().find(all()).await.unwrap()
    }

    fn comparing(&self) -> Comparing<'_> {
        let home = self.systems.document.home(&"acme".parse().unwrap());
        Comparing::of(&self.systems, home, &self.register, &self.timing)
    }

    /// Clerks key all that would have been posted and that QAD takes, in the order of the invoices.
    async fn all_keyed(&self) -> Vec<InvoiceId> {
        let comparing = self.comparing();
        let found = comparing.find(all()).await.unwrap();
        let mut keyed = Vec::new();
        for one in found
            .compared
            .iter()
            .filter(|one| one.outcome == Outcome::NotKeyed)
        {
            let draft = comparing.readers.draft(one.invoice.id).unwrap();
            if self
                .systems
                .qad
                .create_invoice(&draft, "by a clerk")
                .await
                .is_ok()
            {
                keyed.push(one.invoice.id);
            }
        }
        let mut world = self.bench.simulators.world.lock().unwrap();
        for document in &mut world.qad.invoices {
            document.record.description = "from paper".to_owned();
        }
        keyed
    }

    /// Changes the document that was keyed last.
    fn change_last(&self, change: impl Fn(&mut SupplierInvoice)) {
        let mut world = self.bench.simulators.world.lock().unwrap();
        change(world.qad.invoices.last_mut().unwrap());
    }
}

fn all() -> Period {
    Period::new("2020-01-01".parse().unwrap(), "2030-12-31".parse().unwrap()).unwrap()
}

fn word_of(found: &Found, id: InvoiceId) -> &'static str {
    let one = found.compared.iter().find(|one| one.invoice.id == id);
    one.map_or("not there", |one| one.outcome.word())
}

/// What each of them keyed has taken from the receipts is open for its own invoice again, and for no other.
#[tokio::test]
async fn what_clerks_keyed_as_it_would_have_been_posted_is_the_same() {
    let day = Day::new().await;
    let keyed = day.all_keyed().await;
    assert!(keyed.len() > 20, "{}", keyed.len());
    let found = day.found().await;
    for id in &keyed {
        let one = found.compared.iter().find(|one| one.invoice.id == *id).unwrap();
        assert_eq!(one.outcome.word(), "same", "{one:?}");
    }
    // The exported flag is somebody else's by then: it changes nothing.
    {
        let mut world = day.bench.simulators.world.lock().unwrap();
        for id in &keyed {
            world.coupa.invoices.get_mut(&id.0).unwrap().exported = true;
        }
    }
    let found = day.found().await;
    for id in keyed {
        assert_eq!(word_of(&found, id), "same");
    }
}

/// Two bills of one receiver: what the first would have reserved is what QAD shows as invoiced, and counts once; the second has
/// closed the receiver, and it was open for the first.
#[tokio::test]
async fn two_bills_of_one_receiver_are_each_the_same() {
    let day = Day::new().await;
    let first = {
        let found = day.found().await;
        let alone = |one: &&Compared| one.outcome == Outcome::NotKeyed && one.invoice.lines.len() == 1;
        found.compared.iter().find(alone).unwrap().invoice.id
    };
    let second = InvoiceId(99_999);
    {
        let mut world = day.bench.simulators.world.lock().unwrap();
        let one = world.coupa.invoices.get_mut(&first.0).unwrap();
        let quantity = one.lines[0].quantity.unwrap();
        one.lines[0].quantity = Some(quantity * Decimal::new(6, 1));
        let mut other = one.clone();
        other.id = second.0;
        other.number = "ANOTHER-BILL".to_owned();
        other.lines[0].quantity = Some(quantity * Decimal::new(4, 1));
        world.coupa.add_invoice(other, SystemClock.now());
    }
    let keyed = day.all_keyed().await;
    assert!(keyed.contains(&first) && keyed.contains(&second), "{keyed:?}");
    let found = day.found().await;
    assert_eq!(
        (word_of(&found, first), word_of(&found, second)),
        ("same", "same")
    );
}

#[tokio::test]
async fn what_was_keyed_otherwise_is_named_field_by_field() {
    let day = Day::new().await;
    let last = *day.all_keyed().await.last().unwrap();
    day.change_last(|document| {
        document.record.total_amount = Exact(document.record.total_amount.0 + Decimal::ONE);
        document.record.invoice_date = "2026-01-01T00:00:00.000Z".to_owned();
    });
    let found = day.found().await;
    let one = found.compared.iter().find(|one| one.invoice.id == last).unwrap();
    let fields: Vec<Field> = one
        .outcome
        .comparison()
        .unwrap()
        .differences
        .iter()
        .map(|found| found.field)
        .collect();
    assert_eq!(fields, [Field::InvoiceDate, Field::Total]);
    assert!(found.differences() > 0);
    let csv = by_difference(&found).to_csv();
    let rows = csv
        .lines()
        .filter(|line| line.starts_with(&format!("differs,{last},")));
    assert_eq!(rows.count(), 2, "{csv}");
}

/// A clerk's number with a blank in it is another number for QAD: told, with the invoice that it is perhaps.
#[tokio::test]
async fn what_no_invoice_explains_is_told_with_the_one_that_it_may_be() {
    let day = Day::new().await;
    let last = *day.all_keyed().await.last().unwrap();
    day.change_last(|document| {
        let number = document.record.supplier_invoice_reference.replace('-', " ");
        document.record.supplier_invoice_reference = number;
    });
    let found = day.found().await;
    assert_eq!(word_of(&found, last), "neither");
    let [other] = found.only_in_qad() else {
        panic!("{:?}", found.only_in_qad);
    };
    assert_eq!(other.perhaps, [last]);
    // Of another month it is none of this period's.
    day.change_last(|document| document.record.invoice_date = "2019-12-31T00:00:00.000Z".to_owned());
    assert_eq!(day.found().await.only_in_qad().len(), 0);
}

/// What this product posted itself is not compared with itself.
#[tokio::test]
async fn what_was_posted_by_this_product_is_not_compared() {
    let day = Day::new().await;
    let last = *day.all_keyed().await.last().unwrap();
    day.change_last(|document| document.record.description = domain::mark::of("", last));
    assert_eq!(word_of(&day.found().await, last), "posted-by-us");
}

#[test]
fn a_period_that_ends_before_it_begins_is_a_mistake() {
    let day = |text: &str| text.parse::<Date>().unwrap();
    assert!(Period::new(day("2026-03-02"), day("2026-03-01")).is_err());
    assert!(Period::new(day("2026-03-01"), day("2026-03-01")).is_ok());
}
