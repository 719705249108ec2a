//! The one gate through which every simulated port call passes.
//!
//! A [`Gate`] is every port of a flow at once, for one task. Before and after each call it asks the simulation's
//! [`Fate`] what happens: the call proceeds, fails before or after it was done, takes time, or the worker dies. Nothing
//! else in the simulation can fail, so no port can be forgotten.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::result_large_err,
    reason = "a test that overflows, or misses what it put there, must fail loudly"
)]

use crate::invariants::Watch;
use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::{Invoice, Order, Receipt};
use domain::ids::{ConnectionId, InvoiceId, PurchaseOrderNumber, QadInvoiceIdentity, SupplierCode};
use domain::lookups::{Action, CoupaValue, LookupCode};
use domain::matching::SupplierInvoiceDraft;
use domain::payments::{InvoiceBalance, PaymentEntry};
use domain::policy::MatchPolicy;
use domain::problem::Problem;
use domain::suppliers::{CoupaSupplier, QadSupplier, SupplierData, SupplierWrite};
use domain::time::{Date, Timestamp};
use domain::timing::Timing;
use flows::ports::{
    AuditEntry, BalanceScan, Chance, Clock, Commit, CommitError, Coupa, CoupaBill, CoupaLookups,
    CoupaPayments, CoupaSupplierPage, CoupaSuppliers, CoupaTogether, DocumentOutcome, DueRecord, Flagged,
    Hint, Index, InvoicePage, LookupScan, PaymentScan, Qad, QadDocument, QadPayments, QadSources,
    QadSupplierScan, QadSuppliers, Queue, ReadError, ReceiptScan, RecordGroup, RecordKey, RecordWrite,
    Register, SourceScan, StoreError, StoredRecord, WriteError,
};
use sandbox::faults::{Fault, FaultRule, System};
use sandbox::ports::WorldPorts;
use sandbox::world::World;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// SplitMix64: small, seeded, the same everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        twice ^ (twice >> 31)
    }

    /// A number from 0 to `end` - 1; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.bits() % end }
    }

    /// True so many times of a thousand.
    pub fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    /// A number of milliseconds from 0 to `longest`.
    pub fn millis(&mut self, longest: i64) -> i64 {
        self.below(longest.max(0) as u64 + 1) as i64
    }
}

/// Chance that repeats: that of a seed.
pub struct Seeded(Mutex<Rng>);

impl Seeded {
    /// Of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(Rng::new(seed)))
    }
}

impl Chance for Seeded {
    fn token(&self) -> String {
        format!("{:016x}", lock(&self.0).bits())
    }

    fn up_to(&self, max: u64) -> u64 {
        lock(&self.0).below(max.saturating_add(1))
    }
}

/// Which port method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// `Register::read`.
    Read,
    /// `Register::list`.
    List,
    /// `Register::commit`.
    Commit,
    /// `Register::due`.
    Due,
    /// `Coupa::invoice`.
    CoupaInvoice,
    /// `Coupa::coupa_order`.
    CoupaOrder,
    /// `CoupaTogether::invoices`.
    InvoicesTogether,
    /// `CoupaTogether::coupa_orders`.
    OrdersTogether,
    /// `CoupaTogether::bills`.
    BillsTogether,
    /// `Coupa::exportable_invoices`.
    CoupaList,
    /// `Coupa::mark_exported`.
    MarkExported,
    /// `Coupa::record_outcome`.
    RecordOutcome,
    /// `Qad::order`.
    Order,
    /// `Qad::receipts_of_order`.
    ReceiptsOfOrder,
    /// `Qad::receipts_since`.
    ReceiptsSince,
    /// `Qad::find_invoices`.
    BooksAreOpen,
    /// `Qad::find_invoices`.
    FindInvoices,
    /// `Qad::create_invoice`.
    CreateInvoice,
    /// `CoupaPayments::bill`.
    Bill,
    /// `CoupaPayments::append_payment`.
    AppendPayment,
    /// `QadPayments::payments_since`.
    PaymentsSince,
    /// `QadPayments::balances_since`.
    BalancesSince,
    /// `QadPayments::balances_of`.
    BalancesOf,
    /// `CoupaSuppliers::suppliers`.
    CoupaSuppliers,
    /// `CoupaSuppliers::suppliers_numbered`.
    FindCoupaSupplier,
    /// `CoupaSuppliers::create_supplier`.
    CreateCoupaSupplier,
    /// `CoupaSuppliers::update_supplier`.
    UpdateCoupaSupplier,
    /// `QadSuppliers::suppliers_since`.
    QadSuppliers,
    /// `QadSuppliers::supplier`.
    FindQadSupplier,
    /// `QadSuppliers::create_supplier`.
    CreateQadSupplier,
    /// `QadSuppliers::update_supplier`.
    UpdateQadSupplier,
    /// `QadSources::source_values`.
    SourceValues,
    /// `CoupaLookups::lookup_values`.
    LookupValues,
    /// `CoupaLookups::find_lookup_values`.
    FindLookupValues,
    /// `CoupaLookups::has_lookup`.
    HasLookup,
    /// `CoupaLookups::create_lookup_value`.
    CreateLookupValue,
    /// `CoupaLookups::update_lookup_value`.
    UpdateLookupValue,
    /// `Queue::send`.
    SendHints,
    /// `Clock::sleep`.
    Sleep,
}

impl Method {
    /// True for a read of Coupa or QAD.
    pub fn reads_elsewhere(self) -> bool {
        matches!(
            self,
            Self::CoupaInvoice
                | Self::CoupaOrder
                | Self::InvoicesTogether
                | Self::OrdersTogether
                | Self::BillsTogether
                | Self::CoupaList
                | Self::Order
                | Self::ReceiptsOfOrder
                | Self::ReceiptsSince
                | Self::BooksAreOpen
                | Self::FindInvoices
                | Self::Bill
                | Self::PaymentsSince
                | Self::BalancesSince
                | Self::BalancesOf
                | Self::CoupaSuppliers
                | Self::FindCoupaSupplier
                | Self::QadSuppliers
                | Self::FindQadSupplier
                | Self::SourceValues
                | Self::LookupValues
                | Self::FindLookupValues
                | Self::HasLookup
        )
    }

    /// True for a write to Coupa or QAD.
    pub fn writes_elsewhere(self) -> bool {
        matches!(self, Self::MarkExported | Self::RecordOutcome) || self.lands_late()
    }

    /// True for a write that may land late, and that a second one of would do harm.
    pub fn lands_late(self) -> bool {
        self.late_operation().is_some()
    }

    /// What such a write is called where faults are armed.
    fn late_operation(self) -> Option<(System, &'static str)> {
        Some(match self {
            Self::CreateInvoice => (System::Qad, "supplier-invoices.create"),
            Self::AppendPayment => (System::Coupa, "invoices.pay"),
            Self::CreateCoupaSupplier => (System::Coupa, "suppliers.create"),
            Self::UpdateCoupaSupplier => (System::Coupa, "suppliers.update"),
            Self::CreateQadSupplier => (System::Qad, "suppliers.create"),
            Self::UpdateQadSupplier => (System::Qad, "suppliers.update"),
            Self::CreateLookupValue => (System::Coupa, "lookup-values.create"),
            Self::UpdateLookupValue => (System::Coupa, "lookup-values.update"),
            _ => return None,
        })
    }

    /// True for a call of the register.
    pub fn is_register(self) -> bool {
        matches!(self, Self::Read | Self::List | Self::Commit | Self::Due)
    }
}

/// One port call, before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its place among all calls of the run, from 1.
    pub number: u64,
    /// Who calls.
    pub task: usize,
    /// What.
    pub method: Method,
}

/// What happens before a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is made.
    Proceed,
    /// It is not made, and the caller cannot know that: a read is unavailable, a commit unanswered, a write unknown.
    Lost,
    /// It is not made, and the other side says so (429): not applied. For a read: unavailable.
    Declined,
    /// It is not answered, and what it writes appears this many milliseconds later. For a write that may land late only.
    Late(i64),
    /// The worker dies.
    Crash,
    /// It takes this many milliseconds to get there.
    Slow(i64),
    /// The worker stops for this many milliseconds and then goes on, even past its own end.
    Stall(i64),
}

/// What happens after a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The caller gets the answer.
    Proceed,
    /// The answer is lost.
    Lost,
    /// The worker dies.
    Crash,
    /// The worker stops for this many milliseconds and then goes on, even past its own end.
    Stall(i64),
}

/// Decides what goes wrong.
pub trait Fate: Send {
    /// Before a call.
    fn before(&mut self, call: &Call) -> Before;
    /// After a call.
    fn after(&mut self, call: &Call) -> After;
    /// What happens to a hint on its way into the queue: how many copies arrive, and how late at most.
    fn hint(&mut self) -> (u32, i64) {
        (1, 0)
    }
}

/// Nothing goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Calm;

impl Fate for Calm {
    fn before(&mut self, _: &Call) -> Before {
        Before::Proceed
    }
    fn after(&mut self, _: &Call) -> After {
        After::Proceed
    }
}

/// What the gate does to a task after the poll in which it asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The worker is dead.
    Crashed,
    /// Asleep until this instant.
    Asleep {
        /// Until when.
        until: i64,
        /// Goes on even past its own end.
        zombie: bool,
    },
    /// Held up until this instant with the bytes of a write in its hands: whatever it has outlived before, the platform
    /// ends it when its time is over, for no process sends after that.
    Sending {
        /// Until when.
        until: i64,
    },
}

/// A message in the queue.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its number.
    pub id: u64,
    /// What it says.
    pub hint: Hint,
    /// From when it can be received.
    pub visible_at: i64,
    /// How often it was received.
    pub receives: i64,
}

/// Everything the tasks of a run share besides the register and the world.
pub struct Shared {
    /// What goes wrong.
    pub fate: Box<dyn Fate>,
    /// Tokens and jitter.
    pub chance: Rng,
    /// Calls so far.
    pub calls: u64,
    /// What the gate asks the executor to do.
    pub marks: BTreeMap<usize, Mark>,
    /// The queue.
    pub queue: Vec<Message>,
    /// Messages so far.
    pub messages: u64,
    /// The checker.
    pub watch: Watch,
    /// Makes every call twice that its contract allows to be made twice.
    pub doubled: bool,
    /// Coupa's answer to the exported flag says nothing about the invoice.
    pub mute: bool,
    /// The whole story, when it is kept.
    pub trace: Option<String>,
    /// Whether the most recent calls are kept; telling them is half the cost of a run.
    pub tells: bool,
    /// How often something worth seeing happened.
    pub coverage: BTreeMap<&'static str, u64>,
    /// The most recent calls, for the story of a failure.
    pub recent: std::collections::VecDeque<String>,
}

/// One simulated run: register, both other systems, queue, clock, chance.
pub struct Sim {
    /// The register behind the gate.
    pub register: Arc<dyn Register>,
    /// The same, asked as an index of questions.
    pub index: Arc<dyn Index>,
    /// That of the second connection to the same QAD.
    pub twin: Box<dyn Register>,
    /// Coupa and QAD behind the gate.
    pub ports: WorldPorts,
    /// The chain of times.
    pub timing: Timing,
    clock: Arc<AtomicI64>,
    shared: Mutex<Shared>,
}

/// Most calls a run may make; more is a run that does not end.
const CALLS_MAX: u64 = 400_000;
/// Calls kept for the story of a failure.
const RECENT_MAX: usize = 240;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value of a future that never waits.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fake waited"),
    }
}

/// The lookup of the owner mark. What is written there is no list of QAD's, and the checker of those leaves it alone.
pub const OWNER_LOOKUP: &str = "QAD Integration Owner";

/// Invoices from this id on are another Coupa instance's, which a second connection serves.
pub const TWIN_FROM: u64 = 1_000_000;

/// The second connection.
pub fn twin() -> ConnectionId {
    "twin".parse().unwrap()
}

/// Whether the second connection serves an invoice.
pub fn is_twins(id: InvoiceId) -> bool {
    id.0 >= TWIN_FROM
}

impl Sim {
    /// The register in which an invoice is kept.
    pub fn register_of(&self, id: InvoiceId) -> &dyn Register {
        if is_twins(id) {
            self.twin.as_ref()
        } else {
            self.register.as_ref()
        }
    }

    /// True where a second connection serves invoices of this world.
    pub fn has_twin(&self) -> bool {
        self.world()
            .coupa
            .invoices
            .keys()
            .any(|id| is_twins(InvoiceId(*id)))
    }

    /// A run over a register and a world that begins at `now`.
    pub fn new<B: Register + Index + 'static>(
        register: Arc<B>,
        world: World,
        timing: Timing,
        now: Timestamp,
        seed: u64,
    ) -> Arc<Self> {
        let clock = Arc::new(AtomicI64::new(now.0));
        let ticking = clock.clone();
        let ports = WorldPorts::new(
            world,
            Arc::new(move || Timestamp(ticking.load(Ordering::Relaxed))),
        );
        Self::with(register, ports, timing, clock, seed)
    }

    /// Another run over the same world at the same time, with a register of its own.
    pub fn beside<B: Register + Index + 'static>(&self, register: Arc<B>, seed: u64) -> Arc<Self> {
        let clock = Arc::clone(&self.clock);
        Self::with(register, self.ports.clone(), self.timing, clock, seed)
    }

    fn with<B: Register + Index + 'static>(
        register: Arc<B>,
        ports: WorldPorts,
        timing: Timing,
        clock: Arc<AtomicI64>,
        seed: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            twin: register.neighbour(&twin()),
            index: Arc::clone(&register) as Arc<dyn Index>,
            register,
            ports,
            timing,
            clock,
            shared: Mutex::new(Shared {
                fate: Box::new(Calm),
                chance: Rng::new(seed ^ 0xC0FF_EE00),
                calls: 0,
                marks: BTreeMap::new(),
                queue: Vec::new(),
                messages: 0,
                watch: Watch::default(),
                doubled: false,
                mute: false,
                trace: None,
                tells: true,
                coverage: BTreeMap::new(),
                recent: std::collections::VecDeque::new(),
            }),
        })
    }

    /// True time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    /// Moves true time forward to `instant`, never back.
    pub fn advance_to(&self, instant: i64) {
        self.clock.fetch_max(instant, Ordering::Relaxed);
    }

    /// What the tasks share. Never hold it while calling a port.
    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    /// The world, up to date.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = lock(&self.ports.world);
        world.advance(self.now());
        world
    }

    /// Counts something worth seeing.
    pub fn saw(&self, what: &'static str) {
        *self.shared().coverage.entry(what).or_default() += 1;
    }

    /// Whether anybody wants to hear the story.
    pub fn tells(&self) -> bool {
        let shared = self.shared();
        shared.tells || shared.trace.is_some()
    }

    /// Adds a line to the story.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        let now = self.now().0;
        if !self.tells() {
            return;
        }
        let line = format!("{now} {}", line());
        let mut shared = self.shared();
        if shared.recent.len() >= RECENT_MAX {
            shared.recent.pop_front();
        }
        if let Some(trace) = &mut shared.trace {
            let _ = writeln!(trace, "{line}");
        }
        shared.recent.push_back(line);
    }

    /// A broken invariant.
    pub fn violate(&self, what: impl FnOnce() -> String) {
        let what = what();
        self.tell(|| format!("!!! {what}"));
        self.shared().watch.violations.push(what);
    }

    /// Puts a hint into the queue, whatever fate says.
    pub fn enqueue(&self, hint: Hint, after_millis: i64) {
        let visible_at = self.now().0 + after_millis;
        let mut shared = self.shared();
        shared.messages += 1;
        let id = shared.messages;
        shared.queue.push(Message {
            id,
            hint,
            visible_at,
            receives: 0,
        });
    }
}

/// Hands control back to the executor once.
struct Yield(bool);

impl Future for Yield {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// When an answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Before,
    Declined,
    After,
}

/// All ports, for one task.
#[derive(Clone)]
pub struct Gate {
    /// The run.
    pub sim: Arc<Sim>,
    /// The register that the task works with.
    pub register: Arc<dyn Register>,
    /// The task.
    pub task: usize,
    /// How far the task's clock is ahead of true time, in milliseconds.
    pub skew: i64,
    /// QAD, as the entity sees it that the task works for.
    pub qad: WorldPorts,
}

impl Gate {
    /// The same task at work for another entity.
    pub fn within(&self, policy: &MatchPolicy) -> Self {
        Self {
            qad: self.sim.ports.within(&policy.entity, &policy.domain),
            ..self.clone()
        }
    }

    fn enter(&self, method: Method, about: impl Fn() -> String) -> (Call, Before) {
        let mut shared = self.sim.shared();
        shared.calls += 1;
        assert!(
            shared.calls < CALLS_MAX,
            "the run does not end: {:#?}",
            shared.recent
        );
        let call = Call {
            number: shared.calls,
            task: self.task,
            method,
        };
        let before = shared.fate.before(&call);
        drop(shared);
        self.sim.tell(|| {
            format!(
                "#{} task {} {method:?} {} {before:?}",
                call.number,
                self.task,
                about()
            )
        });
        (call, before)
    }

    /// Several calls of one task may be on their way at once: who dies is dead, and who sleeps sleeps longest.
    fn mark(&self, mark: Mark) {
        let mut shared = self.sim.shared();
        let marks = &mut shared.marks;
        let strongest = match (marks.get(&self.task), mark) {
            (Some(Mark::Crashed), _) => Mark::Crashed,
            (
                Some(Mark::Sending { until: one } | Mark::Asleep { until: one, .. }),
                Mark::Sending { until: other },
            )
            | (Some(Mark::Sending { until: one }), Mark::Asleep { until: other, .. }) => Mark::Sending {
                until: (*one).max(other),
            },
            (
                Some(Mark::Asleep { until, zombie }),
                Mark::Asleep {
                    until: other,
                    zombie: too,
                },
            ) => Mark::Asleep {
                until: (*until).max(other),
                zombie: *zombie || too,
            },
            _ => mark,
        };
        marks.insert(self.task, strongest);
    }

    fn sleep_until(&self, until: i64, zombie: bool) {
        self.mark(Mark::Asleep { until, zombie });
    }

    /// One port call: fate before, the call, fate after.
    async fn pass<T, F: Future<Output = T>>(
        &self,
        method: Method,
        about: impl Fn() -> String,
        twice: bool,
        make: impl Fn() -> F,
        lost: impl Fn(Lost) -> T,
    ) -> T {
        let (call, before) = self.enter(method, about);
        let now = self.sim.now().0;
        match before {
            Before::Crash => self.mark(Mark::Crashed),
            Before::Slow(millis) => {
                // A whole exchange ends within the HTTP timeout, whatever the network does.
                self.sleep_until(now + millis.min(self.sim.timing.http_millis), false);
            }
            Before::Stall(millis) => {
                // A worker that has begun to send is ended by the platform: it cannot begin later than that.
                let until = now + millis;
                if method.writes_elsewhere() {
                    self.mark(Mark::Sending { until });
                } else {
                    self.sleep_until(until, true);
                }
            }
            Before::Late(millis) if method.lands_late() => {
                let (system, operation) = method.late_operation().unwrap();
                let latest = lateness(&self.sim.timing, system);
                let fault = Fault::LateCommit {
                    delay_ms: u32::try_from(millis.min(latest)).unwrap_or(u32::MAX),
                };
                Yield(false).await;
                let rule = FaultRule::next(system, operation, None, fault);
                lock(&self.sim.ports.faults).arm(rule);
                self.sim.saw("late commit");
                return make().await;
            }
            Before::Proceed | Before::Lost | Before::Declined | Before::Late(_) => {}
        }
        Yield(false).await;
        match before {
            Before::Lost => return lost(Lost::Before),
            Before::Declined => {
                if method == Method::CreateInvoice {
                    self.sim.saw("create not applied");
                }
                return lost(Lost::Declined);
            }
            _ => {}
        }
        let doubled = twice && self.sim.shared().doubled;
        let mut answer = make().await;
        if doubled {
            answer = make().await;
        }
        let after = self.sim.shared().fate.after(&call);
        if after != After::Proceed {
            self.sim.tell(|| format!("#{} after {after:?}", call.number));
        }
        match after {
            After::Proceed => answer,
            After::Lost => lost(Lost::After),
            After::Crash => {
                self.mark(Mark::Crashed);
                Yield(false).await;
                answer
            }
            After::Stall(millis) => {
                self.sleep_until(self.sim.now().0 + millis, true);
                Yield(false).await;
                answer
            }
        }
    }
}

/// How late a system may commit, in milliseconds.
pub fn lateness(timing: &Timing, system: System) -> i64 {
    match system {
        System::Qad => timing.commit_lateness_millis,
        System::Coupa => timing.coupa_commit_lateness_millis,
    }
}

fn simulated(code: &str) -> Problem {
    Problem::new(code, "Simulated.")
}

fn store_lost<T>(_: Lost) -> Result<T, StoreError> {
    Err(StoreError(simulated("SIMULATED_STORE_SILENT")))
}

fn read_lost<T>(lost: Lost) -> Result<T, ReadError> {
    Err(ReadError::Unavailable {
        retry_after: (lost == Lost::Declined).then(|| Duration::from_secs(2)),
        problem: simulated("SIMULATED_UNAVAILABLE"),
    })
}

fn write_lost<T>(lost: Lost) -> Result<T, WriteError> {
    Err(match lost {
        Lost::Declined => WriteError::NotApplied {
            retry_after: Some(Duration::from_secs(2)),
            problem: simulated("SIMULATED_DECLINED"),
        },
        Lost::Before | Lost::After => WriteError::Unknown(simulated("SIMULATED_UNKNOWN")),
    })
}

fn keys_of(keys: &[RecordKey]) -> String {
    let words: Vec<String> = keys.iter().take(4).map(word_of).collect();
    words.join(",")
}

fn word_of(key: &RecordKey) -> String {
    match key {
        RecordKey::Invoice(id) => format!("invoice/{id}"),
        RecordKey::Effect(text) => format!("effect/{text}"),
        RecordKey::Order(number) => format!("order/{number}"),
        RecordKey::Waiting(line, id) => format!("waiting/{line}/{id}"),
        RecordKey::WaitingForOrder(number, id) => format!("waiting-order/{number}/{id}"),
        RecordKey::Receipt(key) => format!("receipt/{}", key.receiver),
        RecordKey::Watermark(name) => format!("watermark/{name}"),
        RecordKey::Entry { collection, id } => format!("{}/{id}", collection.word()),
        RecordKey::Shared { name, .. } => format!("shared {name}"),
    }
}

fn words_of_commit(commit: &Commit) -> String {
    let mut text = String::new();
    for write in &commit.writes {
        let word = match write {
            RecordWrite::Put { key, seen, state, .. } => format!("put {}@{seen} {state}", word_of(key)),
            RecordWrite::Delete { key } => format!("delete {}", word_of(key)),
            RecordWrite::Check { key, seen } => format!("check {}@{seen}", word_of(key)),
            // It follows the invoice of the same commit, which is told already.
            RecordWrite::Index(_) => String::new(),
        };
        text.push_str(&word);
        text.push_str("; ");
    }
    for entry in &commit.audit {
        for event in entry.events.match_indices("\"event\":\"") {
            let rest = &entry.events[event.0 + event.1.len()..];
            text.push_str(rest.split('"').next().unwrap_or_default());
            text.push(' ');
        }
        for event in entry.events.match_indices("\"effect\":\"") {
            let rest = &entry.events[event.0 + event.1.len()..];
            text.push_str(rest.split('"').next().unwrap_or_default());
            text.push(' ');
        }
    }
    text
}

#[async_trait]
impl Register for Gate {
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let make = || self.register.read(keys);
        self.pass(Method::Read, || keys_of(keys), true, make, store_lost)
            .await
    }

    async fn list(&self, group: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
        let make = || self.register.list(group);
        self.pass(Method::List, || format!("{group:?}"), true, make, store_lost)
            .await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let make = || async {
            let answer = self.register.commit(commit.clone()).await;
            if answer.is_ok() {
                crate::invariants::after_commit(&self.sim, &commit);
            } else {
                self.sim.saw("commit conflict");
            }
            answer
        };
        let lost = |_| {
            Err(CommitError::Store(StoreError(simulated(
                "SIMULATED_STORE_SILENT",
            ))))
        };
        self.pass(Method::Commit, || words_of_commit(&commit), true, make, lost)
            .await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueRecord>, StoreError> {
        let make = || self.register.due(now, limit);
        self.pass(Method::Due, String::new, true, make, store_lost).await
    }

    async fn audit(&self, document: &str) -> Result<Vec<AuditEntry>, StoreError> {
        self.register.audit(document).await
    }

    fn neighbour(&self, connection: &ConnectionId) -> Box<dyn Register> {
        Box::new(Self {
            register: Arc::from(self.register.neighbour(connection)),
            ..self.clone()
        })
    }

    async fn invoices(
        &self,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.register.invoices(after, limit).await
    }
}

#[async_trait]
impl Coupa for Gate {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        let make = || self.sim.ports.invoice(id);
        self.pass(Method::CoupaInvoice, || id.to_string(), true, make, read_lost)
            .await
    }

    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        let make = || self.sim.ports.coupa_order(number);
        self.pass(Method::CoupaOrder, || number.to_owned(), true, make, read_lost)
            .await
    }

    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        let make = || self.sim.ports.exportable_invoices(after);
        let listed = self
            .pass(Method::CoupaList, String::new, true, make, read_lost)
            .await;
        // The other instance lists its own.
        listed.map(|mut page| {
            page.heads.retain(|head| !is_twins(head.id));
            page
        })
    }

    async fn mark_exported(&self, id: InvoiceId, idempotency_key: &str) -> Result<Flagged, WriteError> {
        let make = || {
            crate::invariants::before_export(&self.sim, id);
            self.sim.ports.mark_exported(id, idempotency_key)
        };
        let answer = self
            .pass(Method::MarkExported, || id.to_string(), true, make, write_lost)
            .await;
        let mute = self.sim.shared().mute;
        answer.map(|shown| if mute { Flagged::default() } else { shown })
    }

    async fn record_outcome(
        &self,
        id: InvoiceId,
        outcome: &DocumentOutcome,
        idempotency_key: &str,
    ) -> Result<(), WriteError> {
        let make = || self.sim.ports.record_outcome(id, outcome, idempotency_key);
        let about = || format!("{id} {}", outcome.code);
        self.pass(Method::RecordOutcome, about, true, make, write_lost)
            .await
    }
}

#[async_trait]
impl CoupaTogether for Gate {
    async fn invoices(&self, ids: &[InvoiceId]) -> Result<Vec<Invoice>, ReadError> {
        let make = || CoupaTogether::invoices(&self.sim.ports, ids);
        self.pass(
            Method::InvoicesTogether,
            || format!("{ids:?}"),
            true,
            make,
            read_lost,
        )
        .await
    }

    async fn coupa_orders(&self, numbers: &[String]) -> Result<Vec<CoupaOrder>, ReadError> {
        let make = || self.sim.ports.coupa_orders(numbers);
        self.pass(
            Method::OrdersTogether,
            || numbers.join(" "),
            true,
            make,
            read_lost,
        )
        .await
    }

    async fn bills(&self, ids: &[InvoiceId]) -> Result<Vec<CoupaBill>, ReadError> {
        let make = || self.sim.ports.bills(ids);
        let asked_at = self.sim.now();
        let answer = self
            .pass(
                Method::BillsTogether,
                || format!("{ids:?}"),
                true,
                make,
                read_lost,
            )
            .await;
        for bill in answer.iter().flatten() {
            self.sim.shared().watch.bill_read(bill.id, asked_at);
        }
        answer
    }
}

#[async_trait]
impl Qad for Gate {
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
        let make = || self.qad.order(number);
        self.pass(Method::Order, || number.to_string(), true, make, read_lost)
            .await
    }

    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
        let make = || self.qad.receipts_of_order(number);
        self.pass(
            Method::ReceiptsOfOrder,
            || number.to_string(),
            true,
            make,
            read_lost,
        )
        .await
    }

    async fn receipts_since(&self, since: Date, page: u32) -> Result<ReceiptScan, ReadError> {
        let make = || self.qad.receipts_since(since, page);
        self.pass(Method::ReceiptsSince, || since.to_string(), true, make, read_lost)
            .await
    }

    async fn books_are_open(&self, day: Date) -> Result<Option<bool>, ReadError> {
        let make = || self.qad.books_are_open(day);
        self.pass(Method::BooksAreOpen, || day.to_string(), true, make, read_lost)
            .await
    }

    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
        let make = || self.qad.find_invoices(identity);
        let asked_at = self.sim.now();
        let answer = self
            .pass(
                Method::FindInvoices,
                || identity.reference.to_string(),
                true,
                make,
                read_lost,
            )
            .await;
        if answer.as_ref().is_ok_and(Vec::is_empty) {
            self.sim.shared().watch.looked_up_empty(identity, asked_at);
        }
        answer
    }

    async fn create_invoice(
        &self,
        draft: &SupplierInvoiceDraft,
        idempotency_key: &str,
    ) -> Result<QadDocument, WriteError> {
        crate::invariants::send_is_allowed(&self.sim, self.task, self.now(), draft);
        let make = || {
            crate::invariants::create_leaves(&self.sim, self.task, draft);
            self.qad.create_invoice(draft, idempotency_key)
        };
        let about = || draft.identity.reference.to_string();
        let answer = self
            .pass(Method::CreateInvoice, about, false, make, write_lost)
            .await;
        crate::invariants::create_answered(&self.sim, self.task, &answer);
        answer
    }
}

#[async_trait]
impl CoupaPayments for Gate {
    async fn bill(&self, id: InvoiceId) -> Result<Option<CoupaBill>, ReadError> {
        let make = || self.sim.ports.bill(id);
        let asked_at = self.sim.now();
        let answer = self
            .pass(Method::Bill, || id.to_string(), true, make, read_lost)
            .await;
        if answer.is_ok() {
            self.sim.shared().watch.bill_read(id, asked_at);
        }
        answer
    }

    async fn append_payment(
        &self,
        entry: &PaymentEntry,
        idempotency_key: &str,
    ) -> Result<CoupaBill, WriteError> {
        crate::invariants::payment_is_allowed(&self.sim, self.task, self.now(), entry);
        let make = || {
            crate::invariants::payment_leaves(&self.sim, self.task, entry);
            self.sim.ports.append_payment(entry, idempotency_key)
        };
        let about = || format!("{} {}", entry.key, entry.amount);
        let answer = self
            .pass(Method::AppendPayment, about, false, make, write_lost)
            .await;
        crate::invariants::payment_answered(&self.sim, self.task, answer.as_ref().err());
        answer
    }
}

impl Gate {
    /// What QAD has said is owed.
    fn owed<'b>(&self, balances: impl Iterator<Item = &'b InvoiceBalance>) {
        let mut shared = self.sim.shared();
        balances.for_each(|balance| shared.watch.owed(balance));
    }
}

#[async_trait]
impl QadPayments for Gate {
    async fn balances_since(&self, since: Date) -> Result<BalanceScan, ReadError> {
        let make = || self.qad.balances_since(since);
        let answer = self
            .pass(Method::BalancesSince, || since.to_string(), true, make, read_lost)
            .await;
        self.owed(answer.iter().flat_map(|scan| &scan.balances));
        answer
    }

    async fn balances_of(
        &self,
        invoice: &QadInvoiceIdentity,
        on: Date,
    ) -> Result<Vec<InvoiceBalance>, ReadError> {
        let make = || self.qad.balances_of(invoice, on);
        let answer = self
            .pass(Method::BalancesOf, || invoice.to_string(), true, make, read_lost)
            .await;
        self.owed(answer.iter().flatten());
        answer
    }

    async fn payments_since(&self, since: Date) -> Result<PaymentScan, ReadError> {
        let make = || self.qad.payments_since(since);
        self.pass(Method::PaymentsSince, || since.to_string(), true, make, read_lost)
            .await
    }
}

#[async_trait]
impl CoupaSuppliers for Gate {
    async fn suppliers(
        &self,
        since: Option<Timestamp>,
        after: Option<u64>,
    ) -> Result<CoupaSupplierPage, ReadError> {
        let make = || CoupaSuppliers::suppliers(&self.sim.ports, since, after);
        let about = || format!("since {since:?} after {after:?}");
        self.pass(Method::CoupaSuppliers, about, true, make, read_lost)
            .await
    }

    async fn suppliers_numbered(&self, number: &SupplierCode) -> Result<Vec<CoupaSupplier>, ReadError> {
        let make = || self.sim.ports.suppliers_numbered(number);
        let asked_at = self.sim.now();
        let about = || number.to_string();
        let answer = self
            .pass(Method::FindCoupaSupplier, about, true, make, read_lost)
            .await;
        if answer.as_ref().is_ok_and(Vec::is_empty) {
            let key = format!("coupa-supplier/{}", number.folded());
            self.sim.shared().watch.syncs.looked_up(key, asked_at);
        }
        answer
    }

    async fn create_supplier(
        &self,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        let write = SupplierWrite::CreateInCoupa {
            code: number.clone(),
            data: data.clone(),
        };
        let make = || CoupaSuppliers::create_supplier(&self.sim.ports, number, data, idempotency_key);
        self.supplier_write(Method::CreateCoupaSupplier, &write, make)
            .await
    }

    async fn update_supplier(
        &self,
        id: u64,
        number: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<CoupaSupplier, WriteError> {
        let write = SupplierWrite::UpdateInCoupa {
            id,
            code: number.clone(),
            data: data.clone(),
        };
        let make = || CoupaSuppliers::update_supplier(&self.sim.ports, id, number, data, idempotency_key);
        self.supplier_write(Method::UpdateCoupaSupplier, &write, make)
            .await
    }
}

#[async_trait]
impl QadSuppliers for Gate {
    async fn suppliers_since(&self, since: Date) -> Result<QadSupplierScan, ReadError> {
        let make = || self.sim.ports.suppliers_since(since);
        self.pass(Method::QadSuppliers, || since.to_string(), true, make, read_lost)
            .await
    }

    async fn supplier(&self, code: &SupplierCode) -> Result<Option<QadSupplier>, ReadError> {
        let make = || self.sim.ports.supplier(code);
        let asked_at = self.sim.now();
        let answer = self
            .pass(
                Method::FindQadSupplier,
                || code.to_string(),
                true,
                make,
                read_lost,
            )
            .await;
        if matches!(answer, Ok(None)) {
            let key = format!("qad-supplier/{}", code.folded());
            self.sim.shared().watch.syncs.looked_up(key, asked_at);
        }
        answer
    }

    async fn create_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError> {
        let write = SupplierWrite::CreateInQad {
            code: code.clone(),
            id: 0,
            data: data.clone(),
        };
        let make = || QadSuppliers::create_supplier(&self.sim.ports, code, data, idempotency_key);
        self.supplier_write(Method::CreateQadSupplier, &write, make).await
    }

    async fn update_supplier(
        &self,
        code: &SupplierCode,
        data: &SupplierData,
        idempotency_key: &str,
    ) -> Result<QadSupplier, WriteError> {
        let write = SupplierWrite::UpdateInQad {
            code: code.clone(),
            data: data.clone(),
        };
        let make = || QadSuppliers::update_supplier(&self.sim.ports, code, data, idempotency_key);
        self.supplier_write(Method::UpdateQadSupplier, &write, make).await
    }
}

#[async_trait]
impl QadSources for Gate {
    async fn source_values(&self, source: &str) -> Result<SourceScan, ReadError> {
        let began = self.sim.shared().calls;
        let make = || self.sim.ports.source_values(source);
        let answer = self
            .pass(Method::SourceValues, || source.to_owned(), true, make, read_lost)
            .await;
        self.sim.shared().watch.syncs.reading(self.task, began);
        answer
    }
}

#[async_trait]
impl CoupaLookups for Gate {
    async fn lookup_values(&self, lookup: &str) -> Result<LookupScan, ReadError> {
        let make = || self.sim.ports.lookup_values(lookup);
        self.pass(Method::LookupValues, || lookup.to_owned(), true, make, read_lost)
            .await
    }

    async fn has_lookup(&self, lookup: &str) -> Result<Option<bool>, ReadError> {
        let make = || self.sim.ports.has_lookup(lookup);
        self.pass(Method::HasLookup, || lookup.to_owned(), true, make, read_lost)
            .await
    }

    async fn find_lookup_values(
        &self,
        lookup: &str,
        code: &LookupCode,
    ) -> Result<Vec<CoupaValue>, ReadError> {
        let make = || self.sim.ports.find_lookup_values(lookup, code);
        let asked_at = self.sim.now();
        let about = || format!("{lookup} {code}");
        let answer = self
            .pass(Method::FindLookupValues, about, true, make, read_lost)
            .await;
        if answer.is_ok() {
            let key = format!("lookup-value/{lookup}/{}", code.folded());
            self.sim.shared().watch.syncs.looked_up(key, asked_at);
        }
        answer
    }

    async fn create_lookup_value(
        &self,
        lookup: &str,
        value: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError> {
        let make = || self.sim.ports.create_lookup_value(lookup, value, idempotency_key);
        self.lookup_write(Method::CreateLookupValue, lookup, value, make)
            .await
    }

    async fn update_lookup_value(
        &self,
        lookup: &str,
        id: u64,
        value: &Action,
        idempotency_key: &str,
    ) -> Result<CoupaValue, WriteError> {
        let make = || {
            self.sim
                .ports
                .update_lookup_value(lookup, id, value, idempotency_key)
        };
        self.lookup_write(Method::UpdateLookupValue, lookup, value, make)
            .await
    }
}

impl Gate {
    async fn supplier_write<T, F: Future<Output = Result<T, WriteError>>>(
        &self,
        method: Method,
        write: &SupplierWrite,
        make: impl Fn() -> F,
    ) -> Result<T, WriteError> {
        crate::sync_watch::supplier_write_is_allowed(&self.sim, self.task, self.now(), write);
        let leaving = || {
            crate::sync_watch::supplier_write_leaves(&self.sim, self.task, write);
            make()
        };
        let about = || write.sentence();
        let answer = self.pass(method, about, false, leaving, write_lost).await;
        let key = crate::sync_watch::supplier_key(write);
        crate::sync_watch::answered(&self.sim, self.task, method, &key, answer.as_ref().err());
        answer
    }

    async fn lookup_write<T, F: Future<Output = Result<T, WriteError>>>(
        &self,
        method: Method,
        lookup: &str,
        action: &Action,
        make: impl Fn() -> F,
    ) -> Result<T, WriteError> {
        if lookup == OWNER_LOOKUP {
            return self
                .pass(method, || action.sentence(), false, make, write_lost)
                .await;
        }
        crate::sync_watch::lookup_write_is_allowed(&self.sim, self.task, self.now(), lookup, action);
        let leaving = || {
            crate::sync_watch::lookup_write_leaves(&self.sim, self.task, lookup, action);
            make()
        };
        let about = || format!("{lookup}: {}", action.sentence());
        let answer = self.pass(method, about, false, leaving, write_lost).await;
        let key = crate::sync_watch::lookup_key(lookup, action);
        crate::sync_watch::answered(&self.sim, self.task, method, &key, answer.as_ref().err());
        if answer.is_ok() {
            let mut shared = self.sim.shared();
            let calls = shared.calls;
            shared.watch.syncs.value_written(lookup, action, self.task, calls);
        }
        answer
    }
}

#[async_trait]
impl Queue for Gate {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        let make = || async {
            for hint in hints {
                let (copies, latest) = self.sim.shared().fate.hint();
                for _ in 0..copies {
                    let after = self.sim.shared().chance.millis(latest);
                    self.sim.enqueue(hint.clone(), after);
                }
            }
            Ok(())
        };
        self.pass(
            Method::SendHints,
            || format!("{} hints", hints.len()),
            true,
            make,
            store_lost,
        )
        .await
    }
}

#[async_trait]
impl Clock for Gate {
    fn now(&self) -> Timestamp {
        self.sim.now().plus_millis(self.skew)
    }

    async fn sleep(&self, duration: Duration) {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let (_, before) = self.enter(Method::Sleep, String::new);
        match before {
            Before::Crash => self.mark(Mark::Crashed),
            Before::Stall(longer) => self.sleep_until(self.sim.now().0 + millis + longer, true),
            _ => self.sleep_until(self.sim.now().0 + millis, false),
        }
        Yield(false).await;
    }
}

impl Chance for Gate {
    fn token(&self) -> String {
        let mut shared = self.sim.shared();
        format!("{:016x}-{}", shared.chance.bits(), self.task)
    }

    fn up_to(&self, max: u64) -> u64 {
        self.sim.shared().chance.below(max.saturating_add(1))
    }
}
