//! The two doors agree: what the connectors read and write over HTTP is what the same world says as ports.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a test may fail where it stands"
)]

use connectors::connection::{ConnectionDocument, World as Ground, clients};
use connectors::coupa::CoupaClient;
use connectors::http::pace::Paces;
use connectors::http::transport::HttpTransport;
use connectors::qad::QadClient;
use domain::documents::{Invoice, SourceVersion};
use domain::explain::Standing;
use domain::ids::InvoiceId;
use domain::matching::{MatchInput, SupplierInvoiceDraft, Verdict, decide};
use domain::time::Timestamp;
use flows::ports::{
    Chance, Coupa, CoupaPayments, CoupaTogether, DocumentOutcome, Qad, ReadError, TOGETHER_MAX, WriteError,
};
use sandbox::bench::{SharedClock, Tokens};
use sandbox::faults::{Fault, FaultRule, RetryAfter, System};
use sandbox::http::{Options, Simulators};
use sandbox::ports::WorldPorts;
use sandbox::scenario::{Step, day, play, policy};
use sandbox::world::World;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

const START: i64 = 1_774_000_000_000;

#[derive(Default)]
struct Counting(AtomicU64);

impl Chance for Counting {
    fn token(&self) -> String {
        format!("holder-{}", self.0.fetch_add(1, Ordering::SeqCst))
    }

    fn up_to(&self, max: u64) -> u64 {
        max
    }
}

struct Bench {
    simulators: Simulators,
    ports: WorldPorts,
    coupa: CoupaClient,
    qad: QadClient,
    time: Arc<AtomicI64>,
}

impl Bench {
    async fn new() -> Self {
        Self::with_auth(
            r#"{"type":"password","client_id":"example-qad-client","username":"example-user","password":"example-password"}"#,
        )
        .await
    }

    async fn with_auth(auth: &str) -> Self {
        let time = Arc::new(AtomicI64::new(START));
        let reads = Arc::clone(&time);
        let now: sandbox::ports::Now = Arc::new(move || Timestamp(reads.load(Ordering::SeqCst)));
        let world = World::seed(&day(1), Timestamp(START));
        let simulators = Simulators::start(world, now, Options::default()).await.unwrap();
        let document = format!(
            r#"{{"coupa":{{"base_url":"{}","client_id":"example-coupa-client","client_secret":"example-coupa-secret",
                "scopes":["core.invoice.read","core.invoice.write"],"integration_history":{{"enabled":true}}}},
               "qad":{{"base_url":"{}","domain":"10USA","entity":"10USACO","auth":{auth}}},
               "invoices":{{"invoice_daybook":"SI","credit_note_daybook":"SC","matching_daybook":"RM"}}}}"#,
            simulators.coupa_url, simulators.qad_url
        );
        let document = ConnectionDocument::parse(&document).unwrap();
        let ground = Ground {
            transport: Arc::new(HttpTransport::new()),
            tokens: Arc::new(Tokens::default()),
            clock: Arc::new(SharedClock(Arc::clone(&time))),
            chance: Arc::new(Counting::default()),
            paces: Arc::new(Paces::new(1)),
        };
        let connection = "example".parse().unwrap();
        let (coupa, qad) = clients(&connection, &document, &ground, Duration::from_secs(60));
        Self {
            ports: simulators.ports(),
            simulators,
            coupa,
            qad,
            time,
        }
    }

    fn arm(&self, system: System, operation: &str, fault: Fault) {
        self.simulators
            .faults
            .lock()
            .unwrap()
            .arm(FaultRule::next(system, operation, None, fault));
    }

    fn violations(&self) -> Vec<String> {
        let journal = self.simulators.journal.lock().unwrap();
        journal
            .entries()
            .filter_map(|entry| entry.contract_violation.clone())
            .collect()
    }

    fn documents(&self) -> usize {
        self.simulators.world.lock().unwrap().qad.invoices.len()
    }

    async fn first_draft(&self) -> SupplierInvoiceDraft {
        let id = day(1).remove(0).invoices.remove(0).id;
        draft_of(&self.ports, InvoiceId(id)).await.unwrap()
    }
}

async fn draft_of(ports: &WorldPorts, id: InvoiceId) -> Option<SupplierInvoiceDraft> {
    let invoice = ports.invoice(id).await.ok()??;
    let mut orders = BTreeMap::new();
    let mut receipts = Vec::new();
    for number in invoice.orders() {
        orders.insert(number.clone(), ports.order(&number).await.unwrap());
        receipts.extend(ports.receipts_of_order(&number).await.unwrap());
    }
    let decision = decide(&MatchInput {
        invoice: &invoice,
        orders: &orders,
        receipts: &receipts,
        reservations: &[],
        coupa_orders: &Default::default(),
        alike: &[],
        original: None,
        credited: None,
        same_number: None,
        billed_in_coupa: &Default::default(),
        policy: &policy().unwrap(),
        today: Timestamp(START).date_utc(),
    });
    match decision.verdict {
        Verdict::Approve { draft } => Some(*draft),
        Verdict::Hold { .. } | Verdict::Park { .. } => None,
    }
}

/// The two doors hash their own representations, and what the invoice says about its payment and for people goes over the wire alone;
/// everything else must be equal.
fn without_hash(invoice: Invoice) -> Invoice {
    Invoice {
        terms: Default::default(),
        particulars: Default::default(),
        source: SourceVersion {
            content_sha256: String::new(),
            ..invoice.source
        },
        ..invoice
    }
}

#[tokio::test]
async fn every_invoice_order_and_receipt_of_the_day_reads_the_same_over_http() {
    let bench = Bench::new().await;
    for scenario in day(1) {
        for expected in &scenario.expected {
            let id = InvoiceId(expected.invoice);
            let over_http = bench.coupa.invoice(id).await;
            let Ok(direct) = bench.ports.invoice(id).await else {
                assert!(
                    matches!(over_http, Err(ReadError::Unreadable(_))),
                    "{}: {over_http:?}",
                    scenario.name
                );
                continue;
            };
            let direct = direct.unwrap();
            assert_eq!(
                without_hash(over_http.unwrap().unwrap()),
                without_hash(direct.clone()),
                "{}",
                scenario.name
            );
            for number in direct.orders() {
                let over_http = bench.qad.order(&number).await.unwrap();
                assert_eq!(
                    over_http,
                    bench.ports.order(&number).await.unwrap(),
                    "{}",
                    scenario.name
                );
                let mut over_http = bench.qad.receipts_of_order(&number).await.unwrap();
                let mut direct = bench.ports.receipts_of_order(&number).await.unwrap();
                over_http.sort_by(|left, right| left.key.cmp(&right.key));
                direct.sort_by(|left, right| left.key.cmp(&right.key));
                assert_eq!(over_http, direct, "{}", scenario.name);
            }
        }
    }
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn several_documents_in_one_request_read_as_each_alone() {
    let bench = Bench::new().await;
    let mut ids = vec![InvoiceId(1)];
    ids.extend(
        day(1)
            .iter()
            .flat_map(|scenario| scenario.expected.iter().map(|one| InvoiceId(one.invoice))),
    );
    for ids in ids.chunks(TOGETHER_MAX) {
        let over_http = CoupaTogether::invoices(&bench.coupa, ids).await.unwrap();
        let direct = CoupaTogether::invoices(&bench.ports, ids).await.unwrap();
        let both = over_http.iter().zip(&direct);
        assert_eq!(over_http.len(), direct.len());
        assert!(both.into_iter().all(|(one, other)| one.id == other.id));
        let mut readable = Vec::new();
        for id in ids {
            readable.extend(bench.coupa.invoice(*id).await.ok().flatten());
        }
        readable.sort_by_key(|invoice| invoice.id);
        assert_eq!(over_http, readable);
        let bills = bench.coupa.bills(ids).await.unwrap();
        assert_eq!(bills.len(), bench.ports.bills(ids).await.unwrap().len());
        for bill in bills {
            assert_eq!(bench.coupa.bill(bill.id).await.unwrap(), Some(bill));
        }
    }
    let numbers: Vec<String> = day(1)
        .iter()
        .flat_map(|one| one.orders.iter().map(|order| order.number.clone()))
        .collect();
    let numbers = &numbers[..TOGETHER_MAX.min(numbers.len())];
    let orders = bench.coupa.coupa_orders(numbers).await.unwrap();
    assert!(!orders.is_empty());
    for order in orders {
        assert_eq!(bench.coupa.coupa_order(&order.number).await.unwrap(), Some(order));
    }
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn the_whole_list_of_exportable_invoices_is_the_same() {
    let bench = Bench::new().await;
    let mut after = None;
    loop {
        let over_http = bench.coupa.exportable_invoices(after).await.unwrap();
        assert_eq!(over_http, bench.ports.exportable_invoices(after).await.unwrap());
        if !over_http.more {
            break;
        }
        after = over_http.last;
    }
    assert!(after.is_some(), "more than one page");
    let since = jiff::civil::date(2026, 3, 2);
    assert_eq!(
        all_receipts(&bench.qad, since).await,
        all_receipts(&bench.ports, since).await
    );
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn everything_approvable_is_created_over_http_and_found_again() {
    let bench = Bench::new().await;
    let mut created = 0;
    for scenario in day(1) {
        for invoice in &scenario.invoices {
            let id = InvoiceId(invoice.id);
            let Some(draft) = draft_of(&bench.ports, id).await else {
                continue;
            };
            let before = bench.qad.find_invoices(&draft.identity).await.unwrap();
            let answer = bench.qad.create_invoice(&draft, "key").await.unwrap();
            assert_eq!(
                (answer.total, &answer.currency),
                (draft.total, &draft.currency),
                "{}",
                scenario.name
            );
            let after = bench.qad.find_invoices(&draft.identity).await.unwrap();
            assert_eq!(after.len(), before.len() + 1, "{}", scenario.name);
            assert!(after.contains(&answer), "{}", scenario.name);
            bench
                .coupa
                .mark_exported(id, &format!("exported-{id}"))
                .await
                .unwrap();
            assert!(bench.ports.invoice(id).await.unwrap().unwrap().exported);
            created += 1;
        }
    }
    assert!(created > 25, "{created}");
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_outcome_is_written_and_the_one_before_resolved() {
    let bench = Bench::new().await;
    let id = InvoiceId(day(1).remove(0).invoices.remove(0).id);
    for standing in [
        Standing::ForAccountsPayable,
        Standing::Waiting,
        Standing::Finished,
    ] {
        let outcome = DocumentOutcome {
            standing,
            code: "POSTED".to_owned(),
            message: "Posted.".to_owned(),
            external_id: Some("2026/SI/1".to_owned()),
        };
        bench
            .coupa
            .record_outcome(id, &outcome, &format!("note-{standing:?}"))
            .await
            .unwrap();
    }
    let world = bench.simulators.world.lock().unwrap();
    let resolved: Vec<_> = world
        .coupa
        .history
        .values()
        .map(|record| record["resolved"].clone())
        .collect();
    assert_eq!(
        resolved,
        [true, true, true],
        "what is finished does not stand open"
    );
    assert_eq!(bench.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn the_connectors_and_the_ports_say_the_same_about_each_fault_on_a_write() {
    let status = |status, after_commit| Fault::Status {
        status,
        retry_after: RetryAfter::Seconds(2),
        after_commit,
    };
    for fault in [
        Fault::LostBefore,
        Fault::LostAfter,
        Fault::LateCommit { delay_ms: 60_000 },
        Fault::MalformedJson,
        Fault::TruncatedBody,
        Fault::HtmlPage,
        Fault::RecordInUse,
        Fault::WarningOnly,
        Fault::BusinessRefusal {
            code: "X".to_owned(),
            field: "postingDate".to_owned(),
            message: "Closed".to_owned(),
        },
        status(403, false),
        status(429, false),
        status(500, true),
        status(503, false),
    ] {
        let bench = Bench::new().await;
        let draft = bench.first_draft().await;
        bench.arm(System::Qad, "supplier-invoices.create", fault.clone());
        let over_http = bench.qad.create_invoice(&draft, "key").await;
        let documents = bench.documents();
        let other = Bench::new().await;
        other.arm(System::Qad, "supplier-invoices.create", fault.clone());
        let direct = other.ports.create_invoice(&draft, "key").await;
        assert_eq!(kind(&over_http), kind(&direct), "{fault:?}: {over_http:?}");
        assert_eq!(documents, other.documents(), "{fault:?}");
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

#[tokio::test]
async fn an_expired_token_is_renewed_once_and_nobody_notices() {
    let bench = Bench::new().await;
    let draft = bench.first_draft().await;
    bench.qad.find_invoices(&draft.identity).await.unwrap();
    bench.coupa.invoice(draft.coupa_id).await.unwrap();
    // Coupa's own advice is to give a token of a few seconds time; this one is older.
    bench.time.fetch_add(60_000, Ordering::SeqCst);
    for system in [System::Coupa, System::Qad] {
        let mut world = bench.simulators.world.lock().unwrap();
        let mut faults = bench.simulators.faults.lock().unwrap();
        play(
            &Step::ExpireTokens(system),
            &mut world,
            &mut faults,
            Timestamp(START),
        )
        .unwrap();
    }
    bench.qad.create_invoice(&draft, "key").await.unwrap();
    bench.coupa.mark_exported(draft.coupa_id, "key").await.unwrap();
    assert_eq!(bench.documents() - 2, 1, "two were keyed by hand");
}

#[tokio::test]
async fn every_login_scheme_is_taken() {
    for auth in [
        r#"{"type":"client-credentials","client_id":"example-qad-client","client_secret":"example-qad-secret"}"#,
        r#"{"type":"basic","username":"example-user","password":"example-password"}"#,
        r#"{"type":"login","path":"/api/login","username":"example-user","password":"example-password"}"#,
    ] {
        let bench = Bench::with_auth(auth).await;
        let draft = bench.first_draft().await;
        assert!(
            bench.qad.find_invoices(&draft.identity).await.unwrap().is_empty(),
            "{auth}"
        );
    }
}

/// How many receipts all pages show; none of them unreadable.
async fn all_receipts(qad: &dyn Qad, since: domain::time::Date) -> usize {
    let mut count = 0;
    for page in 1.. {
        let scan = qad.receipts_since(since, page).await.unwrap();
        assert_eq!(scan.unreadable, []);
        count += scan.receipts.len();
        if !scan.more {
            break;
        }
    }
    count
}
