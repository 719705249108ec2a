//! `connection check`: every setting of a file that is not as it comes, with what it is about, in the schema's words.
//!
//! The words stand once, as the descriptions of docs/connection.schema.json.

use super::{SECRET_SECTIONS, below, is_secret, root_schema};
use crate::{Failure, connection_file, terminal};
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
        if value.is_object() {
            let at = At {
                path: &setting,
                about,
                in_map,
            };
            differing(value, &next, root, at, found);
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
pub(super) fn run(file: &connection_file::ConnectionFile, json: bool) -> Result<(), Failure> {
    let read = |text: &str| {
        serde_json::from_str::<Value>(text)
            .map_err(|error| Failure::from(Problem::new("CONNECTION_INVALID", "").actual(error.to_string())))
    };
    let found = of(
        &read(file.connection.connection_secret.expose_secret())?,
        &read(file.connection.webhook_secret.expose_secret())?,
    )?;
    if json {
        let rows: Vec<Value> = found
            .iter()
            .map(|told| {
                json!({ "setting": told.setting, "value": told.value, "default": told.default, "about": told.about })
            })
            .collect();
        terminal::say(&json!({ "connection": file.connection.id, "settings": rows }).to_string());
        return Ok(());
    }
    for told in &found {
        let instead = told.default.as_ref().map_or_else(
            || "left out: nothing of the kind".to_owned(),
            |default| format!("left out: {default}"),
        );
        terminal::say(&format!("{} = {}  ({instead})", told.setting, told.value));
        terminal::say(&format!("    {}", told.about));
    }
    terminal::say(&format!(
        "{} settings are not as they come; all others work as docs/configure.md says.",
        found.len()
    ));
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
                       "requests_per_second": 5, "orders": { "closed": "let-qad-decide", "cancelled": "park" } },
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

    #[test]
    fn a_decimal_is_as_it_comes_whether_it_is_a_number_or_a_text() {
        for value in [json!("0.05"), json!(0.05)] {
            let found = told(json!({ "payments": { "over_total": value } }));
            assert_eq!(found, [], "{value}");
        }
        assert_eq!(told(json!({ "payments": { "over_total": "0.10" } })).len(), 1);
    }
}
