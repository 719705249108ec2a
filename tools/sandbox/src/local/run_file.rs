//! The run file: how other commands on this machine find a running local world.

use super::aws::LocalAws;
use super::functions::FunctionPool;
use super::template::Stack;
use super::{LocalError, clock, webhook_path};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The run file's name under the run directory.
pub const RUN_FILE: &str = "run.json";

/// Where everything is. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// The process that holds the world.
    pub process_id: u32,
    /// When it started, in UTC.
    pub started_at: String,
    /// `AWS::StackName`.
    pub stack_name: String,
    /// The environment variables with which an AWS SDK, or the AWS command line, talks to it.
    pub environment: BTreeMap<String, String>,
    /// The environment variables that the template gives the functions: names of tables, queues and secrets, and times.
    /// Where functions differ, that of the function that posts invoices.
    #[serde(default)]
    pub function_environment: BTreeMap<String, String>,
    /// The address of the gateway.
    pub gateway_url: String,
    /// The webhook address of each connection.
    pub webhook_urls: BTreeMap<String, String>,
    /// The tables: name in the template to name in DynamoDB.
    pub tables: BTreeMap<String, String>,
    /// The queues: name in the template to URL.
    pub queues: BTreeMap<String, String>,
    /// The functions: name in the template to log file.
    pub logs: BTreeMap<String, PathBuf>,
}

impl RunFile {
    /// Reads the run file of a run directory; `None` when there is none, so no world runs there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(run_dir: &Path) -> Result<Option<Self>, LocalError> {
        let path = run_dir.join(RUN_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LocalError::file(&path, error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| LocalError::file(&path, error))
    }

    pub(crate) fn of(
        stack_name: &str,
        aws: &LocalAws,
        stack: &Stack,
        functions: &[FunctionPool],
        gateway_url: &str,
        connections: &[String],
    ) -> Self {
        let webhook_url =
            |id: &String| Some((id.clone(), format!("{gateway_url}{}", webhook_path(stack, id)?)));
        let log = |pool: &FunctionPool| (pool.function().logical_id.clone(), pool.log().path().to_owned());
        Self {
            process_id: std::process::id(),
            started_at: clock::iso_time(clock::epoch_milliseconds()),
            stack_name: stack_name.to_owned(),
            environment: aws.environment(),
            function_environment: function_environment(stack),
            gateway_url: gateway_url.to_owned(),
            webhook_urls: connections.iter().filter_map(webhook_url).collect(),
            tables: stack
                .tables
                .iter()
                .map(|table| (table.logical_id.clone(), table.name.clone()))
                .collect(),
            queues: stack
                .queues
                .iter()
                .map(|queue| (queue.logical_id.clone(), queue.url.clone()))
                .collect(),
            logs: functions.iter().map(log).collect(),
        }
    }

    /// Writes it, whole or not at all, so that a reader never sees half of it.
    pub(crate) fn write(self, run_dir: &Path) -> Result<WrittenRunFile, LocalError> {
        let path = run_dir.join(RUN_FILE);
        let draft = run_dir.join(format!("{RUN_FILE}.new"));
        let text = serde_json::to_vec_pretty(&self).map_err(|error| LocalError::file(&path, error))?;
        std::fs::write(&draft, text).map_err(|error| LocalError::file(&draft, error))?;
        std::fs::rename(&draft, &path).map_err(|error| LocalError::file(&path, error))?;
        Ok(WrittenRunFile { path, content: self })
    }
}

/// The binary whose variables go before those of the others.
const FIRST_FUNCTION: &str = "match-invoice";

fn function_environment(stack: &Stack) -> BTreeMap<String, String> {
    let (first, others): (Vec<_>, Vec<_>) = stack
        .functions
        .iter()
        .partition(|function| function.binary == FIRST_FUNCTION);
    let mut variables = BTreeMap::new();
    for function in first.into_iter().chain(others) {
        for (name, value) in &function.environment {
            variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    variables
}

/// The run file of this process; removed when dropped.
pub(crate) struct WrittenRunFile {
    path: PathBuf,
    content: RunFile,
}

impl WrittenRunFile {
    pub(crate) fn content(&self) -> &RunFile {
        &self.content
    }
}

impl Drop for WrittenRunFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(error = %error, path = %self.path.display(), "the run file stays behind");
        }
    }
}
