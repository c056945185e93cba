//! Rates: so many in so much time, and some at once.
//!
//! The generic cell rate algorithm: of a bucket only the time is kept at which it will be full again, so one word is
//! all there is to change, nothing has to be filled up by a timer, and the answer is exact at every moment. A bucket
//! that is full is the same as one that was never used.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A rate as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In which time.
    pub per: Duration,
    /// How many.
    pub sessions: u32,
    /// How many at once; `None` for as many as `sessions`.
    pub burst: Option<u32>,
}

impl Rate {
    /// How many at once.
    pub fn at_once(&self) -> u32 {
        self.burst.unwrap_or(self.sessions)
    }

    /// The unit of time for which there is a short form.
    pub fn unit(&self) -> Option<&'static str> {
        match self.per.as_secs() {
            _ if self.per.subsec_nanos() > 0 => None,
            1 => Some("s"),
            60 => Some("m"),
            3_600 => Some("h"),
            _ => None,
        }
    }
}

/// For people.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit() {
            Some(unit) => write!(f, "{}/{unit}", self.sessions)?,
            None => write!(f, "{}/{:?}", self.sessions, self.per)?,
        }
        if let Some(burst) = self.burst.filter(|burst| *burst != self.sessions) {
            write!(f, " (burst {burst})")?;
        }
        Ok(())
    }
}

/// A rate as it is counted: one token each `interval_ns`, and at most a whole number of them kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    interval_ns: u64,
    /// How long an empty bucket takes to be full.
    window_ns: u64,
}

impl Pace {
    /// Rounded to the slower side, so that it is never exceeded.
    pub(super) fn new(rate: &Rate) -> Self {
        let sessions = u64::from(rate.sessions.max(1));
        let per_ns = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
        let interval_ns = per_ns.div_ceil(sessions).max(1);
        Self { interval_ns, window_ns: interval_ns.saturating_mul(rate.at_once().max(1).into()) }
    }

    /// When a bucket that is full at `full_ns` will be, once another token is taken. `None` when there is none.
    pub(super) fn next(self, full_ns: u64, now_ns: u64) -> Option<u64> {
        let latest = now_ns.saturating_add(self.window_ns);
        // One that would need longer was emptied at another pace, and is no more than empty.
        let next = full_ns.clamp(now_ns, latest).saturating_add(self.interval_ns);
        (next <= latest).then_some(next)
    }

    /// The same tokens in a bucket of another pace, or as many as fit into it.
    fn carry_over(self, new: Self, full_ns: u64, now_ns: u64) -> u64 {
        let tokens = self.window_ns.saturating_sub(full_ns.saturating_sub(now_ns)) / self.interval_ns;
        let burst = new.window_ns / new.interval_ns;
        now_ns.saturating_add((burst - tokens.min(burst)).saturating_mul(new.interval_ns))
    }
}

/// A bucket whose pace may change while it is used; without a pace it limits nothing.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    full_ns: AtomicU64,
    /// Those of a [`Pace`]; zero for none. Who meets them in the middle of a change is judged by a mixture, once.
    interval_ns: AtomicU64,
    window_ns: AtomicU64,
}

impl Bucket {
    /// A bucket of this pace.
    pub(super) fn new(pace: Pace) -> Self {
        let bucket = Self::default();
        bucket.set_pace(Some(pace), 0);
        bucket
    }

    fn pace(&self) -> Option<Pace> {
        let interval_ns = self.interval_ns.load(Relaxed);
        (interval_ns > 0).then(|| Pace { interval_ns, window_ns: self.window_ns.load(Relaxed) })
    }

    /// True while it limits something.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.interval_ns.load(Relaxed) > 0
    }

    /// From now on has this pace. The tokens stay, as far as they fit.
    pub(super) fn set_pace(&self, new: Option<Pace>, now_ns: u64) {
        let old = self.pace();
        if old == new {
            return;
        }
        if let (Some(old), Some(new)) = (old, new) {
            let carried = |full_ns| Some(old.carry_over(new, full_ns, now_ns));
            let _always_some = self.full_ns.fetch_update(Relaxed, Relaxed, carried);
        }
        self.window_ns.store(new.map_or(0, |pace| pace.window_ns), Relaxed);
        self.interval_ns.store(new.map_or(0, |pace| pace.interval_ns), Relaxed);
    }

    /// True when a token could be taken.
    pub(super) fn has_token(&self, now_ns: u64) -> bool {
        self.pace().is_none_or(|pace| pace.next(self.full_ns.load(Relaxed), now_ns).is_some())
    }

    /// Takes a token; false when there is none.
    pub(super) fn take(&self, now_ns: u64) -> bool {
        let Some(pace) = self.pace() else { return true };
        self.full_ns.fetch_update(Relaxed, Relaxed, |full_ns| pace.next(full_ns, now_ns)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn rate(sessions: u32, per: Duration, burst: u32) -> Rate {
        Rate { per, sessions, burst: Some(burst) }
    }

    fn per_second(sessions: u32, burst: u32) -> Pace {
        Pace::new(&rate(sessions, Duration::from_secs(1), burst))
    }

    #[test]
    fn a_burst_is_let_through_at_once_and_then_one_token_comes_after_the_other() {
        let bucket = Bucket::new(per_second(10, 3));
        let now = 77 * SECOND_NS;
        assert_eq!((0..5).filter(|_| bucket.take(now)).count(), 3);
        assert!(!bucket.has_token(now + SECOND_NS / 10 - 1));
        assert!(bucket.has_token(now + SECOND_NS / 10) && bucket.take(now + SECOND_NS / 10));
        assert!(!bucket.take(now + SECOND_NS / 10));
        // However long nobody comes, there is no more than a burst.
        assert_eq!((0..9).filter(|_| bucket.take(now + 1_000 * SECOND_NS)).count(), 3);
    }

    #[test]
    fn without_a_rate_everything_is_let_through() {
        let bucket = Bucket::default();
        assert!(!bucket.is_used() && (0..1_000).all(|_| bucket.has_token(5) && bucket.take(5)));
    }

    #[test]
    fn a_changed_rate_keeps_the_tokens_as_far_as_they_fit() {
        let tokens = |bucket: &Bucket, now| (0..100_000).take_while(|_| bucket.take(now)).count();
        let now = 1_000 * SECOND_NS;
        for (taken, new, expected) in [
            (300, per_second(50, 50), 50),
            (300, per_second(1_000, 1_000), 200),
            (500, per_second(1, 10), 0),
            (499, Pace::new(&rate(1, Duration::from_secs(3_600), 9)), 1),
        ] {
            let bucket = Bucket::new(per_second(500, 500));
            assert_eq!((0..taken).filter(|_| bucket.take(now)).count(), taken);
            bucket.set_pace(Some(new), now);
            assert_eq!(tokens(&bucket, now), expected, "{taken} {new:?}");
        }
    }

    #[test]
    fn the_longest_time_and_the_largest_burst_do_not_overflow() {
        let pace = Pace::new(&rate(1, Duration::from_secs(3_600), 1_000_000));
        let bucket = Bucket::new(pace);
        assert_eq!((0..1_000_001).filter(|_| bucket.take(u64::MAX >> 2)).count(), 1_000_000);
    }

    #[test]
    fn several_threads_share_a_bucket_exactly() {
        let bucket = Bucket::new(per_second(1, 10_000));
        let taken = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..5_000).filter(|_| bucket.take(SECOND_NS)).for_each(|_| _ = taken.fetch_add(1, Relaxed))
                });
            }
        });
        assert_eq!(taken.into_inner(), 10_000);
    }

    #[test]
    fn a_rate_is_shown_in_its_short_form_where_it_has_one() {
        let text = |per, burst| Rate { per: Duration::from_millis(per), sessions: 5, burst }.to_string();
        assert_eq!(
            [text(1_000, None), text(60_000, Some(5)), text(3_600_000, Some(7))],
            ["5/s", "5/m", "5/h (burst 7)"]
        );
        assert_eq!(text(2_500, None), "5/2.5s");
    }

    proptest! {
        #[test]
        fn no_window_lets_more_through_than_a_burst_and_what_the_rate_gives(
            sessions in 1_u32..1_000, per_ms in 1_000_u64..100_000, burst in 1_u32..50,
            pauses in proptest::collection::vec(0_u64..400_000_000, 1..300),
        ) {
            let pace = Pace::new(&rate(sessions, Duration::from_millis(per_ms), burst));
            let (mut full, mut now) = (0, SECOND_NS);
            let mut admitted = Vec::new();
            for pause in pauses {
                now += pause;
                if let Some(next) = pace.next(full, now) {
                    full = next;
                    admitted.push(now);
                }
            }
            for (first, from) in admitted.iter().enumerate() {
                for (last, to) in admitted.iter().enumerate().skip(first) {
                    let count = (last - first + 1) as u128;
                    let given = u128::from(to - from) * u128::from(sessions) / (u128::from(per_ms) * 1_000_000);
                    prop_assert!(count <= u128::from(burst) + given, "{count} from {from} to {to}");
                }
            }
        }

        #[test]
        fn who_keeps_below_the_rate_is_always_let_through(
            sessions in 1_u32..1_000, per_ms in 1_000_u64..100_000, burst in 1_u32..50,
            extra in proptest::collection::vec(0_u64..1_000_000, 1..300),
        ) {
            let pace = Pace::new(&rate(sessions, Duration::from_millis(per_ms), burst));
            let (mut full, mut now) = (0, SECOND_NS);
            for extra in extra {
                let next = pace.next(full, now);
                prop_assert!(next.is_some());
                full = next.unwrap_or_default();
                now += (per_ms * 1_000_000).div_ceil(sessions.into()) + extra;
            }
        }
    }
}
