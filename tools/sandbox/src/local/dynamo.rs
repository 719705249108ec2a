//! DynamoDB on this machine: an embedded database behind DynamoDB's own wire, in memory or in a file.

use super::template::Table;
use super::{LocalError, clock};
use domain::problem::Problem;
use dynoxide::{Database, DynoxideError};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// File under the data directory that holds the tables.
pub const DATABASE_FILE: &str = "dynamodb.sqlite";
/// How often items past their time to live are removed.
const EXPIRY_SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The tables.
#[derive(Clone)]
pub struct Dynamo {
    database: Database,
}

impl std::fmt::Debug for Dynamo {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Dynamo").finish_non_exhaustive()
    }
}

impl Dynamo {
    /// Opens the database: in `data_dir`, where it survives a restart, or in memory.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(data_dir: Option<&Path>) -> Result<Self, LocalError> {
        let database = match data_dir {
            None => Database::memory(),
            Some(folder) => {
                let file = folder.join(DATABASE_FILE);
                let file = file
                    .to_str()
                    .ok_or_else(|| storage("data directory", "a path in UTF-8", "another"))?;
                Database::new(file)
            }
        };
        Ok(Self {
            database: database.map_err(|error| storage("data directory", "a database", error))?,
        })
    }

    /// Creates a table, or checks that the one in the file has the same keys and indexes.
    ///
    /// # Errors
    /// DynamoDB refuses it, or the table in the file is another.
    pub fn ensure_table(&self, table: &Table) -> Result<(), LocalError> {
        let create = serde_json::from_value(table.create.clone())
            .map_err(|error| storage(&table.name, "a table that DynamoDB takes", error))?;
        match self.database.create_table(create) {
            Ok(_) => self.set_time_to_live(table),
            Err(DynoxideError::ResourceInUseException(_)) => self.compare(table),
            Err(error) => Err(storage(&table.name, "a table that DynamoDB takes", error)),
        }
    }

    fn set_time_to_live(&self, table: &Table) -> Result<(), LocalError> {
        let Some(attribute) = &table.time_to_live_attribute else {
            return Ok(());
        };
        let refused = |error: String| storage(&table.name, "a time to live that DynamoDB takes", error);
        let body = json!({
            "TableName": table.name,
            "TimeToLiveSpecification": {"Enabled": true, "AttributeName": attribute},
        });
        let request = serde_json::from_value(body).map_err(|error| refused(error.to_string()))?;
        self.database
            .update_time_to_live(request)
            .map_err(|error| refused(error.to_string()))?;
        Ok(())
    }

    fn compare(&self, table: &Table) -> Result<(), LocalError> {
        let unreadable = |error: String| storage(&table.name, "a description", error);
        let request = serde_json::from_value(json!({"TableName": table.name}))
            .map_err(|error| unreadable(error.to_string()))?;
        let found = self
            .database
            .describe_table(request)
            .map_err(|error| unreadable(error.to_string()))?;
        let found = serde_json::to_value(&found).map_err(|error| unreadable(error.to_string()))?;
        let found = shape(found.get("Table").unwrap_or(&Value::Null));
        let wanted = shape(&table.create);
        if found == wanted {
            return Ok(());
        }
        Err(storage(&table.name, &wanted.to_string(), found))
    }

    /// Serves DynamoDB's wire on `listener` until `stop` is sent or dropped.
    pub(crate) async fn serve(self, listener: TcpListener, stop: oneshot::Receiver<()>) {
        let stopped = async {
            // Sent or dropped: both mean stop.
            stop.await.ok();
        };
        if let Err(error) = dynoxide::server::serve_with_shutdown(listener, self.database, stopped).await {
            tracing::error!(error = %error, "the local DynamoDB ended");
        }
    }

    /// Removes expired items from time to time, until dropped. AWS does it "within a few days".
    pub(crate) async fn expire(self) {
        loop {
            clock::pause(EXPIRY_SWEEP_INTERVAL).await;
            let database = self.database.clone();
            match tokio::task::spawn_blocking(move || database.sweep_ttl()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(error = %error, "expired items stay"),
                Err(error) => tracing::warn!(error = %error, "expired items stay"),
            }
        }
    }
}

/// What must not differ between the template and a table that is there: keys, and indexes with their keys.
fn shape(table: &Value) -> Value {
    let keys = |of: &Value| {
        let list = of
            .get("KeySchema")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut keys: Vec<String> = list
            .map(|key| {
                let part = |name: &str| {
                    key.get(name)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                format!("{} {}", part("KeyType"), part("AttributeName"))
            })
            .collect();
        keys.sort();
        keys
    };
    let indexes = table
        .get("GlobalSecondaryIndexes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut indexes: Vec<(String, Vec<String>)> = indexes
        .map(|index| {
            (
                index
                    .get("IndexName")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                keys(index),
            )
        })
        .collect();
    indexes.sort();
    json!({"keys": keys(table), "indexes": indexes})
}

fn storage(field: &str, expected: &str, actual: impl ToString) -> LocalError {
    let problem = Problem::new(
        "LOCAL_DYNAMODB",
        "Correct the table in the template, or start with an empty data directory.",
    );
    LocalError::Storage(Box::new(
        problem.field(field).expected(expected).actual(actual.to_string()),
    ))
}
