//! The invoice's price against what was agreed, part by part.

use super::ledger::Part;
use super::{PriceReference, exact};
use crate::ids::ReceiverNumber;
use crate::policy::Band;
use rust_decimal::{Decimal, RoundingStrategy};

/// So much at this agreed price.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    /// Magnitude, in the order's unit.
    pub(super) quantity: Decimal,
    /// Per unit, in the order's currency.
    pub(super) unit_price: Decimal,
    /// The receiver whose cost it is; `None`: the order's.
    pub(super) receiver: Option<ReceiverNumber>,
}

/// What a comparison found.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Effect on the line; more than agreed is positive.
    pub(super) difference: Decimal,
    /// The part that is furthest above what is allowed.
    pub(super) over: Option<Reference>,
    /// The part that is furthest below what is allowed.
    pub(super) under: Option<Reference>,
}

/// What each part is compared with: its own receiver's cost, else the order's price. Without parts the whole quantity is
/// compared with the order's.
pub(super) fn references(
    parts: &[Part<'_>],
    quantity: Decimal,
    net: Decimal,
) -> (Vec<Reference>, PriceReference) {
    if parts.is_empty() {
        let whole = Reference {
            quantity,
            unit_price: net,
            receiver: None,
        };
        return (vec![whole], PriceReference::Order);
    }
    let references: Vec<_> = parts
        .iter()
        .map(|part| {
            let cost = part.receipt.unit_cost.filter(|cost| !cost.is_zero());
            Reference {
                quantity: part.quantity.abs(),
                unit_price: cost.unwrap_or(net),
                receiver: cost.map(|_| part.receipt.key.receiver.clone()),
            }
        })
        .collect();
    let of_receivers = references.iter().filter(|one| one.receiver.is_some()).count();
    let reference = match of_receivers {
        0 => PriceReference::Order,
        count if count == references.len() => PriceReference::Receiver,
        _ => PriceReference::ReceiverAndOrder,
    };
    (references, reference)
}

/// Compares a price with all of them. The percent holds for each part, amount and free for the line. `None` when a figure
/// leaves the exact range.
pub(super) fn compare(references: &[Reference], price: Decimal, band: &Band) -> Option<Compared> {
    let (mut over, mut under) = (Decimal::ZERO, Decimal::ZERO);
    let mut differences = Vec::with_capacity(references.len());
    for reference in references {
        let per_unit = exact::subtract(price, reference.unit_price)?;
        let effect = exact::multiply(per_unit, reference.quantity)?;
        if effect > Decimal::ZERO {
            over = exact::add(over, effect)?;
        } else {
            under = exact::add(under, effect.abs())?;
        }
        differences.push((reference, per_unit));
    }
    let mut found = Compared {
        difference: exact::subtract(over, under)?,
        ..Compared::default()
    };
    for (reference, per_unit) in differences {
        let (limit, whole, slot) = if per_unit > Decimal::ZERO {
            (&band.over, over, &mut found.over)
        } else {
            (&band.under, under, &mut found.under)
        };
        let base = reference.unit_price.abs();
        let is_allowed = per_unit.is_zero()
            || limit.allows_freely(whole)
            || limit.allows_all_given(whole, per_unit.abs(), base)?;
        let further = slot.as_ref().is_none_or(|worst| {
            let of_worst = exact::subtract(price, worst.unit_price).map(|difference| difference.abs());
            of_worst < Some(per_unit.abs())
        });
        if !is_allowed && further {
            *slot = Some(reference.clone());
        }
    }
    Some(found)
}

/// A limit as people are shown it: to the places of a converted price, and never beyond what is allowed.
pub(super) fn shown_limit(reference: Decimal, difference: Decimal) -> Option<Decimal> {
    let limit = reference.checked_add(difference)?;
    let rounding = if difference.is_sign_negative() {
        RoundingStrategy::AwayFromZero
    } else {
        RoundingStrategy::ToZero
    };
    Some(
        limit
            .round_dp_with_strategy(exact::CONVERTED_PRICE_PLACES, rounding)
            .normalize(),
    )
}
