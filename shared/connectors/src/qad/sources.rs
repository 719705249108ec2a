//! QAD's lists behind Coupa's lookups: cost centers, projects, accounts, any browse by configuration.

use super::QadClient;
use super::profile::Resource;
use super::translate::{Row, UNREADABLE, UNREADABLE_FIX};
use super::wire::{Criterion, Operator};
use crate::json::{Misread, Node};
use async_trait::async_trait;
use domain::ids::{DomainCode, EntityCode, fold};
use domain::lookups::{LookupCode, QadValue, VALUES_MAX};
use domain::problem::Problem;
use flows::ports::{QadSources, ReadError, SourceScan};

/// One list of QAD, as the connection describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The browse, and our names of its fields: code, description, active, parent.
    pub resource: Resource,
    /// What narrows it.
    pub filters: Vec<SourceFilter>,
    /// Words of the active flag that mean yes; compared without case and blanks.
    pub active_words: Vec<String>,
    /// Words of the active flag that mean no.
    pub inactive_words: Vec<String>,
}

impl Source {
    /// Words that mean yes in an active flag, and those that mean no, unless a connection names others.
    pub const WORDS: ([&'static str; 4], [&'static str; 4]) =
        (["true", "yes", "y", "1"], ["false", "no", "n", "0"]);

    /// A list that nothing narrows.
    pub(super) fn whole(resource: Resource) -> Self {
        let (active, inactive) = Self::WORDS;
        Self {
            resource,
            filters: Vec::new(),
            active_words: active.map(str::to_owned).to_vec(),
            inactive_words: inactive.map(str::to_owned).to_vec(),
        }
    }

    /// As one entity asks for it: `{domain}` and `{entity}` stand for its own.
    fn within(&self, domain: &DomainCode, entity: &EntityCode) -> Self {
        let mut source = self.clone();
        for filter in &mut source.filters {
            filter.value = filter
                .value
                .replace("{domain}", domain.as_str())
                .replace("{entity}", entity.as_str());
        }
        source
    }
}

/// `field,operator,value` of a browse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFilter {
    /// The tenant's field.
    pub field: String,
    /// One of [`SourceFilter::OPERATORS`].
    pub operator: &'static str,
    /// What it is compared with; `{domain}` and `{entity}` stand for those of whoever asks.
    pub value: String,
}

impl SourceFilter {
    /// What a browse can compare (seen).
    pub const OPERATORS: [&'static str; 8] = ["eq", "gt", "ge", "lt", "le", "cn", "sw", "ew"];
    const EQUAL: &'static str = "eq";
}

/// Our name of the field that holds a value's code.
pub const CODE: &str = "code";
/// Our name of the field that holds its description.
pub const DESCRIPTION: &str = "description";
/// Our name of the field that says whether it may be used.
pub const ACTIVE: &str = "active";
/// Our name of the field that holds the code of the value above.
pub const PARENT: &str = "parent";

/// Reads rows. One that cannot be read is told with its code, so that its value is left alone; one without even that
/// could be any value.
fn values(rows: &[Row<'_>], source: &Source) -> SourceScan {
    let mut scan = SourceScan::default();
    for row in rows {
        match value(row, source) {
            Ok(value) => scan.values.push(value),
            Err(misread) => {
                let code = row.get(CODE).parsed::<LookupCode>().ok().flatten();
                let fix = match &code {
                    Some(_) => UNREADABLE_FIX,
                    None => {
                        "Correct the record in QAD, or the name of the code field; until then no value is deactivated for not being in the list."
                    }
                };
                scan.unreadable.push((code, misread.problem(UNREADABLE, fix)));
            }
        }
    }
    scan
}

fn value(row: &Row<'_>, source: &Source) -> Result<QadValue, Misread> {
    // QAD must have honoured our filters where the row shows it.
    for filter in source
        .filters
        .iter()
        .filter(|filter| filter.operator == SourceFilter::EQUAL)
    {
        let shown = row.raw(&filter.field);
        if !shown.is_null()
            && shown.text()?.map(|text| fold(&text)).unwrap_or_default() != fold(&filter.value)
        {
            return Err(shown.misread(format!("{}, which was asked for", filter.value)));
        }
    }
    let mapped = |name: &str| source.resource.fields.contains_key(name);
    Ok(QadValue {
        code: row.get(CODE).required("a code")?,
        description: if mapped(DESCRIPTION) {
            row.present(DESCRIPTION)?.text()?.unwrap_or_default()
        } else {
            String::new()
        },
        active: if mapped(ACTIVE) {
            is_active(&row.present(ACTIVE)?, source)?
        } else {
            true
        },
        parent: if mapped(PARENT) {
            row.present(PARENT)?.parsed()?
        } else {
            None
        },
    })
}

/// A word that is in neither list is never guessed: the row is unreadable, and its value is left alone.
fn is_active(field: &Node<'_>, source: &Source) -> Result<bool, Misread> {
    if let Ok(Some(flag)) = field.flag() {
        return Ok(flag);
    }
    let word = fold(&field.text()?.unwrap_or_default());
    let is_in = |words: &[String]| words.iter().any(|known| fold(known) == word);
    if is_in(&source.active_words) {
        Ok(true)
    } else if is_in(&source.inactive_words) {
        Ok(false)
    } else {
        let known = [source.active_words.join(", "), source.inactive_words.join(", ")];
        Err(field.misread(format!("one of {}", known.join(", "))))
    }
}

#[async_trait]
impl QadSources for QadClient {
    async fn source_values(&self, name: &str) -> Result<SourceScan, ReadError> {
        let Some(source) = self.sources.get(name) else {
            let fix = "Describe the source in lookups.sources, or name one that is.";
            let known: Vec<&str> = self.sources.keys().map(String::as_str).collect();
            return Err(ReadError::Refused(
                Problem::new("LOOKUP_SOURCE_UNKNOWN", fix)
                    .field("lookups.sources")
                    .expected(known.join(", "))
                    .actual(name),
            ));
        };
        self.read_source(name, source).await
    }
}

impl QadClient {
    /// Reads a list as this client's entity sees it.
    pub(super) async fn read_source(&self, name: &str, source: &Source) -> Result<SourceScan, ReadError> {
        let source = source.within(&self.domain, &self.entity);
        let criteria: Vec<Criterion> = source
            .filters
            .iter()
            .map(|filter| Criterion {
                name: filter.field.clone().into(),
                operator: Operator::Word(filter.operator),
                value: filter.value.clone(),
            })
            .collect();
        let rows = self.rows("list_source", &source.resource, &criteria).await?;
        if rows.len() > VALUES_MAX {
            let fix = "Narrow the source with lookups.sources.<name>.filters.";
            return Err(ReadError::Refused(
                Problem::new("LOOKUP_SOURCE_TOO_LARGE", fix)
                    .field(format!("lookups.sources.{name}"))
                    .expected(format!("at most {VALUES_MAX} values"))
                    .actual(rows.len().to_string()),
            ));
        }
        Ok(values(&self.view(&rows, &source.resource), &source))
    }
}
