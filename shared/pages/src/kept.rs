//! What pages keep between two requests: figures of days gone by, and counts that a page shows beside what it is about. They may
//! be some minutes old. Nothing is kept while the index is being taken in: its figures grow by the minute.

use crate::{Problems, Visit};
use domain::ids::ConnectionId;
use domain::time::{Date, Timestamp};
use flows::index::entries::{self, Counted};
use flows::index::{self, Entered, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// How long it is kept, in milliseconds: ten minutes.
pub(crate) const KEPT_MILLIS: i64 = 600_000;

/// What the pictures of Today are drawn from.
pub(crate) struct Days {
    pub(crate) at: Timestamp,
    pub(crate) days: Vec<Date>,
    /// What stood where at that moment.
    pub(crate) standing: Standing,
    pub(crate) entered: Entered,
    /// Since which days those wait that do.
    pub(crate) began: Entered,
}

#[derive(Default)]
struct Of {
    days: Option<Arc<Days>>,
    counted: Option<(Timestamp, Counted)>,
}

/// Of each connection.
#[derive(Default)]
pub struct Kept(Mutex<BTreeMap<ConnectionId, Of>>);

fn is_kept(at: Timestamp, now: Timestamp) -> bool {
    (0..KEPT_MILLIS).contains(&now.millis_since(at))
}

impl Kept {
    fn with<T>(&self, id: &ConnectionId, look: impl FnOnce(&mut Of) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        look(all.entry(id.clone()).or_default())
    }

    /// What stands where now, and the days, in one read: of the days that are kept, only what stands now is read.
    pub(crate) async fn days(
        &self,
        visit: &Visit,
        days: Vec<Date>,
        whole: bool,
    ) -> Result<(Standing, Arc<Days>), Problems> {
        let books = &*visit.books;
        let kept = self.with(&visit.id, |of| of.days.clone());
        if let Some(kept) = kept.filter(|kept| whole && is_kept(kept.at, visit.now) && kept.days == days) {
            let (standing, _) = index::figures(books, &[]).await?;
            return Ok((standing, kept));
        }
        let mut months: Vec<String> = days.iter().map(|day| day.strftime("%Y-%m").to_string()).collect();
        months.dedup();
        let (standing, entered, began) = index::figures_since(books, &months, &months).await?;
        let new = Arc::new(Days {
            at: visit.now,
            days,
            standing: standing.clone(),
            entered,
            began,
        });
        self.with(&visit.id, |of| of.days = whole.then(|| Arc::clone(&new)));
        Ok((standing, new))
    }

    /// How many suppliers and bills wait for a person.
    pub(crate) async fn counted(&self, visit: &Visit, whole: bool) -> Result<Counted, Problems> {
        let kept = self.with(&visit.id, |of| of.counted);
        if let Some((_, counted)) = kept.filter(|(at, _)| whole && is_kept(*at, visit.now)) {
            return Ok(counted);
        }
        let (counted, _) = entries::counted(&*visit.books, &BTreeSet::new()).await?;
        self.with(&visit.id, |of| of.counted = whole.then_some((visit.now, counted)));
        Ok(counted)
    }
}
