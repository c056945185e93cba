//! Bytes that a peer does not acknowledge, while the other side of the session goes on sending.

/// How often a session is asked within its idle time-out.
const LOOKS_PER_TIMEOUT: u64 = 8;

/// The longest time between two looks, in seconds.
const PAUSE_MAX_S: u64 = 30;

/// What a peer has acknowledged, and since when that has not moved although more was sent. Two of these in each idle
/// session, so they are small: counts that wrap are compared only for being equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    acknowledged: u32,
    /// In seconds of the coarse clock; 0 while nothing waits.
    since_s: u32,
}

impl Progress {
    /// The seconds between two looks at a session with this time-out.
    pub(super) fn pause_s(timeout_ms: u64) -> u64 {
        (timeout_ms / 1_000 / LOOKS_PER_TIMEOUT).clamp(1, PAUSE_MAX_S)
    }

    /// True while something waited when it was looked at last.
    pub(super) fn is_waited_for(self) -> bool {
        self.since_s > 0
    }

    /// True when of `sent` bytes the last `waiting` were not acknowledged, and nothing was for `timeout_ms`.
    pub(super) fn is_stuck(&mut self, sent: u64, waiting: u32, now_ms: u64, timeout_ms: u64) -> bool {
        let (acknowledged, now_s) = ((sent as u32).wrapping_sub(waiting), (now_ms / 1_000) as u32);
        if waiting == 0 {
            *self = Self::default();
        } else if !self.is_waited_for() || self.acknowledged != acknowledged {
            *self = Self { acknowledged, since_s: now_s.max(1) };
        }
        self.is_waited_for() && u64::from(now_s.saturating_sub(self.since_s)) * 1_000 >= timeout_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_stuck_when_it_acknowledges_nothing_for_the_whole_time() {
        let mut progress = Progress::default();
        assert!(!progress.is_stuck(100, 40, 5_000, 3_000));
        assert!(!progress.is_stuck(200, 140, 7_000, 3_000), "more was sent, but nothing came of it");
        assert!(progress.is_stuck(200, 140, 8_000, 3_000));
        assert!(!progress.is_stuck(300, 239, 8_500, 3_000), "one byte begins it anew");
        assert!(!progress.is_stuck(300, 239, 10_000, 3_000) && progress.is_waited_for());
        assert!(!progress.is_stuck(300, 0, 20_000, 3_000) && !progress.is_waited_for(), "all has arrived");
        assert!(!progress.is_stuck(400, 100, 30_000, 3_000), "the time before does not count");
    }

    #[test]
    fn counts_wrap() {
        let mut progress = Progress::default();
        let sent = u64::from(u32::MAX) + 1;
        assert!(!progress.is_stuck(sent, 10, 1_000, 1_000) && progress.is_stuck(sent + 20, 30, 2_000, 1_000));
    }

    #[test]
    fn looks_are_a_second_apart_at_least_and_half_a_minute_at_most() {
        assert_eq!([0, 4_000, 60_000, 600_000].map(Progress::pause_s), [1, 1, 7, 30]);
    }
}
