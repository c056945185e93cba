//! What is known of clients: how many sessions each has, and how fast it comes.
//!
//! One table for the process, because the kernel spreads the connections of one client over all data threads. It is
//! divided into shards, so that two threads seldom want the same lock, which is taken once when a client comes and once
//! when it goes. A client is an IPv4 address or an IPv6 network, per group. One that has no session and could have all
//! its sessions at once is as good as unknown, and is taken out. The number of clients is bounded: when all places are
//! taken, a new client is let through without being counted.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::rate::{Pace, Rate};
use crate::counters::Limit;

/// Parts of the table.
pub(super) const SHARDS: usize = 74;

/// Clients in one of them at most, 1,060,864 in all: seven eighths of a power of two, which is as much as a map holds before
/// it doubles.
const SHARD_CLIENTS_MAX: usize = (1 << 14) / 8 * 7;

/// Between two searches of a full shard for places that are free.
const SEARCH_EVERY_NS: u64 = 1_000_000_000;

/// A shard with so many places keeps them.
const CAPACITY_KEPT: usize = 64;

/// The network of IPv4 addresses that come through NAT64 (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// What each client of a group may do, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Sessions at a time; 0 for no limit.
    pub sessions: u32,
    /// New sessions; `None` for no limit.
    pub rate: Option<Rate>,
    /// IPv4 addresses with so many bits in common are one client.
    pub ipv4: u8,
    /// The same for IPv6.
    pub ipv6: u8,
}

/// The same, ready to be judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    sessions: u32,
    pace: Option<Pace>,
    ipv4: u8,
    ipv6: u8,
}

impl Allowance {
    pub(super) fn new(limits: &ClientLimits) -> Self {
        let ClientLimits { sessions, rate, ipv4, ipv6 } = limits;
        Self { sessions: *sessions, pace: rate.as_ref().map(Pace::new), ipv4: *ipv4, ipv6: *ipv6 }
    }
}

/// A client of a group.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ClientKey {
    /// The lowest address; one of IPv4 in IPv6 form.
    network: [u8; 16],
    /// The number of the group.
    group: u32,
    /// The length of the prefix.
    bits: u8,
}

impl ClientKey {
    /// That of a canonical address.
    pub(super) fn new(ip: IpAddr, group: u32, allowance: &Allowance) -> Self {
        let ip = match ip {
            IpAddr::V6(ip) => embedded(ip).map_or(IpAddr::V6(ip), IpAddr::V4),
            ip => ip,
        };
        match ip {
            IpAddr::V4(ip) => {
                let bits = allowance.ipv4.min(32);
                let network = u32::from(ip) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { network: Ipv4Addr::from(network).to_ipv6_mapped().octets(), group, bits }
            }
            IpAddr::V6(ip) => {
                let bits = allowance.ipv6.min(128);
                let network = u128::from(ip) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { network: network.to_be_bytes(), group, bits }
            }
        }
    }

    /// The lowest address.
    pub fn ip(&self) -> IpAddr {
        IpAddr::from(self.network).to_canonical()
    }

    /// The length of the prefix that its addresses have in common.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The number of the group.
    pub(super) fn group(&self) -> u32 {
        self.group
    }

    /// A number that hardly any other client of the group has, and that is not zero.
    pub(super) fn number(&self) -> u64 {
        let address = u128::from_be_bytes(self.network);
        ((address >> 64) as u64).rotate_left(32) ^ address as u64 | 1 << 63
    }
}

/// The IPv4 address of a client that comes through NAT64.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [start @ .., high, low] = ip.segments();
    (start == NAT64).then(|| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

/// In one piece.
impl Hash for ClientKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 21];
        bytes[..16].copy_from_slice(&self.network);
        bytes[16..20].copy_from_slice(&self.group.to_ne_bytes());
        bytes[20] = self.bits;
        state.write(&bytes);
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of group {}", self.ip(), self.bits, self.group)
    }
}

/// What is known of a client.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When it may have all its sessions at once again.
    full_ns: u64,
    sessions: u32,
    /// How often it was turned away since it is known.
    refused: u32,
}

impl Entry {
    /// True when it makes no difference whether it is known.
    fn is_spent(&self, now_ns: u64) -> bool {
        self.sessions == 0 && self.full_ns <= now_ns
    }
}

/// A client as it is shown.
#[derive(Clone, Copy, Debug)]
pub struct ClientFigures {
    /// Who it is.
    pub key: ClientKey,
    /// Sessions now.
    pub sessions: u32,
    /// How often it was turned away since it is known.
    pub refused: u32,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is counted until [`ClientTable::leave`].
    Counted,
    /// There was no place for it in the table.
    Untracked,
}

/// The clients that have sessions, or had some a short while ago.
#[derive(Debug)]
pub(super) struct ClientTable {
    shards: Box<[Shard]>,
    seed: Seed,
    untracked: AtomicU64,
}

/// Guards its part of the clients. On cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Shard(Mutex<Part>);

#[derive(Debug)]
struct Part {
    clients: HashMap<ClientKey, Entry, Seed>,
    /// When it is to be searched again for free places at the earliest.
    search_at_ns: u64,
}

impl Default for ClientTable {
    fn default() -> Self {
        // Clients choose their addresses, but do not know the seed.
        let seed = Seed(RandomState::new().hash_one(0));
        let part = || Part { clients: HashMap::with_hasher(seed), search_at_ns: 0 };
        let shards = (0..SHARDS).map(|_| Shard(Mutex::new(part()))).collect();
        Self { shards, seed, untracked: AtomicU64::new(0) }
    }
}

impl ClientTable {
    /// Lets a client in, if it is within its limits and `others` lets it in as well: the limits of more than one client.
    ///
    /// # Errors
    ///
    /// The limit that it is over. Nothing is taken then.
    pub(super) fn enter(
        &self,
        key: &ClientKey,
        allowance: &Allowance,
        now_ns: u64,
        others: impl FnOnce() -> Result<(), Limit>,
    ) -> Result<Entered, Limit> {
        let mut part = self.part(key);
        let Some(entry) = part.clients.get_mut(key) else {
            let full_ns = judge(&Entry::default(), allowance, now_ns)?;
            others()?;
            if !part.has_room(now_ns) {
                self.untracked.fetch_add(1, Relaxed);
                return Ok(Entered::Untracked);
            }
            part.clients.insert(*key, Entry { full_ns, sessions: 1, refused: 0 });
            return Ok(Entered::Counted);
        };
        match judge(entry, allowance, now_ns).and_then(|full_ns| others().map(|()| full_ns)) {
            Ok(full_ns) => {
                (entry.full_ns, entry.sessions) = (full_ns, entry.sessions + 1);
                Ok(Entered::Counted)
            }
            Err(limit) => {
                entry.refused = entry.refused.saturating_add(1);
                Err(limit)
            }
        }
    }

    /// A session of a client that was counted is over.
    pub(super) fn leave(&self, key: &ClientKey, now_ns: u64) {
        let mut part = self.part(key);
        if let Some(entry) = part.clients.get_mut(key) {
            entry.sessions = entry.sessions.saturating_sub(1);
            if entry.is_spent(now_ns) {
                part.clients.remove(key);
            }
        }
    }

    /// Takes those out of a shard that need not be known, and gives back what the shard does not need.
    pub(super) fn sweep(&self, shard: usize, now_ns: u64) {
        self.shards[shard % SHARDS].part().sweep(now_ns);
    }

    /// Clients that are known.
    pub(super) fn tracked(&self) -> u64 {
        self.shards.iter().map(|shard| shard.part().clients.len() as u64).sum()
    }

    /// Clients that were let through without being counted.
    pub(super) fn untracked(&self) -> u64 {
        self.untracked.load(Relaxed)
    }

    /// The `count` clients, at least one, with the most sessions, and of those the ones that were turned away most often.
    pub(super) fn busiest(&self, count: usize, is_wanted: impl Fn(u32) -> bool) -> Vec<ClientFigures> {
        let mut busiest: Vec<ClientFigures> = Vec::new();
        let order = |client: &ClientFigures| std::cmp::Reverse((client.sessions, client.refused, client.key.network));
        for shard in &self.shards {
            // Most of them need not be looked at twice.
            let last = busiest.get(count - 1).map(order);
            let part = shard.part();
            let wanted = part.clients.iter().filter(|(key, _)| is_wanted(key.group));
            let figures = wanted.map(|(key, entry)| {
                let Entry { sessions, refused, .. } = *entry;
                ClientFigures { key: *key, sessions, refused }
            });
            busiest.extend(figures.filter(|client| last.is_none_or(|last| order(client) < last)));
            drop(part);
            busiest.sort_unstable_by_key(order);
            busiest.truncate(count);
        }
        busiest
    }

    fn part(&self, key: &ClientKey) -> MutexGuard<'_, Part> {
        // The lowest bits of the same hash choose the place within the shard.
        let shard = (self.seed.hash_one(key) >> 40) as usize % SHARDS;
        self.shards[shard].part()
    }
}

/// When the client may have all its sessions at once again, if it gets another one.
fn judge(entry: &Entry, allowance: &Allowance, now_ns: u64) -> Result<u64, Limit> {
    if allowance.sessions > 0 && entry.sessions >= allowance.sessions {
        return Err(Limit::ClientSessions);
    }
    match allowance.pace {
        Some(pace) => pace.next(entry.full_ns, now_ns).ok_or(Limit::ClientRate),
        None => Ok(entry.full_ns),
    }
}

impl Shard {
    fn part(&self) -> MutexGuard<'_, Part> {
        // A panic cannot leave a map half-changed: nothing that could panic is called out of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// True when there is a place for another client, perhaps of one that need not be known.
    fn has_room(&mut self, now_ns: u64) -> bool {
        if self.clients.len() < SHARD_CLIENTS_MAX {
            return true;
        }
        // A search takes a while: not for each of those who come.
        if now_ns < self.search_at_ns {
            return false;
        }
        self.search_at_ns = now_ns + SEARCH_EVERY_NS;
        self.sweep(now_ns);
        self.clients.len() < SHARD_CLIENTS_MAX
    }

    fn sweep(&mut self, now_ns: u64) {
        self.clients.retain(|_, entry| !entry.is_spent(now_ns));
        let (count, capacity) = (self.clients.len(), self.clients.capacity());
        // Clients that come and go may make a map double that is not full.
        if capacity > CAPACITY_KEPT.max(4 * count) || capacity > SHARD_CLIENTS_MAX {
            self.clients.shrink_to((2 * count).min(SHARD_CLIENTS_MAX));
        }
    }
}

/// Makes hashes that nobody outside can foresee.
#[derive(Clone, Copy, Debug)]
struct Seed(u64);

impl BuildHasher for Seed {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

/// Of keys that are hashed in one piece. Several times faster than the hasher of the standard library, which is made for
/// keys of any length.
struct SeededHasher(u64);

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
