//! The identity token: whether the provider signed it, for us, for this login, and whom it is about.
//!
//! `jsonwebtoken` takes it apart and judges header, issuer and audience; signatures are checked by ring, which it is handed.
//! Which algorithm is right is said by the key, never by the token.

use crate::Settings;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::problem::Problem;
use domain::time::Timestamp;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Validation, decode, decode_header};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

/// How far the provider's clock may be from ours, in milliseconds.
pub const SKEW_MILLIS: i64 = 120_000;
/// Most keys of a provider that are looked at.
const KEYS_MAX: usize = 100;

/// The provider's keys that may sign an identity token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Vec<(Jwk, Algorithm)>);

impl Keys {
    /// Takes the keys that are for signatures of a kind we accept; others of the set, whatever they are, are nobody's business.
    pub(crate) fn read(set: &KeySet) -> Self {
        let keys = set.keys.iter().take(KEYS_MAX);
        let read = keys.filter_map(|key| Jwk::deserialize(key).ok());
        Self(
            read.filter_map(|key| algorithm(&key).map(|of| (key, of)))
                .collect(),
        )
    }

    /// The key that a token names; without a name, the only one there is.
    fn find(&self, name: Option<&str>) -> Option<&(Jwk, Algorithm)> {
        let mut fitting = self
            .0
            .iter()
            .filter(|(key, _)| name.is_none() || key.common.key_id.as_deref() == name);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }

    /// Whether there is a key for this token.
    pub(crate) fn has_one_for(&self, token: &str) -> bool {
        decode_header(token).is_ok_and(|header| self.find(header.kid.as_deref()).is_some())
    }
}

/// A set of keys as it comes; each is read by itself, so that one of an unknown kind hides no other.
#[derive(Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<Value>,
}

/// The one algorithm that a key is used with here.
fn algorithm(key: &Jwk) -> Option<Algorithm> {
    let of_key = match &key.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        _ => return None,
    };
    let common = &key.common;
    let is_for_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify))
        && common.key_algorithm.is_none_or(|named| named == of_key.1);
    is_for_signatures.then_some(of_key.0)
}

/// What a token says. Names that come twice are refused by the reader.
#[derive(Deserialize)]
struct Claims {
    /// One text: the library would take a list in which ours is one of several.
    #[serde(rename = "iss")]
    _issuer: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: String,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(#[expect(dead_code, reason = "the library has compared it")] String),
    Several(Vec<String>),
}

fn refused(what: &str, expected: impl Into<String>, actual: impl Into<String>) -> Problem {
    Problem::new(
        "OIDC_TOKEN_REFUSED",
        "Sign in again; if it stays, whoever runs this product compares issuer and client id of the page with the provider",
    )
    .field(what)
    .expected(expected)
    .actual(actual)
}

/// The claims of a token that is the provider's, for us, of this login, and in time.
pub(crate) fn verified(
    token: &str,
    keys: &Keys,
    settings: &Settings,
    nonce: &str,
    now: Timestamp,
) -> Result<Value, Problem> {
    use_ring();
    let unreadable = |error: &Error| refused("identity token", "a signed token", error.to_string());
    let header = decode_header(token).map_err(|error| unreadable(&error))?;
    let (key, algorithm) = keys.find(header.kid.as_deref()).ok_or_else(|| {
        refused(
            "key",
            "one of the provider's keys",
            header.kid.unwrap_or_default(),
        )
    })?;
    let key = DecodingKey::from_jwk(key).map_err(|error| unreadable(&error))?;
    let mut rules = Validation::new(*algorithm);
    rules.set_issuer(&[&settings.issuer]);
    rules.set_audience(&[&settings.client_id]);
    // The library would ask the machine's clock; the times are judged below, by ours.
    rules.validate_exp = false;
    let claims: Claims = decode(token, &key, &rules)
        .map_err(|error| unreadable(&error))?
        .claims;
    judge(&claims, settings, nonce, now)?;
    Ok(Value::Object(claims.others))
}

/// What the library does not look at: for whom a token of several audiences was made, the times, the login.
fn judge(claims: &Claims, settings: &Settings, nonce: &str, now: Timestamp) -> Result<(), Problem> {
    // That we are in the audience is known by now; with others beside us, the token has to say that it was made for us.
    let ours = &settings.client_id;
    let is_shared = matches!(&claims.aud, Audience::Several(all) if all.iter().any(|one| one != ours));
    let is_for_us = claims.azp.as_ref().map_or(!is_shared, |party| party == ours);
    if !is_for_us {
        return Err(refused("azp", ours, claims.azp.clone().unwrap_or_default()));
    }
    let at = |seconds: i64| Timestamp(seconds.saturating_mul(1_000));
    let (late, early) = (now.plus_millis(-SKEW_MILLIS), now.plus_millis(SKEW_MILLIS));
    if at(claims.exp) <= late {
        return Err(refused(
            "exp",
            format!("after {}", late.0),
            at(claims.exp).0.to_string(),
        ));
    }
    let begins = claims.nbf.unwrap_or(claims.iat).max(claims.iat);
    if at(begins) > early {
        return Err(refused(
            "iat, nbf",
            format!("until {}", early.0),
            at(begins).0.to_string(),
        ));
    }
    if nonce.is_empty() || !bool::from(claims.nonce.as_bytes().ct_eq(nonce.as_bytes())) {
        return Err(refused("nonce", "the one of this login", "another"));
    }
    Ok(())
}

/// The longest e-mail address (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;

/// Who it is, by the claim that says so. It becomes the name in the audit trail, by which a second person is told from the
/// first: so the provider must vouch for it, and it must hold none of the marks by which that name is taken apart.
pub(crate) fn person(claims: &Value, claim: &str) -> Result<String, Problem> {
    let unknown = |expected: &str, actual: &str| {
        Problem::new(
            "OIDC_PERSON_UNKNOWN",
            "Ask whoever manages the identity provider to give this account a verified e-mail address",
        )
        .field(claim)
        .expected(expected)
        .actual(actual)
    };
    let text = claims.get(claim).and_then(Value::as_str).unwrap_or_default();
    let is_vouched_for = claim != "email" || claims.get("email_verified") == Some(&Value::Bool(true));
    if !is_vouched_for {
        return Err(unknown("email_verified: true", "not verified"));
    }
    let is_address = text
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
        && text.len() <= EMAIL_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'\\'));
    if is_address {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(unknown("an e-mail address", text))
    }
}

/// Only ring has a say; whoever installed another provider in this process has broken the login, which then refuses.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn use_ring() {
    // Once per process; that it is there already is what is wanted.
    let _ = RING.install_default();
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    match (algorithm, key.kind()) {
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => Ok(Box::new(Rs256 {
            n: n.clone(),
            e: e.clone(),
        })),
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => Ok(Box::new(Es256(point.clone()))),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct Rs256 {
    n: Vec<u8>,
    e: Vec<u8>,
}

struct Es256(Vec<u8>);

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let key = RsaPublicKeyComponents {
            n: &self.n,
            e: &self.e,
        };
        let checked = key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature);
        checked.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}

impl Verifier<Vec<u8>> for Es256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.0);
        key.verify(message, signature)
            .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Es256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

/// The S256 challenge of a verifier (RFC 7636).
pub(crate) fn challenge(verifier: &str) -> String {
    use sha2::{Digest, Sha256};
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_challenge_is_that_of_rfc_7636() {
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    #[test]
    fn a_person_is_an_address_that_the_provider_vouches_for() {
        let verified = |email: &str| json!({"email": email, "email_verified": true, "upn": email});
        assert_eq!(
            person(&verified("Dana@Example.com"), "email").unwrap(),
            "dana@example.com"
        );
        for text in [
            "",
            "dana",
            "@example.com",
            "dana@",
            "dana@example.com@evil.example",
            "x/sam@example.com",
            "x:sam@example.com",
            "sam@example.com ",
            "d\u{430}na@example.com",
            "dana@example.com\n",
            &format!("{}@example.com", "x".repeat(250)),
        ] {
            let problem = person(&verified(text), "email").unwrap_err();
            assert_eq!(problem.code, "OIDC_PERSON_UNKNOWN", "{text}");
            assert!(person(&verified(text), "upn").is_err(), "{text}");
        }
        for unverified in [
            json!({"email": "dana@example.com"}),
            json!({"email": "dana@example.com", "email_verified": false}),
            json!({"email": "dana@example.com", "email_verified": "true"}),
            json!({"email": ["dana@example.com"], "email_verified": true}),
        ] {
            assert!(person(&unverified, "email").is_err(), "{unverified}");
        }
    }
}
