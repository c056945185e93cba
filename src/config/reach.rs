//! Which listening sockets a connect can reach, judged by addresses alone.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use crate::server::ServerAddr;

/// True when sockets on both addresses would receive some of the same connections.
pub(super) fn overlap(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical() || a.is_unspecified() || b.is_unspecified()
}

/// True when a connect to `server` reaches a socket that listens on `listen`. Names are not looked up.
pub(super) fn reaches(server: &ServerAddr, listen: SocketAddr) -> bool {
    if server.port() != listen.port() {
        return false;
    }
    let listen_ip = listen.ip().to_canonical();
    let Some(socket) = server.literal() else {
        return server.host() == "localhost" && (listen_ip.is_unspecified() || listen_ip.is_loopback());
    };
    let ip = socket.ip().to_canonical();
    match listen_ip {
        _ if ip == listen_ip => true,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4() && is_of_this_machine(ip),
        // Also IPv4, unless the system has been told otherwise.
        _ if listen_ip.is_unspecified() => is_of_this_machine(ip),
        _ => false,
    }
}

/// True for an address of this machine: only those can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || (!ip.is_unspecified() && !ip.is_multicast() && UdpSocket::bind((ip, 0)).is_ok())
}
