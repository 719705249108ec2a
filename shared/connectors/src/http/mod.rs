//! HTTP towards one system: credentials, pace, deadline, retries of reads, and what each failure proves.
//!
//! | module | what it holds |
//! |---|---|
//! | [`address`] | the tenant's base URL, percent-encoding |
//! | [`outbound`] | where requests may go |
//! | [`transport`] | one exchange |
//! | `once` | a write's own connection |
//! | [`auth`] | tokens |
//! | `scrub` | keeps our credentials out of what the other side says |
//! | [`retry`] | when a read is tried again |
//! | [`pace`] | how fast, and the pause after a 429 |

pub mod address;
pub mod auth;
mod once;
pub mod outbound;
pub mod pace;
pub mod retry;
pub mod route;
mod scrub;
pub mod transport;

use crate::json::{self, Json, Node};
use auth::{AuthError, Authenticator, millis};
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{Chance, Clock, ReadError, WriteError};
use outbound::{Destination, Forbidden};
use pace::Pace;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;
use transport::{Method, Request, Response, Transport, TransportError};

/// What a `User-Agent` says.
pub(crate) const USER_AGENT: &str = concat!("qad-coupa/", env!("CARGO_PKG_VERSION"));
/// Longest single attempt of a read, in seconds; a call that has less time left gives it less.
pub const READ_ATTEMPT_SECONDS_MAX: u64 = 30;
/// Pause of a host that answered 429 without saying for how long, in milliseconds.
pub const PAUSE_MILLIS_DEFAULT: i64 = 1_000;
/// Longest part of a page that is searched for the marks of a bot challenge, in bytes.
const PAGE_BYTES_SEARCHED: usize = 64 * 1024;
/// Most error messages that are kept of one answer.
const MESSAGES_MAX: usize = 20;

/// Which of the two systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Coupa,
    Qad,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coupa => "coupa",
            Self::Qad => "qad",
        }
    }

    /// A problem's code, for example `QAD_PERMISSION_DENIED`.
    pub(crate) fn code(self, rest: &str) -> String {
        let prefix = match self {
            Self::Coupa => "COUPA",
            Self::Qad => "QAD",
        };
        format!("{prefix}_{rest}")
    }
}

/// One call: what is asked, without credentials.
pub(crate) struct Call {
    /// Stable word for logs, for example `create_invoice`.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) idempotency_key: Option<String>,
}

impl Call {
    pub(crate) fn get(operation: &'static str, url: String) -> Self {
        Self {
            operation,
            method: Method::Get,
            url,
            body: None,
            idempotency_key: None,
        }
    }
}

/// One system as one connection sees it.
pub(crate) struct Peer {
    pub(crate) system: System,
    /// Where its requests may go.
    pub(crate) destination: Destination,
    pub(crate) host: String,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) auth: Authenticator,
    pub(crate) pace: Arc<Pace>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    /// Headers of every call.
    pub(crate) headers: Vec<(String, String)>,
    /// Longest whole call: credential, pace, attempts and waits together.
    pub(crate) call: Duration,
}

/// A call that brought no answer.
enum Failure {
    /// No credential; nothing of the call was applied.
    Credential(AuthError),
    /// The call's time would not have been enough; nothing was sent.
    NotStarted { retry_after: Option<Duration> },
    /// The exchange failed.
    Transport(TransportError),
}

impl Peer {
    /// Reads, trying again while it can help and time is left. `None` means 404.
    pub(crate) async fn read(&self, call: &Call) -> Result<Option<Json>, ReadError> {
        self.read_within(call, self.call).await
    }

    /// The same for a read that is worth no more than `time`, because another one can take its place.
    pub(crate) async fn read_within(&self, call: &Call, time: Duration) -> Result<Option<Json>, ReadError> {
        let deadline = self.clock.now().plus_millis(millis(time.min(self.call)));
        let mut attempt = 0u32;
        loop {
            attempt = attempt.saturating_add(1);
            let (retry_after, problem) = match self.judge_read(self.send(call, deadline, attempt).await) {
                Err(ReadError::Unavailable { retry_after, problem }) => (retry_after, problem),
                settled => return settled,
            };
            let drawn = self.chance.up_to(retry::backoff_millis(attempt));
            match retry::wait(attempt, retry_after, drawn, self.left(deadline)) {
                Some(wait) => self.clock.sleep(wait).await,
                None => return Err(ReadError::Unavailable { retry_after, problem }),
            }
        }
    }

    /// Writes: sends once (and once more after a 401, which proves that nothing was applied). The answer is any 2xx, or
    /// a 4xx that speaks about the content; the caller judges it.
    pub(crate) async fn write(&self, call: &Call) -> Result<Response, WriteError> {
        let deadline = self.clock.now().plus_millis(millis(self.call));
        self.judge_write(self.send(call, deadline, 1).await)
    }

    fn left(&self, deadline: Timestamp) -> Duration {
        let left = deadline.millis_since(self.clock.now());
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// How long the exchange may take; `None` when too little time is left to begin it.
    fn exchange_time(&self, call: &Call, deadline: Timestamp) -> Option<Duration> {
        let left = self.left(deadline);
        if call.method == Method::Get {
            return Some(left.min(Duration::from_secs(READ_ATTEMPT_SECONDS_MAX)))
                .filter(|time| !time.is_zero());
        }
        // A write that is cut off early is an unknown outcome: rather not begun than begun with less than half the time.
        (left >= self.least_write_time()).then_some(left)
    }

    /// A write is only begun when at least this much of its time is left.
    fn least_write_time(&self) -> Duration {
        self.call.checked_div(2).unwrap_or(self.call)
    }

    /// Waits for its turn, gets a credential, sends; on a 401 drops the token, gets one new one and sends once more (and
    /// once again when the new one may only have been too young).
    async fn send(&self, call: &Call, deadline: Timestamp, attempt: u32) -> Result<Response, Failure> {
        let mut waited_for_young = false;
        let mut rejected = 0u32;
        // What a write needs for itself is not waited away.
        let patience_end = match call.method {
            Method::Get => deadline,
            _ => deadline.plus_millis(millis(self.least_write_time()).saturating_neg()),
        };
        loop {
            self.take_turn(patience_end).await?;
            let began = self.clock.now();
            let credential = match self.auth.credential(patience_end).await {
                Ok(credential) => credential,
                Err(error) => return Err(self.credential_failure(error, began).await),
            };
            let time = self
                .exchange_time(call, deadline)
                .ok_or(Failure::NotStarted { retry_after: None })?;
            let request = self.request(call, &credential, time);
            let began = self.clock.now();
            let answer = self.exchange(call, request, attempt).await;
            match &answer {
                Ok(_) => self.pace.answered().await,
                Err(_) => self.pace.silent(began, self.clock.now()).await,
            }
            let mut response = answer.map_err(Failure::Transport)?;
            scrub::scrub(&mut response, &self.auth.secrets(Some(&credential)));
            if response.status == 429 {
                self.pause(retry::retry_after(&response, self.clock.now())).await;
            }
            if response.status != 401 {
                self.auth.note_acceptance();
                return Ok(response);
            }
            let Some(generation) = credential.generation else {
                return Err(self.refused_for_good(&response).await);
            };
            // A token that another instance fetched earlier may have been revoked together with ours: taking it from the
            // cache was no renewal yet.
            if rejected == 0 || rejected == 1 && !credential.fetched_here {
                self.auth.reject(generation).await;
                rejected = rejected.saturating_add(1);
                continue;
            }
            // The new token is refused too: it may only be too young, which one delayed try tells.
            let now = self.clock.now();
            if let Some(until) = credential
                .young_until
                .filter(|until| *until > now && !waited_for_young)
            {
                waited_for_young = true;
                let wait = u64::try_from(until.millis_since(now)).unwrap_or(0);
                self.clock.sleep(Duration::from_millis(wait)).await;
                continue;
            }
            self.auth.reject(generation).await;
            return Err(self.refused_for_good(&response).await);
        }
    }

    /// The credential itself is refused, as far as a 401 can tell.
    async fn refused_for_good(&self, response: &Response) -> Failure {
        let problem = self.unauthorized(response);
        self.auth.note_refusal(&problem).await;
        Failure::Credential(AuthError::Refused(problem))
    }

    async fn take_turn(&self, patience_end: Timestamp) -> Result<(), Failure> {
        // A pause may begin while we wait for our turn, so the pace is asked again; few times, because time is bounded.
        const TURNS_MAX: u32 = 5;
        for _ in 0..TURNS_MAX {
            let wait = self
                .pace
                .admit(self.clock.now(), self.left(patience_end))
                .await
                .map_err(|wait| Failure::NotStarted {
                    retry_after: Some(wait),
                })?;
            if !wait.is_zero() {
                self.clock.sleep(wait).await;
            }
            if self.pace.paused_for(self.clock.now()).is_none() {
                return Ok(());
            }
        }
        Err(Failure::NotStarted {
            retry_after: self.pace.paused_for(self.clock.now()),
        })
    }

    async fn pause(&self, retry_after: Option<Duration>) {
        let pause = retry_after.map_or(PAUSE_MILLIS_DEFAULT, millis);
        let now = self.clock.now();
        self.pace.throttled(now, now.plus_millis(pause)).await;
    }

    async fn credential_failure(&self, error: AuthError, began: Timestamp) -> Failure {
        match &error {
            AuthError::Refused(_) => self.pace.answered().await,
            // Whoever waits for a token waits for its host.
            AuthError::Unavailable { .. } => self.pace.silent(began, self.clock.now()).await,
        }
        if let AuthError::Unavailable {
            throttled: true,
            retry_after,
            ..
        } = &error
        {
            self.pause(*retry_after).await;
        }
        Failure::Credential(error)
    }

    fn request(&self, call: &Call, credential: &auth::Credential, timeout: Duration) -> Request {
        let mut headers = vec![
            (
                credential.header.clone(),
                credential.value.expose_secret().to_owned(),
            ),
            ("accept".to_owned(), "application/json".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        headers.extend(self.headers.iter().cloned());
        if let Some(key) = &call.idempotency_key {
            headers.push(("idempotency-key".to_owned(), key.clone()));
        }
        Request {
            destination: self.destination.clone(),
            method: call.method,
            url: call.url.clone(),
            headers,
            body: call.body.clone(),
            timeout,
            write: call.method != Method::Get,
        }
    }

    async fn exchange(
        &self,
        call: &Call,
        request: Request,
        attempt: u32,
    ) -> Result<Response, TransportError> {
        let started = self.clock.now();
        let outcome = self.transport.send(request).await;
        let (status, word) = match &outcome {
            Ok(response) => (response.status, outcome_word(response.status)),
            Err(TransportError::NotSent(_)) => (0, "not_sent"),
            Err(TransportError::Forbidden(_)) => (0, "forbidden"),
            Err(TransportError::MaybeSent(_)) => (0, "maybe_sent"),
        };
        tracing::info!(
            system = self.system.name(),
            operation = call.operation,
            method = call.method.as_str(),
            host = self.host,
            status,
            duration_ms = self.clock.now().millis_since(started),
            attempt,
            outcome = word,
            "http"
        );
        outcome
    }

    fn judge_read(&self, outcome: Result<Response, Failure>) -> Result<Option<Json>, ReadError> {
        let response = match outcome {
            Ok(response) => response,
            Err(Failure::Credential(AuthError::Refused(problem))) => return Err(ReadError::Refused(problem)),
            Err(Failure::Credential(AuthError::Unavailable {
                retry_after, problem, ..
            })) => {
                return Err(ReadError::Unavailable { retry_after, problem });
            }
            Err(Failure::NotStarted { retry_after }) => {
                return Err(ReadError::Unavailable {
                    retry_after,
                    problem: self.paused(),
                });
            }
            Err(Failure::Transport(TransportError::Forbidden(forbidden))) => {
                return Err(ReadError::Refused(forbidden_problem(self.system, &forbidden)));
            }
            Err(Failure::Transport(error)) => {
                return Err(ReadError::Unavailable {
                    retry_after: None,
                    problem: self.unreachable(&error),
                });
            }
        };
        let page = page_problem(self.system, &response);
        let retry_after = retry::retry_after(&response, self.clock.now());
        match (response.status, page) {
            (200..=299, None) => match json::parse(&response.body) {
                Ok(json) => Ok(Some(json)),
                Err(detail) => Err(ReadError::Unavailable {
                    retry_after: None,
                    problem: self.no_json(&detail),
                }),
            },
            (404, None) => Ok(None),
            // Coupa's server has a page for it; a bot filter's challenge is none.
            (404, Some(page))
                if self.system == System::Coupa && page.code != self.system.code(BOT_CHALLENGE) =>
            {
                Ok(None)
            }
            (200..=299 | 408 | 425 | 429 | 499 | 500..=599, page) => {
                let problem = page.unwrap_or_else(|| self.unavailable(&response));
                Err(ReadError::Unavailable { retry_after, problem })
            }
            (_, page) => Err(ReadError::Refused(
                page.unwrap_or_else(|| self.refusal(&response)),
            )),
        }
    }

    fn judge_write(&self, outcome: Result<Response, Failure>) -> Result<Response, WriteError> {
        let response = match outcome {
            Ok(response) => response,
            Err(Failure::Credential(AuthError::Refused(problem))) => {
                return Err(WriteError::Refused(problem));
            }
            Err(Failure::Credential(AuthError::Unavailable {
                retry_after, problem, ..
            })) => {
                return Err(WriteError::NotApplied { retry_after, problem });
            }
            Err(Failure::NotStarted { retry_after }) => {
                return Err(WriteError::NotApplied {
                    retry_after,
                    problem: self.paused(),
                });
            }
            Err(Failure::Transport(TransportError::Forbidden(forbidden))) => {
                return Err(WriteError::Refused(forbidden_problem(self.system, &forbidden)));
            }
            Err(Failure::Transport(error @ TransportError::NotSent(_))) => {
                return Err(WriteError::NotApplied {
                    retry_after: None,
                    problem: self.unreachable(&error),
                });
            }
            Err(Failure::Transport(error @ TransportError::MaybeSent(_))) => {
                return Err(WriteError::Unknown(self.unreachable(&error)));
            }
        };
        let page = page_problem(self.system, &response);
        match (response.status, page) {
            (200..=299, Some(page)) => Err(WriteError::Unknown(page)),
            (200..=299, None) => Ok(response),
            (429, page) => Err(WriteError::NotApplied {
                retry_after: retry::retry_after(&response, self.clock.now()),
                problem: page.unwrap_or_else(|| self.unavailable(&response)),
            }),
            (403, page) => Err(WriteError::Refused(
                page.unwrap_or_else(|| self.refusal(&response)),
            )),
            // A proxy that gave up (408, 425, 499) does not know what happened behind it.
            (408 | 425 | 499, page) => Err(WriteError::Unknown(
                page.unwrap_or_else(|| self.unavailable(&response)),
            )),
            (400..=499, Some(page)) => Err(WriteError::Refused(page)),
            (400..=499, None) => Ok(response),
            (_, page) => Err(WriteError::Unknown(page.unwrap_or_else(
                || match response.status {
                    300..=399 => self.refusal(&response),
                    _ => self.unavailable(&response),
                },
            ))),
        }
    }

    fn unreachable(&self, error: &TransportError) -> Problem {
        Problem::new(
            self.system.code("UNREACHABLE"),
            "Nothing to do if it passes: the call is repeated or looked up. Else check host, network and certificate.",
        )
        .field(&self.host)
        .expected("a complete answer")
        .actual(error.to_string())
    }

    fn paused(&self) -> Problem {
        Problem::new(
            self.system.code("PAUSED"),
            "Nothing to do: the call was not begun because its time would not have sufficed; it is repeated.",
        )
        .field(&self.host)
    }

    fn no_json(&self, detail: &str) -> Problem {
        Problem::new(
            self.system.code("ANSWER_UNREADABLE"),
            "Nothing to do if it passes. Else check the base URL: something else than the API answers.",
        )
        .expected("JSON")
        .actual(detail)
    }

    /// 429 and 5xx: it may pass.
    fn unavailable(&self, response: &Response) -> Problem {
        let code = if response.status == 429 {
            "THROTTLED"
        } else {
            "UNAVAILABLE"
        };
        Problem::new(
            self.system.code(code),
            "Nothing to do if it passes: the call is repeated or looked up. Else ask the system's operator.",
        )
        .field("HTTP status")
        .expected("2xx")
        .actual(self.said(response))
    }

    fn unauthorized(&self, response: &Response) -> Problem {
        Problem::new(
            self.system.code("CREDENTIAL_REFUSED"),
            "Correct the credentials in the connection's secret; a new token was refused too.",
        )
        .field("HTTP status")
        .expected("2xx")
        .actual(self.said(response))
    }

    /// 3xx and 4xx: a person must act.
    pub(crate) fn refusal(&self, response: &Response) -> Problem {
        let (code, fix) = match response.status {
            300..=399 => ("REDIRECT", "Correct the base URL; redirects are not followed."),
            403 => (
                "PERMISSION_DENIED",
                "Grant the integration's user or client the right to this resource.",
            ),
            404 => (
                "NOT_FOUND",
                "Correct the path, view or id; the other side does not know it.",
            ),
            _ => (
                "REQUEST_REFUSED",
                "Read what the other side says and correct the document or the configuration.",
            ),
        };
        Problem::new(self.system.code(code), fix)
            .field("HTTP status")
            .expected("2xx")
            .actual(self.said(response))
    }

    fn said(&self, response: &Response) -> String {
        let messages = error_messages(&response.body).join("; ");
        format!("{} {messages}", response.status).trim_end().to_owned()
    }
}

/// The connection does not allow the address; a person must look.
pub(crate) fn forbidden_problem(system: System, forbidden: &Forbidden) -> Problem {
    Problem::new(
        system.code("ADDRESS_FORBIDDEN"),
        "Check the host in the base URL and who answers for its name; a private range must be granted in the connection (networks).",
    )
    .field("base_url")
    .expected("the connection's host, at an address of the internet or of a granted range")
    .actual(forbidden.to_string())
}

fn outcome_word(status: u16) -> &'static str {
    match status {
        200..=299 => "ok",
        401 => "unauthorized",
        429 => "throttled",
        300..=499 => "refused",
        _ => "unavailable",
    }
}

/// A bot filter's page.
const BOT_CHALLENGE: &str = "BOT_CHALLENGE";

/// A page for people instead of an answer: a login page or the challenge of a bot filter. `None` for anything else.
pub(crate) fn page_problem(system: System, response: &Response) -> Option<Problem> {
    /// What gives a challenge away, in lower case (seen on the pages of the usual filters).
    const CHALLENGE_MARKS: [&str; 6] = [
        "challenge-platform",
        "just a moment",
        "_incapsula_",
        "captcha",
        "datadome",
        "request unsuccessful. incapsula",
    ];
    let head = response.body.get(..PAGE_BYTES_SEARCHED).unwrap_or(&response.body);
    let text = String::from_utf8_lossy(head).to_lowercase();
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let is_page = start.starts_with("<!doctype html")
        || start.starts_with("<html")
        || response
            .header("content-type")
            .is_some_and(|kind| kind.to_ascii_lowercase().contains("text/html"));
    if !is_page {
        return None;
    }
    let is_challenge = response.header("cf-mitigated").is_some()
        || response.header("x-amzn-waf-action").is_some()
        || CHALLENGE_MARKS.iter().any(|mark| text.contains(mark));
    let (code, fix) = if is_challenge {
        (
            BOT_CHALLENGE,
            "Have the tenant's bot filter let the integration's addresses or user agent pass.",
        )
    } else {
        (
            "HTML_PAGE",
            "Check base URL, login scheme and session: a page for people came instead of an answer.",
        )
    };
    let problem = Problem::new(system.code(code), fix)
        .field("answer")
        .expected("JSON")
        .actual(format!("{} with an HTML page", response.status));
    Some(problem)
}

/// What an answer says went wrong, whatever its shape: Coupa's and QAD's JSON envelopes, XML, or nothing.
pub(crate) fn error_messages(body: &[u8]) -> Vec<String> {
    match json::parse(body) {
        Ok(json) => messages_of(&Node::root(&json)),
        Err(_) => xml_messages(&String::from_utf8_lossy(body)),
    }
}

/// The same of JSON that is read already.
pub(crate) fn messages_of(root: &Node<'_>) -> Vec<String> {
    let mut found = Vec::new();
    collect(&root.get("errors"), "", &mut found);
    collect(&root.get("submitResult").get("errors"), "", &mut found);
    for key in ["error", "error_description", "message"] {
        collect(&root.get(key), "", &mut found);
    }
    found
}

fn collect(node: &Node<'_>, label: &str, found: &mut Vec<String>) {
    let labelled = |message: &str| {
        let text = if label.is_empty() {
            message.to_owned()
        } else {
            format!("{label}: {message}")
        };
        domain::problem::clean(&text)
    };
    if found.len() >= MESSAGES_MAX || node.is_null() {
        return;
    }
    if let Ok(Some(text)) = node.text() {
        found.push(labelled(&text));
    } else if let Ok(items) = node.items() {
        for item in items {
            collect(&item, label, found);
        }
    } else if let Ok(Some(message)) = node.get("message").text() {
        // QAD: {"fieldName","message","code","severity"}
        let field = node.get("fieldName").text().ok().flatten().unwrap_or_default();
        found.push(if field.is_empty() {
            labelled(&message)
        } else {
            domain::problem::clean(&format!("{field}: {message}"))
        });
    } else {
        // Coupa: {"<object or field>": ["message"]}
        for (key, member) in node.members() {
            collect(&member, key, found);
        }
    }
}

/// The texts of all `<error>` elements.
fn xml_messages(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("<error") {
        rest = after;
        // `<errors>` and `<error-list>` are containers.
        if !after.starts_with(['>', ' ']) {
            continue;
        }
        let Some((_, content)) = after.split_once('>') else {
            break;
        };
        let Some((message, tail)) = content.split_once("</error>") else {
            break;
        };
        rest = tail;
        let message = message
            .replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&#39;", "'")
            .replace("&amp;", "&");
        if messages.len() < MESSAGES_MAX && !message.trim().is_empty() {
            messages.push(domain::problem::clean(message.trim()));
        }
    }
    messages
}
