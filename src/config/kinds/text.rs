//! Words, text, folders, labels.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::plain::{path_of, report, text_of, wrong};
use crate::base::text::did_you_mean;
use crate::config::hints::word_of_others;
use crate::config::key::{Describe, Kind, Style};
use crate::config::object::shown;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::group::{NAME_LEN_MAX, is_name};

/// Most labels of a server.
pub const LABELS_MAX: usize = 32;
/// Longest name and longest value of a label, in bytes.
pub const LABEL_LEN_MAX: usize = 128;

/// A type whose values are words of the file.
pub(in crate::config) trait Word: Copy + PartialEq + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// The word for it.
    fn word(self) -> &'static str;
}

impl Word for crate::log::LogFormat {
    const ALL: &'static [Self] = &[Self::Text, Self::Json];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::log::LogLevel {
    const ALL: &'static [Self] = &[Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::events::SessionLines {
    const ALL: &'static [Self] = &[Self::All, Self::Closed, Self::Refused, Self::None];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::events::RequestLines {
    const ALL: &'static [Self] = &[Self::All, Self::Changes];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::server::State {
    const ALL: &'static [Self] = &[Self::Ready, Self::Drain, Self::Maint];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::server::Origin {
    const ALL: &'static [Self] = &[Self::File, Self::Heartbeat];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::group::check::CheckKind {
    const ALL: &'static [Self] =
        &[Self::Tcp, Self::Tls, Self::Exchange, Self::Http, Self::Redis, Self::Postgresql, Self::Mysql];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::group::check::CheckRole {
    const ALL: &'static [Self] = &[Self::Any, Self::Master, Self::Replica];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::group::check::HttpMethod {
    const ALL: &'static [Self] = &[Self::Get, Self::Head, Self::Options, Self::Post];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::group::check::CheckStart {
    const ALL: &'static [Self] = &[Self::Up, Self::Down, Self::Checked];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::group::Fate {
    const ALL: &'static [Self] = &[Self::Keep, Self::Close];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::group::Starttls {
    const ALL: &'static [Self] = &[Self::None, Self::Postgresql];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::tls::ClientAuth {
    const ALL: &'static [Self] = &[Self::None, Self::Request, Self::Require];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::tls::TlsVersion {
    const ALL: &'static [Self] = &[Self::V12, Self::V13];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for crate::server::SendProxy {
    const ALL: &'static [Self] = &[Self::None, Self::V1, Self::V2];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for &'static str {
    const ALL: &'static [Self] = &[];

    fn word(self) -> &'static str {
        self
    }
}

/// One of a few words.
pub(in crate::config) struct Words<T: 'static>(&'static [T]);

/// Any word of the type.
pub(in crate::config) const fn word<T: Word>() -> Words<T> {
    Words(T::ALL)
}

/// One of these words.
pub(in crate::config) const fn words(words: &'static [&'static str]) -> Words<&'static str> {
    Words(words)
}

impl<T: Word> Words<T> {
    fn parse(&self, place: &Place, value: &Value) -> Result<T, String> {
        let text = text_of(value, &self.expected())?;
        self.0.iter().copied().find(|word| word.word() == text).ok_or_else(|| {
            let known = self.0.iter().map(|word| word.word());
            let near = word_of_others(text, known.clone()).unwrap_or_else(|| did_you_mean(text, known));
            format!("unknown {} {}; expected {}{near}", place.name(), shown(value), self.expected())
        })
    }
}

impl<T: Word> Describe for Words<T> {
    fn schema(&self) -> serde_json::Value {
        let words: Vec<&str> = self.0.iter().map(|word| word.word()).collect();
        json!({ "type": "string", "enum": words })
    }

    fn expected(&self) -> String {
        self.0.iter().map(|word| word.word()).collect::<Vec<_>>().join(", ")
    }
}

impl<T: Word> Kind for Words<T> {
    type Value = T;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<T> {
        let read = self.parse(place, value);
        report(reader, place, value, read)
    }

    fn write(&self, value: &T, _: &Style) -> String {
        quoted(value.word())
    }
}

/// Text that is not empty.
pub(in crate::config) struct Text;

pub(in crate::config) const fn text() -> Text {
    Text
}

impl Describe for Text {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }

    fn expected(&self) -> String {
        "a string".to_owned()
    }
}

impl Kind for Text {
    type Value = String;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<String> {
        report(reader, place, value, text_of(value, "a string that is not empty").map(str::to_owned))
    }

    fn write(&self, value: &String, _: &Style) -> String {
        quoted(value)
    }
}

/// What a group or a server is called.
pub(in crate::config) struct Name<T>(PhantomData<fn() -> T>);

pub(in crate::config) const fn name<T>() -> Name<T> {
    Name(PhantomData)
}

impl<T> Describe for Name<T> {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "pattern": format!("^(?![0-9]+$)[a-z0-9_-]{{1,{NAME_LEN_MAX}}}$") })
    }

    fn expected(&self) -> String {
        format!("1 to {NAME_LEN_MAX} of a-z, 0-9, _ and -, not digits alone")
    }
}

impl<T: From<String> + std::fmt::Display + PartialEq> Kind for Name<T> {
    type Value = T;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<T> {
        let name = value.as_string_lit().filter(|text| is_name(&text.value));
        let name = name.map(|text| T::from(text.value.clone().into_owned()));
        report(reader, place, value, name.ok_or_else(|| wrong(value, &self.expected())))
    }

    fn write(&self, value: &T, _: &Style) -> String {
        quoted(&value.to_string())
    }
}

/// A file or folder; a relative one starts from the folder of the file.
pub(in crate::config) struct Located(&'static str);

/// A folder, with the one that is meant when the key is missing.
pub(in crate::config) const fn folder(default: &'static str) -> Located {
    Located(default)
}

/// A file.
pub(in crate::config) const fn file() -> Located {
    Located("")
}

impl Describe for Located {
    fn schema(&self) -> serde_json::Value {
        Text.schema()
    }

    fn expected(&self) -> String {
        Text.expected()
    }

    fn implied_default(&self) -> Option<String> {
        Some(quoted(self.0))
    }
}

impl Kind for Located {
    type Value = PathBuf;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<PathBuf> {
        let path = path_of(value, "a string that is not empty").map(|text| reader.folder.join(text));
        report(reader, place, value, path)
    }

    fn absent(&self, reader: &mut Reader, _: &Place) -> Option<PathBuf> {
        Some(reader.folder.join(self.0))
    }

    fn write(&self, value: &PathBuf, style: &Style) -> String {
        let below = style.folder.as_deref().and_then(|folder| value.strip_prefix(folder).ok());
        // The folder itself would be an empty text.
        let path = below.filter(|below| *below != Path::new("")).unwrap_or(value);
        quoted(&path.to_string_lossy())
    }
}

/// An object of free names with text as values.
pub(in crate::config) struct Labels;

pub(in crate::config) const fn labels() -> Labels {
    Labels
}

impl Describe for Labels {
    fn schema(&self) -> serde_json::Value {
        json!({
            "type": "object",
            "maxProperties": LABELS_MAX,
            "propertyNames": { "minLength": 1, "maxLength": LABEL_LEN_MAX },
            "additionalProperties": { "type": "string", "maxLength": LABEL_LEN_MAX },
        })
    }

    fn expected(&self) -> String {
        format!("an object, at most {LABELS_MAX} names with text of at most {LABEL_LEN_MAX} bytes")
    }
}

impl Kind for Labels {
    type Value = BTreeMap<String, String>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        let mut labels = BTreeMap::new();
        let Value::Object(object) = value else {
            return report(reader, place, value, Err(wrong(value, "an object, {…}")));
        };
        for property in &object.properties {
            let name = property.name.as_str();
            let place = Place::Key(place, name);
            match label(name, &property.value) {
                Ok(text) if !labels.contains_key(name) => _ = labels.insert(name.to_owned(), text),
                Ok(_) => reader.problems.add(property.range.start, place, "the label is there twice; expected it once"),
                Err(message) => reader.problems.add(property.value.start(), place, message),
            }
        }
        report(reader, place, value, check_labels_len(object.properties.len()))?;
        Some(labels)
    }

    fn write(&self, value: &Self::Value, _: &Style) -> String {
        let labels = value.iter().map(|(name, text)| format!("{}: {}", quoted(name), quoted(text)));
        format!("{{{}}}", labels.collect::<Vec<_>>().join(", "))
    }
}

/// One label of a server.
fn label(name: &str, value: &Value) -> Result<String, String> {
    let text = value.as_string_lit().ok_or_else(|| wrong(value, "a string"))?;
    check_label(name, &text.value)?;
    Ok(text.value.clone().into_owned())
}

/// What is wrong with labels wherever they come from.
pub(in crate::config) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    check_labels_len(labels.len())?;
    labels.iter().try_for_each(|(name, text)| check_label(name, text))
}

fn check_labels_len(len: usize) -> Result<(), String> {
    match len {
        0..=LABELS_MAX => Ok(()),
        _ => Err(format!("{len} labels are too many; expected at most {LABELS_MAX}")),
    }
}

fn check_label(name: &str, text: &str) -> Result<(), String> {
    let len = name.len().max(text.len());
    match (name.len(), len) {
        (0, _) => Err("a label has no name; expected at least one character".to_owned()),
        (_, 0..=LABEL_LEN_MAX) => Ok(()),
        _ => Err(format!("a label of {len} bytes is too long; expected at most {LABEL_LEN_MAX} in name and value")),
    }
}
