//! A backlog of two thousand invoices against Coupa's own limit: how much of it is used, and whether it is ever exceeded. On tokio's
//! paused clock: nobody waits, and the same comes of it each time.

#![allow(
    clippy::arithmetic_side_effects,
    reason = "small numbers of a test; an overflow there is a failing test"
)]

use crate::http::pace::{Pace, Paces};
use ::domain::time::Timestamp;
use flows::pace::{MemoryPaces, PaceStore};
use futures_util::future::join_all;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const INVOICES: u64 = 2_000;
/// Of a delivery.
const RECORDS: u64 = 10;
/// As many functions work at once as a stack allows by default.
const INSTANCES: u32 = 5;
/// Coupa's documented limit: so many a second, so many at once.
const COUPA_PER_SECOND: u32 = 25;
const COUPA_AT_ONCE: i64 = 20;
/// More than QAD is needed for.
const QAD_PER_SECOND: u32 = 100;
/// How long either system takes to answer.
const ANSWER: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

/// Coupa's bucket: when it is full again, and how many requests found it empty.
#[derive(Default)]
struct Coupa {
    full_at: Mutex<i64>,
    requests: AtomicU64,
    refused: AtomicU64,
}

impl Coupa {
    fn hear(&self, now: Timestamp) {
        let interval = 1_000_000 / i64::from(COUPA_PER_SECOND);
        let mut full_at = self.full_at.lock().unwrap();
        let begun = now.0 * 1_000;
        self.requests.fetch_add(1, Ordering::Relaxed);
        if *full_at - begun > interval * (COUPA_AT_ONCE - 1) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        *full_at = begun.max(*full_at) + interval;
    }
}

struct Instance<'a> {
    begun: Instant,
    coupa: &'a Coupa,
    of_coupa: Arc<Pace>,
    of_qad: Arc<Pace>,
}

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's paused clock is the time of this test"
)]
impl Instance<'_> {
    fn now(&self) -> Timestamp {
        let millis = self.begun.elapsed().as_millis();
        Timestamp(1_000_000 + i64::try_from(millis).unwrap())
    }

    async fn turn(&self, pace: &Pace) {
        let wait = pace.admit(self.now(), PATIENCE).await.unwrap();
        tokio::time::sleep(wait).await;
    }

    async fn ask_coupa(&self) {
        self.turn(&self.of_coupa).await;
        self.coupa.hear(self.now());
        tokio::time::sleep(ANSWER).await;
    }

    async fn ask_qad(&self) {
        self.turn(&self.of_qad).await;
        tokio::time::sleep(ANSWER).await;
    }

    /// As `tests/counts` counts them: two requests of the delivery, and five of each invoice.
    async fn deliver(&self) {
        self.ask_coupa().await;
        join_all((0..RECORDS).map(async |_| {
            self.ask_qad().await;
            self.ask_qad().await;
        }))
        .await;
        self.ask_coupa().await;
        join_all((0..RECORDS).map(async |_| {
            self.ask_qad().await;
            self.ask_qad().await;
            self.ask_coupa().await;
        }))
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_uses_coupas_limit_and_never_exceeds_it() {
    let store: Arc<dyn PaceStore> = Arc::new(MemoryPaces::default());
    let (begun, coupa, taken) = (Instant::now(), Coupa::default(), AtomicU64::new(0));
    let instances = (0..INSTANCES).map(async |_| {
        let paces = Paces::shared(INSTANCES, Arc::clone(&store));
        let instance = Instance {
            begun,
            coupa: &coupa,
            of_coupa: paces.of("coupa", COUPA_PER_SECOND, PATIENCE),
            of_qad: paces.of("qad", QAD_PER_SECOND, PATIENCE),
        };
        while taken.fetch_add(RECORDS, Ordering::Relaxed) < INVOICES {
            instance.deliver().await;
        }
    });
    join_all(instances).await;
    let millis = u64::try_from(begun.elapsed().as_millis()).unwrap();
    let requests = coupa.requests.load(Ordering::Relaxed);
    assert_eq!(requests, INVOICES * 12 / 10);
    assert_eq!(coupa.refused.load(Ordering::Relaxed), 0, "429s");
    let used = requests * 1_000 * 100 / (millis * u64::from(COUPA_PER_SECOND));
    assert!(used >= 95, "{used} % of Coupa's limit in {millis} ms");
}

/// Seven requests in a row, and no wait for a pace.
#[tokio::test(start_paused = true)]
async fn one_invoice_alone_waits_for_nobody() {
    let store: Arc<dyn PaceStore> = Arc::new(MemoryPaces::default());
    let paces = Paces::shared(INSTANCES, store);
    let coupa = Coupa::default();
    let instance = Instance {
        begun: Instant::now(),
        coupa: &coupa,
        of_coupa: paces.of("coupa", 20, PATIENCE),
        of_qad: paces.of("qad", 10, PATIENCE),
    };
    for _ in 0..3 {
        instance.turn(&instance.of_coupa).await;
    }
    for _ in 0..4 {
        instance.turn(&instance.of_qad).await;
    }
    assert_eq!(instance.begun.elapsed(), Duration::ZERO);
}
