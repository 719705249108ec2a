//! Signing in: at the organisation's own identity provider, or, on one machine, by choosing a person.

use crate::layout::{bare, with_status};
use crate::session::{Person, Session};
use crate::{Console, Fields, plain_page};
use async_trait::async_trait;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use domain::problem::Problem;
use domain::time::Timestamp;
use maud::html;
use secrecy::SecretString;
use std::sync::Arc;

/// How long a login may take, in milliseconds.
const LOGIN_MILLIS: i64 = 600_000;
/// Longest address that is gone back to after a login, in bytes: it waits in a cookie, of which browsers keep 4,096.
const BACK_BYTES_MAX: usize = 1_024;
/// The provider said who it is, and we do not take it: nothing to repeat, unlike an answer that did not come.
const NOT_TAKEN: [&str; 3] = ["OIDC_PERSON_UNKNOWN", "OIDC_TOKEN_REFUSED", "OIDC_CODE_REFUSED"];
/// Kinds of sealed cookies.
const SESSION: &str = "session";
const FLOW: &str = "flow";

/// How people prove who they are.
pub enum Login {
    /// One of these persons is chosen. Only ever on a loopback address.
    Local(Vec<Person>),
    /// The organisation's identity provider says who it is.
    Provider(Arc<dyn IdentityProvider>),
}

impl Login {
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Where else forms may lead; a login begins with a link, so nowhere.
    pub(crate) fn form_target(&self) -> &'static str {
        ""
    }
}

/// A login that has begun: what must come back with its end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Started {
    /// Where the browser goes; not needed afterwards, so no cookie holds it.
    #[serde(skip)]
    pub url: String,
    /// Comes back in the address.
    pub state: String,
    /// Comes back in the identity token.
    pub nonce: String,
    /// Proves to the provider that it was us who began (PKCE).
    pub verifier: String,
}

/// What the provider gave the browser to bring back.
pub struct Returned {
    /// What the identity token is exchanged for.
    pub code: SecretString,
    /// The issuer, when it names itself (RFC 9207).
    pub issuer: Option<String>,
}

/// Who it is, as the provider says and we have checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The person; without roles when none of the provider's words is known to us.
    pub person: Person,
}

/// The organisation's identity provider.
#[async_trait]
pub trait IdentityProvider: Send + Sync {
    /// Begins a login that comes back to `redirect`.
    async fn begin(&self, redirect: &str) -> Result<Started, Problem>;
    /// Ends it: exchanges the code and checks the identity token.
    async fn finish(
        &self,
        started: &Started,
        returned: Returned,
        redirect: &str,
    ) -> Result<Identity, Problem>;
}

/// What the browser keeps while the provider is asked.
#[derive(serde::Serialize, serde::Deserialize)]
struct Flow {
    started: Started,
    to: String,
    until: Timestamp,
}

/// A path of this page to go back to: it begins with one `/`, names no other host, and is written as an address is. Anything
/// else is the first page.
pub(crate) fn local_path(path: &str) -> String {
    let is_plain = path.starts_with('/')
        && !path.starts_with("//")
        && !path.starts_with("/login")
        && path.len() <= BACK_BYTES_MAX
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_plain { path.to_owned() } else { "/".to_owned() }
}

pub(crate) fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// The names of the cookies: on a machine of one's own there is no TLS, which the prefix demands.
fn cookie_name(console: &Console, kind: &str) -> String {
    let short = if kind == SESSION { "s" } else { "f" };
    if console.login.is_local() {
        format!("qad-coupa-{short}")
    } else {
        format!("__Host-{short}")
    }
}

fn cookie(console: &Console, kind: &str, value: &str, seconds: i64) -> Option<HeaderValue> {
    let secure = if console.login.is_local() { "" } else { "; Secure" };
    let name = cookie_name(console, kind);
    HeaderValue::from_str(&format!(
        "{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}"
    ))
    .ok()
}

fn read_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

/// The live session of a request, if there is one.
pub(crate) fn session(console: &Console, headers: &HeaderMap, now: Timestamp) -> Option<Session> {
    let text = read_cookie(headers, &cookie_name(console, SESSION))?;
    let session: Session = console.seal.open(SESSION, text)?;
    session.is_live(now).then_some(session)
}

/// How much of its idle time a session uses up before the cookie is written anew, in milliseconds.
const RENEWED_AFTER_MILLIS: i64 = 300_000;

/// The cookie that keeps a session alive that is in use; `None` when it is young, over, or just being changed.
pub(crate) fn longer(console: &Console, headers: &HeaderMap, path: &str) -> Option<HeaderValue> {
    if path.starts_with("/login") || path == "/out" {
        return None;
    }
    let now = console.clock.now();
    let session = session(console, headers, now)?;
    let used = crate::session::IDLE_MILLIS.saturating_sub(session.idle_until.millis_since(now));
    (used >= RENEWED_AFTER_MILLIS).then(|| renewed(console, &session, now))?
}

/// The header that keeps a session alive for another while.
fn renewed(console: &Console, session: &Session, now: Timestamp) -> Option<HeaderValue> {
    let longer = Session {
        idle_until: now.plus_millis(crate::session::IDLE_MILLIS),
        ..session.clone()
    };
    let sealed = console.seal.close(SESSION, &longer, &*console.chance)?;
    let seconds = crate::session::SESSION_MILLIS.checked_div(1_000).unwrap_or(0);
    cookie(console, SESSION, &sealed, seconds)
}

/// `GET /login`.
pub(crate) async fn begin(
    State(console): State<Arc<Console>>,
    Query(query): Query<Fields>,
    headers: HeaderMap,
) -> Response {
    let to = local_path(query.get("to").map_or("/", String::as_str));
    let provider = match &console.login {
        Login::Local(persons) => return choice(persons, &to),
        Login::Provider(provider) => provider,
    };
    let Some(redirect) = redirect_uri(&headers) else {
        return plain_page(StatusCode::BAD_REQUEST, "Refused", "The request names no host.");
    };
    match provider.begin(&redirect).await {
        Ok(started) => {
            let url = started.url.clone();
            let flow = Flow {
                started,
                to,
                until: console.clock.now().plus_millis(LOGIN_MILLIS),
            };
            let sealed = console
                .seal
                .close(FLOW, &flow, &*console.chance)
                .unwrap_or_default();
            let mut response = Redirect::to(&url).into_response();
            let seconds = LOGIN_MILLIS.checked_div(1_000).unwrap_or(0);
            if let Some(cookie) = cookie(&console, FLOW, &sealed, seconds) {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
        Err(problem) => not_signed_in(&problem),
    }
}

fn redirect_uri(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let is_host = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']'));
    is_host.then(|| format!("https://{host}/login/back"))
}

fn choice(persons: &[Person], to: &str) -> Response {
    let content = html! {
        h1 { "Who looks?" }
        p { "This page runs on this machine alone: choose a person instead of signing in. Two of them can try the second person's release." }
        @for (number, person) in persons.iter().enumerate() {
            form.people method="post" action="/login" {
                input type="hidden" name="to" value=(to);
                input type="hidden" name="person" value=(number);
                button {
                    (person.name) ", "
                    (person.roles.iter().map(|role| role.word()).collect::<Vec<_>>().join(", "))
                }
            }
        }
    };
    with_status(StatusCode::OK, bare("Who looks?", content))
}

/// `POST /login`: a person was chosen, on this machine.
pub(crate) async fn choose(State(console): State<Arc<Console>>, Form(form): Form<Fields>) -> Response {
    let Login::Local(persons) = &console.login else {
        return plain_page(
            StatusCode::NOT_FOUND,
            "Not found",
            "Sign in at your organisation.",
        );
    };
    let chosen = form.get("person").and_then(|number| number.parse::<usize>().ok());
    match chosen.and_then(|number| persons.get(number)) {
        Some(person) => enter(
            &console,
            person.clone(),
            &local_path(form.get("to").map_or("/", String::as_str)),
        ),
        None => plain_page(StatusCode::BAD_REQUEST, "Refused", "There is no such person."),
    }
}

fn enter(console: &Console, person: Person, to: &str) -> Response {
    if person.roles.is_empty() {
        tracing::warn!(
            code = "CONSOLE_ROLE_UNKNOWN",
            "a person without a role was not let in"
        );
        let text = format!(
            "{} is known, and has no role here. Ask whoever manages access to Coupa and QAD for one of: clerk, approver, \
             controller, auditor.",
            person.name
        );
        return plain_page(StatusCode::FORBIDDEN, "No access", &text);
    }
    let now = console.clock.now();
    let session = Session::begin(person, now, &*console.chance);
    let mut response = Redirect::to(to).into_response();
    match renewed(console, &session, now) {
        Some(cookie) => {
            response.headers_mut().append(header::SET_COOKIE, cookie);
            response
        }
        None => plain_page(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Not signed in",
            "The session could not be sealed.",
        ),
    }
}

/// `GET /login/back`: the provider sends the browser back. Whatever comes of it, the login that was begun is over.
pub(crate) async fn back(
    State(console): State<Arc<Console>>,
    Query(query): Query<Fields>,
    headers: HeaderMap,
) -> Response {
    let mut response = returned(&console, &query, &headers).await;
    if let Some(cookie) = cookie(&console, FLOW, "", 0) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

async fn returned(console: &Arc<Console>, query: &Fields, headers: &HeaderMap) -> Response {
    let Login::Provider(provider) = &console.login else {
        return plain_page(StatusCode::NOT_FOUND, "Not found", "Choose a person instead.");
    };
    let now = console.clock.now();
    let flow: Option<Flow> =
        read_cookie(headers, &cookie_name(console, FLOW)).and_then(|text| console.seal.open(FLOW, text));
    let flow = flow.filter(|flow| now < flow.until && query.get("state") == Some(&flow.started.state));
    let (Some(flow), Some(redirect)) = (flow, redirect_uri(headers)) else {
        let text = "This login was not begun here, or took too long. Open the page again.";
        return plain_page(StatusCode::BAD_REQUEST, "Not signed in", text);
    };
    let Some(code) = query.get("code") else {
        let said = domain::problem::clean(query.get("error").map_or("", String::as_str));
        tracing::warn!(code = "OIDC_LOGIN_REFUSED", said, "the provider signed nobody in");
        let text =
            "Your organisation did not sign you in. Open the page again, or ask whoever manages access.";
        return plain_page(StatusCode::FORBIDDEN, "Not signed in", text);
    };
    let returned = Returned {
        code: SecretString::from(code.clone()),
        issuer: query.get("iss").cloned(),
    };
    match provider.finish(&flow.started, returned, &redirect).await {
        Ok(identity) => enter(console, identity.person, &local_path(&flow.to)),
        Err(problem) => not_signed_in(&problem),
    }
}

fn not_signed_in(problem: &Problem) -> Response {
    tracing::warn!(code = %problem.code, %problem, "nobody was signed in");
    let text = format!("{} ({}).", problem.fix.trim_end_matches('.'), problem.code);
    let status = if NOT_TAKEN.contains(&problem.code.as_str()) {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::BAD_GATEWAY
    };
    plain_page(status, "Not signed in", &text)
}

/// `POST /out`.
pub(crate) async fn out(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Form(form): Form<Fields>,
) -> Response {
    let session = session(&console, &headers, console.clock.now());
    let token = form.get("t").map_or("", String::as_str);
    if session.is_some_and(|session| !session.is_form_of("/out", token)) {
        return plain_page(
            StatusCode::FORBIDDEN,
            "Refused",
            "The form did not come from this page.",
        );
    }
    let content = html! { h1 { "Signed out" } p { a href="/" { "Sign in again" } } };
    let mut response = with_status(StatusCode::OK, bare("Signed out", content));
    if let Some(cookie) = cookie(&console, SESSION, "", 0) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_login_one_goes_back_to_a_path_of_this_page_alone() {
        for kept in ["/", "/invoices/7?x=1", "/c/acme/month/2026-11"] {
            assert_eq!(local_path(kept), kept);
        }
        for other in [
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "",
            "x",
            "/login?to=/",
            "/\nx",
            "/\tx",
            "/x y",
            "/\u{e9}",
            "/\u{2215}/evil.example",
            "\u{2f}\u{5c}evil.example",
            "javascript:alert(1)",
            &format!("/{}", "x".repeat(BACK_BYTES_MAX)),
        ] {
            assert_eq!(local_path(other), "/", "{other:?}");
        }
    }
}
