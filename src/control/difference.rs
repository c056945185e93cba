//! What lies between what runs and what shall run.

use std::collections::BTreeMap;

use crate::config::{Config, GroupConfig};

/// What a change did to the groups, by port.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Groups that accept clients now and did not before.
    pub opened: Vec<u16>,
    /// Groups that accepted clients before and do not now, and groups that are gone.
    pub closed: Vec<u16>,
    /// Groups that go on, with other settings, policy or servers.
    pub changed: Vec<u16>,
    /// Settings beside the groups that are others now.
    pub settings: Vec<&'static str>,
    /// Settings that were changed in the file and take effect at the next start.
    pub at_restart: Vec<&'static str>,
}

impl Difference {
    /// What changes when `new` follows `old`.
    pub(super) fn between(old: &Config, new: &Config) -> Self {
        let (before, after) = (by_port(old), by_port(new));
        let mut difference = Self { settings: settings(old, new), at_restart: at_restart(old, new), ..Self::default() };
        for (port, group) in &after {
            let was_open = before.get(port).is_some_and(|old| old.settings.open);
            match (was_open, group.settings.open) {
                (false, true) => difference.opened.push(*port),
                (true, false) => difference.closed.push(*port),
                _ if before.get(port) != Some(group) => difference.changed.push(*port),
                _ => {}
            }
        }
        difference.closed.extend(before.keys().filter(|port| !after.contains_key(port)));
        difference.closed.sort_unstable();
        difference
    }

    /// True when nothing was to be done.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

pub(super) fn by_port(config: &Config) -> BTreeMap<u16, &GroupConfig> {
    config.groups.iter().map(|group| (group.settings.listen.port(), group)).collect()
}

fn settings(old: &Config, new: &Config) -> Vec<&'static str> {
    only_changed([
        ("admin.token", old.admin.token != new.admin.token),
        ("admin.register_token", old.admin.register_token != new.admin.register_token),
        ("admin.register_allow", old.admin.register_allow != new.admin.register_allow),
        ("admin.allow_get_changes", old.admin.allow_get_changes != new.admin.allow_get_changes),
        ("log.level", old.log.level != new.log.level),
        ("log.status_interval", old.log.status_interval != new.log.status_interval),
        ("drain_timeout", old.drain_timeout != new.drain_timeout),
    ])
}

fn at_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    only_changed([
        ("admin.listen", old.admin.listen != new.admin.listen),
        ("admin.pprof_listen", old.admin.pprof_listen != new.admin.pprof_listen),
        ("log.format", old.log.format != new.log.format),
        ("policies_dir", old.policies_dir != new.policies_dir),
        ("policy_max_bytes", old.policy_max_bytes != new.policy_max_bytes),
        ("threads", old.threads != new.threads),
        ("pin_threads", old.pin_threads != new.pin_threads),
    ])
}

fn only_changed<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter().filter(|(_, is_changed)| *is_changed).map(|(key, _)| key).collect()
}
