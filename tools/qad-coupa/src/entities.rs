//! What a person says about an entity: from when on its books are open.

use crate::act::ReasonOption;
use crate::output::Output;
use crate::place::{Place, PlaceArguments, unfinished};
use crate::{Failure, records};
use aws::clock::SystemChance;
use clap::{Args, Subcommand};
use domain::ids::{ConnectionId, EntityCode};
use domain::instruction::Instruction;
use domain::lifecycle::InvoiceRecord;
use domain::problem::{PERIOD_CLOSED, Problem};
use domain::time::Date;
use flows::opening::{self, Openings};
use flows::ports::{Chance, Hint, HintReason, Queue, Subject};
use flows::store::load;
use serde_json::json;

#[derive(Debug, Subcommand)]
pub(crate) enum EntityVerb {
    /// Says from when on an entity's books are open: nothing is posted before that day, and what waits for it goes on.
    #[command(
        after_help = "Example: qad-coupa entity open-from 10USACO 2026-12-01 --reason \"November is closed\""
    )]
    OpenFrom(OpenFromOptions),
}

#[derive(Debug, Args)]
pub(crate) struct OpenFromOptions {
    /// QAD's code of the entity.
    entity: EntityCode,
    /// The first open day, as 2026-12-01.
    day: Date,
    #[command(flatten)]
    why: ReasonOption,
}

/// `entity`.
pub(crate) async fn run(place: &PlaceArguments, verb: EntityVerb, out: &Output) -> Result<(), Failure> {
    let EntityVerb::OpenFrom(options) = verb;
    let place = Place::open(place).await?;
    let connection = place.connection().await?;
    let register = place.register(&connection)?;
    let OpenFromOptions { entity, day, why } = options;
    let document = place.systems(&connection).await?.document;
    let mut known: Vec<EntityCode> = document
        .entity_rules()
        .into_iter()
        .map(|rule| rule.code)
        .collect();
    if known.is_empty() {
        known.push(document.match_policy().entity);
    }
    if !known.contains(&entity) {
        let codes: Vec<&str> = known.iter().map(EntityCode::as_str).collect();
        return Err(Failure::NotFound(
            Problem::new("ENTITY_NOT_CONFIGURED", "Name one of the connection's entities.")
                .field("entity")
                .expected(codes.join(", "))
                .actual(entity.as_str()),
        ));
    }
    let before = load::<Openings>(&register, opening::key())
        .await
        .map_err(unfinished)?
        .and_then(|loaded| loaded.document.of(&entity).map(|said| said.day));
    let is_only_one = known.len() == 1;
    let waiting: Vec<InvoiceRecord> = records::all(&register)
        .await?
        .into_iter()
        .filter(|record| record.state.codes().iter().any(|code| code == PERIOD_CLOSED))
        .filter(|record| record.entity.as_ref().map_or(is_only_one, |its| *its == entity))
        .collect();
    if !why.dry_run {
        let instruction = Instruction::new(&place.actor().await?, &why.reason).map_err(Failure::Refused)?;
        opening::say(&place.context(&register), &entity, day, instruction)
            .await
            .map_err(unfinished)?;
        wake(&place, &connection, &waiting).await?;
    }
    let said = before.map_or_else(String::new, |before| format!(" (it was {before})"));
    let count = waiting.len();
    out.value(
        || {
            json!({ "connection": connection, "entity": entity, "open_from": day, "before": before,
                    "queued": count, "dry_run": why.dry_run })
        },
        |out| {
            out.line(&if why.dry_run {
                format!(
                    "The books of {entity} would be open from {day}{said}; {count} invoices that wait for it would be \
                     queued. Nothing was done (--dry-run)."
                )
            } else {
                format!(
                    "The books of {entity} are open from {day}{said}: nothing is posted before. {count} invoices that \
                     waited for it are queued."
                )
            });
        },
    );
    Ok(())
}

/// Has what waits looked at. A hint that is lost is made up for when the record is due.
async fn wake(place: &Place, connection: &ConnectionId, waiting: &[InvoiceRecord]) -> Result<(), Failure> {
    let trace = format!("command-{}", SystemChance.token());
    let hints: Vec<Hint> = waiting
        .iter()
        .map(|record| Hint::V1 {
            connection: connection.clone(),
            subject: Subject::Invoice(record.id),
            reason: HintReason::Receipt,
            trace: trace.clone(),
        })
        .collect();
    if hints.is_empty() {
        return Ok(());
    }
    let queue = place.hints("invoices")?;
    queue
        .send(&hints)
        .await
        .map_err(|error| Failure::Unreachable(error.0))
}
