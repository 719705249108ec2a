//! A function for the tests of the local run: does what its event says, good or bad.

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    #[expect(clippy::print_stdout, reason = "the log of a function is what it prints")]
    {
        println!("started");
    }
    lambda_runtime::run(service_fn(answer)).await
}

async fn answer(event: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = event.into_parts();
    if let Some(records) = event.get("Records").and_then(Value::as_array) {
        return Ok(batch(records));
    }
    let Some(command) = event.get("command").and_then(Value::as_str) else {
        return web(&event);
    };
    match command {
        "environment" => Ok(json!(environment())),
        "context" => Ok(json!({
            "arn": context.invoked_function_arn,
            "deadline": context.deadline,
            "process": std::process::id(),
        })),
        "error" => Err(Error::from("asked to fail")),
        "panic" => panic_now(),
        "exit" => std::process::exit(3),
        "hang" => std::future::pending().await,
        "large" => Ok(json!("x".repeat(7 * 1024 * 1024))),
        _ => Ok(event),
    }
}

/// Fails the messages whose body says so.
fn batch(records: &[Value]) -> Value {
    let failed = records.iter().filter(|record| {
        let count = record
            .pointer("/attributes/ApproximateReceiveCount")
            .and_then(Value::as_str);
        match record.get("body").and_then(Value::as_str) {
            Some("poison") => true,
            Some("fail once") => count == Some("1"),
            _ => false,
        }
    });
    let failed: Vec<Value> = failed
        .map(|record| json!({"itemIdentifier": record.get("messageId")}))
        .collect();
    json!({ "batchItemFailures": failed })
}

/// Answers an HTTP request with its own event; the path parameter may ask for a failure.
fn web(event: &Value) -> Result<Value, Error> {
    match event
        .pointer("/pathParameters/connection")
        .and_then(Value::as_str)
    {
        Some("failing") => Err(Error::from("asked to fail")),
        _ => Ok(json!({"statusCode": 202, "headers": {"x-answer": "yes"}, "body": event.to_string()})),
    }
}

#[expect(clippy::disallowed_methods, reason = "tells the test what it was given")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars().collect()
}

#[expect(clippy::panic, reason = "what the test asks for")]
fn panic_now() -> Result<Value, Error> {
    panic!("asked to panic")
}
