//! The dead-letter queues: what lies there, and back with it. A redrive is AWS's own move task, the same that the console
//! starts; a message says only "look at this", so moving it twice, or weeks later, changes nothing.

use crate::output::{Cell, Column, ListOptions, Listing, Output, Row};
use crate::place::{NamedQueue, Place, PlaceArguments, refused};
use crate::status::{Depth, attributes, depth, depths};
use crate::{Failure, terminal};
use aws::clock::SystemClock;
use aws_sdk_sqs::types::{MessageSystemAttributeName, QueueAttributeName};
use clap::Subcommand;
use domain::problem::{Problem, clean};
use domain::time::Timestamp;
use domain::words;
use flows::ports::{Clock, Hint, HintReason, Subject};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Messages of one receive (SQS's limit).
const RECEIVE_MAX: i32 = 10;
/// How long a message that is shown stays hidden, in seconds: long enough not to be shown twice.
const HIDDEN_SECONDS: i32 = 5;
/// How long a redrive waits for hidden messages to be seen again, in seconds: longer than they are hidden by `show`.
const UNHIDE_SECONDS_MAX: i64 = 15;
/// Receives in a row without anything new after which a queue counts as shown.
const EMPTY_RECEIVES_MAX: u32 = 2;
/// How often a move is looked at, in milliseconds, and how long at most, in seconds.
const LOOK_MILLIS: u64 = 300;
const MOVE_SECONDS_MAX: i64 = 120;
/// Messages that are shown when nobody says how many.
const SHOWN_MAX: usize = 50;
/// Characters shown of a message that is no hint.
const BODY_CHARACTERS_MAX: usize = 160;

#[derive(Debug, Subcommand)]
pub(crate) enum DlqVerb {
    /// How many messages lie in each dead-letter queue.
    List(ListOptions),
    /// What lies in one of them. The messages stay; they are hidden from others for a few seconds.
    #[command(after_help = "Example: qad-coupa dlq show invoices-dead-letter")]
    Show {
        /// The queue, as `dlq list` names it.
        queue: String,
        #[command(flatten)]
        list: ListOptions,
    },
    /// Moves everything in a dead-letter queue back to where it came from, by AWS's own move task.
    #[command(after_help = "Example: qad-coupa dlq redrive invoices-dead-letter --dry-run")]
    Redrive {
        /// The queue, as `dlq list` names it.
        queue: String,
        /// Says how many would be moved, and moves nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `dlq …`.
pub(crate) async fn run(place: &PlaceArguments, verb: DlqVerb, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    match verb {
        DlqVerb::List(options) => list(&place, &options, out).await,
        DlqVerb::Show { queue, list } => show(&place, dead_letters(&place, &queue)?, &list, out).await,
        DlqVerb::Redrive { queue, dry_run } => {
            redrive(&place, dead_letters(&place, &queue)?, dry_run, out).await
        }
    }
}

fn dead_letters<'a>(place: &'a Place, name: &str) -> Result<&'a NamedQueue, Failure> {
    let queue = place.queue(name)?;
    if queue.is_dead_letter() {
        return Ok(queue);
    }
    Err(Failure::Refused(
        Problem::new(
            "QUEUE_NOT_DEAD_LETTER",
            "Name the dead-letter queue; `qad-coupa dlq list` shows them.",
        )
        .field("queue")
        .actual(name),
    ))
}

async fn list(place: &Place, options: &ListOptions, out: &Output) -> Result<(), Failure> {
    let mut depths = depths(place).await?;
    depths.retain(|depth| depth.queue.is_dead_letter());
    let row = |depth: &Depth| {
        let (name, visible, in_work) = (&depth.queue.name, depth.visible, depth.in_work);
        Row::new(
            json!({ "queue": name, "messages": visible, "in_work": in_work }),
            vec![name.as_str().into(), visible.into(), in_work.into()],
        )
    };
    let columns = [
        Column::word("Queue"),
        Column::figure("Messages"),
        Column::figure("In work"),
    ];
    out.list(Listing::new(&columns, depths.iter().map(row).collect()), options)
}

/// One message, as it is shown.
struct Shown {
    id: String,
    sent: Option<Timestamp>,
    about: String,
    connection: String,
}

/// What a message wants looked at.
fn of(subject: &Subject) -> String {
    match subject {
        Subject::Invoice(id) => format!("invoice {id}"),
        Subject::PurchaseOrder(id) => format!("Coupa order {id}"),
        Subject::Supplier(id) => format!("Coupa supplier {id}"),
        Subject::Payment(id) => format!("Coupa payment {id}"),
        Subject::Entry { collection, id } => format!("{} {id}", collection.word().replace('-', " ")),
    }
}

/// Why it was sent.
fn because(reason: HintReason) -> &'static str {
    match reason {
        HintReason::Webhook => "by an event from Coupa",
        HintReason::Poll => "by the poll of Coupa",
        HintReason::Receipt => "because of a receipt",
        HintReason::Order => "because of its order",
        HintReason::Supplier => "because of its supplier",
        HintReason::Payment => "because of a payment",
        HintReason::Sweep => "because it was due",
        HintReason::Operator => "because a person asked",
    }
}

fn shown(message: &aws_sdk_sqs::types::Message) -> Shown {
    let body = message.body().unwrap_or_default();
    let (about, connection) = match serde_json::from_str::<Hint>(body) {
        Ok(Hint::V1 {
            connection,
            subject,
            reason,
            ..
        }) => (
            format!("{}, {}", of(&subject), because(reason)),
            connection.to_string(),
        ),
        Err(_) => (
            format!(
                "no hint: {}",
                clean(body).chars().take(BODY_CHARACTERS_MAX).collect::<String>()
            ),
            String::new(),
        ),
    };
    let sent = message
        .attributes()
        .and_then(|all| all.get(&MessageSystemAttributeName::SentTimestamp))
        .and_then(|text| text.parse().ok())
        .map(Timestamp);
    Shown {
        id: message.message_id().unwrap_or_default().to_owned(),
        sent,
        about,
        connection,
    }
}

async fn show(place: &Place, queue: &NamedQueue, options: &ListOptions, out: &Output) -> Result<(), Failure> {
    let limit = options.limit.unwrap_or(SHOWN_MAX);
    let mut found: BTreeMap<String, Shown> = BTreeMap::new();
    let mut empty = 0u32;
    while found.len() < limit && empty < EMPTY_RECEIVES_MAX {
        let answer = place
            .clients()
            .sqs()
            .receive_message()
            .queue_url(&queue.url)
            .max_number_of_messages(RECEIVE_MAX)
            .visibility_timeout(HIDDEN_SECONDS)
            .wait_time_seconds(0)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .map_err(|error| refused("SQS", "ReceiveMessage", &error.into_service_error()))?;
        let before = found.len();
        for message in answer.messages() {
            let message = shown(message);
            found.insert(message.id.clone(), message);
        }
        empty = if found.len() == before {
            empty.saturating_add(1)
        } else {
            0
        };
    }
    let mut messages: Vec<Shown> = found.into_values().collect();
    messages.sort_by(|one, two| (one.sent, &one.id).cmp(&(two.sent, &two.id)));
    messages.truncate(limit);
    let row = |message: &Shown| {
        Row::new(
            json!({ "message_id": message.id, "sent": message.sent.map(|at| at.to_string()),
                    "connection": message.connection, "about": message.about }),
            vec![
                Cell::Instant(message.sent),
                message.connection.as_str().into(),
                message.about.as_str().into(),
                message.id.as_str().into(),
            ],
        )
    };
    let columns = [
        Column::word("First sent"),
        Column::word("Connection"),
        Column::sentence("About"),
        Column::word("Message"),
    ];
    let count = words::count(messages.len(), "message");
    out.list(
        Listing::new(&columns, messages.iter().map(row).collect()).below([count]),
        options,
    )
}

type Attributes = HashMap<QueueAttributeName, String>;

fn value_of(attributes: &Attributes, name: &QueueAttributeName) -> String {
    attributes.get(name).cloned().unwrap_or_default()
}

/// The queue once nothing in it is hidden: what `dlq show` has shown is hidden for a few seconds, and AWS would not move it.
async fn in_view(place: &Place, queue: &NamedQueue) -> Result<Depth, Failure> {
    let end = SystemClock.now().plus_seconds(UNHIDE_SECONDS_MAX);
    loop {
        let depth = depth(place, queue).await?;
        if depth.in_work == 0 || SystemClock.now() >= end {
            return Ok(depth);
        }
        SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
    }
}

fn still_hidden(queue: &str, hidden: u64) -> String {
    format!(
        "MESSAGES_HIDDEN: {hidden} messages of {queue} are hidden because somebody has them in hand. Nothing was moved; \
         repeat it when `qad-coupa dlq list` shows none in work."
    )
}

async fn redrive(place: &Place, queue: &NamedQueue, dry_run: bool, out: &Output) -> Result<(), Failure> {
    let origin = queue.name.strip_suffix("-dead-letter").unwrap_or_default();
    let Ok(destination) = place.queue(origin) else {
        return Err(Failure::Refused(
            Problem::new(
                "REDRIVE_REFUSED",
                "What failed was the start of a schedule; its next start does the same work. Once that runs, purge the queue.",
            )
            .field(&*queue.name)
            .expected("a queue whose messages came from another queue"),
        ));
    };
    let sqs = place.clients().sqs();
    let depth = if dry_run {
        depth(place, queue).await?
    } else {
        in_view(place, queue).await?
    };
    if !dry_run && depth.in_work > 0 {
        return Err(Failure::Differs(still_hidden(&queue.name, depth.in_work)));
    }
    let waiting = depth.visible.saturating_add(depth.in_work);
    if dry_run || waiting == 0 {
        let value = json!({ "queue": queue.name, "to": origin, "messages": waiting, "hidden": depth.in_work,
                            "moved": 0, "dry_run": dry_run });
        out.value(
            || value,
            |out| {
                out.line(&format!(
                    "{waiting} messages of {} would go back to {origin}. Nothing was moved.",
                    queue.name
                ));
            },
        );
        return Ok(());
    }
    let of_queue = attributes(place, queue).await?;
    let arn = value_of(&of_queue, &QueueAttributeName::QueueArn);
    let to = attributes(place, destination).await?;
    // Named, although it is where they came from: a message that was put there by hand came from nowhere.
    sqs.start_message_move_task()
        .source_arn(&arn)
        .destination_arn(value_of(&to, &QueueAttributeName::QueueArn))
        .send()
        .await
        .map_err(|error| refused("SQS", "StartMessageMoveTask", &error.into_service_error()))?;
    let end = SystemClock.now().plus_seconds(MOVE_SECONDS_MAX);
    loop {
        let tasks = sqs
            .list_message_move_tasks()
            .source_arn(&arn)
            .max_results(1)
            .send()
            .await
            .map_err(|error| refused("SQS", "ListMessageMoveTasks", &error.into_service_error()))?;
        let task = tasks.results().first();
        let status = task.and_then(|task| task.status()).unwrap_or_default().to_owned();
        let moved = task.map_or(0, |task| task.approximate_number_of_messages_moved());
        match status.as_str() {
            "COMPLETED" => {
                let value = json!({ "queue": queue.name, "to": origin, "messages": waiting, "moved": moved, "dry_run": false });
                out.value(
                    || value,
                    |out| {
                        out.line(&format!(
                            "{moved} messages of {} moved back to {origin}",
                            queue.name
                        ))
                    },
                );
                return Ok(());
            }
            "RUNNING" | "CANCELLING" if SystemClock.now() < end => {
                SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
            }
            "RUNNING" | "CANCELLING" => {
                terminal::note(&format!("{moved} moved so far; the task goes on in AWS"));
                return Ok(());
            }
            other => {
                let reason = task.and_then(|task| task.failure_reason()).unwrap_or_default();
                return Err(Problem::new(
                    "REDRIVE_FAILED",
                    "What is left is still in the dead-letter queue; start it again.",
                )
                .field(&*queue.name)
                .expected("COMPLETED")
                .actual(format!("{other} {reason}, {moved} moved"))
                .into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flows::ports::Collection;

    #[test]
    fn a_message_is_told_in_words() {
        let invoice = Subject::Invoice(domain::ids::InvoiceId(92_009));
        let told = format!("{}, {}", of(&invoice), because(HintReason::Webhook));
        assert_eq!(told, "invoice 92009, by an event from Coupa");
        let entry = Subject::Entry {
            collection: Collection::LookupPlan,
            id: "x".to_owned(),
        };
        assert_eq!(of(&entry), "lookup plan x");
    }
}
