//! A tiny executor for the simulation: tasks are futures that only the gate can suspend, one is polled at a time, and
//! who goes next is data.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that overflows, or misses what it put there, must fail loudly"
)]

use crate::gate::{Calm, Fate, Gate, Mark, Sim, is_twins, ready, twin};
use crate::invariants::{bills, check_at_rest, check_world, record_of, records};
use crate::memory_register::MemoryStore;
use crate::sync_watch::{supplier_records, value_records, waiting_plan};
use domain::documents::Invoice;
use domain::effect::Effect;
use domain::entities::{Condition, EntityRule};
use domain::ids::{ConnectionId, InvoiceId, QadTenant};
use domain::lifecycle::{InvoiceRecord, State};
use domain::lookups::{LookupCode, LookupValueRecord};
use domain::matching::ExceptionCode;
use domain::policy::{MatchPolicy, PostingDate};
use domain::suppliers::{SupplierPolicy, SupplierRecord};
use domain::time::Timestamp;
use domain::timing::{LATE_KILL_MILLIS, Timing};
use flows::coupa_orders::OrderReads;
use flows::delivery::{ConnectionReads, FirstLook, Reads, Seat};
use flows::hinted::Hinted;
use flows::match_invoice::{self, Entity, InvoiceSettings, Rest};
use flows::neighbours::Home;
use flows::poll_coupa::PollError;
use flows::ports::{Collection, Hint, HintReason, Outcomes, Register, Subject};
use flows::store::{Context, FlowError};
use flows::sync_lookups::LookupSync;
use flows::watermark::Scope;
use flows::write_payment::{self, PaymentSettings};
use flows::{
    order_event, owner, plans, poll_coupa, poll_orders, poll_payments, poll_receipts, reconcile,
    supplier_event, sweep, sync_lookups, sync_suppliers,
};
use futures_util::future::join;
use rust_decimal::Decimal;
use sandbox::scenario::{CHART_FIELD, CHARTS, CoupaOrderChange, company_of, policy};
use sandbox::world::World;
use sandbox::world::qad::ENTITIES;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// When every run begins.
pub const BEGINNING: Timestamp = Timestamp(1_774_000_000_000);
/// How often an invoice that waits is looked at although nothing happened, in milliseconds.
pub const RECHECK_MILLIS: i64 = 3_600_000;
/// How often the orders of what waits are read again, in milliseconds.
pub const ORDER_RECHECK_MILLIS: i64 = 3_600_000;
/// How often the sweep runs, in milliseconds.
pub const SWEEP_MILLIS: i64 = 60_000;
/// How often the polls run, in milliseconds.
pub const POLL_MILLIS: i64 = 300_000;

/// The QAD of every run.
pub fn tenant() -> QadTenant {
    QadTenant::at("https://qad.example.com/erp")
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// `match_invoice` for one invoice.
    Match(InvoiceId, HintReason),
    /// `poll_coupa`.
    PollCoupa,
    /// `write_payment` for one bill, or for payments that nobody owned.
    Pay(Collection, String),
    /// `poll_receipts`.
    PollReceipts,
    /// `poll_orders`.
    PollOrders,
    /// `poll_payments`.
    PollPayments,
    /// `reconcile`.
    Reconcile,
    /// `sweep`.
    Sweep,
    /// `sync_suppliers`.
    SyncSuppliers,
    /// `sync_lookups`.
    SyncLookups,
    /// Somebody allows the parked plan of a lookup, or of the suppliers, by its hash.
    AllowPlan(Option<String>, String),
    /// An event about a supplier of Coupa.
    SupplierEvent(u64),
    /// An event about an order, by Coupa's id of it.
    OrderEvent(u64),
    /// Somebody gives an order in Coupa a status, and Coupa sends an event about it.
    SetOrder(&'static str, &'static str),
    /// `match_invoice` for two invoices of one delivery.
    MatchBoth(InvoiceId, InvoiceId),
    /// Somebody gives a supplier of Coupa its number, and Coupa sends an event about it.
    NumberSupplier(u64, &'static str),
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The flow came to its end.
    Match(Box<Result<Rest, FlowError>>),
    /// A poll or a sweep did, or said why not.
    Polled(Result<u64, String>),
    /// A step of the world was taken.
    Played,
}

impl Ended {
    /// True when a queue message that led to it is used up.
    pub fn is_success(&self) -> bool {
        match self {
            Self::Match(result) => result.is_ok(),
            Self::Polled(result) => result.is_ok(),
            Self::Played => true,
        }
    }
}

type Running = Pin<Box<dyn Future<Output = Ended>>>;

/// One task.
pub struct Task {
    /// What it does, for the story.
    pub what: String,
    /// The queue message it works on.
    pub message: Option<u64>,
    running: Option<Running>,
    asleep_until: Option<i64>,
    killed_at: i64,
    zombie: bool,
    /// How it ended; nothing while it runs or when it died.
    pub ended: Option<Ended>,
}

impl Task {
    /// True when it will never be polled again.
    pub fn is_over(&self) -> bool {
        self.running.is_none()
    }
}

/// A run: the simulation and its tasks.
pub struct Harness {
    /// The simulation.
    pub sim: Arc<Sim>,
    /// All tasks, the finished ones too.
    pub tasks: Vec<Task>,
    /// Those that are not over.
    alive: BTreeSet<usize>,
    settings: Arc<Setup>,
    instance: Arc<Instance>,
    connection: ConnectionId,
    panicking: bool,
    /// When all faults had stopped, in milliseconds.
    healed_at: Option<i64>,
}

/// What the instances of the scheduled functions remember between their runs.
#[derive(Debug, Default)]
pub struct Instance {
    swept: Hinted,
    listed: Hinted,
}

/// How a run is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Seeds tokens and jitter.
    pub seed: u64,
    /// What the workers believe about time.
    pub timing: Timing,
    /// What they do.
    pub settings: InvoiceSettings,
    /// The connection's entities; none where everything is the first one's.
    pub entities: Vec<(EntityRule, InvoiceSettings)>,
    /// How suppliers are aligned; not at all without it.
    pub suppliers: Option<SupplierPolicy>,
    /// Which lookups show which lists.
    pub lookups: Vec<LookupSync>,
    /// The lookup of Coupa's that holds the owner mark; none where nobody looks for one.
    pub owner_lookup: Option<String>,
    /// Whether instances live on from run to run and remember what they have queued; else each run is a cold start.
    pub warm: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            timing: crate::timing(),
            settings: InvoiceSettings {
                policy: policy().unwrap(),
                recheck_millis: RECHECK_MILLIS,
                outcomes: Outcomes::Nothing,
                adopt_equal_documents: true,
                second_person: domain::instruction::SecondPerson::default(),
                zone: domain::time::Zone::default(),
            },
            entities: Vec::new(),
            suppliers: None,
            lookups: Vec::new(),
            owner_lookup: None,
            warm: false,
        }
    }
}

impl Setup {
    /// The same with all of the tenant's entities, each told by the invoice's chart of accounts.
    pub fn with_entities(mut self) -> Self {
        let entities = ENTITIES.iter().zip(CHARTS);
        self.entities = entities
            .map(|((entity, domain), chart)| {
                let rule = EntityRule {
                    code: entity.parse().unwrap(),
                    when: vec![Condition {
                        field: CHART_FIELD.to_owned(),
                        is: vec![chart.to_owned()],
                    }],
                };
                let mut settings = self.settings.clone();
                settings.policy.entity = rule.code.clone();
                settings.policy.domain = domain.parse().unwrap();
                (rule, settings)
            })
            .collect();
        self
    }

    /// The scope of the domain in which the orders of an invoice are.
    fn domain_of(&self, record: &InvoiceRecord) -> String {
        let mut entities = self.entities.iter();
        let entity = entities.find(|(rule, _)| Some(&rule.code) == record.entity.as_ref());
        entity.map_or_else(String::new, |(_, settings)| settings.policy.domain.folded())
    }

    /// QAD as each entity sees it, and the scope of what is polled there. In the simulated tenant each entity has a domain of
    /// its own; the scope is named by either.
    fn views(&self, gate: &Gate, name: impl Fn(&MatchPolicy) -> String) -> Vec<(Scope, Gate)> {
        if self.entities.is_empty() {
            return vec![(Scope::Whole, gate.clone())];
        }
        let entities = self.entities.iter().enumerate();
        entities
            .map(|(index, (_, settings))| {
                let code = name(&settings.policy);
                let first = index == 0;
                (Scope::Part { code, first }, gate.within(&settings.policy))
            })
            .collect()
    }
}

impl Harness {
    /// A run over a world.
    pub fn new(world: World, setup: &Setup) -> Self {
        Self::over(&MemoryStore::default(), world, setup)
    }

    /// A run over a world, with what is stored already.
    pub fn over(store: &MemoryStore, world: World, setup: &Setup) -> Self {
        let connection: ConnectionId = "example".parse().unwrap();
        let register = Arc::new(store.register(&connection));
        let sim = Sim::new(register, world, setup.timing, BEGINNING, setup.seed);
        let policy = &setup.settings.policy;
        sim.shared().watch.posts_after_receipts = policy.posting_date == PostingDate::Latest;
        Self {
            sim,
            tasks: Vec::new(),
            alive: BTreeSet::new(),
            settings: Arc::new(setup.clone()),
            instance: Arc::default(),
            connection,
            panicking: true,
            healed_at: None,
        }
    }

    /// Another installation, with a register and chance of its own, on the very systems of this one. The checker of each knows
    /// the register of its own alone, so what breaks is collected.
    pub fn beside(&self, setup: &Setup) -> Self {
        let register = Arc::new(MemoryStore::default().register(&self.connection));
        Self {
            sim: self.sim.beside(register, setup.seed),
            tasks: Vec::new(),
            alive: BTreeSet::new(),
            settings: Arc::new(setup.clone()),
            instance: Arc::default(),
            connection: self.connection.clone(),
            panicking: false,
            healed_at: None,
        }
    }

    /// The same run, telling its story or not.
    pub fn telling(self, tells: bool) -> Self {
        self.sim.shared().tells = tells;
        self
    }

    /// Lets a broken invariant be collected instead of failing the test: for tests that take a guard away.
    pub fn collecting(mut self) -> Self {
        self.panicking = false;
        self
    }

    /// How the run was set up.
    pub fn setup(&self) -> &Setup {
        &self.settings
    }

    /// Sets what goes wrong from now on.
    pub fn fate(&self, fate: impl Fate + 'static) {
        self.sim.shared().fate = Box::new(fate);
    }

    /// What was broken so far.
    pub fn violations(&self) -> Vec<String> {
        self.sim.shared().watch.violations.clone()
    }

    /// Starts a task with a true clock that lives as long as a function may.
    pub fn spawn(&mut self, job: Job) -> usize {
        self.spawn_with(job, None, 0, 0)
    }

    /// Starts a task: on which message, how wrong its clock is, how much later than its timeout it is ended.
    pub fn spawn_with(&mut self, job: Job, message: Option<u64>, skew: i64, late_kill: i64) -> usize {
        let task = self.tasks.len();
        let start = self.sim.now();
        let killed_at = start.0 + self.sim.timing.function_millis + late_kill.min(LATE_KILL_MILLIS);
        let (connection, register) = match job {
            Job::Match(id, _) if is_twins(id) => (twin(), Arc::from(self.sim.register.neighbour(&twin()))),
            _ => (self.connection.clone(), Arc::clone(&self.sim.register)),
        };
        let gate = Gate {
            sim: self.sim.clone(),
            register,
            task,
            skew,
            qad: self.sim.ports.clone(),
        };
        self.sim
            .tell(|| format!("task {task} is {job:?} with its clock {skew} ms ahead"));
        let what = format!("{job:?}");
        if matches!(job, Job::SyncSuppliers | Job::SyncLookups) {
            self.sim.shared().watch.syncs.active = true;
        }
        let instance = if self.settings.warm {
            Arc::clone(&self.instance)
        } else {
            Arc::default()
        };
        let running = invocation(gate, job, self.settings.clone(), instance, connection);
        self.tasks.push(Task {
            what,
            message,
            running: Some(Box::pin(running)),
            asleep_until: None,
            killed_at,
            zombie: false,
            ended: None,
        });
        self.alive.insert(task);
        task
    }

    /// Starts a task that changes the world in one step.
    pub fn spawn_step(&mut self, what: &str, step: impl FnOnce(&mut World, Timestamp) + 'static) -> usize {
        let sim = self.sim.clone();
        let running = async move {
            sim.tell(|| "a step of the world".to_owned());
            let now = sim.now();
            step(&mut sim.world(), now);
            Ended::Played
        };
        self.tasks.push(Task {
            what: what.to_owned(),
            message: None,
            running: Some(Box::pin(running)),
            asleep_until: None,
            killed_at: i64::MAX,
            zombie: true,
            ended: None,
        });
        self.alive.insert(self.tasks.len() - 1);
        self.tasks.len() - 1
    }

    /// The tasks that can be polled now.
    pub fn runnable(&self) -> Vec<usize> {
        let now = self.sim.now().0;
        self.alive
            .iter()
            .copied()
            .filter(|index| self.tasks[*index].asleep_until.is_none_or(|until| until <= now))
            .collect()
    }

    /// The tasks that sleep now.
    pub fn asleep(&self) -> Vec<usize> {
        let now = self.sim.now().0;
        let sleeps = |index: &usize| self.tasks[*index].asleep_until.is_some_and(|until| until > now);
        self.alive.iter().copied().filter(sleeps).collect()
    }

    /// Lets time pass until a task wakes, if it sleeps.
    pub fn wake(&self, index: usize) {
        if let Some(until) = self.tasks[index].asleep_until {
            self.sim.advance_to(until);
        }
    }

    /// The instant at which the next sleeping task wakes.
    pub fn next_wake(&self) -> Option<i64> {
        self.alive
            .iter()
            .filter_map(|index| self.tasks[*index].asleep_until)
            .min()
    }

    /// Polls one task once, and checks what must hold.
    pub fn step(&mut self, index: usize) {
        let now = self.sim.now().0;
        let task = &mut self.tasks[index];
        task.asleep_until = None;
        if now > task.killed_at && !task.zombie {
            task.running = None;
            self.alive.remove(&index);
            self.sim.tell(|| format!("task {index} is ended by the platform"));
            self.sim.saw("worker timed out");
            return;
        }
        let Some(running) = task.running.as_mut() else {
            return;
        };
        let polled = running
            .as_mut()
            .poll(&mut std::task::Context::from_waker(Waker::noop()));
        let mark = self.sim.shared().marks.remove(&index);
        match (polled, mark) {
            (Poll::Ready(ended), _) => {
                task.running = None;
                if matches!(&ended, Ended::Match(result) if matches!(**result, Err(FlowError::Broken(_)))) {
                    self.sim.violate(|| format!("a defect says of itself: {ended:?}"));
                }
                self.sim
                    .tell(|| format!("task {index} ends: {}", words_of(&ended)));
                task.ended = Some(ended);
            }
            (Poll::Pending, Some(Mark::Crashed)) => {
                task.running = None;
                self.sim.tell(|| format!("task {index} dies"));
                self.sim.saw("worker died");
            }
            (Poll::Pending, Some(Mark::Asleep { until, zombie })) => {
                task.asleep_until = Some(until);
                task.zombie |= zombie;
            }
            (Poll::Pending, Some(Mark::Sending { until })) => {
                task.asleep_until = Some(until);
                task.zombie = false;
            }
            (Poll::Pending, None) => {}
        }
        if task.running.is_none() {
            self.alive.remove(&index);
        }
        check_world(&self.sim);
        self.fail_if_broken();
    }

    /// How many tasks are not over.
    pub fn alive(&self) -> usize {
        self.alive.len()
    }

    fn fail_if_broken(&self) {
        if !self.panicking {
            return;
        }
        let shared = self.sim.shared();
        if !shared.watch.violations.is_empty() {
            let story: Vec<&str> = shared.recent.iter().map(String::as_str).collect();
            panic!("{:#?}\n{}", shared.watch.violations, story.join("\n"));
        }
    }

    /// Runs all tasks to their end, one after the other, letting time pass when all are asleep.
    pub fn run_all(&mut self) {
        loop {
            if let Some(first) = self.runnable().first() {
                self.step(*first);
            } else if let Some(wake) = self.next_wake() {
                self.sim.advance_to(wake);
            } else {
                return;
            }
        }
    }

    /// Runs one job to its end.
    pub fn run(&mut self, job: Job) -> Option<Ended> {
        let task = self.spawn(job);
        self.run_all();
        self.tasks[task].ended.clone()
    }

    /// Takes every message from the queue and runs it once. Messages whose run fails are lost: nothing may depend on
    /// the queue.
    pub fn deliver_all(&mut self) -> usize {
        let mut delivered = 0;
        loop {
            let messages = std::mem::take(&mut self.sim.shared().queue);
            if messages.is_empty() {
                return delivered;
            }
            for message in messages {
                delivered += 1;
                let Hint::V1 { subject, reason, .. } = message.hint;
                self.run(job_of(subject, reason));
            }
            self.forget_ended();
        }
    }

    /// Aligns suppliers and lookups once, when that is set up; true when there was nothing to do.
    pub fn align_all(&mut self) -> bool {
        let done = |run: &Self| {
            let shared = run.sim.shared();
            (shared.watch.syncs.writes(), shared.watch.syncs.commits())
        };
        let before = done(self);
        if self.settings.suppliers.is_some() {
            self.run(Job::SyncSuppliers);
        }
        if !self.settings.lookups.is_empty() {
            self.run(Job::SyncLookups);
        }
        // What was begun and has not left waits with the plan that waits for a person.
        let open = self.settings.suppliers.is_some()
            && waiting_plan(&self.sim, None).is_none()
            && supplier_records(&self.sim).iter().any(SupplierRecord::is_open)
            || !self.settings.lookups.is_empty()
                && value_records(&self.sim).iter().any(LookupValueRecord::is_open);
        done(self) == before && !open
    }

    fn forget_ended(&mut self) {
        // Task numbers are places in the list, so only what they hold is given back.
        for task in &mut self.tasks {
            if task.is_over() {
                task.what = String::new();
            }
        }
    }

    /// All faults stop; sweeps and polls run as in production until nothing moves. The answer is how long that took,
    /// in milliseconds.
    pub fn heal(&mut self) -> i64 {
        self.fate(Calm);
        self.sim.shared().doubled = false;
        self.sim.ports.faults.lock().unwrap().clear();
        let began = self.sim.now().0;
        self.healed_at = Some(began);
        self.run_all();
        let mut next_poll = began;
        for _ in 0..60 {
            let at = self.sim.now().0;
            self.run(Job::Sweep);
            self.deliver_all();
            if at >= next_poll || !self.moves() {
                next_poll = at + POLL_MILLIS;
                self.run(Job::PollCoupa);
                self.run(Job::PollReceipts);
                self.run(Job::PollPayments);
                let aligned = self.align_all();
                if self.deliver_all() == 0 && !self.moves() && aligned {
                    check_at_rest(&self.sim);
                    self.fail_if_broken();
                    return at - began;
                }
            }
            self.advance_to_next_minute(next_poll);
        }
        if !self.panicking {
            let states = self.states();
            self.sim
                .violate(|| format!("L1 it does not come to rest: {states:?}"));
            return self.sim.now().0 - began;
        }
        panic!("it does not come to rest: {:#?}\n{}", self.states(), self.story());
    }

    /// Lets time pass to the next sweep that has something to do: minutes in which nothing is due are left out.
    fn advance_to_next_minute(&self, next_poll: i64) {
        let now = self.sim.now().0;
        let far = Timestamp(i64::MAX);
        let mut due = ready(self.sim.register.due(far, 1)).unwrap();
        due.extend(ready(self.sim.twin.due(far, 1)).unwrap());
        let next = due.iter().map(|due| due.due.0).fold(next_poll, i64::min);
        let minutes = ((next - now + SWEEP_MILLIS - 1) / SWEEP_MILLIS).max(1);
        self.sim.advance_to(now + minutes * SWEEP_MILLIS);
    }

    /// Sweeps and polls as in production, still under the run's fate, until the invoices rest or ten minutes of it
    /// have passed.
    pub fn heal_under_fate(&mut self) {
        for _ in 0..10 {
            self.run(Job::Sweep);
            self.run(Job::PollCoupa);
            self.deliver_all();
            if !records(&self.sim).is_empty() && !self.moves() {
                return;
            }
            self.sim.advance_to(self.sim.now().0 + SWEEP_MILLIS);
        }
    }

    /// Lets the slow recheck of everything that waits come, once, and heals again.
    pub fn recheck(&mut self) {
        self.sim.advance_to(self.sim.now().0 + RECHECK_MILLIS);
        self.heal();
    }

    /// True while an effect is open, an invoice is on its way, or a late write has not appeared.
    fn moves(&self) -> bool {
        let open = |effect: &Option<Effect>| effect.as_ref().is_some_and(|effect| !effect.is_finished());
        let late = self.sim.world().late_writes() > 0;
        late || self.pays()
            || records(&self.sim).iter().any(|record| match &record.state {
                State::Approved | State::Posted { .. } | State::Voided { exported: false } => true,
                State::Received { coupa_status } => {
                    coupa_status.is_none() || record.delay.is_some() || open(&record.note)
                }
                State::Exported { .. } => record.look_pending || open(&record.export) || open(&record.note),
                // Its turn comes when the other one has settled.
                State::Held { exceptions, .. }
                    if exceptions
                        .iter()
                        .any(|exception| exception.code == ExceptionCode::ReceiverLineInFlight) =>
                {
                    true
                }
                State::Held { .. } | State::Parked { .. } => record.delay.is_some() || open(&record.note),
                State::Voided { exported: true } => record.look_pending || open(&record.note),
                State::Rejected { .. } => open(&record.note),
            })
    }

    /// True while a payment is on its way into Coupa.
    fn pays(&self) -> bool {
        bills(&self.sim).iter().any(|bill| {
            let paying = self
                .record(bill.invoice)
                .is_some_and(|record| matches!(record.state, State::Posted { .. } | State::Exported { .. }));
            // Parked and looked at since the faults have stopped: only a person, or QAD, moves it.
            let rests = bill.look_again.is_none()
                && bill.entry.as_ref().is_none_or(Effect::is_finished)
                && bill.recheck.is_some_and(|at| {
                    let looked_at = at.0 - PaymentSettings::default().recheck_millis;
                    self.healed_at.is_some_and(|healed| looked_at > healed)
                });
            paying && !rests && bill.due(&self.sim.timing).is_some()
        })
    }

    /// Every invoice's state, for people, and what is open of suppliers and values.
    pub fn states(&self) -> Vec<String> {
        let suppliers = supplier_records(&self.sim)
            .into_iter()
            .filter(SupplierRecord::is_open);
        let values = value_records(&self.sim)
            .into_iter()
            .filter(LookupValueRecord::is_open);
        let open = suppliers
            .map(|record| format!("a write of supplier {} is open", record.id))
            .chain(values.map(|record| {
                format!(
                    "a write of value {} is open",
                    record.path.last().map_or("", LookupCode::as_str)
                )
            }));
        records(&self.sim)
            .iter()
            .map(|record| {
                format!(
                    "{} {} {:?} delay {:?} due {:?}",
                    record.id,
                    record.state.word(),
                    record.state.codes(),
                    record.delay.as_ref().map(|problem| problem.code.clone()),
                    record.due(&self.sim.timing)
                )
            })
            .chain(open)
            .chain(bills(&self.sim).iter().filter_map(|bill| {
                let due = bill.due(&self.sim.timing)?;
                let parked = bill.parked.as_ref().map(|problem| &problem.code);
                Some(format!("bill {} parked {parked:?} due {due}", bill.invoice))
            }))
            .collect()
    }

    /// The record of an invoice.
    pub fn record(&self, id: InvoiceId) -> Option<InvoiceRecord> {
        record_of(&self.sim, id).map(|(_, record)| record)
    }

    /// The state's word, and its codes.
    pub fn standing(&self, id: InvoiceId) -> (String, Vec<String>) {
        self.record(id).map_or_else(
            || ("unknown".to_owned(), Vec::new()),
            |record| (record.state.word().to_owned(), record.state.codes()),
        )
    }

    /// Documents in QAD with the reference of this Coupa invoice, in its company.
    pub fn documents(&self, id: InvoiceId) -> usize {
        self.totals(id).len()
    }

    /// What the document in QAD is over, where there is exactly one.
    fn only_total(&self, id: InvoiceId) -> Option<Decimal> {
        match self.totals(id).as_slice() {
            [total] => Some(*total),
            _ => None,
        }
    }

    fn totals(&self, id: InvoiceId) -> Vec<Decimal> {
        let world = self.sim.world();
        let Some(invoice) = world.coupa.invoices.get(&id.0) else {
            return Vec::new();
        };
        let reference = domain::reference::fold(&invoice.number);
        let (entity, _) = company_of(invoice);
        let documents = world.qad.invoices.iter();
        documents
            .map(|document| &document.record)
            .filter(|record| record.entity_code.eq_ignore_ascii_case(entity))
            .filter(|record| domain::reference::fold(&record.supplier_invoice_reference) == reference)
            .map(|record| record.total_amount.0)
            .collect()
    }

    /// Coupa's exported flag.
    pub fn exported(&self, id: InvoiceId) -> bool {
        self.sim
            .world()
            .coupa
            .invoices
            .get(&id.0)
            .is_some_and(|invoice| invoice.exported)
    }

    /// The audit trail as the events' names.
    pub fn trail(&self, id: InvoiceId) -> Vec<String> {
        let entries = ready(
            self.sim
                .register_of(id)
                .audit(&flows::store::invoice_audit_name(id)),
        )
        .unwrap();
        entries
            .iter()
            .flat_map(|entry| serde_json::from_str::<Vec<domain::lifecycle::Event>>(&entry.events).unwrap())
            .map(|event| match &event {
                domain::lifecycle::Event::Creating { step, .. }
                | domain::lifecycle::Event::Exporting { step, .. }
                | domain::lifecycle::Event::Noting { step, .. } => {
                    format!("{} {}", event.name(), step.name())
                }
                _ => event.name().to_owned(),
            })
            .collect()
    }

    /// Fails unless the invoice stands so, with so many documents in QAD.
    pub fn assert_stands(&self, id: InvoiceId, state: &str, documents: usize) {
        let standing = self.standing(id);
        assert!(
            standing.0 == state && self.documents(id) == documents,
            "invoice {id} is {standing:?} with {} documents, expected {state} with {documents}\n{}",
            self.documents(id),
            self.story()
        );
        // What is owed of it is what the document in QAD is over, however that came there.
        if let ("posted" | "exported", Some(total)) = (state, self.only_total(id)) {
            let known = self.record(id).and_then(|record| record.posted_total);
            assert_eq!(known, Some(total), "invoice {id}\n{}", self.story());
        }
    }

    /// The most recent calls.
    pub fn story(&self) -> String {
        let shared = self.sim.shared();
        let lines: Vec<&str> = shared.recent.iter().map(String::as_str).collect();
        lines.join("\n")
    }
}

fn words_of(ended: &Ended) -> String {
    match ended {
        Ended::Match(result) => match &**result {
            Ok(rest) => rest.word().to_owned(),
            Err(error) => format!("error {}", error.problem().code),
        },
        Ended::Polled(result) => format!("{result:?}"),
        Ended::Played => "played".to_owned(),
    }
}

/// What a message asks for.
pub fn job_of(subject: Subject, reason: HintReason) -> Job {
    match subject {
        Subject::Invoice(id) => Job::Match(id, reason),
        Subject::Entry { collection, id } => Job::Pay(collection, id),
        Subject::Supplier(id) => Job::SupplierEvent(id),
        Subject::PurchaseOrder(id) => Job::OrderEvent(id),
        other => panic!("the simulated functions do not take {other:?}"),
    }
}

/// One invocation of a function: what its main does between the event and the answer.
async fn invocation(
    gate: Gate,
    job: Job,
    setup: Arc<Setup>,
    instance: Arc<Instance>,
    connection: ConnectionId,
) -> Ended {
    let timing = gate.sim.timing;
    let start = flows::ports::Clock::now(&gate);
    let deadline = start.plus_millis(timing.function_millis - timing.stop_margin_millis);
    let context = Context {
        register: &gate,
        clock: &gate,
        chance: &gate,
        timing: &timing,
        deadline,
    };
    if let Some(lookup) = &setup.owner_lookup {
        // As the wiring does it before a connection's flow is run.
        let deps = owner::Deps {
            context,
            connection: &connection,
            coupa: &gate,
            lookup: Some(lookup),
        };
        if let Err(error) = owner::watch(&deps).await {
            return Ended::Polled(Err(error.problem().code));
        }
    }
    match job {
        Job::Match(..) | Job::MatchBoth(..) => {
            let home = Home {
                connection,
                tenant: tenant(),
            };
            let views: Vec<Gate> = setup
                .entities
                .iter()
                .map(|(_, settings)| gate.within(&settings.policy))
                .collect();
            let entities: Vec<Entity<'_>> = setup
                .entities
                .iter()
                .zip(&views)
                .map(|((rule, settings), qad)| Entity { rule, qad, settings })
                .collect();
            let deps = match_invoice::Deps {
                context,
                home: &home,
                coupa: &gate,
                qad: &gate,
                index: gate.sim.index.as_ref(),
                reads: &Reads::default(),
                settings: &setup.settings,
                entities: &entities,
            };
            let ended = match job {
                Job::Match(id, reason) => Box::pin(match_invoice::run(&deps, id, reason)).await,
                Job::MatchBoth(one, other) => {
                    let delivery = ConnectionReads::default();
                    let seats = [Seat::at(&delivery.invoices), Seat::at(&delivery.invoices)];
                    let run = async |id, seat: Seat<Invoice>| {
                        let reads = Reads {
                            first_look: FirstLook::of(&seat, Some(&gate)),
                            orders: OrderReads::of(&delivery.orders, Some(&gate)),
                        };
                        let deps = match_invoice::Deps {
                            reads: &reads,
                            ..deps
                        };
                        Box::pin(match_invoice::run(&deps, id, HintReason::Webhook)).await
                    };
                    let [first, second] = seats;
                    let (one, other) = join(run(one, first), run(other, second)).await;
                    one.and(other)
                }
                _ => unreachable!(),
            };
            Ended::Match(Box::new(ended))
        }
        Job::PollCoupa => {
            let deps = poll_coupa::Deps {
                connection: &connection,
                scope: "",
                coupa: &gate,
                register: &gate,
                chance: &gate,
                queue: &gate,
                hinted: &instance.listed,
                timing: &timing,
                clock: &gate,
                deadline,
                trace: "simulated",
            };
            let polled = poll_coupa::run(&deps).await;
            Ended::Polled(
                polled
                    .map(|polled| polled.queued)
                    .map_err(|error| error.problem().code),
            )
        }
        Job::PollReceipts => {
            let mut woken = Ok(0);
            for (scope, qad) in setup.views(&gate, |policy| policy.domain.folded()) {
                let deps = poll_receipts::Deps {
                    context,
                    connection: &connection,
                    scope: scope.word(),
                    qad: &qad,
                    queue: &gate,
                    trace: "simulated",
                };
                let polled = poll_receipts::run(&deps).await;
                woken = added(woken, polled.map(|polled| polled.woken));
                if woken.is_ok() && gate.sim.has_twin() {
                    let register = gate.neighbour(&twin());
                    let deps = poll_receipts::Deps {
                        context: Context {
                            register: register.as_ref(),
                            ..context
                        },
                        connection: &twin(),
                        ..deps
                    };
                    let polled = poll_receipts::run(&deps).await;
                    woken = added(woken, polled.map(|polled| polled.woken));
                }
            }
            Ended::Polled(woken)
        }
        Job::PollOrders => {
            let mut woken = Ok(0);
            for (scope, qad) in setup.views(&gate, |policy| policy.domain.folded()) {
                let deps = poll_orders::Deps {
                    context,
                    index: gate.sim.index.as_ref(),
                    connection: &connection,
                    scope: scope.word(),
                    is_in_scope: &|record| setup.domain_of(record) == scope.word(),
                    qad: &qad,
                    queue: &gate,
                    every_millis: ORDER_RECHECK_MILLIS,
                    trace: "simulated",
                };
                let polled = poll_orders::run(&deps).await;
                woken = added(woken, polled.map(|polled| polled.woken));
            }
            Ended::Polled(woken)
        }
        Job::Pay(collection, id) => {
            let settings = PaymentSettings::default();
            let deps = write_payment::Deps {
                context,
                coupa: &gate,
                first_look: &FirstLook::default(),
                settings: &settings,
            };
            let paid = Box::pin(write_payment::run_entry(
                &deps,
                collection,
                &id,
                HintReason::Payment,
            ))
            .await;
            Ended::Polled(paid.map(|_| 1).map_err(|error| error.problem().code))
        }
        Job::PollPayments => {
            let settings = PaymentSettings::default();
            let mut bills = Ok(0);
            for (scope, qad) in setup.views(&gate, |policy| policy.entity.folded()) {
                let deps = poll_payments::Deps {
                    context,
                    connection: &connection,
                    qad: &qad,
                    scope: &scope,
                    queue: &gate,
                    settings: &settings,
                    trace: "simulated",
                };
                let polled = poll_payments::run(&deps).await;
                bills = added(bills, polled.map(|polled| polled.bills));
            }
            Ended::Polled(bills)
        }
        Job::Reconcile => reconciled(&gate, context, &setup).await,
        Job::OrderEvent(_) | Job::SetOrder(..) => {
            let order = match job {
                Job::SetOrder(number, word) => {
                    let now = gate.sim.now();
                    let mut world = gate.sim.world();
                    CoupaOrderChange::status(number, word).apply(&mut world, now);
                    world.coupa.orders[number]["id"].as_u64().unwrap()
                }
                Job::OrderEvent(order) => order,
                _ => unreachable!(),
            };
            let deps = order_event::Deps {
                connection: &connection,
                coupa: &gate.sim.ports,
                register: &gate,
                queue: &gate,
                trace: "simulated",
            };
            Ended::Polled(match order_event::run(&deps, order).await {
                Ok(order_event::Heard::Woken(woken)) => Ok(woken),
                Ok(_) => Ok(0),
                Err(error) => Err(error.problem().code),
            })
        }
        Job::SupplierEvent(supplier) | Job::NumberSupplier(supplier, _) => {
            if let Job::NumberSupplier(_, number) = job {
                let change = Map::from_iter([("number".to_owned(), Value::from(number))]);
                let now = gate.sim.now();
                gate.sim
                    .world()
                    .coupa
                    .update_supplier(supplier, change, now)
                    .unwrap();
            }
            let deps = supplier_event::Deps {
                connection: &connection,
                register: &gate,
                queue: &gate,
                trace: "simulated",
            };
            let woken = supplier_event::run(&deps, supplier).await;
            Ended::Polled(woken.map_err(|error| error.problem().code))
        }
        Job::SyncSuppliers => {
            let policy = setup.suppliers.clone().unwrap_or_default();
            let deps = sync_suppliers::Deps {
                connection: &connection,
                context,
                coupa: &gate,
                qad: &gate,
                queue: &gate,
                policy: &policy,
                plan_only: false,
                trace: "simulated",
            };
            let synced = Box::pin(sync_suppliers::run(&deps)).await;
            if let Ok(synced) = &synced {
                see(&gate, "supplier linked", synced.linked);
                see(&gate, "suppliers wake an invoice", synced.woken);
                for problem in &synced.needs_a_person {
                    gate.sim.tell(|| format!("supplier parked: {problem}"));
                    see(&gate, supplier_mark(&problem.code), 1);
                }
            }
            let written = synced.map(|synced| synced.written);
            Ended::Polled(written.map_err(|error| error.problem().code))
        }
        Job::SyncLookups => {
            let deps = sync_lookups::Deps {
                context,
                coupa: &gate,
                qad: &gate,
                lookups: &setup.lookups,
                plan_only: false,
            };
            let runs = Box::pin(sync_lookups::run(&deps)).await;
            for run in runs.iter().flatten() {
                see(&gate, "lookup answer lost", run.lost_answers);
                see(&gate, "lookup plan parked", u64::from(run.parked));
                see(&gate, "lookup run incomplete", u64::from(run.incomplete));
            }
            let written = runs.map(|runs| runs.iter().map(|run| run.written).sum());
            Ended::Polled(written.map_err(|error| error.problem().code))
        }
        Job::AllowPlan(lookup, plan_sha256) => {
            let context = Context {
                register: &gate,
                clock: &gate,
                chance: &gate,
                timing: &timing,
                deadline,
            };
            let allowed = plans::allow(&context, lookup.as_deref(), &plan_sha256, "a person", "read").await;
            Ended::Polled(allowed.map(|_| 1).map_err(|error| error.problem().code))
        }
        Job::Sweep => {
            let deps = sweep::Deps {
                connection: &connection,
                register: &gate,
                queue: &gate,
                payments: &gate,
                hinted: &instance.swept,
                timing: &timing,
                clock: &gate,
                trace: "simulated",
            };
            let mut swept = sweep::run(&deps).await;
            if swept.is_ok() && gate.sim.has_twin() {
                let deps = sweep::Deps {
                    connection: &twin(),
                    register: &*gate.neighbour(&twin()),
                    ..deps
                };
                swept = sweep::run(&deps).await;
            }
            Ended::Polled(
                swept
                    .map(|swept| swept.queued)
                    .map_err(|error| error.problem().code),
            )
        }
    }
}

/// One call of `reconcile`; the answer is how many invoices it has looked at.
async fn reconciled(gate: &Gate, context: Context<'_>, setup: &Setup) -> Ended {
    let own = [&setup.settings];
    let entities = setup.entities.iter().map(|(_, settings)| settings);
    let of_entities: Vec<&InvoiceSettings> = entities.collect();
    let settings = if of_entities.is_empty() {
        &own[..]
    } else {
        &of_entities
    };
    let views: Vec<Gate> = settings.iter().map(|own| gate.within(&own.policy)).collect();
    let books: Vec<reconcile::Books<'_>> = settings
        .iter()
        .zip(&views)
        .map(|(own, qad)| reconcile::Books {
            entity: &own.policy.entity,
            qad,
            payments: qad,
        })
        .collect();
    let tell = |told: reconcile::Told<'_>| {
        gate.sim.tell(|| format!("reconcile tells {told:?}"));
        match told {
            reconcile::Told::Duplicate(_) => see(gate, "reconcile told a duplicate", 1),
            reconcile::Told::Complete(report) => see(gate, "reconcile told a difference", report.new),
        }
    };
    let deps = reconcile::Deps {
        context,
        index: gate.sim.index.as_ref(),
        coupa: gate,
        books: &books,
        settings: &setup.settings,
        payments: &PaymentSettings::default().policy,
        anew: false,
        tell: &tell,
    };
    let done = Box::pin(reconcile::run(&deps)).await;
    if let Ok(done) = &done {
        let complete = done.outcome == reconcile::Outcome::Complete;
        see(gate, "reconcile complete", u64::from(complete));
    }
    let looked_at = done.map(|done| done.looked_at);
    Ended::Polled(looked_at.map_err(|error| error.problem().code))
}

/// What several polls did together, or what the first of them that failed said.
fn added(so_far: Result<u64, String>, more: Result<u64, PollError>) -> Result<u64, String> {
    let more = more.map_err(|error| error.problem().code);
    so_far.and_then(|so_far| more.map(|more| so_far + more))
}

fn see(gate: &Gate, what: &'static str, times: u64) {
    if times > 0 {
        *gate.sim.shared().coverage.entry(what).or_default() += times;
    }
}

/// What a supplier that waits for a person counts as.
fn supplier_mark(code: &str) -> &'static str {
    match code {
        "SUPPLIER_CHANGED_ON_BOTH_SIDES" => "supplier changed on both sides",
        "SUPPLIER_PROPOSED" | "SUPPLIER_NAME_TAKEN" => "supplier proposed by name",
        "SUPPLIER_CODE_TAKEN" => "supplier code is another's",
        "SUPPLIER_NUMBER_CHANGED" => "supplier number changed by hand",
        _ => "supplier waits for a person",
    }
}

/// Runs the tasks of every schedule in which at most `preemptions` times somebody else goes on although the running
/// task could; `begin` makes the run anew each time, `end` looks at what came of it. The answer is how many schedules
/// there are.
pub fn every_order(preemptions: usize, begin: impl Fn() -> Harness, end: impl Fn(Harness)) -> u64 {
    let mut path: Vec<usize> = Vec::new();
    let mut schedules = 0u64;
    loop {
        let mut options = Vec::new();
        with_story(|tells| {
            let mut harness = begin().telling(tells);
            options = follow(&mut harness, &path, preemptions);
            end(harness);
        });
        schedules += 1;
        if !next_path(&mut path, &options) {
            return schedules;
        }
    }
}

/// The path after this one, which had so many options at each place: another choice at the last place where one is left.
/// False when there is none.
pub fn next_path(path: &mut Vec<usize>, options: &[usize]) -> bool {
    path.resize(options.len(), 0);
    while let Some(last) = path.pop() {
        if last + 1 < options[path.len()] {
            path.push(last + 1);
            return true;
        }
    }
    false
}

/// Runs something without its story, and once more with it when it fails: a run is the same every time.
pub fn with_story(mut run: impl FnMut(bool)) {
    let silent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(false)));
    if let Err(failure) = silent {
        run(true);
        std::panic::resume_unwind(failure);
    }
}

/// Follows a path of choices and the first option after its end; the answer is how many options there were at each
/// place.
fn follow(harness: &mut Harness, path: &[usize], preemptions: usize) -> Vec<usize> {
    let mut options = Vec::new();
    let mut current: Option<usize> = None;
    let mut left = preemptions;
    loop {
        let runnable = harness.runnable();
        if runnable.is_empty() {
            match harness.next_wake() {
                Some(wake) => harness.sim.advance_to(wake),
                None => return options,
            }
            continue;
        }
        let goes_on = current.filter(|task| runnable.contains(task));
        let mut order: Vec<usize> = goes_on.into_iter().collect();
        if goes_on.is_none() || left > 0 {
            order.extend(runnable.iter().copied().filter(|task| Some(*task) != goes_on));
            // Who sleeps may wake before the others have moved.
            order.extend(harness.asleep());
        }
        let choice = path.get(options.len()).copied().unwrap_or(0);
        options.push(order.len());
        let chosen = order[choice];
        if goes_on.is_some_and(|task| task != chosen) {
            left -= 1;
        }
        current = Some(chosen);
        harness.wake(chosen);
        harness.step(chosen);
    }
}
