//! API Gateway's HTTP API on this machine: routes to functions, with event and answer in payload format 2.0.

use super::aws::ACCOUNT_ID;
use super::clock;
use super::events::Trigger;
use super::functions::FunctionPool;
use super::serve::{self, BodyError};
use super::template::Route;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body_util::Full;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Largest request, in bytes: API Gateway's 10 MB.
const REQUEST_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Longest wait for a function: API Gateway's 30 s.
const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The routes and the functions behind them.
#[derive(Clone)]
pub(crate) struct Gateway {
    routes: Vec<(Route, FunctionPool)>,
}

impl Gateway {
    pub(crate) fn new(functions: &[FunctionPool]) -> Self {
        let of = |pool: &FunctionPool| {
            let routes = pool.function().routes.clone();
            routes
                .into_iter()
                .map(|route| (route, pool.clone()))
                .collect::<Vec<_>>()
        };
        Self {
            routes: functions.iter().flat_map(of).collect(),
        }
    }

    pub(crate) async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Some((route, function, path_parameters)) = self.find(&head.method, head.uri.path()) else {
            return message(StatusCode::NOT_FOUND, "Not Found");
        };
        let body = match serve::read_body(body, REQUEST_BYTES_MAX).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => return too_large(),
            Err(BodyError::Broken) => return message(StatusCode::BAD_REQUEST, "Bad Request"),
        };
        let route_key = format!("{} {}", route.method, route.path);
        let event = Bytes::from(event(&head, &body, &route_key, path_parameters).to_string());
        if event.len() > super::runtime_api::PAYLOAD_BYTES_MAX {
            return too_large();
        }
        let function = function.clone();
        // The call goes on when nobody waits any longer, as in AWS.
        let call =
            tokio::spawn(async move { function.invoke(event, Trigger::Http { route: route_key }).await });
        match tokio::time::timeout(INTEGRATION_TIMEOUT, call).await {
            Err(_) => message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
            Ok(Ok(Ok(answer))) => http_answer(&answer).unwrap_or_else(internal_error),
            Ok(Ok(Err(_)) | Err(_)) => internal_error(),
        }
    }

    /// The route with the most literal segments; a named method goes before `ANY`.
    fn find(&self, method: &Method, path: &str) -> Option<(&Route, &FunctionPool, Map<String, Value>)> {
        let candidates = self.routes.iter().filter_map(|(route, function)| {
            let exact = route.method == method.as_str();
            if !exact && route.method != "ANY" {
                return None;
            }
            let (literals, parameters) = match_path(&route.path, path)?;
            Some(((literals, exact), (route, function, parameters)))
        });
        candidates.max_by_key(|(rank, _)| *rank).map(|(_, found)| found)
    }
}

/// The number of literal segments and the parameters, when `path` fits `template`.
fn match_path(template: &str, path: &str) -> Option<(usize, Map<String, Value>)> {
    let mut parameters = Map::new();
    let mut literals: usize = 0;
    let mut rest = path.split('/');
    for segment in template.split('/') {
        let inner = segment
            .strip_prefix('{')
            .and_then(|segment| segment.strip_suffix('}'));
        match inner {
            Some(greedy) if greedy.ends_with('+') => {
                let tail: Vec<&str> = rest.collect();
                let tail = tail.join("/");
                parameters.insert(
                    greedy.trim_end_matches('+').to_owned(),
                    Value::String(decode(&tail)),
                );
                return (!tail.is_empty()).then_some((literals, parameters));
            }
            Some(name) => {
                let value = rest.next().filter(|value| !value.is_empty())?;
                parameters.insert(name.to_owned(), Value::String(decode(value)));
            }
            None => {
                rest.next().filter(|value| *value == segment)?;
                literals = literals.saturating_add(1);
            }
        }
    }
    rest.next().is_none().then_some((literals, parameters))
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn event(head: &request::Parts, body: &Bytes, route_key: &str, path_parameters: Map<String, Value>) -> Value {
    let (headers, cookies) = event_headers(&head.headers);
    let now = clock::epoch_milliseconds();
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let domain = header("host");
    let query = head.uri.query().unwrap_or_default();
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": decode(head.uri.path()),
        "rawQueryString": query,
        "requestContext": {
            "accountId": ACCOUNT_ID,
            "apiId": "local",
            "domainName": domain,
            "domainPrefix": domain.split('.').next(),
            "http": {
                "method": head.method.as_str(),
                "path": decode(head.uri.path()),
                "protocol": format!("{:?}", head.version),
                "sourceIp": "127.0.0.1",
                "userAgent": header("user-agent"),
            },
            "requestId": uuid::Uuid::new_v4().to_string(),
            "routeKey": route_key,
            "stage": "$default",
            "time": clock::common_log_time(now),
            "timeEpoch": now,
        },
    });
    let text = std::str::from_utf8(body)
        .ok()
        .filter(|_| is_text(&header("content-type")));
    let optional = [
        ("cookies", (!cookies.is_empty()).then(|| json!(cookies))),
        ("queryStringParameters", query_parameters(query)),
        (
            "pathParameters",
            (!path_parameters.is_empty()).then_some(Value::Object(path_parameters)),
        ),
        (
            "body",
            (!body.is_empty()).then(|| json!(text.map_or_else(|| STANDARD.encode(body), str::to_owned))),
        ),
        ("isBase64Encoded", Some(json!(!body.is_empty() && text.is_none()))),
        ("headers", Some(Value::Object(headers))),
    ];
    if let Some(event) = event.as_object_mut() {
        event.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?))),
        );
    }
    event
}

/// Names in lower case, several values joined by a comma; cookies apart.
fn event_headers(headers: &HeaderMap) -> (Map<String, Value>, Vec<String>) {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    let mut cookies = Vec::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        if name == http::header::COOKIE {
            cookies.extend(value.split("; ").map(str::to_owned));
            continue;
        }
        let all = joined.entry(name.as_str()).or_default();
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(&value);
    }
    (
        joined
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::String(value)))
            .collect(),
        cookies,
    )
}

fn query_parameters(query: &str) -> Option<Value> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let all = joined.entry(name.into_owned()).or_default();
        if !all.is_empty() {
            all.push(',');
        }
        all.push_str(&value);
    }
    (!joined.is_empty()).then(|| json!(joined))
}

/// API Gateway hands over as text what these types say is text; everything else arrives in base64, forms included.
fn is_text(content_type: &str) -> bool {
    let kind = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    kind.starts_with("text/")
        || matches!(
            kind.as_str(),
            "application/json" | "application/xml" | "application/javascript"
        )
}

/// The function's answer in format 2.0; without `statusCode` it is the body itself. `None` is an answer API Gateway
/// cannot make sense of.
fn http_answer(answer: &[u8]) -> Option<Response<Full<Bytes>>> {
    let value: Value = serde_json::from_slice(answer).ok()?;
    let Some(status) = value.get("statusCode") else {
        let mut response = serve::answer(StatusCode::OK, Bytes::copy_from_slice(answer));
        set(&mut response, "content-type", "application/json")?;
        return Some(response);
    };
    let status = match status {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    let status = StatusCode::from_u16(u16::try_from(status).ok()?).ok()?;
    let body = match value.get("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) if value.get("isBase64Encoded") == Some(&Value::Bool(true)) => {
            STANDARD.decode(text).ok()?.into()
        }
        Some(Value::String(text)) => Bytes::from(text.clone()),
        Some(_) => return None,
    };
    let mut response = serve::answer(status, body);
    for (name, value) in value
        .get("headers")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        set(&mut response, name, &super::cloudformation::scalar_text(value)?)?;
    }
    for cookie in value
        .get("cookies")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let cookie = HeaderValue::from_str(cookie.as_str()?).ok()?;
        response.headers_mut().append(http::header::SET_COOKIE, cookie);
    }
    if !response.headers().contains_key(http::header::CONTENT_TYPE) {
        set(&mut response, "content-type", "text/plain;charset=UTF-8")?;
    }
    Some(response)
}

fn set(response: &mut Response<Full<Bytes>>, name: &str, value: &str) -> Option<()> {
    let name = HeaderName::try_from(name).ok()?;
    // The length and the connection are the server's own business.
    if name != http::header::CONTENT_LENGTH && name != http::header::CONNECTION {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_str(value).ok()?);
    }
    Some(())
}

fn internal_error() -> Response<Full<Bytes>> {
    message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

fn too_large() -> Response<Full<Bytes>> {
    message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large")
}

fn message(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = serve::answer(status, json!({ "message": text }).to_string());
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: request::Builder) -> request::Parts {
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn paths_match_segment_by_segment() {
        let template = "/webhooks/coupa/{connection}";
        let (literals, parameters) = match_path(template, "/webhooks/coupa/plant%2D1").unwrap();
        assert_eq!((literals, &parameters["connection"]), (3, &json!("plant-1")));
        for other in [
            "/webhooks/coupa",
            "/webhooks/coupa/",
            "/webhooks/coupa/a/token",
            "/Webhooks/coupa/a",
            "/",
        ] {
            assert_eq!(match_path(template, other), None, "{other}");
        }
        let (_, parameters) = match_path("/files/{path+}", "/files/a/b").unwrap();
        assert_eq!(parameters["path"], json!("a/b"));
    }

    #[test]
    fn an_event_is_format_2_0() {
        let head = head(
            Request::builder()
                .method("POST")
                .uri("/webhooks/coupa/a?x=1&x=2&y=%20")
                .header("Host", "127.0.0.1:1")
                .header("Content-Type", "application/json")
                .header("X-Twice", "one")
                .header("X-Twice", "two")
                .header("Cookie", "a=1; b=2"),
        );
        let body = Bytes::from_static(b"{\"a\": 1}");
        let event = event(&head, &body, "POST /webhooks/coupa/{connection}", Map::new());
        assert_eq!(event["version"], "2.0");
        assert_eq!(event["headers"]["x-twice"], "one,two");
        assert_eq!(event["cookies"], json!(["a=1", "b=2"]));
        assert!(event["headers"].get("cookie").is_none());
        assert_eq!(event["rawQueryString"], "x=1&x=2&y=%20");
        assert_eq!(event["queryStringParameters"], json!({"x": "1,2", "y": " "}));
        assert_eq!(event["requestContext"]["http"]["method"], "POST");
        assert_eq!(
            (&event["body"], &event["isBase64Encoded"]),
            (&json!("{\"a\": 1}"), &json!(false))
        );
    }

    #[test]
    fn what_is_not_text_is_base64() {
        let cases: [(&str, &[u8], bool); 5] = [
            ("application/json", b"{}", false),
            ("Text/Plain; charset=utf-8", b"x", false),
            ("application/x-www-form-urlencoded", b"a=1", true),
            ("application/json", b"\xff\xfe", true),
            ("", b"{}", true),
        ];
        for (content_type, body, encoded) in cases {
            let head = head(Request::builder().header("Content-Type", content_type));
            let event = event(&head, &Bytes::copy_from_slice(body), "POST /", Map::new());
            assert_eq!(event["isBase64Encoded"], json!(encoded), "{content_type}");
            if encoded {
                assert_eq!(STANDARD.decode(event["body"].as_str().unwrap()).unwrap(), body);
            }
        }
    }

    #[test]
    fn answers_become_responses() {
        let response = http_answer(br#"{"statusCode":202,"headers":{"X-A":"b","Retry-After":5}}"#).unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(
            (&response.headers()["x-a"], &response.headers()["retry-after"]),
            (&HeaderValue::from_static("b"), &HeaderValue::from_static("5"),)
        );
        let bare = http_answer(br#"{"ok":true}"#).unwrap();
        assert_eq!(bare.status(), StatusCode::OK);
        assert_eq!(bare.headers()["content-type"], "application/json");
        for nonsense in [
            "no json",
            r#"{"statusCode":"x"}"#,
            r#"{"statusCode":99}"#,
            r#"{"statusCode":200,"body":{}}"#,
        ] {
            assert!(http_answer(nonsense.as_bytes()).is_none(), "{nonsense}");
        }
    }
}
