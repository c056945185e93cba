//! What the next process of an upgrade has to know of a lease.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Lease, Phase};
use crate::base::clock;

/// A lease. Times are spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::group) struct LeaseCarried {
    left_ms: u64,
    heard_ago_ms: u64,
    on_time_for_ms: u64,
    is_proven: bool,
    is_kept: bool,
    has_ended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<u32>,
}

impl Lease {
    /// What the next process has to know.
    pub(in crate::group) fn carry(&self, now_ms: u64) -> LeaseCarried {
        LeaseCarried {
            left_ms: self.left_ms(now_ms),
            heard_ago_ms: now_ms.saturating_sub(self.heard_ms),
            on_time_for_ms: now_ms.saturating_sub(self.on_time_since_ms),
            is_proven: self.is_proven,
            is_kept: self.phase == Phase::Kept,
            has_ended: self.phase == Phase::Ended,
            load: self.load,
        }
    }
}

impl LeaseCarried {
    /// The lease on the clock of this process.
    pub(in crate::group) fn lease(&self, now_ms: u64, timeout: Duration) -> Lease {
        Lease {
            // The time-out may be another now.
            until_ms: now_ms.saturating_add(self.left_ms.min(clock::as_ms(timeout))),
            heard_ms: now_ms.saturating_sub(self.heard_ago_ms),
            on_time_since_ms: now_ms.saturating_sub(self.on_time_for_ms),
            is_proven: self.is_proven,
            phase: match (self.has_ended, self.is_kept) {
                (true, _) => Phase::Ended,
                (false, true) => Phase::Kept,
                (false, false) => Phase::Running,
            },
            load: self.load,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    #[test]
    fn a_lease_lasts_as_long_as_it_had_left() {
        let first = Lease::new(1_000, TIMEOUT);
        let lease = Lease::renewed(Some(&first), 2_000, TIMEOUT, Some(7));
        let carried: LeaseCarried = serde_json::from_str(&serde_json::to_string(&lease.carry(5_000)).unwrap()).unwrap();
        let next = carried.lease(90_000, TIMEOUT);
        assert_eq!((next.left_ms(90_000), next.heard_ms(), next.on_time_since_ms), (1_000, 87_000, 86_000));
        assert!(next.is_live() && next.is_proven && !next.is_kept() && next.load == Some(7));
        assert!(!Lease::ended().carry(0).lease(90_000, TIMEOUT).is_live());
        assert!(Lease::kept().carry(0).lease(90_000, TIMEOUT).is_kept());
    }
}
