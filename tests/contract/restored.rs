//! The ways back of docs/restore.md over the real register: the register of then beside the audit trail of now, and an empty
//! register beside it. Whatever stands still after either is found and goes on, and no trail is cut.

#![allow(
    clippy::unwrap_used,
    reason = "a test that misses what it put there must fail loudly"
)]

use super::{Hurried, Outcome, local};
use crate::local_dynamo::Tables;
use aws::clock::SystemChance;
use aws::dynamo::{DynamoRegister, RegisterTables};
use domain::ids::InvoiceId;
use domain::instruction::Instruction;
use domain::lifecycle::{Event, InvoiceRecord, State};
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::ports::{CommitError, RecordKey, Register};
use flows::restore::{Chain, anchor_invoice, begin, compare};
use flows::store::{Change, Context, Loaded, invoice_audit_name, load, save, verify_chain};
use std::sync::Arc;

/// One installation's tables: a register, and the trail of the first one.
fn over(client: &aws_sdk_dynamodb::Client, register: &Tables, audit: &Tables) -> DynamoRegister {
    let tables = RegisterTables {
        register: register.register.clone(),
        audit: audit.audit.clone(),
    };
    let (clock, chance) = (Arc::new(Hurried), Arc::new(SystemChance));
    DynamoRegister::new(client.clone(), tables, "acme".parse().unwrap(), clock, chance)
}

fn context<'a>(register: &'a DynamoRegister, timing: &'a Timing) -> Context<'a> {
    Context {
        register,
        clock: &Hurried,
        chance: &SystemChance,
        timing,
        deadline: Timestamp(i64::MAX),
    }
}

/// An invoice waits for a status of Coupa's, as a flow writes it.
async fn waits(context: &Context<'_>, id: u64, word: &str) -> Result<(), CommitError> {
    let id = InvoiceId(id);
    let known = load::<InvoiceRecord>(context.register, RecordKey::Invoice(id))
        .await
        .unwrap();
    let Loaded { document, revision } = known.unwrap_or_else(|| Loaded {
        document: InvoiceRecord::new(id, context.clock.now()),
        revision: 0,
    });
    let event = Event::Received {
        coupa_status: Some(word.to_owned()),
    };
    let change = Change {
        document: document.after(&event, context.clock.now()).unwrap(),
        events: vec![event],
        writes: vec![],
    };
    save(context, revision, change).await.map(|_| ())
}

/// Copies a table as it stands now: a restore to this second.
async fn restored(client: &aws_sdk_dynamodb::Client, from: &str, to: &str) -> Outcome {
    let items = client
        .scan()
        .table_name(from)
        .send()
        .await?
        .items
        .unwrap_or_default();
    for item in items {
        client
            .put_item()
            .table_name(to)
            .set_item(Some(item))
            .send()
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_register_of_then_and_an_empty_one_go_on_with_the_trail_of_now() -> Outcome {
    let (dynamo, now) = local().await?;
    let client = dynamo.client();
    let (then, empty) = (Tables::named("then"), Tables::named("empty"));
    then.create(&client).await?;
    empty.create(&client).await?;
    let timing = Timing::default();
    let first = over(&client, &now, &now);
    let before = context(&first, &timing);
    for id in 1..=5 {
        waits(&before, id, "draft").await?;
    }
    restored(&client, &now.register, &then.register).await?;
    for id in 1..=7 {
        waits(&before, id, "pending_approval").await?;
    }
    let mut names = first.audit_names().await?;
    names.sort();
    let expected: Vec<String> = (1..=7).map(|id| invoice_audit_name(InvoiceId(id))).collect();
    assert_eq!(names, expected);

    let why = Instruction::new("kim", "register restored to 08:15").unwrap();
    for (tables, stuck_at) in [(&then, Some("draft")), (&empty, None)] {
        let register = over(&client, tables, &now);
        let context = context(&register, &timing);
        begin(&context, 7, &why).await?;
        for id in (1..=7).map(InvoiceId) {
            let name = invoice_audit_name(id);
            let known = load::<InvoiceRecord>(&register, RecordKey::Invoice(id)).await?;
            let end = known
                .as_ref()
                .map(|loaded| loaded.document.chain.clone())
                .unwrap_or_default();
            let entries = register.audit(&name).await?;
            assert!(
                matches!(compare(&name, &end, &entries), Chain::Behind(_)),
                "{name}"
            );
            assert!(anchor_invoice(&context, id, &why).await?, "{name}");
            let record = load::<InvoiceRecord>(&register, RecordKey::Invoice(id))
                .await?
                .unwrap()
                .document;
            let was = stuck_at.filter(|_| id.0 <= 5).map(str::to_owned);
            assert_eq!(
                record.state,
                State::Received { coupa_status: was },
                "no state is made up: {name}"
            );
            waits(&context, id.0, "approved").await?;
            let after = register.audit(&name).await?;
            assert_eq!(
                verify_chain(&after).unwrap().sequence,
                u64::try_from(entries.len())? + 2
            );
        }
    }
    Ok(())
}

/// Without a repair the same records stand still for good: this is what it is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_register_of_then_stands_still_beside_the_trail_of_now() -> Outcome {
    let (dynamo, now) = local().await?;
    let client = dynamo.client();
    let then = Tables::named("then");
    then.create(&client).await?;
    let timing = Timing::default();
    let first = over(&client, &now, &now);
    waits(&context(&first, &timing), 1, "draft").await?;
    restored(&client, &now.register, &then.register).await?;
    waits(&context(&first, &timing), 1, "pending_approval").await?;
    waits(&context(&first, &timing), 2, "draft").await?;
    let register = over(&client, &then, &now);
    for id in [1, 2] {
        let stuck = waits(&context(&register, &timing), id, "approved").await;
        assert_eq!(stuck, Err(CommitError::Conflict), "{id}");
    }
    Ok(())
}
