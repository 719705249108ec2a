//! When a read is tried again: pure arithmetic. Writes are never tried again here; that is the effect engine's alone.

use super::transport::Response;
use domain::time::Timestamp;
use std::time::{Duration, SystemTime};

/// Most attempts of one read.
pub const READ_ATTEMPTS_MAX: u32 = 4;
/// Upper end of the first wait, in milliseconds; it doubles with each attempt.
pub const BACKOFF_FIRST_MILLIS: u64 = 500;
/// Upper end of any wait that nobody asked for, in milliseconds.
pub const BACKOFF_MILLIS_MAX: u64 = 15_000;
/// Shortest wait taken from a Retry-After header, in milliseconds: also for 0, negative values and dates in the past.
pub const RETRY_AFTER_MILLIS_MIN: u64 = 500;
/// Longest wait taken from a Retry-After header, in seconds; longer ones are cut to it.
pub const RETRY_AFTER_SECONDS_MAX: u64 = 3_600;
/// Most digits of a Retry-After in seconds that are believed.
const RETRY_AFTER_DIGITS_MAX: usize = 9;

/// What a Retry-After header asks for: delta seconds or any of the three HTTP dates (RFC 9110).
///
/// A date is compared with the answer's own Date header when there is one, so that skewed clocks do not matter. Garbage,
/// a repeated header and an empty one count as absent.
pub fn retry_after(response: &Response, now: Timestamp) -> Option<Duration> {
    let text = response.header("retry-after")?.trim();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let asked = if is_number && digits.len() <= RETRY_AFTER_DIGITS_MAX {
        if text.starts_with('-') {
            Duration::ZERO
        } else {
            Duration::from_secs(digits.parse().ok()?)
        }
    } else if is_number {
        return None;
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        let their_now = response
            .header("date")
            .and_then(|date| httpdate::parse_http_date(date).ok());
        let millis = u64::try_from(now.0).unwrap_or(0);
        let base = their_now.or_else(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)))?;
        until.duration_since(base).unwrap_or(Duration::ZERO)
    };
    Some(asked.clamp(
        Duration::from_millis(RETRY_AFTER_MILLIS_MIN),
        Duration::from_secs(RETRY_AFTER_SECONDS_MAX),
    ))
}

/// Upper end of the wait after attempt number `attempt` (from 1), in milliseconds: doubles, bounded. The wait itself is
/// drawn evenly from zero to this (full jitter).
pub fn backoff_millis(attempt: u32) -> u64 {
    let doublings = attempt.saturating_sub(1).min(16);
    BACKOFF_FIRST_MILLIS
        .saturating_mul(1u64.checked_shl(doublings).unwrap_or(u64::MAX))
        .min(BACKOFF_MILLIS_MAX)
}

/// How long to wait before the next attempt; `None` when there is none, because attempts or time are used up.
///
/// `asked` is what the other side asked for, `drawn` a number from 0 to [`backoff_millis`], `left` what remains of the
/// call's time.
pub fn wait(attempt: u32, asked: Option<Duration>, drawn: u64, left: Duration) -> Option<Duration> {
    let drawn = Duration::from_millis(drawn);
    let wait = asked.map_or(drawn, |asked| asked.max(drawn));
    (attempt < READ_ATTEMPTS_MAX && wait < left).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    fn answer(headers: &[(&str, &str)]) -> Response {
        Response {
            status: 429,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: Vec::new(),
        }
    }

    fn asked(value: &str) -> Option<u64> {
        retry_after(&answer(&[("retry-after", value)]), NOW)
            .map(|wait| u64::try_from(wait.as_millis()).unwrap())
    }

    #[test]
    fn all_forms_are_understood() {
        assert_eq!(asked("7"), Some(7_000));
        assert_eq!(asked(" 7 "), Some(7_000));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60_000));
        assert_eq!(asked("Sunday, 06-Nov-94 08:50:37 GMT"), Some(60_000));
        assert_eq!(asked("Sun Nov  6 08:50:37 1994"), Some(60_000));
    }

    #[test]
    fn past_and_negative_are_the_minimum_and_much_is_cut() {
        for value in ["0", "-5", "Sun, 06 Nov 1994 08:00:00 GMT"] {
            assert_eq!(asked(value), Some(RETRY_AFTER_MILLIS_MIN), "{value}");
        }
        assert_eq!(asked("99999"), Some(3_600_000));
        assert_eq!(asked("Sun, 06 Nov 2050 08:00:00 GMT"), Some(3_600_000));
    }

    #[test]
    fn garbage_and_repetition_count_as_absent() {
        for value in [
            "",
            "soon",
            "1e9",
            "1.5",
            "+3",
            "99999999999999999999",
            "--1",
            "-",
            "0x10",
        ] {
            assert_eq!(asked(value), None, "{value:?}");
        }
        assert_eq!(
            retry_after(&answer(&[("retry-after", "1"), ("retry-after", "1")]), NOW),
            None
        );
        assert_eq!(retry_after(&answer(&[]), NOW), None);
    }

    #[test]
    fn a_date_is_compared_with_their_clock_when_they_tell_it() {
        let response = answer(&[
            ("retry-after", "Sun, 06 Nov 1994 09:00:10 GMT"),
            ("date", "Sun, 06 Nov 1994 09:00:00 GMT"),
        ]);
        assert_eq!(retry_after(&response, NOW), Some(Duration::from_secs(10)));
    }

    #[test]
    fn attempts_and_time_end_it() {
        let minute = Duration::from_secs(60);
        assert_eq!(wait(1, None, 300, minute), Some(Duration::from_millis(300)));
        assert_eq!(
            wait(1, Some(Duration::from_secs(2)), 300, minute),
            Some(Duration::from_secs(2))
        );
        assert_eq!(wait(READ_ATTEMPTS_MAX, None, 0, minute), None);
        assert_eq!(wait(1, Some(minute), 0, minute), None);
        assert_eq!(backoff_millis(1), 500);
        assert_eq!(backoff_millis(3), 2_000);
        assert_eq!(backoff_millis(u32::MAX), BACKOFF_MILLIS_MAX);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_wait_too_long(value in "\\PC{0,40}", now in any::<i64>()) {
            if let Some(wait) = retry_after(&answer(&[("retry-after", &value)]), Timestamp(now)) {
                prop_assert!(wait >= Duration::from_millis(RETRY_AFTER_MILLIS_MIN));
                prop_assert!(wait <= Duration::from_secs(RETRY_AFTER_SECONDS_MAX));
            }
        }

        #[test]
        fn near_dates_do_not_panic_either(day in 0u32..40, month in "(Jan|Feb|Mar|Xyz)", year in 0u32..10_000, hour in 0u32..30) {
            let value = format!("Sun, {day:02} {month} {year:04} {hour:02}:00:00 GMT");
            let _ = retry_after(&answer(&[("retry-after", &value)]), NOW);
        }
    }
}
