//! Credentials, retries, pauses, deadlines.

use super::*;
use ::domain::ids::InvoiceId;
use flows::ports::{Coupa, Qad, ReadError, WriteError};
use secrecy::ExposeSecret;
use serde_json::json;

const ID: InvoiceId = InvoiceId(92010);

fn empty_page() -> Outcome {
    answer(200, "[]")
}

async fn list(coupa: &CoupaClient) -> Result<(), ReadError> {
    coupa.exportable_invoices(None).await.map(drop)
}

// ----------------------------------------------------------------------------------------------------------- tokens

#[tokio::test]
async fn many_calls_at_once_ask_for_one_token() {
    let bench = Bench::new();
    for _ in 0..8 {
        bench.script.then(empty_page());
    }
    let calls = (0..8).map(|_| list(&bench.coupa));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(bench.script.token_requests().len(), 1);
    for request in bench.script.sent() {
        assert_eq!(header(&request, "authorization"), Some("Bearer token-1"));
    }
}

#[tokio::test]
async fn another_instance_uses_the_shared_token() {
    let bench = Bench::new();
    bench.script.then(empty_page());
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    let (other, _) = bench.another_instance();
    list(&other).await.unwrap();
    assert_eq!(bench.script.token_requests().len(), 1);
    assert_eq!(
        header(&bench.script.sent()[1], "authorization"),
        Some("Bearer token-1")
    );
}

#[tokio::test]
async fn a_hundred_cold_starts_ask_for_one_token() {
    let bench = Bench::new();
    let instances: Vec<_> = (0..100).map(|_| bench.another_instance().0).collect();
    for _ in &instances {
        bench.script.then(empty_page());
    }
    for outcome in futures_util::future::join_all(instances.iter().map(list)).await {
        outcome.unwrap();
    }
    assert_eq!(bench.script.token_requests().len(), 1);
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_by_one() {
    let bench = Bench::new();
    for _ in 0..4 {
        bench.script.then(empty_page());
    }
    list(&bench.coupa).await.unwrap();
    let (other, _) = bench.another_instance();
    list(&other).await.unwrap();
    // Four fifths of 86399 s, less the largest jitter of a twelfth.
    bench.pass(62_000);
    list(&bench.coupa).await.unwrap();
    assert_eq!(bench.script.token_requests().len(), 2);
    list(&other).await.unwrap();
    assert_eq!(
        bench.script.token_requests().len(),
        2,
        "the other finds the new one in the cache"
    );
    assert_eq!(
        header(&bench.script.sent()[3], "authorization"),
        Some("Bearer token-2")
    );
}

#[tokio::test]
async fn while_somebody_renews_the_old_token_stays_in_use() {
    let bench = Bench::new();
    bench.script.then(empty_page());
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    bench.pass(62_000);
    for (state, holder) in bench.tokens.slots.lock().unwrap().values_mut() {
        state.leased_until = Some(START.plus_seconds(62_030));
        *holder = "somebody".to_owned();
    }
    list(&bench.coupa).await.unwrap();
    assert_eq!(bench.script.token_requests().len(), 1);
    assert!(bench.slept_millis().is_empty());
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_old_token_in_use() {
    for failure in [
        answer(503, ""),
        answer(401, r#"{"error":"invalid_client"}"#),
        Err(TransportError::NotSent("dns".into())),
    ] {
        let bench = Bench::new();
        bench.script.then(empty_page());
        bench.script.then(empty_page());
        list(&bench.coupa).await.unwrap();
        bench.pass(62_000);
        bench.script.then_token(failure);
        list(&bench.coupa).await.unwrap();
        assert_eq!(
            header(&bench.script.sent()[1], "authorization"),
            Some("Bearer token-1")
        );
    }
}

#[tokio::test]
async fn past_its_end_one_waits_for_the_other_but_not_forever() {
    let bench = Bench::new();
    let slot = bench.coupa.peer.auth.slot.clone();
    let lease_end = START.plus_seconds(35);
    bench.tokens.slots.lock().unwrap().insert(
        slot,
        (
            TokenState {
                leased_until: Some(lease_end),
                ..TokenState::default()
            },
            "somebody".to_owned(),
        ),
    );
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    let waited: u128 = bench.slept_millis().iter().sum();
    assert!((35_000..40_000).contains(&waited), "{waited}");
    assert_eq!(
        bench.script.token_requests().len(),
        1,
        "the lease ended, so we fetched"
    );
}

#[tokio::test]
async fn a_token_that_others_never_deliver_leaves_the_write_unsent() {
    let bench = Bench::new();
    let slot = bench.coupa.peer.auth.slot.clone();
    let state = TokenState {
        leased_until: Some(START.plus_seconds(100_000)),
        ..TokenState::default()
    };
    bench
        .tokens
        .slots
        .lock()
        .unwrap()
        .insert(slot, (state, "somebody".to_owned()));
    let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    assert!(
        matches!(&error, WriteError::NotApplied { problem, .. } if problem.code == "COUPA_TOKEN_AWAITED"),
        "{error}"
    );
    assert!(bench.script.sent().is_empty());
}

#[tokio::test]
async fn a_token_is_not_used_close_to_its_end() {
    let bench = Bench::new();
    bench
        .script
        .then_token(answer(200, r#"{"access_token":"short","expires_in":"1000"}"#));
    bench.script.then(empty_page());
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    let token = bench
        .tokens
        .slots
        .lock()
        .unwrap()
        .values()
        .next()
        .unwrap()
        .0
        .token
        .clone()
        .unwrap();
    // 120 s of the longest call and 5 s of skew before the end.
    assert_eq!(token.expires_at, START.plus_seconds(1000 - 125));
    assert_eq!(token.refresh_after, START.plus_millis(800_000 - 83_333));
    assert_eq!(token.token.expose_secret(), "short");
    bench.pass(876);
    list(&bench.coupa).await.unwrap();
    assert_eq!(bench.script.token_requests().len(), 2);
}

#[tokio::test]
async fn a_lifetime_that_is_absent_or_nonsense_is_five_minutes() {
    for body in [
        r#"{"access_token":"t"}"#,
        r#"{"access_token":"t","expires_in":0}"#,
        r#"{"access_token":"t","expires_in":-5}"#,
        r#"{"access_token":"t","expires_in":"soon"}"#,
    ] {
        let bench = Bench::new();
        bench.script.then_token(answer(200, body));
        bench.script.then(empty_page());
        list(&bench.coupa).await.unwrap();
        let token = bench
            .tokens
            .slots
            .lock()
            .unwrap()
            .values()
            .next()
            .unwrap()
            .0
            .token
            .clone()
            .unwrap();
        assert_eq!(token.expires_at, START.plus_seconds(300 - 125), "{body}");
    }
}

#[tokio::test]
async fn a_refused_token_is_dropped_for_everyone_and_replaced_once() {
    let bench = Bench::new();
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    bench.pass(60);
    bench.script.then(answer(401, ""));
    bench.script.then(answer(200, r#"{"id":92010,"exported":true}"#));
    bench.coupa.mark_exported(ID, "key").await.unwrap();
    let sent = bench.script.sent();
    assert_eq!(header(&sent[1], "authorization"), Some("Bearer token-1"));
    assert_eq!(header(&sent[2], "authorization"), Some("Bearer token-2"));
    assert_eq!(header(&sent[2], "idempotency-key"), Some("key"));
    assert_eq!(*bench.tokens.dropped.lock().unwrap(), [1]);
    assert!(bench.slept_millis().is_empty());
}

#[tokio::test]
async fn a_second_refusal_is_the_credential() {
    let bench = Bench::new();
    for _ in 0..4 {
        bench
            .script
            .then(answer(401, r#"{"errors":[{"message":"who?"}]}"#));
    }
    let number = "PO1".parse().unwrap();
    let error = bench.qad.order(&number).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Refused(problem) if problem.code == "QAD_CREDENTIAL_REFUSED"),
        "{error}"
    );
    assert_eq!(bench.script.sent().len(), 2);
    let error = bench
        .qad
        .create_invoice(&super::qad::draft(), "key")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, WriteError::Refused(problem) if problem.code == "QAD_CREDENTIAL_REFUSED"),
        "{error}"
    );
    assert_eq!(bench.script.sent().len(), 4);
    assert_eq!(
        *bench.tokens.dropped.lock().unwrap(),
        [1, 2, 3, 4],
        "nothing refused is ever used again"
    );
}

#[tokio::test]
async fn a_wrong_credential_is_asked_with_once_a_minute_and_keeps_nobody_waiting() {
    let bench = Bench::new();
    bench
        .script
        .then_token(answer(401, r#"{"error":"invalid_client"}"#));
    for _ in 0..5 {
        let error = list(&bench.coupa).await.unwrap_err();
        assert!(
            matches!(&error, ReadError::Refused(problem) if problem.code == "COUPA_CREDENTIAL_REFUSED"),
            "{error}"
        );
    }
    assert_eq!(bench.script.token_requests().len(), 1);
    assert!(bench.script.sent().is_empty());

    // Another process with better credentials need not wait for the end of the lease.
    let (better, _) = clients(
        &"acme".parse().unwrap(),
        &bench.document,
        &bench.world,
        HTTP_TIMEOUT,
    );
    bench.script.then(empty_page());
    list(&better).await.unwrap();
    assert!(bench.slept_millis().is_empty());
    assert_eq!(bench.script.token_requests().len(), 2);

    // And the first one asks again after a minute.
    bench.pass(61);
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
}

/// A user that is locked, or a password that goes with every call: no token endpoint says no.
#[tokio::test]
async fn a_credential_that_only_the_calls_refuse_rests_too_whatever_the_scheme() {
    let basic = json!({"type": "basic", "username": "ann", "password": "a-password"});
    let password = document()["qad"]["auth"].clone();
    for (auth, calls_each) in [(basic, 1), (password, 2)] {
        let mut document = document();
        document["qad"]["auth"] = auth;
        let bench = Bench::with(&document);
        let number = "PO1".parse().unwrap();
        let order = || bench.qad.order(&number);
        for _ in 0..3 * calls_each {
            bench
                .script
                .then(answer(401, r#"{"errors":[{"message":"locked"}]}"#));
        }
        for _ in 0..6 {
            let error = order().await.unwrap_err();
            assert!(
                matches!(&error, ReadError::Refused(problem) if problem.code == "QAD_CREDENTIAL_REFUSED"),
                "{error}"
            );
        }
        assert_eq!(
            bench.script.sent().len(),
            2 * calls_each,
            "two calls in a row tell it"
        );
        bench.pass(61);
        for _ in 0..3 {
            order().await.unwrap_err();
        }
        assert_eq!(
            bench.script.sent().len(),
            3 * calls_each,
            "and one a minute after it"
        );
        bench.pass(61);
        for status in [200, 401, 200] {
            // What was refused between two good answers is no reason to rest.
            for _ in 0..if status == 401 { calls_each } else { 1 } {
                bench
                    .script
                    .then(answer(status, r#"{"data":[],"HasMoreParams":"false"}"#));
            }
            let _ = order().await;
        }
        assert_eq!(bench.script.sent().len(), 4 * calls_each + 2);
    }
}

#[tokio::test]
async fn what_a_gateway_quotes_of_an_extra_header_is_not_passed_on() {
    let mut document = document();
    document["qad"]["extra_headers"] = json!({"x-subscription-key": "canary-subscription"});
    let bench = Bench::with(&document);
    let quoting = r#"{"message":"Invalid subscription key canary-subscription"}"#;
    bench.script.then(answer(403, quoting));
    let error = bench.qad.order(&"PO1".parse().unwrap()).await.unwrap_err();
    assert!(error.problem().actual.contains("[hidden]"), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test]
async fn what_a_system_quotes_of_our_credentials_is_not_passed_on() {
    let bench = Bench::new();
    let quoting = r#"{"errors":{"session":["Bearer token-1 may not do this"]}}"#;
    bench.script.then(answer(403, quoting));
    list(&bench.coupa).await.unwrap_err();
    bench.script.then_token(answer(
        200,
        r#"{"access_token":"canary-token-2","expires_in":86399}"#,
    ));
    bench.script.then(answer(401, ""));
    bench
        .script
        .then(answer(403, &quoting.replace("token-1", "canary-token-2")));
    let error = list(&bench.coupa).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("Bearer [hidden] may not do this"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_told_to_a_person_and_not_tried_again() {
    use crate::http::outbound::Forbidden;
    let bench = Bench::new();
    let forbidden = || Err(TransportError::Forbidden(Forbidden("it leads inside".to_owned())));
    bench.script.then(forbidden());
    let error = list(&bench.coupa).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Refused(problem) if problem.code == "COUPA_ADDRESS_FORBIDDEN"),
        "{error}"
    );
    bench.script.then(forbidden());
    let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    assert!(
        matches!(&error, WriteError::Refused(problem) if problem.code == "COUPA_ADDRESS_FORBIDDEN"),
        "{error}"
    );
    assert_eq!(bench.script.sent().len(), 2);
}

#[tokio::test]
async fn a_token_that_is_only_too_young_gets_one_delayed_retry() {
    let bench = Bench::new();
    bench.script.then(answer(401, ""));
    bench.script.then(answer(401, ""));
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    assert_eq!(bench.slept_millis(), [5_000]);
    assert_eq!(
        bench.script.token_requests().len(),
        2,
        "the first refusal is answered with a new token at once"
    );

    let bench = Bench::new();
    for _ in 0..3 {
        bench.script.then(answer(401, ""));
    }
    let error = list(&bench.coupa).await.unwrap_err();
    assert!(matches!(error, ReadError::Refused(_)), "{error}");
    assert_eq!((bench.script.sent().len(), bench.slept_millis().len()), (3, 1));
}

#[tokio::test]
async fn a_dropped_generation_is_never_used_again_even_when_the_cache_is_down() {
    let bench = Bench::new();
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    bench.pass(60);
    bench.tokens.down.store(true, Ordering::SeqCst);
    bench.script.then(answer(401, ""));
    let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    assert!(
        matches!(&error, WriteError::NotApplied { problem, .. } if problem.code == "TOKEN_STORE_UNAVAILABLE"),
        "{error}"
    );
    bench.tokens.down.store(false, Ordering::SeqCst);
    bench.script.then(answer(200, ""));
    bench.coupa.mark_exported(ID, "key").await.unwrap();
    assert_eq!(
        header(&bench.script.sent()[2], "authorization"),
        Some("Bearer token-2")
    );
}

#[tokio::test]
async fn what_the_token_endpoint_answers_decides_before_anything_is_sent() {
    let page = "<!DOCTYPE html><title>Just a moment...</title>";
    for (token_answer, code, refused) in [
        (
            answer(400, r#"{"error":"invalid_scope"}"#),
            "COUPA_CREDENTIAL_REFUSED",
            true,
        ),
        (
            answer(401, r#"{"error":"invalid_client"}"#),
            "COUPA_CREDENTIAL_REFUSED",
            true,
        ),
        (answer(404, ""), "COUPA_CREDENTIAL_REFUSED", true),
        (answer(302, ""), "COUPA_CREDENTIAL_REFUSED", true),
        (answer(403, page), "COUPA_BOT_CHALLENGE", true),
        (answer(429, ""), "COUPA_TOKEN_THROTTLED", false),
        (answer(500, ""), "COUPA_TOKEN_UNAVAILABLE", false),
        (answer(200, "{"), "COUPA_TOKEN_UNREADABLE", false),
        (
            answer(200, r#"{"access_token":"a b"}"#),
            "COUPA_TOKEN_UNREADABLE",
            false,
        ),
        (
            answer(200, r#"{"access_token":null}"#),
            "COUPA_TOKEN_UNREADABLE",
            false,
        ),
        (answer(200, page), "COUPA_BOT_CHALLENGE", false),
        (
            Err(TransportError::NotSent("refused".into())),
            "COUPA_UNREACHABLE",
            false,
        ),
        (
            Err(TransportError::MaybeSent("reset".into())),
            "COUPA_UNREACHABLE",
            false,
        ),
    ] {
        let bench = Bench::new();
        bench.script.then_token(token_answer);
        let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
        assert_eq!(error.problem().code, code);
        match &error {
            WriteError::Refused(_) => assert!(refused, "{error}"),
            WriteError::NotApplied { .. } => assert!(!refused, "{error}"),
            WriteError::Unknown(_) => panic!("nothing was sent: {error}"),
        }
        assert!(bench.script.sent().is_empty());
    }
}

#[tokio::test]
async fn a_throttled_token_endpoint_pauses_the_host() {
    let bench = Bench::new();
    bench
        .script
        .then_token(answer_with(429, ("retry-after", "30"), ""));
    let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    assert!(matches!(error, WriteError::NotApplied { retry_after: Some(wait), .. } if wait.as_secs() == 30));
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    assert_eq!(bench.slept_millis(), [30_000]);
}

// ---------------------------------------------------------------------------------------------------------- schemes

#[tokio::test]
async fn token_requests_are_exactly_what_each_scheme_says() {
    let bench = Bench::new();
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    let request = &bench.script.token_requests()[0];
    assert_eq!(request.url, "https://example.coupahost.com/oauth2/token");
    assert_eq!(
        body(request),
        "grant_type=client_credentials&client_id=coupa%20id&client_secret=coupa%2Bsecret&scope=core.invoice.read%20core.invoice.write"
    );
    assert_eq!(
        header(request, "content-type"),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(header(request, "x-coupa-api-version"), Some("39"));
    assert_eq!(header(request, "user-agent"), Some("qad-coupa/0.1.0"));

    for (auth, url, sent) in [
        (
            json!({"type": "password", "client_id": "tenant", "username": "ann", "password": "p&w"}),
            "https://example.qad.com/clouderp/oauth/token",
            "grant_type=password&client_id=tenant&username=ann&password=p%26w",
        ),
        (
            json!({"type": "client-credentials", "client_id": "c", "client_secret": "s"}),
            "https://example.qad.com/clouderp/oauth/token",
            "grant_type=client_credentials&client_id=c&client_secret=s",
        ),
        (
            json!({"type": "login", "path": "/api/login", "username": "{password}", "password": "q\"uote\n"}),
            "https://example.qad.com/clouderp/api/login",
            r#"{"username":"{password}","password":"q\"uote\n"}"#,
        ),
    ] {
        let mut document = document();
        document["qad"]["auth"] = auth;
        let bench = Bench::with(&document);
        bench.script.then(answer(200, r#"{"data":[]}"#));
        bench.qad.order(&"PO1".parse().unwrap()).await.unwrap();
        let request = &bench.script.token_requests()[0];
        assert_eq!((request.url.as_str(), body(request)), (url, sent));
        assert_eq!(
            header(&bench.script.sent()[0], "authorization"),
            Some("Bearer token-1")
        );
    }
}

#[tokio::test]
async fn a_login_may_carry_its_token_anywhere() {
    let mut document = document();
    document["qad"]["auth"] = json!({
        "type": "login", "path": "/api/login", "username": "ann", "password": "x y",
        "content_type": "application/x-www-form-urlencoded", "body_template": "u={username}&p={password}",
        "token_pointer": "/session/tokens/0", "header": "X-Session", "prefix": "", "ttl_seconds": 600,
    });
    let bench = Bench::with(&document);
    bench
        .script
        .then_token(answer(200, r#"{"session":{"tokens":["abc"]}}"#));
    bench.script.then(answer(200, r#"{"data":[]}"#));
    bench.qad.order(&"PO1".parse().unwrap()).await.unwrap();
    assert_eq!(body(&bench.script.token_requests()[0]), "u=ann&p=x%20y");
    let call = &bench.script.sent()[0];
    assert_eq!(
        (header(call, "x-session"), header(call, "authorization")),
        (Some("abc"), None)
    );
    let token = bench
        .tokens
        .slots
        .lock()
        .unwrap()
        .values()
        .next()
        .unwrap()
        .0
        .token
        .clone()
        .unwrap();
    assert_eq!(token.expires_at, START.plus_seconds(600 - 125));
}

#[tokio::test]
async fn basic_has_no_token_and_nothing_to_renew() {
    let mut document = document();
    document["qad"]["auth"] = json!({"type": "basic", "username": "ann", "password": "pw"});
    let bench = Bench::with(&document);
    bench.script.then(answer(401, ""));
    let error = bench.qad.order(&"PO1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ReadError::Refused(_)), "{error}");
    assert_eq!(
        header(&bench.script.sent()[0], "authorization"),
        Some("Basic YW5uOnB3")
    );
    assert!(bench.script.token_requests().is_empty());
}

#[test]
fn a_changed_client_never_meets_an_old_token() {
    let slot = |path: &str, value: &str| {
        let mut document = document();
        *document.pointer_mut(path).unwrap() = json!(value);
        let bench = Bench::with(&document);
        (
            bench.coupa.peer.auth.slot.client.clone(),
            bench.qad.peer.auth.slot.client.clone(),
        )
    };
    let before = slot("/coupa/client_secret", "another secret, same client");
    assert_eq!(before, slot("/coupa/client_secret", "x"));
    assert_ne!(before.0, slot("/coupa/client_id", "other").0);
    assert_ne!(before.0, slot("/coupa/base_url", "https://other.coupahost.com").0);
    assert_ne!(before.0, slot("/coupa/scopes/0", "core.other").0);
    assert_ne!(before.1, slot("/qad/auth/username", "ben").1);
}

// ------------------------------------------------------------------------------------------------------------ reads

#[tokio::test]
async fn a_read_is_tried_again_while_it_can_help() {
    let bench = Bench::new();
    bench.script.then(Err(TransportError::MaybeSent("reset".into())));
    bench.script.then(answer(502, "<html>bad gateway</html>"));
    bench.script.then(answer(200, "[{\"id\":"));
    bench.script.then(empty_page());
    list(&bench.coupa).await.unwrap();
    assert_eq!(bench.slept_millis(), [500, 1_000, 2_000]);
}

#[tokio::test]
async fn a_read_gives_up_and_never_says_none() {
    for (outcome, code) in [
        (Err(TransportError::NotSent("dns".into())), "COUPA_UNREACHABLE"),
        (answer(500, ""), "COUPA_UNAVAILABLE"),
        (answer(503, ""), "COUPA_UNAVAILABLE"),
        (answer(200, ""), "COUPA_ANSWER_UNREADABLE"),
        (
            answer(200, "<html><body>Please log in</body></html>"),
            "COUPA_HTML_PAGE",
        ),
        (
            answer(200, " <!doctype HTML><script src=/cdn-cgi/challenge-platform/x>"),
            "COUPA_BOT_CHALLENGE",
        ),
        (
            answer_with(503, ("content-type", "text/html; charset=utf-8"), "x"),
            "COUPA_HTML_PAGE",
        ),
    ] {
        let bench = Bench::new();
        for _ in 0..4 {
            bench.script.then(outcome.clone());
        }
        let error = list(&bench.coupa).await.unwrap_err();
        assert!(matches!(&error, ReadError::Unavailable { .. }), "{error}");
        assert_eq!(error.problem().code, code);
        assert_eq!(bench.script.sent().len(), 4);
    }
}

#[tokio::test]
async fn a_read_that_a_person_must_help_is_not_tried_again() {
    for (status, body, code) in [
        (
            403,
            r#"{"errors":[{"severity":1,"code":"403","message":"Access is denied","fieldName":""}]}"#,
            "QAD_PERMISSION_DENIED",
        ),
        (403, "<html>captcha</html>", "QAD_BOT_CHALLENGE"),
        (302, "", "QAD_REDIRECT"),
        (400, r#"{"error":"bad"}"#, "QAD_REQUEST_REFUSED"),
        (404, "", "QAD_NOT_FOUND"),
        (404, "<html>nothing here</html>", "QAD_HTML_PAGE"),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(status, body));
        let error = bench.qad.order(&"PO1".parse().unwrap()).await.unwrap_err();
        assert!(matches!(&error, ReadError::Refused(_)), "{error}");
        assert_eq!(error.problem().code, code);
    }
}

#[tokio::test]
async fn a_429_pauses_everyone_on_the_host_and_nobody_else() {
    let bench = Bench::new();
    bench.script.then(answer_with(429, ("retry-after", "20"), ""));
    let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    assert!(matches!(error, WriteError::NotApplied { retry_after: Some(wait), .. } if wait.as_secs() == 20));
    // The other system is not paused.
    bench.script.then(answer(200, r#"{"data":[]}"#));
    bench.qad.order(&"PO1".parse().unwrap()).await.unwrap();
    assert!(bench.slept_millis().is_empty());
    // Another connection of this process to the same host is.
    let (other, _) = clients(
        &"beta".parse().unwrap(),
        &bench.document,
        &bench.world,
        HTTP_TIMEOUT,
    );
    bench.script.then(empty_page());
    list(&other).await.unwrap();
    assert_eq!(bench.slept_millis(), [20_000]);
}

#[tokio::test]
async fn a_read_waits_as_long_as_it_is_asked_within_its_time() {
    let bench = Bench::new();
    bench.script.then(answer_with(503, ("retry-after", "40"), ""));
    bench.script.then(answer_with(503, ("retry-after", "100"), ""));
    let error = list(&bench.coupa).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable { retry_after: Some(wait), .. } if wait.as_secs() == 100));
    assert_eq!(bench.slept_millis(), [40_000]);
}

#[tokio::test]
async fn a_write_into_a_long_pause_is_not_begun() {
    let bench = Bench::new();
    bench.script.then(answer_with(429, ("retry-after", "7200"), ""));
    bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    assert!(
        matches!(error, WriteError::NotApplied { retry_after: Some(wait), .. } if wait.as_secs() == 3_600)
    );
    assert_eq!(bench.script.sent().len(), 1);
}

#[tokio::test]
async fn reads_and_writes_have_their_own_time() {
    let bench = Bench::new();
    bench.script.then(empty_page());
    bench.script.then(answer(200, ""));
    list(&bench.coupa).await.unwrap();
    bench.coupa.mark_exported(ID, "key").await.unwrap();
    let sent = bench.script.sent();
    assert_eq!((sent[0].timeout.as_secs(), sent[0].write), (30, false));
    assert_eq!((sent[1].timeout, sent[1].write), (HTTP_TIMEOUT, true));
}

#[test]
fn every_shape_of_error_is_understood() {
    for (text, expected) in [
        (
            r#"{"errors":{"account":["Segment 1 can't be blank","x"]}}"#,
            "account: Segment 1 can't be blank; account: x",
        ),
        (r#"{"errors":{"base":"no"}}"#, "base: no"),
        (r#"{"errors":["no"]}"#, "no"),
        (
            r#"{"error":"invalid_scope","error_description":"unknown"}"#,
            "invalid_scope; unknown",
        ),
        (
            r#"{"submitResult":{"success":false,"errors":[{"fieldName":"daybookCode","message":"Not found"}]}}"#,
            "daybookCode: Not found",
        ),
        (
            "<?xml version=\"1.0\"?><errors><error>Amount &lt; 0 &amp; bad</error><error>Two</error></errors>",
            "Amount < 0 & bad; Two",
        ),
        ("<errors></errors>", ""),
        ("<error>never closed", ""),
        ("oops", ""),
        ("", ""),
    ] {
        assert_eq!(
            crate::http::error_messages(text.as_bytes()).join("; "),
            expected,
            "{text}"
        );
    }
    let many = format!("[{}]", vec!["\"x\""; 10_000].join(","));
    assert!(crate::http::error_messages(format!("{{\"errors\":{many}}}").as_bytes()).len() <= 20);
}
