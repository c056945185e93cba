//! The TLS hello of a client in a group with routes: waiting for it, and giving the client to the group that it leads to.
//!
//! Nothing is taken from the client: what was read goes to the server as its first bytes, so all that follows is as in any
//! other group. Mostly the hello comes in one piece and costs no read of its own. A client that has sent a part of it is
//! kept, with these bytes, for `hello_timeout`. One that says nothing at all may wait for a server that speaks first: after
//! that time it goes where clients without TLS go.
//!
//! Where `starttls` says so, a client may ask for TLS before its hello, as PostgreSQL's do. That is granted here, and has to
//! be asked again of the server, which is left to `starttls`.

use std::error::Error;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::asking::{Asked, Reply, answer};
use super::header::time_text;
use super::opening::{NotConnected, Opened, client_reset, comes_round, turned_away};
use super::passage::Passage;
use super::relay::Socket;
use super::service::SessionGuard;
use super::stream::Stream;
use super::waiting::{Awaited, WaitingPlace};
use crate::base::clock;
use crate::base::text::shown_bytes;
use crate::counters::EndReason;
use crate::events::Routed;
use crate::group::{Group, RouteTable, RouteTarget, Starttls};
use crate::limits::Refusal;
use crate::net::client_hello::{self, ClientHello, Flaw, HELLO_MAX, Read};

/// Longest name and longest list of protocols that the log shows, in characters.
const SHOWN_MAX: usize = 255;

/// Why a client is refused for its hello.
#[derive(Debug, thiserror::Error)]
enum HelloError {
    #[error("TLS hello: {0}")]
    Malformed(Flaw),
    #[error("SSLRequest: it was granted, and no TLS came")]
    NoTls,
    #[error("TLS hello: incomplete after {after} ({bytes} bytes)", after = time_text(*timeout))]
    Late { timeout: Duration, bytes: usize },
}

/// A client that has not sent all of its hello.
#[derive(Debug)]
pub(super) struct Peeking {
    passage: Option<Arc<Passage>>,
    received: Vec<u8>,
    /// The routes that were in force when it came.
    table: Arc<RouteTable<Group>>,
    asked: Asked,
    until_ms: u64,
    _place: WaitingPlace,
}

/// A client that belongs to its group, and has been let in there.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) opened: Opened<'a>,
    /// The server has to be asked for TLS before it gets the first bytes.
    pub(super) asks_server: bool,
}

/// What has become of a client whose hello decides where it goes.
#[derive(Debug)]
pub(super) enum Peeked<'a> {
    /// It is known where it goes.
    Found(Found<'a>),
    /// There must be more to come.
    Waits(Box<Peeking>),
}

/// Where a client goes.
struct Way<'t> {
    target: &'t RouteTarget<Group>,
    hello: Option<ClientHello>,
}

/// What is to be done about what a client has sent.
enum Decision<'t> {
    Go(Way<'t>),
    /// It is to get this byte, and to go on.
    Answer(u8),
    Wait,
}

/// Looks at what the client has sent by now, after its PROXY header if it had to send one.
///
/// # Errors
///
/// It is no hello, leads nowhere or to a group that does not let the client in; the client has ended; too many others are
/// waited for.
pub(super) fn begin<'a>(
    opened: Opened<'a>,
    client: BorrowedFd<'_>,
    guard: &mut SessionGuard,
    now_ms: u64,
) -> Result<Peeked<'a>, NotConnected> {
    let Some(table) = guard.record().group().routes() else {
        // They were taken away this moment.
        guard.record().tell_connected();
        return Ok(Peeked::Found(Found { opened, asks_server: false }));
    };
    if opened.has_finished {
        return Err(NotConnected::because(EndReason::ClientClosed));
    }
    let mut asked = Asked::default();
    let received = match decide(opened.first_bytes, &table, &mut asked)? {
        Decision::Go(way) => {
            go(way, opened.passage.as_deref(), guard)?;
            return Ok(Peeked::Found(Found { opened, asks_server: false }));
        }
        Decision::Answer(byte) => {
            answer(client, byte)?;
            Vec::new()
        }
        Decision::Wait => opened.first_bytes.to_vec(),
    };
    let place = WaitingPlace::take(guard, Awaited::Hello)?;
    let until_ms = now_ms + clock::as_ms(table.hello_timeout());
    let passage = opened.passage;
    Ok(Peeked::Waits(Box::new(Peeking { passage, received, table, asked, until_ms, _place: place })))
}

impl Peeking {
    /// Until when the client may take.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Reads what has come. `None` while the hello is incomplete.
    ///
    /// # Errors
    ///
    /// As [`begin`], or it has taken too long, or was reset.
    pub(super) fn advance(
        &mut self,
        client: &mut Stream,
        guard: &mut SessionGuard,
        scratch: &mut [u8],
        now_ms: u64,
    ) -> Result<Option<Found<'_>>, NotConnected> {
        let table = Arc::clone(&self.table);
        while client.is_readable() {
            // Never empty: longer ones are refused.
            let room = HELLO_MAX - self.received.len();
            match client.recv(&mut scratch[..room]) {
                Ok(0) => return Err(NotConnected::because(EndReason::ClientClosed)),
                Ok(read) => self.received.extend_from_slice(&scratch[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    client.read_blocked();
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(client_reset(error)),
            }
            match decide(&self.received, &table, &mut self.asked)? {
                Decision::Go(way) => return self.leave(way, guard).map(Some),
                Decision::Answer(byte) => {
                    answer(client.as_fd(), byte)?;
                    self.received.clear();
                }
                Decision::Wait => {}
            }
        }
        if now_ms < self.until_ms {
            return Ok(None);
        }
        let plain = table.plain();
        if self.received.is_empty() && !self.asked.tls && !matches!(plain, RouteTarget::Close) {
            return self.leave(Way { target: plain, hello: None }, guard).map(Some);
        }
        let error = HelloError::Late { timeout: table.hello_timeout(), bytes: self.received.len() };
        Err(NotConnected { reason: EndReason::HelloTimeout, error: Some(io::Error::other(error)) })
    }

    fn leave(&mut self, way: Way<'_>, guard: &mut SessionGuard) -> Result<Found<'_>, NotConnected> {
        go(way, self.passage.as_deref(), guard)?;
        let (client, passage) = (guard.record().client(), self.passage.take());
        // An end that has come as well is found by the relay.
        let opened = Opened { client, passage, first_bytes: &self.received, has_finished: false, secured: None };
        Ok(Found { opened, asks_server: self.asked.tls })
    }
}

/// What is to be done about a client that has sent these bytes since it was answered last.
fn decide<'t>(received: &[u8], table: &'t RouteTable<Group>, asked: &mut Asked) -> Result<Decision<'t>, NotConnected> {
    if table.starttls() == Starttls::Postgresql {
        match asked.read(received).map_err(bad)? {
            Reply::Wait => return Ok(Decision::Wait),
            Reply::Answer(byte) => return Ok(Decision::Answer(byte)),
            Reply::Nothing => {}
        }
    }
    match client_hello::read(received) {
        Read::Incomplete => Ok(Decision::Wait),
        Read::Plain if asked.tls => Err(bad(HelloError::NoTls)),
        Read::Plain => Ok(Decision::Go(Way { target: table.plain(), hello: None })),
        Read::Hello(hello) => {
            let target = table.target(hello.server_name.as_deref(), &hello.alpn);
            Ok(Decision::Go(Way { target, hello: Some(hello) }))
        }
        Read::Malformed(flaw) => Err(bad(HelloError::Malformed(flaw))),
    }
}

fn bad(error: impl Error + Send + Sync + 'static) -> NotConnected {
    NotConnected { reason: EndReason::BadHello, error: Some(io::Error::other(error)) }
}

/// Gives the session to its group, and has that let the client in.
fn go(way: Way<'_>, passage: Option<&Passage>, guard: &mut SessionGuard) -> Result<(), NotConnected> {
    let Way { target, hello } = way;
    let target = match target {
        RouteTarget::Own => None,
        RouteTarget::Close => {
            guard.set_routed(None, routed(hello));
            return Err(NotConnected::because(EndReason::NoRoute));
        }
        RouteTarget::Group(group) => Some(group),
    };
    if target.is_some() || hello.is_some() {
        guard.set_routed(target, routed(hello));
    }
    if let Some(group) = target {
        let_in(group, passage, guard)?;
    }
    guard.record().tell_connected();
    Ok(())
}

/// Has the group to which a client was routed let it in: as when it had come to that group's port.
fn let_in(group: &Arc<Group>, passage: Option<&Passage>, guard: &mut SessionGuard) -> Result<(), NotConnected> {
    if passage.is_some_and(|passage| passage.is_through(group)) {
        return Err(comes_round(guard.record()));
    }
    let snapshot = group.snapshot();
    if let Some(limit) = guard.exceeded(&snapshot) {
        return Err(turned_away(guard, Refusal::Over(limit)));
    }
    let client = guard.record().client().ip();
    guard.admit_again(client, &snapshot).map_err(|refusal| turned_away(guard, refusal))
}

fn routed(hello: Option<ClientHello>) -> Routed {
    let Some(ClientHello { server_name, alpn }) = hello else { return Routed::default() };
    let alpn = (!alpn.is_empty()).then(|| shown_bytes(&alpn.join(&b','), SHOWN_MAX).into());
    Routed { listener: None, server_name: server_name.map(|name| shown_bytes(name.as_bytes(), SHOWN_MAX).into()), alpn }
}
