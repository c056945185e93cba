//! The two ends of a session as the relay needs them, whatever carries their bytes.

mod tcp;
#[cfg(feature = "tls")]
mod tls;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::RecvFlags;
pub(super) use tcp::{TcpSocket, reset_on_close, send_both};
#[cfg(feature = "tls")]
use tls::TlsSocket;

use super::relay::Socket;
use crate::data::poll::{Reactor, Ready, Token};
use crate::events::TlsFacts;
use crate::group::Liveness;
use crate::net::Windows;

/// One end of a session. Whatever is carried over TCP in another way gets a variant, which the relay needs not know.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpSocket),
    #[cfg(feature = "tls")]
    Tls(Box<TlsSocket>),
}

/// Calls the same method of whichever stream it is.
macro_rules! each {
    ($stream:expr, $socket:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($socket) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($socket) => $call,
        }
    };
}

/// The same of the TCP connection below it.
macro_rules! below {
    ($stream:expr, $socket:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($socket) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => {
                let $socket = tls.tcp();
                $call
            }
        }
    };
}

/// The same where the TCP connection changes.
macro_rules! below_mut {
    ($stream:expr, $socket:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($socket) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => {
                let $socket = tls.tcp_mut();
                $call
            }
        }
    };
}

impl Stream {
    /// Keeps what the reactor says of this stream's socket.
    pub(super) fn on_ready(&mut self, ready: Ready) {
        each!(self, socket => socket.on_ready(ready))
    }

    /// Has the reactor watch for what this stream waits for, if it does not yet.
    pub(super) fn rearm(&mut self, token: Token, reactor: &Reactor) -> io::Result<()> {
        below_mut!(self, socket => socket.rearm(token, reactor))
    }

    /// The socket, whatever it carries.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        below!(self, socket => socket.as_fd())
    }

    /// Sends the first bytes in front of the others, in one piece: in one segment, if they fit. Before TLS, if there is any.
    pub(super) fn send_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        below_mut!(self, socket => socket.send_both(first, second))
    }

    /// True once the system finds out that the peer is gone; for a client it does from the beginning.
    pub(super) fn is_watched(&self) -> bool {
        below!(self, socket => socket.is_watched())
    }

    /// The system finds out from now on that the peer is gone.
    pub(super) fn watch_peer(&mut self, liveness: &Liveness) {
        below_mut!(self, socket => socket.watch_peer(liveness));
    }

    /// Lets a peer that answers take nothing for as long as it likes, which a derived user time-out does not. Asks for it
    /// only when the socket cannot send, or when `is_its_turn`.
    pub(super) fn be_patient(&mut self, user_timeout: Duration, windows: &Windows, is_its_turn: bool) {
        below_mut!(self, socket => socket.be_patient(user_timeout, windows, is_its_turn));
    }

    /// Bytes that were sent and that the peer has not acknowledged; `None` where the system does not tell.
    pub(super) fn unacknowledged(&self, windows: &Windows) -> Option<u32> {
        below!(self, socket => socket.unacknowledged(windows))
    }

    /// Bytes that have arrived and were not read. Of TLS it may be a few more than they mean.
    pub(super) fn unread(&self) -> u64 {
        // A socket that cannot tell has been reset: there is nothing to read.
        rustix::io::ioctl_fionread(self.as_fd()).unwrap_or(0)
    }

    /// Throws away what has arrived, as far as `scratch` holds it.
    pub(super) fn discard_unread(&self, scratch: &mut [u8]) {
        // Whatever is in the way, the socket is about to be closed.
        let _ = rustix::net::recv(self.as_fd(), scratch, RecvFlags::DONTWAIT);
    }

    /// Closes with a reset instead of an orderly end.
    pub(super) fn reset_on_close(&self) {
        below!(self, socket => socket.reset_on_close());
    }

    /// True when it is connected and takes bytes. Goes on with its TLS handshake, if it has one.
    ///
    /// # Errors
    ///
    /// The handshake has failed, and perhaps the connect before it.
    pub(super) fn is_ready(&mut self) -> io::Result<bool> {
        match self {
            Self::Tcp(socket) => Ok(socket.is_writable()),
            #[cfg(feature = "tls")]
            Self::Tls(socket) => match socket.shake_hands() {
                Ok(is_over) => Ok(is_over && socket.is_writable()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(io::Error::other("TLS: the server has closed before the handshake was over"))
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Tells the peer, if there is a way to, that it is about to be closed in order.
    pub(super) fn say_goodbye(&mut self) {
        match self {
            Self::Tcp(_) => {}
            #[cfg(feature = "tls")]
            Self::Tls(socket) => socket.say_goodbye(),
        }
    }

    /// What is to be told of TLS; `None` when it is plain.
    pub(super) fn tls_facts(&self) -> Option<TlsFacts> {
        match self {
            Self::Tcp(_) => None,
            #[cfg(feature = "tls")]
            Self::Tls(socket) => Some(socket.facts()),
        }
    }

    /// From now on it speaks TLS as this end of it. `received` has been read of what the peer sent.
    #[cfg(feature = "tls")]
    pub(super) fn start_tls(&mut self, connection: rustls::Connection, received: Vec<u8>) {
        let before = std::mem::replace(self, Self::Tls(Box::new(TlsSocket::new(connection, received))));
        match (self, before) {
            (Self::Tls(socket), Self::Tcp(tcp)) => socket.set_tcp(tcp),
            _ => unreachable!("TLS begins once, on a TCP connection"),
        }
    }

    /// The TLS end of it; `None` when it is plain.
    #[cfg(feature = "tls")]
    pub(super) fn as_tls(&mut self) -> Option<&mut TlsSocket> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(socket) => Some(socket),
        }
    }
}

/// The address of a connection on this machine.
pub(super) fn own_addr(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    rustix::net::getsockname(socket).ok().and_then(|own| SocketAddr::try_from(own).ok()).map(canonical)
}

/// The same for an address of IPv4 in the form of IPv6, and without what is said beside address and port.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl Socket for Stream {
    fn can_splice(&self) -> bool {
        each!(self, socket => socket.can_splice())
    }

    fn is_readable(&self) -> bool {
        each!(self, socket => socket.is_readable())
    }

    fn is_writable(&self) -> bool {
        each!(self, socket => socket.is_writable())
    }

    fn has_exception(&self) -> bool {
        each!(self, socket => socket.has_exception())
    }

    fn has_end(&self) -> bool {
        each!(self, socket => socket.has_end())
    }

    fn has_failed(&self) -> bool {
        each!(self, socket => socket.has_failed())
    }

    fn take_error(&mut self) -> io::Error {
        each!(self, socket => socket.take_error())
    }

    fn has_unread(&self) -> bool {
        each!(self, socket => socket.has_unread())
    }

    fn read_blocked(&mut self) {
        each!(self, socket => socket.read_blocked())
    }

    fn write_blocked(&mut self) {
        each!(self, socket => socket.write_blocked())
    }

    fn may_be_cut(&self) -> bool {
        each!(self, socket => socket.may_be_cut())
    }

    fn end_without_a_word(&mut self) {
        each!(self, socket => socket.end_without_a_word());
    }

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        each!(self, socket => socket.recv(buffer))
    }

    fn send(&mut self, bytes: &[u8], last: bool) -> io::Result<usize> {
        each!(self, socket => socket.send(bytes, last))
    }

    fn splice_in(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        each!(self, socket => socket.splice_in(pipe, max))
    }

    fn splice_out(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        each!(self, socket => socket.splice_out(pipe, max))
    }

    fn finish(&mut self) {
        each!(self, socket => socket.finish())
    }

    fn is_drained(&mut self, in_order: bool) -> bool {
        each!(self, socket => socket.is_drained(in_order))
    }
}
