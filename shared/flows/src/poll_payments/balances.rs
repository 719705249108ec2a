//! The supplier invoices that QAD has changed: what is owed of each, so that a bill that closes without a payment is seen too.
//!
//! The list is optional: a tenant that does not show it is asked for the balance with each payment instead.

use super::{Deps, OVERLAP_DAYS, unmatched_key};
use crate::ports::{ReadError, RecordKey};
use crate::store::FlowError;
use crate::watermark::{self, DIGESTS_MAX, Stored, days_before};
use domain::payments::InvoiceBalance;
use domain::problem::Problem;
use domain::time::Date;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The watermark's name.
const WATERMARK: &str = "changed-invoices";

/// How far the list of changed invoices has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Watermark {
    /// Latest change that QAD has shown, never in the future.
    cursor: Date,
    /// Digests of the rows in the window that are safely recorded, sorted.
    digests: BTreeSet<String>,
}

/// What one reading of the list brought.
pub(super) struct Changed {
    stored: Option<Stored<Watermark>>,
    today: Date,
    before: Date,
    /// Everything in the window, by supplier invoice.
    pub(super) of_invoice: BTreeMap<RecordKey, Vec<InvoiceBalance>>,
    /// The supplier invoices of which something is new.
    pub(super) fresh: BTreeSet<RecordKey>,
    /// Rows that could not be read.
    pub(super) unreadable: Vec<Problem>,
    /// Why the list could not be read at all.
    pub(super) unseen: Option<Problem>,
}

/// Reads the list from two days before its cursor on. That it cannot be read stops no payment, and its cursor stays.
pub(super) async fn read(deps: &Deps<'_>, today: Date, horizon: Date) -> Result<Changed, FlowError> {
    let stored = watermark::load_within::<Watermark>(deps.context.register, WATERMARK, deps.scope).await?;
    let before = stored
        .watermark
        .as_ref()
        .map_or(horizon, |watermark| watermark.cursor.min(today));
    let mut changed = Changed {
        stored: None,
        today,
        before,
        of_invoice: BTreeMap::new(),
        fresh: BTreeSet::new(),
        unreadable: Vec::new(),
        unseen: None,
    };
    let scan = match deps.qad.balances_since(days_before(before, OVERLAP_DAYS)).await {
        Ok(scan) => scan,
        Err(
            ReadError::Unavailable { problem, .. }
            | ReadError::Refused(problem)
            | ReadError::Unreadable(problem),
        ) => {
            changed.unseen = Some(problem);
            return Ok(changed);
        }
    };
    let known = stored
        .watermark
        .as_ref()
        .map(|watermark| watermark.digests.clone())
        .unwrap_or_default();
    for balance in scan.balances {
        let key = unmatched_key(&balance.invoice);
        if !known.contains(&digest(&balance)) {
            changed.fresh.insert(key.clone());
        }
        changed.of_invoice.entry(key).or_default().push(balance);
    }
    changed.unreadable = scan.unreadable;
    changed.stored = Some(stored);
    Ok(changed)
}

/// Moves the watermark past what is recorded. A row that could not be recorded is read again, and so the cursor stays with it;
/// when another run was faster, it has read the same or later.
pub(super) async fn remember(
    deps: &Deps<'_>,
    changed: Changed,
    missing: &BTreeSet<RecordKey>,
) -> Result<(), FlowError> {
    let Some(stored) = changed.stored else {
        return Ok(());
    };
    let rows = || {
        changed
            .of_invoice
            .iter()
            .flat_map(|(key, balances)| balances.iter().map(move |balance| (key, balance)))
    };
    let reached = rows()
        .map(|(_, balance)| balance.on)
        .filter(|on| *on <= changed.today)
        .chain([changed.before])
        .max()
        .unwrap_or(changed.before);
    let cursor = rows()
        .filter(|(key, _)| missing.contains(key))
        .map(|(_, balance)| balance.on)
        .chain([reached])
        .min()
        .unwrap_or(reached);
    let since = days_before(cursor, OVERLAP_DAYS);
    let mut inside: Vec<&InvoiceBalance> = rows()
        .filter(|(key, balance)| balance.on >= since && !missing.contains(*key))
        .map(|(_, balance)| balance)
        .collect();
    inside.sort_by_key(|balance| std::cmp::Reverse(balance.on));
    let after = Watermark {
        cursor,
        digests: inside.into_iter().take(DIGESTS_MAX).map(digest).collect(),
    };
    if stored.watermark.as_ref() != Some(&after) {
        let context = &deps.context;
        watermark::advance(
            context.register,
            context.chance,
            &stored.key,
            stored.revision,
            &after,
        )
        .await?;
    }
    Ok(())
}

/// What makes a row the same row: all of it.
fn digest(balance: &InvoiceBalance) -> String {
    watermark::digest(&[
        balance.invoice.to_string(),
        balance
            .voucher
            .map(|voucher| voucher.to_string())
            .unwrap_or_default(),
        balance.currency.to_string(),
        balance.is_open.map(|open| open.to_string()).unwrap_or_default(),
        balance
            .balance
            .map(|amount| amount.normalize().to_string())
            .unwrap_or_default(),
        balance.on.to_string(),
    ])
}
