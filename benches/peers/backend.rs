//! The servers behind the proxies: a few epoll threads of this program, the same for every peer.
//!
//! Each peer has addresses of its own, so that the TIME_WAIT of one never costs another. A connection does
//! whatever its requests ask for ([`Op`]). Whatever is not exactly as agreed is a fault.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
    net::{self, RecvFlags, SendFlags, SocketFlags, sockopt},
};
use slab::Slab;

use crate::{
    faults::Faults,
    wire::{CHUNK, HEAD, Op},
};

const FIRST_PORT: u16 = 11_000;
/// The first address of a peer with many servers.
const FIRST_MANY: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);
/// Keys from here on are listeners, below are sessions.
const LISTENERS: u64 = 1 << 32;

/// All servers of all peers.
pub(crate) struct Backends {
    addrs: Vec<Vec<SocketAddr>>,
    open: Arc<AtomicUsize>,
}

impl Backends {
    /// Starts `lanes` threads that serve every peer; they live as long as the process. The servers of the peers from
    /// `first_many` on can be reached at every loopback address.
    pub(crate) fn start(lanes: usize, peers: usize, first_many: usize, faults: &Arc<Faults>) -> io::Result<Backends> {
        let open = Arc::new(AtomicUsize::new(0));
        let mut of_lane: Vec<Vec<TcpListener>> = (0..lanes).map(|_| Vec::new()).collect();
        let mut addrs = vec![Vec::new(); peers];
        let servers = lanes.max(2);
        for index in 0..peers * servers {
            let ip = if index / servers < first_many { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
            let port = FIRST_PORT + index as u16;
            let listener = TcpListener::bind((ip, port))?;
            net::listen(&listener, 4096)?;
            listener.set_nonblocking(true)?;
            sockopt::set_tcp_nodelay(&listener, true)?;
            addrs[index / servers].push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            of_lane[index % lanes].push(listener);
        }
        for listeners in of_lane {
            let mut lane = Lane::new(listeners, Arc::clone(&open), Arc::clone(faults))?;
            thread::Builder::new().name("server".into()).spawn(move || lane.run())?;
        }
        Ok(Backends { addrs, open })
    }

    /// The servers of one peer.
    pub(crate) fn of(&self, peer: usize) -> &[SocketAddr] {
        &self.addrs[peer]
    }

    /// So many different servers of a peer that has many: they share sockets, but a proxy cannot know.
    pub(crate) fn many(&self, peer: usize, count: usize) -> Vec<SocketAddr> {
        let sockets = self.addrs[peer].iter().cycle();
        let ips = (0..count as u32).map(|index| Ipv4Addr::from_bits(FIRST_MANY.to_bits() + index));
        ips.zip(sockets).map(|(ip, socket)| SocketAddr::from((ip, socket.port()))).collect()
    }

    /// Waits until `count` connections are left; gives how many there are when it will not wait longer.
    pub(crate) fn settle(&self, count: usize) -> Result<(), usize> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let open = self.open.load(Ordering::Acquire);
            if open == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(open);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Session {
    stream: OwnedFd,
    state: State,
}

enum State {
    /// Collecting a request of which `have` bytes came so far.
    Request { head: [u8; HEAD], have: usize },
    /// Counting what the client sends until its end.
    Sink { received: u64 },
    /// Sending so many bytes more.
    Source { left: u64, stays: bool },
}

impl State {
    const START: State = State::Request { head: [0; HEAD], have: 0 };
}

enum Next {
    Keep,
    /// From now on it is readability that counts.
    Read,
    /// From now on it is writability that counts.
    Write,
    Done,
}

struct Lane {
    epoll: OwnedFd,
    listeners: Vec<TcpListener>,
    sessions: Slab<Session>,
    open: Arc<AtomicUsize>,
    faults: Arc<Faults>,
    scratch: Vec<u8>,
}

impl Lane {
    fn new(listeners: Vec<TcpListener>, open: Arc<AtomicUsize>, faults: Arc<Faults>) -> io::Result<Lane> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (index, listener) in listeners.iter().enumerate() {
            epoll::add(&epoll, listener, EventData::new_u64(LISTENERS + index as u64), EventFlags::IN)?;
        }
        Ok(Lane { epoll, listeners, sessions: Slab::new(), open, faults, scratch: vec![0; CHUNK] })
    }

    fn run(&mut self) {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => self.faults.add(|| format!("server: epoll: {error}")),
            }
            for event in &events {
                let key = event.data.u64();
                if key >= LISTENERS {
                    self.accept((key - LISTENERS) as usize);
                } else {
                    self.step(key as usize);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..64 {
            let stream = match net::accept_with(&self.listeners[listener], SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
            {
                Ok(stream) => stream,
                Err(Errno::AGAIN) => return,
                Err(error) => return self.faults.add(|| format!("server: accept: {error}")),
            };
            let entry = self.sessions.vacant_entry();
            let key = EventData::new_u64(entry.key() as u64);
            if let Err(error) = epoll::add(&self.epoll, &stream, key, EventFlags::IN) {
                return self.faults.add(|| format!("server: epoll: {error}"));
            }
            entry.insert(Session { stream, state: State::START });
            self.open.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn step(&mut self, key: usize) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let next = session.step(&mut self.scratch).and_then(|next| {
            let interest = match next {
                Next::Keep | Next::Done => return Ok(next),
                Next::Read => EventFlags::IN,
                Next::Write => EventFlags::OUT,
            };
            epoll::modify(&self.epoll, &session.stream, EventData::new_u64(key as u64), interest)
                .map(|()| Next::Keep)
                .map_err(|error| format!("epoll: {error}"))
        });
        match next {
            Ok(Next::Done) => {}
            Ok(_) => return,
            Err(text) => self.faults.add(|| format!("server: {text}")),
        }
        drop(self.sessions.remove(key));
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Session {
    fn step(&mut self, scratch: &mut [u8]) -> Result<Next, String> {
        match &mut self.state {
            State::Request { .. } => self.request(scratch),
            State::Sink { received } => {
                // TRUNC throws the bytes away in the kernel, so that counting costs less than any proxy.
                match net::recv(&self.stream, scratch, RecvFlags::TRUNC) {
                    Ok((_, 0)) => {
                        let reply = Op::Up.head(*received);
                        send_all(&self.stream, &reply).map(|()| Next::Done)
                    }
                    Ok((_, len)) => {
                        *received += len as u64;
                        Ok(Next::Keep)
                    }
                    Err(Errno::AGAIN) => Ok(Next::Keep),
                    Err(error) => Err(format!("bulk up broke after {received} bytes: {error}")),
                }
            }
            State::Source { left, stays } => {
                let len = scratch.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                match net::send(&self.stream, &scratch[..len], SendFlags::NOSIGNAL) {
                    Ok(sent) => *left -= sent as u64,
                    Err(Errno::AGAIN) => {}
                    Err(error) => return Err(format!("bulk down broke with {left} bytes to go: {error}")),
                }
                match (*left, *stays) {
                    (0, false) => Ok(Next::Done),
                    (0, true) => {
                        self.state = State::START;
                        Ok(Next::Read)
                    }
                    _ => Ok(Next::Keep),
                }
            }
        }
    }

    fn request(&mut self, scratch: &mut [u8]) -> Result<Next, String> {
        let State::Request { head, have } = &mut self.state else { return Ok(Next::Keep) };
        let len = match net::recv(&self.stream, &mut scratch[..2048], RecvFlags::empty()) {
            Ok((_, 0)) if *have == 0 => return Ok(Next::Done),
            Ok((_, 0)) => return Err(format!("the client ended after {have} bytes of a request")),
            Ok((len, _)) => len,
            Err(Errno::AGAIN) => return Ok(Next::Keep),
            Err(error) => return Err(format!("reading a request: {error}")),
        };
        let missing = HEAD.saturating_sub(*have).min(len);
        head[HEAD.min(*have)..HEAD.min(*have) + missing].copy_from_slice(&scratch[..missing]);
        *have += len;
        if *have < HEAD {
            return Ok(Next::Keep);
        }
        let (op, number) = Op::parse(head).ok_or_else(|| format!("a request with the head {head:?}"))?;
        match op {
            Op::Up => {
                self.state = State::Sink { received: (*have - HEAD) as u64 };
                Ok(Next::Keep)
            }
            Op::Down | Op::Fill => {
                self.state = State::Source { left: number, stays: op == Op::Fill };
                Ok(Next::Write)
            }
            Op::Reply | Op::ReplyAndClose | Op::Echo if *have < op.request_len() => Ok(Next::Keep),
            Op::Reply | Op::ReplyAndClose | Op::Echo if *have > op.request_len() => {
                Err(format!("{have} bytes came, the request {op:?} has {}", op.request_len()))
            }
            Op::Reply | Op::ReplyAndClose | Op::Echo => {
                let reply = &mut scratch[..op.reply_len()];
                reply[..HEAD].copy_from_slice(head);
                send_all(&self.stream, reply)?;
                *have = 0;
                Ok(if op == Op::ReplyAndClose { Next::Done } else { Next::Keep })
            }
        }
    }
}

/// Sends what always fits into an empty socket buffer.
fn send_all(stream: &OwnedFd, bytes: &[u8]) -> Result<(), String> {
    match net::send(stream, bytes, SendFlags::NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(sent) => Err(format!("only {sent} of {} bytes of a reply could be sent", bytes.len())),
        Err(error) => Err(format!("sending a reply: {error}")),
    }
}
