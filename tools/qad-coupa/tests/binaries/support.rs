//! What these tests share: folders of their own, programs that keep running, and a demo that is asked by its verbs.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// What a program that keeps running says once it is up.
pub const IS_UP: &str = "Ctrl-C ends it.";
/// How often something that is waited for is looked at, and how long in between.
const LOOKS_MAX: u32 = 1_200;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Exit codes.
pub const OK: i32 = 0;
pub const FAILED: i32 = 1;
pub const USAGE: i32 = 2;
pub const NOT_FOUND: i32 = 3;
pub const DIFFERS: i32 = 4;
pub const REFUSED: i32 = 5;
pub const UNREACHABLE: i32 = 6;

/// A folder of its own, gone afterwards.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that keeps running, ended with the test.
pub struct Running {
    child: Child,
    lines: Vec<String>,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = program().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            lines.push(line.unwrap());
            if lines.last().unwrap().contains(IS_UP) {
                return Self { child, lines };
            }
        }
        panic!("{arguments:?} ended before it was up: {lines:#?}");
    }

    /// The address that it tells after these words: `Coupa ` or `QAD `.
    pub fn address(&self, after: &str) -> &str {
        let line = self
            .lines
            .iter()
            .find(|line| line.starts_with("Simulated Coupa"))
            .unwrap();
        let (_, rest) = line.split_once(after).unwrap();
        rest.split([' ', ';']).next().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A demo that keeps running, ended with the test.
pub struct Demo {
    pub running: Running,
    pub folder: Folder,
}

impl Demo {
    pub fn start(name: &str) -> Self {
        let folder = Folder::new(name);
        let running = Running::start(&["--run-dir", &folder.at(""), "demo", "--keep", "--seed", "5"]);
        Self { running, folder }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.arg("--run-dir").arg(&self.folder.0).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    /// Runs it, demands the exit code, and gives what it said.
    #[track_caller]
    pub fn says(&self, code: i32, arguments: &[&str]) -> String {
        let (ended, out, err) = self.run(arguments);
        assert_eq!(ended, code, "{arguments:?}\n{out}{err}");
        format!("{out}{err}")
    }

    /// Runs it with `--json`, demands the exit code, and reads the answer.
    #[track_caller]
    pub fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let (ended, out, err) = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(ended, code, "{arguments:?}\n{out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{out}{err}"))
    }

    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        wait_until_same(what, || (!holds()).then(|| self.says(OK, &["status"])));
    }
}

/// The command line, without arguments.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_qad-coupa"))
}

pub fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_until_same(what, || (!holds()).then(String::new));
}

/// Looks again and again until nothing differs.
pub fn wait_until_same(what: &str, mut differs: impl FnMut() -> Option<String>) {
    let mut last = None;
    for _ in 0..LOOKS_MAX {
        last = differs();
        if last.is_none() {
            return;
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    panic!("never: {what}: {}", last.unwrap_or_default());
}
