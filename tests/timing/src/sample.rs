//! A signed event of Coupa's as the gateway hands it to receive-webhook, as long as asked for: what the measurements send.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

/// What it is signed with.
pub(crate) const SECRET: &str = "fictional-secret-of-the-timing-test";

/// An event with the whole document in it, as long as asked for.
pub(crate) fn body(bytes: usize) -> String {
    let line = |number: usize| {
        json!({
            "id": 500_000 + number, "line-num": number, "description": "Steel plate 4 mm \"cut\", grade é",
            "quantity": "12.00", "price": "17.25", "total": "207.00", "order-header-num": "PO-4711",
            "order-line-num": number.to_string(), "account": {"code": "4000-200", "segments": ["4000", "200", null]},
            "tags": [], "matched": true, "weight": 1.5,
        })
    };
    let event = |lines: usize| {
        json!({
            "event-id": "evt-0001", "event-type": "invoice", "occurred-at": "2026-03-06T08:59:58Z",
            "object": {"invoice-number": "INV-1", "lines": (1..=lines).map(line).collect::<Vec<_>>(), "id": 92_010},
        })
        .to_string()
    };
    let per_line = event(2).len() - event(1).len();
    event(bytes.div_ceil(per_line))
}

/// The gateway's event with this body, signed.
pub(crate) fn gateway_event(body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    json!({
        "version": "2.0",
        "routeKey": "POST /webhooks/coupa/{connection}",
        "rawPath": "/webhooks/coupa/example",
        "rawQueryString": "",
        "headers": {
            "accept": "*/*",
            "content-length": body.len().to_string(),
            "content-type": "application/json",
            "host": "hooks.example.com",
            "user-agent": "ExampleSender/1.0",
            "x-amzn-trace-id": "Root=1-00000000-000000000000000000000001",
            "x-forwarded-for": "192.0.2.10",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            "x-coupa-signature": hex::encode(mac.finalize().into_bytes()),
        },
        "pathParameters": {"connection": "example"},
        "requestContext": {
            "accountId": "123456789012", "apiId": "hooks", "domainName": "hooks.example.com", "domainPrefix": "hooks",
            "http": {
                "method": "POST", "path": "/webhooks/coupa/example", "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.10", "userAgent": "ExampleSender/1.0",
            },
            "requestId": "00000000-0000-4000-8000-000000000001", "routeKey": "POST /webhooks/coupa/{connection}",
            "stage": "$default", "time": "06/Mar/2026:09:00:00 +0000", "timeEpoch": 1_772_787_600_000_i64,
        },
        "isBase64Encoded": false,
        "body": body,
    })
    .to_string()
}
