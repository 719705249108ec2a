//! Three connectors, one QAD, one script of faults: how many documents each makes of an invoice.
//!
//! | connector | what it does when something goes wrong |
//! |---|---|
//! | plain | leaves the exported flag and lets the queue bring the message again |
//! | with idempotency by a stored record, as Powertools for AWS Lambda does it | the same, behind a record per invoice: in progress until the function's timeout, deleted when the handler fails, complete afterwards |
//! | this one | the flow as it is |
//!
//! All three read the same documents and match them alike; the bills are for a part of what a receiver has, so that QAD itself
//! has no reason to refuse a second document. Script and order of the draws are the same, but each connector makes other calls.

use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::{Invoice, Order, Receipt};
use domain::ids::{InvoiceId, PurchaseOrderNumber, QadInvoiceIdentity};
use domain::lifecycle::InvoiceRecord;
use domain::matching::{MatchInput, SupplierInvoiceDraft, Verdict, decide};
use domain::time::{Date, Timestamp};
use flows::delivery::Reads;
use flows::match_invoice::{self, InvoiceSettings};
use flows::neighbours::Home;
use flows::ports::{
    Chance, Clock, Coupa, DocumentOutcome, Flagged, HintReason, InvoicePage, Outcomes, Qad, QadDocument,
    ReadError, ReceiptScan, RecordKey, WriteError,
};
use flows::store::{Context, load};
use sandbox::faults::{Fault, FaultRule, RetryAfter, System, When};
use sandbox::ports::WorldPorts;
use sandbox::scenario::policy;
use sandbox::world::World;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;
use tests::gate::Rng;
use tests::harness::BEGINNING;
use tests::memory_register::MemoryRegister;
use tests::small::{invoice, order, receipt, world};

/// Of a thousand calls of a worker, after how many it dies.
const KILLED_PER_MILLE: u64 = 30;
/// How long after its end a late commit appears, in milliseconds.
const LATE_MS: u32 = 60_000;
/// How long the queue hides a message that was not deleted, in milliseconds.
const VISIBILITY_MILLIS: i64 = 1_080_000;
/// How often the queue brings a message.
const RECEIVES_MAX: u32 = 5;
/// The functions' timeout, in milliseconds.
const FUNCTION_MILLIS: i64 = 180_000;
/// Most looks that one of our invoices may take.
const LOOKS_MAX: u32 = 200;
/// Pieces of a bill; its receiver has three times as many.
const PIECES: u32 = 10;

/// What goes wrong with requests, of a thousand: heavier than any bad day, so that some thousand invoices show it.
fn script(faults: &mut sandbox::faults::Faults, seed: u64) {
    let status = |status, after_commit| Fault::Status {
        status,
        retry_after: RetryAfter::Absent,
        after_commit,
    };
    let create = [
        (80, Fault::LostAfter),
        (40, Fault::LateCommit { delay_ms: LATE_MS }),
        (40, status(504, true)),
        (40, Fault::RecordInUse),
    ];
    let all = [
        (30, Fault::LostBefore),
        (30, status(503, false)),
        (20, Fault::LostAfter),
    ];
    let mut arm = |system, operation: &str, per_mille, fault| {
        faults.arm(FaultRule {
            system,
            operation: operation.to_owned(),
            key: None,
            when: When::Chance { per_mille, seed },
            fault,
        });
    };
    for (per_mille, fault) in create {
        arm(System::Qad, "supplier-invoices.create", per_mille, fault);
    }
    for system in [System::Coupa, System::Qad] {
        for (per_mille, fault) in all.clone() {
            arm(system, "*", per_mille, fault);
        }
    }
}

/// The ports of a worker that may die after any call.
struct Mortal<'a> {
    ports: &'a WorldPorts,
    rng: &'a Mutex<Rng>,
}

impl Mortal<'_> {
    async fn survive(&self) {
        let dies = self.rng.lock().unwrap().per_mille(KILLED_PER_MILLE);
        if dies {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Coupa for Mortal<'_> {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        let answer = self.ports.invoice(id).await;
        self.survive().await;
        answer
    }
    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        let answer = self.ports.coupa_order(number).await;
        self.survive().await;
        answer
    }
    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        self.ports.exportable_invoices(after).await
    }
    async fn mark_exported(&self, id: InvoiceId, key: &str) -> Result<Flagged, WriteError> {
        let answer = self.ports.mark_exported(id, key).await;
        self.survive().await;
        answer
    }
    async fn record_outcome(
        &self,
        id: InvoiceId,
        outcome: &DocumentOutcome,
        key: &str,
    ) -> Result<(), WriteError> {
        self.ports.record_outcome(id, outcome, key).await
    }
}

#[async_trait]
impl Qad for Mortal<'_> {
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
        let answer = self.ports.order(number).await;
        self.survive().await;
        answer
    }
    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
        let answer = self.ports.receipts_of_order(number).await;
        self.survive().await;
        answer
    }
    async fn receipts_since(&self, since: Date, page: u32) -> Result<ReceiptScan, ReadError> {
        self.ports.receipts_since(since, page).await
    }
    async fn books_are_open(&self, day: Date) -> Result<Option<bool>, ReadError> {
        self.ports.books_are_open(day).await
    }
    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
        let answer = self.ports.find_invoices(identity).await;
        self.survive().await;
        answer
    }
    async fn create_invoice(
        &self,
        draft: &SupplierInvoiceDraft,
        key: &str,
    ) -> Result<QadDocument, WriteError> {
        let answer = self.ports.create_invoice(draft, key).await;
        self.survive().await;
        answer
    }
}

/// A clock that moves when somebody waits.
struct Moving(Arc<AtomicI64>);

#[async_trait]
impl Clock for Moving {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        self.0
            .fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

struct Drawn<'a>(&'a Mutex<Rng>);

impl Chance for Drawn<'_> {
    fn token(&self) -> String {
        format!("{:016x}", self.0.lock().unwrap().bits())
    }
    fn up_to(&self, max: u64) -> u64 {
        self.0.lock().unwrap().below(max.saturating_add(1))
    }
}

/// Runs a worker to its end, or until it dies. Nothing here waits for anybody else.
fn until_death<T>(work: impl Future<Output = T>) -> Option<T> {
    match pin!(work).poll(&mut std::task::Context::from_waker(Waker::noop())) {
        Poll::Ready(ended) => Some(ended),
        Poll::Pending => None,
    }
}

/// The clock, the lot and the ports of one connector.
pub(crate) struct Ground {
    time: Arc<AtomicI64>,
    rng: Mutex<Rng>,
    ports: WorldPorts,
}

impl Ground {
    fn new(world: World, seed: u64) -> Self {
        let time = Arc::new(AtomicI64::new(BEGINNING.0));
        let reads = Arc::clone(&time);
        let ports = WorldPorts::new(world, Arc::new(move || Timestamp(reads.load(Ordering::SeqCst))));
        script(&mut ports.faults.lock().unwrap(), seed);
        Self {
            time,
            rng: Mutex::new(Rng::new(seed)),
            ports,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::SeqCst))
    }

    fn pass(&self, millis: i64) {
        self.time.fetch_add(millis, Ordering::SeqCst);
    }

    fn worker(&self) -> Mortal<'_> {
        Mortal {
            ports: &self.ports,
            rng: &self.rng,
        }
    }
}

/// Why a handler failed: the function ends with an error, and the message comes again.
struct Failed;

/// What everybody writes first: read, match, create, mark.
async fn post(worker: &Mortal<'_>, id: InvoiceId, now: Timestamp) -> Result<(), Failed> {
    let invoice = worker.invoice(id).await.map_err(|_| Failed)?.ok_or(Failed)?;
    if invoice.exported {
        return Ok(());
    }
    let mut orders = BTreeMap::new();
    let mut receipts = Vec::new();
    for number in invoice.orders() {
        orders.insert(number.clone(), worker.order(&number).await.map_err(|_| Failed)?);
        receipts.extend(worker.receipts_of_order(&number).await.map_err(|_| Failed)?);
    }
    let policy = policy().unwrap();
    let decision = decide(&MatchInput {
        invoice: &invoice,
        orders: &orders,
        receipts: &receipts,
        reservations: &[],
        coupa_orders: &BTreeMap::new(),
        alike: &[],
        original: None,
        credited: None,
        same_number: None,
        billed_in_coupa: &Default::default(),
        policy: &policy,
        today: now.date_utc(),
    });
    let Verdict::Approve { draft } = decision.verdict else {
        return Err(Failed);
    };
    worker.create_invoice(&draft, "").await.map_err(|_| Failed)?;
    worker.mark_exported(id, "").await.map_err(|_| Failed)?;
    Ok(())
}

/// The queue: the message comes again until the handler succeeds, or the queue gives it up.
fn delivered(ground: &Ground, mut handler: impl FnMut() -> bool) {
    for _ in 0..RECEIVES_MAX {
        if handler() {
            return;
        }
        ground.pass(VISIBILITY_MILLIS);
    }
}

fn plain(ground: &Ground, id: InvoiceId) {
    delivered(ground, || {
        let worker = ground.worker();
        matches!(until_death(post(&worker, id, ground.now())), Some(Ok(())))
    });
}

/// The states of Powertools' persistence record.
enum Idempotency {
    InProgress { until: Timestamp },
    Completed,
}

fn with_a_stored_record(ground: &Ground, id: InvoiceId) {
    let mut record: Option<Idempotency> = None;
    delivered(ground, || {
        match &record {
            Some(Idempotency::Completed) => return true,
            Some(Idempotency::InProgress { until }) if ground.now() < *until => return false,
            Some(Idempotency::InProgress { .. }) | None => {}
        }
        record = Some(Idempotency::InProgress {
            until: ground.now().plus_millis(FUNCTION_MILLIS),
        });
        let worker = ground.worker();
        match until_death(post(&worker, id, ground.now())) {
            Some(Ok(())) => {
                record = Some(Idempotency::Completed);
                true
            }
            Some(Err(Failed)) => {
                record = None;
                false
            }
            // It could not even say that it failed.
            None => false,
        }
    });
}

fn this_one(ground: &Ground, id: InvoiceId) {
    let register = MemoryRegister::new();
    let clock = Moving(Arc::clone(&ground.time));
    let chance = Drawn(&ground.rng);
    let timing = tests::timing();
    let home = Home {
        connection: "example".parse().unwrap(),
        tenant: tests::harness::tenant(),
    };
    let settings = InvoiceSettings {
        policy: policy().unwrap(),
        recheck_millis: 86_400_000,
        outcomes: Outcomes::Nothing,
        adopt_equal_documents: true,
        second_person: Default::default(),
        zone: Default::default(),
    };
    for look in 0..LOOKS_MAX {
        let worker = ground.worker();
        let deps = match_invoice::Deps {
            context: Context {
                register: &register,
                clock: &clock,
                chance: &chance,
                timing: &timing,
                deadline: clock
                    .now()
                    .plus_millis(timing.function_millis - timing.stop_margin_millis),
            },
            home: &home,
            coupa: &worker,
            qad: &worker,
            reads: &Reads::default(),
            index: &register,
            settings: &settings,
            entities: &[],
        };
        let reason = if look == 0 {
            HintReason::Webhook
        } else {
            HintReason::Sweep
        };
        let ended = until_death(match_invoice::run(&deps, id, reason));
        let key = RecordKey::Invoice(id);
        let stored = until_death(load::<InvoiceRecord>(&register, key))
            .unwrap()
            .unwrap();
        match stored.and_then(|stored| stored.document.due(&timing)) {
            Some(due) => drop(ground.time.fetch_max(due.0, Ordering::SeqCst)),
            None if matches!(ended, Some(Ok(_))) => return,
            // Nothing was stored yet: the message comes again.
            None => ground.pass(VISIBILITY_MILLIS),
        }
    }
}

/// What a connector made of the invoices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Made {
    /// Invoices.
    pub(crate) invoices: usize,
    /// Documents in QAD.
    pub(crate) documents: usize,
    /// Invoices with more than one.
    pub(crate) twice: usize,
    /// Invoices without any.
    pub(crate) missing: usize,
}

/// Worlds are small, so that looking something up in them is quick.
const INVOICES_PER_WORLD: usize = 50;

pub(crate) type Connector = fn(&Ground, InvoiceId);

/// The connectors.
pub(crate) const CONNECTORS: [(&str, Connector); 3] = [
    ("plain connector", plain),
    ("with a stored idempotency record", with_a_stored_record),
    ("this connector", this_one),
];

/// Lets a connector work on so many invoices.
pub(crate) fn work(connector: Connector, invoices: usize) -> Made {
    let mut made = Made::default();
    for seed in 1..=invoices.div_ceil(INVOICES_PER_WORLD) as u64 {
        let ids: Vec<InvoiceId> = (1..=INVOICES_PER_WORLD as u64).map(InvoiceId).collect();
        let name = |id: &InvoiceId| format!("PO{id}");
        let world = world(
            ids.iter().map(|id| order(&name(id), 3 * PIECES)).collect(),
            ids.iter()
                .map(|id| receipt(&name(id), &format!("RC{id}"), 3 * PIECES))
                .collect(),
            ids.iter().map(|id| invoice(*id, &name(id), PIECES)).collect(),
        );
        let ground = Ground::new(world, seed);
        for id in &ids {
            connector(&ground, *id);
        }
        // Whatever was late has landed.
        ground.pass(VISIBILITY_MILLIS);
        let mut world = ground.ports.world.lock().unwrap();
        world.advance(ground.now());
        let mut documents: BTreeMap<String, usize> = BTreeMap::new();
        for document in &world.qad.invoices {
            let reference = document.record.supplier_invoice_reference.clone();
            *documents.entry(reference).or_default() += 1;
        }
        made.invoices += ids.len();
        made.documents += world.qad.invoices.len();
        made.twice += documents.values().filter(|count| **count > 1).count();
        made.missing += ids.len() - documents.len();
    }
    made
}
