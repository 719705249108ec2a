//! The HTTP listeners of the local run: loopback only, bounded bodies, gone when their future is dropped.

use super::{LocalError, clock};
use bytes::Bytes;
use domain::problem::Problem;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// How long to wait when the machine refuses a new connection (too many open files).
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Most connections of one listener at once.
const CONNECTIONS_MAX: usize = 512;

/// Opens a port on the loopback address; 0 lets the machine choose.
pub(crate) async fn listen(port: u16) -> Result<(TcpListener, u16), LocalError> {
    let refused = |error: std::io::Error| {
        let problem = Problem::new(
            "LOCAL_PORT",
            "Stop what holds this port, or choose another; 0 takes a free one.",
        );
        LocalError::Listen(Box::new(
            problem
                .field(format!("127.0.0.1:{port}"))
                .actual(error.to_string()),
        ))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(refused)?;
    let port = listener.local_addr().map_err(refused)?.port();
    Ok((listener, port))
}

/// Answers every request on `listener` until the future is dropped; its connections end with it.
pub(crate) async fn serve<S, F, B>(listener: TcpListener, service: S)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            clock::pause(ACCEPT_RETRY).await;
            continue;
        };
        let service = service.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let answer = service(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = served.await {
                tracing::debug!(error = %error, "connection ended");
            }
        });
    }
}

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Larger than allowed.
    TooLarge,
    /// The sender stopped in the middle.
    Broken,
}

/// Reads a body of at most `bytes_max`.
pub(crate) async fn read_body<B>(body: B, bytes_max: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Err(_) => Err(BodyError::Broken),
    }
}

/// An answer with a body and no headers of its own.
pub(crate) fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
