//! Coupa: reads invoices, sets their exported flag, writes outcomes and payments onto them.

mod amounts;
mod census;
mod coding;
mod lookups;
mod orders;
mod particulars;
mod payments;
mod suppliers;
mod terms;
mod together;
mod translate;
mod wire;

use self::orders::OrderContext;
use crate::connection::{CoupaOrders, CoupaSupplierDefaults, IntegrationHistory, NumberMaps};
use crate::http::address::BaseUrl;
use crate::http::transport::{Method, Response};
use crate::http::{Call, Peer};
use crate::json::{self, Json, Node};
use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::Invoice;
use domain::entities::{self, EntityRule, FieldValues, Whose};
use domain::explain::Standing;
use domain::ids::InvoiceId;
use domain::problem::Problem;
use domain::time::Date;
use flows::ports::{Coupa, CoupaHistory, DocumentOutcome, Flagged, InvoicePage, ReadError, WriteError};
use std::collections::BTreeMap;

/// Most records of one page that are looked at; Coupa sends at most 50 (confirmed).
const PAGE_RECORDS_MAX: usize = 500;
/// Most open integration history records of one document that are resolved in one go.
const OPEN_OUTCOMES_MAX: usize = 50;

/// Reads an invoice as Coupa writes it, under the settings that a connection starts with: for simulators, so that they have no
/// translation of their own.
pub fn read_invoice(json: &serde_json::Value, id: InvoiceId) -> Result<Invoice, Problem> {
    let numbers = NumberMaps::default();
    let json = json::parse(json.to_string().as_bytes())
        .map_err(|detail| Problem::new("COUPA_ANSWER_UNREADABLE", "").actual(detail))?;
    translate::invoice(&json, id, &numbers, &OrderContext::default(), &FieldValues::new())
}

/// One Coupa instance as one connection sees it. Does nothing until it is asked.
pub struct CoupaClient {
    pub(crate) peer: Peer,
    pub(crate) base: BaseUrl,
    pub(crate) numbers: NumberMaps,
    pub(crate) order_words: CoupaOrders,
    /// The connection lists its scopes, and none of them is for purchase orders.
    pub(crate) orders_left_out: bool,
    pub(crate) history: IntegrationHistory,
    /// The custom field of an invoice that carries QAD's number of the document.
    pub(crate) voucher_field: Option<String>,
    pub(crate) supplier_defaults: CoupaSupplierDefaults,
    /// Further parameters of the lists of invoices.
    pub(crate) filter: BTreeMap<String, String>,
    /// Whose an invoice is; none where everything is the one entity's.
    pub(crate) entities: Vec<EntityRule>,
    /// The fields that say it.
    pub(crate) entity_fields: Vec<String>,
}

impl CoupaClient {
    fn listing(&self) -> wire::Listing<'_> {
        wire::Listing {
            filter: &self.filter,
            fields: &self.entity_fields,
        }
    }

    fn unreadable(problem: Problem) -> ReadError {
        ReadError::Unreadable(problem)
    }

    /// A listing that cannot be trusted to end.
    fn broken_page(expected: &str, actual: &str) -> ReadError {
        let fix = "Report this to Coupa: without working id filters a listing cannot be read completely.";
        let problem = Problem::new("COUPA_PAGE_BROKEN", fix)
            .field("id")
            .expected(expected)
            .actual(actual);
        Self::unreadable(problem)
    }

    async fn put(&self, operation: &'static str, url: String, key: &str) -> Result<Response, WriteError> {
        let call = Call {
            operation,
            method: Method::Put,
            url,
            body: None,
            idempotency_key: Some(key.to_owned()),
        };
        self.accepted(self.peer.write(&call).await?)
    }

    /// A 4xx about the content is a refusal.
    fn accepted(&self, response: Response) -> Result<Response, WriteError> {
        if (200..=299).contains(&response.status) {
            Ok(response)
        } else {
            Err(WriteError::Refused(self.peer.refusal(&response)))
        }
    }

    /// What the invoice shows in the custom field for QAD's number; `None` where the connection names no field, or nothing stands
    /// in it.
    ///
    /// # Errors
    /// Coupa gave no answer, or one that cannot be read.
    pub async fn shown_voucher(&self, id: InvoiceId) -> Result<Option<String>, ReadError> {
        let Some(field) = &self.voucher_field else {
            return Ok(None);
        };
        let call = Call::get("read_invoice", wire::invoice(&self.base, id));
        let Some(json) = self.peer.read(&call).await? else {
            return Ok(None);
        };
        let shown = Node::root(&json).get("custom-fields").get(field).text();
        let fix = "Name a custom field of text in coupa.voucher_field.";
        shown.map_err(|misread| ReadError::Unreadable(misread.problem("COUPA_ANSWER_UNREADABLE", fix)))
    }

    /// Puts QAD's number of the document into the invoice's custom field. Harmless to repeat.
    async fn write_voucher(
        &self,
        id: InvoiceId,
        field: &str,
        voucher: &str,
        idempotency_key: &str,
    ) -> Result<(), WriteError> {
        let call = Call {
            operation: "write_voucher",
            method: Method::Put,
            url: wire::invoice_itself(&self.base, id),
            body: Some(wire::voucher_body(field, voucher)),
            idempotency_key: Some(format!("{idempotency_key}-voucher")),
        };
        self.accepted(self.peer.write(&call).await?).map(drop)
    }

    /// Resolves one integration history record; one that somebody has resolved since it was read is resolved.
    async fn resolve_outcome(&self, record: u64, idempotency_key: &str) -> Result<(), WriteError> {
        let key = format!("{idempotency_key}-resolve-{record}");
        let url = wire::resolve_outcome(&self.base, record);
        match self.put("resolve_outcome", url, &key).await {
            Err(WriteError::Refused(problem))
                if ["COUPA_REQUEST_REFUSED", "COUPA_NOT_FOUND"].contains(&problem.code.as_str()) =>
            {
                tracing::info!(record, code = %problem.code, "an earlier outcome is resolved already");
                Ok(())
            }
            settled => settled.map(drop),
        }
    }

    /// The ids of the invoice's open integration history records.
    async fn open_outcomes(&self, id: InvoiceId) -> Result<Vec<u64>, ReadError> {
        let call = Call::get("list_outcomes", wire::open_outcomes(&self.base, id));
        let Some(json) = self.peer.read(&call).await? else {
            return Err(ReadError::Refused(not_found("integration_history_records")));
        };
        let fix = "Check that the integration's client may read integration history records.";
        let read = || -> Result<Vec<u64>, json::Misread> {
            let mut ids = Vec::new();
            for record in Node::root(&json).required_items()?.iter().take(OPEN_OUTCOMES_MAX) {
                let number = record.get("id");
                ids.push(number.whole()?.ok_or_else(|| number.misread("a record id"))?);
            }
            Ok(ids)
        };
        read().map_err(|misread| ReadError::Unreadable(misread.problem("COUPA_ANSWER_UNREADABLE", fix)))
    }

    /// Another ERP's invoice may look as it likes, and no order is asked for it.
    fn is_out_of_scope(&self, invoice: &Json) -> bool {
        let values = translate::entity_fields(&Node::root(invoice), &self.entity_fields);
        !self.entities.is_empty() && entities::whose(&self.entities, &values) == Whose::OutOfScope
    }

    /// Reads an invoice as Coupa writes it, with the orders that its lines need to be understood.
    fn read_invoice(&self, json: &Json, id: InvoiceId, context: &OrderContext) -> Result<Invoice, ReadError> {
        let values = translate::entity_fields(&Node::root(json), &self.entity_fields);
        let read = translate::invoice(json, id, &self.numbers, context, &values);
        if self.is_out_of_scope(json) {
            return read.map_err(|_| ReadError::Refused(entities::out_of_scope(&values)));
        }
        let mut invoice = read.map_err(Self::unreadable)?;
        invoice.coupa_orders = context.read(&self.order_words)?;
        invoice.particulars.page = Some(wire::invoice_page(&self.base, id));
        Ok(invoice)
    }

    /// Reads one page of a keyset listing of invoices.
    async fn invoice_page(&self, call: &Call, after: InvoiceId) -> Result<InvoicePage, ReadError> {
        let Some(json) = self.peer.read(call).await? else {
            return Err(ReadError::Refused(not_found("invoices")));
        };
        let fix = "Check the base URL and the client's scopes: a list of invoices was asked for.";
        let items = Node::root(&json)
            .required_items()
            .map_err(|misread| Self::unreadable(misread.problem("COUPA_ANSWER_UNREADABLE", fix)))?;
        if items.len() > PAGE_RECORDS_MAX {
            let actual = format!("{} records", items.len());
            return Err(Self::broken_page("at most 50 records", &actual));
        }
        let mut page = InvoicePage {
            heads: Vec::new(),
            unreadable: Vec::new(),
            last: None,
            more: false,
        };
        for item in &items {
            let id = match translate::head(item, &self.entities, &self.entity_fields) {
                Ok(head) => {
                    let id = head.id;
                    page.heads.push(head);
                    Some(id)
                }
                Err((id, problem)) => {
                    page.unreadable.push((id, problem));
                    id
                }
            };
            if let Some(id) = id.filter(|id| *id <= after) {
                return Err(Self::broken_page(&format!("ids above {after}"), &id.to_string()));
            }
            page.last = page.last.max(id);
        }
        page.more = items.len() >= wire::PAGE_RECORDS;
        if page.more && page.last.is_none() {
            return Err(Self::broken_page(
                "a record with an id",
                "a full page without any",
            ));
        }
        Ok(page)
    }
}

fn not_found(what: &str) -> Problem {
    Problem::new("COUPA_NOT_FOUND", "Correct the base URL of the Coupa instance.")
        .field(what)
        .expected("200")
        .actual("404")
}

/// The outcome itself was not written: what happened to the requests before it, which may be repeated at will.
/// A look before anything was written.
fn not_written(error: ReadError) -> WriteError {
    match error {
        ReadError::Unavailable { retry_after, problem } => WriteError::NotApplied { retry_after, problem },
        ReadError::Refused(problem) | ReadError::Unreadable(problem) => WriteError::Refused(problem),
    }
}

fn before_the_write(error: WriteError) -> WriteError {
    match error {
        WriteError::Unknown(problem) => WriteError::NotApplied {
            retry_after: None,
            problem,
        },
        other => other,
    }
}

#[async_trait]
impl Coupa for CoupaClient {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        let call = Call::get("read_invoice", wire::invoice(&self.base, id));
        match self.peer.read(&call).await? {
            None => Ok(None),
            Some(json) => {
                let context = match self.is_out_of_scope(&json) {
                    true => OrderContext::default(),
                    false => self.order_context(&json).await?,
                };
                self.read_invoice(&json, id, &context).map(Some)
            }
        }
    }

    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        self.find_order(number).await
    }

    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        let after = after.unwrap_or(InvoiceId(0));
        let call = Call::get(
            "list_invoices",
            wire::exportable_invoices(&self.base, self.listing(), after),
        );
        self.invoice_page(&call, after).await
    }

    async fn mark_exported(&self, id: InvoiceId, idempotency_key: &str) -> Result<Flagged, WriteError> {
        let url = wire::mark_exported(&self.base, id);
        let response = self.put("mark_exported", url, idempotency_key).await?;
        // Some tenants answer nothing; what is answered must not say the contrary.
        if response.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Flagged::default());
        }
        let fix = "Nothing to do: the invoice is read again.";
        let json = json::parse(&response.body).map_err(|detail| {
            WriteError::Unknown(Problem::new("COUPA_ANSWER_UNREADABLE", fix).actual(detail))
        })?;
        let root = Node::root(&json);
        let exported = root.get("exported");
        match exported.flag() {
            Ok(Some(true) | None) => Ok(Flagged {
                status: root
                    .get("status")
                    .text()
                    .ok()
                    .flatten()
                    .map(|word| translate::status_of(&word)),
                // The answer need not show the whole invoice; what it does not show says nothing.
                bill: translate::invoice(
                    &json,
                    id,
                    &self.numbers,
                    &OrderContext::default(),
                    &FieldValues::new(),
                )
                .ok()
                .map(|invoice| (invoice.reference, invoice.total, invoice.currency)),
            }),
            Ok(Some(false)) | Err(_) => {
                let misread = exported.misread("true");
                Err(WriteError::Unknown(misread.problem("COUPA_NOT_MARKED", fix)))
            }
        }
    }

    async fn record_outcome(
        &self,
        id: InvoiceId,
        outcome: &DocumentOutcome,
        idempotency_key: &str,
    ) -> Result<(), WriteError> {
        if let (Some(field), Some(voucher)) = (&self.voucher_field, &outcome.external_id) {
            self.write_voucher(id, field, voucher, idempotency_key).await?;
        } else if !self.history.enabled {
            return Err(WriteError::Refused(
                Problem::new(
                    "COUPA_HISTORY_OFF",
                    "Turn coupa.integration_history.enabled on, or do not ask for it.",
                )
                .field("coupa.integration_history.enabled")
                .expected("true")
                .actual("false"),
            ));
        }
        if !self.history.enabled {
            return Ok(());
        }
        let open = self.open_outcomes(id).await.map_err(not_written)?;
        for record in open {
            self.resolve_outcome(record, idempotency_key)
                .await
                .map_err(before_the_write)?;
        }
        if outcome.standing == Standing::Withdrawn {
            return Ok(());
        }
        let body = wire::outcome_body(id, outcome, &self.history).map_err(|error| {
            WriteError::Refused(
                Problem::new(
                    "COUPA_OUTCOME_UNWRITABLE",
                    "Report this: the outcome could not be written as JSON.",
                )
                .actual(error.to_string()),
            )
        })?;
        let call = Call {
            operation: "record_outcome",
            method: Method::Post,
            url: wire::outcome(&self.base, outcome.standing.alerts()),
            body: Some(body),
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        let answer = self.accepted(self.peer.write(&call).await?)?;
        if outcome.standing.stays_open() {
            return Ok(());
        }
        // What is finished does not stand open. Whoever dies before this resolves it when the note is written again.
        let made = json::parse(&answer.body).ok();
        let made = made.and_then(|json| Node::root(&json).get("id").whole().ok().flatten());
        let open = match made {
            Some(record) => vec![record],
            // Some tenants answer nothing of what they made.
            None => self.open_outcomes(id).await.map_err(not_written)?,
        };
        for record in open {
            self.resolve_outcome(record, idempotency_key).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl CoupaHistory for CoupaClient {
    async fn approved_invoices(
        &self,
        from: Date,
        until: Option<Date>,
        after: Option<InvoiceId>,
    ) -> Result<InvoicePage, ReadError> {
        let after = after.unwrap_or(InvoiceId(0));
        let call = Call::get(
            "list_approved_invoices",
            wire::approved_invoices(&self.base, self.listing(), from, until, after),
        );
        self.invoice_page(&call, after).await
    }
}
