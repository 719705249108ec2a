//! A write's own connection, which leaves nothing behind when the write is given up.
//!
//! A connection that is closed in the ordinary way leaves what the kernel still holds to be delivered: a create that was
//! given up because QAD had stopped reading arrived whole, after its successor (seen). So the connection of a write lives
//! inside the exchange itself. Unless that ends with a whole answer, be it that its time is over or that nobody waits for it
//! any more, the socket is reset: what has not arrived by then never does.

use super::outbound::{CheckedResolver, Failed, Forbidden};
use super::route::Proxy;
use super::transport::{CONNECT_SECONDS_MAX, HEADERS_MAX, Response, TransportError, causes, whole};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, HOST, HeaderValue, PROXY_AUTHORIZATION};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection that has carried nothing yet.
enum Line {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// Sends a write over a connection of its own and reads the whole answer; `patience` is for all of it.
pub(super) async fn send(
    request: reqwest::Request,
    resolver: &CheckedResolver,
    tls: rustls::ClientConfig,
    patience: Duration,
) -> Result<Response, TransportError> {
    let url = request.url().clone();
    let request = on_the_wire(request).map_err(not_sent)?;
    let opened = timeout(
        Duration::from_secs(CONNECT_SECONDS_MAX),
        open(&url, resolver, tls, patience),
    );
    let line = opened
        .await
        .unwrap_or_else(|late| Err(late.into()))
        .map_err(not_sent)?;
    match line {
        Line::Plain(stream) => exchange(stream, |stream| stream, request).await,
        Line::Secure(stream) => exchange(*stream, |stream| stream.get_ref().0, request).await,
    }
}

/// The request as a connection wants it: origin form, host and length told.
fn on_the_wire(request: reqwest::Request) -> Result<hyper::Request<reqwest::Body>, Failed> {
    let url = request.url();
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = HeaderValue::from_str(url.authority())?;
    let length = request
        .body()
        .and_then(reqwest::Body::as_bytes)
        .map_or(0, <[u8]>::len);
    let mut request = hyper::Request::try_from(request)?;
    *request.uri_mut() = target.parse()?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    Ok(request)
}

/// Connects, TLS included.
async fn open(
    url: &reqwest::Url,
    resolver: &CheckedResolver,
    tls: rustls::ClientConfig,
    patience: Duration,
) -> Result<Line, Failed> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().ok_or("the address has no port")?;
    let proxy = resolver.destination.proxy();
    let (dialled, dialled_port) = proxy.map_or((host, port), |proxy| (proxy.host.as_str(), proxy.port));
    let addresses = match dialled.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolver.addresses(dialled).await?,
    };
    let mut stream = connect(&addresses, dialled_port).await?;
    stream.set_nodelay(true)?;
    stream.set_zero_linger()?;
    bound_unacknowledged(&stream, patience)?;
    if let Some(proxy) = proxy {
        let authority = format!("{}:{port}", url.host_str().unwrap_or_default());
        stream = tunnel(stream, &authority, proxy).await?;
    }
    if url.scheme() == "http" {
        return Ok(Line::Plain(stream));
    }
    let name = ServerName::try_from(host.to_owned())?;
    let secure = TlsConnector::from(Arc::new(tls)).connect(name, stream).await?;
    Ok(Line::Secure(Box::new(secure)))
}

/// Has the proxy open a tunnel to the host. Whatever goes wrong here, nothing of the request has left.
async fn tunnel(stream: TcpStream, authority: &str, proxy: &Proxy) -> Result<TcpStream, Failed> {
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut request = hyper::Request::connect(authority).header(HOST, authority);
    if let Some(authorization) = proxy.authorization()? {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let asked = async move {
        let answer = sender
            .send_request(request.body(reqwest::Body::default())?)
            .await?;
        if !answer.status().is_success() {
            return Err(format!("the proxy refuses the tunnel with {}", answer.status()).into());
        }
        Ok::<_, Failed>(hyper::upgrade::on(answer).await?)
    };
    let (opened, _) = tokio::join!(asked, connection.with_upgrades());
    let parts = opened?
        .downcast::<TokioIo<TcpStream>>()
        .map_err(|_| "the tunnel is no socket")?;
    if parts.read_buf.is_empty() {
        Ok(parts.io.into_inner())
    } else {
        Err("the proxy speaks before it is spoken to".into())
    }
}

/// The first address that answers; each has its share of the time.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<TcpStream, Failed> {
    let share = Duration::from_secs(CONNECT_SECONDS_MAX)
        .checked_div(u32::try_from(addresses.len())?)
        .unwrap_or_default();
    let mut failed: Failed = "the host has no address".into();
    for address in addresses {
        match timeout(share, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = error.into(),
            Err(late) => failed = late.into(),
        }
    }
    Err(failed)
}

/// What the other side does not acknowledge for that long, the kernel gives up too, whether or not we live to reset it.
#[cfg(target_os = "linux")]
fn bound_unacknowledged(stream: &TcpStream, patience: Duration) -> std::io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(patience))
}

/// Only Linux has such a bound.
#[cfg(not(target_os = "linux"))]
fn bound_unacknowledged(_: &TcpStream, _: Duration) -> std::io::Result<()> {
    Ok(())
}

/// One exchange over this connection, of which `tcp` is the socket. Whoever drops it resets the connection.
async fn exchange<S>(
    stream: S,
    tcp: fn(&S) -> &TcpStream,
    request: hyper::Request<reqwest::Body>,
) -> Result<Response, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, mut connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| not_sent(error.into()))?;
    let mut answer = pin!(async move {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| TransportError::MaybeSent(causes("the exchange broke off", Some(&error))))?;
        whole(answer.map(reqwest::Body::wrap).into()).await
    });
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = &mut connection => answer.await,
    };
    if answer.is_ok() {
        // Both sides know how it ended: the connection is closed like any other.
        let stream = connection.into_parts().io.into_inner();
        let _ = SockRef::from(tcp(&stream)).set_linger(None);
    }
    answer
}

fn not_sent(error: Failed) -> TransportError {
    match error.downcast::<Forbidden>() {
        Ok(forbidden) => TransportError::Forbidden(*forbidden),
        Err(error) => TransportError::NotSent(causes("no connection", Some(&*error))),
    }
}

#[cfg(test)]
mod tests {
    use crate::http::outbound::Destination;
    use crate::http::transport::{HttpTransport, Method, Request, Transport, TransportError};
    use std::time::Duration;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    /// As large as an invoice of some 300 lines, in bytes: more than the peer takes in, less than the kernel does.
    const BODY_BYTES: usize = 44_000;
    /// What the peer's kernel takes in while the peer does not read, in bytes.
    const PEER_BYTES: u32 = 4_096;

    fn write_to(port: u16, timeout: Duration) -> Request {
        let base = format!("http://127.0.0.1:{port}");
        Request {
            destination: Destination::of(&base.parse().unwrap(), &[]),
            method: Method::Post,
            url: format!("{base}/create"),
            headers: vec![],
            body: Some(vec![b'x'; BODY_BYTES]),
            timeout,
            write: true,
        }
    }

    fn narrow_listener() -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(PEER_BYTES).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(1).unwrap()
    }

    /// What a peer gets that reads on, and how it ends.
    async fn all_of(mut stream: TcpStream) -> (Vec<u8>, std::io::Result<usize>) {
        let mut got = Vec::new();
        let end = stream.read_to_end(&mut got).await;
        (got, end)
    }

    #[tokio::test]
    async fn what_a_peer_that_stops_reading_has_not_taken_in_is_never_delivered_once_the_write_is_given_up() {
        let listener = narrow_listener();
        let port = listener.local_addr().unwrap().port();
        let transport = HttpTransport::new();
        let write = transport.send(write_to(port, Duration::from_millis(300)));
        let (outcome, accepted) = tokio::join!(write, listener.accept());
        let error = outcome.unwrap_err();
        assert!(matches!(error, TransportError::MaybeSent(_)), "{error}");
        let (got, end) = all_of(accepted.unwrap().0).await;
        assert!(
            got.len() < BODY_BYTES,
            "the whole request arrived after it was given up"
        );
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_write_that_nobody_waits_for_any_more_is_reset_as_well() {
        let listener = narrow_listener();
        let port = listener.local_addr().unwrap().port();
        let transport = HttpTransport::new();
        let mut write = transport.send(write_to(port, Duration::from_secs(60)));
        let peer = tokio::select! {
            outcome = &mut write => panic!("{outcome:?}"),
            accepted = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0u8; 16];
                stream.read_exact(&mut head).await.unwrap();
                stream
            } => accepted,
        };
        drop(write);
        let (_, end) = all_of(peer).await;
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_write_that_was_answered_is_closed_like_any_other() {
        use tokio::io::AsyncWriteExt;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let transport = HttpTransport::new();
        let write = transport.send(write_to(port, Duration::from_secs(60)));
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut got, mut piece) = (Vec::new(), [0u8; 1_024]);
            while !got.ends_with(&[b'x'; BODY_BYTES]) {
                let read = stream.read(&mut piece).await.unwrap();
                assert!(read > 0, "cut off");
                got.extend_from_slice(&piece[..read]);
            }
            let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";
            stream.write_all(answer).await.unwrap();
            (String::from_utf8(got).unwrap(), stream.read(&mut piece).await)
        };
        let (outcome, (request, end)) = tokio::join!(write, peer);
        assert_eq!(outcome.unwrap().status, 201);
        assert_eq!(end.unwrap(), 0, "closed, not reset");
        let head = request.split("\r\n\r\n").next().unwrap();
        for line in [
            "POST /create HTTP/1.1",
            "accept-encoding: identity",
            "accept: */*",
            &format!("host: 127.0.0.1:{port}"),
            &format!("content-length: {BODY_BYTES}"),
        ] {
            assert!(head.lines().any(|told| told == line), "{line}\n{head}");
        }
    }
}
