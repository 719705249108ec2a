//! Coupa's requests, exactly as they go over the wire. Names and shapes of Coupa's stop here and in `translate`.

use crate::connection::IntegrationHistory;
use crate::http::address::BaseUrl;
use domain::explain::Standing;
use domain::ids::InvoiceId;
use domain::time::Date;
use flows::ports::DocumentOutcome;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most records on a page (confirmed by Coupa's reference).
pub(crate) const PAGE_RECORDS: usize = 50;
/// What a listing asks for of each invoice.
const HEAD_FIELDS: [&str; 3] = ["id", "status", "updated-at"];
/// Coupa's word for an invoice as a document.
const INVOICE_DOCUMENT_TYPE: &str = "InvoiceHeader";

/// One invoice, whole.
pub(crate) fn invoice(base: &BaseUrl, id: InvoiceId) -> String {
    base.at(&format!("/api/invoices/{id}"), &[])
}

/// Several invoices, whole. The operator `in` with commas between its values is confirmed; Coupa's reference describes what a list
/// holds as the same object as the single document, and that it is filled in as far is assumed.
pub(crate) fn invoices_together(base: &BaseUrl, ids: &[InvoiceId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    together(base, "/api/invoices", "id[in]", &ids)
}

/// Several orders by Coupa's number of them, whole.
pub(crate) fn orders_together(base: &BaseUrl, numbers: &[String]) -> String {
    together(base, "/api/purchase_orders", "po-number[in]", numbers)
}

fn together(base: &BaseUrl, path: &str, filter: &str, values: &[String]) -> String {
    let query = [
        (filter, values.join(",")),
        ("order_by", "id".to_owned()),
        ("dir", "asc".to_owned()),
        ("limit", PAGE_RECORDS.to_string()),
    ];
    base.at(path, &query)
}

/// Where people see an invoice in Coupa (seen in the wild, not in Coupa's reference).
pub(crate) fn invoice_page(base: &BaseUrl, id: InvoiceId) -> String {
    base.at(&format!("/invoices/{id}"), &[])
}

/// The parameter `fields` of a listing: what every head needs, and the fields that say whose it is. Nested as Coupa
/// writes it: `{"account-type":["name"]}`.
fn head_fields(asked: &[String]) -> String {
    let nested = |path: &String| {
        let mut names = path.rsplit('.');
        let last = serde_json::Value::from(names.next().unwrap_or_default());
        names.fold(last, |below, name| serde_json::json!({ name: [below] }))
    };
    let all: Vec<serde_json::Value> = HEAD_FIELDS
        .into_iter()
        .map(serde_json::Value::from)
        .chain(asked.iter().map(nested))
        .collect();
    serde_json::Value::from(all).to_string()
}

/// Which invoices a connection lists, and what it asks of each.
#[derive(Clone, Copy)]
pub(crate) struct Listing<'a> {
    /// Further parameters of the query, the connection's own.
    pub(crate) filter: &'a BTreeMap<String, String>,
    /// Paths of the fields that say whose an invoice is.
    pub(crate) fields: &'a [String],
}

impl Listing<'_> {
    fn at(&self, base: &BaseUrl, first: Vec<(&str, String)>, after: InvoiceId) -> String {
        let mut query = first;
        query.extend(
            self.filter
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone())),
        );
        query.extend([
            ("id[gt]", after.to_string()),
            ("order_by", "id".to_owned()),
            ("dir", "asc".to_owned()),
            ("limit", PAGE_RECORDS.to_string()),
            ("fields", head_fields(self.fields)),
        ]);
        base.at("/api/invoices", &query)
    }
}

/// One page of invoices to be exported, by id after `after` (keyset: an offset would skip records as flags change).
pub(crate) fn exportable_invoices(base: &BaseUrl, listing: Listing<'_>, after: InvoiceId) -> String {
    let first = vec![
        ("exported", "false".to_owned()),
        ("status[in]", "approved,voided".to_owned()),
    ];
    listing.at(base, first, after)
}

/// One page of approved invoices by their date, exported or not, by id after `after`.
pub(crate) fn approved_invoices(
    base: &BaseUrl,
    listing: Listing<'_>,
    from: Date,
    until: Option<Date>,
    after: InvoiceId,
) -> String {
    let mut query = vec![
        ("status", "approved".to_owned()),
        ("invoice-date[gt_or_eq]", from.to_string()),
    ];
    query.extend(until.map(|until| ("invoice-date[lt_or_eq]", until.to_string())));
    listing.at(base, query, after)
}

/// Sets the exported flag: a request of its own, without a body.
pub(crate) fn mark_exported(base: &BaseUrl, id: InvoiceId) -> String {
    base.at(&format!("/api/invoices/{id}"), &[("exported", "true".to_owned())])
}

/// The open integration history records of an invoice.
pub(crate) fn open_outcomes(base: &BaseUrl, id: InvoiceId) -> String {
    base.at(
        "/api/integration_history_records",
        &[
            ("resolved", "false".to_owned()),
            ("document-type", INVOICE_DOCUMENT_TYPE.to_owned()),
            ("document-id", id.to_string()),
        ],
    )
}

/// Resolves one integration history record.
pub(crate) fn resolve_outcome(base: &BaseUrl, record: u64) -> String {
    base.at(&format!("/api/integration_history_records/{record}/resolve"), &[])
}

/// Where an outcome is posted; one that a person must act on alerts the contact.
pub(crate) fn outcome(base: &BaseUrl, alerts: bool) -> String {
    let path = if alerts {
        "/api/integration_history_records/create_alert"
    } else {
        "/api/integration_history_records"
    };
    base.at(path, &[])
}

/// Where a field of an invoice is changed.
pub(crate) fn invoice_itself(base: &BaseUrl, id: InvoiceId) -> String {
    base.at(&format!("/api/invoices/{id}"), &[])
}

/// The body that puts QAD's number of the document into a custom field. Coupa's guide for invoices into an ERP keeps the ERP's number
/// in a custom field of the header (documented); the form of the body is assumed after how Coupa shows custom fields.
pub(crate) fn voucher_body(field: &str, voucher: &str) -> Vec<u8> {
    serde_json::json!({ "custom-fields": { field: voucher } })
        .to_string()
        .into_bytes()
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct OutcomeBody<'a> {
    document_type: &'static str,
    document_id: u64,
    contact_alert_type: &'a str,
    status: &'a str,
    integration: Integration<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    responses: [OutcomeResponse<'a>; 1],
}

#[derive(Serialize)]
struct Integration<'a> {
    code: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct OutcomeResponse<'a> {
    response_code: &'a str,
    response_message: &'a str,
}

/// The body of an integration history record.
pub(crate) fn outcome_body(
    id: InvoiceId,
    outcome: &DocumentOutcome,
    history: &IntegrationHistory,
) -> Result<Vec<u8>, serde_json::Error> {
    let contact_alert_type = match outcome.standing {
        Standing::ForTheEngineer => &history.technical_contact_alert_type,
        Standing::ForAccountsPayable | Standing::Waiting | Standing::Finished | Standing::Withdrawn => {
            &history.contact_alert_type
        }
    };
    let status = match outcome.standing {
        Standing::ForAccountsPayable | Standing::ForTheEngineer => "Error",
        Standing::Waiting => &history.waiting_status,
        Standing::Finished | Standing::Withdrawn => "Success",
    };
    serde_json::to_vec(&OutcomeBody {
        document_type: INVOICE_DOCUMENT_TYPE,
        document_id: id.0,
        contact_alert_type,
        status,
        integration: Integration {
            code: &history.integration_code,
        },
        external_id: outcome.external_id.as_deref(),
        responses: [OutcomeResponse {
            response_code: &outcome.code,
            response_message: &outcome.message,
        }],
    })
}
