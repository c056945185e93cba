//! The places for connections: how many there are, who has one, and who gives one up.
//!
//! When all are taken, a new connection gets the place of the one that has been idle longest, or, when none is
//! idle, of the one whose request head has been incomplete longest. A connection that is being answered keeps
//! its place. When all are being answered, a few spare places are left, in which only probes are answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Places beyond the limit, for probes.
const SPARE: usize = 32;

/// All places of a listener.
pub(super) struct Places {
    max: usize,
    /// Guards who has a place and who may lose it; held for a look-up only.
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    count: usize,
    /// The connections that may lose their places, the first one first.
    evictable: BTreeMap<Key, Arc<Notify>>,
    next: u64,
}

/// Idle connections go before those that have begun to send a head; then the longer wait decides.
type Key = (Waits, u64);

/// For what a connection that may lose its place waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    /// The first byte of a request.
    Request,
    /// The rest of a request's head.
    Head,
}

/// One connection's place; free again when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    key: Option<Key>,
    evicted: Arc<Notify>,
    is_spare: bool,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), taken: Mutex::default() })
    }

    /// A place for a new connection, which another one may have to leave; `None` when even the spare ones are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        let is_full = taken.count >= self.max;
        let is_spare = is_full && !taken.evict();
        if is_spare && taken.count >= self.max + SPARE {
            return None;
        }
        taken.count += 1;
        drop(taken);
        Some(Place { places: Arc::clone(self), key: None, evicted: Arc::default(), is_spare })
    }

    /// Has one connection close that is not being answered. False when there is none.
    pub(super) fn evict(&self) -> bool {
        self.taken().evict()
    }

    /// True while more than half of the places are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.taken().count > self.max / 2
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn evict(&mut self) -> bool {
        let Some((_, evicted)) = self.evictable.pop_first() else { return false };
        // Counts as gone at once, so that a burst of connections evicts one each.
        evicted.notify_one();
        true
    }
}

impl Place {
    /// From now on the connection waits, and may lose its place.
    pub(super) fn waits(&mut self, what: Waits) {
        let mut taken = self.places.taken();
        if let Some(key) = self.key.take() {
            // Evicted in between: stays so.
            if taken.evictable.remove(&key).is_none() {
                return;
            }
        }
        let key = (what, taken.next);
        taken.next += 1;
        taken.evictable.insert(key, Arc::clone(&self.evicted));
        drop(taken);
        self.key = Some(key);
    }

    /// From now on a request is answered, and the place is kept.
    pub(super) fn is_busy(&mut self) {
        if let Some(key) = self.key.take() {
            self.places.taken().evictable.remove(&key);
        }
    }

    /// Completes when another connection gets the place.
    pub(super) fn evicted(&self) -> Arc<Notify> {
        Arc::clone(&self.evicted)
    }

    /// True when only probes may be answered here.
    pub(super) fn is_spare(&self) -> bool {
        self.is_spare
    }

    /// True while more than half of the places are taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.is_spare || self.places.is_crowded()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_busy();
        self.places.taken().count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(place: &Place) -> bool {
        let evicted = place.evicted();
        let notified = std::pin::pin!(evicted.notified());
        notified.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn the_one_that_is_idle_longest_makes_room_and_a_busy_one_never() {
        let places = Places::new(3);
        let [mut a, mut b, mut c] = [(); 3].map(|()| places.take().unwrap());
        b.waits(Waits::Request);
        c.waits(Waits::Request);
        a.waits(Waits::Head);
        b.is_busy();
        b.waits(Waits::Request);
        let d = places.take().unwrap();
        assert!(!d.is_spare() && is_evicted(&c) && !is_evicted(&b) && !is_evicted(&a));
        drop(c);
        let e = places.take().unwrap();
        assert!(!e.is_spare() && is_evicted(&b) && !is_evicted(&a));
        drop(b);
        let f = places.take().unwrap();
        assert!(!f.is_spare() && is_evicted(&a), "an incomplete head comes last");
        drop(a);
        let spare: Vec<Place> = std::iter::from_fn(|| places.take()).collect();
        assert_eq!(spare.len(), SPARE, "the rest is busy");
        assert!(spare.iter().all(Place::is_spare));
        drop((d, e, f, spare));
        assert!(!places.take().unwrap().is_spare() && !places.is_crowded());
    }

    #[test]
    fn more_than_half_is_a_crowd() {
        let places = Places::new(4);
        let two: Vec<Place> = (0..2).map(|_| places.take().unwrap()).collect();
        assert!(!places.is_crowded());
        let third = places.take();
        assert!(third.unwrap().is_crowded());
        assert!(!places.is_crowded());
        drop(two);
    }

    #[test]
    fn a_connection_that_is_evicted_while_its_request_arrives_stays_evicted() {
        let places = Places::new(1);
        let mut place = places.take().unwrap();
        place.waits(Waits::Request);
        assert!(places.evict());
        place.waits(Waits::Head);
        assert!(is_evicted(&place));
        assert!(!places.evict(), "once");
    }
}
