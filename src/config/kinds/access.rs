//! Where an access log goes, and which one a group has.

use std::path::Path;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::plain::{path_of, report, wrong};
use super::text::Word;
use super::{Section, object_schema};
use crate::access::{AccessChoice, AccessFormat, AccessPath, AccessPrefix, AccessSettings};
use crate::config::declare::Fields;
use crate::config::key::{Describe, Kind, Style, Table};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;

/// The word for stderr.
const STDERR: &str = "stderr";

impl Word for AccessFormat {
    const ALL: &'static [Self] = &[Self::Text, Self::Json, Self::Haproxy];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for AccessPrefix {
    const ALL: &'static [Self] = &[Self::Syslog, Self::None];

    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// `stderr`, or a file; a relative one starts from the folder of the file.
pub(in crate::config) struct LogPath;

pub(in crate::config) const fn log_path() -> LogPath {
    LogPath
}

impl Describe for LogPath {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1 })
    }

    fn expected(&self) -> String {
        "stderr or a file".to_owned()
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for LogPath {
    type Value = AccessPath;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<AccessPath> {
        let path = path_of(value, "stderr or the path of a file").map(|text| match text {
            STDERR => AccessPath::Stderr,
            text => AccessPath::File(reader.folder.join(text)),
        });
        report(reader, place, value, path)
    }

    fn write(&self, value: &AccessPath, style: &Style) -> String {
        let AccessPath::File(path) = value else { return quoted(STDERR) };
        let below = style.folder.as_deref().and_then(|folder| path.strip_prefix(folder).ok());
        // One that is called as the word has to be told from it.
        let below = below.filter(|below| !below.as_os_str().is_empty() && *below != Path::new(STDERR));
        quoted(&below.unwrap_or(path).display().to_string())
    }
}

/// `null` for that of the whole process, `"off"` for none, or an object.
pub(in crate::config) struct Choice(Section<AccessSettings>);

pub(in crate::config) const fn access_choice(own: Section<AccessSettings>) -> Choice {
    Choice(own)
}

impl Describe for Choice {
    fn schema(&self) -> serde_json::Value {
        json!({ "anyOf": [{ "enum": ["off", null] }, object_schema(AccessSettings::TABLE, false)] })
    }

    fn expected(&self) -> String {
        "off or an object".to_owned()
    }

    fn implied_default(&self) -> Option<String> {
        Some("null".to_owned())
    }

    fn tables(&self, _: &str) -> Vec<(String, Table)> {
        // Those of the key of the same name for the whole process.
        Vec::new()
    }
}

impl Kind for Choice {
    type Value = AccessChoice;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<AccessChoice> {
        match value {
            Value::NullKeyword(_) => Some(AccessChoice::Inherited),
            Value::StringLit(text) if text.value == "off" => Some(AccessChoice::Off),
            Value::Object(_) => self.0.read(reader, place, value).map(|own| AccessChoice::Own(Box::new(own))),
            _ => {
                reader.problems.add(value.start(), place, wrong(value, "null, off or an object, {…}"));
                None
            }
        }
    }

    fn absent(&self, _: &mut Reader, _: &Place) -> Option<AccessChoice> {
        Some(AccessChoice::Inherited)
    }

    fn write(&self, value: &AccessChoice, style: &Style) -> String {
        match value {
            AccessChoice::Inherited => "null".to_owned(),
            AccessChoice::Off => quoted("off"),
            AccessChoice::Own(own) => self.0.write(own, style),
        }
    }
}
