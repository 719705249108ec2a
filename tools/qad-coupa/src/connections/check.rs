//! `connection check`: every setting of a file that is not as it comes, with what it is about, in the schema's words, and
//! what it does to an invoice; and what the settings say against one another.
//!
//! The schema's words stand once, as the descriptions of docs/connection.schema.json.

use super::does::does;
use super::{REFERENCES_MAX, SECRET_SECTIONS, below, is_secret, parts, root_schema};
use crate::output::Output;
use crate::{Failure, connection_file};
use domain::problem::Problem;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

/// A setting that differs from its default, or has none and is there.
#[derive(Debug, PartialEq)]
struct Told {
    /// Its place in the file, with dots.
    setting: String,
    value: Value,
    /// What it would be if it were left out; `None` for what is then absent.
    default: Option<Value>,
    /// What it is about.
    about: String,
}

/// A value as people write it: a decimal is the same as a number and as a text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The first answer of the parts of the schema that speak of a place.
fn first<'a>(here: &[&'a Value], word: &str) -> Option<&'a Value> {
    here.iter().find_map(|part| part.get(word))
}

/// Whether the file must name it anyway: such a setting has no default to differ from.
fn is_required(here: &[&Value], name: &str) -> bool {
    here.iter()
        .filter_map(|part| part.get("required").and_then(Value::as_array))
        .flatten()
        .any(|required| required == name)
}

/// Whether the file has made up the name: an element of a map, all of which is a choice.
fn is_made_up(here: &[&Value], name: &str) -> bool {
    here.iter()
        .all(|part| part.get("properties").and_then(|all| all.get(name)).is_none())
}

/// Where the walk stands.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a str,
    about: &'a str,
    /// Inside an element of a map.
    in_map: bool,
}

/// Everything below `value` that is not as it comes; never what is, or may be, a secret.
fn differing(value: &Value, here: &[&Value], root: &Value, at: At<'_>, found: &mut Vec<Told>) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        if is_secret(name) || SECRET_SECTIONS.contains(&name.as_str()) {
            continue;
        }
        let next = below(here, name, root);
        let setting = if at.path.is_empty() {
            name.clone()
        } else {
            format!("{}.{name}", at.path)
        };
        let about = first(&next, "description")
            .and_then(Value::as_str)
            .unwrap_or(at.about);
        let in_map = at.in_map || is_made_up(here, name);
        let inside = At {
            path: &setting,
            about,
            in_map,
        };
        if value.is_object() {
            differing(value, &next, root, inside, found);
            continue;
        }
        // A list of tables: each element is a place of its own.
        if let Some(items) = tables(value) {
            for (index, item) in items.iter().enumerate() {
                let mut element = Vec::new();
                for schema in next.iter().filter_map(|part| part.get("items")) {
                    parts(schema, root, REFERENCES_MAX, &mut element);
                }
                // An entity may have whatever the section invoices has, and coding of its own.
                if setting == "entities" {
                    element.push(root);
                    element.extend(root.pointer("/properties/invoices"));
                }
                let path = format!("{setting}[{index}]");
                let at = At {
                    path: &path,
                    in_map: true,
                    ..inside
                };
                differing(item, &element, root, at, found);
            }
            continue;
        }
        let default = first(&next, "default");
        let is_as_it_comes = default.is_some_and(|default| plain(default) == plain(value));
        if next.is_empty() || is_as_it_comes || (is_required(here, name) && !in_map) {
            continue;
        }
        found.push(Told {
            setting,
            value: value.clone(),
            default: default.cloned(),
            about: about.to_owned(),
        });
    }
}

/// The elements of a list of tables; `None` for any other value.
fn tables(value: &Value) -> Option<&Vec<Value>> {
    let items = value.as_array()?;
    (!items.is_empty() && items.iter().all(Value::is_object)).then_some(items)
}

/// What differs in the two documents of a connection.
fn of(connection: &Value, webhook: &Value) -> Result<Vec<Told>, Failure> {
    let root = root_schema()?;
    let mut found = Vec::new();
    let mut at = At {
        path: "",
        about: "",
        in_map: false,
    };
    differing(connection, &[&root], &root, at, &mut found);
    if let Some(schema) = root.pointer("/properties/webhook") {
        at.path = "webhook";
        differing(webhook, &[schema], &root, at, &mut found);
    }
    Ok(found)
}

/// `connection check`.
pub(super) fn run(file: &connection_file::ConnectionFile, out: &Output) -> Result<(), Failure> {
    let read = |text: &str| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| Failure::from(Problem::new("CONNECTION_INVALID", "").actual(error.to_string())))
    };
    let found = of(
        &read(file.connection.connection_secret.expose_secret())?,
        &read(file.connection.webhook_secret.expose_secret())?,
    )?;
    let row = |told: &Told| {
        json!({ "setting": told.setting, "value": told.value, "default": told.default, "about": told.about,
                "does": does(&told.setting, &told.value) })
    };
    out.value(
        || {
            let rows: Vec<Value> = found.iter().map(row).collect();
            json!({ "connection": file.connection.id, "settings": rows })
        },
        |out| {
            for told in &found {
                let instead = told.default.as_ref().map_or_else(
                    || "left out: nothing of the kind".to_owned(),
                    |default| format!("left out: {default}"),
                );
                out.line(&format!("{} = {}  ({instead})", told.setting, told.value));
                let does = does(&told.setting, &told.value);
                out.line(&format!("    {}", does.as_ref().unwrap_or(&told.about)));
            }
            out.line(&format!(
                "{} settings are not as they come; all others work as docs/configure.md says.",
                found.len()
            ));
        },
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(connection: Value) -> Vec<(String, String)> {
        let found = of(
            &connection,
            &json!({ "scheme": "coupa-hmac", "secrets": ["hush"] }),
        )
        .unwrap();
        found.into_iter().map(|told| (told.setting, told.about)).collect()
    }

    #[test]
    fn what_is_not_as_it_comes_is_told_in_the_schemas_words() {
        let found = told(json!({
            "token_key": "hush",
            "hold_recheck_seconds": 600,
            "coupa": { "base_url": "https://a.example", "client_secret": "hush", "api_version": "39",
                       "requests_per_second": 5, "orders": { "closed": "park", "soft_closed": "let-qad-decide", "cancelled": "park" } },
            "qad": { "extra_headers": { "x-key": "hush" } },
            "invoices": { "units": { "BX": { "to": "EA" } } }
        }));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "coupa.orders.closed",
                "coupa.requests_per_second",
                "hold_recheck_seconds",
                "invoices.units.BX.to"
            ]
        );
        assert_eq!(found[0].1, "What a closed order does.");
        assert_eq!(found[3].1, "QAD unit.");
    }

    /// Settings, each with all below it, that do nothing to an invoice: how the two systems are reached and spoken to, who is
    /// told, and what is about suppliers and lists alone. Of these their description is told. Whatever is not in here says what
    /// it does.
    const OF_NO_INVOICE: [&str; 28] = [
        "id",
        "coupa.base_url",
        "coupa.client_id",
        "coupa.scopes",
        "coupa.token_path",
        "coupa.api_version",
        "coupa.requests_per_second",
        "coupa.networks",
        "coupa.network",
        "coupa.integration_history.integration_code",
        "coupa.integration_history.contact_alert_type",
        "coupa.integration_history.technical_contact_alert_type",
        "coupa.integration_history.waiting_status",
        "qad.base_url",
        "qad.domain",
        "qad.entity",
        "qad.workspace_header",
        "qad.requests_per_second",
        "qad.networks",
        "qad.network",
        "qad.auth",
        "qad.extra_headers",
        "qad.profile",
        "suppliers",
        "lookups",
        "webhook",
        "schedules",
        "timing",
    ];

    fn is_of_no_invoice(setting: &str) -> bool {
        OF_NO_INVOICE.iter().any(|place| {
            setting
                .strip_prefix(place)
                .is_some_and(|below| below.is_empty() || below.starts_with('.'))
        })
    }

    /// Every setting below a place of the schema, with each of its words, or one value of its kind.
    fn all_below(schema: &Value, root: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        let mut here = Vec::new();
        parts(schema, root, REFERENCES_MAX, &mut here);
        let mut members: Vec<(String, &Value)> = Vec::new();
        for part in &here {
            let named = part
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten();
            members.extend(named.map(|(name, schema)| (name.clone(), schema)));
            let any = part
                .get("additionalProperties")
                .filter(|schema| schema.is_object());
            members.extend(any.map(|schema| ("X".to_owned(), schema)));
        }
        if members.is_empty() {
            let words = first(&here, "enum").and_then(Value::as_array).cloned();
            let words = words.unwrap_or_else(|| vec![json!("7")]);
            found.extend(words.into_iter().map(|word| (path.to_owned(), word)));
            return;
        }
        for (name, schema) in members {
            all_below(schema, root, &format!("{path}.{name}"), found);
        }
    }

    #[test]
    fn every_setting_of_invoices_says_what_it_does_to_one_whatever_its_value() {
        let root = root_schema().unwrap();
        let mut found = Vec::new();
        let sections = root["properties"].as_object().unwrap();
        for (section, schema) in sections.iter().filter(|(section, _)| *section != "entities") {
            all_below(schema, &root, section, &mut found);
        }
        for place in OF_NO_INVOICE {
            let known = found
                .iter()
                .any(|(setting, _)| setting == place || setting.starts_with(&format!("{place}.")));
            assert!(known, "{place} is no setting");
        }
        found.retain(|(setting, _)| {
            let name = setting.rsplit('.').next().unwrap_or_default();
            !is_of_no_invoice(setting) && !is_secret(name)
        });
        assert!(found.len() > 150, "{}", found.len());
        for (setting, value) in &found {
            let told = does(setting, value);
            assert!(told.is_some(), "{setting} = {value} says nothing");
            // Another word does another thing.
            let others = found
                .iter()
                .filter(|(other, word)| other == setting && word != value);
            for (_, word) in others {
                assert_ne!(does(setting, word), told, "{setting}: {value} and {word}");
            }
        }
        let entities = &root["properties"]["entities"]["items"];
        let mut found = Vec::new();
        all_below(entities, &root, "entities[0]", &mut found);
        for (setting, value) in found
            .iter()
            .filter(|(setting, _)| !setting.contains(".when") && !setting.ends_with(".coding"))
        {
            let told = does(setting, value).unwrap_or_else(|| panic!("{setting} says nothing"));
            assert!(told.starts_with("Entity 0"), "{setting}: {told}");
        }
    }

    #[test]
    fn what_a_setting_does_is_told_with_its_value() {
        for (setting, value, told) in [
            (
                "lines.without_order",
                json!("gl"),
                "A line without an order posts to the account that it is coded to; not coded, it waits for a person.",
            ),
            (
                "invoices.when_other_channel",
                json!("post-locked"),
                "An invoice that is paid through a channel not in payments.own_channels posts with \
                 invoices.locked_status_code, so that no payment run takes it; its payments are not waited for.",
            ),
            (
                "invoices.tolerance.by_currency.EUR.price.over.amount",
                json!("100.00"),
                "A price above what was agreed on invoices in EUR is in no invoice's way up to 100.00 on the line, as far as \
                 the other limit allows it; above, it waits for a person.",
            ),
            (
                "entities[1].invoice_daybook",
                json!("SIDE"),
                "Entity 1 (counted from 0): An invoice is entered in daybook SIDE.",
            ),
            (
                "coupa.order_number.map.QAD-1",
                json!("PO1"),
                "Where Coupa says QAD-1, the QAD order is PO1, whatever the other rules say.",
            ),
        ] {
            assert_eq!(does(setting, &value).as_deref(), Some(told));
        }
        assert_eq!(does("coupa.token_path", &json!("/x")), None);
    }

    #[test]
    fn each_setting_of_an_entity_is_told_by_its_place() {
        let found = told(json!({ "entities": [
            { "code": "A", "when": [{ "field": "x", "is": ["y"] }] },
            { "code": "B", "invoice_daybook": "SIDE", "coding": { "gl_account": { "field": "segment-2" } } },
        ] }));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "entities[0].code",
                "entities[0].when[0].field",
                "entities[0].when[0].is",
                "entities[1].code",
                "entities[1].coding.gl_account.field",
                "entities[1].invoice_daybook",
            ]
        );
    }

    #[test]
    fn a_decimal_is_as_it_comes_whether_it_is_a_number_or_a_text() {
        for value in [json!("0.05"), json!(0.05)] {
            let found = told(json!({ "payments": { "over_total": value } }));
            assert_eq!(found, [], "{value}");
        }
        assert_eq!(told(json!({ "payments": { "over_total": "0.10" } })).len(), 1);
    }
}
