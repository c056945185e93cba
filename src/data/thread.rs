//! One data thread: the sessions and listeners that live on it, and the loop that serves them.
//!
//! It waits for events, lets those sessions advance that have some, and accepts clients; what management
//! wants of it comes as commands, after which its waker is called. It shares nothing with other threads but the session
//! records. It has no timers: its wait ends when the first deadline of a session is reached, and once a second it
//! scans all sessions for those that have been silent for too long. Without sessions it sleeps until an event comes.
//! A session that panics ends alone.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use slab::Slab;
use tokio::sync::oneshot;

use crate::base::clock;
use crate::counters::EndReason;
use crate::data::deadlines::{Deadlines, NEVER};
use crate::data::listener::{Accepted, Listener};
use crate::data::poll::{Events, Ready, SessionKey, Source, Token, Waker};
use crate::data::session::{Pause, ProxySessionService, SessionGuard, Side, TcpProxySession, Workspace};
use crate::events::{self, Event, GroupChange};
use crate::group::Group;
use crate::net::BACKLOG;

/// The most clients of a listener that are accepted before the sessions of this thread are served.
const ACCEPTS_MAX: usize = 64;

/// So many times in a row as many clients must have waited as were accepted until more are accepted at once.
const FULL_TIMES: u8 = 8;

/// Between two scans of all sessions.
const SCAN_INTERVAL_MS: u64 = 1_000;

/// The coarse clock is behind by so much at most: a wait that is longer by this never ends before its deadline.
const CLOCK_LAG_MS: u64 = 4;

/// What management asks of a data thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept clients.
    Open { number: u64, socket: OwnedFd, group: Arc<Group> },
    /// Accept those whom the kernel has queued, then close the socket and say so.
    Close { number: u64, done: oneshot::Sender<()> },
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

/// A listener that closes when nobody is queued on it any more.
#[derive(Debug)]
struct Closing {
    key: usize,
    /// How many clients are accepted at most: as many as can have been queued. Under a flood there would be no end.
    clients_left: usize,
    done: oneshot::Sender<()>,
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
    closing: Vec<Closing>,
    /// By their place. Empty where none is, and while the one there advances.
    sessions: Vec<Option<Box<TcpProxySession>>>,
    /// How many they are.
    sessions_held: usize,
    deadlines: Deadlines,
    /// When to scan all sessions next; [`NEVER`] while there is nothing to scan for.
    scan_at_ms: u64,
    /// For when the timer is set; never, once it has run out.
    timer_at_ms: u64,
    /// Sessions looked at without an event.
    #[cfg(test)]
    looks: usize,
    /// Sessions that go on without an event, when all others have been served.
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
        service.attach(index, workspace.reactor.waker());
        Ok(Self {
            index,
            service: Arc::clone(service),
            commands,
            workspace,
            listeners: Slab::new(),
            paused: Vec::new(),
            closing: Vec::new(),
            sessions: Vec::new(),
            sessions_held: 0,
            deadlines: Deadlines::default(),
            scan_at_ms: NEVER,
            timer_at_ms: NEVER,
            #[cfg(test)]
            looks: 0,
            again: Vec::new(),
        })
    }

    /// Wakes it for a command.
    pub(crate) fn waker(&self) -> Waker {
        self.workspace.reactor.waker()
    }

    /// Serves until there is nobody left to command it.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::new();
        while self.run_once(&mut events)? {}
        Ok(())
    }

    /// One wait, and what it brought. False when there is nobody left to command it.
    fn run_once(&mut self, events: &mut Events) -> io::Result<bool> {
        self.wait(events)?;
        self.workspace.now_ms = clock::coarse_ms();
        let again = std::mem::take(&mut self.again);
        for (token, ready) in events.iter() {
            match token.source() {
                Source::Client(key) => self.on_ready(key, Side::Client, ready),
                Source::Server(key) => self.on_ready(key, Side::Server, ready),
                Source::Listener(key) => self.accept(key as usize),
                Source::Timer => self.timer_at_ms = NEVER,
                Source::Waker => {
                    if !self.run_commands() {
                        return Ok(false);
                    }
                }
            }
        }
        for key in again {
            self.with_session(key, TcpProxySession::advance);
        }
        if !self.closing.is_empty() {
            self.go_on_closing();
        }
        if self.next_look_ms() <= self.workspace.now_ms {
            self.look_at_sessions();
        }
        Ok(true)
    }

    /// Waits for events, or until sessions are to be looked at. The timer is set anew only where that is sooner than it
    /// was set for: mostly once a second, with the scan.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let wait_max_ms = self.wait_max_ms();
        if wait_max_ms == Some(0) {
            return self.workspace.reactor.wait(events, wait_max_ms);
        }
        let at_ms = self.next_look_ms();
        if let Some(in_ms) = wait_max_ms.filter(|_| at_ms < self.timer_at_ms) {
            self.workspace.reactor.set_timer(in_ms)?;
            self.timer_at_ms = at_ms;
        }
        self.workspace.reactor.wait(events, None)
    }

    /// How long the next wait may take, for ever without an answer.
    fn wait_max_ms(&self) -> Option<u32> {
        if !self.again.is_empty() || !self.closing.is_empty() {
            return Some(0);
        }
        let at_ms = self.next_look_ms();
        let in_ms = || (at_ms.saturating_sub(self.workspace.now_ms) + CLOCK_LAG_MS).try_into().unwrap_or(u32::MAX);
        (at_ms != NEVER).then(in_ms)
    }

    fn next_look_ms(&self) -> u64 {
        self.scan_at_ms.min(self.deadlines.first_ms())
    }

    fn on_ready(&mut self, key: SessionKey, side: Side, ready: Ready) {
        self.with_session(key, |mut session, workspace| {
            session.on_ready(side, ready);
            match session.has_yielded() {
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
        let due_ms = session.due_ms();
        // A panic was reported by the hook, and the session has ended with it.
        match catch_unwind(AssertUnwindSafe(|| act(session, workspace))).unwrap_or_default() {
            Some((session, pause)) => {
                if session.due_ms() != due_ms {
                    self.deadlines.push_unless_never(session.due_ms(), key);
                }
                *place = Some(session);
                self.pauses(key, pause);
            }
            None => {
                self.sessions_held -= 1;
                self.resume();
            }
        }
    }

    fn pauses(&mut self, key: SessionKey, pause: Pause) {
        if pause == Pause::ForOthers {
            self.again.push(key);
            // It has moved a lot, which may have taken long.
            self.workspace.now_ms = clock::coarse_ms();
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

    /// Accepts so many of those who wait. False when there were not as many, or no descriptors for more.
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
                    self.pause_listener(key);
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
        self.keep(key, session, pause);
    }

    fn keep(&mut self, key: SessionKey, session: Box<TcpProxySession>, pause: Pause) {
        if self.sessions.len() <= key.place() {
            self.sessions.resize_with(key.place() + 1, || None);
        }
        self.deadlines.push_unless_never(session.due_ms(), key);
        self.sessions[key.place()] = Some(session);
        self.sessions_held += 1;
        self.scan_from_now_on();
        self.pauses(key, pause);
    }

    fn scan_from_now_on(&mut self) {
        if self.scan_at_ms == NEVER {
            self.scan_at_ms = self.workspace.now_ms + SCAN_INTERVAL_MS;
        }
    }

    fn pause_listener(&mut self, key: usize) {
        self.paused.push(key);
        self.scan_from_now_on();
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
            let change = GroupChange::Unwatched { error: error.to_string().into() };
            events::publish_soon(Event::Group { group: listener.group.label().clone(), change });
            self.pause_listener(key);
        }
    }

    /// Does what others have asked for. False when nobody is left to ask for anything.
    fn run_commands(&mut self) -> bool {
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
                Ok(Command::Close { number, done }) => self.begin_to_close(number, done),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// From now on accepts only those whom the kernel has queued.
    fn begin_to_close(&mut self, number: u64, done: oneshot::Sender<()>) {
        // One that is not there is closed: dropping `done` says so.
        let found = self.listeners.iter().find(|(_, accepting)| accepting.number == number);
        let Some((key, accepting)) = found else { return };
        self.workspace.reactor.forget(&accepting.listener.socket);
        self.paused.retain(|paused| *paused != key);
        self.closing.push(Closing { key, clients_left: BACKLOG as usize + 1, done });
    }

    /// Accepts some of those who are queued on listeners that shall close, and closes those with an empty queue.
    fn go_on_closing(&mut self) {
        for mut closing in std::mem::take(&mut self.closing) {
            let count = closing.clients_left.min(ACCEPTS_MAX);
            closing.clients_left -= count;
            if self.accept_some(closing.key, count) && closing.clients_left > 0 {
                self.closing.push(closing);
            } else {
                self.paused.retain(|paused| *paused != closing.key);
                self.listeners.remove(closing.key);
                // Whoever asked may have gone.
                let _ = closing.done.send(());
            }
        }
    }

    /// Looks at the sessions whose deadline has been reached, and once a second at all of them.
    fn look_at_sessions(&mut self) {
        while let Some((at_ms, key)) = self.deadlines.take_reached(self.workspace.now_ms) {
            if is_due(&self.sessions, at_ms, key) {
                self.look_at(key);
            }
        }
        if self.deadlines.are_mostly_stale(self.sessions_held) {
            self.deadlines.retain(|at_ms, key| is_due(&self.sessions, at_ms, key));
        }
        if self.scan_at_ms <= self.workspace.now_ms {
            self.scan();
        }
    }

    /// Ends the sessions that have been silent for too long, and brings the groups' byte counts up to date. One pass
    /// instead of a timer per session.
    fn scan(&mut self) {
        for place in 0..self.sessions.len() {
            if let Some(session) = &self.sessions[place] {
                self.look_at(session.key());
            }
        }
        self.resume();
        let is_needed = self.sessions_held > 0 || !self.paused.is_empty();
        if is_needed {
            self.scan_at_ms = self.workspace.now_ms + SCAN_INTERVAL_MS;
        } else {
            // What is left of them is stale.
            (self.scan_at_ms, self.deadlines) = (NEVER, Deadlines::default());
        }
    }

    fn look_at(&mut self, key: SessionKey) {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        self.with_session(key, TcpProxySession::look);
    }

    fn end(&mut self, key: SessionKey, reason: EndReason) {
        self.with_session(key, |session, workspace| {
            session.end(reason, workspace);
            None
        });
    }
}

/// True when a session is there and has this deadline still.
fn is_due(sessions: &[Option<Box<TcpProxySession>>], at_ms: u64, key: SessionKey) -> bool {
    let session = sessions.get(key.place()).and_then(Option::as_ref);
    session.is_some_and(|session| session.key() == key && session.due_ms() == at_ms)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use rustix::net::{AddressFamily, SocketType};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::group::{Group, GroupSettings};
    use crate::server::{Origin, ServerSettings};

    const BUSY_ROUNDS: usize = 20;

    const IDLE_SESSIONS: usize = 20_000;

    const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

    fn data_thread() -> (DataThread, Arc<ProxySessionService>, mpsc::SyncSender<Command>) {
        let service = Arc::new(ProxySessionService::new(1, u64::MAX));
        let (commands, receiver) = mpsc::sync_channel(4);
        (DataThread::new(0, &service, receiver).unwrap(), service, commands)
    }

    fn group_of(server: SocketAddr, settings: GroupSettings) -> Arc<Group> {
        let servers = vec![ServerSettings::new(server.to_string().parse().unwrap(), Origin::File)];
        Arc::new(Group::for_tests(settings, servers))
    }

    /// Two ends of a connection; ours is non-blocking.
    fn accepted() -> (TcpStream, OwnedFd, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, from) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        (client, ours.into(), from)
    }

    /// An address at which nobody answers, for as long as what comes with it is kept.
    fn blackhole() -> (SocketAddr, Vec<OwnedFd>) {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let addr = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        let mut kept = vec![socket];
        while let Ok(filling) = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT) {
            kept.push(filling.into());
            assert!(kept.len() < 16, "the queue does not fill");
        }
        (addr, kept)
    }

    /// As many sessions as this test wants, or as its share of the process's descriptors allows.
    fn idle_sessions() -> usize {
        let wanted = 4 * IDLE_SESSIONS as u64;
        let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(wanted);
        let raised = |maximum| setrlimit(Resource::Nofile, Rlimit { current: Some(maximum), maximum: Some(maximum) });
        // More than the hard limit is for the superuser.
        let descriptors = if hard < wanted && raised(wanted).is_ok() { wanted } else { hard };
        raised(descriptors).expect("the hard limit is allowed");
        IDLE_SESSIONS.min(descriptors as usize / 4)
    }

    #[test]
    fn short_time_outs_of_a_few_sessions_cost_nothing_for_those_that_idle() {
        let idle_sessions = idle_sessions();
        let (mut data_thread, service, _commands) = data_thread();
        let start_ms = data_thread.workspace.now_ms;
        let idle = group_of(([127, 0, 0, 1], 1).into(), GroupSettings::for_tests("round_robin"));
        for _ in 0..idle_sessions {
            let guard = service.register(0, ([127, 0, 0, 1], 2).into(), &idle);
            let key = guard.key();
            let session = TcpProxySession::idle_for_tests(guard, &data_thread.workspace);
            data_thread.keep(key, session, Pause::UntilEvent);
        }
        let (nowhere, _kept) = blackhole();
        let mut settings = GroupSettings::for_tests("round_robin");
        settings.connect_timeout = CONNECT_TIMEOUT;
        let hasty = group_of(nowhere, settings);
        let mut events = Events::new();
        let (mut connects, mut scans) = (0, 0);
        while scans < 3 {
            let (client, ours, from) = accepted();
            data_thread.start(ours, service.register(0, from, &hasty));
            connects += 1;
            while hasty.counters.ended(EndReason::ConnectFailed) < connects {
                let scan_at_ms = data_thread.scan_at_ms;
                assert!(data_thread.run_once(&mut events).unwrap());
                scans += usize::from(data_thread.scan_at_ms != scan_at_ms);
            }
            drop(client);
        }
        let elapsed_ms = clock::coarse_ms() - start_ms;
        assert!(elapsed_ms >= 3 * SCAN_INTERVAL_MS, "{scans} scans in {elapsed_ms} ms");
        assert!(connects >= 5, "{connects} connects have run out in {elapsed_ms} ms");
        // Each scan sees one that connects as well.
        let looks_max = scans * (idle_sessions + 1) + connects as usize;
        assert!(data_thread.looks <= looks_max, "{} looks, {looks_max} expected", data_thread.looks);
        assert!(data_thread.looks >= scans * idle_sessions);
    }

    #[test]
    fn a_listener_that_closes_accepts_whom_the_kernel_has_queued_a_few_at_a_time() {
        const QUEUED: u64 = 3 * ACCEPTS_MAX as u64 + 5;
        let (mut data_thread, _service, commands) = data_thread();
        let group = Arc::new(Group::for_tests(GroupSettings::for_tests("round_robin"), Vec::new()));
        let (socket, addr) = open_listener();
        let _clients: Vec<_> = (0..QUEUED).map(|_| TcpStream::connect(addr).unwrap()).collect();
        let (done, mut when_done) = oneshot::channel();
        commands.send(Command::Open { number: 7, socket, group: Arc::clone(&group) }).unwrap();
        commands.send(Command::Close { number: 7, done }).unwrap();
        data_thread.waker().wake();
        let (mut events, mut accepted) = (Events::new(), 0);
        while when_done.try_recv().is_err() {
            assert!(data_thread.run_once(&mut events).unwrap());
            let total = group.counters.sessions_total.load(std::sync::atomic::Ordering::Relaxed);
            assert!(total - accepted <= ACCEPTS_MAX as u64, "{} at once", total - accepted);
            accepted = total;
        }
        assert_eq!(accepted, QUEUED);
        assert!(TcpStream::connect(addr).is_err());
        assert_eq!(data_thread.wait_max_ms(), None);
    }

    /// A listener of this process's own on an address that is free.
    fn open_listener() -> (OwnedFd, SocketAddr) {
        let socket = crate::net::bind(([127, 0, 0, 1], 0).into(), 1, &[]).unwrap().remove(0);
        let addr = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        (socket, addr)
    }

    #[test]
    fn a_session_that_comes_round_to_its_own_group_is_ended_and_one_that_passes_through_another_is_not() {
        let (mut data_thread, service, commands) = data_thread();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let [round, through, last] = std::array::from_fn(|_| open_listener());
        let group = |server| group_of(server, GroupSettings::for_tests("round_robin"));
        let (round_at, through_at) = (round.1, through.1);
        let round_group = group(round_at);
        let groups = [Arc::clone(&round_group), group(last.1), group(server.local_addr().unwrap())];
        for ((socket, addr), group) in [round, through, last].into_iter().zip(groups) {
            service.set_listening(addr.port(), true);
            commands.send(Command::Open { number: addr.port().into(), socket, group }).unwrap();
        }
        data_thread.waker().wake();
        let mut events = Events::new();
        let _passing = TcpStream::connect(through_at).unwrap();
        server.set_nonblocking(true).unwrap();
        let mut passed = None;
        while passed.is_none() {
            assert!(data_thread.run_once(&mut events).unwrap());
            passed = server.accept().ok();
        }
        assert_eq!(service.active(), 2, "one in each group");
        let mut circling = TcpStream::connect(round_at).unwrap();
        while service.active() > 2 || round_group.counters.ended(EndReason::Loop) == 0 {
            assert!(data_thread.run_once(&mut events).unwrap());
        }
        assert_eq!(round_group.counters.sessions_total.load(std::sync::atomic::Ordering::Relaxed), 2);
        assert_eq!(circling.read(&mut [0; 1]).unwrap(), 0);
    }

    #[test]
    fn a_thread_without_sessions_sleeps_until_an_event_comes() {
        let (mut data_thread, service, _commands) = data_thread();
        assert_eq!(data_thread.wait_max_ms(), None);
        let (nowhere, _kept) = blackhole();
        let group = group_of(nowhere, GroupSettings::for_tests("round_robin"));
        let (_client, ours, from) = accepted();
        data_thread.start(ours, service.register(0, from, &group));
        assert!(data_thread.wait_max_ms().is_some());
        let id = service.list(None, 1).sessions[0].id;
        service.close(id);
        let mut events = Events::new();
        while data_thread.wait_max_ms().is_some() {
            assert!(data_thread.run_once(&mut events).unwrap());
        }
        assert_eq!(service.active(), 0);
    }

    /// Both its sockets nearly always have more than it may move at once, and events come besides.
    #[test]
    fn a_busy_session_goes_on_once_however_many_events_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let group = group_of(addr, GroupSettings::for_tests("round_robin"));
        let (mut data_thread, service, _commands) = data_thread();
        let (client, ours, from) = accepted();
        data_thread.start(ours, service.register(0, from, &group));
        let (server, _) = listener.accept().unwrap();
        thread::scope(|scope| {
            for stream in [&client, &server] {
                // Until the session is gone.
                scope.spawn(move || while (&mut &*stream).write_all(&[0; 1 << 18]).is_ok() {});
                scope.spawn(move || while (&mut &*stream).read(&mut [0; 1 << 18]).is_ok_and(|read| read > 0) {});
            }
            let (mut events, mut busy_rounds) = (Events::new(), 0);
            while busy_rounds < BUSY_ROUNDS {
                assert!(data_thread.run_once(&mut events).unwrap());
                assert!(data_thread.again.len() <= 1, "{} rounds for one session", data_thread.again.len());
                busy_rounds += data_thread.again.len();
            }
            drop(data_thread);
        });
        assert_eq!(service.active(), 0);
    }
}
