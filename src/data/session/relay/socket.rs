//! A socket as the relay needs it.

use std::io;
use std::os::fd::OwnedFd;

/// A non-blocking socket as the relay needs it. `WouldBlock` is an error like any other here.
pub(in super::super) trait Socket {
    /// True when its bytes may move through a pipe, as they are.
    fn can_splice(&self) -> bool;

    /// True when a read may succeed, fail or find the end; until [`Socket::read_blocked`].
    fn is_readable(&self) -> bool;

    /// True when a write may succeed or fail: always, but after [`Socket::write_blocked`].
    fn is_writable(&self) -> bool;

    /// True when urgent data or a failure has come: a read may stop with more behind it.
    fn has_exception(&self) -> bool;

    /// True when the peer is known to have ended: everything it sent has arrived.
    fn has_end(&self) -> bool;

    /// True when the end that was read may be one that somebody on the way has made: what came before it may be cut.
    fn may_be_cut(&self) -> bool {
        false
    }

    /// The end that comes next is to look no more certain to the peer than it was to us.
    fn end_without_a_word(&mut self) {}

    /// True when the connection is known to have broken: nothing that is sent to this peer can arrive any more, whatever
    /// it had sent before.
    fn has_failed(&self) -> bool;

    /// What broke the connection; told once, and then forgotten.
    fn take_error(&mut self) -> io::Error;

    /// True when something has arrived that was not read. May cost a system call.
    fn has_unread(&self) -> bool;

    /// The last read emptied the socket.
    fn read_blocked(&mut self);

    /// The last write did not fit.
    fn write_blocked(&mut self);

    /// Reads into `buffer`; 0 is the end.
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes from `bytes`. When they are the `last` ones, [`Socket::finish`] or closing follows at once, and
    /// they may wait for it to travel in one segment.
    fn send(&mut self, bytes: &[u8], last: bool) -> io::Result<usize>;

    /// Moves at most `max` bytes into a pipe; 0 is the end.
    fn splice_in(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize>;

    /// Moves at most `max` bytes out of a pipe.
    fn splice_out(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize>;

    /// Tells the peer that nothing more will come.
    fn finish(&mut self);

    /// True when the system has taken all that was sent. When the end comes next, and `in_order`, what announces it belongs
    /// to that.
    fn is_drained(&mut self, _in_order: bool) -> bool {
        true
    }
}
