//! SQS on this machine: an embedded queue service, with what it lacks of AWS's documented behaviour in front of it.
//!
//! Added here: `maxReceiveCount` as text (CloudFormation writes it so), refusing a dead-letter queue that does not exist,
//! the list of dead-letter sources under its wire name, message move tasks, and the checks of counts, delays,
//! characters and receipt handles. Messages live in memory.

use super::{LocalError, clock};
use base64::Engine;
use bytes::Bytes;
use domain::problem::Problem;
use http_body_util::BodyExt;
use rustack_sqs_core::config::SqsConfig;
use rustack_sqs_core::handler::RustackSqsHandler;
use rustack_sqs_core::provider::RustackSqs;
use rustack_sqs_http::body::SqsResponseBody;
use rustack_sqs_http::dispatch::SqsHandler;
use rustack_sqs_http::response::json_response;
use rustack_sqs_model::error::{SqsError, SqsErrorCode};
use rustack_sqs_model::operations::SqsOperation;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest delay of one message.
const DELAY_SECONDS_MAX: i64 = 900;
/// Most characters of the group of a message.
const GROUP_CHARACTERS_MAX: usize = 128;
/// Most messages in one answer or batch.
const MESSAGES_MAX: i64 = 10;
/// Largest batch, in bytes.
const BATCH_BYTES_MAX: usize = 1_048_576;
/// How long a message that is being moved is hidden from others.
const MOVE_VISIBILITY_SECONDS: u32 = 60;
/// Move tasks remembered.
const MOVE_TASKS_MAX: usize = 100;

type Answer = Result<http::Response<SqsResponseBody>, SqsError>;

/// The queues.
#[derive(Clone)]
pub struct Sqs {
    inner: Arc<Inner>,
}

struct Inner {
    handler: RustackSqsHandler,
    moves: Mutex<Vec<MoveTask>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MoveStatus {
    Running,
    Cancelling,
    Cancelled,
    Completed,
    Failed,
}

#[derive(Debug, Clone)]
struct MoveTask {
    handle: String,
    source_arn: String,
    destination_arn: Option<String>,
    per_second: Option<u64>,
    to_move: u64,
    moved: u64,
    status: MoveStatus,
    failure: Option<&'static str>,
    started_epoch_milliseconds: u64,
}

impl std::fmt::Debug for Sqs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sqs").finish_non_exhaustive()
    }
}

/// How full a queue is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct QueueDepth {
    /// Messages that can be received now.
    pub visible: u64,
    /// Messages that somebody has received and not yet deleted.
    pub in_flight: u64,
    /// Messages whose delay has not passed.
    pub delayed: u64,
}

impl Sqs {
    /// An empty service whose queue URLs lead to `port` on the loopback address.
    pub fn new(region: &str, account_id: &str, port: u16) -> Self {
        let config = SqsConfig {
            skip_signature_validation: true,
            default_region: region.to_owned(),
            account_id: account_id.to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
        };
        let handler = RustackSqsHandler::new(Arc::new(RustackSqs::new(config)));
        Self {
            inner: Arc::new(Inner {
                handler,
                moves: Mutex::default(),
            }),
        }
    }

    /// Creates a queue and returns its URL.
    ///
    /// # Errors
    /// An attribute SQS does not take, a dead-letter queue that does not exist.
    pub async fn create(
        &self,
        name: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<String, LocalError> {
        let body = json!({"QueueName": name, "Attributes": attributes});
        let made = self
            .call(SqsOperation::CreateQueue, body)
            .await
            .map_err(|error| refused(name, &error))?;
        Ok(text(&made, "QueueUrl"))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The queue does not exist, or the message is not one SQS takes.
    pub async fn send(
        &self,
        url: &str,
        body: &str,
        attributes: Map<String, Value>,
    ) -> Result<(), LocalError> {
        let message = json!({"QueueUrl": url, "MessageBody": body, "MessageAttributes": attributes});
        self.call(SqsOperation::SendMessage, message)
            .await
            .map_err(|error| refused(url, &error))?;
        Ok(())
    }

    /// Receives up to ten messages, waiting up to `wait` for the first.
    ///
    /// # Errors
    /// The queue does not exist.
    pub async fn receive(&self, url: &str, count: u64, wait: Duration) -> Result<Vec<Value>, LocalError> {
        let body = json!({
            "QueueUrl": url,
            "MaxNumberOfMessages": count,
            "WaitTimeSeconds": wait.as_secs(),
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let mut got = self
            .call(SqsOperation::ReceiveMessage, body)
            .await
            .map_err(|error| refused(url, &error))?;
        Ok(take_list(&mut got, "Messages"))
    }

    /// Deletes a message that was received.
    ///
    /// # Errors
    /// The queue does not exist, or the handle is not one.
    pub async fn delete(&self, url: &str, receipt_handle: &str) -> Result<(), LocalError> {
        let body = json!({"QueueUrl": url, "ReceiptHandle": receipt_handle});
        self.call(SqsOperation::DeleteMessage, body)
            .await
            .map_err(|error| refused(url, &error))?;
        Ok(())
    }

    /// How full a queue is.
    ///
    /// # Errors
    /// The queue does not exist.
    pub async fn depth(&self, url: &str) -> Result<QueueDepth, LocalError> {
        let names = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        let body = json!({"QueueUrl": url, "AttributeNames": names});
        let got = self
            .call(SqsOperation::GetQueueAttributes, body)
            .await
            .map_err(|error| refused(url, &error))?;
        let number = |name: &str| {
            let problem = || {
                let problem = Problem::new(
                    "LOCAL_SQS",
                    "The queue service answers otherwise than SQS; report this.",
                );
                LocalError::Queue(Box::new(problem.field(name).expected("a number")))
            };
            let text = got
                .get("Attributes")
                .and_then(|all| all.get(name))
                .and_then(Value::as_str);
            text.and_then(|text| text.parse().ok()).ok_or_else(problem)
        };
        let [visible, in_flight, delayed] = names.map(number);
        Ok(QueueDepth {
            visible: visible?,
            in_flight: in_flight?,
            delayed: delayed?,
        })
    }

    /// One operation of the SQS API with its JSON body, as it would come over the wire.
    ///
    /// Behind a box, because a move task runs operations itself.
    ///
    /// # Errors
    /// Whatever SQS answers.
    pub fn call(
        &self,
        operation: SqsOperation,
        body: Value,
    ) -> Pin<Box<dyn Future<Output = Result<Value, SqsError>> + Send + '_>> {
        Box::pin(async move { json_of(self.answer(operation, body).await?).await })
    }

    async fn answer(&self, operation: SqsOperation, mut body: Value) -> Answer {
        match operation {
            SqsOperation::CreateQueue | SqsOperation::SetQueueAttributes => {
                self.check_redrive_policy(&mut body).await?;
                self.pass(operation, &body).await
            }
            SqsOperation::SendMessage => {
                check_message(&body)?;
                take_group(&mut body)?;
                self.pass(operation, &body).await
            }
            SqsOperation::SendMessageBatch => self.send_batch(body).await,
            SqsOperation::ReceiveMessage => {
                check_receive(&body)?;
                self.pass(operation, &body).await
            }
            SqsOperation::DeleteMessage | SqsOperation::ChangeMessageVisibility => {
                check_receipt_handle(&text(&body, "ReceiptHandle"))?;
                self.pass(operation, &body).await
            }
            SqsOperation::ListDeadLetterSourceQueues => {
                let mut found = json_of(self.pass(operation, &body).await?).await?;
                let mut urls = take_list(&mut found, "QueueUrls");
                urls.extend(take_list(&mut found, "queueUrls"));
                Ok(json_answer(&json!({"queueUrls": urls})))
            }
            SqsOperation::StartMessageMoveTask => self.start_move(&body).await.map(|made| json_answer(&made)),
            SqsOperation::ListMessageMoveTasks => self.list_moves(&body).await.map(|list| json_answer(&list)),
            SqsOperation::CancelMessageMoveTask => self.cancel_move(&body).map(|done| json_answer(&done)),
            _ => self.pass(operation, &body).await,
        }
    }

    async fn pass(&self, operation: SqsOperation, body: &Value) -> Answer {
        self.inner
            .handler
            .handle_operation(operation, Bytes::from(body.to_string()))
            .await
    }

    async fn url_of(&self, arn: &str) -> Result<String, SqsError> {
        let name = arn.rsplit(':').next().unwrap_or_default();
        let found = self
            .pass(SqsOperation::GetQueueUrl, &json!({"QueueName": name}))
            .await?;
        Ok(text(&json_of(found).await?, "QueueUrl"))
    }

    async fn check_redrive_policy(&self, body: &mut Value) -> Result<(), SqsError> {
        let Some(policy) = body.pointer_mut("/Attributes/RedrivePolicy") else {
            return Ok(());
        };
        let written = policy.as_str().unwrap_or_default().to_owned();
        if written.is_empty() {
            return Ok(());
        }
        let invalid = |reason: &str| {
            invalid(format!(
                "Value {written} for parameter RedrivePolicy is invalid. Reason: {reason}"
            ))
        };
        let mut parsed: Value =
            serde_json::from_str(&written).map_err(|_| invalid("Redrive policy is not a valid JSON map."))?;
        if let Some(count) = parsed.get("maxReceiveCount").and_then(Value::as_str) {
            let count: u32 = count
                .parse()
                .map_err(|_| invalid("maxReceiveCount must be an integer."))?;
            if let Some(slot) = parsed.get_mut("maxReceiveCount") {
                *slot = Value::from(count);
            }
        }
        let target = text(&parsed, "deadLetterTargetArn");
        *policy = Value::String(parsed.to_string());
        match self.url_of(&target).await {
            Ok(_) => Ok(()),
            Err(_) => Err(invalid("Dead letter target does not exist.")),
        }
    }

    async fn send_batch(&self, mut body: Value) -> Answer {
        let entries = take_list(&mut body, "Entries");
        let bytes: usize = entries.iter().map(|entry| text(entry, "MessageBody").len()).sum();
        if bytes > BATCH_BYTES_MAX {
            let message = format!(
                "Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes. You have sent {bytes} bytes."
            );
            return Err(SqsError::new(SqsErrorCode::BatchRequestTooLong, message));
        }
        let count = entries.len();
        let (mut good, mut failed) = (Vec::with_capacity(count), Vec::new());
        for mut entry in entries {
            match check_message(&entry).and_then(|()| take_group(&mut entry)) {
                Ok(()) => good.push(entry),
                Err(error) => failed.push(json!({
                    "Id": entry.get("Id"),
                    "SenderFault": true,
                    "Code": error.code.error_type(),
                    "Message": error.message,
                })),
            }
        }
        if failed.is_empty() || i64::try_from(count).is_ok_and(|count| count > MESSAGES_MAX) {
            body = with(body, "Entries", Value::Array(good));
            return self.pass(SqsOperation::SendMessageBatch, &body).await;
        }
        let mut result = json!({"Successful": []});
        if !good.is_empty() {
            body = with(body, "Entries", Value::Array(good));
            result = json_of(self.pass(SqsOperation::SendMessageBatch, &body).await?).await?;
        }
        failed.extend(take_list(&mut result, "Failed"));
        Ok(json_answer(&with(result, "Failed", Value::Array(failed))))
    }

    // -- Message move tasks ------------------------------------------------------------------------------------------

    async fn start_move(&self, body: &Value) -> Result<Value, SqsError> {
        let source_arn = text(body, "SourceArn");
        let source_url = self.url_of(&source_arn).await.map_err(|_| no_such_source())?;
        let sources = self.call(
            SqsOperation::ListDeadLetterSourceQueues,
            json!({"QueueUrl": source_url}),
        );
        if sources
            .await?
            .get("queueUrls")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
        {
            return Err(invalid(
                "Source queue must be configured as a Dead Letter Queue.".to_owned(),
            ));
        }
        let destination_arn = body
            .get("DestinationArn")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if let Some(destination) = &destination_arn {
            self.url_of(destination).await.map_err(|_| no_such_source())?;
        }
        let depth = self
            .depth(&source_url)
            .await
            .map_err(|error| SqsError::internal_error(error.to_string()))?;
        let task = MoveTask {
            handle: uuid::Uuid::new_v4().to_string(),
            source_arn,
            destination_arn,
            per_second: body.get("MaxNumberOfMessagesPerSecond").and_then(Value::as_u64),
            to_move: depth.visible,
            moved: 0,
            status: MoveStatus::Running,
            failure: None,
            started_epoch_milliseconds: clock::epoch_milliseconds(),
        };
        self.remember(task.clone())?;
        let handle = task.handle.clone();
        tokio::spawn(self.clone().run_move(task, source_url));
        Ok(json!({"TaskHandle": handle}))
    }

    fn remember(&self, task: MoveTask) -> Result<(), SqsError> {
        let mut moves = self.moves();
        let active = |other: &MoveTask| matches!(other.status, MoveStatus::Running | MoveStatus::Cancelling);
        if moves
            .iter()
            .any(|other| other.source_arn == task.source_arn && active(other))
        {
            let message = "There is already a task running. Only one active task is allowed for a source queue arn \
                           at a given time.";
            return Err(SqsError::new(SqsErrorCode::UnsupportedOperation, message));
        }
        if moves.len() >= MOVE_TASKS_MAX
            && let Some(oldest) = moves.iter().position(|other| !active(other))
        {
            moves.remove(oldest);
        }
        moves.push(task);
        Ok(())
    }

    async fn run_move(self, task: MoveTask, source_url: String) {
        let mut left = task.to_move;
        let end = loop {
            if left == 0 {
                break (MoveStatus::Completed, None);
            }
            if self
                .moves()
                .iter()
                .any(|one| one.handle == task.handle && one.status == MoveStatus::Cancelling)
            {
                break (MoveStatus::Cancelled, None);
            }
            match self.move_some(&task, &source_url, left).await {
                Ok(0) => break (MoveStatus::Completed, None),
                Ok(moved) => left = left.saturating_sub(moved),
                Err(reason) => break (MoveStatus::Failed, Some(reason)),
            }
        };
        self.change_move(&task.handle, |task| (task.status, task.failure) = end);
    }

    /// Moves up to ten messages; the number moved, or why it cannot go on.
    async fn move_some(&self, task: &MoveTask, source_url: &str, left: u64) -> Result<u64, &'static str> {
        let body = json!({
            "QueueUrl": source_url,
            "MaxNumberOfMessages": left.clamp(1, MESSAGES_MAX.unsigned_abs()),
            "VisibilityTimeout": MOVE_VISIBILITY_SECONDS,
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let mut got = self
            .call(SqsOperation::ReceiveMessage, body)
            .await
            .map_err(|_| "CouldNotReceiveMessages")?;
        let mut moved: u64 = 0;
        for message in take_list(&mut got, "Messages") {
            let moving = self.move_one(task, source_url, &message).await;
            if let Err(reason) = moving {
                let back = json!({
                    "QueueUrl": source_url,
                    "ReceiptHandle": message.get("ReceiptHandle"),
                    "VisibilityTimeout": 0,
                });
                if let Err(error) = self.call(SqsOperation::ChangeMessageVisibility, back).await {
                    tracing::warn!(error = %error, "a message that was not moved stays hidden for a minute");
                }
                return Err(reason);
            }
            moved = moved.saturating_add(1);
            self.change_move(&task.handle, |task| task.moved = task.moved.saturating_add(1));
            if let Some(rate) = task.per_second {
                clock::pause(Duration::from_millis(1000_u64.checked_div(rate).unwrap_or(1000))).await;
            }
        }
        Ok(moved)
    }

    async fn move_one(&self, task: &MoveTask, source_url: &str, message: &Value) -> Result<(), &'static str> {
        let source = message
            .pointer("/Attributes/DeadLetterQueueSourceArn")
            .and_then(Value::as_str);
        let destination = task
            .destination_arn
            .as_deref()
            .or(source)
            .ok_or("CouldNotDetermineMessageSource")?;
        let url = self
            .url_of(destination)
            .await
            .map_err(|_| "AWS.SimpleQueueService.NonExistentQueue")?;
        let copy = json!({
            "QueueUrl": url,
            "MessageBody": message.get("Body"),
            "MessageAttributes": message.get("MessageAttributes").cloned().unwrap_or_else(|| json!({})),
        });
        self.call(SqsOperation::SendMessage, copy)
            .await
            .map_err(|_| "CouldNotSendMessage")?;
        let done = json!({"QueueUrl": source_url, "ReceiptHandle": message.get("ReceiptHandle")});
        self.call(SqsOperation::DeleteMessage, done)
            .await
            .map_err(|_| "CouldNotDeleteMessage")?;
        Ok(())
    }

    async fn list_moves(&self, body: &Value) -> Result<Value, SqsError> {
        let source_arn = text(body, "SourceArn");
        self.url_of(&source_arn).await.map_err(|_| no_such_source())?;
        let count = body.get("MaxResults").and_then(Value::as_u64).unwrap_or(1);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let moves = self.moves();
        let newest_first = moves.iter().rev().filter(|task| task.source_arn == source_arn);
        let results: Vec<Value> = newest_first.take(count).map(MoveTask::entry).collect();
        Ok(json!({"Results": results}))
    }

    fn cancel_move(&self, body: &Value) -> Result<Value, SqsError> {
        let handle = text(body, "TaskHandle");
        let mut moves = self.moves();
        let missing = || {
            SqsError::new(
                SqsErrorCode::ResourceNotFoundException,
                "Task does not exist.".to_owned(),
            )
        };
        let task = moves
            .iter_mut()
            .find(|task| task.handle == handle)
            .ok_or_else(missing)?;
        if task.status != MoveStatus::Running {
            let message = "Only active tasks can be cancelled.";
            return Err(SqsError::new(SqsErrorCode::UnsupportedOperation, message));
        }
        task.status = MoveStatus::Cancelling;
        Ok(json!({"ApproximateNumberOfMessagesMoved": task.moved}))
    }

    fn change_move(&self, handle: &str, change: impl FnOnce(&mut MoveTask)) {
        if let Some(task) = self.moves().iter_mut().find(|task| task.handle == handle) {
            change(task);
        }
    }

    fn moves(&self) -> MutexGuard<'_, Vec<MoveTask>> {
        self.inner.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SqsHandler for Sqs {
    fn handle_operation(
        &self,
        operation: SqsOperation,
        body: Bytes,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let sqs = self.clone();
        Box::pin(async move {
            let unreadable =
                |error: serde_json::Error| invalid(format!("The request is not valid JSON: {error}"));
            let body = serde_json::from_slice(&body).map_err(unreadable)?;
            sqs.answer(operation, body).await
        })
    }
}

impl MoveTask {
    fn entry(&self) -> Value {
        let status = match self.status {
            MoveStatus::Running => "RUNNING",
            MoveStatus::Cancelling => "CANCELLING",
            MoveStatus::Cancelled => "CANCELLED",
            MoveStatus::Completed => "COMPLETED",
            MoveStatus::Failed => "FAILED",
        };
        let mut entry = Map::from_iter([
            ("Status".to_owned(), json!(status)),
            ("SourceArn".to_owned(), json!(self.source_arn)),
            ("ApproximateNumberOfMessagesMoved".to_owned(), json!(self.moved)),
            (
                "ApproximateNumberOfMessagesToMove".to_owned(),
                json!(self.to_move),
            ),
            (
                "StartedTimestamp".to_owned(),
                json!(self.started_epoch_milliseconds),
            ),
        ]);
        // AWS gives the handle only while it is of use: for cancelling.
        let handle = (self.status == MoveStatus::Running).then(|| self.handle.clone());
        let optional = [
            ("TaskHandle", handle.map(Value::from)),
            ("DestinationArn", self.destination_arn.clone().map(Value::from)),
            ("MaxNumberOfMessagesPerSecond", self.per_second.map(Value::from)),
            ("FailureReason", self.failure.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                entry.insert(name.to_owned(), value);
            }
        }
        Value::Object(entry)
    }
}

fn check_message(message: &Value) -> Result<(), SqsError> {
    if let Some(delay) = message.get("DelaySeconds").and_then(Value::as_i64)
        && !(0..=DELAY_SECONDS_MAX).contains(&delay)
    {
        let reason = "DelaySeconds must be >= 0 and <= 900.";
        return Err(invalid(format!(
            "Value {delay} for parameter DelaySeconds is invalid. Reason: {reason}"
        )));
    }
    let allowed = |letter: char| match letter {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        other => other >= ' ',
    };
    let body = message
        .get("MessageBody")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if body.chars().all(allowed) {
        return Ok(());
    }
    let range = "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";
    Err(invalid(format!(
        "Invalid characters found. Valid unicode characters are {range}"
    )))
}

/// The emulator is from before fair queues and takes the group for a mistake: what AWS takes goes on without it, what AWS
/// refuses is refused. All queues here are standard ones.
fn take_group(message: &mut Value) -> Result<(), SqsError> {
    let group = message
        .as_object_mut()
        .and_then(|fields| fields.remove("MessageGroupId"));
    let Some(group) = group else { return Ok(()) };
    let group = group.as_str().unwrap_or_default();
    let fits = (1..=GROUP_CHARACTERS_MAX).contains(&group.len());
    if fits && group.chars().all(|letter| letter.is_ascii_graphic()) {
        return Ok(());
    }
    Err(invalid(format!(
        "Value {group} for parameter MessageGroupId is invalid. Reason: MessageGroupId can only include alphanumeric and punctuation \
         characters. 1 to {GROUP_CHARACTERS_MAX} in length."
    )))
}

fn check_receive(body: &Value) -> Result<(), SqsError> {
    match body.get("MaxNumberOfMessages").and_then(Value::as_i64) {
        Some(count) if !(1..=MESSAGES_MAX).contains(&count) => {
            let reason = "Must be between 1 and 10, if provided.";
            let message =
                format!("Value {count} for parameter MaxNumberOfMessages is invalid. Reason: {reason}");
            Err(invalid(message))
        }
        _ => Ok(()),
    }
}

/// AWS refuses a text that is no handle, and accepts a handle whose message is gone. A handle of the service behind
/// is `message id:time:nonce` in base64.
fn check_receipt_handle(handle: &str) -> Result<(), SqsError> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(handle).ok();
    let decoded = decoded
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default();
    let parts: Vec<&str> = decoded.split(':').collect();
    if let [message_id, _, nonce] = parts.as_slice()
        && uuid::Uuid::parse_str(message_id).is_ok()
        && uuid::Uuid::parse_str(nonce).is_ok()
    {
        return Ok(());
    }
    let message = format!("The input receipt handle \"{handle}\" is not a valid receipt handle.");
    Err(SqsError::new(SqsErrorCode::ReceiptHandleIsInvalid, message))
}

fn invalid(message: String) -> SqsError {
    SqsError::new(SqsErrorCode::InvalidParameterValue, message)
}

fn no_such_source() -> SqsError {
    let message = "The resource that you specified for the SourceArn parameter doesn't exist.";
    SqsError::new(SqsErrorCode::ResourceNotFoundException, message)
}

async fn json_of(response: http::Response<SqsResponseBody>) -> Result<Value, SqsError> {
    let unreadable = |error: String| SqsError::internal_error(error);
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| unreadable(error.to_string()))?
        .to_bytes();
    if body.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(&body).map_err(|error| unreadable(error.to_string()))
}

fn json_answer(body: &Value) -> http::Response<SqsResponseBody> {
    json_response(body.to_string().into_bytes(), &uuid::Uuid::new_v4().to_string())
}

fn text(value: &Value, name: &str) -> String {
    value
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn take_list(value: &mut Value, name: &str) -> Vec<Value> {
    match value.get_mut(name).map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    if let Value::Object(map) = &mut body {
        map.insert(name.to_owned(), value);
    }
    body
}

fn refused(field: &str, error: &SqsError) -> LocalError {
    let problem = Problem::new("LOCAL_SQS", "Correct the queue in the template.");
    LocalError::Queue(Box::new(problem.field(field).actual(error.to_string())))
}
