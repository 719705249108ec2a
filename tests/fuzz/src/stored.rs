//! What lies in our own tables and queues: it was written by us, by an older or newer version, or by somebody else.

use crate::block_on;
use crate::ports::{Clockwork, NoChance};
use async_trait::async_trait;
use aws::dynamo::{DynamoRegister, RegisterTables};
use aws::sqs::{BatchTimes, serve};
use aws::tokens::{DynamoTokenStore, TokenKeys};
use aws_lambda_events::event::sqs::SqsEvent;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use domain::ids::{ConnectionId, InvoiceId};
use domain::lifecycle::InvoiceRecord;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{RecordKey, Register, TokenSlot, TokenStore};
use flows::store;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;

/// DynamoDB that answers everything with these bytes.
#[derive(Debug, Clone)]
struct Says(Arc<Vec<u8>>);

impl HttpConnector for Says {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        let status = 200.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(self.0.as_slice()))))
    }
}

impl HttpClient for Says {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn client(answer: Vec<u8>) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "key", None, None, "fuzz"))
        .retry_config(RetryConfig::disabled())
        .http_client(Says(Arc::new(answer)));
    Client::from_conf(config.build())
}

fn connection() -> ConnectionId {
    "acme".parse().expect("a name")
}

fn register(answer: Vec<u8>) -> DynamoRegister {
    let tables = RegisterTables {
        register: "register".to_owned(),
        audit: "audit".to_owned(),
    };
    DynamoRegister::new(
        client(answer),
        tables,
        connection(),
        Arc::new(Clockwork::default()),
        Arc::new(NoChance),
    )
}

/// First byte: which read; the rest is DynamoDB's whole answer.
pub(crate) fn item(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let register = register(rest.to_vec());
    block_on(async {
        match choice % 5 {
            0 => drop(register.read(&[RecordKey::Invoice(InvoiceId(92_010))]).await),
            1 => drop(register.due(Timestamp(0), 10).await),
            2 => drop(register.audit("invoice/92010").await),
            3 => drop(register.invoices(None, 10).await),
            _ => {
                let key = RecordKey::Invoice(InvoiceId(92_010));
                drop(store::load::<InvoiceRecord>(&register, key).await);
            }
        }
    });
}

/// The body of a stored invoice.
pub(crate) fn record(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else {
        return;
    };
    let stored = flows::ports::StoredRecord {
        key: RecordKey::Invoice(InvoiceId(92_010)),
        revision: 1,
        body: Ok(body.to_owned()),
    };
    if let Ok(record) = store::parse::<InvoiceRecord>(&stored) {
        let sentence = domain::explain::sentence(&record);
        assert!(!sentence.is_empty());
        let _ = record.due(&domain::timing::Timing::default());
        let again = serde_json::to_string(&record).expect("what was read can be written");
        let reread: InvoiceRecord = serde_json::from_str(&again).expect("and read again");
        assert_eq!(reread, record);
    }
}

struct Keys;

#[async_trait]
impl TokenKeys for Keys {
    async fn token_key(&self, _: &ConnectionId) -> Result<SecretString, Problem> {
        Ok("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into())
    }
}

/// A sealed token, as DynamoDB answers it: nothing that was not sealed by us ever opens.
pub(crate) fn token(bytes: &[u8]) {
    let tokens = DynamoTokenStore::new(
        client(bytes.to_vec()),
        "tokens".to_owned(),
        Arc::new(Keys),
        Arc::new(Clockwork::default()),
        Arc::new(NoChance),
    );
    let slot = TokenSlot {
        connection: connection(),
        system: "qad",
        client: "client".to_owned(),
    };
    if let Ok(state) = block_on(tokens.load(&slot)) {
        assert!(state.token.is_none(), "a token that we never sealed");
    }
}

/// A queue message.
pub(crate) fn hint(bytes: &[u8]) {
    let body = String::from_utf8_lossy(bytes);
    let event: Value =
        json!({"Records": [{"messageId": "one", "body": body, "attributes": {}, "messageAttributes": {}}]});
    let Ok(event) = serde_json::from_value::<SqsEvent>(event) else {
        return;
    };
    let times = BatchTimes::new(Timestamp(i64::MAX / 2), 1_000);
    let clock = Clockwork::default();
    let understood = std::cell::Cell::new(0_usize);
    let answered = block_on(serve(event, times, &clock, async |_| {
        understood.set(understood.get() + 1);
        Ok(())
    }))
    .expect("a batch has an answer");
    assert_eq!(
        understood.get() + answered.batch_item_failures.len(),
        1,
        "a message is either worked on or comes again"
    );
}
