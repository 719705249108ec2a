//! The payments of the day: invoices that QAD pays in every way there is, and what Coupa must show of it in the end.

use super::{Case, Day, Scenario, Seller, Step, amount, dec, whole};
use crate::faults::{Fault, System};
use crate::world::World;
use crate::world::qad::{Exact, PaymentAllocation};
use domain::ids::DocumentKind;
use domain::time::Timestamp;
use rust_decimal::Decimal;
use serde_json::Value;

/// First numbers of the documents of these stories, clear of those of the other stories.
const FIRST_INVOICE: u64 = 94_001;
const FIRST_ORDER: u32 = 4_700_101;
const FIRST_RECEIVER: u32 = 6_001;
/// Year of all payment numbers.
const PAYMENT_YEAR: u32 = 2026;

/// What must be shown of an invoice's payments in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedBill {
    /// The story it belongs to.
    pub story: &'static str,
    /// The Coupa invoice.
    pub invoice: u64,
    /// Its entries in Coupa, in order: QAD's key and the amount.
    pub entries: Vec<(String, Decimal)>,
    /// Coupa's paid flag.
    pub paid: bool,
    /// The word of its ledger.
    pub word: &'static str,
    /// Why it is parked or left alone; blank when it is not.
    pub code: &'static str,
}

/// The stories of payments.
#[derive(Debug, Clone, Default)]
pub struct PaymentDay {
    /// To be played like the others.
    pub scenarios: Vec<Scenario>,
    /// What Coupa must show of each invoice.
    pub bills: Vec<ExpectedBill>,
    /// References of supplier invoices whose payments must be shown as unmatched.
    pub unmatched: Vec<String>,
}

/// Puts a payment into QAD as it stands today: a new one is dated today, a known one keeps its date.
pub fn save(world: &mut World, payment: &PaymentAllocation, now: Timestamp) {
    let mut payment = payment.clone();
    payment.last_modified = now.date_utc();
    let is_it = |known: &&PaymentAllocation| {
        (known.year, known.number, known.allocation) == (payment.year, payment.number, payment.allocation)
            && known.instrument == payment.instrument
    };
    let known = world.qad.payments.iter().find(is_it);
    payment.payment_date = known.map_or(payment.last_modified, |known| known.payment_date);
    world.qad.save_payment(payment);
}

/// What differs between an invoice in Coupa and what must be shown of it; `None` when nothing does.
pub fn differs_in_coupa(world: &World, expected: &ExpectedBill) -> Option<String> {
    let Some(invoice) = world.coupa.invoices.get(&expected.invoice) else {
        return Some(format!("invoice {} is not in Coupa", expected.invoice));
    };
    let shown: Vec<(&str, Decimal)> = invoice
        .payments
        .iter()
        .map(|entry| (entry.notes.as_deref().unwrap_or_default(), entry.amount_paid))
        .collect();
    let same = shown.len() == expected.entries.len()
        && shown.iter().zip(&expected.entries).all(|(shown, wanted)| {
            let rest = shown.0.strip_prefix(wanted.0.as_str());
            rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric)) && shown.1 == wanted.1
        });
    if same && invoice.paid == expected.paid {
        return None;
    }
    Some(format!(
        "Coupa shows {shown:?}, paid {}, of invoice {}; expected {:?}, paid {}",
        invoice.paid, expected.invoice, expected.entries, expected.paid
    ))
}

/// The stories of a seed.
pub fn payments(seed: u64) -> PaymentDay {
    let mut day = Day::new(seed);
    day.next_invoice = FIRST_INVOICE;
    day.next_order = FIRST_ORDER;
    day.next_receiver = FIRST_RECEIVER;
    let mut paying = Paying {
        day,
        told: PaymentDay::default(),
        next_number: 1_201,
    };
    in_full_and_in_part(&mut paying);
    taken_back(&mut paying);
    shared(&mut paying);
    doubtful(&mut paying);
    paying.told.scenarios = paying.day.scenarios;
    paying.told
}

struct Paying {
    day: Day,
    told: PaymentDay,
    next_number: u64,
}

/// One allocation of a story, before it is known which invoice it pays.
#[derive(Debug, Clone)]
struct Paid(PaymentAllocation);

impl Paid {
    fn key(&self) -> String {
        let one = &self.0;
        format!(
            "QAD {} {}/{}/{}#{}",
            crate::world::qad::ENTITY,
            one.year,
            one.instrument,
            one.number,
            one.allocation
        )
    }

    fn now(&self, status: &str) -> Step {
        let mut payment = self.0.clone();
        payment.status = status.to_owned();
        Step::SavePayment(payment)
    }

    fn entry(&self) -> (String, Decimal) {
        (self.key(), self.0.allocated.0)
    }

    fn taken_back(&self) -> (String, Decimal) {
        (self.key(), Decimal::ZERO.saturating_sub(self.0.allocated.0))
    }
}

impl Paying {
    /// The next payment number.
    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        number
    }

    fn allocation(&mut self, invoice: u64, paid: Decimal, discount: Decimal) -> Paid {
        let number = self.number();
        Self::part_of(number, 1, invoice, paid, discount)
    }

    fn part_of(number: u64, allocation: u32, invoice: u64, paid: Decimal, discount: Decimal) -> Paid {
        Paid(PaymentAllocation {
            year: PAYMENT_YEAR,
            allocation,
            reference: format!("ACH-{number:05}"),
            status: "Initial".to_owned(),
            discount: Exact(discount),
            ..PaymentAllocation::of(
                number,
                "S1001",
                format!("INV-{invoice}"),
                paid,
                super::INVOICE_DATE,
            )
        })
    }

    /// A story about one or more invoices of 500.00 USD each that are posted by themselves; it is told their first number.
    fn story(
        &mut self,
        name: &'static str,
        about: &'static str,
        invoices: usize,
        tell: impl FnOnce(&mut Self, &mut Vec<Step>, u64),
    ) {
        let first = self.day.next_invoice;
        let mut steps = Vec::new();
        tell(self, &mut steps, first);
        self.day.case(name, about, Seller::Fasteners, |case| {
            for _ in 0..invoices {
                let invoice = posted_invoice(case, |_| {});
                case.posted(invoice);
            }
            case.scenario.steps.extend(steps);
        });
    }

    fn expect(&mut self, story: &'static str, invoice: u64, entries: Vec<(String, Decimal)>, paid: bool) {
        self.told.bills.push(ExpectedBill {
            story,
            invoice,
            entries,
            paid,
            word: "settled",
            code: "",
        });
    }
}

/// An invoice of 40 pieces at 12.50, received, sent, and waited for.
fn posted_invoice(case: &mut Case<'_>, edit: impl FnOnce(&mut crate::world::coupa::CoupaInvoice)) -> u64 {
    let bill = case.received_order(whole(40), amount(12, 50));
    let invoice = case.invoice_with(&[bill], edit);
    case.send(invoice);
    case.step(Step::WaitForState {
        invoice,
        state: "exported",
    });
    invoice
}

fn wait(steps: &mut Vec<Step>, invoice: u64, entries: usize) {
    steps.push(Step::WaitForPayments { invoice, entries });
}

fn in_full_and_in_part(paying: &mut Paying) {
    paying.story(
        "paid in full",
        "QAD pays all of it.",
        1,
        |paying, steps, invoice| {
            let paid = paying.allocation(invoice, whole(500), Decimal::ZERO);
            steps.extend([paid.now("Initial"), paid.now("For Collection"), paid.now("Paid")]);
            paying.expect("paid in full", invoice, vec![paid.entry()], true);
        },
    );
    paying.story(
        "paid in part, then the rest",
        "Two payments; the second one pays the bill.",
        1,
        |paying, steps, invoice| {
            let first = paying.allocation(invoice, dec(20_125, 2), Decimal::ZERO);
            let rest = paying.allocation(invoice, dec(29_875, 2), Decimal::ZERO);
            steps.push(first.now("Paid"));
            wait(steps, invoice, 1);
            steps.push(rest.now("Paid"));
            let entries = vec![first.entry(), rest.entry()];
            paying.expect("paid in part, then the rest", invoice, entries, true);
        },
    );
    paying.story(
        "paid less a discount",
        "490.00 paid and 10.00 discount taken settle 500.00.",
        1,
        |paying, steps, invoice| {
            let paid = paying.allocation(invoice, whole(490), whole(10));
            steps.push(paid.now("Paid"));
            paying.expect("paid less a discount", invoice, vec![paid.entry()], true);
        },
    );
    paying.story(
        "paid in part only",
        "The rest is for collection and does not count yet.",
        1,
        |paying, steps, invoice| {
            let first = paying.allocation(invoice, whole(300), Decimal::ZERO);
            let open = paying.allocation(invoice, whole(200), Decimal::ZERO);
            steps.extend([first.now("Paid"), open.now("For Collection")]);
            paying.expect("paid in part only", invoice, vec![first.entry()], false);
        },
    );
    let number = paying.number();
    let story = "credit note settled";
    paying.day.case(
        story,
        "A payment run takes the credit with it.",
        Seller::Fasteners,
        |case| {
            let bill = case.order(whole(10), amount(30, 0));
            case.received_with(&bill, whole(10), |receipt| {
                receipt.vouchered = Exact(whole(10));
                receipt.finished = true;
            });
            case.received_with(&bill, dec(-4, 0), |receipt| receipt.is_return = true);
            let invoice = case.invoice_with(&[bill.of(dec(-4, 0))], |invoice| {
                invoice.kind = DocumentKind::CreditNote;
                invoice.original_number = Some("INV-90001".to_owned());
            });
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "exported",
            });
            let mut paid = Paying::part_of(number, 1, invoice, dec(-120, 0), Decimal::ZERO);
            paid.0.invoice_type = "CREDITNOTE".to_owned();
            case.step(paid.now("Paid"));
            case.posted(invoice);
            paying.told.bills.push(ExpectedBill {
                story,
                invoice,
                entries: vec![paid.entry()],
                paid: true,
                word: "settled",
                code: "",
            });
        },
    );
}

fn taken_back(paying: &mut Paying) {
    paying.story(
        "void after paid",
        "The cheque is voided: one negative entry, once.",
        1,
        |paying, steps, invoice| {
            let paid = paying.allocation(invoice, whole(500), Decimal::ZERO);
            steps.push(paid.now("Paid"));
            wait(steps, invoice, 1);
            steps.push(paid.now("Void"));
            let entries = vec![paid.entry(), paid.taken_back()];
            paying.expect("void after paid", invoice, entries, false);
        },
    );
    paying.story(
        "bounced, then paid again",
        "The first payment bounces while the second one is on its way.",
        1,
        |paying, steps, invoice| {
            let bounced = paying.allocation(invoice, whole(500), Decimal::ZERO);
            let again = paying.allocation(invoice, whole(500), Decimal::ZERO);
            steps.push(bounced.now("Paid"));
            wait(steps, invoice, 1);
            steps.extend([again.now("Paid"), bounced.now("Bounced")]);
            let entries = vec![bounced.entry(), bounced.taken_back(), again.entry()];
            paying.expect("bounced, then paid again", invoice, entries, true);
        },
    );
    paying.story(
        "void before it was seen",
        "A payment that Coupa never showed is not taken back.",
        1,
        |paying, steps, invoice| {
            let void = paying.allocation(invoice, whole(500), Decimal::ZERO);
            let paid = paying.allocation(invoice, whole(500), Decimal::ZERO);
            steps.extend([void.now("Void"), paid.now("Paid")]);
            paying.expect("void before it was seen", invoice, vec![paid.entry()], true);
        },
    );
}

fn shared(paying: &mut Paying) {
    paying.story(
        "one payment for two invoices",
        "Each invoice gets its own allocation.",
        2,
        |paying, steps, invoice| {
            let number = paying.number();
            for (allocation, invoice) in (1..=2).zip(invoice..) {
                let part = Paying::part_of(number, allocation, invoice, whole(500), Decimal::ZERO);
                steps.push(part.now("Paid"));
                paying.expect("one payment for two invoices", invoice, vec![part.entry()], true);
            }
        },
    );
    paying.story(
        "payment of a stranger's invoice",
        "QAD pays an invoice this product never had: recorded and shown, never guessed.",
        1,
        |paying, steps, invoice| {
            let mut stranger = paying.allocation(invoice, whole(500), Decimal::ZERO);
            stranger.0.invoice_reference = "PAPER-7781".to_owned();
            steps.push(stranger.now("Paid"));
            paying.told.unmatched.push("PAPER-7781".to_owned());
            let paid = paying.allocation(invoice, whole(500), Decimal::ZERO);
            steps.push(paid.now("Paid"));
            paying.expect(
                "payment of a stranger's invoice",
                invoice,
                vec![paid.entry()],
                true,
            );
        },
    );
}

fn doubtful(paying: &mut Paying) {
    paying.story(
        "paid more than the bill",
        "The second payment would be too much: parked, and nothing more is written.",
        1,
        |paying, steps, invoice| {
            let paid = paying.allocation(invoice, whole(500), Decimal::ZERO);
            let twice = paying.allocation(invoice, whole(500), Decimal::ZERO);
            steps.push(paid.now("Paid"));
            wait(steps, invoice, 1);
            steps.push(twice.now("Paid"));
            paying.told.bills.push(ExpectedBill {
                story: "paid more than the bill",
                invoice,
                entries: vec![paid.entry()],
                paid: true,
                word: "parked",
                code: "PAID_OVER_TOTAL",
            });
        },
    );
    paying.story(
        "payment whose answer is lost",
        "Coupa has taken it and the answer is lost: looked up, and there once.",
        1,
        |paying, steps, invoice| {
            let paid = paying.allocation(invoice, dec(49_999, 2), dec(1, 2));
            let key = invoice.to_string();
            let lost =
                crate::faults::FaultRule::next(System::Coupa, "invoices.pay", Some(&key), Fault::LostAfter);
            steps.extend([Step::ArmFault(lost), paid.now("Paid")]);
            paying.expect("payment whose answer is lost", invoice, vec![paid.entry()], true);
        },
    );
    let (story, number) = ("paid by Coupa", paying.number());
    paying.day.case(
        story,
        "A virtual card of Coupa pays it, and QAD pays it too: a person's.",
        Seller::Fasteners,
        |case| {
            let invoice = posted_invoice(case, |invoice| {
                let channel = Value::from("Coupa Pay Virtual Card");
                invoice.overrides.insert("payment-channel".to_owned(), channel);
            });
            let paid = Paying::part_of(number, 1, invoice, whole(500), Decimal::ZERO);
            case.step(paid.now("Paid"));
            case.posted(invoice);
            paying.told.bills.push(ExpectedBill {
                story,
                invoice,
                entries: vec![],
                paid: false,
                word: "parked",
                code: "PAID_TWICE",
            });
        },
    );
    paying.day.case(
        "order corrected in Coupa",
        "QAD gets the order, and Coupa's event about it wakes the invoice that waits.",
        Seller::Fasteners,
        |case| {
            let (order, bill) = case.later_order(whole(15), amount(9, 0));
            let invoice = case.invoice(&[bill]);
            case.send(invoice);
            case.step(Step::WaitForState {
                invoice,
                state: "held",
            });
            case.step(Step::AddOrder(order.clone()));
            case.step(Step::SendOrderEvent(order));
            // Nothing is received, so only the event can have told it that the order is there.
            case.held(invoice, "RECEIPT_MISSING");
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_stories_do_not_use_each_others_documents() {
        let paid = payments(1);
        let others: BTreeSet<u64> = super::super::day(1)
            .iter()
            .flat_map(|scenario| &scenario.invoices)
            .map(|invoice| invoice.id)
            .collect();
        for scenario in &paid.scenarios {
            for invoice in &scenario.invoices {
                assert!(!others.contains(&invoice.id), "{}", invoice.id);
            }
        }
        let told: BTreeSet<u64> = paid.bills.iter().map(|bill| bill.invoice).collect();
        assert_eq!(told.len(), paid.bills.len(), "one expectation for each bill");
    }

    #[test]
    fn what_differs_in_coupa_is_noticed() {
        let day = payments(1);
        let now = Timestamp(1_774_000_000_000);
        let mut world = World::seed(&day.scenarios, now);
        let expected = &day.bills[0];
        assert!(differs_in_coupa(&world, expected).is_some());
        let invoice = world.coupa.invoices.get_mut(&expected.invoice).unwrap();
        invoice.paid = true;
        invoice.payments.push(crate::world::coupa::CoupaPayment {
            id: 1,
            amount_paid: expected.entries[0].1,
            payment_date: None,
            notes: Some(format!("{} ACH", expected.entries[0].0)),
        });
        assert_eq!(differs_in_coupa(&world, expected), None);
        let longer = format!("{}1", expected.entries[0].0);
        world.coupa.invoices.get_mut(&expected.invoice).unwrap().payments[0].notes = Some(longer);
        assert!(differs_in_coupa(&world, expected).is_some());
    }

    #[test]
    fn a_change_of_status_keeps_the_payment_date() {
        let mut world = World::default();
        let paid = Paying::part_of(1, 1, 7, whole(5), Decimal::ZERO);
        let first = Timestamp(1_774_000_000_000);
        save(&mut world, &paid.0, first);
        save(&mut world, &paid.0, first.plus_millis(10 * 86_400_000));
        assert_eq!(world.qad.payments.len(), 1);
        assert_eq!(world.qad.payments[0].payment_date, first.date_utc());
        assert!(world.qad.payments[0].last_modified > first.date_utc());
    }
}
