//! What a page costs at the tables: requests, and read units as DynamoDB tells them. That it costs the same at a hundred and at a
//! hundred thousand invoices is shown by the tests of the page itself; here there are as many as fill every list it shows.

use crate::local_dynamo::Tables;
use crate::meter::{Meter, Used};
use async_trait::async_trait;
use aws::clients::Clients;
use aws::config::Config;
use aws::dynamo::{DynamoRegister, RegisterTables};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::index::rebuild_step;
use flows::ports::{
    Books, Chance, Clock, Commit, Hint, IndexWrite, Queue, RecordWrite, Register, StoreError, TALLY_PARTS,
    Tally,
};
use flows::store::Context;
use pages::{Console, Kept, Login, Person, PlantClock, Role, Seal};
use rust_decimal::Decimal;
use sandbox::local::LocalAws;
use sandbox::local::aws::REGION;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tests::gate::Seeded;
use tests::large_register::{Of, each};

const HOST: &str = "127.0.0.1:1";
/// 9 November 2026: the pictures of Today need two months.
const NOW: i64 = 1_794_225_600_000;
/// Enough for every list to be longer than a page.
const INVOICES: u64 = 240;
/// Reads of a page, at most.
const READS_MAX: u64 = 4;
/// Read units of a page that is looked at again within ten minutes, at most: the goal.
const UNITS_MAX: f64 = 6.0;
/// The same of the first look: the days of the pictures and the counts of suppliers are read then.
const FIRST_UNITS_MAX: f64 = 14.0;

struct Still(AtomicI64);

#[async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, _: Duration) {}
}

#[async_trait]
impl Queue for Still {
    async fn send(&self, _: &[Hint]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What twenty days of work leave in the sheets, in each of their parts.
fn sheets() -> Vec<Commit> {
    let tally = Tally {
        count: 25,
        amount: Decimal::from(32_400),
    };
    let mut commits = Vec::new();
    for (month, days) in [("2026-10", 11..=30), ("2026-11", 1..=9)] {
        for part in 0..TALLY_PARTS {
            let named = |views: &[&str]| -> BTreeMap<String, Tally> {
                let day = |day: u32| {
                    views
                        .iter()
                        .map(move |view| (format!("{day:02}/{view}/USD"), tally))
                };
                days.clone().flat_map(day).collect()
            };
            let count =
                |sheet: String, changes| RecordWrite::Index(IndexWrite::Count { sheet, part, changes });
            commits.push(Commit {
                writes: vec![
                    count(month.to_owned(), named(&["posted", "waits", "needs-you"])),
                    count(format!("since/{month}"), named(&["waits", "needs-you"])),
                ],
                ..Commit::default()
            });
        }
    }
    commits
}

struct Page {
    console: Arc<Console>,
    meter: Meter,
    clock: Arc<Still>,
    cookie: String,
    _aws: LocalAws,
}

impl Page {
    async fn over_the_tables() -> Self {
        let aws = LocalAws::start(None, 0, 0).await.unwrap();
        let meter = Meter::to(aws.dynamodb_url()).await;
        let tables = Tables::named("pages");
        let client = |url: &str| {
            let environment = BTreeMap::from(
                [
                    ("AWS_REGION", REGION),
                    ("AWS_ACCESS_KEY_ID", "local"),
                    ("AWS_SECRET_ACCESS_KEY", "local"),
                    ("AWS_ENDPOINT_URL_DYNAMODB", url),
                ]
                .map(|(name, value)| (name, value.to_owned())),
            );
            let config = Config::read(|name| environment.get(name).cloned()).unwrap();
            Clients::new(config.aws().unwrap()).dynamodb()
        };
        let clock = Arc::new(Still(AtomicI64::new(NOW)));
        let chance: Arc<dyn Chance> = Arc::new(Seeded::new(1));
        let register = |client| {
            let names = RegisterTables {
                register: tables.register.clone(),
                audit: tables.audit.clone(),
            };
            let (clock, chance) = (Arc::<Still>::clone(&clock), Arc::clone(&chance));
            DynamoRegister::new(client, names, "example".parse().unwrap(), clock, chance)
        };
        let direct = client(aws.dynamodb_url());
        tables.create(&direct).await.unwrap();
        let mut commits = sheets();
        each(Of::Waiting, 0, INVOICES, &mut |commit| commits.push(commit)).unwrap();
        let truth = register(direct);
        let timing = Timing::default();
        let context = Context {
            register: &truth,
            clock: &*clock,
            chance: &*chance,
            timing: &timing,
            deadline: Timestamp(i64::MAX),
        };
        // Of an empty register, so that what is laid down is not taken in once more.
        assert!(rebuild_step(&context, &truth).await.unwrap().complete);
        for (number, commit) in commits.into_iter().enumerate() {
            let token = format!("laid-down-{number}");
            truth.commit(Commit { token, ..commit }).await.unwrap();
        }
        let books: Arc<dyn Books> = Arc::new(register(client(&meter.url)));
        let dana = Person {
            by: "local:dana@example.com".to_owned(),
            name: "dana".to_owned(),
            roles: BTreeSet::from([Role::Clerk]),
        };
        let console = Console {
            connections: BTreeMap::from([("example".parse().unwrap(), books)]),
            login: Login::Local(vec![dana]),
            seal: Seal::new("a secret of this test"),
            hints: Arc::<Still>::clone(&clock),
            clock: Arc::<Still>::clone(&clock),
            chance,
            timing: Timing::default(),
            zone: PlantClock::new("Europe/Berlin").unwrap(),
            kept: Kept::default(),
        };
        let mut page = Self {
            console: Arc::new(console),
            meter,
            clock,
            cookie: String::new(),
            _aws: aws,
        };
        page.enter().await;
        page
    }

    async fn enter(&mut self) {
        let request = Request::post(format!("http://{HOST}/login"))
            .header(header::HOST, HOST)
            .header(header::ORIGIN, format!("http://{HOST}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = Body::from("person=0&to=%2F");
        let answer = self.console.answer(request.body(body).unwrap()).await;
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        self.cookie = cookie.split(';').next().unwrap().to_owned();
    }

    /// What a look costs.
    async fn look(&self, path: &str) -> (Used, String) {
        let request = Request::get(format!("http://{HOST}{path}"))
            .header(header::HOST, HOST)
            .header(header::COOKIE, &self.cookie);
        self.meter.take();
        let answer = self.console.answer(request.body(Body::empty()).unwrap()).await;
        let used = self.meter.take();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let body = to_bytes(answer.into_body(), 1 << 22).await.unwrap();
        (used, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_takes_four_reads_and_six_units_at_most() {
    let page = Page::over_the_tables().await;
    for path in ["/", "/suppliers"] {
        let (first, body) = page.look(path).await;
        assert!(
            body.contains("Next") || path == "/",
            "the lists are longer than a page: {body}"
        );
        let (again, _) = page.look(path).await;
        println!(
            "| {path} | {:?} {:.1} units at first | {:?} {:.1} units again |",
            first.calls, first.read, again.calls, again.read
        );
        assert!(
            first.requests() <= READS_MAX && again.requests() <= READS_MAX,
            "{path}: {first:?} {again:?}"
        );
        assert!(first.read <= FIRST_UNITS_MAX, "{path}: {first:?}");
        assert!(again.read > 0.0 && again.read <= UNITS_MAX, "{path}: {again:?}");
        page.clock.0.fetch_add(600_000, Ordering::SeqCst);
        let (later, _) = page.look(path).await;
        assert!(
            later.read > again.read,
            "{path}: what is kept is read anew after ten minutes: {later:?}"
        );
    }
}
