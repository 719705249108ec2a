//! A line to DynamoDB that counts: each request by its operation, and what DynamoDB says it consumed. What goes to the table of
//! tokens and paces is counted apart: how often a pace is asked for depends on when the answers come.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const READS: [&str; 3] = ["GetItem", "BatchGetItem", "Query"];

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Used {
    /// Requests by operation.
    pub(crate) calls: BTreeMap<String, u64>,
    /// Read units.
    pub(crate) read: f64,
    /// Write units, without those of a global index (the local database does not count them).
    pub(crate) written: f64,
    /// Requests to the table of tokens and paces.
    pub(crate) paced: u64,
    /// Successful answers that did not say what they consumed.
    unmeasured: Vec<String>,
}

impl Used {
    /// Requests in all.
    pub(crate) fn requests(&self) -> u64 {
        self.calls.values().sum()
    }

    /// A request that failed says nothing of what it consumed.
    fn add(&mut self, operation: &str, succeeded: bool, answer: &Value) {
        *self.calls.entry(operation.to_owned()).or_default() += 1;
        if !succeeded {
            return;
        }
        let consumed = match &answer["ConsumedCapacity"] {
            Value::Array(tables) => tables.iter().map(units).sum(),
            one => units(one),
        };
        let Some(consumed) = consumed else {
            self.unmeasured.push(operation.to_owned());
            return;
        };
        if READS.contains(&operation) {
            self.read += consumed;
        } else {
            self.written += consumed;
        }
    }
}

fn units(consumed: &Value) -> Option<f64> {
    consumed["CapacityUnits"].as_f64()
}

/// The line.
pub(crate) struct Meter {
    /// Where it begins.
    pub(crate) url: String,
    used: Arc<Mutex<Used>>,
    task: JoinHandle<()>,
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Meter {
    /// A line to `http://<host>:<port>`.
    pub(crate) async fn to(url: &str) -> Self {
        let upstream = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let used: Arc<Mutex<Used>> = Arc::default();
        let counts = Arc::clone(&used);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (counts, upstream) = (Arc::clone(&counts), upstream.clone());
                // An error is a peer that is gone.
                tokio::spawn(async move { drop(converse(stream, &upstream, &counts).await) });
            }
        });
        Self { url, used, task }
    }

    /// What was counted since it was last asked; all of it, or there is no figure.
    pub(crate) fn take(&self) -> Used {
        let used = std::mem::take(&mut *self.used.lock().unwrap());
        assert!(
            used.unmeasured.is_empty(),
            "succeeded, and did not say what it consumed: {:?}",
            used.unmeasured
        );
        used
    }
}

/// One connection, request after request.
async fn converse(mut client: TcpStream, upstream: &str, used: &Mutex<Used>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    // Each message leaves at once and as a whole: otherwise a line of ours would wait for an acknowledgement, twice 40 ms.
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    loop {
        let (head, body) = message(&mut client).await?;
        let target = field(&head, "x-amz-target");
        let operation = target.rsplit('.').next().unwrap_or_default();
        let mut asked: Map<String, Value> = serde_json::from_slice(&body)?;
        let table = asked.get("TableName").cloned().unwrap_or_default();
        asked.insert("ReturnConsumedCapacity".to_owned(), "TOTAL".into());
        let asked = serde_json::to_vec(&asked)?;
        // Signed or not: the local database asks nobody who he is.
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: {target}\r\n\
             content-type: application/x-amz-json-1.0\r\nauthorization: {}\r\nx-amz-date: {}\r\ncontent-length: {}\r\n\r\n",
            field(&head, "authorization"),
            field(&head, "x-amz-date"),
            asked.len()
        );
        server.write_all(&[request.as_bytes(), &asked].concat()).await?;
        let (head, body) = message(&mut server).await?;
        let answer = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if table.as_str().is_some_and(|table| table.ends_with("-tokens")) {
            used.lock().unwrap().paced += 1;
        } else {
            let succeeded = head.starts_with("HTTP/1.1 200");
            used.lock().unwrap().add(operation, succeeded, &answer);
        }
        client.write_all(&[head.as_bytes(), &body].concat()).await?;
    }
}

/// Head with its empty line, and body.
pub(crate) async fn message(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut body = vec![0; field(&head, "content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok((head, body))
}

pub(crate) fn field(head: &str, name: &str) -> String {
    let line = head.split("\r\n").find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    });
    line.unwrap_or_default()
}
