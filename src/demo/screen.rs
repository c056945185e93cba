//! What is shown: plain lines, and on a terminal a table that moves.
//!
//! The table is redrawn in place and left as it stands when the next line is printed. Elsewhere than on a
//! terminal there is one line of counts in its stead, so that a file or a pipe gets nothing but text.

use std::fmt::Write;
use std::io::{self, IsTerminal};

use crate::cli;

/// The longest bar, in characters: with what stands beside it a row fits into 80 columns.
const BAR_WIDTH: u64 = 48;

/// Printer of the demonstration.
pub(super) struct Screen {
    is_terminal: bool,
    is_colored: bool,
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
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { is_terminal, is_colored: is_terminal && !is_set("NO_COLOR"), drawn: 0 }
    }

    /// Prints a line, or several.
    pub(super) fn say(&mut self, text: &str) {
        self.drawn = 0;
        put(&format!("{text}\n"));
    }

    /// Prints the headline of a step.
    pub(super) fn headline(&mut self, text: &str) {
        let text = self.colored("1", text);
        self.say(&format!("\n{text}"));
    }

    /// Prints a command that a user would type.
    pub(super) fn command(&mut self, text: &str) {
        let text = self.colored("36", &format!("$ {text}"));
        self.say(&format!("   {text}"));
    }

    /// Prints that all went well.
    pub(super) fn good(&mut self, text: &str) {
        let text = self.colored("1;32", text);
        self.say(&text);
    }

    /// Prints what went wrong.
    pub(super) fn bad(&mut self, text: &str) {
        let text = self.colored("1;31", text);
        self.say(&text);
    }

    /// Shows how sessions spread, over and over.
    pub(super) fn show(&mut self, rows: &[Row]) {
        if !self.is_terminal {
            return;
        }
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        let longest = rows.iter().map(|row| row.sessions).max().unwrap_or(0).max(1);
        for Row { name, sessions, is_alive } in rows {
            let bar = "█".repeat((sessions * BAR_WIDTH / longest) as usize);
            let bar = self.colored("32", &bar);
            let note = if *is_alive { String::new() } else { self.colored("31", " down") };
            let _ = writeln!(text, "\r\x1b[2K   {name}  {bar} {sessions}{note}");
        }
        self.drawn = rows.len();
        put(&text);
    }

    /// Shows how sessions have spread in the step that is over.
    pub(super) fn settle(&mut self, rows: &[Row]) {
        if self.is_terminal {
            self.show(rows);
            self.drawn = 0;
            return;
        }
        let counts: Vec<String> = rows.iter().map(|row| row.sessions.to_string()).collect();
        self.say(&format!("   sessions per server: {}", counts.join(", ")));
    }

    fn colored(&self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Prints. Whoever cannot read it any more still gets the exit code.
fn put(text: &str) {
    drop(cli::print(text));
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
