//! How reports look: for people in front of a terminal, or for whatever reads a pipe.

use std::io::{self, IsTerminal};

/// What the output may hold besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Tables and bars.
    pub is_terminal: bool,
    /// Escape sequences.
    pub is_colored: bool,
}

impl Style {
    /// What suits stdout: colours only on a terminal and never with `NO_COLOR`.
    pub fn of_stdout() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal = io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { is_terminal, is_colored: is_terminal && !is_set("NO_COLOR") }
    }

    /// A headline.
    pub(super) fn bold(self, text: &str) -> String {
        self.colored("1", text)
    }

    /// What is well.
    pub(super) fn green(self, text: &str) -> String {
        self.colored("32", text)
    }

    /// What is wrong.
    pub(super) fn red(self, text: &str) -> String {
        self.colored("31", text)
    }

    fn colored(self, code: &str, text: &str) -> String {
        if self.is_colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time with three digits that count.
pub(super) fn time(nanos: f64) -> String {
    match nanos {
        ..1e3 => format!("{nanos:.0} ns"),
        1e3..1e6 => format!("{:.2} µs", nanos / 1e3),
        1e6..1e9 => format!("{:.2} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

/// A size for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        ..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([133.4, 4_900_000.0, 2e9].map(time), ["133 ns", "4.90 ms", "2.00 s"]);
        assert_eq!([17, 131_072, 16 << 20].map(size), ["17 B", "128 KiB", "16.0 MiB"]);
    }

    #[test]
    fn escape_sequences_are_for_colored_output_only() {
        assert_eq!(Style::default().red("x"), "x");
        assert_eq!(Style { is_terminal: true, is_colored: true }.red("x"), "\x1b[31mx\x1b[0m");
    }
}
