//! The only place that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line's way to speak")]

use std::io::{IsTerminal, Write};

/// Prints a line of result.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Prints a line of complaint.
pub(crate) fn complain(line: &str) {
    eprintln!("{line}");
}

/// A block of lines at the bottom of the terminal that is painted over; plain lines when the output is no terminal.
pub(crate) struct LiveBlock {
    painted: usize,
    live: bool,
}

impl LiveBlock {
    /// A block that has not been painted.
    pub(crate) fn new() -> Self {
        Self { painted: 0, live: std::io::stdout().is_terminal() }
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
        print!("{text}");
        // A terminal that is gone is noticed with the next line; nothing depends on this one.
        let _ = std::io::stdout().flush();
        self.painted = lines.len();
    }

    /// Removes the block.
    pub(crate) fn clear(&mut self) {
        self.paint(&[]);
    }
}
