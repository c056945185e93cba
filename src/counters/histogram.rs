//! Durations counted by size.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many bounds a [`Histogram`] has; a last bucket takes what is above all of them.
pub const BOUNDS: usize = 16;

/// From a server in the same rack to one that answers only the third SYN.
pub const CONNECT_BOUNDS_US: [u64; BOUNDS] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// From one request over a fresh connection to a client that stays for a day.
pub const SESSION_BOUNDS_US: [u64; BOUNDS] = [
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
];

/// Durations counted by size, without a lock.
#[derive(Debug)]
pub struct Histogram {
    bounds_us: &'static [u64; BOUNDS],
    counts: [AtomicU64; BOUNDS + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts into buckets whose upper bounds, each included, are `bounds_us`: in order, smallest first.
    pub fn new(bounds_us: &'static [u64; BOUNDS]) -> Self {
        Self { bounds_us, counts: Default::default(), sum_us: AtomicU64::default() }
    }

    /// Counts one duration.
    pub fn observe(&self, micros: u64) {
        let bucket = self.bounds_us.partition_point(|bound| *bound < micros);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(micros, Relaxed);
    }

    /// Each upper bound with the count of what lies between it and the one before; the last has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds_us.iter().copied().map(Some).chain([None]);
        bounds.zip(self.counts.iter().map(|count| count.load(Relaxed)))
    }

    /// The sum of all durations.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&CONNECT_BOUNDS_US);
        for micros in [0, 100, 101, 10_000_000, 10_000_001, 99_000_000] {
            histogram.observe(micros);
        }
        let buckets: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets, [(Some(100), 2), (Some(250), 1), (Some(10_000_000), 1), (None, 2)]);
        assert_eq!(histogram.sum_us(), 119_000_202);
    }

    #[test]
    fn bounds_grow() {
        for bounds in [CONNECT_BOUNDS_US, SESSION_BOUNDS_US] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
