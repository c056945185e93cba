//! What is known of a key, and of the kind of value that it has.

use super::problem::Place;
use super::reader::Reader;

/// When a change of a key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// As soon as the file is read.
    AtOnce,
    /// For sessions that begin after that.
    NewSessions,
    /// When the process is started again.
    NextStart,
    /// Never: the key says nothing to the proxy.
    Nothing,
}

impl Effect {
    /// As the documentation says it.
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
    /// What it means, as the lines of its doc comment.
    pub(super) doc: &'static str,
    /// The declared default as JSON, if there is one.
    pub(super) declared_default: fn() -> Option<String>,
}

impl Key {
    /// The value that holds when the key is missing, as JSON; `None` for a key that must be there.
    pub(super) fn default(&self) -> Option<String> {
        (self.declared_default)().or_else(|| self.kind.implied_default())
    }

    /// What it means, in whole sentences.
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

/// What can be said of a kind of value without knowing its type.
pub(super) trait Describe {
    /// The JSON Schema of a value.
    fn schema(&self) -> serde_json::Value;

    /// What is expected, in the words of messages and documentation: `0 to 1024`.
    fn expected(&self) -> String;

    /// True when the schema's pattern does not say all that [`Describe::expected`] does.
    fn is_more_than_its_schema(&self) -> bool {
        false
    }

    /// What a missing value means where no default is declared, as JSON.
    fn implied_default(&self) -> Option<String> {
        None
    }

    /// The keys of the objects that a value consists of, with what stands before their names in the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "the test that writes the documentation asks"))]
    fn tables(&self, _name: &str) -> Vec<(String, Table)> {
        Vec::new()
    }
}

/// A kind of value: how it is read and written.
pub(super) trait Kind: Describe {
    /// What it is to the program.
    type Value: PartialEq;

    /// Reads `value`, which stands at `place`; `None` when it is wrong, which is then reported.
    fn read(&self, reader: &mut Reader, place: &Place, value: &jsonc_parser::ast::Value) -> Option<Self::Value>;

    /// What a missing value means where no default is declared; `None` when there must be one.
    fn absent(&self, _reader: &mut Reader, _place: &Place) -> Option<Self::Value> {
        None
    }

    /// The value as JSON.
    fn write(&self, value: &Self::Value, style: &Style) -> String;

    /// Adds the keys that differ, each by its path and with its effect.
    fn changes(&self, key: (&str, Effect), old: &Self::Value, new: &Self::Value, found: &mut Vec<Change>) {
        if old != new {
            found.push(Change { path: key.0.to_owned(), effect: key.1 });
        }
    }
}

/// A key whose value is another now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `admin.token`.
    pub path: String,
    /// When that takes effect.
    pub effect: Effect,
}

/// How values are written.
#[derive(Clone, Debug, Default)]
pub(super) struct Style {
    /// Secrets that stand in the file are written out, and not as `***`.
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
