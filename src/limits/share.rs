//! Whether nearly all clients of a group are one: then limits for each client limit the whole group.
//!
//! The first client of a period is watched. If it has nearly all sessions, it is the first one nearly always, so it is
//! found in one of the next periods at the latest.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// With fewer sessions there is nothing to be said.
const SESSIONS_MIN: u64 = 100;

/// Nearly all, in percent.
const SHARE_MIN: u64 = 90;

/// The share that one client has of a group's new sessions.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// The number of the client that is watched; 0 while there is none.
    watched: AtomicU64,
    sessions: AtomicU64,
    of_watched: AtomicU64,
}

impl Share {
    /// A client, whose number is not zero, has got a session.
    pub(super) fn count(&self, client: u64) {
        let mut watched = self.watched.load(Relaxed);
        if watched == 0 {
            self.watched.store(client, Relaxed);
            watched = client;
        }
        self.sessions.fetch_add(1, Relaxed);
        if watched == client {
            self.of_watched.fetch_add(1, Relaxed);
        }
    }

    /// True when one client had nearly all sessions since the last call.
    pub(super) fn take_is_one(&self) -> bool {
        self.watched.store(0, Relaxed);
        let (of_watched, sessions) = (self.of_watched.swap(0, Relaxed), self.sessions.swap(0, Relaxed));
        sessions >= SESSIONS_MIN && of_watched * 100 > sessions * SHARE_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_nearly_all_of_them_above_nine_tenths_and_of_not_too_few() {
        let is_one = |of_one: u64, of_others: u64| {
            let share = Share::default();
            (0..of_one).for_each(|_| share.count(7));
            (0..of_others).for_each(|number| share.count(100 + number));
            let is_one = share.take_is_one();
            assert!(!share.take_is_one(), "it begins anew");
            is_one
        };
        assert!(is_one(100, 0) && is_one(91, 9) && is_one(10_000, 1_000));
        assert!(!is_one(99, 0) && !is_one(90, 10) && !is_one(1, 1_000));
    }
}
