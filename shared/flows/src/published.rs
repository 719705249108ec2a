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
    pub above: BTreeMap<Currency, Decimal>,
    /// How long a request waits for the second person, in milliseconds.
    #[serde(default)]
    pub valid_millis: i64,
}

impl Published {
    /// What these settings tell.
    pub fn of(rule: &SecondPerson) -> Self {
        Self {
            above: rule.above.clone(),
            valid_millis: rule.valid_millis,
        }
    }

    /// The rule of the second person.
    pub fn second_person(&self) -> SecondPerson {
        SecondPerson {
            above: self.above.clone(),
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
    fn the_rule_comes_back_as_it_was_and_a_limit_that_cannot_be_read_is_refused() {
        let rule = SecondPerson {
            above: BTreeMap::from([("USD".parse().unwrap(), Decimal::from(1_000))]),
            valid_millis: 5,
        };
        let text = serde_json::to_string(&Published::of(&rule)).unwrap();
        assert_eq!(
            text, r#"{"above":{"USD":"1000"},"valid_millis":5}"#,
            "as earlier versions wrote it"
        );
        let read = |text: &str| serde_json::from_str::<Published>(text);
        assert_eq!(read(&text).unwrap().second_person(), rule);
        let none = SecondPerson::default();
        assert_eq!(Published::of(&none).second_person(), none);
        assert!(
            read(&text.replace("USD", "no currency")).is_err(),
            "a rule is never laxer than it was told"
        );
    }
}
