//! Secrets Manager on this machine: an embedded service; the secrets live in memory.

use super::LocalError;
use bytes::Bytes;
use domain::problem::Problem;
use rustack_secretsmanager_core::config::SecretsManagerConfig;
use rustack_secretsmanager_core::handler::RustackSecretsManagerHandler;
use rustack_secretsmanager_core::provider::RustackSecretsManager;
use rustack_secretsmanager_http::dispatch::SecretsManagerHandler;
use rustack_secretsmanager_http::service::SecretsManagerHttpService;
use rustack_secretsmanager_model::operations::SecretsManagerOperation;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::sync::Arc;

/// The secrets.
#[derive(Clone)]
pub struct Secrets {
    handler: Arc<RustackSecretsManagerHandler>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// An empty service.
    pub fn new(region: &str, account_id: &str) -> Self {
        let config = SecretsManagerConfig {
            skip_signature_validation: true,
            default_region: region.to_owned(),
            default_account_id: account_id.to_owned(),
        };
        let provider = Arc::new(RustackSecretsManager::new(config));
        Self {
            handler: Arc::new(RustackSecretsManagerHandler::new(provider)),
        }
    }

    /// Creates a secret.
    ///
    /// # Errors
    /// A name or a value Secrets Manager does not take, or a secret of that name is there.
    pub async fn create(&self, name: &str, value: &SecretString) -> Result<(), LocalError> {
        let body = json!({
            "Name": name,
            "SecretString": value.expose_secret(),
            "ClientRequestToken": uuid::Uuid::new_v4().to_string(),
        });
        let operation = SecretsManagerOperation::CreateSecret;
        let made = self
            .handler
            .handle_operation(operation, Bytes::from(body.to_string()))
            .await;
        match made {
            Ok(_) => Ok(()),
            Err(error) => {
                let problem = Problem::new("LOCAL_SECRETS", "Correct the connection's secret.");
                Err(LocalError::Secret(Box::new(
                    problem.field(name).actual(error.to_string()),
                )))
            }
        }
    }

    /// Gives a secret a new value, as an operator does who rotates a credential.
    ///
    /// # Errors
    /// There is no secret of that name.
    pub async fn put(&self, name: &str, value: &SecretString) -> Result<(), LocalError> {
        let body = json!({
            "SecretId": name,
            "SecretString": value.expose_secret(),
            "ClientRequestToken": uuid::Uuid::new_v4().to_string(),
        });
        let operation = SecretsManagerOperation::PutSecretValue;
        let put = self
            .handler
            .handle_operation(operation, Bytes::from(body.to_string()))
            .await;
        put.map(drop).map_err(|error| {
            let problem = Problem::new("LOCAL_SECRETS", "Correct the name of the secret.");
            LocalError::Secret(Box::new(problem.field(name).actual(error.to_string())))
        })
    }

    /// The service as HTTP sees it.
    pub(crate) fn http(&self) -> SecretsManagerHttpService<RustackSecretsManagerHandler> {
        SecretsManagerHttpService::new(Arc::clone(&self.handler), Default::default())
    }
}
