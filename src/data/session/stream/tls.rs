//! A TCP connection that carries TLS: the relay reads and writes plain bytes.
//!
//! What the system takes at once goes out at once; what it does not stays encrypted in the connection, at most what one
//! [`CHUNK`] comes to, and goes out when the socket becomes writable, whether or not the relay has anything to do then. Plain
//! bytes may be left in the connection when its socket is empty. Reading may have something to write (an alert, new keys).

mod ends;
mod facts;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use ends::{Incoming, Outgoing};
use rustls::Connection;

use super::tcp::TcpSocket;
use crate::data::poll::Ready;
use crate::data::session::relay::Socket;
use crate::tls::TlsFailure;

/// Plain bytes that are encrypted before the system is asked to take them.
const CHUNK: usize = 64 << 10;

/// Of a large buffer so much takes what has arrived, and is decrypted into the rest. That holds it and the record before it.
const ARRIVED: usize = 112 << 10;

/// A buffer of this size is large.
const LARGE: usize = 256 << 10;

/// The alert `unrecognized_name`, before anything is encrypted.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A TCP connection that carries TLS.
#[derive(Debug)]
pub(in crate::data::session) struct TlsSocket {
    /// Always there, but while it becomes one of TLS.
    tcp: Option<TcpSocket>,
    connection: Connection,
    /// What the peer gets in plain before TLS begins.
    preface: Vec<u8>,
    /// What was read of the socket before TLS began, and has not been looked at.
    received: Vec<u8>,
    /// A read may succeed or find the end without anything new from the socket.
    has_more: bool,
    /// The peer has sent something.
    has_received: bool,
    /// The peer has ended without saying so.
    is_truncated: bool,
    /// It was said that nothing more comes.
    has_said_goodbye: bool,
    /// The socket is finished when all has been sent.
    is_finishing: bool,
}

impl TlsSocket {
    /// `received` has been read of the socket already.
    pub(super) fn new(connection: Connection, received: Vec<u8>) -> Self {
        Self {
            tcp: None,
            connection,
            preface: Vec::new(),
            has_received: !received.is_empty(),
            received,
            has_more: false,
            is_truncated: false,
            has_said_goodbye: false,
            is_finishing: false,
        }
    }

    pub(super) fn set_tcp(&mut self, tcp: TcpSocket) {
        self.tcp = Some(tcp);
    }

    /// Sends this in plain before anything else. To be called before anything is.
    pub(in crate::data::session) fn set_preface(&mut self, preface: Vec<u8>) {
        self.preface = preface;
    }

    pub(super) fn tcp(&self) -> &TcpSocket {
        self.tcp.as_ref().expect("set when it became one of TLS")
    }

    pub(super) fn tcp_mut(&mut self) -> &mut TcpSocket {
        self.tcp.as_mut().expect("set when it became one of TLS")
    }

    /// Keeps what the reactor says, and sends what has waited for it.
    #[inline(never)]
    pub(super) fn on_ready(&mut self, ready: Ready) {
        self.tcp_mut().on_ready(ready);
        if ready.is_writable() && self.connection.wants_write() {
            // A failure is told by the reactor, too.
            let _ = self.flush(false);
        }
    }

    /// Goes on with the handshake. True when it is over, and `WouldBlock` never.
    ///
    /// # Errors
    ///
    /// It has failed, or the peer has ended or been reset. An end is [`io::ErrorKind::UnexpectedEof`].
    pub(in crate::data::session) fn shake_hands(&mut self) -> io::Result<bool> {
        loop {
            self.flush(false)?;
            if !self.connection.is_handshaking() {
                return Ok(true);
            }
            match self.read_some() {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.process()?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// True once the peer has sent something.
    pub(in crate::data::session) fn has_received(&self) -> bool {
        self.has_received
    }

    /// Says that nothing more comes, as far as the system takes that at once. Not after bytes that it has not taken.
    #[inline(never)]
    pub(super) fn say_goodbye(&mut self) {
        if !self.connection.is_handshaking() && !self.connection.wants_write() {
            self.end();
            // It is about to be closed, whatever becomes of this.
            let _ = self.flush(true);
        }
    }

    /// From now on nothing more is written, which the peer is told.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.has_said_goodbye, true) {
            self.connection.send_close_notify();
        }
    }

    /// Sends what waits, as far as the system takes it. With `more`, the end of the connection follows at once.
    fn flush(&mut self, more: bool) -> io::Result<()> {
        let Self { tcp, connection, preface, .. } = self;
        let tcp = tcp.as_mut().expect("set when it became one of TLS");
        while !preface.is_empty() && tcp.is_writable() {
            match tcp.send(preface, false) {
                Ok(sent) => _ = preface.drain(..sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.write_blocked(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        while connection.wants_write() && tcp.is_writable() {
            match connection.write_tls(&mut Outgoing { tcp, more }) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.write_blocked(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_finishing && !self.connection.wants_write() {
            self.is_finishing = false;
            self.tcp_mut().finish();
        }
        Ok(())
    }

    /// Gives the connection something that has arrived; 0 is the end.
    fn read_some(&mut self) -> io::Result<usize> {
        let Self { tcp, connection, received, .. } = self;
        if !received.is_empty() {
            let read = connection.read_tls(&mut &received[..])?;
            received.drain(..read);
            if received.is_empty() {
                *received = Vec::new();
            }
            return Ok(read);
        }
        let tcp = tcp.as_mut().expect("set when it became one of TLS");
        if !tcp.is_readable() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = connection.read_tls(&mut Incoming(tcp));
        match &read {
            Ok(read) => self.has_received |= *read > 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tcp.read_blocked(),
            Err(_) => {}
        }
        read
    }

    /// Has the connection look at what it was given, and sends what it has to say to that.
    fn process(&mut self) -> io::Result<()> {
        match self.connection.process_new_packets() {
            Ok(_) if self.connection.wants_write() => self.flush(false),
            Ok(_) => Ok(()),
            Err(error) => {
                let failure = TlsFailure(error);
                // The peer is told why, if it still listens.
                if failure.is_of_name() {
                    let _ = self.tcp_mut().send(&UNRECOGNIZED_NAME, false);
                } else {
                    let _ = self.flush(false);
                }
                Err(failure.into())
            }
        }
    }

    /// Takes plain bytes out of the connection; `None` when there are none and more may come.
    fn take(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.connection.reader().read(buffer) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.is_truncated = true;
                Ok(Some(0))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads all that has arrived into the end of a large buffer, and decrypts it into its beginning. How much that has
    /// become; 0 when it was no whole record, or the end of the socket.
    fn recv_many(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (plain, arrived) = buffer.split_at_mut(buffer.len() - ARRIVED);
        let tcp = self.tcp_mut();
        let read = match tcp.recv(arrived) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tcp.read_blocked();
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if read > 0 && read < arrived.len() && !tcp.has_exception() && !tcp.has_end() {
            tcp.read_blocked();
        }
        let (mut rest, mut taken) = (&arrived[..read], 0);
        loop {
            let fed = self.connection.read_tls(&mut rest)?;
            if let Err(error) = self.process() {
                if taken == 0 {
                    return Err(error);
                }
                // It is found again when what came before has been passed on.
                self.has_more = true;
                return Ok(taken);
            }
            while let Some(count) = self.take(&mut plain[taken..])? {
                if count == 0 {
                    self.has_more = true;
                    return Ok(taken);
                }
                taken += count;
            }
            if fed == 0 || rest.is_empty() {
                return Ok(taken);
            }
        }
    }
}

impl Socket for TlsSocket {
    fn can_splice(&self) -> bool {
        false
    }

    fn is_readable(&self) -> bool {
        self.has_more || !self.received.is_empty() || self.tcp().is_readable()
    }

    fn is_writable(&self) -> bool {
        self.tcp().is_writable()
    }

    fn has_exception(&self) -> bool {
        self.tcp().has_exception()
    }

    /// Never known beforehand: only a read finds out whether the end was announced.
    fn has_end(&self) -> bool {
        false
    }

    fn may_be_cut(&self) -> bool {
        self.is_truncated
    }

    /// Without `close_notify` the peer knows as little as we do.
    fn end_without_a_word(&mut self) {
        self.has_said_goodbye = true;
    }

    fn has_failed(&self) -> bool {
        self.tcp().has_failed()
    }

    fn take_error(&mut self) -> io::Error {
        self.tcp_mut().take_error()
    }

    fn has_unread(&self) -> bool {
        self.has_more || !self.received.is_empty() || self.tcp().has_unread()
    }

    /// Known already where it is so: a short read does not mean that nothing is left.
    fn read_blocked(&mut self) {}

    /// Known already.
    fn write_blocked(&mut self) {}

    /// Never inlined, as all below: connections without TLS would pay for what it needs on the stack.
    #[inline(never)]
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // It was known to have something, or has been given something.
            if let Some(read) = self.take(buffer)? {
                self.has_more = read == buffer.len() || read == 0;
                return Ok(read);
            }
            if std::mem::take(&mut self.has_more) {
                self.process()?;
            }
            if self.received.is_empty() && buffer.len() >= LARGE && self.tcp().is_readable() {
                match self.recv_many(buffer) {
                    Ok(0) => continue,
                    done => return done,
                }
            }
            match self.read_some() {
                Ok(_) => self.process()?,
                Err(error) => return Err(error),
            }
        }
    }

    #[inline(never)]
    fn send(&mut self, bytes: &[u8], last: bool) -> io::Result<usize> {
        self.flush(false)?;
        if self.connection.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut sent = 0;
        for chunk in bytes.chunks(CHUNK) {
            sent += self.connection.writer().write(chunk)?;
            let is_last = last && sent == bytes.len();
            if is_last {
                self.end();
            }
            self.flush(is_last)?;
            if self.connection.wants_write() {
                break;
            }
        }
        Ok(sent)
    }

    fn splice_in(&mut self, _: &OwnedFd, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn splice_out(&mut self, _: &OwnedFd, _: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[inline(never)]
    fn finish(&mut self) {
        self.end();
        self.is_finishing = true;
        // A peer that is already gone needs not be told.
        let _ = self.flush(true);
    }

    #[inline(never)]
    fn is_drained(&mut self, in_order: bool) -> bool {
        if in_order {
            self.end();
        }
        // What a peer that is gone did not take is lost.
        self.flush(in_order).is_err() || !self.connection.wants_write()
    }
}
