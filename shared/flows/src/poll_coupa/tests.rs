use super::*;
use crate::feed::tests::{Model, START, ready};
use crate::ports::{DocumentOutcome, Flagged, WriteError};
use async_trait::async_trait;
use domain::coupa_orders::CoupaOrder;
use domain::documents::Invoice;
use std::collections::BTreeSet;
use std::sync::Mutex;

const PAGE_INVOICES: u64 = 50;

/// Coupa with so many invoices that are not exported, each page of which takes a while; and the queue.
pub(crate) struct Shop {
    invoices: u64,
    pub(crate) model: Model,
    /// Coupa shows its first page whatever is asked.
    pub(crate) stuck: bool,
    hinted: Hinted,
    queued: Mutex<Vec<InvoiceId>>,
}

#[async_trait]
impl Coupa for Shop {
    async fn invoice(&self, _: InvoiceId) -> Result<Option<Invoice>, ReadError> {
        panic!("a poll reads the list only")
    }
    async fn coupa_order(&self, _: &str) -> Result<Option<CoupaOrder>, ReadError> {
        panic!("a poll reads the list only")
    }
    async fn exportable_invoices(&self, after: Option<InvoiceId>) -> Result<InvoicePage, ReadError> {
        self.model.world().elapsed += 100;
        let first = after.filter(|_| !self.stuck).map_or(1, |id| id.0 + 1);
        let last = (first + PAGE_INVOICES - 1).min(self.invoices);
        let heads: Vec<InvoiceHead> = (first..=last)
            .map(|id| InvoiceHead {
                out_of_scope: false,
                id: InvoiceId(id),
                status: CoupaStatus::Approved,
                updated_at: Timestamp(START),
            })
            .collect();
        Ok(InvoicePage {
            last: heads.last().map(|head| head.id),
            heads,
            unreadable: vec![],
            more: last < self.invoices,
        })
    }
    async fn mark_exported(&self, _: InvoiceId, _: &str) -> Result<Flagged, WriteError> {
        panic!("a poll writes nothing")
    }
    async fn record_outcome(&self, _: InvoiceId, _: &DocumentOutcome, _: &str) -> Result<(), WriteError> {
        panic!("a poll writes nothing")
    }
}

#[async_trait]
impl Queue for Shop {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        let ids = hints.iter().map(|hint| match hint {
            Hint::V1 {
                subject: Subject::Invoice(id),
                ..
            } => *id,
            other => panic!("{other:?}"),
        });
        self.queued.lock().unwrap().extend(ids);
        Ok(())
    }
}

impl Shop {
    pub(crate) fn new(invoices: u64) -> Self {
        Self {
            stuck: false,
            invoices,
            model: Model::new(0, 1),
            queued: Mutex::default(),
            hinted: Hinted::default(),
        }
    }

    fn poll(&self, millis: i64) -> Polled {
        let connection = "acme".parse().unwrap();
        let deps = Deps {
            connection: &connection,
            scope: "",
            coupa: self,
            register: &self.model,
            chance: &self.model,
            queue: self,
            hinted: &self.hinted,
            timing: &Timing::default(),
            clock: &self.model,
            deadline: Timestamp(START + self.model.world().elapsed + millis),
            trace: "t",
        };
        ready(run(&deps)).unwrap()
    }

    fn queued(&self) -> (usize, usize) {
        let queued = self.queued.lock().unwrap();
        let different: BTreeSet<InvoiceId> = queued.iter().copied().collect();
        (queued.len(), different.len())
    }
}

#[test]
fn a_list_of_any_length_is_read_to_its_end_run_by_run() {
    let shop = Shop::new(30_000);
    let runs: Vec<bool> = (0..3).map(|_| shop.poll(25_000).incomplete).collect();
    assert_eq!(runs, [true, true, false]);
    assert_eq!(shop.queued(), (30_000, 30_000), "each of them once");
    assert!(shop.poll(25_000).incomplete, "and then from the beginning again");
    assert_eq!(shop.queued().1, 30_000);
}

#[test]
fn a_list_that_fits_into_a_run_costs_no_write() {
    let shop = Shop::new(120);
    assert!(!shop.poll(25_000).incomplete);
    assert_eq!((shop.queued().0, shop.model.world().commits), (120, 0));
}

/// A backlog that nobody gets to is on the queue once; what is listed anew is queued at once.
#[test]
fn what_is_on_its_way_already_is_not_queued_at_every_poll() {
    let mut shop = Shop::new(120);
    for _ in 0..5 {
        assert!(!shop.poll(25_000).incomplete);
    }
    assert_eq!(shop.queued(), (120, 120));
    shop.invoices = 121;
    shop.poll(25_000);
    assert_eq!(shop.queued(), (121, 121));
    shop.model.world().elapsed += Timing::default().lease_millis;
    shop.poll(25_000);
    assert_eq!(
        shop.queued(),
        (242, 121),
        "a message that was lost is made up for"
    );
}
