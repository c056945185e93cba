//! Accepts the admin port's connections and speaks HTTP/1 on them, within bounds.
//!
//! Whoever can reach the port must not be able to make it deaf: connections have `places`, and one that does
//! nothing makes room for a new one; a head or an answer that makes no progress ends its connection, heads are
//! small, and running out of file descriptors is waited out. `connection` is the life of one connection. What is
//! answered is the handler's business.

mod connection;
mod limits;
pub(super) mod listen;
mod places;
mod stream;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use hyper::body::Incoming;
use rustix::net::SendFlags;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::http::Request;

use super::reply::Response;
use crate::events::{self, AdminEvent, Event};
use connection::{Connection, Tracked};
pub(super) use limits::{Caller, LIMITS, Limits, Peer};
use places::Places;
use stream::Stream;

/// How long to wait when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a connection too many is told.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
    x-content-type-options: nosniff\r\ncache-control: no-store\r\nconnection: close\r\ncontent-length: 101\r\n\r\n\
    {\"ok\":false,\"code\":\"too_many_connections\",\"msg\":\"the admin port has no place left; try again later\"}\n";

/// The body of a request.
pub(super) type Body = Tracked<Incoming>;

/// A listener of either kind.
pub(super) trait Accept {
    type Io: Stream;

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

/// When to serve no more.
#[derive(Clone, Debug)]
pub(super) struct Stops {
    /// Takes no new connection, and closes those that wait; requests under way take as long as they take. Cancelled by
    /// `shutdown` as well.
    pub(super) resting: CancellationToken,
    /// Requests under way get [`Limits::shutdown_time`].
    pub(super) shutdown: CancellationToken,
}

/// Serves until it is told to [stop](Stops). Dropping the future ends every connection at once.
pub(super) async fn serve<A, H, F>(mut listener: A, limits: Limits, handler: H, stops: &Stops)
where
    A: Accept,
    H: Fn(Caller, Request<Body>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let Stops { resting, shutdown } = stops;
    let places = Places::new(limits.connections);
    let mut connections = JoinSet::new();
    let (mut is_failing, mut is_full) = (false, false);
    loop {
        let accepted = tokio::select! {
            biased;
            () = resting.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report_end(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (io, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tell(AdminEvent::Exhausted { error: error.to_string().into() });
                }
                // The process may have no descriptor left.
                places.evict();
                let _ = timeout(ACCEPT_PAUSE, resting.cancelled()).await;
                continue;
            }
        };
        is_failing = false;
        let place = tokio::select! {
            biased;
            () = resting.cancelled() => break,
            place = places.take() => place,
        };
        let Some(place) = place else {
            if !std::mem::replace(&mut is_full, true) {
                tell(AdminEvent::Full { connections: limits.connections });
            }
            refuse(&io);
            continue;
        };
        is_full = false;
        let connection = Connection::new(peer, place, limits, handler.clone(), resting.clone());
        connections.spawn(connection.run(io));
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report_end(ended);
        }
    };
    tokio::pin!(all_ended);
    if shutdown.run_until_cancelled(&mut all_ended).await.is_none() {
        let _ = timeout(limits.shutdown_time, all_ended).await;
    }
}

fn report_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tell(AdminEvent::ConnectionFailed { error: error.to_string().into() });
    }
}

fn tell(event: AdminEvent) {
    events::publish(Event::Admin(event));
}

/// Says in one write that there is no room; a caller that cannot take it at once does not get it.
///
/// Past the runtime, which would have to wait until it has heard that a new socket is writable.
fn refuse(io: &impl AsFd) {
    let _ = rustix::net::send(io, BUSY, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

#[cfg(test)]
mod tests;
