//! Settings that operators write, and numbers that everybody writes.

use connectors::connection::ConnectionDocument;
use connectors::http::address::BaseUrl;
use connectors::http::outbound::Network;
use domain::money::parse_decimal;

/// What the corpus uses where a credential belongs.
const CREDENTIAL: &str = "canary-credential";

pub(crate) fn connection_document(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match ConnectionDocument::parse(text) {
        Ok(document) => assert!(
            !format!("{document:?}").contains(CREDENTIAL) || !is_a_credential(text),
            "a credential is printed"
        ),
        Err(problems) => assert!(!problems.is_empty(), "refused without a reason"),
    }
}

/// True when the marker stands where a credential belongs, and nowhere else.
fn is_a_credential(text: &str) -> bool {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let at = |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_str) == Some(CREDENTIAL);
    let places = [
        "/coupa/client_secret",
        "/qad/auth/password",
        "/qad/auth/client_secret",
    ];
    let there = places.iter().filter(|place| at(place)).count();
    there > 0 && text.matches(CREDENTIAL).count() == there
}

/// A decimal that is read is exactly the one that is written again.
pub(crate) fn decimal(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(number) = parse_decimal(text) {
        assert_eq!(parse_decimal(&number.to_string()), Ok(number), "{text}");
        let _ = number.checked_mul(number);
    }
}

/// Base URLs and granted ranges.
pub(crate) fn network(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(base) = text.parse::<BaseUrl>() {
        let again: BaseUrl = base.as_str().parse().expect("a base URL is one again");
        assert_eq!(again, base);
        assert!(base.as_str().starts_with("https://") || base.as_str().starts_with("http://"));
    }
    let _ = text.parse::<Network>();
}
