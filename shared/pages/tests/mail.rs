//! The mail of a day: what it says, that it tells no names, that it costs the same whatever the register holds, and that there are
//! never two of one day, nor none without a word.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test may say so by panicking"
)]

use async_trait::async_trait;
use domain::documents::InvoiceParticulars;
use domain::ids::{DocumentKind, InvoiceId, OrderLineKey};
use domain::lifecycle::{Event, InvoiceRecord, ParkReason, PostedHow, State, Summary, Voucher};
use domain::matching::{Exception, ExceptionCode};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use domain::timing::Timing;
use flows::daily_mail::{self, Mail, Mailed, Mailer};
use flows::ports::{Chance, Clock, StoreError, WriteError};
use flows::store::{Change, Context, FlowError, save};
use pages::PlantClock;
use pages::mail::{About, of_day};
use rust_decimal::Decimal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tests::memory_register::MemoryRegister;

/// 1 December 2025, 00:30 in Berlin, which is still November in UTC.
const NOW: Timestamp = Timestamp(1_764_545_400_000);

/// Time, chance, and a post office that answers what it was told to.
#[derive(Default)]
struct Fakes {
    now: AtomicI64,
    tokens: AtomicU64,
    answers: Mutex<Vec<Result<(), WriteError>>>,
    sent: Mutex<Vec<Mail>>,
}

#[async_trait]
impl Clock for Fakes {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
    async fn sleep(&self, _: Duration) {}
}

impl Chance for Fakes {
    fn token(&self) -> String {
        format!("token-{}", self.tokens.fetch_add(1, Ordering::Relaxed))
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

#[async_trait]
impl Mailer for Fakes {
    async fn send(&self, mail: &Mail) -> Result<(), WriteError> {
        self.sent.lock().unwrap().push(mail.clone());
        self.answers.lock().unwrap().pop().unwrap_or(Ok(()))
    }
}

fn summary(id: u64, total: i64, currency: &str) -> Summary {
    Summary {
        reference: format!("INV-{id}").parse().unwrap(),
        kind: DocumentKind::Invoice,
        supplier_name: "Example Castings".to_owned(),
        supplier_number: None,
        invoice_date: "2025-11-05".parse().unwrap(),
        total: Decimal::from(total),
        currency: currency.parse().unwrap(),
        orders: vec![],
        particulars: InvoiceParticulars::default(),
    }
}

struct World {
    fakes: Fakes,
    register: MemoryRegister,
    timing: Timing,
}

impl World {
    fn new() -> Self {
        let fakes = Fakes::default();
        fakes.now.store(NOW.0, Ordering::Relaxed);
        Self {
            fakes,
            register: MemoryRegister::new(),
            timing: Timing::default(),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            register: &self.register,
            clock: &self.fakes,
            chance: &self.fakes,
            timing: &self.timing,
            deadline: Timestamp(i64::MAX),
        }
    }

    async fn put(&self, id: u64, total: i64, currency: &str, event: Event) {
        let since = NOW.plus_millis(-3 * 86_400_000);
        let mut record = InvoiceRecord::new(InvoiceId(id), since);
        record.summary = Some(summary(id, total, currency));
        let change = Change {
            document: record.after(&event, since).unwrap(),
            events: vec![event],
            writes: vec![],
        };
        save(&self.context(), 0, change).await.unwrap();
    }

    /// In QAD since the day before.
    async fn post(&self, id: u64, total: i64) {
        let since = NOW.plus_millis(-86_400_000);
        let mut record = InvoiceRecord::new(InvoiceId(id), since);
        record.summary = Some(summary(id, total, "USD"));
        record.state = State::Exported {
            voucher: Voucher {
                year: 2025,
                daybook: "SI".to_owned(),
                number: id,
            },
            how: PostedHow::Created,
        };
        let change = Change::<InvoiceRecord, Event> {
            document: record,
            events: vec![],
            writes: vec![],
        };
        save(&self.context(), 0, change).await.unwrap();
    }

    async fn mail(&self) -> Mail {
        let clock = PlantClock::new("Europe/Berlin").unwrap();
        let about = About {
            connection: "acme",
            page: "https://page.example",
        };
        of_day(&self.register, about, &clock, NOW).await.unwrap()
    }

    async fn run(&self, day: &str) -> Result<Mailed, FlowError> {
        let day: Date = day.parse().unwrap();
        let compose = async || Ok(self.mail().await);
        daily_mail::run(&self.context(), &self.fakes, day, compose).await
    }

    fn answer(&self, answer: Result<(), WriteError>) {
        self.fakes.answers.lock().unwrap().push(answer);
    }

    fn sent(&self) -> usize {
        self.fakes.sent.lock().unwrap().len()
    }
}

fn exception(code: ExceptionCode) -> Vec<Exception> {
    vec![Exception {
        code,
        line: Some(1),
        order_line: None,
        expected: String::new(),
        actual: String::new(),
        limit: String::new(),
    }]
}

fn parked(code: ExceptionCode) -> Event {
    Event::Parked {
        reason: ParkReason::Match {
            exceptions: exception(code),
        },
    }
}

fn held() -> Event {
    Event::Held {
        exceptions: exception(ExceptionCode::ReceiptMissing),
        awaits: vec![OrderLineKey {
            order: "PO1".parse().unwrap(),
            line: 1,
        }],
        tolerance_version: "1".to_owned(),
    }
}

async fn day(world: &World) {
    world
        .put(1, 1_296, "USD", parked(ExceptionCode::PriceOverTolerance))
        .await;
    world
        .put(2, 100, "EUR", parked(ExceptionCode::PriceOverTolerance))
        .await;
    world
        .put(3, 16_500, "JPY", parked(ExceptionCode::SupplierNotLinked))
        .await;
    world.put(4, 840, "USD", held()).await;
    world.post(5, 1_000).await;
    world.post(6, 500).await;
}

#[tokio::test]
async fn it_says_what_the_first_page_says() {
    let world = World::new();
    day(&world).await;
    let full = world.mail().await;
    let empty = World::new().mail().await;
    for mail in [&full, &empty] {
        let text = format!("{}\n{}", mail.subject, mail.text);
        for name in ["Example Castings", "INV-1", "PO1"] {
            assert!(!text.contains(name), "{name} in {text}");
        }
    }
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("mail", format!("Subject: {}\n\n{}", full.subject, full.text));
        insta::assert_snapshot!("mail_of_nothing", format!("Subject: {}\n\n{}", empty.subject, empty.text));
    });
}

#[tokio::test]
async fn it_costs_the_same_whatever_the_register_holds() {
    let world = World::new();
    let mut costs = Vec::new();
    let mut known = 0;
    for size in [100, 5_000] {
        for id in known..size {
            world.put(id + 1, 7, "USD", held()).await;
        }
        known = size;
        let before = world.register.reads();
        world.mail().await;
        costs.push(world.register.reads() - before);
    }
    assert_eq!(costs, [5, 5]);
}

#[tokio::test]
async fn there_is_one_mail_a_day_and_one_the_next() {
    let world = World::new();
    for (day, outcome) in [
        ("2025-12-01", Mailed::Now),
        ("2025-12-01", Mailed::Before),
        ("2025-12-02", Mailed::Now),
        // A clock that went back says nothing new.
        ("2025-12-01", Mailed::Before),
    ] {
        assert_eq!(world.run(day).await.unwrap(), outcome, "{day}");
    }
    assert_eq!(world.sent(), 2);
}

#[tokio::test]
async fn what_was_refused_is_told_and_tried_again_and_what_may_have_been_sent_is_told_and_is_not() {
    let problem = || Problem::new("SES_REFUSED", "fix");
    let world = World::new();
    let not_applied = WriteError::NotApplied {
        retry_after: None,
        problem: problem(),
    };
    for refusal in [WriteError::Refused(problem()), not_applied] {
        world.answer(Err(refusal));
        assert_eq!(
            world.run("2025-12-01").await.unwrap_err().problem().code,
            "SES_REFUSED"
        );
    }
    assert_eq!(world.run("2025-12-01").await.unwrap(), Mailed::Now);
    assert_eq!(world.sent(), 3);

    world.answer(Err(WriteError::Unknown(Problem::new("SES_UNAVAILABLE", "fix"))));
    assert_eq!(
        world.run("2025-12-02").await.unwrap_err().problem().code,
        "SES_UNAVAILABLE"
    );
    assert_eq!(world.run("2025-12-02").await.unwrap(), Mailed::Before);
    assert_eq!(world.sent(), 4, "it may be there already");
}

/// Two begin at once: while the one composes, the other sends.
#[tokio::test]
async fn two_that_begin_at_once_send_one() {
    let world = World::new();
    let day: Date = "2025-12-01".parse().unwrap();
    let compose = async || {
        assert_eq!(world.run("2025-12-01").await.unwrap(), Mailed::Now);
        Ok(world.mail().await)
    };
    let second = daily_mail::run(&world.context(), &world.fakes, day, compose).await;
    assert_eq!(second.unwrap(), Mailed::Before);
    assert_eq!(world.sent(), 1);
}

#[tokio::test]
async fn without_time_left_or_without_figures_nothing_is_begun() {
    let world = World::new();
    let day: Date = "2025-12-01".parse().unwrap();
    let late = Context {
        deadline: NOW,
        ..world.context()
    };
    let compose = async || Ok(world.mail().await);
    let error = daily_mail::run(&late, &world.fakes, day, compose)
        .await
        .unwrap_err();
    assert!(matches!(error, FlowError::OutOfTime), "{error}");
    let blind = async || {
        Err(FlowError::Store(StoreError(Problem::new(
            "REGISTER_UNAVAILABLE",
            "",
        ))))
    };
    assert!(
        daily_mail::run(&world.context(), &world.fakes, day, blind)
            .await
            .is_err()
    );
    assert_eq!(world.sent(), 0);
    assert_eq!(
        world.run("2025-12-01").await.unwrap(),
        Mailed::Now,
        "and so it goes out later"
    );
}
