//! An order that moves in QAD while invoices wait for its goods: cancelled, made dearer, given to another vendor. Nothing tells
//! of it, so orders are read again, each once for all that wait.

use domain::ids::InvoiceId;
use flows::poll_orders::ORDERS_PER_RUN_MAX;
use flows::ports::HintReason;
use rust_decimal::Decimal;
use sandbox::world::World;
use sandbox::world::qad::{Exact, QadOrder};
use tests::harness::{Ended, Harness, Job, ORDER_RECHECK_MILLIS, SWEEP_MILLIS, Setup};
use tests::small::{INVOICE, ORDER, invoice, order, without_receipt, world};

/// The slow recheck comes once a day, so that it is not what notices.
fn setup() -> Setup {
    let mut setup = Setup::default();
    setup.settings.recheck_millis = 86_400_000;
    setup
}

fn held() -> Harness {
    let mut run = Harness::new(without_receipt(), &setup());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).1, ["RECEIPT_MISSING"]);
    run
}

fn an_hour_later(run: &Harness) {
    run.sim.advance_to(run.sim.now().0 + ORDER_RECHECK_MILLIS);
}

fn change(run: &Harness, number: &str, change: impl Fn(&mut QadOrder)) {
    let mut world = run.sim.world();
    let orders = world.qad.orders.values_mut();
    orders.filter(|order| order.number == number).for_each(change);
}

/// How many invoices a run wakes, and how many calls it makes.
fn poll(run: &mut Harness) -> (u64, usize) {
    let calls = |run: &Harness| run.sim.ports.journal.lock().unwrap().entries().count();
    let before = calls(run);
    let Some(Ended::Polled(Ok(woken))) = run.run(Job::PollOrders) else {
        panic!("the poll gave no answer")
    };
    (woken, calls(run) - before)
}

#[test]
fn an_order_that_moves_while_an_invoice_is_held_is_noticed_within_the_order_recheck() {
    type Change = fn(&mut QadOrder);
    let changes: [(Change, &str); 3] = [
        (
            |order| order.lines[0].status = "x".to_owned(),
            "ORDER_LINE_CANCELLED",
        ),
        (
            |order| order.lines[0].unit_price = Exact(Decimal::from(90)),
            "PRICE_UNDER_TOLERANCE",
        ),
        (|order| order.supplier = "S9999".to_owned(), "SUPPLIER_DIFFERS"),
    ];
    for (moves, code) in changes {
        let mut run = held();
        assert_eq!(poll(&mut run), (0, 1), "nothing has moved");
        change(&run, ORDER, moves);
        assert_eq!(poll(&mut run), (0, 0), "until the next round nothing is asked");
        an_hour_later(&run);
        assert_eq!(poll(&mut run), (1, 1));
        run.deliver_all();
        let codes = run.standing(INVOICE).1;
        assert!(codes.contains(&code.to_owned()), "{codes:?} without {code}");
        an_hour_later(&run);
        assert_eq!(poll(&mut run), (0, 1), "decided on what it is like now");
    }
}

/// The message is lost: the register knows it, and the sweep brings it.
#[test]
fn a_lost_message_about_a_moved_order_is_made_up_for_by_the_sweep() {
    let mut run = held();
    poll(&mut run);
    change(&run, ORDER, |order| order.lines[0].status = "x".to_owned());
    an_hour_later(&run);
    assert_eq!(poll(&mut run).0, 1);
    run.sim.shared().queue.clear();
    run.sim.advance_to(run.sim.now().0 + 3 * SWEEP_MILLIS);
    run.run(Job::Sweep);
    run.deliver_all();
    assert!(
        run.standing(INVOICE)
            .1
            .contains(&"ORDER_LINE_CANCELLED".to_owned()),
        "{}",
        run.story()
    );
}

fn waiting(orders: Vec<QadOrder>, invoices: impl Iterator<Item = (u64, String)>) -> Harness {
    let billed: Vec<(InvoiceId, String)> = invoices.map(|(id, order)| (InvoiceId(id), order)).collect();
    let begin: World = world(
        orders,
        vec![],
        billed.iter().map(|(id, order)| invoice(*id, order, 1)).collect(),
    );
    let mut run = Harness::new(begin, &setup());
    for (id, _) in &billed {
        run.run(Job::Match(*id, HintReason::Webhook));
        assert_eq!(run.standing(*id).1, ["RECEIPT_MISSING"]);
    }
    run
}

#[test]
fn an_order_is_asked_for_once_however_many_invoices_wait_for_it() {
    let mut run = waiting(
        vec![order(ORDER, 100)],
        (7_001..7_021).map(|id| (id, ORDER.to_owned())),
    );
    assert_eq!(poll(&mut run), (0, 1));
    change(&run, ORDER, |order| order.lines[0].status = "x".to_owned());
    an_hour_later(&run);
    assert_eq!(poll(&mut run), (20, 1));
}

/// One more than a run asks for: the next run goes on, and the round is over.
#[test]
fn more_orders_than_a_run_asks_for_are_gone_on_with() {
    let numbers = |index: u64| format!("PO{}", 1_000 + index);
    let count = ORDERS_PER_RUN_MAX as u64 + 1;
    let orders = (0..count).map(|index| order(&numbers(index), 10)).collect();
    let mut run = waiting(orders, (0..count).map(|index| (7_001 + index, numbers(index))));
    change(&run, &numbers(count - 1), |order| {
        order.lines[0].status = "x".to_owned()
    });
    assert_eq!(poll(&mut run), (0, ORDERS_PER_RUN_MAX));
    assert_eq!(poll(&mut run), (1, 1), "the last of them");
    assert_eq!(poll(&mut run), (0, 0), "the round is over");
}
