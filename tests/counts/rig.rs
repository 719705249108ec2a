//! Everything of the product but the processes: the wiring of the functions, the real connectors and the real SDK, against the
//! simulators' sockets and a local AWS, with a meter in front of DynamoDB.

use crate::local_dynamo::Tables;
use crate::meter::{Meter, Used};
use async_trait::async_trait;
use aws::clients::Clients;
use aws::clock::SystemClock;
use aws::config::Config;
use aws::lambda::{Invocation, World as AwsWorld};
use aws::sqs::{BatchTimes, serve};
use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use domain::ids::InvoiceId;
use domain::lifecycle::InvoiceRecord;
use domain::payments::BillPayments;
use domain::time::Timestamp;
use flows::ports::{Chance, Clock, Collection, Hint, HintReason, RecordKey, Subject};
use flows::store::load;
use sandbox::http::{Options, Simulators};
use sandbox::local::LocalAws;
use sandbox::local::aws::REGION;
use sandbox::world::World;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::gate::Seeded;
use tests::harness::BEGINNING;
use wiring::{Scheduled, Wiring};

const CONNECTION: &str = "example";
const SECRETS: &str = "counts/connection/";
/// A wait as long as this is the end of a function, which never comes here; shorter ones only move the clock.
const ENDLESS_SECONDS: u64 = 60;
/// How long an invocation may take, on this clock.
const INVOCATION_MILLIS: i64 = 180_000;
/// Most requests a second that a connection may be given.
const RATES_MAX: [(&str, u32); 2] = [("coupa", 25), ("qad", 100)];
/// Most looks that an invoice or a bill may need until it rests.
const LOOKS_MAX: u32 = 200;

/// A clock on which nobody waits.
struct Hurried(Arc<AtomicI64>);

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, duration: Duration) {
        if duration.as_secs() >= ENDLESS_SECONDS {
            std::future::pending::<()>().await;
        }
        // Until then: of several who wait at once, each waits for its own time and not for the others' too.
        let until = self
            .now()
            .plus_millis(i64::try_from(duration.as_millis()).unwrap());
        tokio::task::yield_now().await;
        self.0.fetch_max(until.0, Ordering::SeqCst);
    }
}

/// What something cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Cost {
    /// Requests to Coupa and QAD, by `<system>.<operation>`.
    pub(crate) outside: BTreeMap<String, u64>,
    /// DynamoDB.
    pub(crate) dynamo: Used,
}

impl Cost {
    /// Requests to Coupa and QAD in all.
    pub(crate) fn calls(&self) -> u64 {
        self.outside.values().sum()
    }

    /// The same without those of the polls for payments, which all invoices share.
    pub(crate) fn unpolled(&self) -> u64 {
        let polls = ["qad.browse.payments", "qad.browse.changed-invoices"];
        let shared: u64 = polls.iter().filter_map(|poll| self.outside.get(*poll)).sum();
        self.calls() - shared
    }
}

/// The parts.
pub(crate) struct Rig {
    /// Both systems.
    pub(crate) simulators: Simulators,
    /// Function instance that has been in use.
    pub(crate) wiring: Wiring,
    time: Arc<AtomicI64>,
    meter: Meter,
    seen: Mutex<BTreeMap<String, u64>>,
    truth: aws::dynamo::DynamoRegister,
    deliveries: AtomicU64,
    /// The environment of a function.
    pub(crate) environment: BTreeMap<&'static str, String>,
    /// SQS, Secrets Manager, and what is behind the meter.
    pub(crate) aws: LocalAws,
}

fn document(simulators: &Simulators, at_most: bool) -> String {
    let mut document = serde_json::json!({
        "token_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "coupa": {
            "base_url": simulators.coupa_url, "client_id": "example-coupa-client", "client_secret": "example-coupa-secret",
            "scopes": ["core.invoice.read", "core.invoice.write", "core.purchase_order.read"],
        },
        "qad": {
            "base_url": simulators.qad_url, "domain": "10USA", "entity": "10USACO",
            "auth": {"type": "password", "client_id": "example-qad-client", "username": "example-user", "password": "example-password"},
        },
        "invoices": {
            "invoice_daybook": "SI", "credit_note_daybook": "SC", "matching_daybook": "RM", "credit_terms": {"NET30": "N30"},
        },
    });
    if at_most {
        for (system, rate) in RATES_MAX {
            document[system]["requests_per_second"] = rate.into();
        }
    }
    document.to_string()
}

impl Rig {
    /// A world, and one function instance that has done nothing yet.
    pub(crate) async fn over(world: World) -> Self {
        let time = Arc::new(AtomicI64::new(BEGINNING.0));
        let reads = Arc::clone(&time);
        let now: sandbox::ports::Now = Arc::new(move || Timestamp(reads.load(Ordering::SeqCst)));
        Self::of(world, time, now, false).await
    }

    /// The same for programs of their own, whose clock is the machine's, as is that of both systems; both are asked as often
    /// as a connection may.
    pub(crate) async fn on_the_machines_clock(world: World) -> Self {
        let time = Arc::new(AtomicI64::new(SystemClock.now().0));
        Self::of(world, time, Arc::new(|| SystemClock.now()), true).await
    }

    async fn of(world: World, time: Arc<AtomicI64>, now: sandbox::ports::Now, at_most: bool) -> Self {
        let simulators = Simulators::start(world, now, Options::default()).await.unwrap();
        let local = LocalAws::start(None, 0, 0).await.unwrap();
        let meter = Meter::to(local.dynamodb_url()).await;
        let tables = Tables::named("counts");
        let queue = local.sqs.create("invoices", &BTreeMap::new()).await.unwrap();
        let payments = local.sqs.create("payments", &BTreeMap::new()).await.unwrap();
        let secret = SecretString::from(document(&simulators, at_most));
        local
            .secrets
            .create(&format!("{SECRETS}{CONNECTION}"), &secret)
            .await
            .unwrap();
        let environment = [
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_ENDPOINT_URL_DYNAMODB", &meter.url),
            ("AWS_ENDPOINT_URL_SQS", local.messaging_url()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", local.messaging_url()),
            ("REGISTER_TABLE", &tables.register),
            ("AUDIT_TABLE", &tables.audit),
            ("TOKENS_TABLE", &tables.tokens),
            ("INVOICES_QUEUE_URL", &queue),
            ("PAYMENTS_QUEUE_URL", &payments),
            ("CONNECTION_SECRET_PREFIX", SECRETS),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let environment = BTreeMap::from(environment);
        let config = Config::read(|name| environment.get(name).cloned()).unwrap();
        let mut direct = config.aws().unwrap();
        direct.dynamodb_url = Some(local.dynamodb_url().to_owned());
        let direct = Clients::new(direct).dynamodb();
        tables.create(&direct).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Hurried(Arc::clone(&time)));
        let chance: Arc<dyn Chance> = Arc::new(Seeded::new(1));
        let truth = aws::dynamo::DynamoRegister::new(
            direct,
            config.register_tables().unwrap(),
            CONNECTION.parse().unwrap(),
            Arc::clone(&clock),
            Arc::clone(&chance),
        );
        let clients = Clients::new(config.aws().unwrap());
        let world = AwsWorld {
            config,
            clients,
            clock,
            chance,
        };
        Self {
            simulators,
            wiring: Wiring::new(world).ok().unwrap(),
            time,
            meter,
            seen: Mutex::default(),
            truth,
            deliveries: AtomicU64::new(0),
            environment,
            aws: local,
        }
    }
    /// What was spent since this was last asked.
    pub(crate) fn spent(&self) -> Cost {
        let now = self.simulators.journal.lock().unwrap().counters().clone();
        let before = std::mem::replace(&mut *self.seen.lock().unwrap(), now.clone());
        let outside = now
            .into_iter()
            .map(|(name, count)| {
                let seen = before.get(&name).copied().unwrap_or(0);
                (name, count - seen)
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        Cost {
            outside,
            dynamo: self.meter.take(),
        }
    }

    /// An invocation of its own.
    pub(crate) fn invocation(&self) -> Invocation {
        let number = self.deliveries.fetch_add(1, Ordering::SeqCst);
        Invocation {
            request_id: format!("request-{number}"),
            deadline: self.now().plus_millis(INVOCATION_MILLIS),
        }
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.time.load(Ordering::SeqCst))
    }

    /// Time passes.
    pub(crate) fn pass(&self, millis: i64) {
        self.time.fetch_add(millis, Ordering::SeqCst);
    }

    /// Whose turn it is.
    pub(crate) fn scheduled(&self) -> Scheduled {
        Scheduled {
            connection: CONNECTION.parse().unwrap(),
        }
    }

    /// One delivery of the queue, as the functions take it. Those that failed come again, which their records see to.
    pub(crate) async fn deliver(&self, hints: Vec<Hint>) {
        let mut event = SqsEvent::default();
        for (number, hint) in hints.iter().enumerate() {
            let mut message = SqsMessage::default();
            message.message_id = Some(number.to_string());
            message.body = Some(serde_json::to_string(hint).unwrap());
            event.records.push(message);
        }
        let invocation = self.invocation();
        let times = BatchTimes::new(invocation.deadline, 10_000);
        let wiring = &self.wiring;
        serve(event, times, wiring.clock(), async |hint| {
            wiring.handle(hint, &invocation).await
        })
        .await
        .unwrap();
    }

    /// A hint about an invoice.
    pub(crate) fn about(id: InvoiceId, reason: HintReason) -> Hint {
        Self::hint(Subject::Invoice(id), reason)
    }

    /// A hint about the payments of an invoice.
    pub(crate) fn about_bill(id: InvoiceId, reason: HintReason) -> Hint {
        let id = id.to_string();
        let collection = Collection::Bill;
        Self::hint(Subject::Entry { collection, id }, reason)
    }

    fn hint(subject: Subject, reason: HintReason) -> Hint {
        Hint::V1 {
            connection: CONNECTION.parse().unwrap(),
            subject,
            reason,
            trace: "counts".to_owned(),
        }
    }

    /// The invoice as stored, asked around the meter.
    pub(crate) async fn record(&self, id: InvoiceId) -> Option<InvoiceRecord> {
        let loaded = load::<InvoiceRecord>(&self.truth, RecordKey::Invoice(id)).await;
        loaded.unwrap().map(|loaded| loaded.document)
    }

    /// The state's word; nothing for what is not known.
    pub(crate) async fn state(&self, id: InvoiceId) -> &'static str {
        self.record(id).await.map_or("", |record| record.state.word())
    }

    async fn bill(&self, id: InvoiceId) -> Option<BillPayments> {
        let key = RecordKey::Entry {
            collection: Collection::Bill,
            id: id.to_string(),
        };
        let loaded = load::<BillPayments>(&self.truth, key).await.unwrap();
        loaded.map(|loaded| loaded.document)
    }

    /// Delivers hints, and again whenever one of these invoices is due, until all are exported.
    pub(crate) async fn until_exported(&self, ids: &[InvoiceId]) {
        let mut reason = HintReason::Webhook;
        for _ in 0..LOOKS_MAX {
            let mut open = Vec::new();
            for id in ids {
                if self.state(*id).await != "exported" {
                    open.push(*id);
                }
            }
            if open.is_empty() {
                return;
            }
            if reason == HintReason::Sweep {
                self.wait_for(&open).await;
            }
            self.deliver(open.into_iter().map(|id| Self::about(id, reason)).collect())
                .await;
            reason = HintReason::Sweep;
        }
        panic!("{ids:?} do not come to rest");
    }

    /// Until the first of them is due.
    async fn wait_for(&self, open: &[InvoiceId]) {
        let mut due = Vec::new();
        for id in open {
            let record = self.record(*id).await;
            due.extend(record.and_then(|record| record.due(self.wiring.timing())));
        }
        let first = due.into_iter().min().unwrap_or(self.now());
        self.time.fetch_max(first.0, Ordering::SeqCst);
        self.pass(1);
    }

    /// Polls QAD's payments and delivers what came of it until each invoice is shown as paid in Coupa.
    pub(crate) async fn until_paid(&self, ids: &[InvoiceId]) {
        let scheduled = self.scheduled();
        for _ in 0..LOOKS_MAX {
            if self.is_paid(ids).await {
                return;
            }
            let mut known = Vec::new();
            for id in ids {
                if self.bill(*id).await.is_some() {
                    known.push(*id);
                }
            }
            if known.len() < ids.len() {
                // What failed is asked again at the next poll.
                let _ = self.wiring.poll_payments(&scheduled, &self.invocation()).await;
                known = ids.to_vec();
            } else {
                self.pass(60_000);
            }
            let hints = known
                .into_iter()
                .map(|id| Self::about_bill(id, HintReason::Payment));
            self.deliver(hints.collect()).await;
        }
        panic!("{ids:?} are not paid");
    }

    async fn is_paid(&self, ids: &[InvoiceId]) -> bool {
        for id in ids {
            let is_open = |bill: BillPayments| {
                bill.entry.is_none_or(|entry| !entry.is_finished()) || bill.look_again.is_some()
            };
            if self.bill(*id).await.is_none_or(is_open) {
                return false;
            }
        }
        let world = self.simulators.world.lock().unwrap();
        ids.iter().all(|id| world.coupa.invoices[&id.0].paid)
    }
}
