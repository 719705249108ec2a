//! The operator's command line, the demo and the local run.
//!
//! | module | what it holds |
//! |---|---|
//! | [`arguments`] | the verbs |
//! | [`connection_file`] | a connection as a commented file, taken apart into what goes where |
//! | [`register`] | the register of a running local world, or of a stack in AWS |
//! | [`payments`] | what QAD paid of each bill, and what Coupa shows of it |
//! | [`suppliers`] | how the suppliers of both systems stand to each other |
//! | [`view`] | what people and programs are shown |
//! | [`lookups`] | where the lookups stand, what would change, allowing a plan |
//! | [`lookup_stories`] | the demo's stories about lookup values |
//! | [`local`] | the local run against any Coupa and QAD |
//! | [`demo`] | the local run against the simulators, with a seeded day |
//! | [`sandbox_pay`] | paying invoices in a demo that keeps running |
//! | [`sandbox_client`] | posting receipts, sending events and causing faults in a demo that keeps running |

mod arguments;
mod connection_file;
mod demo;
mod local;
mod lookup_stories;
mod lookups;
mod payments;
mod register;
mod sandbox_client;
mod sandbox_pay;
mod suppliers;
mod terminal;
mod view;

use arguments::{Arguments, InvoiceVerb, Verb};
use clap::Parser;
use domain::problem::Problem;
use std::process::ExitCode;

/// How a command ended, as its exit code says it. Documented in `docs/operate.md`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: it did not work.
    Failed(Vec<Problem>),
    /// 3: there is no such thing.
    NotFound(Problem),
    /// 4: it worked, and what it found is not as it should be.
    Differs(String),
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
    let run_dir = &arguments.run_dir;
    match arguments.verb {
        Verb::Demo(options) => demo::run(run_dir, &options).await,
        Verb::Local(options) => local::run(run_dir, &options).await,
        Verb::Invoice {
            verb: InvoiceVerb::List { json, state },
        } => {
            let register = register::open(run_dir, arguments.connection_id.as_ref())?;
            register::list(&register, state.as_deref(), json).await
        }
        Verb::Explain { invoice, json } => {
            let register = register::open(run_dir, arguments.connection_id.as_ref())?;
            register::explain(&register, &invoice, json).await
        }
        Verb::Timeline { invoice } => {
            let register = register::open(run_dir, arguments.connection_id.as_ref())?;
            register::timeline(&register, &invoice).await
        }
        Verb::Lookups(options) => lookups::run(run_dir, arguments.connection_id.as_ref(), &options).await,
        Verb::Payments(options) => {
            let register = register::open(run_dir, arguments.connection_id.as_ref())?;
            payments::run(&register, &options).await
        }
        Verb::Suppliers { verb } => {
            let register = register::open(run_dir, arguments.connection_id.as_ref())?;
            suppliers::run(&register, &verb).await
        }
        Verb::Sandbox { verb } => sandbox_client::run(run_dir, &verb).await,
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
        Failure::Unreachable(problem) => {
            terminal::complain(&problem.to_string());
            ExitCode::from(6)
        }
    }
}
