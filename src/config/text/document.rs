//! Changing the file as a careful person would: only what changes, all else byte for byte.
//!
//! A [`Document`] applies edits to the configuration, which is cheap, and writes the text once, in [`Document::text`],
//! from the difference between the text and the edited configuration. So many edits cost as much as one, and an edit
//! that changes nothing changes no byte. An edit and its reverse leave no trace, except that a policy loses the
//! settings beside its name.
//!
//! A syntax tree that edits in place was tried: it spreads inserted objects over several lines and searches its place
//! anew for every edit.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::rewrite::{Wanted, rewritten};
use crate::config::check::{admin_sockets, check_server, check_weight};
use crate::config::dump::dump;
use crate::config::fields::{Config, GROUPS_MAX, GroupConfig, SERVERS_MAX};
use crate::config::kinds::check_labels;
use crate::config::problem::Problem;
use crate::config::read::parse;
use crate::config::syntax::without_bom;
use crate::group::{GroupId, GroupSettings};
use crate::policy::spec::PolicySpec;
use crate::server::{Origin, ServerAddr, ServerSettings, State};

/// One change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Puts a server at the end of a group's list.
    AddServer {
        /// The group.
        group: GroupId,
        /// The server.
        server: ServerSettings,
    },
    /// Takes a server out of a group's list.
    RemoveServer {
        /// The group.
        group: GroupId,
        /// The server.
        addr: ServerAddr,
    },
    /// Changes settings of a server; `None` leaves one as it is.
    SetServer {
        /// The group.
        group: GroupId,
        /// The server.
        addr: ServerAddr,
        /// Its new weight.
        weight: Option<u16>,
        /// Its new state.
        state: Option<State>,
        /// All its labels.
        labels: Option<BTreeMap<String, String>>,
    },
    /// Writes for servers that registered themselves whether they are silent. Servers that are not in the file are
    /// skipped.
    NoteSilence {
        /// The group, the server, and whether its lease has run out.
        servers: Vec<(GroupId, ServerAddr, bool)>,
    },
    /// Opens a group, or makes a new one on `0.0.0.0`.
    OpenGroup {
        /// The group.
        group: GroupId,
        /// Its policy; `None` keeps its policy, or takes the default for a new group. A policy of the same name changes
        /// nothing.
        policy: Option<PolicySpec>,
    },
    /// Closes a group.
    CloseGroup {
        /// The group.
        group: GroupId,
    },
    /// Gives a group another policy. A policy of the same name changes nothing: a name alone means that policy as it is
    /// configured.
    SetPolicy {
        /// The group.
        group: GroupId,
        /// The policy.
        policy: PolicySpec,
    },
}

/// Why an edit was refused. The document is then as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file has no such group.
    #[error("the file has no group {0}")]
    GroupNotFound(GroupId),
    /// The file has no such server.
    #[error("group {group} has no server {addr} in the file")]
    ServerNotFound {
        /// The group.
        group: GroupId,
        /// The server.
        addr: ServerAddr,
    },
    /// The server is there already.
    #[error("group {group} has the server {addr} in the file already")]
    ServerExists {
        /// The group.
        group: GroupId,
        /// The server.
        addr: ServerAddr,
    },
    /// With the edit the file would no longer be valid.
    #[error("{0}")]
    Refused(String),
}

/// The text of a configuration and the edits to it.
#[derive(Clone, Debug)]
pub struct Document {
    path: PathBuf,
    text: String,
    /// The configuration that `text` holds.
    said: Vec<GroupConfig>,
    was_legacy: bool,
    config: Config,
    /// For each server of each group of `config`, its index in `said`; `None` for a new one.
    places: Vec<Vec<Option<usize>>>,
}

impl Document {
    /// Reads and checks `text`, the content of the file at `path`, as [`crate::config::parse()`] does.
    ///
    /// # Errors
    ///
    /// Every mistake in the order of the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Problem>> {
        Ok(Self::new(path, text, parse(path, text)?))
    }

    /// `config` is what `text`, the content of the file at `path`, says.
    pub fn new(path: &Path, text: &str, config: Config) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            said: config.groups.clone(),
            was_legacy: config.is_legacy,
            places: config.groups.iter().map(|group| (0..group.servers.len()).map(Some).collect()).collect(),
            config,
        }
    }

    /// The same with other `groups` in force: those of `config` in their order, then new ones. No two servers of a group have the
    /// same address; those that the file has stand before new ones, but for one that was taken out and has come back.
    pub fn with_groups(path: &Path, text: &str, config: Config, groups: Vec<GroupConfig>) -> Self {
        let mut document = Self::new(path, text, config);
        for (at, group) in groups.iter().enumerate() {
            let said = document.said.get(at).map_or(&[][..], |said| &said.servers);
            let places = kept_places(said, &group.servers);
            match document.places.get_mut(at) {
                Some(known) => *known = places,
                None => document.places.push(places),
            }
        }
        document.config.groups = groups;
        document.config.is_legacy = document.was_legacy && document.config.groups == document.said;
        document
    }

    /// The configuration that [`Document::text`] means.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Applies one edit.
    ///
    /// # Errors
    ///
    /// The edit names something that is not there, or the file would no longer be valid.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), EditError> {
        match edit {
            Edit::AddServer { group, server } => self.add_server(group, server)?,
            Edit::RemoveServer { group, addr } => {
                let (group, server) = self.server(group, addr)?;
                self.remove_server(group, server);
            }
            Edit::SetServer { group, addr, weight, state, labels } => {
                self.name_one(group, addr)?;
                let (group, server) = self.server(group, addr)?;
                weight.map_or(Ok(()), check_weight).map_err(EditError::Refused)?;
                labels.as_ref().map_or(Ok(()), check_labels).map_err(EditError::Refused)?;
                let server = &mut self.config.groups[group].servers[server];
                server.weight = weight.unwrap_or(server.weight);
                server.state = state.unwrap_or(server.state);
                if let Some(labels) = labels {
                    server.labels.clone_from(labels);
                }
            }
            Edit::NoteSilence { servers } => {
                for (group, addr, silent) in servers {
                    // It may have been taken out of the file meanwhile.
                    if let Ok((group, server)) = self.server(group, addr) {
                        let server = &mut self.config.groups[group].servers[server];
                        server.silent = *silent && server.origin == Origin::Heartbeat;
                    }
                }
            }
            Edit::OpenGroup { group, policy } => {
                let index = self.index_of(group).or_else(|_| self.new_group(group))?;
                self.config.groups[index].settings.open = true;
                if let Some(policy) = policy {
                    self.set_policy(index, policy);
                }
            }
            Edit::CloseGroup { group } => {
                let index = self.index_of(group)?;
                self.config.groups[index].settings.open = false;
            }
            Edit::SetPolicy { group, policy } => {
                let index = self.index_of(group)?;
                self.set_policy(index, policy);
            }
        }
        self.config.is_legacy = self.was_legacy && self.config.groups == self.said;
        Ok(())
    }

    /// The text with all edits applied; the same text if nothing differs.
    ///
    /// The flat form of the old program is written in the new form when anything differs.
    pub fn text(&self) -> String {
        if self.config.groups == self.said {
            return self.text.clone();
        }
        let text = without_bom(&self.text);
        let mark = &self.text[..self.text.len() - text.len()];
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        if self.was_legacy {
            return format!("{mark}{}", dump(&self.config, &self.path, true).replace('\n', newline));
        }
        let groups = self.config.groups.iter().zip(&self.places).enumerate();
        let wanted = groups.map(|(index, (group, places))| Wanted { group, said: self.said.get(index), places });
        format!("{mark}{}", rewritten(text, newline, &self.config.defaults, wanted))
    }

    /// The group that is called so, or that alone has this port.
    pub fn group(&self, id: &GroupId) -> Option<&GroupConfig> {
        self.index_of(id).ok().map(|index| &self.config.groups[index])
    }

    /// True when [`Document::text`] is in the new form though the file was in the old one.
    pub fn converts_old_form(&self) -> bool {
        self.was_legacy && !self.config.is_legacy
    }

    fn index_of(&self, id: &GroupId) -> Result<usize, EditError> {
        let groups = self.config.groups.iter().map(|group| &group.settings).enumerate();
        if let Some((index, _)) = groups.clone().find(|(_, settings)| settings.is_called(id)) {
            return Ok(index);
        }
        let mut by_port = groups.filter(|(_, settings)| {
            id.as_port().is_some_and(|port| settings.listen.iter().any(|listen| listen.port() == port))
        });
        match (by_port.next(), by_port.next()) {
            (Some((index, _)), None) => Ok(index),
            _ => Err(EditError::GroupNotFound(id.clone())),
        }
    }

    fn server(&self, id: &GroupId, addr: &ServerAddr) -> Result<(usize, usize), EditError> {
        let group = self.index_of(id)?;
        let position = self.config.groups[group].servers.iter().position(|server| server.addr == *addr);
        let server = position.ok_or_else(|| EditError::ServerNotFound { group: id.clone(), addr: addr.clone() })?;
        Ok((group, server))
    }

    /// With a name that is expanded go the settings of its addresses.
    fn remove_server(&mut self, group: usize, server: usize) {
        let (servers, places) = (&mut self.config.groups[group].servers, &mut self.places[group]);
        places.remove(server);
        let removed = servers.remove(server);
        if !removed.expand {
            return;
        }
        for at in (0..servers.len()).rev() {
            let addr = &servers[at].addr;
            if addr.is_one_of_name() && addr.host_port() == removed.addr.as_str() {
                servers.remove(at);
                places.remove(at);
            }
        }
    }

    /// Gives one address of a name that is expanded settings of its own, which are those of the name so far.
    fn name_one(&mut self, id: &GroupId, addr: &ServerAddr) -> Result<(), EditError> {
        if !addr.is_one_of_name() || self.server(id, addr).is_ok() {
            return Ok(());
        }
        let index = self.index_of(id)?;
        let named = |server: &&ServerSettings| server.expand && server.addr.as_str() == addr.host_port();
        let Some(named) = self.config.groups[index].servers.iter().find(named) else { return Ok(()) };
        let one = ServerSettings { addr: addr.clone(), expand: false, name: None, ..named.clone() };
        self.add_server(id, &one)
    }

    fn add_server(&mut self, id: &GroupId, server: &ServerSettings) -> Result<(), EditError> {
        let index = self.index_of(id)?;
        let group = &mut self.config.groups[index];
        if group.servers.iter().any(|other| other.addr == server.addr) {
            return Err(EditError::ServerExists { group: id.clone(), addr: server.addr.clone() });
        }
        if group.servers.len() == SERVERS_MAX {
            return Err(EditError::Refused(format!("group {id} has {SERVERS_MAX} servers already; expected no more")));
        }
        check_server(server, &group.settings, &self.config.admin).map_err(EditError::Refused)?;
        group.servers.push(server.clone());
        self.places[index].push(None);
        Ok(())
    }

    fn set_policy(&mut self, index: usize, policy: &PolicySpec) {
        let current = &mut self.config.groups[index].settings.policy;
        if current.name() != policy.name() {
            *current = policy.clone();
        }
    }

    fn new_group(&mut self, id: &GroupId) -> Result<usize, EditError> {
        let not_found = || EditError::GroupNotFound(id.clone());
        let port = id.as_port().ok_or_else(not_found)?;
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let groups = self.config.groups.iter().flat_map(|group| group.settings.listen.iter());
        let is_taken = groups.chain(admin_sockets(&self.config.admin)).any(|taken| taken.port() == port);
        let groups = &mut self.config.groups;
        if port == 0 || is_taken {
            return Err(EditError::Refused(format!("port {port} is not free for a group; expected one of its own")));
        }
        if groups.len() == GROUPS_MAX {
            return Err(EditError::Refused(format!("the file has {GROUPS_MAX} groups already; expected no more")));
        }
        let settings = GroupSettings { listen: listen.into(), ..self.config.defaults.clone() };
        groups.push(GroupConfig { settings, servers: Vec::new() });
        self.places.push(Vec::new());
        Ok(groups.len() - 1)
    }
}

/// For each server that holds `now`, its place in the file; `None` for one that the file has not, or not there: the file's come
/// first, in its order, and one that was taken out and has come back stands behind them.
pub(in crate::config) fn kept_places(said: &[ServerSettings], now: &[ServerSettings]) -> Vec<Option<usize>> {
    let places: HashMap<&ServerAddr, usize> =
        said.iter().enumerate().map(|(place, server)| (&server.addr, place)).collect();
    let mut next = Some(0);
    let kept = now.iter().map(|server| {
        let place = places.get(&server.addr).copied().filter(|place| next.is_some_and(|next| *place >= next));
        next = place.map(|place| place + 1);
        place
    });
    kept.collect()
}
