//! What is counted while it happens and read when somebody asks.
//!
//! Plain atomics, fed by sessions, by `control` and by the host of modules, read by the metrics: whoever
//! counts knows nothing of how it is shown. The values need not agree with each other at any moment, so
//! every access is relaxed.
//! Counters live as long as their group or module, and vanish with it.

mod header;
mod histogram;
mod limit;
mod module;
mod tls;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::clock;
pub use header::HeaderResult;
pub use histogram::{BOUNDS, Bounds, CONNECT_BOUNDS, Histogram, PICK_BOUNDS, SESSION_BOUNDS, Unit};
pub use limit::Limit;
pub use module::{FaultKind, ModuleCounters};
pub use tls::{TlsCounters, TlsResult, TlsSide};

/// Why a session is over. Each session ends for exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// The client's end came first; all of it was passed on.
    ClientClosed,
    /// The server's end came first; all of it was passed on.
    ServerClosed,
    /// The client's connection broke.
    ClientReset,
    /// The server's connection broke.
    ServerReset,
    /// Neither side sent anything for `idle_timeout`.
    IdleTimeout,
    /// One side had finished and the other was silent for `half_close_timeout`.
    HalfCloseTimeout,
    /// It had reached its part of `max_session_age`.
    MaxAge,
    /// No server was open to this client: none is online, or all that are were full.
    NoServer,
    /// Every server that was tried refused or did not answer.
    ConnectFailed,
    /// The last server that was tried failed its TLS handshake; so or otherwise, every one that was tried failed.
    ServerTlsFailed,
    /// The policy named none of the servers it was shown, although one was open and untried.
    PolicyFailed,
    /// The client, the group or the process was over a limit of sessions or of new sessions.
    Limit,
    /// The client's address is denied, or is not among those that are allowed.
    Denied,
    /// The client is a connection of our own that has come through this group already.
    Loop,
    /// The client had to send a PROXY header and sent something else.
    BadHeader,
    /// The client took too long for its PROXY header.
    HeaderTimeout,
    /// What the client sent began as a TLS hello and is none.
    BadHello,
    /// The client took too long for its TLS hello.
    HelloTimeout,
    /// Clients like this one are routed nowhere.
    NoRoute,
    /// The client has asked for TLS, and its server has not granted it.
    StarttlsRefused,
    /// The client's TLS handshake has failed.
    TlsFailed,
    /// The client's TLS handshake took too long.
    HandshakeTimeout,
    /// An operator ended it, by itself or with its group. or closed its group with its sessions.
    Killed,
    /// Its server has gone, and the group or an operator wants the sessions of such a server ended.
    ServerDown,
    /// The drain lasted longer than `drain_timeout`.
    Drained,
    /// The process stopped without waiting for it.
    Shutdown,
}

impl EndReason {
    /// Every reason, in the order in which they count.
    pub const ALL: [Self; 26] = [
        Self::ClientClosed,
        Self::ServerClosed,
        Self::ClientReset,
        Self::ServerReset,
        Self::IdleTimeout,
        Self::HalfCloseTimeout,
        Self::MaxAge,
        Self::NoServer,
        Self::ConnectFailed,
        Self::ServerTlsFailed,
        Self::PolicyFailed,
        Self::Limit,
        Self::Denied,
        Self::Loop,
        Self::BadHeader,
        Self::HeaderTimeout,
        Self::BadHello,
        Self::HelloTimeout,
        Self::NoRoute,
        Self::StarttlsRefused,
        Self::TlsFailed,
        Self::HandshakeTimeout,
        Self::Killed,
        Self::ServerDown,
        Self::Drained,
        Self::Shutdown,
    ];

    /// The word in the log and in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ServerClosed => "server_closed",
            Self::ClientReset => "client_reset",
            Self::ServerReset => "server_reset",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfCloseTimeout => "half_close_timeout",
            Self::MaxAge => "max_age",
            Self::NoServer => "no_server",
            Self::ConnectFailed => "connect_failed",
            Self::ServerTlsFailed => "server_tls_failed",
            Self::PolicyFailed => "policy_failed",
            Self::Limit => "limit",
            Self::Denied => "denied",
            Self::Loop => "loop",
            Self::BadHeader => "bad_header",
            Self::HeaderTimeout => "header_timeout",
            Self::BadHello => "bad_hello",
            Self::HelloTimeout => "hello_timeout",
            Self::NoRoute => "no_route",
            Self::StarttlsRefused => "starttls_refused",
            Self::TlsFailed => "tls_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Killed => "killed",
            Self::ServerDown => "server_down",
            Self::Drained => "drained",
            Self::Shutdown => "shutdown",
        }
    }

    /// True when what is on its way to the client goes out before the session ends.
    pub fn delivers_first(self) -> bool {
        matches!(self, Self::ServerDown | Self::MaxAge)
    }

    /// True when the client was turned away: it never had a server.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::NoServer
                | Self::ConnectFailed
                | Self::ServerTlsFailed
                | Self::PolicyFailed
                | Self::Limit
                | Self::Denied
                | Self::Loop
                | Self::BadHeader
                | Self::HeaderTimeout
                | Self::BadHello
                | Self::HelloTimeout
                | Self::NoRoute
                | Self::StarttlsRefused
                | Self::TlsFailed
                | Self::HandshakeTimeout
        )
    }

    /// True when the client was not let in because of what it is or does: there may be very many of them.
    pub fn is_turned_away(self) -> bool {
        matches!(
            self,
            Self::Limit
                | Self::Denied
                | Self::BadHeader
                | Self::HeaderTimeout
                | Self::BadHello
                | Self::HelloTimeout
                | Self::NoRoute
        )
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the sessions of one group did. With a thousand groups it is in no near cache when a session comes, so what
/// each session counts stands together: one cache line here, and one of each histogram.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct GroupCounters {
    /// Sessions now.
    pub sessions_active: AtomicU64,
    /// Clients accepted.
    pub sessions_total: AtomicU64,
    /// By reason, those first that are no failure.
    ended: [AtomicU64; EndReason::ALL.len()],
    /// Bytes client → server.
    pub bytes_up: AtomicU64,
    /// Bytes server → client.
    pub bytes_down: AtomicU64,
    /// Attempts to connect to a server that failed.
    pub connect_errors: AtomicU64,
    /// Those of them for which this machine had no free port, or not the address to connect from.
    pub connects_without_port: AtomicU64,
    /// Attempts that followed a failed one.
    pub connect_retries: AtomicU64,
    /// How long the attempts took that succeeded, in microseconds.
    pub connect_time: Histogram,
    /// How long sessions lasted, in microseconds.
    pub session_time: Histogram,
    /// True while leases that ran out are kept, because too many did so at once.
    pub is_self_preserving: AtomicBool,
    /// True while the group tries servers that only checks or ejections keep out.
    pub is_fail_open: AtomicBool,
    /// It was said that plain connects get this proxy locked out by a server that speaks MySQL.
    pub is_said_mysql: AtomicBool,
    /// PROXY headers that were expected, by result.
    headers: [AtomicU64; HeaderResult::ALL.len()],
    /// Clients whose PROXY header is waited for now.
    pub headers_awaited: AtomicU64,
    /// Clients whose TLS hello is waited for now.
    pub hellos_awaited: AtomicU64,
    /// Clients whose TLS handshake is waited for now.
    pub handshakes_awaited: AtomicU64,
    /// Clients that were given to other groups.
    pub sessions_routed: AtomicU64,
    /// Clients that ended a TLS connection without saying so.
    pub tls_truncated: AtomicU64,
    /// The TLS handshakes with each side, once there are some.
    tls: [OnceLock<Box<TlsCounters>>; 2],
    /// By limit.
    limited: [AtomicU64; Limit::ALL.len()],
}

impl GroupCounters {
    /// Counts a PROXY header that was expected.
    pub fn header_ended(&self, result: HeaderResult) {
        self.headers[result as usize].fetch_add(1, Relaxed);
    }

    /// PROXY headers of which this became.
    pub fn headers(&self, result: HeaderResult) -> u64 {
        self.headers[result as usize].load(Relaxed)
    }

    /// Counts the end of a session that lasted `elapsed_us`.
    pub fn session_ended(&self, reason: EndReason, elapsed_us: u64) {
        self.ended[reason as usize].fetch_add(1, Relaxed);
        self.session_time.observe(elapsed_us);
    }

    /// The TLS handshakes with this side.
    pub fn tls(&self, side: TlsSide) -> &TlsCounters {
        self.tls[side as usize].get_or_init(Box::default)
    }

    /// Counts a client that was over a limit.
    pub fn client_limited(&self, limit: Limit) {
        self.limited[limit as usize].fetch_add(1, Relaxed);
    }

    /// Clients that were over this limit.
    pub fn limited(&self, limit: Limit) -> u64 {
        self.limited[limit as usize].load(Relaxed)
    }

    /// Clients that were turned away without a server.
    pub fn refused(&self) -> u64 {
        EndReason::ALL.into_iter().filter(|reason| reason.is_refusal()).map(|reason| self.ended(reason)).sum()
    }

    /// Sessions that ended for this reason.
    pub fn ended(&self, reason: EndReason) -> u64 {
        self.ended[reason as usize].load(Relaxed)
    }
}

impl Default for GroupCounters {
    fn default() -> Self {
        Self {
            sessions_active: AtomicU64::default(),
            sessions_total: AtomicU64::default(),
            ended: Default::default(),
            bytes_up: AtomicU64::default(),
            bytes_down: AtomicU64::default(),
            connect_errors: AtomicU64::default(),
            connects_without_port: AtomicU64::default(),
            connect_retries: AtomicU64::default(),
            connect_time: Histogram::new(&CONNECT_BOUNDS),
            session_time: Histogram::new(&SESSION_BOUNDS),
            is_self_preserving: AtomicBool::default(),
            is_fail_open: AtomicBool::default(),
            is_said_mysql: AtomicBool::default(),
            headers: Default::default(),
            headers_awaited: AtomicU64::default(),
            hellos_awaited: AtomicU64::default(),
            handshakes_awaited: AtomicU64::default(),
            sessions_routed: AtomicU64::default(),
            tls_truncated: AtomicU64::default(),
            tls: Default::default(),
            limited: Default::default(),
        }
    }
}

/// What is counted once per process.
#[derive(Debug, Default)]
pub struct ProcessCounters {
    reloads: AtomicU64,
    reload_errors: AtomicU64,
    is_last_reload_good: AtomicBool,
    /// Guards why the last reload changed nothing; `None` when it went well.
    last_reload_error: Mutex<Option<Arc<str>>>,
    reload_good_ms: AtomicU64,
    config_generation: AtomicU64,
    /// How many processes have taken over from each other, this one included.
    pub process_generation: AtomicU64,
    /// The checks of servers.
    pub checks: CheckCounters,
}

/// How the checks of servers are going, of all groups together.
#[derive(Debug, Default)]
pub struct CheckCounters {
    /// Checks under way.
    pub in_flight: AtomicU64,
    /// How much too late the last one began, in microseconds.
    pub late_us: AtomicU64,
    /// Checks that had to wait for a place.
    pub delayed: AtomicU64,
}

impl ProcessCounters {
    /// The configuration of this generation is in force from now on; the first one counts, too.
    pub fn reload_succeeded(&self, generation: u64) {
        self.reloads.fetch_add(1, Relaxed);
        self.is_last_reload_good.store(true, Relaxed);
        self.set_reload_error(None);
        self.config_generation.store(generation, Relaxed);
        self.reload_good_ms.store(clock::wall_ms(), Relaxed);
    }

    /// The file could not be read or applied, for this reason; what ran before still runs.
    pub fn reload_failed(&self, why: &str) {
        self.reloads.fetch_add(1, Relaxed);
        self.reload_errors.fetch_add(1, Relaxed);
        self.is_last_reload_good.store(false, Relaxed);
        self.set_reload_error(Some(why.into()));
    }

    fn set_reload_error(&self, error: Option<Arc<str>>) {
        *self.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// Why the last reload changed nothing; `None` when it went well.
    pub fn last_reload_error(&self) -> Option<Arc<str>> {
        self.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reloads, good or not.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Relaxed)
    }

    /// Reloads that changed nothing because something was wrong.
    pub fn reload_errors(&self) -> u64 {
        self.reload_errors.load(Relaxed)
    }

    /// True when the last reload went well.
    pub fn is_last_reload_good(&self) -> bool {
        self.is_last_reload_good.load(Relaxed)
    }

    /// When the configuration in force was loaded, in milliseconds since 1970; 0 before the first.
    pub fn reload_good_ms(&self) -> u64 {
        self.reload_good_ms.load(Relaxed)
    }

    /// Grows with every configuration that was put in force.
    pub fn config_generation(&self) -> u64 {
        self.config_generation.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn each_reason_counts_for_itself_and_has_a_word_of_its_own() {
        let counters = GroupCounters::default();
        let mut words = std::collections::BTreeSet::new();
        for (index, reason) in EndReason::ALL.into_iter().enumerate() {
            for _ in 0..=index {
                counters.session_ended(reason, 1);
            }
            words.insert(reason.as_str());
        }
        for (index, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(counters.ended(reason), index as u64 + 1, "{reason}");
        }
        assert_eq!(words.len(), EndReason::ALL.len());
    }

    /// With a thousand groups, each cache line more is one that has to be fetched from far away, for each session.
    #[test]
    fn what_each_session_counts_stands_on_three_cache_lines() {
        const LINE: usize = 64;
        let last_end = offset_of!(GroupCounters, ended) + size_of::<AtomicU64>() * EndReason::ServerReset as usize;
        for offset in [offset_of!(GroupCounters, sessions_active), offset_of!(GroupCounters, sessions_total), last_end]
        {
            assert!(offset < LINE, "{offset}");
        }
        for offset in [offset_of!(GroupCounters, connect_time), offset_of!(GroupCounters, session_time)] {
            assert_eq!((offset % LINE, align_of::<GroupCounters>() % LINE), (0, 0));
        }
    }

    #[test]
    fn a_failed_reload_keeps_the_generation_and_the_time_of_the_last_good_one() {
        let process = ProcessCounters::default();
        process.reload_succeeded(7);
        let loaded = process.reload_good_ms();
        assert!(process.is_last_reload_good() && loaded > 0);
        process.reload_failed("a mistake");
        assert!(!process.is_last_reload_good());
        assert_eq!(process.last_reload_error().as_deref(), Some("a mistake"));
        assert_eq!((process.config_generation(), process.reload_good_ms()), (7, loaded));
        assert_eq!((process.reloads(), process.reload_errors()), (2, 1));
        process.reload_succeeded(8);
        assert_eq!(process.last_reload_error(), None);
    }
}
