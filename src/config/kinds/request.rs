//! The parts of an HTTP request, and the statuses of its answer.

use std::collections::HashSet;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::plain::{report, text_of, wrong};
use crate::base::text::echo;
use crate::config::key::{Describe, Kind, Style};
use crate::config::object::shown;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::group::check::StatusSet;

/// Longest path, in bytes.
const PATH_LEN_MAX: usize = 1_024;
/// Longest name of a host with its port, in bytes.
const HOST_LEN_MAX: usize = 261;
/// Most headers, and the longest name and value of one, in bytes.
const HEADERS_MAX: usize = 16;
const HEADER_LEN_MAX: usize = 1_024;
/// Longest list of statuses, in bytes.
const STATUS_LEN_MAX: usize = 256;

/// Text without blanks that begins in a certain way.
pub(in crate::config) struct Graphic {
    begins_with: &'static str,
    len_max: usize,
}

/// What is asked for: `/health`.
pub(in crate::config) const fn http_path() -> Graphic {
    Graphic { begins_with: "/", len_max: PATH_LEN_MAX }
}

/// The name of a host, with a port or without.
pub(in crate::config) const fn http_host() -> Graphic {
    Graphic { begins_with: "", len_max: HOST_LEN_MAX }
}

impl Describe for Graphic {
    fn schema(&self) -> serde_json::Value {
        let pattern = format!("^{}[!-~]*$", self.begins_with);
        json!({ "type": "string", "pattern": pattern, "minLength": 1, "maxLength": self.len_max })
    }

    fn expected(&self) -> String {
        let begins = if self.begins_with.is_empty() { "" } else { " that begins with /" };
        format!("text{begins}, without blanks, at most {} bytes of ASCII", self.len_max)
    }
}

impl Kind for Graphic {
    type Value = String;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<String> {
        let text = text_of(value, &self.expected()).and_then(|text| {
            let is_right = text.starts_with(self.begins_with)
                && text.len() <= self.len_max
                && text.bytes().all(|b| b.is_ascii_graphic());
            if is_right { Ok(text.to_owned()) } else { Err(wrong(value, &self.expected())) }
        });
        report(reader, place, value, text)
    }

    fn write(&self, value: &String, _: &Style) -> String {
        quoted(value)
    }
}

/// Headers: names with text as values.
pub(in crate::config) struct Headers;

pub(in crate::config) const fn http_headers() -> Headers {
    Headers
}

/// A header of a request that a user may choose.
fn header(name: &str, value: &Value) -> Result<(String, String), String> {
    let text = value.as_string_lit().ok_or_else(|| wrong(value, "a string"))?;
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("\"{}\" is no name of a header; expected letters, digits and -", echo(name)));
    }
    if ["host", "connection", "content-length", "transfer-encoding"].contains(&&*name.to_ascii_lowercase()) {
        return Err("the check sets this header itself; expected another (the host has a key of its own)".to_owned());
    }
    let is_plain = text.value.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t')) && text.value.trim() == text.value;
    if !is_plain {
        return Err(wrong(value, "printable ASCII without blanks around it"));
    }
    match name.len().max(text.value.len()) {
        0..=HEADER_LEN_MAX => Ok((name.to_owned(), text.value.clone().into_owned())),
        len => Err(format!("a header of {len} bytes is too long; expected at most {HEADER_LEN_MAX} in name and value")),
    }
}

impl Describe for Headers {
    fn schema(&self) -> serde_json::Value {
        json!({
            "type": "object",
            "maxProperties": HEADERS_MAX,
            "propertyNames": { "pattern": "^[!#-'*+.^_`|~0-9A-Za-z-]+$", "maxLength": HEADER_LEN_MAX },
            "additionalProperties": { "type": "string", "pattern": "^[ -~\\t]*$", "maxLength": HEADER_LEN_MAX },
        })
    }

    fn expected(&self) -> String {
        format!("an object, at most {HEADERS_MAX} names with text")
    }
}

impl Kind for Headers {
    type Value = Vec<(String, String)>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        let Value::Object(object) = value else {
            return report(reader, place, value, Err(wrong(value, "an object, {…}")));
        };
        let (mut headers, mut seen) = (Vec::new(), HashSet::new());
        for property in &object.properties {
            let name = property.name.as_str();
            let place = Place::Key(place, name);
            match header(name, &property.value) {
                Ok(header) if seen.insert(name.to_ascii_lowercase()) => headers.push(header),
                Ok(_) => {
                    reader.problems.add(property.range.start, place, "the header is there twice; expected it once");
                }
                Err(message) => reader.problems.add(property.value.start(), place, message),
            }
        }
        let len = object.properties.len();
        if len > HEADERS_MAX {
            let message = format!("{len} headers are too many; expected at most {HEADERS_MAX}");
            return report(reader, place, value, Err(message));
        }
        Some(headers)
    }

    fn write(&self, value: &Self::Value, _: &Style) -> String {
        let headers = value.iter().map(|(name, text)| format!("{}: {}", quoted(name), quoted(text)));
        format!("{{{}}}", headers.collect::<Vec<_>>().join(", "))
    }
}

/// Codes and ranges of codes.
pub(in crate::config) struct Statuses;

pub(in crate::config) const fn http_status() -> Statuses {
    Statuses
}

impl Describe for Statuses {
    fn schema(&self) -> serde_json::Value {
        let one = "[1-5][0-9]{2}( *- *[1-5][0-9]{2})?";
        json!({ "type": "string", "pattern": format!("^ *{one}( *, *{one})* *$"), "maxLength": STATUS_LEN_MAX })
    }

    fn expected(&self) -> String {
        "codes and ranges of 100 to 599, such as \"200-299,301\"".to_owned()
    }
}

impl Kind for Statuses {
    type Value = StatusSet;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<StatusSet> {
        let status = text_of(value, &self.expected()).and_then(|text| match text.len() {
            0..=STATUS_LEN_MAX => {
                text.parse::<StatusSet>().map_err(|why| format!("{why}; expected {}", self.expected()))
            }
            _ => Err(format!("{} is too long; expected at most {STATUS_LEN_MAX} bytes", shown(value))),
        });
        report(reader, place, value, status)
    }

    fn write(&self, value: &StatusSet, _: &Style) -> String {
        quoted(&value.to_string())
    }
}
