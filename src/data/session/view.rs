//! What is shown and said of a session.

use std::net::SocketAddr;

use crate::counters::EndReason;

/// What is to be said of a session's silence and age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// It has lasted too long.
    TooLong(EndReason),
    /// It may go on, and may be too long from then on; [`NEVER`](crate::data::deadlines::NEVER) where the scan of all sessions finds it in time.
    Allowed { look_at_ms: u64 },
}

/// A session as `session-list.do` shows it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionView {
    /// Unique for the life of the process; grows.
    pub id: u64,
    /// The group's port.
    pub group: u16,
    /// The group's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", rename = "group_name")]
    pub name: Option<String>,
    /// The client.
    pub client: SocketAddr,
    /// The proxy whose PROXY header has told the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<SocketAddr>,
    /// The port at which the client came in, where a route has led it to this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<u16>,
    /// The name that the client's TLS hello asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// The server; `None` while none is connected.
    pub server: Option<String>,
    /// Since the client was accepted.
    pub age_ms: u64,
    /// Since either side last sent something.
    pub idle_ms: u64,
    /// Bytes client → server.
    pub bytes_up: u64,
    /// Bytes server → client.
    pub bytes_down: u64,
}

/// Some of the sessions, and how many there are.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionList {
    /// Newest first, at most as many as were asked for.
    pub sessions: Vec<SessionView>,
    /// All of them.
    pub total: usize,
}
