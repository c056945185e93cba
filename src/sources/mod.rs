//! Who says that a server exists.
//!
//! A source observes servers and tells their group at once, without the file: a heartbeat renews a lease ([`heartbeat`]),
//! a lookup brings addresses (`names`). What an operator or the file wants goes through `control`, one change at a
//! time; the first heartbeat of a server does so too, because it adds the server to the file. Which addresses may
//! register is decided in `rules`.
//!
//! A further source is a file in this folder that gives its servers to [`Group::claim`](crate::group::Group::claim)
//! and takes them back with `withdraw`, and a variant of [`Claim`](crate::group::Claim).

#[cfg(test)]
mod discovered;
pub mod heartbeat;
mod lookup;
pub(crate) mod names;
mod rules;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::events::{self, ConfigEvent, Event};
use crate::group::Groups;
use lookup::Lookups;

/// What runs, as sources see it. `control` publishes it.
#[derive(Debug)]
pub struct Running {
    /// The groups that exist.
    pub groups: ArcSwap<Groups>,
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// The lookups of names.
    lookups: Lookups,
}

impl Running {
    /// No groups yet, and `config`.
    pub fn new(config: Config) -> Self {
        Self::with_lookups(config, Lookups::system())
    }

    fn with_lookups(config: Config, lookups: Lookups) -> Self {
        let (groups, config) = (ArcSwap::default(), ArcSwap::from_pointee(config));
        Self { groups, config, lookups }
    }

    /// Takes the groups and the configuration that run from now on.
    pub fn publish(&self, groups: Groups, config: Config) {
        self.groups.store(Arc::new(groups));
        self.config.store(Arc::new(config));
        events::publish(Event::Config(ConfigEvent::Applied));
    }
}
