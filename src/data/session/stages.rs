//! What a session is doing, one thing after the other: opening, dialling, relaying.
//!
//! Each stage knows nothing of those that come after it; here one becomes the next.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::closing::Closing;
use super::dial::{self, Connected, Context, Dial, Dialling};
#[cfg(feature = "tls")]
use super::handshake::{self, Handshake};
use super::header::{self, Begun, Opening};
use super::hello::{self, Found, Peeked, Peeking};
use super::opening::{self, NotConnected, Opened};
use super::relay::Socket;
use super::relay::{Pause, Relay, RelayEnd, Side, Workspace};
use super::relaying::Relaying;
use super::service::SessionGuard;
use super::starttls::Starting;
use super::stream::{Stream, TcpSocket, reset_on_close};
use crate::counters::EndReason;
use crate::data::poll::{Reactor, Ready, Token};
use crate::group::{GroupSettings, Snapshot};

/// What a session is doing.
#[derive(Debug)]
pub(super) enum Stage {
    /// The client has to send the rest of its PROXY header before a server is looked for.
    Opening(Box<Opening>),
    /// The client has to send the rest of its TLS hello before it is known which group serves it.
    Peeking(Box<Peeking>),
    /// The client has to finish its TLS handshake before that.
    #[cfg(feature = "tls")]
    Handshake(Box<Handshake>),
    /// A connect is under way.
    Dialling(Box<Dialling>),
    /// The server has to grant TLS before it gets the first bytes.
    Starting(Box<Starting>),
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
        guard: &mut SessionGuard,
        workspace: &mut Workspace,
    ) -> Result<(Stream, Self), NotConnected> {
        let snapshot = guard.record().group().snapshot();
        if snapshot.settings.routes.is_some() {
            return Self::begin_to_peek(client, guard, &snapshot, workspace);
        }
        let guard = &*guard;
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
                #[cfg(feature = "tls")]
                if let Some(acceptor) = &snapshot.tls {
                    let client = TcpSocket::accepted(client, Token::client(guard.key()), &workspace.reactor);
                    let mut client = Stream::Tcp(client.map_err(NotConnected::out_of_descriptors)?);
                    let handshake = handshake::begin(&mut client, opened, acceptor, settings, guard, now_ms)?;
                    return Ok((client, Self::Handshake(handshake)));
                }
                Self::dial(opened, settings, context(guard, client.as_fd(), now_ms, &workspace.reactor))?
            }
            Begun::Waits(opening) => Self::Opening(opening),
        };
        let client = TcpSocket::accepted(client, Token::client(guard.key()), &workspace.reactor);
        Ok((Stream::Tcp(client.map_err(NotConnected::out_of_descriptors)?), stage))
    }

    /// The same in a group with routes.
    #[cold]
    #[inline(never)]
    fn begin_to_peek(
        client: OwnedFd,
        guard: &mut SessionGuard,
        snapshot: &Snapshot,
        workspace: &mut Workspace,
    ) -> Result<(Stream, Self), NotConnected> {
        let passage = opening::give_place(&client, guard, snapshot)?;
        let Workspace { scratch, reactor, now_ms, .. } = workspace;
        let reset = |refused: &NotConnected| {
            if refused.reason.is_turned_away() {
                reset_on_close(&client);
            }
        };
        let begun = match header::expected_of(guard.record().peer().ip(), &snapshot.settings) {
            None => {
                opening::let_in_to_peek(guard, snapshot).inspect_err(reset)?;
                Begun::Opened(opening::open_at_once(&client, passage, guard.record(), scratch)?)
            }
            Some(timeout) => {
                let begun = header::begin(&client, timeout, passage, guard, scratch, *now_ms)?;
                if let Begun::Opened(_) = begun {
                    opening::let_in_to_peek(guard, snapshot).inspect_err(reset)?;
                }
                begun
            }
        };
        let stage = match begun {
            Begun::Waits(opening) => Self::Opening(opening),
            Begun::Opened(opened) => Self::peek(opened, client.as_fd(), guard, reactor, *now_ms).inspect_err(reset)?,
        };
        let client = TcpSocket::accepted(client, Token::client(guard.key()), reactor);
        Ok((Stream::Tcp(client.map_err(NotConnected::out_of_descriptors)?), stage))
    }

    /// Goes on with a client whose hello decides which group it belongs to.
    #[cold]
    fn peek(
        opened: Opened<'_>,
        client: BorrowedFd<'_>,
        guard: &mut SessionGuard,
        reactor: &Reactor,
        now_ms: u64,
    ) -> Result<Self, NotConnected> {
        match hello::begin(opened, client, guard, now_ms)? {
            Peeked::Waits(peeking) => Ok(Self::Peeking(peeking)),
            Peeked::Found(found) => Self::dial_found(found, context(guard, client, now_ms, reactor)),
        }
    }

    /// Finds a server for a client of which it is known where it goes.
    fn dial_found(found: Found<'_>, context: Context<'_>) -> Result<Self, NotConnected> {
        let snapshot = context.record.group().snapshot();
        let Found { opened, asks_server } = found;
        match asks_server {
            true => Starting::begin(opened, &snapshot.settings, context).map(Self::Starting),
            false => Self::dial(opened, &snapshot.settings, context),
        }
    }

    /// Keeps what the reactor says of the server's socket.
    pub(super) fn on_server_ready(&mut self, ready: Ready) {
        if let Self::Relaying(relaying) = self {
            return relaying.server.on_ready(ready);
        }
        match self {
            // An event of a server that was given up.
            Self::Opening(_) | Self::Peeking(_) => {}
            #[cfg(feature = "tls")]
            Self::Handshake(_) => {}
            Self::Dialling(dialling) => dialling.on_ready(ready),
            Self::Starting(starting) => starting.on_ready(ready),
            Self::Relaying(relaying) => relaying.server.on_ready(ready),
            Self::Closing(closing) => closing.relaying.server.on_ready(ready),
        }
    }

    /// True when what the server has sent may be cut, as it has ended without saying so in TLS.
    pub(super) fn may_server_be_cut(&self) -> bool {
        match self {
            Self::Relaying(relaying) => relaying.server.may_be_cut(),
            Self::Closing(closing) => closing.relaying.server.may_be_cut(),
            _ => false,
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
        guard: &mut SessionGuard,
        workspace: &mut Workspace,
    ) -> Result<Pause, RelayEnd> {
        if !matches!(self, Self::Relaying(_))
            && let Some(pause) = self.advance_others(client, guard, workspace)?
        {
            return Ok(pause);
        }
        let guard = &*guard;
        let Self::Relaying(relaying) = self else { unreachable!("it has become so above") };
        let Relaying { server, relay, look_at_ms, .. } = relaying;
        let pause = match (&mut *client, &mut *server) {
            // Chosen once, and not anew in each step of the relay.
            (Stream::Tcp(client), Stream::Tcp(server)) => relay.advance(client, server, workspace, guard.record())?,
            #[cfg(feature = "tls")]
            (client, server) => relay.advance(client, server, workspace, guard.record())?,
        };
        *look_at_ms = relay.due_ms(guard.record()).min(*look_at_ms);
        let key = guard.key();
        client.rearm(Token::client(key), &workspace.reactor).map_err(NotConnected::out_of_descriptors)?;
        server.rearm(Token::server(key), &workspace.reactor).map_err(NotConnected::out_of_descriptors)?;
        Ok(pause)
    }

    /// The same for all stages but that in which bytes are moved; `None` when that is the one now. By itself, as what the others
    /// need on the stack would cost each message.
    #[inline(never)]
    fn advance_others(
        &mut self,
        client: &mut Stream,
        guard: &mut SessionGuard,
        workspace: &mut Workspace,
    ) -> Result<Option<Pause>, RelayEnd> {
        if let Self::Opening(opening) = self {
            let opened = opening.advance(client, guard.record(), &mut workspace.scratch, workspace.now_ms)?;
            let Some(opened) = opened else { return Ok(Some(Pause::UntilEvent)) };
            let snapshot = guard.record().group().snapshot();
            #[cfg(feature = "tls")]
            if let Some(acceptor) = &snapshot.tls {
                opening::let_in(guard, &snapshot)?;
                let handshake =
                    handshake::begin(client, opened, acceptor, &snapshot.settings, guard, workspace.now_ms)?;
                *self = Self::Handshake(handshake);
                return self.advance_others(client, guard, workspace);
            }
            let (client, now_ms, reactor) = (client.as_fd(), workspace.now_ms, &workspace.reactor);
            let next = if snapshot.settings.routes.is_some() {
                opening::let_in_to_peek(guard, &snapshot)?;
                Self::peek(opened, client, guard, reactor, now_ms)?
            } else {
                opening::let_in(guard, &snapshot)?;
                Self::dial(opened, &snapshot.settings, context(guard, client, now_ms, reactor))?
            };
            *self = next;
        }
        #[cfg(feature = "tls")]
        if let Self::Handshake(handshake) = self {
            let counters = &guard.record().group().counters;
            let Some(opened) = handshake.advance(client, counters, &mut workspace.scratch, workspace.now_ms)? else {
                client
                    .rearm(Token::client(guard.key()), &workspace.reactor)
                    .map_err(NotConnected::out_of_descriptors)?;
                return Ok(Some(Pause::UntilEvent));
            };
            let snapshot = guard.record().group().snapshot();
            let context = context(guard, client.as_fd(), workspace.now_ms, &workspace.reactor);
            let next = Self::dial(opened, &snapshot.settings, context)?;
            *self = next;
        }
        if let Self::Peeking(peeking) = self {
            let found = peeking.advance(client, guard, &mut workspace.scratch, workspace.now_ms)?;
            let Some(found) = found else { return Ok(Some(Pause::UntilEvent)) };
            let next = Self::dial_found(found, context(guard, client.as_fd(), workspace.now_ms, &workspace.reactor))?;
            *self = next;
        }
        let guard = &*guard;
        if let Self::Starting(starting) = self {
            if client.has_failed() {
                return Err(opening::client_reset(client.take_error()).into());
            }
            let context = context(guard, client.as_fd(), workspace.now_ms, &workspace.reactor);
            let Some(connected) = starting.advance(context)? else { return Ok(Some(Pause::UntilEvent)) };
            *self = Self::relaying(connected, context);
        }
        if let Self::Dialling(dialling) = self {
            if dialling.is_held() && client.has_failed() {
                return Err(opening::client_reset(client.take_error()).into());
            }
            let context = context(guard, client.as_fd(), workspace.now_ms, &workspace.reactor);
            let Some(connected) = dialling.advance(context)? else { return Ok(Some(Pause::UntilEvent)) };
            *self = Self::relaying(connected, context);
        }
        if let Self::Closing(closing) = self {
            return closing.advance(client, guard, workspace).map(Some);
        }
        Ok(None)
    }

    /// When the session has to be looked at, whatever happens until then.
    pub(super) fn due_ms(&self) -> u64 {
        if let Self::Relaying(relaying) = self {
            return relaying.look_at_ms;
        }
        match self {
            Self::Opening(opening) => opening.until_ms(),
            Self::Peeking(peeking) => peeking.until_ms(),
            #[cfg(feature = "tls")]
            Self::Handshake(handshake) => handshake.until_ms(),
            Self::Dialling(dialling) => dialling.due_ms(),
            Self::Starting(starting) => starting.due_ms(),
            Self::Relaying(relaying) => relaying.look_at_ms,
            Self::Closing(closing) => closing.until_ms,
        }
    }

    /// Prepares both sides for being closed the way the session ended.
    pub(super) fn before_close(&mut self, client: &mut Stream, reset: Option<Side>, workspace: &mut Workspace) {
        let (resets_client, resets_server) = match (reset, &*self) {
            (Some(side), _) => (side == Side::Client, side == Side::Server),
            // Ended by somebody else, it may have been in the middle of something.
            (None, Self::Relaying(Relaying { server, relay, .. })) => relay.is_cut(client, server),
            (None, Self::Closing(closing)) => closing.is_cut(client, workspace),
            (None, _) => return client.say_goodbye(),
        };
        let Relaying { server, relay, .. } = match self {
            Self::Relaying(relaying) => relaying,
            Self::Closing(closing) => &mut closing.relaying,
            _ => return,
        };
        relay.release(workspace);
        for (stream, is_reset) in [(client, resets_client), (server, resets_server)] {
            match is_reset {
                true => stream.reset_on_close(),
                false => stream.say_goodbye(),
            }
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
