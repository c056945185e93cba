//! The live figures of a server, in atomics that all threads share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::itself;
use crate::base::clock;

/// How long a server stays suspect after its first failure to answer a connect.
pub const SUSPECT_FIRST: Duration = Duration::from_secs(1);

/// The longest it stays suspect; each further failure in a row doubles the time up to this.
pub const SUSPECT_MAX: Duration = Duration::from_secs(30);

/// A connect time counts half when none has been measured for this long.
const LATENCY_HALVED: Duration = Duration::from_secs(10);

/// How many periods of [`LATENCY_HALVED`] one clock may run ahead of another.
const CLOCK_AHEAD: u16 = 8_192;

/// Counts, suspicion and addresses of one backend.
///
/// No value here has to be consistent with another, so every access is relaxed.
#[derive(Debug)]
pub struct Live {
    sessions: AtomicU32,
    sessions_total: AtomicU64,
    connect_errors: AtomicU64,
    connect_latency_us: AtomicU32,
    /// When that was measured last, in periods of [`LATENCY_HALVED`]; the low bits of the count.
    measured_at: AtomicU16,
    failures_in_a_row: AtomicU16,
    suspect_until_ms: AtomicU64,
    addresses: ArcSwap<Vec<SocketAddr>>,
    preferred: AtomicU16,
    /// A connect to one of the addresses may connect a socket to itself.
    may_meet_itself: AtomicBool,
    /// One of the addresses is this machine's own.
    is_here: AtomicBool,
}

impl Live {
    /// A server without any connect so far. `addresses` is empty for a name that is not resolved yet.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            sessions: AtomicU32::new(0),
            sessions_total: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            connect_latency_us: AtomicU32::new(0),
            measured_at: AtomicU16::new(0),
            failures_in_a_row: AtomicU16::new(0),
            suspect_until_ms: AtomicU64::new(0),
            may_meet_itself: AtomicBool::new(itself::may_be_met(&addresses)),
            is_here: AtomicBool::new(itself::is_here(&addresses)),
            addresses: ArcSwap::from_pointee(addresses),
            preferred: AtomicU16::new(0),
        }
    }

    /// Sessions that are connected to it or are connecting.
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Relaxed)
    }

    /// Takes a place unless `max` (0: no limit) are taken; give it back with [`Live::release`].
    pub fn try_acquire(&self, max: u32) -> bool {
        if max == 0 {
            self.sessions.fetch_add(1, Relaxed);
            return true;
        }
        self.sessions.fetch_update(Relaxed, Relaxed, |held| (held < max).then_some(held + 1)).is_ok()
    }

    /// Gives back the place of one [`Live::try_acquire`].
    pub fn release(&self) {
        self.sessions.fetch_sub(1, Relaxed);
    }

    /// Sessions that ever reached it.
    pub fn sessions_total(&self) -> u64 {
        self.sessions_total.load(Relaxed)
    }

    /// Connects that failed.
    pub fn connect_errors(&self) -> u64 {
        self.connect_errors.load(Relaxed)
    }

    /// Smoothed time to connect in microseconds (a new one counts an eighth, as TCP's own round-trip
    /// estimate in RFC 6298); 0 when not yet known.
    pub fn connect_latency_us(&self) -> u32 {
        self.connect_latency_us.load(Relaxed)
    }

    /// The same, halved for each ten seconds since it was measured, because old times say little. 0 when not known, or
    /// too old.
    pub fn recent_connect_latency_us(&self, now_ms: u64) -> u32 {
        let age = period(now_ms).wrapping_sub(self.measured_at.load(Relaxed));
        // Measured a moment after `now_ms` was read, or on a clock that runs ahead.
        let halvings = if age > u16::MAX - CLOCK_AHEAD { 0 } else { u32::from(age) };
        self.connect_latency_us().checked_shr(halvings).unwrap_or(0)
    }

    /// A connect succeeded after `micros`, at `now_ms` of the coarse clock: no longer suspect.
    pub fn connected(&self, micros: u64, now_ms: u64) {
        let sample = u32::try_from(micros).unwrap_or(u32::MAX).max(1);
        let old = self.recent_connect_latency_us(now_ms);
        self.measured_at.store(period(now_ms), Relaxed);
        let new = if old == 0 { sample } else { (u64::from(old) * 7 / 8 + u64::from(sample) / 8) as u32 };
        self.connect_latency_us.store(new.max(1), Relaxed);
        self.sessions_total.fetch_add(1, Relaxed);
        self.answered();
    }

    /// It answered a connect, of a session or of the proxy: no longer suspect.
    pub fn answered(&self) {
        if self.failures_in_a_row.load(Relaxed) != 0 {
            self.failures_in_a_row.store(0, Relaxed);
            self.suspect_until_ms.store(0, Relaxed);
        }
    }

    /// A connect failed: suspect for [`SUSPECT_FIRST`], doubling to [`SUSPECT_MAX`].
    ///
    /// A burst of failures counts as one: a session that started before the first failure was known does not double the
    /// time. Returns true when this call made the server suspect.
    pub fn connect_failed(&self, now_ms: u64) -> bool {
        self.connect_errors.fetch_add(1, Relaxed);
        if self.is_suspect(now_ms) {
            return false;
        }
        let count = |failures: u16| Some(failures.saturating_add(1));
        let before =
            self.failures_in_a_row.fetch_update(Relaxed, Relaxed, count).unwrap_or_else(|failures| failures).min(16);
        let time = clock::as_ms(SUSPECT_FIRST).saturating_mul(1 << before).min(clock::as_ms(SUSPECT_MAX));
        self.suspect_until_ms.store(now_ms + time, Relaxed);
        true
    }

    /// True when the last connect failed.
    pub fn last_connect_failed(&self) -> bool {
        self.failures_in_a_row.load(Relaxed) != 0
    }

    /// True when it recently failed to answer a connect.
    pub fn is_suspect(&self, now_ms: u64) -> bool {
        now_ms < self.suspect_until_ms.load(Relaxed)
    }

    /// Where to connect to, the address that answered last time first; empty for a name that has
    /// never been resolved.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// True when one of its addresses is this machine's own.
    pub fn is_here(&self) -> bool {
        self.is_here.load(Relaxed)
    }

    /// True when a connect has to be checked, because it may have connected a socket to itself; see `itself`.
    pub fn may_meet_itself(&self) -> bool {
        self.may_meet_itself.load(Relaxed)
    }

    /// The index within [`Live::addresses`] of the one that answered last.
    pub fn preferred(&self) -> usize {
        self.preferred.load(Relaxed).into()
    }

    /// Remembers which of the addresses answered.
    pub fn prefer(&self, index: usize) {
        if self.preferred() != index {
            self.preferred.store(u16::try_from(index).unwrap_or(0), Relaxed);
        }
    }

    /// Takes the addresses a name resolves to now.
    pub fn resolved(&self, addresses: Vec<SocketAddr>) {
        if **self.addresses.load() != addresses {
            self.may_meet_itself.store(itself::may_be_met(&addresses), Relaxed);
            self.is_here.store(itself::is_here(&addresses), Relaxed);
            self.addresses.store(Arc::new(addresses));
            self.preferred.store(0, Relaxed);
        }
    }
}

/// The low bits of the number of the current period of [`LATENCY_HALVED`]; they repeat after a week.
fn period(now_ms: u64) -> u16 {
    (now_ms / clock::as_ms(LATENCY_HALVED)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_doubles_to_its_bound_and_a_success_clears_it() {
        let live = Live::new(Vec::new());
        let mut now = 1_000;
        let mut times = Vec::new();
        for _ in 0..8 {
            assert!(live.connect_failed(now));
            assert!(!live.connect_failed(now), "a second failure of the same burst");
            let start = now;
            while live.is_suspect(now) {
                now += 500;
            }
            times.push((now - start) / 1_000);
        }
        assert_eq!(times, [1, 2, 4, 8, 16, 30, 30, 30]);
        live.connect_failed(now);
        live.connected(10, now);
        assert!(!live.is_suspect(now));
        live.connect_failed(now);
        assert!(!live.is_suspect(now + 1_000));
    }

    #[test]
    fn a_limit_of_sessions_is_exact() {
        let live = Live::new(Vec::new());
        assert!(live.try_acquire(2) && live.try_acquire(2) && !live.try_acquire(2));
        live.release();
        assert!(live.try_acquire(2));
        assert!(live.try_acquire(0), "0 means no limit");
        assert_eq!(live.sessions(), 3);
    }

    #[test]
    fn connect_latency_follows_slowly() {
        let live = Live::new(Vec::new());
        live.connected(800, 0);
        assert_eq!(live.connect_latency_us(), 800);
        live.connected(1_600, 0);
        assert_eq!(live.connect_latency_us(), 900);
    }
}
