//! One connect to one address, with the first bytes for the server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::stream::{Stream, TcpSocket, send_both};
use crate::data::poll::{Reactor, Token};
use crate::net::source;

/// What a server is sent at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting<'a> {
    /// The PROXY header that it wants.
    pub(super) header: &'a [u8],
    /// What the client has said.
    pub(super) first_bytes: &'a [u8],
}

/// How far one connect has come.
pub(super) enum Step {
    /// Connected, and so much of the greeting is sent: the header and perhaps more.
    Connected(Stream, usize),
    /// Under way, with so much of the greeting sent.
    Connecting(Stream, usize),
    /// All servers refuse; they are to be asked again.
    Held,
}

/// Begins a connect. On loopback and in fast networks it is over at once, and the bytes are on their way.
///
/// # Errors
///
/// Refused, unreachable, or no descriptor or port is left.
pub(super) fn connect(
    addr: SocketAddr,
    source: Option<IpAddr>,
    may_meet_itself: bool,
    greeting: Greeting<'_>,
    token: Token,
    reactor: &Reactor,
) -> io::Result<Step> {
    let fd = socket(addr)?;
    let Greeting { header, first_bytes } = greeting;
    if !first_bytes.is_empty() {
        // The reply to the first bytes carries the acknowledgement: saves two segments of twenty. Never when
        // the server speaks first, which it may do after the header. A kernel that refuses only sends more segments.
        let _ = sockopt::set_tcp_quickack(&fd, false);
    }
    let (fd, connected) = match source {
        None => {
            let connected = rustix::net::connect(&fd, &addr);
            (fd, connected)
        }
        Some(source) => connect_from(source, fd, addr)?,
    };
    if may_meet_itself && has_met_itself(&fd, addr) {
        // Nobody listens there. An orderly end would keep the port from the server for a while.
        let _ = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
        return Err(Errno::CONNREFUSED.into());
    }
    match connected {
        // The send also tells whether the connect is over, and how: TCP looks at the state before the length, so
        // it does so without bytes too, which spares asking for the socket's error.
        Ok(()) | Err(Errno::INPROGRESS) => match send_both(&fd, header, first_bytes) {
            Ok(sent) if sent >= header.len() => {
                let socket = TcpSocket::connected(fd, token, reactor, sent > 0)?;
                Ok(Step::Connected(Stream::Tcp(socket), sent))
            }
            // The rest of the header waits as the connect would.
            Ok(sent) => connecting(fd, sent, token, reactor),
            Err(Errno::AGAIN | Errno::INTR) => connecting(fd, 0, token, reactor),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// Connects `fd`, or another socket, from `source`: a port that has a connection to this address already is no use.
fn connect_from(source: IpAddr, mut fd: OwnedFd, addr: SocketAddr) -> io::Result<(OwnedFd, Result<(), Errno>)> {
    for _ in 0..source::TRIES_MAX {
        source::bind(&fd, source, addr)?;
        match rustix::net::connect(&fd, &addr) {
            Err(Errno::ADDRNOTAVAIL) => {
                // Without what was set on it for the first bytes: that saves segments only.
                fd = socket(addr)?;
            }
            connected => return Ok((fd, connected)),
        }
    }
    Err(Errno::ADDRNOTAVAIL.into())
}

fn socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?)
}

/// True when the socket has become its own peer.
fn has_met_itself(fd: &OwnedFd, addr: SocketAddr) -> bool {
    let own = rustix::net::getsockname(fd).ok().and_then(|own| SocketAddr::try_from(own).ok());
    own.is_some_and(|own| own.port() == addr.port() && (own.ip() == addr.ip() || addr.ip().is_unspecified()))
}

fn connecting(fd: OwnedFd, sent: usize, token: Token, reactor: &Reactor) -> io::Result<Step> {
    Ok(Step::Connecting(Stream::Tcp(TcpSocket::connecting(fd, token, reactor)?), sent))
}

/// Of a server whose name has no address yet.
pub(super) fn unresolved() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the server's name is not resolved")
}

/// True when this process or the system has no room for another connection.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC)
    )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::data::poll::SessionKey;
    use crate::data::session::Workspace;

    /// More than there are ephemeral ports, which are taken one after the other.
    const CONNECTS: usize = 60_000;

    #[test]
    fn a_connect_that_meets_itself_is_refused() {
        // Nobody listens there. Outgoing connections get even ports first. Tests beside this one may have all descriptors
        // for a while.
        let ports = (40_000..60_000).step_by(2).cycle().take(10_000_000);
        let mut ports = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let addr = ports.find(|addr| TcpListener::bind(addr).is_ok()).expect("one of them is free");
        let workspace = Workspace::new().unwrap();
        let greeting = Greeting { header: b"", first_bytes: b"hello" };
        let connects = |may_meet_itself| match connect(
            addr,
            None,
            may_meet_itself,
            greeting,
            Token::server(SessionKey::new(0, 1)),
            &workspace.reactor,
        ) {
            Ok(Step::Held) => unreachable!("only a search is held"),
            Ok(Step::Connected(server, _) | Step::Connecting(server, _)) => {
                server.reset_on_close();
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                false
            }
        };
        assert!((0..CONNECTS).any(|_| connects(false)), "it happens where nobody looks");
        assert!(!(0..CONNECTS).any(|_| connects(true)));
    }
}
