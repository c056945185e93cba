//! A connection of the proxy's own to a server, in plain or with TLS.
//!
//! The sockets of sessions do the same on a reactor of their own; here tokio waits. Neither knows of the other: what they
//! share is the [`Connector`], so that a check asks of a server what a session does. Whoever uses it sets the time limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[cfg(feature = "tls")]
use self::secure::Secure;
use crate::tls::Connector;

/// How much is read at a time, in bytes.
const READ_LEN: usize = 2_048;

/// A connection to a server.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    #[cfg(feature = "tls")]
    tls: Option<Secure>,
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Wire {
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Reads so many bytes at most to the end of `buffer`; 0 is the end.
    ///
    /// # Errors
    ///
    /// Those of the socket, or what the server sends is not TLS where it should be.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>, room: usize) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.read(&self.stream, buffer, room).await;
        }
        buffer.reserve(room.min(READ_LEN));
        (&mut self.stream).take(room as u64).read_buf(buffer).await
    }

    /// Sends all of this.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            return tls.send(&self.stream, bytes).await;
        }
        self.stream.write_all(bytes).await
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &mut self.tls {
            tls.say_goodbye(&self.stream).await?;
        }
        self.stream.shutdown().await
    }

    /// Reads so many bytes at most until the end, as they come: those of TLS stay encrypted.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(super) async fn drain(&mut self, bytes_max: u64, said: &mut Vec<u8>) -> io::Result<usize> {
        (&mut self.stream).take(bytes_max).read_to_end(said).await
    }
}

#[cfg(not(feature = "tls"))]
impl Wire {
    /// True once TLS has begun.
    pub(super) fn is_secure(&self) -> bool {
        false
    }

    /// Nothing: this build has no TLS.
    pub(super) async fn secure(&mut self, connector: &Arc<Connector>, _: &str) -> io::Result<()> {
        match **connector {}
    }
}

#[cfg(feature = "tls")]
impl Wire {
    /// True once TLS has begun.
    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Shakes hands with a server that is configured with this host, which has to prove who it is.
    ///
    /// # Errors
    ///
    /// It does not, or the connection breaks or ends.
    pub(super) async fn secure(&mut self, connector: &Arc<Connector>, host: &str) -> io::Result<()> {
        let connection = connector.probe(host).map_err(crate::tls::TlsFailure)?;
        self.tls.insert(Secure::new(connection)).shake_hands(&self.stream).await
    }
}

#[cfg(feature = "tls")]
mod secure {
    //! TLS over a socket that tokio waits for.

    use std::io::{self, ErrorKind, Read, Write};

    use rustls::Connection;
    use tokio::net::TcpStream;

    use super::READ_LEN;
    use crate::tls::TlsFailure;

    /// The socket as rustls sees it: it never waits.
    struct Now<'s>(&'s TcpStream);

    impl Read for Now<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.try_read(buffer)
        }
    }

    impl Write for Now<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.try_write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Our end of TLS.
    #[derive(Debug)]
    pub(super) struct Secure(Box<Connection>);

    impl Secure {
        pub(super) fn new(connection: Connection) -> Self {
            Self(Box::new(connection))
        }

        pub(super) async fn shake_hands(&mut self, stream: &TcpStream) -> io::Result<()> {
            loop {
                self.flush(stream).await?;
                if !self.0.is_handshaking() {
                    return Ok(());
                }
                if self.fill(stream).await? == 0 {
                    let why = "TLS: the server has closed before the handshake was over";
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
                }
            }
        }

        pub(super) async fn read(
            &mut self,
            stream: &TcpStream,
            buffer: &mut Vec<u8>,
            room: usize,
        ) -> io::Result<usize> {
            let mut plain = [0; READ_LEN];
            let plain = &mut plain[..room.min(READ_LEN)];
            loop {
                match self.0.reader().read(plain) {
                    Ok(read) => {
                        buffer.extend_from_slice(&plain[..read]);
                        return Ok(read);
                    }
                    // Most servers end without a word of TLS.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                self.fill(stream).await?;
                self.flush(stream).await?;
            }
        }

        pub(super) async fn send(&mut self, stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
            while !bytes.is_empty() {
                let taken = self.0.writer().write(bytes)?;
                bytes = &bytes[taken..];
                self.flush(stream).await?;
            }
            Ok(())
        }

        pub(super) async fn say_goodbye(&mut self, stream: &TcpStream) -> io::Result<()> {
            self.0.send_close_notify();
            self.flush(stream).await
        }

        /// Has the connection look at something that has come; 0 is the end.
        async fn fill(&mut self, stream: &TcpStream) -> io::Result<usize> {
            loop {
                stream.readable().await?;
                let read = match self.0.read_tls(&mut Now(stream)) {
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                    read => read?,
                };
                if let Err(error) = self.0.process_new_packets() {
                    // The server is told why, if it still listens.
                    let _ = self.0.write_tls(&mut Now(stream));
                    return Err(TlsFailure(error).into());
                }
                return Ok(read);
            }
        }

        /// Sends what waits.
        async fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
            while self.0.wants_write() {
                match self.0.write_tls(&mut Now(stream)) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }
}
