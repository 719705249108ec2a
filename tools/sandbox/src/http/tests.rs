//! Faults over real sockets, seen with a client that hides nothing.

use super::*;
use crate::faults::{FaultRule, When};
use crate::scenario::{Step, day, play};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const START: i64 = 1_774_000_000_000;

struct Bench {
    simulators: Simulators,
    clock: Arc<AtomicI64>,
}

/// What came over the socket: nothing, or a head and as much of a body as came.
#[derive(Debug)]
struct Raw {
    status: u16,
    head: String,
    body: String,
    /// True when as much came as `Content-Length` said.
    complete: bool,
}

impl Bench {
    async fn new() -> Self {
        let clock = Arc::new(AtomicI64::new(START));
        let world = World::seed(&day(1), Timestamp(START));
        let reads = Arc::clone(&clock);
        let now: Now = Arc::new(move || Timestamp(reads.load(Ordering::SeqCst)));
        let simulators = Simulators::start(world, now, Options::default()).await.unwrap();
        Self { simulators, clock }
    }

    async fn raw(&self, base: &str, method: &str, path: &str, headers: &str, body: &str) -> Option<Raw> {
        let address = base.strip_prefix("http://").unwrap();
        let (address, root) = address
            .split_once('/')
            .map_or((address, ""), |(host, root)| (host, root));
        let root = if root.is_empty() {
            String::new()
        } else {
            format!("/{root}")
        };
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{method} {root}{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A reset ends the answer as well as a close does.
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        Some(Raw {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            complete: body.len() == length.parse::<usize>().unwrap(),
            body: body.to_owned(),
        })
    }

    async fn coupa(&self, method: &str, path: &str) -> Option<Raw> {
        let token = lock(&self.simulators.world).issue_token(System::Coupa, Timestamp(START), 86_399);
        let headers = format!(
            "authorization: Bearer {token}\r\naccept: application/json\r\nuser-agent: qad-coupa/0.1.0\r\nx-coupa-api-version: 44\r\nidempotency-key: k1\r\n"
        );
        self.raw(&self.simulators.coupa_url, method, path, &headers, "")
            .await
    }

    async fn qad(&self, method: &str, path: &str, body: &str) -> Option<Raw> {
        let token = lock(&self.simulators.world).issue_token(System::Qad, Timestamp(START), 86_399);
        let headers = format!(
            "authorization: Bearer {token}\r\naccept: application/json\r\ncontent-type: application/json\r\nuser-agent: qad-coupa/0.1.0\r\n"
        );
        self.raw(&self.simulators.qad_url, method, path, &headers, body)
            .await
    }

    async fn create(&self) -> Option<Raw> {
        let path = format!(
            "/api/erp/supplierInvoices?viewUri={}",
            crate::world::qad::SUPPLIER_INVOICE_VIEW
        );
        self.qad("POST", &path, &self.first_invoice()).await
    }

    /// A create that matches the first receipt of the day in full.
    fn first_invoice(&self) -> String {
        let world = lock(&self.simulators.world);
        let receipt = world.qad.receipts.first().unwrap();
        let order = world.qad.order(&receipt.domain, &receipt.order).unwrap();
        let price = order.lines.first().unwrap().unit_price.0;
        let total: Value =
            serde_json::from_str(&receipt.quantity.0.saturating_mul(price).to_string()).unwrap();
        let quantity: Value = serde_json::from_str(&receipt.quantity.0.to_string()).unwrap();
        let price: Value = serde_json::from_str(&price.to_string()).unwrap();
        json!({"supplierInvoices": [{"entityCode": "10USACO", "domainCode": "10USA", "supplierCode": order.supplier,
            "supplierInvoiceReference": "INV-1", "invoiceType": "INVOICE", "daybookCode": "SI",
            "matchingDaybookCode": "RM", "currencyCode": order.currency,
            "invoiceDate": "2026-03-05T00:00:00.000Z", "postingDate": "2026-03-05T00:00:00.000Z",
            "invoiceStatusCode": "AP-RMALLOC", "totalAmount": total, "taxAmount": 0, "description": "Coupa 1",
            "purchaseOrders": [{"purchaseOrderDomain": "10USA", "purchaseOrderNumber": order.number}],
            "receiverMatchings": [{"purchaseOrderNumber": order.number, "purchaseOrderLine": receipt.line,
                "receiverNumber": receipt.receiver, "matchQuantity": quantity, "matchUnitPrice": price,
                "isFinished": true}],
            "additionalCosts": [], "dataOperation": "C", "concurrencyHash": ""}], "supplementaryMessages": []})
        .to_string()
    }

    fn arm(&self, system: System, operation: &str, fault: Fault) {
        lock(&self.simulators.faults).arm(FaultRule::next(system, operation, None, fault));
    }

    fn documents(&self) -> usize {
        let world = lock(&self.simulators.world);
        world
            .qad
            .invoices
            .iter()
            .filter(|one| one.record.supplier_invoice_reference == "INV-1")
            .count()
    }

    async fn control(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let raw = self
            .raw(&self.simulators.control_url, method, path, "", body)
            .await
            .unwrap();
        (raw.status, serde_json::from_str(&raw.body).unwrap())
    }
}

const CREATE: &str = "supplier-invoices.create";

#[tokio::test]
async fn a_request_lost_before_it_is_handled_leaves_no_trace_in_qad() {
    let bench = Bench::new().await;
    bench.arm(System::Qad, CREATE, Fault::LostBefore);
    assert!(bench.create().await.is_none(), "no byte comes back");
    assert_eq!(bench.documents(), 0);
    let answer = bench.create().await.unwrap();
    assert!(answer.body.contains(r#""success":true"#), "{}", answer.body);
    assert_eq!(bench.documents(), 1);
}

#[tokio::test]
async fn an_answer_lost_after_the_commit_leaves_the_document() {
    let bench = Bench::new().await;
    bench.arm(System::Qad, CREATE, Fault::LostAfter);
    assert!(bench.create().await.is_none());
    assert_eq!(bench.documents(), 1);
}

#[tokio::test]
async fn a_late_commit_appears_when_its_time_has_come() {
    let bench = Bench::new().await;
    bench.arm(System::Qad, CREATE, Fault::LateCommit { delay_ms: 1_500 });
    assert!(bench.create().await.is_none());
    let look = || bench.control("GET", "/_control/state", "");
    assert_eq!(look().await.1["late-writes"], 1);
    assert_eq!(bench.documents(), 0);
    bench.clock.fetch_add(1_500, Ordering::SeqCst);
    assert_eq!(look().await.1["late-writes"], 0);
    assert_eq!(bench.documents(), 1);
}

#[tokio::test]
async fn a_server_error_comes_before_or_after_the_commit() {
    for (after_commit, documents) in [(false, 0), (true, 1)] {
        let bench = Bench::new().await;
        let fault = Fault::Status {
            status: 503,
            retry_after: RetryAfter::Absent,
            after_commit,
        };
        bench.arm(System::Qad, CREATE, fault);
        assert_eq!(bench.create().await.unwrap().status, 503);
        assert_eq!(bench.documents(), documents);
    }
}

#[tokio::test]
async fn retry_after_comes_in_seconds_as_a_date_or_not_at_all() {
    let bench = Bench::new().await;
    for (retry_after, header) in [
        (RetryAfter::Seconds(7), Some("retry-after: 7")),
        (
            RetryAfter::DateInSeconds(90),
            Some("retry-after: Fri, 20 Mar 2026 09:48:10 GMT"),
        ),
        (RetryAfter::Absent, None),
    ] {
        let fault = Fault::Status {
            status: 429,
            retry_after,
            after_commit: false,
        };
        bench.arm(System::Coupa, "invoices.list", fault);
        let answer = bench.coupa("GET", "/api/invoices").await.unwrap();
        assert_eq!(answer.status, 429);
        let found = answer.head.lines().find(|line| line.starts_with("retry-after"));
        assert_eq!(found, header);
    }
    assert_eq!(bench.coupa("GET", "/api/invoices").await.unwrap().status, 200);
}

#[tokio::test]
async fn spoiled_answers_are_spoiled_in_their_way() {
    let bench = Bench::new().await;
    let list = |fault: Fault| {
        bench.arm(System::Coupa, "invoices.list", fault);
        bench.coupa("GET", "/api/invoices")
    };
    let cut = list(Fault::TruncatedBody).await.unwrap();
    assert!(cut.status == 200 && !cut.complete, "{cut:?}");
    let malformed = list(Fault::MalformedJson).await.unwrap();
    assert!(malformed.complete && serde_json::from_str::<Value>(&malformed.body).is_err());
    let login = list(Fault::HtmlPage).await.unwrap();
    assert!(
        login.status == 200 && login.head.contains("text/html"),
        "{login:?}"
    );
    let challenge = list(Fault::BotChallenge).await.unwrap();
    assert!(
        challenge.status == 403 && challenge.head.contains("cf-mitigated: challenge"),
        "{challenge:?}"
    );
    let whole = list(Fault::Drip {
        pause_ms: 0,
        piece_bytes: 1_000,
    })
    .await
    .unwrap();
    assert!(whole.complete && serde_json::from_str::<Value>(&whole.body).is_ok());
    for status in [401, 403, 500, 502] {
        let fault = Fault::Status {
            status,
            retry_after: RetryAfter::Absent,
            after_commit: false,
        };
        assert_eq!(list(fault).await.unwrap().status, status);
    }
}

#[tokio::test]
async fn qad_refuses_for_reasons_of_its_own() {
    let bench = Bench::new().await;
    let refusal = Fault::BusinessRefusal {
        code: "PERIOD".to_owned(),
        field: "postingDate".to_owned(),
        message: "The GL period is closed".to_owned(),
    };
    for (fault, part) in [
        (refusal, r#""message":"The GL period is closed""#),
        (Fault::RecordInUse, "Record in use"),
        (Fault::WarningOnly, r#""severity":2"#),
    ] {
        bench.arm(System::Qad, CREATE, fault);
        let answer = bench.create().await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(
            answer.body.contains(r#""success":false"#) && answer.body.contains(part),
            "{}",
            answer.body
        );
    }
    assert_eq!(bench.documents(), 0);
}

#[tokio::test]
async fn a_person_with_curl_can_make_things_happen() {
    let bench = Bench::new().await;
    let (id, order) = {
        let world = lock(&bench.simulators.world);
        (
            *world.coupa.invoices.keys().next().unwrap(),
            world.qad.orders.values().next().unwrap().number.clone(),
        )
    };
    let receipt = json!({"order": order, "line": 1, "quantity": 2.5}).to_string();
    let (status, posted) = bench.control("POST", "/_control/receipts", &receipt).await;
    assert!(status == 200 && posted["receiver"].is_string(), "{posted}");
    assert_eq!(
        bench
            .control(
                "POST",
                "/_control/receipts",
                r#"{"order":"none","line":1,"quantity":1}"#
            )
            .await
            .0,
        400
    );
    let (_, voided) = bench
        .control("POST", "/_control/invoices", &json!({"void": id}).to_string())
        .await;
    assert_eq!(voided["id"], id);
    let add = json!({"add": {"number": "INV-X", "invoice-date": "2026-03-05", "supplier": 5001, "currency": "USD",
        "lines": [{"number": 1, "quantity": "2", "price": "12.50", "unit": "EA", "order": order, "order-line": 1}]}});
    let (status, added) = bench
        .control("POST", "/_control/invoices", &add.to_string())
        .await;
    assert!(
        status == 200 && added["id"].as_u64().unwrap() > 700_000,
        "{added}"
    );
    let payment = json!({"year": 2026, "instrument": "EL", "number": 1, "allocation": 1, "supplier": "S1001",
        "status": "Paid", "currency": "USD", "payment_date": "2026-04-01", "last_modified": "2026-04-01",
        "invoice_reference": "INV-X", "allocated": 25});
    assert_eq!(
        bench
            .control("POST", "/_control/payments", &payment.to_string())
            .await
            .0,
        200
    );
    let rule = FaultRule {
        system: System::Qad,
        operation: "*".to_owned(),
        key: None,
        when: When::Nth(2),
        fault: Fault::LostAfter,
    };
    let rule = serde_json::to_string(&rule).unwrap();
    assert_eq!(
        bench.control("POST", "/_control/faults", &rule).await.1["armed"],
        1
    );
    assert_eq!(
        bench
            .control("POST", "/_control/faults", &format!("[{rule},{rule}]"))
            .await
            .1["armed"],
        3
    );
    assert_eq!(bench.control("DELETE", "/_control/faults", "").await.0, 200);
    assert_eq!(bench.control("GET", "/_control/faults", "").await.1, json!([]));
    let (_, state) = bench.control("GET", "/_control/state", "").await;
    assert_eq!(state["invoices"][0]["status"], "voided");
    assert_eq!(state["duplicates"], 0);
    assert_eq!(bench.control("GET", "/_control/nothing", "").await.0, 404);
}

#[tokio::test]
async fn tokens_can_be_made_to_expire() {
    let bench = Bench::new().await;
    let token = lock(&bench.simulators.world).issue_token(System::Qad, Timestamp(START), 86_399);
    let headers = format!("authorization: Bearer {token}\r\naccept: application/json\r\nuser-agent: x\r\n");
    let browse = "/api/qracore/browses?browseId=none";
    let base = &bench.simulators.qad_url;
    assert_eq!(
        bench.raw(base, "GET", browse, &headers, "").await.unwrap().status,
        200
    );
    assert_eq!(
        bench
            .control("POST", "/_control/tokens/expire", r#"{"system":"qad"}"#)
            .await
            .0,
        200
    );
    assert_eq!(
        bench.raw(base, "GET", browse, &headers, "").await.unwrap().status,
        401
    );
}

#[tokio::test]
async fn the_journal_tells_everything_but_credentials() {
    let bench = Bench::new().await;
    let form =
        "grant_type=client_credentials&client_id=example-coupa-client&client_secret=example-coupa-secret";
    bench
        .raw(&bench.simulators.coupa_url, "POST", "/oauth2/token", "", form)
        .await
        .unwrap();
    bench.arm(System::Qad, CREATE, Fault::LostAfter);
    assert!(bench.create().await.is_none());
    let id = *lock(&bench.simulators.world)
        .coupa
        .invoices
        .keys()
        .next()
        .unwrap();
    bench
        .coupa("PUT", &format!("/api/invoices/{id}?exported=true"))
        .await
        .unwrap();
    let (_, journal) = bench.control("GET", "/_control/journal", "").await;
    let entries = journal["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0]["operation"], "token");
    assert_eq!(entries[1]["fault"], "lost-after");
    assert!(entries[1].get("status").is_none(), "no status was answered");
    assert!(entries[1]["keys"].as_array().unwrap().contains(&json!("INV-1")));
    assert_eq!(entries[2]["idempotency_key"], "k1");
    assert_eq!(journal["counters"]["coupa.invoices.exported"], 1);
    assert_eq!(journal["contract-violations"], 0);
    let text = journal.to_string();
    for secret in ["example-coupa-secret", "coupa-token-", "qad-token-", "Bearer"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(
        bench.control("GET", "/_control/journal?after=2", "").await.1["entries"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn what_the_script_does_is_seen_through_every_door() {
    let bench = Bench::new().await;
    let id = *lock(&bench.simulators.world)
        .coupa
        .invoices
        .keys()
        .next()
        .unwrap();
    {
        let mut world = lock(&bench.simulators.world);
        let mut faults = lock(&bench.simulators.faults);
        play(&Step::Void(id), &mut world, &mut faults, Timestamp(START)).unwrap();
    }
    let answer = bench.coupa("GET", &format!("/api/invoices/{id}")).await.unwrap();
    assert!(answer.body.contains(r#""status":"voided""#));
    let through_port =
        flows::ports::Coupa::invoice(&bench.simulators.ports(), domain::ids::InvoiceId(id)).await;
    assert_eq!(
        through_port.unwrap().unwrap().status,
        domain::documents::CoupaStatus::Voided
    );
    bench.simulators.shutdown().await;
}
