//! The listeners of one data thread: how many clients it accepts at once, and what it does without descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use slab::Slab;
use tokio::sync::oneshot;

use crate::data::deadlines::NEVER;
use crate::data::listener::{Accepted, Listener};
use crate::data::poll::{Reactor, Token};
use crate::data::sessions::Sessions;
use crate::events::{self, Event, GroupChange};
use crate::group::{Group, Liveness};
use crate::net::{BACKLOG, set_liveness};

/// The most clients of a listener that are accepted before the sessions of this thread are served.
pub(super) const ACCEPTS_MAX: usize = 64;

/// The same where each begins with a handshake, which may take a millisecond.
const TLS_ACCEPTS_MAX: usize = 4;

/// So many times in a row as many clients must have waited as were accepted until more are accepted at once.
const FULL_TIMES: u8 = 8;

/// How long a listener without descriptors waits, if no session of its thread ends before.
const RETRY_MS: u64 = 1_000;

/// The listeners of one data thread.
#[derive(Debug)]
pub(super) struct Listeners {
    all: Slab<Accepting>,
    /// Those that are not watched until descriptors are free again.
    paused: Vec<usize>,
    /// When to watch them again at the latest.
    retry_at_ms: u64,
    closing: Vec<Closing>,
    /// None is watched: see [`Listeners::rest`].
    is_resting: bool,
}

/// One that accepts clients.
#[derive(Debug)]
struct Accepting {
    number: u64,
    listener: Listener,
    /// Clients that are accepted at the next event. One is waiting for sure; asking for another one would mostly be in
    /// vain, so the number grows only where many come.
    at_once: usize,
    /// How many times in a row there were as many.
    full_times: u8,
}

/// One that closes when nobody is queued on it any more.
#[derive(Debug)]
struct Closing {
    key: usize,
    /// How many clients are accepted at most: as many as can have been queued. Under a flood there would be no end.
    clients_left: usize,
    /// Dropped with the last of those that close together.
    _done: Arc<oneshot::Sender<()>>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { all: Slab::new(), paused: Vec::new(), retry_at_ms: NEVER, closing: Vec::new(), is_resting: false }
    }
}

impl Listeners {
    /// Accepts clients of `group` from now on.
    pub(super) fn open(&mut self, number: u64, socket: OwnedFd, group: Arc<Group>, sessions: &Sessions) {
        let listener = Listener { socket, group };
        let key = self.all.insert(Accepting { number, listener, at_once: 1, full_times: 0 });
        self.watch(key, sessions);
    }

    /// Those who are accepted from now on are gone when `liveness` says so.
    pub(super) fn set_liveness(&self, number: u64, liveness: &Liveness) {
        let own = self.all.iter().filter(|(_, accepting)| accepting.number == number);
        own.for_each(|(_, accepting)| set_liveness(&accepting.listener.socket, liveness));
    }

    /// Accepts some of those who wait; those who are left come with the next event.
    pub(super) fn accept(&mut self, key: usize, sessions: &mut Sessions) {
        // It may have been closed since.
        let Some(accepting) = self.all.get(key) else { return };
        let at_once = accepting.at_once;
        let were_as_many = self.accept_some(key, at_once, sessions);
        let accepting = &mut self.all[key];
        if !were_as_many {
            (accepting.at_once, accepting.full_times) = (1, 0);
        } else if accepting.full_times + 1 < FULL_TIMES {
            accepting.full_times += 1;
        } else {
            let max = match accepting.listener.group.snapshot().settings.tls {
                None => ACCEPTS_MAX,
                Some(_) => TLS_ACCEPTS_MAX,
            };
            (accepting.at_once, accepting.full_times) = ((2 * at_once).min(max), 0);
        }
    }

    /// Accepts so many of those who wait. False when there were not as many, or no descriptors for more.
    fn accept_some(&mut self, key: usize, count: usize, sessions: &mut Sessions) -> bool {
        let listener = &self.all[key].listener;
        for _ in 0..count {
            match listener.accept() {
                Accepted::Client(client, addr) => sessions.start(client, addr, &listener.group),
                Accepted::Nobody => return false,
                // It would be told of those who wait at once, and without end. A session that ends gives descriptors
                // back; in case somebody else does, it is tried now and then as well.
                Accepted::Exhausted => {
                    sessions.workspace.reactor.forget(&listener.socket);
                    self.pause(key, sessions.workspace.now_ms);
                    return false;
                }
            }
        }
        true
    }

    fn pause(&mut self, key: usize, now_ms: u64) {
        self.paused.push(key);
        self.retry_at_ms = now_ms + RETRY_MS;
    }

    fn watch(&mut self, key: usize, sessions: &Sessions) {
        if self.is_resting {
            return;
        }
        let listener = &self.all[key].listener;
        let token = Token::listener(key as u64);
        if let Err(error) = sessions.workspace.reactor.watch_listener(&listener.socket, token) {
            let change = GroupChange::Unwatched { error: error.to_string().into() };
            events::publish_soon(Event::Group { group: listener.group.label().clone(), change });
            self.pause(key, sessions.workspace.now_ms);
        }
    }

    /// When to [resume](Self::resume) without a session that has ended; [`NEVER`] when none is paused.
    pub(super) fn retry_at_ms(&self) -> u64 {
        self.retry_at_ms
    }

    /// Lets those go on that had no descriptors left.
    pub(super) fn resume(&mut self, sessions: &Sessions) {
        self.retry_at_ms = NEVER;
        for key in std::mem::take(&mut self.paused) {
            self.watch(key, sessions);
        }
    }

    /// Accepts nobody from now on, but for events that were fetched before, and keeps all sockets: whoever connects waits in
    /// their queues. [`Listeners::resume_all`] takes that back.
    pub(super) fn rest(&mut self, reactor: &Reactor) {
        self.is_resting = true;
        self.paused.clear();
        self.retry_at_ms = NEVER;
        self.all.iter().for_each(|(_, accepting)| reactor.forget(&accepting.listener.socket));
    }

    /// Accepts again.
    pub(super) fn resume_all(&mut self, sessions: &Sessions) {
        if !std::mem::take(&mut self.is_resting) {
            return;
        }
        let closing: Vec<usize> = self.closing.iter().map(|closing| closing.key).collect();
        let keys: Vec<usize> = self.all.iter().map(|(key, _)| key).filter(|key| !closing.contains(key)).collect();
        keys.into_iter().for_each(|key| self.watch(key, sessions));
    }

    /// Duplicates of all sockets, with the numbers of their listeners.
    pub(super) fn share(&self) -> io::Result<Vec<(u64, OwnedFd)>> {
        self.all.iter().map(|(_, one)| Ok((one.number, one.listener.socket.try_clone()?))).collect()
    }

    /// Closes sockets that another process has as well: those who are queued are its clients.
    ///
    /// Such a socket must be forgotten first. The system would forget it only when the last process has closed it, and tell
    /// of each new client until then.
    pub(super) fn leave(&mut self, number: u64, reactor: &Reactor) {
        for key in self.keys_of(number) {
            reactor.forget(&self.all[key].listener.socket);
            self.paused.retain(|paused| *paused != key);
            self.all.remove(key);
        }
    }

    /// From now on accepts only those whom the kernel has queued. `done` is dropped when that is over.
    pub(super) fn begin_to_close(&mut self, number: u64, done: oneshot::Sender<()>, reactor: &Reactor) {
        // One that is not there is closed: dropping `done` says so.
        let done = Arc::new(done);
        for key in self.keys_of(number) {
            reactor.forget(&self.all[key].listener.socket);
            self.paused.retain(|paused| *paused != key);
            self.closing.push(Closing { key, clients_left: BACKLOG as usize + 1, _done: Arc::clone(&done) });
        }
    }

    /// The sockets of a listener: mostly one, more where a process with more threads has handed its sockets on.
    fn keys_of(&self, number: u64) -> Vec<usize> {
        self.all.iter().filter(|(_, accepting)| accepting.number == number).map(|(key, _)| key).collect()
    }

    /// True while some close.
    pub(super) fn are_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// Accepts some of those who are queued on listeners that shall close, and closes those with an empty queue.
    pub(super) fn go_on_closing(&mut self, sessions: &mut Sessions) {
        for mut closing in std::mem::take(&mut self.closing) {
            let count = closing.clients_left.min(ACCEPTS_MAX);
            closing.clients_left -= count;
            if self.accept_some(closing.key, count, sessions) && closing.clients_left > 0 {
                self.closing.push(closing);
            } else {
                self.paused.retain(|paused| *paused != closing.key);
                self.all.remove(closing.key);
            }
        }
    }
}
