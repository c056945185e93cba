//! Which of our groups a client has come through already, so that none of them is entered twice.
//!
//! A group may send its clients to another group of this process. One that leads back to itself would open sessions
//! until no descriptor is left. So whoever connects to an address of this machine at which we listen leaves its own
//! address here, with the groups behind it, and is recognised by it when it is accepted. Nobody else pays for that
//! more than a look at a flag. A client that is accepted before its address is here is taken for a stranger, and the
//! circle is found one round later.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::group::Group;

/// Parts of the table, so that data threads seldom meet.
const SHARDS: usize = 16;

/// A bit for each port.
const PORT_WORDS: usize = (1 << 16) / 64;

/// The groups that a connection of our own has come through, the last one first.
#[derive(Debug)]
pub(crate) struct Passage {
    group: Arc<Group>,
    before: Option<Arc<Self>>,
}

impl Passage {
    /// Through `group`, and before that through others.
    pub(super) fn new(group: &Arc<Group>, before: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { group: Arc::clone(group), before })
    }

    /// True when it has come through this group.
    pub(super) fn is_through(&self, group: &Arc<Group>) -> bool {
        std::iter::successors(Some(self), |passage| passage.before.as_deref())
            .any(|passage| Arc::ptr_eq(&passage.group, group))
    }
}

/// The connections of this process to its own listeners.
#[derive(Debug)]
pub(crate) struct Passages {
    /// Ports at which we listen.
    ports: Box<[AtomicU64]>,
    /// Entries of all shards.
    count: AtomicUsize,
    /// Each guards its part of the connections, by their own address.
    shards: [Mutex<HashMap<SocketAddr, Arc<Passage>>>; SHARDS],
}

/// One connection's entry, which goes with it.
#[derive(Debug)]
pub(super) struct PassageGuard {
    passages: Arc<Passages>,
    own: SocketAddr,
}

impl Default for Passages {
    fn default() -> Self {
        let ports = (0..PORT_WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { ports, count: AtomicUsize::new(0), shards: Default::default() }
    }
}

impl Passages {
    /// From now on we listen at this port, or do no longer.
    pub(crate) fn set_listening(&self, port: u16, is_listening: bool) {
        let (word, bit) = (&self.ports[usize::from(port) / 64], 1 << (port % 64));
        match is_listening {
            true => word.fetch_or(bit, Relaxed),
            false => word.fetch_and(!bit, Relaxed),
        };
    }

    /// True when we listen at this port of some address.
    #[inline]
    pub(super) fn is_listening(&self, port: u16) -> bool {
        self.ports[usize::from(port) / 64].load(Relaxed) & 1 << (port % 64) != 0
    }

    /// What the client at this address has come through, if it is a connection of our own.
    pub(super) fn of(&self, client: SocketAddr) -> Option<Arc<Passage>> {
        if self.count.load(Relaxed) == 0 {
            return None;
        }
        self.shard(client).get(&client).map(Arc::clone)
    }

    /// Remembers what a connection of our own, from the address `own`, has come through.
    pub(super) fn insert(self: &Arc<Self>, own: SocketAddr, passage: Arc<Passage>) -> PassageGuard {
        self.count.fetch_add(1, Relaxed);
        self.shard(own).insert(own, passage);
        PassageGuard { passages: Arc::clone(self), own }
    }

    fn shard(&self, addr: SocketAddr) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Passage>>> {
        // A panic cannot leave a map half-changed: nothing is called out of it.
        self.shards[usize::from(addr.port()) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PassageGuard {
    fn drop(&mut self) {
        self.passages.shard(self.own).remove(&self.own);
        self.passages.count.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupSettings;

    #[test]
    fn a_connection_is_known_for_as_long_as_its_guard_lives_with_all_it_has_come_through() {
        let group = || Arc::new(Group::for_tests(GroupSettings::for_tests("ha"), Vec::new()));
        let (first, second, other) = (group(), group(), group());
        let passages = Arc::new(Passages::default());
        let own = SocketAddr::from(([127, 0, 0, 1], 40_001));
        let guard = passages.insert(own, Passage::new(&second, Some(Passage::new(&first, None))));
        let passage = passages.of(own).unwrap();
        assert!(passage.is_through(&first) && passage.is_through(&second) && !passage.is_through(&other));
        assert!(passages.of(SocketAddr::from(([127, 0, 0, 2], 40_001))).is_none());
        drop(guard);
        assert!(passages.of(own).is_none());
    }

    #[test]
    fn ports_are_known_while_we_listen() {
        let passages = Passages::default();
        for port in [0, 63, 64, u16::MAX] {
            assert!(!passages.is_listening(port));
            passages.set_listening(port, true);
            assert!(passages.is_listening(port));
            passages.set_listening(port, false);
            assert!(!passages.is_listening(port));
        }
    }
}
