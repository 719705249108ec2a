//! Whose both systems are: looked at, when it is time, by whatever works on a connection, and before its first record.

use crate::{Connection, Wiring};
use aws::lambda::Invocation;
use domain::ids::ConnectionId;
use domain::time::Timestamp;
use flows::owner::{self, Watched};
use flows::store::FlowError;
use std::collections::BTreeMap;

/// When each connection's mark is looked at again, for this version of its settings.
pub(crate) type LookedAt = BTreeMap<ConnectionId, (String, Timestamp)>;

impl Wiring {
    /// Looks whose the mark is when it is time. Afterwards the register says whether anything may be begun: of a connection that
    /// was never looked at, that nobody knows.
    ///
    /// # Errors
    /// The register gave no answer: then nothing is begun, for it would not say what it does not know.
    pub(crate) async fn watch_owner(
        &self,
        connection: &Connection,
        invocation: &Invocation,
    ) -> Result<(), FlowError> {
        let now = self.clock().now();
        let is_looked_at = |owners: &LookedAt| {
            let known = owners.get(&connection.id);
            known.is_some_and(|(version, again)| *version == connection.version && *again > now)
        };
        if is_looked_at(&self.owners()) {
            return Ok(());
        }
        let deps = owner::Deps {
            context: self.context(connection, invocation),
            connection: &connection.id,
            coupa: &connection.coupa,
            lookup: connection.owner_lookup.as_deref(),
        };
        let watched = owner::watch(&deps).await?;
        tell(&connection.id, &watched, self.clock().now());
        // Without a lookup nothing changes before the settings do.
        let again = match deps.lookup {
            Some(_) => watched.look_again,
            None => Timestamp(i64::MAX),
        };
        let entry = (connection.version.clone(), again);
        self.owners().insert(connection.id.clone(), entry);
        Ok(())
    }

    /// The same for a flow that only reads, and whose run does not depend on it.
    pub(crate) async fn renew_owner(&self, connection: &Connection, invocation: &Invocation) {
        if let Err(error) = self.watch_owner(connection, invocation).await {
            let problem = error.problem();
            tracing::warn!(connection = %connection.id, code = %problem.code, %problem, "the owner mark was not looked at");
        }
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, LookedAt> {
        self.owners
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn tell(connection: &ConnectionId, watched: &Watched, now: Timestamp) {
    if let Some(problem) = watched.ownership.stop(now) {
        tracing::error!(%connection, code = %problem.code, %problem, metric = "owner_mark_stops", value = 1,
            outcome = "stopped", "nothing is begun for this connection");
    }
    if let Some(problem) = &watched.trouble {
        tracing::warn!(%connection, code = %problem.code, %problem, "the owner mark in Coupa");
    }
}
