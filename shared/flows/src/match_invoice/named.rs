//! The document in QAD that a person has named as an invoice's, where nobody could look it up: the page holds no credential of
//! either system. It is looked up here as on the command line, and taken or not.

use super::{Deps, Next, delay};
use crate::operator::{self, AdoptDeps, Adoption, OperatorError};
use crate::pause;
use crate::ports::{CommitError, ReadError};
use crate::store::{Change, FlowError, Loaded, impossible, save};
use domain::lifecycle::{Event, InvoiceRecord};
use domain::problem::Problem;

/// Looks up what was named. What is not proven is told and not asked again; without an answer the request stands, and the
/// invoice is not decided before there is one.
pub(super) async fn run(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>) -> Result<Next, FlowError> {
    let record = &loaded.document;
    let Some(request) = record.adoption.clone() else {
        return Ok(Next::DecideAgain);
    };
    if !deps.context.has_time_for_a_call() {
        return Err(FlowError::OutOfTime);
    }
    // A pause is no reason to wait: nothing is created by it. Where another installation may be at work, nothing is begun.
    let stop = pause::stop(&deps.context, pause::Flow::Invoices).await?;
    if let Some(stop @ pause::Stop::NotOwner(_)) = stop {
        return delay(deps, loaded, None, stop.problem()).await;
    }
    // The others' first look does not wait for what is looked for in QAD here.
    deps.reads.first_look.leave();
    let adoption = Adoption {
        voucher: request.voucher,
        accepted_total: request.accepted_total,
        instruction: request.instruction,
    };
    let with = AdoptDeps {
        context: deps.context,
        home: deps.home,
        coupa: deps.coupa,
        qad: deps.qad,
        settings: deps.settings,
        entities: deps.entities,
    };
    match operator::adopt(&with, record.id, adoption, false).await {
        Ok(_) => Ok(Next::DecideAgain),
        Err(OperatorError::Flow(FlowError::Contended)) => {
            deps.context.pause(1).await;
            Ok(Next::DecideAgain)
        }
        Err(OperatorError::Flow(error)) => Err(error),
        Err(OperatorError::Read(ReadError::Unavailable { retry_after, problem })) => {
            delay(deps, loaded, retry_after, problem).await
        }
        Err(OperatorError::Read(ReadError::Refused(problem)))
            if problem.waits_for_the_connection(record.delay.as_ref(), record.setbacks) =>
        {
            delay(deps, loaded, None, problem).await
        }
        Err(OperatorError::Read(ReadError::Refused(problem) | ReadError::Unreadable(problem)))
        | Err(OperatorError::Refused(problem) | OperatorError::NotFound(problem)) => {
            refuse(deps, loaded, problem).await
        }
    }
}

/// Tells why the document is not taken, and forgets it.
async fn refuse(deps: &Deps<'_>, loaded: Loaded<InvoiceRecord>, problem: Problem) -> Result<Next, FlowError> {
    let Some(request) = &loaded.document.adoption else {
        return Ok(Next::DecideAgain);
    };
    let event = Event::AdoptionRefused {
        voucher: request.voucher.clone(),
        problem,
    };
    let now = deps.context.clock.now();
    let change = Change {
        document: loaded.document.after(&event, now).map_err(impossible)?,
        events: vec![event],
        writes: vec![],
    };
    match save(&deps.context, loaded.revision, change).await {
        Ok(_) => Ok(Next::DecideAgain),
        Err(CommitError::Conflict) => {
            deps.context.pause(1).await;
            Ok(Next::DecideAgain)
        }
        Err(CommitError::Store(error)) => Err(FlowError::Store(error)),
    }
}
