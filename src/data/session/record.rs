//! What is known of a running session.

mod telling;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::view::{SessionView, Silence};
use crate::base::clock;
use crate::base::label::GroupLabel;
use crate::base::random::{SplitMix64, below};
use crate::counters::{EndReason, Limit};
use crate::data::deadlines::NEVER;
use crate::events::{ClientFacts, Routed};
use crate::group::{Group, GroupSettings};
use crate::policy::Epoch;
use crate::server::{Live, Server, ServerAddr};
pub(super) use telling::Over;

/// A time-out below this is kept to the millisecond; longer ones are found by the scan of all sessions, up to a second
/// late.
const SHORT_TIMEOUT: Duration = Duration::from_secs(4);

/// No side has finished.
const OPEN: u8 = 0;
/// The client has finished first.
const BY_CLIENT: u8 = 1;
/// The server has finished first, or nobody knows who did.
const BY_SERVER: u8 = 2;

/// Nothing was told of the client yet: its PROXY header is waited for.
const UNTOLD: u8 = 0;
/// The same, but its TLS hello is.
const PEEKED_AT: u8 = 1;
/// It was told that the client has connected.
const TOLD: u8 = 2;

/// What is known of a running session; written by its own thread, read by all.
#[derive(Debug)]
pub struct SessionRecord {
    id: u64,
    group: Arc<Group>,
    /// The other end of the client's socket.
    peer: SocketAddr,
    /// What a PROXY header and a TLS hello have said of the client.
    client_facts: OnceLock<Arc<ClientFacts>>,
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
    /// From the accept until the last failed connect was over, in milliseconds.
    failed_ms: AtomicU32,
    /// Which side has finished: [`OPEN`], or who was the first.
    half_closed: AtomicU8,
    /// Another server was taken than the first that was tried.
    is_redispatched: AtomicBool,
    /// Whether it was told that the client has connected: [`UNTOLD`], [`PEEKED_AT`] or [`TOLD`].
    told: AtomicU8,
    /// One more than the place in [`Limit::ALL`] of the limit that it was over; 0 for none.
    limit: AtomicU8,
}

impl SessionRecord {
    /// Of a client of `group` that was accepted at `now_ms`.
    pub(super) fn new(id: u64, group: &Arc<Group>, peer: SocketAddr, now_ms: u64) -> Self {
        Self {
            id,
            group: Arc::clone(group),
            peer,
            client_facts: OnceLock::new(),
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
            failed_ms: AtomicU32::new(0),
            half_closed: AtomicU8::new(OPEN),
            is_redispatched: AtomicBool::new(false),
            told: AtomicU8::new(UNTOLD),
            limit: AtomicU8::new(0),
        }
    }

    /// Counts the session.
    pub(super) fn begun(&self) {
        let counters = &self.group.counters;
        counters.sessions_total.fetch_add(1, Relaxed);
        counters.sessions_active.fetch_add(1, Relaxed);
    }

    /// The same session in this group, with what the client's hello has said.
    pub(super) fn routed_to(&self, group: &Arc<Group>, routed: Routed) -> Self {
        let known = self.client_facts().cloned().unwrap_or_else(|| ClientFacts::unknown(self.peer));
        let record = Self::new(self.id, group, self.peer, self.accepted_ms);
        record.set_client_facts(ClientFacts { routed: Some(routed), ..known });
        record.told.store(self.told.load(Relaxed), Relaxed);
        record
    }

    /// Counts that the session belongs to another group from now on.
    pub(super) fn left_group(&self) {
        let counters = &self.group.counters;
        counters.sessions_routed.fetch_add(1, Relaxed);
        counters.sessions_active.fetch_sub(1, Relaxed);
    }

    /// The client's hello is waited for.
    pub(super) fn set_peeked_at(&self) {
        self.told.store(PEEKED_AT, Relaxed);
    }

    /// A PROXY header has said this of the client.
    pub(super) fn set_client_facts(&self, client_facts: ClientFacts) {
        let _ = self.client_facts.set(Arc::new(client_facts));
    }

    /// The client was over this limit.
    pub(super) fn set_limit(&self, limit: Limit) {
        self.limit.store(limit as u8 + 1, Relaxed);
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The client that the session serves: where a PROXY header says that it is, else the other end of the socket.
    #[inline]
    pub(crate) fn client(&self) -> SocketAddr {
        self.client_facts().and_then(|client_facts| client_facts.source).unwrap_or(self.peer)
    }

    /// The other end of the client's socket, which may be a proxy before us.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// What a PROXY header has said of the client.
    #[inline]
    pub(super) fn client_facts(&self) -> Option<&ClientFacts> {
        self.client_facts.get().map(|client_facts| &**client_facts)
    }

    /// What the client's hello has said.
    fn routed(&self) -> Option<&Routed> {
        self.client_facts()?.routed.as_ref()
    }

    /// True when its client was accepted at this time or before.
    pub(crate) fn has_begun_by(&self, at_ms: u64) -> bool {
        self.accepted_ms <= at_ms
    }

    /// For how long it has lasted.
    pub(super) fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.accepted_ms)
    }

    /// For how long neither side has sent anything.
    pub(super) fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.active_ms.load(Relaxed))
    }

    /// True when it has reached the server at this address, or one that its name is expanded to; true for any session without
    /// an address.
    pub(crate) fn is_of(&self, addr: Option<&ServerAddr>) -> bool {
        let is_at = |addr: &ServerAddr, known: &ServerAddr| {
            known == addr || (known.is_one_of_name() && known.host_port() == addr.as_str())
        };
        addr.is_none_or(|addr| self.server_addr().is_some_and(|known| is_at(addr, known)))
    }

    /// The live figures of the server that it has reached.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.server.get().map(|server| Arc::clone(&server.live))
    }

    /// The server that it has reached.
    pub(crate) fn server_addr(&self) -> Option<&ServerAddr> {
        self.server.get().map(|server| &server.settings.addr)
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
    pub(crate) fn set_half_closed(&self, is_by_client: bool, now_ms: u64) {
        if self.half_closed.load(Relaxed) == OPEN {
            let by = if is_by_client { BY_CLIENT } else { BY_SERVER };
            self.half_closed.store(by, Relaxed);
            self.active_ms.store(now_ms, Relaxed);
        }
    }

    /// A connect to a server has failed.
    #[cold]
    pub(super) fn set_failed(&self, now_ms: u64) {
        self.failed_ms.store(u32::try_from(self.age_ms(now_ms)).unwrap_or(u32::MAX), Relaxed);
    }

    /// A server is tried after another attempt has failed: another one, or the same again.
    #[cold]
    pub(super) fn set_retried(&self, is_other: bool) {
        self.is_redispatched.fetch_or(is_other, Relaxed);
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
        self.tell_server(server, micros);
    }

    /// How the silence of a session that has its server is to be judged.
    pub(crate) fn silence(&self, now_ms: u64) -> Silence {
        let active_ms = self.active_ms.load(Relaxed);
        let silent_ms = now_ms.saturating_sub(active_ms);
        let snapshot = self.group.snapshot();
        let settings = &snapshot.settings;
        let (idle_timeout, half_close_timeout) = (settings.idle_timeout, settings.half_close_timeout());
        let is_half_closed = self.half_closed.load(Relaxed) != OPEN;
        let is_over = |limit: Duration| !limit.is_zero() && silent_ms >= clock::as_ms(limit);
        if is_half_closed && is_over(half_close_timeout) {
            return Silence::TooLong(EndReason::HalfCloseTimeout);
        }
        if is_over(idle_timeout) {
            return Silence::TooLong(EndReason::IdleTimeout);
        }
        let old_ms = self.old_ms(settings);
        if old_ms <= now_ms {
            return Silence::TooLong(EndReason::MaxAge);
        }
        // A side may finish at any moment, and is silent from then on at the earliest.
        let half_closed_ms = if is_half_closed { active_ms } else { now_ms };
        let at_ms = |since_ms: u64, limit: Duration| since_ms.saturating_add(short_ms(limit));
        let silent_ms = at_ms(active_ms, idle_timeout).min(at_ms(half_closed_ms, half_close_timeout));
        let old_ms = if settings.max_session_age < SHORT_TIMEOUT { old_ms } else { NEVER };
        Silence::Allowed { look_at_ms: silent_ms.min(old_ms) }
    }

    /// When it has reached its part of `max_session_age`: 90 to 100 %, which follows from its id. [`NEVER`] without a limit.
    fn old_ms(&self, settings: &GroupSettings) -> u64 {
        let age_ms = clock::as_ms(settings.max_session_age);
        if age_ms == 0 {
            return NEVER;
        }
        let (earlier_ms, _) = below(SplitMix64::new(self.id).draw(), age_ms / 10 + 1);
        self.accepted_ms.saturating_add(age_ms - earlier_ms)
    }

    /// When to look at a session, should nothing happen to it from now on; [`NEVER`] where the scan of all sessions comes
    /// often enough.
    pub(super) fn look_at_ms(&self, settings: &GroupSettings, now_ms: u64) -> u64 {
        let old_ms = if settings.max_session_age < SHORT_TIMEOUT { self.old_ms(settings) } else { NEVER };
        let silent_ms = short_ms(settings.idle_timeout).min(short_ms(settings.half_close_timeout()));
        now_ms.saturating_add(silent_ms).min(old_ms)
    }

    /// Adds what moved since the last call to the counts of the group and of the server. Only the session's own thread calls
    /// it.
    pub(crate) fn count_bytes(&self) {
        let news = |bytes: &AtomicU64, counted: &AtomicU64| {
            let now = bytes.load(Relaxed);
            let before = counted.load(Relaxed);
            counted.store(now, Relaxed);
            now - before
        };
        let up = news(&self.bytes_up, &self.counted_up);
        let down = news(&self.bytes_down, &self.counted_down);
        if up + down == 0 {
            return;
        }
        let counters = &self.group.counters;
        counters.bytes_up.fetch_add(up, Relaxed);
        counters.bytes_down.fetch_add(down, Relaxed);
        // Bytes move when there is a server, and not before.
        if let Some(server) = self.server.get() {
            server.live.count_bytes(up, down);
        }
    }

    pub(super) fn view(&self, now_ms: u64) -> SessionView {
        SessionView {
            id: self.id,
            group: self.group.port(),
            name: self.group.label().name().map(str::to_owned),
            client: self.client(),
            via: self.client_facts().and_then(|client_facts| client_facts.source).map(|_| self.peer),
            listener: self.routed().and_then(|routed| routed.listener.as_ref()).map(GroupLabel::port),
            sni: self.routed().and_then(|routed| routed.server_name.as_deref()).map(str::to_owned),
            server: self.server.get().map(|server| server.settings.addr.to_string()),
            age_ms: self.age_ms(now_ms),
            idle_ms: self.idle_ms(now_ms),
            bytes_up: self.bytes_up.load(Relaxed),
            bytes_down: self.bytes_down.load(Relaxed),
        }
    }
}

fn short_ms(timeout: Duration) -> u64 {
    if timeout >= SHORT_TIMEOUT || timeout.is_zero() { NEVER } else { clock::as_ms(timeout) }
}
