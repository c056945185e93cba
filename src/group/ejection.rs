//! When a server is ejected, and for how long.

use std::time::Duration;

use crate::base::clock;
use crate::server::Ejection;

/// When a server is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectSettings {
    /// After so many faults in a row: connects that failed, sessions that the server reset before a byte came.
    pub failures: u32,
    /// For so long, the first time; each further time doubles it.
    pub time: Duration,
    /// The longest time. It is halved again for each such time without an ejection.
    pub max_time: Duration,
    /// At most so many percent of the group's servers at a time, rounded down.
    pub max_percent: u32,
}

impl EjectSettings {
    /// What follows on the ejections so far, at `now_ms`.
    pub(super) fn next(&self, before: &Ejection, now_ms: u64) -> Ejection {
        let max_ms = clock::as_ms(self.max_time).max(1);
        let doublings = match before.until_ms {
            0 => 0,
            ended_ms => {
                let forgotten = now_ms.saturating_sub(ended_ms) / max_ms;
                (before.doublings + 1).saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
            }
        };
        let time_ms =
            clock::as_ms(self.time).saturating_mul(1_u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(max_ms);
        let count = before.count + 1;
        Ejection { until_ms: now_ms + time_ms, doublings: doublings.min(32), count, ..before.clone() }
    }
}

/// What led to an ejection, for people.
pub(super) fn faults_text(ejection: &Ejection) -> String {
    format!("{} faults in a row, the last: {}", ejection.faults, ejection.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EJECT: EjectSettings = EjectSettings {
        failures: 3,
        time: Duration::from_secs(10),
        max_time: Duration::from_secs(60),
        max_percent: 50,
    };

    #[test]
    fn the_time_doubles_with_each_ejection_and_is_halved_while_there_is_none() {
        let mut ejection = Ejection::default();
        let mut now_ms = 1_000;
        let mut times = Vec::new();
        for _ in 0..5 {
            ejection = EJECT.next(&ejection, now_ms);
            times.push((ejection.until_ms - now_ms) / 1_000);
            now_ms = ejection.until_ms + 1_000;
        }
        assert_eq!(times, [10, 20, 40, 60, 60]);
        now_ms = ejection.until_ms + 3 * 60_000;
        ejection = EJECT.next(&ejection, now_ms);
        assert_eq!((ejection.until_ms - now_ms) / 1_000, 40, "four doublings, one more, three forgotten");
        assert_eq!(EJECT.next(&ejection, ejection.until_ms + 3_600_000).doublings, 0);
    }
}
