//! Suppliers: one run of `sync-suppliers`, and events about a supplier.

use super::credentials::is_refused;
use super::{Connection, Wiring};
use aws::lambda::Invocation;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use flows::pause::Stop;
use flows::sync_suppliers::Synced;
use flows::{supplier_event, sync_suppliers};
use serde::Deserialize;
use std::sync::Arc;

/// What the schedule sends, or a person who wants to know what a run would do.
#[derive(Debug, Clone, Deserialize)]
pub struct SupplierRun {
    /// The connection.
    pub connection: ConnectionId,
    /// Only says what would be done; writes nothing anywhere.
    #[serde(default)]
    pub plan: bool,
}

impl Wiring {
    /// One run over the suppliers of both sides, when the connection asks for it.
    #[tracing::instrument(skip_all, fields(connection = %run.connection))]
    pub async fn sync_suppliers(&self, run: &SupplierRun, invocation: &Invocation) -> Result<(), Problem> {
        let started = self.clock().now();
        let connection = &run.connection;
        if !self.connection(connection).await?.suppliers.enabled {
            tracing::info!(%connection, outcome = "off", reason = "suppliers.enabled is false",
                "sync-suppliers");
            return Ok(());
        }
        let work = async |connection: Arc<Connection>, _| {
            if !run.plan {
                let looked = self.watch_owner(&connection, invocation).await;
                looked.map_err(|error| error.problem())?;
            }
            let deps = sync_suppliers::Deps {
                connection: &connection.id,
                context: self.context(&connection, invocation),
                coupa: &connection.coupa,
                qad: &connection.qad,
                queue: &self.queue,
                policy: &connection.suppliers.policy,
                plan_only: run.plan,
                trace: &invocation.request_id,
            };
            sync_suppliers::run(&deps).await.map_err(|error| error.problem())
        };
        let synced = self
            .with_fresh_credentials(connection, is_refused, work)
            .await??;
        tell(connection, &synced, run.plan);
        super::tell_pause(
            connection,
            "sync-suppliers",
            synced.paused.as_ref().and_then(Stop::pause),
            self.clock().now(),
        );
        let outcome = match (&synced, &synced.paused) {
            _ if run.plan => "planned",
            (_, Some(stop)) => stop.word(),
            (synced, _) if synced.waits => "waits-for-a-person",
            (synced, _) if synced.incomplete => "incomplete",
            _ => "complete",
        };
        tracing::info!(%connection, trace = invocation.request_id, found = synced.read_qad,
            others = synced.read_coupa, linked = synced.linked, written = synced.written, open = synced.open,
            parked = synced.parked, queued = synced.woken, outcome,
            duration_ms = self.clock().now().millis_since(started), "sync-suppliers");
        Ok(())
    }

    /// An event about a supplier: the invoices that wait for it are queued.
    pub(crate) async fn supplier_event(
        &self,
        id: &ConnectionId,
        supplier: u64,
        trace: &str,
    ) -> Result<(), Problem> {
        let connection = self.connection(id).await?;
        let deps = supplier_event::Deps {
            connection: &connection.id,
            register: &connection.register,
            queue: &self.queue,
            trace,
        };
        let woken = supplier_event::run(&deps, supplier)
            .await
            .map_err(|error| error.problem())?;
        tracing::info!(connection = %connection.id, supplier, trace, queued = woken, outcome = "woken", "supplier-event");
        Ok(())
    }
}

/// What happened in a run, as log lines and metrics.
fn tell(connection: &ConnectionId, synced: &Synced, plan: bool) {
    if plan {
        for change in &synced.changes {
            tracing::info!(%connection, step = change, outcome = "planned", "sync-suppliers would do this");
        }
    }
    for problem in &synced.unreadable {
        tracing::error!(%connection, code = %problem.code, %problem, metric = "record_unreadable", value = 1,
            "sync-suppliers");
    }
    for problem in &synced.needs_a_person {
        if plan {
            tracing::info!(%connection, code = %problem.code, %problem, "would be parked for a person");
        } else {
            tracing::warn!(%connection, code = %problem.code, %problem, metric = "supplier_parked", value = 1,
                "parked for a person");
        }
    }
    if synced.unknown > 0 {
        tracing::warn!(%connection, metric = "effect_unknown", value = synced.unknown, "answers were lost");
    }
}
