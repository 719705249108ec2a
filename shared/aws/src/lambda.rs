//! What every function's `main` does around its flow: configuration, telemetry, the runtime loop.

use crate::clients::Clients;
use crate::clock::{SystemChance, SystemClock};
use crate::config::{self, Config, Variable};
use crate::telemetry;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{Chance, Clock};
use futures_util::FutureExt;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::Arc;
use tracing::Instrument;

/// What a function is built from. Nothing in it has been used yet: every client is built when it is first asked for.
pub struct World {
    /// The environment.
    pub config: Config,
    /// AWS.
    pub clients: Clients,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
}

/// One call of the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Lambda's id of it.
    pub request_id: String,
    /// When Lambda ends it.
    pub deadline: Timestamp,
}

/// Runs a function until Lambda ends the process. `build` makes the handler once, from a world in which all `needed`
/// variables are set; it must be cheap and sends nothing. An error of the handler makes Lambda repeat the event.
///
/// What is wrong with the configuration is logged, all of it, and ends the process before the first event.
pub fn start<Request, Answer, Handler>(
    function: &'static str,
    needed: &[Variable],
    build: impl FnOnce(World) -> Result<Handler, Vec<Problem>>,
) -> ExitCode
where
    Request: DeserializeOwned,
    Answer: Serialize,
    Handler: AsyncFn(Request, Invocation) -> Result<Answer, Problem>,
{
    let problems = match prepare(function, needed).and_then(build) {
        Ok(handler) => match run(&handler) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(problem) => vec![problem],
        },
        Err(problems) => problems,
    };
    for problem in problems {
        tracing::error!(code = %problem.code, %problem, "the function cannot run");
    }
    ExitCode::FAILURE
}

/// An answer as JSON, for a function whose answer's type has no name.
///
/// # Errors
/// `ANSWER_UNWRITABLE`: a defect.
pub fn as_json(answer: impl Serialize) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(answer).map_err(|error| {
        Problem::new("ANSWER_UNWRITABLE", "This is a defect: report it with this line.")
            .actual(error.to_string())
    })
}

fn prepare(function: &'static str, needed: &[Variable]) -> Result<World, Vec<Problem>> {
    let read = Config::from_env();
    // Even a broken environment is told as JSON lines.
    let (namespace, level) = match &read {
        Ok(config) => (
            config.metrics_namespace().unwrap_or(function).to_owned(),
            config.level(),
        ),
        Err(_) => (
            config::METRICS_NAMESPACE.default.unwrap_or(function).to_owned(),
            tracing::Level::INFO,
        ),
    };
    telemetry::start(function, &namespace, level).map_err(|problem| vec![problem])?;
    no_core_dumps();
    let config = read?;
    config.require(needed)?;
    let clients = Clients::new(config.aws().map_err(|problem| vec![problem])?);
    Ok(World {
        config,
        clients,
        clock: Arc::new(SystemClock),
        chance: Arc::new(SystemChance),
    })
}

/// A crash leaves no memory behind, in which tokens would be.
fn no_core_dumps() {
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(code = "CORE_DUMPS_ALLOWED", problem = %error, "core dumps cannot be switched off");
    }
}

fn run<Request, Answer, Handler>(handler: &Handler) -> Result<(), Problem>
where
    Request: DeserializeOwned,
    Answer: Serialize,
    Handler: AsyncFn(Request, Invocation) -> Result<Answer, Problem>,
{
    let broken = |actual: String| {
        Problem::new(
            "RUNTIME_FAILED",
            "Nothing to do: Lambda starts the function again.",
        )
        .actual(actual)
    };
    // One event at a time and hardly any computing: one thread is enough, and starts faster.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| broken(error.to_string()))?;
    let is_first = &Cell::new(true);
    let service = service_fn(move |event: LambdaEvent<Request>| async move {
        let (request, context) = event.into_parts();
        let invocation = Invocation {
            deadline: Timestamp(i64::try_from(context.deadline).unwrap_or(i64::MAX)),
            request_id: context.request_id,
        };
        let span = tracing::info_span!(
            "invocation",
            request_id = invocation.request_id,
            cold_start = is_first.replace(false)
        );
        // The runtime would answer with the panic's text, and nobody knows what a text holds.
        AssertUnwindSafe(handler(request, invocation).instrument(span))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(panicked()))
            .map_err(diagnose)
    });
    runtime
        .block_on(Runtime::new(service).run())
        .map_err(|error| broken(error.to_string()))
}

/// Where it happened is in the log; the text stays in the process.
fn panicked() -> Problem {
    Problem::new(
        "FUNCTION_PANICKED",
        "Report this with the log line of the panic; the event comes again.",
    )
}

fn diagnose(problem: Problem) -> Diagnostic {
    tracing::error!(code = %problem.code, %problem, "the event failed and comes again");
    Diagnostic {
        error_type: problem.code.clone(),
        error_message: problem.to_string(),
    }
}
