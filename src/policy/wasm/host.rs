//! What a guest may reach: its limits, and the functions of the interface's `host`.
//!
//! Every answer comes from the server set the instance was shown, from atomics, or from the request under
//! way: nothing here waits, and time and randomness are the request's, so that a recorded run repeats
//! exactly.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use wasmtime::{Memory, ResourceLimiter, TypedFunc};

use super::bindings::goproxy::balance::{host, types};
use super::source::INSTANCES_MAX;
use crate::base::label::GroupLabel;
use crate::base::random::SplitMix64;
use crate::base::{clock, text};
use crate::events::{self, Event, PolicyEvent};
use crate::policy::balance::ServerSet;
use crate::policy::oversee::Birth;
use crate::server::{Live, ServerId};

/// Tables of one instance hold so many entries together.
const TABLE_ENTRIES_MAX: usize = 10_000;

/// Longest text that is taken from a guest, in bytes.
const TEXT_CHARS_MAX: usize = 1 << 10;

/// A module may write so many lines at once, and one more each second.
const LINES_MAX: u64 = 20;

/// The data of an instance's store; what a pick needs stands first, and together.
#[repr(C)]
pub(super) struct HostState {
    now_ms: u64,
    random: SplitMix64,
    tried: Vec<ServerId>,
    index: ServerIndex,
    pub(super) limits: Limits,
    /// The guest's memory, for a core module once that has started; a component's is the engine's business.
    pub(super) memory: Option<GuestMemory>,
    /// False while a core module may not call the host.
    pub(super) may_leave: bool,
    log: Arc<GuestLog>,
    servers: Arc<ServerSet>,
}

/// A guest's memory, and the function by which it allocates in it.
#[derive(Clone)]
pub(super) struct GuestMemory {
    pub(super) memory: Memory,
    pub(super) realloc: TypedFunc<(u32, u32, u32, u32), u32>,
}

/// Where in its set each server is, by its id.
#[derive(Debug)]
enum ServerIndex {
    /// Ids are given out one after the other, so they mostly are so many in a row, from this one on.
    Row { first: u32, count: u32 },
    /// Ids, sorted, and where they are.
    Sorted(Vec<(u32, u32)>),
}

/// Writes the lines of a module's instances for one group to the log. They share one rate limit.
#[derive(Debug)]
pub(super) struct GuestLog {
    to: Sink,
    rate_limit: RateLimit,
}

/// Where the lines of a guest go.
#[derive(Debug)]
enum Sink {
    /// To the log of the proxy.
    Log { policy: Arc<str>, group: GroupLabel },
    /// To whoever tries the module by hand.
    Kept(Arc<KeptLines>),
    /// Nowhere: lines about servers that do not exist would mislead.
    Nowhere,
}

/// The first different lines of a module that is tried; the rest are dropped.
#[derive(Debug, Default)]
pub(super) struct KeptLines {
    /// Guards the lines.
    lines: Mutex<Vec<String>>,
}

/// A rate limit for lines of log: a token bucket that gains one token each second.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// When the bucket will be full again, in milliseconds: each line moves that by a second.
    full_at_ms: AtomicU64,
}

impl HostState {
    /// Before its first pick, an instance is shown the time and randomness of the system, or those that it is born with.
    pub(super) fn new(log: Arc<GuestLog>, memory_max: u64, birth: Option<Birth>) -> Self {
        let memory_left = usize::try_from(memory_max).unwrap_or(usize::MAX);
        Self {
            limits: Limits {
                memory_refused: None,
                memory_max: memory_left,
                memory_left,
                table_left: TABLE_ENTRIES_MAX,
            },
            memory: None,
            may_leave: true,
            log,
            servers: Arc::default(),
            index: ServerIndex::Row { first: 0, count: 0 },
            tried: Vec::new(),
            now_ms: birth.map_or_else(clock::coarse_ms, |birth| birth.now_ms),
            random: SplitMix64::new(birth.map_or_else(|| fastrand::u64(..), |birth| birth.seed)),
        }
    }

    /// From now on these are the servers.
    pub(super) fn set_servers(&mut self, servers: &Arc<ServerSet>) {
        self.index = ServerIndex::of(servers);
        self.servers = Arc::clone(servers);
    }

    /// From now on this is the request under way.
    pub(super) fn set_request(&mut self, tried: &[ServerId], now_ms: u64, random: u64) {
        // Nearly always nothing has been tried before.
        if !(tried.is_empty() && self.tried.is_empty()) {
            tried.clone_into(&mut self.tried);
        }
        (self.now_ms, self.random) = (now_ms, SplitMix64::new(random));
    }

    /// Where the server of this id is in the set.
    pub(super) fn index_of(&self, id: u32) -> Option<usize> {
        self.index.index_of(id)
    }

    /// Writes a line of the guest's, if it may write one now.
    pub(super) fn say(&self, level: types::LogLevel, message: &str) {
        self.log.say(level, message);
    }

    fn live(&self, id: u32) -> Option<&Live> {
        self.index_of(id).map(|index| &*self.servers.servers[index].live)
    }
}

impl ServerIndex {
    fn of(servers: &ServerSet) -> Self {
        let ids = || servers.servers.iter().map(|server| server.id.0);
        let first = ids().next().unwrap_or_default();
        if ids().zip(first..).all(|(id, next)| id == next) {
            return Self::Row { first, count: servers.servers.len() as u32 };
        }
        let mut places: Vec<_> = ids().zip(0..).collect();
        places.sort_unstable();
        Self::Sorted(places)
    }

    fn index_of(&self, id: u32) -> Option<usize> {
        match self {
            Self::Row { first, count } => {
                id.checked_sub(*first).filter(|index| index < count).map(|index| index as usize)
            }
            Self::Sorted(places) => {
                let place = places.binary_search_by_key(&id, |(id, _)| *id).ok()?;
                Some(places[place].1 as usize)
            }
        }
    }
}

impl types::Host for HostState {}

impl host::Host for HostState {
    fn active_connections(&mut self, server: u32) -> u32 {
        self.live(server).map_or(0, Live::sessions)
    }

    fn all_active_connections(&mut self) -> Vec<u32> {
        self.servers.servers.iter().map(|server| server.live.sessions()).collect()
    }

    fn connect_latency(&mut self, server: u32) -> u32 {
        self.live(server).map_or(0, Live::connect_latency_us)
    }

    fn already_tried(&mut self, server: u32) -> bool {
        self.tried.contains(&ServerId(server))
    }

    fn random_u64(&mut self) -> u64 {
        self.random.draw()
    }

    fn now_nanos(&mut self) -> u64 {
        self.now_ms * 1_000_000
    }

    fn log(&mut self, level: types::LogLevel, message: String) {
        self.say(level, &message);
    }
}

impl GuestLog {
    pub(super) fn new(policy: Arc<str>, group: GroupLabel) -> Self {
        Self { to: Sink::Log { policy, group }, rate_limit: RateLimit::default() }
    }

    /// A log whose lines are dropped.
    pub(super) fn silent() -> Self {
        Self { to: Sink::Nowhere, rate_limit: RateLimit::default() }
    }

    /// Where the first lines go that a module writes while it is tried on servers that do not exist: to whoever tries
    /// it by hand, or to a place of their own.
    pub(super) fn lines_of_trial(&self) -> Arc<KeptLines> {
        match &self.to {
            Sink::Kept(lines) => Arc::clone(lines),
            Sink::Log { .. } | Sink::Nowhere => Arc::default(),
        }
    }

    /// A log whose first lines are kept.
    pub(super) fn keeping(lines: &Arc<KeptLines>) -> Self {
        Self { to: Sink::Kept(Arc::clone(lines)), rate_limit: RateLimit::default() }
    }

    fn say(&self, level: types::LogLevel, message: &str) {
        let (policy, group) = match &self.to {
            Sink::Log { policy, group } if self.rate_limit.take(clock::coarse_ms()) => (policy.clone(), group.clone()),
            Sink::Log { .. } | Sink::Nowhere => return,
            Sink::Kept(kept) => return kept.add(level, message),
        };
        let level = match level {
            types::LogLevel::Error => Level::ERROR,
            types::LogLevel::Warn => Level::WARN,
            types::LogLevel::Info => Level::INFO,
            types::LogLevel::Debug => Level::DEBUG,
        };
        // A data thread is here, with the slot locked.
        events::publish_soon(Event::Policy(PolicyEvent::Says {
            level,
            policy,
            group,
            text: shortened(message).into(),
        }));
    }
}

impl KeptLines {
    /// What was said so far, with the level in front: `info: hello`.
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first that was said as an error.
    pub(super) fn first_error(&self) -> Option<String> {
        self.lines().iter().find_map(|line| Some(line.strip_prefix("error: ")?.to_owned()))
    }

    fn add(&self, level: types::LogLevel, message: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES_MAX as usize {
            let level = match level {
                types::LogLevel::Error => "error",
                types::LogLevel::Warn => "warn",
                types::LogLevel::Info => "info",
                types::LogLevel::Debug => "debug",
            };
            let line = format!("{level}: {}", shortened(message));
            // Each of the instances that are made of a module may say the same.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
}

impl RateLimit {
    /// True when a line may be written.
    pub(super) fn take(&self, now_ms: u64) -> bool {
        let take = |full_at_ms: u64| {
            let next = full_at_ms.max(now_ms) + 1_000;
            (next <= now_ms + LINES_MAX * 1_000).then_some(next)
        };
        self.full_at_ms.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

/// A guest's text as it may be shown: bounded, on one line.
pub(super) fn shortened(text: &str) -> String {
    text::one_line(text, TEXT_CHARS_MAX)
}

/// Memory and tables an instance may have, all of them together.
pub(super) struct Limits {
    /// The largest memory that was asked for and not granted, in bytes.
    pub(super) memory_refused: Option<usize>,
    pub(super) memory_max: usize,
    memory_left: usize,
    table_left: usize,
}

impl Limits {
    /// Bytes of memory that were given out.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_max - self.memory_left
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let is_granted = take(&mut self.memory_left, current, desired);
        if !is_granted {
            self.memory_refused = self.memory_refused.max(Some(desired));
        }
        Ok(is_granted)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(take(&mut self.table_left, current, desired))
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        8
    }

    fn memories(&self) -> usize {
        4
    }
}

fn take(left: &mut usize, current: usize, desired: usize) -> bool {
    match left.checked_sub(desired.saturating_sub(current)) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Origin, Server, ServerSettings};

    #[test]
    fn a_server_is_found_by_its_id_in_a_row_of_ids_and_out_of_order() {
        for ids in [vec![], vec![1], vec![4, 5, 6], vec![4, 6, 7], vec![5, 4], vec![9, 1, 5]] {
            let server = |id: &u32| Server {
                live: Arc::new(Live::new(Vec::new())),
                id: ServerId(*id),
                settings: ServerSettings::new("a:1".parse().unwrap(), Origin::File),
            };
            let servers = ids.iter().map(|id| Arc::new(server(id))).collect();
            let places = ServerIndex::of(&ServerSet { generation: 1, backup: false, servers });
            for id in (0..12).chain([u32::MAX]) {
                assert_eq!(places.index_of(id), ids.iter().position(|own| *own == id), "{id} in {ids:?}");
            }
        }
    }

    #[test]
    fn lines_come_in_a_burst_and_then_one_a_second() {
        let rate_limit = RateLimit::default();
        let written = |now_ms: u64| (0..100).filter(|_| rate_limit.take(now_ms)).count();
        assert_eq!((written(5_000), written(5_999), written(6_000), written(8_000)), (20, 0, 1, 2));
        assert_eq!(written(1_000_000), 20);
    }

    #[test]
    fn all_memories_of_an_instance_share_one_limit() {
        let log = Arc::new(GuestLog::new("wasm:x".into(), GroupLabel::new(1, None)));
        let mut limits = HostState::new(log, 100, None).limits;
        assert!(limits.memory_growing(0, 60, None).unwrap());
        assert!(!limits.memory_growing(0, 41, None).unwrap());
        assert!(limits.memory_growing(60, 100, None).unwrap());
        assert!(!limits.memory_growing(100, 101, None).unwrap());
    }
}
