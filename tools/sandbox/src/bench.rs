//! What a bench needs that drives the real connectors against the simulators' sockets in one process: a clock that both
//! sides share, and a token cache.

use async_trait::async_trait;
use domain::time::Timestamp;
use flows::ports::{CachedToken, Clock, StoreError, TokenSlot, TokenState, TokenStore};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One clock for both sides, in milliseconds since 1970; it moves when somebody sleeps.
pub struct SharedClock(pub Arc<AtomicI64>);

#[async_trait]
impl Clock for SharedClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::task::yield_now().await;
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

/// The tokens of one process. Nobody competes for them, so a lease is granted to whoever knows the generation.
#[derive(Default)]
pub struct Tokens(Mutex<BTreeMap<TokenSlot, TokenState>>);

impl Tokens {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<TokenSlot, TokenState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenStore for Tokens {
    async fn load(&self, slot: &TokenSlot) -> Result<TokenState, StoreError> {
        Ok(self.slots().get(slot).cloned().unwrap_or_default())
    }

    async fn lease(
        &self,
        slot: &TokenSlot,
        generation: u64,
        _: Timestamp,
        _: Timestamp,
        _: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.slots().entry(slot.clone()).or_default().generation == generation)
    }

    async fn store(&self, slot: &TokenSlot, token: &CachedToken, _: &str) -> Result<bool, StoreError> {
        let state = TokenState {
            token: Some(token.clone()),
            generation: token.generation,
            leased_until: None,
        };
        self.slots().insert(slot.clone(), state);
        Ok(true)
    }

    async fn release(&self, _: &TokenSlot, _: u64, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn drop_token(&self, slot: &TokenSlot, _: u64) -> Result<(), StoreError> {
        if let Some(state) = self.slots().get_mut(slot) {
            state.token = None;
        }
        Ok(())
    }
}
