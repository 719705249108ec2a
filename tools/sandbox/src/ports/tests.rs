//! What the ports make of faults: the same world, the words of [`flows::ports`].

use super::*;
use crate::faults::FaultRule;
use crate::scenario::{Scenario, day, policy};
use domain::explain::Standing;
use domain::matching::{MatchInput, Verdict, decide};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

const START: i64 = 1_774_000_000_000;

struct Bench {
    ports: WorldPorts,
    clock: Arc<AtomicI64>,
    draft: SupplierInvoiceDraft,
    invoice: InvoiceId,
}

impl Bench {
    async fn new() -> Self {
        let scenario: Scenario = day(1).into_iter().next().unwrap();
        let clock = Arc::new(AtomicI64::new(START));
        let reads = Arc::clone(&clock);
        let now: Now = Arc::new(move || Timestamp(reads.load(Ordering::SeqCst)));
        let ports = WorldPorts::new(
            World::seed(std::slice::from_ref(&scenario), Timestamp(START)),
            now,
        );
        let id = InvoiceId(scenario.invoices.first().unwrap().id);
        let invoice = ports.invoice(id).await.unwrap().unwrap();
        let number = invoice.orders().remove(0);
        let receipts = ports.receipts_of_order(&number).await.unwrap();
        let orders = BTreeMap::from([(number.clone(), ports.order(&number).await.unwrap())]);
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
        let Verdict::Approve { draft } = decision.verdict else {
            panic!("{decision:?}")
        };
        Self {
            ports,
            clock,
            draft: *draft,
            invoice: id,
        }
    }

    fn arm(&self, system: System, operation: &str, fault: Fault) {
        lock(&self.ports.faults).arm(FaultRule::next(system, operation, None, fault));
    }

    async fn create(&self) -> Result<QadDocument, WriteError> {
        self.ports.create_invoice(&self.draft, "key").await
    }

    async fn found(&self) -> usize {
        self.ports
            .find_invoices(&self.draft.identity)
            .await
            .unwrap()
            .len()
    }
}

fn status(status: u16, after_commit: bool) -> Fault {
    Fault::Status {
        status,
        retry_after: RetryAfter::Seconds(3),
        after_commit,
    }
}

#[tokio::test]
async fn a_created_document_is_found_with_its_number_and_our_mark() {
    let bench = Bench::new().await;
    let created = bench.create().await.unwrap();
    assert!(created.voucher.is_some());
    assert_eq!(created.description, domain::mark::of("", bench.invoice));
    assert_eq!(
        bench.ports.find_invoices(&bench.draft.identity).await.unwrap(),
        [created]
    );
}

#[tokio::test]
async fn what_may_have_happened_is_unknown_and_only_that() {
    for (fault, documents) in [
        (Fault::LostBefore, 0),
        (Fault::LostAfter, 1),
        (status(503, false), 0),
        (status(500, true), 1),
        (Fault::MalformedJson, 1),
        (Fault::TruncatedBody, 1),
        (Fault::HtmlPage, 0),
    ] {
        let bench = Bench::new().await;
        bench.arm(System::Qad, "supplier-invoices.create", fault.clone());
        assert!(
            matches!(bench.create().await, Err(WriteError::Unknown(_))),
            "{fault:?}"
        );
        assert_eq!(bench.found().await, documents, "{fault:?}");
    }
}

#[tokio::test]
async fn what_provably_did_not_happen_is_told_as_such() {
    for fault in [status(401, false), status(429, false), Fault::RecordInUse] {
        let bench = Bench::new().await;
        bench.arm(System::Qad, "supplier-invoices.create", fault.clone());
        assert!(
            matches!(bench.create().await, Err(WriteError::NotApplied { .. })),
            "{fault:?}"
        );
        assert_eq!(bench.found().await, 0, "{fault:?}");
    }
    for fault in [status(403, false), Fault::WarningOnly] {
        let bench = Bench::new().await;
        bench.arm(System::Qad, "supplier-invoices.create", fault.clone());
        assert!(
            matches!(bench.create().await, Err(WriteError::Refused(_))),
            "{fault:?}"
        );
        assert_eq!(bench.found().await, 0, "{fault:?}");
    }
}

#[tokio::test]
async fn a_late_commit_is_not_found_before_its_time() {
    let bench = Bench::new().await;
    bench.arm(
        System::Qad,
        "supplier-invoices.create",
        Fault::LateCommit { delay_ms: 500 },
    );
    assert!(matches!(bench.create().await, Err(WriteError::Unknown(_))));
    assert_eq!(bench.found().await, 0);
    bench.clock.fetch_add(500, Ordering::SeqCst);
    assert_eq!(bench.found().await, 1);
}

#[tokio::test]
async fn qads_own_refusal_names_the_field() {
    let bench = Bench::new().await;
    bench.create().await.unwrap();
    match bench.create().await {
        Err(WriteError::Refused(problem)) => assert_eq!(problem.field, "matchQuantity"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_failed_read_is_never_none() {
    let bench = Bench::new().await;
    for (fault, unavailable) in [
        (Fault::LostBefore, true),
        (Fault::TruncatedBody, true),
        (Fault::HtmlPage, true),
        (status(429, false), true),
        (status(403, false), false),
        (Fault::MalformedJson, false),
    ] {
        bench.arm(System::Qad, "supplier-invoices.find", fault.clone());
        let read = bench.ports.find_invoices(&bench.draft.identity).await;
        assert_eq!(
            matches!(read, Err(ReadError::Unavailable { .. })),
            unavailable,
            "{fault:?}"
        );
        assert!(read.is_err(), "{fault:?}");
    }
}

#[tokio::test]
async fn our_own_writes_do_not_change_the_content_of_an_invoice() {
    let bench = Bench::new().await;
    let before = bench.ports.invoice(bench.invoice).await.unwrap().unwrap();
    bench.clock.fetch_add(60_000, Ordering::SeqCst);
    bench.ports.mark_exported(bench.invoice, "key").await.unwrap();
    let after = bench.ports.invoice(bench.invoice).await.unwrap().unwrap();
    assert!(after.exported);
    assert!(after.source.updated_at > before.source.updated_at);
    assert_eq!(after.source.content_sha256, before.source.content_sha256);
    assert!(
        bench
            .ports
            .exportable_invoices(None)
            .await
            .unwrap()
            .heads
            .is_empty()
    );
}

#[tokio::test]
async fn an_outcome_resolves_the_one_before() {
    let bench = Bench::new().await;
    let outcome = |standing| DocumentOutcome {
        standing,
        code: "POSTED".to_owned(),
        message: "Posted.".to_owned(),
        external_id: None,
    };
    for standing in [Standing::ForAccountsPayable, Standing::Waiting] {
        bench
            .ports
            .record_outcome(bench.invoice, &outcome(standing), "key")
            .await
            .unwrap();
    }
    let world = lock(&bench.ports.world);
    let resolved: Vec<_> = world
        .coupa
        .history
        .values()
        .map(|record| record["resolved"].clone())
        .collect();
    assert_eq!(resolved, [true, false]);
}
