//! The place to work: a local run, or a stack in AWS. Every verb opens it here and asks it for the register, the queues,
//! the secrets and the two systems; no verb knows which of the two it is.
//!
//! | | local run | AWS |
//! |---|---|---|
//! | chosen by | `--run-dir` (default) | `--stack NAME` |
//! | names and times | the run file | the stack's outputs and parameters, or the functions' own variables in the environment |
//! | credentials | the run file | as every AWS tool finds them: `--profile`, `--region`, environment, SSO, roles |

use crate::{Failure, nearest, terminal};
use aws::clients::{Clients, SharedHttpClient, persons_http_client};
use aws::clock::{SystemChance, SystemClock};
use aws::config::{Config, Variable};
use aws::dynamo::DynamoRegister;
use aws::lambda::{Invocation, World};
use aws::secrets::SecretReader;
use aws::server_time::ServerTime;
use aws::sqs::SqsQueue;
use aws::tokens::DynamoTokenStore;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretError;
use aws_smithy_types::error::display::DisplayErrorContext;
use clap::Args;
use connectors::connection::{ConnectionDocument, World as HttpWorld, clients, entity_clients};
use connectors::coupa::CoupaClient;
use connectors::http::pace::Paces;
use connectors::http::transport::{HttpTransport, Transport};
use connectors::qad::QadClient;
use domain::entities::EntityRule;
use domain::ids::{ConnectionId, EntityCode};
use domain::lifecycle::InvoiceRecord;
use domain::problem::Problem;
use domain::timing::Timing;
use flows::match_invoice::InvoiceSettings;
use flows::ports::{Chance, Clock, ReadError};
use flows::store::{Context, FlowError};
use sandbox::local::RunFile;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wiring::Wiring;

/// Most connections of one installation that are listed.
const CONNECTIONS_MAX: usize = 200;
/// What an output of the stack that names a queue ends with, and what a queue in the template ends with.
const QUEUE_OUTPUT: &str = "QueueUrl";
const QUEUE_RESOURCE: &str = "Queue";
/// The output of the stack that begins every webhook's address.
const WEBHOOK_BASE_URL: &str = "WEBHOOK_BASE_URL";
/// The file of authorities that every AWS tool trusts.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";
/// Other addresses of AWS's services, as every AWS tool takes them from the environment.
const ENDPOINTS: [&str; 4] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
];
/// Variables without which nothing can be opened.
const NEEDED: [&Variable; 4] = [
    &aws::config::REGISTER_TABLE,
    &aws::config::AUDIT_TABLE,
    &aws::config::TOKENS_TABLE,
    &aws::config::INVOICES_QUEUE_URL,
];

/// Where to work; the same for every verb.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArguments {
    /// Folder of the local run: logs, and where other commands find it.
    #[arg(
        long,
        global = true,
        help_heading = "Where",
        value_name = "DIR",
        default_value = ".local-run"
    )]
    pub(crate) run_dir: PathBuf,
    /// Work on this stack in AWS instead of a local run.
    #[arg(long, global = true, help_heading = "Where", value_name = "NAME")]
    pub(crate) stack: Option<String>,
    /// AWS region; left out, as AWS's own tools find it.
    #[arg(
        long,
        global = true,
        help_heading = "Where",
        value_name = "REGION",
        requires = "stack"
    )]
    pub(crate) region: Option<String>,
    /// AWS profile; left out, as AWS's own tools find it.
    #[arg(
        long,
        global = true,
        help_heading = "Where",
        value_name = "PROFILE",
        requires = "stack"
    )]
    pub(crate) profile: Option<String>,
    /// Which connection; may be left out where there is only one.
    #[arg(long, short = 'c', global = true, help_heading = "Where", value_name = "ID")]
    pub(crate) connection_id: Option<ConnectionId>,
}

/// One queue of the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedQueue {
    /// Its short name: `invoices`, `invoices-dead-letter`.
    pub(crate) name: String,
    /// Its address.
    pub(crate) url: String,
}

impl NamedQueue {
    /// True for a queue that holds what failed.
    pub(crate) fn is_dead_letter(&self) -> bool {
        self.name.ends_with("-dead-letter")
    }
}

enum Kind {
    Local(Box<RunFile>),
    Aws(Box<SdkConfig>),
}

/// An opened place. Holds credentials, so it cannot be printed.
pub(crate) struct Place {
    kind: Kind,
    /// Everything as environment variables, by the functions' own names.
    variables: BTreeMap<String, String>,
    clients: Clients,
    timing: Timing,
    connection: Option<ConnectionId>,
    /// All queues, by name.
    pub(crate) queues: Vec<NamedQueue>,
}

/// Both systems of one connection, ready to be asked.
pub(crate) struct Systems {
    /// Its settings.
    pub(crate) document: ConnectionDocument,
    /// Coupa.
    pub(crate) coupa: CoupaClient,
    /// QAD, as the connection's first entity sees it.
    pub(crate) qad: QadClient,
    /// The entities; none in the short form.
    pub(crate) entities: Vec<OpenEntity>,
}

impl Systems {
    /// A connection's systems, with QAD as each of its entities sees it.
    pub(crate) fn new(
        document: ConnectionDocument,
        coupa: CoupaClient,
        qad: QadClient,
        opened: Vec<QadClient>,
    ) -> Self {
        let entities = document.entities.iter().zip(opened);
        let entities = entities
            .map(|(entity, qad)| OpenEntity {
                rule: entity.rule.clone(),
                qad,
                settings: document.entity_invoice_settings(entity),
            })
            .collect();
        Self {
            document,
            coupa,
            qad,
            entities,
        }
    }

    /// The connection's entities, and QAD as each sees it.
    pub(crate) fn books(&self) -> Vec<(&EntityCode, &QadClient)> {
        if self.entities.is_empty() {
            return vec![(&self.document.policy.entity, &self.qad)];
        }
        let entities = self.entities.iter();
        entities.map(|one| (&one.rule.code, &one.qad)).collect()
    }

    /// The books in which the documents of an invoice are: its own entity's, or the first one's where it was decided before
    /// there were several. `None` where its entity is none of the connection's any more.
    pub(crate) fn books_of(&self, record: &InvoiceRecord) -> Option<(&EntityCode, &QadClient)> {
        let mut books = self.books().into_iter();
        match &record.entity {
            Some(own) => books.find(|(entity, _)| *entity == own),
            None => books.next(),
        }
    }
}

/// One of a connection's entities, opened.
pub(crate) struct OpenEntity {
    /// Its code and conditions.
    pub(crate) rule: EntityRule,
    /// QAD as it sees it.
    pub(crate) qad: QadClient,
    /// Its settings.
    pub(crate) settings: InvoiceSettings,
}

/// The clients of this place. A local run is on this very machine: no proxy is asked there.
fn aws_clients(kind: &Kind, config: &Config) -> Result<Clients, Failure> {
    let settings = config.aws().map_err(Failure::from)?;
    Ok(match kind {
        Kind::Local(_) => Clients::new(settings),
        Kind::Aws(_) => Clients::over(settings, persons_http()?),
    })
}

/// How this machine reaches AWS.
fn persons_http() -> Result<SharedHttpClient, Failure> {
    const FIX: &str = "Give AWS_CA_BUNDLE a file of certificates (PEM), or unset it.";
    let authorities = match variable(CA_BUNDLE) {
        None => String::new(),
        Some(file) => std::fs::read_to_string(&file).map_err(|error| {
            Failure::from(
                Problem::new("TRUST_STORE_UNUSABLE", FIX)
                    .field(CA_BUNDLE)
                    .actual(format!("{file}: {error}")),
            )
        })?,
    };
    persons_http_client(&authorities).map_err(Failure::from)
}

impl Place {
    /// Opens the place the arguments name. Asks AWS at most for the stack's outputs.
    pub(crate) async fn open(arguments: &PlaceArguments) -> Result<Self, Failure> {
        match &arguments.stack {
            None => Self::local(running(&arguments.run_dir)?, arguments.connection_id.clone()),
            Some(stack) => Self::aws(stack, arguments).await,
        }
    }

    /// Opens a local run.
    pub(crate) fn local(run: RunFile, connection: Option<ConnectionId>) -> Result<Self, Failure> {
        let mut variables = run.function_environment.clone();
        variables.extend(run.environment.clone());
        let queues = run
            .queues
            .iter()
            .filter_map(|(name, url)| named_queue(name.strip_suffix(QUEUE_RESOURCE)?, url))
            .collect();
        Self::of(Kind::Local(Box::new(run)), variables, queues, connection)
    }

    async fn aws(stack: &str, arguments: &PlaceArguments) -> Result<Self, Failure> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(persons_http()?);
        if let Some(region) = &arguments.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &arguments.profile {
            loader = loader.profile_name(profile);
        }
        let sdk = loader.load().await;
        let mut variables = credentials(&sdk).await?;
        let mut own = own_variables();
        let mut queues = BTreeMap::new();
        if NEEDED.iter().all(|variable| own.contains_key(variable.name)) {
            terminal::note("names from the environment; CloudFormation is not asked");
        } else {
            let described = describe(&sdk, stack).await?;
            for (name, value) in &described {
                if let Some(queue) = name
                    .strip_suffix(QUEUE_OUTPUT)
                    .and_then(|name| named_queue(name, value))
                {
                    queues.insert(queue.name.clone(), queue);
                }
            }
            variables.extend(
                described
                    .into_iter()
                    .map(|(name, value)| (variable_name(&name), value)),
            );
        }
        for (variable, kind) in [
            (&aws::config::CONNECTION_SECRET_PREFIX, "connection"),
            (&aws::config::WEBHOOK_SECRET_PREFIX, "webhook"),
        ] {
            variables.insert(variable.name.to_owned(), format!("{stack}/{kind}/"));
        }
        for (name, value) in &own {
            if let Some(queue) = name
                .strip_suffix("_QUEUE_URL")
                .and_then(|name| named_queue(name, value))
            {
                queues.insert(queue.name.clone(), queue);
            }
        }
        variables.append(&mut own);
        let queues = queues.into_values().collect();
        Self::of(
            Kind::Aws(Box::new(sdk)),
            variables,
            queues,
            arguments.connection_id.clone(),
        )
    }

    fn of(
        kind: Kind,
        variables: BTreeMap<String, String>,
        queues: Vec<NamedQueue>,
        connection: Option<ConnectionId>,
    ) -> Result<Self, Failure> {
        let config = read_config(&variables)?;
        let missing: Vec<Problem> = NEEDED
            .iter()
            .filter_map(|variable| config.get(variable).err())
            .collect();
        if !missing.is_empty() {
            return Err(Failure::Failed(missing));
        }
        let timing = config.timing();
        let broken = timing.broken_links();
        if !broken.is_empty() {
            return Err(Failure::Failed(broken));
        }
        let clients = aws_clients(&kind, &config)?;
        Ok(Self {
            kind,
            variables,
            clients,
            timing,
            connection,
            queues,
        })
    }

    /// What it is, in a word or two.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Local(run) => format!("local run, process {}", run.process_id),
            Kind::Aws(sdk) => format!(
                "AWS {}",
                sdk.region().map_or_else(String::new, ToString::to_string)
            ),
        }
    }

    /// How AWS's other services are asked; none in a local run, which has only those it needs.
    pub(crate) fn sdk(&self) -> Option<&SdkConfig> {
        match &self.kind {
            Kind::Local(_) => None,
            Kind::Aws(sdk) => Some(sdk),
        }
    }

    /// Where Coupa calls a connection.
    pub(crate) fn webhook_url(&self, connection: &ConnectionId) -> Result<String, Failure> {
        let found = match &self.kind {
            Kind::Local(run) => run.webhook_urls.get(connection.as_str()).cloned(),
            Kind::Aws(_) => self
                .variables
                .get(WEBHOOK_BASE_URL)
                .map(|base| format!("{}/webhooks/coupa/{connection}", base.trim_end_matches('/'))),
        };
        found.ok_or_else(|| {
            Failure::NotFound(
                Problem::new(
                    "WEBHOOK_ADDRESS_UNKNOWN",
                    "Set WEBHOOK_BASE_URL to the stack's output of that name.",
                )
                .field(connection.to_string()),
            )
        })
    }

    /// Reads the webhook's document; it is never shown.
    pub(crate) async fn webhook_document(&self, connection: &ConnectionId) -> Result<SecretString, Failure> {
        let prefix = self.variable(&aws::config::WEBHOOK_SECRET_PREFIX)?;
        let reader = SecretReader::new(self.clients.secrets_manager(), prefix, Arc::new(SystemClock));
        let document = reader.current(connection).await.map_err(unread)?;
        Ok(document.text)
    }

    /// The configuration as a function would read it.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        read_config(&self.variables)
    }

    /// One of the functions' variables.
    pub(crate) fn variable(&self, variable: &Variable) -> Result<String, Failure> {
        Ok(self.config()?.get(variable).map_err(Failure::from)?.to_owned())
    }

    /// The chain of times the functions work with.
    pub(crate) fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The clients of AWS.
    pub(crate) fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Everything as a function has it, for running a flow here. On a stack only with a clock that agrees with AWS's: whoever sees a
    /// lease end too early sends what another one has sent.
    pub(crate) async fn wiring(&self) -> Result<Wiring, Failure> {
        if let Kind::Aws(sdk) = &self.kind {
            agree_on_time(sdk, self.timing.clock_skew_millis, Arc::new(SystemClock)).await?;
        }
        let config = self.config()?;
        let clients = aws_clients(&self.kind, &config)?;
        Wiring::new(World {
            config,
            clients,
            clock: Arc::new(SystemClock),
            chance: Arc::new(SystemChance),
        })
        .map_err(Failure::Failed)
    }

    /// One run of a function, from now.
    pub(crate) fn invocation(&self) -> Invocation {
        Invocation {
            request_id: format!("command-{}", SystemChance.token()),
            deadline: SystemClock.now().plus_millis(self.timing.function_millis),
        }
    }

    /// What a change of the register needs.
    pub(crate) fn context<'a>(&'a self, register: &'a DynamoRegister) -> Context<'a> {
        Context {
            register,
            clock: &SystemClock,
            chance: &SystemChance,
            timing: &self.timing,
            deadline: SystemClock.now().plus_millis(self.timing.function_millis),
        }
    }

    /// All connections.
    pub(crate) async fn connections(&self) -> Result<Vec<ConnectionId>, Failure> {
        let named = |id: &str| {
            id.parse::<ConnectionId>().map_err(|error| {
                Failure::from(Problem::new("CONNECTION_INVALID", "Rename it.").actual(error.to_string()))
            })
        };
        match &self.kind {
            Kind::Local(run) => run.webhook_urls.keys().map(|id| named(id)).collect(),
            Kind::Aws(_) => {
                let prefix = self.variable(&aws::config::CONNECTION_SECRET_PREFIX)?;
                let filter = aws_sdk_secretsmanager::types::Filter::builder()
                    .key(aws_sdk_secretsmanager::types::FilterNameStringType::Name)
                    .values(prefix.clone())
                    .build();
                let mut pages = self
                    .clients
                    .secrets_manager()
                    .list_secrets()
                    .filters(filter)
                    .into_paginator()
                    .send();
                let mut ids = Vec::new();
                while let Some(page) = pages.next().await {
                    let page = page.map_err(|error| {
                        refused("SECRETS_MANAGER", "ListSecrets", &error.into_service_error())
                    })?;
                    for secret in page.secret_list() {
                        if let Some(id) = secret.name().and_then(|name| name.strip_prefix(&prefix)) {
                            ids.push(named(id)?);
                        }
                    }
                    if ids.len() >= CONNECTIONS_MAX {
                        break;
                    }
                }
                ids.sort();
                Ok(ids)
            }
        }
    }

    /// The connection that was named, if there is one of this name, or the only one.
    pub(crate) async fn connection(&self) -> Result<ConnectionId, Failure> {
        if let Some(id) = &self.connection {
            return if self.is_known(id).await? {
                Ok(id.clone())
            } else {
                // Who may ask for one secret may not be allowed to list them: the names are a help, not the answer.
                Err(unknown_connection(
                    id,
                    &self.connections().await.unwrap_or_default(),
                ))
            };
        }
        let mut all = self.connections().await?;
        if all.len() == 1
            && let Some(only) = all.pop()
        {
            return Ok(only);
        }
        let known: Vec<&str> = all.iter().map(ConnectionId::as_str).collect();
        Err(
            Problem::new("CONNECTION_NOT_NAMED", "Name it with --connection-id.")
                .expected(known.join(", "))
                .into(),
        )
    }

    /// Whether there is a connection of this name. Its register cannot tell: that of a mistyped name is empty and well.
    async fn is_known(&self, id: &ConnectionId) -> Result<bool, Failure> {
        if matches!(self.kind, Kind::Local(_)) {
            return Ok(self.connections().await?.contains(id));
        }
        let prefix = self.variable(&aws::config::CONNECTION_SECRET_PREFIX)?;
        let asked = self
            .clients
            .secrets_manager()
            .describe_secret()
            .secret_id(format!("{prefix}{id}"))
            .send()
            .await;
        match asked.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(true),
            Err(DescribeSecretError::ResourceNotFoundException(_)) => Ok(false),
            Err(error) => Err(refused("SECRETS_MANAGER", "DescribeSecret", &error)),
        }
    }

    /// The register of a connection.
    pub(crate) fn register(&self, connection: &ConnectionId) -> Result<DynamoRegister, Failure> {
        let tables = self.config()?.register_tables().map_err(Failure::from)?;
        Ok(DynamoRegister::new(
            self.clients.dynamodb(),
            tables,
            connection.clone(),
            Arc::new(SystemClock),
            Arc::new(SystemChance),
        ))
    }

    /// The queue of this short name.
    pub(crate) fn queue(&self, name: &str) -> Result<&NamedQueue, Failure> {
        self.queues
            .iter()
            .find(|queue| queue.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = self.queues.iter().map(|queue| queue.name.as_str()).collect();
                Failure::NotFound(
                    Problem::new(
                        "QUEUE_NOT_FOUND",
                        "Use one of the names that `qad-coupa dlq list` shows.",
                    )
                    .field("queue")
                    .expected(known.join(", "))
                    .actual(name),
                )
            })
    }

    /// A queue that hints can be sent to.
    pub(crate) fn hints(&self, name: &str) -> Result<SqsQueue, Failure> {
        Ok(SqsQueue::new(self.clients.sqs(), self.queue(name)?.url.clone()))
    }

    /// Reads the connection's document; it is never shown.
    pub(crate) async fn document_text(&self, connection: &ConnectionId) -> Result<SecretString, Failure> {
        let document = self.secrets()?.current(connection).await.map_err(unread)?;
        Ok(document.text)
    }

    /// The connection's settings.
    pub(crate) async fn document(&self, connection: &ConnectionId) -> Result<ConnectionDocument, Failure> {
        let text = self.document_text(connection).await?;
        ConnectionDocument::parse(text.expose_secret()).map_err(Failure::Failed)
    }

    fn secrets(&self) -> Result<SecretReader, Failure> {
        let prefix = self.variable(&aws::config::CONNECTION_SECRET_PREFIX)?;
        Ok(SecretReader::new(
            self.clients.secrets_manager(),
            prefix,
            Arc::new(SystemClock),
        ))
    }

    /// Coupa and QAD of a connection.
    pub(crate) async fn systems(&self, connection: &ConnectionId) -> Result<Systems, Failure> {
        self.systems_through(connection, Arc::new(HttpTransport::new()))
            .await
    }

    /// Coupa and QAD of a connection, asked through `transport`.
    pub(crate) async fn systems_through(
        &self,
        connection: &ConnectionId,
        transport: Arc<dyn Transport>,
    ) -> Result<Systems, Failure> {
        let document = self.document(connection).await?;
        let keys: Arc<dyn aws::tokens::TokenKeys> = Arc::new(self.secrets()?);
        let (clock, chance): (Arc<dyn Clock>, Arc<dyn Chance>) =
            (Arc::new(SystemClock), Arc::new(SystemChance));
        let tokens = DynamoTokenStore::new(
            self.clients.dynamodb(),
            self.variable(&aws::config::TOKENS_TABLE)?,
            keys,
            Arc::clone(&clock),
            Arc::clone(&chance),
        );
        let http = HttpWorld {
            transport,
            tokens: Arc::new(tokens),
            clock,
            chance,
            paces: Arc::new(Paces::new(1)),
        };
        let timeout = Duration::from_millis(u64::try_from(self.timing.http_millis).unwrap_or(0));
        let (coupa, qad) = clients(connection, &document, &http, timeout);
        let opened = entity_clients(connection, &document, &http, timeout);
        Ok(Systems::new(document, coupa, qad, opened))
    }

    /// Who is at work, for the audit trail: in AWS the caller's own identity as AWS tells it.
    pub(crate) async fn actor(&self) -> Result<String, Failure> {
        match &self.kind {
            Kind::Local(_) => Ok(format!(
                "local:{}",
                variable("USER")
                    .or_else(|| variable("LOGNAME"))
                    .unwrap_or_else(|| "somebody".to_owned())
            )),
            Kind::Aws(sdk) => {
                let answer = aws_sdk_sts::Client::new(sdk)
                    .get_caller_identity()
                    .send()
                    .await
                    .map_err(|error| refused("STS", "GetCallerIdentity", &error.into_service_error()))?;
                answer.arn().map(str::to_owned).ok_or_else(|| {
                    Problem::new("STS_IDENTITY_MISSING", "Log in to AWS anew.")
                        .field("GetCallerIdentity")
                        .into()
                })
            }
        }
    }
}

/// Nothing is done for a connection that is not there: an empty register would look like a healthy one.
fn unknown_connection(id: &ConnectionId, known: &[ConnectionId]) -> Failure {
    let names: Vec<&str> = known.iter().map(ConnectionId::as_str).collect();
    let hint = nearest::hint(id.as_str(), names.iter().copied());
    let fix = format!("{hint}`qad-coupa connection list` shows all of them.");
    Failure::NotFound(
        Problem::new("CONNECTION_UNKNOWN", fix)
            .field("--connection-id")
            .expected(names.join(", "))
            .actual(id.as_str()),
    )
}

/// The local world that runs in `run_dir`.
pub(crate) fn running(run_dir: &Path) -> Result<RunFile, Failure> {
    RunFile::read(run_dir)?.ok_or_else(|| {
        Failure::Unreachable(
            Problem::new(
                "LOCAL_NOT_RUNNING",
                "Start it with `cargo demo --keep`, or with `cargo qad-coupa local`; for a stack in AWS give --stack.",
            )
            .field(run_dir.display().to_string())
            .expected("a running local world")
            .actual("none"),
        )
    })
}

/// Where the local run of these arguments is; a verb that is for it alone says so.
pub(crate) fn only_local(arguments: &PlaceArguments) -> Result<&Path, Failure> {
    match &arguments.stack {
        None => Ok(&arguments.run_dir),
        Some(stack) => Err(Failure::Refused(
            Problem::new("LOCAL_ONLY", "Leave --stack out.")
                .field("--stack")
                .expected("a local run")
                .actual(stack),
        )),
    }
}

/// A read that gave no answer.
pub(crate) fn unread(error: ReadError) -> Failure {
    match error {
        ReadError::Unavailable { problem, .. } => Failure::Unreachable(problem),
        ReadError::Refused(problem) if problem.code.ends_with("NOT_FOUND") => Failure::NotFound(problem),
        ReadError::Refused(problem) | ReadError::Unreadable(problem) => problem.into(),
    }
}

/// A flow that did not come to its end.
pub(crate) fn unfinished(error: FlowError) -> Failure {
    match error {
        FlowError::Store(error) => Failure::Unreachable(error.0),
        FlowError::Unanswered(problem) => Failure::Unreachable(problem),
        other => Failure::from(other.problem()),
    }
}

/// A call to AWS that failed, with what AWS says and without what was sent.
pub(crate) fn refused<E>(service: &str, operation: &str, error: &E) -> Failure
where
    E: std::error::Error,
{
    let problem = Problem::new(
        format!("{service}_FAILED"),
        "Check region, profile, names and permissions; what AWS says is in 'got'.",
    )
    .field(operation)
    .actual(DisplayErrorContext(error).to_string());
    Failure::Unreachable(problem)
}

/// Why there are no credentials, in words.
fn without_credentials(error: &CredentialsError) -> String {
    // AWS would list every place it has looked at.
    if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        return "none in the environment, the profile or the machine's role".to_owned();
    }
    said(error)
}

/// What an error says and what it came from, in words.
fn said(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words
}

fn read_config(variables: &BTreeMap<String, String>) -> Result<Config, Failure> {
    Config::read(|name| variables.get(name).cloned()).map_err(Failure::Failed)
}

async fn credentials(sdk: &SdkConfig) -> Result<BTreeMap<String, String>, Failure> {
    use aws_credential_types::provider::ProvideCredentials;
    let missing = |what: &str, fix: &str, actual: String| {
        Failure::Unreachable(Problem::new("AWS_NOT_CONFIGURED", fix).field(what).actual(actual))
    };
    let region = sdk
        .region()
        .ok_or_else(|| missing("region", "Give --region, or set AWS_REGION.", "none".to_owned()))?;
    let log_in = "Log in (for example `aws sso login`), give --profile, or set AWS_PROFILE.";
    let provider = sdk
        .credentials_provider()
        .ok_or_else(|| missing("credentials", log_in, "none".to_owned()))?;
    let found = provider
        .provide_credentials()
        .await
        .map_err(|error| missing("credentials", log_in, without_credentials(&error)))?;
    let mut variables = BTreeMap::from([
        ("AWS_REGION".to_owned(), region.to_string()),
        ("AWS_ACCESS_KEY_ID".to_owned(), found.access_key_id().to_owned()),
        (
            "AWS_SECRET_ACCESS_KEY".to_owned(),
            found.secret_access_key().to_owned(),
        ),
    ]);
    if let Some(token) = found.session_token() {
        variables.insert("AWS_SESSION_TOKEN".to_owned(), token.to_owned());
    }
    Ok(variables)
}

/// Refuses a clock that differs from AWS's by more than the flows reckon with. Who we are is asked, which everybody may.
async fn agree_on_time(sdk: &SdkConfig, allowed_millis: i64, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    let time = ServerTime::new(clock);
    let asked = aws_sdk_sts::Client::new(sdk)
        .get_caller_identity()
        .customize()
        .interceptor(time.clone())
        .send()
        .await;
    // A refusal has a date too, and a clock that is far off is what AWS refuses a signature for.
    if let Some(answered) = time.heard() {
        answered.within(allowed_millis).map_err(Failure::Refused)?;
    }
    asked.map_err(|error| refused("STS", "GetCallerIdentity", &error.into_service_error()))?;
    if time.heard().is_none() {
        let fix = "Ask AWS directly: something between here and there takes the date out of its answers.";
        let problem = Problem::new("CLOCK_NOT_COMPARED", fix).field("GetCallerIdentity");
        return Err(Failure::Unreachable(problem.expected("an answer with a date")));
    }
    Ok(())
}

/// The stack's parameters and outputs, by their names in the template.
async fn describe(sdk: &SdkConfig, stack: &str) -> Result<BTreeMap<String, String>, Failure> {
    let answer = aws_sdk_cloudformation::Client::new(sdk)
        .describe_stacks()
        .stack_name(stack)
        .send()
        .await
        .map_err(|error| {
            let told = error.into_service_error();
            // CloudFormation has no kind of its own for it.
            if told.message().is_some_and(|message| message.contains("does not exist")) {
                let region = sdk.region().map_or_else(String::new, ToString::to_string);
                return Failure::NotFound(
                    Problem::new("STACK_NOT_FOUND", "Check --stack, --region and --profile.")
                        .field("--stack")
                        .expected(format!("a stack in {region}"))
                        .actual(stack),
                );
            }
            let problem = Problem::new(
                "STACK_NOT_READ",
                "Check the name, region and profile. Without rights in CloudFormation set the functions' variables \
                 (REGISTER_TABLE, AUDIT_TABLE, TOKENS_TABLE, INVOICES_QUEUE_URL, ...) in the environment.",
            )
            .field(stack)
            .actual(DisplayErrorContext(&told).to_string());
            Failure::Unreachable(problem)
        })?;
    let described = answer.stacks().first();
    let parameters = described
        .into_iter()
        .flat_map(|stack| stack.parameters())
        .filter_map(|one| Some((one.parameter_key()?.to_owned(), one.parameter_value()?.to_owned())));
    let outputs = described
        .into_iter()
        .flat_map(|stack| stack.outputs())
        .filter_map(|one| Some((one.output_key()?.to_owned(), one.output_value()?.to_owned())));
    Ok(parameters.chain(outputs).collect())
}

/// `HttpTimeoutSeconds` is the function's `HTTP_TIMEOUT_SECONDS`, `RegisterTableName` its `REGISTER_TABLE`.
fn variable_name(name: &str) -> String {
    let name = name
        .strip_suffix("TableName")
        .map_or_else(|| name.to_owned(), |rest| format!("{rest}Table"));
    separated(&name, '_').to_ascii_uppercase()
}

fn separated(name: &str, separator: char) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push(separator);
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// A queue under its short name; `name` is `InvoicesDeadLetter` or `INVOICES_DEAD_LETTER`.
fn named_queue(name: &str, url: &str) -> Option<NamedQueue> {
    let name = if name.contains('_') || name.chars().all(|letter| letter.is_ascii_uppercase()) {
        name.to_ascii_lowercase().replace('_', "-")
    } else {
        separated(name, '-')
    };
    (!name.is_empty()).then(|| NamedQueue {
        name,
        url: url.to_owned(),
    })
}

/// The functions' variables that are set in the environment of this process.
fn own_variables() -> BTreeMap<String, String> {
    let dead_letters = [
        "INVOICES_DEAD_LETTER_QUEUE_URL",
        "PAYMENTS_DEAD_LETTER_QUEUE_URL",
        "SCHEDULES_DEAD_LETTER_QUEUE_URL",
    ];
    aws::config::VARIABLES
        .iter()
        .map(|variable| variable.name)
        .chain(dead_letters)
        .chain([WEBHOOK_BASE_URL])
        .chain(ENDPOINTS)
        .filter_map(|name| Some((name.to_owned(), variable(name)?)))
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the operator's environment is one of the places a stack's names come from"
)]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;
    use domain::time::Timestamp;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A clock that is so many milliseconds ahead.
    struct Ahead(i64);

    #[async_trait]
    impl Clock for Ahead {
        fn now(&self) -> Timestamp {
            SystemClock.now().plus_millis(self.0)
        }
        async fn sleep(&self, duration: Duration) {
            SystemClock.sleep(duration).await;
        }
    }

    /// What becomes of a clock that is so far ahead when AWS answers with this status, and with its date or without.
    async fn compared(ahead_millis: i64, status: &str, dated: bool) -> Result<(), Failure> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let now = u64::try_from(SystemClock.now().0).unwrap();
        let now = std::time::UNIX_EPOCH.checked_add(Duration::from_millis(now));
        let date = httpdate::fmt_http_date(now.unwrap());
        let date = if dated {
            format!("date: {date}\r\n")
        } else {
            String::new()
        };
        let body = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <GetCallerIdentityResult><Arn>arn:aws:iam::1:user/a</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>";
        let answer = format!(
            "HTTP/1.1 {status}\r\n{date}content-type: text/xml\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let served = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 65_536];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .http_client(persons_http_client("").unwrap())
            .endpoint_url(url)
            .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .build();
        let ended = agree_on_time(&sdk, 2_000, Arc::new(Ahead(ahead_millis))).await;
        served.abort();
        ended
    }

    #[tokio::test]
    async fn no_flow_runs_here_on_a_clock_that_is_not_awss() {
        let code = |ended: Result<(), Failure>| match ended {
            Ok(()) => String::new(),
            Err(Failure::Refused(problem) | Failure::Unreachable(problem)) => problem.code,
            Err(_) => "something else".to_owned(),
        };
        assert_eq!(code(compared(0, "200 OK", true).await), "");
        for ahead in [600_000, -600_000] {
            assert_eq!(code(compared(ahead, "200 OK", true).await), "CLOCK_SKEWED");
            assert_eq!(code(compared(ahead, "403 Forbidden", true).await), "CLOCK_SKEWED");
        }
        assert_eq!(code(compared(0, "200 OK", false).await), "CLOCK_NOT_COMPARED");
        assert_eq!(code(compared(0, "403 Forbidden", true).await), "STS_FAILED");
    }

    #[test]
    fn an_error_is_told_in_words_with_what_it_came_from() {
        let none = without_credentials(&CredentialsError::not_loaded("Attempted: all"));
        assert_eq!(none, "none in the environment, the profile or the machine's role");
        let told = without_credentials(&CredentialsError::provider_error("the token has expired"));
        assert!(told.ends_with(": the token has expired"), "{told}");
        assert!(!told.contains(['{', '(']), "{told}");
    }

    #[test]
    fn a_mistyped_connection_is_not_there_and_the_right_one_is_named() {
        let id = |text: &str| text.parse::<ConnectionId>().unwrap();
        let Failure::NotFound(problem) = unknown_connection(&id("demmo"), &[id("demo"), id("plant-2")])
        else {
            panic!("a name that is not there");
        };
        assert_eq!(problem.code, "CONNECTION_UNKNOWN");
        assert!(problem.fix.starts_with("Did you mean `demo`? "), "{problem}");
        assert_eq!(problem.expected, "demo, plant-2");
        let Failure::NotFound(far) = unknown_connection(&id("other"), &[id("demo")]) else {
            panic!("a name that is not there");
        };
        assert!(far.fix.starts_with("`qad-coupa connection list`"), "{far}");
    }

    #[test]
    fn names_of_the_template_become_the_functions_own() {
        assert_eq!(variable_name("HttpTimeoutSeconds"), "HTTP_TIMEOUT_SECONDS");
        assert_eq!(variable_name("RegisterTableName"), "REGISTER_TABLE");
        assert_eq!(variable_name("InvoicesQueueUrl"), "INVOICES_QUEUE_URL");
    }

    #[test]
    fn queues_have_one_short_name_wherever_they_are_found() {
        for name in ["InvoicesDeadLetter", "INVOICES_DEAD_LETTER"] {
            let queue = named_queue(name, "u").unwrap();
            assert_eq!(queue.name, "invoices-dead-letter");
            assert!(queue.is_dead_letter());
        }
        assert_eq!(named_queue("INVOICES", "u").unwrap().name, "invoices");
        assert_eq!(named_queue("", "u"), None);
    }

    /// Every variable a function reads can come from the stack: the template has an output or a parameter of its name.
    #[test]
    fn the_templates_outputs_and_parameters_name_every_variable() {
        let template = include_str!("../../../infra/stack.yaml");
        let names: Vec<String> = template
            .lines()
            .filter_map(|line| line.strip_prefix("  ")?.strip_suffix(':'))
            .filter(|name| !name.starts_with(' '))
            .map(variable_name)
            .collect();
        for variable in NEEDED {
            assert!(
                names.iter().any(|name| name == variable.name),
                "{}",
                variable.name
            );
        }
    }
}
