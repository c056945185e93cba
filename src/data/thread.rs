//! One data thread: the sessions and listeners that live on it, and the loop that serves them.
//!
//! It waits for events, lets those sessions advance that have some, and accepts clients; what management
//! wants of it comes as commands with a ring of its bell. It shares nothing with other threads but the session
//! records, and has no timers: management says when to look after silent sessions. A session that panics ends
//! alone.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use slab::Slab;
use tokio::sync::oneshot;

use crate::base::clock;
use crate::counters::EndReason;
use crate::data::listener::{Accepted, Listener};
use crate::data::poll::{Bell, Events, Ready, SessionKey, Source, Token};
use crate::data::session::{Need, Pause, ProxySessionService, SessionGuard, Side, TcpProxySession, Workspace};
use crate::group::Group;
use crate::net::BACKLOG;

/// The most clients of a listener that are accepted before the sessions of this thread get a turn.
const ACCEPTS_MAX: usize = 64;

/// So many times in a row as many clients must have waited as were accepted until more are accepted at once.
const FULL_TIMES: u8 = 8;

/// What management asks of a data thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept clients.
    Open { number: u64, socket: OwnedFd, group: Arc<Group> },
    /// Accept those whom the kernel has queued, then close the socket and say so.
    Close { number: u64, done: oneshot::Sender<()> },
    /// Look after silent sessions.
    Scan,
}

/// A listener of this thread.
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

/// One of the data threads.
#[derive(Debug)]
pub(crate) struct DataThread {
    /// Which one: the shard of the service.
    index: usize,
    service: Arc<ProxySessionService>,
    commands: Receiver<Command>,
    workspace: Workspace,
    listeners: Slab<Accepting>,
    /// Listeners that are not watched until descriptors are free again.
    paused: Vec<usize>,
    /// By their place. Empty where none is, and while the one there advances.
    sessions: Vec<Option<Box<TcpProxySession>>>,
    /// Sessions that go on without an event, when all others have had their turn.
    again: Vec<SessionKey>,
}

impl DataThread {
    /// Number `index`, which does what `commands` say until their sender is dropped.
    ///
    /// # Errors
    ///
    /// No descriptor is left for its reactor.
    pub(crate) fn new(
        index: usize,
        service: &Arc<ProxySessionService>,
        commands: Receiver<Command>,
    ) -> io::Result<Self> {
        let workspace = Workspace::new()?;
        service.attach(index, workspace.reactor.bell());
        Ok(Self {
            index,
            service: Arc::clone(service),
            commands,
            workspace,
            listeners: Slab::new(),
            paused: Vec::new(),
            sessions: Vec::new(),
            again: Vec::new(),
        })
    }

    /// What wakes it for a command.
    pub(crate) fn bell(&self) -> Bell {
        self.workspace.reactor.bell()
    }

    /// Serves until there is nobody left to command it.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::new();
        while self.turn(&mut events)? {}
        Ok(())
    }

    /// One wait, and what it brought. False when there is nobody left to command it.
    fn turn(&mut self, events: &mut Events) -> io::Result<bool> {
        self.workspace.reactor.wait(events, self.again.is_empty())?;
        let again = std::mem::take(&mut self.again);
        for (token, ready) in events.iter() {
            match token.source() {
                Source::Client(key) => self.told(key, Side::Client, ready),
                Source::Server(key) => self.told(key, Side::Server, ready),
                Source::Listener(key) => self.accept(key as usize),
                Source::Bell => {
                    if !self.obey() {
                        return Ok(false);
                    }
                }
            }
        }
        for key in again {
            self.with_session(key, TcpProxySession::advance);
        }
        Ok(true)
    }

    fn told(&mut self, key: SessionKey, side: Side, ready: Ready) {
        self.with_session(key, |mut session, workspace| {
            session.told(side, ready);
            match session.waits_for_turn() {
                // It goes on with it, and only once.
                true => Some((session, Pause::UntilEvent)),
                false => session.advance(workspace),
            }
        });
    }

    /// Lets a session do something, if it is still there, and keeps it if it goes on.
    fn with_session(
        &mut self,
        key: SessionKey,
        act: impl FnOnce(Box<TcpProxySession>, &mut Workspace) -> Option<(Box<TcpProxySession>, Pause)>,
    ) {
        let Some(place) = self.sessions.get_mut(key.place()) else { return };
        let Some(session) = place.take_if(|session| session.key() == key) else { return };
        let workspace = &mut self.workspace;
        // A panic was reported by the hook, and the session has ended with it.
        match catch_unwind(AssertUnwindSafe(|| act(session, workspace))).unwrap_or_default() {
            Some((session, pause)) => {
                *place = Some(session);
                if pause == Pause::ForOthers {
                    self.again.push(key);
                }
            }
            None => self.resume(),
        }
    }

    /// Accepts some of those who wait; those who are left come with the next event.
    fn accept(&mut self, key: usize) {
        // It may have been closed since.
        let Some(accepting) = self.listeners.get(key) else { return };
        let at_once = accepting.at_once;
        let were_as_many = self.accept_some(key, at_once);
        let accepting = &mut self.listeners[key];
        if !were_as_many {
            (accepting.at_once, accepting.full_times) = (1, 0);
        } else if accepting.full_times + 1 < FULL_TIMES {
            accepting.full_times += 1;
        } else {
            (accepting.at_once, accepting.full_times) = ((2 * at_once).min(ACCEPTS_MAX), 0);
        }
    }

    /// Accepts so many of those who wait. False when there were not as many, or no means for more.
    fn accept_some(&mut self, key: usize, count: usize) -> bool {
        for _ in 0..count {
            let listener = &self.listeners[key].listener;
            match listener.accept() {
                Accepted::Client(client, addr) => {
                    let guard = self.service.register(self.index, addr, &listener.group);
                    self.start(client, guard);
                }
                Accepted::Nobody => return false,
                // It would be told of those who wait at once, and without end. A session that ends gives descriptors
                // back; the scan tries as well, in case somebody else did.
                Accepted::Exhausted => {
                    self.workspace.reactor.forget(&listener.socket);
                    self.paused.push(key);
                    return false;
                }
            }
        }
        true
    }

    fn start(&mut self, client: OwnedFd, guard: SessionGuard) {
        let key = guard.key();
        let workspace = &mut self.workspace;
        let start = AssertUnwindSafe(|| TcpProxySession::start(client, guard, workspace));
        let Some((session, pause)) = catch_unwind(start).unwrap_or_default() else { return };
        if self.sessions.len() <= key.place() {
            self.sessions.resize_with(key.place() + 1, || None);
        }
        self.sessions[key.place()] = Some(session);
        if pause == Pause::ForOthers {
            self.again.push(key);
        }
    }

    /// Lets the listeners go on that had no descriptors left.
    fn resume(&mut self) {
        for key in std::mem::take(&mut self.paused) {
            self.watch_listener(key);
        }
    }

    fn watch_listener(&mut self, key: usize) {
        let listener = &self.listeners[key].listener;
        if let Err(error) = self.workspace.reactor.watch_listener(&listener.socket, Token::listener(key as u64)) {
            tracing::error!(group = listener.group.port(), %error, "cannot watch the listener; trying again");
            self.paused.push(key);
        }
    }

    /// Does what others want. False when nobody is left to want anything.
    fn obey(&mut self) -> bool {
        for ending in self.service.take_ends(self.index) {
            self.end(ending.key, ending.reason);
        }
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open { number, socket, group }) => {
                    let listener = Listener { socket, group };
                    let key = self.listeners.insert(Accepting { number, listener, at_once: 1, full_times: 0 });
                    self.watch_listener(key);
                }
                Ok(Command::Close { number, done }) => {
                    self.close(number);
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Ok(Command::Scan) => self.scan(),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// Closes a listener, after accepting whom the kernel has queued.
    fn close(&mut self, number: u64) {
        let found = self.listeners.iter().find(|(_, accepting)| accepting.number == number);
        let Some((key, _)) = found else { return };
        // No more than can have been queued: under a flood of clients there would be no end of it.
        self.accept_some(key, BACKLOG as usize + 1);
        self.paused.retain(|paused| *paused != key);
        self.listeners.remove(key);
    }

    /// Ends the sessions that have been silent for too long, lets those go on whose connect has taken too long, and
    /// brings the groups' byte counts up to date. One pass instead of a timer per session.
    fn scan(&mut self) {
        let now_ms = clock::coarse_ms();
        for place in 0..self.sessions.len() {
            let Some(session) = &self.sessions[place] else { continue };
            let key = session.key();
            match session.scan(now_ms) {
                Need::None => {}
                Need::Advance => self.with_session(key, TcpProxySession::advance),
                Need::End(reason) => self.end(key, reason),
            }
        }
        self.resume();
    }

    fn end(&mut self, key: SessionKey, reason: EndReason) {
        self.with_session(key, |session, workspace| {
            session.end(reason, workspace);
            None
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::group::{Group, GroupSettings};
    use crate::server::{Origin, ServerSettings};

    const BUSY_TURNS: usize = 20;

    /// Both its sockets nearly always have more than it may move at once, and events come besides.
    #[test]
    fn a_busy_session_waits_for_one_turn_however_many_events_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let servers = vec![ServerSettings::new(addr.to_string().parse().unwrap(), Origin::File)];
        let group = Arc::new(Group::for_tests(GroupSettings::for_tests("round_robin"), servers));
        let service = Arc::new(ProxySessionService::new(1, 10));
        let (_commands, receiver) = mpsc::channel();
        let mut data_thread = DataThread::new(0, &service, receiver).unwrap();

        let clients = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(clients.local_addr().unwrap()).unwrap();
        let (ours, from) = clients.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        data_thread.start(ours.into(), service.register(0, from, &group));
        let (server, _) = listener.accept().unwrap();
        thread::scope(|scope| {
            for stream in [&client, &server] {
                // Until the session is gone.
                scope.spawn(move || while (&mut &*stream).write_all(&[0; 1 << 18]).is_ok() {});
                scope.spawn(move || while (&mut &*stream).read(&mut [0; 1 << 18]).is_ok_and(|read| read > 0) {});
            }
            let (mut events, mut busy_turns) = (Events::new(), 0);
            while busy_turns < BUSY_TURNS {
                assert!(data_thread.turn(&mut events).unwrap());
                assert!(data_thread.again.len() <= 1, "{} turns for one session", data_thread.again.len());
                busy_turns += data_thread.again.len();
            }
            drop(data_thread);
        });
        assert_eq!(service.active(), 0);
    }
}
