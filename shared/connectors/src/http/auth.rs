//! Who we are on the other side: bearer tokens with one request per generation however many instances start at once,
//! and QAD's other schemes.
//!
//! A token is kept in the process and in the shared [`TokenStore`]. It is renewed ahead of its end by whoever gets the
//! lease; everybody else keeps the old one, and only past its end do they wait, bounded, for the next generation.

use super::address::{BaseUrl, encode, encode_pairs};
use super::outbound::Destination;
use super::retry;
use super::scrub::scrub;
use super::transport::{Method, Request, Response, Transport, TransportError};
use super::{System, forbidden_problem, page_problem};
use crate::json::{self, Node};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{CachedToken, Chance, Clock, StoreError, TokenSlot, TokenState, TokenStore};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// Lifetime of a token whose answer names none, in seconds (what a seen QAD client assumes).
pub const TTL_SECONDS_DEFAULT: u64 = 300;
/// Longest lifetime that is believed, in seconds (30 days).
pub const TTL_SECONDS_MAX: u64 = 30 * 86_400;
/// Most that our clock and theirs may differ, in milliseconds; a token is not used that close to its end.
pub const CLOCK_SKEW_MILLIS: i64 = 5_000;
/// Longest token request, in seconds.
pub const TOKEN_EXCHANGE_SECONDS_MAX: u64 = 30;
/// A token younger than this may be refused by Coupa although it is good (Coupa's own advice), in milliseconds.
pub const YOUNG_TOKEN_MILLIS: i64 = 5_000;
/// After a refresh ahead of time failed, the old token is kept this long before the next try, in milliseconds.
const REFRESH_PAUSE_MILLIS: i64 = 30_000;
/// After the other side refused the credential itself, it is not asked again for this long, in milliseconds: a wrong
/// password that is tried for every record locks the account. A changed document starts with a clean slate.
pub const REFUSED_PAUSE_MILLIS: i64 = 60_000;
/// So many calls in a row whose credential was refused, with a new token if there are tokens, count as a refusal of the
/// credential itself, although a token endpoint may have said yes. Fewer may be a moment's trouble of the other side.
pub const REFUSALS_MAX: u32 = 2;
/// First and longest wait for somebody else's token, in milliseconds.
const LEASE_WAIT_MILLIS: (u64, u64) = (50, 800);

/// How a system wants to be logged in to. No credential in here can be printed.
#[derive(Debug, Clone)]
pub enum Scheme {
    /// OAuth 2 client credentials.
    ClientCredentials {
        /// Path of the token endpoint below the base URL.
        token_path: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: SecretString,
        /// Scopes; none asks for all that are granted.
        scopes: Vec<String>,
    },
    /// OAuth 2 resource owner password (QAD, seen in three code bases).
    Password {
        /// Path of the token endpoint below the base URL.
        token_path: String,
        /// The tenant's client id.
        client_id: String,
        /// Client secret, when the tenant demands one.
        client_secret: Option<SecretString>,
        /// User.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// HTTP Basic on each call (QAD, seen).
    Basic {
        /// User.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// A login that answers a session token (QAD, assumed).
    Login(Login),
}

/// A login request as data.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Path below the base URL.
    pub path: String,
    /// Body with `{username}` and `{password}` where they belong; escaped for the content type.
    #[serde(default = "Login::default_body")]
    pub body_template: String,
    /// `application/json` or `application/x-www-form-urlencoded`.
    #[serde(default = "Login::default_content_type")]
    pub content_type: String,
    /// User.
    pub username: String,
    /// Password.
    pub password: SecretString,
    /// JSON pointer (RFC 6901) to the token in the answer.
    #[serde(default = "Login::default_token_pointer")]
    pub token_pointer: String,
    /// Header that carries the token.
    #[serde(default = "Login::default_header")]
    pub header: String,
    /// What stands before the token in it.
    #[serde(default = "Login::default_prefix")]
    pub prefix: String,
    /// Lifetime of a session, in seconds.
    #[serde(default = "Login::default_ttl_seconds")]
    pub ttl_seconds: u64,
}

impl Login {
    fn default_body() -> String {
        r#"{"username":"{username}","password":"{password}"}"#.to_owned()
    }
    fn default_content_type() -> String {
        "application/json".to_owned()
    }
    fn default_token_pointer() -> String {
        "/access_token".to_owned()
    }
    fn default_header() -> String {
        "authorization".to_owned()
    }
    fn default_prefix() -> String {
        "Bearer ".to_owned()
    }
    fn default_ttl_seconds() -> u64 {
        TTL_SECONDS_DEFAULT
    }

    fn body(&self) -> String {
        let escape = |text: &str| {
            if self.content_type.contains("json") {
                let quoted = serde_json::Value::from(text).to_string();
                quoted
                    .trim_start_matches('"')
                    .strip_suffix('"')
                    .unwrap_or_default()
                    .to_owned()
            } else {
                encode(text)
            }
        };
        // One pass, so that a user name that looks like the other placeholder stays what it is.
        let mut body = String::new();
        let mut rest = self.body_template.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            body.push_str(before);
            if let Some(tail) = after.strip_prefix("username}") {
                body.push_str(&escape(&self.username));
                rest = tail;
            } else if let Some(tail) = after.strip_prefix("password}") {
                body.push_str(&escape(self.password.expose_secret()));
                rest = tail;
            } else {
                body.push('{');
                rest = after;
            }
        }
        body.push_str(rest);
        body
    }
}

impl Scheme {
    /// Everything in it that nobody may see.
    pub(crate) fn secrets(&self) -> Vec<&SecretString> {
        match self {
            Self::ClientCredentials { client_secret, .. } => vec![client_secret],
            Self::Password {
                client_secret,
                password,
                ..
            } => client_secret.iter().chain([password]).collect(),
            Self::Basic { password, .. } => vec![password],
            Self::Login(login) => vec![&login.password],
        }
    }

    /// What identifies the client besides its base URL; a change of any of it starts a new token slot.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::ClientCredentials {
                client_id,
                scopes,
                token_path,
                ..
            } => {
                format!(
                    "client-credentials\n{token_path}\n{client_id}\n{}",
                    scopes.join(" ")
                )
            }
            Self::Password {
                client_id,
                username,
                token_path,
                ..
            } => {
                format!("password\n{token_path}\n{client_id}\n{username}")
            }
            Self::Basic { username, .. } => format!("basic\n{username}"),
            Self::Login(login) => format!("login\n{}\n{}", login.path, login.username),
        }
    }
}

/// No credential could be had. Nothing of the call itself was sent, or it was answered 401.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthError {
    /// Trying again cannot help until a person corrects the credential.
    Refused(Problem),
    /// Try again later.
    Unavailable {
        /// Not before this long, when the other side said so.
        retry_after: Option<Duration>,
        /// The token endpoint answered 429: everyone pauses.
        throttled: bool,
        /// What happened.
        problem: Problem,
    },
}

/// What goes into the header of a call.
pub(crate) struct Credential {
    /// Header name in lower case.
    pub(crate) header: String,
    /// Header value.
    pub(crate) value: SecretString,
    /// Which token it is; `None` when there is nothing to renew (Basic).
    pub(crate) generation: Option<u64>,
    /// Until then a refusal may only mean that the token is too young.
    pub(crate) young_until: Option<Timestamp>,
    /// True when this process itself has fetched it, or there is nothing to fetch: nobody has a newer one.
    pub(crate) fetched_here: bool,
}

/// What the process knows.
#[derive(Default)]
struct Local {
    token: Option<CachedToken>,
    /// When this process itself fetched `token`.
    fetched_at: Option<Timestamp>,
    /// Every generation up to this one was refused.
    dropped: u64,
    /// A lease of ours whose fetch failed: it still counts, so that a repeat need not wait for its end.
    lease: Option<Lease>,
    /// The credential was refused, and when.
    refused: Option<(Timestamp, Problem)>,
}

/// The right to fetch the generation after `generation`.
#[derive(Clone)]
struct Lease {
    generation: u64,
    holder: String,
    until: Timestamp,
}

/// Gets, keeps, renews and drops the credential of one system of one connection.
pub(crate) struct Authenticator {
    pub(crate) system: System,
    pub(crate) scheme: Scheme,
    pub(crate) base: BaseUrl,
    pub(crate) destination: Destination,
    pub(crate) slot: TokenSlot,
    /// Headers that every request carries, token requests too.
    pub(crate) headers: Vec<(String, String)>,
    /// What of their values nobody may see.
    hidden: Vec<SecretString>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) tokens: Arc<dyn TokenStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    /// Calls in a row that ended with a refused credential.
    refusals: AtomicU32,
    /// A token is not handed out when less than this remains of it: the longest call and the skew, in milliseconds.
    pub(crate) margin_millis: i64,
    /// How long a new token may be refused although it is good, in milliseconds; 0 for never.
    pub(crate) young_millis: i64,
    /// Longest token request.
    exchange_time: Duration,
    local: Mutex<Local>,
}

/// The parts of an [`Authenticator`].
pub(crate) struct AuthenticatorParts {
    pub(crate) system: System,
    pub(crate) scheme: Scheme,
    pub(crate) base: BaseUrl,
    pub(crate) destination: Destination,
    pub(crate) slot: TokenSlot,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) hidden: Vec<SecretString>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) tokens: Arc<dyn TokenStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) call: Duration,
    pub(crate) young_millis: i64,
}

impl Authenticator {
    pub(crate) fn new(parts: AuthenticatorParts) -> Self {
        Self {
            system: parts.system,
            scheme: parts.scheme,
            base: parts.base,
            destination: parts.destination,
            slot: parts.slot,
            headers: parts.headers,
            hidden: parts.hidden,
            refusals: AtomicU32::new(0),
            transport: parts.transport,
            tokens: parts.tokens,
            clock: parts.clock,
            chance: parts.chance,
            margin_millis: millis(parts.call).saturating_add(CLOCK_SKEW_MILLIS),
            young_millis: parts.young_millis,
            exchange_time: parts.call.min(Duration::from_secs(TOKEN_EXCHANGE_SECONDS_MAX)),
            local: Mutex::new(Local::default()),
        }
    }

    /// Everything that nobody may see of a request: what is in the scheme, in the headers, and the token without what stands
    /// before it.
    pub(crate) fn secrets<'a>(&'a self, credential: Option<&'a Credential>) -> Vec<&'a str> {
        let prefix = match &self.scheme {
            Scheme::Basic { .. } => "Basic ",
            Scheme::Login(login) => login.prefix.as_str(),
            Scheme::ClientCredentials { .. } | Scheme::Password { .. } => "Bearer ",
        };
        let token = credential.map(|credential| {
            let value = credential.value.expose_secret();
            value.strip_prefix(prefix).unwrap_or(value)
        });
        let scheme = self.scheme.secrets().into_iter();
        scheme
            .chain(&self.hidden)
            .map(ExposeSecret::expose_secret)
            .chain(token)
            .collect()
    }

    /// A call ended with a refused credential. After [`REFUSALS_MAX`] of them in a row the credential rests for
    /// [`REFUSED_PAUSE_MILLIS`], whatever a token endpoint says of it.
    pub(crate) async fn note_refusal(&self, problem: &Problem) {
        let before = self.refusals.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(1) >= REFUSALS_MAX {
            self.local.lock().await.refused = Some((self.clock.now(), problem.clone()));
        }
    }

    /// A credential was taken.
    pub(crate) fn note_acceptance(&self) {
        self.refusals.store(0, Ordering::Relaxed);
    }

    /// A credential that is good for a whole call from now on. Waits at most until `deadline`.
    pub(crate) async fn credential(&self, deadline: Timestamp) -> Result<Credential, AuthError> {
        if let Scheme::Basic { username, password } = &self.scheme {
            self.check_rest(&*self.local.lock().await, self.clock.now())?;
            let pair = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
            return Ok(Credential {
                header: "authorization".to_owned(),
                value: format!("Basic {}", BASE64.encode(pair.as_bytes())).into(),
                generation: None,
                young_until: None,
                fetched_here: true,
            });
        }
        // Held across the request on purpose: one flight per process.
        let mut local = self.local.lock().await;
        let token = self.token(&mut local, deadline).await?;
        let (header, prefix) = match &self.scheme {
            Scheme::Login(login) => (login.header.to_ascii_lowercase(), login.prefix.as_str()),
            _ => ("authorization".to_owned(), "Bearer "),
        };
        let young_until = local
            .fetched_at
            .filter(|_| self.young_millis > 0)
            .map(|fetched| fetched.plus_millis(self.young_millis));
        Ok(Credential {
            header,
            value: format!("{prefix}{}", token.token.expose_secret()).into(),
            generation: Some(token.generation),
            young_until,
            fetched_here: local.fetched_at.is_some(),
        })
    }

    /// The other side refused this generation: nobody uses it again.
    pub(crate) async fn reject(&self, generation: u64) {
        let mut local = self.local.lock().await;
        local.dropped = local.dropped.max(generation);
        if local
            .token
            .as_ref()
            .is_some_and(|token| token.generation <= generation)
        {
            local.token = None;
            local.fetched_at = None;
        }
        if let Err(StoreError(problem)) = self.tokens.drop_token(&self.slot, generation).await {
            // This process has dropped it already; others will find out by their own 401.
            tracing::warn!(system = self.system.name(), generation, code = %problem.code, "token not dropped in the shared cache");
        }
    }

    async fn token(&self, local: &mut Local, deadline: Timestamp) -> Result<CachedToken, AuthError> {
        let now = self.clock.now();
        if let Some(token) = local.token.clone().filter(|token| now < token.expires_at) {
            if now < token.refresh_after {
                return Ok(token);
            }
            return Ok(self.refresh_ahead(local, token, now).await);
        }
        local.token = None;
        local.fetched_at = None;
        self.next_generation(local, deadline).await
    }

    /// The token is good but old: whoever gets the lease renews it, and any trouble leaves the old one in use.
    async fn refresh_ahead(&self, local: &mut Local, old: CachedToken, now: Timestamp) -> CachedToken {
        let renewed = match self.tokens.load(&self.slot).await {
            Ok(state) => match self.usable(&state, local, now) {
                Some(token) if token.generation > old.generation => Ok(Some(token)),
                _ => self.fetch_leased(local, &state, now).await,
            },
            Err(StoreError(problem)) => Err(store_down(problem)),
        };
        match renewed {
            Ok(Some(token)) => {
                if local
                    .token
                    .as_ref()
                    .is_none_or(|kept| kept.generation != token.generation)
                {
                    local.fetched_at = None;
                }
                local.token = Some(token.clone());
                token
            }
            Ok(None) | Err(_) => {
                if let Err(AuthError::Refused(problem) | AuthError::Unavailable { problem, .. }) = renewed {
                    tracing::warn!(system = self.system.name(), code = %problem.code, "token not renewed, the old one is still good");
                }
                let kept = CachedToken {
                    refresh_after: now.plus_millis(REFRESH_PAUSE_MILLIS),
                    ..old
                };
                local.token = Some(kept.clone());
                kept
            }
        }
    }

    /// There is no good token: takes the shared one, fetches the next, or waits for somebody who does.
    async fn next_generation(
        &self,
        local: &mut Local,
        deadline: Timestamp,
    ) -> Result<CachedToken, AuthError> {
        let mut pause = LEASE_WAIT_MILLIS.0;
        loop {
            let now = self.clock.now();
            let state = self
                .tokens
                .load(&self.slot)
                .await
                .map_err(|StoreError(problem)| store_down(problem))?;
            if let Some(token) = self.usable(&state, local, now) {
                local.token = Some(token.clone());
                return Ok(token);
            }
            if let Some(token) = self.fetch_leased(local, &state, now).await? {
                return Ok(token);
            }
            let drawn = pause.saturating_add(self.chance.up_to(pause));
            let wait = Duration::from_millis(drawn);
            if self.clock.now().plus_millis(millis(wait)) >= deadline {
                let problem = Problem::new(
                    self.system.code("TOKEN_AWAITED"),
                    "Nothing to do: another instance is fetching the token; the call is repeated.",
                );
                return Err(AuthError::Unavailable {
                    retry_after: None,
                    throttled: false,
                    problem,
                });
            }
            self.clock.sleep(wait).await;
            pause = pause.saturating_mul(2).min(LEASE_WAIT_MILLIS.1);
        }
    }

    /// The shared token, when it is good and was not refused.
    fn usable(&self, state: &TokenState, local: &Local, now: Timestamp) -> Option<CachedToken> {
        state
            .token
            .clone()
            .filter(|token| now < token.expires_at && token.generation > local.dropped)
    }

    /// Fetches the generation after the shared one if nobody else does; `None` when somebody does.
    async fn fetch_leased(
        &self,
        local: &mut Local,
        shared: &TokenState,
        now: Timestamp,
    ) -> Result<Option<CachedToken>, AuthError> {
        // Before the lease is taken, which others with better credentials may need.
        self.check_rest(local, now)?;
        let generation = shared.generation;
        let Some(lease) = self.lease(local, shared, now).await? else {
            return Ok(None);
        };
        let token = match self.fetch(generation.saturating_add(1)).await {
            Err(AuthError::Refused(problem)) => {
                local.refused = Some((now, problem.clone()));
                local.lease = None;
                if let Err(StoreError(problem)) =
                    self.tokens.release(&self.slot, generation, &lease.holder).await
                {
                    // Others wait for its end then.
                    tracing::warn!(system = self.system.name(), code = %problem.code, "lease not given back");
                }
                return Err(AuthError::Refused(problem));
            }
            other => other?,
        };
        local.refused = None;
        local.lease = None;
        match self.tokens.store(&self.slot, &token, &lease.holder).await {
            Ok(true) => {}
            // Good all the same, only for this process alone.
            Ok(false) => tracing::warn!(
                system = self.system.name(),
                generation = token.generation,
                "lease on the token lost"
            ),
            Err(StoreError(problem)) => {
                tracing::warn!(system = self.system.name(), code = %problem.code, "token not stored in the shared cache");
            }
        }
        local.fetched_at = Some(self.clock.now());
        local.token = Some(token.clone());
        Ok(Some(token))
    }

    /// An error while the credential rests after a refusal.
    fn check_rest(&self, local: &Local, now: Timestamp) -> Result<(), AuthError> {
        let resting = local
            .refused
            .as_ref()
            .filter(|(at, _)| now < at.plus_millis(REFUSED_PAUSE_MILLIS));
        match resting {
            Some((_, problem)) => Err(AuthError::Refused(problem.clone())),
            None => Ok(()),
        }
    }

    /// The right to fetch: ours still, or newly taken; `None` when somebody else has it.
    async fn lease(
        &self,
        local: &mut Local,
        shared: &TokenState,
        now: Timestamp,
    ) -> Result<Option<Lease>, AuthError> {
        let generation = shared.generation;
        let ours = local
            .lease
            .clone()
            .filter(|lease| lease.generation == generation && now < lease.until);
        // Asking for what somebody is seen to have would be a write that fails, and is billed, at every look of everybody.
        let is_taken = shared.leased_until.is_some_and(|until| now < until);
        if ours.is_some() || is_taken {
            return Ok(ours);
        }
        let until = now.plus_millis(millis(self.exchange_time).saturating_add(CLOCK_SKEW_MILLIS));
        let lease = Lease {
            generation,
            holder: self.chance.token(),
            until,
        };
        let granted = self
            .tokens
            .lease(&self.slot, generation, now, until, &lease.holder)
            .await
            .map_err(|StoreError(problem)| store_down(problem))?;
        local.lease = granted.then_some(lease);
        Ok(local.lease.clone())
    }

    /// Asks for a token, once.
    async fn fetch(&self, generation: u64) -> Result<CachedToken, AuthError> {
        let started = self.clock.now();
        let outcome = self.transport.send(self.token_request()).await;
        let ended = self.clock.now();
        let status = outcome.as_ref().map(|response| response.status).unwrap_or(0);
        let answer = match outcome {
            Ok(mut response) => {
                scrub(&mut response, &self.secrets(None));
                self.read_token(&response, ended)
            }
            Err(TransportError::Forbidden(forbidden)) => {
                Err(AuthError::Refused(forbidden_problem(self.system, &forbidden)))
            }
            Err(error) => Err(self.unavailable("UNREACHABLE", None, &error.to_string())),
        };
        tracing::info!(
            system = self.system.name(),
            operation = "token",
            method = "POST",
            host = self.base.host(),
            status,
            duration_ms = ended.millis_since(started),
            attempt = 1,
            generation,
            outcome = match &answer {
                Ok(_) => "ok",
                Err(AuthError::Refused(_)) => "refused",
                Err(AuthError::Unavailable { .. }) => "unavailable",
            },
            "http"
        );
        let (token, ttl_seconds) = answer?;
        // Counted from before the request. A short-lived token is used for half its life, whatever the margin.
        let ttl = i64::try_from(ttl_seconds).unwrap_or(0).saturating_mul(1_000);
        let margin = self.margin_millis.min(half(ttl));
        let early = u64::try_from(ttl).unwrap_or(0).checked_div(12).unwrap_or(0);
        let jitter = i64::try_from(self.chance.up_to(early)).unwrap_or(0);
        let four_fifths = ttl.checked_div(5).unwrap_or(0).saturating_mul(4);
        let expires_at = started.plus_millis(ttl.saturating_sub(margin));
        let refresh_after = started
            .plus_millis(four_fifths.saturating_sub(jitter))
            .min(expires_at);
        Ok(CachedToken {
            generation,
            token,
            expires_at,
            refresh_after,
        })
    }

    fn token_request(&self) -> Request {
        let form = |pairs: &[(&str, String)]| {
            (
                "application/x-www-form-urlencoded".to_owned(),
                encode_pairs(pairs),
            )
        };
        let (path, (content_type, body)) = match &self.scheme {
            Scheme::ClientCredentials {
                token_path,
                client_id,
                client_secret,
                scopes,
            } => {
                let mut pairs = vec![
                    ("grant_type", "client_credentials".to_owned()),
                    ("client_id", client_id.clone()),
                    ("client_secret", client_secret.expose_secret().to_owned()),
                ];
                if !scopes.is_empty() {
                    pairs.push(("scope", scopes.join(" ")));
                }
                (token_path.as_str(), form(&pairs))
            }
            Scheme::Password {
                token_path,
                client_id,
                client_secret,
                username,
                password,
            } => {
                let mut pairs = vec![
                    ("grant_type", "password".to_owned()),
                    ("client_id", client_id.clone()),
                ];
                if let Some(secret) = client_secret {
                    pairs.push(("client_secret", secret.expose_secret().to_owned()));
                }
                pairs.push(("username", username.clone()));
                pairs.push(("password", password.expose_secret().to_owned()));
                (token_path.as_str(), form(&pairs))
            }
            Scheme::Login(login) => (login.path.as_str(), (login.content_type.clone(), login.body())),
            // Never asked for: Basic has no token.
            Scheme::Basic { .. } => ("", form(&[])),
        };
        let mut headers = self.headers.clone();
        headers.push(("accept".to_owned(), "application/json".to_owned()));
        headers.push(("content-type".to_owned(), content_type));
        Request {
            destination: self.destination.clone(),
            method: Method::Post,
            url: self.base.at(path, &[]),
            headers,
            body: Some(body.into_bytes()),
            timeout: self.exchange_time,
            write: true,
        }
    }

    fn read_token(&self, response: &Response, now: Timestamp) -> Result<(SecretString, u64), AuthError> {
        let retry_after = retry::retry_after(response, now);
        match response.status {
            200..=299 => self.token_in(response),
            429 => Err(AuthError::Unavailable {
                retry_after,
                throttled: true,
                problem: self.problem(
                    "TOKEN_THROTTLED",
                    "429",
                    "Nothing to do: the request is repeated later.",
                ),
            }),
            408 | 500..=599 => {
                Err(self.unavailable("TOKEN_UNAVAILABLE", retry_after, &response.status.to_string()))
            }
            status => {
                let error = super::error_messages(&response.body).join("; ");
                let fix = match error.as_str() {
                    text if text.contains("invalid_scope") => {
                        "Grant the configured scopes to the OAuth client, or shorten the list (an empty list asks for all granted ones)."
                    }
                    text if text.contains("invalid_client")
                        || text.contains("invalid_grant")
                        || status == 401 =>
                    {
                        "Correct the client id, secret, user or password in the connection's secret."
                    }
                    text if text.contains("unauthorized_client")
                        || text.contains("unsupported_grant_type") =>
                    {
                        "Allow this grant type for the OAuth client, or configure another scheme."
                    }
                    _ => "Correct the base URL and the login settings of the connection.",
                };
                let problem = page_problem(self.system, response)
                    .unwrap_or_else(|| self.problem("CREDENTIAL_REFUSED", &format!("{status} {error}"), fix));
                Err(AuthError::Refused(problem))
            }
        }
    }

    fn token_in(&self, response: &Response) -> Result<(SecretString, u64), AuthError> {
        if let Some(problem) = page_problem(self.system, response) {
            return Err(AuthError::Unavailable {
                retry_after: None,
                throttled: false,
                problem,
            });
        }
        let unreadable = |detail: &str| self.unavailable("TOKEN_UNREADABLE", None, detail);
        let json = json::parse(&response.body).map_err(|detail| unreadable(&detail))?;
        let root = Node::root(&json);
        let (pointer, ttl_default) = match &self.scheme {
            Scheme::Login(login) => (login.token_pointer.as_str(), login.ttl_seconds),
            _ => ("/access_token", TTL_SECONDS_DEFAULT),
        };
        let token = pointer
            .split('/')
            .skip(1)
            .map(|part| part.replace("~1", "/").replace("~0", "~"))
            .fold(root.clone(), |node, key| node.child(&key))
            .text()
            .ok()
            .flatten()
            // A header value: anything else would be refused by the HTTP library with less of an explanation.
            .filter(|text| text.bytes().all(|byte| (0x21..0x7f).contains(&byte)))
            .ok_or_else(|| unreadable(&format!("no token at {pointer}")))?;
        let ttl_seconds = root
            .get("expires_in")
            .whole()
            .ok()
            .flatten()
            .filter(|seconds| *seconds > 0)
            .unwrap_or(ttl_default)
            .min(TTL_SECONDS_MAX);
        Ok((token.into(), ttl_seconds))
    }

    fn problem(&self, code: &str, actual: &str, fix: &str) -> Problem {
        Problem::new(self.system.code(code), fix)
            .field("token request")
            .expected("200 with a token")
            .actual(actual)
    }

    fn unavailable(&self, code: &str, retry_after: Option<Duration>, actual: &str) -> AuthError {
        AuthError::Unavailable {
            retry_after,
            throttled: false,
            problem: self.problem(
                code,
                actual,
                "Nothing to do if it passes: the request is repeated. Else check the system's availability.",
            ),
        }
    }
}

fn store_down(problem: Problem) -> AuthError {
    AuthError::Unavailable {
        retry_after: None,
        throttled: false,
        problem,
    }
}

fn half(millis: i64) -> i64 {
    millis.checked_div(2).unwrap_or(0)
}

/// A duration in whole milliseconds, at most the largest number.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
