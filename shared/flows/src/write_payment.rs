//! Drives the payments of one bill into Coupa: one entry at a time, in order, each exactly once.
//!
//! Coupa appends entries and cannot take one back, so what is not proven to be missing is never sent: its entries are
//! read before the first one is written, before each is sent for the first time, and after every lost answer.

use crate::bills::{WAITS_FOR_INVOICE, bill_key, give_back, link, number_of, owed_of};
use crate::delivery::FirstLook;
use crate::engine::{self, Driven, Finding, Proof, Stepped, Target, drive};
use crate::invoice_effects::{draft_of, is_of_nobody_known, new_effect, with_note};
use crate::pause::{self, Stop};
use crate::ports::{
    Collection, CommitError, CoupaBill, CoupaPayments, HintReason, Outcomes, ReadError, RecordKey, WriteError,
};
use crate::store::{
    Change, Context, Document, FlowError, Loaded, impossible, load, render, save, sha256_hex,
};
use async_trait::async_trait;
use domain::drive::Manner;
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition, backoff_millis};
use domain::guards::{Guard, stands};
use domain::ids::{InvoiceId, fold};
use domain::lifecycle::{Event, IllegalStep, InvoiceRecord, ParkReason, State};
use domain::payments::{
    BillPayments, EntryKind, NextEntry, PAID_TWICE, PaymentEntry, PaymentEvent, PaymentPolicy, QadVoucher,
    Written, is_entry, paid_twice,
};
use domain::problem::Problem;
use domain::time::Timestamp;
use rust_decimal::Decimal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Most rounds of load, act, store in one run; what is left then stays due.
const ROUNDS_MAX: u32 = 40;
/// How soon a bill is looked at again whose invoice is not in QAD yet, in milliseconds: a minute at first, then ever more
/// slowly, at most four hours.
const NOT_POSTED_RECHECK_MILLIS: i64 = 60_000;
/// See [`NOT_POSTED_RECHECK_MILLIS`].
const NOT_POSTED_RECHECK_MILLIS_MAX: i64 = 14_400_000;
/// Longest wait that Coupa's `Retry-After` can impose before the first look, in milliseconds (15 minutes).
const RETRY_AFTER_MILLIS_MAX: i64 = 900_000;
/// How often a parked bill is decided anew by default, in milliseconds (an hour).
const RECHECK_MILLIS_DEFAULT: i64 = 3_600_000;
/// How far back QAD's payments are looked for by default, in days.
pub const LOOKBACK_DAYS_DEFAULT: i64 = 90;
/// Tries to tell the invoice's own record against others that change it.
const TELL_TRIES_MAX: u32 = 5;

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (bills, unmatched payments, invoices), clock, chance, timing, deadline.
    pub context: Context<'a>,
    /// Coupa: read and append payments.
    pub coupa: &'a dyn CoupaPayments,
    /// The first look at the bill, asked for together with those of the other bills of the delivery.
    pub first_look: &'a FirstLook<'a, CoupaBill>,
    /// The connection's settings.
    pub settings: &'a PaymentSettings,
}

/// How a connection wants its payments handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentSettings {
    /// Which status means what, and how much over the total is let through.
    pub policy: PaymentPolicy,
    /// Coupa's words for invoices that QAD pays; an invoice with any other payment channel is left alone.
    pub own_channels: Vec<String>,
    /// How many days back payments are looked for at the very first poll, and as long as they are not final.
    pub lookback_days: i64,
    /// How often a parked bill is decided anew although nothing happened, in milliseconds.
    pub recheck_millis: i64,
    /// How much of what becomes of an invoice is shown in Coupa: its payments, too, may need a person.
    pub outcomes: Outcomes,
}

impl Default for PaymentSettings {
    fn default() -> Self {
        Self {
            policy: PaymentPolicy::default(),
            own_channels: vec!["ERP".to_owned()],
            lookback_days: LOOKBACK_DAYS_DEFAULT,
            recheck_millis: RECHECK_MILLIS_DEFAULT,
            outcomes: Outcomes::Nothing,
        }
    }
}

/// Where a run left the bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// It rests so.
    In {
        /// The bill as stored.
        bill: Box<BillPayments>,
        /// When it is due, if it is.
        due: Option<Timestamp>,
    },
    /// There is no such bill, and so nothing to pay.
    NoBill,
    /// The payments still belong to nobody; they wait for an invoice that claims their identity.
    Unmatched,
    /// Somebody else is working on it; the record is due by itself.
    Busy,
}

impl Rest {
    /// The state's word, for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::In { bill, .. } => bill.word(),
            Self::NoBill => "no-bill",
            Self::Unmatched => "unmatched",
            Self::Busy => "busy",
        }
    }
}

/// Does what is due of a member of the two collections of payments.
pub async fn run_entry(
    deps: &Deps<'_>,
    collection: Collection,
    id: &str,
    reason: HintReason,
) -> Result<Rest, FlowError> {
    match collection {
        Collection::UnmatchedPayment => {
            let key = RecordKey::Entry {
                collection,
                id: id.to_owned(),
            };
            match link(&deps.context, &key, &deps.settings.policy).await? {
                Some(invoice) => run(deps, invoice, reason).await,
                None => Ok(Rest::Unmatched),
            }
        }
        Collection::Bill => match id.parse() {
            Ok(number) => run(deps, InvoiceId(number), reason).await,
            Err(_) => Err(FlowError::Broken(not_ours(collection, id))),
        },
        other => Err(FlowError::Broken(not_ours(other, id))),
    }
}

fn not_ours(collection: Collection, id: &str) -> Problem {
    Problem::new(
        "HINT_NOT_ABOUT_PAYMENTS",
        "Find out who queued it; this queue is for bills alone.",
    )
    .field("subject")
    .expected("a bill by its Coupa invoice, or unmatched payments")
    .actual(format!("{} {id}", collection.word()))
}

enum Next {
    /// Another round, from the register.
    Again,
    /// Another round, from the bill as it was just saved: whoever has changed it since makes the next write a conflict.
    GoOn(Box<Loaded<BillPayments>>),
    Rest(Rest),
}

/// What a run knows beside the bill.
#[derive(Default)]
struct Course {
    /// A person has asked, and was not heard yet.
    asked: bool,
    /// There is no pause.
    running: bool,
    /// Where the invoice stands, read since the bill was.
    standing: Option<Standing>,
    /// What Coupa has shown of the bill since the bill was read, and when it was asked.
    shown: Option<(Timestamp, CoupaBill)>,
}

/// Drives the bill of one invoice as far as it goes now.
pub async fn run(deps: &Deps<'_>, invoice: InvoiceId, reason: HintReason) -> Result<Rest, FlowError> {
    let context = &deps.context;
    let mut course = Course {
        asked: reason == HintReason::Operator,
        ..Course::default()
    };
    let mut saved = None;
    for _ in 0..ROUNDS_MAX {
        if context.clock.now() > context.deadline {
            return Err(FlowError::OutOfTime);
        }
        let loaded = match saved.take() {
            Some(saved) => saved,
            None => {
                (course.standing, course.shown) = (None, None);
                match load::<BillPayments>(context.register, bill_key(invoice)).await? {
                    Some(loaded) => loaded,
                    None => return Ok(Rest::NoBill),
                }
            }
        };
        match round(deps, loaded, &mut course).await? {
            Next::Again => {}
            Next::GoOn(bill) => saved = Some(*bill),
            Next::Rest(rest) => return Ok(rest),
        }
    }
    Err(FlowError::Contended)
}

async fn round(
    deps: &Deps<'_>,
    mut loaded: Loaded<BillPayments>,
    course: &mut Course,
) -> Result<Next, FlowError> {
    let context = &deps.context;
    let now = context.clock.now();
    if let Some(entry) = loaded
        .document
        .entry
        .as_ref()
        .filter(|entry| !entry.is_finished())
    {
        course.standing = None;
        let stop = stopped(context, &mut course.running).await?;
        if entry.status == EffectStatus::Ready && stop.is_some() {
            return take_back(context, loaded).await;
        }
        let coupa = ShownOnce::of(deps.coupa, entry, course.shown.take(), now);
        let target = Entry {
            coupa: &coupa,
            settings: deps.settings,
            sends_again: Stop::sends_again(stop.as_ref()),
        };
        // The others' first look does not wait for what is written here.
        deps.first_look.leave();
        let driven = drive(context, loaded, &target).await?;
        return went(context, driven);
    }
    let is_at_rest = loaded.document.left_alone.is_some() || loaded.document.parked.is_some();
    let known = loaded.document.parked.clone();
    if is_at_rest && std::mem::take(&mut course.asked) {
        let mut document = loaded.document;
        // Whose payments they are is asked again too, for that is what may have been put right.
        document.coupa_read &= document.left_alone.take().is_none();
        document.parked = None;
        document.recheck = None;
        document.look_again = Some(now);
        return store(
            context,
            loaded.revision,
            document,
            vec![PaymentEvent::Reconsidered],
        )
        .await;
    }
    if is_at_rest {
        let is_due = loaded.document.recheck.is_some_and(|at| at <= now);
        if loaded.document.look_again.is_some() || !is_due {
            return finish(deps, loaded).await;
        }
        // Decided anew: the invoice may be unlocked, a permission granted, an entry corrected in Coupa.
        loaded.document.parked = None;
        loaded.document.recheck = None;
    }
    let standing = match &course.standing {
        Some(standing) => standing.clone(),
        None => standing(context, loaded.document.invoice).await?,
    };
    course.standing = Some(standing.clone());
    match standing {
        Standing::InQad { number, owed } => {
            loaded.document.total = owed.unwrap_or(loaded.document.total);
            let foreign = number.and_then(|number| loaded.document.of_another(number, &deps.settings.policy));
            if let Some(problem) = foreign {
                return park(deps, loaded, problem, known).await;
            }
        }
        // Coupa says that it is paid or needs no payment; its flag is Coupa's own.
        Standing::Locked if loaded.document.is_being_paid(&deps.settings.policy) => {
            let problem = paid_although_locked(loaded.document.invoice);
            return park(deps, loaded, problem, known).await;
        }
        Standing::Locked => return finish(deps, loaded).await,
        Standing::Voided => return give_payments_back(context, loaded).await,
        Standing::NotInQad(word) if stands(Guard::PaidAfterPosted) => {
            // Once it is written down that the bill waits, the invoice is looked at once more: whichever of the two comes
            // second sees the first.
            course.standing = None;
            return wait_for_invoice(context, loaded, word).await;
        }
        Standing::NotInQad(_) => {}
    }
    if !loaded.document.coupa_read {
        return read_coupa(deps, loaded, known, &mut course.shown).await;
    }
    match loaded.document.next_entry(&deps.settings.policy) {
        NextEntry::Settled => finish(deps, loaded).await,
        NextEntry::Park(problem) => park(deps, loaded, problem, known).await,
        NextEntry::Append(entry) => {
            if let Some(stop) = stopped(context, &mut course.running).await? {
                return wait_for_its_end(deps, loaded, &stop).await;
            }
            let effect = new_effect(
                effect_key(&entry, loaded.document.chain.sequence),
                Repetition::OnlyAfterLookUp,
                render(&entry)?,
                now,
                loaded.document.entry.as_ref(),
            );
            let event = PaymentEvent::Ready {
                entry,
                request_sha256: effect.request_sha256.clone(),
            };
            let coupa = ShownOnce::of(deps.coupa, &effect, course.shown.take(), now);
            let target = Entry {
                coupa: &coupa,
                settings: deps.settings,
                sends_again: true,
            };
            course.standing = None;
            let mut document = loaded.document;
            document.entry = Some(effect);
            document.delay = None;
            let change = Change {
                document,
                events: vec![event],
                writes: vec![],
            };
            deps.first_look.leave();
            match engine::open(context, loaded.revision, change, &target).await? {
                Some(driven) => went(context, driven),
                None => {
                    context.pause(1).await;
                    Ok(Next::Again)
                }
            }
        }
    }
}

/// How it goes on after an entry was driven as far as it goes now.
fn went(context: &Context<'_>, driven: Driven<BillPayments>) -> Result<Next, FlowError> {
    match driven {
        Driven::Finished(done) => {
            let entry = done.document.entry.as_ref();
            if entry.is_some_and(|entry| entry.status == EffectStatus::Done) {
                tracing::info!(metric = "payment_written", value = 1, "a payment is in Coupa");
            }
            Ok(Next::GoOn(Box::new(done)))
        }
        Driven::Later(waiting) => Ok(rest(context, waiting)),
        Driven::Busy => Ok(Next::Rest(Rest::Busy)),
        Driven::OutOfTime => Err(FlowError::OutOfTime),
    }
}

/// Why nothing new is begun, asked for once in a run unless there is a reason.
async fn stopped(context: &Context<'_>, running: &mut bool) -> Result<Option<Stop>, FlowError> {
    if *running {
        return Ok(None);
    }
    let stop = pause::stop(context, pause::Flow::Payments).await?;
    *running = stop.is_none();
    Ok(stop)
}

/// An entry that was planned before the pause and of which nothing is on its way is planned anew after it.
async fn take_back(context: &Context<'_>, loaded: Loaded<BillPayments>) -> Result<Next, FlowError> {
    let change = moved(context, &loaded.document, EffectEvent::Withdrawn).map_err(impossible)?;
    store(context, loaded.revision, change.document, change.events).await
}

/// Known and waiting: nothing is lost. Nobody else keeps asking for the end of a pause, which wakes what waits; who owns both
/// systems is asked again by itself.
async fn wait_for_its_end(
    deps: &Deps<'_>,
    loaded: Loaded<BillPayments>,
    stop: &Stop,
) -> Result<Next, FlowError> {
    let context = &deps.context;
    let now = context.clock.now();
    let problem = stop.problem();
    let waits = loaded
        .document
        .delay
        .as_ref()
        .is_some_and(|delay| delay.code == problem.code);
    if waits && loaded.document.look_again.is_some_and(|at| at > now) {
        return Ok(rest(context, loaded));
    }
    if stop.pause().is_none() {
        return delay(context, loaded, None, problem).await;
    }
    let mut document = loaded.document;
    document.look_again = Some(now.plus_millis(deps.settings.recheck_millis));
    document.delay = Some(problem);
    rest_until_then(context, loaded.revision, document).await
}

/// One effect per invoice, payment and allocation, one more for taking it back, and one for each time the flag moves by
/// itself (told apart by where the audit chain stands, so that Coupa does not take it for a repetition).
fn effect_key(entry: &PaymentEntry, sequence: u64) -> String {
    let (invoice, key) = (entry.invoice, &entry.key);
    match entry.kind {
        EntryKind::Payment => format!("coupa-payment/{invoice}/{key}"),
        EntryKind::TakingBack => format!("coupa-payment/{invoice}/{key}#VOID"),
        EntryKind::Flag => format!("coupa-paid/{invoice}#{sequence}"),
    }
}

fn rest(context: &Context<'_>, loaded: Loaded<BillPayments>) -> Next {
    let due = Document::due(&loaded.document, context.timing);
    Next::Rest(Rest::In {
        bill: Box::new(loaded.document),
        due,
    })
}

async fn store(
    context: &Context<'_>,
    revision: u64,
    document: BillPayments,
    events: Vec<PaymentEvent>,
) -> Result<Next, FlowError> {
    let change = Change {
        document,
        events,
        writes: vec![],
    };
    match save(context, revision, change).await {
        Ok(saved) => Ok(Next::GoOn(Box::new(saved))),
        Err(CommitError::Conflict) => {
            context.pause(1).await;
            Ok(Next::Again)
        }
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

/// Keeps when the bill is looked at next, and ends the run with that.
async fn rest_until_then(
    context: &Context<'_>,
    revision: u64,
    document: BillPayments,
) -> Result<Next, FlowError> {
    let change = Change::<_, PaymentEvent> {
        document,
        events: vec![],
        writes: vec![],
    };
    match save(context, revision, change).await {
        Ok(saved) => Ok(rest(context, saved)),
        Err(CommitError::Conflict) => Ok(Next::Again),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

/// Where the invoice of a bill stands.
#[derive(Clone)]
enum Standing {
    /// Proven to be in QAD, and to stay there.
    InQad {
        /// Under this number.
        number: Option<QadVoucher>,
        /// Over so much.
        owed: Option<Decimal>,
    },
    /// In QAD, and posted so that QAD does not pay it.
    Locked,
    /// Voided before anything was posted.
    Voided,
    /// Not in QAD yet, or a person must look at it first.
    NotInQad(&'static str),
}

/// Nothing is paid in Coupa before the invoice is proven to be in QAD.
async fn standing(context: &Context<'_>, invoice: InvoiceId) -> Result<Standing, FlowError> {
    let record = load::<InvoiceRecord>(context.register, RecordKey::Invoice(invoice)).await?;
    let Some(record) = record.map(|loaded| loaded.document) else {
        return Ok(Standing::NotInQad("unknown"));
    };
    let is_locked = || {
        record
            .creation
            .as_ref()
            .is_some_and(|creation| draft_of(creation).is_ok_and(|draft| draft.locked))
    };
    let in_qad = || {
        if is_locked() {
            Standing::Locked
        } else {
            Standing::InQad {
                number: number_of(&record),
                owed: owed_of(&record).map(|(total, _)| total),
            }
        }
    };
    Ok(match &record.state {
        State::Posted { .. } | State::Exported { .. } => in_qad(),
        // A person looks at it, and QAD pays it all the same. One that was parked instead of being posted may be somebody
        // else's document, unless it carries our mark.
        State::Parked {
            reason: ParkReason::InQad { voucher: Some(_), .. },
        } if !record.creation.as_ref().is_some_and(is_of_nobody_known) => in_qad(),
        State::Voided { .. } => Standing::Voided,
        state => Standing::NotInQad(state.word()),
    })
}

/// How long a bill waits, in milliseconds, before it asks again whether its invoice is in QAD, having asked so often in vain.
pub fn wait_for_invoice_millis(asked: u32) -> i64 {
    NOT_POSTED_RECHECK_MILLIS
        .checked_shl(asked.min(20))
        .unwrap_or(NOT_POSTED_RECHECK_MILLIS_MAX)
        .min(NOT_POSTED_RECHECK_MILLIS_MAX)
}

/// Looks again later, ever more slowly, and says why; nothing is written when that is planned already.
async fn wait_for_invoice(
    context: &Context<'_>,
    loaded: Loaded<BillPayments>,
    word: &'static str,
) -> Result<Next, FlowError> {
    let now = context.clock.now();
    if loaded.document.look_again.is_some_and(|at| at > now) {
        return Ok(rest(context, loaded));
    }
    let mut document = loaded.document;
    let wait = wait_for_invoice_millis(document.setbacks);
    document.setbacks = document.setbacks.saturating_add(1);
    document.look_again = Some(now.plus_millis(wait));
    document.delay = Some(
        Problem::new(
            WAITS_FOR_INVOICE,
            "Nothing to do, unless the invoice itself is parked: clear that up, and its payments follow.",
        )
        .field(format!("Coupa invoice {}", document.invoice))
        .expected("an invoice that is in QAD")
        .actual(word),
    );
    store(context, loaded.revision, document, vec![]).await
}

async fn give_payments_back(context: &Context<'_>, loaded: Loaded<BillPayments>) -> Result<Next, FlowError> {
    let mut states = loaded.document.allocations.values();
    let all_written = states.all(|state| state.written != Written::Nothing);
    if all_written && loaded.document.look_again.is_none() {
        return Ok(rest(context, loaded));
    }
    match give_back(context, loaded).await? {
        Ok(_) => Ok(Next::Again),
        Err(CommitError::Conflict) => {
            context.pause(1).await;
            Ok(Next::Again)
        }
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

/// Parks the bill; when it was parked for the very same reason before, only its next recheck is planned.
async fn park(
    deps: &Deps<'_>,
    loaded: Loaded<BillPayments>,
    problem: Problem,
    known: Option<Problem>,
) -> Result<Next, FlowError> {
    let context = &deps.context;
    let now = context.clock.now();
    let mut document = loaded.document;
    document.delay = None;
    document.parked = Some(problem.clone());
    let events = if known.as_ref() == Some(&problem) {
        document.recheck = Some(now.plus_millis(deps.settings.recheck_millis));
        vec![]
    } else {
        document.look_again = Some(now);
        vec![PaymentEvent::Parked { problem }]
    };
    store(context, loaded.revision, document, events).await
}

/// Before anything is written for the first time: what an earlier life of this product wrote is not written again, and
/// what Coupa pays by itself is none of ours.
async fn read_coupa(
    deps: &Deps<'_>,
    loaded: Loaded<BillPayments>,
    known: Option<Problem>,
    kept: &mut Option<(Timestamp, CoupaBill)>,
) -> Result<Next, FlowError> {
    let context = &deps.context;
    let bill = &loaded.document;
    let asked_at = context.clock.now();
    if !context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let alone = deps.coupa.bill(bill.invoice);
    let shown = match deps.first_look.of_document(context, bill.invoice, alone).await? {
        Ok(Some(shown)) => shown,
        Ok(None) => {
            let problem = not_in_coupa(bill.invoice);
            return park(deps, loaded, problem, known).await;
        }
        Err(ReadError::Unavailable { retry_after, problem }) => {
            return delay(context, loaded, retry_after, problem).await;
        }
        // The bill is all right; it goes on by itself once the connection does.
        Err(ReadError::Refused(problem))
            if problem.waits_for_the_connection(bill.delay.as_ref(), bill.setbacks) =>
        {
            return delay(context, loaded, None, problem).await;
        }
        Err(ReadError::Refused(problem) | ReadError::Unreadable(problem)) => {
            return park(deps, loaded, problem, known).await;
        }
    };
    if let Some(problem) = paid_elsewhere(&shown, deps.settings) {
        if bill.is_being_paid(&deps.settings.policy) {
            return park(deps, loaded, paid_by_both(&shown, deps.settings), known).await;
        }
        let mut document = loaded.document;
        document.setbacks = 0;
        document.delay = None;
        document.left_alone = Some(problem.clone());
        document.look_again = Some(context.clock.now());
        let event = PaymentEvent::LeftAlone { problem };
        return store(context, loaded.revision, document, vec![event]).await;
    }
    if shown.currency != bill.currency {
        let problem = Problem::new("PAYMENT_CURRENCY_DIFFERS", "Enter the payment in Coupa by hand.")
            .field(format!("Coupa invoice {}", bill.invoice))
            .expected(bill.currency.to_string())
            .actual(shown.currency.to_string());
        return park(deps, loaded, problem, known).await;
    }
    let mut document = match bill.reconciled(&shown.entries, shown.paid) {
        Ok(document) => document,
        Err(problem) => return park(deps, loaded, problem, known).await,
    };
    document.setbacks = 0;
    document.delay = None;
    document.look_again = Some(context.clock.now());
    let event = PaymentEvent::CoupaRead {
        entries: u64::try_from(shown.entries.len()).unwrap_or(u64::MAX),
    };
    *kept = Some((asked_at, shown));
    store(context, loaded.revision, document, vec![event]).await
}

/// Coupa could not be read: later, by itself, and ever more slowly.
async fn delay(
    context: &Context<'_>,
    loaded: Loaded<BillPayments>,
    retry_after: Option<Duration>,
    problem: Problem,
) -> Result<Next, FlowError> {
    let asked = retry_after.map_or(0, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    let wait = backoff_millis(loaded.document.setbacks).max(asked.min(RETRY_AFTER_MILLIS_MAX));
    let mut document = loaded.document;
    document.setbacks = problem.setbacks(document.delay.as_ref(), document.setbacks);
    document.look_again = Some(context.clock.now().plus_millis(wait));
    document.delay = Some(problem);
    rest_until_then(context, loaded.revision, document).await
}

fn not_in_coupa(invoice: InvoiceId) -> Problem {
    Problem::new(
        "COUPA_INVOICE_NOT_FOUND",
        "Check the client's permissions, and whether the invoice was deleted in Coupa.",
    )
    .field(format!("Coupa invoice {invoice}"))
    .expected("an invoice in Coupa")
    .actual("404")
}

/// Coupa's payment channel says who pays; nothing said is QAD.
fn paid_elsewhere(shown: &CoupaBill, settings: &PaymentSettings) -> Option<Problem> {
    let channel = shown.payment_channel.as_deref()?;
    if settings.own_channels.iter().any(|own| fold(own) == fold(channel)) {
        return None;
    }
    Some(
        Problem::new(
            "PAID_BY_COUPA",
            "Nothing to do: Coupa records these payments itself. If it does not, name the channel in payments.own_channels.",
        )
        .field(format!("Coupa invoice {} payment-channel", shown.id))
        .expected(settings.own_channels.join(", "))
        .actual(channel),
    )
}

const PAID_TWICE_FIX: &str = "Find out at once whether the supplier has the money twice: have one payment stopped or claimed back, \
    or correct in Coupa who pays. Nothing is written to Coupa meanwhile.";

/// QAD has paid a bill that was posted so that no payment run takes it.
fn paid_although_locked(invoice: InvoiceId) -> Problem {
    Problem::new(PAID_TWICE, PAID_TWICE_FIX)
        .field(format!("Coupa invoice {invoice}"))
        .expected("no payment, as Coupa says that it is paid or needs none, and it was posted locked")
        .actual("paid by QAD")
}

/// QAD pays a bill that Coupa pays: nothing is written until a person has decided which of them was right.
fn paid_by_both(shown: &CoupaBill, settings: &PaymentSettings) -> Problem {
    Problem::new(PAID_TWICE, PAID_TWICE_FIX)
        .field(format!("Coupa invoice {} payment-channel", shown.id))
        .expected(format!("{}, as QAD pays it", settings.own_channels.join(", ")))
        .actual(shown.payment_channel.clone().unwrap_or_default())
}

/// Nothing is left to do: the invoice's own record learns what is paid, and then the bill is not due any more.
async fn finish(deps: &Deps<'_>, loaded: Loaded<BillPayments>) -> Result<Next, FlowError> {
    let context = &deps.context;
    if loaded.document.look_again.is_none() {
        return Ok(rest(context, loaded));
    }
    tell_invoice(deps, &loaded.document).await?;
    let mut document = loaded.document;
    document.look_again = None;
    document.delay = None;
    document.setbacks = 0;
    let recheck = context.clock.now().plus_millis(deps.settings.recheck_millis);
    document.recheck = document.parked.is_some().then_some(recheck);
    store(context, loaded.revision, document, vec![]).await
}

async fn tell_invoice(deps: &Deps<'_>, bill: &BillPayments) -> Result<(), FlowError> {
    let context = &deps.context;
    let Some(paid) = bill.paid_state() else {
        return Ok(());
    };
    for attempt in 0..TELL_TRIES_MAX {
        let key = RecordKey::Invoice(bill.invoice);
        let Some(invoice) = load::<InvoiceRecord>(context.register, key).await? else {
            return Ok(());
        };
        if invoice.document.paid.as_ref() == Some(&paid) {
            return Ok(());
        }
        let event = Event::Paid { paid: paid.clone() };
        // An invoice that is not in QAD (any more, or not yet) has nothing to show; its ledger says it.
        let now = context.clock.now();
        let Ok(document) = invoice.document.after(&event, now) else {
            return Ok(());
        };
        let change = Change {
            document: with_note(document, deps.settings.outcomes, now),
            events: vec![event],
            writes: vec![],
        };
        match save(context, invoice.revision, change).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FlowError::Contended)
}

// ---------------------------------------------------------------------------------------------------------------

/// How long what Coupa has shown may serve as the look before the first sending, in milliseconds: some commits of the register.
const SHOWN_MILLIS_MAX: i64 = 5_000;

/// Coupa, with what it has shown of the bill a moment ago as its first answer. The bill has been this run's alone since, or the
/// commits in between would have failed, so that is the look before the first sending; once something is sent, Coupa is asked.
struct ShownOnce<'a> {
    coupa: &'a dyn CoupaPayments,
    shown: Mutex<Option<CoupaBill>>,
}

impl<'a> ShownOnce<'a> {
    fn of(
        coupa: &'a dyn CoupaPayments,
        entry: &Effect,
        shown: Option<(Timestamp, CoupaBill)>,
        now: Timestamp,
    ) -> Self {
        let is_first = entry.status == EffectStatus::Ready && entry.attempts == 0;
        let shown = shown.filter(|(at, _)| is_first && now.millis_since(*at) <= SHOWN_MILLIS_MAX);
        Self {
            coupa,
            shown: Mutex::new(shown.map(|(_, shown)| shown)),
        }
    }

    fn take(&self) -> Option<CoupaBill> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl CoupaPayments for ShownOnce<'_> {
    async fn bill(&self, id: InvoiceId) -> Result<Option<CoupaBill>, ReadError> {
        match self.take() {
            Some(shown) => Ok(Some(shown)),
            None => self.coupa.bill(id).await,
        }
    }

    async fn append_payment(
        &self,
        entry: &PaymentEntry,
        idempotency_key: &str,
    ) -> Result<CoupaBill, WriteError> {
        drop(self.take());
        self.coupa.append_payment(entry, idempotency_key).await
    }
}

/// Appending one entry to a Coupa invoice: what must never happen twice.
struct Entry<'a> {
    coupa: &'a dyn CoupaPayments,
    settings: &'a PaymentSettings,
    /// Whether what is proven absent is simply sent again; not while another installation may be sending it.
    sends_again: bool,
}

fn entry_of(effect: &Effect) -> Result<PaymentEntry, Problem> {
    let altered = sha256_hex(&effect.request) != effect.request_sha256;
    match serde_json::from_str(&effect.request) {
        Ok(entry) if !altered => Ok(entry),
        _ => Err(Problem::new(
            "REQUEST_ALTERED",
            "Nothing was sent. Compare the record with its audit trail.",
        )
        .field("request")
        .expected(effect.request_sha256.clone())
        .actual(sha256_hex(&effect.request))),
    }
}

/// What the entries of an invoice prove about one of ours. Pure.
fn judge_entries(
    bill: &BillPayments,
    entry: &PaymentEntry,
    shown: &CoupaBill,
    settings: &PaymentSettings,
) -> Finding<CoupaBill> {
    let park = |problem: Problem| Finding::Park {
        problem,
        answer: None,
    };
    let there = || Finding::There {
        answer: shown.clone(),
        adopted: false,
    };
    if entry.is_flag_only() {
        return if shown.paid == entry.paid {
            there()
        } else {
            Finding::Nothing
        };
    }
    let carrying: Vec<_> = shown
        .entries
        .iter()
        .filter(|one| entry.key.begins(&one.notes))
        .filter(|one| one.amount.is_sign_negative() == entry.amount.is_sign_negative())
        .collect();
    match carrying.as_slice() {
        // An entry cannot be undone, so one that a person was faster with counts, as it does at the first look.
        [] if entry.kind == EntryKind::Payment && bill.is_keyed_by_hand(&entry.key, &shown.entries) => {
            there()
        }
        // QAD pays it, or there would be no such entry.
        [] => match paid_elsewhere(shown, settings)
            .map(|_| paid_by_both(shown, settings))
            .or_else(|| overpaid(bill, entry, shown, settings))
        {
            Some(problem) => park(problem),
            None => Finding::Nothing,
        },
        [one] if is_entry(one, entry) => there(),
        [one] => {
            let date = one.date.map_or_else(String::new, |date| format!(" on {date}"));
            let problem = Problem::new(
                "COUPA_PAYMENT_DIFFERS",
                "Correct the payment entry in Coupa by hand; it cannot be changed by integration.",
            )
            .field(format!("Coupa invoice {}, {}", entry.invoice, entry.key))
            .expected(format!(
                "{} {} on {}",
                entry.amount_text(),
                entry.currency,
                entry.date
            ))
            .actual(format!("{} {}{date}", one.amount.normalize(), shown.currency));
            park(problem)
        }
        several => park(paid_twice(entry.invoice, &entry.key, several.len())),
    }
}

/// Why a payment must not be written although QAD demands it: with what others have entered in Coupa it would be more
/// than the bill.
fn overpaid(
    bill: &BillPayments,
    entry: &PaymentEntry,
    shown: &CoupaBill,
    settings: &PaymentSettings,
) -> Option<Problem> {
    if entry.kind != EntryKind::Payment {
        return None;
    }
    let discount = bill
        .allocations
        .get(&entry.key)
        .map_or(Decimal::ZERO, |state| state.latest.discount);
    let entries = shown
        .entries
        .iter()
        .try_fold(entry.amount, |sum, one| sum.checked_add(one.amount));
    let after = entries
        .and_then(|sum| sum.checked_add(bill.settled_discounts()?))
        .and_then(|sum| sum.checked_add(discount));
    match after {
        Some(after) if !bill.is_overpaid_by(after, &settings.policy) => None,
        after => Some(bill.overpaid_in_coupa(&entry.key, after.unwrap_or(Decimal::MAX))),
    }
}

fn moved(
    context: &Context<'_>,
    bill: &BillPayments,
    step: EffectEvent,
) -> Stepped<BillPayments, PaymentEvent> {
    let effect = bill.entry.as_ref().ok_or(IllegalStep::NoEffect)?;
    let after = effect.after(&step, context.clock.now(), &context.timing.toward_coupa())?;
    let event = PaymentEvent::Writing {
        step,
        fence: after.fence,
    };
    let mut document = bill.clone();
    document.entry = Some(after);
    Ok(Change {
        document,
        events: vec![event],
        writes: vec![],
    })
}

fn parked(
    context: &Context<'_>,
    bill: &BillPayments,
    step: EffectEvent,
    problem: Problem,
) -> Stepped<BillPayments, PaymentEvent> {
    let mut change = moved(context, bill, step)?;
    change.document.parked = Some(problem.clone());
    change.document.look_again = Some(context.clock.now());
    change.events.push(PaymentEvent::Parked { problem });
    Ok(change)
}

#[async_trait]
impl Target<BillPayments> for Entry<'_> {
    type Answer = CoupaBill;
    type Event = PaymentEvent;

    fn effect<'d>(&self, bill: &'d BillPayments) -> Option<&'d Effect> {
        bill.entry.as_ref()
    }

    async fn send(&self, _: &BillPayments, effect: &Effect) -> Result<CoupaBill, WriteError> {
        let entry = entry_of(effect).map_err(WriteError::Refused)?;
        self.coupa.append_payment(&entry, &effect.idempotency_key).await
    }

    async fn look_up(&self, bill: &BillPayments, _: &Effect) -> Result<Vec<CoupaBill>, ReadError> {
        match self.coupa.bill(bill.invoice).await? {
            Some(shown) => Ok(vec![shown]),
            None => Err(ReadError::Refused(not_in_coupa(bill.invoice))),
        }
    }

    fn judge(&self, bill: &BillPayments, effect: &Effect, mut answers: Vec<CoupaBill>) -> Finding<CoupaBill> {
        match (entry_of(effect), answers.pop()) {
            (Ok(entry), Some(shown)) => judge_entries(bill, &entry, &shown, self.settings),
            (Ok(_), None) => Finding::Unclear(Problem::new(
                "COUPA_PAYMENTS_MISSING",
                "Nothing to do: they are read again.",
            )),
            (Err(problem), _) => Finding::Unclear(problem),
        }
    }

    fn manner(&self) -> Manner {
        Manner {
            anew_when_absent: !self.sends_again,
            ..Manner::default()
        }
    }

    fn absent(&self, context: &Context<'_>, bill: &BillPayments) -> Stepped<BillPayments, PaymentEvent> {
        let mut change = moved(context, bill, EffectEvent::ProvenAbsent)?;
        // Coupa shows all entries before the next one is sent: a late one of these is not missed there.
        if let Some(entry) = &mut change.document.entry {
            entry.doubts.clear();
        }
        change.document.look_again = Some(context.clock.now());
        Ok(change)
    }

    fn step(
        &self,
        context: &Context<'_>,
        bill: &BillPayments,
        event: EffectEvent,
    ) -> Stepped<BillPayments, PaymentEvent> {
        moved(context, bill, event)
    }

    fn there(
        &self,
        context: &Context<'_>,
        bill: &BillPayments,
        _: &CoupaBill,
        _: Proof,
    ) -> Stepped<BillPayments, PaymentEvent> {
        let effect = bill.entry.as_ref().ok_or(IllegalStep::NoEffect)?;
        // `judge` lets nothing through that cannot be read, so an unreadable request is an impossible step.
        let entry = entry_of(effect).map_err(|_| IllegalStep::NoEffect)?;
        let mut change = moved(context, bill, EffectEvent::Confirmed)?;
        change.document = change.document.with_written(&entry);
        // Something may be left to do, and the invoice's own record must learn of it.
        change.document.look_again = Some(context.clock.now());
        change.events.push(PaymentEvent::Written {
            key: entry.key,
            kind: entry.kind,
            amount: entry.amount,
            paid: entry.paid,
        });
        Ok(change)
    }

    fn refused(
        &self,
        context: &Context<'_>,
        bill: &BillPayments,
        problem: Problem,
    ) -> Stepped<BillPayments, PaymentEvent> {
        let step = EffectEvent::Refused {
            problem: problem.clone(),
        };
        parked(context, bill, step, problem)
    }

    fn parked(
        &self,
        context: &Context<'_>,
        bill: &BillPayments,
        problem: Problem,
        _: Option<&CoupaBill>,
    ) -> Stepped<BillPayments, PaymentEvent> {
        let step = EffectEvent::Parked {
            problem: problem.clone(),
        };
        parked(context, bill, step, problem)
    }
}

#[cfg(test)]
mod tests;
