//! The keys of a server that is written as an object.

use std::sync::{Arc, LazyLock};

use crate::config::declare::{Fields, settings};
use crate::config::key::Style;
use crate::config::kinds::{labels, name, optional, server_address, switch, whole, word};
use crate::config::units::quoted;
use crate::server::{Origin, ServerSettings, State, WEIGHT_RANGE};

/// A server of which only the address is known: it has every default.
static PLAIN: LazyLock<ServerSettings> =
    LazyLock::new(|| ServerSettings::new("127.0.0.1:1".parse().expect("this is an address"), Origin::File));

settings! {
    impl ServerSettings {
        /// Where the server listens: ip:port, [ipv6]:port or name:port.
        addr as server_address(), AtOnce;
        /// What people call the server; shown beside its address. No two servers of a group have the same.
        name as optional(name::<Arc<String>>()), AtOnce;
        /// The server's share of new sessions, compared with the others of its group.
        weight as whole::<u32>(*WEIGHT_RANGE.start() as u64, *WEIGHT_RANGE.end() as u64) => PLAIN.weight, NewSessions;
        /// True: used only when no other server of the group may be picked.
        backup as switch() => PLAIN.backup, NewSessions;
        /// Sessions of the server at a time; 0 for no limit.
        max_sessions as whole::<u32>(0, u32::MAX as u64) => PLAIN.max_sessions, NewSessions;
        /// ready: gets new sessions; drain and maint: gets none, and those it has go on.
        state as word::<State>() => PLAIN.state, NewSessions;
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
