//! How often DynamoDB is asked again, and how long is waited in between.

use crate::clients::failure::Failure;
use domain::problem::Problem;
use flows::ports::{Chance, Clock};
use std::sync::Arc;
use std::time::Duration;

/// Most times one request is sent.
const TRIES_MAX: u32 = 4;
/// Longest first pause, in milliseconds; each later one may be twice as long.
const PAUSE_MILLIS_FIRST: u64 = 25;

/// Sends again with pauses that grow and are drawn by lot, so that contenders part.
#[derive(Clone)]
pub(crate) struct Tries {
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
}

impl Tries {
    pub(crate) fn new(clock: Arc<dyn Clock>, chance: Arc<dyn Chance>) -> Self {
        Self { clock, chance }
    }

    /// Waits before the next try; false when `attempt` (from 1) was the last.
    pub(crate) async fn again(&self, attempt: u32) -> bool {
        if attempt >= TRIES_MAX {
            return false;
        }
        let longest = PAUSE_MILLIS_FIRST.saturating_mul(2u64.saturating_pow(attempt));
        self.clock
            .sleep(Duration::from_millis(self.chance.up_to(longest)))
            .await;
        true
    }

    /// Sends a request that may be repeated whatever became of it: a read, or a write that is its own proof.
    pub(crate) async fn repeat<T, Answer>(&self, request: impl Fn() -> Answer) -> Result<T, Problem>
    where
        Answer: Future<Output = Result<T, Failure>>,
    {
        let mut attempt = 0u32;
        loop {
            attempt = attempt.saturating_add(1);
            match request().await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(problem)) => return Err(problem),
                Err(Failure::Throttled(problem) | Failure::Unknown(problem)) => {
                    if !self.again(attempt).await {
                        return Err(problem);
                    }
                }
            }
        }
    }
}
