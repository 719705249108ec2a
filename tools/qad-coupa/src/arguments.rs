//! The verbs of the command line.

use crate::suppliers::SuppliersVerb;
use clap::{Args, Parser, Subcommand};
use domain::ids::ConnectionId;
use std::path::PathBuf;

/// Connects Coupa with QAD: approved invoices become QAD supplier invoices, never ahead of their goods receipt, never
/// twice.
#[derive(Debug, Parser)]
#[command(
    name = "qad-coupa",
    version,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 needs attention, 6 no answer."
)]
pub(crate) struct Arguments {
    /// Folder of the local run: logs, and where other commands find it.
    #[arg(long, global = true, value_name = "DIR", default_value = ".local-run")]
    pub(crate) run_dir: PathBuf,
    /// Which connection; may be left out where there is only one.
    #[arg(long, short = 'c', global = true, value_name = "ID")]
    pub(crate) connection_id: Option<ConnectionId>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Plays a seeded day against simulated Coupa and QAD, with the deployable functions on a local AWS.
    Demo(DemoOptions),
    /// The same local run against the Coupa and QAD of a connection file.
    Local(LocalOptions),
    /// What the register knows.
    Invoice {
        #[command(subcommand)]
        verb: InvoiceVerb,
    },
    /// Why an invoice stands where it stands: one sentence, and the figures line by line.
    #[command(after_help = "Example: qad-coupa explain INV-55812")]
    Explain {
        /// Coupa's id, or the supplier's invoice number (case, blanks and leading zeros are forgiven).
        invoice: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Everything that happened to an invoice, from the audit trail.
    Timeline {
        /// Coupa's id, or the supplier's invoice number.
        invoice: String,
    },
    /// Coupa's lookups: where each stands, what would change, allowing a plan that waits.
    Lookups(crate::lookups::LookupsArguments),
    /// What QAD paid, and what Coupa shows of it.
    Payments(crate::payments::PaymentsOptions),
    /// How the suppliers of QAD and Coupa stand to each other.
    Suppliers {
        #[command(subcommand)]
        verb: SuppliersVerb,
    },
    /// Makes things happen in the simulated systems of a demo that was started with --keep.
    Sandbox {
        #[command(subcommand)]
        verb: SandboxVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum InvoiceVerb {
    /// All invoices.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Only those in this state: received, held, approved, posted, exported, parked, rejected, voided.
        #[arg(long)]
        state: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    /// Keeps everything running after the day, until Ctrl-C.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Another day: same stories, other figures.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct LocalOptions {
    /// The connection file; docs/examples/connection.toml is a commented one. May be given several times.
    #[arg(long = "connection", value_name = "FILE", required = true)]
    pub(crate) connection_files: Vec<PathBuf>,
    /// Keeps the tables in this folder, so that the state survives a restart.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Port of the webhook address; any free one when left out.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SandboxVerb {
    /// Posts a goods receipt in the simulated QAD.
    Receipt {
        /// Purchase order.
        order: String,
        /// Its line.
        #[arg(long, default_value_t = 1)]
        line: u32,
        /// How much.
        #[arg(long)]
        quantity: String,
    },
    /// QAD pays an invoice, or a payment changes its status.
    Pay(crate::sandbox_pay::PayOptions),
    /// Sends a signed Coupa event about an invoice.
    Event {
        /// Coupa's id of the invoice.
        invoice: u64,
        /// approved, voided, updated, ...
        #[arg(long, default_value = "updated")]
        event: String,
    },
    /// Voids an invoice in the simulated Coupa.
    Void {
        /// Coupa's id of the invoice.
        invoice: u64,
    },
    /// Makes the next call of this kind go wrong.
    #[command(
        after_help = "Kinds: lost-before, lost-after, unauthorized, forbidden, html-page, record-in-use, ...\nExample: qad-coupa sandbox fault qad supplier-invoices.create lost-after"
    )]
    Fault {
        /// coupa or qad.
        system: String,
        /// The operation, as the journal names it, for example supplier-invoices.create.
        operation: String,
        /// What goes wrong.
        kind: String,
    },
    /// What the simulated systems hold.
    State,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_verbs_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
