//! What one webhook costs between the bytes that the runtime got and the bytes of the answer: the flow itself, with a secret
//! store and a queue in memory. CPU time per call is printed; under `valgrind --tool=callgrind` the difference of two runs
//! gives the instructions, which no other load on the machine changes.
//!
//! `cargo run --release -p timing --bin webhook -- [--calls 2000] [--body 9800]`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    reason = "a measuring tool: it owns its clock, prints, and ends when something is wrong with it"
)]

mod sample;

use domain::ids::ConnectionId;
use domain::time::Timestamp;
use flows::ports::{Chance, Clock, Hint, Queue, ReadError, StoreError};
use flows::receive_webhook::{Deps, Memory, WebhookSecrets, handle};
use secrecy::SecretString;
use serde_json::json;
use serde_json::value::RawValue;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const CALLS_DEFAULT: u64 = 2_000;
/// Bytes of the body: what an invoice of some lines takes.
const BODY_BYTES_DEFAULT: u64 = 9_800;

/// A world that always answers.
struct World;

#[async_trait::async_trait]
impl WebhookSecrets for World {
    async fn document(&self, _: &ConnectionId) -> Result<Option<SecretString>, ReadError> {
        let document = json!({"scheme": "coupa-hmac", "secrets": [sample::SECRET]});
        Ok(Some(SecretString::from(document.to_string())))
    }
}

#[async_trait::async_trait]
impl Queue for World {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        black_box(hints);
        Ok(())
    }
}

#[async_trait::async_trait]
impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    async fn sleep(&self, _: Duration) {
        std::future::pending().await
    }
}

impl Chance for World {
    fn token(&self) -> String {
        String::new()
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

/// One call, as the runtime makes it.
fn call(memory: &Memory, payload: &[u8]) -> Vec<u8> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let event: Box<RawValue> = serde_path_to_error::deserialize(&mut json).unwrap();
    let deps = Deps {
        secrets: &World,
        memory,
        queue: &World,
        clock: &World,
        chance: &World,
        ends: Timestamp(i64::MAX),
    };
    let mut future = pin!(handle(deps, event.get()));
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => serde_json::to_vec(&answer).unwrap(),
        Poll::Pending => unreachable!("nothing in this world waits"),
    }
}

/// CPU time of this process so far: user and system, in clock ticks of 10 ms.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        arguments
            .iter()
            .position(|argument| argument == name)
            .and_then(|at| arguments.get(at + 1))
            .map_or(default, |text| text.parse().unwrap())
    };
    let calls = number("--calls", CALLS_DEFAULT);
    let body = sample::body(usize::try_from(number("--body", BODY_BYTES_DEFAULT)).unwrap());
    let payload = sample::gateway_event(&body).into_bytes();
    let memory = Memory::default();
    let answer = String::from_utf8(call(&memory, &payload)).unwrap();
    assert!(answer.contains("202"), "{answer}");
    let before = cpu_ticks();
    for _ in 0..calls {
        black_box(call(&memory, black_box(&payload)));
    }
    let nanoseconds = (cpu_ticks() - before) * 10_000_000;
    println!(
        "body {} bytes, {calls} calls: {} ns of CPU a call",
        body.len(),
        nanoseconds / calls.max(1)
    );
}
