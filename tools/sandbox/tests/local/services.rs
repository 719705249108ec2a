//! DynamoDB, SQS and Secrets Manager through the real AWS SDK.

use crate::support::{self, Folder, until};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
    builders::MessageAttributeValueBuilder,
};
use sandbox::local::LocalAws;
use sandbox::local::template::Table;
use serde_json::json;
use std::collections::BTreeMap;

fn table() -> Table {
    Table {
        logical_id: "RegisterTable".to_owned(),
        name: "register".to_owned(),
        create: json!({
            "TableName": "register",
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "due_pk", "AttributeType": "S"},
                {"AttributeName": "due_at", "AttributeType": "N"},
            ],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "GlobalSecondaryIndexes": [{
                "IndexName": "due",
                "KeySchema": [
                    {"AttributeName": "due_pk", "KeyType": "HASH"},
                    {"AttributeName": "due_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }],
        }),
        time_to_live_attribute: Some("expires".to_owned()),
    }
}

#[tokio::test]
async fn tables_keep_conditions_and_indexes_and_survive_a_restart() {
    let folder = Folder::new();
    let aws = LocalAws::start(Some(&folder.0), 0, 0).await.unwrap();
    aws.dynamo.ensure_table(&table()).unwrap();
    let client = support::dynamodb(&aws);
    let put = |client: &aws_sdk_dynamodb::Client| {
        client
            .put_item()
            .table_name("register")
            .item("pk", AttributeValue::S("a".to_owned()))
            .item("due_pk", AttributeValue::S("due".to_owned()))
            .item("due_at", AttributeValue::N("5".to_owned()))
            .condition_expression("attribute_not_exists(pk)")
            .send()
    };
    put(&client).await.unwrap();
    assert!(
        put(&client)
            .await
            .unwrap_err()
            .into_service_error()
            .is_conditional_check_failed_exception()
    );
    aws.shutdown().await;

    let aws = LocalAws::start(Some(&folder.0), 0, 0).await.unwrap();
    aws.dynamo.ensure_table(&table()).unwrap();
    let found = support::dynamodb(&aws)
        .query()
        .table_name("register")
        .index_name("due")
        .key_condition_expression("due_pk = :due AND due_at < :now")
        .expression_attribute_values(":due", AttributeValue::S("due".to_owned()))
        .expression_attribute_values(":now", AttributeValue::N("6".to_owned()))
        .send()
        .await
        .unwrap();
    assert_eq!(found.items()[0]["pk"], AttributeValue::S("a".to_owned()));

    let mut other = table();
    other.create["GlobalSecondaryIndexes"][0]["IndexName"] = json!("late");
    let error = aws.dynamo.ensure_table(&other).unwrap_err().to_string();
    assert!(
        error.contains("LOCAL_DYNAMODB") && error.contains("late"),
        "{error}"
    );
    aws.shutdown().await;
}

struct Queues {
    aws: LocalAws,
    client: aws_sdk_sqs::Client,
    source: String,
    dead: String,
}

const SOURCE_ARN: &str = "arn:aws:sqs:us-east-1:000000000000:source";
const DEAD_ARN: &str = "arn:aws:sqs:us-east-1:000000000000:dead";

/// A queue whose messages go to the dead-letter queue after two deliveries; the count is a text, as CloudFormation
/// writes it.
async fn queues() -> Queues {
    let aws = LocalAws::start(None, 0, 0).await.unwrap();
    let client = support::sqs(&aws);
    let dead = client
        .create_queue()
        .queue_name("dead")
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap();
    let source = create_source(&client, DEAD_ARN).await.unwrap();
    Queues {
        aws,
        client,
        source,
        dead,
    }
}

async fn create_source(client: &aws_sdk_sqs::Client, dead_arn: &str) -> Result<String, String> {
    let policy = json!({"deadLetterTargetArn": dead_arn, "maxReceiveCount": "2"}).to_string();
    let made = client
        .create_queue()
        .queue_name("source")
        .attributes(QueueAttributeName::RedrivePolicy, policy)
        .attributes(QueueAttributeName::VisibilityTimeout, "30")
        .send()
        .await;
    made.map(|made| made.queue_url.unwrap())
        .map_err(|error| error.message().unwrap_or_default().to_owned())
}

impl Queues {
    async fn send(&self, url: &str, body: &str) {
        let kind = MessageAttributeValueBuilder::default()
            .data_type("String")
            .string_value("kind")
            .build()
            .unwrap();
        let sent = self
            .client
            .send_message()
            .queue_url(url)
            .message_body(body)
            .message_attributes("kind", kind);
        sent.send().await.unwrap();
    }

    async fn receive(&self, url: &str) -> Vec<aws_sdk_sqs::types::Message> {
        let received = self
            .client
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await;
        received.unwrap().messages.unwrap_or_default()
    }

    /// Receives everything and gives it back at once, which counts as a delivery.
    async fn fail_all(&self, url: &str) -> usize {
        let messages = self.receive(url).await;
        for message in &messages {
            let handle = message.receipt_handle().unwrap();
            let back = self
                .client
                .change_message_visibility()
                .queue_url(url)
                .receipt_handle(handle);
            back.visibility_timeout(0).send().await.unwrap();
        }
        messages.len()
    }

    async fn count(&self, url: &str) -> u64 {
        self.aws.sqs.depth(url).await.unwrap().visible
    }

    async fn kill_three(&self) {
        for body in ["a", "b", "c"] {
            self.send(&self.source, body).await;
        }
        assert_eq!(self.fail_all(&self.source).await, 3);
        assert_eq!(self.fail_all(&self.source).await, 3);
        assert_eq!(self.fail_all(&self.source).await, 0);
        until("three dead letters", || async {
            (self.count(&self.dead).await == 3).then_some(())
        })
        .await;
    }

    async fn last_task(&self) -> aws_sdk_sqs::types::ListMessageMoveTasksResultEntry {
        let tasks = self
            .client
            .list_message_move_tasks()
            .source_arn(DEAD_ARN)
            .send()
            .await
            .unwrap();
        tasks.results()[0].clone()
    }
}

#[tokio::test]
async fn a_message_that_fails_twice_goes_to_the_dead_letter_queue_and_can_be_moved_back() {
    let queues = queues().await;
    queues.kill_three().await;
    let sources = queues
        .client
        .list_dead_letter_source_queues()
        .queue_url(&queues.dead)
        .send()
        .await
        .unwrap();
    assert_eq!(sources.queue_urls(), [queues.source.as_str()]);

    queues
        .client
        .start_message_move_task()
        .source_arn(DEAD_ARN)
        .send()
        .await
        .unwrap();
    let task = until("the move", || async {
        Some(queues.last_task().await).filter(|task| task.status() != Some("RUNNING"))
    })
    .await;
    assert_eq!(task.status(), Some("COMPLETED"));
    assert_eq!(
        (task.approximate_number_of_messages_moved(), task.task_handle()),
        (3, None)
    );
    assert_eq!(
        (
            queues.count(&queues.dead).await,
            queues.count(&queues.source).await
        ),
        (0, 3)
    );
    let back = queues.receive(&queues.source).await;
    assert_eq!(
        back[0].attributes().unwrap()[&MessageSystemAttributeName::ApproximateReceiveCount],
        "1"
    );
    assert_eq!(
        back[0].message_attributes().unwrap()["kind"].string_value(),
        Some("kind")
    );
}

#[tokio::test]
async fn a_move_can_be_cancelled_and_says_why_it_failed() {
    let queues = queues().await;
    queues.kill_three().await;
    let started = queues
        .client
        .start_message_move_task()
        .source_arn(DEAD_ARN)
        .destination_arn(SOURCE_ARN);
    let started = started.max_number_of_messages_per_second(1).send().await.unwrap();
    let again = queues
        .client
        .start_message_move_task()
        .source_arn(DEAD_ARN)
        .send()
        .await
        .unwrap_err();
    assert_eq!(again.code(), Some("AWS.SimpleQueueService.UnsupportedOperation"));
    let cancel = || {
        queues
            .client
            .cancel_message_move_task()
            .task_handle(started.task_handle().unwrap())
            .send()
    };
    cancel().await.unwrap();
    let status = || async { queues.last_task().await.status().map(str::to_owned) };
    until("the end", || async {
        status()
            .await
            .filter(|status| status == "CANCELLED" || status == "COMPLETED")
    })
    .await;
    assert!(cancel().await.is_err());
    let unknown = queues
        .client
        .cancel_message_move_task()
        .task_handle("none")
        .send()
        .await
        .unwrap_err();
    assert!(unknown.into_service_error().is_resource_not_found_exception());

    // A message that was sent straight to the dead-letter queue has no source to go back to.
    queues
        .client
        .purge_queue()
        .queue_url(&queues.dead)
        .send()
        .await
        .unwrap();
    queues.send(&queues.dead, "stray").await;
    queues
        .client
        .start_message_move_task()
        .source_arn(DEAD_ARN)
        .send()
        .await
        .unwrap();
    let failed = until("the failure", || async {
        Some(queues.last_task().await).filter(|task| task.status() != Some("RUNNING"))
    })
    .await;
    assert_eq!(failed.status(), Some("FAILED"));
    assert_eq!(failed.failure_reason(), Some("CouldNotDetermineMessageSource"));
    assert_eq!(queues.count(&queues.dead).await, 1);

    let not_dead = queues
        .client
        .start_message_move_task()
        .source_arn(SOURCE_ARN)
        .send()
        .await
        .unwrap_err();
    assert!(not_dead.message().unwrap().contains("Dead Letter Queue"));
}

#[tokio::test]
async fn sqs_refuses_what_aws_refuses() {
    let aws = LocalAws::start(None, 0, 0).await.unwrap();
    let client = support::sqs(&aws);
    let refused = create_source(&client, DEAD_ARN).await.unwrap_err();
    assert!(refused.contains("Dead letter target does not exist"), "{refused}");

    let url = client
        .create_queue()
        .queue_name("plain")
        .send()
        .await
        .unwrap()
        .queue_url
        .unwrap();
    let too_many = client
        .receive_message()
        .queue_url(&url)
        .max_number_of_messages(11)
        .send()
        .await;
    assert_eq!(too_many.unwrap_err().code(), Some("InvalidParameterValue"));
    let control = client
        .send_message()
        .queue_url(&url)
        .message_body("a\u{1}b")
        .send()
        .await;
    assert!(control.is_err());
    let late = client
        .send_message()
        .queue_url(&url)
        .message_body("a")
        .delay_seconds(901)
        .send()
        .await;
    assert!(late.is_err());
    let handle = client
        .delete_message()
        .queue_url(&url)
        .receipt_handle("not a handle")
        .send()
        .await;
    assert!(
        handle
            .unwrap_err()
            .into_service_error()
            .is_receipt_handle_is_invalid()
    );

    let entry = |id: &str, body: &str| {
        SendMessageBatchRequestEntry::builder()
            .id(id)
            .message_body(body)
            .build()
            .unwrap()
    };
    let mixed = client
        .send_message_batch()
        .queue_url(&url)
        .entries(entry("good", "a"))
        .entries(entry("bad", "\u{2}"));
    let mixed = mixed.send().await.unwrap();
    assert_eq!(
        (mixed.successful()[0].id(), mixed.failed()[0].id()),
        ("good", "bad")
    );
    assert!(mixed.failed()[0].sender_fault());
    let eleven: Vec<_> = (0..11).map(|number| entry(&number.to_string(), "a")).collect();
    let eleven = client
        .send_message_batch()
        .queue_url(&url)
        .set_entries(Some(eleven))
        .send()
        .await;
    assert!(
        eleven
            .unwrap_err()
            .into_service_error()
            .is_too_many_entries_in_batch_request()
    );
    assert_eq!(aws.sqs.depth(&url).await.unwrap().visible, 1);
}

#[tokio::test]
async fn a_message_may_be_of_a_group_that_aws_takes() {
    let aws = LocalAws::start(None, 0, 0).await.unwrap();
    let client = support::sqs(&aws);
    let url = aws.sqs.create("plain", &BTreeMap::new()).await.unwrap();
    let longest = "g".repeat(128);
    for group in ["acme", "Plant-2_(north)!", &longest] {
        let sent = client
            .send_message()
            .queue_url(&url)
            .message_body("a")
            .message_group_id(group);
        assert!(sent.send().await.is_ok(), "{group}");
    }
    assert_eq!(aws.sqs.depth(&url).await.unwrap().visible, 3);
    let entry = |id: &str, group: &str| {
        SendMessageBatchRequestEntry::builder()
            .id(id)
            .message_body("a")
            .message_group_id(group)
            .build()
            .unwrap()
    };
    let too_long = "g".repeat(129);
    for refused in ["", "two words", "Größe", &too_long] {
        let sent = client
            .send_message()
            .queue_url(&url)
            .message_body("a")
            .message_group_id(refused);
        assert_eq!(
            sent.send().await.unwrap_err().code(),
            Some("InvalidParameterValue"),
            "{refused}"
        );
        let mixed = client
            .send_message_batch()
            .queue_url(&url)
            .entries(entry("good", "acme"))
            .entries(entry("bad", refused));
        let mixed = mixed.send().await.unwrap();
        assert_eq!(
            (mixed.successful()[0].id(), mixed.failed()[0].id()),
            ("good", "bad"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn secrets_are_versioned() {
    let aws = LocalAws::start(None, 0, 0).await.unwrap();
    aws.secrets
        .create("stack/webhook/a", &"first".into())
        .await
        .unwrap();
    assert!(
        aws.secrets
            .create("stack/webhook/a", &"second".into())
            .await
            .is_err()
    );
    let client = support::secrets(&aws);
    client
        .put_secret_value()
        .secret_id("stack/webhook/a")
        .secret_string("second")
        .send()
        .await
        .unwrap();
    let read = async |stage: &str| {
        let value = client
            .get_secret_value()
            .secret_id("stack/webhook/a")
            .version_stage(stage)
            .send()
            .await;
        value.unwrap().secret_string.unwrap()
    };
    assert_eq!(
        (read("AWSCURRENT").await, read("AWSPREVIOUS").await),
        ("second".to_owned(), "first".to_owned())
    );
    let missing = client
        .get_secret_value()
        .secret_id("stack/webhook/b")
        .send()
        .await
        .unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
}
