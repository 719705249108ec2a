//! The owners of time and chance. Everybody else takes the ports.

use async_trait::async_trait;
use domain::time::Timestamp;
use flows::ports::{Chance, Clock};
use std::time::{Duration, UNIX_EPOCH};

/// The machine's wall clock and tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the owner of the wall clock")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 or past the year 292 million is not worth a failure of its own: nothing would be due or
        // leased at the ends of time.
        let millis = match std::time::SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(_) => 0,
        };
        Timestamp(millis)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the owner of waiting")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Random bytes of a token; as hex they fill 32 of the 36 characters a token may have.
const TOKEN_BYTES: usize = 16;

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn token(&self) -> String {
        hex::encode(random_bytes::<TOKEN_BYTES>())
    }

    fn up_to(&self, max: u64) -> u64 {
        // The bias of the remainder is harmless: this spreads retries, it keeps no secret.
        let number = u64::from_le_bytes(random_bytes());
        max.checked_add(1)
            .and_then(|bound| number.checked_rem(bound))
            .unwrap_or(number)
    }
}

/// Bytes nobody can foresee.
#[expect(
    clippy::expect_used,
    reason = "an operating system without random numbers cannot make tokens or nonces; to stop is the only safe answer"
)]
pub(crate) fn random_bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_fit_a_request_token_and_differ() {
        let (one, two) = (SystemChance.token(), SystemChance.token());
        assert_eq!(one.len(), TOKEN_BYTES * 2);
        assert_ne!(one, two);
    }

    #[test]
    fn numbers_stay_inside_their_bound() {
        assert_eq!(SystemChance.up_to(0), 0);
        assert!((0..100).all(|_| SystemChance.up_to(3) <= 3));
        SystemChance.up_to(u64::MAX);
    }
}
