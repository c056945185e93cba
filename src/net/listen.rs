//! Binds the listening sockets of a group: one for each data thread, on the same port.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// Connections the kernel may hold for us; `net.core.somaxconn` may say less.
pub(crate) const BACKLOG: i32 = 4096;

/// Binds `threads` sockets to `addr` and listens on them.
///
/// `SO_REUSEPORT` would let a second process take half of the clients without an error, so an exclusive bind
/// is tried first, unless the port is known to be ours already.
///
/// # Errors
///
/// Whatever the system says: the address is in use, not ours, or needs a privilege.
pub(crate) fn bind(addr: SocketAddr, threads: usize, is_ours: bool) -> io::Result<Vec<OwnedFd>> {
    if !is_ours {
        let probe = socket(addr)?;
        rustix::net::bind(&probe, &addr)?;
        rustix::net::listen(&probe, 1)?;
    }
    (0..threads)
        .map(|_| {
            let socket = socket(addr)?;
            sockopt::set_socket_reuseport(&socket, true)?;
            // Accepted sockets inherit it, which saves a call for each.
            sockopt::set_tcp_nodelay(&socket, true)?;
            rustix::net::bind(&socket, &addr)?;
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(socket)
        })
        .collect()
}

fn socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT do not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}
