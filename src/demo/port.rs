//! A free port that stays ours while nobody listens on it.
//!
//! Asking the system for a free port and closing the socket again would leave a gap in which anybody may
//! take it: another demonstration, or a connection that needs a port of its own. So a socket stays bound to
//! it that never listens. It allows others beside it (Linux lets them bind as long as it does not listen),
//! the system gives the port to nobody who asks for any, and connecting to it is refused.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel may hold for an echo server.
const BACKLOG: u32 = 1024;

/// A port on loopback.
pub(super) struct Port {
    pub(super) addr: SocketAddr,
    /// Keeps it ours.
    _holder: TcpSocket,
}

impl Port {
    pub(super) fn reserve() -> io::Result<Self> {
        let holder = socket()?;
        // The proxy has a listener of its own for each of its threads.
        holder.set_reuseport(true)?;
        holder.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { addr: holder.local_addr()?, _holder: holder })
    }

    /// Listens on it; may be called again when the listener is dropped.
    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        let socket = socket()?;
        socket.bind(self.addr)?;
        socket.listen(BACKLOG)
    }
}

fn socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_port_is_ours_before_while_and_after_somebody_listens() {
        let port = Port::reserve().unwrap();
        for _ in 0..2 {
            let refused = TcpStream::connect(port.addr).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let listener = port.listen().unwrap();
            let _client = TcpStream::connect(port.addr).await.unwrap();
            listener.accept().await.unwrap();
        }
    }
}
