//! A client, or a server's end of a connection: blocking, with a deadline on everything.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;
use sha2::{Digest, Sha256};

use super::DEADLINE;

/// One end of a TCP connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    InOrder,
    Reset,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        match Self::try_connect(addr) {
            // Accepted and reset before the connect has returned: as one that is reset a moment later.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Self::that_was_reset(),
            client => client.unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}")),
        }
    }

    /// A client whose connection was accepted and reset.
    fn that_was_reset() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(addr).expect("it listens");
        let (server, _) = listener.accept().expect("one waits");
        Self::new(server).reset();
        Self::new(client)
    }

    /// A connection may have been accepted and reset before this returns, which is then its error.
    pub(crate) fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        TcpStream::connect_timeout(&addr, DEADLINE).map(Self::new)
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a stream takes options");
        stream.set_read_timeout(Some(DEADLINE)).expect("a stream takes options");
        stream.set_write_timeout(Some(DEADLINE)).expect("a stream takes options");
        Self { stream }
    }

    /// Another handle of the same connection, for a second thread.
    pub(crate) fn twin(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a descriptor is left") }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the other side takes it");
    }

    #[track_caller]
    pub(crate) fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap_or_else(|error| panic!("{length} bytes were promised: {error}"));
        bytes
    }

    /// Sends as much as fits until nothing more does, and `is_stuck` says that nothing moves.
    pub(crate) fn send_until(&mut self, is_stuck: impl Fn() -> bool) {
        self.stream.set_nonblocking(true).expect("a stream takes options");
        super::eventually("nothing more fits", || {
            let mut has_sent = false;
            while self.stream.write(&[7; 64 << 10]).is_ok() {
                has_sent = true;
            }
            !has_sent && is_stuck()
        });
        self.stream.set_nonblocking(false).expect("a stream takes options");
    }

    /// Sends and expects the same back.
    #[track_caller]
    pub(crate) fn echo(&mut self, bytes: &[u8]) {
        self.send(bytes);
        assert_eq!(self.receive(bytes.len()), bytes);
    }

    /// The same; the session may be over.
    pub(crate) fn try_echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        self.stream.read_exact(&mut back)?;
        if back == bytes { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    /// Reads until the end: what came, and which end it was.
    #[track_caller]
    pub(crate) fn receive_all(&mut self) -> (Vec<u8>, Ended) {
        let mut bytes = Vec::new();
        let ended = match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Ended::InOrder,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ended::Reset,
            Err(error) => panic!("no end came after {} bytes: {error}", bytes.len()),
        };
        (bytes, ended)
    }

    /// As many bytes as come before the end, `length` at most.
    #[track_caller]
    pub(crate) fn receive_all_until(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.stream).take(length).read_to_end(&mut bytes).expect("bytes or an orderly end");
        bytes
    }

    /// As many bytes as come before whatever end, `length` at most.
    pub(crate) fn receive_some(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        // An end that is no orderly one is an end, too.
        let _ = Read::by_ref(&mut self.stream).take(length).read_to_end(&mut bytes);
        bytes
    }

    /// Sends no more, still receives.
    pub(crate) fn finish(&self) {
        // A peer that is gone needs not be told.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a stream takes options");
    }

    /// Makes the kernel hold little for this end, so that the other one is blocked soon. Less than a segment
    /// of loopback would make TCP wait for its timers.
    pub(crate) fn hold_little(&self) {
        sockopt::set_socket_recv_buffer_size(&self.stream, 128 << 10).expect("a stream takes options");
    }
}

/// A client of a group on 127.0.0.1 whose servers are [`named_echo`](super::named_echo)s.
#[derive(Debug)]
pub(crate) struct Visitor {
    client: Client,
    /// The server that took it.
    pub(crate) server: String,
}

impl Visitor {
    #[track_caller]
    pub(crate) fn connect(group: u16) -> Self {
        Self::try_connect(group).unwrap_or_else(|error| panic!("group {group} serves no client: {error}"))
    }

    pub(crate) fn try_connect(group: u16) -> io::Result<Self> {
        let mut client = Client::new(TcpStream::connect(("127.0.0.1", group))?);
        let (mut server, mut byte) = (Vec::new(), [0]);
        loop {
            client.stream.read_exact(&mut byte)?;
            if byte == *b"\n" {
                let server = String::from_utf8(server).map_err(io::Error::other)?;
                return Ok(Self { client, server });
            }
            server.extend(byte);
        }
    }

    /// Sends and expects the same back.
    #[track_caller]
    pub(crate) fn round_trip(&mut self, bytes: &[u8]) {
        self.client.echo(bytes);
    }

    /// The same; the session may be over.
    pub(crate) fn try_round_trip(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.stream.write_all(bytes)?;
        let mut back = vec![0; bytes.len()];
        self.client.stream.read_exact(&mut back)?;
        if back == bytes { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

/// `length` bytes in which every position differs from its neighbours, and every seed from the others.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
