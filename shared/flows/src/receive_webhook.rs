//! Coupa tells us that something happened: believe it or not, put a hint into the queue, answer.
//!
//! An answer of 202 means that the queue has the hint. Losing an event is harmless, because the polls find what
//! webhooks miss; repeating one is harmless, because a hint only says "look". So nothing is remembered here but the
//! connections' webhook settings, for a few minutes.

use crate::ports::{Chance, Clock, Hint, HintReason, Queue, ReadError, Subject};
use crate::webhook::call_out::TokenRefused;
use crate::webhook::event::Event;
use crate::webhook::settings::WebhookSettings;
use crate::webhook::{BODY_BYTES_MAX, Body, Distrust, Headers, Refused, Unverified, Verified};
use async_trait::async_trait;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use domain::time::Timestamp;
use futures_util::future::{Either, select};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time settings are used without looking at the secret store again, in milliseconds.
pub const SETTINGS_AGE_MILLIS_MAX: i64 = 300_000;
/// Shortest time between two looks at the secret store because a signature did not fit, per connection, and how long
/// "there is no such connection" is remembered, in milliseconds. Bad requests cannot run up its bill.
pub const RELOAD_INTERVAL_MILLIS_MIN: i64 = 60_000;
const _: () = assert!(RELOAD_INTERVAL_MILLIS_MIN < SETTINGS_AGE_MILLIS_MAX);
/// How long a failed look at the secret store is not repeated, in milliseconds; one that found a wrong document is not for
/// [`RELOAD_INTERVAL_MILLIS_MIN`].
pub const FAILURE_PAUSE_MILLIS: i64 = 5_000;
/// Most looks for connections never seen before, per [`RELOAD_INTERVAL_MILLIS_MIN`] and instance: made-up names cannot
/// run up the bill either.
pub const FIRST_LOOKS_MAX: u32 = 30;
/// Nobody looked, so nobody knows whether there is such a connection.
const TOO_MANY_UNKNOWN: &str = "WEBHOOK_TOO_MANY_UNKNOWN_CONNECTIONS";
/// Interval in which refusals for the same reason are logged ever more rarely, in milliseconds.
pub const REFUSAL_LOG_INTERVAL_MILLIS: i64 = 60_000;
/// Least of `Retry-After`, in seconds; as much again is added by chance.
pub const RETRY_AFTER_SECONDS: u64 = 30;
/// How long before the invocation's end an answer is given whatever is still open, in milliseconds: an end by Lambda would
/// be a 500 without `Retry-After`, and a cold start for whoever comes next.
pub const ANSWER_MARGIN_MILLIS: i64 = 1_000;
/// Beginning of every webhook's path.
const PATH_PREFIX: &str = "/webhooks/coupa/";
/// The one body of every 401 of the webhook.
const UNAUTHORIZED_BODY: &str = r#"{"error":"unauthorized"}"#;
/// The one body of every 401 of the token endpoint (RFC 6749 §5.2).
const INVALID_CLIENT_BODY: &str = r#"{"error":"invalid_client"}"#;

/// Where the webhook documents are. Every call is one request to the secret store; this flow keeps what it read.
#[async_trait]
pub trait WebhookSecrets: Send + Sync {
    /// Reads the connection's webhook document as it is now. `None` means the store said there is none.
    async fn document(&self, connection: &ConnectionId) -> Result<Option<SecretString>, ReadError>;
}

/// What this flow may use.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Reads the connections' webhook documents.
    pub secrets: &'a dyn WebhookSecrets,
    /// What was read before; lives as long as the process.
    pub memory: &'a Memory,
    /// Takes the hints.
    pub queue: &'a dyn Queue,
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Spreads the retries.
    pub chance: &'a dyn Chance,
    /// When Lambda ends the invocation.
    pub ends: Timestamp,
}

/// A request as API Gateway (HTTP API v2 or REST) or a Function URL hands it over. The query string plays no part.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct GatewayRequest {
    /// The method.
    pub method: String,
    /// The path as this product names it: without stage, base path or a custom domain's mapping.
    pub path: String,
    /// The headers.
    pub headers: Headers,
    /// The body as handed over; empty when there is none.
    pub body: String,
    /// Whether `body` is base64.
    pub body_is_base64: bool,
}

/// The event as AWS documents it; what is not needed is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEvent {
    raw_path: Option<String>,
    path: Option<String>,
    /// The route of an HTTP API: method and path with parameters.
    route_key: Option<String>,
    /// The same of a REST API, without the method.
    resource: Option<String>,
    path_parameters: Option<BTreeMap<String, String>>,
    http_method: Option<String>,
    request_context: Option<WireContext>,
    headers: Option<BTreeMap<String, String>>,
    multi_value_headers: Option<BTreeMap<String, Vec<String>>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
}

#[derive(Deserialize)]
struct WireContext {
    stage: Option<String>,
    http: Option<WireHttp>,
}

#[derive(Deserialize)]
struct WireHttp {
    method: Option<String>,
}

impl GatewayRequest {
    /// Reads a gateway's event.
    pub fn read(event: &Value) -> Result<Self, Problem> {
        let wire: WireEvent = serde_path_to_error::deserialize(event).map_err(|error| {
            Problem::new(
                "WEBHOOK_GATEWAY_EVENT_UNREADABLE",
                "Put an API Gateway HTTP API (payload 2.0) or a Function URL in front of the function.",
            )
            .field(error.path().to_string())
            .expected("an HTTP event of API Gateway or a Function URL")
            .actual("something else")
        })?;
        let stage = wire
            .request_context
            .as_ref()
            .and_then(|context| context.stage.clone());
        let method = wire
            .request_context
            .and_then(|context| context.http)
            .and_then(|http| http.method)
            .or(wire.http_method);
        let template = wire.route_key.as_deref().or(wire.resource.as_deref());
        let name = wire
            .path_parameters
            .as_ref()
            .and_then(|all| all.get("connection"));
        let path = match (routed(template, name), wire.raw_path, stage) {
            (Some(path), ..) => path,
            (None, Some(path), Some(stage)) => without_stage(&path, &stage).to_owned(),
            (None, Some(path), None) => path,
            (None, None, _) => wire.path.unwrap_or_default(),
        };
        Ok(Self {
            method: method.unwrap_or_default(),
            path,
            headers: Headers::new(wire.headers.unwrap_or_default(), wire.multi_value_headers),
            body: wire.body.unwrap_or_default(),
            body_is_base64: wire.is_base64_encoded.unwrap_or(false),
        })
    }

    fn body(&self) -> Body<'_> {
        if self.body_is_base64 {
            Body::Base64(&self.body)
        } else {
            Body::Text(&self.body)
        }
    }
}

/// The path that the gateway's route stands for, whatever stands in front of it. `None` without a route of ours, as behind a
/// Function URL.
fn routed(template: Option<&str>, name: Option<&String>) -> Option<String> {
    let name = name.filter(|name| !name.contains('/'))?;
    let (_, endpoint) = template?.split_once("/webhooks/coupa/{connection}")?;
    Some(format!("{PATH_PREFIX}{name}{endpoint}"))
}

/// HTTP APIs put the stage's name before the path, unless it is `$default`.
fn without_stage<'a>(path: &'a str, stage: &str) -> &'a str {
    path.strip_prefix('/')
        .and_then(|rest| rest.strip_prefix(stage))
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path)
}

/// What became of a request: for the log and the metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The queue has the hint.
    Queued {
        /// What the hint points to.
        subject: Subject,
        /// Follows the hint through the logs.
        trace: String,
    },
    /// Trusted, and about something we do not act on; carries the event's own word for it.
    NotActedOn(String),
    /// An access token was handed out.
    TokenIssued,
    /// Trusted, and not what the scheme says.
    NotUnderstood(Problem),
    /// Not believed.
    Refused(Distrust),
    /// Body too large to be looked at.
    TooLarge,
    /// No such path.
    NotFound,
    /// A path of ours, another method.
    MethodNotAllowed,
    /// The queue did not take the hint.
    QueueDown(Problem),
    /// The webhook settings could not be read, or are wrong.
    SettingsDown(Problem),
    /// Queue or secret store did not answer before the invocation's end. The hint may be in the queue.
    OutOfTime(Problem),
}

impl Outcome {
    /// The stable word for the metric.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::NotActedOn(_) => "not-acted-on",
            Self::TokenIssued => "token-issued",
            Self::NotUnderstood(_) => "not-understood",
            Self::Refused(_) => "refused",
            Self::TooLarge => "too-large",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::QueueDown(_) => "queue-down",
            Self::SettingsDown(_) => "settings-down",
            Self::OutOfTime(_) => "out-of-time",
        }
    }

    /// The reason behind the word: a [`Distrust`]'s name, a problem's code, or nothing.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(reason) => reason.name(),
            Self::NotUnderstood(problem)
            | Self::QueueDown(problem)
            | Self::SettingsDown(problem)
            | Self::OutOfTime(problem) => &problem.code,
            _ => "",
        }
    }
}

/// The answer to the sender, and what happened.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// HTTP headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body, JSON.
    pub body: String,
    /// What happened.
    pub outcome: Outcome,
}

impl Answer {
    fn new(status: u16, body: impl Into<String>, outcome: Outcome) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.into(),
            outcome,
        }
    }

    #[must_use]
    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn queued(subject: Subject, trace: String) -> Self {
        Self::new(202, r#"{"result":"queued"}"#, Outcome::Queued { subject, trace })
    }

    fn not_acted_on(word: String) -> Self {
        Self::new(200, r#"{"result":"not-acted-on"}"#, Outcome::NotActedOn(word))
    }

    fn not_understood(problem: Problem) -> Self {
        let body = json!({"error": "not-understood", "problem": &problem}).to_string();
        Self::new(400, body, Outcome::NotUnderstood(problem))
    }

    fn refused(reason: Refused) -> Self {
        match reason {
            Refused::TooLarge => Self::too_large(),
            Refused::Distrusted(reason) => Self::new(401, UNAUTHORIZED_BODY, Outcome::Refused(reason))
                .header("www-authenticate", "Bearer"),
        }
    }

    /// A stranger who makes up names learns nothing from the answer, and cannot raise the alarm of true outages; the log
    /// tells it apart. What a real sender loses by it the polls find.
    fn because_nobody_looked(self, problem: Problem) -> Self {
        match self.outcome {
            Outcome::Refused(_) => Self {
                outcome: Outcome::SettingsDown(problem),
                ..self
            },
            _ => self,
        }
    }

    fn client_refused(reason: Distrust) -> Self {
        Self::new(401, INVALID_CLIENT_BODY, Outcome::Refused(reason))
            .header("www-authenticate", "Basic realm=\"webhooks\"")
            .header("cache-control", "no-store")
    }

    fn too_large() -> Self {
        let body = json!({"error": "too-large", "bytes_max": BODY_BYTES_MAX}).to_string();
        Self::new(413, body, Outcome::TooLarge)
    }

    fn not_found() -> Self {
        Self::new(404, r#"{"error":"not-found"}"#, Outcome::NotFound)
    }

    fn method_not_allowed() -> Self {
        Self::new(
            405,
            r#"{"error":"method-not-allowed"}"#,
            Outcome::MethodNotAllowed,
        )
        .header("allow", "POST")
    }

    fn unavailable(deps: &Deps<'_>, outcome: Outcome) -> Self {
        let seconds = RETRY_AFTER_SECONDS.saturating_add(deps.chance.up_to(RETRY_AFTER_SECONDS));
        Self::new(503, r#"{"error":"unavailable"}"#, outcome).header("retry-after", seconds.to_string())
    }

    /// The answer in the form API Gateway and Function URLs expect.
    pub fn to_gateway(&self) -> Value {
        let headers: BTreeMap<&str, &str> = self
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        json!({
            "statusCode": self.status,
            "headers": headers,
            "body": self.body,
            "isBase64Encoded": false,
        })
    }
}

/// Handles one gateway event, whatever it is, and logs what became of it.
pub async fn handle(deps: Deps<'_>, event: &Value) -> Value {
    match GatewayRequest::read(event) {
        Ok(request) => run(deps, &request).await.to_gateway(),
        Err(problem) => {
            let answer = Answer::not_understood(problem);
            deps.memory.log(&answer, None, deps.clock.now());
            answer.to_gateway()
        }
    }
}

/// Handles one request.
pub async fn run(deps: Deps<'_>, request: &GatewayRequest) -> Answer {
    let left = deps
        .ends
        .millis_since(deps.clock.now())
        .saturating_sub(ANSWER_MARGIN_MILLIS);
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    let asked = Box::pin(answer(&deps, request));
    let (connection, answer) = match select(asked, deps.clock.sleep(left)).await {
        Either::Left((answered, _)) => answered,
        Either::Right(_) => (
            None,
            Answer::unavailable(&deps, Outcome::OutOfTime(out_of_time())),
        ),
    };
    deps.memory.log(&answer, connection.as_ref(), deps.clock.now());
    answer
}

fn out_of_time() -> Problem {
    Problem::new(
        "WEBHOOK_OUT_OF_TIME",
        "Nothing to do: the sender comes again. If it lasts, look at AWS's health: queue or secret store do not answer.",
    )
    .field("answer")
    .expected(format!("{ANSWER_MARGIN_MILLIS} ms before the function's timeout"))
}

/// What a path asks for.
enum Route<'a> {
    Webhook(&'a str),
    Token(&'a str),
}

fn route(path: &str) -> Option<Route<'_>> {
    let rest = path.strip_prefix(PATH_PREFIX)?;
    let (name, endpoint) = match rest.split_once('/') {
        None => (rest, None),
        Some((name, endpoint)) => (name, Some(endpoint)),
    };
    match endpoint {
        _ if name.is_empty() => None,
        None => Some(Route::Webhook(name)),
        Some("token") => Some(Route::Token(name)),
        Some(_) => None,
    }
}

async fn answer(deps: &Deps<'_>, request: &GatewayRequest) -> (Option<ConnectionId>, Answer) {
    let Some(route) = route(&request.path) else {
        return (None, Answer::not_found());
    };
    if request.method != "POST" {
        return (None, Answer::method_not_allowed());
    }
    if request.body().is_too_large() {
        return (None, Answer::too_large());
    }
    let (Route::Webhook(name) | Route::Token(name)) = route;
    // A name that no connection can have is a connection that does not exist.
    let connection: Option<ConnectionId> = name.parse().ok();
    let answer = match route {
        Route::Webhook(_) => receive(deps, connection.as_ref(), request).await,
        Route::Token(_) => issue_token(deps, connection.as_ref(), request).await,
    };
    (connection, answer)
}

async fn receive(deps: &Deps<'_>, connection: Option<&ConnectionId>, request: &GatewayRequest) -> Answer {
    let Some(connection) = connection else {
        return Answer::refused(request.body().refuse_unknown());
    };
    let settings = match deps.memory.settings(deps, connection).await {
        Ok(Some(settings)) => settings,
        Ok(None) => return Answer::refused(request.body().refuse_unknown()),
        Err(problem) if problem.code == TOO_MANY_UNKNOWN => {
            return Answer::refused(request.body().refuse_unknown()).because_nobody_looked(problem);
        }
        Err(problem) => return Answer::unavailable(deps, Outcome::SettingsDown(problem)),
    };
    let unverified = Unverified {
        connection,
        headers: &request.headers,
        body: request.body(),
    };
    let reason = match unverified.verify(&settings, deps.clock.now()) {
        Ok(verified) => return enqueue(deps, &verified).await,
        Err(Refused::Distrusted(reason)) if reason.may_be_rotation() => reason,
        Err(refused) => return Answer::refused(refused),
    };
    match deps.memory.reload(deps, connection).await {
        Reload::NotDue => Answer::refused(reason.into()),
        Reload::Gone => Answer::refused(Distrust::UnknownConnection.into()),
        Reload::Failed(problem) => Answer::unavailable(deps, Outcome::SettingsDown(problem)),
        Reload::Fresh(settings) => match unverified.verify(&settings, deps.clock.now()) {
            Ok(verified) => enqueue(deps, &verified).await,
            Err(refused) => Answer::refused(refused),
        },
    }
}

/// Only what was verified gets here.
async fn enqueue(deps: &Deps<'_>, verified: &Verified<'_>) -> Answer {
    let subject = match verified.event() {
        Ok(Event::Look(subject)) => subject,
        Ok(Event::NotActedOn(word)) => return Answer::not_acted_on(word),
        Err(problem) => return Answer::not_understood(problem),
    };
    let trace = verified.delivery().to_owned();
    let hint = Hint::V1 {
        connection: verified.connection().clone(),
        subject: subject.clone(),
        reason: HintReason::Webhook,
        trace: trace.clone(),
    };
    match deps.queue.send(&[hint]).await {
        Ok(()) => Answer::queued(subject, trace),
        Err(error) => Answer::unavailable(deps, Outcome::QueueDown(error.0)),
    }
}

async fn issue_token(deps: &Deps<'_>, connection: Option<&ConnectionId>, request: &GatewayRequest) -> Answer {
    let Some(connection) = connection else {
        return Answer::client_refused(Distrust::UnknownConnection);
    };
    let settings = match deps.memory.settings(deps, connection).await {
        Ok(Some(settings)) => settings,
        Ok(None) => return Answer::client_refused(Distrust::UnknownConnection),
        Err(problem) if problem.code == TOO_MANY_UNKNOWN => {
            return Answer::client_refused(Distrust::UnknownConnection).because_nobody_looked(problem);
        }
        Err(problem) => return Answer::unavailable(deps, Outcome::SettingsDown(problem)),
    };
    let answer = token_answer(deps, connection, &settings, request);
    if !matches!(&answer.outcome, Outcome::Refused(reason) if reason.may_be_rotation()) {
        return answer;
    }
    match deps.memory.reload(deps, connection).await {
        Reload::NotDue => answer,
        Reload::Gone => Answer::client_refused(Distrust::UnknownConnection),
        Reload::Failed(problem) => Answer::unavailable(deps, Outcome::SettingsDown(problem)),
        Reload::Fresh(settings) => token_answer(deps, connection, &settings, request),
    }
}

fn token_answer(
    deps: &Deps<'_>,
    connection: &ConnectionId,
    settings: &WebhookSettings,
    request: &GatewayRequest,
) -> Answer {
    let unverified = Unverified {
        connection,
        headers: &request.headers,
        body: request.body(),
    };
    match unverified.issue_token(settings, deps.clock.now()) {
        Ok(issued) => {
            let body = json!({
                "access_token": issued.token.expose_secret(),
                "token_type": "bearer",
                "expires_in": issued.expires_in_seconds,
            });
            Answer::new(200, body.to_string(), Outcome::TokenIssued).header("cache-control", "no-store")
        }
        Err(TokenRefused::Distrusted(reason)) => Answer::client_refused(reason),
        Err(TokenRefused::GrantNotSupported) => {
            let problem = Problem::new(
                "WEBHOOK_GRANT_NOT_SUPPORTED",
                "Ask for a token with grant_type=client_credentials in a form or JSON body.",
            )
            .field("grant_type")
            .expected("client_credentials");
            let body = r#"{"error":"unsupported_grant_type"}"#;
            Answer::new(400, body, Outcome::NotUnderstood(problem)).header("cache-control", "no-store")
        }
    }
}

/// What the process keeps between requests: settings for a few minutes, and counts for the log.
#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    connections: BTreeMap<ConnectionId, Entry>,
    first_looks: FirstLooks,
    refusals: BTreeMap<String, Refusals>,
}

/// What is known of one connection.
#[derive(Default)]
struct Entry {
    /// The last answer of the secret store, and when; the inner `None` says that there is no such connection.
    known: Option<(Timestamp, Option<Arc<WebhookSettings>>)>,
    /// The last failure after that answer.
    failed: Option<Failed>,
}

/// A look that brought no settings.
struct Failed {
    at: Timestamp,
    problem: Problem,
    /// How long nobody looks again only because somebody asks, in milliseconds.
    pause_millis: i64,
}

impl Entry {
    fn is_fresh(&self, now: Timestamp) -> bool {
        match &self.known {
            Some((at, Some(_))) => age_millis(now, *at) < SETTINGS_AGE_MILLIS_MAX,
            Some((at, None)) => age_millis(now, *at) < RELOAD_INTERVAL_MILLIS_MIN,
            None => false,
        }
    }

    fn failure_within(&self, now: Timestamp, millis: i64) -> Option<Problem> {
        let failed = self.failed.as_ref();
        failed
            .filter(|failed| age_millis(now, failed.at) < millis.max(failed.pause_millis))
            .map(|failed| failed.problem.clone())
    }

    fn names_a_connection(&self) -> bool {
        matches!(self.known, Some((_, Some(_))))
    }
}

/// Counts looks for names never seen before.
#[derive(Default)]
struct FirstLooks {
    since: Timestamp,
    count: u32,
}

/// Counts refusals for one reason.
#[derive(Default)]
struct Refusals {
    /// Beginning of the interval.
    since: Timestamp,
    /// How many in the interval.
    seen: u64,
    /// How many no line has told of yet.
    untold: u64,
}

/// What came of looking again because a signature did not fit.
enum Reload {
    /// The settings are young enough for the verdict to stand.
    NotDue,
    /// Read again.
    Fresh(Arc<WebhookSettings>),
    /// The connection is gone.
    Gone,
    /// The store did not answer: the verdict is open.
    Failed(Problem),
}

/// A clock that was set back makes things old, never young for ever.
fn age_millis(now: Timestamp, then: Timestamp) -> i64 {
    now.millis_since(then).saturating_abs()
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection's settings, at most [`SETTINGS_AGE_MILLIS_MAX`] old; `None` when there is no such connection.
    async fn settings(
        &self,
        deps: &Deps<'_>,
        connection: &ConnectionId,
    ) -> Result<Option<Arc<WebhookSettings>>, Problem> {
        let now = deps.clock.now();
        {
            let mut remembered = self.lock();
            if let Some(entry) = remembered.connections.get(connection) {
                if let (true, Some((_, settings))) = (entry.is_fresh(now), &entry.known) {
                    return Ok(settings.clone());
                }
                if let Some(problem) = entry.failure_within(now, 0) {
                    return Err(problem);
                }
            }
            remembered.may_look(connection, now)?;
        }
        self.fetch(deps, connection, now).await
    }

    /// Looks again after a signature did not fit, at most once per [`RELOAD_INTERVAL_MILLIS_MIN`].
    async fn reload(&self, deps: &Deps<'_>, connection: &ConnectionId) -> Reload {
        let now = deps.clock.now();
        {
            let mut remembered = self.lock();
            let entry = remembered.connections.entry(connection.clone()).or_default();
            let young =
                matches!(&entry.known, Some((at, _)) if age_millis(now, *at) < RELOAD_INTERVAL_MILLIS_MIN);
            if young {
                return Reload::NotDue;
            }
            if let Some(problem) = entry.failure_within(now, RELOAD_INTERVAL_MILLIS_MIN) {
                return Reload::Failed(problem);
            }
            // Until the answer is here, nobody else needs to ask.
            entry.failed = Some(Failed {
                at: now,
                problem: look_is_under_way(),
                pause_millis: FAILURE_PAUSE_MILLIS,
            });
        }
        match self.fetch(deps, connection, now).await {
            Ok(Some(settings)) => Reload::Fresh(settings),
            Ok(None) => Reload::Gone,
            Err(problem) => Reload::Failed(problem),
        }
    }

    async fn fetch(
        &self,
        deps: &Deps<'_>,
        connection: &ConnectionId,
        now: Timestamp,
    ) -> Result<Option<Arc<WebhookSettings>>, Problem> {
        let read = deps.secrets.document(connection).await;
        // A store that is down may be up in a moment; a document that is wrong waits for a person.
        let (result, pause_millis) = match read {
            Ok(None) => (Ok(None), 0),
            Ok(Some(document)) => {
                let parsed = WebhookSettings::parse(&document).map(|settings| Some(Arc::new(settings)));
                (parsed.map_err(first_problem), RELOAD_INTERVAL_MILLIS_MIN)
            }
            Err(error) => (Err(error.problem().clone()), FAILURE_PAUSE_MILLIS),
        };
        let mut remembered = self.lock();
        let entry = remembered.connections.entry(connection.clone()).or_default();
        match &result {
            Ok(settings) => {
                *entry = Entry {
                    known: Some((now, settings.clone())),
                    failed: None,
                };
            }
            Err(problem) => {
                entry.failed = Some(Failed {
                    at: now,
                    problem: problem.clone(),
                    pause_millis,
                });
            }
        }
        result
    }

    /// Logs an answer: one line each, except that what a stranger can cause at will gets a line per doubling, with the
    /// count, so that the log's bill does not grow with the attack. Never a header or a body.
    fn log(&self, answer: &Answer, connection: Option<&ConnectionId>, now: Timestamp) {
        let (outcome, reason) = (answer.outcome.name(), answer.outcome.reason());
        let connection = connection.map_or("", ConnectionId::as_str);
        let status = answer.status;
        match &answer.outcome {
            Outcome::Queued { subject, trace } => {
                tracing::info!(outcome, status, connection, ?subject, trace, "webhook queued");
            }
            Outcome::NotActedOn(event_type) => {
                tracing::info!(outcome, status, connection, event_type, "webhook not acted on");
            }
            Outcome::TokenIssued => tracing::info!(outcome, status, connection, "access token issued"),
            Outcome::NotUnderstood(problem) => {
                tracing::warn!(outcome, status, connection, reason, %problem, "webhook not understood");
            }
            Outcome::QueueDown(problem) | Outcome::OutOfTime(problem) => {
                tracing::error!(outcome, status, connection, reason, %problem, "webhook could not be handled");
            }
            // Without a signature: of names that somebody makes up, and of a connection whose document is wrong.
            Outcome::SettingsDown(problem) if problem.code == TOO_MANY_UNKNOWN => {
                if let Some(value) = self.lock().count_refusal(reason, now) {
                    let metric = "webhook_rejected";
                    tracing::warn!(outcome, status, reason, metric, value, %problem, "webhook could not be handled");
                }
            }
            Outcome::SettingsDown(problem) => {
                if let Some(count) = self.lock().count_refusal(reason, now) {
                    tracing::error!(outcome, status, connection, reason, count, %problem, "webhook could not be handled");
                }
            }
            Outcome::Refused(_) => {
                if let Some(count) = self.lock().count_refusal(reason, now) {
                    let metric = "webhook_rejected";
                    tracing::warn!(
                        outcome,
                        status,
                        connection,
                        reason,
                        metric,
                        value = count,
                        "webhook refused"
                    );
                }
            }
            Outcome::TooLarge | Outcome::NotFound | Outcome::MethodNotAllowed => {
                if let Some(count) = self.lock().count_refusal(outcome, now) {
                    tracing::warn!(outcome, status, connection, count, "request turned away");
                }
            }
        }
    }
}

impl Remembered {
    /// Allows a look at the secret store: always for a connection that is known, a few a minute for other names.
    fn may_look(&mut self, connection: &ConnectionId, now: Timestamp) -> Result<(), Problem> {
        let known = self.connections.get(connection);
        if known.is_some_and(Entry::names_a_connection) {
            return Ok(());
        }
        if age_millis(now, self.first_looks.since) >= RELOAD_INTERVAL_MILLIS_MIN {
            self.first_looks = FirstLooks { since: now, count: 0 };
            // What is left are real connections: made-up names do not pile up.
            self.connections.retain(|_, entry| entry.names_a_connection());
        }
        if self.first_looks.count >= FIRST_LOOKS_MAX {
            return Err(Problem::new(
                TOO_MANY_UNKNOWN,
                "Somebody tries many connection names; the sender of a real one repeats itself.",
            )
            .expected(format!("at most {FIRST_LOOKS_MAX} new connections a minute")));
        }
        self.first_looks.count = self.first_looks.count.saturating_add(1);
        Ok(())
    }

    /// Counts a refusal. When it is the first, second, fourth, eighth … for its reason in this interval, answers how
    /// many there were since the last line, itself included.
    fn count_refusal(&mut self, reason: &str, now: Timestamp) -> Option<u64> {
        let refusals = self.refusals.entry(reason.to_owned()).or_default();
        if age_millis(now, refusals.since) >= REFUSAL_LOG_INTERVAL_MILLIS {
            refusals.since = now;
            refusals.seen = 0;
        }
        refusals.seen = refusals.seen.saturating_add(1);
        refusals.untold = refusals.untold.saturating_add(1);
        refusals
            .seen
            .is_power_of_two()
            .then(|| std::mem::take(&mut refusals.untold))
    }
}

fn look_is_under_way() -> Problem {
    Problem::new(
        "WEBHOOK_SETTINGS_BEING_READ",
        "Nothing to do: the sender repeats itself.",
    )
}

/// The first of the problems in a document; the checker names at least one.
fn first_problem(problems: Vec<Problem>) -> Problem {
    problems.into_iter().next().unwrap_or_else(|| {
        Problem::new(
            "WEBHOOK_SETTINGS_INVALID",
            "Correct the connection's webhook secret; docs/webhooks.md describes every setting.",
        )
    })
}

#[cfg(test)]
mod tests;
