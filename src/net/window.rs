//! Whether a peer takes nothing at the moment, or may be gone, and what it has not acknowledged.
//!
//! For a socket that cannot send, both look the same. The system knows the difference: to a peer whose window is closed
//! it sends probes, which are answered; to one that may be gone it sends the data again. It tells over netlink
//! (`sock_diag`), within the call that asks.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `SOCK_DIAG_BY_FAMILY`, in a request and in its answer.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `AF_INET` and `AF_INET6` of Linux.
const INET: u8 = 2;
const INET6: u8 = 10;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// Where in an answer it says which timer runs, and the value for probes of a closed window.
const TIMER_AT: usize = HEADER_LEN + 2;
const PROBING: u8 = 4;
/// Where it says how many bytes wait to be acknowledged.
const WAITING_AT: usize = HEADER_LEN + 60;
const HEADER_LEN: usize = 16;
const REQUEST_LEN: usize = HEADER_LEN + 56;

/// Asks the system for the state of this thread's connections.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    /// `None` inside where the system does not tell.
    netlink: OnceCell<Option<OwnedFd>>,
}

impl Windows {
    /// True while the peer of `socket` takes nothing, although it answers; also where the system does not tell.
    pub(crate) fn is_closed(&self, socket: &OwnedFd) -> bool {
        self.ask(socket).is_none_or(|told| told.timer == PROBING)
    }

    /// Bytes that were written to `socket` and that its peer has not acknowledged; `None` where the system does not tell.
    pub(crate) fn unacknowledged(&self, socket: &OwnedFd) -> Option<u32> {
        self.ask(socket).map(|told| told.unacknowledged)
    }

    fn ask(&self, socket: &OwnedFd) -> Option<Told> {
        let open = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(SOCK_DIAG)).ok()
        };
        ask(self.netlink.get_or_init(open).as_ref()?, socket)
    }
}

/// What the system tells of a connection.
struct Told {
    /// Which timer runs.
    timer: u8,
    unacknowledged: u32,
}

/// `None` when the system does not tell.
fn ask(netlink: &OwnedFd, socket: &OwnedFd) -> Option<Told> {
    let own = SocketAddr::try_from(rustix::net::getsockname(socket).ok()?).ok()?;
    let peer = SocketAddr::try_from(rustix::net::getpeername(socket).ok()??).ok()?;
    let request = request(own, peer);
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(netlink, &request, SendFlags::empty(), &kernel).ok()?;
    let mut answer = [0; 1_024];
    loop {
        match rustix::net::recv(netlink, &mut answer, RecvFlags::empty()) {
            Ok((length, _)) if length >= WAITING_AT + 4 && answer[4..6] == BY_FAMILY.to_ne_bytes() => {
                let waiting = answer[WAITING_AT..].first_chunk().expect("the buffer is longer");
                return Some(Told { timer: answer[TIMER_AT], unacknowledged: u32::from_ne_bytes(*waiting) });
            }
            // It is over already.
            Ok(_) => return None,
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` for one connection.
fn request(own: SocketAddr, peer: SocketAddr) -> [u8; REQUEST_LEN] {
    let mut bytes = [0; REQUEST_LEN];
    bytes[..4].copy_from_slice(&(REQUEST_LEN as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    let body = &mut bytes[HEADER_LEN..];
    (body[0], body[1]) = (if own.is_ipv4() { INET } else { INET6 }, TCP);
    // In whatever state.
    body[4..8].fill(0xff);
    body[8..10].copy_from_slice(&own.port().to_be_bytes());
    body[10..12].copy_from_slice(&peer.port().to_be_bytes());
    put(&mut body[12..28], own.ip());
    put(&mut body[28..44], peer.ip());
    // Without a cookie.
    body[48..56].fill(0xff);
    bytes
}

fn put(place: &mut [u8], ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => place[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => place.copy_from_slice(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_peer_that_takes_nothing_is_told_from_one_that_does() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(listen).unwrap();
            let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_receiver, _) = listener.accept().unwrap();
            let windows = Windows::default();
            let socket = OwnedFd::from(sender.try_clone().unwrap());
            assert!(!windows.is_closed(&socket), "nothing is under way");
            assert_eq!(windows.unacknowledged(&socket), Some(0));
            sender.set_nonblocking(true).unwrap();
            let start = Instant::now();
            // The system begins to probe when what it sends is not taken for a moment.
            while !windows.is_closed(&socket) {
                while sender.write(&[0; 64 << 10]).is_ok() {}
                assert!(start.elapsed() < Duration::from_secs(60), "{listen}");
                std::thread::yield_now();
            }
            assert!(windows.unacknowledged(&socket).is_some_and(|waiting| waiting > 0));
        }
    }
}
