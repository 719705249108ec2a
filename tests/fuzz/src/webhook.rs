//! The door: gateway events, headers of every scheme, webhook documents.

use crate::block_on;
use crate::ports::{Clockwork, NoChance};
use async_trait::async_trait;
use domain::ids::ConnectionId;
use domain::time::Timestamp;
use flows::ports::{Hint, Queue, ReadError, StoreError};
use flows::receive_webhook::{Deps, GatewayRequest, Memory, WebhookSecrets, handle, run};
use flows::webhook::Headers;
use flows::webhook::settings::WebhookSettings;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The webhook documents of the event files, by connection.
const DOCUMENTS: [(&str, &str); 9] = [
    (
        "example-call-out",
        include_str!("../../../events/receive-webhook/connections/example-call-out.json"),
    ),
    (
        "example-custom",
        include_str!("../../../events/receive-webhook/connections/example-custom.json"),
    ),
    (
        "example-github",
        include_str!("../../../events/receive-webhook/connections/example-github.json"),
    ),
    (
        "example-other",
        include_str!("../../../events/receive-webhook/connections/example-other.json"),
    ),
    (
        "example-plain",
        include_str!("../../../events/receive-webhook/connections/example-plain.json"),
    ),
    (
        "example-rotating",
        include_str!("../../../events/receive-webhook/connections/example-rotating.json"),
    ),
    (
        "example-standard",
        include_str!("../../../events/receive-webhook/connections/example-standard.json"),
    ),
    (
        "example-stripe",
        include_str!("../../../events/receive-webhook/connections/example-stripe.json"),
    ),
    (
        "example-timed",
        include_str!("../../../events/receive-webhook/connections/example-timed.json"),
    ),
];

/// Documents from the list above, and a queue that takes everything.
#[derive(Default)]
struct Door(Mutex<Vec<Hint>>);

#[async_trait]
impl WebhookSecrets for Door {
    async fn document(&self, connection: &ConnectionId) -> Result<Option<SecretString>, ReadError> {
        let found = DOCUMENTS.iter().find(|(name, _)| *name == connection.as_str());
        Ok(found.map(|(_, text)| SecretString::from(*text)))
    }
}

#[async_trait]
impl Queue for Door {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(hints);
        Ok(())
    }
}

/// What every answer must be, whatever came: a documented status, a hint exactly when it says so, and no secret.
fn check(door: &Door, status: u64, body: &str) {
    let hints = door.0.lock().unwrap_or_else(PoisonError::into_inner).len();
    assert!(
        [200, 202, 400, 401, 404, 405, 413].contains(&status),
        "status {status}"
    );
    assert_eq!(hints, usize::from(status == 202), "hints with status {status}");
    assert!(!body.contains("fictional-secret"), "a secret in {body}");
}

pub(crate) fn gateway_event(bytes: &[u8]) {
    let Ok(event) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let (door, memory, clock) = (Door::default(), Memory::default(), Clockwork::default());
    let answer = block_on(handle(deps(&door, &memory, &clock), &event));
    check(
        &door,
        answer["statusCode"].as_u64().unwrap_or(0),
        answer["body"].as_str().unwrap_or_default(),
    );
}

/// First byte: which connection; then header lines, an empty line, the body. A body that is not UTF-8 comes as base64.
pub(crate) fn headers(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let (connection, _) = DOCUMENTS[usize::from(*choice) % DOCUMENTS.len()];
    let text = String::from_utf8_lossy(rest);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut single = BTreeMap::new();
    let mut many: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in head.split('\n') {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        many.entry(name.to_owned()).or_default().push(value.clone());
        single.insert(name.to_owned(), value);
    }
    let is_token = choice & 0x80 != 0;
    let request = GatewayRequest {
        method: "POST".to_owned(),
        path: format!(
            "/webhooks/coupa/{connection}{}",
            if is_token { "/token" } else { "" }
        ),
        headers: Headers::new(single, (choice & 0x40 != 0).then_some(many)),
        body: body.to_owned(),
        body_is_base64: choice & 0x20 != 0,
    };
    let (door, memory, clock) = (Door::default(), Memory::default(), Clockwork::default());
    let answer = block_on(run(deps(&door, &memory, &clock), &request));
    check(&door, u64::from(answer.status), &answer.body);
}

/// A webhook's document, as an operator might write it. What it refuses or prints shows no secret.
pub(crate) fn document(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let shown = match WebhookSettings::parse(&SecretString::from(text)) {
        Ok(settings) => format!("{settings:?}"),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            format!("{problems:?}")
        }
    };
    assert!(
        !is_secret_alone(text) || !shown.contains(MARKER),
        "a secret in {shown}"
    );
}

const MARKER: &str = "fictional-secret";

/// True when the marker stands among the secrets, and nowhere else.
fn is_secret_alone(text: &str) -> bool {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let secrets = value["secrets"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let there: usize = secrets.map(|secret| secret.matches(MARKER).count()).sum();
    there > 0 && text.matches(MARKER).count() == there
}

fn deps<'a>(door: &'a Door, memory: &'a Memory, clock: &'a Clockwork) -> Deps<'a> {
    Deps {
        secrets: door,
        memory,
        queue: door,
        clock,
        chance: &NoChance,
        ends: Timestamp(i64::MAX),
    }
}
