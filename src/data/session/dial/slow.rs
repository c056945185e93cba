//! Servers whose connect takes long: a session leaves them while another one may answer, and comes back when none does.

use std::sync::Arc;

use super::Dialer;
use crate::data::deadlines::NEVER;
use crate::data::session::attempt::Finder;
use crate::group::Group;
use crate::server::Patience;

impl Dialer {
    /// Takes the servers that were left for being slow into account again. False when there are none.
    pub(super) fn forget_left(&mut self) -> bool {
        let Self { tried, left, .. } = self;
        let is_any = !left.is_empty();
        tried.retain(|id| !left.contains(id));
        // From now on none is left: the time-out decides.
        self.is_patient |= is_any;
        left.clear();
        is_any
    }

    /// True when the session leaves the server, whose connect is slow, for another one, or its address for another.
    pub(super) fn leaves(&mut self, group: &Group, now_ms: u64) -> bool {
        let attempt = self.attempt.as_mut().expect("a connect under way is an attempt");
        if attempt.leaves_address() {
            return true;
        }
        let server = &attempt.slot.server;
        match group.slow_connect(server, attempt.address_since_ms(), now_ms) {
            Patience::Wait => return false,
            Patience::FindOut { .. } => {
                attempt.finder = Some(Finder(Arc::clone(server)));
                return false;
            }
            Patience::Leave => {}
        }
        let leaves = group.snapshot().is_another_open(self.client, &self.tried, server.id);
        if leaves {
            self.left.push(server.id);
            attempt.skip_addresses();
        }
        leaves
    }

    /// Until when the connect under way may take.
    pub(super) fn address_until_ms(&self) -> u64 {
        self.attempt.as_ref().expect("a connect under way is an attempt").address_until_ms()
    }

    /// When the connect under way is slow; [`NEVER`] when it may take as long as it takes.
    pub(super) fn slow_ms(&self) -> u64 {
        let attempt = self.attempt.as_ref().expect("a connect under way is an attempt");
        match self.is_patient || attempt.finder.is_some() {
            true => NEVER,
            false => attempt.address_since_ms() + attempt.slot.server.live.slow_connect_ms(),
        }
    }
}
