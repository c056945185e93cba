//! What is set on the connections of a group.

use std::net::IpAddr;
use std::time::Duration;

/// Probes of a silent peer, after which it is gone.
pub const KEEPALIVE_PROBES: u32 = 6;

/// When a peer that does not answer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// A peer that has been silent for so long is probed; `None`: it never is.
    pub keepalive: Option<Duration>,
    /// A peer that has acknowledged nothing of what was sent for so long is gone; `None`: as the system has it.
    pub user_timeout: Option<Duration>,
    /// The user time-out follows from `keepalive`: it is not meant for a peer that is there and takes nothing.
    pub is_derived: bool,
}

/// What is set on the clients' connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTcp {
    /// How long a client may be silent before it is probed; `None` for ever.
    pub keepalive: Option<Duration>,
    /// How long a client may leave unacknowledged what was sent; `None` for as long as probing takes.
    pub user_timeout: Option<Duration>,
}

/// What is set on the connections to servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTcp {
    /// How long a server may be silent before it is probed; `None` for ever.
    pub keepalive: Option<Duration>,
    /// How long a server may leave unacknowledged what was sent; `None` for as long as probing takes.
    pub user_timeout: Option<Duration>,
    /// The address of this machine from which servers are reached; `None` for the one that the system picks.
    pub source: Option<IpAddr>,
}

impl Liveness {
    fn new(keepalive: Option<Duration>, user_timeout: Option<Duration>) -> Self {
        let derived = keepalive.map(|idle| idle + probe_interval(idle) * KEEPALIVE_PROBES);
        Self { keepalive, user_timeout: user_timeout.or(derived), is_derived: user_timeout.is_none() }
    }
}

impl ClientTcp {
    /// When a client is gone.
    pub fn liveness(&self) -> Liveness {
        Liveness::new(self.keepalive, self.user_timeout)
    }
}

impl ServerTcp {
    /// When a server is gone.
    pub fn liveness(&self) -> Liveness {
        Liveness::new(self.keepalive, self.user_timeout)
    }
}

/// Between two probes of a peer that was silent for `idle`.
pub fn probe_interval(idle: Duration) -> Duration {
    Duration::from_secs((idle / KEEPALIVE_PROBES).as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_was_silent_is_gone_after_six_probes_and_what_was_sent_has_as_long() {
        for (idle, interval, gone) in [(1, 1, 7), (5, 1, 11), (60, 10, 120), (7_200, 1_200, 14_400)] {
            let idle = Duration::from_secs(idle);
            let liveness = ClientTcp { keepalive: Some(idle), user_timeout: None }.liveness();
            assert_eq!(probe_interval(idle).as_secs(), interval);
            assert_eq!(liveness.user_timeout.unwrap().as_secs(), gone);
            assert!(liveness.is_derived);
        }
        let own = Some(Duration::from_secs(3));
        assert_eq!(
            ServerTcp { keepalive: None, user_timeout: own, source: None }.liveness(),
            Liveness { keepalive: None, user_timeout: own, is_derived: false }
        );
    }
}
