//! QAD's requests, exactly as they go over the wire.

use super::profile::{Constant, Profile, Resource};
use super::suppliers::{HASH, OPERATION};
use crate::http::address::BaseUrl;
use domain::ids::DocumentKind;
use domain::matching::SupplierInvoiceDraft;
use domain::policy::Payee;
use domain::time::Date;
use rust_decimal::Decimal;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How a criterion compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    AtLeast,
    /// Any other word of a browse.
    Word(&'static str),
}

/// One criterion of a look-up, by our name of it, or by the tenant's field itself.
pub(crate) struct Criterion {
    pub(crate) name: Cow<'static, str>,
    pub(crate) operator: Operator,
    pub(crate) value: String,
}

impl Criterion {
    pub(crate) fn equal(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            operator: Operator::Equal,
            value: value.into(),
        }
    }

    pub(crate) fn at_least(name: &'static str, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            operator: Operator::AtLeast,
            value: value.into(),
        }
    }
}

/// One page of a browse. Page and page action are required: without them QAD answers no rows (seen).
pub(crate) fn browse_page(base: &BaseUrl, resource: &Resource, criteria: &[Criterion], page: u32) -> String {
    let action = if page == 1 { "first" } else { "next" };
    let mut query = vec![
        ("browseId", resource.browse_id.clone()),
        ("page", page.to_string()),
        ("pageSize", resource.page_rows.to_string()),
        ("pageAction", action.to_owned()),
    ];
    for criterion in criteria {
        let field = resource.filter(&criterion.name);
        let operator = match criterion.operator {
            Operator::Equal => "eq",
            Operator::AtLeast => "ge",
            Operator::Word(word) => word,
        };
        query.push((
            "filter",
            format!("{field},{operator},{},literal", criterion.value),
        ));
    }
    query.extend(extra_query(resource));
    base.at(&resource.path, &query)
}

/// The records of an entity with these keys.
pub(crate) fn entity_find(base: &BaseUrl, resource: &Resource, criteria: &[Criterion]) -> String {
    let mut query: Vec<(&str, String)> = criteria
        .iter()
        .map(|criterion| (resource.filter(&criterion.name), criterion.value.clone()))
        .collect();
    query.push(("viewUri", resource.view.clone()));
    query.extend(extra_query(resource));
    base.at(&resource.path, &query)
}

/// Where a record is created. No keys in the query: with them QAD looks the record up (seen).
pub(crate) fn create(base: &BaseUrl, resource: &Resource) -> String {
    if resource.is_bdoc() {
        return bdoc(base, resource);
    }
    let mut query = vec![("viewUri", resource.view.clone())];
    query.extend(extra_query(resource));
    base.at(&resource.path, &query)
}

/// Where a record is updated: its keys in the query, but for a business document.
pub(crate) fn update(base: &BaseUrl, resource: &Resource, keys: &[Criterion]) -> String {
    if resource.is_bdoc() {
        bdoc(base, resource)
    } else {
        entity_find(base, resource, keys)
    }
}

fn bdoc(base: &BaseUrl, resource: &Resource) -> String {
    let query: Vec<_> = extra_query(resource).collect();
    base.at(&resource.bdoc_path, &query)
}

fn extra_query(resource: &Resource) -> impl Iterator<Item = (&str, String)> {
    resource
        .extra_query
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
}

/// A JSON value to be written, with its members in the order they were given and its decimals digit for digit.
enum Out {
    Text(String),
    Flag(bool),
    Raw(Box<RawValue>),
    List(Vec<Out>),
    Object(Vec<(String, Out)>),
}

impl Serialize for Out {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Raw(raw) => raw.serialize(serializer),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

fn number(decimal: Decimal) -> Result<Out, serde_json::Error> {
    RawValue::from_string(decimal.to_string()).map(Out::Raw)
}

fn whole(number: impl ToString) -> Result<Out, serde_json::Error> {
    RawValue::from_string(number.to_string()).map(Out::Raw)
}

fn text(text: impl Into<String>) -> Out {
    Out::Text(text.into())
}

/// QAD writes calendar dates as midnight UTC (seen).
fn date(date: Date) -> Out {
    Out::Text(format!("{date}T00:00:00.000Z"))
}

/// The body that creates a supplier invoice with its receiver matching.
pub(crate) fn create_body(
    profile: &Profile,
    draft: &SupplierInvoiceDraft,
) -> Result<Vec<u8>, serde_json::Error> {
    let resource = &profile.supplier_invoices;
    let named = |name: &'static str, value: Out| (resource.field(name).to_owned(), value);
    let kind = match draft.identity.kind {
        DocumentKind::Invoice => &profile.invoice_type,
        DocumentKind::CreditNote => &profile.credit_note_type,
    };
    let mut record = vec![
        named("entity", text(draft.identity.entity.as_str())),
        named("domain", text(draft.domain.as_str())),
        named("supplier", text(draft.identity.supplier.as_str())),
        named("reference", text(draft.identity.reference.as_str())),
        named("type", text(kind.as_str())),
        named("daybook", text(draft.daybook.as_str())),
        named("matching-daybook", text(draft.matching_daybook.as_str())),
        named("currency", text(draft.currency.as_str())),
        named("invoice-date", date(draft.invoice_date)),
        named("posting-date", date(draft.posting_date)),
    ];
    // Left out, QAD takes the supplier's terms.
    if let Some(terms) = &draft.credit_terms {
        record.push(named("credit-terms", text(terms.as_str())));
    }
    // Left out, QAD pays the supplier at its usual account.
    match &draft.payee {
        Some(Payee::BankNumber(bank)) => record.push(named("bank-number", text(bank.as_str()))),
        Some(Payee::PayingSupplier(supplier)) => {
            record.push(named("paying-supplier", text(supplier.as_str())));
        }
        None => {}
    }
    record.extend([
        named("invoice-status", text(draft.invoice_status.as_str())),
        named("total", number(draft.total)?),
        named("tax", number(draft.tax)?),
        named("description", text(draft.description())),
        named("orders", orders(resource, draft)),
        named("matches", matches(resource, draft)?),
        named("costs", costs(resource, draft)?),
    ]);
    if let Some(link) = &profile.invoice_link {
        record.push((link.field.trim().to_owned(), text(link.of(draft.coupa_id))));
    }
    for (name, constant) in &profile.create_constants {
        let value = match constant {
            Constant::Flag(flag) => Out::Flag(*flag),
            Constant::Whole(number) => whole(number)?,
            Constant::Text(constant) => text(constant.as_str()),
        };
        record.push((name.clone(), value));
    }
    record.push((OPERATION.to_owned(), text("C")));
    record.push((HASH.to_owned(), text("")));
    let records = Out::List(vec![Out::Object(record)]);
    serde_json::to_vec(&if resource.is_bdoc() {
        records
    } else {
        Out::Object(vec![
            (resource.plural.clone(), records),
            ("supplementaryMessages".to_owned(), Out::List(Vec::new())),
        ])
    })
}

fn orders(resource: &Resource, draft: &SupplierInvoiceDraft) -> Out {
    let order = |number: &domain::ids::PurchaseOrderNumber| {
        Out::Object(vec![
            (
                resource.field("order-domain").to_owned(),
                text(draft.domain.as_str()),
            ),
            (resource.field("order-number").to_owned(), text(number.as_str())),
        ])
    };
    Out::List(draft.orders.iter().map(order).collect())
}

fn matches(resource: &Resource, draft: &SupplierInvoiceDraft) -> Result<Out, serde_json::Error> {
    let named = |name: &'static str, value: Out| (resource.field(name).to_owned(), value);
    let mut list = Vec::with_capacity(draft.matches.len());
    for one in &draft.matches {
        list.push(Out::Object(vec![
            named("match-order", text(one.order_line.order.as_str())),
            named("match-line", whole(one.order_line.line)?),
            named("match-receiver", text(one.receiver.as_str())),
            named("match-quantity", number(one.quantity)?),
            named("match-price", number(one.unit_price)?),
            named("match-finished", Out::Flag(one.finished)),
        ]));
    }
    Ok(Out::List(list))
}

fn costs(resource: &Resource, draft: &SupplierInvoiceDraft) -> Result<Out, serde_json::Error> {
    let named = |name: &'static str, value: Out| (resource.field(name).to_owned(), value);
    let mut list = Vec::with_capacity(draft.costs.len());
    for cost in &draft.costs {
        let mut one = vec![named("cost-account", text(cost.gl_account.as_str()))];
        if !cost.sub_account.is_empty() {
            one.push(named("cost-sub-account", text(cost.sub_account.as_str())));
        }
        one.extend([
            named("cost-center", text(cost.cost_center.as_str())),
            named("cost-project", text(cost.project.as_str())),
            named("cost-amount", number(cost.amount)?),
            named("cost-description", text(cost.description.as_str())),
        ]);
        list.push(Out::Object(one));
    }
    Ok(Out::List(list))
}
