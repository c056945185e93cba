//! The socket below TLS, as the connection reads and writes it.

use std::io::{self, IoSlice, Read, Write};

use crate::data::session::relay::Socket;
use crate::data::session::stream::tcp::TcpSocket;

/// What has arrived, as the connection reads it.
pub(super) struct Incoming<'a>(pub(super) &'a mut TcpSocket);

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }
}

/// What the connection sends.
pub(super) struct Outgoing<'a> {
    pub(super) tcp: &'a mut TcpSocket,
    pub(super) more: bool,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.send_parts(&[IoSlice::new(bytes)], self.more)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.tcp.send_parts(parts, self.more)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
