//! Introduces `aws` and `connectors`, which do not know each other, once for all functions: from a connection's name to
//! everything its flows need. Also the one place where a run's outcome is logged and counted.
//!
//! Nothing is read or connected before an event asks for it; what a warm instance has opened stays open until the
//! connection's document changes.

mod credentials;
mod lookups;
mod owner;
mod reconcile;
mod suppliers;

pub use reconcile::Reconcile;
pub use suppliers::SupplierRun;

use aws::config::Variable;
use aws::dynamo::DynamoRegister;
use aws::lambda::{Invocation, World};
use aws::paces::DynamoPaces;
use aws::secrets::SecretReader;
use aws::sqs::SqsQueue;
use aws::tokens::DynamoTokenStore;
use connectors::connection::{
    ConnectionDocument, LookupSettings, SupplierSettings, World as HttpWorld, clients, entity_clients,
};
use connectors::coupa::CoupaClient;
use connectors::http::pace::Paces;
use connectors::http::transport::HttpTransport;
use connectors::qad::QadClient;
use credentials::{Attempt, is_refused};
use domain::documents::Invoice;
use domain::entities::EntityRule;
use domain::ids::{ConnectionId, InvoiceId};
use domain::lifecycle::{InvoiceRecord, State};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use domain::timing::Timing;
use flows::coupa_orders::OrderReads;
use flows::delivery::{ConnectionReads, DeliveryReads, FirstLook, Reads, Seat};
use flows::hinted::Hinted;
use flows::match_invoice::{self, InvoiceSettings, Rest};
use flows::neighbours::Home;
use flows::pause::{self, PAUSED, Pause};
use flows::ports::{Chance, Clock, Collection, CoupaTogether, Hint, HintReason, Subject};
use flows::published::{self, Published};
use flows::store::{Context, FlowError};
use flows::watermark::Scope;
use flows::write_payment::{self, PaymentSettings};
use flows::{order_event, poll_coupa, poll_orders, poll_payments, poll_receipts, sweep};
use secrecy::ExposeSecret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// What a function that works on connections reads from the environment.
pub const NEEDED: &[Variable] = &[
    aws::config::REGISTER_TABLE,
    aws::config::AUDIT_TABLE,
    aws::config::TOKENS_TABLE,
    aws::config::INVOICES_QUEUE_URL,
    aws::config::CONNECTION_SECRET_PREFIX,
];

/// What a function reads that queues hints about payments too.
pub const NEEDED_WITH_PAYMENTS: &[Variable] = &[
    aws::config::REGISTER_TABLE,
    aws::config::AUDIT_TABLE,
    aws::config::TOKENS_TABLE,
    aws::config::INVOICES_QUEUE_URL,
    aws::config::PAYMENTS_QUEUE_URL,
    aws::config::CONNECTION_SECRET_PREFIX,
];

/// What a schedule sends: whose turn it is.
#[derive(Debug, Clone, Deserialize)]
pub struct Scheduled {
    /// The connection.
    pub connection: ConnectionId,
}

/// Everything of one connection, opened.
pub struct Connection {
    id: ConnectionId,
    home: Home,
    version: String,
    register: DynamoRegister,
    coupa: CoupaClient,
    qad: QadClient,
    settings: InvoiceSettings,
    order_recheck_millis: i64,
    entities: Vec<OpenEntity>,
    payments: PaymentSettings,
    lookups: Option<LookupSettings>,
    suppliers: SupplierSettings,
    owner_lookup: Option<String>,
    reads_together: bool,
}

/// One of a connection's entities, opened.
struct OpenEntity {
    rule: EntityRule,
    qad: QadClient,
    settings: InvoiceSettings,
}

impl Connection {
    /// Coupa, to be asked for several documents at once, where the connection wants that.
    fn together(&self) -> Option<&dyn CoupaTogether> {
        let coupa: &dyn CoupaTogether = &self.coupa;
        self.reads_together.then_some(coupa)
    }

    /// The scope of [`Connection::by_domain`] in which the orders of an invoice are.
    fn domain_of(&self, record: &InvoiceRecord) -> String {
        if self.entities.len() < 2 {
            return String::new();
        }
        let code = record.entity.as_ref();
        let entity = self
            .entities
            .iter()
            .find(|entity| Some(&entity.rule.code) == code);
        entity.map_or_else(String::new, |entity| entity.settings.policy.domain.folded())
    }

    /// QAD as each entity sees it, each once.
    fn by_entity(&self) -> Vec<(Scope, &QadClient)> {
        self.each(|entity| entity.rule.code.folded())
    }

    /// QAD as each domain sees it, each once.
    fn by_domain(&self) -> Vec<(Scope, &QadClient)> {
        self.each(|entity| entity.settings.policy.domain.folded())
    }

    /// A connection with one entity keeps what it has come to, whichever way its settings are written.
    fn each(&self, code: impl Fn(&OpenEntity) -> String) -> Vec<(Scope, &QadClient)> {
        let [first, _, ..] = self.entities.as_slice() else {
            return vec![(Scope::Whole, &self.qad)];
        };
        let first = code(first);
        let views: BTreeMap<String, &QadClient> = self
            .entities
            .iter()
            .rev()
            .map(|entity| (code(entity), &entity.qad))
            .collect();
        views
            .into_iter()
            .map(|(code, qad)| {
                let first = code == first;
                (Scope::Part { code, first }, qad)
            })
            .collect()
    }
}

/// From a connection's name to its flows.
pub struct Wiring {
    world: World,
    timing: Timing,
    secrets: Arc<SecretReader>,
    queue: SqsQueue,
    http: HttpWorld,
    open: Mutex<BTreeMap<ConnectionId, (String, Arc<Connection>)>>,
    /// By the delivery's request id.
    reads: DeliveryReads,
    /// What was queued lately: by the sweep, and by the polls of Coupa.
    swept: Hinted,
    listed: Hinted,
    /// Which version of each connection's settings was told to the page.
    told: std::sync::Mutex<BTreeMap<ConnectionId, String>>,
    owners: std::sync::Mutex<owner::LookedAt>,
}

impl Wiring {
    /// Checks the timing chain and prepares; sends nothing.
    pub fn new(world: World) -> Result<Self, Vec<Problem>> {
        let timing = world.config.timing();
        let broken = timing.broken_links();
        if !broken.is_empty() {
            return Err(broken);
        }
        let one = |problem: Problem| vec![problem];
        let prefix = world.config.connection_secret_prefix().map_err(one)?.to_owned();
        let secrets = Arc::new(SecretReader::new(
            world.clients.secrets_manager(),
            prefix,
            Arc::clone(&world.clock),
        ));
        let token_keys: Arc<dyn aws::tokens::TokenKeys> = Arc::<SecretReader>::clone(&secrets);
        let tokens = DynamoTokenStore::new(
            world.clients.dynamodb(),
            world.config.tokens_table().map_err(one)?.to_owned(),
            token_keys,
            Arc::clone(&world.clock),
            Arc::clone(&world.chance),
        );
        let queue = SqsQueue::new(
            world.clients.sqs(),
            world.config.queue_url().map_err(one)?.to_owned(),
        );
        let paces = DynamoPaces::new(
            world.clients.dynamodb(),
            world.config.tokens_table().map_err(one)?.to_owned(),
        );
        let http = HttpWorld {
            transport: Arc::new(HttpTransport::new()),
            tokens: Arc::new(tokens),
            clock: Arc::clone(&world.clock),
            chance: Arc::clone(&world.chance),
            paces: Arc::new(Paces::shared(world.config.instances_max(), Arc::new(paces))),
        };
        Ok(Self {
            world,
            timing,
            secrets,
            queue,
            http,
            open: Mutex::default(),
            reads: DeliveryReads::default(),
            swept: Hinted::default(),
            listed: Hinted::default(),
            told: std::sync::Mutex::default(),
            owners: std::sync::Mutex::default(),
        })
    }

    /// The clock, for whoever serves a batch.
    pub fn clock(&self) -> &dyn Clock {
        self.world.clock.as_ref()
    }

    /// The chain of times.
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Opens a connection, or takes the one that is open while its document is the same.
    pub async fn connection(&self, id: &ConnectionId) -> Result<Arc<Connection>, Problem> {
        let document = self
            .secrets
            .current(id)
            .await
            .map_err(|error| error.problem().clone())?;
        let mut open = self.open.lock().await;
        if let Some((_, connection)) = open.get(id).filter(|(version, _)| *version == document.version) {
            return Ok(Arc::clone(connection));
        }
        let settings = ConnectionDocument::parse(document.text.expose_secret())
            .map_err(|problems| first(id, problems))?;
        let millis = u64::try_from(self.timing.http_millis).unwrap_or(0);
        let timeout = Duration::from_millis(millis);
        let (coupa, qad) = clients(id, &settings, &self.http, timeout);
        let opened = entity_clients(id, &settings, &self.http, timeout);
        let entities = settings.entities.iter().zip(opened);
        let entities = entities
            .map(|(entity, qad)| OpenEntity {
                rule: entity.rule.clone(),
                qad,
                settings: settings.entity_invoice_settings(entity),
            })
            .collect();
        let register = DynamoRegister::new(
            self.world.clients.dynamodb(),
            self.world.config.register_tables()?,
            id.clone(),
            Arc::clone(&self.world.clock),
            Arc::clone(&self.world.chance),
        );
        let connection = Arc::new(Connection {
            id: id.clone(),
            home: settings.home(id),
            version: document.version.clone(),
            register,
            coupa,
            qad,
            settings: settings.invoice_settings(),
            order_recheck_millis: settings.order_recheck_millis(),
            entities,
            payments: settings.payment_settings(),
            lookups: settings.lookups,
            suppliers: settings.suppliers,
            owner_lookup: settings.coupa.owner_lookup,
            reads_together: settings.coupa.reads_together,
        });
        open.insert(id.clone(), (document.version, Arc::clone(&connection)));
        Ok(connection)
    }

    fn stop_at(&self, invocation: &Invocation) -> Timestamp {
        invocation
            .deadline
            .plus_millis(self.timing.stop_margin_millis.saturating_neg())
    }

    fn chance(&self) -> &dyn Chance {
        self.world.chance.as_ref()
    }

    /// Does what one hint asks for. An error brings the hint again, and finally into the dead-letter queue.
    pub async fn handle(&self, hint: Hint, invocation: &Invocation) -> Result<(), Problem> {
        let Hint::V1 {
            connection,
            subject,
            reason,
            trace,
        } = hint;
        match subject {
            Subject::Invoice(id) => {
                self.match_invoice(&connection, id, reason, &trace, invocation)
                    .await
            }
            Subject::PurchaseOrder(order) => self.order_event(&connection, order, &trace).await,
            Subject::Entry {
                collection: collection @ (Collection::Bill | Collection::UnmatchedPayment),
                id,
            } => {
                self.write_payment(&connection, collection, &id, reason, &trace, invocation)
                    .await
            }
            Subject::Supplier(supplier) => self.supplier_event(&connection, supplier, &trace).await,
            // Payments are read from QAD, where they are made; an event about anything else needs nothing done here,
            // and says so.
            Subject::Payment(_) | Subject::Entry { .. } => {
                tracing::info!(%connection, subject = ?subject, trace, outcome = "nothing_to_do", "match-invoice");
                Ok(())
            }
        }
    }

    /// An event about a purchase order: the invoices that wait for it are queued.
    async fn order_event(&self, id: &ConnectionId, order: u64, trace: &str) -> Result<(), Problem> {
        let work = async |connection: Arc<Connection>, _| {
            let deps = order_event::Deps {
                connection: &connection.id,
                coupa: &connection.coupa,
                register: &connection.register,
                queue: &self.queue,
                trace,
            };
            order_event::run(&deps, order)
                .await
                .map_err(|error| error.problem())
        };
        let heard = self.with_fresh_credentials(id, is_refused, work).await??;
        tracing::info!(connection = %id, order, trace, outcome = ?heard, "order-event");
        Ok(())
    }

    async fn write_payment(
        &self,
        id: &ConnectionId,
        collection: Collection,
        entry: &str,
        reason: HintReason,
        trace: &str,
        invocation: &Invocation,
    ) -> Result<(), Problem> {
        let started = self.clock().now();
        // From its beginning, so that those of the delivery who come first know of it.
        let seat = Seat::at(&self.reads.of(&invocation.request_id, id).bills);
        let work = async |connection: Arc<Connection>, attempt: Attempt| {
            self.watch_owner(&connection, invocation).await?;
            let deps = write_payment::Deps {
                context: self.context(&connection, invocation),
                coupa: &connection.coupa,
                first_look: &FirstLook::of(&seat, connection.together()),
                settings: &connection.payments,
            };
            write_payment::run_entry(&deps, collection, entry, attempt.reason(reason)).await
        };
        let ended = self
            .with_fresh_credentials(id, credentials::of_payment, work)
            .await?;
        let duration_ms = self.clock().now().millis_since(started);
        let rest = ended.map_err(|error| {
            let problem = error.problem();
            tracing::warn!(connection = %id, bill = entry, reason = ?reason, trace, outcome = "again", code = %problem.code,
                %problem, duration_ms, "write-payment");
            problem
        })?;
        let problem = match &rest {
            write_payment::Rest::In { bill, .. } => bill.parked.as_ref().or(bill.left_alone.as_ref()),
            _ => None,
        };
        let code = problem.map_or("", |problem| problem.code.as_str());
        if let write_payment::Rest::In { bill, .. } = &rest {
            self.look_at_pause(id, pause::Flow::Payments, "write-payment", bill.delay.as_ref())
                .await;
        }
        tracing::info!(connection = %id, bill = entry, reason = ?reason, trace, state = rest.word(), code, outcome = "rests",
            duration_ms, "write-payment");
        if let write_payment::Rest::In { bill, .. } = &rest {
            if bill.parked.is_some() {
                tracing::warn!(
                    metric = "payment_parked",
                    value = 1,
                    bill = entry,
                    "payments parked for a person"
                );
            }
            if bill
                .entry
                .as_ref()
                .is_some_and(|effect| effect.status == domain::effect::EffectStatus::Unknown)
            {
                tracing::warn!(
                    metric = "effect_unknown",
                    value = 1,
                    bill = entry,
                    "an answer was lost"
                );
            }
        }
        Ok(())
    }

    /// One poll of QAD's payments.
    #[tracing::instrument(skip_all, fields(connection = %scheduled.connection))]
    pub async fn poll_payments(&self, scheduled: &Scheduled, invocation: &Invocation) -> Result<(), Problem> {
        let connection = &scheduled.connection;
        let queue = self.payments_queue()?;
        let work = async |connection: Arc<Connection>, _| {
            self.renew_owner(&connection, invocation).await;
            let mut ended = Ok(());
            for (scope, qad) in connection.by_entity() {
                let deps = poll_payments::Deps {
                    context: self.context(&connection, invocation),
                    connection: &connection.id,
                    qad,
                    scope: &scope,
                    queue: &queue,
                    settings: &connection.payments,
                    trace: &invocation.request_id,
                };
                // One entity that gives no answer keeps no other one waiting.
                match poll_payments::run(&deps).await {
                    Ok(polled) => self.tell_payments(&connection.id, &scope, &polled),
                    Err(error) => ended = ended.and(Err(error.problem())),
                }
            }
            ended
        };
        self.with_fresh_credentials(connection, is_refused, work).await?
    }

    fn tell_payments(&self, connection: &ConnectionId, scope: &Scope, polled: &poll_payments::Polled) {
        let scope = scope.word();
        for problem in &polled.quarantined {
            tracing::error!(%connection, code = %problem.code, %problem, metric = "record_unreadable",
                value = 1, "poll-payments");
        }
        if let Some(problem) = &polled.balances_unseen {
            tracing::info!(%connection, code = %problem.code, %problem,
                "QAD does not show which supplier invoices have changed; each is asked for with its payments");
        }
        for problem in &polled.unknown_statuses {
            tracing::warn!(%connection, code = %problem.code, %problem,
                metric = "payment_status_unknown", value = 1, "poll-payments");
        }
        if polled.unmatched > 0 {
            tracing::info!(%connection, metric = "payment_unmatched", value = polled.unmatched,
                "payments of invoices that are none of ours");
        }
        if let Some(cursor) = polled.cursor {
            tracing::info!(%connection, metric = "payments_cursor_age_seconds", scope,
                value = age_seconds(cursor, self.clock().now()), watermark = %cursor, "poll-payments");
        }
        let outcome = match polled.left_over {
            _ if polled.overtaken => "overtaken",
            0 => "complete",
            _ => "incomplete",
        };
        tracing::info!(%connection, scope, found = polled.read, count = polled.new, queued = polled.bills,
            others = polled.others, outcome, "poll-payments");
    }

    /// Says for how long a flow is paused when a record has just been found to wait for its end. The record itself is done
    /// with: when the pause cannot be read, only that is said.
    async fn look_at_pause(
        &self,
        id: &ConnectionId,
        flow: pause::Flow,
        function: &str,
        delay: Option<&Problem>,
    ) {
        if delay.is_none_or(|problem| problem.code != PAUSED) {
            return;
        }
        let read = async {
            let connection = self.connection(id).await?;
            pause::of(&connection.register, flow)
                .await
                .map_err(|error| error.problem())
        };
        match read.await {
            Ok(pause) => tell_pause(id, function, pause.as_ref(), self.clock().now()),
            Err(problem) => {
                tracing::warn!(connection = %id, code = %problem.code, %problem, outcome = "paused",
                "{function}")
            }
        }
    }

    fn payments_queue(&self) -> Result<SqsQueue, Problem> {
        let url = self.world.config.payments_queue_url()?.to_owned();
        Ok(SqsQueue::new(self.world.clients.sqs(), url))
    }

    fn context<'a>(&'a self, connection: &'a Connection, invocation: &Invocation) -> Context<'a> {
        Context {
            register: &connection.register,
            clock: self.clock(),
            chance: self.chance(),
            timing: &self.timing,
            deadline: self.stop_at(invocation),
        }
    }

    async fn run_match(
        &self,
        connection: &Connection,
        invoice: InvoiceId,
        reason: HintReason,
        invocation: &Invocation,
        (reads, seat): (&ConnectionReads, &Seat<Invoice>),
    ) -> Result<Rest, FlowError> {
        self.watch_owner(connection, invocation).await?;
        let entities: Vec<match_invoice::Entity<'_>> = connection
            .entities
            .iter()
            .map(|entity| match_invoice::Entity {
                rule: &entity.rule,
                qad: &entity.qad,
                settings: &entity.settings,
            })
            .collect();
        let deps = match_invoice::Deps {
            context: Context {
                register: &connection.register,
                clock: self.clock(),
                chance: self.chance(),
                timing: &self.timing,
                deadline: self.stop_at(invocation),
            },
            home: &connection.home,
            coupa: &connection.coupa,
            qad: &connection.qad,
            index: &connection.register,
            reads: &Reads {
                first_look: FirstLook::of(seat, connection.together()),
                orders: OrderReads::of(&reads.orders, connection.together()),
            },
            settings: &connection.settings,
            entities: &entities,
        };
        self.tell_settings(connection, &deps.context).await;
        match_invoice::run(&deps, invoice, reason).await
    }

    fn told(&self) -> std::sync::MutexGuard<'_, BTreeMap<ConnectionId, String>> {
        self.told
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Once per version of the settings: what the page must know of them. It is never in the way of an invoice.
    async fn tell_settings(&self, connection: &Connection, context: &Context<'_>) {
        let is_told =
            |told: &BTreeMap<ConnectionId, String>| told.get(&connection.id) == Some(&connection.version);
        if is_told(&self.told()) {
            return;
        }
        let published = Published::of(&connection.settings.second_person);
        match published::publish(context, &published).await {
            Ok(()) => {
                self.told()
                    .insert(connection.id.clone(), connection.version.clone());
            }
            Err(error) => {
                let problem = error.problem();
                tracing::warn!(connection = %connection.id, code = %problem.code, %problem,
                    "the page does not know the latest limits yet");
            }
        }
    }

    async fn match_invoice(
        &self,
        id: &ConnectionId,
        invoice: InvoiceId,
        reason: HintReason,
        trace: &str,
        invocation: &Invocation,
    ) -> Result<(), Problem> {
        let started = self.clock().now();
        // From its beginning, so that those of the delivery who come first know of it.
        let reads = self.reads.of(&invocation.request_id, id);
        let seat = Seat::at(&reads.invoices);
        let shared = (reads.as_ref(), &seat);
        let work = async |connection: Arc<Connection>, attempt: Attempt| {
            self.run_match(&connection, invoice, attempt.reason(reason), invocation, shared)
                .await
        };
        let ended = self
            .with_fresh_credentials(id, credentials::of_invoice, work)
            .await?;
        let duration_ms = self.clock().now().millis_since(started);
        match ended {
            Ok(rest) => {
                tell(id, invoice, reason, trace, &rest, duration_ms);
                count(&rest, started, self.clock().now());
                if let Rest::In { record, .. } = &rest {
                    self.look_at_pause(id, pause::Flow::Invoices, "match-invoice", record.delay.as_ref())
                        .await;
                }
                Ok(())
            }
            Err(error) => {
                let problem = error.problem();
                tracing::warn!(connection = %id, %invoice, reason = ?reason, trace, outcome = "again",
                    code = %problem.code, %problem, duration_ms, "match-invoice");
                Err(problem)
            }
        }
    }

    /// One poll of Coupa.
    #[tracing::instrument(skip_all, fields(connection = %scheduled.connection))]
    pub async fn poll_coupa(&self, scheduled: &Scheduled, invocation: &Invocation) -> Result<(), Problem> {
        let connection = &scheduled.connection;
        let work = async |connection: Arc<Connection>, _| {
            self.renew_owner(&connection, invocation).await;
            let deps = poll_coupa::Deps {
                connection: &connection.id,
                scope: "",
                coupa: &connection.coupa,
                register: &connection.register,
                chance: self.chance(),
                queue: &self.queue,
                hinted: &self.listed,
                timing: &self.timing,
                clock: self.clock(),
                deadline: self.stop_at(invocation),
                trace: &invocation.request_id,
            };
            poll_coupa::run(&deps).await.map_err(|error| error.problem())
        };
        let polled = self
            .with_fresh_credentials(connection, is_refused, work)
            .await??;
        for problem in &polled.unreadable {
            tracing::error!(%connection, code = %problem.code, %problem, metric = "record_unreadable",
                value = 1, "poll-coupa");
        }
        let outcome = if polled.incomplete {
            tracing::warn!(%connection, metric = "poll_incomplete", value = 1, "poll-coupa");
            "incomplete"
        } else {
            "complete"
        };
        tracing::info!(%connection, found = polled.read, queued = polled.queued, outcome, "poll-coupa");
        Ok(())
    }

    /// One poll of QAD's goods receipts.
    #[tracing::instrument(skip_all, fields(connection = %scheduled.connection))]
    pub async fn poll_receipts(&self, scheduled: &Scheduled, invocation: &Invocation) -> Result<(), Problem> {
        let connection = &scheduled.connection;
        let work = async |connection: Arc<Connection>, _| {
            self.renew_owner(&connection, invocation).await;
            let mut ended = Ok(());
            for (scope, qad) in connection.by_domain() {
                let deps = poll_receipts::Deps {
                    context: self.context(&connection, invocation),
                    connection: &connection.id,
                    scope: scope.word(),
                    qad,
                    queue: &self.queue,
                    trace: &invocation.request_id,
                };
                match poll_receipts::run(&deps).await {
                    Ok(polled) => self.tell_receipts(&connection.id, &scope, &polled),
                    Err(error) => ended = ended.and(Err(error.problem())),
                }
                match self.poll_orders(&connection, &scope, qad, invocation).await {
                    Ok(polled) => tell_orders(&connection.id, &scope, &polled),
                    Err(error) => ended = ended.and(Err(error.problem())),
                }
            }
            ended
        };
        self.with_fresh_credentials(connection, is_refused, work).await?
    }

    /// The next orders of those that wait, when it is time.
    async fn poll_orders(
        &self,
        connection: &Connection,
        scope: &Scope,
        qad: &QadClient,
        invocation: &Invocation,
    ) -> Result<poll_orders::Polled, poll_coupa::PollError> {
        let deps = poll_orders::Deps {
            context: self.context(connection, invocation),
            index: &connection.register,
            connection: &connection.id,
            scope: scope.word(),
            is_in_scope: &|record| connection.domain_of(record) == scope.word(),
            qad,
            queue: &self.queue,
            every_millis: connection.order_recheck_millis,
            trace: &invocation.request_id,
        };
        poll_orders::run(&deps).await
    }

    fn tell_receipts(&self, connection: &ConnectionId, scope: &Scope, polled: &flows::feed::Followed) {
        let scope = scope.word();
        for problem in &polled.unreadable {
            tracing::error!(%connection, code = %problem.code, %problem, metric = "record_unreadable",
                value = 1, "poll-receipts");
        }
        if let Some(cursor) = polled.cursor {
            tracing::info!(%connection, metric = "receipts_cursor_age_seconds", scope,
                value = age_seconds(cursor, self.clock().now()), watermark = %cursor, "poll-receipts");
        }
        let outcome = match &polled {
            polled if polled.overtaken => "overtaken",
            polled if polled.incomplete => "incomplete",
            _ => "complete",
        };
        tracing::info!(%connection, scope, found = polled.read, count = polled.new, queued = polled.woken,
            unreadable = polled.unreadable_others, outcome, "poll-receipts");
    }

    /// One sweep.
    #[tracing::instrument(skip_all, fields(connection = %scheduled.connection))]
    pub async fn sweep(&self, scheduled: &Scheduled, invocation: &Invocation) -> Result<(), Problem> {
        let connection = &scheduled.connection;
        let register = DynamoRegister::new(
            self.world.clients.dynamodb(),
            self.world.config.register_tables()?,
            connection.clone(),
            Arc::clone(&self.world.clock),
            Arc::clone(&self.world.chance),
        );
        let swept = sweep::run(&sweep::Deps {
            connection,
            register: &register,
            queue: &self.queue,
            payments: &self.payments_queue()?,
            hinted: &self.swept,
            timing: &self.timing,
            clock: self.clock(),
            trace: &invocation.request_id,
        })
        .await
        .map_err(|error| error.problem())?;
        tracing::info!(%connection, queued = swept.queued, outcome = if swept.more { "more" } else { "complete" }, "sweep");
        // After the work: what is due does not wait for a figure.
        match sweep::needs_person_millis(&register, self.clock()).await {
            Ok(None) => {}
            Ok(Some(millis)) => {
                let seconds = millis.checked_div(1_000).unwrap_or(0);
                tracing::info!(%connection, metric = "needs_person_age_seconds", value = seconds, "sweep");
            }
            Err(error) => {
                let problem = error.problem();
                tracing::warn!(%connection, code = %problem.code, %problem, outcome = "age not told", "sweep");
            }
        }
        Ok(())
    }
}

fn tell_orders(connection: &ConnectionId, scope: &Scope, polled: &poll_orders::Polled) {
    let scope = scope.word();
    for problem in &polled.unreadable {
        tracing::warn!(%connection, code = %problem.code, %problem, "an order of invoices that wait cannot be read");
    }
    let outcome = if polled.more { "more" } else { "complete" };
    tracing::info!(%connection, scope, found = polled.asked, queued = polled.woken, outcome, "poll-orders");
}

/// A pause that keeps something waiting, with its age as a metric: one that was forgotten raises an alarm.
fn tell_pause(connection: &ConnectionId, function: &str, pause: Option<&Pause>, now: Timestamp) {
    if let Some(pause) = pause {
        let problem = pause.problem();
        tracing::warn!(%connection, code = %problem.code, %problem, metric = "pause_age_seconds",
            value = pause.seconds(now), outcome = "paused", "{function}");
    }
}

/// How old a cursor that knows only days is, in whole days: nothing on the day itself.
fn age_seconds(cursor: Date, now: Timestamp) -> u64 {
    let days = cursor.until(now.date_utc()).map_or(0, |span| span.get_days());
    u64::try_from(days).unwrap_or(0).saturating_mul(86_400)
}

/// All problems of a connection's document, told as one.
fn first(id: &ConnectionId, problems: Vec<Problem>) -> Problem {
    for problem in &problems {
        tracing::error!(connection = %id, code = %problem.code, %problem, "connection document");
    }
    problems.into_iter().next().unwrap_or_else(|| {
        Problem::new("CONNECTION_INVALID", "Validate the connection's document.").field(id.to_string())
    })
}

/// The wide line of one run.
fn tell(
    connection: &ConnectionId,
    invoice: InvoiceId,
    reason: HintReason,
    trace: &str,
    rest: &Rest,
    duration_ms: i64,
) {
    let (codes, voucher) = match rest {
        Rest::In { record, .. } => (
            record.state.codes().join(","),
            record
                .state
                .voucher()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        Rest::NotApproved { coupa_status } => (coupa_status.clone(), String::new()),
        Rest::OutOfScope { problem } => (problem.code.clone(), String::new()),
        Rest::Busy => Default::default(),
    };
    tracing::info!(%connection, %invoice, reason = ?reason, trace, state = rest.word(), code = %codes, voucher = %voucher,
        outcome = "rests", duration_ms, "match-invoice");
}

/// What happened in this run, as metrics.
fn count(rest: &Rest, started: Timestamp, now: Timestamp) {
    let Rest::In { record, .. } = rest else { return };
    if let State::Held { .. } = record.state {
        let seconds = now
            .millis_since(record.since)
            .max(0)
            .checked_div(1000)
            .unwrap_or(0);
        tracing::info!(metric = "oldest_hold_seconds", value = seconds, invoice = %record.id, "still held");
    }
    if is_unknown(record) {
        tracing::warn!(metric = "effect_unknown", value = 1, invoice = %record.id, "an answer was lost");
    }
    if record.since < started {
        return;
    }
    match &record.state {
        State::Held { .. } => {
            tracing::info!(metric = "invoice_held", value = 1, invoice = %record.id, "held")
        }
        State::Parked { .. } => {
            tracing::warn!(metric = "invoice_parked", value = 1, invoice = %record.id, "parked for a person");
            if record
                .state
                .codes()
                .iter()
                .any(|code| matches!(code.as_str(), "QAD_DUPLICATE_DOCUMENTS" | "QAD_DOCUMENT_LATE"))
            {
                tracing::error!(metric = "duplicate_found", value = 1, invoice = %record.id, "duplicate in QAD");
            }
        }
        State::Exported { .. } => {
            tracing::info!(metric = "invoice_posted", value = 1, invoice = %record.id, "posted");
            tracing::info!(metric = "invoice_exported", value = 1, invoice = %record.id, "exported");
        }
        State::Posted { .. } => {
            tracing::info!(metric = "invoice_posted", value = 1, invoice = %record.id, "posted")
        }
        State::Received { .. } | State::Approved | State::Rejected { .. } | State::Voided { .. } => {}
    }
}

fn is_unknown(record: &InvoiceRecord) -> bool {
    record
        .creation
        .as_ref()
        .is_some_and(|effect| effect.status == domain::effect::EffectStatus::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws::clients::Clients;
    use aws::clock::{SystemChance, SystemClock};
    use aws::config::Config;
    use futures_util::FutureExt;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id};
    use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};
    use tracing_subscriber::registry::Registry;

    /// The connections that the spans of this crate name.
    #[derive(Clone, Default)]
    struct Named(Arc<std::sync::Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Named {
        fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: LayerContext<'_, S>) {
            if attributes.metadata().target().starts_with("wiring") {
                attributes.record(&mut self.clone());
            }
        }
    }

    impl Visit for Named {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "connection" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        }
    }

    fn wiring() -> Wiring {
        let config = Config::read(|name| {
            Some(match name {
                "AWS_REGION" => "us-east-1".to_owned(),
                "AWS_ENDPOINT_URL" => "http://127.0.0.1:9".to_owned(),
                "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "an-own-text".to_owned(),
                name if NEEDED_WITH_PAYMENTS.iter().any(|needed| needed.name == name) => {
                    format!("http://127.0.0.1:9/{name}")
                }
                _ => return None,
            })
        });
        let config = config.unwrap_or_else(|problems| panic!("{problems:?}"));
        let clients = Clients::new(config.aws().unwrap());
        let built = Wiring::new(World {
            config,
            clients,
            clock: Arc::new(SystemClock),
            chance: Arc::new(SystemChance),
        });
        built.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// A connection's alarms count the lines that name it, and what the flows tell of a record names none itself.
    #[tokio::test]
    async fn every_line_of_a_scheduled_run_names_its_connection() {
        let wiring = wiring();
        let of = |name: &str| name.parse::<ConnectionId>().unwrap();
        let scheduled = |name: &str| Scheduled { connection: of(name) };
        let invocation = Invocation {
            request_id: "r".to_owned(),
            deadline: Timestamp(0),
        };
        let named = Named::default();
        {
            let _heard = tracing::subscriber::set_default(Registry::default().with(named.clone()));
            // Begun alone: nothing answers here.
            let _ = wiring.poll_coupa(&scheduled("coupa"), &invocation).now_or_never();
            let _ = wiring
                .poll_payments(&scheduled("payments"), &invocation)
                .now_or_never();
            let _ = wiring
                .poll_receipts(&scheduled("receipts"), &invocation)
                .now_or_never();
            let _ = wiring.sweep(&scheduled("sweep"), &invocation).now_or_never();
            let _ = wiring
                .sync_lookups(&scheduled("lookups"), &invocation)
                .now_or_never();
            let run = SupplierRun {
                connection: of("suppliers"),
                plan: false,
            };
            let _ = wiring.sync_suppliers(&run, &invocation).now_or_never();
            let asked = Reconcile {
                connection: of("reconcile"),
                anew: false,
            };
            let _ = wiring.reconcile(&asked, &invocation).now_or_never();
        }
        let expected = [
            "coupa",
            "payments",
            "receipts",
            "sweep",
            "lookups",
            "suppliers",
            "reconcile",
        ];
        assert_eq!(*named.0.lock().unwrap(), expected);
    }

    #[test]
    fn a_cursor_is_as_old_as_the_days_since_it() {
        let now: Timestamp = Timestamp(1_772_755_200_000); // 2026-03-06 00:00 UTC
        let at = |text: &str| age_seconds(text.parse().unwrap(), now);
        assert_eq!(now.date_utc().to_string(), "2026-03-06");
        assert_eq!(at("2026-03-06"), 0);
        assert_eq!(at("2026-02-27"), 7 * 86_400);
        assert_eq!(at("2026-03-09"), 0, "a cursor ahead of the clock is not old");
    }
}
