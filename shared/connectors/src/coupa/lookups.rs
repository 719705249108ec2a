//! Values of a lookup: read them all, find by number, create, change.
//!
//! Coupa has no upsert: a number or a name that is taken below the same value is refused (assumed wording), and who has it
//! is looked up.

use super::{CoupaClient, PAGE_RECORDS_MAX, not_found, wire};
use crate::http::address::BaseUrl;
use crate::http::transport::{Method, Response};
use crate::http::{Call, error_messages};
use crate::json::{self, Misread, Node};
use async_trait::async_trait;
use domain::ids::fold;
use domain::lookups::{
    Action, CoupaValue, LOOKUP_MISSING, LookupCode, ParentReference, VALUE_TAKEN, VALUES_MAX,
};
use domain::problem::Problem;
use flows::ports::{CoupaLookups, LookupScan, ReadError, WriteError};
use serde::Serialize;

const UNREADABLE: &str = "COUPA_LOOKUP_VALUE_UNREADABLE";
const UNREADABLE_FIX: &str = "Correct this value in Coupa; it is left alone, everything else goes on.";
/// Most values that are read for one number; each lies below another value.
const FOUND_MAX: usize = 500;

/// One page of a lookup's values, by id after `after`; only those of one number when that is asked for.
fn page_url(base: &BaseUrl, lookup: &str, number: Option<&LookupCode>, after: u64) -> String {
    let mut query = vec![("lookup[name]", lookup.to_owned())];
    if let Some(number) = number {
        query.push(("external-ref-num", number.as_str().to_owned()));
    }
    query.extend([
        ("id[gt]", after.to_string()),
        ("order_by", "id".to_owned()),
        ("dir", "asc".to_owned()),
        ("limit", wire::PAGE_RECORDS.to_string()),
    ]);
    base.at("/api/lookup_values", &query)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CreateBody<'a> {
    name: &'a str,
    external_ref_num: &'a str,
    active: bool,
    lookup: LookupName<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<ParentCode<'a>>,
}

#[derive(Serialize)]
struct LookupName<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ParentCode<'a> {
    external_ref_code: &'a str,
}

#[derive(Serialize)]
struct ChangeBody<'a> {
    name: &'a str,
    active: bool,
}

/// Reads one value. The error names its number when at least that can be read: the value is then known to be meant.
fn value(node: &Node<'_>) -> Result<CoupaValue, (Option<LookupCode>, Misread)> {
    let number = node.get("external-ref-num");
    let known = number.parsed::<LookupCode>().ok().flatten();
    read(node).map_err(|misread| (known, misread))
}

fn read(node: &Node<'_>) -> Result<CoupaValue, Misread> {
    let (id, active) = (node.get("id"), node.get("active"));
    Ok(CoupaValue {
        id: id.whole()?.ok_or_else(|| id.misread("an id"))?,
        name: node.get("name").required_text()?,
        active: active.flag()?.ok_or_else(|| active.misread("true or false"))?,
        code: node.get("external-ref-num").text()?,
        external_ref_code: node.get("external-ref-code").text()?,
        parent: parent(node)?,
    })
}

/// The value above, however Coupa shows it.
fn parent(node: &Node<'_>) -> Result<Option<ParentReference>, Misread> {
    let parent = node.get("parent");
    let reference = ParentReference {
        id: match parent.get("id").whole()? {
            Some(id) => Some(id),
            None => node.get("parent-id").whole()?,
        },
        external_ref_code: parent.get("external-ref-code").text()?,
    };
    if reference != ParentReference::default() {
        return Ok(Some(reference));
    }
    // An object that names nothing is still a parent: the value must not be taken for one at the root.
    if parent.is_object() && !parent.members().is_empty() {
        return Err(parent.misread("a parent with its id or its external-ref-code"));
    }
    Ok(None)
}

/// Values of another lookup mean that Coupa did not honour the filter.
fn of_lookup(node: &Node<'_>, lookup: &str) -> Result<(), ReadError> {
    let name = node.get("lookup").get("name");
    match name.text() {
        Ok(Some(text)) if fold(&text) != fold(lookup) => {
            let fix = "Report this to Coupa: the values of one lookup were asked for, and others came.";
            let misread = name.misread(lookup);
            Err(ReadError::Unreadable(
                misread.problem("COUPA_FILTER_IGNORED", fix),
            ))
        }
        _ => Ok(()),
    }
}

impl CoupaClient {
    /// Reads all pages, complete or not at all.
    async fn values(
        &self,
        operation: &'static str,
        lookup: &str,
        number: Option<&LookupCode>,
        most: usize,
    ) -> Result<LookupScan, ReadError> {
        let mut scan = LookupScan::default();
        let mut after = 0;
        let mut seen = 0usize;
        loop {
            let url = page_url(&self.base, lookup, number, after);
            let Some(json) = self.peer.read(&Call::get(operation, url)).await? else {
                return Err(ReadError::Refused(not_found("lookup_values")));
            };
            let fix = "Check the base URL and the client's scopes: a list of lookup values was asked for.";
            let items = Node::root(&json)
                .required_items()
                .map_err(|misread| Self::unreadable(misread.problem("COUPA_ANSWER_UNREADABLE", fix)))?;
            seen = seen.saturating_add(items.len());
            if items.len() > PAGE_RECORDS_MAX || seen > most {
                let actual = format!("{} records on a page, {seen} in all", items.len());
                return Err(Self::broken_page(
                    &format!("at most 50 on a page, {most} in all"),
                    &actual,
                ));
            }
            let mut last = after;
            for item in &items {
                of_lookup(item, lookup)?;
                if let Ok(Some(id)) = item.get("id").whole() {
                    if id <= after {
                        return Err(Self::broken_page(&format!("ids above {after}"), &id.to_string()));
                    }
                    last = last.max(id);
                }
                match value(item) {
                    Ok(value) => scan.values.push(value),
                    Err((code, misread)) => scan
                        .unreadable
                        .push((code, misread.problem(UNREADABLE, UNREADABLE_FIX))),
                }
            }
            if items.len() < wire::PAGE_RECORDS {
                return Ok(scan);
            }
            if last == after {
                return Err(Self::broken_page(
                    "a record with an id",
                    "a full page without any",
                ));
            }
            after = last;
        }
    }

    async fn write_value(
        &self,
        call: Call,
        lookup: &str,
        action: &Action,
        sent: Result<Vec<u8>, serde_json::Error>,
    ) -> Result<CoupaValue, WriteError> {
        let body = sent.map_err(|error| {
            let fix = "Report this: the lookup value could not be written as JSON.";
            WriteError::Refused(Problem::new("COUPA_LOOKUP_VALUE_UNWRITABLE", fix).actual(error.to_string()))
        })?;
        let call = Call {
            body: Some(body),
            ..call
        };
        let response = self.peer.write(&call).await?;
        if !(200..=299).contains(&response.status) {
            return Err(WriteError::Refused(self.value_refusal(&response, lookup, action)));
        }
        self.echoed(&response, lookup, action).await
    }

    /// What Coupa shows after it has accepted a write: its echo, or, when that does not show this value with its code, the value
    /// as read now.
    async fn echoed(
        &self,
        response: &Response,
        lookup: &str,
        action: &Action,
    ) -> Result<CoupaValue, WriteError> {
        let told = json::parse(&response.body)
            .ok()
            .and_then(|json| read(&Node::root(&json)).ok());
        if let Some(value) = told.filter(|value| action.is_about(value)) {
            return Ok(value);
        }
        let unknown = |problem: Problem| WriteError::Unknown(problem);
        let Some(code) = action.code() else {
            return Err(unknown(Problem::new(UNREADABLE, UNREADABLE_FIX)));
        };
        let found = self
            .find_lookup_values(lookup, code)
            .await
            .map_err(|error| unknown(error.problem().clone()))?;
        let mut ours = found.into_iter().filter(|value| action.is_about(value));
        match (ours.next(), ours.next()) {
            (Some(value), None) => Ok(value),
            _ => {
                let fix = "Nothing to do: the value is looked up.";
                Err(unknown(
                    Problem::new(UNREADABLE, fix)
                        .field("answer")
                        .expected(format!("the value {code}"))
                        .actual("nothing of it"),
                ))
            }
        }
    }

    fn value_refusal(&self, response: &Response, lookup: &str, action: &Action) -> Problem {
        let said = error_messages(&response.body).join("; ");
        let lower = said.to_lowercase();
        let about = || action.code().map(LookupCode::as_str).unwrap_or_default();
        if lower.contains("already been taken") || lower.contains("already taken") {
            let fix = "Nothing to do when it is ours: it is looked up. Else change one of the two values.";
            return Problem::new(VALUE_TAKEN, fix)
                .field(about())
                .expected("a name and a number that are free")
                .actual(said);
        }
        // The object itself may be named in an error of any of its fields.
        let of_the_lookup = ["lookup_value", "lookup-value", "lookup value"]
            .iter()
            .fold(lower, |text, object| text.replace(object, ""))
            .contains("lookup");
        if action.id.is_none() && (of_the_lookup || response.status == 404) {
            let fix = "Create the lookup in Coupa (Setup > Lookups), or correct its name in the connection.";
            return Problem::new(LOOKUP_MISSING, fix)
                .field(lookup)
                .expected("a lookup of this name in Coupa")
                .actual(format!("{} {said}", response.status));
        }
        self.peer.refusal(response).field(about())
    }
}

#[async_trait]
impl CoupaLookups for CoupaClient {
    async fn lookup_values(&self, lookup: &str) -> Result<LookupScan, ReadError> {
        self.values("list_lookup_values", lookup, None, VALUES_MAX).await
    }

    async fn has_lookup(&self, lookup: &str) -> Result<Option<bool>, ReadError> {
        let query = [("name", lookup.to_owned()), ("limit", "1".to_owned())];
        let call = Call::get("find_lookup", self.base.at("/api/lookups", &query));
        // Not every client may read lookups, and not every instance lists them: then only a write can tell.
        let json = match self.peer.read(&call).await {
            Ok(Some(json)) => json,
            Ok(None) | Err(ReadError::Refused(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(found) = Node::root(&json).required_items() else {
            return Ok(None);
        };
        let named = |node: &Node<'_>| {
            let name = node.get("name").text().ok().flatten();
            name.is_some_and(|name| fold(&name) == fold(lookup))
        };
        // Another lookup means that the filter was not honoured, and says nothing about this one.
        Ok(match found.as_slice() {
            [] => Some(false),
            found if found.iter().any(named) => Some(true),
            _ => None,
        })
    }

    async fn find_lookup_values(
        &self,
        lookup: &str,
        code: &LookupCode,
    ) -> Result<Vec<CoupaValue>, ReadError> {
        let scan = self
            .values("find_lookup_values", lookup, Some(code), FOUND_MAX)
            .await?;
        match scan.unreadable.into_iter().next() {
            Some((_, problem)) => Err(ReadError::Unreadable(problem)),
            None => Ok(scan.values),
        }
    }

    async fn create_lookup_value(
        &self,
        lookup: &str,
        action: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError> {
        let body = serde_json::to_vec(&CreateBody {
            name: &action.name,
            external_ref_num: action.code().map(LookupCode::as_str).unwrap_or_default(),
            active: action.active,
            lookup: LookupName { name: lookup },
            parent: action
                .parent_ref_code
                .as_deref()
                .map(|external_ref_code| ParentCode { external_ref_code }),
        });
        let call = Call {
            operation: "create_lookup_value",
            method: Method::Post,
            url: self.base.at("/api/lookup_values", &[]),
            body: None,
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        self.write_value(call, lookup, action, body).await
    }

    async fn update_lookup_value(
        &self,
        lookup: &str,
        id: u64,
        action: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError> {
        let body = serde_json::to_vec(&ChangeBody {
            name: &action.name,
            active: action.active,
        });
        let call = Call {
            operation: "update_lookup_value",
            method: Method::Put,
            url: self.base.at(&format!("/api/lookup_values/{id}"), &[]),
            body: None,
            idempotency_key: Some(idempotency_key.to_owned()),
        };
        self.write_value(call, lookup, action, body).await
    }
}
