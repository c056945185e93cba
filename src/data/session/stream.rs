//! The two ends of a session as the relay needs them, whatever carries their bytes.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use rustix::pipe::{SpliceFlags, splice};

use super::relay::Socket;
use crate::base::clock;
use crate::data::poll::{Reactor, Ready, Token};
use crate::group::Liveness;
use crate::net::{Windows, set_liveness, set_user_timeout};

/// One end of a session. Whatever is carried over TCP in another way gets a variant, which the relay needs not know.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpSocket),
}

/// Calls the same method of whichever stream it is.
macro_rules! each {
    ($stream:expr, $socket:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($socket) => $call,
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
        each!(self, socket => socket.rearm(token, reactor))
    }

    /// The socket, whatever it carries.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, socket => socket.fd.as_fd())
    }

    /// Sends the first bytes in front of the others, in one piece: in one segment, if they fit.
    pub(super) fn send_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        each!(self, socket => socket.send_both(first, second))
    }

    /// Where it comes from, on this machine.
    pub(super) fn own_addr(&self) -> Option<SocketAddr> {
        let own = each!(self, socket => rustix::net::getsockname(&socket.fd));
        own.ok().and_then(|own| SocketAddr::try_from(own).ok())
    }

    /// True once the system finds out that the peer is gone; for a client it does from the beginning.
    pub(super) fn is_watched(&self) -> bool {
        each!(self, socket => socket.watch != Watch::No)
    }

    /// The system finds out from now on that the peer is gone.
    pub(super) fn watch_peer(&mut self, liveness: &Liveness) {
        each!(self, socket => {
            set_liveness(&socket.fd, liveness);
            socket.watch = Watch::Strict;
        })
    }

    /// Lets a peer that answers take nothing for as long as it likes, which a derived user time-out does not. Asks for it
    /// only when the socket cannot send, or when `is_its_turn`.
    pub(super) fn be_patient(&mut self, user_timeout: Duration, windows: &Windows, is_its_turn: bool) {
        each!(self, socket => {
            if !(is_its_turn || !socket.is_writable || socket.watch == Watch::Patient) {
                return;
            }
            let watch = if windows.is_closed(&socket.fd) { Watch::Patient } else { Watch::Strict };
            if socket.watch != watch {
                socket.watch = watch;
                set_user_timeout(&socket.fd, if watch == Watch::Patient { 0 } else { clock::as_ms(user_timeout) });
            }
        })
    }

    /// Bytes that were sent and that the peer has not acknowledged; `None` where the system does not tell.
    pub(super) fn unacknowledged(&self, windows: &Windows) -> Option<u32> {
        each!(self, socket => windows.unacknowledged(&socket.fd))
    }

    /// Bytes that have arrived and were not read.
    pub(super) fn unread(&self) -> u64 {
        // A socket that cannot tell has been reset: there is nothing to read.
        each!(self, socket => rustix::io::ioctl_fionread(&socket.fd).unwrap_or(0))
    }

    /// Throws away what has arrived, as far as `scratch` holds it.
    pub(super) fn discard_unread(&self, scratch: &mut [u8]) {
        // Whatever is in the way, the socket is about to be closed.
        each!(self, socket => drop(rustix::net::recv(&socket.fd, scratch, RecvFlags::DONTWAIT)))
    }

    /// Closes with a reset instead of an orderly end.
    pub(super) fn reset_on_close(&self) {
        each!(self, socket => socket.reset_on_close())
    }
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
}

/// A TCP connection, as it is.
///
/// Watched for reading only; writability is asked for after the first write that did not fit, which most sessions
/// never see. Events come once, so what they said is kept here.
#[derive(Debug)]
pub(super) struct TcpSocket {
    fd: OwnedFd,
    is_readable: bool,
    is_writable: bool,
    /// The peer has ended: everything it sent is here.
    has_end: bool,
    /// Urgent data has come, before which a read stops, or a failure, which only a read behind the bytes finds: a
    /// short read does not mean that nothing is left.
    has_exception: bool,
    has_failed: bool,
    write_interest: WriteInterest,
    /// Writes until `TCP_NODELAY` has to be set; 0 when it is.
    nodelay_in: u8,
    watch: Watch,
}

/// Whether the system finds out that the peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    No,
    /// It does, as the group wants it.
    Strict,
    /// The same, but the peer is there and takes nothing, which it may.
    Patient,
}

/// Whether the reactor tells when the socket becomes writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteInterest {
    None,
    /// It shall from now on.
    Wanted,
    Registered,
}

/// Sends bytes to a socket in front of others, in one piece.
pub(super) fn send_both(fd: &OwnedFd, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
    if first.is_empty() {
        return rustix::net::send(fd, second, SendFlags::NOSIGNAL);
    }
    let both = [IoSlice::new(first), IoSlice::new(second)];
    rustix::net::sendmsg(fd, &both, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}

impl TcpSocket {
    /// An accepted socket, which inherited `TCP_NODELAY`, and when its peer is gone, from its listener.
    pub(super) fn accepted(fd: OwnedFd, token: Token, reactor: &Reactor) -> io::Result<Self> {
        let socket = Self::watched(fd, token, reactor, WriteInterest::None, 0)?;
        Ok(Self { watch: Watch::Strict, ..socket })
    }

    /// A connected socket to which something has been written or not. `TCP_NODELAY` is set at the second
    /// write: only from then on can Nagle's algorithm hold anything back.
    pub(super) fn connected(fd: OwnedFd, token: Token, reactor: &Reactor, has_written: bool) -> io::Result<Self> {
        Self::watched(fd, token, reactor, WriteInterest::None, if has_written { 1 } else { 2 })
    }

    /// A socket that is connecting: it becomes writable when that is over.
    pub(super) fn connecting(fd: OwnedFd, token: Token, reactor: &Reactor) -> io::Result<Self> {
        let mut socket = Self::watched(fd, token, reactor, WriteInterest::Registered, 2)?;
        socket.is_writable = false;
        Ok(socket)
    }

    /// Keeps what the reactor says of this socket.
    fn on_ready(&mut self, ready: Ready) {
        self.is_readable |= ready.is_readable();
        self.is_writable |= ready.is_writable();
        self.has_end |= ready.has_end();
        self.has_exception |= ready.has_exception();
        self.has_failed |= ready.has_failed();
    }

    /// Has the reactor watch for what this socket waits for, if it does not yet.
    fn rearm(&mut self, token: Token, reactor: &Reactor) -> io::Result<()> {
        if self.write_interest == WriteInterest::Wanted {
            reactor.add_write_interest(&self.fd, token)?;
            self.write_interest = WriteInterest::Registered;
        }
        Ok(())
    }

    /// Closes with a reset instead of an orderly end.
    fn reset_on_close(&self) {
        reset_on_close(&self.fd);
    }

    fn watched(
        fd: OwnedFd,
        token: Token,
        reactor: &Reactor,
        write_interest: WriteInterest,
        nodelay_in: u8,
    ) -> io::Result<Self> {
        reactor.watch(&fd, token, write_interest == WriteInterest::Registered)?;
        Ok(Self {
            fd,
            is_readable: false,
            is_writable: true,
            has_end: false,
            has_exception: false,
            has_failed: false,
            write_interest,
            nodelay_in,
            watch: Watch::No,
        })
    }

    fn send_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        if !first.is_empty() || !second.is_empty() {
            self.before_write();
        }
        Ok(send_both(&self.fd, first, second)?)
    }

    fn before_write(&mut self) {
        if self.nodelay_in > 0 {
            self.nodelay_in -= 1;
            if self.nodelay_in == 0 {
                // Refused only by a socket that is gone; the write will tell.
                let _ = sockopt::set_tcp_nodelay(&self.fd, true);
            }
        }
    }
}

impl Socket for TcpSocket {
    fn can_splice(&self) -> bool {
        true
    }

    fn is_readable(&self) -> bool {
        self.is_readable
    }

    fn is_writable(&self) -> bool {
        self.is_writable
    }

    fn has_exception(&self) -> bool {
        self.has_exception
    }

    fn has_end(&self) -> bool {
        self.has_end
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }

    fn take_error(&mut self) -> io::Error {
        self.has_failed = false;
        match sockopt::socket_error(&self.fd) {
            Ok(Err(error)) | Err(error) => error.into(),
            // A read or a write has told it already.
            Ok(Ok(())) => io::ErrorKind::ConnectionReset.into(),
        }
    }

    fn has_unread(&self) -> bool {
        // A socket that cannot tell has been reset: there is nothing to read.
        rustix::io::ioctl_fionread(&self.fd).is_ok_and(|unread| unread > 0)
    }

    fn read_blocked(&mut self) {
        self.is_readable = false;
    }

    fn write_blocked(&mut self) {
        self.is_writable = false;
        if self.write_interest == WriteInterest::None {
            self.write_interest = WriteInterest::Wanted;
        }
    }

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(&self.fd, buffer, RecvFlags::empty())?.0)
    }

    fn send(&mut self, bytes: &[u8], last: bool) -> io::Result<usize> {
        if last {
            // Nothing else may be held back by Nagle's algorithm, so nothing has to be said against it.
            return Ok(rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL | SendFlags::MORE)?);
        }
        if !bytes.is_empty() {
            self.before_write();
        }
        Ok(rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL)?)
    }

    fn splice_in(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        Ok(splice(&self.fd, None, pipe, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    fn splice_out(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        self.before_write();
        Ok(splice(pipe, None, &self.fd, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    fn finish(&mut self) {
        // A peer that is already gone needs not be told.
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Write);
    }
}

/// Has a socket closed with a reset instead of an orderly end.
pub(super) fn reset_on_close(socket: &OwnedFd) {
    // A socket that refuses the option is closed in order: the peer is told less, but nothing is lost.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
