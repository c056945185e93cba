//! What must hold between values: who listens where, and which servers cannot be meant.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::problem::Problems;
use super::value::check_labels;
use super::{AdminListen, AdminSettings};
use crate::group::GroupSettings;
use crate::server::{ServerAddr, ServerSettings, WEIGHT_RANGE};

/// One address of the file that the process would listen on.
pub(super) struct Listens {
    pub(super) addr: SocketAddr,
    /// Where it is written.
    pub(super) offset: usize,
    pub(super) path: String,
    pub(super) is_group: bool,
}

/// Reports every address that one listed before it takes already. A port belongs to one group, whatever
/// the IPs, because the port is the group's id.
pub(super) fn check_listeners(problems: &mut Problems, listeners: &[Listens]) {
    let mut by_port: HashMap<u16, Vec<&Listens>> = HashMap::new();
    for late in listeners {
        let taken = by_port.entry(late.addr.port()).or_default();
        let clash = |early: &&&Listens| (early.is_group && late.is_group) || overlap(early.addr.ip(), late.addr.ip());
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
pub(super) fn check_server_addr(
    addr: &ServerAddr,
    group_listen: Option<SocketAddr>,
    admin: &AdminSettings,
) -> Result<(), String> {
    if let Some(ip) = addr.literal().map(|socket| socket.ip())
        && (ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST))
    {
        return Err(format!("\"{addr}\" is no single machine; expected the address of one server"));
    }
    if group_listen.is_some_and(|listen| reaches(addr, listen)) {
        return Err(format!("\"{addr}\" is the group itself; expected a server behind it"));
    }
    if admin_sockets(admin).any(|listen| reaches(addr, listen)) {
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
    check_server_addr(&server.addr, Some(group.listen), admin)?;
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
pub(super) fn overlap(a: IpAddr, b: IpAddr) -> bool {
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
