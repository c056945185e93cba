//! The shape of `proxy.json`: read it, check it, edit it, save it, notice changes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::group::GroupSettings;
use crate::server::ServerSettings;

/// `proxy.json`, read and checked: every value is usable as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The admin port.
    pub admin: AdminSettings,
    /// Logs and the status line.
    pub log: LogSettings,
    /// Where policy modules are looked for; absolute or relative to the working directory.
    pub policies_dir: PathBuf,
    /// The largest policy module that is read, in bytes.
    pub policy_max_bytes: u64,
    /// How long sessions may go on after a TERM.
    pub drain_timeout: Duration,
    /// Data threads; 0 for one per core.
    pub threads: usize,
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

/// A secret that no `Debug`, log or dump shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for comparing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
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

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object a line.
    Json,
}

/// The levels of `tracing`, least important last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it all")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// One mistake in the file, or one thing worth knowing about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// 1-based line.
    pub line: usize,
    /// 1-based column, in characters.
    pub column: usize,
    /// `groups[1].policy`; empty for the whole file.
    pub path: String,
    /// What is wrong with which value; what was expected.
    pub message: String,
}
