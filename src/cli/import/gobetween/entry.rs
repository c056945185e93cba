//! The keys of a TOML file, with their lines.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::cli::import::draft::Note;

/// A key with its value.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Where it stands, counted from one.
    pub(super) line: usize,
    pub(super) key: &'a str,
    value: &'a Spanned<DeValue<'a>>,
    /// The whole file.
    text: &'a str,
}

impl<'a> Entry<'a> {
    pub(super) fn note(&self, why: impl Into<String>) -> Note {
        let what = match self.value.get_ref().is_table() {
            true => self.key.to_owned(),
            false => format!("{} = {}", self.key, self.text.get(self.value.span()).unwrap_or_default()),
        };
        Note::new(self.line, what, why)
    }

    /// The line at this place of the file.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        line_at(self.text, offset)
    }

    /// What stands in a table.
    pub(super) fn inside(&self) -> Vec<Entry<'a>> {
        self.value.get_ref().as_table().map(|table| entries(table, self.text)).unwrap_or_default()
    }

    pub(super) fn str(&self) -> Option<&'a str> {
        self.value.get_ref().as_str()
    }

    pub(super) fn array(&self) -> Option<&'a DeArray<'a>> {
        self.value.get_ref().as_array()
    }

    pub(super) fn text(&self) -> Result<&'a str, String> {
        self.str().ok_or_else(|| "expected a text".to_owned())
    }

    pub(super) fn number(&self) -> Result<u32, String> {
        let number = self.value.get_ref().as_integer();
        let number = number.and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
        number.ok_or_else(|| "expected a whole number".to_owned())
    }

    /// In milliseconds.
    pub(super) fn time(&self) -> Result<u64, String> {
        let text = self.text()?;
        time(text).ok_or_else(|| format!("\"{text}\" is not a time; expected one such as 500ms or 2s"))
    }
}

/// The keys of a table in the order of the file.
pub(super) fn entries<'a>(table: &'a DeTable<'a>, text: &'a str) -> Vec<Entry<'a>> {
    let entry = |(key, value): (&'a Spanned<_>, &'a Spanned<_>)| {
        let key: &'a Spanned<std::borrow::Cow<'a, str>> = key;
        Entry { line: line_at(text, key.span().start), key: key.get_ref(), value, text }
    };
    let mut found: Vec<Entry> = table.iter().map(entry).collect();
    found.sort_by_key(|entry| entry.line);
    found
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// A time as Go writes it, in milliseconds.
fn time(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    if text == "0" {
        return Some(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).filter(|at| *at > 0)?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        total += rest[..digits].parse::<f64>().ok()? * unit;
        rest = &rest[unit_end..];
    }
    (!text.is_empty()).then_some(total as u64)
}
