//! The connection's webhook document: which scheme, which secrets. It is a secret of its own, so that the function that
//! faces the internet can read nothing else. A document that is not right is refused whole, with every problem in it.

use super::call_out::{CallOut, CallOutClient};
use super::event::{DocumentType, EventReading, Pointer};
use super::signature::{
    ContentPart, Encoding, SignatureForm, SignatureScheme, SigningSecret, TimestampSource,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::problem::Problem;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Shortest secret, in bytes: 192 bits, the Standard Webhooks minimum.
pub const SECRET_BYTES_MIN: usize = 24;
/// Longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 512;
/// Most secrets, and most call-out clients, that are good at the same time: the new one and the one it replaces.
pub const ACTIVE_SECRETS_MAX: usize = 2;
/// How far a timestamp may be from our clock when the settings do not say, in seconds.
pub const TOLERANCE_SECONDS_DEFAULT: u32 = 300;
/// Furthest a timestamp may be allowed to be from our clock, in seconds.
pub const TOLERANCE_SECONDS_MAX: u32 = 3600;
/// How long an access token lasts when the settings do not say, in seconds.
pub const TOKEN_SECONDS_DEFAULT: u32 = 3600;
/// Shortest life of an access token, in seconds.
pub const TOKEN_SECONDS_MIN: u32 = 60;
/// Longest life of an access token, in seconds.
pub const TOKEN_SECONDS_MAX: u32 = 86_400;
/// Largest document, in bytes: what Secrets Manager holds.
pub const DOCUMENT_BYTES_MAX: usize = 65_536;
/// Longest header name, prefix or template in the settings, in bytes.
const TEXT_BYTES_MAX: usize = 200;
/// Most event types in the settings' own list.
const EVENT_TYPES_MAX: usize = 50;
/// Prefix of a Standard Webhooks secret.
const STANDARD_WEBHOOKS_SECRET_PREFIX: &str = "whsec_";

/// How a connection's requests are believed.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// By a signature over the request.
    Signature(SignatureScheme),
    /// By a token we handed out.
    CallOut(CallOut),
}

/// A connection's webhook settings, checked. Made by [`WebhookSettings::parse`] alone; holds no secret that could be
/// printed.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    pub(crate) trust: Trust,
    pub(crate) secrets: Vec<SigningSecret>,
    pub(crate) event: EventReading,
}

/// The document as it is written. Documented in `docs/webhooks.md`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    scheme: Scheme,
    secrets: Vec<SecretString>,
    require_timestamp: Option<bool>,
    tolerance_seconds: Option<u32>,
    event: Option<EventDocument>,
    custom: Option<CustomDocument>,
    call_out: Option<CallOutDocument>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Scheme {
    CoupaHmac,
    StandardWebhooks,
    Github,
    Stripe,
    Custom,
    CoupaCallOut,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::CoupaHmac => "coupa-hmac",
            Self::StandardWebhooks => "standard-webhooks",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::Custom => "custom",
            Self::CoupaCallOut => "coupa-call-out",
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct EventDocument {
    type_pointer: Option<String>,
    id_pointer: Option<String>,
    types: Option<BTreeMap<String, DocumentType>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CustomDocument {
    signature_header: String,
    encoding: EncodingDocument,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    prefix_required: bool,
    list_separator: Option<char>,
    signed_content: String,
    timestamp_header: Option<String>,
    id_header: Option<String>,
    #[serde(default)]
    secret_encoding: SecretEncoding,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum EncodingDocument {
    Hex,
    Base64,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
enum SecretEncoding {
    #[default]
    Text,
    Hex,
    Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallOutDocument {
    clients: Vec<CallOutClientDocument>,
    token_seconds: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallOutClientDocument {
    id: String,
    secret: SecretString,
}

impl WebhookSettings {
    /// Reads and checks a document. The error lists everything that is wrong with it and never holds a secret.
    pub fn parse(document: &SecretString) -> Result<Self, Vec<Problem>> {
        let text = document.expose_secret();
        if text.len() > DOCUMENT_BYTES_MAX {
            let problem = invalid("")
                .expected(format!("at most {DOCUMENT_BYTES_MAX} bytes"))
                .actual(format!("{} bytes", text.len()));
            return Err(vec![problem]);
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let document: Document =
            serde_path_to_error::deserialize(&mut json).map_err(|error| vec![unreadable(&error)])?;
        json.end()
            .map_err(|_| vec![invalid("").expected("one JSON object").actual("text after it")])?;
        let mut check = Checker::default();
        let settings = check.settings(document);
        match settings {
            Some(settings) if check.problems.is_empty() => Ok(settings),
            _ => Err(check.problems),
        }
    }
}

fn invalid(field: impl Into<String>) -> Problem {
    Problem::new(
        "WEBHOOK_SETTINGS_INVALID",
        "Correct the connection's webhook secret; docs/webhooks.md describes every setting.",
    )
    .field(field)
}

/// What serde says, without the value it quotes: that may be a secret in the wrong place.
fn unreadable(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let said = error.inner().to_string();
    let names_only_fields = said.starts_with("missing field") || said.starts_with("unknown field");
    let said = if names_only_fields {
        said
    } else {
        format!(
            "another type, value or syntax at line {} column {}",
            error.inner().line(),
            error.inner().column()
        )
    };
    invalid(error.path().to_string())
        .expected("the document described in docs/webhooks.md")
        .actual(said)
}

/// Collects problems while it builds.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn refuse(&mut self, field: &str, expected: impl Into<String>, actual: impl Into<String>) {
        self.problems
            .push(invalid(field).expected(expected).actual(actual));
    }

    fn settings(&mut self, document: Document) -> Option<WebhookSettings> {
        self.settings_that_do_not_belong(&document);
        let encoding = match (document.scheme, &document.custom) {
            (Scheme::Custom, Some(custom)) => custom.secret_encoding,
            _ => SecretEncoding::Text,
        };
        let secrets = self.secrets(document.scheme, encoding, &document.secrets);
        let event = self.event(document.event.unwrap_or_default());
        let tolerance_seconds = self.bounded(
            "tolerance_seconds",
            document.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS_DEFAULT),
            1,
            TOLERANCE_SECONDS_MAX,
        );
        let trust = match document.scheme {
            Scheme::CoupaHmac => Trust::Signature(coupa_hmac(
                document.require_timestamp.unwrap_or(false),
                tolerance_seconds,
            )),
            Scheme::StandardWebhooks => Trust::Signature(standard_webhooks(tolerance_seconds)),
            Scheme::Github => Trust::Signature(github()),
            Scheme::Stripe => Trust::Signature(stripe(tolerance_seconds)),
            Scheme::Custom => Trust::Signature(self.custom(document.custom?, tolerance_seconds)?),
            Scheme::CoupaCallOut => Trust::CallOut(self.call_out(document.call_out?)),
        };
        Some(WebhookSettings {
            trust,
            secrets,
            event,
        })
    }

    /// A setting that the scheme does not use is a misunderstanding, and in a gate misunderstandings are not passed over.
    fn settings_that_do_not_belong(&mut self, document: &Document) {
        let scheme = document.scheme;
        let signs_no_time = match (scheme, &document.custom) {
            (Scheme::Github | Scheme::CoupaCallOut, _) => true,
            (Scheme::Custom, Some(custom)) => custom.timestamp_header.is_none(),
            _ => false,
        };
        let stray = [
            (
                "require_timestamp",
                document.require_timestamp.is_some() && scheme != Scheme::CoupaHmac,
            ),
            (
                "tolerance_seconds",
                document.tolerance_seconds.is_some() && signs_no_time,
            ),
            ("custom", document.custom.is_some() && scheme != Scheme::Custom),
            (
                "call_out",
                document.call_out.is_some() && scheme != Scheme::CoupaCallOut,
            ),
        ];
        for (field, is_stray) in stray {
            if is_stray {
                let expected = format!("no such setting with the scheme {}", scheme.name());
                self.refuse(field, expected, "the setting");
            }
        }
        if scheme == Scheme::Custom && document.custom.is_none() {
            self.refuse("custom", "the description of the scheme", "nothing");
        }
        if scheme == Scheme::CoupaCallOut && document.call_out.is_none() {
            self.refuse("call_out", "the clients of the token endpoint", "nothing");
        }
    }

    fn secrets(
        &mut self,
        scheme: Scheme,
        encoding: SecretEncoding,
        secrets: &[SecretString],
    ) -> Vec<SigningSecret> {
        if secrets.is_empty() || secrets.len() > ACTIVE_SECRETS_MAX {
            let expected = format!("1 to {ACTIVE_SECRETS_MAX} secrets");
            self.refuse("secrets", expected, format!("{} secrets", secrets.len()));
            return Vec::new();
        }
        secrets
            .iter()
            .enumerate()
            .filter_map(|(index, secret)| self.secret(&format!("secrets[{index}]"), scheme, encoding, secret))
            .collect()
    }

    fn secret(
        &mut self,
        field: &str,
        scheme: Scheme,
        encoding: SecretEncoding,
        secret: &SecretString,
    ) -> Option<SigningSecret> {
        let text = secret.expose_secret();
        let key = match (scheme, encoding) {
            (Scheme::StandardWebhooks, _) => {
                let bare = text.strip_prefix(STANDARD_WEBHOOKS_SECRET_PREFIX).unwrap_or(text);
                STANDARD.decode(bare).ok()
            }
            (_, SecretEncoding::Base64) => STANDARD.decode(text).ok(),
            (_, SecretEncoding::Hex) => hex::decode(text).ok(),
            (_, SecretEncoding::Text) => Some(text.as_bytes().to_vec()),
        };
        let Some(key) = key.map(secrecy::SecretSlice::from) else {
            self.refuse(
                field,
                "a secret in the encoding of its scheme",
                "a text that is not",
            );
            return None;
        };
        self.length(field, key.expose_secret().len())?;
        SigningSecret::new(key.expose_secret())
    }

    fn length(&mut self, field: &str, bytes: usize) -> Option<()> {
        if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes) {
            return Some(());
        }
        let expected = format!("{SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes of chance");
        self.refuse(field, expected, format!("{bytes} bytes"));
        None
    }

    fn bounded(&mut self, field: &str, value: u32, least: u32, most: u32) -> u32 {
        if !(least..=most).contains(&value) {
            self.refuse(field, format!("{least} to {most} seconds"), value.to_string());
        }
        value
    }

    fn event(&mut self, document: EventDocument) -> EventReading {
        let type_pointer = document.type_pointer.as_deref().unwrap_or("/event-type");
        let id_pointer = document.id_pointer.as_deref().unwrap_or("/object/id");
        let types = document.types.unwrap_or_else(event_types);
        if types.is_empty() || types.len() > EVENT_TYPES_MAX {
            let expected = format!("1 to {EVENT_TYPES_MAX} event types");
            self.refuse("event.types", expected, types.len().to_string());
        }
        EventReading {
            type_pointer: self.pointer("event.type_pointer", type_pointer),
            id_pointer: self.pointer("event.id_pointer", id_pointer),
            types,
        }
    }

    fn pointer(&mut self, field: &str, text: &str) -> Pointer {
        Pointer::parse(text).unwrap_or_else(|| {
            self.refuse(field, "a JSON pointer such as /object/id", text);
            Pointer::default()
        })
    }

    fn call_out(&mut self, document: CallOutDocument) -> CallOut {
        if document.clients.is_empty() || document.clients.len() > ACTIVE_SECRETS_MAX {
            let expected = format!("1 to {ACTIVE_SECRETS_MAX} clients");
            let actual = format!("{} clients", document.clients.len());
            self.refuse("call_out.clients", expected, actual);
        }
        let token_seconds = self.bounded(
            "call_out.token_seconds",
            document.token_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT),
            TOKEN_SECONDS_MIN,
            TOKEN_SECONDS_MAX,
        );
        let mut clients = Vec::new();
        for (index, client) in document.clients.iter().enumerate() {
            let secret = client.secret.expose_secret();
            let field = format!("call_out.clients[{index}]");
            self.length(&format!("{field}.secret"), secret.len());
            // Some senders encode the two for a URL before they encode them for the header, some do not: with these
            // letters both are the same.
            if !is_unreserved(&client.id) || !is_unreserved(secret) {
                self.refuse(
                    &field,
                    "an id and a secret of letters, digits and - . _ ~ only",
                    "something else",
                );
            }
            clients.push(CallOutClient::new(&client.id, secret));
        }
        CallOut {
            clients,
            token_seconds,
        }
    }

    fn custom(&mut self, custom: CustomDocument, tolerance_seconds: u32) -> Option<SignatureScheme> {
        let names = [
            ("custom.signature_header", Some(&custom.signature_header)),
            ("custom.timestamp_header", custom.timestamp_header.as_ref()),
            ("custom.id_header", custom.id_header.as_ref()),
        ];
        for (field, name) in names {
            if let Some(name) = name.filter(|name| !is_header_name(name)) {
                self.refuse(field, "the name of a header", name.as_str());
            }
        }
        if custom.prefix.len() > TEXT_BYTES_MAX || custom.prefix.contains(',') {
            self.refuse(
                "custom.prefix",
                "a short text without a comma",
                custom.prefix.as_str(),
            );
        }
        let form = match custom.list_separator {
            Some(separator) if separator.is_ascii_alphanumeric() || "+/=".contains(separator) => {
                self.refuse(
                    "custom.list_separator",
                    "a character no signature holds",
                    separator,
                );
                return None;
            }
            Some(separator) => SignatureForm::List {
                separator,
                prefix: custom.prefix,
            },
            None => SignatureForm::One {
                prefix: custom.prefix,
                prefix_required: custom.prefix_required,
            },
        };
        let content = self.template(&custom.signed_content)?;
        self.template_fits(&content, &custom.timestamp_header, &custom.id_header);
        Some(SignatureScheme {
            signature_header: custom.signature_header,
            form,
            encoding: match custom.encoding {
                EncodingDocument::Hex => Encoding::Hex,
                EncodingDocument::Base64 => Encoding::Base64,
            },
            timestamp: match custom.timestamp_header {
                Some(name) => TimestampSource::Header { name, required: true },
                None => TimestampSource::None,
            },
            tolerance_seconds,
            id_header: custom.id_header,
            content,
        })
    }

    /// Reads a template such as `{id}.{timestamp}.{body}`.
    fn template(&mut self, template: &str) -> Option<Vec<ContentPart>> {
        const FIELD: &str = "custom.signed_content";
        const EXPECTED: &str =
            "text around {id}, {timestamp} and {body}, each at most once, {body} exactly once";
        let mut content = Vec::new();
        let mut rest = template;
        while let Some((literal, tail)) = rest.split_once('{') {
            let placeholder = tail.split_once('}');
            let part = match placeholder {
                Some(("id", _)) => ContentPart::Id,
                Some(("timestamp", _)) => ContentPart::Timestamp,
                Some(("body", _)) => ContentPart::Body,
                _ => {
                    self.refuse(FIELD, EXPECTED, template);
                    return None;
                }
            };
            if content.contains(&part) || template.len() > TEXT_BYTES_MAX {
                self.refuse(FIELD, EXPECTED, template);
                return None;
            }
            if !literal.is_empty() {
                content.push(ContentPart::Literal(literal.to_owned()));
            }
            content.push(part);
            rest = placeholder.map_or("", |(_, tail)| tail);
        }
        if !rest.is_empty() {
            content.push(ContentPart::Literal(rest.to_owned()));
        }
        if !content.contains(&ContentPart::Body) {
            self.refuse(FIELD, EXPECTED, template);
            return None;
        }
        Some(content)
    }

    /// What is signed must have a header, and a timestamp that is not signed protects nothing.
    fn template_fits(&mut self, content: &[ContentPart], timestamp: &Option<String>, id: &Option<String>) {
        if content.contains(&ContentPart::Timestamp) != timestamp.is_some() {
            self.refuse(
                "custom.timestamp_header",
                "a timestamp header exactly when {timestamp} is signed",
                "one without the other",
            );
        }
        if content.contains(&ContentPart::Id) && id.is_none() {
            self.refuse(
                "custom.id_header",
                "an id header, because {id} is signed",
                "nothing",
            );
        }
    }
}

fn is_header_name(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn is_unreserved(text: &str) -> bool {
    (1..=SECRET_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// The types we act on, by the words of the default event body.
fn event_types() -> BTreeMap<String, DocumentType> {
    BTreeMap::from([
        ("invoice".to_owned(), DocumentType::Invoice),
        ("purchase-order".to_owned(), DocumentType::PurchaseOrder),
        ("payment".to_owned(), DocumentType::Payment),
        ("supplier".to_owned(), DocumentType::Supplier),
    ])
}

fn full_stop() -> ContentPart {
    ContentPart::Literal(".".to_owned())
}

/// Our own default. No document of Coupa describes signed webhooks; the names are what its customers were told (assumed).
fn coupa_hmac(timestamp_is_required: bool, tolerance_seconds: u32) -> SignatureScheme {
    SignatureScheme {
        signature_header: "x-coupa-signature".to_owned(),
        form: SignatureForm::One {
            prefix: "sha256=".to_owned(),
            prefix_required: false,
        },
        encoding: Encoding::Hex,
        timestamp: TimestampSource::Header {
            name: "x-coupa-timestamp".to_owned(),
            required: timestamp_is_required,
        },
        tolerance_seconds,
        id_header: Some("x-coupa-delivery".to_owned()),
        content: if timestamp_is_required {
            vec![ContentPart::Timestamp, full_stop(), ContentPart::Body]
        } else {
            vec![ContentPart::Body]
        },
    }
}

/// Standard Webhooks 1.0 (confirmed by its specification and vectors).
fn standard_webhooks(tolerance_seconds: u32) -> SignatureScheme {
    SignatureScheme {
        signature_header: "webhook-signature".to_owned(),
        form: SignatureForm::Versioned,
        encoding: Encoding::Base64,
        timestamp: TimestampSource::Header {
            name: "webhook-timestamp".to_owned(),
            required: true,
        },
        tolerance_seconds,
        id_header: Some("webhook-id".to_owned()),
        content: vec![
            ContentPart::Id,
            full_stop(),
            ContentPart::Timestamp,
            full_stop(),
            ContentPart::Body,
        ],
    }
}

/// GitHub's scheme (confirmed by its documentation and vector).
fn github() -> SignatureScheme {
    SignatureScheme {
        signature_header: "x-hub-signature-256".to_owned(),
        form: SignatureForm::One {
            prefix: "sha256=".to_owned(),
            prefix_required: true,
        },
        encoding: Encoding::Hex,
        timestamp: TimestampSource::None,
        tolerance_seconds: TOLERANCE_SECONDS_DEFAULT,
        id_header: Some("x-github-delivery".to_owned()),
        content: vec![ContentPart::Body],
    }
}

/// Stripe's scheme (confirmed by its documentation).
fn stripe(tolerance_seconds: u32) -> SignatureScheme {
    SignatureScheme {
        signature_header: "stripe-signature".to_owned(),
        form: SignatureForm::KeyValue,
        encoding: Encoding::Hex,
        timestamp: TimestampSource::SignatureHeader,
        tolerance_seconds,
        id_header: None,
        content: vec![ContentPart::Timestamp, full_stop(), ContentPart::Body],
    }
}

#[cfg(test)]
mod tests;
