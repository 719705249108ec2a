//! One Coupa instance, two companies in one QAD tenant with the same order numbers, and a stranger's ERP. Whatever an
//! invoice says it belongs to, no other company's books are even asked.

use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::{Invoice, Order, Receipt};
use domain::entities::{Condition, EntityRule};
use domain::ids::{InvoiceId, PurchaseOrderNumber, QadInvoiceIdentity};
use domain::lifecycle::InvoiceRecord;
use domain::matching::SupplierInvoiceDraft;
use domain::time::Date;
use flows::delivery::Reads;
use flows::match_invoice::{self, Entity, InvoiceSettings, Rest};
use flows::neighbours::Home;
use flows::ports::{
    Chance, Clock, Coupa, DocumentOutcome, Flagged, HintReason, InvoicePage, Qad, QadDocument, ReadError,
    ReceiptScan, WriteError,
};
use flows::store::Context;
use std::sync::atomic::{AtomicU64, Ordering};
use tests::gate::{Sim, ready};
use tests::harness::{Harness, Setup};
use tests::small::{INVOICE, straight_through};

const CHART: &str = "account-type.name";

/// One company's books, as its own view of QAD shows them: its entity, its domain, its orders.
struct Books<'a> {
    qad: &'a dyn Qad,
    entity: &'static str,
    domain: &'static str,
    asked: AtomicU64,
}

impl Books<'_> {
    fn hear(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn seen(&self, mut receipt: Receipt) -> Receipt {
        receipt.key.domain = self.domain.parse().unwrap();
        receipt
    }

    /// The same identity in the tenant below, which has one entity.
    fn below(&self, identity: &QadInvoiceIdentity) -> QadInvoiceIdentity {
        assert_eq!(identity.entity.as_str(), self.entity, "another company's books");
        QadInvoiceIdentity {
            entity: sandbox::world::qad::ENTITY.parse().unwrap(),
            ..identity.clone()
        }
    }

    fn shown(&self, mut document: QadDocument) -> QadDocument {
        document.identity.entity = self.entity.parse().unwrap();
        document
    }
}

#[async_trait]
impl Qad for Books<'_> {
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
        self.hear();
        let order = self.qad.order(number).await?;
        // Each domain has its own order of this number, and it belongs to the domain's company.
        Ok(order.map(|order| Order {
            entity: Some(self.entity.parse().unwrap()),
            ..order
        }))
    }
    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
        self.hear();
        let receipts = self.qad.receipts_of_order(number).await?;
        Ok(receipts.into_iter().map(|receipt| self.seen(receipt)).collect())
    }
    async fn receipts_since(&self, since: Date, page: u32) -> Result<ReceiptScan, ReadError> {
        self.hear();
        self.qad.receipts_since(since, page).await
    }
    async fn books_are_open(&self, day: Date) -> Result<Option<bool>, ReadError> {
        self.hear();
        self.qad.books_are_open(day).await
    }
    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
        self.hear();
        let found = self.qad.find_invoices(&self.below(identity)).await?;
        Ok(found.into_iter().map(|document| self.shown(document)).collect())
    }
    async fn create_invoice(
        &self,
        draft: &SupplierInvoiceDraft,
        key: &str,
    ) -> Result<QadDocument, WriteError> {
        self.hear();
        assert_eq!(draft.domain.as_str(), self.domain, "another company's orders");
        let below = SupplierInvoiceDraft {
            identity: self.below(&draft.identity),
            domain: sandbox::world::qad::DOMAIN.parse().unwrap(),
            ..draft.clone()
        };
        let created = self.qad.create_invoice(&below, key).await?;
        Ok(self.shown(created))
    }
}

/// A Coupa whose invoices are coded to these charts of accounts.
struct Coded<'a> {
    coupa: &'a dyn Coupa,
    charts: &'a [&'a str],
}

#[async_trait]
impl Coupa for Coded<'_> {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        let charts = self
            .charts
            .iter()
            .map(|chart| Some((*chart).to_owned()))
            .collect();
        let read = self.coupa.invoice(id).await?;
        Ok(read.map(|invoice| Invoice {
            entity_fields: [(CHART.to_owned(), charts)].into(),
            ..invoice
        }))
    }
    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        self.coupa.coupa_order(number).await
    }
    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        self.coupa.exportable_invoices(after).await
    }
    async fn mark_exported(&self, id: InvoiceId, key: &str) -> Result<Flagged, WriteError> {
        self.coupa.mark_exported(id, key).await
    }
    async fn record_outcome(
        &self,
        id: InvoiceId,
        outcome: &DocumentOutcome,
        key: &str,
    ) -> Result<(), WriteError> {
        self.coupa.record_outcome(id, outcome, key).await
    }
}

struct Hands<'a>(&'a Sim, AtomicU64);

#[async_trait]
impl Clock for Hands<'_> {
    fn now(&self) -> domain::time::Timestamp {
        self.0.now()
    }
    async fn sleep(&self, _: std::time::Duration) {}
}

impl Chance for Hands<'_> {
    fn token(&self) -> String {
        format!("hands-{}", self.1.fetch_add(1, Ordering::Relaxed))
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

/// What became of an invoice coded so, in two companies that know its order number.
struct Outcome {
    rest: Rest,
    record: Option<InvoiceRecord>,
    exported: bool,
    /// Questions to the American and to the German books.
    asked: (u64, u64),
    /// Documents there.
    documents: (usize, usize),
}

fn rule(code: &str, chart: &str) -> EntityRule {
    EntityRule {
        code: code.parse().unwrap(),
        when: vec![Condition {
            field: CHART.to_owned(),
            is: vec![chart.to_owned()],
        }],
    }
}

fn settings(entity: &str, domain: &str) -> InvoiceSettings {
    let mut settings = Setup::default().settings;
    settings.policy.entity = entity.parse().unwrap();
    settings.policy.domain = domain.parse().unwrap();
    settings
}

fn books<'a>(qad: &'a dyn Qad, entity: &'static str, domain: &'static str) -> Books<'a> {
    Books {
        qad,
        entity,
        domain,
        asked: AtomicU64::new(0),
    }
}

fn outcome(charts: &[&str], voided: bool, reason: HintReason) -> Outcome {
    let run = Harness::new(straight_through(), &Setup::default());
    let german = Harness::new(straight_through(), &Setup::default());
    run.fate(tests::gate::Calm);
    german.fate(tests::gate::Calm);
    if voided {
        let mut world = run.sim.world();
        world.coupa.invoices.get_mut(&INVOICE.0).unwrap().status = "voided".to_owned();
    }
    let us = books(&run.sim.ports, "10USACO", "10USA");
    let de = books(&german.sim.ports, "20GERCO", "20GER");
    let rules = [rule("10USACO", "QAD 10USA"), rule("20GERCO", "QAD 20GER")];
    let (of_us, of_de) = (settings("10USACO", "10USA"), settings("20GERCO", "20GER"));
    let [rule_us, rule_de] = &rules;
    let entities = [
        Entity {
            rule: rule_us,
            qad: &us,
            settings: &of_us,
        },
        Entity {
            rule: rule_de,
            qad: &de,
            settings: &of_de,
        },
    ];
    let hands = Hands(&run.sim, AtomicU64::new(0));
    let coupa = Coded {
        coupa: &run.sim.ports,
        charts,
    };
    let home = Home {
        connection: "example".parse().unwrap(),
        tenant: tests::harness::tenant(),
    };
    let deps = match_invoice::Deps {
        home: &home,
        context: Context {
            register: run.sim.register.as_ref(),
            clock: &hands,
            chance: &hands,
            timing: &run.sim.timing,
            deadline: run.sim.now().plus_seconds(600),
        },
        coupa: &coupa,
        qad: &us,
        index: run.sim.index.as_ref(),
        reads: &Reads::default(),
        settings: &of_us,
        entities: &entities,
    };
    let rest = ready(match_invoice::run(&deps, INVOICE, reason)).unwrap();
    let documents = |run: &Harness| run.sim.world().qad.invoices.len();
    let exported = run.sim.world().coupa.invoices[&INVOICE.0].exported;
    Outcome {
        rest,
        record: run.record(INVOICE),
        exported,
        asked: (us.asked(), de.asked()),
        documents: (documents(&run), documents(&german)),
    }
}

#[test]
fn an_order_number_of_two_companies_is_posted_in_the_invoices_own() {
    let us = outcome(&["QAD 10USA"], false, HintReason::Webhook);
    assert_eq!(
        (us.rest.word(), us.documents, us.exported),
        ("exported", (1, 0), true)
    );
    assert_eq!(us.asked.1, 0, "the German books were not asked");

    let german = outcome(&["QAD 20GER"], false, HintReason::Webhook);
    assert_eq!(german.documents, (0, 1), "{:?}", german.rest);
    assert_eq!((german.rest.word(), german.exported), ("exported", true));
    assert_eq!(german.asked.0, 0, "the American books were not asked");
    let entity = german.record.unwrap().entity.unwrap();
    assert_eq!(entity.as_str(), "20GERCO");
}

#[test]
fn another_erps_invoice_is_left_alone_voided_or_not() {
    for (voided, reason) in [
        (true, HintReason::Webhook),
        (true, HintReason::Poll),
        (false, HintReason::Webhook),
        (false, HintReason::Sweep),
    ] {
        let found = outcome(&["SAP Europe"], voided, reason);
        assert_eq!(found.rest.word(), "out-of-scope");
        assert_eq!(found.record, None, "nothing is remembered");
        assert!(!found.exported, "the other ERP learns of it");
        assert_eq!((found.asked, found.documents), ((0, 0), (0, 0)));
    }
}

#[test]
fn another_erps_invoice_is_remembered_when_a_person_asks_for_it() {
    let found = outcome(&["SAP Europe"], true, HintReason::Operator);
    let record = found.record.unwrap();
    assert_eq!(record.state.codes(), ["OUT_OF_SCOPE"]);
    assert!(!found.exported);
    assert_eq!((found.asked, found.documents), ((0, 0), (0, 0)));
}

#[test]
fn an_invoice_of_two_companies_is_a_persons() {
    for charts in [["QAD 10USA", "QAD 20GER"], ["QAD 10USA", "SAP Europe"]] {
        for voided in [false, true] {
            let found = outcome(&charts, voided, HintReason::Webhook);
            assert_eq!(found.record.unwrap().state.codes(), ["ENTITY_AMBIGUOUS"]);
            assert!(!found.exported);
            assert_eq!((found.asked, found.documents), ((0, 0), (0, 0)));
        }
    }
}
