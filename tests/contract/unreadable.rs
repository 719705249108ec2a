//! One record that nobody can read hides no other one: neither from a search, nor from lists, nor from the rebuilding of the
//! index, nor from the sweep. It is named, and never taken for one that is not there. The same over every store.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that misses what it put there must fail loudly"
)]

use super::{Hurried, Outcome, invoice, local, register};
use async_trait::async_trait;
use aws::clock::SystemChance;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::ids::{DocumentKind, InvoiceId};
use domain::index::View;
use domain::lifecycle::{InvoiceRecord, Summary};
use domain::problem::Problem;
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::hinted::Hinted;
use flows::index::{self, Rebuilt};
use flows::ports::{
    Books, Collection, Commit, Hint, Queue, ROWS_MAX, RecordKey, RecordWrite, RowsAsked, StoreError, Subject,
};
use flows::store::{Change, Context, Document, load, parse, save};
use flows::sweep;
use rust_decimal::Decimal;
use std::sync::{Arc, Mutex};
use tests::memory_register::MemoryStore;

const NUMBER: &str = "INV-4711";

fn context<'a>(register: &'a dyn flows::ports::Register, timing: &'a Timing) -> Context<'a> {
    Context {
        register,
        clock: &Hurried,
        chance: &SystemChance,
        timing,
        deadline: Timestamp(i64::MAX),
    }
}

/// An invoice of this number that was just seen, as a flow writes it.
async fn received(context: &Context<'_>, id: u64) {
    let mut document = InvoiceRecord::new(InvoiceId(id), Timestamp(1_764_547_200_000));
    document.summary = Some(Summary {
        reference: NUMBER.parse().unwrap(),
        kind: DocumentKind::Invoice,
        supplier_name: "Example Castings".into(),
        supplier_number: Some("10S1001".into()),
        invoice_date: "2026-03-05".parse().unwrap(),
        total: Decimal::from(100),
        currency: "USD".parse().unwrap(),
        orders: vec!["PO0042".parse().unwrap()],
        particulars: domain::documents::InvoiceParticulars::default(),
    });
    let change = Change::<_, ()> {
        document,
        events: vec![],
        writes: vec![],
    };
    save(context, 0, change).await.unwrap();
}

async fn put(books: &dyn Books, key: RecordKey, seen: u64, body: &str) {
    let due = matches!(key, RecordKey::Invoice(_)).then_some(Timestamp(0));
    let write = RecordWrite::Put {
        key,
        seen,
        body: body.to_owned(),
        state: String::new(),
        due,
    };
    let commit = Commit {
        token: flows::ports::Chance::token(&SystemChance),
        writes: vec![write],
        audit: vec![],
    };
    books.commit(commit).await.unwrap();
}

/// Remembers what was queued.
#[derive(Default)]
struct Sent(Mutex<Vec<Subject>>);

#[async_trait]
impl Queue for Sent {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        let subjects = hints.iter().map(|Hint::V1 { subject, .. }| subject.clone());
        self.0.lock().unwrap().extend(subjects);
        Ok(())
    }
}

async fn rebuilt(context: &Context<'_>, books: &dyn Books) -> Rebuilt {
    loop {
        let after = index::rebuild_step(context, books).await.unwrap();
        if after.complete {
            return after;
        }
    }
}

fn names(problem: &Problem, id: &str) -> bool {
    problem.code.starts_with("REGISTER_") && problem.field.contains(id) && !problem.fix.is_empty()
}

async fn is_found_without(books: &dyn Books, id: &str) {
    let found = index::find(books, NUMBER).await.unwrap();
    let ids: Vec<u64> = found.records.iter().map(|record| record.id.0).collect();
    assert_eq!(ids, [3, 1], "the others are found");
    assert!(
        matches!(found.unreadable.as_slice(), [one] if names(one, id)),
        "{found:?}"
    );
}

/// Invoice 2 of three has a body of which nobody knows the layout.
async fn hides_nobody(books: Arc<dyn Books>) {
    let timing = Timing::default();
    let register: &dyn flows::ports::Register = &*books;
    let context = context(register, &timing);
    for id in 1..=3 {
        received(&context, id).await;
    }
    put(&*books, invoice(2), 1, r#"{"layout":9}"#).await;
    is_found_without(&*books, "InvoiceId(2)").await;

    let bill = |id: &str| RecordKey::Entry {
        collection: Collection::Bill,
        id: id.to_owned(),
    };
    put(&*books, bill("7"), 0, "{").await;
    // The index as an earlier version has left it: nothing is in it.
    let done = rebuilt(&context, &*books).await;
    assert_eq!(done.left_out.len(), 2, "{done:?}");
    assert!(
        names(&done.left_out[0], "InvoiceId(2)") && names(&done.left_out[1], "\"7\""),
        "{done:?}"
    );
    // What was mended is taken in by the next run, which begins anew.
    let good = load::<InvoiceRecord>(register, invoice(1))
        .await
        .unwrap()
        .unwrap()
        .document;
    let mended = InvoiceRecord {
        id: InvoiceId(2),
        indexed: None,
        ..good
    };
    put(&*books, invoice(2), 2, &serde_json::to_string(&mended).unwrap()).await;
    put(&*books, bill("7"), 1, "{").await;
    assert_eq!(rebuilt(&context, &*books).await.left_out.len(), 1);
    let again = load::<InvoiceRecord>(register, invoice(2))
        .await
        .unwrap()
        .unwrap();
    assert!(again.document.indexed.is_some(), "it is in the index now");

    // What is due is queued, the bent one too: whoever looks at it says what is wrong.
    put(&*books, invoice(2), again.revision, "{").await;
    let (queue, payments) = (Sent::default(), Sent::default());
    let swept = sweep::Deps {
        connection: &"acme".parse().unwrap(),
        register,
        queue: &queue,
        payments: &payments,
        hinted: &Hinted::default(),
        timing: &timing,
        clock: &Hurried,
        trace: "t",
    };
    sweep::run(&swept).await.unwrap();
    assert!(queue.0.lock().unwrap().contains(&Subject::Invoice(InvoiceId(2))));
}

/// A row of a list that nobody can read says by its place whose it is.
async fn a_row_hides_no_other(books: Arc<dyn Books>) {
    let list = index::list_of(View::Working, None);
    let row = |since: u64, id: u64, body: &str| {
        RecordWrite::Index(flows::ports::IndexWrite::Put {
            list: list.clone(),
            id: format!("{since:020}-{id:020}"),
            body: body.to_owned(),
        })
    };
    let good = index::Row::of(&InvoiceRecord::new(InvoiceId(1), Timestamp(5)));
    let commit = Commit {
        token: flows::ports::Chance::token(&SystemChance),
        writes: vec![row(5, 1, &serde_json::to_string(&good).unwrap()), row(6, 2, "{")],
        audit: vec![],
    };
    books.commit(commit).await.unwrap();
    let asked = RowsAsked {
        beyond: None,
        newest_first: false,
        limit: ROWS_MAX,
    };
    let (rows, _) = index::page(&*books, &list, &asked).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0], good);
    assert_eq!((rows[1].id, rows[1].since), (InvoiceId(2), Timestamp(6)));
    assert_eq!(rows[1].code, "INDEX_UNREADABLE");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_record_that_cannot_be_read_hides_no_other_in_memory() {
    let store = MemoryStore::default();
    hides_nobody(Arc::new(store.register(&"acme".parse().unwrap()))).await;
    a_row_hides_no_other(Arc::new(store.register(&"rows".parse().unwrap()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_record_that_cannot_be_read_hides_no_other_in_the_database() -> Outcome {
    let (dynamo, tables) = local().await?;
    hides_nobody(register(dynamo.client(), &tables, "acme".parse()?)).await;
    a_row_hides_no_other(register(dynamo.client(), &tables, "rows".parse()?)).await;
    Ok(())
}

/// An item of a layout that only a later version knows.
#[tokio::test]
async fn an_item_that_cannot_be_taken_apart_hides_no_other_and_is_never_written_over() -> Outcome {
    let (dynamo, tables) = local().await?;
    let books = register(dynamo.client(), &tables, "acme".parse()?);
    let timing = Timing::default();
    let context = context(&*books, &timing);
    for id in 1..=3 {
        received(&context, id).await;
    }
    let found = dynamo.client().scan().table_name(&tables.register).send().await?;
    let is_second = |item: &&std::collections::HashMap<String, AttributeValue>| {
        let is = |name: &str, text: &str| item[name].as_s().is_ok_and(|value| value.contains(text));
        is("pk", "acme#invoice#") && is("sk", "00000000002")
    };
    let mut item = found.items().iter().find(is_second).ok_or("invoice 2")?.clone();
    item.insert("schema".to_owned(), AttributeValue::N("99".to_owned()));
    let bent = dynamo.client().put_item().table_name(&tables.register);
    bent.set_item(Some(item)).send().await?;

    is_found_without(&*books, "2").await;
    let listed = books.invoices(None, 10).await?;
    let read: Vec<bool> = listed
        .iter()
        .map(|one| parse::<InvoiceRecord>(one).is_ok())
        .collect();
    assert_eq!(read, [true, false, true]);
    assert_eq!(listed[1].key, invoice(2), "it is there, and has its name");
    let error = load::<InvoiceRecord>(&*books, invoice(2)).await.unwrap_err();
    assert_eq!(error.problem().code, "REGISTER_ITEM_UNREADABLE");
    assert_eq!(rebuilt(&context, &*books).await.left_out.len(), 1);

    let mut over = InvoiceRecord::new(InvoiceId(2), Timestamp(0));
    over.chain().sequence = 0;
    let change = Change::<_, ()> {
        document: over,
        events: vec![],
        writes: vec![],
    };
    let seen = listed[1].revision;
    assert!(
        save(&context, seen, change).await.is_err(),
        "nothing goes over it"
    );
    Ok(())
}
