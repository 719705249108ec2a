//! The product's pure machines in a discrete-event simulation, without an await, a byte of JSON or a lock: thousands of
//! lives a second on one core.
//!
//! One life is one invoice with its receipts and its payments: the invoice's record with the two writes that it causes,
//! the bill's ledger with its entries, the waiting index, the mirror of receipts, both watermarks, a queue, a sweep, two
//! polls, and both other systems. What decides, drives and moves is the product's ([`domain::drive`], [`domain::effect`],
//! [`domain::lifecycle`], [`domain::payments`], [`flows::feed::Watermark`]); which flow reads what before it decides is
//! written down here once more, step by step, so that anything can happen between any two steps. The flows themselves are
//! tested, more slowly, by [`crate::life`], and no guard of theirs is asked for here.
//!
//! | file | what |
//! |---|---|
//! | [`faults`] | what goes wrong, by chance or from a list |
//! | [`systems`] | Coupa, QAD and the register, as far as the machines can see them |
//! | [`worker`] | what a function does between two of its calls |
//! | [`shell`] | how it drives a write: the product's own protocol, asked step by step |
//! | [`checks`] | what must hold after every step, and at the end |
//! | [`shrink`] | the shortest list of faults that still breaks it |

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that overflows, or misses what it put there, must fail loudly"
)]

pub mod checks;
pub mod faults;
pub mod marks;
pub mod shell;
pub mod shrink;
pub mod systems;
pub mod worker;

use crate::gate::Rng;
use crate::harness::{BEGINNING, POLL_MILLIS, SWEEP_MILLIS};
use domain::lifecycle::State;
use domain::payments::PaymentStatus;
use domain::time::Timestamp;
use domain::timing::{LATE_KILL_MILLIS, Timing};
use faults::{Fault, Faults, Listed, Odds, Place};
use marks::{Mark, Marks};
use systems::{Hint, Kind, Systems};
use worker::{Job, Worker};

/// How long the faults last, in milliseconds.
const CHAOS_MILLIS: i64 = 1_600_000;
/// How many of a thousand calls of Coupa and QAD are slow, usually.
const SLOW_PER_MILLE: u64 = 150;
/// Most workers at once.
const WORKERS_MAX: usize = 5;
/// Most steps of one life; more is a life that does not end.
const STEPS_MAX: u64 = 40_000;
/// Longest an invoice, or a bill, may take to come to rest after the faults have stopped, in milliseconds: a claim and
/// its settle window, the longest backoff of a read and of a write with its jitter, a poll and two sweeps, and how long a
/// bill waits before it asks again whether its invoice is in QAD: a minute, doubled five times while faults last.
pub const REST_MILLIS_MAX: i64 = 342_000 + 2 * 375_000 + POLL_MILLIS + 2 * SWEEP_MILLIS + 32 * 60_000;

/// How a life is led.
#[derive(Debug, Clone)]
pub struct Life {
    /// Seeds everything.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// What the workers believe about time.
    pub believed: Timing,
    /// What is true about time.
    pub real: Timing,
    /// How much two clocks may differ, in milliseconds.
    pub skew_millis: i64,
    /// How many of a thousand calls of Coupa and QAD are slow.
    pub slow: u64,
    /// Whether the story is kept.
    pub told: bool,
}

/// The chain of times of a write of this kind: to QAD, or to Coupa.
fn toward(timing: &Timing, kind: Kind) -> Timing {
    match kind {
        Kind::Create | Kind::Export => *timing,
        Kind::Pay => timing.toward_coupa(),
    }
}

impl Life {
    /// The life of a seed: a random part of the full load of faults, clocks as wrong as they may be.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let odds = if rng.per_mille(300) {
            Odds::heavy()
        } else {
            Odds::swarm(&mut rng)
        };
        Self::with(seed, odds)
    }

    /// The life of a seed under these odds.
    pub fn with(seed: u64, odds: Odds) -> Self {
        let real = crate::timing();
        Self {
            seed,
            faults: Faults::ByChance(odds),
            believed: real,
            real,
            skew_millis: real.clock_skew_millis,
            slow: SLOW_PER_MILLE,
            told: false,
        }
    }

    /// The same life with these faults and no others.
    #[must_use]
    pub fn listed(&self, faults: Vec<Listed>) -> Self {
        Self {
            faults: Faults::Listed(faults.into_iter().collect()),
            told: true,
            ..self.clone()
        }
    }
}

/// What a life was like.
#[derive(Debug, Clone, Default)]
pub struct Lived {
    /// What was broken; the first one is what ended it.
    pub violations: Vec<String>,
    /// How long it took to come to rest after the faults had stopped, in milliseconds.
    pub rest_millis: i64,
    /// Steps taken.
    pub steps: u64,
    /// How often each interesting path was taken.
    pub marks: Marks,
    /// The faults that happened.
    pub faults: Vec<Listed>,
    /// The story, when it was asked for.
    pub story: Vec<String>,
}

/// Something that happens outside: a receipt is posted, a payment changes.
#[derive(Debug, Clone)]
enum Outside {
    Receipt(usize),
    Payment(usize, PaymentStatus),
}

/// One run.
pub struct Run {
    life: Life,
    /// Both other systems and the register.
    pub systems: Systems,
    /// Those that run now.
    pub workers: Vec<Worker>,
    /// How often each interesting path was taken.
    pub marks: Marks,
    /// The memory of the checks.
    pub watch: checks::Watch,
    /// What was broken.
    pub violations: Vec<String>,
    rng: Rng,
    outside: Vec<(i64, Outside)>,
    next_sweep: i64,
    next_poll: i64,
    spawned: u32,
    steps: u64,
    calm: bool,
    happened: Vec<Listed>,
    story: Vec<String>,
}

/// Lives it.
pub fn live(life: &Life) -> Lived {
    let mut run = Run::new(life.clone());
    let chaos_ends = BEGINNING.0 + CHAOS_MILLIS;
    run.until(chaos_ends);
    run.calm = true;
    run.tell(|| "the faults stop".to_owned());
    let healed = run.heal(chaos_ends);
    let rest_millis = healed.unwrap_or(i64::MAX);
    // A wake-up whose hint was lost is made good by the slow recheck; without such a loss nothing waits for it.
    let held = matches!(run.systems.record.document.state, State::Held { .. });
    if held && run.marks.of(Mark::HintLost) > 0 {
        let recheck = run.systems.now + worker::RECHECK_MILLIS;
        run.until(recheck);
        run.heal(recheck);
    }
    if run.violations.is_empty() {
        if rest_millis > REST_MILLIS_MAX {
            run.violate(format!("L1 it took {rest_millis} ms to come to rest"));
        }
        run.check_at_rest();
    }
    Lived {
        violations: run.violations,
        rest_millis,
        steps: run.steps,
        marks: run.marks,
        faults: run.happened,
        story: run.story,
    }
}

impl Run {
    fn new(life: Life) -> Self {
        let mut rng = Rng::new(life.seed ^ 0x5EED);
        let systems = Systems::new(&mut rng);
        let start = BEGINNING.0;
        let mut outside = Vec::new();
        for receipt in 0..systems.receipts.len() {
            let early = rng.per_mille(500);
            let at = start + if early { 0 } else { rng.millis(900_000) };
            outside.push((at, Outside::Receipt(receipt)));
        }
        for payment in 0..systems.payments.len() {
            let paid = start + 60_000 + rng.millis(900_000);
            outside.push((paid, Outside::Payment(payment, PaymentStatus::Paid)));
            if rng.per_mille(350) {
                let word = if rng.per_mille(500) {
                    PaymentStatus::Void
                } else {
                    PaymentStatus::Bounced
                };
                let back = paid + rng.millis(600_000);
                outside.push((back, Outside::Payment(payment, word)));
            }
        }
        let mut run = Self {
            life,
            systems,
            workers: Vec::new(),
            marks: Marks::default(),
            watch: checks::Watch::default(),
            violations: Vec::new(),
            outside,
            next_sweep: start + SWEEP_MILLIS,
            next_poll: start + rng.millis(POLL_MILLIS),
            spawned: 0,
            steps: 0,
            calm: false,
            happened: Vec::new(),
            story: Vec::new(),
            rng,
        };
        let copies = 1 + run.rng.below(3);
        for _ in 0..copies {
            let after = run.rng.millis(20_000);
            run.enqueue(Hint::Invoice, after);
        }
        run
    }

    /// What the workers believe about time.
    pub fn timing(&self) -> &Timing {
        &self.life.believed
    }

    /// What is true about time.
    pub fn real(&self) -> &Timing {
        &self.life.real
    }

    /// What the workers believe about time for a write of this kind.
    pub fn timing_of(&self, kind: Kind) -> Timing {
        toward(&self.life.believed, kind)
    }

    /// How late a write of this kind may land, in milliseconds.
    pub fn lateness(&self, kind: Kind) -> i64 {
        toward(&self.life.real, kind).commit_lateness_millis
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.life.told {
            let at = (self.systems.now - BEGINNING.0) as f64 / 1000.0;
            self.story.push(format!("{at:>9.3} s  {}", line()));
        }
    }

    /// A broken invariant.
    pub fn violate(&mut self, what: String) {
        self.tell(|| format!("!!! {what}"));
        self.violations.push(what);
    }

    /// Counts a path taken.
    pub fn saw(&mut self, mark: Mark) {
        self.marks.add(mark);
    }

    /// What goes wrong with this step of this worker.
    pub fn fault(&mut self, worker: u32, step: u32, place: Place) -> Fault {
        if self.calm {
            return Fault::None;
        }
        let fault = match &self.life.faults {
            Faults::ByChance(odds) => {
                let mut rng = Rng::new(mixed(self.life.seed, worker, step));
                odds.draw(&mut rng, place, self.life.real.commit_lateness_millis)
            }
            Faults::Listed(listed) => listed.get(&(worker, step)).copied().unwrap_or(Fault::None),
        };
        if fault != Fault::None {
            self.happened.push(((worker, step), fault));
            self.marks.add(match (place, fault) {
                (Place::Hint, Fault::Lost) => Mark::HintLost,
                _ => fault.mark(),
            });
        }
        fault
    }

    /// How long this step of this worker takes, in milliseconds.
    pub fn delay(&self, worker: u32, step: u32, place: Place) -> i64 {
        let mut rng = Rng::new(mixed(self.life.seed ^ 0xDE1A, worker, step));
        let longest = match place {
            Place::AtOnce => return 0,
            Place::Register | Place::Commit | Place::Hint => 40,
            // Now and then a call is slow; a whole exchange ends within the HTTP timeout.
            Place::Read | Place::Write if !self.calm && rng.per_mille(self.life.slow) => {
                self.life.real.http_millis
            }
            Place::Read | Place::Write => 1_500,
        };
        1 + rng.millis(longest)
    }

    /// Puts a hint into the queue.
    pub fn enqueue(&mut self, hint: Hint, after_millis: i64) {
        let at = self.systems.now + after_millis;
        self.systems.queue.push((at, hint));
    }

    /// Starts a function.
    fn spawn(&mut self, job: Job) {
        self.spawned += 1;
        let half = self.life.skew_millis / 2;
        let mut rng = Rng::new(mixed(self.life.seed ^ 0xC10C, self.spawned, 0));
        let skew = if self.calm { 0 } else { rng.millis(2 * half) - half };
        let late_kill = rng.millis(LATE_KILL_MILLIS);
        let worker = Worker::new(
            self.spawned,
            job,
            self.systems.now,
            skew,
            late_kill,
            &self.life.real,
        );
        self.tell(|| format!("worker {} begins: {job:?}, clock {skew:+} ms", worker.number));
        self.workers.push(worker);
    }

    /// The next instant at which anything happens.
    fn next_moment(&self) -> i64 {
        let mut next = i64::MAX;
        let mut earlier = |at: i64| next = next.min(at);
        for worker in &self.workers {
            earlier(worker.wakes_at);
        }
        if self.workers.len() < WORKERS_MAX {
            for (at, _) in &self.systems.queue {
                earlier(*at);
            }
        }
        for (at, _) in &self.outside {
            earlier(*at);
        }
        for late in &self.systems.late {
            earlier(late.at);
        }
        earlier(self.next_poll);
        earlier(self.sweep_moment());
        next
    }

    /// Minutes in which nothing is due are left out.
    fn sweep_moment(&self) -> i64 {
        let Some(due) = self.systems.due(&self.life.believed) else {
            return i64::MAX;
        };
        let late = (due - self.next_sweep).max(0);
        self.next_sweep + (late + SWEEP_MILLIS - 1) / SWEEP_MILLIS * SWEEP_MILLIS
    }

    /// Lets everything happen until an instant, or until something breaks.
    fn until(&mut self, end: i64) {
        while self.violations.is_empty() {
            let moment = self.next_moment().max(self.systems.now);
            if moment > end {
                break;
            }
            self.happen(moment);
            self.steps += 1;
            if self.steps > STEPS_MAX {
                self.violate("S18 it does not end".to_owned());
            }
        }
        self.systems.now = self.systems.now.max(end);
    }

    fn happen(&mut self, moment: i64) {
        self.systems.now = moment;
        if self.systems.land() > 0 {
            self.saw(Mark::LateCommitLanded);
            self.tell(|| "a late commit lands".to_owned());
            self.check();
            return;
        }
        if let Some(place) = self.outside.iter().position(|(at, _)| *at <= moment) {
            let (_, outside) = self.outside.swap_remove(place);
            self.tell(|| format!("outside: {outside:?}"));
            match outside {
                Outside::Receipt(receipt) => self.systems.receipts[receipt].posted = true,
                Outside::Payment(payment, status) => self.systems.payment_changes(payment, status),
            }
            return;
        }
        let ready: Vec<usize> = (0..self.workers.len())
            .filter(|place| self.workers[*place].wakes_at <= moment)
            .collect();
        if !ready.is_empty() {
            let place = ready[self.rng.below(ready.len() as u64) as usize];
            let mut worker = self.workers.swap_remove(place);
            if self.step(&mut worker) {
                self.workers.push(worker);
            }
            self.check();
            return;
        }
        if self.workers.len() < WORKERS_MAX
            && let Some(place) = self.systems.queue.iter().position(|(at, _)| *at <= moment)
        {
            let (_, hint) = self.systems.queue.swap_remove(place);
            self.spawn(match hint {
                Hint::Invoice => Job::Match,
                Hint::Bill => Job::Pay,
            });
            return;
        }
        if self.next_poll <= moment {
            self.next_poll = moment + POLL_MILLIS;
            // The poll of Coupa finds an invoice that nobody has heard of.
            if self.systems.record.revision == 0 {
                self.enqueue(Hint::Invoice, 500);
            }
            self.spawn(Job::PollReceipts);
            self.spawn(Job::PollPayments);
            return;
        }
        if self.sweep_moment() <= moment {
            self.next_sweep = moment + SWEEP_MILLIS;
            self.spawn(Job::Sweep);
        }
    }

    /// The second phase: no faults any more, until nothing moves. The answer is how long that took.
    fn heal(&mut self, began: i64) -> Option<i64> {
        let mut polled = self.next_poll;
        while self.violations.is_empty() {
            let end = self.systems.now + SWEEP_MILLIS;
            self.until(end);
            // One poll after the last change outside must have been taken in.
            let polled_since = self.next_poll > polled;
            if !self.outside.is_empty() {
                polled = self.next_poll;
                continue;
            }
            if polled_since && !self.moves() {
                return Some(self.systems.now - began - SWEEP_MILLIS);
            }
            if self.systems.now - began > 4 * REST_MILLIS_MAX {
                let record = &self.systems.record.document;
                let what = format!(
                    "L1 it does not come to rest: {} {:?}, bill {}",
                    record.state.word(),
                    record.creation.as_ref().map(|effect| effect.status),
                    self.systems.bill.document.word(),
                );
                self.violate(what);
            }
        }
        None
    }

    /// True while anything is on its way.
    fn moves(&self) -> bool {
        let settled = matches!(self.systems.record.document.state, State::Held { .. });
        let now_due = (!settled)
            .then(|| self.systems.due(&self.life.believed))
            .flatten();
        !self.workers.is_empty()
            || !self.systems.queue.is_empty()
            || !self.systems.late.is_empty()
            || now_due.is_some()
            || matches!(
                self.systems.record.document.state,
                State::Approved | State::Posted { .. }
            )
    }

    /// A worker's own clock.
    pub fn clock(&self, worker: &Worker) -> Timestamp {
        Timestamp(self.systems.now + worker.skew)
    }

    /// Documents in QAD, or entries in Coupa, that a look-up shows at this moment.
    pub fn shown(&self, kind: Kind, key: &str) -> usize {
        self.systems.shown(kind, key)
    }
}

/// One number of three.
fn mixed(seed: u64, one: u32, two: u32) -> u64 {
    let place = (u64::from(one) << 32) | u64::from(two);
    Rng::new(seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15)).bits()
}
