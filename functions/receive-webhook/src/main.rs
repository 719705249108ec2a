//! Lambda function receive-webhook: Coupa's HTTPS request in, a hint into the queue, an answer out. All of it is in
//! [`flows::receive_webhook`]; here it meets AWS. No request makes the invocation fail: each gets an answer.

use aws::config::{INVOICES_QUEUE_URL, WEBHOOK_SECRET_PREFIX};
use aws::lambda::{Invocation, World, start};
use aws::secrets::SecretReader;
use aws::sqs::SqsQueue;
use domain::problem::Problem;
use flows::receive_webhook::{Deps, Memory, handle};
use serde_json::Value;
use serde_json::value::RawValue;
use std::process::ExitCode;

fn main() -> ExitCode {
    start(
        "receive-webhook",
        &[WEBHOOK_SECRET_PREFIX, INVOICES_QUEUE_URL],
        build,
    )
}

/// The text that came: the flow reads it once, and answers even to one that it cannot read.
type Event = Box<RawValue>;

fn build(world: World) -> Result<impl AsyncFn(Event, Invocation) -> Result<Value, Problem>, Vec<Problem>> {
    let World {
        config,
        clients,
        clock,
        chance,
    } = world;
    let text = |text: Result<&str, Problem>| text.map(str::to_owned).map_err(|problem| vec![problem]);
    let prefix = text(config.webhook_secret_prefix())?;
    let secrets = SecretReader::new(clients.secrets_manager(), prefix, clock.clone());
    let queue = SqsQueue::new(clients.sqs(), text(config.queue_url())?);
    let memory = Memory::default();
    Ok(async move |event: Event, invocation: Invocation| {
        let deps = Deps {
            secrets: &secrets,
            memory: &memory,
            queue: &queue,
            clock: &*clock,
            chance: &*chance,
            ends: invocation.deadline,
        };
        Ok(handle(deps, event.get()).await)
    })
}
