//! The function that faces the internet, as its deployable binary: every event file, failing stores, and a flood.

use super::world::{start_local, until, workspace};
use crate::support::Folder;
use hmac::{Hmac, KeyInit, Mac};
use sandbox::local::{LocalConnection, LocalRun};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FUNCTION: &str = "receive-webhook";
const SECRET_READS: &str = "secretsmanager.GetSecretValue";
const UNAUTHORIZED: &str = r#"{"error":"unauthorized"}"#;
/// Requests of the flood.
const FLOOD: u32 = 10_000;
/// Requests before the memory is measured for the first time.
const WARM_UP: u32 = 500;
/// Most that the process may have grown by the end of the flood, in KiB.
const GROWTH_KIB_MAX: u64 = 6 * 1024;
/// Most that the flood may add to the log, in bytes.
const LOG_BYTES_MAX: u64 = 64 * 1024;

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
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

/// The function with the webhook documents of the event files.
async fn start(name: &str) -> (LocalRun, Folder) {
    let folder = Folder::new(name);
    let connections = json_files(&workspace("events/receive-webhook/connections"))
        .iter()
        .map(|path| LocalConnection {
            id: stem(path),
            connection_secret: "{}".into(),
            webhook_secret: std::fs::read_to_string(path).unwrap().into(),
            parameters: BTreeMap::new(),
            schedule_overrides: ["PollCoupa", "PollReceipts", "PollPayments", "Sweep"]
                .map(|name| (name.to_owned(), "off".to_owned()))
                .into(),
        })
        .collect();
    (start_local(&folder, connections).await, folder)
}

async fn ask(run: &LocalRun, event: &Value) -> Value {
    run.invoke(FUNCTION, event).await.unwrap()
}

fn hmac_hex(secret: &[u8], parts: &[&str]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    parts.iter().for_each(|part| mac.update(part.as_bytes()));
    mac.finalize().into_bytes().to_vec()
}

fn event(connection: &str, headers: &[(&str, String)], body: &str) -> Value {
    let headers: BTreeMap<&str, &String> = headers.iter().map(|(name, value)| (*name, value)).collect();
    json!({
        "version": "2.0",
        "rawPath": format!("/webhooks/coupa/{connection}"),
        "requestContext": {"http": {"method": "POST"}, "stage": "$default"},
        "headers": headers,
        "body": body,
        "isBase64Encoded": false,
    })
}

const INVOICE: &str = r#"{"event-type":"invoice","object":{"id":92010}}"#;
const PLAIN_SECRET: &str = "fictional-secret-of-example-plain-01";

fn signed() -> Value {
    let signature = hex::encode(hmac_hex(PLAIN_SECRET.as_bytes(), &[INVOICE]));
    event("example-plain", &[("x-coupa-signature", signature)], INVOICE)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_file_is_answered_by_the_binary_as_the_file_beside_it_says() {
    let (run, _folder) = start("door-files").await;
    let (mut same, mut replays) = (0, 0);
    for path in json_files(&workspace("events/receive-webhook")) {
        let name = stem(&path);
        if name.ends_with(".expected") {
            continue;
        }
        let expected = read(&path.with_file_name(format!("{name}.expected.json")));
        if expected["world"].is_string() {
            continue;
        }
        let answer = ask(&run, &read(&path)).await;
        if answer["statusCode"] != expected["status"] {
            // The files' clock stands at their own day: whatever carries that day's time is a replay by now.
            assert_eq!(answer["statusCode"], 401, "{name}: {answer}");
            assert_eq!(answer["body"], UNAUTHORIZED, "{name}");
            let timed = ["timed", "standard", "stripe", "custom", "call-out"];
            let path = read(&path)["rawPath"].as_str().unwrap_or_default().to_owned();
            assert!(
                timed.iter().any(|scheme| path.contains(scheme)),
                "{name}: {answer}"
            );
            replays += 1;
            continue;
        }
        for (header, value) in expected["headers"].as_object().into_iter().flatten() {
            assert_eq!(&answer["headers"][header], value, "{name} {header}");
        }
        // A token's expiry is the clock's.
        if let Some(body) = expected
            .get("body")
            .filter(|_| !name.starts_with("call-out-token"))
        {
            assert_eq!(&answer["body"], body, "{name}");
        }
        same += 1;
    }
    assert!(
        same > 100 && replays < 40,
        "{same} as their files say, {replays} replays"
    );

    // The schemes with a time, signed now.
    let now = super::world::now().0 / 1_000;
    let secret_of = |connection: &str| {
        let document = read(&workspace(&format!(
            "events/receive-webhook/connections/{connection}.json"
        )));
        document["secrets"][0].as_str().unwrap().to_owned()
    };
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD;
    for (offset, status) in [(0, 202), (-290, 202), (-310, 401), (310, 401)] {
        let time = (now + offset).to_string();
        let timed = hex::encode(hmac_hex(
            secret_of("example-timed").as_bytes(),
            &[&time, ".", INVOICE],
        ));
        let stripe = hex::encode(hmac_hex(
            secret_of("example-stripe").as_bytes(),
            &[&time, ".", INVOICE],
        ));
        let key = secret_of("example-standard");
        let key = base64.decode(key.strip_prefix("whsec_").unwrap_or(&key)).unwrap();
        let standard = base64.encode(hmac_hex(&key, &["msg_1", ".", &time, ".", INVOICE]));
        let events = [
            event(
                "example-timed",
                &[("x-coupa-timestamp", time.clone()), ("x-coupa-signature", timed)],
                INVOICE,
            ),
            event(
                "example-stripe",
                &[("stripe-signature", format!("t={time},v1={stripe}"))],
                INVOICE,
            ),
            event(
                "example-standard",
                &[
                    ("webhook-id", "msg_1".to_owned()),
                    ("webhook-timestamp", time.clone()),
                    ("webhook-signature", format!("v1,{standard}")),
                ],
                INVOICE,
            ),
        ];
        for event in events {
            let answer = ask(&run, &event).await;
            assert_eq!(answer["statusCode"], status, "{offset}: {event}");
        }
    }

    // Coupa's call-out: a token, then the call with it.
    let document = read(&workspace(
        "events/receive-webhook/connections/example-call-out.json",
    ));
    let client = &document["call_out"]["clients"][0];
    let pair = format!(
        "{}:{}",
        client["id"].as_str().unwrap(),
        client["secret"].as_str().unwrap()
    );
    let basic = format!("Basic {}", base64.encode(pair));
    let mut request = event(
        "example-call-out",
        &[("authorization", basic)],
        "grant_type=client_credentials",
    );
    request["rawPath"] = json!("/webhooks/coupa/example-call-out/token");
    let answer = ask(&run, &request).await;
    let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    let bearer = format!("Bearer {}", body["access_token"].as_str().unwrap());
    let answer = ask(
        &run,
        &event("example-call-out", &[("authorization", bearer.clone())], INVOICE),
    )
    .await;
    assert_eq!(answer["statusCode"], 202);
    let elsewhere = ask(
        &run,
        &event("example-plain", &[("authorization", bearer)], INVOICE),
    )
    .await;
    assert_eq!(elsewhere["statusCode"], 401);
    run.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_are_down_are_told_to_the_sender_and_a_flood_costs_next_to_nothing() {
    let (run, folder) = start("door-flood").await;
    let traffic = &run.aws().traffic;
    traffic.take_down(Some("secretsmanager."));
    let answer = ask(&run, &signed()).await;
    assert_eq!(
        answer["statusCode"], 503,
        "nobody could say whether it is genuine"
    );
    assert!(answer["headers"]["retry-after"].is_string());
    traffic.take_down(None);
    until("the secret store is asked again", || async {
        (ask(&run, &signed()).await["statusCode"] == 202).then_some(())
    })
    .await;
    traffic.take_down(Some("AmazonSQS."));
    let answer = ask(&run, &signed()).await;
    assert_eq!(answer["statusCode"], 503, "genuine, and nowhere to put it");
    assert!(answer["headers"]["retry-after"].is_string());
    traffic.take_down(None);
    assert_eq!(ask(&run, &signed()).await["statusCode"], 202);

    let hostile = [
        event("example-plain", &[("x-coupa-signature", "0".repeat(64))], INVOICE),
        event("example-plain", &[("x-coupa-signature", "é".repeat(64))], INVOICE),
        event("example-plain", &[], INVOICE),
        event(
            "example-plain",
            &[("x-coupa-signature", "0".repeat(64))],
            &"x".repeat(20_000),
        ),
        event("made-up", &[("x-coupa-signature", "0".repeat(64))], INVOICE),
    ];
    let log = folder.0.join("logs").join(format!("{FUNCTION}.log"));
    let log_bytes = || std::fs::metadata(&log).unwrap().len();
    let (mut reads, mut memory, mut logged) = (0, 0, 0);
    for request in 0..FLOOD {
        if request == WARM_UP {
            reads = traffic.requests(SECRET_READS);
            memory = resident_kib();
            logged = log_bytes();
        }
        let chosen = &hostile[usize::try_from(request).unwrap() % hostile.len()];
        let answer = ask(&run, chosen).await;
        assert_eq!(answer["statusCode"], 401, "{chosen}");
        assert_eq!(answer["body"], UNAUTHORIZED);
    }
    // One look a minute for each of the two names, and nobody floods for more than a few minutes here.
    let reads = traffic.requests(SECRET_READS) - reads;
    assert!(reads <= 12, "{reads} looks at the secret store");
    let growth = resident_kib().saturating_sub(memory);
    assert!(growth <= GROWTH_KIB_MAX, "grown by {growth} KiB");
    let logged = log_bytes() - logged;
    assert!(logged <= LOG_BYTES_MAX, "{logged} bytes of log");
    assert_eq!(
        ask(&run, &signed()).await["statusCode"],
        202,
        "and whoever is genuine gets through"
    );
    run.shutdown().await;
}

/// The function's processes that this test started.
fn processes() -> Vec<PathBuf> {
    let ours = std::process::id().to_string();
    let found: Vec<PathBuf> = std::fs::read_dir("/proc")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // The kernel keeps the first 15 characters of a name.
        .filter(|process| field(process, "PPid:") == ours && field(process, "Name:") == FUNCTION)
        .collect();
    assert!(!found.is_empty(), "no process of the function was found");
    found
}

fn field(process: &Path, name: &str) -> String {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.map(|rest| rest.trim().to_owned()).unwrap_or_default()
}

/// Their resident memory, in KiB.
fn resident_kib() -> u64 {
    processes()
        .iter()
        .map(|process| {
            field(process, "VmRSS:")
                .trim_end_matches(" kB")
                .parse::<u64>()
                .unwrap_or(0)
        })
        .sum()
}
