//! Exact decimals, currencies, and the one rounding function.
//!
//! Amounts carry their sign: what a credit note takes back is negative throughout.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tinystr::TinyAsciiStr;

/// Most digits before the decimal point that an amount, price or quantity may have.
pub const INTEGER_DIGITS_MAX: usize = 15;
/// Most digits after the decimal point that are kept. Trailing zeros beyond this are dropped; a non-zero digit beyond it is an
/// error and not a silent rounding, but in a price: see [`parse_price`].
pub const DECIMAL_PLACES_MAX: usize = 12;

/// Most digits after the point that the smallest unit of a currency may have.
pub const MINOR_DIGITS_MAX: u32 = 6;

/// Why a text is no exact decimal we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {actual:?}")]
pub struct DecimalError {
    /// The rule, in words.
    pub expected: String,
    /// What came, cut to a printable length.
    pub actual: String,
}

/// Reads a decimal exactly: optional sign, digits, optional fraction, optional exponent as JSON numbers have it.
///
/// Never rounds and never overflows: at most [`INTEGER_DIGITS_MAX`] digits before and [`DECIMAL_PLACES_MAX`]
/// significant digits after the point.
pub fn parse_decimal(text: &str) -> Result<Decimal, DecimalError> {
    read(text, Beyond::Refused)
}

/// Reads a price per unit: like [`parse_decimal`], but digits beyond [`DECIMAL_PLACES_MAX`] are rounded, away from zero in the
/// middle. Coupa's prices have up to 20 places (confirmed); what is billed is checked by the line's total, which is exact.
pub fn parse_price(text: &str) -> Result<Decimal, DecimalError> {
    read(text, Beyond::Rounded)
}

/// What becomes of digits beyond [`DECIMAL_PLACES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beyond {
    Refused,
    /// Away from zero in the middle.
    Rounded,
    /// They only say on which side of an earlier middle the figure is.
    Told,
}

fn read(text: &str, beyond: Beyond) -> Result<Decimal, DecimalError> {
    /// [`DECIMAL_PLACES_MAX`] as the type that rounding takes.
    const PLACES: u32 = 12;
    let refuse = || DecimalError {
        expected: format!(
            "a decimal with at most {INTEGER_DIGITS_MAX} digits before and {DECIMAL_PLACES_MAX} after the point"
        ),
        actual: text.chars().take(40).collect(),
    };
    /// Longest text that is looked at, in bytes; longer ones are refused before any work.
    const TEXT_BYTES_MAX: usize = 80;
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.len() > TEXT_BYTES_MAX || !trimmed.is_ascii() {
        return Err(refuse());
    }
    let (mantissa, exponent) = match trimmed.split_once(['e', 'E']) {
        None => (trimmed, 0i32),
        Some((mantissa, exponent)) => (mantissa, exponent.parse().map_err(|_| refuse())?),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || !all_digits(whole)
        || !all_digits(fraction)
        || (digits.contains('.') && fraction.is_empty())
    {
        return Err(refuse());
    }
    // Move the point by the exponent in the text itself, so that nothing is ever computed inexactly.
    let places = i32::try_from(whole.len())
        .map_err(|_| refuse())?
        .checked_add(exponent)
        .ok_or_else(refuse)?;
    const EXPONENT_MAX: i32 = 60;
    if !(-EXPONENT_MAX..=EXPONENT_MAX).contains(&exponent) {
        return Err(refuse());
    }
    let all: String = whole.chars().chain(fraction.chars()).collect();
    let (whole, fraction) = if places <= 0 {
        let zeros = usize::try_from(places.unsigned_abs()).map_err(|_| refuse())?;
        (String::from("0"), format!("{}{all}", "0".repeat(zeros)))
    } else {
        let at = usize::try_from(places).map_err(|_| refuse())?;
        if at >= all.len() {
            let zeros = at.saturating_sub(all.len());
            (format!("{all}{}", "0".repeat(zeros)), String::new())
        } else {
            let (left, right) = all.split_at(at);
            (left.to_owned(), right.to_owned())
        }
    };
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.len() > INTEGER_DIGITS_MAX || (fraction.len() > DECIMAL_PLACES_MAX && beyond == Beyond::Refused)
    {
        return Err(refuse());
    }
    // One digit more decides about the rounding. Without its zeros at the end a longer fraction is not zero beyond.
    let kept = match fraction.get(..DECIMAL_PLACES_MAX) {
        Some(kept) if beyond == Beyond::Told && fraction.len() > kept.len() => format!("{kept}1"),
        _ => fraction
            .get(..DECIMAL_PLACES_MAX.saturating_add(1))
            .unwrap_or(fraction)
            .to_owned(),
    };
    let sign = if negative { "-" } else { "" };
    let canonical = format!(
        "{sign}{}.{}",
        if whole.is_empty() { "0" } else { whole },
        if kept.is_empty() { "0" } else { &kept }
    );
    let decimal = Decimal::from_str_exact(&canonical).map_err(|_| refuse())?;
    let decimal = match beyond {
        Beyond::Told => decimal,
        Beyond::Refused | Beyond::Rounded => {
            decimal.round_dp_with_strategy(PLACES, RoundingStrategy::MidpointAwayFromZero)
        }
    };
    Ok(decimal.normalize())
}

/// Digits after the point to which a quantity or amount is kept that comes out of somebody's binary arithmetic.
pub const NOISE_PLACES: u32 = 8;

/// Reads a quantity or amount of a system that counts in binary: like [`parse_decimal`], but digits beyond [`NOISE_PLACES`]
/// are rounded half-even. True beside it when that changed the figure.
pub fn parse_noisy(text: &str) -> Result<(Decimal, bool), DecimalError> {
    let exact = read(text, Beyond::Told)?;
    let rounded = exact
        .round_dp_with_strategy(NOISE_PLACES, RoundingStrategy::MidpointNearestEven)
        .normalize();
    Ok((rounded, rounded != exact))
}

/// A currency: three capital letters (ISO 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency(TinyAsciiStr<3>);

impl Currency {
    /// The code, for example `EUR`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Digits after the point of the smallest unit (ISO 4217): 0 for yen, 3 for dinars, else 2.
    pub fn minor_digits(&self) -> u32 {
        match self.as_str() {
            "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
            | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
            "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
            "CLF" | "UYW" => 4,
            _ => 2,
        }
    }

    /// The smallest unit as a decimal: 0.01 for euros, 1 for yen.
    pub fn minor_unit(&self) -> Decimal {
        Decimal::new(1, self.minor_digits())
    }

    /// To the currency's smallest unit, see [`round_to`].
    pub fn round(&self, exact: Decimal) -> Decimal {
        round_to(exact, self.minor_digits())
    }
}

/// A figure without its sign, taken back: what a credit note or a return is.
pub fn negative(figure: Decimal) -> Decimal {
    let mut negative = figure;
    negative.set_sign_negative(!figure.is_zero());
    negative
}

/// The one place where money is rounded: to so many digits after the point, halves away from zero.
pub fn round_to(exact: Decimal, digits: u32) -> Decimal {
    exact
        .round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero)
        .normalize()
}

impl FromStr for Currency {
    type Err = DecimalError;
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let upper = text.trim().to_ascii_uppercase();
        match TinyAsciiStr::<3>::try_from_str(&upper) {
            Ok(code) if code.len() == 3 && code.is_ascii_alphabetic() => Ok(Self(code)),
            _ => Err(DecimalError {
                expected: "a currency of three letters (ISO 4217)".to_owned(),
                actual: text.chars().take(40).collect(),
            }),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = DecimalError;
    fn try_from(text: String) -> Result<Self, DecimalError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.as_str().to_owned()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_read_exactly_or_not_at_all() {
        for (text, expected) in [
            ("100.00", "100"),
            ("-0.50", "-0.5"),
            ("12.50000000000000000000", "12.5"),
            ("1e2", "100"),
            ("1.25E-2", "0.0125"),
            ("0", "0"),
            ("-0", "0"),
            ("000123.4", "123.4"),
            (" 7 ", "7"),
            ("999999999999999.999999999999", "999999999999999.999999999999"),
        ] {
            assert_eq!(parse_decimal(text).unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "",
            " ",
            "1,5",
            "1.",
            ".5",
            "1e",
            "NaN",
            "Infinity",
            "0x10",
            "1_000",
            "1e61",
            "1e-61",
            "--1",
            "+1",
            "٣",
            "1000000000000000",
            "0.0000000000001",
        ] {
            assert!(parse_decimal(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn a_price_is_kept_to_twelve_places_and_an_amount_never_rounded() {
        for (text, expected) in [
            ("0.33333333333333333333", "0.333333333333"),
            ("-0.66666666666666666666", "-0.666666666667"),
            ("0.1234567890125", "0.123456789013"),
            ("0.30000000000000004", "0.3"),
            ("999999999999999.99999999999949", "999999999999999.999999999999"),
            ("2.5", "2.5"),
            ("1e-20", "0"),
        ] {
            assert_eq!(parse_price(text).unwrap().to_string(), expected, "{text}");
        }
        assert!(parse_decimal("0.33333333333333333333").is_err());
        for text in ["", "1.", "NaN", "1000000000000000.5"] {
            assert!(parse_price(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn noise_is_rounded_half_even_and_said() {
        for (text, expected, said) in [
            ("0.30000000000000004", "0.3", true),
            ("-0.30000000000000004", "-0.3", true),
            ("0.3", "0.3", false),
            ("9980.00", "9980", false),
            ("1.000000005", "1", true),
            ("1.000000015", "1.00000002", true),
            ("1.0000000050000000000001", "1.00000001", true),
            ("0.083333333333333333", "0.08333333", true),
            ("5.684341886080802e-14", "0", true),
            ("-5.684341886080802e-14", "0", true),
            ("9.980000000000001E3", "9980", true),
            ("0.30000000000000004e1", "3", true),
            ("1.0000000050000000000001e0", "1.00000001", true),
            ("1.5e2", "150", false),
            ("1e-60", "0", true),
        ] {
            let (read, changed) = parse_noisy(text).unwrap();
            assert_eq!((read.to_string().as_str(), changed), (expected, said), "{text}");
        }
        for text in [
            "?",
            "",
            "1.00000000000000000x",
            "1e61",
            "1e-61",
            "1e16",
            "1e99999999999",
            "1e+",
            "5e-1.4",
        ] {
            assert!(parse_noisy(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rounding_is_to_the_currency() {
        let yen: Currency = "JPY".parse().unwrap();
        let dinar: Currency = "kwd".parse().unwrap();
        assert_eq!(yen.round(Decimal::new(25, 1)), Decimal::from(3));
        assert_eq!(dinar.round(Decimal::new(12345, 4)), Decimal::new(1235, 3));
        assert_eq!(
            "USD".parse::<Currency>().unwrap().round(Decimal::new(-1005, 3)),
            Decimal::new(-101, 2)
        );
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(units in -999_999_999_999_999_999i64..999_999_999_999_999_999, scale in 0u32..12) {
            let decimal = Decimal::new(units, scale).normalize();
            if let Ok(read) = parse_decimal(&decimal.to_string()) {
                prop_assert_eq!(read, decimal);
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,90}") {
            let _ = parse_decimal(&text);
        }

        #[test]
        fn rounding_moves_by_at_most_half_a_minor_unit(units in -1_000_000_000i64..1_000_000_000, scale in 0u32..10) {
            for code in ["JPY", "USD", "KWD"] {
                let currency: Currency = code.parse().unwrap();
                let exact = Decimal::new(units, scale);
                let rounded = currency.round(exact);
                let moved = rounded.checked_sub(exact).unwrap().abs();
                prop_assert!(moved.checked_mul(Decimal::TWO).unwrap() <= currency.minor_unit());
                prop_assert_eq!(currency.round(rounded), rounded);
            }
        }
    }
}
