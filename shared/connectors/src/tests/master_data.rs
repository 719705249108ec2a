//! QAD's lists that settings and documents are checked against, and what the settings name of them.

use super::{Bench, answer, document};
use crate::connection::ConnectionDocument;
use ::domain::master_data::{CodeList, Codes, MasterData, Periods, Said};
use serde_json::{Value, json};

fn rows(rows: &[Value]) -> super::Outcome {
    let body = json!({"data": rows, "auxillaryData": {"HasMoreParams": "false"}});
    answer(200, &body.to_string())
}

/// QAD answers in the order in which it is asked: seven lists of codes, then the periods.
async fn read(answers: [super::Outcome; 8]) -> (MasterData, Vec<String>) {
    let bench = Bench::new();
    for answer in answers {
        bench.script.then(answer);
    }
    let data = bench.qad.master_data().await;
    let urls = bench
        .script
        .sent()
        .iter()
        .map(|request| request.url.clone())
        .collect();
    (data, urls)
}

fn period(start: &str, end: &str, locked: Value) -> Value {
    json!({"period.entityCode": "10USACO", "period.startDate": start, "period.endDate": end, "period.isApLocked": locked})
}

#[tokio::test]
async fn each_list_is_read_by_its_own_browse_and_says_what_may_be_used() {
    let (data, urls) = read([
        rows(&[
            json!({"daybook.daybookCode": "SI", "daybook.isActive": true}),
            json!({"daybook.daybookCode": "OLD", "daybook.isActive": "no"}),
            json!({"daybook.daybookCode": "ODD", "daybook.isActive": "perhaps"}),
        ]),
        rows(&[json!({"invoiceStatusCode.invoiceStatusCode": "AP-RMALLOC", "invoiceStatusCode.isActive": true})]),
        rows(&[json!({"creditTerm.creditTermsCode": "N30", "creditTerm.isActive": true})]),
        rows(&[json!({"glAccount.glAccountCode": "6100", "glAccount.description": "", "glAccount.isActive": true})]),
        rows(&[json!({"cc_mstr.cc_ctr": "300", "cc_mstr.cc_desc": "", "cc_mstr.cc_active": true})]),
        rows(&[]),
        rows(&[json!({"currency.currencyCode": "USD", "currency.isActive": true}), json!({"currency.isActive": true})]),
        rows(&[
            period("2026-02-01T00:00:00.000Z", "2026-02-28T00:00:00.000Z", json!(true)),
            period("2026-03-01T00:00:00.000Z", "2026-03-31T00:00:00.000Z", json!(false)),
        ]),
    ])
    .await;
    let browses: Vec<&str> = urls
        .iter()
        .map(|url| url.split(['=', '&']).nth(1).unwrap())
        .collect();
    let of_financials = |name: &str| format!("urn%3Abrowse%3Abebrowse%3Acom.qad.erp.financials.{name}");
    assert_eq!(
        browses,
        [
            of_financials("daybooks"),
            of_financials("invoiceStatusCodes"),
            of_financials("creditTerms"),
            of_financials("glAccounts"),
            "urn%3Abrowse%3Amfg%3Agp059".to_owned(),
            of_financials("projects"),
            of_financials("currencies"),
            of_financials("periods"),
        ]
    );
    assert!(
        urls[4].contains("filter=cc_mstr.cc_domain%2Ceq%2C10USA%2Cliteral"),
        "{}",
        urls[4]
    );
    assert!(
        urls[7].contains("filter=period.entityCode%2Ceq%2C10USACO%2Cliteral"),
        "{}",
        urls[7]
    );
    let says = |list: CodeList, code: &str| data.codes[&list].says(code);
    assert_eq!(says(CodeList::Daybooks, "si"), Said::Usable);
    assert_eq!(says(CodeList::Daybooks, "OLD"), Said::Closed);
    assert_eq!(says(CodeList::Daybooks, "ODD"), Said::Nothing);
    assert_eq!(says(CodeList::Daybooks, "XX"), Said::Absent);
    assert_eq!(says(CodeList::CostCenters, "999"), Said::Absent);
    // A row without its code may be any.
    assert_eq!(says(CodeList::Currencies, "USD"), Said::Usable);
    assert_eq!(says(CodeList::Currencies, "EUR"), Said::Nothing);
    // QAD answers an unknown browse with an empty list.
    assert!(matches!(data.codes[&CodeList::Projects], Codes::NotShown(_)));
    assert_eq!(data.periods.says("2026-02-14".parse().unwrap()), Said::Closed);
    assert_eq!(data.periods.says("2026-03-31".parse().unwrap()), Said::Usable);
}

#[tokio::test]
async fn a_list_that_gives_no_answer_refuses_nothing_and_says_why() {
    let refused = || answer(403, "{}");
    let (data, _) = read([
        refused(),
        refused(),
        refused(),
        refused(),
        refused(),
        refused(),
        refused(),
        rows(&[
            period("2026-02-01", "2026-02-28", json!(true)),
            period("2026-03-01", "2026-03-31", json!("?")),
        ]),
    ])
    .await;
    for list in CodeList::ALL {
        let Codes::NotShown(why) = &data.codes[&list] else {
            panic!("{list:?}")
        };
        assert!(why.contains("QAD_PERMISSION_DENIED"), "{why}");
        assert_eq!(data.codes[&list].says("SI"), Said::Nothing);
    }
    // One period cannot be read: nothing is said of any day that no open period holds.
    assert!(matches!(data.periods, Periods::Shown { whole: false, .. }));
    assert_eq!(data.periods.says("2026-02-14".parse().unwrap()), Said::Nothing);
}

#[tokio::test]
async fn another_entitys_period_is_no_answer() {
    let none = || rows(&[]);
    let mut other = period("2026-03-01", "2026-03-31", json!(false));
    other["period.entityCode"] = json!("20GERCO");
    let (data, _) = read([
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        rows(&[other]),
    ])
    .await;
    assert!(matches!(data.periods, Periods::NotShown(_)), "{:?}", data.periods);
}

#[test]
fn what_the_settings_name_is_known_by_entity() {
    let mut settings = document();
    settings["qad"].as_object_mut().unwrap().remove("entity");
    settings["entities"] = json!([
        {"code": "10USACO", "domain": "10USA", "invoice_daybook": "S1", "when": [{"field": "a", "is": ["x"]}]},
        {"code": "20GERCO", "domain": "20GER", "when": [{"field": "a", "is": ["y"]}]},
    ]);
    settings["invoices"]["second_person"] = json!({"above": {"EUR": 1000}});
    let document = ConnectionDocument::parse(&settings.to_string()).unwrap();
    let told = |index: usize| -> Vec<String> {
        let (entity, named) = &document.named_codes()[index];
        named
            .iter()
            .map(|named| format!("{entity} {} {}", named.by, named.code))
            .collect()
    };
    assert!(
        told(0).contains(&"10USACO invoices.invoice_daybook S1".to_owned()),
        "{:?}",
        told(0)
    );
    assert!(told(0).contains(&"10USACO invoices.second_person.above.EUR EUR".to_owned()));
    assert!(
        told(1).contains(&"20GERCO invoices.invoice_daybook SI".to_owned()),
        "{:?}",
        told(1)
    );
    assert!(!told(1).iter().any(|line| line.contains("second_person")));
}
