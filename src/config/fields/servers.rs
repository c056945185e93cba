//! The servers of a group in the file.

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::server::server_text;
use crate::config::declare::Fields;
use crate::config::key::{Describe, Kind, Style, Table, keys};
use crate::config::kinds::{elements, key_schema, object_schema, server_address, wrong};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::{Reader, Serves};
use crate::server::{Origin, ServerSettings};

/// Most servers of a group in a file.
pub const SERVERS_MAX: usize = 65_536;

/// The servers of a group.
pub(super) struct Servers;

impl Describe for Servers {
    fn schema(&self) -> serde_json::Value {
        let addr = keys(ServerSettings::TABLE, false).find(|key| key.name == "addr").map(key_schema);
        let items = json!({ "anyOf": [addr, object_schema(ServerSettings::TABLE, false)] });
        json!({ "type": "array", "maxItems": SERVERS_MAX, "items": items })
    }

    fn expected(&self) -> String {
        format!("a list of at most {SERVERS_MAX}")
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        vec![(format!("{name}[]."), ServerSettings::TABLE)]
    }
}

impl Kind for Servers {
    type Value = Vec<ServerSettings>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        let list = elements(reader, place, value, SERVERS_MAX)?;
        let mut servers = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let place = Place::Index(place, index);
            let is_plain = value.as_string_lit().is_some();
            let read = if is_plain { plain(reader, &place, value) } else { full(reader, &place, value) };
            let Some((server, offset)) = read else { continue };
            let (addr, name, group) = (server.addr.clone(), server.name.clone(), reader.group);
            let is_expanded = server.expand;
            reader.servers.push(Serves { addr, name, is_expanded, offset, group, index, is_plain });
            servers.push(server);
        }
        Some(servers)
    }

    fn write(&self, value: &Self::Value, style: &Style) -> String {
        lines(&value.iter().map(server_text).collect::<Vec<_>>(), style)
    }
}

/// A server that is its address alone, and where that stands.
fn plain(reader: &mut Reader, place: &Place, value: &Value) -> Option<(ServerSettings, usize)> {
    let addr = server_address().read(reader, place, value)?;
    Some((ServerSettings::new(addr, Origin::File), value.start()))
}

/// A server that is an object, and where its address stands.
fn full(reader: &mut Reader, place: &Place, value: &Value) -> Option<(ServerSettings, usize)> {
    if !matches!(value, Value::Object(_)) {
        reader.problems.add(value.start(), place, wrong(value, "host:port or an object with addr"));
        return None;
    }
    let object = Object::open(reader, value, place, ServerSettings::TABLE, false)?;
    let server = ServerSettings::read(reader, &object, None)?;
    if server.expand {
        let wrong = match server.origin {
            Origin::Heartbeat => Some("the server registered itself; expected false"),
            Origin::File if server.addr.literal().is_some() => Some("the address has no name; expected name:port"),
            Origin::File => None,
        };
        if let Some(message) = wrong {
            reader.problems.add(object.offset("expand"), Place::Key(place, "expand"), message.to_owned());
        }
    }
    Some((server, object.offset("addr")))
}

/// A list, one element a line.
pub(super) fn lines(elements: &[String], style: &Style) -> String {
    if elements.is_empty() {
        return "[]".to_owned();
    }
    let indent = style.indent;
    let elements: Vec<String> = elements.iter().map(|element| format!("{:1$}{element}", "", indent + 2)).collect();
    format!("[\n{}\n{:indent$}]", elements.join(",\n"), "")
}
