//! Every environment variable of the functions, read once, typed. A function asks for what it needs; what is missing is
//! told all at once, before the first event.

use crate::clients::AwsSettings;
use crate::dynamo::RegisterTables;
use domain::problem::Problem;
use domain::timing::Timing;
use secrecy::SecretString;
use std::collections::BTreeMap;

/// One environment variable that the template sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// What holds when it is not set; `None` when a function that needs it must have it.
    pub default: Option<&'static str>,
}

const fn required(name: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        meaning,
        default: None,
    }
}

const fn optional(name: &'static str, meaning: &'static str, default: &'static str) -> Variable {
    Variable {
        name,
        meaning,
        default: Some(default),
    }
}

/// Table of records.
pub const REGISTER_TABLE: Variable = required("REGISTER_TABLE", "name of the table of records");
/// Table of the audit trail.
pub const AUDIT_TABLE: Variable = required("AUDIT_TABLE", "name of the table of the audit trail");
/// Table of cached tokens.
pub const TOKENS_TABLE: Variable = required("TOKENS_TABLE", "name of the table of cached bearer tokens");
/// Queue of hints.
pub const INVOICES_QUEUE_URL: Variable = required("INVOICES_QUEUE_URL", "address of the queue of hints");
/// Queue of hints about payments.
pub const PAYMENTS_QUEUE_URL: Variable = required(
    "PAYMENTS_QUEUE_URL",
    "address of the queue of hints about payments",
);
/// Begins the names of the connections' documents.
pub const CONNECTION_SECRET_PREFIX: Variable = required(
    "CONNECTION_SECRET_PREFIX",
    "what begins the name of a connection's document in Secrets Manager",
);
/// Begins the names of the webhooks' documents.
pub const WEBHOOK_SECRET_PREFIX: Variable = required(
    "WEBHOOK_SECRET_PREFIX",
    "what begins the name of a webhook's document in Secrets Manager",
);
/// See [`Timing::http_millis`].
pub const HTTP_TIMEOUT_SECONDS: Variable = optional(
    "HTTP_TIMEOUT_SECONDS",
    "longest whole HTTP exchange with Coupa or QAD, in seconds",
    "120",
);
/// See [`Timing::function_millis`].
pub const FUNCTION_TIMEOUT_SECONDS: Variable = optional(
    "FUNCTION_TIMEOUT_SECONDS",
    "the function's own timeout, in seconds",
    "180",
);
/// See [`Timing::stop_margin_millis`].
pub const STOP_MARGIN_SECONDS: Variable = optional(
    "STOP_MARGIN_SECONDS",
    "how long before the function's end nothing new is begun, in seconds",
    "10",
);
/// See [`Timing::lease_millis`].
pub const LEASE_SECONDS: Variable = optional(
    "LEASE_SECONDS",
    "how long a claim on an effect keeps others away, in seconds",
    "190",
);
/// See [`Timing::commit_lateness_millis`].
pub const COMMIT_LATENESS_SECONDS: Variable = optional(
    "COMMIT_LATENESS_SECONDS",
    "how long after the last byte QAD may still commit a write, in seconds",
    "1800",
);
/// See [`Timing::coupa_commit_lateness_millis`].
pub const COUPA_COMMIT_LATENESS_SECONDS: Variable = optional(
    "COUPA_COMMIT_LATENESS_SECONDS",
    "how long after the last byte Coupa may still commit a write, in seconds",
    "150",
);
/// See [`Timing::clock_skew_millis`].
pub const CLOCK_SKEW_SECONDS: Variable = optional(
    "CLOCK_SKEW_SECONDS",
    "most that two clocks of the functions differ, in seconds",
    "2",
);
/// See [`Timing::queue_visibility_millis`].
pub const QUEUE_VISIBILITY_SECONDS: Variable = optional(
    "QUEUE_VISIBILITY_SECONDS",
    "how long the queue hides a received message, in seconds",
    "1080",
);
/// See [`Timing::queue_receives_max`].
pub const QUEUE_RECEIVE_COUNT_MAX: Variable = optional(
    "QUEUE_RECEIVE_COUNT_MAX",
    "how often the queue delivers a message before it gives it up",
    "5",
);
/// Instances that share the pace of a connection when it cannot be shared through the table.
pub const INSTANCES_MAX: Variable = optional(
    "INSTANCES_MAX",
    "most instances of the function at once; each keeps its share of the requests per second while the common pace cannot be reached",
    "1",
);
/// Namespace of the metrics.
pub const METRICS_NAMESPACE: Variable = optional(
    "METRICS_NAMESPACE",
    "CloudWatch namespace of the metrics",
    "qad-coupa",
);
/// Least level of the logs.
pub const LOG_LEVEL: Variable = optional(
    "LOG_LEVEL",
    "least level logged: error, warn, info, debug or trace",
    "info",
);

/// How people sign in to the page: `oidc` at an identity provider, `local` on a machine of one's own.
pub const CONSOLE_LOGIN: Variable = required(
    "CONSOLE_LOGIN",
    "how people sign in to the page: oidc, or local (a person is chosen) with AWS on this machine",
);
/// The identity provider.
pub const CONSOLE_ISSUER: Variable = optional(
    "CONSOLE_ISSUER",
    "the issuer, as the identity provider writes it; needed with oidc",
    "",
);
/// The page's name at the identity provider.
pub const CONSOLE_CLIENT_ID: Variable = optional(
    "CONSOLE_CLIENT_ID",
    "the client id of the page at the identity provider; needed with oidc",
    "",
);
/// The page's secret, by its name in Secrets Manager.
pub const CONSOLE_SECRET: Variable = optional(
    "CONSOLE_SECRET",
    "the secret that holds client_secret and session_key, by name or ARN; needed with oidc",
    "",
);
/// Who it is.
pub const CONSOLE_PERSON_CLAIM: Variable = optional(
    "CONSOLE_PERSON_CLAIM",
    "the claim that holds the e-mail address of the person",
    "email",
);
/// What he may do.
pub const CONSOLE_ROLE_CLAIM: Variable = optional(
    "CONSOLE_ROLE_CLAIM",
    "the claim that says what the person may do",
    "roles",
);
/// Which word means which role.
pub const CONSOLE_ROLES: Variable = optional(
    "CONSOLE_ROLES",
    "role=word of the claim, separated by semicolons; empty when the words are the roles' names",
    "",
);
/// The connections that the page shows.
pub const CONSOLE_CONNECTIONS: Variable = required(
    "CONSOLE_CONNECTIONS",
    "the connections that the page shows, separated by commas; the first one without its name in the address",
);
/// The plant's time zone.
pub const CONSOLE_TIME_ZONE: Variable = optional(
    "CONSOLE_TIME_ZONE",
    "IANA name of the time zone in which the page tells times",
    "UTC",
);

/// Every variable that the template sets.
pub const VARIABLES: &[Variable] = &[
    REGISTER_TABLE,
    AUDIT_TABLE,
    TOKENS_TABLE,
    INVOICES_QUEUE_URL,
    PAYMENTS_QUEUE_URL,
    CONNECTION_SECRET_PREFIX,
    WEBHOOK_SECRET_PREFIX,
    HTTP_TIMEOUT_SECONDS,
    FUNCTION_TIMEOUT_SECONDS,
    STOP_MARGIN_SECONDS,
    LEASE_SECONDS,
    COMMIT_LATENESS_SECONDS,
    COUPA_COMMIT_LATENESS_SECONDS,
    CLOCK_SKEW_SECONDS,
    QUEUE_VISIBILITY_SECONDS,
    QUEUE_RECEIVE_COUNT_MAX,
    INSTANCES_MAX,
    CONSOLE_LOGIN,
    CONSOLE_ISSUER,
    CONSOLE_CLIENT_ID,
    CONSOLE_SECRET,
    CONSOLE_PERSON_CLAIM,
    CONSOLE_ROLE_CLAIM,
    CONSOLE_ROLES,
    CONSOLE_CONNECTIONS,
    CONSOLE_TIME_ZONE,
    METRICS_NAMESPACE,
    LOG_LEVEL,
];

const REGION: Variable = required("AWS_REGION", "the region; Lambda sets it");
const ACCESS_KEY_ID: Variable = required("AWS_ACCESS_KEY_ID", "the access key's id; Lambda sets it");
const SECRET_ACCESS_KEY: Variable = required("AWS_SECRET_ACCESS_KEY", "the access key; Lambda sets it");
const SESSION_TOKEN: Variable = optional("AWS_SESSION_TOKEN", "the session token; Lambda sets it", "");
const ENDPOINT: Variable = optional("AWS_ENDPOINT_URL", "another address for all of AWS", "");
const ENDPOINT_DYNAMODB: Variable = optional("AWS_ENDPOINT_URL_DYNAMODB", "another address for DynamoDB", "");
const ENDPOINT_SQS: Variable = optional("AWS_ENDPOINT_URL_SQS", "another address for SQS", "");
const ENDPOINT_SECRETS_MANAGER: Variable = optional(
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "another address for Secrets Manager",
    "",
);

/// AWS's own variables that are read too; Lambda or the operator's shell sets them, the template does not.
pub const AWS_VARIABLES: &[Variable] = &[
    REGION,
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    SESSION_TOKEN,
    ENDPOINT,
    ENDPOINT_DYNAMODB,
    ENDPOINT_SQS,
    ENDPOINT_SECRETS_MANAGER,
];

/// Longest time a variable may hold, in seconds; keeps milliseconds far from overflow.
const SECONDS_MAX: i64 = 1_000_000;

/// What the environment said.
pub struct Config {
    values: BTreeMap<&'static str, Text>,
    timing: Timing,
    instances: i64,
    level: tracing::Level,
}

/// A value without `Debug`: some of them are credentials.
struct Text(String);

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// Every variable that is set and cannot be what it must be. What is missing is told by [`Config::require`].
    #[expect(clippy::disallowed_methods, reason = "this is the owner of the environment")]
    pub fn from_env() -> Result<Self, Vec<Problem>> {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Reads from anywhere: `lookup` gives a variable's text, `None` when it is not set. An empty text counts as not set.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let mut values = BTreeMap::new();
        for variable in VARIABLES.iter().chain(AWS_VARIABLES) {
            let set = lookup(variable.name).filter(|text| !text.trim().is_empty());
            if let Some(text) = set.or_else(|| {
                variable
                    .default
                    .filter(|text| !text.is_empty())
                    .map(str::to_owned)
            }) {
                values.insert(variable.name, Text(text));
            }
        }
        let mut problems = Vec::new();
        let timing = read_timing(&values, &mut problems);
        let instances = read_whole(&values, &INSTANCES_MAX, &mut problems);
        let level = read_level(&values, &mut problems);
        for endpoint in [
            ENDPOINT,
            ENDPOINT_DYNAMODB,
            ENDPOINT_SQS,
            ENDPOINT_SECRETS_MANAGER,
        ] {
            if let Some(Text(url)) = values.get(endpoint.name) {
                problems.extend(check_endpoint(&endpoint, url));
            }
        }
        if problems.is_empty() {
            Ok(Self {
                values,
                timing,
                instances,
                level,
            })
        } else {
            Err(problems)
        }
    }

    /// Checks that everything a function needs is set, AWS's own variables included.
    ///
    /// # Errors
    /// All that is missing.
    pub fn require(&self, needed: &[Variable]) -> Result<(), Vec<Problem>> {
        let needed = needed.iter().chain([&REGION, &ACCESS_KEY_ID, &SECRET_ACCESS_KEY]);
        let missing: Vec<Problem> = needed.filter_map(|variable| self.get(variable).err()).collect();
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// The text of one variable.
    ///
    /// # Errors
    /// `CONFIG_MISSING` when it is not set and has no default.
    pub fn get(&self, variable: &Variable) -> Result<&str, Problem> {
        self.values
            .get(variable.name)
            .map(|text| text.0.as_str())
            .ok_or_else(|| {
                Problem::new(
                    "CONFIG_MISSING",
                    "Set this environment variable; the template does.",
                )
                .field(variable.name)
                .expected(variable.meaning)
            })
    }

    /// The names of the register's tables.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn register_tables(&self) -> Result<RegisterTables, Problem> {
        Ok(RegisterTables {
            register: self.get(&REGISTER_TABLE)?.to_owned(),
            audit: self.get(&AUDIT_TABLE)?.to_owned(),
        })
    }

    /// The name of the register's table, for a function that has no permission on the audit trail.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn register_table(&self) -> Result<&str, Problem> {
        self.get(&REGISTER_TABLE)
    }

    /// The name of the table of tokens.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn tokens_table(&self) -> Result<&str, Problem> {
        self.get(&TOKENS_TABLE)
    }

    /// The address of the queue of hints.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn queue_url(&self) -> Result<&str, Problem> {
        self.get(&INVOICES_QUEUE_URL)
    }

    /// The address of the queue of hints about payments.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn payments_queue_url(&self) -> Result<&str, Problem> {
        self.get(&PAYMENTS_QUEUE_URL)
    }

    /// What begins the name of a connection's document.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn connection_secret_prefix(&self) -> Result<&str, Problem> {
        self.get(&CONNECTION_SECRET_PREFIX)
    }

    /// What begins the name of a webhook's document.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn webhook_secret_prefix(&self) -> Result<&str, Problem> {
        self.get(&WEBHOOK_SECRET_PREFIX)
    }

    /// The namespace of the metrics.
    ///
    /// # Errors
    /// None: it has a default.
    pub fn metrics_namespace(&self) -> Result<&str, Problem> {
        self.get(&METRICS_NAMESPACE)
    }

    /// Most instances of this function at once, which share the pace of a connection; at least 1.
    pub fn instances_max(&self) -> u32 {
        u32::try_from(self.instances).unwrap_or(u32::MAX).max(1)
    }

    /// True when all of AWS is on this machine.
    pub fn is_loopback(&self) -> bool {
        let services = [ENDPOINT_DYNAMODB, ENDPOINT_SQS, ENDPOINT_SECRETS_MANAGER];
        services.iter().all(|service| {
            let url = self.get(service).or_else(|_| self.get(&ENDPOINT));
            url.is_ok_and(is_on_this_machine)
        })
    }

    /// The chain of times. Whether its links hold is asked with [`Timing::broken_links`].
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// The least level of the logs.
    pub fn level(&self) -> tracing::Level {
        self.level
    }

    /// Where AWS is and who we are there.
    ///
    /// # Errors
    /// `CONFIG_MISSING`.
    pub fn aws(&self) -> Result<AwsSettings, Problem> {
        let text = |variable: &Variable| self.get(variable).ok().map(str::to_owned);
        let endpoint = |variable: &Variable| text(variable).or_else(|| text(&ENDPOINT));
        Ok(AwsSettings {
            region: self.get(&REGION)?.to_owned(),
            access_key_id: self.get(&ACCESS_KEY_ID)?.to_owned(),
            secret_access_key: SecretString::from(self.get(&SECRET_ACCESS_KEY)?),
            session_token: text(&SESSION_TOKEN).map(SecretString::from),
            dynamodb_url: endpoint(&ENDPOINT_DYNAMODB),
            sqs_url: endpoint(&ENDPOINT_SQS),
            secrets_manager_url: endpoint(&ENDPOINT_SECRETS_MANAGER),
        })
    }
}

type Values = BTreeMap<&'static str, Text>;

fn read_timing(values: &Values, problems: &mut Vec<Problem>) -> Timing {
    let mut whole = |variable: &Variable| read_whole(values, variable, problems);
    let mut millis = |variable: &Variable| whole(variable).saturating_mul(1_000);
    Timing {
        http_millis: millis(&HTTP_TIMEOUT_SECONDS),
        function_millis: millis(&FUNCTION_TIMEOUT_SECONDS),
        stop_margin_millis: millis(&STOP_MARGIN_SECONDS),
        lease_millis: millis(&LEASE_SECONDS),
        commit_lateness_millis: millis(&COMMIT_LATENESS_SECONDS),
        coupa_commit_lateness_millis: millis(&COUPA_COMMIT_LATENESS_SECONDS),
        clock_skew_millis: millis(&CLOCK_SKEW_SECONDS),
        queue_visibility_millis: millis(&QUEUE_VISIBILITY_SECONDS),
        queue_receives_max: whole(&QUEUE_RECEIVE_COUNT_MAX),
    }
}

/// Reads a whole number; what cannot be read joins `problems`, so that the 0 standing in for it is never used.
fn read_whole(values: &Values, variable: &Variable, problems: &mut Vec<Problem>) -> i64 {
    let text = values.get(variable.name).map_or("", |text| text.0.as_str());
    match text.trim().parse() {
        Ok(number) if (0..=SECONDS_MAX).contains(&number) => number,
        _ => {
            problems.push(invalid(
                variable,
                &format!("a whole number from 0 to {SECONDS_MAX}"),
                text,
            ));
            0
        }
    }
}

fn read_level(values: &Values, problems: &mut Vec<Problem>) -> tracing::Level {
    let text = values.get(LOG_LEVEL.name).map_or("", |text| text.0.as_str());
    text.trim().parse().unwrap_or_else(|_| {
        problems.push(invalid(&LOG_LEVEL, "error, warn, info, debug or trace", text));
        tracing::Level::INFO
    })
}

/// Plain HTTP is for an AWS on the same machine alone.
fn check_endpoint(variable: &Variable, url: &str) -> Option<Problem> {
    let fits = (url.starts_with("https://") || is_on_this_machine(url)) && !url.contains('@');
    (!fits).then(|| invalid(variable, "an https address, or http on this machine", url))
}

fn is_on_this_machine(url: &str) -> bool {
    ["http://127.0.0.1", "http://localhost", "http://[::1]"]
        .iter()
        .any(|start| {
            url.strip_prefix(start)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
        })
}

/// What is wrong with the text of a variable.
pub fn invalid(variable: &Variable, expected: &str, actual: &str) -> Problem {
    Problem::new("CONFIG_INVALID", "Correct this environment variable.")
        .field(variable.name)
        .expected(expected)
        .actual(actual)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(set: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let set: BTreeMap<String, String> = set
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect();
        Config::read(|name| set.get(name).cloned())
    }

    #[test]
    fn the_defaults_are_the_default_timing_and_its_chain_holds() {
        let timing = config(&[]).ok().unwrap().timing();
        assert_eq!(timing, Timing::default());
        assert!(timing.broken_links().is_empty());
    }

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let config = config(&[("AWS_REGION", "eu-central-1"), ("REGISTER_TABLE", " ")])
            .ok()
            .unwrap();
        let missing = config
            .require(&[REGISTER_TABLE, INVOICES_QUEUE_URL, LOG_LEVEL])
            .unwrap_err();
        let names: Vec<&str> = missing.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(
            names,
            [
                "REGISTER_TABLE",
                "INVOICES_QUEUE_URL",
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY"
            ]
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let problems = config(&[
            ("LEASE_SECONDS", "190.5"),
            ("STOP_MARGIN_SECONDS", "-1"),
            ("LOG_LEVEL", "loud"),
            ("AWS_ENDPOINT_URL", "http://example.com"),
            ("AWS_ENDPOINT_URL_SQS", "http://localhost.example.com"),
        ])
        .err()
        .unwrap();
        let names: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(
            names,
            [
                "STOP_MARGIN_SECONDS",
                "LEASE_SECONDS",
                "LOG_LEVEL",
                "AWS_ENDPOINT_URL",
                "AWS_ENDPOINT_URL_SQS"
            ]
        );
    }

    #[test]
    fn one_services_address_goes_before_that_of_all() {
        let aws = config(&[
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "key"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:2"),
        ])
        .ok()
        .and_then(|config| config.aws().ok())
        .unwrap();
        assert_eq!(aws.dynamodb_url.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(aws.sqs_url.as_deref(), Some("http://127.0.0.1:2"));
        assert!(aws.session_token.is_none());
    }

    #[test]
    fn no_variable_stands_twice_and_each_says_what_it_means() {
        let names: std::collections::BTreeSet<&str> = VARIABLES
            .iter()
            .chain(AWS_VARIABLES)
            .map(|variable| variable.name)
            .collect();
        assert_eq!(names.len(), VARIABLES.len() + AWS_VARIABLES.len());
        assert!(VARIABLES.iter().all(|variable| !variable.meaning.is_empty()));
    }
}
