//! The only place where running state changes, one change at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{Config, Problem};
use crate::group::Group;
use crate::group::view::{GroupView, ServerView};
use crate::policy::factory::PolicySpec;
use crate::server::{ServerAddr, State};
use crate::session::ProxySessionService;

/// The groups by port, in order.
pub type Groups = BTreeMap<u16, Arc<Group>>;

/// Runs changes one after the other and knows what runs.
pub struct Control {}

/// A server's heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Keepalive {
    /// A changed weight is persisted.
    pub weight: Option<u32>,
    /// A changed state is persisted.
    pub state: Option<State>,
    /// Kept as the label `zone`; a changed one is persisted.
    pub zone: Option<String>,
    /// The server's own idea of its load, 0 to 100; kept in memory only.
    pub load: Option<u32>,
}

/// What a change did to the groups, by port.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Groups that accept clients now and did not before.
    pub opened: Vec<u16>,
    /// Groups that accepted clients before and do not now.
    pub closed: Vec<u16>,
    /// Groups that stay as they were but for settings, policy or servers.
    pub changed: Vec<u16>,
    /// Settings that were changed in the file and take effect at the next start.
    pub at_restart: Vec<&'static str>,
}

/// Why a change was refused. Everything is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// No group has this port.
    #[error("no group {0}; group-list.do shows the groups, group-open.do makes one")]
    GroupNotFound(u16),
    /// The group has no such server.
    #[error("group {group} has no server {server}; worker-list.do shows its servers")]
    ServerNotFound {
        /// The group.
        group: u16,
        /// The server.
        server: ServerAddr,
    },
    /// The server's address may not register (DESIGN 7.2).
    #[error("{server} may not register: {why}")]
    ServerRefused {
        /// The server.
        server: ServerAddr,
        /// Which rule says so.
        why: String,
    },
    /// The group holds as many servers as it may.
    #[error("group {group} has {max} servers already; expected at most {max}")]
    TooManyServers {
        /// The group.
        group: u16,
        /// The limit.
        max: usize,
    },
    /// The port cannot be opened.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// Where.
        listen: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file on disk has mistakes; a change would have to write on top of them.
    #[error("{path} has {} mistake(s), the first at {}:{}: {}; nothing was changed", .problems.len(),
        .problems.first().map_or(0, |p| p.line), .problems.first().map_or(0, |p| p.column), .problems.first().map_or("", |p| &p.message))]
    FileInvalid {
        /// The file.
        path: String,
        /// Every mistake.
        problems: Vec<Problem>,
    },
    /// The file cannot be read or written.
    #[error("cannot {action} {path}: {source}; nothing was changed")]
    Persist {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process is stopping.
    #[error("the proxy is stopping; nothing was changed")]
    Stopping,
}

impl Control {
    /// The groups that exist now.
    pub fn groups(&self) -> Arc<Groups> {
        todo!()
    }

    /// The group of this port.
    ///
    /// # Errors
    ///
    /// [`ChangeError::GroupNotFound`].
    pub fn group(&self, port: u16) -> Result<Arc<Group>, ChangeError> {
        self.groups().get(&port).cloned().ok_or(ChangeError::GroupNotFound(port))
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        todo!()
    }

    /// All sessions.
    pub fn sessions(&self) -> &Arc<ProxySessionService> {
        todo!()
    }

    /// True when every open group listens and the process is not draining: what `/ready` tells.
    pub fn is_ready(&self) -> bool {
        todo!()
    }

    /// Takes a server's heartbeat: renews its lease, or registers it.
    ///
    /// The heartbeat of a known server that brings nothing new touches no file and waits for nobody.
    ///
    /// # Errors
    ///
    /// Group unknown, address refused, group full, or the file cannot be written.
    pub async fn keepalive(
        &self,
        _group: u16,
        _server: &ServerAddr,
        _keepalive: Keepalive,
    ) -> Result<ServerView, ChangeError> {
        todo!()
    }

    /// Takes a server out of its group; its sessions go on.
    ///
    /// # Errors
    ///
    /// Group or server unknown, or the file cannot be written.
    pub async fn remove_server(&self, _group: u16, _server: &ServerAddr) -> Result<(), ChangeError> {
        todo!()
    }

    /// Sets what an operator wants of a server.
    ///
    /// # Errors
    ///
    /// Group or server unknown, or the file cannot be written.
    pub async fn set_server_state(
        &self,
        _group: u16,
        _server: &ServerAddr,
        _state: State,
    ) -> Result<ServerView, ChangeError> {
        todo!()
    }

    /// Opens a group's port; makes the group, on `0.0.0.0`, if it is new.
    ///
    /// # Errors
    ///
    /// The port cannot be opened, or the file cannot be written.
    pub async fn open_group(&self, _group: u16, _policy: Option<PolicySpec>) -> Result<GroupView, ChangeError> {
        todo!()
    }

    /// Stops listening on a group's port. Its sessions live on unless `close_sessions`.
    /// Answers how many sessions it had.
    ///
    /// # Errors
    ///
    /// Group unknown, or the file cannot be written.
    pub async fn close_group(&self, _group: u16, _close_sessions: bool) -> Result<u64, ChangeError> {
        todo!()
    }

    /// Gives a group another policy; no session is touched.
    ///
    /// # Errors
    ///
    /// Group unknown, or the file cannot be written.
    pub async fn set_policy(&self, _group: u16, _policy: PolicySpec) -> Result<GroupView, ChangeError> {
        todo!()
    }

    /// Reads the file again and applies the difference to what runs.
    ///
    /// # Errors
    ///
    /// The file cannot be read, has mistakes, or names a port that cannot be opened.
    pub async fn reload(&self) -> Result<Difference, ChangeError> {
        todo!()
    }
}
