//! Both systems behind real sockets on the loopback, with faults on demand, a journal, and a small control service.
//!
//! | control request | what it does |
//! |---|---|
//! | `POST /_control/faults` | arms a rule or a list of rules: `{"system":"qad","operation":"supplier-invoices.create","key":"INV-92001","when":{"next":1},"fault":{"kind":"lost-after"}}` |
//! | `GET /_control/faults`, `DELETE /_control/faults` | the armed rules; disarms all |
//! | `POST /_control/receipts` | posts a receipt: `{"order":"PO4500101","line":1,"quantity":60}`; optional `receiver`, `date`, `is_return` |
//! | `POST /_control/orders` | adds or replaces a QAD order |
//! | `POST /_control/invoices` | `{"add":{…}}`, `{"approve":92001}` or `{"void":92001}` |
//! | `POST /_control/payments` | adds an allocation of a QAD payment, or changes its status |
//! | `POST /_control/tokens/expire` | `{"system":"qad"}`: its tokens stop being good |
//! | `GET /_control/state` | invoices with their exported flag, QAD documents, duplicates, late writes |
//! | `GET /_control/journal?after=<sequence>` | what was asked, with counters per operation |
//!
//! `curl -d '{"order":"PO4500101","line":1,"quantity":60}' <control_url>/_control/receipts`

use crate::control;
use crate::coupa;
use crate::faults::{Fault, Faults, RetryAfter, System};
use crate::journal::{Journal, JournalEntry};
use crate::ports::{Now, WorldPorts, lock};
use crate::qad;
use crate::world::World;
use crate::world::coupa::RateLimit;
use bytes::Bytes;
use domain::time::Timestamp;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Largest request body that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest wait for the next piece of a dripping answer.
const PIECE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A request as the doors see it: no sockets, no library types.
#[derive(Debug, Clone, Default)]
pub struct WireRequest {
    /// Method, in capitals.
    pub method: String,
    /// Path, decoded as far as the doors need.
    pub path: String,
    /// Query parameters in their order, decoded.
    pub query: Vec<(String, String)>,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body.
    pub body: Vec<u8>,
}

impl WireRequest {
    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The fields of a form body.
    pub fn form(&self) -> BTreeMap<String, String> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// The credential after `<scheme> ` in `Authorization`.
    pub fn authorization(&self, scheme: &str) -> Option<&str> {
        let (given, credential) = self.header("authorization")?.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then_some(credential.trim())
    }
}

/// An answer of a door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireResponse {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
}

impl WireResponse {
    /// A JSON answer.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "application/json; charset=utf-8",
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// A page for people.
    pub fn html(status: u16, body: &str) -> Self {
        Self {
            status,
            content_type: "text/html; charset=utf-8",
            headers: Vec::new(),
            body: body.to_owned(),
        }
    }
}

/// An answer, and how the request broke the wire contract if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What goes back.
    pub response: WireResponse,
    /// For the journal.
    pub violation: Option<String>,
}

impl From<WireResponse> for Answer {
    fn from(response: WireResponse) -> Self {
        Self {
            response,
            violation: None,
        }
    }
}

/// Credentials, limits and ports of the simulators.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port of Coupa; 0 takes any.
    pub coupa_port: u16,
    /// Port of QAD; 0 takes any.
    pub qad_port: u16,
    /// Port of the control service; 0 takes any.
    pub control_port: u16,
    /// Coupa's limit; none for tests of something else.
    pub coupa_rate_limit: Option<RateLimit>,
    /// Lifetime of tokens, in seconds (Coupa: 24 h less one second).
    pub token_lifetime_seconds: i64,
    /// Coupa's OAuth client.
    pub coupa_client_id: String,
    /// Its secret.
    pub coupa_client_secret: SecretString,
    /// Scopes granted to it.
    pub coupa_scopes: Vec<String>,
    /// QAD's OAuth client.
    pub qad_client_id: String,
    /// Its secret, for `client_credentials`.
    pub qad_client_secret: SecretString,
    /// QAD's user, for the password grant, Basic and the login.
    pub qad_user: String,
    /// The user's password.
    pub qad_password: SecretString,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            coupa_port: 0,
            qad_port: 0,
            control_port: 0,
            coupa_rate_limit: Some(RateLimit::default()),
            token_lifetime_seconds: 86_399,
            coupa_client_id: "example-coupa-client".to_owned(),
            coupa_client_secret: SecretString::from("example-coupa-secret"),
            coupa_scopes: [
                "core.common.read",
                "core.common.write",
                "core.invoice.read",
                "core.invoice.write",
                "core.purchase_order.read",
                "core.supplier.read",
                "core.supplier.write",
                "core.integration.read",
                "core.integration.write",
            ]
            .map(str::to_owned)
            .to_vec(),
            qad_client_id: "example-qad-client".to_owned(),
            qad_client_secret: SecretString::from("example-qad-secret"),
            qad_user: "example-user".to_owned(),
            qad_password: SecretString::from("example-password"),
        }
    }
}

/// The running simulators. Dropping it stops them; [`Simulators::shutdown`] waits until they have.
pub struct Simulators {
    /// `http://127.0.0.1:<port>`.
    pub coupa_url: String,
    /// `http://127.0.0.1:<port>/clouderp`.
    pub qad_url: String,
    /// `http://127.0.0.1:<port>`.
    pub control_url: String,
    /// Both systems.
    pub world: Arc<Mutex<World>>,
    /// What goes wrong.
    pub faults: Arc<Mutex<Faults>>,
    /// What was asked.
    pub journal: Arc<Mutex<Journal>>,
    /// Credentials and limits as they are now; changing them is a rotation on the other side.
    pub options: Arc<RwLock<Options>>,
    now: Now,
    tasks: Vec<JoinHandle<()>>,
}

impl Simulators {
    /// Starts both systems and the control service on the loopback.
    pub async fn start(world: World, now: Now, options: Options) -> std::io::Result<Self> {
        let desk = Arc::new(Desk {
            world: Arc::new(Mutex::new(world)),
            faults: Arc::default(),
            journal: Arc::default(),
            now: Arc::clone(&now),
            options: Arc::new(RwLock::new(options.clone())),
        });
        let mut tasks = Vec::new();
        let mut urls = Vec::new();
        for (door, port) in [
            (Door::System(System::Coupa), options.coupa_port),
            (Door::System(System::Qad), options.qad_port),
            (Door::Control, options.control_port),
        ] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
            urls.push(format!("http://{}", listener.local_addr()?));
            tasks.push(tokio::spawn(serve(listener, door, Arc::clone(&desk))));
        }
        let mut urls = urls.into_iter();
        let mut next = || urls.next().unwrap_or_default();
        Ok(Self {
            coupa_url: next(),
            qad_url: format!("{}{}", next(), qad::CONTEXT_ROOT),
            control_url: next(),
            world: Arc::clone(&desk.world),
            faults: Arc::clone(&desk.faults),
            journal: Arc::clone(&desk.journal),
            options: Arc::clone(&desk.options),
            now,
            tasks,
        })
    }

    /// The same world as ports.
    pub fn ports(&self) -> WorldPorts {
        WorldPorts::shared(
            Arc::clone(&self.world),
            Arc::clone(&self.faults),
            Arc::clone(&self.journal),
            Arc::clone(&self.now),
        )
    }

    /// Stops listening and closes all connections.
    pub async fn shutdown(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // Only an abort or a panic ends such a task, and both are the end that was asked for.
            let _ = task.await;
        }
    }
}

impl Drop for Simulators {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Door {
    System(System),
    Control,
}

/// What all connections share.
struct Desk {
    world: Arc<Mutex<World>>,
    faults: Arc<Mutex<Faults>>,
    journal: Arc<Mutex<Journal>>,
    now: Now,
    options: Arc<RwLock<Options>>,
}

/// How an answer goes over the socket.
enum Sent {
    Whole(WireResponse),
    CutShort(WireResponse),
    Dripping(WireResponse, Duration, usize),
    /// The connection is closed without an answer.
    Nothing,
}

async fn serve(listener: TcpListener, door: Door, desk: Arc<Desk>) {
    let mut connections = JoinSet::new();
    loop {
        // A failed accept concerns one client that is gone already.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let desk = Arc::clone(&desk);
        connections.spawn(converse(stream, door, desk));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, door: Door, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { answer(request, door, &desk).await }
    });
    // An error here is a client that went away or a connection dropped on purpose.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("connection dropped")]
struct Dropped;

type Body = UnsyncBoxBody<Bytes, Dropped>;

async fn answer(
    request: hyper::Request<Incoming>,
    door: Door,
    desk: &Desk,
) -> Result<hyper::Response<Body>, Dropped> {
    let request = read(request).await?;
    let sent = match door {
        Door::System(system) => desk.exchange(system, &request),
        Door::Control => {
            let now = (desk.now)();
            let mut world = lock(&desk.world);
            world.advance(now);
            Sent::Whole(control::handle(
                &mut world,
                &desk.faults,
                &desk.journal,
                &request,
                now,
            ))
        }
    };
    match sent {
        Sent::Nothing => Err(Dropped),
        Sent::Whole(response) => {
            let body = Full::new(Bytes::from(response.body.clone()));
            build(
                &response,
                body.map_err(|never: Infallible| match never {}).boxed_unsync(),
            )
        }
        Sent::CutShort(response) => {
            let half = response.body.len().div_euclid(2);
            let piece = Bytes::copy_from_slice(response.body.as_bytes().get(..half).unwrap_or_default());
            build(&response, breaking_off(piece))
        }
        Sent::Dripping(response, pause, piece_bytes) => {
            build(&response, dripping(&response.body, pause, piece_bytes))
        }
    }
}

/// A body that ends in the middle: what came before goes out first.
fn breaking_off(piece: Bytes) -> Body {
    let stream = futures_util::stream::unfold(Some(piece), |piece| async move {
        match piece {
            Some(piece) => Some((Ok(Frame::data(piece)), None)),
            None => {
                tokio::task::yield_now().await;
                Some((Err(Dropped), None))
            }
        }
    });
    StreamBody::new(stream).boxed_unsync()
}

fn dripping(body: &str, pause: Duration, piece_bytes: usize) -> Body {
    let pieces: Vec<Bytes> = body
        .as_bytes()
        .chunks(piece_bytes.max(1))
        .map(Bytes::copy_from_slice)
        .collect();
    let stream = futures_util::stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        let piece = pieces.next()?;
        wait(pause.min(PIECE_PAUSE_MAX)).await;
        Some((Ok(Frame::data(piece)), pieces))
    });
    StreamBody::new(stream).boxed_unsync()
}

#[expect(clippy::disallowed_methods, reason = "a slow answer is slow in real time")]
async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

fn build(response: &WireResponse, body: Body) -> Result<hyper::Response<Body>, Dropped> {
    let mut builder = hyper::Response::builder()
        .status(response.status)
        .header("content-type", response.content_type)
        .header("content-length", response.body.len());
    for (name, value) in &response.headers {
        builder = builder.header(*name, value);
    }
    builder.body(body).map_err(|_| Dropped)
}

async fn read(request: hyper::Request<Incoming>) -> Result<WireRequest, Dropped> {
    let (parts, body) = request.into_parts();
    // Whoever sends more than this, or goes away in the middle, gets no answer.
    let body = Limited::new(body, REQUEST_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| Dropped)?;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(WireRequest {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body: body.to_bytes().to_vec(),
    })
}

// ---------------------------------------------------------------------------------------------------------------
// Faults in front of the doors
// ---------------------------------------------------------------------------------------------------------------

impl Desk {
    /// One request to a system: fault, door, journal.
    fn exchange(&self, system: System, request: &WireRequest) -> Sent {
        let (operation, keys) = match system {
            System::Coupa => coupa::describe(request),
            System::Qad => qad::describe(request),
        };
        let now = (self.now)();
        let fault = lock(&self.faults).hit(system, operation, &keys);
        let (sent, violation) = self.with_fault(system, request, fault.as_ref(), now);
        lock(&self.journal).record(JournalEntry {
            sequence: 0,
            at: now,
            system,
            operation: operation.to_owned(),
            keys,
            idempotency_key: request.header("idempotency-key").map(str::to_owned),
            status: match &sent {
                Sent::Whole(response) | Sent::CutShort(response) | Sent::Dripping(response, ..) => {
                    Some(response.status)
                }
                Sent::Nothing => None,
            },
            fault: fault.as_ref().map(Fault::word),
            contract_violation: violation,
        });
        sent
    }

    fn handle(
        &self,
        system: System,
        request: &WireRequest,
        now: Timestamp,
        late: Option<Timestamp>,
    ) -> Answer {
        let mut world = lock(&self.world);
        world.advance(now);
        let options = self.options.read().unwrap_or_else(PoisonError::into_inner);
        match system {
            System::Coupa => coupa::handle(&mut world, &options, request, now, late),
            System::Qad => qad::handle(&mut world, &options, request, now, late),
        }
    }

    fn with_fault(
        &self,
        system: System,
        request: &WireRequest,
        fault: Option<&Fault>,
        now: Timestamp,
    ) -> (Sent, Option<String>) {
        let Some(fault) = fault else {
            let answer = self.handle(system, request, now, None);
            return (Sent::Whole(answer.response), answer.violation);
        };
        let answer = (fault.is_handled() || fault.late(now).is_some())
            .then(|| self.handle(system, request, now, fault.late(now)));
        let violation = answer.as_ref().and_then(|answer| answer.violation.clone());
        let handled = answer.map_or_else(|| WireResponse::json(500, "{}"), |answer| answer.response);
        let sent = match fault {
            Fault::LostBefore | Fault::LostAfter | Fault::LateCommit { .. } => Sent::Nothing,
            Fault::Status {
                status, retry_after, ..
            } => Sent::Whole(error_status(*status, *retry_after, now)),
            Fault::MalformedJson => Sent::Whole(WireResponse {
                body: format!("{{\"data\":[{}", handled.body),
                ..handled
            }),
            Fault::TruncatedBody => Sent::CutShort(handled),
            Fault::HtmlPage => Sent::Whole(WireResponse::html(200, LOGIN_PAGE)),
            Fault::BotChallenge => Sent::Whole(bot_challenge()),
            Fault::Drip {
                pause_ms,
                piece_bytes,
            } => Sent::Dripping(
                handled,
                Duration::from_millis(u64::from(*pause_ms)),
                usize::try_from(*piece_bytes).unwrap_or(usize::MAX),
            ),
            Fault::BusinessRefusal { code, field, message } => match system {
                System::Coupa => Sent::Whole(coupa::error(400, field, message)),
                System::Qad => Sent::Whole(qad::refusal(code, field, message, qad::SEVERITY_ERROR)),
            },
            Fault::RecordInUse => match system {
                System::Coupa => Sent::Whole(coupa::error(409, "base", "Record is being updated")),
                System::Qad => Sent::Whole(qad::refusal(
                    "LOCKED",
                    "",
                    "Record in use by another user",
                    qad::SEVERITY_ERROR,
                )),
            },
            Fault::WarningOnly => Sent::Whole(qad::refusal(
                "CONFIRM",
                "supplierInvoiceReference",
                "Reference has been used before. Continue?",
                qad::SEVERITY_WARNING,
            )),
        };
        (sent, violation)
    }
}

const LOGIN_PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
<body><form action=\"/login\" method=\"post\"><input name=\"username\"></form></body></html>";

fn bot_challenge() -> WireResponse {
    let page = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>";
    let mut response = WireResponse::html(403, page);
    response.headers.push(("cf-mitigated", "challenge".to_owned()));
    response
}

fn error_status(status: u16, retry_after: RetryAfter, now: Timestamp) -> WireResponse {
    let mut response = WireResponse::json(status, format!("{{\"error\":\"simulated status {status}\"}}"));
    let header = match retry_after {
        RetryAfter::Absent => None,
        RetryAfter::Seconds(seconds) => Some(seconds.to_string()),
        RetryAfter::DateInSeconds(seconds) => http_date(now.plus_seconds(i64::from(seconds))),
    };
    response
        .headers
        .extend(header.map(|value| ("retry-after", value)));
    response
}

fn http_date(at: Timestamp) -> Option<String> {
    let instant = jiff::Timestamp::from_millisecond(at.0).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&instant)
        .ok()
}

#[cfg(test)]
mod tests;
