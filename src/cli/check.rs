//! `goproxy check`: everything that can be known of a file without serving from it.

use std::net::ToSocketAddrs;

use super::file::{FileArgs, read, refusal};
use super::output::{complain, print};
use crate::base::text::count;
use crate::config::{self, Config, Problem};
use crate::lab;

/// What `check` prints of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// Nothing.
    None,
    /// All of it, but for secrets that stand in the file.
    WithoutSecrets,
    /// All of it.
    WithSecrets,
}

impl Dump {
    /// What the flags `--dump` and `--secrets` ask for.
    pub fn new(dump: bool, secrets: bool) -> Self {
        match (dump, secrets) {
            (false, _) => Self::None,
            (true, false) => Self::WithoutSecrets,
            (true, true) => Self::WithSecrets,
        }
    }
}

/// `goproxy check`: tells what is wrong with the file, or that it is in order. Modules are loaded and tried.
///
/// # Errors
///
/// As [`load`](super::load), modules that cannot be used included; with `strict` also for what is merely doubtful.
pub fn check(file: &FileArgs, dump: Dump, strict: bool) -> anyhow::Result<()> {
    let path = config::find(file.config.as_deref())?;
    let text = read(&path)?;
    let mut inspected = config::inspect(&path, &text);
    // Where modules are, or how large they may be, must be known to judge them.
    let says_where = |problem: &Problem| ["policies_dir", "policy_max_bytes"].contains(&&*problem.path);
    if let Some(config) = &inspected.config
        && !inspected.problems.iter().any(says_where)
    {
        for (index, error) in lab::unusable(config) {
            inspected.add_policy_problem(&text, index, error);
        }
    }
    let config = match inspected.config {
        Some(config) if inspected.problems.is_empty() => config,
        _ => return Err(refusal(&path, &inspected.problems)),
    };
    let mut doubts = Vec::new();
    if config.is_legacy {
        doubts.push(config::LEGACY_NOTE.to_owned());
    }
    if strict {
        doubts.extend(unresolved(&config));
    }
    for doubt in &doubts {
        complain(format_args!("{}: warning: {doubt}", path.display()));
    }
    anyhow::ensure!(!strict || doubts.is_empty(), "{} has {}", path.display(), count(doubts.len(), "warning"));
    if dump != Dump::None {
        return print(&config::dump(&config, &path, dump == Dump::WithSecrets));
    }
    let servers = config.groups.iter().map(|group| group.servers.len()).sum();
    let (groups, servers) = (count(config.groups.len(), "group"), count(servers, "server"));
    print(&format!("{}: OK, {groups}, {servers}\n", path.display()))
}

/// Servers whose name does not resolve here and now.
fn unresolved(config: &Config) -> Vec<String> {
    let mut doubts = Vec::new();
    for group in &config.groups {
        for server in group.servers.iter().filter(|server| server.addr.literal().is_none()) {
            if let Err(error) = (server.addr.host(), server.addr.port()).to_socket_addrs() {
                let port = group.settings.listen.port();
                doubts.push(format!("group {port}: server {}: cannot resolve its name: {error}", server.addr));
            }
        }
    }
    doubts
}
