//! What a session is doing, one thing after the other: opening, dialling, relaying.
//!
//! Each stage knows nothing of those that come after it; here one becomes the next.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::closing::Closing;
use super::dial::{self, Connected, Context, Dial, Dialling};
use super::header::{self, Begun, Opening};
use super::opening::{self, NotConnected, Opened};
use super::relay::Socket;
use super::relay::{Pause, Relay, RelayEnd, Side, Workspace};
use super::relaying::Relaying;
use super::service::SessionGuard;
use super::stream::{Stream, TcpSocket, reset_on_close};
use crate::counters::EndReason;
use crate::data::poll::{Reactor, Ready, Token};
use crate::group::GroupSettings;

/// What a session is doing.
#[derive(Debug)]
pub(super) enum Stage {
    /// The client has to send the rest of its PROXY header before a server is looked for.
    Opening(Box<Opening>),
    /// A connect is under way.
    Dialling(Box<Dialling>),
    /// Bytes are moved.
    Relaying(Relaying),
    /// It ends; what is on its way to the client goes out first.
    Closing(Box<Closing>),
}

impl Stage {
    /// The first stage of a client that was just accepted, and the client's stream. Whatever was opened is closed when
    /// this fails.
    ///
    /// # Errors
    ///
    /// The client is not let in, or there is no server for it.
    pub(super) fn begin(
        client: OwnedFd,
        guard: &SessionGuard,
        workspace: &mut Workspace,
    ) -> Result<(Stream, Self), NotConnected> {
        let snapshot = guard.record().group().snapshot();
        let (record, settings) = (guard.record(), &snapshot.settings);
        let header_timeout = header::expected_of(record.peer().ip(), settings);
        let passage = opening::give_place(&client, guard, &snapshot)?;
        let now_ms = workspace.now_ms;
        let let_in = || opening::let_in(guard, &snapshot).inspect_err(|_| reset_on_close(&client));
        let begun = match header_timeout {
            None => {
                let_in()?;
                Begun::Opened(opening::open_at_once(&client, passage, record, &mut workspace.scratch)?)
            }
            Some(timeout) => header::begin(&client, timeout, passage, guard, &mut workspace.scratch, now_ms)?,
        };
        let stage = match begun {
            Begun::Opened(opened) => {
                if header_timeout.is_some() {
                    let_in()?;
                }
                Self::dial(opened, settings, context(guard, client.as_fd(), now_ms, &workspace.reactor))?
            }
            Begun::Waits(opening) => Self::Opening(opening),
        };
        let client = TcpSocket::accepted(client, Token::client(guard.key()), &workspace.reactor);
        Ok((Stream::Tcp(client.map_err(NotConnected::out_of_descriptors)?), stage))
    }

    /// Keeps what the reactor says of the server's socket.
    pub(super) fn on_server_ready(&mut self, ready: Ready) {
        match self {
            // An event of a server that was given up.
            Self::Opening(_) => {}
            Self::Dialling(dialling) => dialling.on_ready(ready),
            Self::Relaying(relaying) => relaying.server.on_ready(ready),
            Self::Closing(closing) => closing.relaying.server.on_ready(ready),
        }
    }

    /// What becomes of it when the session is to end for this reason, and need not do so at once.
    pub(super) fn into_closing(self, reason: EndReason, now_ms: u64) -> Self {
        match self {
            Self::Relaying(relaying) => Self::Closing(Box::new(Closing::new(relaying, reason, now_ms))),
            other => other,
        }
    }

    /// Does what can be done now.
    ///
    /// # Errors
    ///
    /// The session is over, well or badly.
    pub(super) fn advance(
        &mut self,
        client: &mut Stream,
        guard: &SessionGuard,
        workspace: &mut Workspace,
    ) -> Result<Pause, RelayEnd> {
        if let Self::Opening(opening) = self {
            let opened = opening.advance(client, guard.record(), &mut workspace.scratch, workspace.now_ms)?;
            let Some(opened) = opened else { return Ok(Pause::UntilEvent) };
            let snapshot = guard.record().group().snapshot();
            opening::let_in(guard, &snapshot)?;
            let context = context(guard, client.as_fd(), workspace.now_ms, &workspace.reactor);
            let next = Self::dial(opened, &snapshot.settings, context)?;
            *self = next;
        }
        if let Self::Dialling(dialling) = self {
            if dialling.is_held() && client.has_failed() {
                return Err(opening::client_reset(client.take_error()).into());
            }
            let context = context(guard, client.as_fd(), workspace.now_ms, &workspace.reactor);
            let Some(connected) = dialling.advance(context)? else { return Ok(Pause::UntilEvent) };
            *self = Self::relaying(connected, context);
        }
        if let Self::Closing(closing) = self {
            return closing.advance(client, guard, workspace);
        }
        let Self::Relaying(relaying) = self else { unreachable!("it has become so above") };
        let Relaying { server, relay, look_at_ms, .. } = relaying;
        let pause = relay.advance(client, server, workspace, guard.record())?;
        *look_at_ms = relay.due_ms(guard.record()).min(*look_at_ms);
        let key = guard.key();
        client.rearm(Token::client(key), &workspace.reactor).map_err(NotConnected::out_of_descriptors)?;
        server.rearm(Token::server(key), &workspace.reactor).map_err(NotConnected::out_of_descriptors)?;
        Ok(pause)
    }

    /// When the session has to be looked at, whatever happens until then.
    pub(super) fn due_ms(&self) -> u64 {
        match self {
            Self::Opening(opening) => opening.until_ms(),
            Self::Dialling(dialling) => dialling.due_ms(),
            Self::Relaying(relaying) => relaying.look_at_ms,
            Self::Closing(closing) => closing.until_ms,
        }
    }

    /// Prepares both sides for being closed the way the session ended.
    pub(super) fn before_close(&mut self, client: &Stream, reset: Option<Side>, workspace: &mut Workspace) {
        let (resets_client, resets_server) = match (reset, &*self) {
            (Some(side), _) => (side == Side::Client, side == Side::Server),
            // Ended by somebody else, it may have been in the middle of something.
            (None, Self::Relaying(Relaying { server, relay, .. })) => relay.is_cut(client, server),
            (None, Self::Closing(closing)) => closing.is_cut(client, workspace),
            (None, Self::Opening(_) | Self::Dialling(_)) => return,
        };
        let Relaying { server, relay, .. } = match self {
            Self::Relaying(relaying) => relaying,
            Self::Closing(closing) => &mut closing.relaying,
            Self::Opening(_) | Self::Dialling(_) => return,
        };
        relay.release(workspace);
        if resets_client {
            client.reset_on_close();
        }
        if resets_server {
            server.reset_on_close();
        }
    }

    fn dial(opened: Opened<'_>, settings: &GroupSettings, context: Context<'_>) -> Result<Self, NotConnected> {
        Ok(match dial::start(opened, settings, context)? {
            Dial::Over(connected) => Self::relaying(connected, context),
            Dial::UnderWay(dialling) => Self::Dialling(dialling),
        })
    }

    #[inline]
    fn relaying(connected: Connected, context: Context<'_>) -> Self {
        let Connected { server, slot, word, unsent, sent, client_has_finished, look_at_ms } = connected;
        if sent > 0 {
            context.record.add_up(sent as u64, context.now_ms);
        }
        Self::Relaying(Relaying {
            server,
            relay: Relay::new(unsent, client_has_finished),
            look_at_ms,
            _slot: slot,
            _word: word,
        })
    }

    /// The stage of a session in which nothing will ever happen.
    #[cfg(test)]
    pub(super) fn idle_for_tests(server: Stream, slot: crate::group::ServerSlot) -> Self {
        let look_at_ms = crate::data::deadlines::NEVER;
        Self::Relaying(Relaying { server, relay: Relay::default(), look_at_ms, _slot: slot, _word: None })
    }
}

#[inline]
fn context<'a>(guard: &'a SessionGuard, client: BorrowedFd<'a>, now_ms: u64, reactor: &'a Reactor) -> Context<'a> {
    let passages = guard.passages();
    Context { record: guard.record(), client, passages, token: Token::server(guard.key()), reactor, now_ms }
}

impl From<NotConnected> for RelayEnd {
    fn from(NotConnected { reason, error }: NotConnected) -> Self {
        Self { reason, reset: None, error }
    }
}
