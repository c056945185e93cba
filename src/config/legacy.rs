//! Reading the flat file of the old program.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jsonc_parser::ast::Value;

use super::declare::{Fields, settings};
use super::fields::{Config, GroupConfig, HEARTBEAT_TIMEOUT, IDLE_TIMEOUT, STATUS_INTERVAL};
use super::key::keys;
use super::kinds::{AdminListen, number_or_text, optional, policy_name, time_or_zero};
use super::object::Object;
use super::problem::Place;
use super::reader::{Listens, Reader};
use crate::policy::spec::PolicySpec;

/// What the log says once when the old form was read.
pub const LEGACY_NOTE: &str = "the file has the flat form of the old program; alivecheckinterval and handlebuffer have \
                               no effect any more; goproxy check --dump shows the same in the new form, and the first \
                               change over HTTP writes it";

settings! {
    /// The keys of the old program's flat file.
    pub(in crate::config) struct OldFile {
        /// admin.listen on 127.0.0.1.
        httpport: u16 as number_or_text::<u16>(1, 65_535), NextStart;
        /// One open group on 0.0.0.0.
        tcpport: u16 as number_or_text::<u16>(1, 65_535), AtOnce;
        /// admin.pprof_listen on 127.0.0.1.
        pprofport: Option<u16> as optional(number_or_text::<u16>(1, 65_535)), NextStart;
        /// policy: 1 is ha, 2 is round_robin, 3 is ip_hash; or a name.
        lbpolicy: PolicySpec as policy_name() => PolicySpec::default(), NewSessions;
        /// idle_timeout.
        rwtimeout: Option<Duration> as optional(IDLE_TIMEOUT), AtOnce;
        /// log.status_interval.
        printinterval: Option<Duration> as optional(STATUS_INTERVAL), AtOnce;
        /// heartbeat_timeout.
        heartbeatkeepalive: Option<Duration> as optional(HEARTBEAT_TIMEOUT), AtOnce;
        /// Accepted; it has no effect.
        alivecheckinterval: Option<Duration> as optional(time_or_zero(1, 365 * 86_400_000)), Nothing;
        /// Accepted; it has no effect.
        handlebuffer: Option<u32> as optional(number_or_text::<u32>(0, u32::MAX as u64)), Nothing;
    }
}

/// True when the file has one of the old keys.
pub(super) fn is_legacy(root: &Value) -> bool {
    let is_old = |name: &str| keys(OldFile::TABLE, false).any(|key| key.name == name);
    root.as_object().is_some_and(|object| object.properties.iter().any(|property| is_old(property.name.as_str())))
}

/// Reads the old keys; `None` when they are mixed with new ones, or something is wrong.
pub(super) fn read(reader: &mut Reader, root: &Value) -> Option<Config> {
    let is_new = |name: &str| name != "$schema" && keys(Config::TABLE, false).any(|key| key.name == name);
    let mut names = root.as_object()?.properties.iter();
    if let Some(new) = names.find(|property| is_new(property.name.as_str())) {
        let name = new.name.as_str();
        let message = format!("the new key {name} is mixed with keys of the old form; expected one form or the other");
        reader.problems.add(new.range.start, name, message);
        return None;
    }
    // The defaults of the new form hold, except for what an empty file listens on.
    let mut config = Config::read(reader, &Object::missing(&Place::Root, false), None)?;
    reader.listeners.clear();

    let object = Object::open(reader, root, &Place::Root, OldFile::TABLE, false)?;
    let old = OldFile::read(reader, &object, None)?;
    let mut listen = |name: &str, ip: Ipv4Addr, port: u16, group| {
        let addr = SocketAddr::from((ip, port));
        reader.listeners.push(Listens { addr, offset: object.offset(name), path: name.to_owned(), group });
        addr
    };
    config.admin.listen = AdminListen::Tcp(listen("httpport", Ipv4Addr::LOCALHOST, old.httpport, None));
    config.admin.pprof_listen = old.pprofport.map(|port| listen("pprofport", Ipv4Addr::LOCALHOST, port, None));
    config.log.status_interval = old.printinterval.unwrap_or(config.log.status_interval);
    let mut settings = config.defaults.clone();
    settings.listen = listen("tcpport", Ipv4Addr::UNSPECIFIED, old.tcpport, Some(0)).into();
    settings.policy = old.lbpolicy;
    settings.idle_timeout = old.rwtimeout.unwrap_or(settings.idle_timeout);
    settings.heartbeat_timeout = old.heartbeatkeepalive.unwrap_or(settings.heartbeat_timeout);
    config.groups.push(GroupConfig { settings, servers: Vec::new() });
    reader.policies.push((object.offset("lbpolicy"), "lbpolicy".to_owned()));
    config.is_legacy = true;
    Some(config)
}
