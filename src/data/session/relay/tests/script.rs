//! Sockets whose peers follow a script, and a session between two of them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::super::{Pause, Relay, RelayEnd, Side, Socket, Workspace};
use crate::base::clock;
use crate::counters::EndReason;
use crate::data::deadlines::NEVER;
use crate::data::session::{ProxySessionService, SessionRecord};
use crate::group::{Group, GroupSettings};

/// What a socket's peer does, in order.
#[derive(Clone, Debug)]
pub(super) enum In {
    Bytes(Vec<u8>),
    /// Nothing for now; what follows arrives with the next event.
    Pause,
    /// Orderly, and for good.
    End,
    /// Reported once; after that the end.
    Fail(Errno),
    /// A signal came instead of bytes.
    Interrupt,
}

/// How much a socket's peer takes, in order; without any more of these, everything.
#[derive(Clone, Debug)]
pub(super) enum Out {
    Room(usize),
    /// Nothing for now.
    Block,
    /// Nothing, for ever.
    Full,
    /// Reported once; after that a broken pipe.
    Fail(Errno),
    Interrupt,
}

/// A socket whose peer follows a script, behind an edge-triggered reactor.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    pub(super) incoming: VecDeque<In>,
    outgoing: VecDeque<Out>,
    pub(super) written: Vec<u8>,
    pub(super) is_finished: bool,
    is_broken: bool,
    /// What the session knows: an event has come, and no read or write has found out otherwise since.
    is_readable: bool,
    is_blocked: bool,
    has_end: bool,
    /// A failure has arrived, which a read finds behind the bytes.
    has_exception: bool,
    failure: Option<Errno>,
    /// What was written last waits for the end.
    is_corked: bool,
    /// The peer will tell when it has room: only a write that did not fit makes it do so.
    owes_write_event: bool,
    /// What it carries is not what its socket has.
    is_wrapped: bool,
    pub(super) recvs: usize,
    pub(super) splices: usize,
}

impl Scripted {
    pub(super) fn new(incoming: impl IntoIterator<Item = In>) -> Self {
        Self { incoming: incoming.into_iter().collect(), ..Self::default() }.with_first_event()
    }

    pub(super) fn taking(mut self, outgoing: impl IntoIterator<Item = Out>) -> Self {
        self.outgoing = outgoing.into_iter().collect();
        self
    }

    pub(super) fn wrapped(mut self) -> Self {
        self.is_wrapped = true;
        self
    }

    /// Watching a socket tells at once what is there already.
    fn with_first_event(mut self) -> Self {
        self.tell();
        self
    }

    /// An event comes: it says what is so now.
    fn tell(&mut self) {
        self.is_readable |= self.has_something();
        let arrived: Vec<_> = self.incoming.iter().take_while(|step| !matches!(step, In::Pause)).collect();
        let failure = arrived.iter().find_map(|step| if let In::Fail(error) = step { Some(*error) } else { None });
        self.failure = failure.or(self.failure);
        self.has_exception |= failure.is_some();
        self.has_end |= matches!(arrived.last(), Some(In::End)) && !self.has_exception;
    }

    fn has_something(&self) -> bool {
        !matches!(self.incoming.front(), None | Some(In::Pause))
    }

    /// The next thing happens at the peer. True when that is an event.
    fn happens(&mut self) -> bool {
        let mut has_event = false;
        if matches!(self.incoming.front(), Some(In::End)) && self.incoming.len() > 1 {
            // The session has seen it; what follows is a failure.
            self.incoming.pop_front();
        }
        if matches!(self.incoming.front(), Some(In::Pause)) && self.incoming.len() > 1 {
            self.incoming.pop_front();
            self.tell();
            has_event = true;
        }
        if std::mem::take(&mut self.owes_write_event) {
            if matches!(self.outgoing.front(), Some(Out::Block)) {
                self.outgoing.pop_front();
            }
            self.is_blocked = false;
            has_event = true;
        }
        has_event
    }

    /// How many of `wanted` bytes the peer takes now.
    fn take_room(&mut self, wanted: usize) -> io::Result<usize> {
        if self.is_broken {
            return Err(Errno::PIPE.into());
        }
        match self.outgoing.pop_front() {
            None => Ok(wanted),
            Some(Out::Room(room)) => {
                if room > wanted {
                    self.outgoing.push_front(Out::Room(room - wanted));
                }
                self.owes_write_event |= room < wanted;
                Ok(room.min(wanted))
            }
            Some(Out::Block) => {
                self.outgoing.push_front(Out::Block);
                self.owes_write_event = true;
                Err(Errno::AGAIN.into())
            }
            Some(Out::Full) => {
                self.outgoing.push_front(Out::Full);
                Err(Errno::AGAIN.into())
            }
            Some(Out::Interrupt) => Err(Errno::INTR.into()),
            Some(Out::Fail(error)) => {
                self.is_broken = true;
                Err(error.into())
            }
        }
    }

    /// At most `max` of the bytes that have arrived.
    fn take_arrived(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut taken = Vec::new();
        while taken.len() < max {
            match self.incoming.front_mut() {
                Some(In::Bytes(bytes)) => {
                    let rest = bytes.split_off(bytes.len().min(max - taken.len()));
                    taken.append(bytes);
                    *bytes = rest;
                    if bytes.is_empty() {
                        self.incoming.pop_front();
                    }
                }
                // A signal matters only to a read that has nothing yet.
                Some(In::Interrupt) if !taken.is_empty() => drop(self.incoming.pop_front()),
                _ => break,
            }
        }
        if !taken.is_empty() {
            return Ok(taken);
        }
        match self.incoming.front() {
            None | Some(In::Pause) => Err(Errno::AGAIN.into()),
            Some(In::End) => Ok(taken),
            Some(In::Interrupt) => {
                self.incoming.pop_front();
                Err(Errno::INTR.into())
            }
            Some(In::Fail(error)) => {
                let error = *error;
                self.incoming = [In::End].into();
                Err(error.into())
            }
            Some(In::Bytes(_)) => unreachable!("taken above"),
        }
    }
}

impl Socket for Scripted {
    fn can_splice(&self) -> bool {
        !self.is_wrapped
    }

    fn is_readable(&self) -> bool {
        self.is_readable
    }

    fn is_writable(&self) -> bool {
        !self.is_blocked
    }

    fn has_exception(&self) -> bool {
        self.has_exception
    }

    fn has_end(&self) -> bool {
        self.has_end
    }

    fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn take_error(&mut self) -> io::Error {
        if matches!(self.incoming.front(), Some(In::Fail(_))) {
            // A read finds the end.
            self.incoming = [In::End].into();
        }
        self.failure.take().map_or(io::ErrorKind::ConnectionReset.into(), io::Error::from)
    }

    fn has_unread(&self) -> bool {
        matches!(self.incoming.front(), Some(In::Bytes(_)))
    }

    fn read_blocked(&mut self) {
        self.is_readable = false;
    }

    fn write_blocked(&mut self) {
        self.is_blocked = true;
    }

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.recvs += 1;
        let bytes = self.take_arrived(buffer.len())?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn send(&mut self, bytes: &[u8], last: bool) -> io::Result<usize> {
        let taken = self.take_room(bytes.len())?;
        // What did not fit is sent later, and takes with it what waited.
        self.is_corked = last && taken == bytes.len();
        self.written.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn splice_in(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        self.splices += 1;
        assert_eq!(rustix::io::ioctl_fionread(pipe)?, 0, "a full pipe would look like an empty socket");
        let bytes = self.take_arrived(max)?;
        let moved = if bytes.is_empty() { 0 } else { rustix::io::write(pipe, &bytes)? };
        if moved < bytes.len() {
            self.incoming.push_front(In::Bytes(bytes[moved..].to_vec()));
        }
        Ok(moved)
    }

    fn splice_out(&mut self, pipe: &OwnedFd, max: usize) -> io::Result<usize> {
        let taken = self.take_room(max)?;
        let mut bytes = vec![0; taken];
        let moved = rustix::io::read(pipe, &mut bytes)?;
        assert_eq!(moved, taken, "the relay knows what is in its pipe");
        self.written.extend_from_slice(&bytes);
        Ok(moved)
    }

    fn finish(&mut self) {
        self.is_finished = true;
        self.is_corked = false;
    }
}

/// A session between two scripts.
pub(super) struct Bench {
    pub(super) relay: Relay,
    pub(super) client: Scripted,
    pub(super) server: Scripted,
    pub(super) workspace: Workspace,
    pub(super) service: Arc<ProxySessionService>,
    pub(super) group: Arc<Group>,
}

impl Bench {
    pub(super) fn new(client: Scripted, server: Scripted) -> Self {
        let settings = GroupSettings::for_tests("round_robin");
        Self {
            relay: Relay::default(),
            client,
            server,
            workspace: Workspace::new().unwrap(),
            service: Arc::new(ProxySessionService::new(1, 10)),
            group: Arc::new(Group::for_tests(settings, Vec::new())),
        }
    }

    pub(super) fn run(client: Scripted, server: Scripted) -> (Self, RelayEnd) {
        let mut bench = Self::new(client, server);
        let end = bench.finish();
        (bench, end)
    }

    /// Lets one thing after the other happen until the session is over.
    pub(super) fn finish(&mut self) -> RelayEnd {
        let guard = self.service.register(0, ([127, 0, 0, 2], 2).into(), &self.group, clock::coarse_ms());
        loop {
            let (client, server) = (&mut self.client, &mut self.server);
            match self.relay.advance(client, server, &mut self.workspace, guard.record()) {
                Ok(Pause::ForOthers) => {}
                Ok(Pause::UntilEvent) => {
                    assert!(!self.client.is_corked && !self.server.is_corked, "nothing waits for an event to be sent");
                    if self.client.happens() | self.server.happens() {
                        continue;
                    }
                    self.workspace.now_ms = self.due_ms(guard.record());
                    let overdue = self.relay.overdue(&mut self.server, guard.record(), self.workspace.now_ms);
                    let end = overdue.expect("it is due");
                    self.relay.release(&mut self.workspace);
                    return end;
                }
                Err(end) => {
                    let counted = self.service.list(None, 1).sessions.remove(0);
                    assert_eq!(counted.bytes_up, self.server.written.len() as u64);
                    assert_eq!(counted.bytes_down, self.client.written.len() as u64);
                    for (side, socket) in [(Side::Client, &self.client), (Side::Server, &self.server)] {
                        assert!(end.reset != Some(side) || !socket.is_corked, "a reset would drop it");
                    }
                    self.relay.release(&mut self.workspace);
                    return end;
                }
            }
        }
    }

    /// When something is to be done about a session to which nothing happens any more.
    fn due_ms(&self, record: &SessionRecord) -> u64 {
        let due_ms = self.relay.due_ms(record);
        if due_ms == NEVER {
            let state = format!("{:?} {:?} {:?}", self.relay, self.client, self.server);
            panic!("it hangs: {}", state.chars().take(2_000).collect::<String>());
        }
        due_ms
    }
}

/// Bytes that are not the same twice.
pub(super) fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
    bytes
}

pub(super) fn some(length: usize) -> In {
    In::Bytes(bytes(length))
}

pub(super) fn reason_of(end: &RelayEnd) -> (EndReason, Option<Side>) {
    (end.reason, end.reset)
}

/// Everything a script says, in one piece.
pub(super) fn whole(script: &[In]) -> Vec<u8> {
    let of = |step: &In| if let In::Bytes(bytes) = step { bytes.clone() } else { Vec::new() };
    script.iter().flat_map(of).collect()
}
