//! What may become of a server.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::Level;

use super::declare::{Field, kinds};
use super::fields::Visitor;

kinds! {
    /// What may become of a server.
    ServerChange {
        /// It may be picked from now on.
        INFO "server online" => "server_online"
        Online

        /// It may not be picked any more.
        INFO "server offline" => "server_offline"
        Offline {
            /// Why.
            "cause" cause: Box<str>,
        }

        /// Its sessions are to end.
        DEBUG "sessions of the server are closed"
        Lost {
            /// The word of the cause in `on_down`, or `removed` when an operator said so.
            "cause" cause: &'static str,
        }

        /// Its name has no address.
        WARN "name not resolved"
        NotResolved {
            /// Why.
            "error" error: Box<str>,
        }

        /// It may be picked from now on, and nobody has reached it so far.
        INFO "server untried" => "server_online"
        Untried

        /// It failed to answer a connect, and is passed over while others are left.
        WARN "server suspect" => "server_state"
        Suspect {
            /// How.
            "error" error: Box<str>,
        }

        /// One address of its name failed, and is passed over while others are left.
        WARN "an address of the name fails"
        AddressFailed {
            /// Which one.
            "address" address: SocketAddr,
            /// How.
            "error" error: Box<str>,
        }

        /// That address was reached again.
        INFO "the address answers again"
        AddressAnswers {
            /// Which one.
            "address" address: SocketAddr,
        }

        /// It failed too many sessions, and is passed over for a while.
        WARN "server ejected" => "server_state"
        Ejected {
            /// For how long.
            "eject_ms" eject_for: Duration,
            /// Why.
            "error" error: Box<str>,
        }

        /// It is passed over no longer.
        INFO "ejection over" => "server_state"
        EjectionOver

        /// It answered a connect again.
        INFO "server recovered" => "server_state"
        Recovered {
            /// How long it had been suspect.
            "suspect_ms" suspect_for: Duration,
        }

        /// A check of it failed, and it is up so far.
        INFO "check failed"
        CheckFailed {
            /// Why.
            "check.error" error: Box<str>,
            /// What the check did.
            "check.kind" kind: &'static str,
            /// How long it took.
            "check.ms" ms: f64,
            /// Failures in a row.
            "check.fails" fails: u32,
            /// After how many it is down.
            "check.fall" fall: u32,
        }

        /// Another check of it failed.
        DEBUG "check failed again"
        CheckFailedAgain {
            /// Why.
            "check.error" error: Box<str>,
            /// What the check did.
            "check.kind" kind: &'static str,
            /// How long it took.
            "check.ms" ms: f64,
            /// Failures in a row.
            "check.fails" fails: u32,
            /// After how many it is down.
            "check.fall" fall: u32,
        }

        /// Checks find it down and up again too often.
        WARN "server is flapping" => "server_state"
        Flapping {
            /// How often within a minute.
            "transitions" transitions: usize,
        }

        /// It is to be checked from now on.
        DEBUG "server is checked"
        CheckWanted

        /// Somebody wants to know now whether it passes.
        DEBUG "check asked for"
        CheckAsked

        /// It has been silent for so long that it is taken out.
        INFO "server forgotten" => "server_state"
        Forgotten {
            /// For how long.
            "silent_ms" silent_for: Duration,
        }

        /// Its lease has run out and is kept.
        DEBUG "lease kept"
        LeaseKept

        /// Two callers say different things of it.
        WARN "heartbeats of two callers disagree: the last one counts"
        Disagreement {
            /// Who counts now.
            "client.addr" caller: Box<str>,
            /// Who counted before.
            "other.addr" other: Box<str>,
            /// What differs.
            "differs" differs: Box<str>,
        }

        /// The file does not say yet what a heartbeat has said of it.
        DEBUG "the file is told later what the heartbeat said"
        Unwritten
    }
}
