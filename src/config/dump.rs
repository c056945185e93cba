//! Writing a whole configuration in the new form.
//!
//! Every key is written with the value that holds, so the text does not depend on defaults. Servers are
//! one line each, with the keys that say something.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::units::{size_text, time_text};
use super::{AdminListen, Config, GroupConfig, policy};
use crate::server::{Origin, ServerSettings, State};

/// The file that means `config`, in the new form.
///
/// Secrets are as written: `env:` and `file:` stay references, a literal token is in the text.
/// `policies_dir` is absolute; [`dump_for`] writes it relative to where the file is to be.
pub fn dump(config: &Config) -> String {
    render(config, config.policies_dir.to_string_lossy().as_ref())
}

/// [`dump`] for the file at `path`: a `policies_dir` that was read relative to its folder is written so.
pub fn dump_for(config: &Config, path: &Path) -> String {
    let folder = super::parse::folder_of(path);
    let policies_dir = config.policies_dir.strip_prefix(&folder).unwrap_or(&config.policies_dir);
    render(config, policies_dir.to_string_lossy().as_ref())
}

fn render(config: &Config, policies_dir: &str) -> String {
    let (admin, log) = (&config.admin, &config.log);
    let secret = |secret: &Option<super::Secret>| secret.as_ref().map(|secret| secret.written().to_owned());
    let head = json!({
        "admin": {
            "listen": listen_text(&admin.listen),
            "token": secret(&admin.token),
            "register_token": secret(&admin.register_token),
            "register_allow": admin.register_allow.as_ref().map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "allow_get_changes": admin.allow_get_changes,
            "pprof_listen": admin.pprof_listen.map(|addr| addr.to_string()),
        },
        "log": {
            "format": log.format.as_str(),
            "level": log.level.as_str(),
            "status_interval": time_text(log.status_interval),
        },
        "policies_dir": policies_dir,
        "drain_timeout": time_text(config.drain_timeout),
        "threads": config.threads,
        "pin_threads": config.pin_threads,
        "policy_max_bytes": size_text(config.policy_max_bytes),
    });
    let head = serde_json::to_string_pretty(&head).expect("a JSON value is printable");
    let mut text = head.trim_end_matches("\n}").to_owned();
    text.push_str(",\n  \"groups\": [");
    for (index, group) in config.groups.iter().enumerate() {
        text.push_str(if index > 0 { ",\n    " } else { "\n    " });
        text.push_str(&group_text(group));
    }
    text.push_str(if config.groups.is_empty() { "]\n}\n" } else { "\n  ]\n}\n" });
    text
}

fn listen_text(listen: &AdminListen) -> String {
    match listen {
        AdminListen::Tcp(addr) => addr.to_string(),
        AdminListen::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn group_text(group: &GroupConfig) -> String {
    let s = &group.settings;
    let mut text = String::from("{\n");
    let time = |time| quoted(&time_text(time));
    let lines = [
        ("listen", quoted(&s.listen.to_string())),
        ("open", s.open.to_string()),
        ("policy", policy::text(&s.policy)),
        ("connect_timeout", time(s.connect_timeout)),
        ("connect_attempts", s.connect_attempts.to_string()),
        ("idle_timeout", time(s.idle_timeout)),
        ("half_close_timeout", time(s.half_close_timeout)),
        ("heartbeat_timeout", time(s.heartbeat_timeout)),
        ("max_sessions", s.max_sessions.to_string()),
    ];
    for (name, value) in lines {
        writeln!(text, "      \"{name}\": {value},").expect("a String takes all");
    }
    text.push_str("      \"servers\": [");
    for (index, server) in group.servers.iter().enumerate() {
        text.push_str(if index > 0 { ",\n        " } else { "\n        " });
        text.push_str(&server_text(server));
    }
    text.push_str(if group.servers.is_empty() { "]\n    }" } else { "\n      ]\n    }" });
    text
}

/// A server on one line: its address alone when nothing else is to be said.
pub(super) fn server_text(server: &ServerSettings) -> String {
    let addr = quoted(server.addr.as_str());
    let keys = server_keys(server, &ServerSettings::new(server.addr.clone(), Origin::File));
    if keys.is_empty() {
        return addr;
    }
    let keys = keys.into_iter().map(|(name, value)| format!(", \"{name}\": {value}")).collect::<String>();
    format!("{{ \"addr\": {addr}{keys} }}")
}

/// The keys of `server`, but for its address, that differ from those of `other`, with their values as JSON.
pub(super) fn server_keys(server: &ServerSettings, other: &ServerSettings) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    let mut key = |name, is_same: bool, value: String| {
        if !is_same {
            keys.push((name, value));
        }
    };
    key("weight", server.weight == other.weight, server.weight.to_string());
    key("backup", server.backup == other.backup, server.backup.to_string());
    key("max_sessions", server.max_sessions == other.max_sessions, server.max_sessions.to_string());
    key("state", server.state == other.state, quoted(State::as_str(server.state)));
    let labels = || {
        let labels = server.labels.iter().map(|(name, text)| format!("{}: {}", quoted(name), quoted(text)));
        format!("{{{}}}", labels.collect::<Vec<_>>().join(", "))
    };
    key("labels", server.labels == other.labels, labels());
    key("origin", server.origin == other.origin, quoted(Origin::as_str(server.origin)));
    keys
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
