//! The sessions of one data thread: lets them advance, and looks after those to which nothing happens.
//!
//! Once a second all of them are scanned for those that have been silent for too long; those that have to be looked at
//! sooner have a deadline. A session that panics ends alone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::base::clock;
use crate::counters::EndReason;
use crate::data::deadlines::{Deadlines, NEVER};
use crate::data::poll::{Ready, SessionKey};
use crate::data::session::{Pause, ProxySessionService, Side, TcpProxySession, Workspace};
use crate::group::Group;

/// Between two scans of all sessions.
pub(super) const SCAN_INTERVAL_MS: u64 = 1_000;

/// The sessions of one data thread.
#[derive(Debug)]
pub(super) struct Sessions {
    /// The number of the thread: its shard of the service.
    thread: usize,
    service: Arc<ProxySessionService>,
    pub(super) workspace: Workspace,
    /// By their place. Empty where none is, and while the one there advances.
    places: Vec<Option<Box<TcpProxySession>>>,
    /// How many they are.
    held: usize,
    deadlines: Deadlines,
    /// When to scan all sessions next; [`NEVER`] while there are none.
    pub(super) scan_at_ms: u64,
    /// Sessions that go on without an event, when all others have been served.
    pub(super) again: Vec<SessionKey>,
    /// One has ended, and given its descriptors back.
    has_ended: bool,
    /// Sessions looked at without an event.
    #[cfg(test)]
    pub(super) looks: usize,
}

impl Sessions {
    /// Those of data thread `thread`.
    ///
    /// # Errors
    ///
    /// No descriptor is left for its reactor.
    pub(super) fn new(thread: usize, service: &Arc<ProxySessionService>) -> io::Result<Self> {
        let workspace = Workspace::new()?;
        service.attach(thread, workspace.reactor.waker());
        Ok(Self {
            thread,
            service: Arc::clone(service),
            workspace,
            places: Vec::new(),
            held: 0,
            deadlines: Deadlines::default(),
            scan_at_ms: NEVER,
            again: Vec::new(),
            has_ended: false,
            #[cfg(test)]
            looks: 0,
        })
    }

    /// Begins to serve a client of `group` that was just accepted.
    pub(super) fn start(&mut self, client: OwnedFd, addr: SocketAddr, group: &Arc<Group>) {
        let workspace = &mut self.workspace;
        let guard = self.service.register(self.thread, addr, group, workspace.now_ms);
        let key = guard.key();
        let start = AssertUnwindSafe(|| TcpProxySession::start(client, guard, workspace));
        // A panic was reported by the hook, and the session has ended with it.
        if let Some((session, pause)) = catch_unwind(start).unwrap_or_default() {
            self.keep(key, session, pause);
        }
    }

    pub(super) fn keep(&mut self, key: SessionKey, session: Box<TcpProxySession>, pause: Pause) {
        if self.places.len() <= key.place() {
            self.places.resize_with(key.place() + 1, || None);
        }
        self.deadlines.push_unless_never(session.due_ms(), key);
        self.places[key.place()] = Some(session);
        self.held += 1;
        if self.scan_at_ms == NEVER {
            self.scan_at_ms = self.workspace.now_ms + SCAN_INTERVAL_MS;
        }
        self.pauses(key, pause);
    }

    /// An event has come for a session.
    pub(super) fn on_ready(&mut self, key: SessionKey, side: Side, ready: Ready) {
        self.with_session(key, |mut session, workspace| {
            session.on_ready(side, ready);
            match session.has_yielded() {
                // It goes on with it, and only once.
                true => Some((session, Pause::UntilEvent)),
                false => session.advance(workspace),
            }
        });
    }

    /// Lets those go on that have yielded to the others.
    pub(super) fn advance(&mut self, yielded: Vec<SessionKey>) {
        for key in yielded {
            self.with_session(key, TcpProxySession::advance);
        }
    }

    /// Ends those whose end somebody has asked for.
    pub(super) fn end_those_asked_for(&mut self) {
        for ending in self.service.take_ends(self.thread) {
            self.end(ending.key, ending.reason);
        }
    }

    fn end(&mut self, key: SessionKey, reason: EndReason) {
        self.with_session(key, |session, workspace| session.end(reason, workspace));
    }

    /// Lets a session do something, if it is still there, and keeps it if it goes on.
    fn with_session(
        &mut self,
        key: SessionKey,
        act: impl FnOnce(Box<TcpProxySession>, &mut Workspace) -> Option<(Box<TcpProxySession>, Pause)>,
    ) {
        let Some(place) = self.places.get_mut(key.place()) else { return };
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
                self.held -= 1;
                self.has_ended = true;
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

    /// When to look at sessions next, should nothing happen to them; [`NEVER`] while there are none.
    pub(super) fn next_look_ms(&self) -> u64 {
        self.scan_at_ms.min(self.deadlines.first_ms())
    }

    /// True once after sessions have ended.
    pub(super) fn take_has_ended(&mut self) -> bool {
        std::mem::take(&mut self.has_ended)
    }

    /// Looks at the sessions whose deadline has been reached, and once a second at all of them.
    pub(super) fn look(&mut self) {
        while let Some((at_ms, key)) = self.deadlines.take_reached(self.workspace.now_ms) {
            if is_due(&self.places, at_ms, key) {
                self.look_at(key);
            }
        }
        if self.deadlines.are_mostly_stale(self.held) {
            self.deadlines.retain(|at_ms, key| is_due(&self.places, at_ms, key));
        }
        if self.scan_at_ms <= self.workspace.now_ms {
            self.scan();
        }
    }

    /// Ends the sessions that have been silent for too long, and brings the groups' byte counts up to date. One pass
    /// instead of a timer per session.
    fn scan(&mut self) {
        for place in 0..self.places.len() {
            if let Some(session) = &self.places[place] {
                self.look_at(session.key());
            }
        }
        self.workspace.forget_windows();
        if self.held > 0 {
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
}

/// True when a session is there and has this deadline still.
fn is_due(places: &[Option<Box<TcpProxySession>>], at_ms: u64, key: SessionKey) -> bool {
    let session = places.get(key.place()).and_then(Option::as_ref);
    session.is_some_and(|session| session.key() == key && session.due_ms() == at_ms)
}
