//! The SDK clients, unmodified. Each is built when it is first asked for and once; all share one HTTP client and one
//! TLS stack (rustls with ring, Amazon's roots compiled in, so that no file is read at start-up).

use aws_credential_types::Credentials;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
pub use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::problem::Problem;
use secrecy::{ExposeSecret, SecretString};
use std::sync::OnceLock;
use std::time::Duration;

/// Longest time to make a connection, in milliseconds.
const CONNECT_MILLIS_MAX: u64 = 2_000;
/// Longest time of one exchange with AWS, in milliseconds: short, so that a dead pooled connection costs little.
const ATTEMPT_MILLIS_MAX: u64 = 4_000;
/// Most tries of the SDK itself for SQS and Secrets Manager. DynamoDB's tries are counted by [`crate::dynamo`], which
/// knows which of them are ambiguous.
const SDK_ATTEMPTS_MAX: u32 = 3;

/// How long the clients wait. The whole of an attempt counts, to the last byte of the answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwsTimes {
    /// Longest time to make a connection, in milliseconds.
    pub connect_millis: u64,
    /// Longest time of one exchange, in milliseconds.
    pub attempt_millis: u64,
}

impl Default for AwsTimes {
    fn default() -> Self {
        Self {
            connect_millis: CONNECT_MILLIS_MAX,
            attempt_millis: ATTEMPT_MILLIS_MAX,
        }
    }
}

/// Where AWS is and who we are there.
pub struct AwsSettings {
    /// The region, from `AWS_REGION`.
    pub region: String,
    /// The access key's id.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: SecretString,
    /// The session token; Lambda always gives one, a person's access key may come without.
    pub session_token: Option<SecretString>,
    /// Another address for DynamoDB; `None` for AWS's own.
    pub dynamodb_url: Option<String>,
    /// Another address for SQS; `None` for AWS's own.
    pub sqs_url: Option<String>,
    /// Another address for Secrets Manager; `None` for AWS's own.
    pub secrets_manager_url: Option<String>,
}

impl AwsSettings {
    fn credentials(&self) -> Credentials {
        Credentials::new(
            self.access_key_id.clone(),
            self.secret_access_key.expose_secret(),
            self.session_token
                .as_ref()
                .map(|token| token.expose_secret().to_owned()),
            None,
            "environment",
        )
    }
}

/// All clients of one process.
pub struct Clients {
    settings: AwsSettings,
    times: AwsTimes,
    http: OnceLock<SharedHttpClient>,
    dynamodb: OnceLock<aws_sdk_dynamodb::Client>,
    sqs: OnceLock<aws_sdk_sqs::Client>,
    secrets_manager: OnceLock<aws_sdk_secretsmanager::Client>,
}

impl Clients {
    /// Builds nothing yet.
    pub fn new(settings: AwsSettings) -> Self {
        Self::with_times(settings, AwsTimes::default())
    }

    /// The same over this HTTP client.
    pub fn over(settings: AwsSettings, http: SharedHttpClient) -> Self {
        let clients = Self::new(settings);
        let _ = clients.http.set(http);
        clients
    }

    /// The same with other times.
    pub fn with_times(settings: AwsSettings, times: AwsTimes) -> Self {
        Self {
            settings,
            times,
            http: OnceLock::new(),
            dynamodb: OnceLock::new(),
            sqs: OnceLock::new(),
            secrets_manager: OnceLock::new(),
        }
    }

    /// DynamoDB, without the SDK's own retries: see [`crate::dynamo`].
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        let build = || {
            let mut config = aws_sdk_dynamodb::Config::builder()
                .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
                .region(aws_sdk_dynamodb::config::Region::new(
                    self.settings.region.clone(),
                ))
                .credentials_provider(self.settings.credentials())
                .http_client(self.http())
                .timeout_config(timeouts(self.times))
                .retry_config(RetryConfig::disabled());
            config.set_endpoint_url(self.settings.dynamodb_url.clone());
            aws_sdk_dynamodb::Client::from_conf(config.build())
        };
        self.dynamodb.get_or_init(build).clone()
    }

    /// SQS.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let build = || {
            let mut config = aws_sdk_sqs::Config::builder()
                .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
                .region(aws_sdk_sqs::config::Region::new(self.settings.region.clone()))
                .credentials_provider(self.settings.credentials())
                .http_client(self.http())
                .timeout_config(timeouts(self.times))
                .retry_config(RetryConfig::standard().with_max_attempts(SDK_ATTEMPTS_MAX));
            config.set_endpoint_url(self.settings.sqs_url.clone());
            aws_sdk_sqs::Client::from_conf(config.build())
        };
        self.sqs.get_or_init(build).clone()
    }

    /// Secrets Manager.
    pub fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        let build = || {
            let mut config = aws_sdk_secretsmanager::Config::builder()
                .behavior_version(aws_sdk_secretsmanager::config::BehaviorVersion::latest())
                .region(aws_sdk_secretsmanager::config::Region::new(
                    self.settings.region.clone(),
                ))
                .credentials_provider(self.settings.credentials())
                .http_client(self.http())
                .timeout_config(timeouts(self.times))
                .retry_config(RetryConfig::standard().with_max_attempts(SDK_ATTEMPTS_MAX));
            config.set_endpoint_url(self.settings.secrets_manager_url.clone());
            aws_sdk_secretsmanager::Client::from_conf(config.build())
        };
        self.secrets_manager.get_or_init(build).clone()
    }

    /// What signs requests to SES.
    pub fn ses(&self) -> crate::ses::Ses {
        crate::ses::Ses::new(self.settings.region.clone(), self.settings.credentials())
    }

    fn http(&self) -> SharedHttpClient {
        self.http.get_or_init(build_http).clone()
    }
}

/// The same HTTP client and TLS stack for a person's own machine, which may be behind a company's proxy: the variables
/// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` count, and `authorities` (PEM; what `AWS_CA_BUNDLE` names) are
/// trusted beside Amazon's. A function asks neither.
///
/// # Errors
/// When the authorities are none.
pub fn persons_http_client(authorities: &str) -> Result<SharedHttpClient, Problem> {
    let unusable = |error: &dyn std::fmt::Display| {
        Problem::new(
            "TRUST_STORE_UNUSABLE",
            "Give AWS_CA_BUNDLE a file of certificates (PEM), or unset it.",
        )
        .actual(error.to_string())
    };
    let mut store = TrustStore::empty().with_pem_certificate(amazons_roots());
    if !authorities.is_empty() {
        if !authorities.contains("-----BEGIN CERTIFICATE-----") {
            return Err(unusable(&"no certificate"));
        }
        store = store.with_pem_certificate(authorities);
    }
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|error| unusable(&error))?;
    Ok(
        aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = aws_smithy_http_client::Connector::builder()
                .proxy_config(aws_smithy_http_client::proxy::ProxyConfig::from_env());
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(context.clone())
                .build()
        }),
    )
}

fn build_http() -> SharedHttpClient {
    let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let roots = amazons_roots();
    if roots.is_empty() {
        // Not reached while Mozilla's list has them, which a test sees to.
        tracing::error!(
            code = "TRUST_STORE_UNUSABLE",
            "falling back to the system's roots"
        );
        return builder.build_https();
    }
    match TlsContext::builder()
        .with_trust_store(TrustStore::empty().with_pem_certificate(roots))
        .build()
    {
        Ok(context) => builder.tls_context(context).build_https(),
        Err(error) => {
            // Not reached with the roots compiled in. The default trusts the machine's own roots: still verified TLS.
            tracing::error!(code = "TRUST_STORE_UNUSABLE", problem = %error, "falling back to the system's roots");
            builder.build_https()
        }
    }
}

/// What the names of Amazon's roots have in them: AWS's endpoints chain to Amazon Trust Services only (confirmed, "Amazon
/// Trust Services Repository"). Trusting no one else there is safer, and reading 145 roots was four fifths of a cold start.
const AMAZONS: [&[u8]; 2] = [b"Amazon Root CA", b"Starfield Services Root"];

/// Amazon's roots in the one form that the SDK's trust store takes.
fn amazons_roots() -> String {
    let mut pem = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        let is_amazons = AMAZONS
            .iter()
            .any(|name| root.windows(name.len()).any(|part| part == *name));
        if is_amazons {
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            STANDARD.encode_string(root, &mut pem);
            pem.push_str("\n-----END CERTIFICATE-----\n");
        }
    }
    pem
}

fn timeouts(times: AwsTimes) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(times.connect_millis))
        .operation_attempt_timeout(Duration::from_millis(times.attempt_millis))
        .build()
}

/// What an SDK call that failed tells, without anything that was sent.
pub(crate) mod failure {
    use super::Problem;
    use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
    use aws_smithy_runtime_api::client::result::SdkError;
    use aws_smithy_types::error::metadata::ProvideErrorMetadata;

    /// What the caller must know about a failed call.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) enum Failure {
        /// Provably not applied; the same call may go through later.
        Throttled(Problem),
        /// It may have been applied: no answer, or one that says nothing.
        Unknown(Problem),
        /// Provably not applied; the same call can never go through.
        Refused(Problem),
    }

    impl Failure {
        /// What is wrong.
        pub(crate) fn into_problem(self) -> Problem {
            match self {
                Self::Throttled(problem) | Self::Unknown(problem) | Self::Refused(problem) => problem,
            }
        }
    }

    const THROTTLES: [&str; 5] = [
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    ];
    /// First HTTP status of a failure on the other side.
    const SERVER_ERROR_STATUS_MIN: u16 = 500;

    /// Judges a failed call. `code` begins the problem's code, for example `DYNAMODB`.
    pub(crate) fn judge<E: ProvideErrorMetadata>(
        service: &str,
        operation: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> Failure {
        let problem = |suffix: &str, fix: &str, actual: String| {
            Problem::new(format!("{service}_{suffix}"), fix)
                .field(operation)
                .actual(actual)
        };
        let retried = "Nothing to do: it is tried again. Look at the service's health page if it lasts.";
        match error {
            SdkError::ServiceError(context) => {
                let code = context.err().code().unwrap_or("no error code");
                let message = context.err().message().unwrap_or("");
                let actual = format!("{code} {message}");
                if THROTTLES.contains(&code) {
                    Failure::Throttled(problem("THROTTLED", retried, actual))
                } else if context.raw().status().as_u16() >= SERVER_ERROR_STATUS_MIN {
                    Failure::Unknown(problem("UNAVAILABLE", retried, actual))
                } else {
                    let fix =
                        "Correct the function's permissions, names or region; what AWS says is in 'actual'.";
                    Failure::Refused(problem("REFUSED", fix, actual))
                }
            }
            SdkError::ConstructionFailure(_) => {
                let fix = "This is a fault in the program: report it with this line.";
                Failure::Refused(problem(
                    "REQUEST_INVALID",
                    fix,
                    "a request that cannot be built".to_owned(),
                ))
            }
            SdkError::TimeoutError(_) => {
                Failure::Unknown(problem("UNAVAILABLE", retried, "no answer in time".to_owned()))
            }
            SdkError::DispatchFailure(failure) => {
                let actual = if failure.is_timeout() {
                    "no connection in time"
                } else {
                    "connection failed"
                };
                Failure::Unknown(problem("UNAVAILABLE", retried, actual.to_owned()))
            }
            SdkError::ResponseError(_) => Failure::Unknown(problem(
                "UNAVAILABLE",
                retried,
                "an answer that cannot be read".to_owned(),
            )),
            _ => Failure::Unknown(problem(
                "UNAVAILABLE",
                retried,
                "an unknown kind of failure".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amazons_own_roots_are_trusted_for_aws() {
        // Amazon Root CA 1 to 4 and Starfield Services Root Certificate Authority - G2.
        assert_eq!(amazons_roots().matches("BEGIN CERTIFICATE").count(), 5);
    }

    #[test]
    fn clients_are_built_once_from_the_compiled_in_roots() {
        let clients = Clients::new(AwsSettings {
            region: "eu-central-1".to_owned(),
            access_key_id: "id".to_owned(),
            secret_access_key: SecretString::from("key"),
            session_token: None,
            dynamodb_url: Some("http://127.0.0.1:1".to_owned()),
            sqs_url: None,
            secrets_manager_url: None,
        });
        assert!(
            clients.http.get().is_none(),
            "nothing is built before it is needed"
        );
        drop((clients.dynamodb(), clients.sqs(), clients.secrets_manager()));
        assert!(clients.http.get().is_some());
    }
}
