//! What says that two suppliers are one, and what a link of the two would write over.
//!
//! A number is evidence. A tax id is evidence when it can be one at all and when nothing else speaks against it: people enter
//! fillers where a form demands a tax id. What falls short and still resembles is a person's to decide.

use super::{LinkedBy, Master, SupplierData, SupplierField, SupplierId, name_key};
use crate::ids::fold;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Fewest digits of a tax id that says who somebody is.
const TAX_ID_DIGITS_MIN: usize = 6;
/// What people enter where a form demands a tax id and there is none.
const TAX_ID_FILLERS: [&str; 5] = ["N/A", "NONE", "PENDING", "EXEMPT", "00-0000000"];
/// Most candidates that one proposal keeps.
pub(super) const CANDIDATES_MAX: usize = 10;
/// Most of them that its one sentence names: a sentence is cut where it gets too long.
pub(super) const CANDIDATES_TOLD_MAX: usize = 2;

/// What is entered where there is no tax id, in the form in which tax ids are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaxIdFillers(BTreeSet<String>);

impl TaxIdFillers {
    /// Those that people wrote down, however they spell them.
    pub fn new<T: AsRef<str>>(fillers: impl IntoIterator<Item = T>) -> Self {
        let keys = fillers.into_iter().map(|filler| name_key(filler.as_ref()));
        Self(keys.filter(|key| !key.is_empty()).collect())
    }

    /// Whether a tax id, in the form in which it is compared, can be one: enough digits, not one digit all over, no filler.
    pub fn leave(&self, key: &str) -> bool {
        let mut digits = key.chars().filter(char::is_ascii_digit);
        let first = digits.next();
        let others: Vec<char> = digits.collect();
        let enough = others.len().saturating_add(1) >= TAX_ID_DIGITS_MIN;
        enough && others.iter().any(|digit| Some(*digit) != first) && !self.0.contains(key)
    }
}

impl Default for TaxIdFillers {
    fn default() -> Self {
        Self::new(TAX_ID_FILLERS)
    }
}

/// Whom a supplier is known by, in the form in which it is compared. What it does not have says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Particulars {
    /// QAD's code, or the number in Coupa.
    pub number: Option<String>,
    /// Tax id.
    pub tax_id: Option<String>,
    /// Country code.
    pub country: Option<String>,
    /// Name.
    pub name: Option<String>,
}

impl Particulars {
    /// Those of a supplier of either side.
    pub fn new(number: Option<&str>, data: &SupplierData) -> Self {
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        let name = name_key(data.name());
        Self {
            number: number.map(fold).and_then(filled),
            tax_id: data.get(SupplierField::TaxId).map(name_key).and_then(filled),
            country: data.get(SupplierField::Country).map(fold).and_then(filled),
            // A name of marks alone is still another one than the next.
            name: filled(name).or_else(|| data.get(SupplierField::Name).map(fold)),
        }
    }
}

/// How two values of one particular stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// Both have it, and it is the same.
    Same,
    /// Both have it, and it is not.
    Differs,
    /// At least one does not have it: that speaks for nothing and against nothing.
    NotBoth,
}

impl Likeness {
    fn between(one: Option<&String>, other: Option<&String>) -> Self {
        match (one, other) {
            (Some(one), Some(other)) if one == other => Self::Same,
            (Some(_), Some(_)) => Self::Differs,
            _ => Self::NotBoth,
        }
    }
}

/// What two suppliers say of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Evidence {
    /// QAD's code and Coupa's number.
    pub number: Likeness,
    /// The tax ids.
    pub tax_id: Likeness,
    /// Whether the tax id that both have can be one.
    pub tax_id_plausible: bool,
    /// The countries.
    pub country: Likeness,
    /// The names.
    pub name: Likeness,
}

/// What the evidence allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are one.
    Link(LinkedBy),
    /// They may be one: a person decides.
    Resemble,
    /// Nothing says that they are one.
    Strangers,
}

impl Evidence {
    /// Compares two suppliers; which of them is which does not matter.
    pub fn between(one: &Particulars, other: &Particulars, fillers: &TaxIdFillers) -> Self {
        let tax_id = Likeness::between(one.tax_id.as_ref(), other.tax_id.as_ref());
        Self {
            number: Likeness::between(one.number.as_ref(), other.number.as_ref()),
            tax_id,
            tax_id_plausible: tax_id == Likeness::Same
                && one.tax_id.as_ref().is_some_and(|key| fillers.leave(key)),
            country: Likeness::between(one.country.as_ref(), other.country.as_ref()),
            name: Likeness::between(one.name.as_ref(), other.name.as_ref()),
        }
    }

    /// What it allows. A tax id belongs to a country: another one speaks against it. Where the country does not speak for
    /// it, another name speaks against it.
    pub fn verdict(&self) -> Verdict {
        let contradicted = self.country == Likeness::Differs
            || (self.country == Likeness::NotBoth && self.name == Likeness::Differs);
        match (self.number, self.tax_id, self.name) {
            (Likeness::Same, ..) => Verdict::Link(LinkedBy::Number),
            (Likeness::NotBoth, Likeness::Same, _) if self.tax_id_plausible && !contradicted => {
                Verdict::Link(LinkedBy::TaxId)
            }
            (_, Likeness::Same, _) | (_, _, Likeness::Same) => Verdict::Resemble,
            _ => Verdict::Strangers,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tax_id = match self.tax_id {
            Likeness::Same if self.tax_id_plausible => Some("same tax id"),
            Likeness::Same => Some("same text as tax id, which cannot be one"),
            Likeness::Differs => Some("other tax id"),
            Likeness::NotBoth => None,
        };
        let told = |likeness: Likeness, same: &'static str, other: &'static str| match likeness {
            Likeness::Same => Some(same),
            Likeness::Differs => Some(other),
            Likeness::NotBoth => None,
        };
        let words: Vec<&str> = [
            told(self.number, "same number", "other number"),
            tax_id,
            told(self.country, "same country", "other country"),
            told(self.name, "same name", "other name"),
        ]
        .into_iter()
        .flatten()
        .collect();
        formatter.write_str(&words.join(", "))
    }
}

/// What a link would write over; filling in what is empty is none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Replaced {
    /// The name in Coupa.
    NameInCoupa,
    /// The name in QAD.
    NameInQad,
    /// The number in Coupa.
    NumberInCoupa,
}

impl Replaced {
    /// What a link of two suppliers would write over, when the name follows this master.
    pub fn by_link(evidence: &Evidence, name: Master) -> Vec<Self> {
        let name = match name {
            Master::Qad | Master::Either => Some(Self::NameInCoupa),
            Master::Coupa => Some(Self::NameInQad),
            Master::Nobody => None,
        };
        let name = name.filter(|_| evidence.name == Likeness::Differs);
        let number = Some(Self::NumberInCoupa).filter(|_| evidence.number == Likeness::Differs);
        name.into_iter().chain(number).collect()
    }

    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NameInCoupa => "the name in Coupa",
            Self::NameInQad => "the name in QAD",
            Self::NumberInCoupa => "the number in Coupa",
        }
    }
}

/// Somebody on the other side who may be the same supplier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Who.
    pub id: SupplierId,
    /// In words: side, id, name and number.
    pub words: String,
    /// What speaks for it, and against it.
    pub evidence: Evidence,
    /// What a link would write over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<Replaced>,
}

impl fmt::Display for Candidate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}", self.words, self.evidence)?;
        if !self.replaces.is_empty() {
            let words: Vec<&str> = self.replaces.iter().map(|one| one.words()).collect();
            write!(formatter, "; a link would replace {}", words.join(" and "))?;
        }
        formatter.write_str(")")
    }
}
