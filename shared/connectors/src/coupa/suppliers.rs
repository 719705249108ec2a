//! Suppliers in Coupa: a keyset listing of those changed, a look-up by number, create and update.
//!
//! Only what the two systems are aligned on is read from an answer. A nested object (contact, address) is written whole,
//! with what Coupa holds besides, because nothing says whether Coupa merges or replaces it.

use super::{CoupaClient, PAGE_RECORDS_MAX, not_found, wire};
use crate::connection::{CoupaSupplierDefaults, NumberMap};
use crate::http::Call;
use crate::http::transport::{Method, Response};
use crate::json::{self, Json, Misread, Node};
use async_trait::async_trait;
use domain::ids::SupplierCode;
use domain::problem::Problem;
use domain::suppliers::{CoupaSupplier, CoupaSupplierStatus, SupplierData, SupplierField};
use domain::time::Timestamp;
use flows::ports::{CoupaSupplierPage, CoupaSuppliers, ReadError, WriteError};
use flows::sync_suppliers::TAKEN;
use std::collections::BTreeMap;

const UNREADABLE: &str = "COUPA_SUPPLIER_UNREADABLE";
const UNREADABLE_FIX: &str = "Correct the supplier in Coupa; it is read again when it changes.";
/// What of a contact is written back as Coupa holds it.
const CONTACT_KEPT: [&str; 5] = ["id", "name-given", "name-family", "phone-work", "phone-mobile"];
/// What of an address is written back as Coupa holds it.
const ADDRESS_KEPT: [&str; 7] = [
    "id",
    "street1",
    "street2",
    "city",
    "state",
    "postal-code",
    "country",
];
/// The fields of an address: ours and Coupa's names.
const ADDRESS: [(SupplierField, &str); 4] = [
    (SupplierField::Street, "street1"),
    (SupplierField::City, "city"),
    (SupplierField::State, "state"),
    (SupplierField::PostalCode, "postal-code"),
];

/// Reads one supplier, its number as QAD's code. Only a listing has to tell when it was changed.
fn supplier(node: &Node<'_>, listed: bool, numbers: &NumberMap) -> Result<CoupaSupplier, Misread> {
    let id = id_of(node)?;
    let updated = node.get("updated-at");
    let updated_at = if updated.is_null() && !listed {
        Timestamp::default()
    } else {
        updated.required_instant()?
    };
    let status = match node.get("status").required_text()?.to_lowercase().as_str() {
        "active" => CoupaSupplierStatus::Active,
        "inactive" => CoupaSupplierStatus::Inactive,
        other => CoupaSupplierStatus::NotApproved(other.to_owned()),
    };
    let address = node.get("primary-address");
    let country = match address.get("country") {
        country if country.is_object() => country.get("code"),
        country => country,
    };
    let mut data = SupplierData::default();
    for (field, value) in [
        (SupplierField::Name, node.get("name")),
        (SupplierField::TaxId, node.get("tax-id")),
        (SupplierField::PaymentTerms, node.walk("payment-term.code")),
        (SupplierField::Email, node.walk("primary-contact.email")),
        (SupplierField::Country, country),
    ] {
        data.set(field, &value.text()?.unwrap_or_default());
    }
    for (field, name) in ADDRESS {
        data.set(field, &address.get(name).text()?.unwrap_or_default());
    }
    Ok(CoupaSupplier {
        id,
        number: node.get("number").text()?.map(|number| numbers.apply(&number)),
        status,
        data,
        updated_at,
    })
}

fn id_of(node: &Node<'_>) -> Result<u64, Misread> {
    let id = node.get("id");
    id.whole()?.ok_or_else(|| id.misread("a supplier id"))
}

fn unreadable(misread: Misread) -> ReadError {
    ReadError::Unreadable(misread.problem(UNREADABLE, UNREADABLE_FIX))
}

fn text(text: &str) -> Json {
    Json::Text(text.to_owned())
}

fn object(members: impl IntoIterator<Item = (&'static str, Json)>) -> Json {
    Json::Object(
        members
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

/// Members of an object that are kept as they are.
fn kept(node: &Node<'_>, names: &[&str]) -> BTreeMap<String, Json> {
    let members = names.iter().map(|name| (*name, node.get(name)));
    members
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value.to_json()))
        .collect()
}

/// The fields that stand at the top of a supplier.
fn top_fields(number: &str, data: &SupplierData) -> BTreeMap<String, Json> {
    let mut body = BTreeMap::from([("number".to_owned(), text(number))]);
    for (field, value) in data.iter() {
        let (name, value) = match field {
            SupplierField::Name => ("name", text(value)),
            SupplierField::TaxId => ("tax-id", text(value)),
            SupplierField::Active if value == "true" => ("status", text("active")),
            SupplierField::Active => ("status", text("inactive")),
            SupplierField::PaymentTerms => ("payment-term", object([("code", text(value))])),
            SupplierField::Email
            | SupplierField::Street
            | SupplierField::City
            | SupplierField::PostalCode
            | SupplierField::State
            | SupplierField::Country => continue,
        };
        body.insert(name.to_owned(), value);
    }
    body
}

fn is_of_address(field: SupplierField) -> bool {
    field == SupplierField::Country || ADDRESS.iter().any(|(one, _)| *one == field)
}

/// Lays the fields of an address over what is there.
fn address_over(mut address: BTreeMap<String, Json>, data: &SupplierData) -> Json {
    for (field, name) in ADDRESS {
        if let Some(value) = data.get(field) {
            address.insert(name.to_owned(), text(value));
        }
    }
    if let Some(country) = data.get(SupplierField::Country) {
        address.insert("country".to_owned(), object([("code", text(country))]));
    }
    Json::Object(address)
}

/// What Coupa demands and QAD does not tell comes from the connection; what neither tells is named.
fn create_body(number: &str, data: &SupplierData, defaults: &CoupaSupplierDefaults) -> Result<Json, Problem> {
    let missing = |code: &str, setting: &str, expected: &str| {
        let fix = format!("Fill it in QAD, or set {setting} in the connection.");
        Problem::new(code, fix)
            .field(format!("supplier {number}"))
            .expected(expected)
            .actual("none")
    };
    let mut filled = data.clone();
    let mut fill = |field: SupplierField, value: &str| {
        if filled.get(field).is_none() {
            filled.set(field, value);
        }
    };
    fill(SupplierField::Email, &defaults.contact_email);
    // Coupa demands each of these; the state only belongs to the default place as a whole.
    let is_nowhere = data.get(SupplierField::Street).is_none() && data.get(SupplierField::City).is_none();
    fill(SupplierField::Street, &defaults.street);
    fill(SupplierField::City, &defaults.city);
    fill(SupplierField::PostalCode, &defaults.postal_code);
    if is_nowhere {
        fill(SupplierField::State, &defaults.state);
    }
    fill(SupplierField::Country, &defaults.country);
    let Some(email) = filled.get(SupplierField::Email) else {
        let setting = "suppliers.coupa_defaults.contact_email";
        return Err(missing("SUPPLIER_WITHOUT_CONTACT", setting, "an e-mail address"));
    };
    if filled.get(SupplierField::Street).is_none() && filled.get(SupplierField::City).is_none() {
        let setting = "suppliers.coupa_defaults.street and city";
        return Err(missing("SUPPLIER_WITHOUT_ADDRESS", setting, "an address"));
    }
    let mut contact = BTreeMap::from([("email".to_owned(), text(email))]);
    for (name, value) in [
        ("name-given", &defaults.contact_given_name),
        ("name-family", &defaults.contact_family_name),
    ] {
        if !value.trim().is_empty() {
            contact.insert(name.to_owned(), text(value.trim()));
        }
    }
    let mut body = top_fields(number, data);
    // Without a status Coupa makes a draft (confirmed).
    body.entry("status".to_owned())
        .or_insert_with(|| text("inactive"));
    body.insert("payment-method".to_owned(), text(&defaults.payment_method));
    if !defaults.matching_level.is_empty() {
        body.insert(
            "invoice-matching-level".to_owned(),
            text(&defaults.matching_level),
        );
    }
    if !defaults.content_groups.is_empty() {
        let groups = defaults.content_groups.iter();
        let groups = groups.map(|group| object([("name", text(group))]));
        body.insert("content-groups".to_owned(), Json::List(groups.collect()));
    }
    body.insert("primary-contact".to_owned(), Json::Object(contact));
    body.insert(
        "primary-address".to_owned(),
        address_over(BTreeMap::new(), &filled),
    );
    Ok(Json::Object(body))
}

fn written(body: &Json) -> Result<Vec<u8>, WriteError> {
    serde_json::to_vec(body).map_err(|error| {
        let fix = "Report this: the supplier could not be written as JSON.";
        WriteError::Refused(Problem::new("COUPA_SUPPLIER_UNWRITABLE", fix).actual(error.to_string()))
    })
}

/// Nothing was sent yet: a read that fails before a write.
fn not_sent(error: ReadError) -> WriteError {
    match error {
        ReadError::Unavailable { retry_after, problem } => WriteError::NotApplied { retry_after, problem },
        ReadError::Refused(problem) | ReadError::Unreadable(problem) => WriteError::Refused(problem),
    }
}

impl CoupaClient {
    /// How Coupa numbers the supplier of QAD's code. The error says that no number of Coupa's can mean this code.
    fn number_in_coupa(&self, code: &SupplierCode) -> Result<String, Problem> {
        self.numbers.supplier.reverse(code.as_str()).ok_or_else(|| {
            let fix = "Correct coupa.supplier_code in the connection, or list this code in its map.";
            Problem::new("SUPPLIER_CODE_NOT_MAPPED", fix)
                .field(format!("supplier {code}"))
                .expected("a number in Coupa that means this code")
                .actual("none by coupa.supplier_code")
        })
    }

    async fn supplier_list(
        &self,
        operation: &'static str,
        query: &[(&str, String)],
    ) -> Result<Vec<Json>, ReadError> {
        let url = self.base.at("/api/suppliers", query);
        let Some(json) = self.peer.read(&Call::get(operation, url)).await? else {
            return Err(ReadError::Refused(not_found("suppliers")));
        };
        let fix = "Check the base URL and the client's scopes: a list of suppliers was asked for.";
        let items = Node::root(&json)
            .required_items()
            .map_err(|misread| ReadError::Unreadable(misread.problem("COUPA_ANSWER_UNREADABLE", fix)))?;
        if items.len() > PAGE_RECORDS_MAX {
            let actual = format!("{} records", items.len());
            return Err(Self::broken_page("at most 50 records", &actual));
        }
        Ok(items.iter().map(Node::to_json).collect())
    }

    /// One supplier as Coupa holds it, by a listing of one: it is asked for like all others.
    async fn supplier_as_is(&self, id: u64) -> Result<Json, ReadError> {
        let query = [
            ("id[gt]", id.saturating_sub(1).to_string()),
            ("order_by", "id".to_owned()),
            ("dir", "asc".to_owned()),
            ("limit", "1".to_owned()),
        ];
        let found = self
            .supplier_list("read_supplier", &query)
            .await?
            .into_iter()
            .next();
        match found {
            Some(json) if id_of(&Node::root(&json)).map_err(unreadable)? == id => Ok(json),
            _ => Err(ReadError::Refused(
                Problem::new(
                    "COUPA_SUPPLIER_GONE",
                    "Find out what became of the supplier in Coupa; nothing was written.",
                )
                .field(format!("Coupa supplier {id}"))
                .expected("a supplier")
                .actual("none"),
            )),
        }
    }

    /// The supplier in the answer to a write; one that cannot be read there is read anew.
    async fn supplier_shown(&self, response: &Response) -> Result<CoupaSupplier, WriteError> {
        let unknown = |problem| WriteError::Unknown(problem);
        let fix = "Nothing to do: the supplier is looked up.";
        let json = json::parse(&response.body)
            .map_err(|detail| unknown(Problem::new(UNREADABLE, fix).actual(detail)))?;
        let root = Node::root(&json);
        match supplier(&root, false, &self.numbers.supplier) {
            Ok(supplier) => Ok(supplier),
            Err(misread) => {
                let id = id_of(&root).map_err(|_| unknown(misread.problem(UNREADABLE, fix)))?;
                self.supplier_read_back(id).await
            }
        }
    }

    async fn supplier_read_back(&self, id: u64) -> Result<CoupaSupplier, WriteError> {
        let read = self.supplier_as_is(id).await;
        let json = read.map_err(|error| WriteError::Unknown(error.problem().clone()))?;
        let fix = "Nothing to do: the supplier is looked up.";
        supplier(&Node::root(&json), false, &self.numbers.supplier)
            .map_err(|misread| WriteError::Unknown(misread.problem(UNREADABLE, fix)))
    }

    /// Coupa's refusal; one because of a name or number that another supplier has is told apart, because that one's change
    /// may lift it.
    fn supplier_refusal(&self, response: &Response) -> Problem {
        let mut problem = self.peer.refusal(response);
        if problem.actual.contains("already been taken") {
            TAKEN.clone_into(&mut problem.code);
            "Rename or renumber one of the two suppliers in Coupa.".clone_into(&mut problem.fix);
        }
        problem
    }
}

#[async_trait]
impl CoupaSuppliers for CoupaClient {
    async fn suppliers(
        &self,
        since: Option<Timestamp>,
        after: Option<u64>,
    ) -> Result<CoupaSupplierPage, ReadError> {
        let after = after.unwrap_or(0);
        let mut query: Vec<(&str, String)> = Vec::new();
        query.extend(since.map(|since| ("updated-at[gt]", instant(since))));
        query.extend([
            ("id[gt]", after.to_string()),
            ("order_by", "id".to_owned()),
            ("dir", "asc".to_owned()),
            ("limit", wire::PAGE_RECORDS.to_string()),
        ]);
        let items = self.supplier_list("list_suppliers", &query).await?;
        let mut page = CoupaSupplierPage {
            more: items.len() >= wire::PAGE_RECORDS,
            ..CoupaSupplierPage::default()
        };
        for (index, item) in items.iter().enumerate() {
            let node = Node::at(item, format!("[{index}]"));
            let id = id_of(&node).ok();
            match supplier(&node, true, &self.numbers.supplier) {
                Ok(supplier) => page.suppliers.push(supplier),
                Err(misread) => page
                    .unreadable
                    .push((id, misread.problem(UNREADABLE, UNREADABLE_FIX))),
            }
            if let Some(id) = id.filter(|id| *id <= after) {
                return Err(Self::broken_page(&format!("ids above {after}"), &id.to_string()));
            }
            page.last = page.last.max(id);
        }
        Ok(page)
    }

    async fn suppliers_numbered(&self, number: &SupplierCode) -> Result<Vec<CoupaSupplier>, ReadError> {
        let query = [(
            "number",
            self.number_in_coupa(number).map_err(ReadError::Refused)?,
        )];
        let items = self.supplier_list("find_supplier", &query).await?;
        if items.len() >= wire::PAGE_RECORDS {
            return Err(Self::broken_page("few suppliers of one number", "a full page"));
        }
        let mut found = Vec::new();
        for item in &items {
            let supplier = supplier(&Node::root(item), false, &self.numbers.supplier).map_err(unreadable)?;
            // A number that is more than what was asked for is another one.
            found.extend(Some(supplier).filter(|supplier| supplier.is_numbered(number)));
        }
        Ok(found)
    }

    async fn create_supplier(
        &self,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        let body = self
            .number_in_coupa(number)
            .and_then(|number| create_body(&number, data, &self.supplier_defaults))
            .map_err(WriteError::Refused)?;
        let call = Call {
            operation: "create_supplier",
            method: Method::Post,
            url: self.base.at("/api/suppliers", &[]),
            body: Some(written(&body)?),
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        let response = self.peer.write(&call).await?;
        if (200..=299).contains(&response.status) {
            return self.supplier_shown(&response).await;
        }
        let problem = self.supplier_refusal(&response);
        // "Taken" may speak of this very supplier, made by an earlier attempt: then nothing is refused, it is looked up.
        match self.suppliers_numbered(number).await {
            Ok(found) if found.is_empty() => Err(WriteError::Refused(problem)),
            Ok(_) | Err(_) => Err(WriteError::Unknown(problem)),
        }
    }

    async fn update_supplier(
        &self,
        id: u64,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        let in_coupa = self.number_in_coupa(number).map_err(WriteError::Refused)?;
        let mut body = top_fields(&in_coupa, data);
        let email = data.get(SupplierField::Email);
        let moves = data.iter().any(|(field, _)| is_of_address(field));
        // Several spellings of a number that is filled up with zeros mean one code: the one that is there stays.
        let many_spellings = self.numbers.supplier.pad_to > 0;
        if email.is_some() || moves || many_spellings {
            let json = self.supplier_as_is(id).await.map_err(not_sent)?;
            let root = Node::root(&json);
            let known = supplier(&root, false, &self.numbers.supplier);
            if many_spellings && known.is_ok_and(|known| known.is_numbered(number)) {
                body.remove("number");
            }
            if let Some(email) = email {
                let mut contact = kept(&root.get("primary-contact"), &CONTACT_KEPT);
                contact.insert("email".to_owned(), text(email));
                body.insert("primary-contact".to_owned(), Json::Object(contact));
            }
            if moves {
                let address = kept(&root.get("primary-address"), &ADDRESS_KEPT);
                body.insert("primary-address".to_owned(), address_over(address, data));
            }
        }
        let call = Call {
            operation: "update_supplier",
            method: Method::Put,
            url: self.base.at(&format!("/api/suppliers/{id}"), &[]),
            body: Some(written(&Json::Object(body))?),
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        let response = self.peer.write(&call).await?;
        if !(200..=299).contains(&response.status) {
            return Err(WriteError::Refused(self.supplier_refusal(&response)));
        }
        match self.supplier_shown(&response).await {
            Ok(shown) if shown.id == id => Ok(shown),
            // The write is done; only its echo says too little.
            _ => self.supplier_read_back(id).await,
        }
    }
}

/// An instant as Coupa writes it, to the second: never later than it is.
fn instant(at: Timestamp) -> String {
    /// Milliseconds of a second.
    const SECOND: i64 = 1_000;
    let seconds = at.0.div_euclid(SECOND);
    let text = jiff::Timestamp::from_second(seconds).map_or_else(|_| at.to_string(), |at| at.to_string());
    text.trim_end_matches('Z').to_owned() + "+00:00"
}
