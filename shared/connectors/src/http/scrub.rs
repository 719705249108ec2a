//! What the other side says went wrong is logged, stored and shown to people. What it repeats of our credentials is taken
//! out first: some systems quote the header they did not like.

use super::address::encode;
use super::auth::Scheme;
use super::transport::Response;
use memchr::memmem;
use secrecy::{ExposeSecret, SecretString};

/// Shorter secrets are not looked for: what they would blank out is more likely a word.
const SECRET_BYTES_MIN: usize = 8;
/// What stands in a secret's place.
const HIDDEN: &[u8] = b"[hidden]";

/// Blanks out every secret in an answer that reports a failure. What succeeds is left as it is: it is data, and none of
/// its texts is passed on as a message.
pub(crate) fn scrub(response: &mut Response, scheme: &Scheme, token: Option<&SecretString>) {
    let is_refused_save = memmem::find(&response.body, b"submitResult").is_some()
        && memmem::find(&response.body, b"false").is_some();
    if matches!(response.status, 200..=299) && !is_refused_save {
        return;
    }
    for secret in scheme.secrets().into_iter().chain(token) {
        // A header's value is `Bearer <token>` or `Basic <credentials>`: either half may be quoted.
        let secret = secret.expose_secret();
        let secret = secret.rsplit(' ').next().unwrap_or(secret);
        if secret.len() < SECRET_BYTES_MIN {
            continue;
        }
        blank(&mut response.body, secret.as_bytes());
        let encoded = encode(secret);
        if encoded != secret {
            blank(&mut response.body, encoded.as_bytes());
        }
    }
}

fn blank(body: &mut Vec<u8>, secret: &[u8]) {
    let Some(first) = memmem::find(body, secret) else {
        return;
    };
    let mut rest: &[u8] = body;
    let mut clean = Vec::with_capacity(body.len());
    let mut next = Some(first);
    while let Some((before, after)) = next.and_then(|at| {
        let (before, from) = rest.split_at_checked(at)?;
        Some((before, from.get(secret.len()..)?))
    }) {
        clean.extend_from_slice(before);
        clean.extend_from_slice(HIDDEN);
        rest = after;
        next = memmem::find(rest, secret);
    }
    clean.extend_from_slice(rest);
    *body = clean;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scheme() -> Scheme {
        Scheme::Basic {
            username: "user".to_owned(),
            password: "hunter2 & more".into(),
        }
    }

    fn scrubbed(status: u16, body: &str) -> String {
        let mut response = Response {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        };
        scrub(&mut response, &scheme(), Some(&"Bearer canary-token-1".into()));
        String::from_utf8(response.body).unwrap()
    }

    #[test]
    fn what_a_refusal_quotes_of_our_credentials_is_blanked_out() {
        for (said, kept) in [
            ("no: Bearer canary-token-1!", "no: Bearer [hidden]!"),
            ("canary-token-1canary-token-1", "[hidden][hidden]"),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(scrubbed(401, said), kept);
            assert_eq!(scrubbed(200, said), said, "data is not touched");
        }
        let refused = r#"{"submitResult":{"success":false,"errors":[{"message":"who is canary-token-1"}]}}"#;
        assert!(!scrubbed(200, refused).contains("canary"));
    }

    proptest! {
        #[test]
        fn nothing_else_is_changed(before in "[a-c]{0,40}", secret in "[a-b]{1,4}", after in "[a-c]{0,40}") {
            let mut body = format!("{before}{secret}{after}").into_bytes();
            blank(&mut body, secret.as_bytes());
            let expected = format!("{before}{secret}{after}").replace(&secret, "[hidden]");
            prop_assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }
}
