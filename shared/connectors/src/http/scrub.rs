//! What the other side says went wrong is logged, stored and shown to people. What it repeats of our credentials is taken
//! out first: some systems quote the header they did not like.

use super::address::encode;
use super::transport::Response;
use crate::json::{self, Json, Node};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Shorter secrets are not looked for: what they would blank out is more likely a word.
const SECRET_BYTES_MIN: usize = 8;
/// What stands in a secret's place.
const HIDDEN: &str = "[hidden]";

/// Blanks out every secret in an answer that reports a failure. What succeeds is left as it is: it is data, and none of
/// its texts is passed on as a message.
///
/// JSON is read first, so that a secret is found however its letters are escaped.
pub(crate) fn scrub(response: &mut Response, secrets: &[&str]) {
    let is_success = matches!(response.status, 200..=299);
    if is_success && !refuses(&response.body) {
        return;
    }
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    let as_text = |body: &[u8]| hide(&String::from_utf8_lossy(body), &forms).into_bytes();
    response.body = match json::parse(&response.body) {
        Ok(mut json) => {
            hide_in(&mut json, &forms);
            serde_json::to_vec(&json).unwrap_or_else(|_| as_text(&response.body))
        }
        Err(_) => as_text(&response.body),
    };
}

/// QAD refuses with a good status, in one of two shapes. The data of an answer are skipped, not read.
fn refuses(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow, rename = "submitResult")]
        submit_result: Option<&'a RawValue>,
        #[serde(borrow)]
        errors: Option<&'a RawValue>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
    }
    let holds = |part: &[u8]| memmem::find(body, part).is_some();
    if !holds(b"submitResult") && !holds(b"errors") {
        return false;
    }
    // What is no such object has no message that anybody passes on.
    let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(body) else {
        return false;
    };
    let read = |raw: &RawValue| json::parse(raw.get().as_bytes()).unwrap_or(Json::Null);
    let failed = envelope
        .submit_result
        .is_some_and(|raw| Node::root(&read(raw)).get("success").flag() != Ok(Some(true)));
    let has_errors = envelope
        .errors
        .is_some_and(|raw| !Node::root(&read(raw)).items().unwrap_or_default().is_empty());
    failed || (envelope.data.is_none() && has_errors)
}

/// A secret as it may be quoted: as it is, and escaped for an address, for JSON inside a text, and for XML.
fn forms(secret: &str) -> Vec<String> {
    if secret.len() < SECRET_BYTES_MIN {
        return Vec::new();
    }
    let quoted = serde_json::Value::from(secret).to_string();
    let in_json = quoted
        .trim_start_matches('"')
        .strip_suffix('"')
        .unwrap_or_default();
    let in_xml = secret
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let in_attribute = in_xml.replace('"', "&quot;");
    let mut forms = vec![
        secret.to_owned(),
        encode(secret),
        in_json.to_owned(),
        in_json.replace('/', "\\/"),
        in_attribute.replace('\'', "&apos;"),
        in_attribute.replace('\'', "&#39;"),
        in_xml,
        in_attribute,
    ];
    forms.retain(|form| !form.is_empty());
    // The longest first: a shorter form may be the beginning of a longer one.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms
}

fn hide(text: &str, forms: &[String]) -> String {
    forms
        .iter()
        .fold(text.to_owned(), |text, form| text.replace(form.as_str(), HIDDEN))
}

fn hide_in(json: &mut Json, forms: &[String]) {
    match json {
        Json::Null | Json::Bool(_) => {}
        Json::Number(text) => {
            // A secret of digits alone.
            if forms.contains(text) {
                *json = Json::Text(HIDDEN.to_owned());
            }
        }
        Json::Text(text) => *text = hide(text, forms),
        // A message, and from here on one that can be read.
        Json::Garbled(text) => *json = Json::Text(hide(text, forms)),
        Json::List(items) => items.iter_mut().for_each(|item| hide_in(item, forms)),
        Json::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(name, mut member)| {
                    hide_in(&mut member, forms);
                    (hide(&name, forms), member)
                })
                .collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRETS: [&str; 4] = [
        "correct horse battery staple",
        r#"p"a\ss/word&'1"#,
        "canary-token-1",
        "short",
    ];

    fn scrubbed(status: u16, body: &str) -> String {
        let mut response = Response {
            status,
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
        };
        scrub(&mut response, &SECRETS);
        String::from_utf8(response.body).unwrap()
    }

    #[test]
    fn what_a_refusal_quotes_of_our_credentials_is_blanked_out() {
        for (said, kept) in [
            ("no: Bearer canary-token-1!", "no: Bearer [hidden]!"),
            ("canary-token-1canary-token-1", "[hidden][hidden]"),
            ("correct horse battery staple", "[hidden]"),
            ("correct%20horse%20battery%20staple", "[hidden]"),
            ("short horse", "short horse"),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(scrubbed(401, said), kept);
            assert_eq!(scrubbed(200, said), said, "data is not touched");
        }
    }

    #[test]
    fn however_its_letters_are_escaped() {
        let messages = |body: &str| crate::http::error_messages(scrubbed(400, body).as_bytes()).join("; ");
        for said in [
            r#"{"errors":[{"message":"p\"a\\ss\/word&'1"}]}"#,
            r#"{"errors":[{"message":"\u0070\"a\\ss/word\u0026'1"}]}"#,
            r#"{"errors":{"p\"a\\ss/word&'1":["p\"a\\ss/word&'1"]}}"#,
            r#"{"message":"{\"password\":\"p\\\"a\\\\ss/word&'1\"}"}"#,
            "<errors><error>p&quot;a\\ss/word&amp;&#39;1</error></errors>",
            "<errors><error>p\"a\\ss/word&amp;'1</error></errors>",
        ] {
            let shown = messages(said);
            assert!(shown.contains("[hidden]"), "{said}: {shown}");
            assert!(!shown.contains("ss/word"), "{said}: {shown}");
        }
    }

    #[test]
    fn a_refusal_with_a_good_status_is_one_and_data_are_data() {
        for refused in [
            r#"{"submitResult":{"success":false,"errors":[{"message":"who is canary-token-1"}]}}"#,
            r#"{"submitResult":{"success":"false","errors":[{"message":"who is canary-token-1"}]}}"#,
            r#"{"errors":[{"message":"Bearer canary-token-1"}]}"#,
            r#"{"data":null,"errors":["canary-token-1"]}"#,
        ] {
            assert!(!scrubbed(200, refused).contains("canary"), "{refused}");
        }
        for data in [
            r#"{"data":{"a":[{"name":"canary-token-1","isActive":false}]},"submitResult":{"success":true}}"#,
            r#"{"data":{"name":"canary-token-1"},"errors":[]}"#,
        ] {
            assert_eq!(scrubbed(200, data), data);
        }
    }

    proptest! {
        #[test]
        fn nothing_else_is_changed(before in "[a-c]{0,40}", secret in "[a-b]{8,9}", after in "[a-c]{0,40}") {
            let text = format!("{before}{secret}{after}");
            prop_assert_eq!(hide(&text, &forms(&secret)), text.replace(&secret, HIDDEN));
        }
    }
}
