//! The local run: the deployable functions on a local AWS, wired as the templates say.

use crate::arguments::LocalOptions;
use crate::{Failure, connection_file, terminal};
use domain::problem::Problem;
use sandbox::local::{LocalConnection, LocalOptions as RunOptions, LocalPorts, LocalRun};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The stack's name in a local run.
pub(crate) const STACK_NAME: &str = "qad-coupa";

/// The root of the workspace this program was built from: there are the templates.
fn workspace_root() -> Result<PathBuf, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_owned);
    root.ok_or_else(|| Problem::new("WORKSPACE_MISSING", "Run it from a checkout.").into())
}

/// Starts a local run of these connections.
pub(crate) async fn start(
    run_dir: &Path,
    connections: Vec<LocalConnection>,
    parameters: BTreeMap<String, String>,
    data_dir: Option<PathBuf>,
    port: u16,
) -> Result<LocalRun, Failure> {
    let root = workspace_root()?;
    let program = std::env::current_exe()
        .map_err(|error| Failure::from(Problem::new("PROGRAM_MISSING", "").actual(error.to_string())))?;
    let binaries_dir = program.parent().map(Path::to_owned).unwrap_or_default();
    let names: Vec<&str> = connections
        .iter()
        .map(|connection| connection.id.as_str())
        .collect();
    let mut parameters = parameters;
    // The page is there at once, and a person is chosen instead of signing in: everything is on this machine.
    for (name, value) in [
        ("ConsoleLogin", "local".to_owned()),
        ("ConsoleConnections", names.join(",")),
    ] {
        parameters.entry(name.to_owned()).or_insert(value);
    }
    let options = RunOptions {
        stack_name: STACK_NAME.to_owned(),
        stack_template: root.join("infra/stack.yaml"),
        connection_template: root.join("infra/connection.yaml"),
        binaries_dir,
        connections,
        parameters,
        queue_visibility: None,
        data_dir,
        run_dir: run_dir.to_owned(),
        ports: LocalPorts {
            gateway: port,
            ..LocalPorts::default()
        },
    };
    Ok(LocalRun::start(options).await?)
}

/// `local`: runs until Ctrl-C.
pub(crate) async fn run(run_dir: &Path, options: &LocalOptions) -> Result<(), Failure> {
    let mut connections = Vec::new();
    let mut parameters = BTreeMap::new();
    for path in &options.connection_files {
        let file = connection_file::read(path).map_err(Failure::Failed)?;
        parameters.extend(file.parameters);
        connections.push(file.connection);
    }
    let names: Vec<String> = connections
        .iter()
        .map(|connection| connection.id.clone())
        .collect();
    let local = start(
        run_dir,
        connections,
        parameters,
        options.data.clone(),
        options.port,
    )
    .await?;
    for name in &names {
        terminal::say(&format!("{name}: webhook address {}", local.webhook_url(name)?));
    }
    terminal::say(&format!("Page: {}/", local.gateway_url()));
    terminal::say(&format!(
        "Logs in {}. State: `cargo qad-coupa invoice list`. Ctrl-C ends it.",
        run_dir.join("logs").display()
    ));
    wait_for_the_end().await;
    terminal::say("ending");
    local.shutdown().await;
    Ok(())
}

/// Waits for Ctrl-C, or for being asked to end.
pub(crate) async fn wait_for_the_end() {
    let interrupted = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminated) => {
            tokio::select! { _ = interrupted => {}, _ = terminated.recv() => {} }
        }
        Err(_) => {
            let _ = interrupted.await;
        }
    }
}
