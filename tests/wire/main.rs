//! The wire: the real flow, the real connectors and the real HTTP library against the simulators' sockets, with a faulty
//! line in between. What ports hide shows here: a library that sends by itself again, a deadline that ends with the
//! headers, an answer cut short that passes for one.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail where it stands, and says what it found"
)]

mod aws_line;
mod line;
#[path = "../contract/local_dynamo.rs"]
#[allow(dead_code, reason = "shared with the contract, which uses all of it")]
mod local_dynamo;

use async_trait::async_trait;
use connectors::connection::{ConnectionDocument, World as Ground, clients};
use connectors::coupa::CoupaClient;
use connectors::http::pace::Paces;
use connectors::http::transport::{HttpTransport, Request, Response, Transport, TransportError};
use connectors::qad::QadClient;
use domain::lifecycle::InvoiceRecord;
use domain::matching::SupplierInvoiceDraft;
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::delivery::Reads;
use flows::match_invoice::{self, InvoiceSettings};
use flows::neighbours::Home;
use flows::ports::{Chance, Clock, Coupa, HintReason, Outcomes, Qad, RecordKey, Register, WriteError};
use flows::store::{Context, parse};
use line::{Line, Trouble};
use sandbox::bench::{SharedClock, Tokens};
use sandbox::http::{Options, Simulators};
use sandbox::scenario::policy;
use sandbox::world::World;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tests::gate::{Seeded, ready};
use tests::harness::{BEGINNING, RECHECK_MILLIS};
use tests::memory_register::MemoryRegister;
use tests::small::{INVOICE, straight_through};

/// Longest whole call, in real milliseconds: a line that never answers costs this much.
const CALL_MILLIS: u64 = 500;
/// Seeded lives in an ordinary test run; all at once, so that their waits overlap.
const LIVES: u64 = 24;
/// Most runs one life may need.
const RUNS_MAX: u32 = 1_000;
/// Requests during which a life's line is faulty.
const FAULTY_REQUESTS: u64 = 30;

/// The real transport, counted: each of these is one request on the wire at most.
struct Counted {
    real: HttpTransport,
    sends: Arc<AtomicU64>,
}

#[async_trait]
impl Transport for Counted {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        self.sends.fetch_add(1, Ordering::SeqCst);
        self.real.send(request).await
    }
}

struct Bench {
    simulators: Simulators,
    coupa: CoupaClient,
    qad: QadClient,
    coupa_line: Line,
    qad_line: Line,
    sends: Arc<AtomicU64>,
    time: Arc<AtomicI64>,
    chance: Arc<Seeded>,
    register: MemoryRegister,
    settings: InvoiceSettings,
}

impl Bench {
    async fn new(seed: u64) -> Self {
        Self::over(straight_through(), seed).await
    }

    async fn over(world: World, seed: u64) -> Self {
        let time = Arc::new(AtomicI64::new(BEGINNING.0));
        let reads = Arc::clone(&time);
        let now: sandbox::ports::Now = Arc::new(move || Timestamp(reads.load(Ordering::SeqCst)));
        let simulators = Simulators::start(world, now, Options::default()).await.unwrap();
        let coupa_line = Line::to(&simulators.coupa_url).await;
        let qad_line = Line::to(&simulators.qad_url).await;
        let document = format!(
            r#"{{"coupa":{{"base_url":"{}","client_id":"example-coupa-client","client_secret":"example-coupa-secret",
                "scopes":["core.invoice.read","core.invoice.write"],"integration_history":{{"enabled":true}}}},
               "qad":{{"base_url":"{}","domain":"10USA","entity":"10USACO",
                "auth":{{"type":"password","client_id":"example-qad-client","username":"example-user","password":"example-password"}}}},
               "invoices":{{"invoice_daybook":"SI","credit_note_daybook":"SC","matching_daybook":"RM"}}}}"#,
            coupa_line.url, qad_line.url
        );
        let document = ConnectionDocument::parse(&document).unwrap();
        let sends = Arc::new(AtomicU64::new(0));
        let chance = Arc::new(Seeded::new(seed));
        let ground = Ground {
            transport: Arc::new(Counted {
                real: HttpTransport::new(),
                sends: Arc::clone(&sends),
            }),
            tokens: Arc::new(Tokens::default()),
            clock: Arc::new(SharedClock(Arc::clone(&time))),
            chance: Arc::clone(&chance) as Arc<dyn Chance>,
            paces: Arc::new(Paces::new(1)),
        };
        let connection = "example".parse().unwrap();
        let (coupa, qad) = clients(
            &connection,
            &document,
            &ground,
            Duration::from_millis(CALL_MILLIS),
        );
        Self {
            simulators,
            coupa,
            qad,
            coupa_line,
            qad_line,
            sends,
            time,
            chance,
            register: MemoryRegister::new(),
            settings: InvoiceSettings {
                policy: policy().unwrap(),
                recheck_millis: RECHECK_MILLIS,
                outcomes: Outcomes::History,
                adopt_equal_documents: true,
                second_person: domain::instruction::SecondPerson::default(),
                zone: domain::time::Zone::default(),
            },
        }
    }

    fn documents(&self) -> usize {
        let mut world = self.simulators.world.lock().unwrap();
        world.advance(Timestamp(self.time.load(Ordering::SeqCst)));
        world.qad.invoices.len()
    }

    fn exported(&self) -> bool {
        self.simulators.world.lock().unwrap().coupa.invoices[&INVOICE.0].exported
    }

    /// How often the simulators were asked for an operation, by their journal.
    fn asked(&self, operation: &str) -> usize {
        let journal = self.simulators.journal.lock().unwrap();
        journal
            .entries()
            .filter(|entry| entry.operation == operation)
            .count()
    }

    /// Requests of which anything arrived on the wire must not be more than what was sent.
    fn assert_nothing_was_sent_by_itself(&self, what: &str) {
        let arrived = self.coupa_line.arrived() + self.qad_line.arrived();
        let sent = self.sends.load(Ordering::SeqCst);
        assert!(
            arrived <= sent,
            "{what}: {arrived} requests on the wire for {sent} sends"
        );
    }

    /// A run of the flow.
    async fn run(&self) -> Option<InvoiceRecord> {
        let clock = SharedClock(Arc::clone(&self.time));
        // The flow believes the shortest chain that its calls fit into; the lateness stays what it is.
        let timing = Timing {
            http_millis: i64::try_from(CALL_MILLIS).unwrap(),
            ..tests::timing()
        };
        let context = Context {
            register: &self.register,
            clock: &clock,
            chance: &*self.chance,
            timing: &timing,
            deadline: clock
                .now()
                .plus_millis(timing.function_millis - timing.stop_margin_millis),
        };
        let home = Home {
            connection: "example".parse().unwrap(),
            tenant: tests::harness::tenant(),
        };
        let deps = match_invoice::Deps {
            context,
            home: &home,
            coupa: &self.coupa,
            qad: &self.qad,
            index: &self.register,
            reads: &Reads::default(),
            settings: &self.settings,
            entities: &[],
        };
        // A run that fails leaves its record as it is, and due.
        let _ = match_invoice::run(&deps, INVOICE, HintReason::Sweep).await;
        let stored = ready(self.register.read(&[RecordKey::Invoice(INVOICE)])).unwrap();
        let record: InvoiceRecord = parse(stored.first()?.as_ref()?).unwrap();
        let due = record.due(&timing).map_or(0, |due| due.0);
        self.time.fetch_max(due, Ordering::SeqCst);
        self.time.fetch_add(1_000, Ordering::SeqCst);
        Some(record)
    }

    async fn draft(&self) -> SupplierInvoiceDraft {
        let invoice = self.coupa.invoice(INVOICE).await.unwrap().unwrap();
        let mut orders = BTreeMap::new();
        let mut receipts = Vec::new();
        for number in invoice.orders() {
            orders.insert(number.clone(), self.qad.order(&number).await.unwrap());
            receipts.extend(self.qad.receipts_of_order(&number).await.unwrap());
        }
        let decision = domain::matching::decide(&domain::matching::MatchInput {
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
            policy: &self.settings.policy,
            today: BEGINNING.date_utc(),
        });
        match decision.verdict {
            domain::matching::Verdict::Approve { draft } => *draft,
            other => panic!("{other:?}"),
        }
    }
}

fn kind<T>(result: &Result<T, WriteError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(WriteError::NotApplied { .. }) => "not applied",
        Err(WriteError::Refused(_)) => "refused",
        Err(WriteError::Unknown(_)) => "unknown",
    }
}

/// Every trouble on the line of a create: it is sent once, whatever happens, and only what is proven is claimed.
#[tokio::test]
async fn a_create_is_sent_once_whatever_the_line_does_and_is_never_called_more_than_unknown() {
    for trouble in Trouble::ALL {
        let bench = Bench::new(1).await;
        let draft = bench.draft().await;
        bench.qad_line.next(trouble);
        let answer = bench.qad.create_invoice(&draft, "key").await;
        let (expected, documents) = trouble.on_a_write();
        assert_eq!(kind(&answer), expected, "{trouble:?}: {answer:?}");
        assert_eq!(bench.documents(), documents, "{trouble:?}");
        assert_eq!(bench.asked("supplier-invoices.create"), documents, "{trouble:?}");
        bench.assert_nothing_was_sent_by_itself(&format!("{trouble:?}"));
    }
}

/// The same for a PUT: libraries take it for idempotent and repeat it gladly.
#[tokio::test]
async fn a_put_is_sent_once_too() {
    for trouble in Trouble::ALL {
        let bench = Bench::new(1).await;
        bench.coupa.invoice(INVOICE).await.unwrap();
        let before = bench.coupa_line.arrived();
        bench.coupa_line.next(trouble);
        let answer = bench.coupa.mark_exported(INVOICE, "key").await;
        let (expected, handled) = trouble.on_a_write();
        assert_eq!(kind(&answer), expected, "{trouble:?}: {answer:?}");
        assert_eq!(bench.asked("invoices.exported"), handled, "{trouble:?}");
        assert!(bench.coupa_line.arrived() - before <= 1, "{trouble:?}");
    }
}

/// A look-up that the line spoils gives no answer, or the whole one after another try: never an empty one.
#[tokio::test]
async fn a_look_up_is_never_empty_because_of_the_line() {
    for trouble in Trouble::ALL {
        let bench = Bench::new(1).await;
        let draft = bench.draft().await;
        bench.qad.create_invoice(&draft, "key").await.unwrap();
        bench.qad_line.next(trouble);
        match bench.qad.find_invoices(&draft.identity).await {
            Ok(found) => assert_eq!(found.len(), 1, "{trouble:?}"),
            Err(error) => println!("{trouble:?}: {error}"),
        }
        bench.assert_nothing_was_sent_by_itself(&format!("{trouble:?}"));
    }
}

/// Connections that died while nobody looked: reads go on, and a write finds a connection of its own.
#[tokio::test]
async fn connections_that_died_between_requests_harm_nobody() {
    let bench = Bench::new(1).await;
    let draft = bench.draft().await;
    for _ in 0..5 {
        bench.qad_line.next(Trouble::DiesAfterAnswer);
        bench.qad.find_invoices(&draft.identity).await.unwrap();
    }
    bench.qad_line.next(Trouble::DiesAfterAnswer);
    bench.qad.find_invoices(&draft.identity).await.unwrap();
    bench.qad.create_invoice(&draft, "key").await.unwrap();
    assert_eq!(bench.documents(), 1);
    assert_eq!(bench.asked("supplier-invoices.create"), 1);
}

/// Whole lives over a line that does something at every second request: one document, exported, and nothing was ever sent
/// that the flow did not send.
#[tokio::test]
async fn whole_lives_over_a_faulty_line_end_with_one_document() {
    let lives = (1..=LIVES).map(|seed| async move {
        let bench = Bench::new(seed).await;
        bench.coupa_line.by_chance(seed, FAULTY_REQUESTS);
        bench.qad_line.by_chance(seed ^ 0x0AD, FAULTY_REQUESTS);
        let mut runs = 0;
        loop {
            runs += 1;
            assert!(runs < RUNS_MAX, "seed {seed} does not come to rest");
            let record = bench.run().await;
            let rests = record.is_some_and(|record| {
                record.state.word() == "exported" && record.note.is_none_or(|note| note.is_finished())
            });
            if rests {
                break;
            }
        }
        assert_eq!(bench.documents(), 1, "seed {seed}");
        assert!(bench.exported(), "seed {seed}");
        bench.assert_nothing_was_sent_by_itself(&format!("seed {seed}"));
        bench.coupa_line.troubles() + bench.qad_line.troubles()
    });
    let troubles: u64 = futures_util::future::join_all(lives).await.into_iter().sum();
    println!("{LIVES} lives with {troubles} troubles on their lines");
    assert!(troubles > LIVES, "{troubles}");
}
