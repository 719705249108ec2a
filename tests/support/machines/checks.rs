//! What must hold after every step, and at the end. The letters are those of `docs/reliability.md`.

use crate::machines::Run;
use crate::machines::systems::{BILLED, Kind, sign_key};
use crate::machines::worker::{Seen, Worker, counts};
use domain::effect::EffectStatus;
use domain::lifecycle::{State, is_done};
use domain::time::Date;
use flows::poll_receipts::knows;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// One write that left.
#[derive(Debug, Clone)]
struct Sent {
    worker: u32,
    key: String,
    /// The last byte is out by then.
    last_byte: i64,
    /// Nobody has proven that it was not applied.
    open: bool,
}

/// What the checks remember.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    sent: Vec<Sent>,
    empty_at: BTreeMap<String, i64>,
    fences: [u64; 2],
    posted: bool,
    cursor: Option<Date>,
    entries: usize,
    watermark: u64,
}

impl Watch {
    /// A complete look-up found nothing.
    pub fn looked_up_empty(&mut self, key: &str, at: i64) {
        match self.empty_at.get_mut(key) {
            Some(last) => *last = at.max(*last),
            None => {
                self.empty_at.insert(key.to_owned(), at);
            }
        }
    }

    /// The bytes of a worker's write are out by then at the latest.
    pub fn left(&mut self, worker: u32, by: i64) {
        if let Some(sent) = self.sent.iter_mut().rev().find(|sent| sent.worker == worker) {
            sent.last_byte = by;
        }
    }

    /// A worker's exchange has ended.
    pub fn answered(&mut self, worker: u32, declined: bool, now: i64) {
        if let Some(sent) = self.sent.iter_mut().rev().find(|sent| sent.worker == worker) {
            sent.last_byte = sent.last_byte.min(now);
            sent.open = !declined;
        }
    }

    /// A worker is gone, and so are its connections.
    pub fn gave_up(&mut self, worker: u32, now: i64) {
        for sent in self.sent.iter_mut().filter(|sent| sent.worker == worker) {
            sent.last_byte = sent.last_byte.min(now);
        }
    }
}

impl Run {
    /// S2, S3, S4, S5, S7: the bytes of a write leave now.
    pub fn check_send(&mut self, worker: &Worker, kind: Kind, seen: &Seen) {
        let Some(mine) = seen.effect(kind) else { return };
        let (key, fence, lease_until) = (mine.key.clone(), mine.fence, mine.lease_until.0);
        let now = self.systems.now;
        let stored = match kind {
            Kind::Create => self.systems.record.document.creation.as_ref(),
            Kind::Export => self.systems.record.document.export.as_ref(),
            Kind::Pay => self.systems.bill.document.entry.as_ref(),
        };
        let durable =
            stored.is_some_and(|stored| stored.fence == fence && stored.status == EffectStatus::Intent);
        if !durable {
            let there = stored.map(|stored| (stored.status, stored.fence));
            self.violate(format!(
                "S2 {} sends {kind:?} under claim {fence} while the register says {there:?}",
                worker.name()
            ));
        }
        if now > lease_until + self.real().clock_skew_millis {
            self.violate(format!(
                "S5 {} sends {kind:?} {} ms after its lease",
                worker.name(),
                now - lease_until
            ));
        }
        let in_qad = matches!(
            self.systems.record.document.state,
            State::Posted { .. } | State::Exported { .. }
        );
        match kind {
            Kind::Export if self.systems.documents.is_empty() => {
                self.violate("S7 exported while QAD has no document".to_owned());
            }
            Kind::Pay if !in_qad => self.violate("S7 paid in Coupa while not in QAD".to_owned()),
            _ => {}
        }
        if kind == Kind::Export {
            return;
        }
        let lateness = self.lateness(kind);
        let looked_up = self.watch.empty_at.get(&key).copied();
        let blind = self.watch.sent.iter().find(|sent| {
            sent.open && sent.key == key && looked_up.is_none_or(|at| at < sent.last_byte + lateness)
        });
        if let Some(blind) = blind {
            let what = format!(
                "S3 {key} is sent again by {} while what worker {} sent may still land",
                worker.name(),
                blind.worker
            );
            self.violate(what);
        }
        self.watch.sent.push(Sent {
            worker: worker.number,
            key,
            last_byte: now + self.real().http_millis,
            open: true,
        });
    }

    /// After every step.
    pub fn check(&mut self) {
        if let Some(torn) = self.systems.torn.pop() {
            self.violate(torn);
        }
        if self.systems.documents.len() > 1 {
            self.violate("S1 QAD has a second document".to_owned());
        }
        if self.systems.entries.len() != self.watch.entries {
            self.watch.entries = self.systems.entries.len();
            self.check_entries();
        }
        self.check_record();
        if self.systems.receipts_read.revision != self.watch.watermark {
            self.watch.watermark = self.systems.receipts_read.revision;
            self.check_watermark();
        }
    }

    /// S1 and S8 in Coupa.
    fn check_entries(&mut self) {
        let entries = &self.systems.entries;
        let twice = entries.iter().enumerate().any(|(place, entry)| {
            entries[..place]
                .iter()
                .any(|other| sign_key(other) == sign_key(entry))
        });
        let sum: Decimal = entries.iter().map(|entry| entry.amount).sum();
        if twice {
            self.violate("S1 Coupa has a payment entry twice".to_owned());
        }
        if sum > Decimal::from(BILLED) + Decimal::new(5, 2) {
            self.violate(format!("S8 Coupa shows {sum} paid of {BILLED}"));
        }
    }

    fn check_record(&mut self) {
        let record = &self.systems.record.document;
        let fences = [
            record.creation.as_ref().map_or(0, |effect| effect.fence),
            self.systems
                .bill
                .document
                .entry
                .as_ref()
                .map_or(0, |entry| entry.fence),
        ];
        let fell = fences
            .iter()
            .zip(self.watch.fences)
            .any(|(now, before)| *now < before);
        let posted = record.state.voucher().is_some();
        let lost_voucher = self.watch.posted && !posted;
        let resting = matches!(record.state, State::Exported { .. } | State::Parked { .. });
        let forgotten = self.systems.record.revision > 0 && !resting && record.due(self.timing()).is_none();
        let word = record.state.word();
        if fell {
            self.violate("S4 a fence fell".to_owned());
        }
        if lost_voucher {
            self.violate("S11 the record lost its voucher".to_owned());
        }
        if forgotten {
            self.violate(format!("L1 the record is {word} and never due"));
        }
        self.watch.fences = fences;
        self.watch.posted = posted;
    }

    /// S12: the cursor never goes back, and what it covers is recorded.
    fn check_watermark(&mut self) {
        let Some(watermark) = &self.systems.receipts_read.document else {
            return;
        };
        let cursor = watermark.cursor();
        let back = self.watch.cursor.is_some_and(|before| cursor < before);
        let missing = self
            .systems
            .receipts
            .iter()
            .enumerate()
            .find(|(number, goods)| knows(watermark, &goods.receipt) && !self.systems.mirror.contains(number))
            .map(|(number, _)| number);
        self.watch.cursor = Some(cursor);
        if back {
            self.violate("S12 the watermark went back".to_owned());
        }
        if let Some(number) = missing {
            self.violate(format!(
                "S12 the watermark covers receipt {number}, which is not recorded"
            ));
        }
    }

    /// When nothing moves any more.
    pub fn check_at_rest(&mut self) {
        let record = &self.systems.record.document;
        let stands = matches!(record.state, State::Exported { .. })
            && is_done(record.creation.as_ref())
            && self.systems.documents.len() == 1
            && self.systems.exported;
        if !stands {
            let what = format!(
                "L1 at rest the invoice is {} with {} documents in QAD, exported {}",
                record.state.word(),
                self.systems.documents.len(),
                self.systems.exported
            );
            self.violate(what);
        }
        let wanted: Decimal = self
            .systems
            .payments
            .iter()
            .filter(|payment| counts(&payment.status))
            .map(|payment| payment.allocated)
            .sum();
        let shown: Decimal = self.systems.entries.iter().map(|entry| entry.amount).sum();
        let parked = self.systems.bill.document.parked.is_some();
        let over = wanted > Decimal::from(BILLED);
        if (shown != wanted && !over) || parked != over {
            let what = format!(
                "S8 at rest QAD has paid {wanted} of {BILLED} and Coupa shows {shown}, parked {parked}, bill {}",
                self.systems.bill.document.word()
            );
            self.violate(what);
        }
    }
}
