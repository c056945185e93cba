//! The places for connections: how many there are, who has one, and who gives one up.
//!
//! Connections that are answered while more than half of the places are taken are closed with that answer, so those
//! that are kept idle are never more than half, and places become free all the time. When all are taken, a new
//! connection waits its turn. It waits for a moment only: whoever has sent no whole request for a second gives up its
//! place, and when no place becomes free by that, the kept connection that has been idle longest does. Its client may
//! be about to send the next request, so that is the last resort. A connection that is being answered keeps its place.
//! When all are being answered, a few spare places are left, in which only probes are answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

/// Places beyond the limit, for probes.
const SPARE: usize = 32;

/// A request needs less time to arrive, and so do most answers to be given: as long as this, a connection without a
/// request keeps its place, and a new one waits for a place.
const PATIENCE: Duration = Duration::from_secs(1);

/// All places of a listener.
pub(super) struct Places {
    max: usize,
    /// Guards who has a place and who may lose it; held for a look-up only.
    taken: Mutex<Taken>,
    /// Wakes a connection that waits, for each place that becomes free.
    freed: Notify,
    /// A new connection has waited in vain: the next ones need not.
    is_stuck: AtomicBool,
}

#[derive(Default)]
struct Taken {
    count: usize,
    /// The connections that may lose their places, the first one first.
    evictable: BTreeMap<Key, Waiting>,
    next: u64,
}

/// What a connection waits for decides who loses its place first, then the longer wait.
type Key = (Waits, u64);

/// A connection that may lose its place.
struct Waiting {
    since: Instant,
    evicted: CancellationToken,
}

/// For what a connection that may lose its place waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    /// The first byte of its first request.
    FirstRequest,
    /// The rest of a request's head.
    Head,
    /// The first byte of a further request: its client counts on the connection.
    NextRequest,
}

/// One connection's place; free again when this is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    key: Option<Key>,
    /// Cancelled when another connection gets the place.
    evicted: CancellationToken,
    is_spare: bool,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let (taken, freed, is_stuck) = Default::default();
        Arc::new(Self { max: max.max(1), taken, freed, is_stuck })
    }

    /// A place for a new connection, as soon as there is one; `None` when even the spare ones are taken. Dropping the
    /// future takes none.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Instant::now();
            if let Some(place) = self.take_now(now, Waits::Head) {
                self.is_stuck.store(false, Relaxed);
                return Some(place);
            }
            if now >= deadline || self.is_stuck.load(Relaxed) {
                self.is_stuck.store(true, Relaxed);
                return self.take_now(now, Waits::NextRequest).or_else(|| self.take_spare());
            }
            let evictable_at = self.taken().longest(Waits::Head).map(|(_, waiting)| waiting.since + PATIENCE).min();
            let until = evictable_at.map_or(deadline, |at| at.min(deadline));
            // Either way it looks again.
            let _ = timeout_at(until.into(), self.freed.notified()).await;
        }
    }

    /// A place that is free, or that of a connection that has waited long enough, for `last` or what goes before it.
    fn take_now(self: &Arc<Self>, now: Instant, last: Waits) -> Option<Place> {
        let mut taken = self.taken();
        let has_place = taken.count < self.max || taken.evict(last, now.checked_sub(PATIENCE));
        has_place.then(|| self.given(&mut taken, false))
    }

    fn take_spare(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        (taken.count < self.max + SPARE).then(|| self.given(&mut taken, true))
    }

    fn given(self: &Arc<Self>, taken: &mut Taken, is_spare: bool) -> Place {
        taken.count += 1;
        Place { places: Arc::clone(self), key: None, evicted: CancellationToken::new(), is_spare }
    }

    /// Has one connection close that is not being answered. False when there is none.
    pub(super) fn evict(&self) -> bool {
        self.taken().evict(Waits::NextRequest, Some(Instant::now()))
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
    /// Of each kind up to `last`, the connection that has waited longest.
    fn longest(&self, last: Waits) -> impl Iterator<Item = (&Key, &Waiting)> {
        let kinds =
            [Waits::FirstRequest, Waits::Head, Waits::NextRequest].into_iter().filter(move |kind| *kind <= last);
        kinds.filter_map(|kind| self.evictable.range((kind, 0)..=(kind, u64::MAX)).next())
    }

    /// Has a connection close that has waited since `before` or longer, for `last` or what goes before it.
    fn evict(&mut self, last: Waits, before: Option<Instant>) -> bool {
        let found = self.longest(last).find(|(_, waiting)| before.is_some_and(|before| waiting.since <= before));
        let Some(key) = found.map(|(key, _)| *key) else { return false };
        // Counts as gone at once, so that a burst of connections evicts one each.
        self.evictable.remove(&key).inspect(|waiting| waiting.evicted.cancel()).is_some()
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
        taken.evictable.insert(key, Waiting { since: Instant::now(), evicted: self.evicted.clone() });
        drop(taken);
        self.key = Some(key);
    }

    /// From now on a request is answered, and the place is kept.
    pub(super) fn is_busy(&mut self) {
        if let Some(key) = self.key.take() {
            self.places.taken().evictable.remove(&key);
        }
    }

    /// Cancelled when another connection gets the place.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
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
        let mut taken = self.places.taken();
        taken.count -= 1;
        if taken.count < self.places.max {
            self.places.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_evicted(place: &Place) -> bool {
        place.evicted().is_cancelled()
    }

    /// A place at a time when everybody who waits has waited long enough.
    fn later(places: &Arc<Places>, last: Waits) -> Option<Place> {
        places.take_now(Instant::now() + PATIENCE, last)
    }

    #[test]
    fn whoever_sends_no_request_makes_room_before_one_whose_client_counts_on_it_and_a_busy_one_never_does() {
        let places = Places::new(4);
        let [mut kept, mut late, mut silent, mut head] = [(); 4].map(|()| later(&places, Waits::Head).unwrap());
        kept.waits(Waits::NextRequest);
        head.waits(Waits::Head);
        silent.waits(Waits::FirstRequest);
        late.waits(Waits::FirstRequest);
        assert!(places.take_now(Instant::now(), Waits::NextRequest).is_none(), "requests may be on their way");
        let busy = later(&places, Waits::Head).unwrap();
        assert!(is_evicted(&silent) && !is_evicted(&late));
        drop(silent);
        late.is_busy();
        let also_busy = later(&places, Waits::Head).unwrap();
        assert!(is_evicted(&head) && !is_evicted(&kept));
        drop(head);
        assert!(later(&places, Waits::Head).is_none(), "the rest is busy or kept");
        let last = later(&places, Waits::NextRequest).unwrap();
        assert!(is_evicted(&kept));
        drop(kept);
        assert!(later(&places, Waits::NextRequest).is_none(), "the rest is busy");
        drop((busy, also_busy, last, late));
        assert!(!places.is_crowded());
    }

    #[tokio::test]
    async fn when_all_are_busy_a_few_spare_places_are_left_without_a_wait_for_each() {
        let places = Places::new(2);
        let busy = [places.take().await.unwrap(), places.take().await.unwrap()];
        let begun = Instant::now();
        let mut spare = Vec::new();
        while let Some(place) = places.take().await {
            spare.push(place);
        }
        assert!(spare.len() == SPARE && spare.iter().all(Place::is_spare));
        assert!(begun.elapsed() < 10 * PATIENCE, "{:?}", begun.elapsed());
        drop((busy, spare));
        assert!(!places.take().await.unwrap().is_spare());
        assert!(!places.is_stuck.load(Relaxed));
    }

    #[tokio::test]
    async fn a_new_connection_waits_for_one_that_is_about_to_leave() {
        let places = Places::new(1);
        let mut place = places.take().await.unwrap();
        place.waits(Waits::FirstRequest);
        place.is_busy();
        let (next, ()) = tokio::join!(places.take(), async { drop(place) });
        assert!(!next.unwrap().is_spare());
    }

    #[tokio::test]
    async fn more_than_half_is_a_crowd() {
        let places = Places::new(4);
        let two = [places.take().await.unwrap(), places.take().await.unwrap()];
        assert!(!places.is_crowded());
        let third = places.take().await;
        assert!(third.unwrap().is_crowded());
        assert!(!places.is_crowded());
        drop(two);
    }

    #[test]
    fn a_connection_that_is_evicted_while_its_request_arrives_stays_evicted() {
        let places = Places::new(1);
        let mut place = later(&places, Waits::Head).unwrap();
        place.waits(Waits::NextRequest);
        assert!(places.evict());
        place.waits(Waits::Head);
        assert!(is_evicted(&place));
        assert!(!places.evict(), "once");
    }
}
