//! What a connection of the admin port may cost, and whose it is.

use std::net::SocketAddr;
use std::time::Duration;

/// What one connection or all of them may cost.
#[derive(Clone, Copy, Debug)]
pub(in crate::admin) struct Limits {
    /// At a time; see `places` for who makes room for one more.
    pub(in crate::admin) connections: usize,
    /// For silence before a request.
    pub(in crate::admin) idle_time: Duration,
    /// For a whole request head, from its first byte.
    pub(in crate::admin) head_time: Duration,
    /// Of a request head; a larger one is answered 431.
    pub(in crate::admin) head_bytes: usize,
    /// For a caller that does not take its answer.
    pub(in crate::admin) write_time: Duration,
    /// For requests under way when the end comes.
    pub(in crate::admin) shutdown_time: Duration,
}

/// For how long a caller may count on an idle connection, in seconds. Less than `idle_time`, so that a request
/// that is sent in the last moment still arrives, and Go's client, which reads no such promise, lets go of a
/// connection first, after 90 seconds.
pub(super) const IDLE_PROMISED: u32 = 75;

/// The limits of the admin port; `connections` follows the descriptors that the process may have.
pub(in crate::admin) const LIMITS: Limits = Limits {
    connections: 256,
    idle_time: Duration::from_secs(100),
    head_time: Duration::from_secs(5),
    head_bytes: 16 * 1024,
    write_time: Duration::from_secs(10),
    shutdown_time: Duration::from_secs(1),
};

/// Who is at the other end; `None` on a unix socket.
pub(in crate::admin) type Peer = Option<SocketAddr>;

/// Whose request it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::admin) struct Caller {
    pub(in crate::admin) peer: Peer,
    /// True when every place is taken: only probes may be answered.
    pub(in crate::admin) is_spare: bool,
}
