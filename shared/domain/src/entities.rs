//! Whose invoice is it: a connection serves one or more QAD entities, and fields of the Coupa invoice say which of them.
//!
//! The answer is a total function of the values and the conditions. Nothing is guessed: what fits no entity is another
//! ERP's and left alone, what fits two, or fits one only in part, is a person's.

use crate::ids::EntityCode;
use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Code of an invoice that no entity of the connection takes: it is left alone.
pub const OUT_OF_SCOPE: &str = "OUT_OF_SCOPE";
/// Code of an invoice that more than one entity takes, or one entity in part.
pub const ENTITY_AMBIGUOUS: &str = "ENTITY_AMBIGUOUS";
/// Code of an invoice that is under way in an entity which the connection does not name any more.
pub const ENTITY_NOT_CONFIGURED: &str = "ENTITY_NOT_CONFIGURED";

/// Most entities of one connection.
pub const ENTITIES_MAX: usize = 50;
/// Most conditions of one entity.
pub const CONDITIONS_MAX: usize = 10;

/// The values that stand at the fields which conditions ask for, by the field's path: one for a plain field, one for each
/// element where the path leads through a list, `None` where nothing stands.
pub type FieldValues = BTreeMap<String, Vec<Option<String>>>;

/// One field and the values it must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Path of a field of the Coupa invoice, with dots into objects and through lists.
    pub field: String,
    /// The values that fit.
    pub is: Vec<String>,
}

/// How far values fit a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// No value does.
    No,
    /// Some elements of a list do.
    InPart,
    /// All values do.
    Whole,
}

impl Condition {
    fn fit(&self, values: &FieldValues) -> Fit {
        let values = values.get(&self.field).map_or(&[][..], Vec::as_slice);
        let fits = |value: &&Option<String>| {
            value
                .as_deref()
                .is_some_and(|value| self.is.iter().any(|wanted| wanted.trim() == value.trim()))
        };
        match values.iter().filter(fits).count() {
            0 => Fit::No,
            fitting if fitting == values.len() => Fit::Whole,
            _ => Fit::InPart,
        }
    }
}

/// One entity and the conditions under which an invoice is its; without any, every invoice is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityRule {
    /// The QAD entity.
    pub code: EntityCode,
    /// All must hold.
    pub when: Vec<Condition>,
}

impl EntityRule {
    fn fit(&self, values: &FieldValues) -> Fit {
        let fits = self.when.iter().map(|condition| condition.fit(values));
        fits.min().unwrap_or(Fit::Whole)
    }
}

/// Whose an invoice is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This entity's.
    Mine(EntityCode),
    /// No entity's: another ERP's.
    OutOfScope,
    /// It cannot be told: these fit, in whole or in part.
    Ambiguous(Vec<EntityCode>),
}

/// Whose an invoice with these values is.
pub fn whose<'a>(rules: impl IntoIterator<Item = &'a EntityRule>, values: &FieldValues) -> Whose {
    let fitting: Vec<(&EntityRule, Fit)> = rules
        .into_iter()
        .map(|rule| (rule, rule.fit(values)))
        .filter(|(_, fit)| *fit != Fit::No)
        .collect();
    match fitting.as_slice() {
        [] => Whose::OutOfScope,
        [(rule, Fit::Whole)] => Whose::Mine(rule.code.clone()),
        several => Whose::Ambiguous(several.iter().map(|(rule, _)| rule.code.clone()).collect()),
    }
}

/// The paths that these entities' conditions ask for, each once.
pub fn fields<'a>(rules: impl IntoIterator<Item = &'a EntityRule>) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> = rules
        .into_iter()
        .flat_map(|rule| rule.when.iter().map(|condition| &condition.field))
        .collect();
    all.into_iter().cloned().collect()
}

/// The values in words: `account-type.name is "SAP Europe"`.
pub fn told(values: &FieldValues) -> String {
    let field = |(path, values): (&String, &Vec<Option<String>>)| {
        let distinct: std::collections::BTreeSet<String> = values
            .iter()
            .map(|value| {
                value
                    .as_ref()
                    .map_or_else(|| "nothing".to_owned(), |text| format!("{text:?}"))
            })
            .collect();
        let words: Vec<String> = distinct.into_iter().collect();
        let words = if words.is_empty() {
            "nothing".to_owned()
        } else {
            words.join(" and ")
        };
        format!("{path} is {words}")
    };
    values.iter().map(field).collect::<Vec<_>>().join(", ")
}

/// Whose a number of invoices are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Census {
    /// Invoices that one entity takes.
    pub taken: usize,
    /// Invoices that a person has to say it of.
    pub ambiguous: usize,
    /// Invoices that no entity takes, by what stands at the fields of the conditions.
    pub untaken: BTreeMap<String, usize>,
    /// All of them, by what stands at the fields.
    #[serde(skip)]
    pub values: BTreeMap<String, usize>,
    /// False when there are more than were counted.
    pub whole: bool,
}

impl Census {
    /// Counts these; without a rule everything is the one entity's.
    pub fn of(rules: &[EntityRule], all: &[FieldValues], whole: bool) -> Self {
        let mut census = Self {
            whole,
            ..Self::default()
        };
        for values in all {
            let told = told(values);
            let whose = if rules.is_empty() {
                None
            } else {
                Some(whose(rules, values))
            };
            match whose {
                None | Some(Whose::Mine(_)) => census.taken = census.taken.saturating_add(1),
                Some(Whose::Ambiguous(_)) => census.ambiguous = census.ambiguous.saturating_add(1),
                Some(Whose::OutOfScope) => count(&mut census.untaken, told.clone()),
            }
            count(&mut census.values, told);
        }
        census
    }

    /// How many no entity takes.
    pub fn left_alone(&self) -> usize {
        self.untaken
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Counts by value in words, the largest first.
    pub fn words(counts: &BTreeMap<String, usize>) -> String {
        let mut counts: Vec<(&String, &usize)> = counts.iter().collect();
        counts.sort_by_key(|(value, count)| (std::cmp::Reverse(**count), *value));
        let words: Vec<String> = counts
            .into_iter()
            .map(|(value, count)| format!("{value}: {count}"))
            .collect();
        words.join(", ")
    }
}

fn count(counts: &mut BTreeMap<String, usize>, value: String) {
    let count = counts.entry(value).or_default();
    *count = count.saturating_add(1);
}

/// Why an invoice is left alone.
pub fn out_of_scope(values: &FieldValues) -> Problem {
    Problem::new(
        OUT_OF_SCOPE,
        "Nothing to do. If it belongs to one of this connection's entities, correct its conditions or the invoice's account type.",
    )
    .field("entities")
    .expected("values that one entity of this connection takes")
    .actual(told(values))
}

/// Why a person has to say whose an invoice is.
pub fn ambiguous(entities: &[EntityCode], values: &FieldValues) -> Problem {
    let names: Vec<&str> = entities.iter().map(EntityCode::as_str).collect();
    Problem::new(
        ENTITY_AMBIGUOUS,
        "Code all of the invoice to one company in Coupa, or make the conditions of the entities exclude each other.",
    )
    .field("entities")
    .expected("exactly one entity that all of the invoice belongs to")
    .actual(format!("{} fit {}", told(values), names.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHART: &str = "account-type.name";

    fn rule(code: &str, when: &[(&str, &[&str])]) -> EntityRule {
        EntityRule {
            code: code.parse().unwrap(),
            when: when
                .iter()
                .map(|(field, is)| Condition {
                    field: (*field).to_owned(),
                    is: is.iter().map(|value| (*value).to_owned()).collect(),
                })
                .collect(),
        }
    }

    fn values(field: &str, values: &[&str]) -> FieldValues {
        let values = values
            .iter()
            .map(|value| Some((*value).to_owned()).filter(|value| !value.is_empty()));
        FieldValues::from([(field.to_owned(), values.collect())])
    }

    fn two() -> [EntityRule; 2] {
        [
            rule("10USACO", &[(CHART, &["QAD 10USA"])]),
            rule("20GERCO", &[(CHART, &["QAD 20GER"])]),
        ]
    }

    fn mine(code: &str) -> Whose {
        Whose::Mine(code.parse().unwrap())
    }

    #[test]
    fn the_chart_of_accounts_says_whose_an_invoice_is() {
        assert_eq!(whose(&two(), &values(CHART, &["QAD 10USA"])), mine("10USACO"));
        assert_eq!(whose(&two(), &values(CHART, &["QAD 20GER"])), mine("20GERCO"));
        assert_eq!(whose(&two(), &values(CHART, &["SAP Europe"])), Whose::OutOfScope);
        assert_eq!(whose(&two(), &values(CHART, &[""])), Whose::OutOfScope, "null");
        assert_eq!(whose(&two(), &FieldValues::new()), Whose::OutOfScope, "not there");
    }

    #[test]
    fn one_entity_without_conditions_takes_everything() {
        let one = [rule("10USACO", &[])];
        assert_eq!(whose(&one, &FieldValues::new()), mine("10USACO"));
        assert_eq!(whose(&one, &values(CHART, &["SAP Europe"])), mine("10USACO"));
    }

    #[test]
    fn two_entities_that_fit_are_a_persons() {
        let both = [two()[0].clone(), rule("30MEXCO", &[])];
        let found = whose(&both, &values(CHART, &["QAD 10USA"]));
        let codes = vec!["10USACO".parse().unwrap(), "30MEXCO".parse().unwrap()];
        assert_eq!(found, Whose::Ambiguous(codes));
    }

    #[test]
    fn the_elements_of_a_list_have_to_agree() {
        let path = "invoice-lines.account.account-type.name";
        let rules = [
            rule("10USACO", &[(path, &["QAD 10USA"])]),
            rule("20GERCO", &[(path, &["QAD 20GER"])]),
        ];
        let us_twice = values(path, &["QAD 10USA", "QAD 10USA"]);
        assert_eq!(whose(&rules, &us_twice), mine("10USACO"));
        for mixed in [["QAD 10USA", "SAP Europe"], ["QAD 10USA", ""]] {
            let found = whose(&rules, &values(path, &mixed));
            assert_eq!(
                found,
                Whose::Ambiguous(vec!["10USACO".parse().unwrap()]),
                "{mixed:?}"
            );
        }
        let two_of_ours = whose(&rules, &values(path, &["QAD 10USA", "QAD 20GER"]));
        assert!(matches!(two_of_ours, Whose::Ambiguous(codes) if codes.len() == 2));
        let none = whose(&rules, &values(path, &["SAP Europe", "SAP Asia"]));
        assert_eq!(none, Whose::OutOfScope);
        assert_eq!(whose(&rules, &values(path, &[])), Whose::OutOfScope, "no line");
    }

    #[test]
    fn all_conditions_of_an_entity_have_to_hold() {
        let one = [rule(
            "10USACO",
            &[(CHART, &["QAD 10USA"]), ("ship-to.country", &["US", "CA"])],
        )];
        let mut found = values(CHART, &["QAD 10USA"]);
        assert_eq!(whose(&one, &found), Whose::OutOfScope);
        found.extend(values("ship-to.country", &["CA"]));
        assert_eq!(whose(&one, &found), mine("10USACO"));
    }

    #[test]
    fn the_sentence_names_what_was_found() {
        let problem = out_of_scope(&values(CHART, &["SAP Europe"]));
        assert_eq!(problem.actual, r#"account-type.name is "SAP Europe""#);
    }

    #[test]
    fn what_no_entity_takes_is_counted_by_the_value_at_the_conditions_field() {
        let rules = [rule("10USACO", &[(CHART, &["QAD 10USA"])])];
        let value = |text: Option<&str>| -> FieldValues {
            [(CHART.to_owned(), vec![text.map(str::to_owned)])].into()
        };
        let mixed: FieldValues = [(
            CHART.to_owned(),
            vec![Some("QAD 10USA".to_owned()), Some("SAP Europe".to_owned())],
        )]
        .into();
        let all = [
            value(Some("QAD 10USA")),
            value(Some("SAP Europe")),
            value(Some("QAD 10 USA")),
            value(Some("SAP Europe")),
            value(None),
            mixed,
        ];
        let census = Census::of(&rules, &all, true);
        assert_eq!((census.taken, census.ambiguous, census.left_alone()), (1, 1, 4));
        assert_eq!(
            Census::words(&census.untaken),
            "account-type.name is \"SAP Europe\": 2, account-type.name is \"QAD 10 USA\": 1, \
             account-type.name is nothing: 1"
        );
        // Without a condition all of it is the one entity's, and what there is is still told.
        let census = Census::of(&[], &all[..2], true);
        assert_eq!(
            (census.taken, census.left_alone(), census.values.len()),
            (2, 0, 2)
        );
    }

    proptest! {
        /// Whatever the values are: an entity is named only when every one of them fits it, and no other fits at all.
        #[test]
        fn an_invoice_is_nobodys_by_guess(
            charts in prop::collection::vec(prop::sample::select(vec!["QAD 10USA", "QAD 20GER", "SAP", ""]), 0..5)
        ) {
            let found = whose(&two(), &values(CHART, &charts));
            let all = |chart: &str| !charts.is_empty() && charts.iter().all(|one| *one == chart);
            let any = |chart: &str| charts.contains(&chart);
            match found {
                Whose::Mine(code) if code.as_str() == "10USACO" => prop_assert!(all("QAD 10USA")),
                Whose::Mine(_) => prop_assert!(all("QAD 20GER")),
                Whose::OutOfScope => prop_assert!(!any("QAD 10USA") && !any("QAD 20GER")),
                Whose::Ambiguous(_) => prop_assert!(
                    (any("QAD 10USA") || any("QAD 20GER")) && !all("QAD 10USA") && !all("QAD 20GER")
                ),
            }
        }
    }
}
