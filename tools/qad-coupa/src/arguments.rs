//! The verbs of the command line.

use crate::act::{AdoptOptions, RecheckOptions, ReleaseOptions, ReplayOptions};
use crate::audit::AuditVerb;
use crate::backfill::BackfillOptions;
use crate::certify::CertifyOptions;
use crate::connections::ConnectionVerb;
use crate::dlq::DlqVerb;
use crate::doctor::DoctorOptions;
use crate::flow::{PauseOptions, RunOptions};
use crate::invoices::{HoldsOptions, InvoiceVerb, Key};
use crate::output::OutputArguments;
use crate::place::PlaceArguments;
use crate::plan::PlanOptions;
use crate::reconcile::ReconcileOptions;
use crate::records::Filter;
use crate::status::StatusOptions;
use crate::suppliers::SuppliersVerb;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Connects Coupa with QAD: approved invoices become QAD supplier invoices, never ahead of their goods receipt, never
/// twice.
#[derive(Debug, Parser)]
#[command(
    name = "qad-coupa",
    version,
    after_help = "Works on the local run of --run-dir, or with --stack on a stack in AWS.\nExit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 needs attention or differs, 5 refused by policy, 6 no answer."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: PlaceArguments,
    #[command(flatten)]
    pub(crate) output: OutputArguments,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Plays a seeded day against simulated Coupa and QAD, with the deployable functions on a local AWS.
    Demo(DemoOptions),
    /// The same local run against the Coupa and QAD of a connection file.
    Local(LocalOptions),
    /// Runs Coupa's published scenarios for ERP adapters and writes a report that can be filed.
    #[command(
        after_help = "Example: qad-coupa certify                       plays the simulated day\n         qad-coupa certify --cases my-cases.toml  looks at what was prepared in the test systems\n\nA file of cases:\n  [cases]\n  \"2.1\" = [\"10S1001\"]             # suppliers by QAD's code\n  \"4.1\" = [\"INV-55812\", \"92010\"]   # invoices by anything that finds them"
    )]
    Certify(CertifyOptions),
    /// What stands where, what waits, what needs somebody, how full the queues are.
    Status(StatusOptions),
    /// What the register knows of invoices.
    Invoice {
        #[command(subcommand)]
        verb: InvoiceVerb,
    },
    /// Why an invoice stands where it stands: one sentence, and the figures line by line.
    #[command(after_help = "Example: qad-coupa explain INV-55812")]
    Explain(Key),
    /// Everything that happened to an invoice, from the audit trail, whose chain is verified on the way.
    Timeline(Key),
    /// What waits for a receipt, the oldest first.
    #[command(after_help = "Example: qad-coupa holds --older-than 3d --csv > accrual.csv")]
    Holds(HoldsOptions),
    /// What waits for a person, grouped by cause: one fix, n documents.
    Parked {
        #[command(flatten)]
        filter: Filter,
    },
    /// Has invoices looked at again: read from Coupa and QAD, and decided anew.
    #[command(
        after_help = "Example: qad-coupa recheck INV-55812\n         qad-coupa recheck --all-parked --code UNIT_DIFFERS --confirm 37"
    )]
    Recheck(RecheckOptions),
    /// Accepts exactly what the match found (price, quantity over the order) and lets the invoice post. Never ahead of a receipt.
    #[command(
        after_help = "Example: qad-coupa release INV-55812 --reason \"price agreed with the buyer, mail of 12 March\""
    )]
    Release(ReleaseOptions),
    /// Takes an invoice out until `recheck --reason` takes it up again.
    Skip(ReleaseOptions),
    /// Takes a document that a person keyed in QAD as this invoice's, after a look-up has proven it.
    #[command(
        after_help = "Example: qad-coupa adopt INV-55812 --voucher 2026/SI/100012 --reason \"keyed by hand before go-live\""
    )]
    Adopt(AdoptOptions),
    /// Has a frozen set of invoices looked at again, by filter, with a preview.
    #[command(after_help = "Example: qad-coupa replay --code QAD_INVOICE_REFUSED --dry-run")]
    Replay(ReplayOptions),
    /// What would be posted now, read live; no write is possible.
    Plan(PlanOptions),
    /// The dead-letter queues.
    Dlq {
        #[command(subcommand)]
        verb: DlqVerb,
    },
    /// Runs one cycle of a flow now, in this process, with the function's own log lines.
    #[command(after_help = "Example: qad-coupa run poll-receipts")]
    Run(RunOptions),
    /// Stops a flow: what is on its way comes to its end, nothing new is begun, nothing is lost.
    #[command(after_help = "Example: qad-coupa pause payments --reason \"closing of the period\"")]
    Pause(PauseOptions),
    /// Lets a flow go on, and has what waited looked at.
    Resume(PauseOptions),
    /// After a restore of the register alone, or with an empty one: records that are older than their audit trail go on with it.
    #[command(
        after_help = "Example: qad-coupa restore --check\n         qad-coupa restore --repair --reason \"register restored to 08:15\" --confirm 37"
    )]
    Restore(crate::restore::RestoreOptions),
    /// Which installation works with this Coupa and QAD, by the mark in Coupa.
    Owner {
        #[command(subcommand)]
        verb: crate::owner::OwnerVerb,
    },
    /// What a person says about one of the connection's entities.
    Entity {
        #[command(subcommand)]
        verb: crate::entities::EntityVerb,
    },
    /// Takes into the index of questions what a version without one has written. End it and start it again as you like.
    Reindex,
    /// Coupa, the register and QAD against each other: every difference named. Ends with 4 when one is unexplained.
    Reconcile(ReconcileOptions),
    /// Takes in approved invoices from before this product was there, exported or not; what QAD has already is adopted.
    #[command(after_help = "Example: qad-coupa backfill --from 2026-01-01 --reason \"cut-over\" --dry-run")]
    Backfill(BackfillOptions),
    /// Asks everything the connection depends on: pass, warn or fail, and the fix. Ends with 4 when something fails.
    Doctor(DoctorOptions),
    /// The audit trail: shown, verified, exported.
    Audit {
        #[command(subcommand)]
        verb: AuditVerb,
    },
    /// Connections as documents: a commented file, checked, stored, shown without its secrets.
    Connection {
        #[command(subcommand)]
        verb: ConnectionVerb,
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
    /// What a code means and what mends it.
    #[command(after_help = "Example: qad-coupa codes RECEIPT_MISSING")]
    Codes(crate::codes::CodesOptions),
    /// The completions of a shell, for its own folder.
    #[command(
        after_help = "Example: qad-coupa completions bash > ~/.local/share/bash-completion/completions/qad-coupa"
    )]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The manual's pages, one per verb, into a folder.
    #[command(after_help = "Example: qad-coupa man ~/.local/share/man/man1")]
    Man {
        /// A folder that exists.
        folder: PathBuf,
    },
    /// Makes things happen in the simulated systems of a demo that was started with --keep.
    Sandbox {
        #[command(subcommand)]
        verb: SandboxVerb,
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
    #[command(after_help = "Example: qad-coupa sandbox fault qad supplier-invoices.create lost-after")]
    Fault {
        /// Which system.
        #[arg(value_parser = ["coupa", "qad"])]
        system: String,
        /// The operation, as the journal names it, for example supplier-invoices.create.
        operation: String,
        /// What goes wrong.
        #[arg(value_parser = crate::sandbox_client::kinds())]
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

    #[test]
    fn a_word_that_is_none_is_a_usage_error_that_lists_them() {
        let said = |line: &str| {
            let told = Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string());
            told.map(|_| String::new()).unwrap_or_else(|error| error)
        };
        for (line, word) in [
            ("qad-coupa suppliers list --state lost", "quarantined"),
            ("qad-coupa payments --state paid", "left-alone"),
            ("qad-coupa sandbox fault qad token unheard-of", "bot-challenge"),
            ("qad-coupa sandbox fault sap token lost-after", "coupa"),
        ] {
            assert!(said(line).contains(word), "{line}: {}", said(line));
        }
        assert_eq!(said("qad-coupa suppliers list --state parked"), "");
        assert_eq!(said("qad-coupa sandbox fault qad token forbidden"), "");
        let adopted = "qad-coupa adopt 7 --voucher 2026/SI/1 --accept-total -5 --reason x";
        assert_eq!(said(adopted), "");
    }
}
