//! One client's life, and the service that knows all sessions.
//!
//! [`TcpProxySession`] is a client from accept to close. It goes through `stages`: the client is let in and has its
//! first say (`opening`), perhaps after a proxy has said whom it speaks for (`header`) or after its TLS hello has led it to another
//! group (`hello`) or after a TLS handshake (`handshake`), a server is found for it (`dial`), bytes are moved both ways until both have ended
//! (`relay`), and it ends for exactly one reason. It lives on the data thread that accepted it and never leaves it:
//! that thread tells it what has happened to its sockets and lets it advance. [`ProxySessionService`] knows all of
//! them.

mod asking;
mod attempt;
mod closing;
mod connect;
mod dial;
mod failed;
mod greeting;
#[cfg(feature = "tls")]
mod handshake;
mod header;
mod hello;
mod hold;
mod opening;
mod passage;
mod progress;
mod record;
mod relay;
mod relaying;
mod service;
mod stages;
mod starttls;
mod stream;
mod view;
mod waiting;

use std::os::fd::OwnedFd;

pub use record::SessionRecord;
use relay::RelayEnd;
pub(crate) use relay::{Pause, Side, Workspace};
pub use service::ProxySessionService;
pub(crate) use service::{SessionGuard, SessionRef};
use stages::Stage;
use stream::Stream;
pub use view::{SessionList, SessionView};

use crate::counters::EndReason;
use crate::data::poll::{Ready, SessionKey};
use crate::events::TlsFacts;

/// One client's connection and its server's, as one. The name is given.
#[derive(Debug)]
pub struct TcpProxySession {
    // In the order in which they are dropped: the sockets are closed before anybody is told.
    client: Stream,
    stage: Stage,
    guard: SessionGuard,
}

impl TcpProxySession {
    /// Begins to serve a client that was just accepted, non-blocking, and advances as far as that goes at once.
    /// `None` when the session is over already.
    pub(crate) fn start(
        client: OwnedFd,
        mut guard: SessionGuard,
        workspace: &mut Workspace,
    ) -> Option<(Box<Self>, Pause)> {
        match Stage::begin(client, &mut guard, workspace) {
            Ok((client, stage)) => Box::new(Self { client, stage, guard }).advance(workspace),
            Err(end) => {
                guard.set_end(end.reason, end.error);
                None
            }
        }
    }

    /// Keeps what the reactor says of one of its sockets.
    pub(crate) fn on_ready(&mut self, side: Side, ready: Ready) {
        match side {
            Side::Client => self.client.on_ready(ready),
            Side::Server => self.stage.on_server_ready(ready),
        }
    }

    /// Does what can be done now. `None` when the session is over.
    pub(crate) fn advance(mut self: Box<Self>, workspace: &mut Workspace) -> Option<(Box<Self>, Pause)> {
        let Self { client, stage, guard, .. } = &mut *self;
        match stage.advance(client, guard, workspace) {
            Ok(pause) => {
                self.guard.has_yielded = pause == Pause::ForOthers;
                Some((self, pause))
            }
            Err(end) => {
                self.close(end, workspace);
                None
            }
        }
    }

    /// True while it is to go on when the others have been served, whatever happens until then.
    pub(crate) fn has_yielded(&self) -> bool {
        self.guard.has_yielded
    }

    /// When its thread has to look at it; `NEVER` where the scan of all sessions is enough.
    pub(crate) fn due_ms(&self) -> u64 {
        self.stage.due_ms()
    }

    /// Looks after a session to which nothing has happened: its client's PROXY header or its connect may have taken too
    /// long, or its silence. `None` when the session is over.
    pub(crate) fn look(mut self: Box<Self>, workspace: &mut Workspace) -> Option<(Box<Self>, Pause)> {
        let (record, now_ms) = (self.guard.record(), workspace.now_ms);
        record.count_bytes();
        match &mut self.stage {
            Stage::Relaying(relaying) => {
                if let Err(end) = relaying.look(record, now_ms) {
                    return self.end_with(end, workspace);
                }
                if let Err(end) = relaying.look_for_stuck(&self.client, record, workspace) {
                    return self.end_with(end, workspace);
                }
                relaying.look_after_peers(&mut self.client, record, workspace);
            }
            stage if stage.due_ms() <= now_ms => return self.advance(workspace),
            _ => {}
        }
        Some((self, Pause::UntilEvent))
    }

    /// How its thread finds it.
    pub(crate) fn key(&self) -> SessionKey {
        self.guard.key()
    }

    /// Ends the session because somebody said so. `None` when it is over; one whose bytes are still to be delivered is over
    /// a moment later.
    pub(crate) fn end(self: Box<Self>, reason: EndReason, workspace: &mut Workspace) -> Option<(Box<Self>, Pause)> {
        self.end_with(RelayEnd { reason, reset: None, error: None }, workspace)
    }

    fn end_with(mut self: Box<Self>, end: RelayEnd, workspace: &mut Workspace) -> Option<(Box<Self>, Pause)> {
        if end.reason.delivers_first() && matches!(self.stage, Stage::Relaying(_)) {
            let Self { client, stage, guard } = *self;
            let stage = stage.into_closing(end.reason, workspace.now_ms);
            *self = Self { client, stage, guard };
            return self.advance(workspace);
        }
        if !(end.reason.delivers_first() && matches!(self.stage, Stage::Closing(_))) {
            self.close(end, workspace);
            return None;
        }
        Some((self, Pause::UntilEvent))
    }

    /// Closes both sockets the way the session ended, and then tells everybody that it did.
    fn close(mut self: Box<Self>, end: RelayEnd, workspace: &mut Workspace) {
        self.stage.before_close(&mut self.client, end.reset, workspace);
        if end.reason.is_turned_away() && matches!(self.stage, Stage::Opening(_) | Stage::Peeking(_)) {
            self.client.reset_on_close();
        }
        let (facts, is_server_truncated) = (self.client.tls_facts(), self.stage.may_server_be_cut());
        if facts.is_some() || is_server_truncated {
            self.guard.set_tls(TlsFacts { is_server_truncated, ..facts.unwrap_or_default() });
        }
        self.guard.set_end(end.reason, end.error);
    }

    /// A session in which nothing will ever happen.
    #[cfg(test)]
    pub(crate) fn idle_for_tests(guard: SessionGuard, workspace: &Workspace) -> Box<Self> {
        use crate::data::poll::Token;
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
        let stream = |token| {
            let fd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::NONBLOCK, None).unwrap();
            Stream::Tcp(stream::TcpSocket::accepted(fd, token, &workspace.reactor).unwrap())
        };
        let (client, server) = (stream(Token::client(guard.key())), stream(Token::server(guard.key())));
        let record = guard.record();
        let slot = record.group().pick(record.client(), &[], workspace.now_ms).unwrap();
        record.set_connected(&slot.server, 1, slot.epoch, workspace.now_ms);
        Box::new(Self { client, stage: Stage::idle_for_tests(server, slot), guard })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a session holds while it idles: nothing big may creep into it.
    #[test]
    fn an_idle_session_stays_small() {
        let sizes = (size_of::<TcpProxySession>(), size_of::<SessionRecord>());
        assert!(sizes.0 <= 224 && sizes.1 <= 160, "{sizes:?}");
    }
}
