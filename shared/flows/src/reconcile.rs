//! Once a day, both sides against each other: finds what nobody looked for.
//!
//! Everything else in this product looks at what has changed. A second document that comes after its invoice is done with, a
//! document that is taken out of QAD, a payment that no poll has seen change nothing that is looked at. So each day everything
//! is looked up once that has come to stand where it stands within the last [`WINDOW_DAYS`], and whatever was found before.
//!
//! A run is as long as it takes: it keeps its place in the register after every few look-ups, and the next call goes on there.
//! Nothing is corrected. What nothing explains is told once, and kept until it is gone; two documents of one invoice are given
//! to a person, as those that the look-ups after a lost answer find.

mod reading;

use crate::match_invoice::{InvoiceSettings, change_at};
use crate::poll_coupa::{PollError, next_page};
use crate::ports::{
    CommitError, Coupa, Index, InvoiceHead, ReadError, RecordKey, Register, RowsAsked, StoredRecord,
};
use crate::store::{Context, FlowError, Loaded, load, parse, save};
use crate::watermark::{self, count, days_before};
use crate::{index, verify};
use domain::effect::Effect;
use domain::ids::InvoiceId;
use domain::index::View;
use domain::lifecycle::{Event, InvoiceRecord, ParkReason, State};
use domain::payments::PaymentPolicy;
use domain::reconcile::{
    Difference, Kind, UNKNOWN_MILLIS_MAX, identity_of, judge_listing, not_looked_up, only_in_coupa,
    out_of_reach, unread,
};
use domain::time::Timestamp;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub use reading::{
    Books, Paid, books_of, documents_of, judge_invoice, judge_payment, paid_between, unreadable,
};

/// What has stood where it stands for longer was looked at on each of so many days: long enough for a clerk to key the paper
/// that comes after the invoice, and for the close of a month.
pub const WINDOW_DAYS: i64 = 31;
/// A payment is judged so many days after QAD's last change of it: by then the poll, whose days overlap, has seen it twice.
const PAYMENT_GRACE_DAYS: i64 = 2;
/// Look-ups at the same time, and between two notes of the place: so many are done anew when a run is cut off.
const LOOK_UPS_AT_ONCE: usize = 6;
/// Calls in which the same look-up may fail before the run goes on without it.
const TRIES_MAX: u32 = 3;
/// Most unexplained differences that are kept, so that the record stays far below the item limit; those beyond are counted.
const KEPT_MAX: usize = 200;
/// Tries to give an invoice to a person against others who write it.
const PARK_TRIES_MAX: u32 = 3;
/// A last complete run older than this is late, in milliseconds.
pub const LATE_MILLIS: i64 = 2 * 86_400_000;
const DAY_MILLIS: i64 = 86_400_000;
/// The name under which it is kept.
const WATERMARK: &str = "reconcile";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register: read everything; the run's place and result, and two documents of one invoice.
    pub context: Context<'a>,
    /// The index of questions: what came to stand where within the window.
    pub index: &'a dyn Index,
    /// Coupa: list invoices.
    pub coupa: &'a dyn Coupa,
    /// The books of each entity: find supplier invoices, read payments.
    pub books: &'a [Books<'a>],
    /// How much of what becomes of an invoice is shown in Coupa.
    pub settings: &'a InvoiceSettings,
    /// Which status of a payment counts.
    pub payments: &'a PaymentPolicy,
    /// Begin anew although today's run is complete.
    pub anew: bool,
    /// Told everything before it is kept: a run that dies in between tells it again, and never not at all.
    pub tell: &'a (dyn Fn(Told<'_>) + Send + Sync),
}

/// What a call tells.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// QAD holds several documents of this invoice, and it is being given to a person.
    Duplicate(InvoiceId),
    /// The run is complete.
    Complete(&'a Report),
}

/// One unexplained difference, and since which run it has been seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// What.
    #[serde(flatten)]
    pub difference: Difference,
    /// The beginning of the run that found it.
    pub since: Timestamp,
}

/// The result of a complete run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it began.
    pub started: Timestamp,
    /// When it was complete.
    pub ended: Timestamp,
    /// Invoices that came to stand where they stand since then were looked at.
    pub from: Timestamp,
    /// How many were looked at.
    pub looked_at: u64,
    /// How many differences of each kind, the explained ones too.
    pub counts: BTreeMap<Kind, u64>,
    /// What nothing explains, at most [`KEPT_MAX`].
    pub unexplained: Vec<Standing>,
    /// How many more there are.
    pub beyond: u64,
    /// How many of all of them the run before did not know.
    pub new: u64,
}

impl Report {
    /// How many differences nothing explains.
    pub fn unexplained_count(&self) -> u64 {
        count(self.unexplained.len()).saturating_add(self.beyond)
    }

    /// Those that the run before did not know, as far as they are kept.
    pub fn news(&self) -> impl Iterator<Item = &Difference> {
        let new = |one: &&Standing| one.since == self.started;
        self.unexplained.iter().filter(new).map(|one| &one.difference)
    }
}

/// What is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reconciliation {
    /// The last complete run.
    #[serde(default)]
    pub last: Option<Report>,
    /// The run that has begun and is not complete.
    #[serde(default)]
    pub running: Option<Run>,
}

impl Reconciliation {
    /// True when the last complete run is too long ago.
    pub fn is_late(&self, now: Timestamp) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|last| now.millis_since(last.ended) > LATE_MILLIS)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let last = self.last.as_ref();
        last.is_none_or(|last| last.started.date_utc() < now.date_utc())
    }

    /// Which unexplained differences are known, and since when.
    fn known(&self) -> BTreeMap<(InvoiceId, Kind), Timestamp> {
        let kept = self.last.iter().flat_map(|last| &last.unexplained);
        kept.map(|one| ((one.difference.invoice, one.difference.kind), one.since))
            .collect()
    }
}

/// A run under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it began.
    pub started: Timestamp,
    stage: Stage,
    /// Calls in which the next step has failed.
    #[serde(default)]
    tries: u32,
    /// Invoices looked at so far.
    pub looked_at: u64,
    #[serde(default)]
    counts: BTreeMap<Kind, u64>,
    #[serde(default)]
    unexplained: Vec<Difference>,
    #[serde(default)]
    beyond: u64,
    /// Invoices of which QAD was seen to hold several documents: each is given to a person, and then taken off.
    #[serde(default)]
    suspects: Vec<InvoiceId>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
enum Stage {
    /// Looks again at what was unexplained, however old it is.
    Known { after: Option<InvoiceId> },
    /// Reads Coupa's list of what is not exported.
    Listed { after: Option<InvoiceId> },
    /// Looks up what stands in a list of the register.
    Standing { view: View, beyond: String },
    /// Everything is looked at.
    Done,
}

impl Run {
    fn new(started: Timestamp) -> Self {
        Self {
            started,
            stage: Stage::Known { after: None },
            tries: 0,
            looked_at: 0,
            counts: BTreeMap::new(),
            unexplained: Vec::new(),
            beyond: 0,
            suspects: Vec::new(),
        }
    }

    fn from(&self) -> Timestamp {
        let window = WINDOW_DAYS.saturating_mul(DAY_MILLIS);
        self.started.plus_millis(window.saturating_neg())
    }

    /// The list after this one, or the first.
    fn next_view(&self, before: Option<View>) -> Stage {
        let mut views = View::ALL.into_iter();
        if let Some(before) = before {
            views.find(|view| *view == before);
        }
        views.next().map_or(Stage::Done, |view| Stage::Standing {
            view,
            beyond: index::place(self.from(), InvoiceId(0)),
        })
    }

    fn add(&mut self, found: Vec<Difference>) {
        for difference in found {
            let counted = self.counts.entry(difference.kind).or_default();
            *counted = counted.saturating_add(1);
            if difference.explained {
                continue;
            }
            if self.unexplained.len() < KEPT_MAX {
                self.unexplained.push(difference);
            } else {
                self.beyond = self.beyond.saturating_add(1);
            }
        }
    }

    fn report(&self, ended: Timestamp, known: &BTreeMap<(InvoiceId, Kind), Timestamp>) -> Report {
        let since = |one: &Difference| known.get(&(one.invoice, one.kind)).copied();
        let unexplained: Vec<Standing> = self
            .unexplained
            .iter()
            .map(|one| Standing {
                difference: one.clone(),
                since: since(one).unwrap_or(self.started),
            })
            .collect();
        let new = unexplained.iter().filter(|one| one.since == self.started).count();
        Report {
            started: self.started,
            ended,
            from: self.from(),
            looked_at: self.looked_at,
            counts: self.counts.clone(),
            unexplained,
            beyond: self.beyond,
            new: count(new).saturating_add(self.beyond),
        }
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was looked at.
    Complete,
    /// The time was over; the next call goes on.
    Incomplete,
    /// Today's run is complete already.
    NotDue,
    /// Another call goes on with it.
    Overtaken,
}

/// What a call did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// How it ended.
    pub outcome: Outcome,
    /// Invoices that it has looked at.
    pub looked_at: u64,
}

/// Where it is kept.
pub fn key() -> RecordKey {
    RecordKey::Watermark(WATERMARK.to_owned())
}

/// What is known of the last run, from what lies at [`key`].
///
/// # Errors
/// A record that this version cannot read.
pub fn known_in(stored: Option<&StoredRecord>) -> Result<Reconciliation, FlowError> {
    Ok(stored.map(parse).transpose()?.unwrap_or_default())
}

/// What is known of the last run, and of one under way.
///
/// # Errors
/// No answer from the register, or a record that this version cannot read.
pub async fn known(register: &dyn Register) -> Result<Reconciliation, FlowError> {
    let stored = watermark::load::<Reconciliation>(register, WATERMARK).await?;
    Ok(stored.watermark.unwrap_or_default())
}

/// Goes on with the run that is under way, or begins today's, as far as the time allows.
///
/// # Errors
/// Coupa, QAD or the register gave no answer. What was looked at is kept; the next call goes on.
pub async fn run(deps: &Deps<'_>) -> Result<Reconciled, PollError> {
    let context = &deps.context;
    let stored = watermark::load::<Reconciliation>(context.register, WATERMARK).await?;
    let (key, mut revision) = (stored.key, stored.revision);
    let mut kept = stored.watermark.unwrap_or_default();
    let now = context.clock.now();
    let mut done = Reconciled {
        outcome: Outcome::NotDue,
        looked_at: 0,
    };
    let mut run = match kept.running.take() {
        Some(run) => run,
        None if deps.anew || kept.is_due(now) => Run::new(now),
        None => return Ok(done),
    };
    let before = run.looked_at;
    let mut work = Work {
        deps,
        known: kept.known(),
        paid: None,
    };
    loop {
        done.looked_at = run.looked_at.saturating_sub(before);
        if context.clock.now() > context.deadline {
            done.outcome = Outcome::Incomplete;
            return Ok(done);
        }
        let is_done = run.stage == Stage::Done && run.suspects.is_empty();
        let failed = if is_done {
            let report = run.report(context.clock.now(), &work.known);
            (deps.tell)(Told::Complete(&report));
            kept.last = Some(report);
            None
        } else {
            let mut next = run.clone();
            let stepped = work.step(&mut next).await;
            // Half a step is none: what failed is done anew, and whole.
            stepped.map(|()| run = next).err()
        };
        run.tries = match &failed {
            Some(_) => run.tries.saturating_add(1),
            None => 0,
        };
        let after = Reconciliation {
            running: (!is_done).then(|| run.clone()),
            ..kept.clone()
        };
        if !watermark::advance(context.register, context.chance, &key, revision, &after).await? {
            done.outcome = Outcome::Overtaken;
            return Ok(done);
        }
        revision = revision.saturating_add(1);
        if let Some(error) = failed {
            return Err(error);
        }
        if is_done {
            done.outcome = Outcome::Complete;
            return Ok(done);
        }
    }
}

/// One call's work.
struct Work<'a> {
    deps: &'a Deps<'a>,
    /// What the run before found unexplained, and since when.
    known: BTreeMap<(InvoiceId, Kind), Timestamp>,
    /// What QAD has paid, once it was read.
    paid: Option<Paid>,
}

impl Work<'_> {
    /// The next few look-ups, or the next page of Coupa's list.
    async fn step(&mut self, run: &mut Run) -> Result<(), PollError> {
        // What has failed so often is no reason to look at nothing else.
        let goes_on = run.tries.saturating_add(1) >= TRIES_MAX;
        if let Some(id) = run.suspects.first().copied() {
            match park(self.deps, id).await {
                Ok(()) => {}
                // That there are two is told already.
                Err(error) if unreadable(&error).is_some() || goes_on && may_be_left(&error) => {}
                Err(error) => return Err(error),
            }
            run.suspects.retain(|suspect| *suspect != id);
            return Ok(());
        }
        match run.stage.clone() {
            Stage::Known { after } => {
                let ids: BTreeSet<InvoiceId> = self.known.keys().map(|(id, _)| *id).collect();
                let next: Vec<InvoiceId> = ids
                    .into_iter()
                    .filter(|id| after.is_none_or(|after| *id > after))
                    .take(LOOK_UPS_AT_ONCE)
                    .collect();
                self.look_up(run, &next, goes_on).await?;
                run.stage = match next.last() {
                    Some(last) => Stage::Known { after: Some(*last) },
                    None => Stage::Listed { after: None },
                };
            }
            Stage::Listed { after } => {
                let page = self.deps.coupa.exportable_invoices(after).await?;
                run.add(listed(self.deps, &page.heads).await?);
                run.stage = match next_page(after, page.last, page.more).map_err(ReadError::Unreadable)? {
                    Some(last) => Stage::Listed { after: Some(last) },
                    None => run.next_view(None),
                };
            }
            Stage::Standing { view, beyond } => {
                let asked = RowsAsked {
                    beyond: Some(&beyond),
                    newest_first: false,
                    limit: LOOK_UPS_AT_ONCE,
                };
                let list = index::list_of(view, None);
                let (rows, _) = index::page(self.deps.index, &list, &asked).await?;
                // What has moved since the run began is tomorrow's.
                let rows: Vec<index::Row> = rows
                    .into_iter()
                    .take_while(|row| row.since < run.started)
                    .collect();
                let is_known = |id: InvoiceId| self.known.keys().any(|(known, _)| *known == id);
                let next: Vec<InvoiceId> = rows
                    .iter()
                    .map(|row| row.id)
                    .filter(|id| !is_known(*id))
                    .collect();
                self.look_up(run, &next, goes_on).await?;
                run.stage = match rows.last() {
                    Some(last) => Stage::Standing {
                        view,
                        beyond: index::place(last.since, last.id),
                    },
                    None => run.next_view(Some(view)),
                };
            }
            Stage::Done => {}
        }
        Ok(())
    }

    /// Looks these invoices up. With `goes_on` what cannot be looked up is told as a difference of its own.
    async fn look_up(&mut self, run: &mut Run, ids: &[InvoiceId], goes_on: bool) -> Result<(), PollError> {
        if ids.is_empty() {
            return Ok(());
        }
        let paid = match self.paid.take() {
            Some(paid) => paid,
            None => paid_of_late(self.deps, run).await?,
        };
        let paid = self.paid.insert(paid);
        let keys: Vec<RecordKey> = ids.iter().map(|id| RecordKey::Invoice(*id)).collect();
        let stored = self
            .deps
            .context
            .register
            .read(&keys)
            .await
            .map_err(FlowError::from)?;
        let mut records = Vec::new();
        for (id, stored) in ids.iter().zip(&stored) {
            match stored.as_ref().map(parse::<InvoiceRecord>).transpose() {
                Ok(record) => records.extend(record),
                // One record that this version cannot read hides no other.
                Err(error) => run.add(vec![unread(*id, &error.problem())]),
            }
        }
        let looked = join_all(records.iter().map(|record| examine(self.deps, record, paid))).await;
        for (record, looked) in records.iter().zip(looked) {
            let found = match looked {
                Ok(found) => found,
                // Nor does a bill or an audit entry of it.
                Err(error) if unreadable(&error).is_some() || goes_on && may_be_left(&error) => {
                    vec![not_looked_up(record, &error.problem())]
                }
                Err(error) => return Err(error),
            };
            if is_ours(record) && found.iter().any(|found| found.kind == Kind::TwoInQad) {
                run.suspects.push(record.id);
            }
            run.add(found);
        }
        run.looked_at = run.looked_at.saturating_add(count(ids.len()));
        Ok(())
    }
}

/// Whether a run may go on without what could not be read: not for want of our own register, and not while nothing can be read
/// at all.
fn may_be_left(error: &PollError) -> bool {
    matches!(error, PollError::Read(_)) && !error.problem().is_credential_refused()
}

/// Whether a document of ours is known to be in QAD, and nobody has to look at it yet.
fn is_ours(record: &InvoiceRecord) -> bool {
    matches!(record.state, State::Posted { .. } | State::Exported { .. })
}

/// What one invoice differs in, its payments too.
async fn examine(deps: &Deps<'_>, record: &InvoiceRecord, paid: &Paid) -> Result<Vec<Difference>, PollError> {
    let Some(documents) = documents_of(deps.books, record).await? else {
        return Ok(vec![out_of_reach(record)]);
    };
    let register = deps.context.register;
    let mut found = judge_invoice(register, deps.books, record, &documents, None).await?;
    if let Some(paid) = paid.of(deps.books, record) {
        found.extend(judge_payment(register, record, paid).await?);
    }
    Ok(found)
}

/// What a page of Coupa's list says that the register does not. What has just moved is no difference.
async fn listed(deps: &Deps<'_>, heads: &[InvoiceHead]) -> Result<Vec<Difference>, PollError> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let now = deps.context.clock.now();
    let keys: Vec<RecordKey> = heads.iter().map(|head| RecordKey::Invoice(head.id)).collect();
    let stored = deps.context.register.read(&keys).await.map_err(FlowError::from)?;
    let mut found = Vec::new();
    for (head, stored) in heads.iter().zip(&stored) {
        match stored.as_ref().map(parse::<InvoiceRecord>).transpose() {
            Ok(None) if head.out_of_scope => {}
            Ok(None) => found.push(only_in_coupa(head.id, &head.status, head.updated_at, now)),
            Ok(Some(record)) => {
                let is_settled = record.export.as_ref().is_none_or(Effect::is_finished);
                let is_old = now.millis_since(record.since.max(head.updated_at)) >= UNKNOWN_MILLIS_MAX;
                if is_settled && is_old {
                    found.extend(judge_listing(&record, Some(&head.status)));
                }
            }
            Err(error) => found.push(unread(head.id, &error.problem())),
        }
    }
    Ok(found)
}

/// What QAD has paid within the window, of the entities whose payments are followed at all.
async fn paid_of_late(deps: &Deps<'_>, run: &Run) -> Result<Paid, PollError> {
    let mut followed = Vec::new();
    for books in deps.books {
        if reading::is_followed(deps.context.register, deps.books, books).await? {
            followed.push(books.payments);
        }
    }
    let until = days_before(run.started.date_utc(), PAYMENT_GRACE_DAYS);
    Ok(paid_between(&followed, deps.payments, run.from().date_utc(), Some(until)).await?)
}

/// Gives an invoice to a person if QAD still holds several documents of it.
async fn park(deps: &Deps<'_>, id: InvoiceId) -> Result<(), PollError> {
    let context = &deps.context;
    for attempt in 0..PARK_TRIES_MAX {
        let loaded = load::<InvoiceRecord>(context.register, RecordKey::Invoice(id)).await?;
        let Some(Loaded {
            document: record,
            revision,
        }) = loaded.filter(|loaded| is_ours(&loaded.document))
        else {
            return Ok(());
        };
        let books = books_of(deps.books, &record);
        let identity = books.and_then(|books| identity_of(books.entity, &record));
        let documents = documents_of(deps.books, &record).await?.unwrap_or_default();
        let known = record.state.voucher();
        let Some(problem) = identity.and_then(|identity| verify::duplicates(&identity, known, &documents))
        else {
            return Ok(());
        };
        let reason = ParkReason::InQad {
            problem,
            voucher: known.cloned(),
        };
        (deps.tell)(Told::Duplicate(id));
        let change = change_at(
            context.clock.now(),
            deps.settings,
            &record,
            Event::Parked { reason },
        )?;
        match save(context, revision, change).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(FlowError::Store(error).into()),
        }
    }
    Err(FlowError::Contended.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::tests::ready;
    use crate::match_invoice::tests::settings;
    use crate::memory_register::MemoryRegister;
    use crate::poll_coupa::tests::Shop;
    use crate::ports::StoreError;
    use domain::problem::Problem;
    use domain::timing::Timing;

    #[test]
    fn nothing_is_left_out_for_want_of_credentials_or_of_our_own_register() {
        let problem = |code: &str| Problem::new(code, "");
        let unavailable = ReadError::Unavailable {
            retry_after: None,
            problem: problem("QAD_UNAVAILABLE"),
        };
        assert!(may_be_left(&unavailable.into()));
        assert!(may_be_left(
            &ReadError::Unreadable(problem("QAD_ANSWER_UNREADABLE")).into()
        ));
        let refused = ReadError::Refused(problem("QAD_CREDENTIAL_REFUSED"));
        assert!(refused.problem().is_credential_refused() && !may_be_left(&refused.into()));
        assert!(!may_be_left(&StoreError(problem("DYNAMODB_UNAVAILABLE")).into()));
    }

    #[test]
    fn a_list_that_does_not_advance_is_no_end_of_it() {
        let index = MemoryRegister::new();
        let mut shop = Shop::new(120);
        let timing = Timing::default();
        let settings = settings();
        let policy = PaymentPolicy::default();
        let mut outcomes = Vec::new();
        for stuck in [true, false] {
            shop.stuck = stuck;
            let deps = Deps {
                context: Context {
                    register: &shop.model,
                    clock: &shop.model,
                    chance: &shop.model,
                    timing: &timing,
                    deadline: Timestamp(i64::MAX),
                },
                index: &index,
                coupa: &shop,
                books: &[],
                settings: &settings,
                payments: &policy,
                anew: true,
                tell: &|_| (),
            };
            let ended = ready(run(&deps)).map(|done| done.outcome);
            outcomes.push(ended.map_err(|error| error.problem().code));
        }
        let stuck = "COUPA_PAGE_DOES_NOT_ADVANCE".to_owned();
        assert_eq!(outcomes, [Err(stuck), Ok(Outcome::Complete)]);
        let counts = ready(known(&shop.model)).unwrap().last.unwrap().counts;
        assert_eq!(counts.get(&Kind::OnlyInCoupa), Some(&120));
    }

    #[test]
    fn a_run_begins_once_a_day_and_is_late_after_two() {
        let at = |days: i64| Timestamp(days * DAY_MILLIS + 3_600_000);
        let mut kept = Reconciliation::default();
        assert!(kept.is_due(at(5)) && !kept.is_late(at(5)), "there is none yet");
        kept.last = Some(Run::new(at(5)).report(at(5), &BTreeMap::new()));
        assert!(!kept.is_due(at(5)) && kept.is_due(at(6)));
        assert!(!kept.is_late(at(7)) && kept.is_late(at(8)));
    }

    #[test]
    fn beyond_what_is_kept_differences_are_counted() {
        let mut run = Run::new(Timestamp(0));
        for id in 0..=u64::try_from(KEPT_MAX).unwrap() {
            run.add(vec![unread(
                InvoiceId(id),
                &Problem::new("REGISTER_RECORD_UNREADABLE", ""),
            )]);
        }
        let known = BTreeMap::from([((InvoiceId(0), Kind::NotLookedUp), Timestamp(-1))]);
        let report = run.report(Timestamp(1), &known);
        let kept = u64::try_from(KEPT_MAX).unwrap();
        assert_eq!(
            (report.unexplained_count(), report.beyond, report.new),
            (kept + 1, 1, kept)
        );
        assert_eq!(report.counts[&Kind::NotLookedUp], kept + 1);
        assert_eq!(report.news().count() + 1, KEPT_MAX, "one was known");
    }
}
