//! Posting receipts, sending events and causing faults in a demo that keeps running.

use crate::arguments::SandboxVerb;
use crate::demo::post_event;
use crate::{Failure, terminal};
use aws::clock::SystemClock;
use clap::builder::PossibleValuesParser;
use connectors::http::outbound::Destination;
use connectors::http::transport::{HttpTransport, Method, Request, Transport};
use domain::ids::{DocumentKind, fold};
use domain::problem::Problem;
use domain::reference;
use flows::ports::Clock;
use sandbox::coupa::invoice_event;
use sandbox::faults::{Fault, RetryAfter};
use sandbox::world::World;
use sandbox::world::qad::SupplierInvoiceRecord;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file under the run directory by which the simulators of a demo are found.
const SANDBOX_FILE: &str = "sandbox.json";
/// Longest a control request may take, in seconds.
const CONTROL_SECONDS_MAX: u64 = 20;

/// Where the simulators of a demo are, and how their events are signed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxFile {
    /// Their control service.
    pub(crate) control_url: String,
    /// The webhook that their Coupa calls.
    pub(crate) webhook_url: String,
    /// The fictional secret of that webhook.
    pub(crate) webhook_secret: String,
}

impl SandboxFile {
    fn path(run_dir: &Path) -> PathBuf {
        run_dir.join(SANDBOX_FILE)
    }

    /// Writes it.
    pub(crate) fn write(&self, run_dir: &Path) -> Result<(), Failure> {
        let failed = |error: String| {
            Failure::from(Problem::new("LOCAL_FILE", "Check the path and the permissions.").actual(error))
        };
        let text = serde_json::to_vec_pretty(self).map_err(|error| failed(error.to_string()))?;
        std::fs::write(Self::path(run_dir), text).map_err(|error| failed(error.to_string()))
    }

    pub(crate) fn read(run_dir: &Path) -> Result<Self, Failure> {
        let none = || {
            Failure::Unreachable(
                Problem::new("DEMO_NOT_RUNNING", "Start it with `cargo demo --keep`.")
                    .field(run_dir.display().to_string())
                    .expected("a demo that keeps running")
                    .actual("none"),
            )
        };
        let text = std::fs::read(Self::path(run_dir)).map_err(|_| none())?;
        serde_json::from_slice(&text).map_err(|_| none())
    }

    /// Removes it; a file that stays says "not running" by itself, because nobody answers there.
    pub(crate) fn remove(run_dir: &Path) {
        let _ = std::fs::remove_file(Self::path(run_dir));
    }
}

/// How many supplier invoices QAD holds under the identity of a Coupa invoice, and Coupa's exported flag of it.
pub(crate) fn facts(world: &World, invoice: u64) -> (usize, bool) {
    let Some(coupa) = world.coupa.invoices.get(&invoice) else {
        return (0, false);
    };
    let supplier = world.coupa.suppliers.get(&coupa.supplier);
    let supplier = supplier
        .and_then(|supplier| supplier.get("number"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind = match coupa.kind {
        DocumentKind::Invoice => "INVOICE",
        DocumentKind::CreditNote => "CREDITNOTE",
    };
    let same = |one: &str, other: &str| fold(one) == fold(other);
    let is_its = |record: &SupplierInvoiceRecord| {
        reference::fold(&record.supplier_invoice_reference) == reference::fold(&coupa.number)
            && same(&record.supplier_code, supplier)
            && same(&record.invoice_type, kind)
    };
    let documents = world
        .qad
        .invoices
        .iter()
        .filter(|document| is_its(&document.record))
        .count();
    (documents, coupa.exported)
}

/// Runs one of the `sandbox` verbs.
pub(crate) async fn run(run_dir: &Path, verb: &SandboxVerb) -> Result<(), Failure> {
    let file = SandboxFile::read(run_dir)?;
    let http = HttpTransport::new();
    let answer = match verb {
        SandboxVerb::Receipt {
            order,
            line,
            quantity,
        } => {
            let quantity: Value = serde_json::from_str(quantity).unwrap_or(Value::String(quantity.clone()));
            let body = json!({ "order": order, "line": line, "quantity": quantity });
            control(&http, &file, Method::Post, "receipts", Some(body)).await?
        }
        SandboxVerb::Pay(options) => crate::sandbox_pay::pay(&http, &file, options).await?,
        SandboxVerb::Event { invoice, event } => {
            let body = invoice_event(*invoice, event, SystemClock.now());
            let status = post_event(&http, &file.webhook_url, &file.webhook_secret, &body)
                .await
                .map_err(unanswered)?;
            format!("the webhook answered {status}")
        }
        SandboxVerb::Void { invoice } => {
            control(
                &http,
                &file,
                Method::Post,
                "invoices",
                Some(json!({ "void": invoice })),
            )
            .await?
        }
        SandboxVerb::Fault {
            system,
            operation,
            kind,
        } => {
            let body = json!({ "system": system, "operation": operation, "when": { "next": 1 }, "fault": fault(kind) });
            control(&http, &file, Method::Post, "faults", Some(body)).await?
        }
        SandboxVerb::State => control(&http, &file, Method::Get, "state", None).await?,
    };
    terminal::say(&answer);
    Ok(())
}

/// What can go wrong, by its word.
const FAULTS: [(&str, Fault); 10] = [
    ("lost-before", Fault::LostBefore),
    ("lost-after", Fault::LostAfter),
    ("unauthorized", status(401)),
    ("forbidden", status(403)),
    ("malformed-json", Fault::MalformedJson),
    ("truncated-body", Fault::TruncatedBody),
    ("html-page", Fault::HtmlPage),
    ("bot-challenge", Fault::BotChallenge),
    ("record-in-use", Fault::RecordInUse),
    ("warning-only", Fault::WarningOnly),
];

const fn status(status: u16) -> Fault {
    Fault::Status {
        status,
        retry_after: RetryAfter::Absent,
        after_commit: false,
    }
}

/// The words of [`FAULTS`].
pub(crate) fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(FAULTS.map(|(word, _)| word))
}

fn fault(kind: &str) -> Option<Fault> {
    FAULTS
        .into_iter()
        .find(|(word, _)| *word == kind)
        .map(|(_, fault)| fault)
}

fn unanswered(error: String) -> Failure {
    Failure::Unreachable(
        Problem::new("DEMO_NOT_ANSWERING", "Start it with `cargo demo --keep`.").actual(error),
    )
}

/// One request to the control service; its answer.
pub(crate) async fn control(
    http: &HttpTransport,
    file: &SandboxFile,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<String, Failure> {
    let request = Request {
        destination: Destination::of(&file.control_url.parse()?, &[]),
        method,
        url: format!("{}/_control/{path}", file.control_url),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.map(|body| body.to_string().into_bytes()),
        timeout: Duration::from_secs(CONTROL_SECONDS_MAX),
        write: true,
    };
    let response = http
        .send(request)
        .await
        .map_err(|error| unanswered(error.to_string()))?;
    let text = String::from_utf8_lossy(&response.body).into_owned();
    if response.status < 300 {
        Ok(text)
    } else {
        Err(Problem::new("SANDBOX_REFUSED", "Correct what was asked.")
            .actual(text)
            .into())
    }
}
