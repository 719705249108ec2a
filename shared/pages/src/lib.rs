//! The page for the people who work the exceptions and close the month: today, the invoices, each invoice, suppliers and
//! lists, month end, help. Rendered here, without a line of JavaScript; nothing is done by GET.
//!
//! Every question is answered from the index of questions ([`flows::index`]); everything that changes an invoice goes
//! through [`flows::operator`], as on the command line.

mod acts;
mod buyer;
mod compared;
mod help;
mod invoice;
mod invoices;
mod kept;
mod layout;
mod login;
mod lookups;
pub mod mail;
mod month;
mod named;
mod notices;
mod picture;
mod reason;
mod session;
mod suppliers;
mod today;
mod words;

pub use kept::Kept;
pub use login::{Identity, IdentityProvider, Login, Returned, Started};
pub use session::{Person, Role, Seal};
pub use words::PlantClock;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use domain::ids::ConnectionId;
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::ports::{Books, Chance, Clock, Queue, RecordKey, StoreError, StoredRecord};
use flows::store::{Context, FlowError};
use flows::{index, month_end, pause, plans, reconcile};
use futures_util::FutureExt;
use session::Session;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tower::ServiceExt;
use tracing::Instrument;

/// Largest form, in bytes.
const FORM_BYTES_MAX: usize = 16 * 1024;
/// Longest address, in bytes; longer ones are nobody's.
const ADDRESS_BYTES_MAX: usize = 2_048;
/// How long an act may take, in milliseconds: the browser waits.
const ACT_MILLIS: i64 = 15_000;

/// Everything the page needs.
pub struct Console {
    /// The register of each connection this page is about, by its name.
    pub connections: BTreeMap<ConnectionId, Arc<dyn Books>>,
    /// How people prove who they are.
    pub login: Login,
    /// Seals the cookies.
    pub seal: Seal,
    /// Where hints go.
    pub hints: Arc<dyn Queue>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
    /// The chain of times.
    pub timing: Timing,
    /// The clock on the wall of the plant.
    pub zone: PlantClock,
    /// What pages keep between two requests.
    pub kept: Kept,
}

/// The connection a request is about, as its address says.
#[derive(Clone)]
struct Asked {
    connection: ConnectionId,
    base: String,
}

impl Console {
    /// Answers one request. Every answer has the headers that keep a browser safe; none is an error without a page.
    pub async fn answer(self: &Arc<Self>, request: Request<Body>) -> Response {
        let secure = !self.login.is_local();
        let longer = login::longer(self, request.headers(), request.uri().path());
        let mut response = match self.placed(request) {
            Ok((connection, request)) => {
                // Lambda would answer a panic with a word and no page; where it happened is in the log.
                let answering = AssertUnwindSafe(router(Arc::clone(self)).oneshot(request));
                // What the index or a record tells of itself names no connection, and its alarms count the lines that do.
                let span = tracing::info_span!("page", %connection);
                match answering.catch_unwind().instrument(span).await {
                    Ok(Ok(response)) => with_page(response),
                    Ok(Err(never)) => match never {},
                    Err(_) => defect(),
                }
            }
            Err(response) => response,
        };
        if let Some(cookie) = longer {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        protect(response.headers_mut(), secure, self.login.form_target());
        response
    }

    #[expect(
        clippy::result_large_err,
        reason = "the refusal is the answer, made once per request"
    )]
    /// Takes `/c/<connection>` off the address, and refuses what no page has: too long an address, an unknown connection, a
    /// form from elsewhere. What is left has its connection beside it.
    fn placed(&self, mut request: Request<Body>) -> Result<(ConnectionId, Request<Body>), Response> {
        if request.uri().to_string().len() > ADDRESS_BYTES_MAX {
            let text = "The address is longer than any of ours: search for less.";
            return Err(plain_page(StatusCode::URI_TOO_LONG, "Too long", text));
        }
        if request.method() != Method::GET
            && request.method() != Method::HEAD
            && !is_from_here(request.headers(), !self.login.is_local())
        {
            let text = "The form did not come from this page. Nothing was done.";
            return Err(plain_page(StatusCode::FORBIDDEN, "Refused", text));
        }
        let path = request.uri().path().to_owned();
        let named = path
            .strip_prefix("/c/")
            .map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        let known = match named {
            Some((name, _)) => self.connections.keys().find(|id| id.as_str() == name),
            None => self.connections.keys().next(),
        };
        let Some(connection) = known else {
            let text = "This page knows no such connection. Look at its address again.";
            return Err(plain_page(StatusCode::NOT_FOUND, "Not found", text));
        };
        let base = named.map(|_| format!("/c/{connection}")).unwrap_or_default();
        request.extensions_mut().insert(Asked {
            connection: connection.clone(),
            base,
        });
        let whole = OriginalUri(request.uri().clone());
        request.extensions_mut().insert(whole);
        if let Some((_, rest)) = named {
            let query = request
                .uri()
                .query()
                .map(|query| format!("?{query}"))
                .unwrap_or_default();
            let inner: Uri = format!("/{rest}{query}").parse().map_err(|_| {
                plain_page(
                    StatusCode::BAD_REQUEST,
                    "Not found",
                    "The address cannot be read.",
                )
            })?;
            *request.uri_mut() = inner;
        }
        Ok((connection.clone(), request))
    }
}

fn router(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(today::show))
        .route("/invoices", get(invoices::show))
        .route("/invoices.csv", get(invoices::csv))
        .route("/invoices/recheck", post(acts::recheck_view))
        .route("/invoices/{id}", get(invoice::show))
        .route("/invoices/{id}/recheck", post(acts::recheck))
        .route("/invoices/{id}/ask-buyer", get(buyer::ask))
        .route("/invoices/{id}/{act}", get(acts::ask).post(acts::answer))
        .route("/find", get(invoices::find))
        .route("/suppliers", get(suppliers::show))
        .route("/month", get(month::latest))
        .route("/accrual.csv", get(month::accrual))
        .route("/month/{month}/differences.csv", get(compared::differences))
        .route("/month/{month}", get(month::show).post(month::sign))
        .route("/lookups", get(lookups::show))
        .route("/plans/allow", get(lookups::ask).post(lookups::answer))
        .route("/help", get(help::help))
        .route("/help/{code}", get(help::help_code))
        .route("/connections", get(help::connections))
        .route("/login", get(login::begin).post(login::choose))
        .route("/login/back", get(login::back))
        .route("/out", post(login::out))
        .route("/console.css", get(style))
        .route("/icon.svg", get(icon))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(console)
}

async fn style() -> Response {
    let kind = [(header::CONTENT_TYPE, "text/css; charset=utf-8")];
    (kind, concat!(include_str!("style.css"), include_str!("more.css"))).into_response()
}

async fn icon() -> Response {
    let kind = [(header::CONTENT_TYPE, "image/svg+xml")];
    let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0b57b0"/><path d="M4 8l3 3 5-6" fill="none" stroke="#fff" stroke-width="2"/></svg>"##;
    (kind, svg).into_response()
}

async fn nowhere(visit: Visit) -> Response {
    let problems = Problems::new(
        StatusCode::NOT_FOUND,
        "Not found",
        "There is no page at this address. Search for the invoice, or go on from one of the pages above.",
    );
    layout::refused(&visit, &problems, "/")
}

async fn wrong_method() -> Response {
    plain_page(
        StatusCode::METHOD_NOT_ALLOWED,
        "Refused",
        "This address takes no such request. Nothing was done.",
    )
}

fn plain_page(status: StatusCode, title: &str, text: &str) -> Response {
    let content = maud::html! { h1 { (title) } p { (text) } p { a href="/" { "Go to today's page" } } };
    layout::with_status(status, layout::bare(title, content))
}

/// What the framework refuses in a few words (a form too large, of another kind, not to be read) is said on a page, too.
fn with_page(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_page = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    if status.is_server_error() {
        return defect();
    }
    let text = "The request cannot be read. Nothing was done: open the page again and repeat it.";
    plain_page(status, "Refused", text)
}

fn defect() -> Response {
    tracing::error!(code = "CONSOLE_DEFECT", "a page could not be made");
    let text = "This page has a defect (CONSOLE_DEFECT). Look at the invoice again before anything is repeated, and tell the \
                one who runs this product.";
    plain_page(StatusCode::INTERNAL_SERVER_ERROR, "No page", text)
}

/// The page when nobody can be let in, with the same headers as every other.
pub fn closed(problem: &Problem) -> Response {
    tracing::error!(code = %problem.code, %problem, "the page is closed");
    let text = format!(
        "Nobody can sign in at the moment ({}). Try again in a minute; if it stays, tell the one who runs this product.",
        problem.code
    );
    let mut response = plain_page(StatusCode::SERVICE_UNAVAILABLE, "Closed", &text);
    protect(response.headers_mut(), true, "");
    response
}

/// Scheme and host of a request; empty for a host that is none.
fn origin_of(headers: &HeaderMap, secure: bool) -> String {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let is_host = |host: &&str| {
        let of_host = |letter: u8| letter.is_ascii_alphanumeric() || b".-:[]".contains(&letter);
        !host.is_empty() && host.bytes().all(of_host)
    };
    let scheme = if secure { "https" } else { "http" };
    let origin = host.filter(is_host).map(|host| format!("{scheme}://{host}"));
    origin.unwrap_or_default()
}

/// Whether a form was sent from a page of this host. A browser says so in `Origin`; what does not say it is refused.
fn is_from_here(headers: &HeaderMap, secure: bool) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else {
        return false;
    };
    let scheme = if secure { "https://" } else { "http://" };
    origin.strip_prefix(scheme) == Some(host)
}

fn protect(headers: &mut HeaderMap, secure: bool, form_target: &str) {
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'{form_target}; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("content-security-policy", &policy);
    set("cache-control", "no-store");
    set("referrer-policy", "same-origin");
    set("x-content-type-options", "nosniff");
    set("cross-origin-opener-policy", "same-origin");
    set("x-frame-options", "DENY");
    if secure {
        set("strict-transport-security", "max-age=31536000");
    }
}

/// A refusal, as a page says it.
#[derive(Debug)]
pub(crate) struct Problems {
    pub(crate) status: StatusCode,
    pub(crate) title: String,
    pub(crate) text: String,
}

impl Problems {
    pub(crate) fn new(status: StatusCode, title: &str, text: impl Into<String>) -> Self {
        Self {
            status,
            title: title.to_owned(),
            text: text.into(),
        }
    }
}

impl From<FlowError> for Problems {
    fn from(error: FlowError) -> Self {
        let problem = error.problem();
        tracing::warn!(code = %problem.code, %problem, "console");
        match error {
            FlowError::Contended => Self::new(
                StatusCode::CONFLICT,
                "It has just changed",
                "Somebody or something changed it at the same moment. Nothing was done: look at it again.",
            ),
            _ => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "No answer",
                format!(
                    "The register gave no answer that can be shown ({}). Try again; if it stays, tell the one who runs this product.",
                    problem.code
                ),
            ),
        }
    }
}

impl From<StoreError> for Problems {
    fn from(error: StoreError) -> Self {
        FlowError::Store(error).into()
    }
}

/// One person's look at one connection.
pub(crate) struct Visit {
    pub(crate) session: Session,
    /// The connection's name.
    pub(crate) connection: String,
    /// What every address of the page begins with.
    pub(crate) base: String,
    pub(crate) now: Timestamp,
    pub(crate) clock: PlantClock,
    pub(crate) connections: Vec<String>,
    pub(crate) books: Arc<dyn Books>,
    pub(crate) console: Arc<Console>,
    pub(crate) id: ConnectionId,
    /// Scheme and host under which the page was asked for; empty when the browser named none that can be one.
    origin: String,
    /// What keeps the flows from beginning anything; `None` when the register gave no answer.
    pub(crate) stops: Option<pause::Stops>,
    /// What was read together with it.
    beside: Result<BTreeMap<RecordKey, Option<StoredRecord>>, StoreError>,
}

/// What a page is read with, beside what every page says: one read instead of two.
fn keys_beside(path: &str) -> Vec<RecordKey> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["", ""] => vec![index::progress_key()],
        ["", "suppliers"] => vec![index::progress_key(), plans::key(None)],
        ["", "invoices", id] => id.parse().map(RecordKey::Invoice).into_iter().collect(),
        ["", "month", month] => vec![month_end::key(month), reconcile::key()],
        ["", "month", _, "differences.csv"] => vec![reconcile::key()],
        _ => vec![],
    }
}

/// What an act rests on, or is looked at right after one, is read as it is now; all else may lag by a moment.
fn is_fresh(method: &Method, keys: &[RecordKey]) -> bool {
    method == Method::POST || keys.iter().any(|key| matches!(key, RecordKey::Invoice(_)))
}

impl Visit {
    /// Whether nothing is begun with invoices, or nobody knows.
    pub(crate) fn are_invoices_stopped(&self) -> bool {
        let stops = self.stops.as_ref();
        stops.is_none_or(|stops| stops.stop(pause::Flow::Invoices))
    }

    /// A record that was read with the page, as [`keys_beside`] names them.
    pub(crate) fn beside(&self, key: &RecordKey) -> Result<Option<&StoredRecord>, Problems> {
        let read = self
            .beside
            .as_ref()
            .map_err(|error| Problems::from(error.clone()))?;
        // What was not read is not "nothing there".
        let found = read.get(key).ok_or_else(|| {
            let text = "The address is written in another way than ours: go on from one of the pages above.";
            Problems::new(StatusCode::NOT_FOUND, "Not found", text)
        })?;
        Ok(found.as_ref())
    }

    /// The token of the forms that go to this path of the page.
    pub(crate) fn token(&self, path: &str) -> String {
        self.session.form_token(&format!("{}{path}", self.base))
    }

    /// Whether a form that went to this path is this session's.
    pub(crate) fn is_own(&self, path: &str, form: &Fields) -> bool {
        let token = form.get("t").map_or("", String::as_str);
        self.session.is_form_of(&format!("{}{path}", self.base), token)
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            register: &*self.books,
            clock: &*self.console.clock,
            chance: &*self.console.chance,
            timing: &self.console.timing,
            deadline: self.now.plus_millis(ACT_MILLIS),
        }
    }

    /// A sentence as it is told here: by the plant's clock, without the verbs of a terminal that nobody here has.
    pub(crate) fn sentence(&self, text: &str) -> String {
        self.clock.sentence(&words::without_verbs(text))
    }

    /// The whole address of a path, for what leaves the page.
    pub(crate) fn link(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.base)
    }

    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// The fields of a form or of an address; the last of several with one name.
pub(crate) type Fields = BTreeMap<String, String>;

impl FromRequestParts<Arc<Console>> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Response> {
        let console = Arc::clone(console);
        let Some(asked) = parts.extensions.get::<Asked>().cloned() else {
            return Err(plain_page(
                StatusCode::NOT_FOUND,
                "Not found",
                "There is no such page.",
            ));
        };
        let now = console.clock.now();
        let Some(session) = login::session(&console, &parts.headers, now) else {
            return Err(to_login(parts));
        };
        let Some(books) = console.connections.get(&asked.connection).map(Arc::clone) else {
            return Err(plain_page(
                StatusCode::NOT_FOUND,
                "Not found",
                "There is no such connection.",
            ));
        };
        let keys = [pause::stops_keys(), keys_beside(parts.uri.path())].concat();
        let found = if is_fresh(&parts.method, &keys) {
            books.read(&keys).await
        } else {
            books.glance(&keys).await
        };
        let stops = stops_of(found.as_deref().unwrap_or_default(), found.is_ok(), now);
        let beside = found.map(|found| keys.iter().cloned().zip(found).collect());
        Ok(Self {
            session,
            origin: origin_of(&parts.headers, !console.login.is_local()),
            stops,
            beside,
            connection: asked.connection.to_string(),
            base: asked.base,
            now,
            clock: console.zone.clone(),
            connections: console.connections.keys().map(ToString::to_string).collect(),
            books,
            id: asked.connection,
            console,
        })
    }
}

/// What keeps the flows from beginning anything; `None` when the register gave no answer.
fn stops_of(found: &[Option<StoredRecord>], is_answer: bool, now: Timestamp) -> Option<pause::Stops> {
    let of_stops = found.get(..pause::stops_keys().len()).unwrap_or_default();
    if !is_answer {
        return None;
    }
    let stops = pause::stops_in(of_stops, now);
    let unread = stops.unread.iter().map(|(_, problem)| problem);
    for problem in unread.chain(&stops.owner_unread) {
        tracing::warn!(code = %problem.code, %problem, "console");
    }
    Some(stops)
}

/// Signing in first, and then back to what was asked for. A form that met the end of its session is not sent again, and is
/// answered with a page: browsers do not follow a form to the provider's host, which the policy forbids.
fn to_login(parts: &Parts) -> Response {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        let text = "Your session has ended. Nothing was done: sign in again, and repeat it.";
        return plain_page(StatusCode::UNAUTHORIZED, "Signed out", text);
    }
    // Behind Lambda an address is whole, with its host: only what comes after that is ours to go back to.
    let asked = parts
        .extensions
        .get::<OriginalUri>()
        .and_then(|OriginalUri(uri)| uri.path_and_query().map(ToString::to_string));
    let back = match asked {
        Some(path) => login::local_path(&path),
        None => "/".to_owned(),
    };
    Redirect::to(&format!("/login?to={}", login::encoded(&back))).into_response()
}
