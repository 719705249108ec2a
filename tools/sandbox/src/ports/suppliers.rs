//! Suppliers of both systems as ports.

use super::{WorldPorts, code, lock, unreadable};
use crate::faults::System;
use crate::world::qad::SHARED_SET;
use crate::world::{Write, Written};
use async_trait::async_trait;
use domain::ids::{SupplierCode, fold};
use domain::problem::Problem;
use domain::suppliers::{CoupaSupplier, CoupaSupplierStatus, QadSupplier, SupplierData, SupplierField};
use domain::time::{Date, Timestamp, date_as_written};
use flows::ports::{CoupaSupplierPage, CoupaSuppliers, QadSupplierScan, QadSuppliers, ReadError, WriteError};
use flows::sync_suppliers::TAKEN;
use serde_json::{Map, Value, json};

/// Suppliers on one page of the list, as in Coupa.
const PAGE_SUPPLIERS_MAX: usize = 50;

/// The text fields of a supplier in QAD.
const QAD_TEXTS: [(SupplierField, &str); 9] = [
    (SupplierField::Name, "businessRelationName"),
    (SupplierField::PaymentTerms, "creditTermsCode"),
    (SupplierField::TaxId, "taxIDFederal"),
    (SupplierField::Email, "EMail"),
    (SupplierField::Street, "street1"),
    (SupplierField::City, "city"),
    (SupplierField::PostalCode, "zipCode"),
    (SupplierField::State, "stateCode"),
    (SupplierField::Country, "countryCode"),
];

type Record = Map<String, Value>;

fn text_at<'r>(record: &'r Record, path: &[&str]) -> &'r str {
    let Some((first, rest)) = path.split_first() else {
        return "";
    };
    let start = record.get(*first);
    rest.iter()
        .fold(start, |value, key| value.and_then(|value| value.get(*key)))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn coupa_supplier(record: &Record) -> Result<CoupaSupplier, ReadError> {
    let id = record
        .get("id")
        .and_then(Value::as_u64)
        .ok_or_else(|| unreadable("id", "a supplier id", "something else"))?;
    let mut data = SupplierData::default();
    let paths: [(SupplierField, &[&str]); 9] = [
        (SupplierField::Name, &["name"]),
        (SupplierField::TaxId, &["tax-id"]),
        (SupplierField::PaymentTerms, &["payment-term", "code"]),
        (SupplierField::Email, &["primary-contact", "email"]),
        (SupplierField::Street, &["primary-address", "street1"]),
        (SupplierField::City, &["primary-address", "city"]),
        (SupplierField::State, &["primary-address", "state"]),
        (SupplierField::PostalCode, &["primary-address", "postal-code"]),
        (SupplierField::Country, &["primary-address", "country", "code"]),
    ];
    for (field, path) in paths {
        data.set(field, text_at(record, path));
    }
    let updated = text_at(record, &["updated-at"]);
    let updated_at = updated
        .parse::<jiff::Timestamp>()
        .map_err(|_| unreadable("updated-at", "an instant", updated))?;
    Ok(CoupaSupplier {
        id,
        number: Some(text_at(record, &["number"]))
            .filter(|number| !number.is_empty())
            .map(str::to_owned),
        status: match text_at(record, &["status"]) {
            "active" => CoupaSupplierStatus::Active,
            "inactive" => CoupaSupplierStatus::Inactive,
            other => CoupaSupplierStatus::NotApproved(other.to_owned()),
        },
        data,
        updated_at: Timestamp(updated_at.as_millisecond()),
    })
}

fn member<'r>(body: &'r mut Record, name: &str) -> Option<&'r mut Record> {
    body.entry(name).or_insert_with(|| json!({})).as_object_mut()
}

/// Lays the fields over what is there: nested objects are written whole, with what Coupa holds besides.
fn coupa_body(mut body: Record, number: &SupplierCode, data: &SupplierData) -> Record {
    body.insert("number".to_owned(), Value::from(number.as_str()));
    for (field, text) in data.iter() {
        let (outer, inner, value) = match field {
            SupplierField::Name => ("name", None, Value::from(text)),
            SupplierField::TaxId => ("tax-id", None, Value::from(text)),
            SupplierField::Active if text == "true" => ("status", None, Value::from("active")),
            SupplierField::Active => ("status", None, Value::from("inactive")),
            SupplierField::PaymentTerms => ("payment-term", None, json!({"code": text})),
            SupplierField::Email => ("primary-contact", Some("email"), Value::from(text)),
            SupplierField::Street => ("primary-address", Some("street1"), Value::from(text)),
            SupplierField::City => ("primary-address", Some("city"), Value::from(text)),
            SupplierField::State => ("primary-address", Some("state"), Value::from(text)),
            SupplierField::PostalCode => ("primary-address", Some("postal-code"), Value::from(text)),
            SupplierField::Country => ("primary-address", Some("country"), json!({"code": text})),
        };
        match inner {
            None => {
                body.insert(outer.to_owned(), value);
            }
            Some(inner) => {
                if let Some(object) = member(&mut body, outer) {
                    object.insert(inner.to_owned(), value);
                }
            }
        }
    }
    body
}

/// What Coupa demands and nobody told.
fn with_coupa_defaults(mut body: Record) -> Record {
    body.entry("status").or_insert_with(|| Value::from("inactive"));
    for (outer, inner, value) in [
        ("primary-contact", "email", json!("ap@example.com")),
        ("primary-address", "street1", json!("1 Unknown Street")),
        ("primary-address", "city", json!("Unknown")),
        ("primary-address", "country", json!({"code": "US"})),
    ] {
        if let Some(object) = member(&mut body, outer) {
            object.entry(inner).or_insert(value);
        }
    }
    body
}

fn is_of_address(field: SupplierField) -> bool {
    use SupplierField::{City, Country, PostalCode, State, Street};
    matches!(field, Street | City | State | PostalCode | Country)
}

fn shown(written: &Written) -> Result<CoupaSupplier, WriteError> {
    let Written::Coupa(Value::Object(record)) = written else {
        return Err(WriteError::Unknown(Problem::new("SIMULATED_UNKNOWN", "")));
    };
    coupa_supplier(record).map_err(|error| WriteError::Unknown(error.problem().clone()))
}

/// A refusal because of a name or a number that another supplier has is told apart.
fn coupa_refusal(error: WriteError) -> WriteError {
    match error {
        WriteError::Refused(mut problem) if problem.actual.contains("already been taken") => {
            TAKEN.clone_into(&mut problem.code);
            WriteError::Refused(problem)
        }
        other => other,
    }
}

#[async_trait]
impl CoupaSuppliers for WorldPorts {
    async fn suppliers(
        &self,
        since: Option<Timestamp>,
        after: Option<u64>,
    ) -> Result<CoupaSupplierPage, ReadError> {
        self.read(System::Coupa, "suppliers.list", &[], |world| {
            let start = after.map_or(0, |id| id.saturating_add(1));
            // Asked for to the second: never later than it is.
            let since = since.map(crate::world::coupa::whole_seconds);
            let mut page = CoupaSupplierPage::default();
            for (id, record) in world.coupa.suppliers.range(start..) {
                let supplier = coupa_supplier(record)?;
                if since.is_some_and(|since| supplier.updated_at <= since) {
                    continue;
                }
                if page.suppliers.len() == PAGE_SUPPLIERS_MAX {
                    page.more = true;
                    break;
                }
                page.last = Some(*id);
                page.suppliers.push(supplier);
            }
            Ok(page)
        })
    }

    async fn suppliers_numbered(&self, number: &SupplierCode) -> Result<Vec<CoupaSupplier>, ReadError> {
        self.read(System::Coupa, "suppliers.list", &[number.to_string()], |world| {
            let suppliers = world.coupa.suppliers.values();
            let all = suppliers.map(coupa_supplier).collect::<Result<Vec<_>, _>>()?;
            Ok(all.into_iter().filter(|one| one.is_numbered(number)).collect())
        })
    }

    async fn create_supplier(
        &self,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        let body = with_coupa_defaults(coupa_body(Record::new(), number, data));
        let keys = [number.to_string()];
        let write = Write::CreateSupplier(body);
        match self.write(System::Coupa, "suppliers.create", &keys, idempotency_key, write) {
            Ok(written) => shown(&written),
            Err(WriteError::Refused(problem)) => {
                let refusal = coupa_refusal(WriteError::Refused(problem.clone()));
                // "Taken" may speak of this very supplier, made by an earlier attempt: then it is looked up.
                let world = lock(&self.world);
                let there = world
                    .coupa
                    .suppliers
                    .values()
                    .any(|one| fold(text_at(one, &["number"])) == number.folded());
                Err(if there {
                    WriteError::Unknown(problem)
                } else {
                    refusal
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn update_supplier(
        &self,
        id: u64,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        let nested: Record = {
            let world = lock(&self.world);
            let record = world.coupa.suppliers.get(&id).cloned().unwrap_or_default();
            // Only what changes is written, and an object that changes is written whole.
            let contact = data.get(SupplierField::Email).is_some();
            let address = data.iter().any(|(field, _)| is_of_address(field));
            record
                .into_iter()
                .filter(|(name, _)| {
                    (contact && name == "primary-contact") || (address && name == "primary-address")
                })
                .collect()
        };
        let body = coupa_body(nested, number, data);
        let keys = [id.to_string()];
        let write = Write::UpdateSupplier(id, body);
        let written = self.write(System::Coupa, "suppliers.update", &keys, idempotency_key, write);
        shown(&written.map_err(coupa_refusal)?)
    }
}

fn qad_supplier(record: &Record) -> Result<QadSupplier, ReadError> {
    let mut data = SupplierData::default();
    for (field, name) in QAD_TEXTS {
        data.set(field, text_at(record, &[name]));
    }
    let active = record.get("isActive") == Some(&Value::Bool(true));
    data.set(SupplierField::Active, if active { "true" } else { "false" });
    let changed = text_at(record, &["lastModifiedDate"]);
    Ok(QadSupplier {
        code: code("supplierCode", text_at(record, &["supplierCode"]))?,
        data,
        kind: None,
        site: None,
        last_modified: date_as_written(changed)
            .ok_or_else(|| unreadable("lastModifiedDate", "a day", changed))?,
    })
}

fn set_in_qad(record: &mut Record, data: &SupplierData) {
    for (field, name) in QAD_TEXTS {
        if let Some(text) = data.get(field) {
            record.insert(name.to_owned(), Value::from(text));
        }
    }
    if let Some(active) = data.get(SupplierField::Active) {
        record.insert("isActive".to_owned(), Value::Bool(active == "true"));
    }
}

fn saved(written: &Written) -> Result<QadSupplier, WriteError> {
    let Written::QadSupplier(record) = written else {
        return Err(WriteError::Unknown(Problem::new("SIMULATED_UNKNOWN", "")));
    };
    qad_supplier(record).map_err(|error| WriteError::Unknown(error.problem().clone()))
}

impl WorldPorts {
    fn qad_record(&self, code: &SupplierCode) -> Option<Record> {
        lock(&self.world).qad.suppliers.get(&code.folded()).cloned()
    }
}

#[async_trait]
impl QadSuppliers for WorldPorts {
    async fn suppliers_since(&self, since: Date) -> Result<QadSupplierScan, ReadError> {
        self.read(System::Qad, "browse.suppliers", &[], |world| {
            let suppliers = world.qad.suppliers.values();
            let all = suppliers.map(qad_supplier).collect::<Result<Vec<_>, _>>()?;
            Ok(QadSupplierScan {
                suppliers: all.into_iter().filter(|one| one.last_modified >= since).collect(),
                unreadable: Vec::new(),
            })
        })
    }

    async fn supplier(&self, code: &SupplierCode) -> Result<Option<QadSupplier>, ReadError> {
        self.read(System::Qad, "suppliers.read", &[code.to_string()], |world| {
            world
                .qad
                .suppliers
                .get(&code.folded())
                .map(qad_supplier)
                .transpose()
        })
    }

    async fn create_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError> {
        let mut record = Record::new();
        for (name, value) in [
            ("sharedSetCode", SHARED_SET),
            ("supplierCode", code.as_str()),
            ("businessRelationCode", code.as_str()),
            ("currencyCode", "USD"),
            ("creditTermsCode", "N30"),
            ("invoiceStatusCode", "AP-RMALLOC"),
            ("invoiceControlGLProfileCode", "CTRL-INV"),
            ("creditNoteControlGLProfileCode", "CTRL-CN"),
            ("prePaymentControlGLProfileCode", "CTRL-PP"),
            ("purchaseAccountGLProfileCode", "PURCH"),
            ("dataOperation", "C"),
        ] {
            record.insert(name.to_owned(), Value::from(value));
        }
        record.insert("isActive".to_owned(), Value::Bool(false));
        set_in_qad(&mut record, data);
        let keys = [code.to_string()];
        let write = Write::SaveQadSupplier(record);
        match self.write(System::Qad, "suppliers.create", &keys, idempotency_key, write) {
            Ok(written) => saved(&written),
            // A refusal may mean that an earlier attempt has made it: then it is looked up.
            Err(WriteError::Refused(problem)) if self.qad_record(code).is_some() => {
                Err(WriteError::Unknown(problem))
            }
            Err(error) => Err(error),
        }
    }

    async fn update_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError> {
        let Some(mut record) = self.qad_record(code) else {
            return Err(WriteError::Refused(
                Problem::new("QAD_SUPPLIER_GONE", "Armed by the test.").field(code.as_str()),
            ));
        };
        let hash = record.get("concurrencyHash").cloned();
        set_in_qad(&mut record, data);
        record.insert("dataOperation".to_owned(), Value::from("U"));
        let keys = [code.to_string()];
        let write = Write::SaveQadSupplier(record);
        match self.write(System::Qad, "suppliers.update", &keys, idempotency_key, write) {
            Ok(written) => saved(&written),
            Err(WriteError::Refused(problem)) => {
                let now = self.qad_record(code);
                let changed = now.is_some_and(|record| record.get("concurrencyHash") != hash.as_ref());
                Err(if changed {
                    WriteError::NotApplied {
                        retry_after: None,
                        problem,
                    }
                } else {
                    WriteError::Refused(problem)
                })
            }
            Err(error) => Err(error),
        }
    }
}
