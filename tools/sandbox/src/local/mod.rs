//! The local AWS and the local runner: the deployable function binaries, wired as the templates say, in one process
//! with the services they use. No account, no container, loopback addresses only.
//!
//! [`LocalRun::start`] reads `infra/stack.yaml` once and `infra/connection.yaml` once per connection, creates tables,
//! queues and secrets, opens the gateway, starts deliveries and schedules. Function processes start when first called.
//!
//! Nothing outlives the run: processes are ended at [`LocalRun::shutdown`] and when it is dropped, and a process whose
//! parent vanished ends by itself because its Runtime API is gone. Signals are the caller's to catch.

pub mod aws;
mod clock;
pub mod cloudformation;
mod delivery;
pub mod dynamo;
pub mod events;
pub mod functions;
mod gateway;
mod logs;
mod run_file;
mod runtime_api;
mod schedules;
pub mod secrets;
mod serve;
pub mod sqs;
pub mod template;

pub use aws::LocalAws;
pub use events::{LocalEvent, Trigger};
pub use functions::InvokeError;
pub use run_file::{RUN_FILE, RunFile};
pub use schedules::interval;
pub use sqs::QueueDepth;

use bytes::Bytes;
use cloudformation::{Surroundings, Template};
use delivery::Delivery;
use domain::problem::Problem;
use events::EventSender;
use functions::{FunctionPool, Launch};
use gateway::Gateway;
use logs::FunctionLog;
use schedules::ScheduleRunner;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use template::{Queue, Schedule, Stack};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

/// How long calls in work may take to finish at a shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);
/// The word that switches a schedule off in [`LocalConnection::schedule_overrides`].
const OFF: &str = "off";

/// Why the local run could not start, or could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// A template cannot be used.
    #[error("{0}")]
    Template(#[from] cloudformation::TemplateError),
    /// A port cannot be opened.
    #[error("{0}")]
    Listen(Box<Problem>),
    /// The tables cannot be opened or created.
    #[error("{0}")]
    Storage(Box<Problem>),
    /// A queue cannot be created or used.
    #[error("{0}")]
    Queue(Box<Problem>),
    /// A secret cannot be created.
    #[error("{0}")]
    Secret(Box<Problem>),
    /// A function's binary is missing.
    #[error("{0}")]
    Binary(Box<Problem>),
    /// A file cannot be read or written.
    #[error("{0}")]
    File(Box<Problem>),
    /// A schedule cannot be run.
    #[error("{0}")]
    Schedule(Box<Problem>),
    /// There is no function, queue, connection or schedule of that name.
    #[error("{0}")]
    Unknown(Box<Problem>),
    /// A function has no answer, or one that is an error.
    #[error("{0}")]
    Invoke(#[from] InvokeError),
}

impl LocalError {
    /// What is wrong.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Template(error) => error.problem().clone(),
            Self::Invoke(error) => error.problem(),
            Self::Listen(problem)
            | Self::Storage(problem)
            | Self::Queue(problem)
            | Self::Secret(problem)
            | Self::Binary(problem)
            | Self::File(problem)
            | Self::Schedule(problem)
            | Self::Unknown(problem) => Problem::clone(problem),
        }
    }

    pub(crate) fn file(path: &Path, error: impl ToString) -> Self {
        let problem = Problem::new("LOCAL_FILE", "Check the path and the permissions.");
        Self::File(Box::new(
            problem
                .field(path.display().to_string())
                .actual(error.to_string()),
        ))
    }

    fn unknown(kind: &str, name: &str, known: impl IntoIterator<Item = String>) -> Self {
        let known: Vec<String> = known.into_iter().collect();
        let problem = Problem::new("LOCAL_UNKNOWN_NAME", "Use one of the names of the templates.");
        Self::Unknown(Box::new(
            problem.field(kind).expected(known.join(", ")).actual(name),
        ))
    }
}

/// What to start.
#[derive(Debug)]
pub struct LocalOptions {
    /// `AWS::StackName`: the first part of every name.
    pub stack_name: String,
    /// The template of what exists once.
    pub stack_template: PathBuf,
    /// The template of one connection.
    pub connection_template: PathBuf,
    /// The folder of the function binaries: `<name>`, or `<name>/bootstrap`.
    pub binaries_dir: PathBuf,
    /// The connections.
    pub connections: Vec<LocalConnection>,
    /// Parameters of the stack template that differ from their defaults.
    pub parameters: BTreeMap<String, String>,
    /// How long a delivered message is hidden, instead of what the template says: for a demonstration that cannot wait.
    pub queue_visibility: Option<Duration>,
    /// Where tables are kept; in memory when `None`. Queues and secrets are always in memory.
    pub data_dir: Option<PathBuf>,
    /// Where logs and the run file go.
    pub run_dir: PathBuf,
    /// The ports.
    pub ports: LocalPorts,
}

/// The ports of the local run; 0 lets the machine choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalPorts {
    /// DynamoDB.
    pub dynamodb: u16,
    /// SQS and Secrets Manager.
    pub messaging: u16,
    /// The HTTP API.
    pub gateway: u16,
}

/// One connection.
#[derive(Debug)]
pub struct LocalConnection {
    /// Its id.
    pub id: String,
    /// The secret with the settings and credentials of both systems: JSON.
    pub connection_secret: SecretString,
    /// The secret with the webhook's scheme and signing secrets: JSON.
    pub webhook_secret: SecretString,
    /// Parameters of the connection template that differ from their defaults; its `StackName` and `ConnectionId` are
    /// filled in.
    pub parameters: BTreeMap<String, String>,
    /// Schedules that run otherwise than the template says, by their names there (`Sweep`): `every 2 seconds`,
    /// `rate(1 minute)`, or `off`.
    pub schedule_overrides: BTreeMap<String, String>,
}

/// A running local world.
pub struct LocalRun {
    aws: LocalAws,
    stack: Stack,
    functions: Vec<FunctionPool>,
    schedules: Vec<ScheduleRunner>,
    connections: Vec<String>,
    gateway_url: String,
    events: EventSender,
    schedules_paused: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
    gateway: JoinSet<()>,
    run_file: run_file::WrittenRunFile,
}

impl std::fmt::Debug for LocalRun {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LocalRun")
            .field("gateway_url", &self.gateway_url)
            .finish_non_exhaustive()
    }
}

impl LocalRun {
    /// Starts everything. When it fails, what was started has ended again.
    ///
    /// # Errors
    /// A template that cannot be used, a binary that is missing, a port that is taken, tables that differ from the
    /// template's.
    pub async fn start(options: LocalOptions) -> Result<Self, LocalError> {
        let logs_dir = options.run_dir.join("logs");
        for folder in [Some(&logs_dir), options.data_dir.as_ref()].into_iter().flatten() {
            std::fs::create_dir_all(folder).map_err(|error| LocalError::file(folder, error))?;
        }
        let ports = options.ports;
        let aws = LocalAws::start(options.data_dir.as_deref(), ports.dynamodb, ports.messaging).await?;
        let (gateway_listener, gateway_port) = serve::listen(ports.gateway).await?;
        let gateway_url = format!("http://127.0.0.1:{gateway_port}");
        let plan = Plan::of(&options, aws.messaging_url(), &gateway_url)?;

        plan.create(&aws, &options.connections).await?;
        let events = EventSender::new();
        let mut functions = Vec::new();
        for function in &plan.stack.functions {
            let launch = Launch::of(function, &options.binaries_dir, aws.environment())?;
            let log = FunctionLog::open(&logs_dir, &function.binary).await?;
            functions.push(FunctionPool::new(function.clone(), launch, log, events.clone()));
        }
        let deliveries = deliveries(&plan.stack, &functions, &aws, &events)?;
        let schedules = plan.schedule_runners(&options.connections, &functions, &aws, &events)?;

        let (stop, stopped) = watch::channel(false);
        let (schedules_paused, paused) = watch::channel(false);
        let mut workers = JoinSet::new();
        for delivery in deliveries {
            for _ in 0..delivery.concurrency() {
                workers.spawn(delivery.clone().run(stopped.clone()));
            }
        }
        for runner in &schedules {
            workers.spawn(runner.clone().run(paused.clone(), stopped.clone()));
        }
        let mut gateway = JoinSet::new();
        let routes = Gateway::new(&functions);
        gateway.spawn(serve::serve(gateway_listener, move |request| {
            routes.clone().answer(request)
        }));

        let connections: Vec<String> = options.connections.iter().map(|one| one.id.clone()).collect();
        let run_file = RunFile::of(
            &options.stack_name,
            &aws,
            &plan.stack,
            &functions,
            &gateway_url,
            &connections,
        );
        let run_file = run_file.write(&options.run_dir)?;
        Ok(Self {
            aws,
            stack: plan.stack,
            functions,
            schedules,
            connections,
            gateway_url,
            events,
            schedules_paused,
            stop,
            workers,
            gateway,
            run_file,
        })
    }

    /// The address of a connection's webhook.
    ///
    /// # Errors
    /// There is no such connection, or the template has no route for webhooks.
    pub fn webhook_url(&self, connection: &str) -> Result<String, LocalError> {
        if !self.connections.iter().any(|id| id == connection) {
            return Err(LocalError::unknown(
                "connection",
                connection,
                self.connections.clone(),
            ));
        }
        webhook_path(&self.stack, connection)
            .map(|path| format!("{}{path}", self.gateway_url))
            .ok_or_else(|| LocalError::unknown("route", "{connection}", []))
    }

    /// The address of the gateway, without a final slash.
    pub fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    /// The environment variables with which an AWS SDK, or the AWS command line, talks to this world.
    pub fn aws_endpoints(&self) -> BTreeMap<String, String> {
        self.aws.environment()
    }

    /// The services themselves.
    pub fn aws(&self) -> &LocalAws {
        &self.aws
    }

    /// What the stack template says, evaluated.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// What other commands find this world by.
    pub fn run_file(&self) -> &RunFile {
        self.run_file.content()
    }

    /// How full each queue is, by the queues' names in the template.
    ///
    /// # Errors
    /// A queue is gone.
    pub async fn queue_depths(&self) -> Result<BTreeMap<String, QueueDepth>, LocalError> {
        let mut depths = BTreeMap::new();
        for queue in &self.stack.queues {
            depths.insert(queue.logical_id.clone(), self.aws.sqs.depth(&queue.url).await?);
        }
        Ok(depths)
    }

    /// Calls a function and waits for its answer. `function` is its name in the template, in AWS, or its binary's.
    ///
    /// # Errors
    /// There is no such function, it answered with an error, or it did not answer.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value, LocalError> {
        let pool = self.pool(function)?;
        let answer = pool
            .invoke(Bytes::from(event.to_string()), Trigger::Direct)
            .await?;
        serde_json::from_slice(&answer).map_err(|error| {
            let error_type = "Runtime.InvalidJson".to_owned();
            LocalError::Invoke(InvokeError::Function {
                error_type,
                message: error.to_string(),
            })
        })
    }

    /// The last lines a function printed, oldest first.
    ///
    /// # Errors
    /// There is no such function.
    pub fn last_log_lines(&self, function: &str) -> Result<Vec<String>, LocalError> {
        Ok(self.pool(function)?.log().last_lines())
    }

    fn pool(&self, name: &str) -> Result<&FunctionPool, LocalError> {
        let is_it = |pool: &&FunctionPool| {
            let function = pool.function();
            [&function.logical_id, &function.name, &function.binary]
                .iter()
                .any(|known| *known == name)
        };
        let known = || {
            self.functions
                .iter()
                .map(|pool| pool.function().logical_id.clone())
        };
        self.functions
            .iter()
            .find(is_it)
            .ok_or_else(|| LocalError::unknown("function", name, known()))
    }

    /// Stops all schedules until [`resume_schedules`](Self::resume_schedules); calls in work go on.
    pub fn pause_schedules(&self) {
        self.schedules_paused.send_replace(true);
    }

    /// Lets the schedules that are on run again, from their next tick.
    pub fn resume_schedules(&self) {
        self.schedules_paused.send_replace(false);
    }

    /// Switches one schedule of one connection on or off.
    ///
    /// # Errors
    /// There is no such schedule.
    pub fn switch_schedule(&self, connection: &str, schedule: &str, on: bool) -> Result<(), LocalError> {
        self.runner(connection, schedule)?
            .enabled
            .store(on, Ordering::Relaxed);
        Ok(())
    }

    /// Runs one schedule once, now, even while it is off or paused, and waits for the end of the call.
    ///
    /// # Errors
    /// There is no such schedule. A call that failed is among the [`events`](Self::events).
    pub async fn run_schedule_now(&self, connection: &str, schedule: &str) -> Result<(), LocalError> {
        self.runner(connection, schedule)?.fire().await;
        Ok(())
    }

    fn runner(&self, connection: &str, schedule: &str) -> Result<&ScheduleRunner, LocalError> {
        let is_it = |runner: &&ScheduleRunner| {
            let names = [&runner.schedule.logical_id, &runner.schedule.name];
            runner.connection == connection && names.iter().any(|known| *known == schedule)
        };
        let known = || {
            self.schedules
                .iter()
                .map(|runner| format!("{}/{}", runner.connection, runner.schedule.logical_id))
        };
        let name = format!("{connection}/{schedule}");
        self.schedules
            .iter()
            .find(is_it)
            .ok_or_else(|| LocalError::unknown("schedule", &name, known()))
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<LocalEvent> {
        self.events.subscribe()
    }

    /// Ends everything: no new work, up to five seconds for calls in work, then every process is ended.
    pub async fn shutdown(mut self) {
        self.gateway.shutdown().await;
        self.stop.send_replace(true);
        let finished = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_WAIT, finished).await.is_err() {
            tracing::warn!("work is cut off");
        }
        self.workers.shutdown().await;
        for function in &self.functions {
            function.shutdown(SHUTDOWN_WAIT).await;
        }
        self.aws.shutdown().await;
    }
}

/// The path of the route that ends with the connection.
fn webhook_path(stack: &Stack, connection: &str) -> Option<String> {
    let mut routes = stack.functions.iter().flat_map(|function| &function.routes);
    let route = routes.find(|route| route.path.ends_with("/{connection}"))?;
    Some(route.path.replace("{connection}", connection))
}

/// What the templates say, evaluated and checked against each other, before anything is created.
struct Plan {
    stack: Stack,
    connections: Vec<Stack>,
    queue_visibility: Option<Duration>,
}

impl Plan {
    fn of(options: &LocalOptions, queue_endpoint: &str, gateway_endpoint: &str) -> Result<Self, LocalError> {
        let around = |stack_name: String| Surroundings {
            region: aws::REGION.to_owned(),
            account_id: aws::ACCOUNT_ID.to_owned(),
            stack_name,
            queue_endpoint: queue_endpoint.to_owned(),
            gateway_endpoint: gateway_endpoint.to_owned(),
        };
        let (file, text) = read_template(&options.stack_template)?;
        let surroundings = around(options.stack_name.clone());
        let template = Template::read(&file, &text, &options.parameters, surroundings, BTreeMap::new())?;
        let stack = Stack::of(&template)?;
        refuse(
            &template,
            "schedules outside a connection",
            !stack.schedules.is_empty(),
        )?;
        refuse(
            &template,
            "secrets outside a connection",
            !stack.secrets.is_empty(),
        )?;

        let (file, text) = read_template(&options.connection_template)?;
        let declared = Template::parameter_names(&file, &text)?;
        let mut connections = Vec::new();
        for connection in &options.connections {
            let mut parameters = connection.parameters.clone();
            for (name, value) in [
                ("StackName", &options.stack_name),
                ("ConnectionId", &connection.id),
            ] {
                if declared.iter().any(|known| known == name) {
                    parameters.entry(name.to_owned()).or_insert_with(|| value.clone());
                }
            }
            let surroundings = around(format!("{}-{}", options.stack_name, connection.id));
            let template = Template::read(
                &file,
                &text,
                &parameters,
                surroundings,
                stack.outputs.exports.clone(),
            )?;
            let own = Stack::of(&template)?;
            refuse(&template, "functions of a connection", !own.functions.is_empty())?;
            refuse(
                &template,
                "other secrets than the connection's and the webhook's",
                own.secrets.len() != 2,
            )?;
            connections.push(own);
        }
        Ok(Self {
            stack,
            connections,
            queue_visibility: options.queue_visibility,
        })
    }

    async fn create(&self, aws: &LocalAws, given: &[LocalConnection]) -> Result<(), LocalError> {
        for table in self.all().flat_map(|stack| &stack.tables) {
            aws.dynamo.ensure_table(table)?;
        }
        // A queue's dead-letter queue must exist before it.
        let queues = || self.all().flat_map(|stack| &stack.queues);
        let redrives = |queue: &&Queue| queue.attributes.contains_key("RedrivePolicy");
        for queue in queues()
            .filter(|queue| !redrives(queue))
            .chain(queues().filter(redrives))
        {
            let mut attributes = queue.attributes.clone();
            if let Some(visibility) = self.queue_visibility {
                attributes.insert("VisibilityTimeout".to_owned(), visibility.as_secs().to_string());
            }
            aws.sqs.create(&queue.name, &attributes).await?;
        }
        for (connection, stack) in given.iter().zip(&self.connections) {
            for name in &stack.secrets {
                aws.secrets.create(name, secret_of(connection, name)?).await?;
            }
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Stack> {
        std::iter::once(&self.stack).chain(&self.connections)
    }

    fn schedule_runners(
        &self,
        given: &[LocalConnection],
        functions: &[FunctionPool],
        aws: &LocalAws,
        events: &EventSender,
    ) -> Result<Vec<ScheduleRunner>, LocalError> {
        let mut runners = Vec::new();
        for (connection, stack) in given.iter().zip(&self.connections) {
            let known = || stack.schedules.iter().map(|schedule| schedule.logical_id.clone());
            for name in connection.schedule_overrides.keys() {
                if !known().any(|one| one == *name) {
                    return Err(LocalError::unknown("schedule", name, known()));
                }
            }
            for schedule in &stack.schedules {
                let changed = connection
                    .schedule_overrides
                    .get(&schedule.logical_id)
                    .map(String::as_str);
                let expression = changed
                    .filter(|text| *text != OFF)
                    .unwrap_or(&schedule.expression);
                let function = function_of(functions, &schedule.target_arn)?.clone();
                let failure_queue_arn = function.function().async_failure_queue_arn.clone();
                runners.push(ScheduleRunner {
                    connection: connection.id.clone(),
                    interval: interval(&schedule.logical_id, expression)?,
                    sqs: aws.sqs.clone(),
                    dead_letter_queue_url: self.queue_url(schedule.dead_letter_queue_arn.as_deref())?,
                    failure_queue_url: self.queue_url(failure_queue_arn.as_deref())?,
                    events: events.clone(),
                    enabled: Arc::new(AtomicBool::new(is_on(schedule, changed))),
                    unfinished: ScheduleRunner::new_limit(),
                    schedule: schedule.clone(),
                    function,
                });
            }
        }
        Ok(runners)
    }

    fn queue_url(&self, arn: Option<&str>) -> Result<Option<String>, LocalError> {
        let Some(arn) = arn else { return Ok(None) };
        let queues = || self.all().flat_map(|stack| &stack.queues);
        let found = queues().find(|queue| queue.arn == arn);
        let known = || queues().map(|queue| queue.arn.clone());
        found
            .map(|queue| Some(queue.url.clone()))
            .ok_or_else(|| LocalError::unknown("queue", arn, known()))
    }
}

/// What a template may say by CloudFormation's rules and the local run would pass over.
fn refuse(template: &Template, what: &str, is_there: bool) -> Result<(), LocalError> {
    if is_there {
        let at = template.place("Resources");
        return Err(LocalError::Template(cloudformation::TemplateError::unsupported(
            &at, what,
        )));
    }
    Ok(())
}

fn is_on(schedule: &Schedule, changed: Option<&str>) -> bool {
    changed.map_or(schedule.enabled, |changed| changed != OFF)
}

fn read_template(path: &Path) -> Result<(String, String), LocalError> {
    let text = std::fs::read_to_string(path).map_err(|error| LocalError::file(path, error))?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned();
    Ok((file, text))
}

/// Which of a connection's secrets goes under a name that the template declares.
fn secret_of<'a>(connection: &'a LocalConnection, name: &str) -> Result<&'a SecretString, LocalError> {
    let suffixes = ["connection", "webhook"].map(|kind| format!("/{kind}/{}", connection.id));
    let [settings, webhook] = &suffixes;
    if name.ends_with(settings.as_str()) {
        return Ok(&connection.connection_secret);
    }
    if name.ends_with(webhook.as_str()) {
        return Ok(&connection.webhook_secret);
    }
    Err(LocalError::unknown("secret", name, suffixes))
}

fn function_of<'a>(functions: &'a [FunctionPool], arn: &str) -> Result<&'a FunctionPool, LocalError> {
    let known = || functions.iter().map(|pool| pool.function().arn.clone());
    let found = functions.iter().find(|pool| pool.function().arn == arn);
    found.ok_or_else(|| LocalError::unknown("function", arn, known()))
}

fn deliveries(
    stack: &Stack,
    functions: &[FunctionPool],
    aws: &LocalAws,
    events: &EventSender,
) -> Result<Vec<Delivery>, LocalError> {
    let mut deliveries = Vec::new();
    for function in functions {
        for source in function.function().queues.iter().filter(|source| source.enabled) {
            let known = || stack.queues.iter().map(|queue| queue.arn.clone());
            let queue = stack.queues.iter().find(|queue| queue.arn == source.queue_arn);
            let queue = queue.ok_or_else(|| LocalError::unknown("queue", &source.queue_arn, known()))?;
            deliveries.push(Delivery {
                sqs: aws.sqs.clone(),
                queue: queue.clone(),
                source: source.clone(),
                function: function.clone(),
                events: events.clone(),
            });
        }
    }
    Ok(deliveries)
}
