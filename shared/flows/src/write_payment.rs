//! Drives the payments of one bill into Coupa: one entry at a time, in order, each exactly once.
//!
//! Coupa appends entries and cannot take one back, so what is not proven to be missing is never sent: its entries are
//! read before the first one is written, before each is sent for the first time, and after every lost answer.

use crate::bills::{bill_key, link};
use crate::engine::{Driven, Finding, Proof, Target, drive};
use crate::invoice_effects::new_effect;
use crate::ports::{
    Collection, CommitError, CoupaBill, CoupaPayments, HintReason, ReadError, RecordKey, WriteError,
};
use crate::store::{Change, Context, Document, FlowError, Loaded, load, render, save, sha256_hex};
use async_trait::async_trait;
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition, backoff_millis};
use domain::ids::{InvoiceId, fold};
use domain::lifecycle::{Event, IllegalStep, InvoiceRecord, State};
use domain::payments::{BillPayments, NextEntry, PaymentEntry, PaymentEvent, PaymentPolicy, is_entry};
use domain::problem::Problem;
use domain::time::Timestamp;
use std::time::Duration;

/// Most rounds of load, act, store in one run; what is left then stays due.
const ROUNDS_MAX: u32 = 40;
/// How soon a bill is looked at again whose invoice is not in QAD yet, in milliseconds (15 minutes).
const NOT_POSTED_RECHECK_MILLIS: i64 = 900_000;
/// Tries to tell the invoice's own record against others that change it.
const TELL_TRIES_MAX: u32 = 5;

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (bills, unmatched payments, invoices), clock, chance, timing, deadline.
    pub context: Context<'a>,
    /// Coupa: read and append payments.
    pub coupa: &'a dyn CoupaPayments,
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
}

impl Default for PaymentSettings {
    fn default() -> Self {
        Self {
            policy: PaymentPolicy::default(),
            own_channels: vec!["ERP".to_owned()],
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
            match link(&deps.context, &key).await? {
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
    Again,
    Rest(Rest),
}

/// Drives the bill of one invoice as far as it goes now.
pub async fn run(deps: &Deps<'_>, invoice: InvoiceId, reason: HintReason) -> Result<Rest, FlowError> {
    let context = &deps.context;
    let mut asked = reason == HintReason::Operator;
    for _ in 0..ROUNDS_MAX {
        if context.clock.now() > context.deadline {
            return Err(FlowError::OutOfTime);
        }
        let Some(loaded) = load::<BillPayments>(context.register, bill_key(invoice)).await? else {
            return Ok(Rest::NoBill);
        };
        match round(deps, loaded, &mut asked).await? {
            Next::Again => {}
            Next::Rest(rest) => return Ok(rest),
        }
    }
    Err(FlowError::Contended)
}

async fn round(deps: &Deps<'_>, loaded: Loaded<BillPayments>, asked: &mut bool) -> Result<Next, FlowError> {
    let context = &deps.context;
    let bill = &loaded.document;
    if bill.entry.as_ref().is_some_and(|entry| !entry.is_finished()) {
        let target = Entry {
            coupa: deps.coupa,
            settings: deps.settings,
        };
        return match drive(context, loaded, &target).await? {
            Driven::Finished(done) => {
                if done
                    .document
                    .entry
                    .as_ref()
                    .is_some_and(|entry| entry.status == EffectStatus::Done)
                {
                    tracing::info!(metric = "payment_written", value = 1, "a payment is in Coupa");
                }
                Ok(Next::Again)
            }
            Driven::Later(waiting) => Ok(rest(context, waiting)),
            Driven::Busy => Ok(Next::Rest(Rest::Busy)),
            Driven::OutOfTime => Err(FlowError::OutOfTime),
        };
    }
    if bill.left_alone.is_some() {
        return finish(deps, loaded).await;
    }
    if bill.parked.is_some() {
        if !std::mem::take(asked) {
            return finish(deps, loaded).await;
        }
        let mut document = bill.clone();
        document.parked = None;
        document.look_again = Some(context.clock.now());
        return store(
            context,
            loaded.revision,
            document,
            vec![PaymentEvent::Reconsidered],
        )
        .await;
    }
    if !in_qad(context, bill.invoice).await? {
        return later(context, loaded, NOT_POSTED_RECHECK_MILLIS).await;
    }
    if !bill.coupa_read {
        return read_coupa(deps, loaded).await;
    }
    match bill.next_entry(&deps.settings.policy) {
        NextEntry::Settled => finish(deps, loaded).await,
        NextEntry::Park(problem) => park(context, loaded, problem).await,
        NextEntry::Append(entry) => {
            let effect = new_effect(
                effect_key(&entry),
                Repetition::OnlyAfterLookUp,
                render(&entry)?,
                context.clock.now(),
            )
            .succeeding(bill.entry.as_ref());
            let event = PaymentEvent::Ready {
                entry,
                request_sha256: effect.request_sha256.clone(),
            };
            let mut document = bill.clone();
            document.entry = Some(effect);
            store(context, loaded.revision, document, vec![event]).await
        }
    }
}

/// One effect per invoice, payment and allocation, and one more for taking it back.
fn effect_key(entry: &PaymentEntry) -> String {
    let void = if entry.takes_back { "#VOID" } else { "" };
    format!("coupa-payment/{}/{}{void}", entry.invoice, entry.key)
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
        Ok(_) => Ok(Next::Again),
        Err(CommitError::Conflict) => {
            context.pause(1).await;
            Ok(Next::Again)
        }
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}

/// Nothing is paid in Coupa before the invoice is proven to be in QAD.
async fn in_qad(context: &Context<'_>, invoice: InvoiceId) -> Result<bool, FlowError> {
    let record = load::<InvoiceRecord>(context.register, RecordKey::Invoice(invoice)).await?;
    Ok(record.is_some_and(|loaded| {
        matches!(
            loaded.document.state,
            State::Posted { .. } | State::Exported { .. }
        )
    }))
}

/// Looks again after so long; nothing is written when that is planned already.
async fn later(context: &Context<'_>, loaded: Loaded<BillPayments>, millis: i64) -> Result<Next, FlowError> {
    let now = context.clock.now();
    if loaded.document.look_again.is_some_and(|at| at > now) {
        return Ok(rest(context, loaded));
    }
    let mut document = loaded.document.clone();
    document.look_again = Some(now.plus_millis(millis));
    store(context, loaded.revision, document, vec![]).await
}

async fn park(
    context: &Context<'_>,
    loaded: Loaded<BillPayments>,
    problem: Problem,
) -> Result<Next, FlowError> {
    let mut document = loaded.document.clone();
    document.parked = Some(problem.clone());
    document.look_again = Some(context.clock.now());
    store(
        context,
        loaded.revision,
        document,
        vec![PaymentEvent::Parked { problem }],
    )
    .await
}

/// Before anything is written for the first time: what an earlier life of this product wrote is not written again, and
/// what Coupa pays by itself is none of ours.
async fn read_coupa(deps: &Deps<'_>, loaded: Loaded<BillPayments>) -> Result<Next, FlowError> {
    let context = &deps.context;
    let bill = &loaded.document;
    if !context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    let shown = match deps.coupa.bill(bill.invoice).await {
        Ok(Some(shown)) => shown,
        Ok(None) => {
            let problem = not_in_coupa(bill.invoice);
            return park(context, loaded, problem).await;
        }
        Err(ReadError::Unavailable { retry_after, problem }) => {
            return delay(context, loaded, retry_after, problem).await;
        }
        Err(ReadError::Refused(problem) | ReadError::Unreadable(problem)) => {
            return park(context, loaded, problem).await;
        }
    };
    let mut document = bill.clone();
    document.setbacks = 0;
    document.delay = None;
    let event = if let Some(problem) = paid_elsewhere(&shown, deps.settings) {
        document.left_alone = Some(problem.clone());
        PaymentEvent::LeftAlone { problem }
    } else if shown.currency != bill.currency {
        let problem = Problem::new("PAYMENT_CURRENCY_DIFFERS", "Enter the payment in Coupa by hand.")
            .field(format!("Coupa invoice {}", bill.invoice))
            .expected(bill.currency.to_string())
            .actual(shown.currency.to_string());
        document.parked = Some(problem.clone());
        PaymentEvent::Parked { problem }
    } else {
        document = document.reconciled(&shown.entries);
        PaymentEvent::CoupaRead {
            entries: u64::try_from(shown.entries.len()).unwrap_or(u64::MAX),
        }
    };
    document.look_again = Some(context.clock.now());
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
    let wait = backoff_millis(loaded.document.setbacks).max(asked.min(NOT_POSTED_RECHECK_MILLIS));
    let mut document = loaded.document;
    document.setbacks = document.setbacks.saturating_add(1);
    document.look_again = Some(context.clock.now().plus_millis(wait));
    document.delay = Some(problem);
    let change = Change::<_, PaymentEvent> {
        document,
        events: vec![],
        writes: vec![],
    };
    match save(context, loaded.revision, change).await {
        Ok(saved) => Ok(rest(context, saved)),
        Err(CommitError::Conflict) => Ok(Next::Again),
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
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

/// Nothing is left to do: the invoice's own record learns what is paid, and then the bill is not due any more.
async fn finish(deps: &Deps<'_>, loaded: Loaded<BillPayments>) -> Result<Next, FlowError> {
    let context = &deps.context;
    if loaded.document.look_again.is_none() {
        return Ok(rest(context, loaded));
    }
    tell_invoice(context, &loaded.document).await?;
    let mut document = loaded.document;
    document.look_again = None;
    document.setbacks = 0;
    store(context, loaded.revision, document, vec![]).await
}

async fn tell_invoice(context: &Context<'_>, bill: &BillPayments) -> Result<(), FlowError> {
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
        let Ok(document) = invoice.document.after(&event, context.clock.now()) else {
            return Ok(());
        };
        let change = Change {
            document,
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

/// Appending one entry to a Coupa invoice: what must never happen twice.
struct Entry<'a> {
    coupa: &'a dyn CoupaPayments,
    settings: &'a PaymentSettings,
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
fn judge_entries(entry: &PaymentEntry, shown: &CoupaBill, settings: &PaymentSettings) -> Finding<CoupaBill> {
    let park = |problem: Problem| Finding::Park {
        problem: problem.field(format!("Coupa invoice {}, {}", entry.invoice, entry.key)),
        answer: None,
    };
    let carrying = |own_sign: bool| {
        shown.entries.iter().filter(move |one| {
            let same_sign = one.amount.is_sign_negative() == entry.amount.is_sign_negative();
            entry.key.begins(&one.notes) && same_sign == own_sign
        })
    };
    let ours = carrying(true).filter(|one| is_entry(one, entry)).count();
    match (ours, carrying(true).count()) {
        (1, 1) => Finding::There {
            answer: shown.clone(),
            adopted: false,
        },
        (0, 0) => match paid_elsewhere(shown, settings) {
            Some(problem) => Finding::Park {
                problem,
                answer: None,
            },
            None => Finding::Nothing,
        },
        (_, 1) => {
            let actual = carrying(true).next().map_or_else(String::new, |one| {
                format!("{} {}", one.amount.normalize(), shown.currency)
            });
            park(
                Problem::new(
                    "COUPA_PAYMENT_DIFFERS",
                    "Correct the payment entry in Coupa by hand; it cannot be changed by integration.",
                )
                .expected(format!(
                    "{} {} on {}",
                    entry.amount.normalize(),
                    entry.currency,
                    entry.date
                ))
                .actual(actual),
            )
        }
        (_, several) => park(
            Problem::new(
                "COUPA_PAYMENT_TWICE",
                "Remove the entry that is too many, or balance it, in Coupa by hand.",
            )
            .expected("one entry with this key")
            .actual(several.to_string()),
        ),
    }
}

fn moved(
    context: &Context<'_>,
    bill: &BillPayments,
    step: EffectEvent,
) -> Result<Change<BillPayments, PaymentEvent>, IllegalStep> {
    let effect = bill.entry.as_ref().ok_or(IllegalStep::NoEffect)?;
    let after = effect.after(&step, context.clock.now(), context.timing)?;
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
) -> Result<Change<BillPayments, PaymentEvent>, IllegalStep> {
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

    fn judge(&self, _: &BillPayments, effect: &Effect, mut answers: Vec<CoupaBill>) -> Finding<CoupaBill> {
        match (entry_of(effect), answers.pop()) {
            (Ok(entry), Some(shown)) => judge_entries(&entry, &shown, self.settings),
            (Ok(_), None) => Finding::Unclear(Problem::new(
                "COUPA_PAYMENTS_MISSING",
                "Nothing to do: they are read again.",
            )),
            (Err(problem), _) => Finding::Unclear(problem),
        }
    }

    fn step(
        &self,
        context: &Context<'_>,
        bill: &BillPayments,
        event: EffectEvent,
    ) -> Result<Change<BillPayments, PaymentEvent>, IllegalStep> {
        moved(context, bill, event)
    }

    fn there(
        &self,
        context: &Context<'_>,
        bill: &BillPayments,
        _: &CoupaBill,
        _: Proof,
    ) -> Result<Change<BillPayments, PaymentEvent>, IllegalStep> {
        let effect = bill.entry.as_ref().ok_or(IllegalStep::NoEffect)?;
        // `judge` lets nothing through that cannot be read, so an unreadable request is an impossible step.
        let entry = entry_of(effect).map_err(|_| IllegalStep::NoEffect)?;
        let mut change = moved(context, bill, EffectEvent::Confirmed)?;
        change.document = change.document.with_written(&entry);
        // Something may be left to do, and the invoice's own record must learn of it.
        change.document.look_again = Some(context.clock.now());
        change.events.push(PaymentEvent::Written {
            key: entry.key,
            takes_back: entry.takes_back,
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
    ) -> Result<Change<BillPayments, PaymentEvent>, IllegalStep> {
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
    ) -> Result<Change<BillPayments, PaymentEvent>, IllegalStep> {
        let step = EffectEvent::Parked {
            problem: problem.clone(),
        };
        parked(context, bill, step, problem)
    }
}

#[cfg(test)]
mod tests;
