//! What would be posted now, read live, with no write possible by construction.
//!
//! The very flow that posts runs here, over three ports that cannot write: a register whose changes stay in memory, a
//! Coupa and a QAD whose writes are answered "not applied" without being sent. What it would have sent is kept and shown.

mod compare;

use crate::invoices::summed;
use crate::master_data::{self, Outcome};
use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments, Systems, unfinished, unread};
use crate::records::{self, Filter, Totals};
use crate::{Failure, view};
use async_trait::async_trait;
use aws::clock::{SystemChance, SystemClock};
use clap::Args;
use domain::coupa_orders::CoupaOrder;
use domain::documents::{Invoice, Order, Receipt};
use domain::explain;
use domain::ids::{ConnectionId, InvoiceId, PurchaseOrderNumber, QadInvoiceIdentity};
use domain::lifecycle::{InvoiceRecord, State};
use domain::matching::SupplierInvoiceDraft;
use domain::parallel::{self, KeyedInvoice};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use domain::timing::Timing;
use domain::words;
use flows::delivery::Reads;
use flows::match_invoice::{self, Entity, InvoiceSettings, Rest};
use flows::neighbours::Home;
use flows::owner;
use flows::pause;
use flows::ports::{
    AuditEntry, Books, Clock, Commit, CommitError, Coupa, DocumentOutcome, DueRecord, Flagged, HintReason,
    Index, InvoicePage, Outcomes, Qad, QadDocument, ReadError, ReceiptScan, RecordGroup, RecordKey,
    RecordWrite, Register, StoreError, StoredRecord, WriteError,
};
use flows::store::{Context, FlowError};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most invoices that one plan looks at: each costs a question to Coupa and one or more to QAD.
const INVOICES_MAX: usize = 5_000;

#[derive(Debug, Args)]
pub(crate) struct PlanOptions {
    #[command(flatten)]
    filter: Filter,
    /// Leaves out what Coupa lists and the register does not know yet.
    #[arg(long)]
    known_only: bool,
    /// Compares what would have been posted of the period's approved invoices with what was keyed in QAD meanwhile. Ends with 4
    /// when they differ.
    #[arg(long, requires_all = ["from", "to"],
          conflicts_with_all = ["known_only", "state", "code", "currency", "supplier", "order", "since", "older_than"])]
    compare: bool,
    /// First invoice date of the period.
    #[arg(long, value_name = "YYYY-MM-DD", requires = "compare")]
    from: Option<Date>,
    /// Last invoice date of the period.
    #[arg(long, value_name = "YYYY-MM-DD", requires = "compare")]
    to: Option<Date>,
    #[command(flatten)]
    list: ListOptions,
}

/// A register whose changes stay in memory.
struct Shadow<'a> {
    real: Real<'a>,
    changes: Mutex<BTreeMap<RecordKey, Option<StoredRecord>>>,
}

enum Real<'a> {
    Lent(&'a dyn Register),
    Own(Box<dyn Register>),
}

impl Real<'_> {
    fn get(&self) -> &dyn Register {
        match self {
            Self::Lent(real) => *real,
            Self::Own(real) => real.as_ref(),
        }
    }
}

impl<'a> Shadow<'a> {
    /// A pause is left out, and whose both systems are: a plan says what would be posted without them.
    fn of(real: &'a dyn Register) -> Self {
        Self {
            real: Real::Lent(real),
            changes: Mutex::new(BTreeMap::from([
                (pause::Flow::Invoices.key(), None),
                (owner::key(), None),
            ])),
        }
    }

    fn changes(&self) -> MutexGuard<'_, BTreeMap<RecordKey, Option<StoredRecord>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if nothing were known of it yet.
    fn forget(&self, id: InvoiceId) {
        self.changes().insert(RecordKey::Invoice(id), None);
    }
}

fn is_in(group: &RecordGroup, key: &RecordKey) -> bool {
    match (group, key) {
        (RecordGroup::WaitingFor(wanted), RecordKey::Waiting(line, _)) => wanted == line,
        (RecordGroup::WaitingForOrder(wanted), RecordKey::WaitingForOrder(number, _)) => wanted == number,
        (RecordGroup::ReceiptsOf(wanted), RecordKey::Receipt(receipt)) => *wanted == receipt.order_line,
        (RecordGroup::Collection(wanted), RecordKey::Entry { collection, .. }) => wanted == collection,
        _ => false,
    }
}

#[async_trait]
impl Register for Shadow<'_> {
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let real = self.real.get().read(keys).await?;
        let changes = self.changes();
        Ok(keys
            .iter()
            .zip(real)
            .map(|(key, stored)| changes.get(key).cloned().unwrap_or(stored))
            .collect())
    }

    async fn list(&self, group: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
        let mut records: BTreeMap<RecordKey, StoredRecord> = self
            .real
            .get()
            .list(group)
            .await?
            .into_iter()
            .map(|stored| (stored.key.clone(), stored))
            .collect();
        for (key, change) in self.changes().iter().filter(|(key, _)| is_in(group, key)) {
            match change {
                Some(stored) => records.insert(key.clone(), stored.clone()),
                None => records.remove(key),
            };
        }
        Ok(records.into_values().collect())
    }

    /// Checked like a real one, then kept in memory. Nothing reaches the real register.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let keys: Vec<RecordKey> = commit
            .writes
            .iter()
            .filter_map(|write| match write {
                RecordWrite::Put { key, .. }
                | RecordWrite::Delete { key }
                | RecordWrite::Check { key, .. } => Some(key.clone()),
                RecordWrite::Index(_) => None,
            })
            .collect();
        let current = self.read(&keys).await.map_err(CommitError::Store)?;
        let of_records = commit
            .writes
            .iter()
            .filter(|write| !matches!(write, RecordWrite::Index(_)));
        for (write, stored) in of_records.zip(current) {
            let revision = stored.map_or(0, |stored| stored.revision);
            if let RecordWrite::Put { seen, .. } | RecordWrite::Check { seen, .. } = write
                && *seen != revision
            {
                return Err(CommitError::Conflict);
            }
        }
        let mut changes = self.changes();
        for write in commit.writes {
            match write {
                RecordWrite::Put { key, seen, body, .. } => {
                    let stored = StoredRecord {
                        key: key.clone(),
                        revision: seen.saturating_add(1),
                        body: Ok(body),
                    };
                    changes.insert(key, Some(stored));
                }
                RecordWrite::Delete { key } => {
                    changes.insert(key, None);
                }
                RecordWrite::Check { .. } | RecordWrite::Index(_) => {}
            }
        }
        Ok(())
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<DueRecord>, StoreError> {
        self.real.get().due(now, limit).await
    }

    async fn audit(&self, document: &str) -> Result<Vec<AuditEntry>, StoreError> {
        self.real.get().audit(document).await
    }

    fn neighbour(&self, connection: &ConnectionId) -> Box<dyn Register> {
        Box::new(Shadow {
            real: Real::Own(self.real.get().neighbour(connection)),
            changes: Mutex::default(),
        })
    }

    async fn invoices(
        &self,
        after: Option<InvoiceId>,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        self.real.get().invoices(after, limit).await
    }
}

fn not_sent() -> WriteError {
    WriteError::NotApplied {
        retry_after: None,
        problem: Problem::new("ONLY_PLANNED", "Nothing was sent: this is a plan."),
    }
}

/// A Coupa that can only be read.
struct CoupaReader<'a> {
    real: &'a dyn Coupa,
    /// Whoever has set the exported flag meanwhile: what would have been posted is decided without it.
    ignores_exported: bool,
}

#[async_trait]
impl Coupa for CoupaReader<'_> {
    async fn invoice(&self, id: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        let mut invoice = self.real.invoice(id).await?;
        if let (true, Some(invoice)) = (self.ignores_exported, &mut invoice) {
            invoice.exported = false;
        }
        Ok(invoice)
    }
    async fn coupa_order(&self, number: &str) -> Result<Option<CoupaOrder>, ReadError> {
        self.real.coupa_order(number).await
    }
    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        self.real.exportable_invoices(after).await
    }
    async fn mark_exported(&self, _: InvoiceId, _: &str) -> Result<Flagged, WriteError> {
        Err(not_sent())
    }
    async fn record_outcome(&self, _: InvoiceId, _: &DocumentOutcome, _: &str) -> Result<(), WriteError> {
        Err(not_sent())
    }
}

/// A QAD that can only be read, and remembers what it would have been told to create.
struct QadReader<'a> {
    real: &'a dyn Qad,
    drafts: Mutex<BTreeMap<InvoiceId, SupplierInvoiceDraft>>,
    /// What was keyed of the invoice that is being decided, and counts as not being there; `None` where QAD counts as it is.
    keyed: Mutex<Option<Vec<KeyedInvoice>>>,
    /// What would have been posted before it, and counts as being there.
    posted: Mutex<Vec<SupplierInvoiceDraft>>,
}

impl<'a> QadReader<'a> {
    fn of(real: &'a dyn Qad) -> Self {
        Self {
            real,
            drafts: Mutex::default(),
            keyed: Mutex::default(),
            posted: Mutex::default(),
        }
    }

    fn keyed(&self) -> MutexGuard<'_, Option<Vec<KeyedInvoice>>> {
        self.keyed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn posted(&self) -> MutexGuard<'_, Vec<SupplierInvoiceDraft>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draft(&self, id: InvoiceId) -> Option<SupplierInvoiceDraft> {
        let drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.get(&id).cloned()
    }
}

#[async_trait]
impl Qad for QadReader<'_> {
    async fn order(&self, number: &PurchaseOrderNumber) -> Result<Option<Order>, ReadError> {
        self.real.order(number).await
    }
    async fn receipts_of_order(&self, number: &PurchaseOrderNumber) -> Result<Vec<Receipt>, ReadError> {
        let receipts = self.real.receipts_of_order(number).await?;
        Ok(match self.keyed().as_deref() {
            Some(keyed) => parallel::with(parallel::without(receipts, keyed), &self.posted()),
            None => receipts,
        })
    }
    async fn receipts_since(&self, since: Date, page: u32) -> Result<ReceiptScan, ReadError> {
        self.real.receipts_since(since, page).await
    }
    async fn books_are_open(&self, day: Date) -> Result<Option<bool>, ReadError> {
        self.real.books_are_open(day).await
    }
    async fn find_invoices(&self, identity: &QadInvoiceIdentity) -> Result<Vec<QadDocument>, ReadError> {
        if self.keyed().is_some() {
            return Ok(Vec::new());
        }
        self.real.find_invoices(identity).await
    }
    async fn create_invoice(&self, draft: &SupplierInvoiceDraft, _: &str) -> Result<QadDocument, WriteError> {
        let mut drafts = self.drafts.lock().unwrap_or_else(PoisonError::into_inner);
        drafts.insert(draft.coupa_id, draft.clone());
        Err(not_sent())
    }
}

/// Everything that an invoice is decided with, none of it able to write.
struct Readers<'a> {
    systems: &'a Systems,
    /// Whose invoices, and which QAD.
    home: Home,
    coupa: CoupaReader<'a>,
    qad: QadReader<'a>,
    settings: InvoiceSettings,
    /// QAD as each entity sees it, and the entity's settings.
    of_entities: Vec<(QadReader<'a>, InvoiceSettings)>,
    reads: Reads<'a>,
    index: &'a dyn Index,
    shadow: Shadow<'a>,
}

impl<'a> Readers<'a> {
    fn of(systems: &'a Systems, home: Home, register: &'a dyn Books, ignores_exported: bool) -> Self {
        let silent = |settings: InvoiceSettings| InvoiceSettings {
            outcomes: Outcomes::Nothing,
            ..settings
        };
        let of_entities = systems.entities.iter();
        Self {
            systems,
            home,
            coupa: CoupaReader {
                real: &systems.coupa,
                ignores_exported,
            },
            qad: QadReader::of(&systems.qad),
            settings: silent(systems.document.invoice_settings()),
            of_entities: of_entities
                .map(|entity| (QadReader::of(&entity.qad), silent(entity.settings.clone())))
                .collect(),
            reads: Reads::default(),
            index: register,
            shadow: Shadow::of(register),
        }
    }

    fn views(&self) -> impl Iterator<Item = &QadReader<'a>> {
        self.of_entities.iter().map(|(view, _)| view).chain([&self.qad])
    }

    /// As if its receipt had come: it is decided now, due or not, and Coupa is not asked about what is posted.
    async fn decide(&self, timing: &Timing, id: InvoiceId) -> Result<Rest, FlowError> {
        let of_entities = self.systems.entities.iter().zip(&self.of_entities);
        let entities: Vec<Entity<'_>> = of_entities
            .map(|(entity, (qad, settings))| Entity {
                rule: &entity.rule,
                qad,
                settings,
            })
            .collect();
        let deps = match_invoice::Deps {
            context: Context {
                register: &self.shadow,
                clock: &SystemClock,
                chance: &SystemChance,
                timing,
                deadline: SystemClock.now().plus_millis(timing.function_millis),
            },
            home: &self.home,
            coupa: &self.coupa,
            qad: &self.qad,
            index: self.index,
            reads: &self.reads,
            settings: &self.settings,
            entities: &entities,
        };
        match_invoice::run(&deps, id, HintReason::Receipt).await
    }

    /// What would have been sent.
    fn draft(&self, id: InvoiceId) -> Option<SupplierInvoiceDraft> {
        self.views().find_map(|view| view.draft(id))
    }
}

/// What would become of one invoice.
struct Prospect {
    before: &'static str,
    record: InvoiceRecord,
    draft: Option<SupplierInvoiceDraft>,
    /// What QAD's own lists would refuse of it.
    refused: Vec<Problem>,
}

impl Prospect {
    fn word(&self) -> &'static str {
        match &self.record.state {
            State::Approved if !self.refused.is_empty() => "would-be-refused",
            State::Approved if self.draft.is_some() => "would-post",
            // Found in QAD: nothing would be created.
            State::Posted { .. } | State::Exported { .. } => "already-in-qad",
            other => other.word(),
        }
    }
}

/// The invoices of a plan: what the register has that may still be posted, and what Coupa lists beside.
async fn candidates(
    register: &dyn Register,
    coupa: &dyn Coupa,
    known: &[InvoiceRecord],
    options: &PlanOptions,
) -> Result<Vec<InvoiceId>, Failure> {
    let now = SystemClock.now();
    let mut ids: BTreeSet<InvoiceId> = known
        .iter()
        .filter(|record| {
            (record.may_be_decided() || matches!(record.state, State::Approved))
                && options.filter.keeps(record, now)
        })
        .map(|record| record.id)
        .collect();
    if options.filter.is_empty() && !options.known_only {
        let mut after = None;
        loop {
            let page = coupa.exportable_invoices(after).await.map_err(unread)?;
            for head in page.heads.iter().filter(|head| !head.out_of_scope) {
                let key = RecordKey::Invoice(head.id);
                let found = register.read(std::slice::from_ref(&key)).await;
                let stored = found.map_err(|error| Failure::Unreachable(error.0))?;
                if stored.into_iter().flatten().next().is_none() {
                    ids.insert(head.id);
                }
            }
            match page.last {
                Some(last) if page.more && after.is_none_or(|before| last > before) => after = Some(last),
                _ => break,
            }
        }
    }
    if ids.len() > INVOICES_MAX {
        return Err(too_large(ids.len(), "Narrow it with a filter."));
    }
    Ok(ids.into_iter().collect())
}

fn too_large(count: usize, fix: &str) -> Failure {
    Failure::Refused(
        Problem::new("PLAN_TOO_LARGE", fix)
            .expected(format!("at most {INVOICES_MAX} invoices"))
            .actual(count.to_string()),
    )
}

/// `plan`.
pub(crate) async fn run(place: &PlaceArguments, options: &PlanOptions, out: &Output) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let systems = place.systems(&connection).await?;
    if let (true, Some(from), Some(to)) = (options.compare, options.from, options.to) {
        let period = compare::Period::new(from, to)?;
        out.progress("reading Coupa and QAD ...");
        let home = systems.document.home(&connection);
        return compare::run(
            &systems,
            home,
            &register,
            place.timing(),
            period,
            &options.list,
            out,
        )
        .await;
    }
    let readers = Readers::of(&systems, systems.document.home(&connection), &register, false);
    let known = records::all(&register).await?;
    let ids = candidates(&register, &readers.coupa, &known, options).await?;
    let examined = master_data::examine(&systems).await;
    let mut prospects = Vec::new();
    let mut unanswered = Vec::new();
    out.progress(&format!("deciding {} ...", words::count(ids.len(), "invoice")));
    for id in &ids {
        let before = known
            .iter()
            .find(|record| record.id == *id)
            .map_or("new", |record| record.state.word());
        match readers.decide(place.timing(), *id).await {
            Ok(Rest::In { record, .. }) if record.delay.is_some() => {
                unanswered.extend(record.delay.clone().map(|problem| (*id, problem)));
            }
            Ok(Rest::In { record, .. }) => {
                let draft = readers.draft(*id);
                let refused = draft
                    .as_ref()
                    .map_or_else(Vec::new, |draft| master_data::refusals(&examined, draft));
                prospects.push(Prospect {
                    before,
                    record: *record,
                    draft,
                    refused,
                });
            }
            Ok(Rest::NotApproved { .. } | Rest::OutOfScope { .. } | Rest::Busy) => {}
            Err(error) => return Err(unfinished(error)),
        }
    }
    tell(
        &prospects,
        &unanswered,
        &master_data::findings(&examined),
        &options.list,
        out,
    )?;
    if unanswered.is_empty() {
        Ok(())
    } else {
        let told: Vec<String> = unanswered
            .iter()
            .map(|(id, problem)| format!("invoice {id}: {problem}"))
            .collect();
        Err(Failure::Differs(told.join("\n")))
    }
}

/// What is wrong with the settings, and what could not be checked: a code, the list, and words.
fn unsettled(findings: &[master_data::Finding]) -> Vec<(&'static str, &str, String)> {
    findings
        .iter()
        .filter_map(|finding| {
            let words = match &finding.outcome {
                Outcome::Well(_) => return None,
                Outcome::Unchecked(found, fix) => format!("{found}. {fix}"),
                Outcome::Refused(problem) | Outcome::NotToday(problem) => problem.to_string(),
            };
            Some((finding.code, finding.about.as_str(), words))
        })
        .collect()
}

fn tell(
    prospects: &[Prospect],
    unanswered: &[(InvoiceId, Problem)],
    findings: &[master_data::Finding],
    options: &ListOptions,
    out: &Output,
) -> Result<(), Failure> {
    let lists = unsettled(findings);
    let mut groups: BTreeMap<&str, Vec<InvoiceRecord>> = BTreeMap::new();
    for prospect in prospects {
        groups
            .entry(prospect.word())
            .or_default()
            .push(prospect.record.clone());
    }
    let totals: BTreeMap<String, Value> = groups
        .iter()
        .map(|(word, records)| {
            let sums = json!({ "count": records.len(), "totals": Totals::of(records).json() });
            ((*word).to_owned(), sums)
        })
        .collect();
    let unread = unanswered.len();
    let of_lists: Vec<Value> = lists
        .iter()
        .map(|(code, about, found)| json!({ "code": code, "list": about, "found": found }))
        .collect();
    let whole = move |rows| json!({ "groups": totals, "invoices": Value::Array(rows), "unanswered": unread, "lists": of_lists });
    let columns = [
        Column::word("Invoice"),
        Column::word("Reference"),
        Column::sentence("Supplier").spare(),
        Column::figure("Total"),
        Column::word("Now").spare(),
        Column::word("Would be"),
        Column::sentence("What"),
    ];
    let below = lists
        .iter()
        .map(|(_, about, found)| format!("QAD's {about}: {found}"))
        .chain(
            groups
                .iter()
                .map(|(word, records)| format!("{word}: {}", summed(records))),
        )
        .chain([format!(
            "Nothing was sent or stored, {}.",
            explain::instant(SystemClock.now())
        )]);
    let listing = Listing::new(&columns, prospects.iter().map(row).collect());
    out.list(listing.within(whole).below(below), options)
}

fn row(prospect: &Prospect) -> Row {
    let record = &prospect.record;
    let [invoice, reference, supplier, total] = view::named(record);
    Row::new(
        json!({ "invoice": record.id, "before": prospect.before, "would_be": prospect.word(),
                "codes": record.state.codes(), "refused": prospect.refused, "draft": prospect.draft }),
        vec![
            invoice,
            reference,
            supplier,
            total,
            prospect.before.into(),
            prospect.word().into(),
            what_of(prospect).into(),
        ],
    )
}

/// What would be sent, or why nothing would be.
fn what_of(prospect: &Prospect) -> String {
    let Some(draft) = &prospect.draft else {
        return view::about(&prospect.record);
    };
    if !prospect.refused.is_empty() {
        let refused: Vec<String> = prospect.refused.iter().map(Problem::to_string).collect();
        return refused.join("; ");
    }
    let receivers: Vec<String> = draft
        .matches
        .iter()
        .map(|part| {
            let (quantity, price) = (words::figure(part.quantity), words::figure(part.unit_price));
            format!("{quantity} of {} at {price}", part.receiver)
        })
        .collect();
    format!("daybook {}: {}", draft.daybook, receivers.join(", "))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flows::ports::{Collection, IndexRow, RowsAsked, Tally};

    /// The simulated QAD refuses what its lists do not have; a plan says so before anything is sent.
    #[tokio::test]
    async fn what_qads_lists_refuse_would_not_post() {
        use domain::ids::DocumentKind;
        use domain::lifecycle::Event;
        let identity = QadInvoiceIdentity {
            entity: "10USACO".parse().unwrap(),
            supplier: "10S1001".parse().unwrap(),
            reference: "INV-1".parse().unwrap(),
            kind: DocumentKind::Invoice,
        };
        let draft = SupplierInvoiceDraft {
            identity: identity.clone(),
            coupa_id: InvoiceId(7),
            coupa_instance: String::new(),
            domain: "10USA".parse().unwrap(),
            currency: "USD".parse().unwrap(),
            invoice_date: "2026-03-05".parse().unwrap(),
            posting_date: "2026-03-06".parse().unwrap(),
            daybook: "SI".parse().unwrap(),
            matching_daybook: "RM".parse().unwrap(),
            invoice_status: "AP-GLALLOC".to_owned(),
            credit_terms: None,
            total: rust_decimal::Decimal::ONE,
            tax: rust_decimal::Decimal::ZERO,
            orders: vec![],
            matches: vec![],
            costs: vec![],
            payee: None,
            echo: rust_decimal::Decimal::ZERO,
            locked: false,
            billed: vec![],
            cancels: None,
            is_twin: false,
            billed_in_coupa: Default::default(),
        };
        let bench = crate::doctor::tests::Bench::full().await;
        let systems = bench.plain();
        let word = async |draft: SupplierInvoiceDraft| {
            let examined = master_data::examine(&systems).await;
            let refused = master_data::refusals(&examined, &draft);
            let codes: Vec<String> = refused.iter().map(|problem| problem.code.clone()).collect();
            let approved = Event::Approved {
                identity: identity.to_string(),
                request_sha256: String::new(),
                tolerance_version: String::new(),
                coupa_orders: vec![],
            };
            let record = InvoiceRecord::new(InvoiceId(7), Timestamp(0))
                .after(&approved, Timestamp(0))
                .unwrap();
            let prospect = Prospect {
                before: "new",
                record,
                draft: Some(draft),
                refused,
            };
            (prospect.word(), codes)
        };
        assert_eq!(word(draft.clone()).await, ("would-post", vec![]));
        let status = SupplierInvoiceDraft {
            invoice_status: "AP-LOST".to_owned(),
            ..draft.clone()
        };
        assert_eq!(
            word(status).await,
            ("would-be-refused", vec!["NOT_IN_QAD".to_owned()])
        );
        bench
            .simulators
            .world
            .lock()
            .unwrap()
            .qad
            .closed_periods
            .insert("2026-03".to_owned());
        assert_eq!(
            word(draft).await,
            ("would-be-refused", vec!["PERIOD_CLOSED".to_owned()])
        );
    }

    /// A register that has these records and takes no commit at all.
    pub(super) struct Untouchable(pub(super) Vec<StoredRecord>);

    #[async_trait]
    impl Register for Untouchable {
        async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
            Ok(keys
                .iter()
                .map(|key| self.0.iter().find(|stored| stored.key == *key).cloned())
                .collect())
        }
        async fn list(&self, _: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
            Ok(vec![])
        }
        async fn commit(&self, _: Commit) -> Result<(), CommitError> {
            panic!("a plan wrote to the register")
        }
        async fn due(&self, _: Timestamp, _: usize) -> Result<Vec<DueRecord>, StoreError> {
            Ok(vec![])
        }
        async fn audit(&self, _: &str) -> Result<Vec<AuditEntry>, StoreError> {
            Ok(vec![])
        }
        fn neighbour(&self, _: &ConnectionId) -> Box<dyn Register> {
            panic!("nothing of another connection is asked for")
        }
        async fn invoices(&self, _: Option<InvoiceId>, _: usize) -> Result<Vec<StoredRecord>, StoreError> {
            Ok(vec![])
        }
    }

    #[async_trait]
    impl Index for Untouchable {
        async fn rows(&self, _: &str, _: &RowsAsked<'_>) -> Result<Vec<IndexRow>, StoreError> {
            Ok(vec![])
        }
        async fn tallies(&self, _: &[&str]) -> Result<Vec<BTreeMap<String, Tally>>, StoreError> {
            Ok(vec![])
        }
        async fn glance(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
            self.read(keys).await
        }
        async fn members(
            &self,
            _: Collection,
            _: Option<&str>,
            _: usize,
        ) -> Result<Vec<StoredRecord>, StoreError> {
            Ok(vec![])
        }
    }

    fn put(key: RecordKey, seen: u64) -> Commit {
        Commit {
            token: "t".into(),
            writes: vec![RecordWrite::Put {
                key,
                seen,
                body: "new".into(),
                state: String::new(),
                due: None,
            }],
            audit: vec![],
        }
    }

    #[tokio::test]
    async fn what_a_plan_changes_stays_in_it_and_is_checked_like_the_real_thing() {
        let key = RecordKey::Invoice(InvoiceId(7));
        let real = Untouchable(vec![StoredRecord {
            key: key.clone(),
            revision: 3,
            body: Ok("old".into()),
        }]);
        let shadow = Shadow::of(&real);
        assert_eq!(
            shadow.commit(put(key.clone(), 2)).await,
            Err(CommitError::Conflict)
        );
        shadow.commit(put(key.clone(), 3)).await.unwrap();
        let seen = shadow.read(std::slice::from_ref(&key)).await.unwrap();
        assert_eq!(
            seen[0]
                .as_ref()
                .map(|stored| (stored.revision, stored.body.as_deref())),
            Some((4, Ok("new")))
        );
        let waiting = RecordKey::WaitingForOrder("PO1".parse().unwrap(), InvoiceId(7));
        shadow.commit(put(waiting, 0)).await.unwrap();
        let listed = shadow
            .list(&RecordGroup::WaitingForOrder("PO1".parse().unwrap()))
            .await
            .unwrap();
        assert_eq!(listed.len(), 1);
    }
}
