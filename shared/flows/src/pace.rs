//! How fast all instances together may talk to a host: one bucket for each host (GCRA, a token bucket kept as the one
//! instant at which it is full again), from which an instance reserves a block of slots and spends them by itself.
//!
//! Whatever the interleaving, at most `per_second * (seconds + 1) + 1` requests are sent in any number of seconds: half a
//! second's worth may run ahead ([`Speed`]), and a slot is given up half a second after it was due ([`STALE_MICROS`]).

use crate::ports::StoreError;
use async_trait::async_trait;
use domain::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How long after it was due a slot may still be spent, in microseconds: the other half of the second that may run ahead.
pub const STALE_MICROS: i64 = MICROS_PER_SECOND / 2;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_MILLI: i64 = 1_000;
/// Slots of an instance's first block: the calls to one system that one invoice needs.
const BLOCK_FIRST: u32 = 4;

/// An instant in microseconds since 1970, in which intervals of a fast host are exact enough.
pub fn micros(at: Timestamp) -> i64 {
    at.0.saturating_mul(MICROS_PER_MILLI)
}

/// What a host takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Microseconds between two requests.
    pub interval_micros: i64,
    /// How many requests may run ahead of the steady pace.
    pub burst: i64,
}

impl Speed {
    /// So many requests per second (at least 1), half a second's worth of them at once.
    pub fn per_second(requests: u32) -> Self {
        let requests = i64::from(requests.max(1));
        Self {
            interval_micros: MICROS_PER_SECOND
                .checked_div(requests)
                .unwrap_or(MICROS_PER_SECOND),
            burst: requests.checked_div(2).unwrap_or(0).saturating_sub(1).max(0),
        }
    }

    /// The same, halved so often: what is kept after 429s. As much time as before may run ahead, with fewer requests in it.
    #[must_use]
    pub fn halved(self, times: u32) -> Self {
        let factor = 1_i64.checked_shl(times).unwrap_or(1);
        Self {
            interval_micros: self.interval_micros.saturating_mul(factor),
            burst: self.burst.checked_div(factor).unwrap_or(0),
        }
    }

    fn ahead_micros(self) -> i64 {
        self.interval_micros.saturating_mul(self.burst)
    }

    /// What is asked of the store, for a block of which the first slot is due within `patience_micros`; the host is kept for
    /// `trial_micros` when this is the request that tries it.
    pub fn ask(self, now: Timestamp, slots: u32, patience_micros: i64, trial_micros: i64) -> Ask {
        Ask {
            now_micros: micros(now),
            latest_micros: micros(now)
                .saturating_add(patience_micros)
                .saturating_add(self.ahead_micros()),
            cost_micros: self.interval_micros.saturating_mul(i64::from(slots)),
            trial_micros,
        }
    }

    /// When the slots of a granted block are due.
    pub fn due(self, ask: &Ask, from_micros: i64, slots: u32) -> impl Iterator<Item = i64> {
        let first = from_micros.saturating_sub(self.ahead_micros());
        (0..i64::from(slots)).map(move |slot| {
            first
                .saturating_add(self.interval_micros.saturating_mul(slot))
                .max(ask.now_micros)
        })
    }

    /// How long the first slot is away when the bucket is full again at this instant.
    pub fn wait_micros(self, now: Timestamp, full_at_micros: i64) -> i64 {
        full_at_micros
            .saturating_sub(self.ahead_micros())
            .saturating_sub(micros(now))
            .max(0)
    }

    /// Whether about as much is asked for as the host takes: more than half of what may run ahead is reserved, in a bucket that is
    /// full again at this instant.
    pub fn is_behind(self, now: Timestamp, full_at_micros: i64) -> bool {
        full_at_micros.saturating_sub(micros(now)) > self.ahead_micros() / 2
    }

    /// The bucket of a host that wants nothing before `until`: whatever may run ahead, runs after it.
    pub fn paused(self, until: Timestamp) -> i64 {
        micros(until).saturating_add(self.ahead_micros())
    }
}

/// How many slots to reserve next: twice as many after a block that was spent, as many as were spent after one of which
/// slots were given up, and never more than may run ahead.
pub fn next_block(last: Option<Block>, speed: Speed) -> u32 {
    let most = u32::try_from(speed.burst.saturating_add(1)).unwrap_or(u32::MAX);
    let wanted = match last {
        None => BLOCK_FIRST,
        Some(block) if block.given_up == 0 => block.spent.saturating_mul(2),
        Some(block) => block.spent,
    };
    wanted.clamp(1, most)
}

/// How many slots to reserve when so many wait for one. While a host is behind, a slot that nobody spends is missing to somebody: then
/// it is one for each who waits, and no more.
pub fn block_for(waiting: u32, last: Option<Block>, is_behind: bool, speed: Speed) -> u32 {
    let most = u32::try_from(speed.burst.saturating_add(1)).unwrap_or(u32::MAX);
    let ahead = if is_behind { 1 } else { next_block(last, speed) };
    waiting.max(ahead).clamp(1, most)
}

/// What became of a block's slots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Block {
    /// Used for a request.
    pub spent: u32,
    /// Not used in time.
    pub given_up: u32,
}

/// A reservation that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Now.
    pub now_micros: i64,
    /// Nothing is reserved when the bucket is full again only after this.
    pub latest_micros: i64,
    /// By how much the block moves the instant at which the bucket is full again.
    pub cost_micros: i64,
    /// How long a host that is on trial is kept for the one request that tries it: as long as an exchange takes at most, so that
    /// a worker who dies with it costs no more.
    pub trial_micros: i64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The block is ours; before it, the bucket was full again at this instant.
    From(i64),
    /// Nothing was reserved; the bucket is full again at this instant.
    TooFar(i64),
    /// The host has been silent, and this is the one request that tries it: everybody else waits for what comes of it.
    Trial,
}

/// A host's bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When it is full again, in microseconds since 1970.
    pub full_at: i64,
    /// There when the host has been silent: from then on one request tries it, and it gets more once that is answered.
    pub rests_until: Option<i64>,
}

impl Bucket {
    /// Reserves a block, if it is not too far away; of a host that is on trial, the one request that tries it.
    #[must_use]
    pub fn reserve(self, ask: &Ask) -> (Self, Reserved) {
        // Nobody stands in line behind a silence: whether there is anything to wait for is what the trial tells.
        if let Some(until) = self.rests_until.filter(|until| *until > ask.now_micros) {
            return (self, Reserved::TooFar(until));
        }
        let from = self.full_at.max(ask.now_micros);
        if from > ask.latest_micros {
            return (self, Reserved::TooFar(from));
        }
        if self.rests_until.is_some() {
            let tried = self.resting(ask.now_micros.saturating_add(ask.trial_micros));
            return (tried, Reserved::Trial);
        }
        let full_at = from.saturating_add(ask.cost_micros);
        (Self { full_at, ..self }, Reserved::From(from))
    }

    /// Full again at this instant, or later.
    #[must_use]
    pub fn held(self, full_at: i64) -> Self {
        Self {
            full_at: self.full_at.max(full_at),
            ..self
        }
    }

    /// At rest until then, whatever was said of its rest before.
    #[must_use]
    pub fn resting(self, until: i64) -> Self {
        Self {
            rests_until: Some(until),
            ..self
        }
    }

    /// The host has answered: who was kept away by its silence comes back at once. A pause stays.
    #[must_use]
    pub fn healed(self) -> Self {
        Self {
            rests_until: None,
            ..self
        }
    }
}

/// The buckets that all instances share, one for each host.
#[async_trait]
pub trait PaceStore: Send + Sync {
    /// Reserves a block of the host's slots in one step: no two reservations overlap.
    async fn reserve(&self, host: &str, ask: &Ask) -> Result<Reserved, StoreError>;
    /// Keeps everybody from the host: its bucket is full again at this instant, or later.
    async fn hold(&self, host: &str, full_at_micros: i64) -> Result<(), StoreError>;
    /// Keeps everybody from a host that does not answer until then, whatever was said of its rest before; from then on one
    /// request tries it before there are more.
    async fn rest(&self, host: &str, until_micros: i64) -> Result<(), StoreError>;
    /// A host that was to be tried has answered: it is open to all at once. Nothing changes for one that was not.
    async fn healed(&self, host: &str) -> Result<(), StoreError>;
}

/// The buckets of one process.
#[derive(Debug, Default)]
pub struct MemoryPaces(Mutex<BTreeMap<String, Bucket>>);

#[async_trait]
impl PaceStore for MemoryPaces {
    async fn reserve(&self, host: &str, ask: &Ask) -> Result<Reserved, StoreError> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(host.to_owned()).or_default();
        let (next, reserved) = bucket.reserve(ask);
        *bucket = next;
        Ok(reserved)
    }

    async fn hold(&self, host: &str, full_at_micros: i64) -> Result<(), StoreError> {
        self.change(host, |bucket| bucket.held(full_at_micros));
        Ok(())
    }

    async fn rest(&self, host: &str, until_micros: i64) -> Result<(), StoreError> {
        self.change(host, |bucket| bucket.resting(until_micros));
        Ok(())
    }

    async fn healed(&self, host: &str) -> Result<(), StoreError> {
        self.change(host, Bucket::healed);
        Ok(())
    }
}

impl MemoryPaces {
    fn change(&self, host: &str, change: impl FnOnce(Bucket) -> Bucket) {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(host.to_owned()).or_default();
        *bucket = change(*bucket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_grows_while_it_is_spent_and_shrinks_to_what_was() {
        let speed = Speed::per_second(20);
        assert_eq!(next_block(None, speed), 4);
        assert_eq!(
            next_block(
                Some(Block {
                    spent: 4,
                    given_up: 0
                }),
                speed
            ),
            8
        );
        assert_eq!(
            next_block(
                Some(Block {
                    spent: 8,
                    given_up: 0
                }),
                speed
            ),
            10
        );
        assert_eq!(
            next_block(
                Some(Block {
                    spent: 3,
                    given_up: 5
                }),
                speed
            ),
            3
        );
        assert_eq!(
            next_block(
                Some(Block {
                    spent: 0,
                    given_up: 5
                }),
                speed
            ),
            1
        );
        assert_eq!(next_block(None, Speed::per_second(1)), 1);
    }

    #[test]
    fn a_block_is_for_those_who_wait_and_for_nobody_else_while_the_host_is_behind() {
        let speed = Speed::per_second(20);
        let spent = Some(Block {
            spent: 4,
            given_up: 0,
        });
        assert_eq!(block_for(1, spent, false, speed), 8);
        assert_eq!(block_for(9, spent, false, speed), 9);
        assert_eq!(block_for(1, spent, true, speed), 1);
        assert_eq!(block_for(7, spent, true, speed), 7);
        assert_eq!(
            block_for(30, spent, true, speed),
            10,
            "no more than may run ahead"
        );
    }

    #[test]
    fn nothing_is_due_before_the_end_of_a_pause() {
        let speed = Speed::per_second(10);
        let until = Timestamp(9_000);
        let ask = speed.ask(Timestamp(5_000), 4, MICROS_PER_SECOND * 60, 0);
        let (_, reserved) = Bucket::default().held(speed.paused(until)).reserve(&ask);
        let Reserved::From(from) = reserved else {
            panic!("a minute is patience enough");
        };
        assert_eq!(speed.due(&ask, from, 4).next(), Some(micros(until)));
        assert_eq!(
            speed.wait_micros(Timestamp(5_000), speed.paused(until)),
            4 * MICROS_PER_SECOND
        );
        let hasty = speed.ask(Timestamp(5_000), 4, MICROS_PER_SECOND, 0);
        let paused = Bucket::default().held(speed.paused(until));
        assert_eq!(
            paused.reserve(&hasty),
            (paused, Reserved::TooFar(speed.paused(until)))
        );
    }

    proptest! {
        /// Blocks of any size asked for at any times, each slot spent as late as it may be or as early: the promise in the
        /// head of this file.
        #[test]
        fn no_interleaving_grants_more_than_the_pace(
            per_second in 1_u32..40,
            asks in proptest::collection::vec((0_i64..400, 1_u32..30, 0_i64..3_000_000, 0_u32..3), 1..60),
            late in proptest::collection::vec(any::<bool>(), 60 * 30),
        ) {
            let speed = Speed::per_second(per_second);
            let (mut bucket, mut now) = (Bucket::default(), Timestamp(1_000_000));
            let mut sent = Vec::new();
            for (pause, slots, patience, slowdowns) in asks {
                now = now.plus_millis(pause);
                let speed = speed.halved(slowdowns);
                let ask = speed.ask(now, slots, patience, 0);
                let (next, reserved) = bucket.reserve(&ask);
                bucket = next;
                if let Reserved::From(from) = reserved {
                    for due in speed.due(&ask, from, slots) {
                        prop_assert!(due >= micros(now));
                        let is_late = late.get(sent.len()).copied().unwrap_or(false);
                        sent.push(due + if is_late { STALE_MICROS } else { 0 });
                    }
                }
            }
            sent.sort_unstable();
            for (index, from) in sent.iter().enumerate() {
                for (count, to) in sent[index..].iter().enumerate() {
                    let most = i64::from(per_second) * (to - from + MICROS_PER_SECOND) / MICROS_PER_SECOND + 1;
                    prop_assert!(i64::try_from(count).unwrap() < most, "{} in {} us", count + 1, to - from);
                }
            }
        }

        #[test]
        fn who_is_alone_does_not_wait(per_second in 1_u32..100, at in 1_000_000_i64..2_000_000) {
            let speed = Speed::per_second(per_second);
            let slots = next_block(None, speed);
            let ask = speed.ask(Timestamp(at), slots, 0, 0);
            let (_, reserved) = Bucket::default().reserve(&ask);
            prop_assert_eq!(reserved, Reserved::From(micros(Timestamp(at))));
            prop_assert!(speed.due(&ask, micros(Timestamp(at)), slots).all(|due| due == micros(Timestamp(at))));
        }
    }
}
