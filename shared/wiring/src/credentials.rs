//! Credentials that change while we work: a refusal is answered with one look at the connection's document, and with one
//! more try when it has changed. A credential that is simply wrong is told and counted, and not tried in a loop.

use crate::{Connection, Wiring};
use domain::effect::Effect;
use domain::ids::ConnectionId;
use domain::lifecycle::{ParkReason, State};
use domain::problem::Problem;
use flows::match_invoice;
use flows::ports::HintReason;
use flows::store::FlowError;
use flows::write_payment;
use std::sync::Arc;

/// Which try of the same work this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// With the credentials as they are known.
    First,
    /// With those of a newer document.
    AfterRotation,
}

impl Attempt {
    /// The reason to work for: what the refusal has parked is only taken up again because somebody asks.
    pub(crate) fn reason(self, reason: HintReason) -> HintReason {
        match self {
            Self::First => reason,
            Self::AfterRotation => HintReason::Operator,
        }
    }
}

impl Wiring {
    /// Does `work` on a connection. When `refused` finds in its outcome that a system refused the connection (credentials, a
    /// right, an address), the connection's document is read again, and when it has changed the work is done once more with the new one.
    ///
    /// # Errors
    /// The connection cannot be opened: its document is missing, wrong, or cannot be read now.
    pub(crate) async fn with_fresh_credentials<T>(
        &self,
        id: &ConnectionId,
        refused: impl Fn(&T) -> bool,
        work: impl AsyncFn(Arc<Connection>, Attempt) -> T,
    ) -> Result<T, Problem> {
        let connection = self.connection(id).await?;
        let ended = work(Arc::clone(&connection), Attempt::First).await;
        if !refused(&ended) {
            return Ok(ended);
        }
        if self.has_newer_document(&connection).await? {
            tracing::info!(connection = %id, outcome = "credentials_changed", "the work is done once more");
            return Ok(work(self.connection(id).await?, Attempt::AfterRotation).await);
        }
        tracing::error!(connection = %id, metric = "connection_refused", value = 1,
            "a system refuses the connection as its secret has it");
        Ok(ended)
    }

    /// Reads the connection's document again, at most once a minute, and says whether it has changed.
    async fn has_newer_document(&self, connection: &Connection) -> Result<bool, Problem> {
        let document = self
            .secrets
            .reload(&connection.id)
            .await
            .map_err(|error| error.problem().clone())?;
        Ok(document.version != connection.version)
    }
}

/// Whether a flow without a record of its own failed because the connection is refused.
pub(crate) fn is_refused<T>(ended: &Result<T, Problem>) -> bool {
    ended.as_ref().is_err_and(Problem::is_of_the_connection)
}

fn is_open_after_refusal(effect: &Effect) -> bool {
    let problem = effect.problem.as_ref();
    !effect.is_finished() && problem.is_some_and(Problem::is_of_the_connection)
}

/// Whether an invoice stands where it stands because the connection is refused.
pub(crate) fn of_invoice(ended: &Result<match_invoice::Rest, FlowError>) -> bool {
    match ended {
        Ok(match_invoice::Rest::In { record, .. }) => {
            let effects = [&record.creation, &record.export, &record.note];
            let waits = match &record.state {
                State::Parked {
                    reason: ParkReason::Problem { problem },
                } => problem.is_of_the_connection(),
                _ => record.delay.as_ref().is_some_and(Problem::is_of_the_connection),
            };
            waits || effects.into_iter().flatten().any(is_open_after_refusal)
        }
        Ok(_) => false,
        Err(error) => error.problem().is_of_the_connection(),
    }
}

/// Whether a bill's payments stand where they stand because the connection is refused.
pub(crate) fn of_payment(ended: &Result<write_payment::Rest, FlowError>) -> bool {
    match ended {
        Ok(write_payment::Rest::In { bill, .. }) => {
            bill.delay.as_ref().is_some_and(Problem::is_of_the_connection)
                || bill.entry.as_ref().is_some_and(is_open_after_refusal)
        }
        Ok(_) => false,
        Err(error) => error.problem().is_of_the_connection(),
    }
}
