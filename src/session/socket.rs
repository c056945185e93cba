//! A TCP socket on tokio's reactor, as the relay needs it.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::relay::Socket;

/// One end of a session.
///
/// Registered for reading only; write events are asked for after the first write that did not fit, which
/// most sessions never see. What the reactor told is kept here, so an event is taken from it only once; that
/// a side has closed stays known to the reactor, so an end that arrives together with the last bytes is not
/// missed.
#[derive(Debug)]
pub(super) struct TcpSocket {
    /// Only empty while it is being registered anew, or when that failed.
    registered: Option<AsyncFd<OwnedFd>>,
    is_readable: bool,
    is_writable: bool,
    waits_for_room: bool,
    rearmed: bool,
    /// Writes until `TCP_NODELAY` has to be set; 0 when it is.
    nodelay_in: u8,
}

impl TcpSocket {
    /// An accepted socket, which inherited `TCP_NODELAY` from its listener.
    pub(super) fn accepted(fd: OwnedFd) -> io::Result<Self> {
        Self::register(fd, false, 0)
    }

    /// A connected socket to which something has been written or not. `TCP_NODELAY` is set at the second
    /// write: only from then on can Nagle's algorithm hold anything back.
    pub(super) fn connected(fd: OwnedFd, has_written: bool) -> io::Result<Self> {
        Self::register(fd, false, if has_written { 1 } else { 2 })
    }

    /// A socket that is connecting: it becomes writable when that is over.
    pub(super) fn connecting(fd: OwnedFd) -> io::Result<Self> {
        let mut socket = Self::register(fd, true, 2)?;
        socket.is_writable = false;
        Ok(socket)
    }

    /// Closes with a reset instead of an orderly end.
    pub(super) fn reset_on_close(&self) {
        if let Ok(fd) = self.fd() {
            // A socket that refuses the option is closed in order: the peer is told less, but nothing is lost.
            let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        }
    }

    fn register(fd: OwnedFd, waits_for_room: bool, nodelay_in: u8) -> io::Result<Self> {
        Ok(Self {
            registered: Some(watch(fd, interest(waits_for_room))?),
            is_readable: false,
            is_writable: true,
            waits_for_room,
            rearmed: false,
            nodelay_in,
        })
    }

    /// The registration; an error once registering anew has failed, which closed the socket.
    fn registration(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.registered.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn fd(&self) -> io::Result<&OwnedFd> {
        self.registration().map(AsyncFd::get_ref)
    }

    fn before_write(&mut self) -> io::Result<()> {
        if self.nodelay_in > 0 {
            self.nodelay_in -= 1;
            if self.nodelay_in == 0 {
                // Refused only by a socket that is gone; the write will tell.
                let _ = sockopt::set_tcp_nodelay(self.fd()?, true);
            }
        }
        Ok(())
    }
}

impl Socket for TcpSocket {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_readable {
            let mut guard = ready!(self.registration()?.poll_read_ready(cx))?;
            guard.clear_ready();
            self.is_readable = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_writable {
            let mut guard = ready!(self.registration()?.poll_write_ready(cx))?;
            guard.clear_ready();
            self.is_writable = true;
        }
        Poll::Ready(Ok(()))
    }

    fn read_blocked(&mut self) {
        self.is_readable = false;
    }

    fn write_blocked(&mut self) -> io::Result<()> {
        self.is_writable = false;
        if !self.waits_for_room {
            let fd = self.registered.take().expect("registered").into_inner();
            self.registered = Some(watch(fd, interest(true))?);
            self.waits_for_room = true;
            self.rearmed = true;
        }
        Ok(())
    }

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self.fd()?, buffer, RecvFlags::empty())?.0)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.before_write()?;
        }
        Ok(rustix::net::send(self.fd()?, bytes, SendFlags::NOSIGNAL)?)
    }

    fn splice_in(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        Ok(splice(self.fd()?, None, pipe, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    fn splice_out(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        self.before_write()?;
        Ok(splice(pipe, None, self.fd()?, None, max, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }

    fn finish(&mut self) {
        if let Ok(fd) = self.fd() {
            // A peer that is already gone needs not be told.
            let _ = rustix::net::shutdown(fd, Shutdown::Write);
        }
    }

    fn take_rearmed(&mut self) -> bool {
        std::mem::take(&mut self.rearmed)
    }
}

fn interest(waits_for_room: bool) -> Interest {
    if waits_for_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

/// Registers a descriptor with the reactor of this thread.
#[expect(
    deprecated,
    reason = "its unsafe successor guards against types that lie about their descriptor; `OwnedFd` does not"
)]
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
