//! The Lambda Runtime API: the HTTP interface through which a function's process takes calls and gives answers.
//!
//! One per process. The wire is AWS's "Using the Lambda runtime API for custom runtimes", version 2018-06-01.

use super::serve::{self, BodyError};
use super::{LocalError, clock};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Largest event and largest answer of a synchronous call, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Largest report of an error, in bytes.
const ERROR_BYTES_MAX: usize = 256 * 1024;

/// One call of a function.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) request_id: String,
    pub(crate) function_arn: String,
    pub(crate) timeout: Duration,
    pub(crate) event: Bytes,
}

/// What the process answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Success(Bytes),
    Failure(ReportedError),
    TooLarge,
}

/// An error that the process reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportedError {
    pub(crate) error_type: String,
    pub(crate) message: String,
}

struct Pending {
    call: Call,
    started: oneshot::Sender<()>,
    answered: oneshot::Sender<Answer>,
}

#[derive(Default)]
struct Current {
    request_id: String,
    answered: Option<oneshot::Sender<Answer>>,
    start_failure: Option<ReportedError>,
}

struct State {
    waiting: tokio::sync::Mutex<mpsc::Receiver<Pending>>,
    current: Mutex<Current>,
}

/// The interface of one process. It closes when dropped, which makes the process end by itself.
pub(crate) struct RuntimeApi {
    address: String,
    calls: mpsc::Sender<Pending>,
    state: Arc<State>,
    /// Held for its drop: it ends the listener and every connection.
    _server: JoinSet<()>,
}

impl RuntimeApi {
    pub(crate) async fn open() -> Result<Self, LocalError> {
        let (listener, port) = serve::listen(0).await?;
        let (calls, waiting) = mpsc::channel(1);
        let state = Arc::new(State {
            waiting: tokio::sync::Mutex::new(waiting),
            current: Mutex::default(),
        });
        let mut server = JoinSet::new();
        let answering = Arc::clone(&state);
        server.spawn(serve::serve(listener, move |request| {
            respond(Arc::clone(&answering), request)
        }));
        Ok(Self {
            address: format!("127.0.0.1:{port}"),
            calls,
            state,
            _server: server,
        })
    }

    /// What `AWS_LAMBDA_RUNTIME_API` must be.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Hands over a call: one receiver hears that the process took it, the other what it answered.
    pub(crate) async fn hand_over(&self, call: Call) -> (oneshot::Receiver<()>, oneshot::Receiver<Answer>) {
        let (started, has_started) = oneshot::channel();
        let (answered, answer) = oneshot::channel();
        if self
            .calls
            .send(Pending {
                call,
                started,
                answered,
            })
            .await
            .is_err()
        {
            // The receivers find their senders gone, which the caller reports.
            tracing::debug!("the runtime interface has closed");
        }
        (has_started, answer)
    }

    /// What the process said when it could not start.
    pub(crate) fn start_failure(&self) -> Option<ReportedError> {
        self.state.current().start_failure.clone()
    }
}

impl State {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the answer to whoever waits for it; false when nobody waits for this request.
    fn settle(&self, request_id: &str, answer: Answer) -> bool {
        let mut current = self.current();
        let awaited = current.request_id == request_id;
        match current.answered.take_if(|_| awaited) {
            // A caller that is gone has given up on this call; the process has done its part.
            Some(answered) => answered.send(answer).is_ok() || awaited,
            None => false,
        }
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["2018-06-01", "runtime", "invocation", "next"]) => next(&state).await,
        (&Method::POST, ["2018-06-01", "runtime", "invocation", request_id, "response"]) => {
            match serve::read_body(request.into_body(), PAYLOAD_BYTES_MAX).await {
                Ok(body) => accepted(state.settle(request_id, Answer::Success(body))),
                Err(BodyError::TooLarge) => {
                    state.settle(request_id, Answer::TooLarge);
                    error(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        "RequestEntityTooLarge",
                        "The answer exceeds 6 MB.",
                    )
                }
                Err(BodyError::Broken) => {
                    error(StatusCode::BAD_REQUEST, "InvalidRequest", "The body was cut off.")
                }
            }
        }
        (&Method::POST, ["2018-06-01", "runtime", "invocation", request_id, "error"]) => {
            match read_error(request).await {
                Ok(reported) => accepted(state.settle(request_id, Answer::Failure(reported))),
                Err(answer) => answer,
            }
        }
        (&Method::POST, ["2018-06-01", "runtime", "init", "error"]) => match read_error(request).await {
            Ok(reported) => {
                state.current().start_failure = Some(reported);
                accepted(true)
            }
            Err(answer) => answer,
        },
        _ => error(
            StatusCode::NOT_FOUND,
            "NotFound",
            "The Runtime API has no such operation.",
        ),
    }
}

async fn next(state: &State) -> Response<Full<Bytes>> {
    let taken = state.waiting.lock().await.recv().await;
    let Some(Pending {
        call,
        started,
        answered,
    }) = taken
    else {
        return error(StatusCode::GONE, "Closed", "The local run is ending.");
    };
    {
        let mut current = state.current();
        current.request_id.clone_from(&call.request_id);
        current.answered = Some(answered);
    }
    if started.send(()).is_err() {
        tracing::debug!(request_id = %call.request_id, "the caller gave up before the function took the call");
    }
    let timeout = u64::try_from(call.timeout.as_millis()).unwrap_or(u64::MAX);
    let deadline = clock::epoch_milliseconds().saturating_add(timeout);
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", call.request_id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", call.function_arn),
        ("lambda-runtime-trace-id", trace_id()),
    ];
    let mut response = serve::answer(StatusCode::OK, call.event);
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn trace_id() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let parent = uuid::Uuid::new_v4().simple().to_string();
    let (time, rest) = random.split_at_checked(8).unwrap_or_default();
    let (parent, _) = parent.split_at_checked(16).unwrap_or_default();
    format!("Root=1-{time}-{rest};Parent={parent};Sampled=0")
}

async fn read_error(request: Request<Incoming>) -> Result<ReportedError, Response<Full<Bytes>>> {
    let header = request.headers().get("lambda-runtime-function-error-type");
    let header = header.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Ok(body) = serve::read_body(request.into_body(), ERROR_BYTES_MAX).await else {
        return Err(error(
            StatusCode::BAD_REQUEST,
            "InvalidRequest",
            "The report is cut off or too large.",
        ));
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let unknown = || "Runtime.UnknownReason".to_owned();
    Ok(ReportedError {
        error_type: text("errorType").or(header).unwrap_or_else(unknown),
        message: text("errorMessage").unwrap_or_default(),
    })
}

fn accepted(known: bool) -> Response<Full<Bytes>> {
    if known {
        return serve::answer(StatusCode::ACCEPTED, r#"{"status":"OK"}"#);
    }
    error(
        StatusCode::BAD_REQUEST,
        "InvalidRequestID",
        "This request is not, or no longer, in work.",
    )
}

fn error(status: StatusCode, error_type: &str, message: &str) -> Response<Full<Bytes>> {
    serve::answer(
        status,
        json!({"errorType": error_type, "errorMessage": message}).to_string(),
    )
}
