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
use service::Silence;
pub use service::{ProxySessionService, SessionRecord};
use stream::TcpSocket;

use crate::counters::EndReason;
use crate::data::deadlines::NEVER;
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
    /// When its thread has to look at it, whatever else it does; [`NEVER`] where the scan of all sessions is enough.
    due_ms: u64,
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
            Ok((client, stage, due_ms)) => {
                Box::new(Self { client, stage, guard, waits_for_turn: false, due_ms }).advance(workspace)
            }
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
    ) -> Result<(TcpSocket, Stage, u64), NotConnected> {
        if guard.is_over_limit() {
            return Err(NotConnected::because(EndReason::Limit));
        }
        let reactor = &workspace.reactor;
        let now_ms = workspace.now_ms;
        let means = Means { record: guard.record(), token: Token::server(guard.key()), reactor, now_ms };
        let (stage, due_ms) = match dial::search(&client, means, &mut workspace.scratch)? {
            Search::Over(connected) => Stage::relaying(connected, guard.record(), now_ms),
            Search::Connecting(connecting) => {
                let until_ms = connecting.until_ms();
                (Stage::Connecting(connecting), until_ms)
            }
        };
        let client = TcpSocket::accepted(client, Token::client(guard.key()), reactor);
        Ok((client.map_err(dial::out_of_descriptors)?, stage, due_ms))
    }

    /// A session in which nothing will ever happen.
    #[cfg(test)]
    pub(crate) fn idle_for_tests(guard: SessionGuard, workspace: &Workspace) -> Box<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let socket = |token| {
            let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::NONBLOCK, None).unwrap();
            TcpSocket::accepted(fd, token, &workspace.reactor).unwrap()
        };
        let (client, server) = (socket(Token::client(guard.key())), socket(Token::server(guard.key())));
        let record = guard.record();
        let slot = record.group().pick(record.client(), &[]).unwrap();
        record.set_connected(&slot.server, 1, slot.epoch, workspace.now_ms);
        let stage = Stage::Relaying { server, relay: Relay::default(), _slot: slot };
        Box::new(Self { client, stage, guard, waits_for_turn: false, due_ms: NEVER })
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
            let (reactor, now_ms) = (&workspace.reactor, workspace.now_ms);
            let means = Means { record, token: Token::server(self.guard.key()), reactor, now_ms };
            match connecting.advance(means)? {
                Some(connected) => (self.stage, self.due_ms) = Stage::relaying(connected, record, now_ms),
                None => {
                    self.due_ms = connecting.until_ms();
                    return Ok(Pause::UntilEvent);
                }
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

    /// When its thread has to look at it; [`NEVER`] where the scan of all sessions is enough.
    pub(crate) fn due_ms(&self) -> u64 {
        self.due_ms
    }

    /// Looks after a session to which nothing has happened: its connect may have taken too long, or its silence.
    /// `None` when the session is over.
    pub(crate) fn look(mut self: Box<Self>, workspace: &mut Workspace) -> Option<(Box<Self>, Pause)> {
        let (record, now_ms) = (self.guard.record(), workspace.now_ms);
        record.count_bytes();
        match self.stage {
            Stage::Connecting(_) if self.due_ms <= now_ms => return self.advance(workspace),
            Stage::Connecting(_) => {}
            Stage::Relaying { .. } => match record.silence(now_ms) {
                Silence::TooLong(reason) => {
                    self.end(reason, workspace);
                    return None;
                }
                // A deadline that it has already is early enough, or else puts itself off when it is reached.
                Silence::Allowed { look_at_ms } if self.due_ms <= now_ms || look_at_ms < self.due_ms => {
                    self.due_ms = look_at_ms;
                }
                Silence::Allowed { .. } => {}
            },
        }
        Some((self, Pause::UntilEvent))
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
    /// The stage, and when the session has to be looked at.
    fn relaying(connected: Connected, record: &SessionRecord, now_ms: u64) -> (Self, u64) {
        let Connected { server, slot, unsent, sent, client_has_finished, look_at_ms } = connected;
        if sent > 0 {
            record.add_up(sent as u64, now_ms);
        }
        (Self::Relaying { server, relay: Relay::new(unsent, client_has_finished), _slot: slot }, look_at_ms)
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
