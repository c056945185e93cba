//! Which of our groups a client has come through already, so that none of them is entered twice.
//!
//! A group may send its clients to another group of this process. One that leads back to itself would open sessions
//! until no descriptor is left. So whoever connects to an address of this machine at which we listen leaves its own
//! address and that one here, with the groups behind it, and is recognised by both when it is accepted. Its own address alone
//! would not do: the system lets strangers have the same one towards other addresses. Nobody else pays for that more than a look at
//! a flag. A client that is accepted before its addresses are here is taken for a stranger, and the circle is found one round
//! later.
//!
//! Where the system leads connections to other addresses (DNAT), a client of which only the own address is here may be either.
//! It is let in, and the groups behind it are kept as a guess. A stranger hardly ever comes to a guess upon a guess, but
//! a circle does in each round, and is ended after a few.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::group::Group;

/// Parts of the table, so that data threads seldom meet.
const SHARDS: usize = 16;

/// Guesses that a connection may have come through a group, beyond which it has.
const GUESSES_MAX: usize = 8;

/// A bit for each port.
const PORT_WORDS: usize = (1 << 16) / 64;

/// The groups that a connection of our own has come through, the last one first.
#[derive(Debug)]
pub(crate) struct Passage {
    group: Arc<Group>,
    before: Option<Arc<Self>>,
    /// It may have been another connection that came through this group and those before it.
    is_guess: bool,
}

impl Passage {
    /// Through `group`, and before that through others.
    pub(super) fn new(group: &Arc<Group>, before: Option<Arc<Self>>) -> Arc<Self> {
        Arc::new(Self { group: Arc::clone(group), before, is_guess: false })
    }

    fn guessed(&self) -> Arc<Self> {
        Arc::new(Self { group: Arc::clone(&self.group), before: self.before.clone(), is_guess: true })
    }

    /// True when it has come through this group.
    pub(super) fn is_through(&self, group: &Arc<Group>) -> bool {
        let (mut is_guess, mut guesses) = (false, 0);
        std::iter::successors(Some(self), |passage| passage.before.as_deref()).any(|passage| {
            is_guess |= passage.is_guess;
            let is_same = Arc::ptr_eq(&passage.group, group);
            guesses += usize::from(is_same && is_guess);
            is_same && !is_guess || guesses > GUESSES_MAX
        })
    }
}

/// The connections of this process to its own listeners, until they are accepted.
#[derive(Debug)]
pub(crate) struct Passages {
    /// Ports at which we listen.
    ports: Box<[AtomicU64]>,
    /// Entries of all shards: connections that were not accepted yet, or that came while they were not here yet.
    count: AtomicUsize,
    /// Each guards its part of the connections, by their own address.
    shards: [Mutex<HashMap<SocketAddr, Vec<Word>>>; SHARDS],
}

/// What one of the connections from an address has come through.
#[derive(Debug)]
struct Word {
    /// The address that it leads to.
    to: SocketAddr,
    passage: Arc<Passage>,
}

/// One connection's entry, which goes with it if it has not been taken.
#[derive(Debug)]
pub(super) struct PassageGuard {
    passages: Arc<Passages>,
    own: SocketAddr,
    passage: Arc<Passage>,
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

    /// What the client at this address has come through, if it is a connection of our own: known once, as it is accepted once.
    /// Where it was accepted is asked only if it may be one.
    pub(super) fn take(
        &self,
        client: SocketAddr,
        accepted_at: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<Arc<Passage>> {
        if self.count.load(Relaxed) == 0 || !self.shard(client).contains_key(&client) {
            return None;
        }
        let at = accepted_at()?;
        self.remove(client, |word| word.to == at)
            .or_else(|| Some(self.shard(client).get(&client)?.last()?.passage.guessed()))
    }

    /// Removes the newest entry from the address `own` that is meant: one before it may be of a connection that is closed already.
    fn remove(&self, own: SocketAddr, is_meant: impl Fn(&Word) -> bool) -> Option<Arc<Passage>> {
        let mut shard = self.shard(own);
        let words = shard.get_mut(&own)?;
        let word = words.remove(words.iter().rposition(is_meant)?);
        if words.is_empty() {
            shard.remove(&own);
        }
        self.count.fetch_sub(1, Relaxed);
        Some(word.passage)
    }

    /// Remembers what a connection of our own, from the address `own` to `to`, has come through. Both are canonical.
    pub(super) fn insert(self: &Arc<Self>, own: SocketAddr, to: SocketAddr, passage: Arc<Passage>) -> PassageGuard {
        let word = Word { to, passage: Arc::clone(&passage) };
        self.count.fetch_add(1, Relaxed);
        // Nearly always the only one.
        self.shard(own).entry(own).or_insert_with(|| Vec::with_capacity(1)).push(word);
        PassageGuard { passages: Arc::clone(self), own, passage }
    }

    fn shard(&self, addr: SocketAddr) -> MutexGuard<'_, HashMap<SocketAddr, Vec<Word>>> {
        // A panic cannot leave a map half-changed: nothing is called out of it.
        self.shards[usize::from(addr.port()) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PassageGuard {
    fn drop(&mut self) {
        self.passages.remove(self.own, |word| Arc::ptr_eq(&word.passage, &self.passage));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GroupSettings;

    fn addr(last: u8, port: u16) -> SocketAddr {
        ([127, 0, 0, last], port).into()
    }

    fn group() -> Arc<Group> {
        Arc::new(Group::for_tests(GroupSettings::for_tests("ha"), Vec::new()))
    }

    #[test]
    fn a_connection_is_known_once_and_while_its_guard_lives_with_all_it_has_come_through() {
        let (first, second, other) = (group(), group(), group());
        let passages = Arc::new(Passages::default());
        let (own, to) = (addr(1, 40_001), addr(1, 80));
        let leave_word = || passages.insert(own, to, Passage::new(&second, Some(Passage::new(&first, None))));
        let guards = [leave_word(), leave_word()];
        let passage = passages.take(own, || Some(to)).unwrap();
        assert!(passage.is_through(&first) && passage.is_through(&second) && !passage.is_through(&other));
        let nobody_asks = || unreachable!("it cannot be one of our own");
        assert!(passages.take(addr(2, 40_001), nobody_asks).is_none());
        drop(guards);
        assert!(passages.take(own, nobody_asks).is_none());
        let _guard = leave_word();
        assert!(passages.take(own, || Some(to)).is_some());
        assert!(passages.take(own, nobody_asks).is_none(), "it has come already");
    }

    #[test]
    fn connections_from_one_address_to_several_are_known_apart_and_a_stranger_from_it_is_let_in() {
        let (first, second) = (group(), group());
        let passages = Arc::new(Passages::default());
        let (own, [one, two, three]) = (addr(1, 40_001), [81, 82, 83].map(|port| addr(1, port)));
        let leave_word = |to, group| passages.insert(own, to, Passage::new(group, None));
        let is_through = |to, group| passages.take(own, || Some(to)).is_some_and(|passage| passage.is_through(group));
        let guards = [leave_word(one, &first), leave_word(two, &second)];
        assert!(!is_through(three, &first) && !is_through(three, &second));
        assert!(is_through(one, &first) && is_through(two, &second));
        let _guards = [leave_word(one, &first), leave_word(two, &second)];
        drop(guards);
        assert!(!is_through(one, &second) && !is_through(two, &first));
        assert!(passages.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
        assert_eq!(passages.count.load(Relaxed), 0);
    }

    #[test]
    fn a_circle_whose_connections_are_led_elsewhere_is_found_after_a_few_rounds() {
        let (group, passages) = (group(), Arc::new(Passages::default()));
        let (mut before, mut guards) = (None, Vec::new());
        for port in 40_000.. {
            guards.push(passages.insert(addr(1, port), addr(1, 80), Passage::new(&group, before)));
            let passage = passages.take(addr(1, port), || Some(addr(2, 80))).unwrap();
            if passage.is_through(&group) {
                break;
            }
            before = Some(passage);
        }
        assert_eq!(guards.len(), GUESSES_MAX + 1);
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
