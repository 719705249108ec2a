//! What Coupa and QAD answer, through the whole client: status, headers, JSON, XML, pages for people, envelopes.

use crate::block_on;
use crate::ports::{Clockwork, NoChance, Tokens};
use async_trait::async_trait;
use connectors::connection::{ConnectionDocument, World, clients};
use connectors::coupa::CoupaClient;
use connectors::http::pace::Paces;
use connectors::http::transport::{Request, Response, Transport, TransportError};
use connectors::qad::QadClient;
use domain::ids::{ConnectionId, InvoiceId, PurchaseOrderNumber, QadInvoiceIdentity};
use domain::matching::SupplierInvoiceDraft;
use domain::time::Date;
use flows::ports::{Coupa, CoupaOrders, CoupaPayments, Qad, QadPayments};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const STATUSES: [u16; 16] = [
    200, 201, 202, 204, 301, 302, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503,
];
const CONTENT_TYPES: [&str; 4] = ["application/json", "text/html", "application/xml", ""];
/// More requests than this for one call are a loop.
const REQUESTS_MAX: u32 = 5_000;
const TOKEN: &[u8] = br#"{"access_token":"token","expires_in":86399}"#;

const CONNECTION: &str = r#"{
    "coupa": {"base_url": "https://example.coupahost.com", "client_id": "id", "client_secret": "secret",
        "integration_history": {"enabled": true}},
    "qad": {"base_url": "https://example.qad.com/clouderp", "domain": "10USA", "entity": "10USACO",
        "auth": {"type": "password", "client_id": "id", "username": "user", "password": "secret"}}
}"#;

const DRAFT: &str = include_str!("draft.json");

/// Answers everything alike, except the token request when the call itself is meant.
struct Same {
    response: Response,
    is_token_answer: bool,
    requests: AtomicU32,
}

#[async_trait]
impl Transport for Same {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        assert!(count < REQUESTS_MAX, "a call that does not end");
        if request.url.contains("/oauth") && !self.is_token_answer {
            return Ok(Response {
                status: 200,
                headers: Vec::new(),
                body: TOKEN.to_vec(),
            });
        }
        Ok(self.response.clone())
    }
}

/// The calls' choice, and both clients on an answer: the first byte chooses the call, the second the status, the third
/// the content type; the rest is the body.
fn opened(bytes: &[u8]) -> Option<(u8, CoupaClient, QadClient)> {
    let ([choice, status, kind], body) = bytes.split_first_chunk()?;
    let response = Response {
        status: STATUSES[usize::from(*status) % STATUSES.len()],
        headers: vec![(
            "content-type".to_owned(),
            CONTENT_TYPES[usize::from(*kind) % CONTENT_TYPES.len()].to_owned(),
        )],
        body: body.to_vec(),
    };
    let transport = Same {
        response,
        is_token_answer: choice & 0x80 != 0,
        requests: AtomicU32::new(0),
    };
    let world = World {
        transport: Arc::new(transport),
        tokens: Arc::new(Tokens::default()),
        clock: Arc::new(Clockwork::default()),
        chance: Arc::new(NoChance),
        paces: Arc::new(Paces::new(1)),
    };
    let document = ConnectionDocument::parse(CONNECTION).expect("the connection");
    let connection: ConnectionId = "example".parse().expect("a name");
    let (coupa, qad) = clients(&connection, &document, &world, Duration::from_secs(120));
    Some((*choice, coupa, qad))
}

pub(crate) fn coupa(bytes: &[u8]) {
    let Some((choice, coupa, _)) = opened(bytes) else {
        return;
    };
    let id = InvoiceId(92_010);
    block_on(async {
        match choice % 5 {
            0 => drop(coupa.invoice(id).await),
            1 => drop(coupa.exportable_invoices(None).await),
            2 => drop(coupa.mark_exported(id, "key").await),
            3 => drop(coupa.bill(id).await),
            _ => drop(coupa.order_numbers(7).await),
        }
    });
}

pub(crate) fn qad(bytes: &[u8]) {
    let Some((choice, _, qad)) = opened(bytes) else {
        return;
    };
    let number: PurchaseOrderNumber = "PO100234".parse().expect("a number");
    let day: Date = "2026-03-01".parse().expect("a date");
    let identity: QadInvoiceIdentity = draft().identity;
    block_on(async {
        match choice % 6 {
            0 => drop(qad.order(&number).await),
            1 => drop(qad.receipts_of_order(&number).await),
            2 => drop(qad.receipts_since(day, 1).await),
            3 => drop(qad.find_invoices(&identity).await),
            4 => drop(qad.payments_since(day).await),
            _ => drop(qad.create_invoice(&draft(), "key").await),
        }
    });
}

fn draft() -> SupplierInvoiceDraft {
    serde_json::from_str(DRAFT).expect("the draft")
}

/// `Retry-After`, a blank line, `Date`.
pub(crate) fn retry_after(bytes: &[u8]) {
    use connectors::http::retry::{RETRY_AFTER_SECONDS_MAX, retry_after};
    let text = String::from_utf8_lossy(bytes);
    let mut parts = text.splitn(2, "\n\n");
    let headers = ["retry-after", "date"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), parts.next()?.to_owned())))
        .collect();
    let response = Response {
        status: 429,
        headers,
        body: Vec::new(),
    };
    if let Some(wait) = retry_after(&response, domain::time::Timestamp(1_772_787_600_000)) {
        assert!(wait <= Duration::from_secs(RETRY_AFTER_SECONDS_MAX));
    }
}
