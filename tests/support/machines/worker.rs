//! What a function does between two of its calls, step by step: the flows once more, as data.

use crate::machines::Run;
use crate::machines::faults::{Fault, Place};
use crate::machines::marks::Mark;
use crate::machines::shell::Driving;
use crate::machines::systems::{BILLED, Change, Hint, Kind, Stored, Write, order_line, wanted_key};
use domain::drive::{Heard, Move};
use domain::effect::{Effect, Repetition, backoff_millis};
use domain::lifecycle::{Event, InvoiceEffect, InvoiceRecord, State};
use domain::payments::{BillPayments, NextEntry, PaymentPolicy, PaymentStatus};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::feed::Watermark;
use flows::poll_receipts::{knows, watermark_after};
use flows::write_payment::wait_for_invoice_millis;
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::rc::Rc;

/// How often what waits is looked at although nothing happened, in milliseconds.
pub const RECHECK_MILLIS: i64 = 3_600_000;
/// Most rounds of one run.
const ROUNDS_MAX: u32 = 12;
/// How often one commit is sent while the register gives no answer, as in the flows.
const COMMIT_TRIES_MAX: u32 = 4;
/// How often a payment is recorded again because somebody else changed the bill in between.
const RECORD_TRIES_MAX: u32 = 5;
/// How soon a message whose run failed comes again, in milliseconds. The real queue takes longer, which changes nothing:
/// nothing but a wake-up rests on it.
const REDELIVERY_MILLIS: i64 = 90_000;

/// Which function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Drives the invoice.
    Match,
    /// Drives the bill.
    Pay,
    /// Reads receipts.
    PollReceipts,
    /// Reads payments.
    PollPayments,
    /// Queues what is due.
    Sweep,
}

/// A record as a worker remembers it.
#[derive(Debug, Clone)]
pub enum Seen {
    /// The invoice's.
    Record(u64, Rc<InvoiceRecord>),
    /// The bill's.
    Bill(u64, Rc<BillPayments>),
}

/// What a worker does next.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Load,
    ReadOthers(Seen),
    /// What was read when the question was handled; the answer has taken its time.
    Decide(Seen, Vec<usize>),
    /// Commits; what for, how often it was sent, whether the register has done it already.
    Commit(Box<Change>, After, u32, bool),
    Recheck(Vec<usize>),
    LookUp(Box<Driving>),
    Send(Box<Driving>),
    Leave(Box<Driving>),
    /// What it asked for has been answered.
    Hear(Box<Driving>, Heard<()>),
    Reload(Box<Driving>),
    ReadCoupa(Seen),
    Watermark,
    Scan(Box<Stored<Option<Watermark>>>),
    Scanned(Box<Stored<Option<Watermark>>>, Vec<usize>),
    Mirror(Box<(u64, Watermark, Vec<usize>)>),
    Wake(Box<(u64, Watermark)>),
    PaymentsWatermark,
    PaymentsScan(u64, BTreeSet<(usize, String)>),
    PaymentsScanned(u64, BTreeSet<(usize, String)>, Vec<domain::payments::Allocation>),
    Record(Box<Rows>, u32),
    Due,
}

/// What a payment poll has read.
#[derive(Debug, Clone)]
pub(crate) struct Rows {
    right: u64,
    new: Vec<domain::payments::Allocation>,
    known: BTreeSet<(usize, String)>,
}

/// What a commit was for.
#[derive(Debug, Clone)]
pub(crate) enum After {
    Again,
    Held(Vec<usize>),
    Hear(Box<Driving>, Seen),
    /// A decision together with the first step of its effect.
    Began(Box<Driving>, Seen),
    /// A decision by itself, and the step that ends its effect.
    Opened(Box<Driving>, Box<Move<()>>),
    /// A decision by itself, for which there was no time to go on.
    Fails,
    WakeNext(Box<(u64, Watermark)>),
    End,
    RecordNext(Box<Rows>),
    Recorded(Box<Rows>, u32),
}

/// One invocation of a function.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Counts the invocations.
    pub number: u32,
    /// How far its clock is ahead, in milliseconds.
    pub skew: i64,
    /// When it goes on.
    pub wakes_at: i64,
    job: Job,
    killed_at: i64,
    /// By its own clock.
    pub deadline: i64,
    /// It goes on past its end.
    pub undead: bool,
    /// Counts its steps.
    pub step: u32,
    rounds: u32,
    /// What is to be decided has been looked at.
    pub looked: bool,
    /// Token under which the exported flag is claimed together with the document.
    pub goes_on_as: Option<String>,
    receipt_arrived: bool,
    stage: Stage,
}

/// Why anything fails here.
pub fn problem() -> Problem {
    Problem::new("SIMULATED", "")
}

impl Seen {
    /// The effect of this kind in it.
    pub fn effect(&self, kind: Kind) -> Option<&Effect> {
        match (self, kind) {
            (Self::Record(_, record), Kind::Create) => record.creation.as_ref(),
            (Self::Record(_, record), Kind::Export) => record.export.as_ref(),
            (Self::Bill(_, bill), Kind::Pay) => bill.entry.as_ref(),
            _ => None,
        }
    }
}

impl Worker {
    /// A function begins.
    pub fn new(number: u32, job: Job, now: i64, skew: i64, late_kill: i64, timing: &Timing) -> Self {
        Self {
            number,
            skew,
            wakes_at: now + 1,
            job,
            killed_at: now + timing.function_millis + late_kill,
            deadline: now + skew + timing.function_millis - timing.stop_margin_millis,
            undead: false,
            step: 0,
            rounds: 0,
            looked: false,
            goes_on_as: None,
            receipt_arrived: false,
            stage: match job {
                Job::Match | Job::Pay => Stage::Load,
                Job::PollReceipts => Stage::Watermark,
                Job::PollPayments => Stage::PaymentsWatermark,
                Job::Sweep => Stage::Due,
            },
        }
    }

    /// What it is called in a story.
    pub fn name(&self) -> String {
        let what = match self.job {
            Job::Match => "match-invoice",
            Job::Pay => "write-payment",
            Job::PollReceipts => "poll-receipts",
            Job::PollPayments => "poll-payments",
            Job::Sweep => "sweep",
        };
        format!("worker {} ({what}, step {})", self.number, self.step)
    }
}

/// What a step leads to.
pub(crate) enum Next {
    /// On to the next stage, after this call took its time.
    To(Stage, Place),
    /// The run is over, and the message that led to it is used up.
    Over,
    /// The run has failed: the message comes again.
    Failed,
}

impl Run {
    /// Lets a worker take one step. False when it is over. A message whose run failed comes again.
    pub fn step(&mut self, worker: &mut Worker) -> bool {
        match self.one_step(worker) {
            Next::To(..) => true,
            Next::Over => false,
            Next::Failed => {
                let hint = match worker.job {
                    Job::Match => Some(Hint::Invoice),
                    Job::Pay => Some(Hint::Bill),
                    Job::PollReceipts | Job::PollPayments | Job::Sweep => None,
                };
                if let Some(hint) = hint {
                    self.enqueue(hint, REDELIVERY_MILLIS);
                }
                false
            }
        }
    }

    fn one_step(&mut self, worker: &mut Worker) -> Next {
        worker.step += 1;
        if self.systems.now > worker.killed_at {
            if !worker.undead {
                self.saw(Mark::TimedOut);
                self.tell(|| format!("{} is ended by the platform", worker.name()));
                self.give_up(worker);
                return Next::Failed;
            }
            self.saw(Mark::Undead);
        }
        let stage = std::mem::replace(&mut worker.stage, Stage::Load);
        let place = place_of(&stage);
        // Waiting for an answer is no call of its own.
        let waits = matches!(
            stage,
            Stage::Hear(..) | Stage::Decide(..) | Stage::Scanned(..) | Stage::PaymentsScanned(..)
        );
        let fault = if waits {
            Fault::None
        } else {
            self.fault(worker.number, worker.step, place)
        };
        if fault != Fault::None {
            self.tell(|| format!("{}: {fault:?} at {}", worker.name(), word_of(&stage)));
        }
        if fault == Fault::DiesBefore {
            self.give_up(worker);
            return Next::Failed;
        }
        let next = self.take(worker, stage, fault);
        if fault == Fault::DiesAfter {
            self.give_up(worker);
            return Next::Failed;
        }
        let Next::To(stage, place) = next else {
            return next;
        };
        worker.stage = stage;
        worker.wakes_at = self.systems.now + self.delay(worker.number, worker.step, place);
        if let Fault::Stalls(millis) = fault {
            worker.wakes_at += millis;
            // Before its bytes leave it is still ended on time; anywhere else it may go on past its end.
            if matches!(worker.stage, Stage::Leave(..)) {
                worker.wakes_at = worker.wakes_at.min(worker.killed_at.max(self.systems.now + 1));
            } else {
                worker.undead = true;
            }
        }
        // The platform ends it on time, whatever it is doing.
        if !worker.undead {
            worker.wakes_at = worker.wakes_at.min(worker.killed_at + 1);
        }
        Next::To(Stage::Load, place)
    }

    /// Nobody waits for its answers any more: no byte leaves from now on, and what still lands, lands in time.
    fn give_up(&mut self, worker: &Worker) {
        let now = self.systems.now;
        let (to_qad, to_coupa) = (self.lateness(Kind::Create), self.lateness(Kind::Pay));
        for late in &mut self.systems.late {
            if late.worker == worker.number {
                let lateness = match late.write {
                    Write::Document | Write::Exported => to_qad,
                    Write::Entry(_) => to_coupa,
                };
                late.at = late.at.min(now + lateness);
            }
        }
        self.watch.gave_up(worker.number, now);
    }

    fn has_time(&self, worker: &Worker) -> bool {
        self.clock(worker).0 + self.timing().http_millis <= worker.deadline
    }

    fn take(&mut self, worker: &mut Worker, stage: Stage, fault: Fault) -> Next {
        let lost = fault == Fault::Lost;
        match stage {
            Stage::Load if lost => Next::Failed,
            Stage::Load => self.loaded(worker),
            Stage::ReadOthers(seen) if lost => self.put_off(worker, seen),
            Stage::ReadOthers(seen) => {
                let received = self.systems.received();
                Next::To(Stage::Decide(seen, received), Place::Read)
            }
            Stage::Decide(seen, received) => self.decide(worker, seen, received),
            Stage::Commit(change, after, tries, done) => {
                self.commit(worker, *change, after, tries, done, fault)
            }
            Stage::Recheck(_) if lost => Next::Failed,
            Stage::Recheck(known) => {
                let missed = self.systems.mirror.iter().any(|receipt| !known.contains(receipt));
                if missed && !worker.receipt_arrived {
                    self.saw(Mark::ReceiptMissed);
                    worker.receipt_arrived = true;
                    worker.looked = false;
                    return Next::To(Stage::Load, Place::Register);
                }
                Next::Over
            }
            Stage::LookUp(driving) => self.look_up(driving, lost),
            Stage::Send(driving) => self.send(worker, driving, fault),
            Stage::Leave(driving) => self.leave(worker, driving, fault),
            Stage::Hear(driving, heard) => self.hear(worker, driving, heard),
            Stage::Reload(_) if lost => Next::Failed,
            Stage::Reload(driving) => self.reload(worker, driving),
            Stage::ReadCoupa(_) if lost => Next::Failed,
            Stage::ReadCoupa(seen) => {
                let Seen::Bill(revision, bill) = seen else {
                    return Next::Over;
                };
                let Ok(mut document) = bill.reconciled(&self.systems.entries, self.systems.paid) else {
                    self.violate("S1 Coupa shows an entry twice before the first was written".to_owned());
                    return Next::Over;
                };
                document.look_again = Some(self.clock(worker));
                again(revision, document)
            }
            Stage::Watermark if lost => Next::Failed,
            Stage::Watermark => {
                let read = Box::new(self.systems.receipts_read.clone());
                Next::To(Stage::Scan(read), Place::Register)
            }
            Stage::Scan(_) if lost => Next::Failed,
            Stage::Scan(read) => {
                let posted = self.systems.received();
                Next::To(Stage::Scanned(read, posted), Place::Read)
            }
            Stage::Scanned(read, posted) => self.scan(*read, &posted),
            Stage::Mirror(found) => {
                let (revision, watermark, new) = *found;
                let after = After::WakeNext(Box::new((revision, watermark)));
                Next::To(commit_of(Change::Mirror(new), after), Place::Commit)
            }
            Stage::Wake(_) if lost => Next::Failed,
            Stage::Wake(read) => {
                if self.systems.waiting {
                    self.saw(Mark::Woken);
                    self.hint(worker, Hint::Invoice);
                }
                let (seen, watermark) = *read;
                let change = Change::ReceiptsRead { seen, watermark };
                Next::To(commit_of(change, After::End), Place::Commit)
            }
            Stage::PaymentsWatermark if lost => Next::Failed,
            Stage::PaymentsWatermark => {
                let read = &self.systems.payments_read;
                let stage = Stage::PaymentsScan(read.revision, read.document.clone());
                Next::To(stage, Place::Register)
            }
            Stage::PaymentsScan(..) if lost => Next::Failed,
            Stage::PaymentsScan(seen, known) => {
                let shown = self.systems.payments.clone();
                Next::To(Stage::PaymentsScanned(seen, known, shown), Place::Read)
            }
            Stage::PaymentsScanned(seen, known, shown) => scan_payments(seen, known, &shown),
            Stage::Record(..) if lost => Next::Failed,
            Stage::Record(rows, tries) => self.record(worker, rows, tries),
            Stage::Due if lost => Next::Failed,
            Stage::Due => {
                let now = self.clock(worker);
                let timing = *self.timing();
                let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
                if self.systems.record.revision > 0 && is_due(self.systems.record.document.due(&timing)) {
                    self.saw(Mark::Swept);
                    self.hint(worker, Hint::Invoice);
                }
                if self.systems.bill.revision > 0 && is_due(self.systems.bill.document.due(&timing)) {
                    self.saw(Mark::Swept);
                    self.hint(worker, Hint::Bill);
                }
                Next::Over
            }
        }
    }

    fn hint(&mut self, worker: &mut Worker, hint: Hint) {
        worker.step += 1;
        let copies = match self.fault(worker.number, worker.step, Place::Hint) {
            Fault::Lost => 0,
            Fault::Twice => 2,
            _ => 1,
        };
        for copy in 0..copies {
            let after = self.delay(worker.number, worker.step + copy, Place::Read);
            self.enqueue(hint, after);
        }
    }

    /// The record that holds an effect of this kind.
    pub fn read(&self, kind: Kind) -> Seen {
        match kind {
            Kind::Create | Kind::Export => Seen::Record(
                self.systems.record.revision,
                Rc::clone(&self.systems.record.document),
            ),
            Kind::Pay => Seen::Bill(self.systems.bill.revision, Rc::clone(&self.systems.bill.document)),
        }
    }

    /// One round: what to do with the record as it is.
    fn loaded(&mut self, worker: &mut Worker) -> Next {
        worker.rounds += 1;
        if worker.rounds > ROUNDS_MAX || self.clock(worker).0 > worker.deadline {
            return Next::Failed;
        }
        if worker.job == Job::Pay {
            return self.loaded_bill(worker);
        }
        let seen = self.read(Kind::Create);
        let Seen::Record(_, record) = &seen else {
            return Next::Over;
        };
        let open = |effect: &Option<Effect>| effect.as_ref().is_some_and(|effect| !effect.is_finished());
        if record.may_be_decided() && !worker.looked {
            worker.looked = true;
            if !self.has_time(worker) {
                return Next::Failed;
            }
            return Next::To(Stage::ReadOthers(seen), Place::Register);
        }
        match &record.state {
            State::Approved => self.drive(worker, Kind::Create, seen),
            State::Posted { .. } | State::Exported { .. } if open(&record.export) => {
                self.drive(worker, Kind::Export, seen)
            }
            _ => Next::Over,
        }
    }

    fn loaded_bill(&mut self, worker: &mut Worker) -> Next {
        if self.systems.bill.revision == 0 {
            return Next::Over;
        }
        let seen = self.read(Kind::Pay);
        let Seen::Bill(revision, bill) = &seen else {
            return Next::Over;
        };
        let (revision, now) = (*revision, self.clock(worker));
        if bill.entry.as_ref().is_some_and(|entry| !entry.is_finished()) {
            return self.drive(worker, Kind::Pay, seen);
        }
        if bill.parked.is_some() {
            return finish(revision, bill);
        }
        let in_qad = matches!(
            self.systems.record.document.state,
            State::Posted { .. } | State::Exported { .. }
        );
        if !in_qad {
            if bill.look_again.is_some_and(|at| at > now) {
                return Next::Over;
            }
            let mut document = (**bill).clone();
            document.look_again = Some(now.plus_millis(wait_for_invoice_millis(document.setbacks)));
            document.setbacks += 1;
            return again(revision, document);
        }
        if !bill.coupa_read {
            return Next::To(Stage::ReadCoupa(seen), Place::Read);
        }
        match bill.next_entry(&PaymentPolicy::default()) {
            NextEntry::Settled => finish(revision, bill),
            NextEntry::Park(problem) => {
                self.saw(Mark::BillParked);
                let mut document = (**bill).clone();
                document.parked = Some(problem);
                document.look_again = Some(now);
                again(revision, document)
            }
            NextEntry::Append(entry) => {
                let mut document = (**bill).clone();
                let effect = Effect::ready(
                    wanted_key(&entry),
                    Repetition::OnlyAfterLookUp,
                    serde_json::to_string(&entry).unwrap(),
                    String::new(),
                    String::new(),
                    now,
                )
                .succeeding(bill.entry.as_ref());
                document.entry = Some(effect);
                self.open(
                    worker,
                    Kind::Pay,
                    Seen::Bill(revision, Rc::new(document)),
                    Vec::new(),
                )
            }
        }
    }

    /// Coupa, or QAD, gave no answer to what a decision needs: later, by itself.
    fn put_off(&mut self, worker: &mut Worker, seen: Seen) -> Next {
        let Seen::Record(revision, before) = seen else {
            return Next::Over;
        };
        let now = self.clock(worker);
        let event = Event::Delayed { problem: problem() };
        let Ok(mut document) = before.after(&event, now) else {
            return Next::Over;
        };
        document.look_again = Some(now.plus_millis(backoff_millis(before.setbacks)));
        let change = Change::Record {
            seen: revision,
            document: Rc::new(document),
            events: vec![event],
        };
        Next::To(commit_of(change, After::Again), Place::Commit)
    }

    /// The three-way match, as far as it concerns the machines: everything billed is received, or it is held.
    fn decide(&mut self, worker: &mut Worker, seen: Seen, received: Vec<usize>) -> Next {
        let Seen::Record(revision, record) = seen else {
            return Next::Over;
        };
        let now = self.clock(worker);
        let pieces: Decimal = received
            .iter()
            .map(|receipt| self.systems.receipts[*receipt].receipt.received)
            .sum();
        let enough = pieces >= Decimal::from(BILLED);
        let event = if enough {
            Event::Approved {
                identity: String::new(),
                request_sha256: String::new(),
                tolerance_version: String::new(),
                coupa_orders: vec![],
            }
        } else {
            Event::Held {
                exceptions: Vec::new(),
                awaits: vec![order_line()],
                tolerance_version: String::new(),
            }
        };
        let Ok(mut document) = record.after(&event, now) else {
            self.violate(format!("a decision cannot be taken: {event:?}"));
            return Next::Over;
        };
        document.look_again = (!enough).then(|| now.plus_millis(RECHECK_MILLIS));
        if enough {
            let effect = Effect::ready(
                "create".to_owned(),
                Repetition::OnlyAfterLookUp,
                String::new(),
                String::new(),
                String::new(),
                now,
            )
            .succeeding(record.creation.as_ref());
            document = InvoiceEffect::Creation.put(&document, effect);
        }
        let news = document.state != record.state;
        if enough {
            let told = if news { vec![event] } else { Vec::new() };
            return self.open(
                worker,
                Kind::Create,
                Seen::Record(revision, Rc::new(document)),
                told,
            );
        }
        let change = Change::Record {
            seen: revision,
            document: Rc::new(document),
            events: if news { vec![event] } else { Vec::new() },
        };
        self.saw(Mark::Held);
        Next::To(commit_of(change, After::Held(received)), Place::Commit)
    }

    // -----------------------------------------------------------------------------------------------------------
    // The register
    // -----------------------------------------------------------------------------------------------------------

    fn commit(
        &mut self,
        worker: &mut Worker,
        change: Change,
        after: After,
        tries: u32,
        done: bool,
        fault: Fault,
    ) -> Next {
        let silent = |done: bool| {
            let tries = tries + 1;
            if tries >= COMMIT_TRIES_MAX {
                return Next::Failed;
            }
            Next::To(
                Stage::Commit(Box::new(change.clone()), after.clone(), tries, done),
                Place::Register,
            )
        };
        if fault == Fault::Lost {
            return silent(done);
        }
        if done {
            self.saw(Mark::CommitRepeated);
        }
        let through = done || self.committed(worker, &change);
        if fault == Fault::AnswerLost {
            return silent(through);
        }
        if through {
            self.went_through(worker, after)
        } else {
            self.saw(Mark::Conflict);
            self.met_another(worker, after)
        }
    }

    fn committed(&mut self, worker: &Worker, change: &Change) -> bool {
        let through = self.systems.commit(change);
        let revision = match change {
            Change::Record { .. } => self.systems.record.revision,
            Change::Bill { .. } => self.systems.bill.revision,
            _ => 0,
        };
        self.tell(|| {
            let word = match change {
                Change::Record { document, events, .. } => {
                    let names: Vec<String> = events.iter().map(event_word).collect();
                    format!("the record: {} ({})", document.state.word(), names.join(", "))
                }
                Change::Bill { document, .. } => format!(
                    "the bill: {} {:?}",
                    document.word(),
                    document.entry.as_ref().map(|entry| entry.status)
                ),
                other => format!("{other:?}").chars().take(60).collect(),
            };
            let how = if through { "writes" } else { "fails to write" };
            format!("{} {how} {word} @{revision}", worker.name())
        });
        through
    }

    fn went_through(&mut self, worker: &mut Worker, after: After) -> Next {
        match after {
            After::Again => Next::To(Stage::Load, Place::Register),
            After::Held(known) => Next::To(Stage::Recheck(known), Place::Register),
            After::Hear(driving, moved) | After::Began(driving, moved) => self.stored(driving, Some(moved)),
            After::Opened(driving, step) => self.opened(worker, driving, &step),
            After::Fails => Next::Failed,
            After::WakeNext(read) => Next::To(Stage::Wake(read), Place::Register),
            After::RecordNext(rows) => Next::To(Stage::Record(rows, 0), Place::Register),
            After::Recorded(rows, _) => {
                self.hint(worker, Hint::Bill);
                let change = Change::PaymentsRead {
                    seen: rows.right,
                    known: rows.known,
                };
                Next::To(commit_of(change, After::End), Place::Commit)
            }
            After::End => Next::Over,
        }
    }

    fn met_another(&mut self, worker: &mut Worker, after: After) -> Next {
        match after {
            After::Again | After::Held(_) | After::Began(..) | After::Opened(..) | After::Fails => {
                worker.looked = false;
                Next::To(Stage::Load, Place::Register)
            }
            After::WakeNext(_) => Next::Over,
            After::Hear(driving, _) => self.stored(driving, None),
            After::RecordNext(_) => {
                self.saw(Mark::PaymentPollsMet);
                Next::Over
            }
            After::Recorded(rows, tries) if tries < RECORD_TRIES_MAX => {
                Next::To(Stage::Record(rows, tries + 1), Place::Register)
            }
            After::Recorded(..) => Next::Failed,
            After::End => {
                if worker.job == Job::PollReceipts {
                    self.saw(Mark::PollsMet);
                }
                Next::Over
            }
        }
    }

    // -----------------------------------------------------------------------------------------------------------
    // The polls
    // -----------------------------------------------------------------------------------------------------------

    fn scan(&mut self, read: Stored<Option<Watermark>>, posted: &[usize]) -> Next {
        let today = Timestamp(self.systems.now).date_utc();
        let shown: Vec<_> = posted
            .iter()
            .map(|receipt| self.systems.receipts[*receipt].receipt.clone())
            .collect();
        let before = read.document.as_ref();
        let new: Vec<usize> = posted
            .iter()
            .zip(&shown)
            .filter(|(_, receipt)| before.is_none_or(|watermark| !knows(watermark, receipt)))
            .map(|(number, _)| *number)
            .collect();
        let after = watermark_after(before, &shown, today);
        if new.is_empty() {
            if before == Some(&after) {
                return Next::Over;
            }
            let change = Change::ReceiptsRead {
                seen: read.revision,
                watermark: after,
            };
            return Next::To(commit_of(change, After::End), Place::Commit);
        }
        let found = Box::new((read.revision, after, new));
        Next::To(Stage::Mirror(found), Place::Register)
    }

    fn record(&mut self, worker: &mut Worker, rows: Box<Rows>, tries: u32) -> Next {
        if self.systems.payments_read.revision != rows.right {
            self.saw(Mark::PaymentPollsMet);
            return Next::Over;
        }
        let before = self.systems.bill.clone();
        let mut document = (*before.document).clone();
        let mut news = false;
        for reading in &rows.new {
            if let Some(next) = document.reading(reading.clone()) {
                document = next;
                news = true;
            }
        }
        if !news {
            return self.went_through(worker, After::Recorded(rows, tries));
        }
        document.parked = None;
        document.setbacks = 0;
        document.look_again = Some(self.clock(worker));
        let change = Change::Bill {
            seen: before.revision,
            document: Rc::new(document),
            right: Some(rows.right),
        };
        Next::To(commit_of(change, After::Recorded(rows, tries)), Place::Commit)
    }
}

fn scan_payments(
    seen: u64,
    known: BTreeSet<(usize, String)>,
    shown: &[domain::payments::Allocation],
) -> Next {
    let row =
        |(number, payment): (usize, &domain::payments::Allocation)| (number, payment.status.to_string());
    let all: BTreeSet<(usize, String)> = shown.iter().enumerate().map(row).collect();
    let new: Vec<_> = all
        .difference(&known)
        .map(|(number, _)| shown[*number].clone())
        .collect();
    if new.is_empty() {
        return Next::Over;
    }
    let rows = Rows {
        right: seen + 1,
        new,
        known: all,
    };
    let claim = Change::PaymentsRead { seen, known };
    Next::To(commit_of(claim, After::RecordNext(Box::new(rows))), Place::Commit)
}

/// A commit that has not been sent yet.
pub(crate) fn commit_of(change: Change, after: After) -> Stage {
    Stage::Commit(Box::new(change), after, 0, false)
}

fn again(seen: u64, document: BillPayments) -> Next {
    let change = Change::Bill {
        seen,
        document: Rc::new(document),
        right: None,
    };
    Next::To(commit_of(change, After::Again), Place::Commit)
}

fn finish(seen: u64, bill: &BillPayments) -> Next {
    if bill.look_again.is_none() {
        return Next::Over;
    }
    let mut document = bill.clone();
    document.look_again = None;
    document.setbacks = 0;
    again(seen, document)
}

fn place_of(stage: &Stage) -> Place {
    match stage {
        Stage::Load
        | Stage::Recheck(_)
        | Stage::Reload(_)
        | Stage::Watermark
        | Stage::Wake(_)
        | Stage::Mirror(_)
        | Stage::PaymentsWatermark
        | Stage::Record(..)
        | Stage::Due => Place::Register,
        Stage::Commit(..) => Place::Commit,
        Stage::ReadOthers(_)
        | Stage::LookUp(_)
        | Stage::ReadCoupa(_)
        | Stage::Scan(_)
        | Stage::PaymentsScan(..)
        | Stage::Decide(..)
        | Stage::Scanned(..)
        | Stage::PaymentsScanned(..) => Place::Read,
        Stage::Send(_) | Stage::Leave(_) | Stage::Hear(..) => Place::Write,
    }
}

fn word_of(stage: &Stage) -> &'static str {
    match stage {
        Stage::Load | Stage::Reload(_) => "reading the record",
        Stage::ReadOthers(_) => "reading invoice and receipts",
        Stage::Commit(..) => "a commit",
        Stage::Recheck(_) => "looking at the receipts once more",
        Stage::LookUp(_) => "a look-up",
        Stage::Send(_) | Stage::Leave(_) => "the send",
        Stage::Hear(..) | Stage::Decide(..) | Stage::Scanned(..) | Stage::PaymentsScanned(..) => "the answer",
        Stage::ReadCoupa(_) => "reading Coupa's payments",
        Stage::Watermark | Stage::PaymentsWatermark => "reading the watermark",
        Stage::Scan(_) | Stage::PaymentsScan(..) => "reading QAD's list",
        Stage::Mirror(_) | Stage::Record(..) => "recording what is new",
        Stage::Wake(_) => "looking for who waits",
        Stage::Due => "reading what is due",
    }
}

fn event_word(event: &Event) -> String {
    match event {
        Event::Creating { step, fence } => format!("creating {} under claim {fence}", step.name()),
        Event::Exporting { step, fence } => format!("exporting {} under claim {fence}", step.name()),
        other => other.name().to_owned(),
    }
}

/// Whether a payment counts by the policy that the lives use.
pub fn counts(status: &PaymentStatus) -> bool {
    *status == PaymentStatus::Paid
}
