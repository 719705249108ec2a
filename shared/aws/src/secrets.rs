//! The connection's and the webhook's documents in Secrets Manager.
//!
//! What was read is kept for [`CACHE_MILLIS`]; when the store does not answer, what is kept stays good for
//! [`STALE_MILLIS`], because a rotated credential announces itself with a refusal and a down store must not stop invoices.

use crate::clients::failure::{Failure, judge};
use crate::tokens::TokenKeys;
use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{Clock, ReadError};
use flows::receive_webhook::WebhookSecrets;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How long a document is used without asking again, in milliseconds.
pub const CACHE_MILLIS: i64 = 300_000;
/// How long a document is used at most while the store does not answer, in milliseconds.
pub const STALE_MILLIS: i64 = 900_000;
/// A document is not read again sooner than this after the last time, however many credentials are refused, in
/// milliseconds.
pub const RELOAD_MILLIS_MIN: i64 = 60_000;
/// Most documents kept. More connections than this still work: some of them are read again and again.
const DOCUMENTS_MAX: usize = 200;
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// AWS's code when no policy allows the call.
const ACCESS_DENIED: &str = "AccessDeniedException";

/// A document as it is now.
#[derive(Clone)]
pub struct Document {
    /// Its text.
    pub text: SecretString,
    /// Changes when the text does.
    pub version: String,
}

#[derive(Default)]
struct Entry {
    known: Option<(Timestamp, Document)>,
    asked_at: Option<Timestamp>,
    /// The last look because of a refusal.
    reloaded_at: Option<Timestamp>,
}

/// How the document of a connection is called.
enum Naming {
    /// `<prefix><connection>`.
    Prefix(String),
    /// The same for all.
    One(String),
}

/// Reads documents whose names begin alike.
pub struct SecretReader {
    client: Client,
    naming: Naming,
    clock: Arc<dyn Clock>,
    entries: Mutex<BTreeMap<ConnectionId, Arc<Mutex<Entry>>>>,
}

impl SecretReader {
    /// A reader of `<prefix><connection>`. Reads nothing yet.
    pub fn new(client: Client, prefix: String, clock: Arc<dyn Clock>) -> Self {
        Self::named(client, Naming::Prefix(prefix), clock)
    }

    /// A reader of one document, by its name or ARN, which all connections have in common. Reads nothing yet.
    pub fn of_one(client: Client, name: String, clock: Arc<dyn Clock>) -> Self {
        Self::named(client, Naming::One(name), clock)
    }

    fn named(client: Client, naming: Naming, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            naming,
            clock,
            entries: Mutex::default(),
        }
    }

    fn name(&self, connection: &ConnectionId) -> String {
        match &self.naming {
            Naming::Prefix(prefix) => format!("{prefix}{connection}"),
            Naming::One(name) => name.clone(),
        }
    }

    /// The document of a connection, at most [`CACHE_MILLIS`] old while the store answers.
    ///
    /// # Errors
    /// [`ReadError::Refused`] when there is none or it may not be read, [`ReadError::Unavailable`] when the store does not
    /// answer and what is kept is too old.
    pub async fn current(&self, connection: &ConnectionId) -> Result<Document, ReadError> {
        let entry = self.entry(connection).await;
        // Held while reading, so that many who ask at once cause one request.
        let mut entry = entry.lock().await;
        let now = self.clock.now();
        if let Some((read_at, document)) = &entry.known {
            // A store that just failed is not asked by every caller again.
            let asked = entry
                .asked_at
                .is_some_and(|at| is_within(now, at, RELOAD_MILLIS_MIN))
                && is_within(now, *read_at, STALE_MILLIS);
            if is_within(now, *read_at, CACHE_MILLIS) || asked {
                return Ok(document.clone());
            }
        }
        self.read(connection, &mut entry, now).await
    }

    /// The document of a connection after a credential from it was refused: read again at once, however young it is,
    /// because it may have been rotated a moment ago; but at most once per [`RELOAD_MILLIS_MIN`]. An unchanged
    /// [`Document::version`] says that there is nothing newer.
    ///
    /// # Errors
    /// As [`SecretReader::current`].
    pub async fn reload(&self, connection: &ConnectionId) -> Result<Document, ReadError> {
        let entry = self.entry(connection).await;
        let mut entry = entry.lock().await;
        let now = self.clock.now();
        let looked = entry
            .reloaded_at
            .is_some_and(|at| is_within(now, at, RELOAD_MILLIS_MIN));
        match &entry.known {
            Some((read_at, document)) if looked && is_within(now, *read_at, STALE_MILLIS) => {
                Ok(document.clone())
            }
            _ => {
                entry.reloaded_at = Some(now);
                self.read(connection, &mut entry, now).await
            }
        }
    }

    /// The document before the latest rotation, when there is one. Not cached: asked for only when the current one failed.
    ///
    /// # Errors
    /// As [`SecretReader::current`].
    pub async fn previous(&self, connection: &ConnectionId) -> Result<Option<Document>, ReadError> {
        // The store says "not found" for the secret and for the stage alike; this tells them apart.
        self.current(connection).await?;
        self.fetch(connection, PREVIOUS).await
    }

    /// Asks the store, and keeps what it says.
    async fn read(
        &self,
        connection: &ConnectionId,
        entry: &mut Entry,
        now: Timestamp,
    ) -> Result<Document, ReadError> {
        entry.asked_at = Some(now);
        match self.fetch(connection, CURRENT).await {
            Ok(Some(document)) => {
                entry.known = Some((now, document.clone()));
                Ok(document)
            }
            Ok(None) => {
                entry.known = None;
                Err(ReadError::Refused(self.not_found(connection)))
            }
            Err(ReadError::Unavailable { retry_after, problem }) => match &entry.known {
                Some((read_at, document)) if is_within(now, *read_at, STALE_MILLIS) => {
                    tracing::warn!(%connection, code = %problem.code, %problem, "secret store down, document kept");
                    Ok(document.clone())
                }
                _ => Err(ReadError::Unavailable { retry_after, problem }),
            },
            Err(error) => Err(error),
        }
    }

    async fn entry(&self, connection: &ConnectionId) -> Arc<Mutex<Entry>> {
        let mut entries = self.entries.lock().await;
        if entries.len() >= DOCUMENTS_MAX && !entries.contains_key(connection) {
            // Whoever is reading one of them right now holds it by itself.
            entries.pop_first();
        }
        entries.entry(connection.clone()).or_default().clone()
    }

    /// One request to the store.
    async fn fetch(&self, connection: &ConnectionId, stage: &str) -> Result<Option<Document>, ReadError> {
        let name = self.name(connection);
        let sent = self
            .client
            .get_secret_value()
            .secret_id(&name)
            .version_stage(stage)
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(GetSecretValueError::ResourceNotFoundException(_)) = error.as_service_error() {
                    return Ok(None);
                }
                return Err(match judge("SECRETS_MANAGER", "GetSecretValue", &error) {
                    Failure::Refused(problem) => {
                        ReadError::Refused(problem.expected(format!("to read {name}")))
                    }
                    Failure::Throttled(problem) | Failure::Unknown(problem) => ReadError::Unavailable {
                        retry_after: None,
                        problem,
                    },
                });
            }
        };
        match (answer.secret_string, answer.version_id) {
            (Some(text), Some(version)) => Ok(Some(Document {
                text: SecretString::from(text),
                version,
            })),
            _ => {
                let problem = Problem::new(
                    "SECRET_UNREADABLE",
                    "Store the document as text (JSON), not as binary.",
                );
                Err(ReadError::Unreadable(problem.field(name)))
            }
        }
    }

    fn not_found(&self, connection: &ConnectionId) -> Problem {
        Problem::new(
            "SECRET_NOT_FOUND",
            "Create the connection's secret (the connection template does) and fill it.",
        )
        .field(self.name(connection))
        .expected("a secret of this name")
    }
}

/// AWS has one code for a secret that no policy lets us read and for a secret whose key we may not use ("Access to KMS is not
/// allowed", seen). The second one is there.
fn is_denied_by_policy(said: &str) -> bool {
    said.starts_with(ACCESS_DENIED) && !said.contains("KMS")
}

/// Whether `then` is less than `millis` ago; an instant in the future is not.
fn is_within(now: Timestamp, then: Timestamp, millis: i64) -> bool {
    (0..millis).contains(&now.millis_since(then))
}

#[async_trait]
impl WebhookSecrets for SecretReader {
    async fn document(&self, connection: &ConnectionId) -> Result<Option<SecretString>, ReadError> {
        // That flow keeps what it read, so nothing is kept here.
        match self.fetch(connection, CURRENT).await {
            Ok(document) => Ok(document.map(|document| document.text)),
            // The name comes from outside, and readers are named by each secret itself: of a secret that does not exist
            // AWS says "denied". Seen from outside the two are the same; a forgotten policy shows in this line.
            Err(ReadError::Refused(problem)) if is_denied_by_policy(&problem.actual) => {
                tracing::warn!(%connection, code = %problem.code, %problem, "no secret of this name, or none that we may read");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl TokenKeys for SecretReader {
    async fn token_key(&self, connection: &ConnectionId) -> Result<SecretString, Problem> {
        /// The only field of the document that is read here.
        #[derive(Deserialize)]
        struct Part {
            token_key: SecretString,
        }
        let document = self
            .current(connection)
            .await
            .map_err(|error| error.problem().clone())?;
        let part: Part = serde_json::from_str(document.text.expose_secret()).map_err(|_| {
            Problem::new(
                "TOKEN_KEY_MISSING",
                "Put 32 random bytes in base64 there (openssl rand -base64 32).",
            )
            .field(format!("{}: token_key", self.name(connection)))
            .expected("a JSON object with the text token_key")
        })?;
        Ok(part.token_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_runtime_api::client::http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
    use aws_smithy_types::body::SdkBody;
    use std::sync::Mutex as Lock;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    #[derive(Debug, Default)]
    struct Time(AtomicI64);

    impl Time {
        fn pass(&self, millis: i64) {
            self.0.fetch_add(millis, Ordering::SeqCst);
        }
    }

    #[async_trait]
    impl Clock for Time {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
        async fn sleep(&self, _: Duration) {}
    }

    /// A store that answers as told and notes what it was asked.
    #[derive(Debug, Default, Clone)]
    struct Store {
        answers: Arc<Lock<Vec<(u16, String)>>>,
        asked: Arc<Lock<Vec<String>>>,
    }

    impl Store {
        fn answer(&self, status: u16, body: &str) {
            self.answers.lock().unwrap().push((status, body.to_owned()));
        }
        fn holds(&self, version: &str) {
            self.answer(
                200,
                &format!(r#"{{"SecretString":"{{\"token_key\":\"{version}\"}}","VersionId":"{version}"}}"#),
            );
        }
        fn asked(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    impl HttpConnector for Store {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let body = String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap();
            self.asked.lock().unwrap().push(body);
            let mut answers = self.answers.lock().unwrap();
            let (status, body) = if answers.is_empty() {
                (400, String::new())
            } else {
                answers.remove(0)
            };
            HttpConnectorFuture::ready(Ok(HttpResponse::new(
                status.try_into().unwrap(),
                SdkBody::from(body),
            )))
        }
    }

    impl HttpClient for Store {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            SharedHttpConnector::new(self.clone())
        }
    }

    fn reader() -> (SecretReader, Store, Arc<Time>) {
        let (store, time) = (Store::default(), Arc::new(Time::default()));
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(aws_sdk_secretsmanager::config::BehaviorVersion::latest())
            .region(aws_sdk_secretsmanager::config::Region::new("eu-central-1"))
            .credentials_provider(aws_credential_types::Credentials::new(
                "id", "key", None, None, "test",
            ))
            .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
            .http_client(store.clone())
            .build();
        let client = Client::from_conf(config);
        (
            SecretReader::new(client, "stack/connection/".to_owned(), time.clone()),
            store,
            time,
        )
    }

    fn acme() -> ConnectionId {
        "acme".parse().unwrap()
    }

    #[tokio::test]
    async fn a_secret_that_may_not_be_read_is_an_unknown_connection_for_the_webhook_alone() {
        let (reader, store, _) = reader();
        let denied = r#"{"__type":"AccessDeniedException","Message":"no policy allows it"}"#;
        store.answer(400, denied);
        assert!(reader.document(&acme()).await.unwrap().is_none());
        store.answer(400, denied);
        assert!(matches!(
            reader.current(&acme()).await,
            Err(ReadError::Refused(_))
        ));
        for refused in [
            r#"{"__type":"AccessDeniedException","Message":"Access to KMS is not allowed"}"#,
            r#"{"__type":"DecryptionFailure"}"#,
        ] {
            store.answer(400, refused);
            assert!(
                reader.document(&acme()).await.is_err(),
                "another refusal is not an unknown connection: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_document_is_read_once_and_again_when_it_is_old() {
        let (reader, store, time) = reader();
        store.holds("one");
        store.holds("two");
        assert_eq!(reader.current(&acme()).await.ok().unwrap().version, "one");
        time.pass(CACHE_MILLIS - 1);
        assert_eq!(reader.current(&acme()).await.ok().unwrap().version, "one");
        assert_eq!(store.asked(), 1);
        time.pass(1);
        assert_eq!(reader.current(&acme()).await.ok().unwrap().version, "two");
        assert!(store.asked.lock().unwrap()[0].contains("stack/connection/acme"));
    }

    #[tokio::test]
    async fn refused_credentials_cause_one_look_a_minute() {
        let (reader, store, time) = reader();
        store.holds("one");
        store.holds("two");
        store.holds("three");
        reader.current(&acme()).await.ok().unwrap();
        // Rotated a moment after it was read: found at once.
        for _ in 0..3 {
            assert_eq!(reader.reload(&acme()).await.ok().unwrap().version, "two");
        }
        assert_eq!(reader.current(&acme()).await.ok().unwrap().version, "two");
        assert_eq!(store.asked(), 2);
        time.pass(RELOAD_MILLIS_MIN);
        for _ in 0..3 {
            assert_eq!(reader.reload(&acme()).await.ok().unwrap().version, "three");
        }
        assert_eq!(store.asked(), 3);
    }

    #[tokio::test]
    async fn a_store_that_is_down_leaves_the_document_good_for_a_while() {
        let (reader, store, time) = reader();
        store.holds("one");
        reader.current(&acme()).await.ok().unwrap();
        time.pass(CACHE_MILLIS);
        store.answer(500, "{}");
        assert_eq!(reader.current(&acme()).await.ok().unwrap().version, "one");
        assert_eq!(reader.current(&acme()).await.ok().unwrap().version, "one");
        assert_eq!(store.asked(), 2, "a store that is down is not asked by everybody");
        time.pass(STALE_MILLIS);
        store.answer(500, "{}");
        assert!(matches!(
            reader.current(&acme()).await,
            Err(ReadError::Unavailable { .. })
        ));
    }

    #[tokio::test]
    async fn not_found_and_not_allowed_are_told_apart() {
        let (reader, store, _) = reader();
        store.answer(400, r#"{"__type":"ResourceNotFoundException"}"#);
        let error = reader.current(&acme()).await.err().unwrap();
        assert_eq!(error.problem().code, "SECRET_NOT_FOUND");
        store.answer(400, r#"{"__type":"ResourceNotFoundException"}"#);
        assert!(reader.document(&acme()).await.unwrap().is_none());
        store.answer(400, r#"{"__type":"AccessDeniedException","Message":"no"}"#);
        assert!(matches!(
            reader.current(&acme()).await,
            Err(ReadError::Refused(_))
        ));
    }

    #[tokio::test]
    async fn the_document_before_is_read_by_its_stage() {
        let (reader, store, _) = reader();
        store.holds("two");
        store.holds("one");
        assert_eq!(
            reader.previous(&acme()).await.ok().unwrap().unwrap().version,
            "one"
        );
        assert!(store.asked.lock().unwrap()[1].contains(PREVIOUS));
        store.answer(400, r#"{"__type":"ResourceNotFoundException"}"#);
        assert!(reader.previous(&acme()).await.ok().unwrap().is_none());
    }

    #[tokio::test]
    async fn the_token_key_is_a_field_and_its_absence_shows_nothing_of_the_document() {
        let (reader, store, time) = reader();
        store.holds("key");
        assert_eq!(reader.token_key(&acme()).await.unwrap().expose_secret(), "key");
        time.pass(CACHE_MILLIS);
        store.answer(
            200,
            r#"{"SecretString":"{\"password\":\"canary\"}","VersionId":"v"}"#,
        );
        let problem = reader.token_key(&acme()).await.unwrap_err();
        assert_eq!(problem.code, "TOKEN_KEY_MISSING");
        assert!(!problem.to_string().contains("canary"));
    }
}
