//! What one order line has open to match, and who gets it: receivers first in, first out.
//!
//! Quantities in here are magnitudes: a credit note's ledger counts returns, without their sign.

use super::MatchInput;
use super::exact;
use crate::documents::{OrderLine, Pending, Receipt, Reservation};
use crate::ids::{DocumentKind, Holder, OrderLineKey, ReceiptKey};
use crate::policy::Limit;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};

/// Part of the ordered quantity below which what would stay open is next to nothing: a millionth.
const CRUMB: Decimal = Decimal::from_parts(1, 0, 0, false, 6);

/// The account of one order line for one kind of document.
#[derive(Debug)]
pub(super) struct Ledger<'a> {
    /// Every receipt and return of the order line, oldest first.
    pub(super) receipts: Vec<&'a Receipt>,
    /// Received less returned.
    pub(super) received: Decimal,
    /// Invoiced in QAD already, less credited.
    pub(super) already_invoiced: Decimal,
    /// Spoken for by other invoices (or credit notes) in flight.
    pub(super) reserved: Decimal,
    /// Who holds the reservations.
    pub(super) reserved_by: BTreeSet<Holder>,
    /// What can still be claimed.
    pub(super) open: Decimal,
    /// What could still be claimed if no other invoice were in flight.
    pub(super) open_without_reservations: Decimal,
    /// Returned and not yet credited, as far as it lowers what an invoice may claim.
    pub(super) not_credited: Decimal,
    /// Received on consignment and not used: nothing is owed for it yet.
    pub(super) consigned: Decimal,
    /// What may be matched and finished along with the last of a receiver line, because it is next to nothing.
    crumb: Decimal,
    /// Claimed so far by this document, whether it fitted or not.
    claimed: Decimal,
    sources: Vec<Source<'a>>,
}

/// A receiver (or return) and what is left of it.
#[derive(Debug)]
struct Source<'a> {
    receipt: &'a Receipt,
    remaining: Decimal,
    /// Taken by other invoices in flight: still open in QAD until they are posted.
    reserved: Decimal,
    /// Which invoices.
    reserved_by: BTreeSet<Holder>,
    /// Whether this document takes any of it.
    is_taken: bool,
}

/// A receipt line of which this document takes what other invoices in flight leave.
#[derive(Debug)]
pub(super) struct SharedRest<'a> {
    pub(super) receipt: &'a Receipt,
    pub(super) reserved: Decimal,
    pub(super) reserved_by: &'a BTreeSet<Holder>,
}

/// Some quantity of one receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) receipt: &'a Receipt,
    pub(super) quantity: Decimal,
}

/// The answer to one claim.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// The receivers that give it; empty when it does not fit.
    pub(super) parts: Vec<Part<'a>>,
    /// Whether what is open suffices.
    pub(super) fits: bool,
    /// Whether all that is open is matched to a quantity that is more, within the tolerance.
    pub(super) is_over_within_tolerance: bool,
    /// Whether it would suffice if no other invoice were in flight.
    pub(super) fits_without_reservations: bool,
    /// Whether it would suffice if what was returned were credited.
    pub(super) fits_once_credited: bool,
    /// Invoiced in QAD, reserved and claimed by this document up to and with this claim.
    pub(super) billed: Decimal,
    /// The same if no other invoice were in flight.
    pub(super) billed_without_reservations: Decimal,
}

impl<'a> Ledger<'a> {
    /// Opens the account; `None` when a sum leaves the exact range.
    fn open(
        kind: DocumentKind,
        order_line: Option<&OrderLine>,
        mut receipts: Vec<&'a Receipt>,
        reservations: &[&Reservation],
    ) -> Option<Self> {
        receipts
            .sort_by(|left, right| (left.date, &left.key.receiver).cmp(&(right.date, &right.key.receiver)));
        let on_consignment = order_line.is_some_and(|line| line.consignment);
        let mut sources = Vec::new();
        let (mut not_credited, mut consigned) = (Decimal::ZERO, Decimal::ZERO);
        for &receipt in &receipts {
            let remaining = if is_consigned(receipt, on_consignment) {
                consigned = exact::add(consigned, receipt.received.abs())?;
                Decimal::ZERO
            } else {
                open_quantity(receipt)?
            };
            if receipt.is_return() == (kind == DocumentKind::CreditNote) {
                sources.push(Source {
                    receipt,
                    remaining,
                    reserved: Decimal::ZERO,
                    reserved_by: BTreeSet::new(),
                    is_taken: false,
                });
            } else if receipt.is_return() {
                not_credited = exact::add(not_credited, remaining)?;
            }
        }
        let all = exact::sum(sources.iter().map(|source| source.remaining))?;
        let without = exact::subtract(all, not_credited)?;
        let reserved = exact::sum(reservations.iter().map(|reservation| reservation.quantity.abs()))?;
        reserve(&mut sources, reservations)?;
        Some(Self {
            received: exact::sum(receipts.iter().map(|receipt| receipt.received))?,
            already_invoiced: exact::sum(receipts.iter().map(|receipt| receipt.vouchered))?,
            reserved,
            reserved_by: reservations
                .iter()
                .map(|reservation| reservation.holder())
                .collect(),
            open: not_below_zero(exact::subtract(without, reserved)?),
            open_without_reservations: not_below_zero(without),
            not_credited,
            consigned,
            crumb: match order_line {
                Some(line) if line.ordered > Decimal::ZERO => exact::multiply(line.ordered, CRUMB)?,
                _ => Decimal::ZERO,
            },
            claimed: Decimal::ZERO,
            sources,
            receipts,
        })
    }

    /// Whether any goods came at all.
    pub(super) fn anything_received(&self) -> bool {
        self.receipts
            .iter()
            .any(|receipt| receipt.received > Decimal::ZERO)
    }

    /// What the oldest receipt that has something open has cost per unit, where QAD says so.
    pub(super) fn first_unit_cost(&self) -> Option<Decimal> {
        self.sources
            .iter()
            .find(|source| !source.remaining.is_zero())
            .and_then(|source| source.receipt.unit_cost)
    }

    /// Whether another return could still be credited, or more could be billed.
    pub(super) fn nothing_is_open(&self) -> bool {
        self.open_without_reservations.is_zero() && self.not_credited.is_zero() && self.consigned.is_zero()
    }

    /// Claims a quantity for one invoice line; a little more than is open takes all of it where `over` allows that. What
    /// does not fit still uses up what is open, so that later lines of the same order line are told the truth. `None` when
    /// a sum leaves the exact range.
    pub(super) fn claim(&mut self, quantity: Decimal, over: &Limit) -> Option<Claim<'a>> {
        self.claimed = exact::add(self.claimed, quantity)?;
        // A return that is not yet credited does not count as billed again.
        let billed_without_reservations = exact::subtract(
            exact::add(self.already_invoiced, self.claimed)?,
            self.not_credited,
        )?;
        let suffices = |open: Decimal| {
            Some(
                quantity <= open
                    || (open > Decimal::ZERO && over.allows(exact::subtract(quantity, open)?, open)?),
            )
        };
        let fits = suffices(self.open)?;
        let taken = quantity.min(self.open);
        let fits_without_reservations = suffices(self.open_without_reservations)?;
        let fits_once_credited = suffices(exact::add(self.open, self.not_credited)?)?;
        self.open = not_below_zero(exact::subtract(self.open, quantity)?);
        self.open_without_reservations =
            not_below_zero(exact::subtract(self.open_without_reservations, quantity)?);
        Some(Claim {
            parts: if fits { self.take(taken)? } else { Vec::new() },
            fits,
            is_over_within_tolerance: fits && taken < quantity,
            fits_without_reservations,
            fits_once_credited,
            billed: exact::add(billed_without_reservations, self.reserved)?,
            billed_without_reservations,
        })
    }

    fn take(&mut self, quantity: Decimal) -> Option<Vec<Part<'a>>> {
        let mut wanted = quantity;
        let mut parts = Vec::new();
        for source in &mut self.sources {
            let mut part = wanted.min(source.remaining);
            if part > Decimal::ZERO {
                wanted = exact::subtract(wanted, part)?;
                let left = exact::subtract(source.remaining, part)?;
                let is_crumb = left < self.crumb && left <= self.open && source.reserved.is_zero();
                if is_crumb && !left.is_zero() {
                    part = source.remaining;
                    self.open = exact::subtract(self.open, left)?;
                    self.open_without_reservations =
                        not_below_zero(exact::subtract(self.open_without_reservations, left)?);
                }
                source.remaining = exact::subtract(source.remaining, part)?;
                source.is_taken = true;
                parts.push(Part {
                    receipt: source.receipt,
                    quantity: part,
                });
            }
        }
        wanted.is_zero().then_some(parts)
    }

    /// Receipt lines of which this document takes the rest while another invoice in flight takes the other part: whether
    /// this one finishes the line is only known when that one has settled.
    pub(super) fn shared_rests(&self) -> impl Iterator<Item = SharedRest<'_>> {
        self.sources
            .iter()
            .filter(|source| source.is_taken && source.remaining.is_zero() && !source.reserved.is_zero())
            .map(|source| SharedRest {
                receipt: source.receipt,
                reserved: source.reserved,
                reserved_by: &source.reserved_by,
            })
    }

    /// Receipt lines of which nothing stays open, not even for another invoice that is being posted, and whose pending
    /// voucher is not of less than was received.
    pub(super) fn used_up(&self) -> impl Iterator<Item = &'a ReceiptKey> + '_ {
        self.sources
            .iter()
            .filter(|source| source.remaining.is_zero() && source.reserved.is_zero())
            .filter(|source| match source.receipt.pending {
                Pending::NotShown => true,
                Pending::Missing => false,
                Pending::Quantity(pending) => pending.abs() >= source.receipt.received.abs(),
            })
            .map(|source| &source.receipt.key)
    }
}

/// The accounts of every order line the invoice names; `None` for one whose sums leave the exact range.
pub(super) fn ledgers<'a>(input: &MatchInput<'a>) -> BTreeMap<&'a OrderLineKey, Option<Ledger<'a>>> {
    let kind = input.invoice.kind;
    let mut receipts = receipts_by_order_line(input);
    let mut reservations = reservations_by_order_line(input);
    let named: BTreeSet<_> = input
        .invoice
        .lines
        .iter()
        .filter_map(|line| line.order_line.as_ref())
        .collect();
    named
        .into_iter()
        .map(|key| {
            let receipts = receipts.remove(key).unwrap_or_default();
            let reservations = reservations.remove(key).unwrap_or_default();
            let order_line = input
                .orders
                .get(&key.order)
                .and_then(|order| order.as_ref()?.lines.iter().find(|line| line.number == key.line));
            (key, Ledger::open(kind, order_line, receipts, &reservations))
        })
        .collect()
}

/// Receipts of the policy's domain by order line, each key once. Should one be given twice (reads overlap), the
/// reading with less open counts: better held for a moment than matched twice.
fn receipts_by_order_line<'a>(input: &MatchInput<'a>) -> BTreeMap<&'a OrderLineKey, Vec<&'a Receipt>> {
    let mut unique: BTreeMap<(&ReceiptKey, bool), &Receipt> = BTreeMap::new();
    for receipt in input
        .receipts
        .iter()
        .filter(|receipt| receipt.key.domain == input.policy.domain)
    {
        let kept = unique
            .entry((&receipt.key, receipt.is_return()))
            .or_insert(receipt);
        // What cannot be told (`None`) sorts first, is kept and refused by the sums.
        if open_quantity(receipt) < open_quantity(kept) {
            *kept = receipt;
        }
    }
    let mut grouped: BTreeMap<&OrderLineKey, Vec<&Receipt>> = BTreeMap::new();
    for receipt in unique.into_values() {
        grouped.entry(&receipt.key.order_line).or_default().push(receipt);
    }
    grouped
}

/// Reservations of other documents of the same kind by order line: those of invoices are positive, those of credit
/// notes negative. A return that is being credited right now still lowers what an invoice may match until QAD
/// shows it as credited.
fn reservations_by_order_line<'a>(
    input: &MatchInput<'a>,
) -> BTreeMap<&'a OrderLineKey, Vec<&'a Reservation>> {
    let negative = input.invoice.kind == DocumentKind::CreditNote;
    let own = Holder::own(input.invoice.id);
    let mut grouped: BTreeMap<&OrderLineKey, Vec<&Reservation>> = BTreeMap::new();
    for reservation in input.reservations {
        let concerns = reservation.holder() != own
            && reservation.receipt.domain == input.policy.domain
            && reservation.quantity.is_sign_negative() == negative;
        if concerns {
            grouped
                .entry(&reservation.receipt.order_line)
                .or_default()
                .push(reservation);
        }
    }
    grouped
}

/// Goods on consignment have no pending voucher until somebody uses them: nothing of them is owed.
fn is_consigned(receipt: &Receipt, on_consignment: bool) -> bool {
    match receipt.pending {
        Pending::Missing => true,
        Pending::NotShown => on_consignment,
        Pending::Quantity(_) => false,
    }
}

/// Received and not invoiced, or returned and not credited: what the pending voucher has, where the tenant shows it. Nothing
/// once an invoice was the last of it.
fn open_quantity(receipt: &Receipt) -> Option<Decimal> {
    let whole = match receipt.pending {
        _ if receipt.closed => return Some(Decimal::ZERO),
        Pending::Missing => return Some(Decimal::ZERO),
        Pending::NotShown => receipt.received,
        Pending::Quantity(pending) => pending,
    };
    let open = if receipt.is_return() {
        exact::subtract(whole.abs(), receipt.vouchered.abs())
    } else {
        exact::subtract(whole, receipt.vouchered)
    };
    open.map(not_below_zero)
}

/// Takes each reservation from its own receiver; what is more than that receiver has lowers the total alone.
fn reserve(sources: &mut [Source<'_>], reservations: &[&Reservation]) -> Option<()> {
    for reservation in reservations {
        for source in sources
            .iter_mut()
            .filter(|source| source.receipt.key == reservation.receipt)
        {
            let taken = source.remaining.min(reservation.quantity.abs());
            source.remaining = exact::subtract(source.remaining, taken)?;
            source.reserved = exact::add(source.reserved, taken)?;
            if !taken.is_zero() {
                source.reserved_by.insert(reservation.holder());
            }
        }
    }
    Some(())
}

fn not_below_zero(figure: Decimal) -> Decimal {
    figure.max(Decimal::ZERO)
}
