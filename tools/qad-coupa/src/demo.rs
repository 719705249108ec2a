//! The demo: both systems simulated, the deployable functions on a local AWS, a seeded day played by script, every
//! invoice checked against what its scenario says.

mod payments;

use crate::arguments::DemoOptions;
use crate::certify::{self, Cases};
use crate::lookup_stories::Stories;
use crate::output::{ListOptions, Output};
use crate::sandbox_client::{self, SandboxFile};
use crate::terminal::LiveBlock;
use crate::{Failure, connection_file, invoices, local, place, records, suppliers, terminal, view};
use aws::clock::SystemClock;
use aws::dynamo::DynamoRegister;
use connectors::http::outbound::Destination;
use connectors::http::transport::{HttpTransport, Method, Request, Transport};
use domain::explain;
use domain::ids::{InvoiceId, OrderLineKey};
use domain::lifecycle::{InvoiceRecord, PaidState, State};
use domain::problem::Problem;
use domain::time::Timestamp;
use flows::ports::Clock;
use rust_decimal::Decimal;
use sandbox::coupa::{invoice_event, order_event, sign_event};
use sandbox::http::{Options, Simulators};
use sandbox::local::LocalRun;
use sandbox::scenario::payable;
use sandbox::scenario::payments::PaymentDay;
use sandbox::scenario::{
    Delivery, Expected, Played, Scenario, Step, before_the_day, day, expected_suppliers, is_in_coupa, play,
    supplier_stories,
};
use sandbox::world::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// The connection of the demo.
const CONNECTION: &str = "demo";
/// Signs the demo's events; fictional, and known to nobody else.
const WEBHOOK_SECRET: &str = "a-fictional-secret-of-the-demo";
/// Scenarios that are played at the same time.
const SCENARIOS_AT_ONCE: usize = 12;
/// Longest the day may take, in milliseconds.
const DAY_MILLIS_MAX: i64 = 400_000;
/// How often the register is looked at, in milliseconds.
const LOOK_MILLIS: u64 = 400;
/// Longest answer the webhook may take, in seconds.
const WEBHOOK_SECONDS_MAX: u64 = 20;
/// Changes shown below the live table.
const NEWS_SHOWN: usize = 12;

/// Stories that are told at the end.
const STORIES: [&str; 5] = [
    "single line",
    "partial, then the rest",
    "price over tolerance",
    "lost after the commit",
    "repeated reference",
];

/// What the demo's connection file would say; `{coupa}` and `{qad}` are the simulators' addresses.
const CONNECTION_FILE: &str = include_str!("demo-connection.toml");

fn now() -> Timestamp {
    SystemClock.now()
}

/// What follows the day.
enum Then<'a> {
    /// The end.
    End,
    /// Everything keeps running until Ctrl-C.
    Keep,
    /// A report on Coupa's own scenarios, into this folder.
    Certify { folder: &'a Path },
}

/// Plays the day.
pub(crate) async fn run(run_dir: &Path, options: &DemoOptions, out: &Output) -> Result<(), Failure> {
    let then = if options.keep { Then::Keep } else { Then::End };
    play_and(run_dir, options.seed, &then, out).await
}

/// Plays the day, and reports which of Coupa's scenarios for ERP adapters it has shown.
pub(crate) async fn certify(run_dir: &Path, seed: u64, folder: &Path, out: &Output) -> Result<(), Failure> {
    play_and(run_dir, seed, &Then::Certify { folder }, out).await
}

async fn play_and(run_dir: &Path, seed: u64, then: &Then<'_>, out: &Output) -> Result<(), Failure> {
    let mut scenarios = day(seed);
    let payments = sandbox::scenario::payments::payments(seed);
    // They take the longest, so they begin first.
    scenarios.splice(0..0, payments.scenarios.iter().cloned());
    scenarios.extend(supplier_stories());
    let scenarios = Arc::new(scenarios);
    let mut world = World::seed(&scenarios, now());
    before_the_day(&mut world, now());
    let simulators = Simulators::start(world, Arc::new(now), Options::default())
        .await
        .map_err(|error| {
            Failure::from(Problem::new("SIMULATORS_NOT_STARTED", "").actual(error.to_string()))
        })?;
    let text = CONNECTION_FILE
        .replace("{coupa}", &simulators.coupa_url)
        .replace("{qad}", &simulators.qad_url);
    let file = connection_file::parse(&text).map_err(Failure::Failed)?;
    let local = local::start(run_dir, vec![file.connection], file.parameters, None, 0).await?;
    let sandbox_file = SandboxFile {
        control_url: simulators.control_url.clone(),
        webhook_url: local.webhook_url(CONNECTION)?,
        webhook_secret: WEBHOOK_SECRET.to_owned(),
    };
    sandbox_file.write(run_dir)?;
    let world = place::Place::local(place::running(run_dir)?, None)?;
    let register = world.register(&world.connection().await?)?;
    // Nothing is in it yet: from the first invoice on, questions are answered from the index.
    flows::index::rebuild_step(&world.context(&register), &register)
        .await
        .map_err(place::unfinished)?;
    let page = format!("{}/", local.gateway_url());
    let stage = Arc::new(Stage {
        simulators,
        page: page.clone(),
        register,
        webhook_url: sandbox_file.webhook_url,
        http: HttpTransport::new(),
        payments,
    });

    out.line(&format!(
        "Simulated Coupa {} and QAD {}; webhook {}",
        stage.simulators.coupa_url, stage.simulators.qad_url, stage.webhook_url
    ));
    out.line(&format!("Page: {page}"));
    let invoices: usize = scenarios.iter().map(|scenario| scenario.invoices.len()).sum();
    out.line(&format!(
        "Playing {} stories with {invoices} invoices.",
        scenarios.len()
    ));
    let lookups = Stories::begin(&stage.simulators.world, &stage.simulators.faults, &stage.register);
    let mut verdict = play_day(&stage, &scenarios, out).await;
    let (of_lookups, complaints) = lookups.finish().await;
    verdict.extend(complaints);
    let keeps_running = matches!(then, Then::Keep);
    let mut outcome = report(&stage, &scenarios, &of_lookups, verdict, keeps_running, out).await;
    match then {
        Then::End => {}
        Then::Keep => {
            what_to_try(&stage, out).await;
            local::wait_for_the_end().await;
            out.line("ending");
        }
        Then::Certify { folder } if outcome.is_ok() => {
            let cases = Cases::of_the_day(&scenarios);
            outcome = certify::certify(&world, &cases, "simulated Coupa and QAD", folder, out).await;
        }
        Then::Certify { .. } => {}
    }
    end(local, run_dir).await;
    outcome
}

async fn end(local: LocalRun, run_dir: &Path) {
    SandboxFile::remove(run_dir);
    local.shutdown().await;
}

/// Everything the script needs.
struct Stage {
    simulators: Simulators,
    register: DynamoRegister,
    webhook_url: String,
    /// Where the page is.
    page: String,
    http: HttpTransport,
    payments: PaymentDay,
}

/// What went otherwise than the scenarios say; empty when all is well.
type Complaints = Vec<String>;

async fn play_day(stage: &Arc<Stage>, scenarios: &Arc<Vec<Scenario>>, out: &Output) -> Complaints {
    let started = now();
    let complaints: Arc<Mutex<Complaints>> = Arc::default();
    let (begin, script) = (Arc::clone(stage), Arc::clone(scenarios));
    let told = Arc::clone(&complaints);
    let playing = tokio::spawn(async move {
        let mut running = JoinSet::new();
        for index in 0..script.len() {
            while running.len() >= SCENARIOS_AT_ONCE {
                running.join_next().await;
            }
            let (stage, script, told) = (Arc::clone(&begin), Arc::clone(&script), Arc::clone(&told));
            running.spawn(async move {
                let Some(scenario) = script.get(index) else { return };
                if let Err(complaint) = play_scenario(&stage, scenario, started).await {
                    lock(&told).push(format!("{}: {complaint}", scenario.name));
                }
            });
        }
        while running.join_next().await.is_some() {}
    });
    let mut block = LiveBlock::new();
    let mut news = News::default();
    loop {
        let records = records::all(&stage.register).await.unwrap_or_default();
        let fresh = news.of(&records);
        if block.is_live() {
            block.paint(&news.picture(&records, started, out));
        } else {
            fresh.iter().for_each(|line| out.line(line));
        }
        let late = now().millis_since(started) > DAY_MILLIS_MAX;
        let done = playing.is_finished()
            && unmet(stage, scenarios, &records).is_empty()
            && payments::unmet(stage, &stage.payments).await.is_empty()
            && unmet_suppliers(stage).await.is_empty();
        if late || done {
            break;
        }
        SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
    }
    playing.abort();
    block.clear();
    let mut complaints = lock(&complaints).clone();
    let records = records::all(&stage.register).await.unwrap_or_default();
    complaints.extend(unmet(stage, scenarios, &records));
    complaints.extend(payments::unmet(stage, &stage.payments).await);
    complaints.extend(unmet_suppliers(stage).await);
    complaints
}

/// What is not with the suppliers as the stories say.
async fn unmet_suppliers(stage: &Stage) -> Complaints {
    let records = suppliers::all(&stage.register).await.unwrap_or_default();
    let mut complaints = Vec::new();
    for expected in expected_suppliers() {
        complaints.extend(expected.complaint(&lock(&stage.simulators.world)));
        let state = suppliers::state_of(&records, expected.code());
        if state != expected.state() {
            complaints.push(format!(
                "supplier {} is {state} and should be {}",
                expected.code(),
                expected.state()
            ));
        }
    }
    complaints
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn play_scenario(stage: &Stage, scenario: &Scenario, started: Timestamp) -> Result<(), String> {
    for step in &scenario.steps {
        let played = {
            let mut world = lock(&stage.simulators.world);
            let mut faults = lock(&stage.simulators.faults);
            play(step, &mut world, &mut faults, now()).map_err(|refusal| format!("{refusal:?}"))?
        };
        match (played, step) {
            (
                Played::Callers,
                Step::SendEvent {
                    invoice,
                    delivery,
                    status,
                },
            ) => {
                send_event(stage, *invoice, *delivery, *status).await?;
            }
            (Played::Callers, Step::WaitForState { invoice, state }) => {
                wait_for(stage, InvoiceId(*invoice), state, started).await?;
            }
            (Played::Callers, Step::WaitForPayments { invoice, entries }) => {
                wait_for_payments(stage, *invoice, *entries, started).await?;
            }
            (Played::Callers, Step::WaitForSupplier(code)) => {
                wait_for_supplier(stage, code, started).await?;
            }
            (Played::Callers, Step::SendOrderEvent(order)) => {
                let id = {
                    let mut world = lock(&stage.simulators.world);
                    if !world.coupa.orders.contains_key(&order.number) {
                        world.coupa.add_order(order, now());
                    }
                    let known = world.coupa.orders.get(&order.number);
                    known.and_then(|order| order.get("id")?.as_u64())
                };
                let id = id.ok_or_else(|| format!("order {} is not in Coupa", order.number))?;
                let body = order_event(id, "updated", now());
                let status = post_event(&stage.http, &stage.webhook_url, WEBHOOK_SECRET, &body).await?;
                if status != 202 {
                    return Err(format!("the webhook answered {status} to an order's event"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

async fn send_event(stage: &Stage, invoice: u64, delivery: Delivery, status: u16) -> Result<(), String> {
    let body = match delivery {
        Delivery::Garbage => "this is no event".to_owned(),
        Delivery::Genuine | Delivery::Repeated(_) | Delivery::Forged => {
            invoice_event(invoice, "approved", now())
        }
    };
    let secret = if delivery == Delivery::Forged {
        "a-secret-that-is-not-ours-at-all"
    } else {
        WEBHOOK_SECRET
    };
    let times = if let Delivery::Repeated(times) = delivery {
        times
    } else {
        1
    };
    for _ in 0..times {
        let answered = post_event(&stage.http, &stage.webhook_url, secret, &body).await?;
        if answered != status {
            return Err(format!(
                "the webhook answered {answered} where {status} was expected"
            ));
        }
    }
    Ok(())
}

/// Sends one signed event; the answer's status.
pub(crate) async fn post_event(
    http: &HttpTransport,
    url: &str,
    secret: &str,
    body: &str,
) -> Result<u16, String> {
    let signed = sign_event(secret.as_bytes(), body.as_bytes());
    let base = url.parse().map_err(|problem: Problem| problem.to_string())?;
    let request = Request {
        destination: Destination::of(&base, &[]),
        method: Method::Post,
        url: url.to_owned(),
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("x-coupa-signature".to_owned(), signed.signature),
            ("x-coupa-delivery".to_owned(), signed.delivery),
        ],
        body: Some(body.as_bytes().to_vec()),
        timeout: Duration::from_secs(WEBHOOK_SECONDS_MAX),
        write: true,
    };
    http.send(request)
        .await
        .map(|response| response.status)
        .map_err(|error| error.to_string())
}

async fn wait_for(stage: &Stage, invoice: InvoiceId, state: &str, started: Timestamp) -> Result<(), String> {
    loop {
        let known = record_of(stage, invoice).await;
        let word = known.as_ref().map_or("unknown", |record| record.state.word());
        if word == state {
            return Ok(());
        }
        if now().millis_since(started) > DAY_MILLIS_MAX {
            return Err(format!("invoice {invoice} is {word} and never became {state}"));
        }
        SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
    }
}

async fn wait_for_payments(
    stage: &Stage,
    invoice: u64,
    entries: usize,
    started: Timestamp,
) -> Result<(), String> {
    loop {
        let shown = {
            let world = lock(&stage.simulators.world);
            let known = world.coupa.invoices.get(&invoice);
            known.map_or(0, |known| known.payments.len())
        };
        if shown >= entries {
            return Ok(());
        }
        if now().millis_since(started) > DAY_MILLIS_MAX {
            return Err(format!(
                "Coupa shows {shown} payments of invoice {invoice} and never {entries}"
            ));
        }
        SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
    }
}

async fn wait_for_supplier(stage: &Stage, code: &str, started: Timestamp) -> Result<(), String> {
    while !is_in_coupa(&lock(&stage.simulators.world), code) {
        if now().millis_since(started) > DAY_MILLIS_MAX {
            return Err(format!("supplier {code} was never in Coupa"));
        }
        SystemClock.sleep(Duration::from_millis(LOOK_MILLIS)).await;
    }
    Ok(())
}

async fn record_of(stage: &Stage, invoice: InvoiceId) -> Option<InvoiceRecord> {
    let key = flows::ports::RecordKey::Invoice(invoice);
    let loaded = flows::store::load::<InvoiceRecord>(&stage.register, key).await;
    loaded.ok().flatten().map(|loaded| loaded.document)
}

/// What is not as the scenarios say.
fn unmet(stage: &Stage, scenarios: &[Scenario], records: &[InvoiceRecord]) -> Complaints {
    let by_id: BTreeMap<u64, &InvoiceRecord> = records.iter().map(|record| (record.id.0, record)).collect();
    let mut complaints = shown_wrongly(&lock(&stage.simulators.world), records);
    for scenario in scenarios {
        for expected in &scenario.expected {
            if let Some(complaint) = differs(stage, expected, by_id.get(&expected.invoice).copied()) {
                complaints.push(format!("{}: {complaint}", scenario.name));
            }
        }
    }
    complaints
}

/// Where Coupa shows something else than the truth: exactly one record stands open and alerts while a person must act, a wait
/// stands open without an alert, and nothing else stands open.
fn shown_wrongly(world: &World, records: &[InvoiceRecord]) -> Complaints {
    let mut complaints = Vec::new();
    for record in records {
        let open: Vec<bool> = world
            .coupa
            .history
            .values()
            .filter(|shown| shown.get("document-id") == Some(&Value::from(record.id.0)))
            .filter(|shown| shown.get("resolved") == Some(&Value::Bool(false)))
            .map(|shown| shown.get("alerted") == Some(&Value::Bool(true)))
            .collect();
        let payments_need_a_person = matches!(record.paid, Some(PaidState::Parked { .. }));
        let right = match record.state {
            State::Parked { .. } => open == [true],
            State::Held { .. } => open == [false],
            State::Exported { .. } if payments_need_a_person => open == [true],
            _ => open.is_empty(),
        };
        if !right {
            complaints.push(format!(
                "invoice {} is {}, and Coupa shows open records (alerting or not) {open:?}",
                record.id,
                record.state.word()
            ));
        }
        let number = world.coupa.invoices.get(&record.id.0).and_then(|invoice| {
            invoice
                .custom_fields
                .get("erp-invoice-number")
                .and_then(Value::as_str)
        });
        let voucher = record.state.voucher().map(ToString::to_string);
        if matches!(record.state, State::Exported { .. }) && number != voucher.as_deref() {
            complaints.push(format!(
                "invoice {} shows {number:?} in Coupa and is {voucher:?} in QAD",
                record.id
            ));
        }
    }
    complaints
}

fn differs(stage: &Stage, expected: &Expected, record: Option<&InvoiceRecord>) -> Option<String> {
    let state = record.map_or("unknown", |record| record.state.word());
    let mut codes: Vec<String> = record.map(|record| record.state.codes()).unwrap_or_default();
    codes.sort();
    let world = lock(&stage.simulators.world);
    let (documents, exported) = sandbox_client::facts(&world, expected.invoice);
    let wanted_codes = expected.codes.as_ref().map(|codes| {
        let mut codes: Vec<String> = codes.iter().map(|code| (*code).to_owned()).collect();
        codes.sort();
        codes
    });
    let same = state == expected.state
        && wanted_codes.as_ref().is_none_or(|wanted| *wanted == codes)
        && documents == expected.qad_documents
        && exported == expected.exported;
    (!same).then(|| {
        format!(
            "invoice {} is {state} {codes:?} with {documents} documents in QAD, exported {exported}; expected {} {:?} with {}, exported {}",
            expected.invoice,
            expected.state,
            wanted_codes.unwrap_or_default(),
            expected.qad_documents,
            expected.exported
        )
    })
}

/// What has changed since the last look.
#[derive(Default)]
struct News {
    known: BTreeMap<InvoiceId, String>,
    told: Vec<String>,
}

impl News {
    fn of(&mut self, records: &[InvoiceRecord]) -> Vec<String> {
        let mut fresh = Vec::new();
        for record in records {
            let line = format!("{:<9} {}", record.state.word(), view::about(record));
            if self.known.insert(record.id, line.clone()).as_ref() != Some(&line) {
                let reference = record
                    .summary
                    .as_ref()
                    .map_or("", |summary| summary.reference.as_str());
                fresh.push(format!("{:>6}  {reference:<18}  {line}", record.id));
            }
        }
        self.told.extend(fresh.iter().cloned());
        fresh
    }

    fn picture(&self, records: &[InvoiceRecord], started: Timestamp, out: &Output) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for record in records {
            let count = counts.entry(record.state.word()).or_default();
            *count = count.saturating_add(1);
        }
        let words = [
            "received", "held", "approved", "posted", "exported", "parked", "rejected", "voided",
        ];
        let cells: Vec<String> = words
            .iter()
            .map(|word| format!("{word} {:>2}", counts.get(word).copied().unwrap_or(0)))
            .collect();
        let seconds = now().millis_since(started).checked_div(1000).unwrap_or(0);
        let mut lines = out.fitted(&format!("{seconds:>3} s   {}", cells.join("   ")));
        lines.push(String::new());
        let skip = self.told.len().saturating_sub(NEWS_SHOWN);
        lines.extend(self.told.iter().skip(skip).map(|line| out.clipped(line)));
        lines
    }
}

async fn report(
    stage: &Stage,
    scenarios: &[Scenario],
    of_lookups: &[String],
    complaints: Complaints,
    keeps_running: bool,
    out: &Output,
) -> Result<(), Failure> {
    let records = records::all(&stage.register).await?;
    let listing = view::invoice_list(&records).below([invoices::summed(&records)]);
    out.list(listing, &ListOptions::default())?;
    let documents = {
        let world = lock(&stage.simulators.world);
        (world.qad.invoices.len(), world.qad.duplicates())
    };
    out.line(&format!(
        "{} supplier invoices in QAD, {} of them duplicates.",
        documents.0, documents.1
    ));
    let known = suppliers::all(&stage.register).await?;
    for expected in expected_suppliers() {
        for line in suppliers::lines_about(&known, expected.code()) {
            out.line(&line);
        }
    }
    of_lookups.iter().for_each(|line| out.line(line));
    out.gap();
    stories(scenarios, &records, out);
    payments::report(stage, &stage.payments, &records, out);
    if complaints.is_empty() {
        out.line(&format!("All {} stories ended as they should.", scenarios.len()));
        if !keeps_running {
            out.line(
                "Next: `cargo demo --keep`, and in another terminal `cargo qad-coupa explain <invoice>`.",
            );
        }
        return Ok(());
    }
    for complaint in &complaints {
        terminal::complain(complaint);
    }
    Err(Failure::Differs(format!(
        "{} stories did not end as they should",
        complaints.len()
    )))
}

/// The best known of the stories and what accounts payable meets besides, one sentence each.
fn stories(scenarios: &[Scenario], records: &[InvoiceRecord], out: &Output) {
    for name in STORIES.into_iter().chain(payable::told()) {
        let Some(scenario) = scenarios.iter().find(|scenario| scenario.name == name) else {
            continue;
        };
        let Some(invoice) = scenario.expected.first() else {
            continue;
        };
        if let Some(record) = records.iter().find(|record| record.id.0 == invoice.invoice) {
            out.line(&format!("{} ({})", explain::title(record), scenario.about));
            out.line(&format!("  {}", view::in_words(record)));
        }
    }
    out.gap();
}

/// The first order line that an invoice waits for, and how much of it has still to be received.
fn missing(record: &InvoiceRecord) -> Option<(&OrderLineKey, Decimal)> {
    let line = record.awaits().first()?;
    let rows = &record.report.as_ref()?.lines;
    let row = rows.iter().find(|row| row.order_line.as_ref() == Some(line))?;
    let quantity = row.this_invoice?.checked_sub(row.open.unwrap_or_default())?;
    (quantity > Decimal::ZERO).then_some((line, quantity))
}

async fn what_to_try(stage: &Stage, out: &Output) {
    let records = records::all(&stage.register).await.unwrap_or_default();
    let held = records.iter().find(|record| !record.awaits().is_empty());
    out.line(&format!("Still running. The page: {}", stage.page));
    out.line("In another terminal:");
    out.line("  cargo qad-coupa invoice list");
    if let Some(record) = held {
        out.line(&format!("  cargo qad-coupa explain {}", record.id));
        if let Some((line, quantity)) = missing(record) {
            out.line(&format!(
                "  cargo qad-coupa sandbox receipt {} --line {} --quantity {}     # releases it",
                line.order,
                line.line,
                quantity.normalize()
            ));
        }
        out.line(&format!("  cargo qad-coupa timeline {}", record.id));
    }
    out.line("  cargo qad-coupa lookups --plan");
    out.line("  cargo qad-coupa payments");
    if let Some(bill) = stage.payments.bills.iter().find(|bill| bill.paid) {
        let invoice = bill.invoice;
        out.line(&format!(
            "  cargo qad-coupa sandbox pay INV-{invoice} --status Void     # then: payments show {invoice}"
        ));
    }
    out.line("  cargo qad-coupa sandbox fault qad supplier-invoices.create lost-after");
    out.line("  cargo qad-coupa sandbox state");
    out.line("Ctrl-C ends it.");
}
