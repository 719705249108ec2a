//! One contract, every implementation: the model in memory, the real register over an embedded DynamoDB, and, when
//! `DYNAMODB_ENDPOINT` names one, over another DynamoDB for a second opinion.

mod local_dynamo;
mod pace_contract;
mod register_contract;
mod restored;
mod unreadable;

use async_trait::async_trait;
use aws::clock::{SystemChance, SystemClock};
use aws::dynamo::{DynamoRegister, RegisterTables};
use aws::paces::DynamoPaces;
use aws::tokens::{DynamoTokenStore, TokenKeys};
use domain::ids::{ConnectionId, InvoiceId};
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::pace::MemoryPaces;
use flows::ports::{
    AuditEntry, Books, CachedToken, Chance, Clock, Commit, CommitError, RecordKey, RecordWrite, Register,
    StoredRecord, TokenSlot, TokenStore,
};
use local_dynamo::{LocalDynamo, Tables, client_at};
use secrecy::{ExposeSecret, SecretString};
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::memory_register::MemoryStore;

/// A failing set-up fails the test.
type Outcome = Result<(), Box<dyn Error>>;

/// The wall clock, but nobody waits.
struct Hurried;

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }
    async fn sleep(&self, _: Duration) {
        tokio::task::yield_now().await;
    }
}

fn register(client: aws_sdk_dynamodb::Client, tables: &Tables, connection: ConnectionId) -> Arc<dyn Books> {
    let tables = RegisterTables {
        register: tables.register.clone(),
        audit: tables.audit.clone(),
    };
    Arc::new(DynamoRegister::new(
        client,
        tables,
        connection,
        Arc::new(Hurried),
        Arc::new(SystemChance),
    ))
}

async fn local() -> Result<(LocalDynamo, Tables), Box<dyn Error>> {
    let (dynamo, tables) = (LocalDynamo::new()?, Tables::named("test"));
    tables.create(&dynamo.client()).await?;
    Ok((dynamo, tables))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_model_keeps_the_contract() {
    let store = MemoryStore::default();
    register_contract::run(&|connection| Arc::new(store.register(&connection))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_register_keeps_the_contract_over_the_embedded_database() -> Outcome {
    let (dynamo, tables) = local().await?;
    register_contract::run(&|connection| register(dynamo.client(), &tables, connection)).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(
    clippy::disallowed_methods,
    reason = "the address of a second opinion comes from whoever runs the tests"
)]
#[expect(clippy::print_stderr, reason = "a check that was left out must say so")]
async fn the_register_keeps_the_contract_over_another_database() -> Outcome {
    let Ok(url) = std::env::var("DYNAMODB_ENDPOINT") else {
        eprintln!("LEFT OUT: set DYNAMODB_ENDPOINT to run the register's contract over another DynamoDB");
        return Ok(());
    };
    let client = client_at(&url);
    let tables = Tables::named(&format!("contract-{}", SystemChance.token()));
    tables.create(&client).await?;
    register_contract::run(&|connection| register(client.clone(), &tables, connection)).await;
    Ok(())
}

fn invoice(id: u64) -> RecordKey {
    RecordKey::Invoice(InvoiceId(id))
}

fn commit(token: &str, id: u64, seen: u64, audit: Vec<AuditEntry>) -> Commit {
    let put = RecordWrite::Put {
        key: invoice(id),
        seen,
        body: token.to_owned(),
        state: String::new(),
        due: None,
    };
    Commit {
        token: token.to_owned(),
        writes: vec![put],
        audit,
    }
}

fn entry(sequence: u64) -> AuditEntry {
    let text = || "x".to_owned();
    AuditEntry {
        document: text(),
        sequence,
        at: Timestamp(1),
        events: text(),
        previous_hash: text(),
        hash: text(),
    }
}

async fn stored(register: &dyn Register, id: u64) -> Result<(u64, String), Box<dyn Error>> {
    let found = register.read(&[invoice(id)]).await?;
    let record = found.into_iter().next().flatten().ok_or("the record is there")?;
    Ok((record.revision, record.body?))
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_made_once() -> Outcome {
    let (dynamo, tables) = local().await?;
    let register = register(dynamo.client(), &tables, "acme".parse()?);
    dynamo.lose_answers(1);
    register.commit(commit("single", 1, 0, Vec::new())).await?;
    assert_eq!(stored(&*register, 1).await?, (1, "single".to_owned()));
    dynamo.lose_answers(2);
    register
        .commit(commit("transaction", 2, 0, vec![entry(1)]))
        .await?;
    assert_eq!(stored(&*register, 2).await?, (1, "transaction".to_owned()));
    assert_eq!(register.audit("x").await?.len(), 1);
    dynamo.lose_answers(3);
    assert_eq!(stored(&*register, 1).await?.0, 1, "a read is asked again");
    Ok(())
}

#[tokio::test]
async fn a_commit_without_any_answer_is_ambiguous_and_its_repeat_tells() -> Outcome {
    let (dynamo, tables) = local().await?;
    let register = register(dynamo.client(), &tables, "acme".parse()?);
    for (id, audit) in [(1, Vec::new()), (2, vec![entry(1)])] {
        let commit = commit("lost", id, 0, audit);
        let commit = Commit {
            token: format!("lost-{id}"),
            ..commit
        };
        dynamo.lose_answers(100);
        assert!(matches!(
            register.commit(commit.clone()).await,
            Err(CommitError::Store(_))
        ));
        assert!(
            register.read(&[invoice(id)]).await.is_err(),
            "no answer is not 'not there'"
        );
        dynamo.lose_answers(0);
        register.commit(commit).await?;
        assert_eq!(stored(&*register, id).await?.0, 1);
    }
    Ok(())
}

#[tokio::test]
async fn an_item_that_is_not_ours_is_told_and_never_skipped() -> Outcome {
    let (dynamo, tables) = local().await?;
    let register = register(dynamo.client(), &tables, "acme".parse()?);
    register.commit(commit("t", 1, 0, Vec::new())).await?;
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let foreign = dynamo.client().put_item().table_name(&tables.register);
    foreign
        .item("pk", text("acme#invoice#01"))
        .item("sk", text("00000000000000000017"))
        .send()
        .await?;
    let read = register.read(&[invoice(17), invoice(1), invoice(18)]).await?;
    let is_fit = |stored: &Option<StoredRecord>| stored.as_ref().map(|stored| stored.body.is_ok());
    assert_eq!(
        read.iter().map(is_fit).collect::<Vec<_>>(),
        [Some(false), Some(true), None]
    );
    let listed = register.invoices(None, 10).await?;
    let problem = listed.into_iter().find_map(|stored| stored.body.err());
    assert_eq!(problem.ok_or("told")?.code, "REGISTER_ITEM_UNREADABLE");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_buckets_of_one_process_keep_the_contract() -> Outcome {
    let store = Arc::new(MemoryPaces::default());
    pace_contract::run(&|| store.clone()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_buckets_in_the_table_keep_the_contract() -> Outcome {
    let (dynamo, tables) = local().await?;
    pace_contract::run(&|| Arc::new(DynamoPaces::new(dynamo.client(), tables.tokens.clone()))).await
}

/// One key for every connection, until it is changed.
struct FixedKey(Mutex<u8>);

#[async_trait]
impl TokenKeys for FixedKey {
    async fn token_key(&self, _: &ConnectionId) -> Result<SecretString, Problem> {
        let bytes = [*self.0.lock().map_err(|_| Problem::new("POISONED", ""))?; 32];
        Ok(SecretString::from(base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            bytes,
        )))
    }
}

struct Cache {
    dynamo: LocalDynamo,
    tables: Tables,
    key: Arc<FixedKey>,
    store: DynamoTokenStore,
    slot: TokenSlot,
}

async fn cache() -> Result<Cache, Box<dyn Error>> {
    let (dynamo, tables) = local().await?;
    let key = Arc::new(FixedKey(Mutex::new(1)));
    let (clock, chance) = (Arc::new(Hurried), Arc::new(SystemChance));
    let store = DynamoTokenStore::new(dynamo.client(), tables.tokens.clone(), key.clone(), clock, chance);
    let slot = TokenSlot {
        connection: "acme".parse()?,
        system: "coupa",
        client: "c1".to_owned(),
    };
    Ok(Cache {
        dynamo,
        tables,
        key,
        store,
        slot,
    })
}

fn token(generation: u64) -> CachedToken {
    let token = SecretString::from(format!("canary-{generation}"));
    CachedToken {
        generation,
        token,
        expires_at: Timestamp(9_000),
        refresh_after: Timestamp(8_000),
    }
}

const NOW: Timestamp = Timestamp(1_000);
const UNTIL: Timestamp = Timestamp(2_000);

#[tokio::test]
async fn a_token_goes_round_sealed() -> Outcome {
    let Cache {
        dynamo,
        tables,
        store,
        slot,
        ..
    } = cache().await?;
    let empty = store.load(&slot).await?;
    assert!(empty.token.is_none() && empty.generation == 0 && empty.leased_until.is_none());
    assert!(store.lease(&slot, 0, NOW, UNTIL, "me").await?);
    assert_eq!(store.load(&slot).await?.leased_until, Some(UNTIL));
    assert!(store.store(&slot, &token(1), "me").await?);
    let state = store.load(&slot).await?;
    let loaded = state.token.ok_or("a token")?;
    assert_eq!(loaded.token.expose_secret(), "canary-1");
    assert_eq!(
        (loaded.generation, loaded.expires_at, loaded.refresh_after),
        (1, Timestamp(9_000), Timestamp(8_000))
    );
    assert_eq!((state.generation, state.leased_until), (1, None));
    let item = dynamo.client().get_item().table_name(&tables.tokens);
    let key = aws_sdk_dynamodb::types::AttributeValue::S("acme#coupa#c1".to_owned());
    let item = format!("{:?}", item.key("pk", key).send().await?.item);
    assert!(
        item.contains("sealed") && !item.contains("canary"),
        "the table never sees a token"
    );
    Ok(())
}

#[tokio::test]
async fn a_lease_is_for_one_holder_one_generation_and_some_time() -> Outcome {
    let Cache { store, slot, .. } = cache().await?;
    assert!(store.lease(&slot, 0, NOW, UNTIL, "me").await?);
    assert!(
        !store.lease(&slot, 0, NOW, UNTIL, "other").await?,
        "somebody has it"
    );
    assert!(
        !store.store(&slot, &token(1), "other").await?,
        "only the holder stores"
    );
    assert!(
        store.lease(&slot, 0, UNTIL, Timestamp(3_000), "other").await?,
        "it ends"
    );
    assert!(
        !store.store(&slot, &token(1), "me").await?,
        "whoever lost it stores no more"
    );
    assert!(store.store(&slot, &token(1), "other").await?);
    assert!(
        !store
            .lease(&slot, 0, Timestamp(4_000), Timestamp(5_000), "late")
            .await?,
        "it is fetched already"
    );
    assert!(
        store
            .lease(&slot, 1, Timestamp(4_000), Timestamp(5_000), "next")
            .await?
    );
    Ok(())
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_free_and_only_its_holder_can() -> Outcome {
    let Cache { store, slot, .. } = cache().await?;
    assert!(store.lease(&slot, 0, NOW, UNTIL, "me").await?);
    store.release(&slot, 0, "other").await?;
    assert!(!store.lease(&slot, 0, NOW, UNTIL, "other").await?);
    store.release(&slot, 0, "me").await?;
    assert!(store.lease(&slot, 0, NOW, UNTIL, "other").await?);
    assert!(store.store(&slot, &token(1), "other").await?);
    store.release(&slot, 1, "me").await?;
    assert!(store.load(&slot).await?.token.is_some());
    Ok(())
}

#[tokio::test]
async fn a_dropped_token_is_gone_and_a_newer_one_stays() -> Outcome {
    let Cache { store, slot, .. } = cache().await?;
    store.drop_token(&slot, 1).await?;
    assert_eq!(
        store.load(&slot).await?.generation,
        0,
        "dropping what never was makes nothing"
    );
    for generation in 1..=2 {
        assert!(store.lease(&slot, generation - 1, NOW, UNTIL, "me").await?);
        assert!(store.store(&slot, &token(generation), "me").await?);
    }
    store.drop_token(&slot, 1).await?;
    assert!(store.load(&slot).await?.token.is_some());
    store.drop_token(&slot, 2).await?;
    let state = store.load(&slot).await?;
    assert!(state.token.is_none());
    assert_eq!(state.generation, 2, "the count goes on");
    assert!(store.lease(&slot, 2, NOW, UNTIL, "me").await?);
    Ok(())
}

#[tokio::test]
async fn a_token_under_another_key_counts_as_none_with_its_generation() -> Outcome {
    let Cache { key, store, slot, .. } = cache().await?;
    assert!(store.lease(&slot, 0, NOW, UNTIL, "me").await?);
    assert!(store.store(&slot, &token(1), "me").await?);
    *key.0.lock().map_err(|_| "poisoned")? = 2;
    let state = store.load(&slot).await?;
    assert!(state.token.is_none());
    assert_eq!(state.generation, 1);
    assert!(
        store.lease(&slot, 1, NOW, UNTIL, "me").await?,
        "a new one can be fetched"
    );
    Ok(())
}

#[tokio::test]
async fn slots_do_not_touch_each_other() -> Outcome {
    let Cache { store, slot, .. } = cache().await?;
    let others = [
        TokenSlot {
            connection: "acme-2".parse()?,
            ..slot.clone()
        },
        TokenSlot {
            system: "qad",
            ..slot.clone()
        },
        TokenSlot {
            client: "c2".to_owned(),
            ..slot.clone()
        },
    ];
    assert!(store.lease(&slot, 0, NOW, UNTIL, "me").await?);
    assert!(store.store(&slot, &token(1), "me").await?);
    for other in others {
        assert_eq!(store.load(&other).await?.generation, 0);
        assert!(store.lease(&other, 0, NOW, UNTIL, "me").await?);
    }
    Ok(())
}

#[tokio::test]
async fn lost_answers_cost_nobody_the_lease_or_the_token() -> Outcome {
    let Cache {
        dynamo, store, slot, ..
    } = cache().await?;
    dynamo.lose_answers(1);
    assert!(store.lease(&slot, 0, NOW, UNTIL, "me").await?);
    dynamo.lose_answers(1);
    assert!(store.store(&slot, &token(1), "me").await?);
    assert_eq!(store.load(&slot).await?.generation, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_that_start_at_once_one_fetches() -> Outcome {
    let Cache { store, slot, .. } = cache().await?;
    let starters: Vec<_> = (0..100)
        .map(|number| {
            let (store, slot) = (store.clone(), slot.clone());
            tokio::spawn(async move {
                store
                    .lease(&slot, 0, NOW, UNTIL, &format!("starter-{number}"))
                    .await
            })
        })
        .collect();
    let mut leases = 0;
    for starter in starters {
        if starter.await?? {
            leases += 1;
        }
    }
    assert_eq!(leases, 1);
    Ok(())
}
