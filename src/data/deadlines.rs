//! When the sessions of one data thread have to be looked at although nothing happens to them.
//!
//! Most never have to: the thread looks at all of its sessions once a second, which is often enough for their
//! time-outs. Those that need it sooner or at an exact time (a connect under way, a short time-out) have a
//! deadline here. A session has one deadline at a time and keeps it itself; a deadline that has been replaced stays
//! here until it is reached, or until too many of them have gathered, and the session recognises that it is stale.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::data::poll::SessionKey;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// Deadlines that are kept without asking how many of them are stale.
const KEPT_MIN: usize = 64;

/// The deadlines of one thread's sessions, in milliseconds of the coarse clock.
#[derive(Debug, Default)]
pub(crate) struct Deadlines(BinaryHeap<Reverse<(u64, SessionKey)>>);

impl Deadlines {
    /// Remembers that a session is due at `at_ms`, or that it never is.
    pub(crate) fn push_unless_never(&mut self, at_ms: u64, session: SessionKey) {
        if at_ms != NEVER {
            self.0.push(Reverse((at_ms, session)));
        }
    }

    /// The first deadline; [`NEVER`] when there is none.
    pub(crate) fn first_ms(&self) -> u64 {
        self.0.peek().map_or(NEVER, |Reverse((at_ms, _))| *at_ms)
    }

    /// Takes the first deadline if it has been reached.
    pub(crate) fn take_reached(&mut self, now_ms: u64) -> Option<(u64, SessionKey)> {
        if self.first_ms() > now_ms {
            return None;
        }
        self.0.pop().map(|Reverse(deadline)| deadline)
    }

    /// True when most of the deadlines must be stale, as there are only so many sessions.
    pub(crate) fn are_mostly_stale(&self, sessions: usize) -> bool {
        self.0.len() > KEPT_MIN + 2 * sessions
    }

    /// Forgets the deadlines of which `is_current` says no.
    pub(crate) fn retain(&mut self, is_current: impl Fn(u64, SessionKey) -> bool) {
        self.0.retain(|Reverse((at_ms, session))| is_current(*at_ms, *session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_not_before_they_are_reached() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.first_ms(), NEVER);
        for at_ms in [30, 10, 20] {
            deadlines.push_unless_never(at_ms, SessionKey::new(at_ms as usize, 1));
        }
        assert_eq!(deadlines.first_ms(), 10);
        assert_eq!(deadlines.take_reached(9), None);
        assert_eq!(deadlines.take_reached(20), Some((10, SessionKey::new(10, 1))));
        assert_eq!(deadlines.take_reached(20), Some((20, SessionKey::new(20, 1))));
        assert_eq!(deadlines.take_reached(20), None);
        assert_eq!(deadlines.first_ms(), 30);
    }

    #[test]
    fn stale_deadlines_are_noticed_and_can_be_forgotten() {
        let mut deadlines = Deadlines::default();
        for at_ms in 0..100 {
            deadlines.push_unless_never(at_ms, SessionKey::new(0, at_ms));
        }
        assert!(deadlines.are_mostly_stale(1) && !deadlines.are_mostly_stale(100));
        deadlines.retain(|at_ms, _| at_ms == 99);
        assert!(!deadlines.are_mostly_stale(1));
        assert_eq!(deadlines.first_ms(), 99);
    }
}
