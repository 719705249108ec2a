//! Payments over the wire, both sides.

use super::{Bench, answer};
use crate::http::transport::{Method, TransportError};
use ::domain::coupa_orders::CoupaOrderStanding;
use ::domain::ids::InvoiceId;
use ::domain::payments::{EntryKind, PaymentEntry, PaymentKey};
use flows::ports::{Coupa, CoupaOrders, CoupaPayments, QadPayments, ReadError, WriteError};
use rust_decimal::Decimal;

fn entry() -> PaymentEntry {
    let key = PaymentKey::new(&"10USACO".parse().unwrap(), 2026, "ACH", "1207", "1").unwrap();
    PaymentEntry {
        invoice: InvoiceId(92_010),
        notes: format!("{key} ACH-00417"),
        key,
        kind: EntryKind::Payment,
        // As it is read: without zeros behind.
        amount: Decimal::from(795),
        currency: "USD".parse().unwrap(),
        date: "2026-04-03".parse().unwrap(),
        paid: true,
    }
}

const BILL: &str = r#"{"id":92010,"currency":{"code":"USD"},"paid":true,"payment-channel":"ERP","payments":[
  {"id":1,"amount-paid":"795.00","payment-date":"2026-04-03T00:00:00+02:00","notes":"QAD 10USACO 2026/ACH/1207#1 ACH-00417"}]}"#;

#[tokio::test]
async fn a_payment_is_appended_exactly_as_the_contract_says() {
    let bench = Bench::new();
    bench.script.then(answer(200, BILL));
    let shown = bench.coupa.append_payment(&entry(), "key-1").await.unwrap();
    assert_eq!((shown.paid, shown.entries.len()), (true, 1));
    assert_eq!(shown.entries[0].amount, Decimal::new(79_500, 2));
    assert_eq!(shown.entries[0].date, Some("2026-04-03".parse().unwrap()));
    let sent = bench.script.sent();
    let request = sent.first().unwrap();
    assert_eq!(request.method, Method::Put);
    assert!(request.url.ends_with("/api/invoices/92010"), "{}", request.url);
    let body = String::from_utf8(request.body.clone().unwrap()).unwrap();
    let notes = "QAD 10USACO 2026/ACH/1207#1 ACH-00417";
    let expected = format!(
        r#"{{"paid":true,"payment-date":"2026-04-03","payment-notes":"{notes}","payments":{{"payment":[{{"payable-type":"InvoiceHeader","payable-id":"92010","amount-paid":"795.00","payment-date":"2026-04-03","notes":"{notes}"}}]}}}}"#
    );
    assert_eq!(body, expected);
    let header = |name: &str| {
        let found = request
            .headers
            .iter()
            .find(|one| one.0.eq_ignore_ascii_case(name));
        found.map(|one| one.1.as_str())
    };
    assert_eq!(header("Idempotency-Key"), Some("key-1"));
    assert_eq!(header("Content-Type"), Some("application/json"));
}

#[tokio::test]
async fn a_flag_that_moves_by_itself_appends_nothing() {
    let bench = Bench::new();
    bench.script.then(answer(200, BILL));
    let flag = PaymentEntry {
        kind: EntryKind::Flag,
        amount: Decimal::ZERO,
        ..entry()
    };
    bench.coupa.append_payment(&flag, "key-2").await.unwrap();
    let body = String::from_utf8(bench.script.sent()[0].body.clone().unwrap()).unwrap();
    assert!(
        body.starts_with(r#"{"paid":true,"payment-date":"2026-04-03","#),
        "{body}"
    );
    assert!(!body.contains("payments"), "{body}");
}

#[tokio::test]
async fn an_append_is_confirmed_refused_or_unknown() {
    for (outcome, word) in [
        (answer(200, "{}"), "unknown"),
        (
            answer(200, r#"{"id":92010,"currency":{"code":"USD"}}"#),
            "unknown",
        ),
        (answer(200, "<html>login</html>"), "unknown"),
        (answer(500, ""), "unknown"),
        (Err(TransportError::MaybeSent("timeout".into())), "unknown"),
        (Err(TransportError::NotSent("refused".into())), "not applied"),
        (answer(429, ""), "not applied"),
        (
            answer(400, "<errors><error>Invoice is locked</error></errors>"),
            "refused",
        ),
    ] {
        let bench = Bench::new();
        bench.script.then(outcome);
        let actual = match bench.coupa.append_payment(&entry(), "key-1").await {
            Ok(_) => "done",
            Err(WriteError::Unknown(_)) => "unknown",
            Err(WriteError::NotApplied { .. }) => "not applied",
            Err(WriteError::Refused(_)) => "refused",
        };
        assert_eq!(actual, word);
    }
}

#[tokio::test]
async fn missing_payments_are_not_none() {
    let bench = Bench::new();
    bench
        .script
        .then(answer(200, r#"{"id":92010,"currency":{"code":"USD"}}"#));
    let error = bench.coupa.bill(InvoiceId(92_010)).await.unwrap_err();
    assert!(matches!(error, ReadError::Unreadable(problem) if problem.field == "payments"));
    let bench = Bench::new();
    bench.script.then(answer(404, "{}"));
    assert_eq!(bench.coupa.bill(InvoiceId(92_010)).await.unwrap(), None);
}

#[tokio::test]
async fn allocations_are_read_and_what_cannot_be_read_is_told() {
    let row = |number: &str, kind: &str, amount: &str| {
        format!(
            r#"{{"supplierPayment.entityCode":"10USACO","supplierPayment.paymentYear":2026,"supplierPayment.paymentInstrument":"ACH",
            "supplierPayment.paymentNumber":{number},"supplierPayment.allocationNumber":1,"supplierPayment.paymentReference":"ACH-00417",
            "supplierPayment.supplierCode":"10S1001","supplierPayment.status":"Paid","supplierPayment.currencyCode":"USD",
            "supplierPayment.paymentDate":"2026-04-03T00:00:00.000Z","supplierPayment.lastModifiedDate":"2026-04-04T00:00:00.000Z",
            "supplierPayment.supplierInvoiceReference":"INV-55812","supplierPayment.invoiceType":"{kind}",
            "supplierPayment.allocatedAmount":{amount},"supplierPayment.discountAmount":0.50}}"#
        )
    };
    let rows = [
        row("1", "INVOICE", "794.50"),
        row("2.0", "CREDITNOTE", "10.00"),
        row("3", "PREPAYMENT", "1.00"),
        row("4", "INVOICE", "\"x\""),
        row("5", "INVOICE", "1.00"),
        row("5", "INVOICE", "2.00"),
    ];
    let bench = Bench::new();
    let body = format!(
        r#"{{"data":[{}],"auxillaryData":{{"HasMoreParams":"false"}}}}"#,
        rows.join(",")
    );
    bench.script.then(answer(200, &body));
    bench.script.then(answer(404, "{}"));
    let scan = bench
        .qad
        .payments_since("2026-04-02".parse().unwrap())
        .await
        .unwrap();
    let shown: Vec<(String, Decimal)> = scan
        .allocations
        .iter()
        .map(|one| (one.key.to_string(), one.allocated))
        .collect();
    assert_eq!(
        shown,
        [
            ("QAD 10USACO 2026/ACH/1#1".to_owned(), Decimal::new(79_450, 2)),
            ("QAD 10USACO 2026/ACH/2#1".to_owned(), Decimal::new(-1_000, 2)),
        ]
    );
    assert_eq!((scan.others, scan.unreadable.len()), (1, 2));
    assert_eq!(
        scan.unread_since,
        Some("2026-04-04".parse().unwrap()),
        "they are read again from that day on"
    );
    let url = bench.script.sent()[0].url.clone();
    assert!(
        url.contains("supplierPayment.lastModifiedDate%2Cge%2C2026-04-02%2Cliteral")
            || url.contains("supplierPayment.lastModifiedDate,ge,2026-04-02,literal"),
        "{url}"
    );
}

const NONE: &str = r#"{"data":[],"auxillaryData":{"HasMoreParams":"false"}}"#;

/// A payment of 1085.00 USD by one entity for another one's invoice in EUR.
fn central(payer: &str, owner: &str, number: u32) -> String {
    format!(
        r#"{{"supplierPayment.entityCode":"{payer}","supplierPayment.invoiceEntityCode":"{owner}","supplierPayment.paymentYear":2026,
        "supplierPayment.paymentInstrument":"ACH","supplierPayment.paymentNumber":{number},"supplierPayment.allocationNumber":1,
        "supplierPayment.supplierCode":"10S1001","supplierPayment.status":"Paid","supplierPayment.currencyCode":"USD",
        "supplierPayment.paymentDate":"2026-04-03","supplierPayment.lastModifiedDate":"2026-04-04",
        "supplierPayment.supplierInvoiceReference":"INV-55812","supplierPayment.invoiceType":"INVOICE",
        "supplierPayment.allocatedAmount":1085.00,"supplierPayment.invoiceAllocatedAmount":1000.00,
        "supplierPayment.invoicePostingYear":2026,"supplierPayment.invoiceVoucher":100001}}"#
    )
}

#[tokio::test]
async fn what_another_entity_pays_is_found_by_whose_invoice_it_is_and_in_its_currency() {
    let bench = Bench::new();
    let list = |rows: &[String]| {
        format!(
            r#"{{"data":[{}],"auxillaryData":{{"HasMoreParams":"false"}}}}"#,
            rows.join(",")
        )
    };
    let ours_for_another = central("10USACO", "20GERCO", 7);
    bench.script.then(answer(200, &list(&[ours_for_another])));
    // A browse that does not know the filter shows what is none of ours too.
    let rows = [central("90PAYCO", "10USACO", 8), central("90PAYCO", "20GERCO", 9)];
    bench.script.then(answer(200, &list(&rows)));
    let scan = bench
        .qad
        .payments_since("2026-04-02".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(scan.unreadable, []);
    let shown: Vec<_> = scan
        .allocations
        .iter()
        .map(|one| {
            (
                one.key.to_string(),
                one.invoice.entity.to_string(),
                one.in_invoice_currency,
            )
        })
        .collect();
    let eur = Some(Decimal::from(1_000));
    assert_eq!(
        shown,
        [
            ("QAD 10USACO 2026/ACH/7#1".to_owned(), "20GERCO".to_owned(), eur),
            ("QAD 90PAYCO 2026/ACH/8#1".to_owned(), "10USACO".to_owned(), eur),
        ]
    );
    let voucher = scan.allocations[0].voucher.unwrap();
    assert_eq!((voucher.year, voucher.number), (2026, 100_001));
    let url = &bench.script.sent()[1].url;
    assert!(url.contains("supplierPayment.invoiceEntityCode"), "{url}");
}

#[tokio::test]
async fn a_tenant_without_central_payers_still_shows_its_own_payments_and_a_failure_is_not_taken_for_none() {
    let since = "2026-04-02".parse().unwrap();
    for refused in [answer(404, "{}"), answer(400, r#"{"errors":["unknown field"]}"#)] {
        let bench = Bench::new();
        bench.script.then(answer(200, NONE));
        bench.script.then(refused);
        assert!(
            bench
                .qad
                .payments_since(since)
                .await
                .unwrap()
                .allocations
                .is_empty()
        );
    }
    let bench = Bench::new();
    bench.script.then(answer(200, NONE));
    for _ in 0..9 {
        bench.script.then(answer(503, ""));
    }
    assert!(matches!(
        bench.qad.payments_since(since).await,
        Err(ReadError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn the_noise_of_a_float_in_a_payment_or_a_balance_is_rounded_away() {
    let bench = Bench::new();
    let row = central("10USACO", "10USACO", 7)
        .replace("1085.00", "1085.0000000000002")
        .replace("1000.00", "9.999999999999999E2")
        .replace(
            "\"Paid\",",
            "\"Paid\",\"supplierPayment.discountAmount\":5.684341886080802e-14,",
        );
    bench.script.then(answer(200, &format!(r#"{{"data":[{row}]}}"#)));
    bench.script.then(answer(200, NONE));
    let scan = bench
        .qad
        .payments_since("2026-04-02".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(scan.unreadable, []);
    let paid = &scan.allocations[0];
    assert_eq!(
        (paid.allocated, paid.discount),
        (Decimal::from(1085), Decimal::ZERO)
    );
    assert_eq!(paid.in_invoice_currency, Some(Decimal::from(1000)));
    let bench = Bench::new();
    let row = r#"{"data":[{"supplierInvoice.entityCode":"10USACO","supplierInvoice.supplierCode":"10S1001","supplierInvoice.supplierInvoiceReference":"INV-55812",
        "supplierInvoice.invoiceType":"INVOICE","supplierInvoice.currencyCode":"USD","supplierInvoice.balance":1e-13,"supplierInvoice.lastModifiedDate":"2026-04-05"}]}"#;
    bench.script.then(answer(200, row));
    let scan = bench
        .qad
        .balances_since("2026-04-02".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(scan.balances[0].is_closed(), Some(true), "nothing is owed");
}

#[tokio::test]
async fn a_payment_row_without_its_day_is_told_and_read_again_from_where_this_reading_began() {
    let bench = Bench::new();
    let row = central("10USACO", "10USACO", 7).replace("\"2026-04-04\"", "null");
    bench.script.then(answer(200, &format!(r#"{{"data":[{row}]}}"#)));
    bench.script.then(answer(200, NONE));
    let since = "2026-04-02".parse().unwrap();
    let scan = bench.qad.payments_since(since).await.unwrap();
    assert_eq!((scan.allocations.len(), scan.unreadable.len()), (0, 1));
    assert_eq!(scan.unread_since, Some(since));
}

#[tokio::test]
async fn what_is_owed_is_read_from_the_changed_invoices_and_from_the_invoice_itself() {
    let row = |kind: &str, open: &str, balance: &str| {
        format!(
            r#"{{"supplierInvoice.entityCode":"10USACO","supplierInvoice.supplierCode":"10S1001",
            "supplierInvoice.supplierInvoiceReference":"INV-55812","supplierInvoice.invoiceType":"{kind}","supplierInvoice.postingYear":2026,
            "supplierInvoice.voucher":100001,"supplierInvoice.currencyCode":"USD","supplierInvoice.isOpen":{open},
            "supplierInvoice.balance":{balance},"supplierInvoice.lastModifiedDate":"2026-04-05T00:00:00.000Z"}}"#
        )
    };
    let rows = [
        row("INVOICE", "false", "0"),
        row("CREDITNOTE", "true", "12.50"),
        row("INVOICE", "null", "null"),
        row("PREPAYMENT", "true", "1"),
        row("INVOICE", "\"perhaps\"", "1"),
    ];
    let bench = Bench::new();
    bench
        .script
        .then(answer(200, &format!(r#"{{"data":[{}]}}"#, rows.join(","))));
    let scan = bench
        .qad
        .balances_since("2026-04-02".parse().unwrap())
        .await
        .unwrap();
    let shown: Vec<_> = scan
        .balances
        .iter()
        .map(|one| (one.is_closed(), one.balance))
        .collect();
    let credited = Some(Decimal::new(-1_250, 2));
    assert_eq!(
        shown,
        [
            (Some(true), Some(Decimal::ZERO)),
            (Some(false), credited),
            (None, None)
        ]
    );
    assert_eq!(scan.unreadable.len(), 1);
    let url = bench.script.sent()[0].url.clone();
    assert!(url.contains("supplierInvoice.lastModifiedDate"), "{url}");

    let record = |balance: &str| {
        format!(
            r#"{{"data":{{"supplierInvoices":[{{"entityCode":"10USACO","supplierCode":"10S1001","supplierInvoiceReference":"INV-55812",
            "invoiceType":"INVOICE","currencyCode":"USD","postingYear":2026,"voucher":100001{balance}}}]}}}}"#
        )
    };
    let identity = scan.balances[0].invoice.clone();
    for (balance, closed) in [
        (r#","balance":0.00"#, Some(true)),
        (r#","isOpen":true"#, Some(false)),
        ("", None),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(200, &record(balance)));
        let found = bench
            .qad
            .balances_of(&identity, "2026-04-06".parse().unwrap())
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].is_closed(), closed, "{balance}");
    }
}

#[tokio::test]
async fn an_order_is_read_by_its_path_or_from_the_list() {
    let bench = Bench::new();
    bench.script.then(answer(
        200,
        r#"{"id":4711,"po-number":"PO100234","order-lines":[]}"#,
    ));
    let numbers = bench.coupa.order_numbers(4711).await.unwrap().unwrap();
    assert_eq!(numbers, ["PO100234".parse().unwrap()]);
    bench.script.then(answer(404, "{}"));
    bench
        .script
        .then(answer(200, r#"[{"id":4711,"po-number":"PO7"}]"#));
    assert_eq!(bench.coupa.order_numbers(4711).await.unwrap().unwrap().len(), 1);
    // None, a list that does not know the filter, a list that refuses it: this order cannot be told.
    for list in [
        answer(200, "[]"),
        answer(200, r#"[{"id":1,"po-number":"PO1"}]"#),
        answer(400, r#"{"errors":["id is no filter"]}"#),
    ] {
        bench.script.then(answer(404, "{}"));
        bench.script.then(list);
        assert_eq!(bench.coupa.order_numbers(4711).await.unwrap(), None);
    }
    for list in [answer(403, "{}"), answer(404, "{}")] {
        bench.script.then(answer(404, "{}"));
        bench.script.then(list);
        bench.coupa.order_numbers(4711).await.unwrap_err();
    }
}

const INVOICE: &str = include_str!("../../tests/data/coupa-invoice.json");
const ORDER: &str = r#"[{"id":4711,"po-number":"4711","status":"issued","custom-fields":{"cf-qad-order":"QAD-PO9"},
  "order-lines":[{"id":9000,"line-num":"1"},{"id":9001,"line-num":"7"}]}]"#;

fn by_line_id() -> String {
    let named = "\"order-line-num\": \"1\"";
    assert!(INVOICE.contains(named));
    INVOICE.replace(named, "\"order-line-num\": null, \"order-line-id\": 9001")
}

#[tokio::test]
async fn an_order_is_read_only_when_a_line_does_not_say_which_order_line_it_bills() {
    let bench = Bench::new();
    bench.script.then(answer(200, INVOICE));
    bench.coupa.invoice(InvoiceId(92_010)).await.unwrap().unwrap();
    assert_eq!(bench.script.sent().len(), 1, "the line says it by itself");
    bench.script.then(answer(200, &by_line_id()));
    bench.script.then(answer(200, ORDER));
    let invoice = bench.coupa.invoice(InvoiceId(92_010)).await.unwrap().unwrap();
    assert_eq!(
        invoice.lines[0].order_line.as_ref().unwrap().to_string(),
        "4711 line 7"
    );
    let url = bench.script.sent()[2].url.clone();
    assert!(
        url.ends_with("/api/purchase_orders?po-number=4711&limit=1"),
        "{url}"
    );
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_not_an_order_without_lines() {
    for (outcome, expected) in [
        (answer(500, ""), "unavailable"),
        (answer(403, "{}"), "refused"),
        (answer(200, "[]"), "unmapped no line of order 4711"),
        // Another order than the one that was asked for.
        (
            answer(
                200,
                r#"[{"id":1,"po-number":"47110","order-lines":[{"id":9001,"line-num":"7"}]}]"#,
            ),
            "unmapped no line of order 4711",
        ),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(200, &by_line_id()));
        for _ in 0..5 {
            bench.script.then(outcome.clone());
        }
        let actual = match bench.coupa.invoice(InvoiceId(92_010)).await {
            Ok(invoice) => {
                let unmapped = invoice.and_then(|invoice| invoice.lines[0].order_line_unmapped.clone());
                format!("unmapped {}", unmapped.unwrap_or_default())
            }
            Err(ReadError::Unavailable { .. }) => "unavailable".to_owned(),
            Err(ReadError::Refused(_)) => "refused".to_owned(),
            Err(ReadError::Unreadable(problem)) => format!("unreadable {}", problem.field),
        };
        assert_eq!(actual, expected);
    }
}

#[tokio::test]
async fn the_qad_number_is_found_on_the_order_where_the_mapping_says_so() {
    let mut document = super::document();
    document["coupa"]["order_number"] = serde_json::json!({
        "field": "order-line-custom-fields.cf-qad-order", "strip_prefix": "QAD-"
    });
    let bench = Bench::with(&document);
    bench.script.then(answer(200, INVOICE));
    bench.script.then(answer(200, ORDER));
    let invoice = bench.coupa.invoice(InvoiceId(92_010)).await.unwrap().unwrap();
    assert_eq!(
        invoice.lines[0].order_line.as_ref().unwrap().to_string(),
        "PO9 line 1"
    );
}

const CLOSED_ORDER: &str = r#"[{"id":4711,"po-number":"4711","status":"soft_closed","order-lines":[
  {"id":9001,"line-num":"1","status":"received","match-type":"3-way","receipt-required":true},
  {"id":9002,"line-num":"2","status":"canceled","match-type":"2-way"},
  {"id":9003,"line-num":"3"}]}]"#;

#[tokio::test]
async fn where_an_order_and_its_lines_stand_is_read_in_coupas_words_and_the_connections() {
    let bench = Bench::new();
    bench.script.then(answer(200, CLOSED_ORDER));
    let order = bench.coupa.coupa_order("4711").await.unwrap().unwrap();
    assert_eq!(order.status.standing, CoupaOrderStanding::SoftClosed);
    assert_eq!(order.status.word, "soft_closed");
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|line| (line.id, line.status.standing, line.receipt_required))
        .collect();
    assert_eq!(
        lines,
        [
            (Some(9001), CoupaOrderStanding::NotTold, Some(true)),
            (Some(9002), CoupaOrderStanding::Cancelled, Some(false)),
            (Some(9003), CoupaOrderStanding::NotTold, None),
        ]
    );
    let mut document = super::document();
    document["coupa"]["orders"] = serde_json::json!({
        "statuses": {"soft_closed": "open", "frozen": "not-issued"},
        "receipt_required_field": "custom-fields.cf-receipt",
        "match_type_field": "cf-match",
        "match_types_without_receipt": ["SERVICE"],
    });
    let bench = Bench::with(&document);
    bench.script.then(answer(200, CLOSED_ORDER));
    let order = bench.coupa.coupa_order("4711").await.unwrap().unwrap();
    assert_eq!(order.status.standing, CoupaOrderStanding::Open);
    assert!(order.lines.iter().all(|line| line.receipt_required.is_none()));
    bench.script.then(answer(
        200,
        r#"[{"po-number":"4711","status":"frozen","order-lines":[{"line-num":1,"cf-match":"service"}]}]"#,
    ));
    let order = bench.coupa.coupa_order("4711").await.unwrap().unwrap();
    assert_eq!(order.status.standing, CoupaOrderStanding::NotIssued);
    assert_eq!(order.lines[0].receipt_required, Some(false));
    bench
        .script
        .then(answer(200, r#"[{"po-number":"4711","status":"misplaced"}]"#));
    let order = bench.coupa.coupa_order("4711").await.unwrap().unwrap();
    assert_eq!(order.status.standing, CoupaOrderStanding::Unknown);
}

#[tokio::test]
async fn an_order_is_none_only_after_a_complete_list_without_it() {
    let bench = Bench::new();
    bench.script.then(answer(200, "[]"));
    assert_eq!(bench.coupa.coupa_order("4711").await.unwrap(), None);
    // A list that does not filter shows another order: that is not this one.
    bench
        .script
        .then(answer(200, r#"[{"po-number":"4712","status":"closed"}]"#));
    assert_eq!(bench.coupa.coupa_order("4711").await.unwrap(), None);
    for (status, body) in [(404, "{}"), (200, "{}"), (200, "<html>")] {
        let bench = Bench::new();
        for _ in 0..5 {
            bench.script.then(answer(status, body));
        }
        assert!(bench.coupa.coupa_order("4711").await.is_err(), "{status} {body}");
    }
}

/// Refused to a connection that asks for the scope, it is no answer; to one whose scopes leave orders out, it says nothing.
#[tokio::test]
async fn an_order_that_the_scopes_leave_out_says_nothing_when_it_is_refused() {
    for (scopes, is_answer) in [
        (serde_json::json!([]), false),
        (
            serde_json::json!(["core.invoice.read", "core.purchase_order.read"]),
            false,
        ),
        (serde_json::json!(["core.invoice.read"]), true),
    ] {
        let mut document = super::document();
        document["coupa"]["scopes"] = scopes;
        let bench = Bench::with(&document);
        bench.script.then(answer(403, "{}"));
        let found = bench.coupa.coupa_order("4711").await;
        assert_eq!(found.is_ok(), is_answer, "{found:?}");
        // What is not a refusal is no answer to anybody.
        let bench = Bench::with(&document);
        for _ in 0..5 {
            bench.script.then(answer(500, ""));
        }
        assert!(bench.coupa.coupa_order("4711").await.is_err());
    }
}

/// What the invoice needed to be understood is not asked for a second time.
#[tokio::test]
async fn an_order_that_was_read_with_the_invoice_comes_along_with_it() {
    let bench = Bench::new();
    bench.script.then(answer(200, &by_line_id()));
    bench.script.then(answer(200, ORDER));
    let invoice = bench.coupa.invoice(InvoiceId(92_010)).await.unwrap().unwrap();
    assert_eq!(invoice.coupa_orders.len(), 1);
    assert_eq!(invoice.coupa_orders[0].status.standing, CoupaOrderStanding::Open);
    let reference = invoice.lines[0].coupa_order.clone().unwrap();
    assert_eq!(
        (reference.order.as_str(), reference.line_id),
        ("4711", Some(9001))
    );
}
