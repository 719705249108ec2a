//! Reads again the orders that held and parked invoices name, and wakes those whose order has moved since they were decided:
//! cancelled, made dearer, given to another vendor.
//!
//! QAD's list of order lines has no cursor and is asked by one order number, so each order is asked once, however many
//! invoices wait for it, a page of orders in each run and all of them once in the order recheck. Between two rounds a run
//! costs one read of the register. What is compared stands in the invoice's record, so nothing is lost when a run dies.

use crate::index::{self, list_of};
use crate::poll_coupa::PollError;
use crate::ports::{Hint, HintReason, Index, Qad, Queue, ROWS_MAX, ReadError, RecordKey, RowsAsked, Subject};
use crate::store::{Context, FlowError, load, readable};
use crate::waiting;
use crate::watermark::{self, count};
use domain::documents::{Order, OrderLine, OrderStatus};
use domain::ids::{ConnectionId, EntityCode, InvoiceId, PurchaseOrderNumber, fold};
use domain::index::View;
use domain::lifecycle::{InvoiceRecord, OrderSeen};
use domain::problem::Problem;
use domain::time::Timestamp;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Orders asked for in one run.
pub const ORDERS_PER_RUN_MAX: usize = 100;
/// Orders asked for at the same time.
const ASKED_AT_ONCE: usize = 4;
/// Invoices of each kind that are looked through in one run; those beyond wait for the slow recheck.
const WAITING_MAX: usize = 5_000;
/// Records read at once.
const RECORDS_PER_READ: usize = 100;
/// How long a woken invoice is left to its hint before the sweep looks at it too, in milliseconds.
const HINT_MILLIS: i64 = 120_000;
/// The watermark's name; a part of the orders has a scope behind it.
const WATERMARK: &str = "orders";

/// What this flow needs: its permissions.
#[derive(Clone, Copy)]
pub struct Deps<'a> {
    /// Register (invoices, watermark), clock, chance, deadline.
    pub context: Context<'a>,
    /// The index of questions: which invoices wait.
    pub index: &'a dyn Index,
    /// Whose orders.
    pub connection: &'a ConnectionId,
    /// Which part of them `qad` shows, when it does not show all: the watermark is kept by part. Empty for all.
    pub scope: &'a str,
    /// Whether an invoice's orders are in that part.
    pub is_in_scope: &'a (dyn Fn(&InvoiceRecord) -> bool + Sync),
    /// QAD: read orders.
    pub qad: &'a dyn Qad,
    /// The queue of hints.
    pub queue: &'a dyn Queue,
    /// How often each order is read again, in milliseconds.
    pub every_millis: i64,
    /// Follows this run through all logs.
    pub trace: &'a str,
}

/// What an order says that a verdict may rest on: whose it is, and of each line quantity, price, terms and state. What was
/// received of it is left out, for receipts have their own poll.
pub(crate) fn order_mark(order: Option<&Order>) -> String {
    let Some(order) = order else {
        return String::new();
    };
    let entity = order.entity.as_ref().map(EntityCode::folded);
    let mut parts = vec![
        fold(&order.supplier),
        order.currency.to_string(),
        order.evaluated_receipts.to_string(),
        entity.unwrap_or_default(),
    ];
    let lines: BTreeMap<u32, &OrderLine> = order.lines.iter().map(|line| (line.number, line)).collect();
    for (number, line) in lines {
        let status = match &line.status {
            OrderStatus::Open => "open",
            OrderStatus::Closed => "closed",
            OrderStatus::Cancelled => "cancelled",
            OrderStatus::Unknown(word) => word,
        };
        let evaluated = line
            .evaluated_receipts
            .map_or("", |yes| if yes { "yes" } else { "no" });
        parts.extend([
            number.to_string(),
            fold(&line.part),
            line.unit.folded(),
            line.ordered.normalize().to_string(),
            line.unit_price.normalize().to_string(),
            line.discount_percent.normalize().to_string(),
            line.scheduled.to_string(),
            line.consignment.to_string(),
            evaluated.to_owned(),
            status.to_owned(),
        ]);
    }
    watermark::digest(&parts)
}

/// The orders of an invoice as they were when it was decided.
pub(crate) fn seen(orders: &BTreeMap<PurchaseOrderNumber, Option<Order>>) -> Vec<OrderSeen> {
    let seen = orders.iter().map(|(number, order)| OrderSeen {
        order: number.clone(),
        mark: order_mark(order.as_ref()),
    });
    seen.collect()
}

/// How far the poll has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Round {
    /// When the round began.
    began: Timestamp,
    /// The last order that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<PurchaseOrderNumber>,
    /// All were.
    complete: bool,
}

/// What a run has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Polled {
    /// Orders asked for.
    pub asked: u64,
    /// Invoices woken.
    pub woken: u64,
    /// Orders that could not be read, and why: their invoices wait for the next round.
    pub unreadable: Vec<Problem>,
    /// Orders of this round are left for the next run.
    pub more: bool,
}

/// Reads the next orders, when it is time.
///
/// # Errors
/// QAD, the register or the queue gave no answer. What was woken before stays woken, and the next run goes on.
pub async fn run(deps: &Deps<'_>) -> Result<Polled, PollError> {
    let register = deps.context.register;
    let name = match deps.scope {
        "" => WATERMARK.to_owned(),
        scope => format!("{WATERMARK}/{scope}"),
    };
    let stored = watermark::load::<Round>(register, &name).await?;
    let now = deps.context.clock.now();
    let round = match stored.watermark {
        Some(round) if !round.complete => round,
        Some(round) if now < round.began.plus_millis(deps.every_millis) => return Ok(Polled::default()),
        _ => Round {
            began: now,
            ..Round::default()
        },
    };
    let waiting = waiting(deps).await?;
    let open: Vec<(&PurchaseOrderNumber, &Vec<Waits>)> = waiting
        .iter()
        .filter(|(number, _)| round.after.as_ref().is_none_or(|after| *number > after))
        .collect();
    let mut polled = Polled::default();
    let mut after = round.after.clone();
    let mut done = 0_usize;
    let mut ended = Ok(());
    for some in open
        .chunks(ASKED_AT_ONCE)
        .take(ORDERS_PER_RUN_MAX.div_ceil(ASKED_AT_ONCE))
    {
        if !deps.context.has_time_for_a_call() {
            break;
        }
        match ask(deps, some, &mut polled).await {
            Ok(()) => {
                done = done.saturating_add(some.len());
                after = some.last().map(|(number, _)| (*number).clone());
            }
            Err(error) => {
                ended = Err(error);
                break;
            }
        }
    }
    polled.more = done < open.len();
    let next = Round {
        began: round.began,
        after,
        complete: !polled.more,
    };
    // Overtaken by another run: that one has asked the same.
    watermark::advance(register, deps.context.chance, &stored.key, stored.revision, &next).await?;
    ended.map(|()| polled)
}

/// An invoice that waits, and what its order was like when it was decided.
struct Waits {
    invoice: InvoiceId,
    seen: String,
}

/// What waits, by order.
async fn waiting(deps: &Deps<'_>) -> Result<BTreeMap<PurchaseOrderNumber, Vec<Waits>>, FlowError> {
    let mut by_order: BTreeMap<PurchaseOrderNumber, Vec<Waits>> = BTreeMap::new();
    for view in [View::NeedsYou, View::Waits] {
        for some in ids(deps, view).await?.chunks(RECORDS_PER_READ) {
            let keys: Vec<RecordKey> = some.iter().copied().map(RecordKey::Invoice).collect();
            for stored in deps.context.register.read(&keys).await?.iter().flatten() {
                let Some(record) = readable::<InvoiceRecord>(stored) else {
                    continue;
                };
                if !record.rests_on_orders() || !(deps.is_in_scope)(&record) {
                    continue;
                }
                for seen in record.orders_seen {
                    by_order.entry(seen.order).or_default().push(Waits {
                        invoice: record.id,
                        seen: seen.mark,
                    });
                }
            }
        }
    }
    Ok(by_order)
}

async fn ids(deps: &Deps<'_>, view: View) -> Result<Vec<InvoiceId>, FlowError> {
    let list = list_of(view, None);
    let mut ids = Vec::new();
    let mut beyond: Option<String> = None;
    while ids.len() < WAITING_MAX {
        let asked = RowsAsked {
            beyond: beyond.as_deref(),
            newest_first: true,
            limit: ROWS_MAX,
        };
        let (rows, next) = index::page(deps.index, &list, &asked).await?;
        ids.extend(rows.iter().map(|row| row.id));
        beyond = next;
        if beyond.is_none() {
            break;
        }
    }
    Ok(ids)
}

/// Asks for some orders at once, and wakes whoever was decided on what they were like before.
async fn ask(
    deps: &Deps<'_>,
    some: &[(&PurchaseOrderNumber, &Vec<Waits>)],
    polled: &mut Polled,
) -> Result<(), PollError> {
    let answers = join_all(some.iter().map(|(number, _)| deps.qad.order(number))).await;
    let mut woken = Vec::new();
    for ((_, waits), answer) in some.iter().zip(answers) {
        polled.asked = polled.asked.saturating_add(1);
        let order = match answer {
            Ok(order) => order,
            Err(error @ ReadError::Unavailable { .. }) => return Err(error.into()),
            // This order's own trouble: the others are not kept waiting for it.
            Err(ReadError::Refused(problem) | ReadError::Unreadable(problem)) => {
                polled.unreadable.push(problem);
                continue;
            }
        };
        let mark = order_mark(order.as_ref());
        woken.extend(waits.iter().filter(|one| one.seen != mark).map(|one| one.invoice));
    }
    woken.sort();
    woken.dedup();
    let mut hints = Vec::new();
    for id in woken {
        let Some(loaded) = load::<InvoiceRecord>(deps.context.register, RecordKey::Invoice(id)).await? else {
            continue;
        };
        if !loaded.document.rests_on_orders() {
            // Under way by now: it has read the order itself.
            continue;
        }
        let soon = deps.context.clock.now().plus_millis(HINT_MILLIS);
        if loaded.document.look_again.is_none_or(|at| at > soon) {
            waiting::make_due(&deps.context, loaded, soon).await?;
        }
        hints.push(Hint::V1 {
            connection: deps.connection.clone(),
            subject: Subject::Invoice(id),
            reason: HintReason::Order,
            trace: deps.trace.to_owned(),
        });
    }
    polled.woken = polled.woken.saturating_add(count(hints.len()));
    if !hints.is_empty() {
        deps.queue.send(&hints).await?;
    }
    Ok(())
}
