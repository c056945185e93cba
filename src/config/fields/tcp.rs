//! The keys of `client_tcp` and `server_tcp`.

use std::time::Duration;

use super::MINUTE_MS;
use crate::config::declare::settings;
use crate::config::kinds::{Time, ip, optional, time};
use crate::group::{ClientTcp, ServerTcp};

/// What `keepalive` may be: the system takes up to 9 hours.
const KEEPALIVE: Time = time(1_000, 120 * MINUTE_MS);

/// What `user_timeout` may be.
const USER_TIMEOUT: Time = time(1_000, 60 * MINUTE_MS);

settings! {
    impl ClientTcp {
        /// A client that has been silent for so long is probed, every sixth of this time, at least 1s. After six probes without
        /// an answer its session ends. null: it is never probed.
        keepalive as optional(KEEPALIVE) => Some(Duration::from_secs(60)), NewSessions;
        /// A client that leaves unacknowledged for so long what was sent, or takes nothing for so long, is gone. null: one that
        /// acknowledges nothing is gone after the time of keepalive and its probes, and one that only takes nothing never is.
        user_timeout as optional(USER_TIMEOUT), NewSessions;
    }
}

settings! {
    impl ServerTcp {
        /// The same for a server.
        keepalive as optional(KEEPALIVE) => Some(Duration::from_secs(60)), NewSessions;
        /// The same for a server.
        user_timeout as optional(USER_TIMEOUT), NewSessions;
        /// The address of this machine from which servers are reached and checked; null: the system picks it.
        source as optional(ip()), NewSessions;
    }
}
