//! The chain of times that "never twice" rests on, and the check that refuses to start when a link is wrong.

use crate::guards::{Guard, stands};
use crate::problem::Problem;
use serde::{Deserialize, Serialize};

/// All times of one function, in milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Longest a whole HTTP exchange with Coupa or QAD may take.
    pub http_millis: i64,
    /// The function's own timeout.
    pub function_millis: i64,
    /// How long before the function's end no new call is begun.
    pub stop_margin_millis: i64,
    /// How long a claim on an effect keeps others away.
    pub lease_millis: i64,
    /// How long after the last byte QAD may still commit a write (S_max).
    pub commit_lateness_millis: i64,
    /// The same of Coupa.
    pub coupa_commit_lateness_millis: i64,
    /// Most that two clocks of ours may differ.
    pub clock_skew_millis: i64,
    /// How long SQS hides a received message.
    pub queue_visibility_millis: i64,
    /// How often SQS delivers a message before it goes to the dead-letter queue.
    pub queue_receives_max: i64,
}

/// A killed function may run this much longer than its timeout (0.68 s were seen), in milliseconds.
pub const LATE_KILL_MILLIS: i64 = 1_000;
/// AWS's rule: visibility at least six times the function timeout.
pub const VISIBILITY_FACTOR: i64 = 6;
/// AWS's rule: at least five deliveries before a message is given up.
pub const QUEUE_RECEIVES_MIN: i64 = 5;
/// Longest any time in the chain may be, in milliseconds (an hour); keeps all arithmetic far from overflow.
pub const CHAIN_MILLIS_MAX: i64 = 3_600_000;

impl Default for Timing {
    /// For a QAD that may take two minutes to create an invoice, and whose platform may let a create wait half an hour for a
    /// lock before it goes on.
    fn default() -> Self {
        Self {
            http_millis: 120_000,
            function_millis: 180_000,
            stop_margin_millis: 10_000,
            lease_millis: 190_000,
            commit_lateness_millis: 1_800_000,
            coupa_commit_lateness_millis: 150_000,
            clock_skew_millis: 2_000,
            queue_visibility_millis: 1_080_000,
            queue_receives_max: 5,
        }
    }
}

impl Timing {
    /// The chain of a write to Coupa. It waits for no lock of QAD's.
    #[must_use]
    pub fn toward_coupa(&self) -> Self {
        Self {
            commit_lateness_millis: self.coupa_commit_lateness_millis,
            ..*self
        }
    }

    /// How long to wait after a lost answer before a look-up proves anything: commit lateness and skew.
    pub fn settle_millis(&self) -> i64 {
        let skew = if stands(Guard::ClockSkew) {
            self.clock_skew_millis
        } else {
            0
        };
        self.commit_lateness_millis.saturating_add(skew)
    }

    /// Checks every link; an empty list means that the chain holds.
    pub fn broken_links(&self) -> Vec<Problem> {
        let mut broken = Vec::new();
        let mut link = |name: &str, holds: bool, expected: String, actual: i64| {
            if !holds {
                broken.push(
                    Problem::new(
                        "TIMING_CHAIN_BROKEN",
                        "Correct the timing parameters of the stack; docs/reliability.md explains the chain.",
                    )
                    .field(name)
                    .expected(expected)
                    .actual(format!("{actual} ms")),
                );
            }
        };
        for (name, value) in [
            ("HTTP_TIMEOUT_SECONDS", self.http_millis),
            ("FUNCTION_TIMEOUT_SECONDS", self.function_millis),
            ("LEASE_SECONDS", self.lease_millis),
            ("COMMIT_LATENESS_SECONDS", self.commit_lateness_millis),
            ("COUPA_COMMIT_LATENESS_SECONDS", self.coupa_commit_lateness_millis),
        ] {
            link(
                name,
                value > 0 && value <= CHAIN_MILLIS_MAX,
                format!("1 ms to {CHAIN_MILLIS_MAX} ms"),
                value,
            );
        }
        for (name, value) in [
            ("STOP_MARGIN_SECONDS", self.stop_margin_millis),
            ("CLOCK_SKEW_SECONDS", self.clock_skew_millis),
        ] {
            link(
                name,
                (0..=CHAIN_MILLIS_MAX).contains(&value),
                format!("0 ms to {CHAIN_MILLIS_MAX} ms"),
                value,
            );
        }
        let function_end = self.function_millis.saturating_sub(self.stop_margin_millis);
        link(
            "HTTP_TIMEOUT_SECONDS",
            self.http_millis < function_end,
            format!("less than the function timeout without its stop margin ({function_end} ms)"),
            self.http_millis,
        );
        let lease_min = self
            .function_millis
            .saturating_add(LATE_KILL_MILLIS)
            .saturating_add(self.clock_skew_millis.saturating_mul(2));
        link(
            "LEASE_SECONDS",
            self.lease_millis >= lease_min,
            format!("at least the function timeout, a late kill and twice the skew ({lease_min} ms)"),
            self.lease_millis,
        );
        let visibility_min = self.function_millis.saturating_mul(VISIBILITY_FACTOR);
        link(
            "QUEUE_VISIBILITY_SECONDS",
            self.queue_visibility_millis >= visibility_min,
            format!("at least six times the function timeout ({visibility_min} ms)"),
            self.queue_visibility_millis,
        );
        if self.queue_receives_max < QUEUE_RECEIVES_MIN {
            broken.push(
                Problem::new("TIMING_CHAIN_BROKEN", "Raise maxReceiveCount of the queue.")
                    .field("QUEUE_RECEIVE_COUNT_MAX")
                    .expected(format!("at least {QUEUE_RECEIVES_MIN}"))
                    .actual(self.queue_receives_max.to_string()),
            );
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_chain_holds() {
        assert_eq!(Timing::default().broken_links(), Vec::new());
    }

    #[test]
    fn a_write_to_coupa_does_not_wait_for_a_lock_of_qads() {
        let (qad, coupa) = (Timing::default(), Timing::default().toward_coupa());
        assert_eq!(qad.settle_millis(), 1_802_000);
        assert_eq!(coupa.settle_millis(), 152_000);
    }

    #[test]
    fn every_link_is_checked() {
        let good = Timing::default();
        for (field, bad) in [
            (
                "HTTP_TIMEOUT_SECONDS",
                Timing {
                    http_millis: 170_000,
                    ..good
                },
            ),
            (
                "HTTP_TIMEOUT_SECONDS",
                Timing {
                    http_millis: 0,
                    ..good
                },
            ),
            (
                "FUNCTION_TIMEOUT_SECONDS",
                Timing {
                    function_millis: i64::MAX,
                    ..good
                },
            ),
            (
                "LEASE_SECONDS",
                Timing {
                    lease_millis: 184_999,
                    ..good
                },
            ),
            (
                "COMMIT_LATENESS_SECONDS",
                Timing {
                    commit_lateness_millis: 0,
                    ..good
                },
            ),
            (
                "COUPA_COMMIT_LATENESS_SECONDS",
                Timing {
                    coupa_commit_lateness_millis: 0,
                    ..good
                },
            ),
            (
                "STOP_MARGIN_SECONDS",
                Timing {
                    stop_margin_millis: -1,
                    ..good
                },
            ),
            (
                "CLOCK_SKEW_SECONDS",
                Timing {
                    clock_skew_millis: -1,
                    ..good
                },
            ),
            (
                "QUEUE_VISIBILITY_SECONDS",
                Timing {
                    queue_visibility_millis: 1_079_999,
                    ..good
                },
            ),
            (
                "QUEUE_RECEIVE_COUNT_MAX",
                Timing {
                    queue_receives_max: 4,
                    ..good
                },
            ),
        ] {
            assert!(
                bad.broken_links().iter().any(|problem| problem.field == field),
                "{field}"
            );
        }
    }
}
