//! Lambda function console: the page for people without a terminal. All of it is in [`pages`]; here it meets AWS.

mod door;
mod mail;

use aws::config::{
    AUDIT_TABLE, CONSOLE_CLIENT_ID, CONSOLE_CONNECTIONS, CONSOLE_ISSUER, CONSOLE_LOGIN, CONSOLE_PERSON_CLAIM,
    CONSOLE_ROLE_CLAIM, CONSOLE_ROLES, CONSOLE_SECRET, CONSOLE_TIME_ZONE, Config, INVOICES_QUEUE_URL,
    REGISTER_TABLE, Variable, invalid,
};
use aws::dynamo::DynamoRegister;
use aws::lambda::{Invocation, World, as_json, start};
use aws::sqs::SqsQueue;
use axum::body::Body;
use connectors::http::transport::HttpTransport;
use domain::ids::ConnectionId;
use domain::problem::Problem;
use door::{Door, Way};
use flows::ports::Books;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Context, LambdaEvent, Request, tower::Service};
use mail::{Called, Office, read};
use oidc::{Roles, Settings};
use pages::{Console, Login, Person, PlantClock, Role, Seal};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

/// What calls the function, as it came.
type Event = Box<RawValue>;

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

fn build(world: World) -> Result<impl AsyncFn(Event, Invocation) -> Result<Value, Problem>, Vec<Problem>> {
    let one = |problem: Problem| vec![problem];
    let config = &world.config;
    let ids = named(config)?;
    let mut connections: BTreeMap<ConnectionId, Arc<dyn Books>> = BTreeMap::new();
    for id in &ids {
        let register = DynamoRegister::new(
            world.clients.dynamodb(),
            config.register_tables().map_err(one)?,
            id.clone(),
            Arc::clone(&world.clock),
            Arc::clone(&world.chance),
        );
        connections.insert(id.clone(), Arc::new(register));
    }
    let hints = Arc::new(SqsQueue::new(
        world.clients.sqs(),
        config.queue_url().map_err(one)?.to_owned(),
    ));
    let zone = PlantClock::new(config.get(&CONSOLE_TIME_ZONE).map_err(one)?).map_err(one)?;
    let timing = config.timing();
    let way = login(config)?;
    let (clock, chance) = (Arc::clone(&world.clock), Arc::clone(&world.chance));
    let office = Office {
        connections: connections.clone(),
        clock: Arc::clone(&clock),
        chance: Arc::clone(&chance),
        timing,
        zone: zone.clone(),
        ses: world.clients.ses(),
        transport: Arc::new(HttpTransport::new()),
    };
    let make = move |login: Login, seal: Seal| Console {
        connections: connections.clone(),
        login,
        seal,
        hints: Arc::<SqsQueue>::clone(&hints),
        timing,
        zone: zone.clone(),
        clock: Arc::clone(&clock),
        chance: Arc::clone(&chance),
        kept: pages::Kept::default(),
    };
    let door = Door::new(way, world, ids, make);
    Ok(async move |event: Event, invocation: Invocation| {
        let called: Called = read(event.get())?;
        if let Some(order) = called.mail {
            return as_json(office.run(&order, invocation.deadline).await?);
        }
        let event: LambdaRequest = read(event.get())?;
        let console = door.open().await;
        let service = lambda_http::service_fn(move |request: Request| {
            let console = console.clone();
            async move {
                let answered = match console {
                    Ok(console) => console.answer(request.map(Body::new)).await,
                    Err(problem) => pages::closed(&problem),
                };
                Ok::<_, std::convert::Infallible>(answered)
            }
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

/// How people sign in; all that is wrong with it at once.
fn login(config: &Config) -> Result<Way, Vec<Problem>> {
    let of = config.get(&CONSOLE_LOGIN).map_err(|problem| vec![problem])?;
    match of {
        "local" if config.is_loopback() => Ok(Way::Local(local_people())),
        "local" => Err(vec![invalid(
            &CONSOLE_LOGIN,
            "AWS on this machine: a person is chosen nowhere else",
            "local",
        )]),
        "oidc" => {
            let mut problems = Vec::new();
            let mut text = |variable: &Variable| match config.get(variable) {
                Ok(text) => text.to_owned(),
                Err(problem) => {
                    problems.push(problem);
                    String::new()
                }
            };
            let (issuer, client_id) = (text(&CONSOLE_ISSUER), text(&CONSOLE_CLIENT_ID));
            let (secret, person_claim) = (text(&CONSOLE_SECRET), text(&CONSOLE_PERSON_CLAIM));
            let claim = text(&CONSOLE_ROLE_CLAIM);
            let map = config.get(&CONSOLE_ROLES).unwrap_or_default();
            match Roles::new(&claim, map) {
                Ok(roles) if problems.is_empty() => Ok(Way::Provider {
                    settings: Settings {
                        issuer,
                        client_id,
                        person_claim,
                        roles,
                    },
                    secret,
                }),
                Ok(_) => Err(problems),
                Err(wrong) => {
                    let expected =
                        "role=word, separated by semicolons; roles are clerk, approver, controller, auditor";
                    problems.push(invalid(&CONSOLE_ROLES, expected, &wrong));
                    Err(problems)
                }
            }
        }
        other => Err(vec![invalid(&CONSOLE_LOGIN, "oidc or local", other)]),
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
