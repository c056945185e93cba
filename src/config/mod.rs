//! The shape of `proxy.json`: read it, check it, edit it, save it.
//!
//! [`parse()`] gives the checked [`Config`] or every mistake with its line and column. [`Document`] makes
//! the changes that come over HTTP in the text itself, so that all a user wrote around them stays byte
//! for byte. [`mod@file`] reads and replaces the file whole. Which keys there are is one table, `keys`, from
//! which reading, the schema and the README's checks are driven. What a change does to the running
//! proxy is left to `control`; nothing here knows what runs.

mod check;
mod dump;
mod edit;
pub mod file;
mod find;
pub mod flags;
mod keys;
mod legacy;
mod list;
mod locate;
mod parse;
mod policy;
mod problem;
mod reader;
mod rewrite;
mod schema;
mod secret;
mod units;
mod value;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::group::GroupSettings;
pub use crate::log::{LogFormat, LogLevel};
use crate::server::ServerSettings;

pub use dump::{dump, dump_for};
pub use edit::{Document, Edit, EditError};
pub use find::{FILE_NAME, NotFound, PATH_VARIABLE, find};
pub use keys::{GROUPS_MAX, LABEL_LEN_MAX, LABELS_MAX, MODULE_CONFIG_LEN_MAX, SERVERS_MAX};
pub use legacy::LEGACY_NOTE;
pub use locate::policy_problem;
pub use parse::parse;
pub use problem::Problem;
pub use reader::FILE_BYTES_MAX;
pub use schema::schema;
pub use secret::{SECRET_LEN_MAX, Secret};

/// `proxy.json`, read and checked: every value is usable as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The admin port.
    pub admin: AdminSettings,
    /// Logs and the status line.
    pub log: LogSettings,
    /// Where policy modules are looked for; absolute, if the working directory is known.
    pub policies_dir: PathBuf,
    /// The largest policy module that is read, in bytes.
    pub policy_max_bytes: u64,
    /// How long sessions may go on after a TERM.
    pub drain_timeout: Duration,
    /// Data threads; 0 for one per core.
    pub threads: usize,
    /// Each data thread stays on one core.
    pub pin_threads: bool,
    /// The groups in the order of the file; ports are unique.
    pub groups: Vec<GroupConfig>,
    /// True when the file had the flat form of the old program.
    pub is_legacy: bool,
}

/// A group as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// Everything but the servers.
    pub settings: GroupSettings,
    /// In the order of the file; addresses are unique within the group.
    pub servers: Vec<ServerSettings>,
}

/// Where the admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// A TCP socket; not on loopback only with a token.
    Tcp(SocketAddr),
    /// A unix socket of mode 0600.
    Unix(PathBuf),
}

/// The admin port as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminSettings {
    /// Where it listens. Takes effect at start.
    pub listen: AdminListen,
    /// Needed for every request but `/live` and `/ready`.
    pub token: Option<Secret>,
    /// Allows `worker-keepalive.do` and nothing else.
    pub register_token: Option<Secret>,
    /// Which addresses may register; `None` for all that are not refused anyway.
    pub register_allow: Option<Vec<IpNet>>,
    /// False: a change needs POST.
    pub allow_get_changes: bool,
    /// Where `/debug/pprof/` is served; `None` for the admin port. Takes effect at start.
    pub pprof_listen: Option<SocketAddr>,
}

/// Logs as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Text for people or JSON for machines. Takes effect at start.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: LogLevel,
    /// How often the status line is written; zero for never.
    pub status_interval: Duration,
}
