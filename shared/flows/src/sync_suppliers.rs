//! Keeps suppliers aligned both ways: links them, creates what one side lacks, and carries changes to the other side.
//!
//! Both sides are read from their cursors with an overlap; known rows are recognised by their digest, so an idle run reads
//! each side once and writes nothing. What is news is decided by [`domain::suppliers`] and written through the effect
//! engine. A run that would create or change more than its share waits for a person with its plan. The cursors move, by compare-and-set, after everything before them is in the register; a run that dies is made
//! up for by the next one. A record that cannot be read is put aside under its id, and the rest goes on.

use crate::engine::{Driven, Finding, Proof, Target, drive};
use crate::index::entries;
use crate::invoice_effects::new_effect;
use crate::pause::{self, Stop};
use crate::plans::{self, ALLOWED_MAX, CHANGES_TOLD_MAX, Mark, Parking};
use crate::poll_coupa::PollError;
use crate::ports::{
    Collection, Commit, CommitError, CoupaSuppliers, IndexWrite, QadSuppliers, Queue, ReadError, RecordGroup,
    RecordKey, RecordWrite, WriteError,
};
use crate::store::{Change, Context, Document, FlowError, Loaded, parse, render, save, sha256_hex};
use crate::supplier_event;
use async_trait::async_trait;
use domain::drive::Manner;
use domain::effect::{Effect, EffectEvent, EffectStatus, Repetition};
use domain::guards::{Guard, stands};
use domain::ids::{ConnectionId, SupplierCode};
use domain::instruction::Instruction;
use domain::lifecycle::{ChainEnd, IllegalStep};
use domain::plans::{PlanRecord, PlanState};
use domain::problem::Problem;
use domain::suppliers::{
    Candidate, CoupaLink, CoupaSupplier, Directory, LinkedBy, NextStep, QadLink, QadSupplier, SupplierData,
    SupplierEvent, SupplierField, SupplierId, SupplierPolicy, SupplierRecord, SupplierState, SupplierWrite,
    adoption_replaces, in_coupa_words, link_coupa, link_qad, name_key, too_many_changes,
};
use domain::time::{Date, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Days of QAD that are read again: its cursor is by day.
pub const OVERLAP_DAYS: i64 = 2;
/// Time of Coupa that is read again, in milliseconds (ten minutes).
pub const OVERLAP_MILLIS: i64 = 600_000;
/// How long a refused write is not sent again while it stays the same, in milliseconds (23 hours).
pub const REFUSED_RETRY_MILLIS: i64 = 23 * 3_600_000;
/// The same where it was our credential that was refused, and no word about the supplier (five minutes).
pub const CREDENTIAL_RETRY_MILLIS: i64 = 300_000;
/// Most pages of Coupa that one run reads.
const PAGES_MAX: u32 = 2_000;
/// Most digests that are remembered; rows beyond it are compared again each run, which is harmless.
const DIGESTS_MAX: usize = 10_000;
/// Writes one supplier may need in one run: create, its number, and both directions.
const WRITES_PER_SUPPLIER_MAX: u32 = 5;
/// Records stored in one transaction when there was no time to act on them, each with up to two rows of the index.
const KEPT_PER_COMMIT: usize = 30;
/// The watermark's name.
const WATERMARK: &str = "suppliers";
/// Begins the ids in the collection that are no suppliers.
pub const QUARANTINE: &str = "quarantine/";
/// Code of a refusal that another supplier's change may lift: Coupa has the name already.
pub const TAKEN: &str = "COUPA_SUPPLIER_TAKEN";
/// Code of a supplier that could not be created in QAD because its code is another one's.
const CODE_TAKEN: &str = "SUPPLIER_CODE_TAKEN";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Whose suppliers.
    pub connection: &'a ConnectionId,
    /// Register (read, write), clock, chance, timing, deadline.
    pub context: Context<'a>,
    /// Coupa: read, create and update suppliers.
    pub coupa: &'a dyn CoupaSuppliers,
    /// QAD: read, create and update suppliers.
    pub qad: &'a dyn QadSuppliers,
    /// The queue of hints, for invoices that wait for a supplier.
    pub queue: &'a dyn Queue,
    /// How the connection wants its suppliers aligned.
    pub policy: &'a SupplierPolicy,
    /// Only says what would be done; writes nothing anywhere.
    pub plan_only: bool,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Synced {
    /// Suppliers read from QAD.
    pub read_qad: u64,
    /// Suppliers read from Coupa.
    pub read_coupa: u64,
    /// Suppliers newly linked.
    pub linked: u64,
    /// Writes confirmed.
    pub written: u64,
    /// Writes whose outcome is not known yet, or that somebody else is making; the next run goes on.
    pub open: u64,
    /// Invoices woken.
    pub woken: u64,
    /// What would be done, when only asked for the plan or when it waits for a person.
    pub changes: Vec<String>,
    /// Hash of that plan, to allow it by; blank otherwise.
    pub plan_sha256: String,
    /// True when the plan is larger than the share that may change at once, and nobody has allowed it: nothing of it is done.
    pub waits: bool,
    /// Suppliers that were parked for a person in this run, and why.
    pub needs_a_person: Vec<Problem>,
    /// Suppliers that stand parked; counted in runs that have something to do.
    pub parked: u64,
    /// Records that could not be read and were put aside; each raises an alarm, and the rest goes on.
    pub unreadable: Vec<Problem>,
    /// Of those, writes whose answer was lost.
    pub unknown: u64,
    /// True when there was no time to finish: what was read is kept, and the next run goes on.
    pub incomplete: bool,
    /// The flow is paused, or another installation's: only what was under way was brought to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Stop>,
}

/// How far the flow has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
struct Watermark {
    /// Latest day of change seen in QAD, never in the future.
    qad: Option<Date>,
    /// Latest change seen in Coupa.
    coupa: Option<Timestamp>,
    /// Digests of the rows in both windows, whose content is in the register.
    digests: BTreeSet<String>,
    /// The settings under which everything was looked at; others are a reason to look at everything again.
    #[serde(default)]
    policy: String,
    /// When something unfinished must be looked at again although nothing is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    look_again: Option<Timestamp>,
}

/// What both sides say.
#[derive(Default)]
struct Rows {
    qad: Vec<QadSupplier>,
    coupa: Vec<CoupaSupplier>,
    /// Side and id of what could not be read, and why.
    unreadable: Vec<(String, Problem)>,
}

/// Looks at both sides once.
pub async fn run(deps: &Deps<'_>) -> Result<Synced, PollError> {
    let context = &deps.context;
    let key = RecordKey::Watermark(WATERMARK.to_owned());
    let [switch, owner] = pause::stop_keys(pause::Flow::Suppliers);
    let found = context
        .register
        .read(&[key.clone(), plans::key(None), switch, owner])
        .await?;
    let mut found = found.into_iter();
    let stored = found.next().flatten();
    let plan = found.next().flatten();
    let (switch, owner) = (found.next().flatten(), found.next().flatten());
    let pause = pause::read_stop(switch.as_ref(), owner.as_ref(), context.clock.now())?;
    let plan: Loaded<PlanRecord> = match plan {
        Some(stored) => Loaded {
            document: parse(&stored)?,
            revision: stored.revision,
        },
        None => Loaded {
            document: PlanRecord::new(None),
            revision: 0,
        },
    };
    let seen = stored.as_ref().map_or(0, |stored| stored.revision);
    let before: Watermark = stored.as_ref().map(parse).transpose()?.unwrap_or_default();
    let now = context.clock.now();
    if let (Some(pause), false) = (pause, deps.plan_only) {
        let mut book = Book::open(deps).await?;
        book.synced.paused = Some(pause);
        book.finish_what_left().await?;
        return Ok(book.synced);
    }
    let rows = read_rows(deps, &before).await?;
    let mut synced = Synced {
        read_qad: count(rows.qad.len()),
        read_coupa: count(rows.coupa.len()),
        unreadable: rows
            .unreadable
            .iter()
            .map(|(_, problem)| problem.clone())
            .collect(),
        ..Synced::default()
    };
    let mut digests = digests_of(&rows);
    let policy = policy_digest(deps.policy);
    // What was allowed is carried out although nothing is new, also by the run after one that died.
    let allowed = plan.document.allowed_plan.is_some() || plan.document.state == PlanState::Applying;
    let news =
        policy != before.policy || allowed || digests.iter().any(|digest| !before.digests.contains(digest));
    let look_again = before.look_again.is_some_and(|instant| instant <= now);
    let mut again = before.look_again.filter(|_| !look_again);
    if !stands(Guard::WatermarkLast) && !deps.plan_only {
        let moved = watermark_after(&before, &rows, digests.clone(), again, now);
        let early = Watermark {
            policy: policy.clone(),
            ..moved
        };
        if early != before {
            advance(deps, key.clone(), seen, &early).await?;
        }
    }
    if news || look_again || deps.plan_only {
        let mut book = Book::open(deps).await?;
        synced.unreadable.append(&mut book.synced.unreadable);
        book.synced = synced;
        book.put_aside(&rows).await?;
        book.take_in(&rows, now);
        book.carry_out(plan).await?;
        if (book.synced.incomplete || book.synced.waits) && !deps.plan_only {
            if !book.keep_what_was_read().await? {
                return Ok(book.synced);
            }
            if book.synced.incomplete {
                book.look_again_at(now);
            }
        }
        again = book.look_again;
        digests.retain(|digest| !book.overtaken.contains(digest));
        synced = book.synced;
    }
    if deps.plan_only {
        return Ok(synced);
    }
    let after = Watermark {
        policy,
        ..watermark_after(&before, &rows, digests, again, now)
    };
    if after != before {
        advance(deps, key, seen, &after).await?;
    }
    Ok(synced)
}

/// Accepts that a supplier of QAD is the one of Coupa that it is proposed for; the next run links them as long as both are
/// what they are now.
pub async fn accept(
    context: &Context<'_>,
    code: &SupplierCode,
    coupa: u64,
    why: &Instruction,
) -> Result<SupplierRecord, FlowError> {
    /// Tries against an overlapping run.
    const TRIES_MAX: u32 = 5;
    let id = SupplierId::Qad(code.clone());
    let watermark = RecordKey::Watermark(WATERMARK.to_owned());
    for attempt in 0..TRIES_MAX {
        let keys = [entry(id.to_string()), watermark.clone()];
        let mut found = context.register.read(&keys).await?.into_iter();
        let (record, mark) = (found.next().flatten(), found.next().flatten());
        let (mut document, revision) = match &record {
            Some(stored) => (parse::<SupplierRecord>(stored)?, stored.revision),
            None => (SupplierRecord::new(id.clone(), context.clock.now()), 0),
        };
        let accepted = document.acceptance(coupa).map_err(FlowError::Broken)?;
        if document.accepted.as_ref() == Some(&accepted) {
            return Ok(document);
        }
        document.accepted = Some(accepted);
        let mut writes = Vec::new();
        if let Some(stored) = &mark {
            // Nothing is new on either side: the next run looks all the same.
            let mut moved: Watermark = parse(stored)?;
            moved.look_again = Some(context.clock.now());
            writes.push(RecordWrite::Put {
                key: watermark.clone(),
                seen: stored.revision,
                body: render(&moved)?,
                state: String::new(),
                due: None,
            });
        }
        let event = SupplierEvent::Accepted {
            with: SupplierId::Coupa(coupa).to_string(),
            by: why.by.clone(),
            reason: why.reason.clone(),
        };
        let change = Change {
            document,
            events: vec![event],
            writes,
        };
        match save(context, revision, change).await {
            Ok(saved) => return Ok(saved.document),
            Err(CommitError::Conflict) => context.pause(attempt).await,
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(FlowError::Contended)
}

/// Why a write is planned, in words for people.
fn reason(record: &SupplierRecord, write: &SupplierWrite) -> String {
    let differing = |before: Option<&SupplierData>| {
        let told = write.data().iter().map(|(field, text)| {
            let before = before.and_then(|data| data.get(field)).unwrap_or_default();
            format!("{} \"{before}\" becomes \"{text}\"", field.word())
        });
        told.collect::<Vec<_>>().join(", ")
    };
    match write {
        SupplierWrite::CreateInCoupa { .. } => {
            "QAD has it, and Coupa none of its number or tax id".to_owned()
        }
        SupplierWrite::CreateInQad { .. } => "it is approved in Coupa and has no number in QAD".to_owned(),
        SupplierWrite::UpdateInCoupa { data, .. } if data.iter().next().is_none() => {
            "Coupa shows it without its number".to_owned()
        }
        SupplierWrite::UpdateInCoupa { .. } => differing(record.coupa.as_ref().map(|coupa| &coupa.data)),
        SupplierWrite::UpdateInQad { .. } => differing(record.qad.as_ref().map(|qad| &qad.data)),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

async fn read_rows(deps: &Deps<'_>, before: &Watermark) -> Result<Rows, PollError> {
    let mut rows = Rows::default();
    let scan = deps.qad.suppliers_since(qad_since(before)).await?;
    rows.qad = scan.suppliers;
    let aside = |side: &str, id: Option<String>, problem: &Problem| {
        let id = id.unwrap_or_else(|| sha256_hex(&problem.to_string()).chars().take(16).collect());
        format!("{side}/{id}")
    };
    for (code, problem) in scan.unreadable {
        rows.unreadable
            .push((aside("qad", code.map(|code| code.folded()), &problem), problem));
    }
    let since = before
        .coupa
        .map(|cursor| cursor.plus_millis(OVERLAP_MILLIS.saturating_neg()));
    let mut after: Option<u64> = None;
    for _ in 0..PAGES_MAX {
        let page = deps.coupa.suppliers(since, after).await?;
        rows.coupa.extend(page.suppliers);
        for (id, problem) in page.unreadable {
            rows.unreadable
                .push((aside("coupa", id.map(|id| id.to_string()), &problem), problem));
        }
        match page.last {
            Some(last) if page.more && after.is_none_or(|before| last > before) => after = Some(last),
            None if !page.more => return Ok(rows),
            Some(_) if !page.more => return Ok(rows),
            _ => {
                return Err(PollError::Read(ReadError::Unreadable(endless(
                    "a page that does not advance",
                ))));
            }
        }
    }
    Err(PollError::Read(ReadError::Unreadable(endless(
        "more pages than one run reads",
    ))))
}

fn endless(actual: &str) -> Problem {
    let fix = "Check that Coupa honours id[gt] and order_by for suppliers.";
    Problem::new("COUPA_PAGE_DOES_NOT_ADVANCE", fix)
        .field("suppliers")
        .expected("pages by rising id")
        .actual(actual)
}

fn qad_since(before: &Watermark) -> Date {
    /// Before any change QAD can know.
    const BEGINNING: Date = jiff::civil::date(1900, 1, 1);
    before
        .qad
        .and_then(|cursor| cursor.checked_sub(jiff::Span::new().days(OVERLAP_DAYS)).ok())
        .unwrap_or(BEGINNING)
}

fn policy_digest(policy: &SupplierPolicy) -> String {
    // As text: JSON knows no maps with keys of its own kinds.
    digest(&["policy", &format!("{policy:?}")])
}

fn digest(parts: &[&str]) -> String {
    sha256_hex(&parts.join("\u{1f}")).chars().take(16).collect()
}

/// What a row says, without when it was changed: our own writes move that.
fn qad_digest(row: &QadSupplier) -> String {
    let (code, data) = (
        row.code.folded(),
        serde_json::to_string(&row.data).unwrap_or_default(),
    );
    let mut parts = vec!["qad", &code, &data];
    // Only where QAD shows them: what earlier versions remember stays what it is.
    parts.extend(row.kind.as_deref());
    parts.extend(row.site.as_deref());
    digest(&parts)
}

/// See [`qad_digest`].
fn coupa_digest(row: &CoupaSupplier) -> String {
    let content = serde_json::to_string(&(&row.number, &row.status, &row.data)).unwrap_or_default();
    digest(&["coupa", &row.id.to_string(), &content])
}

fn digests_of(rows: &Rows) -> BTreeSet<String> {
    let unreadable = rows
        .unreadable
        .iter()
        .map(|(id, problem)| digest(&["unreadable", id, &problem.to_string()]));
    rows.qad
        .iter()
        .map(qad_digest)
        .chain(rows.coupa.iter().map(coupa_digest))
        .chain(unreadable)
        .collect()
}

/// The cursors after a run whose rows are all in the register; digests of rows that the next run will not read are dropped.
fn watermark_after(
    before: &Watermark,
    rows: &Rows,
    digests: BTreeSet<String>,
    look_again: Option<Timestamp>,
    now: Timestamp,
) -> Watermark {
    let today = now.date_utc();
    let latest = rows.qad.iter().map(|row| row.last_modified.min(today)).max();
    let mut after = Watermark {
        qad: before.qad.max(latest),
        coupa: before
            .coupa
            .max(rows.coupa.iter().map(|row| row.updated_at.min(now)).max()),
        digests,
        policy: String::new(),
        look_again,
    };
    let since = qad_since(&after);
    let coupa_since = after
        .coupa
        .map(|cursor| cursor.plus_millis(OVERLAP_MILLIS.saturating_neg()));
    for row in rows.qad.iter().filter(|row| row.last_modified < since) {
        after.digests.remove(&qad_digest(row));
    }
    for row in rows
        .coupa
        .iter()
        .filter(|row| coupa_since.is_some_and(|since| row.updated_at <= since))
    {
        after.digests.remove(&coupa_digest(row));
    }
    after.digests = after.digests.into_iter().take(DIGESTS_MAX).collect();
    after
}

/// Moves the cursors by compare-and-set. An overlapping run that was faster has seen the same rows or later ones; ours are
/// then read again in the next run, which loses nothing. What we left unfinished it does not know: that is noted with it.
async fn advance(deps: &Deps<'_>, key: RecordKey, seen: u64, after: &Watermark) -> Result<(), FlowError> {
    /// Overlapping runs are few.
    const TRIES_MAX: u32 = 5;
    let (mut seen, mut body) = (seen, render(after)?);
    for attempt in 0..TRIES_MAX {
        let put = RecordWrite::Put {
            key: key.clone(),
            seen,
            body: body.clone(),
            state: String::new(),
            due: None,
        };
        let commit = Commit {
            token: deps.context.chance.token(),
            writes: vec![put],
            audit: vec![],
        };
        match deps.context.register.commit(commit).await {
            Ok(()) => return Ok(()),
            Err(CommitError::Conflict) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
        deps.context.pause(attempt).await;
        let found = deps.context.register.read(std::slice::from_ref(&key)).await?;
        let stored = found.into_iter().next().flatten();
        if let (Some(stored), false) = (&stored, stands(Guard::CursorsForward)) {
            seen = stored.revision;
            continue;
        }
        let (Some(stored), Some(ours)) = (stored, after.look_again) else {
            return Ok(());
        };
        let mut theirs: Watermark = parse(&stored)?;
        theirs.look_again = Some(theirs.look_again.map_or(ours, |instant| instant.min(ours)));
        (seen, body) = (stored.revision, render(&theirs)?);
    }
    Err(FlowError::Contended)
}

/// Writes what has no audit trail of its own; a conflict means that an overlapping run wrote the same.
async fn commit(context: &Context<'_>, writes: Vec<RecordWrite>) -> Result<(), FlowError> {
    let commit = Commit {
        token: context.chance.token(),
        writes,
        audit: vec![],
    };
    match context.register.commit(commit).await {
        Ok(()) | Err(CommitError::Conflict) => Ok(()),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}

fn entry(id: String) -> RecordKey {
    RecordKey::Entry {
        collection: Collection::Supplier,
        id,
    }
}

/// Where the record of a supplier is.
pub fn key_of(id: &SupplierId) -> RecordKey {
    entry(id.to_string())
}

impl Document for SupplierRecord {
    fn key(&self) -> RecordKey {
        key_of(&self.id)
    }
    fn audit_name(&self) -> String {
        format!("supplier/{}", self.id)
    }
    fn state_word(&self) -> &'static str {
        self.state.word()
    }
    /// The next run finds it through the watermark.
    fn chain(&mut self) -> &mut ChainEnd {
        &mut self.chain
    }
    fn follow(&mut self, _: Timestamp) -> Result<Vec<RecordWrite>, FlowError> {
        entries::follow_supplier(self)
    }
}

// ---------------------------------------------------------------------------------------------------------------
// A run that has something to do
// ---------------------------------------------------------------------------------------------------------------

type Held = Loaded<SupplierRecord>;

/// What a run may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Everything.
    Act,
    /// Nothing that leads to a write elsewhere: its plan waits for a person. Who waits for a person is told.
    Hold,
    /// Nothing at all: it only says what it would do.
    Tell,
}

/// A write that would be begun.
#[derive(Debug, Clone)]
struct Planned {
    /// Whose record.
    supplier: String,
    /// What it would do, see [`SupplierWrite::identity`].
    identity: String,
    /// True when the very same write was let through before and refused.
    known: bool,
}

impl Planned {
    fn digest(&self) -> String {
        digest(&[&self.identity])
    }
}

/// Everything in hand during one run.
#[derive(Clone)]
struct Book<'a, 'd> {
    deps: &'a Deps<'d>,
    mode: Mode,
    /// The writes that were planned and not begun.
    planned: Vec<Planned>,
    qad: BTreeMap<String, Held>,
    coupa: BTreeMap<u64, Held>,
    /// Which QAD supplier a Coupa supplier is linked to.
    linked: BTreeMap<u64, String>,
    /// Suppliers of Coupa that the plan that waits would link.
    would_link: BTreeSet<u64>,
    /// Codes and ids whose record somebody else changed in this moment, or cannot be read: left for the next run.
    busy: BTreeSet<String>,
    directory: Directory,
    /// Codes with something to look at.
    touched: BTreeSet<String>,
    /// Ids of records whose content differs from what is stored.
    changed: BTreeSet<String>,
    /// Digests of rows that say nothing, because the register knows something newer: read again by the next run.
    overtaken: BTreeSet<String>,
    /// True when a row brought something that the register did not know: our own echo does not.
    fresh: bool,
    /// Codes whose write Coupa refused in this run because another supplier has the name.
    taken: BTreeSet<String>,
    aside: BTreeSet<String>,
    look_again: Option<Timestamp>,
    synced: Synced,
}

impl<'a, 'd> Book<'a, 'd> {
    async fn open(deps: &'a Deps<'d>) -> Result<Self, FlowError> {
        let mut book = Self {
            deps,
            mode: if deps.plan_only { Mode::Tell } else { Mode::Act },
            planned: Vec::new(),
            qad: BTreeMap::new(),
            coupa: BTreeMap::new(),
            linked: BTreeMap::new(),
            would_link: BTreeSet::new(),
            busy: BTreeSet::new(),
            directory: Directory::default(),
            touched: BTreeSet::new(),
            changed: BTreeSet::new(),
            overtaken: BTreeSet::new(),
            fresh: false,
            taken: BTreeSet::new(),
            aside: BTreeSet::new(),
            look_again: None,
            synced: Synced::default(),
        };
        let stored = deps
            .context
            .register
            .list(&RecordGroup::Collection(Collection::Supplier))
            .await?;
        for one in stored {
            let RecordKey::Entry { id, .. } = &one.key else {
                continue;
            };
            if let Some(aside) = id.strip_prefix(QUARANTINE) {
                book.aside.insert(aside.to_owned());
            } else {
                match parse::<SupplierRecord>(&one) {
                    Ok(document) => book.hold(Loaded {
                        document,
                        revision: one.revision,
                    }),
                    Err(error) => {
                        book.busy.insert(id.clone());
                        book.synced.unreadable.push(error.problem());
                    }
                }
            }
        }
        Ok(book)
    }

    fn hold(&mut self, held: Held) {
        match &held.document.id {
            SupplierId::Qad(code) => {
                let code = code.folded();
                if let Some(id) = held.document.linked_coupa() {
                    self.linked.insert(id, code.clone());
                }
                self.qad.insert(code, held);
            }
            SupplierId::Coupa(id) => {
                self.coupa.insert(*id, held);
            }
        }
    }

    /// Records that cannot be read are put aside durably, before the cursors move past them; what can be read again is put
    /// aside no longer.
    async fn put_aside(&mut self, rows: &Rows) -> Result<(), FlowError> {
        if self.deps.plan_only {
            return Ok(());
        }
        let qad = rows.qad.iter().map(|row| format!("qad/{}", row.code.folded()));
        let coupa = rows.coupa.iter().map(|row| format!("coupa/{}", row.id));
        for id in qad.chain(coupa).filter(|id| self.aside.contains(id)) {
            let id = format!("{QUARANTINE}{id}");
            let gone = RecordWrite::Delete {
                key: entry(id.clone()),
            };
            let row = RecordWrite::Index(IndexWrite::Remove {
                list: entries::QUARANTINED_LIST.to_owned(),
                id,
            });
            commit(&self.deps.context, vec![gone, row]).await?;
        }
        for (id, problem) in rows.unreadable.iter().filter(|(id, _)| !self.aside.contains(id)) {
            let id = format!("{QUARANTINE}{id}");
            let put = RecordWrite::Put {
                key: entry(id.clone()),
                seen: 0,
                body: render(problem)?,
                state: "quarantined".to_owned(),
                due: None,
            };
            let row = RecordWrite::Index(IndexWrite::Put {
                list: entries::QUARANTINED_LIST.to_owned(),
                id,
                body: render(problem)?,
            });
            commit(&self.deps.context, vec![put, row]).await?;
        }
        Ok(())
    }

    /// Takes what both sides say into the records in hand. What was read before a write of an overlapping run ended, or by
    /// an older reading than the register's, says nothing.
    fn take_in(&mut self, rows: &Rows, began: Timestamp) {
        let now = self.deps.context.clock.now();
        let skew = self.deps.context.timing.clock_skew_millis;
        for row in &rows.qad {
            let code = row.code.folded();
            let held = self.qad.entry(code.clone()).or_insert_with(|| Loaded {
                document: SupplierRecord::new(SupplierId::Qad(row.code.clone()), now),
                revision: 0,
            });
            if is_overtaken(&held.document, began, skew) {
                self.overtaken.insert(qad_digest(row));
                continue;
            }
            if is_anothers(&held.document, row) {
                continue;
            }
            if held
                .document
                .qad
                .as_ref()
                .is_none_or(|known| !known.says_the_same_as(row))
            {
                held.document.qad = Some(row.clone());
                held.document.read_at = began;
                self.fresh = true;
                self.changed.insert(held.document.id.to_string());
                self.touched.insert(code);
            }
        }
        for row in &rows.coupa {
            if let Some(code) = self.linked.get(&row.id).cloned() {
                if let Some(held) = self.qad.get_mut(&code) {
                    if is_overtaken(&held.document, began, skew) {
                        self.overtaken.insert(coupa_digest(row));
                        continue;
                    }
                    let same = held
                        .document
                        .coupa
                        .as_ref()
                        .is_some_and(|known| coupa_digest(known) == coupa_digest(row));
                    if !same {
                        held.document.coupa = Some(row.clone());
                        held.document.read_at = began;
                        self.fresh = true;
                        self.changed.insert(held.document.id.to_string());
                        self.touched.insert(code);
                    }
                }
                continue;
            }
            let held = self.coupa.entry(row.id).or_insert_with(|| Loaded {
                document: SupplierRecord::new(SupplierId::Coupa(row.id), now),
                revision: 0,
            });
            if is_overtaken(&held.document, began, skew) {
                self.overtaken.insert(coupa_digest(row));
                continue;
            }
            if held
                .document
                .coupa
                .as_ref()
                .is_none_or(|known| coupa_digest(known) != coupa_digest(row))
            {
                held.document.coupa = Some(row.clone());
                held.document.read_at = began;
                self.fresh = true;
                self.changed.insert(held.document.id.to_string());
            }
        }
        if !self.overtaken.is_empty() {
            self.look_again_at(now);
        }
        for (code, held) in &self.qad {
            let linked = held.document.linked_coupa();
            match (&held.document.qad, &held.document.coupa, held.document.code()) {
                (Some(qad), ..) => self.directory.note_qad(qad, linked),
                // A code that is reserved for a supplier of Coupa is nobody else's, although QAD does not have it yet.
                (None, Some(coupa), Some(code)) if stands(Guard::CodeReserved) => {
                    self.directory
                        .note_qad(&reserved(code, coupa, now), Some(coupa.id));
                }
                _ => {}
            }
            if let (Some(coupa), Some(_)) = (&held.document.coupa, linked) {
                self.directory.note_coupa(coupa, held.document.code());
            }
            // What is unfinished, or waits for a person, is looked at whenever there is something to do.
            let unfinished =
                held.document.is_open() || held.document.next_step(self.deps.policy) != NextStep::Settled;
            if unfinished || !matches!(held.document.state, SupplierState::Linked { .. }) {
                self.touched.insert(code.clone());
            }
        }
        for (id, held) in &self.coupa {
            if let Some(coupa) = held
                .document
                .coupa
                .as_ref()
                .filter(|_| !self.linked.contains_key(id))
            {
                self.directory.note_coupa(coupa, None);
            }
        }
    }

    /// What the run does with what it has read: first it is rehearsed, which writes nothing; a plan that is too large waits.
    async fn carry_out(&mut self, plan: Loaded<PlanRecord>) -> Result<(), FlowError> {
        let linked = self.linked.len();
        let mut rehearsal = self.clone();
        rehearsal.mode = Mode::Tell;
        rehearsal.link().await?;
        rehearsal.align().await?;
        let identities: BTreeSet<&str> = rehearsal
            .planned
            .iter()
            .map(|one| one.identity.as_str())
            .collect();
        let hash = sha256_hex(&identities.into_iter().collect::<Vec<_>>().join("\u{1d}"));
        let counted: BTreeSet<&str> = rehearsal
            .planned
            .iter()
            .filter(|one| !one.known && !plan.document.allowed.contains(&one.digest()))
            .map(|one| one.supplier.as_str())
            .collect();
        let allowed = plan.document.allowed_plan.as_deref() == Some(hash.as_str());
        let too_large = too_many_changes(counted.len(), linked, &self.deps.policy.change_share)
            .filter(|_| !allowed && stands(Guard::ChangeShare));
        if self.mode == Mode::Tell || too_large.is_some() {
            self.synced.changes.clone_from(&rehearsal.synced.changes);
            self.synced.waits = too_large.is_some();
            self.synced.plan_sha256.clone_from(&hash);
        }
        if self.mode == Mode::Tell {
            self.synced.parked = rehearsal.parked();
            self.synced.needs_a_person = rehearsal.synced.needs_a_person;
            self.synced.needs_a_person.extend(too_large);
            return Ok(());
        }
        let Some(problem) = too_large else {
            self.act(plan, hash, &rehearsal.planned).await?;
            self.wake().await?;
            self.synced.parked = self.parked();
            return Ok(());
        };
        self.mode = Mode::Hold;
        // Whoever would be linked is nobody's question while the plan waits.
        self.would_link = rehearsal.linked.keys().copied().collect();
        self.finish_what_left().await?;
        self.link().await?;
        self.wake().await?;
        self.synced.parked = self.parked();
        self.synced.needs_a_person.push(problem.clone());
        let parking = Parking {
            problem,
            plan_sha256: hash,
            changes: self
                .synced
                .changes
                .iter()
                .take(CHANGES_TOLD_MAX)
                .cloned()
                .collect(),
            // What a person allowed was another plan.
            allowed: Some(BTreeSet::new()),
        };
        plans::park(&self.deps.context, plan, false, parking).await
    }

    /// Carries the plan out. What a person allowed is remembered change by change before the first of them begins: a run that
    /// comes to no end leaves the rest to the next one.
    async fn act(
        &mut self,
        mut plan: Loaded<PlanRecord>,
        hash: String,
        planned: &[Planned],
    ) -> Result<(), FlowError> {
        if plan.document.allowed_plan.as_deref() == Some(hash.as_str()) {
            let mark = Mark {
                hash,
                first_fill: false,
                digests: planned.iter().take(ALLOWED_MAX).map(Planned::digest).collect(),
                summary: format!("{} writes", planned.len()),
            };
            plan = plans::begin(&self.deps.context, plan, mark).await?;
        }
        self.link().await?;
        self.align().await?;
        if !self.synced.incomplete && self.synced.open == 0 {
            plans::settle(&self.deps.context, plan, false).await?;
        }
        Ok(())
    }

    /// First what QAD has, then what only Coupa has.
    async fn link(&mut self) -> Result<(), FlowError> {
        for code in self.touched.clone() {
            if self.is_out_of_time() {
                return Ok(());
            }
            let Some(held) = self.qad.get(&code).cloned() else {
                continue;
            };
            let unlinked = held.document.linked_coupa().is_none() && !held.document.is_open();
            // One that is being created from Coupa knows its Coupa side already.
            if !unlinked || held.document.coupa.is_some() || self.is_busy(&held) {
                continue;
            }
            let Some(qad) = held.document.qad.clone() else {
                continue;
            };
            if let Some(why) = self.deps.policy.filter.leaves_out(&qad) {
                self.rest(held, SupplierState::Alone { why }).await?;
                continue;
            }
            let accepted = held.document.accepted.as_ref();
            match link_qad(&qad, &self.directory, self.deps.policy, accepted) {
                QadLink::Link(id, by) => self.link_to(held, id, by).await?,
                QadLink::Create => self.create_in_coupa(held, &qad).await?,
                QadLink::Propose(problem, candidates) => self.propose(held, problem, candidates).await?,
                QadLink::Park(problem) => self.park(held, problem).await?,
            }
        }
        for id in self.coupa.keys().copied().collect::<Vec<_>>() {
            if self.is_out_of_time() {
                return Ok(());
            }
            let Some(held) = self.coupa.get(&id).cloned() else {
                continue;
            };
            let is_spoken_for = self.linked.contains_key(&id) || self.would_link.contains(&id);
            if is_spoken_for || self.is_busy(&held) || is_linked(&held) {
                continue;
            }
            let Some(coupa) = held.document.coupa.clone() else {
                continue;
            };
            match link_coupa(&coupa, &self.directory, self.deps.policy) {
                CoupaLink::Create(code) => self.create_in_qad(held, coupa, code).await?,
                CoupaLink::Wait(why) => {
                    self.rest(held, SupplierState::Alone { why: why.to_owned() })
                        .await?
                }
                CoupaLink::Propose(problem, candidates) => self.propose(held, problem, candidates).await?,
                CoupaLink::Park(problem) => self.park(held, problem).await?,
            }
        }
        Ok(())
    }

    /// True when there is no time for another step; the run is then told as incomplete, and the next one goes on.
    fn is_out_of_time(&mut self) -> bool {
        let over = self.mode != Mode::Tell && !self.deps.context.has_time_for_a_call();
        self.synced.incomplete |= over;
        over
    }

    fn is_busy(&self, held: &Held) -> bool {
        self.busy.contains(&held.document.id.to_string())
    }

    /// Links two suppliers in one transaction: the record of the Coupa side makes sure that it is linked once.
    async fn link_to(&mut self, mut held: Held, id: u64, by: LinkedBy) -> Result<(), FlowError> {
        let now = self.deps.context.clock.now();
        let Some(mut other) = self.coupa.get(&id).cloned() else {
            return Ok(());
        };
        let Some(code) = held.document.code().cloned() else {
            return Ok(());
        };
        held.document.coupa.clone_from(&other.document.coupa);
        held.document.state = SupplierState::Linked {
            coupa: Some(id),
            code: None,
            by,
        };
        held.document.since = now;
        held.document.accepted = None;
        held.document.effect = held.document.effect.filter(Effect::is_finished);
        other.document.state = SupplierState::Linked {
            coupa: None,
            code: Some(code.clone()),
            by,
        };
        other.document.since = now;
        other.document.coupa = None;
        if self.planned(format!("link {code} with Coupa {id} by {by:?}")) {
            if self.mode == Mode::Tell {
                self.adopt(held, id, &code);
            }
            return Ok(());
        }
        let pointer = put(&mut other)?;
        let events = vec![SupplierEvent::Linked {
            with: SupplierId::Coupa(id).to_string(),
            by,
        }];
        if let Some(held) = self.store(held, events, pointing(pointer)).await? {
            self.synced.linked = self.synced.linked.saturating_add(1);
            self.adopt(held, id, &code);
            other.revision = other.revision.saturating_add(1);
            self.coupa.insert(id, other);
        }
        Ok(())
    }

    fn adopt(&mut self, held: Held, id: u64, code: &SupplierCode) {
        if let Some(coupa) = &held.document.coupa {
            self.directory.note_coupa(coupa, Some(code));
        }
        self.linked.insert(id, code.folded());
        self.touched.insert(code.folded());
        self.qad.insert(code.folded(), held);
    }

    async fn create_in_coupa(&mut self, mut held: Held, qad: &QadSupplier) -> Result<(), FlowError> {
        if !self.deps.policy.create_in_coupa {
            return self
                .rest(
                    held,
                    SupplierState::Alone {
                        why: "creating suppliers in Coupa is off".into(),
                    },
                )
                .await;
        }
        if qad.data.get(SupplierField::Active) == Some("false") {
            return self
                .rest(
                    held,
                    SupplierState::Alone {
                        why: "inactive in QAD and not in Coupa".into(),
                    },
                )
                .await;
        }
        let data = in_coupa_words(qad.data.clone(), self.deps.policy);
        let write = SupplierWrite::CreateInCoupa {
            code: qad.code.clone(),
            data,
        };
        if !self.may_send(&held, &write) || self.planned_write(&held, &write) {
            return Ok(());
        }
        held.document.state = SupplierState::Creating;
        held.document.effect = Some(self.effect(&held, &write)?);
        // Stored when it is claimed; the engine's first look-up comes before that.
        self.qad.insert(qad.code.folded(), held);
        Ok(())
    }

    /// Reserves the code and remembers what is to be created, in one transaction.
    async fn create_in_qad(
        &mut self,
        mut other: Held,
        coupa: CoupaSupplier,
        code: SupplierCode,
    ) -> Result<(), FlowError> {
        let now = self.deps.context.clock.now();
        let data = coupa.comparable(self.deps.policy);
        let write = SupplierWrite::CreateInQad {
            code: code.clone(),
            id: coupa.id,
            data,
        };
        if self.planned_write(&other, &write) {
            // The next one of the plan gets another code, as it would if this one were created.
            self.directory
                .note_qad(&reserved(&code, &coupa, now), Some(coupa.id));
            return Ok(());
        }
        let mut held = self.qad.get(&code.folded()).cloned().unwrap_or_else(|| Loaded {
            document: SupplierRecord::new(SupplierId::Qad(code.clone()), now),
            revision: 0,
        });
        held.document.state = SupplierState::Creating;
        held.document.coupa = Some(coupa.clone());
        held.document.effect = Some(self.effect(&held, &write)?);
        let by = LinkedBy::Creation;
        other.document.state = SupplierState::Linked {
            coupa: None,
            code: Some(code.clone()),
            by,
        };
        other.document.since = now;
        let pointer = put(&mut other)?;
        let events = vec![SupplierEvent::Linked {
            with: SupplierId::Coupa(coupa.id).to_string(),
            by,
        }];
        if let Some(held) = self.store(held, events, pointing(pointer)).await? {
            self.directory
                .note_qad(&reserved(&code, &coupa, now), Some(coupa.id));
            self.adopt(held, coupa.id, &code);
        }
        Ok(())
    }

    fn effect(&self, held: &Held, write: &SupplierWrite) -> Result<Effect, FlowError> {
        // An update may be repeated, and still not before its lost predecessor can land no more: another value may follow.
        Ok(new_effect(
            write.key(),
            Repetition::OnlyAfterLookUp,
            render(write)?,
            self.deps.context.clock.now(),
            held.document.effect.as_ref(),
        ))
    }

    /// False while the same write was refused not long ago, unless something has changed that may lift the refusal.
    fn may_send(&mut self, held: &Held, write: &SupplierWrite) -> bool {
        let Some(effect) = &held.document.effect else {
            return true;
        };
        let refused = matches!(effect.status, EffectStatus::Rejected | EffectStatus::Parked);
        let again_at = sent_again_at(&held.document);
        let same = write_of(effect).is_ok_and(|before| before == *write);
        let lifted = self.fresh
            && effect
                .problem
                .as_ref()
                .is_some_and(|problem| problem.code == TAKEN);
        if refused && same && !lifted && self.deps.context.clock.now() < again_at {
            self.look_again_at(again_at);
            return false;
        }
        true
    }

    fn look_again_at(&mut self, instant: Timestamp) {
        self.look_again = Some(self.look_again.map_or(instant, |known| known.min(instant)));
    }

    /// True when this is only told, or must wait, and not done.
    fn planned(&mut self, sentence: String) -> bool {
        if self.mode == Mode::Tell {
            self.synced.changes.push(sentence);
        }
        self.mode != Mode::Act
    }

    /// A write that is only planned, and why; also the one that would follow it on the other side.
    fn planned_write(&mut self, held: &Held, write: &SupplierWrite) -> bool {
        if self.mode != Mode::Tell {
            return self.mode == Mode::Hold;
        }
        let mut after = held.document.clone();
        self.plan(&after, write);
        if let (SupplierWrite::UpdateInCoupa { code, data, .. }, Some(coupa)) = (write, &mut after.coupa) {
            coupa.number = Some(code.to_string());
            data.iter().for_each(|(field, text)| coupa.data.set(field, text));
            if let NextStep::Write(next @ SupplierWrite::UpdateInQad { .. }) =
                after.next_step(self.deps.policy)
            {
                self.plan(&after, &next);
            }
        }
        true
    }

    fn plan(&mut self, record: &SupplierRecord, write: &SupplierWrite) {
        self.synced
            .changes
            .push(format!("{}: {}", write.sentence(), reason(record, write)));
        let was_refused = |effect: &Effect| {
            let over = matches!(effect.status, EffectStatus::Rejected | EffectStatus::Parked);
            over && write_of(effect).is_ok_and(|before| before.identity() == write.identity())
        };
        self.planned.push(Planned {
            supplier: record.id.to_string(),
            identity: write.identity(),
            known: record.effect.as_ref().is_some_and(was_refused),
        });
    }

    /// Stores a record. `None` says that somebody else changed it, or what goes with it: the next run looks again.
    async fn store(
        &mut self,
        held: Held,
        events: Vec<SupplierEvent>,
        writes: Vec<RecordWrite>,
    ) -> Result<Option<Held>, FlowError> {
        let id = held.document.id.to_string();
        match save(
            &self.deps.context,
            held.revision,
            Change {
                document: held.document,
                events,
                writes,
            },
        )
        .await
        {
            Ok(saved) => {
                self.changed.remove(&id);
                Ok(Some(saved))
            }
            Err(CommitError::Conflict) => {
                self.somebody_else(id);
                Ok(None)
            }
            Err(CommitError::Store(error)) => Err(error.into()),
        }
    }

    fn somebody_else(&mut self, id: String) {
        self.busy.insert(id);
        self.synced.open = self.synced.open.saturating_add(1);
        self.look_again_at(self.deps.context.clock.now());
    }

    /// Stores where a supplier stands, when that is news.
    async fn rest(&mut self, held: Held, state: SupplierState) -> Result<(), FlowError> {
        let event = match &state {
            SupplierState::Alone { why } => SupplierEvent::Alone { why: why.clone() },
            _ => SupplierEvent::Unparked,
        };
        self.move_to(held, state, event).await.map(drop)
    }

    async fn park(&mut self, held: Held, problem: Problem) -> Result<(), FlowError> {
        self.propose(held, problem, Vec::new()).await
    }

    /// Parks it, with those on the other side that it may be.
    async fn propose(
        &mut self,
        held: Held,
        problem: Problem,
        candidates: Vec<Candidate>,
    ) -> Result<(), FlowError> {
        if self.mode == Mode::Tell {
            self.synced.needs_a_person.push(problem);
            return Ok(());
        }
        let by = match &held.document.state {
            SupplierState::Linked { by, .. } => Some(*by),
            SupplierState::Parked { by, .. } => *by,
            _ => None,
        };
        let coupa = held.document.linked_coupa();
        let state = SupplierState::Parked {
            problem: problem.clone(),
            coupa,
            by,
            candidates,
        };
        self.move_to(held, state, SupplierEvent::Parked { problem })
            .await
            .map(drop)
    }

    async fn move_to(
        &mut self,
        mut held: Held,
        state: SupplierState,
        event: SupplierEvent,
    ) -> Result<Option<Held>, FlowError> {
        if self.mode == Mode::Tell {
            return Ok(None);
        }
        let news = held.document.state != state;
        if news {
            held.document.state = state;
            held.document.since = self.deps.context.clock.now();
        } else if held.revision > 0 && !self.changed.contains(&held.document.id.to_string()) {
            return Ok(Some(held));
        }
        let stored = self
            .store(held, if news { vec![event] } else { vec![] }, vec![])
            .await?;
        if let Some(held) = &stored {
            if let (true, SupplierState::Parked { problem, .. }) = (news, &held.document.state) {
                self.synced.needs_a_person.push(problem.clone());
            }
            self.hold(held.clone());
        }
        Ok(stored)
    }

    /// Carries on with everything that is linked, or being created, and touched.
    async fn align(&mut self) -> Result<(), FlowError> {
        for code in self.touched.clone() {
            let Some(held) = self.qad.get(&code).cloned() else {
                continue;
            };
            let concerned = held.document.is_open()
                || held.document.linked_coupa().is_some()
                || held.document.coupa.is_some();
            if !concerned || self.is_busy(&held) {
                continue;
            }
            if self.is_out_of_time() {
                return Ok(());
            }
            self.settle(held).await?;
        }
        self.align_what_was_taken().await
    }

    /// Brings to its end what may have left for the other system, and begins nothing.
    async fn finish_what_left(&mut self) -> Result<(), FlowError> {
        let may_have_left = |held: &&Held| held.document.effect.as_ref().is_some_and(Effect::may_have_left);
        let left: Vec<Held> = self.qad.values().filter(may_have_left).cloned().collect();
        for held in left {
            if self.is_out_of_time() {
                return Ok(());
            }
            self.drive(held).await?;
        }
        Ok(())
    }

    /// A name that Coupa refused because another supplier had it may be free after that one's own change: tried again in the
    /// same run as long as anything else was written.
    async fn align_what_was_taken(&mut self) -> Result<(), FlowError> {
        let mut before = 0;
        while self.synced.written > before && !self.taken.is_empty() {
            before = self.synced.written;
            self.fresh = true;
            for code in std::mem::take(&mut self.taken) {
                if self.is_out_of_time() {
                    return Ok(());
                }
                let Some(held) = self.qad.get(&code).cloned() else {
                    continue;
                };
                if let (Some(qad), None) = (held.document.qad.clone(), &held.document.coupa) {
                    self.create_in_coupa(held, &qad).await?;
                }
                if let Some(held) = self.qad.get(&code).cloned() {
                    self.settle(held).await?;
                }
            }
        }
        Ok(())
    }

    async fn settle(&mut self, mut held: Held) -> Result<(), FlowError> {
        for _ in 0..WRITES_PER_SUPPLIER_MAX {
            if held.document.is_open() {
                if self.planned("finish a write that is under way".to_owned()) {
                    return Ok(());
                }
                match self.drive(held).await? {
                    Some(driven) => held = driven,
                    None => return Ok(()),
                }
            }
            if is_given_up(&held.document) {
                return self.release(held).await;
            }
            if held.document.qad.is_none() {
                return self.retry_creation(held).await;
            }
            match held.document.next_step(self.deps.policy) {
                NextStep::Settled => return self.unpark(held).await,
                NextStep::Agree(agreed) => {
                    if self.mode != Mode::Act {
                        return Ok(());
                    }
                    held.document.agreed = Some(agreed);
                    held.document.state = unparked(&held.document);
                    self.store(held, vec![], vec![]).await?;
                    return Ok(());
                }
                NextStep::Park(problem) => return self.park(held, problem).await,
                NextStep::Write(write) => {
                    if !self.may_send(&held, &write) || self.planned_write(&held, &write) {
                        return Ok(());
                    }
                    held.document.state = unparked(&held.document);
                    held.document.effect = Some(self.effect(&held, &write)?);
                }
            }
        }
        self.look_again_at(self.deps.context.clock.now());
        Ok(())
    }

    /// A supplier whose creation in QAD was refused: sent again when it is time, with what Coupa says now.
    async fn retry_creation(&mut self, mut held: Held) -> Result<(), FlowError> {
        let Some(coupa) = held.document.coupa.clone() else {
            return Ok(());
        };
        let Some(code) = held.document.code().cloned() else {
            return Ok(());
        };
        let data = coupa.comparable(self.deps.policy);
        let write = SupplierWrite::CreateInQad {
            code,
            id: coupa.id,
            data,
        };
        if !self.may_send(&held, &write) || self.planned_write(&held, &write) {
            return Ok(());
        }
        held.document.state = SupplierState::Creating;
        held.document.effect = Some(self.effect(&held, &write)?);
        self.look_again_at(self.deps.context.clock.now());
        self.drive(held).await.map(drop)
    }

    /// Takes a supplier of Coupa and the code it could not be created under apart again, in one transaction. The next run
    /// links both anew.
    async fn release(&mut self, mut held: Held) -> Result<(), FlowError> {
        let now = self.deps.context.clock.now();
        let Some(coupa) = held.document.coupa.take() else {
            return Ok(());
        };
        let Some(mut other) = self.coupa.get(&coupa.id).cloned() else {
            return Ok(());
        };
        if self.planned(format!("look at Coupa {} again", coupa.id)) {
            return Ok(());
        }
        let why = "its code was not to be had".to_owned();
        held.document.state = SupplierState::Alone { why: why.clone() };
        held.document.since = now;
        other.document.state = SupplierState::Alone { why: why.clone() };
        other.document.since = now;
        other.document.coupa = Some(coupa);
        let pointer = put(&mut other)?;
        self.store(held, vec![SupplierEvent::Alone { why }], pointer)
            .await?;
        self.look_again_at(now);
        Ok(())
    }

    async fn unpark(&mut self, held: Held) -> Result<(), FlowError> {
        let state = unparked(&held.document);
        if state == held.document.state {
            return Ok(());
        }
        self.move_to(held, state, SupplierEvent::Unparked).await.map(drop)
    }

    /// Drives a write. `None` says that nothing more can be done with this supplier in this run.
    async fn drive(&mut self, held: Held) -> Result<Option<Held>, FlowError> {
        let id = held.document.id.to_string();
        let target = Writing {
            deps: self.deps,
            sends_again: Stop::sends_again(self.synced.paused.as_ref()),
            confirmed: Mutex::new(false),
        };
        let driven = drive(&self.deps.context, held, &target).await?;
        if matches!(driven, Driven::Finished(_) | Driven::Later(_)) {
            self.changed.remove(&id);
        }
        match driven {
            Driven::Finished(held) => {
                let done = held
                    .document
                    .effect
                    .as_ref()
                    .is_some_and(|effect| effect.status == EffectStatus::Done);
                if *target.confirmed.lock().unwrap_or_else(PoisonError::into_inner) {
                    self.synced.written = self.synced.written.saturating_add(1);
                }
                self.hold(held.clone());
                if done {
                    return Ok(Some(held));
                }
                if is_given_up(&held.document) {
                    self.release(held).await?;
                    return Ok(None);
                }
                let again_at = sent_again_at(&held.document);
                self.look_again_at(again_at);
                let problem = held
                    .document
                    .effect
                    .as_ref()
                    .and_then(|effect| effect.problem.clone());
                if let (true, Some(code)) = (
                    problem.as_ref().is_some_and(|problem| problem.code == TAKEN),
                    held.document.code(),
                ) {
                    self.taken.insert(code.folded());
                }
                self.synced.needs_a_person.extend(problem);
                Ok(None)
            }
            Driven::Later(held) => {
                self.synced.open = self.synced.open.saturating_add(1);
                let effect = held.document.effect.as_ref();
                if effect.is_some_and(|effect| effect.status == EffectStatus::Unknown) {
                    self.synced.unknown = self.synced.unknown.saturating_add(1);
                }
                let due = held
                    .document
                    .effect
                    .as_ref()
                    .and_then(|effect| effect.due(self.deps.context.timing));
                self.look_again_at(due.unwrap_or_else(|| self.deps.context.clock.now()));
                Ok(None)
            }
            Driven::Busy => {
                self.somebody_else(id);
                Ok(None)
            }
            Driven::OutOfTime => {
                self.synced.incomplete = true;
                Ok(None)
            }
        }
    }

    /// Invoices that wait for a supplier which has its number now deserve a look. They are looked for after the numbers are
    /// written: an invoice that is registered later looks at its supplier once more by itself.
    async fn wake(&mut self) -> Result<(), FlowError> {
        let numbered: BTreeSet<u64> = self
            .qad
            .values()
            .filter_map(|held| Some((held.document.code()?, held.document.coupa.as_ref()?)))
            .filter(|(code, coupa)| coupa.is_numbered(code))
            .map(|(_, coupa)| coupa.id)
            .collect();
        if numbered.is_empty() || self.deps.plan_only {
            return Ok(());
        }
        let deps = supplier_event::Deps {
            connection: self.deps.connection,
            register: self.deps.context.register,
            queue: self.deps.queue,
            trace: self.deps.trace,
        };
        self.synced.woken = supplier_event::wake(&deps, |id| numbered.contains(&id)).await?;
        Ok(())
    }

    /// Stores what was read and not stored yet, many records at a time, so that the cursors can move although there was no
    /// time to act on it. False when somebody else changed one of them: then the cursors stay.
    async fn keep_what_was_read(&mut self) -> Result<bool, FlowError> {
        let mut puts = Vec::new();
        for held in self.qad.values().chain(self.coupa.values()) {
            if self.changed.contains(&held.document.id.to_string()) && !self.is_busy(held) {
                puts.push(put(&mut held.clone())?);
            }
        }
        for chunk in puts.chunks(KEPT_PER_COMMIT) {
            let commit = Commit {
                token: self.deps.context.chance.token(),
                writes: entries::added_together(chunk.concat()),
                audit: vec![],
            };
            match self.deps.context.register.commit(commit).await {
                Ok(()) => {}
                Err(CommitError::Conflict) => return Ok(false),
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// How many stand parked.
    fn parked(&self) -> u64 {
        let alone = self.coupa.iter().filter(|(id, _)| !self.linked.contains_key(id));
        let records = self.qad.values().chain(alone.map(|(_, held)| held));
        let parked = records.filter(|held| matches!(held.document.state, SupplierState::Parked { .. }));
        count(parked.count())
    }
}

/// When a refused write is sent again although it is the same.
fn sent_again_at(record: &SupplierRecord) -> Timestamp {
    let problem = record.effect.as_ref().and_then(|effect| effect.problem.as_ref());
    let wait = if problem.is_some_and(Problem::is_credential_refused) {
        CREDENTIAL_RETRY_MILLIS
    } else {
        REFUSED_RETRY_MILLIS
    };
    record.written_at.plus_millis(wait)
}

/// The record of the Coupa side, in the same transaction and under its own revision: a supplier is linked once.
fn pointing(pointer: Vec<RecordWrite>) -> Vec<RecordWrite> {
    if stands(Guard::LinkedOnce) {
        pointer
    } else {
        vec![]
    }
}

/// What QAD will show of a supplier of Coupa once it is created there.
fn reserved(code: &SupplierCode, coupa: &CoupaSupplier, now: Timestamp) -> QadSupplier {
    QadSupplier {
        code: code.clone(),
        data: coupa.data.clone(),
        kind: None,
        site: None,
        last_modified: now.date_utc(),
    }
}

/// The record as it is written beside another one, and what keeps the index with it.
fn put(held: &mut Held) -> Result<Vec<RecordWrite>, FlowError> {
    let mut writes = entries::follow_supplier(&mut held.document)?;
    writes.push(RecordWrite::Put {
        key: held.document.key(),
        seen: held.revision,
        body: render(&held.document)?,
        state: held.document.state.word().to_owned(),
        due: None,
    });
    Ok(writes)
}

/// True when the register knows something newer of a supplier than a reading that began then.
fn is_overtaken(record: &SupplierRecord, began: Timestamp, skew_millis: i64) -> bool {
    stands(Guard::OlderReadingSaysNothing) && record.is_newer_than(began, skew_millis)
}

/// True when a code that is reserved for a supplier of Coupa turns out to be another supplier's in QAD.
fn is_anothers(record: &SupplierRecord, row: &QadSupplier) -> bool {
    let reserved = record.qad.is_none()
        && record
            .effect
            .as_ref()
            .is_some_and(|effect| effect.status != EffectStatus::Done);
    let name = record.coupa.as_ref().map(|coupa| name_key(coupa.data.name()));
    reserved && name.is_some_and(|name| name != name_key(row.data.name()))
}

/// True when the code reserved for a supplier of Coupa is not to be had: somebody else has it in QAD, or the supplier was
/// given another number by hand while nothing of it was in QAD.
fn is_given_up(record: &SupplierRecord) -> bool {
    let (Some(effect), Some(coupa), Some(code)) = (&record.effect, &record.coupa, record.code()) else {
        return false;
    };
    let over = matches!(effect.status, EffectStatus::Rejected | EffectStatus::Parked);
    let creation = write_of(effect).is_ok_and(|write| matches!(write, SupplierWrite::CreateInQad { .. }));
    let taken = effect
        .problem
        .as_ref()
        .is_some_and(|problem| problem.code == CODE_TAKEN);
    let numbered_otherwise = record.qad.is_none() && coupa.number.is_some() && !coupa.is_numbered(code);
    over && creation && (taken || numbered_otherwise)
}

fn is_linked(held: &Held) -> bool {
    matches!(held.document.state, SupplierState::Linked { .. })
}

fn unparked(record: &SupplierRecord) -> SupplierState {
    match &record.state {
        SupplierState::Parked {
            coupa: Some(id), by, ..
        } => SupplierState::Linked {
            coupa: Some(*id),
            code: None,
            by: by.unwrap_or(LinkedBy::Number),
        },
        other => other.clone(),
    }
}

fn write_of(effect: &Effect) -> Result<SupplierWrite, Problem> {
    let altered = sha256_hex(&effect.request) != effect.request_sha256;
    match serde_json::from_str(&effect.request) {
        Ok(write) if !altered => Ok(write),
        _ => Err(Problem::new(
            "REQUEST_ALTERED",
            "Nothing was sent. Compare the record with its audit trail.",
        )
        .field("request")
        .expected(effect.request_sha256.clone())
        .actual(sha256_hex(&effect.request))),
    }
}

// ---------------------------------------------------------------------------------------------------------------
// The write
// ---------------------------------------------------------------------------------------------------------------

/// What a side shows of a supplier.
#[derive(Clone)]
enum Shown {
    Qad(QadSupplier),
    Coupa(CoupaSupplier),
}

struct Writing<'a, 'd> {
    deps: &'a Deps<'d>,
    /// Whether what is proven absent is sent again at once; while another installation may be at work it is decided anew.
    sends_again: bool,
    /// Set when a write was confirmed, or found to have happened.
    confirmed: Mutex<bool>,
}

type Stepped = Result<Change<SupplierRecord, SupplierEvent>, IllegalStep>;

fn advance_effect(context: &Context<'_>, record: &SupplierRecord, event: EffectEvent) -> Stepped {
    let effect = record.effect.as_ref().ok_or(IllegalStep::NoEffect)?;
    let write = write_of(effect).map_err(|_| IllegalStep::NoEffect)?;
    let timing = if write.is_to_coupa() {
        context.timing.toward_coupa()
    } else {
        *context.timing
    };
    let (document, told) = record.advance(&write, event, context.clock.now(), &timing)?;
    Ok(Change {
        document,
        events: vec![told],
        writes: vec![],
    })
}

fn end_parked(
    context: &Context<'_>,
    record: &SupplierRecord,
    event: EffectEvent,
    problem: Problem,
) -> Stepped {
    let mut change = advance_effect(context, record, event)?;
    let by = match &record.state {
        SupplierState::Linked { by, .. } => Some(*by),
        SupplierState::Parked { by, .. } => *by,
        SupplierState::Alone { .. } | SupplierState::Creating => None,
    };
    let coupa = record.linked_coupa();
    change.document.state = SupplierState::Parked {
        problem: problem.clone(),
        coupa,
        by,
        candidates: Vec::new(),
    };
    change.document.since = context.clock.now();
    change.events.push(SupplierEvent::Parked { problem });
    Ok(change)
}

#[async_trait]
impl Target<SupplierRecord> for Writing<'_, '_> {
    type Answer = Shown;
    type Event = SupplierEvent;

    fn manner(&self) -> Manner {
        Manner {
            anew_when_absent: !self.sends_again,
            ..Manner::default()
        }
    }

    fn absent(&self, context: &Context<'_>, record: &SupplierRecord) -> Stepped {
        let mut change = advance_effect(context, record, EffectEvent::ProvenAbsent)?;
        // Both sides are read before anything of it is sent again: a late one of these is not missed there.
        if let Some(effect) = &mut change.document.effect {
            effect.doubts.clear();
        }
        Ok(change)
    }

    fn effect<'r>(&self, record: &'r SupplierRecord) -> Option<&'r Effect> {
        record.effect.as_ref()
    }

    async fn send(&self, _: &SupplierRecord, effect: &Effect) -> Result<Shown, WriteError> {
        let key = &effect.idempotency_key;
        let (coupa, qad) = (self.deps.coupa, self.deps.qad);
        match write_of(effect).map_err(WriteError::Refused)? {
            SupplierWrite::CreateInCoupa { code, data } => {
                coupa.create_supplier(&code, &data, key).await.map(Shown::Coupa)
            }
            SupplierWrite::UpdateInCoupa { id, code, data } => coupa
                .update_supplier(id, &code, &data, key)
                .await
                .map(Shown::Coupa),
            SupplierWrite::CreateInQad { code, data, .. } => {
                qad.create_supplier(&code, &data, key).await.map(Shown::Qad)
            }
            SupplierWrite::UpdateInQad { code, data } => {
                qad.update_supplier(&code, &data, key).await.map(Shown::Qad)
            }
        }
    }

    async fn look_up(&self, _: &SupplierRecord, effect: &Effect) -> Result<Vec<Shown>, ReadError> {
        match write_of(effect).map_err(ReadError::Refused)? {
            SupplierWrite::CreateInCoupa { code, .. } => {
                let found = self.deps.coupa.suppliers_numbered(&code).await?;
                Ok(found.into_iter().map(Shown::Coupa).collect())
            }
            SupplierWrite::CreateInQad { code, .. } => {
                let found = self.deps.qad.supplier(&code).await?;
                Ok(found.into_iter().map(Shown::Qad).collect())
            }
            // May be repeated once its predecessor can land no more: there is nothing to find out.
            SupplierWrite::UpdateInCoupa { .. } | SupplierWrite::UpdateInQad { .. } => Ok(Vec::new()),
        }
    }

    fn judge(&self, _: &SupplierRecord, effect: &Effect, mut shown: Vec<Shown>) -> Finding<Shown> {
        let write = match write_of(effect) {
            Ok(write) => write,
            Err(problem) => return Finding::Unclear(problem),
        };
        let Some(one) = shown.pop() else {
            return Finding::Nothing;
        };
        let problem = |code: &str, fix: &str, expected: String, actual: String| {
            Problem::new(code, fix)
                .field(write.key())
                .expected(expected)
                .actual(actual)
        };
        if !shown.is_empty() {
            let fix = "Leave the number on one of them in Coupa.";
            let problem = problem(
                "SUPPLIER_NUMBER_TWICE",
                fix,
                "one supplier with this number".into(),
                "several".into(),
            );
            return Finding::Park {
                problem,
                answer: None,
            };
        }
        let meant = match (&write, &one) {
            (SupplierWrite::CreateInCoupa { code, .. }, Shown::Coupa(supplier)) => supplier.is_numbered(code),
            (SupplierWrite::UpdateInCoupa { id, .. }, Shown::Coupa(supplier)) => supplier.id == *id,
            (
                SupplierWrite::CreateInQad { code, .. } | SupplierWrite::UpdateInQad { code, .. },
                Shown::Qad(supplier),
            ) => supplier.code == *code,
            _ => false,
        };
        if !meant {
            let fix = "Nothing to do: it is looked at again with the next run.";
            return Finding::Unclear(problem(
                "SUPPLIER_ANSWER_ABOUT_ANOTHER",
                fix,
                write.sentence(),
                "another supplier".into(),
            ));
        }
        if let (SupplierWrite::CreateInQad { data, .. }, Shown::Qad(supplier)) = (&write, &one)
            && name_key(supplier.data.name()) != name_key(data.name())
            && stands(Guard::CodeIsOurs)
        {
            let fix = "Give the supplier in Coupa its number by hand, or change suppliers.numbering.";
            let actual = format!("{} \"{}\"", supplier.code, supplier.data.name());
            let problem = problem(CODE_TAKEN, fix, format!("a code for \"{}\"", data.name()), actual);
            return Finding::Park {
                problem,
                answer: Some(one),
            };
        }
        if let (SupplierWrite::CreateInCoupa { code, data }, Shown::Coupa(supplier)) = (&write, &one)
            && let Some(problem) = adoption_replaces(code, data, supplier, self.deps.policy)
        {
            // The next run reads it as what it is, and proposes it.
            return Finding::Park {
                problem,
                answer: None,
            };
        }
        Finding::There {
            answer: one,
            adopted: effect.attempts == 0,
        }
    }

    fn step(&self, context: &Context<'_>, record: &SupplierRecord, event: EffectEvent) -> Stepped {
        advance_effect(context, record, event)
    }

    fn there(&self, context: &Context<'_>, record: &SupplierRecord, shown: &Shown, proof: Proof) -> Stepped {
        let write = record
            .effect
            .as_ref()
            .and_then(|effect| write_of(effect).ok())
            .ok_or(IllegalStep::NoEffect)?;
        let mut change = advance_effect(context, record, EffectEvent::Confirmed)?;
        let document = &mut change.document;
        match shown {
            Shown::Qad(supplier) => document.qad = Some(supplier.clone()),
            Shown::Coupa(supplier) => document.coupa = Some(supplier.clone()),
        }
        if write.creates() {
            let by = if proof == Proof::Adopted {
                LinkedBy::Number
            } else {
                LinkedBy::Creation
            };
            let coupa = document.coupa.as_ref().map(|coupa| coupa.id);
            document.state = SupplierState::Linked {
                coupa,
                code: None,
                by,
            };
            document.since = context.clock.now();
            let with = coupa
                .map(|id| SupplierId::Coupa(id).to_string())
                .unwrap_or_default();
            change.events.push(SupplierEvent::Linked { with, by });
        }
        // What was only found may differ from what we would have sent: then nothing is agreed yet.
        if (!write.creates() || proof == Proof::Confirmed) && stands(Guard::OwnEcho) {
            change.document.agreed = change.document.agreed_after(&write, self.deps.policy);
        }
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        Ok(change)
    }

    fn refused(&self, context: &Context<'_>, record: &SupplierRecord, problem: Problem) -> Stepped {
        let event = EffectEvent::Refused {
            problem: problem.clone(),
        };
        end_parked(context, record, event, problem)
    }

    fn parked(
        &self,
        context: &Context<'_>,
        record: &SupplierRecord,
        problem: Problem,
        shown: Option<&Shown>,
    ) -> Stepped {
        let event = EffectEvent::Parked {
            problem: problem.clone(),
        };
        let mut change = end_parked(context, record, event, problem)?;
        if let Some(Shown::Qad(supplier)) = shown {
            change.document.qad = Some(supplier.clone());
        }
        Ok(change)
    }
}

#[cfg(test)]
mod tests;
