//! Signed requests. A scheme is data: where the signature, the timestamp and the id stand, how they are written, and
//! what exactly was signed. The presets are built in [`super::settings`]; one function verifies them all.

use super::{DELIVERY_ID_BYTES_MAX, Distrust, HEADER_VALUE_BYTES_MAX, Headers};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::time::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use subtle::{Choice, ConstantTimeEq};

/// Bytes in an HMAC-SHA256 tag.
pub const TAG_BYTES: usize = 32;
/// An HMAC-SHA256 tag.
pub type Tag = [u8; TAG_BYTES];
/// Most signatures looked at in one request; the schemes that send a list send two while a secret is replaced.
pub const SIGNATURES_MAX: usize = 8;
/// Most digits of a timestamp: what fits a signed 64-bit number.
const TIMESTAMP_DIGITS_MAX: usize = 19;
/// Milliseconds in a second.
const MILLIS_PER_SECOND: i64 = 1000;

/// A secret, kept only as the keyed state it was turned into when the settings were read. It cannot be printed.
#[derive(Clone)]
pub struct SigningSecret(Hmac<Sha256>);

impl fmt::Debug for SigningSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningSecret(hidden)")
    }
}

impl SigningSecret {
    /// Keys an HMAC-SHA256; `None` never happens for HMAC, which takes keys of any length.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        Hmac::new_from_slice(key).ok().map(Self)
    }

    /// A secret that is nobody's: for work whose result is thrown away.
    pub(crate) fn decoy() -> Self {
        Self(Hmac::new(&Default::default()))
    }

    /// The tag over the parts, one after the other.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// How a signature is written. There is no guessing: the other encoding is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// 64 hexadecimal digits in any case.
    Hex,
    /// Standard alphabet with padding.
    Base64,
}

impl Encoding {
    fn decode(self, text: &str) -> Result<Tag, Distrust> {
        let bytes = match self {
            Self::Hex => hex::decode(text).map_err(|_| Distrust::ProofMalformed)?,
            Self::Base64 => STANDARD.decode(text).map_err(|_| Distrust::ProofMalformed)?,
        };
        bytes.try_into().map_err(|_| Distrust::ProofMalformed)
    }
}

/// Where the signatures stand inside their header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SignatureForm {
    /// Exactly one, after a prefix that must be or may be there.
    One {
        /// For example `sha256=`.
        prefix: String,
        /// Whether it may be left out.
        prefix_required: bool,
    },
    /// Several, divided by a separator; those without the prefix belong to other algorithms and are passed over.
    List {
        /// For example a blank.
        separator: char,
        /// May be empty.
        prefix: String,
    },
    /// Standard Webhooks: `v1,<signature> v1,<signature>`.
    Versioned,
    /// Stripe: `t=<seconds>,v1=<signature>,v1=<signature>`; the timestamp comes along.
    KeyValue,
}

/// Where the timestamp stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimestampSource {
    /// The scheme has none.
    None,
    /// In a header of its own. One that need not be there must still be right when it is.
    Header {
        /// The header.
        name: String,
        /// Whether it must be there.
        required: bool,
    },
    /// In the signature's header.
    SignatureHeader,
}

/// One piece of what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentPart {
    /// The same text in every request.
    Literal(String),
    /// The delivery id.
    Id,
    /// The timestamp as it was written.
    Timestamp,
    /// The body as it was sent.
    Body,
}

/// A way to sign requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureScheme {
    pub(crate) signature_header: String,
    pub(crate) form: SignatureForm,
    pub(crate) encoding: Encoding,
    pub(crate) timestamp: TimestampSource,
    pub(crate) tolerance_seconds: u32,
    pub(crate) id_header: Option<String>,
    pub(crate) content: Vec<ContentPart>,
}

/// What the headers claim, in shape but not yet believed.
#[derive(Debug, PartialEq, Eq)]
struct Claim<'a> {
    signatures: Vec<Tag>,
    timestamp: Option<(&'a str, i64)>,
    id: Option<&'a str>,
}

impl SignatureScheme {
    /// Checks signature and age. Answers the delivery id when the scheme has one and the request brought a usable one.
    pub(crate) fn verify(
        &self,
        secrets: &[SigningSecret],
        headers: &Headers,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Option<String>, Distrust> {
        let claim = self.claim(headers);
        let content = self.content(claim.as_ref().ok(), body);
        let tags: Vec<Tag> = secrets.iter().map(|secret| secret.tag(&content)).collect();
        let claim = claim?;
        let mut good = Choice::from(0);
        for tag in &tags {
            for signature in &claim.signatures {
                good |= tag.ct_eq(signature);
            }
        }
        if !bool::from(good) {
            return Err(Distrust::SignatureWrong);
        }
        if let Some((_, seconds)) = claim.timestamp {
            let age = now.0.div_euclid(MILLIS_PER_SECOND).abs_diff(seconds);
            if age > u64::from(self.tolerance_seconds) {
                return Err(Distrust::TimestampOutsideWindow);
            }
        }
        Ok(claim.id.map(str::to_owned))
    }

    /// The pieces that were signed. Without a claim it is the body alone: as much work, and the result is not used.
    fn content<'a>(&'a self, claim: Option<&Claim<'a>>, body: &'a [u8]) -> Vec<&'a [u8]> {
        let Some(claim) = claim else {
            return vec![body];
        };
        self.content
            .iter()
            .map(|part| match part {
                ContentPart::Literal(text) => text.as_bytes(),
                ContentPart::Id => claim.id.unwrap_or_default().as_bytes(),
                ContentPart::Timestamp => claim.timestamp.map_or(&[][..], |(text, _)| text.as_bytes()),
                ContentPart::Body => body,
            })
            .collect()
    }

    fn claim<'a>(&self, headers: &'a Headers) -> Result<Claim<'a>, Distrust> {
        let (signatures, inner_timestamp) = self.signatures(headers)?;
        let timestamp = match &self.timestamp {
            TimestampSource::None => None,
            TimestampSource::SignatureHeader => Some(inner_timestamp.ok_or(Distrust::TimestampMissing)?),
            TimestampSource::Header { name, required } => {
                let text = headers.at_most_one(name)?;
                if text.is_none() && *required {
                    return Err(Distrust::TimestampMissing);
                }
                text
            }
        };
        let timestamp = timestamp
            .map(|text| parse_seconds(text).map(|seconds| (text, seconds)))
            .transpose()?;
        let id = self.id(headers)?;
        Ok(Claim {
            signatures,
            timestamp,
            id,
        })
    }

    /// The delivery id. When it is signed it must be there and must not hold the full stop that divides the signed
    /// content; when it is not, it is only a name for the logs, and an unusable one is left out.
    fn id<'a>(&self, headers: &'a Headers) -> Result<Option<&'a str>, Distrust> {
        let Some(name) = &self.id_header else {
            return Ok(None);
        };
        let usable = |text: &&str| {
            !text.is_empty()
                && text.len() <= DELIVERY_ID_BYTES_MAX
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !self.content.contains(&ContentPart::Id) {
            return Ok(headers.at_most_one(name).ok().flatten().filter(usable));
        }
        let text = headers.at_most_one(name)?.ok_or(Distrust::IdMissing)?;
        if usable(&text) && !text.contains('.') {
            Ok(Some(text))
        } else {
            Err(Distrust::IdMalformed)
        }
    }

    fn signatures<'a>(&self, headers: &'a Headers) -> Result<(Vec<Tag>, Option<&'a str>), Distrust> {
        let values = headers.all(&self.signature_header)?;
        if values.is_empty() || values.iter().all(|value| value.is_empty()) {
            return Err(Distrust::ProofMissing);
        }
        if values.iter().any(|value| value.len() > HEADER_VALUE_BYTES_MAX) {
            return Err(Distrust::ProofMalformed);
        }
        match &self.form {
            SignatureForm::One {
                prefix,
                prefix_required,
            } => {
                let text = headers
                    .at_most_one(&self.signature_header)?
                    .ok_or(Distrust::ProofMissing)?;
                let bare = match text.strip_prefix(prefix.as_str()) {
                    Some(bare) => bare,
                    None if *prefix_required => return Err(Distrust::ProofMalformed),
                    None => text,
                };
                Ok((vec![self.encoding.decode(bare)?], None))
            }
            SignatureForm::List { separator, prefix } => {
                let items = values
                    .iter()
                    .flat_map(|value| value.split(*separator))
                    .filter_map(|item| item.strip_prefix(prefix.as_str()))
                    .filter(|item| !item.is_empty());
                Ok((self.decode_all(items)?, None))
            }
            SignatureForm::Versioned => Ok((self.versioned(&values)?, None)),
            SignatureForm::KeyValue => match values.as_slice() {
                [value] => self.key_value(value),
                _ => Err(Distrust::HeaderDuplicated),
            },
        }
    }

    /// `v1,<signature>` pairs. A gateway that joins repeated headers writes a comma between pairs too, and base64 has
    /// none, so blanks and commas divide alike. Other versions belong to other algorithms and are passed over.
    fn versioned(&self, values: &[&str]) -> Result<Vec<Tag>, Distrust> {
        let words: Vec<&str> = values
            .iter()
            .flat_map(|value| value.split([' ', ',']))
            .filter(|word| !word.is_empty())
            .collect();
        let mut signatures = Vec::new();
        for pair in words.chunks(2) {
            match pair {
                ["v1", signature] => signatures.push(*signature),
                [_, _] => {}
                _ => return Err(Distrust::ProofMalformed),
            }
        }
        self.decode_all(signatures.into_iter())
    }

    /// `t=<seconds>,v1=<signature>`: exactly one `t`, up to [`SIGNATURES_MAX`] `v1`, other keys passed over.
    fn key_value<'a>(&self, value: &'a str) -> Result<(Vec<Tag>, Option<&'a str>), Distrust> {
        let mut timestamp = None;
        let mut signatures = Vec::new();
        for pair in value.split(',') {
            match pair.split_once('=').ok_or(Distrust::ProofMalformed)? {
                ("t", _) if timestamp.is_some() => return Err(Distrust::HeaderDuplicated),
                ("t", text) => timestamp = Some(text),
                ("v1", text) => signatures.push(text),
                _ => {}
            }
        }
        Ok((self.decode_all(signatures.into_iter())?, timestamp))
    }

    fn decode_all<'a>(&self, items: impl Iterator<Item = &'a str>) -> Result<Vec<Tag>, Distrust> {
        let mut tags = Vec::new();
        for item in items {
            if tags.len() >= SIGNATURES_MAX {
                return Err(Distrust::TooManySignatures);
            }
            tags.push(self.encoding.decode(item)?);
        }
        if tags.is_empty() {
            return Err(Distrust::ProofMalformed);
        }
        Ok(tags)
    }
}

/// Reads a number of seconds: ASCII digits and nothing else, so no sign, fraction, blank or other script's digits.
fn parse_seconds(text: &str) -> Result<i64, Distrust> {
    let plain = !text.is_empty()
        && text.len() <= TIMESTAMP_DIGITS_MAX
        && text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain {
        return Err(Distrust::TimestampMalformed);
    }
    text.parse().map_err(|_| Distrust::TimestampMalformed)
}

#[cfg(test)]
mod tests;
