//! Whole simulated lives with credentials that can be recognised, and a search for them in everything that comes out.

use super::world::{COUPA_SECRET, Life, QAD_PASSWORD, TOKEN_KEY, WEBHOOK_SECRET, http, now, until};
use aws::clock::SystemClock;
use connectors::http::transport::Method;
use flows::ports::Clock;
use sandbox::faults::{Fault, FaultRule, System, When};
use sandbox::scenario::{Delivery, Scenario, Step, day, play};
use sandbox::world::World;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What bodies carry that is none of our business to keep.
const BANK_ACCOUNT: &str = "DE89370400440532013000-CANARY";
const TAX_ID: &str = "CANARY-TAX-12-3456789";

/// Everything that must never come out. Tokens are recognised by how the simulators name them.
const SECRETS: [&str; 11] = [
    COUPA_SECRET,
    QAD_PASSWORD,
    WEBHOOK_SECRET,
    TOKEN_KEY,
    "canary-token-key",
    "coupa-token-",
    "qad-token-",
    "Bearer coupa",
    "Bearer qad",
    BANK_ACCOUNT,
    TAX_ID,
];

/// How often the invoices are looked at, at most.
const LOOKS_MAX: u32 = 900;

/// All that came out, by where.
type Outputs = BTreeMap<String, String>;

fn leaks(outputs: &Outputs, secrets: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (place, text) in outputs {
        for secret in secrets {
            if let Some(at) = text.find(secret) {
                let around: String = text[at.saturating_sub(120)..].chars().take(300).collect();
                found.push(format!("{secret} in {place}: …{around}…"));
            }
        }
    }
    found
}

/// Stories that need nobody to wait for something in between.
fn stories() -> Vec<Scenario> {
    let mut stories = day(11);
    stories.retain(|story| {
        !story
            .steps
            .iter()
            .any(|step| matches!(step, Step::WaitForState { .. }))
    });
    for invoice in stories.iter_mut().flat_map(|story| &mut story.invoices) {
        invoice
            .custom_fields
            .insert("remit-to-account".to_owned(), json!(BANK_ACCOUNT));
        invoice
            .overrides
            .insert("supplier-tax-number".to_owned(), json!(TAX_ID));
    }
    stories
}

async fn play_all(life: &Life, stories: &[Scenario], answers: &mut String) {
    for step in stories.iter().flat_map(|story| &story.steps) {
        {
            let mut world = life.simulators.world.lock().unwrap();
            let mut faults = life.simulators.faults.lock().unwrap();
            play(step, &mut world, &mut faults, now()).unwrap();
        }
        if let Step::SendEvent {
            invoice, delivery, ..
        } = step
        {
            let body = match delivery {
                Delivery::Garbage => json!({"token": TAX_ID}).to_string(),
                _ => sandbox::coupa::invoice_event(*invoice, "approved", now()),
            };
            let (status, answer) = life.post(&body, None).await;
            answers.push_str(&format!("{status} {answer}\n"));
        }
    }
}

/// Reads a whole table over DynamoDB's own wire.
async fn scan(life: &Life, table: &str) -> String {
    let mut all = String::new();
    let mut start = Value::Null;
    loop {
        let mut request = json!({"TableName": table});
        if !start.is_null() {
            request["ExclusiveStartKey"] = start;
        }
        let headers = [
            ("x-amz-target", "DynamoDB_20120810.Scan".to_owned()),
            ("content-type", "application/x-amz-json-1.0".to_owned()),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0".to_owned(),
            ),
            ("x-amz-date", "20260101T000000Z".to_owned()),
        ];
        let url = life.local.aws().dynamodb_url().to_owned();
        let (status, body) = http(Method::Post, &url, &headers, Some(&request.to_string())).await;
        assert_eq!(status, 200, "{table}: {body}");
        all.push_str(&body);
        let answer: Value = serde_json::from_str(&body).unwrap();
        start = answer["LastEvaluatedKey"].clone();
        if start.is_null() {
            return all;
        }
    }
}

async fn collect(life: &Life, answers: &str, errors: &str) -> Outputs {
    let mut outputs = Outputs::new();
    outputs.insert("logs".to_owned(), life.logs());
    outputs.insert("answers of the webhook".to_owned(), answers.to_owned());
    outputs.insert("errors of calls".to_owned(), errors.to_owned());
    let run_file = life.local.run_file();
    for (name, table) in &run_file.tables {
        outputs.insert(format!("table {name}"), scan(life, table).await);
    }
    for (name, url) in &run_file.queues {
        let messages = life
            .local
            .aws()
            .sqs
            .receive(url, 10, Duration::ZERO)
            .await
            .unwrap();
        outputs.insert(format!("queue {name}"), json!(messages).to_string());
    }
    let text = |output: std::process::Output| {
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    };
    let mut shown =
        text(life.command(&["invoice", "list"])) + &text(life.command(&["invoice", "list", "--json"]));
    for invoice in life.invoices() {
        let id = invoice["invoice"].to_string();
        shown += &text(life.command(&["explain", &id]));
        shown += &text(life.command(&["timeline", &id]));
    }
    outputs.insert("command line".to_owned(), shown);
    let run_file = std::fs::read_to_string(life.folder.0.join(sandbox::local::RUN_FILE)).unwrap();
    outputs.insert("run file".to_owned(), run_file);
    outputs
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_comes_out_anywhere_in_a_whole_life() {
    let mut stories = stories();
    // QAD quotes the header it did not like, as some systems do.
    let quoted = {
        let story = stories
            .iter_mut()
            .find(|story| story.name == "single line")
            .unwrap();
        let invoice = &story.invoices[0];
        let quoted = (invoice.id, invoice.number.clone());
        story.expected.clear();
        quoted
    };
    let world = World::seed(&stories, now());
    let schedules = [
        ("PollCoupa", "every 2 seconds"),
        ("PollReceipts", "every 2 seconds"),
        ("PollPayments", "every 3 seconds"),
        ("Sweep", "every 1 second"),
    ];
    let life = Life::start("canary", world, &schedules).await;
    let mut events = life.local.events();
    {
        let refusal = Fault::BusinessRefusal {
            code: "1234".to_owned(),
            field: String::new(),
            message: "session of canary-qad-password-1 is not allowed".to_owned(),
        };
        let mut rule = FaultRule::next(System::Qad, "supplier-invoices.create", Some(&quoted.1), refusal);
        // However often it is decided anew.
        rule.when = When::Next(u32::MAX);
        life.simulators.faults.lock().unwrap().arm(rule);
    }
    let mut answers = String::new();
    play_all(&life, &stories, &mut answers).await;
    let expected: Vec<(u64, &str)> = stories
        .iter()
        .flat_map(|story| &story.expected)
        .map(|one| (one.invoice, one.state))
        .chain([(quoted.0, "parked")])
        .collect();
    let mut looks = 0;
    let elsewhere = loop {
        let shown = life.invoices();
        let differs = |(id, state): &&(u64, &str)| {
            !shown
                .iter()
                .any(|one| one["invoice"] == *id && one["state"] == *state)
        };
        let elsewhere: Vec<_> = expected.iter().filter(differs).collect();
        looks += 1;
        if elsewhere.is_empty() || looks > LOOKS_MAX {
            break elsewhere
                .into_iter()
                .map(|(id, state)| {
                    let is = shown.iter().find(|one| one["invoice"] == *id);
                    format!("{id} should be {state} and is {is:?}")
                })
                .collect::<Vec<_>>();
        }
        SystemClock.sleep(Duration::from_millis(400)).await;
    };
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    // A message nobody can read, and one about a connection that is not there: both end among the dead letters.
    let queue = life.local.run_file().queues["InvoicesQueue"].clone();
    let stray =
        json!({"v": "1", "connection": "nobody", "subject": {"invoice": 7}, "reason": "poll", "trace": "t"});
    for body in ["{\"garbage\":true}".to_owned(), stray.to_string()] {
        life.local
            .aws()
            .sqs
            .send(&queue, &body, Map::new())
            .await
            .unwrap();
    }
    until("two dead letters", || async {
        let depths = life.local.queue_depths().await.unwrap();
        (depths["InvoicesDeadLetterQueue"].visible >= 2).then_some(())
    })
    .await;
    let mut errors = String::new();
    while let Ok(event) = events.try_recv() {
        errors.push_str(&format!("{event:?}\n"));
    }
    let outputs = collect(&life, &answers, &errors).await;

    // The search reaches what is there.
    let reference = &stories[0].invoices[0].number;
    for (place, marker) in [
        ("logs", "\"http\""),
        ("logs", quoted.0.to_string().as_str()),
        ("table RegisterTable", reference),
        ("table AuditTable", "posted"),
        ("table TokensTable", "sealed"),
        ("queue InvoicesDeadLetterQueue", "garbage"),
        ("command line", reference),
        ("answers of the webhook", "queued"),
        ("errors of calls", "InvocationFinished"),
    ] {
        assert!(outputs[place].contains(marker), "{marker} is not in {place}");
    }
    // The refusal is told, without what QAD quoted.
    let told: Vec<&str> = outputs["command line"]
        .lines()
        .filter(|line| line.contains("is not allowed") || line.contains(&format!("Coupa {}", quoted.0)))
        .collect();
    assert!(
        told.iter()
            .any(|line| line.contains("session of [hidden] is not allowed")),
        "{told:#?}"
    );
    let found = leaks(&outputs, &SECRETS);
    assert!(found.is_empty(), "{found:#?}");

    // The same search finds a secret that somebody lets slip: here the sender, as the id of a delivery.
    let slip = "canary-that-slipped-out";
    let body = sandbox::coupa::invoice_event(quoted.0, "updated", now());
    assert_eq!(life.post(&body, Some(slip)).await.0, 202);
    until("the slip is found", || async {
        let outputs = Outputs::from([("logs".to_owned(), life.logs())]);
        (!leaks(&outputs, &[slip]).is_empty()).then_some(())
    })
    .await;
    life.shutdown().await;
}
