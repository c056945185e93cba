//! What a policy in WebAssembly did, counted by whoever runs it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::histogram::{Histogram, PICK_BOUNDS};

/// What a module did wrong. None of it costs a client: the fallback serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It broke off: an impossible instruction, a wild pointer, no memory left.
    Trap,
    /// It took longer than its deadline and was stopped.
    Deadline,
    /// It named a server that may not be picked.
    BadAnswer,
    /// A new instance could not be made or configured.
    Unfit,
}

impl FaultKind {
    /// Every kind, in the order in which they count.
    pub const ALL: [Self; 4] = [Self::Trap, Self::Deadline, Self::BadAnswer, Self::Unfit];

    /// The word in the log and in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::BadAnswer => "bad_answer",
            Self::Unfit => "unfit",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one module did, in all groups that use it and through all its versions.
#[derive(Debug)]
pub struct ModuleCounters {
    /// Picks it was asked for; those that failed count, too.
    pub picks: AtomicU64,
    /// How long some of its picks took, in nanoseconds.
    pub pick_time: Histogram,
    /// Picks that the fallback answered.
    pub fallbacks: AtomicU64,
    /// Clients to whom it named no server, although one was open that they had not tried.
    pub nones: AtomicU64,
    /// Times that another version took over.
    pub swaps: AtomicU64,
    /// Versions of the file that were refused.
    pub refusals: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
}

impl ModuleCounters {
    /// Counts a fault.
    pub fn fault(&self, kind: FaultKind) {
        self.faults[kind as usize].fetch_add(1, Relaxed);
    }

    /// Faults of this kind.
    pub fn faults(&self, kind: FaultKind) -> u64 {
        self.faults[kind as usize].load(Relaxed)
    }

    /// Faults of any kind.
    pub fn faults_total(&self) -> u64 {
        FaultKind::ALL.into_iter().map(|kind| self.faults(kind)).sum()
    }
}

impl Default for ModuleCounters {
    fn default() -> Self {
        Self {
            picks: AtomicU64::default(),
            pick_time: Histogram::new(&PICK_BOUNDS),
            fallbacks: AtomicU64::default(),
            nones: AtomicU64::default(),
            swaps: AtomicU64::default(),
            refusals: AtomicU64::default(),
            faults: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_of_fault_counts_for_itself_and_has_a_word_of_its_own() {
        let counters = ModuleCounters::default();
        for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| counters.fault(kind));
        }
        for (index, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(counters.faults(kind), index as u64 + 1, "{kind}");
        }
        assert_eq!(counters.faults_total(), 1 + 2 + 3 + 4);
        assert_eq!(FaultKind::ALL.map(FaultKind::as_str).into_iter().collect::<BTreeSet<_>>().len(), 4);
    }
}
