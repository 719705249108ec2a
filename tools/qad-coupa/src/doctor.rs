//! Asks everything a connection depends on, once, and says of each: pass, warn or fail, and the fix.
//!
//! Reads only, with two exceptions that change nothing: fresh tokens are asked for, and the webhook is called with an
//! event of a kind that nobody acts on.

mod alarms;
pub(crate) mod lists;
#[cfg(test)]
pub(crate) mod tests;

use crate::master_data::{Examined, Finding, Outcome, examine};
use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, Systems};
use crate::status::depths;
use crate::{Failure, records};
use async_trait::async_trait;
use aws::clock::SystemClock;
use aws::dynamo::DynamoRegister;
use aws::server_time::date_header;
use clap::Args;
use connectors::connection::ConnectionDocument;
use connectors::http::outbound::Destination;
use connectors::http::transport::{HttpTransport, Method, Request, Response, Transport, TransportError};
use domain::ids::ConnectionId;
use domain::lifecycle::{InvoiceRecord, State};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use flows::ports::{Clock, Coupa, Qad, QadPayments, ReadError};
use sandbox::coupa::sign_event;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What one verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Pass,
    Warn,
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was asked.
#[derive(Debug, Clone, Serialize)]
struct Check {
    /// Its stable name; what stands before the first `_` is the area.
    code: &'static str,
    check: String,
    verdict: Verdict,
    found: String,
    /// The code of the problem that was found, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    fix: String,
}

impl Check {
    fn area(&self) -> String {
        self.code.split('_').next().unwrap_or_default().to_lowercase()
    }

    fn json(&self) -> Value {
        let mut shown = json!(self);
        if let Value::Object(members) = &mut shown {
            members.insert("area".to_owned(), json!(self.area()));
        }
        shown
    }
}

#[derive(Debug, Args)]
pub(crate) struct DoctorOptions {
    /// Only this: aws, coupa, qad, webhook.
    #[arg(long, value_parser = ["aws", "coupa", "qad", "webhook"])]
    only: Option<String>,
    #[command(flatten)]
    list: ListOptions,
}

/// A scope in Coupa: its name, what it is for, and what its absence is.
struct Scope {
    name: &'static str,
    what: &'static str,
    absent: Verdict,
}

/// The scopes that a connection needs with these settings; every other one is too many.
fn scopes(document: &ConnectionDocument) -> Vec<Scope> {
    let scope = |name, what, absent| Scope { name, what, absent };
    let mut all = vec![
        scope("core.invoice.read", "reading invoices", Verdict::Fail),
        scope(
            "core.invoice.write",
            "the exported flag and payments",
            Verdict::Fail,
        ),
        scope(
            "core.purchase_order.read",
            "the order in Coupa behind an invoice, and events about it",
            Verdict::Warn,
        ),
    ];
    if document.coupa.integration_history.enabled {
        let what = "outcomes on the document (coupa.integration_history)";
        all.push(scope("core.integration.read", what, Verdict::Fail));
        all.push(scope("core.integration.write", what, Verdict::Fail));
    }
    if document.suppliers.enabled {
        all.push(scope("core.supplier.read", "aligning suppliers", Verdict::Fail));
        all.push(scope("core.supplier.write", "aligning suppliers", Verdict::Fail));
    }
    if document.lookups.is_some() || document.coupa.owner_lookup.is_some() {
        all.push(scope("core.common.read", "lookup values", Verdict::Fail));
        all.push(scope("core.common.write", "lookup values", Verdict::Fail));
    }
    all
}

/// How far our clock and theirs may differ before tokens and windows suffer, in milliseconds.
const SKEW_MILLIS_MAX: i64 = 30_000;
/// How far back receipts and payments are asked for, in days.
const LOOK_BACK_DAYS: i64 = 31;
const DAY_MILLIS: i64 = 86_400_000;
/// Longest exchange of a check, in seconds.
const EXCHANGE_SECONDS_MAX: u64 = 30;
/// A kind of event that nobody acts on: answered 200 and counted.
const IDLE_EVENT: &str = "expense-report";

/// Keeps each host's clock as its answers tell it.
struct Watching {
    inner: HttpTransport,
    dates: Mutex<Vec<(String, i64)>>,
}

impl Watching {
    fn new() -> Self {
        Self {
            inner: HttpTransport::new(),
            dates: Mutex::default(),
        }
    }

    /// How far the clock of this host is ahead of ours, in milliseconds, as the last answer told it.
    fn skew(&self, host: &str) -> Option<i64> {
        let dates = self.dates.lock().unwrap_or_else(PoisonError::into_inner);
        dates
            .iter()
            .rev()
            .find(|(known, _)| known == host)
            .map(|(_, skew)| *skew)
    }
}

/// Host, with the port when there is one.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default().to_owned()
}

#[async_trait]
impl Transport for Watching {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let host = host_of(&request.url);
        let response = self.inner.send(request).await?;
        let told = response.header("date").and_then(date_header);
        if let Some(told) = told {
            let skew = told.millis_since(SystemClock.now());
            self.dates
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((host, skew));
        }
        Ok(response)
    }
}

#[derive(Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn add(
        &mut self,
        code: &'static str,
        check: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        fix: &str,
    ) {
        self.0.push(Check {
            code,
            problem: None,
            check: check.into(),
            verdict,
            found: found.into(),
            fix: fix.to_owned(),
        });
    }

    fn pass(&mut self, code: &'static str, check: impl Into<String>, found: impl Into<String>) {
        self.add(code, check, Verdict::Pass, found, "");
    }

    fn problem(&mut self, code: &'static str, check: impl Into<String>, problem: &Problem) {
        self.found(code, check, Verdict::Fail, problem);
    }

    /// A problem, as grave as it is for this check.
    fn found(&mut self, code: &'static str, check: impl Into<String>, verdict: Verdict, problem: &Problem) {
        let told = Problem {
            fix: String::new(),
            ..problem.clone()
        };
        self.0.push(Check {
            code,
            problem: Some(problem.code.clone()),
            check: check.into(),
            verdict,
            found: told.to_string(),
            fix: problem.fix.clone(),
        });
    }

    fn failure(&mut self, code: &'static str, check: &str, failure: &Failure) {
        match failure {
            Failure::Failed(problems) | Failure::Incomplete(problems) => problems
                .iter()
                .for_each(|problem| self.problem(code, check, problem)),
            Failure::Usage(problem)
            | Failure::NotFound(problem)
            | Failure::Refused(problem)
            | Failure::Unreachable(problem) => {
                self.problem(code, check, problem);
            }
            Failure::Differs(text) => self.add(code, check, Verdict::Fail, text.clone(), ""),
        }
    }

    /// A read: what it brought, or why it brought nothing.
    fn read<T>(
        &mut self,
        code: &'static str,
        check: &str,
        answer: &Result<T, ReadError>,
        told: impl Fn(&T) -> String,
    ) {
        match answer {
            Ok(value) => self.pass(code, check, told(value)),
            Err(error) => self.problem(code, check, error.problem()),
        }
    }
}

async fn aws(place: &Place, register: &DynamoRegister, findings: &mut Findings) -> Vec<InvoiceRecord> {
    let records = match records::all(register).await {
        Ok(records) => {
            findings.pass("AWS_REGISTER", "register", format!("{} invoices", records.len()));
            records
        }
        Err(failure) => {
            findings.failure("AWS_REGISTER", "register", &failure);
            Vec::new()
        }
    };
    if let Some(first) = records.first() {
        match records::trail(register, first.id).await {
            Ok(entries) => findings.pass(
                "AWS_AUDIT_TRAIL",
                "audit trail",
                format!("{} entries of invoice {}", entries.len(), first.id),
            ),
            Err(failure) => findings.failure("AWS_AUDIT_TRAIL", "audit trail", &failure),
        }
    }
    match depths(place).await {
        Ok(depths) => {
            for depth in depths {
                let found = format!("{} waiting, {} in work", depth.visible, depth.in_work);
                let name = format!("queue {}", depth.queue.name);
                if depth.queue.is_dead_letter() && depth.visible > 0 {
                    let fix = "Look at them (`qad-coupa dlq show`), mend the cause, then `qad-coupa dlq redrive` (of schedules: purge the queue).";
                    findings.add("AWS_QUEUE", name, Verdict::Warn, found, fix);
                } else {
                    findings.pass("AWS_QUEUE", name, found);
                }
            }
        }
        Err(failure) => findings.failure("AWS_QUEUE", "queues", &failure),
    }
    for flow in flows::pause::Flow::ALL {
        let name = format!("flow {}", flow.word());
        match flows::pause::of(register, flow).await {
            Ok(None) => findings.pass("AWS_FLOW", name, "running"),
            Ok(Some(pause)) => {
                let fix = format!("`qad-coupa resume {} --reason` lets it go on.", flow.word());
                findings.add("AWS_FLOW", name, Verdict::Warn, pause.problem().to_string(), &fix);
            }
            Err(error) => findings.problem("AWS_FLOW", name, &error.problem()),
        }
    }
    daily_comparison(register, findings).await;
    records
}

/// Whether both sides are compared every day, and what was found.
async fn daily_comparison(register: &DynamoRegister, findings: &mut Findings) {
    let (code, check, now) = ("AWS_RECONCILE", "daily reconcile", SystemClock.now());
    let known = match flows::reconcile::known(register).await {
        Ok(known) => known,
        Err(error) => return findings.problem(code, check, &error.problem()),
    };
    let found = crate::reconcile::daily(&known, now);
    let fix = match &known.last {
        None => "Its schedule begins it; `qad-coupa run reconcile` runs it now.",
        Some(_) if known.is_late(now) => {
            "Read the log of reconcile from the last day on; look whether its schedule is on (ReconcileState)."
        }
        Some(last) if last.unexplained_count() > 0 => "`qad-coupa reconcile --last` names each difference.",
        Some(_) => return findings.pass(code, check, found),
    };
    findings.add(code, check, Verdict::Warn, found, fix);
}

/// A form as OAuth wants it.
fn form(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut text = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        text.append_pair(name, value);
    }
    text.finish().into_bytes()
}

/// Asks Coupa for a token of these scopes; the status, and the scopes Coupa says it gave.
async fn coupa_token(
    transport: &dyn Transport,
    systems: &Systems,
    scopes: &str,
) -> Result<(u16, Option<String>), String> {
    let coupa = &systems.document.coupa;
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", coupa.client_id.as_str()),
        ("client_secret", coupa.client_secret.expose_secret()),
    ];
    if !scopes.is_empty() {
        fields.push(("scope", scopes));
    }
    let request = Request {
        destination: coupa.destination(),
        method: Method::Post,
        url: coupa.base_url.at(&coupa.token_path, &[]),
        headers: vec![(
            "content-type".to_owned(),
            "application/x-www-form-urlencoded".to_owned(),
        )],
        body: Some(form(&fields)),
        timeout: Duration::from_secs(EXCHANGE_SECONDS_MAX),
        write: true,
    };
    let response = transport.send(request).await.map_err(|error| error.to_string())?;
    let granted = serde_json::from_slice::<Value>(&response.body)
        .ok()
        .and_then(|body| body.get("scope").and_then(Value::as_str).map(str::to_owned));
    Ok((response.status, granted))
}

async fn coupa(watching: &Watching, systems: &Systems, findings: &mut Findings) {
    let secret_fix = "Correct client id, client secret or token path (`qad-coupa connection put`).";
    match coupa_token(watching, systems, &systems.document.coupa.scopes.join(" ")).await {
        Ok((200, granted)) => {
            findings.pass("COUPA_TOKEN", "token", "a fresh one was given");
            for Scope { name, what, absent } in scopes(&systems.document) {
                let check = format!("scope {name}");
                match coupa_token(watching, systems, name).await {
                    Ok((200, _)) => findings.pass("COUPA_SCOPE", check, what),
                    Ok((status, _)) => findings.add(
                        "COUPA_SCOPE",
                        check,
                        absent,
                        format!("token refused with {status}; needed for {what}"),
                        "Grant the scope to the client in Coupa (Setup > OAuth2/OpenID Connect Clients).",
                    ),
                    Err(error) => findings.add("COUPA_SCOPE", check, Verdict::Warn, error, "Try again."),
                }
            }
            too_many(granted.as_deref(), &systems.document, findings);
        }
        Ok((status, _)) => findings.add(
            "COUPA_TOKEN",
            "token",
            Verdict::Fail,
            format!("refused with {status}"),
            secret_fix,
        ),
        Err(error) => findings.add(
            "COUPA_TOKEN",
            "token",
            Verdict::Fail,
            error,
            "Check the base URL and the network.",
        ),
    }
    let page = systems.coupa.exportable_invoices(None).await;
    findings.read("COUPA_INVOICES", "list of invoices", &page, |page| {
        format!(
            "{} approved or voided and not exported on the first page",
            page.heads.len()
        )
    });
    if let Ok(page) = &page {
        for (id, problem) in &page.unreadable {
            let id = id.map_or_else(|| "without id".to_owned(), |id| id.to_string());
            findings.problem("COUPA_INVOICE_UNREADABLE", format!("invoice {id}"), problem);
        }
        if let Some(head) = page.heads.first() {
            let invoice = systems.coupa.invoice(head.id).await;
            findings.read(
                "COUPA_INVOICE",
                "one invoice, read in full",
                &invoice,
                |invoice| match invoice {
                    Some(invoice) => format!("{} with {} lines", invoice.reference, invoice.lines.len()),
                    None => "gone in between".to_owned(),
                },
            );
        }
    }
    lists::charts(systems, findings).await;
    skew(
        "COUPA_CLOCK",
        watching,
        systems.document.coupa.base_url.host(),
        findings,
    );
}

/// Whatever was granted and nothing in this connection needs.
fn too_many(granted: Option<&str>, document: &ConnectionDocument, findings: &mut Findings) {
    let asked = &document.coupa.scopes;
    let given: BTreeSet<&str> = match granted {
        Some(granted) => granted.split_whitespace().collect(),
        None => asked.iter().map(String::as_str).collect(),
    };
    let known: BTreeSet<&str> = scopes(document).iter().map(|scope| scope.name).collect();
    let excess: Vec<&str> = given.difference(&known).copied().collect();
    if granted.is_none() && asked.is_empty() {
        let fix =
            "Name the scopes in the connection (`coupa.scopes`), so that a token has no more than them.";
        findings.add(
            "COUPA_SCOPES_TOO_MANY",
            "scopes too many",
            Verdict::Warn,
            "Coupa does not tell what it granted",
            fix,
        );
    } else if excess.is_empty() {
        findings.pass("COUPA_SCOPES_TOO_MANY", "scopes too many", "none");
    } else {
        let fix = "Take them from the client and from coupa.scopes: nothing in this connection needs them.";
        findings.add(
            "COUPA_SCOPES_TOO_MANY",
            "scopes too many",
            Verdict::Warn,
            excess.join(" "),
            fix,
        );
    }
}

fn skew(code: &'static str, watching: &Watching, host: &str, findings: &mut Findings) {
    match watching.skew(host) {
        None => findings.add(
            code,
            "clock",
            Verdict::Warn,
            "answers carry no date",
            "Nothing to do.",
        ),
        Some(skew) if skew.abs() <= SKEW_MILLIS_MAX => {
            findings.pass(code, "clock", format!("{skew} ms from ours"))
        }
        Some(skew) => findings.add(
            code,
            "clock",
            Verdict::Fail,
            format!("{skew} ms from ours"),
            "Set the clock of this machine; signed webhooks and tokens depend on it.",
        ),
    }
}

/// A list that is empty may mean that there is nothing, or that the browse is not the tenant's: QAD answers both alike.
fn list(
    findings: &mut Findings,
    code: &'static str,
    check: &str,
    answer: Result<usize, ReadError>,
    resource: &str,
) {
    match answer {
        Ok(0) => findings.add(
            code,
            check,
            Verdict::Warn,
            format!("nothing in {LOOK_BACK_DAYS} days"),
            &format!("If there should be, the browse or its fields differ: correct qad.profile.{resource}. QAD answers an unknown browse with an empty list."),
        ),
        Ok(count) => findings.pass(code, check, format!("{count} in {LOOK_BACK_DAYS} days")),
        Err(error) => findings.problem(code, check, error.problem()),
    }
}

fn days_ago(days: i64) -> Date {
    let millis = days.saturating_mul(DAY_MILLIS);
    SystemClock.now().plus_millis(millis.saturating_neg()).date_utc()
}

async fn qad(watching: &Watching, systems: &Systems, known: &[InvoiceRecord], findings: &mut Findings) {
    let since = days_ago(LOOK_BACK_DAYS);
    let receipts = systems.qad.receipts_since(since, 1).await;
    let order = receipts
        .as_ref()
        .ok()
        .and_then(|scan| {
            scan.receipts
                .first()
                .map(|receipt| receipt.key.order_line.order.clone())
        })
        .or_else(|| {
            known
                .iter()
                .find_map(|record| record.summary.as_ref()?.orders.first().cloned())
        });
    if let Ok(scan) = &receipts {
        for problem in &scan.unreadable {
            findings.problem("QAD_RECEIPTS_UNREADABLE", "receipts, unreadable row", problem);
        }
    }
    list(
        findings,
        "QAD_RECEIPTS",
        "receipts",
        receipts.map(|scan| scan.receipts.len()),
        "receipts",
    );
    match &order {
        None => findings.add("QAD_ORDERS", "purchase orders", Verdict::Warn, "no order is known to ask for", "Try again when there is a receipt."),
        Some(number) => match systems.qad.order(number).await {
            Ok(Some(order)) => findings.pass("QAD_ORDERS", "purchase orders", format!("{number} with {} lines", order.lines.len())),
            Ok(None) => findings.add(
                "QAD_ORDERS",
                "purchase orders",
                Verdict::Fail,
                format!("order {number}, which has a receipt or an invoice, is not found"),
                "Correct qad.profile.purchase_orders or qad.domain. QAD answers an unknown browse with an empty list.",
            ),
            Err(error) => findings.problem("QAD_ORDERS", "purchase orders", error.problem()),
        },
    }
    let payments = systems.qad.payments_since(since).await;
    list(
        findings,
        "QAD_PAYMENTS",
        "payments",
        payments.map(|scan| scan.allocations.len()),
        "payments",
    );
    supplier_invoices(systems, known, findings).await;
    lists::suppliers(systems, known, since, findings).await;
    master_data(&examine(systems).await, findings);
    skew(
        "QAD_CLOCK",
        watching,
        systems.document.qad.base_url.host(),
        findings,
    );
}

/// What the settings name of QAD's lists, before an invoice needs it.
fn master_data(examined: &[Examined], findings: &mut Findings) {
    for Finding { code, about, outcome } in crate::master_data::findings(examined) {
        match outcome {
            Outcome::Well(found) => findings.pass(code, about, found),
            Outcome::Unchecked(found, fix) => findings.add(code, about, Verdict::Warn, found, &fix),
            Outcome::Refused(problem) => findings.found(code, about, Verdict::Fail, &problem),
            Outcome::NotToday(problem) => findings.found(code, about, Verdict::Warn, &problem),
        }
    }
}

/// One that is there must be found: a look-up that finds nothing would let the product post twice.
async fn supplier_invoices(systems: &Systems, known: &[InvoiceRecord], findings: &mut Findings) {
    let posted = known
        .iter()
        .find(|record| matches!(record.state, State::Exported { .. }));
    let identity = |record: &InvoiceRecord| -> Option<domain::ids::QadInvoiceIdentity> {
        let summary = record.summary.as_ref()?;
        Some(domain::ids::QadInvoiceIdentity {
            entity: systems.document.policy.entity.clone(),
            supplier: summary.supplier_number.as_deref()?.trim().parse().ok()?,
            reference: summary.reference.clone(),
            kind: summary.kind,
        })
    };
    let Some(identity) = posted.and_then(identity) else {
        findings.add(
            "QAD_SUPPLIER_INVOICES",
            "supplier invoices",
            Verdict::Warn,
            "none was posted yet, so none can be looked for",
            "Run it again after the first invoice: the look-up must find it.",
        );
        return;
    };
    match systems.qad.find_invoices(&identity).await {
        Ok(found) if found.len() == 1 => findings.pass("QAD_SUPPLIER_INVOICES", "supplier invoices", format!("{identity} is found")),
        Ok(found) => findings.add(
            "QAD_SUPPLIER_INVOICES",
            "supplier invoices",
            Verdict::Fail,
            format!("{identity} was posted; {} are found", found.len()),
            "Pause posting now (`qad-coupa pause`), then correct qad.profile.supplier_invoices: this look-up is what prevents duplicates.",
        ),
        Err(error) => findings.problem("QAD_SUPPLIER_INVOICES", "supplier invoices", error.problem()),
    }
}

async fn call(url: &str, headers: Vec<(String, String)>, body: &str) -> Result<u16, String> {
    let base = url.parse().map_err(|problem: Problem| problem.to_string())?;
    let request = Request {
        destination: Destination::of(&base, &[]),
        method: Method::Post,
        url: url.to_owned(),
        headers,
        body: Some(body.as_bytes().to_vec()),
        timeout: Duration::from_secs(EXCHANGE_SECONDS_MAX),
        write: true,
    };
    let sent = HttpTransport::new().send(request).await;
    sent.map(|response| response.status)
        .map_err(|error| error.to_string())
}

async fn webhook(place: &Place, connection: &ConnectionId, findings: &mut Findings) {
    let url = match place.webhook_url(connection) {
        Ok(url) => url,
        Err(failure) => return findings.failure("WEBHOOK_ADDRESS", "address", &failure),
    };
    let body =
        json!({ "event-id": "doctor", "event-type": IDLE_EVENT, "event": "updated", "object": { "id": 1 } })
            .to_string();
    let json_body = ("content-type".to_owned(), "application/json".to_owned());
    match call(&url, vec![json_body.clone()], &body).await {
        Ok(401) => findings.pass("WEBHOOK_REFUSES", "refuses what is not signed", "401"),
        Ok(status) => findings.add(
            "WEBHOOK_REFUSES",
            "refuses what is not signed",
            Verdict::Fail,
            status.to_string(),
            "The address must lead to receive-webhook of this installation.",
        ),
        Err(error) => findings.add(
            "WEBHOOK_REFUSES",
            "refuses what is not signed",
            Verdict::Fail,
            error,
            "Check the address and the network.",
        ),
    }
    let document = match place.webhook_document(connection).await {
        Ok(document) => document,
        Err(failure) => return findings.failure("WEBHOOK_SECRET", "secret", &failure),
    };
    let parsed: Value = serde_json::from_str(document.expose_secret()).unwrap_or(Value::Null);
    let secret = parsed
        .get("secrets")
        .and_then(|all| all.get(0))
        .and_then(Value::as_str);
    match (parsed.get("scheme").and_then(Value::as_str), secret) {
        (Some("coupa-hmac"), Some(secret)) if parsed.get("require_timestamp") != Some(&Value::Bool(true)) => {
            let secret = SecretString::from(secret.to_owned());
            let signed = sign_event(secret.expose_secret().as_bytes(), body.as_bytes());
            let headers = vec![
                json_body,
                ("x-coupa-signature".to_owned(), signed.signature),
                ("x-coupa-delivery".to_owned(), signed.delivery),
            ];
            match call(&url, headers, &body).await {
                Ok(200) => findings.pass("WEBHOOK_TAKES", "takes what is signed", "200, an event that nobody acts on"),
                Ok(status) => findings.add(
                    "WEBHOOK_TAKES",
                    "takes what is signed",
                    Verdict::Fail,
                    status.to_string(),
                    "The function reads another secret than this; put the connection anew and try in five minutes.",
                ),
                Err(error) => findings.add("WEBHOOK_TAKES", "takes what is signed", Verdict::Fail, error, "Try again."),
            }
        }
        (Some(scheme), _) => findings.add(
            "WEBHOOK_TAKES",
            "takes what is signed",
            Verdict::Warn,
            format!("scheme {scheme} is not tried from here"),
            "Send a test event from the system that signs it.",
        ),
        (None, _) => findings.add(
            "WEBHOOK_SECRET",
            "secret",
            Verdict::Fail,
            "no scheme",
            "Fill the webhook's secret (`qad-coupa connection put`).",
        ),
    }
}

/// `doctor`.
pub(crate) async fn run(
    arguments: &PlaceArguments,
    options: &DoctorOptions,
    out: &Output,
) -> Result<(), Failure> {
    let place = Place::open(arguments).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let wanted = |area: &str| options.only.as_deref().is_none_or(|only| only == area);
    let mut findings = Findings::default();
    let known = if wanted("aws") {
        match (place.sdk(), &arguments.stack) {
            (Some(sdk), Some(stack)) => alarms::check(sdk, stack, &mut findings).await,
            _ => findings.pass("AWS_ALARMS", "alarms", "a local run has none"),
        }
        aws(&place, &register, &mut findings).await
    } else {
        records::all(&register).await?
    };
    let watching = Arc::new(Watching::new());
    match place.systems_through(&connection, watching.clone()).await {
        Ok(systems) => {
            findings.pass("AWS_CONNECTION_SECRET", "connection's secret", "complete");
            if wanted("coupa") {
                out.progress("asking Coupa ...");
                coupa(&watching, &systems, &mut findings).await;
                let name = "two installations would notice each other";
                match crate::owner::examine(&place, &register, &connection, &systems).await {
                    Ok(found) => findings.pass("COUPA_OWNER_MARK", name, found),
                    Err((true, problem)) => findings.problem("COUPA_OWNER_MARK", name, &problem),
                    Err((false, problem)) => {
                        findings.found("COUPA_OWNER_MARK", name, Verdict::Warn, &problem)
                    }
                }
            }
            if wanted("qad") {
                out.progress("asking QAD ...");
                qad(&watching, &systems, &known, &mut findings).await;
            }
            match crate::lookups::records(&register).await {
                Ok(plans) => lists::lookups(&systems, &plans, wanted, &mut findings).await,
                Err(failure) => findings.failure("AWS_LOOKUP_PLANS", "plans of lookups", &failure),
            }
        }
        Err(failure) => findings.failure("AWS_CONNECTION_SECRET", "connection's secret", &failure),
    }
    if wanted("webhook") {
        webhook(&place, &connection, &mut findings).await;
    }
    tell(&findings.0, SystemClock.now(), &options.list, out)?;
    let failed = findings
        .0
        .iter()
        .filter(|check| check.verdict == Verdict::Fail)
        .count();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Differs(format!("DOCTOR_FOUND: {failed} checks failed")))
    }
}

fn tell(checks: &[Check], now: Timestamp, options: &ListOptions, out: &Output) -> Result<(), Failure> {
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (pass, warn, fail) = (count(Verdict::Pass), count(Verdict::Warn), count(Verdict::Fail));
    let row = |check: &Check| {
        Row::new(
            check.json(),
            vec![
                check.verdict.word().into(),
                check.area().into(),
                check.check.as_str().into(),
                check.found.as_str().into(),
                check.fix.as_str().into(),
            ],
        )
    };
    let columns = [
        Column::word("Verdict"),
        Column::word("Area"),
        Column::sentence("Check"),
        Column::sentence("Found"),
        Column::sentence("Fix"),
    ];
    let whole = move |checks| json!({ "as_of": now.to_string(), "pass": pass, "warn": warn, "fail": fail, "checks": Value::Array(checks) });
    let listing = Listing::new(&columns, checks.iter().map(row).collect())
        .within(whole)
        .below([format!("{pass} passed, {warn} warnings, {fail} failed")]);
    out.list(listing, options)
}
