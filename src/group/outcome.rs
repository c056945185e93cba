//! What became of a session's pick, and who learns of it.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use super::Group;
use crate::events::{self, Event, ServerChange};
use crate::policy::{self, Epoch};
use crate::server::Server;

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
        /// Why.
        error: &'a io::Error,
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
                server.live.connected(micros, now_ms);
                self.counters.connect_time.observe(micros);
                policy::Outcome::Connected { micros: u32::try_from(micros).unwrap_or(u32::MAX) }
            }
            Outcome::Failed { error } => {
                self.counters.connect_errors.fetch_add(1, Relaxed);
                self.suspect(server, error, now_ms);
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

    fn suspect(&self, server: &Server, error: &io::Error, now_ms: u64) {
        // Having no port left towards this server is not its fault.
        if error.kind() != io::ErrorKind::AddrNotAvailable && server.live.connect_failed(now_ms) {
            events::publish_soon(Event::Server {
                group: self.label().clone(),
                addr: server.settings.addr.shared(),
                change: ServerChange::Suspect { error: error.to_string().into() },
            });
        }
    }
}
