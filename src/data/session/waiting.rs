//! Places for clients that have not said yet what they must before they are served.
//!
//! Such a client has proven nothing and costs a place and a descriptor, so their number is bounded: clients that never say
//! anything leave room for the others.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::opening::NotConnected;
use super::service::SessionGuard;
use crate::counters::{EndReason, GroupCounters, Limit};

/// Where a group has no `max_sessions`, clients that are waited for may take one in so many of the process's places.
const WAITING_PART: u64 = 4;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The rest of a PROXY header.
    Header,
    /// The rest of a TLS hello.
    Hello,
    /// The rest of a TLS handshake.
    #[cfg(feature = "tls")]
    Handshake,
}

/// One of the places for clients that are waited for. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct WaitingPlace {
    counters: Arc<GroupCounters>,
    awaited: Awaited,
}

impl WaitingPlace {
    /// Takes a place in the client's group.
    ///
    /// # Errors
    ///
    /// All of them are taken.
    pub(super) fn take(guard: &SessionGuard, awaited: Awaited) -> Result<Self, NotConnected> {
        let group = guard.record().group();
        let max = match group.snapshot().settings.max_sessions {
            0 => (guard.sessions_max() / WAITING_PART).max(1),
            max => max.into(),
        };
        let place = Self { counters: Arc::clone(&group.counters), awaited };
        if place.count().fetch_add(1, Relaxed) < max {
            return Ok(place);
        }
        guard.record().set_limit(Limit::Waiting);
        Err(NotConnected::because(EndReason::Limit))
    }

    fn count(&self) -> &AtomicU64 {
        match self.awaited {
            Awaited::Header => &self.counters.headers_awaited,
            Awaited::Hello => &self.counters.hellos_awaited,
            #[cfg(feature = "tls")]
            Awaited::Handshake => &self.counters.handshakes_awaited,
        }
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Relaxed);
    }
}
