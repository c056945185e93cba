//! What policies may see of a server's live figures, as one value that can be kept and given to another.

use std::sync::atomic::Ordering::Relaxed;

use super::Live;
use crate::server::Avoided;

/// What policies may see of a server and that changes by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Sessions that are connected to it or are connecting.
    pub sessions: u32,
    /// Smoothed time to connect in microseconds; 0 when not yet known.
    pub connect_latency_us: u32,
    /// The low bits of the time in milliseconds at which a connect succeeded last.
    pub answered_at: u32,
    /// What speaks against it: the bits of [`Avoided::DOUBTFUL`].
    pub doubts: u8,
}

impl Live {
    /// What policies may see of it now.
    pub fn facts(&self) -> Facts {
        Facts {
            sessions: self.sessions.load(Relaxed),
            connect_latency_us: self.connect_latency_us.load(Relaxed),
            answered_at: self.answered_at.load(Relaxed),
            doubts: self.flags.load(Relaxed) & Avoided::DOUBTFUL.bits(),
        }
    }

    /// Shows policies these facts from now on. For a server that nobody connects to.
    pub fn set_facts(&self, facts: Facts) {
        self.sessions.store(facts.sessions, Relaxed);
        self.connect_latency_us.store(facts.connect_latency_us, Relaxed);
        self.answered_at.store(facts.answered_at, Relaxed);
        let doubtful = Avoided::DOUBTFUL.bits();
        let others = self.flags.load(Relaxed) & !doubtful;
        self.flags.store(others | facts.doubts & doubtful, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_given_the_facts_of_another_looks_the_same_to_policies() {
        let (real, copy) = (Live::new(Vec::new()), Live::new(Vec::new()));
        assert!(real.try_acquire(0) && real.try_acquire(0));
        real.connected(1_500, 70_000);
        real.connect_failed("refused", 80_000, 80_000);
        copy.set_facts(real.facts());
        assert_eq!(copy.facts(), real.facts());
        assert_eq!((copy.sessions(), copy.recent_connect_latency_us(95_000)), (2, 375));
        assert!(copy.is_avoided(Avoided::SUSPECT) && !copy.is_avoided(Avoided::EJECTED));
        copy.set_facts(Facts { doubts: 0xff, ..real.facts() });
        assert!(copy.is_avoided(Avoided::EJECTED) && !copy.is_judged(), "nothing else is taken over");
        copy.set_facts(Facts::default());
        assert!(!copy.is_avoided(Avoided::DOUBTFUL) && copy.is_untried());
    }
}
