//! QAD: reads orders, receipts and supplier invoices, creates supplier invoices.

mod master_data;
mod payments;
pub mod profile;
pub mod sources;
mod suppliers;
mod translate;
mod wire;

use crate::connection::QadSupplierDefaults;
use crate::http::address::BaseUrl;
use crate::http::transport::{Method, Response};
use crate::http::{Call, Peer, error_messages};
use crate::json::{self, Json, Misread, Node};
use async_trait::async_trait;
use domain::documents::{Order, Receipt};
use domain::ids::{DomainCode, EntityCode, PurchaseOrderNumber, QadInvoiceIdentity};
use domain::master_data::is_open_on;
use domain::matching::SupplierInvoiceDraft;
use domain::parallel::KeyedInvoice;
use domain::problem::{PERIOD_CLOSED, Problem};
use domain::time::Date;
use flows::ports::{Qad, QadDocument, ReadError, ReceiptScan, WriteError};
use profile::{Family, Profile, Resource};
use std::collections::{BTreeMap, BTreeSet};
use translate::{Row, UNREADABLE, UNREADABLE_FIX};
use wire::Criterion;

/// Most pages of one listing.
pub const PAGES_MAX: u32 = 200;
/// Most rows of one listing.
pub const ROWS_MAX: usize = 100_000;

/// QAD says that what is created exists.
pub(crate) const ALREADY_EXISTS: &str = "QAD_ALREADY_EXISTS";

/// One QAD tenant as one connection sees it. Does nothing until it is asked.
pub struct QadClient {
    pub(crate) peer: Peer,
    pub(crate) base: BaseUrl,
    pub(crate) domain: DomainCode,
    pub(crate) entity: EntityCode,
    pub(crate) profile: Profile,
    pub(crate) sources: BTreeMap<String, sources::Source>,
    pub(crate) supplier_set: String,
    pub(crate) supplier_defaults: QadSupplierDefaults,
}

impl QadClient {
    /// Reads all rows of a resource, complete or not at all.
    async fn rows(
        &self,
        operation: &'static str,
        resource: &Resource,
        criteria: &[Criterion],
    ) -> Result<Vec<Json>, ReadError> {
        match resource.family {
            Family::Browse => self.browse(operation, resource, criteria).await,
            Family::Entity => self.entity(operation, resource, criteria).await,
        }
    }

    async fn ask(&self, operation: &'static str, url: String) -> Result<Json, ReadError> {
        let answer = self.peer.read(&Call::get(operation, url)).await?;
        let json = answer.ok_or_else(|| {
            ReadError::Refused(
                Problem::new(
                    "QAD_NOT_FOUND",
                    "Correct the path or the view of this resource in qad.profile, or the base URL.",
                )
                .field("HTTP status")
                .expected("200")
                .actual("404"),
            )
        })?;
        refused_read(&json)?;
        Ok(json)
    }

    async fn entity(
        &self,
        operation: &'static str,
        resource: &Resource,
        criteria: &[Criterion],
    ) -> Result<Vec<Json>, ReadError> {
        let json = self
            .ask(operation, wire::entity_find(&self.base, resource, criteria))
            .await?;
        let data = Node::root(&json).get("data");
        // Nothing found is an empty list below the plural, or (seen in neither, allowed by both) an empty `data`.
        let list = if data.is_object() {
            data.get(&resource.plural)
        } else {
            data.clone()
        };
        let items = list.required_items().map_err(unreadable)?;
        if !data.is_object() && !items.is_empty() || items.len() > ROWS_MAX {
            return Err(unreadable(
                list.misread(format!("an object with {}", resource.plural)),
            ));
        }
        Ok(items.iter().map(Node::to_json).collect())
    }

    async fn browse(
        &self,
        operation: &'static str,
        resource: &Resource,
        criteria: &[Criterion],
    ) -> Result<Vec<Json>, ReadError> {
        for criterion in criteria {
            check_filter_value(criterion).map_err(ReadError::Refused)?;
        }
        let mut rows: Vec<Json> = Vec::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for page in 1..=PAGES_MAX {
            let json = self
                .ask(operation, wire::browse_page(&self.base, resource, criteria, page))
                .await?;
            let (items, more) = page_of(&json, resource, page)?;
            let keys = page_keys(&items, resource);
            if !items.is_empty() && !seen.insert(keys) {
                return Err(endless(&format!("page {page} repeats an earlier one")));
            }
            if rows.len().saturating_add(items.len()) > ROWS_MAX {
                return Err(endless(&format!("more than {ROWS_MAX} rows")));
            }
            rows.extend(items.iter().map(Node::to_json));
            if !more {
                return Ok(rows);
            }
        }
        Err(endless(&format!("more than {PAGES_MAX} pages")))
    }

    /// The supplier invoices that QAD shows for an identity, complete or not at all.
    async fn invoice_rows(&self, identity: &QadInvoiceIdentity) -> Result<Vec<Json>, ReadError> {
        let criteria = [
            Criterion::equal("entity", identity.entity.as_str()),
            Criterion::equal("supplier", identity.supplier.as_str()),
            Criterion::equal("reference", identity.reference.as_str()),
        ];
        let resource = &self.profile.supplier_invoices;
        self.rows("find_invoices", resource, &criteria).await
    }

    /// Reads the supplier invoices of exactly this identity with all that QAD shows of them, complete or not at all.
    ///
    /// # Errors
    /// QAD gave no answer, or one of them cannot be read.
    pub async fn keyed_invoices(
        &self,
        identity: &QadInvoiceIdentity,
    ) -> Result<Vec<KeyedInvoice>, ReadError> {
        let resource = &self.profile.supplier_invoices;
        let rows = self.invoice_rows(identity).await?;
        let mut found = Vec::new();
        for row in self.view(&rows, resource) {
            let invoice = translate::keyed(&row, &self.profile).map_err(unreadable)?;
            found.extend(invoice.filter(|invoice| invoice.identity == *identity));
        }
        Ok(found)
    }

    /// Reads one page (from 1) of a resource, and whether another follows. An entity is answered whole, as its first page.
    async fn page(
        &self,
        operation: &'static str,
        resource: &Resource,
        criteria: &[Criterion],
        page: u32,
    ) -> Result<(Vec<Json>, bool), ReadError> {
        if resource.family == Family::Entity {
            return Ok((self.entity(operation, resource, criteria).await?, false));
        }
        for criterion in criteria {
            check_filter_value(criterion).map_err(ReadError::Refused)?;
        }
        let json = self
            .ask(operation, wire::browse_page(&self.base, resource, criteria, page))
            .await?;
        let (items, more) = page_of(&json, resource, page)?;
        Ok((items.iter().map(Node::to_json).collect(), more))
    }

    fn view<'a>(&self, rows: &'a [Json], resource: &'a Resource) -> Vec<Row<'a>> {
        rows.iter()
            .enumerate()
            .map(|(index, json)| Row::new(Node::at(json, format!("data[{index}]")), resource))
            .collect()
    }

    /// QAD's answer to a create: the record, or what it means.
    fn created(&self, response: &Response) -> Result<QadDocument, WriteError> {
        let unknown = |misread: Misread| {
            WriteError::Unknown(misread.problem(UNREADABLE, "Nothing to do: the invoice is looked up."))
        };
        if !(200..=299).contains(&response.status) {
            return Err(self.judge_refusal(response));
        }
        let json = json::parse(&response.body).map_err(|detail| {
            WriteError::Unknown(
                Problem::new(UNREADABLE, "Nothing to do: the invoice is looked up.")
                    .expected("JSON")
                    .actual(detail),
            )
        })?;
        let resource = &self.profile.supplier_invoices;
        let success = Node::root(&json).get("submitResult").get("success");
        match success.flag() {
            Ok(Some(true)) => {}
            Ok(None) if is_created_bdoc(resource, response) => {}
            Ok(Some(false)) => return Err(self.judge_refusal(response)),
            // 200 alone is no success (seen): without the flag nothing is known.
            Ok(None) | Err(_) => return Err(unknown(success.misread("true"))),
        }
        let list = written_records(&json, resource);
        let items = list.required_items().map_err(unknown)?;
        let [record] = items.as_slice() else {
            return Err(unknown(list.misread("exactly one record")));
        };
        let row = Row::new(record.clone(), resource);
        match translate::document(&row, &self.profile).map_err(unknown)? {
            Some(document) => Ok(document),
            None => Err(unknown(row.get("type").misread("the type that was sent"))),
        }
    }

    /// Whether a refusal means that the books are closed, and nothing else: a message says so, and every other one says no more
    /// than that nothing was saved. Whatever else is wrong with the record, opening the period heals it not: that is a person's.
    fn says_closed(&self, said: &[String]) -> bool {
        let (closed, others): (Vec<&String>, Vec<&String>) = said
            .iter()
            .partition(|message| says(message, &self.profile.closed_period_messages));
        let adds_nothing = |message: &&String| says(message, &self.profile.not_saved_messages);
        !closed.is_empty() && others.iter().all(adds_nothing)
    }

    /// A refusal in QAD's own words: what they mean for repeating.
    fn judge_refusal(&self, response: &Response) -> WriteError {
        let said = error_messages(&response.body);
        let text = said.join("; ");
        let says = |parts: &[String]| says(&text, parts);
        let reason = if text.is_empty() {
            format!("HTTP {} without a reason", response.status)
        } else {
            text.clone()
        };
        let problem = |code: &str, fix: &str| {
            Problem::new(code, fix)
                .field("submitResult")
                .expected("success")
                .actual(reason.as_str())
        };
        if says(&self.profile.duplicate_messages) {
            return WriteError::Unknown(problem(ALREADY_EXISTS, "Nothing to do: it is looked up."));
        }
        if says(&self.profile.locked_messages) {
            let problem = problem(
                "QAD_RECORD_IN_USE",
                "Nothing to do: it is repeated. Else find out who has the record open in QAD.",
            );
            return WriteError::NotApplied {
                retry_after: None,
                problem,
            };
        }
        if self.says_closed(&said) {
            let fix = "Have the period opened in QAD and recheck it, or have somebody say from when on the books are open.";
            return WriteError::Refused(problem(PERIOD_CLOSED, fix));
        }
        if (200..=299).contains(&response.status) {
            return WriteError::Refused(refused_invoice(reason));
        }
        WriteError::Refused(self.peer.refusal(response))
    }
}

/// 201 is a business document's success, which says no more in words.
fn is_created_bdoc(resource: &Resource, response: &Response) -> bool {
    const CREATED: u16 = 201;
    resource.is_bdoc() && response.status == CREATED
}

/// The records in the answer to a write: below their plural, or, of a business document, the array that was sent.
fn written_records<'a>(json: &'a Json, resource: &Resource) -> Node<'a> {
    let root = Node::root(json);
    if resource.is_bdoc() && !root.is_object() {
        root
    } else {
        root.get("data").get(&resource.plural)
    }
}

/// Whether one of these parts stands in a message of QAD's, in whatever case.
fn says(message: &str, parts: &[String]) -> bool {
    let message = message.to_lowercase();
    parts
        .iter()
        .any(|part| !part.is_empty() && message.contains(&part.to_lowercase()))
}

/// QAD refuses the document for good.
fn refused_invoice(said: impl Into<String>) -> Problem {
    let fix = "Correct what QAD names, in Coupa or in QAD, then recheck.";
    Problem::new("QAD_INVOICE_REFUSED", fix)
        .field("submitResult")
        .expected("success")
        .actual(said)
}

fn unreadable(misread: Misread) -> ReadError {
    ReadError::Unreadable(misread.problem(UNREADABLE, UNREADABLE_FIX))
}

fn endless(actual: &str) -> ReadError {
    let fix = "Raise page_rows of this resource in qad.profile, or narrow the question; a listing must end to be complete.";
    ReadError::Unreadable(
        Problem::new("QAD_LISTING_BROKEN", fix)
            .field("page")
            .expected("a listing that ends")
            .actual(actual),
    )
}

/// 200 with an error envelope is a refusal, never "none".
fn refused_read(json: &Json) -> Result<(), ReadError> {
    let root = Node::root(json);
    let success = root.get("submitResult").get("success");
    let failed = success.flag().map_err(unreadable)? == Some(false);
    let bare_errors =
        root.get("data").is_null() && !root.get("errors").items().unwrap_or_default().is_empty();
    if !failed && !bare_errors {
        return Ok(());
    }
    let mut said = crate::http::messages_of(&root).join("; ");
    if said.is_empty() {
        said = "no reason".to_owned();
    }
    let fix = "Read what QAD says: a right, a view or a key of this resource is missing.";
    Err(ReadError::Refused(
        Problem::new("QAD_READ_REFUSED", fix)
            .field("submitResult")
            .expected("success")
            .actual(said),
    ))
}

/// A comma would end the value inside a filter, and QAD documents no escape for it.
fn check_filter_value(criterion: &Criterion) -> Result<(), Problem> {
    if criterion.value.contains(',') {
        let fix = "QAD cannot be asked for a value with a comma; correct it in Coupa.";
        return Err(Problem::new("QAD_FILTER_VALUE", fix)
            .field(criterion.name.as_ref())
            .expected("a value without commas")
            .actual(criterion.value.as_str()));
    }
    Ok(())
}

/// The rows of a page, and whether another follows.
fn page_of<'a>(json: &'a Json, resource: &Resource, page: u32) -> Result<(Vec<Node<'a>>, bool), ReadError> {
    let page_rows = usize::try_from(resource.page_rows).unwrap_or(usize::MAX);
    let root = Node::root(json);
    let items = root.get("data").required_items().map_err(unreadable)?;
    let more = has_more(&root, items.len() >= page_rows).map_err(unreadable)?;
    if items.is_empty() && more {
        return Err(endless(&format!(
            "page {page} is empty and says that more follows"
        )));
    }
    Ok((items, more))
}

/// Whether another page follows: `HasMoreParams` as a text or a truth value (the text is seen). When it is missing, a
/// full page is asked on from.
fn has_more(root: &Node<'_>, page_is_full: bool) -> Result<bool, Misread> {
    // The spelling with three l is QAD's own (seen).
    let told = root.get("auxillaryData").get("HasMoreParams").flag()?;
    Ok(told.unwrap_or(page_is_full))
}

/// What the rows of a page are known by, to notice that a page comes again.
fn page_keys(items: &[Node<'_>], resource: &Resource) -> String {
    const KEYS: [&str; 9] = [
        "code",
        "start",
        "receiver",
        "order",
        "line",
        "year",
        "instrument",
        "number",
        "allocation",
    ];
    let mut keys = String::new();
    for item in items {
        for name in KEYS {
            if let Some(field) = resource.fields.get(name) {
                keys.push_str(&item.get(field).text().ok().flatten().unwrap_or_default());
            }
            keys.push('\u{1f}');
        }
        keys.push('\u{1e}');
    }
    keys
}

#[async_trait]
impl Qad for QadClient {
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
        let resource = &self.profile.order_lines;
        let criteria = [
            Criterion::equal("domain", self.domain.as_str()),
            Criterion::equal("order", number.as_str()),
        ];
        let rows = self.rows("read_order", resource, &criteria).await?;
        let rows = self.view(&rows, resource);
        translate::order(&rows, &self.profile, &self.domain, number).map_err(ReadError::Unreadable)
    }

    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
        let resource = &self.profile.receipts;
        let criteria = [
            Criterion::equal("domain", self.domain.as_str()),
            Criterion::equal("order", number.as_str()),
        ];
        let rows = self.rows("read_receipts", resource, &criteria).await?;
        let scan = translate::receipts(
            &self.view(&rows, resource),
            &self.profile,
            &self.domain,
            Some(number),
        );
        match scan.unreadable.into_iter().next() {
            Some(problem) => Err(ReadError::Unreadable(problem)),
            None => Ok(scan.receipts),
        }
    }

    async fn receipts_since(&self, since: Date, page: u32) -> Result<ReceiptScan, ReadError> {
        let resource = &self.profile.receipts;
        let criteria = [
            Criterion::equal("domain", self.domain.as_str()),
            Criterion::at_least("since", since.to_string()),
        ];
        let (rows, more) = self.page("list_receipts", resource, &criteria, page).await?;
        let rows = self.view(&rows, resource);
        let scan = translate::receipts(&rows, &self.profile, &self.domain, None);
        Ok(ReceiptScan { more, ..scan })
    }

    async fn books_are_open(&self, day: Date) -> Result<Option<bool>, ReadError> {
        let resource = &self.profile.periods;
        let criteria = [Criterion::equal("entity", self.entity.as_str())];
        let rows = self.rows("read_periods", resource, &criteria).await?;
        let rows = self.view(&rows, resource);
        let periods = rows.iter().map(|row| translate::period(row, &self.entity));
        let periods = periods.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        Ok(is_open_on(&periods, day))
    }

    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
        let resource = &self.profile.supplier_invoices;
        let rows = self.invoice_rows(identity).await?;
        let mut found = Vec::new();
        for row in self.view(&rows, resource) {
            let document = translate::document(&row, &self.profile).map_err(unreadable)?;
            // Other references may come along when the tenant's look-up is wider than ours.
            found.extend(document.filter(|document| document.identity == *identity));
        }
        Ok(found)
    }

    async fn create_invoice(
        &self,
        draft: &SupplierInvoiceDraft,
        idempotency_key: &str,
    ) -> Result<QadDocument, WriteError> {
        let body = wire::create_body(&self.profile, draft).map_err(|error| {
            let fix = "Report this: the invoice could not be written as JSON.";
            WriteError::Refused(Problem::new("QAD_INVOICE_UNWRITABLE", fix).actual(error.to_string()))
        })?;
        let call = Call {
            operation: "create_invoice",
            method: Method::Post,
            url: wire::create(&self.base, &self.profile.supplier_invoices),
            body: Some(body),
            // QAD documents none; a gateway in front of it may know it, and its logs name our effect.
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        let response = self.peer.write(&call).await?;
        match self.created(&response) {
            // This attempt has made nothing. What exists may be an earlier attempt's, or no supplier invoice at all
            // ("matching already exists"): only the first is worth waiting for.
            Err(WriteError::Unknown(problem)) if problem.code == ALREADY_EXISTS => {
                match self.find_invoices(&draft.identity).await {
                    Ok(found) if found.is_empty() => {
                        Err(WriteError::Refused(refused_invoice(problem.actual)))
                    }
                    Ok(_) | Err(_) => Err(WriteError::Unknown(problem)),
                }
            }
            settled => settled,
        }
    }
}
