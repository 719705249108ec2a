//! Several runs that begin together, against a Coupa that counts what it is asked.

use super::*;
use crate::ports::{Chance, Clock};
use crate::store::Context;
use domain::coupa_orders::CoupaOrder;
use domain::payments::CoupaPaymentEntry;
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use futures_util::future::{join, join_all, pending};
use futures_util::{FutureExt, pin_mut};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a bill's notes say: at which request it was read.
fn read_at(bill: &CoupaBill) -> &str {
    &bill.entries.first().unwrap().notes
}

/// Coupa, whose every answer is told apart by its number.
#[derive(Default)]
struct Model {
    asked: Mutex<Vec<String>>,
    /// Not shown by a list.
    unlisted: BTreeSet<u64>,
    refused: Option<ReadError>,
    /// The first request never ends.
    hangs: AtomicBool,
}

impl Model {
    fn asked(&self) -> Vec<String> {
        locked(&self.asked).clone()
    }

    fn bill(&self, id: InvoiceId) -> CoupaBill {
        CoupaBill {
            id,
            currency: "USD".parse().unwrap(),
            paid: false,
            payment_channel: None,
            entries: vec![CoupaPaymentEntry {
                amount: rust_decimal::Decimal::ONE,
                date: None,
                notes: format!("request {}", self.asked().len()),
            }],
        }
    }

    /// The look of one run.
    async fn alone(&self, id: InvoiceId) -> Result<Option<CoupaBill>, ReadError> {
        locked(&self.asked).push(format!("alone {id}"));
        Ok(Some(self.bill(id)))
    }
}

#[async_trait]
impl CoupaTogether for Model {
    async fn invoices(&self, _: &[InvoiceId]) -> Result<Vec<Invoice>, ReadError> {
        panic!("bills are asked for")
    }
    async fn coupa_orders(&self, _: &[String]) -> Result<Vec<CoupaOrder>, ReadError> {
        panic!("bills are asked for")
    }
    async fn bills(&self, ids: &[InvoiceId]) -> Result<Vec<CoupaBill>, ReadError> {
        let numbers: Vec<String> = ids.iter().map(ToString::to_string).collect();
        locked(&self.asked).push(format!("together {}", numbers.join(",")));
        tokio::task::yield_now().await;
        if self.hangs.swap(false, Ordering::SeqCst) {
            pending::<()>().await;
        }
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let listed = ids.iter().filter(|id| !self.unlisted.contains(&id.0));
        Ok(listed.map(|id| self.bill(*id)).collect())
    }
}

/// A clock that stands until it is late.
#[derive(Default)]
pub(crate) struct Hands(AtomicBool);

impl Chance for Hands {
    fn token(&self) -> String {
        String::new()
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp(if self.0.load(Ordering::SeqCst) {
            1_000_000
        } else {
            0
        })
    }
    async fn sleep(&self, _: Duration) {}
}

/// Looks with the others, with time enough.
async fn look(model: &Model, seat: &Seat<CoupaBill>, id: u64) -> Result<Option<CoupaBill>, ReadError> {
    look_by(model, seat, id, &Hands::default()).await.unwrap()
}

async fn look_by(
    model: &Model,
    seat: &Seat<CoupaBill>,
    id: u64,
    hands: &Hands,
) -> Result<Result<Option<CoupaBill>, ReadError>, FlowError> {
    let (register, timing) = (
        crate::memory_register::MemoryRegister::default(),
        Timing::default(),
    );
    let context = Context {
        register: &register,
        clock: hands,
        chance: hands,
        timing: &timing,
        deadline: Timestamp(timing.http_millis),
    };
    let id = InvoiceId(id);
    let first_look = FirstLook::of(seat, Some(model));
    first_look.of_document(&context, id, model.alone(id)).await
}

fn seats<const N: usize>() -> [Seat<CoupaBill>; N] {
    let gathering = Arc::default();
    std::array::from_fn(|_| Seat::at(&gathering))
}

fn unavailable() -> ReadError {
    ReadError::Unavailable {
        retry_after: None,
        problem: Problem::new("COUPA_UNAVAILABLE", "Nothing to do."),
    }
}

#[tokio::test]
async fn all_first_looks_of_a_delivery_are_one_request_and_each_gets_its_own() {
    let model = Model::default();
    let [one, two, three] = seats();
    let looks = [
        look(&model, &one, 1),
        look(&model, &two, 2),
        look(&model, &three, 3),
    ];
    let shown = join_all(looks).await;
    assert_eq!(model.asked(), ["together 1,2,3"]);
    for (id, shown) in (1..).zip(shown) {
        assert_eq!(shown.unwrap().unwrap().id, InvoiceId(id));
    }
}

#[tokio::test]
async fn whoever_does_not_look_is_not_waited_for() {
    let model = Model::default();
    let [one, two, ended, writes] = seats();
    let looks = join(look(&model, &one, 1), look(&model, &two, 2));
    pin_mut!(looks);
    assert!((&mut looks).now_or_never().is_none(), "two may still look");
    drop(ended);
    assert!((&mut looks).now_or_never().is_none(), "one may still look");
    FirstLook::of(&writes, Some(&model)).leave();
    let (one, two) = looks.await;
    assert_eq!(model.asked(), ["together 1,2"]);
    assert!(one.is_ok() && two.is_ok());
    drop(writes);
}

#[tokio::test]
async fn the_last_one_left_asks_as_if_it_were_alone() {
    let model = Model::default();
    let [one, two] = seats();
    drop(two);
    look(&model, &one, 1).await.unwrap();
    assert_eq!(model.asked(), ["alone 1"]);
}

#[tokio::test]
async fn a_second_look_is_a_new_one() {
    let model = Model::default();
    let [one, two] = seats();
    let (first, _) = join(look(&model, &one, 1), look(&model, &two, 2)).await;
    assert_eq!(read_at(&first.unwrap().unwrap()), "request 1");
    let again = look(&model, &one, 1).await.unwrap().unwrap();
    assert_eq!(read_at(&again), "request 2");
    assert_eq!(model.asked(), ["together 1,2", "alone 1"]);
}

#[tokio::test]
async fn a_second_look_waits_for_nobody() {
    let model = Model::default();
    let gathering = Arc::default();
    let seat = || Seat::at(&gathering);
    let [one, two] = [seat(), seat()];
    let _ = join(look(&model, &one, 1), look(&model, &two, 2)).await;
    let [_third, _fourth] = [seat(), seat()];
    assert!(look(&model, &one, 1).now_or_never().is_some());
    assert_eq!(model.asked(), ["together 1,2", "alone 1"]);
}

/// The connection does not want it.
#[tokio::test]
async fn where_nobody_is_asked_for_several_each_looks_alone_and_waits_for_nobody() {
    let model = Model::default();
    let [one, _two] = seats();
    let (register, timing) = (
        crate::memory_register::MemoryRegister::default(),
        Timing::default(),
    );
    let hands = Hands::default();
    let context = Context {
        register: &register,
        clock: &hands,
        chance: &hands,
        timing: &timing,
        deadline: Timestamp(timing.http_millis),
    };
    let first_look = FirstLook::of(&one, None);
    let look = first_look.of_document(&context, InvoiceId(1), model.alone(InvoiceId(1)));
    assert!(look.now_or_never().is_some());
    assert_eq!(model.asked(), ["alone 1"]);
}

#[tokio::test]
async fn whoever_begins_when_the_others_have_asked_is_given_no_older_answer() {
    let model = Model::default();
    let gathering = Arc::default();
    let [one, two] = [Seat::at(&gathering), Seat::at(&gathering)];
    let _ = join(look(&model, &one, 1), look(&model, &two, 2)).await;
    let [third, fourth] = [Seat::at(&gathering), Seat::at(&gathering)];
    let (again, _) = join(look(&model, &third, 1), look(&model, &fourth, 4)).await;
    assert_eq!(model.asked(), ["together 1,2", "together 1,4"]);
    assert_eq!(read_at(&again.unwrap().unwrap()), "request 2");
}

#[tokio::test]
async fn what_the_answer_does_not_hold_is_asked_for_alone() {
    let model = Model {
        unlisted: [2].into(),
        ..Model::default()
    };
    let [one, two] = seats();
    let (first, second) = join(look(&model, &one, 1), look(&model, &two, 2)).await;
    assert_eq!(model.asked(), ["together 1,2", "alone 2"]);
    assert!(first.unwrap().is_some());
    assert!(second.unwrap().is_some(), "not shown in a list is not absent");
}

#[tokio::test]
async fn when_the_request_fails_each_asks_alone_and_hears_its_own_answer() {
    let refusal = ReadError::Refused(Problem::new("COUPA_REQUEST_REFUSED", "No such filter."));
    for error in [refusal, unavailable()] {
        let model = Model {
            refused: Some(error),
            ..Model::default()
        };
        let [one, two] = seats();
        let (first, second) = join(look(&model, &one, 1), look(&model, &two, 2)).await;
        let mut asked = model.asked();
        asked.sort_unstable();
        assert_eq!(asked, ["alone 1", "alone 2", "together 1,2"]);
        assert!(first.unwrap().is_some() && second.unwrap().is_some());
    }
}

/// After it no call fits in any more.
#[tokio::test]
async fn a_request_that_has_used_up_the_time_is_the_answer_for_each() {
    let hands = &Hands::default();
    let model = Model {
        refused: Some(unavailable()),
        ..Model::default()
    };
    let [one, two] = seats();
    let looks = join(look_by(&model, &one, 1, hands), look_by(&model, &two, 2, hands));
    pin_mut!(looks);
    assert!((&mut looks).now_or_never().is_none());
    hands.0.store(true, Ordering::SeqCst);
    let (first, second) = looks.await;
    assert_eq!(first.unwrap(), Err(unavailable()));
    assert_eq!(second.unwrap(), Err(unavailable()));
    assert_eq!(model.asked(), ["together 1,2"]);
}

/// The other one has done something else for so long that no call fits in any more.
#[tokio::test]
async fn whoever_has_waited_too_long_for_the_others_begins_nothing() {
    for joins in [false, true] {
        let hands = &Hands::default();
        let model = Model::default();
        let [one, two] = seats();
        let waits = look_by(&model, &one, 1, hands);
        pin_mut!(waits);
        assert!((&mut waits).now_or_never().is_none());
        hands.0.store(true, Ordering::SeqCst);
        if joins {
            assert_eq!(look_by(&model, &two, 2, hands).await, Err(FlowError::OutOfTime));
        }
        drop(two);
        assert_eq!(waits.await, Err(FlowError::OutOfTime));
        assert!(model.asked().is_empty());
    }
}

#[tokio::test]
async fn when_the_one_who_asks_dies_the_next_one_asks() {
    let model = Model {
        hangs: AtomicBool::new(true),
        ..Model::default()
    };
    let [one, two] = seats();
    let other = look(&model, &two, 2);
    pin_mut!(other);
    assert!((&mut other).now_or_never().is_none(), "waits for the first");
    {
        let dies = look(&model, &one, 1);
        pin_mut!(dies);
        for _ in 0..3 {
            assert!((&mut dies).now_or_never().is_none(), "asks for both");
        }
        assert_eq!(model.asked(), ["together 2,1"]);
    }
    assert!(other.await.unwrap().is_some());
    assert_eq!(model.asked(), ["together 2,1"; 2]);
}

#[test]
fn what_is_read_in_a_delivery_is_shared_by_one_connection_and_by_it_alone() {
    let (acme, plant): (ConnectionId, ConnectionId) = ("acme".parse().unwrap(), "plant".parse().unwrap());
    let reads = DeliveryReads::default();
    let first = reads.of("delivery-1", &acme);
    assert!(Arc::ptr_eq(&first, &reads.of("delivery-1", &acme)));
    assert!(!Arc::ptr_eq(&first, &reads.of("delivery-1", &plant)));
    assert!(Arc::ptr_eq(&first, &reads.of("delivery-1", &acme)));
    assert!(!Arc::ptr_eq(&first, &reads.of("delivery-2", &acme)));
}
