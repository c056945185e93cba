//! Why a change was refused.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::group_param::GroupParam;
use crate::config::Problem;
use crate::group::GroupId;
use crate::policy::wasm::ModuleError;
use crate::server::ServerAddr;

/// Why a change was refused. Everything is then as it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ChangeError {
    /// No group has this port, name or address.
    #[error("no group {0}; group-list.do shows the groups, group-open.do makes one")]
    GroupNotFound(GroupParam),
    /// No group has this name or address, and a new one cannot be made of it.
    #[error("no group {0}; expected a group that group-list.do shows, or the port of a new one")]
    CannotOpen(GroupParam),
    /// Several groups have this port.
    #[error("port {port} belongs to the groups {names}; expected the name of one of them, or an address it listens on")]
    GroupAmbiguous {
        /// The port.
        port: u16,
        /// Their names.
        names: String,
    },
    /// The group has no such server.
    #[error("group {group} has no server {server}; worker-list.do shows its servers")]
    ServerNotFound {
        /// The group.
        group: GroupId,
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
    /// The group holds as many servers as it may, and none of them has been given up.
    #[error("group {group} has {max} servers already; expected at most {max}")]
    TooManyServers {
        /// The group.
        group: GroupId,
        /// The limit.
        max: usize,
    },
    /// The change does not fit the file: what it would say is not allowed.
    #[error("{0}; nothing was changed")]
    Unfit(String),
    /// The port cannot be opened.
    #[error("cannot listen on {listen}: {source}; nothing was changed")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The file of an access log cannot be opened.
    #[error("access_log.path: cannot open {path}: {why}; nothing was changed")]
    AccessLog {
        /// The file.
        path: String,
        /// Why, in words.
        why: String,
    },
    /// The module of a policy is not there, or is unfit.
    #[error("group {group}: {source}; nothing was changed")]
    Policy {
        /// The group.
        group: GroupId,
        /// What is wrong with it.
        #[source]
        source: ModuleError,
    },
    /// The file on disk has mistakes; a change would have to write on top of them.
    #[error("{path} has {} mistake(s), the first at {}; nothing was changed", .problems.len(), first(.problems))]
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
        source: Arc<std::io::Error>,
    },
    /// What is in the place of the state file cannot be used and may not be replaced.
    #[error("state_file: {path}: {why}; nothing was changed")]
    StateFile {
        /// The file.
        path: String,
        /// What is wrong, and what was expected.
        why: String,
    },
    /// Changes are written into the file.
    #[error("proxy.json has no state_file: what changes over HTTP say is written into it")]
    NoStateFile,
    /// Recording writes files, and nobody has said where.
    #[error("recording writes files: set record_dir in proxy.json first")]
    NoRecordDir,
    /// The group is recorded already.
    #[error("group {group} is recorded already, into {file}; record-stop.do ends that")]
    Recording {
        /// The group.
        group: GroupId,
        /// The file.
        file: String,
    },
    /// The group is not recorded.
    #[error("group {0} is not recorded; record-list.do shows what is")]
    NotRecording(GroupId),
    /// There are as many recordings as there may be.
    #[error("{folder} has {max} recordings already; expected fewer: remove some")]
    TooManyRecordings {
        /// The folder.
        folder: String,
        /// The limit.
        max: usize,
    },
    /// A recording cannot begin.
    #[error("cannot record: {0}; nothing was changed")]
    RecordFailed(String),
    /// Another policy is tried in the group already.
    #[error("group {group} has {candidate} tried beside its policy already; shadow-stop.do ends that")]
    Shadowed {
        /// The group.
        group: GroupId,
        /// The policy that is tried.
        candidate: String,
    },
    /// No other policy is tried in the group.
    #[error("group {0} has no policy tried beside its own; shadow-list.do shows which have")]
    NotShadowed(GroupId),
    /// The policy that is to be tried serves already.
    #[error("the policy to be tried is the one that serves group {0}; expected another")]
    SamePolicy(GroupId),
    /// The group was given another policy at the same moment.
    #[error("group {0} was given another policy at the same moment; nothing was changed")]
    Busy(GroupId),
    /// The process is stopping.
    #[error("the proxy is stopping; nothing was changed")]
    Stopping,
    /// Another process has taken over.
    #[error("a new process has just taken over; nothing was changed, ask again")]
    Upgrading,
}

impl ChangeError {
    /// The file at `path` cannot be read or written, as `action` says.
    pub(super) fn persist(action: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::Persist { action, path: path.display().to_string(), source: Arc::new(error) }
    }
}

/// The first mistake, for those who cannot show all.
pub(super) fn first(problems: &[Problem]) -> String {
    problems.first().map_or_else(String::new, ToString::to_string)
}
