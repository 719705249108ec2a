//! The only place that prints.
//!
//! Whoever reads may go away before everything is said (`| head`); that is no reason to fail.

use std::io::{IsTerminal, Write};

/// Prints a line of result.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
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
