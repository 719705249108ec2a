//! The flows: one run now, a pause, its end.

use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, terminal};
use aws::clock::SystemClock;
use aws::telemetry::JsonLogs;
use clap::{Args, ValueEnum};
use domain::explain;
use domain::ids::InvoiceId;
use domain::instruction::Instruction;
use domain::problem::Problem;
use flows::pause;
use flows::ports::{Hint, HintReason, Subject};
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt;
use wiring::{Scheduled, SupplierRun};

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

#[derive(Debug, Args)]
pub(crate) struct PauseOptions {
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
    let wiring = place.wiring()?;
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

/// `pause` and `resume`.
pub(crate) async fn switch(
    place: &PlaceArguments,
    options: &PauseOptions,
    paused: bool,
    json: bool,
) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let instruction = Instruction::new(&place.actor().await?, &options.reason).map_err(Failure::Refused)?;
    let now = pause::of_invoices(&register).await.map_err(unfinished)?;
    let changes = now.is_some() != paused;
    if changes && !options.dry_run {
        pause::set_invoices(&place.context(&register), paused, instruction)
            .await
            .map_err(unfinished)?;
    }
    let word = if paused { "paused" } else { "running" };
    if json {
        let value = json!({ "connection": connection, "flow": "invoices", "state": word, "changed": changes,
                            "dry_run": options.dry_run });
        terminal::say(&value.to_string());
        return Ok(());
    }
    let text = match (paused, changes, options.dry_run) {
        (_, false, _) => format!("Posting of {connection} was {word} already; nothing was written."),
        (true, true, true) => {
            format!("Posting of {connection} would be paused. Nothing was done (--dry-run).")
        }
        (false, true, true) => format!("Posting of {connection} would go on. Nothing was done (--dry-run)."),
        (true, true, false) => format!(
            "Posting of {connection} is paused since {}. What is on its way comes to its end; nothing new is begun.",
            explain::instant(flows::ports::Clock::now(&SystemClock))
        ),
        (false, true, false) => format!(
            "Posting of {connection} goes on. What waited is looked at as it is due; `qad-coupa replay --code PAUSED` does not wait."
        ),
    };
    terminal::say(&text);
    Ok(())
}
