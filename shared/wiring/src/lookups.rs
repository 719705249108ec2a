//! Lookup values: one run for one connection, told in one line per lookup.

use crate::{Connection, Scheduled, Wiring};
use aws::lambda::Invocation;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use flows::sync_lookups::{self, LookupRun};

/// Problems of one kind that are logged one by one; the metric counts them all.
const PROBLEMS_LOGGED_MAX: usize = 20;

impl Wiring {
    /// Looks at every lookup of a connection once.
    pub async fn sync_lookups(&self, scheduled: &Scheduled, invocation: &Invocation) -> Result<(), Problem> {
        let started = self.clock().now();
        let connection = self.connection(&scheduled.connection).await?;
        let Some(settings) = &connection.lookups else {
            tracing::info!(connection = %connection.id, outcome = "off", "sync-lookups");
            return Ok(());
        };
        let runs = sync_lookups::run(&sync_lookups::Deps {
            context: self.context(&connection, invocation),
            coupa: &connection.coupa,
            qad: &connection.qad,
            lookups: &settings.syncs,
            plan_only: false,
        })
        .await
        .map_err(|error| error.problem())?;
        for run in &runs {
            tell(&connection.id, run, self.clock().now().millis_since(started));
        }
        if self.newer_credentials(&connection, &runs).await? {
            tracing::info!(connection = %connection.id, outcome = "again", "sync-lookups");
        }
        Ok(())
    }

    /// After a refused credential the document is read again, so that the next run has the new one.
    async fn newer_credentials(&self, connection: &Connection, runs: &[LookupRun]) -> Result<bool, Problem> {
        let refused = runs.iter().any(|run| {
            let problems = run.unanswered.iter().chain(&run.needs_a_person);
            problems
                .into_iter()
                .any(|problem| problem.code.ends_with("_CREDENTIAL_REFUSED"))
        });
        if refused {
            self.has_newer_document(connection).await
        } else {
            Ok(false)
        }
    }
}

/// The wide line of one lookup, and what is worth an alarm.
fn tell(connection: &ConnectionId, run: &LookupRun, duration_ms: i64) {
    let outcome = if run.unanswered.is_some() {
        "unanswered"
    } else if run.parked {
        "parked"
    } else if run.incomplete || run.open > 0 {
        "incomplete"
    } else {
        "complete"
    };
    let code = run
        .unanswered
        .iter()
        .chain(&run.needs_a_person)
        .next()
        .map_or("", |problem| problem.code.as_str());
    tracing::info!(%connection, lookup = %run.lookup, in_qad = run.in_qad, in_coupa = run.in_coupa, planned = run.planned,
        written = run.written, open = run.open, code, outcome, duration_ms, "sync-lookups");
    if let Some(problem) = &run.unanswered {
        tracing::error!(%connection, lookup = %run.lookup, code = %problem.code, %problem, metric = "lookup_failed",
            value = 1, "sync-lookups");
    }
    for problem in run.needs_a_person.iter().take(PROBLEMS_LOGGED_MAX) {
        tracing::warn!(%connection, lookup = %run.lookup, code = %problem.code, %problem, "sync-lookups");
    }
    if !run.needs_a_person.is_empty() {
        tracing::warn!(%connection, lookup = %run.lookup, metric = "lookup_parked", value = run.needs_a_person.len(),
            "lookup values wait for a person");
    }
    for problem in run.unreadable.iter().take(PROBLEMS_LOGGED_MAX) {
        tracing::error!(%connection, lookup = %run.lookup, code = %problem.code, %problem, "sync-lookups");
    }
    if !run.unreadable.is_empty() {
        tracing::error!(%connection, lookup = %run.lookup, metric = "record_unreadable", value = run.unreadable.len(),
            "rows or values that could not be read");
    }
    if run.lost_answers > 0 {
        tracing::warn!(%connection, lookup = %run.lookup, metric = "effect_unknown", value = run.lost_answers,
            "an answer was lost");
    }
}
