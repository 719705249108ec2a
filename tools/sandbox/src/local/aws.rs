//! The local AWS: DynamoDB on one port, SQS and Secrets Manager on another, all inside this process.

use super::dynamo::Dynamo;
use super::secrets::Secrets;
use super::sqs::Sqs;
use super::{LocalError, serve};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::service::Service;
use rustack_secretsmanager_core::handler::RustackSecretsManagerHandler;
use rustack_secretsmanager_http::service::SecretsManagerHttpService;
use rustack_sqs_http::service::SqsHttpService;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// The region everything local is in (the one the embedded database writes into its ARNs).
pub const REGION: &str = "us-east-1";
/// The account everything local is in.
pub const ACCOUNT_ID: &str = "000000000000";
/// How long running requests may take to end at a shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

/// What the functions ask of SQS and Secrets Manager: counted, and refused while the service is "down".
#[derive(Debug, Default)]
pub struct Traffic {
    requests: Mutex<BTreeMap<String, u64>>,
    down: Mutex<Option<String>>,
}

impl Traffic {
    /// How often an operation was asked for, for example `secretsmanager.GetSecretValue`.
    pub fn requests(&self, target: &str) -> u64 {
        lock(&self.requests).get(target).copied().unwrap_or(0)
    }

    /// From now on every operation whose target begins so is answered with 503; `None` ends it.
    pub fn take_down(&self, service: Option<&str>) {
        *lock(&self.down) = service.map(str::to_owned);
    }

    fn admits(&self, target: &str) -> bool {
        let mut requests = lock(&self.requests);
        let count = requests.entry(target.to_owned()).or_default();
        *count = count.saturating_add(1);
        lock(&self.down)
            .as_ref()
            .is_none_or(|service| !target.starts_with(service.as_str()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The three services and their listeners. They end when this is dropped.
#[derive(Debug)]
pub struct LocalAws {
    /// The tables.
    pub dynamo: Dynamo,
    /// The queues.
    pub sqs: Sqs,
    /// The secrets.
    pub secrets: Secrets,
    /// What is asked of SQS and Secrets Manager over HTTP.
    pub traffic: Arc<Traffic>,
    dynamodb_url: String,
    messaging_url: String,
    tasks: JoinSet<()>,
    stop_dynamo: oneshot::Sender<()>,
}

impl LocalAws {
    /// Starts all three. Tables are in `data_dir`, or in memory; ports of 0 are chosen by the machine.
    ///
    /// # Errors
    /// A port that is taken, a file that cannot be opened.
    pub async fn start(
        data_dir: Option<&Path>,
        dynamodb_port: u16,
        messaging_port: u16,
    ) -> Result<Self, LocalError> {
        let dynamo = Dynamo::open(data_dir)?;
        let (dynamo_listener, dynamodb_port) = serve::listen(dynamodb_port).await?;
        let (listener, messaging_port) = serve::listen(messaging_port).await?;
        let sqs = Sqs::new(REGION, ACCOUNT_ID, messaging_port);
        let secrets = Secrets::new(REGION, ACCOUNT_ID);
        let (stop_dynamo, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(dynamo.clone().serve(dynamo_listener, stopped));
        tasks.spawn(dynamo.clone().expire());
        let traffic = Arc::<Traffic>::default();
        let messaging = Messaging {
            traffic: Arc::clone(&traffic),
            sqs: SqsHttpService::new(Arc::new(sqs.clone()), Default::default()),
            secrets: secrets.http(),
        };
        tasks.spawn(serve::serve(listener, move |request| {
            messaging.clone().answer(request)
        }));
        Ok(Self {
            dynamo,
            sqs,
            secrets,
            traffic,
            dynamodb_url: format!("http://127.0.0.1:{dynamodb_port}"),
            messaging_url: format!("http://127.0.0.1:{messaging_port}"),
            tasks,
            stop_dynamo,
        })
    }

    /// Address of DynamoDB.
    pub fn dynamodb_url(&self) -> &str {
        &self.dynamodb_url
    }

    /// Address of SQS and Secrets Manager.
    pub fn messaging_url(&self) -> &str {
        &self.messaging_url
    }

    /// The environment variables with which an AWS SDK, or the AWS command line, talks to these services.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.dynamodb_url),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.messaging_url),
            ("AWS_ENDPOINT_URL_SQS", &self.messaging_url),
            ("AWS_REGION", REGION),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_SESSION_TOKEN", "local"),
        ];
        variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// Ends all three; requests that run may take two seconds to finish.
    pub async fn shutdown(mut self) {
        if self.stop_dynamo.send(()).is_err() {
            tracing::debug!("the local DynamoDB had ended before");
        }
        let first_end = tokio::time::timeout(SHUTDOWN_WAIT, self.tasks.join_next()).await;
        if first_end.is_err() {
            tracing::debug!("a request to the local DynamoDB was cut off");
        }
        self.tasks.shutdown().await;
    }
}

/// SQS and Secrets Manager behind one listener.
#[derive(Clone)]
struct Messaging {
    traffic: Arc<Traffic>,
    sqs: SqsHttpService<Sqs>,
    secrets: SecretsManagerHttpService<RustackSecretsManagerHandler>,
}

impl Messaging {
    async fn answer(self, request: Request<Incoming>) -> Response<BoxBody<Bytes, std::io::Error>> {
        let target = request.headers().get("x-amz-target");
        let target = target.and_then(|target| target.to_str().ok()).unwrap_or_default();
        if !self.traffic.admits(target) {
            let down = serve::answer(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"__type":"ServiceUnavailable"}"#,
            );
            return down.map(|body| body.map_err(|never| match never {}).boxed());
        }
        if target.starts_with("AmazonSQS.") {
            match self.sqs.call(request).await {
                Ok(response) => response.map(BodyExt::boxed),
                Err(never) => match never {},
            }
        } else {
            match self.secrets.call(request).await {
                Ok(response) => response.map(|body| body.map_err(std::io::Error::other).boxed()),
                Err(never) => match never {},
            }
        }
    }
}
