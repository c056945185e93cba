//! Accepts the admin port's connections and speaks HTTP/1 on them, within bounds.
//!
//! Whoever can reach the port must not be able to make it deaf: connections are counted, a head or an
//! answer that makes no progress ends its connection, heads are small, and running out of file
//! descriptors is waited out. What is answered is the handler's business.

pub(super) mod listen;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use warp::http::Request;

use super::reply::Response;

/// What one connection or all of them may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// At a time; one more is told so and closed.
    pub(super) connections: usize,
    /// For a whole request head, and for silence between two requests.
    pub(super) head_time: Duration,
    /// Of a request head; a larger one is answered 431.
    pub(super) head_bytes: usize,
    /// For a caller that does not take its answer.
    pub(super) write_time: Duration,
    /// For requests under way when the end comes.
    pub(super) shutdown_time: Duration,
}

/// The limits of the admin port.
pub(super) const LIMITS: Limits = Limits {
    connections: 256,
    head_time: Duration::from_secs(5),
    head_bytes: 16 * 1024,
    write_time: Duration::from_secs(10),
    shutdown_time: Duration::from_secs(1),
};

/// Enough for a head and a good piece of a body; hyper would take more than 400 KiB.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long to wait when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection too many is told.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\ncontent-length: 100\r\n\r\n\
    {\"ok\":false,\"code\":\"too_many_connections\",\"msg\":\"the admin port has no place left; try again later\"}";

/// Who is at the other end; `None` on a unix socket.
pub(super) type Peer = Option<SocketAddr>;

/// A listener of either kind.
pub(super) trait Accept {
    type Io: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static;

    /// The next connection. Dropping the future loses none.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, peer) = TcpListener::accept(self).await?;
        // Answers are one write each; waiting for more would only delay them.
        stream.set_nodelay(true).ok();
        Ok((stream, Some(peer)))
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn accept(&mut self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok((stream, None))
    }
}

/// Serves until `shutdown`; then no new connection, and those with a request under way get
/// [`Limits::shutdown_time`]. Dropping the future ends every connection at once.
pub(super) async fn serve<A, H, F>(mut listener: A, limits: Limits, handler: H, shutdown: CancellationToken)
where
    A: Accept,
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let http = http(limits);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let (mut is_failing, mut is_full) = (false, false);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "admin connection ended by a fault of ours");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "admin port cannot accept for now");
                }
                let _ = timeout(ACCEPT_PAUSE, shutdown.cancelled()).await;
                continue;
            }
        };
        is_failing = false;
        if connections.len() >= limits.connections {
            if !std::mem::replace(&mut is_full, true) {
                tracing::warn!(connections = limits.connections, "admin port is full and refuses connections");
            }
            refuse(&io);
            continue;
        }
        is_full = false;

        let handler = handler.clone();
        let service = service_fn(move |request| {
            let answer = handler(peer, request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let io = TokioIo::new(Impatient { io, write_time: limits.write_time, stalled: None });
        let connection = graceful.watch(http.serve_connection(io, service));
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, client.addr = peer.map(tracing::field::display), "admin connection failed");
            }
        });
    }
    drop(listener);
    let _ = timeout(limits.shutdown_time, graceful.shutdown()).await;
}

fn http(limits: Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_header_size(limits.head_bytes)
        .max_buf_size(BUFFER_BYTES)
        // A script that has sent its request may shut down its side and still wait for the answer.
        .half_close(true);
    http
}

/// Says in one write that there is no room; a caller that cannot take it at once does not get it.
///
/// Past the runtime, which would have to wait until it has heard that a new socket is writable.
fn refuse(io: &impl AsFd) {
    let _ = rustix::net::send(io, BUSY, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// Fails a write that makes no progress, so that a caller who reads nothing does not keep its place.
struct Impatient<T> {
    io: T,
    write_time: Duration,
    /// Only while a write waits: an idle connection has no timer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncWrite + Unpin> Impatient<T> {
    fn judge<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.write_time)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Impatient<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Impatient<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.io).poll_shutdown(context);
        self.judge(context, ended)
    }
}

#[cfg(test)]
mod tests;
