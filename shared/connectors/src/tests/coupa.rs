//! Coupa over the wire.

use super::*;
use ::domain::documents::CoupaStatus;
use ::domain::ids::InvoiceId;
use domain::explain::Standing;
use flows::ports::{Coupa, DocumentOutcome, ReadError, WriteError};

const ID: InvoiceId = InvoiceId(92010);
const REALISTIC: &str = include_str!("../../tests/data/coupa-invoice.json");

fn head(id: u64) -> String {
    format!(r#"{{"id":{id},"status":"approved","updated-at":"2026-09-30T09:12:44+02:00"}}"#)
}

fn page(heads: &[String]) -> Outcome {
    answer(200, &format!("[{}]", heads.join(",")))
}

#[tokio::test]
async fn every_request_is_what_the_contract_says() {
    let bench = Bench::new();
    bench.script.then(page(&[]));
    bench.script.then(answer(200, REALISTIC));
    bench.script.then(answer(200, r#"{"id":92010,"exported":true}"#));
    bench
        .coupa
        .exportable_invoices(Some(InvoiceId(4711)))
        .await
        .unwrap();
    bench.coupa.invoice(ID).await.unwrap().unwrap();
    let _ = bench.coupa.mark_exported(ID, "effect-key-1").await.unwrap();
    let sent = bench.script.sent();
    let lines: Vec<String> = sent
        .iter()
        .map(|request| format!("{} {}", request.method.as_str(), request.url))
        .collect();
    assert_eq!(
        lines,
        [
            "GET https://example.coupahost.com/api/invoices?exported=false&status%5Bin%5D=approved%2Cvoided&id%5Bgt%5D=4711&order_by=id&dir=asc&limit=50&fields=%5B%22id%22%2C%22status%22%2C%22updated-at%22%5D",
            "GET https://example.coupahost.com/api/invoices/92010",
            "PUT https://example.coupahost.com/api/invoices/92010?exported=true",
        ]
    );
    for request in &sent {
        assert_eq!(header(request, "authorization"), Some("Bearer token-1"));
        assert_eq!(header(request, "accept"), Some("application/json"));
        assert_eq!(header(request, "content-type"), Some("application/json"));
        assert_eq!(header(request, "x-coupa-api-version"), Some("39"));
        assert_eq!(header(request, "user-agent"), Some("qad-coupa/0.1.0"));
        assert!(request.body.is_none());
    }
    assert_eq!(header(&sent[0], "idempotency-key"), None);
    assert_eq!(header(&sent[2], "idempotency-key"), Some("effect-key-1"));
}

#[tokio::test]
async fn one_invoice_is_there_or_404_or_an_error() {
    let bench = Bench::new();
    bench.script.then(answer(200, REALISTIC));
    bench.script.then(answer(404, r#"{"error":"not found"}"#));
    bench.script.then(answer(
        404,
        "<!DOCTYPE html><html>The page you were looking for</html>",
    ));
    bench.script.then(answer(404, "<html>Just a moment…</html>"));
    bench
        .script
        .then(answer(200, &REALISTIC.replace("\"id\": 92010", "\"id\": 1")));
    let invoice = bench.coupa.invoice(ID).await.unwrap().unwrap();
    assert_eq!(invoice.id, ID);
    let page = invoice.particulars.page.unwrap();
    assert!(
        page.starts_with("https://") && page.ends_with("/invoices/92010") && !page.contains("/api/"),
        "{page}"
    );
    assert_eq!(bench.coupa.invoice(ID).await.unwrap(), None);
    assert_eq!(
        bench.coupa.invoice(ID).await.unwrap(),
        None,
        "Coupa's page for it"
    );
    let error = bench.coupa.invoice(ID).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Refused(problem) if problem.code == "COUPA_BOT_CHALLENGE"),
        "{error}"
    );
    let error = bench.coupa.invoice(ID).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Unreadable(problem) if problem.code == "COUPA_INVOICE_UNREADABLE"),
        "{error}"
    );
}

#[tokio::test]
async fn a_page_tells_what_it_holds_and_whether_more_may_follow() {
    let bench = Bench::new();
    let full: Vec<String> = (1..=50).map(head).collect();
    bench.script.then(page(&full));
    let read = bench.coupa.exportable_invoices(None).await.unwrap();
    assert_eq!(
        (read.heads.len(), read.last, read.more),
        (50, Some(InvoiceId(50)), true)
    );
    assert_eq!(read.heads[0].status, CoupaStatus::Approved);
    assert_eq!(read.heads[0].updated_at.to_string(), "2026-09-30T07:12:44.000Z");

    bench.script.then(page(&[]));
    let read = bench.coupa.exportable_invoices(read.last).await.unwrap();
    assert_eq!((read.heads.len(), read.last, read.more), (0, None, false));
}

#[tokio::test]
async fn an_unreadable_record_does_not_spoil_the_page() {
    let bench = Bench::new();
    bench.script.then(page(&[
        head(7),
        r#"{"id":9,"status":"approved","updated-at":"yesterday"}"#.to_owned(),
        r#"{"status":"approved"}"#.to_owned(),
    ]));
    let read = bench.coupa.exportable_invoices(None).await.unwrap();
    assert_eq!((read.heads.len(), read.last), (1, Some(InvoiceId(9))));
    assert_eq!(read.unreadable[0].0, Some(InvoiceId(9)));
    assert_eq!(read.unreadable[0].1.field, "[1].updated-at");
    assert_eq!(read.unreadable[1].0, None);
}

#[tokio::test]
async fn a_listing_that_would_never_end_is_an_error() {
    let without_ids: Vec<String> = (0..50).map(|_| "{}".to_owned()).collect();
    for (after, answered) in [
        (Some(InvoiceId(10)), page(&[head(10)])),
        (None, page(&without_ids)),
        (None, page(&(1..=501).map(head).collect::<Vec<_>>())),
        (None, answer(200, r#"{"errors":["x"]}"#)),
    ] {
        let bench = Bench::new();
        bench.script.then(answered);
        let error = bench.coupa.exportable_invoices(after).await.unwrap_err();
        assert!(matches!(error, ReadError::Unreadable(_)), "{error}");
    }
}

#[tokio::test]
async fn marking_exported_is_confirmed_refused_or_unknown() {
    for (outcome, word) in [
        (answer(200, ""), "done"),
        (answer(200, r#"{"id":92010}"#), "done"),
        (answer(200, r#"{"id":92010,"exported":false}"#), "unknown"),
        (answer(200, "<html>login</html>"), "unknown"),
        (answer(200, "{\"id\":"), "unknown"),
        (answer(302, ""), "unknown"),
        (answer(500, ""), "unknown"),
        (answer(408, ""), "unknown"),
        (Err(TransportError::MaybeSent("timeout".into())), "unknown"),
        (Err(TransportError::NotSent("refused".into())), "not applied"),
        (answer(429, ""), "not applied"),
        (
            answer(
                400,
                "<errors><error>Invoice is locked by validation</error></errors>",
            ),
            "refused",
        ),
        (answer(403, ""), "refused"),
        (answer(404, ""), "refused"),
    ] {
        let bench = Bench::new();
        bench.script.then(outcome.clone());
        let settled = bench.coupa.mark_exported(ID, "key").await;
        let got = match &settled {
            Ok(_) => "done",
            Err(WriteError::Unknown(_)) => "unknown",
            Err(WriteError::NotApplied { .. }) => "not applied",
            Err(WriteError::Refused(_)) => "refused",
        };
        assert_eq!(got, word, "{outcome:?}: {settled:?}");
        assert_eq!(bench.script.sent().len(), 1, "a write is sent once");
    }
    let bench = Bench::new();
    bench.script.then(answer(
        400,
        "<errors><error>Invoice &quot;X&quot; is bad</error></errors>",
    ));
    let error = bench.coupa.mark_exported(ID, "key").await.unwrap_err();
    assert_eq!(error.problem().actual, "400 Invoice \"X\" is bad");
}

#[tokio::test]
async fn the_exported_flags_answer_shows_the_bill_as_it_is_now() {
    let bench = Bench::new();
    bench.script.then(answer(200, REALISTIC));
    let read = bench.coupa.invoice(ID).await.unwrap().unwrap();
    let flagged = REALISTIC.replace(r#""exported": false"#, r#""exported": true"#);
    bench.script.then(answer(200, &flagged));
    let shown = bench.coupa.mark_exported(ID, "key").await.unwrap();
    assert_eq!(shown.status, Some(CoupaStatus::Approved));
    assert_eq!(shown.bill, Some((read.reference, read.total, read.currency)));
    bench
        .script
        .then(answer(200, r#"{"id":92010,"exported":true,"status":"voided"}"#));
    let shown = bench.coupa.mark_exported(ID, "key").await.unwrap();
    assert_eq!((shown.status, shown.bill), (Some(CoupaStatus::Voided), None));
}

fn outcome(standing: Standing) -> DocumentOutcome {
    let posted = standing == Standing::Finished;
    DocumentOutcome {
        standing,
        code: if posted { "POSTED" } else { "NO_RECEIPT" }.to_owned(),
        message: "Posted in QAD.".to_owned(),
        external_id: posted.then(|| "2026/SI/431".to_owned()),
    }
}

#[tokio::test]
async fn an_outcome_resolves_the_open_ones_and_is_posted_after() {
    let bench = Bench::new();
    bench
        .script
        .then(answer(200, r#"[{"id":5,"resolved":false},{"id":"6"}]"#));
    bench.script.then(answer(200, "{}"));
    bench.script.then(answer(200, "{}"));
    bench.script.then(answer(201, r#"{"id":7}"#));
    bench.script.then(answer(200, "{}"));
    bench
        .coupa
        .record_outcome(ID, &outcome(Standing::Finished), "key")
        .await
        .unwrap();
    let sent = bench.script.sent();
    let lines: Vec<String> = sent
        .iter()
        .map(|request| format!("{} {}", request.method.as_str(), request.url))
        .collect();
    assert_eq!(
        lines,
        [
            "GET https://example.coupahost.com/api/integration_history_records?resolved=false&document-type=InvoiceHeader&document-id=92010",
            "PUT https://example.coupahost.com/api/integration_history_records/5/resolve",
            "PUT https://example.coupahost.com/api/integration_history_records/6/resolve",
            "POST https://example.coupahost.com/api/integration_history_records",
            "PUT https://example.coupahost.com/api/integration_history_records/7/resolve",
        ]
    );
    assert_eq!(header(&sent[1], "idempotency-key"), Some("key-resolve-5"));
    assert_eq!(header(&sent[3], "idempotency-key"), Some("key"));
    assert_eq!(
        body(&sent[3]),
        r#"{"document-type":"InvoiceHeader","document-id":92010,"contact-alert-type":"Functional","status":"Success","integration":{"code":"QAD_INVOICES"},"external-id":"2026/SI/431","responses":[{"response-code":"POSTED","response-message":"Posted in QAD."}]}"#
    );
}

#[tokio::test]
async fn an_error_alerts_the_contact() {
    let bench = Bench::new();
    bench.script.then(answer(200, "[]"));
    bench.script.then(answer(201, "{}"));
    bench
        .coupa
        .record_outcome(ID, &outcome(Standing::ForAccountsPayable), "key")
        .await
        .unwrap();
    let sent = bench.script.sent();
    assert_eq!(
        sent[1].url,
        "https://example.coupahost.com/api/integration_history_records/create_alert"
    );
    assert!(body(&sent[1]).contains(r#""status":"Error""#));
    assert!(!body(&sent[1]).contains("external-id"));
}

#[tokio::test]
async fn a_wait_alerts_nobody_and_a_fault_of_the_connection_alerts_its_engineer() {
    let bench = Bench::new();
    for standing in [Standing::Waiting, Standing::ForTheEngineer] {
        bench.script.then(answer(200, "[]"));
        bench.script.then(answer(201, "{}"));
        bench
            .coupa
            .record_outcome(ID, &outcome(standing), "key")
            .await
            .unwrap();
    }
    let sent = bench.script.sent();
    assert!(
        sent[1].url.ends_with("/api/integration_history_records"),
        "{}",
        sent[1].url
    );
    assert!(body(&sent[1]).contains(r#""status":"Pending""#));
    assert!(sent[3].url.ends_with("/create_alert"));
    assert!(body(&sent[3]).contains(r#""contact-alert-type":"Technical""#));
}

#[tokio::test]
async fn what_is_withdrawn_is_resolved_and_nothing_is_told_in_its_place() {
    let bench = Bench::new();
    bench.script.then(answer(200, r#"[{"id":5}]"#));
    bench.script.then(answer(200, "{}"));
    bench
        .coupa
        .record_outcome(ID, &outcome(Standing::Withdrawn), "key")
        .await
        .unwrap();
    let sent = bench.script.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent[1].url.ends_with("/5/resolve"));
}

#[tokio::test]
async fn a_tenant_that_answers_nothing_of_what_it_made_is_asked_what_stands_open() {
    let bench = Bench::new();
    bench.script.then(answer(200, "[]"));
    bench.script.then(answer(201, ""));
    bench.script.then(answer(200, r#"[{"id":9}]"#));
    bench.script.then(answer(200, "{}"));
    bench
        .coupa
        .record_outcome(ID, &outcome(Standing::Finished), "key")
        .await
        .unwrap();
    assert!(bench.script.sent()[3].url.ends_with("/9/resolve"));
}

#[tokio::test]
async fn the_voucher_goes_into_its_custom_field_with_and_without_a_history() {
    for history in [true, false] {
        let mut document = document();
        document["coupa"]["voucher_field"] = serde_json::json!("erp_invoice_number");
        document["coupa"]["integration_history"]["enabled"] = serde_json::json!(history);
        let bench = Bench::with(&document);
        bench.script.then(answer(200, r#"{"id":92010}"#));
        bench.script.then(answer(200, "[]"));
        bench.script.then(answer(201, r#"{"id":7}"#));
        bench.script.then(answer(200, "{}"));
        bench
            .coupa
            .record_outcome(ID, &outcome(Standing::Finished), "key")
            .await
            .unwrap();
        let sent = bench.script.sent();
        assert_eq!(sent[0].url, "https://example.coupahost.com/api/invoices/92010");
        assert_eq!(
            body(&sent[0]),
            r#"{"custom-fields":{"erp_invoice_number":"2026/SI/431"}}"#
        );
        assert_eq!(header(&sent[0], "idempotency-key"), Some("key-voucher"));
        assert_eq!(sent.len(), if history { 4 } else { 1 });
    }
}

#[tokio::test]
async fn what_stands_in_the_vouchers_field_is_read_and_nothing_is_asked_where_none_is_named() {
    let mut document = document();
    document["coupa"]["voucher_field"] = serde_json::json!("erp_invoice_number");
    for (shown, expected) in [
        (
            r#"{"id":92010,"custom-fields":{"erp_invoice_number":"2026/SI/431"}}"#,
            Some("2026/SI/431"),
        ),
        (r#"{"id":92010,"custom-fields":{"erp_invoice_number":""}}"#, None),
        (r#"{"id":92010}"#, None),
    ] {
        let bench = Bench::with(&document);
        bench.script.then(answer(200, shown));
        let read = bench.coupa.shown_voucher(ID).await.unwrap();
        assert_eq!(read.as_deref(), expected, "{shown}");
    }
    let bench = Bench::new();
    assert_eq!(bench.coupa.shown_voucher(ID).await.unwrap(), None);
    assert!(bench.script.sent().is_empty());
}

#[tokio::test]
async fn what_fails_before_the_outcome_was_sent_did_not_write_it() {
    // The open ones cannot be listed.
    let bench = Bench::new();
    for _ in 0..4 {
        bench.script.then(answer(500, ""));
    }
    let error = bench
        .coupa
        .record_outcome(ID, &outcome(Standing::Finished), "key")
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::NotApplied { .. }), "{error}");
    // One cannot be resolved: resolving may be repeated.
    let bench = Bench::new();
    bench.script.then(answer(200, r#"[{"id":5}]"#));
    bench
        .script
        .then(Err(TransportError::MaybeSent("timeout".into())));
    let error = bench
        .coupa
        .record_outcome(ID, &outcome(Standing::Finished), "key")
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::NotApplied { .. }), "{error}");
    // The record itself got no answer.
    let bench = Bench::new();
    bench.script.then(answer(200, "[]"));
    bench
        .script
        .then(Err(TransportError::MaybeSent("timeout".into())));
    let error = bench
        .coupa
        .record_outcome(ID, &outcome(Standing::Finished), "key")
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Unknown(_)), "{error}");
}

#[tokio::test]
async fn an_outcome_that_somebody_resolved_meanwhile_is_in_nobodys_way_and_a_missing_right_is() {
    for (resolve, is_written) in [(404, true), (400, true), (403, false)] {
        let bench = Bench::new();
        bench.script.then(answer(200, r#"[{"id":5}]"#));
        bench.script.then(answer(resolve, "{}"));
        if is_written {
            bench.script.then(answer(201, r#"{"id":7}"#));
            bench.script.then(answer(200, "{}"));
        }
        let written = bench
            .coupa
            .record_outcome(ID, &outcome(Standing::Finished), "key")
            .await;
        assert_eq!(written.is_ok(), is_written, "{resolve}: {written:?}");
    }
}

#[tokio::test]
async fn outcomes_that_are_turned_off_are_refused_and_not_forgotten() {
    let mut document = document();
    document["coupa"]["integration_history"]["enabled"] = serde_json::json!(false);
    let bench = Bench::with(&document);
    let error = bench
        .coupa
        .record_outcome(ID, &outcome(Standing::Finished), "key")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, WriteError::Refused(problem) if problem.code == "COUPA_HISTORY_OFF"),
        "{error}"
    );
    assert!(bench.script.sent().is_empty());
}
