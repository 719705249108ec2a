//! How fast we talk to a host, and the pause everyone keeps after a 429.

use domain::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the interval doubles at most after 429s: a quarter of the share.
const SLOWDOWNS_MAX: u32 = 2;
/// How long without a 429 until the interval is halved again, in milliseconds: long enough for a bucket to fill.
const RECOVERY_MILLIS: i64 = 3_000;

/// The pace of one host: a bucket of tokens kept as the instant at which it will be full again.
///
/// A host's limit counts all our instances together, and they do not know of each other. Each keeps its share of what is
/// configured; where the shares of several functions add up to more than the host takes, its 429s slow each of them down
/// until the sum fits.
#[derive(Debug)]
pub struct Pace {
    /// Microseconds between two requests at full speed.
    interval_micros: i64,
    /// How many requests may run ahead of the steady pace.
    burst: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the bucket is full again, in microseconds since 1970.
    full_at_micros: i64,
    paused_until: Timestamp,
    /// How often the interval is doubled at the moment.
    slowdowns: u32,
    slowdown_since: Timestamp,
}

impl Pace {
    /// One instance's share (of `instances`, at least 1) of a pace of `per_second` requests (at least 1), with bursts of as
    /// many as the share has in one second.
    pub fn new(per_second: u32, instances: u32) -> Self {
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
            state: Mutex::new(State::default()),
        }
    }

    /// Takes a place and says how long to wait for it, when that is at most `patience`; else takes none and says how
    /// long it would have been.
    pub fn admit(&self, now: Timestamp, patience: Duration) -> Result<Duration, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.slowdowns > 0 && now.millis_since(state.slowdown_since) >= RECOVERY_MILLIS {
            state.slowdowns = state.slowdowns.saturating_sub(1);
            state.slowdown_since = now;
        }
        let factor = 1i64.checked_shl(state.slowdowns).unwrap_or(1);
        let interval_micros = self.interval_micros.saturating_mul(factor);
        let now_micros = now.0.saturating_mul(1_000);
        let full_at = state.full_at_micros.max(now_micros);
        let turn_micros = full_at
            .saturating_sub(interval_micros.saturating_mul(self.burst))
            .saturating_sub(now_micros)
            .max(0);
        let pause_micros = state.paused_until.millis_since(now).max(0).saturating_mul(1_000);
        let wait = Duration::from_micros(u64::try_from(turn_micros.max(pause_micros)).unwrap_or(0));
        if wait > patience {
            return Err(wait);
        }
        state.full_at_micros = full_at.saturating_add(interval_micros);
        Ok(wait)
    }

    /// The host said that all of us together are too fast: everyone waits until then (a longer pause stays), and this
    /// instance goes on at half its speed for a while.
    pub fn throttled(&self, now: Timestamp, until: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.paused_until = state.paused_until.max(until);
        state.slowdowns = state.slowdowns.saturating_add(1).min(SLOWDOWNS_MAX);
        state.slowdown_since = now;
    }

    /// How long the host is still paused.
    pub fn paused_for(&self, now: Timestamp) -> Option<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = u64::try_from(state.paused_until.millis_since(now)).ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }
}

/// The paces of this process, one per host, shared by every connection to it.
#[derive(Debug)]
pub struct Paces {
    instances: u32,
    hosts: Mutex<BTreeMap<String, Arc<Pace>>>,
}

impl Paces {
    /// None yet, for a process that is one of at most so many.
    pub fn new(instances: u32) -> Self {
        Self {
            instances,
            hosts: Mutex::default(),
        }
    }

    /// The host's pace; who asks first sets its speed.
    pub fn of(&self, host: &str, per_second: u32) -> Arc<Pace> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            hosts
                .entry(host.to_owned())
                .or_insert_with(|| Arc::new(Pace::new(per_second, self.instances))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_burst_is_free_and_then_the_pace_is_kept() {
        let pace = Pace::new(20, 1);
        let start = Timestamp(1_000_000);
        for _ in 0..20 {
            assert_eq!(pace.admit(start, MINUTE), Ok(Duration::ZERO));
        }
        assert_eq!(pace.admit(start, MINUTE), Ok(Duration::from_millis(50)));
        assert_eq!(pace.admit(start, MINUTE), Ok(Duration::from_millis(100)));
        assert_eq!(pace.admit(start.plus_seconds(5), MINUTE), Ok(Duration::ZERO));
    }

    #[test]
    fn a_pause_holds_everyone_on_the_host() {
        let paces = Paces::new(1);
        let now = Timestamp(5_000);
        paces.of("example.com", 20).throttled(now, now.plus_seconds(10));
        paces.of("example.com", 20).throttled(now, now.plus_seconds(3));
        let pace = paces.of("example.com", 20);
        assert_eq!(pace.admit(now, MINUTE), Ok(Duration::from_secs(10)));
        assert_eq!(
            pace.admit(now, Duration::from_secs(1)),
            Err(Duration::from_secs(10))
        );
        assert_eq!(pace.paused_for(now), Some(Duration::from_secs(10)));
        assert_eq!(pace.paused_for(now.plus_seconds(10)), None);
        assert_eq!(paces.of("example.org", 20).paused_for(now), None);
    }

    fn admitted_in_a_second(pace: &Pace, from: Timestamp) -> u32 {
        (0..1_000)
            .filter(|millis| pace.admit(from.plus_millis(*millis), Duration::ZERO).is_ok())
            .map(|_| 1)
            .sum()
    }

    #[test]
    fn the_instances_of_a_function_share_the_pace() {
        let start = Timestamp(1_000_000);
        let all: u32 = (0..5)
            .map(|_| {
                let pace = Pace::new(20, 5);
                // The burst first, then a second at the steady pace.
                admitted_in_a_second(&pace, start);
                admitted_in_a_second(&pace, start.plus_seconds(1))
            })
            .sum();
        assert_eq!(all, 20);
        // More instances than requests: each still gets its turn.
        let slow = Pace::new(1, 5);
        assert_eq!(slow.admit(start, MINUTE), Ok(Duration::ZERO));
        assert_eq!(slow.admit(start, MINUTE), Ok(Duration::from_secs(5)));
    }

    #[test]
    fn a_429_halves_the_pace_and_time_gives_it_back() {
        let pace = Pace::new(16, 1);
        let start = Timestamp(1_000_000);
        admitted_in_a_second(&pace, start);
        assert_eq!(admitted_in_a_second(&pace, start.plus_seconds(1)), 16);
        for _ in 0..20 {
            pace.throttled(start.plus_seconds(2), start.plus_seconds(2));
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
