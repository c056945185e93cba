//! Binds the listening sockets of a group: one for each data thread, on the same port.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::foreign;
use super::overlap::overlap;
use crate::events::{self, Event, ProcessEvent};

/// Connections the kernel may hold for us; `net.core.somaxconn` may say less.
pub(crate) const BACKLOG: i32 = 4096;

/// Binds `threads` sockets to `addr` and listens on them.
///
/// `SO_REUSEPORT` would let a second process take half of the clients without an error, so an exclusive bind is tried
/// first. Where one of our own listeners, `ours`, would be in its way, the kernel's list of listeners is read instead.
///
/// # Errors
///
/// Whatever the system says: the address is in use, not ours, or needs a privilege.
pub(crate) fn bind(addr: SocketAddr, threads: usize, ours: &[SocketAddr]) -> io::Result<Vec<OwnedFd>> {
    if !ours.iter().any(|our| overlap(*our, addr)) {
        let probe = socket(addr)?;
        rustix::net::bind(&probe, &addr)?;
        rustix::net::listen(&probe, 1)?;
    } else {
        match foreign::listens_at(addr) {
            Ok(false) => {}
            Ok(true) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => {
                let event = ProcessEvent::MayBeShared { listen: addr, error: error.to_string().into() };
                events::publish(Event::Process(event));
            }
        }
    }
    (0..threads).map(|_| shared(addr)).collect()
}

/// Listens on one more socket at `addr`, beside others of this user.
pub(super) fn shared(addr: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket(addr)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    // Accepted sockets inherit it, which saves a call for each.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &addr)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // Connections of an earlier run that linger in TIME_WAIT do not keep the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_in_nobodys_way_but_its_own() {
        // Not a port that a client of another test may have: that would be in the way of the last one.
        let mut ports = (10_000 + std::process::id() as u16 % 10_000)..30_000;
        let (addr, _ours) = ports
            .find_map(|port| {
                let addr = SocketAddr::from(([127, 0, 0, 1], port));
                Some((addr, bind(addr, 2, &[]).ok()?))
            })
            .unwrap();
        assert_eq!(bind(addr, 1, &[]).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let everywhere = SocketAddr::new([0, 0, 0, 0].into(), addr.port());
        bind(everywhere, 1, &[addr]).unwrap();
    }
}
