//! Queue to function, as Lambda's SQS event source does it: long polls, batches, partial answers. What succeeded is
//! deleted; what failed stays hidden until its visibility timeout ends, and comes again or goes to the dead-letter queue.

use super::LocalError;
use super::aws::REGION;
use super::clock;
use super::events::{EventSender, LocalEvent, Trigger};
use super::functions::FunctionPool;
use super::sqs::Sqs;
use super::template::{Queue, QueueSource};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long one receive waits for a message: SQS's longest.
const RECEIVE_WAIT: Duration = Duration::from_secs(20);
/// Most messages of one receive.
const RECEIVE_COUNT_MAX: u64 = 10;
/// Where a batch that is being gathered ends, in bytes of bodies: one more receive stays below Lambda's 6 MB.
const BATCH_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long to wait after a receive that was refused.
const RECEIVE_RETRY: Duration = Duration::from_secs(1);

/// One queue that feeds one function.
#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) sqs: Sqs,
    pub(crate) queue: Queue,
    pub(crate) source: QueueSource,
    pub(crate) function: FunctionPool,
    pub(crate) events: EventSender,
}

impl Delivery {
    /// How many batches may be in work at once.
    pub(crate) fn concurrency(&self) -> usize {
        let allowed = self
            .source
            .concurrency
            .and_then(|count| usize::try_from(count).ok());
        allowed.unwrap_or(usize::MAX).min(self.function.instances_max())
    }

    /// Delivers batch after batch until told to stop; a batch in work is finished first.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            let gathered = tokio::select! {
                gathered = self.gather() => gathered,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match gathered {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => self.deliver(messages).await,
                Err(error) => {
                    tracing::warn!(queue = %self.queue.logical_id, error = %error, "cannot receive");
                    clock::pause(RECEIVE_RETRY).await;
                }
            }
        }
    }

    async fn gather(&self) -> Result<Vec<Value>, LocalError> {
        let wanted = usize::try_from(self.source.batch_size).unwrap_or(usize::MAX);
        let count = |have: usize| {
            let missing = u64::try_from(wanted.saturating_sub(have)).unwrap_or(u64::MAX);
            missing.clamp(1, RECEIVE_COUNT_MAX)
        };
        let mut messages = self.sqs.receive(&self.queue.url, count(0), RECEIVE_WAIT).await?;
        let end = Instant::now().checked_add(self.source.window);
        while !messages.is_empty() && messages.len() < wanted && bytes_of(&messages) < BATCH_BYTES_MAX {
            let left = end
                .map(|end| end.saturating_duration_since(Instant::now()))
                .unwrap_or_default();
            if left < Duration::from_secs(1) {
                break;
            }
            let wait = left.min(RECEIVE_WAIT);
            messages.extend(
                self.sqs
                    .receive(&self.queue.url, count(messages.len()), wait)
                    .await?,
            );
        }
        Ok(messages)
    }

    async fn deliver(&self, messages: Vec<Value>) {
        let records: Vec<Value> = messages
            .iter()
            .map(|message| record(message, &self.queue.arn))
            .collect();
        let event = Bytes::from(json!({ "Records": records }).to_string());
        let trigger = Trigger::Queue {
            queue: self.queue.logical_id.clone(),
            messages: messages.len(),
        };
        let ids: BTreeSet<&str> = messages
            .iter()
            .filter_map(|message| part(message, "MessageId"))
            .collect();
        let failed = match self.function.invoke(event, trigger).await {
            Ok(answer) if self.source.partial_answers => failed_messages(&answer, &ids),
            Ok(_) => Ok(BTreeSet::new()),
            Err(error) => Err(error.to_string()),
        };
        let (failed, reason) = match failed {
            Ok(failed) => (failed, "the function named them"),
            Err(ref reason) => (ids.iter().map(|id| (*id).to_owned()).collect(), reason.as_str()),
        };
        if !failed.is_empty() {
            let (queue, reason) = (self.queue.logical_id.clone(), reason.to_owned());
            self.events.send(LocalEvent::MessagesReturned {
                queue,
                count: failed.len(),
                reason,
            });
        }
        for message in &messages {
            if part(message, "MessageId").is_none_or(|id| failed.contains(id)) {
                continue;
            }
            let handle = part(message, "ReceiptHandle").unwrap_or_default();
            if let Err(error) = self.sqs.delete(&self.queue.url, handle).await {
                tracing::warn!(queue = %self.queue.logical_id, error = %error, "not deleted: it comes again");
            }
        }
    }
}

fn part<'a>(message: &'a Value, name: &str) -> Option<&'a str> {
    message.get(name).and_then(Value::as_str)
}

fn bytes_of(messages: &[Value]) -> usize {
    messages
        .iter()
        .filter_map(|message| part(message, "Body"))
        .map(str::len)
        .sum()
}

/// One message as it stands in Lambda's SQS event.
fn record(message: &Value, queue_arn: &str) -> Value {
    let attributes = message.get("MessageAttributes").and_then(Value::as_object);
    let attributes: Map<String, Value> = attributes
        .into_iter()
        .flatten()
        .map(|(name, attribute)| (name.clone(), record_attribute(attribute)))
        .collect();
    let mut record = json!({
        "messageId": message.get("MessageId"),
        "receiptHandle": message.get("ReceiptHandle"),
        "body": message.get("Body"),
        "attributes": message.get("Attributes").cloned().unwrap_or_else(|| json!({})),
        "messageAttributes": attributes,
        "md5OfBody": message.get("MD5OfBody"),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": REGION,
    });
    if let (Some(digest), Some(record)) = (message.get("MD5OfMessageAttributes"), record.as_object_mut()) {
        record.insert("md5OfMessageAttributes".to_owned(), digest.clone());
    }
    record
}

fn record_attribute(attribute: &Value) -> Value {
    let mut result = Map::from_iter([
        (
            "dataType".to_owned(),
            attribute.get("DataType").cloned().unwrap_or(Value::Null),
        ),
        ("stringListValues".to_owned(), json!([])),
        ("binaryListValues".to_owned(), json!([])),
    ]);
    for (theirs, ours) in [("StringValue", "stringValue"), ("BinaryValue", "binaryValue")] {
        if let Some(value) = attribute.get(theirs) {
            result.insert(ours.to_owned(), value.clone());
        }
    }
    Value::Object(result)
}

/// The messages a partial answer names, or why the whole batch failed.
///
/// AWS's rules: no list, or an empty one, is success. Not JSON, an entry without identifier, an empty one, one that
/// was not in the batch: everything failed. An answer that is JSON and not an object is taken for a failure as well.
fn failed_messages(answer: &[u8], ids: &BTreeSet<&str>) -> Result<BTreeSet<String>, String> {
    let answer: Value =
        serde_json::from_slice(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let list = match &answer {
        Value::Null => return Ok(BTreeSet::new()),
        Value::Object(fields) => fields.get("batchItemFailures"),
        _ => return Err("the answer is not an object".to_owned()),
    };
    let list = match list {
        None | Some(Value::Null) => return Ok(BTreeSet::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("batchItemFailures is not a list".to_owned()),
    };
    let mut failed = BTreeSet::new();
    for entry in list {
        match entry.get("itemIdentifier").and_then(Value::as_str) {
            Some(id) if ids.contains(id) => failed.insert(id.to_owned()),
            Some("") => return Err("an itemIdentifier is empty".to_owned()),
            Some(_) => return Err("an itemIdentifier is not in the batch".to_owned()),
            None => return Err("a failure has no itemIdentifier".to_owned()),
        };
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_answer_is_read_as_aws_reads_it() {
        let ids = BTreeSet::from(["a", "b"]);
        let none = Ok(BTreeSet::new());
        for success in [
            "null",
            "{}",
            r#"{"batchItemFailures":null}"#,
            r#"{"batchItemFailures":[]}"#,
            r#"{"other":1}"#,
        ] {
            assert_eq!(failed_messages(success.as_bytes(), &ids), none, "{success}");
        }
        let one = r#"{"batchItemFailures":[{"itemIdentifier":"b"}]}"#;
        assert_eq!(
            failed_messages(one.as_bytes(), &ids),
            Ok(BTreeSet::from(["b".to_owned()]))
        );
        for failure in [
            "",
            "not json",
            "\"ok\"",
            r#"{"batchItemFailures":{}}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"itemidentifier":"a"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"stranger"}]}"#,
        ] {
            assert!(failed_messages(failure.as_bytes(), &ids).is_err(), "{failure}");
        }
    }

    #[test]
    fn a_record_has_lambdas_field_names() {
        let message = json!({
            "MessageId": "id", "ReceiptHandle": "handle", "Body": "{}", "MD5OfBody": "99914b932bd37a50b983c5e7c90ae93b",
            "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1"},
            "MessageAttributes": {"kind": {"DataType": "String", "StringValue": "x"}},
        });
        let record = record(&message, "arn:aws:sqs:us-east-1:000000000000:q");
        assert_eq!(record["messageId"], "id");
        assert_eq!(record["attributes"]["ApproximateReceiveCount"], "1");
        let attribute = &record["messageAttributes"]["kind"];
        assert_eq!(
            (&attribute["stringValue"], &attribute["dataType"]),
            (&json!("x"), &json!("String"))
        );
        assert_eq!(record["eventSource"], "aws:sqs");
        assert_eq!(record["awsRegion"], REGION);
    }
}
