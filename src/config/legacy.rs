//! The flat file of the old program, read as the new form would say it.

use std::net::{Ipv4Addr, SocketAddr};

use jsonc_parser::ast::{NumberLit, Object, Value};

use super::check::{Listens, check_listeners};
use super::keys::{self, Key, LEGACY, ROOT};
use super::parse::{Parsed, Parser};
use super::problem::Place;
use super::reader::{self, fields};
use super::schema::range;
use super::{AdminListen, GroupConfig, value};
use crate::policy::spec::PolicySpec;

/// What the log says once when the old form was read.
pub const LEGACY_NOTE: &str = "the file has the flat form of the old program; alivecheckinterval and handlebuffer have \
                               no effect any more; goproxy check --dump shows the same in the new form, and the first \
                               change over HTTP writes it";

/// True when the file has one of the old keys.
pub(super) fn is_legacy(root: &Value) -> bool {
    let names =
        |object: &Object| object.properties.iter().any(|property| keys::find(LEGACY, property.name.as_str()).is_some());
    root.as_object().is_some_and(names)
}

/// Reads the old keys; `None` when they are mixed with new ones.
pub(super) fn read(parser: &mut Parser, root: &Value) -> Option<Parsed> {
    let object = root.as_object()?;
    let is_new = |name: &str| name != "$schema" && keys::find(ROOT, name).is_some();
    if let Some(new) = object.properties.iter().find(|property| is_new(property.name.as_str())) {
        let name = new.name.as_str();
        let message = format!("the new key {name} is mixed with keys of the old form; expected one form or the other");
        parser.problems.add(new.range.start, name, message);
        return None;
    }
    // Every default of the new form holds; what an empty file would listen on does not count.
    let empty = reader::syntax("{}").expect("an empty object is JSON");
    let mut parsed = parser.root(&empty)?;
    parser.listeners.clear();

    let f = fields(&mut parser.problems, root, &Place::Root, LEGACY)?;
    let p = &mut parser.problems;
    let http = f.get_required(p, "httpport", port);
    let tcp = f.get_required(p, "tcpport", port);
    let pprof = f.get(p, "pprofport", port);
    let mut settings = parsed.base.clone();
    settings.policy = f.get_or(p, "lbpolicy", None, policy);
    settings.idle_timeout = f.get_or(p, "rwtimeout", None, value::time);
    settings.heartbeat_timeout = f.get_or(p, "heartbeatkeepalive", None, value::time);
    parsed.config.log.status_interval = f.get_or(p, "printinterval", None, value::time);
    f.get(p, "alivecheckinterval", value::time);
    f.get(p, "handlebuffer", number);

    let mut listen = |name: &str, ip: Ipv4Addr, port: Option<u16>, is_group| {
        let addr = SocketAddr::from((ip, port?));
        parser.listeners.push(Listens { addr, offset: f.offset(name), path: name.to_owned(), is_group });
        Some(addr)
    };
    if let Some(addr) = listen("httpport", Ipv4Addr::LOCALHOST, http, false) {
        parsed.config.admin.listen = AdminListen::Tcp(addr);
    }
    parsed.config.admin.pprof_listen = listen("pprofport", Ipv4Addr::LOCALHOST, pprof, false);
    settings.listen = listen("tcpport", Ipv4Addr::UNSPECIFIED, tcp, true)?;
    check_listeners(&mut parser.problems, &parser.listeners);
    parsed.config.groups.push(GroupConfig { settings, servers: Vec::new() });
    parsed.config.is_legacy = true;
    Some(parsed)
}

/// A port as number or as text: the old program took both.
fn port(key: &Key, value: &Value) -> Result<u16, String> {
    number(key, value).map(|port| u16::try_from(port).expect("the table bounds it"))
}

fn number(key: &Key, value: &Value) -> Result<u64, String> {
    let Value::StringLit(text) = value else { return value::whole(key, value) };
    if text.value.is_empty() || !text.value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("{} is no number; expected {}", value::shown(value), range(key.shape)));
    }
    value::whole(key, &Value::NumberLit(NumberLit { value: &text.value, range: text.range }))
}

/// A policy by the old program's number, as number or as text, or by its name.
fn policy(key: &Key, value: &Value) -> Result<PolicySpec, String> {
    let number = match value {
        Value::NumberLit(number) => number.value,
        Value::StringLit(text) => &text.value,
        _ => "",
    };
    let name = match number {
        "1" => "ha",
        "2" => "round_robin",
        "3" => "ip_hash",
        _ if value.as_number_lit().is_some() => {
            let shown = value::shown(value);
            return Err(format!("unknown policy {shown}; expected 1 (ha), 2 (round_robin), 3 (ip_hash) or a name"));
        }
        _ => return value::policy(key, value),
    };
    Ok(PolicySpec::parse(name).expect("the old program's policies are built in"))
}
