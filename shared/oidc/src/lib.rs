//! Signing in at the organisation's own identity provider (OpenID Connect, authorization code flow with PKCE, state and nonce).
//!
//! Everything goes through [`connectors::http::transport`]: one TLS stack, no redirects, no proxy, addresses of the internet
//! alone. Hosts are the configured issuer's and those that its document names, which OpenID Connect allows to be others.
//!
//! | module | what it holds |
//! |---|---|
//! | `discovery` | what the provider says about itself |
//! | `token` | whether an identity token is the provider's, for us, of this login, and whom it is about |
//! | [`Roles`] | what a person may do |

#![allow(
    clippy::result_large_err,
    reason = "a problem is five texts; errors are rare here, and a box would only hide them"
)]

mod discovery;
mod roles;
mod token;

pub use roles::Roles;
pub use token::SKEW_MILLIS;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors::http::transport::{Method, Request, Response, Transport, TransportError};
use discovery::{ClientProof, Endpoint};
use domain::problem::{Problem, clean};
use domain::time::Timestamp;
use flows::ports::{Chance, Clock};
use pages::{Identity, IdentityProvider, Person, Returned, Started};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use token::{KeySet, Keys};
use tokio::sync::Mutex;

/// How long the provider's document and keys are used without asking again, in milliseconds.
pub const KEPT_MILLIS: i64 = 3_600_000;
/// A key that is not there is looked for no sooner than this after the last look, in milliseconds.
pub const KEYS_AGAIN_MILLIS: i64 = 60_000;
/// Longest exchange with the provider, in seconds. A login needs three at most, and API Gateway waits for 30 seconds.
const EXCHANGE_SECONDS: u64 = 8;
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Longest name that is shown, in characters: it is kept in the cookie.
const NAME_CHARACTERS_MAX: usize = 100;

/// What the page has to know of the provider.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As the provider writes it itself, to the letter.
    pub issuer: String,
    /// The name under which the provider knows this page.
    pub client_id: String,
    /// The claim that holds the person's e-mail address; `email` counts only with `email_verified`.
    pub person_claim: String,
    /// What a person may do.
    pub roles: Roles,
}

/// One identity provider. Asks nothing until somebody signs in.
pub struct Provider {
    settings: Settings,
    client_secret: SecretString,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    known: Mutex<Known>,
}

/// What was read of the provider, and when.
#[derive(Default)]
struct Known {
    provider: Option<(Timestamp, discovery::Provider)>,
    keys: Option<(Timestamp, Keys)>,
}

fn unreachable(actual: impl Into<String>) -> Problem {
    Problem::new(
        "OIDC_UNREACHABLE",
        "Your organisation's identity provider gives no answer: try again in a moment",
    )
    .field("identity provider")
    .expected("an answer")
    .actual(actual)
}

impl Provider {
    /// A provider of which nothing is known but its settings.
    ///
    /// # Errors
    /// `OIDC_DISCOVERY_INVALID` when the issuer is no address of https.
    pub fn new(
        settings: Settings,
        client_secret: SecretString,
        transport: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        chance: Arc<dyn Chance>,
    ) -> Result<Self, Problem> {
        discovery::address(&settings)?;
        Ok(Self {
            settings,
            client_secret,
            transport,
            clock,
            chance,
            known: Mutex::default(),
        })
    }

    /// The issuer's host, which stands before the person in the audit trail.
    fn issuer_host(&self) -> &str {
        let issuer = &self.settings.issuer;
        let rest = issuer.split_once("://").map_or(issuer.as_str(), |(_, rest)| rest);
        rest.split(['/', ':']).next().unwrap_or(rest)
    }

    async fn exchange(&self, endpoint: &Endpoint, form: Option<Form>) -> Result<Response, Problem> {
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        let (method, body) = match form {
            None => (Method::Get, None),
            Some(form) => {
                let kind = "application/x-www-form-urlencoded".to_owned();
                headers.push(("content-type".to_owned(), kind));
                headers.extend(
                    form.authorization
                        .map(|value| ("authorization".to_owned(), value)),
                );
                (Method::Post, Some(form.body.into_bytes()))
            }
        };
        let request = Request {
            destination: endpoint.destination.clone(),
            method,
            url: endpoint.url.clone(),
            headers,
            body,
            timeout: Duration::from_secs(EXCHANGE_SECONDS),
            // A connection of its own: one that slept through a frozen function is dead, and nobody here asks twice.
            write: true,
        };
        let answer = self.transport.send(request).await.map_err(|error| match error {
            TransportError::Forbidden(forbidden) => {
                discovery::invalid("address", "an address of the internet", forbidden.to_string())
            }
            other => unreachable(other.to_string()),
        })?;
        if answer.body.len() > ANSWER_BYTES_MAX {
            return Err(unreadable(format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
        Ok(answer)
    }

    async fn read<T: DeserializeOwned>(&self, endpoint: &Endpoint) -> Result<T, Problem> {
        let answer = self.exchange(endpoint, None).await?;
        match answer.status {
            200 => json(&answer),
            404 => Err(discovery::invalid("address", "the provider's document", "404")),
            status => Err(unreachable(format!("HTTP status {status}"))),
        }
    }

    /// Where the provider is, at most [`KEPT_MILLIS`] old.
    async fn provider(&self, known: &mut Known) -> Result<discovery::Provider, Problem> {
        let now = self.clock.now();
        if let Some((_, provider)) = known
            .provider
            .as_ref()
            .filter(|(at, _)| is_young(now, *at, KEPT_MILLIS))
        {
            return Ok(provider.clone());
        }
        let document: discovery::Document = self.read(&discovery::address(&self.settings)?).await?;
        let provider = document.judge(&self.settings)?;
        known.provider = Some((now, provider.clone()));
        Ok(provider)
    }

    /// The keys, among which the one of this token should be: when it is not, the provider may have changed them a moment ago.
    async fn keys(&self, token: &str) -> Result<Keys, Problem> {
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        if let Some((at, keys)) = &known.keys {
            let is_missing = !keys.has_one_for(token);
            let kept = if is_missing {
                KEYS_AGAIN_MILLIS
            } else {
                KEPT_MILLIS
            };
            if is_young(now, *at, kept) {
                return Ok(keys.clone());
            }
        }
        let provider = self.provider(&mut known).await?;
        let set: KeySet = self.read(&provider.keys).await?;
        let keys = Keys::read(&set);
        known.keys = Some((now, keys.clone()));
        Ok(keys)
    }

    /// Exchanges the code for the identity token. Once: a code is good for one exchange.
    async fn identity_token(
        &self,
        provider: &discovery::Provider,
        started: &Started,
        code: &SecretString,
        redirect: &str,
    ) -> Result<SecretString, Problem> {
        #[derive(Deserialize)]
        struct Answer {
            id_token: SecretString,
        }
        let form = self.form(provider.proof, started, code, redirect);
        let answer = self.exchange(&provider.token, Some(form)).await?;
        match answer.status {
            200 => Ok(json::<Answer>(&answer)?.id_token),
            status @ 400..=499 => Err(code_refused(status, &answer)),
            status => Err(unreachable(format!("HTTP status {status}"))),
        }
    }

    fn form(&self, proof: ClientProof, started: &Started, code: &SecretString, redirect: &str) -> Form {
        let id = &self.settings.client_id;
        let secret = self.client_secret.expose_secret();
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("grant_type", "authorization_code")
            .append_pair("code", code.expose_secret())
            .append_pair("redirect_uri", redirect)
            .append_pair("code_verifier", &started.verifier);
        let authorization = match proof {
            ClientProof::Basic => {
                // Both are encoded as in a form before they are joined (RFC 6749 §2.3.1).
                let encoded =
                    |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(id), encoded(secret));
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            ClientProof::Post => {
                body.append_pair("client_id", id)
                    .append_pair("client_secret", secret);
                None
            }
        };
        Form {
            body: body.finish(),
            authorization,
        }
    }

    /// A secret that nobody can guess, in 64 characters: the length that PKCE asks for.
    fn secret(&self) -> String {
        let drawn = [self.chance.token(), self.chance.token()].concat();
        hex::encode(Sha256::digest(drawn.as_bytes()))
    }
}

struct Form {
    body: String,
    authorization: Option<String>,
}

fn is_young(now: Timestamp, then: Timestamp, millis: i64) -> bool {
    (0..millis).contains(&now.millis_since(then))
}

fn unreadable(actual: impl Into<String>) -> Problem {
    Problem::new(
        "OIDC_ANSWER_UNREADABLE",
        "Something else than the identity provider answers: whoever runs this product looks at ConsoleIssuer",
    )
    .field("identity provider")
    .expected("its JSON")
    .actual(actual)
}

/// What an answer says; of what cannot be read nothing is repeated, because a token may be in it.
fn json<T: DeserializeOwned>(answer: &Response) -> Result<T, Problem> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        unreadable(place)
    })
}

/// The provider did not take the code, or did not take us.
fn code_refused(status: u16, answer: &Response) -> Problem {
    #[derive(Deserialize)]
    struct Said {
        error: String,
    }
    let said = json::<Said>(answer).map(|said| said.error).unwrap_or_default();
    let fix = if said == "invalid_client" || status == 401 {
        "Whoever runs this product enters the page's client id and client secret again, as the provider has them"
    } else {
        "Open the page again: a login is good for one use, and for a few minutes"
    };
    Problem::new("OIDC_CODE_REFUSED", fix)
        .field("code")
        .expected("an identity token")
        .actual(clean(&format!("{status} {said}")))
}

#[async_trait]
impl IdentityProvider for Provider {
    async fn begin(&self, redirect: &str) -> Result<Started, Problem> {
        let provider = self.provider(&mut *self.known.lock().await).await?;
        let (state, nonce, verifier) = (self.secret(), self.secret(), self.secret());
        let separator = if provider.authorization.contains('?') {
            '&'
        } else {
            '?'
        };
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("scope", "openid email profile")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("state", &state)
            .append_pair("nonce", &nonce)
            .append_pair("code_challenge", &token::challenge(&verifier))
            .append_pair("code_challenge_method", "S256")
            .finish();
        Ok(Started {
            url: format!("{}{separator}{query}", provider.authorization),
            state,
            nonce,
            verifier,
        })
    }

    async fn finish(
        &self,
        started: &Started,
        returned: Returned,
        redirect: &str,
    ) -> Result<Identity, Problem> {
        let provider = self.provider(&mut *self.known.lock().await).await?;
        let issuer = returned.issuer.as_deref();
        let is_named = issuer.map(|named| named == self.settings.issuer);
        if is_named == Some(false) || (is_named.is_none() && provider.names_itself) {
            return Err(discovery::invalid(
                "iss",
                &self.settings.issuer,
                issuer.unwrap_or_default(),
            ));
        }
        let token = self
            .identity_token(&provider, started, &returned.code, redirect)
            .await?;
        let token = token.expose_secret();
        let keys = self.keys(token).await?;
        let now = self.clock.now();
        let claims = token::verified(token, &keys, &self.settings, &started.nonce, now)?;
        let email = token::person(&claims, &self.settings.person_claim)?;
        Ok(Identity {
            person: Person {
                by: format!("oidc:{}/{email}", self.issuer_host()),
                name: shown_name(&claims).unwrap_or(email),
                roles: self.settings.roles.of(&claims),
            },
        })
    }
}

fn shown_name(claims: &Value) -> Option<String> {
    let name = claims.get("name").and_then(Value::as_str)?;
    let short: String = clean(name).chars().take(NAME_CHARACTERS_MAX).collect();
    (!short.trim().is_empty()).then_some(short)
}
