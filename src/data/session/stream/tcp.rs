//! A TCP connection, as it is.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use rustix::pipe::{SpliceFlags, splice};

use crate::base::clock;
use crate::data::poll::{Reactor, Ready, Token};
use crate::data::session::relay::Socket;
use crate::group::Liveness;
use crate::net::{Windows, set_liveness, set_user_timeout};

/// A TCP connection, as it is.
///
/// Watched for reading only; writability is asked for after the first write that did not fit, which most sessions
/// never see. Events come once, so what they said is kept here.
#[derive(Debug)]
pub(in crate::data::session) struct TcpSocket {
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
pub(in crate::data::session) fn send_both(fd: &OwnedFd, first: &[u8], second: &[u8]) -> Result<usize, Errno> {
    if first.is_empty() {
        return rustix::net::send(fd, second, SendFlags::NOSIGNAL);
    }
    let both = [IoSlice::new(first), IoSlice::new(second)];
    rustix::net::sendmsg(fd, &both, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)
}

impl TcpSocket {
    /// An accepted socket, which inherited `TCP_NODELAY`, and when its peer is gone, from its listener.
    pub(in crate::data::session) fn accepted(fd: OwnedFd, token: Token, reactor: &Reactor) -> io::Result<Self> {
        let socket = Self::watched(fd, token, reactor, WriteInterest::None, 0)?;
        Ok(Self { watch: Watch::Strict, ..socket })
    }

    /// A connected socket to which something has been written or not. `TCP_NODELAY` is set at the second
    /// write: only from then on can Nagle's algorithm hold anything back.
    pub(in crate::data::session) fn connected(
        fd: OwnedFd,
        token: Token,
        reactor: &Reactor,
        has_written: bool,
    ) -> io::Result<Self> {
        Self::watched(fd, token, reactor, WriteInterest::None, if has_written { 1 } else { 2 })
    }

    /// A socket that is connecting: it becomes writable when that is over.
    pub(in crate::data::session) fn connecting(fd: OwnedFd, token: Token, reactor: &Reactor) -> io::Result<Self> {
        let mut socket = Self::watched(fd, token, reactor, WriteInterest::Registered, 2)?;
        socket.is_writable = false;
        Ok(socket)
    }

    /// Keeps what the reactor says of this socket.
    pub(super) fn on_ready(&mut self, ready: Ready) {
        self.is_readable |= ready.is_readable();
        self.is_writable |= ready.is_writable();
        self.has_end |= ready.has_end();
        self.has_exception |= ready.has_exception();
        self.has_failed |= ready.has_failed();
    }

    /// Has the reactor watch for what this socket waits for, if it does not yet.
    pub(super) fn rearm(&mut self, token: Token, reactor: &Reactor) -> io::Result<()> {
        if self.write_interest == WriteInterest::Wanted {
            reactor.add_write_interest(&self.fd, token)?;
            self.write_interest = WriteInterest::Registered;
        }
        Ok(())
    }

    /// Closes with a reset instead of an orderly end.
    pub(super) fn reset_on_close(&self) {
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

    pub(super) fn send_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        if !first.is_empty() || !second.is_empty() {
            self.before_write();
        }
        Ok(send_both(&self.fd, first, second)?)
    }

    /// Writes these parts, one after the other. With `more`, something follows at once that may go with them.
    #[cfg(feature = "tls")]
    pub(super) fn send_parts(&mut self, parts: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let flags = match more {
            true => SendFlags::NOSIGNAL | SendFlags::MORE,
            false => {
                self.before_write();
                SendFlags::NOSIGNAL
            }
        };
        Ok(rustix::net::sendmsg(&self.fd, parts, &mut SendAncillaryBuffer::default(), flags)?)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn is_watched(&self) -> bool {
        self.watch != Watch::No
    }

    pub(super) fn watch_peer(&mut self, liveness: &Liveness) {
        set_liveness(&self.fd, liveness);
        self.watch = Watch::Strict;
    }

    pub(super) fn be_patient(&mut self, user_timeout: Duration, windows: &Windows, is_its_turn: bool) {
        if !(is_its_turn || !self.is_writable || self.watch == Watch::Patient) {
            return;
        }
        let watch = if windows.is_closed(&self.fd) { Watch::Patient } else { Watch::Strict };
        if self.watch != watch {
            self.watch = watch;
            set_user_timeout(&self.fd, if watch == Watch::Patient { 0 } else { clock::as_ms(user_timeout) });
        }
    }

    pub(super) fn unacknowledged(&self, windows: &Windows) -> Option<u32> {
        windows.unacknowledged(&self.fd)
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
pub(in crate::data::session) fn reset_on_close(socket: &OwnedFd) {
    // A socket that refuses the option is closed in order: the peer is told less, but nothing is lost.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}
