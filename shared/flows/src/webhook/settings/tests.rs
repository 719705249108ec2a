//! A document is taken whole or refused with everything that is wrong with it.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const SECRET: &str = "fictional-secret-for-this-test";

fn parse(document: &Value) -> Result<WebhookSettings, Vec<Problem>> {
    WebhookSettings::parse(&document.to_string().into())
}

/// The fields that a document is refused for.
fn refused_fields(document: &Value) -> Vec<String> {
    parse(document)
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|problem| problem.field)
        .collect()
}

fn call_out(id: &str, secret: &str) -> Value {
    json!({"scheme": "coupa-call-out", "secrets": [SECRET], "call_out": {"clients": [{"id": id, "secret": secret}]}})
}

fn custom(changes: Value) -> Value {
    let mut custom = json!({"signature_header": "x-s", "encoding": "hex", "signed_content": "{body}"});
    custom
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    json!({"scheme": "custom", "secrets": [SECRET], "custom": custom})
}

#[test]
fn a_secret_has_24_bytes_or_the_document_is_refused() {
    for length in [0, 1, 23, 513] {
        let secret = "x".repeat(length);
        assert_eq!(
            refused_fields(&json!({"scheme": "coupa-hmac", "secrets": [SECRET, secret]})),
            ["secrets[1]"]
        );
        assert_eq!(
            refused_fields(&call_out("client", &secret)).first().unwrap(),
            "call_out.clients[0].secret"
        );
    }
    for length in [24, 512] {
        let secret = "x".repeat(length);
        assert!(parse(&json!({"scheme": "coupa-hmac", "secrets": [secret]})).is_ok());
    }
    // 23 bytes once decoded, whatever the length of the text.
    let short = STANDARD.encode([7; 23]);
    for document in [
        json!({"scheme": "standard-webhooks", "secrets": [format!("whsec_{short}")]}),
        json!({"scheme": "standard-webhooks", "secrets": ["whsec_not base64 at all, but long enough"]}),
    ] {
        assert_eq!(refused_fields(&document), ["secrets[0]"]);
    }
}

#[test]
fn one_or_two_secrets_are_active() {
    for secrets in [json!([]), json!([SECRET, SECRET, SECRET])] {
        assert_eq!(
            refused_fields(&json!({"scheme": "github", "secrets": secrets})),
            ["secrets"]
        );
    }
}

#[test]
fn what_a_scheme_does_not_use_is_refused_with_all_else_that_is_wrong() {
    let document = json!({
        "scheme": "github", "secrets": ["short"], "require_timestamp": true, "tolerance_seconds": 0,
        "call_out": {"clients": []}, "event": {"id_pointer": "object.id", "types": {}},
    });
    assert_eq!(
        refused_fields(&document),
        [
            "require_timestamp",
            "tolerance_seconds",
            "call_out",
            "secrets[0]",
            "event.types",
            "event.id_pointer",
            "tolerance_seconds"
        ]
    );
}

#[test]
fn a_document_that_cannot_be_read_is_refused_without_quoting_it() {
    let documents = [
        String::new(),
        "null".to_owned(),
        "[]".to_owned(),
        SECRET.to_owned(),
        format!("\"{SECRET}\""),
        format!(r#"{{"scheme":"{SECRET}","secrets":["{SECRET}"]}}"#),
        format!(r#"{{"scheme":"github","secrets":"{SECRET}"}}"#),
        format!(r#"{{"scheme":"github","secrets":["{SECRET}"],"tolerance_seconds":"{SECRET}"}}"#),
        format!(r#"{{"scheme":"github","secrets":["{SECRET}"]}} {SECRET}"#),
        format!(r#"{{"scheme":"github","secrets":["{SECRET}"],"secrets":[]}}"#),
        format!(r#"{{"scheme":"github","secrets":["{SECRET}"],"tolerance":1}}"#),
        r#"{"scheme":"github"}"#.to_owned(),
        "x".repeat(DOCUMENT_BYTES_MAX + 1),
    ];
    for document in documents {
        let problems = WebhookSettings::parse(&document.clone().into()).unwrap_err();
        assert!(!problems.is_empty(), "{document}");
        for problem in problems {
            assert_eq!(problem.code, "WEBHOOK_SETTINGS_INVALID");
            assert!(!problem.to_string().contains(SECRET), "{problem}");
        }
    }
    let unknown = json!({"scheme": "github", "secrets": [SECRET], "tolerance": 1});
    let problem = parse(&unknown).unwrap_err().remove(0);
    assert!(
        problem.actual.starts_with("unknown field `tolerance`"),
        "{problem}"
    );
}

#[test]
fn a_scheme_without_its_part_is_refused() {
    assert_eq!(
        refused_fields(&json!({"scheme": "custom", "secrets": [SECRET]})),
        ["custom"]
    );
    assert_eq!(
        refused_fields(&json!({"scheme": "coupa-call-out", "secrets": [SECRET]})),
        ["call_out"]
    );
}

#[test]
fn a_custom_scheme_signs_the_body_once_and_only_what_has_a_header() {
    assert!(parse(&custom(json!({}))).is_ok());
    for content in [
        "",
        "body",
        "{timestamp}",
        "{body}{body}",
        "{body}.{",
        "{body}.{x}",
        "{{body}",
    ] {
        assert_eq!(
            refused_fields(&custom(json!({"signed_content": content}))),
            ["custom.signed_content"],
            "{content}"
        );
    }
    let cases = [
        (
            json!({"signed_content": "{timestamp}{body}"}),
            "custom.timestamp_header",
        ),
        (json!({"timestamp_header": "x-t"}), "custom.timestamp_header"),
        (json!({"signed_content": "{id}{body}"}), "custom.id_header"),
        (json!({"signature_header": "x s"}), "custom.signature_header"),
        (json!({"id_header": ""}), "custom.id_header"),
        (json!({"prefix": "a,b"}), "custom.prefix"),
        (json!({"list_separator": "a"}), "custom.list_separator"),
        (json!({"list_separator": "="}), "custom.list_separator"),
        (json!({"secret_encoding": "hex"}), "secrets[0]"),
    ];
    for (changes, field) in cases {
        assert_eq!(refused_fields(&custom(changes.clone())), [field], "{changes}");
    }
}

#[test]
fn call_out_clients_are_written_alike_in_every_encoding() {
    let secret = "fictional-client-secret-0";
    assert!(parse(&call_out("client_1.a~b-c", secret)).is_ok());
    for id in ["", "a:b", "a b", "a+b", "ä"] {
        assert_eq!(
            refused_fields(&call_out(id, secret)),
            ["call_out.clients[0]"],
            "{id}"
        );
    }
    let mut long = call_out("client", secret);
    for (seconds, good) in [(59, false), (60, true), (86_400, true), (86_401, false)] {
        long["call_out"]["token_seconds"] = json!(seconds);
        assert_eq!(parse(&long).is_ok(), good, "{seconds}");
    }
}

proptest! {
    #[test]
    fn no_document_makes_it_panic(text in "\\PC{0,200}|\\{(\"(scheme|secrets|custom|event)\":(\"[a-z-]{0,20}\"|[0-9]{1,12}|\\[\\]|\\{\\}|null),?){0,4}\\}") {
        let refused = WebhookSettings::parse(&text.into()).is_err();
        prop_assert!(refused);
    }
}
