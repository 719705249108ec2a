//! Wire conformance of the Coupa door, without sockets.

use super::*;
use crate::scenario::day;

const NOW: Timestamp = Timestamp(1_774_000_000_000);

struct Bench {
    world: World,
    options: Options,
    now: Timestamp,
    token: String,
}

impl Bench {
    fn new() -> Self {
        let mut world = World::seed(&day(1), NOW);
        let token = world.issue_token(System::Coupa, NOW, 86_399);
        let options = Options {
            coupa_rate_limit: None,
            ..Options::default()
        };
        Self {
            world,
            options,
            now: NOW,
            token,
        }
    }

    fn request(&self, method: &str, target: &str, body: &str) -> WireRequest {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers: std::collections::BTreeMap<String, String> = [
            ("authorization", format!("Bearer {}", self.token)),
            ("accept", "application/json".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("x-coupa-api-version", "44".to_owned()),
            ("user-agent", "qad-coupa/0.1.0".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        if method != "GET" {
            headers.insert("idempotency-key".to_owned(), "key-1".to_owned());
        }
        WireRequest {
            method: method.to_owned(),
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    fn send(&mut self, request: &WireRequest) -> Answer {
        handle(&mut self.world, &self.options, request, self.now, None)
    }

    fn call(&mut self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let request = self.request(method, target, body);
        let answer = self.send(&request);
        assert_eq!(answer.violation, None, "{method} {target}");
        (
            answer.response.status,
            serde_json::from_str(&answer.response.body).unwrap(),
        )
    }

    fn first_id(&self) -> u64 {
        *self.world.coupa.invoices.keys().next().unwrap()
    }
}

fn token_request(body: &str) -> WireRequest {
    WireRequest {
        method: "POST".to_owned(),
        path: "/oauth2/token".to_owned(),
        body: body.as_bytes().to_vec(),
        ..WireRequest::default()
    }
}

#[test]
fn a_list_shows_whole_documents_of_all_values_that_in_names() {
    let mut bench = Bench::new();
    let ids: Vec<u64> = bench.world.coupa.invoices.keys().copied().take(3).collect();
    let target = format!("/api/invoices?id[in]={},{},999999&limit=50", ids[0], ids[2]);
    let (status, listed) = bench.call("GET", &target, "");
    assert_eq!(status, 200);
    let alone = [ids[0], ids[2]].map(|id| bench.call("GET", &format!("/api/invoices/{id}"), "").1);
    assert_eq!(listed, Value::from(alone.to_vec()));
    let (_, keys) = describe(&bench.request("GET", &target, ""));
    assert_eq!(
        keys,
        [ids[0].to_string(), ids[2].to_string(), "999999".to_owned()]
    );

    let numbers: Vec<String> = bench.world.coupa.orders.keys().take(2).cloned().collect();
    let target = format!(
        "/api/purchase_orders?po-number[in]={}&limit=50",
        numbers.join(",")
    );
    let (status, listed) = bench.call("GET", &target, "");
    let mut shown: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["po-number"].as_str().unwrap())
        .collect();
    shown.sort_unstable();
    assert_eq!(
        (status, shown),
        (200, numbers.iter().map(String::as_str).collect())
    );
}

#[test]
fn tokens_are_given_for_the_client_and_its_scopes_alone() {
    let mut bench = Bench::new();
    let good =
        "grant_type=client_credentials&client_id=example-coupa-client&client_secret=example-coupa-secret";
    for (body, status, part) in [
        (good.to_owned(), 200, "\"token_type\":\"bearer\""),
        (
            format!("{good}&scope=core.invoice.read+core.invoice.write"),
            200,
            "\"expires_in\":86399",
        ),
        (
            format!("{good}&scope=core.pay.payments.write"),
            400,
            "invalid_scope",
        ),
        (
            good.replace("example-coupa-secret", "wrong"),
            401,
            "invalid_client",
        ),
        (
            good.replace("client_credentials", "password"),
            400,
            "unsupported_grant_type",
        ),
    ] {
        let answer = bench.send(&token_request(&body)).response;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.body.contains(part), "{}", answer.body);
    }
}

#[test]
fn a_token_is_refused_when_it_is_missing_wrong_or_old() {
    let mut bench = Bench::new();
    let mut request = bench.request("GET", "/api/invoices", "");
    request
        .headers
        .insert("authorization".to_owned(), "Bearer nonsense".to_owned());
    assert_eq!(bench.send(&request).response.status, 401);
    let request = bench.request("GET", "/api/invoices", "");
    assert_eq!(bench.send(&request).response.status, 200);
    bench.now = NOW.plus_seconds(86_399);
    assert_eq!(bench.send(&request).response.status, 401);
}

#[test]
fn requests_that_break_the_contract_are_refused_and_noted() {
    let mut bench = Bench::new();
    let id = bench.first_id();
    let put = format!("/api/invoices/{id}?exported=true");
    for (method, target, body, without) in [
        ("GET", "/api/invoices", "", "x-coupa-api-version"),
        ("GET", "/api/invoices", "", "user-agent"),
        ("PUT", put.as_str(), "", "idempotency-key"),
        ("POST", "/api/lookup_values", "{}", "content-type"),
    ] {
        let mut request = bench.request(method, target, body);
        request.headers.remove(without);
        let answer = bench.send(&request);
        assert_eq!(answer.response.status, 400, "{without}");
        assert!(answer.violation.is_some(), "{without}");
    }
    let request = bench.request("PUT", &put, r#"{"paid":true}"#);
    assert!(
        bench
            .send(&request)
            .violation
            .unwrap()
            .contains("request of its own")
    );
    assert!(
        !bench.world.coupa.invoices.get(&id).unwrap().exported,
        "nothing was done"
    );
}

#[test]
fn without_accept_coupa_answers_xml() {
    let mut bench = Bench::new();
    let mut request = bench.request("GET", &format!("/api/invoices/{}", bench.first_id()), "");
    request.headers.remove("accept");
    let answer = bench.send(&request);
    assert!(answer.response.content_type.starts_with("application/xml"));
    assert!(
        answer.response.body.contains("<invoice-number>INV-"),
        "{}",
        answer.response.body
    );
    assert!(answer.violation.is_some());
}

#[test]
fn the_list_is_a_bare_array_in_pages_by_id() {
    let mut bench = Bench::new();
    let filter = "exported=false&status%5Bin%5D=approved,voided&order_by=id&dir=asc&limit=50";
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let (status, page) = bench.call("GET", &format!("/api/invoices?{filter}&id%5Bgt%5D={after}"), "");
        assert_eq!(status, 200);
        let page = page.as_array().unwrap().clone();
        assert!(page.len() <= 50);
        let Some(last) = page.last() else { break };
        after = last["id"].as_u64().unwrap();
        seen.extend(page.iter().map(|one| one["id"].as_u64().unwrap()));
    }
    let open: Vec<u64> = bench
        .world
        .coupa
        .invoices
        .values()
        .filter(|one| one.status == "approved")
        .map(|one| one.id)
        .collect();
    assert!(open.len() > 50, "more than one page: {}", open.len());
    assert_eq!(seen, open);
    let (_, page) = bench.call("GET", "/api/invoices?limit=500", "");
    assert_eq!(page.as_array().unwrap().len(), 50, "never more than 50");
}

#[test]
fn fields_are_hyphenated_and_decimals_are_strings() {
    let mut bench = Bench::new();
    let (_, invoice) = bench.call("GET", &format!("/api/invoices/{}", bench.first_id()), "");
    assert_eq!(invoice["document-type"], "Invoice");
    assert!(invoice["total-with-taxes"].is_string());
    assert_eq!(invoice["invoice-date"], "2026-03-05T00:00:00+02:00");
    let line = &invoice["invoice-lines"][0];
    assert_eq!(line["type"], "InvoiceQuantityLine");
    assert_eq!(line["price"], "12.50");
    assert_eq!(line["order-line-num"], "1");
    assert!(line["po-number"].is_string());
    assert_eq!(invoice["supplier"]["number"], "S1001");
    assert_eq!(bench.call("GET", "/api/invoices/1", "").0, 404);
}

#[test]
fn fields_trim_the_answer() {
    let mut bench = Bench::new();
    let id = bench.first_id();
    let fields = "%5B%22id%22,%22invoice_number%22,%7B%22supplier%22:%5B%22number%22%5D%7D%5D";
    let (_, invoice) = bench.call("GET", &format!("/api/invoices/{id}?fields={fields}"), "");
    let expected = json!({"id": id, "invoice-number": format!("INV-{id}"), "supplier": {"number": "S1001"}});
    assert_eq!(invoice, expected);
}

#[test]
fn exported_is_set_by_its_own_request_and_taken_back_by_a_void() {
    let mut bench = Bench::new();
    let id = bench.first_id();
    let before = bench.call("GET", &format!("/api/invoices/{id}"), "").1["updated-at"].clone();
    bench.now = NOW.plus_seconds(5);
    let (status, invoice) = bench.call("PUT", &format!("/api/invoices/{id}?exported=true"), "");
    assert_eq!((status, &invoice["exported"]), (200, &Value::Bool(true)));
    assert_ne!(invoice["updated-at"], before, "every write bumps it");
    bench.world.coupa.void(id, bench.now).unwrap();
    let list = format!("/api/invoices?exported=false&status%5Bin%5D=approved,voided&id={id}");
    let (_, page) = bench.call("GET", &list, "");
    assert_eq!(page[0]["status"], "voided");
}

#[test]
fn payments_append_whatever_is_there() {
    let mut bench = Bench::new();
    let id = bench.first_id();
    let body = json!({
        "paid": false,
        "payment-date": "2026-04-01",
        "payment-notes": "QAD",
        "payments": {"payment": [{"payable-type": "InvoiceHeader", "payable-id": id.to_string(),
            "amount-paid": "10.00", "payment-date": "2026-04-01", "notes": "QAD 10USACO 2026/EL/7#1"}]},
    })
    .to_string();
    let target = format!("/api/invoices/{id}");
    bench.call("PUT", &target, &body);
    let (status, invoice) = bench.call("PUT", &target, &body);
    assert_eq!(status, 200);
    assert_eq!(
        invoice["payments"].as_array().unwrap().len(),
        2,
        "a repeat is not recognised"
    );
    assert_eq!(invoice["payments"][1]["amount-paid"], "10");
    assert_ne!(invoice["payments"][0]["id"], invoice["payments"][1]["id"]);
    let (status, invoice) = bench.call("PUT", &target, &body.replace("10.00", "-10.00"));
    assert_eq!((status, invoice["payments"].as_array().unwrap().len()), (200, 3));
    assert_eq!(bench.call("PUT", &target, &body.replace("10.00", "ten")).0, 400);
    assert_eq!(bench.call("PUT", &target, r#"{"invoice-number":"X"}"#).0, 400);
}

#[test]
fn a_lookup_value_that_exists_is_refused() {
    let mut bench = Bench::new();
    let body = r#"{"name":"100 Assembly","external-ref-num":"100","active":true,"lookup":{"name":"QAD Cost Centers"}}"#;
    let (status, created) = bench.call("POST", "/api/lookup_values", body);
    assert_eq!(
        (status, &created["external-ref-code"]),
        (201, &Value::from("100"))
    );
    let (status, refused) = bench.call("POST", "/api/lookup_values", body);
    assert_eq!(status, 400);
    assert_eq!(refused["errors"]["name"][0], "has already been taken");
    let filter = "lookup%5Bname%5D=QAD+Cost+Centers&external-ref-num=100";
    let (_, found) = bench.call("GET", &format!("/api/lookup_values?{filter}"), "");
    assert_eq!(found.as_array().unwrap().len(), 1);
    let id = &created["id"];
    let (status, updated) = bench.call("PUT", &format!("/api/lookup_values/{id}"), r#"{"active":false}"#);
    assert_eq!((status, &updated["active"]), (200, &Value::Bool(false)));
    let elsewhere = body.replace("QAD Cost Centers", "Nowhere");
    assert_eq!(bench.call("POST", "/api/lookup_values", &elsewhere).0, 400);
}

#[test]
fn a_lookup_value_below_another_is_named_by_its_path_and_is_unique_there_only() {
    let mut bench = Bench::new();
    let value = |name: &str, number: &str, parent: &str| {
        format!(
            r#"{{"name":"{name}","external-ref-num":"{number}","lookup":{{"name":"QAD Cost Centers"}},"parent":{{"external-ref-code":"{parent}"}}}}"#
        )
    };
    let root =
        r#"{"name":"100","external-ref-num":"100","lookup":{"name":"QAD Cost Centers"},"parent":null}"#;
    let (_, root) = bench.call("POST", "/api/lookup_values", root);
    let (status, below) = bench.call("POST", "/api/lookup_values", &value("100", "100", "100"));
    assert_eq!(
        (status, &below["external-ref-code"]),
        (201, &Value::from("100-100"))
    );
    assert_eq!(below["parent"]["id"], root["id"]);
    assert_eq!(
        bench
            .call("POST", "/api/lookup_values", &value("a", "1", "100-100"))
            .0,
        201
    );
    assert_eq!(
        bench
            .call("POST", "/api/lookup_values", &value("A", "2", "100-100"))
            .0,
        400
    );
    assert_eq!(
        bench
            .call("POST", "/api/lookup_values", &value("b", "3", "900"))
            .0,
        400
    );
}

#[test]
fn history_records_are_written_found_and_resolved() {
    let mut bench = Bench::new();
    let id = bench.first_id();
    let body = json!({"document-type": "InvoiceHeader", "document-id": id, "contact-alert-type": "Functional",
        "status": "Error", "integration": {"code": "QAD_INVOICES"},
        "responses": [{"response-code": "RECEIPT_MISSING", "response-message": "Waits for the receipt."}]});
    let (status, record) = bench.call(
        "POST",
        "/api/integration_history_records/create_alert",
        &body.to_string(),
    );
    assert_eq!(status, 201);
    let open = format!(
        "/api/integration_history_records?resolved=false&document-type=InvoiceHeader&document-id={id}"
    );
    assert_eq!(bench.call("GET", &open, "").1.as_array().unwrap().len(), 1);
    let resolve = format!("/api/integration_history_records/{}/resolve", record["id"]);
    assert_eq!(bench.call("PUT", &resolve, "").0, 200);
    assert_eq!(bench.call("GET", &open, "").1, json!([]));
    let unknown = body.to_string().replace("QAD_INVOICES", "OTHER");
    assert_eq!(
        bench.call("POST", "/api/integration_history_records", &unknown).0,
        400
    );
}

#[test]
fn suppliers_are_unique_by_name_and_number_and_listed_by_change() {
    let mut bench = Bench::new();
    bench.now = NOW.plus_seconds(60);
    let body = json!({"name": "Example Wire", "number": "S1009", "status": "active",
        "primary-contact": {"email": "ap@wire.example"}, "primary-address": {"city": "Exampletown"}});
    assert_eq!(bench.call("POST", "/api/suppliers", &body.to_string()).0, 201);
    let (status, refused) = bench.call("POST", "/api/suppliers", &body.to_string());
    assert_eq!(
        (status, &refused["errors"]["name"][0]),
        (400, &Value::from("has already been taken"))
    );
    let since = crate::world::coupa::coupa_instant(NOW)
        .replace('+', "%2B")
        .replace(':', "%3A");
    let (_, changed) = bench.call(
        "GET",
        &format!("/api/suppliers?updated-at%5Bgt%5D={since}&order_by=id"),
        "",
    );
    assert_eq!(changed.as_array().unwrap().len(), 1);
    assert_eq!(changed[0]["number"], "S1009");
}

#[test]
fn orders_are_found_by_number() {
    let mut bench = Bench::new();
    let number = bench.world.qad.orders.values().next().unwrap().number.clone();
    let (_, orders) = bench.call(
        "GET",
        &format!("/api/purchase_orders?po-number={number}&limit=1"),
        "",
    );
    assert_eq!(orders[0]["po-number"], number.as_str());
    assert_eq!(
        bench.call("GET", "/api/purchase_orders?po-number=nothing", "").1,
        json!([])
    );
}

#[test]
fn the_bucket_holds_twenty_and_refills_with_twenty_five_a_second() {
    let mut bench = Bench::new();
    bench.options.coupa_rate_limit = Some(crate::world::coupa::RateLimit::default());
    let request = bench.request("GET", "/api/invoices/1", "");
    let taken = (0..30)
        .filter(|_| bench.send(&request).response.status == 404)
        .count();
    assert_eq!(taken, 20);
    let refused = bench.send(&request).response;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers, [("retry-after", "1".to_owned())]);
    bench.now = NOW.plus_millis(80);
    let taken = (0..5)
        .filter(|_| bench.send(&request).response.status == 404)
        .count();
    assert_eq!(taken, 2);
    let form =
        "grant_type=client_credentials&client_id=example-coupa-client&client_secret=example-coupa-secret";
    assert_eq!(
        bench.send(&token_request(form)).response.status,
        200,
        "tokens do not count"
    );
}

#[test]
fn a_filter_on_an_operator_that_does_not_exist_admits_nothing_by_accident() {
    let mut bench = Bench::new();
    let (_, page) = bench.call("GET", "/api/invoices?id%5Bmore%5D=1", "");
    assert_eq!(page, json!([]), "`more` is read as a field, which no invoice has");
}

#[test]
fn events_are_signed_as_github_signs_which_is_the_same_scheme() {
    let signed = sign_event(b"It's a Secret to Everybody", b"Hello, World!");
    assert_eq!(
        signed.signature,
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
    assert_eq!(
        signed,
        sign_event(b"It's a Secret to Everybody", b"Hello, World!")
    );
    let event: Value = serde_json::from_str(&invoice_event(92_010, "approved", NOW)).unwrap();
    assert_eq!(
        (&event["event-type"], &event["object"]["id"]),
        (&Value::from("invoice"), &Value::from(92_010))
    );
}

#[test]
fn what_a_request_is_about_is_told_without_its_credentials() {
    let bench = Bench::new();
    for (method, target, body, operation, keys) in [
        ("GET", "/api/invoices/7", "", "invoices.get", vec!["7"]),
        (
            "PUT",
            "/api/invoices/7?exported=true",
            "",
            "invoices.exported",
            vec!["7"],
        ),
        (
            "PUT",
            "/api/invoices/7",
            r#"{"payments":{}}"#,
            "invoices.pay",
            vec!["7"],
        ),
        (
            "PUT",
            "/api/invoices/7",
            r#"{"custom-fields":{}}"#,
            "invoices.update",
            vec!["7"],
        ),
        (
            "POST",
            "/api/integration_history_records",
            r#"{"document-id":7}"#,
            "history.create",
            vec!["7"],
        ),
        (
            "GET",
            "/api/purchase_orders?po-number=PO1",
            "",
            "orders.list",
            vec!["PO1"],
        ),
        ("POST", "/oauth2/token", "client_secret=x", "token", vec![]),
        ("PATCH", "/api/invoices/7", "", "unknown", vec![]),
    ] {
        let (told, about) = describe(&bench.request(method, target, body));
        assert_eq!(
            (told, about),
            (operation, keys.into_iter().map(str::to_owned).collect()),
            "{target}"
        );
    }
}
