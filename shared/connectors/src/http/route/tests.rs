use super::*;
use crate::http::outbound::Destination;
use crate::http::transport::{HttpTransport, Method, Request, Response, Transport, TransportError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

fn written(section: &str) -> Result<Route, String> {
    toml::from_str(section).map_err(|error| error.message().to_owned())
}

/// An authority that nobody but its company knows.
struct Company {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Company {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { authority }
    }

    /// A certificate for this name and its key, as PEM.
    fn certificate(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn roots(&self) -> Arc<rustls::RootCertStore> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// A QAD in the company's network that answers every request with 200, over TLS; one that asks for a certificate of the
    /// company, if told to.
    async fn server(&self, asks: bool) -> u16 {
        let (certificate, key) = self.certificate("127.0.0.1");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks {
            let verifier = WebPkiClientVerifier::builder_with_provider(self.roots(), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let chain = certificates("certificate", &certificate).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    head(&mut stream).await;
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        port
    }
}

async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(read).unwrap()
}

/// The company's proxy: what it was asked for, and what it answers instead of a tunnel.
async fn proxy(refusal: Option<&'static str>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heads = Arc::clone(&heads);
            tokio::spawn(async move {
                let head = head(&mut stream).await;
                heads.lock().unwrap().push(head.clone());
                if let Some(refusal) = refusal {
                    let _ = stream.write_all(refusal.as_bytes()).await;
                    return;
                }
                let authority = head.split(' ').nth(1).unwrap();
                let mut inner = TcpStream::connect(authority).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
            });
        }
    });
    (port, asked)
}

async fn send(port: u16, route: &Route, write: bool) -> Result<Response, TransportError> {
    let base = format!("https://127.0.0.1:{port}");
    let request = Request {
        destination: Destination::of(&base.parse().unwrap(), &[]).by(route),
        method: if write { Method::Post } else { Method::Get },
        url: format!("{base}/api"),
        headers: vec![],
        body: write.then(|| b"{}".to_vec()),
        timeout: Duration::from_secs(20),
        write,
    };
    HttpTransport::new().send(request).await
}

#[tokio::test]
async fn a_companys_authority_is_trusted_by_those_alone_who_name_it() {
    let company = Company::new();
    let port = company.server(false).await;
    let trusting = written(&format!("ca_certificates = '''{}'''", company.authority.pem())).unwrap();
    for write in [false, true] {
        assert_eq!(send(port, &trusting, write).await.unwrap().status, 200);
        let error = send(port, &Route::default(), write).await.unwrap_err();
        assert!(matches!(error, TransportError::NotSent(_)), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_to_who_asks_for_one() {
    let company = Company::new();
    let port = company.server(true).await;
    let (certificate, key) = company.certificate("qad-coupa");
    let authority = company.authority.pem();
    let shown = written(&format!(
        "ca_certificates = '''{authority}'''\nclient_certificate = '''{certificate}'''\nclient_key = '''{key}'''"
    ))
    .unwrap();
    let silent = written(&format!("ca_certificates = '''{authority}'''")).unwrap();
    for write in [false, true] {
        assert_eq!(send(port, &shown, write).await.unwrap().status, 200);
        assert!(send(port, &silent, write).await.is_err());
    }
}

#[tokio::test]
async fn reads_and_writes_leave_by_the_proxy_which_sees_the_host_alone() {
    let company = Company::new();
    let port = company.server(false).await;
    let (proxy_port, asked) = proxy(None).await;
    let route = written(&format!(
        "proxy = 'http://clerk:p%40ss@127.0.0.1:{proxy_port}'\nca_certificates = '''{}'''",
        company.authority.pem()
    ))
    .unwrap();
    for write in [false, true] {
        assert_eq!(send(port, &route, write).await.unwrap().status, 200);
    }
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    for head in asked.iter() {
        let head = head.to_lowercase();
        assert!(
            head.starts_with(&format!("connect 127.0.0.1:{port} http/1.1\r\n")),
            "{head}"
        );
        let authorization = format!("basic {}", STANDARD.encode("clerk:p@ss")).to_lowercase();
        assert!(
            head.contains(&format!("proxy-authorization: {authorization}")),
            "{head}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_proves_that_nothing_was_sent() {
    let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
    let (proxy_port, _) = proxy(Some(refusal)).await;
    let route = written(&format!("proxy = 'http://clerk:hunter2@127.0.0.1:{proxy_port}'")).unwrap();
    for write in [false, true] {
        let error = send(9, &route, write).await.unwrap_err();
        assert!(matches!(error, TransportError::NotSent(_)), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_is_where_the_connection_may_go_too() {
    for (proxy, networks, allowed) in [
        ("http://10.1.2.3:3128", vec![], false),
        ("http://10.1.2.3:3128", vec!["10.1.0.0/16".parse().unwrap()], true),
        ("http://169.254.169.254:80", vec![], false),
        ("http://127.0.0.1:3128", vec![], false),
        ("http://93.184.215.14:3128", vec![], true),
    ] {
        let base = "https://example.qad.com".parse().unwrap();
        let destination = Destination::of(&base, &networks).by(&Route::through(proxy, None).unwrap());
        let checked = destination.check(&"https://example.qad.com/api".parse().unwrap());
        assert_eq!(checked.is_ok(), allowed, "{proxy}");
    }
    // With a proxy, the host's own name is never looked up here.
    let route = Route::through("http://proxy.example.com:3128", None).unwrap();
    let destination = Destination::of(&"https://example.qad.com".parse().unwrap(), &[]).by(&route);
    let public = ["93.184.215.14".parse().unwrap()];
    assert!(destination.check_resolved("proxy.example.com", &public).is_ok());
    assert!(destination.check_resolved("example.qad.com", &public).is_err());
}

#[test]
fn what_is_wrong_with_a_route_is_said_without_its_values() {
    let company = Company::new();
    let (certificate, key) = company.certificate("qad-coupa");
    let (_, other_key) = company.certificate("another");
    for (section, said) in [
        ("proxy = 'hunter2'".to_owned(), "proxy: http://host:port"),
        (
            "proxy = 'https://hunter2:3128'".to_owned(),
            "proxy: http://host:port",
        ),
        (
            "proxy = 'http://hunter2:3128/path'".to_owned(),
            "proxy: http://host:port",
        ),
        (
            "ca_certificates = 'hunter2'".to_owned(),
            "ca_certificates: 1 to 32 certificates",
        ),
        (
            format!("client_certificate = '''{certificate}'''"),
            "client_key is missing",
        ),
        (
            format!("client_key = '''{key}'''"),
            "client_certificate is missing",
        ),
        (
            format!("client_certificate = '''{certificate}'''\nclient_key = 'hunter2'"),
            "client_key: one private key",
        ),
        (
            format!("client_certificate = '''{certificate}'''\nclient_key = '''{other_key}'''"),
            "client_key: it is not the key",
        ),
    ] {
        let error = written(&section).unwrap_err();
        assert!(error.starts_with(said), "{error}");
        assert!(SENTENCES.iter().any(|start| error.starts_with(start)), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let whole = format!(
        "proxy = 'http://u:hunter2@proxy:3128'\nclient_certificate = '''{certificate}'''\nclient_key = '''{key}'''"
    );
    assert!(!format!("{:?}", written(&whole).unwrap()).contains("hunter2"));
    assert_eq!(written(&whole).unwrap(), written(&whole).unwrap());
    assert_ne!(written(&whole).unwrap(), Route::default());
}
