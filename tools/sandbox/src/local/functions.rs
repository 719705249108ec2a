//! The functions: their processes, started when needed, one call at a time each, ended at the timeout.

use super::events::{EventSender, LocalEvent, Trigger};
use super::logs::FunctionLog;
use super::runtime_api::{Answer, Call, PAYLOAD_BYTES_MAX, ReportedError, RuntimeApi};
use super::template::Function;
use super::{LocalError, clock};
use bytes::Bytes;
use domain::problem::Problem;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Most processes of one function on this machine, however many AWS would start.
pub const INSTANCES_MAX: usize = 4;
/// How long a process may take until it asks for its first call. AWS allows 10 s; a debug build on a busy machine more.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call has no answer, or one that is an error. What the function did before that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The function reported an error.
    #[error("{error_type}: {message}")]
    Function {
        /// The type it gave.
        error_type: String,
        /// The message it gave.
        message: String,
    },
    /// The function ran into its timeout and its process was ended.
    #[error("ended at its timeout of {} s", .0.as_secs())]
    Timeout(Duration),
    /// The process ended in the middle of the call.
    #[error("the process ended in the middle of the call ({0})")]
    Crashed(String),
    /// The process did not get as far as asking for the call; nothing was done.
    #[error("did not start: {0}")]
    NotStarted(String),
    /// The answer exceeds 6 MB.
    #[error("the answer exceeds 6 MB")]
    AnswerTooLarge,
    /// The event exceeds 6 MB; the function was not called.
    #[error("the event exceeds 6 MB")]
    EventTooLarge,
    /// The local run is ending; the function was not called.
    #[error("the local run is ending")]
    Ending,
}

impl InvokeError {
    /// The error type AWS would name.
    pub fn error_type(&self) -> &str {
        match self {
            Self::Function { error_type, .. } => error_type,
            Self::Timeout(_) => "Sandbox.Timedout",
            Self::Crashed(_) => "Runtime.ExitError",
            Self::NotStarted(_) => "Runtime.InvalidEntrypoint",
            Self::AnswerTooLarge => "Function.ResponseSizeTooLarge",
            Self::EventTooLarge => "RequestEntityTooLarge",
            Self::Ending => "ServiceException",
        }
    }

    /// What is wrong.
    pub fn problem(&self) -> Problem {
        let fix = "Look at the function's log under the run directory.";
        Problem::new("LOCAL_INVOCATION_FAILED", fix)
            .field(self.error_type())
            .actual(self.to_string())
    }
}

/// How a function's processes are started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    /// The whole environment, except for the address of the Runtime API.
    pub(crate) environment: BTreeMap<String, String>,
}

impl Launch {
    /// Finds the binary and composes the environment: what the template says, what Lambda adds, where the local AWS is.
    pub(crate) fn of(
        function: &Function,
        binaries_dir: &Path,
        aws_environment: BTreeMap<String, String>,
    ) -> Result<Self, LocalError> {
        let binary = find_binary(binaries_dir, &function.binary)?;
        let mut environment = aws_environment;
        let lambda = [
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.memory_mb.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", function.name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            (
                "AWS_LAMBDA_LOG_GROUP_NAME",
                format!("/aws/lambda/{}", function.name),
            ),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local".to_owned()),
            ("LAMBDA_TASK_ROOT", binaries_dir.display().to_string()),
            ("LANG", "en_US.UTF-8".to_owned()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("TZ", ":UTC".to_owned()),
            ("_HANDLER", "bootstrap".to_owned()),
        ];
        environment.extend(lambda.map(|(name, value)| (name.to_owned(), value)));
        for (name, value) in &function.environment {
            environment.insert(name.clone(), value.clone());
        }
        Ok(Self { binary, environment })
    }
}

/// A binary lies in the folder under its name, or as `bootstrap` in a folder of its name, as the packager leaves it.
fn find_binary(folder: &Path, name: &str) -> Result<PathBuf, LocalError> {
    let plain = folder.join(name);
    let packaged = plain.join("bootstrap");
    [plain.clone(), packaged]
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| {
            let fix = format!("Build it: cargo build --package {name}");
            let problem = Problem::new("LOCAL_BINARY_MISSING", fix);
            LocalError::Binary(Box::new(
                problem.field(name).expected(plain.display().to_string()),
            ))
        })
}

/// One function: its processes and its log.
#[derive(Clone)]
pub(crate) struct FunctionPool {
    inner: Arc<Inner>,
}

struct Inner {
    function: Function,
    launch: Launch,
    instances_max: usize,
    permits: Semaphore,
    idle: Mutex<Vec<Instance>>,
    log: FunctionLog,
    events: EventSender,
}

impl FunctionPool {
    pub(crate) fn new(function: Function, launch: Launch, log: FunctionLog, events: EventSender) -> Self {
        let reserved = function
            .reserved_concurrency
            .and_then(|count| usize::try_from(count).ok());
        let instances_max = reserved.unwrap_or(INSTANCES_MAX).min(INSTANCES_MAX);
        let permits = Semaphore::new(instances_max);
        let idle = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                function,
                launch,
                instances_max,
                permits,
                idle,
                log,
                events,
            }),
        }
    }

    pub(crate) fn function(&self) -> &Function {
        &self.inner.function
    }

    pub(crate) fn log(&self) -> &FunctionLog {
        &self.inner.log
    }

    /// Most calls at once.
    pub(crate) fn instances_max(&self) -> usize {
        self.inner.instances_max
    }

    /// Calls the function and waits for its answer.
    pub(crate) async fn invoke(&self, event: Bytes, trigger: Trigger) -> Result<Bytes, InvokeError> {
        let function = &self.inner.function;
        if event.len() > PAYLOAD_BYTES_MAX {
            return Err(InvokeError::EventTooLarge);
        }
        let permit = self
            .inner
            .permits
            .acquire()
            .await
            .map_err(|_| InvokeError::Ending)?;
        let request_id = uuid::Uuid::new_v4().to_string();
        self.inner.events.send(LocalEvent::InvocationStarted {
            function: function.logical_id.clone(),
            request_id: request_id.clone(),
            trigger,
        });
        let begun = Instant::now();
        let call = Call {
            request_id: request_id.clone(),
            function_arn: function.arn.clone(),
            timeout: function.timeout,
            event,
        };
        let result = self.run(call).await;
        drop(permit);
        let (function, duration) = (function.logical_id.clone(), begun.elapsed());
        self.inner.events.send(match &result {
            Ok(_) => LocalEvent::InvocationFinished {
                function,
                request_id,
                duration,
            },
            Err(error) => LocalEvent::InvocationFailed {
                function,
                request_id,
                duration,
                error: error.to_string(),
            },
        });
        result
    }

    async fn run(&self, call: Call) -> Result<Bytes, InvokeError> {
        if let Some(instance) = self.take_idle() {
            match self.run_in(instance, call.clone()).await {
                // It ended while it waited. It did not take the call, so another process may.
                Err(InvokeError::NotStarted(_)) => self.report_ended(),
                result => return result,
            }
        }
        let instance = Instance::start(&self.inner.launch, &self.inner.log).await?;
        self.run_in(instance, call).await
    }

    async fn run_in(&self, mut instance: Instance, call: Call) -> Result<Bytes, InvokeError> {
        let error = match instance.call(call).await {
            Ok(Answer::Success(body)) => {
                self.idle().push(instance);
                return Ok(body);
            }
            Ok(Answer::Failure(ReportedError { error_type, message })) => {
                self.idle().push(instance);
                return Err(InvokeError::Function { error_type, message });
            }
            // The process was cut off in the middle of its answer: what it does next is not to be relied on.
            Ok(Answer::TooLarge) => InvokeError::AnswerTooLarge,
            Err(error) => error,
        };
        instance.end().await;
        Err(error)
    }

    /// A process that waits; one that has ended in the meantime is forgotten.
    fn take_idle(&self) -> Option<Instance> {
        let mut idle = self.idle();
        while let Some(mut instance) = idle.pop() {
            if instance.is_alive() {
                return Some(instance);
            }
            self.report_ended();
        }
        None
    }

    fn report_ended(&self) {
        let function = self.inner.function.logical_id.clone();
        self.inner.events.send(LocalEvent::ProcessEnded { function });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no new calls, waits up to `wait` for the running ones, and ends every process.
    pub(crate) async fn shutdown(&self, wait: Duration) {
        let all = u32::try_from(self.inner.instances_max).unwrap_or(u32::MAX);
        match tokio::time::timeout(wait, self.inner.permits.acquire_many(all)).await {
            Ok(Ok(_) | Err(_)) => {}
            Err(_) => tracing::warn!(function = %self.inner.function.logical_id, "calls in work are cut off"),
        }
        self.inner.permits.close();
        let instances = std::mem::take(&mut *self.idle());
        for instance in instances {
            instance.end().await;
        }
    }
}

/// One process and its Runtime API.
struct Instance {
    child: Child,
    api: RuntimeApi,
}

impl Instance {
    async fn start(launch: &Launch, log: &FunctionLog) -> Result<Self, InvokeError> {
        let not_started = |error: String| InvokeError::NotStarted(error);
        let api = RuntimeApi::open()
            .await
            .map_err(|error| not_started(error.to_string()))?;
        let mut child = Command::new(&launch.binary)
            .env_clear()
            .envs(&launch.environment)
            .env("AWS_LAMBDA_RUNTIME_API", api.address())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C at the terminal reaches us, and we end the functions in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| not_started(format!("{}: {error}", launch.binary.display())))?;
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr);
        }
        Ok(Self { child, api })
    }

    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// One call. After an error the process must be ended.
    async fn call(&mut self, call: Call) -> Result<Answer, InvokeError> {
        let timeout = call.timeout;
        let (started, mut answer) = self.api.hand_over(call).await;
        tokio::select! {
            biased;
            taken = started => {
                taken.map_err(|_| InvokeError::NotStarted("the runtime interface has closed".to_owned()))?;
            }
            status = self.child.wait() => return Err(InvokeError::NotStarted(self.exit_reason(status))),
            () = clock::pause(START_TIMEOUT) => {
                let reason = format!("asked for no call within {} s", START_TIMEOUT.as_secs());
                return Err(InvokeError::NotStarted(reason));
            }
        }
        tokio::select! {
            biased;
            answer = &mut answer => answer.map_err(|_| InvokeError::Crashed("connection closed".to_owned())),
            status = self.child.wait() => match answer.try_recv() {
                // It answered and ended at once.
                Ok(answer) => Ok(answer),
                Err(_) => Err(InvokeError::Crashed(self.exit_reason(status))),
            },
            () = clock::pause(timeout) => Err(InvokeError::Timeout(timeout)),
        }
    }

    fn exit_reason(&self, status: std::io::Result<std::process::ExitStatus>) -> String {
        match (self.api.start_failure(), status) {
            (Some(failure), _) => format!("{}: {}", failure.error_type, failure.message),
            (None, Ok(status)) => status.to_string(),
            (None, Err(error)) => error.to_string(),
        }
    }

    async fn end(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(error = %error, "a function's process could not be ended");
        }
    }
}
