//! Clients that send random bytes through the proxy and check what comes back.
//!
//! Nothing is assumed: which server answered is read from its greeting, and a session counts only when the
//! echo has the length and the hash of what was sent. Clients come from many loopback addresses, so that
//! policies that look at the address have something to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpSocket;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::RwLock;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xxhash_rust::xxh3::Xxh3Default;

use super::echo::SERVERS;

/// The last parts of the clients' addresses, 127.0.0.x.
const SOURCES: std::ops::RangeInclusive<u8> = 2..=40;

/// The longest payload is two to this power; every power below is as likely.
const LENGTH_BITS_MAX: u32 = 18;

/// The largest piece written at once.
const SLICE_BYTES_MAX: usize = 16 << 10;

/// The largest piece of a session that stays open, and the pause after it.
const TRICKLE_BYTES_MAX: usize = 1 << 10;
const TRICKLE_EVERY: Duration = Duration::from_millis(20);

/// A session that has not ended by then counts as an error.
const SESSION_TIME_MAX: Duration = Duration::from_secs(5);

/// A greeting is shorter.
const GREETING_BYTES_MAX: u64 = 64;

/// The clients, and what they measured.
pub(super) struct Clients {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Shared {
    proxy: SocketAddr,
    /// Held for reading by every short session: whoever holds it for writing has a moment without any.
    gate: RwLock<()>,
    /// Guards what was measured.
    tally: Mutex<Tally>,
}

/// What the clients measured.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) phases: Vec<Phase>,
    pub(super) bytes_up: u64,
    /// Greetings included.
    pub(super) bytes_down: u64,
    pub(super) errors: u64,
    /// What the first error was.
    pub(super) first_error: Option<String>,
    /// How long the session lasted that was to stay open, once it has ended well.
    pub(super) long_session: Option<Duration>,
}

/// The sessions between two events of the script.
#[derive(Clone, Default)]
pub(super) struct Phase {
    pub(super) name: String,
    /// By server.
    pub(super) sessions: [u64; SERVERS],
    /// The servers that each client address has met.
    pub(super) met: BTreeMap<Ipv4Addr, BTreeSet<usize>>,
}

/// What goes through one session.
enum Payload {
    Bytes(u64),
    /// A little now and then, for as long as this is not cancelled.
    Until(CancellationToken),
}

struct Stream {
    bytes: u64,
    digest: u128,
}

/// A session whose echo was right.
struct Outcome {
    server: usize,
    bytes_up: u64,
    bytes_down: u64,
}

impl Clients {
    /// Starts `count` clients, each with one session after the other and a random pause between them, which
    /// leaves the machine some air.
    pub(super) fn start(proxy: SocketAddr, count: usize, pause_max: Duration, phase: &str) -> Self {
        let tally = Tally { phases: vec![Phase::new(phase)], ..Tally::default() };
        let shared = Arc::new(Shared { proxy, gate: RwLock::new(()), tally: Mutex::new(tally) });
        let clients = Self { shared, tasks: TaskTracker::new(), stop: CancellationToken::new() };
        for _ in 0..count {
            let (shared, stop) = (Arc::clone(&clients.shared), clients.stop.clone());
            clients.tasks.spawn(async move {
                while !stop.is_cancelled() {
                    shared.short_session().await;
                    stop.run_until_cancelled(sleep(pause_max.mul_f64(fastrand::f64()))).await;
                }
            });
        }
        clients
    }

    /// Opens one more session, which says something now and then until the clients are stopped.
    pub(super) fn open_long_session(&self) {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.tasks.spawn(async move { shared.long_session(stop).await });
    }

    /// Waits until no short session is under way, does `what` in that moment, and counts in a new phase from
    /// there on.
    pub(super) async fn next_phase(&self, name: &str, what: impl Future<Output = ()>) {
        let _nobody = self.shared.gate.write().await;
        what.await;
        self.shared.tally().phases.push(Phase::new(name));
    }

    /// What was measured so far.
    pub(super) fn tally(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Lets every client finish its session; whoever cannot is left to the end of the runtime.
    pub(super) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        drop(timeout(SESSION_TIME_MAX, self.tasks.wait()).await);
    }
}

impl Shared {
    async fn short_session(&self) {
        let _under_way = self.gate.read().await;
        let source = Ipv4Addr::new(127, 0, 0, fastrand::u8(SOURCES));
        let payload = Payload::Bytes(fastrand::u64(1..=1 << fastrand::u32(0..=LENGTH_BITS_MAX)));
        let outcome = timeout(SESSION_TIME_MAX, session(source, self.proxy, payload)).await;
        self.record(source, self.phase(), outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())));
    }

    async fn long_session(&self, until: CancellationToken) {
        let (source, phase, start) = (Ipv4Addr::LOCALHOST, self.phase(), Instant::now());
        let outcome = session(source, self.proxy, Payload::Until(until)).await;
        if outcome.is_ok() {
            self.tally().long_session = Some(start.elapsed());
        }
        self.record(source, phase, outcome);
    }

    fn record(&self, source: Ipv4Addr, phase: usize, outcome: io::Result<Outcome>) {
        let mut tally = self.tally();
        match outcome {
            Ok(Outcome { server, bytes_up, bytes_down }) => {
                tally.bytes_up += bytes_up;
                tally.bytes_down += bytes_down;
                let phase = &mut tally.phases[phase];
                phase.sessions[server] += 1;
                phase.met.entry(source).or_default().insert(server);
            }
            Err(error) => {
                tally.errors += 1;
                tally.first_error.get_or_insert_with(|| format!("client {source}: {error}"));
            }
        }
    }

    /// The phase under way.
    fn phase(&self) -> usize {
        self.tally().phases.len() - 1
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    /// Sessions that went well.
    pub(super) fn sessions(&self) -> u64 {
        self.phases.iter().map(Phase::total).sum()
    }

    /// Those that met this server.
    pub(super) fn sessions_of(&self, server: usize) -> u64 {
        self.phases.iter().map(|phase| phase.sessions[server]).sum()
    }

    /// The phase under way.
    pub(super) fn phase(&self) -> Phase {
        self.phases.last().cloned().unwrap_or_default()
    }
}

impl Phase {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub(super) fn total(&self) -> u64 {
        self.sessions.iter().sum()
    }
}

/// One session from connect to the end of the echo.
async fn session(source: Ipv4Addr, proxy: SocketAddr, payload: Payload) -> io::Result<Outcome> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let mut stream = socket.connect(proxy).await?;
    let (reading, writing) = stream.split();
    let (sent, (server, greeting, received)) = tokio::try_join!(send(writing, payload), receive(reading))?;
    if (sent.bytes, sent.digest) != (received.bytes, received.digest) {
        let text = format!("sent {} bytes, the echo has {} and differs", sent.bytes, received.bytes);
        return Err(io::Error::other(text));
    }
    Ok(Outcome { server, bytes_up: sent.bytes, bytes_down: greeting + received.bytes })
}

/// Sends random bytes in random slices, then the end.
async fn send(mut writing: WriteHalf<'_>, payload: Payload) -> io::Result<Stream> {
    let mut hash = Xxh3Default::new();
    let mut buffer = vec![0; SLICE_BYTES_MAX];
    let mut bytes = 0;
    loop {
        let len = match &payload {
            Payload::Bytes(length) => fastrand::u64(1..=SLICE_BYTES_MAX as u64).min(length - bytes) as usize,
            Payload::Until(end) if end.is_cancelled() => 0,
            Payload::Until(_) => fastrand::usize(1..=TRICKLE_BYTES_MAX),
        };
        if len == 0 {
            writing.shutdown().await?;
            return Ok(Stream { bytes, digest: hash.digest128() });
        }
        fastrand::fill(&mut buffer[..len]);
        hash.update(&buffer[..len]);
        writing.write_all(&buffer[..len]).await?;
        bytes += len as u64;
        if let Payload::Until(end) = &payload {
            end.run_until_cancelled(sleep(TRICKLE_EVERY)).await;
        }
    }
}

/// Reads the greeting, which tells the server and has so many bytes, and the echo to its end.
async fn receive(reading: ReadHalf<'_>) -> io::Result<(usize, u64, Stream)> {
    let mut reading = BufReader::with_capacity(SLICE_BYTES_MAX, reading);
    let mut greeting = String::new();
    (&mut reading).take(GREETING_BYTES_MAX).read_line(&mut greeting).await?;
    let number = greeting.strip_prefix("server ").and_then(|text| text.trim_end().parse::<usize>().ok());
    let Some(server) = number.filter(|number| (1..=SERVERS).contains(number)) else {
        return Err(io::Error::other(format!("greeted with {greeting:?}")));
    };
    let mut hash = Xxh3Default::new();
    let mut bytes = 0;
    loop {
        let piece = reading.fill_buf().await?;
        if piece.is_empty() {
            return Ok((server - 1, greeting.len() as u64, Stream { bytes, digest: hash.digest128() }));
        }
        hash.update(piece);
        let len = piece.len();
        bytes += len as u64;
        reading.consume(len);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// One session of 100,000 bytes with a server that greets with `greeting` and changes the echo's bytes.
    async fn session_with(
        greeting: &'static str,
        change: impl Fn(&mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Outcome> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).await.unwrap();
            change(&mut bytes);
            client.write_all(greeting.as_bytes()).await.unwrap();
            client.write_all(&bytes).await.unwrap();
        });
        let outcome = session(Ipv4Addr::new(127, 0, 0, 2), addr, Payload::Bytes(100_000)).await;
        server.await.unwrap();
        outcome
    }

    #[tokio::test]
    async fn a_true_echo_counts_for_the_server_that_greeted() {
        let outcome = session_with("server 3\n", |_| {}).await.unwrap();
        assert_eq!((outcome.server, outcome.bytes_up, outcome.bytes_down), (2, 100_000, 100_009));
    }

    #[tokio::test]
    async fn an_echo_that_is_changed_cut_or_longer_is_an_error() {
        let changes: [fn(&mut Vec<u8>); 3] =
            [|bytes| bytes[70_000] ^= 1, |bytes| bytes.truncate(99_999), |bytes| bytes.push(0)];
        for change in changes {
            let error = session_with("server 1\n", change).await.err().unwrap();
            assert!(error.to_string().contains("differs"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_greeting_that_names_no_server_is_an_error() {
        for greeting in ["server 0\n", "server 5\n", "server\n", "\n", ""] {
            assert!(session_with(greeting, |bytes| bytes.clear()).await.is_err(), "{greeting:?}");
        }
    }
}
