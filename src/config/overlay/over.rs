//! Laying the overlay over what the file says.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::between::{own_keys, style, value, whole};
use super::{GROUP, Overlay, Override, Overruled, SERVER};
use crate::config::check::{admin_sockets, check_server};
use crate::config::declare::Fields;
use crate::config::fields::{Config, GROUPS_MAX, GroupConfig, SERVERS_MAX};
use crate::config::find::folder_of;
use crate::config::object::Object;
use crate::config::problem::Place;
use crate::config::reader::Reader;
use crate::config::syntax::syntax;
use crate::group::GroupId;
use crate::server::{Origin, ServerAddr, ServerSettings};

/// Why an override does not hold.
enum Lost {
    /// The file says by itself what the override says.
    Agreed,
    /// The file says something else than it did, or the override cannot be.
    By(String),
}

struct Layers<'a> {
    base: &'a Config,
    path: &'a Path,
    groups: Vec<GroupConfig>,
    /// The groups by their ids.
    places: HashMap<GroupId, usize>,
    /// The servers of each group that had to be searched, by their addresses.
    servers: HashMap<usize, HashMap<ServerAddr, usize>>,
    /// The places in each group whose servers are taken out.
    removed: HashMap<usize, HashSet<usize>>,
}

impl Overlay {
    /// The groups of `base`, which the file at `path` says, with the overlay over them: those of the file in their order, then
    /// others. Besides, what does not hold any more.
    pub fn over(&self, base: &Config, path: &Path) -> (Vec<GroupConfig>, Vec<Overruled>) {
        let places = base.groups.iter().enumerate().map(|(at, group)| (group.settings.id(), at)).collect();
        let (servers, removed) = (HashMap::new(), HashMap::new());
        let mut layers = Layers { base, path, groups: base.groups.clone(), places, servers, removed };
        let mut overruled = Vec::new();
        for it in &self.overrides {
            if let Err(Lost::By(by)) = layers.lay(it) {
                overruled.push(Overruled { it: it.clone(), by });
            }
        }
        for (at, removed) in layers.removed {
            let mut places = 0..;
            layers.groups[at].servers.retain(|_| places.next().is_some_and(|place| !removed.contains(&place)));
        }
        (layers.groups, overruled)
    }
}

impl Layers<'_> {
    fn lay(&mut self, it: &Override) -> Result<(), Lost> {
        let at = self.places.get(&it.group).copied();
        match (at, &it.server) {
            (None, None) if it.key == GROUP => self.add_group(it),
            (None, _) => Err(Lost::By(format!("no group {}", it.group))),
            (Some(at), None) => self.set_group(at, it),
            (Some(at), Some(addr)) if it.key == SERVER => self.whole_server(at, addr, it),
            (Some(at), Some(addr)) => self.set_server(at, addr, it),
        }
    }

    fn add_group(&mut self, it: &Override) -> Result<(), Lost> {
        let settings = self.read(as_object(&it.now)?, &self.base.defaults)?;
        if settings.id() != it.group {
            return Err(Lost::By(format!("the group would be called {}", settings.id())));
        }
        let taken: HashSet<u16> = self
            .groups
            .iter()
            .flat_map(|group| group.settings.listen.iter())
            .chain(admin_sockets(&self.base.admin))
            .map(|addr| addr.port())
            .collect();
        if let Some(addr) = settings.listen.iter().find(|addr| taken.contains(&addr.port())) {
            return Err(Lost::By(format!("port {} is taken", addr.port())));
        }
        if self.groups.len() == GROUPS_MAX {
            return Err(Lost::By(format!("{GROUPS_MAX} groups, which is the limit")));
        }
        self.places.insert(it.group.clone(), self.groups.len());
        self.groups.push(GroupConfig { settings, servers: Vec::new() });
        Ok(())
    }

    fn set_group(&mut self, at: usize, it: &Override) -> Result<(), Lost> {
        let current = &self.groups[at].settings;
        if it.key == GROUP {
            return agreed_or(own_keys(current, &self.base.defaults), &it.now);
        }
        let listen = said(current, "listen");
        compare(said(current, &it.key), it)?;
        let mut settings = self
            .read([("listen".to_owned(), listen), (it.key.clone(), it.now.clone())].into_iter().collect(), current)?;
        // A name is never taken over.
        settings.name.clone_from(&current.name);
        self.groups[at].settings = settings;
        Ok(())
    }

    fn whole_server(&mut self, at: usize, addr: &ServerAddr, it: &Override) -> Result<(), Lost> {
        let place = self.place(at, addr);
        let said = place.map_or(Value::Null, |place| whole(&self.groups[at].servers[place]));
        compare(said, it)?;
        if it.now.is_null() {
            self.removed.entry(at).or_default().extend(place);
            return Ok(());
        }
        let server = match &it.now {
            Value::String(_) => ServerSettings::new(addr.clone(), Origin::File),
            object => self.read(as_object(object)?, &ServerSettings::new(addr.clone(), Origin::File))?,
        };
        let group = &mut self.groups[at];
        if group.servers.len() >= SERVERS_MAX && place.is_none() {
            return Err(Lost::By(format!("{SERVERS_MAX} servers, which is the limit")));
        }
        if addr.is_one_of_name() && !group.servers.iter().any(|it| it.expand && it.addr.as_str() == addr.host_port()) {
            return Err(Lost::By(format!("no server {} with expand", addr.host_port())));
        }
        check_server(&server, &group.settings, &self.base.admin).map_err(Lost::By)?;
        // One of the file that has come back stands behind the others.
        self.removed.entry(at).or_default().extend(place);
        self.servers.entry(at).or_default().insert(addr.clone(), group.servers.len());
        group.servers.push(server);
        Ok(())
    }

    fn set_server(&mut self, at: usize, addr: &ServerAddr, it: &Override) -> Result<(), Lost> {
        let place = self.place(at, addr).ok_or_else(|| Lost::By(format!("no server {addr}")))?;
        let current = &self.groups[at].servers[place];
        compare(said(current, &it.key), it)?;
        let object = [("addr".to_owned(), addr.as_str().into()), (it.key.clone(), it.now.clone())];
        let server = self.read(object.into_iter().collect(), current)?;
        self.groups[at].servers[place] = server;
        Ok(())
    }

    fn place(&mut self, at: usize, addr: &ServerAddr) -> Option<usize> {
        let servers = &self.groups[at].servers;
        let places = self.servers.entry(at).or_insert_with(|| {
            servers.iter().enumerate().map(|(place, server)| (server.addr.clone(), place)).collect()
        });
        places.get(addr).copied()
    }

    /// Reads keys as the file would be read; those that are not there are those of `base`.
    fn read<T: Fields>(&self, keys: Map<String, Value>, base: &T) -> Result<T, Lost> {
        let text = Value::Object(keys).to_string();
        let root = syntax(&text).map_err(|problems| Lost::By(problems[0].message.clone()))?;
        let env = |name: &str| std::env::var(name).ok();
        let mut reader = Reader::new(folder_of(self.path), &env);
        let object = Object::open(&mut reader, &root, &Place::Root, T::TABLE, false);
        let read = object.and_then(|object| T::read(&mut reader, &object, Some(base)));
        match (read, reader.problems.finish(&text).first()) {
            (Some(read), None) => Ok(read),
            (_, problem) => Err(Lost::By(problem.map_or_else(String::new, |problem| problem.message.clone()))),
        }
    }
}

fn as_object(value: &Value) -> Result<Map<String, Value>, Lost> {
    value.as_object().cloned().ok_or_else(|| Lost::By("expected an object".to_owned()))
}

/// What a group or a server says of a key; null for one that it does not know.
fn said(fields: &impl Fields, key: &str) -> Value {
    let keys = fields.write(&style());
    keys.iter().find(|(name, _)| *name == key).map_or(Value::Null, |(_, text)| value(text))
}

/// Whether an override holds where the file says `said`.
fn compare(said: Value, it: &Override) -> Result<(), Lost> {
    if said == it.base { Ok(()) } else { agreed_or(said, &it.now) }
}

fn agreed_or(said: Value, now: &Value) -> Result<(), Lost> {
    Err(if said == *now { Lost::Agreed } else { Lost::By(said.to_string()) })
}
