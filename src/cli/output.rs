//! What commands write to stdout and stderr.

use std::io::{self, Write};

use anyhow::Context;

/// Prints to stdout. A closed pipe is no error.
///
/// # Errors
///
/// Stdout cannot be written to.
pub fn print(text: &str) -> anyhow::Result<()> {
    print_while_read(text).map(drop)
}

/// Prints to stdout; false when nobody reads it any more.
pub(super) fn print_while_read(text: &str) -> anyhow::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to stdout"),
    }
}

/// An error with its causes. Some errors repeat their cause in their own text; such a cause is left out.
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Writes a line to stderr, which may be closed.
pub(super) fn print_error(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = |text: &str| anyhow::Error::new(io::Error::other("in use")).context(text.to_owned());
        assert_eq!(
            error_text(&error("cannot listen on 1: in use; nothing was changed")),
            "cannot listen on 1: in use; nothing was changed"
        );
        assert_eq!(error_text(&error("cannot read x")), "cannot read x: in use");
    }
}
