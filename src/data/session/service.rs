//! Knows every session: registers, lists, counts and ends them.
//!
//! Each data thread has a shard of its own, so registering meets no other thread; only an operator's
//! list takes its lock. Whoever wants a session ended tells its thread; nothing else touches its sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use slab::Slab;

use super::passage::Passages;
use super::{SessionList, SessionView};
use crate::base::clock;
use crate::counters::EndReason;
use crate::data::deadlines::NEVER;
use crate::data::poll::{SessionKey, Waker};
use crate::events::{self, Event, ProcessEvent, SessionEvent};
use crate::group::{Group, GroupId, GroupSettings, Outcome};
use crate::policy::Epoch;
use crate::server::Server;

/// A time-out below this is kept to the millisecond; longer ones are found by the scan of all sessions, up to a second
/// late.
const SHORT_TIMEOUT: Duration = Duration::from_secs(4);

/// Knows every session of the process. The name is given.
#[derive(Debug)]
pub struct ProxySessionService {
    /// One per data thread.
    shards: Box<[Shard]>,
    next_id: AtomicU64,
    active: AtomicU64,
    /// Somebody waits for the last session to end.
    is_draining: AtomicBool,
    sessions_max: AtomicU64,
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

/// What is known of a running session; written by its own thread, read by all.
#[derive(Debug)]
pub struct SessionRecord {
    id: u64,
    group: Arc<Group>,
    client: SocketAddr,
    accepted_ms: u64,
    server: OnceLock<Arc<Server>>,
    attempts: AtomicU32,
    /// Time to connect in microseconds; 0 until connected.
    connect_us: AtomicU32,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    counted_up: AtomicU64,
    counted_down: AtomicU64,
    active_ms: AtomicU64,
    down_ms: AtomicU64,
    /// Which instance of the policy is to hear of its end; 0 for none.
    epoch: AtomicU64,
    is_half_closed: AtomicBool,
}

/// What is to be said of a session's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It has lasted too long.
    TooLong(EndReason),
    /// It may go on, and may be too long from then on; [`NEVER`] where the scan of all sessions finds it in time.
    Allowed { look_at_ms: u64 },
}

/// A registered session. Dropping it un-registers, on whatever path that happens.
#[derive(Debug)]
pub(crate) struct SessionGuard {
    service: Arc<ProxySessionService>,
    shard: usize,
    key: usize,
    record: Arc<SessionRecord>,
    end: EndReason,
    error: Option<io::Error>,
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
            passages: Arc::default(),
        }
    }

    /// Registers a client that was accepted on data thread `shard`.
    ///
    /// One that is over a limit is registered too, so that it is logged and counted like any other; its
    /// guard says so with [`SessionGuard::is_over_limit`].
    pub(crate) fn register(self: &Arc<Self>, shard: usize, client: SocketAddr, group: &Arc<Group>) -> SessionGuard {
        let now_ms = clock::coarse_ms();
        let record = Arc::new(SessionRecord {
            id: self.next_id.fetch_add(1, Relaxed),
            group: Arc::clone(group),
            client,
            accepted_ms: now_ms,
            server: OnceLock::new(),
            attempts: AtomicU32::new(0),
            connect_us: AtomicU32::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            counted_up: AtomicU64::new(0),
            counted_down: AtomicU64::new(0),
            active_ms: AtomicU64::new(now_ms),
            down_ms: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            is_half_closed: AtomicBool::new(false),
        });
        let key = self.shards[shard].records().insert(Arc::clone(&record));
        self.active.fetch_add(1, Relaxed);
        group.counters.sessions_total.fetch_add(1, Relaxed);
        group.counters.sessions_active.fetch_add(1, Relaxed);
        events::session(|| SessionEvent::ClientConnected { id: record.id, group: group.label().clone(), client });
        SessionGuard { service: Arc::clone(self), shard, key, record, end: EndReason::Shutdown, error: None }
    }

    /// Sessions now.
    pub fn active(&self) -> u64 {
        self.active.load(Relaxed)
    }

    /// The most sessions there may be, so that descriptors never run out.
    pub fn sessions_max(&self) -> u64 {
        self.sessions_max.load(Relaxed)
    }

    /// Tells that we listen at a port from now on, or no longer.
    pub(crate) fn set_listening(&self, port: u16, is_listening: bool) {
        self.passages.set_listening(port, is_listening);
    }

    /// From now on there may be so many sessions. Those that run go on.
    pub(crate) fn set_sessions_max(&self, sessions_max: u64) {
        self.sessions_max.store(sessions_max, Relaxed);
    }

    /// The newest `limit` sessions, of one group or of all.
    pub fn list(&self, group: Option<&GroupId>, limit: usize) -> SessionList {
        let mut records = Vec::new();
        for shard in &self.shards {
            let all = shard.records();
            let wanted = all.iter().filter(|(_, record)| group.is_none_or(|group| record.group.id() == group));
            records.extend(wanted.map(|(_, record)| Arc::clone(record)));
        }
        let total = records.len();
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.id));
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
        self.end(EndReason::Killed, |record| record.id == id) > 0
    }

    /// Ends every session of a group (the object, not just its port), or all sessions there are.
    pub fn end_all(&self, group: Option<&Arc<Group>>, reason: EndReason) -> usize {
        self.end(reason, |record| group.is_none_or(|group| Arc::ptr_eq(&record.group, group)))
    }

    /// Tells the threads to end sessions. How many that are.
    fn end(&self, reason: EndReason, is_meant: impl Fn(&SessionRecord) -> bool) -> usize {
        let mut count = 0;
        for shard in &self.shards {
            let records = shard.records();
            let meant = records.iter().filter(|(_, record)| is_meant(record));
            let ends: Vec<_> =
                meant.map(|(key, record)| Ending { key: SessionKey::new(key, record.id), reason }).collect();
            drop(records);
            if !ends.is_empty() {
                count += ends.len();
                shard.ends().extend(ends);
                if let Some(waker) = shard.waker.get() {
                    waker.wake();
                }
            }
        }
        count
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

impl SessionRecord {
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(crate) fn client(&self) -> SocketAddr {
        self.client
    }

    /// `bytes` went from the client to the server. Only the session's own thread writes.
    pub(crate) fn add_up(&self, bytes: u64, now_ms: u64) {
        self.bytes_up.store(self.bytes_up.load(Relaxed) + bytes, Relaxed);
        self.active_ms.store(now_ms, Relaxed);
    }

    /// `bytes` went from the server to the client. Only the session's own thread writes.
    pub(crate) fn add_down(&self, bytes: u64, now_ms: u64) {
        self.bytes_down.store(self.bytes_down.load(Relaxed) + bytes, Relaxed);
        self.active_ms.store(now_ms, Relaxed);
        self.down_ms.store(now_ms, Relaxed);
    }

    /// When bytes last went to the client; 0 when none ever did.
    pub(super) fn down_ms(&self) -> u64 {
        self.down_ms.load(Relaxed)
    }

    /// One side has finished; from now on the other may be silent for `half_close_timeout` only.
    pub(crate) fn set_half_closed(&self, now_ms: u64) {
        if !self.is_half_closed.swap(true, Relaxed) {
            self.active_ms.store(now_ms, Relaxed);
        }
    }

    /// Servers that were tried so far.
    pub(crate) fn set_attempts(&self, attempts: u32) {
        self.attempts.store(attempts, Relaxed);
    }

    /// The session has reached a server, which was picked with this epoch.
    pub(crate) fn set_connected(&self, server: &Arc<Server>, micros: u64, epoch: Option<Epoch>, now_ms: u64) {
        self.epoch.store(epoch.map_or(0, Epoch::get), Relaxed);
        let micros = u32::try_from(micros).unwrap_or(u32::MAX).max(1);
        self.connect_us.store(micros, Relaxed);
        // The relay, and with it the idle time, starts now.
        self.active_ms.store(now_ms, Relaxed);
        let _ = self.server.set(Arc::clone(server));
        events::session(|| SessionEvent::ServerConnected {
            id: self.id,
            group: self.group.label().clone(),
            client: self.client,
            server: server.settings.addr.shared(),
            attempt: self.attempts.load(Relaxed),
            connect_us: micros.into(),
        });
    }

    /// How the silence of a session that has its server is to be judged.
    pub(crate) fn silence(&self, now_ms: u64) -> Silence {
        let active_ms = self.active_ms.load(Relaxed);
        let silent_ms = now_ms.saturating_sub(active_ms);
        let snapshot = self.group.snapshot();
        let GroupSettings { idle_timeout, half_close_timeout, .. } = snapshot.settings;
        let is_half_closed = self.is_half_closed.load(Relaxed);
        let is_over = |limit: Duration| !limit.is_zero() && silent_ms >= clock::as_ms(limit);
        if is_half_closed && is_over(half_close_timeout) {
            return Silence::TooLong(EndReason::HalfCloseTimeout);
        }
        if is_over(idle_timeout) {
            return Silence::TooLong(EndReason::IdleTimeout);
        }
        // A side may finish at any moment, and is silent from then on at the earliest.
        let half_closed_ms = if is_half_closed { active_ms } else { now_ms };
        let at_ms = |since_ms: u64, limit: Duration| since_ms.saturating_add(short_ms(limit));
        Silence::Allowed { look_at_ms: at_ms(active_ms, idle_timeout).min(at_ms(half_closed_ms, half_close_timeout)) }
    }

    /// Adds what moved since the last call to the group's counts. Only the session's own thread calls it.
    pub(crate) fn count_bytes(&self) {
        let counters = &self.group.counters;
        for (bytes, counted, total) in [
            (&self.bytes_up, &self.counted_up, &counters.bytes_up),
            (&self.bytes_down, &self.counted_down, &counters.bytes_down),
        ] {
            let now = bytes.load(Relaxed);
            let before = counted.load(Relaxed);
            if now != before {
                counted.store(now, Relaxed);
                total.fetch_add(now - before, Relaxed);
            }
        }
    }

    fn view(&self, now_ms: u64) -> SessionView {
        SessionView {
            id: self.id,
            group: self.group.port(),
            name: self.group.label().name().map(str::to_owned),
            client: self.client,
            server: self.server.get().map(|server| server.settings.addr.to_string()),
            age_ms: now_ms.saturating_sub(self.accepted_ms),
            idle_ms: now_ms.saturating_sub(self.active_ms.load(Relaxed)),
            bytes_up: self.bytes_up.load(Relaxed),
            bytes_down: self.bytes_down.load(Relaxed),
        }
    }
}

/// The shortest time in which silence may end a session of this group, in milliseconds; [`NEVER`] where the scan of all
/// sessions comes often enough to find it.
pub(super) fn short_silence_ms(settings: &GroupSettings) -> u64 {
    short_ms(settings.idle_timeout).min(short_ms(settings.half_close_timeout))
}

fn short_ms(timeout: Duration) -> u64 {
    if timeout >= SHORT_TIMEOUT || timeout.is_zero() { NEVER } else { clock::as_ms(timeout) }
}

impl SessionGuard {
    pub(crate) fn record(&self) -> &Arc<SessionRecord> {
        &self.record
    }

    /// How its thread finds it.
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey::new(self.key, self.record.id)
    }

    /// The connections of this process to its own listeners.
    pub(super) fn passages(&self) -> &Arc<Passages> {
        &self.service.passages
    }

    /// True when the group or the process holds more sessions than it may.
    pub(crate) fn is_over_limit(&self) -> bool {
        let group = &self.record.group;
        let max = u64::from(group.snapshot().settings.max_sessions);
        self.service.active() > self.service.sessions_max()
            || (max > 0 && group.counters.sessions_active.load(Relaxed) > max)
    }

    /// Un-registers the session for `end`.
    pub(crate) fn finish(mut self, end: EndReason, error: Option<io::Error>) {
        self.end = end;
        self.error = error;
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let record = self.service.shards[self.shard].records().remove(self.key);
        record.count_bytes();
        // Ordered against `all_ended`: one of the two sees what the other has done.
        if self.service.active.fetch_sub(1, SeqCst) == 1 && self.service.is_draining.load(SeqCst) {
            events::publish(Event::Process(ProcessEvent::Idle));
        }
        let elapsed_ms = clock::coarse_ms().saturating_sub(record.accepted_ms);
        let counters = &record.group.counters;
        counters.sessions_active.fetch_sub(1, Relaxed);
        counters.session_ended(self.end, elapsed_ms * 1_000);
        let connect_us = record.connect_us.load(Relaxed);
        if let Some(server) = record.server.get() {
            let epoch = Epoch::from_number(record.epoch.load(Relaxed));
            let bytes = record.bytes_up.load(Relaxed) + record.bytes_down.load(Relaxed);
            record.group.report(server, epoch, Outcome::Closed { millis: elapsed_ms, bytes });
        }
        events::session(|| SessionEvent::SessionClosed {
            id: record.id,
            group: record.group.label().clone(),
            policy: record.group.snapshot().settings.policy.shared_name(),
            client: record.client,
            server: record.server.get().map(|server| server.settings.addr.shared()),
            attempts: record.attempts.load(Relaxed),
            end: self.end.as_str(),
            bytes_up: record.bytes_up.load(Relaxed),
            bytes_down: record.bytes_down.load(Relaxed),
            connect_us: (connect_us > 0).then_some(connect_us),
            elapsed_ms,
            error: self.error.as_ref().map(|error| error.to_string().into()),
        });
    }
}
