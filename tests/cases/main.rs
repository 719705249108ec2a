//! Cases from the field: what Coupa and QAD say as JSON, and what has to become of it. Each file is one case; the real
//! connectors read it from the simulators' sockets, and the real flow decides and posts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test may say so by panicking"
)]

use connectors::connection::{ConnectionDocument, World as Ground, clients, entity_clients};
use connectors::coupa::CoupaClient;
use connectors::http::pace::Paces;
use connectors::http::transport::HttpTransport;
use connectors::qad::QadClient;
use domain::explain;
use domain::ids::InvoiceId;
use domain::lifecycle::InvoiceRecord;
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::delivery::Reads;
use flows::match_invoice::{self, Entity, InvoiceSettings, Rest};
use flows::ports::{Chance, Clock, HintReason};
use flows::store::Context;
use sandbox::bench::{SharedClock, Tokens};
use sandbox::http::{Options, Simulators};
use sandbox::world::World;
use sandbox::world::coupa::CoupaInvoice;
use sandbox::world::qad::{QadOrder, QadReceipt, Supplier, SupplierInvoice};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tests::memory_register::MemoryRegister;

/// 2026-11-30T10:00:00Z, after everything that the cases tell of.
const NOW: i64 = 1_796_032_800_000;
/// Longest whole call, in milliseconds; nothing in here is slow.
const CALL_MILLIS: u64 = 10_000;

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it shows.
    #[expect(dead_code, reason = "for readers of the file")]
    about: String,
    /// What the connection says otherwise.
    #[serde(default)]
    settings: Map<String, Value>,
    orders: Vec<QadOrder>,
    receipts: Vec<QadReceipt>,
    /// As Coupa writes them.
    invoices: Vec<Map<String, Value>>,
    steps: Vec<Step>,
}

/// One look at an invoice, and what is seen afterwards; what is not named is not compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    look: u64,
    state: String,
    #[serde(default)]
    codes: Vec<String>,
    /// Coupa's exported flag.
    exported: bool,
    total: Option<String>,
    tax: Option<String>,
    /// `RC1 10 at 10.00, finished`.
    matches: Option<Vec<String>>,
    /// `6150/300 50`.
    costs: Option<Vec<String>>,
    /// Part of the sentence that people read.
    says: Option<String>,
}

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
    document: ConnectionDocument,
    coupa: CoupaClient,
    qad: QadClient,
    entities: Vec<(QadClient, InvoiceSettings)>,
    register: MemoryRegister,
    chance: Arc<Counting>,
    time: Arc<AtomicI64>,
}

fn world(case: &Case) -> World {
    let now = Timestamp(NOW);
    let mut world = World::seed(&[], now);
    let supplier = Supplier {
        coupa_id: 1,
        name: "Example Supplier".to_owned(),
        coupa_number: Some("10S1007".to_owned()),
        qad_code: Some("10S1007".to_owned()),
        currency: "USD".to_owned(),
    };
    world.qad.add_supplier(&supplier, now);
    world.coupa.add_supplier(&supplier, now);
    for order in &case.orders {
        world.qad.add_order(order.clone());
        world.coupa.add_order(order, now);
    }
    for receipt in &case.receipts {
        world.qad.post_receipt(receipt.clone()).unwrap();
    }
    for raw in &case.invoices {
        world.coupa.add_invoice(invoice(raw.clone()), now);
    }
    world
}

/// Coupa keeps state and flag itself; everything else is what the case says.
fn invoice(mut raw: Map<String, Value>) -> CoupaInvoice {
    let mut known = json!({
        "id": raw["id"], "number": "-", "invoice-date": "2026-11-01", "supplier": 1, "currency": "USD", "lines": [],
    });
    for own in ["status", "exported"] {
        if let Some(value) = raw.remove(own) {
            known[own] = value;
        }
    }
    let mut invoice: CoupaInvoice = serde_json::from_value(known).unwrap();
    invoice.overrides = raw;
    invoice
}

fn merge(base: &mut Value, changes: &Map<String, Value>) {
    for (name, change) in changes {
        match (&mut base[name], change) {
            (Value::Object(_), Value::Object(deeper)) => merge(&mut base[name], deeper),
            (_, Value::Null) => {
                base.as_object_mut().unwrap().remove(name);
            }
            (place, _) => *place = change.clone(),
        }
    }
}

impl Bench {
    async fn of(case: &Case) -> Self {
        let time = Arc::new(AtomicI64::new(NOW));
        let reads = Arc::clone(&time);
        let now: sandbox::ports::Now = Arc::new(move || Timestamp(reads.load(Ordering::SeqCst)));
        let simulators = Simulators::start(world(case), now, Options::default())
            .await
            .unwrap();
        let mut document = json!({
            "coupa": {
                "base_url": simulators.coupa_url, "client_id": "example-coupa-client",
                "client_secret": "example-coupa-secret", "scopes": ["core.invoice.read", "core.invoice.write"],
            },
            "qad": {
                "base_url": simulators.qad_url, "domain": "10USA", "entity": "10USACO",
                "auth": {
                    "type": "password", "client_id": "example-qad-client", "username": "example-user",
                    "password": "example-password",
                },
            },
            "invoices": {
                "invoice_daybook": "SI", "credit_note_daybook": "SC", "matching_daybook": "RM",
                "charge_accounts": {"shipping": {"gl_account": "6100"}},
            },
        });
        merge(&mut document, &case.settings);
        let document = ConnectionDocument::parse(&document.to_string()).unwrap();
        let chance = Arc::new(Counting::default());
        let ground = Ground {
            transport: Arc::new(HttpTransport::new()),
            tokens: Arc::new(Tokens::default()),
            clock: Arc::new(SharedClock(Arc::clone(&time))),
            chance: chance.clone(),
            paces: Arc::new(Paces::new(1)),
        };
        let connection = "example".parse().unwrap();
        let timeout = Duration::from_millis(CALL_MILLIS);
        let (coupa, qad) = clients(&connection, &document, &ground, timeout);
        let entities = entity_clients(&connection, &document, &ground, timeout)
            .into_iter()
            .zip(&document.entities)
            .map(|(qad, entity)| (qad, document.entity_invoice_settings(entity)))
            .collect();
        Self {
            simulators,
            document,
            coupa,
            qad,
            entities,
            register: MemoryRegister::new(),
            chance,
            time,
        }
    }

    async fn look(&self, id: InvoiceId) -> Rest {
        let clock = SharedClock(Arc::clone(&self.time));
        let timing = Timing::default();
        let entities: Vec<Entity<'_>> = self
            .entities
            .iter()
            .zip(&self.document.entities)
            .map(|((qad, settings), entity)| Entity {
                rule: &entity.rule,
                qad,
                settings,
            })
            .collect();
        let deps = match_invoice::Deps {
            home: &self.document.home(&"example".parse().unwrap()),
            context: Context {
                register: &self.register,
                clock: &clock,
                chance: &*self.chance,
                timing: &timing,
                deadline: clock
                    .now()
                    .plus_millis(timing.function_millis - timing.stop_margin_millis),
            },
            coupa: &self.coupa,
            qad: &self.qad,
            index: &self.register,
            reads: &Reads::default(),
            settings: &self.document.invoice_settings(),
            entities: &entities,
        };
        match_invoice::run(&deps, id, HintReason::Webhook).await.unwrap()
    }

    /// The document in QAD that carries the mark of the Coupa invoice.
    fn document(&self, id: InvoiceId) -> Option<SupplierInvoice> {
        let world = self.simulators.world.lock().unwrap();
        let mark = format!("Coupa {id}");
        let mut ours = world
            .qad
            .invoices
            .iter()
            .filter(|document| document.record.description == mark);
        let first = ours.next().cloned();
        assert!(ours.next().is_none(), "{mark} is in QAD twice");
        first
    }

    fn exported(&self, id: InvoiceId) -> bool {
        self.simulators.world.lock().unwrap().coupa.invoices[&id.0].exported
    }
}

fn compare(name: &str, step: &Step, bench: &Bench, record: Option<&InvoiceRecord>, word: &str) {
    let id = InvoiceId(step.look);
    let told = record.map_or_else(String::new, explain::sentence);
    assert_eq!(word, step.state, "{name}, invoice {id}: {told}");
    let codes = record.map_or_else(Vec::new, |record| record.state.codes());
    assert_eq!(codes, step.codes, "{name}, invoice {id}: {told}");
    assert_eq!(bench.exported(id), step.exported, "{name}, invoice {id}");
    if let Some(says) = &step.says {
        assert!(told.contains(says), "{name}, invoice {id}: {told}");
    }
    let document = bench.document(id);
    let posted = matches!(word, "posted" | "exported");
    assert_eq!(document.is_some(), posted, "{name}, invoice {id}");
    let Some(document) = document.map(|document| document.record) else {
        return;
    };
    let same = |wanted: &Option<String>, amount: rust_decimal::Decimal, what: &str| {
        if let Some(wanted) = wanted {
            assert_eq!(amount, wanted.parse().unwrap(), "{name}, invoice {id}: {what}");
        }
    };
    same(&step.total, document.total_amount.0, "total");
    same(&step.tax, document.tax_amount.0, "tax");
    if let Some(wanted) = &step.matches {
        let matches: Vec<String> = document
            .receiver_matchings
            .iter()
            .map(|one| {
                let finished = if one.is_finished { ", finished" } else { "" };
                format!(
                    "{} {} at {}{finished}",
                    one.receiver_number, one.match_quantity.0, one.match_unit_price.0
                )
            })
            .collect();
        assert_eq!(&matches, wanted, "{name}, invoice {id}");
    }
    if let Some(wanted) = &step.costs {
        let costs: Vec<String> = document
            .additional_costs
            .iter()
            .map(|cost| {
                format!(
                    "{}/{} {}",
                    cost.gl_account_code,
                    cost.cost_center_code,
                    cost.amount.0.normalize()
                )
            })
            .collect();
        assert_eq!(&costs, wanted, "{name}, invoice {id}");
    }
}

#[tokio::test]
async fn every_case_ends_as_it_must() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy();
        let case: Case = serde_json::from_str(&std::fs::read_to_string(&file).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let bench = Bench::of(&case).await;
        for step in &case.steps {
            let rest = bench.look(InvoiceId(step.look)).await;
            let record = match &rest {
                Rest::In { record, .. } => Some(record.as_ref()),
                Rest::NotApproved { .. } | Rest::OutOfScope { .. } | Rest::Busy => None,
            };
            compare(&name, step, &bench, record, rest.word());
        }
    }
}
