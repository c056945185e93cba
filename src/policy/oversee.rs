//! What surrounds the instances of a policy that is recorded or replayed.
//!
//! A pick repeats when everything does that the policy was shown. Most of it comes with the request. The rest is named
//! here: what an instance of a module is born with, the time of calls that belong to no request, the moment at which
//! another instance takes over, and deadlines, which pass by the clock and not by anything that is asked.

/// What an instance is shown before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The time, on the clock of [`crate::base::clock::coarse_ms`].
    pub now_ms: u64,
    /// What its random numbers follow from.
    pub seed: u64,
}

/// What has become of the instance of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceChange {
    /// Another one has taken over.
    Came {
        /// It is the one for backups.
        is_backup: bool,
        /// What it was shown.
        birth: Birth,
        /// The content of the module's file.
        sha256: [u8; 32],
    },
    /// What was counted of faults is forgotten, or the module may not serve any more.
    Replaced,
}

/// Who follows the instances of a policy.
pub trait Overseer: Send + Sync {
    /// What the next instance is to be born with.
    fn birth(&self) -> Birth;

    /// The time, on the clock of [`crate::base::clock::coarse_ms`], for a call that belongs to no request.
    fn now_ms(&self) -> u64;

    /// Changes an instance between two requests, not during one. `change` says what has changed.
    fn change(&self, change: &mut dyn FnMut() -> Option<InstanceChange>);

    /// The instance, the one for backups or the other, is stopped at its deadline in the call under way.
    fn ran_out_of_time(&self, is_backup: bool);
}
