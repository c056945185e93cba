//! What is counted of TLS handshakes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::histogram::{CONNECT_BOUNDS, Histogram};

/// With whom hands are shaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsSide {
    /// With clients.
    Client,
    /// With servers.
    Server,
}

impl TlsSide {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The word in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What became of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsResult {
    /// It is over, with version 1.2.
    Tls12,
    /// The same with version 1.3.
    Tls13,
    /// It has failed.
    Failed,
    /// It took too long.
    Timeout,
}

impl TlsResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tls12, Self::Tls13, Self::Failed, Self::Timeout];

    /// The version and the result in the metrics.
    pub fn as_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Tls12 => ("1.2", "ok"),
            Self::Tls13 => ("1.3", "ok"),
            Self::Failed => ("", "failed"),
            Self::Timeout => ("", "timeout"),
        }
    }
}

/// The handshakes with one side.
#[derive(Debug)]
pub struct TlsCounters {
    results: [AtomicU64; TlsResult::ALL.len()],
    /// Of those that are over, those that went on from an earlier one.
    pub resumed: AtomicU64,
    /// How long those took that are over, in microseconds.
    pub time: Histogram,
}

impl Default for TlsCounters {
    fn default() -> Self {
        Self { results: Default::default(), resumed: AtomicU64::default(), time: Histogram::new(&CONNECT_BOUNDS) }
    }
}

impl TlsCounters {
    /// Counts a handshake.
    pub fn ended(&self, result: TlsResult) {
        self.results[result as usize].fetch_add(1, Relaxed);
    }

    /// Handshakes of which this became.
    pub fn count(&self, result: TlsResult) -> u64 {
        self.results[result as usize].load(Relaxed)
    }
}
