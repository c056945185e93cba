//! What is wrong with a server: the failures since its last connect that succeeded, its ejections, and how long it was down. Kept apart from
//! the live figures, as most servers never have any.

use std::sync::Arc;

use super::downtime::Downtime;
use super::outage::Outage;

/// What is wrong with a server, or was lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) outage: Option<Arc<Outage>>,
    pub(super) ejection: Ejection,
    pub(super) downtime: Downtime,
}

/// How often a server has failed its sessions, and when it was kept out for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Faults in a row.
    pub faults: u32,
    /// What the last one was, for people.
    pub why: String,
    /// Until when the server is, or was last, kept out, in milliseconds of the coarse clock; 0 for never.
    pub until_ms: u64,
    /// How often the time was doubled.
    pub doublings: u32,
    /// Ejections so far.
    pub count: u64,
    /// How often the server was spared because too many others were ejected.
    pub spared: u64,
}
