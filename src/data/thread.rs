//! One data thread: the loop that serves its sessions and listeners.
//!
//! It waits for events, lets those sessions advance that have some, and accepts clients; what management
//! wants of it comes as commands, after which its waker is called. It shares nothing with other threads but the session
//! records. It has one timer: its wait ends when the first deadline of a session is reached, and once a second while
//! there are sessions. Without any it sleeps until an event comes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use tokio::sync::oneshot;

use crate::base::clock;
use crate::data::deadlines::NEVER;
use crate::data::listeners::Listeners;
use crate::data::poll::{Events, Source, Waker};
use crate::data::session::{ProxySessionService, Side};
use crate::data::sessions::Sessions;
use crate::group::{Group, Liveness};

/// The coarse clock is behind by so much at most: a wait that is longer by this never ends before its deadline.
const CLOCK_LAG_MS: u64 = 4;

/// What management asks of a data thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept clients.
    Open { number: u64, socket: OwnedFd, group: Arc<Group> },
    /// Those who are accepted from now on are gone when this says so.
    SetLiveness { number: u64, liveness: Liveness },
    /// Accept those whom the kernel has queued, then close the sockets; dropping `done` says so.
    Close { number: u64, done: oneshot::Sender<()> },
    /// Accept nobody and keep the sockets, then say so by dropping `done`.
    Rest { done: oneshot::Sender<()> },
    /// Accept again.
    Resume,
    /// Answer with duplicates of all listening sockets.
    Share { answer: oneshot::Sender<io::Result<Vec<(u64, OwnedFd)>>> },
    /// Close the sockets and leave those who are queued to another process, which has the same sockets.
    Leave { number: u64, done: oneshot::Sender<()> },
}

/// One of the data threads.
#[derive(Debug)]
pub(crate) struct DataThread {
    commands: Receiver<Command>,
    listeners: Listeners,
    sessions: Sessions,
    /// For when the timer is set; [`NEVER`] once it has run out.
    timer_at_ms: u64,
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
        let (listeners, sessions) = (Listeners::default(), Sessions::new(index, service)?);
        Ok(Self { commands, listeners, sessions, timer_at_ms: NEVER })
    }

    /// Wakes it for a command.
    pub(crate) fn waker(&self) -> Waker {
        self.sessions.workspace.reactor.waker()
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
        self.sessions.workspace.now_ms = clock::coarse_ms();
        let yielded = std::mem::take(&mut self.sessions.again);
        for (token, ready) in events.iter() {
            match token.source() {
                Source::Client(key) => self.sessions.on_ready(key, Side::Client, ready),
                Source::Server(key) => self.sessions.on_ready(key, Side::Server, ready),
                Source::Listener(key) => self.listeners.accept(key as usize, &mut self.sessions),
                Source::Timer => self.timer_at_ms = NEVER,
                Source::Waker => {
                    if !self.run_commands() {
                        return Ok(false);
                    }
                }
            }
        }
        if !yielded.is_empty() {
            self.sessions.advance(yielded);
        }
        if self.listeners.are_closing() {
            self.listeners.go_on_closing(&mut self.sessions);
        }
        let (has_ended, now_ms) = (self.sessions.take_has_ended(), self.sessions.workspace.now_ms);
        if self.sessions.next_look_ms() <= now_ms {
            self.sessions.look();
        }
        let retry_at_ms = self.listeners.retry_at_ms();
        if retry_at_ms <= now_ms || has_ended && retry_at_ms != NEVER {
            self.listeners.resume(&self.sessions);
        }
        Ok(true)
    }

    /// Waits for events, or until there is something to do without one. The timer is set anew only where that is sooner
    /// than it was set for: mostly once a second, with the scan.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let reactor = &self.sessions.workspace.reactor;
        if !self.sessions.again.is_empty() || self.listeners.are_closing() {
            return reactor.wait(events, Some(0));
        }
        let at_ms = self.wait_until_ms();
        if at_ms < self.timer_at_ms {
            let in_ms = at_ms.saturating_sub(self.sessions.workspace.now_ms) + CLOCK_LAG_MS;
            reactor.set_timer(in_ms.try_into().unwrap_or(u32::MAX))?;
            self.timer_at_ms = at_ms;
        }
        reactor.wait(events, None)
    }

    fn wait_until_ms(&self) -> u64 {
        self.sessions.next_look_ms().min(self.listeners.retry_at_ms())
    }

    /// Does what others have asked for. False when nobody is left to ask for anything.
    fn run_commands(&mut self) -> bool {
        self.sessions.end_those_asked_for();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open { number, socket, group }) => {
                    self.listeners.open(number, socket, group, &self.sessions);
                }
                Ok(Command::SetLiveness { number, liveness }) => self.listeners.set_liveness(number, &liveness),
                Ok(Command::Close { number, done }) => {
                    self.listeners.begin_to_close(number, done, &self.sessions.workspace.reactor);
                }
                Ok(Command::Rest { done }) => {
                    self.listeners.rest(&self.sessions.workspace.reactor);
                    drop(done);
                }
                Ok(Command::Resume) => self.listeners.resume_all(&self.sessions),
                Ok(Command::Share { answer }) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.listeners.share());
                }
                Ok(Command::Leave { number, done }) => {
                    self.listeners.leave(number, &self.sessions.workspace.reactor);
                    drop(done);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests;
