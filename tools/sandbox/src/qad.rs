//! QAD's door: the wire contract's requests, exactly, on the [`World`].
//!
//! Numbers are written with exactly the digits they have: rows are put together as text, never through floats.

use crate::faults::System;
use crate::http::{Answer, Options, WireRequest, WireResponse};
use crate::world::qad::{
    CodedValue, DOMAIN, ENTITIES, QadRefusal, QadWorld, SHARED_SET, SUPPLIER_INVOICE_VIEW, SUPPLIER_VIEW,
    SupplierInvoice, SupplierInvoiceRecord, qad_date, text_of,
};
use crate::world::{World, Write, WriteRefusal, Written};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::ids::fold;
use domain::money::parse_decimal;
use domain::time::{Timestamp, date_as_written};
use rust_decimal::Decimal;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Context root of the simulated tenant, part of its base URL.
pub const CONTEXT_ROOT: &str = "/clouderp";
/// Severity of an error in `errors[]`.
pub const SEVERITY_ERROR: u8 = 1;
/// Severity of a warning in `errors[]`.
pub const SEVERITY_WARNING: u8 = 2;
/// Site of the simulated tenant.
const SITE: &str = "10-100";

const ORDERS_BROWSE: &str = "urn:browse:mfg:po804";
const RECEIPTS_BROWSE: &str = "urn:browse:mfg:po041";
const CHANGED_INVOICES_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.supplierInvoices";
const PAYMENTS_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.supplierPayments";
const SUPPLIERS_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.base.supplierV2s";
const COST_CENTERS_BROWSE: &str = "urn:browse:mfg:gp059";
const PROJECTS_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.projects";
/// A browse that a tenant made itself: values below values.
const SUB_ACCOUNTS_BROWSE: &str = "urn:browse:custom:sub-accounts";
const DAYBOOKS_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.daybooks";
const INVOICE_STATUSES_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.invoiceStatusCodes";
const CREDIT_TERMS_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.creditTerms";
const CURRENCIES_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.currencies";
const PERIODS_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.periods";
const GL_ACCOUNTS_BROWSE: &str = "urn:browse:bebrowse:com.qad.erp.financials.glAccounts";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Token,
    Login,
    Browse,
    FindInvoices,
    CreateInvoice,
    ReadSupplier,
    SaveSupplier,
    BusinessDocument,
    Unknown,
}

impl Route {
    fn of(request: &WireRequest) -> Self {
        let Some(path) = request.path.strip_prefix(CONTEXT_ROOT) else {
            return Self::Unknown;
        };
        match (request.method.as_str(), path) {
            ("POST", "/oauth/token") => Self::Token,
            ("POST", "/api/login") => Self::Login,
            ("GET", "/api/qracore/browses") => Self::Browse,
            ("GET", "/api/erp/supplierInvoices") => Self::FindInvoices,
            ("POST", "/api/erp/supplierInvoices") => Self::CreateInvoice,
            ("GET", "/api/erp/supplierV2s") => Self::ReadSupplier,
            ("POST", "/api/erp/supplierV2s") => Self::SaveSupplier,
            ("POST", path) if path.starts_with("/api/bdoc/") => Self::BusinessDocument,
            _ => Self::Unknown,
        }
    }
}

/// What a request is, for faults and the journal: its operation and the ids it is about.
pub fn describe(request: &WireRequest) -> (&'static str, Vec<String>) {
    let mut keys: Vec<String> = Vec::new();
    for name in ["supplierCode", "supplierInvoiceReference"] {
        keys.extend(request.parameter(name).map(str::to_owned));
    }
    let body = || serde_json::from_slice::<Value>(&request.body).unwrap_or(Value::Null);
    let first_text =
        |body: &Value, pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let operation = match Route::of(request) {
        Route::Token => "token",
        Route::Login => "login",
        Route::FindInvoices => "supplier-invoices.find",
        Route::CreateInvoice => {
            let body = body();
            keys.extend(first_text(&body, "/supplierInvoices/0/supplierCode"));
            keys.extend(first_text(&body, "/supplierInvoices/0/supplierInvoiceReference"));
            "supplier-invoices.create"
        }
        Route::ReadSupplier => "suppliers.read",
        Route::SaveSupplier => {
            let body = body();
            keys.extend(first_text(&body, "/supplierV2s/0/supplierCode"));
            if first_text(&body, "/supplierV2s/0/dataOperation").as_deref() == Some("U") {
                "suppliers.update"
            } else {
                "suppliers.create"
            }
        }
        Route::BusinessDocument => "documents.create",
        Route::Unknown => "unknown",
        Route::Browse => {
            let filters = request.query.iter().filter(|(key, _)| key == "filter");
            let filters: Vec<_> = filters.filter_map(|(_, filter)| Filter::of(filter)).collect();
            keys.extend(
                filters
                    .into_iter()
                    .filter(|one| one.field.ends_with("_nbr"))
                    .map(|one| one.value),
            );
            match request.parameter("browseId").unwrap_or_default() {
                ORDERS_BROWSE => "browse.orders",
                RECEIPTS_BROWSE => "browse.receipts",
                PAYMENTS_BROWSE => "browse.payments",
                CHANGED_INVOICES_BROWSE => "browse.changed-invoices",
                SUPPLIERS_BROWSE => "browse.suppliers",
                COST_CENTERS_BROWSE => "browse.cost-centers",
                PROJECTS_BROWSE => "browse.projects",
                GL_ACCOUNTS_BROWSE => "browse.gl-accounts",
                SUB_ACCOUNTS_BROWSE => "browse.sub-accounts",
                DAYBOOKS_BROWSE => "browse.daybooks",
                INVOICE_STATUSES_BROWSE => "browse.invoice-statuses",
                CREDIT_TERMS_BROWSE => "browse.credit-terms",
                CURRENCIES_BROWSE => "browse.currencies",
                PERIODS_BROWSE => "browse.periods",
                _ => "browse.unknown",
            }
        }
    };
    (operation, keys)
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
    match route {
        Route::Token => return token(world, options, request, now).into(),
        Route::Login => return login(world, options, request, now).into(),
        _ => {}
    }
    if !authorized(world, options, request, now) {
        return bare_error(401, "401", "Authentication is required").into();
    }
    let asks_json = request
        .header("accept")
        .is_some_and(|accept| accept.contains("application/json"));
    let has_agent = request
        .header("user-agent")
        .is_some_and(|agent| !agent.trim().is_empty());
    let sends_json = request
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("application/json"));
    let violation = match () {
        () if !asks_json => Some("no Accept: application/json"),
        () if !has_agent => Some("no User-Agent"),
        () if !request.body.is_empty() && !sends_json => {
            Some("a body without Content-Type: application/json")
        }
        () => None,
    };
    if let Some(violation) = violation {
        return broken_contract(violation);
    }
    match route {
        Route::Browse => browse(&world.qad, request),
        Route::FindInvoices => find_invoices(&world.qad, request).into(),
        Route::CreateInvoice => create_invoice(world, request, now, late).into(),
        Route::ReadSupplier => read_supplier(&world.qad, request).into(),
        Route::SaveSupplier => save_supplier(world, request, now, late).into(),
        Route::BusinessDocument => create_documents(world, request, now, late).into(),
        Route::Token | Route::Login | Route::Unknown => bare_error(404, "404", "Not found").into(),
    }
}

fn broken_contract(violation: &str) -> Answer {
    Answer {
        response: bare_error(400, "400", violation),
        violation: Some(violation.to_owned()),
    }
}

fn authorized(world: &mut World, options: &Options, request: &WireRequest, now: Timestamp) -> bool {
    if let Some(token) = request.authorization("bearer") {
        return world.accepts_token(System::Qad, token, now);
    }
    let basic = request
        .authorization("basic")
        .and_then(|text| STANDARD.decode(text).ok());
    let expected = format!("{}:{}", options.qad_user, options.qad_password.expose_secret());
    basic.is_some_and(|given| given == expected.as_bytes())
}

fn token(world: &mut World, options: &Options, request: &WireRequest, now: Timestamp) -> WireResponse {
    let form = request.form();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let client = field("client_id") == options.qad_client_id;
    let good = match field("grant_type") {
        "password" => {
            client
                && field("username") == options.qad_user
                && field("password") == options.qad_password.expose_secret()
        }
        "client_credentials" => client && field("client_secret") == options.qad_client_secret.expose_secret(),
        "refresh_token" => client && field("refresh_token").starts_with("qad-token-"),
        _ => return WireResponse::json(400, r#"{"error":"unsupported_grant_type"}"#),
    };
    if !good {
        return WireResponse::json(401, r#"{"error":"invalid_grant"}"#);
    }
    let seconds = options.token_lifetime_seconds;
    let token = world.issue_token(System::Qad, now, seconds);
    let answer = json!({"access_token": token, "refresh_token": token, "expires_in": seconds});
    WireResponse::json(200, answer.to_string())
}

/// A login that answers a session token: `{"username","password"}` → `{"access_token"}`.
fn login(world: &mut World, options: &Options, request: &WireRequest, now: Timestamp) -> WireResponse {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    if field("username") != options.qad_user || field("password") != options.qad_password.expose_secret() {
        return WireResponse::json(401, r#"{"error":"invalid_grant"}"#);
    }
    let token = world.issue_token(System::Qad, now, options.token_lifetime_seconds);
    WireResponse::json(200, json!({"access_token": token}).to_string())
}

fn bare_error(status: u16, code: &str, message: &str) -> WireResponse {
    let error = QadRefusal::new(code, "", message);
    WireResponse::json(status, json!({"errors": [error]}).to_string())
}

/// A save that was not done: 200 with `submitResult.success` false.
pub fn refusal(code: &str, field: &str, message: &str, severity: u8) -> WireResponse {
    let error = QadRefusal {
        severity,
        ..QadRefusal::new(code, field, message)
    };
    refusals(&[error])
}

fn refusals(errors: &[QadRefusal]) -> WireResponse {
    let answer =
        json!({"data": {}, "submitResult": {"success": false, "errorSeverity": 1, "errors": errors}});
    WireResponse::json(200, answer.to_string())
}

/// A good answer around records that are JSON text already.
fn entity_answer(plural: &str, records: &[String]) -> WireResponse {
    let body = format!(
        r#"{{"data":{{"{plural}":[{}]}},"submitResult":{{"success":true,"errorSeverity":0,"errors":[]}}}}"#,
        records.join(",")
    );
    WireResponse::json(200, body)
}

fn write_answer(result: Result<Written, WriteRefusal>) -> WireResponse {
    match result {
        Ok(Written::SupplierInvoice(created)) => invoices_answer(&[&created]),
        Ok(Written::QadSupplier(record)) => {
            entity_answer("supplierV2s", &[Value::Object(record).to_string()])
        }
        Ok(Written::Documents) => WireResponse::json(201, "[]"),
        Ok(Written::Later | Written::Coupa(_)) => WireResponse::json(200, "{}"),
        Err(WriteRefusal::Qad(errors)) => refusals(&errors),
        Err(WriteRefusal::Coupa(_)) => bare_error(500, "500", "Internal error"),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Entities
// ---------------------------------------------------------------------------------------------------------------

fn invoices_answer(invoices: &[&SupplierInvoice]) -> WireResponse {
    let texts: Result<Vec<String>, _> = invoices.iter().map(serde_json::to_string).collect();
    match texts {
        Ok(texts) => entity_answer("supplierInvoices", &texts),
        Err(error) => bare_error(500, "500", &error.to_string()),
    }
}

/// The keys of an entity request, or the answer to give when view or keys are wrong.
fn entity_keys<const N: usize>(
    request: &WireRequest,
    view: &str,
    names: [&str; N],
) -> Result<[String; N], WireResponse> {
    if request.parameter("viewUri") != Some(view) {
        return Err(bare_error(404, "404", "View not found"));
    }
    if let Some(missing) = names
        .iter()
        .find(|name| request.parameter(name).is_none_or(str::is_empty))
    {
        return Err(bare_error(400, "400", &format!("Key {missing} is missing")));
    }
    Ok(names.map(|name| request.parameter(name).unwrap_or_default().to_owned()))
}

fn find_invoices(qad: &QadWorld, request: &WireRequest) -> WireResponse {
    let names = ["entityCode", "supplierCode", "supplierInvoiceReference"];
    match entity_keys(request, SUPPLIER_INVOICE_VIEW, names) {
        Ok([entity, supplier, reference]) => {
            let found: Vec<_> = qad.find_invoices(&entity, &supplier, &reference).collect();
            invoices_answer(&found)
        }
        Err(response) => response,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InvoicesBody {
    supplier_invoices: Vec<SupplierInvoiceRecord>,
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "part of the envelope; nothing in it changes what is saved"
    )]
    supplementary_messages: Vec<Value>,
}

fn create_invoice(
    world: &mut World,
    request: &WireRequest,
    now: Timestamp,
    late: Option<Timestamp>,
) -> WireResponse {
    if request.parameter("viewUri") != Some(SUPPLIER_INVOICE_VIEW) {
        return bare_error(404, "404", "View not found");
    }
    if request.parameter("supplierInvoiceReference").is_some() {
        return bare_error(404, "404", "Record not found");
    }
    let body: InvoicesBody = match serde_json::from_slice(&request.body) {
        Ok(body) => body,
        Err(error) => return bare_error(400, "400", &format!("The body cannot be read: {error}")),
    };
    let mut records = body.supplier_invoices.into_iter();
    match (records.next(), records.next()) {
        (Some(record), None) => {
            write_answer(world.submit(Write::CreateSupplierInvoice(Box::new(record)), now, late))
        }
        _ => bare_error(400, "400", "Exactly one record is expected"),
    }
}

fn read_supplier(qad: &QadWorld, request: &WireRequest) -> WireResponse {
    match entity_keys(request, SUPPLIER_VIEW, ["sharedSetCode", "supplierCode"]) {
        Ok([set, code]) => {
            let found = qad
                .suppliers
                .get(&fold(&code))
                .filter(|record| fold(&text_of(record, "sharedSetCode")) == fold(&set));
            let records: Vec<String> = found
                .map(|record| Value::Object(record.clone()).to_string())
                .into_iter()
                .collect();
            entity_answer("supplierV2s", &records)
        }
        Err(response) => response,
    }
}

fn save_supplier(
    world: &mut World,
    request: &WireRequest,
    now: Timestamp,
    late: Option<Timestamp>,
) -> WireResponse {
    if request.parameter("viewUri") != Some(SUPPLIER_VIEW) {
        return bare_error(404, "404", "View not found");
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let records = body.get("supplierV2s").and_then(Value::as_array);
    let Some([Value::Object(record)]) = records.map(Vec::as_slice) else {
        return bare_error(400, "400", "Exactly one record is expected");
    };
    let keyed = request.parameter("supplierCode").is_some();
    if keyed != (text_of(record, "dataOperation") == "U") {
        return refusal(
            "OPERATION",
            "dataOperation",
            "Keys belong to an update and only there",
            SEVERITY_ERROR,
        );
    }
    write_answer(world.submit(Write::SaveQadSupplier(record.clone()), now, late))
}

fn create_documents(
    world: &mut World,
    request: &WireRequest,
    now: Timestamp,
    late: Option<Timestamp>,
) -> WireResponse {
    let component = request
        .path
        .trim_start_matches(CONTEXT_ROOT)
        .trim_start_matches("/api/bdoc/")
        .to_owned();
    match serde_json::from_slice::<Vec<Value>>(&request.body) {
        Ok(documents) => {
            write_answer(world.submit(Write::CreateBusinessDocuments(component, documents), now, late))
        }
        Err(_) => bare_error(400, "400", "A JSON array is expected"),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Browses
// ---------------------------------------------------------------------------------------------------------------

/// A value of a row.
enum Cell {
    Text(String),
    Number(Decimal),
    Flag(bool),
    Null,
}

impl Cell {
    fn to_json(&self) -> String {
        match self {
            Self::Text(text) => Value::from(text.as_str()).to_string(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
            Self::Null => "null".to_owned(),
        }
    }

    /// Numbers as numbers, dates as dates, texts as QAD compares codes.
    fn compare(&self, literal: &str) -> Ordering {
        match self {
            Self::Number(number) => match parse_decimal(literal) {
                Ok(other) => number.cmp(&other),
                Err(_) => number.to_string().as_str().cmp(literal),
            },
            Self::Flag(flag) => flag.to_string().as_str().cmp(literal),
            Self::Null => "".cmp(literal),
            Self::Text(text) => match (date_as_written(text), date_as_written(literal)) {
                (Some(left), Some(right)) => left.cmp(&right),
                _ => fold(text).cmp(&fold(literal)),
            },
        }
    }

    fn folded(&self) -> String {
        match self {
            Self::Text(text) => fold(text),
            other => other.to_json(),
        }
    }
}

type Row = BTreeMap<&'static str, Cell>;

fn text(value: &str) -> Cell {
    Cell::Text(value.to_owned())
}

/// One `filter=<field>,<op>,<value>,literal`.
struct Filter {
    field: String,
    operator: String,
    value: String,
}

impl Filter {
    fn of(filter: &str) -> Option<Self> {
        let (field, rest) = filter.split_once(',')?;
        let (operator, rest) = rest.split_once(',')?;
        let value = rest.strip_suffix(",literal")?;
        let known = ["eq", "gt", "ge", "lt", "le", "cn", "sw", "ew"].contains(&operator);
        known.then(|| Self {
            field: field.to_owned(),
            operator: operator.to_owned(),
            value: value.to_owned(),
        })
    }

    fn admits(&self, cell: &Cell) -> bool {
        let order = cell.compare(&self.value);
        match self.operator.as_str() {
            "eq" => order == Ordering::Equal,
            "gt" => order == Ordering::Greater,
            "ge" => order != Ordering::Less,
            "lt" => order == Ordering::Less,
            "le" => order != Ordering::Greater,
            "cn" => cell.folded().contains(&fold(&self.value)),
            "sw" => cell.folded().starts_with(&fold(&self.value)),
            _ => cell.folded().ends_with(&fold(&self.value)),
        }
    }
}

fn browse(qad: &QadWorld, request: &WireRequest) -> Answer {
    let Some((columns, mut rows)) = rows_of(qad, request.parameter("browseId").unwrap_or_default()) else {
        return browse_answer(&[], false).into();
    };
    for (_, given) in request.query.iter().filter(|(key, _)| key == "filter") {
        let Some(filter) = Filter::of(given) else {
            return broken_contract(&format!("filter {given} is not <field>,<op>,<value>,literal"));
        };
        let Some(column) = columns.iter().find(|column| **column == filter.field) else {
            return broken_contract(&format!("the browse has no column {}", filter.field));
        };
        rows.retain(|row| row.get(column).is_some_and(|cell| filter.admits(cell)));
    }
    let number = |name: &str| {
        request
            .parameter(name)
            .and_then(|text| text.parse::<usize>().ok())
    };
    // Without its page parameters a browse answers no rows (seen).
    let (Some(page), Some(size)) = (number("page"), number("pageSize")) else {
        return browse_answer(&[], false).into();
    };
    let action = if page == 1 { "first" } else { "next" };
    if page == 0 || size == 0 || request.parameter("pageAction") != Some(action) {
        return browse_answer(&[], false).into();
    }
    let skip = page.saturating_sub(1).saturating_mul(size);
    let more = rows.len() > skip.saturating_add(size);
    let page: Vec<&Row> = rows.iter().skip(skip).take(size).collect();
    browse_answer(&page, more).into()
}

fn browse_answer(rows: &[&Row], more: bool) -> WireResponse {
    let rows: Vec<String> = rows
        .iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .map(|(name, cell)| format!("\"{name}\":{}", cell.to_json()))
                .collect();
            format!("{{{}}}", cells.join(","))
        })
        .collect();
    let body = format!(
        r#"{{"data":[{}],"auxillaryData":{{"HasMoreParams":"{more}"}}}}"#,
        rows.join(",")
    );
    WireResponse::json(200, body)
}

/// Columns and rows of a browse; nothing for one that does not exist.
fn rows_of(qad: &QadWorld, browse: &str) -> Option<(Vec<&'static str>, Vec<Row>)> {
    let (columns, rows): (&[&'static str], Vec<Row>) = match browse {
        ORDERS_BROWSE => (ORDER_COLUMNS, order_rows(qad)),
        RECEIPTS_BROWSE => (RECEIPT_COLUMNS, receipt_rows(qad)),
        PAYMENTS_BROWSE => (PAYMENT_COLUMNS, payment_rows(qad)),
        CHANGED_INVOICES_BROWSE => (CHANGED_INVOICE_COLUMNS, changed_invoice_rows(qad)),
        SUPPLIERS_BROWSE => (SUPPLIER_COLUMNS, supplier_rows(qad)),
        COST_CENTERS_BROWSE => {
            let columns: &[&'static str] = &[
                "cc_mstr.cc_ctr",
                "cc_mstr.cc_desc",
                "cc_mstr.cc_active",
                "cc_mstr.cc_domain",
            ];
            let mut rows = coded_rows(&qad.cost_centers, columns);
            for row in &mut rows {
                row.insert("cc_mstr.cc_domain", text(DOMAIN));
            }
            (columns, rows)
        }
        PROJECTS_BROWSE => {
            let columns: &[&'static str] = &[
                "project.projectCode",
                "project.projectDescription",
                "project.isActive",
            ];
            (columns, coded_rows(&qad.projects, columns))
        }
        GL_ACCOUNTS_BROWSE => {
            let columns: &[&'static str] = &[
                "glAccount.glAccountCode",
                "glAccount.description",
                "glAccount.isActive",
            ];
            (columns, coded_rows(&qad.gl_accounts, columns))
        }
        DAYBOOKS_BROWSE => {
            let columns: &[&'static str] = &["daybook.daybookCode", "daybook.isActive"];
            (columns, active_rows(qad.daybooks.all(), columns))
        }
        INVOICE_STATUSES_BROWSE => {
            let columns: &[&'static str] = &[
                "invoiceStatusCode.invoiceStatusCode",
                "invoiceStatusCode.isActive",
            ];
            (columns, active_rows(qad.invoice_statuses.iter(), columns))
        }
        CREDIT_TERMS_BROWSE => {
            let columns: &[&'static str] = &["creditTerm.creditTermsCode", "creditTerm.isActive"];
            (columns, active_rows(qad.credit_terms.iter(), columns))
        }
        CURRENCIES_BROWSE => {
            let columns: &[&'static str] = &["currency.currencyCode", "currency.isActive"];
            (columns, active_rows(qad.currencies.iter(), columns))
        }
        PERIODS_BROWSE => {
            let columns: &[&'static str] = &[
                "period.entityCode",
                "period.startDate",
                "period.endDate",
                "period.isApLocked",
            ];
            let listed = qad.listed_periods();
            let rows = ENTITIES.iter().flat_map(|(entity, _)| {
                listed.iter().map(move |period| {
                    let cells = [
                        text(entity),
                        text(&qad_date(period.start)),
                        text(&qad_date(period.end)),
                        Cell::Flag(period.locked),
                    ];
                    row(columns, cells)
                })
            });
            (columns, rows.collect())
        }
        SUB_ACCOUNTS_BROWSE => {
            let columns: &[&'static str] = &[
                "sb_mstr.sb_sub",
                "sb_mstr.sb_desc",
                "sb_mstr.sb_active",
                "sb_mstr.sb_parent",
            ];
            let rows = qad.sub_accounts.iter().map(|(value, parent)| {
                let cells = [
                    text(&value.code),
                    text(&value.description),
                    Cell::Flag(value.active),
                    text(parent),
                ];
                row(columns, cells)
            });
            (columns, rows.collect())
        }
        _ => return None,
    };
    Some((columns.to_vec(), rows))
}

fn row<const N: usize>(columns: &[&'static str], cells: [Cell; N]) -> Row {
    columns.iter().copied().zip(cells).collect()
}

const ORDER_COLUMNS: &[&str] = &[
    "pod_det.pod_domain",
    "pod_det.pod_nbr",
    "pod_det.pod_line",
    "pod_det.pod_part",
    "pod_det.pod_desc",
    "pod_det.pod_um",
    "pod_det.pod_qty_ord",
    "pod_det.pod_qty_rcvd",
    "pod_det.pod_pur_cost",
    "pod_det.pod_status",
    "po_mstr.po_vend",
    "po_mstr.po_curr",
    "po_mstr.po_stat",
    "po_mstr.po_entity",
    "po_mstr.po_site",
    "po_mstr.po_ers_opt",
    "pod_det.pod_ers_opt",
    "pod_det.pod_disc_pct",
    "pod_det.pod_sched",
    "pod_det.pod_consignment",
];

fn order_rows(qad: &QadWorld) -> Vec<Row> {
    let mut rows = Vec::new();
    for order in qad.orders.values() {
        for line in &order.lines {
            rows.push(row(
                ORDER_COLUMNS,
                [
                    text(&order.domain),
                    text(&order.number),
                    Cell::Number(Decimal::from(line.number)),
                    text(&line.part),
                    text(&line.description),
                    text(&line.unit),
                    Cell::Number(line.ordered.0),
                    Cell::Number(qad.received(&order.domain, &order.number, line.number)),
                    Cell::Number(line.unit_price.0),
                    text(&line.status),
                    text(&order.supplier),
                    text(&order.currency),
                    text(&order.status),
                    text(order.entity()),
                    text(SITE),
                    text(if order.evaluated_receipts { "2" } else { "1" }),
                    text(&line.terms.evaluated_receipts),
                    Cell::Number(line.terms.discount_percent.0),
                    Cell::Flag(line.terms.scheduled),
                    Cell::Flag(line.terms.consignment),
                ],
            ));
        }
    }
    rows
}

const RECEIPT_COLUMNS: &[&str] = &[
    "prh_hist.prh_domain",
    "prh_hist.prh_receiver",
    "prh_hist.prh_nbr",
    "prh_hist.prh_line",
    "prh_hist.prh_part",
    "prh_hist.prh_vend",
    "prh_hist.prh_rcvd",
    "prh_hist.prh_rcp_type",
    "prh_hist.prh_um",
    "prh_hist.prh_rcp_date",
    "prh_hist.prh_ps_nbr",
    "prh_hist.prh_pur_cost",
    "prh_hist.prh_curr",
    "pvo_mstr.pvo_vouchered_qty",
    "pvo_mstr.pvo_lc_charge",
    "pvo_mstr.pvo_trans_qty",
    "pvo_mstr.pvo_last_voucher",
    "prh_hist.prh_curr_amt",
];

fn receipt_rows(qad: &QadWorld) -> Vec<Row> {
    let of = |receipt: &crate::world::qad::QadReceipt| {
        let order = qad.order(&receipt.domain, &receipt.order)?;
        let line = order.lines.iter().find(|line| line.number == receipt.line)?;
        Some(row(
            RECEIPT_COLUMNS,
            [
                text(&receipt.domain),
                text(&receipt.receiver),
                text(&receipt.order),
                Cell::Number(Decimal::from(receipt.line)),
                text(&line.part),
                text(&order.supplier),
                Cell::Number(receipt.quantity.0),
                text(if receipt.is_return { "R" } else { "" }),
                text(&line.unit),
                text(&qad_date(receipt.date)),
                text(&receipt.packing_slip),
                Cell::Number(line.unit_price.0),
                text(&order.currency),
                Cell::Number(receipt.vouchered.0),
                text(&receipt.logistics_charge),
                if receipt.consigned {
                    Cell::Null
                } else {
                    Cell::Number(receipt.quantity.0)
                },
                text(if receipt.finished { "LAST" } else { "" }),
                Cell::Number(receipt.unit_cost.unwrap_or_else(|| line.net_price()).0),
            ],
        ))
    };
    qad.receipts.iter().filter_map(of).collect()
}

const PAYMENT_COLUMNS: &[&str] = &[
    "supplierPayment.entityCode",
    "supplierPayment.paymentYear",
    "supplierPayment.paymentInstrument",
    "supplierPayment.paymentNumber",
    "supplierPayment.allocationNumber",
    "supplierPayment.paymentReference",
    "supplierPayment.supplierCode",
    "supplierPayment.status",
    "supplierPayment.currencyCode",
    "supplierPayment.paymentDate",
    "supplierPayment.lastModifiedDate",
    "supplierPayment.supplierInvoiceReference",
    "supplierPayment.invoiceType",
    "supplierPayment.allocatedAmount",
    "supplierPayment.discountAmount",
    "supplierPayment.invoiceEntityCode",
    "supplierPayment.invoiceAllocatedAmount",
    "supplierPayment.invoicePostingYear",
    "supplierPayment.invoiceVoucher",
];

fn payment_rows(qad: &QadWorld) -> Vec<Row> {
    qad.payments
        .iter()
        .map(|payment| {
            row(
                PAYMENT_COLUMNS,
                [
                    text(payment.payer()),
                    Cell::Number(Decimal::from(payment.year)),
                    text(&payment.instrument),
                    Cell::Number(Decimal::from(payment.number)),
                    Cell::Number(Decimal::from(payment.allocation)),
                    text(&payment.reference),
                    text(&payment.supplier),
                    text(&payment.status),
                    text(&payment.currency),
                    text(&qad_date(payment.payment_date)),
                    text(&qad_date(payment.last_modified)),
                    text(&payment.invoice_reference),
                    text(&payment.invoice_type),
                    Cell::Number(payment.allocated.0),
                    Cell::Number(payment.discount.0),
                    text(payment.owner()),
                    optional(payment.invoice_allocated.map(|amount| amount.0)),
                    optional(payment.invoice_voucher.map(|(year, _)| Decimal::from(year))),
                    optional(payment.invoice_voucher.map(|(_, number)| Decimal::from(number))),
                ],
            )
        })
        .collect()
}

/// A figure that the tenant may leave blank.
fn optional(figure: Option<Decimal>) -> Cell {
    figure.map_or_else(|| text(""), Cell::Number)
}

const CHANGED_INVOICE_COLUMNS: &[&str] = &[
    "supplierInvoice.entityCode",
    "supplierInvoice.supplierCode",
    "supplierInvoice.supplierInvoiceReference",
    "supplierInvoice.invoiceType",
    "supplierInvoice.postingYear",
    "supplierInvoice.voucher",
    "supplierInvoice.currencyCode",
    "supplierInvoice.isOpen",
    "supplierInvoice.balance",
    "supplierInvoice.lastModifiedDate",
];

fn changed_invoice_rows(qad: &QadWorld) -> Vec<Row> {
    qad.invoices
        .iter()
        .map(|invoice| {
            row(
                CHANGED_INVOICE_COLUMNS,
                [
                    text(&invoice.record.entity_code),
                    text(&invoice.record.supplier_code),
                    text(&invoice.record.supplier_invoice_reference),
                    text(&invoice.record.invoice_type),
                    Cell::Number(Decimal::from(invoice.posting_year)),
                    Cell::Number(Decimal::from(invoice.voucher)),
                    text(&invoice.record.currency_code),
                    Cell::Flag(!qad.owed(invoice).is_zero()),
                    Cell::Number(qad.owed(invoice)),
                    text(&qad_date(qad.changed_on(invoice))),
                ],
            )
        })
        .collect()
}

const SUPPLIER_COLUMNS: &[&str] = &[
    "supplierV2.sharedSetCode",
    "supplierV2.supplierCode",
    "supplierV2.businessRelationCode",
    "supplierV2.businessRelationName",
    "supplierV2.isActive",
    "supplierV2.currencyCode",
    "supplierV2.creditTermsCode",
    "supplierV2.taxIDFederal",
    "supplierV2.street1",
    "supplierV2.city",
    "supplierV2.zipCode",
    "supplierV2.stateCode",
    "supplierV2.countryCode",
    "supplierV2.EMail",
    "supplierV2.lastModifiedDate",
];

fn supplier_rows(qad: &QadWorld) -> Vec<Row> {
    let cell = |record: &Map<String, Value>, column: &str| {
        let name = column.strip_prefix("supplierV2.").unwrap_or(column);
        match record.get(name) {
            Some(Value::Bool(flag)) => Cell::Flag(*flag),
            _ if name == "sharedSetCode" && text_of(record, name).is_empty() => text(SHARED_SET),
            _ => Cell::Text(text_of(record, name)),
        }
    };
    qad.suppliers
        .values()
        .map(|record| {
            SUPPLIER_COLUMNS
                .iter()
                .map(|column| (*column, cell(record, column)))
                .collect()
        })
        .collect()
}

fn coded_rows(values: &[CodedValue], columns: &[&'static str]) -> Vec<Row> {
    values
        .iter()
        .map(|value| {
            row(
                columns,
                [
                    text(&value.code),
                    text(&value.description),
                    Cell::Flag(value.active),
                ],
            )
        })
        .collect()
}

/// Codes that are all active.
fn active_rows<'a>(codes: impl Iterator<Item = &'a String>, columns: &[&'static str]) -> Vec<Row> {
    codes
        .map(|code| row(columns, [text(code), Cell::Flag(true)]))
        .collect()
}

#[cfg(test)]
mod tests;
