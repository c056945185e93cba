//! What differs between the file and what holds.

use std::collections::HashMap;

use serde_json::Value;

use super::{GROUP, Overlay, Override, SERVER};
use crate::config::declare::Fields;
use crate::config::fields::{Config, GroupConfig, server_text};
use crate::config::key::Style;
use crate::config::text::kept_places;
use crate::group::{GroupId, GroupSettings};
use crate::server::{ServerAddr, ServerSettings};

/// How values are written: as the file would say them.
pub(super) fn style() -> Style {
    Style { shows_secrets: true, ..Style::default() }
}

/// A value as JSON.
pub(super) fn value(text: &str) -> Value {
    serde_json::from_str(text).expect("a kind writes JSON")
}

/// The keys of a new group that are not those of `defaults`.
pub(super) fn own_keys(group: &GroupSettings, defaults: &GroupSettings) -> Value {
    group.differing(defaults, &style()).into_iter().map(|(key, text)| (key.to_owned(), value(&text))).collect()
}

/// A server as the file would say it.
pub(super) fn whole(server: &ServerSettings) -> Value {
    value(&server_text(server))
}

/// Finds what differs.
struct Finder<'a> {
    known: HashMap<(&'a GroupId, Option<&'a ServerAddr>, &'a str), &'a Override>,
    since: &'a str,
    found: Vec<Override>,
}

impl Overlay {
    /// What makes `now` out of `base`, which is what the file says. What was so `before` keeps its time, and what is new gets
    /// `since`.
    #[must_use]
    pub fn between(base: &Config, now: &Config, before: &Self, since: &str) -> Self {
        let known = before.overrides.iter().map(|it| ((&it.group, it.server.as_ref(), &*it.key), it)).collect();
        let mut finder = Finder { known, since, found: Vec::new() };
        let groups: HashMap<GroupId, &GroupConfig> = base.groups.iter().map(|it| (it.settings.id(), it)).collect();
        for group in &now.groups {
            let id = group.settings.id();
            let said = groups.get(&id);
            match said {
                Some(said) => finder.keys(&id, None, &said.settings, &group.settings),
                None => finder.add(&id, None, GROUP, Value::Null, own_keys(&group.settings, &base.defaults)),
            }
            finder.servers(&id, said.map_or(&[], |said| &said.servers), &group.servers);
        }
        Self { overrides: finder.found }
    }
}

impl Finder<'_> {
    fn servers(&mut self, group: &GroupId, base: &[ServerSettings], now: &[ServerSettings]) {
        if base == now {
            return;
        }
        let mut left: HashMap<&ServerAddr, &ServerSettings> =
            base.iter().map(|server| (&server.addr, server)).collect();
        for (server, place) in now.iter().zip(kept_places(base, now)) {
            let addr = Some(&server.addr);
            match (left.remove(&server.addr), place) {
                (Some(said), Some(_)) => self.keys(group, addr, said, server),
                // One that has come back stands behind others, and policies go by the order.
                (said, _) => self.add(group, addr, SERVER, said.map_or(Value::Null, whole), whole(server)),
            }
        }
        for server in base.iter().filter(|server| left.contains_key(&server.addr)) {
            self.add(group, Some(&server.addr), SERVER, whole(server), Value::Null);
        }
    }

    fn keys<T: Fields>(&mut self, group: &GroupId, server: Option<&ServerAddr>, base: &T, now: &T) {
        let (was, is) = (base.differing(now, &style()), now.differing(base, &style()));
        for ((key, was), (_, is)) in was.into_iter().zip(is) {
            self.add(group, server, key, value(&was), value(&is));
        }
    }

    fn add(&mut self, group: &GroupId, server: Option<&ServerAddr>, key: &str, base: Value, now: Value) {
        let known = self.known.get(&(group, server, key)).filter(|known| known.base == base && known.now == now);
        let since = known.map_or(self.since, |known| &known.since).to_owned();
        let (group, server, key) = (group.clone(), server.cloned(), key.to_owned());
        self.found.push(Override { group, server, key, base, now, since });
    }
}
