//! Tests of the whole crate against a scripted transport: no socket, no real time.

mod backlog;
mod coupa;
mod entities;
mod http;
mod lookups;
mod master_data;
mod payments;
mod qad;
mod secrets;
mod settings;
mod suppliers;
mod together;

use crate::connection::{ConnectionDocument, World, clients};
use crate::coupa::CoupaClient;
use crate::http::pace::Paces;
use crate::http::transport::{Request, Response, Transport, TransportError};
use crate::qad::QadClient;
use ::domain::problem::Problem;
use ::domain::time::Timestamp;
use async_trait::async_trait;
use flows::ports::{CachedToken, Chance, Clock, StoreError, TokenSlot, TokenState, TokenStore};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// 2026-11-06T08:00:00Z.
pub(crate) const START: Timestamp = Timestamp(1_794_038_400_000);
pub(crate) const HTTP_TIMEOUT: Duration = Duration::from_secs(120);

pub(crate) type Outcome = Result<Response, TransportError>;

pub(crate) fn answer(status: u16, body: &str) -> Outcome {
    Ok(Response {
        status,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    })
}

pub(crate) fn answer_with(status: u16, header: (&str, &str), body: &str) -> Outcome {
    Ok(Response {
        status,
        headers: vec![(header.0.to_owned(), header.1.to_owned())],
        body: body.as_bytes().to_vec(),
    })
}

/// Answers calls from a script. Token requests have a script of their own that ends in good tokens.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) calls: Mutex<VecDeque<Outcome>>,
    pub(crate) tokens: Mutex<VecDeque<Outcome>>,
    pub(crate) sent: Mutex<Vec<Request>>,
    pub(crate) token_requests: Mutex<Vec<Request>>,
}

impl Script {
    pub(crate) fn then(&self, outcome: Outcome) {
        self.calls.lock().unwrap().push_back(outcome);
    }

    pub(crate) fn then_token(&self, outcome: Outcome) {
        self.tokens.lock().unwrap().push_back(outcome);
    }

    pub(crate) fn sent(&self) -> Vec<Request> {
        self.sent.lock().unwrap().clone()
    }

    pub(crate) fn token_requests(&self) -> Vec<Request> {
        self.token_requests.lock().unwrap().clone()
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Request) -> Outcome {
        // As a real exchange does.
        tokio::task::yield_now().await;
        if request.url.contains("/oauth") || request.url.ends_with("/api/login") {
            let count = {
                let mut requests = self.token_requests.lock().unwrap();
                requests.push(request);
                requests.len()
            };
            let scripted = self.tokens.lock().unwrap().pop_front();
            return scripted.unwrap_or_else(|| {
                answer(
                    200,
                    &format!(
                        r#"{{"access_token":"token-{count}","token_type":"bearer","expires_in":86399}}"#
                    ),
                )
            });
        }
        self.sent.lock().unwrap().push(request);
        self.calls
            .lock()
            .unwrap()
            .pop_front()
            .expect("a request that the script does not know")
    }
}

/// A clock that only moves when somebody sleeps.
pub(crate) struct StillClock {
    pub(crate) now: AtomicI64,
    pub(crate) slept: Mutex<Vec<Duration>>,
}

#[async_trait]
impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        tokio::task::yield_now().await;
        self.slept.lock().unwrap().push(duration);
        let millis = i64::try_from(duration.as_millis()).unwrap();
        self.now.fetch_add(millis, Ordering::SeqCst);
    }
}

/// Always the same chance: the upper end.
#[derive(Default)]
pub(crate) struct NoChance(AtomicU64);

impl Chance for NoChance {
    fn token(&self) -> String {
        format!("holder-{}", self.0.fetch_add(1, Ordering::SeqCst))
    }

    fn up_to(&self, max: u64) -> u64 {
        max
    }
}

/// The shared token cache, in memory.
#[derive(Default)]
pub(crate) struct MemoryTokens {
    pub(crate) slots: Mutex<BTreeMap<TokenSlot, (TokenState, String)>>,
    pub(crate) down: AtomicBool,
    pub(crate) dropped: Mutex<Vec<u64>>,
}

impl MemoryTokens {
    fn up(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError(Problem::new("TOKEN_STORE_UNAVAILABLE", "")));
        }
        Ok(())
    }
}

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn load(&self, slot: &TokenSlot) -> Result<TokenState, StoreError> {
        self.up()?;
        tokio::task::yield_now().await;
        Ok(self
            .slots
            .lock()
            .unwrap()
            .get(slot)
            .map(|(state, _)| state.clone())
            .unwrap_or_default())
    }

    async fn lease(
        &self,
        slot: &TokenSlot,
        generation: u64,
        now: Timestamp,
        until: Timestamp,
        holder: &str,
    ) -> Result<bool, StoreError> {
        self.up()?;
        let mut slots = self.slots.lock().unwrap();
        let (state, held_by) = slots.entry(slot.clone()).or_default();
        if state.generation != generation || state.leased_until.is_some_and(|end| end > now) {
            return Ok(false);
        }
        state.leased_until = Some(until);
        *held_by = holder.to_owned();
        Ok(true)
    }

    async fn store(&self, slot: &TokenSlot, token: &CachedToken, holder: &str) -> Result<bool, StoreError> {
        self.up()?;
        let mut slots = self.slots.lock().unwrap();
        let (state, held_by) = slots.entry(slot.clone()).or_default();
        if held_by != holder {
            return Ok(false);
        }
        *state = TokenState {
            token: Some(token.clone()),
            generation: token.generation,
            leased_until: None,
        };
        Ok(true)
    }

    async fn release(&self, slot: &TokenSlot, generation: u64, holder: &str) -> Result<(), StoreError> {
        self.up()?;
        let mut slots = self.slots.lock().unwrap();
        let (state, held_by) = slots.entry(slot.clone()).or_default();
        if state.generation == generation && held_by == holder {
            state.leased_until = None;
        }
        Ok(())
    }

    async fn drop_token(&self, slot: &TokenSlot, generation: u64) -> Result<(), StoreError> {
        self.up()?;
        self.dropped.lock().unwrap().push(generation);
        let mut slots = self.slots.lock().unwrap();
        let (state, _) = slots.entry(slot.clone()).or_default();
        if state
            .token
            .as_ref()
            .is_some_and(|token| token.generation == generation)
        {
            state.token = None;
        }
        Ok(())
    }
}

/// Both clients on one script.
pub(crate) struct Bench {
    pub(crate) script: Arc<Script>,
    pub(crate) clock: Arc<StillClock>,
    pub(crate) tokens: Arc<MemoryTokens>,
    pub(crate) document: ConnectionDocument,
    pub(crate) world: World,
    pub(crate) coupa: CoupaClient,
    pub(crate) qad: QadClient,
}

pub(crate) fn document() -> serde_json::Value {
    serde_json::json!({
        "coupa": {
            "base_url": "https://example.coupahost.com",
            "client_id": "coupa id",
            "client_secret": "coupa+secret",
            "scopes": ["core.invoice.read", "core.invoice.write"],
            "integration_history": {"enabled": true},
        },
        "qad": {
            "base_url": "https://example.qad.com/clouderp",
            "domain": "10USA",
            "entity": "10USACO",
            "auth": {"type": "password", "client_id": "tenant", "username": "ann", "password": "p&w"},
        },
    })
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&document())
    }

    pub(crate) fn with(document: &serde_json::Value) -> Self {
        let script = Arc::new(Script::default());
        let clock = Arc::new(StillClock {
            now: AtomicI64::new(START.0),
            slept: Mutex::default(),
        });
        let tokens = Arc::new(MemoryTokens::default());
        let world = World {
            transport: script.clone(),
            tokens: tokens.clone(),
            clock: clock.clone(),
            chance: Arc::new(NoChance::default()),
            paces: Arc::new(Paces::new(1)),
        };
        let document = ConnectionDocument::parse(&document.to_string()).unwrap();
        let (coupa, qad) = clients(&"acme".parse().unwrap(), &document, &world, HTTP_TIMEOUT);
        Self {
            script,
            clock,
            tokens,
            document,
            world,
            coupa,
            qad,
        }
    }

    /// Another instance of the same function: its own process, the same world outside.
    pub(crate) fn another_instance(&self) -> (CoupaClient, QadClient) {
        let world = World {
            paces: Arc::new(Paces::new(1)),
            ..self.world.clone()
        };
        clients(&"acme".parse().unwrap(), &self.document, &world, HTTP_TIMEOUT)
    }

    pub(crate) fn slept_millis(&self) -> Vec<u128> {
        self.clock
            .slept
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_millis)
            .collect()
    }

    pub(crate) fn pass(&self, seconds: i64) {
        self.clock
            .now
            .fetch_add(seconds.saturating_mul(1000), Ordering::SeqCst);
    }
}

pub(crate) fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let mut values = request.headers.iter().filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.as_str());
    assert!(values.next().is_none(), "{name} is sent once");
    value
}

pub(crate) fn body(request: &Request) -> &str {
    std::str::from_utf8(request.body.as_deref().unwrap_or_default()).unwrap()
}
