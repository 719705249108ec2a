//! A whole world for these tests: both systems simulated, the functions on the local AWS, credentials of one's own.

use crate::support::{Folder, program};
use aws::clock::SystemClock;
use connectors::http::outbound::Destination;
use connectors::http::transport::{HttpTransport, Method, Request, Transport};
use domain::time::Timestamp;
use flows::ports::Clock;
use sandbox::coupa::{invoice_event, sign_event};
use sandbox::http::{Options, Simulators};
use sandbox::local::{LocalConnection, LocalOptions, LocalPorts, LocalRun};
use sandbox::world::World;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

pub const CONNECTION: &str = "acme";
pub const WEBHOOK_SECRET: &str = "canary-webhook-secret-000000001";
pub const COUPA_SECRET: &str = "canary-coupa-client-secret-1";
pub const QAD_PASSWORD: &str = "canary-qad-password-1";
/// 32 bytes in base64 that spell what they are.
pub const TOKEN_KEY: &str = "Y2FuYXJ5LXRva2VuLWtleS0wMTIzNDU2Nzg5YWJjZGU=";
/// Longest any of these tests waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(100);

pub fn now() -> Timestamp {
    SystemClock.now()
}

pub fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Asks again and again until the answer is something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            if let Some(answer) = ask().await {
                return answer;
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// The credentials of both systems.
#[derive(Clone)]
pub struct Credentials {
    pub coupa_secret: String,
    pub qad_password: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            coupa_secret: COUPA_SECRET.to_owned(),
            qad_password: QAD_PASSWORD.to_owned(),
        }
    }
}

pub struct Life {
    pub simulators: Simulators,
    pub local: LocalRun,
    pub folder: Folder,
}

impl Life {
    /// Everything up, schedules as given (all others are off).
    pub async fn start(name: &str, world: World, schedules: &[(&str, &str)]) -> Self {
        let credentials = Credentials::default();
        let options = Options {
            coupa_client_secret: credentials.coupa_secret.clone().into(),
            qad_password: credentials.qad_password.clone().into(),
            ..Options::default()
        };
        let simulators = Simulators::start(world, Arc::new(now), options).await.unwrap();
        let folder = Folder::new(name);
        let mut schedule_overrides: BTreeMap<String, String> =
            ["PollCoupa", "PollReceipts", "PollPayments", "Sweep"]
                .map(|name| (name.to_owned(), "off".to_owned()))
                .into();
        schedule_overrides.extend(
            schedules
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned())),
        );
        let connection = LocalConnection {
            id: CONNECTION.to_owned(),
            connection_secret: connection_secret(&simulators, &credentials),
            webhook_secret: json!({"scheme": "coupa-hmac", "secrets": [WEBHOOK_SECRET]})
                .to_string()
                .into(),
            parameters: BTreeMap::new(),
            schedule_overrides,
        };
        let local = start_local(&folder, vec![connection]).await;
        Self {
            simulators,
            local,
            folder,
        }
    }

    /// Changes the credentials on the other side, which ends all tokens.
    pub fn rotate_there(&self, credentials: &Credentials) {
        let mut options = self.simulators.options.write().unwrap();
        options.coupa_client_secret = credentials.coupa_secret.clone().into();
        options.qad_password = credentials.qad_password.clone().into();
        drop(options);
        let mut world = self.simulators.world.lock().unwrap();
        world.expire_tokens(sandbox::faults::System::Coupa);
        world.expire_tokens(sandbox::faults::System::Qad);
    }

    /// Changes the credentials in the connection's secret.
    pub async fn rotate_here(&self, credentials: &Credentials) {
        let secret = connection_secret(&self.simulators, credentials);
        let name = format!("qad-coupa/connection/{CONNECTION}");
        self.local.aws().secrets.put(&name, &secret).await.unwrap();
    }

    /// Somebody approves an invoice in Coupa.
    pub fn approve(&self, invoice: u64) {
        let mut world = self.simulators.world.lock().unwrap();
        world.coupa.approve(invoice, now()).unwrap();
    }

    /// Sends a signed event about an invoice; the status and body of the answer.
    pub async fn send_event(&self, invoice: u64) -> (u16, String) {
        let body = invoice_event(invoice, "approved", now());
        self.post(&body, None).await
    }

    pub async fn post(&self, body: &str, delivery: Option<&str>) -> (u16, String) {
        let signed = sign_event(WEBHOOK_SECRET.as_bytes(), body.as_bytes());
        let url = self.local.webhook_url(CONNECTION).unwrap();
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("x-coupa-signature", signed.signature.clone()),
            (
                "x-coupa-delivery",
                delivery.map_or(signed.delivery.clone(), str::to_owned),
            ),
        ];
        http(Method::Post, &url, &headers, Some(body)).await
    }

    /// The invoices as the command line shows them.
    pub fn invoices(&self) -> Vec<Value> {
        let output = self.command(&["invoice", "list", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    pub fn state_of(&self, invoice: u64) -> String {
        self.invoices()
            .iter()
            .find(|shown| shown["invoice"] == invoice)
            .and_then(|shown| shown["state"].as_str())
            .unwrap_or("unknown")
            .to_owned()
    }

    pub async fn wait_for(&self, invoice: u64, state: &str) {
        until(&format!("{invoice} is {state}"), || async {
            (self.state_of(invoice) == state).then_some(())
        })
        .await;
    }

    pub fn command(&self, arguments: &[&str]) -> Output {
        program()
            .arg("--run-dir")
            .arg(&self.folder.0)
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Everything the functions have printed.
    pub fn logs(&self) -> String {
        let folder = std::fs::read_dir(self.folder.0.join("logs")).unwrap();
        folder
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect()
    }

    pub async fn shutdown(self) {
        self.local.shutdown().await;
        self.simulators.shutdown().await;
    }
}

fn connection_secret(simulators: &Simulators, credentials: &Credentials) -> SecretString {
    json!({
        "token_key": TOKEN_KEY,
        "hold_recheck_seconds": 600,
        "coupa": {
            "base_url": simulators.coupa_url, "client_id": "example-coupa-client",
            "client_secret": credentials.coupa_secret,
            "scopes": ["core.invoice.read", "core.invoice.write"],
        },
        "qad": {
            "base_url": simulators.qad_url, "domain": "10USA", "entity": "10USACO", "requests_per_second": 100,
            "auth": {
                "type": "password", "client_id": "example-qad-client", "username": "example-user",
                "password": credentials.qad_password,
            },
        },
        "invoices": {
            "credit_note_daybook": "SC",
            "charge_accounts": {"shipping": {"gl_account": "6100"}, "handling": {"gl_account": "6200"}},
            "credit_terms": {"NET30": "N30"},
            "units": {"PCE": {"to": "EA"}, "BX": {"to": "EA", "factor": 12}},
        },
        "lines": {"without_order": "gl"},
        "coding": {"gl_account": "segment-2", "cost_center": "segment-3"},
    })
    .to_string()
    .into()
}

/// The functions on the local AWS, with times short enough for a test.
pub async fn start_local(folder: &Folder, connections: Vec<LocalConnection>) -> LocalRun {
    let parameters = [
        ("HttpTimeoutSeconds", "4"),
        ("FunctionTimeoutSeconds", "10"),
        ("StopMarginSeconds", "2"),
        ("LeaseSeconds", "12"),
        ("CommitLatenessSeconds", "4"),
        ("CoupaCommitLatenessSeconds", "4"),
        ("ClockSkewSeconds", "0"),
        ("QueueVisibilitySeconds", "60"),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_qad-coupa"));
    let options = LocalOptions {
        stack_name: "qad-coupa".to_owned(),
        stack_template: workspace("infra/stack.yaml"),
        connection_template: workspace("infra/connection.yaml"),
        binaries_dir: program.parent().unwrap().to_owned(),
        connections,
        parameters: parameters
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        queue_visibility: Some(Duration::from_secs(4)),
        data_dir: None,
        run_dir: folder.0.clone(),
        ports: LocalPorts::default(),
    };
    LocalRun::start(options).await.unwrap()
}

/// One request to this machine; status and body of the answer.
pub async fn http(
    method: Method,
    url: &str,
    headers: &[(&str, String)],
    body: Option<&str>,
) -> (u16, String) {
    let request = Request {
        destination: Destination::of(&url.parse().unwrap(), &[]),
        method,
        url: url.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        body: body.map(|text| text.as_bytes().to_vec()),
        timeout: Duration::from_secs(60),
        write: true,
    };
    let response = HttpTransport::new().send(request).await.unwrap();
    (response.status, String::from_utf8(response.body).unwrap())
}
