//! What lies between what runs and what shall run.

use std::collections::BTreeMap;

use crate::config::{Change, Config, Effect, GroupConfig};
use crate::group::GroupId;

/// Groups of which it is said how they have changed.
const GROUPS_TOLD_MAX: usize = 20;

/// What a change did to the groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Groups that accept clients now and did not before.
    pub opened: Vec<GroupId>,
    /// Groups that accepted clients before and do not now, and groups that are gone.
    pub closed: Vec<GroupId>,
    /// Groups that go on, with other settings, policy or servers.
    pub changed: Vec<GroupId>,
    /// Settings beside the groups that are others now.
    pub settings: Vec<String>,
    /// Settings that were changed in the file and take effect at the next start.
    pub at_restart: Vec<String>,
    /// What has changed, from what to what: `group 8081: policy round_robin → ha; servers +1 −0`.
    pub changes: Vec<String>,
}

impl Difference {
    /// What changes when `new` follows `old`.
    pub(super) fn between(old: &Config, new: &Config) -> Self {
        let (before, after) = (by_id(old), by_id(new));
        let mut difference = Self::default();
        for Change { path, effect, words } in new.changes_since(old) {
            if effect != Effect::Nothing {
                difference.changes.push(format!("{path} {words}"));
            }
            match effect {
                Effect::AtOnce | Effect::NewSessions => difference.settings.push(path),
                Effect::NextStart => difference.at_restart.push(path),
                Effect::Nothing => {}
            }
        }
        for (id, group) in &after {
            let was_open = before.get(id).is_some_and(|old| old.settings.open);
            match (was_open, group.settings.open) {
                (false, true) => difference.opened.push(id.clone()),
                (true, false) => difference.closed.push(id.clone()),
                _ if before.get(id) != Some(group) => difference.changed.push(id.clone()),
                _ => {}
            }
        }
        difference.closed.extend(before.keys().filter(|id| !after.contains_key(id)).cloned());
        difference.closed.sort_unstable();
        difference
    }

    /// Adds how the groups that go on have changed. Only for a reload: a change over HTTP says itself what it does, and
    /// thousands of servers that register make thousands of them.
    pub(super) fn add_words(&mut self, old: &Config, new: &Config) {
        let (before, after) = (by_id(old), by_id(new));
        let told = self.changed.iter().take(GROUPS_TOLD_MAX);
        let words = told.filter_map(|id| {
            let words = after.get(id)?.words_since(before.get(id)?);
            Some(format!("group {id}: {}", words.join("; ")))
        });
        self.changes.extend(words);
    }

    /// True when nothing was to be done.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

pub(super) fn by_id(config: &Config) -> BTreeMap<GroupId, &GroupConfig> {
    config.groups.iter().map(|group| (group.settings.id(), group)).collect()
}
