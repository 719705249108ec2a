//! EventBridge Scheduler on this machine: rates, handed to Lambda's asynchronous calls.
//!
//! AWS's division of labour is kept. The scheduler's part ends when the call is taken; only what could not be handed
//! over goes to the schedule's dead-letter queue. A call whose function fails is Lambda's: it is tried again as often as
//! the function's `EventInvokeConfig` says (twice when it says nothing) and then goes to the function's failure
//! destination, or nowhere, which is reported.

use super::events::{EventSender, LocalEvent, Trigger};
use super::functions::{FunctionPool, InvokeError};
use super::sqs::Sqs;
use super::template::Schedule;
use super::{LocalError, clock};
use bytes::Bytes;
use domain::problem::Problem;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Calls of one schedule that may be unfinished at once; one more cannot be handed over.
const UNFINISHED_MAX: usize = 4;
/// How long before a failed asynchronous call is tried again. Lambda waits one minute, then two.
const RETRY_WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// One schedule of one connection.
#[derive(Clone)]
pub(crate) struct ScheduleRunner {
    pub(crate) connection: String,
    pub(crate) schedule: Schedule,
    pub(crate) interval: Duration,
    pub(crate) function: FunctionPool,
    pub(crate) sqs: Sqs,
    pub(crate) dead_letter_queue_url: Option<String>,
    pub(crate) failure_queue_url: Option<String>,
    pub(crate) events: EventSender,
    pub(crate) enabled: Arc<AtomicBool>,
    pub(crate) unfinished: Arc<Semaphore>,
}

impl ScheduleRunner {
    pub(crate) fn new_limit() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(UNFINISHED_MAX))
    }

    /// Calls at every interval, the first time at once (as Scheduler does without a start date), until told to stop.
    pub(crate) async fn run(self, paused: watch::Receiver<bool>, mut stop: watch::Receiver<bool>) {
        let mut calls = JoinSet::new();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stop.wait_for(|stop| *stop) => break,
                Some(_) = calls.join_next() => continue,
            }
            if !*paused.borrow() && self.enabled.load(Ordering::Relaxed) {
                let runner = self.clone();
                calls.spawn(async move { runner.fire().await });
            }
        }
        while calls.join_next().await.is_some() {}
    }

    /// One call, with Lambda's retries.
    pub(crate) async fn fire(&self) {
        let Ok(_permit) = self.unfinished.try_acquire() else {
            return self.not_handed_over().await;
        };
        let event = Bytes::from(self.schedule.input.clone());
        let attempts_max = self.function.function().async_retries.saturating_add(1);
        let mut attempts: u64 = 0;
        let mut waits = RETRY_WAITS.iter();
        loop {
            let trigger = Trigger::Schedule {
                connection: self.connection.clone(),
                schedule: self.schedule.logical_id.clone(),
            };
            attempts = attempts.saturating_add(1);
            match self.function.invoke(event.clone(), trigger).await {
                Ok(_) | Err(InvokeError::Ending) => return,
                Err(error) if attempts >= attempts_max => return self.failed(attempts, &error).await,
                Err(_) => {
                    let wait = waits.next().or(RETRY_WAITS.last()).copied().unwrap_or_default();
                    clock::pause(wait).await;
                }
            }
        }
    }

    /// The scheduler's own failure: the input goes to the schedule's dead-letter queue.
    async fn not_handed_over(&self) {
        let error = format!("{UNFINISHED_MAX} calls of this schedule are not finished");
        let attribute = |value: &str| json!({"DataType": "String", "StringValue": value});
        let attributes = Map::from_iter([
            ("ERROR_CODE".to_owned(), attribute("TooManyRequestsException")),
            ("ERROR_MESSAGE".to_owned(), attribute(&error)),
            ("SCHEDULE_ARN".to_owned(), attribute(&self.schedule.arn)),
            ("TARGET_ARN".to_owned(), attribute(&self.schedule.target_arn)),
        ]);
        let queue = self
            .keep(
                self.dead_letter_queue_url.as_deref(),
                &self.schedule.input,
                attributes,
            )
            .await;
        let queue = queue
            .then(|| self.schedule.dead_letter_queue_arn.clone())
            .flatten();
        self.abandoned(0, queue, error);
    }

    /// Lambda's failure: a record goes to the function's failure destination.
    async fn failed(&self, attempts: u64, error: &InvokeError) {
        let function = self.function.function();
        let body = json!({
            "version": "1.0",
            "timestamp": clock::iso_time(clock::epoch_milliseconds()),
            "requestContext": {
                "functionArn": function.arn,
                "condition": "RetriesExhausted",
                "approximateInvokeCount": attempts,
            },
            "requestPayload": serde_json::from_str::<Value>(&self.schedule.input).unwrap_or(Value::Null),
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": {"errorType": error.error_type(), "errorMessage": error.to_string()},
        });
        let kept = self
            .keep(self.failure_queue_url.as_deref(), &body.to_string(), Map::new())
            .await;
        let queue = kept.then(|| function.async_failure_queue_arn.clone()).flatten();
        self.abandoned(attempts, queue, error.to_string());
    }

    async fn keep(&self, url: Option<&str>, body: &str, attributes: Map<String, Value>) -> bool {
        let Some(url) = url else { return false };
        match self.sqs.send(url, body, attributes).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(error = %error, "a failed scheduled call could not be kept");
                false
            }
        }
    }

    fn abandoned(&self, attempts: u64, queue: Option<String>, error: String) {
        self.events.send(LocalEvent::ScheduledCallAbandoned {
            connection: self.connection.clone(),
            schedule: self.schedule.logical_id.clone(),
            attempts,
            queue,
            error,
        });
    }
}

/// How often a schedule runs: `rate(5 minutes)`, `every 2 seconds`, or a cron expression that says no more than "every
/// so many minutes" (`cron(0/15 * * * ? *)`).
///
/// # Errors
/// Anything else: on one machine a schedule that waits for an hour of the day would be waited for in vain.
pub fn interval(name: &str, expression: &str) -> Result<Duration, LocalError> {
    parse_interval(expression.trim()).ok_or_else(|| {
        let fix =
            "Give the schedule an interval of its own for the local run, for example `every 30 seconds`.";
        let problem = Problem::new("LOCAL_SCHEDULE_UNSUPPORTED", fix);
        let expected = "rate(<n> minutes|hours|days), every <n> seconds, or cron(0/<n> * * * ? *)";
        LocalError::Schedule(Box::new(
            problem.field(name).expected(expected).actual(expression),
        ))
    })
}

fn parse_interval(expression: &str) -> Option<Duration> {
    if let Some(inner) = inside(expression, "rate(") {
        let (count, unit) = inner.split_once(' ')?;
        // `rate` knows no seconds, and wants the singular for one.
        let right_unit = matches!(unit, "minute" | "hour" | "day") == (count == "1");
        return right_unit
            .then(|| duration(count, unit))?
            .filter(|_| !unit.starts_with("second"));
    }
    if let Some(inner) = inside(expression, "cron(") {
        let fields: Vec<&str> = inner.split_whitespace().collect();
        let [minutes, "*", "*", "*", "?", "*"] = fields.as_slice() else {
            return None;
        };
        if *minutes == "*" {
            return duration("1", "minute");
        }
        let (start, step) = minutes.split_once('/')?;
        return matches!(start, "0" | "*").then(|| duration(step, "minutes"))?;
    }
    let (count, unit) = expression.strip_prefix("every ")?.split_once(' ')?;
    duration(count, unit)
}

fn inside<'a>(expression: &'a str, open: &str) -> Option<&'a str> {
    expression.strip_prefix(open)?.strip_suffix(')')
}

fn duration(count: &str, unit: &str) -> Option<Duration> {
    let seconds: u64 = match unit {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3_600,
        "day" | "days" => 86_400,
        _ => return None,
    };
    let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
    count.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read_and_anything_else_is_refused_by_name() {
        let seconds = |expression: &str| {
            interval("Sweep", expression)
                .map(|interval| interval.as_secs())
                .ok()
        };
        assert_eq!(seconds("rate(1 minute)"), Some(60));
        assert_eq!(seconds("rate(15 minutes)"), Some(900));
        assert_eq!(seconds("rate(1 day)"), Some(86_400));
        assert_eq!(seconds("every 2 seconds"), Some(2));
        assert_eq!(seconds("cron(0/15 * * * ? *)"), Some(900));
        assert_eq!(seconds("cron(* * * * ? *)"), Some(60));
        for refused in [
            "rate(1 minutes)",
            "rate(5 minute)",
            "rate(0 minutes)",
            "rate(2 seconds)",
            "cron(30 2 * * ? *)",
            "cron(5/15 * * * ? *)",
            "at(2026-01-01T00:00:00)",
            "every so often",
            "",
        ] {
            let error = interval("Sweep", refused).unwrap_err().to_string();
            assert!(
                error.contains("Sweep") && error.contains("every 30 seconds"),
                "{refused}: {error}"
            );
        }
    }
}
