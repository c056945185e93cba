//! A mirror: the servers of a set with live figures of their own.
//!
//! Whoever is asked about a mirror sees only what was put there, however many sessions come and go meanwhile.

use std::collections::HashMap;
use std::sync::Arc;

use crate::policy::balance::ServerSet;
use crate::server::{Facts, Live, Server, ServerId};

/// Live figures by server. A server has the same in every set, as those that are there have.
#[derive(Debug, Default)]
pub struct Mirror {
    lives: HashMap<ServerId, Arc<Live>>,
}

impl Mirror {
    /// The mirror of a set, with the figures of this moment.
    pub fn set_of(&mut self, real: &ServerSet) -> Arc<ServerSet> {
        self.forget();
        let servers = real.servers.iter().map(|server| {
            let live = self.live(server.id);
            live.set_facts(server.live.facts());
            Arc::new(Server { live, id: server.id, settings: server.settings.clone() })
        });
        Arc::new(ServerSet { generation: real.generation, backup: real.backup, servers: servers.collect() })
    }

    /// The mirror of a set as it was seen last; of servers that are new, without figures.
    pub fn known(&mut self, real: &ServerSet) -> ServerSet {
        let known = real.servers.iter().map(|server| {
            Arc::new(Server { live: self.live(server.id), id: server.id, settings: server.settings.clone() })
        });
        ServerSet { generation: real.generation, backup: real.backup, servers: known.collect() }
    }

    /// The figures of a server.
    pub fn live(&mut self, id: ServerId) -> Arc<Live> {
        Arc::clone(self.lives.entry(id).or_insert_with(|| Arc::new(Live::new(Vec::new()))))
    }

    /// Shows these facts of a server, if it is in a set.
    pub fn set_facts(&self, id: ServerId, facts: Facts) {
        if let Some(live) = self.lives.get(&id) {
            live.set_facts(facts);
        }
    }

    /// Forgets all servers but these.
    pub fn keep(&mut self, is_kept: impl Fn(ServerId) -> bool) {
        self.lives.retain(|id, _| is_kept(*id));
    }

    /// Forgets the servers that are in no set any more.
    pub fn forget(&mut self) {
        self.lives.retain(|_, live| Arc::strong_count(live) > 1);
    }
}

/// Brings a mirror up to date, and tells what was another.
pub fn take_over(real: &ServerSet, mirror: &ServerSet, changes: &mut Vec<(ServerId, Facts)>) {
    for (real, mirror) in real.servers.iter().zip(&mirror.servers) {
        let facts = real.live.facts();
        if facts != mirror.live.facts() {
            mirror.live.set_facts(facts);
            changes.push((real.id, facts));
        }
    }
}
