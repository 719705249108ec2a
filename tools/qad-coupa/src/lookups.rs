//! `lookups`: where the lookups stand, what would change, and allowing a plan that waits.

use crate::output::{Column, ListOptions, Listing, Output, Row};
use crate::place::{Place, PlaceArguments};
use crate::{Failure, terminal};
use aws::dynamo::DynamoRegister;
use clap::{Args, Subcommand};
use domain::ids::fold;
use domain::instruction::Instruction;
use domain::plans::{PlanRecord, PlanState};
use domain::problem::Problem;
use domain::words;
use flows::operator;
use flows::ports::{Books, Collection, RecordGroup};
use flows::store::Document;
use flows::sync_lookups::{self, LookupRun};
use serde_json::{Value, json};

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
    #[command(flatten)]
    list: ListOptions,
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
        /// Only if this is the hash of the plan that is parked.
        #[arg(long, value_name = "SHA256")]
        plan_sha256: Option<String>,
    },
}

/// Runs one of the `lookups` verbs.
pub(crate) async fn run(
    place: &PlaceArguments,
    arguments: &LookupsArguments,
    out: &Output,
) -> Result<(), Failure> {
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    match &arguments.verb {
        Some(LookupsVerb::Allow {
            lookup,
            reason,
            plan_sha256,
        }) => allow(&place, &register, lookup, reason, plan_sha256.as_deref()).await,
        None if arguments.plan => {
            let systems = place.systems(&connection).await?;
            let Some(settings) = &systems.document.lookups else {
                let fix =
                    "Add a section [lookups] to the connection; docs/examples/connection.toml explains it.";
                return Err(Problem::new("LOOKUPS_OFF", fix)
                    .field("lookups")
                    .expected("a section")
                    .actual("none")
                    .into());
            };
            let deps = sync_lookups::Deps {
                context: place.context(&register),
                coupa: &systems.coupa,
                qad: &systems.qad,
                lookups: &settings.syncs,
                plan_only: true,
            };
            let runs = sync_lookups::run(&deps)
                .await
                .map_err(|error| Failure::from(error.problem()))?;
            show_plan(&runs, out)
        }
        None => show_states(&register, &arguments.list, out).await,
    }
}

/// What the register knows of each lookup.
pub(crate) async fn records(register: &dyn Books) -> Result<Vec<PlanRecord>, Failure> {
    let stored = register
        .list(&RecordGroup::Collection(Collection::LookupPlan))
        .await
        .map_err(|error| Failure::Unreachable(error.0))?;
    Ok(crate::records::readable(&stored))
}

// ---------------------------------------------------------------------------------------------------------------
// Where they stand
// ---------------------------------------------------------------------------------------------------------------

async fn show_states(register: &DynamoRegister, options: &ListOptions, out: &Output) -> Result<(), Failure> {
    let records = records(register).await?;
    let row = |record: &PlanRecord| {
        let cells = vec![
            record.name().into(),
            record.state_word().into(),
            why(record).into(),
        ];
        Row::new(state_json(record), cells)
    };
    let columns = [
        Column::word("Lookup"),
        Column::word("State"),
        Column::sentence("Why"),
    ];
    let none = records
        .is_empty()
        .then(|| "No lookup was filled yet. `qad-coupa lookups --plan` shows what would be done.".to_owned());
    out.list(
        Listing::new(&columns, records.iter().map(row).collect()).below(none),
        options,
    )
}

fn why(record: &PlanRecord) -> String {
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
                    record.name()
                ));
            }
            lines.join("\n")
        }
    }
}

fn state_json(record: &PlanRecord) -> Value {
    let (problem, plan_sha256, changes) = match &record.state {
        PlanState::Parked {
            problem,
            plan_sha256,
            changes,
        } => (Some(problem), plan_sha256.as_str(), changes.as_slice()),
        PlanState::Settled | PlanState::Applying => (None, "", [].as_slice()),
    };
    json!({
        "lookup": record.name(),
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

fn show_plan(runs: &[LookupRun], out: &Output) -> Result<(), Failure> {
    out.value(
        || json!(runs),
        |out| runs.iter().for_each(|run| tell_plan(out, run)),
    );
    let unanswered = runs.iter().filter(|run| run.unanswered.is_some()).count();
    if unanswered > 0 {
        return Err(Failure::Differs(format!(
            "{unanswered} lookups could not be compared"
        )));
    }
    Ok(())
}

fn tell_plan(out: &Output, run: &LookupRun) {
    out.line(&format!(
        "{}: {} in QAD, {} in Coupa, {}{}",
        run.lookup,
        run.in_qad,
        run.in_coupa,
        words::count(usize::try_from(run.planned).unwrap_or(usize::MAX), "change"),
        if run.parked { ", to be allowed first" } else { "" }
    ));
    for change in &run.changes {
        out.line(&format!("  {change}"));
    }
    let problems = run.unanswered.iter().chain(&run.needs_a_person);
    for problem in problems.chain(&run.unreadable) {
        out.line(&format!("  ! {problem}"));
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Allowing
// ---------------------------------------------------------------------------------------------------------------

async fn allow(
    place: &Place,
    register: &DynamoRegister,
    lookup: &str,
    reason: &str,
    plan_sha256: Option<&str>,
) -> Result<(), Failure> {
    let why = Instruction::new(&place.actor().await?, reason).map_err(Failure::Refused)?;
    let records = records(register).await?;
    let Some(record) = records.iter().find(|record| fold(record.name()) == fold(lookup)) else {
        let known: Vec<&str> = records.iter().map(|record| record.name()).collect();
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
    if parked.is_empty() && plan_sha256.is_none() {
        let fix = "Nothing to do: `qad-coupa lookups` shows where each stands.";
        let problem = Problem::new("LOOKUP_PLAN_NOT_PARKED", fix).field(record.name());
        return Err(Failure::Refused(
            problem.expected("a plan that waits").actual(record.state_word()),
        ));
    }
    let wanted = plan_sha256.unwrap_or(parked);
    operator::allow_plan(&place.context(register), Some(record.name()), wanted, &why).await?;
    terminal::say(&format!(
        "Allowed: the plan {wanted} of {}; the next run carries it out.",
        record.name()
    ));
    Ok(())
}
