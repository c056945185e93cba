//! What must hold between values: who listens where, and which servers cannot be meant.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::fields::AdminSettings;
use super::kinds::{AdminListen, check_labels};
use super::problem::Problems;
use super::reader::{Listens, Reader};
use crate::group::GroupSettings;
use crate::server::{ServerAddr, ServerSettings, WEIGHT_RANGE};

/// Reports what does not fit together in the whole file.
pub(super) fn check(reader: &mut Reader) {
    check_listeners(&mut reader.problems, &reader.listeners);
    check_servers(reader);
}

/// Reports every address that one listed before it takes already. A port belongs to one group, whatever
/// the IPs, because the port is the group's id.
fn check_listeners(problems: &mut Problems, listeners: &[Listens]) {
    let mut by_port: HashMap<u16, Vec<&Listens>> = HashMap::new();
    for late in listeners {
        let taken = by_port.entry(late.addr.port()).or_default();
        let clash = |early: &&&Listens| {
            (early.group.is_some() && late.group.is_some()) || overlap(early.addr.ip(), late.addr.ip())
        };
        if let Some(early) = taken.iter().find(clash) {
            let (port, owner) = (late.addr.port(), &early.path);
            problems.add(
                late.offset,
                &late.path,
                format!("port {port} is taken by {owner}; expected a port of its own"),
            );
        } else {
            taken.push(late);
        }
    }
}

/// Reports servers that cannot be meant, and those that are there twice.
fn check_servers(reader: &mut Reader) {
    let (admin, groups): (Vec<&Listens>, Vec<&Listens>) =
        reader.listeners.iter().partition(|listens| listens.group.is_none());
    let admin: Vec<SocketAddr> = admin.into_iter().map(|listens| listens.addr).collect();
    let groups: HashMap<usize, SocketAddr> =
        groups.into_iter().filter_map(|listens| Some((listens.group?, listens.addr))).collect();
    let mut first_at: HashMap<(usize, &ServerAddr), usize> = HashMap::with_capacity(reader.servers.len());
    for server in &reader.servers {
        if let Err(message) = check_server_addr(&server.addr, groups.get(&server.group).copied(), &admin) {
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
    }
}

/// The addresses of the admin endpoints that are TCP sockets.
pub(super) fn admin_sockets(admin: &AdminSettings) -> impl Iterator<Item = SocketAddr> {
    let admin_listen = match admin.listen {
        AdminListen::Tcp(addr) => Some(addr),
        AdminListen::Unix(_) => None,
    };
    admin_listen.into_iter().chain(admin.pprof_listen)
}

/// What is wrong with an address of a server of this group. An address that leads back to the group
/// would make every session open the next one.
fn check_server_addr(addr: &ServerAddr, group_listen: Option<SocketAddr>, admin: &[SocketAddr]) -> Result<(), String> {
    if let Some(ip) = addr.literal().map(|socket| socket.ip())
        && (ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
    {
        return Err(format!("\"{addr}\" is no single machine; expected the address of one server"));
    }
    if group_listen.is_some_and(|listen| reaches(addr, listen)) {
        return Err(format!("\"{addr}\" is the group itself; expected a server behind it"));
    }
    if admin.iter().any(|listen| reaches(addr, *listen)) {
        return Err(format!("\"{addr}\" is the admin port; expected a server for clients"));
    }
    Ok(())
}

/// What is wrong with a server that is to be written into this group.
pub(super) fn check_server(
    server: &ServerSettings,
    group: &GroupSettings,
    admin: &AdminSettings,
) -> Result<(), String> {
    check_server_addr(&server.addr, Some(group.listen), &admin_sockets(admin).collect::<Vec<_>>())?;
    check_weight(server.weight)?;
    check_labels(&server.labels)
}

/// What is wrong with a weight.
pub(super) fn check_weight(weight: u32) -> Result<(), String> {
    let (min, max) = (WEIGHT_RANGE.start(), WEIGHT_RANGE.end());
    if WEIGHT_RANGE.contains(&weight) {
        return Ok(());
    }
    Err(format!("weight {weight} is out of range; expected {min} to {max}"))
}

/// True when sockets on both addresses would receive some of the same connections.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical() || a.is_unspecified() || b.is_unspecified()
}

fn reaches(server: &ServerAddr, listen: SocketAddr) -> bool {
    let listen_ip = listen.ip().to_canonical();
    let is_here = match server.literal() {
        Some(socket) => {
            let ip = socket.ip().to_canonical();
            ip == listen_ip || (listen_ip.is_unspecified() && ip.is_loopback())
        }
        None => server.host() == "localhost" && (listen_ip.is_unspecified() || listen_ip.is_loopback()),
    };
    is_here && server.port() == listen.port()
}
