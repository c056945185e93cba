//! What becomes of clients that limits turn away, in all groups together.

use std::num::NonZeroU64;

use tracing::Level;

use super::declare::{Field, kinds};
use super::fields::Visitor;

kinds! {
    /// What limits did that is not told of each client.
    LimitEvent {
        /// Clients got no server and were not named one by one.
        WARN "refused more clients"
        Refused {
            /// So many.
            "clients" clients: u64,
            /// Denied by their address.
            "denied" denied: Option<NonZeroU64>,
            /// Whose PROXY header was bad or late.
            "headers" headers: Option<NonZeroU64>,
            /// Whose TLS hello was bad or late, or led nowhere.
            "hellos" hellos: Option<NonZeroU64>,
            /// Whose TLS handshake has failed or was late.
            "handshakes" handshakes: Option<NonZeroU64>,
            /// Which were connections of our own that came round to a group.
            "loops" loops: Option<NonZeroU64>,
            /// For whom no server was found.
            "no_server" no_server: Option<NonZeroU64>,
            /// Over `client.sessions`.
            "client_sessions" client_sessions: Option<NonZeroU64>,
            /// Over `client.rate`.
            "client_rate" client_rate: Option<NonZeroU64>,
            /// Over the group's `max_sessions`.
            "group_sessions" group_sessions: Option<NonZeroU64>,
            /// Over the part of the places for clients whose PROXY header, hello or handshake is waited for.
            "waiting" waiting: Option<NonZeroU64>,
            /// Over the group's `session_rate`.
            "group_rate" group_rate: Option<NonZeroU64>,
            /// Over the `max_sessions` of the process.
            "process_sessions" process_sessions: Option<NonZeroU64>,
            /// Over the `session_rate` of the process.
            "process_rate" process_rate: Option<NonZeroU64>,
            /// More than the descriptors allow.
            "descriptors" descriptors: Option<NonZeroU64>,
        }

        /// The table of clients was full.
        WARN "clients not counted: the table of clients is full"
        Untracked {
            /// So many since this was last said.
            "clients" clients: u64,
        }
    }
}
