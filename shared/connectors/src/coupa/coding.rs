//! What a line or charge of a Coupa invoice is coded to: one account, or several with their shares.

use crate::json::{Misread, Node};
use domain::documents::{CodedShare, Share};
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Most accounts that one line or charge is split over.
const SHARES_MAX: usize = 100;
/// Segments of an account (confirmed).
const SEGMENTS: std::ops::RangeInclusive<u32> = 1..=20;

/// Reads the coding of a line or charge over `total`; empty when Coupa shows none. Where it is split, Coupa leaves the account
/// itself out (confirmed).
pub(super) fn coding(node: &Node<'_>, total: Decimal) -> Result<Vec<CodedShare>, Misread> {
    let list = node.get("account-allocations");
    let allocations = list.items()?;
    if allocations.len() > SHARES_MAX {
        return Err(list.misread(format!("at most {SHARES_MAX} allocations")));
    }
    if allocations.is_empty() {
        let account = account(&node.get("account"))?;
        let whole = CodedShare {
            account,
            share: Share::Whole,
        };
        return Ok(if whole.account.is_empty() {
            vec![]
        } else {
            vec![whole]
        });
    }
    let mut amounts = Vec::with_capacity(allocations.len());
    for allocation in &allocations {
        amounts.push(allocation.get("amount").amount()?.map(|amount| amount.abs()));
    }
    // Amounts that make up the total are exact; else the percentages say what was meant.
    let sum = amounts
        .iter()
        .copied()
        .try_fold(Decimal::ZERO, |sum, amount| sum.checked_add(amount?));
    let by_amount = sum == Some(total.abs());
    let mut shares = Vec::with_capacity(allocations.len());
    for (allocation, amount) in allocations.iter().zip(amounts) {
        let percent = allocation.get("pct").amount()?;
        let share = match (amount, percent) {
            (Some(amount), _) if by_amount => Share::Amount(amount),
            (_, Some(percent)) => Share::Percent(percent),
            (Some(amount), None) => Share::Amount(amount),
            (None, None) => return Err(allocation.get("pct").misread("a percentage or an amount")),
        };
        shares.push(CodedShare {
            account: account(&allocation.get("account"))?,
            share,
        });
    }
    Ok(shares)
}

/// The fields of an account that are not blank.
fn account(node: &Node<'_>) -> Result<BTreeMap<String, String>, Misread> {
    let mut fields = BTreeMap::new();
    let names = ["code".to_owned(), "name".to_owned()]
        .into_iter()
        .chain(SEGMENTS.map(|number| format!("segment-{number}")));
    for name in names {
        if let Some(text) = node.get(&name).text()? {
            fields.insert(name, text);
        }
    }
    Ok(fields)
}
