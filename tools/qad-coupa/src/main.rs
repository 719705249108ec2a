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
//! | [`entities`] | from when on an entity's books are open |
//! | [`dlq`] | the dead-letter queues |
//! | [`audit`] | the audit trail as evidence |
//! | [`connections`] | connections as documents |
//! | [`restore`] | records that are older than their audit trail |
//! | [`codes`] | what a code means and what mends it |
//! | [`certify`] | Coupa's published scenarios for ERP adapters, with a report |
//! | [`reconcile`] | both sides against each other |
//! | [`doctor`] | everything a connection depends on, asked once |
//! | [`backfill`] | taking in what was approved before this product was there |
//! | [`status`] | the health of a connection in figures |
//! | [`owner`] | which installation works with both systems |
//! | [`payments`] | what QAD paid of each bill, and what Coupa shows of it |
//! | [`suppliers`] | how the suppliers of both systems stand to each other |
//! | [`view`] | what people and programs are shown |
//! | [`lookups`] | where the lookups stand, what would change, allowing a plan |
//! | [`lookup_stories`] | the demo's stories about lookup values |
//! | [`output`] | how a result is shown: tables as wide as the terminal, CSV, JSON |
//! | [`nearest`] | the right name beside a mistyped one |
//! | [`local`] | the local run against any Coupa and QAD |
//! | [`demo`] | the local run against the simulators, with a seeded day |
//! | [`sandbox_pay`] | paying invoices in a demo that keeps running |
//! | [`sandbox_client`] | posting receipts, sending events and causing faults in a demo that keeps running |

mod act;
mod arguments;
mod audit;
mod backfill;
mod certify;
mod codes;
mod connection_file;
mod connections;
#[cfg(test)]
mod costs;
mod demo;
mod dlq;
mod doctor;
mod entities;
mod flow;
mod invoices;
mod local;
mod lookup_stories;
mod lookups;
#[cfg(test)]
mod manual;
mod master_data;
mod nearest;
mod output;
mod owner;
mod payments;
mod place;
mod plan;
mod reconcile;
mod records;
mod reindex;
mod restore;
mod sandbox_client;
mod sandbox_pay;
mod status;
mod suppliers;
mod terminal;
mod view;

use arguments::{Arguments, Verb};
use clap::{CommandFactory, Parser};
use domain::problem::Problem;
use domain::words;
use output::Output;
use serde_json::{Value, json};
use std::process::ExitCode;

/// How a command ended, as its exit code says it. Documented in `docs/commands.md`.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 1: it did not work.
    Failed(Vec<Problem>),
    /// 2: what was typed cannot be meant; clap says the same of what it can see by itself.
    Usage(Problem),
    /// 3: there is no such thing.
    NotFound(Problem),
    /// 4: it worked, and what it found is not as it should be.
    Differs(String),
    /// 4: it worked with what can be read; this cannot, and is in nothing that was shown or done.
    Incomplete(Vec<Problem>),
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

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Differs(_) | Self::Incomplete(_) => 4,
            Self::Refused(_) => 5,
            Self::Unreachable(_) => 6,
        }
    }

    /// One line each: code, field, expected, actual, fix.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Failed(problems) => problems.iter().map(Problem::to_string).collect(),
            Self::Differs(what) => vec![what.clone()],
            Self::Incomplete(left_out) => {
                let count = words::count(left_out.len(), "record");
                let told = format!("RECORDS_LEFT_OUT: what cannot be read is in nothing above ({count}):");
                std::iter::once(told)
                    .chain(left_out.iter().map(Problem::to_string))
                    .collect()
            }
            Self::Usage(problem)
            | Self::NotFound(problem)
            | Self::Refused(problem)
            | Self::Unreachable(problem) => vec![problem.to_string()],
        }
    }

    /// The same for programs.
    fn json(&self) -> Value {
        let problems = match self {
            Self::Failed(problems) | Self::Incomplete(problems) => json!(problems),
            Self::Differs(_) => json!([]),
            Self::Usage(problem)
            | Self::NotFound(problem)
            | Self::Refused(problem)
            | Self::Unreachable(problem) => json!([problem]),
        };
        json!({ "error": { "exit_code": self.exit_code(), "message": self.lines().join("\n"), "problems": problems } })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.output.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal::complain(&format!("the runtime cannot be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ended = whole(runtime.block_on(run(arguments)), records::all_left_out());
    let ended = written(ended, terminal::lost());
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if json {
                terminal::complain(&failure.json().to_string());
            } else {
                for line in failure.lines() {
                    terminal::complain(&line);
                }
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What was shown or done without the records that cannot be read is not whole; why it failed otherwise is told before that.
fn whole(ended: Result<(), Failure>, left_out: Vec<Problem>) -> Result<(), Failure> {
    if left_out.is_empty() {
        return ended;
    }
    let incomplete = Failure::Incomplete(left_out);
    match ended {
        Ok(()) => Err(incomplete),
        Err(failure) => {
            for line in incomplete.lines() {
                terminal::complain(&line);
            }
            Err(failure)
        }
    }
}

/// What was done well and told to nobody has failed: who exports evidence must know that it is not there.
fn written(ended: Result<(), Failure>, lost: Option<&str>) -> Result<(), Failure> {
    let Some(reason) = lost else { return ended };
    let problem = Problem::new(
        "OUTPUT_NOT_WRITTEN",
        "Make room, or write to another place, and repeat it: what was written so far is not whole.",
    )
    .field("standard output")
    .actual(reason);
    match ended {
        Err(Failure::Failed(problems)) => Err(Failure::Failed([problems, vec![problem]].concat())),
        Err(failure) => {
            terminal::complain(&problem.to_string());
            Err(failure)
        }
        Ok(()) => Err(problem.into()),
    }
}

/// What the program is called.
const NAME: &str = "qad-coupa";

/// Writes a page of the manual for every verb.
fn man(folder: &std::path::Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Arguments::command(), folder).map_err(|error| {
        Failure::from(
            Problem::new("FILE_NOT_WRITTEN", "Name a folder that exists.")
                .field(folder.display().to_string())
                .actual(error.to_string()),
        )
    })
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { place, output, verb } = arguments;
    let out = &Output::from(output);
    match verb {
        Verb::Demo(options) => demo::run(place::only_local(&place)?, &options, out).await,
        Verb::Local(options) => local::run(place::only_local(&place)?, &options).await,
        Verb::Codes(options) => codes::run(&options, out),
        Verb::Completions { shell } => {
            let mut command = Arguments::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, NAME, &mut script);
            terminal::say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Verb::Man { folder } => man(&folder),
        Verb::Certify(options) => certify::run(&place, &options, out).await,
        Verb::Status(options) => status::run(&place, &options, out).await,
        Verb::Invoice { verb } => invoices::run(&place, verb, out).await,
        Verb::Explain(key) => invoices::explain(&place, &key.key, out).await,
        Verb::Timeline(key) => invoices::timeline(&place, &key.key, out).await,
        Verb::Holds(options) => invoices::holds(&place, options, out).await,
        Verb::Parked { filter } => invoices::parked(&place, filter, out).await,
        Verb::Recheck(options) => act::recheck(&place, options, out).await,
        Verb::Release(options) => act::release(&place, options, out).await,
        Verb::Skip(options) => act::skip(&place, options, out).await,
        Verb::Adopt(options) => act::adopt(&place, options, out).await,
        Verb::Replay(options) => act::replay(&place, options, out).await,
        Verb::Plan(options) => plan::run(&place, &options, out).await,
        Verb::Dlq { verb } => dlq::run(&place, verb, out).await,
        Verb::Entity { verb } => entities::run(&place, verb, out).await,
        Verb::Run(options) => flow::run(&place, &options).await,
        Verb::Pause(options) => flow::switch(&place, &options, true, out).await,
        Verb::Resume(options) => flow::switch(&place, &options, false, out).await,
        Verb::Owner { verb } => owner::run(&place, verb, out).await,
        Verb::Restore(options) => restore::run(&place, &options, out).await,
        Verb::Reindex => reindex::run(&place, out).await,
        Verb::Reconcile(options) => reconcile::run(&place, &options, out).await,
        Verb::Backfill(options) => backfill::run(&place, options, out).await,
        Verb::Doctor(options) => doctor::run(&place, &options, out).await,
        Verb::Audit { verb } => audit::run(&place, verb, out).await,
        Verb::Connection { verb } => connections::run(&place, verb, out).await,
        Verb::Lookups(options) => lookups::run(&place, &options, out).await,
        Verb::Payments(options) => payments::run(&place, &options, out).await,
        Verb::Suppliers { verb } => suppliers::run(&place, &verb, out).await,
        Verb::Sandbox { verb } => sandbox_client::run(place::only_local(&place)?, &verb).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_was_not_written_fails_what_had_worked() {
        let full = Some("No space left on device");
        let ended = written(Ok(()), full).unwrap_err();
        assert_eq!(ended.exit_code(), 1);
        assert!(ended.lines()[0].starts_with("OUTPUT_NOT_WRITTEN"), "{ended:?}");
        let worse = Err(Failure::Differs("DOCTOR_FOUND".to_owned()));
        assert_eq!(written(worse, full).unwrap_err().exit_code(), 4);
        assert!(written(Ok(()), None).is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_named_at_the_end_and_the_result_is_not_whole() {
        let unread =
            || vec![Problem::new("REGISTER_RECORD_UNREADABLE", "Look.").field("Invoice(InvoiceId(7))")];
        let ended = whole(Ok(()), unread()).unwrap_err();
        assert_eq!(ended.exit_code(), 4);
        assert!(ended.lines().concat().contains("InvoiceId(7)"), "{ended:?}");
        assert_eq!(
            ended.json()["error"]["problems"][0]["code"],
            "REGISTER_RECORD_UNREADABLE"
        );
        let refused = Err(Failure::Refused(Problem::new("NOT_CONFIRMED", "")));
        assert_eq!(whole(refused, unread()).unwrap_err().exit_code(), 5);
        assert!(whole(Ok(()), Vec::new()).is_ok());
    }

    #[test]
    fn programs_read_an_error_as_json_with_its_code_and_its_exit() {
        let told =
            Failure::NotFound(Problem::new("CONNECTION_UNKNOWN", "Look again.").actual("demmo")).json();
        assert_eq!(told["error"]["exit_code"], 3);
        assert_eq!(told["error"]["problems"][0]["code"], "CONNECTION_UNKNOWN");
        assert!(
            told["error"]["message"].as_str().unwrap().contains("demmo"),
            "{told}"
        );
    }
}
