//! `lookups`: where the lookups stand, what would change, and allowing a plan that waits.

use crate::{Failure, register, terminal};
use aws::clients::Clients;
use aws::clock::{SystemChance, SystemClock};
use aws::dynamo::DynamoRegister;
use aws::secrets::SecretReader;
use aws::tokens::{DynamoTokenStore, TokenKeys};
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table};
use connectors::connection::{ConnectionDocument, World, clients};
use connectors::http::pace::Paces;
use connectors::http::transport::HttpTransport;
use domain::ids::{ConnectionId, fold};
use domain::lookups::{LookupPlanRecord, PlanState};
use domain::problem::Problem;
use domain::timing::Timing;
use flows::ports::{Clock, Collection, RecordGroup, Register};
use flows::store::{Context, Document, FlowError, parse};
use flows::sync_lookups::{self, LookupRun};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest a call to Coupa or QAD may take while a plan is made, in seconds.
const CALL_SECONDS_MAX: u64 = 60;
/// Longest the making of a plan may take, in milliseconds.
const PLAN_MILLIS_MAX: i64 = 600_000;

/// The arguments of `lookups`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example: qad-coupa lookups allow \"QAD Projects\" --reason \"12 projects of the new site\""
)]
pub(crate) struct LookupsArguments {
    /// Shows what would change now: reads both systems, writes nothing.
    #[arg(long)]
    plan: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    verb: Option<LookupsVerb>,
}

#[derive(Debug, Subcommand)]
enum LookupsVerb {
    /// Allows the plan that is parked, exactly that one; the next run carries it out.
    Allow {
        /// The lookup's name in Coupa (case and surrounding blanks are forgiven).
        lookup: String,
        /// Why; it is kept in the audit trail.
        #[arg(long)]
        reason: String,
        /// Who, as the audit trail shall name them.
        #[arg(long, default_value = "operator")]
        by: String,
        /// Only if this is the hash of the plan that is parked.
        #[arg(long, value_name = "SHA256")]
        plan_sha256: Option<String>,
    },
}

/// Runs one of the `lookups` verbs.
pub(crate) async fn run(
    run_dir: &Path,
    connection: Option<&ConnectionId>,
    arguments: &LookupsArguments,
) -> Result<(), Failure> {
    let register = register::open(run_dir, connection)?;
    match &arguments.verb {
        Some(LookupsVerb::Allow {
            lookup,
            reason,
            by,
            plan_sha256,
        }) => allow(&register, lookup, reason, by, plan_sha256.as_deref()).await,
        None if arguments.plan => {
            let runs = plan(run_dir, connection, &register).await?;
            show_plan(&runs, arguments.json)
        }
        None => show_states(&register, arguments.json).await,
    }
}

fn context<'a>(register: &'a DynamoRegister, timing: &'a Timing) -> Context<'a> {
    Context {
        register,
        clock: &SystemClock,
        chance: &SystemChance,
        timing,
        deadline: SystemClock.now().plus_millis(PLAN_MILLIS_MAX),
    }
}

fn unfinished(error: FlowError) -> Failure {
    match error {
        FlowError::Store(error) => Failure::Unreachable(error.0),
        other => Failure::from(other.problem()),
    }
}

async fn records(register: &DynamoRegister) -> Result<Vec<LookupPlanRecord>, Failure> {
    let stored = register
        .list(&RecordGroup::Collection(Collection::LookupPlan))
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    stored.iter().map(|one| parse(one).map_err(unfinished)).collect()
}

// ---------------------------------------------------------------------------------------------------------------
// Where they stand
// ---------------------------------------------------------------------------------------------------------------

async fn show_states(register: &DynamoRegister, as_json: bool) -> Result<(), Failure> {
    let records = records(register).await?;
    if as_json {
        let all: Vec<Value> = records.iter().map(state_json).collect();
        terminal::say(&Value::from(all).to_string());
        return Ok(());
    }
    if records.is_empty() {
        terminal::say("No lookup was filled yet. `qad-coupa lookups --plan` shows what would be done.");
        return Ok(());
    }
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["lookup", "state", "why"]);
    for record in &records {
        table.add_row([record.lookup.clone(), record.state_word().to_owned(), why(record)]);
    }
    terminal::say(&table.to_string());
    Ok(())
}

fn why(record: &LookupPlanRecord) -> String {
    match &record.state {
        PlanState::Settled => "Coupa shows what QAD lists.".to_owned(),
        PlanState::Applying => "A plan is being carried out.".to_owned(),
        PlanState::Parked { .. } if record.allowed_plan.is_some() => {
            "The plan is allowed; the next run carries it out.".to_owned()
        }
        PlanState::Parked {
            problem,
            plan_sha256,
            changes,
        } => {
            let mut lines = vec![problem.to_string()];
            lines.extend(changes.iter().map(|change| format!("- {change}")));
            if !plan_sha256.is_empty() {
                lines.push(format!(
                    "Allow it: qad-coupa lookups allow \"{}\" --reason …",
                    record.lookup
                ));
            }
            lines.join("\n")
        }
    }
}

fn state_json(record: &LookupPlanRecord) -> Value {
    let (problem, plan_sha256, changes) = match &record.state {
        PlanState::Parked {
            problem,
            plan_sha256,
            changes,
        } => (Some(problem), plan_sha256.as_str(), changes.as_slice()),
        PlanState::Settled | PlanState::Applying => (None, "", [].as_slice()),
    };
    json!({
        "lookup": record.lookup,
        "state": record.state_word(),
        "problem": problem,
        "plan_sha256": plan_sha256,
        "changes": changes,
        "allowed": record.allowed_plan.is_some(),
    })
}

// ---------------------------------------------------------------------------------------------------------------
// What would change
// ---------------------------------------------------------------------------------------------------------------

async fn plan(
    run_dir: &Path,
    connection: Option<&ConnectionId>,
    register: &DynamoRegister,
) -> Result<Vec<LookupRun>, Failure> {
    let run = register::running(run_dir)?;
    let id = register::chosen(&run, connection)?;
    let aws = Clients::new(register::settings(&run.environment));
    let secrets = Arc::new(SecretReader::new(
        aws.secrets_manager(),
        format!("{}/connection/", run.stack_name),
        Arc::new(SystemClock),
    ));
    let unread = |error: flows::ports::ReadError| Failure::Unreachable(error.problem().clone());
    let text = secrets.current(&id).await.map_err(unread)?.text;
    let document = ConnectionDocument::parse(text.expose_secret()).map_err(Failure::Failed)?;
    let Some(settings) = &document.lookups else {
        let fix = "Add a section [lookups] to the connection; docs/examples/connection.toml explains it.";
        return Err(Problem::new("LOOKUPS_OFF", fix)
            .field("lookups")
            .expected("a section")
            .actual("none")
            .into());
    };
    let tokens_table = run.tables.get("TokensTable").cloned().unwrap_or_default();
    let keys: Arc<dyn TokenKeys> = Arc::<SecretReader>::clone(&secrets);
    let (clock, chance) = (Arc::new(SystemClock), Arc::new(SystemChance));
    let tokens = DynamoTokenStore::new(aws.dynamodb(), tokens_table, keys, clock.clone(), chance.clone());
    let world = World {
        transport: Arc::new(HttpTransport::new()),
        tokens: Arc::new(tokens),
        clock,
        chance,
        paces: Arc::new(Paces::new(1)),
    };
    let (coupa, qad) = clients(&id, &document, &world, Duration::from_secs(CALL_SECONDS_MAX));
    let timing = Timing::default();
    sync_lookups::run(&sync_lookups::Deps {
        context: context(register, &timing),
        coupa: &coupa,
        qad: &qad,
        lookups: &settings.syncs,
        plan_only: true,
    })
    .await
    .map_err(|error| Failure::from(error.problem()))
}

fn show_plan(runs: &[LookupRun], as_json: bool) -> Result<(), Failure> {
    if as_json {
        terminal::say(&json!(runs).to_string());
    } else {
        for run in runs {
            terminal::say(&format!(
                "{}: {} in QAD, {} in Coupa, {} changes{}",
                run.lookup,
                run.in_qad,
                run.in_coupa,
                run.planned,
                if run.parked { ", to be allowed first" } else { "" }
            ));
            for change in &run.changes {
                terminal::say(&format!("  {change}"));
            }
            for problem in run
                .unanswered
                .iter()
                .chain(&run.needs_a_person)
                .chain(&run.unreadable)
            {
                terminal::say(&format!("  ! {problem}"));
            }
        }
    }
    let unanswered = runs.iter().filter(|run| run.unanswered.is_some()).count();
    if unanswered > 0 {
        return Err(Failure::Differs(format!(
            "{unanswered} lookups could not be compared"
        )));
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------------
// Allowing
// ---------------------------------------------------------------------------------------------------------------

async fn allow(
    register: &DynamoRegister,
    lookup: &str,
    reason: &str,
    by: &str,
    plan_sha256: Option<&str>,
) -> Result<(), Failure> {
    if reason.trim().is_empty() || by.trim().is_empty() {
        let fix = "Say who allows it and why; both are kept in the audit trail.";
        return Err(Problem::new("REASON_MISSING", fix).field("--reason").into());
    }
    let records = records(register).await?;
    let Some(record) = records.iter().find(|record| fold(&record.lookup) == fold(lookup)) else {
        let known: Vec<&str> = records.iter().map(|record| record.lookup.as_str()).collect();
        return Err(Failure::NotFound(
            Problem::new("LOOKUP_UNKNOWN", "Look at `qad-coupa lookups`.")
                .field(lookup)
                .expected(known.join(", "))
                .actual(lookup),
        ));
    };
    let parked = match &record.state {
        PlanState::Parked { plan_sha256, .. } => plan_sha256.as_str(),
        PlanState::Settled | PlanState::Applying => "",
    };
    let timing = Timing::default();
    let wanted = plan_sha256.unwrap_or(parked);
    sync_lookups::allow(&context(register, &timing), &record.lookup, wanted, by, reason)
        .await
        .map_err(unfinished)?;
    terminal::say(&format!(
        "Allowed: the plan {wanted} of {}; the next run carries it out.",
        record.lookup
    ));
    Ok(())
}
