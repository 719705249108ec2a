//! SQS -> write-payment: drives the payments of each bill of a batch into Coupa. Answers with the records that failed.

use aws::lambda::{Invocation, start};
use aws::sqs::{BatchTimes, serve};
use aws_lambda_events::event::sqs::SqsEvent;
use std::process::ExitCode;
use wiring::{NEEDED, Wiring};

fn main() -> ExitCode {
    start("write-payment", NEEDED, |world| {
        let wiring = Wiring::new(world)?;
        Ok(async move |event: SqsEvent, invocation: Invocation| {
            let times = BatchTimes::new(invocation.deadline, wiring.timing().stop_margin_millis);
            serve(event, times, wiring.clock(), async |hint| {
                wiring.handle(hint, &invocation).await
            })
            .await
        })
    })
}
