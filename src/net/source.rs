//! Connects from an address of the operator's choice.
//!
//! A socket that is bound to an address alone gets a port of its own, and with it all connects from that address share
//! some 28,000 ports, whatever their destinations. `IP_BIND_ADDRESS_NO_PORT` is the system's answer, but out of reach
//! of safe code. So the port is chosen here: many sockets may have the same one (`SO_REUSEADDR`) as long as they connect
//! to different addresses, which the connect tells.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// Ports that are tried for one connect.
pub(crate) const TRIES_MAX: usize = 64;

/// Where the system has its ports for connects.
const RANGE_PATH: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What they are unless somebody has changed that.
const RANGE: Range<u32> = 32_768..61_000;

/// The next one is taken by whoever connects next, so that one that has just been closed rests for long.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| fastrand::u32(..).into());

/// Binds a socket to `source` and a port for a connect to `addr`.
///
/// # Errors
///
/// This machine does not have the address, or it is of another family than `addr`: `EADDRNOTAVAIL`.
pub(crate) fn bind(socket: impl AsFd, source: IpAddr, addr: SocketAddr) -> io::Result<()> {
    static PORTS: LazyLock<Range<u32>> = LazyLock::new(ports);
    if source.is_ipv4() != addr.is_ipv4() {
        return Err(Errno::ADDRNOTAVAIL.into());
    }
    let socket = socket.as_fd();
    sockopt::set_socket_reuseaddr(socket, true)?;
    for _ in 0..TRIES_MAX {
        let port = PORTS.start + NEXT.fetch_add(1, Relaxed) % (PORTS.end - PORTS.start);
        match rustix::net::bind(socket, &SocketAddr::new(source, port as u16)) {
            // Somebody listens there, or has it alone.
            Err(Errno::ADDRINUSE) => {}
            bound => return Ok(bound?),
        }
    }
    Err(Errno::ADDRNOTAVAIL.into())
}

/// Whether this machine has the address.
///
/// # Errors
///
/// What the system says when it does not.
pub(crate) fn is_here(source: IpAddr) -> io::Result<()> {
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket: OwnedFd =
        rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    Ok(rustix::net::bind(&socket, &SocketAddr::new(source, 0))?)
}

fn ports() -> Range<u32> {
    let text = fs::read_to_string(RANGE_PATH).unwrap_or_default();
    let numbers: Vec<u32> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    match numbers[..] {
        [first, last] if first <= last && last <= 65_535 => first..last + 1,
        _ => RANGE,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connect(source: IpAddr, addr: SocketAddr) -> io::Result<OwnedFd> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        bind(&socket, source, addr)?;
        rustix::net::connect(&socket, &addr)?;
        Ok(socket)
    }

    #[test]
    fn connects_leave_from_the_address_and_share_ports_towards_different_destinations() {
        let source: IpAddr = "127.9.8.7".parse().unwrap();
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let second = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = connect(source, first.local_addr().unwrap()).unwrap();
        let own = SocketAddr::try_from(rustix::net::getsockname(&one).unwrap()).unwrap();
        assert_eq!(own.ip(), source);
        // The same port once more, to another destination.
        let other = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&other, true).unwrap();
        rustix::net::bind(&other, &own).unwrap();
        rustix::net::connect(&other, &second.local_addr().unwrap()).unwrap();
        // And to the same one, which is told.
        let third = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&third, true).unwrap();
        rustix::net::bind(&third, &own).unwrap();
        assert_eq!(rustix::net::connect(&third, &first.local_addr().unwrap()), Err(Errno::ADDRNOTAVAIL));
    }

    #[test]
    fn an_address_that_this_machine_lacks_or_of_the_other_family_cannot_be_assigned() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        for source in ["192.0.2.1", "::1"] {
            let error = connect(source.parse().unwrap(), addr).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{source}");
        }
        assert!(is_here("127.9.8.7".parse().unwrap()).is_ok());
        assert_eq!(is_here("192.0.2.1".parse().unwrap()).unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
        drop(TcpStream::connect(addr));
    }
}
