//! The one gate of trust for what Coupa pushes to us. Pure: headers, body, settings and a time go in; a
//! [`Verified`] comes out, or the reason why not. [`Verified`] has no other constructor, so whatever takes one
//! cannot be reached by an unsigned request.
//!
//! The order is fixed: size, header shape, base64, HMAC, timestamp, JSON. Whatever is wrong with the headers, one HMAC
//! over the body is computed per active secret, so the answer's time does not tell what was wrong; and every
//! authentication failure is the same answer outside, its reason ([`Distrust`]) is for our metrics alone.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | the connection's webhook document, read and checked before anything rests on it |
//! | [`signature`] | signed requests: every scheme is one description of where the parts are |
//! | [`call_out`] | Coupa's call-outs: the token we hand out and the bearer we accept |
//! | [`event`] | what the trusted bytes say |

pub mod call_out;
pub mod event;
pub mod settings;
pub mod signature;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use call_out::{IssuedToken, TokenRefused};
use domain::ids::ConnectionId;
use domain::problem::Problem;
use domain::time::Timestamp;
use event::{Event, EventReading};
use settings::{Trust, WebhookSettings};
use sha2::{Digest, Sha256};
use signature::SigningSecret;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Largest webhook body, in bytes: what is said of Coupa's own limit (seen, not documented).
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// Longest header value that is looked into, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 4096;
/// Longest delivery id that is believed, in bytes.
pub const DELIVERY_ID_BYTES_MAX: usize = 128;
/// Longest base64 text that can hold [`BODY_BYTES_MAX`] bytes: four characters for three bytes.
const BODY_BASE64_CHARACTERS_MAX: usize = BODY_BYTES_MAX.div_ceil(3) * 4;

/// Why a request is not believed. For metrics and logs; the sender never learns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distrust {
    /// Nobody here has a connection of that name.
    UnknownConnection,
    /// The header that carries the proof is not there.
    ProofMissing,
    /// A header that may come once came twice, or joined by a comma.
    HeaderDuplicated,
    /// `headers` and `multiValueHeaders` of the gateway's event tell different stories.
    HeadersDisagree,
    /// The proof is not written as the scheme writes it.
    ProofMalformed,
    /// More signatures in one request than anybody needs.
    TooManySignatures,
    /// The scheme needs a timestamp and there is none.
    TimestampMissing,
    /// The timestamp is not a plain number of seconds.
    TimestampMalformed,
    /// The timestamp is too old or too far ahead.
    TimestampOutsideWindow,
    /// The scheme signs the delivery id and there is none.
    IdMissing,
    /// The signed delivery id is empty, too long, or holds what could shift the signed content.
    IdMalformed,
    /// The gateway says the body is base64 and it is not.
    BodyNotBase64,
    /// The signature belongs to another body, another secret or another connection.
    SignatureWrong,
    /// The bearer token was not made by us for this connection and client.
    TokenWrong,
    /// The bearer token was ours and its time is over.
    TokenExpired,
    /// The call-out client's id or secret is wrong.
    ClientWrong,
    /// The connection's scheme has no token endpoint.
    NoTokenEndpoint,
}

impl Distrust {
    /// The stable word for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownConnection => "unknown-connection",
            Self::ProofMissing => "proof-missing",
            Self::HeaderDuplicated => "header-duplicated",
            Self::HeadersDisagree => "headers-disagree",
            Self::ProofMalformed => "proof-malformed",
            Self::TooManySignatures => "too-many-signatures",
            Self::TimestampMissing => "timestamp-missing",
            Self::TimestampMalformed => "timestamp-malformed",
            Self::TimestampOutsideWindow => "timestamp-outside-window",
            Self::IdMissing => "id-missing",
            Self::IdMalformed => "id-malformed",
            Self::BodyNotBase64 => "body-not-base64",
            Self::SignatureWrong => "signature-wrong",
            Self::TokenWrong => "token-wrong",
            Self::TokenExpired => "token-expired",
            Self::ClientWrong => "client-wrong",
            Self::NoTokenEndpoint => "no-token-endpoint",
        }
    }

    /// True when a secret that was changed a moment ago could be the cause, so that one look at the secret store may
    /// change the verdict.
    pub fn may_be_rotation(self) -> bool {
        matches!(self, Self::SignatureWrong | Self::TokenWrong | Self::ClientWrong)
    }
}

/// A request that does not get through the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The body is larger than [`BODY_BYTES_MAX`]; nothing was hashed.
    TooLarge,
    /// It is not believed.
    Distrusted(Distrust),
}

impl From<Distrust> for Refused {
    fn from(reason: Distrust) -> Self {
        Self::Distrusted(reason)
    }
}

/// The request's headers as the gateway hands them over. Names are compared without case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    single: BTreeMap<String, String>,
    multiple: Option<BTreeMap<String, Vec<String>>>,
}

impl Headers {
    /// Headers from the event's `headers` and, when the gateway sent them, `multiValueHeaders`.
    pub fn new(single: BTreeMap<String, String>, multiple: Option<BTreeMap<String, Vec<String>>>) -> Self {
        Self { single, multiple }
    }

    /// Every value of a header. When both forms are there they must agree: `headers` holds the last of the many.
    pub(crate) fn all(&self, name: &str) -> Result<Vec<&str>, Distrust> {
        let single: Vec<&str> = self
            .single
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect();
        let Some(multiple) = &self.multiple else {
            return Ok(single);
        };
        let many: Vec<&str> = multiple
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .flat_map(|(_, values)| values.iter().map(String::as_str))
            .collect();
        if single.len() <= 1 && single.last() == many.last() {
            Ok(many)
        } else {
            Err(Distrust::HeadersDisagree)
        }
    }

    /// The value of a header that may come once. Some gateways join repeated headers with a comma, so a comma counts as
    /// a repetition: nothing that is read with this method may hold one.
    pub(crate) fn at_most_one(&self, name: &str) -> Result<Option<&str>, Distrust> {
        match self.all(name)?.as_slice() {
            [] => Ok(None),
            [value] if value.contains(',') => Err(Distrust::HeaderDuplicated),
            [value] => Ok(Some(*value)),
            _ => Err(Distrust::HeaderDuplicated),
        }
    }
}

/// The request's body as the gateway hands it over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// As text; an absent body is the empty text.
    Text(&'a str),
    /// As base64 of the bytes that were sent.
    Base64(&'a str),
}

impl<'a> Body<'a> {
    /// True when the body is larger than [`BODY_BYTES_MAX`], told from its length alone.
    pub fn is_too_large(self) -> bool {
        match self {
            Self::Text(text) => text.len() > BODY_BYTES_MAX,
            Self::Base64(text) => text.len() > BODY_BASE64_CHARACTERS_MAX,
        }
    }

    /// The bytes that were sent: the only thing a signature is ever checked against.
    fn bytes(self) -> Result<Cow<'a, [u8]>, Refused> {
        if self.is_too_large() {
            return Err(Refused::TooLarge);
        }
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text.as_bytes())),
            Self::Base64(text) => match STANDARD.decode(text) {
                Ok(bytes) if bytes.len() > BODY_BYTES_MAX => Err(Refused::TooLarge),
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(_) => Err(Distrust::BodyNotBase64.into()),
            },
        }
    }

    /// Refuses a request for a connection that does not exist, after the same work as for one that does.
    pub fn refuse_unknown(self) -> Refused {
        match self.bytes() {
            Err(Refused::TooLarge) => Refused::TooLarge,
            decoded => {
                let bytes = decoded.as_deref().unwrap_or_else(|_| self.as_written());
                std::hint::black_box(SigningSecret::decoy().tag(&[bytes]));
                Distrust::UnknownConnection.into()
            }
        }
    }

    /// What stands in for the bytes when a hash is computed only to take its time.
    fn as_written(self) -> &'a [u8] {
        match self {
            Self::Text(text) | Self::Base64(text) => text.as_bytes(),
        }
    }
}

/// A request nobody vouches for yet.
#[derive(Clone, Copy)]
pub struct Unverified<'a> {
    /// The connection its path names.
    pub connection: &'a ConnectionId,
    /// Its headers.
    pub headers: &'a Headers,
    /// Its body.
    pub body: Body<'a>,
}

impl<'a> Unverified<'a> {
    /// Believes the request, or says why not. `now` is the receiver's clock.
    pub fn verify(self, settings: &'a WebhookSettings, now: Timestamp) -> Result<Verified<'a>, Refused> {
        let decoded = match self.body.bytes() {
            Err(Refused::TooLarge) => return Err(Refused::TooLarge),
            other => other,
        };
        let bytes = decoded.as_deref().unwrap_or_else(|_| self.body.as_written());
        let proof = match &settings.trust {
            Trust::Signature(scheme) => scheme.verify(&settings.secrets, self.headers, bytes, now),
            Trust::CallOut(clients) => clients
                .verify_bearer(&settings.secrets, self.connection, self.headers, now)
                .map(|()| None),
        };
        let body = decoded?;
        let delivery = proof?.unwrap_or_else(|| hex::encode(Sha256::digest(&body)));
        Ok(Verified {
            connection: self.connection,
            encoded: self.headers.all("content-encoding")?.join(","),
            reading: &settings.event,
            delivery,
            body,
        })
    }
}

impl Unverified<'_> {
    /// Answers a token request of a call-out client.
    pub fn issue_token(
        self,
        settings: &WebhookSettings,
        now: Timestamp,
    ) -> Result<IssuedToken, TokenRefused> {
        let form = self.body.bytes().unwrap_or_default();
        match &settings.trust {
            Trust::CallOut(call_out) => {
                call_out.issue(&settings.secrets, self.connection, self.headers, &form, now)
            }
            Trust::Signature(_) => Err(TokenRefused::Distrusted(Distrust::NoTokenEndpoint)),
        }
    }
}

/// A request that was signed with a secret of its connection, or carries a token we made for it. Only
/// [`Unverified::verify`] makes one.
pub struct Verified<'a> {
    connection: &'a ConnectionId,
    delivery: String,
    encoded: String,
    body: Cow<'a, [u8]>,
    reading: &'a EventReading,
}

impl std::fmt::Debug for Verified<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Verified")
            .field("connection", &self.connection)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

impl Verified<'_> {
    /// The connection that vouches for it.
    pub fn connection(&self) -> &ConnectionId {
        self.connection
    }

    /// The sender's id of this delivery, or the hex SHA-256 of the body: the same again when the sender repeats itself.
    /// Follows the hint through the logs; decides nothing.
    pub fn delivery(&self) -> &str {
        &self.delivery
    }

    /// Reads what the event says. The error is for the sender's eyes: it is authenticated.
    pub fn event(&self) -> Result<Event, Problem> {
        if !(self.encoded.is_empty() || self.encoded.eq_ignore_ascii_case("identity")) {
            return Err(
                Problem::new("WEBHOOK_BODY_ENCODED", "Send the body without Content-Encoding.")
                    .field("content-encoding")
                    .expected("none or identity")
                    .actual(self.encoded.as_str()),
            );
        }
        self.reading.read(&self.body)
    }
}
