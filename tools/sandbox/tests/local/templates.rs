//! Templates, the project's own and a small one, as the local run reads them.

use crate::support::{fixture, infra};
use sandbox::local::cloudformation::{Surroundings, Template, TemplateError};
use sandbox::local::template::Stack;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

fn around(stack_name: &str) -> Surroundings {
    Surroundings {
        region: "us-east-1".to_owned(),
        account_id: "000000000000".to_owned(),
        stack_name: stack_name.to_owned(),
        queue_endpoint: "http://127.0.0.1:1".to_owned(),
        gateway_endpoint: "http://127.0.0.1:2".to_owned(),
    }
}

fn parameters(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    list.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn read(
    path: &Path,
    given: &[(&str, &str)],
    imports: BTreeMap<String, String>,
) -> Result<Stack, TemplateError> {
    read_text(&std::fs::read_to_string(path).unwrap(), given, imports)
}

fn read_text(
    text: &str,
    given: &[(&str, &str)],
    imports: BTreeMap<String, String>,
) -> Result<Stack, TemplateError> {
    let template = Template::read("stack.yaml", text, &parameters(given), around("small"), imports)?;
    Stack::of(&template)
}

#[test]
fn the_page_has_a_secret_only_where_people_sign_in_at_a_provider() {
    let text = std::fs::read_to_string(infra("stack.yaml")).unwrap();
    for (login, secrets, is_there) in [("off", 0, false), ("local", 0, true), ("oidc", 1, true)] {
        let stack = read_text(&text, &[("ConsoleLogin", login)], BTreeMap::new()).unwrap();
        assert_eq!(stack.secrets.len(), secrets, "{login}");
        let mut functions = stack.functions.iter();
        let page = functions.find(|function| function.binary == "console");
        assert_eq!(page.is_some(), is_there, "{login}");
        let secret = page.and_then(|page| page.environment.get("CONSOLE_SECRET"));
        assert_eq!(
            secret.is_some_and(|name| !name.is_empty()),
            secrets == 1,
            "{login}: {secret:?}"
        );
    }
}

#[test]
fn the_projects_templates_are_understood() {
    let text = std::fs::read_to_string(infra("stack.yaml")).unwrap();
    let template = Template::read(
        "stack.yaml",
        &text,
        &BTreeMap::new(),
        around("qad-coupa"),
        BTreeMap::new(),
    )
    .unwrap();
    let stack = Stack::of(&template).unwrap();
    let of = |name: &str| {
        stack
            .functions
            .iter()
            .find(|function| function.logical_id == name)
            .unwrap()
    };
    let binaries = [
        ("ReceiveWebhookFunction", "receive-webhook"),
        ("MatchInvoiceFunction", "match-invoice"),
        ("PollCoupaFunction", "poll-coupa"),
        ("PollReceiptsFunction", "poll-receipts"),
        ("SyncLookupsFunction", "sync-lookups"),
        ("ReconcileFunction", "reconcile"),
        ("SweepFunction", "sweep"),
    ];
    for (function, binary) in binaries {
        assert_eq!(of(function).binary, binary);
    }
    let paths: Vec<&str> = of("ReceiveWebhookFunction")
        .routes
        .iter()
        .map(|route| route.path.as_str())
        .collect();
    assert!(paths.contains(&"/webhooks/coupa/{connection}"), "{paths:?}");
    let source = &of("MatchInvoiceFunction").queues[0];
    assert!(source.partial_answers && source.enabled);
    for table in ["RegisterTable", "AuditTable", "TokensTable"] {
        assert!(stack.tables.iter().any(|one| one.logical_id == table), "{table}");
    }
    let queue = |name: &str| {
        stack
            .queues
            .iter()
            .find(|queue| queue.logical_id == name)
            .unwrap()
    };
    let invoices = queue("InvoicesQueue");
    assert_eq!(source.queue_arn, invoices.arn);
    assert!(invoices.attributes["RedrivePolicy"].contains(&queue("InvoicesDeadLetterQueue").arn));
    queue("SchedulesDeadLetterQueue");

    let text = std::fs::read_to_string(infra("connection.yaml")).unwrap();
    let given = parameters(&[("StackName", "qad-coupa"), ("ConnectionId", "plant-1")]);
    let around = around("qad-coupa-plant-1");
    let template = Template::read(
        "connection.yaml",
        &text,
        &given,
        around,
        stack.outputs.exports.clone(),
    )
    .unwrap();
    let connection = Stack::of(&template).unwrap();
    assert_eq!(
        connection.secrets,
        ["qad-coupa/connection/plant-1", "qad-coupa/webhook/plant-1"]
    );
    let sweep = connection
        .schedules
        .iter()
        .find(|schedule| schedule.logical_id == "Sweep")
        .unwrap();
    assert_eq!(sweep.target_arn, of("SweepFunction").arn);
    assert_eq!(sweep.input, r#"{"connection":"plant-1"}"#);
    assert_eq!(sweep.expression, "rate(1 minute)");
    assert!(sweep.dead_letter_queue_arn.is_some());
    assert!(
        !sweep.enabled,
        "schedules are off until somebody switches them on"
    );
}

#[test]
fn a_small_template_is_evaluated() {
    let stack = read(
        &fixture("stack.yaml"),
        &[("ReceiveCountMax", "7")],
        BTreeMap::new(),
    )
    .unwrap();
    assert_eq!(stack.functions.len(), 2);
    let of = |name: &str| {
        stack
            .functions
            .iter()
            .find(|function| function.logical_id == name)
            .unwrap()
    };
    let (work, web) = (of("WorkFunction"), of("WebFunction"));
    assert_eq!(
        (work.name.as_str(), web.name.as_str()),
        ("small-work", "small-WebFunction")
    );
    assert_eq!(
        (work.binary.as_str(), web.binary.as_str()),
        ("echo_function", "echo_function")
    );
    assert_eq!(
        (work.timeout, web.timeout),
        (Duration::from_secs(4), Duration::from_secs(5))
    );
    assert_eq!((work.async_retries, web.async_retries), (0, 2));
    assert_eq!(
        work.environment,
        parameters(&[
            ("MODE", "whispering"),
            ("QUEUE_URL", "http://127.0.0.1:1/000000000000/small-WorkQueue"),
            ("SECRET", "small/us-east-1"),
            ("SHARED", "from-globals"),
            ("TABLE", "small-RegisterTable"),
        ])
    );
    assert_eq!(web.routes[0].method, "POST");
    let queue = stack
        .queues
        .iter()
        .find(|queue| queue.logical_id == "WorkQueue")
        .unwrap();
    let policy: serde_json::Value = serde_json::from_str(&queue.attributes["RedrivePolicy"]).unwrap();
    assert_eq!(policy["maxReceiveCount"], 7);
    assert_eq!(
        policy["deadLetterTargetArn"],
        "arn:aws:sqs:us-east-1:000000000000:small-WorkDeadLetterQueue"
    );
    assert!(
        stack
            .queues
            .iter()
            .any(|queue| queue.name == "small-failed-calls")
    );
    assert_eq!(stack.outputs.exports["small-WorkFunctionArn"], work.arn);

    let loud = read(&fixture("stack.yaml"), &[("Mode", "loud")], BTreeMap::new()).unwrap();
    assert_eq!(loud.functions.len(), 3);
    assert!(loud.functions.iter().any(|function| {
        function
            .environment
            .get("ABSENT")
            .is_some_and(|it| it == "present")
    }));
}

#[test]
fn what_is_not_understood_is_named() {
    let with = |resources: &str| {
        read_text(
            &format!("Parameters: {{P: {{Type: Number, MaxValue: 5, Default: 1}}}}\n{resources}"),
            &[],
            BTreeMap::new(),
        )
        .unwrap_err()
        .to_string()
    };
    let queue = |properties: &str| {
        with(&format!(
            "Resources: {{Q: {{Type: 'AWS::SQS::Queue', Properties: {properties}}}}}"
        ))
    };
    let cases = [
        (
            with("Resources: {B: {Type: 'AWS::S3::Bucket'}}"),
            ["Resources/B/Type", "AWS::S3::Bucket"],
        ),
        (
            queue("{FifoQueue: true}"),
            ["Resources/Q/Properties/FifoQueue", "property FifoQueue"],
        ),
        (
            queue("{QueueName: !Cidr [a]}"),
            ["Resources/Q/Properties/QueueName", "Fn::Cidr"],
        ),
        (
            queue("{QueueName: !Ref Nowhere}"),
            ["LOCAL_TEMPLATE_REFERENCE", "Nowhere"],
        ),
        (queue("{QueueName: !Sub '${Q.Color}'}"), ["Resources/Q", "circle"]),
        (
            queue("{QueueName: !ImportValue other}"),
            ["LOCAL_TEMPLATE_REFERENCE", "other"],
        ),
        (with("Resources: [1"), ["LOCAL_TEMPLATE_SYNTAX", "YAML"]),
        (
            with("Resources: {F: {Type: 'AWS::Serverless::Function', Properties: {Runtime: python3.13}}}"),
            ["Resources/F/Properties/Runtime", "python3.13"],
        ),
    ];
    for (error, expected) in cases {
        for part in expected {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
    let refused = |given: &[(&str, &str)]| {
        read(&fixture("stack.yaml"), given, BTreeMap::new())
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&[("Unknown", "1")]).contains("Parameters/Unknown"));
    assert!(refused(&[("Mode", "other")]).contains("quiet, loud"));
    assert!(refused(&[("ReceiveCountMax", "0")]).contains("Parameters/ReceiveCountMax"));
    assert!(refused(&[("ReceiveCountMax", "many")]).contains("a whole number"));
}
