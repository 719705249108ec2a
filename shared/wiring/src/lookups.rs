//! Lookup values: one run for one connection, told in one line per lookup.

use crate::{Connection, Scheduled, Wiring};
use aws::lambda::Invocation;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use flows::sync_lookups::{self, LookupRun};
use std::sync::Arc;

/// Problems of one kind that are logged one by one; the metric counts them all.
const PROBLEMS_LOGGED_MAX: usize = 20;

impl Wiring {
    /// Looks at every lookup of a connection once.
    #[tracing::instrument(skip_all, fields(connection = %scheduled.connection))]
    pub async fn sync_lookups(&self, scheduled: &Scheduled, invocation: &Invocation) -> Result<(), Problem> {
        let started = self.clock().now();
        let id = &scheduled.connection;
        let work = async |connection: Arc<Connection>, _| {
            let Some(settings) = &connection.lookups else {
                return Ok(None);
            };
            self.watch_owner(&connection, invocation)
                .await
                .map_err(|error| error.problem())?;
            let deps = sync_lookups::Deps {
                context: self.context(&connection, invocation),
                coupa: &connection.coupa,
                qad: &connection.qad,
                lookups: &settings.syncs,
                plan_only: false,
            };
            sync_lookups::run(&deps)
                .await
                .map(Some)
                .map_err(|error| error.problem())
        };
        let Some(runs) = self.with_fresh_credentials(id, is_refused, work).await?? else {
            tracing::info!(connection = %id, outcome = "off", reason = "the connection has no section lookups",
                "sync-lookups");
            return Ok(());
        };
        let pause = runs.iter().find_map(|run| run.paused.as_ref()?.pause());
        crate::tell_pause(id, "sync-lookups", pause, self.clock().now());
        for run in &runs {
            tell(id, run, self.clock().now().millis_since(started));
        }
        Ok(())
    }
}

/// Whether a lookup stands where it stands because of our credentials.
fn is_refused(ended: &Result<Option<Vec<LookupRun>>, Problem>) -> bool {
    match ended {
        Ok(runs) => runs.iter().flatten().any(|run| {
            let mut problems = run.unanswered.iter().chain(&run.needs_a_person);
            problems.any(Problem::is_credential_refused)
        }),
        Err(problem) => problem.is_credential_refused(),
    }
}

/// The wide line of one lookup, and what is worth an alarm.
fn tell(connection: &ConnectionId, run: &LookupRun, duration_ms: i64) {
    let outcome = if run.unanswered.is_some() {
        "unanswered"
    } else if let Some(stop) = &run.paused {
        stop.word()
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
