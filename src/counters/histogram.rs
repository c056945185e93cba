//! Durations counted by size.
//!
//! Counting is two relaxed additions: on the data path nothing more is affordable. Each histogram has a unit
//! fine enough for what it measures, which [`Unit`] turns into seconds for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many bounds a [`Histogram`] has; a last bucket takes what is above all of them.
pub const BOUNDS: usize = 16;

/// Where the buckets of a [`Histogram`] end, and the unit of all its numbers.
#[derive(Debug)]
pub struct Bounds {
    /// What is counted in.
    pub unit: Unit,
    /// The upper bounds, each included: in order, smallest first.
    pub uppers: [u64; BOUNDS],
}

/// The unit of a [`Histogram`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Millionths of a second.
    Micros,
    /// Thousandths of a millionth.
    Nanos,
}

/// From a server in the same rack to one that answers only the third SYN.
pub const CONNECT_BOUNDS: Bounds = Bounds {
    unit: Unit::Micros,
    uppers: [
        100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
        5_000_000, 10_000_000,
    ],
};

/// From one request over a fresh connection to a client that stays for a day.
pub const SESSION_BOUNDS: Bounds = Bounds {
    unit: Unit::Micros,
    uppers: [
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
    ],
};

/// From a module that only takes its turn to one that is stopped late on a busy machine; close to each other
/// where a good module is, so that a new version that is slower shows.
pub const PICK_BOUNDS: Bounds = Bounds {
    unit: Unit::Nanos,
    uppers: [
        100,
        150,
        250,
        500,
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        100_000,
        500_000,
        1_000_000,
        5_000_000,
        10_000_000,
        25_000_000,
        100_000_000,
    ],
};

impl Unit {
    /// So many of this unit in seconds.
    pub fn as_seconds(self, count: u64) -> f64 {
        let per_second = match self {
            Self::Micros => 1e6,
            Self::Nanos => 1e9,
        };
        count as f64 / per_second
    }
}

/// Durations counted by size, without a lock. In this order, and from the start of a cache line on, all but rare
/// durations touch a single one.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Histogram {
    bounds: &'static Bounds,
    sum: AtomicU64,
    counts: [AtomicU64; BOUNDS + 1],
}

impl Histogram {
    /// Counts into the buckets of `bounds`.
    pub fn new(bounds: &'static Bounds) -> Self {
        Self { bounds, sum: AtomicU64::default(), counts: Default::default() }
    }

    /// Counts one duration in the histogram's unit.
    pub fn observe(&self, duration: u64) {
        let bucket = self.bounds.uppers.partition_point(|upper| *upper < duration);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(duration, Relaxed);
    }

    /// The unit of every number that goes in and comes out.
    pub fn unit(&self) -> Unit {
        self.bounds.unit
    }

    /// Each upper bound with the count of what lies between it and the one before; the last has none.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let uppers = self.bounds.uppers.iter().copied().map(Some).chain([None]);
        uppers.zip(self.counts.iter().map(|count| count.load(Relaxed)))
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets().map(|(_, count)| count).sum()
    }

    /// The sum of all durations.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&CONNECT_BOUNDS);
        for micros in [0, 100, 101, 10_000_000, 10_000_001, 99_000_000] {
            histogram.observe(micros);
        }
        let buckets: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(buckets, [(Some(100), 2), (Some(250), 1), (Some(10_000_000), 1), (None, 2)]);
        assert_eq!((histogram.sum(), histogram.count()), (119_000_202, 6));
    }

    #[test]
    fn bounds_grow() {
        for bounds in [CONNECT_BOUNDS, SESSION_BOUNDS, PICK_BOUNDS] {
            assert!(bounds.uppers.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn a_unit_is_shown_in_seconds() {
        assert_eq!((Unit::Micros.as_seconds(250), Unit::Nanos.as_seconds(250)), (0.000_25, 0.000_000_25));
    }
}
