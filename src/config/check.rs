//! Conditions between values: unique names, distinct addresses, and servers that cannot be right.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::fields::AdminSettings;
use super::kinds::{AdminListen, check_labels};
use super::loops::check_loops;
use super::reach::{overlap, reaches};
use super::reader::{Listens, Reader};
use super::routes::check_routes;
use crate::group::{GroupId, GroupSettings};
use crate::server::{ServerAddr, ServerSettings, WEIGHT_RANGE};

/// Reports what does not fit together in the whole file.
pub(super) fn check(reader: &mut Reader) {
    check_names(reader);
    check_listeners(reader);
    check_servers(reader);
    check_routes(reader);
    check_loops(reader);
}

/// Reports names that occur twice, names that are the port of another group, and groups that need a name.
fn check_names(reader: &mut Reader) {
    let (problems, listeners) = (&mut reader.problems, &reader.listeners);
    let mut first_at: HashMap<&str, usize> = HashMap::new();
    for named in &reader.names {
        let path = format!("groups[{}].name", named.group);
        let Some(name) = &named.name else {
            let mut own = listeners.iter().filter(|listens| listens.group == Some(named.group));
            let port = own.next().map(|listens| listens.addr.port());
            if let Some(other) = own.find(|listens| Some(listens.addr.port()) != port) {
                let message = "the group listens on several ports; expected a name for it";
                problems.add(other.offset, &other.path, message);
            }
            continue;
        };
        if let Some(first) = first_at.get(&**name) {
            let message = format!("\"{name}\" is groups[{first}].name already; expected a name of its own");
            problems.add(named.offset, &path, message);
        }
        first_at.entry(name).or_insert(named.group);
        let port = GroupId::named(name).as_port();
        let is_other = |listens: &&Listens| {
            listens.group.is_some_and(|group| group != named.group) && Some(listens.addr.port()) == port
        };
        if let Some(other) = listeners.iter().find(is_other) {
            let message = format!(
                "\"{name}\" is the port of {}; expected a name that is not the port of another group",
                other.path
            );
            problems.add(named.offset, &path, message);
        }
    }
}

/// Reports every address that an earlier one takes already. Groups may share a port on different addresses if each of
/// them has a name.
fn check_listeners(reader: &mut Reader) {
    let named: HashMap<usize, bool> = reader.names.iter().map(|named| (named.group, named.name.is_some())).collect();
    let has_name = |group: usize| named.get(&group).is_some_and(|has_name| *has_name);
    let mut by_port: HashMap<u16, Vec<&Listens>> = HashMap::new();
    for late in &reader.listeners {
        let port = late.addr.port();
        let taken = by_port.entry(port).or_default();
        let same_place = taken.iter().find(|early| overlap(early.addr.ip(), late.addr.ip()));
        let same_id = |early: &&&Listens| match (early.group, late.group) {
            (Some(early), Some(late)) => early != late && !(has_name(early) && has_name(late)),
            _ => false,
        };
        if let Some(early) = same_place {
            let message = match early.group == late.group && late.group.is_some() {
                true if early.addr == late.addr => {
                    format!("\"{}\" is {} already; expected each address once", late.addr, early.path)
                }
                true => format!(
                    "\"{}\" overlaps {}, \"{}\"; expected addresses that do not overlap",
                    late.addr, early.path, early.addr
                ),
                false => format!("port {port} is taken by {}; expected a port of its own", early.path),
            };
            reader.problems.add(late.offset, &late.path, message);
        } else if let Some(early) = taken.iter().find(same_id) {
            let owner = &early.path;
            let message =
                format!("port {port} is taken by {owner}; expected a port of its own, or a name for each group");
            reader.problems.add(late.offset, &late.path, message);
        } else {
            taken.push(late);
        }
    }
}

/// Reports servers that cannot be right, and servers that occur twice.
fn check_servers(reader: &mut Reader) {
    let mut groups: HashMap<Option<usize>, Vec<SocketAddr>> = HashMap::new();
    reader.listeners.iter().for_each(|listens| groups.entry(listens.group).or_default().push(listens.addr));
    let listens = |group: Option<usize>| groups.get(&group).map_or(&[][..], Vec::as_slice);
    let mut first_at: HashMap<(usize, &ServerAddr), usize> = HashMap::with_capacity(reader.servers.len());
    let mut names: HashMap<(usize, &str), usize> = HashMap::new();
    let expanded = reader.servers.iter().filter(|server| server.is_expanded);
    let expanded: HashSet<(usize, &str)> = expanded.map(|server| (server.group, server.addr.as_str())).collect();
    for server in &reader.servers {
        if let Err(message) = check_server_addr(&server.addr, listens(Some(server.group)), listens(None)) {
            reader.problems.add(server.offset, server.path(), message);
        }
        if server.addr.is_one_of_name() && !expanded.contains(&(server.group, server.addr.host_port())) {
            let (addr, name) = (&server.addr, server.addr.host_port());
            let message = format!("\"{addr}\" is one address of \"{name}\"; expected a server \"{name}\" with expand");
            reader.problems.add(server.offset, server.path(), message);
        }
        match first_at.entry((server.group, &server.addr)) {
            Entry::Vacant(entry) => _ = entry.insert(server.index),
            Entry::Occupied(first) => {
                let (addr, first) = (&server.addr, first.get());
                let message = format!("\"{addr}\" is servers[{first}] already; expected each server once");
                reader.problems.add(server.offset, server.path(), message);
            }
        }
        let Some(name) = server.name.as_deref() else { continue };
        match names.entry((server.group, name)) {
            Entry::Vacant(entry) => _ = entry.insert(server.index),
            Entry::Occupied(first) => {
                let message =
                    format!("\"{name}\" is servers[{}].name already; expected a name of its own", first.get());
                let path = format!("groups[{}].servers[{}].name", server.group, server.index);
                reader.problems.add(server.offset, path, message);
            }
        }
    }
}

/// The addresses of the admin endpoints that are TCP sockets.
pub(super) fn admin_sockets(admin: &AdminSettings) -> impl Iterator<Item = SocketAddr> {
    let admin_listen = match admin.listen {
        AdminListen::Tcp(addr) => Some(addr),
        AdminListen::Unix(_) => None,
    };
    admin_listen.into_iter().chain(admin.pprof_listen).chain(admin.metrics_listen)
}

/// Checks the address of a server of this group. A server that is the group itself would make every session open
/// another one.
fn check_server_addr(addr: &ServerAddr, group: &[SocketAddr], admin: &[SocketAddr]) -> Result<(), String> {
    if let Some(ip) = addr.literal().map(|socket| socket.ip())
        && (ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
    {
        return Err(format!("\"{addr}\" is not the address of a single machine; expected the address of one server"));
    }
    if group.iter().any(|listen| reaches(addr, *listen)) {
        return Err(format!("\"{addr}\" is the group itself; expected a server behind it"));
    }
    if admin.iter().any(|listen| reaches(addr, *listen)) {
        return Err(format!("\"{addr}\" is the admin port; expected a server for clients"));
    }
    Ok(())
}

/// Checks a server that is to be added to this group.
pub(super) fn check_server(
    server: &ServerSettings,
    group: &GroupSettings,
    admin: &AdminSettings,
) -> Result<(), String> {
    let (listen, admin): (Vec<_>, Vec<_>) = (group.listen.iter().collect(), admin_sockets(admin).collect());
    check_server_addr(&server.addr, &listen, &admin)?;
    check_weight(server.weight)?;
    check_labels(&server.labels)
}

/// Checks a weight.
pub(super) fn check_weight(weight: u16) -> Result<(), String> {
    let (min, max) = (WEIGHT_RANGE.start(), WEIGHT_RANGE.end());
    if WEIGHT_RANGE.contains(&weight) {
        return Ok(());
    }
    Err(format!("weight {weight} is out of range; expected {min} to {max}"))
}
