//! Knows every session: registers, lists, counts and ends them.
//!
//! Each data thread has a shard of its own, so registering meets no other thread; only an operator's
//! list takes its lock. Whoever wants a session ended tells its thread; nothing else touches its sockets.

mod told;

use std::cell::OnceCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use slab::Slab;

use super::passage::Passages;
use super::record::{Over, SessionRecord};
use super::view::SessionList;
use crate::base::clock;
use crate::counters::{EndReason, Limit};
use crate::data::poll::{SessionKey, Waker};
use crate::events::{self, Event, ProcessEvent, Routed, TlsFacts};
use crate::group::{Group, GroupId, Snapshot};
use crate::limits::{self, ClientKey, ProcessLimits, Rate, Refusal};
use crate::server::ServerAddr;

/// Sessions that are looked at while a data thread that wants to register one has to wait.
const SHOWN_AT_ONCE: usize = 1_024;

/// Knows every session of the process. The name is given.
#[derive(Debug)]
pub struct ProxySessionService {
    /// One per data thread.
    shards: Box<[Shard]>,
    next_id: AtomicU64,
    active: AtomicU64,
    /// Somebody waits for the last session to end.
    is_draining: AtomicBool,
    /// The smaller one of the next two.
    sessions_max: AtomicU64,
    /// What the descriptors allow.
    descriptors_max: AtomicU64,
    /// What is configured; [`u64::MAX`] for no limit.
    configured_max: AtomicU64,
    limits: ProcessLimits,
    passages: Arc<Passages>,
}

/// The sessions of one data thread.
#[derive(Debug, Default)]
struct Shard {
    /// Guards the list of the thread's sessions.
    records: Mutex<Slab<Arc<SessionRecord>>>,
    /// Guards what the thread has not been told yet.
    ends: Mutex<Vec<Ending>>,
    waker: OnceLock<Waker>,
}

/// A session that shall end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) key: SessionKey,
    pub(crate) reason: EndReason,
}

/// A session, wherever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionRef {
    shard: usize,
    key: SessionKey,
}

/// A registered session. Dropping it un-registers, on whatever path that happens.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    service: Arc<ProxySessionService>,
    /// Its thread, and its place there; no machine has more than 2³² of either.
    shard: u32,
    key: u32,
    record: Arc<SessionRecord>,
    end: EndReason,
    /// It goes on without an event, when the others of its thread have been served. Here because there is room.
    pub(super) has_yielded: bool,
    rare: OnceCell<Box<Rare>>,
}

/// What few sessions have.
#[derive(Debug, Default)]
struct Rare {
    /// Who is to be counted out at the end: in groups that count their clients.
    client: Option<ClientKey>,
    /// Why it ended badly.
    error: Option<io::Error>,
    /// What is told of the client's TLS.
    tls: Option<Arc<TlsFacts>>,
}

impl ProxySessionService {
    /// A service for `threads` data threads and at most `sessions_max` sessions.
    pub fn new(threads: usize, sessions_max: u64) -> Self {
        Self {
            shards: (0..threads).map(|_| Shard::default()).collect(),
            next_id: AtomicU64::new(1),
            active: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            sessions_max: AtomicU64::new(sessions_max),
            descriptors_max: AtomicU64::new(sessions_max),
            configured_max: AtomicU64::new(u64::MAX),
            limits: ProcessLimits::default(),
            passages: Arc::default(),
        }
    }

    /// Registers a client that was accepted on data thread `shard`.
    ///
    /// One that is over a limit is registered too, so that it is logged and counted like any other; its
    /// guard says so with [`SessionGuard::exceeded`].
    pub(crate) fn register(
        self: &Arc<Self>,
        shard: usize,
        client: SocketAddr,
        group: &Arc<Group>,
        now_ms: u64,
    ) -> SessionGuard {
        let record = Arc::new(SessionRecord::new(self.next_id.fetch_add(1, Relaxed), group, client, now_ms));
        let key = self.shards[shard].records().insert(Arc::clone(&record));
        self.active.fetch_add(1, Relaxed);
        record.begun();
        SessionGuard {
            service: Arc::clone(self),
            shard: shard as u32,
            key: key as u32,
            record,
            end: EndReason::Shutdown,
            has_yielded: false,
            rare: OnceCell::new(),
        }
    }

    /// Sessions now.
    pub fn active(&self) -> u64 {
        self.active.load(Relaxed)
    }

    /// The most sessions there may be, so that descriptors never run out, or fewer if that is configured.
    pub fn sessions_max(&self) -> u64 {
        self.sessions_max.load(Relaxed)
    }

    /// Tells that we listen at a port from now on, or no longer.
    pub(crate) fn set_listening(&self, port: u16, is_listening: bool) {
        self.passages.set_listening(port, is_listening);
    }

    /// From now on the descriptors allow so many sessions. Those that run go on.
    pub(crate) fn set_descriptors_max(&self, sessions_max: u64) {
        self.descriptors_max.store(sessions_max, Relaxed);
        self.update_sessions_max();
    }

    /// From now on there may be so many sessions, 0 for what the descriptors allow, and so many new ones.
    pub(crate) fn set_limits(&self, sessions_max: u32, rate: Option<&Rate>) {
        let configured = if sessions_max == 0 { u64::MAX } else { sessions_max.into() };
        self.configured_max.store(configured, Relaxed);
        self.update_sessions_max();
        self.limits.set_rate(rate);
    }

    fn update_sessions_max(&self) {
        let sessions_max = self.descriptors_max.load(Relaxed).min(self.configured_max.load(Relaxed));
        self.sessions_max.store(sessions_max, Relaxed);
    }

    /// The limits beside the number of sessions, and what is known of clients.
    pub fn limits(&self) -> &ProcessLimits {
        &self.limits
    }

    /// The newest `limit` sessions, of one group or of all.
    pub fn list(&self, group: Option<&GroupId>, limit: usize) -> SessionList {
        self.list_of(group, None, limit)
    }

    /// The same, or only those that have reached the server at this address.
    pub fn list_of(&self, group: Option<&GroupId>, server: Option<&ServerAddr>, limit: usize) -> SessionList {
        let mut records = Vec::new();
        self.each(|_, _, record| {
            if group.is_none_or(|group| record.group().id() == group) && record.is_of(server) {
                records.push(Arc::clone(record));
            }
        });
        let total = records.len();
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.id()));
        records.truncate(limit);
        let now_ms = clock::coarse_ms();
        SessionList { sessions: records.iter().map(|record| record.view(now_ms)).collect(), total }
    }

    /// Waits until no session is left.
    pub(crate) async fn all_ended(&self) {
        // In this order, so that the end of the last session is not missed.
        let mut changes = events::subscribe();
        self.is_draining.store(true, SeqCst);
        while self.active.load(SeqCst) > 0 {
            changes.wait_for(|event| matches!(event, Event::Process(ProcessEvent::Idle))).await;
        }
    }

    /// Ends one session with the reason `killed`. False when there is none of this id.
    pub fn close(&self, id: u64) -> bool {
        self.end(EndReason::Killed, |record| record.id() == id) > 0
    }

    /// Ends every session of a group (the object, not just its port), or all sessions there are.
    pub fn end_all(&self, group: Option<&Arc<Group>>, reason: EndReason) -> usize {
        self.end(reason, |record| group.is_none_or(|group| Arc::ptr_eq(record.group(), group)))
    }

    /// Ends every session of a group that has reached the server at this address, with the reason `killed`.
    pub fn close_all_of(&self, group: &GroupId, server: &ServerAddr) -> usize {
        self.end(EndReason::Killed, |record| record.group().id() == group && record.is_of(Some(server)))
    }

    /// Tells the threads to end sessions. How many that are.
    fn end(&self, reason: EndReason, is_meant: impl Fn(&SessionRecord) -> bool) -> usize {
        let found = self.find(|record| is_meant(record).then_some(()));
        self.end_these(reason, found.iter().map(|(session, ())| *session));
        found.len()
    }

    /// The sessions for which `pick` tells something, and that.
    pub(crate) fn find<T>(&self, pick: impl Fn(&SessionRecord) -> Option<T>) -> Vec<(SessionRef, T)> {
        let mut found = Vec::new();
        self.each(|shard, key, record| {
            if let Some(picked) = pick(record) {
                found.push((SessionRef { shard, key: SessionKey::new(key, record.id()) }, picked));
            }
        });
        found
    }

    /// Tells the threads to end these sessions; those that have ended since may be among them.
    pub(crate) fn end_these(&self, reason: EndReason, sessions: impl Iterator<Item = SessionRef>) {
        let mut ends: Vec<Vec<Ending>> = self.shards.iter().map(|_| Vec::new()).collect();
        sessions.for_each(|SessionRef { shard, key }| ends[shard].push(Ending { key, reason }));
        for (shard, ends) in self.shards.iter().zip(ends).filter(|(_, ends)| !ends.is_empty()) {
            shard.ends().extend(ends);
            if let Some(waker) = shard.waker.get() {
                waker.wake();
            }
        }
    }

    /// Shows every session with its shard and its place there. No data thread waits for all of them.
    fn each(&self, mut show: impl FnMut(usize, usize, &Arc<SessionRecord>)) {
        for (index, shard) in self.shards.iter().enumerate() {
            let mut next = 0;
            loop {
                let records = shard.records();
                let until = (next + SHOWN_AT_ONCE).min(records.capacity());
                (next..until)
                    .filter_map(|key| Some((key, records.get(key)?)))
                    .for_each(|(key, it)| show(index, key, it));
                next = until;
                if next >= records.capacity() {
                    break;
                }
            }
        }
    }

    /// Has `waker` called when data thread `shard` has sessions to end.
    pub(crate) fn attach(&self, shard: usize, waker: Waker) {
        let _ = self.shards[shard].waker.set(waker);
    }

    /// The sessions that data thread `shard` has to end; those that have ended since are among them.
    pub(crate) fn take_ends(&self, shard: usize) -> Vec<Ending> {
        std::mem::take(&mut *self.shards[shard].ends())
    }
}

impl Shard {
    fn records(&self) -> MutexGuard<'_, Slab<Arc<SessionRecord>>> {
        // A panic cannot leave a slab half-changed: insert and remove do not call out.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, Vec<Ending>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionGuard {
    pub(crate) fn record(&self) -> &Arc<SessionRecord> {
        &self.record
    }

    /// How its thread finds it.
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey::new(self.key as usize, self.record.id())
    }

    /// The connections of this process to its own listeners.
    pub(super) fn passages(&self) -> &Arc<Passages> {
        &self.service.passages
    }

    /// The most sessions the process may hold.
    pub(super) fn sessions_max(&self) -> u64 {
        self.service.sessions_max()
    }

    /// The limit of sessions at a time that is exceeded by this one.
    #[inline]
    pub(crate) fn exceeded(&self, snapshot: &Snapshot) -> Option<Limit> {
        let max = u64::from(snapshot.settings.max_sessions);
        if max > 0 && self.record.group().counters.sessions_active.load(Relaxed) > max {
            return Some(Limit::GroupSessions);
        }
        let service = &self.service;
        if service.active() <= service.sessions_max() {
            return None;
        }
        let is_configured = service.configured_max.load(Relaxed) < service.descriptors_max.load(Relaxed);
        Some(if is_configured { Limit::ProcessSessions } else { Limit::Descriptors })
    }

    /// Lets in the client with this address, which is who it really is, or not.
    ///
    /// # Errors
    ///
    /// Why it is turned away.
    #[inline]
    pub(crate) fn admit(&self, client: IpAddr, snapshot: &Snapshot) -> Result<(), Refusal> {
        let (group, process) = (snapshot.limits.as_deref(), &self.service.limits);
        if (group.is_some() || process.has_rate())
            && let Some(counted) = limits::admit(client, group, process)?
        {
            // A second time it would have to be given back first.
            let is_first = self.rare.set(Box::new(Rare { client: Some(counted), ..Rare::default() })).is_ok();
            debug_assert!(is_first, "a session is let in once");
        }
        Ok(())
    }

    /// The same for a client that another group has let in before: what that counts of it is given back, and the process
    /// counts it once.
    ///
    /// # Errors
    ///
    /// As [`SessionGuard::admit`].
    pub(super) fn admit_again(&mut self, client: IpAddr, snapshot: &Snapshot) -> Result<(), Refusal> {
        let limits = &self.service.limits;
        if let Some(counted) = self.rare.take().and_then(|rare| rare.client) {
            limits.leave(&counted);
        }
        if let Some(group) = snapshot.limits.as_deref()
            && let Some(counted) = limits::admit_again(client, group, limits)?
        {
            self.rare = OnceCell::from(Box::new(Rare { client: Some(counted), ..Rare::default() }));
        }
        Ok(())
    }

    /// Keeps what the client's hello has said. From now on the session belongs to `group`, if it is another.
    pub(super) fn set_routed(&mut self, group: Option<&Arc<Group>>, routed: Routed) {
        let own = Arc::clone(self.record.group());
        let listener = group.map(|_| own.label().clone());
        let record = Arc::new(self.record.routed_to(group.unwrap_or(&own), Routed { listener, ..routed }));
        self.service.shards[self.shard as usize].records()[self.key as usize] = Arc::clone(&record);
        if group.is_some() {
            self.record.left_group();
            record.begun();
        }
        self.record = record;
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let record = self.service.shards[self.shard as usize].records().remove(self.key as usize);
        // Ordered against `all_ended`: one of the two sees what the other has done.
        let active = self.service.active.fetch_sub(1, SeqCst);
        if active == 1 && self.service.is_draining.load(SeqCst) {
            events::publish(Event::Process(ProcessEvent::Idle));
        }
        let limits = &self.service.limits;
        let rare = self.rare.get();
        if let Some(client) = rare.and_then(|rare| rare.client.as_ref()) {
            limits.leave(client);
        }
        let error = rare.and_then(|rare| rare.error.as_ref());
        let tls = rare.and_then(|rare| rare.tls.as_ref());
        record.ended(Over { end: self.end, error, tls, now_ms: clock::coarse_ms(), active }, limits);
    }
}
