//! What the provider says about itself: where its pages and its keys are.

use crate::Settings;
use connectors::http::address::BaseUrl;
use connectors::http::outbound::Destination;
use domain::problem::Problem;
use serde::Deserialize;

/// Longest address of the provider that is taken, in bytes.
const ADDRESS_BYTES_MAX: usize = 2_000;

/// The part of the document (OpenID Connect Discovery 1.0) that is used.
#[derive(Deserialize)]
pub(crate) struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// How we prove to the provider who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientProof {
    /// In a header; what holds when nothing is said.
    Basic,
    /// In the form.
    Post,
}

/// An address of the provider, and the only host that may be asked for it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) destination: Destination,
}

/// Where the provider is, after its document was judged.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) authorization: String,
    pub(crate) token: Endpoint,
    pub(crate) keys: Endpoint,
    pub(crate) proof: ClientProof,
    /// Whether the way back names the issuer (RFC 9207).
    pub(crate) names_itself: bool,
}

pub(crate) fn invalid(field: &str, expected: impl Into<String>, actual: impl Into<String>) -> Problem {
    Problem::new(
        "OIDC_DISCOVERY_INVALID",
        "Whoever runs this product compares ConsoleIssuer with the provider's own words, letter by letter",
    )
    .field(field)
    .expected(expected)
    .actual(actual)
}

/// The address of the document.
pub(crate) fn address(settings: &Settings) -> Result<Endpoint, Problem> {
    let base = settings.issuer.trim_end_matches('/');
    endpoint(
        "issuer",
        &format!("{base}/.well-known/openid-configuration"),
        true,
    )
}

/// An address from configuration or from the document: https (plain http on this very machine alone, and for a provider on
/// this very machine alone), without user, password and fragment. What its name resolves to is checked when it is asked.
fn endpoint(field: &str, url: &str, may_be_here: bool) -> Result<Endpoint, Problem> {
    let is_plain = url.len() <= ADDRESS_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic());
    let (path, _) = url.split_once('?').unwrap_or((url, ""));
    let base = path.parse::<BaseUrl>();
    match base {
        Ok(base) if is_plain && !url.contains('#') && (may_be_here || !base.is_loopback()) => Ok(Endpoint {
            url: url.to_owned(),
            destination: Destination::of(&base, &[]),
        }),
        _ => Err(invalid(field, "an address of https", url)),
    }
}

impl Document {
    /// Judges the document; it is the issuer's own only when it says so itself, in the very same words.
    pub(crate) fn judge(&self, settings: &Settings) -> Result<Provider, Problem> {
        if self.issuer != settings.issuer {
            return Err(invalid("issuer", &settings.issuer, &self.issuer));
        }
        let is_here = settings
            .issuer
            .parse::<BaseUrl>()
            .is_ok_and(|issuer| issuer.is_loopback());
        let endpoint = |field: &str, url: &str| endpoint(field, url, is_here);
        let has = |methods: &Option<Vec<String>>, method: &str| {
            methods
                .as_ref()
                .map(|known| known.iter().any(|one| one == method))
        };
        if has(&self.code_challenge_methods_supported, "S256") == Some(false) {
            return Err(invalid("code_challenge_methods_supported", "S256", "others"));
        }
        let methods = &self.token_endpoint_auth_methods_supported;
        let proof = match (
            has(methods, "client_secret_basic"),
            has(methods, "client_secret_post"),
        ) {
            (None | Some(true), _) => ClientProof::Basic,
            (_, Some(true)) => ClientProof::Post,
            _ => {
                let expected = "client_secret_basic or client_secret_post";
                return Err(invalid(
                    "token_endpoint_auth_methods_supported",
                    expected,
                    "others",
                ));
            }
        };
        Ok(Provider {
            authorization: endpoint("authorization_endpoint", &self.authorization_endpoint)?.url,
            token: endpoint("token_endpoint", &self.token_endpoint)?,
            keys: endpoint("jwks_uri", &self.jwks_uri)?,
            proof,
            names_itself: self.authorization_response_iss_parameter_supported,
        })
    }
}
