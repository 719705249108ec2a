//! QAD over the wire.

use super::*;
use crate::http::transport::Method;
use ::domain::documents::{OrderStatus, Pending};
use ::domain::ids::{DocumentKind, OrderLineKey, PurchaseOrderNumber, QadInvoiceIdentity};
use ::domain::matching::{AdditionalCost, ReceiverMatch, SupplierInvoiceDraft};
use ::domain::money::parse_decimal;
use ::domain::time::Date;
use flows::ports::{Qad, ReadError, WriteError};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Value, json};

fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

fn date(text: &str) -> Date {
    text.parse().unwrap()
}

fn number() -> PurchaseOrderNumber {
    "PO100234".parse().unwrap()
}

fn rows(rows: &[Value], more: Value) -> Outcome {
    answer(
        200,
        &json!({"data": rows, "auxillaryData": {"HasMoreParams": more}}).to_string(),
    )
}

// ----------------------------------------------------------------------------------------------------------- orders

fn order_row(line: u32) -> Value {
    json!({
        "pod_det.pod_domain": "10USA", "pod_det.pod_nbr": "PO100234", "pod_det.pod_line": line, "pod_det.pod_part": "02-0009",
        "pod_det.pod_desc": "Bracket", "pod_det.pod_um": "EA", "pod_det.pod_qty_ord": 100.0, "pod_det.pod_qty_rcvd": "60.0",
        "pod_det.pod_pur_cost": 12.5, "pod_det.pod_status": "", "po_mstr.po_vend": "10S1001", "po_mstr.po_curr": "USD",
        "po_mstr.po_stat": null, "po_mstr.po_site": "10-100", "po_mstr.po_ers_opt": false,
    })
}

fn with(mut row: Value, field: &str, value: Value) -> Value {
    row[field] = value;
    row
}

fn without(mut row: Value, field: &str) -> Value {
    row.as_object_mut().unwrap().remove(field);
    row
}

#[tokio::test]
async fn an_order_is_asked_for_and_read_as_the_contract_says() {
    let bench = Bench::new();
    bench
        .script
        .then(rows(&[order_row(1), order_row(2)], json!("false")));
    let order = bench.qad.order(&number()).await.unwrap().unwrap();
    let request = &bench.script.sent()[0];
    assert_eq!(
        request.url,
        "https://example.qad.com/clouderp/api/qracore/browses?browseId=urn%3Abrowse%3Amfg%3Apo804&page=1&pageSize=500&pageAction=first\
         &filter=pod_det.pod_domain%2Ceq%2C10USA%2Cliteral&filter=pod_det.pod_nbr%2Ceq%2CPO100234%2Cliteral"
    );
    assert_eq!(header(request, "x-qad-workspace-id"), None);
    assert_eq!(header(request, "user-agent"), Some("qad-coupa/0.1.0"));
    assert_eq!(
        (
            order.supplier.as_str(),
            order.currency.as_str(),
            order.lines.len()
        ),
        ("10S1001", "USD", 2)
    );
    let line = &order.lines[0];
    assert_eq!(
        (line.ordered, line.received, line.unit_price),
        (decimal("100"), decimal("60"), decimal("12.5"))
    );
    assert_eq!(
        (line.status.clone(), order.evaluated_receipts),
        (OrderStatus::Open, false)
    );
}

#[tokio::test]
async fn the_books_are_open_where_one_period_of_the_day_is() {
    let period = |start: &str, end: &str, locked: Value| json!({"period.entityCode": "10USACO", "period.startDate": start, "period.endDate": end, "period.isApLocked": locked});
    let october = |locked: Value| period("2026-10-01T00:00:00.000Z", "2026-10-31T00:00:00.000Z", locked);
    let november = period("2026-11-01", "2026-11-30", json!(false));
    for (shown, expected) in [
        (vec![october(json!(true)), november.clone()], Some(false)),
        (vec![october(json!("no"))], Some(true)),
        (vec![october(json!(false)), october(json!(true))], Some(true)),
        (vec![october(json!(true)), october(json!("yes"))], Some(false)),
        (vec![november.clone()], None),
        (vec![], None),
    ] {
        let bench = Bench::new();
        bench.script.then(rows(&shown, json!(false)));
        assert_eq!(
            bench.qad.books_are_open(date("2026-10-28")).await.unwrap(),
            expected,
            "{shown:?}"
        );
    }
    for spoiled in [
        without(november.clone(), "period.isApLocked"),
        with(november.clone(), "period.isApLocked", json!(null)),
        with(november, "period.entityCode", json!("20GERCO")),
    ] {
        let bench = Bench::new();
        bench.script.then(rows(&[spoiled], json!(false)));
        assert!(bench.qad.books_are_open(date("2026-11-28")).await.is_err());
    }
}

#[tokio::test]
async fn noise_of_binary_arithmetic_is_rounded_wherever_qad_says_a_figure() {
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let bench = Bench::new();
    let noisy = with(record(), "totalAmount", number("795.0000000000001"));
    bench
        .script
        .then(answer(200, &records(std::slice::from_ref(&noisy)).to_string()));
    let echo = bench.qad.create_invoice(&draft(), "effect-key").await.unwrap();
    assert_eq!(echo.total, decimal("795"));
    bench.script.then(answer(200, &records(&[noisy]).to_string()));
    let found = bench.qad.find_invoices(&echo.identity).await.unwrap();
    assert_eq!(found, [echo]);
    let line = with(order_row(1), "pod_det.pod_disc_pct", number("9.999999999999998"));
    bench.script.then(rows(&[line], json!("false")));
    let order = bench
        .qad
        .order(&"PO100234".parse().unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(order.lines[0].discount_percent, decimal("10"));
    assert_eq!(order.lines[0].rounded.len(), 1, "{:?}", order.lines[0].rounded);
    let vouchered = with(
        receipt_row("RC1"),
        "pvo_mstr.pvo_vouchered_qty",
        number("5.684341886080802e-14"),
    );
    bench.script.then(rows(&[vouchered], json!("false")));
    let receipts = bench
        .qad
        .receipts_of_order(&"PO100234".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(
        (receipts[0].vouchered, receipts[0].rounded.len()),
        (decimal("0"), 1)
    );
}

#[tokio::test]
async fn no_rows_after_a_complete_answer_is_no_order() {
    let bench = Bench::new();
    bench.script.then(rows(&[], json!("false")));
    assert_eq!(bench.qad.order(&number()).await.unwrap(), None);
}

#[tokio::test]
async fn the_states_of_order_and_line_are_the_strictest_of_both() {
    for (order, line, status) in [
        (json!("O"), json!(""), OrderStatus::Open),
        (json!(" "), json!("c"), OrderStatus::Closed),
        (json!("C"), json!(""), OrderStatus::Closed),
        (json!("x"), json!("c"), OrderStatus::Cancelled),
        (json!("c"), json!("X"), OrderStatus::Cancelled),
        (
            json!(""),
            json!("pending"),
            OrderStatus::Unknown("pending".to_owned()),
        ),
        (json!("held"), json!("c"), OrderStatus::Unknown("held".to_owned())),
    ] {
        let bench = Bench::new();
        let row = with(
            with(order_row(1), "po_mstr.po_stat", order),
            "pod_det.pod_status",
            line,
        );
        bench.script.then(rows(&[row], json!(false)));
        assert_eq!(
            bench.qad.order(&number()).await.unwrap().unwrap().lines[0].status,
            status
        );
    }
}

#[tokio::test]
async fn whose_an_order_is_is_read_where_the_tenant_shows_it() {
    for (shown, expected) in [
        (json!("10USATOO"), Some("10USATOO".parse().unwrap())),
        (json!(" "), None),
        (json!(null), None),
    ] {
        let bench = Bench::new();
        let row = with(order_row(1), "po_mstr.po_entity", shown);
        bench.script.then(rows(&[row], json!(false)));
        assert_eq!(
            bench.qad.order(&number()).await.unwrap().unwrap().entity,
            expected
        );
    }
    let bench = Bench::new();
    let row = with(order_row(1), "po_mstr.po_entity", json!("?"));
    bench.script.then(rows(&[row], json!(false)));
    let error = bench.qad.order(&number()).await.unwrap_err();
    assert_eq!(error.problem().code, "QAD_VALUE_UNKNOWN");
}

#[tokio::test]
async fn evaluated_receipts_are_never_guessed() {
    for (word, expected) in [
        (json!(true), Some(true)),
        (json!("yes"), Some(true)),
        (json!(1), Some(false)),
        (json!("2"), Some(true)),
        (json!(3), Some(true)),
        (json!("false"), Some(false)),
        (json!("no"), Some(false)),
        (json!(""), Some(false)),
        (json!(null), Some(false)),
        (json!("4"), None),
        (json!("?"), None),
    ] {
        let bench = Bench::new();
        bench.script.then(rows(
            &[with(order_row(1), "po_mstr.po_ers_opt", word.clone())],
            json!("false"),
        ));
        let read = bench.qad.order(&number()).await;
        assert_eq!(
            read.ok().flatten().map(|order| order.evaluated_receipts),
            expected,
            "{word}"
        );
    }
}

#[tokio::test]
async fn rows_that_cannot_be_trusted_are_no_order() {
    for (bad, field) in [
        (
            with(order_row(1), "pod_det.pod_nbr", json!("PO9")),
            "data[0].pod_det.pod_nbr",
        ),
        (
            with(order_row(1), "pod_det.pod_domain", json!("20EUR")),
            "data[0].pod_det.pod_domain",
        ),
        (
            with(order_row(1), "pod_det.pod_line", json!("one")),
            "data[0].pod_det.pod_line",
        ),
        (
            with(order_row(1), "pod_det.pod_pur_cost", json!(null)),
            "data[0].pod_det.pod_pur_cost",
        ),
        (
            with(order_row(1), "pod_det.pod_qty_ord", json!("1,000")),
            "data[0].pod_det.pod_qty_ord",
        ),
        (
            with(order_row(1), "po_mstr.po_curr", json!("")),
            "data[0].po_mstr.po_curr",
        ),
        (
            without(order_row(1), "po_mstr.po_ers_opt"),
            "data[0].po_mstr.po_ers_opt",
        ),
        (
            without(order_row(1), "pod_det.pod_status"),
            "data[0].pod_det.pod_status",
        ),
    ] {
        let bench = Bench::new();
        bench.script.then(rows(&[bad], json!("false")));
        let error = bench.qad.order(&number()).await.unwrap_err();
        assert!(
            matches!(&error, ReadError::Unreadable(problem) if problem.field == field),
            "{field}: {error}"
        );
    }
    for second in [
        with(order_row(2), "po_mstr.po_vend", json!("10S9999")),
        with(order_row(1), "pod_det.pod_qty_ord", json!(7)),
    ] {
        let bench = Bench::new();
        bench.script.then(rows(&[order_row(1), second], json!("false")));
        assert!(matches!(
            bench.qad.order(&number()).await.unwrap_err(),
            ReadError::Unreadable(_)
        ));
    }
    let bench = Bench::new();
    bench
        .script
        .then(rows(&[order_row(1), order_row(1)], json!("false")));
    assert_eq!(bench.qad.order(&number()).await.unwrap().unwrap().lines.len(), 1);
}

// ----------------------------------------------------------------------------------------------------------- paging

fn paged() -> Bench {
    let mut document = document();
    document["qad"]["profile"] = json!({"order_lines": {"page_rows": 2}});
    Bench::with(&document)
}

#[tokio::test]
async fn all_pages_are_read() {
    let bench = paged();
    bench
        .script
        .then(rows(&[order_row(1), order_row(2)], json!("true")));
    bench
        .script
        .then(rows(&[order_row(3), order_row(4)], json!(true)));
    bench.script.then(rows(&[order_row(5)], json!("False")));
    assert_eq!(bench.qad.order(&number()).await.unwrap().unwrap().lines.len(), 5);
    let sent = bench.script.sent();
    assert!(sent[0].url.contains("&page=1&pageSize=2&pageAction=first&"));
    assert!(sent[1].url.contains("&page=2&pageSize=2&pageAction=next&"));
    assert!(sent[2].url.contains("&page=3&pageSize=2&pageAction=next&"));
}

#[tokio::test]
async fn without_a_word_about_more_a_full_page_is_asked_on_from() {
    let bench = paged();
    bench.script.then(answer(
        200,
        &json!({"data": [order_row(1), order_row(2)]}).to_string(),
    ));
    bench.script.then(answer(200, &json!({"data": []}).to_string()));
    assert_eq!(bench.qad.order(&number()).await.unwrap().unwrap().lines.len(), 2);
}

#[tokio::test]
async fn a_listing_without_end_is_an_error_and_not_a_part() {
    let full = [order_row(1), order_row(2)];
    let bench = paged();
    bench.script.then(rows(&full, json!("true")));
    bench.script.then(rows(&full, json!("true")));
    let error = bench.qad.order(&number()).await.unwrap_err();
    assert_eq!(error.problem().code, "QAD_LISTING_BROKEN");

    let bench = paged();
    bench.script.then(rows(&[], json!("true")));
    assert_eq!(
        bench.qad.order(&number()).await.unwrap_err().problem().code,
        "QAD_LISTING_BROKEN"
    );

    let bench = paged();
    for page in 0..200 {
        bench.script.then(rows(
            &[order_row(page * 2), order_row(page * 2 + 1)],
            json!("true"),
        ));
    }
    assert_eq!(
        bench.qad.order(&number()).await.unwrap_err().problem().code,
        "QAD_LISTING_BROKEN"
    );
}

#[tokio::test]
async fn an_answer_without_rows_is_not_an_empty_one() {
    for (answered, refused) in [
        (json!({"auxillaryData": {"HasMoreParams": "false"}}), false),
        (json!({"data": null}), false),
        (json!({"data": {"x": 1}}), false),
        (json!([]), false),
        (
            json!({"data": [], "auxillaryData": {"HasMoreParams": "maybe"}}),
            false,
        ),
        (
            json!({"errors": [{"message": "Access is denied", "code": "403"}]}),
            true,
        ),
        (
            json!({"data": [], "submitResult": {"success": false, "errors": [{"message": "no right"}]}}),
            true,
        ),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(200, &answered.to_string()));
        match bench.qad.order(&number()).await.unwrap_err() {
            ReadError::Refused(problem) => assert!(refused, "{answered}: {problem}"),
            ReadError::Unreadable(problem) => assert!(!refused, "{answered}: {problem}"),
            error => panic!("{answered}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_page_that_fails_in_the_middle_fails_the_whole() {
    let bench = paged();
    bench
        .script
        .then(rows(&[order_row(1), order_row(2)], json!("true")));
    for _ in 0..4 {
        bench.script.then(answer(503, ""));
    }
    assert!(matches!(
        bench.qad.order(&number()).await.unwrap_err(),
        ReadError::Unavailable { .. }
    ));
}

#[tokio::test]
async fn a_comma_cannot_be_asked_for_and_a_plus_can() {
    let bench = Bench::new();
    let error = bench.qad.order(&"PO,1".parse().unwrap()).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Refused(problem) if problem.code == "QAD_FILTER_VALUE"),
        "{error}"
    );
    assert!(bench.script.sent().is_empty());
    bench.script.then(rows(&[], json!("false")));
    bench.qad.order(&"PO+1 &ä".parse().unwrap()).await.unwrap();
    assert!(
        bench.script.sent()[0]
            .url
            .ends_with("filter=pod_det.pod_nbr%2Ceq%2CPO%2B1%20%26%C3%A4%2Cliteral")
    );
}

#[tokio::test]
async fn an_order_can_be_read_through_an_entity() {
    let mut document = document();
    document["qad"]["profile"] = json!({"order_lines": {
        "family": "entity", "path": "/api/erp/orderLines", "plural": "orderLines", "view": "urn:be:x", "extra_query": {"lang": "en"},
        "filters": {"domain": "domainCode", "order": "purchaseOrderNumber"},
    }});
    document["qad"]["workspace_header"] = json!(true);
    document["qad"]["extra_headers"] = json!({"Accept-Language": "en"});
    let bench = Bench::with(&document);
    bench.script.then(answer(
        200,
        &json!({"data": {"orderLines": [order_row(1)]}, "submitResult": {"success": true}}).to_string(),
    ));
    assert_eq!(bench.qad.order(&number()).await.unwrap().unwrap().lines.len(), 1);
    let request = &bench.script.sent()[0];
    assert_eq!(
        request.url,
        "https://example.qad.com/clouderp/api/erp/orderLines?domainCode=10USA&purchaseOrderNumber=PO100234&viewUri=urn%3Abe%3Ax&lang=en"
    );
    assert_eq!(header(request, "x-qad-workspace-id"), Some("10USA_10USACO"));
    assert_eq!(header(request, "accept-language"), Some("en"));
}

// --------------------------------------------------------------------------------------------------------- receipts

fn receipt_row(receiver: &str) -> Value {
    json!({
        "prh_hist.prh_domain": "10USA", "prh_hist.prh_receiver": receiver, "prh_hist.prh_nbr": "PO100234", "prh_hist.prh_line": 1,
        "prh_hist.prh_part": "02-0009", "prh_hist.prh_vend": "10S1001", "prh_hist.prh_rcvd": 60.0, "prh_hist.prh_rcp_type": "",
        "prh_hist.prh_um": "EA", "prh_hist.prh_rcp_date": "2026-03-02T00:00:00.000Z", "prh_hist.prh_ps_nbr": "PS-7781",
        "prh_hist.prh_pur_cost": 12.5, "prh_hist.prh_curr": "USD", "pvo_mstr.pvo_vouchered_qty": null, "pvo_mstr.pvo_lc_charge": "",
    })
}

#[tokio::test]
async fn receipts_are_asked_for_by_order_and_by_date() {
    let bench = Bench::new();
    bench
        .script
        .then(rows(&[receipt_row("RC000871")], json!("false")));
    bench
        .script
        .then(rows(&[receipt_row("RC000871")], json!("false")));
    let of_order = bench.qad.receipts_of_order(&number()).await.unwrap();
    let since = bench.qad.receipts_since(date("2026-02-23"), 1).await.unwrap();
    assert_eq!(of_order, since.receipts);
    let receipt = &of_order[0];
    assert_eq!(
        (receipt.received, receipt.vouchered, receipt.is_return()),
        (decimal("60"), decimal("0"), false)
    );
    assert_eq!(receipt.date, date("2026-03-02"));
    assert_eq!(receipt.key.receiver.as_str(), "RC000871");
    let sent = bench.script.sent();
    assert!(sent[0].url.ends_with(
        "browseId=urn%3Abrowse%3Amfg%3Apo041&page=1&pageSize=500&pageAction=first\
         &filter=prh_hist.prh_domain%2Ceq%2C10USA%2Cliteral&filter=prh_hist.prh_nbr%2Ceq%2CPO100234%2Cliteral"
    ));
    assert!(
        sent[1]
            .url
            .ends_with("&filter=prh_hist.prh_rcp_date%2Cge%2C2026-02-23%2Cliteral")
    );
}

#[tokio::test]
async fn logistics_charges_are_dropped_and_returns_are_negative() {
    let bench = Bench::new();
    bench.script.then(rows(
        &[
            receipt_row("RC1"),
            with(receipt_row("RC1"), "pvo_mstr.pvo_lc_charge", json!("FREIGHT")),
            with(
                with(receipt_row("RC2"), "prh_hist.prh_rcvd", json!("-5")),
                "pvo_mstr.pvo_vouchered_qty",
                json!("-2.0000000000000004"),
            ),
            with(
                with(receipt_row("RC3"), "prh_hist.prh_rcp_type", json!("r")),
                "pvo_mstr.pvo_vouchered_qty",
                json!(3),
            ),
        ],
        json!("false"),
    ));
    let receipts = bench.qad.receipts_of_order(&number()).await.unwrap();
    let figures: Vec<_> = receipts
        .iter()
        .map(|receipt| (receipt.key.receiver.as_str(), receipt.received, receipt.vouchered))
        .collect();
    assert_eq!(
        figures,
        [
            ("RC1", decimal("60"), decimal("0")),
            ("RC2", decimal("-5"), decimal("-2")),
            ("RC3", decimal("-60"), decimal("-3")),
        ]
    );
}

#[tokio::test]
async fn a_receipt_line_that_comes_twice_is_one_or_a_problem() {
    let other = with(receipt_row("RC1"), "pvo_mstr.pvo_vouchered_qty", json!(10));
    let bench = Bench::new();
    bench
        .script
        .then(rows(&[receipt_row("RC1"), receipt_row("rc1")], json!("false")));
    assert_eq!(bench.qad.receipts_of_order(&number()).await.unwrap().len(), 1);

    let three = [receipt_row("RC1"), other, receipt_row("RC1"), receipt_row("RC2")];
    bench.script.then(rows(&three, json!("false")));
    let error = bench.qad.receipts_of_order(&number()).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Unreadable(problem) if problem.code == "QAD_RECEIPT_AMBIGUOUS"),
        "{error}"
    );

    bench.script.then(rows(&three, json!("false")));
    let scan = bench.qad.receipts_since(date("2026-01-01"), 1).await.unwrap();
    assert_eq!((scan.receipts.len(), scan.unreadable.len()), (1, 1));
    assert_eq!(scan.receipts[0].key.receiver.as_str(), "RC2");
}

#[tokio::test]
async fn a_bad_row_stops_an_order_and_not_a_poll() {
    for bad in [
        with(receipt_row("RC9"), "prh_hist.prh_rcvd", json!("many")),
        with(receipt_row("RC9"), "prh_hist.prh_domain", json!("20EUR")),
        with(receipt_row("RC9"), "prh_hist.prh_rcp_date", json!("03/02/26")),
        without(receipt_row("RC9"), "pvo_mstr.pvo_vouchered_qty"),
        without(receipt_row("RC9"), "pvo_mstr.pvo_lc_charge"),
        with(receipt_row(""), "prh_hist.prh_um", json!("EA")),
    ] {
        let bench = Bench::new();
        bench
            .script
            .then(rows(&[receipt_row("RC1"), bad.clone()], json!("false")));
        bench
            .script
            .then(rows(&[receipt_row("RC1"), bad.clone()], json!("false")));
        let error = bench.qad.receipts_of_order(&number()).await.unwrap_err();
        assert!(matches!(error, ReadError::Unreadable(_)), "{bad}");
        let scan = bench.qad.receipts_since(date("2026-01-01"), 1).await.unwrap();
        assert_eq!((scan.receipts.len(), scan.unreadable.len()), (1, 1), "{bad}");
        assert!(scan.unreadable[0].field.starts_with("data[1].p"));
    }
    let bench = Bench::new();
    let foreign = with(receipt_row("RC1"), "prh_hist.prh_nbr", json!("PO9"));
    bench.script.then(rows(&[foreign], json!("false")));
    assert!(matches!(
        bench.qad.receipts_of_order(&number()).await.unwrap_err(),
        ReadError::Unreadable(_)
    ));
}

// --------------------------------------------------------------------------------------------------------- invoices

pub(crate) fn draft() -> SupplierInvoiceDraft {
    SupplierInvoiceDraft {
        identity: identity(DocumentKind::Invoice),
        coupa_id: ::domain::ids::InvoiceId(918_273),
        coupa_instance: String::new(),
        domain: "10USA".parse().unwrap(),
        currency: "USD".parse().unwrap(),
        invoice_date: date("2026-03-05"),
        posting_date: date("2026-03-06"),
        daybook: "SI".parse().unwrap(),
        matching_daybook: "RM".parse().unwrap(),
        invoice_status: "AP-RMALLOC".to_owned(),
        credit_terms: Some("N30".parse().unwrap()),
        total: decimal("795.00"),
        tax: decimal("45.00"),
        orders: vec![number()],
        matches: vec![ReceiverMatch {
            order_line: OrderLineKey {
                order: number(),
                line: 1,
            },
            receiver: "RC000871".parse().unwrap(),
            quantity: decimal("60.0"),
            unit_price: decimal("12.50"),
            finished: true,
        }],
        costs: vec![AdditionalCost {
            gl_account: "6100".parse().unwrap(),
            sub_account: String::new(),
            cost_center: String::new(),
            project: String::new(),
            amount: decimal("0.0"),
            description: "Freight".to_owned(),
        }],
        payee: None,
        echo: Default::default(),
        locked: false,
        billed: vec![],
        cancels: None,
        is_twin: false,
        billed_in_coupa: Default::default(),
    }
}

fn identity(kind: DocumentKind) -> QadInvoiceIdentity {
    QadInvoiceIdentity {
        entity: "10USACO".parse().unwrap(),
        supplier: "10S1001".parse().unwrap(),
        reference: "INV-55812".parse().unwrap(),
        kind,
    }
}

const SENT: &str = r#"{"supplierInvoices":[{"entityCode":"10USACO","domainCode":"10USA","supplierCode":"10S1001","supplierInvoiceReference":"INV-55812","invoiceType":"INVOICE","daybookCode":"SI","matchingDaybookCode":"RM","currencyCode":"USD","invoiceDate":"2026-03-05T00:00:00.000Z","postingDate":"2026-03-06T00:00:00.000Z","creditTermsCode":"N30","invoiceStatusCode":"AP-RMALLOC","totalAmount":795.00,"taxAmount":45.00,"description":"Coupa 918273","purchaseOrders":[{"purchaseOrderDomain":"10USA","purchaseOrderNumber":"PO100234"}],"receiverMatchings":[{"purchaseOrderNumber":"PO100234","purchaseOrderLine":1,"receiverNumber":"RC000871","matchQuantity":60.0,"matchUnitPrice":12.50,"isFinished":true}],"additionalCosts":[{"glAccountCode":"6100","costCenterCode":"","projectCode":"","amount":0.0,"description":"Freight"}],"dataOperation":"C","concurrencyHash":""}],"supplementaryMessages":[]}"#;

fn record() -> Value {
    json!({
        "entityCode": "10USACO", "supplierCode": "10S1001", "supplierInvoiceReference": "INV-55812", "invoiceType": "INVOICE",
        "currencyCode": "USD", "totalAmount": 795.00, "description": "Coupa 918273", "postingYear": 2026, "daybookCode": "SI",
        "voucher": 431, "balance": 795.0, "isOpen": true,
    })
}

fn records(records: &[Value]) -> Value {
    json!({"data": {"supplierInvoices": records}, "submitResult": {"success": true, "errors": []}})
}

#[tokio::test]
async fn an_invoice_is_created_with_exactly_the_contracts_bytes() {
    let bench = Bench::new();
    bench.script.then(answer(200, &records(&[record()]).to_string()));
    let echo = bench.qad.create_invoice(&draft(), "effect-key").await.unwrap();
    assert_eq!(echo.voucher.unwrap().to_string(), "2026/SI/431");
    assert_eq!(
        (echo.total, echo.identity),
        (decimal("795"), identity(DocumentKind::Invoice))
    );
    let request = &bench.script.sent()[0];
    assert_eq!(request.method.as_str(), "POST");
    assert_eq!(
        request.url,
        "https://example.qad.com/clouderp/api/erp/supplierInvoices?viewUri=urn%3Abe%3Acom.qad.financials.purchaseledger.supplierinvoice.ISupplierInvoice"
    );
    assert_eq!(body(request), SENT);
    assert_eq!(header(request, "content-type"), Some("application/json"));
    assert_eq!(header(request, "idempotency-key"), Some("effect-key"));
    assert!(request.write);
}

#[tokio::test]
async fn a_business_document_takes_the_record_in_an_array_and_201_is_its_success() {
    let mut document = document();
    document["qad"]["profile"] =
        json!({"supplier_invoices": {"bdoc_path": "/api/bdoc/financials/ap/SupplierInvoice"}});
    let sent: Value = serde_json::from_str(SENT).unwrap();
    let refusal = json!([{"submitResult": {"success": false}}]);
    let envelope = records(&[record()]);
    for (status, answered, word) in [
        (201, json!([record()]), "done"),
        (201, without(envelope.clone(), "submitResult"), "done"),
        // Created, and nothing is said of it: it is looked up.
        (201, json!([]), "unknown"),
        (201, json!({}), "unknown"),
        (201, refusal, "unknown"),
        (200, json!([record()]), "unknown"),
        (200, envelope, "done"),
        (
            201,
            json!({"submitResult": {"success": false, "errors": [{"message": "Daybook not found"}]}}),
            "refused",
        ),
        (
            400,
            json!({"errors": [{"message": "Daybook not found"}]}),
            "refused",
        ),
    ] {
        let bench = Bench::with(&document);
        bench.script.then(answer(status, &answered.to_string()));
        let got = match bench.qad.create_invoice(&draft(), "key").await {
            Ok(echo) => {
                assert_eq!(echo.voucher.unwrap().to_string(), "2026/SI/431");
                "done"
            }
            Err(WriteError::Unknown(_)) => "unknown",
            Err(WriteError::Refused(_)) => "refused",
            Err(WriteError::NotApplied { .. }) => "not applied",
        };
        assert_eq!(got, word, "{status} {answered}");
        let request = &bench.script.sent()[0];
        assert_eq!(
            request.url,
            "https://example.qad.com/clouderp/api/bdoc/financials/ap/SupplierInvoice"
        );
        let body: Value = serde_json::from_str(body(request)).unwrap();
        assert_eq!(body, sent["supplierInvoices"]);
        // It is found where it was found before.
        bench.script.then(answer(200, &records(&[record()]).to_string()));
        let found = bench
            .qad
            .find_invoices(&identity(DocumentKind::Invoice))
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        assert!(bench.script.sent()[1].url.contains("/api/erp/supplierInvoices?"));
    }
    // Without the setting 201 alone is no success.
    let bench = Bench::new();
    let unsaid = without(records(&[record()]), "submitResult");
    bench.script.then(answer(201, &unsaid.to_string()));
    let error = bench.qad.create_invoice(&draft(), "key").await.unwrap_err();
    assert!(matches!(error, WriteError::Unknown(_)), "{error}");
}

#[tokio::test]
async fn names_constants_and_types_of_the_body_are_the_tenants() {
    let mut document = document();
    document["qad"]["profile"] = json!({
        "supplier_invoices": {"plural": "apInvoices", "fields": {"total": "amountTC"}},
        "credit_note_type": "Credit note",
        "create_constants": {"isTaxable": true, "batchNumber": 7, "origin": "COUPA \"x\""},
    });
    let bench = Bench::with(&document);
    bench.script.then(answer(500, ""));
    let mut credit = draft();
    credit.identity.kind = DocumentKind::CreditNote;
    credit.credit_terms = None;
    bench.qad.create_invoice(&credit, "key").await.unwrap_err();
    let sent: Value = serde_json::from_str(body(&bench.script.sent()[0])).unwrap();
    let sent = &sent["apInvoices"][0];
    assert_eq!(sent["amountTC"], json!(795.0));
    assert_eq!(sent["invoiceType"], json!("Credit note"));
    assert_eq!(
        (&sent["isTaxable"], &sent["batchNumber"], &sent["origin"]),
        (&json!(true), &json!(7), &json!("COUPA \"x\""))
    );
    assert!(sent.get("creditTermsCode").is_none());
}

#[tokio::test]
async fn every_answer_to_a_create_has_its_meaning() {
    let rejected = |message: &str| {
        json!({"data": {}, "submitResult": {"success": false, "errors": [{"fieldName": "daybookCode", "message": message, "severity": 2}]}}).to_string()
    };
    let table: Vec<(Outcome, &str, &str)> = vec![
        (
            Err(TransportError::NotSent("refused".into())),
            "not applied",
            "QAD_UNREACHABLE",
        ),
        (
            Err(TransportError::MaybeSent("timeout".into())),
            "unknown",
            "QAD_UNREACHABLE",
        ),
        (
            answer(403, r#"{"errors":[{"message":"Access is denied"}]}"#),
            "refused",
            "QAD_PERMISSION_DENIED",
        ),
        (
            answer(403, "<html>_Incapsula_Resource</html>"),
            "refused",
            "QAD_BOT_CHALLENGE",
        ),
        (answer(429, ""), "not applied", "QAD_THROTTLED"),
        (answer(500, ""), "unknown", "QAD_UNAVAILABLE"),
        (
            answer(503, "<html>captcha</html>"),
            "unknown",
            "QAD_BOT_CHALLENGE",
        ),
        (answer(504, ""), "unknown", "QAD_UNAVAILABLE"),
        (answer(302, ""), "unknown", "QAD_REDIRECT"),
        (answer(100, ""), "unknown", "QAD_UNAVAILABLE"),
        (answer(408, ""), "unknown", "QAD_UNAVAILABLE"),
        (answer(499, ""), "unknown", "QAD_UNAVAILABLE"),
        (
            answer(400, r#"{"errors":[{"message":"bad view"}]}"#),
            "refused",
            "QAD_REQUEST_REFUSED",
        ),
        (answer(404, ""), "refused", "QAD_NOT_FOUND"),
        (
            answer(
                409,
                r#"{"errors":[{"message":"Supplier invoice already exists"}]}"#,
            ),
            "unknown",
            "QAD_ALREADY_EXISTS",
        ),
        (answer(200, "<html>Sign in</html>"), "unknown", "QAD_HTML_PAGE"),
        (answer(200, "{\"data\":"), "unknown", "QAD_ANSWER_UNREADABLE"),
        (answer(200, ""), "unknown", "QAD_ANSWER_UNREADABLE"),
        (answer(200, "{}"), "unknown", "QAD_ANSWER_UNREADABLE"),
        (
            answer(
                200,
                &json!({"data": {"supplierInvoices": [record()]}}).to_string(),
            ),
            "unknown",
            "QAD_ANSWER_UNREADABLE",
        ),
        (
            answer(200, &records(&[]).to_string()),
            "unknown",
            "QAD_ANSWER_UNREADABLE",
        ),
        (
            answer(200, &records(&[record(), record()]).to_string()),
            "unknown",
            "QAD_ANSWER_UNREADABLE",
        ),
        (
            answer(200, &records(&[without(record(), "totalAmount")]).to_string()),
            "unknown",
            "QAD_ANSWER_UNREADABLE",
        ),
        (
            answer(
                200,
                &records(&[with(record(), "invoiceType", json!("PREPAYMENT"))]).to_string(),
            ),
            "unknown",
            "QAD_ANSWER_UNREADABLE",
        ),
        (
            answer(200, &rejected("Daybook not found")),
            "refused",
            "QAD_INVOICE_REFUSED",
        ),
        (
            answer(
                200,
                &rejected("The accounting period is closed for the purchase ledger"),
            ),
            "refused",
            "PERIOD_CLOSED",
        ),
        (
            answer(
                200,
                &json!({"submitResult": {"success": false, "errors": [
                    {"message": "The accounting period is closed"}, {"message": "Daybook not found"}]}})
                .to_string(),
            ),
            "refused",
            "QAD_INVOICE_REFUSED",
        ),
        (
            answer(
                200,
                &json!({"submitResult": {"success": false, "errors": [
                    {"fieldName": "postingDate", "message": "Period is closed"}, {"message": "Invoice not saved"}]}})
                .to_string(),
            ),
            "refused",
            "PERIOD_CLOSED",
        ),
        (
            answer(200, &rejected("Invoice not saved")),
            "refused",
            "QAD_INVOICE_REFUSED",
        ),
        (
            answer(200, &rejected("Record in use by mfg")),
            "not applied",
            "QAD_RECORD_IN_USE",
        ),
        (
            answer(200, &rejected("Invoice already exists")),
            "unknown",
            "QAD_ALREADY_EXISTS",
        ),
        (
            answer(200, r#"{"submitResult":{"success":"false","errors":[]}}"#),
            "refused",
            "QAD_INVOICE_REFUSED",
        ),
    ];
    for (outcome, word, code) in table {
        let bench = Bench::new();
        bench.script.then(outcome.clone());
        // What QAD says exists is looked up, and is there.
        bench.script.then(answer(200, &records(&[record()]).to_string()));
        let error = bench.qad.create_invoice(&draft(), "key").await.unwrap_err();
        let got = match &error {
            WriteError::Unknown(_) => "unknown",
            WriteError::NotApplied { .. } => "not applied",
            WriteError::Refused(_) => "refused",
        };
        assert_eq!(
            (got, error.problem().code.as_str()),
            (word, code),
            "{outcome:?}: {error}"
        );
        let sent = bench.script.sent();
        let creates = sent.iter().filter(|request| request.method == Method::Post);
        assert_eq!(creates.count(), 1, "a create is sent once");
        assert_eq!(sent.len() > 1, code == "QAD_ALREADY_EXISTS");
    }
    let exists = rejected("Matching already exists for receiver RC1");
    for (look_up, word) in [
        (answer(200, &records(&[]).to_string()), "refused"),
        (answer(404, ""), "unknown"),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(200, &exists));
        bench.script.then(look_up);
        let error = bench.qad.create_invoice(&draft(), "key").await.unwrap_err();
        assert_eq!(
            matches!(error, WriteError::Refused(_)),
            word == "refused",
            "{error}"
        );
        assert!(error.problem().actual.contains("already exists"), "{error}");
    }
    let bench = Bench::new();
    bench.script.then(answer(200, &rejected("Daybook not found")));
    let error = bench.qad.create_invoice(&draft(), "key").await.unwrap_err();
    assert_eq!(error.problem().actual, "daybookCode: Daybook not found");
}

#[tokio::test]
async fn an_echo_without_its_number_is_told_as_it_is() {
    for (field, value) in [
        ("voucher", json!(0)),
        ("voucher", json!(null)),
        ("postingYear", json!(null)),
    ] {
        let bench = Bench::new();
        bench
            .script
            .then(answer(201, &records(&[with(record(), field, value)]).to_string()));
        assert_eq!(
            bench.qad.create_invoice(&draft(), "key").await.unwrap().voucher,
            None
        );
    }
}

#[tokio::test]
async fn invoices_are_found_by_identity() {
    let bench = Bench::new();
    let credit = with(record(), "invoiceType", json!("CREDITNOTE"));
    bench.script.then(answer(
        200,
        &records(&[
            with(record(), "supplierInvoiceReference", json!(" inv-55812 ")),
            with(record(), "supplierInvoiceReference", json!("INV-558123")),
            with(record(), "invoiceType", json!("PREPAYMENT")),
            credit.clone(),
        ])
        .to_string(),
    ));
    let found = bench
        .qad
        .find_invoices(&identity(DocumentKind::Invoice))
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        bench.script.sent()[0].url,
        "https://example.qad.com/clouderp/api/erp/supplierInvoices?entityCode=10USACO&supplierCode=10S1001&supplierInvoiceReference=INV-55812\
         &viewUri=urn%3Abe%3Acom.qad.financials.purchaseledger.supplierinvoice.ISupplierInvoice"
    );
    for total in [json!(795), json!("-795.00")] {
        bench.script.then(answer(
            200,
            &records(&[with(credit.clone(), "totalAmount", total)]).to_string(),
        ));
        let found = bench
            .qad
            .find_invoices(&identity(DocumentKind::CreditNote))
            .await
            .unwrap();
        assert_eq!(
            found[0].total,
            decimal("-795"),
            "a credit note is negative however QAD spells it"
        );
    }
}

/// What was keyed, in full: what QAD shows, and what it does not show as not shown.
#[tokio::test]
async fn a_keyed_invoice_is_read_with_all_that_qad_shows_of_it() {
    let read = async |shown: Value, kind: DocumentKind| {
        let bench = Bench::new();
        bench.script.then(answer(200, &records(&[shown]).to_string()));
        bench.qad.keyed_invoices(&identity(kind)).await
    };
    let bare = read(record(), DocumentKind::Invoice).await.unwrap().remove(0);
    assert_eq!(
        (bare.invoice_date, bare.posting_date, bare.tax, bare.credit_terms),
        (None, None, None, None)
    );
    assert_eq!((bare.matches, bare.costs), (None, None));
    let mut full = record();
    for (field, value) in [
        ("invoiceDate", json!("2026-03-05T00:00:00.000Z")),
        ("postingDate", json!("2026-03-06")),
        ("taxAmount", json!(45.0)),
        ("creditTermsCode", json!(null)),
        (
            "receiverMatchings",
            json!([{"purchaseOrderNumber": "PO100234", "purchaseOrderLine": 1, "receiverNumber": "RC000871",
            "matchQuantity": 60.0, "matchUnitPrice": 12.5, "isFinished": true}]),
        ),
        (
            "additionalCosts",
            json!([{"glAccountCode": "6100", "costCenterCode": "300", "amount": "5.00"}]),
        ),
    ] {
        full[field] = value;
    }
    let shown = read(full.clone(), DocumentKind::Invoice).await.unwrap().remove(0);
    assert_eq!(
        (
            shown.invoice_date,
            shown.posting_date,
            shown.tax,
            shown.credit_terms
        ),
        (
            Some(date("2026-03-05")),
            Some(date("2026-03-06")),
            Some(decimal("45")),
            Some(String::new())
        )
    );
    let (matches, costs) = (shown.matches.unwrap(), shown.costs.unwrap());
    assert_eq!(
        (
            matches[0].order_line.to_string(),
            matches[0].receiver.as_str(),
            matches[0].quantity,
            matches[0].unit_price,
            matches[0].finished
        ),
        (
            "PO100234 line 1".to_owned(),
            "RC000871",
            decimal("60"),
            decimal("12.5"),
            true
        )
    );
    assert_eq!(
        (
            costs[0].gl_account.as_str(),
            costs[0].cost_center.as_str(),
            costs[0].project.as_str(),
            costs[0].amount
        ),
        ("6100", "300", "", decimal("5"))
    );
    // A credit note is negative throughout, whether its total comes with its sign or without.
    let credit = with(full.clone(), "invoiceType", json!("CREDITNOTE"));
    let figures = |sign: f64| {
        let mut credit = credit.clone();
        credit["totalAmount"] = json!(sign * 795.0);
        credit["taxAmount"] = json!(sign * 45.0);
        credit["receiverMatchings"][0]["matchQuantity"] = json!(sign * 60.0);
        credit["additionalCosts"][0]["amount"] = json!(sign * 5.0);
        credit
    };
    for sign in [1.0, -1.0] {
        let shown = read(figures(sign), DocumentKind::CreditNote)
            .await
            .unwrap()
            .remove(0);
        assert_eq!(
            (shown.total, shown.tax.unwrap()),
            (decimal("-795"), decimal("-45"))
        );
        assert_eq!(shown.matches.unwrap()[0].quantity, decimal("-60"));
        assert_eq!(shown.costs.unwrap()[0].amount, decimal("-5"));
    }
    // What is there and cannot be read is told, never left out.
    let broken = [
        ("invoiceDate", json!("soon")),
        ("taxAmount", json!("much")),
        ("receiverMatchings", json!("none")),
        ("receiverMatchings", json!([{"purchaseOrderNumber": "PO100234"}])),
        ("additionalCosts", json!([{"amount": 5}])),
    ];
    for (field, value) in broken {
        let read = read(with(full.clone(), field, value), DocumentKind::Invoice).await;
        assert!(matches!(read, Err(ReadError::Unreadable(_))), "{field}: {read:?}");
    }
}

#[tokio::test]
async fn none_is_only_said_when_qad_said_so() {
    for nothing in [
        records(&[]),
        json!({"data": [], "submitResult": {"success": true}}),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(200, &nothing.to_string()));
        assert!(
            bench
                .qad
                .find_invoices(&identity(DocumentKind::Invoice))
                .await
                .unwrap()
                .is_empty()
        );
    }
    for broken in [
        json!({"data": {}}),
        json!({"data": {"supplierInvoices": null}}),
        json!({"submitResult": {"success": true}}),
        json!({"data": [{"x": 1}]}),
        json!({"data": {"supplierInvoices": [without(record(), "invoiceType")]}}),
        json!({"data": {"supplierInvoices": []}, "submitResult": {"success": false, "errors": []}}),
        json!({"data": {"supplierInvoices": []}, "submitResult": {"success": "perhaps"}}),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(200, &broken.to_string()));
        assert!(
            bench
                .qad
                .find_invoices(&identity(DocumentKind::Invoice))
                .await
                .is_err(),
            "{broken}"
        );
    }
    for status in [404, 400, 403] {
        let bench = Bench::new();
        bench.script.then(answer(status, "{}"));
        assert!(matches!(
            bench
                .qad
                .find_invoices(&identity(DocumentKind::Invoice))
                .await
                .unwrap_err(),
            ReadError::Refused(_)
        ));
    }
}

proptest! {
    #[test]
    fn amounts_go_out_and_come_back_digit_for_digit(units in -999_999_999_999_999i64..999_999_999_999_999, scale in 0u32..9) {
        let total = Decimal::new(units, scale);
        let bench = Bench::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let echo = format!(r#"{{"data":{{"supplierInvoices":[{}]}},"submitResult":{{"success":true}}}}"#,
            record().to_string().replace("\"totalAmount\":795.0", &format!("\"totalAmount\":{total}")));
        bench.script.then(answer(200, &echo));
        let mut draft = draft();
        draft.total = total;
        let created = runtime.block_on(bench.qad.create_invoice(&draft, "key")).unwrap();
        prop_assert_eq!(created.total, total);
        let sent = bench.script.sent();
        let text = format!("\"totalAmount\":{total},");
        prop_assert!(body(&sent[0]).contains(&text));
        prop_assert_eq!(parse_decimal(&total.to_string()).unwrap(), total);
    }
}

#[tokio::test]
async fn what_the_tenant_shows_of_a_line_is_read_and_what_it_does_not_show_falls_back() {
    let read = |row: serde_json::Value| async move {
        let bench = Bench::new();
        bench.script.then(rows(&[row], json!("false")));
        bench
            .qad
            .order(&number())
            .await
            .map(|order| order.unwrap().lines[0].clone())
    };
    let plain = read(order_row(1)).await.unwrap();
    assert_eq!(
        (
            plain.discount_percent,
            plain.scheduled,
            plain.consignment,
            plain.evaluated_receipts
        ),
        (decimal("0"), false, false, None)
    );
    let shown = [
        ("pod_det.pod_disc_pct", json!(10)),
        ("pod_det.pod_sched", json!("yes")),
        ("pod_det.pod_consignment", json!(true)),
        ("pod_det.pod_ers_opt", json!("3")),
    ];
    let row = shown.iter().fold(order_row(1), |row, (field, value)| {
        with(row, field, value.clone())
    });
    let line = read(row).await.unwrap();
    assert_eq!(
        (
            line.discount_percent,
            line.scheduled,
            line.consignment,
            line.evaluated_receipts
        ),
        (decimal("10"), true, true, Some(true))
    );
    for field in [
        "pod_det.pod_qty_ord",
        "pod_det.pod_disc_pct",
        "pod_det.pod_sched",
        "pod_det.pod_ers_opt",
    ] {
        let error = read(with(order_row(1), field, json!("?"))).await.unwrap_err();
        assert_eq!(error.problem().code, "QAD_VALUE_UNKNOWN", "{field}");
    }
}

#[tokio::test]
async fn a_receipt_says_what_is_pending_and_what_it_has_cost_and_noise_is_told() {
    let read = |rows_of: Vec<serde_json::Value>| async move {
        let bench = Bench::new();
        bench.script.then(rows(&rows_of, json!("false")));
        bench.qad.receipts_of_order(&number()).await
    };
    let shown = with(
        with(
            with(receipt_row("RC1"), "pvo_mstr.pvo_trans_qty", json!(60)),
            "pvo_mstr.pvo_last_voucher",
            json!("000123"),
        ),
        "prh_hist.prh_curr_amt",
        json!(12.25),
    );
    let noisy = with(
        receipt_row("RC2"),
        "prh_hist.prh_rcvd",
        serde_json::from_str("0.30000000000000004").unwrap(),
    );
    let both = read(vec![shown, noisy.clone()]).await.unwrap();
    assert_eq!(
        (both[0].pending, both[0].closed, both[0].unit_cost),
        (Pending::Quantity(decimal("60")), true, Some(decimal("12.25")))
    );
    assert_eq!(
        (both[1].pending, both[1].closed),
        (Pending::Missing, false),
        "on consignment"
    );
    assert_eq!(both[1].received, decimal("0.3"));
    assert_eq!(both[1].rounded.len(), 1, "{:?}", both[1].rounded);
    let alone = read(vec![noisy.clone()]).await.unwrap();
    assert_eq!(alone[0].pending, Pending::NotShown, "a tenant that shows none");
    // The field is shown, and says nothing: all that was received is on consignment.
    let null = |receiver: &str| with(receipt_row(receiver), "pvo_mstr.pvo_trans_qty", json!(null));
    for consigned in [vec![null("RC1")], vec![null("RC1"), null("RC2")]] {
        let receipts = read(consigned).await.unwrap();
        assert!(
            receipts.iter().all(|receipt| receipt.pending == Pending::Missing),
            "{receipts:?}"
        );
    }
    // A row that leaves out what is null, beside one that shows the field.
    let both = read(vec![null("RC1"), noisy]).await.unwrap();
    assert_eq!(both[1].pending, Pending::Missing);
    for field in [
        "prh_hist.prh_rcvd",
        "pvo_mstr.pvo_vouchered_qty",
        "pvo_mstr.pvo_trans_qty",
        "pvo_mstr.pvo_last_voucher",
        "prh_hist.prh_curr_amt",
    ] {
        let error = read(vec![with(receipt_row("RC1"), field, json!("?"))])
            .await
            .unwrap_err();
        assert_eq!(error.problem().code, "QAD_VALUE_UNKNOWN", "{field}");
    }
}
