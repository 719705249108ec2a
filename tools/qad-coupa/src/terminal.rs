//! The only place that prints.
//!
//! Whoever reads may go away before everything is said (`| head`); that is no reason to fail. A result that could not be
//! written for any other reason is lost, and the command says so at its end ([`lost`]).

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

/// Why a part of the result was not written: the first reason.
static LOST: OnceLock<String> = OnceLock::new();

/// Prints a line of result.
pub(crate) fn say(line: &str) {
    write_to(&mut std::io::stdout(), line, &LOST);
}

/// Why a part of the result is missing; `None` when all of it was written, or the reader had enough.
pub(crate) fn lost() -> Option<&'static str> {
    kept(std::io::stdout().flush(), &LOST);
    LOST.get().map(String::as_str)
}

fn write_to(out: &mut dyn Write, line: &str, lost: &OnceLock<String>) {
    kept(writeln!(out, "{line}"), lost);
}

/// Keeps the first error that is more than a reader who went away.
fn kept(written: std::io::Result<()>, lost: &OnceLock<String>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        lost.get_or_init(|| error.to_string());
    }
}

/// Prints a line of complaint.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a line beside the result, for people who watch.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A block of lines at the bottom of the terminal that is painted over; plain lines when the output is no terminal.
pub(crate) struct LiveBlock {
    painted: usize,
    live: bool,
}

impl LiveBlock {
    /// A block that has not been painted.
    pub(crate) fn new() -> Self {
        Self {
            painted: 0,
            live: std::io::stdout().is_terminal(),
        }
    }

    /// True when the block can be painted over.
    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Paints the lines over what was painted before. Nothing when the output is no terminal.
    pub(crate) fn paint(&mut self, lines: &[String]) {
        if !self.live {
            return;
        }
        let mut text = String::new();
        if self.painted > 0 {
            text.push_str(&format!("\u{1b}[{}A", self.painted));
        }
        for line in lines {
            text.push_str(&format!("\u{1b}[2K{line}\n"));
        }
        text.push_str("\u{1b}[0J");
        let mut terminal = std::io::stdout();
        let _ = terminal
            .write_all(text.as_bytes())
            .and_then(|()| terminal.flush());
        self.painted = lines.len();
    }

    /// Removes the block.
    pub(crate) fn clear(&mut self) {
        self.paint(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing, for one reason.
    struct Full(ErrorKind);

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_result_that_could_not_be_written_is_lost_unless_the_reader_had_enough() {
        let said = |kind| {
            let lost = OnceLock::new();
            write_to(&mut Full(kind), "evidence", &lost);
            lost.get().is_some()
        };
        assert!(said(ErrorKind::StorageFull));
        assert!(said(ErrorKind::PermissionDenied));
        assert!(!said(ErrorKind::BrokenPipe));
        let lost = OnceLock::new();
        write_to(&mut Vec::new(), "evidence", &lost);
        assert_eq!(lost.get(), None);
    }
}
