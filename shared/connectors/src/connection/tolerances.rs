//! Settings about how far an invoice may differ from its order and its receipts.

use super::{Exact, invalid};
use domain::money::Currency;
use domain::policy::{Limit, LimitChanges, Tolerance};
use domain::problem::Problem;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Most currencies, and most suppliers, that may have limits of their own.
const EXCEPTIONS_MAX: usize = 500;

/// One limit: a number is what is free; a table gives percent, amount and free.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LimitDocument(Limit);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitTable {
    percent: Option<Exact>,
    amount: Option<Exact>,
    free: Option<Exact>,
}

impl<'de> Deserialize<'de> for LimitDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let read = |error: serde_json::Error| serde::de::Error::custom(error.to_string());
        if raw.get().starts_with('{') {
            let table: LimitTable = serde_json::from_str(raw.get()).map_err(read)?;
            return Ok(Self(Limit {
                percent: table.percent.map(|percent| percent.0),
                amount: table.amount.map(|amount| amount.0),
                free: table.free.map(|free| free.0).unwrap_or_default(),
            }));
        }
        let free: Exact = serde_json::from_str(raw.get()).map_err(read)?;
        Ok(Self(Limit::free(free.0)))
    }
}

/// A limit in each direction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct BandDocument {
    over: Option<LimitDocument>,
    under: Option<LimitDocument>,
}

/// A limit on more alone: less than received, or than ordered, may always be billed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct OverDocument {
    over: Option<LimitDocument>,
}

/// Limits that may be given for all documents, and for those of a currency or a supplier.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LimitsDocument {
    /// Of a supplier alone: the currency of its amounts.
    currency: Option<Currency>,
    price: BandDocument,
    received: OverDocument,
    ordered: OverDocument,
    total: Option<LimitDocument>,
    echo: Option<LimitDocument>,
}

impl LimitsDocument {
    fn changes(&self) -> LimitChanges {
        let limit = |document: &Option<LimitDocument>| document.as_ref().map(|limit| limit.0.clone());
        LimitChanges {
            currency: self.currency,
            price_over: limit(&self.price.over),
            price_under: limit(&self.price.under),
            received_over: limit(&self.received.over),
            ordered_over: limit(&self.ordered.over),
            total: limit(&self.total),
            echo: limit(&self.echo),
        }
    }
}

/// The section `invoices.tolerance`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ToleranceDocument {
    version: String,
    currency: Option<Currency>,
    price: BandDocument,
    received: OverDocument,
    ordered: OverDocument,
    total: Option<LimitDocument>,
    echo: Option<LimitDocument>,
    by_currency: BTreeMap<Currency, LimitsDocument>,
    by_supplier: BTreeMap<String, LimitsDocument>,
    /// The name that `price.over.percent` had.
    unit_price_percent_over: Option<Exact>,
    /// The name that `ordered.over.percent` had.
    quantity_percent_over: Option<Exact>,
    /// The name that `total` had.
    total_amount: Option<Exact>,
}

impl ToleranceDocument {
    /// The limits; a set without a name gets one that changes with them. An old name is understood as what it meant, and
    /// refused beside its new one.
    pub(super) fn tolerance(&self, problems: &mut Vec<Problem>) -> Tolerance {
        let standard = Tolerance::default();
        let mut tolerance = Tolerance {
            version: String::new(),
            currency: self.currency,
            by_currency: changes("by_currency", &self.by_currency, problems),
            by_supplier: changes("by_supplier", &self.by_supplier, problems),
            ..standard.clone()
        };
        let given = LimitsDocument {
            currency: None,
            price: self.price.clone(),
            received: self.received.clone(),
            ordered: self.ordered.clone(),
            total: self.total.clone(),
            echo: self.echo.clone(),
        }
        .changes();
        check("invoices.tolerance", &given, problems);
        self.check_old_names(&given, problems);
        if let Some(percent) = &self.unit_price_percent_over {
            tolerance.limits.price.over.percent = Some(percent.0);
        }
        if let Some(percent) = &self.quantity_percent_over {
            tolerance.limits.ordered_over = Some(Limit::percent(percent.0));
        }
        if let Some(amount) = &self.total_amount {
            tolerance.limits.total = Limit::free(amount.0);
        }
        given.apply(&mut tolerance.limits);
        let name = self.version.trim();
        tolerance.version = if !name.is_empty() {
            name.to_owned()
        } else if tolerance
            == (Tolerance {
                version: String::new(),
                ..standard.clone()
            })
        {
            standard.version
        } else {
            // The figures are in their shortest form since they were read: 0.1 and 0.10 are one limit.
            let digest = hex::encode(Sha256::digest(format!("{tolerance:?}").as_bytes()));
            format!("custom-{}", digest.get(..8).unwrap_or_default())
        };
        tolerance
    }

    fn check_old_names(&self, given: &LimitChanges, problems: &mut Vec<Problem>) {
        for (old, value, new, is_given) in [
            (
                "unit_price_percent_over",
                &self.unit_price_percent_over,
                "price.over",
                given.price_over.is_some(),
            ),
            (
                "quantity_percent_over",
                &self.quantity_percent_over,
                "ordered.over",
                given.ordered_over.is_some(),
            ),
            ("total_amount", &self.total_amount, "total", given.total.is_some()),
        ] {
            let Some(value) = value else { continue };
            let field = format!("invoices.tolerance.{old}");
            if value.0 < Decimal::ZERO {
                problems.push(invalid(&field, "zero or more", value.0.to_string()));
            }
            if is_given {
                let expected = format!("invoices.tolerance.{new} alone, its new name");
                problems.push(invalid(&field, expected, "both"));
            }
        }
    }
}

fn changes<K: Ord + Clone + std::fmt::Display>(
    name: &str,
    documents: &BTreeMap<K, LimitsDocument>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<K, LimitChanges> {
    if documents.len() > EXCEPTIONS_MAX {
        let expected = format!("at most {EXCEPTIONS_MAX}");
        problems.push(invalid(
            &format!("invoices.tolerance.{name}"),
            expected,
            documents.len().to_string(),
        ));
    }
    documents
        .iter()
        .map(|(key, document)| {
            let changes = document.changes();
            let at = format!("invoices.tolerance.{name}.{key}");
            check(&at, &changes, problems);
            if let Some(other) = changes.currency.filter(|_| name == "by_currency") {
                let expected = format!("nothing: its amounts are in {key}");
                problems.push(invalid(&format!("{at}.currency"), expected, other.to_string()));
            }
            (key.clone(), changes)
        })
        .collect()
}

fn check(at: &str, changes: &LimitChanges, problems: &mut Vec<Problem>) {
    for (name, limit) in [
        ("price.over", &changes.price_over),
        ("price.under", &changes.price_under),
        ("received.over", &changes.received_over),
        ("ordered.over", &changes.ordered_over),
        ("total", &changes.total),
        ("echo", &changes.echo),
    ] {
        let Some(limit) = limit else { continue };
        for (part, figure) in [
            ("percent", limit.percent),
            ("amount", limit.amount),
            ("free", Some(limit.free)),
        ] {
            if let Some(figure) = figure.filter(|figure| *figure < Decimal::ZERO) {
                problems.push(invalid(
                    &format!("{at}.{name}.{part}"),
                    "zero or more",
                    figure.to_string(),
                ));
            }
        }
    }
}
