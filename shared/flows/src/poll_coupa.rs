//! Finds approved and voided invoices that the webhooks missed.
//!
//! Pages through what Coupa has not exported, by id and never by offset (marking exported would shift the pages), and
//! queues what is news to the register. What waits unchanged costs its place in the list and nothing else. A list that is
//! longer than a run has time for is read on by the next one, however long it is.

use crate::hinted::Hinted;
use crate::match_invoice::INVOICE_NOT_FOUND;
use crate::ports::{
    Chance, Coupa, Hint, HintReason, InvoiceHead, InvoicePage, Queue, ReadError, RecordKey, Register,
    StoreError, Subject,
};
use crate::store::{FlowError, parse};
use crate::watermark::{self, Stored, count};
use domain::documents::CoupaStatus;
use domain::entities::OUT_OF_SCOPE;
use domain::ids::{ConnectionId, InvoiceId};
use domain::lifecycle::{InvoiceRecord, State};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use serde::{Deserialize, Serialize};

/// After so many pages (of 50 invoices each) a run remembers its place, so that one that is cut off has come further.
const PAGES_PER_PLACE: u32 = 100;
/// The watermark's name; a part of the list has a scope behind it.
const WATERMARK: &str = "coupa";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Whose invoices.
    pub connection: &'a ConnectionId,
    /// Coupa: list invoices.
    pub coupa: &'a dyn Coupa,
    /// Which part of the list `coupa` shows, when it does not show all: the place is kept by part. Empty for all.
    pub scope: &'a str,
    /// Register: read, and the place of a run that was too long.
    pub register: &'a dyn Register,
    /// Tokens of commits.
    pub chance: &'a dyn Chance,
    /// The queue of hints.
    pub queue: &'a dyn Queue,
    /// What this instance has queued lately.
    pub hinted: &'a Hinted,
    /// The times a message has.
    pub timing: &'a Timing,
    /// What time it is.
    pub clock: &'a dyn crate::ports::Clock,
    /// No page is begun after this instant.
    pub deadline: Timestamp,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// What a run saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Polled {
    /// Invoices read.
    pub read: u64,
    /// Invoices queued.
    pub queued: u64,
    /// Records on the list that could not be read; each is named in the log.
    pub unreadable: Vec<Problem>,
    /// True when the list was longer than the time allowed; the next run goes on.
    pub incomplete: bool,
}

/// Where the next run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// After this invoice; `None` for the beginning.
    after: Option<InvoiceId>,
}

/// Why a run ended early. Nothing is lost: the list is read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PollError {
    /// The other system gave no answer.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Our side gave no answer.
    #[error(transparent)]
    Flow(#[from] FlowError),
}

impl From<StoreError> for PollError {
    fn from(error: StoreError) -> Self {
        Self::Flow(error.into())
    }
}

impl PollError {
    /// The error in the shape every error has.
    pub fn problem(&self) -> Problem {
        match self {
            Self::Read(error) => error.problem().clone(),
            Self::Flow(error) => error.problem(),
        }
    }
}

/// Reads the list from its beginning, or from where the run before was out of time.
///
/// # Errors
/// Coupa, the register or the queue gave no answer, or Coupa's list does not advance.
pub async fn run(deps: &Deps<'_>) -> Result<Polled, PollError> {
    let name = match deps.scope {
        "" => WATERMARK.to_owned(),
        scope => format!("{WATERMARK}/{scope}"),
    };
    let mut stored = watermark::load::<Place>(deps.register, &name).await?;
    let mut polled = Polled::default();
    let mut after = stored.watermark.as_ref().and_then(|place| place.after);
    let mut pages = 0_u32;
    loop {
        if deps.clock.now() > deps.deadline {
            polled.incomplete = true;
            remember(deps, &mut stored, after).await?;
            return Ok(polled);
        }
        let page = deps.coupa.exportable_invoices(after).await?;
        let (last, more) = (page.last, page.more);
        take(deps, page, &mut polled).await?;
        after = next_page(after, last, more).map_err(ReadError::Unreadable)?;
        if after.is_none() {
            remember(deps, &mut stored, None).await?;
            return Ok(polled);
        }
        pages = pages.saturating_add(1);
        if pages.is_multiple_of(PAGES_PER_PLACE) {
            remember(deps, &mut stored, after).await?;
        }
    }
}

/// Queues what is news on a page.
async fn take(deps: &Deps<'_>, page: InvoicePage, polled: &mut Polled) -> Result<(), PollError> {
    polled.read = polled.read.saturating_add(count(page.heads.len()));
    // A record whose id could be read is handed to the flow that parks it; one without id can only be reported.
    let unreadable = page.unreadable.iter().filter_map(|(id, _)| *id);
    let mut news: Vec<(InvoiceId, i64)> = unreadable.map(|id| (id, 0)).collect();
    polled
        .unreadable
        .extend(page.unreadable.into_iter().map(|(_, problem)| problem));
    news.extend(news_of(deps, &page.heads).await?);
    let now = deps.clock.now();
    news.retain(|(id, version)| {
        let key = RecordKey::Invoice(*id);
        deps.hinted
            .take(deps.connection, &key, *version, now, deps.timing)
    });
    let hints: Vec<Hint> = news.into_iter().map(|(id, _)| hint(deps, id)).collect();
    if !hints.is_empty()
        && let Err(error) = deps.queue.send(&hints).await
    {
        deps.hinted.forget(deps.connection);
        return Err(error.into());
    }
    polled.queued = polled.queued.saturating_add(count(hints.len()));
    Ok(())
}

/// Keeps where the next run goes on, after everything before it is queued. When another run was faster, its place stands:
/// at worst a part of the list is read twice.
async fn remember(
    deps: &Deps<'_>,
    stored: &mut Stored<Place>,
    after: Option<InvoiceId>,
) -> Result<(), FlowError> {
    let before = stored.watermark.as_ref().and_then(|place| place.after);
    if before == after {
        return Ok(());
    }
    let place = Place { after };
    watermark::advance(deps.register, deps.chance, &stored.key, stored.revision, &place).await?;
    stored.revision = stored.revision.saturating_add(1);
    stored.watermark = Some(place);
    Ok(())
}

/// After which invoice the list goes on, of which a page ends with `last`; `None` at its end.
///
/// # Errors
/// The page says that there is more, and does not advance: that is not the end of the list.
pub fn next_page(
    after: Option<InvoiceId>,
    last: Option<InvoiceId>,
    more: bool,
) -> Result<Option<InvoiceId>, Problem> {
    match last {
        _ if !more => Ok(None),
        Some(last) if after.is_none_or(|before| last > before) => Ok(Some(last)),
        _ => Err(does_not_advance(after, last)),
    }
}

fn does_not_advance(after: Option<InvoiceId>, last: Option<InvoiceId>) -> Problem {
    Problem::new(
        "COUPA_PAGE_DOES_NOT_ADVANCE",
        "Check that Coupa honours id[gt] and order_by.",
    )
    .field("id")
    .expected(format!("more than {}", after.map_or(0, |id| id.0)))
    .actual(last.map_or_else(|| "none".to_owned(), |last| last.to_string()))
}

fn hint(deps: &Deps<'_>, id: InvoiceId) -> Hint {
    Hint::V1 {
        connection: deps.connection.clone(),
        subject: Subject::Invoice(id),
        reason: HintReason::Poll,
        trace: deps.trace.to_owned(),
    }
}

/// What of a page is news, each with as of when Coupa lists it.
async fn news_of(deps: &Deps<'_>, heads: &[InvoiceHead]) -> Result<Vec<(InvoiceId, i64)>, FlowError> {
    if heads.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<RecordKey> = heads.iter().map(|head| RecordKey::Invoice(head.id)).collect();
    let found = deps.register.read(&keys).await?;
    let mut news = Vec::new();
    for (head, stored) in heads.iter().zip(found) {
        let known = stored.as_ref().map(parse::<InvoiceRecord>).transpose()?;
        if is_news(head, known.as_ref()) {
            news.push((head.id, head.updated_at.0));
        }
    }
    Ok(news)
}

/// Whether the register must hear of what the list says. Pure.
fn is_news(head: &InvoiceHead, known: Option<&InvoiceRecord>) -> bool {
    let Some(record) = known else {
        // Another ERP's, and never heard of: not even read.
        return !head.out_of_scope;
    };
    let read_at = record.source.as_ref().map(|source| source.updated_at);
    match (&record.state, &head.status) {
        // On its way: its own due time brings it back.
        (State::Approved | State::Posted { .. } | State::Voided { exported: false }, _) => false,
        // Listed although it was marked: somebody reset the flag, or voided it.
        (State::Exported { .. }, _) => record
            .export
            .as_ref()
            .is_none_or(domain::effect::Effect::is_finished),
        (State::Received { .. }, _) => record.look_again.is_none() || read_at != Some(head.updated_at),
        (_, CoupaStatus::Other(_)) => false,
        // A person took it out, whatever becomes of it in Coupa.
        (state, _) if state.is_skipped() => false,
        // Left to another ERP, and now somebody's: coded anew, or the connection has got another entity.
        (State::Rejected { problem }, _) if problem.code == OUT_OF_SCOPE => !head.out_of_scope,
        // The list shows what could not be read: a right that was missing for a while, or a copy that lagged behind.
        (State::Rejected { problem }, _) if problem.code == INVOICE_NOT_FOUND => true,
        // Not readable: it has its own slow recheck, and is not asked for at every poll until Coupa has changed it.
        (State::Parked { .. }, _) => {
            head.updated_at > read_at.max(record.asked_in_vain).unwrap_or(record.since)
        }
        _ => read_at.is_none_or(|read_at| head.updated_at > read_at),
    }
}

#[cfg(test)]
pub(crate) mod tests;
