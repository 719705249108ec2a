//! What this instance has queued lately. A record that still waits is not queued again before its message had its time:
//! a backlog that is queued anew at every tick only hides behind itself what has just come.
//!
//! It is a memory and no truth: an instance that starts knows nothing and queues once more, and a message that was lost is
//! made up for when its time is over.

use crate::ports::RecordKey;
use domain::ids::ConnectionId;
use domain::time::Timestamp;
use domain::timing::Timing;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most records that are remembered; beyond it the memory begins anew, which queues once more and harms nothing.
const MARKS_MAX: usize = 20_000;

/// One record of one connection.
type Name = (ConnectionId, RecordKey);

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// What it was queued for: when it was due, or as of when Coupa listed it.
    version: i64,
    at: Timestamp,
    /// How long its message has before it is queued again, in milliseconds.
    patience_millis: i64,
}

/// What an instance has queued lately, by record.
#[derive(Debug, Default)]
pub struct Hinted(Mutex<BTreeMap<Name, Mark>>);

impl Hinted {
    fn marks(&self) -> MutexGuard<'_, BTreeMap<Name, Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record is to be queued now, and remembers that it is. For the same `version` that is so again after the
    /// time a worker may have it in hand, then after twice that, and so on up to the time in which a queue delivers again.
    pub fn take(
        &self,
        connection: &ConnectionId,
        record: &RecordKey,
        version: i64,
        now: Timestamp,
        timing: &Timing,
    ) -> bool {
        let mut marks = self.marks();
        if marks.len() >= MARKS_MAX {
            marks.clear();
        }
        let name = (connection.clone(), record.clone());
        let patience_millis = match marks.get(&name) {
            Some(mark) if mark.version == version => {
                if now.millis_since(mark.at) < mark.patience_millis {
                    return false;
                }
                let longer = mark.patience_millis.saturating_mul(2);
                longer.min(timing.queue_visibility_millis)
            }
            _ => timing.lease_millis,
        };
        let mark = Mark {
            version,
            at: now,
            patience_millis,
        };
        marks.insert(name, mark);
        true
    }

    /// Nothing of this connection was queued after all.
    pub fn forget(&self, connection: &ConnectionId) {
        self.marks().retain(|(of, _), _| of != connection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_queued_again_only_when_its_message_had_its_time() {
        let timing = Timing::default();
        let (acme, other): (ConnectionId, ConnectionId) = ("acme".parse().unwrap(), "other".parse().unwrap());
        let hinted = Hinted::default();
        let key = RecordKey::Invoice(domain::ids::InvoiceId(7));
        let take = |connection, version, at| hinted.take(connection, &key, version, Timestamp(at), &timing);
        let lease = timing.lease_millis;
        assert!(take(&acme, 5, 0));
        assert!(!take(&acme, 5, lease - 1));
        assert!(take(&acme, 6, 1), "it is due for something else");
        assert!(take(&other, 5, 1), "somebody else's");
        assert!(take(&acme, 6, 1 + lease));
        assert!(
            !take(&acme, 6, 1 + 3 * lease - 1),
            "twice as long the second time"
        );
        assert!(take(&acme, 6, 1 + 3 * lease));
        // However often: a lost message is made up for within the queue's own time.
        let mut at = 1 + 3 * lease;
        for _ in 0..20 {
            at += timing.queue_visibility_millis;
            assert!(take(&acme, 6, at));
        }
        hinted.forget(&acme);
        assert!(take(&acme, 6, at));
        assert!(!take(&other, 5, 2));
    }
}
