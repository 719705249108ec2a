//! Lines that go to the general ledger because of what Coupa's order says.

use crate::coupa_orders::asked;
use crate::preemptions;
use domain::ids::InvoiceId;
use domain::policy::{CodedField, Coding, OnLine, OnOrderOnlyInCoupa};
use flows::ports::HintReason;
use rust_decimal::Decimal;
use sandbox::scenario::{CoupaOrderChange, Place};
use sandbox::world::World;
use sandbox::world::coupa::CoupaInvoice;
use tests::harness::{BEGINNING, Harness, Job, Setup, every_order};
use tests::small::{INVOICE, ORDER, OTHER, invoice, order, world};

fn coded(id: InvoiceId, quantity: u32, price: u32) -> CoupaInvoice {
    let mut bill = invoice(id, ORDER, quantity);
    bill.lines[0].price = Decimal::from(price);
    let account = serde_json::json!({ "id": 1, "code": "6100" });
    bill.lines[0].overrides.insert("account".to_owned(), account);
    bill
}

fn setup(change: impl FnOnce(&mut domain::policy::LinePolicy)) -> Setup {
    let mut setup = Setup::default();
    setup.settings.policy.coding = Some(Coding {
        gl_account: CodedField {
            field: "code".to_owned(),
            map: Default::default(),
        },
        sub_account: None,
        cost_center: None,
        project: None,
    });
    change(&mut setup.settings.policy.lines);
    setup
}

/// A service: one of it is ordered for 10 000, and forty hours at 50 are billed; Coupa wants no receipt.
fn service() -> World {
    let mut service = order(ORDER, 1);
    service.lines[0].unit_price = sandbox::world::qad::Exact(Decimal::from(10_000));
    let mut world = world(vec![service], Vec::new(), vec![coded(INVOICE, 40, 50)]);
    CoupaOrderChange::two_way(ORDER).apply(&mut world, BEGINNING);
    world
}

#[test]
fn a_two_way_line_goes_to_the_ledger_also_where_the_match_would_park_it() {
    let mut run = Harness::new(service(), &setup(|lines| lines.without_receipt = OnLine::Gl));
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(asked(&run, "orders.list"), 1);
    let world = run.sim.world();
    assert!(world.qad.invoices[0].record.receiver_matchings.is_empty());
}

#[test]
fn whoever_sends_no_line_elsewhere_asks_coupa_nothing_about_what_is_parked() {
    let mut run = Harness::new(service(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "parked", 0);
    assert_eq!(asked(&run, "orders.list"), 0);
}

/// An order that only Coupa has, of which it has received sixty.
fn only_in_coupa(bills: Vec<CoupaInvoice>) -> World {
    let mut world = world(vec![order(ORDER, 200)], Vec::new(), bills);
    world.qad.orders.clear();
    let received = CoupaOrderChange {
        order: ORDER.to_owned(),
        place: Place::Lines("received"),
        value: "60".into(),
    };
    received.apply(&mut world, BEGINNING);
    world
}

#[test]
fn what_coupa_alone_has_received_is_posted_once_in_whatever_order() {
    let schedules = every_order(
        preemptions(2),
        || {
            let bills = vec![coded(INVOICE, 60, 10), coded(OTHER, 60, 10)];
            let setup = setup(|lines| lines.order_only_in_coupa = OnOrderOnlyInCoupa::Gl);
            let mut run = Harness::new(only_in_coupa(bills), &setup);
            run.spawn(Job::Match(INVOICE, HintReason::Webhook));
            run.spawn(Job::Match(OTHER, HintReason::Webhook));
            run
        },
        |mut run| {
            run.heal();
            run.recheck();
            let mut standing = [run.standing(INVOICE), run.standing(OTHER)];
            standing.sort();
            assert_eq!(standing[0].0, "exported", "{}", run.story());
            assert_eq!(
                standing[1],
                ("held".to_owned(), vec!["ORDER_NOT_FOUND".to_owned()])
            );
            assert_eq!(run.sim.world().qad.invoices.len(), 1);
        },
    );
    assert!(schedules > 20, "{schedules}");
}

#[test]
fn the_rest_of_what_coupa_has_received_is_the_next_invoices() {
    let bills = vec![coded(INVOICE, 20, 10), coded(OTHER, 40, 10)];
    let setup = setup(|lines| lines.order_only_in_coupa = OnOrderOnlyInCoupa::Gl);
    let mut run = Harness::new(only_in_coupa(bills), &setup);
    for id in [INVOICE, OTHER] {
        run.run(Job::Match(id, HintReason::Webhook));
        run.assert_stands(id, "exported", 1);
    }
}
