//! Lookup values over the wire, both sides, and their settings.

use super::{Bench, answer, body, document, header};
use crate::connection::ConnectionDocument;
use crate::http::transport::{Method, TransportError};
use ::domain::lookups::{Action, ActionKind, CoupaValue, ParentReference};
use flows::ports::{CoupaLookups, QadSources, ReadError, WriteError};
use serde_json::{Value, json};

const LOOKUP: &str = "QAD Cost Centers & more";

fn create(code: &str, parent: Option<&str>) -> Action {
    Action {
        kind: ActionKind::Create,
        path: parent
            .into_iter()
            .chain([code])
            .map(|code| code.parse().unwrap())
            .collect(),
        id: None,
        parent_ref_code: parent.map(str::to_owned),
        parent_id: parent.map(|_| 7),
        name_before: String::new(),
        name: format!("{code} Dübel \"A\""),
        active: true,
    }
}

fn change(id: u64) -> Action {
    Action {
        kind: ActionKind::Deactivate,
        id: Some(id),
        active: false,
        ..create("100", None)
    }
}

fn value_json(id: u64, code: &str) -> Value {
    json!({"id": id, "name": format!("{code} Dübel \"A\""), "active": true, "external-ref-num": code,
        "external-ref-code": code, "lookup": {"id": 3, "name": LOOKUP}, "parent": null})
}

#[tokio::test]
async fn a_lookup_is_listed_page_by_page_exactly_as_the_contract_says() {
    let bench = Bench::new();
    let page: Vec<Value> = (1..=50).map(|id| value_json(id, &format!("C{id}"))).collect();
    bench.script.then(answer(200, &json!(page).to_string()));
    let second = json!([
        {"id": "51", "name": "By a person", "active": "false", "external_ref_num": ""},
        {"id": 52, "name": "Below", "active": true, "external-ref-num": 200, "external-ref-code": "C1-200", "parent": {"id": 1}},
        {"id": 53, "name": "No flag", "external-ref-num": "300"},
    ]);
    bench.script.then(answer(200, &second.to_string()));
    let scan = bench.coupa.lookup_values(LOOKUP).await.unwrap();
    let sent = bench.script.sent();
    let urls: Vec<&str> = sent.iter().map(|request| request.url.as_str()).collect();
    let base =
        "https://example.coupahost.com/api/lookup_values?lookup%5Bname%5D=QAD%20Cost%20Centers%20%26%20more";
    assert_eq!(
        urls,
        [
            format!("{base}&id%5Bgt%5D=0&order_by=id&dir=asc&limit=50"),
            format!("{base}&id%5Bgt%5D=50&order_by=id&dir=asc&limit=50"),
        ]
    );
    assert_eq!(scan.values.len(), 52);
    let person = &scan.values[50];
    assert_eq!(
        (person.id, person.active, person.code.as_ref()),
        (51, false, None)
    );
    let below = &scan.values[51];
    assert_eq!(
        below.parent,
        Some(ParentReference {
            id: Some(1),
            external_ref_code: None
        })
    );
    let [(code, problem)] = scan.unreadable.as_slice() else {
        panic!("{:?}", scan.unreadable)
    };
    assert_eq!(code.as_ref().unwrap().as_str(), "300");
    assert_eq!(
        (problem.code.as_str(), problem.field.as_str()),
        ("COUPA_LOOKUP_VALUE_UNREADABLE", "[2].active")
    );
}

#[tokio::test]
async fn a_listing_that_cannot_be_trusted_is_no_listing() {
    let other = json!([{"id": 1, "name": "x", "active": true, "lookup": {"name": "Another"}}]);
    let again = json!([value_json(0, "C0")]);
    let full: Vec<Value> = (0..50).map(|_| json!({"name": "without id"})).collect();
    for (page, code) in [
        (other.to_string(), "COUPA_FILTER_IGNORED"),
        (again.to_string(), "COUPA_PAGE_BROKEN"),
        (json!(full).to_string(), "COUPA_PAGE_BROKEN"),
        ("{}".to_owned(), "COUPA_ANSWER_UNREADABLE"),
    ] {
        let bench = Bench::new();
        bench.script.then(answer(200, &page));
        let error = bench.coupa.lookup_values(LOOKUP).await.unwrap_err();
        assert!(
            matches!(&error, ReadError::Unreadable(problem) if problem.code == code),
            "{error:?}"
        );
    }
    let bench = Bench::new();
    bench.script.then(answer(404, "{}"));
    assert!(matches!(
        bench.coupa.lookup_values(LOOKUP).await,
        Err(ReadError::Refused(_))
    ));
}

#[tokio::test]
async fn a_value_is_found_by_its_number() {
    let bench = Bench::new();
    bench
        .script
        .then(answer(200, &json!([value_json(9, "1&0")]).to_string()));
    let found = bench
        .coupa
        .find_lookup_values(LOOKUP, &"1&0".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(found.len(), 1);
    assert!(
        bench.script.sent()[0]
            .url
            .contains("more&external-ref-num=1%260&id%5Bgt%5D=0&order_by=id"),
    );
    // What cannot be read may be the very value: that is never "none".
    bench
        .script
        .then(answer(200, r#"[{"id":9,"external-ref-num":"100"}]"#));
    let unread = bench
        .coupa
        .find_lookup_values(LOOKUP, &"100".parse().unwrap())
        .await;
    assert!(matches!(unread, Err(ReadError::Unreadable(_))));
}

#[tokio::test]
async fn a_value_is_created_exactly_as_the_contract_says() {
    let bench = Bench::new();
    bench.script.then(answer(201, &value_json(9, "100").to_string()));
    let shown = bench
        .coupa
        .create_lookup_value(LOOKUP, &create("100", None), "key-1")
        .await
        .unwrap();
    assert_eq!((shown.id, shown.code.as_deref()), (9, Some("100")));
    let mut below = value_json(10, "110");
    below["parent"] = json!({"external-ref-code": "100"});
    bench.script.then(answer(201, &below.to_string()));
    let child = create("110", Some("100"));
    bench
        .coupa
        .create_lookup_value(LOOKUP, &child, "key-2")
        .await
        .unwrap();
    let sent = bench.script.sent();
    assert_eq!(sent[0].method, Method::Post);
    assert_eq!(sent[0].url, "https://example.coupahost.com/api/lookup_values");
    assert_eq!(header(&sent[0], "idempotency-key"), Some("key-1"));
    assert_eq!(
        body(&sent[0]),
        r#"{"name":"100 Dübel \"A\"","external-ref-num":"100","active":true,"lookup":{"name":"QAD Cost Centers & more"}}"#
    );
    assert_eq!(
        body(&sent[1]),
        r#"{"name":"110 Dübel \"A\"","external-ref-num":"110","active":true,"lookup":{"name":"QAD Cost Centers & more"},"parent":{"external-ref-code":"100"}}"#
    );
}

#[tokio::test]
async fn a_value_is_changed_by_its_id() {
    let bench = Bench::new();
    bench.script.then(answer(200, &value_json(9, "100").to_string()));
    bench
        .coupa
        .update_lookup_value(LOOKUP, 9, &change(9), "key-3")
        .await
        .unwrap();
    let sent = bench.script.sent();
    assert_eq!(sent[0].method, Method::Put);
    assert_eq!(sent[0].url, "https://example.coupahost.com/api/lookup_values/9");
    assert_eq!(body(&sent[0]), r#"{"name":"100 Dübel \"A\"","active":false}"#);
}

#[tokio::test]
async fn what_an_answer_to_a_write_means() {
    for (outcome, word) in [
        (
            answer(400, r#"{"errors":{"name":["has already been taken"]}}"#),
            "refused COUPA_LOOKUP_VALUE_TAKEN",
        ),
        (
            answer(
                400,
                "<errors><error>External ref num has already been taken</error></errors>",
            ),
            "refused COUPA_LOOKUP_VALUE_TAKEN",
        ),
        (
            answer(400, r#"{"errors":{"lookup":["must exist"]}}"#),
            "refused COUPA_LOOKUP_MISSING",
        ),
        (
            answer(404, r#"{"errors":{"base":["not found"]}}"#),
            "refused COUPA_LOOKUP_MISSING",
        ),
        (
            answer(400, r#"{"errors":{"lookup_value":["Name is too long"]}}"#),
            "refused COUPA_REQUEST_REFUSED",
        ),
        (answer(403, "{}"), "refused COUPA_PERMISSION_DENIED"),
        (answer(429, ""), "not applied COUPA_THROTTLED"),
        (answer(500, ""), "unknown COUPA_UNAVAILABLE"),
        (
            Err(TransportError::MaybeSent("timeout".into())),
            "unknown COUPA_UNREACHABLE",
        ),
        (
            Err(TransportError::NotSent("refused".into())),
            "not applied COUPA_UNREACHABLE",
        ),
    ] {
        let bench = Bench::new();
        bench.script.then(outcome);
        let told = bench
            .coupa
            .create_lookup_value(LOOKUP, &create("100", None), "key")
            .await;
        let actual = match told {
            Ok(_) => "done".to_owned(),
            Err(WriteError::Unknown(problem)) => format!("unknown {}", problem.code),
            Err(WriteError::NotApplied { problem, .. }) => format!("not applied {}", problem.code),
            Err(WriteError::Refused(problem)) => format!("refused {}", problem.code),
        };
        assert_eq!(actual, word);
    }
}

#[tokio::test]
async fn an_accepted_write_without_its_value_is_read_back() {
    let without_its_code = r#"{"id":9,"name":"100 A","active":false}"#;
    for echo in ["", "{}", r#"{"id":9}"#, without_its_code] {
        let bench = Bench::new();
        bench.script.then(answer(200, echo));
        let shown = json!([{"id": 9, "name": "100 Dübel \"A\"", "active": false, "external-ref-num": "100"}]);
        bench.script.then(answer(200, &shown.to_string()));
        let value: CoupaValue = bench
            .coupa
            .update_lookup_value(LOOKUP, 9, &change(9), "key")
            .await
            .unwrap();
        let shown = (value.id, value.active, value.code.as_deref());
        assert_eq!(shown, (9, false, Some("100")), "{echo}");
    }
    let bench = Bench::new();
    bench.script.then(answer(201, ""));
    bench.script.then(answer(200, "[]"));
    let nothing = bench
        .coupa
        .create_lookup_value(LOOKUP, &create("100", None), "key")
        .await;
    assert!(matches!(nothing, Err(WriteError::Unknown(_))));
}

fn with(lookups: Value) -> Value {
    let mut document = document();
    document["lookups"] = lookups;
    document
}

fn rows(rows: &[Value], more: bool) -> String {
    json!({"data": rows, "auxillaryData": {"HasMoreParams": more.to_string()}}).to_string()
}

fn center(code: Value, description: &str, active: Value) -> Value {
    json!({"cc_mstr.cc_ctr": code, "cc_mstr.cc_desc": description, "cc_mstr.cc_active": active, "cc_mstr.cc_domain": "10USA"})
}

#[tokio::test]
async fn cost_centers_are_read_whole_and_what_cannot_be_read_is_told() {
    let bench = Bench::with(&with(json!({"sources": {"cost-centers": {"page_rows": 2}}})));
    let mut elsewhere = center(json!("500"), "Other domain", json!(true));
    elsewhere["cc_mstr.cc_domain"] = json!("20EUR");
    let pages: [&[Value]; 3] = [
        &[
            center(json!("100 "), "Plant ", json!(true)),
            center(json!(200), "", json!("no")),
        ],
        &[
            center(json!("300"), "Word", json!("perhaps")),
            center(Value::Null, "No code", json!(true)),
        ],
        &[elsewhere, center(json!("600"), "Last", json!("Y"))],
    ];
    for (index, page) in pages.iter().enumerate() {
        bench.script.then(answer(200, &rows(page, index < 2)));
    }
    let scan = bench.qad.source_values("cost-centers").await.unwrap();
    let url = "https://example.qad.com/clouderp/api/qracore/browses?browseId=urn%3Abrowse%3Amfg%3Agp059&page=1&pageSize=2&pageAction=first&filter=cc_mstr.cc_domain%2Ceq%2C10USA%2Cliteral";
    let sent = bench.script.sent();
    assert_eq!(sent[0].url, url);
    assert_eq!(
        sent[1].url,
        url.replace("page=1", "page=2").replace("first", "next")
    );
    let read: Vec<(&str, &str, bool)> = scan
        .values
        .iter()
        .map(|value| (value.code.as_str(), value.description.as_str(), value.active))
        .collect();
    assert_eq!(
        read,
        [("100", "Plant", true), ("200", "", false), ("600", "Last", true)]
    );
    let told: Vec<(Option<&str>, &str)> = scan
        .unreadable
        .iter()
        .map(|(code, problem)| (code.as_ref().map(|code| code.as_str()), problem.field.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("300"), "data[2].cc_mstr.cc_active"),
            (None, "data[3].cc_mstr.cc_ctr"),
            (Some("500"), "data[4].cc_mstr.cc_domain"),
        ]
    );
}

#[tokio::test]
async fn any_browse_by_configuration_with_parents() {
    let bench = Bench::with(&with(json!({
        "sync": [{"lookup": "Sub-accounts", "source": "sub-accounts", "change_percent_max": 5}],
        "sources": {"sub-accounts": {
            "browse_id": "urn:browse:custom:sub-accounts",
            "filters": ["sb.entity,eq,{entity}", "sb.code,sw,A"],
            "fields": {"code": "sb.code", "parent": "sb.parent"},
        }},
    })));
    let page = [
        json!({"sb.code": "A1", "sb.parent": "", "sb.entity": "10USACO"}),
        json!({"sb.code": "A2", "sb.parent": "A1", "sb.entity": "10USACO"}),
    ];
    bench.script.then(answer(200, &rows(&page, false)));
    let scan = bench.qad.source_values("sub-accounts").await.unwrap();
    assert!(bench.script.sent()[0].url.ends_with(
        "pageAction=first&filter=sb.entity%2Ceq%2C10USACO%2Cliteral&filter=sb.code%2Csw%2CA%2Cliteral"
    ));
    assert_eq!(scan.unreadable, []);
    assert_eq!(scan.values[0].parent, None);
    assert_eq!(scan.values[1].parent, Some("A1".parse().unwrap()));
    assert!(
        scan.values.iter().all(|value| value.active),
        "no flag: all are active"
    );
    let lookups = bench.document.lookups.as_ref().unwrap();
    let sync = &lookups.syncs[0];
    assert_eq!(
        (sync.policy.change_percent_max, sync.policy.change_count_min),
        (5, 10)
    );
    let unknown = bench.qad.source_values("nothing").await.unwrap_err();
    assert!(matches!(unknown, ReadError::Refused(problem) if problem.code == "LOOKUP_SOURCE_UNKNOWN"));
}

#[tokio::test]
async fn a_browse_that_gives_no_answer_is_no_list() {
    let lists: [(crate::tests::Outcome, &str); 4] = [
        (answer(200, r#"{"data":null}"#), "unreadable"),
        (answer(403, "{}"), "refused"),
        (answer(404, "{}"), "refused"),
        (answer(200, "<html>login</html>"), "unavailable"),
    ];
    for (outcome, word) in lists {
        let bench = Bench::with(&with(json!({})));
        for _ in 0..10 {
            bench.script.then(outcome.clone());
        }
        let actual = match bench.qad.source_values("projects").await {
            Ok(_) => "a list",
            Err(ReadError::Unavailable { .. }) => "unavailable",
            Err(ReadError::Refused(_)) => "refused",
            Err(ReadError::Unreadable(_)) => "unreadable",
        };
        assert_eq!(actual, word);
    }
}

#[test]
fn the_section_alone_means_the_three_defaults_and_none_means_off() {
    let parse = |document: &Value| ConnectionDocument::parse(&document.to_string()).unwrap().lookups;
    assert_eq!(parse(&document()), None);
    let lookups = parse(&with(json!({}))).unwrap();
    let shown: Vec<(&str, &str)> = lookups
        .syncs
        .iter()
        .map(|sync| (sync.lookup.as_str(), sync.source.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("QAD Cost Centers", "cost-centers"),
            ("QAD Projects", "projects"),
            ("QAD GL Accounts", "gl-accounts")
        ]
    );
    assert_eq!(parse(&with(json!({"sync": []}))).unwrap().syncs, []);
}

#[test]
fn what_is_wrong_with_the_section_is_told_with_its_setting() {
    for (lookups, field) in [
        (json!({"change_percent_max": 101}), "lookups.change_percent_max"),
        (
            json!({"sync": [{"lookup": "", "source": "projects"}]}),
            "lookups.sync[0].lookup",
        ),
        (
            json!({"sync": [{"lookup": "A", "source": "projects"}, {"lookup": "a ", "source": "projects"}]}),
            "lookups.sync[1].lookup",
        ),
        (
            json!({"sync": [{"lookup": "A", "source": "x"}]}),
            "lookups.sync[0].source",
        ),
        (
            json!({"sources": {"x": {"fields": {"code": "c"}}}}),
            "lookups.sources.x.browse_id",
        ),
        (
            json!({"sources": {"x": {"browse_id": "b"}}}),
            "lookups.sources.x.fields.code",
        ),
        (
            json!({"sources": {"projects": {"fields": {"colour": "c"}}}}),
            "lookups.sources.projects.fields.colour",
        ),
        (
            json!({"sources": {"projects": {"filters": ["a,like,b"]}}}),
            "lookups.sources.projects.filters[0]",
        ),
        (
            json!({"sources": {"projects": {"filters": ["a,eq,b,c"]}}}),
            "lookups.sources.projects.filters[0]",
        ),
        (
            json!({"sources": {"projects": {"page_rows": 0}}}),
            "lookups.sources.projects.page_rows",
        ),
        (json!({"enabled": true}), "lookups.enabled"),
    ] {
        let problems = ConnectionDocument::parse(&with(lookups.clone()).to_string()).unwrap_err();
        assert!(
            problems
                .iter()
                .any(|problem| problem.field == field && problem.code == "CONNECTION_INVALID"),
            "{lookups}: {problems:?}"
        );
    }
}
