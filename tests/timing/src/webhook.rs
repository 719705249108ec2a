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

use domain::ids::ConnectionId;
use domain::time::Timestamp;
use flows::ports::{Chance, Clock, Hint, Queue, ReadError, StoreError};
use flows::receive_webhook::{Deps, Memory, WebhookSecrets, handle};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::SecretString;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::Sha256;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const CALLS_DEFAULT: u64 = 2_000;
/// Bytes of the body: what an invoice of some lines takes.
const BODY_BYTES_DEFAULT: u64 = 9_800;
const SECRET: &str = "fictional-secret-of-the-timing-test";

/// A world that always answers.
struct World;

#[async_trait::async_trait]
impl WebhookSecrets for World {
    async fn document(&self, _: &ConnectionId) -> Result<Option<SecretString>, ReadError> {
        let document = json!({"scheme": "coupa-hmac", "secrets": [SECRET]});
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

/// An event with the whole document in it, as long as asked for.
fn body(bytes: usize) -> String {
    let line = |number: usize| {
        json!({
            "id": 500_000 + number, "line-num": number, "description": "Steel plate 4 mm \"cut\", grade é",
            "quantity": "12.00", "price": "17.25", "total": "207.00", "order-header-num": "PO-4711",
            "order-line-num": number.to_string(), "account": {"code": "4000-200", "segments": ["4000", "200", null]},
            "tags": [], "matched": true, "weight": 1.5,
        })
    };
    let event = |lines: usize| {
        json!({
            "event-id": "evt-0001", "event-type": "invoice", "occurred-at": "2026-03-06T08:59:58Z",
            "object": {"invoice-number": "INV-1", "lines": (1..=lines).map(line).collect::<Vec<_>>(), "id": 92_010},
        })
        .to_string()
    };
    let lines = (1..).find(|lines| event(*lines).len() >= bytes).unwrap();
    event(lines)
}

fn gateway_event(body: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    json!({
        "version": "2.0",
        "routeKey": "POST /webhooks/coupa/{connection}",
        "rawPath": "/webhooks/coupa/example",
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "content-length": body.len().to_string(),
            "content-type": "application/json",
            "host": "hooks.example.com",
            "user-agent": "ExampleSender/1.0",
            "x-amzn-trace-id": "Root=1-00000000-000000000000000000000001",
            "x-forwarded-for": "192.0.2.10",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            "x-coupa-signature": hex::encode(mac.finalize().into_bytes()),
        },
        "pathParameters": {"connection": "example"},
        "requestContext": {
            "accountId": "123456789012", "apiId": "hooks", "domainName": "hooks.example.com", "domainPrefix": "hooks",
            "http": {
                "method": "POST", "path": "/webhooks/coupa/example", "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.10", "userAgent": "ExampleSender/1.0",
            },
            "requestId": "00000000-0000-4000-8000-000000000001", "routeKey": "POST /webhooks/coupa/{connection}",
            "stage": "$default", "time": "06/Mar/2026:09:00:00 +0000", "timeEpoch": 1_772_787_600_000_i64,
        },
        "isBase64Encoded": false,
        "body": body,
    })
    .to_string()
    .into_bytes()
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
    let body = body(usize::try_from(number("--body", BODY_BYTES_DEFAULT)).unwrap());
    let payload = gateway_event(&body);
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
