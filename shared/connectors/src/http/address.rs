//! Addresses: the base URL of a tenant, which is configuration and not trusted, and percent-encoded queries.

use domain::problem::Problem;
use serde::Deserialize;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The full URL of a tenant with its context root, for example `https://example.qad.com/clouderp`; kept whole.
///
/// Only `https`, except towards this very machine; no user information, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BaseUrl {
    text: String,
    host: String,
}

impl BaseUrl {
    /// The URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host, with the port when it is not the scheme's own: what pacing is keyed by and logs show.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The URL as one that names the same tenant is compared with it: a full stop behind the host's name says nothing. Case of
    /// scheme and host, the scheme's own port and a slash at the end are gone already; another name of the same host is not
    /// known as one.
    pub fn tenant(&self) -> String {
        let name = self.name();
        match name.strip_suffix('.') {
            Some(bare) => self.text.replacen(name, bare, 1),
            None => self.text.clone(),
        }
    }

    /// Scheme, host and port as a URL's origin is written.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.text.starts_with("https:") {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.host)
    }

    /// The host without the port.
    pub(crate) fn name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        }
    }

    /// True when it is this very machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.name())
    }

    /// The address of a path (beginning with a slash) with a query.
    pub fn at(&self, path: &str, query: &[(&str, String)]) -> String {
        let mut address = format!("{}{path}", self.text);
        if !query.is_empty() {
            let separator = if path.contains('?') { '&' } else { '?' };
            address.push(separator);
            address.push_str(&encode_pairs(query));
        }
        address
    }
}

impl std::str::FromStr for BaseUrl {
    type Err = Problem;
    fn from_str(text: &str) -> Result<Self, Problem> {
        let refuse = |expected: &str, actual: &str| {
            Problem::new(
                "BASE_URL_INVALID",
                "Enter the full URL of the tenant, with its context root.",
            )
            .expected(expected)
            .actual(actual)
        };
        let trimmed = text.trim();
        // What is refused is not repeated: it may hold a password.
        let url =
            reqwest::Url::parse(trimmed).map_err(|error| refuse("an absolute URL", &error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse("a URL without user name and password", "a URL with them"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refuse("a URL without query and fragment", "a URL with them"));
        }
        let host = url
            .host_str()
            .ok_or_else(|| refuse("a URL with a host", trimmed))?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(host)) {
            return Err(refuse("a URL that begins with https://", url.scheme()));
        }
        let shown = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            text: url.as_str().trim_end_matches('/').to_owned(),
            host: shown,
        })
    }
}

impl TryFrom<String> for BaseUrl {
    type Error = Problem;
    fn try_from(text: String) -> Result<Self, Problem> {
        text.parse()
    }
}

/// True for `localhost`, 127.0.0.0/8 and ::1.
fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// `name=value&…`, percent-encoded: right for a query and for a form.
pub(crate) fn encode_pairs(pairs: &[(&str, String)]) -> String {
    let encoded: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    encoded.join("&")
}

/// Percent-encodes everything but letters, digits and `-._~` (RFC 3986 unreserved), so that `+`, `&` and `,` survive.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_keeps_its_context_root() {
        let base: BaseUrl = " https://Example.QAD.com/clouderp/ ".parse().unwrap();
        assert_eq!(base.as_str(), "https://example.qad.com/clouderp");
        assert_eq!(base.host(), "example.qad.com");
        assert_eq!(
            base.at("/api/x", &[("a[gt]", "1+1, ä".to_owned())]),
            "https://example.qad.com/clouderp/api/x?a%5Bgt%5D=1%2B1%2C%20%C3%A4"
        );
    }

    #[test]
    fn one_tenant_is_known_however_its_address_is_written() {
        let tenant = |text: &str| text.parse::<BaseUrl>().unwrap().tenant();
        let one = tenant("https://qad.example.com/clouderp");
        for same in [
            "https://QAD.Example.COM/clouderp/",
            "HTTPS://qad.example.com:443/clouderp",
            "https://qad.example.com./clouderp",
            "https://QAD.example.com.:443/clouderp//",
        ] {
            assert_eq!(tenant(same), one, "{same}");
        }
        for other in [
            "https://qad.example.com:8443/clouderp",
            "https://qad.example.com/ClouDerp",
            "https://erp.example.com/clouderp",
            "https://qad.example.com",
        ] {
            assert_ne!(tenant(other), one, "{other}");
        }
        assert_eq!(
            tenant("https://qad.example.com.:8443/a"),
            "https://qad.example.com:8443/a"
        );
    }

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for text in [
            "http://127.0.0.1:8080/clouderp",
            "http://localhost:1",
            "http://[::1]:9/x",
            "http://127.8.8.8",
        ] {
            assert!(text.parse::<BaseUrl>().is_ok(), "{text}");
        }
        for text in [
            "http://example.com",
            "http://169.254.169.254/latest",
            "http://localhost.example.com",
            "ftp://localhost",
            "https://user:hunter2@example.com",
            "https://example.com/?a=1",
            "https://example.com/#x",
            "example.com",
            "",
        ] {
            let problem = text.parse::<BaseUrl>().unwrap_err();
            assert_eq!(problem.code, "BASE_URL_INVALID", "{text}");
            assert!(!problem.to_string().contains("hunter2"));
        }
    }
}
