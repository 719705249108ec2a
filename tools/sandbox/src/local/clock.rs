//! The one place of the local run that reads the machine's clock and waits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "the local run's only reader of the wall clock"
)]
pub(crate) fn epoch_milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Waits; under tokio's paused time it does not.
#[expect(clippy::disallowed_methods, reason = "the local run's only way to wait")]
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A UTC date and time as it stands in an API Gateway event: `12/Mar/2020:19:03:58 +0000`.
pub(crate) fn common_log_time(epoch_milliseconds: u64) -> String {
    let instant = i64::try_from(epoch_milliseconds)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant
        .unwrap_or_default()
        .strftime("%d/%b/%Y:%H:%M:%S +0000")
        .to_string()
}

/// A UTC date and time in ISO 8601.
pub(crate) fn iso_time(epoch_milliseconds: u64) -> String {
    let instant = i64::try_from(epoch_milliseconds)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant
        .unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%S.%3fZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_aws_writes_them() {
        assert_eq!(common_log_time(1_583_348_638_390), "04/Mar/2020:19:03:58 +0000");
        assert_eq!(iso_time(1_583_348_638_390), "2020-03-04T19:03:58.390Z");
    }
}
