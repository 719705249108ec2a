//! What time it is in AWS, as its answers tell it, against our own clock.
//!
//! A lease, a settle window and a due time are instants of somebody's clock. The functions' clocks are good; that of whoever
//! runs a flow by hand may be anything, and a clock that runs ahead sees leases end that have not ended.

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::Clock;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A `Date` header knows whole seconds, in milliseconds.
const DATE_MILLIS: i64 = 1_000;

/// An instant that a `Date` header tells.
pub fn date_header(text: &str) -> Option<Timestamp> {
    let at = httpdate::parse_http_date(text).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Timestamp)
}

/// One answer: when it was asked for and when it came by our clock, and what its server's clock said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// When the request left.
    pub asked: Timestamp,
    /// When the answer came.
    pub came: Timestamp,
    /// Its date, in whole seconds.
    pub told: Timestamp,
}

impl Answered {
    /// How far our clock is certainly ahead of the server's, in milliseconds; negative when it is behind. The answer was dated between
    /// the two instants, somewhere in the second that it names: what that explains is no difference.
    pub fn ahead_millis(&self) -> i64 {
        let end_of_second = self.told.plus_millis(DATE_MILLIS);
        let ahead = self.asked.millis_since(end_of_second).max(0);
        let behind = self.told.millis_since(self.came).max(0);
        ahead.saturating_sub(behind)
    }

    /// # Errors
    /// `CLOCK_SKEWED`: the clocks certainly differ by more than this.
    pub fn within(&self, allowed_millis: i64) -> Result<(), Problem> {
        let ahead = self.ahead_millis();
        if ahead.saturating_abs() <= allowed_millis {
            return Ok(());
        }
        let fix = "Set the clock of this machine (NTP), then run it again; nothing was done.";
        Err(Problem::new("CLOCK_SKEWED", fix)
            .field("the clock of this machine")
            .expected(format!("at most {allowed_millis} ms from AWS's"))
            .actual(format!("{ahead} ms ahead of it, or more")))
    }
}

/// Listens to one SDK call and remembers its last answer's date.
#[derive(Clone)]
pub struct ServerTime {
    clock: Arc<dyn Clock>,
    asked: Arc<Mutex<Option<Timestamp>>>,
    heard: Arc<Mutex<Option<Answered>>>,
}

impl fmt::Debug for ServerTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerTime").finish_non_exhaustive()
    }
}

impl ServerTime {
    /// Has heard nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            asked: Arc::default(),
            heard: Arc::default(),
        }
    }

    /// The last answer that carried a date, also one that refused what was asked.
    pub fn heard(&self) -> Option<Answered> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for ServerTime {
    fn name(&self) -> &'static str {
        "ServerTime"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.now());
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let came = self.clock.now();
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let told = context.response().headers().get("date").and_then(date_header);
        if let (Some(asked), Some(told)) = (asked, told) {
            let answered = Answered { asked, came, told };
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(answered);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(asked: i64, came: i64, told: i64) -> i64 {
        let answered = Answered {
            asked: Timestamp(asked),
            came: Timestamp(came),
            told: Timestamp(told),
        };
        answered.ahead_millis()
    }

    #[test]
    fn what_the_second_and_the_way_explain_is_no_difference() {
        assert_eq!(ahead(10_000, 10_050, 10_000), 0);
        assert_eq!(
            ahead(10_999, 11_100, 10_000),
            0,
            "dated in the second that it names"
        );
        assert_eq!(ahead(9_000, 15_000, 12_000), 0, "a slow answer says little");
        assert_eq!(ahead(613_000, 613_050, 12_000), 600_000);
        assert_eq!(ahead(2_000, 2_050, 12_000), -9_950);
    }

    #[test]
    fn a_clock_beyond_what_is_allowed_is_refused_in_either_direction() {
        let at = |asked| Answered {
            asked: Timestamp(asked),
            came: Timestamp(asked),
            told: Timestamp(100_000),
        };
        assert!(at(103_000).within(2_000).is_ok());
        assert!(at(98_000).within(2_000).is_ok());
        for asked in [103_001, 97_999] {
            assert_eq!(at(asked).within(2_000).unwrap_err().code, "CLOCK_SKEWED");
        }
    }

    #[test]
    fn a_date_is_read_and_anything_else_is_none() {
        let told = date_header("Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(told, Some(Timestamp(784_111_777_000)));
        assert_eq!(date_header("yesterday"), None);
    }
}
