//! Figures, instants and codes in one form wherever a person reads them: page, command line, mail, sentences.

use crate::money::Currency;
use crate::problem::Problem;
use crate::time::{Date, Timestamp};
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

/// Digits between two separators of an amount.
const GROUP: usize = 3;

/// An amount with its currency: `1,296.00 USD`, `16,500 JPY`. Digits that are there are never cut off.
pub fn money(amount: Decimal, currency: &str) -> String {
    let digits = currency
        .parse::<Currency>()
        .map_or(2, |currency| currency.minor_digits());
    let mut shown = amount.normalize();
    if shown.scale() < digits {
        shown.rescale(digits);
    }
    format!("{} {currency}", grouped(&shown.to_string()))
}

/// A quantity or a price, without zeros that say nothing.
pub fn figure(figure: Decimal) -> String {
    grouped(&figure.normalize().to_string())
}

/// A price: at least two digits after the point.
pub fn price(price: Decimal) -> String {
    let mut shown = price.normalize();
    if shown.scale() < 2 {
        shown.rescale(2);
    }
    grouped(&shown.to_string())
}

fn grouped(text: &str) -> String {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = rest
        .split_once('.')
        .map_or((rest, None), |(whole, rest)| (whole, Some(rest)));
    let length = whole.len();
    let mut out = sign.to_owned();
    for (place, digit) in whole.chars().enumerate() {
        let left = length.saturating_sub(place);
        if place > 0 && left.checked_rem(GROUP) == Some(0) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// `1 bill`, `2 bills`, `1,200 bills`.
pub fn count(count: usize, one: &str) -> String {
    let shown = grouped(&count.to_string());
    if count == 1 {
        format!("{shown} {one}")
    } else {
        format!("{shown} {one}s")
    }
}

/// A date: `5 Mar 2026`.
pub fn date(date: Date) -> String {
    date.strftime("%-d %b %Y").to_string()
}

/// The plant's clock.
#[derive(Debug, Clone)]
pub struct PlantClock {
    zone: TimeZone,
    name: String,
}

impl PlantClock {
    /// The clock of a zone by its IANA name, `Europe/Berlin`.
    ///
    /// # Errors
    /// There is no such zone.
    pub fn new(name: &str) -> Result<Self, Problem> {
        let zone = TimeZone::get(name).map_err(|_| {
            Problem::new(
                "TIME_ZONE_UNKNOWN",
                "Give the IANA name of the plant's time zone.",
            )
            .field("time zone")
            .expected("a name as Europe/Berlin, America/Detroit or UTC")
            .actual(name)
        })?;
        Ok(Self {
            zone,
            name: name.to_owned(),
        })
    }

    /// The day that it is there.
    pub fn date(&self, when: Timestamp) -> Date {
        jiff::Timestamp::from_millisecond(when.0).map_or_else(
            |_| when.date_utc(),
            |instant| instant.to_zoned(self.zone.clone()).date(),
        )
    }

    /// The zone's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn at(&self, when: Timestamp, form: &str) -> String {
        jiff::Timestamp::from_millisecond(when.0).map_or_else(
            |_| when.to_string(),
            |instant| instant.to_zoned(self.zone.clone()).strftime(form).to_string(),
        )
    }

    /// `Mon 30 Nov 2026, 03:31`.
    pub fn instant(&self, when: Timestamp) -> String {
        self.at(when, "%a %-d %b %Y, %H:%M")
    }

    /// `30 Nov 03:31`.
    pub fn short(&self, when: Timestamp) -> String {
        self.at(when, "%-d %b %H:%M")
    }

    /// `2026-11-30 03:31 CET`.
    pub fn stamp(&self, when: Timestamp) -> String {
        self.at(when, "%Y-%m-%d %H:%M %Z")
    }

    /// A text with its instants as [`Self::stamp`] writes them.
    pub fn stamps(&self, text: &str) -> String {
        self.replaced(text, Self::stamp)
    }

    /// A sentence of `explain` with its instants in the plant's zone.
    pub fn sentence(&self, text: &str) -> String {
        self.replaced(text, Self::instant)
    }

    fn replaced(&self, text: &str, form: impl Fn(&Self, Timestamp) -> String) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(" UTC") {
            let (before, after) = rest.split_at(at);
            match stamp_at_end(before) {
                Some((kept, when)) => {
                    out.push_str(kept);
                    out.push_str(&form(self, when));
                }
                None => {
                    out.push_str(before);
                    out.push_str(" UTC");
                }
            }
            rest = after.strip_prefix(" UTC").unwrap_or(after);
        }
        out.push_str(rest);
        out
    }
}

/// Letters of `2026-03-05 09:12`.
const STAMP_LETTERS: usize = 16;

fn stamp_at_end(text: &str) -> Option<(&str, Timestamp)> {
    let start = text.len().checked_sub(STAMP_LETTERS)?;
    let (kept, stamp) = text.split_at_checked(start)?;
    let when: jiff::civil::DateTime = stamp.replacen(' ', "T", 1).parse().ok()?;
    let when = when.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond();
    Some((kept, Timestamp(when)))
}

/// A code as words: `PRICE_OVER_TOLERANCE` is `Price over tolerance`.
pub fn code(code: &str) -> String {
    let lower = code.replace('_', " ").to_lowercase();
    let mut letters = lower.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_one_format() {
        let text = |amount: &str, currency| money(amount.parse().unwrap(), currency);
        assert_eq!(text("1296", "USD"), "1,296.00 USD");
        assert_eq!(text("-1234567.5", "EUR"), "-1,234,567.50 EUR");
        assert_eq!(text("16500", "JPY"), "16,500 JPY");
        assert_eq!(text("0.125", "USD"), "0.125 USD", "nothing is rounded away");
        assert_eq!(price("10".parse().unwrap()), "10.00");
        assert_eq!(figure("1200.50".parse().unwrap()), "1,200.5");
        assert_eq!(count(1, "bill"), "1 bill");
        assert_eq!(count(1200, "bill"), "1,200 bills");
    }

    #[test]
    fn a_sentence_tells_the_plants_time() {
        let clock = PlantClock::new("Europe/Berlin").unwrap();
        let told = clock.sentence("Held since 2026-03-05 09:12 UTC: x.");
        assert_eq!(told, "Held since Thu 5 Mar 2026, 10:12: x.");
        assert_eq!(
            clock.stamps("Held since 2026-03-05 09:12 UTC: x."),
            "Held since 2026-03-05 10:12 CET: x."
        );
        assert_eq!(clock.sentence("at UTC, not a time"), "at UTC, not a time");
        assert!(PlantClock::new("Mars/Olympus").is_err());
    }
}
