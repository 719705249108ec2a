//! The section `entities`: the QAD entities that one connection serves, and what differs between them.
//!
//! Whatever of the section `invoices` an entity gives is laid over the connection's: a value takes its place, and of a
//! table (credit terms, charge accounts, tolerances) each entry does, as a whole. The short form, `qad.entity` with
//! `qad.domain`, is one entity that takes everything.

use super::destinations::CodingDocument;
use super::{FIX, InvoiceDocument, QadSettings, harmless, invalid, match_policy};
use domain::entities::{CONDITIONS_MAX, Condition, ENTITIES_MAX, EntityRule};
use domain::ids::{DomainCode, EntityCode};
use domain::policy::{Coding, MatchPolicy};
use domain::problem::Problem;
use domain::time::Zone;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

/// A section of the document, its members as they are written.
type Members = BTreeMap<String, Box<RawValue>>;

/// Names that are the entity's own; all others are settings of the section `invoices`.
const OWN: [&str; 7] = [
    "code",
    "coding",
    "domain",
    "when",
    "time_zone",
    "workspace_header",
    "shared_set",
];
/// Settings of the section `invoices` that are the connection's alone: people act on a connection, not on an entity.
const NOT_BY_ENTITY: [&str; 2] = ["second_person", "adopt_equal_documents"];

/// One entity, with everything it takes over from the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntitySettings {
    /// Its code, and which invoices are its.
    pub rule: EntityRule,
    /// Domain of its orders and receipts.
    pub domain: DomainCode,
    /// Sends `x-qad-workspace-id: <domain>_<entity>` with every call in it.
    pub workspace_header: bool,
    /// QAD's shared set of its suppliers; blank where the connection has none either.
    pub shared_set: String,
    /// Where its days begin.
    pub zone: Zone,
    /// How its invoices are matched and posted.
    pub policy: MatchPolicy,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntityDocument {
    code: EntityCode,
    domain: Option<DomainCode>,
    #[serde(default)]
    when: Vec<Condition>,
    time_zone: Option<String>,
    workspace_header: Option<bool>,
    shared_set: Option<String>,
}

/// The section as it is written; `None` in the short form.
pub(super) fn written(sections: &Members, problems: &mut Vec<Problem>) -> Option<Vec<Members>> {
    let text = sections.get("entities")?.get();
    let listed: Vec<Members> = match serde_json::from_str(text) {
        Ok(listed) => listed,
        Err(_) => {
            problems.push(invalid(
                "entities",
                "a list of tables, [[entities]]",
                "something else",
            ));
            return None;
        }
    };
    if listed.is_empty() || listed.len() > ENTITIES_MAX {
        let expected = format!("1 to {ENTITIES_MAX} entities");
        problems.push(invalid("entities", expected, listed.len().to_string()));
        return None;
    }
    Some(listed)
}

/// The section `qad` with the first entity's code and domain, which stand for the connection where one is asked for.
pub(super) fn qad_of_first(sections: &mut Members, entities: &[Members], problems: &mut Vec<Problem>) {
    let (Some(first), Some(qad)) = (entities.first(), sections.get("qad")) else {
        return;
    };
    let Ok(mut members) = serde_json::from_str::<Members>(qad.get()) else {
        // The section itself says what is wrong with it.
        return;
    };
    if members.contains_key("entity") {
        let problem = Problem::new("CONNECTION_INVALID", FIX)
            .field("qad.entity")
            .expected("either qad.entity or [[entities]]")
            .actual("both");
        problems.push(problem);
    }
    let code = first.get("code").cloned();
    members.extend(code.map(|code| ("entity".to_owned(), code)));
    let domain = first.get("domain").cloned();
    members.extend(domain.map(|domain| ("domain".to_owned(), domain)));
    if let Ok(whole) = serde_json::value::to_raw_value(&members) {
        sections.insert("qad".to_owned(), whole);
    }
}

/// Reads all entities. What is wrong goes to `problems`, with the place of the entity.
pub(super) fn settings(
    written: &[Members],
    qad: &QadSettings,
    default_domain: Option<&DomainCode>,
    sections: &Members,
    supplier_set: &str,
    zone: &Zone,
    problems: &mut Vec<Problem>,
) -> Vec<EntitySettings> {
    let base: Members = sections
        .get("invoices")
        .and_then(|invoices| serde_json::from_str(invoices.get()).ok())
        .unwrap_or_default();
    let mut settings: Vec<EntitySettings> = Vec::new();
    for (index, members) in written.iter().enumerate() {
        let place = format!("entities[{index}]");
        let before = problems.len();
        let Some(document) = document(&place, members, problems) else {
            continue;
        };
        check(&place, &document, problems);
        let domain = document.domain.clone().or_else(|| default_domain.cloned());
        let Some(domain) = domain else {
            problems.push(invalid(
                &format!("{place}.domain"),
                "a domain, here or in qad.domain",
                "nothing",
            ));
            continue;
        };
        let its_zone = match document.time_zone.as_deref().map(Zone::named) {
            None => Some(zone.clone()),
            Some(named) => named,
        };
        if its_zone.is_none() {
            problems.push(no_zone(
                &format!("{place}.time_zone"),
                document.time_zone.as_deref(),
            ));
        }
        let within = QadSettings {
            domain: domain.clone(),
            entity: document.code.clone(),
            ..qad.clone()
        };
        let coding = coding(
            &place,
            sections.get("coding").map(|raw| &**raw),
            members,
            problems,
        );
        let policy =
            policy(&place, &base, members, &within, problems).map(|policy| MatchPolicy { coding, ..policy });
        if let (Some(policy), Some(zone), true) = (policy, its_zone, problems.len() == before) {
            settings.push(EntitySettings {
                rule: EntityRule {
                    code: document.code,
                    when: document.when,
                },
                domain,
                workspace_header: document.workspace_header.unwrap_or(qad.workspace_header),
                shared_set: document.shared_set.unwrap_or_else(|| supplier_set.to_owned()),
                zone,
                policy,
            });
        }
    }
    check_together(&settings, supplier_set, problems);
    settings
}

/// A time zone that nobody knows.
pub(super) fn no_zone(field: &str, name: Option<&str>) -> Problem {
    invalid(
        field,
        "a time zone of the IANA database, for example \"America/Chicago\"",
        name.unwrap_or_default(),
    )
}

fn document(place: &str, members: &Members, problems: &mut Vec<Problem>) -> Option<EntityDocument> {
    let own: BTreeMap<&String, &Box<RawValue>> = members
        .iter()
        .filter(|(name, _)| OWN.contains(&name.as_str()) && name.as_str() != "coding")
        .collect();
    for name in NOT_BY_ENTITY.iter().filter(|name| members.contains_key(**name)) {
        problems.push(invalid(
            &format!("{place}.{name}"),
            "this setting in the section invoices, for all entities",
            "one for an entity",
        ));
    }
    let text = serde_json::to_string(&own).ok()?;
    let mut reader = serde_json::Deserializer::from_str(&text);
    match serde_path_to_error::deserialize(&mut reader) {
        Ok(document) => Some(document),
        Err(error) => {
            let path = error.path().to_string();
            let field = if path == "." {
                place.to_owned()
            } else {
                format!("{place}.{path}")
            };
            let message = harmless(&path, &error.inner().to_string());
            problems.push(invalid(&field, "a setting as documented", message));
            None
        }
    }
}

/// How this entity's accounts become QAD's coding; `None` when it gives nothing of its own.
fn coding(
    place: &str,
    general: Option<&RawValue>,
    members: &Members,
    problems: &mut Vec<Problem>,
) -> Option<Coding> {
    let own = members.get("coding")?;
    let whole = general.map_or_else(|| own.clone(), |general| laid_over(general, own));
    let mut reader = serde_json::Deserializer::from_str(whole.get());
    match serde_path_to_error::deserialize::<_, CodingDocument>(&mut reader) {
        Ok(document) => {
            let mut found = Vec::new();
            let coding = document.settings(&mut found);
            problems.extend(found.into_iter().map(|problem| Problem {
                field: format!("{place}.{}", problem.field),
                ..problem
            }));
            Some(coding)
        }
        Err(error) => {
            let path = error.path().to_string();
            let message = harmless(&path, &error.inner().to_string());
            problems.push(invalid(
                &format!("{place}.coding.{path}"),
                "a setting as documented",
                message,
            ));
            None
        }
    }
}

/// The connection's invoice settings with this entity's laid over them, as a policy.
fn policy(
    place: &str,
    base: &Members,
    members: &Members,
    qad: &QadSettings,
    problems: &mut Vec<Problem>,
) -> Option<MatchPolicy> {
    let mut whole = base.clone();
    for (name, value) in members.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
        let laid_over = match whole.get(name) {
            Some(general) => laid_over(general, value),
            None => value.clone(),
        };
        whole.insert(name.clone(), laid_over);
    }
    let text = serde_json::to_string(&whole).ok()?;
    let mut reader = serde_json::Deserializer::from_str(&text);
    let mut found = Vec::new();
    let policy = match serde_path_to_error::deserialize::<_, InvoiceDocument>(&mut reader) {
        Ok(document) => match_policy(qad, document, &mut found),
        Err(error) => {
            let path = error.path().to_string();
            let message = harmless(&path, &error.inner().to_string());
            found.push(invalid(
                &format!("invoices.{path}"),
                "a setting as documented",
                message,
            ));
            None
        }
    };
    // What is wrong with the connection's own settings is told once, there.
    let own = found.into_iter().filter_map(|problem| {
        let name = problem.field.strip_prefix("invoices.")?;
        let top = name.split(['.', '[']).next().unwrap_or_default();
        (top.is_empty() || members.contains_key(top)).then(|| Problem {
            field: format!("{place}.{name}"),
            ..problem.clone()
        })
    });
    problems.extend(own);
    policy
}

/// Of two tables the entries of the second take the place of the first's; anything else is replaced.
fn laid_over(general: &RawValue, own: &RawValue) -> Box<RawValue> {
    let tables = (
        serde_json::from_str::<Members>(general.get()),
        serde_json::from_str::<Members>(own.get()),
    );
    if let (Ok(mut general), Ok(own)) = tables {
        general.extend(own);
        if let Ok(whole) = serde_json::value::to_raw_value(&general) {
            return whole;
        }
    }
    own.to_owned()
}

fn check(place: &str, document: &EntityDocument, problems: &mut Vec<Problem>) {
    if document.when.len() > CONDITIONS_MAX {
        let expected = format!("at most {CONDITIONS_MAX} conditions");
        let actual = document.when.len().to_string();
        problems.push(invalid(&format!("{place}.when"), expected, actual));
    }
    for (index, condition) in document.when.iter().enumerate() {
        let at = |name: &str| format!("{place}.when[{index}].{name}");
        if condition.field.split('.').any(|name| name.trim().is_empty()) {
            let expected = "a path of names with dots between them";
            problems.push(invalid(&at("field"), expected, &condition.field));
        }
        if condition.is.is_empty() || condition.is.iter().any(|value| value.trim().is_empty()) {
            problems.push(invalid(
                &at("is"),
                "one value or more, none of them blank",
                "a blank",
            ));
        }
    }
}

/// What no two entities may share: the code, and the right to everything.
fn check_together(settings: &[EntitySettings], supplier_set: &str, problems: &mut Vec<Problem>) {
    let mut codes = BTreeSet::new();
    for (index, entity) in settings.iter().enumerate() {
        if !codes.insert(&entity.rule.code) {
            let field = format!("entities[{index}].code");
            problems.push(invalid(&field, "each entity once", entity.rule.code.as_str()));
        }
        // Suppliers are kept aligned with one set; those of another one would be left out without a word.
        if entity.shared_set != supplier_set {
            problems.push(invalid(
                &format!("entities[{index}].shared_set"),
                format!(
                    "suppliers.shared_set ({supplier_set}): one connection keeps one set of suppliers aligned"
                ),
                &entity.shared_set,
            ));
        }
        if settings.len() > 1 && entity.rule.when.is_empty() {
            problems.push(invalid(
                &format!("entities[{index}].when"),
                "conditions, because there is more than one entity",
                "none: every invoice would be this entity's and another's",
            ));
        }
    }
}
