//! Faults on demand: which request of which operation goes wrong, and how.

use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One of the two simulated systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Coupa.
    Coupa,
    /// QAD.
    Qad,
}

impl System {
    /// The word used in journals and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coupa => "coupa",
            Self::Qad => "qad",
        }
    }
}

/// What `Retry-After` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum RetryAfter {
    /// No such header.
    #[default]
    Absent,
    /// Seconds.
    Seconds(u32),
    /// An HTTP-date that many seconds from now.
    DateInSeconds(u32),
}

/// How a request goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Fault {
    /// The connection drops before the request is handled: nothing happens.
    LostBefore,
    /// The request is handled, then the connection drops.
    LostAfter,
    /// The connection drops and what was written appears only after a delay.
    LateCommit {
        /// Delay until it appears.
        delay_ms: u32,
    },
    /// An error status; the request is handled first when `after_commit`.
    #[serde(rename_all = "kebab-case")]
    Status {
        /// HTTP status, for example 401, 403, 429, 500, 502, 503.
        status: u16,
        /// The header.
        #[serde(default)]
        retry_after: RetryAfter,
        /// Handled before the error is answered.
        #[serde(default)]
        after_commit: bool,
    },
    /// The request is handled, the answer is no JSON.
    MalformedJson,
    /// The request is handled, the answer breaks off in the middle.
    TruncatedBody,
    /// The login page with status 200 instead of an answer; nothing is handled.
    HtmlPage,
    /// A bot protection's challenge page; nothing is handled.
    BotChallenge,
    /// The request is handled, the answer comes byte by byte.
    #[serde(rename_all = "kebab-case")]
    Drip {
        /// Pause between pieces.
        pause_ms: u32,
        /// Bytes per piece.
        piece_bytes: u32,
    },
    /// The system refuses for a reason of its own; nothing is written.
    BusinessRefusal {
        /// Its code.
        code: String,
        /// The field.
        #[serde(default)]
        field: String,
        /// Its text.
        message: String,
    },
    /// Somebody else has the record open; nothing is written.
    RecordInUse,
    /// QAD answers a save with a warning only and does not save.
    WarningOnly,
}

impl Fault {
    /// A short word for the journal.
    pub fn word(&self) -> String {
        match self {
            Self::LostBefore => "lost-before".to_owned(),
            Self::LostAfter => "lost-after".to_owned(),
            Self::LateCommit { delay_ms } => format!("late-commit {delay_ms} ms"),
            Self::Status {
                status, after_commit, ..
            } => {
                format!(
                    "status {status}{}",
                    if *after_commit { " after commit" } else { "" }
                )
            }
            Self::MalformedJson => "malformed-json".to_owned(),
            Self::TruncatedBody => "truncated-body".to_owned(),
            Self::HtmlPage => "html-page".to_owned(),
            Self::BotChallenge => "bot-challenge".to_owned(),
            Self::Drip { .. } => "drip".to_owned(),
            Self::BusinessRefusal { code, .. } => format!("business-refusal {code}"),
            Self::RecordInUse => "record-in-use".to_owned(),
            Self::WarningOnly => "warning-only".to_owned(),
        }
    }

    /// True when the request is handled although its answer is spoiled.
    pub fn is_handled(&self) -> bool {
        match self {
            Self::LostAfter | Self::MalformedJson | Self::TruncatedBody | Self::Drip { .. } => true,
            Self::Status { after_commit, .. } => *after_commit,
            Self::LostBefore
            | Self::LateCommit { .. }
            | Self::HtmlPage
            | Self::BotChallenge
            | Self::BusinessRefusal { .. }
            | Self::RecordInUse
            | Self::WarningOnly => false,
        }
    }

    /// When a late commit that starts now appears.
    pub fn late(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::LateCommit { delay_ms } => Some(now.plus_millis(i64::from(*delay_ms))),
            _ => None,
        }
    }
}

/// Which of the matching requests a rule hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// The next so many.
    Next(u32),
    /// Only the so-manieth from now, counted from 1.
    Nth(u32),
    /// Every one with this probability, drawn from the seed in the order of the requests.
    #[serde(rename_all = "kebab-case")]
    Chance {
        /// Of a thousand.
        per_mille: u16,
        /// Seed.
        seed: u64,
    },
}

/// One rule. The first rule that matches a request and hits is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Which system.
    pub system: System,
    /// Which operation: its name, the part before the dot, or `*` for all.
    pub operation: String,
    /// Only requests about this key: an id or reference that the journal would show. All when left out.
    #[serde(default)]
    pub key: Option<String>,
    /// Which of them.
    pub when: When,
    /// What happens.
    pub fault: Fault,
}

impl FaultRule {
    /// The next request of an operation about a key goes wrong.
    pub fn next(system: System, operation: &str, key: Option<&str>, fault: Fault) -> Self {
        Self {
            system,
            operation: operation.to_owned(),
            key: key.map(str::to_owned),
            when: When::Next(1),
            fault,
        }
    }

    fn matches(&self, system: System, operation: &str, keys: &[String]) -> bool {
        let named = self.operation == "*"
            || self.operation == operation
            || operation
                .split_once('.')
                .is_some_and(|(group, _)| group == self.operation);
        let keyed = self.key.as_ref().is_none_or(|key| keys.contains(key));
        self.system == system && named && keyed
    }
}

#[derive(Debug, Clone)]
struct Armed {
    rule: FaultRule,
    seen: u64,
}

/// The armed rules.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    armed: Vec<Armed>,
    struck: u64,
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::default()
    }

    /// Arms a rule behind those already armed.
    pub fn arm(&mut self, rule: FaultRule) {
        self.armed.push(Armed { rule, seen: 0 });
    }

    /// Disarms everything.
    pub fn clear(&mut self) {
        self.armed.clear();
    }

    /// The rules still armed.
    pub fn armed(&self) -> Vec<FaultRule> {
        self.armed.iter().map(|armed| armed.rule.clone()).collect()
    }

    /// How many requests went wrong so far.
    pub fn struck(&self) -> u64 {
        self.struck
    }

    /// Counts a request against the rules and says what goes wrong with it. `keys` are the ids it is about.
    pub fn hit(&mut self, system: System, operation: &str, keys: &[String]) -> Option<Fault> {
        let mut hit = None;
        for armed in &mut self.armed {
            if !armed.rule.matches(system, operation, keys) {
                continue;
            }
            armed.seen = armed.seen.saturating_add(1);
            let hits = match armed.rule.when {
                When::Next(count) => armed.seen <= u64::from(count),
                When::Nth(n) => armed.seen == u64::from(n),
                When::Chance { per_mille, seed } => draw(seed, armed.seen) < u64::from(per_mille),
            };
            if hits {
                hit = Some(armed.rule.fault.clone());
                break;
            }
        }
        self.armed.retain(|armed| match armed.rule.when {
            When::Next(count) => armed.seen < u64::from(count),
            When::Nth(n) => armed.seen < u64::from(n),
            When::Chance { .. } => true,
        });
        self.struck = self.struck.saturating_add(u64::from(hit.is_some()));
        hit
    }
}

/// The `index`-th number from 0 to 999 of a seed (SplitMix64).
fn draw(seed: u64, index: u64) -> u64 {
    scramble(seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15))).wrapping_rem(1000)
}

/// SplitMix64's finalizer: spreads one number over all bits.
pub(crate) fn scramble(number: u64) -> u64 {
    let once = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    twice ^ (twice >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed(when: When) -> Faults {
        let mut faults = Faults::none();
        faults.arm(FaultRule {
            system: System::Qad,
            operation: "supplier-invoices.create".to_owned(),
            key: None,
            when,
            fault: Fault::LostAfter,
        });
        faults
    }

    fn pattern(faults: &mut Faults, requests: usize) -> Vec<bool> {
        (0..requests)
            .map(|_| faults.hit(System::Qad, "supplier-invoices.create", &[]).is_some())
            .collect()
    }

    #[test]
    fn rules_hit_the_requests_they_name_and_no_others() {
        assert_eq!(pattern(&mut armed(When::Next(2)), 4), [true, true, false, false]);
        assert_eq!(pattern(&mut armed(When::Nth(3)), 4), [false, false, true, false]);
        assert_eq!(
            armed(When::Next(1)).hit(System::Coupa, "supplier-invoices.create", &[]),
            None
        );
        assert_eq!(
            armed(When::Next(1)).hit(System::Qad, "supplier-invoices.find", &[]),
            None
        );
    }

    #[test]
    fn a_key_narrows_a_rule() {
        let mut faults = Faults::none();
        faults.arm(FaultRule::next(
            System::Qad,
            "supplier-invoices",
            Some("INV-2"),
            Fault::LostBefore,
        ));
        assert_eq!(
            faults.hit(System::Qad, "supplier-invoices.find", &["INV-1".to_owned()]),
            None
        );
        let second = ["INV-2".to_owned()];
        assert_eq!(
            faults.hit(System::Qad, "supplier-invoices.find", &second),
            Some(Fault::LostBefore)
        );
        assert!(faults.armed().is_empty(), "a rule that is used up is gone");
    }

    #[test]
    fn chance_repeats_from_its_seed_and_is_about_as_frequent_as_asked() {
        let mut one = armed(When::Chance {
            per_mille: 250,
            seed: 7,
        });
        let mut two = armed(When::Chance {
            per_mille: 250,
            seed: 7,
        });
        let drawn = pattern(&mut one, 1000);
        assert_eq!(drawn, pattern(&mut two, 1000));
        let hits = drawn.iter().filter(|hit| **hit).count();
        assert!((150..350).contains(&hits), "{hits}");
    }

    #[test]
    fn rules_are_readable_as_json() {
        let rule: FaultRule = serde_json::from_str(
            r#"{"system":"qad","operation":"supplier-invoices.create","when":{"next":1},"fault":{"kind":"status","status":429,"retry-after":{"seconds":3}}}"#,
        )
        .unwrap();
        assert_eq!(
            rule.fault,
            Fault::Status {
                status: 429,
                retry_after: RetryAfter::Seconds(3),
                after_commit: false
            }
        );
    }
}
