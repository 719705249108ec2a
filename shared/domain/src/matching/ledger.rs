//! What one order line has open to match, and who gets it: receivers first in, first out.
//!
//! Quantities in here are magnitudes: a credit note's ledger counts returns, without their sign.

use super::MatchInput;
use super::exact;
use crate::documents::{Receipt, Reservation};
use crate::ids::{DocumentKind, InvoiceId, OrderLineKey, ReceiptKey};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};

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
    pub(super) reserved_by: BTreeSet<InvoiceId>,
    /// What can still be claimed.
    pub(super) open: Decimal,
    /// What could still be claimed if no other invoice were in flight.
    open_without_reservations: Decimal,
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
    reserved_by: BTreeSet<InvoiceId>,
    /// Whether this document takes any of it.
    is_taken: bool,
}

/// A receipt line of which this document takes what other invoices in flight leave.
#[derive(Debug)]
pub(super) struct SharedRest<'a> {
    pub(super) receipt: &'a Receipt,
    pub(super) reserved: Decimal,
    pub(super) reserved_by: &'a BTreeSet<InvoiceId>,
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
    /// Whether it would suffice if no other invoice were in flight.
    pub(super) fits_without_reservations: bool,
    /// Invoiced in QAD, reserved and claimed by this document up to and with this claim.
    pub(super) billed: Decimal,
    /// The same if no other invoice were in flight.
    pub(super) billed_without_reservations: Decimal,
}

impl<'a> Ledger<'a> {
    /// Opens the account; `None` when a sum leaves the exact range.
    fn open(
        kind: DocumentKind,
        mut receipts: Vec<&'a Receipt>,
        reservations: &[&Reservation],
    ) -> Option<Self> {
        receipts
            .sort_by(|left, right| (left.date, &left.key.receiver).cmp(&(right.date, &right.key.receiver)));
        let mut sources = Vec::new();
        let mut not_credited = Decimal::ZERO;
        for &receipt in &receipts {
            let remaining = open_quantity(receipt)?;
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
                .map(|reservation| reservation.invoice)
                .collect(),
            open: not_below_zero(exact::subtract(without, reserved)?),
            open_without_reservations: not_below_zero(without),
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

    /// Claims a quantity for one invoice line. What does not fit still uses up what is open, so that later lines of
    /// the same order line are told the truth. `None` when a sum leaves the exact range.
    pub(super) fn claim(&mut self, quantity: Decimal) -> Option<Claim<'a>> {
        self.claimed = exact::add(self.claimed, quantity)?;
        let billed_without_reservations = exact::add(self.already_invoiced, self.claimed)?;
        let fits = quantity <= self.open;
        let claim = Claim {
            parts: if fits { self.take(quantity)? } else { Vec::new() },
            fits,
            fits_without_reservations: quantity <= self.open_without_reservations,
            billed: exact::add(billed_without_reservations, self.reserved)?,
            billed_without_reservations,
        };
        self.open = not_below_zero(exact::subtract(self.open, quantity)?);
        self.open_without_reservations =
            not_below_zero(exact::subtract(self.open_without_reservations, quantity)?);
        Some(claim)
    }

    fn take(&mut self, quantity: Decimal) -> Option<Vec<Part<'a>>> {
        let mut wanted = quantity;
        let mut parts = Vec::new();
        for source in &mut self.sources {
            let part = wanted.min(source.remaining);
            if part > Decimal::ZERO {
                wanted = exact::subtract(wanted, part)?;
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

    /// Receipt lines of which nothing stays open, not even for another invoice that is being posted.
    pub(super) fn used_up(&self) -> impl Iterator<Item = &'a ReceiptKey> + '_ {
        self.sources
            .iter()
            .filter(|source| source.remaining.is_zero() && source.reserved.is_zero())
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
            (key, Ledger::open(kind, receipts, &reservations))
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
    let mut grouped: BTreeMap<&OrderLineKey, Vec<&Reservation>> = BTreeMap::new();
    for reservation in input.reservations {
        let concerns = reservation.invoice != input.invoice.id
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

/// Received and not invoiced, or returned and not credited.
fn open_quantity(receipt: &Receipt) -> Option<Decimal> {
    let open = if receipt.is_return() {
        exact::subtract(receipt.received.abs(), receipt.vouchered.abs())
    } else {
        exact::subtract(receipt.received, receipt.vouchered)
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
                source.reserved_by.insert(reservation.invoice);
            }
        }
    }
    Some(())
}

fn not_below_zero(figure: Decimal) -> Decimal {
    figure.max(Decimal::ZERO)
}
