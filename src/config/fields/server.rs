//! The keys of a server that is written as an object.

use std::sync::{Arc, LazyLock};

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use crate::config::declare::{Fields, settings};
use crate::config::key::{Describe, Kind, Style};
use crate::config::kinds::{labels, name, optional, section, server_address, switch, whole, word, wrong};
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::units::quoted;
use crate::server::{Origin, SendProxy, ServerCheck, ServerSettings, State, WEIGHT_RANGE};

/// A server of which only the address is known: it has every default.
static PLAIN: LazyLock<ServerSettings> =
    LazyLock::new(|| ServerSettings::new("127.0.0.1:1".parse().expect("this is an address"), Origin::File));

settings! {
    impl ServerSettings {
        /// Where the server listens: ip:port, [ipv6]:port or name:port; name:port@ip for one address of a name that is expanded.
        addr as server_address(), AtOnce;
        /// What people call the server; shown beside its address. No two servers of a group have the same.
        name as optional(name::<Arc<String>>()), AtOnce;
        /// The server's share of new sessions, compared with the others of its group.
        weight as whole::<u16>(*WEIGHT_RANGE.start() as u64, *WEIGHT_RANGE.end() as u64) => PLAIN.weight, NewSessions;
        /// True: each address that the name resolves to is a server of its own with these settings, shown as name:port@ip. A
        /// further server with such an address has settings of its own.
        expand as switch() => PLAIN.expand, AtOnce;
        /// True: used only when no other server of the group may be picked.
        backup as switch() => PLAIN.backup, NewSessions;
        /// Sessions of the server at a time; 0 for no limit.
        max_sessions as whole::<u32>(0, u32::MAX as u64) => PLAIN.max_sessions, NewSessions;
        /// The header of the PROXY protocol that this server gets; null: that of its group.
        send_proxy as optional(word::<SendProxy>()), NewSessions;
        /// ready: gets new sessions; drain and maint: gets none. Those it has go on, unless on_down closes them in maint.
        state as word::<State>() => PLAIN.state, NewSessions;
        /// false: never checked; {"port": 9100}: checked as its group says, at this port; null: as its group says.
        check as ServerCheckKind => PLAIN.check, AtOnce;
        /// Free facts about the server, such as its zone: names with text as values.
        labels as labels() => PLAIN.labels.clone(), NewSessions;
        /// file: stays until somebody takes it out; heartbeat: registered itself and is online as long as its lease
        /// lasts.
        origin as word::<Origin>() => PLAIN.origin, AtOnce;
        /// Written by the proxy: the server registered itself and its heartbeats have stopped. At the next start it is
        /// offline until its first heartbeat.
        silent as switch() => PLAIN.silent, NextStart;
    }
}

/// How a server is checked, where that differs from its group.
struct ServerCheckKind;

impl Describe for ServerCheckKind {
    fn schema(&self) -> serde_json::Value {
        let port = json!({ "type": "integer", "minimum": 1, "maximum": u16::MAX });
        let at = json!({ "type": "object", "additionalProperties": false, "required": ["port"], "properties": { "port": port } });
        json!({ "anyOf": [{ "const": false }, { "type": "null" }, at] })
    }

    fn expected(&self) -> String {
        "false, null or {\"port\": 1 to 65535}".to_owned()
    }
}

impl Kind for ServerCheckKind {
    type Value = ServerCheck;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<ServerCheck> {
        match value {
            Value::NullKeyword(_) => Some(ServerCheck::AsGroup),
            Value::BooleanLit(lit) if !lit.value => Some(ServerCheck::Never),
            Value::Object(_) => {
                let at = section::<CheckPort>().read(reader, place, value)?;
                Some(ServerCheck::Port(at.port.into()))
            }
            _ => {
                reader.problems.add(value.start(), place, wrong(value, &self.expected()));
                None
            }
        }
    }

    fn write(&self, value: &ServerCheck, _: &Style) -> String {
        match value {
            ServerCheck::AsGroup => "null".to_owned(),
            ServerCheck::Never => "false".to_owned(),
            ServerCheck::Port(port) => format!("{{ \"port\": {} }}", port.get()),
        }
    }
}

settings! {
    /// Where a server is checked.
    struct CheckPort {
        /// The port that is checked.
        port: u16 as whole::<u16>(1, u16::MAX as u64), AtOnce;
    }
}

/// A server on one line: its address alone when nothing else is to be said.
pub(in crate::config) fn server_text(server: &ServerSettings) -> String {
    let addr = quoted(server.addr.as_str());
    let keys = server.differing(&ServerSettings::new(server.addr.clone(), Origin::File), &Style::default());
    if keys.is_empty() {
        return addr;
    }
    let keys: String = keys.into_iter().map(|(name, value)| format!(", \"{name}\": {value}")).collect();
    format!("{{ \"addr\": {addr}{keys} }}")
}
