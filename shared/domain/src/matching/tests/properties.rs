//! What holds for every document, and a second, naive matcher that moves single units.

use super::*;
use proptest::prelude::*;

/// A receiver or return of the only order line, in whole units.
#[derive(Debug, Clone, Copy)]
struct Goods {
    received: i64,
    vouchered: i64,
    reserved: i64,
    day: i8,
}

/// A small world: one order line, whole units, price 1.
#[derive(Debug, Clone)]
struct World {
    ordered: i64,
    closed: bool,
    credit: bool,
    goods: Vec<Goods>,
    billed: Vec<i64>,
}

fn goods() -> impl Strategy<Value = Goods> {
    (
        -3i64..20,
        prop_oneof![2 => Just(0i64), 1 => 0i64..8],
        prop_oneof![3 => Just(0i64), 1 => 0i64..6],
        1i8..4,
    )
        .prop_map(|(received, vouchered, reserved, day)| {
            let sign = if received < 0 { -1 } else { 1 };
            Goods {
                received,
                vouchered: sign * vouchered.min(received.abs() + 1),
                reserved: sign * reserved,
                day,
            }
        })
}

fn world() -> impl Strategy<Value = World> {
    (
        prop_oneof![3 => 15i64..60, 1 => 1i64..25],
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::collection::vec(goods(), 1..5),
        prop::collection::vec(1i64..6, 1..4),
    )
        .prop_map(|(ordered, closed, credit, goods, billed)| World {
            ordered,
            closed,
            credit,
            goods,
            billed,
        })
}

impl World {
    fn case(&self) -> Case {
        let sign = if self.credit { -1 } else { 1 };
        let mut case = Case::invoice();
        case.order_line().ordered = self.ordered.into();
        case.order_line().unit_price = Decimal::ONE;
        if self.closed {
            case.order_line().status = OrderStatus::Closed;
        }
        case.receipts = Vec::new();
        for (number, goods) in self.goods.iter().enumerate() {
            let mut found = receipt(
                &format!("R{number}"),
                "PO1",
                1,
                "0",
                &format!("2026-03-0{}", goods.day),
            );
            found.received = goods.received.into();
            found.vouchered = goods.vouchered.into();
            if goods.reserved != 0 {
                case.reserve(&format!("R{number}"), &goods.reserved.to_string());
            }
            case.receipts.push(found);
        }
        let lines = self.billed.iter().enumerate().map(|(number, quantity)| {
            line(
                u32::try_from(number).unwrap() + 1,
                &(sign * quantity).to_string(),
                "1",
                "PO1",
                1,
            )
        });
        case.bill(lines.collect());
        if self.credit {
            case.invoice.kind = DocumentKind::CreditNote;
        }
        case
    }

    /// The naive matcher: one pot of single units per receiver, drained unit by unit. `None`: it does not fit.
    fn naive(&self, with_reservations: bool) -> Option<Vec<(usize, i64, bool)>> {
        let mut pots: Vec<(i8, usize, i64)> = Vec::new();
        let mut spoken_for = vec![0; self.goods.len()];
        let mut blocked = 0;
        let mut invoiced = 0;
        let received: i64 = self.goods.iter().map(|goods| goods.received).sum();
        for (number, goods) in self.goods.iter().enumerate() {
            let is_return = goods.received < 0;
            let mut units = 0;
            // A unit is open as long as fewer were invoiced than came.
            let mut came = goods.vouchered.abs();
            while came < goods.received.abs() {
                came += 1;
                units += 1;
            }
            invoiced += goods.vouchered;
            let counts = is_return == self.credit;
            if counts && with_reservations {
                for _ in 0..goods.reserved.abs() {
                    // A reserved unit is taken from its own pot; when that is empty, from the whole.
                    if units > 0 {
                        units -= 1;
                        spoken_for[number] += 1;
                    } else {
                        blocked += 1
                    }
                    if !self.credit {
                        invoiced += 1;
                    }
                }
            }
            if counts {
                pots.push((goods.day, number, units));
            } else if is_return {
                // Not yet credited: it lowers what may be matched, and is not billed again.
                blocked += units;
                invoiced -= units;
            }
        }
        pots.sort();
        let billed: i64 = self.billed.iter().sum();
        let open: i64 = pots.iter().map(|(_, _, units)| units).sum();
        if open - blocked < billed || (!self.credit && invoiced + billed > self.ordered.max(received)) {
            return None;
        }
        let mut taken = vec![0; self.goods.len()];
        for _ in 0..billed {
            let pot = pots.iter_mut().find(|(_, _, units)| *units > 0)?;
            pot.2 -= 1;
            taken[pot.1] += 1;
        }
        // What another invoice leaves of a receiver is taken when that one has settled.
        if pots
            .iter()
            .any(|(_, number, units)| taken[*number] > 0 && *units == 0 && spoken_for[*number] > 0)
        {
            return None;
        }
        let matches = pots
            .iter()
            .map(|(_, number, units)| (*number, taken[*number], *units == 0 && spoken_for[*number] == 0));
        Some(matches.filter(|(_, taken, _)| *taken > 0).collect())
    }
}

fn is_in_flight(code: ExceptionCode) -> bool {
    matches!(
        code,
        ExceptionCode::AnotherInvoiceInFlight | ExceptionCode::ReceiverLineInFlight
    )
}

fn exceptions_of(case: &Case) -> Vec<ExceptionCode> {
    verdict_exceptions(&case.decide().verdict)
        .iter()
        .map(|exception| exception.code)
        .collect()
}

/// Any decimal, the extreme ones often.
fn any_decimal() -> impl Strategy<Value = Decimal> {
    prop_oneof![
        4 => (-2000i64..2000, 0u32..4).prop_map(|(units, scale)| Decimal::new(units, scale)),
        1 => (any::<i128>(), 0u32..=28).prop_map(|(units, scale)| {
            Decimal::from_i128_with_scale(units >> 33, scale)
        }),
        1 => prop::sample::select(vec![
            Decimal::MAX, Decimal::MIN, Decimal::ZERO, -Decimal::ZERO, Decimal::new(1, 28), Decimal::new(-1, 28),
        ]),
    ]
}

fn any_unit() -> impl Strategy<Value = Option<UnitCode>> {
    prop::sample::select(vec![None, Some("EA"), Some("ea"), Some("DZ"), Some("KG")])
        .prop_map(|code| code.map(|code| code.parse().unwrap()))
}

fn any_line() -> impl Strategy<Value = InvoiceLine> {
    let key = prop::option::weighted(
        0.9,
        (prop::sample::select(vec!["PO1", "po1", "PO2", "PO3"]), 0u32..3),
    );
    (
        any::<u32>(),
        any_decimal(),
        any_decimal(),
        any_decimal(),
        any_unit(),
        any::<bool>(),
        key,
    )
        .prop_map(
            |(number, quantity, unit_price, total, unit, amount, key)| InvoiceLine {
                number,
                description: String::new(),
                billed: if amount {
                    Billed::Amount
                } else {
                    Billed::Quantity {
                        quantity,
                        unit_price,
                        unit,
                    }
                },
                total,
                adjustment: None,
                order_line: key.map(|(order, line)| super::key(order, line)),
                order_line_unmapped: None,
                coding: Vec::new(),
                failed_tolerances: false,
                coupa_order: key.map(|(order, line)| coupa_reference(order, line)),
            },
        )
}

fn any_coupa_order() -> impl Strategy<Value = CoupaOrder> {
    let standing = || {
        use CoupaOrderStanding::{Cancelled, Closed, NotIssued, NotTold, Open, SoftClosed, Unknown};
        prop::sample::select(vec![
            NotTold, Open, SoftClosed, Closed, NotIssued, Unknown, Cancelled,
        ])
    };
    let receipt_required = prop::sample::select(vec![None, Some(true), Some(false)]);
    (standing(), standing(), receipt_required).prop_map(|(order, line, required)| {
        let mut found = coupa_order("PO1", order);
        found.lines[0].status = coupa_status(line);
        found.lines[0].receipt_required = required;
        found
    })
}

fn any_receipt() -> impl Strategy<Value = Receipt> {
    (
        0u8..4,
        prop::sample::select(vec!["PO1", "PO2"]),
        0u32..3,
        any_decimal(),
        any_decimal(),
        any::<bool>(),
    )
        .prop_map(|(receiver, order, line, received, vouchered, euro)| {
            let mut found = receipt(&format!("R{receiver}"), order, line, "0", "2026-03-01");
            found.received = received;
            found.vouchered = vouchered;
            found.currency = euro.then(|| "EUR".parse().unwrap());
            found
        })
}

prop_compose! {
    fn any_case()(
        lines in prop::collection::vec(any_line(), 0..6),
        receipts in prop::collection::vec(any_receipt(), 0..6),
        reserved in prop::collection::vec((any_receipt(), any_decimal(), 0u64..3), 0..4),
        figures in prop::array::uniform8(any_decimal()),
        status in prop::sample::select(vec![
            OrderStatus::Open, OrderStatus::Closed, OrderStatus::Cancelled, OrderStatus::Unknown("\u{7}?".into())
        ]),
        credit in any::<bool>(),
        number in prop::option::of("\\PC{0,10}"),
        coupa_order in prop::option::of(any_coupa_order()),
    ) -> Case {
        let mut case = Case::invoice();
        case.orders.extend([order("PO2", vec![order_line(1, "7", "3"), order_line(2, "7", "3")])]);
        case.orders.insert("PO3".parse().unwrap(), None);
        case.order_line().ordered = figures[0];
        case.order_line().unit_price = figures[1];
        case.order_line().status = status;
        case.invoice.lines = lines;
        case.invoice.total = figures[2];
        case.invoice.tax = figures[3];
        case.invoice.charges = vec![
            Charge { kind: ChargeKind::Shipping, amount: figures[4], coding: Vec::new() },
            Charge { kind: ChargeKind::Misc, amount: figures[5], coding: Vec::new() },
        ];
        case.policy.tolerance.limits.price.over.percent = Some(figures[6]);
        case.policy.tolerance.limits.total = Limit::free(figures[7]);
        case.policy.tolerance.limits.price.under.amount = Some(figures[5]);
        case.policy.units =
            [("DZ".to_owned(), UnitConversion { to: "EA".parse().unwrap(), factor: figures[5], items: BTreeMap::new() })].into();
        case.invoice.supplier.number = number;
        if credit {
            case.invoice.kind = DocumentKind::CreditNote;
        }
        case.coupa_orders = coupa_order.map(|order| (fold("PO1"), Some(order))).into_iter().collect();
        case.receipts = receipts;
        case.reservations = reserved
            .into_iter()
            .map(|(receipt, quantity, id)| Reservation { invoice: InvoiceId(id), connection: None, receipt: receipt.key, quantity })
            .collect();
        case
    }
}

/// An approval never claims more of a receiver than is open there, and claims all that was billed.
fn check_approval(case: &Case, draft: &SupplierInvoiceDraft) -> Result<(), TestCaseError> {
    let mut by_receiver: BTreeMap<(&OrderLineKey, &ReceiverNumber), Decimal> = BTreeMap::new();
    for found in &draft.matches {
        *by_receiver
            .entry((&found.order_line, &found.receiver))
            .or_default() += found.quantity.abs();
    }
    for ((order_line, receiver), quantity) in by_receiver {
        let open = case
            .receipts
            .iter()
            .filter(|receipt| receipt.key.order_line == *order_line && receipt.key.receiver == *receiver)
            .map(|receipt| receipt.received.abs() - receipt.vouchered.abs())
            .max();
        prop_assert!(
            open.is_some_and(|open| quantity <= open),
            "{receiver}: {quantity} of {open:?}"
        );
    }
    let matched: Decimal = draft.matches.iter().map(|found| found.quantity).sum();
    let rows = case.decide().report.lines;
    let billed: Decimal = rows
        .iter()
        .filter(|row| !row.nothing_to_post)
        .filter_map(|row| row.this_invoice)
        .sum();
    prop_assert_eq!(matched, billed);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_decides_as_the_naive_matcher_does(world in world()) {
        let case = world.case();
        match (case.decide().verdict, world.naive(true)) {
            (Verdict::Approve { draft }, Some(expected)) => {
                check_approval(&case, &draft)?;
                let matches: Vec<_> = draft.matches.iter().map(|found| {
                    let number: usize = found.receiver.as_str()[1..].parse().unwrap();
                    let quantity: i64 = found.quantity.abs().to_string().parse().unwrap();
                    (number, quantity, found.finished)
                }).collect();
                prop_assert_eq!(matches, expected);
            }
            (Verdict::Approve { draft }, None) => prop_assert!(false, "approved {draft:#?}"),
            (other, Some(expected)) => prop_assert!(false, "{other:#?} although {expected:?}"),
            (verdict, None) => {
                let in_flight = verdict_exceptions(&verdict)
                    .iter()
                    .all(|exception| is_in_flight(exception.code));
                prop_assert_eq!(in_flight, world.naive(false).is_some());
            }
        }
    }

    #[test]
    fn more_goods_never_turn_an_approval_into_anything_else(world in world(), more in 1i64..9, day in 1i8..4) {
        let before = world.case();
        if before.verdict() != "approve" {
            return Ok(());
        }
        let mut goods = world.goods.clone();
        goods.push(Goods { received: if world.credit { -more } else { more }, vouchered: 0, reserved: 0, day });
        prop_assert_eq!(World { goods, ..world }.case().verdict(), "approve");
    }

    #[test]
    fn a_wider_tolerance_never_takes_an_approval_back(
        world in world(), price in 95i64..110, off in -8i64..8, narrow in 0i64..6, wider in 0i64..6
    ) {
        let mut case = world.case();
        for line in &mut case.invoice.lines {
            let Billed::Quantity { quantity, unit_price, .. } = &mut line.billed else { continue };
            *unit_price = Decimal::new(price, 2);
            line.total = *quantity * *unit_price;
        }
        case.invoice.total = case.invoice.lines.iter().map(|line| line.total).sum::<Decimal>() + Decimal::new(off, 2);
        let verdict_at = |percent: i64| {
            let mut case = case.clone();
            let limit = Limit::percent(percent.into());
            case.policy.tolerance.limits.price = crate::policy::Band { over: limit.clone(), under: limit.clone() };
            case.policy.tolerance.limits.received_over = limit.clone();
            case.policy.tolerance.limits.ordered_over = Some(limit);
            case.policy.tolerance.limits.total = Limit::free(Decimal::new(percent, 2));
            case.verdict()
        };
        if verdict_at(narrow) == "approve" {
            prop_assert_eq!(verdict_at(narrow + wider), "approve");
        }
    }

    #[test]
    fn every_document_gets_a_well_formed_decision(case in any_case()) {
        let decision = case.decide();
        prop_assert_eq!(&decision, &case.decide(), "deciding twice gives the same");
        prop_assert_eq!(decision.report.lines.len(), case.invoice.lines.len());
        match &decision.verdict {
            Verdict::Approve { draft } => {
                prop_assert!(decision.report.lines.iter().all(|row| row.exceptions.is_empty()));
                check_approval(&case, draft)?;
            }
            Verdict::Hold { exceptions, awaits } => {
                prop_assert!(!awaits.is_empty() && awaits.is_sorted());
                prop_assert!(exceptions.iter().all(|found| found.code.remedy() == Remedy::TheOtherSystem));
                prop_assert!(exceptions.iter().all(|found| found.order_line.is_some()));
            }
            Verdict::Park { exceptions } => {
                prop_assert!(exceptions.iter().any(|found| found.code.remedy() == Remedy::APerson));
            }
        }
        for found in verdict_exceptions(&decision.verdict) {
            prop_assert!(!found.expected.is_empty() && !found.actual.is_empty());
        }
        let text = serde_json::to_string(&decision).unwrap();
        prop_assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
    }

    /// Whatever Coupa's order says, it makes nothing possible that QAD's order and receipts do not, and changes nothing of
    /// what is posted.
    #[test]
    fn an_order_in_coupa_only_ever_takes_an_approval_away(case in any_case(), world in world(), order in any_coupa_order()) {
        for mut case in [case, world.case()] {
            case.coupa_orders.clear();
            let without = case.decide();
            case.coupa_orders = [(fold("PO1"), Some(order.clone()))].into();
            let with = case.decide();
            if let Verdict::Approve { draft } = &with.verdict {
                prop_assert_eq!(&Verdict::Approve { draft: draft.clone() }, &without.verdict);
            }
            if matches!(without.verdict, Verdict::Park { .. }) {
                let parked = matches!(with.verdict, Verdict::Park { .. });
                prop_assert!(parked, "{with:?}");
            }
        }
    }

    #[test]
    fn reservations_alone_never_park(world in world()) {
        let mut free = world.clone();
        free.goods.iter_mut().for_each(|goods| goods.reserved = 0);
        if free.case().verdict() != "approve" {
            return Ok(());
        }
        let codes = exceptions_of(&world.case());
        prop_assert!(codes.iter().all(|code| is_in_flight(*code)), "{:?}", codes);
    }
}
