use super::*;
use crate::ports::{
    AuditEntry, Commit, CommitError, DueRecord, RecordGroup, RecordKey, RecordWrite, StoreError, StoredRecord,
};
use domain::ids::InvoiceId;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

pub(crate) const START: i64 = 1_772_755_200_000; // 2026-03-06 00:00 UTC
/// How long the modelled system takes for a page.
const PAGE_MILLIS: i64 = 100;

/// A list that is asked page by page, a register, a clock that every page moves, and what was taken.
#[derive(Default)]
pub(crate) struct World {
    rows: Vec<u64>,
    page_rows: usize,
    /// Answers every page with the first.
    stuck: bool,
    /// Takes no more rows once it has so many.
    breaks_at: Option<usize>,
    pub(crate) elapsed: i64,
    pages: u32,
    taken: BTreeMap<u64, u32>,
    largest_take: usize,
    item: Option<(u64, String)>,
    largest_item: usize,
    pub(crate) commits: u32,
}

pub(crate) struct Model(Mutex<World>);

impl Model {
    pub(crate) fn new(rows: u64, page_rows: usize) -> Self {
        Self(Mutex::new(World {
            rows: (0..rows).collect(),
            page_rows,
            ..World::default()
        }))
    }

    pub(crate) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn run(&self, millis: i64) -> Result<Followed, PollError> {
        let deadline = self.now().plus_millis(millis);
        let deps = Deps {
            register: self,
            clock: self,
            chance: self,
            deadline,
            name: "rows",
            overlap_days: 7,
        };
        ready(run(&deps, self))
    }

    fn taken_rows(&self) -> usize {
        self.world().taken.len()
    }

    fn times_taken(&self) -> u32 {
        self.world().taken.values().sum()
    }
}

pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("the model answers at once")
}

#[async_trait]
impl Source for Model {
    type Row = u64;
    fn mark(&self, row: &u64) -> u64 {
        // Scattered like a hash, and quick.
        let mixed = (row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
    fn day(&self, _: &u64) -> Date {
        Timestamp(START).date_utc()
    }
    async fn page(&self, _: Date, page: u32) -> Result<Page<u64>, ReadError> {
        let mut world = self.world();
        world.elapsed += PAGE_MILLIS;
        world.pages += 1;
        let page = if world.stuck { 0 } else { page as usize - 1 };
        let start = page * world.page_rows;
        let end = (start + world.page_rows).min(world.rows.len());
        Ok(Page {
            rows: world.rows.get(start..end).unwrap_or_default().to_vec(),
            unreadable: vec![],
            more: end < world.rows.len(),
        })
    }
    async fn take(&self, rows: &[u64]) -> Result<Taken, FlowError> {
        let mut world = self.world();
        world.largest_take = world.largest_take.max(rows.len());
        if world.breaks_at.is_some_and(|most| world.taken.len() >= most) {
            return Err(FlowError::Contended);
        }
        let before = world.taken.len();
        for row in rows {
            *world.taken.entry(*row).or_default() += 1;
        }
        let new = count(world.taken.len() - before);
        Ok(Taken { new, woken: new })
    }
}

#[async_trait]
impl Register for Model {
    async fn read(&self, keys: &[RecordKey]) -> Result<Vec<Option<StoredRecord>>, StoreError> {
        let world = self.world();
        let stored = |key: &RecordKey| {
            let (revision, body) = world
                .item
                .clone()
                .filter(|_| matches!(key, RecordKey::Watermark(_)))?;
            Some(StoredRecord {
                key: key.clone(),
                revision,
                body: Ok(body),
            })
        };
        Ok(keys.iter().map(stored).collect())
    }
    async fn list(&self, _: &RecordGroup) -> Result<Vec<StoredRecord>, StoreError> {
        Ok(vec![])
    }
    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        let mut world = self.world();
        let [RecordWrite::Put { seen, body, .. }] = commit.writes.as_slice() else {
            panic!("only the watermark is written");
        };
        if world.item.as_ref().map_or(0, |item| item.0) != *seen {
            return Err(CommitError::Conflict);
        }
        world.item = Some((seen + 1, body.clone()));
        world.largest_item = world.largest_item.max(body.len());
        world.commits += 1;
        Ok(())
    }
    async fn due(&self, _: Timestamp, _: usize) -> Result<Vec<DueRecord>, StoreError> {
        Ok(vec![])
    }
    async fn audit(&self, _: &str) -> Result<Vec<AuditEntry>, StoreError> {
        Ok(vec![])
    }
    fn neighbour(&self, _: &domain::ids::ConnectionId) -> Box<dyn Register> {
        panic!("nothing of another connection is asked for")
    }
    async fn invoices(&self, _: Option<InvoiceId>, _: usize) -> Result<Vec<StoredRecord>, StoreError> {
        Ok(vec![])
    }
}

#[async_trait]
impl Clock for Model {
    fn now(&self) -> Timestamp {
        Timestamp(START + self.world().elapsed)
    }
    async fn sleep(&self, _: Duration) {}
}

impl Chance for Model {
    fn token(&self) -> String {
        "token".to_owned()
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

#[test]
fn an_idle_pass_takes_nothing_and_writes_nothing() {
    let model = Model::new(700, 50);
    assert_eq!(model.run(60_000).unwrap().new, 700);
    let commits = model.world().commits;
    let again = model.run(60_000).unwrap();
    assert_eq!((again.read, again.new, again.incomplete), (700, 0, false));
    assert_eq!((model.times_taken(), model.world().commits), (700, commits));
    model.world().rows.insert(300, 5_000);
    assert_eq!(model.run(60_000).unwrap().new, 1);
    assert_eq!(
        model.times_taken(),
        701,
        "of a small window only the new row is taken"
    );
}

/// Five read units are 20 KB.
const ITEM_BYTES_MAX: usize = 20_000;

#[test]
fn a_window_of_two_hundred_thousand_rows_is_taken_run_by_run_and_then_costs_a_few_read_units() {
    let model = Model::new(200_000, 500);
    let mut runs = 0;
    loop {
        let before = model.taken_rows();
        // 120 pages of the 400.
        let followed = model.run(12_000).unwrap();
        runs += 1;
        assert!(model.taken_rows() > before, "every run comes further");
        if !followed.incomplete {
            break;
        }
    }
    assert_eq!((runs, model.taken_rows()), (4, 200_000));
    assert!(model.world().largest_take <= 500 + OPEN_ROWS_MAX);
    let item = model.world().item.clone().unwrap().1;
    assert!(item.len() <= ITEM_BYTES_MAX, "{} bytes", item.len());

    // Page borders of runs that ended early are all that is not recognised.
    let taken = model.times_taken();
    while model.run(1_000_000).unwrap().incomplete {}
    let again = model.times_taken() - taken;
    assert!(again < 4_000, "{again} rows taken again");
    let (taken, commits) = (model.times_taken(), model.world().commits);
    assert_eq!(model.run(1_000_000).unwrap().new, 0);
    assert_eq!((model.times_taken(), model.world().commits), (taken, commits));

    // A row that comes in between is found, and of the others only those of its group are taken again.
    model.world().rows.insert(123_456, 5_000_000);
    let followed = model.run(1_000_000).unwrap();
    assert_eq!(followed.new, 1);
    assert!(model.times_taken() - taken <= 4_000);

    // When the window has become small again, so do the groups.
    model.world().rows.truncate(500);
    for _ in 0..2 {
        assert_eq!(model.run(1_000_000).unwrap().new, 0);
    }
    let taken = model.times_taken();
    model.world().rows.push(6_000_000);
    assert_eq!(model.run(1_000_000).unwrap().new, 1);
    assert_eq!(model.times_taken(), taken + 1);
}

#[test]
fn the_watermark_moves_last() {
    let model = Model::new(2_000, 500);
    model.world().breaks_at = Some(1_000);
    for _ in 0..3 {
        assert_eq!(
            model.run(60_000).unwrap_err(),
            PollError::Flow(FlowError::Contended)
        );
    }
    assert_eq!(model.taken_rows(), 1_000, "what was taken before stays taken");
    model.world().breaks_at = None;
    assert_eq!(
        model.run(60_000).unwrap().new,
        1_000,
        "and what was not is not known"
    );
    assert_eq!(model.taken_rows(), 2_000);
}

#[test]
fn a_list_that_shows_a_page_again_is_an_error_and_no_end() {
    let model = Model::new(2_000, 500);
    model.world().stuck = true;
    let error = model.run(60_000).unwrap_err();
    assert_eq!(error.problem().code, "QAD_LISTING_BROKEN");
}

#[test]
fn a_watermark_of_an_earlier_release_is_read() {
    let model = Model::new(3, 50);
    let mark = |row: u64| watermark::text_of(model.mark(&row));
    let stored = format!(
        r#"{{"cursor":"2026-03-05","digests":["{}","{}"]}}"#,
        mark(0),
        mark(2)
    );
    model.world().item = Some((4, stored));
    assert_eq!(model.run(60_000).unwrap().new, 1);
    assert_eq!(model.world().taken.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_mark_is_written_like_the_digest_of_the_same_row() {
    let parts = ["a".to_owned(), "b".to_owned()];
    assert_eq!(
        watermark::text_of(watermark::mark(&parts)),
        watermark::digest(&parts)
    );
}
