//! DynamoDB in this process: the unmodified SDK client over an embedded database, without a socket, so that it works
//! under a paused clock and every test has its own. Answers can be lost on demand.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Builder, Config, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use dynoxide::{Database, DynoxideError};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The tables of one world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Records, with the index `due`.
    pub(crate) register: String,
    /// The audit trail.
    pub(crate) audit: String,
    /// Cached tokens.
    pub(crate) tokens: String,
}

impl Tables {
    /// Tables whose names begin alike.
    pub(crate) fn named(prefix: &str) -> Self {
        let name = |kind: &str| format!("{prefix}-{kind}");
        Self {
            register: name("register"),
            audit: name("audit"),
            tokens: name("tokens"),
        }
    }

    /// Creates all of them, shaped as the template does.
    pub(crate) async fn create(&self, client: &Client) -> Result<(), Box<dyn Error>> {
        let due = GlobalSecondaryIndex::builder()
            .index_name("due")
            .key_schema(key("due_pk", KeyType::Hash)?)
            .key_schema(key("due_at", KeyType::Range)?)
            .projection(
                Projection::builder()
                    .projection_type(ProjectionType::KeysOnly)
                    .build(),
            )
            .build()?;
        client
            .create_table()
            .table_name(&self.register)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("sk", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("due_pk", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("due_at", ScalarAttributeType::N)?)
            .key_schema(key("pk", KeyType::Hash)?)
            .key_schema(key("sk", KeyType::Range)?)
            .global_secondary_indexes(due)
            .send()
            .await?;
        client
            .create_table()
            .table_name(&self.audit)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", ScalarAttributeType::S)?)
            .attribute_definitions(attribute("sk", ScalarAttributeType::S)?)
            .key_schema(key("pk", KeyType::Hash)?)
            .key_schema(key("sk", KeyType::Range)?)
            .send()
            .await?;
        client
            .create_table()
            .table_name(&self.tokens)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk", ScalarAttributeType::S)?)
            .key_schema(key("pk", KeyType::Hash)?)
            .send()
            .await?;
        Ok(())
    }
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, Box<dyn Error>> {
    Ok(KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(kind)
        .build()?)
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, Box<dyn Error>> {
    Ok(AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(kind)
        .build()?)
}

/// The client's configuration as production has it, without an address.
fn client_config() -> Builder {
    Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("local", "local", None, None, "test"))
        .retry_config(RetryConfig::disabled())
}

/// A client of a DynamoDB at an address, for a second opinion.
pub(crate) fn client_at(url: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    Client::from_conf(client_config().endpoint_url(url).http_client(http).build())
}

/// A database of its own.
#[derive(Clone)]
pub(crate) struct LocalDynamo {
    database: Database,
    lose: Arc<AtomicU32>,
}

impl std::fmt::Debug for LocalDynamo {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("LocalDynamo")
    }
}

impl LocalDynamo {
    /// An empty database in memory.
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            database: Database::memory()?,
            lose: Arc::default(),
        })
    }

    /// The SDK's client of this database.
    pub(crate) fn client(&self) -> Client {
        Client::from_conf(client_config().http_client(self.clone()).build())
    }

    /// From now on, `count` requests are carried out and their answers lost.
    pub(crate) fn lose_answers(&self, count: u32) {
        self.lose.store(count, Ordering::SeqCst);
    }

    fn loses(&self) -> bool {
        self.lose
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
    }

    fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, Box<dyn Error + Send + Sync>> {
        let target = request.headers().get("x-amz-target").unwrap_or("");
        let operation = target.rsplit('.').next().unwrap_or("");
        let (status, body) = match self.carry_out(operation, request.body().bytes().unwrap_or_default()) {
            Ok(body) => (200, body),
            Err(error) => (error.status_code(), error.to_json()),
        };
        if self.loses() {
            return Err("the answer was lost on the way".into());
        }
        let mut response = HttpResponse::new(StatusCode::try_from(status)?, SdkBody::from(body));
        response
            .headers_mut()
            .insert("content-type", "application/x-amz-json-1.0");
        Ok(response)
    }

    fn carry_out(&self, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
        /// Reads the request, calls the database, writes the answer.
        macro_rules! call {
            ($method:ident) => {{
                let invalid =
                    |error: serde_json::Error| DynoxideError::ValidationException(error.to_string());
                let answer = self
                    .database
                    .$method(serde_json::from_slice(body).map_err(invalid)?)?;
                serde_json::to_string(&answer)
                    .map_err(|error| DynoxideError::InternalServerError(error.to_string()))
            }};
        }
        match operation {
            "CreateTable" => call!(create_table),
            "GetItem" => call!(get_item),
            "PutItem" => call!(put_item),
            "UpdateItem" => call!(update_item),
            "BatchGetItem" => call!(batch_get_item),
            "Query" => call!(query),
            "Scan" => call!(scan),
            "TransactWriteItems" => call!(transact_write_items),
            other => Err(DynoxideError::ValidationException(format!(
                "{other} is not used by this product"
            ))),
        }
    }
}

impl HttpConnector for LocalDynamo {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.answer(&request);
        HttpConnectorFuture::ready(
            answer.map_err(|error| ConnectorError::io(Box::new(io::Error::other(error)))),
        )
    }
}

impl HttpClient for LocalDynamo {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
