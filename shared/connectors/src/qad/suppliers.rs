//! Suppliers in QAD: listed by a browse, read, created and updated as entities.
//!
//! An update is the whole record as QAD gave it with the fields that change, under the hash it was read with: what this
//! product does not know of a supplier stays as it is.

use super::translate::{Row, UNREADABLE, UNREADABLE_FIX};
use super::wire::{self, Criterion};
use super::{ALREADY_EXISTS, QadClient, is_created_bdoc, unreadable, written_records};
use crate::connection::QadSupplierDefaults;
use crate::http::Call;
use crate::http::transport::{Method, Response};
use crate::json::{self, Json, Misread, Node};
use crate::qad::profile::{Constant, Resource};
use async_trait::async_trait;
use domain::ids::SupplierCode;
use domain::problem::Problem;
use domain::suppliers::{QadSupplier, SupplierData, SupplierField};
use domain::time::Date;
use flows::ports::{QadSupplierScan, QadSuppliers, ReadError, WriteError};
use std::collections::{BTreeMap, BTreeSet};

/// The day of a supplier whose last change QAD does not tell: before any cursor.
const NEVER_CHANGED: Date = jiff::civil::date(1900, 1, 1);
/// QAD's mark of what a save does (seen).
pub(super) const OPERATION: &str = "dataOperation";
/// QAD's optimistic lock (seen).
pub(super) const HASH: &str = "concurrencyHash";

/// The fields that are texts, by our two names of them.
const TEXTS: [(SupplierField, &str); 9] = [
    (SupplierField::Name, "name"),
    (SupplierField::PaymentTerms, "credit-terms"),
    (SupplierField::TaxId, "tax-id"),
    (SupplierField::Email, "email"),
    (SupplierField::Street, "street"),
    (SupplierField::City, "city"),
    (SupplierField::PostalCode, "postal-code"),
    (SupplierField::State, "state"),
    (SupplierField::Country, "country"),
];

/// Reads one row of the list, or one record of the entity.
fn supplier(row: &Row<'_>, shared_set: &str) -> Result<QadSupplier, Misread> {
    if !row.get("shared-set").is_null() {
        row.same("shared-set", shared_set)?;
    }
    let mut data = SupplierData::default();
    for (field, name) in TEXTS {
        data.set(field, &row.get(name).text()?.unwrap_or_default());
    }
    if data.get(SupplierField::TaxId).is_none() && row.has("tax-id-too") {
        data.set(
            SupplierField::TaxId,
            &row.get("tax-id-too").text()?.unwrap_or_default(),
        );
    }
    let active = if truth(&row.get("active"))? {
        "true"
    } else {
        "false"
    };
    data.set(SupplierField::Active, active);
    let changed = row.get("last-modified");
    let optional = |name| row.get(name).text();
    Ok(QadSupplier {
        code: code_of(row)?,
        data,
        kind: optional("type")?,
        site: optional("site")?,
        last_modified: if changed.text()?.is_none() {
            NEVER_CHANGED
        } else {
            changed.required_date()?
        },
    })
}

fn code_of(row: &Row<'_>) -> Result<SupplierCode, Misread> {
    row.get("code")
        .required("a supplier code of at most 8 characters")
}

/// Whether a supplier may be used is never guessed.
fn truth(field: &Node<'_>) -> Result<bool, Misread> {
    if let Ok(Some(flag)) = field.flag() {
        return Ok(flag);
    }
    match field.text()?.map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("yes") => Ok(true),
        Some("no") => Ok(false),
        _ => Err(field.misread("true, false, yes or no")),
    }
}

/// Reads the list; a supplier that comes twice with different fields is told, not guessed.
fn suppliers(rows: &[Row<'_>], shared_set: &str) -> QadSupplierScan {
    let mut known: BTreeMap<SupplierCode, QadSupplier> = BTreeMap::new();
    let mut ambiguous: BTreeSet<SupplierCode> = BTreeSet::new();
    let mut scan = QadSupplierScan::default();
    for row in rows {
        match supplier(row, shared_set) {
            Err(misread) => scan
                .unreadable
                .push((code_of(row).ok(), misread.problem(UNREADABLE, UNREADABLE_FIX))),
            Ok(supplier) => match known.get(&supplier.code) {
                Some(same) if *same == supplier => {}
                Some(_) => {
                    let fix = "Two rows of one supplier differ: correct the browse in qad.profile.suppliers.";
                    let misread = row.get("code").misread("one row for each supplier");
                    let problem = misread.problem("QAD_SUPPLIER_AMBIGUOUS", fix);
                    scan.unreadable.push((Some(supplier.code.clone()), problem));
                    ambiguous.insert(supplier.code);
                }
                None => {
                    known.insert(supplier.code.clone(), supplier);
                }
            },
        }
    }
    known.retain(|code, _| !ambiguous.contains(code));
    scan.suppliers = known.into_values().collect();
    scan
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

/// Sets fields in a record of the entity. The tax id goes to each of its two names that the record has.
fn set_fields(record: &mut BTreeMap<String, Json>, resource: &Resource, data: &SupplierData) {
    for (field, name) in TEXTS {
        let Some(value) = data.get(field) else { continue };
        let second = resource.field("tax-id-too");
        let has_only_the_second = field == SupplierField::TaxId
            && record.contains_key(second)
            && !record.contains_key(resource.field(name));
        if !has_only_the_second {
            record.insert(resource.field(name).to_owned(), text(value));
        }
        if field == SupplierField::TaxId && record.contains_key(second) {
            record.insert(second.to_owned(), text(value));
        }
    }
    if let Some(active) = data.get(SupplierField::Active) {
        record.insert(resource.field("active").to_owned(), Json::Bool(active == "true"));
    }
}

/// A new supplier: its fields, and what QAD demands besides from the connection's defaults.
fn new_record(
    resource: &Resource,
    shared_set: &str,
    code: &SupplierCode,
    data: &SupplierData,
    defaults: &QadSupplierDefaults,
) -> BTreeMap<String, Json> {
    let mut record = BTreeMap::new();
    for (name, value) in &defaults.constants {
        let value = match value {
            Constant::Flag(flag) => Json::Bool(*flag),
            Constant::Whole(number) => Json::Number(number.to_string()),
            Constant::Text(constant) => text(constant),
        };
        record.insert(name.clone(), value);
    }
    for (name, value) in [
        ("shared-set", text(shared_set)),
        ("code", text(code.as_str())),
        ("relation", text(code.as_str())),
        ("creates-relation", Json::Bool(true)),
        ("currency", text(&defaults.currency)),
        ("credit-terms", text(&defaults.credit_terms)),
        ("invoice-status", text(&defaults.invoice_status)),
        ("invoice-control-profile", text(&defaults.invoice_control_profile)),
        (
            "credit-note-control-profile",
            text(&defaults.credit_note_control_profile),
        ),
        (
            "prepayment-control-profile",
            text(&defaults.prepayment_control_profile),
        ),
        (
            "purchase-account-profile",
            text(&defaults.purchase_account_profile),
        ),
        ("active", Json::Bool(false)),
    ] {
        record.insert(resource.field(name).to_owned(), value);
    }
    if data.get(SupplierField::TaxId).is_some() {
        for name in ["tax-id", "tax-id-too"] {
            record.insert(resource.field(name).to_owned(), text(""));
        }
    }
    set_fields(&mut record, resource, data);
    record.insert(OPERATION.to_owned(), text("C"));
    record.insert(HASH.to_owned(), text(""));
    record
}

fn written(resource: &Resource, record: BTreeMap<String, Json>) -> Result<Vec<u8>, WriteError> {
    let records = Json::List(vec![Json::Object(record)]);
    let body = if resource.is_bdoc() {
        records
    } else {
        Json::Object(BTreeMap::from([
            (resource.plural.clone(), records),
            ("supplementaryMessages".to_owned(), Json::List(Vec::new())),
        ]))
    };
    serde_json::to_vec(&body).map_err(|error| {
        let fix = "Report this: the supplier could not be written as JSON.";
        WriteError::Refused(Problem::new("QAD_SUPPLIER_UNWRITABLE", fix).actual(error.to_string()))
    })
}

impl QadClient {
    fn supplier_keys(&self, code: &SupplierCode) -> [Criterion; 2] {
        [
            Criterion::equal("shared-set", self.supplier_set.as_str()),
            Criterion::equal("code", code.as_str()),
        ]
    }

    /// The whole record of a supplier, as QAD gives it.
    async fn supplier_record(
        &self,
        code: &SupplierCode,
    ) -> Result<Option<(BTreeMap<String, Json>, QadSupplier)>, ReadError> {
        let resource = &self.profile.supplier;
        let rows = self
            .rows("read_supplier", resource, &self.supplier_keys(code))
            .await?;
        let mut found = None;
        for row in &rows {
            let node = Node::root(row);
            let read = supplier(&Row::new(node.clone(), resource), &self.supplier_set).map_err(unreadable)?;
            // Other codes may come along when the tenant's look-up is wider than ours.
            if read.code != *code {
                continue;
            }
            let Json::Object(record) = node.to_json() else {
                return Err(unreadable(node.misread("an object")));
            };
            if found.replace((record, read)).is_some() {
                return Err(unreadable(node.misread(format!("one supplier {code}"))));
            }
        }
        Ok(found)
    }

    /// What a refused create means: nothing but a refusal when the supplier is not there.
    async fn unless_it_is_there(
        &self,
        code: &SupplierCode,
        problem: Problem,
    ) -> Result<QadSupplier, WriteError> {
        match self.supplier_record(code).await {
            Ok(None) => Err(WriteError::Refused(problem)),
            Ok(Some(_)) | Err(_) => Err(WriteError::Unknown(problem)),
        }
    }

    /// Sends a save and judges QAD's answer: 200 alone is no success (seen).
    async fn save_supplier(&self, call: &Call, code: &SupplierCode) -> Result<QadSupplier, WriteError> {
        let response = self.peer.write(call).await?;
        self.supplier_saved(&response).map_err(|error| match error {
            WriteError::Refused(problem) if problem.code == "QAD_INVOICE_REFUSED" => {
                WriteError::Refused(refused_supplier(code, problem))
            }
            other => other,
        })?;
        if let Some(shown) = self
            .supplier_echoed(&response)
            .filter(|shown| shown.code == *code)
        {
            return Ok(shown);
        }
        // It is done; only the echo says too little.
        let fix = "Nothing to do: the supplier is looked up.";
        match self.supplier_record(code).await {
            Ok(Some((_, supplier))) => Ok(supplier),
            Ok(None) => Err(WriteError::Unknown(
                Problem::new("QAD_SUPPLIER_NOT_SHOWN", fix).field(format!("supplier {code}")),
            )),
            Err(error) => Err(WriteError::Unknown(error.problem().clone())),
        }
    }

    fn supplier_saved(&self, response: &Response) -> Result<(), WriteError> {
        let fix = "Nothing to do: the supplier is looked up.";
        if !(200..=299).contains(&response.status) {
            return Err(self.judge_refusal(response));
        }
        // What is done need not say more.
        if is_created_bdoc(&self.profile.supplier, response)
            && response.body.iter().all(u8::is_ascii_whitespace)
        {
            return Ok(());
        }
        let json = json::parse(&response.body).map_err(|detail| {
            WriteError::Unknown(Problem::new(UNREADABLE, fix).expected("JSON").actual(detail))
        })?;
        let success = Node::root(&json).get("submitResult").get("success");
        match success.flag() {
            Ok(None) if is_created_bdoc(&self.profile.supplier, response) => Ok(()),
            Ok(Some(true)) => Ok(()),
            Ok(Some(false)) => Err(self.judge_refusal(response)),
            Ok(None) | Err(_) => Err(WriteError::Unknown(
                success.misread("true").problem(UNREADABLE, fix),
            )),
        }
    }

    fn supplier_echoed(&self, response: &Response) -> Option<QadSupplier> {
        let resource = &self.profile.supplier;
        let json = json::parse(&response.body).ok()?;
        let list = written_records(&json, resource);
        let items = list.required_items().ok()?;
        let [record] = items.as_slice() else {
            return None;
        };
        supplier(&Row::new(record.clone(), resource), &self.supplier_set).ok()
    }
}

/// QAD refuses the supplier, for the reason of the problem.
fn refused_supplier(code: &SupplierCode, problem: Problem) -> Problem {
    let fix = "Correct what QAD names, in Coupa, in QAD or in suppliers.qad_defaults.";
    Problem::new("QAD_SUPPLIER_REFUSED", fix)
        .field(format!("supplier {code}"))
        .expected(problem.expected)
        .actual(problem.actual)
}

#[async_trait]
impl QadSuppliers for QadClient {
    async fn suppliers_since(&self, since: Date) -> Result<QadSupplierScan, ReadError> {
        let resource = &self.profile.suppliers;
        let criteria = [
            Criterion::equal("shared-set", self.supplier_set.as_str()),
            Criterion::at_least("since", since.to_string()),
        ];
        let rows = self.rows("list_suppliers", resource, &criteria).await?;
        Ok(suppliers(&self.view(&rows, resource), &self.supplier_set))
    }

    async fn supplier(&self, code: &SupplierCode) -> Result<Option<QadSupplier>, ReadError> {
        let found = self.supplier_record(code).await?;
        Ok(found.map(|(_, supplier)| supplier))
    }

    async fn create_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError> {
        let resource = &self.profile.supplier;
        let record = new_record(resource, &self.supplier_set, code, data, &self.supplier_defaults);
        let call = Call {
            operation: "create_supplier",
            method: Method::Post,
            url: wire::create(&self.base, resource),
            body: Some(written(resource, record)?),
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        match self.save_supplier(&call, code).await {
            // A refusal in whatever language may mean that an earlier attempt has made it: then it is looked up. "Already
            // exists" may also speak of something else, a business relation of this code for example.
            Err(WriteError::Refused(problem)) => self.unless_it_is_there(code, problem).await,
            Err(WriteError::Unknown(problem)) if problem.code == ALREADY_EXISTS => {
                self.unless_it_is_there(code, refused_supplier(code, problem))
                    .await
            }
            other => other,
        }
    }

    async fn update_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError> {
        let resource = &self.profile.supplier;
        let read = self.supplier_record(code).await.map_err(|error| match error {
            ReadError::Unavailable { retry_after, problem } => {
                WriteError::NotApplied { retry_after, problem }
            }
            ReadError::Refused(problem) | ReadError::Unreadable(problem) => WriteError::Refused(problem),
        })?;
        let Some((mut record, _)) = read else {
            let fix = "Find out what became of the supplier in QAD; nothing was written.";
            return Err(WriteError::Refused(
                Problem::new("QAD_SUPPLIER_GONE", fix)
                    .field(format!("supplier {code}"))
                    .expected("a supplier")
                    .actual("none"),
            ));
        };
        let hash = record.get(HASH).cloned();
        set_fields(&mut record, resource, data);
        record.insert(OPERATION.to_owned(), text("U"));
        let call = Call {
            operation: "update_supplier",
            method: Method::Post,
            url: wire::update(&self.base, resource, &self.supplier_keys(code)),
            body: Some(written(resource, record)?),
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        match self.save_supplier(&call, code).await {
            // Refused because somebody changed the record in this moment, in whatever words: read and written again.
            Err(WriteError::Refused(problem)) => match self.supplier_record(code).await {
                Ok(Some((record, _))) if record.get(HASH) != hash.as_ref() => Err(WriteError::NotApplied {
                    retry_after: None,
                    problem,
                }),
                _ => Err(WriteError::Refused(problem)),
            },
            other => other,
        }
    }
}
