//! One client's life, and the service that knows all sessions.
//!
//! [`TcpProxySession`] is a client from accept to close: a server is found for it (`connect`), bytes are
//! moved both ways until both have ended (`relay`), and it ends for exactly one reason. It lives on the
//! data thread that accepted it and never leaves it. [`ProxySessionService`] knows all of them.

mod connect;
mod relay;
mod service;
mod socket;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

pub(crate) use relay::Workspace;
pub(crate) use service::SessionGuard;
pub use service::{ProxySessionService, SessionRecord};

use crate::counters::EndReason;
use connect::{Connected, NotConnected};
use relay::{Relay, RelayEnd, Side};
use socket::TcpSocket;
pub(crate) use socket::watch;

/// One client's connection and its server's, as one. The name is given.
#[derive(Debug)]
pub struct TcpProxySession {
    client: OwnedFd,
    guard: SessionGuard,
    workspace: Rc<Workspace>,
}

/// A session as `session-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionView {
    /// Unique for the life of the process; grows.
    pub id: u64,
    /// The group's port.
    pub group: u16,
    /// The client.
    pub client: SocketAddr,
    /// The server; `None` while none is connected.
    pub server: Option<String>,
    /// Since the client was accepted.
    pub age_ms: u64,
    /// Since either side last sent something.
    pub idle_ms: u64,
    /// Bytes client → server.
    pub bytes_up: u64,
    /// Bytes server → client.
    pub bytes_down: u64,
}

/// Some of the sessions, and how many there are.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionList {
    /// Newest first, at most as many as were asked for.
    pub sessions: Vec<SessionView>,
    /// All of them.
    pub total: usize,
}

impl TcpProxySession {
    /// A session for a client that was just accepted, non-blocking.
    pub(crate) fn new(client: OwnedFd, guard: SessionGuard, workspace: Rc<Workspace>) -> Self {
        Self { client, guard, workspace }
    }

    /// Serves the client. Ends when the session is over; dropping it closes both connections.
    pub(crate) async fn run(self) {
        let Self { client, guard, workspace } = self;
        if guard.is_over_limit() {
            drop(client);
            return guard.finish(EndReason::Limit, None);
        }
        let (reason, error) = match connect::connect(&client, guard.record(), &workspace).await {
            Ok(connected) => {
                let end = relay(client, connected, guard.record(), &workspace).await;
                (end.reason, end.error)
            }
            Err(NotConnected { reason, error }) => {
                drop(client);
                (reason, error)
            }
        };
        guard.finish(reason, error.map(|error| error.to_string().into()));
        workspace.freed.notify_waiters();
    }
}

/// Moves bytes until the session is over, and closes both sockets the way it ended.
async fn relay(client: OwnedFd, connected: Connected, record: &SessionRecord, workspace: &Workspace) -> RelayEnd {
    let Connected { mut server, slot: _slot, unsent, sent, client_has_finished } = connected;
    let mut client = match TcpSocket::accepted(client) {
        Ok(client) => client,
        Err(error) => return RelayEnd { reason: EndReason::Limit, reset: None, error: Some(error) },
    };
    if sent > 0 {
        record.add_up(sent as u64);
    }
    let mut relay = Relay::new(unsent, client_has_finished);
    let end = poll_fn(|cx| {
        record.arm(cx.waker());
        if let Some(reason) = record.verdict() {
            return Poll::Ready(RelayEnd { reason, reset: None, error: None });
        }
        relay.poll(&mut client, &mut server, workspace, record, cx)
    })
    .await;
    relay.release(workspace);
    match end.reset {
        Some(Side::Client) => client.reset_on_close(),
        Some(Side::Server) => server.reset_on_close(),
        None => {}
    }
    end
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::group::{Group, GroupSettings};

    /// What a session holds while it idles is its task: nothing big may creep into it.
    #[test]
    fn the_task_of_a_session_stays_small() {
        let settings = GroupSettings::for_tests("round_robin");
        let group = Arc::new(Group::for_tests(settings, Vec::new()));
        let service = Arc::new(ProxySessionService::new(1, 10));
        let guard = service.register(0, "127.0.0.1:2".parse().unwrap(), &group);
        let (client, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let session = TcpProxySession::new(client.into(), guard, Rc::new(Workspace::new()));
        let task = session.run();
        let sizes = (size_of_val(&task), size_of::<SessionRecord>());
        assert!(sizes.0 <= 704 && sizes.1 <= 160, "{sizes:?}");
    }
}
