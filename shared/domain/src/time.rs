//! Instants and calendar dates as data. Who knows what time it is, is a port.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A calendar date, never shifted by a time zone.
pub use jiff::civil::Date;

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant moved later by whole milliseconds; stays at the end of time instead of wrapping.
    pub fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// This instant moved later by whole seconds; stays at the end of time instead of wrapping.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        self.plus_millis(seconds.saturating_mul(1000))
    }

    /// Milliseconds from `earlier` to this instant; negative when it is not earlier.
    pub fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The calendar date of this instant in UTC.
    pub fn date_utc(self) -> Date {
        jiff::Timestamp::from_millisecond(self.0)
            .map(|instant| instant.to_zoned(jiff::tz::TimeZone::UTC).date())
            .unwrap_or(Date::ZERO)
    }
}

/// The time zone of a company: what day it is there. Its name is one of the IANA database, for example `America/Chicago`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(jiff::tz::TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

impl Zone {
    /// The zone of that name; `None` when there is none. The name's case does not matter.
    pub fn named(name: &str) -> Option<Self> {
        jiff::tz::TimeZone::get(name.trim()).ok().map(Self)
    }

    /// The calendar date of an instant there.
    pub fn date_of(&self, instant: Timestamp) -> Date {
        jiff::Timestamp::from_millisecond(instant.0)
            .map(|instant| instant.to_zoned(self.0.clone()).date())
            .unwrap_or(Date::ZERO)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => write!(formatter, "{instant:.3}"),
            Err(_) => write!(formatter, "{} ms", self.0),
        }
    }
}

/// Takes the calendar date from the front of a date or date-time exactly as it is written
/// (`2026-03-05`, `2026-03-05T00:00:00.000Z`, `2026-03-05T00:00:00+02:00`): both systems write dates as midnight in
/// some zone, so converting would move them by a day.
pub fn date_as_written(text: &str) -> Option<Date> {
    /// Length of `YYYY-MM-DD`, in bytes.
    const DATE_BYTES: usize = 10;
    let trimmed = text.trim();
    let rest = trimmed.get(DATE_BYTES..)?;
    if !(rest.is_empty() || rest.starts_with(['T', ' '])) {
        return None;
    }
    trimmed.get(..DATE_BYTES)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_taken_as_written() {
        for text in [
            "2026-03-05",
            "2026-03-05T00:00:00.000Z",
            "2026-03-05T00:00:00+14:00",
            "2026-03-05 00:00",
        ] {
            assert_eq!(date_as_written(text).unwrap().to_string(), "2026-03-05", "{text}");
        }
        for text in [
            "",
            "2026-3-5",
            "2026-02-29",
            "05.03.2026",
            "2026-03-05x",
            "２０２６-03-05",
        ] {
            assert_eq!(date_as_written(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_company_has_its_own_today() {
        let instant = Timestamp(1_772_755_200_000); // 2026-03-06 00:00 UTC
        let there = |name: &str| Zone::named(name).unwrap().date_of(instant).to_string();
        assert_eq!(there("America/Chicago"), "2026-03-05");
        assert_eq!(there("Europe/Berlin"), "2026-03-06");
        assert_eq!(there("Pacific/Auckland"), "2026-03-06");
        assert_eq!(Zone::default().date_of(instant), instant.date_utc());
        assert_eq!(Zone::named("Chicago"), None);
        assert_eq!(Zone::named(""), None);
    }

    #[test]
    fn instants_do_not_wrap() {
        assert_eq!(Timestamp(i64::MAX).plus_seconds(1), Timestamp(i64::MAX));
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
    }
}
