//! What the templates say, as plain typed data: functions with their event sources, queues, tables, secrets, schedules.
//!
//! Everything a template can say is in one of three lists: used here, known and without effect on one machine
//! (permissions, encryption, alarms, logging), or unknown, which is an error that names it.

use super::cloudformation::{Outputs, Surroundings, Template, TemplateError, scalar_text};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Lambda's default for `Timeout`.
const FUNCTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);
/// Lambda's default for `MemorySize`, in MB.
const FUNCTION_MEMORY_DEFAULT_MB: u64 = 128;
/// Lambda's default for retries of an asynchronous call that failed.
const ASYNC_RETRIES_DEFAULT: u64 = 2;
/// Lambda's default for `BatchSize` of an SQS event source.
const BATCH_SIZE_DEFAULT: u64 = 10;
/// Most messages in one batch of a standard queue.
const BATCH_SIZE_MAX: u64 = 10_000;

/// Resource types that mean nothing on one machine: permissions, keys, logs, alarms.
const WITHOUT_LOCAL_EFFECT: [&str; 13] = [
    "AWS::ApplicationInsights::Application",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::KMS::Alias",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::Logs::MetricFilter",
    "AWS::Scheduler::ScheduleGroup",
    "AWS::SecretsManager::ResourcePolicy",
];
/// The same, continued: who may send to what.
const POLICIES_WITHOUT_LOCAL_EFFECT: [&str; 5] = [
    "AWS::Lambda::Permission",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
];

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name in the template, for example `SweepFunction`.
    pub logical_id: String,
    /// Its name in AWS, for example `qad-coupa-sweep`.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The file in the folder of binaries.
    pub binary: String,
    /// When it is ended.
    pub timeout: Duration,
    /// Memory, in MB. Told to the function, not enforced.
    pub memory_mb: u64,
    /// Its environment, exactly.
    pub environment: BTreeMap<String, String>,
    /// Most instances at once, when the template reserves a number.
    pub reserved_concurrency: Option<u64>,
    /// How often an asynchronous call that failed is tried again.
    pub async_retries: u64,
    /// ARN of the queue that is told about asynchronous calls that failed for good.
    pub async_failure_queue_arn: Option<String>,
    /// The queues it is fed from.
    pub queues: Vec<QueueSource>,
    /// The HTTP routes that lead to it.
    pub routes: Vec<Route>,
}

/// A queue that feeds a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSource {
    /// ARN of the queue.
    pub queue_arn: String,
    /// Whether messages are taken at all.
    pub enabled: bool,
    /// Most messages at once.
    pub batch_size: u64,
    /// How long to wait for a full batch.
    pub window: Duration,
    /// Whether the function answers which messages failed.
    pub partial_answers: bool,
    /// Most batches in work at once.
    pub concurrency: Option<u64>,
}

/// An HTTP route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `POST`, …, or `ANY`.
    pub method: String,
    /// The path with its parameters in braces.
    pub path: String,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name in the template.
    pub logical_id: String,
    /// Its name in AWS.
    pub name: String,
    /// Its URL on this machine.
    pub url: String,
    /// Its ARN.
    pub arn: String,
    /// Its attributes as `CreateQueue` takes them.
    pub attributes: BTreeMap<String, String>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name in the template.
    pub logical_id: String,
    /// Its name in AWS.
    pub name: String,
    /// The body of `CreateTable`.
    pub create: Value,
    /// The attribute that holds the time of expiry, when there is one.
    pub time_to_live_attribute: Option<String>,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Its name in the template, for example `Sweep`.
    pub logical_id: String,
    /// Its name in AWS, for example `sweep`.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// `rate(…)` or `cron(…)`.
    pub expression: String,
    /// ARN of the function it calls.
    pub target_arn: String,
    /// What the function gets.
    pub input: String,
    /// Whether it is on.
    pub enabled: bool,
    /// How often the scheduler tries to hand over a call.
    pub retries: u64,
    /// How old a call may get before the scheduler gives up handing it over.
    pub event_age_max: Option<Duration>,
    /// ARN of the queue for calls that could not be handed over.
    pub dead_letter_queue_arn: Option<String>,
}

/// Everything that exists once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stack {
    /// The functions.
    pub functions: Vec<Function>,
    /// The queues.
    pub queues: Vec<Queue>,
    /// The tables.
    pub tables: Vec<Table>,
    /// Names of the secrets.
    pub secrets: Vec<String>,
    /// The schedules.
    pub schedules: Vec<Schedule>,
    /// What it tells others.
    pub outputs: Outputs,
}

impl Stack {
    /// Reads everything the template says.
    ///
    /// # Errors
    /// A resource type, a property or an intrinsic function that matters and is not known; a value that cannot be used.
    pub fn of(template: &Template) -> Result<Self, TemplateError> {
        let mut stack = Self::default();
        for (logical_id, kind, resource) in template.resources()? {
            let block = Block::of_resource(template, logical_id, resource);
            match kind {
                "AWS::Serverless::Function" => stack.functions.push(function(&block, resource)?),
                "AWS::SQS::Queue" => stack.queues.push(queue(&block)?),
                "AWS::DynamoDB::Table" => stack.tables.push(table(&block)?),
                "AWS::SecretsManager::Secret" => stack.secrets.push(template.name_of(logical_id)?),
                "AWS::Scheduler::Schedule" => stack.schedules.push(schedule(&block)?),
                "AWS::Serverless::HttpApi" => gateway(&block)?,
                known if WITHOUT_LOCAL_EFFECT.contains(&known) => {}
                known if POLICIES_WITHOUT_LOCAL_EFFECT.contains(&known) => {}
                other => {
                    let at = template.place(&format!("Resources/{logical_id}/Type"));
                    return Err(TemplateError::unsupported(&at, &format!("resource type {other}")));
                }
            }
        }
        stack.outputs = template.outputs()?;
        Ok(stack)
    }
}

/// A group of properties of one resource, read by name.
struct Block<'a> {
    template: &'a Template,
    logical_id: String,
    path: String,
    properties: Map<String, Value>,
}

impl<'a> Block<'a> {
    fn of_resource(template: &'a Template, logical_id: &str, resource: &Value) -> Self {
        let properties = resource
            .get("Properties")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let path = format!("Resources/{logical_id}/Properties");
        Self {
            template,
            logical_id: logical_id.to_owned(),
            path,
            properties,
        }
    }

    fn inner(&self, name: &str) -> Result<Option<Self>, TemplateError> {
        Ok(match self.value(name)? {
            None => None,
            Some(Value::Object(properties)) => Some(self.child(name, properties)),
            Some(other) => return Err(TemplateError::value(&self.at(name), "a mapping", other)),
        })
    }

    fn child(&self, name: &str, properties: Map<String, Value>) -> Self {
        Self {
            template: self.template,
            logical_id: self.logical_id.clone(),
            path: format!("{}/{name}", self.path),
            properties,
        }
    }

    /// Refuses what is in neither list.
    fn only(&self, used: &[&str], without_local_effect: &[&str]) -> Result<(), TemplateError> {
        let known = |name: &str| used.contains(&name) || without_local_effect.contains(&name);
        match self.properties.keys().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(TemplateError::unsupported(
                &self.at(name),
                &format!("property {name}"),
            )),
        }
    }

    fn at(&self, name: &str) -> String {
        self.template.place(&format!("{}/{name}", self.path))
    }

    fn value(&self, name: &str) -> Result<Option<Value>, TemplateError> {
        match self.properties.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.template.evaluate(value, &format!("{}/{name}", self.path)),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, TemplateError> {
        let Some(value) = self.value(name)? else {
            return Ok(None);
        };
        scalar_text(&value)
            .map(Some)
            .ok_or_else(|| TemplateError::value(&self.at(name), "a text", value))
    }

    fn required(&self, name: &str) -> Result<String, TemplateError> {
        self.text(name)?
            .ok_or_else(|| TemplateError::value(&self.at(name), "a value", "none"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, TemplateError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|_| TemplateError::value(&self.at(name), "a whole number, not negative", text))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, TemplateError> {
        match self.text(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(TemplateError::value(&self.at(name), "true or false", other)),
        }
    }

    fn exactly(&self, name: &str, expected: &str) -> Result<(), TemplateError> {
        match self.text(name)? {
            Some(text) if text != expected => Err(TemplateError::unsupported(
                &self.at(name),
                &format!("{text}, only {expected}"),
            )),
            _ => Ok(()),
        }
    }
}

fn function(block: &Block<'_>, resource: &Value) -> Result<Function, TemplateError> {
    let block = &with_globals(block)?;
    block.only(
        &[
            "CodeUri",
            "Environment",
            "EventInvokeConfig",
            "Events",
            "FunctionName",
            "MemorySize",
            "ReservedConcurrentExecutions",
            "Runtime",
            "Timeout",
        ],
        &[
            "Architectures",
            "CodeSigningConfigArn",
            "Description",
            "EphemeralStorage",
            "Handler",
            "KmsKeyArn",
            "LoggingConfig",
            "PermissionsBoundary",
            "Policies",
            "PropagateTags",
            "Role",
            "RuntimeManagementConfig",
            "Tags",
            "Tracing",
            "VpcConfig",
        ],
    )?;
    let runtime = block.required("Runtime")?;
    if !runtime.starts_with("provided.") {
        return Err(TemplateError::unsupported(&block.at("Runtime"), &runtime));
    }
    let name = block.template.name_of(&block.logical_id)?;
    let (async_retries, async_failure_queue_arn) = async_calls(block)?;
    let mut function = Function {
        logical_id: block.logical_id.clone(),
        arn: arn(
            block.template.surroundings(),
            "lambda",
            &format!("function:{name}"),
        ),
        binary: binary(block, resource)?,
        timeout: block
            .number("Timeout")?
            .map_or(FUNCTION_TIMEOUT_DEFAULT, Duration::from_secs),
        memory_mb: block.number("MemorySize")?.unwrap_or(FUNCTION_MEMORY_DEFAULT_MB),
        environment: environment(block)?,
        reserved_concurrency: block.number("ReservedConcurrentExecutions")?,
        async_retries,
        async_failure_queue_arn,
        queues: Vec::new(),
        routes: Vec::new(),
        name,
    };
    let Some(events) = block.inner("Events")? else {
        return Ok(function);
    };
    for (name, event) in &events.properties {
        let event = events.child(name, event.as_object().cloned().unwrap_or_default());
        let properties = event
            .inner("Properties")?
            .unwrap_or_else(|| event.child("Properties", Map::new()));
        match event.required("Type")?.as_str() {
            "SQS" => function.queues.push(queue_source(&properties)?),
            "HttpApi" => function.routes.push(route(&properties)?),
            other => {
                return Err(TemplateError::unsupported(
                    &event.at("Type"),
                    &format!("event source {other}"),
                ));
            }
        }
    }
    Ok(function)
}

/// SAM's rule: a mapping of `Globals` is merged under the function's own, a list comes before it, a scalar gives way.
fn with_globals<'a>(block: &Block<'a>) -> Result<Block<'a>, TemplateError> {
    let globals = block.template.section("Globals").cloned().unwrap_or_default();
    if let Some(other) = globals
        .keys()
        .find(|name| !matches!(name.as_str(), "Function" | "HttpApi"))
    {
        let at = block.template.place(&format!("Globals/{other}"));
        return Err(TemplateError::unsupported(
            &at,
            "globals other than of functions and the HTTP API",
        ));
    }
    let mut properties = globals
        .get("Function")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (name, own) in &block.properties {
        let merged = match (properties.remove(name), own) {
            (Some(global), own) => merge(global, own.clone()),
            (None, own) => own.clone(),
        };
        properties.insert(name.clone(), merged);
    }
    Ok(Block {
        template: block.template,
        logical_id: block.logical_id.clone(),
        path: block.path.clone(),
        properties,
    })
}

fn merge(global: Value, own: Value) -> Value {
    match (global, own) {
        (Value::Object(mut global), Value::Object(own)) => {
            for (name, value) in own {
                let value = match global.remove(&name) {
                    Some(below) => merge(below, value),
                    None => value,
                };
                global.insert(name, value);
            }
            Value::Object(global)
        }
        (Value::Array(mut global), Value::Array(own)) => {
            global.extend(own);
            Value::Array(global)
        }
        (_, own) => own,
    }
}

/// The binary is what the build calls it, or else the folder the code comes from.
fn binary(block: &Block<'_>, resource: &Value) -> Result<String, TemplateError> {
    if let Some(name) = resource
        .pointer("/Metadata/BuildProperties/Binary")
        .and_then(Value::as_str)
    {
        return Ok(name.to_owned());
    }
    let folder = block.required("CodeUri")?;
    let name = folder
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    match name {
        "" | "." | ".." => Err(TemplateError::value(
            &block.at("CodeUri"),
            "a folder named like the binary",
            folder,
        )),
        name => Ok(name.trim_end_matches(".zip").to_owned()),
    }
}

fn environment(block: &Block<'_>) -> Result<BTreeMap<String, String>, TemplateError> {
    let Some(environment) = block.inner("Environment")? else {
        return Ok(BTreeMap::new());
    };
    environment.only(&["Variables"], &[])?;
    let Some(variables) = environment.inner("Variables")? else {
        return Ok(BTreeMap::new());
    };
    variables
        .properties
        .keys()
        .map(|name| Ok((name.clone(), variables.required(name)?)))
        .collect()
}

fn async_calls(block: &Block<'_>) -> Result<(u64, Option<String>), TemplateError> {
    let Some(config) = block.inner("EventInvokeConfig")? else {
        return Ok((ASYNC_RETRIES_DEFAULT, None));
    };
    config.only(
        &["DestinationConfig", "MaximumRetryAttempts"],
        &["MaximumEventAgeInSeconds"],
    )?;
    let retries = config
        .number("MaximumRetryAttempts")?
        .unwrap_or(ASYNC_RETRIES_DEFAULT);
    let Some(destinations) = config.inner("DestinationConfig")? else {
        return Ok((retries, None));
    };
    destinations.only(&["OnFailure"], &[])?;
    let Some(failure) = destinations.inner("OnFailure")? else {
        return Ok((retries, None));
    };
    failure.only(&["Destination", "Type"], &[])?;
    failure.exactly("Type", "SQS")?;
    Ok((retries, Some(failure.required("Destination")?)))
}

fn queue_source(block: &Block<'_>) -> Result<QueueSource, TemplateError> {
    block.only(
        &[
            "BatchSize",
            "Enabled",
            "FunctionResponseTypes",
            "MaximumBatchingWindowInSeconds",
            "Queue",
            "ScalingConfig",
        ],
        &[],
    )?;
    let batch_size = block.number("BatchSize")?.unwrap_or(BATCH_SIZE_DEFAULT);
    let window = block.number("MaximumBatchingWindowInSeconds")?.unwrap_or(0);
    if batch_size == 0 || batch_size > BATCH_SIZE_MAX || (batch_size > BATCH_SIZE_DEFAULT && window == 0) {
        let expected = "1 to 10, or up to 10000 with a window of at least 1 second";
        return Err(TemplateError::value(&block.at("BatchSize"), expected, batch_size));
    }
    let answers = block
        .value("FunctionResponseTypes")?
        .unwrap_or(Value::Array(Vec::new()));
    let answers = answers.as_array().cloned().unwrap_or_default();
    if let Some(other) = answers
        .iter()
        .find(|answer| answer.as_str() != Some("ReportBatchItemFailures"))
    {
        return Err(TemplateError::unsupported(
            &block.at("FunctionResponseTypes"),
            &other.to_string(),
        ));
    }
    let concurrency = match block.inner("ScalingConfig")? {
        None => None,
        Some(scaling) => {
            scaling.only(&["MaximumConcurrency"], &[])?;
            scaling.number("MaximumConcurrency")?
        }
    };
    Ok(QueueSource {
        queue_arn: block.required("Queue")?,
        enabled: block.flag("Enabled")?.unwrap_or(true),
        batch_size,
        window: Duration::from_secs(window),
        partial_answers: !answers.is_empty(),
        concurrency,
    })
}

fn route(block: &Block<'_>) -> Result<Route, TemplateError> {
    block.only(
        &["ApiId", "Method", "PayloadFormatVersion", "Path"],
        &["RouteSettings"],
    )?;
    block.exactly("PayloadFormatVersion", "2.0")?;
    let path = block.required("Path")?;
    if !path.starts_with('/') {
        return Err(TemplateError::value(
            &block.at("Path"),
            "a path that starts with a slash",
            path,
        ));
    }
    Ok(Route {
        method: block.required("Method")?.to_ascii_uppercase(),
        path,
    })
}

/// Throttling, access logs and the like have no effect here; whoever may call, and under which stage, would matter.
fn gateway(block: &Block<'_>) -> Result<(), TemplateError> {
    block.only(
        &["StageName"],
        &[
            "AccessLogSettings",
            "CorsConfiguration",
            "DefaultRouteSettings",
            "Description",
            "DisableExecuteApiEndpoint",
            "FailOnWarnings",
            "Name",
            "RouteSettings",
            "Tags",
        ],
    )?;
    block.exactly("StageName", "$default")
}

fn queue(block: &Block<'_>) -> Result<Queue, TemplateError> {
    let settings = [
        "DelaySeconds",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "ReceiveMessageWaitTimeSeconds",
        "RedriveAllowPolicy",
        "RedrivePolicy",
        "VisibilityTimeout",
    ];
    let used: Vec<&str> = settings.iter().copied().chain(["QueueName"]).collect();
    block.only(
        &used,
        &[
            "KmsDataKeyReusePeriodSeconds",
            "KmsMasterKeyId",
            "SqsManagedSseEnabled",
            "Tags",
        ],
    )?;
    let mut attributes = BTreeMap::new();
    for name in settings {
        let Some(value) = block.value(name)? else { continue };
        attributes.insert(
            name.to_owned(),
            scalar_text(&value).unwrap_or_else(|| value.to_string()),
        );
    }
    let name = block.template.name_of(&block.logical_id)?;
    let around = block.template.surroundings();
    Ok(Queue {
        logical_id: block.logical_id.clone(),
        url: format!("{}/{}/{name}", around.queue_endpoint, around.account_id),
        arn: arn(around, "sqs", &name),
        name,
        attributes,
    })
}

fn table(block: &Block<'_>) -> Result<Table, TemplateError> {
    let copied = [
        "AttributeDefinitions",
        "BillingMode",
        "GlobalSecondaryIndexes",
        "KeySchema",
        "LocalSecondaryIndexes",
        "ProvisionedThroughput",
        "StreamSpecification",
    ];
    let used: Vec<&str> = copied
        .iter()
        .copied()
        .chain(["TableName", "TimeToLiveSpecification"])
        .collect();
    block.only(
        &used,
        &[
            "ContributorInsightsSpecification",
            "DeletionProtectionEnabled",
            "PointInTimeRecoverySpecification",
            "ResourcePolicy",
            "SSESpecification",
            "TableClass",
            "Tags",
        ],
    )?;
    let name = block.template.name_of(&block.logical_id)?;
    let mut create = Map::from_iter([("TableName".to_owned(), Value::String(name.clone()))]);
    for property in copied {
        if let Some(value) = block.value(property)? {
            create.insert(property.to_owned(), value);
        }
    }
    let time_to_live_attribute = match block.inner("TimeToLiveSpecification")? {
        Some(ttl) if ttl.flag("Enabled")?.unwrap_or(false) => Some(ttl.required("AttributeName")?),
        _ => None,
    };
    Ok(Table {
        logical_id: block.logical_id.clone(),
        name,
        create: Value::Object(create),
        time_to_live_attribute,
    })
}

fn schedule(block: &Block<'_>) -> Result<Schedule, TemplateError> {
    block.only(
        &[
            "FlexibleTimeWindow",
            "Name",
            "ScheduleExpression",
            "State",
            "Target",
        ],
        &[
            "Description",
            "GroupName",
            "KmsKeyArn",
            "ScheduleExpressionTimezone",
        ],
    )?;
    let enabled = match block.text("State")?.as_deref() {
        None | Some("ENABLED") => true,
        Some("DISABLED") => false,
        Some(other) => {
            return Err(TemplateError::value(
                &block.at("State"),
                "ENABLED or DISABLED",
                other,
            ));
        }
    };
    if let Some(window) = block.inner("FlexibleTimeWindow")? {
        window.exactly("Mode", "OFF")?;
    }
    let missing = || TemplateError::value(&block.at("Target"), "a target", "none");
    let target = block.inner("Target")?.ok_or_else(missing)?;
    target.only(&["Arn", "DeadLetterConfig", "Input", "RetryPolicy"], &["RoleArn"])?;
    let (retries, event_age_max) = match target.inner("RetryPolicy")? {
        None => (0, None),
        Some(policy) => {
            policy.only(&["MaximumEventAgeInSeconds", "MaximumRetryAttempts"], &[])?;
            let age = policy
                .number("MaximumEventAgeInSeconds")?
                .map(Duration::from_secs);
            (policy.number("MaximumRetryAttempts")?.unwrap_or(0), age)
        }
    };
    let dead_letter_queue_arn = match target.inner("DeadLetterConfig")? {
        None => None,
        Some(config) => Some(config.required("Arn")?),
    };
    let name = block.template.name_of(&block.logical_id)?;
    Ok(Schedule {
        logical_id: block.logical_id.clone(),
        arn: arn(
            block.template.surroundings(),
            "scheduler",
            &format!("schedule/{name}"),
        ),
        name,
        expression: block.required("ScheduleExpression")?,
        target_arn: target.required("Arn")?,
        input: target.text("Input")?.unwrap_or_else(|| "{}".to_owned()),
        enabled,
        retries,
        event_age_max,
        dead_letter_queue_arn,
    })
}

fn arn(around: &Surroundings, service: &str, rest: &str) -> String {
    format!("arn:aws:{service}:{}:{}:{rest}", around.region, around.account_id)
}
