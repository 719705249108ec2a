//! How a company's own network lets a connection out: a proxy, a certificate authority of its own, a certificate that we
//! show (mutual TLS). Settings of the connection, per system; without them a request goes straight to the host and trusts
//! Mozilla's roots. The environment has no say here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Largest text of certificates or of a key, in bytes: a secret of AWS holds 64 KiB in all.
const PEM_BYTES_MAX: usize = 32 * 1024;
/// Most certificates of a company's authorities, and most in a chain of ours.
const CERTIFICATES_MAX: usize = 32;

/// How the sentences begin that say what is wrong with a route. None of them repeats a value.
pub(crate) const SENTENCES: [&str; 6] = [
    "proxy: ",
    "ca_certificates: ",
    "client_certificate: ",
    "client_certificate is missing",
    "client_key: ",
    "client_key is missing",
];

/// The section `network` of a system, as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Written {
    proxy: Option<SecretString>,
    ca_certificates: Option<String>,
    client_certificate: Option<String>,
    client_key: Option<SecretString>,
}

/// The way out to one system. Known by what it was made of, and never shown: it may hold a key and a password.
#[derive(Clone, Deserialize, Default)]
#[serde(try_from = "Written")]
pub struct Route {
    pub(crate) proxy: Option<Arc<Proxy>>,
    /// `None` for the ordinary: Mozilla's roots, no certificate of ours.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    digest: [u8; 32],
}

/// An HTTP proxy that opens tunnels (`CONNECT`, RFC 9110 §9.3.6).
pub(crate) struct Proxy {
    /// Its host, without brackets, in lower case.
    pub(crate) host: String,
    pub(crate) port: u16,
    authorization: Option<SecretString>,
}

impl Proxy {
    /// For the library that reads. What it sends on asking for a tunnel is what a write sends.
    pub(crate) fn for_reads(&self) -> Result<reqwest::Proxy, String> {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        let unusable = |_| "the proxy's address is none".to_owned();
        let proxy = reqwest::Proxy::all(format!("http://{host}:{}", self.port)).map_err(unusable)?;
        Ok(match self.authorization()? {
            Some(value) => proxy.custom_http_auth(value),
            None => proxy,
        })
    }

    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let Some(text) = &self.authorization else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(text.expose_secret())
            .map_err(|_| "what the proxy is told of us is no header".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Route")
            .field("proxy", &self.proxy.is_some())
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}
impl Eq for Route {}
impl PartialOrd for Route {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Route {
    fn cmp(&self, other: &Self) -> Ordering {
        self.digest.cmp(&other.digest)
    }
}

impl Route {
    /// Through this proxy (`http://host:port`) with this `Proxy-Authorization`, everything else as usual.
    ///
    /// # Errors
    /// A sentence that names no value, when it is no proxy's address.
    pub fn through(proxy: &str, authorization: Option<SecretString>) -> Result<Self, String> {
        let route = Self::try_from(Written {
            proxy: Some(proxy.into()),
            ..Written::default()
        })?;
        let proxy = route.proxy.as_deref().map(|proxy| Proxy {
            host: proxy.host.clone(),
            port: proxy.port,
            authorization: authorization.or_else(|| proxy.authorization.clone()),
        });
        Ok(Self {
            proxy: proxy.map(Arc::new),
            ..route
        })
    }
}

impl TryFrom<Written> for Route {
    type Error = String;

    /// Nothing of a value is repeated in what is wrong with it.
    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            proxy,
            ca_certificates,
            client_certificate,
            client_key,
        } = written;
        let mut digest = Sha256::new();
        let exposed = |secret: &Option<SecretString>| {
            secret
                .as_ref()
                .map(|secret| secret.expose_secret().to_owned())
                .unwrap_or_default()
        };
        for part in [
            exposed(&proxy),
            ca_certificates.clone().unwrap_or_default(),
            client_certificate.clone().unwrap_or_default(),
            exposed(&client_key),
        ] {
            digest.update(Sha256::digest(part));
        }
        Ok(Self {
            proxy: proxy.map(read_proxy).transpose()?.map(Arc::new),
            tls: tls(ca_certificates, client_certificate, client_key)?.map(Arc::new),
            digest: digest.finalize().into(),
        })
    }
}

fn read_proxy(url: SecretString) -> Result<Proxy, String> {
    const EXPECTED: &str =
        "proxy: http://host:port was expected, with user:password@ before the host when it asks for them";
    let parsed = reqwest::Url::parse(url.expose_secret()).map_err(|_| EXPECTED.to_owned())?;
    let host = parsed.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_bare = parsed.path() == "/" && parsed.query().is_none() && parsed.fragment().is_none();
    if parsed.scheme() != "http" || host.is_empty() || !is_bare {
        return Err(EXPECTED.to_owned());
    }
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| EXPECTED.to_owned())
    };
    let authorization = if parsed.username().is_empty() {
        None
    } else {
        let password = decoded(parsed.password().unwrap_or_default())?;
        let pair = format!("{}:{password}", decoded(parsed.username())?);
        Some(SecretString::from(format!("Basic {}", STANDARD.encode(pair))))
    };
    Ok(Proxy {
        host: host.to_ascii_lowercase(),
        port: parsed.port_or_known_default().unwrap_or(80),
        authorization,
    })
}

/// The TLS of a route; `None` for the ordinary one.
fn tls(
    authorities: Option<String>,
    certificate: Option<String>,
    key: Option<SecretString>,
) -> Result<Option<rustls::ClientConfig>, String> {
    let identity = match (certificate, key) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => return Err("client_key is missing: client_certificate needs its key".to_owned()),
        (None, Some(_)) => {
            return Err("client_certificate is missing: client_key is the key of one".to_owned());
        }
    };
    if authorities.is_none() && identity.is_none() {
        return Ok(None);
    }
    let mut roots = mozillas_roots()?;
    if let Some(pem) = authorities {
        for authority in certificates("ca_certificates", &pem)? {
            roots
                .add(authority)
                .map_err(|_| "ca_certificates: one of them is no authority's certificate".to_owned())?;
        }
    }
    let builder = builder()?.with_root_certificates(roots);
    let Some((certificate, key)) = identity else {
        return Ok(Some(builder.with_no_client_auth()));
    };
    let chain = certificates("client_certificate", &certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
        .map_err(|_| "client_key: one private key as PEM was expected".to_owned())?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|_| {
        "client_key: it is not the key of client_certificate, or of no kind that TLS uses".to_owned()
    })?;
    Ok(Some(config))
}

fn certificates(field: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let expected = || format!("{field}: 1 to {CERTIFICATES_MAX} certificates as PEM were expected");
    if pem.len() > PEM_BYTES_MAX {
        return Err(format!("{field}: at most {PEM_BYTES_MAX} bytes were expected"));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|_| expected())?;
    if found.is_empty() || found.len() > CERTIFICATES_MAX {
        return Err(expected());
    }
    Ok(found)
}

/// Mozilla's roots, compiled in.
fn mozillas_roots() -> Result<rustls::RootCertStore, String> {
    let mut roots = rustls::RootCertStore::empty();
    let (_, unreadable) =
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    if unreadable > 0 {
        return Err(format!("{unreadable} root certificates cannot be read"));
    }
    Ok(roots)
}

fn builder() -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

/// What is spoken where nothing else was asked for.
pub(super) fn ordinary_tls() -> Result<rustls::ClientConfig, String> {
    Ok(builder()?
        .with_root_certificates(mozillas_roots()?)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests;
