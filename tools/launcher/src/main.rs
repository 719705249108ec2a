//! Builds the functions and the command line together, shows cargo's own progress, then starts the command line.
//!
//! One build for all of them: built one by one, they would choose other features of the same libraries and compile those
//! again and again. Nothing is linked here but the standard library, so this starts within a second of a checkout.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The program that is started.
const COMMAND_LINE: &str = "qad-coupa";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(message) => {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{message}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .ok_or("no workspace above this crate")?;
    let binaries = std::env::current_exe()
        .map_err(|error| format!("where this program lies cannot be told: {error}"))?
        .parent()
        .map(PathBuf::from)
        .ok_or("this program lies nowhere")?;
    build(root, &binaries)?;
    let mut command = Command::new(binaries.join(COMMAND_LINE));
    command.args(std::env::args_os().skip(1));
    let status = command
        .status()
        .map_err(|error| format!("{COMMAND_LINE} cannot be started: {error}"))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds with the profile and into the folder that this program was built with.
fn build(root: &Path, binaries: &Path) -> Result<(), String> {
    let target = binaries.parent().ok_or("no target folder above this program")?;
    let mut command = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    command
        .current_dir(root)
        .args(["build", "--locked", "--target-dir"])
        .arg(target)
        .args(["-p", COMMAND_LINE]);
    for function in functions(root)? {
        command.args(["-p", &function]);
    }
    if binaries.ends_with("release") {
        command.arg("--release");
    }
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the build failed; see above".to_owned())
    }
}

/// One crate per function, named like its folder.
fn functions(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("functions");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}
