//! Connections as documents: a commented file, checked, taken apart into its two secrets, stored and shown without them.
//!
//! Secrets never stand on the command line: they are in the file, or apart from it in a second one (`--secrets FILE`, or
//! `-` for standard input) that is laid over the first.

mod change;
mod check;
mod does;

use crate::act::ReasonOption;
use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments};
use crate::{Failure, connection_file, terminal};
use clap::{Args, Subcommand};
use connectors::connection::ConnectionDocument;
use domain::problem::Problem;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Every setting there is; what is not in it is never shown.
const SCHEMA: &str = include_str!("../../../docs/connection.schema.json");
/// The commented example that `init` writes.
const EXAMPLE: &str = include_str!("../../../docs/examples/connection.toml");
/// Largest file of secrets, in bytes.
const SECRETS_BYTES_MAX: u64 = 65_536;
/// A setting whose name holds one of these is never shown.
const SECRET_WORDS: [&str; 9] = [
    "secret",
    "password",
    "token_key",
    "private",
    "credential",
    "bearer",
    "authorization",
    "api_key",
    "client_key",
];
/// Settings that hold values of a tenant's choosing, which may be secrets.
const SECRET_SECTIONS: [&str; 3] = ["extra_headers", "extra_query", "clients"];
/// What stands for a value under a name that is no setting: a misspelt secret is one too.
const NO_SETTING: &str = "(hidden: no known setting)";
/// How deep the schema refers to other parts of itself, at most.
const REFERENCES_MAX: u8 = 8;
/// Addresses and paths that speak of tokens without holding one.
const PLAIN_WORDS: [&str; 2] = ["token_path", "token_field"];

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionVerb {
    /// Writes a commented connection file to fill in.
    Init {
        /// The file; it must not exist.
        file: PathBuf,
    },
    /// Checks a connection file, all of it at once.
    Validate(FileOptions),
    /// Says of every setting that is not as it comes what it does to an invoice, in words; checks the file as `validate`
    /// does, and refuses settings that contradict each other.
    Check(FileOptions),
    /// The JSON schema of a connection file, for editors and other programs.
    Schema,
    /// Stores a connection file in the connection's two secrets, which its stack has made.
    #[command(
        after_help = "Example: qad-coupa --stack qad-coupa connection put acme.toml --secrets - --reason \"new client\" < secrets.toml"
    )]
    Put {
        #[command(flatten)]
        file: FileOptions,
        #[command(flatten)]
        why: ReasonOption,
    },
    /// Uses the documents again that the last `put` or `rollback` has replaced.
    Rollback(ReasonOption),
    /// Who has changed which settings with `put` and `rollback`, when and why; never a value.
    History(ListOptions),
    /// What is stored, without any secret.
    Show,
    /// All connections.
    List(ListOptions),
}

#[derive(Debug, Args)]
pub(crate) struct FileOptions {
    /// The connection file (TOML).
    file: PathBuf,
    /// A second file laid over the first: the secrets. `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
}

/// `connection …`.
pub(crate) async fn run(place: &PlaceArguments, verb: ConnectionVerb, out: &Output) -> Result<(), Failure> {
    match verb {
        ConnectionVerb::Init { file } => init(&file),
        ConnectionVerb::Validate(options) => {
            let file = read(&options)?;
            if out.is_json() {
                terminal::say(&json!({ "connection": file.connection.id, "valid": true }).to_string());
            } else {
                terminal::say(&format!(
                    "{}: connection {} is complete",
                    options.file.display(),
                    file.connection.id
                ));
            }
            Ok(())
        }
        ConnectionVerb::Check(options) => check::run(&read(&options)?, out),
        ConnectionVerb::Schema => {
            terminal::say(SCHEMA.trim_end());
            Ok(())
        }
        ConnectionVerb::Put { file, why } => change::put(&Place::open(place).await?, &file, &why, out).await,
        ConnectionVerb::Rollback(why) => change::rollback(&Place::open(place).await?, &why, out).await,
        ConnectionVerb::History(options) => change::history(&Place::open(place).await?, &options, out).await,
        ConnectionVerb::Show => show(&Place::open(place).await?, out).await,
        ConnectionVerb::List(options) => list(&Place::open(place).await?, &options, out).await,
    }
}

fn file_problem(path: &Path, expected: &str, error: impl ToString) -> Failure {
    Problem::new("CONNECTION_FILE", "Correct the path or the file.")
        .field(path.display().to_string())
        .expected(expected)
        .actual(error.to_string())
        .into()
}

fn init(path: &Path) -> Result<(), Failure> {
    use std::io::Write;
    let failed = |error: std::io::Error| file_problem(path, "a file that does not exist yet", error);
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(EXAMPLE.as_bytes()).map_err(failed)?;
    terminal::say(&format!(
        "{} written. Fill it in, then `qad-coupa connection validate {}`.",
        path.display(),
        path.display()
    ));
    Ok(())
}

/// A file with nothing wrong in it, and nothing that contradicts something else.
fn read(options: &FileOptions) -> Result<connection_file::ConnectionFile, Failure> {
    let file = parsed(options)?;
    let document = ConnectionDocument::parse(file.connection.connection_secret.expose_secret());
    let contradictions = document.map_err(Failure::Failed)?.contradictions();
    if contradictions.is_empty() {
        Ok(file)
    } else {
        Err(Failure::Failed(contradictions))
    }
}

fn parsed(options: &FileOptions) -> Result<connection_file::ConnectionFile, Failure> {
    let Some(secrets) = &options.secrets else {
        return connection_file::read(&options.file).map_err(Failure::Failed);
    };
    let text = std::fs::read_to_string(&options.file)
        .map_err(|error| file_problem(&options.file, "a file that can be read", error))?;
    let mut over = String::new();
    let is_input = secrets.as_os_str() == "-";
    let source: Box<dyn Read> = if is_input {
        Box::new(std::io::stdin())
    } else {
        Box::new(
            std::fs::File::open(secrets)
                .map_err(|error| file_problem(secrets, "a file that can be read", error))?,
        )
    };
    source
        .take(SECRETS_BYTES_MAX)
        .read_to_string(&mut over)
        .map_err(|error| file_problem(secrets, "text", error))?;
    connection_file::parse_with(&text, &over).map_err(Failure::Failed)
}

/// Whether the value under this name may be shown.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !PLAIN_WORDS.contains(&name.as_str()) && SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// The parts of the schema that speak of one place: itself, what it refers to, and its alternatives.
fn parts<'a>(schema: &'a Value, root: &'a Value, left: u8, found: &mut Vec<&'a Value>) {
    found.push(schema);
    let Some(left) = left.checked_sub(1) else { return };
    let referred = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|pointer| root.pointer(pointer.trim_start_matches('#')));
    let alternatives = ["allOf", "oneOf", "anyOf"]
        .into_iter()
        .filter_map(|word| schema.get(word).and_then(Value::as_array))
        .flatten();
    for part in referred.into_iter().chain(alternatives) {
        parts(part, root, left, found);
    }
}

/// Where the schema speaks of what is called `name` here. Empty: nowhere.
fn below<'a>(here: &[&'a Value], name: &str, root: &'a Value) -> Vec<&'a Value> {
    let named = |part: &&'a Value| part.get("properties").and_then(|all| all.get(name));
    let mut next: Vec<&Value> = here.iter().filter_map(named).collect();
    if next.is_empty() {
        let any = here.iter().filter_map(|part| part.get("additionalProperties"));
        next = any.filter(|schema| schema.is_object()).collect();
    }
    let mut found = Vec::new();
    for schema in next {
        parts(schema, root, REFERENCES_MAX, &mut found);
    }
    found
}

/// Whether a plain text is what the schema wants here. An address may carry a password before its host.
fn is_plain_text(text: &str, here: &[&Value]) -> bool {
    let wanted = here.iter().any(|part| {
        let kind = part.get("type");
        let is_text = kind.is_some_and(|kind| {
            kind == "string"
                || kind
                    .as_array()
                    .is_some_and(|kinds| kinds.contains(&json!("string")))
        });
        is_text || part.get("enum").is_some() || part.get("const").is_some()
    });
    wanted && !(text.contains("://") && text.contains('@'))
}

/// The document without any secret: a value is shown where the schema `root` knows a setting that is none, and nowhere
/// else.
fn redacted(value: &Value, here: &[&Value], root: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let shown = fields.iter().map(|(name, value)| {
                let next = below(here, name, root);
                let value = if is_secret(name) {
                    hidden(value)
                } else if SECRET_SECTIONS.contains(&name.as_str()) {
                    hide_all(value)
                } else if next.is_empty() {
                    json!(NO_SETTING)
                } else {
                    redacted(value, &next, root)
                };
                (name.clone(), value)
            });
            Value::Object(shown.collect())
        }
        Value::Array(values) => {
            let mut next = Vec::new();
            for items in here.iter().filter_map(|part| part.get("items")) {
                parts(items, root, REFERENCES_MAX, &mut next);
            }
            Value::Array(values.iter().map(|value| redacted(value, &next, root)).collect())
        }
        Value::String(text) if !is_plain_text(text, here) => json!(NO_SETTING),
        other => other.clone(),
    }
}

fn root_schema() -> Result<Value, Failure> {
    serde_json::from_str(SCHEMA).map_err(|error| {
        Failure::from(
            Problem::new("SCHEMA_UNREADABLE", "This is a defect; report it.").actual(error.to_string()),
        )
    })
}

/// What one of the two secrets holds, as it may be shown.
fn shown(kind: &str, value: &Value) -> Result<Value, Failure> {
    let root = root_schema()?;
    let here = if kind == "webhook" {
        root.pointer("/properties/webhook")
    } else {
        Some(&root)
    };
    let here: Vec<&Value> = here.into_iter().collect();
    Ok(match value {
        Value::Object(_) | Value::Null => redacted(value, &here, &root),
        _ => json!(NO_SETTING),
    })
}

fn hidden(value: &Value) -> Value {
    match value {
        Value::Array(values) => json!(format!("({} hidden)", values.len())),
        Value::Null => Value::Null,
        Value::Bool(flag) => Value::Bool(*flag),
        _ => json!("(hidden)"),
    }
}

fn hide_all(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), hide_all(value)))
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.iter().map(hide_all).collect()),
        other => hidden(other),
    }
}

/// The names of all settings that differ, as JSON pointers; never a value.
fn changes(old: &Value, new: &Value, at: &str, found: &mut BTreeSet<String>) {
    match (old, new) {
        (Value::Object(one), Value::Object(other)) => {
            for name in one.keys().chain(other.keys()) {
                let part = |fields: &Map<String, Value>| fields.get(name).cloned().unwrap_or(Value::Null);
                changes(&part(one), &part(other), &format!("{at}/{name}"), found);
            }
        }
        (one, other) if one == other => {}
        _ => {
            found.insert(if at.is_empty() {
                "/".to_owned()
            } else {
                at.to_owned()
            });
        }
    }
}

fn names(place: &Place, id: &str) -> Result<[(&'static str, String); 2], Failure> {
    let connection = place.variable(&aws::config::CONNECTION_SECRET_PREFIX)?;
    let webhook = place.variable(&aws::config::WEBHOOK_SECRET_PREFIX)?;
    Ok([
        ("connection", format!("{connection}{id}")),
        ("webhook", format!("{webhook}{id}")),
    ])
}

async fn show(place: &Place, out: &Output) -> Result<(), Failure> {
    let id = place.connection().await?;
    let mut all = Map::new();
    for (kind, name) in names(place, id.as_str())? {
        let version = change::current(place, &name).await?;
        all.insert(kind.to_owned(), shown(kind, &version.value)?);
    }
    let all = Value::Object(all);
    let text = if out.is_json() {
        all.to_string()
    } else {
        serde_json::to_string_pretty(&all).unwrap_or_else(|_| all.to_string())
    };
    terminal::say(&text);
    Ok(())
}

async fn list(place: &Place, options: &ListOptions, out: &Output) -> Result<(), Failure> {
    let ids = place.connections().await?;
    let rows = ids
        .iter()
        .map(|id| Row::new(json!(id), vec![id.to_string().into()]))
        .collect();
    out.list(Listing::new(&[Column::word("Connection")], rows), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_ever_shown_and_every_other_setting_is() {
        let file = connection_file::parse(&connection_file::tests::filled_in()).unwrap();
        for (kind, text) in [
            ("connection", &file.connection.connection_secret),
            ("webhook", &file.connection.webhook_secret),
        ] {
            let value: Value = serde_json::from_str(text.expose_secret()).unwrap();
            let told = shown(kind, &value).unwrap().to_string();
            for hush in ["an-own-text", "a-secret"] {
                assert!(!told.contains(hush), "{told}");
            }
            assert!(!told.contains(NO_SETTING), "a setting is taken for none: {told}");
        }
        let told = shown(
            "connection",
            &json!({
                "token_key": "hush",
                "coupa": { "client_secret": "hush", "token_path": "/oauth2/token", "client_id": "an id" },
                "qad": {
                    "extra_headers": { "x-key": "hush" },
                    "auth": { "type": "basic", "username": "a user", "password": "hush" },
                    "profile": { "receipts": { "extra_query": { "key": "hush" }, "page_rows": 7 } }
                }
            }),
        )
        .unwrap();
        assert!(!told.to_string().contains("hush"), "{told}");
        assert_eq!(told["coupa"]["token_path"], "/oauth2/token");
        assert_eq!(told["coupa"]["client_id"], "an id");
        assert_eq!(told["qad"]["auth"]["username"], "a user");
        assert_eq!(told["qad"]["profile"]["receipts"]["page_rows"], 7);
        let hooks = shown(
            "webhook",
            &json!({ "secrets": ["hush", "hush"], "call_out": { "clients": [{ "id": "hush" }] } }),
        );
        assert!(!hooks.unwrap().to_string().contains("hush"));
    }

    #[test]
    fn a_misspelt_secret_is_not_shown_wherever_it_stands() {
        let wrong = json!({
            "coupa": { "client_secert": "hush", "order_number": "hush", "base_url": "https://me:hush@example.com" },
            "qad": { "auth": { "type": "basic", "passwort": "hush", "pin": 4711 }, "passphrase": { "it": "hush" } },
            "invoices": "hush",
            "unused": "hush"
        });
        for kind in ["connection", "webhook"] {
            let told = shown(kind, &wrong).unwrap().to_string();
            assert!(!told.contains("hush") && !told.contains("4711"), "{told}");
            assert!(!shown(kind, &json!("hush")).unwrap().to_string().contains("hush"));
        }
        let told = shown("connection", &wrong).unwrap();
        assert_eq!(told["coupa"]["client_secert"], NO_SETTING);
        assert_eq!(told["qad"]["auth"]["type"], "basic");
    }

    #[test]
    fn changes_are_told_by_name_and_not_by_value() {
        let mut found = BTreeSet::new();
        let old = json!({ "coupa": { "client_secret": "one", "client_id": "x" }, "gone": 1 });
        changes(
            &old,
            &json!({ "coupa": { "client_secret": "two", "client_id": "x" } }),
            "",
            &mut found,
        );
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["/coupa/client_secret", "/gone"]);
    }
}
