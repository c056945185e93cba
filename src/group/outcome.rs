//! What became of a session's pick, and who learns of it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::Group;
use crate::events::{self, Event, ServerChange};
use crate::policy::{self, Epoch};
use crate::server::{Patience, Recovery, Server};

/// What became of a pick.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The server was reached.
    Connected {
        /// Microseconds it took.
        micros: u64,
    },
    /// The server was not reached.
    Failed {
        /// Why, for people.
        why: &'a str,
        /// False when the cause is on our side: no port is left towards this server.
        is_servers: bool,
        /// When the connect began, if it has had no answer; else now.
        since_ms: u64,
    },
    /// The session that had reached the server is over.
    Closed {
        /// Milliseconds from accepting the client.
        millis: u64,
        /// Bytes moved, both ways.
        bytes: u64,
    },
}

impl Group {
    /// Tells everybody who has to know: the server's live figures and its suspicion, the group's counters, and the
    /// instance of the policy that made the pick, if it is still at work. `server` and `epoch` are those of the place
    /// that was picked, and it happened at `now_ms` of the coarse clock.
    pub fn report(&self, server: &Server, epoch: Option<Epoch>, outcome: Outcome<'_>, now_ms: u64) {
        let for_policy = match outcome {
            Outcome::Connected { micros } => {
                self.tell_recovery(server, server.live.connected(micros, now_ms));
                self.counters.connect_time.observe(micros);
                policy::Outcome::Connected { micros: u32::try_from(micros).unwrap_or(u32::MAX) }
            }
            Outcome::Failed { why, is_servers, since_ms } => {
                self.counters.connect_errors.fetch_add(1, Relaxed);
                if is_servers {
                    if server.live.is_judged() {
                        self.judge(server, Some("a connect failed"), now_ms);
                    }
                    self.tell_suspicion(server, why, server.live.connect_failed(why, since_ms, now_ms));
                }
                policy::Outcome::Failed
            }
            Outcome::Closed { millis, bytes } => policy::Outcome::Closed { millis, bytes },
        };
        // Without an epoch the policy wants no report, and it need not be fetched into the cache.
        if let Some(epoch) = epoch {
            let snapshot = self.snapshot();
            snapshot.tiers[usize::from(server.settings.backup)].policy.report(epoch, server.id, for_policy);
        }
    }

    /// What a session does whose connect to this server, which began at `since_ms`, is slow.
    pub fn slow_connect(&self, server: &Server, since_ms: u64, now_ms: u64) -> Patience {
        let why = format!("no answer within {} ms", now_ms.saturating_sub(since_ms));
        let patience = server.live.slow_connect(&why, since_ms, now_ms);
        self.tell_suspicion(server, &why, patience == Patience::FindOut { is_suspect_now: true });
        patience
    }

    /// Publishes that a server has become suspect, if so.
    pub(super) fn tell_suspicion(&self, server: &Server, why: &str, is_suspect_now: bool) {
        if is_suspect_now {
            self.tell_soon(server, ServerChange::Suspect { error: why.into() });
        }
    }

    /// Publishes what a connect that succeeded has shown, if that is news.
    #[inline]
    pub(super) fn tell_recovery(&self, server: &Server, recovery: Option<Recovery>) {
        if let Some(recovery) = recovery {
            self.recovered(server, recovery, |change| self.tell_soon(server, change));
        }
    }

    #[cold]
    pub(super) fn recovered(&self, server: &Server, recovery: Recovery, tell: impl Fn(ServerChange)) {
        let Recovery { is_first, suspect_for } = recovery;
        if let Some(suspect_for) = suspect_for {
            tell(ServerChange::Recovered { suspect_for });
            self.look_at_fail_open();
        }
        // One that is down by checks, or has just left, may have been reached all the same.
        if is_first && self.snapshot().shows(server.id) {
            tell(ServerChange::Online);
        }
    }

    /// Publishes that an address of a server's name has failed.
    #[cold]
    pub fn tell_address_failed(&self, server: &Server, address: SocketAddr, why: &str) {
        self.tell_soon(server, ServerChange::AddressFailed { address, error: why.into() });
    }

    /// Publishes that an address that had failed was reached.
    #[cold]
    pub fn tell_address_answers(&self, server: &Server, address: SocketAddr) {
        self.tell_soon(server, ServerChange::AddressAnswers { address });
    }

    #[cold]
    pub(super) fn tell_soon(&self, server: &Server, change: ServerChange) {
        events::publish_soon(self.event_of(server, change));
    }

    pub(super) fn event_of(&self, server: &Server, change: ServerChange) -> Event {
        let (group, addr) = (self.label().clone(), server.settings.addr.shared());
        Event::Server { group, addr, change }
    }
}
