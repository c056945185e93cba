//! What routes are made of: server names, protocols, and the groups they lead to.

use std::net::IpAddr;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::plain::{report, text_of, wrong};
use super::section::elements;
use crate::config::key::{Describe, Kind, Style};
use crate::config::object::shown;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::group::{GroupId, RouteTo, SniMatch, is_name};

/// Most server names of a route.
const NAMES_MAX: usize = 1_000;
/// Longest name and longest label of DNS.
const NAME_LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;
/// Longest protocol that a hello can offer.
const PROTOCOL_LEN_MAX: usize = 255;
/// Stands for any name, and for none.
const ANY: &str = "*";
const OWN: &str = "self";
const CLOSE: &str = "close";

/// The server names of a route.
pub(in crate::config) struct Sni;

pub(in crate::config) const fn sni() -> Sni {
    Sni
}

impl Describe for Sni {
    fn schema(&self) -> serde_json::Value {
        let names = json!({ "type": "array", "minItems": 1, "maxItems": NAMES_MAX, "items": { "type": "string" } });
        json!({ "anyOf": [names, { "enum": [ANY, null] }] })
    }

    fn expected(&self) -> String {
        format!("a list of 1 to {NAMES_MAX} names, null, or \"{ANY}\"")
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for Sni {
    type Value = SniMatch;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<SniMatch> {
        match value {
            Value::NullKeyword(_) => return Some(SniMatch::Missing),
            Value::StringLit(text) if text.value == ANY => return Some(SniMatch::Any),
            Value::Array(list) if !list.elements.is_empty() => {}
            _ => {
                reader.problems.add(value.start(), place, wrong(value, &self.expected()));
                return None;
            }
        }
        let list = elements(reader, place, value, NAMES_MAX)?;
        let names = list.iter().enumerate();
        let names: Vec<_> = names
            .map(|(index, value)| report(reader, &Place::Index(place, index), value, server_name(value)))
            .collect();
        names.into_iter().collect::<Option<_>>().map(SniMatch::Names)
    }

    fn write(&self, value: &SniMatch, _: &Style) -> String {
        match value {
            SniMatch::Any => quoted(ANY),
            SniMatch::Missing => "null".to_owned(),
            SniMatch::Names(names) => {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                format!("[{}]", names.join(", "))
            }
        }
    }
}

/// A name as hellos have it, or one with `*.` in front.
fn server_name(value: &Value) -> Result<String, String> {
    let text = text_of(value, "a server name, such as \"db.example.com\" or \"*.example.com\"")?;
    let say = |expected: &str| Err(format!("{} is no server name; expected {expected}", shown(value)));
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(is_fit);
    match () {
        () if !text.is_ascii() => say("its form for DNS, which begins with xn--"),
        () if text.bytes().any(|b| b.is_ascii_uppercase()) => say("lower case"),
        () if text.parse::<IpAddr>().is_ok() => {
            say("a name: clients that ask for an address send none (\"sni\": null)")
        }
        () if text == ANY => say("a name, or \"sni\": \"*\" without the list"),
        () if name.contains('*') => say("* only as the whole first label, such as \"*.example.com\""),
        () if text.ends_with('.') => say("no dot at its end"),
        () if text.len() > NAME_LEN_MAX => say(&format!("at most {NAME_LEN_MAX} characters")),
        () if !name.split('.').all(is_label) => {
            say("labels of 1 to 63 letters, digits and hyphens with dots between them")
        }
        () => Ok(text.to_owned()),
    }
}

/// A protocol of ALPN.
pub(in crate::config) struct Alpn;

pub(in crate::config) const fn alpn() -> Alpn {
    Alpn
}

impl Describe for Alpn {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "string", "minLength": 1, "maxLength": PROTOCOL_LEN_MAX })
    }

    fn expected(&self) -> String {
        format!("a protocol of at most {PROTOCOL_LEN_MAX} bytes, such as \"h2\"")
    }
}

impl Kind for Alpn {
    type Value = String;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<String> {
        let protocol = text_of(value, &self.expected()).and_then(|text| match text.len() <= PROTOCOL_LEN_MAX {
            true => Ok(text.to_owned()),
            false => Err(wrong(value, &self.expected())),
        });
        report(reader, place, value, protocol)
    }

    fn write(&self, value: &String, _: &Style) -> String {
        quoted(value)
    }
}

/// A group of the file, by its port or its name.
pub(in crate::config) struct GroupOfFile;

pub(in crate::config) const fn group_of_file() -> GroupOfFile {
    GroupOfFile
}

fn group_id(value: &Value) -> Option<GroupId> {
    match value {
        Value::NumberLit(number) => number.value.parse::<u16>().ok().filter(|port| *port > 0).map(GroupId::from),
        Value::StringLit(text) if is_name(&text.value) => Some(GroupId::named(&text.value)),
        _ => None,
    }
}

fn id_text(id: &GroupId) -> String {
    id.as_port().map_or_else(|| quoted(id.as_str()), |port| port.to_string())
}

impl Describe for GroupOfFile {
    fn schema(&self) -> serde_json::Value {
        json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": u16::MAX }, { "type": "string" }] })
    }

    fn expected(&self) -> String {
        "the port or the name of a group".to_owned()
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for GroupOfFile {
    type Value = GroupId;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<GroupId> {
        report(reader, place, value, group_id(value).ok_or_else(|| wrong(value, &self.expected())))
    }

    fn write(&self, value: &GroupId, _: &Style) -> String {
        id_text(value)
    }
}

/// Where clients go that no route takes.
pub(in crate::config) struct RouteToKind;

pub(in crate::config) const fn route_to() -> RouteToKind {
    RouteToKind
}

impl Describe for RouteToKind {
    fn schema(&self) -> serde_json::Value {
        group_of_file().schema()
    }

    fn expected(&self) -> String {
        format!("{OWN}, {CLOSE}, or {}", group_of_file().expected())
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }
}

impl Kind for RouteToKind {
    type Value = RouteTo;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<RouteTo> {
        let to = match value.as_string_lit().map(|text| &*text.value) {
            Some(OWN) => Ok(RouteTo::Own),
            Some(CLOSE) => Ok(RouteTo::Close),
            _ => group_id(value).map(RouteTo::Group).ok_or_else(|| wrong(value, &self.expected())),
        };
        report(reader, place, value, to)
    }

    fn write(&self, value: &RouteTo, _: &Style) -> String {
        match value {
            RouteTo::Own => quoted(OWN),
            RouteTo::Close => quoted(CLOSE),
            RouteTo::Group(id) => id_text(id),
        }
    }
}
