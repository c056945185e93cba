//! One client's life, and the service that knows all sessions.
//!
//! [`TcpProxySession`] is a client from accept to close: a server is found for it (`dial`), bytes are
//! moved both ways until both have ended (`relay`), and it ends for exactly one reason. It lives on the
//! data thread that accepted it and never leaves it: that thread tells it what has happened to its sockets
//! and lets it advance. [`ProxySessionService`] knows all of them.

mod dial;
mod relay;
mod service;
mod stream;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use dial::{Connected, Connecting, Means, NotConnected, Search};
pub(crate) use relay::{Pause, Side, Workspace};
use relay::{Relay, RelayEnd};
pub(crate) use service::SessionGuard;
pub use service::{ProxySessionService, SessionRecord};
use stream::TcpSocket;

use crate::counters::EndReason;
use crate::data::poll::{Ready, SessionKey, Token};
use crate::group::ServerSlot;

/// One client's connection and its server's, as one. The name is given.
#[derive(Debug)]
pub struct TcpProxySession {
    client: TcpSocket,
    stage: Stage,
    guard: SessionGuard,
    /// It has to go on without an event, when the others of its thread have had their turn.
    waits_for_turn: bool,
}

/// What a session is doing.
#[derive(Debug)]
enum Stage {
    Connecting(Box<Connecting>),
    Relaying {
        server: TcpSocket,
        relay: Relay,
        /// Its place on the server.
        _slot: ServerSlot,
    },
}

/// What a scan found a session to need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    None,
    /// Its connect has taken too long.
    Advance,
    /// It was silent for too long.
    End(EndReason),
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
    /// Begins to serve a client that was just accepted, non-blocking, and advances as far as that goes at once.
    /// `None` when the session is over already.
    pub(crate) fn start(client: OwnedFd, guard: SessionGuard, workspace: &mut Workspace) -> Option<(Box<Self>, Pause)> {
        match Self::begin(client, &guard, workspace) {
            Ok((client, stage)) => Box::new(Self { client, stage, guard, waits_for_turn: false }).advance(workspace),
            Err(end) => {
                guard.finish(end.reason, end.error);
                None
            }
        }
    }

    /// The first server, and both sockets watched. Whatever was opened is closed when that fails.
    fn begin(
        client: OwnedFd,
        guard: &SessionGuard,
        workspace: &mut Workspace,
    ) -> Result<(TcpSocket, Stage), NotConnected> {
        if guard.is_over_limit() {
            return Err(NotConnected::because(EndReason::Limit));
        }
        let reactor = &workspace.reactor;
        let means = Means { record: guard.record(), token: Token::server(guard.key()), reactor };
        let stage = match dial::search(&client, means, &mut workspace.scratch)? {
            Search::Over(connected) => Stage::relaying(connected, guard.record()),
            Search::Connecting(connecting) => Stage::Connecting(connecting),
        };
        let client = TcpSocket::accepted(client, Token::client(guard.key()), reactor);
        Ok((client.map_err(dial::out_of_descriptors)?, stage))
    }

    /// Keeps what the reactor says of one of its sockets.
    pub(crate) fn told(&mut self, side: Side, ready: Ready) {
        match (side, &mut self.stage) {
            (Side::Client, _) => self.client.told(ready),
            (Side::Server, Stage::Relaying { server, .. }) => server.told(ready),
            (Side::Server, Stage::Connecting(connecting)) => connecting.told(ready),
        }
    }

    /// Does what can be done now. `None` when the session is over.
    pub(crate) fn advance(mut self: Box<Self>, workspace: &mut Workspace) -> Option<(Box<Self>, Pause)> {
        match self.step(workspace) {
            Ok(pause) => {
                self.waits_for_turn = pause == Pause::ForOthers;
                Some((self, pause))
            }
            Err(end) => {
                self.close(end, workspace);
                None
            }
        }
    }

    fn step(&mut self, workspace: &mut Workspace) -> Result<Pause, RelayEnd> {
        let record = self.guard.record();
        if let Stage::Connecting(connecting) = &mut self.stage {
            let means = Means { record, token: Token::server(self.guard.key()), reactor: &workspace.reactor };
            match connecting.advance(means)? {
                Some(connected) => self.stage = Stage::relaying(connected, record),
                None => return Ok(Pause::UntilEvent),
            }
        }
        let Stage::Relaying { server, relay, .. } = &mut self.stage else { unreachable!("it has become so above") };
        let pause = relay.advance(&mut self.client, server, workspace, record)?;
        for socket in [&mut self.client, server] {
            socket.rearm(&workspace.reactor).map_err(dial::out_of_descriptors)?;
        }
        Ok(pause)
    }

    /// True while it is to advance in its turn, whatever happens until then.
    pub(crate) fn waits_for_turn(&self) -> bool {
        self.waits_for_turn
    }

    /// Looks after a session to which nothing happens.
    pub(crate) fn scan(&self, now_ms: u64) -> Need {
        let record = self.guard.record();
        record.count_bytes();
        match &self.stage {
            Stage::Connecting(connecting) if connecting.has_timed_out(now_ms) => Need::Advance,
            Stage::Connecting(_) => Need::None,
            Stage::Relaying { .. } => record.timed_out(now_ms).map_or(Need::None, Need::End),
        }
    }

    /// How its thread finds it.
    pub(crate) fn key(&self) -> SessionKey {
        self.guard.key()
    }

    /// Ends the session because somebody said so.
    pub(crate) fn end(self: Box<Self>, reason: EndReason, workspace: &mut Workspace) {
        self.close(RelayEnd { reason, reset: None, error: None }, workspace);
    }

    /// Closes both sockets the way the session ended, and then tells everybody that it did.
    fn close(self: Box<Self>, end: RelayEnd, workspace: &mut Workspace) {
        let Self { client, mut stage, guard, .. } = *self;
        if let Stage::Relaying { server, relay, .. } = &mut stage {
            relay.release(workspace);
            match end.reset {
                Some(Side::Client) => client.reset_on_close(),
                Some(Side::Server) => server.reset_on_close(),
                None => {}
            }
        }
        drop((client, stage));
        guard.finish(end.reason, end.error);
    }
}

impl Stage {
    fn relaying(connected: Connected, record: &SessionRecord) -> Self {
        let Connected { server, slot, unsent, sent, client_has_finished } = connected;
        if sent > 0 {
            record.add_up(sent as u64);
        }
        Self::Relaying { server, relay: Relay::new(unsent, client_has_finished), _slot: slot }
    }
}

impl From<NotConnected> for RelayEnd {
    fn from(NotConnected { reason, error }: NotConnected) -> Self {
        Self { reason, reset: None, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a session holds while it idles: nothing big may creep into it.
    #[test]
    fn an_idle_session_stays_small() {
        let sizes = (size_of::<TcpProxySession>(), size_of::<SessionRecord>());
        assert!(sizes.0 <= 256 && sizes.1 <= 160, "{sizes:?}");
    }
}
