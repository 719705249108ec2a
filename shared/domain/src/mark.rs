//! The mark in QAD's description by which we know the document of one Coupa invoice: `Coupa <id>`, and where an installation
//! serves more than one Coupa instance, `Coupa <instance>/<id>`.

use crate::ids::{InvoiceId, fold};

/// Longest name of an instance, in characters: QAD's description has room for it beside the id.
pub const INSTANCE_CHARACTERS_MAX: usize = 12;

/// What every mark begins with.
const BEGINS: &str = "Coupa ";

/// Whether an instance may have this name: a letter, then letters, digits, `-` and `_`. A number in front of the slash would
/// read as the id of an earlier mark.
pub fn is_instance(name: &str) -> bool {
    name.chars().count() <= INSTANCE_CHARACTERS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_')
}

/// The mark of an invoice of the named instance; a blank name is none.
pub fn of(instance: &str, id: InvoiceId) -> String {
    match instance.trim() {
        "" => format!("{BEGINS}{id}"),
        named => format!("{BEGINS}{named}/{id}"),
    }
}

/// A mark that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark<'a> {
    /// The instance; `None` in the marks of before, and where an installation serves one instance.
    pub instance: Option<&'a str>,
    /// Coupa's id.
    pub id: InvoiceId,
}

impl std::fmt::Display for Mark<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.instance {
            Some(instance) => write!(formatter, "{instance}/{}", self.id),
            None => write!(formatter, "{}", self.id),
        }
    }
}

impl<'a> Mark<'a> {
    /// Reads the mark that a description begins with; `None` for anything else.
    pub fn read(description: &'a str) -> Option<Self> {
        let rest = description.trim().strip_prefix(BEGINS)?;
        let (instance, number) = match rest.split_once('/') {
            Some((name, number)) if is_instance(name) => (Some(name), number),
            _ => (None, rest),
        };
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        let after = number.get(digits.len()..)?;
        if after.starts_with(char::is_alphanumeric) {
            return None;
        }
        Some(Self {
            instance,
            id: InvoiceId(digits.parse().ok()?),
        })
    }

    /// Whether it is the mark of this invoice of the named instance. A mark without an instance is ours, as it always was; one
    /// with an instance is only that instance's, also where this connection has no name.
    pub fn is_of(&self, instance: &str, id: InvoiceId) -> bool {
        self.id == id && self.instance.is_none_or(|named| fold(named) == fold(instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_ours(description: &str, instance: &str) -> Option<bool> {
        Mark::read(description).map(|mark| mark.is_of(instance, InvoiceId(12)))
    }

    #[test]
    fn marks_of_before_are_read_as_ours_and_those_of_another_instance_are_not() {
        for (description, instance, expected) in [
            ("Coupa 12", "", Some(true)),
            ("Coupa 12", "acme", Some(true)),
            ("Coupa acme/12", "acme", Some(true)),
            (" Coupa ACME/12, changed ", "acme", Some(true)),
            ("Coupa other/12", "acme", Some(false)),
            ("Coupa acme/12", "", Some(false)),
            ("Coupa acme/13", "acme", Some(false)),
            ("Coupa 123", "acme", Some(false)),
            // No name of an instance: a number and something behind it.
            ("Coupa 12/2026", "acme", Some(true)),
            ("Coupa acme/12a", "acme", None),
            ("Coupa acme/", "acme", None),
            ("Coupa invoice", "acme", None),
            ("Freight", "acme", None),
        ] {
            assert_eq!(
                is_ours(description, instance),
                expected,
                "{description:?} {instance:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(instance in "([a-zA-Z][a-zA-Z0-9_-]{0,11})?", id in any::<u64>()) {
            let written = of(&instance, InvoiceId(id));
            let mark = Mark::read(&written).unwrap();
            prop_assert_eq!(mark.id, InvoiceId(id));
            prop_assert!(mark.is_of(&instance, InvoiceId(id)));
            prop_assert_eq!(mark.instance.unwrap_or_default(), instance.as_str());
        }

        #[test]
        fn no_description_makes_it_panic(description in "\\PC{0,40}") {
            let _ = Mark::read(&description);
        }
    }
}
