//! Finding a server for a client: pick, dial, and on failure pick again.

mod held;
mod secure;
mod slow;
mod word;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::attempt::Attempt;
use super::connect::{Step, connect, is_out_of_descriptors, unresolved};
use super::greeting::header_for;
use super::hold::Hold;
use super::opening::{NotConnected, Opened};
use super::passage::{Passage, PassageGuard, Passages};
use super::record::SessionRecord;
use super::relay::Socket;
use super::stream::Stream;
use crate::base::clock;
use crate::base::failure::{is_ours, worded};
use crate::counters::EndReason;
use crate::data::deadlines::NEVER;
use crate::data::poll::{Reactor, Ready, Token};
use crate::group::{Group, GroupSettings, Outcome, PickError, ServerSlot};
use crate::server::{SendProxy, ServerId};
use secure::Security;

/// A server that was reached.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) server: Stream,
    /// The place taken on the server; dropping it gives it back.
    pub(super) slot: ServerSlot,
    /// What our own listener has to know, if the connection leads there.
    pub(super) word: Option<Box<PassageGuard>>,
    /// Bytes of the client's that did not fit into the server's socket yet.
    pub(super) unsent: Vec<u8>,
    /// Bytes of the client's that have been sent.
    pub(super) sent: usize,
    /// The client has finished already.
    pub(super) client_has_finished: bool,
    /// When to look at the session if nothing has happened to it until then.
    pub(super) look_at_ms: u64,
}

/// What dialling works with, besides its own state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) record: &'a SessionRecord,
    /// The client's socket.
    pub(super) client: BorrowedFd<'a>,
    /// The connections of this process to its own listeners.
    pub(super) passages: &'a Arc<Passages>,
    /// Comes with the events of the server's socket.
    pub(super) token: Token,
    pub(super) reactor: &'a Reactor,
    pub(super) now_ms: u64,
}

/// How far dialling has come.
#[derive(Debug)]
pub(super) enum Dial {
    /// A server was reached.
    Over(Connected),
    /// A connect is under way.
    UnderWay(Box<Dialling>),
}

/// A session that waits for a connect.
#[derive(Debug)]
pub(super) struct Dialling {
    dialer: Dialer,
    /// Empty once a server was reached, or the search has failed, and while the client is held.
    server: Option<Stream>,
    /// Until when this connect may take, or the client is held.
    until_ms: u64,
    /// When it is slow; [`NEVER`] when that has been looked at.
    slow_ms: u64,
    first_bytes: Vec<u8>,
    /// How much of the header and of the first bytes this server has taken.
    sent: usize,
    client_has_finished: bool,
}

/// Finds one of its group's servers for a client, and sends what the client has said so far.
///
/// The policy is asked first. A server that cannot be reached is closed to this session and the policy is
/// asked again, so each server is tried at most once. What the client has sent goes to the server that is
/// finally reached, exactly once, and in front of it the PROXY header that this server wants. Dropping the dial abandons the attempt and leaves
/// nothing behind.
///
/// # Errors
///
/// No server may be picked, every attempt failed, or the process has run out of descriptors.
pub(super) fn start(opened: Opened<'_>, settings: &GroupSettings, context: Context<'_>) -> Result<Dial, NotConnected> {
    let Opened { client, passage, first_bytes, has_finished, secured } = opened;
    let mut dialer = Dialer::new(client, passage, settings);
    dialer.secure(settings, secured, context.record);
    // The common case needs no wait and no copy: the client's bytes go from the scratch buffer to the server.
    match dialer.start(first_bytes, context)? {
        Step::Connected(server, sent) => {
            let sent = sent - dialer.header().len();
            let (slot, word) = dialer.succeeded(context);
            Ok(Dial::Over(Connected {
                server,
                slot,
                word,
                unsent: first_bytes[sent..].to_vec(),
                sent,
                client_has_finished: has_finished,
                look_at_ms: context.record.look_at_ms(settings, context.now_ms),
            }))
        }
        step => {
            let (first_bytes, client_has_finished, server) = (first_bytes.to_vec(), has_finished, None);
            let (until_ms, slow_ms, sent) = (NEVER, NEVER, 0);
            let mut dialling = Dialling { dialer, server, until_ms, slow_ms, first_bytes, sent, client_has_finished };
            dialling.wait_for(step);
            Ok(Dial::UnderWay(Box::new(dialling)))
        }
    }
}

impl Dialling {
    /// Keeps what the reactor says of the server's socket.
    pub(super) fn on_ready(&mut self, ready: Ready) {
        if let Some(server) = &mut self.server {
            server.on_ready(ready);
        }
    }

    /// Until when nothing has to be done about the connect under way.
    pub(super) fn due_ms(&self) -> u64 {
        self.until_ms.min(self.slow_ms)
    }

    /// Goes on when the connect is over, well or badly, or has taken too long. Not to be called again once it has
    /// told that a server was reached.
    ///
    /// # Errors
    ///
    /// As [`start`].
    pub(super) fn advance(&mut self, context: Context<'_>) -> Result<Option<Connected>, NotConnected> {
        if self.is_held() && self.until_ms <= clock::coarse_ms() {
            self.dialer.tried.clear();
            if let Some(connected) = self.ask(context)? {
                return Ok(Some(connected));
            }
        }
        while let Some(mut server) = self.server.take() {
            let sent = match server.is_ready() {
                Ok(true) => self.send_rest(&mut server),
                Ok(false) if self.is_to_be_given_up(context.record.group()) => Err(io::ErrorKind::TimedOut.into()),
                Ok(false) => {
                    server.rearm(context.token, context.reactor).map_err(NotConnected::out_of_descriptors)?;
                    self.server = Some(server);
                    break;
                }
                Err(error) => Err(error),
            };
            match sent {
                Ok(sent) => {
                    self.sent += sent;
                    if self.sent >= self.dialer.header().len() {
                        return Ok(Some(self.connected(server, context)));
                    }
                    server.write_blocked();
                    self.server = Some(server);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    server.write_blocked();
                    self.server = Some(server);
                }
                // On to the next address.
                Err(error) => {
                    self.dialer.address_failed(error, context.record)?;
                    if let Some(connected) = self.ask(context)? {
                        return Ok(Some(connected));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Sends what is left of the header, and the first bytes.
    fn send_rest(&self, server: &mut Stream) -> io::Result<usize> {
        let header = self.dialer.header();
        match self.sent.checked_sub(header.len()) {
            Some(sent) => server.send(&self.first_bytes[sent..], false),
            None => server.send_both(&header[self.sent..], &self.first_bytes),
        }
    }

    /// True when the connect has taken too long, or longer than is good while another server may answer.
    fn is_to_be_given_up(&mut self, group: &Group) -> bool {
        let now_ms = clock::coarse_ms();
        if now_ms < self.due_ms() {
            return false;
        }
        self.slow_ms = NEVER;
        now_ms >= self.until_ms || self.dialer.leaves(group, now_ms)
    }

    fn connected(&mut self, mut server: Stream, context: Context<'_>) -> Connected {
        self.dialer.count_reached(&mut server, context.record);
        let sent = self.sent - self.dialer.header().len();
        let (slot, word) = self.dialer.succeeded(context);
        Connected {
            server,
            slot,
            word,
            unsent: self.first_bytes.split_off(sent),
            sent,
            client_has_finished: self.client_has_finished,
            look_at_ms: context.record.look_at_ms(&context.record.group().snapshot().settings, context.now_ms),
        }
    }
}

/// Asks the policy and tries what it names, one address after the other.
#[derive(Debug)]
struct Dialer {
    /// The address that the policy is shown.
    client: SocketAddr,
    /// The groups that it has come through, when it is a connection of our own.
    passage: Option<Arc<Passage>>,
    /// Which PROXY header servers get that say nothing else.
    send_proxy: SendProxy,
    /// That of the server under way.
    header: Option<Box<[u8]>>,
    tried: Vec<ServerId>,
    /// Those of them that were left because they were slow: they may answer yet.
    left: Vec<ServerId>,
    /// The number of attempts so far.
    attempts: u32,
    attempts_max: u32,
    timeout: Duration,
    /// How servers are spoken to.
    security: Security,
    /// From which address servers are reached.
    source: Option<IpAddr>,
    /// No server is left any more because it is slow.
    is_patient: bool,
    attempt: Option<Attempt>,
    /// When it began, on the precise clock.
    started_us: u64,
    /// Whether the client is held when no server is left.
    hold: Hold,
    /// How the last attempt failed, and with which server.
    last: Option<(io::Error, Arc<str>)>,
}

impl Dialer {
    fn new(client: SocketAddr, passage: Option<Arc<Passage>>, settings: &GroupSettings) -> Self {
        Self {
            client,
            passage,
            send_proxy: settings.send_proxy,
            header: None,
            tried: Vec::new(),
            left: Vec::new(),
            attempts: 0,
            attempts_max: settings.connect_attempts,
            timeout: settings.connect_timeout,
            security: Security::default(),
            source: settings.server_tcp.source,
            is_patient: false,
            attempt: None,
            started_us: 0,
            hold: Hold::new(settings.connect_wait),
            last: None,
        }
    }

    /// Dials the next server that does not fail at once, and sends it its PROXY header and the first bytes.
    fn start(&mut self, first_bytes: &[u8], context: Context<'_>) -> Result<Step, NotConnected> {
        loop {
            if self.attempt.is_none() {
                let Some(slot) = self.next_server(context.record)? else { return Ok(Step::Held) };
                self.header = match slot.server.settings.send_proxy.unwrap_or(self.send_proxy) {
                    SendProxy::None => None,
                    version => header_for(version, context.record, context.client, self.security.client()),
                };
                self.attempt = Some(Attempt::new(slot, self.started_us, self.timeout));
            }
            let greeting = self.greeting(first_bytes);
            let attempt = self.attempt.as_ref().expect("set a line ago");
            let (live, source) = (&attempt.slot.server.live, self.source);
            let (may_meet_itself, is_here) = (live.may_meet_itself(), live.is_here());
            let dialled = attempt.address().ok_or_else(unresolved);
            match dialled.and_then(|addr| {
                let step = connect(addr, source, may_meet_itself, greeting, context.token, context.reactor)?;
                Ok((addr, self.secured(step)?))
            }) {
                Ok((addr, step)) if is_here && context.passages.is_listening(addr.port()) => {
                    let word = word::leave_word(&step, addr, self.passage.as_ref(), context);
                    self.attempt.as_mut().expect("it is under way").word = word;
                    return Ok(step);
                }
                Ok((_, step)) => return Ok(step),
                Err(error) => self.address_failed(error, context.record)?,
            }
        }
    }

    /// The PROXY header for the server under way; empty when it wants none.
    fn header(&self) -> &[u8] {
        self.header.as_deref().map_or(&[], |header| header)
    }

    fn address_failed(&mut self, error: io::Error, record: &SessionRecord) -> Result<(), NotConnected> {
        if is_out_of_descriptors(&error) {
            return Err(NotConnected::out_of_descriptors(error));
        }
        self.count_failed(&error, record);
        let mut attempt = self.attempt.take().expect("an address fails in the attempt of its server");
        // Its port may be a stranger's soon.
        attempt.word = None;
        if attempt.has_another_address(&error, record.group()) {
            self.attempt = Some(attempt);
        } else {
            self.tried.push(attempt.slot.server.id);
            let now_ms = clock::coarse_ms();
            let (why, since_ms) = match error.kind() {
                io::ErrorKind::TimedOut => {
                    let started_ms = attempt.started_ms();
                    (format!("no answer within {} ms", now_ms.saturating_sub(started_ms)), started_ms)
                }
                _ => (worded(&error), now_ms),
            };
            self.hold.failed(&error);
            if error.kind() == io::ErrorKind::AddrNotAvailable {
                record.group().counters.connects_without_port.fetch_add(1, Relaxed);
            }
            let outcome = Outcome::Failed { why: &why, is_servers: !is_ours(&error), since_ms };
            let server = &attempt.slot.server;
            record.group().report(server, attempt.slot.epoch, outcome, now_ms);
            record.set_failed(now_ms);
            self.last = Some((error, server.settings.addr.shared()));
        }
        Ok(())
    }

    /// A place on the next server to be tried; `None` when all of them refuse and are to be asked again.
    #[inline]
    fn next_server(&mut self, record: &SessionRecord) -> Result<Option<ServerSlot>, NotConnected> {
        let group = record.group();
        // One look at the clock for all that begins now.
        self.started_us = clock::precise_us();
        let now_ms = self.started_us / 1_000;
        let slot = loop {
            let picked = match self.tried.len() as u32 >= self.attempts_max {
                true => Err(PickError::NoServer),
                false => group.pick(self.client, &self.tried, now_ms),
            };
            match picked {
                Ok(slot) => break slot,
                // Nobody else is left: back to those that were slow.
                Err(PickError::NoServer) if self.forget_left() => {}
                Err(PickError::NoServer) if self.hold.goes_on(now_ms) => return Ok(None),
                Err(PickError::NoServer) => return Err(self.give_up()),
                Err(PickError::NamedNobody | PickError::BadAnswer) => {
                    return Err(NotConnected::because(EndReason::PolicyFailed));
                }
            }
        };
        if self.attempts > 0 {
            group.counters.connect_retries.fetch_add(1, Relaxed);
            record.set_retried(self.tried.last().is_some_and(|tried| *tried != slot.server.id));
        }
        self.attempts += 1;
        record.set_attempts(self.attempts);
        self.hold.begin(now_ms);
        Ok(Some(slot))
    }

    fn give_up(&mut self) -> NotConnected {
        match self.last.take() {
            None => NotConnected::because(EndReason::NoServer),
            Some((error, server)) => NotConnected::failed(server, error),
        }
    }

    fn succeeded(&mut self, context: Context<'_>) -> (ServerSlot, Option<Box<PassageGuard>>) {
        let record = context.record;
        let attempt = self.attempt.take().expect("a connect succeeds in the attempt of its server");
        let now_us = clock::precise_us();
        let micros = now_us.saturating_sub(attempt.started_us);
        let ServerSlot { server, epoch } = &attempt.slot;
        record.group().report(server, *epoch, Outcome::Connected { micros }, now_us / 1_000);
        attempt.answered(record.group());
        record.set_connected(server, micros, *epoch, context.now_ms);
        (attempt.slot, attempt.word)
    }
}
