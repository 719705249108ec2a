//! Suppliers over the wire, both sides.

use super::{Bench, answer, body, document, header};
use crate::connection::ConnectionDocument;
use crate::http::transport::{Method, TransportError};
use ::domain::ids::SupplierCode;
use ::domain::suppliers::{CoupaSupplierStatus, Master, Numbering, SupplierData, SupplierField};
use ::domain::time::Timestamp;
use flows::ports::{CoupaSuppliers, QadSuppliers, ReadError, WriteError};
use serde_json::{Value, json};

fn settings() -> Value {
    let mut settings = document();
    settings["suppliers"] = json!({
        "enabled": true,
        "shared_set": "10SUPP",
        "create_in_qad": true,
        "coupa_defaults": {
            "contact_email": "ap@example.com",
            "street": "1 Default Street", "city": "Defaulton", "postal_code": "00000", "country": "US",
        },
        "qad_defaults": {
            "currency": "USD", "credit_terms": "N30", "invoice_control_profile": "CI",
            "credit_note_control_profile": "CC", "prepayment_control_profile": "CP",
            "purchase_account_profile": "PA", "constants": {"isTaxableSupplier": true},
        },
    });
    settings
}

fn bench() -> Bench {
    Bench::with(&settings())
}

fn code(text: &str) -> SupplierCode {
    text.parse().unwrap()
}

fn data(fields: &[(SupplierField, &str)]) -> SupplierData {
    fields
        .iter()
        .fold(SupplierData::default(), |data, (field, text)| {
            data.with(*field, text)
        })
}

fn full() -> SupplierData {
    data(&[
        (SupplierField::Name, "Example Bearings"),
        (SupplierField::Active, "true"),
        (SupplierField::PaymentTerms, "NET30"),
        (SupplierField::TaxId, "DE123"),
        (SupplierField::Email, "accounts@supplier.example"),
        (SupplierField::Street, "Hauptstr. 1"),
        (SupplierField::City, "Berlin"),
        (SupplierField::PostalCode, "10115"),
        (SupplierField::Country, "DE"),
    ])
}

const COUPA_SUPPLIER: &str = r#"{"id":77,"name":"Example Bearings","number":"S2001","status":"active","tax-id":"DE123",
  "payment-term":{"code":"NET30"},"primary-contact":{"id":5,"email":"old@supplier.example","name-given":"Ann","phone-work":{"number":"1"}},
  "primary-address":{"id":6,"street1":"Hauptstr. 1","street2":"Hof","city":"Berlin","postal-code":"10115","country":{"code":"DE"}},
  "updated-at":"2026-03-05T10:00:00+02:00"}"#;

fn word<T>(result: &Result<T, WriteError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(WriteError::Unknown(_)) => "unknown",
        Err(WriteError::NotApplied { .. }) => "not applied",
        Err(WriteError::Refused(_)) => "refused",
    }
}

#[tokio::test]
async fn coupas_list_is_asked_exactly_as_the_contract_says_and_read() {
    let bench = bench();
    let list = format!(
        r#"[{COUPA_SUPPLIER},{{"id":78,"name":"x","updated-at":"2026-03-05T10:00:00Z"}},{{"id":79,"name":"Draft","number":null,"status":"draft","updated-at":"2026-03-05T10:00:00Z"}}]"#
    );
    bench.script.then(answer(200, &list));
    // 2026-11-07T08:00:00.999Z, cut to the second.
    let since = Timestamp(1_794_038_400_999);
    let page = bench.coupa.suppliers(Some(since), Some(7)).await.unwrap();
    let request = bench.script.sent().remove(0);
    assert_eq!(
        request.url,
        "https://example.coupahost.com/api/suppliers?updated-at%5Bgt%5D=2026-11-07T08%3A00%3A00%2B00%3A00&id%5Bgt%5D=7\
         &order_by=id&dir=asc&limit=50"
    );
    assert_eq!((page.last, page.more), (Some(79), false));
    let read = &page.suppliers[0];
    assert_eq!((read.id, read.number.as_deref()), (77, Some("S2001")));
    assert_eq!(read.status, CoupaSupplierStatus::Active);
    assert_eq!(read.data.get(SupplierField::Country), Some("DE"));
    assert_eq!(read.data.get(SupplierField::PaymentTerms), Some("NET30"));
    assert_eq!(
        page.suppliers[1].status,
        CoupaSupplierStatus::NotApproved("draft".into())
    );
    let (id, problem) = &page.unreadable[0];
    assert_eq!((*id, problem.field.as_str()), (Some(78), "[1].status"));
}

#[tokio::test]
async fn a_page_that_does_not_advance_is_no_page() {
    let bench = bench();
    bench.script.then(answer(200, &format!("[{COUPA_SUPPLIER}]")));
    let error = bench.coupa.suppliers(None, Some(77)).await.unwrap_err();
    assert!(matches!(error, ReadError::Unreadable(problem) if problem.code == "COUPA_PAGE_BROKEN"));
    bench.script.then(answer(404, "{}"));
    assert!(matches!(
        bench.coupa.suppliers(None, None).await,
        Err(ReadError::Refused(_))
    ));
}

#[tokio::test]
async fn a_supplier_is_created_in_coupa_exactly_as_the_contract_says() {
    let bench = bench();
    bench.script.then(answer(201, COUPA_SUPPLIER));
    let created = bench
        .coupa
        .create_supplier(&code("S2001"), &full(), "key-1")
        .await
        .unwrap();
    assert_eq!(created.id, 77);
    let request = bench.script.sent().remove(0);
    assert_eq!(
        (request.method, header(&request, "idempotency-key")),
        (Method::Post, Some("key-1"))
    );
    assert_eq!(request.url, "https://example.coupahost.com/api/suppliers");
    let sent: Value = serde_json::from_str(body(&request)).unwrap();
    assert_eq!(
        sent,
        json!({
            "name": "Example Bearings", "number": "S2001", "status": "active", "tax-id": "DE123",
            "payment-method": "invoice", "payment-term": {"code": "NET30"},
            "primary-contact": {"email": "accounts@supplier.example"},
            "primary-address": {"street1": "Hauptstr. 1", "city": "Berlin", "postal-code": "10115", "country": {"code": "DE"}},
        })
    );
}

#[tokio::test]
async fn what_qad_does_not_tell_comes_from_the_connection_or_is_named() {
    let bare = data(&[(SupplierField::Name, "Bare"), (SupplierField::Active, "false")]);
    let bench = bench();
    bench.script.then(answer(201, COUPA_SUPPLIER));
    let _ = bench.coupa.create_supplier(&code("S1"), &bare, "k").await;
    let sent: Value = serde_json::from_str(body(&bench.script.sent()[0])).unwrap();
    assert_eq!(sent["status"], "inactive");
    assert_eq!(sent["primary-contact"], json!({"email": "ap@example.com"}));
    assert_eq!(
        sent["primary-address"],
        json!({"street1": "1 Default Street", "city": "Defaulton", "postal-code": "00000", "country": {"code": "US"}})
    );
    let bench_of_a_place = Bench::with(&settings());
    bench_of_a_place.script.then(answer(201, COUPA_SUPPLIER));
    let place = data(&[
        (SupplierField::Name, "A Place"),
        (SupplierField::City, "Berlin"),
        (SupplierField::Country, "DE"),
    ]);
    let _ = bench_of_a_place
        .coupa
        .create_supplier(&code("S2"), &place, "k")
        .await;
    let sent: Value = serde_json::from_str(body(&bench_of_a_place.script.sent()[0])).unwrap();
    assert_eq!(
        sent["primary-address"],
        json!({"street1": "1 Default Street", "city": "Berlin", "postal-code": "00000", "country": {"code": "DE"}}),
        "field by field"
    );
    let mut without = settings();
    without["suppliers"]["coupa_defaults"] = json!({});
    let bench = Bench::with(&without);
    let refused = bench.coupa.create_supplier(&code("S1"), &bare, "k").await;
    assert!(
        matches!(&refused, Err(WriteError::Refused(problem)) if problem.code == "SUPPLIER_WITHOUT_CONTACT"),
        "{refused:?}"
    );
    assert!(bench.script.sent().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn taken_is_looked_up_before_it_counts_as_refused() {
    let taken = r#"{"errors":{"name":["has already been taken"]}}"#;
    for (found, expected) in [
        (answer(200, "[]"), "refused"),
        (answer(200, &format!("[{COUPA_SUPPLIER}]")), "unknown"),
        (answer(403, "{}"), "unknown"),
    ] {
        let bench = bench();
        bench.script.then(answer(400, taken));
        bench.script.then(found);
        let result = bench.coupa.create_supplier(&code("S2001"), &full(), "k").await;
        assert_eq!(word(&result), expected);
        if let Err(WriteError::Refused(problem)) = result {
            assert_eq!(problem.code, "COUPA_SUPPLIER_TAKEN");
        }
        let looked_up = bench.script.sent().remove(1).url.clone();
        assert_eq!(
            looked_up,
            "https://example.coupahost.com/api/suppliers?number=S2001"
        );
    }
}

#[tokio::test]
async fn a_write_to_coupa_is_done_unknown_or_not_applied() {
    let read_back = || answer(200, &format!("[{COUPA_SUPPLIER}]"));
    for (outcomes, expected) in [
        (vec![answer(200, COUPA_SUPPLIER)], "done"),
        (vec![answer(200, ""), read_back()], "done"),
        (vec![answer(200, "{}"), answer(403, "")], "unknown"),
        (vec![answer(500, "")], "unknown"),
        (vec![Err(TransportError::MaybeSent("timeout".into()))], "unknown"),
        (
            vec![Err(TransportError::NotSent("refused".into()))],
            "not applied",
        ),
        (vec![answer(429, "")], "not applied"),
        (
            vec![answer(400, r#"{"errors":{"name":["has already been taken"]}}"#)],
            "refused",
        ),
    ] {
        let bench = bench();
        outcomes
            .into_iter()
            .for_each(|outcome| bench.script.then(outcome));
        let name = data(&[(SupplierField::Name, "New")]);
        let result = bench.coupa.update_supplier(77, &code("S2001"), &name, "k").await;
        assert_eq!(word(&result), expected);
        let request = bench.script.sent().remove(0);
        assert_eq!(request.url, "https://example.coupahost.com/api/suppliers/77");
        assert_eq!(body(&request), r#"{"name":"New","number":"S2001"}"#);
    }
}

#[tokio::test]
async fn a_contact_and_an_address_are_written_whole_with_what_coupa_holds_besides() {
    let bench = bench();
    bench.script.then(answer(200, &format!("[{COUPA_SUPPLIER}]")));
    bench.script.then(answer(200, COUPA_SUPPLIER));
    let change = data(&[
        (SupplierField::Email, "new@supplier.example"),
        (SupplierField::City, "Bonn"),
    ]);
    bench
        .coupa
        .update_supplier(77, &code("S2001"), &change, "k")
        .await
        .unwrap();
    let sent = bench.script.sent();
    assert!(
        sent[0]
            .url
            .ends_with("/api/suppliers?id%5Bgt%5D=76&order_by=id&dir=asc&limit=1"),
        "{}",
        sent[0].url
    );
    let written: Value = serde_json::from_str(body(&sent[1])).unwrap();
    assert_eq!(
        written,
        json!({
            "number": "S2001",
            "primary-contact": {"id": 5, "email": "new@supplier.example", "name-given": "Ann", "phone-work": {"number": "1"}},
            "primary-address": {"id": 6, "street1": "Hauptstr. 1", "street2": "Hof", "city": "Bonn", "postal-code": "10115", "country": {"code": "DE"}},
        })
    );
    // Another supplier in its place: nothing is written.
    bench.script.then(answer(200, r#"[{"id":78}]"#));
    let result = bench
        .coupa
        .update_supplier(77, &code("S2001"), &change, "k")
        .await;
    assert_eq!((word(&result), bench.script.sent().len()), ("refused", 3));
}

fn row(code: &str, rest: &str) -> String {
    format!(
        r#"{{"supplierV2.sharedSetCode":"10SUPP","supplierV2.supplierCode":"{code}","supplierV2.businessRelationName":"Example Bearings",
        "supplierV2.isActive":true,"supplierV2.creditTermsCode":"N30","supplierV2.taxIDFederal":"","supplierV2.city":"Berlin",
        "supplierV2.lastModifiedDate":"2026-03-04T00:00:00.000Z"{rest}}}"#
    )
}

#[tokio::test]
async fn qads_list_is_read_and_what_cannot_be_read_is_told_by_its_code() {
    let bench = bench();
    let rows = [
        row("S1", ""),
        row("S2", r#","supplierV2.isActive":"perhaps""#),
        row("TOOLONG-9", ""),
        row("S3", ""),
        row("S3", r#","supplierV2.street1":"elsewhere""#),
        row("S4", r#","supplierV2.sharedSetCode":"OTHER""#),
    ];
    // The second name of a member counts in the script's rows as it does in any JSON reader: the last one.
    let list = format!(
        r#"{{"data":[{}],"auxillaryData":{{"HasMoreParams":"false"}}}}"#,
        rows.join(",")
    );
    bench.script.then(answer(200, &list));
    let scan = bench
        .qad
        .suppliers_since("2026-03-02".parse().unwrap())
        .await
        .unwrap();
    let read: Vec<&str> = scan.suppliers.iter().map(|one| one.code.as_str()).collect();
    assert_eq!(read, ["S1"]);
    let told: Vec<String> = scan
        .unreadable
        .iter()
        .map(|(code, problem)| {
            format!(
                "{} {}",
                code.as_ref().map_or("?", SupplierCode::as_str),
                problem.code
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "S2 QAD_ANSWER_UNREADABLE",
            "? QAD_ANSWER_UNREADABLE",
            "S3 QAD_SUPPLIER_AMBIGUOUS",
            "S4 QAD_ANSWER_UNREADABLE"
        ]
    );
    assert_eq!(
        bench.script.sent()[0].url,
        "https://example.qad.com/clouderp/api/qracore/browses?browseId=urn%3Abrowse%3Abebrowse%3Acom.qad.erp.base.supplierV2s\
         &page=1&pageSize=500&pageAction=first&filter=supplierV2.sharedSetCode%2Ceq%2C10SUPP%2Cliteral\
         &filter=supplierV2.lastModifiedDate%2Cge%2C2026-03-02%2Cliteral"
    );
}

#[tokio::test]
async fn two_pages_of_suppliers_are_two_pages() {
    let bench = bench();
    let page = |rows: &str, more: bool| {
        answer(
            200,
            &format!(r#"{{"data":[{rows}],"auxillaryData":{{"HasMoreParams":"{more}"}}}}"#),
        )
    };
    bench.script.then(page(&row("S1", ""), true));
    bench.script.then(page(&row("S2", ""), false));
    let scan = bench
        .qad
        .suppliers_since("2026-03-02".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(scan.suppliers.len(), 2);
}

const RECORD: &str = r#"{"sharedSetCode":"10SUPP","supplierCode":"S1","businessRelationName":"Example Bearings","isActive":true,
  "creditTermsCode":"N30","federalTax":"OLD","customDecimal0":1.50,"bankNumberRefV2s":[{"bankNumber":"7"}],"changeStatus":"2",
  "lastModifiedDate":"2026-03-04T00:00:00.000Z","concurrencyHash":"h1"}"#;

fn found(records: &str) -> String {
    format!(r#"{{"data":{{"supplierV2s":[{records}]}},"submitResult":{{"success":true,"errors":[]}}}}"#)
}

const REFUSED: &str = r#"{"data":{},"submitResult":{"success":false,"errors":[{"fieldName":"x","message":"Nein","code":"1","severity":1}]}}"#;
const EXISTS: &str =
    r#"{"submitResult":{"success":false,"errors":[{"message":"Business relation C77 already exists"}]}}"#;

#[tokio::test]
async fn a_supplier_is_read_by_its_keys_and_none_is_only_an_empty_list() {
    let bench = bench();
    bench.script.then(answer(200, &found(RECORD)));
    let read = bench.qad.supplier(&code("s1")).await.unwrap().unwrap();
    assert_eq!(read.data.get(SupplierField::TaxId), Some("OLD"));
    assert_eq!(
        bench.script.sent()[0].url,
        "https://example.qad.com/clouderp/api/erp/supplierV2s?sharedSetCode=10SUPP&supplierCode=s1\
         &viewUri=urn%3Abe%3Acom.qad.base.supplier.ISupplierV2"
    );
    bench.script.then(answer(200, &found("")));
    assert_eq!(bench.qad.supplier(&code("S1")).await.unwrap(), None);
    for outcome in [
        answer(404, "{}"),
        answer(200, REFUSED),
        answer(200, r#"{"data":{}}"#),
    ] {
        bench.script.then(outcome);
        assert!(bench.qad.supplier(&code("S1")).await.is_err());
    }
}

#[tokio::test]
async fn a_supplier_is_created_in_qad_with_the_connections_defaults() {
    let bench = bench();
    bench
        .script
        .then(answer(200, &found(&RECORD.replace("\"S1\"", "\"C77\""))));
    let fields = data(&[
        (SupplierField::Name, "Newcomer"),
        (SupplierField::Active, "true"),
        (SupplierField::TaxId, "T1"),
        (SupplierField::City, "Bonn"),
    ]);
    bench
        .qad
        .create_supplier(&code("C77"), &fields, "key-9")
        .await
        .unwrap();
    let request = bench.script.sent().remove(0);
    assert_eq!(
        request.url,
        "https://example.qad.com/clouderp/api/erp/supplierV2s?viewUri=urn%3Abe%3Acom.qad.base.supplier.ISupplierV2"
    );
    let sent: Value = serde_json::from_str(body(&request)).unwrap();
    assert_eq!(
        sent,
        json!({"supplementaryMessages": [], "supplierV2s": [{
            "sharedSetCode": "10SUPP", "supplierCode": "C77", "businessRelationCode": "C77",
            "isCreateBusinessRelationRequired": true, "businessRelationName": "Newcomer", "isActive": true,
            "currencyCode": "USD", "creditTermsCode": "N30", "invoiceStatusCode": "AP-RMALLOC",
            "invoiceControlGLProfileCode": "CI", "creditNoteControlGLProfileCode": "CC",
            "prePaymentControlGLProfileCode": "CP", "purchaseAccountGLProfileCode": "PA",
            "taxIDFederal": "T1", "federalTax": "T1", "city": "Bonn", "isTaxableSupplier": true,
            "dataOperation": "C", "concurrencyHash": "",
        }]})
    );
}

#[tokio::test]
async fn a_supplier_can_be_written_as_a_business_document() {
    let mut document = settings();
    document["qad"]["profile"] = json!({"supplier": {"bdoc_path": "/api/bdoc/base/md/Supplier"}});
    let record = RECORD.replace("\"S1\"", "\"C77\"");
    let newcomer = data(&[(SupplierField::Name, "Newcomer"), (SupplierField::Active, "true")]);
    for answered in [format!("[{record}]"), String::new(), "{}".to_owned()] {
        let bench = Bench::with(&document);
        bench.script.then(answer(201, &answered));
        // What the answer does not show is read where it was read before.
        bench.script.then(answer(200, &found(&record)));
        bench
            .qad
            .create_supplier(&code("C77"), &newcomer, "k")
            .await
            .unwrap();
        let sent = bench.script.sent();
        assert_eq!(
            sent.len(),
            if answered.starts_with('[') { 1 } else { 2 },
            "{answered}"
        );
        assert_eq!(
            sent[0].url,
            "https://example.qad.com/clouderp/api/bdoc/base/md/Supplier"
        );
        let body: Value = serde_json::from_str(body(&sent[0])).unwrap();
        assert_eq!(body[0]["supplierCode"], "C77");
    }
    let bench = Bench::with(&document);
    bench.script.then(answer(200, &found(&record)));
    bench.script.then(answer(201, &format!("[{record}]")));
    bench
        .qad
        .update_supplier(&code("C77"), &newcomer, "k")
        .await
        .unwrap();
    let sent = bench.script.sent();
    assert_eq!(
        sent[1].url,
        "https://example.qad.com/clouderp/api/bdoc/base/md/Supplier"
    );
    let body: Value = serde_json::from_str(body(&sent[1])).unwrap();
    assert_eq!(
        (&body[0]["dataOperation"], &body[0]["supplierCode"]),
        (&json!("U"), &json!("C77"))
    );
}

#[tokio::test]
async fn a_create_in_qad_is_done_refused_or_unknown() {
    let ours = found(&RECORD.replace("\"S1\"", "\"C77\""));
    for (outcomes, expected) in [
        (vec![answer(200, &ours)], "done"),
        // Success with an echo that says nothing is read back.
        (vec![answer(200, &found("")), answer(200, &ours)], "done"),
        (vec![answer(200, &found("")), answer(200, &found(""))], "unknown"),
        // 200 alone is no success.
        (vec![answer(200, r#"{"data":{}}"#)], "unknown"),
        (vec![answer(200, REFUSED), answer(200, &found(""))], "refused"),
        // Refused because it is there, in whatever language: looked up.
        (vec![answer(200, REFUSED), answer(200, &ours)], "unknown"),
        (vec![answer(200, REFUSED), answer(404, "")], "unknown"),
        // Something exists: this supplier, or a business relation of its code.
        (vec![answer(200, EXISTS), answer(200, &ours)], "unknown"),
        (vec![answer(200, EXISTS), answer(404, "")], "unknown"),
        (vec![answer(200, EXISTS), answer(200, &found(""))], "refused"),
        (vec![answer(500, "")], "unknown"),
        (vec![Err(TransportError::MaybeSent("reset".into()))], "unknown"),
        (
            vec![Err(TransportError::NotSent("refused".into()))],
            "not applied",
        ),
    ] {
        let bench = bench();
        outcomes
            .into_iter()
            .for_each(|outcome| bench.script.then(outcome));
        let fields = data(&[(SupplierField::Name, "N")]);
        let result = bench.qad.create_supplier(&code("C77"), &fields, "k").await;
        assert_eq!(word(&result), expected, "{result:?}");
        if let Err(WriteError::Refused(problem)) = result {
            assert_eq!(problem.code, "QAD_SUPPLIER_REFUSED");
        }
    }
}

#[tokio::test]
async fn an_update_in_qad_is_the_whole_record_under_the_hash_it_was_read_with() {
    let bench = bench();
    bench.script.then(answer(200, &found(RECORD)));
    bench.script.then(answer(200, &found(RECORD)));
    let change = data(&[(SupplierField::Active, "false"), (SupplierField::TaxId, "NEW")]);
    bench
        .qad
        .update_supplier(&code("S1"), &change, "k")
        .await
        .unwrap();
    let request = bench.script.sent().remove(1);
    assert_eq!(
        request.url,
        "https://example.qad.com/clouderp/api/erp/supplierV2s?sharedSetCode=10SUPP&supplierCode=S1\
         &viewUri=urn%3Abe%3Acom.qad.base.supplier.ISupplierV2"
    );
    assert!(
        body(&request).contains(r#""customDecimal0":1.50"#),
        "digit for digit: {}",
        body(&request)
    );
    let sent: Value = serde_json::from_str(body(&request)).unwrap();
    let mut expected: Value = serde_json::from_str(RECORD).unwrap();
    expected["isActive"] = json!(false);
    expected["federalTax"] = json!("NEW");
    expected["dataOperation"] = json!("U");
    assert_eq!(
        sent,
        json!({"supplementaryMessages": [], "supplierV2s": [expected]})
    );
}

#[tokio::test]
async fn a_record_that_somebody_changed_meanwhile_is_read_and_written_again() {
    for (hash, expected) in [("h2", "not applied"), ("h1", "refused")] {
        let bench = bench();
        bench.script.then(answer(200, &found(RECORD)));
        bench.script.then(answer(200, REFUSED));
        bench
            .script
            .then(answer(200, &found(&RECORD.replace("h1", hash))));
        let change = data(&[(SupplierField::City, "Bonn")]);
        let result = bench.qad.update_supplier(&code("S1"), &change, "k").await;
        assert_eq!(word(&result), expected);
    }
}

/// What the request at a place wrote.
fn written(bench: &Bench, place: usize) -> Value {
    serde_json::from_str(body(&bench.script.sent()[place])).unwrap()
}

#[tokio::test]
async fn a_new_supplier_gets_the_connections_constants() {
    let mut document = settings();
    document["suppliers"]["coupa_defaults"]["matching_level"] = json!("3-way");
    document["suppliers"]["coupa_defaults"]["content_groups"] = json!(["Plant 10", "Plant 20"]);
    let bench = Bench::with(&document);
    bench.script.then(answer(201, COUPA_SUPPLIER));
    bench
        .coupa
        .create_supplier(&code("S2001"), &full(), "key")
        .await
        .unwrap();
    let sent = written(&bench, 0);
    assert_eq!(sent["invoice-matching-level"], "3-way");
    assert_eq!(
        sent["content-groups"],
        json!([{"name": "Plant 10"}, {"name": "Plant 20"}])
    );
}

/// The number in Coupa becomes QAD's code as on invoices, in both directions; a spelling that is there stays.
#[tokio::test]
async fn numbers_of_suppliers_go_through_the_map_of_supplier_codes() {
    let mut document = settings();
    document["coupa"]["supplier_code"] = json!({"strip_prefix": "V-", "pad_to": 6});
    let bench = Bench::with(&document);
    let numbered = |number: &str| COUPA_SUPPLIER.replace("S2001", number);
    bench
        .script
        .then(answer(200, &format!("[{}]", numbered("V-123"))));
    let page = bench.coupa.suppliers(None, None).await.unwrap();
    assert_eq!(page.suppliers[0].number.as_deref(), Some("000123"));
    bench
        .script
        .then(answer(200, &format!("[{}]", numbered("V-123"))));
    let found = bench.coupa.suppliers_numbered(&code("000123")).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        bench.script.sent()[1].url.contains("number=V-123"),
        "{}",
        bench.script.sent()[1].url
    );
    bench.script.then(answer(201, &numbered("V-123")));
    bench
        .coupa
        .create_supplier(&code("000123"), &full(), "key")
        .await
        .unwrap();
    assert_eq!(written(&bench, 2)["number"], "V-123");
    // One that is there under a longer spelling keeps it; one without a number gets it.
    for (held, number) in [("V-000123", json!(null)), ("", json!("V-123"))] {
        let before = bench.script.sent().len();
        bench.script.then(answer(200, &format!("[{}]", numbered(held))));
        bench.script.then(answer(200, &numbered("V-123")));
        let data = data(&[(SupplierField::Name, "New")]);
        bench
            .coupa
            .update_supplier(77, &code("000123"), &data, "key")
            .await
            .unwrap();
        assert_eq!(written(&bench, before + 1)["number"], number, "{held}");
    }
    let before = bench.script.sent().len();
    let refused = bench.coupa.create_supplier(&code("123"), &full(), "key").await;
    assert!(
        matches!(refused, Err(WriteError::Refused(problem)) if problem.code == "SUPPLIER_CODE_NOT_MAPPED")
    );
    assert_eq!(bench.script.sent().len(), before, "nothing is sent");
}

#[test]
fn filters_and_constants_are_checked() {
    let wrong = |change: fn(&mut Value)| {
        let mut document = settings();
        change(&mut document);
        let problems = ConnectionDocument::parse(&document.to_string()).unwrap_err();
        problems
            .into_iter()
            .map(|problem| problem.field)
            .collect::<Vec<_>>()
    };
    /// A setting and how it is spoilt.
    type Spoilt = (&'static str, fn(&mut Value));
    let cases: [Spoilt; 7] = [
        ("suppliers.change_share.percent", |all| {
            all["suppliers"]["change_share"] = json!({"percent": 101});
        }),
        ("suppliers.tax_id_fillers", |all| {
            all["suppliers"]["tax_id_fillers"] = json!(vec!["x"; 101]);
        }),
        ("suppliers.filter.types", |all| {
            all["suppliers"]["filter"] = json!({"types": [" "]});
        }),
        ("suppliers.filter.sites", |all| {
            all["suppliers"]["filter"] = json!({"sites": [""]});
        }),
        ("suppliers.coupa_defaults.matching_level", |all| {
            all["suppliers"]["coupa_defaults"]["matching_level"] = json!("4-way");
        }),
        ("suppliers.coupa_defaults.content_groups", |all| {
            all["suppliers"]["coupa_defaults"]["content_groups"] = json!([" "]);
        }),
        ("coupa.supplier_code.field", |all| {
            all["coupa"]["supplier_code"] = json!({"field": "supplier.custom-fields.code"});
        }),
    ];
    for (field, change) in cases {
        assert_eq!(wrong(change), [field]);
    }
    let mut document = settings();
    document["suppliers"]["filter"] = json!({"active": true, "types": ["trade "], "sites": ["10-100"]});
    document["suppliers"]["change_share"] = json!({"percent": 5});
    document["suppliers"]["tax_id_fillers"] = json!(["n.v.t."]);
    let policy = ConnectionDocument::parse(&document.to_string())
        .unwrap()
        .suppliers
        .policy;
    assert!(policy.filter.active && policy.filter.types.contains("TRADE"));
    assert_eq!(
        (
            policy.change_share.change_percent_max,
            policy.change_share.change_count_min
        ),
        (5, 10)
    );
    assert!(!policy.tax_id_fillers.leave("NVT"));
}

#[test]
fn the_settings_are_checked_and_absent_they_are_off() {
    let parse = |settings: &Value| ConnectionDocument::parse(&settings.to_string());
    let absent = parse(&document()).unwrap().suppliers;
    assert!(!absent.enabled && !absent.policy.create_in_qad && absent.policy.create_in_coupa);
    let mut own = settings();
    own["suppliers"]["masters"] = json!({"email": "coupa"});
    own["suppliers"]["numbering"] = json!({"by": "counter", "prefix": "CP", "digits": 5});
    own["invoices"] = json!({"credit_terms": {"NET30": "N30"}});
    let read = parse(&own).unwrap().suppliers.policy;
    assert_eq!(read.master(SupplierField::Email), Master::Coupa);
    assert_eq!(read.master(SupplierField::Active), Master::Either);
    assert!(matches!(read.numbering, Numbering::Counter { digits: 5, .. }));
    assert_eq!(read.terms_in_qad("NET30"), "N30");
    for (path, value, field) in [
        ("/suppliers/shared_set", json!(" "), "suppliers.shared_set"),
        (
            "/suppliers/qad_defaults/currency",
            json!(""),
            "suppliers.qad_defaults.currency",
        ),
        (
            "/suppliers/qad_defaults/purchase_account_profile",
            json!(""),
            "suppliers.qad_defaults.purchase_account_profile",
        ),
        ("/suppliers/create_in_qad", json!("x"), "suppliers.create_in_qad"),
    ] {
        let mut wrong = settings();
        *wrong.pointer_mut(path).unwrap() = value;
        let problems = parse(&wrong).unwrap_err();
        assert_eq!(problems[0].field, field);
    }
    for numbering in [
        json!({"by": "counter", "prefix": "CPXY", "digits": 5}),
        json!({"by": "counter", "prefix": "C", "digits": 0}),
        json!({"by": "coupa-id", "prefix": "ABCDEFGH"}),
    ] {
        let mut wrong = settings();
        wrong["suppliers"]["numbering"] = numbering.clone();
        assert!(
            parse(&wrong).unwrap_err()[0]
                .field
                .starts_with("suppliers.numbering"),
            "{numbering}"
        );
    }
}
