//! What output may hold besides text: for people in front of a terminal, or for whatever reads a pipe.

use std::io::{self, IsTerminal};

/// What an output stream may be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Tables and bars.
    pub is_terminal: bool,
    /// Escape sequences that colour.
    pub is_colored: bool,
}

impl Style {
    /// What suits stdout.
    pub fn of_stdout() -> Self {
        Self::of(&io::stdout())
    }

    /// What suits stderr.
    pub fn of_stderr() -> Self {
        Self::of(&io::stderr())
    }

    /// Colours only on a terminal, and never with `NO_COLOR` (<https://no-color.org>).
    fn of(stream: &impl IsTerminal) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal = stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { is_terminal, is_colored: is_terminal && !is_set("NO_COLOR") }
    }

    /// A headline.
    pub fn bold(self, text: &str) -> String {
        self.colored("1", text)
    }

    /// What is well.
    pub fn green(self, text: &str) -> String {
        self.colored("32", text)
    }

    /// What is wrong.
    pub fn red(self, text: &str) -> String {
        self.colored("31", text)
    }

    /// What deserves a look.
    pub fn yellow(self, text: &str) -> String {
        self.colored("33", text)
    }

    /// What is less important.
    pub fn dim(self, text: &str) -> String {
        self.colored("2", text)
    }

    /// What a user may type.
    pub fn cyan(self, text: &str) -> String {
        self.colored("36", text)
    }

    fn colored(self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A bar for `count`, where the bar for `longest` is `width` characters long.
pub fn bar(count: u64, longest: u64, width: u64) -> String {
    "█".repeat((count * width / longest.max(1)) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_for_colored_output_only() {
        assert_eq!(Style::default().red("x"), "x");
        assert_eq!(Style { is_terminal: true, is_colored: true }.red("x"), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!([0, 5, 10].map(|count| bar(count, 10, 4)), ["", "██", "████"]);
        assert_eq!(bar(0, 0, 4), "");
    }
}
