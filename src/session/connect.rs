//! Finding a server for a client: pick, dial, and on failure pick again.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

use super::relay::{Socket, Workspace};
use super::service::SessionRecord;
use super::socket::TcpSocket;
use crate::clock;
use crate::counters::EndReason;
use crate::group::{PickError, ServerSlot};
use crate::policy::Outcome;
use crate::server::Server;

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
}

/// Why no server was reached.
#[derive(Debug)]
pub(super) struct NotConnected {
    pub(super) reason: EndReason,
    pub(super) error: Option<io::Error>,
}

impl NotConnected {
    fn because(reason: EndReason) -> Self {
        Self { reason, error: None }
    }
}

/// Connects the session to one of its group's servers and sends what the client has said so far.
///
/// The policy is asked first. A server that cannot be reached is closed to this session and the policy is
/// asked again, so each server is tried at most once. What the client has sent goes to the server that is
/// finally reached, exactly once. Dropping the future abandons the attempt and leaves nothing behind.
///
/// # Errors
///
/// No server may be picked, every attempt failed, the client was reset, the process has run out of
/// descriptors, or somebody ended the session.
pub(super) async fn connect(
    client: &OwnedFd,
    record: &SessionRecord,
    workspace: &Workspace,
) -> Result<Connected, NotConnected> {
    let mut dialer = Dialer::new(record);
    // The common case needs no wait and no copy: the client's bytes go from the scratch buffer to the server.
    let (mut step, first, client_has_finished) = workspace.with_scratch(|scratch| {
        let (first, has_finished) = read_first(client, &mut scratch[..FIRST_READ_MAX])?;
        let step = dialer.start(first)?;
        let kept = match &step {
            Step::Connected(_, sent) => first[*sent..].to_vec(),
            Step::Connecting(_) => first.to_vec(),
        };
        Ok((step, kept, has_finished))
    })?;
    let mut unsent = first;
    let waited = matches!(step, Step::Connecting(_));
    loop {
        match step {
            Step::Connected(server, sent) => {
                if waited {
                    unsent.drain(..sent);
                }
                let slot = dialer.succeeded();
                return Ok(Connected { server, slot, unsent, sent, client_has_finished });
            }
            Step::Connecting(server) => {
                let waited = wait(server, dialer.address_until_ms(), record).await;
                step = match waited.and_then(|server| begin(server, &unsent).map_err(Waited::Failed)) {
                    Ok(step) => step,
                    Err(Waited::Failed(error)) => dialer.failed(error, &unsent)?,
                    Err(Waited::Ended(reason)) => return Err(NotConnected::because(reason)),
                };
            }
        }
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

fn out_of_descriptors(error: io::Error) -> NotConnected {
    NotConnected { reason: EndReason::Limit, error: Some(error) }
}

enum Step {
    /// Connected, and so many of the first bytes are sent.
    Connected(TcpSocket, usize),
    /// Under way.
    Connecting(TcpSocket),
}

enum Waited {
    Failed(io::Error),
    Ended(EndReason),
}

/// One server's turn.
struct Turn {
    slot: ServerSlot,
    addresses: Arc<Vec<SocketAddr>>,
    /// Addresses tried before this one.
    tried: usize,
    started_us: u64,
    until_ms: u64,
}

struct Dialer<'a> {
    record: &'a SessionRecord,
    tried: Vec<u32>,
    attempts_max: u32,
    timeout_ms: u64,
    turn: Option<Turn>,
    last: Option<io::Error>,
}

impl<'a> Dialer<'a> {
    fn new(record: &'a SessionRecord) -> Self {
        let settings = &record.group().snapshot().settings;
        Self {
            record,
            tried: Vec::new(),
            attempts_max: settings.connect_attempts,
            timeout_ms: clock::as_ms(settings.connect_timeout),
            turn: None,
            last: None,
        }
    }

    /// Dials the next server that does not fail at once, and sends it `first`.
    fn start(&mut self, first: &[u8]) -> Result<Step, NotConnected> {
        loop {
            if self.turn.is_none() {
                self.turn = Some(self.next_turn()?);
            }
            let turn = self.turn.as_ref().expect("set a line ago");
            match turn.address().map_or_else(|| Err(unresolved()), |addr| dial(addr, first)) {
                Ok(step) => return Ok(step),
                Err(error) => self.address_failed(error)?,
            }
        }
    }

    /// The address under way has failed: on to the next.
    fn failed(&mut self, error: io::Error, first: &[u8]) -> Result<Step, NotConnected> {
        self.address_failed(error)?;
        self.start(first)
    }

    fn address_failed(&mut self, error: io::Error) -> Result<(), NotConnected> {
        if is_out_of_descriptors(&error) {
            return Err(out_of_descriptors(error));
        }
        let mut turn = self.turn.take().expect("an address fails in its server's turn");
        turn.tried += 1;
        if turn.tried < turn.addresses.len() && clock::coarse_ms() < turn.until_ms {
            self.turn = Some(turn);
        } else {
            self.server_failed(&turn.slot.server, &error);
            self.last = Some(error);
        }
        Ok(())
    }

    fn server_failed(&mut self, server: &Arc<Server>, error: &io::Error) {
        let group = self.record.group();
        group.counters.connect_errors.fetch_add(1, Relaxed);
        self.tried.push(server.id);
        group.heed(server, Outcome::Failed);
        // Having no port left towards this server is not its fault.
        if error.kind() != io::ErrorKind::AddrNotAvailable && server.live.connect_failed(clock::coarse_ms()) {
            tracing::warn!(
                group = group.port(),
                server.addr = server.settings.addr.as_str(),
                error = %error,
                "server suspect"
            );
        }
    }

    fn next_turn(&mut self) -> Result<Turn, NotConnected> {
        let attempt = self.tried.len() as u32;
        if attempt >= self.attempts_max {
            return Err(self.give_up());
        }
        let group = self.record.group();
        let slot = match group.pick(self.record.client(), &self.tried) {
            Ok(slot) => slot,
            Err(PickError::NoServer) => return Err(self.give_up()),
            Err(PickError::BadAnswer) => return Err(NotConnected::because(EndReason::PolicyFailed)),
        };
        if attempt > 0 {
            group.counters.connect_retries.fetch_add(1, Relaxed);
        }
        self.record.set_attempts(attempt + 1);
        let addresses = slot.server.live.addresses();
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
        let addresses_left = turn.addresses.len().saturating_sub(turn.tried).max(1) as u64;
        now_ms + turn.until_ms.saturating_sub(now_ms) / addresses_left
    }

    fn succeeded(&mut self) -> ServerSlot {
        let turn = self.turn.take().expect("a connect succeeds in its server's turn");
        let micros = clock::precise_us().saturating_sub(turn.started_us);
        let live = &turn.slot.server.live;
        live.connected(micros);
        let outcome = Outcome::Connected { micros: u32::try_from(micros).unwrap_or(u32::MAX) };
        self.record.group().heed(&turn.slot.server, outcome);
        live.prefer(turn.index());
        self.record.group().counters.connect_time.observe(micros);
        self.record.set_connected(&turn.slot.server, micros);
        turn.slot
    }
}

impl Turn {
    /// The address that answered last time first, then the others in order, round and round.
    fn index(&self) -> usize {
        (self.slot.server.live.preferred() + self.tried) % self.addresses.len().max(1)
    }

    fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.index()).copied()
    }
}

/// Begins a connect. On loopback and in fast networks it is over at once, and the bytes are on their way.
fn dial(addr: SocketAddr, first: &[u8]) -> io::Result<Step> {
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
            Ok(sent) => Ok(Step::Connected(TcpSocket::connected(fd, sent > 0)?, sent)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Step::Connecting(TcpSocket::connecting(fd)?)),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

/// The wait for a connect is over: sends the first bytes, which tells how.
fn begin(mut server: TcpSocket, first: &[u8]) -> io::Result<Step> {
    match server.send(first) {
        Ok(sent) => Ok(Step::Connected(server, sent)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            server.write_blocked()?;
            Ok(Step::Connecting(server))
        }
        Err(error) => Err(error),
    }
}

/// Waits until a connect is over, well or badly. It needs no timer: the scan of silent sessions wakes it.
async fn wait(mut server: TcpSocket, until_ms: u64, record: &SessionRecord) -> Result<TcpSocket, Waited> {
    record.set_connect_until(until_ms);
    let waited = poll_fn(|cx| {
        record.arm(cx.waker());
        if let Some(reason) = record.verdict() {
            return Poll::Ready(Err(Waited::Ended(reason)));
        }
        if let Poll::Ready(ready) = server.poll_writable(cx) {
            return Poll::Ready(ready.map_err(Waited::Failed));
        }
        match record.has_connect_timed_out(clock::coarse_ms()) {
            true => Poll::Ready(Err(Waited::Failed(io::ErrorKind::TimedOut.into()))),
            false => Poll::Pending,
        }
    })
    .await;
    record.set_connect_until(0);
    waited.map(|()| server)
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
