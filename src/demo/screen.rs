//! What is shown: plain lines, and on a terminal a table that moves.
//!
//! The table is redrawn in place and left as it stands when the next line is printed. Elsewhere than on a
//! terminal there is one line of counts in its stead, so that a file or a pipe gets nothing but text.

use std::fmt::Write;

use crate::base::terminal::{Style, bar};
use crate::cli;

/// The longest bar, in characters: with what stands beside it a row fits into 80 columns.
const BAR_WIDTH: u64 = 48;

/// Printer of the demonstration.
pub(super) struct Screen {
    style: Style,
    /// Lines of the table that the cursor stands below of.
    drawn: usize,
}

/// A server in the table.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) sessions: u64,
    pub(super) is_alive: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { style: Style::of_stdout(), drawn: 0 }
    }

    /// Prints a line, or several.
    pub(super) fn say(&mut self, text: &str) {
        self.drawn = 0;
        put(&format!("{text}\n"));
    }

    /// Prints the headline of a step.
    pub(super) fn headline(&mut self, text: &str) {
        let text = self.style.bold(text);
        self.say(&format!("\n{text}"));
    }

    /// Prints a command that a user would type.
    pub(super) fn command(&mut self, text: &str) {
        let text = self.style.cyan(&format!("$ {text}"));
        self.say(&format!("   {text}"));
    }

    /// Prints that all went well.
    pub(super) fn good(&mut self, text: &str) {
        let text = self.style.bold(&self.style.green(text));
        self.say(&text);
    }

    /// Prints what went wrong.
    pub(super) fn bad(&mut self, text: &str) {
        let text = self.style.bold(&self.style.red(text));
        self.say(&text);
    }

    /// Shows how sessions spread, over and over.
    pub(super) fn show(&mut self, rows: &[Row]) {
        if !self.style.is_terminal {
            return;
        }
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        let longest = rows.iter().map(|row| row.sessions).max().unwrap_or(0);
        for Row { name, sessions, is_alive } in rows {
            let bar = self.style.green(&bar(*sessions, longest, BAR_WIDTH));
            let note = if *is_alive { String::new() } else { self.style.red(" down") };
            let _ = writeln!(text, "\r\x1b[2K   {name}  {bar} {sessions}{note}");
        }
        self.drawn = rows.len();
        put(&text);
    }

    /// Shows how sessions have spread in the step that is over.
    pub(super) fn settle(&mut self, rows: &[Row]) {
        if self.style.is_terminal {
            self.show(rows);
            self.drawn = 0;
            return;
        }
        let counts: Vec<String> = rows.iter().map(|row| row.sessions.to_string()).collect();
        self.say(&format!("   sessions per server: {}", counts.join(", ")));
    }
}

/// Prints. Whoever cannot read it any more still gets the exit code.
fn put(text: &str) {
    drop(cli::print(text));
}
