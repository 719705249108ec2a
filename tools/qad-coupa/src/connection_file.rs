//! A connection as a commented file (TOML), taken apart into what goes where: settings and credentials into one secret,
//! the webhook's scheme and secrets into another, schedules and times into the templates' parameters.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors::connection::{ConnectionDocument, SECTIONS, SETTINGS};
use domain::ids::ConnectionId;
use domain::problem::Problem;
use flows::webhook::settings::WebhookSettings;
use sandbox::local::LocalConnection;
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1_048_576;
/// What the values of the example begin with that nobody can work with.
const EXAMPLE_TEXT: &str = "replace-me";
/// Length of the key that seals cached tokens, in bytes.
const TOKEN_KEY_BYTES: usize = 32;

/// A connection file, checked.
#[derive(Debug)]
pub(crate) struct ConnectionFile {
    /// The connection as the local run takes it.
    pub(crate) connection: LocalConnection,
    /// False when the file names no key for cached tokens and a fresh one was made up.
    pub(crate) has_token_key: bool,
    /// Parameters of the stack: the timing chain, by the template's own names.
    pub(crate) parameters: BTreeMap<String, String>,
}

fn invalid(field: &str, expected: &str, actual: impl ToString) -> Problem {
    Problem::new(
        "CONNECTION_INVALID",
        "Correct the file; docs/examples/connection.toml is a commented one.",
    )
    .field(field)
    .expected(expected)
    .actual(actual.to_string())
}

/// Reads and checks a connection file.
pub(crate) fn read(path: &Path) -> Result<ConnectionFile, Vec<Problem>> {
    let name = path.display().to_string();
    let unreadable = |error: std::io::Error| vec![invalid(&name, "a file that can be read", error)];
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(vec![invalid(&name, "at most 1 MiB", format!("{size} bytes"))]);
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text)
}

/// Takes a connection file apart and checks every part of it.
pub(crate) fn parse(text: &str) -> Result<ConnectionFile, Vec<Problem>> {
    take_apart(read_toml(text)?)
}

/// As [`parse`], with a second file laid over the first: what both name is taken from the second.
pub(crate) fn parse_with(text: &str, over: &str) -> Result<ConnectionFile, Vec<Problem>> {
    let mut document = Value::Object(read_toml(text)?);
    lay_over(&mut document, Value::Object(read_toml(over)?));
    match document {
        Value::Object(document) => take_apart(document),
        other => Err(vec![invalid("", "a connection", other)]),
    }
}

fn lay_over(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                lay_over(under.entry(name).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn read_toml(text: &str) -> Result<Map<String, Value>, Vec<Problem>> {
    toml::from_str(text).map_err(|error| {
        let place = error
            .span()
            .map(|span| line_of(text, span.start))
            .unwrap_or_default();
        // The message alone: the excerpt that belongs to it may show a secret.
        vec![invalid(&place, "TOML", error.message())]
    })
}

/// What may stand at the top of the file: the document's own names, and what goes elsewhere.
fn known_names() -> String {
    let names = ["id"]
        .iter()
        .chain(SECTIONS)
        .chain(&["webhook", "schedules", "timing"])
        .chain(SETTINGS);
    let names: Vec<&str> = names.copied().collect();
    format!("one of {}", names.join(", "))
}

fn take_apart(document: Map<String, Value>) -> Result<ConnectionFile, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut connection = Map::new();
    let mut webhook = Value::Null;
    let mut id = None;
    let mut parameters = BTreeMap::new();
    let mut schedules = BTreeMap::new();
    for (name, value) in document {
        match (name.as_str(), value) {
            ("id", Value::String(text)) => id = Some(text),
            ("webhook", value) => webhook = value,
            ("timing", Value::Object(values)) => parameters = texts("timing", values, &mut problems),
            ("schedules", Value::Object(values)) => schedules = texts("schedules", values, &mut problems),
            (section, value) if SECTIONS.contains(&section) || SETTINGS.contains(&section) => {
                connection.insert(name, value);
            }
            (other, _) => problems.push(invalid(other, &known_names(), other)),
        }
    }
    let id = match id.as_deref().unwrap_or_default().parse::<ConnectionId>() {
        Ok(id) => Some(id),
        Err(error) => {
            problems.push(invalid("id", &error.expected, error.actual));
            None
        }
    };
    for (name, value) in &connection {
        still_the_example(name, value, &mut problems);
    }
    still_the_example("webhook", &webhook, &mut problems);
    let has_token_key = connection.contains_key("token_key");
    connection
        .entry("token_key")
        .or_insert_with(|| Value::String(new_token_key()));
    let connection_secret = Value::Object(connection).to_string();
    let webhook_secret = webhook.to_string();
    if let Err(found) = ConnectionDocument::parse(&connection_secret) {
        problems.extend(found.into_iter().map(without_place));
    }
    if let Err(found) = WebhookSettings::parse(&SecretString::from(webhook_secret.clone())) {
        problems.extend(found.into_iter().map(|problem| {
            let field = format!("webhook.{}", problem.field);
            without_place(problem.field(field))
        }));
    }
    match id {
        Some(id) if problems.is_empty() => Ok(ConnectionFile {
            connection: LocalConnection {
                id: id.to_string(),
                connection_secret: SecretString::from(connection_secret),
                webhook_secret: SecretString::from(webhook_secret),
                parameters: BTreeMap::new(),
                schedule_overrides: schedules
                    .into_iter()
                    .map(|(name, text)| (pascal_case(&name), text))
                    .collect(),
            },
            has_token_key,
            parameters: parameters
                .into_iter()
                .map(|(name, text)| (pascal_case(&name), text))
                .collect(),
        }),
        _ => Err(problems),
    }
}

/// Names every setting that still has the example's text; a secret that everybody knows is none.
fn still_the_example(at: &str, value: &Value, problems: &mut Vec<Problem>) {
    match value {
        Value::String(text) if text.trim_start().starts_with(EXAMPLE_TEXT) => {
            let fix = if at.starts_with("webhook.") {
                "Put your own there (`openssl rand -hex 32`)."
            } else {
                "Put the one there that the other system has given you."
            };
            problems.push(
                Problem::new("CONNECTION_INVALID", fix)
                    .field(at)
                    .expected("a value of your own")
                    .actual("still the example's text"),
            );
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                still_the_example(&format!("{at}[{index}]"), value, problems);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                still_the_example(&format!("{at}.{name}"), value, problems);
            }
        }
        _ => {}
    }
}

/// Without `at line 1 column 88`: that is a place in what was made of the file, and not one in the file.
fn without_place(problem: Problem) -> Problem {
    let is_number = |text: &str| text.parse::<usize>().is_ok();
    let said = match problem.actual.rsplit_once(" at line ") {
        Some((said, place))
            if place
                .split_once(" column ")
                .is_some_and(|(line, column)| is_number(line) && is_number(column)) =>
        {
            said.to_owned()
        }
        _ => return problem,
    };
    problem.actual(said)
}

fn line_of(text: &str, offset: usize) -> String {
    let line = text
        .bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        .saturating_add(1);
    format!("line {line}")
}

fn texts(section: &str, values: Map<String, Value>, problems: &mut Vec<Problem>) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (name, value) in values {
        match value {
            Value::String(text) => {
                texts.insert(name, text);
            }
            Value::Number(number) => {
                texts.insert(name, number.to_string());
            }
            other => problems.push(invalid(
                &format!("{section}.{name}"),
                "a text or a whole number",
                other,
            )),
        }
    }
    texts
}

/// `http_timeout_seconds` is the template's `HttpTimeoutSeconds`, `poll_coupa` its `PollCoupa`.
fn pascal_case(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| {
                first.to_ascii_uppercase().to_string() + letters.as_str()
            })
        })
        .collect()
}

/// A fresh key: a local run that is given none needs no old tokens.
fn new_token_key() -> String {
    let mut key = [0u8; TOKEN_KEY_BYTES];
    // Without randomness the key stays all zeros, which seals nothing from anyone; the tokens are on this machine only.
    let _ = getrandom::fill(&mut key);
    STANDARD.encode(key)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../docs/examples/connection.toml");

    /// The example with secrets of one's own.
    pub(crate) fn filled_in() -> String {
        EXAMPLE.replace(EXAMPLE_TEXT, "an-own-text")
    }

    #[test]
    fn the_commented_example_is_a_connection_file() {
        let file = parse(&filled_in()).unwrap();
        assert_eq!(file.connection.id, "acme");
        assert!(file.connection.schedule_overrides.contains_key("Sweep"));
    }

    #[test]
    fn every_wrong_part_is_named() {
        let problems =
            parse("id = \"Not An Id\"\nnonsense = 1\n[timing]\nlease_seconds = true\n").unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        for field in ["nonsense", "timing.lease_seconds", "id", "coupa", "qad"] {
            assert!(fields.contains(&field), "{field} in {fields:?}");
        }
        assert!(fields.iter().any(|field| field.starts_with("webhook.")));
    }

    #[test]
    fn what_is_still_the_examples_text_is_refused_at_its_field() {
        let problems = parse(EXAMPLE).unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        for field in ["coupa.client_secret", "webhook.secrets[0]"] {
            assert!(fields.contains(&field), "{field} in {fields:?}");
        }
        for problem in &problems {
            assert_eq!(problem.code, "CONNECTION_INVALID");
            assert_eq!(problem.actual, "still the example's text");
            assert!(!problem.to_string().contains(EXAMPLE_TEXT), "{problem}");
        }
    }

    #[test]
    fn a_wrong_type_names_the_setting_and_no_place_in_inner_json() {
        let wrong = filled_in().replace("client_secret = \"an-own-text\"", "client_secret = 5");
        let wrong = wrong.replace(
            "secrets = [\"an-own-text-with-at-least-24-bytes\"]",
            "secrets = 5",
        );
        let problems = parse(&wrong).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        for problem in problems {
            assert!(!problem.to_string().contains(" column "), "{problem}");
        }
        let odd = Problem::new("X", "").actual("5 at line one column two");
        assert_eq!(without_place(odd.clone()), odd);
    }

    #[test]
    fn a_syntax_error_names_the_line_and_shows_no_value() {
        let problems = parse("id = \"acme\"\n[coupa]\nclient_secret = \"hush\" \"hush\"\n").unwrap_err();
        assert_eq!(problems[0].field, "line 3");
        assert!(!problems[0].to_string().contains("hush"));
    }

    #[test]
    fn secrets_may_lie_in_a_file_of_their_own() {
        let example = filled_in();
        let apart = example.replace("secrets = [\"an-own-text-with-at-least-24-bytes\"]\n", "");
        assert!(apart.len() < example.len() && parse(&apart).is_err());
        let over = "[webhook]\nsecrets = [\"another-secret-of-24-bytes-and-more\"]\n";
        let file = parse_with(&apart, over).unwrap();
        assert_eq!(file.connection.id, "acme");
        use secrecy::ExposeSecret;
        assert!(
            file.connection
                .webhook_secret
                .expose_secret()
                .contains("another-secret")
        );
    }

    #[test]
    fn names_become_the_templates_own() {
        assert_eq!(pascal_case("http_timeout_seconds"), "HttpTimeoutSeconds");
    }
}
