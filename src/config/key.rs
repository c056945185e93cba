//! A key: its name, the kind of its value, its default and its meaning.

use super::problem::Place;
use super::reader::Reader;

/// Longer values are not shown when they change.
const SHOWN_LEN_MAX: usize = 60;

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// As soon as the file is read.
    AtOnce,
    /// For sessions that begin after that.
    NewSessions,
    /// When the process is started again.
    NextStart,
    /// Never: the proxy ignores the key.
    Nothing,
}

impl Effect {
    /// The words of the documentation.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::NewSessions => "for new sessions",
            Self::NextStart => "at the next start",
            Self::Nothing => "no effect",
        }
    }
}

/// One key of an object.
pub(super) struct Key {
    /// The name in the file.
    pub(super) name: &'static str,
    /// What its value may be.
    pub(super) kind: &'static dyn Describe,
    /// When a change takes effect.
    pub(super) effect: Effect,
    /// A key of a group that `defaults` does not take.
    pub(super) is_own: bool,
    /// Its doc comment, which is its documentation.
    pub(super) doc: &'static str,
    /// The declared default as JSON, if there is one.
    pub(super) declared_default: fn() -> Option<String>,
}

impl Key {
    /// The value that holds when the key is missing, as JSON; `None` for a key that must be there.
    pub(super) fn default(&self) -> Option<String> {
        (self.declared_default)().or_else(|| self.kind.implied_default())
    }

    /// The documentation.
    pub(super) fn doc(&self) -> &'static str {
        self.doc.trim()
    }
}

/// The keys of an object, in one or more parts.
pub(super) type Table = &'static [&'static [Key]];

/// The keys of a table, in order; with `is_shared` only those that `defaults` takes.
pub(super) fn keys(table: Table, is_shared: bool) -> impl Iterator<Item = &'static Key> + Clone {
    table.iter().copied().flatten().filter(move |key| !(is_shared && key.is_own))
}

/// What a kind of value says of itself, whatever its type.
pub(super) trait Describe {
    /// The JSON Schema of a value.
    fn schema(&self) -> serde_json::Value;

    /// What is expected, in the words of messages and documentation: `0 to 1024`.
    fn expected(&self) -> String;

    /// True when [`Describe::expected`] says more than the schema can.
    fn is_more_than_its_schema(&self) -> bool {
        false
    }

    /// As JSON, the value of a missing key without a declared default.
    fn implied_default(&self) -> Option<String> {
        None
    }

    /// The keys of the objects within the value, each table with the prefix of its names in the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "the test that writes the documentation asks"))]
    fn tables(&self, _name: &str) -> Vec<(String, Table)> {
        Vec::new()
    }
}

/// A kind of value: how it is read and written.
pub(super) trait Kind: Describe {
    /// The type that the program uses.
    type Value: PartialEq;

    /// Reads `value` at `place`; reports a problem and returns `None` when it is wrong.
    fn read(&self, reader: &mut Reader, place: &Place, value: &jsonc_parser::ast::Value) -> Option<Self::Value>;

    /// The value of a missing key without a declared default; `None` for a required key.
    fn absent(&self, _reader: &mut Reader, _place: &Place) -> Option<Self::Value> {
        None
    }

    /// The value as JSON.
    fn write(&self, value: &Self::Value, style: &Style) -> String;

    /// Adds each key that differs, with its path and effect.
    fn changes(&self, key: (&str, Effect), old: &Self::Value, new: &Self::Value, found: &mut Vec<Change>) {
        if old != new {
            let (was, is) = (self.write(old, &Style::default()), self.write(new, &Style::default()));
            found.push(Change { path: key.0.to_owned(), effect: key.1, words: from_to(&was, &is) });
        }
    }
}

/// A key whose value has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `admin.token`.
    pub path: String,
    /// When that takes effect.
    pub effect: Effect,
    /// From what to what: `info → debug`.
    pub words: String,
}

/// Says how a value has changed that is written as `was` and as `is`: `10m → 1h`. What is long, or a secret, is only said to
/// be another.
pub(super) fn from_to(was: &str, is: &str) -> String {
    let plain = |text: &str| text.trim_matches('"').to_owned();
    let is_short = |text: &str| text.chars().count() <= SHOWN_LEN_MAX && !text.contains('\n');
    match was != is && is_short(was) && is_short(is) {
        true => format!("{} → {}", plain(was), plain(is)),
        false => "changed".to_owned(),
    }
}

/// How values are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Style {
    /// Secrets are written out, not as `***`.
    pub(super) shows_secrets: bool,
    /// Paths below this folder are written relative to it.
    pub(super) folder: Option<std::path::PathBuf>,
    /// Blanks in front of the line that a value starts in.
    pub(super) indent: usize,
}

impl Style {
    /// The same, one level deeper.
    pub(super) fn deeper(&self) -> Self {
        Self { indent: self.indent + 2, ..self.clone() }
    }
}
