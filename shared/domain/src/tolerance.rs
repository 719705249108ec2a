//! How far an invoice may differ from its order and its receipts before a person must look.
//!
//! A difference is allowed when it is at most what is free, or within every one of percent and amount that is given. Over is
//! our loss and under is our gain; a credit note is the other way round, and whoever asks changes the two.

use crate::ids::fold;
use crate::matching::exact;
use crate::money::Currency;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most smallest units of a currency that are free where the connection says nothing of that currency.
const FREE_MINOR_UNITS_MAX: u32 = 100;
/// Digits after the point of the currencies that the standard amounts are thought in.
const STANDARD_MINOR_DIGITS: u32 = 2;

/// One limit. Nothing given allows no difference at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Limit {
    /// Percent of what is compared with.
    pub percent: Option<Decimal>,
    /// Amount, in the currency that the limit is given in; of a quantity, in the order's unit.
    pub amount: Option<Decimal>,
    /// What is allowed whatever the percent is, in the same measure as the amount.
    pub free: Decimal,
}

impl Limit {
    /// A limit that is free alone.
    pub fn free(free: Decimal) -> Self {
        Self {
            free,
            ..Self::default()
        }
    }

    /// A limit in percent alone.
    pub fn percent(percent: Decimal) -> Self {
        Self {
            percent: Some(percent),
            ..Self::default()
        }
    }

    /// Whether a difference from `base` is allowed; both are magnitudes. `None` when a product leaves the exact range.
    pub fn allows(&self, difference: Decimal, base: Decimal) -> Option<bool> {
        Some(self.allows_freely(difference) || self.allows_all_given(difference, difference, base)?)
    }

    /// Whether it is free, whatever it is compared with.
    pub fn allows_freely(&self, difference: Decimal) -> bool {
        difference <= self.free
    }

    /// Whether it is within every one of percent and amount that is given: the part's difference against the part's base
    /// for the percent, the whole's difference for the amount. False when neither is given.
    pub fn allows_all_given(&self, whole: Decimal, part: Decimal, base: Decimal) -> Option<bool> {
        if self.percent.is_none() && self.amount.is_none() {
            return Some(false);
        }
        let by_percent = match self.percent {
            Some(percent) => exact::multiply(part, Decimal::ONE_HUNDRED)? <= exact::multiply(base, percent)?,
            None => true,
        };
        Some(by_percent && self.amount.is_none_or(|amount| whole <= amount))
    }

    /// The limit as the furthest allowed difference from one `unit` price for a `quantity` at that price; for people.
    pub fn furthest(&self, unit: Decimal, quantity: Decimal) -> Option<Decimal> {
        let free = self.free.checked_div(quantity);
        let by_percent = self
            .percent
            .and_then(|percent| exact::multiply(exact::multiply(unit, percent)?, Decimal::new(1, 2)));
        let by_amount = self.amount.and_then(|amount| amount.checked_div(quantity));
        let given = match (by_percent, by_amount) {
            (Some(percent), Some(amount)) => Some(percent.min(amount)),
            (percent, amount) => percent.or(amount),
        };
        match (free, given) {
            (Some(free), Some(given)) => Some(free.max(given)),
            (free, given) => free.or(given),
        }
    }

    /// A limit of money as it holds in a currency that it is not given in. What one is worth in the other is not known, so a
    /// sum of money allows nothing there: the percent holds alone, and what is free is rounding, as many smallest units as it
    /// has in its own currency (of `minor_digits` decimals) and never more than [`FREE_MINOR_UNITS_MAX`].
    fn in_another_currency(&self, minor_digits: u32, currency: Currency) -> Self {
        let most = Decimal::from(FREE_MINOR_UNITS_MAX);
        let units = exact::multiply(self.free, Decimal::from(10_u64.saturating_pow(minor_digits)))
            .map_or(most, |units| units.trunc().min(most));
        Self {
            percent: self.percent,
            amount: None,
            free: exact::multiply(currency.minor_unit(), units).unwrap_or_default(),
        }
    }

    /// The same of a whole document, whose rounding is a small figure in any currency: it is never a larger one than is given.
    fn of_document_in_another_currency(&self, minor_digits: u32, currency: Currency) -> Self {
        let limit = self.in_another_currency(minor_digits, currency);
        Self {
            free: limit.free.min(self.free),
            ..limit
        }
    }
}

/// A limit in each direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band {
    /// More than expected.
    pub over: Limit,
    /// Less than expected.
    pub under: Limit,
}

impl Band {
    /// As it holds for a credit note, where more is our gain.
    pub fn reversed(&self) -> Self {
        Self {
            over: self.under.clone(),
            under: self.over.clone(),
        }
    }
}

/// The limits that hold for one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Price against the receiver's, or the order's; the amount is the effect on the line.
    pub price: Band,
    /// Quantity billed beyond what is received and open, in the order's unit.
    pub received_over: Limit,
    /// What over-receipts may add to the quantity ordered; `None`: what QAD accepted is the authority.
    pub ordered_over: Option<Limit>,
    /// Lines, charges and tax against the total.
    pub total: Limit,
    /// What QAD computed, tax included, against what was sent; one smallest unit for each row of tax is allowed besides.
    #[serde(default = "standard_echo")]
    pub echo: Limit,
}

/// What QAD may round otherwise whatever was sent.
fn standard_echo() -> Limit {
    Limit::free(Decimal::new(2, 2))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            price: Band {
                over: Limit {
                    percent: Some(Decimal::TWO),
                    amount: Some(Decimal::ONE_HUNDRED),
                    free: Decimal::ONE,
                },
                under: Limit {
                    percent: Some(Decimal::new(25, 0)),
                    amount: None,
                    free: Decimal::ONE,
                },
            },
            received_over: Limit::default(),
            ordered_over: None,
            total: Limit::free(Decimal::new(5, 2)),
            echo: standard_echo(),
        }
    }
}

/// Limits that replace those above them, each whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LimitChanges {
    /// The currency that a supplier's amounts are in, where that is not the entity's own.
    #[serde(default)]
    pub currency: Option<Currency>,
    /// Price above the reference.
    pub price_over: Option<Limit>,
    /// Price below the reference.
    pub price_under: Option<Limit>,
    /// Quantity beyond what is received.
    pub received_over: Option<Limit>,
    /// Quantity beyond what was ordered.
    pub ordered_over: Option<Limit>,
    /// Total.
    pub total: Option<Limit>,
    /// What QAD computed.
    pub echo: Option<Limit>,
}

impl LimitChanges {
    /// Lays these over `limits`.
    pub fn apply(&self, limits: &mut Limits) {
        let lay = |over: &Option<Limit>, base: &mut Limit| {
            if let Some(over) = over {
                base.clone_from(over);
            }
        };
        lay(&self.price_over, &mut limits.price.over);
        lay(&self.price_under, &mut limits.price.under);
        lay(&self.received_over, &mut limits.received_over);
        lay(&self.total, &mut limits.total);
        lay(&self.echo, &mut limits.echo);
        if self.ordered_over.is_some() {
            limits.ordered_over.clone_from(&self.ordered_over);
        }
    }

    /// These in a currency that they are not given in; limits of a quantity are no money.
    fn in_another_currency(&self, minor_digits: u32, currency: Currency) -> Self {
        let other = |limit: &Option<Limit>| {
            let limit = limit.as_ref()?;
            Some(limit.in_another_currency(minor_digits, currency))
        };
        let of_document = |limit: &Option<Limit>| {
            let limit = limit.as_ref()?;
            Some(limit.of_document_in_another_currency(minor_digits, currency))
        };
        Self {
            price_over: other(&self.price_over),
            price_under: other(&self.price_under),
            total: of_document(&self.total),
            echo: of_document(&self.echo),
            ..self.clone()
        }
    }
}

/// The limits of a connection or of one of its entities: versioned data, not code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Name of this set of limits; written into every decision made with it.
    pub version: String,
    /// The currency that the amounts are in: the entity's own. `None`: every currency of two decimals.
    pub currency: Option<Currency>,
    /// The limits.
    pub limits: Limits,
    /// What differs in a currency.
    pub by_currency: BTreeMap<Currency, LimitChanges>,
    /// What differs for a supplier, by its QAD code; over what the currency says.
    pub by_supplier: BTreeMap<String, LimitChanges>,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self {
            version: "default-3".to_owned(),
            currency: None,
            limits: Limits::default(),
            by_currency: BTreeMap::new(),
            by_supplier: BTreeMap::new(),
        }
    }
}

/// Whether limits of money hold in a currency; where they name none, in every one of two decimals.
fn holds_in(named: Option<Currency>, currency: Currency) -> bool {
    match named {
        Some(own) => own == currency,
        None => currency.minor_digits() == STANDARD_MINOR_DIGITS,
    }
}

fn minor_digits_of(named: Option<Currency>) -> u32 {
    named.map_or(STANDARD_MINOR_DIGITS, |own| own.minor_digits())
}

impl Tolerance {
    /// The limits of a document in this currency of this supplier (its QAD code, when it has one). A sum of money holds in
    /// the currency that it is given in.
    pub fn of(&self, currency: Currency, supplier: Option<&str>) -> Limits {
        let mut limits = self.limits.clone();
        if !holds_in(self.currency, currency) {
            let digits = minor_digits_of(self.currency);
            let other = |limit: &Limit| limit.in_another_currency(digits, currency);
            limits.price = Band {
                over: other(&limits.price.over),
                under: other(&limits.price.under),
            };
            let of_document = |limit: &Limit| limit.of_document_in_another_currency(digits, currency);
            limits.total = of_document(&limits.total);
            limits.echo = of_document(&limits.echo);
        }
        if let Some(changes) = self.by_currency.get(&currency) {
            changes.apply(&mut limits);
        }
        if let Some(changes) = self.of_supplier(supplier) {
            let named = changes.currency.or(self.currency);
            if holds_in(named, currency) {
                changes.apply(&mut limits);
            } else {
                let changes = changes.in_another_currency(minor_digits_of(named), currency);
                changes.apply(&mut limits);
            }
        }
        limits
    }

    /// The currency that the limit of a total is given in, where that is not the document's: its sum of money allows nothing
    /// there.
    pub fn total_is_given_in(&self, currency: Currency, supplier: Option<&str>) -> Option<Currency> {
        let of_supplier = self.of_supplier(supplier);
        let named = match of_supplier.filter(|changes| changes.total.is_some()) {
            Some(changes) => changes.currency.or(self.currency),
            None => {
                let of_currency = self.by_currency.get(&currency);
                if of_currency.is_some_and(|changes| changes.total.is_some()) {
                    return None;
                }
                self.currency
            }
        };
        named.filter(|named| *named != currency)
    }

    fn of_supplier(&self, supplier: Option<&str>) -> Option<&LimitChanges> {
        let folded = fold(supplier?);
        let mut all = self.by_supplier.iter();
        all.find(|(code, _)| fold(code) == folded)
            .map(|(_, changes)| changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn a_difference_is_free_or_within_all_that_is_given() {
        let limit = Limits::default().price.over;
        for (difference, base, allowed) in [
            ("1.00", "0", true),
            ("1.01", "0", false),
            ("100.00", "5000", true),
            ("100.01", "50000", false),
            ("2.01", "100", false),
            ("2.00", "100", true),
        ] {
            assert_eq!(
                limit.allows(d(difference), d(base)),
                Some(allowed),
                "{difference} of {base}"
            );
        }
        assert_eq!(Limit::default().allows(d("0"), d("100")), Some(true));
        assert_eq!(Limit::default().allows(d("0.01"), d("100")), Some(false));
        assert_eq!(Limit::percent(d("50")).allows(d("50"), d("100")), Some(true));
    }

    #[test]
    fn currency_then_supplier_replace_a_limit_whole() {
        let usd: Currency = "USD".parse().unwrap();
        let yen: Currency = "JPY".parse().unwrap();
        let only = |limit: Limit| LimitChanges {
            price_over: Some(limit),
            ..LimitChanges::default()
        };
        let tolerance = Tolerance {
            currency: Some(usd),
            by_currency: [("EUR".parse().unwrap(), only(Limit::percent(d("3"))))].into(),
            by_supplier: [("10s1001".to_owned(), only(Limit::free(d("7"))))].into(),
            ..Tolerance::default()
        };
        let eur: Currency = "EUR".parse().unwrap();
        assert_eq!(tolerance.of(usd, None).price.over, Limits::default().price.over);
        assert_eq!(tolerance.of(eur, None).price.over, Limit::percent(d("3")));
        assert_eq!(tolerance.of(usd, Some("10S1001")).price.over, Limit::free(d("7")));
        let foreign = tolerance.of(yen, Some("10S2")).price.over;
        assert_eq!(
            (foreign.percent, foreign.amount, foreign.free),
            (Some(d("2")), None, d("100"))
        );
        let unnamed = Tolerance::default();
        assert_eq!(unnamed.of(eur, None), Limits::default());
        assert_eq!(unnamed.of(yen, None).price.over.amount, None);
    }

    #[test]
    fn a_sum_of_money_allows_nothing_in_a_currency_that_it_is_not_given_in() {
        let currency = |code: &str| code.parse::<Currency>().unwrap();
        let limit = |percent: Option<&str>, amount: Option<&str>, free: &str| Limit {
            percent: percent.map(d),
            amount: amount.map(d),
            free: d(free),
        };
        let of = |given: &Limit, named: Option<&str>, document: &str| {
            let band = Band {
                over: given.clone(),
                under: given.clone(),
            };
            let tolerance = Tolerance {
                currency: named.map(currency),
                limits: Limits {
                    price: band,
                    total: given.clone(),
                    echo: given.clone(),
                    ..Limits::default()
                },
                ..Tolerance::default()
            };
            let limits = tolerance.of(currency(document), None);
            assert_eq!(limits.price.over, limits.price.under);
            assert_eq!(limits.echo, limits.total);
            (limits.price.over, limits.total)
        };
        // percent, amount, free, its currency, the document's -> percent, free of a price and of a total
        for (percent, amount, free, named, document, left) in [
            (None, None, "50.00", "USD", "EUR", (None, "1.00", "1.00")),
            (None, None, "1.01", "USD", "EUR", (None, "1.00", "1.00")),
            (None, None, "0.99", "USD", "EUR", (None, "0.99", "0.99")),
            (None, None, "0.05", "USD", "KWD", (None, "0.005", "0.005")),
            (None, None, "0.05", "USD", "JPY", (None, "5", "0.05")),
            (None, None, "0.005", "USD", "JPY", (None, "0", "0")),
            (None, None, "5000", "JPY", "USD", (None, "1.00", "1.00")),
            (None, None, "7", "JPY", "USD", (None, "0.07", "0.07")),
            (None, None, "0", "USD", "EUR", (None, "0", "0")),
            (None, Some("500"), "0", "USD", "EUR", (None, "0", "0")),
            (Some("1"), Some("500"), "0", "USD", "EUR", (Some("1"), "0", "0")),
        ] {
            let given = limit(percent, amount, free);
            let expected = (limit(left.0, None, left.1), limit(left.0, None, left.2));
            assert_eq!(
                of(&given, Some(named), document),
                expected,
                "{given:?} in {document}"
            );
            assert_eq!(of(&given, Some(named), named), (given.clone(), given));
        }
        let given = limit(None, Some("500"), "50.00");
        assert_eq!(of(&given, None, "EUR"), (given.clone(), given.clone()));
        let (price, total) = (limit(None, None, "100"), limit(None, None, "50.00"));
        assert_eq!(of(&given, None, "JPY"), (price, total));
    }

    #[test]
    fn a_suppliers_amounts_are_in_the_entitys_currency_unless_it_names_another() {
        let currency = |code: &str| code.parse::<Currency>().unwrap();
        let (usd, eur) = (currency("USD"), currency("EUR"));
        let wide = |named: Option<Currency>| LimitChanges {
            currency: named,
            total: Some(Limit::free(d("20"))),
            received_over: Some(Limit::free(d("30"))),
            ..LimitChanges::default()
        };
        let tolerance = |named: Option<Currency>| Tolerance {
            currency: Some(usd),
            by_supplier: [("10S1001".to_owned(), wide(named))].into(),
            ..Tolerance::default()
        };
        let total = |named, document, supplier| {
            let tolerance = tolerance(named);
            let given = tolerance.total_is_given_in(document, supplier);
            (tolerance.of(document, supplier).total.free, given)
        };
        let (whole, rounding) = (d("20"), d("1.00"));
        assert_eq!(total(None, usd, Some("10s1001")), (whole, None));
        assert_eq!(total(None, eur, Some("10s1001")), (rounding, Some(usd)));
        assert_eq!(total(Some(eur), eur, Some("10s1001")), (whole, None));
        assert_eq!(total(Some(eur), usd, Some("10s1001")), (rounding, Some(eur)));
        assert_eq!(total(Some(eur), usd, Some("10S9")), (d("0.05"), None));
        // A quantity is no money.
        let limits = tolerance(None).of(eur, Some("10S1001"));
        assert_eq!(limits.received_over, Limit::free(d("30")));
    }

    proptest! {
        #[test]
        fn a_smaller_difference_is_never_worse(
            free in 0i64..500, percent in prop::option::of(0i64..100), amount in prop::option::of(0i64..500),
            base in 0i64..10_000, difference in 0i64..1_000, less in 0i64..1_000
        ) {
            let limit = Limit {
                percent: percent.map(Decimal::from),
                amount: amount.map(Decimal::from),
                free: Decimal::from(free),
            };
            if limit.allows(difference.into(), base.into()) == Some(true) {
                prop_assert_eq!(limit.allows(difference.saturating_sub(less).max(0).into(), base.into()), Some(true));
            }
        }
    }
}
