//! Drives one invoice to its next resting place: read it from Coupa, match it, hold it or park it, create it in QAD,
//! mark it exported.
//!
//! A hint only says "look at this invoice". What is done depends on the register, Coupa and QAD alone, so a hint that
//! is lost, repeated, late or out of order changes nothing.

mod named;

use crate::bills::{self, unmatched_key};
use crate::claims::{
    BilledInCoupa, ClaimPlace, FreeIdentity, IdentityClaim, Near, billed_in_coupa_key, billed_in_coupa_write,
    cancellation_write, claim_keys, claim_writes, identity_text, year_key,
};
use crate::coupa_orders::anew;
use crate::credits::Credits;
use crate::delivery::Reads;
use crate::engine::{self, Driven, Finding, Target, drive};
use crate::invoice_effects::{
    Creation, Export, Note, Wanted, draft_of, export_effect, judge_documents, new_effect, with_note,
};
use crate::neighbours::{self, Elsewhere, Home};
use crate::opening::{self, Openings};
use crate::originals::{self, Corrected};
use crate::pause;
use crate::poll_orders;
use crate::ports::{
    CommitError, Coupa, HintReason, Index, Outcomes, Qad, QadDocument, ReadError, RecordGroup, RecordKey,
    RecordWrite, StoredRecord,
};
use crate::store::{
    Change, Context, Document, FlowError, Loaded, impossible, load, parse, render, save, told,
};
use crate::supplier_event::{awaited_supplier_id, awaited_supplier_key};
use crate::verify;
use crate::waiting;
use domain::documents::{CoupaStatus, Invoice, ORDERS_PER_INVOICE_MAX, Order, Receipt, Reservation};
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition, Step, backoff_millis};
use domain::entities::{self, ENTITY_NOT_CONFIGURED, EntityRule, OUT_OF_SCOPE, Whose};
use domain::guards::{Guard, stands};
use domain::ids::{
    DocumentKind, EntityCode, Holder, InvoiceId, OrderLineKey, PurchaseOrderNumber, QadInvoiceIdentity,
    SupplierCode,
};
use domain::instruction::SecondPerson;
use domain::lifecycle::{
    ClosedPeriod, Event, InvoiceEffect, InvoiceRecord, ParkReason, PostedHow, State, Summary,
};
use domain::matching::alike::{BillAlike, SameNumber};
use domain::matching::{
    CoupaOrders, Decision, Exception, ExceptionCode, MatchInput, MatchReport, QuantitiesInCoupa,
    SupplierInvoiceDraft, Verdict, coding_of, decide_accepting, received_in_coupa,
};
use domain::money::Currency;
use domain::patience;
use domain::policy::{MatchPolicy, OnLine, OnOrderOnlyInCoupa};
use domain::problem::{CREDENTIAL_RECHECK_MILLIS, Problem};
use domain::time::{Timestamp, Zone};
use futures_util::future::{BoxFuture, join_all, try_join_all};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most rounds of load, act, store in one run; each round makes progress or ends the run. Of ten invoices of one order in one
/// delivery the last one is overtaken nine times before its decision is stored, and has some rounds left.
const ROUNDS_MAX: u32 = 20;
/// Most orders under which an invoice is found by an event about one of them; with the lines, old and new, all fits into
/// one transaction.
const INDEXED_ORDERS_MAX: usize = 8;
/// How soon an invoice is looked at again that waits for another invoice to settle, in milliseconds.
const IN_FLIGHT_RECHECK_MILLIS: i64 = 30_000;

/// The same for one that takes the rest of a receiver line, in milliseconds: it is woken when the other has settled, and
/// this is for the wake-up that got lost.
const SHARED_LINE_RECHECK_MILLIS: i64 = 600_000;
/// Tries to wake an invoice that somebody else is deciding.
const WAKE_TRIES_MAX: u32 = 4;
/// Most order lines of a posted invoice under which others are looked for that wait for it to settle; those beyond find
/// out with their recheck.
const WAKING_LINES_MAX: usize = 30;

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (read, write), clock, chance, timing, deadline.
    pub context: Context<'a>,
    /// Whose invoices, and which QAD: what is claimed there is shared with its other connections.
    pub home: &'a Home,
    /// Coupa: read invoices, mark exported, write outcomes.
    pub coupa: &'a dyn Coupa,
    /// QAD: read orders and receipts, find and create supplier invoices.
    pub qad: &'a dyn Qad,
    /// What is asked of Coupa together with the other invoices of the delivery.
    pub reads: &'a Reads<'a>,
    /// The index of questions: finds an invoice by its number, whatever has become of it.
    pub index: &'a dyn Index,
    /// The connection's settings; those of its entity where it has only one.
    pub settings: &'a InvoiceSettings,
    /// The connection's entities, each with its own view of QAD and its own settings; none where everything is the one
    /// entity's.
    pub entities: &'a [Entity<'a>],
}

/// One entity of a connection: whose invoices it takes, and how they are handled.
#[derive(Clone, Copy)]
pub struct Entity<'a> {
    /// Its code and its conditions.
    pub rule: &'a EntityRule,
    /// QAD, as this entity sees it: its domain, its workspace.
    pub qad: &'a dyn Qad,
    /// Its settings.
    pub settings: &'a InvoiceSettings,
}

impl<'a> Deps<'a> {
    /// These permissions in one entity; `None` when the connection does not name it.
    pub(crate) fn within(&self, code: &EntityCode) -> Option<Self> {
        if self.entities.is_empty() {
            return Some(*self);
        }
        let is_its_own = |rule: &EntityRule| rule.code == *code || !stands(Guard::OwnBooks);
        let entity = self.entities.iter().find(|entity| is_its_own(entity.rule))?;
        Some(Self {
            qad: entity.qad,
            settings: entity.settings,
            ..*self
        })
    }

    /// Whose the invoice is; `None` where everything is the one entity's.
    fn whose(&self, invoice: &Invoice) -> Option<Whose> {
        let rules = self.entities.iter().map(|entity| entity.rule);
        (!self.entities.is_empty()).then(|| entities::whose(rules, &invoice.entity_fields))
    }
}

/// How a connection wants its invoices handled, in one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceSettings {
    /// Tolerances and posting defaults.
    pub policy: MatchPolicy,
    /// How often an invoice that waits is looked at although nothing happened, in milliseconds.
    pub recheck_millis: i64,
    /// How much of what becomes of an invoice is shown in Coupa.
    pub outcomes: Outcomes,
    /// Whether a document keyed by hand in QAD, with equal amount and currency, is taken as ours.
    pub adopt_equal_documents: bool,
    /// Above which amounts a release needs a second person.
    pub second_person: SecondPerson,
    /// Where its days begin.
    pub zone: Zone,
}

/// Where a run left the invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// It rests in this state; when it is looked at again without anybody asking.
    In {
        /// The record as stored.
        record: Box<InvoiceRecord>,
        /// When it is due, if it is.
        due: Option<Timestamp>,
    },
    /// Coupa has not approved it, and nothing is known of it: nothing is kept. It comes back when Coupa approves it.
    NotApproved {
        /// Coupa's word.
        coupa_status: String,
    },
    /// It belongs to none of the connection's entities, and nothing is known of it: nothing is written anywhere.
    OutOfScope {
        /// What was found at the fields that say whose it is.
        problem: Problem,
    },
    /// Somebody else is working on it; the record is due by itself.
    Busy,
}

impl Rest {
    /// The state's word, for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::In { record, .. } => record.state.word(),
            Self::NotApproved { .. } => "not-approved",
            Self::OutOfScope { .. } => "out-of-scope",
            Self::Busy => "busy",
        }
    }
}

/// What our invoices have reserved on one purchase order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct OrderRecord {
    /// Reservations of invoices that are being posted; those that have settled are dropped when next written.
    pub reservations: Vec<Reservation>,
}

/// What a round asks for.
enum Next {
    /// Another round, from the register.
    Again,
    /// Another round, from the record as it was just saved: whoever has changed it since makes the next write a conflict.
    GoOn(Box<Loaded<InvoiceRecord>>),
    /// It is approved, and the creation begins; neither is stored yet.
    Create(Box<Opening>),
    /// Another decision, because somebody else changed the record, or what it rests on, in this moment.
    DecideAgain,
    /// Another decision, because what the invoice waits for arrived while it was being registered as waiting. Asked for
    /// once per run: the register is then newer than what the other system shows, and the slow recheck finds it.
    WokenMeanwhile,
    /// The end of the run.
    Rest(Rest),
}

/// An approval that is stored together with the claim to create, and the revision it was decided on.
struct Opening {
    revision: u64,
    change: Change<InvoiceRecord, Event>,
}

/// An approved invoice that is to be created.
enum Begun {
    Stored(Box<Loaded<InvoiceRecord>>),
    Unsaved(Box<Opening>),
}

impl Begun {
    fn record(&self) -> &InvoiceRecord {
        match self {
            Self::Stored(loaded) => &loaded.document,
            Self::Unsaved(opening) => &opening.change.document,
        }
    }
}

/// What a run remembers between its rounds.
#[derive(Default)]
struct SoFar {
    /// What is to be decided has been looked at.
    looked: bool,
    /// It was woken while it was registered as waiting, and has decided again for that reason.
    woken_meanwhile: bool,
    /// Token under which the exported flag was claimed together with the document.
    goes_on_as: Option<String>,
    /// How often somebody else was faster before a decision was stored.
    overtaken: u32,
}

/// Drives the invoice as far as it goes now.
pub async fn run(deps: &Deps<'_>, id: InvoiceId, reason: HintReason) -> Result<Rest, FlowError> {
    let context = &deps.context;
    let mut so_far = SoFar::default();
    let mut saved: Option<Box<Loaded<InvoiceRecord>>> = None;
    for number in 0..ROUNDS_MAX {
        if context.clock.now() > context.deadline {
            return Err(FlowError::OutOfTime);
        }
        let loaded = match saved.take() {
            Some(saved) => *saved,
            None => load::<InvoiceRecord>(context.register, RecordKey::Invoice(id))
                .await?
                .unwrap_or_else(|| Loaded {
                    document: InvoiceRecord::new(id, context.clock.now()),
                    revision: 0,
                }),
        };
        // Queued twice by the sweep: whoever came first has looked, and said when to look again. In a later round it is
        // this run that has found a reason to look once more.
        let is_first = number == 0 && reason == HintReason::Sweep;
        if is_first && is_not_due(&loaded.document, context.clock.now()) {
            return Ok(rest(context, loaded));
        }
        let Some(loaded) = Box::pin(verify::run(deps, loaded)).await? else {
            continue;
        };
        // On the heap: it is by far the largest part of a run.
        let mut next = Box::pin(round(deps, loaded, reason, &mut so_far)).await?;
        if let Next::Create(opening) = next {
            next = Box::pin(create(deps, Begun::Unsaved(opening), &mut so_far)).await?;
        }
        match next {
            Next::Again => {}
            Next::Create(_) => return Err(impossible("an approval that begins with an approval")),
            Next::GoOn(record) => saved = Some(record),
            Next::DecideAgain => so_far.looked = false,
            Next::WokenMeanwhile => {
                so_far.looked = so_far.woken_meanwhile;
                so_far.woken_meanwhile = true;
            }
            Next::Rest(rest) => return Ok(rest),
        }
    }
    Err(FlowError::Contended)
}

async fn round(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    reason: HintReason,
    so_far: &mut SoFar,
) -> Result<Next, FlowError> {
    let record = &loaded.document;
    let context = &deps.context;
    // A hint from outside is a reason to ask Coupa about what is already decided; our own sweep is not.
    let ask_coupa = !so_far.looked
        && matches!(
            reason,
            HintReason::Webhook | HintReason::Poll | HintReason::Operator
        );
    let under_way = match record.state {
        State::Approved | State::Posted { .. } => true,
        // A void that is being marked exported.
        State::Voided { .. } => is_open(&record.export),
        _ => false,
    };
    match &record.state {
        // Before anything is decided: what a person says is in QAD already must not be posted beside it.
        _ if record.adoption.is_some() && !so_far.looked => {
            so_far.looked = true;
            Box::pin(named::run(deps, loaded)).await
        }
        _ if record.may_be_decided() && !so_far.looked => {
            so_far.looked = true;
            match pause::stop(context, pause::Flow::Invoices).await? {
                Some(stop) => {
                    // Known and waiting: nothing is lost. Nobody else keeps asking for the end of a pause, which wakes what
                    // waits; who owns both systems is asked again by itself.
                    let slowly =
                        Duration::from_millis(u64::try_from(deps.settings.recheck_millis).unwrap_or(0));
                    let wait = stop.pause().map(|_| slowly);
                    Box::pin(delay(deps, loaded, wait, stop.problem())).await
                }
                None => Box::pin(decide_invoice(deps, loaded, reason)).await,
            }
        }
        // Approved before the pause and not under way: taken back, and then it waits like the others.
        State::Approved
            if !so_far.looked
                && not_in_flight(record)
                && pause::stop(context, pause::Flow::Invoices).await?.is_some() =>
        {
            Box::pin(take_back(deps, loaded)).await
        }
        State::Approved if ask_coupa && not_in_flight(record) => {
            so_far.looked = true;
            Box::pin(reconsider_approved(deps, loaded)).await
        }
        // Whatever Coupa wanted to say must not get lost behind what is under way: it is asked afterwards.
        _ if ask_coupa && under_way && !record.look_pending && stands(Guard::LookAfterwards) => {
            so_far.looked = true;
            let document = InvoiceRecord {
                look_pending: true,
                ..record.clone()
            };
            store(
                deps,
                loaded.revision,
                Change {
                    document,
                    events: vec![],
                    writes: vec![],
                },
            )
            .await
        }
        State::Approved => {
            so_far.looked = true;
            create(deps, Begun::Stored(Box::new(loaded)), so_far).await
        }
        State::Voided { .. } if (ask_coupa || record.look_pending) && !is_open(&record.export) => {
            so_far.looked = true;
            Box::pin(look_after_voided(deps, loaded)).await
        }
        State::Exported { .. } if ask_coupa || record.look_pending => {
            so_far.looked = true;
            Box::pin(look_after_posted(deps, loaded)).await
        }
        State::Posted { .. } | State::Voided { exported: false } | State::Exported { .. }
            if is_open(&record.export) =>
        {
            so_far.looked = true;
            // Before the flag is first sent: whoever died in between finds it without a setback.
            let (now, timing) = (context.clock.now(), context.timing);
            let is_new = record.export.as_ref().is_some_and(|export| {
                let is_anothers = matches!(export.step(now, timing), Step::Wait(_));
                export.setbacks == 0 && (so_far.goes_on_as.is_some() || !is_anothers)
            });
            if let (true, State::Posted { how, .. }) = (is_new, &record.state) {
                Box::pin(wake_those_who_wait(deps, record)).await?;
                // QAD pays nothing before it is there: only a document that stood there before this was known can have been
                // waited for.
                if *how != PostedHow::Created {
                    Box::pin(bills::wake(context, record.id)).await?;
                }
            }
            let target = Export {
                coupa: deps.coupa,
                retry_refused_millis: deps.settings.recheck_millis,
                outcomes: deps.settings.outcomes,
            };
            deps.reads.first_look.leave();
            let driven = match so_far.goes_on_as.take() {
                Some(holder) => {
                    Box::pin(engine::drive_handed(&deps.context, loaded, holder, &target)).await?
                }
                None => Box::pin(drive(&deps.context, loaded, &target)).await?,
            };
            followed(deps, driven)
        }
        _ if is_open(&record.note) => {
            follow(
                deps,
                loaded,
                &Note {
                    coupa: deps.coupa,
                    outcomes: deps.settings.outcomes,
                },
            )
            .await
        }
        _ => Ok(Next::Rest(rest(&deps.context, loaded))),
    }
}

/// Drives the creation. Wherever it was begun, there it is finished, whatever the conditions say by now.
async fn create(deps: &Deps<'_>, begun: Begun, so_far: &mut SoFar) -> Result<Next, FlowError> {
    let draft = begun.record().creation.as_ref().map(draft_of).transpose();
    let within = match draft.map_err(FlowError::Broken)? {
        Some(draft) => deps.within(&draft.identity.entity).ok_or(draft.identity.entity),
        None => Ok(*deps),
    };
    let deps = match (within, &begun) {
        (Ok(within), _) => within,
        (Err(entity), Begun::Stored(loaded)) => {
            let problem = not_configured(&entity);
            return Box::pin(delay(deps, (**loaded).clone(), None, problem)).await;
        }
        (Err(_), Begun::Unsaved(_)) => return Err(impossible("approved for an entity without settings")),
    };
    let goes_on_as = deps.context.chance.token();
    so_far.goes_on_as = Some(goes_on_as.clone());
    let target = Creation {
        qad: deps.qad,
        adopt_equal_documents: deps.settings.adopt_equal_documents,
        recheck_millis: deps.settings.recheck_millis,
        outcomes: deps.settings.outcomes,
        goes_on_as,
    };
    match begun {
        Begun::Stored(loaded) => follow(&deps, *loaded, &target).await,
        Begun::Unsaved(opening) => {
            let Opening { revision, change } = *opening;
            deps.reads.first_look.leave();
            match Box::pin(engine::open(&deps.context, revision, change, &target)).await? {
                Some(driven) => followed(&deps, driven),
                // Another invoice reserved on the same order in this moment, or somebody else moved this one: look again.
                None => {
                    so_far.overtaken = so_far.overtaken.saturating_add(1);
                    deps.context.pause(so_far.overtaken.saturating_add(1)).await;
                    Ok(Next::DecideAgain)
                }
            }
        }
    }
}

/// True when it waits for a time that has not come and nothing of it is open.
fn is_not_due(record: &InvoiceRecord, now: Timestamp) -> bool {
    record.may_be_decided()
        && !is_open(&record.note)
        && record.look_again.is_some_and(|at| at > now)
        && record.verification_due().is_none_or(|at| at > now)
}

fn is_open(effect: &Option<Effect>) -> bool {
    effect.as_ref().is_some_and(|effect| !effect.is_finished())
}

fn not_in_flight(record: &InvoiceRecord) -> bool {
    !stands(Guard::NotWhileInFlight)
        || record
            .creation
            .as_ref()
            .is_none_or(Effect::is_certainly_not_applied)
}

fn rest(context: &Context<'_>, loaded: Loaded<InvoiceRecord>) -> Rest {
    let due = Document::due(&loaded.document, context.timing);
    Rest::In {
        record: Box::new(loaded.document),
        due,
    }
}

async fn follow<T: Target<InvoiceRecord>>(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    target: &T,
) -> Result<Next, FlowError> {
    // The others' first look does not wait for what is written here.
    deps.reads.first_look.leave();
    let driven = Box::pin(drive(&deps.context, loaded, target)).await?;
    followed(deps, driven)
}

fn followed(deps: &Deps<'_>, driven: Driven<InvoiceRecord>) -> Result<Next, FlowError> {
    match driven {
        // Proven absent, and received anew.
        Driven::Finished(loaded) if matches!(loaded.document.state, State::Received { .. }) => {
            Ok(Next::DecideAgain)
        }
        Driven::Finished(loaded) => Ok(Next::GoOn(Box::new(loaded))),
        Driven::Later(waiting) => Ok(Next::Rest(rest(&deps.context, waiting))),
        Driven::Busy => Ok(Next::Rest(Rest::Busy)),
        Driven::OutOfTime => Err(FlowError::OutOfTime),
    }
}

fn store<'a>(
    deps: &'a Deps<'a>,
    revision: u64,
    change: Change<InvoiceRecord, Event>,
) -> BoxFuture<'a, Result<Next, FlowError>> {
    let saved = save(&deps.context, revision, change);
    Box::pin(async move {
        match saved.await {
            Ok(saved) => Ok(Next::GoOn(Box::new(saved))),
            Err(CommitError::Conflict) => {
                deps.context.pause(1).await;
                Ok(Next::DecideAgain)
            }
            Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
        }
    })
}

// ---------------------------------------------------------------------------------------------------------------
// Reading Coupa
// ---------------------------------------------------------------------------------------------------------------

/// What Coupa shows of the invoice. The first time in a run it is asked for with those of the others in the delivery; every
/// later look is one of its own.
async fn first_look(deps: &Deps<'_>, id: InvoiceId) -> Result<Result<Option<Invoice>, ReadError>, FlowError> {
    let alone = deps.coupa.invoice(id);
    deps.reads.first_look.of_document(&deps.context, id, alone).await
}

async fn decide_invoice(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    reason: HintReason,
) -> Result<Next, FlowError> {
    let id = loaded.document.id;
    if !deps.context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let invoice = match first_look(deps, id).await? {
        Ok(Some(invoice)) => invoice,
        Ok(None) => {
            return move_to(
                deps,
                loaded,
                Event::Rejected {
                    problem: not_in_coupa(id),
                },
            )
            .await;
        }
        Err(ReadError::Refused(problem)) if problem.code == OUT_OF_SCOPE => {
            return leave_alone(deps, loaded, problem, reason).await;
        }
        Err(error) => return unread(deps, loaded, error).await,
    };
    let whose = deps.whose(&invoice);
    if whose == Some(Whose::OutOfScope) && stands(Guard::LeftAlone) {
        let problem = entities::out_of_scope(&invoice.entity_fields);
        return leave_alone(deps, loaded, problem, reason).await;
    }
    // Once it was seen not exported, the flag is ours to set; before that, whoever set it has dealt with the invoice.
    let others_may_have_it = !loaded.document.taken_in
        && (loaded.document.source.is_none()
            || matches!(&loaded.document.state, State::Rejected { problem } if problem.code == EXPORTED_BY_OTHERS || problem.code == OUT_OF_SCOPE));
    let mut loaded = Loaded {
        document: with_source(&loaded.document, &invoice),
        ..loaded
    };
    loaded.document.entity = None;
    let within = match &whose {
        Some(Whose::Mine(code)) => {
            loaded.document.entity = Some(code.clone());
            deps.within(code)
        }
        Some(Whose::Ambiguous(codes)) => {
            if !matches!(invoice.status, CoupaStatus::Other(_)) {
                let problem = entities::ambiguous(codes, &invoice.entity_fields);
                let reason = ParkReason::Problem { problem };
                return move_to(deps, loaded, Event::Parked { reason }).await;
            }
            None
        }
        Some(Whose::OutOfScope) | None => None,
    };
    let deps = &within.unwrap_or(*deps);
    loaded.document.coding = coding_of(&invoice, &deps.settings.policy);
    match &invoice.status {
        CoupaStatus::Other(word) if loaded.revision == 0 => Ok(Next::Rest(Rest::NotApproved {
            coupa_status: word.clone(),
        })),
        CoupaStatus::Other(word) => {
            move_to(
                deps,
                loaded,
                Event::Received {
                    coupa_status: Some(word.clone()),
                },
            )
            .await
        }
        CoupaStatus::Voided => void(deps, loaded, &invoice).await,
        CoupaStatus::Approved if others_may_have_it && invoice.exported => {
            exported_before(deps, loaded, &invoice).await
        }
        CoupaStatus::Approved => Box::pin(decide_approved(deps, loaded, &invoice, reason)).await,
    }
}

/// Another ERP's: nothing is written, neither there nor here. Remembered only when a person asked for it by its id, or
/// when it was known before.
async fn leave_alone(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    problem: Problem,
    reason: HintReason,
) -> Result<Next, FlowError> {
    if loaded.revision == 0 && reason != HintReason::Operator {
        return Ok(Next::Rest(Rest::OutOfScope { problem }));
    }
    if matches!(&loaded.document.state, State::Rejected { problem: known } if *known == problem) {
        return Ok(Next::Rest(rest(&deps.context, loaded)));
    }
    move_to(deps, loaded, Event::Rejected { problem }).await
}

/// Nothing may be sent for it by anyone else's settings.
pub(crate) fn not_configured(entity: &EntityCode) -> Problem {
    Problem::new(
        ENTITY_NOT_CONFIGURED,
        "Give the connection this entity again until the invoice is posted; then it may be taken out.",
    )
    .field("entities")
    .expected(format!("the entity {entity}, in which this invoice was approved"))
    .actual("no such entity in the connection")
}

/// Exported before this product had seen it. When QAD proves that it holds this very invoice, it is taken over as it
/// stands, so that its payments find it; nothing is sent. Otherwise it is not ours.
async fn exported_before(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    invoice: &Invoice,
) -> Result<Next, FlowError> {
    let ours = ours(deps, invoice, &[]).await?;
    let mut loaded = loaded;
    if let Claim::Free(free) = &ours.claim
        && let Some(found) = keyed_by_hand(deps, invoice, &free.identity).await
    {
        let now = deps.context.clock.now();
        let identity = &free.identity;
        let mut claim = ours.claims(deps, invoice)?;
        claim.extend(ours.credit(deps, &mut loaded.document, found.0.currency, found.0.total)?);
        let mut change = adoption(deps, &loaded, identity, claim, found)?;
        change.document = change.document.after(&Event::Exported, now).map_err(impossible)?;
        change.events.push(Event::Exported);
        return store(deps, loaded.revision, change).await;
    }
    let problem = exported_elsewhere(invoice.id);
    move_to(deps, loaded, Event::Rejected { problem }).await
}

/// Coupa does not know the invoice, or does not show it.
pub(crate) const INVOICE_NOT_FOUND: &str = "COUPA_INVOICE_NOT_FOUND";

fn not_in_coupa(id: InvoiceId) -> Problem {
    Problem::new(
        INVOICE_NOT_FOUND,
        "Nothing to do, unless the id is known to be right: then check the client's permissions.",
    )
    .field("id")
    .expected("an invoice in Coupa")
    .actual(format!("404 for {id}"))
}

/// Code of an invoice that somebody else exported before this product had seen it.
pub const EXPORTED_BY_OTHERS: &str = "EXPORTED_BY_OTHERS";

fn exported_elsewhere(id: InvoiceId) -> Problem {
    Problem::new(
        EXPORTED_BY_OTHERS,
        "Nothing was sent to QAD. If the invoice is not in QAD, reset its exported flag in Coupa.",
    )
    .field("exported")
    .expected("false on an invoice that this product has not seen before")
    .actual(format!("true on {id}"))
}

fn with_source(record: &InvoiceRecord, invoice: &Invoice) -> InvoiceRecord {
    let mut next = record.clone();
    next.source = Some(invoice.source.clone());
    next.coupa_supplier = invoice.supplier.coupa_id;
    next.summary = Some(Summary {
        reference: invoice.reference.clone(),
        kind: invoice.kind,
        supplier_name: invoice.supplier.name.clone(),
        supplier_number: invoice.supplier.number.clone(),
        invoice_date: invoice.invoice_date,
        total: invoice.total,
        currency: invoice.currency,
        orders: invoice.orders(),
        particulars: invoice.particulars.clone(),
    });
    next
}

/// A read that gave no answer: later by itself, or by a person.
async fn unread(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>, error: ReadError) -> Result<Next, FlowError> {
    match error {
        ReadError::Unavailable { retry_after, problem } => delay(deps, loaded, retry_after, problem).await,
        // The invoice is all right: it goes on by itself once the connection does. What lasts may be about this one after all
        // (a right that only some documents need), so a person sees it then.
        ReadError::Refused(problem)
            if problem.waits_for_the_connection(loaded.document.delay.as_ref(), loaded.document.setbacks) =>
        {
            delay(deps, loaded, None, problem).await
        }
        ReadError::Refused(problem) | ReadError::Unreadable(problem) => {
            let mut loaded = loaded;
            loaded.document.asked_in_vain = Some(deps.context.clock.now());
            move_to(
                deps,
                loaded,
                Event::Parked {
                    reason: ParkReason::Problem { problem },
                },
            )
            .await
        }
    }
}

async fn delay(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    retry_after: Option<Duration>,
    problem: Problem,
) -> Result<Next, FlowError> {
    let record = &loaded.document;
    let now = deps.context.clock.now();
    let asked = retry_after.map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    let wait = backoff_millis(record.setbacks).max(asked.min(deps.settings.recheck_millis));
    // An outage is one entry in the audit trail, not one per attempt.
    let known = record
        .delay
        .as_ref()
        .is_some_and(|delay| delay.code == problem.code);
    let event = Event::Delayed { problem };
    let mut document = record.after(&event, now).map_err(impossible)?;
    document.look_again = Some(now.plus_millis(wait));
    let events = if known { vec![] } else { vec![event] };
    store(
        deps,
        loaded.revision,
        Change {
            document,
            events,
            writes: vec![],
        },
    )
    .await
}

/// Moves the record by one event that needs nothing else, unless that would change nothing.
async fn move_to(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>, event: Event) -> Result<Next, FlowError> {
    let change = change_to(deps, &loaded.document, event)?;
    store(deps, loaded.revision, change).await
}

pub(crate) fn change_to(
    deps: &Deps<'_>,
    record: &InvoiceRecord,
    event: Event,
) -> Result<Change<InvoiceRecord, Event>, FlowError> {
    change_at(deps.context.clock.now(), deps.settings, record, event)
}

/// The record after an event that happens now, with everything that is kept beside it.
pub(crate) fn change_at(
    now: Timestamp,
    settings: &InvoiceSettings,
    record: &InvoiceRecord,
    event: Event,
) -> Result<Change<InvoiceRecord, Event>, FlowError> {
    let mut document = record.after(&event, now).map_err(impossible)?;
    document.look_again = match &document.state {
        State::Held { exceptions, .. } => {
            let has = |code| exceptions.iter().any(|exception| exception.code == code);
            let wait = if has(ExceptionCode::AnotherInvoiceInFlight) {
                IN_FLIGHT_RECHECK_MILLIS
            } else if has(ExceptionCode::ReceiverLineInFlight) || has(ExceptionCode::OriginalNotPosted) {
                SHARED_LINE_RECHECK_MILLIS
            } else {
                settings.recheck_millis
            };
            Some(now.plus_millis(wait.min(settings.recheck_millis)))
        }
        State::Parked {
            reason: ParkReason::Problem { problem },
        } if problem.is_credential_refused() => {
            Some(now.plus_millis(CREDENTIAL_RECHECK_MILLIS.min(settings.recheck_millis)))
        }
        State::Parked {
            reason: ParkReason::Match { .. } | ParkReason::Problem { .. },
        } => Some(now.plus_millis(settings.recheck_millis)),
        _ => None,
    };
    if !document.rests_on_orders() {
        document.orders_seen.clear();
    }
    let mut document = with_note(document, settings.outcomes, now);
    let mut writes = waiting::writes(record, &document);
    writes.extend(index_orders(&mut document));
    writes.extend(index_supplier(&mut document));
    let news = document.state != record.state;
    Ok(Change {
        document,
        events: if news { vec![event] } else { vec![] },
        writes,
    })
}

/// Keeps the index of what an event about an order wakes as the record now stands. What is in the index is kept in the
/// record itself, for the orders an invoice names may change between two readings.
pub(crate) fn index_orders(document: &mut InvoiceRecord) -> Vec<RecordWrite> {
    let new: BTreeSet<PurchaseOrderNumber> = document
        .awaits_orders()
        .iter()
        .take(INDEXED_ORDERS_MAX)
        .cloned()
        .collect();
    let old: BTreeSet<PurchaseOrderNumber> = document.order_index.drain(..).collect();
    let id = document.id;
    let gone = old.difference(&new).map(|number| RecordWrite::Delete {
        key: RecordKey::WaitingForOrder(number.clone(), id),
    });
    let added = new
        .difference(&old)
        .map(|number| plain_put(RecordKey::WaitingForOrder(number.clone(), id), 0, "{}".to_owned()));
    let writes = gone.chain(added).collect();
    document.order_index = new.into_iter().collect();
    writes
}

/// Keeps the index of what waits for a supplier as the record now stands. The entry is kept in the record itself, for the
/// supplier an invoice names may change between two readings.
pub(crate) fn index_supplier(document: &mut InvoiceRecord) -> Vec<RecordWrite> {
    let new = document
        .awaits_supplier()
        .then(|| awaited_supplier_id(document.coupa_supplier, document.id));
    let old = document.supplier_index.take();
    document.supplier_index.clone_from(&new);
    if old == new {
        return Vec::new();
    }
    let gone = old.map(|id| RecordWrite::Delete {
        key: awaited_supplier_key(id),
    });
    let added = new.map(|id| plain_put(awaited_supplier_key(id), 0, "{}".to_owned()));
    gone.into_iter().chain(added).collect()
}

// ---------------------------------------------------------------------------------------------------------------
// Voids and changes
// ---------------------------------------------------------------------------------------------------------------

/// Voided before anything was posted: recorded, marked exported, nothing sent to QAD.
async fn void(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>, invoice: &Invoice) -> Result<Next, FlowError> {
    let now = deps.context.clock.now();
    let mut change = change_to(deps, &loaded.document, Event::Voided)?;
    if invoice.exported {
        change.document = change.document.after(&Event::Exported, now).map_err(impossible)?;
        change.events.push(Event::Exported);
    } else {
        change.document = InvoiceEffect::Export.put(&change.document, export_effect(&change.document, now));
    }
    store(deps, loaded.revision, change).await
}

/// The record is as it was; the hint is delivered again.
fn unanswered(error: ReadError) -> FlowError {
    FlowError::Unanswered(error.problem().clone())
}

/// Approved earlier but nothing was sent yet: if Coupa has changed its mind, so do we.
async fn reconsider_approved(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>) -> Result<Next, FlowError> {
    let invoice = first_look(deps, loaded.document.id).await?.map_err(unanswered)?;
    let known = loaded
        .document
        .source
        .as_ref()
        .map(|source| &source.content_sha256);
    let unchanged = invoice.is_some_and(|invoice| {
        invoice.status == CoupaStatus::Approved && known == Some(&invoice.source.content_sha256)
    });
    if unchanged {
        return Ok(Next::Again);
    }
    take_back(deps, loaded).await
}

/// An approved or voided invoice of which nothing was sent is received again, and decided anew.
async fn take_back(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>) -> Result<Next, FlowError> {
    let now = deps.context.clock.now();
    let mut document = loaded.document.clone();
    let mut events = Vec::new();
    if document
        .creation
        .as_ref()
        .is_some_and(|effect| effect.status == EffectStatus::Ready)
    {
        let (withdrawn, event) = InvoiceEffect::Creation
            .advance(&document, EffectEvent::Withdrawn, now, deps.context.timing)
            .map_err(impossible)?;
        document = withdrawn;
        events.push(event);
    }
    let event = Event::Received { coupa_status: None };
    document = document.after(&event, now).map_err(impossible)?;
    document.look_again = Some(now);
    document.look_pending = false;
    events.push(event);
    match store(
        deps,
        loaded.revision,
        Change {
            document,
            events,
            writes: vec![],
        },
    )
    .await?
    {
        Next::GoOn(_) => Ok(Next::DecideAgain),
        other => Ok(other),
    }
}

/// Voided before anything was posted: what counts is what Coupa says now. Approved again, it is received anew and decided
/// like any other, under the same identity.
async fn look_after_voided(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>) -> Result<Next, FlowError> {
    let record = &loaded.document;
    let invoice = first_look(deps, record.id).await?.map_err(unanswered)?;
    let approved = invoice
        .as_ref()
        .is_some_and(|invoice| invoice.status == CoupaStatus::Approved);
    if approved {
        return take_back(deps, loaded).await;
    }
    // The list shows it again when it changes after this reading.
    let source = invoice.map(|invoice| invoice.source).or(record.source.clone());
    if source == record.source && !record.look_pending {
        return Ok(Next::Again);
    }
    let document = InvoiceRecord {
        source,
        look_pending: false,
        ..record.clone()
    };
    let change = Change {
        document,
        events: vec![],
        writes: vec![],
    };
    store(deps, loaded.revision, change).await
}

/// In QAD already: a void, a reset of the exported flag or a change of the bill is noticed, never silently ignored.
async fn look_after_posted(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>) -> Result<Next, FlowError> {
    let record = &loaded.document;
    // An invoice that is gone from Coupa changes nothing: the document in QAD stays, and so does the record.
    let Some(invoice) = first_look(deps, record.id).await?.map_err(unanswered)? else {
        let document = InvoiceRecord {
            look_pending: false,
            ..record.clone()
        };
        let change = Change {
            document,
            events: vec![],
            writes: vec![],
        };
        return store(deps, loaded.revision, change).await;
    };
    let now = deps.context.clock.now();
    let voucher = record.state.voucher().cloned();
    let number = voucher.as_ref().map_or_else(String::new, ToString::to_string);
    let changed = record.summary.as_ref().is_some_and(|summary| {
        summary.total != invoice.total
            || summary.currency != invoice.currency
            || summary.reference != invoice.reference
    });
    if invoice.status == CoupaStatus::Voided || changed {
        let problem = if invoice.status == CoupaStatus::Voided {
            Problem::new(
                "VOIDED_AFTER_POSTING",
                "Reverse the supplier invoice in QAD, or reinstate the invoice in Coupa.",
            )
            .field(format!("QAD supplier invoice {number}"))
            .expected("an invoice that stays approved in Coupa")
            .actual("voided in Coupa after it was posted in QAD")
        } else {
            Problem::new(
                "CHANGED_AFTER_POSTING",
                "Compare both documents and correct the wrong one.",
            )
            .field(format!("QAD supplier invoice {number}"))
            .expected(
                record
                    .summary
                    .as_ref()
                    .map_or_else(String::new, |s| format!("{} {}", s.total, s.currency)),
            )
            .actual(format!("{} {} in Coupa", invoice.total, invoice.currency))
        };
        let reason = ParkReason::InQad { problem, voucher };
        let mut change = change_to(deps, record, Event::Parked { reason })?;
        change.document.source = Some(invoice.source);
        change.document.look_pending = false;
        return store(deps, loaded.revision, change).await;
    }
    let reset = !invoice.exported && !is_open(&record.export);
    if !reset && !record.look_pending {
        return Ok(Next::Again);
    }
    let mut document = record.clone();
    if reset {
        document = InvoiceEffect::Export.put(&document, export_effect(&document, now));
    }
    document.source = Some(invoice.source);
    document.look_pending = false;
    let change = Change {
        document,
        events: vec![],
        writes: vec![],
    };
    store(deps, loaded.revision, change).await
}

// ---------------------------------------------------------------------------------------------------------------
// The three-way match
// ---------------------------------------------------------------------------------------------------------------

/// Everything a decision was made from.
struct Evidence {
    orders: BTreeMap<PurchaseOrderNumber, Option<Order>>,
    receipts: Vec<Receipt>,
    ours: Ours,
}

/// What the register knows.
struct Ours {
    /// What others of our invoices have reserved, by order.
    reserved: BTreeMap<PurchaseOrderNumber, Loaded<OrderRecord>>,
    /// What a person has said about the books.
    openings: Openings,
    /// Whose the identity is.
    claim: Claim,
    /// Where bills of this kind are kept.
    near: Near,
    /// Those of them that stand.
    alike: Vec<BillAlike>,
    /// The invoice that a credit note names as the one it corrects.
    corrected: Corrected,
    /// What other credit notes credit of that invoice; `None` when this one names none.
    credits: Option<Credits>,
}

/// Whose the QAD identity of this invoice is.
enum Claim {
    /// The invoice has no valid identity (the match says why).
    None,
    /// Free, or already ours, or left by an invoice that never reached QAD.
    Free(Box<FreeIdentity>),
    /// Another invoice's.
    Taken {
        identity: QadInvoiceIdentity,
        owner: SameNumber,
    },
}

/// A decision, and what it had to ask besides.
struct Decided {
    decision: Decision,
    /// Coupa's orders, as far as they were asked for.
    coupa_orders: CoupaOrders,
    /// What is billed of orders that Coupa alone receives, as it was read.
    billed_in_coupa: BTreeMap<String, Loaded<BilledInCoupa>>,
}

/// Decides an invoice that Coupa has approved, on what QAD shows of it now, and stores the verdict.
async fn decide_approved(
    deps: &Deps<'_>,
    mut loaded: Loaded<InvoiceRecord>,
    invoice: &Invoice,
    reason: HintReason,
) -> Result<Next, FlowError> {
    deps.reads.orders.may_be_needed(invoice);
    let evidence = match gather(deps, invoice).await? {
        Ok(evidence) => evidence,
        Err(error) => return Box::pin(unread(deps, loaded, error)).await,
    };
    let policy = evidence.ours.openings.applied_to(&deps.settings.policy);
    let decided = match Box::pin(decided(deps, &loaded.document, invoice, &evidence, &policy)).await? {
        Ok(decided) => decided,
        Err(error) => return Box::pin(unread(deps, loaded, error)).await,
    };
    let Decided {
        decision: Decision { verdict, report },
        coupa_orders,
        billed_in_coupa,
    } = decided;
    let tolerance_version = report.tolerance_version.clone();
    loaded.document.report = Some(report);
    loaded.document.orders_seen = poll_orders::seen(&evidence.orders);
    let opened = opened_at(&evidence.ours.openings, &policy);
    let verdict = unless_closed(deps, &mut loaded.document, verdict, opened, reason).await;
    let verdict = impatient(deps, &mut loaded.document, verdict, &policy);
    if let (Verdict::Hold { .. } | Verdict::Park { .. }, Claim::Free(free)) = (&verdict, &evidence.ours.claim)
        && (matches!(verdict, Verdict::Park { .. }) || is_partly_invoiced(invoice, &evidence.receipts))
        && !may_be_known(&verdict)
        && let Some(found) = keyed_by_hand(deps, invoice, &free.identity).await
    {
        let identity = &free.identity;
        let mut claim = evidence.ours.claims(deps, invoice)?;
        let (currency, total) = (found.0.currency, found.0.total);
        claim.extend(
            evidence
                .ours
                .credit(deps, &mut loaded.document, currency, total)?,
        );
        return Box::pin(adopt(deps, loaded, identity, claim, found)).await;
    }
    match verdict {
        Verdict::Park { exceptions } => {
            park(deps, loaded, invoice, exceptions, &evidence, &coupa_orders).await
        }
        Verdict::Hold { exceptions, awaits } => {
            let held = Event::Held {
                exceptions,
                awaits,
                tolerance_version,
            };
            hold(deps, loaded, invoice, held, &evidence, &coupa_orders).await
        }
        Verdict::Approve { draft } => {
            match approval_writes(deps, invoice, &draft, &evidence.ours, billed_in_coupa).await? {
                Ok(mut writes) => {
                    let (ours, record) = (&evidence.ours, &mut loaded.document);
                    writes.extend(ours.credit(deps, record, draft.currency, draft.total)?);
                    approve(deps, loaded, *draft, evidence.ours.reserved, writes)
                }
                Err(problem) => {
                    let reason = ParkReason::Problem { problem };
                    move_to(deps, loaded, Event::Parked { reason }).await
                }
            }
        }
    }
}

/// What is claimed with an approval: QAD's identity, the invoice that a credit note cancels, what is received in Coupa alone.
/// Refused where another one has the identity by now.
async fn approval_writes(
    deps: &Deps<'_>,
    invoice: &Invoice,
    draft: &SupplierInvoiceDraft,
    ours: &Ours,
    mut billed_in_coupa: BTreeMap<String, Loaded<BilledInCoupa>>,
) -> Result<Result<Vec<RecordWrite>, Problem>, FlowError> {
    let mut writes = match &ours.claim {
        Claim::Free(_) => ours.claims(deps, invoice)?,
        Claim::Taken { identity, .. } => {
            match claim_of_year(deps, invoice, identity, draft, &ours.near).await? {
                Ok(writes) => writes,
                Err(problem) => return Ok(Err(problem)),
            }
        }
        Claim::None => return Err(impossible("approved without identity")),
    };
    if let Some(original) = draft.cancels {
        writes.push(cancellation_write(
            original,
            invoice.id,
            ours.corrected.cancellation,
        )?);
    }
    for order in draft.billed_in_coupa.keys() {
        let Some(Loaded { document, revision }) = billed_in_coupa.remove(order) else {
            return Err(impossible("billed what was not read"));
        };
        writes.push(billed_in_coupa_write(order, revision, document, invoice.id)?);
    }
    Ok(Ok(writes))
}

/// Takes QAD's identity within its posting year, for an invoice that a person has released beside another one of the same
/// number; the number's other owner keeps what it has. Refused where a third one has it in this year.
async fn claim_of_year(
    deps: &Deps<'_>,
    invoice: &Invoice,
    identity: &QadInvoiceIdentity,
    draft: &SupplierInvoiceDraft,
    near: &Near,
) -> Result<Result<Vec<RecordWrite>, Problem>, FlowError> {
    let year = u32::try_from(draft.posting_date.year()).map_err(|_| impossible("a posting year before 0"))?;
    let key = year_key(identity, year);
    let keys = [key.clone(), deps.home.year_key(identity, year)];
    let mut found = deps.context.register.read(&keys).await?.into_iter();
    let (stored, shared) = (found.next().flatten(), found.next().flatten());
    let owner = stored.as_ref().map(parse::<IdentityClaim>).transpose()?;
    let elsewhere = Elsewhere::of_year(deps.home, identity, year, shared.as_ref())?;
    let holders: BTreeSet<Holder> = owner
        .map(|claim| Holder::own(claim.owner))
        .into_iter()
        .chain(elsewhere.holders.iter().cloned())
        .filter(|holder| *holder != Holder::own(invoice.id))
        .collect();
    let known = neighbours::invoices(deps.context.register, &holders).await?;
    let is_free =
        |record: &InvoiceRecord| matches!(record.state, State::Voided { .. }) && not_in_flight(record);
    let third = holders
        .iter()
        .find(|holder| !known.get(holder).is_some_and(is_free));
    if let (Some(owner), true) = (third, stands(Guard::IdentityClaim)) {
        let problem = Problem::new("DUPLICATE_REFERENCE", ExceptionCode::DuplicateReference.fix())
            .field(identity.to_string())
            .expected("no other invoice with this reference")
            .actual(format!("Coupa invoice {owner} has it"));
        return Ok(Err(problem));
    }
    let seen = stored.map_or(0, |stored| stored.revision);
    let own = plain_put(key, seen, render(&IdentityClaim { owner: invoice.id })?);
    let mut writes = vec![own, elsewhere.claim(deps.home, invoice.id)?];
    writes.extend(near.writes(invoice, &deps.settings.policy.entity)?);
    Ok(Ok(writes))
}

/// What the match says of the evidence, and Coupa's orders as far as it had to ask for them.
async fn decided(
    deps: &Deps<'_>,
    record: &InvoiceRecord,
    invoice: &Invoice,
    evidence: &Evidence,
    policy: &MatchPolicy,
) -> Result<Result<Decided, ReadError>, FlowError> {
    let reservations = evidence.ours.reservations(&deps.settings.policy);
    // Whoever wrote it into the register: above the limit one person's word is none.
    let rule = &deps.settings.second_person;
    let release = record.release.as_ref();
    let release = release.filter(|release| release.suffices(rule, invoice.total, invoice.currency));
    let accepted = release.map_or(&[][..], |release| {
        release.accepted_of(&invoice.source.content_sha256)
    });
    let (no_orders, nothing_billed) = (CoupaOrders::new(), QuantitiesInCoupa::new());
    let input = MatchInput {
        invoice,
        orders: &evidence.orders,
        receipts: &evidence.receipts,
        reservations: &reservations,
        coupa_orders: &no_orders,
        alike: &evidence.ours.alike,
        original: evidence.ours.corrected.original.as_ref(),
        credited: evidence.ours.corrected.credited.as_ref(),
        same_number: match &evidence.ours.claim {
            Claim::Taken { owner, .. } => Some(owner),
            Claim::Free(_) | Claim::None => None,
        },
        billed_in_coupa: &nothing_billed,
        policy,
        today: deps.settings.zone.date_of(deps.context.clock.now()),
    };
    let decision = decide_accepting(&input, accepted);
    let is_parked = matches!(decision.verdict, Verdict::Park { .. });
    // What a person has to look at anyway needs no further question, unless Coupa's order can send a line elsewhere.
    if !policy.coupa_orders.read || (is_parked && !may_go_elsewhere(invoice, policy)) {
        return Ok(Ok(Decided {
            decision,
            coupa_orders: no_orders,
            billed_in_coupa: BTreeMap::new(),
        }));
    }
    if !deps.context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let coupa_orders = match deps
        .reads
        .orders
        .of_invoice(&deps.context, deps.coupa, invoice)
        .await
    {
        Ok(orders) => orders,
        Err(error) => return Ok(Err(error)),
    };
    let input = MatchInput {
        coupa_orders: &coupa_orders,
        ..input
    };
    let kept = billed_in_coupa(deps, invoice.id, received_in_coupa(&input).into_keys()).await?;
    let billed: QuantitiesInCoupa = kept
        .iter()
        .map(|(order, (_, billed))| (order.clone(), billed.clone()))
        .collect();
    let decision = decide_accepting(
        &MatchInput {
            billed_in_coupa: &billed,
            ..input
        },
        accepted,
    );
    Ok(Ok(Decided {
        decision,
        coupa_orders,
        billed_in_coupa: kept
            .into_iter()
            .map(|(order, (loaded, _))| (order, loaded))
            .collect(),
    }))
}

/// True where Coupa's orders may do more than be in the way: they can send a line of an invoice to the general ledger.
fn may_go_elsewhere(invoice: &Invoice, policy: &MatchPolicy) -> bool {
    invoice.kind == DocumentKind::Invoice
        && (policy.lines.without_receipt == OnLine::Gl
            || policy.lines.order_only_in_coupa == OnOrderOnlyInCoupa::Gl)
        && invoice.lines.iter().any(|line| line.coupa_order.is_some())
}

/// What is kept of each of these orders that Coupa alone receives, without those invoices that came to nothing, and how much
/// others than this invoice have billed of its lines.
async fn billed_in_coupa(
    deps: &Deps<'_>,
    own: InvoiceId,
    orders: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, (Loaded<BilledInCoupa>, BTreeMap<String, Decimal>)>, FlowError> {
    let orders: Vec<String> = orders.collect();
    if orders.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys: Vec<RecordKey> = orders.iter().map(|order| billed_in_coupa_key(order)).collect();
    let found = deps.context.register.read(&keys).await?;
    let mut kept = BTreeMap::new();
    for (order, stored) in orders.into_iter().zip(found) {
        let (mut document, revision) = match &stored {
            Some(stored) => (parse::<BilledInCoupa>(stored)?, stored.revision),
            None => (BilledInCoupa::default(), 0),
        };
        document.open.remove(&own);
        let others = read_invoices(deps, std::mem::take(&mut document.open)).await?;
        let mut billed = document.settled.clone();
        for (id, record) in others.into_iter().filter(|(_, record)| may_be_in_qad(record)) {
            let draft = record.creation.as_ref().map(draft_of).transpose();
            let draft = draft.map_err(FlowError::Broken)?;
            let shares = draft.and_then(|mut draft| draft.billed_in_coupa.remove(&order));
            let is_settled = record.state.voucher().is_some();
            for (line, share) in shares.into_iter().flatten() {
                add(&mut billed, &line, share);
                if is_settled {
                    add(&mut document.settled, &line, share);
                } else {
                    document.open.insert(id);
                }
            }
        }
        kept.insert(order, (Loaded { document, revision }, billed));
    }
    Ok(kept)
}

fn add(sums: &mut BTreeMap<String, Decimal>, line: &str, share: Decimal) {
    let sum = sums.entry(line.to_owned()).or_default();
    *sum = sum.saturating_add(share);
}

/// True for an invoice whose request is in QAD, on its way there, or perhaps there.
pub(crate) fn may_be_in_qad(record: &InvoiceRecord) -> bool {
    matches!(record.state, State::Approved) || record.state.voucher().is_some() || !not_in_flight(record)
}

/// The verdict, held where QAD has said that the books of its posting date are closed and nothing says otherwise since. A person
/// who asks has a reason to believe that they are open again.
async fn unless_closed(
    deps: &Deps<'_>,
    record: &mut InvoiceRecord,
    verdict: Verdict,
    opened: Option<Timestamp>,
    reason: HintReason,
) -> Verdict {
    let (Verdict::Approve { draft }, Some(closed)) = (&verdict, &mut record.closed_period) else {
        return verdict;
    };
    if reason == HintReason::Operator || !closed.still_stands(draft.posting_date, opened) {
        return verdict;
    }
    if list_shows_open(deps, closed).await {
        closed.list_was_trusted = true;
        return verdict;
    }
    Verdict::Hold {
        exceptions: vec![closed.exception.clone()],
        awaits: vec![],
    }
}

/// Parks it, and looks once more at whatever it newly waits for, so that no wake-up is lost in between.
async fn park(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    invoice: &Invoice,
    exceptions: Vec<Exception>,
    evidence: &Evidence,
    coupa_orders: &CoupaOrders,
) -> Result<Next, FlowError> {
    let waited = loaded.document.supplier_index.clone();
    let parked = Event::Parked {
        reason: ParkReason::Match { exceptions },
    };
    let change = change_to(deps, &loaded.document, parked)?;
    let newly_rests_on: Vec<OrderLineKey> = change
        .document
        .rests_on()
        .difference(&loaded.document.rests_on())
        .cloned()
        .collect();
    let waits = &change.document.supplier_index;
    let waits_newly = waits.is_some() && *waits != waited;
    let order_in_way = is_newly_in_way(&loaded.document, &change.document);
    match store(deps, loaded.revision, change).await? {
        Next::GoOn(_) if receipt_missed(deps, &newly_rests_on, &evidence.receipts).await? => {
            Ok(Next::WokenMeanwhile)
        }
        Next::GoOn(_) if waits_newly && supplier_number_missed(deps, invoice).await? => {
            Ok(Next::WokenMeanwhile)
        }
        Next::GoOn(_) if order_in_way && order_missed(deps, coupa_orders).await? => Ok(Next::WokenMeanwhile),
        next => Ok(next),
    }
}

/// Holds it, and looks once more at what it waits for, so that no wake-up is lost in between.
async fn hold(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    invoice: &Invoice,
    held: Event,
    evidence: &Evidence,
    coupa_orders: &CoupaOrders,
) -> Result<Next, FlowError> {
    let change = change_to(deps, &loaded.document, held)?;
    let (waits_for_others, awaits) = match &change.document.state {
        State::Held { exceptions, awaits } => (waits_for_others(exceptions), awaits.clone()),
        _ => (false, vec![]),
    };
    let reservations = evidence.ours.reservations(&deps.settings.policy);
    let order_in_way = is_newly_in_way(&loaded.document, &change.document);
    match store(deps, loaded.revision, change).await? {
        Next::GoOn(_) if receipt_missed(deps, &awaits, &evidence.receipts).await? => Ok(Next::WokenMeanwhile),
        Next::GoOn(_) if waits_for_others && settled_meanwhile(deps, &reservations, invoice.id).await? => {
            Ok(Next::WokenMeanwhile)
        }
        Next::GoOn(_) if order_in_way && order_missed(deps, coupa_orders).await? => Ok(Next::WokenMeanwhile),
        next => Ok(next),
    }
}

impl Ours {
    /// What our other invoices hold of the receipts. The same order number in another domain is another order.
    fn reservations(&self, policy: &MatchPolicy) -> Vec<Reservation> {
        self.reserved
            .values()
            .flat_map(|order| order.document.reservations.iter().cloned())
            .filter(|reservation| reservation.receipt.domain == policy.domain)
            .collect()
    }

    /// The writes that take QAD's identity for this invoice, and note what it may be taken for.
    ///
    /// # Errors
    /// Somebody else has the identity, or there is none.
    fn claims(&self, deps: &Deps<'_>, invoice: &Invoice) -> Result<Vec<RecordWrite>, FlowError> {
        let Claim::Free(free) = &self.claim else {
            return Err(impossible("claimed without a free identity"));
        };
        let now = deps.context.clock.now();
        let mut writes = claim_writes(now, deps.home, invoice.id, free)?;
        writes.extend(self.near.writes(invoice, &deps.settings.policy.entity)?);
        Ok(writes)
    }

    /// The write that keeps how much a credit note credits of the invoice that it names.
    fn credit(
        &self,
        deps: &Deps<'_>,
        record: &mut InvoiceRecord,
        currency: Currency,
        total: Decimal,
    ) -> Result<Option<RecordWrite>, FlowError> {
        record.credits = None;
        let credits = self.credits.as_ref();
        credits
            .map(|credits| credits.write(deps.home, record, currency, total))
            .transpose()
    }
}

/// The verdict once it has waited long enough; the record keeps since when each reason has stood.
fn impatient(deps: &Deps<'_>, record: &mut InvoiceRecord, verdict: Verdict, policy: &MatchPolicy) -> Verdict {
    let now = deps.context.clock.now();
    let exceptions = match &verdict {
        Verdict::Hold { exceptions, .. } | Verdict::Park { exceptions } => exceptions.as_slice(),
        Verdict::Approve { .. } => &[],
    };
    record.waiting_since = patience::since(&record.waiting_since, exceptions, now);
    patience::applied(
        verdict,
        &record.waiting_since,
        record.first_seen,
        now,
        &policy.patience,
    )
}

/// Whether QAD's list of periods shows by now that the books are open. Without an answer, and where the tenant shows no list,
/// they are not.
async fn list_shows_open(deps: &Deps<'_>, closed: &ClosedPeriod) -> bool {
    !closed.list_was_trusted
        && deps.context.has_time_for_a_call()
        && matches!(deps.qad.books_are_open(closed.posting_date).await, Ok(Some(true)))
}

/// When a person last said from when on the books of the policy's entity are open.
fn opened_at(openings: &Openings, policy: &MatchPolicy) -> Option<Timestamp> {
    openings.of(&policy.entity).map(|said| said.since)
}

/// Reads what the match needs, in the order that keeps it safe: first what our other invoices hold, then QAD. What has
/// settled by then already shows in QAD; what has not, still shows as reserved.
async fn gather(deps: &Deps<'_>, invoice: &Invoice) -> Result<Result<Evidence, ReadError>, FlowError> {
    let numbers = invoice.orders();
    if numbers.len() > ORDERS_PER_INVOICE_MAX {
        // Too many to ask for; the match parks it for that reason without needing them.
        let orders = numbers.into_iter().map(|number| (number, None)).collect();
        return Ok(Ok(Evidence {
            orders,
            receipts: vec![],
            ours: Ours {
                reserved: BTreeMap::new(),
                openings: Openings::default(),
                claim: Claim::None,
                near: Near::default(),
                alike: vec![],
                corrected: Corrected::default(),
                credits: None,
            },
        }));
    }
    let ours = ours(deps, invoice, &numbers).await?;
    if !deps.context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let asked = join_all(numbers.iter().map(|number| async move {
        let order = deps.qad.order(number).await?;
        let receipts = if order.is_some() {
            deps.qad.receipts_of_order(number).await?
        } else {
            Vec::new()
        };
        Ok::<_, ReadError>((number.clone(), order, receipts))
    }))
    .await;
    let mut orders = BTreeMap::new();
    let mut receipts = Vec::new();
    for answer in asked {
        match answer {
            Ok((number, order, of_order)) => {
                orders.insert(number, order);
                receipts.extend(of_order);
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(Evidence {
        orders,
        receipts,
        ours,
    }))
}

async fn ours(
    deps: &Deps<'_>,
    invoice: &Invoice,
    numbers: &[PurchaseOrderNumber],
) -> Result<Ours, FlowError> {
    let identity = identity_of(deps, invoice);
    let corrected = identity
        .as_ref()
        .and_then(|identity| originals::corrected(invoice, identity));
    let (home, domain) = (deps.home, &deps.settings.policy.domain);
    let of_all = numbers.iter().map(|number| home.order_key(domain, number));
    let mut keys: Vec<RecordKey> = of_all.collect();
    keys.extend(numbers.iter().cloned().map(RecordKey::Order));
    keys.push(home.connections_key());
    keys.extend(identity.as_ref().map(|identity| home.claim_key(identity)));
    let near_keys = identity
        .as_ref()
        .map_or_else(Vec::new, |identity| Near::keys(invoice, &identity.supplier));
    keys.extend(near_keys.iter().cloned());
    keys.push(opening::key());
    keys.extend(identity.as_ref().map(unmatched_key));
    keys.extend(identity.iter().flat_map(claim_keys));
    keys.extend(corrected.iter().flat_map(claim_keys));
    keys.extend(corrected.iter().map(|corrected| home.claim_key(corrected)));
    // Only credits of goods are counted and limited; the invoice that is corrected is looked for whatever is credited.
    let counted = corrected.as_ref().filter(|_| invoice.credits_goods());
    keys.extend(counted.map(|counted| home.credits_key(counted)));
    let mut found = deps.context.register.read(&keys).await?.into_iter();
    let mut reserved = reserved_on(deps, numbers, &mut found)?;
    let connections = found.next().flatten();
    let neighbours = neighbours::others(&deps.context, home, connections).await?;
    let elsewhere = match &identity {
        Some(identity) => {
            let shared = found.next().flatten();
            let found = Elsewhere::of(
                deps.context.register,
                home,
                identity,
                shared.as_ref(),
                &neighbours,
            );
            Some(found.await?)
        }
        None => None,
    };
    let near = Near::among(near_keys, &mut found)?;
    let openings = found.next().flatten();
    let openings = openings
        .map(|stored| parse::<Openings>(&stored))
        .transpose()?
        .unwrap_or_default();
    let payments = found.next().flatten();
    let claimed = identity
        .as_ref()
        .map(|identity| ClaimPlace::among(identity, &mut found));
    let corrects = corrected
        .as_ref()
        .and_then(|corrected| ClaimPlace::among(corrected, &mut found).1)
        .map(|claim| parse::<IdentityClaim>(&claim))
        .transpose()?
        .map(|claim| claim.owner);
    let corrects_elsewhere = corrected
        .as_ref()
        .and_then(|_| found.next().flatten())
        .map(|claim| home.claimed_by(&claim))
        .transpose()?
        .filter(|holder| holder.connection.is_some());
    let credits = match counted {
        Some(counted) => {
            let kept = found.next().flatten();
            let credits = Credits::of(deps.context.register, home, counted, kept.as_ref(), invoice.id);
            Some(Box::pin(credits).await?)
        }
        None => None,
    };
    let mut others: BTreeSet<Holder> = reserved
        .values()
        .flat_map(|order| order.document.reservations.iter().map(Reservation::holder))
        .collect();
    let owner = claimed
        .as_ref()
        .and_then(|(_, claim)| claim.as_ref())
        .map(parse::<IdentityClaim>)
        .transpose()?
        .map(|claim| Holder::own(claim.owner));
    others.extend(owner.clone());
    others.extend(elsewhere.iter().flat_map(|one| one.holders.clone()));
    others.extend(corrects.map(Holder::own));
    others.extend(corrects_elsewhere.clone());
    let entity = &deps.settings.policy.entity;
    let may_be_the_same: Vec<&BillAlike> = near
        .bills()
        .into_iter()
        .filter(|bill| bill.is_near(invoice, entity))
        .collect();
    others.extend(may_be_the_same.iter().map(|bill| Holder::own(bill.invoice)));
    others.remove(&Holder::own(invoice.id));
    let others = neighbours::invoices(deps.context.register, &others).await?;
    let holds = |holder: &Holder| {
        others.get(holder).is_some_and(InvoiceRecord::holds_reservations) && stands(Guard::Reservation)
    };
    for order in reserved.values_mut() {
        order
            .document
            .reservations
            .retain(|reservation| holds(&reservation.holder()));
    }
    let alike = may_be_the_same
        .into_iter()
        .filter(|bill| !has_left(others.get(&Holder::own(bill.invoice)), bill))
        .cloned()
        .collect();
    let claim = match (identity, claimed, elsewhere) {
        (Some(identity), Some((place, _)), Some(elsewhere)) => {
            let free = FreeIdentity {
                identity,
                place,
                elsewhere,
                payments,
            };
            claim_on(invoice.id, owner, &others, free)
        }
        _ => Claim::None,
    };
    let claimed = corrects.and_then(|id| others.get(&Holder::own(id)));
    let elsewhere = corrects_elsewhere.and_then(|holder| others.get(&holder));
    let corrected = match &corrected {
        Some(corrected) => {
            let credits = credits.as_ref();
            let original = originals::original(deps, invoice, corrected, claimed, elsewhere, credits);
            Box::pin(original).await?
        }
        None => Corrected::default(),
    };
    Ok(Ours {
        reserved,
        openings,
        claim,
        near,
        alike,
        corrected,
        credits,
    })
}

/// Under what the invoice will be in QAD; `None` when its supplier has no number that is one.
fn identity_of(deps: &Deps<'_>, invoice: &Invoice) -> Option<QadInvoiceIdentity> {
    let supplier: SupplierCode = invoice.supplier.number.as_ref()?.parse().ok()?;
    Some(QadInvoiceIdentity {
        entity: deps.settings.policy.entity.clone(),
        supplier,
        reference: invoice.reference.clone(),
        kind: invoice.kind,
    })
}

/// Whose the identity is: another invoice's, of this connection or of another one, that has claimed it and not given it up;
/// else it is free.
fn claim_on(
    own: InvoiceId,
    owner: Option<Holder>,
    others: &BTreeMap<Holder, InvoiceRecord>,
    free: FreeIdentity,
) -> Claim {
    let holders = free.elsewhere.holders.iter().cloned();
    let has_it =
        |holder: &Holder| *holder != Holder::own(own) && !gave_up(others.get(holder), &free.identity);
    match owner.into_iter().chain(holders).find(has_it) {
        Some(invoice) if stands(Guard::IdentityClaim) => {
            let record = others.get(&invoice);
            let voucher = record.and_then(|record| record.state.voucher());
            let posted_in = voucher.map(|voucher| voucher.year);
            Claim::Taken {
                identity: free.identity,
                owner: SameNumber { invoice, posted_in },
            }
        }
        _ => Claim::Free(Box::new(free)),
    }
}

/// What others have reserved on the orders: in the records that all connections of the tenant share, and in those that
/// earlier versions kept for each.
fn reserved_on(
    deps: &Deps<'_>,
    numbers: &[PurchaseOrderNumber],
    found: &mut impl Iterator<Item = Option<StoredRecord>>,
) -> Result<BTreeMap<PurchaseOrderNumber, Loaded<OrderRecord>>, FlowError> {
    let shared: Vec<Option<StoredRecord>> = found.take(numbers.len()).collect();
    let own: Vec<Option<StoredRecord>> = found.take(numbers.len()).collect();
    let domain = &deps.settings.policy.domain;
    let read = numbers.iter().zip(shared.iter().zip(&own));
    read.map(|(number, (shared, own))| {
        let order = Loaded {
            document: deps.home.reserved(domain, shared.as_ref(), own.as_ref())?,
            revision: shared.as_ref().map_or(0, |stored| stored.revision),
        };
        Ok((number.clone(), order))
    })
    .collect()
}

/// True for a bill that can have nothing in QAD under this number and never will: voided before anything was sent, or since
/// given another number.
fn has_left(owner: Option<&InvoiceRecord>, bill: &BillAlike) -> bool {
    owner.is_some_and(|record| {
        let renumbered = record
            .summary
            .as_ref()
            .is_some_and(|summary| summary.reference != bill.reference);
        not_in_flight(record)
            && record.state.voucher().is_none()
            && (renumbered || matches!(record.state, State::Voided { .. }))
    })
}

/// True when a person is asked whether it is another bill: a document that was keyed by hand does not answer that.
fn may_be_known(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Park { exceptions }
        if exceptions.iter().any(|exception| exception.code == ExceptionCode::NearDuplicate))
}

/// True for an owner that can have nothing of this identity in QAD and never will: voided before anything was sent, or
/// since approved under another identity. The identity is free again.
fn gave_up(owner: Option<&InvoiceRecord>, identity: &QadInvoiceIdentity) -> bool {
    let keys = claim_keys(identity);
    let is_of_identity = |effect: &Effect| {
        keys.iter()
            .any(|key| matches!(key, RecordKey::Effect(text) if *text == effect.key))
    };
    owner.is_some_and(|record| {
        let elsewhere = record
            .creation
            .as_ref()
            .is_some_and(|effect| !is_of_identity(effect));
        elsewhere || (matches!(record.state, State::Voided { .. }) && not_in_flight(record))
    })
}

pub(crate) async fn read_invoices(
    deps: &Deps<'_>,
    ids: BTreeSet<InvoiceId>,
) -> Result<BTreeMap<InvoiceId, InvoiceRecord>, FlowError> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys: Vec<RecordKey> = ids.iter().copied().map(RecordKey::Invoice).collect();
    let found = deps.context.register.read(&keys).await?;
    found
        .iter()
        .flatten()
        .map(|stored| parse::<InvoiceRecord>(stored).map(|record| (record.id, record)))
        .collect()
}

/// True when QAD has invoiced something of what this invoice bills: perhaps this very invoice, keyed by hand.
fn is_partly_invoiced(invoice: &Invoice, receipts: &[Receipt]) -> bool {
    let billed: BTreeSet<&OrderLineKey> = invoice
        .lines
        .iter()
        .filter_map(|line| line.order_line.as_ref())
        .collect();
    receipts
        .iter()
        .any(|receipt| !receipt.vouchered.is_zero() && billed.contains(&receipt.key.order_line))
}

/// What does not match may be in QAD already, keyed by a person together with its receipts, which then show as invoiced.
/// Nothing is sent on the strength of this look-up: without an answer, or with any doubt, the verdict stands.
async fn keyed_by_hand(
    deps: &Deps<'_>,
    invoice: &Invoice,
    identity: &QadInvoiceIdentity,
) -> Option<(QadDocument, PostedHow)> {
    if !deps.context.has_time_for_a_call() {
        return None;
    }
    let documents = deps.qad.find_invoices(identity).await.ok()?;
    let wanted = Wanted {
        identity,
        coupa_instance: &deps.settings.policy.coupa_instance,
        coupa_id: invoice.id,
        total: invoice.total,
        currency: invoice.currency,
        echo: Decimal::ZERO,
        year: None,
    };
    match judge_documents(&wanted, documents, deps.settings.adopt_equal_documents) {
        Finding::There {
            answer,
            adopted: true,
        } => Some((answer, PostedHow::Adopted)),
        Finding::There {
            answer,
            adopted: false,
        } => Some((answer, PostedHow::Restored)),
        Finding::Nothing | Finding::Park { .. } | Finding::Unclear(_) => None,
    }
}

/// One transaction: the record posted with the document that a person keyed, its QAD identity claimed.
async fn adopt(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    identity: &QadInvoiceIdentity,
    claim: Vec<RecordWrite>,
    found: (QadDocument, PostedHow),
) -> Result<Next, FlowError> {
    let mut change = adoption(deps, &loaded, identity, claim, found)?;
    let export = export_effect(&change.document, deps.context.clock.now());
    change.document = InvoiceEffect::Export.put(&change.document, export);
    store(deps, loaded.revision, change).await
}

/// The record posted with a document that is in QAD already, its QAD identity claimed.
fn adoption(
    deps: &Deps<'_>,
    loaded: &Loaded<InvoiceRecord>,
    identity: &QadInvoiceIdentity,
    claim: Vec<RecordWrite>,
    found: (QadDocument, PostedHow),
) -> Result<Change<InvoiceRecord, Event>, FlowError> {
    let now = deps.context.clock.now();
    let (document, how) = found;
    let voucher = document
        .voucher
        .ok_or_else(|| impossible("adopted without a number"))?;
    let approved = Event::Approved {
        identity: identity.to_string(),
        request_sha256: String::new(),
        tolerance_version: deps.settings.policy.tolerance.version.clone(),
        coupa_orders: vec![],
    };
    let mut change = change_to(deps, &loaded.document, approved)?;
    let posted = Event::Posted { voucher, how };
    change.document = change.document.after(&posted, now).map_err(impossible)?;
    change.document.posted_total = Some(document.total);
    change.events.push(posted);
    change.writes.extend(claim);
    Ok(change)
}

/// One transaction: the record approved with its creation ready, the QAD identity claimed, the receipts reserved.
fn approve(
    deps: &Deps<'_>,
    loaded: Loaded<InvoiceRecord>,
    draft: SupplierInvoiceDraft,
    reserved: BTreeMap<PurchaseOrderNumber, Loaded<OrderRecord>>,
    claim: Vec<RecordWrite>,
) -> Result<Next, FlowError> {
    let record = &loaded.document;
    let now = deps.context.clock.now();
    if !not_in_flight(record) {
        return Err(impossible(
            "an earlier creation of this invoice may still be in flight",
        ));
    }
    let identity = draft.identity.clone();
    let effect = new_effect(
        identity_text(&identity),
        Repetition::OnlyAfterLookUp,
        render(&draft)?,
        now,
        record.creation.as_ref(),
    );
    let event = Event::Approved {
        identity: identity.to_string(),
        request_sha256: effect.request_sha256.clone(),
        tolerance_version: deps.settings.policy.tolerance.version.clone(),
        coupa_orders: record
            .report
            .as_ref()
            .map_or_else(Vec::new, MatchReport::coupa_orders),
    };
    let mut change = change_to(deps, record, event)?;
    change.document = InvoiceEffect::Creation.put(&change.document, effect);
    change.writes.extend(claim);
    for (number, order) in reserved {
        let mut document = order.document;
        document
            .reservations
            .retain(|reservation| reservation.holder() != Holder::own(record.id));
        document
            .reservations
            .extend(
                draft
                    .matches
                    .iter()
                    .filter(|m| m.order_line.order == number)
                    .map(|m| Reservation {
                        invoice: record.id,
                        connection: None,
                        receipt: domain::ids::ReceiptKey {
                            domain: draft.domain.clone(),
                            receiver: m.receiver.clone(),
                            order_line: m.order_line.clone(),
                        },
                        quantity: m.quantity,
                    }),
            );
        change.writes.push(plain_put(
            deps.home.order_key(&draft.domain, &number),
            order.revision,
            render(&deps.home.stored(document))?,
        ));
    }
    Ok(Next::Create(Box::new(Opening {
        revision: loaded.revision,
        change,
    })))
}

fn plain_put(key: RecordKey, seen: u64, body: String) -> RecordWrite {
    RecordWrite::Put {
        key,
        seen,
        body,
        state: String::new(),
        due: None,
    }
}

/// After an invoice was registered as waiting for its supplier: has the supplier got another number meanwhile? Whoever
/// numbers a supplier looks for waiting invoices afterwards; whichever of the two comes second sees the first.
async fn supplier_number_missed(deps: &Deps<'_>, known: &Invoice) -> Result<bool, FlowError> {
    if !deps.context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let now = deps.coupa.invoice(known.id).await.map_err(unanswered)?;
    Ok(now.is_some_and(|now| now.supplier.number != known.supplier.number))
}

/// True for what waits until other invoices have settled.
fn waits_for_others(exceptions: &[Exception]) -> bool {
    exceptions.iter().any(|exception| {
        matches!(
            exception.code,
            ExceptionCode::AnotherInvoiceInFlight
                | ExceptionCode::ReceiverLineInFlight
                | ExceptionCode::OriginalNotPosted
        )
    })
}

/// After an invoice was registered as waiting for another one to settle: has one settled meanwhile? Whoever is posted looks
/// for those who wait afterwards; whichever of the two comes second sees the first.
async fn settled_meanwhile(
    deps: &Deps<'_>,
    reservations: &[Reservation],
    own: InvoiceId,
) -> Result<bool, FlowError> {
    let mut holders: BTreeSet<Holder> = reservations.iter().map(Reservation::holder).collect();
    holders.remove(&Holder::own(own));
    let now = neighbours::invoices(deps.context.register, &holders).await?;
    Ok(holders
        .iter()
        .any(|id| !now.get(id).is_some_and(InvoiceRecord::holds_reservations)))
}

/// An invoice is posted: those that wait for one in flight, on the order lines of which it has left something, are due at
/// once, whatever connection of the tenant they are of. Before the posted one goes on, so that nobody is forgotten when this run dies in between; one that is being decided
/// in this moment looks by itself.
async fn wake_those_who_wait(deps: &Deps<'_>, posted: &InvoiceRecord) -> Result<(), FlowError> {
    let Some(creation) = &posted.creation else {
        // Keyed by hand: nothing was reserved for it.
        return Ok(());
    };
    let draft = draft_of(creation).map_err(FlowError::Broken)?;
    // Whoever finished a line left nothing for others; what was credited may be billed again.
    let is_credit = draft.identity.kind == DocumentKind::CreditNote;
    let lines: BTreeSet<OrderLineKey> = draft
        .matches
        .into_iter()
        .filter(|found| is_credit || !found.finished)
        .map(|found| found.order_line)
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let lines: Vec<OrderLineKey> = lines.into_iter().take(WAKING_LINES_MAX).collect();
    wake_in(&deps.context, &lines, is_credit, Some(posted.id)).await?;
    for other in neighbours::registers(deps.context.register, deps.home).await? {
        let context = Context {
            register: other.as_ref(),
            ..deps.context
        };
        wake_in(&context, &lines, is_credit, None).await?;
    }
    Ok(())
}

/// Makes those due that wait in one connection's register for these order lines.
async fn wake_in(
    context: &Context<'_>,
    lines: &[OrderLineKey],
    is_credit: bool,
    posted: Option<InvoiceId>,
) -> Result<(), FlowError> {
    let ids = waiting::invoices(context.register, lines.iter().cloned()).await?;
    for id in ids.into_iter().filter(|id| Some(*id) != posted) {
        if !wake(context, id, is_credit).await? {
            // Nothing is lost: it stands as it does, and its own recheck looks at it again.
            tracing::warn!(invoice = %id, "could not be woken, somebody else writes it each time");
        }
    }
    Ok(())
}

/// Makes one due if it waits; false when somebody else has written it at each try.
async fn wake(context: &Context<'_>, id: InvoiceId, is_credit: bool) -> Result<bool, FlowError> {
    for attempt in 0..WAKE_TRIES_MAX {
        let loaded = match load::<InvoiceRecord>(context.register, RecordKey::Invoice(id)).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => return Ok(true),
            // The one that was posted goes on, and so do the others that wait.
            Err(FlowError::Broken(problem)) => {
                return Ok(told(Err::<(), _>(FlowError::Broken(problem))).is_none());
            }
            Err(error) => return Err(error),
        };
        let waits = match &loaded.document.state {
            State::Held { exceptions, .. } => is_credit || waits_for_others(exceptions),
            State::Parked { .. } => is_credit,
            _ => false,
        };
        // Whoever has decided it in this moment may have done so on what QAD has shown before.
        if !waits || waiting::make_due(context, loaded, context.clock.now()).await? {
            return Ok(true);
        }
        context.pause(attempt).await;
    }
    Ok(false)
}

/// True when an order in Coupa has come into the way of an invoice with this decision.
fn is_newly_in_way(before: &InvoiceRecord, after: &InvoiceRecord) -> bool {
    let in_way = |record: &InvoiceRecord| {
        let exceptions = match &record.state {
            State::Held { exceptions, .. }
            | State::Parked {
                reason: ParkReason::Match { exceptions },
            } => exceptions.as_slice(),
            _ => &[],
        };
        exceptions
            .iter()
            .any(|exception| exception.code.is_about_a_coupa_order())
    };
    in_way(after) && !in_way(before)
}

/// After an invoice was registered as waiting for an order in Coupa: does the order stand differently by now? An event
/// about it looks for waiting invoices afterwards; whichever of the two comes second sees the first.
async fn order_missed(deps: &Deps<'_>, known: &CoupaOrders) -> Result<bool, FlowError> {
    if !deps.context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let now = anew(deps.coupa, known).await.map_err(unanswered)?;
    if now == *known {
        return Ok(false);
    }
    deps.reads.orders.forget();
    Ok(true)
}

/// After an invoice was registered as waiting: has a receipt been recorded meanwhile that the decision did not know?
/// Whichever of the two comes second sees the first, so no wake-up is lost.
async fn receipt_missed(
    deps: &Deps<'_>,
    awaits: &[OrderLineKey],
    known: &[Receipt],
) -> Result<bool, FlowError> {
    if !stands(Guard::RecheckAfterRegister) {
        return Ok(false);
    }
    let lists = try_join_all(
        awaits
            .iter()
            .take(waiting::AWAITED_LINES_MAX)
            .map(|line| async move {
                deps.context
                    .register
                    .list(&RecordGroup::ReceiptsOf(line.clone()))
                    .await
            }),
    )
    .await?;
    let known: BTreeMap<_, _> = known
        .iter()
        .map(|receipt| (&receipt.key, receipt.received))
        .collect();
    for stored in lists.iter().flatten() {
        let seen: crate::poll_receipts::SeenReceipt = parse(stored)?;
        let RecordKey::Receipt(key) = &stored.key else {
            continue;
        };
        if key.domain == deps.settings.policy.domain && known.get(key) != Some(&seen.received) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
pub(crate) mod tests;
