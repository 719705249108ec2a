use super::document;
use crate::connection::ConnectionDocument;
use ::domain::documents::ChargeKind;
use ::domain::policy::PostingDate;
use rust_decimal::Decimal;
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../../../docs/examples/connection.toml");
/// What other functions own in the same file.
const SECTIONS_OF_OTHERS: [&str; 4] = ["id", "webhook", "schedules", "timing"];

fn from_toml(text: &str) -> ConnectionDocument {
    let mut table: toml::Table = text.parse().unwrap();
    for section in SECTIONS_OF_OTHERS {
        table.remove(section);
    }
    ConnectionDocument::parse(&serde_json::to_string(&table).unwrap()).unwrap()
}

#[test]
fn the_documented_example_is_a_connection() {
    let document = from_toml(EXAMPLE);
    let policy = document.match_policy();
    assert_eq!(policy.invoice_daybook.as_str(), "SI");
    assert_eq!(policy.tolerance.version, "default-3");
    assert_eq!(policy.units["DOZEN"].factor, Decimal::from(12));
    assert_eq!(
        policy.charge_accounts[&ChargeKind::Shipping].gl_account.as_str(),
        "6100"
    );
    assert_eq!(policy.posting_date, PostingDate::Latest);
    assert_eq!(document.hold_recheck_seconds, 86_400);
    assert_eq!(
        document.invoice_settings().outcomes,
        flows::ports::Outcomes::Nothing
    );
}

#[test]
fn what_is_wrong_with_the_way_out_is_told_without_its_values() {
    for (field, value, said) in [
        ("network", json!({"proxy": "hunter2"}), "proxy: http://host:port"),
        (
            "network",
            json!({"client_key": "hunter2"}),
            "client_certificate is missing",
        ),
        ("network", json!("hunter2"), "a value of another type"),
        (
            "network",
            json!({"client_key": {"hunter2": 1}}),
            "a value of another type",
        ),
        ("networks", json!(["10.20.0.0/33"]), "10.20.0.0/33"),
    ] {
        let mut document = document();
        document["qad"][field] = value;
        let problems = ConnectionDocument::parse(&document.to_string()).unwrap_err();
        let told = format!("{problems:?}");
        assert!(
            told.contains(said) && !told.contains("hunter2"),
            "{field}: {told}"
        );
    }
}

#[test]
fn the_defaults_that_the_example_documents_are_the_defaults() {
    // Uncommenting every documented default changes nothing.
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if is_default(setting) => setting,
            _ => line,
        })
        .collect();
    let explicit = from_toml(&uncommented.join("\n"));
    let standard = from_toml(EXAMPLE);
    assert_eq!(explicit.policy, standard.policy);
    assert_eq!(explicit.suppliers, standard.suppliers);
    assert_eq!(explicit.profile, standard.profile);
    assert_eq!(explicit.coupa.api_version, standard.coupa.api_version);
    assert_eq!(explicit.coupa.order_number, standard.coupa.order_number);
    assert_eq!(explicit.coupa.orders, standard.coupa.orders);
    assert_eq!(standard.coupa.orders, Default::default());
    assert_eq!(
        explicit.coupa.integration_history,
        standard.coupa.integration_history
    );
    assert_eq!(
        explicit.coupa.requests_per_second,
        standard.coupa.requests_per_second
    );
    assert_eq!(explicit.coupa.token_path, standard.coupa.token_path);
    assert_eq!(explicit.qad.requests_per_second, standard.qad.requests_per_second);
    assert_eq!(explicit.adopt_equal_documents, standard.adopt_equal_documents);
    assert_eq!(explicit.hold_recheck_seconds, standard.hold_recheck_seconds);
    assert!(standard.lookups.is_none(), "only who asks for lookups has them");
    assert_eq!(explicit.lookups, None);
}

#[test]
fn the_section_of_lookups_that_the_example_documents_is_what_the_section_alone_means() {
    let section: Vec<&str> = EXAMPLE
        .lines()
        .skip_while(|line| *line != "#   [lookups]")
        .take_while(|line| !line.starts_with("# Any other browse"))
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    let documented = from_toml(&format!("{EXAMPLE}\n{}", section.join("\n")));
    let mut alone = document();
    alone["lookups"] = json!({});
    let built_in = ConnectionDocument::parse(&alone.to_string()).unwrap().lookups;
    assert!(built_in.is_some());
    assert_eq!(documented.lookups, built_in);
}

/// A commented setting that shows its default (and not a mere example).
fn is_default(setting: &str) -> bool {
    const EXAMPLES: [&str; 10] = [
        "currency",
        "first_open_day",
        "NET30",
        "isTaxableSupplier",
        "version",
        "project",
        "accept-language",
        "isTaxable",
        "client_secret",
        "type",
    ];
    let Some((name, _)) = setting.split_once(" = ") else {
        return false;
    };
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name && !EXAMPLES.contains(&name) && setting.parse::<toml::Table>().is_ok()
}

fn changed(pointer: &str, value: serde_json::Value) -> String {
    let mut changed = document();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(parent).unwrap()[name] = value;
    changed.to_string()
}

#[test]
fn every_wrong_setting_is_named() {
    for (pointer, value, field) in [
        ("/coupa/base_url", json!("http://example.com"), "coupa.base_url"),
        (
            "/coupa/base_url",
            json!("https://ann:canary@example.com"),
            "coupa.base_url",
        ),
        ("/coupa/client_secret", json!(" "), "coupa.client_secret"),
        (
            "/coupa/client_secret",
            json!(424_242_424_242_i64),
            "coupa.client_secret",
        ),
        (
            "/coupa/requests_per_second",
            json!(26),
            "coupa.requests_per_second",
        ),
        ("/coupa/token_path", json!("oauth"), "coupa.token_path"),
        ("/coupa/api_version", json!("39\r\nx: y"), "coupa.api_version"),
        ("/coupa/scopes", json!(["a b"]), "coupa.scopes"),
        ("/coupa/typo", json!(1), "coupa.typo"),
        (
            "/coupa/order_number",
            json!({"field": ""}),
            "coupa.order_number.field",
        ),
        ("/qad/domain", json!(""), "qad.domain"),
        ("/qad/auth", json!({"type": "kerberos"}), "qad.auth"),
        (
            "/qad/auth",
            json!({"type": "basic", "username": "a:b", "password": "canary"}),
            "qad.auth.username",
        ),
        (
            "/qad/auth",
            json!({"type": "basic", "username": "ann", "password": 424_242_424_242_i64}),
            "qad.auth",
        ),
        (
            "/qad/auth",
            json!({"type": "basic", "username": "ann", "password": ""}),
            "qad.auth.password",
        ),
        (
            "/qad/auth",
            json!({"type": "login", "path": "/x", "username": "a", "password": "b", "token_pointer": "t"}),
            "qad.auth.token_pointer",
        ),
        (
            "/qad/extra_headers",
            json!({"Authorization": "canary"}),
            "qad.extra_headers.Authorization",
        ),
        (
            "/qad/extra_headers",
            json!({"bad name": "x"}),
            "qad.extra_headers.bad name",
        ),
        (
            "/qad/profile",
            json!({"order_lines": {"fields": {"prize": "x"}}}),
            "qad.profile.order_lines.fields.prize",
        ),
        (
            "/invoices",
            json!({"invoice_daybook": ""}),
            "invoices.invoice_daybook",
        ),
        (
            "/invoices",
            json!({"tolerance": {"total_amount": "-1"}}),
            "invoices.tolerance.total_amount",
        ),
        (
            "/invoices",
            json!({"tolerance": {"total_amount": "x"}}),
            "invoices.tolerance.total_amount",
        ),
        (
            "/invoices",
            json!({"units": {"EACH": {"to": "EA", "factor": 0}}}),
            "invoices.units.EACH.factor",
        ),
        (
            "/invoices",
            json!({"charge_accounts": {"tips": {"gl_account": "1"}}}),
            "invoices.charge_accounts",
        ),
        ("/hold_recheck_seconds", json!(0), "hold_recheck_seconds"),
        ("/invoices", json!({"hold_days_max": 0}), "invoices.hold_days_max"),
        (
            "/invoices",
            json!({"minor_units": {"HUF": 7}}),
            "invoices.minor_units.HUF",
        ),
        (
            "/invoices",
            json!({"minor_units": {"HUF": -1}}),
            "invoices.minor_units",
        ),
        (
            "/invoices",
            json!({"hold_days_max": 3651}),
            "invoices.hold_days_max",
        ),
        (
            "/credits",
            json!({"return_wait_days": "-0.5"}),
            "credits.return_wait_days",
        ),
        ("/webhook", json!({}), "webhook"),
    ] {
        let problems = ConnectionDocument::parse(&changed(pointer, value)).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.field.starts_with(field)),
            "{field}: {problems:?}"
        );
        let text = format!("{problems:?}");
        assert!(!text.contains("canary") && !text.contains("424242"), "{text}");
    }
}

#[test]
fn waiting_times_take_parts_of_a_day() {
    let mut document = document();
    document["invoices"]["hold_days_max"] = json!(0.5);
    document["credits"] = json!({"return_wait_days": "1.25"});
    let patience = ConnectionDocument::parse(&document.to_string())
        .unwrap()
        .match_policy()
        .patience;
    assert_eq!(
        (patience.hold_millis, patience.return_millis),
        (43_200_000, 108_000_000)
    );
}

#[test]
fn all_sections_are_checked_at_once() {
    let mut wrong = document();
    wrong["coupa"]["client_id"] = json!("");
    wrong["qad"]["requests_per_second"] = json!(0);
    wrong["invoices"] = json!({"tolerance": {"total_amount": -1}});
    wrong["hold_recheck_seconds"] = json!(0);
    assert_eq!(
        ConnectionDocument::parse(&wrong.to_string()).unwrap_err().len(),
        4
    );
    for text in ["", "[]", "{", "{}"] {
        assert!(ConnectionDocument::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_changed_limit_changes_the_name_of_the_limits() {
    let version = |total: serde_json::Value| {
        let text = changed("/invoices", json!({"tolerance": {"total_amount": total}}));
        ConnectionDocument::parse(&text)
            .unwrap()
            .match_policy()
            .tolerance
            .version
    };
    assert_eq!(version(json!("0.05")), "default-3");
    assert_eq!(version(json!(0.05)), "default-3");
    assert!(version(json!("0.1")).starts_with("custom-"));
    assert_eq!(version(json!("0.1")), version(json!("0.10")));
    assert_ne!(version(json!("0.1")), version(json!("0.2")));
    // Every limit, for all and for some, by the figure and not by how it is written.
    for name in [
        "price.over",
        "price.under",
        "received.over",
        "ordered.over",
        "total",
        "echo",
    ] {
        for at in ["", "by_currency.JPY.", "by_supplier.10S1001."] {
            for part in ["percent", "amount", "free"] {
                let version = |figure: &str| {
                    let limit = json!({"percent": 7, "amount": 7, "free": 7});
                    let mut tolerance = with_member(limit, part, figure);
                    for key in format!("{at}{name}").split('.').rev() {
                        tolerance = json!({key: tolerance});
                    }
                    let text = changed("/invoices", json!({"tolerance": tolerance}));
                    let document = ConnectionDocument::parse(&text).unwrap();
                    document.match_policy().tolerance.version
                };
                assert_eq!(version("0.1"), version("0.10"), "{at}{name}.{part}");
                assert_ne!(version("0.1"), version("0.2"), "{at}{name}.{part}");
            }
        }
    }
}

fn with_member(mut table: serde_json::Value, name: &str, figure: &str) -> serde_json::Value {
    table[name] = json!(figure);
    table
}

#[test]
fn the_smallest_unit_of_a_currency_is_a_setting_of_the_connection_and_of_an_entity() {
    let mut document = document();
    document["invoices"] = json!({"minor_units": {"HUF": 0, "USD": 2}});
    let qad = document["qad"].as_object_mut().unwrap();
    let (code, domain) = (qad.remove("entity").unwrap(), qad.remove("domain").unwrap());
    document["entities"] = json!([{"code": code, "domain": domain, "minor_units": {"USD": 4}}]);
    let read = ConnectionDocument::parse(&document.to_string()).unwrap();
    let units: Vec<(String, u32)> = read
        .match_policy()
        .minor_units
        .iter()
        .map(|(currency, digits)| (currency.to_string(), *digits))
        .collect();
    assert_eq!(units, [("HUF".to_owned(), 0), ("USD".to_owned(), 4)]);
}

#[test]
fn a_document_cannot_print_its_secrets() {
    let mut value = document();
    value["coupa"]["client_secret"] = json!("canary-1");
    value["qad"]["auth"]["password"] = json!("canary-2");
    let document = ConnectionDocument::parse(&value.to_string()).unwrap();
    assert!(!format!("{document:?}").contains("canary"));
}

#[test]
fn what_is_posted_locked_needs_the_status_that_locks_it_and_a_payee_is_one_of_two() {
    let with = |invoices: serde_json::Value| {
        let mut whole = document();
        whole["invoices"] = invoices;
        ConnectionDocument::parse(&whole.to_string())
    };
    let problems = with(json!({ "when_paid": "post-locked" })).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].field, "invoices.locked_status_code");
    assert!(
        problems[0].expected.contains("invoices.when_paid"),
        "{}",
        problems[0]
    );
    let settings = with(json!({
        "when_paid": "post-locked", "locked_status_code": "AP-LOCKED",
        "remit_to": { "codes": { "B2": { "bank_number": "2" } }, "unknown": "ignore" }
    }))
    .unwrap()
    .match_policy();
    assert_eq!(settings.not_payable.locked_status, "AP-LOCKED");
    assert_eq!(settings.remit_to.codes.len(), 1);
    for (payee, actual) in [
        (json!({}), "neither"),
        (
            json!({ "bank_number": "2", "paying_supplier_code": "10S1" }),
            "both bank_number and paying_supplier_code",
        ),
    ] {
        let problems = with(json!({ "remit_to": { "codes": { "B2": payee } } })).unwrap_err();
        assert_eq!(
            (problems[0].field.as_str(), problems[0].actual.as_str()),
            ("invoices.remit_to.codes.B2", actual)
        );
    }
    let own = with(json!({})).unwrap().match_policy().not_payable.own_channels;
    assert_eq!(own, ["ERP"]);
}

#[test]
fn a_tolerance_is_percent_amount_and_free_by_currency_and_supplier() {
    let with = |tolerance: serde_json::Value| {
        ConnectionDocument::parse(&changed("/invoices", json!({"tolerance": tolerance})))
            .map(|document| document.match_policy().tolerance)
    };
    let read = with(json!({
        "currency": "EUR",
        "price": {"over": {"percent": 3, "amount": "250"}},
        "received": {"over": {"percent": 0.5}},
        "total": {"free": 0.02, "percent": 1, "amount": 5},
        "by_currency": {"JPY": {"price": {"over": {"free": 500}}}},
        "by_supplier": {
            "10S1001": {"ordered": {"over": {"percent": 10}}},
            "10S1002": {"currency": "JPY", "total": 3000},
        },
    }))
    .unwrap();
    let limits = read.of("EUR".parse().unwrap(), Some("10s1001"));
    let over = limits.price.over;
    assert_eq!(
        (over.percent, over.amount, over.free),
        (Some(Decimal::from(3)), Some(Decimal::from(250)), Decimal::ZERO)
    );
    assert_eq!(limits.price.under, domain::policy::Limits::default().price.under);
    assert_eq!(limits.received_over.percent, Some(Decimal::new(5, 1)));
    assert_eq!(limits.ordered_over.unwrap().percent, Some(Decimal::TEN));
    assert_eq!(
        (limits.total.free, limits.total.percent, limits.total.amount),
        (Decimal::new(2, 2), Some(Decimal::ONE), Some(Decimal::from(5)))
    );
    assert_eq!(
        read.of("JPY".parse().unwrap(), None).price.over.free,
        Decimal::from(500)
    );
    let of_supplier = |currency: &str| read.of(currency.parse().unwrap(), Some("10S1002")).total.free;
    assert_eq!(
        (of_supplier("JPY"), of_supplier("EUR")),
        (Decimal::from(3000), Decimal::ONE)
    );
    // The names of before mean what they meant.
    let old = with(json!({"unit_price_percent_over": 5, "quantity_percent_over": 1}))
        .unwrap()
        .limits;
    assert_eq!(old.price.over.percent, Some(Decimal::from(5)));
    assert_eq!(old.ordered_over.unwrap().percent, Some(Decimal::ONE));
    for (wrong, field) in [
        (
            json!({"price": {"over": {"percent": -1}}}),
            "invoices.tolerance.price.over.percent",
        ),
        (
            json!({"received": {"under": {"percent": 1}}}),
            "invoices.tolerance.received",
        ),
        (
            json!({"total": {"percent": -1}}),
            "invoices.tolerance.total.percent",
        ),
        (json!({"echo": {"amount": -1}}), "invoices.tolerance.echo.amount"),
        (
            json!({"unit_price_percent_over": 5, "price": {"over": 1}}),
            "invoices.tolerance.unit_price_percent_over",
        ),
        (
            json!({"by_currency": {"JPY": {"currency": "USD", "total": 5}}}),
            "invoices.tolerance.by_currency.JPY.currency",
        ),
        (
            json!({"by_supplier": {"S1": {"ordered": {"over": -1}}}}),
            "invoices.tolerance.by_supplier.S1.ordered.over.free",
        ),
    ] {
        let problems = with(wrong).unwrap_err();
        assert!(problems[0].field.starts_with(field), "{problems:?}");
    }
}

#[test]
fn what_contradicts_is_refused_with_both_settings() {
    let locked = |status: &str, other: &str| {
        let mut settings = super::document();
        settings["invoices"]["locked_status_code"] = json!(status);
        settings["invoices"][other] = json!("AP-X");
        ConnectionDocument::parse(&settings.to_string()).map(|_| ())
    };
    for other in ["invoice_status", "gl_status_code"] {
        assert_eq!(locked("AP-L", other), Ok(()));
        let problems = locked("ap-x ", other).unwrap_err();
        assert_eq!(problems[0].field, "invoices.locked_status_code");
        assert!(
            problems[0].expected.contains(&format!("invoices.{other}")),
            "{problems:?}"
        );
    }
    let told = |change: &dyn Fn(&mut Value)| -> Vec<(String, String)> {
        let mut settings = super::document();
        settings["coupa"]["scopes"] = json!([]);
        settings["coupa"]["integration_history"] = json!({ "enabled": false });
        change(&mut settings);
        let document = ConnectionDocument::parse(&settings.to_string()).unwrap();
        let problems = document.contradictions().into_iter();
        problems
            .map(|problem| (problem.field, problem.expected))
            .collect()
    };
    assert_eq!(told(&|_| ()), []);
    type Change<'a> = &'a dyn Fn(&mut Value);
    let pairs: [(Change<'_>, &str, &str); 6] = [
        (
            &|settings| {
                settings["coupa"]["scopes"] = json!(["core.invoice.read", "core.integration.read"]);
                settings["coupa"]["integration_history"] = json!({ "enabled": true });
            },
            "coupa.scopes",
            "core.integration.write among them, because coupa.integration_history.enabled is true",
        ),
        (
            &|settings| {
                settings["coupa"]["scopes"] = json!(["core.invoice.read"]);
                settings["coding"] = json!({ "gl_account": "segment-2" });
                settings["lines"] = json!({ "without_receipt": "gl" });
            },
            "coupa.scopes",
            "core.purchase_order.read among them, because lines.without_receipt is \"gl\"",
        ),
        (
            &|settings| settings["coupa"]["orders"] = json!({ "read": false, "closed": "park" }),
            "coupa.orders.read",
            "true, because coupa.orders.closed says what orders in Coupa do",
        ),
        (
            &|settings| settings["coupa"]["orders"] = json!({ "read": false, "statuses": { "odd": "open" } }),
            "coupa.orders.read",
            "true, because coupa.orders.statuses says what orders in Coupa do",
        ),
        (
            &|settings| settings["suppliers"] = json!({ "create_in_qad": true }),
            "suppliers.enabled",
            "true, because suppliers.create_in_qad is true",
        ),
        (
            &|settings| {
                settings["qad"].as_object_mut().unwrap().remove("entity");
                let when = json!([{ "field": "a", "is": ["x"] }]);
                settings["entities"] = json!([{ "code": "A", "when": when }, { "code": "B", "when": when }]);
            },
            "entities[1].when",
            "other conditions than entities[0].when",
        ),
    ];
    for (change, field, expected) in pairs {
        assert_eq!(told(change), [(field.to_owned(), expected.to_owned())]);
    }
    // What is listed in full, or not listed at all, is in nobody's way.
    let full = told(&|settings| {
        settings["coupa"]["scopes"] = json!(["core.integration.read", "core.integration.write"]);
        settings["coupa"]["integration_history"] = json!({ "enabled": true });
    });
    assert_eq!(full, []);
}
