//! A line between the connectors and a simulator: it passes requests on, byte for byte, and does to them what lines do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tests::gate::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the line does to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Resets when the head of the request is there.
    ResetInRequest,
    /// Closes when the request is there, and passes nothing on.
    CloseBefore,
    /// Resets when the request is there, and passes nothing on.
    ResetBefore,
    /// Passes the request on, and closes instead of answering.
    CloseAfter,
    /// Passes the request on, and resets instead of answering.
    ResetAfter,
    /// Passes the request on, and closes in the middle of the answer's head.
    HalfHead,
    /// Passes the request on, and closes in the middle of the answer's body.
    HalfBody,
    /// Passes the request on, and never answers.
    Silence,
    /// Passes the request on, and answers a byte now and then, for ever.
    Drip,
    /// Passes the request on, and a gateway answers for it: 502 with a page.
    GatewayAfter,
    /// A gateway answers 503 with a page, and passes nothing on.
    GatewayBefore,
    /// Passes the request on, and answers what is no HTTP.
    Garbage,
    /// Answers, and closes the connection that it had promised to keep.
    DiesAfterAnswer,
}

impl Trouble {
    /// All of them.
    pub(crate) const ALL: [Self; 13] = [
        Self::ResetInRequest,
        Self::CloseBefore,
        Self::ResetBefore,
        Self::CloseAfter,
        Self::ResetAfter,
        Self::HalfHead,
        Self::HalfBody,
        Self::Silence,
        Self::Drip,
        Self::GatewayAfter,
        Self::GatewayBefore,
        Self::Garbage,
        Self::DiesAfterAnswer,
    ];

    /// What a write must be called, and how often it is handled.
    pub(crate) fn on_a_write(self) -> (&'static str, usize) {
        match self {
            Self::ResetInRequest | Self::CloseBefore | Self::ResetBefore | Self::GatewayBefore => {
                ("unknown", 0)
            }
            Self::DiesAfterAnswer => ("done", 1),
            _ => ("unknown", 1),
        }
    }

    fn passes_on(self) -> bool {
        self.on_a_write().1 == 1
    }
}

#[derive(Default)]
struct State {
    next: VecDeque<Trouble>,
    chance: Option<(Rng, u64)>,
}

/// The line to one simulator.
pub(crate) struct Line {
    /// Where it begins.
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    arrived: Arc<AtomicU64>,
    troubles: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// A line to `http://<host>:<port>/<path>`.
    pub(crate) async fn to(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap();
        let (address, path) = rest
            .split_once('/')
            .map_or((rest, ""), |(address, path)| (address, path));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let begins = listener.local_addr().unwrap();
        let slash = if path.is_empty() { "" } else { "/" };
        let state: Arc<Mutex<State>> = Arc::default();
        let (arrived, troubles): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let shared = Shared {
            upstream: address.to_owned(),
            state: Arc::clone(&state),
            arrived: Arc::clone(&arrived),
            troubles: Arc::clone(&troubles),
        };
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                // An error is a peer that is gone, which is what this is about.
                tokio::spawn(async move { drop(shared.converse(stream).await) });
            }
        });
        Self {
            url: format!("http://{begins}{slash}{path}"),
            state,
            arrived,
            troubles,
            task,
        }
    }

    /// What happens to the next request.
    pub(crate) fn next(&self, trouble: Trouble) {
        self.state.lock().unwrap().next.push_back(trouble);
    }

    /// Something happens to every second of the next so many requests.
    pub(crate) fn by_chance(&self, seed: u64, requests: u64) {
        self.state.lock().unwrap().chance = Some((Rng::new(seed), requests));
    }

    /// Requests of which anything arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::SeqCst)
    }

    /// Requests to which something happened.
    pub(crate) fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::SeqCst)
    }
}

#[derive(Clone)]
struct Shared {
    upstream: String,
    state: Arc<Mutex<State>>,
    arrived: Arc<AtomicU64>,
    troubles: Arc<AtomicU64>,
}

impl Shared {
    fn draw(&self) -> Option<Trouble> {
        let mut state = self.state.lock().unwrap();
        if let Some(trouble) = state.next.pop_front() {
            return Some(trouble);
        }
        let (rng, left) = state.chance.as_mut()?;
        if *left == 0 {
            return None;
        }
        *left -= 1;
        let place = rng.below(2 * Trouble::ALL.len() as u64) as usize;
        Trouble::ALL.get(place).copied()
    }

    /// One connection, request after request.
    async fn converse(&self, mut client: TcpStream) -> std::io::Result<()> {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let byte = client.read_u8().await?;
                if head.is_empty() {
                    self.arrived.fetch_add(1, Ordering::SeqCst);
                }
                head.push(byte);
            }
            let trouble = self.draw();
            if trouble.is_some() {
                self.troubles.fetch_add(1, Ordering::SeqCst);
            }
            if trouble == Some(Trouble::ResetInRequest) {
                return reset(client);
            }
            let mut body = vec![0; content_length(&head)];
            client.read_exact(&mut body).await?;
            let answer = match trouble {
                Some(trouble) if !trouble.passes_on() => Vec::new(),
                _ => self.pass_on(&head, &body).await?,
            };
            match trouble {
                None => client.write_all(&answer).await?,
                Some(trouble) => return spoil(client, trouble, &answer).await,
            }
        }
    }

    /// The answer of the simulator, as if its connection were kept.
    async fn pass_on(&self, head: &[u8], body: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut upstream = TcpStream::connect(&self.upstream).await?;
        let mut request = head[..head.len() - 2].to_vec();
        request.extend_from_slice(b"connection: close\r\n\r\n");
        request.extend_from_slice(body);
        upstream.write_all(&request).await?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).await?;
        let (head, body) = split(&answer);
        let kept: Vec<&str> = head
            .split("\r\n")
            .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
            .collect();
        let mut answer = kept.join("\r\n").into_bytes();
        answer.extend_from_slice(b"\r\n\r\n");
        answer.extend_from_slice(body);
        Ok(answer)
    }
}

/// Head without its empty line, and body.
fn split(answer: &[u8]) -> (&str, &[u8]) {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap_or(answer.len());
    let body = answer.get(end + 4..).unwrap_or_default();
    (std::str::from_utf8(&answer[..end]).unwrap_or_default(), body)
}

fn content_length(head: &[u8]) -> usize {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    text.split("\r\n")
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// Closes with a reset instead of a goodbye.
fn reset(stream: TcpStream) -> std::io::Result<()> {
    // What has not been read makes the kernel answer with a reset; lingering for no time does it in any case.
    stream.set_zero_linger()
}

async fn spoil(mut client: TcpStream, trouble: Trouble, answer: &[u8]) -> std::io::Result<()> {
    let (head, body) = split(answer);
    match trouble {
        Trouble::ResetInRequest | Trouble::ResetBefore | Trouble::ResetAfter => return reset(client),
        Trouble::CloseBefore | Trouble::CloseAfter => {}
        Trouble::HalfHead => client.write_all(&answer[..head.len() / 2]).await?,
        Trouble::HalfBody => {
            let half = answer.len() - body.len().div_ceil(2).max(1);
            client.write_all(&answer[..half]).await?;
        }
        Trouble::Silence => {
            // Until the caller has had enough.
            let _ = client.read_u8().await;
        }
        Trouble::Drip => {
            let half = answer.len() - body.len();
            client.write_all(&answer[..half]).await?;
            for byte in body.iter().chain(std::iter::repeat(&b' ')) {
                client.write_u8(*byte).await?;
                client.flush().await?;
                // The caller's going away ends it; until then a byte comes whenever the clock ticks.
                let gone = tokio::time::timeout(std::time::Duration::from_millis(40), client.read_u8()).await;
                if gone.is_ok() {
                    return Ok(());
                }
            }
        }
        Trouble::GatewayAfter => client.write_all(&page("502 Bad Gateway")).await?,
        Trouble::GatewayBefore => client.write_all(&page("503 Service Unavailable")).await?,
        Trouble::Garbage => client.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n").await?,
        Trouble::DiesAfterAnswer => client.write_all(answer).await?,
    }
    client.shutdown().await
}

fn page(status: &str) -> Vec<u8> {
    let page = "<html><body>The gateway gave up</body></html>";
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{page}",
        page.len()
    )
    .into_bytes()
}
