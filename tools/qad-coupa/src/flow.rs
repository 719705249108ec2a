//! The flows: one run now, a pause, its end.

use crate::output::Output;
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, payments, records, terminal};
use aws::clock::{SystemChance, SystemClock};
use aws::dynamo::DynamoRegister;
use aws::telemetry::JsonLogs;
use clap::{Args, ValueEnum};
use domain::explain;
use domain::ids::{ConnectionId, InvoiceId};
use domain::instruction::Instruction;
use domain::problem::Problem;
use domain::words;
use flows::pause;
use flows::ports::{Chance, Clock, Collection, Hint, HintReason, Queue, Subject};
use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt;
use wiring::{Reconcile, Scheduled, SupplierRun};

/// A flow that runs on a schedule, or for one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flow {
    /// Asks Coupa for approved and voided invoices that the webhooks missed.
    PollCoupa,
    /// Asks QAD for new goods receipts.
    PollReceipts,
    /// Asks QAD for new and changed payments.
    PollPayments,
    /// Aligns the suppliers of both sides, when the connection asks for it.
    SyncSuppliers,
    /// Makes Coupa's lookups follow QAD's lists, when the connection says which.
    SyncLookups,
    /// Compares Coupa, the register and QAD, as the schedule does once a day; now, although it was done today.
    Reconcile,
    /// Queues again what is due.
    Sweep,
    /// Drives one invoice as far as it goes now; needs --invoice.
    MatchInvoice,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Which flow.
    #[arg(value_enum)]
    flow: Flow,
    /// Coupa's id of the invoice, for match-invoice.
    #[arg(long, value_name = "ID", required_if_eq("flow", "match-invoice"))]
    invoice: Option<InvoiceId>,
    /// For sync-suppliers: only says what would be done, writes nothing anywhere.
    #[arg(long)]
    plan: bool,
}

/// A flow that can be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pausable {
    /// Creating supplier invoices in QAD.
    Invoices,
    /// Writing QAD's payments into Coupa.
    Payments,
    /// Aligning suppliers.
    Suppliers,
    /// Making Coupa's lookups follow QAD.
    Lookups,
    /// Each of them.
    All,
}

impl Pausable {
    fn flows(self) -> &'static [pause::Flow] {
        match self {
            Self::Invoices => &[pause::Flow::Invoices],
            Self::Payments => &[pause::Flow::Payments],
            Self::Suppliers => &[pause::Flow::Suppliers],
            Self::Lookups => &[pause::Flow::Lookups],
            Self::All => &pause::Flow::ALL,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PauseOptions {
    /// Which flow.
    #[arg(value_enum, default_value_t = Pausable::Invoices)]
    flow: Pausable,
    /// Why; goes into the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Says what would happen, and does nothing.
    #[arg(long)]
    dry_run: bool,
}

/// `run`: one cycle now, in this process, through the same wiring and with the same log lines as the function.
pub(crate) async fn run(place: &PlaceArguments, options: &RunOptions) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    if let (Flow::MatchInvoice, Some(_), Some(invoice)) = (options.flow, place.sdk(), options.invoice) {
        return hand_over(&place, connection, invoice).await;
    }
    let wiring = place.wiring().await?;
    let name = options
        .flow
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned());
    let logs = JsonLogs::new(
        &name,
        "command",
        tracing::Level::INFO,
        Box::new(SystemClock),
        |line: &str| {
            // What CloudWatch makes of it is none of a person's business.
            terminal::say(line);
        },
    );
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(logs));
    let scheduled = Scheduled {
        connection: connection.clone(),
    };
    let invocation = place.invocation();
    let ended = match options.flow {
        Flow::PollCoupa => wiring.poll_coupa(&scheduled, &invocation).await,
        Flow::PollReceipts => wiring.poll_receipts(&scheduled, &invocation).await,
        Flow::PollPayments => wiring.poll_payments(&scheduled, &invocation).await,
        Flow::SyncSuppliers => {
            let run = SupplierRun {
                connection: connection.clone(),
                plan: options.plan,
            };
            wiring.sync_suppliers(&run, &invocation).await
        }
        Flow::SyncLookups => wiring.sync_lookups(&scheduled, &invocation).await,
        Flow::Reconcile => {
            let asked = Reconcile {
                connection: connection.clone(),
                anew: true,
            };
            wiring.reconcile(&asked, &invocation).await
        }
        Flow::Sweep => wiring.sweep(&scheduled, &invocation).await,
        Flow::MatchInvoice => {
            let invoice = options.invoice.ok_or_else(|| {
                Failure::from(Problem::new("INVOICE_MISSING", "Give --invoice and Coupa's id."))
            })?;
            let hint = Hint::V1 {
                connection,
                subject: Subject::Invoice(invoice),
                reason: HintReason::Operator,
                trace: invocation.request_id.clone(),
            };
            wiring.handle(hint, &invocation).await
        }
    };
    ended.map_err(Failure::from)
}

/// What creates documents runs in the stack alone, on its clocks and within its limits: a person only asks for it.
async fn hand_over(place: &Place, connection: ConnectionId, invoice: InvoiceId) -> Result<(), Failure> {
    let trace = format!("command-{}", SystemChance.token());
    let hint = Hint::V1 {
        connection,
        subject: Subject::Invoice(invoice),
        reason: HintReason::Operator,
        trace: trace.clone(),
    };
    let sent = place.hints(pause::Flow::Invoices.word())?.send(&[hint]).await;
    sent.map_err(|error| Failure::Unreachable(error.0))?;
    terminal::note(&format!(
        "invoice {invoice} is queued; match-invoice of the stack drives it, its log has it under trace {trace}"
    ));
    Ok(())
}

/// `pause` and `resume`.
pub(crate) async fn switch(
    place: &PlaceArguments,
    options: &PauseOptions,
    paused: bool,
    out: &Output,
) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let instruction = Instruction::new(&place.actor().await?, &options.reason).map_err(Failure::Refused)?;
    let mut rows = Vec::new();
    for flow in options.flow.flows() {
        let now = pause::of(&register, *flow).await.map_err(unfinished)?;
        let changes = now.is_some() != paused;
        let mut queued = 0;
        if changes && !options.dry_run {
            pause::set(&place.context(&register), *flow, paused, instruction.clone())
                .await
                .map_err(unfinished)?;
            if !paused {
                queued = wake(&place, &connection, &register, *flow).await?;
            }
        }
        let word = if paused { "paused" } else { "running" };
        if out.is_json() {
            rows.push(
                json!({ "connection": connection, "flow": flow.word(), "state": word, "changed": changes,
                              "queued": queued, "dry_run": options.dry_run }),
            );
            continue;
        }
        let what = format!("{} of {connection}", doing(*flow));
        out.line(&match (paused, changes, options.dry_run) {
            (_, false, _) => format!("{what} was {word} already; nothing was written."),
            (true, true, true) => format!("{what} would be paused. Nothing was done (--dry-run)."),
            (false, true, true) => format!("{what} would go on. Nothing was done (--dry-run)."),
            (true, true, false) => format!(
                "{what} is paused since {}. What is on its way comes to its end; nothing new is begun.",
                explain::instant(Clock::now(&SystemClock))
            ),
            (false, true, false) => format!("{what} goes on. {}", afterwards(*flow, queued)),
        });
    }
    if out.is_json() {
        // One flow is one object; of several the list.
        let value = match rows.as_slice() {
            [one] => one.clone(),
            _ => Value::Array(rows),
        };
        out.json(&value);
    }
    Ok(())
}

fn doing(flow: pause::Flow) -> &'static str {
    match flow {
        pause::Flow::Invoices => "Posting",
        pause::Flow::Payments => "Writing payments",
        pause::Flow::Suppliers => "Aligning suppliers",
        pause::Flow::Lookups => "Keeping lookups",
    }
}

fn afterwards(flow: pause::Flow, queued: usize) -> String {
    match flow {
        pause::Flow::Invoices => format!("{} that waited for it: queued.", words::count(queued, "invoice")),
        pause::Flow::Payments => format!("{} that waited for it: queued.", words::count(queued, "bill")),
        pause::Flow::Suppliers | pause::Flow::Lookups => {
            "The next run takes in everything that came meanwhile.".to_owned()
        }
    }
}

/// Has everything looked at that waited for the end of the pause; how many. A hint that is lost is made up for when the
/// record is due.
async fn wake(
    place: &Place,
    connection: &ConnectionId,
    register: &DynamoRegister,
    flow: pause::Flow,
) -> Result<usize, Failure> {
    let waits = |delay: &Option<Problem>| delay.as_ref().is_some_and(|delay| delay.code == pause::PAUSED);
    let subjects: Vec<Subject> = match flow {
        pause::Flow::Invoices => {
            let records = records::all(register).await?;
            let waiting = records.iter().filter(|record| waits(&record.delay));
            waiting.map(|record| Subject::Invoice(record.id)).collect()
        }
        pause::Flow::Payments => {
            let bills = payments::bills(register, None).await?;
            let waiting = bills.iter().filter(|bill| waits(&bill.delay));
            waiting
                .map(|bill| Subject::Entry {
                    collection: Collection::Bill,
                    id: bill.invoice.to_string(),
                })
                .collect()
        }
        // Their next run sees it all.
        pause::Flow::Suppliers | pause::Flow::Lookups => return Ok(0),
    };
    let trace = format!("command-{}", SystemChance.token());
    let hints: Vec<Hint> = subjects
        .into_iter()
        .map(|subject| Hint::V1 {
            connection: connection.clone(),
            subject,
            reason: HintReason::Operator,
            trace: trace.clone(),
        })
        .collect();
    if !hints.is_empty() {
        place
            .hints(flow.word())?
            .send(&hints)
            .await
            .map_err(|error| Failure::Unreachable(error.0))?;
    }
    Ok(hints.len())
}
