//! Figures as an accountant writes them: `10.00 USD per EA`, `40 of 100 EA`.

use crate::ids::{Holder, UnitCode};
use crate::money::Currency;
use crate::words;
use rust_decimal::Decimal;
use std::collections::BTreeSet;

/// A quantity without needless zeros: `1,200.5`.
pub(crate) fn plain(figure: Decimal) -> String {
    words::figure(figure)
}

/// An amount with at least the currency's own digits: `1,296.00 USD`, `10.1234 USD`, `10 JPY`.
pub(crate) fn money(amount: Decimal, currency: Currency) -> String {
    words::money(amount, currency.as_str())
}

/// `10.00 USD per EA`.
pub(crate) fn price(amount: Decimal, currency: Currency, unit: &UnitCode) -> String {
    format!("{} per {unit}", money(amount, currency))
}

/// `100 EA`.
pub(crate) fn quantity(figure: Decimal, unit: &UnitCode) -> String {
    format!("{} {unit}", plain(figure))
}

/// `40 of 100 EA`.
pub(crate) fn part_of(part: Decimal, whole: Decimal, unit: &UnitCode) -> String {
    format!("{} of {}", plain(part), quantity(whole, unit))
}

/// Most invoices that a text names.
const INVOICES_NAMED_MAX: usize = 3;

/// `92010, 92011`, the first few of many.
pub(crate) fn some_invoices(invoices: &BTreeSet<Holder>) -> String {
    let named: Vec<_> = invoices
        .iter()
        .take(INVOICES_NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    let more = if invoices.len() > INVOICES_NAMED_MAX {
        " and others"
    } else {
        ""
    };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_an_accountant_writes_them() {
        let usd: Currency = "USD".parse().unwrap();
        let yen: Currency = "JPY".parse().unwrap();
        let each: UnitCode = "EA".parse().unwrap();
        for (figure, shown) in [
            ("10", "10.00 USD"),
            ("10.1", "10.10 USD"),
            ("10.12340", "10.1234 USD"),
            ("-0.5", "-0.50 USD"),
            ("0", "0.00 USD"),
            (
                "79228162514264337593543950335",
                "79,228,162,514,264,337,593,543,950,335 USD",
            ),
        ] {
            assert_eq!(money(figure.parse().unwrap(), usd), shown);
        }
        assert_eq!(price(Decimal::new(1000, 0), yen, &each), "1,000 JPY per EA");
        assert_eq!(
            part_of(Decimal::new(400, 1), Decimal::new(1000, 1), &each),
            "40 of 100 EA"
        );
    }
}
