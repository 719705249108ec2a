//! What a person may do here, by what the provider says about him.

use pages::Role;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most words of a claim that are looked at; who is in more groups than this should be given application roles instead.
const WORDS_MAX: usize = 2_000;

/// Which of the provider's words means which role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    claim: String,
    by_word: BTreeMap<String, BTreeSet<Role>>,
}

impl Roles {
    /// `text` is `role=word` pairs separated by semicolons, as `clerk=AP clerks;approver=AP leads`; a role and a word may come
    /// several times. Empty: each role is called by its own name.
    ///
    /// # Errors
    /// What cannot be read, in words.
    pub fn new(claim: &str, text: &str) -> Result<Self, String> {
        let mut by_word: BTreeMap<String, BTreeSet<Role>> = BTreeMap::new();
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (role, word) = pair
                .split_once('=')
                .map(|(role, word)| (role.trim(), word.trim()))
                .filter(|(_, word)| !word.is_empty())
                .ok_or_else(|| format!("{pair} is not role=word"))?;
            let role = Role::ALL
                .into_iter()
                .find(|known| known.word() == role)
                .ok_or_else(|| format!("{role} is no role"))?;
            by_word.entry(word.to_owned()).or_default().insert(role);
        }
        if by_word.is_empty() {
            for role in Role::ALL {
                by_word.insert(role.word().to_owned(), BTreeSet::from([role]));
            }
        }
        Ok(Self {
            claim: claim.to_owned(),
            by_word,
        })
    }

    /// The roles of the person that these claims are about; none when no word of the claim is known here.
    pub(crate) fn of(&self, claims: &Value) -> BTreeSet<Role> {
        let words: Vec<&str> = match claim(claims, &self.claim) {
            Some(Value::String(word)) => vec![word],
            Some(Value::Array(words)) => words.iter().take(WORDS_MAX).filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let known = words.into_iter().filter_map(|word| self.by_word.get(word));
        known.flatten().copied().collect()
    }
}

/// A claim by its name, or by its path when that begins with a slash, as `/realm_access/roles` (RFC 6901).
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if name.starts_with('/') {
        claims.pointer(name)
    } else {
        claims.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn roles(claim: &str, text: &str, claims: &Value) -> Vec<&'static str> {
        let roles = Roles::new(claim, text).unwrap().of(claims);
        roles.into_iter().map(Role::word).collect()
    }

    #[test]
    fn a_word_gives_the_roles_it_is_mapped_to_and_no_others() {
        let map = "clerk=AP clerks; approver = CN=leads,OU=ap ;auditor=AP clerks";
        for (claims, expected) in [
            (json!({"roles": ["AP clerks"]}), vec!["clerk", "auditor"]),
            (json!({"roles": "CN=leads,OU=ap"}), vec!["approver"]),
            (
                json!({"roles": ["ap clerks", "clerk", "approver", "", "CN=leads"]}),
                vec![],
            ),
            (json!({"roles": {"AP clerks": true}}), vec![]),
            (json!({"roles": [["AP clerks"], 7, null]}), vec![]),
            (json!({"roles": null, "groups": ["AP clerks"]}), vec![]),
            (json!({}), vec![]),
        ] {
            assert_eq!(roles("roles", map, &claims), expected, "{claims}");
        }
    }

    #[test]
    fn a_claim_may_lie_deeper_and_a_name_may_be_an_address() {
        let claims = json!({"realm_access": {"roles": ["clerk"]}, "https://example.com/roles": ["auditor"]});
        assert_eq!(roles("/realm_access/roles", "", &claims), ["clerk"]);
        assert_eq!(roles("https://example.com/roles", "", &claims), ["auditor"]);
        assert!(roles("realm_access", "", &claims).is_empty());
    }

    #[test]
    fn a_map_that_cannot_be_read_is_refused() {
        for text in [
            "clerk",
            "clerk=",
            "boss=AP",
            "=AP",
            "Clerk=AP",
            "clerk=AP,approver",
        ] {
            let is_refused = Roles::new("roles", text).is_err();
            assert_eq!(is_refused, text != "clerk=AP,approver", "{text}");
        }
    }
}
