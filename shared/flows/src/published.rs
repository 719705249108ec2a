//! What a connection's settings say that people without its credentials must know: kept in the register by the function that
//! posts, so that the page needs no access to Coupa, QAD or the connection's secret.

use crate::ports::{Commit, CommitError, RecordKey, RecordWrite, Register};
use crate::store::{Context, FlowError, parse, render};
use domain::instruction::SecondPerson;
use domain::money::Currency;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Above which amounts a release needs a second person, by currency.
    #[serde(default)]
    pub above: BTreeMap<String, Decimal>,
    /// How long a request waits for the second person, in milliseconds.
    #[serde(default)]
    pub valid_millis: i64,
}

impl Published {
    /// What these settings tell.
    pub fn of(rule: &SecondPerson) -> Self {
        let above = rule
            .above
            .iter()
            .map(|(currency, limit)| (currency.to_string(), *limit));
        Self {
            above: above.collect(),
            valid_millis: rule.valid_millis,
        }
    }

    /// The rule of the second person. A currency that cannot be read makes the rule stricter, never laxer: with any limit
    /// given, what has none needs two.
    pub fn second_person(&self) -> SecondPerson {
        let limit =
            |(currency, limit): (&String, &Decimal)| Some((currency.parse::<Currency>().ok()?, *limit));
        let mut above: BTreeMap<Currency, Decimal> = self.above.iter().filter_map(limit).collect();
        if above.is_empty()
            && !self.above.is_empty()
            && let Ok(none) = "XXX".parse()
        {
            above.insert(none, Decimal::ZERO);
        }
        SecondPerson {
            above,
            valid_millis: self.valid_millis,
        }
    }
}

fn key() -> RecordKey {
    RecordKey::Watermark("published".to_owned())
}

/// What this connection has told; `None` while it has not yet.
///
/// # Errors
/// No answer from the register, or a record this version cannot read.
pub async fn of(register: &dyn Register) -> Result<Option<Published>, FlowError> {
    let stored = register.read(&[key()]).await?.into_iter().next().flatten();
    stored.as_ref().map(parse).transpose()
}

/// Tells it, if it is not told already.
///
/// # Errors
/// No answer from the register. Somebody else who tells at the same time is no error: both read the same settings.
pub async fn publish(context: &Context<'_>, published: &Published) -> Result<(), FlowError> {
    let stored = context
        .register
        .read(&[key()])
        .await?
        .into_iter()
        .next()
        .flatten();
    let told: Option<Published> = stored.as_ref().map(parse).transpose()?;
    if told.as_ref() == Some(published) {
        return Ok(());
    }
    let commit = Commit {
        token: context.chance.token(),
        writes: vec![RecordWrite::Put {
            key: key(),
            seen: stored.map_or(0, |stored| stored.revision),
            body: render(published)?,
            state: String::new(),
            due: None,
        }],
        audit: vec![],
    };
    match context.register.commit(commit).await {
        Ok(()) | Err(CommitError::Conflict) => Ok(()),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_comes_back_as_it_was_and_never_laxer() {
        let rule = SecondPerson {
            above: BTreeMap::from([("USD".parse().unwrap(), Decimal::from(1_000))]),
            valid_millis: 5,
        };
        assert_eq!(Published::of(&rule).second_person(), rule);
        let none = SecondPerson::default();
        assert_eq!(Published::of(&none).second_person(), none);
        let broken = Published {
            above: BTreeMap::from([("no currency".to_owned(), Decimal::from(1_000))]),
            valid_millis: 5,
        };
        let usd = "USD".parse().unwrap();
        assert!(broken.second_person().is_needed(Decimal::ONE, usd));
    }
}
