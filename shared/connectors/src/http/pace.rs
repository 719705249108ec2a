//! How fast we talk to a host, the pause everyone keeps after a 429, and the rest that a host gets which does not answer (a
//! circuit breaker).

use domain::time::Timestamp;
use flows::pace::{Block, PaceStore, Reserved, STALE_MICROS, Speed, block_for, micros};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;

/// How often the interval doubles at most after 429s: a quarter of the pace.
const SLOWDOWNS_MAX: u32 = 2;
/// How long without a 429 until the interval is halved again, in milliseconds: long enough for a bucket to fill.
const RECOVERY_MILLIS: i64 = 3_000;
/// How long the shared bucket is not asked again after it could not be reached, in milliseconds.
const OUTAGE_MILLIS: i64 = 10_000;

/// After how many silences in a row a host rests. A silence is an exchange without an answer that held its worker for at least
/// this long, in milliseconds: that time is missing to every other connection. What fails at once costs nobody anything.
const SILENCES_MAX: u32 = 5;
const SILENCE_MILLIS: i64 = 2_000;
/// How long a silent host rests first, and at most, in milliseconds; the rest doubles with every trial that brings no answer.
const REST_FIRST_MILLIS: i64 = 5_000;
const REST_MILLIS_MAX: i64 = 120_000;

/// The pace of one host.
///
/// A host's limit counts all our instances together. They reserve their requests from one bucket that all share, in blocks, so
/// that one instance that is alone has the whole pace and many have it together. While the bucket cannot be reached, each keeps
/// its share of what is configured, as if all the others were there. A 429 pauses everybody through the same bucket, and slows
/// down whoever got it.
pub struct Pace {
    host: String,
    /// How long an exchange with it takes at most.
    exchange: Duration,
    speed: Speed,
    share: Share,
    shared: Option<Arc<dyn PaceStore>>,
    state: Mutex<State>,
    /// Held while a block is reserved: those who come meanwhile take theirs from it, or from the next one, which is as large as
    /// there are of them.
    reserving: AsyncMutex<()>,
    /// How many want a slot that is not in hand.
    waiting: AtomicU32,
}

/// Counts somebody who waits for a block, for as long as they do.
struct Waiting<'a>(&'a AtomicU32);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one instance may do without asking anybody.
#[derive(Debug, Clone, Copy)]
struct Share {
    /// Microseconds between two requests at full speed.
    interval_micros: i64,
    /// How many requests may run ahead of the steady pace.
    burst: i64,
}

impl Share {
    fn of(per_second: u32, instances: u32) -> Self {
        let (per_second, instances) = (i64::from(per_second.max(1)), i64::from(instances.max(1)));
        Self {
            interval_micros: instances
                .saturating_mul(1_000_000)
                .checked_div(per_second)
                .unwrap_or(1_000_000),
            burst: per_second
                .checked_div(instances)
                .unwrap_or(1)
                .saturating_sub(1)
                .max(0),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// When this instance's own bucket is full again, in microseconds since 1970.
    full_at_micros: i64,
    paused_until: Timestamp,
    /// How often the interval is doubled at the moment.
    slowdowns: u32,
    slowdown_since: Timestamp,
    /// When the slots are due that were reserved and not spent yet, in microseconds since 1970.
    hand: VecDeque<i64>,
    /// What has become of the last block so far; `None` before the first.
    block: Option<Block>,
    /// Of the host, about as much is asked for as it takes, so nothing is reserved that nobody waits for.
    is_behind: bool,
    /// Until then the shared bucket is not asked.
    out_until: Timestamp,
    /// Exchanges in a row without an answer.
    silences: u32,
    /// Rests in a row.
    rests: u32,
    /// Until then the host rests, or is tried by another.
    rests_until: Timestamp,
    /// Whether the request that is under way tries the host.
    tries: bool,
}

impl State {
    fn recover(&mut self, now: Timestamp) {
        if self.slowdowns > 0 && now.millis_since(self.slowdown_since) >= RECOVERY_MILLIS {
            self.slowdowns = self.slowdowns.saturating_sub(1);
            self.slowdown_since = now;
        }
    }

    /// The next slot in hand that is not stale: how long it is away, or that it is too far. `None` when there is none.
    fn spend(&mut self, now: Timestamp, patience: Duration) -> Option<Result<Duration, Duration>> {
        let now_micros = micros(now);
        let block = self.block.get_or_insert_default();
        while let Some(due) = self.hand.front().copied() {
            if due.saturating_add(STALE_MICROS) < now_micros {
                self.hand.pop_front();
                block.given_up = block.given_up.saturating_add(1);
                continue;
            }
            let wait = span(due.saturating_sub(now_micros));
            if wait > patience {
                return Some(Err(wait));
            }
            self.hand.pop_front();
            block.spent = block.spent.saturating_add(1);
            return Some(Ok(wait));
        }
        None
    }
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

impl Pace {
    /// The pace of a host that takes `per_second` requests (at least 1), for one of at most so many instances (at least 1).
    fn new(
        host: &str,
        per_second: u32,
        exchange: Duration,
        instances: u32,
        shared: Option<Arc<dyn PaceStore>>,
    ) -> Self {
        Self {
            host: host.to_owned(),
            exchange,
            speed: Speed::per_second(per_second),
            share: Share::of(per_second, instances),
            shared,
            state: Mutex::default(),
            reserving: AsyncMutex::default(),
            waiting: AtomicU32::new(0),
        }
    }

    fn trial_micros(&self) -> i64 {
        i64::try_from(self.exchange.as_micros()).unwrap_or(i64::MAX)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place and says how long to wait for it, when that is at most `patience`; else takes none and says how
    /// long it would have been.
    pub async fn admit(&self, now: Timestamp, patience: Duration) -> Result<Duration, Duration> {
        match &self.shared {
            None => self.admit_of_share(now, patience),
            Some(shared) => match self.admit_of_all(shared.as_ref(), now, patience).await {
                Some(turn) => turn,
                None => self.admit_of_share(now, patience),
            },
        }
    }

    /// A turn from the slots in hand; `None` when there is none.
    fn turn_in_hand(&self, now: Timestamp, patience: Duration) -> Option<Result<Duration, Duration>> {
        let mut state = self.state();
        state.recover(now);
        state.block?;
        state.spend(now, patience)
    }

    /// From the slots in hand, or from a new block of them. `None` while the shared bucket cannot be reached.
    async fn admit_of_all(
        &self,
        shared: &dyn PaceStore,
        now: Timestamp,
        patience: Duration,
    ) -> Option<Result<Duration, Duration>> {
        if let Some(turn) = self.turn_in_hand(now, patience) {
            return Some(turn);
        }
        let _waits = Waiting::begin(&self.waiting);
        let _reserves = self.reserving.lock().await;
        if let Some(turn) = self.turn_in_hand(now, patience) {
            return Some(turn);
        }
        let (ask, speed, slots) = {
            let state = self.state();
            if now < state.out_until {
                return None;
            }
            let speed = self.speed.halved(state.slowdowns);
            let wanted = self.waiting.load(Ordering::Relaxed);
            let slots = block_for(wanted, state.block, state.is_behind, speed);
            let patience = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
            (speed.ask(now, slots, patience, self.trial_micros()), speed, slots)
        };
        match shared.reserve(&self.host, &ask).await {
            Ok(Reserved::From(from)) => {
                let mut state = self.state();
                state.block = Some(Block::default());
                state.is_behind = speed.is_behind(now, from);
                state.hand.extend(speed.due(&ask, from, slots));
                state.spend(now, patience)
            }
            Ok(Reserved::TooFar(full_at)) => Some(Err(span(speed.wait_micros(now, full_at)))),
            Ok(Reserved::Trial) => {
                self.state().tries = true;
                Some(Ok(Duration::ZERO))
            }
            Err(error) => {
                tracing::warn!(host = self.host, problem = %error.0, "the shared pace cannot be reached, the own share is kept");
                self.state().out_until = now.plus_millis(OUTAGE_MILLIS);
                None
            }
        }
    }

    fn admit_of_share(&self, now: Timestamp, patience: Duration) -> Result<Duration, Duration> {
        let mut state = self.state();
        state.recover(now);
        if state.rests > 0 {
            let wait = state.rests_until.millis_since(now);
            if wait > 0 {
                return Err(span(wait.saturating_mul(1_000)));
            }
            state.rests_until = now.plus_millis(self.trial_micros() / 1_000);
            state.tries = true;
            return Ok(Duration::ZERO);
        }
        let factor = 1i64.checked_shl(state.slowdowns).unwrap_or(1);
        let interval_micros = self.share.interval_micros.saturating_mul(factor);
        let now_micros = micros(now);
        let full_at = state.full_at_micros.max(now_micros);
        let turn_micros = full_at
            .saturating_sub(interval_micros.saturating_mul(self.share.burst))
            .saturating_sub(now_micros)
            .max(0);
        let pause_micros = state.paused_until.millis_since(now).max(0).saturating_mul(1_000);
        let wait = span(turn_micros.max(pause_micros));
        if wait > patience {
            return Err(wait);
        }
        state.full_at_micros = full_at.saturating_add(interval_micros);
        Ok(wait)
    }

    /// The host said that all of us together are too fast: everyone waits until then (a longer pause stays), and this
    /// instance goes on at half its speed for a while.
    pub async fn throttled(&self, now: Timestamp, until: Timestamp) {
        {
            let mut state = self.state();
            state.paused_until = state.paused_until.max(until);
            state.slowdowns = state.slowdowns.saturating_add(1).min(SLOWDOWNS_MAX);
            state.slowdown_since = now;
            // They are due in the pause, or just after it, when everybody else begins too.
            state.hand.clear();
        }
        if let Some(shared) = &self.shared
            && let Err(error) = shared.hold(&self.host, self.speed.paused(until)).await
        {
            tracing::warn!(host = self.host, problem = %error.0, "the others are not told of the pause, each meets it itself");
        }
    }

    /// The host has answered, whatever it said.
    pub async fn answered(&self) {
        {
            let mut state = self.state();
            let was_silent = state.tries || state.rests > 0;
            state.silences = 0;
            state.rests = 0;
            state.tries = false;
            if !was_silent {
                return;
            }
            state.block = None;
        }
        tracing::info!(
            host = self.host,
            outcome = "host_answers",
            "the host answers again"
        );
        if let Some(shared) = &self.shared
            && let Err(error) = shared.healed(&self.host).await
        {
            tracing::warn!(host = self.host, problem = %error.0, "the others are not told that the host answers, the next trial tells them");
        }
    }

    /// What began then has brought no answer of the host. After [`SILENCES_MAX`] silences in a row, or when it was to try the
    /// host, the host rests: everybody who wants something of it is told at once to come again.
    pub async fn silent(&self, began: Timestamp, now: Timestamp) {
        let until = {
            let mut state = self.state();
            if !state.tries && now.millis_since(began) < SILENCE_MILLIS {
                return;
            }
            state.silences = state.silences.saturating_add(1);
            let tried = std::mem::take(&mut state.tries);
            // Those that were on their way when the rest began say nothing new.
            let is_news = tried || state.silences >= SILENCES_MAX && now >= state.rests_until;
            if !is_news {
                return;
            }
            let rest = REST_FIRST_MILLIS
                .checked_shl(state.rests.min(16))
                .unwrap_or(REST_MILLIS_MAX)
                .min(REST_MILLIS_MAX);
            state.rests = state.rests.saturating_add(1);
            state.rests_until = now.plus_millis(rest);
            state.hand.clear();
            state.rests_until
        };
        tracing::warn!(
            host = self.host,
            wait_ms = until.millis_since(now),
            "the host does not answer and rests"
        );
        if let Some(shared) = &self.shared
            && let Err(error) = shared.rest(&self.host, self.speed.paused(until)).await
        {
            tracing::warn!(host = self.host, problem = %error.0, "the others are not told that the host rests, each finds out itself");
        }
    }

    /// How long the host is still paused.
    pub fn paused_for(&self, now: Timestamp) -> Option<Duration> {
        let millis = u64::try_from(self.state().paused_until.millis_since(now)).ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }
}

/// The paces of this process, one per host, shared by every connection to it.
pub struct Paces {
    instances: u32,
    shared: Option<Arc<dyn PaceStore>>,
    hosts: Mutex<BTreeMap<String, Arc<Pace>>>,
}

impl Paces {
    /// None yet, for a process that is one of at most so many and asks nobody: each keeps its share.
    pub fn new(instances: u32) -> Self {
        Self {
            instances,
            shared: None,
            hosts: Mutex::default(),
        }
    }

    /// None yet, for a process that shares the buckets with all others.
    pub fn shared(instances: u32, store: Arc<dyn PaceStore>) -> Self {
        Self {
            shared: Some(store),
            ..Self::new(instances)
        }
    }

    /// The host's pace; who asks first sets its speed, and how long an exchange takes at most.
    pub fn of(&self, host: &str, per_second: u32, exchange: Duration) -> Arc<Pace> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let shared = self.shared.clone();
            Arc::new(Pace::new(host, per_second, exchange, self.instances, shared))
        };
        Arc::clone(hosts.entry(host.to_owned()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use domain::problem::Problem;
    use flows::pace::{Ask, MemoryPaces};
    use flows::ports::StoreError;
    use std::sync::atomic::AtomicBool;

    const MINUTE: Duration = Duration::from_secs(60);
    const EXCHANGE: Duration = Duration::from_secs(120);

    #[tokio::test]
    async fn a_burst_is_free_and_then_the_pace_is_kept() {
        let pace = Pace::new("example.com", 20, EXCHANGE, 1, None);
        let start = Timestamp(1_000_000);
        for _ in 0..20 {
            assert_eq!(pace.admit(start, MINUTE).await, Ok(Duration::ZERO));
        }
        assert_eq!(pace.admit(start, MINUTE).await, Ok(Duration::from_millis(50)));
        assert_eq!(pace.admit(start, MINUTE).await, Ok(Duration::from_millis(100)));
        assert_eq!(
            pace.admit(start.plus_seconds(5), MINUTE).await,
            Ok(Duration::ZERO)
        );
    }

    async fn silent_times(pace: &Pace, now: Timestamp, times: u32) {
        for _ in 0..times {
            pace.silent(now.plus_millis(-SILENCE_MILLIS), now).await;
            // What fails at once is no silence.
            pace.silent(now, now).await;
        }
    }

    #[tokio::test]
    async fn a_host_that_does_not_answer_rests_is_tried_by_one_and_open_to_all_when_it_answers() {
        let buckets: Arc<dyn PaceStore> = Arc::new(MemoryPaces::default());
        for shared in [None, Some(buckets)] {
            let one = Pace::new("example.com", 20, EXCHANGE, 1, shared.clone());
            let two = Pace::new("example.com", 20, EXCHANGE, 1, shared.clone());
            let now = Timestamp(5_000_000);
            silent_times(&one, now, SILENCES_MAX - 1).await;
            assert_eq!(one.admit(now, MINUTE).await, Ok(Duration::ZERO));
            one.answered().await;
            silent_times(&one, now, SILENCES_MAX - 1).await;
            assert_eq!(one.admit(now, MINUTE).await, Ok(Duration::ZERO), "not in a row");
            // One more, and what was on its way with it.
            silent_times(&one, now, 4).await;
            let rest = Duration::from_millis(REST_FIRST_MILLIS.unsigned_abs());
            assert_eq!(one.admit(now, MINUTE).await, Err(rest), "told at once");
            let tried = now.plus_millis(REST_FIRST_MILLIS + 500);
            assert_eq!(one.admit(tried, MINUTE).await, Ok(Duration::ZERO));
            assert!(one.admit(tried, MINUTE).await.is_err(), "one tries it");
            if shared.is_some() {
                assert!(two.admit(tried, MINUTE).await.is_err(), "for all");
            }
            one.silent(tried, tried).await;
            let doubled = tried.plus_millis(2 * REST_FIRST_MILLIS + 500);
            assert!(one.admit(doubled.plus_millis(-1_000), MINUTE).await.is_err());
            assert_eq!(one.admit(doubled, MINUTE).await, Ok(Duration::ZERO));
            one.answered().await;
            for _ in 0..4 {
                assert_eq!(one.admit(doubled, MINUTE).await, Ok(Duration::ZERO));
                assert_eq!(two.admit(doubled, MINUTE).await, Ok(Duration::ZERO));
            }
        }
    }

    #[tokio::test]
    async fn a_rest_is_bounded() {
        let pace = Pace::new("example.com", 20, EXCHANGE, 1, None);
        let mut now = Timestamp(5_000_000);
        silent_times(&pace, now, SILENCES_MAX).await;
        for _ in 0..70 {
            now = now.plus_millis(REST_MILLIS_MAX);
            assert_eq!(pace.admit(now, MINUTE).await, Ok(Duration::ZERO));
            pace.silent(now, now).await;
        }
    }

    #[tokio::test]
    async fn a_pause_holds_everyone_on_the_host() {
        let paces = Paces::new(1);
        let now = Timestamp(5_000);
        paces
            .of("example.com", 20, EXCHANGE)
            .throttled(now, now.plus_seconds(10))
            .await;
        paces
            .of("example.com", 20, EXCHANGE)
            .throttled(now, now.plus_seconds(3))
            .await;
        let pace = paces.of("example.com", 20, EXCHANGE);
        assert_eq!(pace.admit(now, MINUTE).await, Ok(Duration::from_secs(10)));
        assert_eq!(
            pace.admit(now, Duration::from_secs(1)).await,
            Err(Duration::from_secs(10))
        );
        assert_eq!(pace.paused_for(now), Some(Duration::from_secs(10)));
        assert_eq!(pace.paused_for(now.plus_seconds(10)), None);
        assert_eq!(paces.of("example.org", 20, EXCHANGE).paused_for(now), None);
    }

    fn admitted_in_a_second(pace: &Pace, from: Timestamp) -> u32 {
        (0..1_000)
            .filter(|millis| {
                pace.admit_of_share(from.plus_millis(*millis), Duration::ZERO)
                    .is_ok()
            })
            .map(|_| 1)
            .sum()
    }

    /// Counts what is asked of the buckets, and fails when it is told to.
    #[derive(Default)]
    struct Counted {
        paces: MemoryPaces,
        asked: AtomicU32,
        down: AtomicBool,
    }

    #[async_trait]
    impl PaceStore for Counted {
        async fn reserve(&self, host: &str, ask: &Ask) -> Result<Reserved, StoreError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.down.load(Ordering::Relaxed) {
                return Err(StoreError(Problem::new("DYNAMODB_UNAVAILABLE", "Wait.")));
            }
            self.paces.reserve(host, ask).await
        }

        async fn hold(&self, host: &str, full_at_micros: i64) -> Result<(), StoreError> {
            self.paces.hold(host, full_at_micros).await
        }

        async fn rest(&self, host: &str, full_at_micros: i64) -> Result<(), StoreError> {
            self.paces.rest(host, full_at_micros).await
        }

        async fn healed(&self, host: &str) -> Result<(), StoreError> {
            self.paces.healed(host).await
        }
    }

    fn five(store: &Arc<Counted>) -> Vec<Arc<Pace>> {
        let pace = |_| {
            let store: Arc<dyn PaceStore> = store.clone();
            Paces::shared(5, store).of("example.com", 10, EXCHANGE)
        };
        (0..5).map(pace).collect()
    }

    #[tokio::test]
    async fn who_is_alone_has_the_whole_pace_and_asks_once_per_block() {
        let store = Arc::new(Counted::default());
        let pace = five(&store).remove(0);
        let start = Timestamp(1_000_000);
        for call in 0..4 {
            assert_eq!(
                pace.admit(start.plus_millis(call * 100), MINUTE).await,
                Ok(Duration::ZERO)
            );
        }
        assert_eq!(store.asked.load(Ordering::Relaxed), 1, "one invoice, one block");
        // Ten minutes of invoices one after the other: ten calls a second, and no wait that lasts.
        let mut now = start.plus_seconds(10);
        for _ in 0..6_000 {
            let wait = pace.admit(now, MINUTE).await.unwrap();
            now = now.plus_millis(i64::try_from(wait.as_millis()).unwrap() + 20);
        }
        assert!(now.millis_since(start.plus_seconds(10)) <= 600_000 + 20);
    }

    #[tokio::test]
    async fn five_together_have_the_pace_once() {
        let store = Arc::new(Counted::default());
        let paces = five(&store);
        let start = Timestamp(1_000_000);
        let mut sent = Vec::new();
        for millis in (0..20_000).step_by(50) {
            for pace in &paces {
                let now = start.plus_millis(millis);
                if pace.admit(now, Duration::ZERO).await.is_ok() {
                    sent.push(now);
                }
            }
        }
        for from in &sent {
            let second = sent
                .iter()
                .filter(|at| (0..1_000).contains(&at.millis_since(*from)));
            assert!(second.count() <= 10 + 10 + 1);
        }
        assert!(
            (190..=211).contains(&sent.len()),
            "{} in twenty seconds",
            sent.len()
        );
    }

    #[tokio::test]
    async fn a_slot_that_was_not_spent_in_time_is_given_up() {
        let store = Arc::new(Counted::default());
        let pace = five(&store).remove(0);
        let start = Timestamp(1_000_000);
        assert_eq!(pace.admit(start, MINUTE).await, Ok(Duration::ZERO));
        let late = start.plus_millis(STALE_MICROS / 1_000 + 1);
        assert_eq!(pace.admit(late, MINUTE).await, Ok(Duration::ZERO));
        assert_eq!(
            store.asked.load(Ordering::Relaxed),
            2,
            "three of four were too old"
        );
        assert_eq!(
            pace.state().hand.len(),
            0,
            "and the next block is as large as what was spent"
        );
    }

    #[tokio::test]
    async fn a_429_pauses_all_instances() {
        let store = Arc::new(Counted::default());
        let paces = five(&store);
        let (start, until) = (Timestamp(1_000_000), Timestamp(1_030_000));
        assert_eq!(paces[0].admit(start, MINUTE).await, Ok(Duration::ZERO));
        paces[0].throttled(start, until).await;
        for pace in &paces {
            let hasty = pace.admit(start, Duration::from_secs(5)).await;
            assert!(
                matches!(hasty, Err(wait) if wait >= Duration::from_secs(30)),
                "{hasty:?}"
            );
            let patient = pace.admit(start, MINUTE).await;
            assert!(
                matches!(patient, Ok(wait) if wait >= Duration::from_secs(30)),
                "{patient:?}"
            );
        }
    }

    #[tokio::test]
    async fn without_the_buckets_each_keeps_its_share() {
        let store = Arc::new(Counted::default());
        store.down.store(true, Ordering::Relaxed);
        let paces = five(&store);
        let start = Timestamp(1_000_000);
        let mut all = 0;
        for millis in 0..5_000 {
            for pace in &paces {
                all += u32::from(
                    pace.admit(start.plus_millis(millis), Duration::ZERO)
                        .await
                        .is_ok(),
                );
            }
        }
        assert!((50..=60).contains(&all), "ten a second, and a burst: {all}");
        assert_eq!(
            store.asked.load(Ordering::Relaxed),
            5,
            "and nobody asks at every call"
        );
        store.down.store(false, Ordering::Relaxed);
        let later = start.plus_millis(OUTAGE_MILLIS);
        for call in 0..4 {
            assert_eq!(
                paces[0].admit(later.plus_millis(call), MINUTE).await,
                Ok(Duration::ZERO)
            );
        }
    }

    #[tokio::test]
    async fn the_instances_of_a_function_share_the_pace() {
        let start = Timestamp(1_000_000);
        let all: u32 = (0..5)
            .map(|_| {
                let pace = Pace::new("example.com", 20, EXCHANGE, 5, None);
                // The burst first, then a second at the steady pace.
                admitted_in_a_second(&pace, start);
                admitted_in_a_second(&pace, start.plus_seconds(1))
            })
            .sum();
        assert_eq!(all, 20);
        // More instances than requests: each still gets its turn.
        let slow = Pace::new("example.com", 1, EXCHANGE, 5, None);
        assert_eq!(slow.admit(start, MINUTE).await, Ok(Duration::ZERO));
        assert_eq!(slow.admit(start, MINUTE).await, Ok(Duration::from_secs(5)));
    }

    #[tokio::test]
    async fn a_429_halves_the_pace_and_time_gives_it_back() {
        let pace = Pace::new("example.com", 16, EXCHANGE, 1, None);
        let start = Timestamp(1_000_000);
        admitted_in_a_second(&pace, start);
        assert_eq!(admitted_in_a_second(&pace, start.plus_seconds(1)), 16);
        for _ in 0..20 {
            pace.throttled(start.plus_seconds(2), start.plus_seconds(2)).await;
        }
        admitted_in_a_second(&pace, start.plus_seconds(2));
        assert_eq!(admitted_in_a_second(&pace, start.plus_seconds(3)), 4);
        for seconds in [6, 10] {
            admitted_in_a_second(&pace, start.plus_seconds(seconds));
        }
        admitted_in_a_second(&pace, start.plus_seconds(20));
        assert_eq!(admitted_in_a_second(&pace, start.plus_seconds(21)), 16);
    }
}
