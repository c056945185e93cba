//! What is due when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use tokio::time::Instant;

/// Keys in the order in which they are due. One that is planned anew stays where it was, too; whoever takes it sees that
/// this is not its time any more.
#[derive(Debug)]
pub(super) struct Plan<K>(BinaryHeap<Reverse<(Instant, K)>>);

impl<K: Ord> Plan<K> {
    pub(super) fn new() -> Self {
        Self(BinaryHeap::new())
    }

    pub(super) fn add(&mut self, due: Instant, key: K) {
        self.0.push(Reverse((due, key)));
    }

    /// When the first key is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// The first key that is due by now, and since when.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.first()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(planned)| planned)
    }
}
