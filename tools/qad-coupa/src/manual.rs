//! Holds the documents to the code: commands parse, files exist, codes and settings are the same on both sides.

use crate::arguments::Arguments;
use crate::connection_file;
use clap::{CommandFactory, Parser};
use connectors::connection::ConnectionDocument;
use connectors::qad::profile::Profile;
use domain::problem::Problem;
use flows::webhook::settings::WebhookSettings;
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const EXAMPLE: &str = include_str!("../../../docs/examples/connection.toml");
const SCHEMA: &str = include_str!("../../../docs/connection.schema.json");
/// No setting is called so.
const UNKNOWN: &str = "zz_unknown";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, endings, found);
        } else if endings
            .iter()
            .any(|ending| path.to_string_lossy().ends_with(ending))
        {
            found.push(path);
        }
    }
}

/// README.md and everything in docs/, with its path.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = vec![root().join("README.md"), root().join("SECURITY.md")];
    files(&root().join("docs"), &[".md"], &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let text = read(&path);
            (path, text)
        })
        .collect()
}

/// What stands between backticks on one line.
fn inline_code(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// The lines of fenced blocks, continued lines joined.
fn fenced_lines(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            goes_on = false;
        } else if fenced {
            let part = line.trim_end_matches('\\').trim();
            match found.last_mut().filter(|_| goes_on) {
                Some(last) => *last = format!("{last} {part}"),
                None => found.push(part.to_owned()),
            }
            goes_on = line.ends_with('\\');
        }
    }
    found
}

/// A command line's words: no comment, quotes hold together, what stands for a value (`<…>`, `…`) becomes one.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quote, mut stands_for) = (String::new(), None, false);
    for letter in line.chars() {
        match (letter, quote) {
            ('<', None) => stands_for = true,
            ('>', None) if stands_for => {
                stands_for = false;
                word.push('1');
            }
            _ if stands_for => {}
            ('…', None) => word.push('1'),
            ('\'' | '"', None) => quote = Some(letter),
            (end, Some(open)) if end == open => quote = None,
            ('#' | '|' | '&' | ';', None) if word.is_empty() => break,
            (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(letter),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// The arguments of every line that calls the command line, and whether it is shown to be run: within a sentence a command
/// may be named without what it needs.
fn commands(text: &str) -> Vec<(Vec<String>, bool)> {
    let inline = inline_code(text).into_iter().map(|code| (code.to_owned(), false));
    fenced_lines(text)
        .into_iter()
        .map(|line| (line, true))
        .chain(inline)
        .filter_map(|(line, runs)| {
            let line = line.trim_start_matches("$ ").to_owned();
            let rest = line
                .strip_prefix("cargo qad-coupa ")
                .or_else(|| line.strip_prefix("qad-coupa "))
                .map(str::to_owned)
                .or_else(|| line.strip_prefix("cargo demo").map(|rest| format!("demo{rest}")))?;
            // `qad-coupa <verb> --help` speaks of all of them.
            let words = words(&rest);
            (words.first()? != "1").then_some((words, runs))
        })
        .collect()
}

fn lacks_something(error: &clap::Error) -> bool {
    use clap::error::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

#[test]
fn every_command_in_the_documents_is_one() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for (words, runs) in commands(&text) {
            seen += 1;
            let line = std::iter::once("qad-coupa").chain(words.iter().map(String::as_str));
            if let Err(error) = Arguments::try_parse_from(line)
                && error.use_stderr()
                && (runs || !lacks_something(&error))
            {
                wrong.push(format!(
                    "{}: qad-coupa {}\n{error}",
                    path.display(),
                    words.join(" ")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        seen > 10,
        "only {seen} commands were found: they are looked for in the wrong way"
    );
}

#[test]
fn every_command_in_an_alarm_is_one() {
    let mut seen = 0;
    for name in ["infra/stack.yaml", "infra/connection.yaml"] {
        for part in read(&root().join(name)).split("run qad-coupa ").skip(1) {
            let end = part.find([',', ';', '.', ')']).unwrap_or(part.len());
            let line: Vec<&str> = part[..end].split_whitespace().collect();
            // "explain for the oldest" is prose: the command is what stands before it.
            let line = line.iter().take_while(|word| **word != "for").copied();
            let line: Vec<&str> = std::iter::once("qad-coupa").chain(line).collect();
            seen += 1;
            let missing_value = |error: &clap::Error| {
                error.kind() == clap::error::ErrorKind::MissingRequiredArgument && line.contains(&"explain")
            };
            if let Err(error) = Arguments::try_parse_from(&line) {
                assert!(missing_value(&error), "{name}: {}\n{error}", line.join(" "));
            }
        }
    }
    assert!(seen > 0, "no alarm names a command");
}

/// Logical names of the alarms in the templates.
fn alarms() -> BTreeSet<String> {
    ["infra/stack.yaml", "infra/connection.yaml"]
        .iter()
        .flat_map(|name| {
            let text = read(&root().join(name));
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines
                .windows(2)
                .filter(|pair| pair[1].trim() == "Type: AWS::CloudWatch::Alarm")
                .map(|pair| pair[0].trim().trim_end_matches(':').to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_alarm_is_in_the_operators_manual_and_no_other() {
    let manual = read(&root().join("docs/operate.md"));
    let section = manual
        .split("\n## Alarms")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let named: Vec<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").next())
        .flat_map(inline_code)
        .map(str::to_owned)
        .collect();
    let alarms = alarms();
    let is = |alarm: &str, named: &str| match named.strip_prefix('…') {
        Some(end) => alarm.ends_with(end),
        None => alarm == named,
    };
    for alarm in &alarms {
        assert!(
            named.iter().any(|named| is(alarm, named)),
            "{alarm} is not explained"
        );
    }
    for named in &named {
        assert!(alarms.iter().any(|alarm| is(alarm, named)), "there is no {named}");
    }
    assert!(alarms.len() > 30, "{alarms:?}");
}

/// Alarms that are there only when something is switched on; the table of costs is of the stack as it comes.
fn conditional_alarms() -> usize {
    let text = read(&root().join("infra/stack.yaml"));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines
        .windows(2)
        .filter(|pair| pair[0] == "Type: AWS::CloudWatch::Alarm" && pair[1].starts_with("Condition:"))
        .count()
}

/// What alarms and metrics cost is the number of them, and the last line but one the sum of those above.
#[test]
fn the_costs_add_up() {
    let text = read(&root().join("docs/deploy.md"));
    let table = text.split("| per month |").nth(1).unwrap();
    let rows: Vec<Vec<String>> = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.replace('*', "").trim().to_owned())
                .collect()
        })
        .collect();
    let cents = |text: &str| text.replace('.', "").parse::<u64>().unwrap();
    let (alarms, metrics) = (
        alarms().len() - conditional_alarms(),
        aws::telemetry::METRICS.len() + aws::telemetry::ATTENTION.len(),
    );
    let row = rows.iter().find(|row| row[1].contains("alarms")).unwrap();
    assert!(
        row[1].starts_with(&format!("{alarms} alarms, {metrics} metrics")),
        "{}",
        row[1]
    );
    assert_eq!(cents(&row[2]), u64::try_from(alarms * 10 + metrics * 30).unwrap());
    let at = rows.iter().position(|row| row[1] == "together").unwrap();
    for column in 2..5 {
        let sum: u64 = rows[..at].iter().map(|row| cents(&row[column])).sum();
        assert_eq!(cents(&rows[at][column]), sum, "column {column}");
    }
}

#[test]
fn every_file_that_is_named_exists() {
    const FOLDERS: [&str; 9] = [
        "docs/",
        "infra/",
        "shared/",
        "tests/",
        "tools/",
        "functions/",
        "events/",
        ".ci/",
        ".cargo/",
    ];
    // Made by a build, not kept.
    const MADE: [&str; 2] = ["infra/.build", "infra/.aws-sam"];
    let mut seen = 0;
    for (path, text) in documents() {
        let links = text.split("](").skip(1).filter_map(|part| part.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap();
            seen += 1;
            assert!(
                path.parent().unwrap().join(file).exists(),
                "{}: {link}",
                path.display()
            );
        }
        let named = inline_code(&text)
            .into_iter()
            .map(str::to_owned)
            .chain(fenced_lines(&text));
        for word in named.flat_map(|code| code.split_whitespace().map(str::to_owned).collect::<Vec<_>>()) {
            let word = word.trim_matches(['\'', '"', ',', ':', ';', '(', ')', '`']);
            let is_path = FOLDERS.iter().any(|folder| word.starts_with(folder));
            let is_pattern = word.contains(['*', '<', '…', '{']);
            if is_path && !is_pattern && !MADE.iter().any(|made| word.starts_with(made)) {
                seen += 1;
                assert!(root().join(word).exists(), "{}: {word}", path.display());
            }
        }
    }
    assert!(
        seen > 30,
        "only {seen} files were found: they are looked for in the wrong way"
    );
}

// ---------------------------------------------------------------------------------------------------------------------
// Codes
// ---------------------------------------------------------------------------------------------------------------------

/// What a code is without the system's or service's name that begins it.
fn end_of(code: &str) -> Option<&str> {
    ["COUPA_", "QAD_", "DYNAMODB_", "SQS_", "SECRETS_MANAGER_"]
        .iter()
        .find_map(|system| code.strip_prefix(system))
}

/// Upper snake case in the code that is no problem's code.
const NOT_CODES: [&str; 7] = [
    "QAD_DOCUMENT",    // begins codes
    "QAD_INVOICES",    // the integration's code in Coupa
    "SECRETS_MANAGER", // begins codes
    "CARGO_PKG_VERSION",
    "DYNAMODB",
    "COUPA",
    "QAD",
];
/// Ends of codes, without an underscore of their own, that a system's or a service's name is put before.
const ENDS: [&str; 6] = [
    "UNREACHABLE",
    "UNAVAILABLE",
    "THROTTLED",
    "PAUSED",
    "REDIRECT",
    "REFUSED",
];
/// Codes of one word.
const ONE_WORD: [&str; 1] = ["PANIC"];

fn is_code(text: &str) -> bool {
    text.contains('_')
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && !text.ends_with('_')
        && text
            .chars()
            .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
}

/// The code of a file that is compiled into the product.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// Files that are compiled for tests only: the name after `#[cfg(test)]` and `mod`.
fn only_for_tests(path: &Path, all: &[(PathBuf, String)]) -> bool {
    let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
    let inside = path
        .components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
    inside
        || all.iter().any(|(other, text)| {
            other.parent() == path.parent() && text.contains(&format!("#[cfg(test)]\nmod {stem};"))
        })
}

/// Every code that the product's own code can give.
fn codes_in_code() -> BTreeSet<String> {
    let mut paths = Vec::new();
    for folder in ["shared", "functions"] {
        files(&root().join(folder), &[".rs"], &mut paths);
    }
    let all: Vec<(PathBuf, String)> = paths
        .into_iter()
        .map(|path| {
            let text = read(&path);
            (path, text)
        })
        .collect();
    let variables = read(&root().join("shared/aws/src/config.rs"));
    all.iter()
        .filter(|(path, _)| !only_for_tests(path, &all))
        .flat_map(|(_, text)| without_tests(text).split('"'))
        .filter(|text| is_code(text) || ENDS.contains(text) || ONE_WORD.contains(text))
        .filter(|code| !NOT_CODES.contains(code))
        // Names of environment variables are declared in one place.
        .filter(|name| {
            let declared = [
                format!("required(\"{name}\""),
                format!("required(\n    \"{name}\""),
                format!("optional(\"{name}\""),
                format!("optional(\n    \"{name}\""),
            ];
            !declared.iter().any(|text| variables.contains(text))
        })
        .map(str::to_owned)
        .collect()
}

/// Every code that the documents explain: in the first cell of a table's row.
fn codes_in_documents() -> BTreeSet<String> {
    ["docs/operate.md", "docs/codes.md", "docs/webhooks.md"]
        .iter()
        .map(|name| read(&root().join(name)))
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| line.strip_prefix("| "))
                .filter_map(|row| row.split(" | ").next())
                .flat_map(inline_code)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|code| {
            let bare = code.strip_prefix("…_").unwrap_or(code);
            is_code(bare) || ENDS.contains(&bare) || ONE_WORD.contains(&bare)
        })
        .collect()
}

#[test]
fn every_code_is_explained_and_every_explained_code_exists() {
    let code = codes_in_code();
    let explained = codes_in_documents();
    let missing: Vec<&String> = code
        .iter()
        .filter(|code| !explained.contains(*code) && !explained.contains(&format!("…_{code}")))
        // A code that is written out where others put it together from its end.
        .filter(|code| !end_of(code).is_some_and(|end| explained.contains(&format!("…_{end}"))))
        .collect();
    assert!(
        missing.is_empty(),
        "add to docs/codes.md (or to the section of docs/operate.md): {missing:?}"
    );
    let invented: Vec<&String> = explained
        .iter()
        .filter(|shown| !code.contains(shown.strip_prefix("…_").unwrap_or(shown)))
        .filter(|shown| !end_of(shown).is_some_and(|end| code.contains(end)))
        .collect();
    assert!(invented.is_empty(), "no code gives these: {invented:?}");
    assert!(code.len() > 100, "only {} codes were found", code.len());
}

// ---------------------------------------------------------------------------------------------------------------------
// Settings
// ---------------------------------------------------------------------------------------------------------------------

/// Which part of the code reads a place of the file.
#[derive(Clone, Copy, PartialEq)]
enum Reader {
    Connection,
    Webhook,
}

/// One object of the schema, where it stands, and the names it allows.
struct Place {
    reader: Reader,
    path: Vec<String>,
    /// Name and value of an alternative's tag.
    variant: Option<(String, String)>,
    /// `None`: any name.
    names: Option<BTreeSet<String>>,
}

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// A schema with its reference followed, and what it is put together from.
fn followed(schema: &Value) -> Value {
    let mut whole = Map::new();
    if let Some(name) = schema["$ref"].as_str() {
        let there = super::manual::schema();
        let target = there.pointer(name.trim_start_matches('#')).unwrap().clone();
        whole.extend(followed(&target).as_object().unwrap().clone());
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        whole.extend(followed(part).as_object().unwrap().clone());
    }
    for (key, value) in schema.as_object().unwrap() {
        match (key.as_str(), whole.get_mut(key)) {
            ("properties", Some(Value::Object(inherited))) => {
                inherited.extend(value.as_object().unwrap().clone());
            }
            _ => {
                whole.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(whole)
}

fn names_of(object: &Value) -> BTreeSet<String> {
    object
        .as_object()
        .into_iter()
        .flat_map(|object| object.keys().cloned())
        .collect()
}

fn places(
    reader: Reader,
    schema: &Value,
    path: &[String],
    variant: Option<(String, String)>,
    found: &mut Vec<Place>,
) {
    let schema = followed(schema);
    for alternative in schema["oneOf"].as_array().into_iter().flatten() {
        let properties = alternative["properties"].as_object().into_iter().flatten();
        let variant = properties
            .filter_map(|(name, property)| Some((name.clone(), property["const"].as_str()?.to_owned())))
            .next();
        places(reader, alternative, path, variant, found);
    }
    if schema["type"] == "array" {
        let item: Vec<String> = path.iter().cloned().chain(["0".to_owned()]).collect();
        places(reader, &schema["items"], &item, None, found);
    }
    if schema["type"] != "object" {
        return;
    }
    let enumerated = schema["propertyNames"]["enum"].as_array().map(|names| {
        names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    });
    let names = if schema["additionalProperties"] == json!(false) {
        let mut names = names_of(&schema["properties"]);
        if let Some((tag, _)) = &variant {
            names.remove(tag);
        }
        Some(names)
    } else {
        enumerated
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inner: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
        places(reader, property, &inner, None, found);
    }
    if schema["additionalProperties"].is_object() {
        let inner: Vec<String> = path.iter().cloned().chain(["USD".to_owned()]).collect();
        places(reader, &schema["additionalProperties"], &inner, None, found);
    }
    found.push(Place {
        reader,
        path: path.to_vec(),
        variant,
        names,
    });
}

fn example() -> Map<String, Value> {
    toml::from_str(EXAMPLE).unwrap()
}

/// What the code says when a place holds a setting that nobody knows.
fn said(place: &Place) -> Vec<Problem> {
    let mut document = example();
    let webhook = document.remove("webhook").unwrap();
    for section in ["id", "schedules", "timing"] {
        document.remove(section);
    }
    let mut whole = match place.reader {
        Reader::Connection => Value::Object(document),
        Reader::Webhook => webhook,
    };
    let mut content = json!({ UNKNOWN: "x" });
    if let Some((tag, variant)) = &place.variant {
        content[tag.as_str()] = json!(variant);
    }
    let mut at = &mut whole;
    for (index, step) in place.path.iter().enumerate() {
        let is_item = place
            .path
            .get(index.saturating_add(1))
            .is_some_and(|next| next == "0");
        at = match at {
            Value::Array(items) => {
                items.clear();
                items.push(json!({}));
                &mut items[0]
            }
            other => {
                let object = other.as_object_mut().unwrap();
                let empty = if is_item { json!([]) } else { json!({}) };
                let fits = object
                    .get(step)
                    .is_some_and(|there| there.is_object() || there.is_array());
                if !fits {
                    object.insert(step.clone(), empty);
                }
                object.get_mut(step).unwrap()
            }
        };
    }
    if place.path.is_empty() {
        at.as_object_mut().unwrap().insert(UNKNOWN.to_owned(), json!("x"));
    } else {
        *at = content;
    }
    match place.reader {
        Reader::Connection => ConnectionDocument::parse(&whole.to_string()).err(),
        Reader::Webhook => WebhookSettings::parse(&SecretString::from(whole.to_string())).err(),
    }
    .unwrap_or_default()
}

/// The names that the code knows at a place: those in its message about the one it does not.
fn known(place: &Place, problems: &[Problem]) -> Option<BTreeSet<String>> {
    problems.iter().find_map(|problem| {
        let text = format!("{} {}", problem.actual, problem.expected);
        if let Some((_, list)) = text.split_once(&format!("`{UNKNOWN}`")) {
            return Some(list.split('`').skip(1).step_by(2).map(str::to_owned).collect());
        }
        let list = problem.expected.strip_prefix("one of ")?;
        if !problem.field.ends_with(UNKNOWN) {
            return None;
        }
        // A message is cut to a length that these lists exceed; the names are those of the built-in profile.
        match place.path.as_slice() {
            [qad, profile, resource, kind] if qad == "qad" && profile == "profile" => {
                let standard = serde_json::to_value(Profile::default()).unwrap();
                Some(names_of(&standard[resource.as_str()][kind.as_str()]))
            }
            _ => Some(list.split(", ").map(str::to_owned).collect()),
        }
    })
}

#[test]
fn the_schema_knows_the_settings_that_the_code_knows_and_no_others() {
    let schema = schema();
    let sections = schema["properties"].as_object().unwrap();
    // The top of the file: the connection's document, and what the other parts of the product own.
    let top = Place {
        reader: Reader::Connection,
        path: vec![],
        variant: None,
        names: None,
    };
    let mut known_sections = known(&top, &said(&top)).unwrap();
    known_sections.extend(["id", "webhook", "schedules", "timing"].map(str::to_owned));
    assert_eq!(names_of(&schema["properties"]), known_sections, "top of the file");

    let mut found = Vec::new();
    for name in known_sections
        .iter()
        .filter(|name| !["id", "schedules", "timing"].contains(&name.as_str()))
    {
        let (reader, path) = match name.as_str() {
            "webhook" => (Reader::Webhook, vec![]),
            _ => (Reader::Connection, vec![name.clone()]),
        };
        places(reader, &sections[name], &path, None, &mut found);
    }
    assert!(found.len() > 30, "only {} places were found", found.len());
    for place in found {
        let at = format!("{}{:?}", place.path.join("."), place.variant);
        let problems = said(&place);
        match (&place.names, known(&place, &problems)) {
            (Some(names), Some(code)) => assert_eq!(*names, code, "schema (left) and code at {at}"),
            (Some(_), None) => panic!("{at}: the code takes any name, or says nothing: {problems:?}"),
            (None, Some(code)) => panic!("{at}: the schema takes any name, the code only {code:?}"),
            (None, None) => {}
        }
    }
}

#[test]
fn schedules_and_times_are_parameters_of_the_templates() {
    let schema = schema();
    let snake = |name: &str| {
        name.chars()
            .enumerate()
            .map(|(index, letter)| match letter {
                upper if upper.is_ascii_uppercase() && index > 0 => {
                    format!("_{}", upper.to_ascii_lowercase())
                }
                other => other.to_ascii_lowercase().to_string(),
            })
            .collect::<String>()
    };
    let connection = read(&root().join("infra/connection.yaml"));
    let schedules: BTreeSet<String> = connection
        .lines()
        .filter_map(|line| line.trim_end().strip_suffix("Schedule:"))
        .filter_map(|line| line.strip_prefix("  ").filter(|name| !name.starts_with(' ')))
        .map(snake)
        .collect();
    assert_eq!(
        names_of(&schema["properties"]["schedules"]["properties"]),
        schedules
    );
    let stack = read(&root().join("infra/stack.yaml"));
    for name in names_of(&schema["properties"]["timing"]["properties"]) {
        let parameter = stack
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
            .any(|parameter| snake(parameter) == name);
        assert!(parameter, "timing.{name} is no parameter of infra/stack.yaml");
    }
}

/// Every name of a setting in the schema.
fn all_names(schema: &Value, found: &mut BTreeSet<String>) {
    if let Value::Object(object) = schema {
        found.extend(names_of(&schema["properties"]));
        for name in schema["propertyNames"]["enum"].as_array().into_iter().flatten() {
            found.insert(name.as_str().unwrap().to_owned());
        }
        object.values().for_each(|value| all_names(value, found));
    }
    if let Value::Array(items) = schema {
        items.iter().for_each(|item| all_names(item, found));
    }
}

#[test]
fn the_example_shows_every_setting_and_invents_none() {
    let mut names = BTreeSet::new();
    all_names(&schema(), &mut names);
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let shown: BTreeSet<&str> = EXAMPLE.split(|letter| !is_part(letter)).collect();
    // The webhook's schemes are a document of their own.
    let elsewhere = read(&root().join("docs/webhooks.md"));
    let missing: Vec<&String> = names
        .iter()
        .filter(|name| !shown.contains(name.as_str()) && !elsewhere.contains(name.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/examples/connection.toml does not show {missing:?}"
    );
    // Keys that a customer makes up.
    const MADE_UP: [&str; 1] = ["accept-language"];
    for line in EXAMPLE.lines() {
        let line = line.trim_start_matches('#').trim_start();
        let Some((name, _)) = line.split_once(" = ") else {
            continue;
        };
        let is_setting = name
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter == '_' || letter == '-');
        assert!(
            !is_setting || names.contains(name) || MADE_UP.contains(&name),
            "the example shows {name}, which the schema does not know"
        );
    }
}

#[test]
fn the_file_takes_what_the_schema_takes() {
    assert!(connection_file::parse(&connection_file::tests::filled_in()).is_ok());
    let problems = connection_file::parse(&format!("{UNKNOWN} = 1\n{EXAMPLE}")).unwrap_err();
    let told = problems.iter().find(|problem| problem.field == UNKNOWN).unwrap();
    for name in names_of(&schema()["properties"]) {
        assert!(
            told.expected.contains(&name),
            "the file refuses the section {name}"
        );
    }
}

#[test]
fn every_function_that_the_architecture_names_is_where_it_says() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let mut named = 0;
    for link in text.split("[`").skip(1) {
        let Some((name, rest)) = link.split_once("`](") else {
            continue;
        };
        let (path, _) = rest.split_once(')').expect("a link that ends");
        let function = name.rsplit("::").next().expect("a name");
        let source = read(&root().join(path));
        assert!(
            source.contains(&format!("fn {function}(")) || source.contains(&format!("fn {function}<")),
            "{path} has no function {function}"
        );
        named += 1;
    }
    assert!(named > 15, "only {named} functions are named");
}

/// The library's words are read on the page, in Coupa and in a mail too, where nobody has a terminal: which command to type
/// is said here alone.
#[test]
fn no_text_of_the_library_names_a_command() {
    let mut texts = 0;
    let mut paths = Vec::new();
    files(&root().join("shared"), &["rs"], &mut paths);
    files(&root().join("functions"), &["rs"], &mut paths);
    let command = Arguments::command();
    let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert!(verbs.len() > 30, "only {verbs:?}");
    // What a test gives in, or expects not to find, is read by nobody.
    let is_test = |path: &Path| {
        let parts = path.components().map(|part| part.as_os_str().to_string_lossy());
        parts
            .into_iter()
            .any(|part| part == "tests" || part == "tests.rs")
    };
    for path in paths.into_iter().filter(|path| !is_test(path)) {
        let text = read(&path);
        let shown = text.split("#[cfg(test)]").next().unwrap_or_default();
        for line in shown.lines().filter(|line| !line.trim_start().starts_with("//")) {
            texts += line.matches('"').count();
            let named = line.split("qad-coupa ").skip(1).any(|rest| {
                let word = rest.split(|letter: char| !letter.is_ascii_lowercase() && letter != '-');
                word.into_iter().next().is_some_and(|word| verbs.contains(&word))
            });
            assert!(!named, "{}: {line}", path.display());
        }
    }
    assert!(texts > 1_000, "only {texts} quotation marks were read");
}
