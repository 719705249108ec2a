//! The right name beside a mistyped one.

/// Letters that may be wrong in a name, at most: one in three, and two in a short one.
fn errors_max(name: &str) -> usize {
    name.chars().count().checked_div(3).unwrap_or(0).max(2)
}

/// The known name that was most likely meant; `None` when none is near.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&typed, &name.to_lowercase()), name))
        .filter(|(errors, name)| *errors <= errors_max(name) && *errors < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

/// "Did you mean `demo`? " when a name is near; else nothing.
pub(crate) fn hint<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(typed, known).map_or_else(String::new, |name| format!("Did you mean `{name}`? "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_right_name_is_named_and_a_far_one_is_not() {
        let known = ["acme-us", "acme-de", "globex"];
        assert_eq!(nearest("globx", known), Some("globex"));
        assert_eq!(nearest("ACME-DE", known), Some("acme-de"));
        assert_eq!(nearest("acme-ed", known), Some("acme-de"));
        for far in ["initech", "", "x"] {
            assert_eq!(nearest(far, known), None, "{far}");
        }
        assert_eq!(
            nearest("ab", ["cd"]),
            None,
            "a name that shares no letter is not meant"
        );
    }
}
