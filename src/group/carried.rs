//! What the next process of an upgrade has to know of a group and its servers: what this one has observed and the file does
//! not say. Counters and the state of the policy are not among it: they begin anew.
//!
//! The two processes may be of different versions. So everything may be absent, which is as at a cold start, and what is
//! not known here is passed over.

use serde::{Deserialize, Serialize};

use super::check::CheckCarried;
use super::lease::LeaseCarried;
use crate::server::LiveCarried;

/// What is carried over of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupCarried {
    /// What it is called.
    pub id: String,
    pub(super) servers: Vec<ServerCarried>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ServerCarried {
    pub(super) addr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lease: Option<LeaseCarried>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) check: Option<CheckCarried>,
    pub(super) live: LiveCarried,
}

/// The sessions of a group, and of each of its servers that has any, in one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSessions {
    /// What the group is called.
    pub id: String,
    /// Sessions of the group.
    pub sessions: u64,
    /// Those that have reached a server, by its address.
    pub servers: Vec<(String, u32)>,
}
