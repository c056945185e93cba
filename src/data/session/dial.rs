//! Finding a server for a client: pick, dial, and on failure pick again.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use super::relay::Socket;
use super::service::{SessionRecord, short_silence_ms};
use super::stream::TcpSocket;
use crate::base::clock;
use crate::counters::EndReason;
use crate::data::poll::{Reactor, Ready, Token};
use crate::group::{Outcome, PickError, ServerSlot};

/// Bytes of the client's that are taken before a server is found. Enough for a request, and little enough that
/// thousands of clients may wait for a server that does not answer.
const FIRST_READ_MAX: usize = 16 << 10;

/// A server that was reached.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) server: TcpSocket,
    /// The place taken on the server; dropping it gives it back.
    pub(super) slot: ServerSlot,
    /// Bytes of the client's that did not fit into the server's socket yet.
    pub(super) unsent: Vec<u8>,
    /// Bytes of the client's that have been sent.
    pub(super) sent: usize,
    /// The client has finished already.
    pub(super) client_has_finished: bool,
    /// When to look at the session if nothing has happened to it until then.
    pub(super) look_at_ms: u64,
}

/// Why no server was reached.
#[derive(Debug)]
pub(super) struct NotConnected {
    pub(super) reason: EndReason,
    pub(super) error: Option<io::Error>,
}

impl NotConnected {
    pub(super) fn because(reason: EndReason) -> Self {
        Self { reason, error: None }
    }
}

/// What a search works with, besides its own state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means<'a> {
    pub(super) record: &'a SessionRecord,
    /// Comes with the events of the server's socket.
    pub(super) token: Token,
    pub(super) reactor: &'a Reactor,
    pub(super) now_ms: u64,
}

/// How far the search for a server has come.
#[derive(Debug)]
pub(super) enum Search {
    /// A server was reached.
    Over(Connected),
    /// A connect is under way.
    Connecting(Box<Connecting>),
}

/// A session that waits for a connect.
#[derive(Debug)]
pub(super) struct Connecting {
    dialer: Dialer,
    /// Only empty once a server was reached, or the search has failed.
    server: Option<TcpSocket>,
    /// Until when this connect may take.
    until_ms: u64,
    unsent: Vec<u8>,
    client_has_finished: bool,
}

/// Finds one of its group's servers for a client, and sends what the client has said so far.
///
/// The policy is asked first. A server that cannot be reached is closed to this session and the policy is
/// asked again, so each server is tried at most once. What the client has sent goes to the server that is
/// finally reached, exactly once. Dropping the search abandons the attempt and leaves nothing behind.
///
/// # Errors
///
/// No server may be picked, every attempt failed, the client was reset, or the process has run out of
/// descriptors.
pub(super) fn search(client: &OwnedFd, means: Means<'_>, scratch: &mut [u8]) -> Result<Search, NotConnected> {
    let (first, client_has_finished) = read_first(client, &mut scratch[..FIRST_READ_MAX])?;
    let mut dialer = Dialer::new(means.record);
    // The common case needs no wait and no copy: the client's bytes go from the scratch buffer to the server.
    match dialer.start(first, means)? {
        Step::Connected(server, sent) => Ok(Search::Over(Connected {
            server,
            slot: dialer.succeeded(means),
            unsent: first[sent..].to_vec(),
            sent,
            client_has_finished,
            look_at_ms: dialer.look_at_ms(means),
        })),
        Step::Connecting(server) => {
            let (until_ms, unsent) = (dialer.address_until_ms(), first.to_vec());
            let server = Some(server);
            Ok(Search::Connecting(Box::new(Connecting { dialer, server, until_ms, unsent, client_has_finished })))
        }
    }
}

impl Connecting {
    /// Keeps what the reactor says of the server's socket.
    pub(super) fn told(&mut self, ready: Ready) {
        if let Some(server) = &mut self.server {
            server.told(ready);
        }
    }

    /// Until when the connect under way may take.
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Goes on when the connect is over, well or badly, or has taken too long. Not to be called again once it has
    /// told that a server was reached.
    ///
    /// # Errors
    ///
    /// As [`search`].
    pub(super) fn advance(&mut self, means: Means<'_>) -> Result<Option<Connected>, NotConnected> {
        while let Some(mut server) = self.server.take() {
            let begun = if server.is_writable() {
                server.send(&self.unsent, false)
            } else if clock::coarse_ms() >= self.until_ms {
                Err(io::ErrorKind::TimedOut.into())
            } else {
                self.server = Some(server);
                break;
            };
            let step = match begun {
                Ok(sent) => Step::Connected(server, sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    server.write_blocked();
                    self.server = Some(server);
                    continue;
                }
                Err(error) => self.dialer.failed(error, &self.unsent, means)?,
            };
            match step {
                Step::Connecting(server) => {
                    self.server = Some(server);
                    self.until_ms = self.dialer.address_until_ms();
                }
                Step::Connected(server, sent) => {
                    let slot = self.dialer.succeeded(means);
                    let look_at_ms = self.dialer.look_at_ms(means);
                    let mut unsent = std::mem::take(&mut self.unsent);
                    unsent.drain(..sent);
                    let client_has_finished = self.client_has_finished;
                    return Ok(Some(Connected { server, slot, unsent, sent, client_has_finished, look_at_ms }));
                }
            }
        }
        Ok(None)
    }
}

/// What the client has sent by now, and whether it has finished.
fn read_first<'a>(client: &OwnedFd, scratch: &'a mut [u8]) -> Result<(&'a [u8], bool), NotConnected> {
    match rustix::net::recv(client, &mut *scratch, RecvFlags::empty()) {
        Ok((0, _)) => Ok((&[], true)),
        Ok((read, _)) => Ok((&scratch[..read], false)),
        Err(Errno::AGAIN | Errno::INTR) => Ok((&[], false)),
        Err(error) => Err(NotConnected { reason: EndReason::ClientReset, error: Some(error.into()) }),
    }
}

pub(super) fn out_of_descriptors(error: io::Error) -> NotConnected {
    NotConnected { reason: EndReason::Limit, error: Some(error) }
}

enum Step {
    /// Connected, and so many of the first bytes are sent.
    Connected(TcpSocket, usize),
    /// Under way.
    Connecting(TcpSocket),
}

/// Where to reach a server.
#[derive(Debug)]
enum Addresses {
    /// As it is configured: then it needs not be looked up.
    Literal(SocketAddr),
    /// What its name was resolved to when its turn began; none when it was not yet.
    Resolved(Arc<Vec<SocketAddr>>),
}

/// One server's turn.
#[derive(Debug)]
struct Turn {
    slot: ServerSlot,
    addresses: Addresses,
    /// Addresses tried before this one.
    tried: usize,
    started_us: u64,
    until_ms: u64,
}

/// Asks the policy and tries what it names, one address after the other.
#[derive(Debug)]
struct Dialer {
    tried: Vec<u32>,
    attempts_max: u32,
    timeout_ms: u64,
    /// How soon the session's silence may be too long.
    short_silence_ms: u64,
    turn: Option<Turn>,
    last: Option<io::Error>,
}

impl Dialer {
    fn new(record: &SessionRecord) -> Self {
        let snapshot = record.group().snapshot();
        let settings = &snapshot.settings;
        Self {
            tried: Vec::new(),
            attempts_max: settings.connect_attempts,
            timeout_ms: clock::as_ms(settings.connect_timeout),
            short_silence_ms: short_silence_ms(settings),
            turn: None,
            last: None,
        }
    }

    /// Dials the next server that does not fail at once, and sends it `first`.
    fn start(&mut self, first: &[u8], means: Means<'_>) -> Result<Step, NotConnected> {
        loop {
            if self.turn.is_none() {
                self.turn = Some(self.next_turn(means.record)?);
            }
            let turn = self.turn.as_ref().expect("set a line ago");
            match turn.address().map_or_else(|| Err(unresolved()), |addr| dial(addr, first, means)) {
                Ok(step) => return Ok(step),
                Err(error) => self.address_failed(error, means.record)?,
            }
        }
    }

    /// The address under way has failed: on to the next.
    fn failed(&mut self, error: io::Error, first: &[u8], means: Means<'_>) -> Result<Step, NotConnected> {
        self.address_failed(error, means.record)?;
        self.start(first, means)
    }

    fn address_failed(&mut self, error: io::Error, record: &SessionRecord) -> Result<(), NotConnected> {
        if is_out_of_descriptors(&error) {
            return Err(out_of_descriptors(error));
        }
        let mut turn = self.turn.take().expect("an address fails in its server's turn");
        turn.tried += 1;
        if turn.tried < turn.addresses.all().len() && clock::coarse_ms() < turn.until_ms {
            self.turn = Some(turn);
        } else {
            self.tried.push(turn.slot.server.id);
            record.group().report(&turn.slot.server, turn.slot.epoch, Outcome::Failed { error: &error });
            self.last = Some(error);
        }
        Ok(())
    }

    fn next_turn(&mut self, record: &SessionRecord) -> Result<Turn, NotConnected> {
        let attempt = self.tried.len() as u32;
        if attempt >= self.attempts_max {
            return Err(self.give_up());
        }
        let group = record.group();
        let slot = match group.pick(record.client(), &self.tried) {
            Ok(slot) => slot,
            Err(PickError::NoServer) => return Err(self.give_up()),
            Err(PickError::NamedNobody | PickError::BadAnswer) => {
                return Err(NotConnected::because(EndReason::PolicyFailed));
            }
        };
        if attempt > 0 {
            group.counters.connect_retries.fetch_add(1, Relaxed);
        }
        record.set_attempts(attempt + 1);
        let addresses = match slot.server.settings.addr.literal() {
            Some(addr) => Addresses::Literal(addr),
            None => Addresses::Resolved(slot.server.live.addresses()),
        };
        Ok(Turn {
            slot,
            addresses,
            tried: 0,
            started_us: clock::precise_us(),
            until_ms: clock::coarse_ms() + self.timeout_ms,
        })
    }

    fn give_up(&mut self) -> NotConnected {
        match self.last.take() {
            None => NotConnected::because(EndReason::NoServer),
            Some(last) => NotConnected { reason: EndReason::ConnectFailed, error: Some(last) },
        }
    }

    /// Until when the address under way may take: what is left of the turn, shared fairly with those after it.
    fn address_until_ms(&self) -> u64 {
        let turn = self.turn.as_ref().expect("a connect under way has a turn");
        let now_ms = clock::coarse_ms();
        let addresses_left = turn.addresses.all().len().saturating_sub(turn.tried).max(1) as u64;
        now_ms + turn.until_ms.saturating_sub(now_ms) / addresses_left
    }

    /// When the session has to be looked at, should it be silent from now on.
    fn look_at_ms(&self, means: Means<'_>) -> u64 {
        means.now_ms.saturating_add(self.short_silence_ms)
    }

    fn succeeded(&mut self, means: Means<'_>) -> ServerSlot {
        let record = means.record;
        let turn = self.turn.take().expect("a connect succeeds in its server's turn");
        let micros = clock::precise_us().saturating_sub(turn.started_us);
        let ServerSlot { server, epoch } = &turn.slot;
        record.group().report(server, *epoch, Outcome::Connected { micros });
        server.live.prefer(turn.index());
        record.set_connected(server, micros, *epoch, means.now_ms);
        turn.slot
    }
}

impl Turn {
    /// The address that answered last time first, then the others in order, round and round.
    fn index(&self) -> usize {
        (self.slot.server.live.preferred() + self.tried) % self.addresses.all().len().max(1)
    }

    fn address(&self) -> Option<SocketAddr> {
        self.addresses.all().get(self.index()).copied()
    }
}

impl Addresses {
    fn all(&self) -> &[SocketAddr] {
        match self {
            Self::Literal(addr) => std::slice::from_ref(addr),
            Self::Resolved(addresses) => addresses,
        }
    }
}

/// Begins a connect. On loopback and in fast networks it is over at once, and the bytes are on their way.
fn dial(addr: SocketAddr, first: &[u8], means: Means<'_>) -> io::Result<Step> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if !first.is_empty() {
        // The reply to the first bytes carries the acknowledgement: saves two segments of twenty. Never when
        // the server speaks first. A kernel that refuses only sends more segments.
        let _ = sockopt::set_tcp_quickack(&fd, false);
    }
    match rustix::net::connect(&fd, &addr) {
        // The send also tells whether the connect is over, and how: TCP looks at the state before the length, so
        // it does so without bytes too, which spares asking for the socket's error.
        Ok(()) | Err(Errno::INPROGRESS) => match rustix::net::send(&fd, first, SendFlags::NOSIGNAL) {
            Ok(sent) => Ok(Step::Connected(TcpSocket::connected(fd, means.token, means.reactor, sent > 0)?, sent)),
            Err(Errno::AGAIN | Errno::INTR) => {
                Ok(Step::Connecting(TcpSocket::connecting(fd, means.token, means.reactor)?))
            }
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

fn unresolved() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the server's name is not resolved")
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::NOSPC)
    )
}
