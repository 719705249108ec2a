//! The flow at the level of gateway events: every file in `events/receive-webhook`, and what files cannot say: large
//! bodies, time that passes, stores that fail and come back, secrets that change.

use super::*;
use crate::ports::StoreError;
use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha2::Sha256;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// 2026-03-06T09:00:00Z: the time of all event files.
const NOW_MILLIS: i64 = 1_772_787_600_000;
/// The function's timeout in the template.
const TIMEOUT_MILLIS: i64 = 10_000;
const PLAIN_SECRET: &str = "fictional-secret-of-example-plain-01";
const NEXT_SECRET: &str = "fictional-secret-of-example-plain-02";
const INVOICE: &str = r#"{"event-type":"invoice","object":{"id":92010}}"#;

const INVOICE_BITS: usize = INVOICE.len() * 8;

/// The world of this flow: documents, a queue, a clock; all of them can be told to fail or move.
struct World {
    documents: Mutex<BTreeMap<String, String>>,
    looks: AtomicUsize,
    secrets_down: AtomicBool,
    queue_down: AtomicBool,
    /// Secret store and queue never answer.
    hanging: AtomicBool,
    hints: Mutex<Vec<Hint>>,
    now: AtomicI64,
    memory: Memory,
}

#[async_trait]
impl WebhookSecrets for World {
    async fn document(&self, connection: &ConnectionId) -> Result<Option<SecretString>, ReadError> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        if self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.secrets_down.load(Ordering::Relaxed) {
            return Err(ReadError::Unavailable {
                retry_after: None,
                problem: Problem::new("SECRET_STORE_DOWN", "Wait."),
            });
        }
        let documents = self.documents.lock().unwrap();
        Ok(documents.get(connection.as_str()).map(|text| text.clone().into()))
    }
}

#[async_trait]
impl Queue for World {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        if self.queue_down.load(Ordering::Relaxed) {
            return Err(StoreError(Problem::new("QUEUE_DOWN", "Wait.")));
        }
        self.hints.lock().unwrap().extend_from_slice(hints);
        Ok(())
    }
}

#[async_trait]
impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
    /// Time passes only while nothing else can happen.
    async fn sleep(&self, duration: Duration) {
        if !self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.pass(i64::try_from(duration.as_millis()).unwrap());
    }
}

impl Chance for World {
    fn token(&self) -> String {
        panic!("this flow needs no token");
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

impl World {
    fn new() -> Self {
        let documents = json_files(&events_folder().join("connections"))
            .into_iter()
            .map(|path| (stem(&path), std::fs::read_to_string(path).unwrap()))
            .collect();
        Self {
            documents: Mutex::new(documents),
            looks: AtomicUsize::new(0),
            secrets_down: AtomicBool::new(false),
            queue_down: AtomicBool::new(false),
            hanging: AtomicBool::new(false),
            hints: Mutex::default(),
            now: AtomicI64::new(NOW_MILLIS),
            memory: Memory::default(),
        }
    }

    fn deps(&self) -> Deps<'_> {
        Deps {
            secrets: self,
            memory: &self.memory,
            queue: self,
            clock: self,
            chance: self,
            ends: Timestamp(self.now.load(Ordering::Relaxed) + TIMEOUT_MILLIS),
        }
    }

    fn run(&self, request: &GatewayRequest) -> Answer {
        block_on(run(self.deps(), request))
    }

    fn pass(&self, millis: i64) {
        self.now.fetch_add(millis, Ordering::Relaxed);
    }

    fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    fn set_secrets(&self, connection: &str, secrets: &[&str]) {
        let document = json!({"scheme": "coupa-hmac", "secrets": secrets}).to_string();
        self.documents
            .lock()
            .unwrap()
            .insert(connection.to_owned(), document);
    }
}

/// Nothing here ever waits, so one poll is enough.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the flow waited for something"),
    }
}

fn events_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events/receive-webhook")
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn post(connection: &str, signature: &str, body: &str) -> GatewayRequest {
    let headers = BTreeMap::from([("x-coupa-signature".to_owned(), signature.to_owned())]);
    GatewayRequest {
        method: "POST".to_owned(),
        path: format!("/webhooks/coupa/{connection}"),
        headers: Headers::new(headers, None),
        body: body.to_owned(),
        body_is_base64: false,
    }
}

fn signed(secret: &str, body: &str) -> GatewayRequest {
    post("example-plain", &sign(secret, body.as_bytes()), body)
}

/// What the sender sees.
fn outside(answer: &Answer) -> Value {
    answer.to_gateway()
}

#[test]
fn every_event_file_is_answered_as_the_file_beside_it_says() {
    let mut tested = 0;
    for path in json_files(&events_folder()) {
        let name = stem(&path);
        if name.ends_with(".expected") {
            continue;
        }
        let expected = read(&path.with_file_name(format!("{name}.expected.json")));
        let world = World::new();
        match expected["world"].as_str() {
            None => {}
            Some("queue-down") => world.queue_down.store(true, Ordering::Relaxed),
            Some("secret-store-down") => world.secrets_down.store(true, Ordering::Relaxed),
            Some(other) => panic!("{name}: unknown world {other}"),
        }
        let request = GatewayRequest::read(&read(&path)).unwrap();
        let answer = world.run(&request);
        let gateway = answer.to_gateway();
        assert_eq!(answer.outcome.name(), expected["outcome"], "{name}");
        assert_eq!(answer.outcome.reason(), expected["reason"], "{name}");
        assert_eq!(gateway["statusCode"], expected["status"], "{name}");
        for (header, value) in expected["headers"].as_object().into_iter().flatten() {
            assert_eq!(&gateway["headers"][header], value, "{name} {header}");
        }
        if let Some(body) = expected.get("body") {
            assert_eq!(&gateway["body"], body, "{name}");
        }
        if let Some(field) = expected.get("problem_field") {
            let body: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(&body["problem"]["field"], field, "{name}");
        }
        let hints = serde_json::to_value(&*world.hints.lock().unwrap()).unwrap();
        assert_eq!(hints, expected["hints"], "{name}");
        tested += 1;
    }
    assert!(tested > 100, "only {tested} event files were found");
}

#[test]
fn every_expected_answer_has_its_event() {
    for path in json_files(&events_folder()) {
        if let Some(name) = stem(&path).strip_suffix(".expected") {
            assert!(
                path.with_file_name(format!("{name}.json")).exists(),
                "{name} has no event"
            );
        }
    }
}

#[test]
fn all_that_is_not_believed_looks_the_same_outside() {
    let world = World::new();
    let one = world.run(&signed(NEXT_SECRET, INVOICE));
    let reasons = [
        post("example-plain", "", INVOICE),
        post("example-plain", "é", INVOICE),
        post(
            "example-unknown",
            &sign(PLAIN_SECRET, INVOICE.as_bytes()),
            INVOICE,
        ),
        post("..", "x", INVOICE),
        post("example-timed", &sign(PLAIN_SECRET, INVOICE.as_bytes()), INVOICE),
        post("example-call-out", "", INVOICE),
    ];
    for request in reasons {
        assert_eq!(outside(&world.run(&request)), outside(&one));
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_anything_is_looked_up_or_hashed() {
    let world = World::new();
    let body = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX - 2));
    let fits = world.run(&signed(PLAIN_SECRET, &body));
    assert_eq!(fits.status, 400, "exactly 256 KiB is believed and not understood");
    let one_more = "x".repeat(BODY_BYTES_MAX + 1);
    let mut request = signed(PLAIN_SECRET, &one_more);
    request.body = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(&one_more)
    };
    request.body_is_base64 = true;
    assert_eq!(
        world.run(&request).status,
        413,
        "one byte more, told after decoding"
    );
    let looks = world.looks();
    for size in [BODY_BYTES_MAX + 1, 6 * 1024 * 1024] {
        for base64 in [false, true] {
            let mut request = signed(PLAIN_SECRET, INVOICE);
            request.body = "A".repeat(if base64 { size / 3 * 4 + 8 } else { size });
            request.body_is_base64 = base64;
            for connection in ["example-plain", "example-unknown"] {
                request.path = format!("/webhooks/coupa/{connection}");
                assert_eq!(world.run(&request).status, 413);
            }
        }
    }
    assert_eq!(world.looks(), looks);
}

#[test]
fn deep_wide_and_long_documents_are_refused_without_harm() {
    let world = World::new();
    let depth = "[".repeat(100_000) + &"]".repeat(100_000);
    let digits = format!(
        r#"{{"event-type":"invoice","object":{{"id":{}}}}}"#,
        "9".repeat(250_000)
    );
    let wide = format!("[{}0]", "0,".repeat(130_000));
    for body in [depth, digits, wide] {
        assert_eq!(world.run(&signed(PLAIN_SECRET, &body)).status, 400);
    }
}

#[test]
fn large_and_many_headers_are_refused_without_harm() {
    let world = World::new();
    let mut headers: BTreeMap<String, String> =
        (0..100_000).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    headers.insert("x-coupa-signature".to_owned(), "a".repeat(1_000_000));
    let mut request = signed(PLAIN_SECRET, INVOICE);
    request.headers = Headers::new(headers, None);
    assert_eq!(
        world.run(&request).outcome,
        Outcome::Refused(Distrust::ProofMalformed)
    );
}

#[test]
fn ten_thousand_bad_requests_cause_one_look_a_minute() {
    let world = World::new();
    let bad = signed(NEXT_SECRET, INVOICE);
    for _ in 0..10_000 {
        assert_eq!(world.run(&bad).status, 401);
    }
    assert_eq!(world.looks(), 1, "the first request read the settings");
    for minute in 1..=4_usize {
        world.pass(RELOAD_INTERVAL_MILLIS_MIN);
        for _ in 0..2_500 {
            assert_eq!(world.run(&bad).status, 401);
        }
        assert_eq!(world.looks(), 1 + minute);
    }
}

#[test]
fn ten_thousand_requests_for_one_unknown_connection_cause_one_look_a_minute() {
    let world = World::new();
    let request = post("example-unknown", &"0".repeat(64), INVOICE);
    for _ in 0..10_000 {
        assert_eq!(world.run(&request).status, 401);
    }
    assert_eq!(world.looks(), 1);
}

#[test]
fn a_connection_whose_document_is_wrong_is_looked_at_once_a_minute() {
    let world = World::new();
    let request = post("example-unfilled", &"0".repeat(64), INVOICE);
    world.set_secrets("example-unfilled", &["short"]);
    for minute in 1..=3_usize {
        for _ in 0..5 {
            (0..200).for_each(|_| assert_eq!(world.run(&request).status, 503));
            world.pass(FAILURE_PAUSE_MILLIS);
        }
        assert_eq!(world.looks(), minute);
        world.pass(RELOAD_INTERVAL_MILLIS_MIN);
    }
    world.set_secrets("example-unfilled", &[NEXT_SECRET]);
    assert_eq!(world.run(&request).status, 401, "and seen once it is right");
}

#[test]
fn made_up_connections_run_up_no_bill_and_lock_nobody_out_who_is_known() {
    let world = World::new();
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
    let looks_before = world.looks();
    let statuses: Vec<u16> = (0..10_000)
        .map(|n| {
            let name = format!("made-up-{n}");
            world.run(&post(&name, &"0".repeat(64), INVOICE)).status
        })
        .collect();
    let allowed = usize::try_from(FIRST_LOOKS_MAX).unwrap() - looks_before;
    assert_eq!(world.looks() - looks_before, allowed);
    assert!(
        statuses.iter().all(|status| *status == 401),
        "the answer does not tell whether anybody looked"
    );
    // A connection that exists and that this instance has not met is answered like one that does not.
    let known = world.run(&post("example-rotating", &"0".repeat(64), INVOICE));
    let unknown = world.run(&post("made-up", &"0".repeat(64), INVOICE));
    assert_eq!(
        (known.status, &known.headers, &known.body),
        (unknown.status, &unknown.headers, &unknown.body)
    );
    assert_eq!(unknown.outcome.reason(), TOO_MANY_UNKNOWN);
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
    world.pass(SETTINGS_AGE_MILLIS_MAX);
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
    for minute in 0..20 {
        world.pass(RELOAD_INTERVAL_MILLIS_MIN);
        for n in 0..100 {
            let name = format!("made-up-{minute}-{n}");
            world.run(&post(&name, &"0".repeat(64), INVOICE));
        }
    }
    let remembered = world.memory.lock();
    let most = 1 + usize::try_from(FIRST_LOOKS_MAX).unwrap();
    assert!(
        remembered.connections.len() <= most,
        "made-up names do not pile up"
    );
}

#[test]
fn a_store_that_never_answers_is_answered_for_before_lambda_ends_the_invocation() {
    let world = World::new();
    world.hanging.store(true, Ordering::Relaxed);
    let answer = world.run(&signed(PLAIN_SECRET, INVOICE));
    assert_eq!((answer.status, answer.outcome.name()), (503, "out-of-time"));
    assert!(answer.headers.iter().any(|(name, _)| *name == "retry-after"));
    let elapsed = world.now.load(Ordering::Relaxed) - NOW_MILLIS;
    assert_eq!(elapsed, TIMEOUT_MILLIS - ANSWER_MARGIN_MILLIS);
    world.hanging.store(false, Ordering::Relaxed);
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
}

#[test]
fn a_secret_changed_in_one_step_is_found_within_a_minute() {
    let world = World::new();
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
    world.set_secrets("example-plain", &[NEXT_SECRET]);
    assert_eq!(
        world.run(&signed(NEXT_SECRET, INVOICE)).status,
        401,
        "read a moment ago"
    );
    world.pass(RELOAD_INTERVAL_MILLIS_MIN);
    assert_eq!(world.run(&signed(NEXT_SECRET, INVOICE)).status, 202);
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 401);
    assert_eq!(world.looks(), 2);
}

#[test]
fn a_rotation_by_the_book_refuses_no_valid_request() {
    let world = World::new();
    let steps: [(&[&str], &str); 4] = [
        (&[PLAIN_SECRET], PLAIN_SECRET),
        (&[NEXT_SECRET, PLAIN_SECRET], PLAIN_SECRET),
        (&[NEXT_SECRET, PLAIN_SECRET], NEXT_SECRET),
        (&[NEXT_SECRET], NEXT_SECRET),
    ];
    for (documents, sender) in steps {
        world.set_secrets("example-plain", documents);
        for _ in 0..10 {
            assert_eq!(world.run(&signed(sender, INVOICE)).status, 202);
            world.pass(SETTINGS_AGE_MILLIS_MAX / 10);
        }
    }
    assert_eq!(
        world.run(&signed(PLAIN_SECRET, INVOICE)).status,
        401,
        "the old one is gone"
    );
}

#[test]
fn a_removed_secret_is_dead_after_five_minutes_even_if_it_alone_is_used() {
    let world = World::new();
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
    world.set_secrets("example-plain", &[NEXT_SECRET]);
    world.pass(SETTINGS_AGE_MILLIS_MAX - 1);
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
    world.pass(1);
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 401);
}

#[test]
fn a_removed_connection_is_unknown_after_the_next_look() {
    let world = World::new();
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);
    world.documents.lock().unwrap().remove("example-plain");
    world.pass(RELOAD_INTERVAL_MILLIS_MIN);
    assert_eq!(
        world.run(&signed(NEXT_SECRET, INVOICE)).outcome,
        Outcome::Refused(Distrust::UnknownConnection)
    );
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 401);
}

#[test]
fn a_new_connection_is_found_within_a_minute_of_being_unknown() {
    let world = World::new();
    let body = INVOICE.as_bytes();
    let request = post("example-new", &sign(NEXT_SECRET, body), INVOICE);
    assert_eq!(world.run(&request).status, 401);
    world.set_secrets("example-new", &[NEXT_SECRET]);
    assert_eq!(world.run(&request).status, 401);
    world.pass(RELOAD_INTERVAL_MILLIS_MIN);
    assert_eq!(world.run(&request).status, 202);
}

#[test]
fn a_secret_store_that_is_down_is_never_taken_for_an_answer() {
    let world = World::new();
    world.secrets_down.store(true, Ordering::Relaxed);
    for _ in 0..1_000 {
        assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 503);
    }
    assert_eq!(world.looks(), 1, "it is left in peace for some seconds");
    world.secrets_down.store(false, Ordering::Relaxed);
    world.pass(FAILURE_PAUSE_MILLIS);
    assert_eq!(world.run(&signed(PLAIN_SECRET, INVOICE)).status, 202);

    world.secrets_down.store(true, Ordering::Relaxed);
    assert_eq!(
        world.run(&signed(PLAIN_SECRET, INVOICE)).status,
        202,
        "what was read is still good"
    );
    world.pass(RELOAD_INTERVAL_MILLIS_MIN);
    let looks = world.looks();
    for _ in 0..1_000 {
        let answer = world.run(&signed(NEXT_SECRET, INVOICE));
        assert_eq!(
            answer.status, 503,
            "the secret may have changed: the verdict is open"
        );
    }
    assert_eq!(world.looks(), looks + 1);
    world.pass(SETTINGS_AGE_MILLIS_MAX);
    assert_eq!(
        world.run(&signed(PLAIN_SECRET, INVOICE)).status,
        503,
        "too old to be trusted"
    );
}

#[test]
fn settings_that_are_wrong_stop_the_connection_and_no_other() {
    let world = World::new();
    world.set_secrets("example-plain", &["short"]);
    let answer = world.run(&signed("short", INVOICE));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.outcome.reason(), "WEBHOOK_SETTINGS_INVALID");
    assert!(!answer.body.contains("WEBHOOK"), "the sender learns nothing");
    let other = post(
        "example-other",
        &sign("fictional-secret-of-example-other-01", INVOICE.as_bytes()),
        INVOICE,
    );
    assert_eq!(world.run(&other).status, 202);
}

#[test]
fn a_queue_that_is_down_is_told_and_a_retry_gets_through() {
    let world = World::new();
    world.queue_down.store(true, Ordering::Relaxed);
    let request = signed(PLAIN_SECRET, INVOICE);
    let answer = world.run(&request);
    assert_eq!(answer.status, 503);
    assert!(
        answer
            .headers
            .contains(&("retry-after", RETRY_AFTER_SECONDS.to_string()))
    );
    world.queue_down.store(false, Ordering::Relaxed);
    assert_eq!(world.run(&request).status, 202);
}

#[test]
fn a_repeated_event_is_answered_like_the_first_and_gives_the_same_hint() {
    let world = World::new();
    let first = world.run(&signed(PLAIN_SECRET, INVOICE));
    let second = world.run(&signed(PLAIN_SECRET, INVOICE));
    assert_eq!(outside(&first), outside(&second));
    let hints = world.hints.lock().unwrap();
    assert_eq!(hints.len(), 2);
    assert_eq!(hints.first(), hints.last());
}

const CLIENT_SECRET: &str = "fictional-client-secret-of-coupa-example";

fn basic(secret: &str) -> String {
    use base64::Engine;
    let text = format!("coupa-example:{secret}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}

fn call(world: &World, path: &str, authorization: &str, body: &str) -> Answer {
    let headers = BTreeMap::from([("Authorization".to_owned(), authorization.to_owned())]);
    world.run(&GatewayRequest {
        method: "POST".to_owned(),
        path: format!("/webhooks/coupa/{path}"),
        headers: Headers::new(headers, None),
        body: body.to_owned(),
        body_is_base64: false,
    })
}

/// Fetches a token as Coupa does and answers the header it then sends.
fn fetch_bearer(world: &World, client_secret: &str) -> String {
    let form = "grant_type=client_credentials";
    let issued = call(world, "example-call-out/token", &basic(client_secret), form);
    assert_eq!(issued.status, 200);
    let token: Value = serde_json::from_str(&issued.body).unwrap();
    format!("Bearer {}", token["access_token"].as_str().unwrap())
}

fn set_call_out(world: &World, secrets: &[&str], client_secrets: &[&str]) {
    let clients: Vec<Value> = client_secrets
        .iter()
        .map(|secret| json!({"id": "coupa-example", "secret": secret}))
        .collect();
    let document = json!({"scheme": "coupa-call-out", "secrets": secrets, "call_out": {"clients": clients}});
    let mut documents = world.documents.lock().unwrap();
    documents.insert("example-call-out".to_owned(), document.to_string());
    drop(documents);
    world.pass(SETTINGS_AGE_MILLIS_MAX);
}

#[test]
fn tokens_outlive_the_first_step_of_a_rotation_and_end_with_the_second() {
    let world = World::new();
    let status = |bearer: &str| call(&world, "example-call-out", bearer, INVOICE).status;
    let next_client = "fictional-client-secret-of-coupa-example-2";

    set_call_out(&world, &[PLAIN_SECRET], &[CLIENT_SECRET]);
    let first = fetch_bearer(&world, CLIENT_SECRET);
    set_call_out(
        &world,
        &[NEXT_SECRET, PLAIN_SECRET],
        &[next_client, CLIENT_SECRET],
    );
    let second = fetch_bearer(&world, CLIENT_SECRET);
    let third = fetch_bearer(&world, next_client);
    assert_eq!([&first, &second, &third].map(|bearer| status(bearer)), [202; 3]);
    set_call_out(&world, &[NEXT_SECRET], &[next_client, CLIENT_SECRET]);
    assert_eq!(
        [&first, &second, &third].map(|bearer| status(bearer)),
        [401, 202, 202],
        "the signing secret of the first is gone"
    );
    set_call_out(&world, &[NEXT_SECRET], &[next_client]);
    assert_eq!(
        [&first, &second, &third].map(|bearer| status(bearer)),
        [401, 401, 202],
        "the client secret behind the second is gone"
    );
}

#[test]
fn a_token_with_any_letter_changed_is_refused() {
    let world = World::new();
    let bearer = fetch_bearer(&world, CLIENT_SECRET);
    for (index, letter) in bearer.char_indices().skip("Bearer ".len()) {
        let mut changed = bearer.clone();
        let other = if letter == '1' { "2" } else { "1" };
        changed.replace_range(index..=index, other);
        assert_eq!(
            call(&world, "example-call-out", &changed, INVOICE).status,
            401,
            "{index}"
        );
    }
    assert_eq!(call(&world, "example-call-out", &bearer, INVOICE).status, 202);
}

#[test]
fn a_token_is_good_for_its_connection_its_client_and_its_time() {
    let world = World::new();
    let call = |path: &str, authorization: String, body: &str| call(&world, path, &authorization, body);
    let secret = CLIENT_SECRET;
    let issued = call(
        "example-call-out/token",
        basic(secret),
        "grant_type=client_credentials",
    );
    let token: Value = serde_json::from_str(&issued.body).unwrap();
    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    assert_eq!(call("example-call-out", bearer.clone(), INVOICE).status, 202);
    assert_eq!(call("example-plain", bearer.clone(), INVOICE).status, 401);
    world.pass(899_999);
    assert_eq!(call("example-call-out", bearer.clone(), INVOICE).status, 202);
    world.pass(1);
    assert_eq!(
        call("example-call-out", bearer, INVOICE).outcome,
        Outcome::Refused(Distrust::TokenExpired)
    );
    for form in [
        "",
        "grant_type=",
        "grant_type=client_credentials&grant_type=client_credentials",
        "grant_type=password",
        "{}",
        r#"{"grant_type":"password"}"#,
        r#"{"grant_type":"client_credentials","grant_type":"client_credentials"}"#,
        r#"{"grant_type":["client_credentials"]}"#,
        r#"{"grant_type":"client_credentials"} x"#,
    ] {
        assert_eq!(
            call("example-call-out/token", basic(secret), form).status,
            400,
            "{form}"
        );
    }
    for _ in 0..10_000 {
        assert_eq!(call("example-call-out/token", basic("wrong"), "").status, 401);
    }
    assert!(world.looks() <= 6, "{} looks", world.looks());
}

/// A client whose credentials have a letter in which the two alphabets differ, twice, and need padding.
#[test]
fn basic_credentials_come_in_either_alphabet_padded_or_not() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let world = World::new();
    let secret = "~~~~~~-fictional-client-secret-01";
    set_call_out(&world, &[PLAIN_SECRET], &[secret]);
    let text = format!("coupa-example:{secret}");
    let status = |offered: &str| {
        let authorization = format!("Basic {offered}");
        call(
            &world,
            "example-call-out/token",
            &authorization,
            r#" {"grant_type": "client_credentials", "scope": "any"}"#,
        )
        .status
    };
    let standard = STANDARD.encode(&text);
    let url_safe = URL_SAFE.encode(&text);
    assert!(standard.contains('+') && standard.ends_with('=') && standard != url_safe);
    for offered in [
        &standard,
        &url_safe,
        &STANDARD_NO_PAD.encode(&text),
        &URL_SAFE_NO_PAD.encode(&text),
    ] {
        assert_eq!(status(offered), 200, "{offered}");
    }
    let both = url_safe.replacen('-', "+", 1);
    for wrong in [both, format!("{standard}="), STANDARD.encode(format!("{text}x"))] {
        assert_eq!(status(&wrong), 401, "{wrong}");
    }
}

#[test]
fn refusals_are_all_counted_and_logged_ever_more_rarely() {
    let mut remembered = Remembered::default();
    let now = Timestamp(NOW_MILLIS);
    let lines: Vec<u64> = (0..1_000)
        .filter_map(|_| remembered.count_refusal("a", now.plus_seconds(59)))
        .collect();
    assert_eq!(
        lines,
        [1, 1, 2, 4, 8, 16, 32, 64, 128, 256],
        "a line per doubling"
    );
    assert_eq!(remembered.count_refusal("b", now), Some(1));
    assert_eq!(
        remembered.count_refusal("a", now.plus_seconds(119)),
        Some(1_000 - 512 + 1),
        "with what the lines before did not tell"
    );
    assert_eq!(remembered.count_refusal("a", now.plus_seconds(119)), Some(1));
}

#[test]
fn events_that_are_no_http_events_get_an_answer() {
    let world = World::new();
    for event in [
        json!(null),
        json!(5),
        json!([]),
        json!({}),
        json!({"headers": 5}),
        json!({"headers": {"x-coupa-signature": 5}, "rawPath": "/webhooks/coupa/example-plain"}),
        json!({"Records": [{"eventSource": "aws:sqs"}]}),
        json!({"requestContext": null, "headers": null, "multiValueHeaders": null, "body": null, "rawPath": null}),
    ] {
        let answer = block_on(handle(world.deps(), &event));
        let status = answer["statusCode"].as_u64().unwrap();
        assert!(status == 400 || status == 404, "{event}: {status}");
        assert_eq!(answer["isBase64Encoded"], false);
    }
    assert_eq!(world.looks(), 0);
}

#[test]
fn a_stage_is_taken_off_only_as_a_whole_segment() {
    assert_eq!(without_stage("/live/webhooks/x", "live"), "/webhooks/x");
    assert_eq!(
        without_stage("/liveness/webhooks/x", "live"),
        "/liveness/webhooks/x"
    );
    assert_eq!(without_stage("/webhooks/x", "$default"), "/webhooks/x");
    assert_eq!(without_stage("", ""), "");
}

#[test]
fn nothing_that_is_secret_is_in_an_answer_or_printed() {
    let world = World::new();
    for path in json_files(&events_folder()) {
        if stem(&path).ends_with(".expected") {
            continue;
        }
        let answer = world.run(&GatewayRequest::read(&read(&path)).unwrap());
        let shown = format!("{:?} {}", answer.outcome, answer.to_gateway());
        assert!(!shown.contains("fictional"), "{}: {shown}", path.display());
    }
    let document = SecretString::from(world.documents.lock().unwrap()["example-call-out"].clone());
    let settings = WebhookSettings::parse(&document).unwrap();
    assert!(!format!("{settings:?}").contains("fictional"));
}

proptest! {
    #[test]
    fn no_event_makes_it_panic(
        method in "[A-Z]{0,6}|POST",
        path in "(/webhooks/coupa/)?\\PC{0,30}|/webhooks/coupa/example-(plain|timed|standard|stripe|custom|call-out)(/token)?",
        headers in proptest::collection::btree_map(
            "x-coupa-signature|x-coupa-timestamp|webhook-(id|timestamp|signature)|stripe-signature|authorization|x-example-(time|id|signature)",
            "\\PC{0,80}|[0-9a-f]{64}|t=[0-9]{1,20},v1=[0-9a-f]{64}|v1,[A-Za-z0-9+/]{43}=|Bearer [0-9]{1,20}\\.[0-9a-f]{64}|Basic [A-Za-z0-9+/]{0,40}",
            0..6,
        ),
        body in "\\PC{0,200}",
        body_is_base64: bool,
    ) {
        let world = World::new();
        let request = GatewayRequest { method, path, headers: Headers::new(headers, None), body, body_is_base64 };
        let answer = world.run(&request);
        prop_assert!([401, 404, 405].contains(&answer.status), "{}", answer.status);
        prop_assert!(world.hints.lock().unwrap().is_empty());
    }

    #[test]
    fn a_signed_body_of_any_bytes_gets_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        use base64::Engine;
        let world = World::new();
        let mut request = post("example-plain", &sign(PLAIN_SECRET, &bytes), "");
        request.body = base64::engine::general_purpose::STANDARD.encode(&bytes);
        request.body_is_base64 = true;
        prop_assert_eq!(world.run(&request).status, 400);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused(bit in 0..INVOICE_BITS, tag_bit in 0_usize..256) {
        use base64::Engine;
        let engine = base64::engine::general_purpose::STANDARD;
        let world = World::new();
        let mut body = INVOICE.as_bytes().to_vec();
        let signature = sign(PLAIN_SECRET, &body);
        body[bit / 8] ^= 1 << (bit % 8);
        let mut request = post("example-plain", &signature, &engine.encode(&body));
        request.body_is_base64 = true;
        prop_assert_eq!(world.run(&request).outcome, Outcome::Refused(Distrust::SignatureWrong));
        let mut tag = hex::decode(&signature).unwrap();
        tag[tag_bit / 8] ^= 1 << (tag_bit % 8);
        let request = post("example-plain", &hex::encode(tag), INVOICE);
        prop_assert_eq!(world.run(&request).outcome, Outcome::Refused(Distrust::SignatureWrong));
    }
}
