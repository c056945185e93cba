//! The data threads, one per core, on which sessions live.
//!
//! They share nothing with management but messages to open and close listeners, so nothing that happens
//! there can delay a byte. Their number never changes while they run: the kernel spreads clients over the
//! listening sockets, and closing one would reset the clients queued on it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::base::vital;
use crate::data::poll::Waker;
use crate::data::session::ProxySessionService;
use crate::data::thread::{Command, DataThread};
use crate::events::{self, Event, ProcessEvent};
use crate::group::{Group, Liveness};
use crate::net::admin_connections_max;

/// Commands that may wait for one thread; who has more waits until there is room.
const COMMANDS_MAX: usize = 1_024;

/// Descriptors a session needs: the client's and the server's.
const DESCRIPTORS_PER_SESSION: u64 = 2;

/// Descriptors kept for everything that is neither a session nor an admin connection: files, the pollers.
const DESCRIPTORS_RESERVED: u64 = 64;

/// And for the pipes of each data thread; each open group has a listener on each thread besides.
const DESCRIPTORS_PER_THREAD: u64 = 160;

/// How many sessions fit into so many descriptors beside all that is no session.
pub(crate) fn sessions_max(descriptors: u64, threads: u64, open_groups: u64) -> u64 {
    let wanted =
        DESCRIPTORS_RESERVED + admin_connections_max(descriptors) + threads * (DESCRIPTORS_PER_THREAD + open_groups);
    let reserved = wanted.min(descriptors / 2);
    (descriptors - reserved) / DESCRIPTORS_PER_SESSION
}

/// The data threads of the process. Dropping it ends them, and with them every session that is left.
#[derive(Debug)]
pub(crate) struct DataThreads {
    threads: Vec<Thread>,
    service: Arc<ProxySessionService>,
    /// What the process may have.
    descriptors: u64,
    /// Guards the ports of the open listeners.
    listening: Mutex<HashMap<u64, u16>>,
    next_id: AtomicU64,
    /// Cancelled when a thread has ended by surprise.
    failed: CancellationToken,
}

#[derive(Debug)]
struct Thread {
    /// Guards the sender, which is dropped to end the thread.
    commands: Mutex<Option<SyncSender<Command>>>,
    waker: Waker,
    /// Guards the handle until somebody waits for the thread's end.
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// An open listener: one socket on every data thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId(u64);

impl DataThreads {
    /// Starts `count` threads, each of which stays on one core when they are `pinned`. `descriptors` is how many the
    /// process may have.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or the descriptors it needs.
    pub(crate) fn start(
        count: usize,
        pinned: bool,
        service: &Arc<ProxySessionService>,
        descriptors: u64,
    ) -> io::Result<Self> {
        let failed = CancellationToken::new();
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let (commands, receiver) = mpsc::sync_channel(COMMANDS_MAX);
            let thread = DataThread::new(index, service, receiver)?;
            let (waker, failed) = (thread.waker(), failed.clone());
            let run = move || {
                let by_surprise = failed.drop_guard();
                if pinned && let Err(error) = pin(index) {
                    tell(ProcessEvent::NotPinned { thread: index, error: error.to_string().into() });
                }
                vital::panic_at(&format!("data-{index}"));
                match thread.run() {
                    Ok(()) => drop(by_surprise.disarm()),
                    Err(error) => {
                        tell(ProcessEvent::ThreadFailed { thread: index, error: error.to_string().into() });
                    }
                }
            };
            #[allow(clippy::disallowed_methods, reason = "its end by surprise is noticed, and `join` waits for it")]
            let handle = std::thread::Builder::new().name(format!("data-{index}")).spawn(run)?;
            let (commands, handle) = (Mutex::new(Some(commands)), Mutex::new(Some(handle)));
            threads.push(Thread { commands, waker, handle });
        }
        let (service, listening) = (Arc::clone(service), Mutex::default());
        Ok(Self { threads, service, descriptors, listening, next_id: AtomicU64::new(1), failed })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Cancelled when a thread has ended by surprise: the process cannot go on.
    pub(crate) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// Starts accepting for `group` on sockets from [`net::bind`](crate::net::bind), one per thread. More are shared out, too:
    /// closing one would reset the clients queued on it.
    pub(crate) fn open(&self, sockets: Vec<OwnedFd>, group: &Arc<Group>) -> ListenerId {
        let id = self.next_id.fetch_add(1, Relaxed);
        self.set_listening(id, sockets.first().and_then(port));
        for (thread, socket) in self.threads.iter().cycle().zip(sockets) {
            thread.send(Command::Open { number: id, socket, group: Arc::clone(group) });
        }
        ListenerId(id)
    }

    /// Sets when those clients are gone whom a listener accepts from now on.
    pub(crate) fn set_liveness(&self, listener: &ListenerId, liveness: Liveness) {
        for thread in &self.threads {
            thread.send(Command::SetLiveness { number: listener.0, liveness });
        }
    }

    /// Stops accepting; done when every socket is closed, so that the port may be opened again.
    pub(crate) async fn close(&self, listener: ListenerId) {
        self.of_each(|done| Command::Close { number: listener.0, done }).await;
        self.set_listening(listener.0, None);
    }

    /// Closes listeners whose sockets another process has as well: those who are queued are its clients.
    pub(crate) async fn leave(&self, listener: ListenerId) {
        self.of_each(|done| Command::Leave { number: listener.0, done }).await;
        self.set_listening(listener.0, None);
    }

    /// Accepts nobody from now on; all sockets stay as they are, and clients wait in their queues until somebody accepts
    /// again: this process after [`DataThreads::resume`], or another one that has the same sockets. Done when no thread
    /// accepts any more.
    pub(crate) async fn rest(&self) {
        self.of_each(|done| Command::Rest { done }).await;
    }

    /// Accepts again.
    pub(crate) fn resume(&self) {
        self.threads.iter().for_each(|thread| thread.send(Command::Resume));
    }

    /// Duplicates of all listening sockets, for another process.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub(crate) async fn share(&self) -> io::Result<Vec<(ListenerId, OwnedFd)>> {
        let mut answers = Vec::new();
        for thread in &self.threads {
            let (answer, when_answered) = oneshot::channel();
            thread.send(Command::Share { answer });
            answers.push(when_answered);
        }
        let mut shared = Vec::new();
        for answer in answers {
            let sockets = answer.await.map_err(|_gone| io::Error::from(io::ErrorKind::BrokenPipe))??;
            shared.extend(sockets.into_iter().map(|(number, socket)| (ListenerId(number), socket)));
        }
        Ok(shared)
    }

    /// Has every thread do something; done when all have.
    async fn of_each(&self, command: impl Fn(oneshot::Sender<()>) -> Command) {
        let mut waiting = Vec::new();
        for thread in &self.threads {
            let (done, when_done) = oneshot::channel();
            thread.send(command(done));
            waiting.push(when_done);
        }
        for when_done in waiting {
            // Always an error: the sender is dropped, or the thread is gone, and its sockets with it.
            let _ = when_done.await;
        }
    }

    /// Ends the threads, and with them every session that is left, and waits for that. May be called again.
    pub(crate) fn join(&self) {
        for thread in &self.threads {
            drop(lock(&thread.commands).take());
            thread.waker.wake();
        }
        for thread in &self.threads {
            let handle = lock(&thread.handle).take();
            // A panic was reported by the panic hook; there is nothing to add.
            let _ = handle.map(JoinHandle::join);
        }
    }

    /// A listener is open at a port, or closed without one.
    fn set_listening(&self, id: u64, port: Option<u16>) {
        let mut listening = lock(&self.listening);
        let before = match port {
            Some(port) => listening.insert(id, port),
            None => listening.remove(&id),
        };
        for port in before.into_iter().chain(port) {
            self.service.set_listening(port, listening.values().any(|other| *other == port));
        }
        let (threads, open) = (self.threads.len() as u64, listening.len() as u64);
        self.service.set_descriptors_max(sessions_max(self.descriptors, threads, open));
    }
}

fn tell(event: ProcessEvent) {
    events::publish_soon(Event::Process(event));
}

fn port(socket: &OwnedFd) -> Option<u16> {
    let addr = rustix::net::getsockname(socket).ok()?;
    Some(SocketAddr::try_from(addr).ok()?.port())
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is set or taken in one step.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Thread {
    fn send(&self, command: Command) {
        if let Some(commands) = &*lock(&self.commands) {
            // A thread that is gone has cancelled `failed`, which ends the process.
            let _ = commands.send(command);
            self.waker.wake();
        }
    }
}

/// Keeps this thread on one of the cores that it may use: the `index`th, round and round.
fn pin(index: usize) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let count = allowed.count() as usize;
    let mut own = CpuSet::new();
    let core = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).nth(index % count.max(1));
    own.set(core.ok_or(io::ErrorKind::NotFound)?);
    Ok(sched_setaffinity(None, &own)?)
}

impl Drop for DataThreads {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupSettings;

    #[tokio::test]
    async fn the_limit_of_sessions_follows_the_listeners_that_are_open() {
        let service = Arc::new(ProxySessionService::new(2, 0));
        let threads = DataThreads::start(2, false, &service, 2_000).unwrap();
        let group = Arc::new(Group::for_tests(GroupSettings::for_tests("round_robin"), Vec::new()));
        let open = || threads.open(crate::net::bind(([127, 0, 0, 1], 0).into(), 2, &[]).unwrap(), &group);
        let (first, second) = (open(), open());
        assert_eq!(service.sessions_max(), sessions_max(2_000, 2, 2));
        threads.close(first).await;
        assert_eq!(service.sessions_max(), sessions_max(2_000, 2, 2) + 1);
        threads.close(second).await;
        threads.join();
        assert!(threads.threads.iter().all(|thread| lock(&thread.handle).is_none()));
    }
}
