//! The deployable binary behind Lambda's own interface, with a secret store and an identity provider on this machine: it begins
//! a login, knows it again when the browser comes back, and says when its secret is not filled.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test may say so by panicking"
)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// Lambda, Secrets Manager and the provider in one server; each answers what the test says.
struct Machine {
    port: u16,
    events: Sender<Value>,
    answers: Receiver<Value>,
    forms: Arc<Mutex<Vec<String>>>,
    function: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It waits for its next event for ever.
        let _ = self.function.kill();
        let _ = self.function.wait();
    }
}

fn read(stream: &TcpStream) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|bytes| *bytes > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((first, body))
}

fn write(mut stream: &TcpStream, status: u16, headers: &str, body: &str) {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

impl Machine {
    fn start(secret: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (events, next) = channel::<Value>();
        let (answered, answers) = channel::<Value>();
        let secret = secret.to_owned();
        let forms = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::new(Mutex::new(next));
        let seen = Arc::clone(&forms);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, next, answered) = (stream.unwrap(), Arc::clone(&next), answered.clone());
                let (secret, seen) = (secret.clone(), Arc::clone(&seen));
                thread::spawn(move || {
                    let Some((first, body)) = read(&stream) else {
                        return;
                    };
                    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                    let base = format!("http://127.0.0.1:{port}");
                    if path.ends_with("/invocation/next") {
                        let Ok(event) = next.lock().unwrap().recv() else {
                            return;
                        };
                        let headers = "lambda-runtime-aws-request-id: 1\r\nlambda-runtime-deadline-ms: 9999999999999\r\n\
                                       lambda-runtime-invoked-function-arn: x\r\ncontent-type: application/json\r\n";
                        write(&stream, 200, headers, &event.to_string());
                    } else if path.ends_with("/response") || path.ends_with("/error") {
                        let _ = answered.send(serde_json::from_slice(&body).unwrap());
                        write(&stream, 202, "", "");
                    } else if path.ends_with("openid-configuration") {
                        let document = json!({
                            "issuer": base,
                            "authorization_endpoint": format!("{base}/authorize"),
                            "token_endpoint": format!("{base}/token"),
                            "jwks_uri": format!("{base}/keys"),
                        });
                        write(
                            &stream,
                            200,
                            "content-type: application/json\r\n",
                            &document.to_string(),
                        );
                    } else if path == "/token" {
                        seen.lock().unwrap().push(String::from_utf8(body).unwrap());
                        write(&stream, 400, "", r#"{"error":"invalid_grant"}"#);
                    } else {
                        let found = json!({"SecretString": secret, "VersionId": "1"});
                        write(
                            &stream,
                            200,
                            "content-type: application/x-amz-json-1.1\r\n",
                            &found.to_string(),
                        );
                    }
                });
            }
        });
        let here = format!("http://127.0.0.1:{port}");
        let function = Command::new(env!("CARGO_BIN_EXE_console"))
            .env_clear()
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", format!("127.0.0.1:{port}").as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", "console"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_REGION", "eu-central-1"),
                ("AWS_ACCESS_KEY_ID", "id"),
                ("AWS_SECRET_ACCESS_KEY", "key"),
                ("AWS_ENDPOINT_URL", &here),
                ("REGISTER_TABLE", "register"),
                ("AUDIT_TABLE", "audit"),
                ("INVOICES_QUEUE_URL", &format!("{here}/queue")),
                ("CONSOLE_LOGIN", "oidc"),
                ("CONSOLE_ISSUER", &here),
                ("CONSOLE_CLIENT_ID", "page"),
                ("CONSOLE_SECRET", "a secret by its name"),
                ("CONSOLE_CONNECTIONS", "acme"),
            ])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            port,
            events,
            answers,
            forms,
            function,
        }
    }

    /// One request as API Gateway tells it, and what the gateway would answer.
    fn get(&self, path: &str, query: &str, cookies: &[&str]) -> Value {
        let event = json!({
            "version": "2.0", "routeKey": "ANY /{proxy+}", "rawPath": path, "rawQueryString": query, "cookies": cookies,
            "headers": {"host": "page.example.com"}, "isBase64Encoded": false,
            "requestContext": {"accountId": "1", "apiId": "1", "domainName": "page.example.com", "domainPrefix": "page",
                "requestId": "1", "routeKey": "ANY /{proxy+}", "stage": "$default", "time": "x", "timeEpoch": 0,
                "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x"}},
        });
        self.events.send(event).unwrap();
        self.answers.recv().unwrap()
    }
}

fn filled() -> String {
    json!({"client_secret": "canary", "session_key": "k".repeat(64)}).to_string()
}

/// The value of a parameter of an address.
fn parameter<'a>(address: &'a str, name: &str) -> &'a str {
    let pairs = address.split_once('?').unwrap().1.split('&');
    let mut found = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.next().unwrap()
}

#[test]
fn a_login_goes_to_the_provider_and_is_known_again_when_the_browser_comes_back() {
    let machine = Machine::start(&filled());
    let asked = machine.get("/invoices/7", "", &[]);
    assert_eq!(asked["statusCode"], 303, "{asked}");
    assert_eq!(asked["headers"]["location"], "/login?to=%2Finvoices%2F7");
    let begun = machine.get("/login", "to=%2Finvoices%2F7", &[]);
    let to = begun["headers"]["location"].as_str().unwrap();
    assert!(
        to.starts_with(&format!(
            "http://127.0.0.1:{}/authorize?response_type=code&",
            machine.port
        )),
        "{to}"
    );
    assert_eq!(
        parameter(to, "redirect_uri"),
        "https%3A%2F%2Fpage.example.com%2Flogin%2Fback"
    );
    assert_eq!(parameter(to, "code_challenge_method"), "S256");
    let cookie = begun["cookies"][0].as_str().unwrap().split(';').next().unwrap();
    assert!(cookie.starts_with("__Host-f="), "{cookie}");
    let query = format!("code=1&state={}", parameter(to, "state"));
    let unknown = machine.get("/login/back", &query, &[]);
    assert_eq!(
        unknown["statusCode"], 400,
        "a browser that began no login: {unknown}"
    );
    assert!(machine.forms.lock().unwrap().is_empty());
    let refused = machine.get("/login/back", &query, &["other=1", cookie]);
    assert_eq!(refused["statusCode"], 403, "{refused}");
    assert!(
        refused["body"].as_str().unwrap().contains("OIDC_CODE_REFUSED"),
        "{refused}"
    );
    let forms = machine.forms.lock().unwrap().clone();
    assert_eq!(forms.len(), 1, "a code is sent once");
    assert!(
        forms[0].contains("grant_type=authorization_code&code=1&"),
        "{}",
        forms[0]
    );
    assert!(!refused.to_string().contains("canary"));
}

#[test]
fn a_secret_that_is_not_filled_closes_the_page_and_says_so() {
    for secret in ["{}", "", r#"{"client_secret":"","session_key":"short"}"#] {
        let machine = Machine::start(secret);
        let closed = machine.get("/login", "", &[]);
        assert_eq!(closed["statusCode"], 503, "{closed}");
        let page = closed["body"].as_str().unwrap();
        assert!(
            page.contains("<h1>") && page.contains("CONSOLE_SECRET_UNREADABLE"),
            "{page}"
        );
        assert_eq!(closed["headers"]["cache-control"], "no-store");
    }
}
