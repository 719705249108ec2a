//! Each check is seen to pass and to fail, against the simulators.

use super::alarms::{Alarm, Subscribers, judge};
use super::*;
use crate::connection_file;
use connectors::connection::{World as Ground, clients, entity_clients};
use connectors::http::pace::Paces;
use domain::lookups::LOOKUP_MISSING;
use domain::plans::{PlanRecord, PlanState};
use sandbox::bench::Tokens;
use sandbox::faults::{Fault, FaultRule, RetryAfter, System};
use sandbox::http::{Options, Simulators};
use sandbox::scenario::{CHART_FIELD, CHARTS, before_the_day, day};
use sandbox::world::World;
use sandbox::world::qad::{DOMAIN, ENTITIES, Exact, QadReceipt};
use std::collections::BTreeMap;

const FILE: &str = include_str!("../demo-connection.toml");

pub(crate) struct Bench {
    pub(crate) simulators: Simulators,
}

impl Bench {
    async fn with(world: World) -> Self {
        let simulators = Simulators::start(world, Arc::new(|| SystemClock.now()), Options::default())
            .await
            .unwrap();
        Self { simulators }
    }

    pub(crate) async fn full() -> Self {
        let now = SystemClock.now();
        let mut world = World::seed(&day(1), now);
        before_the_day(&mut world, now);
        let order = world.qad.orders.values().next().unwrap().clone();
        let receipt = QadReceipt {
            receiver: String::new(),
            order: order.number,
            line: order.lines[0].number,
            quantity: order.lines[0].ordered,
            is_return: false,
            date: now.date_utc(),
            packing_slip: String::new(),
            vouchered: Exact::default(),
            logistics_charge: String::new(),
            finished: false,
            unit_cost: None,
            domain: DOMAIN.to_owned(),
            consigned: false,
        };
        world.qad.post_receipt(receipt).unwrap();
        Self::with(world).await
    }

    fn systems(&self, watching: &Arc<Watching>, change: impl Fn(String) -> String) -> Systems {
        let text = change(
            FILE.replace("{coupa}", &self.simulators.coupa_url)
                .replace("{qad}", &self.simulators.qad_url),
        );
        let file = connection_file::parse(&text).unwrap();
        let document = ConnectionDocument::parse(file.connection.connection_secret.expose_secret()).unwrap();
        let ground = Ground {
            transport: Arc::<Watching>::clone(watching),
            tokens: Arc::new(Tokens::default()),
            clock: Arc::new(SystemClock),
            chance: Arc::new(aws::clock::SystemChance),
            paces: Arc::new(Paces::new(1)),
        };
        let (coupa, qad) = clients(
            &"demo".parse().unwrap(),
            &document,
            &ground,
            Duration::from_secs(20),
        );
        let opened = entity_clients(
            &"demo".parse().unwrap(),
            &document,
            &ground,
            Duration::from_secs(20),
        );
        Systems::new(document, coupa, qad, opened)
    }

    /// Both systems, with the demo's settings.
    pub(crate) fn plain(&self) -> Systems {
        self.systems(&Arc::new(Watching::new()), same)
    }

    /// The same for both entities of the tenant, on one connection.
    pub(crate) fn of_two_entities(&self) -> Systems {
        let entity = |((code, domain), chart): (&(&str, &str), &str)| {
            format!(
                "\n[[entities]]\ncode = \"{code}\"\ndomain = \"{domain}\"\n\
                 when = [{{ field = \"{CHART_FIELD}\", is = [\"{chart}\"] }}]\n"
            )
        };
        let entities: String = ENTITIES.iter().zip(CHARTS).map(entity).collect();
        self.systems(&Arc::new(Watching::new()), |text| {
            text.replace("domain = \"10USA\"\nentity = \"10USACO\"\n", "") + &entities
        })
    }

    /// Every check of both systems, by its name.
    async fn examined(
        &self,
        plans: &[PlanRecord],
        change: impl Fn(String) -> String,
    ) -> BTreeMap<String, Check> {
        let watching = Arc::new(Watching::new());
        let systems = self.systems(&watching, change);
        let mut findings = Findings::default();
        coupa(&watching, &systems, &mut findings).await;
        qad(&watching, &systems, &[], &mut findings).await;
        lists::lookups(&systems, plans, |_| true, &mut findings).await;
        let named = |check: Check| (format!("{}: {}", check.area(), check.check), check);
        findings.0.into_iter().map(named).collect()
    }

    fn arm(&self, system: System, operation: &str, fault: Fault) {
        let rule = FaultRule::next(system, operation, None, fault);
        self.simulators.faults.lock().unwrap().arm(rule);
    }
}

fn same(text: String) -> String {
    text
}

fn verdict(checks: &BTreeMap<String, Check>, name: &str) -> Verdict {
    checks
        .get(name)
        .unwrap_or_else(|| panic!("no check {name} among {:?}", checks.keys()))
        .verdict
}

const LISTS: [&str; 9] = [
    "coupa: suppliers",
    "qad: receipts",
    "qad: purchase orders",
    "qad: suppliers",
    "qad: one supplier, read in full",
    "qad: list cost-centers",
    "qad: list projects",
    "qad: list gl-accounts",
    "coupa: list of invoices",
];

#[tokio::test]
async fn a_whole_world_passes_and_an_empty_one_is_never_taken_for_well() {
    let full = Bench::full().await;
    let checks = full.examined(&[], same).await;
    for name in LISTS {
        assert_eq!(verdict(&checks, name), Verdict::Pass, "{:?}", checks[name]);
    }
    for scope in scopes(&full.systems(&Arc::new(Watching::new()), same).document) {
        assert_eq!(
            verdict(&checks, &format!("coupa: scope {}", scope.name)),
            Verdict::Pass
        );
    }
    assert_eq!(verdict(&checks, "coupa: scopes too many"), Verdict::Pass);
    assert_eq!(verdict(&checks, "coupa: clock"), Verdict::Pass);
    assert_eq!(verdict(&checks, "qad: clock"), Verdict::Pass);

    let empty = Bench::with(World::default()).await;
    let checks = empty.examined(&[], same).await;
    for name in LISTS.iter().filter(|name| **name != "coupa: list of invoices") {
        assert_eq!(verdict(&checks, name), Verdict::Warn, "{:?}", checks[*name]);
        assert!(!checks[*name].fix.is_empty(), "{name}");
    }
    assert_eq!(verdict(&checks, "qad: payments"), Verdict::Warn);
}

const CODE_LISTS: [(&str, &str); 8] = [
    ("qad: daybooks", "QAD_DAYBOOKS"),
    ("qad: invoice status codes", "QAD_INVOICE_STATUSES"),
    ("qad: credit terms", "QAD_CREDIT_TERMS"),
    ("qad: GL accounts", "QAD_GL_ACCOUNTS"),
    ("qad: cost centers", "QAD_COST_CENTERS"),
    ("qad: projects", "QAD_PROJECTS"),
    ("qad: currencies", "QAD_CURRENCIES"),
    ("qad: periods", "QAD_PERIODS"),
];

#[tokio::test]
async fn every_constant_is_looked_for_in_qads_own_lists_under_a_stable_code() {
    let full = Bench::full().await;
    let checks = full.examined(&[], same).await;
    for (name, code) in CODE_LISTS {
        assert_eq!(verdict(&checks, name), Verdict::Pass, "{:?}", checks[name]);
        assert_eq!(checks[name].code, code);
    }
    assert_eq!(checks["qad: daybooks"].found, "RM, SC, SI: there and active");

    // What QAD does not show is not taken for absent.
    let empty = Bench::with(World::default()).await;
    let checks = empty.examined(&[], same).await;
    for (name, _) in CODE_LISTS.iter().filter(|(name, _)| *name != "qad: periods") {
        assert_eq!(verdict(&checks, name), Verdict::Warn, "{:?}", checks[*name]);
        assert!(
            checks[*name].found.starts_with("not checked: "),
            "{:?}",
            checks[*name]
        );
    }
    assert!(
        checks["qad: daybooks"]
            .fix
            .starts_with("Look for RM, SC, SI in QAD by hand.")
    );
}

#[tokio::test]
async fn a_constant_that_qad_does_not_have_fails_with_its_setting_and_the_others_pass() {
    let bench = Bench::full().await;
    for (from, to, name, code, field) in [
        (
            "credit_note_daybook = \"SC\"",
            "credit_note_daybook = \"CN\"",
            "qad: daybooks",
            "NOT_IN_QAD",
            "invoices.credit_note_daybook",
        ),
        (
            "\"AP-LOCKED\"",
            "\"AP-LOST\"",
            "qad: invoice status codes",
            "NOT_IN_QAD",
            "invoices.locked_status_code",
        ),
        (
            "NET30 = \"N30\"",
            "NET30 = \"N31\"",
            "qad: credit terms",
            "NOT_IN_QAD",
            "invoices.credit_terms.NET30",
        ),
        (
            "handling = { gl_account = \"6200\" }",
            "handling = { gl_account = \"9999\" }",
            "qad: GL accounts",
            "INACTIVE_IN_QAD",
            "invoices.charge_accounts.handling.gl_account",
        ),
        (
            "handling = { gl_account = \"6200\" }",
            "handling = { gl_account = \"6200\", cost_center = \"900\" }",
            "qad: cost centers",
            "INACTIVE_IN_QAD",
            "invoices.charge_accounts.handling.cost_center",
        ),
        (
            "above = { USD = 1000 }",
            "above = { PLN = 1000 }",
            "qad: currencies",
            "NOT_IN_QAD",
            "invoices.second_person.above.PLN",
        ),
    ] {
        let checks = bench.examined(&[], |text| text.replace(from, to)).await;
        let check = &checks[name];
        assert_eq!(
            (check.verdict, check.problem.as_deref()),
            (Verdict::Fail, Some(code)),
            "{check:?}"
        );
        assert!(check.found.contains(field), "{check:?}");
        for (other, _) in CODE_LISTS.iter().filter(|(other, _)| *other != name) {
            assert_eq!(verdict(&checks, other), Verdict::Pass, "{:?}", checks[*other]);
        }
    }
}

#[tokio::test]
async fn a_list_under_another_name_and_a_closed_month_are_told_without_a_failure() {
    let bench = Bench::full().await;
    let month = SystemClock.now().date_utc().to_string()[..7].to_owned();
    bench
        .simulators
        .world
        .lock()
        .unwrap()
        .qad
        .closed_periods
        .insert(month);
    let wrong = |text: String| {
        let other = "[qad.profile.daybooks]\nbrowse_id = \"urn:browse:mfg:none\"\n[qad.auth]";
        text.replace("[qad.auth]", other)
    };
    let checks = bench.examined(&[], wrong).await;
    let daybooks = &checks["qad: daybooks"];
    assert_eq!(
        (daybooks.verdict, daybooks.problem.as_deref()),
        (Verdict::Warn, None)
    );
    assert!(daybooks.fix.contains("qad.profile.daybooks"), "{daybooks:?}");
    let periods = &checks["qad: periods"];
    assert_eq!(
        (periods.verdict, periods.problem.as_deref()),
        (Verdict::Warn, Some("PERIOD_CLOSED"))
    );
    assert_eq!(verdict(&checks, "qad: credit terms"), Verdict::Pass);
}

#[tokio::test]
async fn a_browse_that_is_not_the_tenants_is_told_with_its_setting() {
    let bench = Bench::full().await;
    let wrong = |text: String| {
        text.replace(
            "[lookups]\n",
            "[lookups]\n[lookups.sources.cost-centers]\nbrowse_id = \"urn:browse:mfg:none\"\n",
        )
        .replace(
            "[qad.auth]",
            "[qad.profile.suppliers]\nbrowse_id = \"urn:browse:mfg:none\"\n[qad.auth]",
        )
    };
    let checks = bench.examined(&[], wrong).await;
    for (name, setting) in [
        ("qad: list cost-centers", "lookups.sources.cost-centers"),
        ("qad: suppliers", "qad.profile.suppliers"),
    ] {
        assert_eq!(verdict(&checks, name), Verdict::Warn, "{:?}", checks[name]);
        assert!(checks[name].fix.contains(setting), "{:?}", checks[name]);
    }
    assert_eq!(verdict(&checks, "qad: list projects"), Verdict::Pass);
}

#[tokio::test]
async fn each_scope_that_is_missing_and_each_too_many_is_named() {
    let bench = Bench::full().await;
    bench.simulators.options.write().unwrap().coupa_scopes =
        vec!["core.invoice.read".to_owned(), "core.common.read".to_owned()];
    let few = |text: String| {
        text.replace(
            r#"scopes = ["core.invoice.read", "core.invoice.write", "core.purchase_order.read", "core.supplier.read", "core.supplier.write", "core.common.read", "core.common.write", "core.integration.read", "core.integration.write"]"#,
            r#"scopes = ["core.invoice.read", "core.common.read"]"#,
        )
        .replace("[lookups]\n", "")
        .replace("owner_lookup = \"QAD Integration Owner\"\n", "")
    };
    let checks = bench.examined(&[], few).await;
    assert_eq!(verdict(&checks, "coupa: token"), Verdict::Pass);
    assert_eq!(verdict(&checks, "coupa: scope core.invoice.read"), Verdict::Pass);
    for name in [
        "core.invoice.write",
        "core.supplier.read",
        "core.supplier.write",
        "core.integration.write",
    ] {
        assert_eq!(verdict(&checks, &format!("coupa: scope {name}")), Verdict::Fail);
    }
    assert_eq!(
        verdict(&checks, "coupa: scope core.purchase_order.read"),
        Verdict::Warn
    );
    // Without lookups and without an owner mark nothing needs it.
    let excess = &checks["coupa: scopes too many"];
    assert_eq!(
        (excess.verdict, excess.found.as_str()),
        (Verdict::Warn, "core.common.read")
    );
}

#[tokio::test]
async fn wrong_credentials_refused_reads_and_a_wrong_clock_fail() {
    let bench = Bench::full().await;
    let wrong = |text: String| {
        text.replace("example-coupa-secret", "another-secret")
            .replace("example-password", "another-password")
    };
    let checks = bench.examined(&[], wrong).await;
    for name in [
        "coupa: token",
        "coupa: list of invoices",
        "qad: receipts",
        "qad: suppliers",
    ] {
        assert_eq!(verdict(&checks, name), Verdict::Fail, "{:?}", checks[name]);
    }
    let forbidden = || Fault::Status {
        status: 403,
        retry_after: RetryAfter::Absent,
        after_commit: false,
    };
    bench.arm(System::Coupa, "lookup-values.list", forbidden());
    bench.arm(System::Coupa, "suppliers.list", forbidden());
    let checks = bench.examined(&[], same).await;
    assert_eq!(verdict(&checks, "coupa: suppliers"), Verdict::Fail);
    assert_eq!(
        checks
            .values()
            .filter(|check| check.check.starts_with("lookup ") && check.verdict == Verdict::Fail)
            .count(),
        1
    );

    let watching = Watching::new();
    watching
        .dates
        .lock()
        .unwrap()
        .push(("host".to_owned(), SKEW_MILLIS_MAX + 1));
    let mut findings = Findings::default();
    skew("QAD_CLOCK", &watching, "host", &mut findings);
    skew("QAD_CLOCK", &watching, "another", &mut findings);
    let verdicts: Vec<Verdict> = findings.0.iter().map(|check| check.verdict).collect();
    assert_eq!(verdicts, [Verdict::Fail, Verdict::Warn]);
}

/// An empty list of values does not tell an empty lookup from one that is not there: Coupa is asked, and where it does not
/// say, its refusal of a value counts.
#[tokio::test]
async fn an_empty_lookup_is_told_from_one_that_coupa_does_not_have() {
    let bench = Bench::full().await;
    {
        let mut world = bench.simulators.world.lock().unwrap();
        world.coupa.lookup_values.clear();
        world.coupa.lookups.remove("QAD Projects");
    }
    let checks = bench.examined(&[], same).await;
    let name = "coupa: lookup QAD Projects";
    assert_eq!(verdict(&checks, name), Verdict::Fail);
    assert_eq!(verdict(&checks, "coupa: lookup QAD Cost Centers"), Verdict::Pass);

    let forbidden = || Fault::Status {
        status: 403,
        retry_after: RetryAfter::Absent,
        after_commit: false,
    };
    let arm_each = || (0..3).for_each(|_| bench.arm(System::Coupa, "lookups.list", forbidden()));
    arm_each();
    let checks = bench.examined(&[], same).await;
    assert_eq!(verdict(&checks, name), Verdict::Warn);
    let mut plan = PlanRecord::new(Some("QAD Projects"));
    plan.state = PlanState::Parked {
        problem: Problem::new(LOOKUP_MISSING, "Create it in Coupa."),
        plan_sha256: String::new(),
        changes: vec![],
    };
    arm_each();
    let checks = bench.examined(&[plan], same).await;
    assert_eq!(verdict(&checks, name), Verdict::Fail);
    assert_eq!(verdict(&checks, "coupa: lookup QAD Cost Centers"), Verdict::Warn);
}

#[test]
fn alarms_that_ring_or_that_nobody_hears_are_told() {
    let alarm = |name: &str, rings: bool, topics: &[&str]| Alarm {
        name: name.to_owned(),
        rings,
        is_on: true,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        description: "What: it rings. Impact: some. Do: look.".to_owned(),
    };
    let heard = |confirmed, pending| BTreeMap::from([("t".to_owned(), Subscribers { confirmed, pending })]);
    let told = |alarms: &[Alarm], topics: &BTreeMap<String, Subscribers>| {
        let mut findings = Findings::default();
        judge("s", alarms, topics, &mut findings);
        let short = |check: &Check| (check.verdict, check.fix.clone());
        findings.0.iter().map(short).collect::<Vec<_>>()
    };
    let well = [alarm("s-a", false, &["t"])];
    let pass = |_: &()| (Verdict::Pass, String::new());
    assert_eq!(told(&well, &heard(1, 0)), [pass(&()), pass(&())]);
    assert_eq!(told(&[], &BTreeMap::new())[0].0, Verdict::Fail);
    let ringing = [alarm("s-a", false, &["t"]), alarm("s-b", true, &["t"])];
    assert_eq!(
        told(&ringing, &heard(1, 0))[0],
        (Verdict::Warn, "look.".to_owned())
    );
    assert_eq!(
        told(&[alarm("s-a", false, &[])], &BTreeMap::new())[1].0,
        Verdict::Fail
    );
    let mut off = well.clone();
    off[0].is_on = false;
    assert_eq!(told(&off, &heard(1, 0))[1].0, Verdict::Fail);
    assert_eq!(told(&well, &heard(0, 0))[1].0, Verdict::Fail);
    let unconfirmed = told(&well, &heard(0, 1));
    assert_eq!(unconfirmed[1].0, Verdict::Fail);
    assert!(unconfirmed[1].1.contains("link"), "{unconfirmed:?}");
}

#[test]
fn hosts_are_taken_from_addresses_as_they_are() {
    assert_eq!(host_of("http://127.0.0.1:80/a?b"), "127.0.0.1:80");
    assert_eq!(host_of("https://example.com"), "example.com");
}

/// CloudWatch as far as it is asked: two pages, each request signed.
#[tokio::test]
async fn all_pages_of_alarms_are_read_with_signed_requests() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answers = [
        r#"{"MetricAlarms":[{"AlarmName":"s-a","StateValue":"OK","ActionsEnabled":true,"AlarmActions":["t"]}],"NextToken":"n"}"#,
        r#"{"MetricAlarms":[{"AlarmName":"s-b","StateValue":"ALARM","ActionsEnabled":true,"AlarmActions":["t"]}]}"#,
    ];
    let server = std::thread::spawn(move || {
        answers.map(|answer| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut piece = [0u8; 4096];
            // The body is one JSON object and comes last.
            while !asked.ends_with(b"}") {
                let read = stream.read(&mut piece).unwrap();
                asked.extend_from_slice(&piece[..read]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        })
    });
    let credentials = aws_credential_types::Credentials::from_keys("key-of-a-test", "secret-of-a-test", None);
    let sdk = aws_config::SdkConfig::builder()
        .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
            credentials,
        ))
        .build();
    let found = alarms::described(&sdk, "eu-central-1", &address, "s")
        .await
        .unwrap();
    let short: Vec<(&str, bool)> = found
        .iter()
        .map(|alarm| (alarm.name.as_str(), alarm.rings))
        .collect();
    assert_eq!(short, [("s-a", false), ("s-b", true)]);
    let asked = server.join().unwrap();
    for request in &asked {
        assert!(
            request.contains("AWS4-HMAC-SHA256 Credential=key-of-a-test/"),
            "{request}"
        );
        assert!(
            request.contains("/eu-central-1/monitoring/aws4_request"),
            "{request}"
        );
        assert!(!request.contains("secret-of-a-test"), "{request}");
    }
    assert!(asked[1].contains(r#""NextToken":"n""#));
}

#[test]
fn cloudwatch_is_found_in_every_partition() {
    assert_eq!(
        alarms::address_in("eu-central-1"),
        "https://monitoring.eu-central-1.amazonaws.com"
    );
    assert_eq!(
        alarms::address_in("us-gov-west-1"),
        "https://monitoring.us-gov-west-1.amazonaws.com"
    );
    assert_eq!(
        alarms::address_in("cn-north-1"),
        "https://monitoring.cn-north-1.amazonaws.com.cn"
    );
}
