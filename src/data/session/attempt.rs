//! The attempt to reach one server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::passage::PassageGuard;
use crate::base::clock;
use crate::base::failure::worded;
use crate::group::{Group, ServerSlot};
use crate::server::{self, Server};

/// Where to reach a server.
#[derive(Debug)]
enum Addresses {
    /// As it is configured: then it needs not be looked up.
    Literal(SocketAddr),
    /// What its name was resolved to when the attempt began; none when it was not yet.
    Resolved(Arc<server::Addresses>),
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
    /// The index of the address under way.
    at: usize,
    /// A bit for each address tried before it.
    tried: u64,
    pub(super) started_us: u64,
    /// When the address under way was first tried.
    address_since_ms: u64,
    timeout: Duration,
    /// The session is one of those that find out whether the server answers at all.
    pub(super) finder: Option<Finder>,
    /// For our own listener, if the connection leads there.
    pub(super) word: Option<Box<PassageGuard>>,
}

impl Attempt {
    /// An attempt that begins now and may take so long.
    #[inline]
    pub(super) fn new(slot: ServerSlot, started_us: u64, timeout: Duration) -> Self {
        let addresses = match slot.server.settings.addr.literal() {
            Some(addr) => Addresses::Literal(addr),
            None => Addresses::Resolved(slot.server.live.addresses()),
        };
        let at = match &addresses {
            Addresses::Literal(_) => 0,
            Addresses::Resolved(addresses) => addresses.take_turn(),
        };
        let since_ms = started_us / 1_000;
        let address_since_ms = since_ms;
        Self { slot, addresses, at, tried: 0, started_us, address_since_ms, timeout, finder: None, word: None }
    }

    /// Until when all of its addresses together may take.
    fn until_ms(&self) -> u64 {
        self.started_ms() + clock::as_ms(self.timeout)
    }

    pub(super) fn started_ms(&self) -> u64 {
        self.started_us / 1_000
    }

    /// When the connect to the address under way began.
    pub(super) fn address_since_ms(&self) -> u64 {
        self.address_since_ms
    }

    /// Until when the address under way may take: what is left of the attempt's time, shared fairly with those after it.
    pub(super) fn address_until_ms(&self) -> u64 {
        let now_ms = clock::coarse_ms();
        let addresses_left = self.addresses.all().len().saturating_sub(self.tried.count_ones() as usize).max(1) as u64;
        now_ms + self.until_ms().saturating_sub(now_ms) / addresses_left
    }

    /// No other address of this server is tried.
    pub(super) fn skip_addresses(&mut self) {
        self.tried = u64::MAX;
    }

    /// The address under way has failed, for this reason. True when another one is under way now.
    pub(super) fn has_another_address(&mut self, error: &io::Error, group: &Group) -> bool {
        let Addresses::Resolved(addresses) = &self.addresses else { return false };
        // Those that a session has left for another server may answer yet.
        let is_left = self.tried == u64::MAX;
        if let (false, Some(addr)) = (is_left, self.address())
            && addresses.fail(self.at)
        {
            group.tell_address_failed(&self.slot.server, addr, &worded(error));
        }
        self.tried |= 1 << self.at;
        let now_ms = clock::coarse_ms();
        let Some(next) = addresses.next(self.tried).filter(|_| now_ms < self.until_ms()) else { return false };
        (self.at, self.address_since_ms) = (next, now_ms);
        true
    }

    /// True when the connect under way, which is slow, is better left for another address: one that has not failed, of a
    /// server that has been reached before.
    pub(super) fn leaves_address(&self) -> bool {
        let Addresses::Resolved(addresses) = &self.addresses else { return false };
        !self.slot.server.live.is_untried() && addresses.has_good_one_left(self.tried | 1 << self.at)
    }

    /// The address under way has been reached.
    pub(super) fn answered(&self, group: &Group) {
        if let (Addresses::Resolved(addresses), Some(addr)) = (&self.addresses, self.address())
            && addresses.answer(self.at)
        {
            group.tell_address_answers(&self.slot.server, addr);
        }
    }

    #[inline]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.all().get(self.at).copied()
    }
}

impl Addresses {
    fn all(&self) -> &[SocketAddr] {
        match self {
            Self::Literal(addr) => std::slice::from_ref(addr),
            Self::Resolved(addresses) => addresses.all(),
        }
    }
}
