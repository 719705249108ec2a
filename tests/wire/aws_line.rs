//! The real AWS SDK, configured as in production but for shorter times, over a faulty line to the local AWS: what the ports
//! hide. Does it send again by itself, do its times hold for bodies, what does it make of a conditional write whose answer
//! was lost.

use crate::line::{Line, Trouble};
use crate::local_dynamo::Tables;
use async_trait::async_trait;
use aws::clients::{AwsSettings, AwsTimes, Clients};
use aws::dynamo::{DynamoRegister, RegisterTables};
use aws::secrets::SecretReader;
use aws::sqs::SqsQueue;
use domain::ids::{ConnectionId, InvoiceId};
use domain::lifecycle::InvoiceRecord;
use domain::time::Timestamp;
use flows::delivery::Reads;
use flows::match_invoice::{self, InvoiceSettings};
use flows::neighbours::Home;
use flows::ports::{
    AuditEntry, Chance, Clock, Commit, CommitError, Hint, HintReason, Queue, ReadError, RecordKey,
    RecordWrite, Register, Subject,
};
use flows::receive_webhook::WebhookSecrets;
use flows::store::{Context, invoice_audit_name, parse, verify_chain};
use sandbox::local::aws::{LocalAws, REGION};
use sandbox::ports::WorldPorts;
use sandbox::scenario::policy;
use secrecy::{ExposeSecret, SecretString};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::harness::{BEGINNING, RECHECK_MILLIS};
use tests::small::{INVOICE, straight_through};

/// Longest attempt, in real milliseconds: a line that never answers costs this much.
const ATTEMPT_MILLIS: u64 = 400;
/// Most times the register sends one request.
const TRIES: u64 = 4;
/// Most times the SDK itself sends a message or asks for a secret.
const SENDS: u64 = 3;
/// A call that has no end of its own is cut here, in real seconds, and the test fails: far above what any call may take.
const ENDLESS_SECONDS: u64 = 30;
/// Seeded lives over the line.
const LIVES: u64 = 6;
/// Requests during which a life's line is faulty.
const FAULTY_REQUESTS: u64 = 24;
/// Most runs one life may need.
const RUNS_MAX: u32 = 60;

type Meanwhile = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock on which nobody waits; what happens meanwhile can be said once.
#[derive(Default)]
struct Hurried {
    now: AtomicI64,
    meanwhile: Mutex<Option<Meanwhile>>,
}

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }
    async fn sleep(&self, _: Duration) {
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile.await;
        }
    }
}

#[derive(Default)]
struct Counting(AtomicU64);

impl Chance for Counting {
    fn token(&self) -> String {
        format!("token-{}", self.0.fetch_add(1, Ordering::SeqCst))
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

struct Bench {
    local: LocalAws,
    line: Line,
    queue_line: Line,
    clients: Clients,
    direct: Clients,
    tables: Tables,
    clock: Arc<Hurried>,
    chance: Arc<Counting>,
    connection: ConnectionId,
}

/// SQS and Secrets Manager have one address on the local AWS.
fn settings(dynamodb: &str, sqs: &str) -> AwsSettings {
    AwsSettings {
        region: REGION.to_owned(),
        access_key_id: "local".to_owned(),
        secret_access_key: SecretString::from("local"),
        session_token: None,
        dynamodb_url: Some(dynamodb.to_owned()),
        sqs_url: Some(sqs.to_owned()),
        secrets_manager_url: Some(sqs.to_owned()),
    }
}

impl Bench {
    async fn new() -> Self {
        let local = LocalAws::start(None, 0, 0).await.unwrap();
        let line = Line::to(local.dynamodb_url()).await;
        let queue_line = Line::to(local.messaging_url()).await;
        let times = AwsTimes {
            connect_millis: ATTEMPT_MILLIS,
            attempt_millis: ATTEMPT_MILLIS,
        };
        let direct = Clients::new(settings(local.dynamodb_url(), local.messaging_url()));
        let tables = Tables::named("wire");
        tables.create(&direct.dynamodb()).await.unwrap();
        Self {
            clients: Clients::with_times(settings(&line.url, &queue_line.url), times),
            local,
            line,
            queue_line,
            direct,
            tables,
            clock: Arc::default(),
            chance: Arc::default(),
            connection: "example".parse().unwrap(),
        }
    }

    fn register_over(&self, clients: &Clients) -> DynamoRegister {
        let tables = RegisterTables {
            register: self.tables.register.clone(),
            audit: self.tables.audit.clone(),
        };
        DynamoRegister::new(
            clients.dynamodb(),
            tables,
            self.connection.clone(),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            Arc::clone(&self.chance) as Arc<dyn Chance>,
        )
    }

    /// Over the line.
    fn register(&self) -> DynamoRegister {
        self.register_over(&self.clients)
    }

    /// Around it.
    fn truth(&self) -> DynamoRegister {
        self.register_over(&self.direct)
    }
}

fn key(id: u64) -> RecordKey {
    RecordKey::Invoice(InvoiceId(id))
}

fn commit(token: &str, id: u64, seen: u64, audited: bool) -> Commit {
    let put = RecordWrite::Put {
        key: key(id),
        seen,
        body: token.to_owned(),
        state: String::new(),
        due: None,
    };
    let text = || token.to_owned();
    let entry = AuditEntry {
        document: format!("document/{id}"),
        sequence: seen + 1,
        at: Timestamp(1),
        events: text(),
        previous_hash: text(),
        hash: text(),
    };
    Commit {
        token: text(),
        writes: vec![put],
        audit: if audited { vec![entry] } else { Vec::new() },
    }
}

async fn shown(register: &DynamoRegister, id: u64) -> Option<(u64, String)> {
    let found = register.read(&[key(id)]).await.unwrap();
    let record = found.into_iter().next().flatten()?;
    Some((record.revision, record.body.ok()?))
}

/// Fails when a call has no end of its own.
async fn bounded<T>(what: &str, call: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(ENDLESS_SECONDS), call).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what} has no end of its own"),
    }
}

/// Every trouble on the line of a commit, alone and as a transaction: it is made once, is never called a conflict with
/// somebody else, and the SDK sends nothing by itself.
#[tokio::test]
async fn a_commit_is_made_once_whatever_the_line_does() {
    let bench = Bench::new().await;
    let (register, truth) = (bench.register(), bench.truth());
    let mut id = 0;
    for audited in [false, true] {
        for trouble in Trouble::ALL {
            id += 1;
            let what = format!("{trouble:?}, audited {audited}");
            let token = format!("made-{id}");
            let before = bench.line.arrived();
            bench.line.next(trouble);
            let answer = bounded(&what, register.commit(commit(&token, id, 0, audited))).await;
            assert_eq!(answer, Ok(()), "{what}");
            assert_eq!(shown(&truth, id).await, Some((1, token)), "{what}");
            let trail = truth.audit(&format!("document/{id}")).await.unwrap();
            assert_eq!(trail.len(), usize::from(audited), "{what}");
            let sent = bench.line.arrived() - before;
            // The answer to a write is so short that it is complete before dripping takes too long.
            let complete = matches!(trouble, Trouble::DiesAfterAnswer | Trouble::Drip);
            assert_eq!(sent, if complete { 1 } else { 2 }, "{what}: requests on the wire");
        }
    }
}

/// A line that spoils everything: the commit is ambiguous and not a conflict, after exactly as many requests as are ours to
/// send; and its repeat tells what became of it.
#[tokio::test]
async fn a_commit_without_any_answer_is_ambiguous_and_never_a_conflict() {
    let spoiled = [
        Trouble::ResetBefore,
        Trouble::ResetAfter,
        Trouble::HalfBody,
        Trouble::Silence,
        Trouble::GatewayAfter,
        Trouble::Garbage,
    ];
    let bench = Bench::new().await;
    let (register, truth) = (bench.register(), bench.truth());
    let mut id = 0;
    for audited in [false, true] {
        for trouble in spoiled {
            id += 1;
            let what = format!("{trouble:?}, audited {audited}");
            let before = bench.line.arrived();
            (0..TRIES).for_each(|_| bench.line.next(trouble));
            let whole = commit(&format!("lost-{id}"), id, 0, audited);
            let answer = bounded(&what, register.commit(whole.clone())).await;
            assert!(matches!(answer, Err(CommitError::Store(_))), "{what}: {answer:?}");
            assert_eq!(bench.line.arrived() - before, TRIES, "{what}");
            assert_eq!(register.commit(whole).await, Ok(()), "{what}");
            assert_eq!(shown(&truth, id).await, Some((1, format!("lost-{id}"))), "{what}");
        }
    }
}

/// The answer to a commit is lost, and somebody else writes the record before it is asked again. A transaction is told that
/// it was made; a single write cannot know, and says so: neither is read as "somebody else was faster, nothing was written".
#[tokio::test]
async fn a_commit_that_was_made_and_written_over_is_not_taken_for_one_that_was_not_made() {
    for (id, audited, trouble) in [
        (1, false, Trouble::CloseAfter),
        (2, true, Trouble::CloseAfter),
        (3, false, Trouble::ResetBefore),
        (4, true, Trouble::ResetBefore),
    ] {
        let bench = Bench::new().await;
        let (register, truth) = (bench.register(), bench.truth());
        let made = trouble == Trouble::CloseAfter;
        let other = commit("other", id, u64::from(made), false);
        *bench.clock.meanwhile.lock().unwrap() = Some(Box::pin(async move {
            truth.commit(other).await.unwrap();
        }));
        bench.line.next(trouble);
        let answer = register.commit(commit("ours", id, 0, audited)).await;
        let what = format!("audited {audited}, {trouble:?}: {answer:?}");
        match (audited, made) {
            (true, true) => assert_eq!(answer, Ok(()), "{what}"),
            // DynamoDB knows the token, so this one was not made.
            (true, false) => assert_eq!(answer, Err(CommitError::Conflict), "{what}"),
            (false, _) => assert!(matches!(answer, Err(CommitError::Store(_))), "{what}"),
        }
        let revision = 1 + u64::from(made);
        assert_eq!(
            shown(&bench.truth(), id).await,
            Some((revision, "other".to_owned()))
        );
    }
}

/// A read that the line spoils is asked again, and is never "not there".
#[tokio::test]
async fn a_read_is_never_empty_because_of_the_line() {
    let bench = Bench::new().await;
    let register = bench.register();
    bench.truth().commit(commit("there", 1, 0, false)).await.unwrap();
    for trouble in Trouble::ALL {
        bench.line.next(trouble);
        let what = format!("{trouble:?}");
        let found = bounded(&what, shown(&register, 1)).await;
        assert_eq!(found, Some((1, "there".to_owned())), "{what}");
    }
    for trouble in [Trouble::Silence, Trouble::Drip, Trouble::HalfBody] {
        (0..TRIES).for_each(|_| bench.line.next(trouble));
        let what = format!("{trouble:?} at every try");
        let found = bounded(&what, register.read(&[key(1)])).await;
        assert!(found.is_err(), "{what}: {found:?}");
    }
}

/// Connections that died while nobody looked, as they do while a function is frozen.
#[tokio::test]
async fn connections_to_aws_that_died_between_requests_harm_nobody() {
    let bench = Bench::new().await;
    let register = bench.register();
    for seen in 0..5 {
        bench.line.next(Trouble::DiesAfterAnswer);
        let token = format!("kept-{seen}");
        register.commit(commit(&token, 1, seen, true)).await.unwrap();
        assert_eq!(shown(&bench.truth(), 1).await, Some((seen + 1, token)));
    }
}

/// A message is in the queue whenever its sender was told so, and is sent no more often than the SDK may.
#[tokio::test]
async fn a_message_that_was_taken_is_in_the_queue_whatever_the_line_does() {
    let bench = Bench::new().await;
    let hint = |id| Hint::V1 {
        connection: bench.connection.clone(),
        subject: Subject::Invoice(InvoiceId(id)),
        reason: HintReason::Webhook,
        trace: "wire".to_owned(),
    };
    let sends = Trouble::ALL.into_iter().enumerate().map(|(place, trouble)| {
        let (bench, hint) = (&bench, &hint);
        async move {
            // Each has its own line, client and queue, so that the SDK's pauses overlap.
            let name = format!("hints-{place}");
            let client = bench.direct.sqs();
            let url = client.create_queue().queue_name(&name).send().await.unwrap();
            let url = url.queue_url.unwrap();
            let line = Line::to(bench.local.messaging_url()).await;
            let times = AwsTimes {
                connect_millis: ATTEMPT_MILLIS,
                attempt_millis: ATTEMPT_MILLIS,
            };
            let clients = Clients::with_times(settings(&line.url, &line.url), times);
            line.next(trouble);
            let what = format!("{trouble:?}");
            let queue = SqsQueue::new(clients.sqs(), url.clone());
            let answer = bounded(&what, queue.send(&[hint(1), hint(2)])).await;
            let depth = client
                .get_queue_attributes()
                .queue_url(&url)
                .attribute_names(aws_sdk_sqs::types::QueueAttributeName::All)
                .send()
                .await
                .unwrap();
            let depth = depth.attributes.unwrap_or_default();
            let messages: u64 = depth[&aws_sdk_sqs::types::QueueAttributeName::ApproximateNumberOfMessages]
                .parse()
                .unwrap();
            assert!(
                answer.is_err() || messages >= 2,
                "{what}: {answer:?} with {messages}"
            );
            let sent = line.arrived();
            assert!(sent <= SENDS, "{what}: sent {sent} times");
            assert!(
                messages <= 2 * sent,
                "{what}: {messages} messages of {sent} requests"
            );
            (what, answer.is_ok(), sent, messages)
        }
    });
    let done = futures_util::future::join_all(sends).await;
    println!("{done:?}");
    // Each of these troubles happens once, and a second request goes through. What is no HTTP the SDK does not ask again:
    // the sender is told, and sends again, or the sweep does.
    let failed: Vec<_> = done.iter().filter(|(_, taken, ..)| !taken).collect();
    assert!(failed.iter().all(|(what, ..)| what == "Garbage"), "{failed:?}");
    assert_eq!(bench.queue_line.arrived(), 0);
}

/// A secret that is there is never "not there" because of the line: a webhook would be refused for good as a stranger's, a
/// connection would stop. A store that gives no answer at all is down, and nothing else.
#[tokio::test]
async fn a_secret_is_never_taken_for_absent_because_of_the_line() {
    const DOCUMENT: &str = r#"{"scheme":"coupa-hmac"}"#;
    let bench = Bench::new().await;
    let secret = SecretString::from(DOCUMENT);
    bench.local.secrets.create("wire/example", &secret).await.unwrap();
    let spoiled = Trouble::ALL
        .into_iter()
        .flat_map(|trouble| [1, SENDS].map(|times| (trouble, times)));
    let asked = spoiled.map(|(trouble, times)| {
        let bench = &bench;
        async move {
            let line = Line::to(bench.local.messaging_url()).await;
            let times_of = AwsTimes {
                connect_millis: ATTEMPT_MILLIS,
                attempt_millis: ATTEMPT_MILLIS,
            };
            let clients = Clients::with_times(settings(&line.url, &line.url), times_of);
            (0..times).for_each(|_| line.next(trouble));
            let clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
            let reader = SecretReader::new(clients.secrets_manager(), "wire/".to_owned(), clock);
            let what = format!("{trouble:?}, {times} times");
            let found = bounded(&what, reader.document(&bench.connection)).await;
            assert!(line.arrived() <= SENDS, "{what}: asked {} times", line.arrived());
            match found {
                Ok(Some(text)) => {
                    assert_eq!(text.expose_secret(), DOCUMENT, "{what}");
                    true
                }
                Ok(None) => panic!("{what}: the secret is taken for absent"),
                Err(ReadError::Unavailable { .. }) => false,
                Err(other) => panic!("{what}: {}", other.problem()),
            }
        }
    });
    let answered = futures_util::future::join_all(asked).await;
    let read = answered.iter().filter(|read| **read).count();
    // Of what is spoiled once all but Garbage is asked again; of what is spoiled each time only the complete answer counts.
    assert!(read >= Trouble::ALL.len() - 1, "{answered:?}");
    assert!(read < answered.len(), "{answered:?}");
}

/// Whole lives of an invoice whose register lies behind a faulty line: one document in QAD, and a trail that verifies.
#[tokio::test]
async fn whole_lives_over_a_faulty_line_to_the_register_end_with_one_document() {
    let settings = InvoiceSettings {
        policy: policy().unwrap(),
        recheck_millis: RECHECK_MILLIS,
        outcomes: flows::ports::Outcomes::Nothing,
        adopt_equal_documents: true,
        second_person: domain::instruction::SecondPerson::default(),
        zone: domain::time::Zone::default(),
    };
    let lives = (1..=LIVES).map(|seed| {
        let settings = &settings;
        // On the heap: a flow is large in a debug build.
        Box::pin(async move {
            let bench = Bench::new().await;
            bench.clock.now.store(BEGINNING.0, Ordering::SeqCst);
            let clock = Arc::clone(&bench.clock);
            let ports = WorldPorts::new(straight_through(), Arc::new(move || clock.now()));
            let register = bench.register();
            let timing = tests::timing();
            bench.line.by_chance(seed, FAULTY_REQUESTS);
            for round in 0.. {
                assert!(round < RUNS_MAX, "seed {seed} does not come to rest");
                let now = bench.clock.now();
                let home = Home {
                    connection: "acme".parse().unwrap(),
                    tenant: tests::harness::tenant(),
                };
                let deps = match_invoice::Deps {
                    home: &home,
                    context: Context {
                        register: &register,
                        clock: &*bench.clock,
                        chance: &*bench.chance,
                        timing: &timing,
                        deadline: now.plus_millis(timing.function_millis - timing.stop_margin_millis),
                    },
                    coupa: &ports,
                    qad: &ports,
                    index: &register,
                    reads: &Reads::default(),
                    settings,
                    entities: &[],
                };
                // A run that fails leaves its record as it is, and due.
                let run = Box::pin(match_invoice::run(&deps, INVOICE, HintReason::Sweep));
                let _ = bounded("a run", run).await;
                let stored = bench.truth().read(&[RecordKey::Invoice(INVOICE)]).await.unwrap();
                let record = stored.into_iter().next().flatten();
                let record = record.map(|stored| parse::<InvoiceRecord>(&stored).unwrap());
                if record
                    .as_ref()
                    .is_some_and(|record| record.state.word() == "exported")
                {
                    break;
                }
                let due = record
                    .and_then(|record| record.due(&timing))
                    .map_or(0, |due| due.0);
                bench.clock.now.fetch_max(due, Ordering::SeqCst);
                bench.clock.now.fetch_add(1_000, Ordering::SeqCst);
            }
            let documents = ports.world.lock().unwrap().qad.invoices.len();
            assert_eq!(documents, 1, "seed {seed}");
            let trail = bench.truth().audit(&invoice_audit_name(INVOICE)).await.unwrap();
            verify_chain(&trail).unwrap();
            bench.line.troubles()
        })
    });
    let troubles: u64 = futures_util::future::join_all(lives).await.into_iter().sum();
    println!("{LIVES} lives with {troubles} troubles on the register's lines");
    assert!(troubles > LIVES, "{troubles}");
}
