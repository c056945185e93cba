//! The keys of rates, and of what each client may do.

use std::time::Duration;

use crate::config::declare::settings;
use crate::config::kinds::{RATE_MAX, optional, rate, time, whole};
use crate::limits::{ClientLimits, Rate};

settings! {
    impl Rate {
        /// In which time.
        per as time(1_000, 3_600_000) => Duration::from_secs(1), NewSessions;
        /// How many new sessions.
        sessions as whole::<u32>(1, RATE_MAX), NewSessions;
        /// How many at once, after a time without any; null for as many as sessions.
        burst as optional(whole::<u32>(1, RATE_MAX)), NewSessions;
    }
}

settings! {
    impl ClientLimits {
        /// Sessions of one client at a time; 0 for no limit.
        sessions as whole::<u32>(0, u32::MAX as u64) => 0, NewSessions;
        /// New sessions of one client; null for no limit.
        rate as optional(rate()), NewSessions;
        /// IPv4 addresses with so many bits in common are one client.
        ipv4 as whole::<u8>(8, 32) => 32, NewSessions;
        /// IPv6 addresses with so many bits in common are one client. Whoever has one address mostly has 64 bits of them.
        ipv6 as whole::<u8>(16, 128) => 64, NewSessions;
    }
}
