//! The page as a browser meets it, over a register in memory: who is let in, what is refused, what an act needs, and what a
//! question costs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failing test may say so by panicking"
)]

#[path = "page/month_end.rs"]
mod month_end;
#[path = "page/named.rs"]
mod named;
#[path = "page/notices.rs"]
mod notices;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use domain::documents::{InvoiceParticulars, SourceVersion};
use domain::ids::{DocumentKind, InvoiceId};
use domain::instruction::SecondPerson;
use domain::lifecycle::{Event, InvoiceRecord, PaidState, ParkReason, PostedHow, State, Summary, Voucher};
use domain::matching::{Exception, ExceptionCode};
use domain::payments::BillPayments;
use domain::plans::{PlanEvent, PlanRecord, PlanState};
use domain::problem::Problem;
use domain::suppliers::{
    CoupaLink, CoupaSupplier, CoupaSupplierStatus, Directory, QadLink, QadSupplier, SupplierData,
    SupplierEvent, SupplierField, SupplierId, SupplierPolicy, SupplierRecord, SupplierState, link_coupa,
    link_qad,
};
use domain::time::Timestamp;
use domain::timing::Timing;
use flows::bills::bill_key;
use flows::index::{self, entries};
use flows::plans;
use flows::ports::{
    Books, Chance, Clock, Collection, Commit, Hint, Queue, RecordKey, RecordWrite, Register, StoreError,
};
use flows::published::{self, Published};
use flows::store::{Change, Context, load, save};
use flows::sync_suppliers::{QUARANTINE, key_of};
use pages::{Console, Login, Person, PlantClock, Role, Seal};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::large_register::{Of, fill};
use tests::memory_register::MemoryRegister;

const HOST: &str = "127.0.0.1:1";

#[derive(Default)]
struct Fakes {
    now: AtomicI64,
    count: AtomicU64,
    hints: Mutex<Vec<Hint>>,
}

#[async_trait]
impl Clock for Fakes {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
    async fn sleep(&self, _: Duration) {}
}

impl Chance for Fakes {
    fn token(&self) -> String {
        format!("token-{}", self.count.fetch_add(1, Ordering::Relaxed))
    }
    fn up_to(&self, _: u64) -> u64 {
        0
    }
}

#[async_trait]
impl Queue for Fakes {
    async fn send(&self, hints: &[Hint]) -> Result<(), StoreError> {
        self.hints.lock().unwrap().extend_from_slice(hints);
        Ok(())
    }
}

struct World {
    fakes: Arc<Fakes>,
    register: MemoryRegister,
    console: Arc<Console>,
    timing: Timing,
}

fn people() -> Vec<Person> {
    let person = |name: &str, role| Person {
        by: format!("local:{name}@example.com"),
        name: name.to_owned(),
        roles: BTreeSet::from([role]),
    };
    vec![
        person("dana", Role::Clerk),
        person("robin", Role::Clerk),
        person("sam", Role::Approver),
        person("casey", Role::Controller),
        person("alex", Role::Auditor),
    ]
}

fn particulars(id: u64) -> InvoiceParticulars {
    InvoiceParticulars {
        due: "2026-04-04".parse().ok(),
        discount_until: "2026-03-15".parse().ok(),
        discount_percent: Some(Decimal::TWO),
        payment_term: Some("2 % 10, net 30".to_owned()),
        requester: Some("Robin Sample".to_owned()),
        plant: Some("Plant 10USA".to_owned()),
        original: None,
        page: Some(format!("https://acme.coupahost.com/invoices/{id}")),
    }
}

fn parked(id: u64, name: &str) -> InvoiceRecord {
    let mut record = InvoiceRecord::new(InvoiceId(id), Timestamp(1_764_000_000_000));
    record.summary = Some(Summary {
        reference: format!("INV-{id}").parse().unwrap(),
        kind: DocumentKind::Invoice,
        supplier_name: name.to_owned(),
        supplier_number: None,
        invoice_date: "2026-03-05".parse().unwrap(),
        total: Decimal::from(1_296),
        currency: "USD".parse().unwrap(),
        orders: vec![format!("PO{id}").parse().unwrap()],
        particulars: particulars(id),
    });
    record.source = Some(SourceVersion {
        updated_at: Timestamp(0),
        content_sha256: "c".repeat(64),
    });
    record
}

fn over_price() -> Event {
    parked_for(ExceptionCode::PriceOverTolerance)
}

fn parked_for(code: ExceptionCode) -> Event {
    Event::Parked {
        reason: ParkReason::Match {
            exceptions: vec![Exception {
                code,
                line: Some(1),
                order_line: None,
                expected: "10.00".into(),
                actual: "10.80".into(),
                limit: "10.20".into(),
            }],
        },
    }
}

impl World {
    async fn new() -> Self {
        let fakes = Arc::new(Fakes::default());
        fakes.now.store(1_764_547_200_000, Ordering::Relaxed);
        let register = MemoryRegister::new();
        let books: Arc<dyn Books> = Arc::new(register.clone());
        let console = Console {
            connections: BTreeMap::from([("demo".parse().unwrap(), books)]),
            login: Login::Local(people()),
            seal: Seal::new("a secret of this test"),
            hints: Arc::<Fakes>::clone(&fakes),
            clock: Arc::<Fakes>::clone(&fakes),
            chance: Arc::<Fakes>::clone(&fakes),
            timing: Timing::default(),
            zone: PlantClock::new("Europe/Berlin").unwrap(),
            kept: pages::Kept::default(),
        };
        let world = Self {
            fakes,
            register,
            console: Arc::new(console),
            timing: Timing::default(),
        };
        let rule = SecondPerson {
            above: BTreeMap::from([("USD".parse().unwrap(), Decimal::from(1_000))]),
            valid_millis: 86_400_000,
        };
        published::publish(&world.context(), &Published::of(&rule))
            .await
            .unwrap();
        world
    }

    fn context(&self) -> Context<'_> {
        Context {
            register: &self.register,
            clock: &*self.fakes,
            chance: &*self.fakes,
            timing: &self.timing,
            deadline: Timestamp(i64::MAX),
        }
    }

    async fn park(&self, record: InvoiceRecord) {
        self.park_for(record, over_price()).await;
    }

    async fn park_for(&self, record: InvoiceRecord, event: Event) {
        let change = Change {
            document: record.after(&event, Timestamp(1_764_000_000_000)).unwrap(),
            events: vec![event],
            writes: vec![],
        };
        save(&self.context(), 0, change).await.unwrap();
    }

    /// Lays a body down as a record, whatever it is.
    fn lay(&self, key: RecordKey, seen: u64, body: String) {
        self.register.lay_down(&Commit {
            writes: vec![RecordWrite::Put {
                key,
                seen,
                body,
                state: String::new(),
                due: None,
            }],
            ..Commit::default()
        });
    }

    async fn record(&self, id: u64) -> (InvoiceRecord, u64) {
        let found = load::<InvoiceRecord>(&self.register, RecordKey::Invoice(InvoiceId(id))).await;
        let loaded = found.unwrap().unwrap();
        (loaded.document, loaded.revision)
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.console.answer(request).await;
        let text = |name| {
            let value = response.headers().get(name);
            value
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap_or_default()
        };
        let (status, location, cookie) = (
            response.status(),
            text(header::LOCATION),
            text(header::SET_COOKIE),
        );
        assert_eq!(text(header::CACHE_CONTROL), "no-store");
        assert!(text(header::CONTENT_SECURITY_POLICY).starts_with("default-src 'none'"));
        let body = to_bytes(response.into_body(), 1 << 22).await.unwrap();
        Answer {
            status,
            location,
            cookie: cookie.split(';').next().unwrap_or_default().to_owned(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn get(&self, cookie: &str, path: &str) -> Answer {
        let request = Request::get(format!("http://{HOST}{path}"))
            .header(header::HOST, HOST)
            .header(header::COOKIE, cookie);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, cookie: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        self.post_from(&format!("http://{HOST}"), cookie, path, form)
            .await
    }

    async fn post_from(&self, origin: &str, cookie: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = Request::post(format!("http://{HOST}{path}"))
            .header(header::HOST, HOST)
            .header(header::ORIGIN, origin)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(body)).unwrap()).await
    }

    /// The cookie of a person, by the place in [`people`].
    async fn enter(&self, person: usize) -> String {
        self.post("", "/login", &[("person", &person.to_string()), ("to", "/")])
            .await
            .cookie
    }

    /// Goes the whole way of an act: form, confirmation, act.
    async fn act(&self, cookie: &str, path: &str, reason: &str) -> Answer {
        let form = self.get(cookie, path).await;
        if form.status != StatusCode::OK {
            return form;
        }
        let fields = |answer: &Answer| {
            [
                answer.field("t"),
                answer.field("revision"),
                answer.field("content"),
            ]
        };
        let [t, revision, content] = fields(&form);
        let sent = [
            ("t", t.as_str()),
            ("revision", &revision),
            ("content", &content),
            ("reason", reason),
        ];
        let confirm = self.post(cookie, path, &sent).await;
        if confirm.status != StatusCode::OK {
            return confirm;
        }
        assert_eq!(
            confirm.field("sure"),
            "yes",
            "nothing is done before it is confirmed"
        );
        let sure: Vec<(&str, &str)> = sent.into_iter().chain([("sure", "yes")]).collect();
        self.post(cookie, path, &sure).await
    }

    fn hints(&self) -> usize {
        self.fakes.hints.lock().unwrap().len()
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    location: String,
    cookie: String,
    body: String,
}

impl Answer {
    /// The value of a hidden field.
    fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let rest = self.body.split(&start).nth(1);
        rest.and_then(|rest| rest.split('"').next())
            .unwrap_or_default()
            .to_owned()
    }
}

#[tokio::test]
async fn without_a_live_session_one_is_led_to_the_login_and_back_to_the_page_asked_for() {
    let world = World::new().await;
    for cookie in [
        "",
        "qad-coupa-s=",
        "qad-coupa-s=nonsense",
        "qad-coupa-s=%00;x",
        "other=1",
    ] {
        let answer = world.get(cookie, "/invoices/7?x=1").await;
        assert_eq!(
            (answer.status, answer.location.as_str()),
            (StatusCode::SEE_OTHER, "/login?to=%2Finvoices%2F7%3Fx%3D1"),
            "{cookie}"
        );
    }
    let entered = world
        .post("", "/login", &[("person", "0"), ("to", "/invoices/7?x=1")])
        .await;
    assert_eq!(entered.location, "/invoices/7?x=1");
    let elsewhere = world
        .post("", "/login", &[("person", "0"), ("to", "//evil.example")])
        .await;
    assert_eq!(elsewhere.location, "/");
    assert_eq!(
        world.post("", "/login", &[("person", "99")]).await.status,
        StatusCode::BAD_REQUEST
    );

    let cookie = world.enter(0).await;
    assert_eq!(world.get(&cookie, "/").await.status, StatusCode::OK);
    world.fakes.now.fetch_add(3_600_000, Ordering::Relaxed);
    assert_eq!(
        world.get(&cookie, "/").await.status,
        StatusCode::SEE_OTHER,
        "idle for an hour"
    );
}

#[tokio::test]
async fn a_session_in_use_is_kept_alive_until_its_end() {
    let world = World::new().await;
    let mut cookie = world.enter(0).await;
    for half_hour in 1..=20 {
        world.fakes.now.fetch_add(1_800_000, Ordering::Relaxed);
        let answer = world.get(&cookie, "/").await;
        assert_eq!(
            answer.status == StatusCode::OK,
            half_hour < 16,
            "after {half_hour} half hours"
        );
        if !answer.cookie.is_empty() {
            cookie = answer.cookie;
        }
    }
}

#[tokio::test]
async fn a_form_from_elsewhere_or_of_another_session_does_nothing() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let (dana, robin) = (world.enter(0).await, world.enter(1).await);
    let token = world.get(&dana, "/invoices/7").await.field("t");
    let form = [("t", token.as_str())];
    for origin in ["http://evil.example", "null", "https://127.0.0.1:2", ""] {
        let answer = world.post_from(origin, &dana, "/invoices/7/recheck", &form).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin}");
    }
    assert_eq!(
        world.post(&robin, "/invoices/7/recheck", &form).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        world.post(&dana, "/invoices/7/recheck", &[]).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(world.hints(), 0);
    let done = world.post(&dana, "/invoices/7/recheck", &form).await;
    assert_eq!((done.status, world.hints()), (StatusCode::SEE_OTHER, 1));
}

#[tokio::test]
async fn nothing_is_done_by_following_a_link() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let dana = world.enter(0).await;
    let before = world.record(7).await;
    for path in [
        "/invoices/7",
        "/invoices/7/release",
        "/invoices/7/skip?sure=yes&reason=because+of+this",
        "/invoices/7/recheck",
        "/out",
    ] {
        world.get(&dana, path).await;
    }
    assert_eq!((world.record(7).await, world.hints()), (before, 0));
}

#[tokio::test]
async fn above_the_limit_an_approver_confirms_what_another_person_asked_for() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let path = "/invoices/7/release";
    let short = world.act(&world.enter(0).await, path, "ok").await;
    assert_eq!(
        short.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "a reason says something"
    );
    let asked = world
        .act(&world.enter(0).await, path, "agreed with the buyer")
        .await;
    assert_eq!(asked.location, "/invoices/7?done=asked");
    assert!(matches!(world.record(7).await.0.state, State::Parked { .. }));
    for clerk in [0, 1] {
        let refused = world
            .act(&world.enter(clerk).await, path, "agreed with the buyer")
            .await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    }
    assert_eq!(world.hints(), 0);
    let released = world
        .act(&world.enter(2).await, path, "seen the buyer's mail")
        .await;
    assert_eq!(released.location, "/invoices/7?done=release");
    let record = world.record(7).await.0;
    let release = record.release.unwrap();
    assert_eq!(release.instruction.by, "local:sam@example.com");
    assert_eq!(release.requested.unwrap().by, "local:dana@example.com");
    assert_eq!(world.hints(), 1, "it is looked at at once");
}

#[tokio::test]
async fn what_has_changed_since_it_was_looked_at_is_not_decided() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let dana = world.enter(0).await;
    let form = world.get(&dana, "/invoices/7/skip").await;
    let sent = |revision: &str, content: &str| {
        let text = |text: &str| text.to_owned();
        [
            ("t", form.field("t")),
            ("revision", text(revision)),
            ("content", text(content)),
            ("reason", text("not ours at all")),
            ("sure", text("yes")),
        ]
    };
    let other = "d".repeat(64);
    for (revision, content) in [("0", form.field("content")), (&*form.field("revision"), other)] {
        let sent = sent(revision, &content);
        let pairs: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = world.post(&dana, "/invoices/7/skip", &pairs).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
    }
    assert!(matches!(world.record(7).await.0.state, State::Parked { .. }));
    let sent = sent(&form.field("revision"), &form.field("content"));
    let pairs: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(
        world.post(&dana, "/invoices/7/skip", &pairs).await.location,
        "/invoices/7?done=skip"
    );
    let replayed = world.post(&dana, "/invoices/7/skip", &pairs).await;
    assert_eq!(
        replayed.status,
        StatusCode::CONFLICT,
        "the same form again does nothing"
    );
    assert!(world.record(7).await.0.state.is_skipped());
    assert_eq!(
        world
            .act(&dana, "/invoices/7/reopen", "it is ours after all")
            .await
            .location,
        "/invoices/7?done=reopen"
    );
}

#[tokio::test]
async fn each_role_does_its_own_and_no_other() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    for reader in [3, 4] {
        let cookie = world.enter(reader).await;
        let page = world.get(&cookie, "/invoices/7").await;
        assert!(!page.body.contains("Accept and release"), "no act is offered");
        for act in ["release", "skip"] {
            let answer = world
                .act(&cookie, &format!("/invoices/7/{act}"), "because of this")
                .await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN);
        }
    }
    let month = "/month/2026-11";
    for (person, may) in [(0, false), (2, false), (3, true), (4, false)] {
        let cookie = world.enter(person).await;
        let form = world.get(&cookie, month).await;
        assert_eq!(form.body.contains("id=\"reason\""), may, "{person}");
        let unescaped = form.field("figures");
        let (t, revision) = (form.field("t"), form.field("revision"));
        let sent = [
            ("t", t.as_str()),
            ("revision", &revision),
            ("figures", &unescaped),
            ("reason", "agreed with the ledger"),
        ];
        let answer = world.post(&cookie, month, &sent).await;
        let sure: Vec<(&str, &str)> = sent.into_iter().chain([("sure", "yes")]).collect();
        if may {
            assert_eq!(
                (answer.status, answer.field("sure").as_str()),
                (StatusCode::OK, "yes")
            );
            let unsigned = world.get(&cookie, month).await.body;
            assert!(
                unsigned.contains("Nobody has signed"),
                "nothing before it is confirmed"
            );
            assert_eq!(
                world.post(&cookie, month, &sure).await.status,
                StatusCode::SEE_OTHER
            );
            let again = world.post(&cookie, month, &sure).await;
            assert_eq!(
                again.status,
                StatusCode::CONFLICT,
                "the same form again signs nothing"
            );
        } else {
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{person}: {}", answer.body);
            assert_eq!(
                world.post(&cookie, month, &sure).await.status,
                StatusCode::FORBIDDEN
            );
        }
    }
    let signed = world.get(&world.enter(4).await, month).await;
    assert!(signed.body.contains("agreed with the ledger") && signed.body.contains("casey@example.com"));
}

#[tokio::test]
async fn bad_input_has_its_page_and_hostile_texts_stay_texts() {
    let world = World::new().await;
    let evil = "<script>alert(1)</script>\" onload=\"x\u{202e}' & \u{1F4A3}";
    world
        .park(parked(7, &format!("{evil}{}", "x".repeat(2_000))))
        .await;
    let dana = world.enter(0).await;
    for (path, status) in [
        ("/invoices/8".to_owned(), 404),
        ("/invoices/abc".to_owned(), 404),
        ("/invoices/99999999999999999999999".to_owned(), 404),
        ("/invoices?view=nothing".to_owned(), 404),
        ("/invoices/7/explode".to_owned(), 404),
        ("/month/2026-13".to_owned(), 404),
        ("/month/abc".to_owned(), 404),
        ("/help/NO_SUCH_CODE".to_owned(), 404),
        ("/c/other/".to_owned(), 404),
        ("/c/demo/invoices/7".to_owned(), 200),
        (format!("/find?q={}", "x".repeat(10_000)), 414),
        (format!("/find?q={}", "x".repeat(1_500)), 200),
        ("/find?q=%3Cscript%3E".to_owned(), 200),
        ("/find?q=".to_owned(), 200),
        ("/../../etc/passwd".to_owned(), 404),
    ] {
        let answer = world.get(&dana, &path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(
            answer.body.contains("<h1>") && !answer.body.contains("<script"),
            "{path}"
        );
    }
    for path in [
        "/",
        "/invoices",
        "/invoices/7",
        "/invoices/7/skip",
        "/suppliers",
        "/month/2026-11",
        "/help",
    ] {
        let answer = world.get(&dana, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(
            !answer.body.contains("<script") && !answer.body.contains("onload=\"x"),
            "{path}"
        );
    }
    let csv = world.get(&dana, "/invoices.csv?view=needs-you").await;
    assert!(csv.body.starts_with("coupa_id,invoice,supplier"), "{}", csv.body);
}

/// Two strangers with one filler as tax id, and two invoices that wait for the one in Coupa: the page says who may be whom,
/// why that is not certain, and what waits for it, and shows the pair once.
#[tokio::test]
async fn suppliers_that_may_be_the_same_are_shown_with_why_and_what_waits_for_them() {
    let world = World::new().await;
    let data = |name: &str| {
        SupplierData::default()
            .with(SupplierField::Name, name)
            .with(SupplierField::TaxId, "N/A")
    };
    let cedar = QadSupplier {
        code: "10S1009".parse().unwrap(),
        data: data("Cedar <b>Tools</b> SA"),
        kind: None,
        site: None,
        last_modified: "2026-03-05".parse().unwrap(),
    };
    let dahlia = CoupaSupplier {
        id: 9_009,
        number: None,
        status: CoupaSupplierStatus::Active,
        data: data("Dahlia Foods SARL"),
        updated_at: Timestamp(0),
    };
    let mut directory = Directory::default();
    directory.note_qad(&cedar, None);
    directory.note_coupa(&dahlia, None);
    let policy = SupplierPolicy::default();
    let QadLink::Propose(problem, candidates) = link_qad(&cedar, &directory, &policy, None) else {
        panic!("proposed")
    };
    let mut ours = SupplierRecord::new(SupplierId::Qad(cedar.code.clone()), Timestamp(0));
    ours.qad = Some(cedar);
    ours.state = SupplierState::Parked {
        problem,
        coupa: None,
        by: None,
        candidates,
    };
    let CoupaLink::Propose(problem, candidates) = link_coupa(&dahlia, &directory, &policy) else {
        panic!("proposed")
    };
    let mut theirs = SupplierRecord::new(SupplierId::Coupa(dahlia.id), Timestamp(0));
    theirs.coupa = Some(dahlia);
    theirs.state = SupplierState::Parked {
        problem,
        coupa: None,
        by: None,
        candidates,
    };
    for record in [ours, theirs] {
        let change = Change::<_, SupplierEvent> {
            document: record,
            events: vec![],
            writes: vec![],
        };
        save(&world.context(), 0, change).await.unwrap();
    }
    let unlinked = |id, supplier| {
        let mut record = parked(id, "Dahlia Foods SARL");
        record.coupa_supplier = Some(supplier);
        record
    };
    for (id, supplier) in [(77, 9_009), (78, 9_010), (79, 9_009)] {
        world
            .park_for(
                unlinked(id, supplier),
                parked_for(ExceptionCode::SupplierNotLinked),
            )
            .await;
    }
    let dana = world.enter(0).await;
    let body = world.get(&dana, "/suppliers").await.body;
    for part in [
        "QAD 10S1009",
        "Cedar &lt;b&gt;Tools",
        "Dahlia Foods SARL",
        "same text as tax id, which cannot be one, other name; a link would replace the name in Coupa",
        "<td data-h=\"Invoices that wait\">2</td>",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    assert_eq!(body.matches("data-h=\"Perhaps\"").count(), 1, "the pair once");
    assert!(!body.contains("larger than may happen by themselves"));

    let body = world.get(&dana, "/invoices/77").await.body;
    for part in [
        "Who the supplier may be",
        "Cedar &lt;b&gt;Tools&lt;/b&gt; SA",
        "cannot be one, other name",
        "2 invoices wait for it",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
    let stranger = world.get(&dana, "/invoices/78").await.body;
    assert!(
        !stranger.contains("Who the supplier may be"),
        "nobody is proposed: {stranger}"
    );
}

#[tokio::test]
async fn an_empty_page_says_why() {
    let world = World::new().await;
    let dana = world.enter(0).await;
    for (path, told) in [
        ("/", "No invoice is known yet"),
        ("/invoices?view=needs-you", "No invoice needs a person"),
        ("/invoices?view=waits", "No invoice waits"),
        ("/invoices?view=working", "Nothing is being read"),
        ("/invoices?view=posted", "Nothing is in QAD"),
        ("/invoices?view=closed", "Nothing was taken out"),
        ("/suppliers", "No invoice waits for its supplier"),
        ("/suppliers", "No supplier waits for somebody to say who it is"),
        ("/lookups", "No lookup of Coupa follows QAD here"),
        ("/month/2026-11", "Nobody has signed this month yet"),
        ("/find?q=INV-1", "Nothing is found"),
    ] {
        assert!(world.get(&dana, path).await.body.contains(told), "{path}");
    }
}

/// How large a page may be, compressed, in bytes.
const PAGE_BYTES_MAX: usize = 15_000;

/// Calls and items of each page and search at a size.
async fn costs(world: &World, who: &str) -> BTreeMap<String, (u64, u64)> {
    let mut costs = BTreeMap::new();
    let now = || (world.register.reads(), world.register.items());
    for text in [
        "INV-77",
        "inv 77",
        "po77",
        "77",
        "1.00",
        "Example Castings",
        "no such thing",
    ] {
        let before = now();
        let found = index::find(&world.register, text).await.unwrap();
        let after = now();
        costs.insert(format!("find {text}"), (after.0 - before.0, after.1 - before.1));
        assert_eq!(found.records.is_empty(), text == "no such thing", "{text}");
    }
    for path in [
        "/",
        "/invoices?view=needs-you",
        "/invoices?view=needs-you&code=SUPPLIER_NOT_LINKED",
        "/invoices?view=waits",
        "/invoices/77",
        "/invoices/78",
        "/suppliers",
        "/suppliers?after=coupa%2F40",
        "/lookups",
        "/month/2026-11",
        "/find?q=Example+Castings",
        "/help",
    ] {
        let before = now();
        let answer = world.get(who, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        let compressed = miniz_oxide::deflate::compress_to_vec(answer.body.as_bytes(), 6).len();
        assert!(
            compressed < PAGE_BYTES_MAX,
            "{path} has {compressed} bytes, compressed"
        );
        let after = now();
        costs.insert(path.to_owned(), (after.0 - before.0, after.1 - before.1));
    }
    costs
}

#[tokio::test]
async fn a_question_costs_the_same_reads_at_a_hundred_and_at_a_hundred_thousand_records() {
    let world = World::new().await;
    let dana = world.enter(0).await;
    fill(&world.register, Of::Waiting, 0, 100).unwrap();
    let small = costs(&world, &dana).await;
    fill(&world.register, Of::Waiting, 100, 100_000).unwrap();
    // Nothing that is kept between two requests makes it cheaper.
    world.fakes.now.fetch_add(600_000, Ordering::Relaxed);
    let large = costs(&world, &dana).await;
    for (what, (calls, items)) in &large {
        let (calls_before, items_before) = small[what];
        assert_eq!(*calls, calls_before, "{what}");
        assert!(*calls <= 4, "{what} takes {calls} reads");
        // A page that is not full at a hundred records is full at more, and stays so.
        assert!(*items <= items_before.max(110), "{what} reads {items} items");
    }
}

/// A plan of a lookup that waits, as sync-lookups leaves it.
async fn waiting_plan(world: &World, sha256: &str) -> u64 {
    let known = load::<PlanRecord>(&world.register, plans::key(Some("QAD Projects")))
        .await
        .unwrap();
    let (mut plan, revision) = known.map_or_else(
        || (PlanRecord::new(Some("QAD Projects")), 0),
        |known| (known.document, known.revision),
    );
    plan.state = PlanState::Parked {
        problem: Problem::new("LOOKUP_CHANGE_TOO_LARGE", ""),
        plan_sha256: sha256.to_owned(),
        changes: vec!["deactivate P<1>".to_owned()],
    };
    let change = Change::<_, PlanEvent> {
        document: plan,
        events: vec![],
        writes: vec![],
    };
    save(&world.context(), revision, change).await.unwrap().revision
}

/// An approver, and nobody else, allows exactly the plan that was in sight.
#[tokio::test]
async fn an_approver_allows_the_plan_that_was_shown_and_no_other() {
    let world = World::new().await;
    waiting_plan(&world, "aaaa").await;
    let path = "/plans/allow?lookup=QAD+Projects";
    let lookups = world.get(&world.enter(0).await, "/lookups").await.body;
    assert!(
        lookups.contains(path) && lookups.contains("Needs a person"),
        "{lookups}"
    );
    let allowed = async || {
        let plan = load::<PlanRecord>(&world.register, plans::key(Some("QAD Projects"))).await;
        plan.unwrap().unwrap().document.allowed_plan
    };
    for person in [0, 3, 4] {
        let cookie = world.enter(person).await;
        let page = world.get(&cookie, path).await;
        assert!(page.body.contains("deactivate P&lt;1&gt;") && !page.body.contains("id=\"reason\""));
        let token = world.get(&world.enter(2).await, path).await.field("t");
        let form = [
            ("t", token.as_str()),
            ("lookup", "QAD Projects"),
            ("plan", "aaaa"),
            ("reason", "read it all"),
            ("sure", "yes"),
        ];
        assert_eq!(
            world.post(&cookie, "/plans/allow", &form).await.status,
            StatusCode::FORBIDDEN
        );
    }
    let sam = world.enter(2).await;
    let token = world.get(&sam, path).await.field("t");
    let form = |plan: &'static str, more: &'static [(&str, &str)]| {
        let mut form = vec![
            ("t", token.as_str()),
            ("lookup", "QAD Projects"),
            ("plan", plan),
            ("reason", "read it all"),
        ];
        form.extend(more);
        form
    };
    let asked = world.post(&sam, "/plans/allow", &form("aaaa", &[])).await;
    assert_eq!(
        (asked.status, asked.field("sure")),
        (StatusCode::OK, "yes".to_owned())
    );
    assert_eq!(allowed().await, None, "nothing before it is confirmed");
    // Another plan has come in its place meanwhile.
    waiting_plan(&world, "bbbb").await;
    let stale = world
        .post(&sam, "/plans/allow", &form("aaaa", &[("sure", "yes")]))
        .await;
    assert_eq!((stale.status, allowed().await), (StatusCode::CONFLICT, None));
    let done = world
        .post(&sam, "/plans/allow", &form("bbbb", &[("sure", "yes")]))
        .await;
    assert_eq!(done.location, "/lookups?done=allowed");
    assert_eq!(allowed().await.as_deref(), Some("bbbb"));
    let again = world
        .post(&sam, "/plans/allow", &form("bbbb", &[("sure", "yes")]))
        .await;
    assert_eq!(again.status, StatusCode::CONFLICT, "it waits no more");
    let trail = world.register.audit("lookup/QAD Projects").await.unwrap();
    assert!(
        trail
            .iter()
            .any(|entry| entry.events.contains("local:sam@example.com"))
    );
    for other in ["/plans/allow", "/plans/allow?lookup=none"] {
        assert_eq!(
            world.get(&sam, other).await.status,
            StatusCode::NOT_FOUND,
            "{other}"
        );
    }
}

/// A list is looked at again as it was shown: one more invoice in it, and it is shown anew.
#[tokio::test]
async fn a_whole_list_is_looked_at_again_as_it_was_shown() {
    let world = World::new().await;
    for id in [7, 8] {
        world.park(parked(id, "Example Castings")).await;
    }
    let dana = world.enter(0).await;
    let list = world.get(&dana, "/invoices?view=needs-you").await;
    let token = list.field("t");
    let form = |sight: Option<&str>| {
        let mut form = vec![
            ("t".to_owned(), token.clone()),
            ("view".to_owned(), "needs-you".to_owned()),
        ];
        form.extend(sight.map(|sight| ("sight".to_owned(), sight.to_owned())));
        form
    };
    let send = async |sight: Option<&str>| {
        let form = form(sight);
        let pairs: Vec<(&str, &str)> = form
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        world.post(&dana, "/invoices/recheck", &pairs).await
    };
    let preview = send(None).await;
    assert!(
        preview.body.contains("2 invoices, 2,592.00 USD"),
        "{}",
        preview.body
    );
    let sight = preview.field("sight");
    world.park(parked(9, "Example Castings")).await;
    let stale = send(Some(&sight)).await;
    assert_eq!((stale.status, world.hints()), (StatusCode::CONFLICT, 0));
    assert!(stale.body.contains("3 invoices, 3,888.00 USD"), "{}", stale.body);
    let done = send(Some(&stale.field("sight"))).await;
    assert_eq!(
        (done.location.as_str(), world.hints()),
        ("/invoices?view=needs-you&done=3", 3)
    );
    let auditor = world.enter(4).await;
    let refused = world.post(&auditor, "/invoices/recheck", &[("t", &token)]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}

/// Whatever a stranger sends has its page or its refusal, and none of it does anything.
#[tokio::test]
async fn nothing_that_a_stranger_sends_is_an_empty_answer() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let dana = world.enter(0).await;
    let huge = format!("qad-coupa-s={}; {}", "A".repeat(9_000), "x=1; ".repeat(2_000));
    let other_seal = {
        let mut touched = dana.clone().into_bytes();
        let place = touched.len() / 2;
        touched[place] = if touched[place] == b'A' { b'B' } else { b'A' };
        String::from_utf8(touched).unwrap()
    };
    let before = world.record(7).await;
    for cookie in [
        huge.as_str(),
        other_seal.as_str(),
        "qad-coupa-s=%%%; =; ;;",
        "\u{e9}",
    ] {
        for path in [
            "/",
            "/invoices/7",
            "/plans/allow",
            "//evil.example",
            "/month/2026-11",
        ] {
            let answer = world.get(cookie, path).await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path} with {:.30}", cookie);
            assert!(
                answer.location.starts_with("/login?to=%2F") && !answer.location.contains("to=%2F%2F"),
                "{}",
                answer.location
            );
        }
    }
    for path in [
        "/find?q=%",
        "/find?q=%zz",
        "/find?q=%ff%fe",
        "/find?q=%00",
        "/invoices?view=%e2%82",
        "/invoices/%",
        "/invoices/%2e%2e",
        "/invoices/7/%00",
        "/help/%3Cscript%3E",
        "/month/%31",
        "/suppliers?after=%ff",
        "/suppliers?after=zzz&invoices-after=zzz",
        "/plans/allow?lookup=%00",
        "/invoices?after=%ff",
        "/c//",
        "/c/demo//evil.example",
        "/c/%64emo/",
        "/lookups?done=%3Cb%3E",
        "/invoices?done=99999999999999999999",
        "/invoices?done=-1",
    ] {
        let answer = world.get(&dana, path).await;
        let is_told = answer.body.contains("<h1>") || answer.status == StatusCode::SEE_OTHER;
        assert!(
            is_told && !answer.status.is_server_error(),
            "{path}: {} {}",
            answer.status,
            answer.body
        );
        assert!(
            !answer.body.contains("<script>") && !answer.location.starts_with("//"),
            "{path}"
        );
    }
    let many: Vec<(&str, &str)> = vec![("reason", "x"); 2_000];
    for (path, form) in [
        ("/invoices/7/skip", &many[..]),
        (
            "/invoices/7/release",
            &[("t", ""), ("revision", "-1"), ("sure", "yes")],
        ),
        ("/invoices/99/skip", &[("t", "0")]),
        ("/invoices/recheck", &[("view", "nothing")]),
        (
            "/plans/allow",
            &[("lookup", "QAD Projects"), ("plan", "aaaa"), ("sure", "yes")],
        ),
        ("/month/2026-11", &[("reason", "agreed with nobody")]),
        ("/login", &[("person", "-1"), ("to", "//evil.example")]),
        ("/out", &[("t", "0")]),
    ] {
        let answer = world.post(&dana, path, form).await;
        assert!(
            answer.status.is_client_error() && answer.body.contains("<h1>"),
            "{path}: {}",
            answer.status
        );
    }
    // No form at all, another kind of it, and one that is too large.
    for (kind, body) in [
        ("", String::new()),
        ("application/json", "{}".to_owned()),
        ("multipart/form-data; boundary=x", "--x--".to_owned()),
        ("application/x-www-form-urlencoded", "%ff%".to_owned()),
        ("application/x-www-form-urlencoded", "a".repeat(20_000)),
    ] {
        let request = Request::post(format!("http://{HOST}/invoices/7/skip"))
            .header(header::HOST, HOST)
            .header(header::ORIGIN, format!("http://{HOST}"))
            .header(header::COOKIE, &dana)
            .header(header::CONTENT_TYPE, kind);
        let answer = world.send(request.body(Body::from(body)).unwrap()).await;
        assert!(
            answer.status.is_client_error() && answer.body.contains("<h1>"),
            "{kind}: {}",
            answer.status
        );
    }
    assert_eq!((world.record(7).await, world.hints()), (before, 0));
}

/// What an older version has written without the index is found once `reindex` has been through, counted once however often it
/// runs, and told as missing until then.
#[tokio::test]
async fn what_an_older_version_has_written_is_taken_in() {
    let world = World::new().await;
    let dana = world.enter(0).await;
    let put = |key, body| RecordWrite::Put {
        key,
        seen: 0,
        body,
        state: String::new(),
        due: None,
    };
    let mut writes = Vec::new();
    for id in 1..=3u64 {
        let mut supplier = SupplierRecord::new(SupplierId::Coupa(id), Timestamp(0));
        supplier.state = SupplierState::Parked {
            problem: Problem::new("SUPPLIER_AMBIGUOUS", ""),
            coupa: None,
            by: None,
            candidates: vec![],
        };
        writes.push(put(
            key_of(&supplier.id),
            serde_json::to_string(&supplier).unwrap(),
        ));
        let mut bill = BillPayments::new(InvoiceId(id), Decimal::ONE, "USD".parse().unwrap());
        bill.parked = Some(Problem::new("PAYMENT_AMBIGUOUS", ""));
        writes.push(put(bill_key(bill.invoice), serde_json::to_string(&bill).unwrap()));
        let invoice = parked(id, "Example Castings")
            .after(&over_price(), Timestamp(0))
            .unwrap();
        writes.push(put(
            RecordKey::Invoice(invoice.id),
            serde_json::to_string(&invoice).unwrap(),
        ));
    }
    let aside = RecordKey::Entry {
        collection: Collection::Supplier,
        id: format!("{QUARANTINE}qad/9"),
    };
    writes.push(put(
        aside,
        serde_json::to_string(&Problem::new("UNREADABLE", "")).unwrap(),
    ));
    world.register.lay_down(&Commit {
        writes,
        ..Commit::default()
    });
    let counted = async || {
        let (counted, _) = entries::counted(&world.register, &BTreeSet::new()).await.unwrap();
        (
            counted.parked_suppliers,
            counted.proposed_suppliers,
            counted.parked_bills,
        )
    };
    assert_eq!(counted().await, (0, 0, 0));
    assert!(
        world
            .get(&dana, "/suppliers")
            .await
            .body
            .contains("being taken in")
    );
    for _ in 0..2 {
        while !index::rebuild_step(&world.context(), &world.register)
            .await
            .unwrap()
            .complete
        {}
        assert_eq!(counted().await, (3, 0, 3));
    }
    let ids = async |list| entries::ids(&world.register, list).await.unwrap();
    assert_eq!(
        ids(entries::PARKED_SUPPLIERS).await,
        ["coupa/1", "coupa/2", "coupa/3"]
    );
    assert_eq!(ids(entries::QUARANTINED_LIST).await, ["quarantine/qad/9"]);
    assert_eq!(ids(entries::PARKED_BILLS).await.len(), 3);
    let page = world.get(&dana, "/suppliers").await.body;
    assert!(
        !page.contains("being taken in") && page.contains("3 more suppliers wait"),
        "{page}"
    );
    assert!(
        world
            .get(&dana, "/invoices?view=needs-you")
            .await
            .body
            .contains("3 invoices, 3,888.00 USD")
    );
}

/// Figures that move while a controller writes the note are shown anew, and only those that were shown are signed.
#[tokio::test]
async fn a_month_is_signed_under_the_figures_that_were_in_sight() {
    let world = World::new().await;
    let (casey, month) = (world.enter(3).await, "/month/2026-11");
    let form = world.get(&casey, month).await;
    let send = async |of: &Answer, sure: &str| {
        let (t, revision, figures) = (of.field("t"), of.field("revision"), of.field("figures"));
        let form = [
            ("t", t.as_str()),
            ("revision", &revision),
            ("figures", &figures),
            ("reason", "agreed with the ledger"),
            ("sure", sure),
        ];
        world.post(&casey, month, &form).await
    };
    world.park(parked(7, "Example Castings")).await;
    let asked = send(&form, "").await;
    assert!(asked.body.contains("these are those of now"), "{}", asked.body);
    assert!(
        asked.field("figures").contains("need you: 1 invoice"),
        "{}",
        asked.body
    );
    assert_eq!(send(&form, "yes").await.status, StatusCode::CONFLICT);
    world.park(parked(8, "Example Castings")).await;
    assert_eq!(send(&asked, "yes").await.status, StatusCode::CONFLICT);
    let anew = send(&asked, "").await;
    assert_eq!(send(&anew, "yes").await.status, StatusCode::SEE_OTHER);
}

/// What QAD does not have is one file, invoice by invoice; what is in QAD and waits for its payments alone is not in it.
#[tokio::test]
async fn what_has_to_be_accrued_is_one_file() {
    let world = World::new().await;
    let mut record = parked(7, "=Example, \"Castings\"");
    record.entity = "10USACO".parse().ok();
    record.summary.as_mut().unwrap().supplier_number = Some("10S1001".to_owned());
    world.park(record).await;
    let mut posted = parked(8, "Example Castings");
    posted.state = State::Exported {
        voucher: Voucher {
            year: 2026,
            daybook: "SI".into(),
            number: 100_008,
        },
        how: PostedHow::Created,
    };
    posted.paid = Some(PaidState::Parked {
        problem: Problem::new("PAYMENT_AMBIGUOUS", ""),
    });
    let change = Change::<_, Event> {
        document: posted,
        events: vec![],
        writes: vec![],
    };
    save(&world.context(), 0, change).await.unwrap();
    let casey = world.enter(3).await;
    assert!(
        world
            .get(&casey, "/month/2026-11")
            .await
            .body
            .contains("href=\"/accrual.csv\"")
    );
    let file = world.get(&casey, "/accrual.csv").await;
    let lines: Vec<&str> = file.body.split("\r\n").collect();
    assert_eq!(lines.len(), 2, "{}", file.body);
    assert!(
        lines[0].starts_with("as_of_utc,stands,coupa_id,entity,plant"),
        "{}",
        lines[0]
    );
    let part = "needs you,7,10USACO,Plant 10USA,10S1001,\"'=Example, \"\"Castings\"\"\",INV-7,2026-03-05,PO7,1296,USD,PRICE_OVER_TOLERANCE,";
    assert!(lines[1].contains(part), "{}", lines[1]);
    assert!(lines[1].contains(",6,2026-04-04,"), "{}", lines[1]);
}

/// A person whose roles are none that the page knows is told whom to ask, and is let into nothing.
#[tokio::test]
async fn a_person_without_a_role_is_let_into_nothing() {
    let mut world = World::new().await;
    let stranger = Person {
        by: "local:kim@example.com".to_owned(),
        name: "kim".to_owned(),
        roles: BTreeSet::new(),
    };
    Arc::get_mut(&mut world.console).unwrap().login = Login::Local(vec![stranger]);
    let answer = world.post("", "/login", &[("person", "0"), ("to", "/")]).await;
    assert_eq!(
        (answer.status, answer.cookie.as_str()),
        (StatusCode::FORBIDDEN, "")
    );
    assert!(
        answer.body.contains("Ask whoever manages access"),
        "{}",
        answer.body
    );
}

/// A bill that is parked because it may be another one.
fn near_duplicate_of(id: u64, of: u64) -> (InvoiceRecord, Event) {
    let mut record = parked(id, "Example Castings");
    record.summary.as_mut().unwrap().reference = format!("INV-{of}/").parse().unwrap();
    let event = Event::Parked {
        reason: ParkReason::Match {
            exceptions: vec![Exception {
                code: ExceptionCode::NearDuplicate,
                line: None,
                order_line: None,
                expected: "no other bill".into(),
                actual: format!("Coupa invoice {of} with number INV-{of} of 2026-03-05 in entity 1000"),
                limit: String::new(),
            }],
        },
    };
    (record, event)
}

#[tokio::test]
async fn a_bill_that_may_be_another_is_shown_beside_it() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings")).await;
    let (record, event) = near_duplicate_of(8, 7);
    world.park_for(record, event).await;
    let (unknown, event) = near_duplicate_of(9, 99);
    world.park_for(unknown, event).await;
    let dana = world.enter(0).await;
    let page = world.get(&dana, "/invoices/8").await.body;
    assert!(
        page.contains("Side by side") && page.contains("href=\"/invoices/7\""),
        "{page}"
    );
    let differs = page.matches("<span class=\"tag\">differs</span>").count();
    assert_eq!(differs, 2, "number and order, and nothing else: {page}");
    for alone in ["/invoices/7", "/invoices/9"] {
        let page = world.get(&dana, alone).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(!page.body.contains("Side by side"), "{alone}");
    }
}

/// A credit note leads to the invoice it corrects, with where that stands; to none of another supplier's with the same number,
/// and says when it is not known.
#[tokio::test]
async fn a_credit_note_leads_to_the_invoice_it_corrects() {
    let world = World::new().await;
    let of_supplier = |id: u64, supplier: u64| {
        let mut record = parked(id, "Example Castings");
        record.coupa_supplier = Some(supplier);
        record
    };
    world.park(of_supplier(7, 5_001)).await;
    for (id, supplier, original) in [(8, 5_001, "inv 7"), (9, 5_002, "INV-7"), (10, 5_001, "INV-<b>")] {
        let mut credit = of_supplier(id, supplier);
        let summary = credit.summary.as_mut().unwrap();
        summary.kind = DocumentKind::CreditNote;
        summary.particulars.original = Some(original.to_owned());
        world.park(credit).await;
    }
    let dana = world.enter(0).await;
    let page = world.get(&dana, "/invoices/8").await.body;
    let told = "<a href=\"/invoices/7\"><bdi>INV-7 of Example Castings, 1,296.00 USD</bdi></a> <span class=\"tag need\">";
    assert!(page.contains(told), "{page}");
    for (path, told) in [
        ("/invoices/9", "<bdi>INV-7</bdi>, which"),
        ("/invoices/10", "<bdi>INV-&lt;b&gt;</bdi>, which"),
    ] {
        let page = world.get(&dana, path).await.body;
        assert!(page.contains(told), "{told} in {page}");
    }
}

/// Records from before the particulars were kept are shown as they were, without an empty heading or a date nobody told.
#[tokio::test]
async fn an_old_record_is_shown_without_what_it_does_not_know() {
    let world = World::new().await;
    let mut record = parked(7, "Example Castings");
    record.summary.as_mut().unwrap().particulars = InvoiceParticulars::default();
    let stored = serde_json::to_string(&record.summary).unwrap();
    assert!(
        !stored.contains("particulars"),
        "as it was stored before: {stored}"
    );
    assert_eq!(
        serde_json::from_str::<Option<Summary>>(&stored).unwrap(),
        record.summary
    );
    world.park(record).await;
    let dana = world.enter(0).await;
    let page = world.get(&dana, "/invoices/7").await.body;
    for word in [
        "Due",
        "due ",
        "Discount",
        "Asked for by",
        "Delivered to",
        "In Coupa",
        "Corrects",
    ] {
        assert!(!page.contains(word), "{word} in {page}");
    }
}

/// A page as it is kept: one element a line, and what differs by chance taken out.
fn kept(body: &str) -> String {
    let mut text = body.replace("><", ">\n<");
    for name in ["t", "content"] {
        let start = format!("name=\"{name}\" value=\"");
        text = text
            .split(&start)
            .enumerate()
            .map(|(place, part)| match (place, part.split_once('"')) {
                (0, _) | (_, None) => part.to_owned(),
                (_, Some((_, rest))) => format!("{start}…\"{rest}"),
            })
            .collect();
    }
    text
}

#[tokio::test]
async fn each_page_looks_as_it_did() {
    let world = World::new().await;
    world.park(parked(7, "Example Castings & Sons")).await;
    let (record, event) = near_duplicate_of(8, 7);
    world.park_for(record, event).await;
    let (dana, casey) = (world.enter(0).await, world.enter(3).await);
    let none = String::new();
    let mut pages = Vec::new();
    for (name, who, path) in [
        ("login", &none, "/login?to=%2Fmonth"),
        ("today", &dana, "/"),
        ("invoices", &dana, "/invoices?view=needs-you"),
        ("invoice", &dana, "/invoices/7"),
        ("duplicate", &dana, "/invoices/8"),
        ("release", &dana, "/invoices/7/release"),
        ("adopt", &dana, "/invoices/7/adopt"),
        ("ask_buyer", &dana, "/invoices/7/ask-buyer"),
        ("find", &dana, "/find?q=INV-7"),
        ("suppliers", &dana, "/suppliers"),
        ("lookups", &dana, "/lookups"),
        ("month", &casey, "/month/2026-11"),
        ("help", &dana, "/help/PRICE_OVER_TOLERANCE"),
        ("nowhere", &dana, "/nowhere"),
    ] {
        pages.push((name, kept(&world.get(who, path).await.body)));
    }
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        for (name, page) in pages {
            insta::assert_snapshot!(name, page);
        }
    });
}
