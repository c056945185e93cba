//! What is known of a server's failures, for people.

use std::fmt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::base::clock;
use crate::base::text::one_line;

/// The longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 200;

/// The failures of a server since its last connect that succeeded. It is shown as
/// `connection refused, 14 times since 2026-11-30T19:24:03Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    why: String,
    failures: u64,
    since_ms: u64,
    since: SystemTime,
}

impl Outage {
    /// The outage so far and one more failure, at `now_ms` of the coarse clock.
    pub(super) fn more(before: Option<&Self>, why: &str, now_ms: u64) -> Self {
        let why = one_line(why, REASON_CHARS_MAX);
        match before {
            None => Self { why, failures: 1, since_ms: now_ms, since: SystemTime::now() },
            Some(before) => Self { why, failures: before.failures + 1, ..before.clone() },
        }
    }

    /// One that has lasted for `for_ms` already, in another process.
    pub(super) fn carried(why: &str, failures: u64, for_ms: u64, now_ms: u64) -> Self {
        let since = SystemTime::now().checked_sub(Duration::from_millis(for_ms)).unwrap_or(SystemTime::UNIX_EPOCH);
        let why = one_line(why, REASON_CHARS_MAX);
        Self { why, failures, since_ms: now_ms.saturating_sub(for_ms), since }
    }

    /// Failures so far.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Why the last connect failed.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// When the first connect failed, in milliseconds since 1970.
    pub fn since_ms(&self) -> u64 {
        self.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, clock::as_ms)
    }

    /// The time from the first failure.
    pub(super) fn lasted(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.since_ms))
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)?;
        if self.failures > 1 {
            let since = Timestamp::try_from(self.since).unwrap_or(Timestamp::UNIX_EPOCH);
            write!(f, ", {} times since {since:.0}", self.failures)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reason_is_told_with_the_number_and_the_start_of_the_failures() {
        let first = Outage::more(None, "connection refused", 0);
        assert_eq!(first.to_string(), "connection refused");
        let second = Outage { since: SystemTime::UNIX_EPOCH, ..first };
        let second = Outage::more(Some(&second), "no answer\nwithin 2s", 500);
        assert_eq!(second.to_string(), "no answer within 2s, 2 times since 1970-01-01T00:00:00Z");
        assert_eq!(second.lasted(1_500), Duration::from_millis(1_500));
    }
}
