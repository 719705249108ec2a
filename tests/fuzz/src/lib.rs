//! One function per kind of thing that others write and we read. Each takes arbitrary bytes and must neither panic nor
//! run away, whatever they are; where there is something that must hold for any input, it is asserted.
//!
//! `tests/replay.rs` runs the corpus and many mutations of it with `cargo test`; `.ci/fuzz` runs them guided by coverage.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a target says what it found by panicking"
)]

mod answers;
mod documents;
mod stored;
mod webhook;

use std::cell::RefCell;

/// A target's name, and what it does with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets; each has a folder of its own under `corpus/`.
pub const TARGETS: &[Target] = &[
    ("connection-document", documents::connection_document),
    ("coupa-answer", answers::coupa),
    ("decimal", documents::decimal),
    ("gateway-event", webhook::gateway_event),
    ("headers", webhook::headers),
    ("hint", stored::hint),
    ("network", documents::network),
    ("qad-answer", answers::qad),
    ("retry-after", answers::retry_after),
    ("stored-item", stored::item),
    ("stored-record", stored::record),
    ("stored-token", stored::token),
    ("webhook-document", webhook::document),
];

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime"),
    );
}

/// Waits for a future on this thread.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow(|runtime| runtime.block_on(future))
}

mod ports {
    use async_trait::async_trait;
    use domain::time::Timestamp;
    use flows::ports::{CachedToken, Chance, Clock, StoreError, TokenSlot, TokenState, TokenStore};
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    /// 2026-03-06T09:00:00Z: the time of all event files.
    const START_MILLIS: i64 = 1_772_787_600_000;

    /// A clock that moves when somebody waits.
    pub(crate) struct Clockwork(AtomicI64);

    impl Default for Clockwork {
        fn default() -> Self {
            Self(AtomicI64::new(START_MILLIS))
        }
    }

    #[async_trait]
    impl Clock for Clockwork {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
        async fn sleep(&self, duration: Duration) {
            let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
            self.0.fetch_add(millis, Ordering::Relaxed);
        }
    }

    /// The same chance always.
    pub(crate) struct NoChance;

    impl Chance for NoChance {
        fn token(&self) -> String {
            "holder".to_owned()
        }
        fn up_to(&self, _: u64) -> u64 {
            1
        }
    }

    /// A token cache of one process.
    #[derive(Default)]
    pub(crate) struct Tokens(Mutex<TokenState>);

    #[async_trait]
    impl TokenStore for Tokens {
        async fn load(&self, _: &TokenSlot) -> Result<TokenState, StoreError> {
            Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
        }
        async fn lease(
            &self,
            _: &TokenSlot,
            _: u64,
            _: Timestamp,
            _: Timestamp,
            _: &str,
        ) -> Result<bool, StoreError> {
            Ok(true)
        }
        async fn store(&self, _: &TokenSlot, token: &CachedToken, _: &str) -> Result<bool, StoreError> {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = TokenState {
                token: Some(token.clone()),
                generation: token.generation,
                leased_until: None,
            };
            Ok(true)
        }
        async fn release(&self, _: &TokenSlot, _: u64, _: &str) -> Result<(), StoreError> {
            Ok(())
        }
        async fn drop_token(&self, _: &TokenSlot, _: u64) -> Result<(), StoreError> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).token = None;
            Ok(())
        }
    }
}
