//! Time, CPU and memory of the programs as they are deployed, under a Runtime API, with peers beside them that do the same work
//! on the same stubs. Timed and never asserted: another machine, or another load on it, has other figures.
//!
//! `tests/bench/prepare`, a release build of the functions, then
//! `cargo test --workspace --test counts timed -- --ignored --nocapture --test-threads 1`

#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "what measures time owns its clock, and ends where something is wrong with it"
)]

use crate::meter::{field, message};
use crate::rig::Rig;
use crate::sample;
use crate::{billed_lines, id, invoices, many_lines, play, received_lines, received_on};
use aws::clock::SystemClock;
use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use flows::ports::{Clock, HintReason};
use sandbox::world::World;
use secrecy::SecretString;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::small::{invoice, order, world};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc};

/// Starts of each program that are measured.
const STARTS: usize = 15;
/// Calls of a warm webhook.
const CALLS: usize = 300;
/// Calls of a warm matcher, each with one invoice.
const INVOICES: u64 = 40;
/// Until the pace of both systems is whole again.
const BETWEEN_INVOICES: Duration = Duration::from_secs(1);
/// Calls that a warm program may take to get warm.
const WARM_UP_CALLS: usize = 20;
/// Longest that a call may take; a function in AWS has no more.
const CALL_SECONDS_MAX: u64 = 180;
const WEBHOOKS: &str = "counts/webhook/";

/// Below the workspace's target folder.
fn target(path: &str) -> PathBuf {
    // <target>/debug/deps/<this>
    let this = std::env::current_exe().unwrap();
    this.ancestors().nth(3).unwrap().join(path)
}

/// A program that serves events; nothing when it is not there.
fn program(name: &'static str, words: &[&str]) -> Option<(&'static str, Vec<PathBuf>)> {
    let words: Vec<PathBuf> = words
        .iter()
        .map(|word| match word.contains('/') {
            true => target(word),
            false => PathBuf::from(word),
        })
        .collect();
    let is_there = words
        .iter()
        .all(|word| word.components().count() == 1 || word.exists());
    if !is_there {
        println!("LEFT OUT: {name}: {words:?} is not there");
    }
    is_there.then_some((name, words))
}

/// A process under a Runtime API of its own.
struct Function {
    child: Child,
    started: Duration,
    started_cpu: Duration,
    events: mpsc::Sender<String>,
    answers: mpsc::Receiver<(Instant, String)>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Function {
    fn drop(&mut self) {
        self.server.abort();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the Runtime API passes on.
struct Api {
    ready: mpsc::Sender<Instant>,
    events: Mutex<mpsc::Receiver<String>>,
    answers: mpsc::Sender<(Instant, String)>,
}

impl Api {
    async fn converse(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let (head, body) = message(&mut stream).await?;
            if head.starts_with("GET") {
                let _ = self.ready.send(Instant::now()).await;
                let Some(event) = self.events.lock().await.recv().await else {
                    return Ok(());
                };
                let deadline = SystemClock.now().plus_millis(180_000).0;
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nlambda-runtime-aws-request-id: {}\r\n\
                     lambda-runtime-deadline-ms: {deadline}\r\nlambda-runtime-invoked-function-arn: arn:aws:lambda:local\r\n\
                     lambda-runtime-trace-id: Root=1-0-0\r\ncontent-length: {}\r\n\r\n",
                    domain::ids::fold(&format!("call-{deadline}")),
                    event.len()
                );
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(event.as_bytes()).await?;
            } else {
                assert!(
                    !field(&head, "content-length").is_empty() && !head.contains("/error"),
                    "{head} {}",
                    String::from_utf8_lossy(&body)
                );
                let answer = String::from_utf8_lossy(&body).into_owned();
                let _ = self.answers.send((Instant::now(), answer)).await;
                stream
                    .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                    .await?;
            }
        }
    }
}

impl Function {
    async fn start(words: &[PathBuf], environment: &BTreeMap<&'static str, String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (ready, mut is_ready) = mpsc::channel(64);
        let (events, to_come) = mpsc::channel(1);
        let (answered, answers) = mpsc::channel(1);
        let api = Arc::new(Api {
            ready,
            events: Mutex::new(to_come),
            answers: answered,
        });
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = Arc::clone(&api);
                // A process that has ended.
                tokio::spawn(async move { drop(api.converse(stream).await) });
            }
        });
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(environment)
            .env("AWS_LAMBDA_RUNTIME_API", address)
            // What a peer says of itself belongs to no row.
            .env("NODE_NO_WARNINGS", "1")
            .env("AWS_LAMBDA_FUNCTION_NAME", "timed")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "timed")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "timed")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let begun = Instant::now();
        let child = command.spawn().unwrap();
        let came = tokio::time::timeout(Duration::from_secs(60), is_ready.recv()).await;
        let came = came.expect("it does not ask for an event").unwrap();
        let started_cpu = cpu(child.id());
        Self {
            started: came - begun,
            started_cpu,
            child,
            events,
            answers,
            server,
        }
    }

    /// One event; how long until its answer was there, and the answer.
    async fn call(&mut self, event: &str) -> (Duration, String) {
        let begun = Instant::now();
        self.events.send(event.to_owned()).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(CALL_SECONDS_MAX), self.answers.recv()).await;
        let (ended, answer) = answer.expect("it does not answer").unwrap();
        (ended - begun, answer)
    }

    fn cpu(&self) -> Duration {
        cpu(self.child.id())
    }

    /// The most memory it has held, in megabytes.
    fn peak_megabytes(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kilobytes / 1024.0
    }
}

/// What the threads of a process have been running for.
fn cpu(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Median and least, in milliseconds.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let middle = times[times.len() / 2];
    format!("{:.2} (min {:.2})", millis(middle), millis(times[0]))
}

/// Starts each program so often, one after the other in turns, so that a noisy minute is noisy for all of them.
async fn starts(programs: &[(&'static str, Vec<PathBuf>)], environment: &BTreeMap<&'static str, String>) {
    let mut times = vec![(Vec::new(), Vec::new()); programs.len()];
    for _ in 0..STARTS {
        for ((_, words), (wall, cpu)) in programs.iter().zip(&mut times) {
            let function = Function::start(words, environment).await;
            wall.push(function.started);
            cpu.push(function.started_cpu);
        }
    }
    for ((name, _), (wall, cpu)) in programs.iter().zip(times) {
        println!(
            "| exec to the first /next | {name} | wall {} ms | CPU {} ms |",
            spread(wall),
            spread(cpu)
        );
    }
}

/// Calls of one program with one event, once it is warm.
async fn warm_calls(name: &str, what: &str, function: &mut Function, event: &str) {
    for _ in 0..WARM_UP_CALLS {
        let (_, answer) = function.call(event).await;
        assert!(answer.contains("202"), "{name}: {answer}");
    }
    let before = function.cpu();
    let mut wall = Vec::new();
    for _ in 0..CALLS {
        let (time, answer) = function.call(event).await;
        // Its time is taken already.
        assert!(answer.contains("202"), "{name}: {answer}");
        wall.push(time);
    }
    let each = (function.cpu() - before) / u32::try_from(CALLS).unwrap();
    println!(
        "| {what} | {name} | wall {} ms | CPU {:.3} ms a call | peak {:.1} MB |",
        spread(wall),
        millis(each),
        function.peak_megabytes()
    );
}

#[test]
#[ignore = "measures the release binaries"]
fn timed_webhook() {
    play(async || {
        let rig = Rig::over(invoices(1, |_| true)).await;
        let document = json!({"scheme": "coupa-hmac", "secrets": [sample::SECRET]}).to_string();
        rig.aws
            .secrets
            .create(&format!("{WEBHOOKS}example"), &SecretString::from(document))
            .await
            .unwrap();
        let mut environment = rig.environment.clone();
        environment.insert("WEBHOOK_SECRET_PREFIX", WEBHOOKS.to_owned());
        environment.insert("AWS_DEFAULT_REGION", environment["AWS_REGION"].clone());
        let programs: Vec<_> = [
            program("receive-webhook", &["release/receive-webhook"]),
            program("Python, boto3", &["bench/python/bin/python", "bench/webhook.py"]),
            program("Node, SDK v3, bundled", &["node", "bench/webhook.bundle.mjs"]),
        ]
        .into_iter()
        .flatten()
        .collect();
        starts(&programs, &environment).await;
        for (what, bytes) in [("warm webhook, 10 KB", 9_800), ("warm webhook, 200 KB", 200_000)] {
            let event = sample::gateway_event(&sample::body(bytes));
            for (name, words) in &programs {
                let mut function = Function::start(words, &environment).await;
                warm_calls(name, what, &mut function, &event).await;
            }
        }
    });
}

fn batch(number: u64) -> String {
    let mut message = SqsMessage::default();
    message.message_id = Some("1".to_owned());
    let hint = Rig::about(id(number), HintReason::Webhook);
    message.body = Some(serde_json::to_string(&hint).unwrap());
    let mut event = SqsEvent::default();
    event.records.push(message);
    serde_json::to_string(&event).unwrap()
}

/// A world for a program of its own, and a function in it. Its clock is the machine's.
async fn matcher(words: &[PathBuf], world: World) -> (Rig, Function) {
    let rig = Rig::on_the_machines_clock(world).await;
    let mut environment = rig.environment.clone();
    environment.insert("AWS_DEFAULT_REGION", environment["AWS_REGION"].clone());
    environment.insert("COUPA_URL", rig.simulators.coupa_url.clone());
    environment.insert("QAD_URL", rig.simulators.qad_url.clone());
    let function = Function::start(words, &environment).await;
    (rig, function)
}

/// Whether QAD has the invoice; whoever was only fast has done nothing.
fn posted(rig: &Rig) -> usize {
    rig.simulators.world.lock().unwrap().qad.invoices.len()
}

async fn one_line(name: &str, words: &[PathBuf]) {
    let (rig, mut function) = matcher(words, invoices(INVOICES + 1, |_| true)).await;
    let (first, answer) = function.call(&batch(0)).await;
    assert_eq!(posted(&rig), 1, "{name} has posted nothing: {answer}");
    rig.spent();
    let before = function.cpu();
    let mut wall = Vec::new();
    for number in 1..=INVOICES {
        // What is timed is what an invoice takes, and not how long the ones before keep it waiting for the pace.
        tokio::time::sleep(BETWEEN_INVOICES).await;
        let (time, answer) = function.call(&batch(number)).await;
        assert!(
            answer.contains("\"batchItemFailures\":[]") || answer.contains("\"batchItemFailures\": []"),
            "{name}: {answer}"
        );
        wall.push(time);
    }
    let each = (function.cpu() - before) / u32::try_from(INVOICES).unwrap();
    let spent = rig.spent();
    println!(
        "| an invoice of one line | {name} | wall {} ms, first {:.1} | CPU {:.2} ms | peak {:.1} MB | {:.2} requests, {:.1} to DynamoDB \
         and {:.1} for pace and tokens | {} of {} posted |",
        spread(wall),
        millis(first),
        millis(each),
        function.peak_megabytes(),
        spent.calls() as f64 / INVOICES as f64,
        spent.dynamo.requests() as f64 / INVOICES as f64,
        spent.dynamo.paced as f64 / INVOICES as f64,
        posted(&rig),
        INVOICES + 1
    );
}

#[test]
#[ignore = "measures the release binaries"]
fn timed_match() {
    play(async || {
        let ours = program("match-invoice", &["release/match-invoice"]);
        let peer = program("Python, boto3", &["bench/python/bin/python", "bench/match.py"]);
        for (name, words) in ours.clone().into_iter().chain(peer) {
            one_line(name, &words).await;
        }
        for lines in [100, 500] {
            let Some((name, words)) = &ours else { continue };
            let long = world(
                vec![order("PO0", 10), many_lines(lines)],
                std::iter::once(received_on(0))
                    .chain(received_lines(lines))
                    .collect(),
                vec![invoice(id(0), "PO0", 10), billed_lines(lines)],
            );
            let (rig, mut function) = matcher(words, long).await;
            let before = function.cpu();
            let (wall, _) = function.call(&batch(1)).await;
            println!(
                "| an invoice of {lines} lines | {name} | wall {:.1} ms | CPU {:.1} ms | peak {:.1} MB | {} of 1 posted |",
                millis(wall),
                millis(function.cpu() - before),
                function.peak_megabytes(),
                posted(&rig)
            );
        }
    });
}

/// Sizes of the archives that are deployed, when they are there.
#[test]
#[ignore = "measures the release binaries"]
fn timed_sizes() {
    let build = target("release");
    for name in ["receive-webhook", "match-invoice", "poll-receipts"] {
        let path: &Path = &build.join(name);
        match std::fs::metadata(path) {
            Ok(file) => println!("| binary of {name} | {:.2} MB |", file.len() as f64 / 1e6),
            Err(_) => println!("LEFT OUT: {name} is not built"),
        }
    }
}
