//! How fast we talk to a host, and the pause everyone keeps after a 429.

use domain::time::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The pace of one host: a bucket of tokens kept as the instant at which it will be full again.
#[derive(Debug)]
pub struct Pace {
    /// Microseconds between two requests at full speed.
    interval_micros: i64,
    /// How far ahead of the steady pace a burst may run, in microseconds.
    burst_micros: i64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the bucket is full again, in microseconds since 1970.
    full_at_micros: i64,
    paused_until: Timestamp,
}

impl Pace {
    /// A pace of `per_second` requests (at least 1) with bursts of as many as one second holds.
    pub fn new(per_second: u32) -> Self {
        let interval_micros = 1_000_000i64
            .checked_div(i64::from(per_second.max(1)))
            .unwrap_or(1_000_000);
        let burst = i64::from(per_second.max(1).saturating_sub(1));
        Self {
            interval_micros,
            burst_micros: interval_micros.saturating_mul(burst),
            state: Mutex::new(State::default()),
        }
    }

    /// Takes a place and says how long to wait for it, when that is at most `patience`; else takes none and says how
    /// long it would have been.
    pub fn admit(&self, now: Timestamp, patience: Duration) -> Result<Duration, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now_micros = now.0.saturating_mul(1_000);
        let full_at = state.full_at_micros.max(now_micros);
        let turn_micros = full_at
            .saturating_sub(self.burst_micros)
            .saturating_sub(now_micros)
            .max(0);
        let pause_micros = state.paused_until.millis_since(now).max(0).saturating_mul(1_000);
        let wait = Duration::from_micros(u64::try_from(turn_micros.max(pause_micros)).unwrap_or(0));
        if wait > patience {
            return Err(wait);
        }
        state.full_at_micros = full_at.saturating_add(self.interval_micros);
        Ok(wait)
    }

    /// How long the host is still paused.
    pub fn paused_for(&self, now: Timestamp) -> Option<Duration> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let millis = u64::try_from(state.paused_until.millis_since(now)).ok()?;
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Everyone who talks to this host waits until then; a longer pause stays.
    pub fn pause_until(&self, until: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.paused_until = state.paused_until.max(until);
    }
}

/// The paces of this process, one per host, shared by every connection to it.
#[derive(Debug, Default)]
pub struct Paces {
    hosts: Mutex<BTreeMap<String, Arc<Pace>>>,
}

impl Paces {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The host's pace; who asks first sets its speed.
    pub fn of(&self, host: &str, per_second: u32) -> Arc<Pace> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            hosts
                .entry(host.to_owned())
                .or_insert_with(|| Arc::new(Pace::new(per_second))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_burst_is_free_and_then_the_pace_is_kept() {
        let pace = Pace::new(20);
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
        let paces = Paces::new();
        let now = Timestamp(5_000);
        paces.of("example.com", 20).pause_until(now.plus_seconds(10));
        paces.of("example.com", 20).pause_until(now.plus_seconds(3));
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
}
