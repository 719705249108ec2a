//! What [`Register`] promises, as a suite that every implementation must pass.
//!
//! Each case works for a connection of its own, so one store serves them all, and a store that mixes connections up
//! fails more than the case about that.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a suite of assertions, run by tests alone"
)]

use domain::ids::{ConnectionId, InvoiceId, OrderLineKey, ReceiptKey};
use domain::time::Timestamp;
use flows::ports::{
    AuditEntry, Books, COMMIT_WRITES_MAX, Collection, Commit, CommitError, IndexRow, IndexWrite, RecordGroup,
    RecordKey, RecordWrite, Register, RowsAsked, StoredRecord, TALLY_PARTS, Tally,
};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives the register of a connection, always of the same store.
pub(crate) type Views<'a> = &'a (dyn Fn(ConnectionId) -> Arc<dyn Books> + Sync);

/// Runs every case. Must be called inside a tokio runtime; races are real when that has several threads.
pub(crate) async fn run(views: Views<'_>) {
    let view = |name: &str| views(name.parse().unwrap());
    reads_what_was_written(&*view("reads")).await;
    compares_and_sets(&*view("cas")).await;
    writes_all_or_nothing(&*view("atomic")).await;
    knows_a_repeat(&*view("repeat")).await;
    checks_without_writing(&*view("check")).await;
    deletes(&*view("delete")).await;
    keeps_any_text(&*view("text")).await;
    reads_many(&*view("many")).await;
    lists_groups(&*view("groups")).await;
    lists_long_groups_whole(&*view("long")).await;
    lists_what_waits_for_an_order(&*view("order")).await;
    tells_what_is_due(&*view("due")).await;
    tells_which_members_are_due(&*view("due-members")).await;
    only_appends_to_the_audit_trail(&*view("audit")).await;
    refuses_what_is_not_a_commit(&*view("refuses")).await;
    takes_the_largest_commit(&*view("largest")).await;
    pages_through_invoices(&*view("pages")).await;
    keeps_connections_apart(&*view("one"), &*view("one-2")).await;
    lets_one_racer_win(view("race")).await;
    loses_no_update(view("count")).await;
    keeps_the_index_with_its_invoice(&*view("index"), &*view("index-2")).await;
    counts_what_many_write_at_once(view("tallies")).await;
}

static TOKENS: AtomicU64 = AtomicU64::new(0);

fn commit(writes: Vec<RecordWrite>, audit: Vec<AuditEntry>) -> Commit {
    Commit {
        token: format!("contract-{}", TOKENS.fetch_add(1, Ordering::SeqCst)),
        writes,
        audit,
    }
}

fn invoice(id: u64) -> RecordKey {
    RecordKey::Invoice(InvoiceId(id))
}

fn effect(identity: &str) -> RecordKey {
    RecordKey::Effect(identity.to_owned())
}

fn put(key: RecordKey, seen: u64, body: &str) -> RecordWrite {
    RecordWrite::Put {
        key,
        seen,
        body: body.to_owned(),
        state: "held".to_owned(),
        due: None,
    }
}

fn put_due(id: u64, seen: u64, due: Option<i64>) -> RecordWrite {
    let due = due.map(Timestamp);
    RecordWrite::Put {
        key: invoice(id),
        seen,
        body: "{}".to_owned(),
        state: "held".to_owned(),
        due,
    }
}

fn entry(document: &str, sequence: u64) -> AuditEntry {
    AuditEntry {
        document: document.to_owned(),
        sequence,
        at: Timestamp(1_772_000_000_000),
        events: format!(r#"[{{"event":"number {sequence}"}}]"#),
        previous_hash: "0".repeat(64),
        hash: format!("{sequence:064}"),
    }
}

fn line(order: &str, line: u32) -> OrderLineKey {
    OrderLineKey {
        order: order.parse().unwrap(),
        line,
    }
}

fn receipt(receiver: &str, order_line: OrderLineKey) -> RecordKey {
    RecordKey::Receipt(ReceiptKey {
        domain: "10USA".parse().unwrap(),
        receiver: receiver.parse().unwrap(),
        order_line,
    })
}

async fn write(register: &dyn Register, writes: Vec<RecordWrite>) {
    register.commit(commit(writes, Vec::new())).await.unwrap();
}

async fn conflicts(register: &dyn Register, writes: Vec<RecordWrite>, audit: Vec<AuditEntry>) {
    assert_eq!(
        register.commit(commit(writes, audit)).await,
        Err(CommitError::Conflict)
    );
}

async fn one(register: &dyn Register, key: RecordKey) -> Option<StoredRecord> {
    let mut found = register.read(&[key]).await.unwrap();
    assert_eq!(found.len(), 1);
    found.remove(0)
}

async fn revision(register: &dyn Register, key: RecordKey) -> u64 {
    one(register, key).await.map_or(0, |record| record.revision)
}

async fn reads_what_was_written(register: &dyn Register) {
    let line = line("PO1", 1);
    let keys = [
        invoice(1),
        effect("invoice/10/SUP/R#1"),
        RecordKey::Order("PO1".parse().unwrap()),
        RecordKey::Waiting(line.clone(), InvoiceId(1)),
        receipt("R1", line),
        RecordKey::Watermark("poll-coupa".to_owned()),
    ];
    for key in &keys {
        assert_eq!(one(register, key.clone()).await, None);
        write(register, vec![put(key.clone(), 0, "{\"a\":1}")]).await;
        let expected = StoredRecord {
            key: key.clone(),
            revision: 1,
            body: Ok("{\"a\":1}".to_owned()),
        };
        assert_eq!(one(register, key.clone()).await, Some(expected));
    }
    assert_eq!(register.read(&[]).await.unwrap(), Vec::new());
}

async fn compares_and_sets(register: &dyn Register) {
    write(register, vec![put(invoice(1), 0, "1")]).await;
    conflicts(register, vec![put(invoice(1), 0, "again")], Vec::new()).await;
    write(register, vec![put(invoice(1), 1, "2")]).await;
    conflicts(register, vec![put(invoice(1), 1, "stale")], Vec::new()).await;
    conflicts(register, vec![put(invoice(1), 3, "ahead")], Vec::new()).await;
    conflicts(register, vec![put(invoice(2), 1, "never was")], Vec::new()).await;
    let record = one(register, invoice(1)).await.unwrap();
    assert_eq!((record.revision, record.body.as_deref()), (2, Ok("2")));
    assert_eq!(one(register, invoice(2)).await, None);
}

async fn writes_all_or_nothing(register: &dyn Register) {
    write(
        register,
        vec![put(invoice(1), 0, "1"), put(effect("old"), 0, "1")],
    )
    .await;
    let writes = vec![
        put(invoice(1), 1, "2"),
        put(invoice(2), 0, "new"),
        RecordWrite::Delete { key: effect("old") },
        put(effect("stale"), 7, "stale"),
    ];
    conflicts(register, writes, vec![entry("invoice/1", 1)]).await;
    assert_eq!(revision(register, invoice(1)).await, 1);
    assert_eq!(revision(register, invoice(2)).await, 0);
    assert_eq!(
        revision(register, effect("old")).await,
        1,
        "the delete did not happen either"
    );
    assert_eq!(register.audit("invoice/1").await.unwrap(), Vec::new());
    let writes = vec![
        put(invoice(1), 1, "2"),
        put(invoice(2), 0, "new"),
        RecordWrite::Delete { key: effect("old") },
    ];
    register
        .commit(commit(writes, vec![entry("invoice/1", 1)]))
        .await
        .unwrap();
    assert_eq!(revision(register, invoice(1)).await, 2);
    assert_eq!(revision(register, invoice(2)).await, 1);
    assert_eq!(revision(register, effect("old")).await, 0);
    assert_eq!(
        register.audit("invoice/1").await.unwrap(),
        [entry("invoice/1", 1)]
    );
}

async fn knows_a_repeat(register: &dyn Register) {
    let single = commit(vec![put(invoice(1), 0, "1")], Vec::new());
    let several = commit(
        vec![put(invoice(1), 1, "2"), put(effect("e"), 0, "1")],
        vec![entry("invoice/1", 1)],
    );
    for (commit, expected) in [(single, 1), (several.clone(), 2)] {
        register.commit(commit.clone()).await.unwrap();
        register.commit(commit.clone()).await.unwrap();
        register.commit(commit).await.unwrap();
        assert_eq!(revision(register, invoice(1)).await, expected);
    }
    assert_eq!(register.audit("invoice/1").await.unwrap().len(), 1);
    // The same change by somebody else is not a repeat.
    conflicts(register, several.writes.clone(), several.audit.clone()).await;
    // A repeat stays one when others have gone on since, and takes nothing back.
    let delete = vec![
        RecordWrite::Check {
            key: invoice(1),
            seen: 2,
        },
        RecordWrite::Delete { key: effect("e") },
    ];
    let delete = commit(delete, Vec::new());
    register.commit(delete.clone()).await.unwrap();
    write(
        register,
        vec![put(invoice(1), 2, "3"), put(effect("e"), 0, "born again")],
    )
    .await;
    register.commit(delete).await.unwrap();
    register.commit(several).await.unwrap();
    assert_eq!(one(register, invoice(1)).await.unwrap().body.as_deref(), Ok("3"));
    assert_eq!(
        one(register, effect("e")).await.unwrap().body.as_deref(),
        Ok("born again")
    );
}

async fn checks_without_writing(register: &dyn Register) {
    write(register, vec![put(invoice(1), 0, "1")]).await;
    let check = |id: u64, seen: u64| RecordWrite::Check {
        key: invoice(id),
        seen,
    };
    write(register, vec![check(1, 1), check(2, 0), put(effect("a"), 0, "")]).await;
    conflicts(register, vec![check(1, 2), put(effect("b"), 0, "")], Vec::new()).await;
    conflicts(register, vec![check(1, 0), put(effect("b"), 0, "")], Vec::new()).await;
    conflicts(register, vec![check(2, 1), put(effect("b"), 0, "")], Vec::new()).await;
    write(register, vec![check(1, 1)]).await;
    conflicts(register, vec![check(1, 2)], Vec::new()).await;
    assert_eq!(revision(register, effect("a")).await, 1);
    assert_eq!(revision(register, effect("b")).await, 0);
    assert_eq!(
        revision(register, invoice(1)).await,
        1,
        "a check leaves the record alone"
    );
}

async fn deletes(register: &dyn Register) {
    let delete = || vec![RecordWrite::Delete { key: invoice(1) }];
    write(register, delete()).await;
    write(register, vec![put_due(1, 0, Some(5))]).await;
    write(register, delete()).await;
    assert_eq!(one(register, invoice(1)).await, None);
    assert_eq!(register.due(Timestamp(5), 10).await.unwrap(), Vec::new());
    conflicts(register, vec![put(invoice(1), 1, "gone")], Vec::new()).await;
    write(register, vec![put(invoice(1), 0, "born again")]).await;
    assert_eq!(revision(register, invoice(1)).await, 1);
}

async fn keeps_any_text(register: &dyn Register) {
    let texts = [
        "",
        "{}",
        "\"quoted\" \\ \u{0} \u{1f600} Ä ß %23 #",
        &"x".repeat(100_000),
    ];
    for (number, text) in texts.iter().enumerate() {
        let key = effect(&format!(
            "text {number} # % {}",
            text.chars().take(20).collect::<String>()
        ));
        let state = String::new();
        let put = RecordWrite::Put {
            key: key.clone(),
            seen: 0,
            body: (*text).to_owned(),
            state,
            due: None,
        };
        write(register, vec![put]).await;
        assert_eq!(one(register, key).await.unwrap().body.as_deref(), Ok(*text));
    }
}

async fn reads_many(register: &dyn Register) {
    for chunk in (0..250u64).collect::<Vec<_>>().chunks(COMMIT_WRITES_MAX) {
        write(
            register,
            chunk
                .iter()
                .map(|id| put(invoice(*id), 0, &id.to_string()))
                .collect(),
        )
        .await;
    }
    // Backwards, with gaps and repetitions.
    let ids: Vec<u64> = (0..300).rev().chain([7, 7, 299]).collect();
    let keys: Vec<RecordKey> = ids.iter().map(|id| invoice(*id)).collect();
    let found = register.read(&keys).await.unwrap();
    assert_eq!(found.len(), ids.len());
    for (id, record) in ids.iter().zip(found) {
        assert_eq!(
            record.map(|record| record.body.unwrap()),
            (*id < 250).then(|| id.to_string())
        );
    }
}

async fn lists_groups(register: &dyn Register) {
    let wanted = line("PO#1", 1);
    let others = [
        line("PO#1", 11),
        line("PO#11", 1),
        line("PO", 1),
        line("PO#1#1", 1),
        line("PO%231", 1),
    ];
    for line in others.iter().chain([&wanted]) {
        let waiting = |id: u64| {
            put(
                RecordKey::Waiting(line.clone(), InvoiceId(id)),
                0,
                &line.to_string(),
            )
        };
        let receipt = |receiver: &str| put(receipt(receiver, line.clone()), 0, &line.to_string());
        write(
            register,
            vec![
                waiting(1),
                waiting(20),
                waiting(u64::MAX),
                receipt("R#1"),
                receipt("R2"),
            ],
        )
        .await;
    }
    // Written in another case it is the same order.
    let group = RecordGroup::WaitingFor(line("po#1", 1));
    let found = register.list(&group).await.unwrap();
    let keys: BTreeSet<RecordKey> = found.iter().map(|record| record.key.clone()).collect();
    let expected = [1, 20, u64::MAX].map(|id| RecordKey::Waiting(wanted.clone(), InvoiceId(id)));
    assert_eq!(keys, BTreeSet::from(expected));
    assert!(
        found
            .iter()
            .all(|record| record.revision == 1 && record.body == Ok(wanted.to_string()))
    );
    let found = register
        .list(&RecordGroup::ReceiptsOf(wanted.clone()))
        .await
        .unwrap();
    let keys: BTreeSet<RecordKey> = found.into_iter().map(|record| record.key).collect();
    assert_eq!(
        keys,
        BTreeSet::from([receipt("R#1", wanted.clone()), receipt("r2", wanted.clone())])
    );
    write(
        register,
        vec![RecordWrite::Delete {
            key: RecordKey::Waiting(wanted.clone(), InvoiceId(1)),
        }],
    )
    .await;
    assert_eq!(
        register
            .list(&RecordGroup::WaitingFor(wanted))
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        register
            .list(&RecordGroup::WaitingFor(line("none", 1)))
            .await
            .unwrap(),
        Vec::new()
    );
}

/// More than one answer of the database holds: nothing may be cut off.
async fn lists_long_groups_whole(register: &dyn Register) {
    let line = line("PO1", 1);
    let body = "x".repeat(20_000);
    for chunk in (0..120u64).collect::<Vec<_>>().chunks(40) {
        let waiting = |id: &u64| put(RecordKey::Waiting(line.clone(), InvoiceId(*id)), 0, &body);
        write(register, chunk.iter().map(waiting).collect()).await;
    }
    let found = register.list(&RecordGroup::WaitingFor(line)).await.unwrap();
    let keys: BTreeSet<RecordKey> = found.into_iter().map(|record| record.key).collect();
    assert_eq!(keys.len(), 120);
}

async fn lists_what_waits_for_an_order(register: &dyn Register) {
    let order = |text: &str| text.parse().unwrap();
    let waiting = |number: &str, id: u64| RecordKey::WaitingForOrder(order(number), InvoiceId(id));
    for key in [
        waiting("PO#1", 7),
        waiting("PO#1", 8),
        waiting("PO#11", 7),
        waiting("PO", 9),
    ] {
        write(register, vec![put(key, 0, "{}")]).await;
    }
    let found = register
        .list(&RecordGroup::WaitingForOrder(order("po#1")))
        .await
        .unwrap();
    let keys: BTreeSet<RecordKey> = found.into_iter().map(|record| record.key).collect();
    assert_eq!(keys, BTreeSet::from([waiting("PO#1", 7), waiting("PO#1", 8)]));
}

async fn tells_which_members_are_due(register: &dyn Register) {
    let member = |collection, id: &str| RecordKey::Entry {
        collection,
        id: id.to_owned(),
    };
    let due_put = |key: RecordKey, seen: u64, due: Option<i64>| RecordWrite::Put {
        key,
        seen,
        body: "{}".to_owned(),
        state: String::new(),
        due: due.map(Timestamp),
    };
    let (bill, payment) = (
        member(Collection::Bill, "92010"),
        member(Collection::UnmatchedPayment, "e#%1"),
    );
    write(register, vec![due_put(bill.clone(), 0, Some(200))]).await;
    write(register, vec![due_put(payment.clone(), 0, Some(100))]).await;
    write(register, vec![put_due(1, 0, Some(150))]).await;
    let due = async |now: i64| -> Vec<(RecordKey, i64)> {
        let due = register.due(Timestamp(now), 10).await.unwrap();
        due.into_iter().map(|record| (record.key, record.due.0)).collect()
    };
    assert_eq!(
        due(200).await,
        [(payment.clone(), 100), (invoice(1), 150), (bill.clone(), 200)]
    );
    write(register, vec![due_put(bill, 1, None)]).await;
    assert_eq!(due(i64::MAX).await, [(payment, 100), (invoice(1), 150)]);
}

async fn tells_what_is_due(register: &dyn Register) {
    for (id, due) in [(1, 300), (2, 100), (3, 200), (10, 200), (11, 301)] {
        write(register, vec![put_due(id, 0, Some(due))]).await;
    }
    write(register, vec![put_due(4, 0, None)]).await;
    let due = async |now: i64, limit: usize| -> Vec<(u64, i64)> {
        let due = register.due(Timestamp(now), limit).await.unwrap();
        due.into_iter()
            .map(|record| match record.key {
                RecordKey::Invoice(id) => (id.0, record.due.0),
                other => panic!("{other:?} was never due"),
            })
            .collect()
    };
    assert_eq!(due(99, 10).await, []);
    assert_eq!(due(300, 10).await, [(2, 100), (3, 200), (10, 200), (1, 300)]);
    assert_eq!(due(300, 2).await, [(2, 100), (3, 200)], "the oldest first");
    assert_eq!(due(300, 0).await, []);
    write(register, vec![put_due(2, 1, None), put_due(3, 1, Some(400))]).await;
    assert_eq!(
        due(300, 10).await,
        [(10, 200), (1, 300)],
        "what was dealt with is not due any more"
    );
    assert_eq!(
        due(i64::MAX, 10).await,
        [(10, 200), (1, 300), (11, 301), (3, 400)]
    );
    let not_to_be_due = RecordWrite::Put {
        key: effect("e"),
        seen: 0,
        body: String::new(),
        state: String::new(),
        due: Some(Timestamp(1)),
    };
    let refused = register.commit(commit(vec![not_to_be_due], Vec::new())).await;
    assert!(
        matches!(refused, Err(CommitError::Store(_))),
        "an effect is never due by itself"
    );
}

async fn only_appends_to_the_audit_trail(register: &dyn Register) {
    assert_eq!(register.audit("invoice/1").await.unwrap(), Vec::new());
    for sequence in (1..=12).rev() {
        let writes = vec![put(effect(&sequence.to_string()), 0, "")];
        register
            .commit(commit(writes, vec![entry("invoice/1", sequence)]))
            .await
            .unwrap();
    }
    let forged = AuditEntry {
        events: "[\"forged\"]".to_owned(),
        ..entry("invoice/1", 3)
    };
    conflicts(register, vec![put(effect("forged"), 0, "")], vec![forged]).await;
    assert_eq!(revision(register, effect("forged")).await, 0);
    register
        .commit(commit(
            Vec::new(),
            vec![entry("invoice/11", 1), entry("invoice/11", 2)],
        ))
        .await
        .unwrap();
    let expected: Vec<AuditEntry> = (1..=12).map(|sequence| entry("invoice/1", sequence)).collect();
    assert_eq!(register.audit("invoice/1").await.unwrap(), expected);
    assert_eq!(register.audit("invoice/11").await.unwrap().len(), 2);
}

async fn refuses_what_is_not_a_commit(register: &dyn Register) {
    let some = || vec![put(invoice(1), 0, "")];
    let with_token = |token: &str| Commit {
        token: token.to_owned(),
        writes: some(),
        audit: Vec::new(),
    };
    let too_many: Vec<RecordWrite> = (0..=100).map(|id| put(invoice(id), 0, "")).collect();
    let twice = vec![put(invoice(1), 0, ""), RecordWrite::Delete { key: invoice(1) }];
    let order = |number: &str| put(RecordKey::Order(number.parse().unwrap()), 0, "");
    let ninety_nine: Vec<RecordWrite> = (0..99).map(|id| put(invoice(id), 0, "")).collect();
    let cases = [
        ("no token", with_token("")),
        ("a long token", with_token(&"t".repeat(37))),
        ("nothing", commit(Vec::new(), Vec::new())),
        ("101 writes", commit(too_many, Vec::new())),
        (
            "101 with audit entries",
            commit(ninety_nine, vec![entry("d", 1), entry("d", 2)]),
        ),
        ("a key twice", commit(twice, Vec::new())),
        (
            "a key twice in another case",
            commit(vec![order("po1"), order("PO1")], Vec::new()),
        ),
        (
            "an entry twice",
            commit(some(), vec![entry("d", 1), entry("d", 1)]),
        ),
        ("an entry before the first", commit(some(), vec![entry("d", 0)])),
    ];
    for (what, commit) in cases {
        assert!(
            matches!(register.commit(commit).await, Err(CommitError::Store(_))),
            "{what} must be refused"
        );
    }
    assert_eq!(
        register.invoices(None, 10).await.unwrap(),
        Vec::new(),
        "nothing of it was written"
    );
    assert_eq!(register.audit("d").await.unwrap(), Vec::new());
    write(register, vec![put(invoice(1), 0, "")]).await;
}

async fn takes_the_largest_commit(register: &dyn Register) {
    let writes: Vec<RecordWrite> = (0..99).map(|id| put(invoice(id), 0, "")).collect();
    let largest = commit(writes, vec![entry("d", 1)]);
    assert_eq!(largest.writes.len() + largest.audit.len(), COMMIT_WRITES_MAX);
    register.commit(largest.clone()).await.unwrap();
    register.commit(largest).await.unwrap();
    let keys: Vec<RecordKey> = (0..99).map(invoice).collect();
    let found = register.read(&keys).await.unwrap();
    assert!(
        found
            .iter()
            .all(|record| record.as_ref().is_some_and(|record| record.revision == 1))
    );
}

async fn pages_through_invoices(register: &dyn Register) {
    // Some of them are a multiple of 16 apart, so that a store that spreads them by their ids has them in one place.
    let mut ids: Vec<u64> = (1..=45)
        .map(|number| number * 37)
        .chain((1..=40).map(|number| 700 + number * 16))
        .chain([u64::MAX])
        .collect();
    ids.sort_unstable();
    ids.dedup();
    write(
        register,
        ids.iter()
            .map(|id| put(invoice(*id), 0, &id.to_string()))
            .collect(),
    )
    .await;
    write(register, vec![put(effect("not an invoice"), 0, "")]).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = register.invoices(after, 10).await.unwrap();
        assert!(page.len() <= 10);
        let Some(StoredRecord {
            key: RecordKey::Invoice(last),
            ..
        }) = page.last()
        else {
            break;
        };
        after = Some(*last);
        seen.extend(page);
    }
    let found: Vec<String> = seen.into_iter().map(|record| record.body.unwrap()).collect();
    let expected: Vec<String> = ids.iter().map(u64::to_string).collect();
    assert_eq!(
        found, expected,
        "all of them, in the order of their ids, none twice"
    );
}

/// The second connection's name begins like the first's, which is when a careless key mixes them up.
async fn keeps_connections_apart(mine: &dyn Register, theirs: &dyn Register) {
    let order = line("PO1", 1);
    let waiting = RecordKey::Waiting(order.clone(), InvoiceId(1));
    let writes = vec![put_due(1, 0, Some(1)), put(waiting.clone(), 0, "theirs")];
    theirs
        .commit(commit(writes, vec![entry("invoice/1", 1)]))
        .await
        .unwrap();
    assert_eq!(
        mine.read(&[invoice(1), waiting.clone()]).await.unwrap(),
        [None, None]
    );
    assert_eq!(
        mine.list(&RecordGroup::WaitingFor(order.clone())).await.unwrap(),
        Vec::new()
    );
    assert_eq!(mine.due(Timestamp(9), 10).await.unwrap(), Vec::new());
    assert_eq!(mine.audit("invoice/1").await.unwrap(), Vec::new());
    assert_eq!(mine.invoices(None, 10).await.unwrap(), Vec::new());
    let writes = vec![
        put(invoice(1), 0, "mine"),
        RecordWrite::Delete { key: waiting.clone() },
    ];
    mine.commit(commit(writes, vec![entry("invoice/1", 1)]))
        .await
        .unwrap();
    assert_eq!(
        theirs.read(&[waiting]).await.unwrap()[0]
            .as_ref()
            .unwrap()
            .body
            .as_deref(),
        Ok("theirs")
    );
    assert_eq!(theirs.due(Timestamp(9), 10).await.unwrap().len(), 1);
    assert_eq!(
        theirs.invoices(None, 10).await.unwrap()[0].body.as_deref(),
        Ok("{}")
    );
}

async fn lets_one_racer_win(register: Arc<dyn Register>) {
    for round in 0..10u64 {
        let racers: Vec<_> = (0..16u64)
            .map(|racer| {
                let register = register.clone();
                tokio::spawn(async move {
                    let body = racer.to_string();
                    // Half of them write two records, so that single writes race against transactions.
                    let mut writes = vec![put(invoice(round), 0, &body)];
                    if racer % 2 == 0 {
                        writes.push(put(effect(&format!("{round} of {racer}")), 0, &body));
                    }
                    (racer, register.commit(commit(writes, Vec::new())).await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (racer, Ok(())) => winners.push(racer),
                (_, result) => assert_eq!(result, Err(CommitError::Conflict)),
            }
        }
        assert_eq!(winners.len(), 1, "exactly one wins");
        let record = one(&*register, invoice(round)).await.unwrap();
        assert_eq!((record.revision, record.body), (1, Ok(winners[0].to_string())));
        for racer in (0..16u64).filter(|racer| racer % 2 == 0) {
            let written = revision(&*register, effect(&format!("{round} of {racer}"))).await;
            assert_eq!(written == 1, winners[0] == racer, "losers wrote nothing");
        }
    }
}

async fn loses_no_update(register: Arc<dyn Register>) {
    write(&*register, vec![put(invoice(1), 0, "0")]).await;
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let register = register.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < 5 {
                    let record = one(&*register, invoice(1)).await.unwrap();
                    let next = record.body.unwrap().parse::<u64>().unwrap() + 1;
                    let writes = vec![put(invoice(1), record.revision, &next.to_string())];
                    match register.commit(commit(writes, Vec::new())).await {
                        Ok(()) => done += 1,
                        result => assert_eq!(result, Err(CommitError::Conflict)),
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let record = one(&*register, invoice(1)).await.unwrap();
    assert_eq!((record.revision, record.body.as_deref()), (41, Ok("40")));
}

fn row(list: &str, id: &str, body: &str) -> RecordWrite {
    RecordWrite::Index(IndexWrite::Put {
        list: list.to_owned(),
        id: id.to_owned(),
        body: body.to_owned(),
    })
}

fn tally(sheet: &str, part: u8, name: &str, count: i64, amount: &str) -> RecordWrite {
    let amount: Decimal = amount.parse().unwrap();
    RecordWrite::Index(IndexWrite::Count {
        sheet: sheet.to_owned(),
        part,
        changes: BTreeMap::from([(name.to_owned(), Tally { count, amount })]),
    })
}

async fn ids(
    books: &dyn Books,
    list: &str,
    beyond: Option<&str>,
    newest_first: bool,
    limit: usize,
) -> Vec<String> {
    let asked = RowsAsked {
        beyond,
        newest_first,
        limit,
    };
    let rows = books.rows(list, &asked).await.unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

async fn keeps_the_index_with_its_invoice(books: &dyn Books, other: &dyn Books) {
    let list = "view/needs #1%";
    let mut writes: Vec<RecordWrite> = ["1", "2", "3#4%"].map(|id| row(list, id, "a")).into();
    writes.push(put(invoice(1), 0, "{}"));
    writes.push(tally("now", 0, "view/x/USD", 2, "10.05"));
    books.commit(commit(writes, Vec::new())).await.unwrap();
    let later = vec![
        row(list, "2", "b"),
        RecordWrite::Index(IndexWrite::Remove {
            list: list.to_owned(),
            id: "1".to_owned(),
        }),
        put(invoice(1), 1, "{}"),
        tally("now", TALLY_PARTS - 1, "view/x/USD", -1, "-0.06"),
    ];
    books.commit(commit(later, Vec::new())).await.unwrap();
    assert_eq!(ids(books, list, None, false, 9).await, ["2", "3#4%"]);
    assert_eq!(ids(books, list, None, true, 1).await, ["3#4%"]);
    assert_eq!(ids(books, list, Some("3#4%"), true, 9).await, ["2"]);
    assert_eq!(ids(books, list, Some("2"), false, 9).await, ["3#4%"]);
    let asked = RowsAsked {
        beyond: None,
        newest_first: false,
        limit: 1,
    };
    let second = IndexRow {
        id: "2".to_owned(),
        body: "b".to_owned(),
    };
    assert_eq!(
        books.rows(list, &asked).await.unwrap(),
        [second],
        "the latest text of a row"
    );
    let sheets = books.tallies(&["now", "never"]).await.unwrap();
    let sum = Tally {
        count: 1,
        amount: "9.99".parse().unwrap(),
    };
    assert_eq!(
        sheets,
        [BTreeMap::from([("view/x/USD".to_owned(), sum)]), BTreeMap::new()]
    );

    // A glance answers as a read does, key by key; here nothing lags.
    for keys in [vec![invoice(1)], vec![invoice(9), invoice(1), invoice(9)], vec![]] {
        let glanced = books.glance(&keys).await.unwrap();
        assert_eq!(glanced, books.read(&keys).await.unwrap());
        assert_eq!(glanced.len(), keys.len());
    }

    // With a change that does not go through, nothing of the index changes either.
    let stale = vec![
        put(invoice(1), 1, "{}"),
        row(list, "9", "c"),
        tally("now", 0, "view/x/USD", 5, "5"),
    ];
    conflicts(books, stale, Vec::new()).await;
    assert_eq!(ids(books, list, None, false, 9).await, ["2", "3#4%"]);
    assert_eq!(books.tallies(&["now"]).await.unwrap()[0]["view/x/USD"], sum);
    assert!(
        ids(other, list, None, false, 9).await.is_empty(),
        "another connection's lists are its own"
    );
    assert!(other.tallies(&["now"]).await.unwrap()[0].is_empty());
    assert!(
        books
            .list(&RecordGroup::Collection(Collection::Bill))
            .await
            .unwrap()
            .is_empty()
    );
    tells_members_page_by_page(books, other).await;
}

async fn tells_members_page_by_page(books: &dyn Books, other: &dyn Books) {
    let collection = Collection::Supplier;
    let entry = |id: &str| RecordKey::Entry {
        collection,
        id: id.to_owned(),
    };
    let writes = ["qad/a#1%", "coupa/2", "coupa/10"].map(|id| put(entry(id), 0, "{}"));
    books.commit(commit(writes.into(), Vec::new())).await.unwrap();
    let page = async |books: &dyn Books, beyond: Option<&str>, limit: usize| -> Vec<RecordKey> {
        let found = books.members(collection, beyond, limit).await.unwrap();
        found.into_iter().map(|stored| stored.key).collect()
    };
    assert_eq!(page(books, None, 2).await, [entry("coupa/10"), entry("coupa/2")]);
    assert_eq!(page(books, Some("coupa/2"), 2).await, [entry("qad/a#1%")]);
    assert!(page(books, Some("qad/a#1%"), 2).await.is_empty());
    assert!(page(books, None, 0).await.is_empty());
    assert!(page(other, None, 9).await.is_empty());
}

async fn counts_what_many_write_at_once(books: Arc<dyn Books>) {
    const WRITERS: u64 = 12;
    let writers: Vec<_> = (1..=WRITERS)
        .map(|id| {
            let books = Arc::clone(&books);
            tokio::spawn(async move {
                let writes = vec![put(invoice(id), 0, "{}"), tally("now", 0, "n", 1, "0.10")];
                let commit = commit(writes, Vec::new());
                // Busy with another's transaction is a conflict, and the same commit may be sent again.
                while let Err(error) = books.commit(commit.clone()).await {
                    assert_eq!(error, CommitError::Conflict);
                    assert_eq!(revision(&*books, invoice(id)).await, 0, "nothing was written");
                    tokio::task::yield_now().await;
                }
                books.commit(commit).await.unwrap();
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let count = i64::try_from(WRITERS).unwrap();
    let sum = Tally {
        count,
        amount: "1.20".parse().unwrap(),
    };
    assert_eq!(
        books.tallies(&["now"]).await.unwrap()[0]["n"],
        sum,
        "a repeat counts once"
    );
}
