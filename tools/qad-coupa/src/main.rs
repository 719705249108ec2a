//! The operator's command line, the demo and the local run.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arguments`] | the verbs |
//! | [`connection_file`] | a connection as a commented file, taken apart into what goes where |
//! | [`place`] | where to work: a running local world, or a stack in AWS |
//! | [`records`] | the invoices of its register: filters, and finding the one that is meant |
//! | [`invoices`] | lists, one in full, why, what happened, what waits |
//! | [`act`] | what a person does with invoices: recheck, replay, release, skip, adopt |
//! | [`plan`] | what would be posted, with no write possible |
//! | [`flow`] | one run now, pause, resume |
//! | [`dlq`] | the dead-letter queues |
//! | [`audit`] | the audit trail as evidence |
//! | [`connections`] | connections as documents |
//! | [`certify`] | Coupa's published scenarios for ERP adapters, with a report |
//! | [`reconcile`] | both sides against each other |
//! | [`doctor`] | everything a connection depends on, asked once |
//! | [`backfill`] | taking in what was approved before this product was there |
//! | [`status`] | the health of a connection in figures |
//! | [`payments`] | what QAD paid of each bill, and what Coupa shows of it |
//! | [`suppliers`] | how the suppliers of both systems stand to each other |
//! | [`view`] | what people and programs are shown |
//! | [`lookups`] | where the lookups stand, what would change, allowing a plan |
//! | [`lookup_stories`] | the demo's stories about lookup values |
//! | [`local`] | the local run against any Coupa and QAD |
//! | [`demo`] | the local run against the simulators, with a seeded day |
//! | [`sandbox_pay`] | paying invoices in a demo that keeps running |
//! | [`sandbox_client`] | posting receipts, sending events and causing faults in a demo that keeps running |

mod act;
mod arguments;
mod audit;
mod backfill;
mod certify;
mod connection_file;
mod connections;
mod demo;
mod dlq;
mod doctor;
mod flow;
mod invoices;
mod local;
mod lookup_stories;
mod lookups;
#[cfg(test)]
mod manual;
mod payments;
mod place;
mod plan;
mod reconcile;
mod records;
mod reindex;
mod sandbox_client;
mod sandbox_pay;
mod status;
mod suppliers;
mod terminal;
mod view;

use arguments::{Arguments, Verb};
use clap::Parser;
use domain::problem::Problem;
use std::process::ExitCode;

/// How a command ended, as its exit code says it (2 is clap's: usage). Documented in `docs/commands.md`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: it did not work.
    Failed(Vec<Problem>),
    /// 3: there is no such thing.
    NotFound(Problem),
    /// 4: it worked, and what it found is not as it should be.
    Differs(String),
    /// 5: it could be done, and must not be.
    Refused(Problem),
    /// 6: the other side gave no answer.
    Unreachable(Problem),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Failed(vec![problem])
    }
}

impl From<sandbox::local::LocalError> for Failure {
    fn from(error: sandbox::local::LocalError) -> Self {
        Self::Failed(vec![error.problem()])
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::complain(&format!("the runtime cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => explain(&failure),
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { place, json, verb } = arguments;
    match verb {
        Verb::Demo(options) => demo::run(place::only_local(&place)?, &options).await,
        Verb::Local(options) => local::run(place::only_local(&place)?, &options).await,
        Verb::Certify(options) => certify::run(&place, &options, json).await,
        Verb::Status(options) => status::run(&place, &options, json).await,
        Verb::Invoice { verb } => invoices::run(&place, verb, json).await,
        Verb::Explain(key) => invoices::explain(&place, &key.key, json).await,
        Verb::Timeline(key) => invoices::timeline(&place, &key.key, json).await,
        Verb::Holds(options) => invoices::holds(&place, options, json).await,
        Verb::Parked { filter } => invoices::parked(&place, filter, json).await,
        Verb::Recheck(options) => act::recheck(&place, options, json).await,
        Verb::Release(options) => act::release(&place, options, json).await,
        Verb::Skip(options) => act::skip(&place, options, json).await,
        Verb::Adopt(options) => act::adopt(&place, options, json).await,
        Verb::Replay(options) => act::replay(&place, options, json).await,
        Verb::Plan(options) => plan::run(&place, &options, json).await,
        Verb::Dlq { verb } => dlq::run(&place, verb, json).await,
        Verb::Run(options) => flow::run(&place, &options).await,
        Verb::Pause(options) => flow::switch(&place, &options, true, json).await,
        Verb::Resume(options) => flow::switch(&place, &options, false, json).await,
        Verb::Reindex => reindex::run(&place, json).await,
        Verb::Reconcile(options) => reconcile::run(&place, &options, json).await,
        Verb::Backfill(options) => backfill::run(&place, options, json).await,
        Verb::Doctor(options) => doctor::run(&place, &options, json).await,
        Verb::Audit { verb } => audit::run(&place, verb, json).await,
        Verb::Connection { verb } => connections::run(&place, verb, json).await,
        Verb::Lookups(options) => lookups::run(&place, &options, json).await,
        Verb::Payments(options) => payments::run(&place, &options, json).await,
        Verb::Suppliers { verb } => suppliers::run(&place, &verb, json).await,
        Verb::Sandbox { verb } => sandbox_client::run(place::only_local(&place)?, &verb).await,
    }
}

fn explain(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Failed(problems) => {
            for problem in problems {
                terminal::complain(&problem.to_string());
            }
            ExitCode::FAILURE
        }
        Failure::NotFound(problem) => {
            terminal::complain(&problem.to_string());
            ExitCode::from(3)
        }
        Failure::Differs(what) => {
            terminal::complain(what);
            ExitCode::from(4)
        }
        Failure::Refused(problem) => {
            terminal::complain(&problem.to_string());
            ExitCode::from(5)
        }
        Failure::Unreachable(problem) => {
            terminal::complain(&problem.to_string());
            ExitCode::from(6)
        }
    }
}
