//! Looking names up without waiting for those that hang.
//!
//! A lookup of the system cannot be cut short: it holds a thread for as long as the resolver likes, which is half a
//! minute when a name server is silent. So lookups have many places ([`LOOKUPS_MAX`]), of which few may be taken by
//! lookups that have just begun ([`FRESH_MAX`]) and not many by names that took long the last time
//! ([`SLOW_MAX`]); whatever hangs soon stands in nobody's way. There is one lookup of a name at a time, however many
//! ask for it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Lookups at a time, one thread each. Tokio has twice as many threads for all that blocks.
const LOOKUPS_MAX: usize = 256;

/// Of these, places that only first heartbeats may take: somebody waits for the answer.
const RESERVED: usize = 64;

/// Lookups at a time that have been under way for less than [`FRESH`].
const FRESH_MAX: usize = 32;

/// Most lookups are over in this time.
pub(super) const FRESH: Duration = Duration::from_millis(250);

/// Lookups at a time of names that took longer than [`FRESH`] the last time.
const SLOW_MAX: usize = 64;

/// How often somebody who waits for a place asks again: one becomes free also because time passes, see [`FRESH`].
pub(super) const PLACE_PAUSE: Duration = Duration::from_millis(50);

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The first heartbeat of a server.
    Registration,
    /// The list of names, about one that answers fast or is new.
    Known,
    /// The list of names, about one that took long the last time.
    Slow,
}

/// What a name resolves to, in the order of preference and without doubles, or why it does not.
pub(super) type Answer = Result<Vec<IpAddr>, String>;

type Resolve = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// All lookups of the process. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lookups {
    resolve: Arc<Resolve>,
    under_way: Arc<Mutex<HashMap<String, UnderWay>>>,
}

struct UnderWay {
    /// Of one lookup, for all who wait for it.
    answer: watch::Receiver<Option<Answer>>,
    since: Instant,
    lane: Lane,
}

/// How many lookups are under way.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    all: usize,
    fresh: usize,
    slow: usize,
}

/// A lookup that is under way.
#[derive(Debug)]
pub(super) struct Pending(watch::Receiver<Option<Answer>>);

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

impl Lookups {
    /// Names are resolved the way every program of this machine does it.
    pub(super) fn system() -> Self {
        Self::new(|host| {
            let addrs = (host, 0).to_socket_addrs()?;
            let mut seen = HashSet::new();
            Ok(addrs.map(|addr| addr.ip()).filter(|ip| seen.insert(*ip)).collect())
        })
    }

    /// Names are resolved by `resolve`, which may block.
    pub(super) fn new(resolve: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        Self { resolve: Arc::new(resolve), under_way: Arc::default() }
    }

    /// Joins the lookup of `host` that is under way, or starts one; `None` when there is no place for it now.
    pub(super) fn start(&self, host: &str, lane: Lane) -> Option<Pending> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = under_way.get(host) {
            return Some(Pending(lookup.answer.clone()));
        }
        let since = Instant::now();
        if !Load::of(&under_way, since).admits(lane) {
            return None;
        }
        let (told, answer) = watch::channel(None);
        under_way.insert(host.to_owned(), UnderWay { answer: answer.clone(), since, lane });
        let place = Place { host: host.to_owned(), lookups: self.clone() };
        tokio::task::spawn_blocking(move || {
            let answer = (place.lookups.resolve)(&place.host).map_err(|error| error.to_string());
            drop(place);
            told.send_replace(Some(answer));
        });
        Some(Pending(answer))
    }

    /// Looks `host` up for somebody who waits for `limit` at most.
    pub(super) async fn within(&self, limit: Duration, host: &str) -> Option<Answer> {
        let looking = async {
            loop {
                match self.start(host, Lane::Registration) {
                    Some(lookup) => return lookup.answer().await,
                    None => tokio::time::sleep(PLACE_PAUSE).await,
                }
            }
        };
        tokio::time::timeout(limit, looking).await.ok()
    }
}

impl Pending {
    /// What came of the lookup; waits for as long as the resolver likes.
    pub(super) async fn answer(mut self) -> Answer {
        match self.0.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone().expect("it was waited for"),
            // The panic hook has said why.
            Err(_) => Err("internal error".to_owned()),
        }
    }
}

impl Load {
    fn of(under_way: &HashMap<String, UnderWay>, now: Instant) -> Self {
        let count = |is_so: &dyn Fn(&UnderWay) -> bool| under_way.values().filter(|lookup| is_so(lookup)).count();
        Self {
            all: under_way.len(),
            fresh: count(&|lookup| now.duration_since(lookup.since) < FRESH),
            slow: count(&|lookup| lookup.lane == Lane::Slow),
        }
    }

    fn admits(self, lane: Lane) -> bool {
        let max = if lane == Lane::Registration { LOOKUPS_MAX } else { LOOKUPS_MAX - RESERVED };
        self.all < max && self.fresh < FRESH_MAX && (lane != Lane::Slow || self.slow < SLOW_MAX)
    }
}

/// A place among the lookups; given back also when a resolver panics.
struct Place {
    host: String,
    lookups: Lookups,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lookups.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.host);
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    /// Resolves `hang*` to nothing until it is dropped, `unknown*` to an error, and everything else to 10.0.0.1.
    pub(crate) struct Hanging {
        pub(crate) lookups: Lookups,
        asked: Arc<AtomicUsize>,
        is_over: Arc<(Mutex<bool>, Condvar)>,
    }

    impl Hanging {
        pub(crate) fn new() -> Self {
            let (asked, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
            let (counter, until) = (Arc::clone(&asked), Arc::clone(&is_over));
            let lookups = Lookups::new(move |host| {
                counter.fetch_add(1, SeqCst);
                if host.starts_with("unknown") {
                    return Err(io::Error::other("no such host"));
                }
                if host.starts_with("hang") {
                    let guard = until.0.lock().unwrap();
                    drop(until.1.wait_while(guard, |is_over| !*is_over).unwrap());
                }
                Ok(vec![IpAddr::from([10, 0, 0, 1])])
            });
            Self { lookups, asked, is_over }
        }

        /// How often the resolver was asked.
        pub(crate) fn asked(&self) -> usize {
            self.asked.load(SeqCst)
        }

        /// Lets those that hang have their answer.
        pub(crate) fn release(&self) {
            *self.is_over.0.lock().unwrap() = true;
            self.is_over.1.notify_all();
        }
    }

    impl Drop for Hanging {
        fn drop(&mut self) {
            self.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Hanging;
    use super::*;

    #[test]
    fn what_hangs_stands_in_nobodys_way() {
        let admits = |all, fresh, slow, lane| Load { all, fresh, slow }.admits(lane);
        for lane in [Lane::Registration, Lane::Known, Lane::Slow] {
            assert!(admits(0, 0, 0, lane) && !admits(40, 32, 0, lane), "a storm of new ones is spread");
        }
        assert!(!admits(64, 0, 64, Lane::Slow) && admits(64, 0, 64, Lane::Known), "slow names leave places to others");
        assert!(!admits(192, 0, 0, Lane::Known) && admits(192, 0, 0, Lane::Registration));
        assert!(!admits(256, 0, 0, Lane::Registration));
    }

    #[tokio::test]
    async fn there_is_one_lookup_of_a_name_at_a_time_even_for_those_who_stopped_waiting() {
        let hanging = Hanging::new();
        for _ in 0..100 {
            let lookup = hanging.lookups.start("hang", Lane::Known).unwrap();
            drop(lookup);
        }
        assert_eq!(hanging.lookups.within(Duration::from_millis(1), "hang").await, None);
        let last = hanging.lookups.start("hang", Lane::Slow).unwrap();
        hanging.release();
        assert_eq!(last.answer().await.unwrap(), [IpAddr::from([10, 0, 0, 1])]);
        assert_eq!(hanging.asked(), 1);
        hanging.lookups.start("hang", Lane::Known).unwrap().answer().await.unwrap();
        assert_eq!(hanging.asked(), 2, "the next one is a new one");
    }

    #[tokio::test]
    async fn a_resolver_that_panics_gives_its_place_back() {
        let lookups = Lookups::new(|_| panic!("on purpose"));
        for _ in 0..2 {
            let answer = lookups.start("name", Lane::Known).unwrap().answer().await;
            assert_eq!(answer, Err("internal error".to_owned()));
        }
        assert!(lookups.under_way.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_systems_answer_has_no_doubles() {
        let answer = Lookups::system().start("localhost", Lane::Known).unwrap().answer().await.unwrap();
        assert!(answer.iter().all(|ip| ip.is_loopback()) && !answer.is_empty());
        assert_eq!(answer.iter().collect::<HashSet<_>>().len(), answer.len());
    }
}
