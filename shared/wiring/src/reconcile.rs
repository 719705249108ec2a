//! One call of the daily run that compares both sides.

use super::credentials::is_refused;
use super::{Connection, Wiring};
use aws::lambda::Invocation;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use flows::reconcile::{self, Books, Outcome, Told};
use serde::Deserialize;
use std::sync::Arc;

/// New differences that are logged one by one; the metric counts them all, and the register keeps them.
const DIFFERENCES_LOGGED_MAX: usize = 20;

/// What the schedule sends, or a person who does not want to wait for tomorrow.
#[derive(Debug, Clone, Deserialize)]
pub struct Reconcile {
    /// The connection.
    pub connection: ConnectionId,
    /// Begins anew although today's run is complete.
    #[serde(default)]
    pub anew: bool,
}

impl Connection {
    /// The books of each of its entities.
    fn books(&self) -> Vec<Books<'_>> {
        let own = [(&self.settings.policy.entity, &self.qad)];
        let entities = self
            .entities
            .iter()
            .map(|entity| (&entity.rule.code, &entity.qad));
        let mut books: Vec<_> = entities.collect();
        if books.is_empty() {
            books.extend(own);
        }
        books.into_iter().map(Books::of).collect()
    }
}

impl Wiring {
    /// Goes on with today's run, or begins it, as far as the time allows.
    #[tracing::instrument(skip_all, fields(connection = %asked.connection))]
    pub async fn reconcile(&self, asked: &Reconcile, invocation: &Invocation) -> Result<(), Problem> {
        let id = &asked.connection;
        let started = self.clock().now();
        let work = async |connection: Arc<Connection>, _| {
            let books = connection.books();
            let deps = reconcile::Deps {
                context: self.context(&connection, invocation),
                index: &connection.register,
                coupa: &connection.coupa,
                books: &books,
                settings: &connection.settings,
                payments: &connection.payments.policy,
                anew: asked.anew,
                tell: &|told| tell(&connection.id, told),
            };
            reconcile::run(&deps).await.map_err(|error| error.problem())
        };
        let done = self.with_fresh_credentials(id, is_refused, work).await??;
        let outcome = match done.outcome {
            Outcome::Complete => "complete",
            Outcome::Incomplete => "incomplete",
            Outcome::NotDue => "not_due",
            Outcome::Overtaken => "overtaken",
        };
        let duration_ms = self.clock().now().millis_since(started);
        tracing::info!(connection = %id, found = done.looked_at, outcome, duration_ms, "reconcile");
        Ok(())
    }
}

/// A duplicate at once; of a complete run a number a day and connection, so that none at all is noticed too.
fn tell(connection: &ConnectionId, told: Told<'_>) {
    let report = match told {
        Told::Duplicate(invoice) => {
            tracing::error!(%connection, %invoice, metric = "duplicate_found", value = 1, "duplicate in QAD");
            return;
        }
        Told::Complete(report) => report,
    };
    for new in report.news().take(DIFFERENCES_LOGGED_MAX) {
        tracing::warn!(%connection, invoice = %new.invoice, code = new.kind.word(), problem = %new.what,
            "a difference between Coupa, QAD and the register that nothing explains");
    }
    tracing::info!(%connection, metric = "reconcile_unexplained", value = report.new, found = report.looked_at,
        count = report.unexplained_count(), "reconcile");
}
