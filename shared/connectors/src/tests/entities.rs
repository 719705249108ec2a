//! A connection with several entities: its settings, and what it makes of Coupa's invoices.

use super::*;
use ::domain::entities::{OUT_OF_SCOPE, Whose, whose};
use ::domain::ids::InvoiceId;
use flows::ports::{Coupa, Qad, ReadError};
use serde_json::{Value, json};

const ID: InvoiceId = InvoiceId(92010);
const REALISTIC: &str = include_str!("../../tests/data/coupa-invoice.json");

fn two_entities() -> Value {
    let mut document = document();
    let qad = document["qad"].as_object_mut().unwrap();
    qad.remove("entity");
    qad.remove("domain");
    document["invoices"] = json!({
        "invoice_daybook": "SI",
        "credit_terms": {"NET30": "N30", "NET60": "N60"},
        "charge_accounts": {"shipping": {"gl_account": "6100", "cost_center": "100"}},
    });
    document["coding"] = json!({"gl_account": "segment-2", "cost_center": "segment-3"});
    document["entities"] = json!([
        {"code": "10USACO", "domain": "10USA", "time_zone": "America/Chicago", "workspace_header": true,
         "when": [{"field": "account-type.name", "is": ["QAD 10USA"]}]},
        {"code": "20GERCO", "domain": "20GER",
         "when": [{"field": "account-type.name", "is": ["QAD 20GER"]}],
         "invoice_daybook": "SIDE", "credit_terms": {"NET30": "D30"},
         "charge_accounts": {"shipping": {"gl_account": "4730"}}, "coding": {"gl_account": "segment-1"}},
    ]);
    document
}

fn parsed(document: &Value) -> ConnectionDocument {
    ConnectionDocument::parse(&document.to_string()).unwrap()
}

fn wrong(document: &Value) -> Vec<(String, String)> {
    let problems = ConnectionDocument::parse(&document.to_string()).unwrap_err();
    let mut told: Vec<(String, String)> = problems
        .into_iter()
        .map(|problem| (problem.field, problem.actual))
        .collect();
    told.sort();
    told
}

fn coded(chart: &str) -> String {
    let mut invoice: Value = serde_json::from_str(REALISTIC).unwrap();
    invoice["account-type"] = json!({"id": 77, "name": chart});
    invoice.to_string()
}

#[test]
fn what_an_entity_does_not_give_comes_from_the_connection() {
    let document = parsed(&two_entities());
    let settings: Vec<_> = document
        .entities
        .iter()
        .map(|entity| document.entity_invoice_settings(entity))
        .collect();
    let [us, german] = settings.as_slice() else {
        panic!("two entities")
    };
    assert_eq!(
        (us.policy.entity.as_str(), us.policy.domain.as_str()),
        ("10USACO", "10USA")
    );
    assert_eq!(
        (german.policy.entity.as_str(), german.policy.domain.as_str()),
        ("20GERCO", "20GER")
    );
    assert_eq!(us.policy.invoice_daybook.as_str(), "SI");
    assert_eq!(german.policy.invoice_daybook.as_str(), "SIDE");
    assert_eq!(german.policy.matching_daybook, us.policy.matching_daybook);
    assert_eq!(german.policy.credit_terms["NET30"].as_str(), "D30");
    assert_eq!(german.policy.credit_terms["NET60"].as_str(), "N60");
    assert_eq!(us.policy.credit_terms["NET30"].as_str(), "N30");
    assert_eq!(us.policy.coding.as_ref().unwrap().gl_account.field, "segment-2");
    let coding = german.policy.coding.as_ref().unwrap();
    assert_eq!(coding.gl_account.field, "segment-1");
    assert_eq!(coding.cost_center.as_ref().unwrap().field, "segment-3");
    // An entry is taken as a whole: another company's cost center does not stay behind an own account.
    let shipping = &german.policy.charge_accounts[&::domain::documents::ChargeKind::Shipping];
    assert_eq!(
        (shipping.gl_account.as_str(), shipping.cost_center.as_str()),
        ("4730", "")
    );
    let midnight = ::domain::time::Timestamp(1_772_755_200_000); // 2026-03-06 00:00 UTC
    assert_eq!(us.zone.date_of(midnight).to_string(), "2026-03-05");
    assert_eq!(german.zone.date_of(midnight).to_string(), "2026-03-06");
}

#[test]
fn the_short_form_is_one_entity_that_takes_everything() {
    let document = parsed(&document());
    assert!(document.entities.is_empty());
    assert_eq!(document.match_policy().entity.as_str(), "10USACO");
}

#[test]
fn the_domain_of_the_connection_serves_entities_without_one() {
    let mut document = two_entities();
    document["qad"]["domain"] = json!("10USA");
    document["entities"][0].as_object_mut().unwrap().remove("domain");
    let document = parsed(&document);
    let domains: Vec<&str> = document.entities.iter().map(|one| one.domain.as_str()).collect();
    assert_eq!(domains, ["10USA", "20GER"]);
}

#[test]
fn contradictions_are_refused_with_the_place_of_the_entity() {
    let mut both = two_entities();
    both["qad"]["entity"] = json!("10USACO");
    assert_eq!(wrong(&both), [("qad.entity".to_owned(), "both".to_owned())]);

    let mut twice = two_entities();
    twice["entities"][1]["code"] = json!("10usaco");
    assert_eq!(
        wrong(&twice),
        [("entities[1].code".to_owned(), "10usaco".to_owned())]
    );

    let mut everything = two_entities();
    everything["entities"][1].as_object_mut().unwrap().remove("when");
    assert_eq!(wrong(&everything)[0].0, "entities[1].when");

    let mut several = two_entities();
    several["entities"][0]["time_zone"] = json!("Chicago");
    several["entities"][0]["when"][0]["is"] = json!([]);
    several["entities"][1]["invoice_daybook"] = json!("");
    let fields: Vec<String> = wrong(&several).into_iter().map(|(field, _)| field).collect();
    assert_eq!(
        fields,
        [
            "entities[0].time_zone",
            "entities[0].when[0].is",
            "entities[1].invoice_daybook"
        ]
    );

    let mut unknown = two_entities();
    unknown["entities"][1]["invoice_daybok"] = json!("SI");
    assert!(
        wrong(&unknown)[0].0.starts_with("entities[1]"),
        "{:?}",
        wrong(&unknown)
    );

    let mut people = two_entities();
    people["entities"][0]["second_person"] = json!({"above": {"USD": 1}});
    assert_eq!(wrong(&people)[0].0, "entities[0].second_person");

    let mut none = two_entities();
    none["entities"] = json!([]);
    assert!(wrong(&none).iter().any(|(field, _)| field == "entities"));

    let mut homeless = two_entities();
    homeless["entities"][1].as_object_mut().unwrap().remove("domain");
    assert_eq!(wrong(&homeless)[0].0, "entities[1].domain");
}

#[tokio::test]
async fn an_invoice_carries_what_says_whose_it_is() {
    for (chart, wanted) in [
        ("QAD 10USA", Whose::Mine("10USACO".parse().unwrap())),
        ("QAD 20GER", Whose::Mine("20GERCO".parse().unwrap())),
        ("SAP Europe", Whose::OutOfScope),
    ] {
        let bench = Bench::with(&two_entities());
        bench.script.then(answer(200, &coded(chart)));
        let invoice = bench.coupa.invoice(ID).await.unwrap().unwrap();
        let rules = bench.document.entity_rules();
        assert_eq!(whose(&rules, &invoice.entity_fields), wanted, "{chart}");
    }
}

#[tokio::test]
async fn coding_an_invoice_to_another_company_is_a_change_of_the_invoice() {
    let mut hashes = Vec::new();
    for chart in ["QAD 10USA", "QAD 20GER"] {
        let bench = Bench::with(&two_entities());
        bench.script.then(answer(200, &coded(chart)));
        hashes.push(
            bench
                .coupa
                .invoice(ID)
                .await
                .unwrap()
                .unwrap()
                .source
                .content_sha256,
        );
    }
    assert_ne!(hashes[0], hashes[1]);
    // Where there are no conditions, the hash of what was read before stays as it was.
    let mut plain = Vec::new();
    for body in [REALISTIC.to_owned(), coded("QAD 20GER")] {
        let bench = Bench::new();
        bench.script.then(answer(200, &body));
        plain.push(
            bench
                .coupa
                .invoice(ID)
                .await
                .unwrap()
                .unwrap()
                .source
                .content_sha256,
        );
    }
    assert_eq!(plain[0], plain[1]);
}

#[tokio::test]
async fn another_erps_invoice_may_look_as_it_likes() {
    let bench = Bench::with(&two_entities());
    let voided = json!({"id": 92010, "status": "voided", "exported": false,
        "account-type": {"id": 77, "name": "SAP Europe", "enterprise": {"code": "SAP"}},
        "invoice-lines": [{"line-num": null, "type": "SomethingOfTheirs"}]});
    bench.script.then(answer(200, &voided.to_string()));
    let error = bench.coupa.invoice(ID).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Refused(problem) if problem.code == OUT_OF_SCOPE
            && problem.actual == "account-type.name is \"SAP Europe\""),
        "{error}"
    );
    let mut ours = voided;
    ours["account-type"]["name"] = json!("QAD 10USA");
    bench.script.then(answer(200, &ours.to_string()));
    let error = bench.coupa.invoice(ID).await.unwrap_err();
    assert!(
        matches!(&error, ReadError::Unreadable(_)),
        "ours is told: {error}"
    );
}

#[tokio::test]
async fn the_list_asks_for_what_says_whose_an_invoice_is() {
    let mut document = two_entities();
    document["coupa"]["invoices"] = json!({"filter": {"account-type[name][not_eq]": "SAP Europe"}});
    let bench = Bench::with(&document);
    let head = |id: u64, more: &str| {
        format!(r#"{{"id":{id},"status":"voided","updated-at":"2026-09-30T09:12:44Z"{more}}}"#)
    };
    let heads = [
        head(1, r#","account-type":{"name":"QAD 10USA"}"#),
        head(2, r#","account-type":{"name":"SAP Europe"}"#),
        head(3, r#","account-type":null"#),
        head(4, ""),
    ];
    bench.script.then(answer(200, &format!("[{}]", heads.join(","))));
    let page = bench.coupa.exportable_invoices(None).await.unwrap();
    let left_alone: Vec<bool> = page.heads.iter().map(|head| head.out_of_scope).collect();
    assert_eq!(
        left_alone,
        [false, true, true, false],
        "what the list does not show is read"
    );
    let sent = bench.script.sent();
    let query = sent[0].url.split_once('?').unwrap().1;
    assert!(
        query.contains("account-type%5Bname%5D%5Bnot_eq%5D=SAP+Europe")
            || query.contains("account-type%5Bname%5D%5Bnot_eq%5D=SAP%20Europe"),
        "{query}"
    );
    assert!(query.ends_with("fields=%5B%22id%22%2C%22status%22%2C%22updated-at%22%2C%7B%22account-type%22%3A%5B%22name%22%5D%7D%5D"), "{query}");
}

#[tokio::test]
async fn a_list_that_does_not_show_a_path_to_its_end_says_nothing() {
    let path = "invoice-lines.account.account-type.name";
    let mut document = two_entities();
    for (entity, chart) in [(0, "QAD 10USA"), (1, "QAD 20GER")] {
        document["entities"][entity]["when"] = json!([{"field": path, "is": [chart]}]);
    }
    for (shown, left_alone) in [
        (
            json!([{"account": {"account-type": {"name": "SAP Europe"}}}]),
            true,
        ),
        (json!([{"account": {"account-type": {"name": null}}}]), true),
        (
            json!([{"account": {"account-type": null}}, {"account": null}]),
            true,
        ),
        (json!([]), true),
        (json!(null), true),
        (json!([{"account": {"account-type": {"id": 77}}}]), false),
        (json!([{"account": {"account-type": 77}}]), false),
        (
            json!([{"account": {"account-type": {"name": {"id": 77}}}}]),
            false,
        ),
        (
            json!([{"account": {"account-type": {"name": "SAP Europe"}}}, {"id": 5}]),
            false,
        ),
        (json!([{"id": 5}]), false),
        (json!("5 lines"), false),
    ] {
        let bench = Bench::with(&document);
        let head = json!([{"id": 1, "status": "approved", "updated-at": "2026-09-30T09:12:44Z", "invoice-lines": shown}]);
        bench.script.then(answer(200, &head.to_string()));
        let page = bench.coupa.exportable_invoices(None).await.unwrap();
        assert_eq!(page.heads[0].out_of_scope, left_alone, "{shown}");
    }
}

#[tokio::test]
async fn every_entity_asks_qad_in_its_own_domain() {
    let bench = Bench::with(&two_entities());
    let views = crate::connection::entity_clients(
        &"acme".parse().unwrap(),
        &bench.document,
        &bench.world,
        HTTP_TIMEOUT,
    );
    for (qad, domain) in views.iter().zip(["10USA", "20GER"]) {
        bench.script.then(answer(
            200,
            r#"{"data":[],"auxillaryData":{"HasMoreParams":"false"}}"#,
        ));
        assert_eq!(qad.order(&"PO7001".parse().unwrap()).await.unwrap(), None);
        let sent = bench.script.sent();
        let request = sent.last().unwrap();
        assert!(
            request.url.contains(&format!("pod_domain%2Ceq%2C{domain}")),
            "{}",
            request.url
        );
        let workspace = (domain == "10USA").then_some("10USA_10USACO");
        assert_eq!(header(request, "x-qad-workspace-id"), workspace);
    }
    let tokens = bench
        .script
        .sent()
        .iter()
        .filter(|request| request.url.ends_with("/oauth/token"))
        .count();
    assert!(tokens <= 1, "one token serves all entities");
}
