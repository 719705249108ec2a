//! Coupa's call-outs, the only authenticated push that Coupa documents: before it calls, Coupa fetches a token from us
//! with its client id and secret, then sends it as a bearer (confirmed by Coupa's page on call-outs; payload, event list
//! and retries are not public).
//!
//! Our tokens are kept nowhere: a token is its own expiry and an HMAC over connection, expiry and client under a signing
//! secret of the connection's webhook document. Removing a client, changing its secret or removing the signing secret
//! ends its tokens.

use super::signature::{SigningSecret, TAG_BYTES, Tag};
use super::{Distrust, HEADER_VALUE_BYTES_MAX, Headers};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use domain::ids::ConnectionId;
use domain::time::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Separates these tags from every other use of the same secret.
const TOKEN_LABEL: &[u8] = b"qad-coupa call-out token 1";
/// Longest body of a token request, in bytes.
const REQUEST_BYTES_MAX: usize = 4096;
/// Padded or not: clients differ.
const BASIC_CONFIG: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Basic credentials as RFC 7617 has them.
const BASIC: GeneralPurpose = GeneralPurpose::new(&STANDARD, BASIC_CONFIG);
/// Basic credentials in the alphabet that Coupa writes too (confirmed).
const BASIC_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, BASIC_CONFIG);
/// Milliseconds in a second.
const MILLIS_PER_SECOND: i64 = 1000;
/// Most digits of a token's expiry.
const EXPIRY_DIGITS_MAX: usize = 19;

/// One client of the token endpoint. Its credentials are kept only as hashes.
#[derive(Clone)]
pub(crate) struct CallOutClient {
    /// SHA-256 of `id:secret`, as HTTP Basic writes it.
    credentials: Tag,
}

impl fmt::Debug for CallOutClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CallOutClient(hidden)")
    }
}

impl CallOutClient {
    pub(crate) fn new(id: &str, secret: &str) -> Self {
        let credentials = Sha256::new()
            .chain_update(id)
            .chain_update(":")
            .chain_update(secret)
            .finalize()
            .into();
        Self { credentials }
    }
}

/// The scheme `coupa-call-out`: who may fetch a token, and how long one lasts.
#[derive(Debug, Clone)]
pub struct CallOut {
    pub(crate) clients: Vec<CallOutClient>,
    pub(crate) token_seconds: u32,
}

/// An access token that was handed out.
pub struct IssuedToken {
    /// The token.
    pub token: SecretString,
    /// How long it lasts, in seconds.
    pub expires_in_seconds: u32,
}

/// Why a token request got no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefused {
    /// The client is not known by these credentials.
    Distrusted(Distrust),
    /// The client is known and asks for something else than `grant_type=client_credentials`.
    GrantNotSupported,
}

impl CallOut {
    /// Checks the client's HTTP Basic credentials and makes a token. `request` is its body: a form or JSON
    /// (both confirmed).
    pub(crate) fn issue(
        &self,
        secrets: &[SigningSecret],
        connection: &ConnectionId,
        headers: &Headers,
        request: &[u8],
        now: Timestamp,
    ) -> Result<IssuedToken, TokenRefused> {
        let offered = basic_credentials(headers);
        let hash: Tag = Sha256::digest(offered.as_deref().unwrap_or_default()).into();
        let mut client = CallOutClient {
            credentials: [0; TAG_BYTES],
        };
        let mut known = Choice::from(0);
        for candidate in &self.clients {
            let same = candidate.credentials.ct_eq(&hash);
            known |= same;
            if bool::from(same) {
                client = candidate.clone();
            }
        }
        offered.map_err(TokenRefused::Distrusted)?;
        let secret = secrets.first().filter(|_| bool::from(known));
        let secret = secret.ok_or(TokenRefused::Distrusted(Distrust::ClientWrong))?;
        if !asks_for_client_credentials(request) {
            return Err(TokenRefused::GrantNotSupported);
        }
        let expiry = now
            .0
            .div_euclid(MILLIS_PER_SECOND)
            .saturating_add(i64::from(self.token_seconds));
        let tag = token_tag(secret, connection, expiry, &client);
        Ok(IssuedToken {
            token: format!("{expiry}.{}", hex::encode(tag)).into(),
            expires_in_seconds: self.token_seconds,
        })
    }

    /// Checks the bearer of a webhook call.
    pub(crate) fn verify_bearer(
        &self,
        secrets: &[SigningSecret],
        connection: &ConnectionId,
        headers: &Headers,
        now: Timestamp,
    ) -> Result<(), Distrust> {
        let offered = bearer(headers);
        let (expiry, claimed) = offered.unwrap_or((0, [0; TAG_BYTES]));
        let mut good = Choice::from(0);
        for secret in secrets {
            for client in &self.clients {
                good |= token_tag(secret, connection, expiry, client).ct_eq(&claimed);
            }
        }
        offered?;
        if !bool::from(good) {
            return Err(Distrust::TokenWrong);
        }
        if now.0.div_euclid(MILLIS_PER_SECOND) >= expiry {
            return Err(Distrust::TokenExpired);
        }
        Ok(())
    }
}

/// The connection's name holds no line feed, so the fields cannot flow into each other.
fn token_tag(secret: &SigningSecret, connection: &ConnectionId, expiry: i64, client: &CallOutClient) -> Tag {
    secret.tag(&[
        TOKEN_LABEL,
        b"\n",
        connection.as_str().as_bytes(),
        b"\n",
        expiry.to_string().as_bytes(),
        b"\n",
        &client.credentials,
    ])
}

/// The part of the one `Authorization` header after its scheme's name.
fn authorization<'a>(headers: &'a Headers, scheme: &str) -> Result<&'a str, Distrust> {
    let value = headers
        .at_most_one("authorization")?
        .filter(|value| !value.is_empty())
        .ok_or(Distrust::ProofMissing)?;
    if value.len() > HEADER_VALUE_BYTES_MAX {
        return Err(Distrust::ProofMalformed);
    }
    match value.split_once(' ') {
        Some((name, rest)) if name.eq_ignore_ascii_case(scheme) => Ok(rest),
        _ => Err(Distrust::ProofMalformed),
    }
}

fn basic_credentials(headers: &Headers) -> Result<Vec<u8>, Distrust> {
    let offered = authorization(headers, "basic")?;
    let engine = if offered.contains(['-', '_']) {
        &BASIC_URL_SAFE
    } else {
        &BASIC
    };
    engine.decode(offered).map_err(|_| Distrust::ProofMalformed)
}

fn bearer(headers: &Headers) -> Result<(i64, Tag), Distrust> {
    let token = authorization(headers, "bearer")?;
    let (expiry, tag) = token.split_once('.').ok_or(Distrust::ProofMalformed)?;
    let plain = !expiry.is_empty()
        && expiry.len() <= EXPIRY_DIGITS_MAX
        && !expiry.starts_with('0')
        && expiry.bytes().all(|byte| byte.is_ascii_digit());
    if !plain {
        return Err(Distrust::ProofMalformed);
    }
    let expiry = expiry.parse().map_err(|_| Distrust::ProofMalformed)?;
    let mut bytes = [0; TAG_BYTES];
    hex::decode_to_slice(tag, &mut bytes).map_err(|_| Distrust::ProofMalformed)?;
    Ok((expiry, bytes))
}

/// True when the form, or the JSON object, names the grant exactly once. Other parameters, such as a scope, are not ours to
/// judge.
fn asks_for_client_credentials(request: &[u8]) -> bool {
    /// A name that comes twice is an error.
    #[derive(Deserialize)]
    struct Grant<'a> {
        #[serde(borrow)]
        grant_type: Cow<'a, str>,
    }
    if request.len() > REQUEST_BYTES_MAX {
        return false;
    }
    if request.trim_ascii_start().starts_with(b"{") {
        return serde_json::from_slice::<Grant<'_>>(request)
            .is_ok_and(|asked| asked.grant_type == "client_credentials");
    }
    let mut grants = request
        .split(|byte| *byte == b'&')
        .filter_map(|pair| pair.strip_prefix(b"grant_type="));
    grants.next() == Some(b"client_credentials") && grants.next().is_none()
}
