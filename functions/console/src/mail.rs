//! The mail of a day: a schedule calls the function with what AWS calls its input, and every connection that the page shows has its
//! own mail. A mail that was not sent ends the call with an error, which an alarm watches.

use async_trait::async_trait;
use aws::ses::{Envelope, Ses, judge};
use connectors::http::address::BaseUrl;
use connectors::http::outbound::Destination;
use connectors::http::transport::{Method, Request, Transport, TransportError};
use domain::ids::ConnectionId;
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::daily_mail::{self, Mail, Mailed, Mailer};
use flows::ports::{Books, Chance, Clock, WriteError};
use flows::store::Context;
use pages::PlantClock;
use pages::mail::{About, of_day};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

/// Longest exchange with SES, in seconds.
const EXCHANGE_SECONDS_MAX: u64 = 10;

/// What calls the function: a schedule, or (without any of this) a browser.
#[derive(Deserialize)]
pub(crate) struct Called {
    #[serde(default)]
    pub(crate) mail: Option<Order>,
}

/// What the schedule says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Order {
    /// Where the page is.
    page: String,
    /// The sender's address.
    from: String,
    /// The receivers' addresses, separated by commas.
    to: String,
    /// Where SES counts what became of it.
    configuration_set: String,
}

/// What AWS calls the function with; it calls it with nothing else.
pub(crate) fn read<T: DeserializeOwned>(event: &str) -> Result<T, Problem> {
    serde_json::from_str(event).map_err(|error| {
        Problem::new(
            "EVENT_UNREADABLE",
            "Call it by its page or by the schedule of the mail: look at who calls it otherwise.",
        )
        .expected("an event of the HTTP API, or the schedule's input")
        .actual(error.to_string())
    })
}

/// Everything that a mail needs.
pub(crate) struct Office {
    pub(crate) connections: BTreeMap<ConnectionId, Arc<dyn Books>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) timing: Timing,
    pub(crate) zone: PlantClock,
    pub(crate) ses: Ses,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Office {
    /// Sends the mail of this day for each connection that has not had it. What fails for one does not keep the others from theirs.
    pub(crate) async fn run(&self, order: &Order, ends: Timestamp) -> Result<usize, Problem> {
        let deadline = ends.plus_millis(self.timing.stop_margin_millis.saturating_neg());
        let by_ses = BySes {
            ses: &self.ses,
            transport: &*self.transport,
            clock: &*self.clock,
            envelope: Envelope {
                from: order.from.trim().to_owned(),
                to: addresses(&order.to),
                configuration_set: order.configuration_set.clone(),
            },
        };
        let (mut sent, mut failed) = (0usize, None);
        for (place, (id, books)) in self.connections.iter().enumerate() {
            let page = match place {
                0 => order.page.trim_end_matches('/').to_owned(),
                _ => format!("{}/c/{id}", order.page.trim_end_matches('/')),
            };
            let about = About {
                connection: id.as_str(),
                page: &page,
            };
            let context = Context {
                register: &**books,
                clock: &*self.clock,
                chance: &*self.chance,
                timing: &self.timing,
                deadline,
            };
            let now = self.clock.now();
            let compose = async || of_day(&**books, about, &self.zone, now).await;
            let span = tracing::info_span!("mail", connection = %id);
            match daily_mail::run(&context, &by_ses, self.zone.date(now), compose)
                .instrument(span)
                .await
            {
                Ok(Mailed::Now) => sent = sent.saturating_add(1),
                Ok(Mailed::Before) => {
                    tracing::info!(connection = %id, "the mail of this day was begun before")
                }
                Err(error) => {
                    let problem = error.problem();
                    tracing::error!(connection = %id, code = %problem.code, %problem, "the mail of this day was not sent");
                    failed = Some(problem);
                }
            }
        }
        failed.map_or(Ok(sent), Err)
    }
}

fn addresses(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(str::to_owned).collect()
}

struct BySes<'a> {
    ses: &'a Ses,
    transport: &'a dyn Transport,
    clock: &'a dyn Clock,
    envelope: Envelope,
}

#[async_trait]
impl Mailer for BySes<'_> {
    async fn send(&self, mail: &Mail) -> Result<(), WriteError> {
        let signed = self
            .ses
            .request(&self.envelope, mail, self.clock.now())
            .map_err(WriteError::Refused)?;
        let base: BaseUrl = signed.base.parse().map_err(WriteError::Refused)?;
        let request = Request {
            destination: Destination::of(&base, &[]),
            method: Method::Post,
            url: signed.url,
            headers: signed.headers,
            body: Some(signed.body),
            timeout: Duration::from_secs(EXCHANGE_SECONDS_MAX),
            write: true,
        };
        let problem =
            |code: &str, fix: &str, actual: String| Problem::new(code, fix).field("SendEmail").actual(actual);
        match self.transport.send(request).await {
            Ok(response) => judge(response.status, &response.body),
            Err(TransportError::NotSent(why)) => Err(WriteError::NotApplied {
                retry_after: None,
                problem: problem(
                    "SES_UNREACHABLE",
                    "Nothing to do: it is tried again. Look at the network if it lasts.",
                    why,
                ),
            }),
            Err(TransportError::Forbidden(why)) => Err(WriteError::Refused(problem(
                "SES_UNREACHABLE",
                "This is a defect: report it with this line.",
                why.to_string(),
            ))),
            Err(TransportError::MaybeSent(why)) => Err(WriteError::Unknown(problem(
                "SES_UNAVAILABLE",
                "It is not known whether the mail of the day was sent; it is not sent again. Look at the page.",
                why,
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::memory_register::MemoryStore;
    use aws::clients::{AwsSettings, Clients};
    use aws::clock::{SystemChance, SystemClock};
    use connectors::http::transport::Response;
    use secrecy::SecretString;
    use std::sync::Mutex;

    type Answer = Result<u16, TransportError>;

    /// A post office that answers what it was told to, and keeps what it got.
    #[derive(Default)]
    struct PostOffice {
        answers: Mutex<Vec<Answer>>,
        got: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Transport for PostOffice {
        async fn send(&self, request: Request) -> Result<Response, TransportError> {
            let body = request.body.clone().unwrap_or_default();
            self.got.lock().unwrap().push(String::from_utf8(body).unwrap());
            let status = self.answers.lock().unwrap().pop().unwrap_or(Ok(200))?;
            Ok(Response {
                status,
                headers: vec![],
                body: b"{}".to_vec(),
            })
        }
    }

    fn office(transport: &Arc<PostOffice>) -> Office {
        let store = MemoryStore::default();
        let books = |name: &str| {
            let id: ConnectionId = name.parse().unwrap();
            let register: Arc<dyn Books> = Arc::new(store.register(&id));
            (id, register)
        };
        let clients = Clients::new(AwsSettings {
            region: "eu-central-1".to_owned(),
            access_key_id: "id".to_owned(),
            secret_access_key: SecretString::from("key"),
            session_token: None,
            dynamodb_url: None,
            sqs_url: None,
            secrets_manager_url: None,
        });
        Office {
            connections: BTreeMap::from([books("acme"), books("zenith")]),
            clock: Arc::new(SystemClock),
            chance: Arc::new(SystemChance),
            timing: Timing::default(),
            zone: PlantClock::new("Europe/Berlin").unwrap(),
            ses: clients.ses(),
            transport: Arc::<PostOffice>::clone(transport),
        }
    }

    /// Each connection has a mail with links to its own page; what one is refused does not keep the other from its own, and ends
    /// the call with an error, so that somebody is told.
    #[tokio::test]
    async fn each_connection_has_its_own_mail_and_a_refusal_is_an_error() {
        let order = Order {
            page: "https://page.example/".to_owned(),
            from: "erp@example.com".to_owned(),
            to: "ap@example.com".to_owned(),
            configuration_set: "mail".to_owned(),
        };
        let ends = Timestamp(i64::MAX);
        for (answer, code, again) in [
            (Ok(400), "SES_REFUSED", 1),
            (Ok(500), "SES_UNAVAILABLE", 0),
            (
                Err(TransportError::NotSent("no name".to_owned())),
                "SES_UNREACHABLE",
                1,
            ),
            (
                Err(TransportError::MaybeSent("reset".to_owned())),
                "SES_UNAVAILABLE",
                0,
            ),
        ] {
            let transport = Arc::new(PostOffice::default());
            let office = office(&transport);
            transport.answers.lock().unwrap().push(answer);
            assert_eq!(office.run(&order, ends).await.unwrap_err().code, code);
            let got = transport.got.lock().unwrap().clone();
            assert_eq!(got.len(), 2, "the other one has its mail");
            assert!(
                got[0].contains("acme") && !got[0].contains("/c/acme"),
                "{}",
                got[0]
            );
            assert!(
                got[0].contains("ap@example.com") && got[0].contains("erp@example.com"),
                "{}",
                got[0]
            );
            assert!(got[1].contains("zenith"), "{}", got[1]);
            assert_eq!(office.run(&order, ends).await.unwrap(), again, "{code}");
            assert_eq!(office.run(&order, ends).await.unwrap(), 0, "none of them twice");
        }
    }

    #[test]
    fn a_schedule_is_told_from_a_browser() {
        let called = |text: &str| serde_json::from_str::<Called>(text).unwrap().mail;
        assert_eq!(
            called(r#"{"version":"2.0","rawPath":"/mail","headers":{"mail":"x"}}"#),
            None
        );
        let order = called(
            r#"{"mail":{"page":"https://x.example","from":"a@example.com","to":"b@example.com, c@example.com ,","configuration_set":"m"}}"#,
        )
        .unwrap();
        assert_eq!(addresses(&order.to), ["b@example.com", "c@example.com"]);
        assert!(serde_json::from_str::<Called>(r#"{"mail":{"page":"https://x.example"}}"#).is_err());
    }
}
