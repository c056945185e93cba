//! The attempt to reach one server.

use std::net::SocketAddr;
use std::sync::Arc;

use super::passage::PassageGuard;
use crate::base::clock;
use crate::group::ServerSlot;
use crate::server::Server;

/// Where to reach a server.
#[derive(Debug)]
enum Addresses {
    /// As it is configured: then it needs not be looked up.
    Literal(SocketAddr),
    /// What its name was resolved to when the attempt began; none when it was not yet.
    Resolved(Arc<Vec<SocketAddr>>),
}

/// A session that finds out whether this server answers at all. Dropping it tells that it does no longer.
#[derive(Debug)]
pub(super) struct Finder(pub(super) Arc<Server>);

impl Drop for Finder {
    fn drop(&mut self) {
        self.0.live.stop_waiting();
    }
}

/// The attempt to reach one server.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) slot: ServerSlot,
    addresses: Addresses,
    /// Addresses tried before this one.
    tried: usize,
    pub(super) started_us: u64,
    until_ms: u64,
    /// The session is one of those that find out whether the server answers at all.
    pub(super) finder: Option<Finder>,
    /// For our own listener, if the connection leads there.
    pub(super) word: Option<Box<PassageGuard>>,
}

impl Attempt {
    /// An attempt that begins now and may take so long.
    pub(super) fn new(slot: ServerSlot, started_us: u64, timeout_ms: u64) -> Self {
        let addresses = match slot.server.settings.addr.literal() {
            Some(addr) => Addresses::Literal(addr),
            None => Addresses::Resolved(slot.server.live.addresses()),
        };
        let until_ms = started_us / 1_000 + timeout_ms;
        Self { slot, addresses, tried: 0, started_us, until_ms, finder: None, word: None }
    }

    pub(super) fn started_ms(&self) -> u64 {
        self.started_us / 1_000
    }

    /// Until when the address under way may take: what is left of the attempt's time, shared fairly with those after it.
    pub(super) fn address_until_ms(&self) -> u64 {
        let now_ms = clock::coarse_ms();
        let addresses_left = self.addresses.all().len().saturating_sub(self.tried).max(1) as u64;
        now_ms + self.until_ms.saturating_sub(now_ms) / addresses_left
    }

    /// No other address of this server is tried.
    pub(super) fn skip_addresses(&mut self) {
        self.tried = self.addresses.all().len();
    }

    /// An address has failed. True when there is another one and the time for it.
    pub(super) fn has_another_address(&mut self) -> bool {
        self.tried += 1;
        self.tried < self.addresses.all().len() && clock::coarse_ms() < self.until_ms
    }

    /// The address that answered last time first, then the others in order, round and round.
    pub(super) fn index(&self) -> usize {
        (self.slot.server.live.preferred() + self.tried) % self.addresses.all().len().max(1)
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.all().get(self.index()).copied()
    }
}

impl Addresses {
    fn all(&self) -> &[SocketAddr] {
        match self {
            Self::Literal(addr) => std::slice::from_ref(addr),
            Self::Resolved(addresses) => addresses,
        }
    }
}
