//! What the page is made of beside the environment: the secret, which may be rotated while the function runs.

use aws::lambda::World;
use aws::secrets::{Document, SecretReader};
use connectors::http::transport::HttpTransport;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use flows::ports::{Chance, Clock, ReadError};
use oidc::{Provider, Settings};
use pages::{Console, Login, Person, Seal};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};

/// Shortest key that sessions are sealed with, in characters.
const KEY_CHARACTERS_MIN: usize = 32;

/// How people sign in, as the environment says.
pub(crate) enum Way {
    /// One of these is chosen.
    Local(Vec<Person>),
    /// At an identity provider; the secret by its name.
    Provider { settings: Settings, secret: String },
}

/// What the secret holds.
#[derive(Deserialize)]
struct Keys {
    client_secret: SecretString,
    session_key: SecretString,
}

/// Makes the page, and makes it anew when its secret has changed.
pub(crate) struct Door<Make> {
    way: Way,
    reader: Option<SecretReader>,
    /// Under which name the reader keeps what it read.
    kept_as: Option<ConnectionId>,
    transport: Arc<HttpTransport>,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    make: Make,
    current: Mutex<Option<(String, Arc<Console>)>>,
}

impl<Make: Fn(Login, Seal) -> Console> Door<Make> {
    pub(crate) fn new(way: Way, world: World, ids: Vec<ConnectionId>, make: Make) -> Self {
        let reader = match &way {
            Way::Local(_) => None,
            Way::Provider { secret, .. } => Some(SecretReader::of_one(
                world.clients.secrets_manager(),
                secret.clone(),
                Arc::clone(&world.clock),
            )),
        };
        Self {
            way,
            reader,
            kept_as: ids.into_iter().next(),
            transport: Arc::new(HttpTransport::new()),
            clock: world.clock,
            chance: world.chance,
            make,
            current: Mutex::default(),
        }
    }

    /// The page as its secret is now. One that is not filled yet is looked at again without waiting for its time.
    pub(crate) async fn open(&self) -> Result<Arc<Console>, Problem> {
        let (Some(reader), Some(name)) = (&self.reader, &self.kept_as) else {
            return self.made_of(None);
        };
        let read = |error: ReadError| error.problem().clone();
        let document = reader.current(name).await.map_err(read)?;
        match self.made_of(Some(&document)) {
            Err(_) => self.made_of(Some(&reader.reload(name).await.map_err(read)?)),
            made => made,
        }
    }

    fn made_of(&self, document: Option<&Document>) -> Result<Arc<Console>, Problem> {
        let version = document.map_or("", |document| &document.version);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, console)) = current.as_ref().filter(|(known, _)| known == version) {
            return Ok(Arc::clone(console));
        }
        let (login, seal) = self.login(document)?;
        let console = Arc::new((self.make)(login, seal));
        *current = Some((version.to_owned(), Arc::clone(&console)));
        Ok(console)
    }

    fn login(&self, document: Option<&Document>) -> Result<(Login, Seal), Problem> {
        match (&self.way, document) {
            // Whoever is on this machine may choose any person anyway, so the key need be no secret there.
            (Way::Local(people), _) => {
                Ok((Login::Local(people.clone()), Seal::new("a machine of one's own")))
            }
            (Way::Provider { settings, .. }, Some(document)) => {
                let keys = keys(document)?;
                let provider = Provider::new(
                    settings.clone(),
                    keys.client_secret,
                    Arc::<HttpTransport>::clone(&self.transport),
                    Arc::clone(&self.clock),
                    Arc::clone(&self.chance),
                )?;
                let seal = Seal::new(keys.session_key.expose_secret());
                Ok((Login::Provider(Arc::new(provider)), seal))
            }
            (Way::Provider { .. }, None) => Err(unfilled("no secret")),
        }
    }
}

fn unfilled(actual: &str) -> Problem {
    Problem::new(
        "CONSOLE_SECRET_UNREADABLE",
        "Enter the client secret from the identity provider into the page's secret, and leave session_key as AWS drew it.",
    )
    .field("CONSOLE_SECRET")
    .expected(format!(
        "JSON with client_secret and session_key, the latter of at least {KEY_CHARACTERS_MIN} characters"
    ))
    .actual(actual)
}

fn keys(document: &Document) -> Result<Keys, Problem> {
    // What cannot be read is not repeated.
    let keys: Keys =
        serde_json::from_str(document.text.expose_secret()).map_err(|_| unfilled("something else"))?;
    if keys.client_secret.expose_secret().is_empty() {
        return Err(unfilled("an empty client_secret"));
    }
    if keys.session_key.expose_secret().chars().count() < KEY_CHARACTERS_MIN {
        return Err(unfilled("a shorter session_key"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_not_filled_closes_the_page_and_is_not_repeated() {
        let read = |text: &str| {
            keys(&Document {
                text: SecretString::from(text),
                version: "1".to_owned(),
            })
        };
        let key = "k".repeat(KEY_CHARACTERS_MIN);
        let filled = format!(r#"{{"client_secret":"canary","session_key":"{key}"}}"#);
        assert_eq!(read(&filled).ok().unwrap().session_key.expose_secret(), key);
        for text in [
            String::new(),
            "canary".to_owned(),
            format!(r#"{{"client_secret":"","session_key":"{key}"}}"#),
            format!(r#"{{"session_key":"{key}"}}"#),
            r#"{"client_secret":"canary","session_key":"canary"}"#.to_owned(),
            r#"{"client_secret":"canary"}"#.to_owned(),
        ] {
            let problem = read(&text).err().unwrap();
            assert_eq!(problem.code, "CONSOLE_SECRET_UNREADABLE", "{text}");
            assert!(!problem.to_string().contains("canary"), "{problem}");
        }
    }
}
