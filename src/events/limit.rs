//! How many lines of one kind the log takes, so that a flood of them does not fill a disk.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// So many lines a second, and how many were left out beyond that. Subscribers get everything.
#[derive(Debug)]
pub struct LineLimit {
    lines_max: u64,
    second: AtomicU64,
    lines: AtomicU64,
    left_out: AtomicU64,
}

impl LineLimit {
    /// At most `lines_max` lines a second.
    pub const fn new(lines_max: u64) -> Self {
        Self { lines_max, second: AtomicU64::new(0), lines: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// True when there is room for a line now, in milliseconds of any clock.
    pub fn has_room(&self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if self.second.swap(second, Relaxed) != second {
            self.lines.store(0, Relaxed);
        }
        let has_room = self.lines.fetch_add(1, Relaxed) < self.lines_max;
        if !has_room {
            self.left_out.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Lines that were left out since the last call.
    pub fn take_left_out(&self) -> u64 {
        self.left_out.swap(0, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_a_second_is_counted() {
        let limit = LineLimit::new(2);
        let room = [1_000, 1_500, 1_999, 1_999, 2_000].map(|now_ms| limit.has_room(now_ms));
        assert_eq!(room, [true, true, false, false, true]);
        assert_eq!((limit.take_left_out(), limit.take_left_out()), (2, 0));
    }
}
