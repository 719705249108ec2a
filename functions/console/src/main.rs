//! Lambda function console: the page for people without a terminal. All of it is in [`pages`]; here it meets AWS.

use aws::config::{
    AUDIT_TABLE, CONSOLE_CONNECTIONS, CONSOLE_LOGIN, CONSOLE_TIME_ZONE, Config, INVOICES_QUEUE_URL,
    REGISTER_TABLE, invalid,
};
use aws::dynamo::DynamoRegister;
use aws::lambda::{Invocation, World, as_json, start};
use aws::sqs::SqsQueue;
use axum::body::Body;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use flows::ports::Books;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Context, LambdaEvent, Request, tower::Service};
use pages::{Console, Login, Person, PlantClock, Role, Seal};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    start(
        "console",
        &[
            REGISTER_TABLE,
            AUDIT_TABLE,
            INVOICES_QUEUE_URL,
            CONSOLE_LOGIN,
            CONSOLE_CONNECTIONS,
            CONSOLE_TIME_ZONE,
        ],
        build,
    )
}

fn build(
    world: World,
) -> Result<impl AsyncFn(LambdaRequest, Invocation) -> Result<Value, Problem>, Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let config = &world.config;
    let mut connections: BTreeMap<ConnectionId, Arc<dyn Books>> = BTreeMap::new();
    for id in named(config)? {
        let register = DynamoRegister::new(
            world.clients.dynamodb(),
            config.register_tables().map_err(one)?,
            id.clone(),
            Arc::clone(&world.clock),
            Arc::clone(&world.chance),
        );
        connections.insert(id, Arc::new(register));
    }
    let (login, seal) = login(config).map_err(one)?;
    let console = Arc::new(Console {
        connections,
        login,
        seal,
        hints: Arc::new(SqsQueue::new(
            world.clients.sqs(),
            config.queue_url().map_err(one)?.to_owned(),
        )),
        timing: config.timing(),
        zone: PlantClock::new(config.get(&CONSOLE_TIME_ZONE).map_err(one)?).map_err(one)?,
        clock: world.clock,
        chance: world.chance,
    });
    Ok(async move |event: LambdaRequest, _| {
        let console = Arc::clone(&console);
        let service = lambda_http::service_fn(move |request: Request| {
            let console = Arc::clone(&console);
            async move { Ok::<_, std::convert::Infallible>(console.answer(request.map(Body::new)).await) }
        });
        let answered = Adapter::from(service)
            .call(LambdaEvent::new(event, Context::default()))
            .await;
        match answered {
            Ok(response) => as_json(response),
            Err(never) => match never {},
        }
    })
}

/// The connections, all that is wrong with them at once.
fn named(config: &Config) -> Result<Vec<ConnectionId>, Vec<Problem>> {
    let text = config
        .get(&CONSOLE_CONNECTIONS)
        .map_err(|problem| vec![problem])?;
    let mut ids = Vec::new();
    let mut problems = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name.parse::<ConnectionId>() {
            Ok(id) => ids.push(id),
            Err(error) => problems.push(invalid(
                &CONSOLE_CONNECTIONS,
                "names of connections",
                &error.to_string(),
            )),
        }
    }
    if ids.is_empty() && problems.is_empty() {
        problems.push(invalid(&CONSOLE_CONNECTIONS, "at least one connection", text));
    }
    if problems.is_empty() {
        Ok(ids)
    } else {
        Err(problems)
    }
}

fn login(config: &Config) -> Result<(Login, Seal), Problem> {
    match config.get(&CONSOLE_LOGIN)? {
        // Whoever is on this machine may choose any person anyway, so the key need be no secret there.
        "local" if config.is_loopback() => {
            Ok((Login::Local(local_people()), Seal::new("a machine of one's own")))
        }
        "local" => Err(invalid(
            &CONSOLE_LOGIN,
            "AWS on this machine: a person is chosen nowhere else",
            "local",
        )),
        other => Err(invalid(&CONSOLE_LOGIN, "local", other)),
    }
}

/// Obviously fictional people of a machine of one's own.
fn local_people() -> Vec<Person> {
    let person = |name: &str, role: Role| Person {
        by: format!("local:{}@example.com", name.to_lowercase()),
        name: name.to_owned(),
        roles: BTreeSet::from([role]),
    };
    vec![
        person("Dana", Role::Clerk),
        person("Sam", Role::Approver),
        person("Casey", Role::Controller),
        person("Alex", Role::Auditor),
    ]
}
