//! Several documents in one request.

use super::{Bench, Outcome, answer, answer_with, document};
use ::domain::ids::InvoiceId;
use flows::ports::{Coupa, CoupaTogether, ReadError};

const REALISTIC: &str = include_str!("../../tests/data/coupa-invoice.json");
const ID: InvoiceId = InvoiceId(92_010);

fn invoice(id: u64) -> String {
    REALISTIC.replace("\"id\": 92010", &format!("\"id\": {id}"))
}

fn list(items: &[String]) -> Outcome {
    answer(200, &format!("[{}]", items.join(",")))
}

fn order(number: &str, status: &str) -> String {
    format!(
        r#"{{"id":1,"po-number":"{number}","status":"{status}","order-lines":[{{"id":9001,"line-num":"1"}}]}}"#
    )
}

fn urls(bench: &Bench) -> Vec<String> {
    bench
        .script
        .sent()
        .into_iter()
        .map(|request| request.url.clone())
        .collect()
}

#[tokio::test]
async fn invoices_are_asked_for_by_their_ids_and_read_as_the_single_one_is() {
    let bench = Bench::new();
    bench.script.then(list(&[invoice(92_010), invoice(92_011)]));
    bench.script.then(answer(200, REALISTIC));
    let read = bench.coupa.invoices(&[ID, InvoiceId(92_011)]).await.unwrap();
    assert_eq!(
        urls(&bench),
        ["https://example.coupahost.com/api/invoices?id%5Bin%5D=92010%2C92011&order_by=id&dir=asc&limit=50"]
    );
    let alone = bench.coupa.invoice(ID).await.unwrap().unwrap();
    assert_eq!(read.first(), Some(&alone), "with the same content hash");
    assert_eq!(read.get(1).unwrap().id, InvoiceId(92_011));
}

#[tokio::test]
async fn only_what_was_asked_for_and_can_be_read_is_an_answer() {
    let bench = Bench::new();
    let nameless = invoice(92_012).replace("\"invoice-number\"", "\"another-number\"");
    let other = invoice(7);
    let strange = "[]".to_owned();
    bench.script.then(list(&[
        other,
        nameless,
        strange,
        invoice(92_010),
        invoice(92_010),
    ]));
    let asked = [ID, InvoiceId(92_011), InvoiceId(92_012)];
    let read = bench.coupa.invoices(&asked).await.unwrap();
    assert_eq!(read.iter().map(|invoice| invoice.id).collect::<Vec<_>>(), [ID]);
}

#[tokio::test]
async fn a_request_for_several_that_fails_is_no_answer_for_any() {
    let bench = Bench::new();
    for refused in [
        answer(400, r#"{"errors":{"id[in]":["is not a filter"]}}"#),
        answer(404, r#"{"error":"not found"}"#),
        answer(200, r#"{"id":92010}"#),
    ] {
        bench.script.then(refused);
        let error = bench.coupa.invoices(&[ID, InvoiceId(7)]).await.unwrap_err();
        assert!(!matches!(error, ReadError::Unavailable { .. }), "{error}");
    }
}

/// What it leaves of a call's time is there for asking for each.
#[tokio::test]
async fn a_request_for_several_does_not_wait_as_long_as_one_for_a_single_document() {
    let bench = Bench::new();
    let busy = || answer_with(503, ("retry-after", "40"), "");
    bench.script.then(busy());
    let error = bench.coupa.invoices(&[ID, InvoiceId(7)]).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable { .. }), "{error}");
    assert_eq!(bench.slept_millis(), [0; 0]);
    bench.script.then(busy());
    bench.script.then(answer(200, REALISTIC));
    assert!(bench.coupa.invoice(ID).await.unwrap().is_some());
    assert_eq!(
        bench.slept_millis().len(),
        1,
        "the single document is worth the wait"
    );
}

#[tokio::test]
async fn orders_are_asked_for_by_their_numbers() {
    let bench = Bench::new();
    bench
        .script
        .then(list(&[order("po4711", "issued"), order("9", "issued")]));
    let numbers = ["PO4711".to_owned(), "PO4712".to_owned(), "A,B".to_owned()];
    let read = bench.coupa.coupa_orders(&numbers).await.unwrap();
    assert_eq!(
        urls(&bench),
        [
            "https://example.coupahost.com/api/purchase_orders?po-number%5Bin%5D=PO4711%2CPO4712&order_by=id&dir=asc&limit=50"
        ],
        "a number with a comma is asked for alone"
    );
    assert_eq!(read.len(), 1);
    assert_eq!(read.first().unwrap().number, "po4711");
    assert_eq!(bench.coupa.coupa_orders(&["A,B".to_owned()]).await.unwrap(), []);
    assert_eq!(urls(&bench).len(), 1);
}

/// The connection keeps QAD's number on Coupa's order: those of all invoices are asked for at once, and an invoice whose order is
/// not among them is left to be asked for alone.
#[tokio::test]
async fn orders_that_invoices_need_to_be_understood_are_asked_for_at_once() {
    let mut settings = document();
    settings["coupa"]["order_number"] = serde_json::json!({"field": "order-line-custom-fields.cf-qad-order"});
    let bench = Bench::with(&settings);
    let of_order = |id: u64, number: &str| {
        invoice(id).replace("\"po-number\": \"4711\"", &format!("\"po-number\": \"{number}\""))
    };
    bench
        .script
        .then(list(&[of_order(92_010, "4711"), of_order(92_011, "4712")]));
    let mapped = order("4711", "issued").replace(
        r#""line-num":"1""#,
        r#""line-num":"1","custom-fields":{"cf-qad-order":"PO100234"}"#,
    );
    bench.script.then(list(&[mapped]));
    let read = bench.coupa.invoices(&[ID, InvoiceId(92_011)]).await.unwrap();
    assert_eq!(urls(&bench).len(), 2);
    assert!(urls(&bench)[1].contains("po-number%5Bin%5D=4711%2C4712&"));
    assert_eq!(read.iter().map(|invoice| invoice.id).collect::<Vec<_>>(), [ID]);
    let orders = &read.first().unwrap().coupa_orders;
    assert_eq!(orders.first().unwrap().number, "4711");
}

#[tokio::test]
async fn bills_are_read_from_the_same_list() {
    let bench = Bench::new();
    let bill = |id: u64, payments: &str| {
        format!(r#"{{"id":{id},"currency":{{"code":"USD"}},"paid":false{payments}}}"#)
    };
    let listed = [bill(92_010, r#","payments":[]"#), bill(92_011, "")];
    bench.script.then(list(&listed));
    let read = bench.coupa.bills(&[ID, InvoiceId(92_011)]).await.unwrap();
    let ids: Vec<InvoiceId> = read.iter().map(|bill| bill.id).collect();
    assert_eq!(ids, [ID], "a list without payments is not one of none");
}
