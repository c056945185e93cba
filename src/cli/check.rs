//! `goproxy check`: finds every mistake in a file without serving from it.

use std::io;
use std::net::ToSocketAddrs;
use std::os::unix::fs::MetadataExt;

use super::file::{FileArgs, read, refusal};
use super::output::{print, print_error};
use crate::base::clock;
use crate::base::failure;
use crate::base::text::count;
use crate::config::{self, Config, Problem};
use crate::control;
use crate::group::GroupSettings;
use crate::lab;
use crate::net;
use crate::server::ServerAddr;
use crate::tls::Certificate;

/// The bit of a file's mode that lets everybody read it.
const READABLE_BY_OTHERS: u32 = 0o004;

/// What `check` prints of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// Nothing.
    None,
    /// All of it, but without secrets that are written in the file.
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

/// `goproxy check`: reports every mistake, or that the file is OK. Modules are loaded and tried.
///
/// # Errors
///
/// As those of [`load`](super::load); a module cannot be used; with `strict`, a warning.
pub fn check(file: &FileArgs, dump: Dump, strict: bool) -> anyhow::Result<()> {
    let path = config::find(file.config.as_deref())?;
    let text = read(&path)?;
    let mut inspected = config::inspect(&path, &text);
    // Modules are judged only when their folder and their largest size are known.
    let says_where = |problem: &Problem| ["policies_dir", "policy_max_bytes"].contains(&&*problem.path);
    if let Some(config) = &inspected.config
        && !inspected.problems.iter().any(says_where)
    {
        for (index, error) in lab::unusable(config) {
            inspected.add_policy_problem(&text, index, error);
        }
    }
    let mut doubts = Vec::new();
    if let Some(config) = inspected.config.as_ref().filter(|_| inspected.problems.is_empty()) {
        match control::check_state_file(&path, &text, config) {
            Ok(doubt) => doubts.extend(doubt.map(|doubt| format!("state_file: {doubt}"))),
            Err(message) => inspected.add_state_file_problem(&text, message),
        }
    }
    let config = match inspected.config {
        Some(config) if inspected.problems.is_empty() => config,
        _ => return Err(refusal(&path, &inspected.problems)),
    };
    if config.is_legacy {
        doubts.push(config::LEGACY_NOTE.to_owned());
    }
    doubts.extend(claimed_by_everybody(&config));
    doubts.extend(certificate_doubts(&config, clock::wall_ms() / 1_000, strict));
    doubts.extend(inspected.doubts);
    if strict {
        doubts.extend(unresolved(&config, |addr| (addr.host(), addr.port()).to_socket_addrs().map(drop)));
    }
    if strict {
        doubts.extend(sources_elsewhere(&config));
    }
    for doubt in &doubts {
        print_error(format_args!("{}: warning: {doubt}", path.display()));
    }
    anyhow::ensure!(!strict || doubts.is_empty(), "{} has {}", path.display(), count(doubts.len(), "warning"));
    if dump != Dump::None {
        return print(&config::dump(&config, &path, dump == Dump::WithSecrets));
    }
    let servers = config.groups.iter().map(|group| group.servers.len()).sum();
    let (groups, servers) = (count(config.groups.len(), "group"), count(servers, "server"));
    print(&format!("{}: OK, {groups}, {servers}\n", path.display()))
}

/// A warning for each group that lets everybody say which address a client has.
fn claimed_by_everybody(config: &Config) -> Vec<String> {
    let is_open = |settings: &GroupSettings| {
        let from = settings.accept_proxy.as_ref().map_or(&[][..], |accept_proxy| &accept_proxy.from);
        from.iter().any(|network| network.prefix_len() == 0)
    };
    let groups = config.groups.iter().enumerate().filter(|(_, group)| is_open(&group.settings));
    groups.map(|(index, _)| format!("groups[{index}].accept_proxy.from: everybody may claim any address")).collect()
}

/// Warnings of servers that need not prove who they are, of certificates that are not valid any more, that make handshakes slow, and, where that is asked for, whose keys
/// everybody may read.
fn certificate_doubts(config: &Config, now_s: u64, asks_for_readers: bool) -> Vec<String> {
    let mut doubts = Vec::new();
    for (index, group) in config.groups.iter().enumerate() {
        if group.settings.server_tls.as_ref().is_some_and(|tls| !tls.verify) {
            doubts.push(format!(
                "groups[{index}].server_tls.verify: whoever is on the way to the servers can read everything"
            ));
        }
        let certificates = group.settings.tls.iter().flat_map(|tls| &tls.certificates).enumerate();
        let shown_to_clients = certificates.map(|(number, Certificate { cert, key, pair })| {
            (format!("tls.certificates[{number}]"), pair, key.as_ref().unwrap_or(cert))
        });
        let of_check = group.settings.check.as_ref().and_then(|check| check.server_tls.as_ref());
        let ours = [("server_tls", group.settings.server_tls.as_ref()), ("check.server_tls", of_check)];
        let shown_to_servers = ours.into_iter().filter_map(|(name, tls)| {
            let tls = tls?;
            let key = tls.key.as_ref().or(tls.cert.as_ref())?;
            Some((format!("{name}.cert"), tls.identity.as_ref()?, key))
        });
        for (name, pair, key) in shown_to_clients.chain(shown_to_servers) {
            let place = format!("groups[{index}].{name}");
            if pair.not_after().as_secs() <= now_s {
                doubts.push(format!("{place}: the certificate has expired; expected one that is valid"));
            }
            if pair.is_slow() {
                doubts.push(format!(
                    "{place}: handshakes with a large RSA key take milliseconds; expected ECDSA, or RSA of 2048 bits"
                ));
            }
            let mode = std::fs::metadata(key).map_or(0, |meta| meta.mode());
            if asks_for_readers && mode & READABLE_BY_OTHERS != 0 {
                doubts.push(format!("{place}: everybody may read {}; expected a mode such as 0640", key.display()));
            }
        }
    }
    doubts
}

/// A warning for each server whose name `resolve` does not resolve.
fn unresolved(config: &Config, resolve: impl Fn(&ServerAddr) -> io::Result<()>) -> Vec<String> {
    let mut doubts = Vec::new();
    for group in &config.groups {
        for server in group.servers.iter().filter(|server| server.addr.literal().is_none()) {
            if let Err(error) = resolve(&server.addr) {
                let (group, addr) = (group.settings.id(), &server.addr);
                doubts.push(format!(
                    "group {group}: server {addr}: cannot resolve its name: {error}; expected a name that resolves here"
                ));
            }
        }
    }
    doubts
}

/// A warning for each address to connect from that this machine does not have.
fn sources_elsewhere(config: &Config) -> Vec<String> {
    let sources = config.groups.iter().filter_map(|group| Some((&group.settings, group.settings.server_tcp.source?)));
    let elsewhere = sources.filter_map(|(settings, source)| {
        let error = net::source::is_here(source).err()?;
        let (group, error) = (settings.id(), failure::worded(&error));
        Some(format!(
            "group {group}: server_tcp.source: cannot connect from {source}: {error}; expected an address of this machine"
        ))
    });
    elsewhere.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_group_in_which_everybody_may_claim_any_address_is_told() {
        let text = r#"{ "defaults": { "accept_proxy": { "from": ["10.0.0.0/8"] } },
                        "groups": [ { "listen": "127.0.0.1:1" },
                                    { "listen": "127.0.0.1:2", "accept_proxy": { "from": ["10.0.0.1", "::/0"] } } ] }"#;
        let config = config::parse(Path::new("proxy.json"), text).unwrap();
        assert_eq!(claimed_by_everybody(&config), ["groups[1].accept_proxy.from: everybody may claim any address"]);
    }

    #[test]
    fn a_name_that_does_not_resolve_is_told_with_what_its_group_is_called() {
        let text = r#"{ "groups": [ { "name": "web", "listen": "127.0.0.1:1", "servers": ["db:1", "127.0.0.1:9"] },
                                    { "listen": "127.0.0.1:2", "servers": ["known:2", "lost:2"] } ] }"#;
        let config = config::parse(Path::new("proxy.json"), text).unwrap();
        let resolve = |addr: &ServerAddr| match addr.host() {
            "known" => Ok(()),
            _ => Err(io::Error::other("not found")),
        };
        assert_eq!(
            unresolved(&config, resolve),
            [
                "group web: server db:1: cannot resolve its name: not found; expected a name that resolves here",
                "group 2: server lost:2: cannot resolve its name: not found; expected a name that resolves here",
            ]
        );
    }
}
