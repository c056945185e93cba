//! One connect of the proxy's own to a server, and its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::wire::Wire;
use crate::base::failure::{is_ours, worded};
use crate::net::proxy_header::{self, Ends, Written};
use crate::net::source;
use crate::server::SendProxy;
use crate::tls::Connector;

/// How long a server may still send after we have finished, and how much.
const END_WAIT: Duration = Duration::from_secs(1);
const END_BYTES_MAX: u64 = 16 * 1_024;

/// How a server is reached: the way a session would go.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) source: Option<IpAddr>,
    pub(super) header: SendProxy,
    /// The time for all of its addresses together.
    pub(super) timeout: Duration,
    /// How sessions speak TLS to it, and the host that it is configured with; `None` when they do not.
    pub(super) tls: Option<(Arc<Connector>, Arc<str>)>,
}

/// Reaches a server at the first of `addresses` that answers, and where sessions speak TLS, shakes hands. Answers as
/// [`connect`] does.
pub(super) async fn reach(addresses: &[SocketAddr], way: &Way) -> Option<Result<Wire, String>> {
    let part = way.timeout / u32::try_from(addresses.len()).ok().filter(|count| *count > 0)?;
    let mut last = None;
    for addr in addresses {
        let deadline = Instant::now() + part;
        let stream = match connect(&[*addr], way.source, part).await? {
            Ok(stream) => stream,
            Err(why) => {
                last = Some(why);
                continue;
            }
        };
        last = match tokio::time::timeout_at(deadline, greet(stream, way)).await {
            Ok(Ok(wire)) => return Some(Ok(wire)),
            Ok(Err(error)) => Some(worded(&error)),
            Err(_elapsed) => Some(format!("TLS: no handshake within {part:?}")),
        };
    }
    last.map(Err)
}

/// Shakes hands where sessions do, after the PROXY header.
async fn greet(stream: TcpStream, way: &Way) -> io::Result<Wire> {
    let header = way.tls.as_ref().and_then(|_| header_of(way.header, &stream));
    let mut wire = Wire::from(stream);
    if let Some((connector, host)) = &way.tls {
        wire.send(header.as_deref().unwrap_or_default()).await?;
        wire.secure(connector, host).await?;
    }
    Ok(wire)
}

/// Connects to the first of `addresses` that answers, from `source` if it is given; each has an equal part of `timeout`.
///
/// `None` when the attempt told nothing of the server: there is no address, or this machine has no free port or
/// descriptor. Otherwise the connection, or why there is none, for people.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    timeout: Duration,
) -> Option<Result<TcpStream, String>> {
    let part = timeout / u32::try_from(addresses.len()).ok().filter(|count| *count > 0)?;
    let mut last = None;
    for addr in addresses {
        let error = match tokio::time::timeout(part, connect_from(source, *addr)).await {
            Ok(Ok(stream)) if !reached_itself(&stream) => return Some(Ok(stream)),
            Ok(Ok(_)) => io::ErrorKind::ConnectionRefused.to_string(),
            Ok(Err(error)) if is_ours(&error) => return None,
            Ok(Err(error)) => worded(&error),
            Err(_elapsed) => format!("no answer within {part:?}"),
        };
        last = Some(error);
    }
    last.map(Err)
}

/// Connects from `source`, or from where the system likes.
async fn connect_from(source: Option<IpAddr>, addr: SocketAddr) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect(addr).await };
    for _ in 0..source::TRIES_MAX {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        source::bind(&socket, source, addr)?;
        match socket.connect(addr).await {
            // The port has a connection to this address already.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            connected => return connected,
        }
    }
    Err(io::ErrorKind::AddrNotAvailable.into())
}

/// The PROXY header of a connect of our own: nobody is spoken for. Version 1 has no word for that which servers would take.
pub(super) fn header_of(version: SendProxy, stream: &TcpStream) -> Option<Written> {
    let ends = match (version, stream.local_addr(), stream.peer_addr()) {
        (SendProxy::V1, Ok(source), Ok(destination)) => Some(Ends { source, destination }),
        _ => None,
    };
    let header = proxy_header::write(version, ends, None)?;
    // Otherwise what follows would wait until the server has acknowledged it; then it is late, but not wrong.
    let _ = stream.set_nodelay(true);
    Some(header)
}

/// Ends a connection on which nothing was said, as [`end_with`] does. A server that expects a PROXY header gets one:
/// without it, it would complain in its log. With TLS it has had one before the handshake.
pub(super) async fn end_after_header(wire: Wire, version: SendProxy) -> Vec<u8> {
    let header = if wire.is_secure() { None } else { header_of(version, wire.tcp()) };
    end_with(wire, header.as_deref().unwrap_or_default()).await
}

/// Ends a connection so that the server sees no reset, whatever it was about to send, with a last word that its protocol
/// asks for. Answers what it was about to send, in plain only.
pub(super) async fn end_with(mut wire: Wire, goodbye: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    // The connection ends in any case; how, only the server's log tells.
    let ending = async {
        wire.send(goodbye).await?;
        wire.finish().await?;
        wire.drain(END_BYTES_MAX, &mut said).await
    };
    let _ = tokio::time::timeout(END_WAIT, ending).await;
    said
}

/// A connect to a free port of this machine may get that very port as its own and so meet itself.
fn reached_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn closed_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_server_answers_when_one_of_its_addresses_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let stream = connect(&[closed_port(), open], Some([127, 9, 8, 6].into()), TIMEOUT).await.unwrap().unwrap();
        assert_eq!((stream.peer_addr().unwrap(), stream.local_addr().unwrap().ip()), (open, [127, 9, 8, 6].into()));
        assert!(
            connect(&[open], Some([192, 0, 2, 1].into()), TIMEOUT).await.is_none(),
            "it says nothing of the server"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_plain_words_and_no_address_tells_nothing() {
        assert_eq!(connect(&[closed_port()], None, TIMEOUT).await.unwrap().unwrap_err(), "connection refused");
        assert!(connect(&[], None, TIMEOUT).await.is_none());
    }

    #[tokio::test]
    async fn a_server_that_speaks_first_sees_an_end_and_no_reset() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut server, _) = listener.accept().await.unwrap();
            server.write_all(b"220 ready\r\n").await.unwrap();
            server.read(&mut [0; 16]).await
        });
        let stream = connect(&[addr], None, TIMEOUT).await.unwrap().unwrap();
        stream.readable().await.unwrap();
        end_with(stream.into(), b"").await;
        assert_eq!(served.await.unwrap().unwrap(), 0);
    }
}
