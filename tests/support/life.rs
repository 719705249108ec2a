//! Whole lives: a seeded day of invoices with many workers, faults, duplicates, reordering, dead and undead workers; then
//! the faults stop, and every invoice must stand where its data say.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that overflows, or misses what it put there, must fail loudly"
)]

use crate::fates::{Again, Chaos, Happened, Odds};
use crate::gate::{Calm, Rng};
use crate::harness::{BEGINNING, Harness, Job, POLL_MILLIS, SWEEP_MILLIS, Setup, job_of};
use crate::people::{self, People};
use domain::ids::InvoiceId;
use domain::time::Timestamp;
use domain::timing::LATE_KILL_MILLIS;
use flows::ports::{Hint, HintReason, Outcomes, Subject};
use rust_decimal::Decimal;
use sandbox::scenario::{Delivery, Expected, Played, Scenario, Step, play};
use sandbox::world::World;
use sandbox::world::qad::{Exact, PaymentAllocation};
use std::collections::{BTreeMap, BTreeSet};

/// Most functions that run at once.
const WORKERS_MAX: usize = 6;
/// How long the faults last, in milliseconds.
const CHAOS_MILLIS: i64 = 2_400_000;
/// How long the script may take after the faults have stopped, in milliseconds.
const CALM_MILLIS: i64 = 7_200_000;
/// Longest the rest may take after faults and script are over, in milliseconds: lease and settle window of a lost answer,
/// the longest backoff twice (of the read that was in the way, and of the write), one poll and two sweeps.
pub const REST_MILLIS_MAX: i64 = 342_000 + 2 * 375_000 + POLL_MILLIS + 2 * SWEEP_MILLIS;

/// What must have happened in days of invoices and payments.
pub const DAY_MARKS: [&str; 9] = [
    "create confirmed",
    "create unknown",
    "create not applied",
    "payment confirmed",
    "payment unknown",
    "late commit",
    "worker died",
    "worker timed out",
    "commit conflict",
];

/// What must have happened in whole lives.
pub const WHOLE_MARKS: [&str; 20] = [
    "create confirmed",
    "create unknown",
    "payment confirmed",
    "payment unknown",
    "late commit",
    "worker died",
    "worker timed out",
    "commit conflict",
    "supplier linked",
    "supplier made in Coupa",
    "supplier made in QAD",
    "supplier changed in Coupa",
    "supplier changed in QAD",
    "create of a supplier unknown",
    "supplier proposed by name",
    "lookup value made",
    "lookup value changed",
    "create of a lookup value unknown",
    "lookup plan parked",
    "more changes at once than a run may carry out",
];

/// How a life is led.
#[derive(Debug, Clone)]
pub struct Life {
    /// Seeds everything.
    pub seed: u64,
    /// What the workers believe.
    pub setup: Setup,
    /// What goes wrong.
    pub odds: Odds,
    /// How much any clock may be ahead of or behind the truth, in milliseconds.
    pub skew_millis: i64,
    /// Whether the whole story is kept.
    pub traced: bool,
    /// How long the faults last, in milliseconds.
    pub chaos_millis: i64,
    /// Whether QAD pays what is posted.
    pub pays: bool,
    /// Whether suppliers and lookup values are aligned too, while people change them.
    pub aligned: bool,
    /// These faults and no others, when there is a list.
    pub listed: Option<Vec<Happened>>,
}

impl Life {
    /// The life of a seed: a random part of the full load of faults, clocks as wrong as they may be.
    pub fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut setup = Setup {
            seed,
            warm: !seed.is_multiple_of(3),
            ..Setup::default()
        };
        setup.settings.outcomes = if rng.per_mille(500) {
            Outcomes::History
        } else {
            Outcomes::Nothing
        };
        let late_millis = setup.timing.commit_lateness_millis;
        Self {
            seed,
            odds: if rng.per_mille(300) {
                Odds::heavy(late_millis)
            } else {
                Odds::swarm(&mut rng, late_millis)
            },
            skew_millis: setup.timing.clock_skew_millis / 2,
            setup,
            traced: false,
            chaos_millis: CHAOS_MILLIS,
            pays: seed.is_multiple_of(2),
            aligned: false,
            listed: None,
        }
    }

    /// The same in a tenant of which two companies are on one connection.
    pub fn of_two_companies(seed: u64) -> Self {
        let mut life = Self::of(seed);
        life.pays = true;
        life.setup = life.setup.with_entities();
        life
    }

    /// The same with everything in it: payments, suppliers and lookup values besides the invoices.
    pub fn whole(seed: u64) -> Self {
        let mut life = Self::of(seed);
        life.pays = true;
        life.aligned = true;
        life.setup.suppliers = Some(people::supplier_policy(seed));
        life.setup.lookups = people::lookups();
        life
    }
}

/// What a life was like.
#[derive(Debug, Clone, Default)]
pub struct Lived {
    /// What was broken, or stands where it should not.
    pub violations: Vec<String>,
    /// How long it took to come to rest after the faults had stopped, in milliseconds.
    pub rest_millis: i64,
    /// Port calls.
    pub calls: u64,
    /// How often something worth seeing happened.
    pub coverage: BTreeMap<&'static str, u64>,
    /// The whole story, when it was asked for.
    pub trace: String,
    /// The last of it.
    pub recent: Vec<String>,
    /// The faults that happened.
    pub faults: Vec<Happened>,
}

struct Script<'a> {
    scenario: &'a Scenario,
    next: usize,
    from: i64,
}

/// Lives it.
pub fn live(life: &Life, day: &[Scenario]) -> Lived {
    let mut world = World::seed(day, BEGINNING);
    if life.aligned {
        people::before_the_life(&mut world, life.seed);
    }
    let mut run = Harness::new(world, &life.setup).collecting();
    {
        let mut shared = run.sim.shared();
        shared.tells = false;
        shared.trace = life.traced.then(String::new);
    }
    let mut rng = Rng::new(life.seed ^ 0x5EED);
    let mut scripts: Vec<Script<'_>> = day
        .iter()
        .map(|scenario| Script {
            scenario,
            next: 0,
            from: BEGINNING.0 + rng.millis(600_000),
        })
        .collect();
    let chaos = Chaos::new(life.odds, life.seed);
    let history = chaos.history();
    match &life.listed {
        None => run.fate(chaos),
        Some(listed) => run.fate(Again::new(listed.clone(), life.odds.hint_millis)),
    }
    let chaos_ends = BEGINNING.0 + life.chaos_millis;
    let mut driver = Driver::new(life);
    driver.drive(&mut run, &mut scripts, &mut rng, chaos_ends, false);
    run.fate(Calm);
    driver.drive(&mut run, &mut scripts, &mut rng, chaos_ends + CALM_MILLIS, true);
    let unfinished: Vec<&str> = scripts
        .iter()
        .filter(|script| script.next < script.scenario.steps.len())
        .map(|script| script.scenario.name)
        .collect();
    let rest_millis = match &mut driver.people {
        // What people then still make equal is no part of coming to rest.
        Some(people) => {
            let rest_millis = people.make_up(&mut run);
            run.heal();
            rest_millis
        }
        None => run.heal(),
    };
    // A hint that told of a receipt and got lost is made good by the slow recheck; without such a loss nothing waits for it.
    let hints_lost = life.odds.hint_lost > 0 || run.sim.shared().coverage.contains_key("dead letter");
    let mut wrong = if hints_lost {
        Vec::new()
    } else {
        standing_wrong(&run, day)
    };
    if let Some(people) = &mut driver.people {
        wrong.extend(people.at_rest(&mut run));
    }
    run.recheck();
    wrong.extend(
        standing_wrong(&run, day)
            .into_iter()
            .map(|what| format!("after a recheck, {what}")),
    );
    if !unfinished.is_empty() {
        wrong.push(format!("L1 never came to pass: {unfinished:?}"));
    }
    if rest_millis > REST_MILLIS_MAX {
        wrong.push(format!("L1 it took {rest_millis} ms to come to rest"));
    }
    let mut violations = run.violations();
    violations.extend(wrong);
    let shared = run.sim.shared();
    Lived {
        violations,
        rest_millis,
        calls: shared.calls,
        coverage: shared.coverage.clone(),
        trace: shared.trace.clone().unwrap_or_default(),
        recent: shared.recent.iter().cloned().collect(),
        faults: history.lock().unwrap().clone(),
    }
}

/// Lives them all. Nothing is broken in any of them, and each of the marks happened in one at least: lives in which it did
/// not happen prove nothing.
pub fn live_all(lives: impl IntoIterator<Item = (Life, Vec<Scenario>)>, marks: &[&str]) {
    let mut coverage: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (life, day) in lives {
        let lived = live(&life, &day);
        assert!(
            lived.violations.is_empty(),
            "seed {} with {:?}: {:#?}",
            life.seed,
            life.odds,
            lived.violations
        );
        for (what, often) in lived.coverage {
            *coverage.entry(what).or_default() += often;
        }
    }
    let never: Vec<&&str> = marks
        .iter()
        .filter(|what| !coverage.contains_key(**what))
        .collect();
    assert!(never.is_empty(), "never happened: {never:?} in {coverage:?}");
}

/// Runs timers, queue and workers.
struct Driver {
    skew_millis: i64,
    pays: bool,
    next_sweep: i64,
    next_poll: i64,
    polls: u64,
    people: Option<People>,
    taken: BTreeMap<usize, u64>,
}

impl Driver {
    fn new(life: &Life) -> Self {
        Self {
            skew_millis: life.skew_millis,
            pays: life.pays,
            polls: 0,
            people: life.aligned.then(|| People::new(life.seed)),
            next_sweep: BEGINNING.0 + SWEEP_MILLIS,
            next_poll: BEGINNING.0,
            taken: BTreeMap::new(),
        }
    }

    fn drive(
        &mut self,
        run: &mut Harness,
        scripts: &mut [Script<'_>],
        rng: &mut Rng,
        until: i64,
        stops_when_played: bool,
    ) {
        loop {
            let now = run.sim.now().0;
            let all_played = play_scripts(run, scripts, now);
            if now >= until || (stops_when_played && all_played) {
                return;
            }
            self.timers(run, rng, now);
            self.deliver(run, rng, now);
            let runnable = run.runnable();
            if runnable.is_empty() {
                run.sim.advance_to(self.next_moment(run, scripts, now).min(until));
                continue;
            }
            let chosen = runnable[rng.below(runnable.len() as u64) as usize];
            run.step(chosen);
            self.settle(run, chosen);
            run.sim.advance_to(now + rng.millis(40));
        }
    }

    fn spawn(&self, run: &mut Harness, rng: &mut Rng, job: Job, message: Option<u64>) -> usize {
        let skew = rng.millis(2 * self.skew_millis) - self.skew_millis;
        run.spawn_with(job, message, skew, rng.millis(LATE_KILL_MILLIS))
    }

    fn timers(&mut self, run: &mut Harness, rng: &mut Rng, now: i64) {
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_MILLIS;
            self.spawn(run, rng, Job::Sweep, None);
        }
        if now >= self.next_poll {
            self.next_poll = now + POLL_MILLIS;
            self.spawn(run, rng, Job::PollCoupa, None);
            self.spawn(run, rng, Job::PollReceipts, None);
            if self.pays {
                pay(run, rng);
                self.spawn(run, rng, Job::PollPayments, None);
            }
            self.polls += 1;
            if let Some(people) = &mut self.people {
                people.act(run);
                self.spawn(run, rng, Job::SyncSuppliers, None);
                if self.polls.is_multiple_of(2) {
                    self.spawn(run, rng, Job::SyncLookups, None);
                }
            }
        }
    }

    /// Gives visible messages to workers, in any order, as SQS does: hidden while they are worked on, back when the
    /// worker fails, given up after so many deliveries.
    fn deliver(&mut self, run: &mut Harness, rng: &mut Rng, now: i64) {
        while run.alive() < WORKERS_MAX {
            let (id, job) = {
                let timing = run.sim.timing;
                let mut shared = run.sim.shared();
                let visible: Vec<usize> = (0..shared.queue.len())
                    .filter(|place| shared.queue[*place].visible_at <= now)
                    .collect();
                if visible.is_empty() {
                    return;
                }
                let place = visible[rng.below(visible.len() as u64) as usize];
                if shared.queue[place].receives >= timing.queue_receives_max {
                    shared.queue.remove(place);
                    *shared.coverage.entry("dead letter").or_default() += 1;
                    continue;
                }
                let message = &mut shared.queue[place];
                message.receives += 1;
                message.visible_at = now + timing.queue_visibility_millis;
                let id = message.id;
                let Hint::V1 { subject, reason, .. } = message.hint.clone();
                (id, job_of(subject, reason))
            };
            let task = self.spawn(run, rng, job, Some(id));
            self.taken.insert(task, id);
        }
    }

    fn settle(&mut self, run: &mut Harness, task: usize) {
        if !run.tasks[task].is_over() {
            return;
        }
        let Some(id) = self.taken.remove(&task) else {
            return;
        };
        if run.tasks[task]
            .ended
            .as_ref()
            .is_some_and(crate::harness::Ended::is_success)
        {
            run.sim.shared().queue.retain(|message| message.id != id);
        }
    }

    fn next_moment(&self, run: &Harness, scripts: &[Script<'_>], now: i64) -> i64 {
        // What is visible already waits for a worker, not for time.
        let message = {
            let shared = run.sim.shared();
            let later = shared
                .queue
                .iter()
                .map(|message| message.visible_at)
                .filter(|at| *at > now);
            later.min()
        };
        let begins = scripts
            .iter()
            .filter(|script| script.from > now)
            .map(|script| script.from)
            .min();
        let moments = [
            Some(self.next_sweep),
            Some(self.next_poll),
            run.next_wake(),
            message,
            begins,
        ];
        moments.into_iter().flatten().min().unwrap_or(now).max(now + 1)
    }
}

/// QAD pays what is posted, in one payment or two, and now and then takes one back.
fn pay(run: &mut Harness, rng: &mut Rng) {
    let today = run.sim.now().date_utc();
    let mut world = run.sim.world();
    let qad = &mut world.qad;
    for payment in &mut qad.payments {
        let next = match payment.status.as_str() {
            "Initial" if rng.per_mille(500) => "Paid",
            "Paid" if rng.per_mille(60) => "Void",
            _ => continue,
        };
        payment.status = next.to_owned();
        payment.last_modified = today;
    }
    let mut number = qad.payments.len() as u64 + 500;
    let (mut more, mut settled) = (Vec::new(), Vec::<(String, String, Decimal)>::new());
    for document in &qad.invoices {
        let reference = &document.record.supplier_invoice_reference;
        let entity = &document.record.entity_code;
        let paid = qad
            .payments
            .iter()
            .any(|payment| payment.invoice_reference == *reference && payment.owner() == entity);
        if paid || rng.per_mille(600) {
            continue;
        }
        let total = document.record.total_amount.0.abs();
        let how = How::of(number);
        let withheld = if how == How::Withheld {
            total * Decimal::new(2, 1)
        } else {
            Decimal::ZERO
        };
        let written_off = if how == How::WrittenOff {
            Decimal::new(2, 2)
        } else {
            Decimal::ZERO
        };
        let total = total - withheld - written_off;
        if !written_off.is_zero() {
            let mut amount = written_off;
            amount.set_sign_negative(document.record.total_amount.0.is_sign_negative());
            settled.push((entity.clone(), reference.clone(), amount));
        }
        let first = if rng.per_mille(500) {
            total
        } else {
            total * Decimal::new(6, 1)
        };
        for (allocation, amount) in (1..).zip([first, total - first]) {
            if amount.is_zero() {
                continue;
            }
            number += 1;
            more.push(PaymentAllocation {
                year: 2026,
                instrument: "ACH".to_owned(),
                number,
                allocation,
                reference: format!("CHK-{number}"),
                supplier: document.record.supplier_code.clone(),
                status: "Initial".to_owned(),
                currency: if how == How::Foreign {
                    "JPY".to_owned()
                } else {
                    document.record.currency_code.clone()
                },
                payment_date: today,
                last_modified: today,
                invoice_reference: reference.clone(),
                invoice_type: document.record.invoice_type.clone(),
                allocated: Exact(if how == How::Foreign {
                    amount * Decimal::ONE_HUNDRED
                } else {
                    amount
                }),
                discount: Exact::default(),
                invoice_entity: Some(entity.clone()),
                entity: (how == How::Central).then(|| "30FRCO".to_owned()),
                invoice_allocated: (how == How::Foreign).then_some(Exact(amount)),
                settles: None,
                withheld: Exact(if allocation == 1 { withheld } else { Decimal::ZERO }),
                invoice_voucher: None,
            });
        }
    }
    qad.payments.extend(more);
    for (entity, reference, amount) in settled {
        qad.adjust_invoice(&entity, &reference, amount, today);
    }
}

/// How QAD settles a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Plainly,
    /// A fifth of it is tax that is withheld.
    Withheld,
    /// Two cents of it are written off.
    WrittenOff,
    /// Paid in another currency.
    Foreign,
    /// Another entity pays it.
    Central,
}

impl How {
    fn of(number: u64) -> Self {
        match number % 6 {
            1 => Self::Withheld,
            2 => Self::WrittenOff,
            3 => Self::Foreign,
            4 => Self::Central,
            _ => Self::Plainly,
        }
    }
}

/// Plays every step whose time has come. True when all are played.
fn play_scripts(run: &mut Harness, scripts: &mut [Script<'_>], now: i64) -> bool {
    let mut all = true;
    for script in scripts {
        while script.from <= now && script.next < script.scenario.steps.len() {
            let step = &script.scenario.steps[script.next];
            if !play_step(run, step) {
                break;
            }
            script.next += 1;
        }
        all &= script.next >= script.scenario.steps.len();
    }
    all
}

/// Coupa's event about something, as often as fate lets it arrive.
fn send_event(run: &Harness, subject: Subject) {
    let hint = Hint::V1 {
        connection: "example".parse().unwrap(),
        subject,
        reason: HintReason::Webhook,
        trace: "simulated".to_owned(),
    };
    let (arriving, latest) = run.sim.shared().fate.hint();
    for _ in 0..arriving {
        let after = run.sim.shared().chance.millis(latest);
        run.sim.enqueue(hint.clone(), after);
    }
}

/// False when the step still has to wait.
fn play_step(run: &mut Harness, step: &Step) -> bool {
    match step {
        Step::SendEvent {
            invoice, delivery, ..
        } => {
            let copies = match delivery {
                Delivery::Genuine => 1,
                Delivery::Repeated(times) => *times,
                Delivery::Forged | Delivery::Garbage => 0,
            };
            for _ in 0..copies {
                send_event(run, Subject::Invoice(InvoiceId(*invoice)));
            }
            true
        }
        Step::SendOrderEvent(order) => {
            let id = run.sim.world().coupa.orders[&order.number]["id"]
                .as_u64()
                .unwrap();
            send_event(run, Subject::PurchaseOrder(id));
            true
        }
        Step::WaitForState { invoice, state } => {
            run.sim.shared().watch.state_word(InvoiceId(*invoice)) == Some(*state)
        }
        Step::WaitForSupplier(code) => sandbox::scenario::is_in_coupa(&run.sim.world(), code),
        other => {
            let now: Timestamp = run.sim.now();
            let mut faults = run.sim.ports.faults.lock().unwrap();
            let played = play(other, &mut run.sim.world(), &mut faults, now).unwrap();
            assert_eq!(played, Played::Done);
            true
        }
    }
}

/// Every invoice that does not stand where its data say.
fn standing_wrong(run: &Harness, day: &[Scenario]) -> Vec<String> {
    let mut wrong = Vec::new();
    for scenario in day {
        for expected in &scenario.expected {
            if let Some(what) = differs(run, expected) {
                wrong.push(format!("{}: {what}", scenario.name));
            }
        }
    }
    wrong
}

fn differs(run: &Harness, expected: &Expected) -> Option<String> {
    let id = InvoiceId(expected.invoice);
    let (state, codes) = run.standing(id);
    let documents = run.documents(id);
    let exported = run.exported(id);
    let codes_fit = expected.codes.as_ref().is_none_or(|wanted| {
        let wanted: BTreeSet<&str> = wanted.iter().copied().collect();
        codes.iter().map(String::as_str).collect::<BTreeSet<_>>() == wanted
    });
    let fits = state == expected.state
        && codes_fit
        && documents == expected.qad_documents
        && exported == expected.exported;
    (!fits).then(|| {
        format!("invoice {id} is {state} {codes:?} with {documents} documents, exported {exported}; expected {expected:?}")
    })
}
