//! Decimal arithmetic that is exact or says so: `None` when a result would have to be rounded or does not fit.
//!
//! `Decimal`'s own checked operations round a result of more than 28 digits without a word. Money must not.

use rust_decimal::{Decimal, RoundingStrategy};

/// Digits after the point to which a unit price is rounded when it is converted to another unit.
pub(crate) const CONVERTED_PRICE_PLACES: u32 = 10;
/// Digits after the point to which a quantity computed from an amount is rounded.
pub(crate) const RESOLVED_QUANTITY_PLACES: u32 = 8;

const TEN: i128 = 10;

/// `left + right`.
pub(crate) fn add(left: Decimal, right: Decimal) -> Option<Decimal> {
    combine(left, right, i128::checked_add)
}

/// `left - right`.
pub(crate) fn subtract(left: Decimal, right: Decimal) -> Option<Decimal> {
    combine(left, right, i128::checked_sub)
}

fn combine(left: Decimal, right: Decimal, operation: fn(i128, i128) -> Option<i128>) -> Option<Decimal> {
    let (left, right) = (left.normalize(), right.normalize());
    let scale = left.scale().max(right.scale());
    from_parts(
        operation(mantissa_at(left, scale)?, mantissa_at(right, scale)?)?,
        scale,
    )
}

fn mantissa_at(decimal: Decimal, scale: u32) -> Option<i128> {
    let shift = scale.checked_sub(decimal.scale())?;
    decimal.mantissa().checked_mul(TEN.checked_pow(shift)?)
}

/// `left * right`.
pub(crate) fn multiply(left: Decimal, right: Decimal) -> Option<Decimal> {
    let (left, right) = (left.normalize(), right.normalize());
    from_parts(
        left.mantissa().checked_mul(right.mantissa())?,
        left.scale().checked_add(right.scale())?,
    )
}

fn from_parts(mantissa: i128, scale: u32) -> Option<Decimal> {
    Decimal::try_from_i128_with_scale(mantissa, scale)
        .ok()
        .map(|decimal| decimal.normalize())
}

/// Sum of all.
pub(crate) fn sum(figures: impl IntoIterator<Item = Decimal>) -> Option<Decimal> {
    figures.into_iter().try_fold(Decimal::ZERO, add)
}

/// `base` raised by `percent` percent.
pub(crate) fn raised_by_percent(base: Decimal, percent: Decimal) -> Option<Decimal> {
    multiply(
        multiply(base, add(Decimal::ONE_HUNDRED, percent)?)?,
        Decimal::new(1, 2),
    )
}

/// A price per unit divided by `factor`, rounded to [`CONVERTED_PRICE_PLACES`]: the one division that may round.
pub(crate) fn converted_price(price: Decimal, factor: Decimal) -> Option<Decimal> {
    let exact = price.checked_div(factor)?;
    Some(
        exact
            .round_dp_with_strategy(CONVERTED_PRICE_PLACES, RoundingStrategy::MidpointAwayFromZero)
            .normalize(),
    )
}

/// The quantity that costs `amount` at `price`, rounded half-even to [`RESOLVED_QUANTITY_PLACES`]; `None` when there is none.
pub(crate) fn quantity_for(amount: Decimal, price: Decimal) -> Option<Decimal> {
    let quantity = amount
        .checked_div(price)?
        .round_dp_with_strategy(RESOLVED_QUANTITY_PLACES, RoundingStrategy::MidpointNearestEven)
        .normalize();
    (!quantity.is_zero()).then_some(quantity)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "an overflow in a test fails it")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_would_round_is_refused() {
        let third = Decimal::ONE / Decimal::from(3);
        assert_eq!(multiply(third, third), None);
        assert_eq!(add(Decimal::MAX, Decimal::new(1, 2)), None);
        assert_eq!(add(Decimal::MAX, Decimal::ONE), None);
        assert_eq!(subtract(Decimal::MIN, Decimal::ONE), None);
        assert_eq!(multiply(Decimal::MAX, Decimal::TWO), None);
        assert_eq!(quantity_for(Decimal::TEN, Decimal::ZERO), None);
        assert_eq!(quantity_for(Decimal::new(1, 9), Decimal::ONE), None);
        assert_eq!(converted_price(Decimal::TEN, Decimal::ZERO), None);
    }

    #[test]
    fn a_quantity_for_an_amount_has_eight_places() {
        for (amount, price, quantity) in [
            (1000, 3000, "0.33333333"),
            (2000, 3000, "0.66666667"),
            (1000, 12_000, "0.08333333"),
        ] {
            let found = quantity_for(Decimal::from(amount), Decimal::from(price)).unwrap();
            assert_eq!(found.to_string(), quantity);
        }
    }

    #[test]
    fn a_converted_price_has_ten_places() {
        assert_eq!(
            converted_price(Decimal::TEN, Decimal::from(12))
                .unwrap()
                .to_string(),
            "0.8333333333"
        );
    }

    proptest! {
        #[test]
        fn sums_and_products_of_ordinary_figures_are_those_of_integers(
            left in -1_000_000_000i64..1_000_000_000, right in -1_000_000_000i64..1_000_000_000, scale in 0u32..6
        ) {
            let (a, b) = (Decimal::new(left, scale), Decimal::new(right, scale));
            prop_assert_eq!(add(a, b), Some(Decimal::new(left + right, scale)));
            prop_assert_eq!(subtract(a, b), Some(Decimal::new(left - right, scale)));
            prop_assert_eq!(
                multiply(a, b),
                Some(Decimal::from_i128_with_scale(i128::from(left) * i128::from(right), scale * 2))
            );
        }

        #[test]
        fn a_quantity_found_for_an_amount_costs_that_amount(quantity in 1i64..1_000_000, price in 1i64..1_000_000) {
            let (quantity, price) = (Decimal::new(quantity, 2), Decimal::new(price, 4));
            prop_assert_eq!(quantity_for(multiply(quantity, price).unwrap(), price), Some(quantity));
        }
    }
}
