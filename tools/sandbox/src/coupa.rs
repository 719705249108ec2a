//! Coupa's door: the wire contract's requests, exactly, on the [`World`].
//!
//! What a client of Coupa owes on every request is checked: the version pin, JSON asked for, an idempotency key on
//! every write. A request that breaks it is answered 400 and noted; without `Accept` Coupa answers XML.

use crate::faults::System;
use crate::http::{Answer, Options, WireRequest, WireResponse};
use crate::world::coupa::{CoupaError, read_change};
use crate::world::{World, Write, WriteRefusal, Written};
use domain::time::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

/// Records on one page at most (confirmed).
const PAGE_RECORDS_MAX: usize = 50;
/// Deepest nesting of `fields` that is followed.
const FIELDS_DEPTH_MAX: usize = 8;

/// What a request is, for faults and the journal: its operation and the ids it is about.
pub fn describe(request: &WireRequest) -> (&'static str, Vec<String>) {
    let route = Route::of(request);
    let mut keys = Vec::new();
    if let Some(id) = route.id() {
        keys.push(id.to_string());
    }
    for name in ["po-number", "number", "document-id", "external-ref-num"] {
        keys.extend(request.parameter(name).map(str::to_owned));
    }
    for name in ["id[in]", "po-number[in]"] {
        let listed = request
            .parameter(name)
            .into_iter()
            .flat_map(|list| list.split(','));
        keys.extend(listed.map(|one| one.trim().to_owned()));
    }
    if matches!(route, Route::RecordHistory { .. })
        && let Ok(body) = serde_json::from_slice::<Value>(&request.body)
    {
        keys.extend(
            body.get("document-id")
                .map(|id| id.to_string().trim_matches('"').to_owned()),
        );
    }
    (route.operation(request), keys)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Token,
    Invoices,
    Invoice(u64),
    MarkExported(u64),
    ChangeInvoice(u64),
    Orders,
    Order(u64),
    Histories,
    RecordHistory { alert: bool },
    ResolveHistory(u64),
    Suppliers,
    Supplier(u64),
    CreateSupplier,
    UpdateSupplier(u64),
    Lookups,
    LookupValues,
    LookupValue(u64),
    CreateLookupValue,
    UpdateLookupValue(u64),
    Unknown,
}

impl Route {
    fn of(request: &WireRequest) -> Self {
        let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        let id = |text: &str| text.parse::<u64>().ok();
        match (request.method.as_str(), parts.as_slice()) {
            ("POST", ["oauth2", "token"]) => Self::Token,
            ("GET", ["api", "invoices"]) => Self::Invoices,
            ("GET", ["api", "invoices", number]) => id(number).map_or(Self::Unknown, Self::Invoice),
            ("PUT", ["api", "invoices", number]) => match (id(number), request.parameter("exported")) {
                (Some(id), Some("true")) => Self::MarkExported(id),
                (Some(id), None) => Self::ChangeInvoice(id),
                _ => Self::Unknown,
            },
            ("GET", ["api", "purchase_orders"]) => Self::Orders,
            ("GET", ["api", "purchase_orders", number]) => id(number).map_or(Self::Unknown, Self::Order),
            ("GET", ["api", "integration_history_records"]) => Self::Histories,
            ("POST", ["api", "integration_history_records"]) => Self::RecordHistory { alert: false },
            ("POST", ["api", "integration_history_records", "create_alert"]) => {
                Self::RecordHistory { alert: true }
            }
            ("PUT", ["api", "integration_history_records", number, "resolve"]) => {
                id(number).map_or(Self::Unknown, Self::ResolveHistory)
            }
            ("GET", ["api", "suppliers"]) => Self::Suppliers,
            ("GET", ["api", "suppliers", number]) => id(number).map_or(Self::Unknown, Self::Supplier),
            ("POST", ["api", "suppliers"]) => Self::CreateSupplier,
            ("PUT", ["api", "suppliers", number]) => id(number).map_or(Self::Unknown, Self::UpdateSupplier),
            ("GET", ["api", "lookups"]) => Self::Lookups,
            ("GET", ["api", "lookup_values"]) => Self::LookupValues,
            ("GET", ["api", "lookup_values", number]) => id(number).map_or(Self::Unknown, Self::LookupValue),
            ("POST", ["api", "lookup_values"]) => Self::CreateLookupValue,
            ("PUT", ["api", "lookup_values", number]) => {
                id(number).map_or(Self::Unknown, Self::UpdateLookupValue)
            }
            _ => Self::Unknown,
        }
    }

    fn id(self) -> Option<u64> {
        match self {
            Self::Invoice(id)
            | Self::Order(id)
            | Self::MarkExported(id)
            | Self::ChangeInvoice(id)
            | Self::ResolveHistory(id)
            | Self::Supplier(id)
            | Self::UpdateSupplier(id)
            | Self::LookupValue(id)
            | Self::UpdateLookupValue(id) => Some(id),
            _ => None,
        }
    }

    fn operation(self, request: &WireRequest) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Invoices => "invoices.list",
            Self::Invoice(_) => "invoices.get",
            Self::MarkExported(_) => "invoices.exported",
            // A payment is told apart by its body alone.
            Self::ChangeInvoice(_) if contains(&request.body, b"\"payments\"") => "invoices.pay",
            Self::ChangeInvoice(_) => "invoices.update",
            Self::Orders => "orders.list",
            Self::Order(_) => "orders.get",
            Self::Histories => "history.list",
            Self::RecordHistory { alert: false } => "history.create",
            Self::RecordHistory { alert: true } => "history.alert",
            Self::ResolveHistory(_) => "history.resolve",
            Self::Suppliers => "suppliers.list",
            Self::Supplier(_) => "suppliers.get",
            Self::CreateSupplier => "suppliers.create",
            Self::UpdateSupplier(_) => "suppliers.update",
            Self::Lookups => "lookups.list",
            Self::LookupValues => "lookup-values.list",
            Self::LookupValue(_) => "lookup-values.get",
            Self::CreateLookupValue => "lookup-values.create",
            Self::UpdateLookupValue(_) => "lookup-values.update",
            Self::Unknown => "unknown",
        }
    }
}

fn contains(body: &[u8], needle: &[u8]) -> bool {
    body.windows(needle.len()).any(|window| window == needle)
}

/// Answers one request.
pub fn handle(
    world: &mut World,
    options: &Options,
    request: &WireRequest,
    now: Timestamp,
    late: Option<Timestamp>,
) -> Answer {
    let route = Route::of(request);
    if route == Route::Token {
        return token(world, options, request, now).into();
    }
    if let Some(limit) = options.coupa_rate_limit
        && let Some(wait_ms) = world.coupa.take_request(limit, now)
    {
        let mut response = error(429, "base", "Too many requests");
        let seconds = wait_ms.saturating_add(999).div_euclid(1000).max(1);
        response.headers.push(("retry-after", seconds.to_string()));
        return response.into();
    }
    let good = request
        .authorization("bearer")
        .is_some_and(|token| world.accepts_token(System::Coupa, token, now));
    if !good {
        return error(401, "base", "Unauthorized. Access token is missing or invalid").into();
    }
    if let Some(violation) = violation(request) {
        let response = error(400, "base", &violation);
        return Answer {
            response,
            violation: Some(violation),
        };
    }
    let response = route_answer(world, route, request, now, late);
    if request
        .header("accept")
        .is_some_and(|accept| accept.contains("application/json"))
    {
        return response.into();
    }
    Answer {
        response: as_xml(response),
        violation: Some("no Accept: application/json".to_owned()),
    }
}

fn violation(request: &WireRequest) -> Option<String> {
    let present = |name: &str| request.header(name).is_some_and(|value| !value.trim().is_empty());
    let is_write = request.method != "GET";
    if !present("x-coupa-api-version") {
        return Some("no X-Coupa-API-Version".to_owned());
    }
    if !present("user-agent") {
        return Some("no User-Agent".to_owned());
    }
    if is_write && !present("idempotency-key") {
        return Some("no Idempotency-Key on a write".to_owned());
    }
    let json = request
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"));
    if !request.body.is_empty() && !json {
        return Some("a body without Content-Type: application/json".to_owned());
    }
    if request.parameter("exported") == Some("true") && is_write && !request.body.is_empty() {
        return Some("exported=true with a body: it must be a request of its own".to_owned());
    }
    None
}

fn token(world: &mut World, options: &Options, request: &WireRequest, now: Timestamp) -> WireResponse {
    let form = request.form();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("grant_type") != "client_credentials" {
        return WireResponse::json(400, r#"{"error":"unsupported_grant_type"}"#);
    }
    let known = field("client_id") == options.coupa_client_id
        && field("client_secret") == options.coupa_client_secret.expose_secret();
    if !known {
        return WireResponse::json(401, r#"{"error":"invalid_client"}"#);
    }
    let granted = |scope: &str| options.coupa_scopes.iter().any(|known| known == scope);
    if !field("scope").split_whitespace().all(granted) {
        return WireResponse::json(400, r#"{"error":"invalid_scope"}"#);
    }
    let seconds = options.token_lifetime_seconds;
    let token = world.issue_token(System::Coupa, now, seconds);
    let answer = json!({"access_token": token, "token_type": "bearer", "expires_in": seconds});
    WireResponse::json(200, answer.to_string())
}

/// An error answer in Coupa's JSON form.
pub fn error(status: u16, key: &str, message: &str) -> WireResponse {
    let key = if key.is_empty() { "base" } else { key };
    WireResponse::json(status, json!({"errors": {key: [message]}}).to_string())
}

fn refused(error_: &CoupaError) -> WireResponse {
    error(error_.status, &error_.key, &error_.message)
}

fn route_answer(
    world: &mut World,
    route: Route,
    request: &WireRequest,
    now: Timestamp,
    late: Option<Timestamp>,
) -> WireResponse {
    let objects = |records: Vec<Map<String, Value>>| records.into_iter().map(Value::Object).collect();
    match route {
        Route::Invoices => {
            let ids: Vec<u64> = world.coupa.invoices.keys().copied().collect();
            list(
                request,
                ids.iter()
                    .filter_map(|id| world.coupa.invoice_json(*id))
                    .collect(),
            )
        }
        Route::Invoice(id) => one(request, world.coupa.invoice_json(id)),
        Route::Orders => list(request, objects(world.coupa.orders.values().cloned().collect())),
        Route::Order(id) => one(request, world.coupa.order_json(id)),
        Route::Histories => list(request, objects(world.coupa.history.values().cloned().collect())),
        Route::Suppliers => list(
            request,
            objects(world.coupa.suppliers.values().cloned().collect()),
        ),
        Route::Supplier(id) => one(
            request,
            world.coupa.suppliers.get(&id).cloned().map(Value::Object),
        ),
        Route::LookupValues => list(
            request,
            objects(world.coupa.lookup_values.values().cloned().collect()),
        ),
        Route::LookupValue(id) => one(
            request,
            world.coupa.lookup_values.get(&id).cloned().map(Value::Object),
        ),
        Route::Lookups => {
            let lookups = (1_u32..).zip(&world.coupa.lookups);
            list(
                request,
                lookups
                    .map(|(id, name)| json!({"id": id, "name": name, "active": true}))
                    .collect(),
            )
        }
        Route::Token | Route::Unknown => error(404, "base", "The resource you requested could not be found"),
        Route::MarkExported(id) => write(world, request, Write::MarkExported(id), 200, now, late),
        Route::ResolveHistory(id) => write(world, request, Write::ResolveHistory(id), 200, now, late),
        Route::ChangeInvoice(id) => match body_of(request).and_then(|body| read_change(&body)) {
            Ok(change) => write(world, request, Write::ChangeInvoice(id, change), 200, now, late),
            Err(refusal) => refused(&refusal),
        },
        Route::RecordHistory { .. }
        | Route::CreateSupplier
        | Route::UpdateSupplier(_)
        | Route::CreateLookupValue
        | Route::UpdateLookupValue(_) => match body_of(request) {
            Ok(body) => write_record(world, request, route, body, now, late),
            Err(refusal) => refused(&refusal),
        },
    }
}

fn write_record(
    world: &mut World,
    request: &WireRequest,
    route: Route,
    body: Map<String, Value>,
    now: Timestamp,
    late: Option<Timestamp>,
) -> WireResponse {
    let (what, status) = match route {
        Route::RecordHistory { alert } => (Write::RecordHistory(body, alert), 201),
        Route::CreateSupplier => (Write::CreateSupplier(body), 201),
        Route::UpdateSupplier(id) => (Write::UpdateSupplier(id, body), 200),
        Route::CreateLookupValue => (Write::CreateLookupValue(body), 201),
        Route::UpdateLookupValue(id) => (Write::UpdateLookupValue(id, body), 200),
        _ => return error(404, "base", "The resource you requested could not be found"),
    };
    write(world, request, what, status, now, late)
}

fn body_of(request: &WireRequest) -> Result<Map<String, Value>, CoupaError> {
    serde_json::from_slice(&request.body)
        .map_err(|_| CoupaError::new(400, "base", "The body is no JSON object"))
}

fn write(
    world: &mut World,
    request: &WireRequest,
    what: Write,
    status: u16,
    now: Timestamp,
    late: Option<Timestamp>,
) -> WireResponse {
    match world.submit(what, now, late) {
        Ok(Written::Coupa(record)) => match one(request, Some(record)) {
            answer if answer.status == 200 => WireResponse { status, ..answer },
            answer => answer,
        },
        Ok(_) => WireResponse::json(status, "{}"),
        Err(WriteRefusal::Coupa(refusal)) => refused(&refusal),
        Err(WriteRefusal::Qad(_)) => error(500, "base", "Something went wrong"),
    }
}

fn one(request: &WireRequest, record: Option<Value>) -> WireResponse {
    let Some(record) = record else {
        return error(404, "base", "The resource you requested could not be found");
    };
    match projected(request, record) {
        Ok(record) => WireResponse::json(200, record.to_string()),
        Err(message) => error(400, "fields", &message),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Lists
// ---------------------------------------------------------------------------------------------------------------

const OPERATORS: &[&str] = &[
    "contains",
    "starts_with",
    "ends_with",
    "gt",
    "lt",
    "gt_or_eq",
    "lt_or_eq",
    "not_eq",
    "in",
    "not_in",
    "blank",
];

fn list(request: &WireRequest, mut records: Vec<Value>) -> WireResponse {
    let mut order_by = "id".to_owned();
    let mut descending = false;
    let mut limit = PAGE_RECORDS_MAX;
    let mut offset = 0;
    for (key, value) in &request.query {
        match key.as_str() {
            "order_by" => order_by = hyphens(value),
            "dir" => descending = value == "desc",
            "limit" => {
                limit = value
                    .parse::<usize>()
                    .unwrap_or(PAGE_RECORDS_MAX)
                    .min(PAGE_RECORDS_MAX)
            }
            "offset" => offset = value.parse::<usize>().unwrap_or(0),
            "fields" | "return_object" => {}
            filter => match Filter::of(filter, value) {
                Some(filter) => records.retain(|record| filter.admits(record)),
                None => return error(400, filter, "is not a filter"),
            },
        }
    }
    records.sort_by(|left, right| compare(&text(left.get(&order_by)), &text(right.get(&order_by))));
    if descending {
        records.reverse();
    }
    let page: Result<Vec<Value>, String> = records
        .into_iter()
        .skip(offset)
        .take(limit)
        .map(|record| projected(request, record))
        .collect();
    match page {
        Ok(page) => WireResponse::json(200, Value::Array(page).to_string()),
        Err(message) => error(400, "fields", &message),
    }
}

fn hyphens(name: &str) -> String {
    name.replace('_', "-")
}

struct Filter<'a> {
    path: Vec<String>,
    operator: &'a str,
    value: &'a str,
}

impl<'a> Filter<'a> {
    fn of(key: &'a str, value: &'a str) -> Option<Self> {
        let mut parts: Vec<&str> = key.split('[').map(|part| part.trim_end_matches(']')).collect();
        let operator = match parts.last() {
            Some(last) if parts.len() > 1 && OPERATORS.contains(last) => parts.pop()?,
            _ => "eq",
        };
        let path: Vec<String> = parts.into_iter().map(hyphens).collect();
        (!path.iter().any(String::is_empty)).then_some(Self {
            path,
            operator,
            value,
        })
    }

    fn admits(&self, record: &Value) -> bool {
        let mut values = vec![record];
        for name in &self.path {
            values = values
                .into_iter()
                .flat_map(|value| match value {
                    Value::Array(items) => items.iter().collect(),
                    other => vec![other],
                })
                .filter_map(|value| value.get(name))
                .collect();
        }
        if values.is_empty() {
            return self.accepts("");
        }
        values.into_iter().any(|value| self.accepts(&text(Some(value))))
    }

    fn accepts(&self, actual: &str) -> bool {
        let wanted = self.value;
        let order = compare(actual, wanted);
        let listed = || {
            wanted
                .split(',')
                .any(|one| compare(actual, one.trim()) == Ordering::Equal)
        };
        match self.operator {
            "contains" => actual.contains(wanted),
            "starts_with" => actual.starts_with(wanted),
            "ends_with" => actual.ends_with(wanted),
            "gt" => order == Ordering::Greater,
            "lt" => order == Ordering::Less,
            "gt_or_eq" => order != Ordering::Less,
            "lt_or_eq" => order != Ordering::Greater,
            "not_eq" => order != Ordering::Equal,
            "in" => listed(),
            "not_in" => !listed(),
            "blank" => actual.is_empty() == (wanted == "true"),
            _ => order == Ordering::Equal,
        }
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Numbers as numbers, instants as instants, everything else as text.
fn compare(left: &str, right: &str) -> Ordering {
    if let (Ok(left), Ok(right)) = (left.parse::<i64>(), right.parse::<i64>()) {
        return left.cmp(&right);
    }
    if let (Ok(left), Ok(right)) = (left.parse::<jiff::Timestamp>(), right.parse::<jiff::Timestamp>()) {
        return left.cmp(&right);
    }
    left.cmp(right)
}

/// Applies `fields=[…]`: names, and objects that name the fields below a name.
fn projected(request: &WireRequest, record: Value) -> Result<Value, String> {
    match request.parameter("fields") {
        None => Ok(record),
        Some(fields) => {
            let fields: Value = serde_json::from_str(fields).map_err(|_| "is no JSON list".to_owned())?;
            Ok(project(&record, &fields, FIELDS_DEPTH_MAX))
        }
    }
}

fn project(record: &Value, fields: &Value, depth: usize) -> Value {
    let (Some(wanted), Some(depth)) = (fields.as_array(), depth.checked_sub(1)) else {
        return record.clone();
    };
    if let Value::Array(items) = record {
        return Value::Array(items.iter().map(|item| project(item, fields, depth)).collect());
    }
    let Value::Object(record) = record else {
        return record.clone();
    };
    let mut kept = Map::new();
    for field in wanted {
        match field {
            Value::String(name) => {
                let name = hyphens(name);
                kept.extend(record.get(&name).map(|value| (name, value.clone())));
            }
            Value::Object(nested) => {
                for (name, below) in nested {
                    let name = hyphens(name);
                    kept.extend(
                        record
                            .get(&name)
                            .map(|value| (name, project(value, below, depth))),
                    );
                }
            }
            _ => {}
        }
    }
    Value::Object(kept)
}

// ---------------------------------------------------------------------------------------------------------------
// XML, which is what Coupa answers when JSON is not asked for
// ---------------------------------------------------------------------------------------------------------------

fn as_xml(response: WireResponse) -> WireResponse {
    let value: Value = serde_json::from_str(&response.body).unwrap_or(Value::Null);
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
    write_xml("result", &value, &mut body);
    WireResponse {
        content_type: "application/xml; charset=utf-8",
        body,
        ..response
    }
}

fn write_xml(name: &str, value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| write_xml(name, item, out)),
        Value::Object(fields) => {
            out.push_str(&format!("<{name}>"));
            fields
                .iter()
                .for_each(|(name, value)| write_xml(name, value, out));
            out.push_str(&format!("</{name}>"));
        }
        other => {
            let content = text(Some(other)).replace('&', "&amp;").replace('<', "&lt;");
            out.push_str(&format!("<{name}>{content}</{name}>"));
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Events
// ---------------------------------------------------------------------------------------------------------------

/// The headers of a signed event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEvent {
    /// `X-Coupa-Signature`.
    pub signature: String,
    /// `X-Coupa-Delivery`.
    pub delivery: String,
}

/// Signs an event's body by the scheme `coupa-hmac`. The same body always gets the same delivery id.
pub fn sign_event(secret: &[u8], body: &[u8]) -> SignedEvent {
    // HMAC takes keys of every length, so there is always a signature.
    let signature = match Hmac::<Sha256>::new_from_slice(secret) {
        Ok(mut mac) => {
            mac.update(body);
            hex::encode(mac.finalize().into_bytes())
        }
        Err(_) => String::new(),
    };
    let delivery: String = hex::encode(Sha256::digest(body)).chars().take(32).collect();
    SignedEvent {
        signature: format!("sha256={signature}"),
        delivery,
    }
}

/// The body of an event about an invoice.
pub fn invoice_event(invoice: u64, event: &str, now: Timestamp) -> String {
    json!({
        "event-id": format!("event-{invoice}-{event}-{}", now.0),
        "event-type": "invoice",
        "event": event,
        "occurred-at": now.to_string(),
        "object": {"id": invoice},
    })
    .to_string()
}

/// The body of an event about a purchase order, by Coupa's id of it.
pub fn order_event(order: u64, event: &str, now: Timestamp) -> String {
    json!({
        "event-id": format!("event-order-{order}-{event}-{}", now.0),
        "event-type": "purchase-order",
        "event": event,
        "occurred-at": now.to_string(),
        "object": {"id": order},
    })
    .to_string()
}

#[cfg(test)]
mod tests;
