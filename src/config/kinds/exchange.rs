//! What is said to a server, and what it has to answer: bytes, and conditions on bytes.

use jsonc_parser::ast::{self, Value};
use serde_json::json;

use super::plain::{report, wrong};
use crate::base::text::{echo, hex};
use crate::config::key::{Describe, Kind, Style};
use crate::config::object::shown;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::group::check::{Match, Pattern, Regex};

/// Most bytes of one value.
const BYTES_MAX: usize = 4_096;
/// Longest regular expression, in bytes.
const REGEX_LEN_MAX: usize = 1_024;

const BYTES_EXPECTED: &str = "text, or {\"hex\": \"…\"}";

/// Bytes: text, or an object with hexadecimal digits.
pub(in crate::config) struct Bytes;

pub(in crate::config) const fn bytes() -> Bytes {
    Bytes
}

impl Bytes {
    fn read_text(reader: &mut Reader, place: &Place, text: &str) -> Result<Vec<u8>, String> {
        if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
            let len = c.len_utf8();
            reader.doubts.push(format!(
                "{place}: \"{}\" is sent as {len} bytes of UTF-8; expected {{\"hex\": \"…\"}} for other bytes",
                echo(&c.to_string())
            ));
        }
        within_bounds(text.as_bytes().to_vec())
    }

    fn read_object(reader: &mut Reader, place: &Place, value: &Value, object: &ast::Object) -> Option<Vec<u8>> {
        let [property] = &object.properties[..] else {
            return report(reader, place, value, Err(wrong(value, BYTES_EXPECTED)));
        };
        let inner = Place::Key(place, property.name.as_str());
        if property.name.as_str() != "hex" {
            let message = format!("unknown key \"{}\"; expected hex", echo(property.name.as_str()));
            reader.problems.add(property.range.start, inner, message);
            return None;
        }
        let text = property
            .value
            .as_string_lit()
            .ok_or_else(|| wrong(&property.value, "hexadecimal bytes, such as \"0d 0a\""));
        let bytes = text.and_then(|text| unhex(&text.value)).and_then(within_bounds);
        report(reader, &inner, &property.value, bytes)
    }
}

/// Bytes as pairs of hexadecimal digits, with blanks between them or not.
fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for word in text.split_ascii_whitespace() {
        let mut rest = word;
        while !rest.is_empty() {
            let (pair, after) = rest.split_at(rest.char_indices().nth(2).map_or(rest.len(), |(at, _)| at));
            let is_hex = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            let byte = u8::from_str_radix(pair, 16).ok().filter(|_| is_hex);
            bytes.push(byte.ok_or_else(|| {
                format!("\"{}\" is no hexadecimal byte; expected two digits of 0-9 and a-f for each", echo(pair))
            })?);
            rest = after;
        }
    }
    Ok(bytes)
}

fn within_bounds(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    match bytes.len() {
        0 => Err("there is nothing in it; expected at least one byte".to_owned()),
        1..=BYTES_MAX => Ok(bytes),
        len => Err(format!("{len} bytes are too many; expected at most {BYTES_MAX}")),
    }
}

impl Describe for Bytes {
    fn schema(&self) -> serde_json::Value {
        let text = json!({ "type": "string", "minLength": 1, "maxLength": BYTES_MAX });
        let hex = json!({ "type": "string", "pattern": "^( *[0-9a-fA-F]{2})+ *$" });
        let hex = json!({ "type": "object", "additionalProperties": false, "required": ["hex"], "properties": { "hex": hex } });
        json!({ "anyOf": [text, hex] })
    }

    fn expected(&self) -> String {
        BYTES_EXPECTED.to_owned()
    }
}

impl Kind for Bytes {
    type Value = Vec<u8>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Vec<u8>> {
        match value {
            Value::StringLit(text) => {
                let bytes = Self::read_text(reader, place, &text.value);
                report(reader, place, value, bytes)
            }
            Value::Object(object) => Self::read_object(reader, place, value, object),
            _ => report(reader, place, value, Err(wrong(value, BYTES_EXPECTED))),
        }
    }

    /// As text where it is plain text.
    fn write(&self, value: &Vec<u8>, _: &Style) -> String {
        let is_plain = |b: &u8| matches!(b, b' '..=b'~' | b'\r' | b'\n' | b'\t');
        match std::str::from_utf8(value) {
            Ok(text) if value.iter().all(is_plain) => quoted(text),
            _ => format!("{{ \"hex\": \"{}\" }}", hex(value)),
        }
    }
}

const MATCH_EXPECTED: &str = "text that the answer begins with, or an object with prefix, contains or regex";

/// What an answer has to be like.
pub(in crate::config) struct Matching;

pub(in crate::config) const fn matching() -> Matching {
    Matching
}

impl Matching {
    fn read_object(reader: &mut Reader, place: &Place, value: &Value, object: &ast::Object) -> Option<Match> {
        let (mut pattern, mut is_not, mut count, mut is_right) = (None, false, 0, true);
        for property in &object.properties {
            let (name, value) = (property.name.as_str(), &property.value);
            let place = Place::Key(place, name);
            match name {
                "not" => match value.as_boolean_lit() {
                    Some(switch) => is_not = switch.value,
                    None => {
                        is_right = report::<()>(reader, &place, value, Err(wrong(value, "true or false"))).is_some()
                    }
                },
                "prefix" | "contains" | "regex" => {
                    count += 1;
                    pattern = Self::read_pattern(reader, &place, name, value);
                    is_right &= pattern.is_some();
                }
                _ => {
                    let message =
                        format!("unknown key \"{}\"; expected one of prefix, contains, regex, not", echo(name));
                    reader.problems.add(property.range.start, place, message);
                    is_right = false;
                }
            }
        }
        if is_right && count != 1 {
            return report(reader, place, value, Err("expected exactly one of prefix, contains and regex".to_owned()));
        }
        is_right.then_some(Match { pattern: pattern?, is_not })
    }

    fn read_pattern(reader: &mut Reader, place: &Place, name: &str, value: &Value) -> Option<Pattern> {
        match name {
            "prefix" => Bytes.read(reader, place, value).map(Pattern::Prefix),
            "contains" => Bytes.read(reader, place, value).map(Pattern::Contains),
            _ => report(reader, place, value, regex(value).map(Pattern::Regex)),
        }
    }
}

fn regex(value: &Value) -> Result<Regex, String> {
    let text = value.as_string_lit().filter(|text| !text.value.is_empty());
    let text = text.ok_or_else(|| wrong(value, "a regular expression"))?;
    if text.value.len() > REGEX_LEN_MAX {
        return Err(format!("{} bytes are too many; expected at most {REGEX_LEN_MAX}", text.value.len()));
    }
    Regex::new(&text.value).map_err(|why| format!("{}: {why}", shown(value)))
}

impl Describe for Matching {
    fn schema(&self) -> serde_json::Value {
        let bytes = Bytes.schema();
        let object = json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "prefix": bytes,
                "contains": bytes,
                "regex": { "type": "string", "minLength": 1, "maxLength": REGEX_LEN_MAX },
                "not": { "type": "boolean" },
            },
        });
        json!({ "anyOf": [{ "type": "string", "minLength": 1, "maxLength": BYTES_MAX }, object] })
    }

    fn expected(&self) -> String {
        MATCH_EXPECTED.to_owned()
    }
}

impl Kind for Matching {
    type Value = Match;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Match> {
        match value {
            Value::StringLit(_) => {
                let pattern = Pattern::Prefix(Bytes.read(reader, place, value)?);
                Some(Match { pattern, is_not: false })
            }
            Value::Object(object) => Self::read_object(reader, place, value, object),
            _ => report(reader, place, value, Err(wrong(value, MATCH_EXPECTED))),
        }
    }

    /// A prefix that is text in its short form.
    fn write(&self, value: &Match, style: &Style) -> String {
        let (name, pattern) = match &value.pattern {
            Pattern::Prefix(bytes) => ("prefix", Bytes.write(bytes, style)),
            Pattern::Contains(bytes) => ("contains", Bytes.write(bytes, style)),
            Pattern::Regex(regex) => ("regex", quoted(regex.as_str())),
        };
        match value.is_not {
            true => format!("{{ \"{name}\": {pattern}, \"not\": true }}"),
            false if name == "prefix" && pattern.starts_with('"') => pattern,
            false => format!("{{ \"{name}\": {pattern} }}"),
        }
    }
}
