//! The whole local run with a function that can misbehave.

use crate::support::{Folder, fixture, until};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use sandbox::local::{
    InvokeError, LocalConnection, LocalError, LocalEvent, LocalOptions, LocalPorts, LocalRun, RunFile,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// The folder of this package's examples, beside the folder of its test binaries.
fn binaries_dir() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap().join("examples");
    assert!(
        folder.join("echo_function").is_file(),
        "build it: cargo build --package sandbox --examples"
    );
    folder
}

fn options(folder: &Folder) -> LocalOptions {
    LocalOptions {
        stack_name: "small".to_owned(),
        stack_template: fixture("stack.yaml"),
        connection_template: fixture("connection.yaml"),
        binaries_dir: binaries_dir(),
        connections: vec![connection("a")],
        parameters: BTreeMap::new(),
        queue_visibility: Some(Duration::from_secs(1)),
        data_dir: None,
        run_dir: folder.0.clone(),
        ports: LocalPorts::default(),
    }
}

fn connection(id: &str) -> LocalConnection {
    LocalConnection {
        id: id.to_owned(),
        connection_secret: r#"{"kind":"connection"}"#.into(),
        webhook_secret: r#"{"kind":"webhook"}"#.into(),
        parameters: BTreeMap::new(),
        schedule_overrides: BTreeMap::from([("Tick".to_owned(), "off".to_owned())]),
    }
}

async fn command(run: &LocalRun, command: &str) -> Result<Value, LocalError> {
    run.invoke("WorkFunction", &json!({ "command": command })).await
}

fn is_alive(process: &Value) -> bool {
    // A process that ended and was not waited for is a zombie, and counts as ended.
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

#[tokio::test]
async fn a_function_gets_its_environment_and_nothing_else() {
    let folder = Folder::new();
    let run = LocalRun::start(options(&folder)).await.unwrap();
    let environment = command(&run, "environment").await.unwrap();
    let names: BTreeSet<&str> = environment
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL_DYNAMODB",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER",
        "AWS_ENDPOINT_URL_SQS",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_TASK_ROOT",
        "LANG",
        "MODE",
        "PATH",
        "QUEUE_URL",
        "SECRET",
        "SHARED",
        "TABLE",
        "TZ",
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
    ];
    let unexpected: Vec<_> = names.difference(&expected.into()).copied().collect();
    assert_eq!(unexpected, Vec::<&str>::new());
    assert_eq!(environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], "256");
    assert_eq!(
        environment["AWS_ENDPOINT_URL_SQS"],
        run.aws_endpoints()["AWS_ENDPOINT_URL_SQS"]
    );
    let context = command(&run, "context").await.unwrap();
    assert_eq!(
        context["arn"],
        "arn:aws:lambda:us-east-1:000000000000:function:small-work"
    );
    run.shutdown().await;
}

#[tokio::test]
async fn a_function_that_misbehaves_is_reported_and_the_next_call_works() {
    let folder = Folder::new();
    let run = LocalRun::start(options(&folder)).await.unwrap();
    let mut events = run.events();
    let first = command(&run, "context").await.unwrap();

    let failure = async |word: &str| match command(&run, word).await {
        Err(LocalError::Invoke(error)) => error,
        other => panic!("{word}: {other:?}"),
    };
    assert!(
        matches!(failure("error").await, InvokeError::Function { message, .. } if message == "asked to fail")
    );
    assert!(
        matches!(failure("panic").await, InvokeError::Function { message, .. } if message.contains("asked to panic"))
    );
    assert_eq!(
        command(&run, "context").await.unwrap()["process"],
        first["process"],
        "an answered error keeps the process"
    );

    assert!(matches!(failure("exit").await, InvokeError::Crashed(reason) if reason.contains('3')));
    let second = command(&run, "context").await.unwrap();
    assert_ne!(second["process"], first["process"]);

    assert_eq!(
        failure("hang").await,
        InvokeError::Timeout(Duration::from_secs(4))
    );
    assert!(!is_alive(&second["process"]), "ended at its timeout");
    assert_eq!(failure("large").await, InvokeError::AnswerTooLarge);
    let last = command(&run, "context").await.unwrap();

    let killed = std::process::Command::new("kill")
        .args(["-9", &last["process"].to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    until("the end of the idle process", || async {
        (!is_alive(&last["process"])).then_some(())
    })
    .await;
    let last = command(&run, "context").await.unwrap();

    assert!(matches!(
        run.invoke("Nothing", &json!({})).await,
        Err(LocalError::Unknown(_))
    ));
    until("the log", || async {
        (!run.last_log_lines("WorkFunction").unwrap().is_empty()).then_some(())
    })
    .await;
    run.shutdown().await;
    assert!(!is_alive(&last["process"]), "nothing outlives the run");

    let mut failed = 0;
    while let Ok(event) = events.try_recv() {
        failed += usize::from(matches!(event, LocalEvent::InvocationFailed { .. }));
    }
    assert_eq!(failed, 5);
}

#[tokio::test]
async fn dropping_the_run_ends_the_processes() {
    let folder = Folder::new();
    let run = LocalRun::start(options(&folder)).await.unwrap();
    let process = command(&run, "context").await.unwrap()["process"].clone();
    assert!(is_alive(&process));
    drop(run);
    until("the end of the process", || async {
        (!is_alive(&process)).then_some(())
    })
    .await;
    assert_eq!(RunFile::read(&folder.0).unwrap(), None);
}

#[tokio::test]
async fn failed_messages_come_again_and_end_in_the_dead_letter_queue() {
    let folder = Folder::new();
    let run = LocalRun::start(options(&folder)).await.unwrap();
    let url = run.run_file().queues["WorkQueue"].clone();
    for body in ["fine", "fail once", "poison", "fine"] {
        run.aws().sqs.send(&url, body, Map::new()).await.unwrap();
    }
    let settled = until("one dead letter, nothing left", || async {
        let depths = run.queue_depths().await.unwrap();
        let empty = depths["WorkQueue"].visible + depths["WorkQueue"].in_flight == 0;
        (empty && depths["WorkDeadLetterQueue"].visible > 0).then_some(depths)
    })
    .await;
    assert_eq!(settled["WorkDeadLetterQueue"].visible, 1);
    let dead = run
        .aws()
        .sqs
        .receive(&run.run_file().queues["WorkDeadLetterQueue"], 10, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(dead[0]["Body"], "poison");
    run.shutdown().await;
}

#[tokio::test]
async fn a_failed_scheduled_call_goes_where_the_template_says() {
    let folder = Folder::new();
    let mut options = options(&folder);
    options.connections[0]
        .parameters
        .insert("Input".to_owned(), r#"{"command":"error"}"#.to_owned());
    let run = LocalRun::start(options).await.unwrap();
    let mut events = run.events();
    run.run_schedule_now("a", "Tick").await.unwrap();
    let abandoned = loop {
        if let LocalEvent::ScheduledCallAbandoned { attempts, queue, .. } = events.recv().await.unwrap() {
            break (attempts, queue);
        }
    };
    let queue = "arn:aws:sqs:us-east-1:000000000000:small-failed-calls".to_owned();
    assert_eq!(abandoned, (1, Some(queue)));
    let record = run
        .aws()
        .sqs
        .receive(&run.run_file().queues["FailedCallsQueue"], 1, Duration::ZERO)
        .await
        .unwrap();
    let record: Value = serde_json::from_str(record[0]["Body"].as_str().unwrap()).unwrap();
    assert_eq!(record["requestPayload"], json!({"command": "error"}));
    assert!(
        record["responsePayload"]["errorMessage"]
            .as_str()
            .unwrap()
            .contains("asked to fail")
    );
    assert!(matches!(
        run.run_schedule_now("a", "Nothing").await,
        Err(LocalError::Unknown(_))
    ));
    run.shutdown().await;
}

#[tokio::test]
async fn schedules_tick_pause_and_switch() {
    let folder = Folder::new();
    let mut options = options(&folder);
    options.connections[0].schedule_overrides =
        BTreeMap::from([("Tick".to_owned(), "every 1 second".to_owned())]);
    let run = LocalRun::start(options).await.unwrap();
    let mut events = run.events();
    let ticked = |event: &LocalEvent| matches!(event, LocalEvent::InvocationFinished { .. });
    while !ticked(&events.recv().await.unwrap()) {}
    run.switch_schedule("a", "Tick", false).unwrap();
    run.switch_schedule("a", "tick", true).unwrap();
    while !ticked(&events.recv().await.unwrap()) {}
    run.pause_schedules();
    run.resume_schedules();
    while !ticked(&events.recv().await.unwrap()) {}
    run.shutdown().await;
}

async fn post(url: &str, content_type: &str, body: impl Into<Bytes>) -> (u16, Value) {
    let uri: http::Uri = url.parse().unwrap();
    let stream = tokio::net::TcpStream::connect(uri.authority().unwrap().as_str())
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(uri.path())
        .header("host", uri.authority().unwrap().as_str())
        .header("content-type", content_type)
        .header("X-Mixed-Case", "Kept")
        .body(Full::new(body.into()))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn the_gateway_turns_requests_into_events_and_answers_into_responses() {
    let folder = Folder::new();
    let run = LocalRun::start(options(&folder)).await.unwrap();
    let url = run.webhook_url("a").unwrap();
    let (status, event) = post(&url, "application/json", "{\"id\": 1}").await;
    assert_eq!((status, event["body"].as_str()), (202, Some("{\"id\": 1}")));
    assert_eq!(event["headers"]["x-mixed-case"], "Kept");
    assert_eq!(event["pathParameters"], json!({"connection": "a"}));
    assert_eq!(event["routeKey"], "POST /webhooks/coupa/{connection}");

    let (_, event) = post(&url, "application/octet-stream", vec![0xff, 0x00]).await;
    assert_eq!(
        (&event["isBase64Encoded"], &event["body"]),
        (&json!(true), &json!("/wA="))
    );

    let base = run.gateway_url();
    let (status, message) = post(&format!("{base}/webhooks/coupa/failing"), "text/plain", "x").await;
    assert_eq!(
        (status, message),
        (500, json!({"message": "Internal Server Error"}))
    );
    assert_eq!(post(&format!("{base}/elsewhere"), "text/plain", "x").await.0, 404);
    assert_eq!(
        post(&url, "text/plain", vec![b'x'; 10 * 1024 * 1024 + 1]).await.0,
        413
    );
    assert!(run.webhook_url("nobody").is_err());
    run.shutdown().await;
}

#[tokio::test]
async fn the_run_file_tells_others_where_everything_is() {
    let folder = Folder::new();
    let run = LocalRun::start(options(&folder)).await.unwrap();
    let found = RunFile::read(&folder.0).unwrap().unwrap();
    assert_eq!(&found, run.run_file());
    assert_eq!(found.tables["RegisterTable"], "small-RegisterTable");
    assert_eq!(found.webhook_urls["a"], run.webhook_url("a").unwrap());
    assert!(found.logs["WorkFunction"].ends_with("logs/echo_function.log"));
    run.shutdown().await;
    assert_eq!(RunFile::read(&folder.0).unwrap(), None);
}

#[tokio::test]
async fn a_start_that_cannot_succeed_says_why() {
    let folder = Folder::new();
    let mut missing = options(&folder);
    missing.binaries_dir = folder.0.clone();
    let error = LocalRun::start(missing).await.unwrap_err();
    assert!(
        matches!(error, LocalError::Binary(_)) && error.to_string().contains("cargo build"),
        "{error}"
    );

    let mut unknown = options(&folder);
    unknown.connections[0]
        .schedule_overrides
        .insert("Tock".to_owned(), "off".to_owned());
    let error = LocalRun::start(unknown).await.unwrap_err().to_string();
    assert!(error.contains("Tick") && error.contains("Tock"), "{error}");

    let (taken, port) = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    };
    let mut blocked = options(&folder);
    blocked.ports.gateway = port;
    assert!(matches!(
        LocalRun::start(blocked).await,
        Err(LocalError::Listen(_))
    ));
    drop(taken);
}
