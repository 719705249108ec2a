//! The queue: sending hints, and serving a batch of them with a partial answer.

use crate::clients::failure::judge;
use async_trait::async_trait;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::{Clock, Hint, Queue, StoreError, Subject};
use futures_util::FutureExt;
use futures_util::StreamExt;
use futures_util::stream;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tracing::Instrument;

/// Most messages of one `SendMessageBatch` (SQS's limit).
const SEND_BATCH_MAX: usize = 10;
/// Longest message body that can be a hint, in bytes.
const HINT_BYTES_MAX: usize = 4_096;
/// Most records worked on at once.
const CONCURRENT_RECORDS_MAX: usize = 10;
/// How long before the function's end the answer is given with whatever is done by then, in milliseconds.
const ANSWER_MARGIN_MILLIS: i64 = 1_000;

/// One queue of hints.
#[derive(Clone)]
pub struct SqsQueue {
    client: Client,
    url: String,
}

impl SqsQueue {
    /// The queue at this address. Sends nothing yet.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    async fn send_batch(&self, hints: &[Hint]) -> Result<(), Problem> {
        let entries = hints
            .iter()
            .enumerate()
            .map(entry)
            .collect::<Result<Vec<_>, _>>()?;
        let request = self
            .client
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries));
        let answer = request
            .send()
            .await
            .map_err(|error| judge("SQS", "SendMessageBatch", &error).into_problem())?;
        if answer.failed.is_empty() && answer.successful.len() == hints.len() {
            return Ok(());
        }
        let first = answer
            .failed
            .first()
            .map_or("no reason", |failed| failed.code.as_str());
        Err(Problem::new(
            "SQS_NOT_ALL_SENT",
            "Nothing to do: the sweep and the polls queue again what is missing.",
        )
        .field("SendMessageBatch")
        .expected(format!("{} messages taken", hints.len()))
        .actual(format!("{} taken; {first}", answer.successful.len())))
    }
}

fn entry((position, hint): (usize, &Hint)) -> Result<SendMessageBatchRequestEntry, Problem> {
    let invalid = |actual: String| {
        Problem::new(
            "HINT_UNWRITABLE",
            "This is a fault in the program: report it with this line.",
        )
        .actual(actual)
    };
    let Hint::V1 { connection, .. } = hint;
    let body = serde_json::to_string(hint).map_err(|error| invalid(error.to_string()))?;
    SendMessageBatchRequestEntry::builder()
        .id(position.to_string())
        .message_body(body)
        // A fair queue: a connection whose systems are slow does not make the others' messages wait behind its own (AWS, "How
        // Amazon SQS fair queues work").
        .message_group_id(connection.to_string())
        .build()
        .map_err(|error| invalid(error.to_string()))
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        for batch in hints.chunks(SEND_BATCH_MAX) {
            self.send_batch(batch).await.map_err(StoreError)?;
        }
        Ok(())
    }
}

/// When a batch must come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchTimes {
    /// From then on no record is begun.
    pub stop_at: Timestamp,
    /// Then the answer is given; what is not done by then has failed.
    pub answer_at: Timestamp,
}

impl BatchTimes {
    /// The times of an invocation that ends at `deadline`. Records that run past `stop_at` are given the margin to end.
    pub fn new(deadline: Timestamp, stop_margin_millis: i64) -> Self {
        let answer_at = deadline.plus_millis(ANSWER_MARGIN_MILLIS.saturating_neg());
        Self {
            stop_at: deadline
                .plus_millis(stop_margin_millis.saturating_neg())
                .min(answer_at),
            answer_at,
        }
    }
}

/// Records that ask for the same work.
struct Job {
    hint: Hint,
    message_ids: Vec<String>,
}

/// Does what the records of a batch ask for, each alone, and answers with exactly those that failed: they come again, and
/// after the last delivery go to the dead-letter queue. A record that cannot be read, or whose work panics, fails alone.
/// Records about the same subject cause one piece of work and share its end.
///
/// # Errors
/// When a record comes without a message id: no partial answer could name it, so the whole batch comes again.
pub async fn serve<Work>(
    event: SqsEvent,
    times: BatchTimes,
    clock: &dyn Clock,
    work: Work,
) -> Result<SqsBatchResponse, Problem>
where
    Work: AsyncFn(Hint) -> Result<(), Problem>,
{
    let received = event.records.len();
    let (jobs, mut failed) = sort_out(event)?;
    let mut open: BTreeSet<String> = jobs.iter().flat_map(|job| job.message_ids.clone()).collect();
    let work = &work;
    let mut running = stream::iter(jobs)
        .map(|job| async move { (run(&job.hint, times, clock, work).await, job.message_ids) })
        .buffer_unordered(CONCURRENT_RECORDS_MAX);
    let remaining = times.answer_at.millis_since(clock.now());
    let mut answer_now = clock.sleep(Duration::from_millis(u64::try_from(remaining).unwrap_or(0)));
    loop {
        tokio::select! {
            biased;
            ended = running.next() => match ended {
                Some((succeeded, message_ids)) => {
                    for id in message_ids {
                        open.remove(&id);
                        if !succeeded {
                            failed.insert(id);
                        }
                    }
                }
                None => break,
            },
            () = &mut answer_now => {
                tracing::error!(metric = "records_cut_off", value = open.len(), code = "OUT_OF_TIME", "records not finished in time, they come again");
                break;
            }
        }
    }
    failed.append(&mut open);
    let count = failed.len();
    tracing::info!(received, failed = count, "batch served");
    let mut response = SqsBatchResponse::default();
    failed.into_iter().for_each(|id| response.add_failure(id));
    Ok(response)
}

/// Divides a batch into jobs and the message ids of what cannot be read.
fn sort_out(event: SqsEvent) -> Result<(Vec<Job>, BTreeSet<String>), Problem> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut failed = BTreeSet::new();
    for record in event.records {
        let Some(id) = record.message_id.clone().filter(|id| !id.is_empty()) else {
            let fix = "Nothing to do: the whole batch comes again. Find out who invokes the function.";
            return Err(Problem::new("MESSAGE_ID_MISSING", fix).field("messageId"));
        };
        match parse(&record) {
            Ok(hint) => match jobs.iter_mut().find(|job| target(&job.hint) == target(&hint)) {
                Some(job) => job.message_ids.push(id),
                None => jobs.push(Job {
                    hint,
                    message_ids: vec![id],
                }),
            },
            Err(problem) => {
                tracing::error!(metric = "hint_unreadable", value = 1u64, message_id = id, code = %problem.code, %problem, "message goes to the dead-letter queue");
                failed.insert(id);
            }
        }
    }
    // The same message may stand in a batch twice; it succeeded only if all of it did, so a failure stays one.
    Ok((jobs, failed))
}

/// Reads one message. What is wrong with it is told without its content.
fn parse(record: &SqsMessage) -> Result<Hint, Problem> {
    /// What every version of a message has.
    #[derive(Deserialize)]
    struct Version {
        v: String,
    }
    let fix = "Find out who sent it, then redrive or delete it from the dead-letter queue.";
    let body = record.body.as_deref().unwrap_or("");
    if body.len() > HINT_BYTES_MAX {
        let problem = Problem::new("HINT_UNREADABLE", fix)
            .field("body")
            .expected(format!("at most {HINT_BYTES_MAX} bytes"));
        return Err(problem.actual(format!("{} bytes", body.len())));
    }
    let unreadable = |error: &serde_json::Error| {
        let actual = format!(
            "{:?} error at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        );
        Problem::new("HINT_UNREADABLE", fix)
            .field("body")
            .expected("a hint as JSON")
            .actual(actual)
    };
    let version: Version = serde_json::from_str(body).map_err(|error| unreadable(&error))?;
    if version.v != "1" {
        let fix = "Deploy the version of the functions that knows this message, then redrive it.";
        return Err(Problem::new("HINT_VERSION_UNKNOWN", fix)
            .field("v")
            .expected("1")
            .actual(version.v));
    }
    serde_json::from_str(body).map_err(|error| unreadable(&error))
}

fn target(hint: &Hint) -> (&domain::ids::ConnectionId, &Subject) {
    let Hint::V1 {
        connection, subject, ..
    } = hint;
    (connection, subject)
}

/// Does one job; false when its records must come again.
async fn run<Work>(hint: &Hint, times: BatchTimes, clock: &dyn Clock, work: &Work) -> bool
where
    Work: AsyncFn(Hint) -> Result<(), Problem>,
{
    let Hint::V1 {
        connection,
        subject,
        reason,
        trace,
    } = hint;
    let span = tracing::info_span!("record", %connection, ?subject, ?reason, trace);
    async {
        if clock.now() >= times.stop_at {
            tracing::warn!(code = "OUT_OF_TIME", "record not begun, it comes again");
            return false;
        }
        // The work shares nothing with us but ports, which stay whole when a call to them is given up.
        match AssertUnwindSafe(async { work(hint.clone()).await }).catch_unwind().await {
            Ok(Ok(())) => true,
            Ok(Err(problem)) => {
                tracing::warn!(metric = "record_failed", value = 1u64, code = %problem.code, %problem, "record failed, it comes again");
                false
            }
            Err(_) => {
                // What it said may hold anything; the panic hook has logged where it was.
                tracing::error!(metric = "record_panicked", value = 1u64, code = "PANIC", "record panicked, it comes again");
                false
            }
        }
    }
    .instrument(span)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A clock that always says the same; sleeping takes tokio's (paused) time.
    struct TestClock;

    #[async_trait]
    impl Clock for TestClock {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "tokio's paused clock is the time of this test"
        )]
        async fn sleep(&self, duration: Duration) {
            tokio::time::sleep(duration).await;
        }
    }

    const TIMES: BatchTimes = BatchTimes {
        stop_at: Timestamp(1_000),
        answer_at: Timestamp(2_000),
    };

    fn message(id: &str, body: &str) -> serde_json::Value {
        serde_json::json!({ "messageId": id, "body": body })
    }

    fn hint(invoice: u64) -> String {
        format!(
            r#"{{"v":"1","connection":"acme","subject":{{"invoice":{invoice}}},"reason":"poll","trace":"t"}}"#
        )
    }

    #[test]
    fn a_hint_is_of_the_group_of_its_connection() {
        let hint: Hint = serde_json::from_str(&hint(1)).unwrap();
        let entry = entry((0, &hint)).unwrap();
        assert_eq!(entry.message_group_id(), Some("acme"));
    }

    fn event(records: &[(&str, &str)]) -> SqsEvent {
        let records: Vec<_> = records.iter().map(|(id, body)| message(id, body)).collect();
        serde_json::from_value(serde_json::json!({ "Records": records })).unwrap()
    }

    fn invoice(hint: &Hint) -> u64 {
        match hint {
            Hint::V1 {
                subject: Subject::Invoice(id),
                ..
            } => id.0,
            Hint::V1 { .. } => 0,
        }
    }

    fn failed(response: &SqsBatchResponse) -> Vec<&str> {
        response
            .batch_item_failures
            .iter()
            .map(|failure| failure.item_identifier.as_str())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_failed_comes_again() {
        let (one, two, three) = (hint(1), hint(2), hint(3));
        let event = event(&[
            ("a", &one),
            ("b", &two),
            ("c", &three),
            ("d", "{}"),
            ("e", r#"{"v":"2"}"#),
            ("f", ""),
        ]);
        let work = async |hint: Hint| match invoice(&hint) {
            1 => Ok(()),
            2 => Err(Problem::new("X", "")),
            _ => panic!("work panics"),
        };
        let response = serve(event, TIMES, &TestClock, work).await.unwrap();
        assert_eq!(failed(&response), ["b", "c", "d", "e", "f"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_batch_and_a_good_one_have_no_failures() {
        let work = async |_: Hint| Ok(());
        assert!(failed(&serve(event(&[]), TIMES, &TestClock, work).await.unwrap()).is_empty());
        assert!(
            failed(
                &serve(event(&[("a", &hint(1))]), TIMES, &TestClock, work)
                    .await
                    .unwrap()
            )
            .is_empty()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_subject_is_worked_on_once_and_shares_its_end() {
        let (good, bad) = (hint(1), hint(2));
        let event = event(&[("a", &good), ("b", &good), ("c", &bad), ("d", &bad), ("c", &bad)]);
        let done = RefCell::new(Vec::new());
        let work = async |hint: Hint| {
            done.borrow_mut().push(invoice(&hint));
            if invoice(&hint) == 1 {
                Ok(())
            } else {
                Err(Problem::new("X", ""))
            }
        };
        let response = serve(event, TIMES, &TestClock, work).await.unwrap();
        assert_eq!(failed(&response), ["c", "d"]);
        done.borrow_mut().sort_unstable();
        assert_eq!(*done.borrow(), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_without_message_id_fails_the_whole_batch() {
        let done = Cell::new(0);
        let work = async |_: Hint| {
            done.set(done.get() + 1);
            Ok(())
        };
        let problem = serve(event(&[("a", &hint(1)), ("", &hint(2))]), TIMES, &TestClock, work)
            .await
            .unwrap_err();
        assert_eq!(problem.code, "MESSAGE_ID_MISSING");
        assert_eq!(done.get(), 0, "nothing is done that could not be answered for");
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_stop_nothing_is_begun() {
        let times = BatchTimes {
            stop_at: Timestamp(0),
            answer_at: Timestamp(2_000),
        };
        let work = async |_: Hint| panic!("nothing may be begun");
        let response = serve(
            event(&[("a", &hint(1)), ("b", &hint(2))]),
            times,
            &TestClock,
            work,
        )
        .await
        .unwrap();
        assert_eq!(failed(&response), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_reported_in_time_and_the_rest_is_done() {
        let work = async |hint: Hint| {
            if invoice(&hint) == 1 {
                std::future::pending::<()>().await;
            }
            Ok(())
        };
        let response = serve(
            event(&[("a", &hint(1)), ("b", &hint(2))]),
            TIMES,
            &TestClock,
            work,
        )
        .await
        .unwrap();
        assert_eq!(failed(&response), ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_bound_run_at_once() {
        let (running, most) = (Cell::new(0usize), Cell::new(0usize));
        let bodies: Vec<(String, String)> = (0..50u64)
            .map(|number| (number.to_string(), hint(number)))
            .collect();
        let records: Vec<(&str, &str)> = bodies
            .iter()
            .map(|(id, body)| (id.as_str(), body.as_str()))
            .collect();
        let work = async |_: Hint| {
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            tokio::task::yield_now().await;
            running.set(running.get() - 1);
            Ok(())
        };
        assert!(failed(&serve(event(&records), TIMES, &TestClock, work).await.unwrap()).is_empty());
        assert_eq!(most.get(), CONCURRENT_RECORDS_MAX);
    }

    #[test]
    fn what_is_wrong_with_a_message_is_told_without_its_content() {
        for body in [
            r#"{"v":"1","connection":"canary"}"#,
            "canary",
            r#"{"v":"1","reason":"canary"}"#,
        ] {
            let record: SqsMessage = serde_json::from_value(message("a", body)).unwrap();
            let problem = parse(&record).unwrap_err();
            assert!(!problem.to_string().contains("canary"), "{problem}");
        }
    }

    #[test]
    fn the_stop_is_never_after_the_answer() {
        let times = BatchTimes::new(Timestamp(180_000), 10_000);
        assert_eq!(
            times,
            BatchTimes {
                stop_at: Timestamp(170_000),
                answer_at: Timestamp(179_000)
            }
        );
        assert_eq!(BatchTimes::new(Timestamp(180_000), 0).stop_at, Timestamp(179_000));
    }
}
