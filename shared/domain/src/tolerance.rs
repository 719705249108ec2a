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

/// Smallest units of a currency that are free where the connection says nothing of that currency.
const FREE_MINOR_UNITS: u32 = 100;
/// Digits after the point of the currencies that the standard amounts are thought in.
const STANDARD_MINOR_DIGITS: u32 = 2;

/// One limit. Nothing given allows no difference at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Limit {
    /// Percent of what is compared with.
    pub percent: Option<Decimal>,
    /// Amount, in the currency of the document; of a quantity, in the order's unit.
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

    /// In a currency of which the connection says nothing: the percent alone, and a hundred smallest units free.
    fn in_another_currency(&self, currency: Currency) -> Self {
        Self {
            percent: self.percent,
            amount: None,
            free: exact::multiply(currency.minor_unit(), Decimal::from(FREE_MINOR_UNITS)).unwrap_or_default(),
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
            version: "default-2".to_owned(),
            currency: None,
            limits: Limits::default(),
            by_currency: BTreeMap::new(),
            by_supplier: BTreeMap::new(),
        }
    }
}

impl Tolerance {
    /// The limits of a document in this currency of this supplier (its QAD code, when it has one).
    pub fn of(&self, currency: Currency, supplier: Option<&str>) -> Limits {
        let mut limits = self.limits.clone();
        let is_own = match self.currency {
            Some(own) => own == currency,
            None => currency.minor_digits() == STANDARD_MINOR_DIGITS,
        };
        if !is_own {
            limits.price = Band {
                over: limits.price.over.in_another_currency(currency),
                under: limits.price.under.in_another_currency(currency),
            };
        }
        if let Some(changes) = self.by_currency.get(&currency) {
            changes.apply(&mut limits);
        }
        let of_supplier = supplier.and_then(|supplier| {
            let folded = fold(supplier);
            self.by_supplier.iter().find(|(code, _)| fold(code) == folded)
        });
        if let Some((_, changes)) = of_supplier {
            changes.apply(&mut limits);
        }
        limits
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
        assert_eq!(tolerance.of(eur, Some("10S1001")).price.over, Limit::free(d("7")));
        let foreign = tolerance.of(yen, Some("10S2")).price.over;
        assert_eq!(
            (foreign.percent, foreign.amount, foreign.free),
            (Some(d("2")), None, d("100"))
        );
        let unnamed = Tolerance::default();
        assert_eq!(unnamed.of(eur, None), Limits::default());
        assert_eq!(unnamed.of(yen, None).price.over.amount, None);
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
