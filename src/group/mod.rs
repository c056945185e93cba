//! A listening port with its policy and its servers.
//!
//! Sessions load one immutable [`Snapshot`] and pick from it. Whatever changes a group (a heartbeat, an
//! operator, the file, a lease that runs out) changes the list of members under one short lock and
//! publishes a new snapshot; a session never waits for that.

pub mod view;

use std::net::SocketAddr;
use std::time::Duration;

use crate::policy::factory::PolicySpec;

/// The settings of a group that a session needs, and those of its leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Where it listens; the port is the group's id.
    pub listen: SocketAddr,
    /// True when it accepts clients.
    pub open: bool,
    /// How a server is picked.
    pub policy: PolicySpec,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How many servers a session tries.
    pub connect_attempts: u32,
    /// A session ends when neither side has sent anything for so long; zero for never.
    pub idle_timeout: Duration,
    /// A session ends when one side has finished and the other has been silent for so long; zero for never.
    pub half_close_timeout: Duration,
    /// The lease of a server that registered itself.
    pub heartbeat_timeout: Duration,
    /// Sessions at a time; 0 for no limit.
    pub max_sessions: u32,
}

/// A group: one port, one policy, its servers.
pub struct Group {}

impl Group {
    /// The port.
    pub fn port(&self) -> u16 {
        todo!()
    }

    /// What `group-list.do` shows.
    pub fn view(&self) -> view::GroupView {
        todo!()
    }

    /// What `worker-list.do` shows, in order.
    pub fn servers(&self) -> Vec<view::ServerView> {
        todo!()
    }
}
