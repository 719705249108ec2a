//! What a person tells the product to do with an invoice: accept, take out, take up, name the document, pause. Whatever
//! they say, nothing is posted ahead of its receipt and nothing twice.

use crate::people::keyed_document;
use domain::ids::InvoiceId;
use domain::instruction::{Instruction, SecondPerson};
use flows::neighbours::Home;
use flows::operator::{self, AdoptDeps, Adoption, Done, OperatorError};
use flows::pause;
use flows::ports::{Chance, Clock, HintReason, Voucher};
use flows::store::Context;
use rust_decimal::Decimal;
use sandbox::faults::{Fault, FaultRule, System};
use sandbox::world::World;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tests::gate::{Sim, ready};
use tests::harness::{BEGINNING, Harness, Job, Setup};
use tests::small::{
    INVOICE, ORDER, OTHER, invoice, order, receipt, straight_through, without_receipt, world,
};

/// The person's own clock and tokens.
pub(crate) struct Desk {
    sim: Arc<Sim>,
    tokens: AtomicU64,
}

#[async_trait::async_trait]
impl Clock for Desk {
    fn now(&self) -> domain::time::Timestamp {
        self.sim.now()
    }
    async fn sleep(&self, _: std::time::Duration) {}
}

impl Chance for Desk {
    fn token(&self) -> String {
        format!("desk-{}", self.tokens.fetch_add(1, Ordering::Relaxed))
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

impl Desk {
    pub(crate) fn of(run: &Harness) -> Self {
        static SEATS: AtomicU64 = AtomicU64::new(0);
        Self {
            sim: run.sim.clone(),
            tokens: AtomicU64::new(SEATS.fetch_add(1_000, Ordering::Relaxed)),
        }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            register: self.sim.register.as_ref(),
            clock: self,
            chance: self,
            timing: &self.sim.timing,
            deadline: self.sim.now().plus_seconds(600),
        }
    }

    #[expect(clippy::result_large_err, reason = "a test looks at it once")]
    fn release(&self) -> Result<Done, OperatorError> {
        self.release_by(why(), &SecondPerson::default())
    }

    #[expect(clippy::result_large_err, reason = "a test looks at it once")]
    fn release_by(&self, instruction: Instruction, rule: &SecondPerson) -> Result<Done, OperatorError> {
        ready(operator::release(
            &self.context(),
            INVOICE,
            instruction,
            rule,
            false,
        ))
    }

    #[expect(clippy::result_large_err, reason = "a test looks at it once")]
    fn adopt(
        &self,
        setup: &Setup,
        voucher: &Voucher,
        accepted: Option<Decimal>,
    ) -> Result<Done, OperatorError> {
        self.adopt_as(setup, INVOICE, voucher, accepted)
    }

    /// Takes a document as the one of an invoice.
    #[expect(clippy::result_large_err, reason = "a test looks at it once")]
    pub(crate) fn adopt_as(
        &self,
        setup: &Setup,
        id: InvoiceId,
        voucher: &Voucher,
        accepted: Option<Decimal>,
    ) -> Result<Done, OperatorError> {
        let home = Home {
            connection: "example".parse().unwrap(),
            tenant: tests::harness::tenant(),
        };
        let deps = AdoptDeps {
            context: self.context(),
            home: &home,
            coupa: &self.sim.ports,
            qad: &self.sim.ports,
            settings: &setup.settings,
            entities: &[],
        };
        let adoption = Adoption {
            voucher: voucher.clone(),
            accepted_total: accepted,
            instruction: why(),
        };
        ready(operator::adopt(&deps, id, adoption, false))
    }
}

fn why() -> Instruction {
    Instruction::new("somebody", "agreed with the buyer").unwrap()
}

fn code(result: Result<Done, OperatorError>) -> String {
    match result {
        Ok(done) => format!("done, changed {}", done.changed),
        Err(OperatorError::Refused(problem)) => format!("refused {}", problem.code),
        Err(OperatorError::NotFound(problem)) => format!("not found {}", problem.code),
        Err(other) => format!("failed {other}"),
    }
}

/// Ten pieces billed at 11.00 instead of 10.00, received or not.
fn too_dear(received: bool) -> World {
    let mut dear = invoice(INVOICE, ORDER, 10);
    dear.lines[0].price = Decimal::from(11);
    let receipts = if received {
        vec![receipt(ORDER, "RC1", 10)]
    } else {
        vec![]
    };
    world(vec![order(ORDER, 10)], receipts, vec![dear])
}

fn parked(world: World) -> Harness {
    let mut run = Harness::new(world, &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "parked");
    run
}

#[test]
fn a_released_price_posts_once_and_a_second_release_changes_nothing() {
    let mut run = parked(too_dear(true));
    let desk = Desk::of(&run);
    assert_eq!(code(desk.release()), "done, changed true");
    assert_eq!(code(desk.release()), "done, changed false");
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(code(desk.release()), "done, changed false");
    assert!(run.trail(INVOICE).contains(&"released".to_owned()));
}

#[test]
fn a_bill_that_a_person_says_is_another_one_posts_beside_it() {
    let mut run = crate::competition::the_same_bill_with_a_zero_in_front();
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run.assert_stands(OTHER, "exported", 1);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(
        run.standing(INVOICE),
        ("parked".to_owned(), vec!["NEAR_DUPLICATE".to_owned()])
    );
    assert_eq!(code(Desk::of(&run).release()), "done, changed true");
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(run.documents(INVOICE) + run.documents(OTHER), 2);
}

/// Ten pieces at 11.00: above 109.99, and at 110.00 not.
fn above(limit: &str) -> SecondPerson {
    SecondPerson {
        above: [("USD".parse().unwrap(), limit.parse().unwrap())].into(),
        valid_millis: 86_400_000,
    }
}

fn by(name: &str) -> Instruction {
    Instruction::new(
        &format!("arn:aws:sts::1:assumed-role/Clerk/{name}"),
        "agreed with the buyer",
    )
    .unwrap()
}

fn parked_under(rule: &SecondPerson) -> Harness {
    let mut setup = Setup::default();
    setup.settings.second_person = rule.clone();
    let mut run = Harness::new(too_dear(true), &setup);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "parked");
    run
}

#[test]
fn above_the_limit_a_release_needs_a_second_person_and_at_the_limit_it_does_not() {
    let rule = above("110");
    let mut run = parked_under(&rule);
    assert_eq!(
        code(Desk::of(&run).release_by(by("alice"), &rule)),
        "done, changed true"
    );
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);

    let rule = above("109.99");
    let mut run = parked_under(&rule);
    let desk = Desk::of(&run);
    assert_eq!(code(desk.release_by(by("alice"), &rule)), "done, changed true");
    run.heal();
    run.assert_stands(INVOICE, "parked", 0);
    assert_eq!(
        code(desk.release_by(by("alice"), &rule)),
        "refused SECOND_PERSON_NEEDED"
    );
    run.assert_stands(INVOICE, "parked", 0);
    assert_eq!(code(desk.release_by(by("bob"), &rule)), "done, changed true");
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    let trail = run.trail(INVOICE);
    assert!(trail.contains(&"release-requested".to_owned()) && trail.contains(&"released".to_owned()));
    let release = run.record(INVOICE).unwrap().release.unwrap();
    assert!(release.instruction.by.ends_with("/bob") && release.requested.unwrap().by.ends_with("/alice"));
}

#[test]
fn a_request_expires_and_holds_for_the_content_that_was_seen() {
    let rule = above("109.99");
    let mut run = parked_under(&rule);
    let desk = Desk::of(&run);
    assert_eq!(code(desk.release_by(by("alice"), &rule)), "done, changed true");
    let short = SecondPerson {
        valid_millis: 0,
        ..rule.clone()
    };
    // Too late: it is bob's own request now.
    assert_eq!(code(desk.release_by(by("bob"), &short)), "done, changed true");
    run.assert_stands(INVOICE, "parked", 0);
    assert_eq!(
        code(desk.release_by(by("bob"), &rule)),
        "refused SECOND_PERSON_NEEDED"
    );

    // The bill changes before the second person looks: alice's word is a request for the new one.
    let dearer = |world: &mut World| {
        world.coupa.invoices.get_mut(&INVOICE.0).unwrap().lines[0].price = Decimal::from(12)
    };
    dearer(&mut run.sim.world());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "parked");
    assert_eq!(code(desk.release_by(by("alice"), &rule)), "done, changed true");
    run.heal();
    run.assert_stands(INVOICE, "parked", 0);
    assert_eq!(code(desk.release_by(by("bob"), &rule)), "done, changed true");
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
}

/// Whoever wrote one person's release into the register: the flow that posts does not take it for enough.
#[test]
fn the_flow_that_posts_counts_the_people_itself() {
    let rule = above("109.99");
    let mut run = parked_under(&rule);
    let desk = Desk::of(&run);
    assert_eq!(
        code(desk.release_by(by("alice"), &SecondPerson::default())),
        "done, changed true"
    );
    run.heal();
    run.assert_stands(INVOICE, "parked", 0);
}

#[test]
fn a_release_is_for_the_bill_that_was_seen_and_no_other() {
    let mut run = parked(too_dear(true));
    assert_eq!(code(Desk::of(&run).release()), "done, changed true");
    run.sim.world().coupa.invoices.get_mut(&INVOICE.0).unwrap().lines[0].price = Decimal::from(12);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "parked", 0);
}

#[test]
fn a_release_is_for_the_figures_that_were_seen_and_no_others() {
    let mut run = parked(too_dear(true));
    assert_eq!(code(Desk::of(&run).release()), "done, changed true");
    // The bill is the same; the order has become cheaper, so that the difference is another one.
    let order = (sandbox::world::qad::DOMAIN.to_owned(), ORDER.to_owned());
    run.sim.world().qad.orders.get_mut(&order).unwrap().lines[0]
        .unit_price
        .0 = Decimal::from(9);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    run.assert_stands(INVOICE, "parked", 0);
}

#[test]
fn nothing_is_released_ahead_of_its_receipt() {
    let mut held = Harness::new(without_receipt(), &Setup::default());
    held.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(code(Desk::of(&held).release()), "refused RELEASE_REFUSED");

    let mut run = parked(too_dear(false));
    assert_eq!(code(Desk::of(&run).release()), "refused RELEASE_REFUSED");
    run.heal();
    run.assert_stands(INVOICE, "parked", 0);
}

#[test]
fn a_receipt_that_is_taken_back_after_the_release_holds_it() {
    let mut run = parked(too_dear(true));
    assert_eq!(code(Desk::of(&run).release()), "done, changed true");
    run.sim.world().qad.receipts.clear();
    run.run(Job::Match(INVOICE, HintReason::Sweep));
    assert_eq!(run.documents(INVOICE), 0);
    assert_ne!(run.standing(INVOICE).0, "approved");
}

#[test]
fn what_is_skipped_stays_out_whatever_happens_until_it_is_taken_up() {
    let mut run = Harness::new(without_receipt(), &Setup::default());
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    let desk = Desk::of(&run);
    let skip = |dry| code(ready(operator::skip(&desk.context(), INVOICE, why(), dry)));
    assert_eq!(skip(true), "done, changed true");
    assert_eq!(run.standing(INVOICE).0, "held", "a dry run changes nothing");
    assert_eq!(skip(false), "done, changed true");
    assert_eq!(skip(false), "done, changed false");
    run.sim
        .world()
        .qad
        .post_receipt(receipt(ORDER, "RC1", 10))
        .unwrap();
    for reason in [
        HintReason::Webhook,
        HintReason::Poll,
        HintReason::Operator,
        HintReason::Receipt,
    ] {
        run.run(Job::Match(INVOICE, reason));
        run.assert_stands(INVOICE, "rejected", 0);
    }
    run.heal();
    run.assert_stands(INVOICE, "rejected", 0);
    let reopened = ready(operator::reopen(&desk.context(), INVOICE, why(), false));
    assert_eq!(code(reopened), "done, changed true");
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert_eq!(skip(false), "refused SKIP_REFUSED");
    assert_eq!(run.documents(INVOICE), 1);
}

#[test]
fn a_document_keyed_by_hand_is_adopted_only_when_it_is_proven_to_be_this_invoices() {
    let setup = Setup::default();
    let mut run = Harness::new(straight_through(), &setup);
    let mut keyed = keyed_document();
    keyed.supplier_invoice_reference = format!("INV-{INVOICE}");
    keyed.total_amount.0 = Decimal::from(101);
    run.sim.world().qad.keyed_by_hand(keyed, BEGINNING);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).1, ["QAD_DOCUMENT_FOREIGN"]);
    let desk = Desk::of(&run);
    let identity = identity(&setup);
    let found = ready(flows::ports::Qad::find_invoices(&run.sim.ports, &identity));
    let voucher = found.unwrap()[0].voucher.clone().unwrap();
    let other = Voucher {
        number: voucher.number + 1,
        ..voucher.clone()
    };
    let accepted = Some(Decimal::from(101));
    assert_eq!(
        code(desk.adopt(&setup, &other, accepted)),
        "not found QAD_DOCUMENT_NOT_FOUND"
    );
    assert_eq!(code(desk.adopt(&setup, &voucher, None)), "refused ADOPT_REFUSED");
    assert_eq!(
        code(desk.adopt(&setup, &voucher, Some(Decimal::from(100)))),
        "refused ADOPT_REFUSED"
    );
    assert_eq!(code(desk.adopt(&setup, &voucher, accepted)), "done, changed true");
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    assert!(run.exported(INVOICE));
    assert_eq!(
        code(desk.adopt(&setup, &voucher, accepted)),
        "done, changed false"
    );
}

#[test]
fn a_document_of_another_invoice_is_never_adopted() {
    let setup = Setup::default();
    let mut run = Harness::new(straight_through(), &setup);
    let mut keyed = keyed_document();
    keyed.supplier_invoice_reference = format!("INV-{INVOICE}");
    keyed.description = "Coupa 70011".to_owned();
    run.sim.world().qad.keyed_by_hand(keyed, BEGINNING);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    let identity = identity(&setup);
    let found = ready(flows::ports::Qad::find_invoices(&run.sim.ports, &identity));
    let voucher = found.unwrap()[0].voucher.clone().unwrap();
    assert_eq!(
        code(Desk::of(&run).adopt(&setup, &voucher, None)),
        "refused ADOPT_REFUSED"
    );
}

fn identity(setup: &Setup) -> domain::ids::QadInvoiceIdentity {
    domain::ids::QadInvoiceIdentity {
        entity: setup.settings.policy.entity.clone(),
        supplier: "S1001".parse().unwrap(),
        reference: format!("INV-{INVOICE}").parse().unwrap(),
        kind: domain::ids::DocumentKind::Invoice,
    }
}

fn set_pause(desk: &Desk, paused: bool) -> bool {
    ready(pause::set(&desk.context(), pause::Flow::Invoices, paused, why())).unwrap()
}

#[test]
fn a_pause_begins_nothing_loses_nothing_and_ends() {
    let mut run = Harness::new(straight_through(), &Setup::default());
    let desk = Desk::of(&run);
    assert!(set_pause(&desk, true));
    assert!(!set_pause(&desk, true), "paused already");
    for reason in [HintReason::Webhook, HintReason::Poll, HintReason::Sweep] {
        run.run(Job::Match(INVOICE, reason));
        run.assert_stands(INVOICE, "received", 0);
    }
    let delayed = run.record(INVOICE).unwrap().delay.unwrap();
    assert_eq!(delayed.code, pause::PAUSED);
    assert!(set_pause(&desk, false));
    run.recheck();
    run.assert_stands(INVOICE, "exported", 1);
}

/// Approved before the pause, not sent yet: the pause takes it back, also from under a worker that is about to send.
#[test]
fn a_pause_stops_what_is_approved_and_not_on_its_way() {
    let mut run = Harness::new(straight_through(), &Setup::default());
    let lost = FaultRule::next(System::Qad, "supplier-invoices.find", None, Fault::LostBefore);
    run.sim.ports.faults.lock().unwrap().arm(lost);
    run.run(Job::Match(INVOICE, HintReason::Webhook));
    assert_eq!(run.standing(INVOICE).0, "approved");
    set_pause(&Desk::of(&run), true);
    run.run(Job::Match(INVOICE, HintReason::Sweep));
    run.assert_stands(INVOICE, "received", 0);
}

/// Exported by others and proven to be in QAD: it is taken over at once. Not in QAD: taken in, it is posted. Repeating
/// changes nothing.
#[test]
fn what_others_exported_is_taken_in_and_never_posted_beside_its_document() {
    for keyed in [true, false] {
        let mut world = straight_through();
        world.coupa.invoices.get_mut(&INVOICE.0).unwrap().exported = true;
        let mut run = Harness::new(world, &Setup::default());
        if keyed {
            let mut document = keyed_document();
            document.supplier_invoice_reference = format!("INV-{INVOICE}");
            run.sim.world().qad.keyed_by_hand(document, BEGINNING);
        }
        run.run(Job::Match(INVOICE, HintReason::Webhook));
        let desk = Desk::of(&run);
        let take = || code(ready(operator::take_in(&desk.context(), INVOICE, why(), false)));
        if keyed {
            run.assert_stands(INVOICE, "exported", 1);
        } else {
            assert_eq!(run.standing(INVOICE).1, ["EXPORTED_BY_OTHERS"]);
            assert_eq!(take(), "done, changed true");
        }
        assert_eq!(take(), "done, changed false");
        run.heal();
        run.assert_stands(INVOICE, "exported", 1);
        assert_eq!(take(), "done, changed false");
    }
}

#[test]
fn an_invoice_nobody_knows_is_not_found() {
    let run = Harness::new(straight_through(), &Setup::default());
    let desk = Desk::of(&run);
    let skipped = ready(operator::skip(&desk.context(), InvoiceId(1), why(), false));
    assert_eq!(code(skipped), "not found INVOICE_NOT_FOUND");
}
