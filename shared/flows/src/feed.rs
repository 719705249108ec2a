//! The one way to follow another system's list whose only cursor is a day: a window of days is read page by page, and what
//! is known is recognised, so that the window may hold a million rows and an idle pass costs one read of the register.
//!
//! Known rows are remembered as marks of groups: a small window has one row in a group, a large one up to some thousand,
//! so that the marks always fit one small item. Where a group ends depends on the rows alone, so a row that comes in
//! between changes the mark of its own group only. A group whose mark is not known is taken again row by row, which must
//! be harmless. Each page is taken before the next one is read, and a pass that runs out of time goes on where it was.
//! The cursor moves last: when the whole window has been taken.

use crate::poll_coupa::PollError;
use crate::ports::{Chance, Clock, ReadError, Register};
use crate::store::FlowError;
use crate::watermark::{self, count, days_before};
use async_trait::async_trait;
use domain::guards::{Guard, stands};
use domain::problem::Problem;
use domain::time::{Date, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most groups that are remembered: their marks stay below 16 KB, which is four read units.
pub const GROUPS_MAX: usize = 800;
/// By how many levels groups may be larger than they must be: levels change seldom, for a change costs one look at every
/// row of the window.
const COARSER_MAX: u32 = 2;
/// Most pages of one pass; a longer list is an error, for it does not end.
pub const PAGES_MAX: u32 = 100_000;
/// Most rows that wait in memory for the end of their group; more are taken at once.
const OPEN_ROWS_MAX: usize = 20_000;
/// Most unreadable rows that one run names; the others are counted.
const NAMED_UNREADABLE_MAX: usize = 200;

/// One page of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<R> {
    /// What could be read.
    pub rows: Vec<R>,
    /// What could not, and why.
    pub unreadable: Vec<Problem>,
    /// True when another page follows.
    pub more: bool,
}

/// A list that is followed, and what becomes of its rows.
#[async_trait]
pub trait Source: Send + Sync {
    /// One row.
    type Row: Send + Sync;

    /// What makes a row the same row, as a number (see [`watermark::mark`]).
    fn mark(&self, row: &Self::Row) -> u64;
    /// The day by which the list is asked.
    fn day(&self, row: &Self::Row) -> Date;
    /// Reads one page (from 1) of the rows of `since` or later. The order must not depend on when it is asked.
    async fn page(&self, since: Date, page: u32) -> Result<Page<Self::Row>, ReadError>;
    /// Records rows and wakes whoever waits for them. Taking a row again changes nothing.
    async fn take(&self, rows: &[Self::Row]) -> Result<Taken, FlowError>;
}

/// What became of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    /// Rows that were new or different.
    pub new: u64,
    /// Records woken.
    pub woken: u64,
}

/// What a feed needs.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Where the watermark is.
    pub register: &'a dyn Register,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// Tokens of commits.
    pub chance: &'a dyn Chance,
    /// No page is begun after this instant.
    pub deadline: Timestamp,
    /// The watermark's name.
    pub name: &'a str,
    /// Days that are read again each time.
    pub overlap_days: i64,
}

/// How far a feed has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Latest day seen, never in the future.
    cursor: Date,
    /// Marks of the groups that are safely taken, sorted.
    digests: BTreeSet<String>,
    /// How large the groups are; 0 is one row each (see [`level_of`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    level: u32,
    /// A pass over the window that has not ended yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pass: Option<Pass>,
}

fn is_zero(level: &u32) -> bool {
    *level == 0
}

/// How far a pass has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pass {
    /// From which day on it reads.
    since: Date,
    /// The page that is read next.
    page: u32,
    /// How many rows it has read.
    rows: u64,
    /// Latest day it has seen, never in the future.
    latest: Option<Date>,
    /// What it has taken.
    marks: Marks,
}

/// What a run saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Followed {
    /// Rows read.
    pub read: u64,
    /// Rows that were new or different.
    pub new: u64,
    /// Records woken.
    pub woken: u64,
    /// Rows that could not be read, named; at most [`NAMED_UNREADABLE_MAX`] of them.
    pub unreadable: Vec<Problem>,
    /// Rows that could not be read, beyond those that are named.
    pub unreadable_others: u64,
    /// Latest day known after a whole pass.
    pub cursor: Option<Date>,
    /// True when the pass goes on in the next run.
    pub incomplete: bool,
    /// True when a later run took over; it reads the same.
    pub overtaken: bool,
}

impl Watermark {
    /// Latest day seen, never in the future.
    pub fn cursor(&self) -> Date {
        self.cursor
    }

    /// True when the group with this mark is safely taken already.
    pub fn knows(&self, mark: u64) -> bool {
        let text = watermark::text_of(mark);
        self.digests.contains(&text) || self.pass.as_ref().is_some_and(|pass| pass.marks.knows(mark))
    }

    /// The watermark after a whole window was taken: never behind the one before.
    pub(crate) fn after(before: Option<&Self>, latest: Option<Date>, marks: &Marks, today: Date) -> Self {
        let known = before.map(|watermark| watermark.cursor);
        let cursor = known.into_iter().chain(latest).max().unwrap_or(today).min(today);
        Self {
            cursor,
            digests: marks.texts(),
            level: marks.level,
            pass: None,
        }
    }
}

/// How large a group is that may end at this row: each level ends at half of the rows of the one below, so that a
/// larger group is a whole number of smaller ones.
fn level_of(mark: u64) -> u32 {
    mark.trailing_zeros()
}

/// The marks of groups in the order of their rows, made coarser when they become too many.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// The smallest level at which a group ends.
    level: u32,
    /// The sum of the marks of a group's rows, and the level of its end.
    groups: Vec<(u64, u32)>,
}

impl Marks {
    fn of_level(level: u32) -> Self {
        Self {
            level,
            groups: Vec::new(),
        }
    }

    /// Of a window that has become much smaller the groups become smaller too. Nothing of it is known then, once.
    fn forget_if_too_coarse(&mut self, rows: u64) {
        let fitting = (0..u64::BITS)
            .find(|level| rows.checked_shr(*level).unwrap_or(0) < count(GROUPS_MAX))
            .unwrap_or(0);
        if self.level > fitting.saturating_add(COARSER_MAX) {
            *self = Self::of_level(fitting);
        }
    }

    pub(crate) fn push(&mut self, mark: u64, end: u32) {
        match self.groups.last_mut() {
            Some(last) if last.1 < self.level => *last = (last.0.wrapping_add(mark), end),
            _ => self.groups.push((mark, end)),
        }
        while self.groups.len() > GROUPS_MAX {
            self.level = self.level.saturating_add(1);
            for (mark, end) in std::mem::take(&mut self.groups) {
                match self.groups.last_mut() {
                    Some(last) if last.1 < self.level => *last = (last.0.wrapping_add(mark), end),
                    _ => self.groups.push((mark, end)),
                }
            }
        }
    }

    fn knows(&self, mark: u64) -> bool {
        self.groups.iter().any(|group| group.0 == mark)
    }

    fn texts(&self) -> BTreeSet<String> {
        self.groups
            .iter()
            .map(|group| watermark::text_of(group.0))
            .collect()
    }
}

/// A pass in work.
struct Run<'a, S: Source> {
    deps: &'a Deps<'a>,
    source: &'a S,
    stored: watermark::Stored<Watermark>,
    pass: Pass,
    /// The sum of the group that is being read, and those of its rows that are not taken yet.
    open: (u64, Vec<S::Row>),
    /// Rows of groups that are not known.
    fresh: Vec<S::Row>,
    followed: Followed,
}

/// Follows the list: one whole pass over the window, or as much of it as there is time for.
///
/// # Errors
/// The other system or the register gave no answer. What was taken before stays taken, and the next run goes on.
pub async fn run<S: Source>(deps: &Deps<'_>, source: &S) -> Result<Followed, PollError> {
    let stored = watermark::load::<Watermark>(deps.register, deps.name).await?;
    let today = deps.clock.now().date_utc();
    let cursor = stored
        .watermark
        .as_ref()
        .map_or(today, |watermark| watermark.cursor.min(today));
    let pass = match stored.watermark.as_ref().and_then(|known| known.pass.clone()) {
        // The page before is read again: rows may have moved to it since.
        Some(pass) => Pass {
            page: pass.page.saturating_sub(1).max(1),
            ..pass
        },
        None => Pass {
            since: days_before(cursor, deps.overlap_days),
            page: 1,
            rows: 0,
            latest: None,
            marks: Marks::of_level(stored.watermark.as_ref().map_or(0, |known| known.level)),
        },
    };
    let mut run = Run {
        deps,
        source,
        stored,
        pass,
        open: (0, Vec::new()),
        fresh: Vec::new(),
        followed: Followed::default(),
    };
    run.pages(today).await?;
    Ok(run.followed)
}

impl<S: Source> Run<'_, S> {
    async fn pages(&mut self, today: Date) -> Result<(), PollError> {
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        while self.deps.clock.now() <= self.deps.deadline {
            let number = self.pass.page;
            let page = self.source.page(self.pass.since, number).await?;
            let marks: Vec<u64> = page.rows.iter().map(|row| self.source.mark(row)).collect();
            let sum = marks
                .iter()
                .fold(0_u64, |sum, mark| sum.wrapping_mul(31).wrapping_add(*mark));
            if number >= PAGES_MAX || (page.more && !marks.is_empty() && !seen.insert(sum)) {
                return Err(PollError::Read(ReadError::Unreadable(endless(number))));
            }
            self.read(page.rows, &marks, today);
            self.name_unreadable(page.unreadable);
            if !page.more {
                self.close(u32::MAX);
                self.pass.marks.forget_if_too_coarse(self.pass.rows);
                let after = Watermark::after(
                    self.stored.watermark.as_ref(),
                    self.pass.latest,
                    &self.pass.marks,
                    today,
                );
                self.followed.cursor = Some(after.cursor);
                return self.take_then_advance(after).await;
            }
            self.pass.page = number.saturating_add(1);
            if !self.fresh.is_empty() {
                let so_far = self.so_far();
                self.take_then_advance(so_far).await?;
            }
            if self.followed.overtaken {
                return Ok(());
            }
        }
        self.close(u32::MAX);
        self.followed.incomplete = true;
        let so_far = self.so_far();
        self.take_then_advance(so_far).await
    }

    /// Sorts the rows of one page into groups; those of unknown groups are to be taken.
    fn read(&mut self, rows: Vec<S::Row>, marks: &[u64], today: Date) {
        self.followed.read = self.followed.read.saturating_add(count(rows.len()));
        self.pass.rows = self.pass.rows.saturating_add(count(rows.len()));
        let level = self.stored.watermark.as_ref().map_or(0, |known| known.level);
        for (row, mark) in rows.into_iter().zip(marks) {
            let day = self.source.day(&row);
            if day <= today {
                self.pass.latest = self.pass.latest.max(Some(day));
            }
            self.open.0 = self.open.0.wrapping_add(*mark);
            self.open.1.push(row);
            if level_of(*mark) >= level {
                self.close(level_of(*mark));
            } else if self.open.1.len() >= OPEN_ROWS_MAX {
                self.fresh.append(&mut self.open.1);
            }
        }
    }

    /// Ends the group that is being read.
    fn close(&mut self, end: u32) {
        let (sum, mut rows) = std::mem::take(&mut self.open);
        if sum == 0 && rows.is_empty() {
            return;
        }
        let known = self.stored.watermark.as_ref();
        if !known.is_some_and(|known| known.knows(sum)) {
            self.fresh.append(&mut rows);
        }
        self.pass.marks.push(sum, end);
    }

    fn name_unreadable(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            if self.followed.unreadable.len() < NAMED_UNREADABLE_MAX {
                self.followed.unreadable.push(problem);
            } else {
                self.followed.unreadable_others = self.followed.unreadable_others.saturating_add(1);
            }
        }
    }

    /// The pass as it stands after this page. Before the first pass has ended, the window reaches back to its beginning.
    fn so_far(&self) -> Watermark {
        let known = self.stored.watermark.clone().unwrap_or_else(|| Watermark {
            cursor: self.pass.since,
            digests: BTreeSet::new(),
            level: 0,
            pass: None,
        });
        Watermark {
            pass: Some(self.pass.clone()),
            ..known
        }
    }

    /// The one place where a watermark moves: after everything before it is safely taken. An overlapping run that was
    /// faster has seen the same window or a later one; ours is then read again in the next cycle, which loses nothing.
    async fn take_then_advance(&mut self, after: Watermark) -> Result<(), PollError> {
        let fresh = std::mem::take(&mut self.fresh);
        if stands(Guard::WatermarkLast) {
            self.take(&fresh).await?;
            self.advance(after).await
        } else {
            self.advance(after).await?;
            self.take(&fresh).await
        }
    }

    async fn take(&mut self, fresh: &[S::Row]) -> Result<(), PollError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let taken = self.source.take(fresh).await?;
        self.followed.new = self.followed.new.saturating_add(taken.new);
        self.followed.woken = self.followed.woken.saturating_add(taken.woken);
        Ok(())
    }

    async fn advance(&mut self, after: Watermark) -> Result<(), PollError> {
        if self.stored.watermark.as_ref() == Some(&after) {
            return Ok(());
        }
        let moved = watermark::advance(
            self.deps.register,
            self.deps.chance,
            &self.stored.key,
            self.stored.revision,
            &after,
        )
        .await?;
        self.followed.overtaken = !moved;
        self.stored.revision = self.stored.revision.saturating_add(1);
        self.stored.watermark = Some(after);
        Ok(())
    }
}

fn endless(page: u32) -> Problem {
    let fix = "Find out why QAD shows a page twice or never ends; what was read before is taken.";
    Problem::new("QAD_LISTING_BROKEN", fix)
        .field("page")
        .expected(format!(
            "a listing that ends within {PAGES_MAX} pages, each page once"
        ))
        .actual(page.to_string())
}

#[cfg(test)]
pub(crate) mod tests;
