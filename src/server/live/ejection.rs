//! A server that is kept out for a while, as it failed too many sessions.

use std::sync::atomic::Ordering::Relaxed;

use super::{Live, flag};
use crate::base::clock;
use crate::server::downtime::Reason;
use crate::server::trouble::Ejection;

impl Live {
    /// A session was faultless.
    pub fn had_good_session(&self) {
        if self.has_flag(flag::HAS_FAULTS) {
            self.flags.fetch_and(!flag::HAS_FAULTS, Relaxed);
            self.change_trouble(|trouble| trouble.ejection.faults = 0);
        }
    }

    /// It failed a session, for this reason. Answers how often that was so in a row.
    pub fn had_fault(&self, why: &str) -> u32 {
        self.flags.fetch_or(flag::HAS_FAULTS, Relaxed);
        self.change_trouble(|trouble| {
            trouble.ejection.faults = trouble.ejection.faults.saturating_add(1);
            trouble.ejection.why = why.to_owned();
        });
        self.ejection().faults
    }

    /// Its ejections, past and present.
    pub fn ejection(&self) -> Ejection {
        self.rare.trouble.load().as_ref().map(|trouble| trouble.ejection.clone()).unwrap_or_default()
    }

    /// Is kept out from now on. False when it is already.
    pub fn eject(&self, ejection: &Ejection) -> bool {
        if self.flags.fetch_or(flag::EJECTED, Relaxed) & flag::EJECTED != 0 {
            return false;
        }
        self.change_trouble(|trouble| {
            trouble.ejection = ejection.clone();
            trouble.downtime.set(Reason::Ejected, true, clock::coarse_ms());
        });
        true
    }

    /// Would have been kept out, but too many others are; faults are counted anew.
    pub fn spare(&self) {
        self.change_trouble(|trouble| {
            trouble.ejection.spared += 1;
            trouble.ejection.faults = 0;
        });
    }

    /// Is no longer kept out; faults are counted anew. False when it was not kept out.
    pub fn end_ejection(&self) -> bool {
        let before = self.flags.fetch_and(!(flag::EJECTED | flag::HAS_FAULTS), Relaxed);
        self.change_trouble(|trouble| {
            trouble.ejection.faults = 0;
            trouble.downtime.set(Reason::Ejected, false, clock::coarse_ms());
        });
        before & flag::EJECTED != 0
    }

    /// True while it is kept out, as it failed too many sessions.
    pub fn is_ejected(&self) -> bool {
        self.has_flag(flag::EJECTED)
    }
}
