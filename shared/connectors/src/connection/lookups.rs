//! The section `lookups`: which lists of QAD are shown in which lookups of Coupa. Without the section nothing is.

use super::{invalid, require};
use crate::qad::profile::{Family, PAGE_ROWS_MAX, Resource};
use crate::qad::sources::{ACTIVE, CODE, DESCRIPTION, PARENT, Source, SourceFilter};
use domain::plans::ChangeShare;
use domain::problem::Problem;
use flows::sync_lookups::LookupSync;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a page unless configured: most lists fit on one, and one page is one moment.
const PAGE_ROWS_DEFAULT: u32 = 2_000;
/// Longest name of a lookup or a source, in characters.
const NAME_CHARACTERS_MAX: usize = 100;
/// Most lookups of one connection.
const LOOKUPS_MAX: usize = 50;
/// Browses are read here (seen).
const BROWSE_PATH: &str = "/api/qracore/browses";

/// What the lookup flow needs to know of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupSettings {
    /// What is shown where.
    pub syncs: Vec<LookupSync>,
    /// The lists, by their names.
    pub sources: BTreeMap<String, Source>,
}

/// The section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LookupDocument {
    change_percent_max: u32,
    change_count_min: u32,
    sync: Option<Vec<SyncDocument>>,
    sources: BTreeMap<String, SourceDocument>,
}

impl Default for LookupDocument {
    fn default() -> Self {
        let standard = ChangeShare::default();
        Self {
            change_percent_max: standard.change_percent_max,
            change_count_min: standard.change_count_min,
            sync: None,
            sources: BTreeMap::new(),
        }
    }
}

/// One lookup.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncDocument {
    lookup: String,
    source: String,
    change_percent_max: Option<u32>,
    change_count_min: Option<u32>,
}

/// One list; what is not given stays as built in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SourceDocument {
    browse_id: Option<String>,
    path: Option<String>,
    page_rows: Option<u32>,
    filters: Option<Vec<String>>,
    fields: BTreeMap<String, String>,
    active_words: Option<Vec<String>>,
    inactive_words: Option<Vec<String>>,
    extra_query: BTreeMap<String, String>,
}

/// A built-in list: its name, the Coupa lookup that shows it by default, its browse, its fields and its filters.
struct BuiltIn {
    name: &'static str,
    lookup: &'static str,
    browse_id: &'static str,
    fields: &'static [(&'static str, &'static str)],
    filters: &'static [&'static str],
}

const BUILT_IN: [BuiltIn; 3] = [
    BuiltIn {
        name: "cost-centers",
        lookup: "QAD Cost Centers",
        browse_id: "urn:browse:mfg:gp059",
        fields: &[
            (CODE, "cc_mstr.cc_ctr"),
            (DESCRIPTION, "cc_mstr.cc_desc"),
            (ACTIVE, "cc_mstr.cc_active"),
        ],
        filters: &["cc_mstr.cc_domain,eq,{domain}"],
    },
    BuiltIn {
        name: "projects",
        lookup: "QAD Projects",
        browse_id: "urn:browse:bebrowse:com.qad.erp.financials.projects",
        fields: &[
            (CODE, "project.projectCode"),
            (DESCRIPTION, "project.projectDescription"),
            (ACTIVE, "project.isActive"),
        ],
        filters: &[],
    },
    BuiltIn {
        name: "gl-accounts",
        lookup: "QAD GL Accounts",
        browse_id: "urn:browse:bebrowse:com.qad.erp.financials.glAccounts",
        fields: &[
            (CODE, "glAccount.glAccountCode"),
            (DESCRIPTION, "glAccount.description"),
            (ACTIVE, "glAccount.isActive"),
        ],
        filters: &[],
    },
];

/// The built-in lists, for a connection that shows none of them in Coupa.
pub(super) fn built_in_sources() -> BTreeMap<String, Source> {
    // What is built in has nothing wrong with it.
    LookupDocument::default().settings(&mut Vec::new()).sources
}

impl LookupDocument {
    /// The settings; what is wrong goes to `problems`.
    pub(super) fn settings(self, problems: &mut Vec<Problem>) -> LookupSettings {
        let mut given = self.sources;
        let mut sources = BTreeMap::new();
        for standard in &BUILT_IN {
            let document = given.remove(standard.name).unwrap_or_default();
            let one = source(standard.name, Some(standard), document, problems);
            sources.insert(standard.name.to_owned(), one);
        }
        for (name, document) in given {
            check_name("lookups.sources", &name, problems);
            let one = source(&name, None, document, problems);
            sources.insert(name, one);
        }
        let standard = |one: &BuiltIn| SyncDocument {
            lookup: one.lookup.to_owned(),
            source: one.name.to_owned(),
            change_percent_max: None,
            change_count_min: None,
        };
        let wanted = self
            .sync
            .unwrap_or_else(|| BUILT_IN.iter().map(standard).collect());
        if wanted.len() > LOOKUPS_MAX {
            let actual = wanted.len().to_string();
            problems.push(invalid(
                "lookups.sync",
                format!("at most {LOOKUPS_MAX} lookups"),
                actual,
            ));
        }
        check_percent("lookups.change_percent_max", self.change_percent_max, problems);
        let mut seen = BTreeSet::new();
        let mut syncs = Vec::new();
        for (index, one) in wanted.into_iter().enumerate() {
            let at = |name: &str| format!("lookups.sync[{index}].{name}");
            let lookup = one.lookup.trim().to_owned();
            check_name(&at("lookup"), &lookup, problems);
            if !seen.insert(domain::ids::fold(&lookup)) {
                problems.push(invalid(&at("lookup"), "each lookup once", lookup.as_str()));
            }
            if !sources.contains_key(&one.source) {
                let known: Vec<&str> = sources.keys().map(String::as_str).collect();
                let expected = format!("one of {}", known.join(", "));
                problems.push(invalid(&at("source"), expected, one.source.as_str()));
            }
            let percent = one.change_percent_max.unwrap_or(self.change_percent_max);
            check_percent(&at("change_percent_max"), percent, problems);
            syncs.push(LookupSync {
                lookup,
                source: one.source,
                policy: ChangeShare {
                    change_percent_max: percent,
                    change_count_min: one.change_count_min.unwrap_or(self.change_count_min),
                },
            });
        }
        LookupSettings { syncs, sources }
    }
}

pub(super) fn check_percent(field: &str, percent: u32, problems: &mut Vec<Problem>) {
    if percent > 100 {
        problems.push(invalid(field, "0 to 100", percent.to_string()));
    }
}

fn check_name(field: &str, name: &str, problems: &mut Vec<Problem>) {
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARACTERS_MAX || name.chars().any(char::is_control) {
        let expected = format!("1 to {NAME_CHARACTERS_MAX} characters without control characters");
        problems.push(invalid(field, expected, name));
    }
}

fn words(words: [&str; 4]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

fn source(
    name: &str,
    standard: Option<&BuiltIn>,
    document: SourceDocument,
    problems: &mut Vec<Problem>,
) -> Source {
    let at = |setting: &str| format!("lookups.sources.{name}.{setting}");
    let fields = fields(&at("fields"), standard, document.fields, problems);
    let browse_id = document
        .browse_id
        .or_else(|| standard.map(|one| one.browse_id.to_owned()))
        .unwrap_or_default();
    require(&at("browse_id"), &browse_id, problems);
    let path = document.path.unwrap_or_else(|| BROWSE_PATH.to_owned());
    super::check_path(&at("path"), &path, problems);
    let page_rows = document.page_rows.unwrap_or(PAGE_ROWS_DEFAULT);
    if !(1..=PAGE_ROWS_MAX).contains(&page_rows) {
        let expected = format!("1 to {PAGE_ROWS_MAX}");
        problems.push(invalid(&at("page_rows"), expected, page_rows.to_string()));
    }
    let texts = document.filters.unwrap_or_else(|| {
        let standard = standard.map(|one| one.filters).unwrap_or_default();
        standard.iter().map(|text| (*text).to_owned()).collect()
    });
    let mut filters = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match filter(text) {
            Some(filter) => filters.push(filter),
            None => {
                let operators = SourceFilter::OPERATORS.join(" ");
                let expected = format!("field,operator,value with an operator of {operators}");
                problems.push(invalid(
                    &at(&format!("filters[{index}]")),
                    expected,
                    text.as_str(),
                ));
            }
        }
    }
    Source {
        resource: Resource {
            family: Family::Browse,
            path,
            browse_id,
            view: String::new(),
            plural: String::new(),
            bdoc_path: String::new(),
            page_rows,
            filters: BTreeMap::new(),
            fields,
            extra_query: document.extra_query,
        },
        filters,
        active_words: document.active_words.unwrap_or_else(|| words(Source::WORDS.0)),
        inactive_words: document.inactive_words.unwrap_or_else(|| words(Source::WORDS.1)),
    }
}

/// The built-in names of a source's fields with the connection's laid over them.
fn fields(
    at: &str,
    standard: Option<&BuiltIn>,
    given: BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    const KNOWN: [&str; 4] = [CODE, DESCRIPTION, ACTIVE, PARENT];
    let mut fields: BTreeMap<String, String> = standard
        .map(|one| one.fields)
        .unwrap_or_default()
        .iter()
        .map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned()))
        .collect();
    for (ours, theirs) in given {
        if !KNOWN.contains(&ours.as_str()) {
            let expected = format!("one of {}", KNOWN.join(", "));
            problems.push(invalid(&format!("{at}.{ours}"), expected, ours.as_str()));
        } else if theirs.trim().is_empty() {
            // "" says that the browse has no such field.
            fields.remove(&ours);
        } else {
            fields.insert(ours, theirs.trim().to_owned());
        }
    }
    let code = fields.get(CODE).map_or("", String::as_str);
    require(&format!("{at}.{CODE}"), code, problems);
    fields
}

/// `{domain}` and `{entity}` stand for those of whoever asks.
fn filter(text: &str) -> Option<SourceFilter> {
    let mut parts = text.splitn(3, ',').map(str::trim);
    let (field, word, value) = (parts.next()?, parts.next()?, parts.next()?);
    let operator = *SourceFilter::OPERATORS.iter().find(|known| **known == word)?;
    // A comma would end the value inside the filter, and QAD documents no escape for it.
    (!field.is_empty() && !value.contains(',')).then(|| SourceFilter {
        field: field.to_owned(),
        operator,
        value: value.to_owned(),
    })
}
