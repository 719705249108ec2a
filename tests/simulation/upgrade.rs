//! What an upgrade does to what is stored: a small life's records, audit trail and index, as a release has written them
//! (`layouts/<version>.json`), are read by this version, which goes on with them as if it had written them itself.
//!
//! At a release its own are added: see CONTRIBUTING.md.

use crate::instructions::Desk;
use domain::instruction::Instruction;
use domain::time::Timestamp;
use flows::connection_settings::{self, ConnectionSettings, DocumentChange, Way};
use flows::opening::{self, Openings};
use flows::ports::{HintReason, RecordKey};
use flows::store::{load, verify_chain};
use flows::{index, month_end, owner, pause, published, reconcile, restore};
use rust_decimal::Decimal;
use sandbox::world::World;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use tests::gate::{OWNER_LOOKUP, ready};
use tests::harness::{Harness, Job, Setup};
use tests::memory_register::MemoryStore;
use tests::small::{INVOICE, OTHER, invoice, order, receipt, world};

/// Where the fixtures are.
const FOLDER: &str = "layouts";
/// Names the release whose fixture is written; it must not exist.
const WRITES: &str = "WRITE_LAYOUT";
/// Held for its receipt, and parked for its price.
const HELD: domain::ids::InvoiceId = domain::ids::InvoiceId(7_003);
const PARKED: domain::ids::InvoiceId = domain::ids::InvoiceId(7_004);
const MONTH: &str = "2026-02";

/// Every kind of record that a connection keeps: the life has one of each. (What marks that a supplier is awaited holds nothing, and the
/// suppliers' plan is a plan like a lookup's, and nothing is reserved on orders any more.)
const KINDS: [&str; 25] = [
    "effect",
    "entry bill",
    "entry lookup-plan",
    "entry lookup-value",
    "entry supplier",
    "entry unmatched-payment",
    "invoice",
    "receipt",
    "shared",
    "waiting",
    "waiting-for-order",
    "watermark connection-settings",
    "watermark changed-invoices",
    "watermark index",
    "watermark month-",
    "watermark open-from",
    "watermark orders",
    "watermark owner",
    "watermark pause",
    "watermark payments",
    "watermark published",
    "watermark receipts",
    "watermark reconcile",
    "watermark restored",
    "watermark suppliers",
];

fn kind(key: &RecordKey) -> String {
    match key {
        RecordKey::Invoice(_) => "invoice".to_owned(),
        RecordKey::Effect(_) => "effect".to_owned(),
        RecordKey::Order(_) => "order".to_owned(),
        RecordKey::Waiting(..) => "waiting".to_owned(),
        RecordKey::WaitingForOrder(..) => "waiting-for-order".to_owned(),
        RecordKey::Receipt(_) => "receipt".to_owned(),
        RecordKey::Shared { .. } => "shared".to_owned(),
        RecordKey::Entry { collection, .. } => format!("entry {}", collection.word()),
        RecordKey::Watermark(name) => {
            let known = KINDS.iter().filter_map(|kind| kind.strip_prefix("watermark "));
            let known = known.into_iter().find(|known| name.starts_with(known));
            format!("watermark {}", known.unwrap_or(name))
        }
    }
}

fn setup() -> Setup {
    Setup {
        suppliers: Some(tests::people::supplier_policy(1)),
        lookups: tests::people::lookups().into_iter().take(1).collect(),
        owner_lookup: Some(OWNER_LOOKUP.to_owned()),
        ..Setup::default()
    }
}

fn beginning() -> World {
    let mut dear = invoice(PARKED, "PO9", 10);
    for line in &mut dear.lines {
        line.price = Decimal::from(12);
    }
    let mut other = invoice(OTHER, "PO7", 10);
    other.status = "pending_approval".to_owned();
    let orders = ["PO7", "PO8", "PO9"].map(|number| order(number, 20));
    let receipts = vec![receipt("PO7", "RC1", 20), receipt("PO9", "RC3", 10)];
    let invoices = vec![invoice(INVOICE, "PO7", 10), other, invoice(HELD, "PO8", 10), dear];
    world(orders.into(), receipts, invoices)
}

/// A small life in which every kind of record comes to be, at rest.
fn life() -> (MemoryStore, Harness) {
    let store = MemoryStore::default();
    let mut run = Harness::over(&store, beginning(), &setup());
    for _ in 0..4 {
        run.align_all();
    }
    for id in [INVOICE, HELD, PARKED] {
        run.run(Job::Match(id, HintReason::Webhook));
    }
    let mut payments = vec![crate::payments::allocation(1, 60, "Paid")];
    let mut elsewhere = crate::payments::allocation(2, 10, "Paid");
    elsewhere.invoice_reference = "INV-elsewhere".to_owned();
    payments.push(elsewhere);
    run.sim.world().qad.payments.extend(payments);
    for poll in [
        Job::PollCoupa,
        Job::PollReceipts,
        Job::PollOrders,
        Job::PollPayments,
    ] {
        run.run(poll);
        run.deliver_all();
    }
    run.run(Job::Reconcile);
    people(&run);
    (store, run)
}

/// What people have said and decided.
fn people(run: &Harness) {
    let desk = Desk::of(run);
    let context = desk.context();
    let why = || Instruction::new("ann", "so that it is kept").unwrap();
    let register = run.sim.register.as_ref();
    ready(pause::set(&context, pause::Flow::Lookups, true, why())).unwrap();
    let entity = sandbox::world::qad::ENTITY.parse().unwrap();
    ready(opening::say(
        &context,
        &entity,
        "2026-01-01".parse().unwrap(),
        why(),
    ))
    .unwrap();
    ready(restore::begin(&context, 0, &why())).unwrap();
    let seen = ready(month_end::of(register, MONTH)).unwrap().revision;
    ready(month_end::sign(&context, MONTH, seen, why(), "{}".to_owned())).unwrap();
    let above = domain::instruction::SecondPerson::default();
    ready(published::publish(&context, &published::Published::of(&above))).unwrap();
    let change = DocumentChange {
        document: "connection".to_owned(),
        before: "version-1".to_owned(),
        settings: BTreeSet::from(["/hold_recheck_seconds".to_owned()]),
    };
    let known = ready(connection_settings::known(register)).unwrap();
    let now = [("connection".to_owned(), "version-1".to_owned())].into();
    ready(connection_settings::say(
        &context,
        (known, &now),
        Way::Forward,
        vec![change],
        why(),
    ))
    .unwrap();
    let books = run.sim.index.as_ref();
    while !ready(index::rebuild_step(&context, books)).unwrap().complete {}
}

fn written(store: &MemoryStore, run: &Harness) -> Value {
    json!({ "at": run.sim.now(), "stored": store.to_json() })
}

/// Goes on with what is stored, in the world in which it was written.
fn goes_on(store: &MemoryStore, at: Timestamp) {
    let (_, lived) = life();
    let world = lived.sim.world().clone();
    let mut run = Harness::over(store, world, &setup());
    run.sim.advance_to(at.0);
    people_are_heard(&run);
    run.heal();
    run.assert_stands(INVOICE, "exported", 1);
    run.assert_stands(HELD, "held", 0);
    run.assert_stands(PARKED, "parked", 0);
    // What waits goes on when its cause is gone, and what is new beside it.
    let now = run.sim.now();
    let mut come = receipt("PO8", "RC2", 10);
    come.date = now.date_utc();
    run.sim.world().qad.post_receipt(come).unwrap();
    let rest = crate::payments::allocation(3, 40, "Paid");
    run.sim.world().qad.payments.push(rest);
    let approved = |world: &mut World| {
        let other = world.coupa.invoices.get_mut(&OTHER.0).unwrap();
        other.status = "approved".to_owned();
    };
    approved(&mut run.sim.world());
    run.run(Job::Match(OTHER, HintReason::Webhook));
    run.heal();
    run.assert_stands(HELD, "exported", 1);
    run.assert_stands(OTHER, "exported", 1);
    run.assert_stands(INVOICE, "exported", 1);
    let paid: Vec<Decimal> = {
        let world = run.sim.world();
        let payments = world.coupa.invoices[&INVOICE.0].payments.iter();
        payments.map(|payment| payment.amount_paid).collect()
    };
    assert_eq!(paid, [60, 40].map(Decimal::from), "each once, before and after");
    for trail in store.trails() {
        verify_chain(&trail).unwrap();
    }
}

/// What people have said counts on.
fn people_are_heard(run: &Harness) {
    let register = run.sim.register.as_ref();
    assert!(
        ready(pause::of(register, pause::Flow::Lookups))
            .unwrap()
            .is_some()
    );
    let openings = ready(load::<Openings>(register, opening::key()))
        .unwrap()
        .unwrap();
    let entity = sandbox::world::qad::ENTITY.parse().unwrap();
    assert!(openings.document.of(&entity).is_some());
    let month = ready(month_end::of(register, MONTH)).unwrap();
    assert_eq!(month.revision, 1);
    let settings = ready(load::<ConnectionSettings>(register, connection_settings::key()));
    assert_eq!(settings.unwrap().unwrap().document.last.len(), 1);
    assert!(ready(owner::known(register)).unwrap().is_some());
    assert!(ready(reconcile::known(register)).unwrap().last.is_some());
    assert!(ready(published::of(register)).unwrap().is_some());
    assert!(ready(index::progress(register)).unwrap().complete);
}

#[test]
fn the_life_has_every_kind_of_record() {
    let (store, run) = life();
    let found: BTreeSet<String> = store.keys().iter().map(kind).collect();
    let wanted: BTreeSet<String> = KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    let missing: Vec<&String> = wanted.difference(&found).collect();
    assert!(
        missing.is_empty(),
        "missing {missing:?} of {found:?}\n{}",
        run.story()
    );
}

#[test]
fn what_each_release_has_stored_is_read_and_goes_on() {
    let mut read = 0;
    for file in std::fs::read_dir(FOLDER).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let written: Value = serde_json::from_str(&text).unwrap();
        let at = serde_json::from_value(written["at"].clone()).unwrap();
        goes_on(&MemoryStore::from_json(&written["stored"]).unwrap(), at);
        read += 1;
    }
    assert!(read > 0, "no release has left what it stored in {FOLDER}");
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "whoever makes a release says its name; without one nothing is written"
)]
fn a_release_leaves_what_it_stores() {
    let (store, run) = life();
    let text = serde_json::to_string_pretty(&written(&store, &run)).unwrap();
    // What is written reads back as what it was.
    let back: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        MemoryStore::from_json(&back["stored"]).unwrap().to_json(),
        store.to_json()
    );
    if let Ok(version) = std::env::var(WRITES) {
        let path = Path::new(FOLDER).join(format!("{version}.json"));
        let mut file = std::fs::File::create_new(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }
}
