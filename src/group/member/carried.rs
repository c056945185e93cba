//! What the next process of an upgrade has to know of a member.

use std::time::Duration;

use super::Member;
use crate::group::carried::ServerCarried;
use crate::group::claim::Claim;

impl Member {
    /// What the next process has to know.
    pub(in crate::group) fn carry(&self, now_ms: u64) -> ServerCarried {
        ServerCarried {
            addr: self.server.settings.addr.to_string(),
            lease: self.claims.lease().map(|lease| lease.carry(now_ms)),
            check: self.check.as_ref().map(|check| check.carry(now_ms)),
            live: self.server.live.carry(now_ms),
        }
    }

    /// Begins with what the process before has known, but for addresses.
    pub(in crate::group) fn take_over(&mut self, carried: &ServerCarried, now_ms: u64, timeout: Duration) {
        // The file says who has a lease; how long it lasts, the process before does.
        if let Some(lease) = carried.lease.as_ref().filter(|_| self.claims.is_remembered()) {
            self.claims.set(Claim::Heartbeat(lease.lease(now_ms, timeout)));
        }
        if let (Some(check), Some(carried)) = (&mut self.check, &carried.check) {
            check.take_over(carried, now_ms);
        }
        self.server.live.take_over(&carried.live, now_ms);
    }
}
