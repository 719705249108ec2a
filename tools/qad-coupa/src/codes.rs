//! `codes`: what a code means and what mends it, from the very tables of the documentation.

use crate::Failure;
use crate::nearest;
use crate::output::{Column, ListOptions, Listing, Output, Row};
use clap::Args;
use domain::problem::Problem;
use serde_json::{Map, Value, json};

/// The documents whose tables name codes.
const DOCUMENTS: [&str; 3] = [
    include_str!("../../../docs/operate.md"),
    include_str!("../../../docs/codes.md"),
    include_str!("../../../docs/webhooks.md"),
];
/// What stands in the tables for each of the two systems.
const EITHER: &str = "…_";
/// Fewest letters of a word that is taken for a code.
const LETTERS_MIN: usize = 4;

/// What is asked about codes.
#[derive(Debug, Args)]
pub(crate) struct CodesOptions {
    /// The code, for example PRICE_OVER_TOLERANCE; left out, all of them.
    code: Option<String>,
    #[command(flatten)]
    list: ListOptions,
}

/// One code as a table tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    code: String,
    /// The other cells, each with its column.
    cells: Vec<(String, String)>,
}

/// The cells of a row of a table; `None` of any other line.
fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().to_owned()).collect())
}

/// The codes that the first cell of a row names.
fn named(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.chars().count() >= LETTERS_MIN)
        .filter(|word| {
            let rest = word.strip_prefix(EITHER).unwrap_or(word);
            rest.chars()
                .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
        })
        .flat_map(|word| match word.strip_prefix(EITHER) {
            Some(rest) => vec![format!("COUPA_{rest}"), format!("QAD_{rest}")],
            None => vec![word.to_owned()],
        })
        .collect()
}

fn all() -> Vec<Told> {
    let mut told = Vec::new();
    for document in DOCUMENTS {
        let mut columns: Vec<String> = Vec::new();
        for line in document.lines() {
            let Some(row) = cells(line) else {
                columns.clear();
                continue;
            };
            if columns.is_empty() {
                columns = row;
                continue;
            }
            let Some((first, rest)) = row.split_first() else {
                continue;
            };
            for code in named(first) {
                let cells = columns
                    .iter()
                    .skip(1)
                    .cloned()
                    .zip(rest.iter().cloned())
                    .collect();
                told.push(Told { code, cells });
            }
        }
    }
    told.sort_by(|one, two| one.code.cmp(&two.code));
    told.dedup_by(|one, two| one.code == two.code);
    told
}

fn words(text: &str) -> String {
    text.replace('`', "")
}

fn as_json(told: &Told) -> Value {
    let mut fields = Map::from_iter([("code".to_owned(), json!(told.code))]);
    fields.extend(
        told.cells
            .iter()
            .map(|(name, text)| (name.clone(), json!(words(text)))),
    );
    Value::Object(fields)
}

/// A code that is one of those the documentation tells, in its own letters.
///
/// # Errors
/// There is none of that name; the nearest is named.
pub(crate) fn known(text: &str) -> Result<String, String> {
    let wanted = text.trim().to_uppercase();
    let all = all();
    if all.iter().any(|told| told.code == wanted) {
        return Ok(wanted);
    }
    let hint = nearest::hint(&wanted, all.iter().map(|told| told.code.as_str()));
    Err(format!("{hint}`qad-coupa codes` lists them"))
}

/// `codes`.
pub(crate) fn run(options: &CodesOptions, out: &Output) -> Result<(), Failure> {
    let all = all();
    let Some(asked) = &options.code else {
        let row = |told: &Told| {
            let (name, text) = told.cells.first().cloned().unwrap_or_default();
            let said = if name.is_empty() { text } else { words(&text) };
            Row::new(as_json(told), vec![told.code.as_str().into(), said.into()])
        };
        let columns = [Column::word("Code"), Column::sentence("Means")];
        let count = format!(
            "{} codes; `qad-coupa codes CODE` tells what mends one.",
            all.len()
        );
        let rows = all.iter().map(row).collect();
        return out.list(Listing::new(&columns, rows).below([count]), &options.list);
    };
    let wanted = known(asked)
        .map_err(|fix| Failure::NotFound(Problem::new("CODE_UNKNOWN", fix).field("code").actual(asked)))?;
    for told in all.iter().filter(|told| told.code == wanted) {
        out.value(
            || as_json(told),
            |out| {
                out.line(&told.code);
                for (name, text) in &told.cells {
                    out.line(&format!("  {name}: {}", words(text)));
                }
            },
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_codes_is_read_and_a_mistyped_code_finds_its_neighbour() {
        let all = all();
        let told = |code: &str| all.iter().find(|told| told.code == code);
        for code in [
            "PRICE_OVER_TOLERANCE",
            "COUPA_UNREACHABLE",
            "QAD_UNREACHABLE",
            "BILL_WITHOUT_INVOICE",
        ] {
            let told = told(code).unwrap_or_else(|| panic!("{code}"));
            assert!(told.cells.iter().any(|(_, text)| !text.is_empty()), "{told:?}");
        }
        assert!(told("X").is_none());
        assert_eq!(known("price_over_tolerance").unwrap(), "PRICE_OVER_TOLERANCE");
        assert!(
            known("PRICE_OVER_TOLERANC")
                .unwrap_err()
                .contains("`PRICE_OVER_TOLERANCE`")
        );
    }
}
