//! Wire conformance of the QAD door, and QAD's rules, without sockets.

use super::*;
use crate::world::qad::{
    DOMAIN, Exact, OTHER_DOMAIN, OTHER_ENTITY, QadOrder, QadOrderLine, QadReceipt, Supplier,
};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_774_000_000_000);

struct Bench {
    world: World,
    options: Options,
    token: String,
}

fn receipt(receiver: &str, quantity: i64) -> QadReceipt {
    QadReceipt {
        receiver: receiver.to_owned(),
        order: "PO100234".to_owned(),
        line: 1,
        quantity: Exact(Decimal::from(quantity)),
        is_return: quantity < 0,
        date: jiff::civil::date(2026, 3, 2),
        packing_slip: "PS-1".to_owned(),
        vouchered: Exact::default(),
        logistics_charge: String::new(),
        finished: false,
        unit_cost: None,
        domain: DOMAIN.to_owned(),
        consigned: false,
    }
}

impl Bench {
    /// One order of 100 at 12.50, received with two receivers of 60 and 40, 10 of which went back.
    fn new() -> Self {
        let mut world = World::seed(&[], NOW);
        for (id, code) in [(1, "10S1001"), (2, "10S1002")] {
            let supplier = Supplier {
                coupa_id: id,
                name: format!("Example {code}"),
                coupa_number: Some(code.to_owned()),
                qad_code: Some(code.to_owned()),
                currency: "USD".to_owned(),
            };
            world.qad.add_supplier(&supplier, NOW);
        }
        world.qad.add_order(QadOrder {
            number: "PO100234".to_owned(),
            supplier: "10S1001".to_owned(),
            currency: "USD".to_owned(),
            status: String::new(),
            evaluated_receipts: false,
            domain: DOMAIN.to_owned(),
            other_entity: None,
            lines: vec![QadOrderLine {
                number: 1,
                part: "02-0009".to_owned(),
                description: "Bracket".to_owned(),
                unit: "EA".to_owned(),
                ordered: Exact(Decimal::from(100)),
                unit_price: Exact(Decimal::new(1250, 2)),
                terms: Default::default(),
                status: String::new(),
            }],
        });
        for one in [
            receipt("RC000871", 60),
            receipt("RC000872", 40),
            receipt("RC000873", -10),
        ] {
            world.qad.post_receipt(one).unwrap();
        }
        let token = world.issue_token(System::Qad, NOW, 3_600);
        Self {
            world,
            options: Options::default(),
            token,
        }
    }

    fn request(&self, method: &str, target: &str, body: &str) -> WireRequest {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = [
            ("authorization", format!("Bearer {}", self.token)),
            ("accept", "application/json".to_owned()),
            ("content-type", "application/json".to_owned()),
            ("user-agent", "qad-coupa/0.1.0".to_owned()),
        ];
        WireRequest {
            method: method.to_owned(),
            path: format!("{CONTEXT_ROOT}{path}"),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    fn send(&mut self, request: &WireRequest) -> Answer {
        handle(&mut self.world, &self.options, request, NOW, None)
    }

    fn call(&mut self, method: &str, target: &str, body: &str) -> WireResponse {
        let request = self.request(method, target, body);
        self.send(&request).response
    }

    fn create(&mut self, body: &Value) -> Value {
        let target = format!("/api/erp/supplierInvoices?viewUri={SUPPLIER_INVOICE_VIEW}");
        let body = json!({"supplierInvoices": [body], "supplementaryMessages": []}).to_string();
        let answer = self.call("POST", &target, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    fn browse(&mut self, rest: &str) -> Value {
        let answer = self.call("GET", &format!("/api/qracore/browses?{rest}"), "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

/// The wire contract's own example.
fn example() -> Value {
    json!({"entityCode":"10USACO","domainCode":"10USA","supplierCode":"10S1001",
        "supplierInvoiceReference":"INV-55812","invoiceType":"INVOICE",
        "daybookCode":"SI","matchingDaybookCode":"RM","currencyCode":"USD",
        "invoiceDate":"2026-03-05T00:00:00.000Z","postingDate":"2026-03-06T00:00:00.000Z",
        "creditTermsCode":"N30","invoiceStatusCode":"AP-RMALLOC","totalAmount":795.00,"taxAmount":45.00,
        "description":"Coupa 918273",
        "purchaseOrders":[{"purchaseOrderDomain":"10USA","purchaseOrderNumber":"PO100234"}],
        "receiverMatchings":[{"purchaseOrderNumber":"PO100234","purchaseOrderLine":1,
            "receiverNumber":"RC000871","matchQuantity":60.0,"matchUnitPrice":12.50,"isFinished":true}],
        "additionalCosts":[{"glAccountCode":"6100","costCenterCode":"","projectCode":"","amount":0.0,"description":"Freight"}],
        "dataOperation":"C","concurrencyHash":""})
}

fn token_request(bench: &Bench, form: &str) -> WireRequest {
    let mut request = bench.request("POST", "/oauth/token", form);
    request.headers.clear();
    request
}

#[test]
fn every_way_to_log_in_works_and_a_wrong_password_does_not() {
    let mut bench = Bench::new();
    let password =
        "grant_type=password&client_id=example-qad-client&username=example-user&password=example-password";
    let client =
        "grant_type=client_credentials&client_id=example-qad-client&client_secret=example-qad-secret";
    for (form, status) in [
        (password.to_owned(), 200),
        (client.to_owned(), 200),
        (password.replace("example-password", "wrong"), 401),
        (client.replace("example-qad-secret", "wrong"), 401),
    ] {
        let request = token_request(&bench, &form);
        let answer = bench.send(&request).response;
        assert_eq!(answer.status, status);
        assert_eq!(answer.body.contains("invalid_grant"), status == 401);
    }
    let login = bench.call(
        "POST",
        "/api/login",
        r#"{"username":"example-user","password":"example-password"}"#,
    );
    let token: Value = serde_json::from_str(&login.body).unwrap();
    let mut request = bench.request("GET", "/api/qracore/browses?browseId=none", "");
    for (authorization, status) in [
        (format!("Bearer {}", token["access_token"].as_str().unwrap()), 200),
        (
            format!("Basic {}", STANDARD.encode("example-user:example-password")),
            200,
        ),
        (format!("Basic {}", STANDARD.encode("example-user:wrong")), 401),
        ("Bearer nonsense".to_owned(), 401),
    ] {
        request.headers.insert("authorization".to_owned(), authorization);
        assert_eq!(bench.send(&request).response.status, status);
    }
}

#[test]
fn a_browse_needs_its_page_parameters_and_a_name_that_exists() {
    let mut bench = Bench::new();
    let none = json!({"data": [], "auxillaryData": {"HasMoreParams": "false"}});
    for rest in [
        format!("browseId={RECEIPTS_BROWSE}"),
        format!("browseId={RECEIPTS_BROWSE}&page=1&pageSize=10"),
        format!("browseId={RECEIPTS_BROWSE}&page=2&pageSize=10&pageAction=first"),
        "browseId=urn:browse:mfg:nothing&page=1&pageSize=10&pageAction=first".to_owned(),
    ] {
        assert_eq!(bench.browse(&rest), none, "{rest}");
    }
}

#[test]
fn pages_follow_each_other_and_say_whether_more_comes() {
    let mut bench = Bench::new();
    let page = |number: u32, action: &str| {
        format!("browseId={RECEIPTS_BROWSE}&page={number}&pageSize=2&pageAction={action}")
    };
    let first = bench.browse(&page(1, "first"));
    assert_eq!(first["data"].as_array().unwrap().len(), 2);
    assert_eq!(first["auxillaryData"]["HasMoreParams"], "true");
    let second = bench.browse(&page(2, "next"));
    assert_eq!(second["data"].as_array().unwrap().len(), 1);
    assert_eq!(second["auxillaryData"]["HasMoreParams"], "false");
}

#[test]
fn filters_compare_numbers_dates_and_codes_each_in_their_way() {
    let mut bench = Bench::new();
    let count = |bench: &mut Bench, filter: &str| {
        let rest =
            format!("browseId={RECEIPTS_BROWSE}&page=1&pageSize=50&pageAction=first&filter={filter},literal");
        bench.browse(&rest)["data"].as_array().unwrap().len()
    };
    for (filter, rows) in [
        ("prh_hist.prh_nbr,eq,po100234", 3),
        ("prh_hist.prh_nbr,eq,PO10023", 0),
        ("prh_hist.prh_rcvd,eq,60.000", 1),
        ("prh_hist.prh_rcvd,gt,40", 1),
        ("prh_hist.prh_rcvd,ge,40", 2),
        ("prh_hist.prh_rcvd,lt,0", 1),
        ("prh_hist.prh_rcvd,le,40", 2),
        ("prh_hist.prh_rcp_date,ge,2026-03-02", 3),
        ("prh_hist.prh_rcp_date,ge,2026-03-03", 0),
        ("prh_hist.prh_receiver,cn,0087", 3),
        ("prh_hist.prh_receiver,sw,rc", 3),
        ("prh_hist.prh_receiver,ew,72", 1),
    ] {
        assert_eq!(count(&mut bench, filter), rows, "{filter}");
    }
    let target =
        format!("/api/qracore/browses?browseId={RECEIPTS_BROWSE}&page=1&pageSize=5&pageAction=first");
    for bad in [
        "prh_hist.no_such,eq,1,literal",
        "prh_hist.prh_nbr,like,1,literal",
        "prh_hist.prh_nbr,eq,1",
    ] {
        let request = bench.request("GET", &format!("{target}&filter={bad}"), "");
        let answer = bench.send(&request);
        assert_eq!(answer.response.status, 400, "{bad}");
        assert!(answer.violation.is_some(), "{bad}");
    }
}

#[test]
fn numbers_are_written_with_their_own_digits() {
    let mut bench = Bench::new();
    let target = format!("/api/qracore/browses?browseId={ORDERS_BROWSE}&page=1&pageSize=5&pageAction=first");
    let body = bench.call("GET", &target, "").body;
    assert!(body.contains(r#""pod_det.pod_pur_cost":12.50,"#), "{body}");
    assert!(
        body.contains(r#""pod_det.pod_qty_rcvd":90"#),
        "received less returned: {body}"
    );
    assert!(body.contains(r#""po_mstr.po_ers_opt":"1""#), "{body}");
}

#[test]
fn every_browse_of_the_profile_has_its_columns() {
    let mut bench = Bench::new();
    for (browse, column) in [
        (SUPPLIERS_BROWSE, "supplierV2.supplierCode"),
        (COST_CENTERS_BROWSE, "cc_mstr.cc_ctr"),
        (PROJECTS_BROWSE, "project.projectCode"),
        (GL_ACCOUNTS_BROWSE, "glAccount.glAccountCode"),
    ] {
        let rows = bench.browse(&format!("browseId={browse}&page=1&pageSize=50&pageAction=first"));
        assert!(rows["data"][0][column].is_string(), "{browse}: {rows}");
    }
}

#[test]
fn find_wants_its_view_and_its_keys_and_answers_an_empty_list() {
    let mut bench = Bench::new();
    let path = "/api/erp/supplierInvoices?";
    let keys = "entityCode=10USACO&supplierCode=10S1001&supplierInvoiceReference=INV-55812";
    let view = format!("viewUri={SUPPLIER_INVOICE_VIEW}");
    assert_eq!(
        bench
            .call("GET", &format!("{path}{keys}&viewUri=urn:be:other"), "")
            .status,
        404
    );
    assert_eq!(
        bench
            .call("GET", &format!("{path}entityCode=10USACO&{view}"), "")
            .status,
        400
    );
    let none = bench.call("GET", &format!("{path}{keys}&{view}"), "");
    assert_eq!(none.status, 200);
    assert!(none.body.contains(r#""supplierInvoices":[]"#), "{}", none.body);
    bench.create(&example());
    let found = bench.call(
        "GET",
        &format!("{path}{}&{view}", keys.replace("INV-55812", "%20inv-55812%20")),
        "",
    );
    assert!(
        found.body.contains(r#""description":"Coupa 918273""#),
        "case and blanks do not count: {}",
        found.body
    );
}

#[test]
fn a_created_invoice_is_echoed_with_its_number_and_fills_its_receiver() {
    let mut bench = Bench::new();
    let answer = bench.create(&example());
    assert_eq!(answer["submitResult"]["success"], true);
    let echo = &answer["data"]["supplierInvoices"][0];
    assert_eq!(echo["postingYear"], 2026);
    assert_eq!(echo["daybookCode"], "SI");
    assert_eq!(echo["isOpen"], true);
    let voucher = echo["voucher"].as_u64().unwrap();
    let filled = &bench.world.qad.receipts[0];
    assert_eq!(
        (filled.vouchered, filled.open()),
        (Exact(Decimal::from(60)), Decimal::ZERO)
    );
    let mut second = example();
    second["receiverMatchings"][0]["receiverNumber"] = json!("RC000872");
    second["receiverMatchings"][0]["matchQuantity"] = json!(40);
    second["totalAmount"] = json!(545);
    let again = bench.create(&second);
    assert_eq!(
        again["submitResult"]["success"], true,
        "a repeated reference is created again: {again}"
    );
    assert_eq!(again["data"]["supplierInvoices"][0]["voucher"], voucher + 1);
    assert_eq!(bench.world.qad.duplicates(), 1);
}

/// Two domains of one tenant: the same order and the same receiver in both, and nothing of the one shows in the other.
#[test]
fn the_other_domains_order_of_the_same_number_is_another_order() {
    let mut bench = Bench::new();
    let order = bench.world.qad.order(DOMAIN, "PO100234").unwrap().clone();
    bench.world.qad.add_order(QadOrder {
        domain: OTHER_DOMAIN.to_owned(),
        ..order
    });
    let there = QadReceipt {
        domain: OTHER_DOMAIN.to_owned(),
        ..receipt("RC000871", 30)
    };
    bench.world.qad.post_receipt(there).unwrap();
    let shown = |bench: &mut Bench, browse: &str, domain: &str, column: &str| -> Vec<Value> {
        let rest = format!("browseId={browse}&page=1&pageSize=50&pageAction=first&filter={domain},literal");
        let rows = bench.browse(&rest)["data"].as_array().unwrap().clone();
        rows.into_iter().map(|row| row[column].clone()).collect()
    };
    for (domain, received, receipts, entity) in [
        (DOMAIN, json!(90), 3, "10USACO"),
        (OTHER_DOMAIN, json!(30), 1, OTHER_ENTITY),
    ] {
        let filter = format!("pod_det.pod_domain,eq,{domain}");
        assert_eq!(
            shown(&mut bench, ORDERS_BROWSE, &filter, "pod_det.pod_qty_rcvd"),
            [received],
            "{domain}"
        );
        assert_eq!(
            shown(&mut bench, ORDERS_BROWSE, &filter, "po_mstr.po_entity"),
            [json!(entity)]
        );
        let filter = format!("prh_hist.prh_domain,eq,{domain}");
        let found = shown(&mut bench, RECEIPTS_BROWSE, &filter, "prh_hist.prh_receiver");
        assert_eq!(found.len(), receipts, "{domain}");
    }
    let mut body = example();
    body["entityCode"] = json!(OTHER_ENTITY);
    body["domainCode"] = json!(OTHER_DOMAIN);
    body["purchaseOrders"][0]["purchaseOrderDomain"] = json!(OTHER_DOMAIN);
    // The receiver of this number has 60 open in the one domain, and 30 in this one.
    let refused = bench.create(&body);
    assert_eq!(
        refused["submitResult"]["errors"][0]["code"], "MATCH-QTY",
        "{refused}"
    );
    body["receiverMatchings"][0]["matchQuantity"] = json!(30);
    body["totalAmount"] = json!(420);
    let taken = bench.create(&body);
    assert_eq!(taken["submitResult"]["success"], true, "{taken}");
    let invoiced: Vec<(&str, Decimal)> = bench
        .world
        .qad
        .receipts
        .iter()
        .filter(|receipt| receipt.receiver == "RC000871")
        .map(|receipt| (receipt.domain.as_str(), receipt.vouchered.0))
        .collect();
    assert_eq!(
        invoiced,
        [(DOMAIN, Decimal::ZERO), (OTHER_DOMAIN, Decimal::from(30))]
    );
    // The same bill of the other entity is another bill, with a number of its own.
    let first = bench.create(&example());
    assert_eq!(first["submitResult"]["success"], true, "{first}");
    let voucher = |answer: &Value| answer["data"]["supplierInvoices"][0]["voucher"].clone();
    assert_eq!(voucher(&first), voucher(&taken));
    assert_eq!(bench.world.qad.duplicates(), 0);
}

#[test]
fn what_contradicts_qads_data_is_refused_and_changes_nothing() {
    let mut bench = Bench::new();
    let cases: [(&str, Value, &str); 20] = [
        ("/supplierCode", json!("NOBODY"), "SUPPLIER"),
        ("/supplierCode", json!("10S1002"), "PO-SUPPLIER"),
        ("/currencyCode", json!("EUR"), "PO-CURRENCY"),
        ("/entityCode", json!("99"), "ENTITY"),
        ("/domainCode", json!("99"), "DOMAIN"),
        ("/entityCode", json!(OTHER_ENTITY), "ENTITY-DOMAIN"),
        ("/entityCode", json!(OTHER_ENTITY), "PO-ENTITY"),
        ("/domainCode", json!(OTHER_DOMAIN), "PO-DOMAIN"),
        (
            "/purchaseOrders/0/purchaseOrderDomain",
            json!(OTHER_DOMAIN),
            "PO-DOMAIN",
        ),
        ("/daybookCode", json!("SC"), "DAYBOOK"),
        ("/matchingDaybookCode", json!("XX"), "DAYBOOK"),
        ("/creditTermsCode", json!("N999"), "TERMS"),
        ("/invoiceStatusCode", json!("NONE"), "STATUS"),
        ("/totalAmount", json!(796.00), "TOTAL"),
        (
            "/purchaseOrders/0/purchaseOrderNumber",
            json!("PO9"),
            "PO-NOT-FOUND",
        ),
        ("/receiverMatchings/0/receiverNumber", json!("RC9"), "RECEIVER"),
        ("/receiverMatchings/0/purchaseOrderLine", json!(2), "RECEIVER"),
        ("/receiverMatchings/0/matchQuantity", json!(61), "MATCH-QTY"),
        ("/receiverMatchings/0/matchQuantity", json!(-60), "MATCH-QTY"),
        ("/additionalCosts/0/glAccountCode", json!("9999"), "CODE"),
    ];
    for (pointer, value, code) in cases {
        let mut body = example();
        *body.pointer_mut(pointer).unwrap() = value.clone();
        let answer = bench.create(&body);
        assert_eq!(answer["submitResult"]["success"], false, "{pointer} {value}");
        let errors = answer["submitResult"]["errors"].as_array().unwrap();
        assert!(
            errors.iter().any(|error| error["code"] == code),
            "{pointer} {value}: {errors:?}"
        );
    }
    assert!(bench.world.qad.invoices.is_empty());
    assert!(
        bench
            .world
            .qad
            .receipts
            .iter()
            .all(|receipt| receipt.vouchered == Exact::default())
    );
}

#[test]
fn a_record_with_a_field_that_does_not_exist_is_no_record() {
    let mut bench = Bench::new();
    let mut body = example();
    body["taxPointDate"] = json!("2026-03-06");
    let target = format!("/api/erp/supplierInvoices?viewUri={SUPPLIER_INVOICE_VIEW}");
    let text = json!({"supplierInvoices": [body]}).to_string();
    assert_eq!(bench.call("POST", &target, &text).status, 400);
    assert_eq!(bench.call("POST", &target, "not json").status, 400);
    assert_eq!(
        bench.call("POST", &target, r#"{"supplierInvoices":[]}"#).status,
        400
    );
    assert_eq!(
        bench
            .call("POST", "/api/erp/supplierInvoices?viewUri=urn:be:other", &text)
            .status,
        404
    );
}

#[test]
fn a_credit_note_matches_a_return_and_is_negative_throughout() {
    let mut bench = Bench::new();
    let mut note = example();
    note["invoiceType"] = json!("CREDITNOTE");
    note["daybookCode"] = json!("SC");
    note["totalAmount"] = json!(-50.00);
    note["taxAmount"] = json!(0);
    note["receiverMatchings"][0]["receiverNumber"] = json!("RC000873");
    note["receiverMatchings"][0]["matchQuantity"] = json!(-4);
    note["receiverMatchings"][0]["isFinished"] = json!(false);
    assert_eq!(bench.create(&note)["submitResult"]["success"], true);
    assert_eq!(bench.world.qad.receipts[2].open(), Decimal::from(-6));
    note["receiverMatchings"][0]["matchQuantity"] = json!(-7);
    note["totalAmount"] = json!(-87.50);
    assert_eq!(
        bench.create(&note)["submitResult"]["success"],
        false,
        "only 6 are open"
    );
}

#[test]
fn receipts_need_an_order_line_and_a_receiver_of_their_own() {
    let mut bench = Bench::new();
    let refused = |code: &str, one: QadReceipt, bench: &mut Bench| {
        assert_eq!(bench.world.qad.post_receipt(one).unwrap_err().code, code);
    };
    refused("RECEIVER-EXISTS", receipt("rc000871", 5), &mut bench);
    refused(
        "PO-NOT-FOUND",
        QadReceipt {
            order: "PO9".to_owned(),
            ..receipt("R1", 5)
        },
        &mut bench,
    );
    refused(
        "POD-NOT-FOUND",
        QadReceipt {
            line: 9,
            ..receipt("R1", 5)
        },
        &mut bench,
    );
    let posted = bench.world.qad.post_receipt(receipt("", 5)).unwrap();
    assert!(!posted.receiver.is_empty(), "a blank receiver number is assigned");
}

#[test]
fn suppliers_are_created_once_and_updated_with_their_current_hash() {
    let mut bench = Bench::new();
    let view = format!("viewUri={SUPPLIER_VIEW}");
    let record = json!({"sharedSetCode": SHARED_SET, "supplierCode": "10S1009", "businessRelationName": "Example Wire",
        "isActive": true, "currencyCode": "USD", "creditTermsCode": "N30", "invoiceStatusCode": "AP-RMALLOC",
        "businessRelationCode": "10S1009", "invoiceControlGLProfileCode": "CI", "creditNoteControlGLProfileCode": "CC",
        "prePaymentControlGLProfileCode": "CP", "purchaseAccountGLProfileCode": "PA",
        "dataOperation": "C", "concurrencyHash": ""});
    let save = |bench: &mut Bench, keys: &str, record: &Value| -> Value {
        let body = json!({"supplierV2s": [record], "supplementaryMessages": []}).to_string();
        serde_json::from_str(
            &bench
                .call("POST", &format!("/api/erp/supplierV2s?{keys}{view}"), &body)
                .body,
        )
        .unwrap()
    };
    let keys = format!("sharedSetCode={SHARED_SET}&supplierCode=10S1009&");
    assert_eq!(save(&mut bench, "", &record)["submitResult"]["success"], true);
    let again = save(&mut bench, "", &record);
    assert_eq!(
        again["submitResult"]["errors"][0]["message"],
        "Supplier already exists"
    );
    assert_eq!(
        save(&mut bench, &keys, &record)["submitResult"]["success"],
        false,
        "keys on a create"
    );
    let read: Value = serde_json::from_str(
        &bench
            .call("GET", &format!("/api/erp/supplierV2s?{keys}{view}"), "")
            .body,
    )
    .unwrap();
    let mut current = read["data"]["supplierV2s"][0].clone();
    current["dataOperation"] = json!("U");
    assert_eq!(save(&mut bench, &keys, &current)["submitResult"]["success"], true);
    let stale = save(&mut bench, &keys, &current);
    assert_eq!(stale["submitResult"]["errors"][0]["code"], "CONCURRENCY");
    let mut long = record.clone();
    long["supplierCode"] = json!("123456789");
    assert_eq!(save(&mut bench, "", &long)["submitResult"]["success"], false);
}

#[test]
fn business_documents_are_an_array_and_answer_201() {
    let mut bench = Bench::new();
    let target = "/api/bdoc/qad/base/Example";
    assert_eq!(
        bench.call("POST", target, r#"[{"domainCode":"10USA"}]"#).status,
        201
    );
    assert_eq!(
        bench.call("POST", target, r#"{"domainCode":"10USA"}"#).status,
        400
    );
}

#[test]
fn payments_close_the_invoice_they_pay() {
    let mut bench = Bench::new();
    bench.create(&example());
    let payment = |status: &str| crate::world::qad::PaymentAllocation {
        instrument: "EL".to_owned(),
        status: status.to_owned(),
        last_modified: jiff::civil::date(2026, 4, 3),
        ..crate::world::qad::PaymentAllocation::of(
            1207,
            "10S1001",
            "INV-55812",
            Decimal::from(795),
            jiff::civil::date(2026, 4, 1),
        )
    };
    for (status, open) in [("Initial", true), ("Paid", false), ("Bounced", true)] {
        bench.world.qad.save_payment(payment(status));
        assert_eq!(bench.world.qad.invoices[0].is_open, open, "{status}");
    }
    let rest = format!(
        "browseId={PAYMENTS_BROWSE}&page=1&pageSize=5&pageAction=first&filter=supplierPayment.entityCode,eq,10USACO,literal&filter=supplierPayment.lastModifiedDate,ge,2026-04-03,literal"
    );
    let rows = bench.browse(&rest);
    assert_eq!(
        rows["data"].as_array().unwrap().len(),
        1,
        "a change of status is no second row"
    );
    assert_eq!(rows["data"][0]["supplierPayment.status"], "Bounced");
}

proptest! {
    #[test]
    fn no_split_of_a_receipt_over_invoices_ever_exceeds_it(quantities in prop::collection::vec(1_i64..40, 1..8)) {
        let mut bench = Bench::new();
        for (index, quantity) in quantities.iter().enumerate() {
            let mut body = example();
            body["supplierInvoiceReference"] = json!(format!("INV-{index}"));
            body["taxAmount"] = json!(0);
            body["receiverMatchings"][0]["isFinished"] = json!(false);
            body["receiverMatchings"][0]["matchQuantity"] = json!(quantity);
            body["totalAmount"] = serde_json::from_str(&Decimal::from(*quantity).saturating_mul(Decimal::new(1250, 2)).to_string()).unwrap();
            let open = bench.world.qad.receipts[0].open();
            let accepted = bench.create(&body)["submitResult"]["success"] == true;
            prop_assert_eq!(accepted, Decimal::from(*quantity) <= open);
        }
        prop_assert!(bench.world.qad.receipts[0].open() >= Decimal::ZERO);
    }
}
