//! One line `server`.

use serde_json::{Value, json};

use super::check::Check;
use super::tls::{Bases, ServerTls};
use super::words::{Directive, time};
use crate::cli::import::draft::{Keys, Note, ServerDraft, duration};

/// What lines `server` say of their group.
#[derive(Debug, Default)]
pub(super) struct ForGroup {
    pub(super) eject_failures: Option<u32>,
    pub(super) closes_when_down: bool,
    pub(super) source: Option<String>,
    pub(super) user_timeout: Option<String>,
    pub(super) bases: Bases,
}

/// A server, and whether it is checked.
#[derive(Debug)]
pub(super) struct Imported {
    pub(super) draft: ServerDraft,
    pub(super) is_checked: bool,
    pub(super) is_backup: bool,
    tls: ServerTls,
}

/// Writes how servers are spoken to in TLS. What is to be said of it.
pub(super) fn finish_tls(servers: &[Imported], keys: &mut Keys) -> Option<String> {
    let first = servers.iter().find(|server| server.tls.begins_here)?;
    keys.insert("server_tls".to_owned(), Value::Object(first.tls.keys.clone()));
    match servers.iter().all(|server| server.tls == first.tls) {
        false => Some("server_tls is one for the whole group, and its servers differ".to_owned()),
        true if first.tls.takes_any_name() => {
            let why = "HAProxy compares no name without verifyhost or sni; here a server has to prove its host, or \
                       server_tls.name";
            Some(why.to_owned())
        }
        true => None,
    }
}

/// Parameters that take a value and have no equivalent.
const VALUED: [&str; 25] = [
    "minconn",
    "maxqueue",
    "addr",
    "cookie",
    "id",
    "init-addr",
    "resolvers",
    "resolve-prefer",
    "resolve-opts",
    "resolve-net",
    "track",
    "crl-file",
    "npn",
    "check-sni",
    "check-alpn",
    "check-proto",
    "proto",
    "pool-max-conn",
    "pool-purge-delay",
    "agent-addr",
    "agent-port",
    "agent-inter",
    "agent-send",
    "namespace",
    "redir",
];

/// Why some parameters have no equivalent.
fn why(name: &str) -> &'static str {
    match name {
        "check-ssl" | "check-sni" | "check-alpn" => {
            "checks speak TLS as sessions do; where sessions do not, write server_tls into check; docs/tls.md"
        }
        "slowstart" => "a server that comes back gets its share at once",
        "resolvers" | "init-addr" | "resolve-prefer" | "resolve-opts" => {
            "names are looked up by the system, and again when a connect fails"
        }
        "cookie" => "cookies are HTTP",
        "maxqueue" | "minconn" => "goproxy has no queue: when every place is taken, clients are turned away",
        "agent-check" | "agent-port" | "agent-addr" | "agent-inter" | "agent-send" => {
            "servers tell their weight and state themselves, by worker-keepalive.do"
        }
        "observe" | "on-error" => "only observe layer4 with on-error mark-down, which is eject",
        _ => "no equivalent",
    }
}

/// Reads `server NAME ADDRESS …`, with the parameters of `default-server` before its own. `port` is the group's, for an
/// address without one.
///
/// # Errors
///
/// There is no server at such an address here.
pub(super) fn read(
    line: &Directive,
    defaults: &[String],
    port: Option<u16>,
    check: &mut Check,
    for_group: &mut ForGroup,
) -> Result<Imported, String> {
    let is_template = line.word(0) == "server-template";
    let (address, own) = if is_template { (line.word(3), 4) } else { (line.word(2), 3) };
    let address = address_of(address, port)?;
    let mut server =
        Imported { draft: ServerDraft::default(), is_checked: false, is_backup: false, tls: ServerTls::default() };
    server.draft.keys.insert("addr".to_owned(), json!(address));
    if is_template {
        let why = "one server stands for all addresses of its name, which take turns";
        server.draft.notes.push(Note::new(line.line, line.text.clone(), why));
    } else {
        server.draft.keys.insert("name".to_owned(), json!(line.word(1)));
    }
    let words: Vec<&str> = defaults.iter().map(String::as_str).chain(line.rest(own)).collect();
    let mut at = 0;
    let (mut observes, mut failures) = (false, 10);
    while at < words.len() {
        let value = words.get(at + 1).copied();
        let (taken, outcome) = parameter(&mut server, words[at], value, check, for_group);
        match (words[at], value) {
            ("observe", Some("layer4")) => observes = true,
            ("error-limit", Some(limit)) => failures = limit.parse().unwrap_or(failures),
            _ => {}
        }
        if let Err(why) = outcome {
            let what = words[at..words.len().min(at + taken)].join(" ");
            server.draft.notes.push(Note::new(line.line, what, why));
        }
        at += taken;
    }
    if observes {
        for_group.eject_failures.get_or_insert(failures.clamp(1, 1_000));
    }
    Ok(server)
}

/// Reads one parameter. How many words it takes, and why it has no equivalent.
fn parameter(
    server: &mut Imported,
    name: &str,
    value: Option<&str>,
    check: &mut Check,
    for_group: &mut ForGroup,
) -> (usize, Result<(), String>) {
    if let Some(taken) = server.tls.read(&for_group.bases, name, value) {
        return taken;
    }
    let keys = &mut server.draft.keys;
    let mut set = |key: &str, value| {
        keys.insert(key.to_owned(), value);
        Ok(())
    };
    let number = value.and_then(|value| value.parse::<u32>().ok());
    match (name, value, number) {
        ("check", ..) => (1, {
            server.is_checked = true;
            Ok(())
        }),
        ("no-check", ..) => (1, {
            server.is_checked = false;
            Ok(())
        }),
        ("backup", ..) => (1, {
            server.is_backup = true;
            set("backup", json!(true))
        }),
        ("disabled", ..) => (1, set("state", json!("maint"))),
        ("enabled" | "check-send-proxy" | "no-backup" | "stick", ..) => (1, Ok(())),
        ("send-proxy", ..) => (1, set("send_proxy", json!("v1"))),
        // With tls the header tells of it in any case.
        ("send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn", ..) => (1, set("send_proxy", json!("v2"))),
        ("weight", _, Some(0)) => (2, set("state", json!("drain"))),
        ("weight", _, Some(weight)) => (2, set("weight", json!(weight))),
        ("maxconn", _, Some(most)) => (2, set("max_sessions", json!(most))),
        ("port", _, Some(port)) => (2, set("check", json!({ "port": port }))),
        ("inter" | "fastinter" | "downinter" | "rise" | "fall", Some(value), _) => (2, check.parameter(name, value)),
        // Read by the caller, as they belong together.
        ("observe", Some("layer4"), _) | ("on-error", Some("mark-down"), _) | ("error-limit", _, Some(_)) => {
            (2, Ok(()))
        }
        ("on-marked-down", Some("shutdown-sessions"), _) => (2, {
            for_group.closes_when_down = true;
            Ok(())
        }),
        ("source", Some(source), _) => (2, {
            let ip = source.split(':').next().unwrap_or_default();
            match for_group.source.get_or_insert_with(|| ip.to_owned()) == ip {
                true => Ok(()),
                false => Err("server_tcp.source is one for the whole group".to_owned()),
            }
        }),
        ("tcp-ut", Some(value), _) if time(value).is_some() => (2, {
            for_group.user_timeout = time(value).map(duration);
            Ok(())
        }),
        (
            "slowstart" | "observe" | "on-error" | "on-marked-down" | "on-marked-up" | "error-limit" | "weight"
            | "maxconn",
            ..,
        ) => (2, Err(why(name).to_owned())),
        _ if VALUED.contains(&name) => (2, Err(why(name).to_owned())),
        _ => (1, Err(why(name).to_owned())),
    }
}

/// The address as the file has it.
fn address_of(text: &str, port: Option<u16>) -> Result<String, String> {
    let text =
        ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"].iter().fold(text, |text, kind| text.trim_start_matches(kind));
    if text.is_empty() || text.contains('/') || text.contains('@') || text.contains('$') {
        return Err("a server is host:port".to_owned());
    }
    let (host, own) = match text.rsplit_once(':') {
        Some((host, own)) if !text.ends_with(']') && (!host.contains(':') || own.parse::<u16>().is_ok()) => (host, own),
        _ => (text, ""),
    };
    let host = match host.trim_start_matches('[').trim_end_matches(']') {
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    let port = match own {
        "" => port.ok_or("it has no port of its own, and the group listens on several")?,
        own => {
            let number = own.parse().ok().filter(|_| own.bytes().all(|byte| byte.is_ascii_digit()));
            number.ok_or_else(|| format!("\"{own}\": expected a port"))?
        }
    };
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_port_has_the_groups() {
        for (text, port, expected) in [
            ("10.0.0.1:80", None, Some("10.0.0.1:80")),
            ("db.internal", Some(5_432), Some("db.internal:5432")),
            ("ipv4@10.0.0.1:80", None, Some("10.0.0.1:80")),
            ("[::1]:80", None, Some("[::1]:80")),
            ("[::1]", Some(80), Some("[::1]:80")),
            ("10.0.0.1", None, None),
            ("10.0.0.1:+1", Some(80), None),
            ("/run/db.sock", Some(80), None),
            ("unix@/run/db.sock", Some(80), None),
        ] {
            assert_eq!(address_of(text, port).ok().as_deref(), expected, "{text}");
        }
    }
}
