//! The keys of `accept_proxy`.

use std::time::Duration;

use super::MINUTE_MS;
use crate::config::declare::settings;
use crate::config::kinds::{some_networks, time};
use crate::group::AcceptProxy;

settings! {
    impl AcceptProxy {
        /// Networks of the proxies that may speak for others: each of them has to send a header. What any other address sends
        /// goes to the server as it is.
        from as some_networks(), NewSessions;
        /// How long the header may take; the specification asks for 3 seconds at least.
        timeout as time(100, MINUTE_MS) => Duration::from_secs(5), NewSessions;
    }
}
