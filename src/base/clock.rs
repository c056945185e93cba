//! One cheap monotonic clock for the data path, and the form in which times of day are shown.
//!
//! The kernel's coarse clock costs a few nanoseconds and no system call; it advances every 1–4 ms,
//! which is finer than any time-out of a session. All functions but [`wall_ms`] and [`stamp`] count from the same
//! arbitrary start, so their answers may be compared with each other but mean nothing outside this process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since an arbitrary start, 1–4 ms behind at most. Never goes back.
pub fn coarse_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1_000 + now.tv_nsec as u64 / 1_000_000
}

/// Microseconds since the same start, exact. For measuring how long a connect took.
pub fn precise_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000
}

/// Nanoseconds since the same start, exact. For measuring what takes less than a microsecond.
pub fn precise_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The time of day in milliseconds since 1970, which may jump: to be shown only.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, as_ms)
}

/// `duration` in whole milliseconds, saturating: the unit of [`coarse_ms`].
pub fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A time of day as the log and the events show it: RFC 3339 in UTC with milliseconds.
pub fn stamp(at: SystemTime) -> String {
    let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}
