//! One HTTP exchange, and what it proves when it fails. The only way out of the product to Coupa and QAD.
//!
//! HTTP libraries re-send on a dropped keep-alive connection by themselves. Here nothing does: the library's own
//! retries are off, and a write always gets a connection of its own (`once`).
//!
//! Where a request may go, and by which way, is part of it ([`Destination`]); the environment has no say: no proxy of its
//! own, no redirect, no second look-up of a name. Answers are taken as they are or not at all: nothing is decompressed.

use super::once;
use super::outbound::{self, CheckedResolver, Destination, Forbidden, Lookup, SystemLookup};
use super::route;
use async_trait::async_trait;
use reqwest::header::{ACCEPT_ENCODING, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use zeroize::Zeroize;

/// Largest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest header block that is accepted, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Most headers that are accepted.
pub const HEADERS_MAX: usize = 100;
/// Longest wait for a connection with its TLS handshake, in seconds. Failing here proves that nothing was sent.
pub const CONNECT_SECONDS_MAX: u64 = 10;
/// Most destinations whose connections are kept; more than this still work, the others connect anew.
pub const DESTINATIONS_MAX: usize = 400;
/// An idle connection is given up after this many seconds: those that slept through a frozen Lambda are dead.
pub const POOL_IDLE_SECONDS: u64 = 4;
/// Idle connections that are kept per host.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// The methods we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, and all of QAD's writes.
    Post,
    /// Updates.
    Put,
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }
}

/// One request. Cannot be printed beyond its method: address, headers and body may hold what no log may. Wiped when it
/// is dropped.
#[derive(Clone)]
pub struct Request {
    /// The only place it may go to.
    pub destination: Destination,
    /// Method.
    pub method: Method,
    /// Absolute URL with its query.
    pub url: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Option<Vec<u8>>,
    /// Longest the whole exchange may take, from the first byte of the connection to the last of the body.
    pub timeout: Duration,
    /// True for everything that changes something on the other side: it gets a connection of its own.
    pub write: bool,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.url.zeroize();
        for (_, value) in &mut self.headers {
            value.zeroize();
        }
        self.body.zeroize();
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// A complete answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers, names in lower case, as often as they came.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header that came exactly once; `None` when it is absent, repeated or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// An exchange that brought no complete answer, and what that proves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Not one byte of the request left: name not found, connection refused, TLS failed, no connection in time.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// Not one byte left either, and none will: the address is not one that the connection allows.
    #[error("nothing was sent: {0}")]
    Forbidden(Forbidden),
    /// The request may have arrived and may have been acted on: timeout, reset, an answer cut short or too large.
    #[error("no complete answer: {0}")]
    MaybeSent(String),
}

/// One HTTP exchange. Sends at most once, follows nothing, keeps nothing.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends the request once and reads the whole answer, whatever its status.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;
}

/// The real one: reqwest on HTTP/1.1, rustls with ring and Mozilla's roots. Built at the first request.
pub struct HttpTransport {
    lookup: Arc<dyn Lookup>,
    tls: OnceLock<Result<rustls::ClientConfig, String>>,
    /// What reads: each knows one destination.
    clients: Mutex<BTreeMap<Destination, reqwest::Client>>,
}

impl Default for HttpTransport {
    fn default() -> Self {
        Self::with_lookup(Arc::new(SystemLookup))
    }
}

impl HttpTransport {
    /// A transport that does no work until it is used.
    pub fn new() -> Self {
        Self::default()
    }

    /// A transport with a resolver of one's own; what it answers is checked all the same.
    pub fn with_lookup(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            lookup,
            tls: OnceLock::new(),
            clients: Mutex::default(),
        }
    }

    fn resolver(&self, destination: &Destination) -> CheckedResolver {
        CheckedResolver {
            destination: destination.clone(),
            lookup: Arc::clone(&self.lookup),
        }
    }

    fn tls(&self, destination: &Destination) -> Result<rustls::ClientConfig, TransportError> {
        if let Some(own) = &destination.route().tls {
            return Ok(rustls::ClientConfig::clone(own));
        }
        let tls = self.tls.get_or_init(route::ordinary_tls).clone();
        tls.map_err(TransportError::NotSent)
    }

    fn client(&self, destination: &Destination) -> Result<reqwest::Client, TransportError> {
        let mut known = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = known.get(destination) {
            return Ok(client.clone());
        }
        let resolver = Arc::new(self.resolver(destination));
        let client = client(self.tls(destination)?, resolver).map_err(TransportError::NotSent)?;
        if known.len() >= DESTINATIONS_MAX {
            known.clear();
        }
        known.insert(destination.clone(), client.clone());
        Ok(client)
    }

    async fn exchange(&self, mut request: Request) -> Result<Response, TransportError> {
        let url =
            reqwest::Url::parse(&request.url).map_err(|error| TransportError::NotSent(error.to_string()))?;
        request
            .destination
            .check(&url)
            .map_err(TransportError::Forbidden)?;
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let mut built = reqwest::Request::new(method, url);
        // Without this header any encoding would be welcome (RFC 9110 §12.5.3).
        let identity = HeaderValue::from_static("identity");
        built.headers_mut().insert(ACCEPT_ENCODING, identity);
        for (name, value) in &request.headers {
            let unfit = |error: &dyn std::error::Error| TransportError::NotSent(error.to_string());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| unfit(&error))?;
            // Which of them is a credential is a matter of configuration, so none is ever shown by the library.
            let mut value = HeaderValue::from_str(value).map_err(|error| unfit(&error))?;
            value.set_sensitive(true);
            built.headers_mut().append(name, value);
        }
        // A PUT without a body still says that its body is empty; some gateways refuse it otherwise.
        if request.body.is_some() || request.method != Method::Get {
            *built.body_mut() = Some(request.body.take().unwrap_or_default().into());
        }
        if request.write {
            let resolver = self.resolver(&request.destination);
            let tls = self.tls(&request.destination)?;
            return once::send(built, &resolver, tls, request.timeout).await;
        }
        let client = self.client(&request.destination)?;
        whole(client.execute(built).await.map_err(classify)?).await
    }
}

/// Reads all of an answer.
pub(super) async fn whole(mut answer: reqwest::Response) -> Result<Response, TransportError> {
    let status = answer.status().as_u16();
    let headers = headers(&answer)?;
    if let Some(encoding) = foreign_encoding(&headers) {
        // What an error says besides its status is worth little; what a success says is all that counts.
        if answer.status().is_success() {
            return Err(TransportError::MaybeSent(format!(
                "the answer is encoded as {encoding} although that was declined"
            )));
        }
        return Ok(Response {
            status,
            headers,
            body: Vec::new(),
        });
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer
        .chunk()
        .await
        .map_err(|error| TransportError::MaybeSent(reason(&error)))?
    {
        if body.len().saturating_add(chunk.len()) > BODY_BYTES_MAX {
            return Err(TransportError::MaybeSent(format!(
                "the body is larger than {BODY_BYTES_MAX} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// The content encoding of an answer, when it is not the plain one.
fn foreign_encoding(headers: &[(String, String)]) -> Option<String> {
    headers
        .iter()
        .filter(|(name, _)| name == "content-encoding")
        .map(|(_, value)| domain::problem::clean(value.trim()))
        .find(|value| !value.is_empty() && !value.eq_ignore_ascii_case("identity"))
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        within(request.timeout, self.exchange(request)).await
    }
}

/// A deadline around everything, so that an answer that drips byte by byte ends too.
async fn within(
    timeout: Duration,
    exchange: impl Future<Output = Result<Response, TransportError>>,
) -> Result<Response, TransportError> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => Err(TransportError::MaybeSent(format!(
            "no answer within {} ms",
            timeout.as_millis()
        ))),
    }
}

fn headers(answer: &reqwest::Response) -> Result<Vec<(String, String)>, TransportError> {
    let mut bytes = 0usize;
    let mut kept = Vec::new();
    for (name, value) in answer.headers() {
        bytes = bytes
            .saturating_add(name.as_str().len())
            .saturating_add(value.len());
        if bytes > HEADER_BYTES_MAX {
            return Err(TransportError::MaybeSent(format!(
                "headers larger than {HEADER_BYTES_MAX} bytes"
            )));
        }
        kept.push((
            name.as_str().to_owned(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        ));
    }
    Ok(kept)
}

fn classify(error: reqwest::Error) -> TransportError {
    if let Some(forbidden) = outbound::forbidden_in(&error) {
        TransportError::Forbidden(forbidden)
    } else if error.is_connect() || error.is_builder() {
        TransportError::NotSent(reason(&error))
    } else {
        TransportError::MaybeSent(reason(&error))
    }
}

/// What broke off, without the address, whose query is nobody's business.
fn reason(error: &reqwest::Error) -> String {
    let what = if error.is_connect() {
        "no connection"
    } else {
        "the exchange broke off"
    };
    causes(what, std::error::Error::source(error))
}

/// What happened, with the chain of its causes.
pub(super) fn causes(what: &str, mut cause: Option<&dyn std::error::Error>) -> String {
    let mut text = what.to_owned();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    domain::problem::clean(&text)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where HTTP clients are made"
)]
fn client(tls: rustls::ClientConfig, resolver: Arc<CheckedResolver>) -> Result<reqwest::Client, String> {
    let proxy = match resolver.destination.proxy() {
        Some(proxy) => Some(proxy.for_reads()?),
        None => None,
    };
    let client = reqwest::Client::builder()
        .dns_resolver(resolver)
        .tls_backend_preconfigured(tls)
        .http1_only()
        .http1_max_headers(HEADERS_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .no_proxy()
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .pool_idle_timeout(Duration::from_secs(POOL_IDLE_SECONDS))
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    let client = match proxy {
        Some(proxy) => client.proxy(proxy),
        None => client,
    };
    client.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    fn destination(base: &str) -> Destination {
        Destination::of(&base.parse().unwrap(), &[])
    }

    fn request(port: u16, write: bool) -> Request {
        Request {
            destination: destination(&format!("http://127.0.0.1:{port}")),
            method: if write { Method::Post } else { Method::Get },
            url: format!("http://127.0.0.1:{port}/clouderp/api?x=secret"),
            headers: vec![("authorization".to_owned(), "Bearer canary".to_owned())],
            body: write.then(|| b"{}".to_vec()),
            timeout: Duration::from_secs(20),
            write,
        }
    }

    async fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    async fn read_head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        let mut byte = [0u8; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() > 0 {
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn a_refused_connection_proves_that_nothing_was_sent() {
        let (listener, port) = listener().await;
        drop(listener);
        let error = HttpTransport::new().send(request(port, true)).await.unwrap_err();
        assert!(matches!(error, TransportError::NotSent(_)), "{error}");
        assert!(!error.to_string().contains("secret"));
    }

    #[tokio::test]
    async fn tls_that_fails_proves_that_nothing_was_sent() {
        let (listener, port) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut byte = [0u8; 1];
            let _ = stream.read(&mut byte).await;
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        });
        let mut request = request(port, true);
        request.url = request.url.replace("http://", "https://");
        request.destination = destination(&format!("https://127.0.0.1:{port}"));
        let error = HttpTransport::new().send(request).await.unwrap_err();
        assert!(matches!(error, TransportError::NotSent(_)), "{error}");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_closed_after_the_request_proves_nothing_and_is_not_tried_again() {
        let (listener, port) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            drop(stream);
            (head, listener)
        });
        let error = HttpTransport::new().send(request(port, true)).await.unwrap_err();
        assert!(matches!(error, TransportError::MaybeSent(_)), "{error}");
        let (head, listener) = server.await.unwrap();
        assert!(head.starts_with("POST /clouderp/api?x=secret HTTP/1.1\r\n"));
        // A second connection would wait in the backlog by now.
        let again = listener.into_std().unwrap().accept();
        assert_eq!(
            again.unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock,
            "a write must not be sent twice"
        );
    }

    #[tokio::test]
    async fn a_write_never_rides_on_an_old_connection() {
        let (listener, port) = listener().await;
        let server = tokio::spawn(async move {
            let mut connections = Vec::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_head(&mut stream).await;
                let mut body = [0u8; 2];
                stream.read_exact(&mut body).await.unwrap();
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                    .await
                    .unwrap();
                connections.push(stream);
            }
        });
        let transport = HttpTransport::new();
        for _ in 0..3 {
            assert_eq!(transport.send(request(port, true)).await.unwrap().body, b"{}");
        }
        server.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_cut_short_is_not_an_answer() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n",
            "HTTP/1.1 2",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            let (listener, port) = listener().await;
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let error = HttpTransport::new().send(request(port, false)).await.unwrap_err();
            assert!(matches!(error, TransportError::MaybeSent(_)), "{answer}: {error}");
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let (listener, port) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            stream
                .write_all(
                    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
                )
                .await
                .unwrap();
            head
        });
        let response = HttpTransport::new().send(request(port, false)).await.unwrap();
        assert_eq!(response.status, 302);
        assert_eq!(response.header("location"), Some("http://127.0.0.1:1/"));
        let head = server.await.unwrap().to_ascii_lowercase();
        assert!(
            head.contains("accept-encoding: identity\r\n"),
            "nothing may be compressed, or decompressed behind our back"
        );
    }

    /// Answers one request with these bytes.
    async fn once(answer: &'static [u8]) -> u16 {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let _ = stream.write_all(answer).await;
        });
        port
    }

    #[tokio::test]
    async fn a_compressed_answer_is_refused_and_a_compressed_error_is_its_status() {
        let port = once(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}").await;
        let error = HttpTransport::new().send(request(port, false)).await.unwrap_err();
        assert!(matches!(&error, TransportError::MaybeSent(_)), "{error}");
        let port = once(b"HTTP/1.1 429 Slow\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nxx").await;
        let response = HttpTransport::new().send(request(port, false)).await.unwrap();
        assert_eq!((response.status, response.body.len()), (429, 0));
        let port =
            once(b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 2\r\n\r\n{}").await;
        assert_eq!(
            HttpTransport::new()
                .send(request(port, false))
                .await
                .unwrap()
                .body,
            b"{}"
        );
    }

    #[tokio::test]
    async fn too_many_and_too_large_headers_are_no_answer() {
        let many: String = (0..=HEADERS_MAX).map(|n| format!("x-{n}: v\r\n")).collect();
        let large = format!("x-large: {}\r\n", "v".repeat(HEADER_BYTES_MAX));
        for headers in [many, large] {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{headers}\r\n{{}}");
            let port = once(answer.leak().as_bytes()).await;
            let error = HttpTransport::new().send(request(port, false)).await.unwrap_err();
            assert!(matches!(error, TransportError::MaybeSent(_)), "{error}");
        }
    }

    #[tokio::test]
    async fn an_endless_body_is_cut_off() {
        let (listener, port) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let piece = vec![b'x'; 64 * 1024];
            while stream.write_all(&piece).await.is_ok() {}
        });
        let error = HttpTransport::new().send(request(port, false)).await.unwrap_err();
        assert!(error.to_string().contains("larger than"), "{error}");
    }

    /// A resolver that answers as told, one list per question.
    struct Told(Mutex<Vec<Vec<std::net::IpAddr>>>);

    #[async_trait]
    impl Lookup for Told {
        async fn addresses(&self, _: &str) -> std::io::Result<Vec<std::net::IpAddr>> {
            Ok(self.0.lock().unwrap().remove(0))
        }
    }

    fn told(answers: &[&[&str]]) -> HttpTransport {
        let answers = answers
            .iter()
            .map(|list| list.iter().map(|text| text.parse().unwrap()).collect())
            .collect();
        HttpTransport::with_lookup(Arc::new(Told(Mutex::new(answers))))
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_never_connected_to() {
        let (listener, port) = listener().await;
        // Somebody's DNS says that Coupa is this machine; here it could even be reached.
        let mut request = request(port, true);
        request.destination = destination(&format!("https://example.coupahost.com:{port}"));
        request.url = format!("https://example.coupahost.com:{port}/api/invoices");
        for address in ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "fd00:ec2::254"] {
            let error = told(&[&[address]]).send(request.clone()).await.unwrap_err();
            assert!(
                matches!(error, TransportError::Forbidden(_)),
                "{address}: {error}"
            );
            assert!(
                error.to_string().contains("example.coupahost.com leads to"),
                "{error}"
            );
        }
        let accepted = listener.into_std().unwrap().accept();
        assert_eq!(accepted.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn the_checked_address_is_the_one_that_is_used() {
        let port = once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        let mut request = request(port, false);
        request.destination = destination(&format!("http://localhost:{port}"));
        request.url = format!("http://localhost:{port}/api");
        // A second question would find no answer, and panic.
        let transport = told(&[&["127.0.0.1"]]);
        assert_eq!(transport.send(request).await.unwrap().body, b"{}");
    }

    #[tokio::test]
    async fn another_host_than_the_connections_is_refused_before_it_is_looked_up() {
        let (listener, port) = listener().await;
        let mut request = request(port, true);
        request.destination = destination("https://example.coupahost.com");
        let error = told(&[]).send(request).await.unwrap_err();
        assert!(matches!(error, TransportError::Forbidden(_)), "{error}");
        drop(listener);
    }

    #[test]
    fn nothing_secret_is_printable() {
        let text = format!("{:?}", request(1, true));
        assert!(!text.contains("canary") && !text.contains("secret"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_covers_an_answer_that_never_ends() {
        let error = within(Duration::from_secs(7), std::future::pending())
            .await
            .unwrap_err();
        assert_eq!(
            error,
            TransportError::MaybeSent("no answer within 7000 ms".to_owned())
        );
    }
}
