//! Fields in lines of text: `name=value`, and one rule for quotes, whoever writes the line.
//!
//! A value stands in quotes when it is empty or holds a space, a quote, `=` or a control character. So programs can tell
//! where it ends, and what comes from outside can neither begin a line nor colour a terminal.

use std::fmt::{self, Debug, Display, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// A field's name and what follows it.
pub(crate) struct Name<'a> {
    pub(crate) name: &'a str,
    pub(crate) has_color: bool,
}

/// A field's value.
pub(crate) struct Value<'a>(pub(crate) &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.has_color {
            true => write!(f, "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", self.name),
            false => write!(f, "{}=", self.name),
        }
    }
}

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match needs_quotes(self.0) {
            true => write!(f, "{:?}", self.0),
            false => f.write_str(self.0),
        }
    }
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty() || value.contains(|c: char| matches!(c, ' ' | '"' | '=') || c.is_control())
}

/// Formats the fields of `tracing`.
pub(crate) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = Line { writer, is_empty: true, result: Ok(()) };
        fields.record(&mut line);
        line.result
    }
}

struct Line<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl Line<'_> {
    fn add(&mut self, field: &Field, value: &str) {
        let separator = if std::mem::replace(&mut self.is_empty, false) { "" } else { " " };
        let (name, has_color) = (field.name(), self.writer.has_ansi_escapes());
        self.result = self.result.and_then(|()| match name {
            "message" => write!(self.writer, "{separator}{}", Message(value)),
            _ => write!(self.writer, "{separator}{}{}", Name { name, has_color }, Value(value)),
        });
    }
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// A message of a library, which may repeat what comes from outside.
pub(crate) struct Message<'a>(pub(crate) &'a str);

impl Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_quotes_has_them() {
        for plain in ["a", "wasm:mine", "10.0.0.7:51234", "[::1]:80", "/group-list.do", "a\\b", "ä", "1,2", "it's"] {
            assert_eq!(Value(plain).to_string(), plain);
        }
        for (value, shown) in [
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a=b", "\"a=b\""),
            ("say \"hello\"", r#""say \"hello\"""#),
            ("a\nb\x1b[31m", r#""a\nb\u{1b}[31m""#),
            ("\u{9b}", r#""\u{9b}""#),
        ] {
            assert_eq!(Value(value).to_string(), shown);
        }
    }
}
