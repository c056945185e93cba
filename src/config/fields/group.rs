//! The keys of a group, and of `defaults`, which takes those that groups can share.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;
use serde_json::json;

use super::access::access_log;
use super::check::{check_check, check_eject, check_tls_of_check, is_check_key};
use super::on_down::OnDownKind;
use super::route::{note_routes, route};
use super::server_tls::server_tls;
use super::servers::{Servers, lines};
use super::tls::tls;
use super::{MINUTE_MS, YEAR_MS};
use crate::config::declare::{Fields, settings};
use crate::config::key::{Change, Describe, Effect, Kind, Style, Table, from_to, keys};
use crate::config::kinds::{
    Time, access_choice, allow_list, deny_list, elements, list, name, object_schema, object_text, optional, policy,
    rate, route_to, section, section_with, shared, sockets, switch, time, time_or_zero, whole, with_tls, word,
};
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::{Listens, Named, Reader};
use crate::group::{AcceptProxy, ClientTcp, GroupSettings, Listen, OnDown, RouteTo, ServerTcp, Starttls};
use crate::limits::{AddressList, ClientLimits};
use crate::policy::spec::PolicySpec;
use crate::server::{SendProxy, ServerAddr, ServerSettings};

/// Most groups in a file.
pub const GROUPS_MAX: usize = 4_096;
/// Most routes of a group.
const ROUTES_MAX: usize = 1_000;

/// What `idle_timeout` may be.
pub(in crate::config) const IDLE_TIMEOUT: Time = time_or_zero(1, YEAR_MS);
/// What `heartbeat_timeout` may be.
pub(in crate::config) const HEARTBEAT_TIMEOUT: Time = time(1, YEAR_MS);

/// Stands for the address of `defaults`, which has none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

settings! {
    impl GroupSettings {
        /// What the group is called in requests, logs and metrics, beside its address; unique. Without a name it is called
        /// by its port.
        [own None] name as optional(name::<String>()), AtOnce;
        /// Where the group listens: ip:port, or a list of them. Groups may share a port on different addresses if each has a
        /// name.
        [own Listen::from(NOWHERE)] listen as sockets(), AtOnce;
        /// False: the group is kept but does not listen.
        open as switch() => true, AtOnce;
        /// True: an address that this machine does not have yet, or a port that is taken, refuses neither the start nor a reload.
        /// The group waits for it and tries every second; meanwhile /ready says no.
        bind_retry as switch() => false, AtOnce;
        /// How a server is picked for a new client. wasm:NAME is a module of policies_dir; the object says more about one.
        policy as policy() => PolicySpec::default(), NewSessions;
        /// How long one attempt to connect may take.
        connect_timeout as time(1, 10 * MINUTE_MS) => Duration::from_secs(2), NewSessions;
        /// How many servers are tried for one client.
        connect_attempts as whole::<u32>(1, 100) => 3, NewSessions;
        /// When every server that was asked refuses the connection and none is left, the client is held for so long, and they are
        /// asked again every 250 ms: a server that restarts turns nobody away. 0s: it is not held.
        connect_wait as time_or_zero(1, MINUTE_MS) => Duration::from_secs(1), NewSessions;
        /// A server that failed to answer is tried by the proxy itself, first after 250 ms and then less and less often,
        /// but at least this often, until it answers; clients are sent elsewhere meanwhile.
        recheck_max as time(250, MINUTE_MS) => Duration::from_secs(2), AtOnce;
        /// How the group's servers are checked; null for no checks.
        check as optional(shared(section_with(check_check).written_where(is_check_key))), AtOnce;
        /// True: when no other server is left for a client, those are tried that only failed checks or an ejection keep out.
        fail_open as switch() => true, NewSessions;
        /// Keeps servers out for a while that fail the sessions they get; null for never.
        eject as optional(section_with(check_eject)), AtOnce;
        /// What becomes of the sessions of a server that goes: keep (they go on) or close. A server that is drained or suspect
        /// keeps its sessions in any case.
        on_down as OnDownKind => OnDown::default(), AtOnce;
        /// The time over which the sessions of a server are closed, evenly, when on_down closes them. Those that are left when the
        /// server is back go on.
        close_spread as time_or_zero(1, 60 * MINUTE_MS) => Duration::ZERO, AtOnce;
        /// A session ends when neither side has sent anything for so long, or when one side has acknowledged nothing of what was sent to
        /// it; 0s for never.
        idle_timeout as IDLE_TIMEOUT => Duration::from_secs(600), AtOnce;
        /// A session ends when one side has finished and the other is silent for so long; 0s for never, null for as long as
        /// idle_timeout.
        half_close_timeout as optional(time_or_zero(1, YEAR_MS)), AtOnce;
        /// A session ends at this age, so that clients which stay connected come to new servers; 0s for never. Each one gets 90
        /// to 100 % of it, so that they do not all come back at once.
        max_session_age as time_or_zero(1_000, 30 * 24 * 60 * MINUTE_MS) => Duration::ZERO, AtOnce;
        /// What is set on the clients' connections.
        client_tcp as section::<ClientTcp>(), NewSessions;
        /// What is set on the connections to servers.
        server_tcp as section::<ServerTcp>(), NewSessions;
        /// How long a server that registered itself stays online after its last heartbeat.
        heartbeat_timeout as HEARTBEAT_TIMEOUT => Duration::from_secs(5), AtOnce;
        /// A server that registered itself and has not been heard of for so long is taken out of the group and of this file,
        /// unless it is in maintenance; 0s for never. After a start the time begins anew.
        forget_after as time_or_zero(1, YEAR_MS) => Duration::ZERO, AtOnce;
        /// Sessions of the group at a time; 0 for no limit.
        max_sessions as whole::<u32>(0, u32::MAX as u64) => 0, NewSessions;
        /// New sessions of the group; null for no limit.
        session_rate as optional(rate()), NewSessions;
        /// What each client may do, by its address; null for clients that are neither limited nor counted.
        client as optional(section::<ClientLimits>()), NewSessions;
        /// Only clients of these networks are let in; an empty list lets everybody in. file:PATH (relative to the folder of
        /// this file) names a file with one network or address a line, which is read again when it changes.
        allow as allow_list() => AddressList::default(), NewSessions;
        /// Clients of these networks are not let in, whatever allow says; written as allow is.
        deny as deny_list() => AddressList::default(), NewSessions;
        /// Proxies in front of the group that tell the client's address in a header of the PROXY protocol; null: there are none.
        accept_proxy as optional(shared(section::<AcceptProxy>())), NewSessions;
        /// How the group speaks TLS to its clients; null: it does not, and passes on what they send as it is.
        tls as optional(shared(with_tls(tls()))), NewSessions;
        /// How the group speaks TLS to its servers; null: it does not.
        server_tls as optional(shared(with_tls(server_tls()))), NewSessions;
        /// The header of the PROXY protocol that servers get in front of what the client sends. A server may want another one.
        send_proxy as word::<SendProxy>() => SendProxy::None, NewSessions;
        /// True: a header of version 2 tells the session's id, in 16 hexadecimal digits.
        proxy_unique_id as switch() => false, NewSessions;
        /// Which groups get the clients, by the name and the protocols in the TLS hello that each of them sends first; null: hellos are
        /// not looked at, and every client gets one of the servers. Nothing is decrypted.
        [own None] routes as optional(shared(list(route(), ROUTES_MAX))), NewSessions;
        /// Where a client goes whose hello no route takes: self (to the servers of this group), close (nowhere), or another group, by
        /// its port or its name. Only with routes.
        [own RouteTo::Own] route_default as route_to() => RouteTo::Own, NewSessions;
        /// Where a client goes that does not speak TLS, or says nothing within hello_timeout; written as route_default is. Only with
        /// routes.
        [own RouteTo::Own] route_plain as route_to() => RouteTo::Own, NewSessions;
        /// How long a hello may take. Only with routes.
        hello_timeout as time(100, MINUTE_MS) => Duration::from_secs(5), NewSessions;
        /// postgresql: a client may ask for TLS before its hello, as PostgreSQL's clients do (SSLRequest); it is granted, and with routes
        /// asked for again at the server. none: not at all. Only with routes or tls.
        [own Starttls::None] starttls as word::<Starttls>() => Starttls::None, NewSessions;
        /// An access log of the group's own; null for that of the whole process, off for none.
        access_log as access_choice(access_log()), AtOnce;
    }
}

settings! {
    /// What a group has beside its settings.
    struct GroupServers {
        /// The servers in order, each host:port or an object; no two have the same address.
        servers: Vec<ServerSettings> as Servers => Vec::new(), AtOnce;
    }
}

/// A group as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// Everything but the servers.
    pub settings: GroupSettings,
    /// In the order of the file; addresses are unique within the group.
    pub servers: Vec<ServerSettings>,
}

/// The keys of a group.
const GROUP: Table = &[GroupSettings::TABLE[0], GroupServers::TABLE[0]];

impl GroupConfig {
    fn read(reader: &mut Reader, object: &Object) -> Option<Self> {
        let base = reader.base.clone();
        let settings = GroupSettings::read(reader, object, base.as_ref());
        if let Some(settings) = &settings {
            note(reader, object, settings);
        }
        let servers = GroupServers::read(reader, object, None);
        let (settings, servers) = (settings?, servers?.servers);
        let own = || (object.offset("policy"), Place::Key(object.place, "policy").to_string());
        let policy = if object.says("policy") { own() } else { reader.default_policy.clone() };
        reader.policies.push(policy);
        Some(Self { settings, servers })
    }

    /// What has changed since `old`, in words: `policy round_robin → ha`, `servers +1 −0`.
    pub fn words_since(&self, old: &Self) -> Vec<String> {
        let style = Style::default();
        let (is, was) =
            (self.settings.differing(&old.settings, &style), old.settings.differing(&self.settings, &style));
        let keys = was.iter().zip(&is).map(|((name, was), (_, is))| format!("{name} {}", from_to(was, is)));
        keys.chain(self.server_words(old)).collect()
    }

    fn server_words(&self, old: &Self) -> Option<String> {
        let (before, after) = (by_addr(&old.servers), by_addr(&self.servers));
        let added = after.keys().filter(|addr| !before.contains_key(*addr)).count();
        let removed = before.keys().filter(|addr| !after.contains_key(*addr)).count();
        let changed = after.iter().filter(|(addr, server)| before.get(*addr).is_some_and(|old| old != *server)).count();
        let mut words = Vec::new();
        if added + removed > 0 {
            words.push(format!("+{added} −{removed}"));
        }
        if changed > 0 {
            words.push(format!("{changed} changed"));
        }
        (!words.is_empty()).then(|| format!("servers {}", words.join(", ")))
    }

    fn text(&self, style: &Style) -> String {
        let mut values = self.settings.write(&style.deeper());
        values.push(("servers", Servers.write(&self.servers, &style.deeper())));
        object_text(&values, style)
    }
}

fn by_addr(servers: &[ServerSettings]) -> HashMap<&ServerAddr, &ServerSettings> {
    servers.iter().map(|server| (&server.addr, server)).collect()
}

/// Notes what a group is called and where it listens.
fn note(reader: &mut Reader, object: &Object, settings: &GroupSettings) {
    let index = reader.group;
    reader.names.push(Named {
        group: index,
        name: settings.name.clone(),
        offset: object.offset("name"),
        has_routes: settings.routes.is_some(),
        accepts_proxy: settings.accept_proxy.is_some(),
        speaks_tls: settings.tls.is_some(),
        speaks_server_tls: settings.server_tls.is_some(),
    });
    if settings.tls.is_some() && settings.routes.is_some() {
        let message = "the group has routes, which pass TLS on as it is; expected only one of the two";
        reader.problems.add(object.offset("tls"), Place::Key(object.place, "tls"), message);
    }
    check_tls_of_check(reader, object, settings);
    note_routes(reader, object, settings);
    let place = Place::Key(object.place, "listen");
    let list = object.value("listen").and_then(Value::as_array);
    for (at, addr) in settings.listen.iter().enumerate() {
        let (offset, path) = match list.and_then(|list| list.elements.get(at)) {
            Some(value) => (value.start(), Place::Index(&place, at).to_string()),
            None => (object.offset("listen"), place.to_string()),
        };
        reader.listeners.push(Listens { addr, offset, path, group: Some(index) });
    }
}

/// The groups of a file.
pub(super) struct Groups;

pub(super) const fn groups() -> Groups {
    Groups
}

impl Describe for Groups {
    fn schema(&self) -> serde_json::Value {
        json!({ "type": "array", "maxItems": GROUPS_MAX, "items": object_schema(GROUP, false) })
    }

    fn expected(&self) -> String {
        format!("a list of at most {GROUPS_MAX}")
    }

    fn is_more_than_its_schema(&self) -> bool {
        true
    }

    fn tables(&self, name: &str) -> Vec<(String, Table)> {
        vec![(format!("{name}[]."), GROUP)]
    }
}

impl Kind for Groups {
    type Value = Vec<GroupConfig>;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<Self::Value> {
        let list = elements(reader, place, value, GROUPS_MAX)?;
        let groups = list.iter().enumerate().filter_map(|(index, value)| {
            reader.group = index;
            let place = Place::Index(place, index);
            let object = Object::open(reader, value, &place, GROUP, false)?;
            GroupConfig::read(reader, &object)
        });
        Some(groups.collect())
    }

    fn write(&self, value: &Self::Value, style: &Style) -> String {
        let groups: Vec<String> = value.iter().map(|group| group.text(&style.deeper())).collect();
        lines(&groups, style)
    }

    /// Groups are compared one by one, by whoever applies the difference.
    fn changes(&self, _: (&str, Effect), _: &Self::Value, _: &Self::Value, _: &mut Vec<Change>) {}
}

/// What groups share unless they say otherwise.
pub(super) struct Defaults;

pub(super) const fn shared_by_groups() -> Defaults {
    Defaults
}

impl Describe for Defaults {
    fn schema(&self) -> serde_json::Value {
        object_schema(GroupSettings::TABLE, true)
    }

    fn expected(&self) -> String {
        "an object".to_owned()
    }

    fn implied_default(&self) -> Option<String> {
        Some("{}".to_owned())
    }
}

impl Kind for Defaults {
    type Value = GroupSettings;

    fn read(&self, reader: &mut Reader, place: &Place, value: &Value) -> Option<GroupSettings> {
        let object = Object::open(reader, value, place, GroupSettings::TABLE, true)?;
        reader.base = GroupSettings::read(reader, &object, None);
        reader.default_policy = (object.offset("policy"), Place::Key(place, "policy").to_string());
        reader.base.clone()
    }

    fn absent(&self, reader: &mut Reader, place: &Place) -> Option<GroupSettings> {
        reader.base = GroupSettings::read(reader, &Object::missing(place, true), None);
        reader.base.clone()
    }

    fn write(&self, value: &GroupSettings, style: &Style) -> String {
        let shared: Vec<&str> = keys(GroupSettings::TABLE, true).map(|key| key.name).collect();
        let mut values = value.write(&style.deeper());
        values.retain(|(name, _)| shared.contains(name));
        object_text(&values, style)
    }

    /// A default changes something only where a group takes it, and then that group is another.
    fn changes(&self, _: (&str, Effect), _: &GroupSettings, _: &GroupSettings, _: &mut Vec<Change>) {}
}
