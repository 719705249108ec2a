//! How an invoice is coded, line by line, for whoever accrues it while QAD does not have it.

use super::destination::{account_of, split, value_at};
use crate::documents::{CodedShare, Invoice};
use crate::policy::{ChargeAccount, Coding, MatchPolicy};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Most shares that are kept of one invoice, so that its record stays far below the item limit; what is beyond is one sum.
pub const CODING_KEPT_MAX: usize = 300;

/// What falls to one account of a line or charge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineCoding {
    /// Line number in Coupa; `None` for a charge, and for what is beyond [`CODING_KEPT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Net amount, in the invoice's currency, signed.
    pub amount: Decimal,
    /// The account in QAD; `None` where the coding leads to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<ChargeAccount>,
    /// The account as Coupa shows it; empty where it shows none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub coupa: String,
}

/// The coding of an approved invoice, as it shows it and as the connection leads it to QAD. Total: what leads nowhere is told with
/// its amount and without an account.
pub fn coding_of(invoice: &Invoice, policy: &MatchPolicy) -> Vec<LineCoding> {
    let lines = invoice
        .lines
        .iter()
        .map(|line| (Some(line.number), line.total, &line.coding, None));
    let charges = invoice.charges.iter().map(|charge| {
        let of_kind = policy.charge_accounts.get(&charge.kind);
        (None, charge.amount, &charge.coding, of_kind)
    });
    let mut all: Vec<LineCoding> = lines
        .chain(charges)
        .filter(|(_, amount, ..)| !amount.is_zero())
        .flat_map(|(line, amount, shares, otherwise)| {
            let mut coded = of_shares(invoice, policy, invoice.rounded(amount), shares);
            for one in &mut coded {
                one.line = line;
                // As it is posted: a charge that says nothing goes to the account of its kind.
                if one.account.is_none() && says_nothing(policy, shares) {
                    one.account = otherwise.cloned();
                }
            }
            coded
        })
        .collect();
    if all.len() > CODING_KEPT_MAX {
        let beyond = all.split_off(CODING_KEPT_MAX);
        let amount = beyond
            .iter()
            .fold(Decimal::ZERO, |sum, one| sum.saturating_add(one.amount));
        all.push(LineCoding {
            line: None,
            amount,
            account: None,
            coupa: format!("{} more shares", beyond.len()),
        });
    }
    all
}

fn says_nothing(policy: &MatchPolicy, shares: &[CodedShare]) -> bool {
    let is_blank = |coding: &Coding| {
        shares
            .iter()
            .all(|share| value_at(&coding.gl_account, share).is_empty())
    };
    policy.coding.as_ref().is_none_or(is_blank)
}

/// Shares that do not make up the whole are one, with all their accounts.
fn of_shares(
    invoice: &Invoice,
    policy: &MatchPolicy,
    amount: Decimal,
    shares: &[CodedShare],
) -> Vec<LineCoding> {
    let whole = |coupa: String| {
        vec![LineCoding {
            line: None,
            amount,
            account: None,
            coupa,
        }]
    };
    if shares.is_empty() {
        return whole(String::new());
    }
    let Ok(amounts) = split(invoice, shares, amount) else {
        return whole(shares.iter().map(shown).collect::<Vec<_>>().join(" + "));
    };
    let of_share = |(share, amount): (&CodedShare, Decimal)| LineCoding {
        line: None,
        amount,
        account: policy
            .coding
            .as_ref()
            .and_then(|coding| account_of(coding, share).ok()),
        coupa: shown(share),
    };
    shares.iter().zip(amounts).map(of_share).collect()
}

/// The account as Coupa shows it: its code, else its segments.
fn shown(share: &CodedShare) -> String {
    if let Some(code) = share.account.get("code") {
        return code.trim().to_owned();
    }
    let mut segments: Vec<(u32, &str)> = share
        .account
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("segment-")?.parse().ok()?, value.trim())))
        .collect();
    segments.sort_unstable();
    segments
        .into_iter()
        .map(|(_, value)| value)
        .collect::<Vec<_>>()
        .join("-")
}
