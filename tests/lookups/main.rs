//! Lookup values over the real wire: the flow with its connectors against the simulated systems' sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test may say so by panicking"
)]

use connectors::connection::{ConnectionDocument, World as Ground, clients};
use connectors::coupa::CoupaClient;
use connectors::http::pace::Paces;
use connectors::http::transport::HttpTransport;
use connectors::qad::QadClient;
use domain::plans::PlanRecord;
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::plans;
use flows::ports::{Chance, Clock};
use flows::store::{Context, load};
use flows::sync_lookups::{Deps, LookupRun, run};
use sandbox::bench::{SharedClock, Tokens};
use sandbox::faults::{Fault, FaultRule, RetryAfter, System};
use sandbox::http::{Options, Simulators};
use sandbox::scenario::lookups::{List, LookupStory, differences, play, stories};
use sandbox::world::World;
use sandbox::world::qad::CodedValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tests::memory_register::MemoryRegister;

const START: i64 = 1_774_000_000_000;
const MINUTE: i64 = 60_000;
const SUB_ACCOUNTS: &str = "QAD Sub-accounts";

#[derive(Default)]
struct Counting(AtomicU64);

impl Chance for Counting {
    fn token(&self) -> String {
        format!("token-{}", self.0.fetch_add(1, Ordering::SeqCst))
    }

    fn up_to(&self, max: u64) -> u64 {
        max
    }
}

struct Bench {
    simulators: Simulators,
    register: MemoryRegister,
    document: ConnectionDocument,
    coupa: CoupaClient,
    qad: QadClient,
    time: Arc<AtomicI64>,
    clock: SharedClock,
    chance: Counting,
    timing: Timing,
}

impl Bench {
    async fn new(lookups: Value) -> Self {
        let time = Arc::new(AtomicI64::new(START));
        let reads = Arc::clone(&time);
        let now: sandbox::ports::Now = Arc::new(move || Timestamp(reads.load(Ordering::SeqCst)));
        let mut world = World::seed(&[], Timestamp(START));
        world.coupa.lookups.insert(SUB_ACCOUNTS.to_owned());
        let simulators = Simulators::start(world, now, Options::default()).await.unwrap();
        let document = json!({
            "coupa": {"base_url": simulators.coupa_url, "client_id": "example-coupa-client",
                "client_secret": "example-coupa-secret", "scopes": ["core.common.read", "core.common.write"]},
            "qad": {"base_url": simulators.qad_url, "domain": "10USA", "entity": "10USACO", "auth": {"type": "password",
                "client_id": "example-qad-client", "username": "example-user", "password": "example-password"}},
            "lookups": lookups,
        });
        let document = ConnectionDocument::parse(&document.to_string()).unwrap();
        let ground = Ground {
            transport: Arc::new(HttpTransport::new()),
            tokens: Arc::new(Tokens::default()),
            clock: Arc::new(SharedClock(Arc::clone(&time))),
            chance: Arc::new(Counting::default()),
            paces: Arc::new(Paces::new(1)),
        };
        let connection = "example".parse().unwrap();
        let (coupa, qad) = clients(&connection, &document, &ground, Duration::from_secs(60));
        Self {
            simulators,
            register: MemoryRegister::new(),
            document,
            coupa,
            qad,
            clock: SharedClock(Arc::clone(&time)),
            time,
            chance: Counting::default(),
            timing: Timing::default(),
        }
    }

    fn context(&self) -> Context<'_> {
        let millis = self.timing.function_millis - self.timing.stop_margin_millis;
        Context {
            register: &self.register,
            clock: &self.clock,
            chance: &self.chance,
            timing: &self.timing,
            deadline: self.clock.now().plus_millis(millis),
        }
    }

    async fn sync(&self) -> Vec<LookupRun> {
        self.time.fetch_add(10 * MINUTE, Ordering::SeqCst);
        let deps = Deps {
            context: self.context(),
            coupa: &self.coupa,
            qad: &self.qad,
            lookups: &self.document.lookups.as_ref().unwrap().syncs,
            plan_only: false,
        };
        run(&deps).await.unwrap()
    }

    fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.simulators.world.lock().unwrap())
    }

    fn arm(&self, rule: FaultRule) {
        self.simulators.faults.lock().unwrap().arm(rule);
    }

    /// How often each operation was asked for from the journal's entry `after` on, tokens aside.
    fn asked(&self, after: u64) -> BTreeMap<String, usize> {
        let journal = self.simulators.journal.lock().unwrap();
        let mut asked = BTreeMap::new();
        for entry in journal.entries().filter(|entry| entry.sequence > after) {
            assert_eq!(entry.contract_violation, None, "{entry:?}");
            if !entry.operation.starts_with("token") {
                *asked.entry(entry.operation.clone()).or_default() += 1;
            }
        }
        asked
    }

    fn journal_end(&self) -> u64 {
        let journal = self.simulators.journal.lock().unwrap();
        journal.entries().map(|entry| entry.sequence).max().unwrap_or(0)
    }

    /// Coupa shows exactly what QAD lists, and every number once.
    fn assert_equal(&self, story: &str) {
        for one in stories() {
            let differences = self.world(|world| differences(&one, world));
            assert_eq!(differences, Vec::<String>::new(), "{story}: {}", one.lookup);
        }
    }

    /// One more run finds nothing to do: one listing per side and lookup, and no write.
    async fn assert_idle(&self, story: &str) {
        let before = self.journal_end();
        for done in self.sync().await {
            assert_eq!(
                (done.planned, done.open, done.unanswered, done.needs_a_person),
                (0, 0, None, vec![]),
                "{story}"
            );
        }
        let lists = [
            ("browse.cost-centers", 1),
            ("browse.gl-accounts", 1),
            ("browse.projects", 1),
            ("lookup-values.list", 3),
        ];
        let expected: BTreeMap<String, usize> = lists
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        assert_eq!(self.asked(before), expected, "{story}");
    }
}

fn story(list: List) -> LookupStory {
    stories().into_iter().find(|one| one.list == list).unwrap()
}

fn value(code: &str, description: &str) -> CodedValue {
    CodedValue {
        code: code.into(),
        description: description.into(),
        active: true,
    }
}

#[tokio::test]
async fn the_three_lists_fill_follow_and_are_left_alone() {
    let bench = Bench::new(json!({})).await;
    let filled = bench.sync().await;
    assert_eq!(
        filled.iter().map(|done| done.written).collect::<Vec<_>>(),
        [3, 2, 3]
    );
    bench.assert_equal("first fill");
    bench.assert_idle("first fill").await;
    let centers = story(List::CostCenters);
    for change in &centers.acts[1].changes {
        let mut faults = bench.simulators.faults.lock().unwrap();
        bench.world(|world| play(&centers, change, world, &mut faults));
    }
    let before = bench.journal_end();
    let changed = bench.sync().await;
    assert_eq!(changed[0].written, 5);
    let asked = bench.asked(before);
    assert_eq!(
        (asked["lookup-values.create"], asked["lookup-values.update"]),
        (3, 2),
        "900 was never in Coupa, so it is created"
    );
    bench.assert_equal("changed");
    bench.assert_idle("changed").await;
    let person = bench.world(|world| world.coupa.lookup_values[&990_001].clone());
    assert_eq!(person["active"], true);
}

#[tokio::test]
async fn what_coupa_has_already_is_taken_over_also_when_there_are_many_pages() {
    let bench = Bench::new(json!({})).await;
    bench.world(|world| {
        for number in 0..120_u64 {
            world.qad.cost_centers.push(value(&format!("K{number}"), "Line"));
            let name = if number < 3 { "Old name" } else { "Line" };
            let held = json!({"id": 500 + number, "name": format!("K{number} {name}"), "active": number != 5,
                "external-ref-num": format!("k{number}"), "external-ref-code": format!("k{number}"),
                "lookup": {"name": "QAD Cost Centers"}});
            world
                .coupa
                .lookup_values
                .insert(500 + number, held.as_object().unwrap().clone());
        }
    });
    let before = bench.journal_end();
    let done = bench.sync().await;
    // 3 new ones, 3 renamed, 1 reactivated: fewer than 20 percent of 119.
    assert_eq!((done[0].written, done[0].in_coupa), (7, 120));
    assert_eq!(bench.asked(before)["lookup-values.create"], 3 + 2 + 3);
    assert!(bench.sync().await.iter().all(|done| done.planned == 0));
}

#[tokio::test]
async fn a_large_change_waits_and_an_empty_browse_takes_nothing_away() {
    let bench = Bench::new(json!({"change_percent_max": 50, "change_count_min": 1})).await;
    bench.sync().await;
    bench.world(|world| world.qad.cost_centers.retain(|center| center.code == "200"));
    let parked = bench.sync().await;
    assert!(parked[0].parked && !parked[1].parked);
    assert_eq!(parked[0].needs_a_person[0].code, "LOOKUP_CHANGE_TOO_LARGE");
    let hash = parked[0].plan_sha256.clone();
    plans::allow(
        &bench.context(),
        Some("QAD Cost Centers"),
        &hash,
        "ada",
        "plant closed",
    )
    .await
    .unwrap();
    bench.sync().await;
    bench.assert_equal("allowed");
    bench.world(|world| world.qad.cost_centers.clear());
    let before = bench.journal_end();
    let empty = bench.sync().await;
    assert_eq!(empty[0].needs_a_person[0].code, "LOOKUP_SOURCE_EMPTY");
    assert!(!bench.asked(before).contains_key("lookup-values.update"));
    let record = load::<PlanRecord>(&bench.register, plans::key(Some("QAD Cost Centers"))).await;
    assert!(record.unwrap().unwrap().document.allowed_plan.is_none());
}

#[tokio::test]
async fn one_lookup_that_fails_does_not_stop_the_others() {
    let bench = Bench::new(json!({})).await;
    bench.world(|world| {
        world.coupa.lookups.remove("QAD Cost Centers");
    });
    bench.arm(FaultRule::next(
        System::Qad,
        "browse.projects",
        None,
        Fault::Status {
            status: 403,
            retry_after: RetryAfter::Absent,
            after_commit: false,
        },
    ));
    let done = bench.sync().await;
    assert_eq!(done[0].needs_a_person[0].code, "COUPA_LOOKUP_MISSING");
    assert_eq!(done[1].unanswered.as_ref().unwrap().code, "QAD_PERMISSION_DENIED");
    assert_eq!(done[2].written, 3);
    // What is known to be missing is asked for, and nothing is written.
    let before = bench.journal_end();
    assert_eq!(
        bench.sync().await[0].needs_a_person[0].code,
        "COUPA_LOOKUP_MISSING"
    );
    let asked = bench.asked(before);
    assert_eq!(asked.get("lookups.list"), Some(&1));
    assert_eq!(
        asked.get("lookup-values.create").copied().unwrap_or(0),
        2,
        "the projects alone"
    );
    bench.world(|world| {
        world.coupa.lookups.insert("QAD Cost Centers".to_owned());
    });
    bench.sync().await;
    bench.assert_equal("healed");
}

#[tokio::test]
async fn values_below_values_are_made_from_the_root_down_and_go_from_the_leaves_up() {
    let bench = Bench::new(json!({
        "sync": [{"lookup": SUB_ACCOUNTS, "source": "sub-accounts"}],
        "sources": {"sub-accounts": {
            "browse_id": "urn:browse:custom:sub-accounts",
            "fields": {"code": "sb_mstr.sb_sub", "description": "sb_mstr.sb_desc", "active": "sb_mstr.sb_active",
                "parent": "sb_mstr.sb_parent"},
        }},
    }))
    .await;
    let family = [("30", "20"), ("20", "10"), ("10", ""), ("31", "20")];
    bench.world(|world| {
        let of = |(code, parent): (&str, &str)| (value(code, "Level"), parent.to_owned());
        world.qad.sub_accounts = family.into_iter().map(of).collect();
    });
    let done = bench.sync().await;
    assert_eq!((done[0].planned, done[0].written), (4, 4));
    let codes: Vec<String> = bench.world(|world| {
        let values = world.coupa.lookup_values.values();
        values
            .map(|value| value["external-ref-code"].as_str().unwrap().to_owned())
            .collect()
    });
    assert_eq!(codes, ["10", "10-20", "10-20-30", "10-20-31"]);
    assert_eq!(bench.sync().await[0].planned, 0);
    bench.world(|world| world.qad.sub_accounts = vec![(value("90", "Other"), String::new())]);
    let before = bench.journal_end();
    assert_eq!(bench.sync().await[0].written, 5);
    let updates: Vec<Vec<String>> = {
        let journal = bench.simulators.journal.lock().unwrap();
        journal
            .entries()
            .filter(|entry| entry.sequence > before && entry.operation == "lookup-values.update")
            .map(|entry| entry.keys.clone())
            .collect()
    };
    let ids = bench.world(|world| {
        let id = |path: &str| {
            let values = world.coupa.lookup_values.values();
            let mut of = values.filter(|value| value["external-ref-code"] == path);
            of.next().unwrap()["id"].to_string()
        };
        [id("10-20"), id("10")]
    });
    assert_eq!(updates[2..], [[ids[0].clone()], [ids[1].clone()]]);
    assert_eq!(bench.sync().await[0].planned, 0);
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_and_not_sent_again() {
    let bench = Bench::new(json!({})).await;
    bench.sync().await;
    bench.world(|world| world.qad.gl_accounts.push(value("6300", "Packaging")));
    let lost = FaultRule::next(System::Coupa, "lookup-values.create", None, Fault::LostAfter);
    bench.arm(lost);
    let before = bench.journal_end();
    let done = bench.sync().await;
    assert_eq!((done[2].open, done[2].lost_answers), (1, 1));
    bench.sync().await;
    assert_eq!(bench.asked(before)["lookup-values.create"], 1);
    bench.assert_equal("looked up");
    bench.assert_idle("looked up").await;
}

/// A small generator of numbers: the same seed gives the same story.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn fault(draw: &mut Draw) -> FaultRule {
    let status = |status, after_commit| Fault::Status {
        status,
        retry_after: RetryAfter::Seconds(1),
        after_commit,
    };
    let fault = match draw.below(9) {
        0 => Fault::LostBefore,
        1 => Fault::LostAfter,
        2 => Fault::LateCommit { delay_ms: 30_000 },
        3 => Fault::MalformedJson,
        4 => Fault::TruncatedBody,
        5 => Fault::HtmlPage,
        6 => status(500, true),
        7 => status(503, false),
        _ => status(429, false),
    };
    let operations = [
        "lookup-values.create",
        "lookup-values.update",
        "lookup-values.list",
    ];
    match draw.below(4) {
        3 => FaultRule::next(System::Qad, "*", None, fault),
        at => FaultRule::next(
            System::Coupa,
            operations[usize::try_from(at).unwrap()],
            None,
            fault,
        ),
    }
}

fn mix(bench: &Bench, draw: &mut Draw) {
    bench.world(|world| {
        let lists = [
            &mut world.qad.cost_centers,
            &mut world.qad.projects,
            &mut world.qad.gl_accounts,
        ];
        for list in lists {
            for _ in 0..draw.below(4) {
                let at = usize::try_from(draw.below(u64::try_from(list.len()).unwrap())).unwrap();
                match draw.below(5) {
                    0 => list.push(value(&format!("N{}", draw.below(1_000_000)), "Added")),
                    1 => list[at].description = format!("Renamed {}", draw.below(100)),
                    2 => list[at].description.clear(),
                    3 if list.len() > 1 => {
                        list.remove(at);
                    }
                    _ => list[at].active = !list[at].active,
                }
            }
        }
    });
}

#[tokio::test]
async fn any_mix_of_changes_lost_answers_and_refusals_ends_equal_and_then_writes_nothing() {
    for seed in 0..12 {
        let mut draw = Draw(seed * 7_919 + 1);
        let bench = Bench::new(json!({"change_count_min": 1000})).await;
        for round in 0..3 {
            mix(&bench, &mut draw);
            for _ in 0..draw.below(4) {
                bench.arm(fault(&mut draw));
            }
            bench.sync().await;
            mix(&bench, &mut draw);
            bench.sync().await;
            bench.simulators.faults.lock().unwrap().clear();
            for _ in 0..3 {
                bench.sync().await;
            }
            let story = format!("seed {seed}, round {round}");
            bench.assert_equal(&story);
            bench.assert_idle(&story).await;
        }
    }
}
