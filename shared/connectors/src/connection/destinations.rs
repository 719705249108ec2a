//! Settings about lines that no receiver takes, how Coupa's accounts become QAD's coding, and how Coupa's numbers become
//! QAD's.

use super::invalid;
use domain::ids::fold;
use domain::policy::{CodedField, Coding, LinePolicy, OnLine, OnOrderOnlyInCoupa};
use domain::problem::Problem;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Longest number that is filled up with zeros, in characters.
const PAD_MAX: usize = 20;

/// The section `lines`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LineDocument {
    without_order: OnLine,
    negative: OnLine,
    price_adjustment: OnLine,
    without_receipt: OnLine,
    order_only_in_coupa: OnOrderOnlyInCoupa,
}

impl LineDocument {
    /// The settings. What goes to the general ledger needs accounts, and what Coupa has matched needs Coupa's orders.
    pub(super) fn settings(
        self,
        has_coding: bool,
        reads_orders: bool,
        problems: &mut Vec<Problem>,
    ) -> LinePolicy {
        let to_ledger = [
            ("without_order", self.without_order == OnLine::Gl),
            ("negative", self.negative == OnLine::Gl),
            ("price_adjustment", self.price_adjustment == OnLine::Gl),
            ("without_receipt", self.without_receipt == OnLine::Gl),
            (
                "order_only_in_coupa",
                self.order_only_in_coupa == OnOrderOnlyInCoupa::Gl,
            ),
        ];
        for (name, _) in to_ledger.iter().filter(|(_, on)| *on && !has_coding) {
            problems.push(invalid(
                "coding.gl_account",
                format!("the field of Coupa's account with QAD's account, because lines.{name} is \"gl\""),
                "nothing",
            ));
        }
        for (name, _) in to_ledger.iter().skip(3).filter(|(_, on)| *on && !reads_orders) {
            problems.push(invalid(
                "coupa.orders.read",
                format!("true, because lines.{name} is \"gl\" and needs what Coupa's order says"),
                "false",
            ));
        }
        LinePolicy {
            without_order: self.without_order,
            negative: self.negative,
            price_adjustment: self.price_adjustment,
            without_receipt: self.without_receipt,
            order_only_in_coupa: self.order_only_in_coupa,
        }
    }
}

/// The section `coding`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodingDocument {
    gl_account: CodedFieldDocument,
    #[serde(default)]
    sub_account: Option<CodedFieldDocument>,
    #[serde(default)]
    cost_center: Option<CodedFieldDocument>,
    #[serde(default)]
    project: Option<CodedFieldDocument>,
}

/// A field of Coupa's account, as it is written: by its name alone, or with a map of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CodedFieldDocument(CodedField);

/// The long form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MappedFieldDocument {
    field: String,
    #[serde(default)]
    map: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for CodedFieldDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CodedFieldVisitor)
    }
}

/// Reads both forms; an untagged enum would take a misspelt name in silence, and could not say which ones there are.
struct CodedFieldVisitor;

impl<'de> Visitor<'de> for CodedFieldVisitor {
    type Value = CodedFieldDocument;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a field of Coupa's account, or a table with field and map")
    }

    fn visit_str<E: serde::de::Error>(self, field: &str) -> Result<Self::Value, E> {
        Ok(CodedFieldDocument(CodedField {
            field: field.to_owned(),
            map: BTreeMap::new(),
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let MappedFieldDocument { field, map } =
            MappedFieldDocument::deserialize(MapAccessDeserializer::new(map))?;
        Ok(CodedFieldDocument(CodedField { field, map }))
    }
}

impl CodingDocument {
    /// The settings.
    pub(super) fn settings(self, problems: &mut Vec<Problem>) -> Coding {
        let mut read = |name: &str, CodedFieldDocument(field): CodedFieldDocument| {
            let known = field.field == "code"
                || field.field == "name"
                || field
                    .field
                    .strip_prefix("segment-")
                    .and_then(|number| number.parse::<u32>().ok())
                    .is_some_and(|number| (1..=20).contains(&number));
            if !known {
                problems.push(invalid(
                    &format!("coding.{name}"),
                    "code, name or segment-1 to segment-20",
                    &field.field,
                ));
            }
            field
        };
        Coding {
            gl_account: read("gl_account", self.gl_account),
            sub_account: self.sub_account.map(|field| read("sub_account", field)),
            cost_center: self.cost_center.map(|field| read("cost_center", field)),
            project: self.project.map(|field| read("project", field)),
        }
    }
}

/// How a number of Coupa's becomes QAD's: the value of a field; what `map` says of it is final; else the prefix is taken off,
/// zeros are filled in on the left, and a prefix is put on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberMap {
    /// Field, with dots into objects, for example `order-line-custom-fields.cf-qad-order`.
    pub field: String,
    /// Coupa's value = QAD's, as it is.
    pub map: BTreeMap<String, String>,
    /// Taken off the front when it is there.
    pub strip_prefix: String,
    /// Filled up with zeros on the left to so many characters; 0: not.
    pub pad_to: usize,
    /// Put on the front.
    pub add_prefix: String,
}

/// A number map as it is written: the field has a default of its own for each number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberMapDocument {
    field: Option<String>,
    #[serde(default)]
    map: BTreeMap<String, String>,
    #[serde(default)]
    strip_prefix: String,
    #[serde(default)]
    pad_to: usize,
    #[serde(default)]
    add_prefix: String,
}

/// Reads a number map whose field is `own` unless it is given.
pub(super) fn number_map<'de, D: Deserializer<'de>>(
    deserializer: D,
    own: &str,
) -> Result<NumberMap, D::Error> {
    let written = NumberMapDocument::deserialize(deserializer)?;
    Ok(NumberMap {
        field: written.field.unwrap_or_else(|| own.to_owned()),
        map: written.map,
        strip_prefix: written.strip_prefix,
        pad_to: written.pad_to,
        add_prefix: written.add_prefix,
    })
}

impl NumberMap {
    /// The value of a field as it is.
    pub fn of(field: &str) -> Self {
        Self {
            field: field.to_owned(),
            map: BTreeMap::new(),
            strip_prefix: String::new(),
            pad_to: 0,
            add_prefix: String::new(),
        }
    }

    /// QAD's number of a value of Coupa's.
    pub fn apply(&self, value: &str) -> String {
        let value = value.trim();
        if let Some(mapped) = self.map.get(value) {
            return mapped.clone();
        }
        let stripped = value.strip_prefix(self.strip_prefix.as_str()).unwrap_or(value);
        let missing = self.pad_to.saturating_sub(stripped.chars().count());
        format!("{}{}{stripped}", self.add_prefix, "0".repeat(missing))
    }

    /// A value of Coupa's that becomes this number of QAD's, the shortest one; `None` when none does.
    pub fn reverse(&self, number: &str) -> Option<String> {
        let is_it = |value: &String| fold(&self.apply(value)) == fold(number);
        if let Some((value, _)) = self.map.iter().find(|(value, _)| is_it(value)) {
            return Some(value.clone());
        }
        let rest = number.strip_prefix(self.add_prefix.as_str())?;
        let unfilled = rest.trim_start_matches('0');
        let unfilled = if self.pad_to > 0 && !unfilled.is_empty() {
            unfilled
        } else {
            rest
        };
        [unfilled, rest]
            .map(|end| format!("{}{end}", self.strip_prefix))
            .into_iter()
            .find(is_it)
    }

    /// What is wrong with it.
    pub(super) fn check(&self, name: &str, problems: &mut Vec<Problem>) {
        if self.field.trim().is_empty() {
            problems.push(invalid(&format!("{name}.field"), "a value", "nothing"));
        }
        if self.pad_to > PAD_MAX {
            let actual = self.pad_to.to_string();
            problems.push(invalid(
                &format!("{name}.pad_to"),
                format!("at most {PAD_MAX}"),
                actual,
            ));
        }
        for (value, _) in self.map.iter().filter(|(_, target)| target.trim().is_empty()) {
            problems.push(invalid(&format!("{name}.map.{value}"), "a value", "nothing"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_mapped_or_stripped_filled_up_and_prefixed_in_this_order() {
        let map = NumberMap {
            map: [("QAD-1".to_owned(), "SPECIAL".to_owned())].into(),
            strip_prefix: "QAD-".to_owned(),
            pad_to: 6,
            add_prefix: "PO".to_owned(),
            ..NumberMap::of("po-number")
        };
        for (value, expected) in [
            (" QAD-1 ", "SPECIAL"),
            ("QAD-12", "PO000012"),
            ("1234567", "PO1234567"),
            ("", "PO000000"),
        ] {
            assert_eq!(map.apply(value), expected, "{value:?}");
        }
        assert_eq!(NumberMap::of("x").apply("00123"), "00123");
    }

    /// Whatever number is written into Coupa is read back as the code it was written for.
    #[test]
    fn a_number_written_back_is_read_as_itself() {
        let map = NumberMap {
            map: [("ACME".to_owned(), "S9".to_owned())].into(),
            strip_prefix: "V-".to_owned(),
            pad_to: 6,
            ..NumberMap::of("supplier.number")
        };
        for (code, number) in [
            ("s9", Some("ACME")),
            ("000123", Some("V-123")),
            ("1234567", Some("V-1234567")),
            ("000000", Some("V-000000")),
            // Shorter than what is filled up: no number of Coupa's becomes it.
            ("123", None),
        ] {
            assert_eq!(map.reverse(code).as_deref(), number, "{code}");
            if let Some(number) = number {
                assert_eq!(fold(&map.apply(number)), fold(code));
            }
        }
        let prefixed = NumberMap {
            add_prefix: "10S".to_owned(),
            ..NumberMap::of("supplier.number")
        };
        assert_eq!(prefixed.reverse("10S1001").as_deref(), Some("1001"));
        assert_eq!(prefixed.reverse("20S1001"), None);
        assert_eq!(
            NumberMap::of("supplier.number").reverse("S001").as_deref(),
            Some("S001")
        );
    }

    #[test]
    fn a_field_of_the_account_is_a_name_or_a_table_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<CodedFieldDocument>(text).map(|read| read.0);
        assert_eq!(read("\"segment-1\"").unwrap().field, "segment-1");
        let mapped = read(r#"{ "field": "code", "map": { "100": "6100" } }"#).unwrap();
        assert_eq!(
            (mapped.field.as_str(), mapped.map["100"].as_str()),
            ("code", "6100")
        );
        for (wrong, told) in [
            (
                r#"{ "field": "code", "mapp": {} }"#,
                "unknown field `mapp`, expected `field` or `map`",
            ),
            (r#"{ "map": {} }"#, "missing field `field`"),
            ("7", "a field of Coupa's account"),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
