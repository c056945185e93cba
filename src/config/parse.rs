//! From the text of `proxy.json` to the checked [`Config`], or to every mistake in it.
//!
//! One walk over the parsed file does all of it. A wrong value is reported and its default stands in,
//! so that the rest is still checked; what stands in never leaves this module, because one problem is
//! enough to refuse the file.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use jsonc_parser::ast::Value;
use jsonc_parser::common::Ranged;

use super::check::{Listens, check_listeners, check_server_addr};
use super::keys::{ADMIN, DEFAULTS, GROUP, GROUPS_MAX, Key, LOG, NETWORKS_MAX, ROOT, SERVER, SERVERS_MAX};
use super::problem::{Place, Problem, Problems};
use super::reader::{self, Fields, fields};
use super::{AdminListen, AdminSettings, Config, GroupConfig, LogFormat, LogLevel, LogSettings, legacy, policy, value};
use crate::group::GroupSettings;
use crate::server::{Origin, ServerAddr, ServerSettings, State};

/// Reads and checks `text`, the content of the file at `path`.
///
/// Relative paths in the file start from its folder. Secrets are looked up, so the answer depends on
/// the environment and on the files they are kept in.
///
/// # Errors
///
/// Every mistake in the order of the file; of the syntax only the first.
pub fn parse(path: &Path, text: &str) -> Result<Config, Vec<Problem>> {
    parse_with(path, text, &|name| std::env::var(name).ok()).map(|parsed| parsed.config)
}

/// A checked file.
pub(super) struct Parsed {
    pub(super) config: Config,
    /// What holds for a group that says nothing; only `listen` means nothing here.
    pub(super) base: GroupSettings,
}

/// [`parse`] with the environment given.
pub(super) fn parse_with(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Parsed, Vec<Problem>> {
    let text = without_bom(text);
    let root = reader::syntax(text)?;
    let mut parser = Parser { folder: folder_of(path), env, problems: Problems::default(), listeners: Vec::new() };
    let parsed = parser.root(&root);
    match parsed {
        Some(parsed) if parser.problems.is_empty() => Ok(parsed),
        _ => Err(parser.problems.finish(text)),
    }
}

/// `text` without the mark that some editors put in front.
pub(super) fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Where relative paths of the file at `path` start, absolute.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    // Only an empty path and a lost working folder have no absolute form; then the relative one serves.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// Stands for the address of `defaults`, which has none.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What the walk knows and has found so far.
pub(super) struct Parser<'e> {
    pub(super) folder: PathBuf,
    env: &'e dyn Fn(&str) -> Option<String>,
    pub(super) problems: Problems,
    pub(super) listeners: Vec<Listens>,
}

impl Parser<'_> {
    pub(super) fn root(&mut self, root: &Value) -> Option<Parsed> {
        if legacy::is_legacy(root) {
            return legacy::read(self, root);
        }
        let f = fields(&mut self.problems, root, &Place::Root, ROOT)?;
        let p = &mut self.problems;
        let policies_dir = f.get_or(p, "policies_dir", None, value::text);
        let drain_timeout = f.get_or(p, "drain_timeout", None, value::time);
        let threads = f.get_or(p, "threads", None, value::whole_u32) as usize;
        let pin_threads = f.get_or(p, "pin_threads", None, value::switch);
        let policy_max_bytes = f.get_or(p, "policy_max_bytes", None, value::size);
        f.get(p, "$schema", value::text);
        let admin = self.section(&f, "admin", ADMIN, Self::admin);
        let log = self.section(&f, "log", LOG, Self::log);
        let base = self.section(&f, "defaults", DEFAULTS, |parser, f| parser.group_settings(f, None));
        let groups = self.groups(&f, &base, &admin);
        check_listeners(&mut self.problems, &self.listeners);
        let policies_dir = self.folder.join(policies_dir);
        let config = Config {
            admin,
            log,
            policies_dir,
            policy_max_bytes,
            drain_timeout,
            threads,
            pin_threads,
            groups,
            is_legacy: false,
        };
        Some(Parsed { config, base })
    }

    /// Reads an object that may be missing: then as if it were `{}`.
    fn section<T>(
        &mut self,
        parent: &Fields,
        name: &str,
        keys: &'static [Key],
        read: impl FnOnce(&mut Self, &Fields) -> T,
    ) -> T {
        let empty = reader::syntax("{}").expect("an empty object is JSON");
        let place = Place::Key(parent.place, name);
        let own = parent.value(name).and_then(|value| fields(&mut self.problems, value, &place, keys));
        match own {
            Some(own) => read(self, &own),
            None => {
                let none = fields(&mut self.problems, &empty, &place, keys).expect("an empty object is an object");
                read(self, &none)
            }
        }
    }

    fn admin(&mut self, f: &Fields) -> AdminSettings {
        let p = &mut self.problems;
        let secret = |_: &Key, value: &Value| value::secret(value, &self.folder, self.env);
        let mut admin = AdminSettings {
            listen: f.get_or(p, "listen", None, value::socket_or_unix),
            token: f.get(p, "token", secret),
            register_token: f.get(p, "register_token", secret),
            register_allow: None,
            allow_get_changes: f.get_or(p, "allow_get_changes", None, value::switch),
            pprof_listen: f.get(p, "pprof_listen", value::socket),
        };
        if f.value("token").is_none() && f.value("register_token").is_some() {
            let message = "a register_token without a token protects nothing; expected admin.token too";
            p.add(f.offset("register_token"), Place::Key(f.place, "register_token"), message);
        }
        if let (Some(token), Some(register_token)) = (&admin.token, &admin.register_token)
            && token.expose() == register_token.expose()
        {
            let message = "the register_token is the token, which allows everything; expected another one";
            p.add(f.offset("register_token"), Place::Key(f.place, "register_token"), message);
        }
        let listen = match admin.listen {
            AdminListen::Tcp(addr) => Some(("listen", addr)),
            AdminListen::Unix(_) => None,
        };
        for (name, addr) in listen.into_iter().chain(admin.pprof_listen.map(|addr| ("pprof_listen", addr))) {
            let place = Place::Key(f.place, name);
            if !addr.ip().to_canonical().is_loopback() && f.value("token").is_none() {
                let message = format!(
                    "\"{addr}\" can be reached from other machines; expected a loopback address \
                                       or admin.token"
                );
                p.add(f.offset(name), place, message);
            }
            let (offset, path) = (f.offset(name), place.to_string());
            self.listeners.push(Listens { addr, offset, path, is_group: false });
        }
        admin.register_allow = self.networks(f);
        admin
    }

    /// The networks that may register; `None` when the key is missing.
    fn networks(&mut self, f: &Fields) -> Option<Vec<IpNet>> {
        f.value("register_allow")?;
        let place = Place::Key(f.place, "register_allow");
        let networks = list(&mut self.problems, f, "register_allow", NETWORKS_MAX);
        let network = |(index, value): (usize, &Value)| {
            let network = value::network(value);
            network.map_err(|message| self.problems.add(value.start(), Place::Index(&place, index), message)).ok()
        };
        Some(networks.iter().enumerate().filter_map(network).collect())
    }

    fn log(&mut self, f: &Fields) -> LogSettings {
        let p = &mut self.problems;
        LogSettings {
            format: LogFormat::parse(f.get_or(p, "format", None, value::word)).expect("the table has the words"),
            level: LogLevel::parse(f.get_or(p, "level", None, value::word)).expect("the table has the words"),
            status_interval: f.get_or(p, "status_interval", None, value::time),
        }
    }

    /// The settings that `defaults` and a group share, on top of `base` or of what is built in.
    fn group_settings(&mut self, f: &Fields, base: Option<&GroupSettings>) -> GroupSettings {
        let p = &mut self.problems;
        GroupSettings {
            listen: base.map_or(NOWHERE, |base| base.listen),
            open: f.get_or(p, "open", base.map(|base| base.open), value::switch),
            policy: policy::read(p, f, "policy", base.map(|base| base.policy.clone())),
            connect_timeout: f.get_or(p, "connect_timeout", base.map(|base| base.connect_timeout), value::time),
            connect_attempts: f.get_or(p, "connect_attempts", base.map(|base| base.connect_attempts), value::whole_u32),
            idle_timeout: f.get_or(p, "idle_timeout", base.map(|base| base.idle_timeout), value::time),
            half_close_timeout: f.get_or(
                p,
                "half_close_timeout",
                base.map(|base| base.half_close_timeout),
                value::time,
            ),
            heartbeat_timeout: f.get_or(p, "heartbeat_timeout", base.map(|base| base.heartbeat_timeout), value::time),
            max_sessions: f.get_or(p, "max_sessions", base.map(|base| base.max_sessions), value::whole_u32),
        }
    }

    fn groups(&mut self, root: &Fields, base: &GroupSettings, admin: &AdminSettings) -> Vec<GroupConfig> {
        let place = Place::Key(root.place, "groups");
        let list = list(&mut self.problems, root, "groups", GROUPS_MAX);
        let groups = list.iter().enumerate().filter_map(|(index, value)| {
            let place = Place::Index(&place, index);
            let f = fields(&mut self.problems, value, &place, GROUP)?;
            let listen = f.get_required(&mut self.problems, "listen", value::socket);
            if let Some(addr) = listen {
                let path = Place::Key(&place, "listen").to_string();
                self.listeners.push(Listens { addr, offset: f.offset("listen"), path, is_group: true });
            }
            let mut settings = self.group_settings(&f, Some(base));
            settings.listen = listen.unwrap_or(base.listen);
            let servers = self.servers(&f, listen, admin);
            Some(GroupConfig { settings, servers })
        });
        groups.collect()
    }

    fn servers(&mut self, group: &Fields, listen: Option<SocketAddr>, admin: &AdminSettings) -> Vec<ServerSettings> {
        let place = Place::Key(group.place, "servers");
        let list = list(&mut self.problems, group, "servers", SERVERS_MAX);
        let mut first_at: HashMap<ServerAddr, usize> = HashMap::with_capacity(list.len());
        let mut servers = Vec::with_capacity(list.len());
        for (index, value) in list.iter().enumerate() {
            let place = Place::Index(&place, index);
            let Some((server, offset)) = self.server(value, &place) else { continue };
            let addr_place = Place::Key(&place, "addr");
            let place = if value.as_string_lit().is_some() { place } else { addr_place };
            if let Err(message) = check_server_addr(&server.addr, listen, admin) {
                self.problems.add(offset, place, message);
            }
            if let Some(first) = first_at.get(&server.addr) {
                let message = format!("\"{}\" is servers[{first}] already; expected each server once", server.addr);
                self.problems.add(offset, place, message);
            } else {
                first_at.insert(server.addr.clone(), index);
            }
            servers.push(server);
        }
        servers
    }

    /// One server and where its address is written; `None` when it has no usable address.
    fn server(&mut self, value: &Value, place: &Place) -> Option<(ServerSettings, usize)> {
        if value.as_string_lit().is_some() {
            let addr = value::server(&SERVER[0], value);
            let addr = addr.map_err(|message| self.problems.add(value.start(), place, message)).ok()?;
            return Some((ServerSettings::new(addr, Origin::File), value.start()));
        }
        let f = fields(&mut self.problems, value, place, SERVER)?;
        let p = &mut self.problems;
        let addr = f.get_required(p, "addr", value::server);
        let state = f.get_or(p, "state", Some(State::default().as_str()), value::word);
        let origin = f.get_or(p, "origin", Some(Origin::File.as_str()), value::word);
        let weight = f.get_or(p, "weight", Some(1), value::whole_u32);
        let backup = f.get_or(p, "backup", Some(false), value::switch);
        let max_sessions = f.get_or(p, "max_sessions", Some(0), value::whole_u32);
        let labels = self.labels(&f);
        let settings = ServerSettings {
            addr: addr?,
            weight,
            backup,
            max_sessions,
            state: State::parse(state).expect("the table has the words"),
            labels,
            origin: if origin == Origin::Heartbeat.as_str() { Origin::Heartbeat } else { Origin::File },
        };
        Some((settings, f.offset("addr")))
    }

    fn labels(&mut self, server: &Fields) -> BTreeMap<String, String> {
        let place = Place::Key(server.place, "labels");
        let mut labels = BTreeMap::new();
        let Some(value) = server.value("labels") else { return labels };
        let Value::Object(object) = value else {
            self.problems.add(value.start(), place, format!("{} is no object; expected {{…}}", value::shown(value)));
            return labels;
        };
        for property in &object.properties {
            let name = property.name.as_str();
            match value::label(name, &property.value) {
                Ok(text) if !labels.contains_key(name) => _ = labels.insert(name.to_owned(), text),
                Ok(_) => self.problems.add(
                    property.range.start,
                    Place::Key(&place, name),
                    "the label is there twice; expected it once",
                ),
                Err(message) => self.problems.add(property.value.start(), Place::Key(&place, name), message),
            }
        }
        if let Err(message) = value::check_labels_len(object.properties.len()) {
            self.problems.add(value.start(), place, message);
        }
        labels
    }
}

/// The elements of a list that may be missing; reports anything else and too many of them.
fn list<'v, 't>(problems: &mut Problems, f: &Fields<'v, 't, '_>, name: &str, max: usize) -> &'v [Value<'t>] {
    let Some(value) = f.value(name) else { return &[] };
    let place = Place::Key(f.place, name);
    let Value::Array(list) = value else {
        let shown = value::shown(value);
        problems.add(value.start(), place, format!("{shown} is no list; expected […]"));
        return &[];
    };
    let len = list.elements.len();
    if len > max {
        problems.add(value.start(), place, format!("{len} {name} are too many; expected at most {max}"));
    }
    &list.elements[..len.min(max)]
}
