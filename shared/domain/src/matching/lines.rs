//! One invoice line against its order line and the receipts.

use super::destination::{self, Destination};
use super::ledger::{Claim, Ledger, Part};
use super::{AdditionalCost, Exception, ExceptionCode, LineReport, MatchInput, exact, price, text};
use crate::coupa_orders::{CoupaOrderFacts, CoupaOrderStanding, OnCoupaOrder};
use crate::documents::{Billed, InvoiceLine, Order, OrderLine, OrderStatus};
use crate::ids::{DocumentKind, OrderLineKey, UnitCode, fold};
use crate::policy::{Limits, UnitConversion};
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Some quantity of one receiver at the invoice's price.
#[derive(Debug)]
pub(super) struct PricedPart<'a> {
    pub(super) part: Part<'a>,
    pub(super) unit_price: Decimal,
}

/// What came out for one line.
#[derive(Debug)]
pub(super) struct MatchedLine<'a> {
    pub(super) report: LineReport,
    pub(super) exceptions: Vec<Exception>,
    pub(super) parts: Vec<PricedPart<'a>>,
    /// What of it goes to the general ledger.
    pub(super) costs: Vec<AdditionalCost>,
    /// What it adds to the total; `None` when that leaves the exact range.
    pub(super) value: Option<Decimal>,
}

/// True for a line that bills neither a quantity nor an amount.
pub(super) fn has_nothing_to_post(line: &InvoiceLine) -> bool {
    let no_quantity = match &line.billed {
        Billed::Quantity { quantity, .. } => quantity.is_zero(),
        Billed::Amount => true,
    };
    no_quantity && line.total.is_zero()
}

/// A row that knows only what the invoice itself says.
pub(super) fn bare_report(line: &InvoiceLine) -> LineReport {
    LineReport {
        line: line.number,
        order_line: line.order_line.clone(),
        unit: None,
        ordered: None,
        received: None,
        already_invoiced: None,
        reserved: None,
        open: None,
        this_invoice: None,
        order_price: None,
        invoice_price: None,
        price_limit: None,
        price: None,
        rounded: Vec::new(),
        exceptions: Vec::new(),
        nothing_to_post: has_nothing_to_post(line),
        to_ledger: false,
        coupa_order: None,
    }
}

/// Matches one line; claims its quantity in the ledger of its order line.
pub(super) fn match_line<'a>(
    input: &MatchInput<'a>,
    line: &'a InvoiceLine,
    ledgers: &mut BTreeMap<&'a OrderLineKey, Option<Ledger<'a>>>,
) -> MatchedLine<'a> {
    let supplier = input.invoice.supplier.number.as_deref().map(str::trim);
    let mut check = LineCheck {
        input,
        line,
        limits: input.policy.tolerance.of(input.invoice.currency, supplier),
        outcome: MatchedLine {
            report: bare_report(line),
            exceptions: Vec::new(),
            parts: Vec::new(),
            costs: Vec::new(),
            value: Some(Decimal::ZERO),
        },
    };
    let ledger = line
        .order_line
        .as_ref()
        .and_then(|key| ledgers.get_mut(key)?.as_mut());
    if check.run(ledger).is_none() {
        check.add(
            ExceptionCode::OutOfRange,
            "figures whose sums and products are exact in 28 digits".to_owned(),
            check.own_words(),
            String::new(),
        );
    }
    check.check_coupa_order();
    let mut outcome = check.outcome;
    outcome.report.exceptions = outcome
        .exceptions
        .iter()
        .map(|exception| exception.code)
        .collect();
    outcome.report.exceptions.sort();
    outcome.report.exceptions.dedup();
    outcome
}

struct LineCheck<'i, 'a> {
    input: &'i MatchInput<'a>,
    line: &'a InvoiceLine,
    limits: Limits,
    outcome: MatchedLine<'a>,
}

/// Quantity and price in the order's unit, as far as they can be told.
struct InOrderUnit {
    /// `None` on an amount line.
    quantity: Option<Decimal>,
    price: Decimal,
    /// The invoice's own words, when it was converted.
    converted_from: Option<String>,
}

/// What a line took of the ledger.
struct Taken<'a> {
    claim: Claim<'a>,
    /// Magnitude, in the order's unit.
    quantity: Decimal,
    /// What was open before.
    open: Decimal,
    /// What is posted per unit.
    unit_price: Decimal,
}

impl<'a> LineCheck<'_, 'a> {
    fn add(&mut self, code: ExceptionCode, expected: String, actual: String, limit: String) {
        self.outcome.exceptions.push(Exception {
            code,
            line: Some(self.line.number),
            order_line: self.line.order_line.clone(),
            expected,
            actual,
            limit,
        });
    }

    /// All checks of the line. `None` when a figure leaves the exact range; what was found until then stands.
    fn run(&mut self, ledger: Option<&mut Ledger<'a>>) -> Option<()> {
        if self.outcome.report.nothing_to_post {
            self.show_order_line(ledger.as_deref());
            return Some(());
        }
        match destination::of(self.input, self.line) {
            Destination::Receiver => {}
            Destination::Ledger => return self.send_to_ledger(ledger.as_deref()),
            // What has no order at all is told with its order, as ever.
            Destination::Person(ExceptionCode::LineWithoutOrder) => {}
            Destination::Person(code) => {
                self.outcome.value = Some(self.line.total);
                self.show_order_line(ledger.as_deref());
                self.leave_to_person(code);
                return Some(());
            }
        }
        self.outcome.value = None;
        let signs_agree = self.check_signs();
        self.check_own_figures(signs_agree)?;
        let Some((order, order_line)) = self.find_order_line() else {
            return Some(());
        };
        self.show_order_line(ledger.as_deref());
        let ledger = ledger?;
        let status_allows = self.check_status(order_line);
        let receipts_comparable = self.check_receipts(order, order_line, ledger);
        let Some(billed) = self.in_order_unit(order, order_line)? else {
            return Some(());
        };
        let taken = if signs_agree && receipts_comparable {
            self.claim(order, order_line, &billed, ledger)?
        } else {
            None
        };
        self.check_price(order, order_line, &billed, taken.as_ref())?;
        if let Some(taken) = taken {
            self.check_quantity(order, order_line, taken, ledger, status_allows)?;
        }
        Some(())
    }

    /// The line is costs on the accounts it is coded to; receipts have nothing to say about it.
    fn send_to_ledger(&mut self, ledger: Option<&Ledger<'a>>) -> Option<()> {
        self.outcome.value = Some(self.line.total);
        self.show_order_line(ledger);
        self.outcome.report.to_ledger = true;
        match destination::costs_of_line(self.input, self.line) {
            Ok(costs) => self.outcome.costs = costs,
            Err(exception) => self.outcome.exceptions.push(exception),
        }
        Some(())
    }

    fn leave_to_person(&mut self, code: ExceptionCode) {
        let (expected, actual) = match &self.line.order_line_unmapped {
            Some(named) if code == ExceptionCode::OrderLineNotMapped => {
                ("the number of an order line of QAD's".to_owned(), named.clone())
            }
            _ if code == ExceptionCode::PriceAdjustment => (
                "goods that were ordered and received".to_owned(),
                self.own_words(),
            ),
            _ => ("nothing negative on an invoice".to_owned(), self.own_words()),
        };
        self.add(code, expected, crate::problem::clean(&actual), String::new());
    }

    fn is_credit_note(&self) -> bool {
        self.input.invoice.kind == DocumentKind::CreditNote
    }

    /// Gives a magnitude the sign of the document.
    fn signed(&self, magnitude: Decimal) -> Decimal {
        let mut figure = magnitude;
        figure.set_sign_negative(self.is_credit_note());
        figure.normalize()
    }

    fn own_words(&self) -> String {
        let total = text::money(self.line.total, self.input.invoice.currency);
        match &self.line.billed {
            Billed::Quantity {
                quantity, unit_price, ..
            } => format!(
                "quantity {} at {}, total {total}",
                text::plain(*quantity),
                text::money(*unit_price, self.input.invoice.currency)
            ),
            Billed::Amount => format!("total {total}"),
        }
    }

    fn check_signs(&mut self) -> bool {
        let credit = self.is_credit_note();
        let wrong = |figure: Decimal| {
            if credit {
                figure > Decimal::ZERO
            } else {
                figure < Decimal::ZERO
            }
        };
        let contradicts = wrong(self.line.total)
            || match &self.line.billed {
                Billed::Quantity {
                    quantity, unit_price, ..
                } => wrong(*quantity) || *unit_price < Decimal::ZERO,
                Billed::Amount => false,
            };
        if contradicts {
            let expected = if credit {
                "a negative quantity and total, and no negative price, on a credit note"
            } else {
                "nothing negative on an invoice"
            };
            self.add(
                ExceptionCode::SignContradicts,
                expected.to_owned(),
                self.own_words(),
                String::new(),
            );
        }
        !contradicts
    }

    /// Compares quantity times price with the line's own total, and notes what the line is worth.
    fn check_own_figures(&mut self, signs_agree: bool) -> Option<()> {
        let currency = self.input.invoice.currency;
        let (quantity, unit_price) = match &self.line.billed {
            Billed::Quantity {
                quantity, unit_price, ..
            } => (*quantity, *unit_price),
            Billed::Amount => {
                self.outcome.value = Some(self.line.total);
                return Some(());
            }
        };
        if quantity.is_zero() {
            self.outcome.value = Some(self.line.total);
            self.outcome.report.this_invoice = Some(Decimal::ZERO);
            self.add(
                ExceptionCode::LineContradictsItself,
                "a quantity with the total".to_owned(),
                self.own_words(),
                String::new(),
            );
            return Some(());
        }
        let product = exact::multiply(quantity, unit_price)?;
        self.outcome.value = Some(product);
        let difference = exact::subtract(product, self.line.total)?.abs();
        if signs_agree && difference > self.input.invoice.minor_unit() {
            self.add(
                ExceptionCode::LineContradictsItself,
                format!("a total of {}", text::money(product, currency)),
                self.own_words(),
                text::money(self.input.invoice.minor_unit(), currency),
            );
        }
        Some(())
    }

    fn order(&self) -> Option<&'a Order> {
        self.input
            .orders
            .get(&self.line.order_line.as_ref()?.order)?
            .as_ref()
    }

    fn order_line(&self) -> Option<&'a OrderLine> {
        let number = self.line.order_line.as_ref()?.line;
        self.order()?.lines.iter().find(|line| line.number == number)
    }

    fn find_order_line(&mut self) -> Option<(&'a Order, &'a OrderLine)> {
        let Some(key) = &self.line.order_line else {
            self.add(
                ExceptionCode::LineWithoutOrder,
                "an order and its line".to_owned(),
                self.own_words(),
                String::new(),
            );
            return None;
        };
        let Some(order) = self.order() else {
            let expected = format!("order {} in QAD", key.order);
            self.add(
                ExceptionCode::OrderNotFound,
                expected,
                "no such order".to_owned(),
                String::new(),
            );
            return None;
        };
        let Some(order_line) = self.order_line() else {
            let expected = format!("line {} on order {} in QAD", key.line, key.order);
            self.add(
                ExceptionCode::OrderLineNotFound,
                expected,
                format!("an order of {} lines without it", order.lines.len()),
                String::new(),
            );
            return None;
        };
        Some((order, order_line))
    }

    fn show_order_line(&mut self, ledger: Option<&Ledger<'a>>) {
        let Some(order_line) = self.order_line() else {
            return;
        };
        let reserved = ledger.map(|ledger| self.signed(ledger.reserved));
        let open = ledger.map(|ledger| self.signed(ledger.open));
        let report = &mut self.outcome.report;
        report.unit = Some(order_line.unit.clone());
        report.ordered = Some(order_line.ordered);
        report.order_price = order_line.net_price();
        report.rounded.clone_from(&order_line.rounded);
        if let Some(ledger) = ledger {
            let of_receipts = ledger.receipts.iter().flat_map(|receipt| {
                let receiver = &receipt.key.receiver;
                receipt
                    .rounded
                    .iter()
                    .map(move |told| format!("receiver {receiver}: {told}"))
            });
            report.rounded.extend(of_receipts);
        }
        report.received = ledger.map(|ledger| ledger.received);
        report.already_invoiced = ledger.map(|ledger| ledger.already_invoiced);
        report.reserved = reserved;
        report.open = open;
    }

    /// False when nothing may be matched to the line whatever was received. What went back is credited whatever has become of
    /// the order.
    fn check_status(&mut self, order_line: &OrderLine) -> bool {
        match &order_line.status {
            OrderStatus::Open | OrderStatus::Closed => true,
            OrderStatus::Cancelled | OrderStatus::Unknown(_) if self.is_credit_note() => true,
            OrderStatus::Cancelled => {
                self.add(
                    ExceptionCode::OrderLineCancelled,
                    "an open order line".to_owned(),
                    "cancelled".to_owned(),
                    String::new(),
                );
                false
            }
            OrderStatus::Unknown(word) => {
                let actual = crate::problem::clean(&format!("status {word:?}"));
                self.add(
                    ExceptionCode::OrderStatusUnknown,
                    "a status the connection's profile knows".to_owned(),
                    actual,
                    String::new(),
                );
                true
            }
        }
    }

    /// What the order in Coupa says about the line. It can be in the way, and never makes anything possible: whether enough
    /// was received is QAD's word alone.
    fn check_coupa_order(&mut self) {
        let Some(facts) = self.coupa_order_facts() else {
            return;
        };
        let policy = &self.input.policy.coupa_orders;
        let parks = |on: OnCoupaOrder, code| (on == OnCoupaOrder::Park).then_some(code);
        // What went back is credited whatever has become of the order.
        let code = match facts.standing {
            _ if self.is_credit_note() => None,
            CoupaOrderStanding::Cancelled => parks(policy.cancelled, ExceptionCode::CoupaOrderCancelled),
            CoupaOrderStanding::Closed => parks(policy.closed, ExceptionCode::CoupaOrderClosed),
            CoupaOrderStanding::SoftClosed => parks(policy.soft_closed, ExceptionCode::CoupaOrderClosed),
            CoupaOrderStanding::NotIssued => Some(ExceptionCode::CoupaOrderNotIssued),
            CoupaOrderStanding::Unknown => Some(ExceptionCode::CoupaOrderStatusUnknown),
            CoupaOrderStanding::Open | CoupaOrderStanding::NotTold => None,
        };
        if let Some(code) = code {
            let actual = format!("order {} is {:?}", facts.order, facts.word);
            self.add(
                code,
                "an order that is open in Coupa".to_owned(),
                crate::problem::clean(&actual),
                String::new(),
            );
        }
        let short = self.outcome.exceptions.iter().find(|exception| {
            matches!(
                exception.code,
                ExceptionCode::ReceiptMissing | ExceptionCode::ReceiptShort
            )
        });
        if facts.receipt_required == Some(false)
            && let Some((expected, actual)) =
                short.map(|short| (short.expected.clone(), short.actual.clone()))
        {
            self.add(ExceptionCode::TwoWayLine, expected, actual, String::new());
        }
        self.outcome.report.coupa_order = Some(facts);
    }

    fn coupa_order_facts(&self) -> Option<CoupaOrderFacts> {
        if self.outcome.report.nothing_to_post {
            return None;
        }
        let reference = self.line.coupa_order.as_ref()?;
        let order = self.input.coupa_orders.get(&fold(&reference.order))?.as_ref()?;
        Some(order.facts(reference))
    }

    /// Unit and currency of the receipts against the order's. False when their quantities cannot be compared.
    fn check_receipts(&mut self, order: &Order, order_line: &OrderLine, ledger: &Ledger<'a>) -> bool {
        let other_currency = ledger.receipts.iter().find_map(|receipt| {
            Some((
                receipt,
                receipt.currency.filter(|given| *given != order.currency)?,
            ))
        });
        if let Some((receipt, currency)) = other_currency {
            self.add(
                ExceptionCode::CurrencyDiffers,
                format!("{}, as order {}", order.currency, order.number),
                format!("{currency} on receiver {}", receipt.key.receiver),
                String::new(),
            );
        }
        let other_unit = ledger
            .receipts
            .iter()
            .find(|receipt| receipt.unit != order_line.unit);
        if let Some(receipt) = other_unit {
            self.add(
                ExceptionCode::UnitDiffers,
                format!("{}, as the order line", order_line.unit),
                format!("{} on receiver {}", receipt.unit, receipt.key.receiver),
                String::new(),
            );
        }
        other_unit.is_none()
    }

    /// Quantity and price in the order's unit; `Some(None)` when the units differ, `None` when out of range.
    fn in_order_unit(&mut self, order: &Order, order_line: &OrderLine) -> Option<Option<InOrderUnit>> {
        let (quantity, unit_price, unit) = match &self.line.billed {
            Billed::Quantity {
                quantity,
                unit_price,
                unit,
            } => (*quantity, *unit_price, unit),
            // An amount says nothing about the price: it is resolved at the order's.
            Billed::Amount => {
                return Some(Some(InOrderUnit {
                    quantity: None,
                    price: order_line.net_price()?,
                    converted_from: None,
                }));
            }
        };
        let unit = unit.as_ref().unwrap_or(&order_line.unit);
        let conversion = find_folded(&self.input.policy.units, unit.as_str());
        let converted = match conversion {
            Some(UnitConversion { to, factor, items })
                if *to == order_line.unit && *item_factor(items, order_line, factor) > Decimal::ZERO =>
            {
                let factor = *item_factor(items, order_line, factor);
                let words = format!(
                    "{} of {} {} each",
                    text::price(unit_price, self.input.invoice.currency, unit),
                    text::plain(factor),
                    order_line.unit
                );
                InOrderUnit {
                    quantity: Some(exact::multiply(quantity, factor)?),
                    price: exact::converted_price(unit_price, factor)?,
                    converted_from: (factor != Decimal::ONE).then_some(words),
                }
            }
            _ if *unit == order_line.unit => InOrderUnit {
                quantity: Some(quantity),
                price: unit_price.normalize(),
                converted_from: None,
            },
            _ => {
                self.add(
                    ExceptionCode::UnitDiffers,
                    format!(
                        "{}, as order {} line {}",
                        order_line.unit, order.number, order_line.number
                    ),
                    unit.to_string(),
                    String::new(),
                );
                return Some(None);
            }
        };
        if let Some(quantity) = converted.quantity.filter(|quantity| !quantity.is_zero()) {
            self.outcome.value = None;
            self.outcome.value = Some(exact::multiply(quantity, converted.price)?);
        }
        self.outcome.report.this_invoice = converted.quantity.map(|quantity| quantity.normalize());
        Some(Some(converted))
    }

    /// Takes what the line bills from what is open. `Some(None)` when that cannot be told; `None` when out of range.
    fn claim(
        &mut self,
        order: &Order,
        order_line: &OrderLine,
        billed: &InOrderUnit,
        ledger: &mut Ledger<'a>,
    ) -> Option<Option<Taken<'a>>> {
        let open = ledger.open;
        let quantity = match billed.quantity {
            Some(quantity) => quantity.abs(),
            None if order.currency != self.input.invoice.currency => return Some(None),
            None => match self.quantity_of_amount(billed.price, ledger)? {
                Some(quantity) => quantity,
                None => {
                    self.add_unresolved_amount(order, order_line, None, open);
                    return Some(None);
                }
            },
        };
        self.outcome.report.this_invoice = Some(self.signed(quantity));
        let claim = ledger.claim(quantity, &self.limits.received_over)?;
        let matched = exact::sum(claim.parts.iter().map(|part| part.quantity))?;
        let total = self.line.total.abs();
        let unit_price = if claim.is_over_within_tolerance {
            exact::converted_price(total, matched)?
        } else if billed.quantity.is_none() && !self.costs_the_total(quantity, billed.price)? {
            exact::converted_price(total, quantity)?
        } else {
            billed.price
        };
        self.outcome.parts = claim
            .parts
            .iter()
            .map(|part| PricedPart {
                part: Part {
                    quantity: self.signed(part.quantity),
                    ..*part
                },
                unit_price,
            })
            .collect();
        Some(Some(Taken {
            claim,
            quantity,
            open,
            unit_price,
        }))
    }

    /// The quantity that an amount line bills: its amount at the price, rounded, and no more than what is open where the
    /// difference that makes is within the price tolerance. `Some(None)` when there is none.
    fn quantity_of_amount(&self, net_price: Decimal, ledger: &Ledger<'a>) -> Option<Option<Decimal>> {
        let price = ledger.first_unit_cost().unwrap_or(net_price);
        let amount = self.line.total.abs();
        if price <= Decimal::ZERO {
            return Some(None);
        }
        let Some(quantity) = exact::quantity_for(amount, price) else {
            return Some(None);
        };
        let open = ledger.open_without_reservations;
        if quantity > open && open > Decimal::ZERO {
            let worth = exact::multiply(open, price)?;
            let over = self.price_band().over;
            if over.allows(exact::subtract(amount, worth)?, worth)? {
                return Some(Some(open));
            }
        }
        Some(Some(quantity))
    }

    /// Whether so much at this price makes the line's total, but for less than half a smallest unit.
    fn costs_the_total(&self, quantity: Decimal, price: Decimal) -> Option<bool> {
        let difference = exact::subtract(exact::multiply(quantity, price)?, self.line.total.abs())?.abs();
        Some(exact::multiply(difference, Decimal::TWO)? <= self.input.invoice.minor_unit())
    }

    /// The limits of the price: on a credit note a higher one is our gain.
    fn price_band(&self) -> crate::policy::Band {
        if self.is_credit_note() {
            self.limits.price.reversed()
        } else {
            self.limits.price.clone()
        }
    }

    /// The invoice's price against what was agreed: each part with what its own receiver has cost, else the order's price.
    fn check_price(
        &mut self,
        order: &Order,
        order_line: &OrderLine,
        billed: &InOrderUnit,
        taken: Option<&Taken<'a>>,
    ) -> Option<()> {
        let net = order_line.net_price()?;
        let parts = taken.map_or(&[][..], |taken| &taken.claim.parts);
        // Of an amount only what it was matched at says anything about the price.
        let price = match (billed.quantity, taken) {
            (Some(_), _) => billed.price,
            (None, Some(taken)) => taken.unit_price,
            (None, None) => billed.price,
        };
        self.outcome.report.invoice_price = Some(price);
        let quantity = billed.quantity.map(|quantity| quantity.abs());
        let (compared, reference) = price::references(parts, quantity.unwrap_or_default(), net);
        let band = self.price_band();
        let weight = exact::sum(compared.iter().map(|reference| reference.quantity))?;
        let first = compared.first().map_or(net, |reference| reference.unit_price);
        let highest = band.over.furthest(first, weight);
        self.outcome.report.price_limit = highest.and_then(|more| price::shown_limit(first, more));
        // Prices of different currencies cannot be compared; the document already says that they differ.
        if order.currency != self.input.invoice.currency || weight.is_zero() {
            return Some(());
        }
        let found = price::compare(&compared, price, &band)?;
        self.outcome.report.price = Some(super::PriceFinding {
            reference,
            difference: found.difference,
        });
        let shown = |amount| text::price(amount, order.currency, &order_line.unit);
        for (code, worst, limit) in [
            (ExceptionCode::PriceOverTolerance, found.over, &band.over),
            (ExceptionCode::PriceUnderTolerance, found.under, &band.under),
        ] {
            let Some(worst) = worst else { continue };
            let expected = match &worst.receiver {
                Some(receiver) => format!("{} on receiver {receiver}", shown(worst.unit_price)),
                None => shown(worst.unit_price),
            };
            let actual = match &billed.converted_from {
                Some(words) => format!("{} ({words})", shown(price)),
                None => shown(price),
            };
            let allowed = limit.furthest(worst.unit_price, weight).and_then(|furthest| {
                let signed = if code == ExceptionCode::PriceUnderTolerance {
                    exact::subtract(Decimal::ZERO, furthest.round_dp(exact::CONVERTED_PRICE_PLACES))?
                } else {
                    furthest
                };
                price::shown_limit(worst.unit_price, signed)
            });
            self.add(code, expected, actual, allowed.map(shown).unwrap_or_default());
        }
        Some(())
    }

    /// What the line bills against what is open, and against what was ordered.
    fn check_quantity(
        &mut self,
        order: &Order,
        order_line: &OrderLine,
        taken: Taken<'a>,
        ledger: &Ledger<'a>,
        status_allows: bool,
    ) -> Option<()> {
        if status_allows {
            self.check_billed_over_ordered(order_line, &taken.claim, ledger)?;
            self.check_open(order, order_line, &taken, ledger)?;
        }
        Some(())
    }

    fn check_open(
        &mut self,
        order: &Order,
        order_line: &OrderLine,
        taken: &Taken<'a>,
        ledger: &Ledger<'a>,
    ) -> Option<()> {
        let (claim, billed, open) = (&taken.claim, taken.quantity, taken.open);
        if claim.fits {
            return Some(());
        }
        let expected = text::quantity(billed, &order_line.unit);
        let actual = text::part_of(open, billed, &order_line.unit);
        if claim.fits_without_reservations {
            self.add_in_flight(expected, actual, order_line, ledger);
            return Some(());
        }
        let is_amount = matches!(self.line.billed, Billed::Amount);
        let limit = ordered_limit(&self.limits, order_line, ledger)?;
        let may_never_be_received = limit.is_some_and(|limit| claim.billed_without_reservations > limit);
        // What is received in full and was finished with less is as spent as what is invoiced in full.
        let is_complete = ledger.anything_received()
            && limit.is_some_and(|limit| ledger.already_invoiced.max(ledger.received) >= limit);
        let is_spent = ledger.nothing_is_open()
            && match order_line.status {
                OrderStatus::Closed => open.is_zero(),
                // A part that is open is told with what is billed over the order, where that is so.
                _ => is_complete && (open.is_zero() || !may_never_be_received),
            };
        let code = match &order_line.status {
            _ if self.is_credit_note() => ExceptionCode::ReturnMissing,
            _ if is_spent => ExceptionCode::NothingLeftToBill,
            _ if !ledger.not_credited.is_zero() && claim.fits_once_credited => {
                let returned = text::quantity(ledger.not_credited, &order_line.unit);
                let actual = format!("{actual}, {returned} returned and not yet credited");
                self.add(ExceptionCode::CreditNoteMissing, expected, actual, String::new());
                return Some(());
            }
            _ if is_amount && may_never_be_received => {
                self.add_unresolved_amount(order, order_line, Some(billed), open);
                return Some(());
            }
            OrderStatus::Closed => ExceptionCode::OrderLineClosed,
            _ if !ledger.consigned.is_zero() => ExceptionCode::ConsignedNotUsed,
            _ if ledger.anything_received() => ExceptionCode::ReceiptShort,
            _ => ExceptionCode::ReceiptMissing,
        };
        self.add(code, expected, actual, String::new());
        Some(())
    }

    fn check_billed_over_ordered(
        &mut self,
        order_line: &OrderLine,
        claim: &Claim<'a>,
        ledger: &Ledger<'a>,
    ) -> Option<()> {
        if self.is_credit_note() {
            return Some(());
        }
        let Some(limit) = ordered_limit(&self.limits, order_line, ledger)? else {
            return Some(());
        };
        let expected = format!("{} ordered", text::quantity(order_line.ordered, &order_line.unit));
        if claim.billed_without_reservations > limit {
            let billed = text::quantity(claim.billed_without_reservations, &order_line.unit);
            self.add(
                ExceptionCode::BilledOverOrdered,
                expected,
                format!("{billed} billed in all"),
                text::quantity(limit, &order_line.unit),
            );
        } else if claim.billed > limit && claim.fits {
            // When it does not fit either, the shortage says the same.
            let billed = text::quantity(claim.billed, &order_line.unit);
            self.add_in_flight(expected, format!("{billed} billed in all"), order_line, ledger);
        }
        Some(())
    }

    fn add_in_flight(&mut self, expected: String, actual: String, unit_of: &OrderLine, ledger: &Ledger<'a>) {
        let reserved = text::quantity(ledger.reserved, &unit_of.unit);
        let named = text::some_invoices(&ledger.reserved_by);
        self.add(
            ExceptionCode::AnotherInvoiceInFlight,
            expected,
            format!("{actual}, {reserved} reserved by Coupa invoice {named}"),
            String::new(),
        );
    }

    fn add_unresolved_amount(
        &mut self,
        order: &Order,
        order_line: &OrderLine,
        quantity: Option<Decimal>,
        open: Decimal,
    ) {
        let net = order_line.net_price().unwrap_or(order_line.unit_price);
        let price = text::price(net, order.currency, &order_line.unit);
        let open = text::quantity(open, &order_line.unit);
        let total = text::money(self.line.total, self.input.invoice.currency);
        let actual = match quantity {
            Some(quantity) => format!("{total}, that is {}", text::quantity(quantity, &order_line.unit)),
            None => format!("{total}, that is no quantity"),
        };
        self.add(
            ExceptionCode::AmountLineUnresolved,
            format!("a quantity at {price} within {open} open"),
            actual,
            String::new(),
        );
    }
}

/// How much may be billed of an order line in all: what was ordered, and what QAD has accepted beyond it, as far as the limit
/// of over-receipts goes. `Some(None)` for a scheduled order, whose receipts are the limit.
fn ordered_limit(limits: &Limits, order_line: &OrderLine, ledger: &Ledger<'_>) -> Option<Option<Decimal>> {
    if order_line.scheduled {
        return Some(None);
    }
    let ordered = order_line.ordered;
    let Some(over) = &limits.ordered_over else {
        return Some(Some(ordered.max(ledger.received)));
    };
    let by_percent = match over.percent {
        Some(percent) => Some(exact::subtract(
            exact::raised_by_percent(ordered, percent)?,
            ordered,
        )?),
        None => None,
    };
    let given = match (by_percent, over.amount) {
        (Some(percent), Some(amount)) => percent.min(amount),
        (percent, amount) => percent.or(amount).unwrap_or_default(),
    };
    Some(Some(exact::add(ordered, given.max(over.free))?))
}

/// A quantity in the unit of its order line; `None` where that cannot be told.
pub(super) fn in_unit_of(
    input: &MatchInput<'_>,
    key: &OrderLineKey,
    quantity: Decimal,
    unit: Option<&UnitCode>,
) -> Option<Decimal> {
    let order = input.orders.get(&key.order)?.as_ref()?;
    let order_line = order.lines.iter().find(|line| line.number == key.line)?;
    let unit = unit.unwrap_or(&order_line.unit);
    match find_folded(&input.policy.units, unit.as_str()) {
        Some(UnitConversion { to, factor, items }) if *to == order_line.unit => {
            exact::multiply(quantity, *item_factor(items, order_line, factor))
        }
        _ if *unit == order_line.unit => Some(quantity),
        _ => None,
    }
}

/// The factor of the order line's item, else that of the unit.
fn item_factor<'m>(
    items: &'m BTreeMap<String, Decimal>,
    order_line: &OrderLine,
    of_unit: &'m Decimal,
) -> &'m Decimal {
    find_folded(items, &order_line.part).unwrap_or(of_unit)
}

/// Finds a code the way QAD compares codes; the exact spelling wins.
pub(super) fn find_folded<'m, V>(map: &'m BTreeMap<String, V>, code: &str) -> Option<&'m V> {
    map.get(code).or_else(|| {
        let folded = fold(code);
        map.iter()
            .find(|(key, _)| fold(key) == folded)
            .map(|(_, value)| value)
    })
}
