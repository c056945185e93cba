//! The data threads, one per core, on which sessions live.
//!
//! They share nothing with management but messages to open and close listeners, so nothing that happens
//! there can delay a byte. Their number never changes while they run: the kernel spreads clients over the
//! listening sockets, and closing one would reset the clients queued on it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::data::poll::Bell;
use crate::data::session::ProxySessionService;
use crate::data::thread::{Command, DataThread};
use crate::group::Group;

/// The data threads of the process. Dropping it ends them, and with them every session that is left.
#[derive(Debug)]
pub(crate) struct DataThreads {
    threads: Vec<Thread>,
    next_id: AtomicU64,
    /// Cancelled when a thread has ended by surprise.
    failed: CancellationToken,
}

#[derive(Debug)]
struct Thread {
    /// Only empty while the threads are being ended.
    commands: Option<Sender<Command>>,
    bell: Bell,
    handle: Option<JoinHandle<()>>,
}

/// An open listener: one socket on every data thread.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ListenerId(u64);

impl DataThreads {
    /// Starts `count` threads, each of which stays on one core when they are `pinned`.
    ///
    /// # Errors
    ///
    /// The system refuses a thread or the descriptors it needs.
    pub(crate) fn start(count: usize, pinned: bool, service: &Arc<ProxySessionService>) -> io::Result<Self> {
        let failed = CancellationToken::new();
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let (commands, receiver) = mpsc::channel();
            let thread = DataThread::new(index, service, receiver)?;
            let (bell, failed) = (thread.bell(), failed.clone());
            let handle = std::thread::Builder::new().name(format!("data-{index}")).spawn(move || {
                let by_surprise = failed.drop_guard();
                if pinned && let Err(error) = pin(index) {
                    tracing::warn!(thread = index, %error, "cannot stay on one core");
                }
                match thread.run() {
                    Ok(()) => drop(by_surprise.disarm()),
                    Err(error) => tracing::error!(thread = index, %error, "cannot wait for events"),
                }
            })?;
            threads.push(Thread { commands: Some(commands), bell, handle: Some(handle) });
        }
        Ok(Self { threads, next_id: AtomicU64::new(1), failed })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// Cancelled when a thread has ended by surprise: the process cannot go on.
    pub(crate) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// Starts accepting for `group` on sockets from [`net::bind`](crate::net::bind), one per thread.
    pub(crate) fn open(&self, sockets: Vec<OwnedFd>, group: &Arc<Group>) -> ListenerId {
        let id = self.next_id.fetch_add(1, Relaxed);
        for (thread, socket) in self.threads.iter().zip(sockets) {
            thread.send(Command::Open { number: id, socket, group: Arc::clone(group) });
        }
        ListenerId(id)
    }

    /// Stops accepting; done when every socket is closed, so that the port may be opened again.
    pub(crate) async fn close(&self, listener: ListenerId) {
        let mut closed = Vec::new();
        for thread in &self.threads {
            let (done, when_done) = oneshot::channel();
            thread.send(Command::Close { number: listener.0, done });
            closed.push(when_done);
        }
        for when_done in closed {
            // An error means that the thread is gone, and its sockets with it.
            let _ = when_done.await;
        }
    }
}

impl Thread {
    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // A thread that is gone has cancelled `failed`, which ends the process.
            let _ = commands.send(command);
            self.bell.ring();
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
        for thread in &mut self.threads {
            thread.commands = None;
            thread.bell.ring();
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A panic was reported by the panic hook; there is nothing to add.
                let _ = handle.join();
            }
        }
    }
}
