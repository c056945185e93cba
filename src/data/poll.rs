//! Tells a data thread which of its sockets have something to do: epoll, and a waker for other threads.
//!
//! Sessions' sockets are watched for edges: an event comes once, when something has changed, so whoever gets it
//! keeps what it said until a read or a write finds out otherwise. A socket that is closed leaves by itself, unless another
//! process has it as well: that has to be [forgotten](Reactor::forget) before.
//! What an event belongs to is a [`Token`]; one that outlives its owner must be recognised by the caller,
//! since an event that was fetched already cannot be taken back.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

/// Events fetched at once; the rest comes with the next call.
const EVENTS_PER_WAIT: usize = 256;

/// Changes of a socket that a session wants to hear of in any case: bytes, the peer's end, urgent data (which
/// stops a read before the socket is empty). Failures are told without being asked for.
const READING: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::PRI).union(EventFlags::ET);

/// Comes with the events of a socket and says what that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token(u64);

/// Whom an event is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Somebody has woken the thread.
    Waker,
    /// The time that was set has come.
    Timer,
    /// A listener.
    Listener(u64),
    /// The client of a session.
    Client(SessionKey),
    /// The server of a session.
    Server(SessionKey),
}

/// Names a session for its thread: its place there, and enough of its id to tell it from whoever had that place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionKey(u64);

/// What has happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready(EventFlags);

/// The sockets that one thread watches.
#[derive(Debug)]
pub(crate) struct Reactor {
    epoll: OwnedFd,
    waker: Waker,
    timer: OwnedFd,
}

/// Wakes the thread of a [`Reactor`] out of its wait.
#[derive(Clone, Debug)]
pub(crate) struct Waker(Arc<OwnedFd>);

impl Token {
    const WAKER: Self = Self(u64::MAX);
    const TIMER: Self = Self(u64::MAX - 1);
    const LISTENER: u64 = 1 << 63;
    const SERVER: u64 = 1 << 62;

    pub(crate) fn client(session: SessionKey) -> Self {
        Self(session.0)
    }

    pub(crate) fn server(session: SessionKey) -> Self {
        Self(session.0 | Self::SERVER)
    }

    pub(crate) fn listener(key: u64) -> Self {
        Self(key | Self::LISTENER)
    }

    pub(crate) fn source(self) -> Source {
        match self.0 {
            _ if self == Self::WAKER => Source::Waker,
            _ if self == Self::TIMER => Source::Timer,
            value if value & Self::LISTENER != 0 => Source::Listener(value & !Self::LISTENER),
            value if value & Self::SERVER != 0 => Source::Server(SessionKey(value & !Self::SERVER)),
            value => Source::Client(SessionKey(value)),
        }
    }
}

impl SessionKey {
    /// Bits for the place: as many descriptors as Linux gives to all processes together fit in.
    const PLACE_BITS: u32 = 31;
    /// Bits of the id. A place would have to be taken two thousand million times within one wait to come out the same.
    const ID_BITS: u32 = 31;

    /// The session with this id, at this place.
    pub(crate) fn new(place: usize, id: u64) -> Self {
        debug_assert!(place < 1 << Self::PLACE_BITS, "no system has so many descriptors");
        Self((place as u64) << Self::ID_BITS | id & ((1 << Self::ID_BITS) - 1))
    }

    /// Its place among the sessions of its thread.
    pub(crate) fn place(self) -> usize {
        (self.0 >> Self::ID_BITS) as usize
    }
}

impl Ready {
    /// A read may succeed, find the end or fail.
    pub(crate) fn is_readable(self) -> bool {
        self.0.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI | EventFlags::HUP | EventFlags::ERR)
    }

    /// A write may succeed or fail.
    pub(crate) fn is_writable(self) -> bool {
        self.0.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR)
    }

    /// The peer has ended in order: whatever it sent has arrived.
    pub(crate) fn has_end(self) -> bool {
        self.0.contains(EventFlags::RDHUP) && !self.0.contains(EventFlags::ERR)
    }

    /// The connection has broken: nothing that is sent to the peer can arrive any more.
    pub(crate) fn has_failed(self) -> bool {
        self.0.contains(EventFlags::ERR)
    }

    /// There is more to find than bytes: urgent data, before which a read stops, or a failure behind them.
    pub(crate) fn has_exception(self) -> bool {
        self.0.intersects(EventFlags::PRI | EventFlags::ERR)
    }
}

impl Reactor {
    /// A reactor that watches nothing but its waker.
    ///
    /// # Errors
    ///
    /// No descriptor is left for it.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &waker, EventData::new_u64(Token::WAKER.0), EventFlags::IN | EventFlags::ET)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        // Nobody reads how often it has run out: each time is an edge.
        epoll::add(&epoll, &timer, EventData::new_u64(Token::TIMER.0), EventFlags::IN | EventFlags::ET)?;
        Ok(Self { epoll, waker: Waker(Arc::new(waker)), timer })
    }

    /// Wakes the thread that waits here.
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Watches a session's socket for reading, and for writing or not. What is so already is told, too.
    ///
    /// # Errors
    ///
    /// The system watches as many sockets as it may (`fs.epoll.max_user_watches`) or has no memory.
    pub(crate) fn watch(&self, socket: &OwnedFd, token: Token, for_writing: bool) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.0), interest(for_writing))?)
    }

    /// From now on tells when a socket becomes writable, too. If it is so already, that is told.
    pub(crate) fn add_write_interest(&self, socket: &OwnedFd, token: Token) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token.0), interest(true))?)
    }

    /// Watches a listening socket: events come for as long as clients wait.
    pub(crate) fn watch_listener(&self, socket: &OwnedFd, token: Token) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.0), EventFlags::IN)?)
    }

    /// Watches a socket no longer.
    pub(crate) fn forget(&self, socket: &OwnedFd) {
        // It can only fail for a socket that is not watched.
        let _ = epoll::delete(&self.epoll, socket);
    }

    /// Has an event of [`Source::Timer`] come in so many milliseconds, at least one, instead of the one it was set for.
    ///
    /// One call now and then: a time-out with every wait would have the kernel start and stop a timer each time.
    ///
    /// # Errors
    ///
    /// None that a working system has.
    pub(crate) fn set_timer(&self, in_ms: u32) -> io::Result<()> {
        let once = Itimerspec { it_interval: timespec(0), it_value: timespec(in_ms.max(1)) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits for events, `timeout_ms` milliseconds at most or without end, and puts them into `events`.
    ///
    /// # Errors
    ///
    /// None that a working system has.
    pub(crate) fn wait(&self, events: &mut Events, timeout_ms: Option<u32>) -> io::Result<()> {
        events.0.clear();
        let timeout = timeout_ms.map(timespec);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events.0), timeout.as_ref()) {
            // A signal that nobody handles, or a debugger.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn timespec(ms: u32) -> Timespec {
    Timespec { tv_sec: i64::from(ms / 1_000), tv_nsec: i64::from(ms % 1_000 * 1_000_000) }
}

/// Room for the events of one wait.
pub(crate) struct Events(Vec<Event>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS_PER_WAIT))
    }

    /// What has happened, and to whom.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Token, Ready)> {
        self.0.iter().map(|event| (Token(event.data.u64()), Ready(event.flags)))
    }
}

impl Waker {
    /// Ends the current wait of the thread, or else its next one.
    pub(crate) fn wake(&self) {
        // It fails when the counter is full, so when it has been woken already. Nobody reads the counter: a write is
        // an edge, whatever it says.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }
}

fn interest(for_writing: bool) -> EventFlags {
    if for_writing { READING | EventFlags::OUT } else { READING }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn events(reactor: &Reactor, may_block: bool) -> Vec<(Token, Ready)> {
        let mut events = Events::new();
        reactor.wait(&mut events, if may_block { None } else { Some(0) }).unwrap();
        events.iter().collect()
    }

    #[test]
    fn a_token_tells_whose_it_is_and_sessions_apart_that_had_the_same_place() {
        let (first, second) = (SessionKey::new(70_000, 5), SessionKey::new(70_000, u64::from(u32::MAX) + 7));
        for (token, source) in [
            (Token::WAKER, Source::Waker),
            (Token::TIMER, Source::Timer),
            (Token::listener(3), Source::Listener(3)),
            (Token::client(first), Source::Client(first)),
            (Token::server(second), Source::Server(second)),
        ] {
            assert_eq!(token.source(), source);
        }
        assert_ne!(first, second);
        assert_eq!((first.place(), second.place()), (70_000, 70_000));
    }

    #[test]
    fn an_event_comes_once_and_says_what_has_happened() {
        let reactor = Reactor::new().unwrap();
        let (mut client, server) = pair();
        let (socket, token) = (OwnedFd::from(server), Token::listener(7));
        reactor.watch(&socket, token, false).unwrap();
        assert!(events(&reactor, false).is_empty());
        client.write_all(b"x").unwrap();
        let told = events(&reactor, true);
        assert_eq!(told.len(), 1);
        let (whom, ready) = told[0];
        assert_eq!(whom.source(), Source::Listener(7));
        assert!(ready.is_readable() && !ready.is_writable() && !ready.has_end());
        assert!(events(&reactor, false).is_empty(), "edges come once, read or not");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(events(&reactor, true)[0].1.has_end());
        reactor.add_write_interest(&socket, token).unwrap();
        assert!(events(&reactor, false)[0].1.is_writable(), "what is writable already is told");
    }

    #[test]
    fn a_reset_is_a_failure_and_no_end() {
        let reactor = Reactor::new().unwrap();
        let (client, server) = pair();
        let socket = OwnedFd::from(server);
        reactor.watch(&socket, Token::listener(1), false).unwrap();
        rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        let (_, ready) = events(&reactor, true)[0];
        assert!(ready.is_readable() && ready.is_writable() && ready.has_exception() && !ready.has_end());
        assert!(ready.has_failed());
    }

    #[test]
    fn a_listener_is_told_as_long_as_clients_wait_and_not_when_forgotten() {
        let reactor = Reactor::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let listener = OwnedFd::from(listener);
        reactor.watch_listener(&listener, Token::listener(2)).unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        for _ in 0..2 {
            assert_eq!(events(&reactor, true).len(), 1);
        }
        reactor.forget(&listener);
        assert!(events(&reactor, false).is_empty());
        reactor.watch_listener(&listener, Token::listener(2)).unwrap();
        assert_eq!(events(&reactor, true).len(), 1);
    }

    #[test]
    fn the_waker_ends_a_wait_from_another_thread_every_time() {
        let reactor = Reactor::new().unwrap();
        for _ in 0..3 {
            let waker = reactor.waker();
            let waking = std::thread::spawn(move || waker.wake());
            let told = events(&reactor, true);
            assert_eq!(told.iter().map(|(token, _)| token.source()).collect::<Vec<_>>(), [Source::Waker]);
            waking.join().unwrap();
            assert!(events(&reactor, false).is_empty());
        }
    }

    #[test]
    fn urgent_data_is_told() {
        let reactor = Reactor::new().unwrap();
        let (client, mut server) = pair();
        let socket = OwnedFd::from(server.try_clone().unwrap());
        reactor.watch(&socket, Token::listener(1), false).unwrap();
        rustix::net::send(&client, b"abc", rustix::net::SendFlags::OOB).unwrap();
        assert!(events(&reactor, true)[0].1.has_exception());
        let mut read = [0; 8];
        assert_eq!(server.read(&mut read).unwrap(), 2, "the read stops before the urgent byte");
    }
}
